"""Reinstated: cancelled units come back, with their stock and what was refunded for them, to the cent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import services as inventory
from inventory.models import StockRecord
from notifications.models import Message
from orders.models import Order, OrderLine, Status
from orders.processing import EventHandler, PaymentChoice, get_event_handler
from orders.processing.verify import verify
from orders.tasks import cancel_unpaid
from payments.models import CreditAccount, Payment
from payments.services import credit
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job
from tests import factories
from tests.orders.storefront import facts_of
from tests.orders.test_lives import undone
from tests.orders.test_partial_money import RELAXED, Cart, carts, handler, one_by_one

Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def back(order: Order) -> Decimal:
    """What has been sent back, or is about to be."""
    return sum((p.refund_reserved for p in Payment.objects.filter(reference=order.number)), Decimal(0))


def cancelled(system: EventHandler, work: Work, lines: Any = (("10.00", 3),), **more: Any) -> Order:
    order = factories.place_order(lines, until="paid", **more)
    system.cancel(number=order.number or "")
    work()
    return fresh(order)


# ---------------------------------------------------------------------------------------------------------------------
# Stock


def test_stock_is_allocated_again_and_the_order_waits_for_its_payment(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = cancelled(system, work)
    system.reinstate(number=order.number or "", note="They called again")
    order, line = fresh(order), order.lines.get()
    record = factories.record_of(line.product)
    assert (order.status, line.cancelled, line.allocated) == (Status.PAYMENT_WAITING, 0, 3)
    assert (record.on_hand, record.allocated) == (100, 3)
    assert order.facts.outstanding == back(order) == Decimal(30)
    work()
    message = Message.objects.get(reference=order.number, event="order_reinstated")
    assert message.context["amount"] == "30.00"
    assert message.status == "sent"
    entry = order.journal.latest("sequence")
    assert (entry.verb, entry.note, entry.after["status"]) == ("reinstate", "They called again", Status.PAYMENT_WAITING)
    assert books() == []


def test_what_is_missing_is_named_and_nothing_happens(system: EventHandler, work: Work, books: Books) -> None:
    order = cancelled(system, work, [("10.00", 3), ("5.00", 1)])
    line = order.lines.first()
    record = factories.record_of(line.product)
    inventory.adjust(stock_record_id=record.pk, counted=2, key="count", note="counted", actor_name="Ada")
    before, jobs_before = facts_of(order), Job.objects.count()
    with pytest.raises(inventory.OutOfStock) as no:
        system.reinstate(number=order.number or "")
    assert line.name in str(no.value)
    assert (no.value.shortages[0].wanted, no.value.shortages[0].available) == (3, 2)
    assert (facts_of(order), Job.objects.count()) == (before, jobs_before)
    assert books() == []
    system.reinstate(number=order.number or "", lines={line.pk: 2})
    assert fresh(order).lines.first().allocated == 2
    assert books() == []


def test_units_that_workers_have_not_put_back_yet_are_put_back_once(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], until="approved")
    system.cancel(number=order.number or "")
    system.reinstate(number=order.number or "")
    line = order.lines.get()
    assert (line.allocated, factories.record_of(line.product).allocated) == (3, 3)
    work()
    line.refresh_from_db()
    assert (line.allocated, factories.record_of(line.product).allocated) == (3, 3)
    assert books() == []


def test_without_a_stock_record_nothing_comes_back(system: EventHandler, work: Work) -> None:
    order = cancelled(system, work)
    line = order.lines.get()
    OrderLine.objects.filter(pk=line.pk).update(stock_record=None)
    before = facts_of(order)
    with pytest.raises(Refused, match="is gone"):
        system.reinstate(number=order.number or "")
    assert facts_of(order) == before


def test_goods_that_a_person_counted_are_not_set_aside_a_second_time(
    system: EventHandler, work: Work, books: Books
) -> None:
    """The return failed, a person did it by hand, and the order comes back later: the books keep what was counted."""
    order = factories.place_order([("10.00", 3)], until="paid")
    system.cancel(number=order.number or "", restock=False)
    job = Job.objects.get(kind="orders.return_stock")
    Job.objects.filter(pk=job.pk).update(state=Job.State.NEEDS_ATTENTION, attempts=1)
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="counted: all of them are on the shelf")
    work()
    record = factories.record_of(order.lines.get().product)
    assert (record.on_hand, record.allocated, record.quarantine) == (100, 0, 0)
    system.reinstate(number=order.number or "")
    record.refresh_from_db()
    assert (record.on_hand, record.allocated, record.quarantine) == (100, 3, 0)
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Money


def test_a_cent_that_rounding_moves_is_paid_again_too(system: EventHandler, work: Work, books: Books) -> None:
    """Of 10.00 for three units, the second costs 3.34: whoever got it back pays 3.34 again, not 3.33."""
    order = factories.place_order([("3.33", 3)], shipping="0.01", until="paid")
    line = order.lines.get()
    assert line.total == Decimal("10.00")
    system.cancel(number=order.number or "", lines={line.pk: 2})
    work()
    assert back(order) == Decimal("6.67")
    system.reinstate(number=order.number or "", lines={line.pk: 1})
    assert fresh(order).facts.outstanding == Decimal("3.34")
    assert books() == []
    # Cancelled again before it is paid: in the end not a cent more goes back than ever came.
    system.cancel(number=order.number or "", lines={line.pk: 1})
    system.cancel(number=order.number or "")
    work()
    assert back(order) == Decimal("10.00")
    assert books() == []


@settings(max_examples=5, **RELAXED)
@given(
    cart=carts(),
    seed=st.integers(0, 999),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=2, max_size=6),
)
def test_what_has_to_be_paid_again_is_what_was_refunded(cart: Cart, seed: int, steps: list[tuple[bool, int]]) -> None:
    with undone():
        order, chance = cart.place(until="paid"), Random(seed)
        number, gone, here = order.number or "", list[int](), one_by_one(order)
        for comes_back, size in [(False, 2), *steps]:
            source, target = (gone, here) if comes_back else (here, gone)
            chance.shuffle(source)
            some = source[:size]
            if not some:
                continue
            del source[:size]
            target += some
            lines = {pk: some.count(pk) for pk in some}
            verb = handler().reinstate if comes_back else handler().cancel
            verb(number=number, lines=lines)
            jobs.drain(seconds=60)
            facts = fresh(order).facts
            # The customer has paid the whole once; what is not here any more is exactly what they owe, or got back.
            missing = order.total - (facts.captured - facts.refund_reserved)
            if not gone:
                assert facts.outstanding == missing
            if not here:
                assert back(order) == facts.captured
            assert list(verify()) == []
        if gone:
            handler().reinstate(number=number)
        facts = fresh(order).facts
        assert facts.outstanding == order.total - (facts.captured - facts.refund_reserved)
        _pay_and_ship(order)
        facts = fresh(order).facts
        assert facts.captured - facts.refund_reserved == order.total
        assert all(line.shipped == line.quantity == line.paid for line in facts.lines)
        assert list(verify()) == []


def _pay_and_ship(order: Order) -> None:
    number, system = order.number or "", handler()
    if fresh(order).facts.outstanding:
        system.pay_again(number=number, gateway="demo")
        jobs.drain(seconds=60)
    if fresh(order).status == Status.CONFIRMATION_WAITING:
        system.approve(number=number)
    if fresh(order).status == Status.APPROVED:
        system.start_preparing(number=number)
    if fresh(order).facts.due:
        system.take_payment(number=number)
    jobs.drain(seconds=60)
    system.ship(number=number)
    jobs.drain(seconds=60)


def test_money_that_was_kept_pays_for_the_units_that_come_back(system: EventHandler, work: Work, books: Books) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    system.cancel(number=order.number or "", refund=False)
    work()
    assert back(order) == 0
    system.reinstate(number=order.number or "")
    work()
    order = fresh(order)
    assert (order.facts.outstanding, order.status) == (0, Status.CONFIRMATION_WAITING)
    assert [line.paid for line in order.lines.all()] == [3]
    assert books() == []


def test_goodwill_is_not_asked_back(system: EventHandler, work: Work, books: Books) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    line = order.lines.get()
    system.cancel(number=order.number or "", lines={line.pk: 1})
    system.refund(number=order.number or "", amount=Decimal(5), note="sorry")
    work()
    system.reinstate(number=order.number or "")
    assert fresh(order).facts.outstanding == Decimal(10)
    assert books() == []


def test_an_authorization_that_was_let_go_has_to_be_given_again(system: EventHandler, work: Work, books: Books) -> None:
    order = factories.place_order([("10.00", 3)], until="approved")
    system.cancel(number=order.number or "")
    work()
    system.reinstate(number=order.number or "")
    order = fresh(order)
    assert (order.status, order.facts.outstanding, order.facts.open_to_capture) == (Status.PAYMENT_WAITING, 30, 0)
    _pay_and_ship(order)
    assert (fresh(order).status, fresh(order).facts.captured) == (Status.SHIPPED, 30)
    assert books() == []


def test_an_authorization_that_is_just_being_let_go_does_not_count_as_money(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], until="approved")
    system.cancel(number=order.number or "")
    system.reinstate(number=order.number or "")
    work()
    order = fresh(order)
    assert order.facts.open_to_capture == 0
    assert order.status == Status.PAYMENT_WAITING
    _pay_and_ship(order)
    assert fresh(order).facts.captured == 30
    assert books() == []


def test_points_that_went_back_are_to_be_paid_again(system: EventHandler, work: Work, books: Books) -> None:
    owner = factories.UserFactory()
    account = credit.grant(
        owner_id=owner.pk,
        currency="EUR",
        kind=CreditAccount.Kind.LOYALTY,
        amount=Decimal(12),
        key="welcome",
        actor_name="Ada",
        as_of=timezone.now(),
    ).account
    points = PaymentChoice(gateway="loyalty", amount=Decimal(12), details={"credit_account": account.pk})
    order = cancelled(system, work, customer=owner, payments=[points, PaymentChoice(gateway="demo")])
    account.refresh_from_db()
    assert (account.balance, account.held) == (12, 0)
    system.reinstate(number=order.number or "")
    assert fresh(order).facts.outstanding == Decimal(30)
    _pay_and_ship(order)
    account.refresh_from_db()
    assert (account.balance, fresh(order).status) == (12, Status.SHIPPED)
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Time, and what is refused


def test_the_time_to_pay_begins_anew(settings: Any, system: EventHandler, work: Work, books: Books) -> None:
    settings.ORDER_UNPAID_AFTER_MINUTES = 60
    order = cancelled(system, work)
    with time_machine.travel(timezone.now() + timedelta(days=3), tick=False) as clock:
        handler().reinstate(number=order.number or "")
        message = Message.objects.get(reference=order.number, event="order_reinstated")
        assert message.context["pay_by"] == timezone.localtime(timezone.now() + timedelta(hours=1)).isoformat()
        cancel_unpaid()
        assert fresh(order).status == Status.PAYMENT_WAITING
        clock.shift(timedelta(minutes=59))
        cancel_unpaid()
        assert fresh(order).status == Status.PAYMENT_WAITING
        clock.shift(timedelta(minutes=1))
        cancel_unpaid()
        assert fresh(order).status == Status.CANCELLED
        work()
    record = StockRecord.objects.get(product=order.lines.get().product)
    assert (record.on_hand, record.allocated, back(order)) == (100, 0, Decimal(30))
    assert books() == []


@pytest.mark.parametrize("until", ["shipped", "delivered"])
def test_nothing_comes_back_into_an_order_that_has_ended(until: str, system: EventHandler, work: Work) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    line = order.lines.get()
    system.cancel(number=order.number or "", lines={line.pk: 1})
    system.ship(number=order.number or "")
    if until == "delivered":
        system.deliver(number=order.number or "")
    work()
    before = facts_of(order)
    with pytest.raises(Refused) as no:
        system.reinstate(number=order.number or "")
    assert no.value.code == "wrong_status"
    assert facts_of(order) == before


@pytest.mark.parametrize("units", [0, -1, 4])
def test_a_wrong_number_of_units_is_refused(units: int, system: EventHandler, work: Work) -> None:
    order = cancelled(system, work)
    before = facts_of(order)
    with pytest.raises(Refused):
        system.reinstate(number=order.number or "", lines={order.lines.get().pk: units})
    assert facts_of(order) == before


def test_who_may_not_undo_may_not_reinstate(system: EventHandler, work: Work, staff: Any) -> None:
    order = cancelled(system, work)
    before = facts_of(order)
    for user in (staff(None, order.store), staff("Store Manager", factories.StoreFactory())):
        with pytest.raises(Refused):
            get_event_handler(Actor.staff(user)).reinstate(number=order.number or "")
    assert facts_of(order) == before
