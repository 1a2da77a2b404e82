"""Whole lives of orders, at random: whatever is asked in whatever order, the books add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orders.models import Order
from orders.processing import EventHandler, PaymentChoice, get_event_handler
from orders.processing.verify import verify
from payments.models import DemoGatewayFault, Payment
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.money import first_units, rounded
from tests import factories

pytestmark = pytest.mark.django_db

PRICES = {"EUR": ["0.01", "3.33", "10.00", "99.99"], "JPY": ["1", "333", "1000"], "KWD": ["0.001", "3.333", "10.000"]}
FAULTS = ["decline", "timeout_before", "timeout_after", "answer_twice", "unavailable", "pending"]
VERBS = [
    "approve",
    "start_preparing",
    "take_payment",
    "ship",
    "deliver",
    "cancel",
    "take_back",
    "refund",
    "fault",
    "work",
    "release",
]
RELAXED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@contextmanager
def undone() -> Iterator[None]:
    """Whatever an example did is taken back after it."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined] # as Django's TestCase marks its own, so that durable blocks inside may pass
    with block:
        yield
        transaction.set_rollback(True)


@st.composite
def carts(draw: Any) -> dict[str, Any]:
    currency = draw(st.sampled_from(sorted(PRICES)))
    lines = draw(st.lists(st.tuples(st.sampled_from(PRICES[currency]), st.integers(1, 7)), min_size=1, max_size=3))
    worth = sum((Decimal(price) * quantity for price, quantity in lines), Decimal(0))
    off = rounded(worth * draw(st.integers(0, 60)) / 100, currency)
    return {"currency": currency, "lines": lines, "discount": off, "shipping": draw(st.sampled_from(["0", "5", "7"]))}


def place(cart: dict[str, Any], **more: Any) -> Order:
    store = factories.StoreFactory(currency=cart["currency"])
    return factories.place_order(
        cart["lines"], store=store, discount=cart["discount"], shipping=cart["shipping"], **more
    )


def do(handler: EventHandler, order: Order, verb: str, line: int, units: int) -> None:
    """One thing that somebody wants done; whether it is possible is the handler's to say."""
    number = order.number or ""
    lines = list(order.lines.all())
    chosen = {lines[line % len(lines)].pk: units}
    if verb == "fault":
        DemoGatewayFault.objects.create(behaviour=FAULTS[units % len(FAULTS)], remaining=1)
    elif verb == "work":
        jobs.drain(clock=lambda: timezone.now() + timedelta(hours=units))
    elif verb == "take_back":
        handler.take_back(number=number, lines={pk: (n, "quarantine") for pk, n in chosen.items()})
    elif verb == "refund":
        handler.refund(number=number, amount=rounded(Decimal(units) / 2, order.currency), note="goodwill")
    elif verb == "release":
        for hold in order.holds.filter(released_at=None):
            handler.release_hold(number=number, hold_id=hold.pk)
    elif verb in {"approve", "start_preparing"}:
        getattr(handler, verb)(number=number)
    else:
        getattr(handler, verb)(number=number, lines=None if units == 7 else chosen)


@pytest.mark.parametrize("examples", [8, pytest.param(25, marks=pytest.mark.nightly)])
def test_whatever_happens_to_an_order_its_books_add_up(examples: int) -> None:
    @settings(max_examples=examples, **RELAXED)
    @given(
        cart=carts(),
        steps=st.lists(
            st.tuples(st.sampled_from(VERBS), st.integers(0, 2), st.integers(1, 7)), min_size=5, max_size=25
        ),
        parts=st.integers(1, 2),
    )
    def search(cart: dict[str, Any], steps: list[tuple[str, int, int]], parts: int) -> None:
        with undone():
            smallest = Decimal(PRICES[cart["currency"]][0])
            choices = [PaymentChoice(gateway="demo", amount=smallest)] if parts == 2 else []
            try:
                order = place(cart, payments=[*choices, PaymentChoice(gateway="demo")])
            except Refused:
                return  # the first payment was more than the whole order
            handler = get_event_handler(Actor.system())
            for verb, line, units in steps:
                try:
                    do(handler, order, verb, line, units)
                except Refused:
                    continue
            for hour in range(30, 40):
                jobs.drain(clock=lambda hour=hour: timezone.now() + timedelta(hours=hour))
            assert list(verify()) == []

    search()


@pytest.mark.parametrize("examples", [8, pytest.param(25, marks=pytest.mark.nightly)])
def test_partial_cancellations_give_back_exactly_what_was_paid(examples: int) -> None:
    @settings(max_examples=examples, **RELAXED)
    @given(cart=carts(), order_of=st.randoms(use_true_random=False))
    def search(cart: dict[str, Any], order_of: Any) -> None:
        with undone():
            order = place(cart, until="paid")
            handler = get_event_handler(Actor.system())
            units = [line.pk for line in order.lines.all() for _unit in range(line.quantity)]
            order_of.shuffle(units)
            cancelled: dict[int, int] = {}
            for pk in units:
                handler.cancel(number=order.number, lines={pk: 1})
                cancelled[pk] = cancelled.get(pk, 0) + 1
                paid = Payment.objects.filter(reference=order.number)
                worth = sum(
                    first_units(line.total, line.quantity, cancelled.get(line.pk, 0), order.currency)
                    for line in order.lines.all()
                )
                assert sum(p.refund_reserved for p in paid) == worth
            assert sum(p.refund_reserved for p in Payment.objects.filter(reference=order.number)) == order.total

    search()


# Numbers that nothing follows from in units, stock or money: a table, or one field of it, and why.
NOT_IN_THE_BOOKS = {
    "payments.Transaction.round": "how often a gateway was asked anew",
    "payments.Attempt.number": "which try it was",
    "payments.DemoGatewayEntry": "the gateway that plays the bank",
    "payments.DemoGatewayFault": "the gateway that plays the bank",
    "inventory.StockRecord.low_stock_threshold": "a setting: when to warn",
    "inventory.StockAlert": "a warning",
    "orders.OrderLine.position": "where it stands on a page",
    "orders.CancellationReason": "a setting: its place in the list",
    "orders.CancelRule": "a setting: what customers may cancel, how long staff may undo it",
    "orders.ApprovalLevel": "a setting: who approves, and how soon they are reminded",
    "orders.ApprovalPolicy": "a setting: what needs approval",
    "orders.Approval": "who may decide; the journal has the level that was asked",
    "orders.BulkRun": "how a run is worked off; each of its orders has its own books",
    "orders.BulkItem": "how a run is worked off; each of its orders has its own books",
    "orders.CancellationFigure": "derived: counted anew from the cancellations",
    "orders.FigureCursor": "derived: how far the counting has come",
    "orders.RecurringOrder": "what is to be ordered next; an order that was made of it has its own books",
    "orders.RecurringItem": "what is to be ordered next; an order that was made of it has its own books",
    "orders.RecurringChange": "the history of a series: which of its orders it was about",
}


@pytest.mark.thorough
def test_a_single_tampered_number_is_found(
    books: Callable[[], list[str]], system: EventHandler, work: Callable[[], int]
) -> None:
    """Every number of every table that belongs to an order, changed by one: verify_orders names it."""
    order = factories.place_order([("10.00", 3), ("5.00", 2)], discount="1.00", shipping="4.90", until="paid")
    first, second = order.lines.all()
    system.cancel(number=order.number, lines={second.pk: 1}, reason="out_of_stock")
    system.ship(number=order.number)
    system.take_back(number=order.number, lines={first.pk: (1, "sellable")})
    work()
    assert books() == []
    amounts = (models.DecimalField, models.PositiveIntegerField, models.IntegerField, models.PositiveSmallIntegerField)
    missed = []
    tables = [*apps.get_app_config("orders").get_models(), *apps.get_app_config("payments").get_models()]
    tables += [m for m in apps.get_app_config("inventory").get_models() if m.__name__.startswith("Stock")]
    for model in tables:
        for field in model._meta.get_fields():
            name = f"{model._meta.app_label}.{model.__name__}.{field.name}"
            skip = name in NOT_IN_THE_BOOKS or f"{model._meta.app_label}.{model.__name__}" in NOT_IN_THE_BOOKS
            if skip or not isinstance(field, amounts) or field.primary_key:
                continue
            for row in model._base_manager.exclude(**{field.name: None}).order_by("pk")[:3]:
                for change in (1, -1):
                    with transaction.atomic():
                        try:
                            with transaction.atomic():
                                value = getattr(row, field.name) + change
                                model._base_manager.filter(pk=row.pk).update(**{field.name: value})
                        except IntegrityError:
                            pass  # a CHECK refused it, which is better still
                        else:
                            if not books():
                                missed.append(f"{name} {change:+d} (row {row.pk})")
                        transaction.set_rollback(True)
    assert missed == [], "\n".join(missed)
