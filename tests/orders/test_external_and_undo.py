"""The other system's answers where staff, customers and undoing were quicker, or slower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from orders.models import CancellationRequest, ExternalCall, Order, Status
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, User
from tests import factories
from tests.orders.asking import fresh
from tests.orders.external import ask, number, units
from tests.orders.fake_order_management import FakeOrderManagement, tell
from tests.orders.storefront import new_customer

Books = Callable[[], list[str]]
Work = Callable[[], int]
State = CancellationRequest.Status
S = ExternalCall.Status
pytestmark = pytest.mark.django_db


@pytest.fixture
def customer(db: None) -> User:
    return new_customer()


def test_what_staff_cancelled_before_is_reported_though_an_answer_completes_it(
    undoable: None, fake: FakeOrderManagement, customer: User, admin_actor: Actor, work: Work, books: Books
) -> None:
    """Staff cancel one item, and could undo it; the customer cancels another, and the yes to that completes both."""
    order = factories.place_order([("10.00", 1), ("5.00", 1), ("3.00", 1)], customer=customer, until="approved")
    one, two, _three = order.lines.order_by("position")
    get_event_handler(admin_actor).cancel(number=number(order), lines={one.pk: 1}, reason="out_of_stock")
    ask(order, customer, {two.pk: 1})
    work()
    assert fresh(order).undo_until is None
    assert fake.cancelled(number(order)) == {one.sku: 1, two.sku: 1}
    assert books() == []


def test_a_late_yes_completes_what_a_person_granted_and_could_still_undo(
    undoable: None,
    fake: FakeOrderManagement,
    customer: User,
    admin_actor: Actor,
    client: Client,
    work: Work,
    books: Books,
) -> None:
    fake.fault("500_deaf")
    order = factories.place_order([("10.00", 1), ("5.00", 1)], customer=customer, until="approved")
    one, _two = order.lines.order_by("position")
    call = ask(order, customer, {one.pk: 1})
    assert call.status == S.UNKNOWN
    request = CancellationRequest.objects.get()
    get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
    assert fresh(order).undo_until
    tell(client, "order.cancelled", key=str(call.uuid))
    work()
    request.refresh_from_db()
    assert (request.status, fresh(order).undo_until) == (State.COMPLETED, None), "it cannot be undone over there"
    assert len(fake.posts()) == 1, "nor is it asked for again"
    assert books() == []


def test_two_reports_after_an_unknown_call_leave_out_once_what_it_has_done(
    fake: FakeOrderManagement, customer: User, admin_actor: Actor, client: Client, work: Work, books: Books
) -> None:
    """The customer cancels one of four, which they do and do not say; staff cancel one, and then another."""
    fake.fault("500")
    order = factories.place_order([("10.00", 4)], customer=customer, until="approved")
    line = order.lines.get()
    call = ask(order, customer, {line.pk: 1})
    assert call.status == S.UNKNOWN
    for _n in range(2):
        get_event_handler(admin_actor).cancel(number=number(order), lines={line.pk: 1}, reason="out_of_stock")
    work()
    assert (units(order), fake.cancelled(number(order))) == ([(2, 0, 0, 0)], {line.sku: 2})
    assert books() == []


def test_an_answer_counts_though_the_points_that_were_asked_for_cannot_be_had_any_more(
    fake: FakeOrderManagement, customer: User, settings: Any, client: Client, work: Work, books: Books
) -> None:
    fake.fault("pending", times=2)
    orders = [factories.place_order([("10.00", 1)], customer=customer, until="approved") for _n in range(2)]
    for order, kind in zip(orders, ("order.cancelled", "cancellation.refused"), strict=True):
        call = ask(order, customer, {order.lines.get().pk: 1})
        ExternalCall.objects.filter(pk=call.pk).update(as_points=True)
        Order.objects.filter(pk=order.pk).update(customer=None)  # the account is gone since
        tell(client, kind, key=str(call.uuid))
    work()
    assert [fresh(order).status for order in orders] == [Status.CANCELLED, Status.APPROVED]
    assert CancellationRequest.objects.get().as_points is False
    assert books() == []


def test_what_is_left_of_an_order_and_withheld_makes_the_order_wait(
    fake: FakeOrderManagement, customer: User, admin_actor: Actor, client: Client, work: Work, books: Books
) -> None:
    fake.fault("pending")
    order = factories.place_order([("10.00", 1), ("5.00", 1)], customer=customer, until="approved")
    one, two = order.lines.order_by("position")
    call = ask(order, customer, {one.pk: 1})
    get_event_handler(admin_actor).cancel(number=number(order), lines={two.pk: 1}, reason="out_of_stock")
    assert fresh(order).status == Status.CANCELLATION_WAITING
    with pytest.raises(Refused):
        get_event_handler(admin_actor).start_preparing(number=number(order))
    tell(client, "cancellation.refused", key=str(call.uuid))
    work()
    assert (fresh(order).status, units(order)) == (Status.APPROVED, [(0, 0, 0, 0), (1, 0, 0, 0)])
    assert books() == []


def test_a_bulk_run_reports_many_orders_with_as_many_queries_as_few(fake: FakeOrderManagement, books: Books) -> None:
    def count(many: int) -> int:
        orders = {number(factories.place_order([("10.00", 1)])): None for _n in range(many)}
        with CaptureQueriesContext(connection) as queries:
            done = get_event_handler(Actor.system()).cancel_many(orders=orders, cause=f"bulk:{many}")
        assert all(event.pk for event in done.values())
        return len(queries)

    count(1)
    assert count(2) == count(6)
    assert ExternalCall.objects.count() == 9
    assert books() == []


def test_an_order_cancelled_over_there_cannot_be_undone_here(
    undoable: None, fake: FakeOrderManagement, admin_actor: Actor, client: Client, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], until="approved")
    get_event_handler(admin_actor).cancel(number=number(order), reason="out_of_stock")
    tell(client, "order.cancelled", order=order.number)
    work()
    assert fresh(order).undo_until is None
    assert books() == []


def test_an_answer_that_the_desk_refuses_to_follow_comes_to_the_inbox(
    fake: FakeOrderManagement, customer: User, client: Client, work: Work, monkeypatch: pytest.MonkeyPatch, books: Books
) -> None:
    fake.fault("pending")
    order = factories.place_order([("10.00", 1)], customer=customer, until="approved")
    call = ask(order, customer, {order.lines.get().pk: 1})

    def refuses(self: Any, **kwargs: Any) -> Any:  # a shop's own
        raise Refused("Not on Saturdays.", code="saturday")

    monkeypatch.setattr(EventHandler, "cancel", refuses, raising=False)
    tell(client, "order.cancelled", key=str(call.uuid))
    tell(client, "order.cancelled", order=factories.place_order(until="approved").number)
    work()
    inbox = Job.objects.filter(kind="orders.external_conflict", state="needs_attention")
    assert [(job.last_error, bool(job.store_id)) for job in inbox] == [("Not on Saturdays.", True)] * 2
    assert (units(order), books()) == ([(0, 1, 0, 0)], [])


def test_what_a_person_says_of_two_calls_is_done_for_both_or_none(
    fake: FakeOrderManagement, customer: User, admin_actor: Actor, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = factories.place_order([("10.00", 1), ("5.00", 1)], customer=customer, until="approved")
    fake.fault("pending", times=2)
    for line in order.lines.order_by("position"):
        ask(order, customer, {line.pk: 1})
    assert fresh(order).status == Status.CANCELLATION_WAITING
    whole, heard = EventHandler.hear, []

    def breaks(self: Any, **kwargs: Any) -> Any:  # a shop's own, on the second call
        heard.append(kwargs)
        if len(heard) == 2:
            raise RuntimeError("no")
        return whole(self, **kwargs)

    before = fresh(order).version
    with monkeypatch.context() as patch:
        patch.setattr(EventHandler, "hear", breaks)
        with pytest.raises(RuntimeError):
            get_event_handler(admin_actor).settle_withheld(number=number(order), cancelled=True, note="I rang them.")
    assert (units(order), fresh(order).version) == ([(0, 1, 0, 0), (0, 1, 0, 0)], before)
    get_event_handler(admin_actor).settle_withheld(number=number(order), cancelled=True, note="I rang them.")
    assert (fresh(order).status, books()) == (Status.CANCELLED, [])
