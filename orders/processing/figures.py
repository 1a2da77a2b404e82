"""Counting cancellations: a worker brings the figures up to date from the books; the decisions pay nothing for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from orders.models import (
    Approval,
    BulkItem,
    Cancellation,
    CancellationFigure,
    FigureCursor,
    PaymentEvent,
)
from payments.models import Refund
from shop.money import ZERO

CHUNK = 1_000
# Ids are handed out before rows are committed, so that a lower one may come later; after so long, none comes any more.
LONGEST_TRANSACTION = timedelta(hours=1)

ANSWERED = (Approval.Status.APPROVED, Approval.Status.REJECTED)
UNFINISHED = (*Cancellation.WAITING, Cancellation.Status.PENDING.value)
# A refund that failed may be tried again.
REFUND_UNFINISHED = (CancellationFigure.Refund.OPEN, CancellationFigure.Refund.FAILED)

FIELDS = [field.name for field in CancellationFigure._meta.concrete_fields if not field.primary_key]
COLUMNS = [field.attname for field in CancellationFigure._meta.concrete_fields if not field.primary_key]


def count_cancellations(*, as_of: datetime, everything: bool = False) -> int:
    """This will bring the figures up to date with the cancellations. Returns how many rows it wrote.

    Without `everything` it reads what is new, and what was still open when it looked last.
    A repetition, a second worker or a kill in the middle do no harm. Locks nothing; the same number of queries for
    every CHUNK of cancellations.
    """
    if everything:
        return sum(_count(pks) for pks in _chunks(Cancellation.objects.all()))
    cursor, _new = FigureCursor.objects.get_or_create(pk=1, defaults={"seen_at": as_of})
    newest = Cancellation.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    written = 0
    for rows in (
        Cancellation.objects.filter(pk__gt=cursor.counted_to, figure=None),
        CancellationFigure.objects.filter(is_open=True),
    ):
        for pks in _chunks(rows):
            written += _count(pks)
    # Only a run that came to its end moves the cursor, and only past ids whose transactions had ended when it began.
    if as_of - cursor.seen_at >= LONGEST_TRANSACTION:
        FigureCursor.objects.filter(pk=1, seen_at=cursor.seen_at).update(
            counted_to=cursor.seen, seen=newest, seen_at=as_of
        )
    return written


def _chunks(rows: QuerySet[Any]) -> Iterator[list[int]]:
    last = 0
    while pks := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:CHUNK]):
        yield pks
        last = pks[-1]


def _count(pks: list[int]) -> int:
    """Write the figures of these cancellations, where they are not what is stored already."""
    approvals, found = _bulk_approvals(pks), list(_cancellations(pks))
    refunds = _refunds([row["event"] for row in found if row["event"]])
    before = CancellationFigure.objects.in_bulk(pks)
    figures = [_figure(row, refunds.get(row["event"], []), approvals.get(row["pk"])) for row in found]
    changed = [figure for figure in figures if _differs(figure, before.get(figure.pk))]
    CancellationFigure.objects.bulk_create(
        changed, update_conflicts=True, unique_fields=["cancellation"], update_fields=FIELDS
    )
    return len(changed)


def _differs(figure: CancellationFigure, before: CancellationFigure | None) -> bool:
    return before is None or any(getattr(figure, name) != getattr(before, name) for name in COLUMNS)


def _cancellations(pks: list[int]) -> QuerySet[Any, Any]:
    """The columns alone: a cancellation carries the whole plan that was shown."""
    return Cancellation.objects.filter(pk__in=pks).values(
        "pk",
        "status",
        "stage",
        "units",
        "currency",
        "value",
        "ends_order",
        "actor_kind",
        "requested_by",
        "requested_by_name",
        "created_at",
        "event",
        "event__created_at",
        "order__number",
        "order__store",
        "order__placed_at",
        "reason__code",
        "reason__category",
        "approval__status",
        "approval__created_at",
        "approval__decided_at",
    )


def _bulk_approvals(pks: list[int]) -> dict[int, int]:
    """Cancellation → seconds, of those that were approved as part of a bulk run."""
    rows: QuerySet[Any, Any] = BulkItem.objects.filter(cancellation__in=pks, run__approval__status__in=ANSWERED)
    times = rows.order_by("pk").values_list("cancellation", "run__approval__created_at", "run__approval__decided_at")
    return {pk: _seconds(asked, answered) for pk, asked, answered in times}


def _refunds(events: list[int]) -> dict[int, list[tuple[Decimal, str, datetime | None]]]:
    """Shipping event → amount, status and time of settlement of each refund that it caused."""
    found: dict[int, list[tuple[Decimal, str, datetime | None]]] = {}
    rows = PaymentEvent.objects.filter(shipping_event__in=events, refund__isnull=False).order_by()
    for event, *refund in rows.values_list("shipping_event", "refund__amount", "refund__status", "refund__settled_at"):
        found.setdefault(event, []).append((refund[0], refund[1], refund[2]))
    return found


def _figure(
    row: dict[str, Any], refunds: list[tuple[Decimal, str, datetime | None]], bulk_approval: int | None
) -> CancellationFigure:
    at = row["event__created_at"] or row["created_at"]
    refund, refund_seconds = _refund(at, refunds)
    approval = bulk_approval
    if row["approval__status"] in ANSWERED:
        approval = _seconds(row["approval__created_at"], row["approval__decided_at"])
    is_staff = row["actor_kind"] == "staff"
    return CancellationFigure(
        cancellation_id=row["pk"],
        number=row["order__number"],
        store_id=row["order__store"],
        at=at,
        day=_day(at),
        placed_day=_day(row["order__placed_at"]),
        outcome=row["status"],
        reason_code=row["reason__code"] or "",
        category=row["reason__category"] or "",
        stage=row["stage"],
        actor_kind=row["actor_kind"],
        staff_id=row["requested_by"] if is_staff else None,
        # A customer's name is nothing for a report.
        staff_name=row["requested_by_name"] if is_staff else "",
        currency=row["currency"],
        value=row["value"],
        units=row["units"],
        ends_order=row["ends_order"],
        refund=refund,
        refunded=sum((amount for amount, _status, _at in refunds), ZERO),
        refund_seconds=refund_seconds,
        approval_seconds=approval,
        is_open=row["status"] in UNFINISHED or refund in REFUND_UNFINISHED,
    )


def _refund(
    decided_at: datetime, refunds: list[tuple[Decimal, str, datetime | None]]
) -> tuple[CancellationFigure.Refund, int | None]:
    """Where the money is, and how long all of it took to arrive."""
    statuses = {status for _amount, status, _at in refunds}
    if not refunds:
        return CancellationFigure.Refund.NONE, None
    if statuses & {Refund.Status.WAITING, Refund.Status.PENDING}:
        return CancellationFigure.Refund.OPEN, None
    if statuses != {Refund.Status.SUCCEEDED}:
        return CancellationFigure.Refund.FAILED, None
    return CancellationFigure.Refund.ARRIVED, _seconds(decided_at, max(at for _a, _s, at in refunds if at))


def _seconds(start: datetime, end: datetime) -> int:
    """Whole seconds. Clocks of two machines may disagree by a little: nothing takes less than no time."""
    return max(0, int((end - start).total_seconds()))


def _day(at: datetime) -> date:
    return timezone.localdate(at, timezone.get_default_timezone())
