"""A worker killed with SIGKILL inside each kind of job, at each point: everything is done exactly once in the end.

The worker is a forked process on the same database; it kills itself at the named point, for real. Its lease runs out
(the clock is moved), and the next worker goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.utils import timezone

from inventory.models import StockMovement
from notifications import tasks as notification_tasks
from notifications.models import Message
from orders.models import Order, OrderLine, Status
from orders.processing import get_event_handler
from payments.gateways import DemoGateway
from payments.models import DemoGatewayEntry, Payment
from shop import jobs
from shop.actors import Actor
from shop.models import Job
from tests import factories
from tests.examples import mainly

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.kill]
FORK = multiprocessing.get_context("fork")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(function: Callable[..., Any]) -> Callable[..., Any]:
    def killed(*args: Any, **kwargs: Any) -> Any:
        die()

    return killed


def after(function: Callable[..., Any]) -> Callable[..., Any]:
    def killed(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        die()

    return killed


def killed_worker(kind: str, owner: Any, name: str, when: Callable[..., Any]) -> None:
    """Run a worker in another process that dies before or after its first call of owner.name in a job of a kind."""
    connections.close_all()

    def work() -> None:
        perform = jobs.perform

        def armed(job: Job) -> Any:
            if job.kind == kind:
                setattr(owner, name, when(getattr(owner, name)))
            return perform(job)

        jobs.perform = armed
        jobs.drain(seconds=30)
        os._exit(0)

    process = FORK.Process(target=work)
    process.start()
    process.join(timeout=200)
    assert process.exitcode == -signal.SIGKILL, "the worker was to die inside the job"


def next_worker(attempts: int = 6) -> None:
    """Let the dead worker's lease run out, and retries come due, and work everything off."""
    for hours in range(1, attempts + 1):
        jobs.drain(seconds=30, clock=lambda hours=hours: timezone.now() + timedelta(hours=hours))


def assert_all_done() -> None:
    left = Job.objects.exclude(state=Job.State.DONE).values_list("key", "state", "last_error")
    assert list(left) == []


def operations(kind: str) -> int:
    return DemoGatewayEntry.objects.filter(operation=kind, status="succeeded").count()


POINTS = {
    "before the gateway call": lambda operation: (DemoGateway, operation, before),
    "after the gateway call": lambda operation: (DemoGateway, operation, after),
    "before the commit": lambda operation: (jobs, "_write_state", after),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("operation", mainly("refund", ["authorize", "capture", "void", "refund"]))
def test_money_moves_once(operation: str, point: str, books: Callable[[], list[str]]) -> None:
    system = get_event_handler(Actor.system())
    until = {"authorize": "", "capture": "preparing", "void": "approved", "refund": "paid"}[operation]
    order = factories.place_order([("10.00", 3)], pay=operation != "authorize", until=until)
    jobs.drain(seconds=30) if operation != "authorize" else None
    if operation == "capture":
        system.take_payment(number=order.number)
    elif operation in {"void", "refund"}:
        system.cancel(number=order.number)
    killed_worker("payments.send", *POINTS[point](operation))
    next_worker()
    assert_all_done()
    assert operations(operation) == 1
    payment = Payment.objects.get(reference=order.number)
    moved = {
        "authorize": payment.authorized,
        "capture": payment.captured,
        "void": payment.voided,
        "refund": payment.refunded,
    }
    assert moved[operation] == Decimal("30.00")
    assert books() == []


@pytest.mark.parametrize("when", [before, after], ids=["before", "after"])
@pytest.mark.parametrize("point", ["settle", "_write_state"])
def test_the_follow_up_on_a_payment_happens_once(
    point: str, when: Callable[..., Any], books: Callable[[], list[str]]
) -> None:
    order = factories.place_order([("10.00", 3)], until="preparing")
    get_event_handler(Actor.system()).take_payment(number=order.number)
    killed_worker("orders.payment_changed", jobs, point, when)
    next_worker()
    assert_all_done()
    assert OrderLine.objects.get(order=order).paid == 3
    assert order.payment_events.filter(event_type__code="paid").count() == 1
    assert books() == []


@pytest.mark.parametrize("when", [before, after], ids=["before", "after"])
@pytest.mark.parametrize("point", ["settle", "_write_state"])
def test_stock_returns_once(point: str, when: Callable[..., Any], books: Callable[[], list[str]]) -> None:
    order = factories.place_order([("10.00", 3)], until="approved")
    jobs.drain(seconds=30)
    get_event_handler(Actor.system()).cancel(number=order.number)
    killed_worker("orders.return_stock", jobs, point, when)
    next_worker()
    assert_all_done()
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
    assert StockMovement.objects.filter(kind="released").count() == 1
    assert factories.record_of(order.lines.get().product).allocated == 0
    assert books() == []


@pytest.mark.parametrize(
    ("point", "name", "when"),
    [
        ("before it is sent", "deliver", before),
        ("after it was sent", "deliver", after),
        ("before the commit", "_write_state", after),
    ],
)
def test_a_message_is_never_lost(point: str, name: str, when: Callable[..., Any]) -> None:
    """It may arrive twice: the mail server has it, and nobody could write that down. It never arrives zero times."""
    factories.place_order([("10.00", 1)])
    killed_worker("notifications.send", notification_tasks if name == "deliver" else jobs, name, when)
    next_worker()
    assert_all_done()
    assert Message.objects.get().status == "sent"
    assert len(mail.outbox) == 1, "this process sent it, whatever the dead one did"


def test_a_job_that_kills_every_worker_ends_with_a_person() -> None:
    order = factories.place_order([("10.00", 1)], until="approved")
    jobs.drain(seconds=30)
    get_event_handler(Actor.system()).cancel(number=order.number)
    job = Job.objects.get(kind="orders.return_stock")
    for attempt in range(job.max_attempts):
        later = timezone.now() + timedelta(hours=attempt)
        taken = jobs.claim(as_of=later, key=job.key)
        assert taken is not None
        assert taken.attempts == attempt + 1
    assert jobs.claim(as_of=timezone.now() + timedelta(days=1), key=job.key) is None
    job.refresh_from_db()
    assert job.state == Job.State.NEEDS_ATTENTION
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
