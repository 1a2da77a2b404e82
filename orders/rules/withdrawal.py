"""Pure decisions about withdrawals: what of an order can be withdrawn from, until when, and what becomes of each unit.

In time and not exempt: what has not shipped is cancelled, what has is sent back. The rest is for a person to answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils import timezone

from orders.models import Facts, OrderLine
from orders.rules.guards import Lines
from orders.rules.returns import ReturnTerms, withdrawal_deadline
from orders.rules.workdays import Place

# The code of the reason that stands on what a withdrawal cancels and sends back.
WITHDRAWAL = "withdrawal"
# The consumer sends goods back, and the trader the money, within as many days (directive 2011/83/EU, articles 13, 14).
DAYS_TO_SETTLE = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalPlan:
    """What becomes of the units that somebody withdraws from: line id → units of each kind.

    cancel      in time, not shipped: cancelled at once
    back        in time, shipped, perhaps still on the way: to be sent back
    ask_cancel  exempt, not shipped    ┐ a person answers
    ask_back    exempt or late, shipped┘
    held        another system is asked to cancel them already: a person looks at what it says
    gone        stated, but not the customer's any more: cancelled, back, or withdrawn from before
    deadline    None: the time has not begun to run
    """

    deadline: datetime | None
    in_time: bool
    cancel: dict[int, int] = field(default_factory=dict)
    back: dict[int, int] = field(default_factory=dict)
    ask_cancel: dict[int, int] = field(default_factory=dict)
    ask_back: dict[int, int] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.cancel or self.back or self.ask_cancel or self.ask_back or self.held)


def withdrawable(line: OrderLine, *, coming: Mapping[int, int]) -> int:
    """Units of a line that the customer has or will have and has not withdrawn from yet.

    coming  line id → units that are on their way back after an earlier withdrawal
    """
    return line.left + max(0, line.returnable - coming.get(line.pk, 0))


def plan_withdrawal(
    facts: Facts, lines: Lines | None, terms: ReturnTerms, *, coming: Mapping[int, int], declared_at: datetime
) -> WithdrawalPlan:
    """This will sort the units that somebody withdraws from. lines None: everything that is there.

    More units than are there are no error: a declaration counts for what there is.
    """
    deadline = withdrawal_deadline(facts.lines, terms, place=Place.of(facts.order))
    plan = WithdrawalPlan(deadline=deadline, in_time=deadline is None or declared_at <= deadline)
    for line in facts.lines:
        left = withdrawable(line, coming=coming)
        asked = left if lines is None else lines.get(line.pk, 0)
        units = min(asked, left)
        cancel = min(units, line.open)
        back = min(units - cancel, left - line.left)
        exempt = bool(line.return_exemption)
        for kind, count in (
            (plan.ask_cancel if exempt else plan.cancel, cancel),
            (plan.back if plan.in_time and not exempt else plan.ask_back, back),
            (plan.held, units - cancel - back),
            (plan.gone, asked - units),
        ):
            if count:
                kind[line.pk] = count
    return plan


# ---------------------------------------------------------------------------------------------------------------
# What staff see of it


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalClock:
    """How long customers can withdraw. state: waiting (not begun), running, over, none (nothing left)."""

    state: str
    deadline: datetime | None = None
    days_left: int = 0
    not_arrived: int = 0


def withdrawal_clock(facts: Facts, terms: ReturnTerms, *, as_of: datetime) -> WithdrawalClock:
    """This will tell how the time to withdraw from an order stands."""
    if not any(line.live and not line.return_exemption for line in facts.lines):
        return WithdrawalClock(state="none")
    deadline = withdrawal_deadline(facts.lines, terms, place=Place.of(facts.order))
    if deadline is None:
        return WithdrawalClock(state="waiting", not_arrived=sum(line.left + line.on_the_way for line in facts.lines))
    days = (timezone.localtime(deadline).date() - timezone.localtime(as_of).date()).days
    return WithdrawalClock(state="running" if as_of <= deadline else "over", deadline=deadline, days_left=max(0, days))


def settle_by(declared_at: datetime) -> datetime:
    """By when the money has to be back with the customer, and the goods on their way to the shop."""
    return declared_at + timedelta(days=DAYS_TO_SETTLE)
