"""Differences between a gateway's books and ours: read both, open one, end it, and say it in words for a person."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db.models import QuerySet
from django.db.transaction import atomic
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import rules
from payments.gateways import GatewayRecord, gateway_label
from payments.models import Difference, Dispute, Payment, Reconciliation, Transaction
from payments.rules import Compared, Finding, Ledger
from shop import jobs
from shop.errors import Refused
from shop.models import Job
from shop.money import shown

SEE_TO = "payments.difference"
# So many records or rows are compared at once.
PAGE = 500

Kind, State = Difference.Kind, Difference.State


class DifferenceEnded(Refused):
    code = "difference_ended"
    message = gettext_lazy("This difference has ended already.")


# --- read -------------------------------------------------------------------------------------------------------------


def compare_records(*, gateway: str, records: Sequence[GatewayRecord], as_of: datetime) -> list[Compared]:
    """This will compare some records of a gateway with our books: 5 queries, however many they are."""
    by_key = _by_key(gateway, records)
    opened = dict(
        Transaction.objects.filter(
            kind=Transaction.Kind.AUTHORIZE,
            payment__gateway=gateway,
            gateway_reference__in={record.payment_reference for record in records} - {""},
        )
        .exclude(gateway_reference="")  # says the index's condition
        .order_by("-pk")
        .values_list("gateway_reference", "payment_id")
    )
    given = {key: row for key, row in by_key.items() if row.destination}
    payment_of = {
        id(record): opened.get(record.payment_reference)
        or (by_key[record.key].payment_id if record.key in by_key else None)
        for record in records
    }
    ledgers = _ledgers({pk for pk in payment_of.values() if pk is not None})
    found = []
    for record in records:
        payment_id = payment_of[id(record)]
        ledger = ledgers[payment_id] if payment_id is not None else None
        if record.key in given:  # a refund of another gateway's money
            row = given[record.key]
            ledger = Ledger(row.payment, [row])
        found.append(rules.compare(record, ledger=ledger, as_of=as_of))
    return found


def _by_key(gateway: str, records: Iterable[GatewayRecord]) -> dict[str, Transaction]:
    """Transactions by the first key that they were sent under; later keys are found with their payment."""
    keys = {parsed for record in records if (parsed := _uuid(record.key))}
    rows = Transaction.objects.filter(key__in=keys).select_related("payment")
    return {str(row.key): row for row in rows if row.gateway == gateway}


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _ledgers(payment_ids: set[int]) -> dict[int, Ledger]:
    """What our books have of some payments. Refunds that another gateway gives are in that one's books."""
    rows: dict[int, list[Transaction]] = defaultdict(list)
    for row in Transaction.objects.filter(payment__in=payment_ids, destination="").order_by("pk"):
        rows[row.payment_id].append(row)
    disputes: dict[int, list[Dispute]] = defaultdict(list)
    for dispute in Dispute.objects.filter(payment__in=payment_ids).select_related("chargeback"):
        disputes[dispute.payment_id].append(dispute)
    ledgers = {}
    for payment in Payment.objects.filter(pk__in=payment_ids):
        for row in rows[payment.pk]:
            row.payment = payment
        ledgers[payment.pk] = Ledger(payment, rows[payment.pk], disputes[payment.pk])
    return ledgers


def open_ones(*, gateway: str) -> QuerySet[Difference]:
    """This will find a gateway's open differences."""
    return Difference.objects.filter(gateway=gateway, state=State.OPEN).select_related("transaction")


# --- open and end -----------------------------------------------------------------------------------------------------


def record_findings(
    *, run: Reconciliation, findings: Iterable[Finding], as_of: datetime
) -> tuple[int, set[tuple[str, str]]]:
    """This will open a difference, with its item in the inbox, for each finding that is not open or accepted as it is.

    Returns how many are new, and (kind, thing) of all. Runs in the caller's transaction.
    """
    wanted = {(finding.kind, finding.thing): finding for finding in findings}
    latest = _latest(run.gateway, sorted({thing for _kind, thing in wanted}))
    same = {key for key, row in latest.items() if key in wanted and _facts(row) == _facts(wanted[key])}
    Difference.objects.filter(pk__in=[latest[key].pk for key in same]).update(last_seen_at=as_of)
    changed = [row.pk for key, row in latest.items() if key in wanted and key not in same and row.state == State.OPEN]
    end(Difference.objects.filter(pk__in=changed), how=_("It has changed since: see the newer one."), as_of=as_of)
    new = [_row(run, finding, as_of) for key, finding in wanted.items() if key not in same]
    Difference.objects.bulk_create(new)
    jobs.enqueue_many(
        jobs.Promise(SEE_TO, job_key(row.pk), {"difference": row.pk}, row.reference, row.store_id) for row in new
    )
    return len(new), set(wanted)


def _latest(gateway: str, things: Sequence[str]) -> dict[tuple[str, str], Difference]:
    """The newest difference that is open or was accepted, by kind and thing."""
    latest = {}
    for at in range(0, len(things), PAGE):
        rows = Difference.objects.filter(gateway=gateway, thing__in=things[at : at + PAGE])
        for row in rows.exclude(state=State.RESOLVED).order_by("pk"):
            latest[row.kind, row.thing] = row
    return latest


def _facts(row: Difference | Finding) -> list[object]:
    return [getattr(row, name) for name in Difference.FACTS]


def _row(run: Reconciliation, finding: Finding, as_of: datetime) -> Difference:
    names = [name for name in Finding.__slots__ if name != "safe"]
    fields = {name: getattr(finding, name) for name in names} | {"told": finding.told[:500]}
    return Difference(gateway=run.gateway, found_by=run, first_seen_at=as_of, last_seen_at=as_of, **fields)


def note_put_right(*, run: Reconciliation, finding: Finding, how: str, as_of: datetime) -> None:
    """This will keep what a run put right by itself: as the end of an open difference, or as one that has ended."""
    if not end(open_ones(gateway=run.gateway).filter(thing=finding.thing), how=how, as_of=as_of):
        row = _row(run, finding, as_of)
        row.state, row.resolved_at, row.how = State.RESOLVED, as_of, how[:1000]
        row.save()


def job_key(difference_id: int) -> str:
    return f"{SEE_TO}:{difference_id}"


@atomic
def end(rows: Iterable[Difference], *, how: str, as_of: datetime) -> int:
    """This will end open differences, and take their items out of the inbox. Returns how many there were."""
    ids = [row.pk for row in rows]
    ended = Difference.objects.filter(pk__in=ids, state=State.OPEN).update(
        state=State.RESOLVED, resolved_at=as_of, how=how[:1000]
    )
    jobs.call_off([job_key(pk) for pk in ids], note=how)
    return ended


def end_agreeing(*, rows: Iterable[Difference], as_of: datetime) -> int:
    """This will end differences about things in which both books agree by now."""
    when = date_format(localtime(as_of), "SHORT_DATETIME_FORMAT")
    by_words: dict[str, list[Difference]] = defaultdict(list)
    for row in rows:
        by_words[_words_of_end(row)].append(row)
    return sum(end(same, how=words % {"when": when}, as_of=as_of) for words, same in by_words.items())


def _words_of_end(row: Difference) -> str:
    if row.kind == Kind.MISSING_HERE:
        return _("Resolved: not missing any more on %(when)s.")
    there = row.transaction is not None and row.transaction.status == Transaction.Status.SUCCEEDED
    if row.kind == Kind.MISSING_THERE and there:
        return _("Resolved: found at the gateway on %(when)s.")
    return _("Resolved: both agree, compared on %(when)s.")


def recheck(*, gateway: str, records: Sequence[GatewayRecord], as_of: datetime) -> int:
    """This will end the open differences that some records, as they stand now, show to be over: for webhooks."""
    rows = list(open_ones(gateway=gateway))
    if not rows or not records:
        return 0
    compared = compare_records(gateway=gateway, records=records, as_of=as_of)
    things = {thing for one in compared for thing in one.things}
    still = {(one.finding.kind, one.finding.thing) for one in compared if one.finding}
    over = [row for row in rows if row.thing in things and (row.kind, row.thing) not in still]
    return end_agreeing(rows=over, as_of=as_of)


@atomic
def sweep(*, gateway: str) -> None:
    """This will take items out of the inbox whose difference has ended while their job was running."""
    waiting = Job.objects.filter(kind=SEE_TO, state=Job.State.NEEDS_ATTENTION).values_list("args", flat=True)
    ids = [args["difference"] for args in waiting]
    ended = Difference.objects.filter(pk__in=ids, gateway=gateway).exclude(state=State.OPEN)
    for row in ended:
        jobs.call_off([job_key(row.pk)], note=row.how)


# --- a person ---------------------------------------------------------------------------------------------------------


def accept(*, difference_id: int, note: str, user_id: int | None, actor_name: str, as_of: datetime) -> None:
    """This will leave a difference as it is, with a note; it comes up again only if it changes.

    Its item leaves the inbox as done by hand. Locks the difference, then the job. Raises DifferenceEnded, JobGone.
    """
    waiting = Job.objects.filter(key=job_key(difference_id), state=Job.State.NEEDS_ATTENTION).first()
    if waiting is not None:
        jobs.finish_by_hand(waiting.pk, user_id=user_id, actor_name=actor_name, note=note)
        return
    with atomic():
        row = write_accepted(difference_id=difference_id, note=note, actor_name=actor_name, as_of=as_of)
        jobs.call_off([job_key(row.pk)], note=row.how)


@atomic
def write_accepted(*, difference_id: int, note: str, actor_name: str, as_of: datetime) -> Difference:
    """This will write that a person accepted a difference: what `accept` and the inbox have in common."""
    row = Difference.objects.select_for_update(no_key=True).get(pk=difference_id)
    if row.state != State.OPEN:
        raise DifferenceEnded
    row.state, row.resolved_at, row.resolved_by = State.ACCEPTED, as_of, actor_name[:150]
    row.how = (_("Accepted: %(note)s") % {"note": note})[:1000]
    row.save(update_fields=["state", "resolved_at", "resolved_by", "how"])
    return row


# --- in words ---------------------------------------------------------------------------------------------------------

THEIR_STATUS: Mapping[str, object] = {
    "succeeded": Transaction.Status.SUCCEEDED.label,
    "pending": Transaction.Status.PENDING.label,
    "declined": gettext_lazy("Declined"),
    **dict(Dispute.Status.choices),
}
OPERATIONS: Mapping[str, object] = {**dict(Transaction.Kind.choices), "dispute": gettext_lazy("Dispute")}
OUR_STATUS: Mapping[str, object] = {**dict(Transaction.Status.choices), **dict(Dispute.Status.choices)}


def operation_shown(difference: Difference) -> str:
    return str(OPERATIONS.get(difference.operation, difference.operation))


def ours(difference: Difference) -> str:
    """This will say what our books have: “€5.00, Succeeded”; “–” for nothing."""
    return _side(difference.our_amount, OUR_STATUS.get(difference.our_status, ""), difference.currency)


def theirs(difference: Difference) -> str:
    """This will say what the gateway's books have; “–” for nothing."""
    status = THEIR_STATUS.get(difference.their_status, difference.their_status)
    return _side(difference.their_amount, status, difference.currency)


def _side(amount: Decimal | None, status: object, currency: str) -> str:
    parts = [shown(amount, currency)] if amount is not None else []
    return ", ".join([*parts, *([str(status)] if status else [])]) or "–"


ADVICE: Mapping[str, object] = {
    Kind.MISSING_HERE: gettext_lazy(
        "Open it at the gateway: who made it, and for which order? Give it back there if it is a mistake; otherwise "
        "accept it with a note."
    ),
    Kind.MISSING_THERE: gettext_lazy(
        "Look for the order's number and the amount at the gateway, also under another account. If the money did not "
        "move, the customer is still owed it, or owes it: see to that, then accept this with a note."
    ),
    Kind.AMOUNT: gettext_lazy("Compare both. Put the rest right at the gateway, or accept it with a note."),
    Kind.STATUS: gettext_lazy("See at the gateway whether money moved. Then put it right, or accept it with a note."),
    Kind.CHARGEBACK: gettext_lazy("Open the dispute at the gateway and compare what was taken with what is booked."),
}


def task(*, difference: Difference) -> str:
    """This will say what differs, where to look and what to do; empty where it has ended."""
    if difference.state != State.OPEN:
        return ""
    facts = _("%(kind)s: %(what)s. Here: %(ours)s. %(gateway)s: %(theirs)s.") % {
        "kind": difference.get_kind_display(),
        "what": operation_shown(difference),
        "ours": ours(difference),
        "gateway": f"{gateway_label(difference.gateway)} ({difference.gateway})",
        "theirs": theirs(difference),
    }
    where = _("Reference at the gateway: %(id)s.") % {"id": difference.gateway_reference[:80] or "–"}
    return " ".join(part for part in (facts, difference.told[:160], str(ADVICE[Kind(difference.kind)]), where) if part)
