"""Send and record: called by the worker, by a gateway's webhook, and when a person settles something."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Max
from django.db.transaction import atomic
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from payments import rules
from payments.models import Attempt, Transaction
from payments.services.ledger import SEND, Kind, Status, by_hand_reference, locked_transaction, move, promise
from shop import jobs
from shop.errors import Invalid, Refused
from shop.models import Job


class AlreadySettled(Refused):
    code = "transaction_settled"
    message = _("The gateway says “%(answer)s”, but this transaction has ended as “%(status)s”: check at the gateway.")


class NotClosable(Refused):
    code = "transaction_not_closable"
    message = _("Only a transaction that waits for a person can be closed.")


class ProofMissing(Invalid):
    code = "proof_missing"
    message = _("Say what proves it, such as the bank's reference of the transfer.")


def begin_attempt(*, transaction_id: int) -> Attempt | None:
    """This will write the row that says: now it is sent. None if the transaction has ended meanwhile.

    What was sent before under this key did not arrive, or the caller would not send again. Locks the transaction, so
    that it is either sent or abandoned. The caller commits before it calls the gateway.
    """
    row = Transaction.objects.select_for_update(no_key=True).get(pk=transaction_id)
    if row.is_final:
        return None
    now = timezone.now()
    row.attempts.filter(outcome__in=Attempt.OPEN).update(outcome=Attempt.Outcome.NOT_FOUND, finished_at=now)
    last = row.attempts.aggregate(last=Max("number"))["last"] or 0
    return Attempt.objects.create(transaction=row, number=last + 1, key=row.gateway_key, started_at=now)


def first_sent_at(*, transaction: Transaction) -> datetime | None:
    """This will say since when the gateway may know the key that the transaction would be sent under now."""
    arrived = transaction.attempts.filter(key=transaction.gateway_key).exclude(outcome=Attempt.Outcome.UNAVAILABLE)
    first = arrived.order_by("number").first()
    return first.started_at if first else None


@atomic
def record_outcome(
    *,
    transaction_id: int,
    key: str,
    answer: str,
    gateway_reference: str = "",
    error: str = "",
    next_action: Mapping[str, Any] | None = None,
) -> Transaction:
    """This will write what the gateway answered, move the counters, and tell whoever opened the payment.

    key     under which it was asked; news of an older round (the repetition of a no) changes nothing, so that it is
            never taken for the answer to what is under way now
    answer  succeeded | declined | pending | needs_person (GatewayResult.status), unknown (no answer: GatewayTimeout) or
            unavailable (never reached: nothing changes but the attempt)
    next_action  what the customer has to do, while it is pending

    The same answer again changes nothing. A declined authorisation or capture has failed and frees its reserve; a
    declined refund or void waits for a person and keeps it. Locks payment, transaction, refund.
    Raises AlreadySettled when the answer contradicts how the transaction ended.
    """
    payment, row = locked_transaction(transaction_id)
    error = jobs.scrubbed(error)
    status = rules.status_after(kind=row.kind, answer=answer)
    is_old = key != row.gateway_key
    if row.is_final or is_old:
        contradicts = answer == "succeeded" if is_old else answer in {"succeeded", "declined"} and status != row.status
        if contradicts:
            raise AlreadySettled(params={"answer": answer, "status": row.get_status_display()})
        return row
    row.attempts.filter(outcome__in=Attempt.OPEN).update(
        outcome=rules.ATTEMPT_AFTER[answer],
        finished_at=timezone.now(),
        gateway_reference=gateway_reference[:200],
        error=error,
    )
    told = row.next_action if next_action is None else next_action
    move(payment, row, status or row.status, gateway_reference=gateway_reference, error=error, next_action=told)
    if answer == "declined" and not row.is_final:
        row.round += 1
        row.save(update_fields=["round"])
    return row


@atomic
def ask_person(*, transaction_id: int, error: str) -> None:
    """This will mark a transaction as one that does not come further by itself. What is known of its attempts stays."""
    payment, row = locked_transaction(transaction_id)
    if not row.is_final:
        move(payment, row, Status.NEEDS_PERSON, error=jobs.scrubbed(error))


@atomic
def settle_by_hand(*, transaction_id: int, note: str, actor_name: str) -> Transaction:
    """This will record that a person moved the money (or saw that it had moved). Nothing happens to what has ended.

    note  what proves it. Raises ProofMissing where the money went to a bank account without any.
    """
    payment, row = locked_transaction(transaction_id)
    if not row.is_final:
        if row.destination and not note.strip():
            raise ProofMissing(field="note")
        move(payment, row, Status.SUCCEEDED, gateway_reference=by_hand_reference(note), by=actor_name)
    return row


@atomic
def close_as_failed(*, transaction_id: int, note: str, actor_name: str) -> Transaction:
    """This will record that no money moved and none will by this transaction; its reserve is free again.

    Possible only while its job waits for a person, so that no worker sends it meanwhile; that job ends as well.
    Locks payment, transaction, refund, then the job. Raises NotClosable.
    """
    payment, row = locked_transaction(transaction_id)
    job_id = waiting_job_id(transaction=row)
    if row.is_final or job_id is None:
        raise NotClosable
    move(payment, row, Status.FAILED, error=note[:500], by=actor_name)
    try:
        jobs.retry_by_hand(job_id)  # it finds nothing left to do
    except jobs.JobGone:  # a worker has it by now: what was written here is undone
        raise NotClosable from None
    return row


def sent_as(*, transaction: Transaction) -> tuple[str, datetime, datetime]:
    """This will say what the gateway calls the transaction, and when it was sent for the first and the last time.

    Of what it was or would be sent under now: an earlier round is another movement.
    """
    attempts = list(transaction.attempts.filter(key=transaction.gateway_key).order_by("number"))
    known = next((attempt.gateway_reference for attempt in reversed(attempts) if attempt.gateway_reference), "")
    if transaction.is_outside:
        known = transaction.gateway_reference
    if not attempts:
        return known, transaction.created_at, timezone.now()
    return known, attempts[0].started_at, attempts[-1].started_at


def waiting_job_id(*, transaction: Transaction) -> int | None:
    """This will find the job that waits for a person to bring the transaction further."""
    waiting = Job.objects.filter(kind=SEND, reference=transaction.payment.reference, state=Job.State.NEEDS_ATTENTION)
    return next((job.pk for job in waiting if job.args.get("transaction") == transaction.pk), None)


@atomic
def refund_failed_late(*, transaction_id: int, key: str, error: str) -> Transaction:
    """This will take back a refund that succeeded, as the gateway says later that the customer's bank sent it back.

    The one way out of a final state. The money is with the shop again and still owed to the customer, so the
    transaction waits for a person in the inbox, with its reserve: to be sent again under a new key (Retry), transferred
    by hand (Done by hand), or closed as failed. The same news again changes nothing.
    """
    payment, row = locked_transaction(transaction_id)
    if key != row.gateway_key:
        return row
    if row.kind != Kind.REFUND or row.status != Status.SUCCEEDED:
        return record_outcome(transaction_id=transaction_id, key=key, answer="declined", error=error)
    error = jobs.scrubbed(error)
    row.attempts.filter(outcome=Attempt.Outcome.SUCCEEDED).update(outcome=Attempt.Outcome.FAILED, error=error)
    row.round += 1
    row.save(update_fields=["round"])
    move(payment, row, Status.NEEDS_PERSON, error=error)
    jobs.enqueue_many([promise(payment, row)])
    return row
