"""What reinstated units cost: as much as the customer got back for them, whatever was kept then or given beside. Pure.

Goodwill is a gift: it is neither here nor asked back. Of a line's units, those that went last come back first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from orders.models import Facts
from orders.rules.repricing import lost_by_now
from shop.money import ZERO, first_units, split


@dataclass(frozen=True, slots=True)
class Part:
    """Units of a line that were cancelled with one decision: what they were worth, and what of it was kept."""

    units: int
    worth: Decimal
    kept: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyStep:
    """What one decision did to the money of cancelled units.

    units  line id → (units, what they were worth)
    kept   what of it, and of money that covered no unit, was not given back: a fee, all of it; never re-pricing
    again  it reinstated them
    used   what had been kept and paid for them then
    """

    units: Mapping[int, tuple[int, Decimal]]
    kept: Decimal = ZERO
    again: bool = False
    used: Decimal = ZERO


@dataclass(slots=True)
class GivenBack:
    """What has been given back for cancelled units and not been asked for again, by line; the latest last.

    deposit  money that covered no unit and was kept: it counts again as soon as anything is reinstated
    """

    currency: str
    lines: dict[int, list[Part]] = field(default_factory=dict)
    deposit: Decimal = ZERO

    @classmethod
    def of(cls, steps: Iterable[MoneyStep], *, currency: str) -> GivenBack:
        made = cls(currency)
        for step in steps:
            if step.again:
                taken = [made.take(line_id, count) for line_id, (count, _worth) in step.units.items()]
                own, made.deposit = sum(taken, made.deposit), ZERO
                made._spend(step.used - own)
            else:
                made._add(step)
        return made

    def _spend(self, amount: Decimal) -> None:
        """Units once paid for others, too: before each was known by its own, what was kept of one paid for the next."""
        for parts in self.lines.values():
            for place, part in enumerate(parts):
                spent = max(ZERO, min(part.kept, amount))
                parts[place] = replace(part, kept=part.kept - spent)
                amount -= spent

    def _add(self, step: MoneyStep) -> None:
        worth = sum((cost for _units, cost in step.units.values()), ZERO)
        of_units = min(step.kept, worth)
        self.deposit += step.kept - of_units
        shares = split(of_units, [cost for _units, cost in step.units.values()], self.currency) if step.units else []
        for (line_id, (count, cost)), kept in zip(step.units.items(), shares, strict=True):
            self.lines.setdefault(line_id, []).append(Part(count, cost, kept))

    def take(self, line_id: int, units: int) -> Decimal:
        """Take a line's latest units away again. Returns what of their worth was kept."""
        parts, kept = self.lines.get(line_id, []), ZERO
        while units and parts:
            last = parts.pop()
            stays = max(0, last.units - units)
            left = first_units(last.kept, last.units, stays, self.currency)
            if stays:
                parts.append(Part(stays, first_units(last.worth, last.units, stays, self.currency), left))
            kept += last.kept - left
            units -= last.units - stays
        return kept

    @property
    def amount(self) -> Decimal:
        return sum((part.worth - part.kept for parts in self.lines.values() for part in parts), ZERO)


@dataclass(frozen=True, slots=True)
class Reopening:
    """What reinstating does to the money.

    kept      what of the units' worth the shop has already: it pays for them now. Below zero: the customer had been
              given more than their worth, because it was given back what re-pricing had kept
    repriced  what of it was kept because what stayed was priced anew, and is so no longer
    """

    kept: Decimal
    repriced: Decimal


def reopen(facts: Facts, given: GivenBack, units: Mapping[int, int], *, worth: Decimal, reprices: bool) -> Reopening:
    """This will say what of the units' worth is not asked for again. facts: with the units back in the order.

    worth     what was given back for them, but for what was kept
    reprices  what stays is priced anew: units that come back while a discount stays lost cost what they cost without it
    """
    before = Decimal(facts.order.repriced_total)
    most = given.amount - before
    kept = min(worth, sum((given.take(line_id, count) for line_id, count in units.items()), ZERO))
    repriced = before - lost_by_now(facts) if before else ZERO
    if not reprices or any(line.returned for line in facts.lines):
        repriced = max(ZERO, repriced)  # goods that came back cost nobody a discount
    asked = max(ZERO, worth - kept - repriced)
    if repriced < 0:
        asked = min(asked, max(most, worth - kept))  # never more than was ever given back
    return Reopening(worth - asked + given.deposit, worth - asked - kept)
