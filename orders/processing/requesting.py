"""What customers ask for: done at once where the shop's rules say so, otherwise a person decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import (
    Cancellation,
    CancellationReason,
    CancellationRequest,
    Facts,
    Order,
    OrderAddress,
    RequestPicture,
    Return,
    ReturnCarrier,
)
from orders.processing.cancelling import Cancelling, Contact
from orders.processing.decision import Decision, changed_since
from orders.processing.fulfilment import money_waits
from orders.processing.printing import label_path
from payments import services as payments
from shop import maintenance
from shop.errors import Invalid, NotAllowed, Refused
from shop.together import update

POINTS = "loyalty"


class RequestDecided(rules.WrongStatus):
    code = "request_decided"
    message = _("This request has been answered already.")


class NotYours(NotAllowed):
    message = _("Customers ask; staff cancel and take back themselves.")


class TooManyUnits(Invalid):
    code = "too_many_units"
    message = _("Only %(max)d are left.")


@dataclass(frozen=True, slots=True)
class Pickup:
    """When goods can be fetched; the hours as the customer wrote them."""

    date: date
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Wish:
    """One line of a customer's request: see CancellationRequest. units None: all that are left.

    carrier, pickup, pictures  of goods to be sent back: who brings them, when they can be fetched, how they look
    """

    line_id: int
    units: int | None
    type: str
    reason: CancellationReason
    description: str = ""
    carrier: ReturnCarrier | None = None
    pickup: Pickup | None = None
    pictures: tuple[rules.Picture, ...] = ()

    @property
    def is_return(self) -> bool:
        return self.type == CancellationRequest.Type.REFUND


@dataclass(frozen=True, slots=True)
class Terms:
    """What a customer says of the whole request.

    address    where goods are fetched, a copy that is not saved yet
    as_points  the refund as points instead of money; asking for it is the customer's consent
    """

    address: OrderAddress | None = None
    as_points: bool = False


NO_TERMS = Terms()


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
        self, *, number: str, wishes: list[Wish], plan: rules.Plan | None = None, terms: Terms = NO_TERMS
    ) -> list[CancellationRequest]:
        """This will cancel what a customer asks for at once, or write it down for a person: all lines one way, or none.

        plan  what was shown; where it would be cancelled at once but differently by now, PlanChanged is raised

        Returns the requests that were made; none means that the units are cancelled. Several reasons make one event
        with the first line's reason; the journal keeps each line's own. Locks the order, then its payments.
        Raises CancelRefused with the storefront contract's words, TooManyUnits.
        """
        note = "; ".join(f"{wish.reason.label}: {wish.description}" for wish in wishes if wish.description)
        if maintenance.current() is not None:
            return self.queue_requests(number=number, wishes=wishes, note=note, terms=terms)
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
                self.cancel_at_once(d, meant, plan=plan, terms=terms, note=note)
                return []
            d.verb = "request_cancellation"
            return self.request_cancellation(number=d.number, wishes=meant, terms=terms)

    def cancel_at_once(
        self, d: Decision, wishes: list[Wish], *, plan: rules.Plan | None, terms: Terms, note: str
    ) -> None:
        """Cancel what a customer may have cancelled at once; where another system is asked first, see external.py."""
        units, to = units_by_type(wishes)[0], POINTS if terms.as_points else ""
        self.cancel(number=d.number, lines=units, reason=wishes[0].reason, note=note, plan=plan, destination=to)

    def _meant(self, d: Decision, wish: Wish, position: int) -> Wish:
        """The wish with its number of units; where none is left, what was asked, for the rules to refuse."""
        line = d.facts.line(wish.line_id)
        left = (line.open if wish.type == CancellationRequest.Type.CANCEL else line.returnable) if line else 0
        if left and wish.units is not None and wish.units > left:
            field = f"cancel_order_items.{position}.quantity"
            raise TooManyUnits(params={"max": left}, max_quantity=left, field=field)
        return replace(wish, units=wish.units or left or 1)

    def request_cancellation(
        self,
        *,
        number: str,
        wishes: list[Wish],
        terms: Terms = NO_TERMS,
        note: str = "",
        version: int | None = None,
    ) -> list[CancellationRequest]:
        """This will write down what a customer wants cancelled or sent back, for a person to decide.

        All wishes or none. A return that the shop's policy approves at once is approved. Raises Refused (an open
        request for a line, nothing left of it, too late to send it back, …).
        """
        return self._write_requests("request_cancellation", number, wishes, terms, note, version)

    def queue_requests(
        self, *, number: str, wishes: list[Wish], terms: Terms = NO_TERMS, note: str = ""
    ) -> list[CancellationRequest]:
        """This will write down what a customer wants during maintenance; it is answered afterwards."""
        return self._write_requests("queue_cancellation", number, wishes, terms, note, None, queued=True)

    def _write_requests(
        self,
        verb: str,
        number: str,
        wishes: list[Wish],
        terms: Terms,
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
            self._check_pickup(d, wishes)
            require_points_offered(d.order, terms)
            parcels = self._open_returns(d, wishes, terms)
            requests = [
                CancellationRequest(
                    order=d.order,
                    line_id=wish.line_id,
                    quantity=wish.units or 0,
                    cancellation_type=wish.type,
                    reason=wish.reason,
                    description=wish.description,
                    status=CancellationRequest.Status.WAITING if queued else CancellationRequest.Status.OPEN,
                    goods_return=parcels.get(parcel_of(wish)) if wish.is_return else None,
                    as_points=terms.as_points,
                    created_at=d.as_of,
                )
                for wish in wishes
            ]
            CancellationRequest.objects.bulk_create(requests)
            keep_pictures(requests, wishes, as_of=d.as_of)
            d.details["requests"] = [request.pk for request in requests]
            if queued:
                d.tell("cancellation_queued", cause=f"requests:{requests[0].pk}", units={**units, **back})
                return requests
            for event, some in (("cancellation_requested", units), ("return_requested", back)):
                if some:
                    d.tell(event, cause=f"requests:{requests[0].pk}", units=some, reason=wishes[0].reason.label)
            if self.cancel_policy(d.order).returns.approves_at_once:
                self.approve_returns(d, [request for request in requests if request.is_return])
        return requests

    def _check_pickup(self, d: Decision, wishes: list[Wish]) -> None:
        if not self.cancel_policy(d.order).returns.needs_pickup:
            return
        for position, wish in enumerate(wishes):
            if wish.is_return and (wish.carrier is None or wish.pickup is None):
                name = "shipping_company" if wish.carrier is None else "pickup_date"
                raise rules.PickupNeeded(field=f"cancel_order_items.{position}.{name}")

    def _open_returns(self, d: Decision, wishes: list[Wish], terms: Terms) -> dict[Parcel, Return]:
        """A return for each parcel: goods with the same carrier, fetched at the same time, come in one."""
        different = list(dict.fromkeys(parcel_of(wish) for wish in wishes if wish.is_return))
        if different and terms.address is not None and terms.address._state.adding:
            terms.address.save(force_insert=True)
        parcels = {
            (carrier_id, pickup): Return(
                order=d.order,
                carrier_id=carrier_id,
                pickup_address=terms.address,
                pickup_date=pickup.date if pickup else None,
                pickup_from=pickup.start if pickup else "",
                pickup_until=pickup.end if pickup else "",
                created_at=d.as_of,
            )
            for carrier_id, pickup in different
        }
        Return.objects.bulk_create(parcels.values())
        return parcels

    def approve_returns(self, d: Decision, requests: Sequence[CancellationRequest]) -> None:
        """Agree to goods being sent back, and tell the customer how: a message for each parcel."""
        parcels: dict[int | None, list[CancellationRequest]] = {}
        for request in requests:
            request.status, request.decided_at = CancellationRequest.Status.APPROVED, d.as_of
            request.decided_by = self.user if self.actor.is_staff else None
            parcels.setdefault(request.goods_return_id, []).append(request)
        update(requests, ["status", "decided_at", "decided_by", "decision_note"])
        for some in parcels.values():
            parcel = some[0].goods_return
            units = {request.line_id: request.quantity for request in some}
            words = return_words(parcel) if parcel else {}
            if parcel is not None:
                # What was agreed to earlier comes in the same parcel: the new sheet names it all.
                agreed = parcel.requests.filter(status=CancellationRequest.Status.APPROVED)
                self.document_return(d, parcel, dict(agreed.values_list("line", "quantity")))
            d.tell("return_approved", cause=f"request:{some[0].pk}", units=units, **words)

    def answer_queued_requests(self, *, number: str) -> None:
        """This will answer what customers asked for during maintenance: at once where that is allowed, else a person.

        Called by a worker, as the customer. Locks the order, then its payments; a repetition does nothing.
        """
        # Asked for at different times, some for money and some for points: each is given as it was asked for.
        for as_points in (False, True):
            self._answer_queued(number, as_points=as_points)

    def _answer_queued(self, number: str, *, as_points: bool) -> None:
        status = CancellationRequest.Status
        with self.decide(number, "cancel") as d:
            d.only_if_changed = True
            rows = CancellationRequest.objects.select_for_update(no_key=True, of=("self",))
            rows = rows.select_related("reason", "goods_return__carrier")
            queued = list(rows.filter(order=d.order, status=status.WAITING).order_by("pk"))
            waiting = [request for request in queued if request.as_points == as_points]
            if not waiting:
                return
            wishes = [Wish(r.line_id, r.quantity, r.cancellation_type, r.reason, r.description) for r in waiting]
            cancel, back = units_by_type(wishes)
            self._answering = queued
            decided = self.customers_verdict(d.facts, cancel=cancel, back=back)
            CancellationRequest.objects.filter(pk__in=[r.pk for r in waiting]).update(status=status.OPEN)
            if decided.refusal is not None:
                return  # a person says so
            if decided.is_direct:
                first, to = waiting[0], points_for(waiting)
                self.cancel(number=d.number, lines=cancel, reason=first.reason, note=first.description, destination=to)
            elif self.cancel_policy(d.order).returns.approves_at_once:
                self.approve_returns(d, [request for request in waiting if request.is_return])

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
            rows = CancellationRequest.objects.select_for_update(no_key=True, of=("self",))
            request = rows.select_related("reason", "goods_return__carrier").get(pk=request_id)
            cancels = request.cancellation_type == CancellationRequest.Type.CANCEL
            d.require(why_not_answer(request, approve=approve))
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
                self.cancel(
                    number=d.number,
                    lines=lines,
                    reason=request.reason,
                    note=note,
                    contact=contact,
                    destination=points_for([request]),
                )
                # What can still be undone completes it when it takes effect.
                request.status = status.COMPLETED if d.order.undo_until is None else status.APPROVED
            else:
                self.approve_returns(d, [request])  # the goods are awaited; their inspection completes it
            request.save(update_fields=["status", "decided_at", "decided_by", "decision_note"])
            self.close_returns(d, [request.goods_return_id])
            d.details["request"] = {"id": request.pk, "status": request.status}
        return request

    def close_request(self, *, request_id: int, note: str, version: int | None = None) -> CancellationRequest:
        """This will complete a return whose refund has failed: a person saw to the money otherwise, the note says how.

        Raises Refused: its refund has not failed, or still waits in the inbox; no note; no permission.
        """
        found = CancellationRequest.objects.select_related("order").filter(pk=request_id).first()
        if found is None or not Order.objects.of(self.actor).filter(pk=found.order_id).exists():
            raise RequestDecided(_("There is no such request."), code="not_found", http_status=404)
        with self.decide(found.order.number or "", "close_request", version=version, note=note) as d:
            self.actor.require("orders.decide_cancellationrequest", store_id=d.order.store_id)
            request = CancellationRequest.objects.select_for_update(no_key=True).get(pk=request_id)
            d.require(why_not_close(request))
            if money_waits(request):
                raise rules.NothingToDo(
                    _("Its refund has not ended."), remedy=_("Settle it in the inbox: that completes the request, too.")
                )
            if not note.strip():
                raise Invalid(_("Say how the customer got the money."), code="note_needed", field="note")
            request.status, request.decision_note = CancellationRequest.Status.COMPLETED, note
            request.decided_at, request.decided_by = d.as_of, self.user
            request.save(update_fields=["status", "decision_note", "decided_at", "decided_by"])
            d.details["request"] = {"id": request.pk, "status": request.status}
        return request


def why_not_close(request: CancellationRequest) -> Refused | None:
    """Why a person has nothing to say about a request's money."""
    if request.status == CancellationRequest.Status.MANUEL_REFUND_NEED:
        return None
    return rules.NothingToDo(_("No refund of this request has failed."))


def why_not_answer(request: CancellationRequest, *, approve: bool) -> Refused | None:
    """Why a request can no longer be approved, or rejected; the pages ask the same for their buttons."""
    status = request.status
    if status in CancellationRequest.UNDECIDED:
        return None
    if not request.is_return or status not in CancellationRequest.AWAITING_GOODS:
        return RequestDecided()
    # What was allowed to come back and never did can be given up; what has arrived is inspected.
    if status != CancellationRequest.Status.APPROVED or request.inspections.exists():
        return RequestDecided(remedy=_("Inspect the return and say what is missing."))
    return RequestDecided() if approve else None


def require_points_offered(order: Order, terms: Terms) -> None:
    """Refuse points where the customer could not get them, before anything is promised."""
    if terms.as_points:
        payments.require_offered(payments.Destination(gateway=POINTS), owner_id=order.customer_id)


def points_for(requests: Iterable[CancellationRequest]) -> payments.Destination:
    """Where the money of requests goes: points, where their customer asked so for all of it; else the way it came."""
    found = list(requests)
    asked = found[0] if found and all(request.as_points for request in found) else None
    if asked is None:
        return payments.Destination()
    try:
        require_points_offered(asked.order, Terms(as_points=True))
    except Refused:  # the account is gone since, or the shop has no points any more
        return payments.Destination()
    at = {"at": f"{timezone.localtime(asked.created_at):%Y-%m-%d %H:%M %Z}"}
    words = _now("The customer asked for points instead of money with the request, %(at)s") % at
    return payments.Destination(gateway=POINTS, consent=words)


Parcel = tuple[int | None, Pickup | None]


def parcel_of(wish: Wish) -> Parcel:
    """What goods must have in common to come in one parcel."""
    return (wish.carrier.pk if wish.carrier else None, wish.pickup)


def keep_pictures(requests: Sequence[CancellationRequest], wishes: Sequence[Wish], *, as_of: datetime) -> None:
    """Write the wishes' pictures to their requests, in one statement."""
    RequestPicture.objects.bulk_create(
        RequestPicture(request=request, content=one.content, width=one.width, height=one.height, created_at=as_of)
        for request, wish in zip(requests, wishes, strict=True)
        for one in wish.pictures
    )


def return_words(parcel: Return) -> dict[str, str]:
    """What a message says of how goods come back."""
    told = {"return_code": parcel.code, "label_url": f"{settings.SITE_URL}{label_path(parcel)}"}
    if parcel.carrier is not None:
        told |= {"carrier": parcel.carrier.name, "return_instructions": parcel.carrier.instructions}
    if parcel.pickup_date is not None:
        told["pickup_date"] = parcel.pickup_date.isoformat()
        told["pickup_hours"] = parcel.pickup_hours
    return told


def units_by_type(wishes: list[Wish]) -> tuple[dict[int, int], dict[int, int]]:
    """Line id → units, of what is to be cancelled and of what is to be sent back."""
    cancel = {w.line_id: w.units or 0 for w in wishes if w.type == CancellationRequest.Type.CANCEL}
    back = {w.line_id: w.units or 0 for w in wishes if w.type == CancellationRequest.Type.REFUND}
    return cancel, back


def open_request_lines(order: Order) -> frozenset[int]:
    """Ids of the order's lines that have an open cancellation request."""
    requests = CancellationRequest.objects.filter(order=order).exclude(status__in=CancellationRequest.ENDED)
    return frozenset(requests.values_list("line", flat=True))
