"""Recurring orders, the pure part: on which days they come, and what ending a series would end."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from orders.models import Order, RecurringOrder
from shop.errors import Refused

MAX_EVERY = 366


class SeriesEnded(Refused):
    code = "series_ended"
    message = _("This recurring order has ended.")


class SeriesPaused(Refused):
    code = "series_paused"
    message = _("This recurring order is paused.")


class SeriesNotPaused(Refused):
    code = "series_not_paused"
    message = _("This recurring order is not paused.")


class AlreadyRecurring(Refused):
    code = "already_recurring"
    message = _("This order is part of a recurring order already.")


@dataclass(frozen=True, slots=True)
class PlannedEnd:
    """What ending the series of an order would end: which series, how often it comes, and when it would have next.

    next_at is None where it is paused, for then none is coming.
    """

    series: int
    rhythm: str
    next_at: datetime | None


def planned_end(order: Order) -> PlannedEnd | None:
    """What there is to end beside the order itself; None: it is in no series, or in one that has ended.

    One query for an order of a series, none for another.
    """
    series = order.recurring
    if series is None or series.is_ended:
        return None
    return PlannedEnd(series.pk, series.rhythm, series.next_at if series.is_active else None)


def occurs_at(series: RecurringOrder, occurrence: int) -> datetime:
    """When an occurrence is due: always counted from the first, at the same time of the day by the desk's clock.

    A series that begins on the 31st comes on the last day of shorter months, and on the 31st again after them.
    """
    zone = timezone.get_default_timezone()
    first = series.starts_at.astimezone(zone)
    steps = (occurrence - 1) * series.every
    if series.unit == RecurringOrder.Unit.MONTH:
        day = _months_after(first.date(), steps)
    else:
        day = first.date() + timedelta(days=steps * (7 if series.unit == RecurringOrder.Unit.WEEK else 1))
    return datetime.combine(day, first.time(), tzinfo=zone)


def _months_after(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def next_occurrence(series: RecurringOrder, *, after: int, as_of: datetime) -> int:
    """The first occurrence after one that is still to come: what a long rest has missed is not made up for."""
    occurrence = after + 1
    while occurs_at(series, occurrence) <= as_of:
        occurrence += 1
    return occurrence


# ---------------------------------------------------------------------------------------------------------------
# Guards


def repeat(order: Order) -> Refused | None:
    series = order.recurring
    if series is None or series.is_ended:
        return None
    return AlreadyRecurring(remedy=_("End that one first."))


def end(series: RecurringOrder) -> Refused | None:
    return SeriesEnded() if series.is_ended else None


def pause(series: RecurringOrder) -> Refused | None:
    return end(series) or (None if series.is_active else SeriesPaused())


def place_next(series: RecurringOrder) -> Refused | None:
    return end(series) or (None if series.is_active else SeriesPaused(remedy=_("Resume it first.")))


def resume(series: RecurringOrder) -> Refused | None:
    return end(series) or (SeriesNotPaused() if series.is_active else None)
