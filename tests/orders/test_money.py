"""Money of orders: captured by units, given back by units, over several payments, to the cent, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from orders.models import CaptureMode, Hold, Order, OrderLine, Status
from orders.processing import EventHandler, PaymentChoice, get_event_handler
from orders.tasks import cancel_unpaid
from payments.models import DemoGatewayFault, Payment
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job
from tests import factories

pytestmark = pytest.mark.django_db


def payment_of(order: Order) -> Payment:
    return Payment.objects.get(reference=order.number)


def status_of(order: Order) -> str:
    return str(Order.objects.values_list("status", flat=True).get(pk=order.pk))


@pytest.fixture(autouse=True)
def _books_add_up(books: Callable[[], list[str]]) -> Any:
    yield
    assert books() == []


def test_payment_is_taken_for_chosen_units_only(system: EventHandler, work: Callable[[], int]) -> None:
    order = factories.place_order([("10.00", 3), ("5.00", 1)], shipping="1.00", until="preparing")
    first = order.lines.get(position=1)
    system.take_payment(number=order.number, lines={first.pk: 1})
    work()
    assert payment_of(order).captured == first.price_of_next(1, after=0, currency="EUR")
    with pytest.raises(Refused):
        system.ship(number=order.number, lines={first.pk: 2})
    system.ship(number=order.number, lines={first.pk: 1})
    system.take_payment(number=order.number)
    work()
    assert payment_of(order).captured == order.total


def test_money_that_is_captured_at_placement_needs_no_hand(work: Callable[[], int]) -> None:
    order = factories.place_order(capture_mode=CaptureMode.AT_PLACEMENT)
    work()
    assert payment_of(order).captured == order.total
    assert OrderLine.objects.get(order=order).paid == 2


def test_a_refund_over_several_payments_takes_the_newest_first(system: EventHandler, work: Callable[[], int]) -> None:
    parts = [PaymentChoice(gateway="demo", amount=Decimal("12.00")), PaymentChoice(gateway="demo")]
    order = factories.place_order([("10.00", 2)], payments=parts, until="paid")
    line = order.lines.get()
    system.cancel(number=order.number, lines={line.pk: 1})
    work()
    assert [p.refunded for p in Payment.objects.order_by("pk")] == [Decimal("2.00"), Decimal("8.00")]
    system.cancel(number=order.number)
    work()
    assert [p.refunded for p in Payment.objects.order_by("pk")] == [Decimal("12.00"), Decimal("8.00")]


def test_a_declined_payment_leaves_the_order_waiting_and_can_be_tried_again(
    system: EventHandler, work: Callable[[], int]
) -> None:
    DemoGatewayFault.objects.create(operation="authorize", behaviour="decline", remaining=1)
    order = factories.place_order()
    assert status_of(order) == Status.PAYMENT_WAITING
    system.pay_again(number=order.number, gateway="demo")
    work()
    assert status_of(order) == Status.CONFIRMATION_WAITING
    with pytest.raises(Refused):
        system.pay_again(number=order.number, gateway="demo")


def test_a_declined_capture_puts_the_order_on_hold_and_ships_nothing(
    system: EventHandler, work: Callable[[], int]
) -> None:
    order = factories.place_order(until="preparing")
    DemoGatewayFault.objects.create(operation="capture", behaviour="decline", remaining=1)
    system.take_payment(number=order.number)
    work()
    hold = Hold.objects.get(order=order)
    assert hold.kind == Hold.Kind.PAYMENT
    assert OrderLine.objects.get(order=order).charged == 0
    system.release_hold(number=order.number, hold_id=hold.pk)
    system.take_payment(number=order.number)
    work()
    assert payment_of(order).captured == order.total


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "answer_twice", "unavailable", "pending"])
def test_a_capture_that_goes_wrong_on_the_way_is_captured_once(fault: str, system: EventHandler) -> None:
    order = factories.place_order(until="preparing")
    DemoGatewayFault.objects.create(operation="capture", behaviour=fault, remaining=1)
    system.take_payment(number=order.number)
    for hour in range(8):
        jobs.drain(clock=lambda hour=hour: timezone.now() + timedelta(hours=hour))
    assert payment_of(order).captured == order.total
    assert OrderLine.objects.get(order=order).paid == 2


def test_units_cancelled_while_their_capture_is_under_way_are_refunded_when_it_ends(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 2)], until="preparing")
    system.take_payment(number=order.number)
    system.cancel(number=order.number)
    assert status_of(order) == Status.CANCELLED
    jobs.drain()
    payment = payment_of(order)
    assert (payment.captured, payment.refunded) == (order.total, order.total)


def test_a_payment_that_arrives_after_the_cancellation_is_let_go(system: EventHandler) -> None:
    order = factories.place_order(pay=False)
    system.cancel(number=order.number)
    jobs.drain()
    payment = payment_of(order)
    assert (payment.authorized, payment.voided, payment.captured) == (order.total, order.total, 0)


def test_a_bank_transfer_in_two_parts_pays_when_it_is_whole(system: EventHandler, work: Callable[[], int]) -> None:
    order = factories.place_order([("10.00", 2)], gateway="manual")
    assert status_of(order) == Status.PAYMENT_WAITING
    system.record_payment(number=order.number, amount=Decimal("15.00"), reference="statement 7")
    assert OrderLine.objects.get(order=order).paid == 0
    with pytest.raises(Refused):
        system.record_payment(number=order.number, amount=Decimal("5.01"))
    system.record_payment(number=order.number, amount=Decimal("5.00"))
    work()
    assert OrderLine.objects.get(order=order).paid == 2
    assert status_of(order) == Status.CONFIRMATION_WAITING


def test_a_part_that_was_transferred_goes_back_when_the_order_is_cancelled(
    system: EventHandler, work: Callable[[], int]
) -> None:
    order = factories.place_order([("10.00", 2)], gateway="manual")
    system.record_payment(number=order.number, amount=Decimal("15.00"))
    system.cancel(number=order.number)
    work()
    waiting = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    assert payment_of(order).refund_reserved == Decimal("15.00")
    jobs.finish_by_hand(waiting.pk, user_id=None, actor_name="Ada", note="transferred back")
    work()
    assert payment_of(order).refunded == Decimal("15.00")


def test_cash_on_delivery_ships_first_and_is_paid_later(system: EventHandler, work: Callable[[], int]) -> None:
    order = factories.place_order([("10.00", 2)], gateway="manual", pays_on_delivery=True, until="delivered")
    assert status_of(order) == Status.DELIVERED
    system.record_payment(number=order.number, amount=Decimal("20.00"))
    work()
    assert OrderLine.objects.get(order=order).paid == 2


def test_goods_returned_before_cash_on_delivery_was_paid_owe_nothing(
    system: EventHandler, work: Callable[[], int]
) -> None:
    order = factories.place_order([("10.00", 2)], gateway="manual", pays_on_delivery=True, until="delivered")
    line = order.lines.get()
    system.take_back(number=order.number, lines={line.pk: (1, "sellable")})
    system.record_payment(number=order.number, amount=Decimal("10.00"))
    work()
    assert payment_of(order).refunded == 0


def test_what_was_given_as_goodwill_is_taken_off_the_later_refund(
    system: EventHandler, work: Callable[[], int]
) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    system.refund(number=order.number, amount=Decimal("5.00"), note="sorry")
    system.cancel(number=order.number)
    work()
    assert payment_of(order).refunded == Decimal("20.00")


def test_the_same_refund_asked_twice_is_one(system: EventHandler, work: Callable[[], int]) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    events = {
        system.refund(number=order.number, amount=Decimal("5.00"), note="sorry", cause="mail 7").pk for _n in "12"
    }
    work()
    assert len(events) == 1
    assert payment_of(order).refunded == Decimal("5.00")


def test_a_return_can_keep_a_part(system: EventHandler, work: Callable[[], int]) -> None:
    order = factories.place_order([("10.00", 2)], until="shipped")
    line = order.lines.get()
    system.take_back(number=order.number, lines={line.pk: (2, "damaged")}, deduction=Decimal("3.50"))
    work()
    assert payment_of(order).refunded == Decimal("16.50")
    assert factories.record_of(line.product).damaged == 2


def test_a_cancellation_may_keep_the_money_and_set_the_goods_aside(
    system: EventHandler, work: Callable[[], int]
) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    system.cancel(number=order.number, refund=False, restock=False, notify=False)
    work()
    assert payment_of(order).refunded == 0
    record = factories.record_of(order.lines.get().product)
    assert (record.on_hand, record.allocated, record.quarantine) == (98, 0, 2)
    assert not order.communication_events.filter(event_type="order_cancelled").exists()


def test_an_order_that_is_not_paid_in_time_is_cancelled(settings: Any, system: EventHandler) -> None:
    order = factories.place_order(gateway="manual")
    paid = factories.place_order()
    cancel_unpaid()
    assert status_of(order) == Status.PAYMENT_WAITING
    settings.ORDER_UNPAID_AFTER_MINUTES = 0
    cancel_unpaid()
    assert status_of(order) == Status.CANCELLED
    assert status_of(paid) == Status.CONFIRMATION_WAITING


def test_a_refund_that_fails_waits_for_a_person_and_the_cancellation_stands(
    system: EventHandler, work: Callable[[], int]
) -> None:
    order = factories.place_order(until="paid")
    DemoGatewayFault.objects.create(operation="refund", behaviour="decline", remaining=1)
    system.cancel(number=order.number)
    work()
    assert status_of(order) == Status.CANCELLED
    job = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    assert job.reference == order.number
    jobs.retry_by_hand(job.pk)
    work()
    assert payment_of(order).refunded == order.total


def test_a_free_order_needs_no_payment(system: EventHandler) -> None:
    order = factories.place_order([("0.00", 1)])
    assert status_of(order) == Status.CONFIRMATION_WAITING
    system.approve(number=order.number)
    system.start_preparing(number=order.number)
    get_event_handler(Actor.system()).ship(number=order.number)
    assert status_of(order) == Status.SHIPPED
