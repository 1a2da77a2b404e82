"""Refunds: over several payments, never more than was captured, declined, sent back, done by hand."""

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import OperationalError
from django.utils import timezone

from payments import services
from payments.models import Payment, Refund, Transaction
from payments.tasks import recheck_refunds
from shop import jobs

pytestmark = pytest.mark.django_db


def test_a_refund_takes_the_newest_payment_first_to_the_cent(till, books):
    first, second, third = (till.captured(amount) for amount in ("10.01", "20.02", "30.03"))
    refund = till.refund("50.06")
    assert list(refund.transactions.order_by("pk").values_list("payment_id", "amount")) == [
        (third.pk, Decimal("30.03")),
        (second.pk, Decimal("20.02")),
        (first.pk, Decimal("0.01")),
    ]
    till.work()
    refund.refresh_from_db()
    assert refund.status == "succeeded"
    books()
    rest = till.refund("10", cause="cancel:2")
    assert rest.transactions.get().payment == first
    till.work()
    assert services.money_of(reference=till.reference).refundable == 0
    books()


def test_more_than_was_captured_is_not_refunded(till):
    till.captured("10")
    till.captured("20")
    till.refund("5")
    with pytest.raises(services.RefundTooLarge) as no:
        till.refund("25.01", cause="cancel:2")
    assert str(no.value) == "€25.01 cannot be refunded: only €25.00 is captured and not refunded yet."
    with pytest.raises(services.RefundTooLarge):
        till.refund("1", cause="cancel:3", reference="nobody")


@pytest.mark.parametrize(
    "counters",
    [
        {"refund_reserved": Decimal("100.01")},
        {"refunded": Decimal("0.01")},
        {"refunded": Decimal("-0.01")},
        {"captured": Decimal("100.01")},
        {"capture_reserved": Decimal("100.01"), "captured": Decimal("100.01")},
        {"voided": Decimal("0.01")},
        {"authorized": Decimal("100.01")},
    ],
)
def test_the_database_itself_refuses_impossible_books(till, counters):
    payment = till.captured("100")
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.filter(pk=payment.pk).update(**counters)


def test_a_declined_refund_waits_for_a_person_with_its_reserve(till, books):
    refund_transaction = till.ask("refund")
    till.fault("decline")
    till.work()
    refund_transaction.refresh_from_db()
    job = till.job(refund_transaction)
    assert (refund_transaction.status, refund_transaction.error) == ("needs_person", "The bank declined.")
    assert (job.state, job.last_error) == ("needs_attention", "The bank declined.")
    assert refund_transaction.refund.status == "waiting"
    with pytest.raises(services.RefundTooLarge):
        till.refund("1", cause="cancel:2")
    books()

    jobs.retry_by_hand(job.pk)
    till.work()
    refund_transaction.refresh_from_db()
    assert refund_transaction.status == "succeeded"
    assert Refund.objects.get().status == "succeeded"
    # After a definite no, a new key: the gateway would repeat its answer to the old one for ever.
    first, second = refund_transaction.attempts.order_by("number")
    assert (first.outcome, second.outcome, first.key) == ("failed", "succeeded", refund_transaction.key)
    assert first.key != second.key
    assert till.told(refund_transaction) == ["needs_person", "succeeded:2"]
    books()


def test_a_declined_refund_can_be_paid_by_hand(till):
    refund_transaction = till.ask("refund")
    till.fault("decline")
    till.work()
    jobs.finish_by_hand(till.job(refund_transaction).pk, user_id=None, actor_name="Ada", note="bank transfer 17")
    refund_transaction.refresh_from_db()
    assert (refund_transaction.status, refund_transaction.settled_by) == ("succeeded", "Ada")
    assert refund_transaction.gateway_reference == "by hand: bank transfer 17"
    assert (Payment.objects.get().refunded, Refund.objects.get().status) == (100, "succeeded")
    assert list(services.verify()) == []


def test_a_declined_refund_can_be_closed_and_its_amount_is_free_again(till, books):
    refund_transaction = till.ask("refund")
    till.fault("decline")
    till.work()
    services.close_as_failed(transaction_id=refund_transaction.pk, note="account closed", actor_name="Ada")
    till.work()
    refund_transaction.refresh_from_db()
    assert (refund_transaction.status, refund_transaction.error) == ("failed", "account closed")
    assert (till.job(refund_transaction).state, Refund.objects.get().status) == ("done", "failed")
    till.refund("100", cause="cancel:2")
    till.work()
    books()


def test_what_a_worker_may_still_send_cannot_be_closed(till):
    refund_transaction = till.ask("refund")
    with pytest.raises(services.NotClosable):
        services.close_as_failed(transaction_id=refund_transaction.pk, note="", actor_name="Ada")


def test_a_refund_over_two_payments_of_which_one_fails_is_partly_done(till, books):
    till.captured("10")
    till.captured("20")
    till.fault("decline", "refund")
    refund = till.refund("30")
    till.work()
    refund.refresh_from_db()
    assert refund.status == "waiting"
    declined = refund.transactions.get(status="needs_person")
    services.close_as_failed(transaction_id=declined.pk, note="no", actor_name="Ada")
    refund.refresh_from_db()
    assert refund.status == "partly"
    books()


def test_a_refund_that_comes_back_later_is_shown_to_a_person_and_sent_again(till, books, time_machine):
    refund_transaction = till.ask("refund")
    till.fault("fail_late", seconds=3600)
    till.work()
    refund_transaction.refresh_from_db()
    assert refund_transaction.status == "succeeded"

    time_machine.move_to(timezone.now() + timedelta(hours=24))
    recheck_refunds()
    recheck_refunds()
    till.work()
    refund_transaction.refresh_from_db()
    payment = Payment.objects.get()
    assert (refund_transaction.status, payment.refunded, payment.refund_reserved) == ("needs_person", 0, 100)
    job = till.job(refund_transaction)
    assert (job.state, job.last_error) == ("needs_attention", "The customer's bank sent it back.")
    assert Refund.objects.get().status == "waiting"
    books()

    jobs.retry_by_hand(job.pk)
    till.work()
    assert Refund.objects.get().status == "succeeded"
    assert till.told(refund_transaction) == ["succeeded", "needs_person:2", "succeeded:2"]
    books()


def test_nothing_else_leaves_a_final_state(till):
    refund_transaction = till.ask("refund")
    till.work()
    key = str(refund_transaction.key)
    with pytest.raises(services.AlreadySettled):
        services.record_outcome(transaction_id=refund_transaction.pk, key=key, answer="declined")
    for answer in ("pending", "unknown", "unavailable", "needs_person"):
        services.record_outcome(transaction_id=refund_transaction.pk, key=key, answer=answer)
    services.ask_person(transaction_id=refund_transaction.pk, error="x")
    with pytest.raises(services.NotClosable):
        services.close_as_failed(transaction_id=refund_transaction.pk, note="x", actor_name="x")
    refund_transaction.refresh_from_db()
    assert refund_transaction.status == "succeeded"
    assert list(services.verify()) == []


def test_a_no_that_is_delivered_twice_is_not_taken_for_the_answer_to_the_next_try(till, books):
    refund_transaction = till.ask("refund")
    till.fault("decline")
    till.work()
    jobs.retry_by_hand(till.job(refund_transaction).pk)
    till.fault("timeout_after")
    till.work(hours=(0,))  # the second try is under way, its outcome unknown
    old, pk = str(refund_transaction.key), refund_transaction.pk
    services.record_outcome(transaction_id=pk, key=old, answer="declined")
    services.refund_failed_late(transaction_id=pk, key=old, error="again")
    refund_transaction.refresh_from_db()
    assert (refund_transaction.status, refund_transaction.round) == ("unknown", 2)
    with pytest.raises(services.AlreadySettled):
        services.record_outcome(transaction_id=pk, key=old, answer="succeeded")
    till.work()
    assert till.moved_at_gateway()["refund"] == 100
    books()


def race(count, work):
    """Run `work(number)` in threads that start together; returns what each ended in."""
    ended, together = [], threading.Barrier(count)

    def run(number):
        try:
            together.wait()
            ended.append(work(number))
        except (services.RefundTooLarge, IntegrityError, OperationalError) as error:
            ended.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_eight_people_who_refund_at_once_get_no_more_than_was_captured(till, books):
    till.captured("20")
    till.captured("30")
    ended = race(8, lambda number: till.refund("9.99", cause=f"cancel:{number}").amount)
    assert ended.count(Decimal("9.99")) == 5
    assert ended.count(services.RefundTooLarge) == 3
    till.work()
    assert services.money_of(reference=till.reference).refunded == Decimal("49.95")
    books()


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_eight_people_with_one_cause_make_one_refund(till, books):
    till.captured("100")
    ended = race(8, lambda number: till.refund("10").pk)
    assert len(set(ended)) == 1
    assert Transaction.objects.filter(kind="refund").count() == 1
    till.work()
    books()


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_without_the_lock_the_race_shows(till, monkeypatch):
    """The control: on PostgreSQL the lock is what serialises (SQLite's IMMEDIATE transactions cannot be taken away)."""
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL: SQLite serialises all writers")
    till.captured("100")
    together = threading.Barrier(4)

    def unlocked(reference):
        rows = list(Payment.objects.filter(reference=reference).order_by("pk"))
        together.wait(timeout=60)
        return rows

    monkeypatch.setattr("payments.services.asking.locked", unlocked)
    race(4, lambda number: till.refund("10", cause=f"cancel:{number}").pk)
    assert any("refund_reserved is 10" in wrong for wrong in services.verify())
