"""The action pages of an order: each does one thing, shows it first, and tells who was faster."""

from __future__ import annotations

import re
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

from orders.models import (
    Approval,
    Cancellation,
    CancellationReason,
    CancellationRequest,
    JournalEntry,
    Order,
    OrderNote,
    ShippingEvent,
    Status,
)
from orders.processing import EventHandler, PaymentChoice
from orders.processing.requesting import Wish
from shop.models import Store, User
from tests import factories

Place = Callable[..., Order]
Work = Callable[[], int]
Books = Callable[[], list[str]]

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(staff: Callable[..., User], store: Store, client: Client) -> User:
    user = staff("Store Manager", store)
    client.force_login(user)
    return user


def url(order: Order, name: str) -> str:
    return reverse("admin:orders_order_do", args=(order.pk, name))


def text(html: Any) -> str:
    node = html if hasattr(html, "get_text") else BeautifulSoup(html.content, "html.parser")
    return re.sub(r"\s+", " ", node.get_text(" ")).strip()


def filled_in(answer: Any) -> dict[str, Any]:
    """What a browser would send of the page's form if its button were pressed."""
    form = BeautifulSoup(answer.content, "html.parser").select_one("#content-main form")
    assert form is not None, text(answer)
    data: dict[str, Any] = {}
    for field in form.select("input[name], select[name], textarea[name]"):
        name, kind = str(field["name"]), field.get("type", "")
        if kind in {"checkbox", "radio"}:
            if field.has_attr("checked"):
                value = str(field.get("value", "on"))
                data[name] = [*data.get(name, []), value] if kind == "checkbox" and field.get("value") else value
        elif field.name == "select":
            chosen = field.select_one("option[selected]") or field.select_one("option")
            data[name] = str(chosen.get("value", "")) if chosen else ""
        else:
            data[name] = field.get_text().strip() if field.name == "textarea" else str(field.get("value", ""))
    return data


def fill(client: Client, order: Order, name: str, **fields: Any) -> Any:
    """Open an action's page, fill in fields, press its button. Returns the answer to the POST."""
    page = client.get(url(order, name))
    assert page.status_code == 200
    return client.post(url(order, name), {**filled_in(page), "step": "confirm", **fields})


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


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
# Cancel


def test_the_cancel_page_shows_what_will_happen_and_one_confirmation_does_it(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    order = place([("10.00", 3)], store=store, discount="0.01")
    page = client.get(url(order, "cancel"))
    plan = text(BeautifulSoup(page.content, "html.parser").select_one(".order-plan"))
    for words in (
        "3 × Tea pot",
        "3 back into stock",
        "no money has been paid",
        "€29.99 is released",
        "is told “Cancelled”",
        "ends: nothing",
    ):
        assert words in plan, words
    options = BeautifulSoup(page.content, "html.parser").select("select[name=reason] optgroup")
    assert options[0]["label"] == "Customer requested"
    assert len(options) == 6
    answer = fill(client, order, "cancel", reason="out_of_stock", note="Shelf was empty")
    assert answer.status_code == 302
    told = text(client.get(answer.headers["Location"]))
    assert "The order is cancelled. The customer is being told." in told
    assert fresh(order).status == Status.CANCELLED
    event = ShippingEvent.objects.get(order=order)
    assert (event.reason.code, event.note, event.user) == ("out_of_stock", "Shelf was empty", manager)
    work()
    assert factories.record_of(order.lines.get().product).allocated == 0
    assert books() == []


def test_showing_the_plan_changes_nothing(manager: User, client: Client, place: Place, store: Store) -> None:
    order = place(store=store, until="approved")
    data = {**filled_in(client.get(url(order, "cancel"))), "reason": "out_of_stock"}
    for step in ("preview", "", "anything"):
        assert client.post(url(order, "cancel"), {**data, "step": step}).status_code == 200
    assert fresh(order).version == order.version
    assert fresh(order).status == Status.APPROVED


def test_other_choices_than_those_shown_are_shown_first(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    order = place([("10.00", 3)], store=store, until="paid")
    line = order.lines.get()
    some = {"scope": "some", f"units_{line.pk}": "1", "reason": "other", "note": "Broken", "understood": "on"}
    page = fill(client, order, "cancel", **some)
    assert page.status_code == 200
    assert "You have changed your choice." in text(page)
    assert "1 × Tea pot" in text(page)
    assert "€10.00" in text(BeautifulSoup(page.content, "html.parser").select_one(".order-plan"))
    assert line.shipping_event_quantities.count() == 0
    assert client.post(url(order, "cancel"), {**filled_in(page), "step": "confirm"}).status_code == 302
    line.refresh_from_db()
    assert (line.cancelled, fresh(order).status) == (1, Status.PREPARING)
    work()
    assert books() == []


def test_units_typed_beside_everything_are_not_overlooked(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place([("10.00", 3)], store=store)
    line = order.lines.get()
    answer = fill(client, order, "cancel", reason="out_of_stock", **{f"units_{line.pk}": "1"})
    assert "You entered units: choose “Only some units”, or clear them." in text(answer)
    assert fresh(order).status == Status.CONFIRMATION_WAITING


def test_a_plan_that_is_no_longer_true_is_refused_with_what_changed(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place([("10.00", 3)], store=store)
    page = filled_in(client.get(url(order, "cancel")))
    # Something outside the order's own decisions: a worker released stock.
    order.lines.update(allocated=1)
    answer = client.post(url(order, "cancel"), {**page, "step": "confirm", "reason": "out_of_stock"})
    assert answer.status_code == 409
    assert "What would happen has changed since you looked. Back into stock would go 1, not 3." in text(answer)
    assert fresh(order).status == Status.CONFIRMATION_WAITING


def test_a_forged_or_borrowed_plan_is_worth_nothing(
    manager: User, client: Client, staff: Callable[..., User], place: Place, store: Store
) -> None:
    order, other = place(store=store), place(store=store)
    borrowed = filled_in(client.get(url(other, "cancel")))["token"]
    colleague = Client()
    colleague.force_login(staff("Store Manager", store))
    theirs = filled_in(colleague.get(url(order, "cancel")))["token"]
    for token in ("", "x", borrowed, theirs, borrowed[:-1] + "A"):
        assert fill(client, order, "cancel", token=token, reason="out_of_stock").status_code == 200
    assert fresh(order).status == Status.CONFIRMATION_WAITING


def test_cancelling_what_is_being_prepared_asks_for_a_tick(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place(store=store, until="preparing")
    assert "This field is required" in text(fill(client, order, "cancel", reason="out_of_stock"))
    assert fresh(order).status == Status.PREPARING
    assert fill(client, order, "cancel", reason="out_of_stock", understood="on").status_code == 302
    assert fresh(order).status == Status.CANCELLED


def test_fulfilment_asks_for_approval_of_what_is_being_prepared(
    client: Client, staff: Callable[..., User], place: Place, store: Store
) -> None:
    order = place(store=store, until="preparing")
    client.force_login(staff("Fulfilment", store))
    staff("Store Manager", store)
    assert "Store management has to agree" in text(client.get(url(order, "cancel")))
    unjustified = fill(client, order, "cancel", reason="out_of_stock", understood="on")
    assert "Say why it should be cancelled" in text(unjustified)
    assert not Cancellation.objects.exists()
    asked = fill(client, order, "cancel", reason="out_of_stock", understood="on", justification="The shelf is empty")
    assert asked.status_code == 302
    assert "Nothing has been cancelled yet" in text(client.get(asked.headers["Location"]))
    approval = Approval.objects.get(cancellation__order=order)
    assert (approval.status, approval.level, approval.justification) == ("open", 1, "The shelf is empty")
    assert fresh(order).status == Status.PREPARING


def test_a_reason_that_wants_to_know_who_asked_keeps_their_words_and_confirms_to_the_customer(
    manager: User, client: Client, place: Place, store: Store, work: Work
) -> None:
    order = place(store=store)
    assert "Say who asked for it" in text(fill(client, order, "cancel", reason="changed_mind"))
    assert fresh(order).status == Status.CONFIRMATION_WAITING
    asked = {"contact_name": "Ada Lovelace", "contact_channel": "phone", "contact_details": "+49 30 1234"}
    assert fill(client, order, "cancel", reason="changed_mind", **asked).status_code == 302
    row = Cancellation.objects.get(order=order)
    assert (row.contact_name, row.contact_channel, row.contact_details) == ("Ada Lovelace", "phone", "+49 30 1234")
    assert row.contact_at is not None
    work()
    assert order.communication_events.filter(event_type="cancellation_confirmed").exists()


def test_a_reason_that_needs_a_note_and_a_missing_reason_are_said_at_their_fields(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place(store=store)
    page = BeautifulSoup(fill(client, order, "cancel", reason="").content, "html.parser")
    assert "has-errors" in page.select_one("select[name=reason]").parent["class"]
    assert "This reason needs a note." in text(fill(client, order, "cancel", reason="other"))
    assert fresh(order).status == Status.CONFIRMATION_WAITING


def test_without_refund_restock_and_message_only_the_units_are_cancelled(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    order = place(store=store, until="paid")
    data = filled_in(client.get(url(order, "cancel")))
    for name in ("refund", "restock", "notify"):
        data.pop(name)
    page = client.post(url(order, "cancel"), {**data, "reason": "out_of_stock", "understood": "on", "step": "preview"})
    plan = text(BeautifulSoup(page.content, "html.parser").select_one(".order-plan"))
    assert "Nothing is sent back." in plan
    assert "is not told" in plan
    assert "To be inspected" in plan
    assert client.post(url(order, "cancel"), {**filled_in(page), "step": "confirm"}).status_code == 302
    work()
    assert sum(p.refunded for p in fresh(order).facts.payments) == 0
    record = factories.record_of(order.lines.get().product)
    assert (record.allocated, record.quarantine) == (0, 2), "set aside, not lost"
    assert not order.communication_events.filter(event_type="order_cancelled").exists()
    assert books() == []


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
