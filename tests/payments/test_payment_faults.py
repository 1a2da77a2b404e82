"""Whatever the gateway or the worker's death does: one movement at the gateway, and equal books."""

import os
import signal
import warnings
from datetime import timedelta

import pytest
from django.db import connections
from django.db.transaction import atomic
from django.utils import timezone

from payments import services, tasks
from payments.gateways import DemoGateway
from payments.models import Attempt, DemoGatewayEntry, DemoGatewayFault, Payment, Refund
from shop import jobs
from shop.models import Job
from tests.examples import mainly

pytestmark = pytest.mark.django_db

OPERATIONS = ["authorize", "capture", "void", "refund"]
HARMLESS = ["timeout_before", "timeout_after", "answer_twice", "pending", "unavailable", "slow"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("behaviour", HARMLESS)
def test_one_movement_whatever_goes_wrong(till, books, behaviour, operation):
    transaction = till.ask(operation)
    till.fault(behaviour, remaining=2)
    till.work()
    transaction.refresh_from_db()
    assert (transaction.status, till.job(transaction).state) == ("succeeded", "done")
    assert DemoGatewayEntry.objects.filter(operation=operation).count() == 1
    assert not transaction.attempts.filter(outcome__in=Attempt.OPEN).exists()
    books()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_deaf_gateway_ends_with_a_person_who_can_try_again(till, books, operation):
    transaction = till.ask(operation)
    till.fault("timeout_before", remaining=100)
    till.fault("timeout_before", "lookup", remaining=100)
    till.work()
    transaction.refresh_from_db()
    job = till.job(transaction)
    assert (transaction.status, job.state, job.attempts) == ("needs_person", "needs_attention", job.max_attempts)
    assert DemoGatewayEntry.objects.filter(operation=operation).count() == 0

    DemoGatewayFault.objects.update(remaining=0)
    jobs.retry_by_hand(job.pk)
    till.work()
    transaction.refresh_from_db()
    assert transaction.status == "succeeded"
    books()


def test_a_lookup_that_fails_sends_nothing(till, books):
    transaction = till.ask("refund")
    till.fault("timeout_after")
    till.fault("unavailable", "lookup", remaining=2)
    till.work()
    transaction.refresh_from_db()
    assert (transaction.status, transaction.attempts.count()) == ("succeeded", 1)
    books()


def test_a_declined_void_waits_for_a_person_and_nobody_captures_meanwhile(till, books):
    void = till.ask("void")
    till.fault("decline")
    till.work()
    void.refresh_from_db()
    assert (void.status, till.job(void).state) == ("needs_person", "needs_attention")
    with pytest.raises(services.NotEnoughAuthorized):
        till.capture("1", cause="ship:9")
    services.close_as_failed(transaction_id=void.pk, note="not at the gateway", actor_name="Ada")
    assert Payment.objects.get().open_to_capture == 100
    books()


def test_what_is_pending_is_asked_for_not_sent_again(till, books):
    transaction = till.ask("refund")
    till.fault("pending", seconds=3600)
    till.work(hours=(0,))
    transaction.refresh_from_db()
    assert (transaction.status, Refund.objects.get().status) == ("pending", "pending")
    DemoGatewayEntry.objects.filter(operation="refund").update(becomes_at=timezone.now())
    till.work()
    transaction.refresh_from_db()
    assert (transaction.status, transaction.attempts.count()) == ("succeeded", 1)
    assert till.told(transaction) == ["pending", "succeeded"]
    books()


def test_what_was_sent_long_ago_and_is_not_known_is_not_sent_again(till, books, time_machine):
    transaction = till.ask("refund")
    till.fault("timeout_before")
    till.work(hours=(0,))
    time_machine.move_to(timezone.now() + timedelta(hours=21))
    till.work()
    transaction.refresh_from_db()
    assert (transaction.status, transaction.attempts.count()) == ("needs_person", 1)
    assert till.job(transaction).state == "needs_attention"
    assert DemoGatewayEntry.objects.filter(operation="refund").count() == 0
    books()


def test_a_gateway_that_is_gone_from_the_settings_is_a_persons_work(till, settings):
    transaction = till.ask("refund")
    settings.PAYMENT_GATEWAYS = {}
    till.work()
    job = till.job(transaction)
    assert job.state == "needs_attention"
    assert "There is no payment gateway “demo”" in job.last_error


def test_the_gateway_is_never_called_inside_a_transaction(till):
    refund = till.ask("refund")
    job = jobs.claim(as_of=timezone.now(), key=f"payments.send:{refund.pk}")
    with atomic():
        outcome = jobs.perform(job)
    assert outcome.state == "retry"
    assert "durable" in outcome.error
    assert refund.attempts.count() == 0


# ---------------------------------------------------------------------------------------------------------------------
# The worker dies


class Killed(BaseException):
    """What nothing in the desk catches, as nothing catches SIGKILL."""


def dies_before(function):
    def die(*args, **kwargs):
        raise Killed

    return die


def dies_after(function):
    def die(*args, **kwargs):
        function(*args, **kwargs)
        raise Killed

    return die


PLACES = {
    "before the attempt is written": (services, "begin_attempt", dies_before),
    "before the attempt is committed": (jobs, "mark_sent", dies_after),
    "after the attempt, before the gateway": (tasks, "_request", dies_before),
    "at the gateway, before it acts": (DemoGateway, "_answer", dies_before),
    "at the gateway, after it acted": (DemoGateway, "_answer", dies_after),
    "before the outcome is written": (services, "record_outcome", dies_before),
    "before the outcome is committed": (services, "record_outcome", dies_after),
    "before the job's state is written": (jobs, "_write_state", dies_before),
    "before job and outcome are committed": (jobs, "_write_state", dies_after),
}


@pytest.mark.kill
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("operation", mainly("refund", OPERATIONS))
@pytest.mark.parametrize("place", PLACES)
def test_a_worker_that_dies_anywhere_leaves_one_movement(till, books, place, operation, monkeypatch):
    where, name, dies = PLACES[place]
    transaction = till.ask(operation)
    for death in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, dies(getattr(where, name)))
            try:
                jobs.drain(clock=lambda death=death: timezone.now() + timedelta(minutes=5 * death))
            except Killed:
                pass
            else:
                # The second worker finds the result by look-up and has no need to go there again.
                assert death == 1
    till.work()
    transaction.refresh_from_db()
    assert (transaction.status, till.job(transaction).state) == ("succeeded", "done")
    assert DemoGatewayEntry.objects.filter(operation=operation).count() == 1
    assert till.told(transaction) == ["succeeded"]
    books()


@pytest.mark.kill
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("when", [dies_before, dies_after])
def test_a_process_killed_at_the_gateway_leaves_one_movement(till, books, when, monkeypatch):
    transaction = till.ask("refund")
    connections.close_all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: the child does nothing but this
        child = os.fork()
    if not child:
        original = DemoGateway._answer

        def answer(self, *args):
            if when is dies_after:
                original(self, *args)
            os.kill(os.getpid(), signal.SIGKILL)

        DemoGateway._answer = answer
        try:
            jobs.drain()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    job = till.job(transaction)
    assert (job.state, job.outcome_unknown) == ("running", True)
    assert transaction.attempts.get().outcome == "started"
    assert DemoGatewayEntry.objects.filter(operation="refund").count() == (1 if when is dies_after else 0)
    till.work()
    transaction.refresh_from_db()
    assert transaction.status == "succeeded"
    assert DemoGatewayEntry.objects.filter(operation="refund").count() == 1
    books()


@pytest.mark.django_db(transaction=True)
def test_two_workers_who_both_believe_the_job_is_theirs_move_the_money_once(till, books):
    transaction = till.ask("refund")
    key, now = f"payments.send:{transaction.pk}", timezone.now()
    first = jobs.claim(as_of=now, key=key)
    second = jobs.claim(as_of=now + jobs.LEASE + timedelta(seconds=1), key=key)
    outcomes = [jobs.perform(first), jobs.perform(second)]
    with pytest.raises(jobs.LeaseLost):
        jobs.settle(first, outcomes[0], as_of=now)
    jobs.settle(second, outcomes[1], as_of=now)
    assert Job.objects.get(key=key).state == "done"
    assert DemoGatewayEntry.objects.filter(operation="refund").count() == 1
    books()
