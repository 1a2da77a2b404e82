"""Undo: while a cancellation can be undone its stock, money and messages wait; then everything happens, once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.db import IntegrityError, connections
from django.utils import timezone

from inventory.models import StockMovement
from notifications.models import Message
from orders.models import Cancellation, CancelRule, Order, OrderQuerySet, Status
from orders.processing import EventHandler, cancelling, get_event_handler, reinstating
from orders.processing.cancelling import FINISH, finish_key
from payments.models import Payment
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, User
from tests import factories
from tests.orders.storefront import Browser, facts_of, new_customer

Work = Callable[[], int]
Books = Callable[[], list[str]]
AtOnce = Callable[..., list[Any]]

WINDOW = timedelta(minutes=10)
REASON = "out_of_stock"
REFUSED_LATE = "too_late_to_undo"


@pytest.fixture
def rule(db: None) -> CancelRule:
    return CancelRule.objects.create(undo_minutes=10, direct_statuses=["payment_waiting", "confirmation_waiting"])


@pytest.fixture
def manager(staff: Callable[..., User]) -> Callable[[], EventHandler]:
    """manager(): a handler of an administrator, at this moment."""
    user = staff("Admin")
    return lambda: get_event_handler(Actor.staff(user))


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def units_of(order: Order) -> Any:
    """Status, counters and money: all that an undone cancellation must leave as it was."""
    now = fresh(order)
    names = ("authorized", "captured", "capture_reserved", "voided", "refunded", "refund_reserved")
    return (
        now.status,
        now.undo_until,
        now.adjustment_total,
        [[getattr(line, name) for name in (*line.COUNTERS, "status")] for line in now.lines.all()],
        [[getattr(payment, name) for name in names] for payment in now.facts.payments],
        [
            (r.on_hand, r.allocated, r.quarantine)
            for r in (factories.record_of(x.product) for x in now.lines.all() if x.product)
        ],
    )


def told(order: Order) -> int:
    return Message.objects.filter(
        reference=order.number, event__in=["order_cancelled", "order_partly_cancelled", "order_refunded"]
    ).count()


def at(stage: str) -> Order:
    if stage == Status.PAYMENT_WAITING:
        return factories.place_order([("10.00", 3)], gateway="manual")
    if stage == Status.READY_FOR_PICKUP:
        order = factories.place_order([("10.00", 3)], until="paid", is_pickup=True)
        get_event_handler(Actor.system()).ready_for_pickup(number=order.number or "")
        jobs.drain(seconds=60)
        return fresh(order)
    until = {"confirmation_waiting": "", "approved": "approved", "preparing": "paid"}[stage]
    return factories.place_order([("10.00", 3)], until=until)


STAGES = ["payment_waiting", "confirmation_waiting", "approved", "preparing", "ready_for_pickup"]


# ---------------------------------------------------------------------------------------------------------------------
# Within the window


@pytest.mark.django_db
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("whole", [True, False])
def test_undone_the_order_is_exactly_as_before(
    stage: str, whole: bool, rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = at(stage)
    work()
    assert order.status == stage
    before, moved = units_of(order), StockMovement.objects.count()
    lines = None if whole else {order.lines.get().pk: 2}
    manager().cancel(number=order.number, lines=lines, reason=REASON)
    now = fresh(order)
    assert now.status == (Status.CANCELLED if whole else stage)
    assert now.undo_until == timezone.now() + WINDOW
    clock.shift(WINDOW - timedelta(seconds=1))
    work()
    assert (told(order), StockMovement.objects.count()) == (0, moved)
    assert books() == []
    manager().undo_cancellation(number=order.number, note="Found one")
    assert units_of(order) == before
    clock.shift(WINDOW)
    work()
    assert (units_of(order), told(order), StockMovement.objects.count()) == (before, 0, moved)
    row = Cancellation.objects.get(order=order)
    assert (row.status, row.outcome) == (Cancellation.Status.UNDONE, "Found one")
    assert row.undone_by
    asked, undone = order.journal.get(verb="cancel"), order.journal.latest("sequence")
    assert (undone.verb, asked.before["undo_until"], undone.after["undo_until"]) == ("undo_cancellation", None, None)
    assert books() == []


@pytest.mark.django_db
@pytest.mark.parametrize("stage", STAGES)
def test_when_the_time_is_over_everything_happens_once(
    stage: str, rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = at(stage)
    captured = order.facts.captured
    manager().cancel(number=order.number, reason=REASON)
    clock.shift(WINDOW)
    work()
    payment = Payment.objects.get(reference=order.number)
    record = factories.record_of(order.lines.get().product)
    assert (payment.refunded, payment.voided) == (captured, payment.authorized - captured)
    assert (record.on_hand, record.allocated) == (100, 0)
    assert told(order) == 1 + bool(captured)
    assert Cancellation.objects.get(order=order).status == Cancellation.Status.DONE
    with pytest.raises(Refused):
        manager().undo_cancellation(number=order.number)
    after = units_of(order)
    row = Cancellation.objects.get(order=order)
    get_event_handler(Actor.system()).finish_cancellation(cancellation=str(row.uuid))
    clock.shift(WINDOW)
    work()
    assert (units_of(order), told(order)) == (after, 1 + bool(captured))
    assert books() == []


@pytest.mark.django_db
def test_a_late_worker_lets_nobody_undo_late(
    rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = at("preparing")
    manager().cancel(number=order.number, reason=REASON)
    clock.shift(WINDOW)
    before = facts_of(order)
    with pytest.raises(Refused) as no:
        manager().undo_cancellation(number=order.number)
    assert (no.value.code, facts_of(order)) == (REFUSED_LATE, before)
    clock.shift(timedelta(days=1))
    work()
    assert Payment.objects.get(reference=order.number).refunded == 30
    assert books() == []


@pytest.mark.django_db
def test_completed_now_nothing_waits(rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books) -> None:
    order = at("preparing")
    manager().cancel(number=order.number, reason=REASON)
    manager().complete_now(number=order.number)
    work()
    assert Payment.objects.get(reference=order.number).refunded == 30
    job = Job.objects.get(key=finish_key(Cancellation.objects.get(order=order)))
    assert job.state == Job.State.DONE
    with pytest.raises(Refused):
        manager().complete_now(number=order.number)
    clock.shift(WINDOW)
    work()
    assert (Payment.objects.get(reference=order.number).refunded, told(order)) == (30, 2)
    assert books() == []


@pytest.mark.django_db
def test_the_finish_of_one_that_was_undone_does_not_complete_the_next(
    rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    """A worker that had claimed the first one's job comes to the order when the second can still be undone."""
    order = at("preparing")
    manager().cancel(number=order.number, reason=REASON)
    first = Cancellation.objects.get(order=order)
    clock.shift(WINDOW)
    job = jobs.claim(as_of=timezone.now(), key=finish_key(first))
    assert job is not None
    clock.shift(-timedelta(seconds=1))
    manager().undo_cancellation(number=order.number)
    manager().cancel(number=order.number, reason=REASON)
    assert jobs.run(job).state == "done"
    work()
    assert fresh(order).undo_until is not None
    assert (Payment.objects.get(reference=order.number).refund_reserved, told(order)) == (0, 0)
    manager().undo_cancellation(number=order.number)
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# What else happens meanwhile


@pytest.mark.django_db
def test_staff_decide_first_what_becomes_of_the_one_that_can_be_undone(
    rule: CancelRule, manager: Any, clock: Any
) -> None:
    order = at("preparing")
    line = order.lines.get()
    manager().cancel(number=order.number, lines={line.pk: 1}, reason=REASON)
    before = facts_of(order)
    for verb in ("cancel", "submit_cancellation"):
        with pytest.raises(Refused) as no:
            getattr(manager(), verb)(number=order.number, lines={line.pk: 1}, reason=REASON)
        assert no.value.code == "undo_open"
    with pytest.raises(Refused):
        manager().reinstate(number=order.number)
    assert facts_of(order) == before


@pytest.mark.django_db
def test_a_customer_who_cancels_too_completes_the_first(
    rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    customer = new_customer()
    order = factories.place_order([("3.33", 3)], shipping="0.01", customer=customer, capture_mode="at_placement")
    work()
    line = order.lines.get()
    manager().cancel(number=order.number, lines={line.pk: 1}, reason=REASON)
    browser = Browser(customer)
    shown = browser.post(f"/orders/{order.number}/cancel/plan/", {"lines": [{"line": line.pk, "quantity": 1}]})
    assert Decimal(shown.json()["plan"]["refund"]) == Decimal("3.34"), "only for the unit it is about"
    handler = get_event_handler(Actor.customer(customer))
    plan = handler.plan_cancellation(number=order.number or "", lines={line.pk: 1})
    handler.cancel(number=order.number or "", lines={line.pk: 1}, plan=plan)
    work()
    assert fresh(order).undo_until is None
    assert Payment.objects.get(reference=order.number).refunded == Decimal("6.67")
    assert Message.objects.filter(reference=order.number, event="order_partly_cancelled").count() == 2
    assert books() == []


@pytest.mark.django_db
@pytest.mark.parametrize("undo", [True, False])
def test_a_capture_that_ends_within_the_window(
    undo: bool, rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], until="preparing")
    manager().take_payment(number=order.number)
    manager().cancel(number=order.number, reason=REASON)
    work()
    assert (fresh(order).facts.captured, fresh(order).facts.refund_reserved) == (30, 0)
    if undo:
        manager().undo_cancellation(number=order.number)
        assert fresh(order).status == Status.PREPARING
        manager().ship(number=order.number)
    clock.shift(WINDOW)
    work()
    assert fresh(order).facts.refunded == (0 if undo else 30)
    assert books() == []


@pytest.mark.django_db
def test_a_part_is_undone_while_the_rest_ships(
    rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = at("preparing")
    line = order.lines.get()
    manager().cancel(number=order.number, lines={line.pk: 1}, reason=REASON)
    manager().ship(number=order.number, lines={line.pk: 1})
    with pytest.raises(Refused):
        manager().ship(number=order.number, lines={line.pk: 2})
    manager().undo_cancellation(number=order.number)
    manager().ship(number=order.number)
    clock.shift(WINDOW)
    work()
    line.refresh_from_db()
    assert (line.shipped, fresh(order).status, fresh(order).facts.refund_reserved) == (3, Status.SHIPPED, 0)
    assert books() == []


@pytest.mark.django_db
def test_once_everything_else_has_shipped_there_is_nothing_to_undo_any_more(
    rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = at("preparing")
    line = order.lines.get()
    manager().cancel(number=order.number, lines={line.pk: 1}, reason=REASON)
    manager().ship(number=order.number)
    before = facts_of(order)
    with pytest.raises(Refused) as no:
        manager().undo_cancellation(number=order.number)
    assert (no.value.code, facts_of(order)) == ("wrong_status", before)
    clock.shift(WINDOW)
    work()
    record = factories.record_of(line.product)
    assert (record.on_hand, record.allocated, fresh(order).facts.refunded) == (98, 0, 10)
    assert books() == []


@pytest.mark.django_db
@pytest.mark.parametrize("undo", [True, False])
def test_a_return_within_the_window_gives_back_its_own_units_only(
    undo: bool, rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 4)], until="paid")
    line = order.lines.get()
    manager().ship(number=order.number, lines={line.pk: 2})
    manager().cancel(number=order.number, lines={line.pk: 1}, reason=REASON)
    manager().take_back(number=order.number, lines={line.pk: (1, "sellable")}, reason=REASON)
    work()
    assert fresh(order).facts.refunded == 10
    if undo:
        manager().undo_cancellation(number=order.number)
        manager().ship(number=order.number)
    clock.shift(WINDOW)
    work()
    line.refresh_from_db()
    assert fresh(order).facts.refunded == (10 if undo else 20)
    assert (line.shipped, line.cancelled) == ((4, 0) if undo else (2, 1))
    assert books() == []


@pytest.mark.django_db
@pytest.mark.parametrize("undo", [True, False])
def test_money_that_arrives_within_the_window_waits_too(
    undo: bool, rule: CancelRule, manager: Any, clock: Any, work: Work, books: Books
) -> None:
    order = at("payment_waiting")
    manager().cancel(number=order.number, reason=REASON)
    manager().record_payment(number=order.number, amount=Decimal(30), surplus=True)
    assert fresh(order).facts.refund_reserved == 0
    if undo:
        manager().undo_cancellation(number=order.number)
        work()
        assert fresh(order).status == Status.CONFIRMATION_WAITING
    clock.shift(WINDOW)
    work()
    assert fresh(order).facts.refund_reserved == (0 if undo else 30)
    assert books() == []


@pytest.mark.django_db
def test_without_a_rule_nothing_can_be_undone(manager: Any, work: Work, books: Books) -> None:
    order = at("preparing")
    manager().cancel(number=order.number, reason=REASON)
    assert fresh(order).undo_until is None
    with pytest.raises(Refused) as no:
        manager().undo_cancellation(number=order.number)
    assert no.value.code == "nothing_to_do"
    work()
    assert fresh(order).facts.refunded == 30
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Races and kills


def pending() -> tuple[Order, Cancellation, User]:
    """An order whose cancellation can be undone for one more moment, and somebody who may."""
    CancelRule.objects.create(undo_minutes=10)
    user = factories.UserFactory(is_staff=True, is_superuser=True)
    order = factories.place_order([("10.00", 3)], until="paid")
    get_event_handler(Actor.staff(user)).cancel(number=order.number or "", reason=REASON)
    return order, Cancellation.objects.get(order=order), user


def undo_by(user: User, order: Order) -> Callable[[], Any]:
    return lambda: get_event_handler(Actor.staff(user)).undo_cancellation(number=order.number or "")


def finish(row: Cancellation) -> Callable[[], Any]:
    return lambda: get_event_handler(Actor.system()).finish_cancellation(cancellation=str(row.uuid))


def assert_one_outcome(order: Order, row: Cancellation, books: Books) -> None:
    jobs.drain(seconds=60)
    row.refresh_from_db()
    record, facts = factories.record_of(order.lines.get().product), fresh(order).facts
    if row.status == Cancellation.Status.UNDONE:
        assert (fresh(order).status, record.allocated, facts.refunded, told(order)) == (Status.PREPARING, 3, 0, 0)
    else:
        assert row.status == Cancellation.Status.DONE
        assert (fresh(order).status, record.allocated, facts.refunded, told(order)) == (Status.CANCELLED, 0, 30, 2)
    assert books() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.race
def test_undo_and_finish_at_the_same_moment_have_one_outcome(at_once: AtOnce, books: Books) -> None:
    order, row, user = pending()
    results = at_once(undo_by(user, order), finish(row), finish(row), undo_by(user, order))
    assert sum(isinstance(one, Refused) for one in (results[0], results[3])) in {1, 2}
    assert not [one for one in results if isinstance(one, Exception) and not isinstance(one, Refused)]
    assert_one_outcome(order, row, books)


@pytest.mark.django_db(transaction=True)
@pytest.mark.race
@pytest.mark.parametrize("undo_first", [True, False])
def test_whichever_is_first_the_other_finds_nothing_to_do(undo_first: bool, books: Books) -> None:
    order, row, user = pending()
    if undo_first:
        undo_by(user, order)()
        finish(row)()
    else:
        finish(row)()
        with pytest.raises(Refused):
            undo_by(user, order)()
    row.refresh_from_db()
    assert row.status == (Cancellation.Status.UNDONE if undo_first else Cancellation.Status.DONE)
    assert_one_outcome(order, row, books)


@pytest.mark.django_db(transaction=True)
@pytest.mark.race
@pytest.mark.postgres
def test_without_the_lock_both_would_get_in(
    at_once: AtOnce, on_postgres: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the lock taken away, both look before either writes; only the journal's numbers stop the second."""
    if not on_postgres:
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    order, row, user = pending()
    both_looked, looked = Barrier(2, timeout=20), []
    found = cancelling.pending_of

    def pending_when_both_have_looked(of: Order) -> Any:
        first = found(of)
        looked.append(first.status if first else "")
        if len(looked) <= 2:
            both_looked.wait()
        return first

    monkeypatch.setattr(OrderQuerySet, "select_for_update", lambda rows, **_options: rows)
    monkeypatch.setattr(reinstating, "pending_of", pending_when_both_have_looked)
    monkeypatch.setattr(cancelling, "pending_of", pending_when_both_have_looked)
    results = at_once(undo_by(user, order), finish(row))
    assert looked[:2] == [Cancellation.Status.PENDING] * 2, "both were let in"
    assert sum(isinstance(one, IntegrityError) for one in results) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.kill
def test_a_worker_killed_while_it_completes_a_cancellation_leaves_it_whole(books: Books) -> None:
    order, row, _user = pending()
    late = timezone.now() + WINDOW
    connections.close_all()

    def work() -> None:
        settled = jobs._write_state

        def die(job: Job, *args: Any, **more: Any) -> None:
            settled(job, *args, **more)
            if job.kind == FINISH:
                os.kill(os.getpid(), signal.SIGKILL)

        jobs._write_state = die
        jobs.drain(seconds=30, clock=lambda: late)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert fresh(order).undo_until is not None, "all or nothing: nothing"
    for hours in (1, 2):
        jobs.drain(seconds=30, clock=lambda hours=hours: timezone.now() + timedelta(hours=hours))
    assert Cancellation.objects.get(pk=row.pk).status == Cancellation.Status.DONE
    assert_one_outcome(order, row, books)
