"""The page of figures of cancellations: charts, filters, the list behind a bar, and the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.admin.figures import Page
from orders.models import CancellationReason, Order
from shop.actors import Actor
from shop.models import Store, User
from tests.orders.figures import CSV, LIST, OUTCOME, PAGE, exported, figure, many_figures, page_of

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]


@pytest.fixture
def manager(staff: Callable[..., User], store: Store, client: Client) -> User:
    user = staff("Store Manager", store)
    client.force_login(user)
    return user


def headline(page: BeautifulSoup) -> dict[str, str]:
    found = {}
    for part in page.select(".figures-headline > div"):
        found[part.dt.get_text()] = " ".join(" ".join(dd.get_text(" ") for dd in part.select("dd")).split())
    return found


def bars(page: BeautifulSoup, key: str) -> dict[str, str]:
    """Label → cancellations, of a chart."""
    return {row.a.get_text(): row.td.get_text(" ", strip=True) for row in page.select(f"#figures-by-{key} tbody tr")}


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_figures_of_the_last_thirty_days(
    client: Client, manager: User, place: Place, store: Store
) -> None:
    first, second = place(store=store), place(store=store)
    figure(first, value=Decimal("12.50"), refund="arrived", refunded=Decimal("12.50"), refund_seconds=7000)
    figure(
        second, ends_order=False, reason_code="out_of_stock", stage="preparing", actor_kind="staff", staff=manager,
        staff_name="old name", approval_seconds=90, currency="USD", value=Decimal(3),
    )  # fmt: skip
    figure(second, day=timezone.localdate() - timedelta(days=30))
    Order.objects.filter(pk=first.pk).update(status="cancelled")
    page = page_of(client)
    assert headline(page) == {
        "Orders": "2",
        "Units": "2",
        "Value": "€12.50 $3.00 refunded: €12.50",
        "Share of all orders": "50.0 % 1 of 2 orders placed in these days are cancelled as a whole",
        "Refund time": "half within 2 h nine in ten within 2 h, of 1",
        "Approval time": "half within 2 min nine in ten within 2 min, of 1",
    }
    assert bars(page, "reason") == {"Changed mind": "1", "Out of stock": "1"}
    assert bars(page, "stage") == {"Approved": "1", "Preparing": "1"}
    assert bars(page, "store") == {store.name: "2"}
    assert bars(page, "staff") == {manager.get_full_name(): "1", "The desk itself": "1"}
    assert len(page.select(".figures-days > a")) == 1
    assert page.select_one(".figures-table tbody").get_text(" ", strip=True).endswith("2 2 €12.50 $3.00")
    # Reinstated since.
    Order.objects.filter(pk=first.pk).update(status="approved")
    assert headline(page_of(client))["Share of all orders"].startswith("0.0 %")


def test_a_bar_leads_to_its_cancellations(client: Client, manager: User, place: Place, store: Store) -> None:
    orders = [place(store=store) for _n in range(3)]
    figure(orders[0])
    figure(orders[1], reason_code="out_of_stock", actor_kind="staff", staff=manager)
    figure(orders[2], outcome=OUTCOME.REJECTED, reason_code="out_of_stock")
    page = page_of(client)
    for chart, label in [("reason", "Out of stock"), ("staff", manager.get_full_name())]:
        link = page.find("table", id=f"figures-by-{chart}").find("a", string=label)["href"]
        answer = client.get(link)
        assert answer.status_code == 200
        listed = BeautifulSoup(answer.content, "html.parser").select("#result_list .field-order_link")
        assert [cell.get_text() for cell in listed] == [orders[1].number], link
    for link in page.select("#content-main a[href*='/list/']"):
        assert client.get(link["href"]).status_code == 200, link


def test_filters_are_for_page_and_file_alike(client: Client, manager: User, place: Place, store: Store) -> None:
    early, late = place(store=store), place(store=store)
    figure(early, day=date(2026, 3, 1), category="inventory_issues", stage="preparing")
    figure(late, day=date(2026, 3, 2))
    for query, numbers in [
        ({"first": "2026-03-01", "last": "2026-03-02"}, [early, late]),
        ({"first": "2026-03-02", "last": "2026-03-02"}, [late]),
        ({"first": "2026-03-01", "last": "2026-03-02", "category": "inventory_issues"}, [early]),
        ({"first": "2026-03-01", "last": "2026-03-02", "stage": "approved"}, [late]),
        ({"first": "2026-03-01", "last": "2026-03-02", "store": store.pk}, [early, late]),
    ]:
        assert [line["Order"] for line in exported(client, **query)] == [order.number for order in numbers], query
        assert headline(page_of(client, **query))["Orders"] == str(len(numbers)), query


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"first": "2026-03-02", "last": "2026-03-01"}, "It has to end after it begins."),
        ({"first": "2020-01-01", "last": "2026-03-01"}, "Choose 366 days at the most."),
        ({"last": "2026-03-01"}, "Say from which day."),
        ({"first": "yesterday"}, "Enter a valid date."),
        ({"first": "0001-01-01", "last": "0001-01-01"}, "2000"),
        ({"first": "9999-12-31", "last": "9999-12-31"}, "2999"),
        ({"days": "8"}, "8"),
        ({"store": "999999"}, "999999"),
        ({"category": "weather"}, "weather"),
    ],
)
def test_a_filter_that_makes_no_sense_is_explained(
    client: Client, manager: User, query: dict[str, str], words: str
) -> None:
    for address in (PAGE, CSV):
        answer = client.get(address, query)
        assert answer.status_code == 400
        assert words in BeautifulSoup(answer.content, "html.parser").select_one("[role=alert]").get_text()


def test_without_any_cancellation_the_page_says_so(client: Client, manager: User) -> None:
    page = page_of(client)
    assert "Nothing was cancelled." in page.get_text()
    assert not page.select(".figures-headline")


def test_a_manager_sees_only_their_own_stores(client: Client, manager: User, place: Place, store: Store) -> None:
    mine, other = place(store=store), place()
    figure(mine)
    figure(other)
    assert bars(page_of(client), "store") == {store.name: "1"}
    assert [line["Order"] for line in exported(client)] == [mine.number]
    assert other.number not in client.get(LIST).content.decode()
    assert other.store.name not in client.get(PAGE).content.decode()
    assert client.get(PAGE, {"store": other.store.pk}).status_code == 400


@pytest.mark.parametrize(
    ("role", "status"),
    [("Admin", 200), ("Store Manager", 200), ("Fulfilment", 403), ("Customer Service", 403), (None, 403)],
)
def test_only_admins_and_managers_see_figures(
    client: Client, staff: Callable[..., User], store: Store, role: str | None, status: int
) -> None:
    client.force_login(staff(role, store))
    for address in (PAGE, LIST, CSV):
        answer = client.get(address)
        assert answer.status_code == status, address
    assert (PAGE in client.get("/admin/").content.decode()) == (status == 200)


@pytest.mark.thorough
def test_ten_thousand_cancellations_take_as_many_queries_as_one(
    client: Client, manager: User, place: Place, store: Store
) -> None:
    order, today, counts = place(store=store), timezone.localdate(), []
    figure(order)
    client.get(PAGE)
    for size in (0, 10_000):
        many_figures(order, [{"day": today - timedelta(days=n % 1000)} for n in range(size)])
        with CaptureQueriesContext(connection) as queries:
            page = page_of(client)
        counts.append(len(queries))
    assert headline(page)["Units"] == "301"
    assert counts[0] == counts[1] <= 20, counts
    # One of the days is found by the index, not by reading all of them.
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    chosen = {"first": today, "last": today, "store": "", "category": "", "stage": ""}
    assert "cancel_figure_day" in Page(Actor.staff(manager), chosen, {}).rows.explain()


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_file_is_a_table_for_spreadsheets(client: Client, manager: User, place: Place, store: Store) -> None:
    order = place(store=store)
    figure(
        order, day=date(2026, 3, 1), value=Decimal("1234.5"), refund="arrived", refunded=Decimal("1234.5"),
        refund_seconds=60, actor_kind="staff", staff=manager, staff_name="Ada",
    )  # fmt: skip
    answer = client.get(CSV, {"first": "2026-03-01", "last": "2026-03-31"})
    assert answer["Content-Disposition"] == 'attachment; filename="cancellations-2026-03-01-2026-03-31.csv"'
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.streaming
    [line] = exported(client, first="2026-03-01", last="2026-03-31")
    assert line == {
        "Order": order.number,
        "Cancelled at": "2026-03-01 12:00:00",
        "Store": store.name,
        "Outcome": "Done",
        "Reason": "Changed mind",
        "Reason category": "Customer requested",
        "Status before": "Approved",
        "By": "Ada",
        "Currency": "EUR",
        "Value": "1234.50",
        "Units": "1",
        "Whole order": "yes",
        "Refund": "Arrived",
        "Amount refunded": "1234.50",
        "Refund time (seconds)": "60",
        "Approval time (seconds)": "",
    }


def test_what_people_have_named_is_no_formula_in_the_file(
    client: Client, manager: User, place: Place, store: Store
) -> None:
    Store.objects.filter(pk=store.pk).update(name="=HYPERLINK(1)")
    CancellationReason.objects.filter(code="other").update(name="@SUM(A1)", names={})
    figure(place(store=store), actor_kind="staff", staff_name="-2+3+cmd|' /C calc'!A0", reason_code="other")
    [line] = exported(client)
    assert (line["Store"], line["Reason"], line["By"]) == ("'=HYPERLINK(1)", "'@SUM(A1)", "'-2+3+cmd|' /C calc'!A0")


def test_the_page_has_no_inline_script_or_style(client: Client, manager: User, place: Place, store: Store) -> None:
    figure(place(store=store))
    text = client.get(PAGE).content.decode()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text.split('id="content-main"')[1])
