"""What a report says: what was cancelled, by whom, why, when, for how much, and how long it took. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, TypeVar

from shop.money import ZERO

Key = TypeVar("Key")

MEDIAN, P90 = Fraction(1, 2), Fraction(9, 10)


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

    def add(self, *, cancellations: int, units: int, currency: str, value: Decimal) -> None:
        """This will take in what some cancellations of one currency add up to."""
        self.cancellations += cancellations
        self.units += units
        if value:
            self.values[currency] += value


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took: at least half of `count` took `median` seconds or less, nine in ten `p90` or less."""

    count: int = 0
    median: int | None = None
    p90: int | None = None


def rank(count: int, part: Fraction) -> int:
    """This will say which of so many ordered numbers, counted from 1, is the smallest that at least this part of them
    do not exceed (nearest rank: a number that occurred)."""
    return -(-count * part.numerator // part.denominator)


@dataclass(slots=True)
class Report:
    """The figures of a period. Everything but `outcomes` and `approval_time` is of what took effect and still holds.

    days      every day of the period, also those without
    refunded  money that has arrived; what is on its way or failed is not among it
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


def most_first(groups: Mapping[Key, Group]) -> dict[Key, Group]:
    """This will put the groups with most cancellations first; equal ones stay in a fixed order."""
    return dict(sorted(groups.items(), key=lambda item: (-item[1].cancellations, str(item[0]))))


def share(part: int, whole: int) -> Decimal | None:
    """This will say how many percent a part is, to one decimal; of nothing there is no share."""
    return (Decimal(100 * part) / whole).quantize(Decimal("0.1")) if whole else None


def sums(amounts: Mapping[str, Decimal]) -> list[tuple[str, Decimal]]:
    """This will list amounts per currency, for a page; without those that are nothing."""
    return [(currency, amount) for currency, amount in sorted(amounts.items()) if amount != ZERO]
