"""The action pages of an order: each does one thing, shows it first, and tells who was faster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.urls import reverse

from orders.models import CancellationReason, CancellationRequest, JournalEntry, Order, OrderNote, ShippingEvent, Status
from orders.processing import EventHandler, PaymentChoice
from orders.processing.requesting import Wish
from shop.models import Store, User
from tests import factories
from tests.orders.asking import fresh
from tests.orders.pages import fill, filled_in, text, url

Place = Callable[..., Order]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(staff: Callable[..., User], store: Store, client: Client) -> User:
    user = staff("Store Manager", store)
    client.force_login(user)
    return user


# ---------------------------------------------------------------------------------------------------------------
# To the customer


def test_an_order_goes_to_the_customer_by_buttons(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    order = place([("10.00", 2), ("5.00", 1)], store=store)
    for name, fields, status in (
        ("approve", {"note": "Looks fine"}, Status.APPROVED),
        ("start-preparing", {}, Status.PREPARING),
        ("take-payment", {}, Status.PREPARING),
        ("ship", {"carrier": "DHL", "tracking_number": "JD1"}, Status.SHIPPED),
        ("deliver", {}, Status.DELIVERED),
    ):
        answer = fill(client, order, name, **fields)
        assert answer.status_code == 302, text(answer)
        work()
        assert fresh(order).status == status, name
    journal = JournalEntry.objects.filter(order=order, user_id=manager.pk)
    assert [entry.verb for entry in journal] == ["approve", "start_preparing", "take_payment", "ship", "deliver"]
    assert journal[0].note == "Looks fine"
    assert ShippingEvent.objects.get(order=order, event_type__code="shipped").tracking_number == "JD1"
    assert books() == []


def test_a_pickup_order_waits_at_the_counter_and_is_handed_over(
    manager: User, client: Client, place: Place, store: Store, books: Books
) -> None:
    order = place(store=store, until="paid", is_pickup=True)
    assert fill(client, order, "ready-for-pickup").status_code == 302
    assert fresh(order).status == Status.READY_FOR_PICKUP
    assert fill(client, order, "hand-over").status_code == 302
    assert fresh(order).status == Status.DELIVERED
    assert books() == []


def test_some_units_of_some_lines_ship(manager: User, client: Client, place: Place, store: Store) -> None:
    order = place([("10.00", 3), ("5.00", 2)], store=store, until="paid")
    first, second = order.lines.all()
    page = filled_in(client.get(url(order, "ship")))
    assert (page[f"units_{first.pk}"], page[f"units_{second.pk}"]) == ("3", "2")
    assert fill(client, order, "ship", **{f"units_{first.pk}": "1", f"units_{second.pk}": ""}).status_code == 302
    assert [line.shipped for line in order.lines.all()] == [1, 0]
    assert fill(client, order, "deliver").status_code == 302
    assert [line.delivered for line in order.lines.all()] == [1, 0]
    for wrong, words in (
        ("5", "only 2 units are left to ship, not 5"),
        ("-1", "greater than or equal to 0"),
        ("0", "Choose at least one unit"),
    ):
        answer = fill(client, order, "ship", **{f"units_{first.pk}": wrong, f"units_{second.pk}": "0"})
        assert words in text(answer), wrong
    assert [line.shipped for line in order.lines.all()] == [1, 0]


def test_what_is_not_possible_is_explained_and_has_no_form(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place(store=store, until="preparing")
    page = client.get(url(order, "ship"))
    assert "These goods have not been paid for." in text(page)
    assert "Take payment first." in text(page)
    assert b"data-once" not in page.content


# ---------------------------------------------------------------------------------------------------------------
# Two people


@pytest.mark.parametrize("name", ["approve", "cancel", "hold", "change-address", "take-payment"])
def test_the_second_of_two_people_is_told_who_did_what_and_nothing_else_happens(
    name: str, manager: User, client: Client, staff: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    page = filled_in(client.get(url(order, name)))
    other, user = Client(), staff("Store Manager", store)
    other.force_login(user)
    assert fill(other, order, "hold", reason="Wait").status_code == 302
    entries = order.journal.count()
    filling = {"step": "confirm", "reason": "out_of_stock"} if name == "cancel" else {"step": "confirm"}
    answer = client.post(url(order, name), {**page, **filling})
    assert answer.status_code == 409
    assert f"{user.get_full_name()} put the order on hold at" in text(answer)
    assert BeautifulSoup(answer.content, "html.parser").find("a", string="Reload")["href"] == url(order, name)
    assert order.journal.count() == entries


@pytest.mark.parametrize(
    ("name", "until", "fields"),
    [("ship", "paid", {}), ("deliver", "shipped", {}), ("cancel", "approved", {"reason": "out_of_stock"})],
)
def test_a_page_sent_twice_is_done_once_and_nobody_is_alarmed(
    name: str, until: str, fields: dict[str, str], manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place(store=store, until=until)
    data = {**filled_in(client.get(url(order, name))), "step": "confirm", **fields}
    assert [client.post(url(order, name), data).status_code for _again in range(2)] == [302, 302]
    events = order.shipping_events.filter(
        event_type__code={"ship": "shipped", "deliver": "delivered", "cancel": "cancelled"}[name]
    )
    assert events.count() == 1


# ---------------------------------------------------------------------------------------------------------------
# Money and returns


def test_money_is_taken_for_some_units(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    order = place([("10.00", 3)], store=store, until="preparing")
    line = order.lines.get()
    page = fill(client, order, "take-payment", scope="some", **{f"units_{line.pk}": "2"})
    assert "€20.00" in text(BeautifulSoup(page.content, "html.parser").select_one(".order-plan"))
    assert client.post(url(order, "take-payment"), {**filled_in(page), "step": "confirm"}).status_code == 302
    work()
    line.refresh_from_db()
    assert (line.paid, fresh(order).facts.captured) == (2, Decimal("20.00"))
    assert books() == []


def test_a_payment_is_recorded_up_to_what_is_outstanding(
    manager: User, client: Client, place: Place, store: Store, books: Books
) -> None:
    order = place(store=store, payments=[PaymentChoice(gateway="manual")])
    assert filled_in(client.get(url(order, "record-payment")))["amount"] == "20.00"
    for wrong, words in (
        ("20.01", "Only €20.00 is outstanding."),
        ("0", "greater than zero"),
        ("1.001", "no amounts this small"),
    ):
        assert words in text(fill(client, order, "record-payment", amount=wrong)), wrong
    assert fill(client, order, "record-payment", amount="15", reference="B-1").status_code == 302
    assert fill(client, order, "record-payment").status_code == 302
    assert fresh(order).status == Status.CONFIRMATION_WAITING
    assert [event.reference for event in order.payment_events.filter(event_type__code="received")] == ["B-1", ""]
    assert books() == []


def test_goodwill_is_refunded_after_its_way_is_shown(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    order = place(store=store, until="delivered")
    page = client.get(url(order, "refund"))
    assert "Confirm" not in text(BeautifulSoup(page.content, "html.parser").select_one(".order-plan-side"))
    shown = client.post(url(order, "refund"), {**filled_in(page), "amount": "5.00", "note": "Sorry", "step": "preview"})
    assert "€5.00 Payment 1 (Card): €5.00" in text(shown)
    assert client.post(url(order, "refund"), {**filled_in(shown), "step": "confirm"}).status_code == 302
    work()
    assert fresh(order).facts.refunded == Decimal("5.00")
    assert "20.00" in text(fill(client, order, "refund", amount="999", note="More"))
    assert fresh(order).facts.refunded == Decimal("5.00")
    assert books() == []


def test_goods_are_taken_back_into_quarantine_with_a_deduction(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    order = place([("10.00", 2), ("5.00", 1)], store=store, until="delivered")
    first, second = order.lines.all()
    page = filled_in(client.get(url(order, "take-back")))
    assert (page[f"units_{first.pk}"], page[f"to_{first.pk}"]) == ("0", "quarantine")
    choice = {f"units_{first.pk}": "1", f"to_{first.pk}": "damaged", "deduction": "2.50"}
    shown = fill(client, order, "take-back", **choice)
    plan = text(BeautifulSoup(shown.content, "html.parser").select_one(".order-plan"))
    assert "€7.50" in plan
    assert "Kept €2.50" in plan
    focused = BeautifulSoup(shown.content, "html.parser").select("#content-main [autofocus]")
    assert [node["id"] for node in focused] == ["order-plan-title"], "the plan is what was asked for"
    assert "Damaged" in plan
    assert client.post(url(order, "take-back"), {**filled_in(shown), "step": "confirm"}).status_code == 302
    work()
    first.refresh_from_db()
    assert (first.returned, second.returned, fresh(order).facts.refunded) == (1, 0, Decimal("7.50"))
    assert factories.record_of(first.product).damaged == 1
    assert "between nothing and the goods" in text(fill(client, order, "take-back", **{**choice, "deduction": "99"}))
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# Beside


def test_a_hold_stops_the_order_until_it_is_released(manager: User, client: Client, place: Place, store: Store) -> None:
    order = place(store=store)
    assert fill(client, order, "hold", kind="fraud", reason="Call the bank").status_code == 302
    assert "The order is on hold" in text(client.get(url(order, "approve")))
    assert "Call the bank" in text(client.get(url(order, "release-hold")))
    assert fill(client, order, "release-hold", note="All fine").status_code == 302
    hold = order.holds.get()
    assert (hold.released_by, hold.release_note) == (manager.get_full_name(), "All fine")
    assert fill(client, order, "approve").status_code == 302


def test_an_address_is_changed_as_long_as_nothing_has_left(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order, gone = place(store=store), place(store=store, until="shipped")
    before = fresh(order).shipping_address
    data = filled_in(client.get(url(order, "change-address")))
    assert (data["line"], data["which"]) == ("Sonnenallee 1", "shipping")
    assert "Two letters" in text(fill(client, order, "change-address", country="D1"))
    assert fill(client, order, "change-address", line="Hermannplatz 2", country="de").status_code == 302
    after = fresh(order)
    assert (after.shipping_address.line, after.shipping_address.country) == ("Hermannplatz 2", "DE")
    assert after.billing_address.line == "Sonnenallee 1"
    before.refresh_from_db()
    assert before.line == "Sonnenallee 1"
    assert "Old order address cannot be changed." in text(client.get(url(gone, "change-address")))


def test_a_note_is_written_and_corrected_by_its_author_only_and_only_for_five_minutes(
    manager: User, client: Client, staff: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    page = reverse("admin:orders_order_change", args=(order.pk,))
    assert fill(client, order, "note", message="Cal the customer", note_type="warning").status_code == 302
    note = OrderNote.objects.get(order=order)
    correct = reverse("admin:orders_ordernote_do", args=(note.pk, "correct"))
    assert correct in client.get(page).content.decode()
    answer = client.post(correct, {**filled_in(client.get(correct)), "message": "Call the customer"})
    assert answer.headers["Location"] == page
    note.refresh_from_db()
    assert (note.message, note.note_type) == ("Call the customer", "warning")
    client.force_login(staff("Store Manager", store))
    assert correct not in client.get(page).content.decode()
    assert client.post(correct, {"message": "Mine now"}).status_code == 409
    client.force_login(manager)
    OrderNote.objects.update(created_at=note.created_at.replace(year=2020))
    assert correct not in client.get(page).content.decode()
    assert client.post(correct, {"message": "Too late"}).status_code == 409
    note.refresh_from_db()
    assert note.message == "Call the customer"


# ---------------------------------------------------------------------------------------------------------------
# Requests


@pytest.fixture
def request_of(system: EventHandler, reason: CancellationReason) -> Callable[..., CancellationRequest]:
    def ask(order: Order, kind: str = "cancel", units: int = 1) -> CancellationRequest:
        wish = Wish(order.lines.get().pk, units, kind, reason, "I ordered too many")
        return system.request_cancellation(number=order.number or "", wishes=[wish])[0]

    return ask


def test_a_request_is_shown_on_the_order_and_approved_with_its_plan(
    manager: User,
    client: Client,
    place: Place,
    store: Store,
    request_of: Callable[..., CancellationRequest],
    work: Work,
    books: Books,
) -> None:
    order = place([("10.00", 3)], store=store, until="paid")
    request = request_of(order)
    answer_page = reverse("admin:orders_cancellationrequest_do", args=(request.pk, "approve"))
    assert answer_page in client.get(reverse("admin:orders_order_change", args=(order.pk,))).content.decode()
    page = client.get(answer_page)
    assert "I ordered too many" in text(page)
    assert "€10.00" in text(BeautifulSoup(page.content, "html.parser").select_one(".order-plan"))
    answer = client.post(answer_page, filled_in(page))
    assert answer.headers["Location"] == reverse("admin:orders_order_change", args=(order.pk,))
    request.refresh_from_db()
    assert (request.status, request.decided_by, order.lines.get().cancelled) == ("completed", manager, 1)
    assert client.post(answer_page, filled_in(page)).status_code == 409
    assert order.lines.get().cancelled == 1
    work()
    assert books() == []


def test_a_request_is_rejected_with_an_answer_only(
    manager: User, client: Client, place: Place, store: Store, request_of: Callable[..., CancellationRequest]
) -> None:
    order = place([("10.00", 3)], store=store, until="paid")
    request = request_of(order)
    page = reverse("admin:orders_cancellationrequest_do", args=(request.pk, "reject"))
    assert client.post(page, {**filled_in(client.get(page)), "note": " "}).status_code == 200
    request.refresh_from_db()
    assert request.status == "open"
    assert client.post(page, {**filled_in(client.get(page)), "note": "It has left already"}).status_code == 302
    request.refresh_from_db()
    assert (request.status, request.decision_note) == ("rejected", "It has left already")
    assert JournalEntry.objects.filter(order=order, verb="decide_request").get().note == "It has left already"


def test_what_a_customer_announced_to_send_back_is_filled_in(
    manager: User,
    client: Client,
    place: Place,
    store: Store,
    request_of: Callable[..., CancellationRequest],
    system: EventHandler,
) -> None:
    order = place([("10.00", 3)], store=store, until="delivered")
    request = request_of(order, "refund", 2)
    system.decide_request(request_id=request.pk, approve=True)
    line = order.lines.get()
    page = client.get(url(order, "take-back"))
    assert filled_in(page)[f"units_{line.pk}"] == "2"
    assert "€20.00" in text(BeautifulSoup(page.content, "html.parser").select_one(".order-plan"))


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_of_two_people_pressing_at_once_one_wins_and_the_other_reads_who_did_what(
    staff: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store)
    people = [staff("Store Manager", store) for _n in range(2)]
    clients, pages = [], []
    for user in people:
        clients.append(Client())
        clients[-1].force_login(user)
        pages.append({**filled_in(clients[-1].get(url(order, "cancel"))), "step": "confirm", "reason": "out_of_stock"})
    barrier = Barrier(2)

    def press(index: int) -> Any:
        try:
            barrier.wait()
            return clients[index].post(url(order, "cancel"), pages[index])
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(press, range(2)))
    assert sorted(answer.status_code for answer in answers) == [302, 409]
    loser = next(answer for answer in answers if answer.status_code == 409)
    winner = people[1 - answers.index(loser)]
    assert f"{winner.get_full_name()} cancelled units at" in text(loser)
    assert order.shipping_events.count() == 1


def test_money_nobody_waited_for_is_recorded_and_goes_back(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler, books: Books
) -> None:
    order = place(store=store, gateway="manual")
    system.cancel(number=order.number)
    data = filled_in(client.get(url(order, "record-surplus")))
    assert client.post(url(order, "record-surplus"), {**data, "amount": "20.00"}).status_code == 302
    facts = fresh(order).facts
    assert (facts.captured, facts.refund_reserved) == (20, 20)
    assert books() == []


def test_a_bank_account_that_is_none_is_marked_where_the_plan_is_shown(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place([("10.00", 1)], store=store, until="paid")
    opened = filled_in(client.get(url(order, "refund")))
    asked = {**opened, "amount": "2.00", "note": "Late", "destination": "manual", "step": "preview"}
    wrong = client.post(url(order, "refund"), {**asked, "iban": "DE00 NONSENSE", "holder": "Ada"})
    assert "This is not an IBAN" in text(wrong)
    right = client.post(url(order, "refund"), {**asked, "iban": "DE89 3704 0044 0532 0130 00", "holder": "Ada"})
    assert not right.context["form"].errors
