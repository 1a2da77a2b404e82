"""Reconciliation: compare a gateway's list with our transactions, put right what is safe, show the rest to a person.

A run is a row, one at a time for each gateway. `Comparison` takes the gateway's records page by page, outside any
transaction; `finish` writes what is left as differences. Doing either twice, or two workers at once, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Q
from django.db.transaction import atomic
from django.utils.translation import gettext_lazy

from payments import rules
from payments.gateways import GatewayRecord, GatewayResult, ListingGateway, get_gateway, is_listing
from payments.models import Difference, Origin, Payment, Reconciliation, Transaction
from payments.rules import GRACE, Finding
from payments.services.differences import (
    PAGE,
    compare_records,
    end_agreeing,
    note_put_right,
    open_ones,
    record_findings,
    sweep,
)
from payments.services.outcomes import refund_failed_late
from payments.services.outside import OwnUnderWay, take_in
from shop import jobs
from shop.errors import Refused
from shop.models import Job

RECONCILE = "payments.reconcile"
# How far back the first comparison goes, how much of the time before is compared again, so that nothing falls between
# two runs, and for how long an open difference is looked at again by itself.
FIRST, OVERLAP, LONGEST = timedelta(days=30), timedelta(days=3), timedelta(days=90)
# The gateway's list begins earlier than what is compared: it may have made something before we heard of it.
MARGIN = timedelta(days=1)

State = Reconciliation.State


class NotReconciled(Refused):
    code = "gateway_not_reconciled"
    message = gettext_lazy("The gateway “%(code)s” cannot be compared with our books. These can: %(codes)s.")


class MostlyMissing(Refused):
    code = "gateway_mostly_missing"
    message = gettext_lazy(
        "%(missing)d of %(compared)d movements that were looked for are not at the gateway; it listed %(listed)d. That "
        "is more than gets lost, so nothing was written. See whether this is the account that took the money: check "
        "the API key"
    )


class OtherAccount(Refused):
    code = "gateway_other_account"
    message = gettext_lazy(
        "These are the books of the account %(now)s; the last comparison was with %(before)s. Nothing was compared. If "
        "the shop has moved to another account, say so with the command “reconcile --new-account”; else check the API "
        "key"
    )


# --- which and when ---------------------------------------------------------------------------------------------------


def reconciled_gateways() -> list[str]:
    """This will list the gateways that are compared: those that can list what they did, and are not a person."""
    return [code for code in sorted(settings.PAYMENT_GATEWAYS) if _listing(code) is not None]


def _listing(code: str) -> ListingGateway | None:
    gateway = get_gateway(code)
    return gateway if is_listing(gateway) and gateway.takes_money_online else None


def require_listing(code: str) -> ListingGateway:
    """This will make a gateway whose books can be compared. Raises UnknownGateway, NotReconciled."""
    gateway = _listing(code)
    if gateway is None:
        raise NotReconciled(params={"code": code, "codes": ", ".join(reconciled_gateways()) or "–"})
    return gateway


@atomic
def start(
    *,
    gateway: str,
    as_of: datetime,
    days: int | None = None,
    asked_by_id: int | None = None,
    by_worker: bool = True,
) -> Reconciliation:
    """This will begin to compare a gateway's books with ours; one that is under way already is the same one.

    days       at least so far back; else from a few days before the end of the last run on
    by_worker  promise the job that does it. Raises UnknownGateway, NotReconciled.
    """
    require_listing(gateway)
    since = _since(gateway, as_of, days)
    run, is_new = Reconciliation.objects.select_for_update(no_key=True).get_or_create(
        gateway=gateway,
        finished_at=None,
        defaults={"since": since, "until": as_of, "started_at": as_of, "asked_by_id": asked_by_id},
    )
    job = None if is_new else Job.objects.filter(key=_key(run.pk)).first()
    is_stuck = job is not None and job.state == Job.State.NEEDS_ATTENTION
    if not is_new and (is_stuck or job is None):  # nobody is at it
        run.since, run.until, run.state, run.error = min(run.since, since), as_of, State.RUNNING, ""
        run.save(update_fields=["since", "until", "state", "error"])
    if job is not None and is_stuck:
        jobs.retry_by_hand(job.pk)
    elif job is None and by_worker:
        jobs.enqueue(RECONCILE, key=_key(run.pk), args={"run": run.pk})
    return run


def _key(run_id: int) -> str:
    return f"{RECONCILE}:{run_id}"


def _since(gateway: str, as_of: datetime, days: int | None) -> datetime:
    last = Reconciliation.objects.filter(gateway=gateway, state=State.DONE).order_by("-until").first()
    since = min(last.until, as_of) - OVERLAP if last else as_of - FIRST
    oldest = open_ones(gateway=gateway).order_by("happened_at").values_list("happened_at", flat=True).first()
    if oldest is not None:
        since = min(since, max(oldest, as_of - LONGEST))
    return since if days is None else min(since, as_of - timedelta(days=days))


# --- compare ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Comparison:
    """What one reading of a gateway's list found so far. In memory: ids that were seen, and the differences."""

    run: Reconciliation
    as_of: datetime
    listed: int = 0
    others: int = 0
    seen: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    undecided: set[str] = field(default_factory=set)
    account: str = ""
    looked_up: int = 0

    def require_account(self, account: str) -> None:
        """Remember whose books are read. Raises OtherAccount if they were somebody else's the last time."""
        runs = Reconciliation.objects.filter(gateway=self.run.gateway, state=State.DONE).exclude(account="")
        last = runs.order_by("-until").values_list("account", flat=True).first()
        if account and last and account != last:
            raise OtherAccount(params={"now": account, "before": last})
        self.account = account or last or ""

    def read(self, records: Iterable[GatewayRecord]) -> None:
        """Compare the gateway's records, a page at a time, and put right what is safe."""
        page: list[GatewayRecord] = []
        for record in records:
            page.append(record)
            if len(page) == PAGE:
                self._take(page)
                page = []
        if page:
            self._take(page)

    def _take(self, records: Sequence[GatewayRecord]) -> None:
        compared = compare_records(gateway=self.run.gateway, records=records, as_of=self.as_of)
        for record, one in zip(records, compared, strict=True):
            self.seen.update(one.seen)
            self.others += one.is_other
            finding = one.finding
            if finding is not None and finding.safe:
                finding = put_right(run=self.run, record=record, as_of=self.as_of)
            if finding is not None:
                self.findings.append(finding)
            elif not one.things:  # under way: neither a difference nor the end of one
                self.undecided.update(rules.thing_of(pk) for pk in one.seen)
        self.listed += len(records)
        Reconciliation.objects.filter(pk=self.run.pk).update(listed=self.listed)  # for who looks at the page

    def read_ledger(
        self, look_up: Callable[[Transaction], GatewayResult | None], *, however_much_is_missing: bool = False
    ) -> None:
        """Ask the gateway for each transaction that succeeded here and was not on its list.

        Raises MostlyMissing, unless it was said that this is so.
        """
        missing, known = 0, None
        for pk in self._not_seen():
            self.looked_up += 1
            row = Transaction.objects.select_related("payment", "refund").get(pk=pk)
            told = ""
            try:
                found = look_up(row)
            except Refused as no:  # it cannot say; so what it listed counts
                found, told = None, str(no)
            if found is None:
                self.findings.append(rules.missing_there(row, told=told))
                known = self._known_missing() if known is None else known
                missing += rules.thing_of(pk) not in known
                compared = len(self.seen) + self.looked_up
                if not however_much_is_missing and rules.mostly_missing(missing=missing, compared=compared):
                    params = {"missing": missing, "compared": compared, "listed": self.listed}
                    raise MostlyMissing(params=params)
            elif found.status == "declined" and row.kind == Transaction.Kind.REFUND:
                # Into the inbox by the way that it came: the refund is owed again.
                refund_failed_late(transaction_id=row.pk, key=row.gateway_key, error=found.message or found.code)
            elif found.status != "succeeded":
                self.findings.append(rules.status_there(row, status=found.status, told=found.message))

    def _known_missing(self) -> set[str]:
        """What people see in the inbox already, or have accepted."""
        rows = Difference.objects.filter(gateway=self.run.gateway, kind=Difference.Kind.MISSING_THERE)
        return set(rows.exclude(state=Difference.State.RESOLVED).values_list("thing", flat=True))

    def _not_seen(self) -> Iterator[int]:
        """What the gateway itself said to have succeeded, in the run's time, and did not list now."""
        here = Q(destination="", payment__gateway=self.run.gateway) | Q(destination=self.run.gateway)
        rows = Transaction.objects.filter(
            here,
            status=Transaction.Status.SUCCEEDED,
            settled_by="",
            settled_at__gte=self.run.since,
            settled_at__lte=self.as_of - GRACE,
        ).exclude(origin=Origin.CHARGEBACK)
        ids = rows.order_by("settled_at", "pk").values_list("pk", flat=True)
        # All of them first: a look-up goes over the network, and must not hold a cursor open.
        return iter([pk for pk in ids.iterator(chunk_size=PAGE) if pk not in self.seen])


@atomic
def put_right(*, run: Reconciliation, record: GatewayRecord, as_of: datetime) -> Finding | None:
    """This will bring a record into our books as webhooks do, and say what still differs then (None: nothing).

    Reads both books again under the payment's lock: somebody else may have been faster. Locks what `take_in` locks.
    """
    (before,) = compare_records(gateway=run.gateway, records=[record], as_of=as_of)
    if before.finding is None or before.finding.payment_id is None:
        return before.finding
    Payment.objects.select_for_update(no_key=True).get(pk=before.finding.payment_id)
    (before,) = compare_records(gateway=run.gateway, records=[record], as_of=as_of)
    if before.finding is None or not before.finding.safe:
        return before.finding
    try:
        with atomic():
            _reference, words = take_in(gateway=run.gateway, record=record, as_of=as_of)
    except OwnUnderWay:
        return None  # the desk's own comes first, by its job or by the person who has it in the inbox
    except Refused as no:
        return replace(before.finding, safe=False, told=str(no))
    (after,) = compare_records(gateway=run.gateway, records=[record], as_of=as_of)
    if after.finding is not None:
        return replace(after.finding, safe=False)
    note_put_right(run=run, finding=before.finding, how=words, as_of=as_of)
    Reconciliation.objects.filter(pk=run.pk).update(settled=F("settled") + 1)
    return None


# --- write ------------------------------------------------------------------------------------------------------------


@atomic
def finish(*, comparison: Comparison) -> Reconciliation:
    """This will write what a run found: new differences, those that are over, and that it is done.

    A run that has ended meanwhile stays as it is. Locks the run, then differences, then their jobs.
    """
    as_of, read = comparison.as_of, comparison.run
    run = Reconciliation.objects.select_for_update(no_key=True).get(pk=read.pk)
    if run.finished_at is not None:
        return run
    run.found, still = record_findings(run=run, findings=comparison.findings, as_of=as_of)
    rows = open_ones(gateway=run.gateway).filter(happened_at__gte=read.since)
    over = [row for row in rows if (row.kind, row.thing) not in still and row.thing not in comparison.undecided]
    run.resolved = end_agreeing(rows=over, as_of=as_of)
    run.account = comparison.account
    run.listed, run.others, run.since, run.until = comparison.listed, comparison.others, read.since, as_of
    run.state, run.finished_at, run.error = State.DONE, as_of, ""
    run.save()
    sweep(gateway=run.gateway)
    return run


@atomic
def stick(*, run_id: int, error: str) -> None:
    """This will note that a run does not come further by itself."""
    Reconciliation.objects.filter(pk=run_id, finished_at=None).update(state=State.STUCK, error=error[:500])


@atomic
def give_up(*, run_id: int, note: str, as_of: datetime) -> None:
    """This will end a run that a person does not want any more; the next one compares its time."""
    unfinished = Reconciliation.objects.filter(pk=run_id, finished_at=None)
    unfinished.update(state=State.GIVEN_UP, finished_at=as_of, error=note[:500])
