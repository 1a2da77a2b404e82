"""From rows to reports: what was cancelled, by whom, why, when, for how much, and how long it took. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from orders.models import CancellationFigure
from shop.money import ZERO


class FigureRow(NamedTuple):
    """What a report reads of one cancellation; the names are CancellationFigure's."""

    day: date
    number: str
    store: int
    outcome: str
    reason_code: str
    stage: str
    actor_kind: str
    staff: int | None
    staff_name: str
    currency: str
    value: Decimal
    units: int
    refund: str
    refunded: Decimal
    refund_seconds: int | None
    approval_seconds: int | None


class Asker(NamedTuple):
    """Who cancelled: one of the staff, or customers and the system as one each. A name is all that is left of a
    person whose account is gone."""

    kind: str
    staff: int | None = None
    name: str = ""


@dataclass(slots=True)
class Group:
    """What cancellations of one kind add up to. Amounts of two currencies are never added up."""

    cancellations: int = 0
    units: int = 0
    values: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def add(self, row: FigureRow) -> None:
        self.cancellations += 1
        self.units += row.units
        if row.value:
            self.values[row.currency] += row.value


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took: at least half of `count` took `median` seconds or less, nine in ten `p90` or less."""

    count: int = 0
    median: int | None = None
    p90: int | None = None

    @classmethod
    def of(cls, seconds: Iterable[int]) -> Times:
        found = sorted(seconds)
        return cls(len(found), _rank(found, Fraction(1, 2)), _rank(found, Fraction(9, 10)))


def _rank(ordered: Sequence[int], part: Fraction) -> int | None:
    """The smallest number that at least this part of the numbers do not exceed (nearest rank: one that occurred)."""
    return ordered[-(-len(ordered) * part.numerator // part.denominator) - 1] if ordered else None


@dataclass(slots=True)
class Report:
    """The figures of a period. Everything but `outcomes` and `approval_time` is of what took effect and still holds.

    days      every day of the period, also those without
    outcomes  status of a cancellation → how many
    """

    days: dict[date, Group]
    total: Group = field(default_factory=Group)
    refunded: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    by_reason: dict[str, Group] = field(default_factory=dict)
    by_stage: dict[str, Group] = field(default_factory=dict)
    by_store: dict[int, Group] = field(default_factory=dict)
    by_asker: dict[Asker, Group] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    refunds: Counter[str] = field(default_factory=Counter)
    refund_time: Times = Times()
    approval_time: Times = Times()

    @property
    def is_empty(self) -> bool:
        return not self.outcomes


def report(rows: Iterable[FigureRow], *, first: date, last: date) -> Report:
    """This will add up the rows of the days from first to last, both included."""
    made = Report({first + timedelta(days=n): Group() for n in range((last - first).days + 1)})
    numbers, refund_times, approval_times = set[str](), list[int](), list[int]()
    groups: tuple[defaultdict[Hashable, Group], ...] = tuple(defaultdict(Group) for _n in range(4))
    for row in rows:
        made.outcomes[row.outcome] += 1
        if row.approval_seconds is not None:
            approval_times.append(row.approval_seconds)
        if row.outcome not in CancellationFigure.TOOK_EFFECT:
            continue
        numbers.add(row.number)
        made.total.add(row)
        made.days[row.day].add(row)
        for group, key in zip(groups, (row.reason_code, row.stage, row.store, asker(row)), strict=True):
            group[key].add(row)
        made.refunds[row.refund] += 1
        if row.refunded:
            made.refunded[row.currency] += row.refunded
        if row.refund_seconds is not None:
            refund_times.append(row.refund_seconds)
    made.by_reason, made.by_stage, made.by_store, made.by_asker = (most_first(group) for group in groups)  # type: ignore[assignment]
    made.orders = len(numbers)
    made.refund_time, made.approval_time = Times.of(refund_times), Times.of(approval_times)
    return made


def asker(row: FigureRow) -> Asker:
    """This will say under whom a cancellation is counted."""
    if row.staff is not None:
        return Asker(row.actor_kind, row.staff)
    return Asker(row.actor_kind, None, row.staff_name)


def most_first(groups: Mapping[Hashable, Group]) -> dict[Hashable, Group]:
    """This will put the groups with most cancellations first; equal ones stay in a fixed order."""
    return dict(sorted(groups.items(), key=lambda item: (-item[1].cancellations, str(item[0]))))


def share(part: int, whole: int) -> Decimal | None:
    """This will say how many percent a part is, to one decimal; of nothing there is no share."""
    return (Decimal(100 * part) / whole).quantize(Decimal("0.1")) if whole else None


def sums(amounts: Mapping[str, Decimal]) -> list[tuple[str, Decimal]]:
    """This will list amounts per currency, for a page; without those that are nothing."""
    return [(currency, amount) for currency, amount in sorted(amounts.items()) if amount != ZERO]
