"""What customers ask for: done at once where the shop's rules say so, otherwise a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import Cancellation, CancellationReason, CancellationRequest, Facts, Order
from orders.processing.cancelling import Cancelling, Contact
from orders.processing.decision import Decision, changed_since
from shop import maintenance
from shop.errors import Invalid, NotAllowed


class RequestDecided(rules.WrongStatus):
    code = "request_decided"
    message = _("This request has been answered already.")


class NotYours(NotAllowed):
    message = _("Customers ask; staff cancel and take back themselves.")


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


class Requesting(Cancelling):
    # Requests that are being answered: not in the way of themselves, and in time if they were when they were made.
    _answering: Sequence[CancellationRequest] = ()

    def customers_verdict(self, facts: Facts, *, cancel: rules.Lines, back: rules.Lines) -> rules.Verdict:
        """What becomes of a customer's wish, by the shop's policy."""
        pending = open_request_lines(facts.order) - {request.line_id for request in self._answering}
        as_of = min((request.created_at for request in self._answering), default=self.as_of)
        policy = self.cancel_policy(facts.order)
        return rules.verdict(facts, cancel=cancel, back=back, pending=pending, policy=policy, as_of=as_of)

    def cancel_or_request(
        self, *, number: str, wishes: list[Wish], plan: rules.Plan | None = None
    ) -> list[CancellationRequest]:
        """This will cancel what a customer asks for at once, or write it down for a person: all lines one way, or none.

        plan  what was shown; where it would be cancelled at once but differently by now, PlanChanged is raised

        Returns the requests that were made; none means that the units are cancelled. Several reasons make one event
        with the first line's reason; the journal keeps each line's own. Locks the order, then its payments.
        Raises CancelRefused with the storefront contract's words, TooManyUnits.
        """
        note = "; ".join(f"{wish.reason.label}: {wish.description}" for wish in wishes if wish.description)
        if maintenance.current() is not None:
            return self.queue_requests(number=number, wishes=wishes, note=note)
        with self.decide(number, "cancel", note=note) as d:
            d.require(NotYours() if self.actor.is_staff else None)
            meant = [self._meant(d, wish, position) for position, wish in enumerate(wishes)]
            cancel, back = units_by_type(meant)
            decided = self.customers_verdict(d.facts, cancel=cancel, back=back)
            d.require(decided.refusal)
            d.details["wishes"] = [
                {"line": w.line_id, "units": w.units, "type": w.type, "reason": w.reason.code} for w in meant
            ]
            if decided.is_direct:
                version = plan.version if plan else None
                if version is not None and version != d.order.version:
                    raise changed_since(d.order, version, actor=self.actor)
                self.cancel(number=d.number, lines=cancel, reason=meant[0].reason, note=note, plan=plan)
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

    def request_cancellation(
        self, *, number: str, wishes: list[Wish], note: str = "", version: int | None = None
    ) -> list[CancellationRequest]:
        """This will write down what a customer wants cancelled or sent back, for a person to decide.

        All wishes or none. Raises Refused (an open request for a line, nothing left of it, …).
        """
        return self._write_requests("request_cancellation", number, wishes, note, version)

    def queue_requests(self, *, number: str, wishes: list[Wish], note: str = "") -> list[CancellationRequest]:
        """This will write down what a customer wants during maintenance; it is answered afterwards."""
        return self._write_requests("queue_cancellation", number, wishes, note, None, queued=True)

    def _write_requests(
        self,
        verb: str,
        number: str,
        wishes: list[Wish],
        note: str,
        version: int | None,
        *,
        queued: bool = False,
    ) -> list[CancellationRequest]:
        with self.decide(number, verb, version=version, note=note) as d:
            d.require(NotYours() if self.actor.is_staff else None)
            wishes = [self._meant(d, wish, position) for position, wish in enumerate(wishes)]
            units, back = units_by_type(wishes)
            d.require(self.customers_verdict(d.facts, cancel=units, back=back).refusal)
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
                    status=CancellationRequest.Status.WAITING if queued else CancellationRequest.Status.OPEN,
                    created_at=d.as_of,
                )
                for wish in wishes
            ]
            CancellationRequest.objects.bulk_create(requests)
            d.details["requests"] = [request.pk for request in requests]
            if queued:
                d.tell("cancellation_queued", cause=f"requests:{requests[0].pk}", units={**units, **back})
                return requests
            for event, some in (("cancellation_requested", units), ("return_requested", back)):
                if some:
                    d.tell(event, cause=f"requests:{requests[0].pk}", units=some, reason=wishes[0].reason.label)
        return requests

    def answer_queued_requests(self, *, number: str) -> None:
        """This will answer what customers asked for during maintenance: at once where that is allowed, else a person.

        Called by a worker, as the customer. Locks the order, then its payments; a repetition does nothing.
        """
        status = CancellationRequest.Status
        with self.decide(number, "cancel") as d:
            d.only_if_changed = True
            rows = CancellationRequest.objects.select_for_update(no_key=True, of=("self",)).select_related("reason")
            waiting = list(rows.filter(order=d.order, status=status.WAITING).order_by("pk"))
            if not waiting:
                return
            wishes = [Wish(r.line_id, r.quantity, r.cancellation_type, r.reason, r.description) for r in waiting]
            cancel, back = units_by_type(wishes)
            self._answering = waiting
            decided = self.customers_verdict(d.facts, cancel=cancel, back=back)
            CancellationRequest.objects.filter(pk__in=[r.pk for r in waiting]).update(status=status.OPEN)
            if decided.refusal is None and decided.is_direct:
                self.cancel(number=d.number, lines=cancel, reason=waiting[0].reason, note=waiting[0].description)

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
            cancels = request.cancellation_type == CancellationRequest.Type.CANCEL
            granted = request.status == CancellationRequest.Status.APPROVED
            if not request.is_open or (granted and (approve or cancels)):
                raise RequestDecided
            if not approve and not note.strip():
                raise Invalid(_("Tell the customer why."), code="note_needed", field="note")
            status = CancellationRequest.Status
            request.decided_at, request.decided_by, request.decision_note = d.as_of, self.user, note
            if not approve:
                request.status = status.REJECTED
                event = "cancellation_rejected" if cancels else "return_rejected"
                d.tell(event, cause=f"request:{request.pk}", units={request.line_id: request.quantity}, reason=note)
            elif cancels:
                contact = Contact(
                    name=d.order.customer_name or d.order.email,
                    channel=Cancellation.Channel.OTHER,
                    at=request.created_at,
                )
                lines = {request.line_id: request.quantity}
                self.cancel(number=d.number, lines=lines, reason=request.reason, note=note, contact=contact)
                # What can still be undone completes it when it takes effect.
                request.status = status.COMPLETED if d.order.undo_until is None else status.APPROVED
            else:
                request.status = status.APPROVED  # the goods are awaited; taking them back completes it
            request.save(update_fields=["status", "decided_at", "decided_by", "decision_note"])
            d.details["request"] = {"id": request.pk, "status": request.status}
        return request


def units_by_type(wishes: list[Wish]) -> tuple[dict[int, int], dict[int, int]]:
    """Line id → units, of what is to be cancelled and of what is to be sent back."""
    cancel = {w.line_id: w.units or 0 for w in wishes if w.type == CancellationRequest.Type.CANCEL}
    back = {w.line_id: w.units or 0 for w in wishes if w.type == CancellationRequest.Type.REFUND}
    return cancel, back


def open_request_lines(order: Order) -> frozenset[int]:
    """Ids of the order's lines that have an open cancellation request."""
    requests = CancellationRequest.objects.filter(order=order).exclude(status__in=CancellationRequest.ENDED)
    return frozenset(requests.values_list("line", flat=True))
