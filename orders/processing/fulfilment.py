"""Review, prepare, ship, hand over: the verbs that move goods to the customer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

from inventory import services as inventory
from orders import rules
from orders.models import CancellationRequest, Order, ShippingEvent
from orders.processing.base import CauseReused, HandlerBase
from orders.processing.decision import Decision
from shop.together import recall, remember, update

if TYPE_CHECKING:
    from orders.processing.contract import OscarContract


class Fulfilment(HandlerBase):
    def approve(self, *, number: str, version: int | None = None, note: str = "") -> Order:
        """This will approve a paid order after review. Raises Refused."""
        with self.decide(number, "approve", version=version, note=note) as d:
            d.require(rules.approve(d.facts, self.actor))
            d.go("approve")
        return d.order

    def start_preparing(self, *, number: str, version: int | None = None, note: str = "") -> Order:
        """This will mark an approved order as being picked. Raises Refused."""
        with self.decide(number, "start_preparing", version=version, note=note) as d:
            d.require(rules.start_preparing(d.facts, self.actor))
            d.go("start_preparing")
        return d.order

    def ready_for_pickup(self, *, number: str, version: int | None = None, note: str = "") -> Order:
        """This will tell the customer that all open units wait at the store. Raises Refused."""
        with self.decide(number, "ready_for_pickup", version=version, note=note) as d:
            d.require(rules.ready_for_pickup(d.facts, self.actor))
            units = rules.chosen_lines(d.facts, None, rules.shippable_units(d.facts), verb=_("hand over"))
            self.record_shipping(d, "ready_for_pickup", units, note=note)
            d.go("make_ready_for_pickup")
        return d.order

    def ship(
        self,
        *,
        number: str,
        lines: rules.Lines | None = None,
        carrier: str = "",
        tracking_number: str = "",
        tracking_url: str = "",
        note: str = "",
        cause: str | None = None,
        version: int | None = None,
    ) -> ShippingEvent:
        """This will record that units left: stock is consumed, statuses move, the customer is told.

        lines  line id → units; None means everything that can leave now
        cause  a second call with the same cause returns the first one's event
        Locks the order, then stock records. Raises Refused (not paid, on hold, too many units, …).
        """
        with self.decide(number, "ship", version=version, note=note) as d:
            if (before := self.done_before(d, cause, "shipped")) is not None:
                return before
            d.require(rules.ship(d.facts, self.actor))
            units = rules.chosen_lines(d.facts, lines, rules.shippable_units(d.facts), verb=_("ship"))
            facts = {"carrier": carrier, "tracking_number": tracking_number, "tracking_url": tracking_url}
            return self.record_shipping(d, "shipped", units, note=note, cause=cause, **facts)

    def deliver(
        self,
        *,
        number: str,
        lines: rules.Lines | None = None,
        note: str = "",
        cause: str | None = None,
        version: int | None = None,
    ) -> ShippingEvent:
        """This will record that shipped units arrived (None: all that are on their way). Raises Refused."""
        with self.decide(number, "deliver", version=version, note=note) as d:
            if (before := self.done_before(d, cause, "delivered")) is not None:
                return before
            d.require(rules.deliver(d.facts, self.actor))
            units = rules.chosen_lines(d.facts, lines, lambda x: x.on_the_way, verb=_("deliver"))
            return self.record_shipping(d, "delivered", units, note=note, cause=cause)

    def hand_over(self, *, number: str, note: str = "", version: int | None = None) -> ShippingEvent:
        """This will record that the customer collected everything that waited for pickup. Raises Refused."""
        with self.decide(number, "deliver", version=version, note=note) as d:
            self.ship(number=d.number)
            d.advance()
            return self.deliver(number=d.number, note=note)

    def done_before(self, d: Decision, cause: str | None, code: str) -> ShippingEvent | None:
        """The event that this cause has made already; then nothing is decided and nothing written.

        Raises CauseReused where it has caused something else.
        """
        before = event_of_cause(cause) if cause else None
        if before is not None:
            if before.order_id != d.order.pk or before.event_type.code != code:
                raise CauseReused(params={"cause": cause})
            d.only_if_changed = True
        return before

    def _answer_requests(self, d: Decision, event: ShippingEvent, units: Mapping[int, int]) -> None:
        """Customers' open requests for lines that an event settled: done as they asked, or no longer possible."""
        code = event.event_type.code
        for request in d.open_requests():
            line, cancels = d.line(request.line_id), request.cancellation_type == CancellationRequest.Type.CANCEL
            if cancels and code == "cancelled" and (not line.open or units.get(line.pk, 0) >= request.quantity):
                request.status = CancellationRequest.Status.COMPLETED
            elif cancels and code == "shipped" and not line.open:
                request.status = CancellationRequest.Status.REJECTED
                request.decision_note = str(_("It had been shipped already; it can be sent back."))
                units = {request.line_id: request.quantity}
                d.tell(
                    "cancellation_rejected", cause=f"request:{request.pk}", units=units, reason=request.decision_note
                )
            elif not cancels and code == "returned" and line.returned >= request.quantity:
                request.status = CancellationRequest.Status.COMPLETED
            else:
                continue
            request.decided_at, request.decided_by = d.as_of, self.user
            update([request], ["status", "decision_note", "decided_at", "decided_by"])
            d.details.setdefault("requests_answered", []).append(request.pk)

    # --- the same by Oscar's door ---------------------------------------------------------------------------------

    def record_shipping(self, d: Decision, code: str, units: Mapping[int, int], **fields: Any) -> ShippingEvent:
        """Go through handle_shipping_event, so that a shop's override of it sees every shipping event."""
        contract: OscarContract = self  # type: ignore[assignment]
        lines = [d.line(line_id) for line_id in units]
        return contract.handle_shipping_event(
            d.order, contract.shipping_event_type(code), lines, list(units.values()), **fields
        )

    def consume_stock(self, d: Decision, units: Mapping[int, int]) -> None:
        """Take units off the shelf that were allocated to their lines."""
        moves = []
        for line_id, count in units.items():
            line = d.line(line_id)
            if not line.tracks_stock:
                continue
            if count > line.allocated or line.stock_record_id is None:
                raise inventory.InvalidStockAdjustment(
                    _("“%(name)s”: only %(allocated)d allocated, not %(count)d.")
                    % {"name": line.name, "allocated": line.allocated, "count": count}
                )
            moves.append(
                inventory.Move(line.stock_record_id, count, f"consume:{line.pk}:{d.order.version}:{line.allocated}")
            )
            d.bump(line_id, "allocated", -count)
        if moves:
            inventory.consume(moves=moves, reference=d.number, actor_name=self.actor.name, as_of=d.as_of)


def read_causes_ahead(causes: Collection[str]) -> None:
    """Look up at once what causes have made so far (shop/together.py)."""
    made = {e.cause: e for e in ShippingEvent.objects.select_related("event_type").filter(cause__in=causes)}
    for cause in causes:
        remember((ShippingEvent, cause), made.get(cause))


def event_of_cause(cause: str) -> ShippingEvent | None:
    known: ShippingEvent | str | None = recall((ShippingEvent, cause), "not read", once=True)
    if not isinstance(known, str):
        return known
    return ShippingEvent.objects.select_related("event_type").filter(cause=cause).first()
