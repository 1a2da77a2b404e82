"""Adding figures up: the database adds, so that a page costs as many queries and as little memory for any number."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from django.db.models import BigIntegerField, CharField, Count, DateField, Expression, F, QuerySet, Sum, Value
from django.db.models.functions import Cast

from orders.models import CancellationFigure
from orders.rules.figures import MEDIAN, P90, Asker, Group, Report, Times, most_first, rank
from shop.sql import Thousandths, in_thousandths

# What a group is known by: a day, texts, a number. Each part uses some of them.
NO_DAY, NO_NUMBER = Cast(Value(None), DateField()), Cast(Value(None), BigIntegerField())
NO_TEXT = Value("", output_field=CharField())
# Each part reads all rows once. "kind" takes together what a shop has few of, so that its groups are few for any
# number of rows. The first part has a day: it tells the database what the column holds.
PARTS: dict[str, dict[str, Expression | F]] = {
    "day": {"by_day": F("day")},
    "asker": {"text": F("actor_kind"), "more": F("staff_name"), "ref": F("staff")},
    "kind": {"text": F("reason_code"), "more": F("stage"), "last": F("refund"), "ref": F("store")},
}


def add_up(rows: QuerySet[CancellationFigure], *, first: date, last: date) -> Report:
    """This will add up the figures of the days from first to last, both included, in a constant number of queries.

    All groups come out of one statement, so that they agree with one another while a worker writes.
    """
    made = Report({first + timedelta(days=n): Group() for n in range((last - first).days + 1)})
    outcomes = rows.values_list("outcome").annotate(Count("pk"))
    made.outcomes.update(dict(outcomes))
    valid = rows.filter(outcome__in=CancellationFigure.TOOK_EFFECT)
    _add_groups(made, valid)
    made.orders = valid.values("number").distinct().count()
    made.refund_time, made.approval_time = _times(valid, "refund_seconds"), _times(rows, "approval_seconds")
    return made


def _add_groups(made: Report, valid: QuerySet[CancellationFigure]) -> None:
    by_reason, by_stage = defaultdict[str, Group](Group), defaultdict[str, Group](Group)
    by_store, by_asker = defaultdict[int, Group](Group), defaultdict[Asker, Group](Group)
    parts = [_part(valid, key, names) for key, names in PARTS.items()]
    for key, day, text, more, last, ref, currency, count, units, value, refunded in parts[0].union(
        *parts[1:], all=True
    ):
        sums: Any = {"cancellations": count, "units": units, "currency": currency, "value": in_thousandths(value)}
        if key == "day":
            made.days[day].add(**sums)
        elif key == "asker":
            # A person's name may have been another; an account that is gone is known by its name alone.
            by_asker[Asker(text, ref, "" if ref else more)].add(**sums)
        else:
            for group in (made.total, by_reason[text], by_stage[more], by_store[ref]):
                group.add(**sums)
            made.refunds[last] += count
            if refunded and last == CancellationFigure.Refund.ARRIVED:
                made.refunded[currency] += in_thousandths(refunded)
    made.by_reason, made.by_stage = most_first(by_reason), most_first(by_stage)
    made.by_store, made.by_asker = most_first(by_store), most_first(by_asker)


def _part(valid: QuerySet[CancellationFigure], key: str, names: dict[str, Expression | F]) -> QuerySet[Any, Any]:
    known_by: dict[str, Any] = {"by_day": NO_DAY, "text": NO_TEXT, "more": NO_TEXT, "last": NO_TEXT, "ref": NO_NUMBER}
    return (
        valid.annotate(part=Value(key), **(known_by | names))
        .values_list("part", *known_by, "currency")
        .annotate(
            rows=Count("pk"),
            all_units=Sum("units"),
            all_value=Sum(Thousandths("value")),
            all_refunded=Sum(Thousandths("refunded")),
        )
    )


def _times(rows: QuerySet[CancellationFigure], field: str) -> Times:
    taken = rows.filter(**{f"{field}__isnull": False})
    count = taken.count()
    if not count:
        return Times()
    return Times(count, _ranked(taken, field, count, MEDIAN), _ranked(taken, field, count, P90))


def _ranked(taken: QuerySet[CancellationFigure], field: str, count: int, part: Fraction) -> int | None:
    ordered = taken.order_by(field).values_list(field, flat=True)
    return ordered[rank(count, part) - 1 :].first()
