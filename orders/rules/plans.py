"""Plans: every effect of a cancellation, return or capture, before it happens. The handler executes exactly that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from orders.models import Disposition, Facts, OrderLine, as_json
from orders.rules.delivery import dearer_delivery
from orders.rules.guards import BadLines, InvalidPaymentEvent, Lines, PlanChanged, chosen_lines
from orders.rules.repricing import NOT_REPRICED, Repriced, no_longer_kept, reprice
from payments.gateways import get_gateway, is_credit
from payments.rules import plan_capture, plan_refund
from shop.money import ZERO, first_units, rounded, shown


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
    location: str = ""


@dataclass(frozen=True, slots=True)
class PlannedMoney:
    """Money in a plan: to or from which payment."""

    payment_id: int
    gateway: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class PlannedApproval:
    """Who has to agree first: the level of approvers, and because of which policies."""

    level: int
    name: str
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a cancellation, return or capture will do. Amounts are in the order's currency.

    worth       what all the units cost, paid for or not: what approval policies and figures look at
    value       what the units whose money is owed back are worth
    deduction   what of it is kept (a fee, a dearer delivery) or had been given back before
    dearer      what of the deduction is for a dearer delivery (rules.delivery)
    repriced    what of it is kept because the goods that stay no longer earn it (below zero: given back again), and why
    refund      what is sent back, and to which payments
    void        how much of an authorization is released
    ends_order  no unit is left: the order is cancelled as a whole
    messages    events the customer is told of
    documents   kinds of documents that are issued
    jobs        kinds of jobs that workers will do
    series      the recurring order that ends with it, in words
    approval    whose agreement it needs before it happens; not an effect, and no part of the plan's identity
    undo_minutes  for how long it can be undone; its stock, money and messages wait
    """

    number: str
    version: int
    currency: str
    lines: tuple[PlannedUnits, ...]
    worth: Decimal = ZERO
    value: Decimal = ZERO
    deduction: Decimal = ZERO
    dearer: Decimal = field(default=ZERO, compare=False)
    repriced: Decimal = ZERO
    repriced_because: tuple[str, ...] = field(default=(), compare=False)
    refund: Decimal = ZERO
    refunds: tuple[PlannedMoney, ...] = ()
    captures: tuple[PlannedMoney, ...] = ()
    void: Decimal = ZERO
    ends_order: bool = False
    messages: tuple[str, ...] = field(default=())
    documents: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    series: str = ""
    approval: PlannedApproval | None = field(default=None, compare=False)
    undo_minutes: int = field(default=0, compare=False)

    NO_EFFECTS: ClassVar[tuple[str, ...]] = (
        "version",
        "approval",
        "undo_minutes",
        "repriced_because",
        "dearer",
    )

    @property
    def effects(self) -> dict[str, Any]:
        """What will happen, as JSON has it, whenever it was planned and whoever has to agree."""
        told: dict[str, Any] = as_json(self)
        for name in self.NO_EFFECTS:
            del told[name]
        return told

    @property
    def digest(self) -> str:
        """SHA-256 of the effects: two plans with the same one do the same."""
        return hashlib.sha256(json.dumps(self.effects, sort_keys=True).encode()).hexdigest()

    @property
    def units(self) -> dict[int, int]:
        return {line.line_id: line.units for line in self.lines}

    @property
    def unit_count(self) -> int:
        return sum(line.units for line in self.lines)


def plan_cancellation(
    facts: Facts,
    lines: Lines | None = None,
    *,
    restock: bool = True,
    refund: bool = True,
    notify: bool = True,
    series: str = "",
    destination: str = "",
    reprices: bool = False,
    waiting: Decimal = ZERO,
    keeps_dearer: bool = False,
) -> Plan:
    """What cancelling these units (None: all that have not shipped) will do.

    Money goes back for units that are paid for and would no longer be the customer's; where some of a line's units
    are not paid yet, those are the ones cancelled first. refund=False: it is kept on purpose. destination: the gateway
    that gives it, instead of the way it came. reprices: what stays is priced anew (rules.repricing); waiting: what a
    cancellation that can still be undone keeps for that. keeps_dearer: what a dearer delivery cost more is not given
    back (rules.delivery).
    """
    chosen = chosen_lines(facts, lines, lambda line: line.open, verb=_("cancel"))
    # Not back to be sold, but not lost either: set aside, until somebody has inspected them.
    aside = "" if restock else Disposition.QUARANTINE.value
    planned = [
        _planned(
            facts,
            line,
            chosen[line.pk],
            restock=min(chosen[line.pk], line.allocated),
            disposition=aside,
            completes=True,
        )
        for line in facts.lines
        if line.pk in chosen
    ]
    ends = all(line.cancelled + chosen.get(line.pk, 0) == line.quantity for line in facts.lines)
    still_live = any(line.live - chosen.get(line.pk, 0) for line in facts.lines)
    value = sum((one.value for one in planned), ZERO)
    kept = _dearer(facts, planned, completes=True) if keeps_dearer else ZERO
    return _with_money(
        facts,
        planned,
        everything=not still_live,
        counter="cancelled",
        deduction=kept,
        dearer=kept,
        ends_order=ends,
        refunds=refund,
        messages=(("order_cancelled" if ends else "order_partly_cancelled"),) if notify and facts.order.email else (),
        series=series,
        destination=destination,
        repriced=reprice(facts, chosen, value=value - kept, waiting=waiting) if reprices else NOT_REPRICED,
    )


def plan_return(
    facts: Facts,
    lines: Mapping[int, tuple[int, str]],
    *,
    deduction: Decimal = ZERO,
    dearer: Decimal = ZERO,
    notify: bool = True,
    destination: str = "",
) -> Plan:
    """What taking back shipped units will do. lines: line id → (units, Disposition value). dearer: of the deduction."""
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
        dearer=dearer,
        messages=("units_returned",) if notify else (),
        destination=destination,
        repriced=Repriced(-no_longer_kept(facts, chosen)),
    )


def _planned(
    facts: Facts, line: OrderLine, units: int, *, restock: int, disposition: str = "", completes: bool = False
) -> PlannedUnits:
    """completes: a cancellation that could still be undone is completed first."""
    # What waits for that goes back with it, and not with this.
    waiting = waiting_units(facts, line)
    back = max(0, line.paid - line.refunded - (line.live - units)) - waiting
    after = line.refunded + waiting if completes else line.refunded
    value = line.price_of_next(back, after=after, currency=facts.order.currency)
    record = line.stock_record if restock else None
    location = record.location.name if record else ""
    return PlannedUnits(line.pk, line.name, line.sku, units, restock, disposition, back, value, location)


def waiting_units(facts: Facts, line: OrderLine) -> int:
    """Units whose money goes back with the cancellation that can still be undone."""
    return line.overpaid if facts.order.undo_until else 0


def _dearer(facts: Facts, planned: list[PlannedUnits], *, completes: bool = False) -> Decimal:
    units = {one.line_id: one.refund_units for one in planned}
    before = {line.pk: waiting_units(facts, line) for line in facts.lines} if completes else {}
    return dearer_delivery(facts, units, before=before)


def dearer_of_return(facts: Facts, plan: Plan, withdrawn: Mapping[int, int] | None = None) -> Decimal:
    """What of a return's value was paid for a dearer delivery, and is kept of a withdrawal.

    withdrawn  line id → units that were withdrawn from; None: all that come back
    """
    units = plan.units if withdrawn is None else withdrawn
    back = {one.line_id: min(one.refund_units, units.get(one.line_id, 0)) for one in plan.lines}
    return min(dearer_delivery(facts, back), plan.refund)


def _with_money(
    facts: Facts,
    planned: list[PlannedUnits],
    *,
    everything: bool,
    counter: str,
    deduction: Decimal = ZERO,
    dearer: Decimal = ZERO,
    ends_order: bool = False,
    refunds: bool = True,
    messages: tuple[str, ...] = (),
    series: str = "",
    destination: str = "",
    repriced: Repriced = NOT_REPRICED,
) -> Plan:
    """Add the money: the units' value, money that covers no unit and is not needed any more, less what is kept."""
    order = facts.order
    value = sum((line.value for line in planned), ZERO)
    if deduction < 0 or deduction > value:
        words = _("What is kept must be between nothing and the goods' value, %(value)s.")
        raise InvalidPaymentEvent(words, params={"value": shown(value, order.currency)}, field="deduction")
    if deduction != rounded(deduction, order.currency):
        small = _("%(currency)s has no amounts this small.")
        raise InvalidPaymentEvent(small, params={"currency": order.currency}, field="deduction")
    units = {line.line_id: line.units for line in planned}
    free = ZERO
    if counter == "cancelled":
        free = facts.unapplied if everything else _freed(facts, units)
    refund = max(ZERO, min(value - deduction - repriced.amount + free, facts.refundable)) if refunds else ZERO
    parts = planned_refunds(facts, refund, destination=destination)
    void = facts.after(units, {line.line_id: line.refund_units for line in planned}, counter=counter).releasable
    jobs = ["orders.return_stock"] if any(line.restock for line in planned) else []
    jobs += ["payments.send"] if refund or void else []
    jobs += ["notifications.send"] if messages else []
    worth = sum(
        (
            line.price_of_next(units[line.pk], after=getattr(line, counter), currency=order.currency)
            for line in facts.lines
            if line.pk in units
        ),
        ZERO,
    )
    return Plan(
        number=order.number or "",
        version=order.version,
        currency=order.currency,
        lines=tuple(planned),
        worth=worth,
        value=value,
        deduction=deduction,
        dearer=dearer,
        repriced=repriced.amount,
        repriced_because=repriced.because,
        refund=refund,
        refunds=parts,
        void=void,
        ends_order=ends_order,
        messages=messages,
        documents=_documents(parts),
        jobs=tuple(jobs),
        series=series,
    )


def _freed(facts: Facts, cancelled: Mapping[int, int]) -> Decimal:
    """What nobody needs any more of the money that covers no unit, such as a deposit for more than what is left."""
    return max(ZERO, facts.after(cancelled, {}, counter="cancelled").left_over - facts.left_over)


def _documents(refunds: tuple[PlannedMoney, ...]) -> tuple[str, ...]:
    """What is issued with the money that goes back: a credit note, and a note of points or credit restored."""
    if not refunds:
        return ()
    # A shop's own gateway need not know of credit.
    restored = any(getattr(get_gateway(part.gateway), "is_credit", False) for part in refunds)
    return ("credit_note", "restoration_note") if restored else ("credit_note",)


def plan_refund_without_goods(facts: Facts, amount: Decimal, *, destination: str = "") -> Plan:
    """What sending back an amount will do that is tied to no unit. The guards of amount and kind are the handler's."""
    order = facts.order
    parts = planned_refunds(facts, amount, destination=destination)
    return Plan(
        order.number or "",
        order.version,
        order.currency,
        (),
        value=amount,
        refund=amount,
        refunds=parts,
        documents=_documents(parts),
        jobs=("payments.send",),
    )


def shipping_left(facts: Facts, given_back: Decimal) -> Decimal:
    """What of the shipping costs was paid and is not given back yet: not with units, and not by itself (given_back)."""
    currency = facts.order.currency
    paid = sum(
        (
            first_units(x.shipping_total, x.quantity, x.paid, currency)
            - first_units(x.shipping_total, x.quantity, x.refunded, currency)
            for x in facts.lines
        ),
        ZERO,
    )
    return max(ZERO, paid - given_back)


def planned_refunds(facts: Facts, amount: Decimal, *, destination: str = "") -> tuple[PlannedMoney, ...]:
    """Over the order's payments, newest first, to the cent; `gateway` is where each part goes.

    What was paid with credit goes back as that credit, whatever the destination.
    """
    gateways = {p.pk: destination if destination and not is_credit(p.gateway) else p.gateway for p in facts.payments}
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
    asked = value - min(value, facts.unapplied)
    if asked > facts.open_to_capture:
        words = _("%(asked)s would be needed, but only %(open)s is authorized.")
        params = {"asked": shown(asked, order.currency), "open": shown(facts.open_to_capture, order.currency)}
        raise InvalidPaymentEvent(words, params=params, remedy=_("Choose fewer units."))
    gateways = {p.pk: p.gateway for p in facts.payments}
    parts = plan_capture(payments=facts.payments, amount=asked) if asked else []
    captures = tuple(PlannedMoney(pk, gateways[pk], part) for pk, part in parts)
    return Plan(order.number or "", order.version, order.currency, tuple(planned), value=value, captures=captures)


# ---------------------------------------------------------------------------------------------------------------
# What of a plan that was shown is no longer so


def differences(before: Plan, now: Plan) -> Iterator[str]:
    """This will say what of a plan that was shown is no longer so, one sentence each."""

    def money(amount: Decimal) -> str:
        return shown(amount, now.currency)

    for name, words in (
        ("refund", _now("Refunded would be %(now)s, not %(before)s.")),
        ("deduction", _now("Kept would be %(now)s, not %(before)s.")),
        ("repriced", _now("Kept for what stays would be %(now)s, not %(before)s.")),
        ("void", _now("Released of the authorization would be %(now)s, not %(before)s.")),
    ):
        if getattr(before, name) != getattr(now, name):
            yield words % {"now": money(getattr(now, name)), "before": money(getattr(before, name))}
    if before.refund == now.refund and before.refunds != now.refunds:
        if [part.gateway for part in before.refunds] != [part.gateway for part in now.refunds]:
            yield _now("The refund would go somewhere else.")
        else:
            yield _now("The refund would go over other payments.")
    if before.captures != now.captures:
        asked = {"now": money(_sum(now.captures)), "before": money(_sum(before.captures))}
        yield _now("Charged would be %(now)s, not %(before)s.") % asked
    if before.units != now.units:
        yield _now("Other units would be concerned: %(now)d, not %(before)d.") % {
            "now": now.unit_count,
            "before": before.unit_count,
        }
    restock = (sum(line.restock for line in now.lines), sum(line.restock for line in before.lines))
    if restock[0] != restock[1]:
        yield _now("Back into stock would go %(now)d, not %(before)d.") % {"now": restock[0], "before": restock[1]}
    if before.ends_order != now.ends_order:
        yield _now("The order would end with it.") if now.ends_order else _now("The order would not end with it.")
    if before.series != now.series:
        yield _now("The recurring order has changed.")
    if before.messages != now.messages:
        yield _now("Other messages would be sent.")


def _sum(parts: tuple[PlannedMoney, ...]) -> Decimal:
    return sum((part.amount for part in parts), ZERO)


def plan_changed(before: Plan, now: Plan) -> PlanChanged:
    """This will make the refusal that says what would happen now instead of what was shown."""
    return PlanChanged(remedy=" ".join(differences(before, now)) or _("Look at it again."))
