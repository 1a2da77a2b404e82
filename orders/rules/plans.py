"""Plans: every effect of a cancellation, return or capture, before it happens. The handler executes exactly that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from django.utils.translation import gettext_lazy as _

from orders.models import Disposition, Facts, OrderLine
from orders.rules.guards import BadLines, InvalidPaymentEvent, Lines, chosen_lines
from payments.rules import plan_capture, plan_refund
from shop.money import ZERO, shown


@dataclass(frozen=True, slots=True)
class PlannedUnits:
    """Units of one line in a plan."""

    line_id: int
    name: str
    sku: str
    units: int
    restock: int = 0
    disposition: str = ""
    refund_units: int = 0
    value: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class PlannedMoney:
    """Money in a plan: to or from which payment."""

    payment_id: int
    gateway: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a cancellation, return or capture will do. Amounts are in the order's currency.

    value       what the units whose money is owed back are worth
    deduction   what of it is kept (a fee) or had been given back before
    refund      what is sent back, and to which payments
    void        how much of an authorization is released
    ends_order  no unit is left: the order is cancelled as a whole
    messages    events the customer is told of
    """

    number: str
    version: int
    currency: str
    lines: tuple[PlannedUnits, ...]
    value: Decimal = ZERO
    deduction: Decimal = ZERO
    refund: Decimal = ZERO
    refunds: tuple[PlannedMoney, ...] = ()
    captures: tuple[PlannedMoney, ...] = ()
    void: Decimal = ZERO
    ends_order: bool = False
    messages: tuple[str, ...] = field(default=())

    @property
    def units(self) -> dict[int, int]:
        return {line.line_id: line.units for line in self.lines}

    @property
    def unit_count(self) -> int:
        return sum(line.units for line in self.lines)


def plan_cancellation(facts: Facts, lines: Lines | None = None, *, restock: bool = True, notify: bool = True) -> Plan:
    """What cancelling these units (None: all that have not shipped) will do.

    Money goes back for units that are paid for and would no longer be the customer's; where some of a line's units
    are not paid yet, those are the ones cancelled first.
    """
    chosen = chosen_lines(facts, lines, lambda line: line.open, verb=_("cancel"))
    # Not back to be sold, but not lost either: set aside, until somebody has inspected them.
    aside = "" if restock else Disposition.QUARANTINE.value
    planned = [
        _planned(facts, line, chosen[line.pk], restock=min(chosen[line.pk], line.allocated), disposition=aside)
        for line in facts.lines
        if line.pk in chosen
    ]
    ends = all(line.cancelled + chosen.get(line.pk, 0) == line.quantity for line in facts.lines)
    still_live = any(line.live - chosen.get(line.pk, 0) for line in facts.lines)
    return _with_money(
        facts,
        planned,
        everything=not still_live,
        counter="cancelled",
        ends_order=ends,
        messages=(("order_cancelled" if ends else "order_partly_cancelled"),) if notify else (),
    )


def plan_return(
    facts: Facts, lines: Mapping[int, tuple[int, str]], *, deduction: Decimal = ZERO, notify: bool = True
) -> Plan:
    """What taking back shipped units will do. lines: line id → (units, Disposition value)."""
    chosen = chosen_lines(
        facts,
        {line_id: units for line_id, (units, _d) in lines.items()},
        lambda line: line.returnable,
        verb=_("take back"),
    )
    for line_id, (_units, disposition) in lines.items():
        if disposition not in Disposition.values:
            words = _("“%(value)s” is not a place for returned goods; choose one of: %(choices)s.")
            params = {"value": disposition, "choices": ", ".join(Disposition.values)}
            raise BadLines(words, params=params, field=f"lines.{line_id}")
    planned = [
        _planned(
            facts,
            line,
            chosen[line.pk],
            restock=chosen[line.pk] if line.tracks_stock else 0,
            disposition=lines[line.pk][1],
        )
        for line in facts.lines
        if line.pk in chosen
    ]
    return _with_money(
        facts,
        planned,
        everything=False,
        counter="returned",
        deduction=deduction,
        messages=("units_returned",) if notify else (),
    )


def _planned(facts: Facts, line: OrderLine, units: int, *, restock: int, disposition: str = "") -> PlannedUnits:
    back = max(0, line.paid - line.refunded - (line.live - units))
    value = line.price_of_next(back, after=line.refunded, currency=facts.order.currency)
    return PlannedUnits(line.pk, line.name, line.sku, units, restock, disposition, back, value)


def _with_money(
    facts: Facts,
    planned: list[PlannedUnits],
    *,
    everything: bool,
    counter: str,
    deduction: Decimal = ZERO,
    ends_order: bool = False,
    messages: tuple[str, ...] = (),
) -> Plan:
    """Add the money: the units' value, all unapplied money where nothing is left, less what is kept."""
    order = facts.order
    value = sum((line.value for line in planned), ZERO)
    if deduction < 0 or deduction > value:
        words = _("What is kept must be between nothing and the goods' value, %(value)s.")
        raise InvalidPaymentEvent(words, params={"value": shown(value, order.currency)}, field="deduction")
    owed = value - deduction + (facts.unapplied if everything else ZERO)
    refund = max(ZERO, min(owed, facts.refundable))
    return Plan(
        number=order.number or "",
        version=order.version,
        currency=order.currency,
        lines=tuple(planned),
        value=value,
        deduction=deduction,
        refund=refund,
        refunds=planned_refunds(facts, refund),
        void=facts.after(
            {line.line_id: line.units for line in planned},
            {line.line_id: line.refund_units for line in planned},
            counter=counter,
        ).releasable,
        ends_order=ends_order,
        messages=messages,
    )


def planned_refunds(facts: Facts, amount: Decimal) -> tuple[PlannedMoney, ...]:
    """Over the order's payments, newest first, to the cent."""
    gateways = {p.pk: p.gateway for p in facts.payments}
    parts = plan_refund(payments=facts.payments, amount=amount) if amount else []
    return tuple(PlannedMoney(pk, gateways[pk], part) for pk, part in parts)


def plan_payment(facts: Facts, lines: Lines | None = None) -> Plan:
    """What taking payment for these units (None: all that is due) will do: how much, from which payments."""
    order = facts.order
    chosen = chosen_lines(facts, lines, lambda line: line.chargeable, verb=_("charge"))
    planned = [
        PlannedUnits(
            line.pk,
            line.name,
            line.sku,
            chosen[line.pk],
            value=line.price_of_next(chosen[line.pk], after=line.charged, currency=order.currency),
        )
        for line in facts.lines
        if line.pk in chosen
    ]
    value = sum((line.value for line in planned), ZERO)
    covered = min(value, max(ZERO, facts.unapplied))
    asked = value - covered
    if asked > facts.open_to_capture:
        words = _("%(asked)s would be needed, but only %(open)s is authorized.")
        params = {"asked": shown(asked, order.currency), "open": shown(facts.open_to_capture, order.currency)}
        raise InvalidPaymentEvent(words, params=params, remedy=_("Choose fewer units."))
    gateways = {p.pk: p.gateway for p in facts.payments}
    parts = plan_capture(payments=facts.payments, amount=asked) if asked else []
    captures = tuple(PlannedMoney(pk, gateways[pk], part) for pk, part in parts)
    return Plan(order.number or "", order.version, order.currency, tuple(planned), value=value, captures=captures)
