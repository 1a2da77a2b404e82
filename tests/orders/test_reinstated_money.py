"""What a reinstated unit costs: what the customer got back for it, whatever was kept then or given beside it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orders import rules
from orders.models import CancelRule, Order
from orders.processing import Discount, EventHandler, Item
from orders.processing.verify import verify
from payments.models import Payment
from shop import jobs
from tests import factories
from tests.orders.test_dearer_delivery import EXPRESS
from tests.orders.test_lives import undone
from tests.orders.test_partial_money import RELAXED, handler
from tests.orders.test_withdrawal import declare

Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def held(order: Order) -> Decimal:
    """What the shop has of the customer's money."""
    return sum((p.captured - p.refund_reserved for p in Payment.objects.filter(reference=order.number)), Decimal(0))


def paid_again(system: EventHandler, order: Order) -> Decimal:
    owed = fresh(order).facts.outstanding
    if owed:
        system.record_payment(number=order.number or "", amount=owed, surplus=True)
    return owed


def test_goodwill_is_not_asked_back_where_money_was_kept_on_purpose(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    line = order.lines.get()
    system.cancel(number=order.number or "", lines={line.pk: 1}, refund=False)
    system.refund(number=order.number or "", amount=Decimal(5), note="sorry")
    work()
    system.reinstate(number=order.number or "")
    order = fresh(order)
    assert (order.facts.outstanding, held(order)) == (0, 25), "the unit is paid with what was kept, the gift is theirs"
    assert books() == []


def test_units_cost_what_their_own_refund_was_not_what_was_kept_of_others(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 1), ("10.00", 1), ("4.00", 1)], until="paid")
    kept, refunded, _stays = order.lines.order_by("position")
    system.cancel(number=order.number or "", lines={kept.pk: 1}, refund=False)
    system.cancel(number=order.number or "", lines={refunded.pk: 1})
    work()
    system.reinstate(number=order.number or "", lines={refunded.pk: 1})
    assert fresh(order).facts.outstanding == Decimal(10), "this one's money went back"
    system.reinstate(number=order.number or "", lines={kept.pk: 1})
    assert fresh(order).facts.outstanding == Decimal(10), "this one's did not"
    assert books() == []


def test_what_once_paid_for_another_unit_does_not_pay_a_second_time(
    system: EventHandler, work: Work, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journals of before: whatever had been kept paid for whichever unit came back first."""
    order = factories.place_order([("10.00", 1), ("10.00", 1), ("4.00", 1)], until="paid")
    kept, refunded, _stays = order.lines.order_by("position")
    system.cancel(number=order.number or "", lines={kept.pk: 1}, refund=False)
    system.cancel(number=order.number or "", lines={refunded.pk: 1})
    work()
    with monkeypatch.context() as before:
        before.setattr(rules, "reopen", lambda *args, **more: rules.Reopening(Decimal(10), Decimal(0)))
        system.reinstate(number=order.number or "", lines={refunded.pk: 1})
    assert fresh(order).facts.outstanding == 0
    system.reinstate(number=order.number or "", lines={kept.pk: 1})
    assert (fresh(order).facts.outstanding, fresh(order).adjustment_total) == (Decimal(10), 0)
    assert books() == []


def test_what_goodwill_left_too_little_of_to_give_back_is_not_asked_for(
    system: EventHandler, work: Work, books: Books
) -> None:
    """30 paid, 5 given: cancelling all of it can give back no more than 25, and 25 is what it costs again."""
    order = factories.place_order([("10.00", 3)], until="paid")
    system.refund(number=order.number or "", amount=Decimal(5), note="sorry")
    system.cancel(number=order.number or "")
    work()
    assert held(order) == 0
    system.reinstate(number=order.number or "")
    assert paid_again(system, order) == Decimal(25)
    work()
    assert (fresh(order).facts.outstanding, held(order)) == (0, Decimal(25))
    assert books() == []


def test_what_was_kept_of_goods_that_came_back_pays_for_no_other(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    line = order.lines.get()
    system.ship(number=order.number or "", lines={line.pk: 1})
    system.take_back(number=order.number or "", lines={line.pk: (1, "damaged")}, deduction=Decimal(4))
    system.cancel(number=order.number or "", lines={line.pk: 1}, refund=False)
    work()
    assert held(order) == Decimal(24)  # 10 for what stays, 10 kept, 4 kept
    system.reinstate(number=order.number or "")
    work()
    assert (fresh(order).facts.outstanding, held(order)) == (0, Decimal(24))
    assert books() == []


def test_a_deposit_that_was_kept_counts_again(system: EventHandler, work: Work, books: Books) -> None:
    order = factories.place_order([("10.00", 3)], gateway="manual", pay=False)
    system.record_payment(number=order.number or "", amount=Decimal(5))
    system.cancel(number=order.number or "", refund=False)
    work()
    system.reinstate(number=order.number or "")
    assert paid_again(system, order) == Decimal(25)
    work()
    assert (fresh(order).facts.outstanding, held(order)) == (0, Decimal(30))
    assert books() == []


def test_what_a_withdrawal_kept_of_the_delivery_is_not_asked_for_twice(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], **EXPRESS, until="paid")
    declare(order)
    work()
    assert held(order) == Decimal("8.00")
    system.reinstate(number=order.number or "")
    assert fresh(order).facts.outstanding == Decimal("24.90")
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Priced anew

THREE = Discount(name="Three", amount=Decimal(6), minimum=Decimal(80))


@pytest.fixture
def kettles() -> Order:
    """Three kettles of 30; “Three” takes 6 off from 80 on. What stays is priced anew: one alone costs 30."""
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    store = factories.StoreFactory()
    product = factories.stocked(store, price=Decimal(30))
    items = [Item(product=product, quantity=1, unit_price=Decimal(30)) for _line in "abc"]
    order: Order = factories.place_order(items, store=store, discounts=[THREE], until="paid")
    return order


@pytest.mark.parametrize("at_once", [True, False])
def test_while_the_discount_stays_lost_a_unit_costs_what_it_costs_without_it(
    at_once: bool, kettles: Order, system: EventHandler, work: Work, books: Books
) -> None:
    first, second, _third = kettles.lines.order_by("position")
    number = kettles.number or ""
    for gone in [{first.pk: 1, second.pk: 1}] if at_once else [{first.pk: 1}, {second.pk: 1}]:
        system.cancel(number=number, lines=gone)
    work()
    assert (held(kettles), fresh(kettles).repriced_total) == (Decimal(30), Decimal(2))
    system.reinstate(number=number, lines={second.pk: 1})
    assert paid_again(system, kettles) == Decimal(30), "two kettles earn no discount"
    work()
    assert (held(kettles), fresh(kettles).repriced_total) == (Decimal(60), Decimal(4))
    assert books() == []
    system.reinstate(number=number, lines={first.pk: 1})
    assert paid_again(system, kettles) == Decimal(24), "three do"
    work()
    assert (held(kettles), fresh(kettles).repriced_total, fresh(kettles).adjustment_total) == (Decimal(84), 0, 0)
    assert books() == []


def test_what_was_not_paid_again_is_not_given_back(
    kettles: Order, system: EventHandler, work: Work, books: Books
) -> None:
    first, second, _third = kettles.lines.order_by("position")
    number = kettles.number or ""
    system.cancel(number=number, lines={first.pk: 1, second.pk: 1})
    work()
    system.reinstate(number=number, lines={second.pk: 1})
    assert fresh(kettles).facts.outstanding == Decimal(30)
    system.cancel(number=number, lines={second.pk: 1})
    work()
    assert held(kettles) == Decimal(30)
    assert books() == []
    system.cancel(number=number)
    work()
    assert held(kettles) == 0
    assert books() == []


def test_where_nothing_is_priced_anew_any_more_no_unit_gets_dearer(
    kettles: Order, system: EventHandler, work: Work, books: Books
) -> None:
    first, second, _third = kettles.lines.order_by("position")
    system.cancel(number=kettles.number or "", lines={first.pk: 1, second.pk: 1})
    work()
    CancelRule.objects.update(reprices=False)
    handler().reinstate(number=kettles.number or "", lines={second.pk: 1})
    assert fresh(kettles).facts.outstanding == Decimal(28)
    assert books() == []


@settings(max_examples=4, **RELAXED)
@given(
    seed=st.integers(0, 9999),
    reprices=st.booleans(),
    steps=st.lists(st.sampled_from(["cancel", "keep", "reinstate", "goodwill"]), min_size=3, max_size=8),
)
def test_whatever_happened_between_all_of_it_costs_what_was_given_back_for_it(
    seed: int, reprices: bool, steps: list[str]
) -> None:
    """Each reinstated unit is paid at once; in the end the shop has the order's price, less what it gave as a gift."""
    with undone():
        chance, gifts = Random(seed), Decimal(0)
        CancelRule.objects.create(reprices=reprices, direct_statuses=["approved"])
        chosen_lines = range(chance.randint(1, 3))
        prices = [(Decimal(chance.randint(1, 4000)) / 100, chance.randint(1, 4)) for _line in chosen_lines]
        worth = sum(price * units for price, units in prices)
        off = Discount(name="Off", amount=(worth / 7).quantize(Decimal("0.01")), minimum=worth * 2 / 3)
        shipping = Decimal(chance.randint(0, 900)) / 100
        order = factories.place_order(prices, discounts=[off], shipping=shipping, until="paid")
        number, last = order.number or "", order.lines.order_by("pk").last()
        for step in [*steps, "reinstate all"]:
            lines = list(fresh(order).facts.lines)
            gone = {x.pk: chance.randint(1, x.cancelled) for x in lines if x.cancelled}
            here = {x.pk: chance.randint(1, x.live) for x in lines if x.live}
            # One unit stays, so that the order goes on.
            if here.get(last.pk) == next(x.live for x in lines if x.pk == last.pk):
                del here[last.pk]
            if step in {"cancel", "keep"} and here:
                chosen = dict(chance.sample(sorted(here.items()), chance.randint(1, len(here))))
                handler().cancel(number=number, lines=chosen, refund=step == "cancel")
            elif step == "goodwill" and held(order) > Decimal("0.05"):
                gift = min(Decimal("0.05"), held(order))
                handler().refund(number=number, amount=gift, note="sorry")
                gifts += gift
            elif step.startswith("reinstate") and gone:
                handler().reinstate(number=number, lines=None if step.endswith("all") else gone)
            jobs.drain(seconds=60)
            paid_again(handler(), order)
            jobs.drain(seconds=60)
            assert list(verify()) == []
        assert (fresh(order).facts.outstanding, fresh(order).repriced_total) == (0, 0)
        assert held(order) == order.total - gifts
