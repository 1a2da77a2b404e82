"""An order from the cart to the doorstep and back, by its handler's verbs."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from orders.models import Order, Status
from orders.processing import EventHandler
from payments.models import Payment
from tests import factories

Place = Callable[..., Order]
Work = Callable[[], int]
Books = Callable[[], list[str]]

pytestmark = pytest.mark.django_db


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def money(order: Order) -> tuple[Decimal, Decimal]:
    """Captured and refunded."""
    payments = Payment.objects.filter(reference=order.number)
    return sum((p.captured for p in payments), Decimal(0)), sum((p.refunded for p in payments), Decimal(0))


def test_an_order_goes_from_placement_to_the_doorstep(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 2), ("5.00", 1)], shipping="4.90", discount="3.00")
    assert order.status == Status.CONFIRMATION_WAITING
    assert order.total == Decimal("26.90")
    system.approve(number=order.number)
    system.start_preparing(number=order.number)
    system.take_payment(number=order.number)
    work()
    assert money(order) == (Decimal("26.90"), 0)
    system.ship(number=order.number, carrier="DHL", tracking_number="JD1")
    assert fresh(order).status == Status.SHIPPED
    system.deliver(number=order.number)
    assert fresh(order).status == Status.DELIVERED
    work()
    assert [e.event_type for e in order.communication_events.all()] == [
        "order_placed",
        "order_paid",
        "order_shipped",
        "order_delivered",
    ]
    assert books() == []


def test_cancelling_a_paid_order_refunds_it_and_frees_its_stock(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 3)], until="paid")
    record = factories.record_of(order.lines.get().product)
    assert record.allocated == 3
    system.cancel(number=order.number, reason="changed_mind")
    assert fresh(order).status == Status.CANCELLED
    work()
    record.refresh_from_db()
    assert (record.on_hand, record.allocated) == (100, 0)
    assert money(order) == (Decimal("30.00"), Decimal("30.00"))
    assert books() == []


def test_cancelling_one_unit_leaves_the_rest_on_its_way(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 3)], discount="0.01", until="paid")
    line = order.lines.get()
    system.cancel(number=order.number, lines={line.pk: 1}, reason="changed_mind")
    work()
    assert fresh(order).status == Status.PREPARING
    assert money(order) == (Decimal("29.99"), Decimal("10.00"))
    system.ship(number=order.number)
    assert fresh(order).status == Status.SHIPPED
    system.deliver(number=order.number)
    system.take_back(number=order.number, lines={line.pk: (2, "sellable")})
    work()
    assert money(order) == (Decimal("29.99"), Decimal("29.99"))
    assert fresh(order).status == Status.REFUNDED
    assert books() == []


def test_an_unpaid_authorization_is_released_when_the_order_is_cancelled(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 3)])
    system.cancel(number=order.number, reason="changed_mind")
    work()
    payment = Payment.objects.get(reference=order.number)
    assert (payment.authorized, payment.voided, payment.captured) == (Decimal("30.00"), Decimal("30.00"), 0)
    assert books() == []
