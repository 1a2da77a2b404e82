"""Review, prepare, ship, hand over: the verbs that move goods to the customer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import Sum
from django.utils.translation import gettext_lazy as _

from inventory import services as inventory
from orders import rules
from orders.models import (
    CancellationRequest,
    Condition,
    Inspection,
    InvalidOrderStatus,
    Order,
    PaymentEventQuantity,
    Return,
    ShippingEvent,
    ShippingEventQuantity,
)
from orders.processing.base import CauseReused
from orders.processing.decision import Decision
from orders.processing.documents import Documenting
from payments.models import Refund, Transaction
from shop.together import recall, remember, update

if TYPE_CHECKING:
    from orders.processing.contract import OscarContract


class Fulfilment(Documenting):
    def approve(self, *, number: str, version: int | None = None, note: str = "") -> Order:
        """This will approve a paid order after review. Raises Refused."""
        with self.decide(number, "approve", version=version, note=note) as d:
            d.require(rules.approve(d.facts, self.actor) or self.why_not("approve", d.facts))
            d.go("approve")
        return d.order

    def start_preparing(self, *, number: str, version: int | None = None, note: str = "") -> Order:
        """This will mark an approved order as being picked. Raises Refused."""
        with self.decide(number, "start_preparing", version=version, note=note) as d:
            d.require(rules.start_preparing(d.facts, self.actor) or self.why_not("start-preparing", d.facts))
            d.go("start_preparing")
            self.document_picking(d)
        return d.order

    def take_step(self, *, number: str, step: str, version: int | None = None, note: str = "") -> Order:
        """This will make a transition that a shop's own workflow added, named by `step`. Raises Refused.

        To do more than change the status, override it and call it first; what it raises undoes all of it.
        """
        with self.decide(number, "change_status", version=version, note=note) as d:
            known = rules.own_step(name=step)
            if known is None:
                raise InvalidOrderStatus(params={"new": step, "number": d.number, "current": d.order.status})
            d.require(known.refusal(d.facts, self.actor) or self.why_not(known.action, d.facts))
            d.go(known.name)
        return d.order

    def ready_for_pickup(self, *, number: str, version: int | None = None, note: str = "") -> Order:
        """This will tell the customer that all open units wait at the store. Raises Refused."""
        with self.decide(number, "ready_for_pickup", version=version, note=note) as d:
            d.require(rules.ready_for_pickup(d.facts, self.actor) or self.why_not("ready-for-pickup", d.facts))
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
            d.require(rules.ship(d.facts, self.actor) or self.why_not("ship", d.facts))
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
            d.require(rules.deliver(d.facts, self.actor) or self.why_not("deliver", d.facts))
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
        code, status = event.event_type.code, CancellationRequest.Status
        requests = d.open_requests()
        money = self._money_of_what_is_back(requests) if code == "returned" else {}
        too_late = str(_("It had been shipped already; it can be sent back."))
        answered: list[CancellationRequest] = []
        for request in requests:
            line, cancels = d.line(request.line_id), request.cancellation_type == CancellationRequest.Type.CANCEL
            if cancels and code == "cancelled" and (not line.open or units.get(line.pk, 0) >= request.quantity):
                request.status = status.COMPLETED
            elif cancels and code == "shipped" and not line.open:
                request.status, request.decision_note = status.REJECTED, too_late
            elif request.pk in money:
                request.status, request.event = money[request.pk], event
            else:
                continue
            request.decided_at, request.decided_by = d.as_of, self.user
            answered.append(request)
        if not answered:
            return
        update(answered, ["status", "decision_note", "decided_at", "decided_by", "event"])
        self.close_returns(d, [request.goods_return_id for request in answered])
        d.details.setdefault("requests_answered", []).extend(request.pk for request in answered)
        if rejected := {request.line_id: request.quantity for request in answered if request.status == status.REJECTED}:
            d.tell("cancellation_rejected", cause=f"request:{answered[0].pk}", units=rejected, reason=too_late)

    def _money_of_what_is_back(self, requests: Sequence[CancellationRequest]) -> dict[int, str]:
        """Of requests whose goods were awaited and are all back by now: how far their money is."""
        awaited = [
            request
            for request in requests
            if request.is_return and request.status not in CancellationRequest.AWAITING_MONEY
        ]
        known = accounted_for(awaited) if awaited else {}
        back = [one for one in awaited if known[one.pk][0] > 0 and sum(known[one.pk]) >= one.quantity]
        return money_status(back) if back else {}

    def close_returns(self, d: Decision, ids: Iterable[int | None]) -> None:
        """Close the returns of which nothing is awaited any more; their requests have just been answered."""
        wanted = {pk for pk in ids if pk is not None}
        if wanted:
            awaited = (*CancellationRequest.UNDECIDED, *CancellationRequest.AWAITING_GOODS)
            rows = CancellationRequest.objects.filter(goods_return__in=wanted, status__in=awaited)
            over = wanted - set(rows.values_list("goods_return", flat=True))
            Return.objects.filter(pk__in=over, closed_at=None).update(closed_at=d.as_of)

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


def accounted_for(requests: Sequence[CancellationRequest]) -> dict[int, tuple[int, int]]:
    """Request id → how many units of its line have come back since it was made, and how many are known to be missing.

    Whichever door they came through. Two queries for any number of requests.
    """
    lines = [request.line_id for request in requests]
    rows = ShippingEventQuantity.objects.filter(line__in=lines, event__event_type__code="returned")
    back = list(rows.values_list("line", "event__created_at", "quantity"))
    lost = Inspection.objects.filter(request__in=requests, condition=Condition.MISSING)
    missing = dict(lost.order_by().values_list("request").annotate(Sum("quantity")))
    return {
        request.pk: (
            sum(units for line, at, units in back if line == request.line_id and at >= request.created_at),
            missing.get(request.pk, 0),
        )
        for request in requests
    }


def money_status(requests: Sequence[CancellationRequest]) -> dict[int, str]:
    """Request id → how far the money is for what came back: done, on its way, or a person has to see to it.

    All refunds of the request's line since it was made count: goods may come in several parcels. Two queries.
    """
    lines = [request.line_id for request in requests]
    rows = PaymentEventQuantity.objects.filter(
        line__in=lines,
        event__event_type__code="refunded",
        event__shipping_event__event_type__code="returned",
        event__refund__isnull=False,
    )
    found = list(rows.values_list("line", "event__created_at", "event__refund", "event__refund__status"))
    stuck = set(
        Transaction.objects.filter(
            refund__in={refund for _line, _at, refund, _status in found}, status=Transaction.Status.NEEDS_PERSON
        ).values_list("refund", flat=True)
    )
    told = {}
    for request in requests:
        own = [
            Refund.Status.FAILED if refund in stuck else status
            for line, at, refund, status in found
            if line == request.line_id and at >= request.created_at
        ]
        told[request.pk] = _money_status(own)
    return told


def money_waits(request: CancellationRequest) -> bool:
    """Whether a refund of a request's line has not ended: it is on its way, or waits for a person. One query."""
    refunds = PaymentEventQuantity.objects.filter(
        line=request.line_id,
        event__event_type__code="refunded",
        event__created_at__gte=request.created_at,
        event__refund__isnull=False,
    )
    under_way = Transaction.objects.exclude(status__in=Transaction.FINAL)
    return under_way.filter(refund__in=refunds.values("event__refund")).exists()


def _money_status(refunds: Collection[str]) -> str:
    status = CancellationRequest.Status
    if {Refund.Status.FAILED, Refund.Status.PARTLY} & set(refunds):
        return status.MANUEL_REFUND_NEED
    done = all(one == Refund.Status.SUCCEEDED for one in refunds)
    return status.COMPLETED if done else status.WAITING_FOR_PAYMENT
