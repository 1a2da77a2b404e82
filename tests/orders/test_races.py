"""Many hands on one order: one outcome, books right; and the controls that show the race when the lock is gone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection

from inventory.services import OutOfStock
from orders import rules
from orders.models import Facts, Order, OrderLine, OrderQuerySet, Status
from orders.processing import Item, PaymentChoice, Placement, get_event_handler
from payments.models import Payment
from payments.services import RefundTooLarge
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.race]


AtOnce = Callable[..., list[Any]]


def handler() -> Any:
    return get_event_handler(Actor.system())


def test_twenty_hands_cancel_ship_and_refund_one_order(at_once: AtOnce, books: Callable[[], list[str]]) -> None:
    order = factories.place_order([("10.00", 3), ("7.77", 2)], shipping="4.90", until="paid")
    number = order.number
    calls: list[Callable[[], Any]] = [
        *[lambda: handler().cancel(number=number) for _n in range(8)],
        *[lambda: handler().ship(number=number) for _n in range(6)],
        *[lambda: handler().refund(number=number, amount=order.total, note="all of it") for _n in range(6)],
    ]
    results = at_once(*calls)
    cancelled, shipped, refunded = results[:8], results[8:14], results[14:]
    won = [[not isinstance(r, Refused) for r in group] for group in (cancelled, shipped, refunded)]
    assert sum(won[0]) + sum(won[1]) == 1, "either one cancellation or one shipment"
    jobs.drain(seconds=60)
    order = Order.objects.get(pk=order.pk)
    assert order.status == (Status.CANCELLED if any(won[0]) else Status.SHIPPED)
    payment = Payment.objects.get(reference=number)
    assert payment.refunded <= payment.captured == order.total
    assert payment.refunded in {Decimal(0), order.total}
    assert books() == []


def test_four_buyers_of_the_last_unit_make_one_order(at_once: AtOnce, books: Callable[[], list[str]]) -> None:
    store = factories.StoreFactory()
    product = factories.stocked(store, units=1)

    def buy() -> Order:
        item = Item(product=product, quantity=1, unit_price=product.price)
        placement = Placement(
            store=store, items=[item], payments=[PaymentChoice(gateway="demo")], email="a@example.com"
        )
        return handler().place(placement)  # type: ignore[no-any-return]

    results = at_once(*[buy] * 4)
    assert Counter(type(r).__name__ for r in results) == {"Order": 1, "OutOfStock": 3}
    assert all(product.name in str(r) for r in results if isinstance(r, OutOfStock))
    assert Order.objects.count() == 1
    assert books() == []


def test_the_same_purchase_sent_eight_times_is_one_order(at_once: AtOnce) -> None:
    store: Store = factories.StoreFactory()
    product = factories.stocked(store)

    def buy() -> Order:
        item = Item(product=product, quantity=1, unit_price=product.price)
        payments = [PaymentChoice(gateway="demo")]
        placement = Placement(store=store, items=[item], payments=payments, email="a@example.com", idempotency_key="k")
        return handler().place(placement)  # type: ignore[no-any-return]

    assert len({order.pk for order in at_once(*[buy] * 8)}) == 1
    assert Order.objects.count() == 1


def test_the_loser_of_two_clicks_is_told_who_did_what(at_once: AtOnce) -> None:
    order = factories.place_order()
    version = order.version
    results = at_once(*[lambda: handler().approve(number=order.number, version=version)] * 2)
    refusals = [r for r in results if isinstance(r, Refused)]
    assert len(refusals) == 1
    assert refusals[0].code == "order_changed"
    assert "approved the order" in str(refusals[0])


def test_without_the_lock_two_cancellations_of_one_unit_would_both_get_in(
    at_once: AtOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same race with the order's lock taken away, held open until both have looked.

    Both then pass the guard. What stops the second is a last net: the payment's own lock, or the journal's numbers.
    """
    if connection.vendor == "sqlite":
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    order = factories.place_order([("10.00", 1)], until="paid")
    both_looked = threading.Barrier(2, timeout=60)
    plan = rules.plan_cancellation
    passed_the_guard: list[int] = []

    def plan_when_both_have_looked(facts: Facts, *args: Any, **kwargs: Any) -> rules.Plan:
        both_looked.wait()
        planned = plan(facts, *args, **kwargs)
        passed_the_guard.append(planned.unit_count)
        return planned

    monkeypatch.setattr(OrderQuerySet, "select_for_update", lambda rows, **_options: rows)
    monkeypatch.setattr(rules, "plan_cancellation", plan_when_both_have_looked)

    def cancel() -> Any:
        try:
            return handler().cancel(number=order.number)
        except IntegrityError as error:
            return error

    results = at_once(cancel, cancel)
    assert passed_the_guard == [1, 1], "both were allowed to cancel the one unit there is"
    assert sum(isinstance(result, IntegrityError | RefundTooLarge) for result in results) == 1


def test_with_the_lock_one_of_two_cancellations_is_refused(at_once: AtOnce) -> None:
    order = factories.place_order([("10.00", 1)], until="paid")
    results = at_once(*[lambda: handler().cancel(number=order.number)] * 2)
    assert sum(isinstance(result, Refused) for result in results) == 1
    assert OrderLine.objects.get(order=order).cancelled == 1
