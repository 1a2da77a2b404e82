"""The EventHandler keeps django-oscar's public contract, and refuses where Oscar is unsafe."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from orders.models import Order, OrderLine, OrderNote, ShippingEvent, ShippingEventType, Status
from orders.processing import (
    EventHandler,
    InvalidLineStatus,
    InvalidOrderStatus,
    InvalidPaymentEvent,
    InvalidShippingEvent,
    InvalidStockAdjustment,
    get_event_handler,
)
from orders.rules import BadLines
from shop.actors import Actor
from shop.models import User
from tests import factories

pytestmark = pytest.mark.django_db


class OscarStyleHandler(EventHandler):
    """A handler as Oscar's how-to describes it: take payment, consume stock, record the event."""

    def handle_shipping_event(
        self, order: Any, event_type: Any, lines: Any, line_quantities: Any, **kwargs: Any
    ) -> ShippingEvent:
        self.validate_shipping_event(order, event_type, lines, line_quantities, **kwargs)
        if not self.are_stock_allocations_available(lines, line_quantities):
            raise InvalidShippingEvent("no stock")
        self.consume_stock_allocations(order, lines, line_quantities)
        return self.create_shipping_event(order, event_type, lines, line_quantities, **kwargs)


def of(order: Order) -> tuple[list[OrderLine], list[int]]:
    lines = list(order.lines.all())
    return lines, [line.quantity for line in lines]


def test_a_handler_written_for_oscar_ships_through_every_door(
    settings: Any, staff: Callable[..., User], books: Callable[[], list[str]]
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.OscarStyleHandler"
    order = factories.place_order([("10.00", 2), ("5.00", 1)], until="paid")
    handler = get_event_handler(Actor.staff(staff("Admin")))
    assert isinstance(handler, OscarStyleHandler)
    event = handler.ship(number=order.number, tracking_number="JD1")
    assert event.tracking_number == "JD1"
    assert Order.objects.get(pk=order.pk).status == Status.SHIPPED
    assert books() == []


def test_it_is_made_for_a_user_as_in_oscar(staff: Callable[..., User]) -> None:
    user = staff("Admin")
    handler = EventHandler(user)
    order = factories.place_order(until="paid")
    lines, quantities = of(order)
    event = handler.handle_shipping_event(
        order, ShippingEventType.objects.get(code="shipped"), lines, quantities, reference="T1"
    )
    assert (event.user, event.tracking_number) == (user, "T1")


def test_a_payment_event_captures_what_the_units_cost(system: EventHandler, work: Callable[[], int]) -> None:
    order = factories.place_order([("10.00", 3)], until="preparing")
    lines, _quantities = of(order)
    subtotal = system.calculate_payment_event_subtotal("paid", lines, [1])
    assert subtotal == Decimal("10.00")
    with pytest.raises(InvalidPaymentEvent):
        system.handle_payment_event(order, "paid", Decimal("9.99"), lines, [1])
    system.handle_payment_event(order, "paid", subtotal, lines, [1])
    work()
    assert OrderLine.objects.get(order=order).paid == 1
    assert system.calculate_payment_event_subtotal("paid", lines, [2]) == Decimal("20.00")
    with pytest.raises(InvalidPaymentEvent):
        system.calculate_payment_event_subtotal("paid", lines, [3])


def test_a_refund_event_sends_money_back_for_units(
    system: EventHandler, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    order = factories.place_order([("10.00", 2)], until="shipped")
    lines, quantities = of(order)
    with pytest.raises(InvalidPaymentEvent):
        system.handle_payment_event(order, "refunded", Decimal("20.01"), lines, quantities)
    with pytest.raises(InvalidPaymentEvent):
        system.handle_payment_event(order, "refunded", Decimal("20.01"))
    system.handle_payment_event(order, "refunded", Decimal("8.00"), lines, [1])
    work()
    assert OrderLine.objects.get(order=order).refunded == 1
    assert books() == []


@pytest.mark.parametrize("target", [Status.APPROVED, Status.CANCELLED])
def test_a_status_change_does_what_belongs_to_it(target: str, system: EventHandler, work: Callable[[], int]) -> None:
    order = factories.place_order()
    system.handle_order_status_change(order, target, note_msg="as agreed")
    work()
    assert order.status == target
    assert OrderNote.objects.get(order=order).message == "as agreed"
    if target == Status.CANCELLED:
        assert factories.record_of(order.lines.get().product).allocated == 0


def test_a_status_that_cannot_follow_is_refused(system: EventHandler) -> None:
    order = factories.place_order()
    assert Status.APPROVED in order.available_statuses()
    assert Status.REFUNDED in Order.all_statuses()
    with pytest.raises(InvalidOrderStatus, match="is not a valid status"):
        system.handle_order_status_change(order, Status.REFUNDED)
    with pytest.raises(InvalidOrderStatus):
        order.set_status(Status.DELIVERED)
    order.set_status(Status.APPROVED)
    assert Order.objects.get(pk=order.pk).status == Status.APPROVED


def test_line_statuses_follow_their_pipeline(system: EventHandler) -> None:
    line = factories.place_order(until="approved").lines.get()
    assert line.status == Status.APPROVED
    with pytest.raises(InvalidLineStatus):
        line.set_status(Status.DELIVERED)
    line.set_status(Status.PREPARING)
    assert OrderLine.objects.get(pk=line.pk).status == Status.PREPARING
    assert Status.SHIPPED in OrderLine.all_statuses()


def test_whether_lines_have_passed_an_event(system: EventHandler) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    lines, quantities = of(order)
    assert not system.have_lines_passed_shipping_event(order, lines, [1], "shipped")
    system.ship(number=order.number, lines={lines[0].pk: 1})
    assert system.have_lines_passed_shipping_event(order, lines, [1], "shipped")
    assert not system.have_lines_passed_shipping_event(order, lines, quantities, "shipped")


def test_a_shop_s_own_event_type_is_recorded_and_bounded(system: EventHandler, books: Callable[[], list[str]]) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    packed = ShippingEventType.objects.create(code="packed", name="Packed")
    lines, _quantities = of(order)
    system.handle_shipping_event(order, packed, lines, [1])
    with pytest.raises(InvalidShippingEvent):
        system.handle_shipping_event(order, packed, lines, [2])
    assert system.have_lines_passed_shipping_event(order, lines, [1], packed)
    assert books() == []


def test_where_oscar_is_unsafe_it_refuses(system: EventHandler) -> None:
    order, other = factories.place_order([("10.00", 2)], until="paid"), factories.place_order(until="paid")
    lines, _quantities = of(order)
    foreign, _more = of(other)
    for wrong_lines, wrong_quantities in (
        (lines, [1, 1]),
        (lines, []),
        (lines * 2, [1, 1]),
        (foreign, [1]),
        (lines, [0]),
        (lines, [-1]),
    ):
        with pytest.raises(BadLines):
            system.handle_shipping_event(order, "shipped", wrong_lines, wrong_quantities)
    assert not order.shipping_events.exists()


def test_stock_helpers_work_on_all_lines_or_none(system: EventHandler, books: Callable[[], list[str]]) -> None:
    order = factories.place_order([("10.00", 2), ("5.00", 3)], until="approved")
    lines, quantities = of(order)
    assert system.are_stock_allocations_available(lines, quantities)
    assert not system.are_stock_allocations_available(lines, [2, 4])
    system.cancel_stock_allocations(order, lines[:1], [2])
    with pytest.raises(InvalidStockAdjustment):
        system.consume_stock_allocations(order, lines, [2, 3])
    assert [factories.record_of(line.product).on_hand for line in lines] == [100, 100]
    assert books() == []


def test_notes_of_the_system_are_never_editable(system: EventHandler) -> None:
    order = factories.place_order()
    note = system.create_note(order, "Address checked")
    assert note.note_type == OrderNote.Type.SYSTEM
    assert not note.is_editable(as_of=note.created_at)


def test_communication_events_are_recorded(system: EventHandler) -> None:
    order = factories.place_order()
    assert system.create_communication_event(order, "phone_call").event_type == "phone_call"
