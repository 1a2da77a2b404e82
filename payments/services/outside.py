"""What happened elsewhere: webhooks received, money moved at the gateway itself, disputes; one way in for all of it.

What a gateway tells is stored as it came (`receive`) and answered at once. A worker then asks the gateway how things
stand now, and `take_in` brings that into our books, whether a webhook, a look-up or a reconciliation asked. It may be
called twice, in any order and by two workers: a movement is found again by our key or the gateway's reference, what
has ended stays ended, and a dispute never goes back to an earlier stage.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from django.db.models import Q
from django.db.transaction import atomic
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import rules
from payments.gateways import GatewayNotice, GatewayRecord
from payments.models import Origin, Payment, Transaction, WebhookReceived
from payments.rules import COUNTER_NAMES
from payments.services.differences import recheck
from payments.services.disputes import take_dispute
from payments.services.ledger import PROCESS, Kind, Status, book_outside, count, locked_transaction, move, tell
from payments.services.outcomes import record_outcome, refund_failed_late, waiting_job_id
from shop import jobs
from shop.errors import Refused
from shop.models import Job
from shop.money import shown

FORGET_AT_ONCE = 500


class AmountDiffers(Refused):
    code = "gateway_amount_differs"
    message = gettext_lazy("%(reference)s: the gateway says %(there)s, here it is %(here)s. Check at the gateway.")


class OutsideRefundTooLarge(Refused):
    code = "outside_refund_too_large"
    message = gettext_lazy(
        "%(reference)s: %(amount)s was refunded at the gateway itself, but here only %(available)s is captured and not "
        "refunded or about to be."
    )


class OutsideRefundAmbiguous(Refused):
    code = "outside_refund_ambiguous"
    message = gettext_lazy(
        "%(reference)s: %(amount)s was refunded at the gateway itself, while a refund of this desk of the same amount "
        "waits for a person."
    )


class OutsideTooLarge(Refused):
    code = "outside_movement_too_large"
    message = gettext_lazy(
        "%(reference)s: at the gateway itself, %(amount)s was captured or let go, but here only %(available)s is "
        "authorised and neither captured nor let go."
    )


class OwnUnderWay(Refused):
    """waits_for_person: the desk's own is in the inbox, where a person sees to it."""

    code = "outside_waits_for_own"
    waits_for_person = False
    message = gettext_lazy(
        "%(reference)s: %(amount)s was captured or let go at the gateway itself, while the desk is about to do so, too."
    )


class StillProcessing(Refused):
    code = "webhook_still_processing"
    message = gettext_lazy("It is being processed. Wait until that has ended.")


# --- webhooks ---------------------------------------------------------------------------------------------------------


@atomic
def receive(*, gateway: str, notice: GatewayNotice, as_of: datetime) -> bool:
    """This will store a verified notice and promise to process it. False: it has come before, and nothing happens."""
    row, is_new = WebhookReceived.objects.get_or_create(
        gateway=gateway,
        event_id=notice.event_id[:200],
        defaults={
            "kind": notice.kind[:100],
            "body": rules.without_card_numbers(dict(notice.body)),
            "received_at": as_of,
        },
    )
    if is_new:
        jobs.enqueue(PROCESS, key=f"{PROCESS}:{row.pk}", args={"webhook": row.pk})
    return is_new


@atomic
def finish_webhook(*, webhook_id: int, records: Iterable[GatewayRecord] | None, as_of: datetime) -> WebhookReceived:
    """This will bring into the books what the gateway said when it was asked about a notice (None: of no interest).

    What a void or capture of the desk stands in the way of, which waits for a person, waits for that one's end
    (ledger.hear_again): the person has one item, not two.
    Locks the notice, then what `take_in` locks. Raises what that raises; then nothing has happened.
    """
    row = WebhookReceived.objects.select_for_update(no_key=True).get(pk=webhook_id)
    records = list(records or ())
    _settle_voids(row.gateway, records, as_of)
    try:
        with atomic():
            taken = [take_in(gateway=row.gateway, record=record, as_of=as_of) for record in records]
    except OwnUnderWay as no:
        if not no.waits_for_person:
            raise
        row.told, row.reference = str(no)[:500], no.params["reference"]
        row.save(update_fields=["told", "reference"])
        return row
    recheck(gateway=row.gateway, records=records, as_of=as_of)
    references = [reference for reference, _words in taken if reference]
    row.outcome = WebhookReceived.Outcome.DONE if references else WebhookReceived.Outcome.IGNORED
    row.told = " ".join(dict.fromkeys(words for _reference, words in taken))[:500]
    row.reference = next(iter(references), "")
    row.processed_at = as_of
    row.save(update_fields=["outcome", "told", "reference", "processed_at"])
    return row


@atomic
def replay_webhook(*, webhook_id: int) -> None:
    """This will have a notice processed once more: the gateway is asked again. Raises StillProcessing."""
    row = WebhookReceived.objects.select_for_update(no_key=True).get(pk=webhook_id)
    open_job = Job.objects.filter(kind=PROCESS, args={"webhook": row.pk}).exclude(state=Job.State.DONE).first()
    if open_job is not None and open_job.state != Job.State.NEEDS_ATTENTION:
        raise StillProcessing
    row.replays += 1
    row.outcome, row.processed_at = WebhookReceived.Outcome.WAITING, None
    row.save(update_fields=["replays", "outcome", "processed_at"])
    if open_job is not None:
        jobs.retry_by_hand(open_job.pk)
    else:
        jobs.enqueue(PROCESS, key=f"{PROCESS}:{row.pk}:{row.replays}", args={"webhook": row.pk})


def is_being_processed(*, webhook: WebhookReceived) -> bool:
    """This will say whether a job for the notice is waiting or running."""
    at_work = [Job.State.WAITING, Job.State.RUNNING]
    return Job.objects.filter(kind=PROCESS, args={"webhook": webhook.pk}, state__in=at_work).exists()


def forget_webhooks(*, before: datetime) -> int:
    """This will delete notices that came and were processed before a time, some at a time; returns how many.

    What waits, failed or is being processed again stays, as does all that a gateway may deliver once more: Stripe does
    so for days, and by hand for 30. One that came back later still would be asked about again, and change nothing.
    """
    rows = WebhookReceived.objects.filter(processed_at__lt=before, received_at__lt=before)
    rows = rows.exclude(outcome=WebhookReceived.Outcome.WAITING)
    deleted = 0
    while some := list(rows.order_by("processed_at").values_list("pk", flat=True)[:FORGET_AT_ONCE]):
        # Asked again: a person may have had one of them processed once more meanwhile.
        gone = rows.filter(pk__in=some)._raw_delete("default")
        deleted += gone
        if not gone:
            break
    return deleted


# --- the one way in ---------------------------------------------------------------------------------------------------


@atomic
def take_in(*, gateway: str, record: GatewayRecord, as_of: datetime) -> tuple[str, str]:
    """This will bring one movement or dispute, as the gateway has it now, into our books.

    Returns the reference it belongs to (empty: none of this desk) and what was done, in words. Locks the payment, then
    the transaction and its refund. Raises AmountDiffers, OutsideRefundTooLarge, OutsideRefundAmbiguous,
    OutsideTooLarge, OwnUnderWay, DisputeContradicts, AlreadySettled.
    """
    payment = _payment_of(gateway, record)
    if payment is None:
        return "", _("No payment of this desk.")
    if record.kind == "dispute":
        return payment.reference, take_dispute(payment, record, as_of)
    row = _transaction_of(payment, record)
    if row is not None:
        return payment.reference, _take_known(payment, row, record)
    if record.kind == Kind.REFUND:
        return payment.reference, _take_outside_refund(payment, record, as_of)
    if is_by_others(record):
        return payment.reference, _take_outside_capture_or_void(payment, record, as_of)
    # Under a key of ours that nobody here knows: the reconciliation shows it, and a person decides.
    return payment.reference, _("%(what)s of %(amount)s: not asked by this desk.") % {
        "what": Kind(record.kind).label,
        "amount": shown(record.amount, record.currency),
    }


def _payment_of(gateway: str, record: GatewayRecord) -> Payment | None:
    """The payment that a record belongs to, locked: by our key, or by the gateway's reference of its authorisation."""
    which = Q(gateway_reference=record.payment_reference) if record.payment_reference else Q(pk=None)
    if record.kind == Kind.AUTHORIZE and (key := _uuid(record.key)):
        which |= Q(key=key)
    rows = Transaction.objects.filter(which, kind=Kind.AUTHORIZE, payment__gateway=gateway)
    found = rows.order_by("pk").values_list("payment_id", flat=True).first()
    return Payment.objects.select_for_update(no_key=True).get(pk=found) if found is not None else None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _transaction_of(payment: Payment, record: GatewayRecord) -> Transaction | None:
    """Which of the payment's transactions a record is: by any key it was sent under, or by the gateway's reference."""
    rows = list(payment.transactions.filter(kind=record.kind, destination="").order_by("pk"))
    for row in rows:
        if record.key and record.key in row.gateway_keys:
            return row
    if record.kind == Kind.VOID and not record.key:
        same = [row for row in rows if row.amount == record.amount and row.status != Status.FAILED]
        return next((row for row in same if not row.is_final), same[-1] if same else None)
    if record.kind in {Kind.AUTHORIZE, Kind.REFUND}:
        return next((row for row in rows if row.gateway_reference == record.reference), None)
    return None


def _take_known(payment: Payment, row: Transaction, record: GatewayRecord) -> str:
    what = f"{row.get_kind_display()} {shown(row.amount, payment.currency)}"
    if (record.amount, record.currency) != (row.amount, payment.currency):
        there, here = shown(record.amount, record.currency), shown(row.amount, payment.currency)
        raise AmountDiffers(params={"reference": payment.reference, "there": there, "here": here})
    key = record.key if record.key in row.gateway_keys else row.gateway_key
    if record.status == "pending" and row.status not in {Status.REQUESTED, Status.UNKNOWN}:
        return _("%(what)s: nothing new.") % {"what": what}
    if record.status == "declined" and row.kind in {Kind.REFUND, Kind.VOID} and not row.is_final:
        # It is owed all the same. Its own job asks, and brings it into the inbox, rather than send it a second time.
        return _("%(what)s: declined; its job asks again.") % {"what": what}
    if record.status == "declined" and row.kind == Kind.REFUND and row.status == Status.SUCCEEDED:
        row = refund_failed_late(transaction_id=row.pk, key=key, error=record.message)
        return _("%(what)s: %(status)s.") % {"what": what, "status": row.get_status_display()}
    before = row.status
    row = record_outcome(
        transaction_id=row.pk,
        key=key,
        answer=record.status,
        gateway_reference=record.reference,
        error=record.message,
    )
    if row.status == before:
        return _("%(what)s: nothing new.") % {"what": what}
    if row.is_final and (job_id := waiting_job_id(transaction=row)) is not None:
        jobs.retry_by_hand(job_id)  # it leaves the inbox: it finds nothing left to do
    return _("%(what)s: %(status)s.") % {"what": what, "status": row.get_status_display()}


# --- money moved by others --------------------------------------------------------------------------------------------


def _take_outside_refund(payment: Payment, record: GatewayRecord, as_of: datetime) -> str:
    amount = shown(record.amount, payment.currency)
    if record.status == "declined":
        return _("Refund of %(amount)s at the gateway: it failed, nothing to book.") % {"amount": amount}
    if record.currency != payment.currency:
        there = shown(record.amount, record.currency)
        raise AmountDiffers(params={"reference": payment.reference, "there": there, "here": payment.currency})
    if record.amount > payment.refundable:
        available = shown(payment.refundable, payment.currency)
        params = {"reference": payment.reference, "amount": amount, "available": available}
        raise OutsideRefundTooLarge(
            params=params,
            remedy=_("If a refund of this desk waits for the same money, close it as failed; then try again."),
        )
    waiting = payment.transactions.filter(kind=Kind.REFUND, status=Status.NEEDS_PERSON, origin=Origin.DESK)
    if waiting.filter(destination="", amount=record.amount).exists():
        # Booked beside it, the one that waits would be given as well, by hand or once it is closed.
        raise OutsideRefundAmbiguous(
            params={"reference": payment.reference, "amount": amount},
            remedy=_("If it was made in its place, close that one as failed; else see to that first. Then try again."),
        )
    book_outside(
        payment,
        record.amount,
        cause=f"outside:{payment.gateway}:{record.reference}"[:120],
        origin=Origin.OUTSIDE,
        reason=_("Refunded at the gateway itself"),
        reference=record.reference,
        status=Status.PENDING if record.status == "pending" else Status.SUCCEEDED,
        as_of=as_of,
    )
    return _("Refund of %(amount)s, made at the gateway itself: booked.") % {"amount": amount}


def is_by_others(record: GatewayRecord) -> bool:
    """This will say whether it is money that was captured or let go without the desk asking for it."""
    return not record.key and record.kind in {Kind.CAPTURE, Kind.VOID} and record.status == "succeeded"


def is_too_early(*, gateway: str, records: Iterable[GatewayRecord]) -> bool:
    """This will say whether to wait before taking these in, as something that they build upon is on its way.

    That is a capture or void of ours (not one that waits for a person, which may take days, nor one that the records
    themselves settle), or the news of a capture of which they have a refund.
    """
    records = list(records)
    keys = {record.key for record in records if record.key}
    for record in records:
        if record.kind == Kind.REFUND and not record.key and record.status != "declined":
            if _captures_to_come(gateway, record):
                return True
            continue
        if not is_by_others(record):
            continue
        opened = Transaction.objects.filter(kind=Kind.AUTHORIZE, payment__gateway=gateway)
        payments = opened.filter(gateway_reference=record.payment_reference).exclude(gateway_reference="")
        moving = Transaction.objects.filter(
            payment__in=payments.values("payment"),
            kind__in=[Kind.CAPTURE, Kind.VOID],
            status__in=[Status.REQUESTED, Status.PENDING, Status.UNKNOWN],
        )
        for row in moving:
            is_it = record.kind == row.kind == Kind.VOID and record.amount == row.amount
            if not is_it and not keys.intersection(row.gateway_keys):
                return True
    return False


def _captures_to_come(gateway: str, record: GatewayRecord) -> bool:
    """Whether more went back than was captured as far as we know, while more is held: its capture is news to come."""
    opened = Transaction.objects.filter(kind=Kind.AUTHORIZE, payment__gateway=gateway)
    opened = opened.filter(gateway_reference=record.payment_reference).exclude(gateway_reference="")
    payment = Payment.objects.filter(pk__in=opened.values("payment")).first()
    if payment is None or payment.transactions.filter(kind=Kind.REFUND, gateway_reference=record.reference).exists():
        return False
    return record.amount > payment.refundable and payment.authorized > payment.captured + payment.voided


def _take_outside_capture_or_void(payment: Payment, record: GatewayRecord, as_of: datetime) -> str:
    """Book what was captured or let go at the gateway itself, as far as it is not booked. The payment is locked.

    A gateway tells sums here, not single movements: what is booked is the difference. While one of ours may still move,
    nothing is booked beside it, so that ours is never taken for somebody else's.
    """
    label = Kind(record.kind).label
    if record.currency != payment.currency:
        there = shown(record.amount, record.currency)
        raise AmountDiffers(params={"reference": payment.reference, "there": there, "here": payment.currency})
    amount = _not_booked(payment, record)
    if amount <= 0:
        return _("%(what)s: nothing new.") % {"what": f"{label} {shown(record.amount, payment.currency)}"}
    params = {"reference": payment.reference, "amount": shown(amount, payment.currency)}
    ours = payment.transactions.filter(kind__in=[Kind.CAPTURE, Kind.VOID]).exclude(status__in=Transaction.FINAL)
    if ours.exists():
        remedy = _("See to the desk's own first: if it cannot be done any more, close it as failed. Then try again.")
        no = OwnUnderWay(params=params, remedy=remedy)
        no.waits_for_person = all(status == Status.NEEDS_PERSON for status in ours.values_list("status", flat=True))
        raise no
    if amount > payment.open_to_capture:
        raise OutsideTooLarge(params={**params, "available": shown(payment.open_to_capture, payment.currency)})
    row = Transaction.objects.create(
        payment=payment,
        kind=record.kind,
        amount=amount,
        cause=f"outside:{payment.gateway}:{record.amount:.3f}:{record.reference}"[:150],
        origin=Origin.OUTSIDE,
        status=Status.SUCCEEDED,
        gateway_reference=record.reference[:200],
        settled_at=as_of,
    )
    count(payment, row, before=None)
    payment.save(update_fields=COUNTER_NAMES)
    tell(payment, row)
    return _("%(what)s, made at the gateway itself: booked.") % {"what": f"{label} {params['amount']}"}


def _not_booked(payment: Payment, record: GatewayRecord, *, but: Transaction | None = None) -> Decimal:
    """How much of what others captured or let go, as the gateway sums it up, is not in our books, or only in `but`."""
    rows = list(payment.transactions.filter(kind=record.kind).exclude(status=Status.FAILED).order_by("pk"))
    rows = [row for row in rows if row != but]
    known = rows if record.kind == Kind.VOID else rules.matching(record, rows)
    amount = record.amount - sum((row.amount for row in known), Decimal(0))
    # A capture of ours that has lost its key there looks like one of others; the sum of all shows it.
    return amount if record.in_all is None else min(amount, record.in_all - payment.captured)


# --- a void that came too late ----------------------------------------------------------------------------------------


def is_overtaken(*, void: Transaction, records: Iterable[GatewayRecord]) -> bool:
    """This will say whether somebody captured at the gateway what a void was to let go, and nothing else is unclear.

    records  how its authorisation stands there, by `ShowingGateway.records_of`
    """
    return bool(_overtaken_by(void.payment, void, list(records)))


@atomic
def settle_overtaken(*, transaction_id: int, records: Sequence[GatewayRecord], as_of: datetime) -> None:
    """This will end a void that somebody was faster than: it has failed, and what happened there is booked instead.

    What was captured is a capture made at the gateway itself; what was let go beside it is a void. What is still held
    is free, and the order decides about it anew. Its item leaves the inbox. Nothing happens to a void that has ended.
    Locks payment, transaction. Raises OwnUnderWay where that is not clear any more.
    """
    payment, row = locked_transaction(transaction_id)
    if row.is_final:
        return
    found = _overtaken_by(payment, row, records)
    if not found:
        amount = shown(row.amount, payment.currency)
        raise OwnUnderWay(params={"reference": payment.reference, "amount": amount})
    waiting = waiting_job_id(transaction=row)
    move(payment, row, Status.FAILED, error=_("It was captured at the gateway itself before."))
    for record in found:
        _take_outside_capture_or_void(payment, record, as_of)
    if waiting is not None:
        jobs.retry_by_hand(waiting)  # it finds nothing left to do


def _overtaken_by(payment: Payment, void: Transaction, records: Sequence[GatewayRecord]) -> list[GatewayRecord]:
    """The captures and releases of others that took a void's place; none where a person has to find out."""
    others = payment.transactions.filter(kind__in=[Kind.CAPTURE, Kind.VOID]).exclude(status__in=Transaction.FINAL)
    found = [record for record in records if is_by_others(record)]
    if void.kind != Kind.VOID or void.is_final or others.exclude(pk=void.pk).exists():
        return []
    if any(record.currency != payment.currency for record in found):
        return []
    amounts = {kind: Decimal(0) for kind in (Kind.CAPTURE, Kind.VOID)}
    for record in found:
        amounts[Kind(record.kind)] += max(Decimal(0), _not_booked(payment, record, but=void))
    captured, gone = amounts[Kind.CAPTURE], amounts[Kind.VOID]
    return found if captured > 0 and captured + gone <= void.amount else []


def _settle_voids(gateway: str, records: Sequence[GatewayRecord], as_of: datetime) -> None:
    """Settle what these records, all of an authorisation each, say of voids that wait for a person."""
    by_others = {record.payment_reference for record in records if is_by_others(record)}
    rows = Transaction.objects.filter(
        payment__gateway=gateway,
        payment__in=Transaction.objects.filter(kind=Kind.AUTHORIZE, gateway_reference__in=by_others).values("payment"),
        kind=Kind.VOID,
        status=Status.NEEDS_PERSON,
    )
    for void in rows.select_related("payment").order_by("pk") if by_others else ():
        known = set(void.payment.transactions.filter(kind=Kind.AUTHORIZE).values_list("gateway_reference", flat=True))
        mine = [record for record in records if record.payment_reference in known]
        if is_overtaken(void=void, records=mine):
            settle_overtaken(transaction_id=void.pk, records=mine, as_of=as_of)
