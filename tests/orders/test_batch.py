"""Many orders cancelled together: the same rows as one by one, in a fixed number of statements, each failing alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from notifications.models import Message
from orders.models import (
    Cancellation,
    CancellationReason,
    CancellationRequest,
    CommunicationEvent,
    JournalEntry,
    Order,
    OrderLine,
    OrderNote,
    OrderStatusChange,
    PaymentEvent,
    PaymentEventQuantity,
    ShippingEvent,
    ShippingEventQuantity,
    Status,
)
from orders.processing import EventHandler, get_event_handler
from orders.processing.requesting import Wish
from payments.models import Payment, Refund, Transaction
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store
from tests import factories

pytestmark = pytest.mark.django_db
LINES = [("10.00", 2), ("3.33", 3)]


# --- the same as one by one -------------------------------------------------------------------------------------------


def asked_for(order: Order, system: EventHandler, work: Any) -> None:
    line = order.lines.first()
    reason = CancellationReason.objects.get(code="changed_mind")
    wish = Wish(line_id=line.pk, units=1, type=CancellationRequest.Type.CANCEL, reason=reason)
    system.request_cancellation(number=order.number, wishes=[wish])


def partly_captured(order: Order, system: EventHandler, work: Any) -> None:
    system.take_payment(number=order.number, lines={order.lines.first().pk: 1})
    work()


def held(order: Order, system: EventHandler, work: Any) -> None:
    system.place_hold(number=order.number, kind="fraud", reason="odd")


def partly_cancelled(order: Order, system: EventHandler, work: Any) -> None:
    system.cancel(number=order.number, lines={order.lines.first().pk: 1})
    work()


def cancelled(order: Order, system: EventHandler, work: Any) -> None:
    system.cancel(number=order.number)
    work()


# name → how it is placed, and what happens to it before it is cancelled
KINDS: dict[str, tuple[dict[str, Any], Callable[..., None] | None]] = {
    "unpaid": ({"pay": False}, None),
    "authorized": ({"until": "approved"}, None),
    "captured": ({"until": "paid", "shipping": "4.90"}, None),
    "partly captured": ({"until": "preparing"}, partly_captured),
    "with a discount": ({"until": "paid", "discount": "3.00"}, None),
    "asked for": ({"until": "approved"}, asked_for),
    "on hold": ({}, held),
    "in German": ({"until": "paid", "language": "de"}, None),
    "without an address to write to": ({"email": ""}, None),
    "partly cancelled": ({"until": "paid"}, partly_cancelled),
    "cancelled": ({}, cancelled),
    "shipped": ({"until": "shipped"}, None),
}
# Fields that are different for each row, or for each order's own rows.
DIFFERENT = {"id", "uuid", "hash", "previous_hash", "number", "key", "sku", "name", "product", "stock_record"}
DIFFERENT |= {"order", "event", "message", "payment", "refund", "shipping_event", "shipping_address", "billing_address"}
DIFFERENT |= {"gateway_reference", "subject", "text", "html"}  # made of the above, or by others
IDS = {"shipping", "payment", "payment_id", "transaction", "id", "requests", "requests_answered", "cancellation"}


def timeless(words: object) -> str:
    """Words without the time of day: the two were done one after the other."""
    return re.sub(r"\d\d:\d\d:\d\d", "…", str(words))


def test_the_same_rows_as_one_by_one(
    system: EventHandler, store: Store, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    made: dict[str, list[Order]] = {}
    for name, (how, then) in KINDS.items():
        made[name] = [factories.place_order(LINES, store=store, **how) for _twice in range(2)]
        for order in made[name] if then else []:
            then(order, system, work)
    work()
    alone, together = ({name: pair[n].number for name, pair in made.items()} for n in (0, 1))
    versions = dict.fromkeys([*alone.values(), *together.values()])
    for numbers in (alone, together):
        numbers["changed meanwhile"] = factories.place_order(LINES, store=store).number
        versions[numbers["changed meanwhile"]] = 1
        numbers["unknown"] = "424242"

    def outcome_of_loop(number: str) -> Any:
        try:
            return system.cancel(
                number=number, reason="changed_mind", note="gone", version=versions.get(number), cause=f"loop:{number}"
            )
        except Refused as no:
            return no

    one_by_one = {name: outcome_of_loop(number) for name, number in alone.items()}
    orders = {number: versions.get(number) for number in together.values()}
    outcomes = system.cancel_many(orders=orders, cause="batch", reason="changed_mind", note="gone")
    assert list(outcomes) == list(together.values())
    for name, number in together.items():
        expected, found = one_by_one[name], outcomes[number]
        assert type(found) is type(expected), f"{name}: {found!r}"
        if isinstance(expected, Refused):
            words = str(expected).replace(alone[name], number)
            assert (found.code, timeless(found)) == (expected.code, timeless(words))
        if name != "unknown":
            assert differences(everything_about(number), everything_about(alone[name])) == [], name
    assert {type(outcome) for outcome in outcomes.values()} > {ShippingEvent}
    work()
    for name in KINDS:
        assert differences(everything_about(together[name]), everything_about(alone[name])) == [], name
    assert books() == []


def everything_about(number: str) -> dict[str, Any]:
    """All rows of an order, without what is different for each: ids, times, keys."""
    order = Order.objects.get(number=number)
    positions = {str(line.pk): f"line {line.position}" for line in order.lines.all()}
    found: dict[str, Any] = {
        model.__name__: [shown(row, number, positions) for row in model.objects.filter(**which).order_by("pk")]
        for model, which in {
            Order: {"pk": order.pk},
            OrderLine: {"order": order},
            ShippingEvent: {"order": order},
            ShippingEventQuantity: {"event__order": order},
            PaymentEvent: {"order": order},
            PaymentEventQuantity: {"event__order": order},
            Payment: {"reference": number},
            Transaction: {"payment__reference": number},
            Refund: {"reference": number},
            Cancellation: {"order": order},
            CancellationRequest: {"order": order},
            JournalEntry: {"order": order},
            OrderStatusChange: {"order": order},
            CommunicationEvent: {"order": order},
            Message: {"reference": number},
        }.items()
    }
    found["links"] = sorted(
        (event.event_type.code, transaction.kind, event.refund is not None)
        for event in PaymentEvent.objects.filter(order=order)
        for transaction in event.transactions.all()
    )
    jobs = Job.objects.filter(reference=number).exclude(kind="orders.return_stock")
    found["jobs"] = sorted(jobs.values_list("kind", "state", "store"))
    returns = Job.objects.filter(kind="orders.return_stock").values_list("args", "state", "store")
    of_events = {pk: (state, s) for args, state, s in returns for pk in args.get("events") or [args["event"]]}
    events = ShippingEvent.objects.filter(order=order).order_by("pk").values_list("pk", flat=True)
    found["returns"] = [of_events.get(pk) for pk in events]
    return found


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two values differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [words for key in one for words in differences(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            words
            for n, pair in enumerate(zip(one, other, strict=True))
            for words in differences(*pair, f"{where}[{n}]")
        ]
    return [] if one == other else [f"{where}: {one!r} is not {other!r}"]


def shown(row: models.Model, number: str, positions: dict[str, str]) -> dict[str, Any]:
    fields = {f.name: f.value_from_object(row) for f in row._meta.concrete_fields}
    return {name: plain(v, number, positions, name) for name, v in fields.items() if name not in DIFFERENT}


def plain(value: Any, number: str, positions: dict[str, str], name: str = "") -> Any:
    """A value without ids and times: lines by their position, numbers that name something as #."""
    if name in IDS:
        return bool(value)
    if name in {"line", "line_id"}:
        return positions[str(value)]
    if name == "payments":
        return sorted(value.values())
    if isinstance(value, dict):
        keys = {k: positions.get(k) or ("#" if k.isdigit() else k) for k in value}
        return {keys[k]: plain(v, number, positions, k) for k, v in value.items() if k not in DIFFERENT}
    if isinstance(value, list):
        return [plain(v, number, positions) for v in value]
    if isinstance(value, datetime):
        return "a time"
    if isinstance(value, str):
        return re.sub(r"(?<=:)[\dN]+|(?<=SKU-)\d+|\d{4}-\d\d-.*", "#", value.replace(number, "N")).replace(
            "loop:", "batch:"
        )
    return value


# --- each fails alone -------------------------------------------------------------------------------------------------


class Particular(EventHandler):
    """A shop's handler: it forbids one order, breaks at another, and writes a note on each that it cancels."""

    writes = False

    def cancel(self, *, number: str, **kwargs: Any) -> ShippingEvent:
        event = super().cancel(number=number, **kwargs)
        if self.writes:
            OrderNote.objects.create(
                order=event.order, message="seen", author="shop", created_at=self.as_of, updated_at=self.as_of
            )
            assert ShippingEvent.objects.get(pk=event.pk).line_quantities.count() == len(LINES)
        if number == self.kwargs["forbidden"]:
            raise Refused("Not this one.", code="not_this_one")
        if number == self.kwargs["broken"]:
            raise RuntimeError("a mistake in the shop's own code")
        return event


@pytest.mark.parametrize("writes", [False, True])
def test_one_order_that_fails_leaves_nothing_and_the_others_go_on(
    writes: bool, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    orders = [factories.place_order(LINES, until=until) for until in ("paid", "paid", "approved", "")]
    numbers = [order.number for order in orders]
    handler = Particular(actor=Actor.system(), forbidden=numbers[1], broken=numbers[2])
    handler.writes = writes
    outcomes = handler.cancel_many(orders=dict.fromkeys(numbers), cause="batch", reason="changed_mind")
    assert [type(outcomes[number]).__name__ for number in numbers] == [
        "ShippingEvent",
        "Refused",
        "RuntimeError",
        "ShippingEvent",
    ]
    work()
    for order, ended in zip(orders, (True, False, False, True), strict=True):
        order.refresh_from_db()
        assert (order.status == Status.CANCELLED) is ended
        assert ShippingEvent.objects.filter(order=order, event_type__code="cancelled").count() == ended
        assert OrderNote.objects.filter(order=order).count() == (ended and writes)
        assert Message.objects.filter(reference=order.number, event="order_cancelled").count() == ended
        payment = Payment.objects.get(reference=order.number)
        assert (payment.refunded + payment.voided == payment.authorized) is ended
    assert books() == []


def test_the_same_cause_again_cancels_nothing_again(system: EventHandler, work: Callable[[], int]) -> None:
    orders = dict.fromkeys(factories.place_order(LINES, until="paid").number for _n in range(3))
    first = system.cancel_many(orders=orders, cause="batch", reason="changed_mind")
    counted = {model: model.objects.count() for model in (ShippingEvent, JournalEntry, Transaction, Message, Job)}
    again = system.cancel_many(orders=orders, cause="batch", reason="changed_mind")
    assert {number: event.pk for number, event in again.items()} == {n: event.pk for n, event in first.items()}
    assert counted == {model: model.objects.count() for model in counted}


def test_goods_that_cannot_go_back_wait_for_a_person_alone(
    system: EventHandler, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    store = factories.StoreFactory()
    orders = [factories.place_order(LINES, store=store, until="approved") for _n in range(3)]
    system.cancel_many(orders={order.number: None for order in orders}, cause="batch", reason="changed_mind")
    assert Job.objects.filter(kind="orders.return_stock").count() == 1
    OrderLine.objects.filter(order=orders[1]).update(stock_record=None)
    work()
    waiting = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    assert waiting.reference == orders[1].number
    left = {order.number: sum(order.lines.values_list("allocated", flat=True)) for order in orders}
    assert left == {orders[0].number: 0, orders[1].number: 5, orders[2].number: 0}


# --- sets -------------------------------------------------------------------------------------------------------------


def test_five_and_forty_orders_take_the_same_number_of_statements(
    system: EventHandler, store: Store, on_postgres: bool
) -> None:
    products = [factories.stocked(store) for _n in range(3)]
    counts = []
    for size in (5, 40):
        orders = [
            factories.place_order(products, store=store, until="approved", pay=n % 2 == 0).number
            if n % 2 == 0
            else factories.place_order(products, store=store, pay=False).number
            for n in range(size)
        ]
        with CaptureQueriesContext(connection) as queries:
            outcomes = system.cancel_many(orders=dict.fromkeys(orders), cause=f"batch {size}", reason="changed_mind")
        assert all(isinstance(outcome, ShippingEvent) for outcome in outcomes.values())
        counts.append(len(queries))
    if on_postgres:
        assert counts[0] == counts[1]
    else:
        # Django gives SQLite at most 999 parameters a statement.
        assert counts[1] <= counts[0] + 40 * 31 * 3 // 999 + 10


@pytest.mark.race
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_batch_and_a_single_cancel_of_one_of_its_orders_cancel_it_once(
    at_once: Callable[..., list[Any]], work: Callable[[], int], books: Callable[[], list[str]], on_postgres: bool
) -> None:
    if not on_postgres:
        pytest.skip("needs PostgreSQL")
    numbers = [factories.place_order(LINES, until="paid").number for _n in range(4)]

    def handler() -> EventHandler:
        return get_event_handler(Actor.system())

    def batch(order: list[str], cause: str) -> Callable[[], Any]:
        return lambda: handler().cancel_many(orders=dict.fromkeys(order), cause=cause, reason="changed_mind")

    results = at_once(
        batch(numbers, "one"),
        batch(numbers[::-1], "two"),
        lambda: handler().cancel(number=numbers[2], reason="changed_mind"),
        lambda: handler().cancel(number=numbers[1], reason="changed_mind"),
    )
    assert not [r for r in results if isinstance(r, Exception) and not isinstance(r, Refused)]
    outcomes = [results[0][number] for number in numbers] + [results[1][number] for number in numbers] + results[2:]
    assert sum(isinstance(outcome, ShippingEvent) for outcome in outcomes) == len(numbers)
    assert all(isinstance(outcome, ShippingEvent | Refused) for outcome in outcomes)
    work()
    assert ShippingEvent.objects.filter(event_type__code="cancelled").count() == len(numbers)
    assert books() == []
