"""Pure decisions about goods that come back: the shop's terms, deadlines, the fee, what may not be sent back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from orders.models import CancellationReason, Order, OrderLine, Return, ReturnPolicy
from orders.rules.guards import CancelRefused
from orders.rules.workdays import Place, next_working_day
from shop.errors import Refused
from shop.money import ZERO, rounded

NOWHERE = Place()


class ReturnTooLate(CancelRefused):
    code = "return_expired"
    message = _("“%(name)s” could be sent back until %(date)s.")


class ReturnExempt(CancelRefused):
    code = "return_exempt"
    message = _("“%(name)s” cannot be sent back: %(why)s.")


class NothingTakenBack(CancelRefused):
    code = "returns_not_offered"
    message = _("“%(name)s” cannot be sent back: this shop takes back only what the law asks for.")


class PickupNeeded(CancelRefused):
    code = "pickup_needed"
    message = _("Choose a shipping company and a time at which the goods can be fetched.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnTerms:
    """What may be sent back; see ReturnPolicy. Days count from delivery."""

    return_days: int | None = 30
    withdrawal_days: int = 14
    fee: Decimal = ZERO
    currency: str = ""
    approves_at_once: bool = False
    needs_pickup: bool = False

    @classmethod
    def of(cls, order: Order, policies: Iterable[ReturnPolicy]) -> ReturnTerms:
        """The terms that the order was placed under: its store's own before everybody's, the newest of them."""
        then = [one for one in policies if one.store_id in {None, order.store_id} and one.valid_from <= order.placed_at]
        if not then:
            return cls()
        chosen = max(then, key=lambda one: (one.store_id is not None, one.valid_from))
        return cls(
            return_days=chosen.return_days,
            withdrawal_days=chosen.withdrawal_days,
            fee=chosen.fee,
            currency=chosen.currency,
            approves_at_once=chosen.approves_at_once,
            needs_pickup=chosen.needs_pickup,
        )


def return_deadline(line: OrderLine, terms: ReturnTerms) -> datetime | None:
    """Until when a line can be sent back; None: no limit, or it has not arrived yet."""
    if terms.return_days is None or line.delivered_at is None:
        return None
    return end_of_day(line.delivered_at, days=terms.return_days)


def withdrawal_deadline(lines: Iterable[OrderLine], terms: ReturnTerms, *, place: Place = NOWHERE) -> datetime | None:
    """Until when the contract can be withdrawn from without a reason; None: the time has not begun to run.

    It runs from the day on which the last of the goods ordered together arrived (directive 2011/83/EU, article 9), and
    where its last day is a public holiday, Saturday or Sunday it ends with the next working day (regulation 1182/71,
    article 3). place: where the customer is; without it, of weekends only.
    """
    staying = [line for line in lines if line.cancelled < line.quantity]
    arrived = [line.delivered_at for line in staying if line.delivered_at is not None]
    on_their_way = any(line.left or line.on_the_way for line in staying)
    if on_their_way or not arrived:
        return None
    end = end_of_day(max(arrived), days=terms.withdrawal_days)
    last = timezone.localtime(end).date()
    later = (next_working_day(last, place) - last).days
    return end_of_day(end, days=later) if later else end


def end_of_day(moment: datetime, *, days: int) -> datetime:
    """The last moment of the day that is so many days after another, in the desk's time zone."""
    day = timezone.localtime(moment).date() + timedelta(days=days)
    # Where the clocks are turned back at midnight, the day's last hour comes twice: the second one counts.
    return timezone.make_aware(datetime.combine(day, time.max.replace(fold=1)))


def cannot_come_back(line: OrderLine, terms: ReturnTerms, *, as_of: datetime) -> Refused | None:
    """Why a customer may not send units of a line back, though they have them."""
    if line.return_exemption:
        return ReturnExempt(params={"name": line.name, "why": line.get_return_exemption_display()})
    if terms.return_days == 0:
        return NothingTakenBack(params={"name": line.name})
    deadline = return_deadline(line, terms)
    if deadline is not None and as_of > deadline:
        day = date_format(timezone.localtime(deadline).date())
        return ReturnTooLate(params={"name": line.name, "date": day}, deadline=deadline)
    return None


def return_fee(
    order: Order, terms: ReturnTerms, parcel: Return, reasons: Iterable[CancellationReason], *, value: Decimal
) -> Decimal:
    """What is kept of a return's value: nothing of a withdrawal, of what is the shop's fault, or a second time."""
    reasons = list(reasons)
    free = parcel.is_withdrawal or any(reason.shops_fault for reason in reasons)
    if free or terms.currency != order.currency:
        return ZERO
    return rounded(min(terms.fee, value), order.currency)
