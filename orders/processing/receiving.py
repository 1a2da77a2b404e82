"""Receive what customers send back: a parcel arrives, its units are inspected, the money follows what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import (
    CancellationRequest,
    Condition,
    Facts,
    Inspection,
    Order,
    Return,
    ShippingEvent,
)
from orders.processing.decision import Decision
from orders.processing.fulfilment import accounted_for, money_status
from orders.processing.requesting import Requesting, points_for
from orders.processing.returning import refund_words
from payments import services as payments
from shop.errors import Invalid, NotFound, Refused
from shop.money import ZERO
from shop.together import update

Status = CancellationRequest.Status
Found = Mapping[int, Mapping[str, int]]
"""Request id → Condition value → units."""


class ReturnNotFound(NotFound):
    code = "return_not_found"
    message = _("There is no such return.")


class NotAwaited(Refused):
    code = "return_not_awaited"
    message = _("Nothing of this return is awaited: its requests have not been approved, or have ended.")


class ReceivedAlready(Refused):
    code = "return_received"
    message = _("This return has been received already.")


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an inspection will do.

    plan     of the units that came back; None: none did
    places   for each unit that came back, in the plan's lines: condition → line id → units
    fee      what the shop's policy keeps of their value; of a withdrawal, what a dearer delivery cost more
    missing  how many units are known not to come
    to       where the money goes, if not the way it came
    """

    plan: rules.Plan | None
    places: Mapping[str, Mapping[int, int]]
    fee: Decimal
    missing: int
    to: payments.Destination = field(default_factory=payments.Destination)


def why_not_receive(parcel: Return, requests: Sequence[CancellationRequest]) -> Refused | None:
    """Why a return cannot be received now. requests: its own, whatever their status."""
    if any(request.status == Status.APPROVED for request in requests):
        return None
    if any(request.status == Status.CONFIRMATION_WAITING for request in requests):
        return ReceivedAlready()
    return why_not_inspect(parcel, requests)


def why_not_inspect(parcel: Return, requests: Sequence[CancellationRequest]) -> Refused | None:
    """Why a return cannot be inspected now. requests: its own, whatever their status."""
    if any(request.status in CancellationRequest.AWAITING_GOODS for request in requests):
        return None
    if not requests:  # a withdrawal has taken them over, with another code than stands on the parcel
        other = Return.objects.filter(order=parcel.order_id, closed_at=None).exclude(pk=parcel.pk).first()
        words = _("The order's goods are awaited in return %(code)s.")
        return NotAwaited(remedy=words % {"code": other.code} if other else "")
    undecided = any(request.status in CancellationRequest.UNDECIDED for request in requests)
    return NotAwaited(remedy=_("Answer the customer's request first.") if undecided else "")


class Receiving(Requesting):
    def receive_return(self, *, code: str, note: str = "", version: int | None = None) -> Return:
        """This will record that a parcel has arrived, before anybody has looked into it; the customer is told.

        Goods that come in several parcels are received as often. Locks the order, then the requests.
        Raises ReturnNotFound, NotAwaited, ReceivedAlready.
        """
        parcel = self.return_of(code)
        with self.decide(parcel.order.number or "", "receive_return", version=version, note=note) as d:
            d.require(rules.permitted(d.facts, self.actor, "orders.return_order"))
            parcel, requests = self._lock(parcel)
            d.require(why_not_receive(parcel, requests))
            arrived = [request for request in requests if request.status == Status.APPROVED]
            for request in arrived:
                request.status = Status.CONFIRMATION_WAITING
            update(arrived, ["status"])
            parcel.received_at, parcel.received_by = d.as_of, self.actor.name
            update([parcel], ["received_at", "received_by"])
            d.details["return"] = {"code": parcel.code, "requests": [request.pk for request in arrived]}
            cause = f"return:{parcel.pk}:{d.order.version}"
            units = {request.line_id: left for request, left in self._left(arrived).items()}
            d.tell("return_arrived", cause=cause, units=units, return_code=parcel.code)
        return parcel

    def plan_inspection(self, *, code: str, found: Found, deduction: Decimal | None = None) -> Settlement:
        """This will tell what `inspect_return` would do with the same arguments. Raises Refused."""
        parcel = self.return_of(code)
        requests = list(parcel.requests.select_related("reason").order_by("pk"))
        refusal = why_not_inspect(parcel, requests)
        if refusal is not None:
            raise refusal
        return self._settlement(parcel.order.facts, parcel, requests, found, deduction)

    def inspect_return(
        self,
        *,
        code: str,
        found: Found,
        deduction: Decimal | None = None,
        note: str = "",
        version: int | None = None,
    ) -> Return:
        """This will record what was found in a parcel, put it where it belongs and refund what arrived.

        found      request id → condition → units; units that are not named are awaited still, missing ones no longer
        deduction  what is kept of the goods' value, in the order's currency; None: the fee of the shop's policy
        Locks the order, then the requests, then its payments. Raises Refused (more than was asked for, nothing
        awaited, …); a page made before another's inspection is told so by `version`.
        """
        parcel = self.return_of(code)
        with self.decide(parcel.order.number or "", "inspect_return", version=version, note=note) as d:
            d.require(rules.permitted(d.facts, self.actor, "orders.return_order"))
            parcel, requests = self._lock(parcel)
            d.require(why_not_inspect(parcel, requests))
            settled = self._settlement(d.facts, parcel, requests, found, deduction)
            d.require(self._why_not_keep(d) if settled.plan and settled.plan.deduction else None)
            seen = [request for request in requests if sum(found.get(request.pk, {}).values())]
            events = self._take_in(d, seen, settled, note=note)
            self._write_inspections(d, seen, found, events, note=note)
            self._settle_requests(d, parcel, requests, seen, events, note=note)
        return parcel

    def return_of(self, code: str) -> Return:
        """A return of an order that the actor may know of, by the code on the parcel. Raises ReturnNotFound."""
        wanted = code.strip().upper()
        found: Return | None = None
        if wanted.isascii() and "\x00" not in wanted:
            rows = Return.objects.select_related("order__store", "carrier", "pickup_address")
            found = rows.filter(code=wanted).first()
        if found is None or not Order.objects.of(self.actor).filter(pk=found.order_id).exists():
            raise ReturnNotFound
        return found

    # --- helpers --------------------------------------------------------------------------------------------------

    def _lock(self, parcel: Return) -> tuple[Return, list[CancellationRequest]]:
        """The return and its requests as they are now; the order is locked."""
        parcel = Return.objects.select_for_update(no_key=True).get(pk=parcel.pk)
        rows = CancellationRequest.objects.select_for_update(no_key=True, of=("self",)).select_related("reason")
        return parcel, list(rows.filter(goods_return=parcel).order_by("pk"))

    def _left(self, requests: Sequence[CancellationRequest]) -> dict[CancellationRequest, int]:
        """How many units of each request may still come."""
        known = accounted_for(requests)
        return {request: max(0, request.quantity - sum(known[request.pk])) for request in requests}

    def _settlement(
        self,
        facts: Facts,
        parcel: Return,
        requests: Sequence[CancellationRequest],
        found: Found,
        deduction: Decimal | None,
    ) -> Settlement:
        """Check what was found against what was asked for, and plan the units that are there."""
        left = self._left([request for request in requests if request.status in CancellationRequest.AWAITING_GOODS])
        by_id = {request.pk: request for request in left}
        names = {line.pk: line.name for line in facts.lines}
        places: dict[str, dict[int, int]] = {}
        lines: dict[int, tuple[int, str]] = {}
        missing = 0
        for request_id, conditions in found.items():
            request = by_id.get(request_id)
            if request is None:
                raise NotAwaited(_("Nothing of one of these requests is awaited."), field=f"found.{request_id}")
            _check_conditions(request, conditions, left=left[request], name=names[request.line_id])
            missing += conditions.get(Condition.MISSING, 0)
            for condition, units in conditions.items():
                if units and condition != Condition.MISSING:
                    places.setdefault(condition, {})[request.line_id] = units
                    before = lines.get(request.line_id, (0, ""))[0]
                    lines[request.line_id] = (before + units, condition)
        if not lines and not missing:
            raise Invalid(_("Say of at least one unit what was found."), code="nothing_found", field="found")
        if not lines:
            return Settlement(None, {}, ZERO, missing)
        to = self.going_to(facts.order, points_for(by_id[pk] for pk, there in found.items() if sum(there.values())))
        whole = rules.plan_return(facts, lines, destination=to.gateway)
        if parcel.is_withdrawal:
            fee = rules.dearer_of_return(facts, whole)
        else:
            fee = self._fee(facts.order, parcel, list(left), value=whole.refund)
        kept = fee if deduction is None else deduction
        # Staff may give it back all the same; what they keep beyond it, they say themselves.
        dearer = fee if parcel.is_withdrawal and kept >= fee else ZERO
        plan = rules.plan_return(facts, lines, deduction=kept, dearer=dearer, destination=to.gateway)
        return Settlement(plan, places, fee, missing, to)

    def _fee(self, order: Order, parcel: Return, awaited: Sequence[CancellationRequest], *, value: Decimal) -> Decimal:
        """What the policy keeps. A parcel pays once, however often it is opened."""
        if Inspection.objects.filter(request__goods_return=parcel).exclude(event=None).exists():
            return ZERO
        reasons = [request.reason for request in awaited]
        return rules.return_fee(order, self.cancel_policy(order).returns, parcel, reasons, value=value)

    def _take_in(
        self, d: Decision, seen: Sequence[CancellationRequest], settled: Settlement, *, note: str
    ) -> dict[str, ShippingEvent]:
        """One event for each condition, so that each unit goes where it belongs; one refund for all of them."""
        plan = settled.plan
        if plan is None:
            return {}
        events: dict[str, ShippingEvent] = {}
        for condition, units in settled.places.items():
            part = rules.plan_return(d.facts, {x: (n, condition) for x, n in units.items()}, notify=False)
            choices = {"plan": part, "money": False}
            events[condition] = self.record_shipping(
                d, "returned", units, reason=seen[0].reason, note=note, choices=choices
            )
        last = last_of(events)
        given = {line.line_id: (line.refund_units, line.value) for line in plan.lines if line.refund_units}
        if given or plan.refund:
            self.give_back(
                d,
                amount=plan.refund,
                units=given,
                shipping_event=last,
                destination=settled.to,
                repriced=plan.repriced,
            )
        words = refund_words(d, plan, refund=True, to=settled.to)
        d.tell("units_returned", cause=f"event:{last.pk}", units=plan.units, **words)
        return events

    def _write_inspections(
        self,
        d: Decision,
        seen: Sequence[CancellationRequest],
        found: Found,
        events: Mapping[str, ShippingEvent],
        *,
        note: str,
    ) -> None:
        by = {"created_at": d.as_of, "actor_kind": self.actor.kind, "actor_name": self.actor.name, "user": self.user}
        Inspection.objects.bulk_create(
            Inspection(
                order=d.order,
                request=request,
                condition=condition,
                quantity=units,
                note=note,
                event=events.get(condition),
                **by,
            )
            for request in seen
            for condition, units in found[request.pk].items()
            if units
        )
        d.details["found"] = {str(request.pk): dict(found[request.pk]) for request in seen}

    def _settle_requests(
        self,
        d: Decision,
        parcel: Return,
        requests: Sequence[CancellationRequest],
        seen: Sequence[CancellationRequest],
        events: Mapping[str, ShippingEvent],
        *,
        note: str,
    ) -> None:
        """Requests whose units are all accounted for go on to their money, or end; the others are awaited still."""
        known, money = accounted_for(seen), money_status(seen)
        changed = []
        for request in requests:
            came, missing = known.get(request.pk, (0, 0))
            if request not in seen or came + missing < request.quantity:
                if request.status == Status.CONFIRMATION_WAITING:
                    request.status = Status.APPROVED  # this parcel has been looked through: what is left is to come
                    changed.append(request)
                continue
            changed.append(request)
            request.event = last_of(events) if came and events else request.event
            request.status = money[request.pk] if came else Status.REJECTED
            if not came:
                request.decision_note = note or str(_("It was not in the parcel."))
                cause, units = f"missing:{request.pk}", {request.line_id: request.quantity}
                d.tell("return_rejected", cause=cause, units=units, reason=request.decision_note)
        update(changed, ["status", "event", "decision_note"])
        if parcel.received_at is None:
            parcel.received_at, parcel.received_by = d.as_of, self.actor.name
            update([parcel], ["received_at", "received_by"])
        self.close_returns(d, [parcel.pk])
        d.details["return"] = {"code": parcel.code, "requests": [request.pk for request in seen]}


def last_of(events: Mapping[str, ShippingEvent]) -> ShippingEvent:
    return list(events.values())[-1]


def _check_conditions(request: CancellationRequest, conditions: Mapping[str, int], *, left: int, name: str) -> None:
    field = f"found.{request.pk}"
    unknown = next((condition for condition in conditions if condition not in Condition.values), None)
    if unknown is not None:
        words = _("“%(value)s” is not a condition; choose one of: %(choices)s.")
        choices = {"value": unknown, "choices": ", ".join(Condition.values)}
        raise Invalid(words, params=choices, code="bad_condition", field=field)
    if any(type(units) is not int or units < 0 for units in conditions.values()):
        raise Invalid(_("The number of units must be a whole number, 0 or more."), code="bad_units", field=field)
    if sum(conditions.values()) > left:
        words = _("“%(name)s”: only %(max)d units of this request are awaited.")
        params: dict[str, str | int] = {"name": name, "max": left}
        raise Invalid(words, params=params, code="too_many_units", max_quantity=left, field=field)
