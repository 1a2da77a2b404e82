"""Disputes: what a customer's bank asks back, what became of it, and what a person has to do."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments.gateways import GatewayRecord
from payments.models import Dispute, Origin, Payment
from payments.services.ledger import Status, book_outside
from shop import jobs
from shop.errors import Refused
from shop.models import Job
from shop.money import shown

ANSWER_DISPUTE = "payments.dispute"
# In the key of the job about a dispute that was lost and can be appealed.
APPEAL = ":lost:appeal:"


class DisputeContradicts(Refused):
    code = "dispute_contradicts"
    message = gettext_lazy("%(reference)s: the dispute ended as “%(here)s”, now the gateway says “%(there)s”.")


def take_dispute(payment: Payment, record: GatewayRecord, as_of: datetime) -> str:
    """Bring a dispute into the books as it stands at the gateway. The payment is locked. Raises DisputeContradicts."""
    row = Dispute.objects.filter(payment=payment, gateway_reference=record.reference).first()
    if row is None:
        row = Dispute(
            payment=payment,
            gateway_reference=record.reference,
            amount=record.amount,
            currency=record.currency,
            opened_at=record.created_at,
        )
    elif record.status != row.status and row.ended_at and Dispute.STAGE[Dispute.Status(record.status)] == 2:
        there = Dispute.Status(record.status).label
        params = {"reference": payment.reference, "here": row.get_status_display(), "there": there}
        raise DisputeContradicts(params=params)
    elif Dispute.STAGE[Dispute.Status(record.status)] <= Dispute.STAGE[Dispute.Status(row.status)] and not (
        _is_asked_again(row, record)
    ):
        if row.status == Dispute.Status.LOST and row.chargeback_id is None:
            _charge_back(payment, row, as_of)  # what another refund had reserved then may be free now
        if row.status == Dispute.Status.LOST and record.appeal and record.respond_by:
            row.respond_by = record.respond_by
            row.save(update_fields=["respond_by"])
            _promise_answer(payment, row, appeal=True)
            return _("Dispute of %(amount)s: it was lost, and can be appealed.") % {
                "amount": shown(row.amount, row.currency)
            }
        return _("Dispute of %(amount)s: nothing new.") % {"amount": shown(row.amount, row.currency)}
    row.status = record.status
    row.reason, row.respond_by = record.reason[:100], record.respond_by or row.respond_by
    row.ended_at = as_of if row.status in {Dispute.Status.WON, Dispute.Status.LOST} else None
    row.save()
    if row.status == Dispute.Status.LOST:
        _charge_back(payment, row, as_of)
    _promise_answer(payment, row)
    return _("Dispute of %(amount)s: %(status)s.") % {
        "amount": shown(row.amount, row.currency),
        "status": row.get_status_display(),
    }


def _is_asked_again(row: Dispute, record: GatewayRecord) -> bool:
    """Whether an answer is wanted once more, until a later date: an inquiry was answered, and became a chargeback."""
    if row.ended_at is not None or record.status != Dispute.Status.NEEDS_RESPONSE or record.respond_by is None:
        return False
    return row.respond_by is None or record.respond_by > row.respond_by


def _charge_back(payment: Payment, dispute: Dispute, as_of: datetime) -> None:
    """Book what was lost, as far as it had not been refunded before: what went out twice stands on the dispute."""
    amount = min(dispute.amount, payment.refundable) if dispute.currency == payment.currency else Decimal(0)
    if amount > 0:
        dispute.chargeback = book_outside(
            payment,
            amount,
            cause=f"chargeback:{dispute.pk}",
            origin=Origin.CHARGEBACK,
            reason=_("Chargeback: the customer's bank took it back"),
            reference=dispute.gateway_reference,
            status=Status.SUCCEEDED,
            as_of=as_of,
        )
        dispute.save(update_fields=["chargeback"])


def _promise_answer(payment: Payment, dispute: Dispute, *, appeal: bool = False) -> None:
    """Show it to a person while it is to be answered and when it was lost; tell whoever opened the payment."""
    key = f"{ANSWER_DISPUTE}:{dispute.pk}"
    asked = f"{key}:{dispute.respond_by:%Y%m%d%H%M%S}" if dispute.respond_by else key  # asked again, it is another item
    lost = f"{key}{APPEAL}{dispute.respond_by:%Y%m%d%H%M%S}" if appeal else f"{key}:lost"
    wanted = {Dispute.Status.NEEDS_RESPONSE: asked, Dispute.Status.LOST: lost}.get(Dispute.Status(dispute.status))
    open_ones = Job.objects.filter(kind=ANSWER_DISPUTE, args={"dispute": dispute.pk}).exclude(state=Job.State.DONE)
    over = [
        name
        for name in open_ones.values_list("key", flat=True)
        if name != wanted and (appeal or f"{key}:lost" not in name)
    ]
    if over:
        jobs.call_off(over, note=str(dispute.get_status_display()))
    if wanted:
        args = {"dispute": dispute.pk}
        jobs.enqueue(ANSWER_DISPUTE, key=wanted, args=args, reference=payment.reference, store_id=payment.store_id)
    if payment.on_change:
        jobs.enqueue(
            payment.on_change,
            key=f"{payment.on_change}:dispute:{dispute.pk}:{dispute.status}",
            args={"dispute": dispute.pk},
            reference=payment.reference,
            store_id=payment.store_id,
        )


def dispute_task(*, dispute: Dispute, appeal: bool = False) -> str:
    """This will say what a person has to do about a dispute, and until when; empty: nothing.

    appeal  it was lost, and the gateway takes an appeal
    """
    amount = shown(dispute.amount, dispute.currency)
    if dispute.status == Dispute.Status.NEEDS_RESPONSE:
        told = _("The customer's bank asks %(amount)s back (%(reason)s).") % {
            "amount": amount,
            "reason": dispute.reason.replace("_", " ") or _("no reason given"),
        }
        if dispute.respond_by is None:
            return f"{told} " + _("Answer it at the gateway, with evidence, or accept it there.")
        until = date_format(dispute.respond_by, "SHORT_DATETIME_FORMAT")
        return f"{told} " + _("Answer it at the gateway by %(until)s (UTC), or it is lost.") % {"until": until}
    if dispute.status == Dispute.Status.LOST:
        booked = dispute.chargeback.amount if dispute.chargeback else Decimal(0)
        told = _("The dispute was lost: %(amount)s is gone, and so is the fee.") % {"amount": amount}
        if booked < dispute.amount:
            told += " " + _("Only %(booked)s was still to be booked: the rest had been refunded before.") % {
                "booked": shown(booked, dispute.currency)
            }
        if appeal and dispute.respond_by:
            until = date_format(dispute.respond_by, "SHORT_DATETIME_FORMAT")
            told += " " + _("It can be appealed at the gateway until %(until)s (UTC).") % {"until": until}
        return f"{told} " + _("Decide what becomes of the goods, and release the order's hold.")
    return ""
