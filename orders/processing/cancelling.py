"""Cancel before shipping, take back after it, and what customers ask for and a person decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.utils.translation import gettext_lazy as _

from inventory import services as inventory
from orders import rules
from orders.models import (
    CancellationReason,
    CancellationRequest,
    Disposition,
    Order,
    OrderLine,
    OrderNotFound,
    ShippingEvent,
    ShippingEventQuantity,
    Status,
)
from orders.processing.decision import Decision
from orders.processing.fulfilment import Fulfilment
from orders.processing.money import Money
from shop.errors import Invalid, Refused
from shop.money import ZERO, rounded


class StockRecordGone(inventory.InvalidStockAdjustment):
    code = "stock_record_gone"
    message = _("The stock record of “%(name)s” is gone; count the shelf and adjust it by hand.")


class RequestDecided(rules.WrongStatus):
    code = "request_decided"
    message = _("This request has been answered already.")


class TooManyUnits(Invalid):
    code = "too_many_units"
    message = _("Only %(max)d are left.")


@dataclass(frozen=True, slots=True)
class Wish:
    """One line of a customer's request: see CancellationRequest. units None: all that are left."""

    line_id: int
    units: int | None
    type: str
    reason: CancellationReason
    description: str = ""


class Cancelling(Fulfilment, Money):
    def plan_cancellation(self, *, number: str, lines: rules.Lines | None = None, restock: bool = True) -> rules.Plan:
        """This will tell what cancelling these units would do, without doing it. Raises Refused."""
        order = Order.objects.of(self.actor).select_related("store").filter(**Order.resolve_number(number)).first()
        if order is None:
            raise OrderNotFound
        no = rules.cancel(order.facts, self.actor)
        if no is not None:
            raise no
        return rules.plan_cancellation(order.facts, lines, restock=restock)

    def cancel(
        self,
        *,
        number: str,
        lines: rules.Lines | None = None,
        reason: str | int | CancellationReason | None = None,
        note: str = "",
        restock: bool = True,
        refund: bool = True,
        notify: bool = True,
        plan: rules.Plan | None = None,
        cause: str | None = None,
        version: int | None = None,
    ) -> ShippingEvent:
        """This will cancel units that have not shipped (None: all of them), whole lines or some of their units.

        Status, units and journal change at once; workers return the stock, void or refund the money and tell the
        customer. Four separate choices: cancelling, `restock`, `refund`, `notify`.

        reason  code, id or row; staff must give one
        plan    what was shown; if something else would happen by now, PlanChanged is raised and nothing happens
        cause   a second call with the same cause returns the first one's event
        Locks the order, then its payments. Raises Refused.
        """
        with self.decide(number, "cancel", version=version, note=note) as d:
            if (before := self.done_before(d, cause, "cancelled")) is not None:
                return before
            row = self.reason_of(reason, note=note)
            if row is None and self.actor.is_staff:
                raise Invalid(_("Choose a reason."), code="reason_missing", field="reason")
            d.reason = row.code if row else ""
            d.require(self._why_not_cancel(d, lines))
            d.require(None if refund else self._why_not_keep(d))
            now = rules.plan_cancellation(d.facts, lines, restock=restock, notify=notify)
            if plan is not None and plan != now:
                raise rules.PlanChanged
            choices = {"plan": now, "refund": refund}
            return self.record_shipping(d, "cancelled", now.units, reason=row, note=note, cause=cause, choices=choices)

    def _why_not_keep(self, d: Decision) -> Refused | None:
        """Money that is being taken at this moment cannot be kept: nobody knows yet how much it is."""
        if not d.facts.capture_in_flight:
            return None
        return rules.CaptureUnderWay(remedy=_("Wait until it has ended, or refund what it takes."))

    def _why_not_cancel(self, d: Decision, lines: rules.Lines | None) -> Refused | None:
        if not self.actor.is_customer:
            return rules.cancel(d.facts, self.actor)
        wanted = {line.pk: line.open for line in d.facts.lines if line.open} if lines is None else lines
        decided = self._verdict(d, cancel=wanted, back={})
        if decided.refusal is None and not decided.is_direct:
            words = rules.ORDER_STATUS_FORBIDS
            return rules.CancelRefused(words, code="order_status_forbids", remedy=_("Ask for it: a person decides."))
        return decided.refusal

    def _verdict(self, d: Decision, *, cancel: rules.Lines, back: rules.Lines) -> rules.Verdict:
        """What becomes of a customer's wish, by the shop's policy."""
        policy, pending = rules.Policy.of_settings(), open_request_lines(d.order)
        return rules.verdict(d.facts, cancel=cancel, back=back, pending=pending, policy=policy, as_of=self.as_of)

    def cancel_or_request(self, *, number: str, wishes: list[Wish]) -> list[CancellationRequest]:
        """This will cancel what a customer asks for at once, or write it down for a person: all lines one way, or none.

        Returns the requests that were made; none means that the units are cancelled. Several reasons make one event
        with the first line's reason; the journal keeps each line's own. Locks the order, then its payments.
        Raises CancelRefused with the storefront contract's words, TooManyUnits.
        """
        note = "; ".join(f"{wish.reason.name}: {wish.description}" for wish in wishes if wish.description)
        with self.decide(number, "cancel", note=note) as d:
            meant = [self._meant(d, wish, position) for position, wish in enumerate(wishes)]
            cancel, back = units_by_type(meant)
            decided = self._verdict(d, cancel=cancel, back=back)
            d.require(decided.refusal)
            d.details["wishes"] = [
                {"line": w.line_id, "units": w.units, "type": w.type, "reason": w.reason.code} for w in meant
            ]
            if decided.is_direct:
                self.cancel(number=d.number, lines=cancel, reason=meant[0].reason, note=note)
                return []
            d.verb = "request_cancellation"
            return self.request_cancellation(number=d.number, wishes=meant)

    def _meant(self, d: Decision, wish: Wish, position: int) -> Wish:
        """The wish with its number of units; where none is left, what was asked, for the rules to refuse."""
        line = d.facts.line(wish.line_id)
        left = (line.open if wish.type == CancellationRequest.Type.CANCEL else line.returnable) if line else 0
        if left and wish.units is not None and wish.units > left:
            field = f"cancel_order_items.{position}.quantity"
            raise TooManyUnits(params={"max": left}, max_quantity=left, field=field)
        return replace(wish, units=wish.units or left or 1)

    def execute_cancellation(
        self,
        d: Decision,
        plan: rules.Plan,
        *,
        reason: CancellationReason | None,
        note: str,
        refund: bool,
        cause: str | None,
    ) -> ShippingEvent:
        """Write exactly what the plan says."""
        event = d.shipping_event(
            "cancelled",
            plan.units,
            restock={line.line_id: line.restock for line in plan.lines},
            dispositions={line.line_id: line.disposition for line in plan.lines},
            reason=reason,
            note=note,
            cause=cause,
        )
        d.details["plan"] = {"value": plan.value, "refund": plan.refund, "void": plan.void}
        self._promise_stock(d, event, restocked=any(line.restock for line in plan.lines))
        words = reason.name if reason else note
        given_back = self.settle_excess(d, shipping_event=event, reason=words, keep=not refund)
        if refund and given_back != plan.refund:
            raise rules.PlanChanged
        for message in plan.messages:
            # A customer is told the reason only where it is one that customers may choose themselves.
            told = reason.name if reason and reason.shown_to_customers else ""
            money = refund_words(d, plan, refund)
            d.tell(message, cause=f"event:{event.pk}", units=plan.units, reason=told, **money)
        self._answer_requests(d, event, plan.units)
        if plan.ends_order:
            d.go("complete_cancellation")
        return event

    def _promise_stock(self, d: Decision, event: ShippingEvent, *, restocked: bool) -> None:
        if restocked:
            d.promise("orders.return_stock", key=f"orders.return_stock:{event.pk}", args={"event": event.pk})

    def take_back(
        self,
        *,
        number: str,
        lines: Mapping[int, tuple[int, str]],
        reason: str | int | CancellationReason | None = None,
        note: str = "",
        refund: bool = True,
        deduction: Decimal = ZERO,
        notify: bool = True,
        cause: str | None = None,
        version: int | None = None,
    ) -> ShippingEvent:
        """This will record that shipped units came back, in which condition, and refund them.

        lines      line id → (units, "sellable" | "quarantine" | "damaged")
        deduction  what is kept of their value, in the order's currency
        cause      a second call with the same cause returns the first one's event
        Locks the order, then its payments. Raises Refused (never shipped, more than shipped, …).
        """
        with self.decide(number, "take_back", version=version, note=note) as d:
            if (before := self.done_before(d, cause, "returned")) is not None:
                return before
            row = self.reason_of(reason, note=note)
            d.reason = row.code if row else ""
            d.require(rules.take_back(d.facts, self.actor))
            d.require(None if refund else self._why_not_keep(d))
            plan = rules.plan_return(d.facts, lines, deduction=deduction, notify=notify)
            choices = {"plan": plan, "refund": refund}
            return self.record_shipping(d, "returned", plan.units, reason=row, note=note, cause=cause, choices=choices)

    def execute_return(
        self,
        d: Decision,
        plan: rules.Plan,
        *,
        reason: CancellationReason | None,
        note: str,
        refund: bool,
        cause: str | None,
    ) -> ShippingEvent:
        """Write exactly what the plan says."""
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
        units = {line.line_id: (line.refund_units, line.value) for line in plan.lines if line.refund_units}
        if units:
            self.give_back(d, amount=plan.refund if refund else ZERO, units=units, shipping_event=event)
        for message in plan.messages:
            d.tell(message, cause=f"event:{event.pk}", units=plan.units, **refund_words(d, plan, refund))
        self._answer_requests(d, event, plan.units)
        return event

    def return_stock(self, *, event_id: int) -> None:
        """This will put the units of a cancellation or return back into stock; a repetition does nothing.

        Locks the order, then stock records. Raises StockRecordGone and inventory's refusals: the job then waits for a
        person, and the cancellation stays as it is.
        """
        event, quantities, moves = self._stock_to_return(event_id)
        gone = next((q.line for q in quantities if q.line.stock_record_id is None), None)
        if gone is not None:
            raise StockRecordGone(params={"name": gone.name})
        reference, actor_name = event.order.number or "", event.actor_name
        if event.event_type.code == "returned":
            by_disposition = {
                disposition: [moves[q.line_id] for q in quantities if q.disposition == disposition]
                for disposition in sorted({q.disposition for q in quantities})
            }
            inventory.take_back(moves_by_disposition=by_disposition, reference=reference, actor_name=actor_name)
            return
        released = inventory.release(moves=list(moves.values()), reference=reference, actor_name=actor_name)
        done = {move.key for move in released}
        aside = [
            inventory.Move(q.line.stock_record_id or 0, q.restock, f"set-aside:{event.pk}:{q.line_id}")
            for q in quantities
            if q.disposition == Disposition.QUARANTINE
        ]
        if aside:
            inventory.reclassify(
                moves=aside, source="sellable", target="quarantine", reference=reference, actor_name=actor_name
            )
        lines = [q.line for q in quantities if moves[q.line_id].key in done]
        for line in lines:
            line.allocated -= moves[line.pk].quantity
        OrderLine.objects.bulk_update(lines, ["allocated"])

    def stock_was_returned_by_hand(self, *, event_id: int) -> None:
        """This will close the books of a stock return that a person did: what was allocated is so no longer.

        Where the stock record is gone there is no book to keep in step. Raises inventory's refusals.
        """
        event, quantities, moves = self._stock_to_return(event_id)
        if event.event_type.code == "returned":
            return  # the person's own adjustment put them where they are
        held = [moves[q.line_id] for q in quantities if q.line.stock_record_id is not None]
        released = inventory.release(moves=held, reference=event.order.number or "") if held else []
        done = {move.key for move in released}
        for q in quantities:
            if q.line.stock_record_id is None or moves[q.line_id].key in done:
                q.line.allocated -= q.restock
        OrderLine.objects.bulk_update([q.line for q in quantities], ["allocated"])

    def _stock_to_return(
        self, event_id: int
    ) -> tuple[ShippingEvent, list[ShippingEventQuantity], dict[int, inventory.Move]]:
        """An event's units that go back to stock, each with its move (line id → move). Locks the order first."""
        event = ShippingEvent.objects.select_related("order", "event_type").get(pk=event_id)
        Order.objects.select_for_update(no_key=True).get(pk=event.order_id)
        quantities = list(event.line_quantities.filter(restock__gt=0).select_related("line").order_by("line"))
        moves = {
            q.line_id: inventory.Move(
                q.line.stock_record_id or 0, q.restock, f"{event.event_type.code}:{event.pk}:{q.line_id}"
            )
            for q in quantities
        }
        return event, quantities, moves

    # --- requests -------------------------------------------------------------------------------------------------

    def request_cancellation(
        self, *, number: str, wishes: list[Wish], note: str = "", version: int | None = None
    ) -> list[CancellationRequest]:
        """This will write down what a customer wants cancelled or sent back, for a person to decide.

        All wishes or none. Raises Refused (an open request for a line, nothing left of it, …).
        """
        with self.decide(number, "request_cancellation", version=version, note=note) as d:
            if self.actor.is_staff:
                self.actor.require("orders.cancel_order", store_id=d.order.store_id)
            wishes = [self._meant(d, wish, position) for position, wish in enumerate(wishes)]
            units, back = units_by_type(wishes)
            d.require(self._verdict(d, cancel=units, back=back).refusal)
            if units:
                rules.chosen_lines(d.facts, units, lambda line: line.open, verb=_("cancel"))
            if back:
                rules.chosen_lines(d.facts, back, lambda line: line.returnable, verb=_("send back"))
            requests = [
                CancellationRequest(
                    order=d.order,
                    line_id=wish.line_id,
                    quantity=wish.units or 0,
                    cancellation_type=wish.type,
                    reason=wish.reason,
                    description=wish.description,
                    created_at=d.as_of,
                )
                for wish in wishes
            ]
            CancellationRequest.objects.bulk_create(requests)
            d.details["requests"] = [request.pk for request in requests]
            for event, some in (("cancellation_requested", units), ("return_requested", back)):
                if some:
                    d.tell(event, cause=f"requests:{requests[0].pk}", units=some, reason=wishes[0].reason.name)
        return requests

    def decide_request(
        self, *, request_id: int, approve: bool, note: str = "", version: int | None = None
    ) -> CancellationRequest:
        """This will answer a customer's request: approve (units to be cancelled are cancelled) or reject with a note.

        Raises Refused (answered already, no longer possible, rejected without a note).
        """
        found = CancellationRequest.objects.select_related("order", "reason").filter(pk=request_id).first()
        if found is None or not Order.objects.of(self.actor).filter(pk=found.order_id).exists():
            raise RequestDecided(_("There is no such request."), code="not_found", http_status=404)
        with self.decide(found.order.number or "", "decide_request", version=version, note=note) as d:
            self.actor.require("orders.decide_cancellationrequest", store_id=d.order.store_id)
            request = (
                CancellationRequest.objects.select_for_update(no_key=True).select_related("reason").get(pk=request_id)
            )
            if not request.is_open or (approve and request.status == CancellationRequest.Status.APPROVED):
                raise RequestDecided
            if not approve and not note.strip():
                raise Invalid(_("Tell the customer why."), code="note_needed", field="note")
            status = CancellationRequest.Status
            request.decided_at, request.decided_by, request.decision_note = d.as_of, self.user, note
            if not approve:
                request.status = status.REJECTED
                cancels = request.cancellation_type == CancellationRequest.Type.CANCEL
                event = "cancellation_rejected" if cancels else "return_rejected"
                d.tell(event, cause=f"request:{request.pk}", units={request.line_id: request.quantity}, reason=note)
            elif request.cancellation_type == CancellationRequest.Type.CANCEL:
                self.cancel(
                    number=d.number, lines={request.line_id: request.quantity}, reason=request.reason, note=note
                )
                request.status = status.COMPLETED
            else:
                request.status = status.APPROVED  # the goods are awaited; taking them back completes it
            request.save(update_fields=["status", "decided_at", "decided_by", "decision_note"])
            d.details["request"] = {"id": request.pk, "status": request.status}
        return request

    def cancel_unpaid(self, *, number: str) -> ShippingEvent | None:
        """This will cancel an order whose payment did not come in time; one that was paid meanwhile is left alone."""
        with self.decide(number, "cancel") as d:
            late = d.order.status == Status.PAYMENT_WAITING and d.order.unpaid_deadline <= d.as_of
            if not late or d.facts.capture_in_flight:
                d.only_if_changed = True
                return None
            return self.cancel(number=d.number, reason="payment_overdue")


def units_by_type(wishes: list[Wish]) -> tuple[dict[int, int], dict[int, int]]:
    """Line id → units, of what is to be cancelled and of what is to be sent back."""
    cancel = {w.line_id: w.units or 0 for w in wishes if w.type == CancellationRequest.Type.CANCEL}
    back = {w.line_id: w.units or 0 for w in wishes if w.type == CancellationRequest.Type.REFUND}
    return cancel, back


def refund_words(d: Decision, plan: rules.Plan, refund: bool) -> dict[str, str]:
    """What a message says of the money that goes back; nothing where none does."""
    if not refund or not plan.refund:
        return {}
    return {"amount": str(rounded(plan.refund, plan.currency)), "refund_destination": d.order.payment_method_name}


def open_request_lines(order: Order) -> frozenset[int]:
    """Ids of the order's lines that have an open cancellation request."""
    requests = CancellationRequest.objects.filter(order=order).exclude(status__in=CancellationRequest.ENDED)
    return frozenset(requests.values_list("line", flat=True))


def unpaid_before(deadline: datetime) -> list[str]:
    """Numbers of orders that have waited for their payment since before `deadline`, oldest first."""
    late = Order.objects.filter(status=Status.PAYMENT_WAITING, placed_at__lte=deadline).order_by("placed_at")
    return [number for number in late.values_list("number", flat=True)[:500] if number]
