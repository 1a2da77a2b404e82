"""What workers do for payments: send a transaction to its gateway, ask later whether refunds arrived, expire credit.

A process may be killed at any instruction. Where, and what happens then:

before the Attempt row is committed       nothing was sent; the next worker starts afresh
after it, before the gateway got the call the next worker looks the key up, does not find it, sends again: same key
after the gateway did it, before we knew  the next worker looks the key up and finds the result
after the answer, before `settle`         the same
inside `settle`                           rolled back as a whole: the same
after `settle`                            the job is done

And where two workers send at once, because one lost its lease: both use the same key, so the gateway does it once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import services
from payments.gateways import (
    Gateway,
    GatewayRequest,
    GatewayResult,
    GatewayTimeout,
    GatewayUnavailable,
    UnknownGateway,
    get_gateway,
)
from payments.models import Attempt, Transaction
from shop import jobs
from shop.errors import Refused
from shop.models import Job

logger = logging.getLogger(__name__)

Kind, Status = Transaction.Kind, Transaction.Status

# Banks send refunds back within days. A refund is asked after this long, and daily until the window closes.
RECHECK_AFTER, RECHECK_UNTIL = timedelta(hours=12), timedelta(days=8)


@jobs.handles(services.SEND)
class Send(jobs.Handler):
    """Bring a transaction to its end at the gateway: exactly one movement of money, however often this runs."""

    label = gettext_lazy("Move money")
    what_happened = gettext_lazy("The money has not moved, as far as the desk knows.")
    what_to_do = gettext_lazy(
        "See what the gateway says about it. Try again (the same money is never moved twice), do it by hand and say so "
        "here, or close the transaction as failed under Payments › Transactions."
    )
    schedule = jobs.GATEWAY_SCHEDULE
    due_after = timedelta(hours=4)

    def perform(self, job: Job) -> jobs.Outcome:
        row = Transaction.objects.select_related("payment").filter(pk=job.args["transaction"]).first()
        if row is None:
            return jobs.refused(_("The transaction does not exist."))
        if row.is_final:
            return jobs.done()
        if row.status == Status.NEEDS_PERSON and not job.last_error:
            # A refund that came back: shown to a person first, sent again only when they ask for it.
            return jobs.refused(row.error or _("The gateway took it back."))
        gateway = get_gateway(row.payment.gateway)
        if job.outcome_unknown or row.attempts.filter(outcome__in=Attempt.OPEN).exists():
            try:
                found = gateway.lookup(key=row.gateway_key)
            except (GatewayTimeout, GatewayUnavailable) as error:
                return jobs.retry(error)
            if found:
                return _outcome(row, row.gateway_key, found)
            sent_at = services.first_sent_at(transaction=row)
            if sent_at and timezone.now() - sent_at > services.KEY_LIFETIME:
                return jobs.refused(
                    _("Sent long ago and not known to the gateway now: check there, then close it or mark it as done.")
                )
        return self._send(job, row, gateway)

    def _send(self, job: Job, row: Transaction, gateway: Gateway) -> jobs.Outcome:
        with transaction.atomic(durable=True):  # committed before anything is sent, or it raises
            attempt = services.begin_attempt(transaction_id=row.pk)
            if attempt is None:
                return jobs.done()
            jobs.mark_sent(job)
        operation, key = getattr(gateway, row.kind), str(attempt.key)
        try:
            result: GatewayResult = operation(_request(row, key=key))
        except GatewayTimeout as error:
            return jobs.unknown(error, key=key, answer="unknown")
        except GatewayUnavailable as error:
            return jobs.retry(error, key=key, answer="unavailable")
        return _outcome(row, key, result)

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        transaction_id = job.args["transaction"]
        if answer := outcome.data.get("answer"):
            services.record_outcome(
                transaction_id=transaction_id,
                key=outcome.data["key"],
                answer=answer,
                gateway_reference=outcome.data.get("reference", ""),
                error=outcome.data.get("error", outcome.error),
            )
        out_of_attempts = outcome.state in {"retry", "unknown"} and job.attempts >= job.max_attempts
        refused_unsent = outcome.state == "refused" and not answer
        if (out_of_attempts or refused_unsent) and Transaction.objects.filter(pk=transaction_id).exists():
            services.ask_person(transaction_id=transaction_id, error=outcome.error)

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        services.settle_by_hand(transaction_id=job.args["transaction"], note=note, actor_name=actor_name)

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        """Those of a gateway that is a person: trying again only says once more what to transfer."""
        wanted = {row.args.get("transaction") for row in rows}
        gateways = dict(Transaction.objects.filter(pk__in=wanted).values_list("pk", "payment__gateway"))
        by_hand = {code for code in set(gateways.values()) if _is_a_person(code)}
        return frozenset(row.pk for row in rows if gateways.get(row.args.get("transaction")) in by_hand)


def _is_a_person(gateway: str) -> bool:
    try:
        return not services.takes_money_online(gateway=gateway)
    except UnknownGateway:
        return False  # once it is set up again, trying again is right


def _request(row: Transaction, *, key: str) -> GatewayRequest:
    """What to ask of the gateway; captures, voids and refunds name its authorisation."""
    payment = row.payment
    authorized = payment.transactions.filter(kind=Kind.AUTHORIZE, status=Status.SUCCEEDED).order_by("pk").first()
    return GatewayRequest(
        key=key,
        amount=row.amount,
        currency=payment.currency,
        payment_reference=authorized.gateway_reference if authorized else "",
        merchant_reference=payment.reference,
        details=payment.details,
    )


def _outcome(row: Transaction, key: str, result: GatewayResult) -> jobs.Outcome:
    """What an answer means for the job."""
    answer, words = result.status, result.message or result.code
    told: dict[str, Any] = {"key": key, "answer": answer, "reference": result.reference}
    if answer == "pending":
        return jobs.retry(_("The gateway is still working on it."), **told)
    if answer == "needs_person":
        return jobs.refused(words, **told)
    if answer == "declined" and row.kind in {Kind.REFUND, Kind.VOID}:
        # Owed all the same: a person must see to it.
        return jobs.refused(words or _("Declined by the gateway."), **told)
    return jobs.done(**told, error=words if answer == "declined" else "")


@shared_task(name="payments.recheck_refunds")
def recheck_refunds() -> None:
    """Ask the gateways whether refunds that succeeded in the last days really arrived; run it daily.

    For gateways that do not tell by themselves. Losing a run loses nothing: the next one asks again.
    """
    now = timezone.now()
    rows = Transaction.objects.filter(
        kind=Kind.REFUND,
        status=Status.SUCCEEDED,
        settled_by="",
        settled_at__gte=now - RECHECK_UNTIL,
        settled_at__lte=now - RECHECK_AFTER,
    ).select_related("payment")
    for row in list(rows):
        try:
            found = get_gateway(row.payment.gateway).lookup(key=row.gateway_key)
        except (GatewayTimeout, GatewayUnavailable, Refused) as error:
            logger.warning("Transaction %s could not be checked: %s", row.pk, jobs.scrubbed(error))
            continue
        if found and found.status == "declined":
            services.refund_failed_late(transaction_id=row.pk, key=row.gateway_key, error=found.message or found.code)


@shared_task(name="payments.expire_credit")
def expire_credit() -> None:
    """Take off customers' accounts what has expired; run it nightly. Losing a run loses nothing."""
    services.credit.expire_all(as_of=timezone.now())
