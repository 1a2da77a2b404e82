"""The order page: what it shows, in how many queries, and to whom."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from orders.models import Order
from orders.processing import EventHandler, PaymentChoice
from payments import services as payments
from shop.models import Store, User
from tests import factories

Place = Callable[..., Order]
Work = Callable[[], int]

pytestmark = pytest.mark.django_db


def page_of(order: Order) -> str:
    return reverse("admin:orders_order_change", args=(order.pk,))


def soup(client: Client, order: Order) -> BeautifulSoup:
    answer = client.get(page_of(order))
    assert answer.status_code == 200
    return BeautifulSoup(answer.content, "html.parser")


def text(node: Any) -> str:
    return re.sub(r"\s+", " ", node.get_text(" ")).strip()


@pytest.fixture
def manager(staff: Callable[..., User], store: Store, client: Client) -> User:
    user = staff("Store Manager", store)
    client.force_login(user)
    return user


def a_full_life(place: Place, store: Store, lines: int, system: EventHandler, work: Work) -> Order:
    """An order to which everything has happened: paid, shipped, delivered, taken back, cancelled, held, noted."""
    order = place([("10.00", 3)] * lines, store=store, until="paid", discount="1.00", shipping="4.90")
    number = order.number
    ids = list(order.lines.values_list("pk", flat=True))
    system.ship(number=number, lines=dict.fromkeys(ids, 2), carrier="DHL", tracking_number="JD1")
    system.deliver(number=number, lines=dict.fromkeys(ids, 1))
    system.take_back(number=number, lines=dict.fromkeys(ids, (1, "quarantine")), deduction=Decimal("0.50"))
    system.cancel(number=number, lines=dict.fromkeys(ids, 1), reason="changed_mind", note="Called us")
    system.place_hold(number=number, kind="fraud", reason="Look at it")
    system.write_note(number=number, message="Be kind")
    work()
    return order


def test_the_page_takes_the_same_queries_for_any_number_of_lines_and_events(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler, work: Work
) -> None:
    counts = {}
    for lines in (1, 30):
        order = a_full_life(place, store, lines, system, work)
        client.get(page_of(order))
        with CaptureQueriesContext(connection) as queries:
            assert client.get(page_of(order)).status_code == 200
        counts[lines] = len(queries)
    print(counts)
    assert counts[1] == counts[30], counts
    assert counts[1] <= 26, "\n".join(query["sql"][:150] for query in queries)


def test_the_page_tells_how_far_each_unit_has_come_and_what_is_owed(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler, work: Work
) -> None:
    order = a_full_life(place, store, 1, system, work)
    page = soup(client, order)
    words = text(page.find(class_="order-page"))
    for part in (
        "paid 3/3",
        "shipped 2/3",
        "delivered 1/3",
        "cancelled 1/3",
        "returned 1/3",
        "Fraud suspected",
        "Be kind",
        "DHL JD1",
    ):
        assert part in words, part
    bar = page.find("svg", class_="order-bar")
    assert [(r["class"][0], r["width"]) for r in bar.find_all("rect")] == [
        ("is-returned", "1"),
        ("is-delivered", "1"),
        ("is-cancelled", "1"),
    ]
    timeline = text(page.find(class_="order-timeline"))
    assert "Cancelled units – Changed mind" in timeline
    assert "Called us" in timeline
    assert "Tea pot" in timeline
    assert "0 → 2" in timeline


def test_the_page_works_for_an_order_that_costs_nothing(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place([("0.00", 1)], store=store, payments=[PaymentChoice(gateway="demo")])
    assert "No payment" in text(soup(client, order))


def test_what_is_refused_is_a_disabled_button_that_says_why(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler
) -> None:
    order = place(store=store)
    system.place_hold(number=order.number, kind="fraud")
    refused = soup(client, order).find("span", attrs={"aria-describedby": "why-approve"})
    assert text(refused.parent) == "Approve The order is on hold (Fraud suspected). Release the hold first."


def test_a_customer_who_is_called_like_a_script_is_shown_as_words(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler
) -> None:
    order = place(store=store)
    Order.objects.filter(pk=order.pk).update(customer_name="<script>alert(1)</script>")
    system.write_note(number=order.number, message="<img src=x onerror=alert(1)>")
    for answer in (client.get(page_of(order)), client.get(reverse("admin:orders_order_changelist"))):
        assert b"<script>alert" not in answer.content
        assert b"<img src=x" not in answer.content
        assert b"style=" not in answer.content


def test_the_page_of_another_stores_order_does_not_exist(
    staff: Callable[..., User], client: Client, place: Place, store: Store
) -> None:
    order = place(store=store)
    client.force_login(staff("Store Manager", factories.StoreFactory()))
    assert client.get(page_of(order)).status_code == 404
    for name in ("approve", "cancel", "note"):
        assert client.get(reverse("admin:orders_order_do", args=(order.pk, name))).status_code == 404
        assert client.post(reverse("admin:orders_order_do", args=(order.pk, name))).status_code == 404


def test_nobody_edits_adds_or_deletes_an_order(client: Client, place: Place, django_user_model: type[User]) -> None:
    client.force_login(django_user_model.objects.create_superuser("root", "root@example.com"))
    order = place()
    before = Order.objects.filter(pk=order.pk).values().get()
    assert client.post(page_of(order), {"status": "delivered"}).status_code == 403
    assert client.get(reverse("admin:orders_order_add")).status_code == 403
    assert client.post(reverse("admin:orders_order_delete", args=(order.pk,)), {"post": "yes"}).status_code == 403
    assert Order.objects.filter(pk=order.pk).values().get() == before


def test_what_only_a_person_can_do_is_not_said_to_be_tried_again(
    place: Place, manager: User, client: Client, system: EventHandler, work: Work, store: Store
) -> None:
    order = place([("10.00", 1)], store=store, until="paid")
    to = payments.Destination(gateway="manual", iban="DE89370400440532013000", holder="Ada Lovelace")
    system.refund(number=order.number or "", amount=Decimal(2), note="Late", destination=to)
    work()
    told = text(soup(client, order).select_one(".desk-box.is-refusal"))
    assert "Transfer €2.00" in told
    assert "Trying again does not help." in told
    assert "Try again (" not in told
