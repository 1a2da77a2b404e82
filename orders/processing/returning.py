"""Take back what has shipped, and put units back into stock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from django.utils import translation
from django.utils.translation import gettext_lazy as _

from inventory import services as inventory
from orders import rules
from orders.models import (
    CancellationReason,
    CancellationRequest,
    Disposition,
    Facts,
    Order,
    ShippingEvent,
    ShippingEventQuantity,
)
from orders.processing.decision import Decision
from orders.processing.fulfilment import Fulfilment, accounted_for
from orders.processing.letters import told_destination
from orders.processing.money import Money
from payments import services as payments
from shop.errors import Refused
from shop.money import ZERO, rounded
from shop.together import update

RETURN_STOCK = "orders.return_stock"


class StockRecordGone(inventory.InvalidStockAdjustment):
    code = "stock_record_gone"
    message = _("The stock record of “%(name)s” is gone; count the shelf and adjust it by hand.")


class Returning(Fulfilment, Money):
    def take_back(
        self,
        *,
        number: str,
        lines: Mapping[int, tuple[int, str]],
        reason: str | int | CancellationReason | None = None,
        note: str = "",
        refund: bool = True,
        deduction: Decimal | None = None,
        notify: bool = True,
        destination: payments.Destination | str = "",
        cause: str | None = None,
        version: int | None = None,
    ) -> ShippingEvent:
        """This will record that shipped units came back, in which condition, and refund them.

        lines        line id → (units, "sellable" | "quarantine" | "damaged")
        deduction    what is kept of their value, in the order's currency; None: see `planned_return`
        destination  where the money goes, if not the way it came: see `going_to`
        cause        a second call with the same cause returns the first one's event
        Locks the order, then its payments. Raises Refused (never shipped, more than shipped, …).
        """
        with self.decide(number, "take_back", version=version, note=note) as d:
            if (before := self.done_before(d, cause, "returned")) is not None:
                return before
            row = self.reason_of(reason, note=note)
            d.reason = row.code if row else ""
            d.require(rules.take_back(d.facts, self.actor) or self.why_not("take-back", d.facts))
            d.require(None if refund else self._why_not_keep(d))
            to = self.going_to(d.order, destination) if refund else payments.AS_PAID
            plan = self.planned_return(
                d.facts, lines, deduction=deduction, reason=d.reason, notify=notify, destination=to.gateway
            )
            choices = {"plan": plan, "refund": refund, "destination": to}
            return self.record_shipping(d, "returned", plan.units, reason=row, note=note, cause=cause, choices=choices)

    def planned_return(
        self,
        facts: Facts,
        lines: Mapping[int, tuple[int, str]],
        *,
        deduction: Decimal | None = None,
        reason: str = "",
        notify: bool = True,
        destination: str = "",
    ) -> rules.Plan:
        """This will tell what taking units back would do. lines: line id → (units, Disposition value). Raises Refused.

        deduction  what is kept; None: of units that were withdrawn from, what a dearer delivery cost more, else nothing
        reason     its code; all units are withdrawn from where it says so
        """
        whole = rules.plan_return(facts, lines, notify=notify, destination=destination)
        dearer = rules.dearer_of_return(facts, whole)
        if dearer and reason != rules.WITHDRAWAL:
            dearer = rules.dearer_of_return(facts, whole, self._withdrawn(facts))
        kept = dearer if deduction is None else deduction
        if not kept:
            return whole
        # Staff may give it back all the same; what they keep beyond it, they say themselves.
        return rules.plan_return(
            facts,
            lines,
            deduction=kept,
            dearer=dearer if kept >= dearer else ZERO,
            notify=notify,
            destination=destination,
        )

    def _withdrawn(self, facts: Facts) -> dict[int, int]:
        """Line id → units that are awaited back after a withdrawal."""
        requests = list(
            CancellationRequest.objects.filter(
                order=facts.order,
                goods_return__is_withdrawal=True,
                status__in=CancellationRequest.AWAITING_GOODS,
            )
        )
        known = accounted_for(requests)
        awaited: dict[int, int] = {}
        for request in requests:
            left = max(0, request.quantity - sum(known[request.pk]))
            awaited[request.line_id] = awaited.get(request.line_id, 0) + left
        return awaited

    def execute_return(
        self,
        d: Decision,
        plan: rules.Plan,
        *,
        reason: CancellationReason | None,
        note: str,
        refund: bool,
        cause: str | None,
        money: bool = True,
        destination: payments.Destination = payments.AS_PAID,
    ) -> ShippingEvent:
        """Write exactly what the plan says. money=False: the caller sends it back itself, and tells the customer."""
        event = d.shipping_event(
            "returned",
            plan.units,
            restock={line.line_id: line.restock for line in plan.lines},
            dispositions={line.line_id: line.disposition for line in plan.lines},
            reason=reason,
            note=note,
            cause=cause,
        )
        self._promise_stock(d, event, restocked=any(line.restock for line in plan.lines))
        if not money:
            return event
        units = {line.line_id: (line.refund_units, line.value) for line in plan.lines if line.refund_units}
        amount, repriced = (plan.refund, plan.repriced) if refund else (ZERO, ZERO)
        if units or amount:
            self.give_back(
                d, amount=amount, units=units, shipping_event=event, destination=destination, repriced=repriced
            )
        for message in plan.messages:
            d.tell(message, cause=f"event:{event.pk}", units=plan.units, **refund_words(d, plan, refund, destination))
        self._answer_requests(d, event, plan.units)
        return event

    def _promise_stock(self, d: Decision, event: ShippingEvent, *, restocked: bool) -> None:
        if restocked:
            d.promise(RETURN_STOCK, key=f"{RETURN_STOCK}:{event.pk}", args={"event": event.pk})

    def return_stock(self, *, event_id: int) -> None:
        """This will put the units of a cancellation or return back into stock; a repetition does nothing.

        Locks the order, then stock records. Raises StockRecordGone and inventory's refusals: the job then waits for a
        person, and the cancellation stays as it is.
        """
        self.return_stock_of_many(event_ids=[event_id])

    def return_stock_of_many(self, *, event_ids: Collection[int]) -> None:
        """This will put back the units of several events, all or none, with as many queries as for one.

        The events are of one person's doing: the movements have the first one's name. As `return_stock`.
        """
        events, quantities = self._stock_to_return(event_ids)
        gone = next((q.line for q in quantities if q.line.stock_record_id is None), None)
        if gone is not None:
            raise StockRecordGone(params={"name": gone.name})
        name = next(iter(events.values())).actor_name
        back: dict[str, list[inventory.Move]] = {}
        cancelled = []
        for q in quantities:
            event = events[q.event_id]
            if event.event_type.code == "returned":
                back.setdefault(q.disposition, []).append(move_of(event, q))
                continue
            cancelled.append(q)
        if back:
            inventory.take_back(moves_by_disposition=back, actor_name=name)
        # What was released before was set aside with it, or a person has put it where it is.
        released = self._release(events, cancelled, name)
        to_inspect = [q for q in released if q.disposition == Disposition.QUARANTINE]
        aside = [move_of(events[q.event_id], q, "set-aside") for q in to_inspect]
        if aside:
            inventory.reclassify(moves=aside, source="sellable", target="quarantine", actor_name=name)

    def _release(
        self, events: Mapping[int, ShippingEvent], quantities: Sequence[ShippingEventQuantity], actor_name: str
    ) -> list[ShippingEventQuantity]:
        """Release what cancelled units had allocated, and say so on their lines; what was released before stays so.

        Returns those that were released now.
        """
        moves = {q.pk: move_of(events[q.event_id], q) for q in quantities if q.line.stock_record_id is not None}
        released = {move.key for move in inventory.release(moves=list(moves.values()), actor_name=actor_name)}
        lines = {q.line_id: q.line for q in quantities}
        now = [q for q in quantities if q.pk not in moves or moves[q.pk].key in released]
        for q in now:
            lines[q.line_id].allocated -= q.restock
        update(lines.values(), ["allocated"])
        return now

    def stock_was_returned_by_hand(self, *, event_id: int) -> None:
        """This will close the books of a stock return that a person did: what was allocated is so no longer.

        Where the stock record is gone there is no book to keep in step. Raises inventory's refusals.
        """
        events, quantities = self._stock_to_return([event_id])
        # Of what came back, the person's own adjustment put it where it is.
        cancelled = [q for q in quantities if events[q.event_id].event_type.code == "cancelled"]
        self._release(events, cancelled, "")

    def _stock_to_return(
        self, event_ids: Collection[int]
    ) -> tuple[dict[int, ShippingEvent], list[ShippingEventQuantity]]:
        """Events and their units that go back to stock, with their lines. Locks the orders first."""
        events = ShippingEvent.objects.select_related("order", "event_type").in_bulk(list(event_ids))
        if missing := set(event_ids) - events.keys():
            raise ShippingEvent.DoesNotExist(f"no such shipping events: {sorted(missing)}")
        orders = Order.objects.select_for_update(no_key=True).filter(pk__in={e.order_id for e in events.values()})
        list(orders.order_by("pk").values_list("pk"))
        rows = ShippingEventQuantity.objects.filter(event__in=events, restock__gt=0).select_related("line")
        return events, list(rows.order_by("line", "pk"))

    def _why_not_keep(self, d: Decision) -> Refused | None:
        """Money that is being taken at this moment cannot be kept: nobody knows yet how much it is."""
        if not d.facts.capture_in_flight:
            return None
        return rules.CaptureUnderWay(remedy=_("Wait until it has ended, or refund what it takes."))


def move_of(event: ShippingEvent, q: ShippingEventQuantity, what: str = "") -> inventory.Move:
    """What an event's units do to stock, once."""
    key = f"{what or event.event_type.code}:{event.pk}:{q.line_id}"
    return inventory.Move(q.line.stock_record_id or 0, q.restock, key, reference=event.order.number or "")


def refund_words(
    d: Decision,
    plan: rules.Plan,
    refund: bool,
    to: payments.Destination = payments.AS_PAID,
) -> dict[str, str]:
    """What a message says of the money that goes back, and of what is kept of it; nothing where none does."""
    told = {"deduction": str(rounded(plan.deduction, plan.currency))} if refund and plan.deduction else {}
    if told and plan.dearer:
        with translation.override(d.order.language):
            told["not_refunded"] = rules.dearer_words(d.order, plan.dearer)
    if not refund or not plan.refund:
        return told
    with translation.override(d.order.language):
        where = told_destination(d.order, plan, to)
    return {**told, "amount": str(rounded(plan.refund, plan.currency)), "refund_destination": where}
