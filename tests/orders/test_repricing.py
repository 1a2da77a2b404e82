"""A partial cancellation and the deal: kept by default, priced anew where the cancel rule says so, and shown before."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orders.models import CancelRule, Order
from orders.processing import Discount, EventHandler, Item, get_event_handler
from orders.processing.cancelling import Choices
from payments.models import Payment
from shop.actors import Actor
from tests import factories

pytestmark = pytest.mark.django_db


SPRING = Discount(name="Spring", amount=Decimal(6), minimum=Decimal(50))


@pytest.fixture
def order() -> Order:
    """Two kettles of 30 each; “Spring” takes 6 off from 50 on, and shipping (5 otherwise) is free from 50 on."""
    store = factories.StoreFactory()
    items = [
        Item(product=factories.stocked(store, price=Decimal(30)), quantity=1, unit_price=Decimal(30)) for _line in "ab"
    ]
    placed: Order = factories.place_order(
        items,
        store=store,
        discounts=[SPRING],
        shipping_free_from=Decimal(50),
        shipping_price_below=Decimal(5),
        until="paid",
    )
    return placed


def captured(order: Order) -> Decimal:
    return sum((p.captured - p.refunded for p in Payment.objects.filter(reference=order.number)), Decimal(0))


def test_the_deal_stays_unless_the_shop_says_otherwise(
    order: Order, system: EventHandler, work: Any, books: Any
) -> None:
    first = order.lines.first()
    system.cancel(number=order.number, lines={first.pk: 1}, reason="out_of_stock")
    work()
    assert captured(order) == Decimal(27), "the other kettle, with its share of the discount, sent for nothing"
    assert books() == []


def test_priced_anew_the_plan_says_what_is_kept_and_why_and_that_is_what_happens(
    order: Order, system: EventHandler, work: Any, books: Any
) -> None:
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    first, second = order.lines.all()
    handler = get_event_handler(Actor.system())
    plan = handler.planned(order.facts, Choices(lines={first.pk: 1}))
    assert (plan.value, plan.repriced, plan.refund) == (Decimal(27), Decimal(8), Decimal(19))
    assert len(plan.repriced_because) == 2
    assert "Spring" in plan.repriced_because[0]

    system.cancel(number=order.number, lines={first.pk: 1}, reason="out_of_stock", plan=plan)
    work()
    assert captured(order) == Decimal(35), "30 for the kettle that stays, 5 for sending it"
    order.refresh_from_db()
    assert order.repriced_total == Decimal(8)
    assert books() == []

    # In the end nothing stays: what was kept for what stayed goes back as well.
    handler = get_event_handler(Actor.system())
    handler.cancel(number=order.number, lines={second.pk: 1}, reason="out_of_stock")
    work()
    assert captured(order) == 0
    order.refresh_from_db()
    assert order.repriced_total == 0
    assert books() == []


def test_it_is_kept_once_and_never_more_than_goes_back(system: EventHandler, work: Any, books: Any) -> None:
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    store = factories.StoreFactory()
    product = factories.stocked(store, price=Decimal(4))
    order = factories.place_order(
        [Item(product=product, quantity=10, unit_price=Decimal(4))],
        store=store,
        discounts=[Discount(name="Bulk", amount=Decimal(10), minimum=Decimal(40))],
        until="paid",
    )
    line = order.lines.get()
    kept = []
    for _unit in range(10):
        handler = get_event_handler(Actor.system())
        handler.cancel(number=order.number, lines={line.pk: 1}, reason="out_of_stock")
        work()
        order.refresh_from_db()
        kept.append(order.repriced_total)
        assert books() == []
    assert kept[0] == Decimal(3), "the first unit paid 3, and no more than that can be kept of it"
    assert kept[-1] == 0
    assert captured(order) == 0


def test_what_has_not_been_paid_keeps_its_price(system: EventHandler, books: Any) -> None:
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    store = factories.StoreFactory()
    order = factories.place_order(
        [Item(product=factories.stocked(store, price=Decimal(30)), quantity=2, unit_price=Decimal(30))],
        store=store,
        discounts=[SPRING],
        until="approved",
    )
    plan = system.planned(order.facts, Choices(lines={order.lines.get().pk: 1}))
    assert plan.repriced == 0
    assert books() == []
