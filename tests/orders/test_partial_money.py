"""Partial cancellations in any order give back, in sum, exactly what was paid for the cancelled units."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orders.models import Order, Status
from orders.processing import EventHandler, Item, get_event_handler
from orders.processing.verify import verify
from payments.models import DemoGatewayEntry, Payment
from shop import jobs
from shop.actors import Actor
from shop.money import first_units, next_units, quantum, rounded
from tests import factories
from tests.examples import examples
from tests.orders.test_lives import undone

PRICES = {
    "EUR": ["0.01", "0.07", "3.33", "10.00", "99.99"],
    "JPY": ["1", "7", "333", "1000"],
    "KWD": ["0.001", "0.007", "3.333", "10.000"],
}
RELAXED = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}


@dataclass(frozen=True)
class Cart:
    """What an order is made of: lines of (price, quantity, tax rate)."""

    currency: str
    lines: tuple[tuple[str, int, str], ...]
    discount: Decimal
    shipping: str
    prices_include_tax: bool

    def place(self, **more: Any) -> Order:
        store = factories.StoreFactory(currency=self.currency, prices_include_tax=self.prices_include_tax)
        items = [
            Item(
                product=factories.stocked(store, price=Decimal(price), tax_rate=Decimal(rate)),
                quantity=quantity,
                unit_price=Decimal(price),
            )
            for price, quantity, rate in self.lines
        ]
        return factories.place_order(items, store=store, discount=self.discount, shipping=self.shipping, **more)


@st.composite
def carts(draw: Any) -> Cart:
    currency = draw(st.sampled_from(sorted(PRICES)))
    line = st.tuples(st.sampled_from(PRICES[currency]), st.integers(1, 4), st.sampled_from(["0", "7.00", "19.00"]))
    lines = draw(st.lists(line, min_size=1, max_size=2))
    worth = sum((Decimal(price) * quantity for price, quantity, _rate in lines), Decimal(0))
    off = rounded(worth * draw(st.integers(0, 60)) / 100, currency)
    return Cart(currency, tuple(lines), off, draw(st.sampled_from(["0", "5", "7"])), draw(st.booleans()))


def handler() -> EventHandler:
    return get_event_handler(Actor.system())


def refunded(order: Order) -> Decimal:
    """What goes back, as it is decided; the end of each example asks the gateway what really went."""
    return sum((p.refund_reserved for p in Payment.objects.filter(reference=order.number)), Decimal(0))


def one_by_one(order: Order) -> list[int]:
    """The line of each unit there is."""
    return [line.pk for line in order.lines.all() for _unit in range(line.quantity)]


# ---------------------------------------------------------------------------------------------------------------------
# The rule by itself


@settings(max_examples=examples(150), **RELAXED)
@given(
    currency=st.sampled_from(sorted(PRICES)),
    cents=st.integers(0, 100_000),
    parts=st.lists(st.integers(1, 4), min_size=1, max_size=8),
)
def test_however_a_line_is_taken_apart_its_pieces_are_what_it_cost(currency: str, cents: int, parts: list[int]) -> None:
    total, quantity, taken = cents * quantum(currency), sum(parts), 0
    pieces = []
    for count in parts:
        pieces.append(next_units(total, quantity, taken, count, currency))
        taken += count
    assert sum(pieces) == total
    assert all(piece >= 0 and piece == rounded(piece, currency) for piece in pieces)
    fair = [total * count / quantity for count in parts]
    assert all(abs(piece - share) <= quantum(currency) for piece, share in zip(pieces, fair, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Through the handler, the worker and the gateway


@pytest.mark.django_db
@settings(max_examples=6, **RELAXED)
@given(cart=carts(), seed=st.integers(0, 999), sizes=st.lists(st.integers(1, 3), max_size=9))
def test_every_partial_refund_is_the_price_of_its_units_and_all_of_them_are_what_was_paid(
    cart: Cart, seed: int, sizes: list[int]
) -> None:
    with undone():
        order = cart.place(until="paid")
        left = one_by_one(order)
        Random(seed).shuffle(left)
        cancelled: dict[int, int] = {}
        while left:
            size = sizes.pop() if sizes else 1
            some, left = left[:size], left[size:]
            lines = {pk: some.count(pk) for pk in some}
            plan = handler().plan_cancellation(number=order.number or "", lines=lines)
            before = refunded(order)
            handler().cancel(number=order.number or "", lines=lines, plan=plan)
            for pk, count in lines.items():
                cancelled[pk] = cancelled.get(pk, 0) + count
            # What the plan said is what moved, and together it is what these units had cost, to the cent.
            assert refunded(order) - before == plan.refund
            worth = (
                first_units(line.total, line.quantity, cancelled.get(line.pk, 0), order.currency)
                for line in order.lines.all()
            )
            assert refunded(order) == sum(worth, Decimal(0))
        jobs.drain(seconds=60)
        order = Order.objects.get(pk=order.pk)
        assert (order.status, refunded(order)) == (Status.CANCELLED, order.total)
        at_gateway = DemoGatewayEntry.objects.filter(operation="refund", status="succeeded")
        assert sum((entry.amount for entry in at_gateway), Decimal(0)) == order.total
        assert list(verify()) == []


@pytest.mark.django_db
@settings(max_examples=5, **RELAXED)
@given(cart=carts(), seed=st.integers(0, 999), keep=st.integers(1, 3))
def test_what_ships_and_what_is_cancelled_share_what_was_paid(cart: Cart, seed: int, keep: int) -> None:
    """Cancelled before the money is taken, after it, and the rest shipped: nobody pays for what they do not get."""
    with undone():
        order = cart.place(until="preparing")
        left = one_by_one(order)
        Random(seed).shuffle(left)
        shipped, left = left[:keep], left[keep:]
        early, late = left[: len(left) // 2], left[len(left) // 2 :]
        for pk in early:
            handler().cancel(number=order.number or "", lines={pk: 1})
        if Order.objects.get(pk=order.pk).facts.due:
            handler().take_payment(number=order.number or "")
        jobs.drain(seconds=60)
        for pk in late:
            handler().cancel(number=order.number or "", lines={pk: 1})
        handler().ship(number=order.number or "")
        jobs.drain(seconds=60)
        worth = sum(
            (
                first_units(line.total, line.quantity, line.quantity - early.count(line.pk), order.currency)
                - first_units(line.total, line.quantity, late.count(line.pk), order.currency)
                for line in order.lines.all()
            ),
            Decimal(0),
        )
        facts = Order.objects.get(pk=order.pk).facts
        assert facts.captured - facts.refunded == worth
        assert sum(line.shipped for line in facts.lines) == len(shipped)
        assert list(verify()) == []
