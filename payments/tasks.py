"""What workers do for payments: send transactions, ask later whether refunds arrived, compare books, expire credit.

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
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    GatewayNotice,
    GatewayRecord,
    GatewayRequest,
    GatewayResult,
    GatewayTimeout,
    GatewayUnavailable,
    Sent,
    UnknownGateway,
    account_of,
    get_gateway,
    is_notifying,
    is_showing,
)
from payments.models import Attempt, Difference, Dispute, Origin, Reconciliation, Transaction, WebhookReceived
from payments.services import differences, reconciliation
from payments.services.credit_gateways import OWNER
from shop import jobs
from shop.errors import Refused, Words
from shop.models import Job
from shop.money import shown

logger = logging.getLogger(__name__)

Kind, Status = Transaction.Kind, Transaction.Status

# Banks send refunds back within days. A refund is asked after this long, and daily until the window closes.
RECHECK_AFTER, RECHECK_UNTIL = timedelta(hours=12), timedelta(days=8)

# A worker that has just begun its last job must be through before its time limit.
RECONCILE_SECONDS = 20

KEEP_WEBHOOKS = timedelta(days=120)


class Slow(Refused):
    code = "gateway_list_too_long"
    message = gettext_lazy("The list is too long for a worker: run the command “reconcile” (docs/reconciliation.md).")


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
        row = Transaction.objects.select_related("payment", "refund").filter(pk=job.args["transaction"]).first()
        if row is None:
            return jobs.refused(_("The transaction does not exist."))
        if row.is_final:
            return jobs.done()
        if row.status == Status.NEEDS_PERSON and not job.last_error:
            # A refund that came back: shown to a person first, sent again only when they ask for it.
            return jobs.refused(row.error or _("The gateway took it back."))
        gateway = get_gateway(row.gateway)
        if job.outcome_unknown or row.is_outside or row.attempts.filter(outcome__in=Attempt.OPEN).exists():
            try:
                found = _look_up(gateway, row)
            except (GatewayTimeout, GatewayUnavailable) as error:
                return jobs.retry(error)
            if found:
                return _outcome(gateway, row, row.gateway_key, found)
            if row.is_outside:
                return jobs.refused(_("It was made at the gateway, which does not know it now: check there."))
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
        operation, key = getattr(gateway, "give" if row.destination else row.kind), str(attempt.key)
        try:
            result: GatewayResult = operation(_request(row, key=key))
        except GatewayTimeout as error:
            return jobs.unknown(error, key=key, answer="unknown")
        except GatewayUnavailable as error:
            return jobs.retry(error, key=key, answer="unavailable")
        return _outcome(gateway, row, key, result)

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        transaction_id = job.args["transaction"]
        if answer := outcome.data.get("answer"):
            services.record_outcome(
                transaction_id=transaction_id,
                key=outcome.data["key"],
                answer=answer,
                gateway_reference=outcome.data.get("reference", ""),
                error=outcome.data.get("error", outcome.error),
                next_action=outcome.data.get("next_action"),
            )
        if records := outcome.data.get("overtaken_by"):
            services.settle_overtaken(transaction_id=transaction_id, records=records, as_of=timezone.now())
        out_of_attempts = outcome.state in {"retry", "unknown"} and job.attempts >= job.max_attempts
        refused_unsent = outcome.state == "refused" and not answer
        if (out_of_attempts or refused_unsent) and Transaction.objects.filter(pk=transaction_id).exists():
            services.ask_person(transaction_id=transaction_id, error=outcome.error)

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        """Raises ProofMissing: money that a person sends to a bank account leaves no other trace."""
        services.settle_by_hand(transaction_id=job.args["transaction"], note=note, actor_name=actor_name)

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        """Those of a gateway that is a person: trying again only says once more what to transfer."""
        wanted = {row.args.get("transaction") for row in rows}
        found = Transaction.objects.filter(pk__in=wanted).select_related("payment")
        gateways = {row.pk: row.gateway for row in found}
        by_hand = {code for code in set(gateways.values()) if _is_a_person(code)}
        return frozenset(row.pk for row in rows if gateways.get(row.args.get("transaction")) in by_hand)

    def about(self, rows: Sequence[Job]) -> Mapping[int, Words]:
        """What is moved and how much: "Refund €62.30"."""
        wanted = {row.args.get("transaction") for row in rows}
        found = Transaction.objects.filter(pk__in=wanted).select_related("payment")
        words = {row.pk: f"{row.get_kind_display()} {shown(row.amount, row.payment.currency)}" for row in found}
        return {row.pk: words[row.args["transaction"]] for row in rows if row.args.get("transaction") in words}


def _is_a_person(gateway: str) -> bool:
    try:
        return not services.takes_money_online(gateway=gateway)
    except UnknownGateway:
        return False  # once it is set up again, trying again is right


def _request(row: Transaction, *, key: str) -> GatewayRequest:
    """What to ask of the gateway; captures, voids and refunds name its authorisation, what is given the account."""
    payment = row.payment
    if row.destination:  # the gateway that gives it knows nothing of the payment
        return GatewayRequest(
            key=key,
            amount=row.amount,
            currency=payment.currency,
            merchant_reference=payment.reference,
            details={OWNER: row.refund.owner_id} if row.refund and row.refund.owner_id else {},
        )
    authorized = payment.transactions.filter(kind=Kind.AUTHORIZE, status=Status.SUCCEEDED).order_by("pk").first()
    return GatewayRequest(
        key=key,
        amount=row.amount,
        currency=payment.currency,
        payment_reference=authorized.gateway_reference if authorized else "",
        merchant_reference=payment.reference,
        requested_at=row.created_at,
        details=payment.details,
    )


def _look_up(gateway: Gateway, row: Transaction) -> GatewayResult | None:
    """Ask a gateway what became of a transaction, with all that is known of it."""
    reference, first, last = services.sent_as(transaction=row)
    request = _request(row, key=row.gateway_key)
    sent = Sent(operation=row.kind, request=request, reference=reference, first=first, last=last)
    return gateway.lookup(key=row.gateway_key, sent=sent)


def _outcome(gateway: Gateway, row: Transaction, key: str, result: GatewayResult) -> jobs.Outcome:
    """What an answer means for the job."""
    answer, words = result.status, result.message or result.code
    told: dict[str, Any] = {"key": key, "answer": answer, "reference": result.reference}
    if result.next_action:
        told["next_action"] = result.next_action
    if answer == "pending":
        return jobs.retry(_("The gateway is still working on it."), **told)
    if answer == "needs_person":
        return jobs.refused(words, **told)
    if answer == "declined" and row.kind == Kind.VOID and is_showing(gateway):
        # Somebody may have captured there what it was to let go. Not told, the answer stays open and is asked again.
        try:
            records = gateway.records_of(_request(row, key=key).payment_reference)
        except (GatewayTimeout, GatewayUnavailable) as error:
            return jobs.unknown(error)
        if services.is_overtaken(void=row, records=records):
            return jobs.done(**told, error=words, overtaken_by=records)
    if answer == "declined" and row.kind in {Kind.REFUND, Kind.VOID}:
        # Owed all the same: a person must see to it.
        return jobs.refused(words or _("Declined by the gateway."), **told)
    return jobs.done(**told, error=words if answer == "declined" else "")


@jobs.handles(services.PROCESS)
class ProcessWebhook(jobs.Handler):
    """A gateway told something: ask it how that stands now, and bring it into the books."""

    label = gettext_lazy("Process a gateway's webhook")
    what_happened = gettext_lazy("What the gateway told is stored under Payments › Received webhooks, but not booked.")
    what_to_do = gettext_lazy("Mend what is named, then try again: the gateway is asked anew, nothing is booked twice.")
    schedule = jobs.GATEWAY_SCHEDULE
    due_after = timedelta(hours=4)

    def perform(self, job: Job) -> jobs.Outcome:
        row = WebhookReceived.objects.get(pk=job.args["webhook"])
        gateway = get_gateway(row.gateway)
        if not is_notifying(gateway):
            return jobs.refused(_("The gateway “%(code)s” takes no webhooks any more.") % {"code": row.gateway})
        try:
            records = gateway.look_at(GatewayNotice(event_id=row.event_id, kind=row.kind, body=row.body))
        except (GatewayTimeout, GatewayUnavailable) as error:
            return jobs.retry(error)
        if services.is_too_early(gateway=row.gateway, records=records or ()):
            return jobs.retry(_("A capture or void of the same money is under way: it is to end first."))
        return jobs.done(records=records)

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            records = outcome.data["records"]
            services.finish_webhook(webhook_id=job.args["webhook"], records=records, as_of=timezone.now())


@jobs.handles(services.ANSWER_DISPUTE)
class AnswerDispute(jobs.Handler):
    """A customer's bank asks money back: only a person can answer, and only in time."""

    label = gettext_lazy("See to a dispute")
    what_happened = gettext_lazy("The money is in question, and the order is on hold.")
    what_to_do = gettext_lazy(
        "Open the dispute at the gateway and send what proves the purchase: the order, the shipment, what the customer "
        "wrote. Do not refund it as well. Then mark this as done by hand."
    )
    due_after = timedelta(days=2)

    def perform(self, job: Job) -> jobs.Outcome:
        dispute = Dispute.objects.select_related("chargeback").get(pk=job.args["dispute"])
        words = services.dispute_task(dispute=dispute, appeal=services.APPEAL in job.key)
        return jobs.refused(words) if words else jobs.done()

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        """Those that were lost: what is to be done then stands in their words."""
        wanted = {row.args.get("dispute") for row in rows}
        lost = set(Dispute.objects.filter(pk__in=wanted, status=Dispute.Status.LOST).values_list("pk", flat=True))
        return frozenset(row.pk for row in rows if row.args.get("dispute") in lost)


def look_up(row: Transaction) -> GatewayResult | None:
    """Ask a transaction's gateway what became of it; raises as `Gateway.lookup` does."""
    return _look_up(get_gateway(row.gateway), row)


def compare(run: Reconciliation, *, seconds: float | None, new_account: bool = False) -> reconciliation.Comparison:
    """Read a gateway's list and our ledger, put right what is safe.

    seconds      how long it may take; None: as long as it does
    new_account  the shop has moved to another account, so that much may be missing

    Raises GatewayTimeout, GatewayUnavailable, Slow, OtherAccount, MostlyMissing.
    """
    stop = None if seconds is None else time.monotonic() + seconds

    def check_time() -> None:
        if stop is not None and time.monotonic() > stop:
            raise Slow

    def in_time(records: Iterable[GatewayRecord]) -> Iterator[GatewayRecord]:
        for record in records:
            check_time()
            yield record

    def look_up_in_time(row: Transaction) -> GatewayResult | None:
        check_time()
        return look_up(row)

    gateway = reconciliation.require_listing(run.gateway)
    comparison = reconciliation.Comparison(run, as_of=timezone.now())
    account = account_of(gateway)
    if new_account:
        comparison.account = account
    else:
        comparison.require_account(account)
    comparison.read(in_time(gateway.list_since(run.since - reconciliation.MARGIN)))
    comparison.read_ledger(look_up_in_time, however_much_is_missing=new_account)
    return comparison


@jobs.handles(reconciliation.RECONCILE)
class Reconcile(jobs.Handler):
    """Compare a gateway's books with ours. What is put right on the way stays; what it found is written at the end."""

    label = gettext_lazy("Compare the books with a gateway")
    what_happened = gettext_lazy(
        "The books are not compared: the gateway's list could not be read to its end, or looks like another account's."
    )
    what_to_do = gettext_lazy(
        "See whether the gateway works and its API key is the right one, then try again; the next night tries again, "
        "too. A list that is too long for a worker is read by the command “reconcile”."
    )
    schedule = jobs.GATEWAY_SCHEDULE[:6]
    due_after = timedelta(days=1)

    def perform(self, job: Job) -> jobs.Outcome:
        run = Reconciliation.objects.get(pk=job.args["run"])
        if run.finished_at is not None:
            return jobs.done()
        try:
            return jobs.done(comparison=compare(run, seconds=RECONCILE_SECONDS))
        except (GatewayTimeout, GatewayUnavailable) as error:
            return jobs.retry(error)

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if comparison := outcome.data.get("comparison"):
            reconciliation.finish(comparison=comparison)
        elif outcome.state == "refused" or job.attempts >= job.max_attempts:
            reconciliation.stick(run_id=job.args["run"], error=outcome.error)

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        reconciliation.give_up(run_id=job.args["run"], note=note, as_of=timezone.now())


@jobs.handles(differences.SEE_TO)
class SeeToDifference(jobs.Handler):
    """A gateway's books and ours differ: a person compares, puts it right or accepts it; agreeing again ends it."""

    label = gettext_lazy("See to a difference")
    what_happened = gettext_lazy("The gateway's books and ours say different things. The desk has moved nothing.")
    what_to_do = gettext_lazy(
        "Compare both; Payments › Differences has the links. Once it is put right, try again: the books are compared "
        "anew, and this goes by itself. If it is to stay as it is, mark it as done by hand and say why."
    )
    due_after = timedelta(days=2)

    def perform(self, job: Job) -> jobs.Outcome:
        row = Difference.objects.get(pk=job.args["difference"])
        words = differences.task(difference=row)
        if not words:
            return jobs.done()
        if job.last_error:  # seen before, and tried again
            reconciliation.start(gateway=row.gateway, as_of=timezone.now())
        return jobs.refused(words)

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        differences.write_accepted(
            difference_id=job.args["difference"], note=note, actor_name=actor_name, as_of=timezone.now()
        )


@shared_task(name="payments.reconcile_all")
def reconcile_all() -> None:
    """Begin to compare every gateway that can be; run it nightly. The next run compares what a lost one would have."""
    for code in reconciliation.reconciled_gateways():
        reconciliation.start(gateway=code, as_of=timezone.now())


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
        origin__in=[Origin.DESK, Origin.OUTSIDE],
        settled_at__gte=now - RECHECK_UNTIL,
        settled_at__lte=now - RECHECK_AFTER,
    ).select_related("payment")
    for row in list(rows):
        try:
            found = _look_up(get_gateway(row.gateway), row)
        except (GatewayTimeout, GatewayUnavailable, Refused) as error:
            logger.warning("Transaction %s could not be checked: %s", row.pk, jobs.scrubbed(error))
            continue
        if found and found.status == "declined":
            services.refund_failed_late(transaction_id=row.pk, key=row.gateway_key, error=found.message or found.code)


@shared_task(name="payments.expire_credit")
def expire_credit() -> None:
    """Take off customers' accounts what has expired; run it nightly. Losing a run loses nothing."""
    services.credit.expire_all(as_of=timezone.now())


@shared_task(name="payments.tidy_up")
def tidy_up() -> None:
    """Delete received webhooks that nobody will ask for again; run it daily. Losing a run loses nothing."""
    services.forget_webhooks(before=timezone.now() - KEEP_WEBHOOKS)
