"""What policies count is counted in turn: of two at a limit at the same moment, one sees the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from threading import Barrier, BrokenBarrierError, get_ident
from typing import Any

import pytest
from django.db import connection

from orders import rules
from orders.models import ApprovalLevel, ApprovalPolicy, BulkRun, Cancellation, Order, Withdrawal
from orders.processing import approving, bulkwork, declaring, get_event_handler, policies
from orders.processing.batch import Batching
from orders.processing.declaring import MOST_A_DAY, TooManyDeclarations
from orders.processing.policies import Policing
from orders.processing.turns import take_turns
from shop import jobs
from shop.actors import Actor
from shop.models import Job, User
from shop.together import StartOver
from tests import factories

AtOnce = Callable[..., list[Any]]
Staff = Callable[..., User]
pytestmark = pytest.mark.django_db(transaction=True)


def limit(**counted: Any) -> None:
    level = ApprovalLevel.objects.get(level=1)
    ApprovalPolicy.objects.create(name="Many", level=level, **counted)


def meet(monkeypatch: pytest.MonkeyPatch, target: Any, name: str) -> None:
    """Both have counted before either has written: only where nothing keeps them apart."""
    both, count = Barrier(2), getattr(target, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        found = count(*args, **kwargs)
        with suppress(BrokenBarrierError):
            both.wait(timeout=1)
        return found

    monkeypatch.setattr(target, name, counted)


LIMITS: list[dict[str, Any]] = [
    {"staff_per_day": 1},
    {"staff_value_per_day": "15.00", "currency": "EUR"},
    {"customer_per_month": 1},
    {"store_per_hour": 1},
]


@pytest.mark.race
@pytest.mark.parametrize("counted", LIMITS, ids=lambda counted: next(iter(counted)))
@pytest.mark.parametrize("locked", [True, False])
def test_of_two_cancellations_at_a_limit_one_needs_approval(
    locked: bool,
    counted: dict[str, Any],
    on_postgres: bool,
    at_once: AtOnce,
    staff: Staff,
    books: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not on_postgres:
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    store = factories.StoreFactory()
    one, other = staff("Store Manager", store), staff("Store Manager", store)
    users = (one, one) if next(iter(counted)).startswith("staff") else (one, other)
    mails = ("Guest@example.com", "guest@example.com") if "customer_per_month" in counted else ("a@x.com", "b@x.com")
    orders = [factories.place_order([("10.00", 1)], store=store, until="approved", email=mail) for mail in mails]
    limit(**counted)
    meet(monkeypatch, Policing, "count_ahead")
    if not locked:  # the control
        monkeypatch.setattr(policies, "take_turns", lambda keys, **_how: None)

    def cancel(user: User, order: Order) -> Any:
        return get_event_handler(Actor.staff(user)).cancel(number=order.number or "", reason="out_of_stock")

    calls = [lambda u=u, o=o: cancel(u, o) for u, o in zip(users, orders, strict=True)]
    results = at_once(*calls)
    refused = [result for result in results if isinstance(result, rules.ApprovalNeeded)]
    assert (len(refused), Cancellation.objects.count()) == ((1, 1) if locked else (0, 2)), results
    assert books() == []


@pytest.mark.race
def test_many_at_once_and_one_alone_wait_for_one_another_and_never_for_good(at_once: AtOnce, staff: Staff) -> None:
    """Sets of orders of the same customers, from both ends, and single ones between: nobody hangs, all are counted."""
    store = factories.StoreFactory()
    mails = [f"c{n % 3}@example.com" for n in range(9)]
    orders = [factories.place_order([("10.00", 1)], store=store, until="approved", email=mail) for mail in mails]
    limit(staff_per_day=100, customer_per_month=100, store_per_hour=100)
    users = [staff("Store Manager", store) for _n in range(4)]

    def many(user: User, part: list[Order]) -> Any:
        numbers = {order.number or "": None for order in part}
        return get_event_handler(Actor.staff(user)).cancel_many(
            orders=numbers, cause=str(user.pk), reason="out_of_stock"
        )

    def alone(user: User, order: Order) -> Any:
        return get_event_handler(Actor.staff(user)).cancel(number=order.number or "", reason="out_of_stock")

    at_once(
        lambda: many(users[0], orders[:4]),
        lambda: many(users[1], list(reversed(orders[3:8]))),
        lambda: alone(users[2], orders[8]),
        lambda: alone(users[3], orders[0]),
    )
    assert Cancellation.objects.filter(status="done").count() == 9


@pytest.mark.race
@pytest.mark.parametrize("locked", [True, False])
def test_of_two_withdrawals_at_the_days_limit_one_is_too_many(
    locked: bool, on_postgres: bool, at_once: AtOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_postgres:
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    handler = get_event_handler(Actor.guest(""))
    order = factories.place_order([("10.00", 1)], email="ada@example.com")
    told = {"name": "Ada", "number": order.number or ""}
    for n in range(MOST_A_DAY - 1):
        Withdrawal.objects.create(
            key=str(n), name="Ada", number="1", email="ada@example.com", declared_at=handler.as_of, order=order
        )
    tokens = [handler.state_withdrawal(**told, email=mail).token for mail in ("ada@example.com", "Ada@Example.com")]
    meet(monkeypatch, declaring, "require_few")
    if not locked:  # the control
        monkeypatch.setattr(declaring, "take_turns", lambda keys, **_more: None)
    results = at_once(*[lambda t=t: get_event_handler(Actor.guest("")).confirm_withdrawal(token=t) for t in tokens])
    refused = [result for result in results if isinstance(result, TooManyDeclarations)]
    assert len(refused) == (1 if locked else 0), results


def test_it_costs_one_query_however_many(on_postgres: bool, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1 if on_postgres else 0):
        take_turns(f"customer:{n}" for n in range(200))
    with django_assert_num_queries(0):
        take_turns([])
    assert connection.vendor in {"postgresql", "sqlite"}


@pytest.mark.race
@pytest.mark.parametrize("locked", [True, False])
def test_of_two_approvals_at_a_limit_of_the_one_who_asked_one_goes_up(
    locked: bool, on_postgres: bool, at_once: AtOnce, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_postgres:
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    store = factories.StoreFactory()
    asker, one, other = staff("Fulfilment", store), staff("Store Manager", store), staff("Store Manager", store)
    orders = [
        factories.place_order([("10.00", 1)], store=store, until="preparing", email=f"{name}@x.com") for name in "ab"
    ]
    asked = [
        get_event_handler(Actor.staff(asker))
        .submit_cancellation(number=order.number or "", reason="out_of_stock", justification="Broken")
        .approval
        for order in orders
    ]
    level = ApprovalLevel.objects.get(level=2)
    ApprovalPolicy.objects.create(name="Many", level=level, staff_per_day=1)
    meet(monkeypatch, Policing, "count_ahead")
    if not locked:  # the control
        for module in (policies, approving):
            monkeypatch.setattr(module, "take_turns", lambda keys, **_how: None)

    def approve(user: User, uuid: Any) -> Any:
        return get_event_handler(Actor.staff(user)).approve_cancellation(approval=str(uuid), note="fine")

    calls = [lambda u=u, a=a: approve(u, a.uuid) for u, a in zip((one, other), asked, strict=True)]
    results = at_once(*calls)
    refused = [result for result in results if isinstance(result, rules.StricterByNow)]
    assert len(refused) == (1 if locked else 0), results
    assert Cancellation.objects.filter(status="done").count() == (1 if locked else 2)


@pytest.mark.race
@pytest.mark.parametrize("what", ["begun alone", "approved"])
@pytest.mark.parametrize("locked", [True, False])
def test_of_two_bulk_runs_of_one_person_that_are_too_many_together_one_goes_up(
    locked: bool, what: str, on_postgres: bool, at_once: AtOnce, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_postgres:
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    store = factories.StoreFactory()
    asker, one, other = staff("Store Manager", store), staff("Store Manager", store), staff("Store Manager", store)
    orders = [factories.place_order([("10.00", 1)], store=store, until="approved") for _order in range(4)]
    pairs = [[(order.pk, order.version) for order in pair] for pair in (orders[:2], orders[2:])]

    def begin(pair: Any, why: str = "") -> Any:
        handler = get_event_handler(Actor.staff(User.objects.get(pk=asker.pk)))
        return handler.start_bulk_run(orders=pair, reason="out_of_stock", justification=why)

    def approve(user: User, run: BulkRun) -> Any:
        return get_event_handler(Actor.staff(user)).approve_bulk(approval=str(run.approval.uuid), note="fine")

    calls = [lambda p=pair: begin(p) for pair in pairs]
    if what == "approved":
        ApprovalPolicy.objects.create(
            name="Two", level=ApprovalLevel.objects.get(level=1), min_value=20, currency="EUR"
        )
        runs = [begin(pair, "Sold out") for pair in pairs]
        calls = [lambda u=u, r=r: approve(u, r) for u, r in zip((one, other), runs, strict=True)]
    # A run of two alone has one more than it is before; after the other, three.
    level = ApprovalLevel.objects.get(level=2 if what == "approved" else 1)
    ApprovalPolicy.objects.create(name="Many", level=level, staff_per_day=3)
    meet(monkeypatch, Policing, "count_ahead")
    if not locked:  # the control
        monkeypatch.setattr(policies, "take_turns", lambda keys, **_how: None)
    results = at_once(*calls)
    refusal = rules.StricterByNow if what == "approved" else rules.ApprovalNeeded
    assert len([result for result in results if isinstance(result, refusal)]) == (1 if locked else 0), results
    running = BulkRun.objects.filter(status=BulkRun.Status.RUNNING)
    assert running.count() == (1 if locked else 2)


def test_what_a_run_will_still_cancel_counts_for_whoever_is_next(staff: Staff) -> None:
    """By its person, its store and its customers; and not once more when it is done, or was stopped."""
    store = factories.StoreFactory()
    manager = staff("Store Manager", store)
    orders = [
        factories.place_order([("10.00", 1)], store=store, until="approved", email=mail)
        for mail in ("a@x.com", "b@x.com", "A@x.com")
    ]
    handler = get_event_handler(Actor.staff(manager))
    run = handler.start_bulk_run(orders=[(o.pk, o.version) for o in orders[:2]], reason="out_of_stock", try_first=1)
    limit(staff_per_day=100, customer_per_month=100, store_per_hour=100)

    def counted() -> rules.Cancelled:
        return get_event_handler(Actor.staff(manager))._cancelled_before(orders[2])

    promised = rules.Cancelled(by_staff=2, value_by_staff=Decimal(20), of_customer=1, in_store=2)
    assert counted() == promised
    jobs.drain(seconds=60)
    run.refresh_from_db()
    assert (run.status, counted()) == (BulkRun.Status.PAUSED, promised)
    handler.stop_bulk(run_id=run.pk)
    assert counted() == rules.Cancelled(by_staff=1, value_by_staff=Decimal(10), of_customer=1, in_store=1)


@pytest.mark.race
@pytest.mark.parametrize("alone", [False, True])
def test_a_bulk_run_and_a_single_cancellation_never_wait_for_one_another(
    alone: bool, on_postgres: bool, at_once: AtOnce, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run counts, then goes on to an order that the other one has, who waits to be counted: nobody would win."""
    if not on_postgres:
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    store = factories.StoreFactory()
    first, second = [factories.place_order([("10.00", 1)], store=store, until="approved") for _order in "ab"]
    limit(store_per_hour=100)
    run = get_event_handler(Actor.staff(staff("Store Manager", store))).start_bulk_run(
        orders=[(order.pk, order.version) for order in (first, second)], reason="out_of_stock"
    )
    run.items.filter(order=second).update(changed=not alone)
    if alone:  # a failure that cannot be taken back alone: the run goes on one by one, in its job's transaction

        def fail(*args: Any) -> Any:
            raise StartOver

        monkeypatch.setattr(Batching, "_cancel_together", fail)
    both, count, single = Barrier(2), policies.take_turns, set[int]()

    def counted(keys: Any, **how: Any) -> None:
        if get_ident() not in single:
            count(keys, **how)
        with suppress(BrokenBarrierError):
            both.wait(timeout=1)
        count(keys, **how)

    monkeypatch.setattr(policies, "take_turns", counted)
    other = get_event_handler(Actor.staff(staff("Store Manager", store)))

    def one() -> Any:
        single.add(get_ident())
        return other.cancel(number=second.number or "", reason="out_of_stock")

    results = at_once(lambda: jobs.drain(seconds=60), one)
    assert not [result for result in results if isinstance(result, Exception)], results
    assert not Job.objects.filter(attempts__gt=1).exists()
    assert Cancellation.objects.filter(status="done").count() == 2


@pytest.mark.race
@pytest.mark.parametrize("beside", ["another part", "a part that is counted anew", "a single cancellation"])
def test_workers_at_parts_of_a_run_wait_for_whoever_counts_but_not_for_one_another(
    beside: str, on_postgres: bool, at_once: AtOnce, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_postgres:
        pytest.skip("on SQLite there is one writer at a time")
    store = factories.StoreFactory()
    orders = [factories.place_order([("10.00", 1)], store=store, until="approved") for _order in range(3)]
    manager = staff("Store Manager", store)
    limit(staff_per_day=100, store_per_hour=100)
    monkeypatch.setattr(bulkwork, "CHUNK", 1)
    run = get_event_handler(Actor.staff(manager)).start_bulk_run(
        orders=[(order.pk, order.version) for order in orders[:2]], reason="out_of_stock"
    )
    run.items.filter(position=2).update(changed=beside == "a part that is counted anew")
    may_meet = beside == "another part"
    both, met, take = Barrier(2), list[str](), policies.take_turns

    def taken(keys: Any, **how: Any) -> None:
        take(keys, **how)
        with suppress(BrokenBarrierError):
            both.wait(timeout=20 if may_meet else 0.3)  # what may not be is not waited for long
            met.append("both have their turn")

    monkeypatch.setattr(policies, "take_turns", taken)

    def other() -> None:
        if beside == "a single cancellation":
            handler = get_event_handler(Actor.staff(User.objects.get(pk=manager.pk)))
            handler.cancel(number=orders[2].number or "", reason="out_of_stock")
        else:
            jobs.drain(seconds=60)

    results = at_once(lambda: jobs.drain(seconds=60), other)
    assert not [result for result in results if isinstance(result, Exception)], results
    assert len(met) == (2 if may_meet else 0)
    assert Cancellation.objects.count() == (3 if beside == "a single cancellation" else 2)
