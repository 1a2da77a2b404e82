"""The cancel page: it shows what will happen, and exactly that happens, or nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bs4 import BeautifulSoup
from django.test import Client

from orders.models import Approval, Cancellation, Order, ShippingEvent, Status
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
