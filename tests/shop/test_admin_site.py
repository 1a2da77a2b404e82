"""The admin's front page, navigation, people, and what every page promises: no inline code, one look in the dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.http import HttpResponse
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orders.models import Hold, Order
from shop import csp, dashboard
from shop.models import Job, Store, User
from shop.site import DeskSite
from shop.templatetags.desk import ago, money, pairs
from tests.factories import StoreFactory, UserFactory

INDEX = "admin:index"


@pytest.fixture
def chief(db: None) -> Client:
    """A browser of somebody who may do everything."""
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    return client


def member(store: Store, *permissions: str) -> Client:
    """A browser of somebody who works in one store."""
    user: User = UserFactory(is_staff=True)
    for name in permissions:
        label, codename = name.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))
    store.staff.add(user)
    client = Client()
    client.force_login(user)
    return client


def cards(client: Client) -> dict[str, int]:
    return {card.key: card.count for card in client.get(reverse(INDEX)).context["figures"].cards}


# --- Dashboard --------------------------------------------------------------------------------------------------


def test_the_site_is_the_desks() -> None:
    assert isinstance(admin.site, DeskSite)
    assert {"Job", "User", "Store", "Group"} <= {model.__name__ for model in admin.site._registry}


def test_an_empty_desk_needs_nobody(chief: Client) -> None:
    html = chief.get(reverse(INDEX)).content.decode()
    assert "Nothing needs you." in html
    assert "The worker is up to date" in html


def test_somebody_without_permissions_is_told_what_to_ask_for(store: Store) -> None:
    response = member(store).get(reverse(INDEX))
    assert response.context["figures"].cards == []
    assert "ask for permissions" in response.content.decode()


def test_the_dashboard_counts_what_waits(chief: Client, place: Callable[..., Order]) -> None:
    place()
    held = place(until="approved")
    place(pay=False)
    place(until="preparing")
    Hold.objects.create(order=held, kind=Hold.Kind.FRAUD, placed_by="x", placed_at=timezone.now())
    found = cards(chief)
    assert (found["confirmation_waiting"], found["approved"], found["preparing"], found["payment_waiting"]) == (
        1,
        1,
        1,
        1,
    )
    assert found["on_hold"] == 1


def test_a_card_leads_to_the_orders_it_counts(chief: Client, place: Callable[..., Order]) -> None:
    place()
    held = place(until="approved")
    Hold.objects.create(order=held, kind=Hold.Kind.FRAUD, placed_by="x", placed_at=timezone.now())
    for card in chief.get(reverse(INDEX)).context["figures"].cards:
        if card.count:
            assert chief.get(card.url).context["cl"].result_count == card.count, card.key


def test_figures_are_of_the_persons_stores(store: Store, place: Callable[..., Order]) -> None:
    place(store=store)
    place(store=StoreFactory())
    client = member(store, "orders.view_order")
    assert cards(client)["confirmation_waiting"] == 1
    assert client.get(reverse(INDEX)).context["figures"].today.orders == 1


def test_todays_value_is_per_currency_and_leaves_out_the_unpaid(chief: Client, place: Callable[..., Order]) -> None:
    turkish = StoreFactory(currency="TRY")
    place([(Decimal("10.10"), 1)])
    place([(Decimal("0.20"), 1)])
    place([(Decimal("7.00"), 2)], store=turkish)
    place([(Decimal("99.00"), 1)], pay=False)
    today = chief.get(reverse(INDEX)).context["figures"].today
    assert today.orders == 4
    assert today.revenue == [("EUR", Decimal("10.30")), ("TRY", Decimal("14.00"))]


def test_the_dashboard_takes_as_many_queries_for_many_orders_as_for_few(
    chief: Client, place: Callable[..., Order]
) -> None:
    counts = []
    for number in (1, 4):
        for _n in range(number):
            place()
        with CaptureQueriesContext(connection) as queries:
            chief.get(reverse(INDEX))
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 18


def test_a_late_worker_is_noticed(chief: Client) -> None:
    late = timezone.now() - timedelta(minutes=10)
    Job.objects.create(key="x", kind="x.y", max_attempts=1, run_at=late, created_at=late)
    assert "is the worker running?" in chief.get(reverse(INDEX)).content.decode()


def test_the_chart_scales_to_whole_numbers_and_ends_today() -> None:
    until = date(2026, 3, 14)
    chart = dashboard.chart(counts={until: 7, date(2026, 3, 1): 3, date(2026, 2, 1): 99}, until=until)
    assert len(chart.bars) == 14
    assert chart.total == 10
    assert [value for _y, value in chart.lines] == [0, 5, 10]
    assert chart.bars[-1].is_today
    assert all(bar.y + bar.height == pytest.approx(chart.base) for bar in chart.bars)
    assert dashboard.chart(counts={}, until=until).bars[0].height == 0


# --- Navigation, people -----------------------------------------------------------------------------------------


def test_the_navigation_follows_the_days_work(chief: Client) -> None:
    nav = [str(section.label) for section in chief.get(reverse(INDEX)).context["desk"]["nav"]]
    wanted = ["Orders", "Inbox", "Catalogue & stock", "Payments", "Messages", "Settings & people"]
    assert [label for label in wanted if label in nav] == nav


def test_every_list_of_the_admin_opens(chief: Client) -> None:
    for model in admin.site._registry:
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert chief.get(url).status_code == 200, url


def test_somebody_who_manages_people_makes_no_superusers(store: Store) -> None:
    client = member(store, "shop.change_user", "shop.view_user")
    boss: User = UserFactory(is_staff=True, is_superuser=True)
    colleague: User = UserFactory(is_staff=True)
    assert "_save" not in client.get(reverse("admin:shop_user_change", args=(boss.pk,))).content.decode()
    assert client.post(reverse("admin:shop_user_change", args=(boss.pk,)), {"username": "x"}).status_code == 403
    password = reverse("admin:auth_user_password_change", args=(boss.pk,))
    assert client.post(password, {"password1": "Zebra-77!", "password2": "Zebra-77!"}).status_code == 403
    own = User.objects.exclude(pk__in=[boss.pk, colleague.pk]).get()
    for user in (colleague, own):
        form = {"username": user.username, "email": user.email, "language": "de", "is_active": "on"}
        sent = {**form, "is_superuser": "on", "is_staff": "on"}
        assert client.post(reverse("admin:shop_user_change", args=(user.pk,)), sent).status_code == 302
        user.refresh_from_db()
        assert (user.is_superuser, user.language) == (False, "de")


def test_people_edit_the_stores_they_work_in(store: Store) -> None:
    other: Store = StoreFactory()
    client = member(store, "shop.change_store", "shop.view_store")
    assert client.get(reverse("admin:shop_store_change", args=(store.pk,))).status_code == 200
    assert client.get(reverse("admin:shop_store_change", args=(other.pk,))).status_code == 302


def test_a_store_is_offered_staff_not_customers(chief: Client) -> None:
    colleague: User = UserFactory(username="anna", is_staff=True)
    UserFactory(username="annabel")
    asked = {"app_label": "shop", "model_name": "store", "field_name": "staff", "term": "anna"}
    found = chief.get(reverse("admin:autocomplete"), asked).json()["results"]
    assert [row["id"] for row in found] == [str(colleague.pk)]


# --- What every page promises -------------------------------------------------------------------------------------


def test_no_template_of_the_admin_has_inline_code() -> None:
    for path in (Path(settings.BASE_DIR) / "templates" / "admin").rglob("*.html"):
        source = re.sub(r"\{#.*?#\}", "", path.read_text())
        assert not re.search(r"<style|<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=|javascript:", source), path


def test_both_ways_into_the_dark_have_the_same_colours() -> None:
    css = (Path(settings.BASE_DIR) / "templates" / "static" / "desk" / "desk.css").read_text()
    chosen = re.search(r'html\[data-theme="dark"\] \{(.*?)\}', css, re.S)
    by_machine = re.search(r':root:not\(\[data-theme="light"\]\) \{(.*?)\}', css, re.S)
    assert chosen
    assert by_machine
    assert chosen[1].split() == by_machine[1].split()


def test_the_policy_lets_a_page_bring_its_own(rf: RequestFactory) -> None:
    def answer(path: str, **headers: str) -> HttpResponse:
        return csp.ContentSecurityPolicyMiddleware(lambda request: HttpResponse(headers=headers))(rf.get(path))

    strict = answer(reverse(INDEX)).headers[csp.HEADER]
    assert "script-src 'self'" in strict
    assert "frame-ancestors 'none'" in strict
    assert "unsafe-inline" not in strict
    assert answer(reverse(INDEX), **{csp.HEADER: csp.MAIL_PREVIEW}).headers[csp.HEADER] == csp.MAIL_PREVIEW
    assert csp.HEADER not in answer("/api/orders/").headers


def test_tags_write_money_time_and_details() -> None:
    assert money(Decimal("1234.5"), "EUR") == '<span class="money">€1,234.50</span>'
    assert money(None, "EUR") == "–"
    assert "3\xa0hours ago" in ago(timezone.now() - timedelta(hours=3, minutes=5))
    assert "just now" in ago(timezone.now())
    assert "in 2\xa0days" in ago(timezone.now() + timedelta(days=2, minutes=1))
    assert list(pairs({"tracking_number": "X1", "empty": "", "lines": [1, 2]})) == [
        ("Tracking number", "X1"),
        ("Lines", "1, 2"),
    ]


def test_a_badge_escapes_what_it_shows() -> None:
    source = "{% load desk %}{% badge status label %}"
    shown = Template(source).render(Context({"status": '"><b>', "label": "<i>New</i>"}))
    assert "<b>" not in shown
    assert "&lt;i&gt;New&lt;/i&gt;" in shown


def test_the_timeline_shows_texts_and_details() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    entries: list[dict[str, Any]] = [
        {"at": at, "actor": "Ada", "verb": "ship", "words": "Shipped", "details": {"carrier": "DHL"}},
        {"at": at, "actor": "", "verb": "note", "words": "Note", "details": "first\nsecond"},
    ]
    shown = Template('{% include "admin/desk/timeline.html" %}').render(Context({"entries": entries}))
    for words in ("Shipped", "Ada", "Carrier", "DHL", "first<br>second"):
        assert words in shown
