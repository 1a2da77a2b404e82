"""What must be impossible, from any door: the handler refuses it, and nothing has happened."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from orders.models import Hold, JournalEntry, Order, OrderLine, Status
from orders.processing import EventHandler, get_event_handler
from orders.processing.cancelling import Contact
from orders.rules import (
    ApprovalNeeded,
    BadLines,
    InvalidShippingEvent,
    NothingToDo,
    NotPaid,
    OrderOnHold,
    PlanChanged,
    WrongStatus,
)
from shop.actors import Actor
from shop.errors import NotAllowed, NotFound, Refused
from shop.models import Job, User
from tests import factories

pytestmark = pytest.mark.django_db


def snapshot(order: Order) -> Any:
    """Everything about an order that a refusal must leave alone."""
    units = list(OrderLine.objects.filter(order=order).values_list("pk", *OrderLine.COUNTERS, "status"))
    return (
        Order.objects.filter(pk=order.pk).values_list("status", "version", "adjustment_total").get(),
        units,
        JournalEntry.objects.filter(order=order).count(),
        Job.objects.count(),
    )


@pytest.fixture
def refuses() -> Callable[..., Refused]:
    def check(order: Order, kind: type[Refused], call: Callable[[], Any]) -> Refused:
        before = snapshot(order)
        with pytest.raises(kind) as caught:
            call()
        assert snapshot(order) == before, "a refusal leaves everything as it was"
        assert str(caught.value)
        return caught.value

    return check


def test_unpaid_goods_do_not_ship(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order = factories.place_order(until="preparing")
    no = refuses(order, NotPaid, lambda: system.ship(number=order.number))
    assert "Take payment" in str(no.remedy)


def test_nothing_ships_before_it_is_prepared(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order = factories.place_order(until="approved")
    refuses(order, WrongStatus, lambda: system.ship(number=order.number))


def test_what_has_shipped_is_not_cancelled(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order = factories.place_order(until="shipped")
    refuses(order, NothingToDo, lambda: system.cancel(number=order.number))


def test_no_more_ships_than_was_ordered(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    line = order.lines.get()
    no = refuses(order, InvalidShippingEvent, lambda: system.ship(number=order.number, lines={line.pk: 3}))
    assert no.max_quantity == 2
    system.ship(number=order.number, lines={line.pk: 1})
    no = refuses(order, InvalidShippingEvent, lambda: system.ship(number=order.number, lines={line.pk: 2}))
    assert no.max_quantity == 1


def test_no_more_is_refunded_than_was_captured(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    amount = Decimal("20.01")
    refuses(order, Refused, lambda: system.refund(number=order.number, amount=amount, note="too much"))
    system.refund(number=order.number, amount=Decimal("15.00"), note="goodwill")
    refuses(order, Refused, lambda: system.refund(number=order.number, amount=Decimal("5.01"), note="again"))


def test_no_more_comes_back_than_shipped(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order = factories.place_order([("10.00", 2)], until="shipped")
    line = order.lines.get()
    back = {line.pk: (3, "sellable")}
    refuses(order, InvalidShippingEvent, lambda: system.take_back(number=order.number, lines=back))


@pytest.mark.parametrize("verb", ["ship", "cancel", "take_payment", "deliver"])
def test_nonsense_quantities_are_refused(verb: str, system: EventHandler, refuses: Callable[..., Refused]) -> None:
    until = {"ship": "paid", "cancel": "paid", "take_payment": "preparing", "deliver": "shipped"}[verb]
    order = factories.place_order([("10.00", 2)], until=until)
    line = order.lines.get()
    nonsense: list[Any] = [0, -1, 101, True, "1", 1.5, None]
    for units in nonsense:
        refuses(order, Refused, lambda units=units: getattr(system, verb)(number=order.number, lines={line.pk: units}))


def test_lines_of_another_order_are_refused(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order, other = factories.place_order(until="paid"), factories.place_order(until="paid")
    foreign = other.lines.get()
    refuses(order, BadLines, lambda: system.cancel(number=order.number, lines={foreign.pk: 1}))
    refuses(order, BadLines, lambda: system.cancel(number=order.number, lines={}))


@pytest.mark.parametrize("verb", ["approve", "start_preparing", "take_payment", "ship"])
def test_a_hold_keeps_an_order_where_it_is(verb: str, system: EventHandler, refuses: Callable[..., Refused]) -> None:
    until = {"approve": "", "start_preparing": "approved", "take_payment": "preparing", "ship": "paid"}[verb]
    order = factories.place_order(until=until)
    hold = system.place_hold(number=order.number, kind=Hold.Kind.FRAUD, reason="Looks odd")
    no = refuses(order, OrderOnHold, lambda: getattr(system, verb)(number=order.number))
    assert "Fraud suspected" in str(no)
    system.release_hold(number=order.number, hold_id=hold.pk)
    getattr(system, verb)(number=order.number)


def test_a_form_made_on_an_older_version_is_told_who_changed_what(
    staff: Callable[..., User], system: EventHandler, refuses: Callable[..., Refused]
) -> None:
    order = factories.place_order()
    colleague = staff("Admin")
    seen = order.version
    get_event_handler(Actor.staff(colleague)).approve(number=order.number)
    order.refresh_from_db()
    no = refuses(order, Refused, lambda: system.cancel(number=order.number, version=seen))
    assert no.code == "order_changed"
    assert colleague.get_full_name() in str(no)
    assert "approved the order" in str(no)


def test_a_plan_that_no_longer_holds_is_not_executed(system: EventHandler, refuses: Callable[..., Refused]) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    line = order.lines.get()
    plan = system.plan_cancellation(number=order.number)
    assert plan.refund == Decimal("30.00")
    system.cancel(number=order.number, lines={line.pk: 1})
    refuses(order, PlanChanged, lambda: system.cancel(number=order.number, plan=plan))


# The reason wants to know who asked for it.
ASKED = Contact(name="Ada", channel="phone")
VERBS: dict[str, tuple[str, Callable[[EventHandler, Order], Any]]] = {
    "approve": ("", lambda h, o: h.approve(number=o.number)),
    "start_preparing": ("approved", lambda h, o: h.start_preparing(number=o.number)),
    "take_payment": ("preparing", lambda h, o: h.take_payment(number=o.number)),
    "ship": ("paid", lambda h, o: h.ship(number=o.number)),
    "deliver": ("shipped", lambda h, o: h.deliver(number=o.number)),
    "cancel": ("", lambda h, o: h.cancel(number=o.number, reason="changed_mind", contact=ASKED)),
    "cancel_prepared": ("preparing", lambda h, o: h.cancel(number=o.number, reason="changed_mind", contact=ASKED)),
    "take_back": ("shipped", lambda h, o: h.take_back(number=o.number, lines={o.lines.get().pk: (1, "sellable")})),
    "refund": ("paid", lambda h, o: h.refund(number=o.number, amount=Decimal("1.00"), note="sorry")),
    "hold": ("", lambda h, o: h.place_hold(number=o.number, kind="fraud")),
    "readdress": ("", lambda h, o: h.change_address(number=o.number, address=factories.address(city="Kiel"))),
    "note": ("", lambda h, o: h.write_note(number=o.number, message="Hello")),
}
MAY = {
    "Admin": set(VERBS),
    "Store Manager": set(VERBS),
    "Fulfilment": {"start_preparing", "ship", "deliver", "cancel", "take_back", "hold", "note"},
    "Customer Service": {"cancel", "readdress", "note", "hold"},
    None: set(),
}
# They may start it; somebody else has to agree.
WITH_APPROVAL = {("Fulfilment", "cancel_prepared"), ("Customer Service", "cancel_prepared")}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("role", MAY)
def test_each_role_does_what_it_may_and_nothing_else(
    role: str | None, verb: str, staff: Callable[..., User], refuses: Callable[..., Refused]
) -> None:
    until, call = VERBS[verb]
    order = factories.place_order(until=until)
    handler = get_event_handler(Actor.staff(staff(role, order.store)))
    if verb in MAY[role]:
        call(handler, order)
    elif (role, verb) in WITH_APPROVAL:
        refuses(order, ApprovalNeeded, lambda: call(handler, order))
    else:
        refuses(order, NotAllowed, lambda: call(handler, order))


@pytest.mark.parametrize("verb", VERBS)
def test_staff_of_another_store_do_not_find_the_order(
    verb: str, staff: Callable[..., User], refuses: Callable[..., Refused]
) -> None:
    until, call = VERBS[verb]
    order = factories.place_order(until=until)
    handler = get_event_handler(Actor.staff(staff("Store Manager", factories.StoreFactory())))
    refuses(order, NotFound, lambda: call(handler, order))


@pytest.mark.parametrize("verb", VERBS)
def test_another_customer_does_not_find_the_order(verb: str, refuses: Callable[..., Refused]) -> None:
    until, call = VERBS[verb]
    order = factories.place_order(until=until, customer=factories.UserFactory())
    handler = get_event_handler(Actor.customer(factories.UserFactory()))
    refuses(order, NotFound, lambda: call(handler, order))


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"cancel", "cancel_prepared", "readdress"}))
def test_a_customer_cannot_do_what_staff_do(verb: str, refuses: Callable[..., Refused]) -> None:
    until, call = VERBS[verb]
    customer = factories.UserFactory()
    order = factories.place_order(until=until, customer=customer)
    refuses(order, NotAllowed, lambda: call(get_event_handler(Actor.customer(customer)), order))


def test_the_status_cannot_be_assigned(system: EventHandler) -> None:
    order = factories.place_order()
    with pytest.raises(AttributeError):
        order.status = Status.SHIPPED


def test_journal_and_events_are_written_once(system: EventHandler) -> None:
    order = factories.place_order(until="shipped")
    for row in (order.journal.first(), order.shipping_events.first(), order.payment_events.first()):
        assert row is not None
        with pytest.raises(TypeError, match="written once"):
            row.save()
        with pytest.raises(TypeError, match="never deleted"):
            row.delete()
