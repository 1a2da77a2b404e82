"""Where money and goods meet: deposits, captures, refunds and returns of one order, whichever comes first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from orders.models import (
    CancellationReason,
    CancellationRequest,
    CaptureMode,
    Hold,
    JournalEntry,
    Order,
    OrderLine,
    Status,
)
from orders.processing import EventHandler, PaymentChoice, get_event_handler
from orders.processing.base import CauseReused
from orders.processing.requesting import Wish
from orders.rules import CaptureUnderWay, InvalidPaymentEvent, NotPaid
from payments import services as payments
from payments.models import DemoGatewayFault, Payment, Transaction
from shop import jobs
from shop.actors import Actor
from shop.errors import NotAllowed, Refused
from shop.models import Job
from tests import factories

Work = Callable[[], int]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _books_add_up(books: Callable[[], list[str]]) -> Any:
    yield
    assert books() == []


def lines_of(order: Order) -> list[OrderLine]:
    return list(OrderLine.objects.filter(order=order).order_by("position"))


def status_of(order: Order) -> str:
    return str(Order.objects.values_list("status", flat=True).get(pk=order.pk))


def net(order: Order) -> Decimal:
    return sum((p.captured - p.refund_reserved for p in Payment.objects.filter(reference=order.number)), Decimal(0))


def test_a_deposit_that_was_refunded_does_not_pay_for_goods(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 2)], gateway="manual")
    system.record_payment(number=order.number, amount=Decimal("10.00"))
    system.refund(number=order.number, amount=Decimal("10.00"), note="sent back")
    system.record_payment(number=order.number, amount=Decimal("10.00"), surplus=True)
    assert lines_of(order)[0].paid == 0
    assert status_of(order) == Status.PAYMENT_WAITING


def test_an_order_is_refunded_when_its_money_has_arrived_not_before(system: EventHandler, work: Work) -> None:
    order = factories.place_order([("10.00", 1)], until="delivered")
    line = lines_of(order)[0]
    system.take_back(number=order.number, lines={line.pk: (1, "sellable")})
    assert status_of(order) == Status.DELIVERED
    work()
    assert status_of(order) == Status.REFUNDED


def test_paid_units_ship_after_others_of_the_line_came_back(system: EventHandler, work: Work) -> None:
    order = factories.place_order([("10.00", 5)], until="preparing")
    line = lines_of(order)[0]
    system.take_payment(number=order.number, lines={line.pk: 2})
    work()
    system.ship(number=order.number, lines={line.pk: 2})
    system.take_back(number=order.number, lines={line.pk: (2, "sellable")})
    system.take_payment(number=order.number)
    work()
    system.ship(number=order.number, lines={line.pk: 3})
    assert net(order) == Decimal("30.00")


def test_a_deposit_that_covers_what_a_cancellation_left_can_be_applied(system: EventHandler) -> None:
    parts = [PaymentChoice(gateway="manual", amount=Decimal("6.00")), PaymentChoice(gateway="demo")]
    order = factories.place_order([("6.00", 1), ("4.00", 1)], payments=parts, pay=False)
    system.record_payment(number=order.number, amount=Decimal("6.00"))
    jobs.drain()
    system.approve(number=order.number)
    system.start_preparing(number=order.number)
    system.cancel(number=order.number, lines={lines_of(order)[1].pk: 1})
    system.take_payment(number=order.number)
    system.ship(number=order.number)
    assert status_of(order) == Status.SHIPPED


def test_a_cancellation_between_two_captures_gives_all_of_it_back(system: EventHandler) -> None:
    parts = [PaymentChoice(gateway="demo", amount=Decimal("6.00")), PaymentChoice(gateway="demo")]
    order = factories.place_order([("10.00", 1)], payments=parts, until="preparing")
    system.take_payment(number=order.number)
    first = Transaction.objects.filter(kind="capture").earliest("pk")
    jobs.run_now(f"payments.send:{first.pk}")
    system.cancel(number=order.number)
    jobs.drain()
    assert net(order) == 0
    assert Order.objects.get(pk=order.pk).adjustment_total == 0


def test_units_refunded_while_kept_leave_the_order_usable(system: EventHandler, work: Work) -> None:
    order = factories.place_order([("10.00", 2)], until="delivered")
    lines = lines_of(order)
    system.handle_payment_event(order, "refunded", Decimal("10.00"), lines, [1])
    work()
    assert Order.objects.get(pk=order.pk).facts.due == 0


def test_money_cannot_be_kept_while_it_is_being_taken(system: EventHandler) -> None:
    order = factories.place_order(until="preparing")
    system.take_payment(number=order.number)
    with pytest.raises(CaptureUnderWay):
        system.cancel(number=order.number, refund=False)


def test_a_declined_capture_of_cancelled_units_holds_nothing_up(system: EventHandler, work: Work) -> None:
    order = factories.place_order([("10.00", 1), ("5.00", 1)], until="preparing")
    kept, dropped = lines_of(order)
    system.take_payment(number=order.number, lines={kept.pk: 1})
    work()
    DemoGatewayFault.objects.create(operation="capture", behaviour="decline", remaining=1)
    system.take_payment(number=order.number, lines={dropped.pk: 1})
    system.cancel(number=order.number, lines={dropped.pk: 1})
    work()
    assert not Hold.objects.filter(order=order).exists()
    assert Payment.objects.get(reference=order.number).voided == Decimal("5.00")


def test_a_cause_belongs_to_one_order_and_one_deed(system: EventHandler) -> None:
    one, other = factories.place_order(until="paid"), factories.place_order(until="paid")
    event = system.ship(number=one.number, cause="scan 1")
    assert system.ship(number=one.number, cause="scan 1") == event
    with pytest.raises(CauseReused):
        system.ship(number=other.number, cause="scan 1")
    with pytest.raises(CauseReused):
        system.cancel(number=other.number, cause="scan 1")


def test_nobody_logged_in_is_nobody() -> None:
    order = factories.place_order()
    with pytest.raises(Refused):
        EventHandler(AnonymousUser()).approve(number=order.number)  # type: ignore[arg-type]


def test_money_that_comes_after_the_cancellation_is_on_record_and_goes_back(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 1)], gateway="manual")
    system.cancel(number=order.number)
    system.record_payment(number=order.number, amount=Decimal("10.00"), surplus=True)
    assert Payment.objects.get(reference=order.number).captured == Decimal("10.00")
    assert net(order) == 0


def test_what_is_too_much_goes_back(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 1)], gateway="manual")
    system.record_payment(number=order.number, amount=Decimal("10.50"), surplus=True)
    assert net(order) == Decimal("10.00")
    assert lines_of(order)[0].paid == 1


def test_paying_again_adds_nothing_to_what_is_promised(system: EventHandler) -> None:
    order = factories.place_order(gateway="manual")
    with pytest.raises(Refused):
        system.pay_again(number=order.number, gateway="manual")
    assert Payment.objects.filter(reference=order.number).count() == 1


def test_a_payment_by_hand_waits_for_the_one_under_way(system: EventHandler) -> None:
    parts = [PaymentChoice(gateway="demo", amount=Decimal("5.00")), PaymentChoice(gateway="manual")]
    order = factories.place_order([("5.00", 2)], payments=parts)
    system.record_payment(number=order.number, amount=Decimal("4.00"))
    system.take_payment(number=order.number, lines={lines_of(order)[0].pk: 1})
    with pytest.raises(CaptureUnderWay):
        system.record_payment(number=order.number, amount=Decimal("1.00"))


@pytest.mark.parametrize("code", ["shipped", "cancelled", "returned", "delivered"])
def test_oscar_s_door_asks_the_same_guard(code: str) -> None:
    customer = factories.UserFactory()
    order = factories.place_order(customer=customer, pays_on_delivery=True, gateway="manual")
    handler = get_event_handler(Actor.customer(customer))
    with pytest.raises(NotAllowed):
        handler.handle_shipping_event(order, code, lines_of(order), [1])
    with pytest.raises(NotAllowed):
        handler.handle_payment_event(order, "refunded", Decimal("1.00"))


def test_what_is_still_on_its_way_can_arrive_after_others_came_back(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 4)], until="shipped")
    line = lines_of(order)[0]
    system.deliver(number=order.number, lines={line.pk: 2})
    system.take_back(number=order.number, lines={line.pk: (2, "sellable")})
    assert status_of(order) == Status.SHIPPED
    system.deliver(number=order.number)
    assert status_of(order) == Status.DELIVERED


def test_a_request_that_staff_fulfilled_themselves_is_answered(
    system: EventHandler, reason: CancellationReason
) -> None:
    customer = factories.UserFactory()
    order = factories.place_order([("10.00", 5)], customer=customer, until="preparing")
    line = lines_of(order)[0]
    wish = Wish(line.pk, 2, CancellationRequest.Type.CANCEL, reason)
    get_event_handler(Actor.customer(customer)).request_cancellation(number=order.number, wishes=[wish])
    system.cancel(number=order.number, lines={line.pk: 2})
    assert CancellationRequest.objects.get().status == CancellationRequest.Status.COMPLETED


def test_a_part_paid_by_hand_is_captured_with_the_rest_at_placement(system: EventHandler, work: Work) -> None:
    parts = [PaymentChoice(gateway="demo", amount=Decimal("6.00")), PaymentChoice(gateway="manual")]
    order = factories.place_order([("10.00", 1)], payments=parts, capture_mode=CaptureMode.AT_PLACEMENT)
    system.record_payment(number=order.number, amount=Decimal("4.00"))
    work()
    assert net(order) == Decimal("10.00")


def test_the_plan_says_what_is_released(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 1), ("5.00", 1)], until="preparing")
    kept, dropped = lines_of(order)
    system.take_payment(number=order.number, lines={kept.pk: 1})
    jobs.drain()
    plan = system.plan_cancellation(number=order.number, lines={dropped.pk: 1})
    assert plan.void == Decimal("5.00")
    system.cancel(number=order.number, lines={dropped.pk: 1}, plan=plan)
    assert Payment.objects.get(reference=order.number).voided == plan.void


def test_looking_leaves_no_trace(system: EventHandler) -> None:
    order = factories.place_order(until="paid")
    entries = JournalEntry.objects.filter(order=order).count()
    system.validate_shipping_event(order, "shipped", lines_of(order), [1])
    system.validate_payment_event(order, "refunded", Decimal("1.00"))
    assert JournalEntry.objects.filter(order=order).count() == entries


def test_the_journal_says_what_an_address_and_a_goodwill_changed(system: EventHandler) -> None:
    order = factories.place_order(until="paid")
    system.change_address(number=order.number, address=factories.address(city="Kiel"))
    system.refund(number=order.number, amount=Decimal("1.00"), note="sorry")
    moved, given = JournalEntry.objects.filter(order=order).order_by("-sequence")[:2][::-1]
    assert set(moved.before) == set(moved.after) == {"shipping_address"}
    assert Decimal(given.after["adjustment_total"]) == Decimal("-1.00")


def test_stock_is_consumed_twice_in_one_decision_and_both_count(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    line = lines_of(order)
    with system.decide(order.number or "", "ship") as d:
        system.consume_stock_allocations(d.order, line, [1])
        system.consume_stock_allocations(d.order, line, [1])
        system.create_shipping_event(d.order, "shipped", line, [2])
    assert factories.record_of(line[0].product).on_hand == 98


def test_money_events_are_not_written_beside_the_books(system: EventHandler) -> None:
    order = factories.place_order(until="paid")
    with pytest.raises(InvalidPaymentEvent):
        system.create_payment_event(order, "paid", Decimal("1.00"))
    with pytest.raises(NotPaid):
        system.ship(number=factories.place_order(until="preparing").number)


def test_what_a_person_did_is_kept_when_jobs_are_purged(system: EventHandler, work: Work) -> None:
    order = factories.place_order(until="approved")
    work()
    system.cancel(number=order.number)
    job = Job.objects.get(kind="orders.return_stock")
    Job.objects.filter(pk=job.pk).update(state=Job.State.NEEDS_ATTENTION, last_error="no shelf")
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="counted and put back")
    work()
    jobs.purge(before=timezone.now() + timedelta(days=40))
    assert Job.objects.get().resolved_note == "counted and put back"
    assert factories.record_of(lines_of(order)[0].product).allocated == 0


def test_a_refund_closed_as_failed_is_still_owed(system: EventHandler, work: Work) -> None:
    order = factories.place_order([("10.00", 1), ("5.00", 1)], until="paid")
    DemoGatewayFault.objects.create(operation="refund", behaviour="decline", remaining=1)
    system.cancel(number=order.number, lines={lines_of(order)[0].pk: 1})
    work()
    refund = Transaction.objects.get(kind="refund")
    payments.close_as_failed(transaction_id=refund.pk, note="card is gone", actor_name="Ada")
    work()
    assert Order.objects.get(pk=order.pk).facts.unapplied == Decimal("10.00")
    system.refund(number=order.number, amount=Decimal("10.00"), note="by transfer")
    work()
    assert net(order) == Decimal("5.00")
    assert Order.objects.get(pk=order.pk).adjustment_total == 0
