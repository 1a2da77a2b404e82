"""The doors of programs and pages that act for staff on one order: status, refund, return, message, approval."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import services as notifications
from orders import rules
from orders.api.base import MAX_NUMBER_LENGTH, NO_ORDER, NOT_LOGGED_IN, DeskView, errors
from orders.api.cancelling import MAX_ID, MAX_UNITS
from orders.api.deciding import (
    CHANGED,
    FORBIDDEN,
    OBJECT,
    CancelOrderSerializer,
    DestinationSerializer,
    cancel_as_asked,
    shown_cancellation,
    shown_refund_request,
)
from orders.models import (
    Cancellation,
    CommunicationEvent,
    Disposition,
    InvalidOrderStatus,
    Order,
    OrderNotFound,
    RefundKind,
    RefundRequest,
    Status,
    own_statuses,
)
from orders.processing import EventHandler, get_event_handler
from shop import maintenance
from shop.api import answer_error, answer_keyed, staff_actor_of
from shop.errors import Refused
from shop.money import ZERO

CANCELLED = frozenset({Cancellation.Status.PENDING, Cancellation.Status.DONE})
TOLD_OF_CANCELLATION = ("order_cancelled", "order_partly_cancelled", "orders_cancelled", "cancellation_confirmed")
RESEND = "notifications.resend_message"

# Status → what may be said beside it. `cancelled` takes all that a cancellation takes.
ALONG: dict[str, frozenset[str]] = {
    Status.APPROVED: frozenset({"note", "version"}),
    Status.PREPARING: frozenset({"note", "version"}),
    Status.READY_FOR_PICKUP: frozenset({"note", "version"}),
    Status.SHIPPED: frozenset({"note", "version", "lines", "carrier", "tracking_number", "tracking_url"}),
    Status.DELIVERED: frozenset({"note", "version", "lines"}),
}
PLAIN = frozenset({"note", "version"})  # of a status that a shop's own workflow added
# The desk's action (orders/rules/actions.py) → the status that it leads to.
LEADS_TO = {
    "approve": Status.APPROVED,
    "start-preparing": Status.PREPARING,
    "ready-for-pickup": Status.READY_FOR_PICKUP,
    "ship": Status.SHIPPED,
    "deliver": Status.DELIVERED,
    "cancel": Status.CANCELLED,
}
MOVES = frozenset({Status.CANCELLED, Status.SHIPPED})
"""Statuses that move stock or money: a key is required."""


def key_header(*, required: bool, words: str = "") -> OpenApiParameter:
    told = words or "The same key again gets the first answer, and nothing happens twice."
    return OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, required=required, description=told)


REUSED = errors("This Idempotency-Key was used for another request", error_code="idempotency_key_reused")
LATER = errors("The desk is under maintenance; Retry-After says when to try again", error_code="maintenance")
TOO_MANY = errors("Too many requests of this token; Retry-After says when to try again", error_code="throttled")
REFUSALS: dict[int, Any] = {
    400: errors("The input or the Idempotency-Key is missing or wrong", error_code="invalid"),
    401: NOT_LOGGED_IN,
    403: FORBIDDEN,
    404: NO_ORDER,
    409: CHANGED,
    422: REUSED,
    429: TOO_MANY,
    503: LATER,
}


# ---------------------------------------------------------------------------------------------------------------
# What is asked


class ChangeStatusSerializer(CancelOrderSerializer):
    """The status that an order is to have, and what goes with the way there."""

    status = serializers.CharField(max_length=50)
    carrier = serializers.CharField(required=False, allow_blank=True, max_length=100)
    tracking_number = serializers.CharField(required=False, allow_blank=True, max_length=128)
    tracking_url = serializers.URLField(required=False, allow_blank=True, max_length=500)

    def validate_status(self, status: str) -> str:
        return known_status(status)

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        status = data["status"]
        shipping = {"carrier", "tracking_number", "tracking_url"}
        known = set(self.fields) - {"status"}
        otherwise = PLAIN if status in own_statuses() else frozenset(known - shipping)
        wrong = self.initial_data.keys() & known - ALONG.get(status, otherwise)
        if wrong:
            words = _("This does not go with the status “%(status)s”.") % {"status": status}
            raise serializers.ValidationError(dict.fromkeys(sorted(wrong), words))
        return data


def known_status(status: str) -> str:
    """Refuse what is no status at all; which of them is possible is the handler's to say."""
    if status not in Order.all_statuses():
        words = _("“%(status)s” is not a status. There are: %(all)s.")
        raise serializers.ValidationError(words % {"status": status, "all": ", ".join(Order.all_statuses())})
    return status


class RefundSerializer(serializers.Serializer[Any]):
    """Money that goes back without goods: goodwill, shipping costs, a fee or an overcharge."""

    amount = serializers.DecimalField(max_digits=14, decimal_places=3, help_text="In the order's currency.")
    note = serializers.CharField(max_length=500, help_text="Why; where somebody else has to agree, they read it.")
    kind = serializers.ChoiceField(choices=RefundKind.choices, default=RefundKind.GOODWILL.value)
    destination = DestinationSerializer(required=False)
    version = serializers.IntegerField(required=False, min_value=0)


class ReturnedUnitsSerializer(serializers.Serializer[Any]):
    """Units of one line that came back, and their condition."""

    line = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    quantity = serializers.IntegerField(min_value=1, max_value=MAX_UNITS)
    disposition = serializers.ChoiceField(choices=Disposition.choices)


class ReturnSerializer(serializers.Serializer[Any]):
    """What came back of an order."""

    order = serializers.CharField(max_length=MAX_NUMBER_LENGTH)
    lines = ReturnedUnitsSerializer(many=True, allow_empty=False)
    reason = serializers.SlugField(required=False, help_text="A reason's code.")
    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    refund = serializers.BooleanField(required=False, default=True)
    deduction = serializers.DecimalField(
        max_digits=14,
        decimal_places=3,
        min_value=ZERO,
        required=False,
        help_text="What is kept of their value. Without it: of a withdrawal, what a dearer delivery cost more.",
    )
    notify = serializers.BooleanField(required=False, default=True)
    destination = DestinationSerializer(required=False)
    version = serializers.IntegerField(required=False, min_value=0)

    def validate_lines(self, lines: list[dict[str, Any]]) -> dict[int, tuple[int, str]]:
        units: dict[int, tuple[int, str]] = {}
        for entry in lines:
            if entry["line"] in units:
                raise serializers.ValidationError(_("Line %(id)d is named twice.") % {"id": entry["line"]})
            units[entry["line"]] = (entry["quantity"], entry["disposition"])
        return units


class CustomerMessageSerializer(serializers.Serializer[Any]):
    """Which message a customer is to get again."""

    order = serializers.CharField(max_length=MAX_NUMBER_LENGTH)
    event = serializers.CharField(max_length=40, help_text="`cancellation`, or a message's event (`order_shipped`).")

    def validate_event(self, event: str) -> str:
        known = ["cancellation", *(e.code for e in notifications.events() if e.audience == "customer")]
        if event not in known:
            words = _("“%(event)s” is nothing that customers are told. There are: %(all)s.")
            raise serializers.ValidationError(words % {"event": event, "all": ", ".join(known)})
        return event


class ApprovalRequestSerializer(CancelOrderSerializer):
    """A cancellation that somebody else is to agree to, and why they should."""

    justification = serializers.CharField(max_length=2000)


# ---------------------------------------------------------------------------------------------------------------
# What they share


def handler_of(request: Request) -> EventHandler:
    return get_event_handler(staff_actor_of(request), as_of=timezone.now())


def order_seen_by(handler: EventHandler, number: str) -> Order:
    """The order of this number, if the actor may know of it. Raises OrderNotFound."""
    # A null character is no number, and PostgreSQL would not take it.
    if "\x00" in number or len(number) > MAX_NUMBER_LENGTH:
        raise OrderNotFound
    return handler.order_of(number)


def read(shape: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """What was asked, checked. Whether somebody may ask comes first: a stranger learns nothing of the input."""
    staff_actor_of(request)
    asked = shape(data=request.data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


# ---------------------------------------------------------------------------------------------------------------
# Doors


class StatusView(DeskView):
    """PUT /api/v1/orders/{number}/status."""

    @extend_schema(
        operation_id="changeOrderStatus",
        summary="Bring an order to a status, with everything that belongs to it",
        description=(
            "`cancelled` takes what …/cancel/ takes: lines, a plan, a contact, a justification. `shipped` takes lines "
            "and tracking, `delivered` lines. A status that cannot be reached is refused with 409, and "
            "`possible_statuses` lists those that can be, by you, now."
        ),
        tags=["Staff"],
        parameters=[key_header(required=False, words="Required for `cancelled` and `shipped`: stock and money move.")],
        request=ChangeStatusSerializer,
        examples=[
            OpenApiExample("Cancel", value={"status": "cancelled", "reason": "out_of_stock"}, request_only=True),
            OpenApiExample(
                "Ship", value={"status": "shipped", "carrier": "DHL", "tracking_number": "1Z"}, request_only=True
            ),
        ],
        responses={
            200: OpenApiResponse(
                OBJECT,
                description="Done",
                examples=[
                    OpenApiExample("Shipped", value={"number": "100000042", "status": "shipped", "version": 7}),
                ],
            ),
            202: OpenApiResponse(OBJECT, description="The cancellation waits, for approval or for maintenance to end"),
            **REFUSALS,
        },
    )
    def put(self, request: Request, number: str) -> Response:
        asked = read(ChangeStatusSerializer, request)
        handler = handler_of(request)
        order, status = order_seen_by(handler, number), asked["status"]
        try:
            return answer_keyed(
                request, required=status in MOVES, answer=lambda: self._answer(request, handler, order, asked)
            )
        except (InvalidOrderStatus, rules.WrongStatus) as no:
            return with_possible_statuses(no, handler, order)

    def _answer(self, request: Request, handler: EventHandler, order: Order, asked: dict[str, Any]) -> Response:
        status = asked.pop("status")
        if status == Status.CANCELLED:
            row = cancel_as_asked(request, order.number or "", asked)
            waits = row.status in Cancellation.WAITING
            return Response(shown_order(order, cancellation=shown_cancellation(row)), status=202 if waits else 200)
        bring(handler, order, status, {name: asked[name] for name in ALONG.get(status, PLAIN) if name in asked})
        return Response(shown_order(order))


def bring(handler: EventHandler, order: Order, status: str, along: dict[str, Any]) -> None:
    """Call the verb that leads to a status. Raises InvalidOrderStatus where none does, and the verb's refusals."""
    verbs: dict[str, Callable[..., object]] = {
        Status.APPROVED: handler.approve,
        Status.PREPARING: handler.start_preparing,
        Status.READY_FOR_PICKUP: handler.ready_for_pickup,
        Status.SHIPPED: handler.ship,
        Status.DELIVERED: handler.deliver,
    }
    step = rules.own_step(target=status, status=order.status)
    if step is not None:  # of the shop's own workflow, also where it leads back to a status of the desk's
        along = {name: along[name] for name in ("note", "version") if name in along}
        handler.take_step(number=order.number or "", step=step.name, **along)
        return
    if status not in verbs:
        raise InvalidOrderStatus(params={"new": status, "number": order.number, "current": order.status})
    verbs[status](number=order.number or "", **along)


def shown_order(order: Order, **more: Any) -> dict[str, Any]:
    now = Order.objects.only("status", "version").get(pk=order.pk)
    return {"number": order.number, "status": now.status, "version": now.version, **more}


def with_possible_statuses(no: Refused, handler: EventHandler, order: Order) -> Response:
    """A refusal as it is told everywhere, and where this actor can bring the order instead."""
    answered = answer_error(no, {})
    assert answered is not None
    _order, actions = handler.actions(number=order.number or "")
    leads_to = {**LEADS_TO, **{step.action: step.target for step in rules.own_steps()}}
    answered.data["possible_statuses"] = [leads_to[a.name] for a in actions if a.is_allowed and a.name in leads_to]
    return answered


class RefundView(DeskView):
    """POST /api/v1/orders/{number}/refund."""

    @extend_schema(
        operation_id="refundOrder",
        summary="Send money back that is tied to no unit",
        description="It is decided at once and sent by a worker: `state` is the refund's. 202: somebody else has to "
        "agree first, and nothing has moved. What is cancelled or comes back is refunded with that, not here.",
        tags=["Staff"],
        parameters=[key_header(required=True)],
        request=RefundSerializer,
        examples=[OpenApiExample("Goodwill", value={"amount": "5.00", "note": "Late by a week"}, request_only=True)],
        responses={
            200: OpenApiResponse(
                OBJECT,
                description="Decided",
                examples=[
                    OpenApiExample(
                        "On its way",
                        value={"order": "100000042", "amount": "5.000", "currency": "EUR", "state": "waiting"},
                    )
                ],
            ),
            202: OpenApiResponse(OBJECT, description="It waits for somebody else's approval"),
            **REFUSALS,
        },
    )
    def post(self, request: Request, number: str) -> Response:
        asked = read(RefundSerializer, request)
        handler = handler_of(request)
        order = order_seen_by(handler, number)

        def answer() -> Response:
            done = handler.submit_refund(number=order.number or "", **asked)
            if isinstance(done, RefundRequest):
                return Response(shown_refund_request(done), status=202)
            return Response({"order": order.number, **shown_refund(done)})

        return answer_keyed(request, required=True, answer=answer)


def shown_refund(event: Any) -> dict[str, Any]:
    """What goes back, and how far it is. Nothing does where all of it is kept."""
    refund = event.refund
    return {
        "amount": f"{event.amount:.3f}",
        "currency": event.currency,
        "state": refund.status if refund else None,
        "refund": refund.pk if refund else None,
        "kind": event.refund_kind or None,
        "destination": event.destination or None,
    }


class InventoryReturnView(DeskView):
    """PUT /api/v1/inventory/return."""

    @extend_schema(
        operation_id="returnToInventory",
        summary="Take back units that had shipped, by their condition, and refund them",
        description="Cancelled units need no call: they go back into stock with the cancellation.",
        tags=["Staff"],
        parameters=[key_header(required=True)],
        request=ReturnSerializer,
        examples=[
            OpenApiExample(
                "One unit, as new",
                value={"order": "100000042", "lines": [{"line": 7, "quantity": 1, "disposition": "sellable"}]},
                request_only=True,
            )
        ],
        responses={200: OpenApiResponse(OBJECT, description="Taken back"), **REFUSALS},
    )
    def put(self, request: Request) -> Response:
        asked = read(ReturnSerializer, request)
        handler = handler_of(request)
        order = order_seen_by(handler, asked.pop("order"))

        def answer() -> Response:
            event = handler.take_back(number=order.number or "", **asked)
            units = sum(units for units, _disposition in asked["lines"].values())
            money = event.payment_events.select_related("refund").first()
            shown = shown_refund(money) if money is not None and money.amount else None
            return Response(shown_order(order, event=event.pk, units=units, refund=shown))

        return answer_keyed(request, required=True, answer=answer)


class NothingWasTold(rules.NothingToDo):
    code = "no_message"
    message = _("The customer was told nothing of this, so there is no message to send again.")


class CustomerMessageView(DeskView):
    """POST /api/v1/notifications/customer."""

    @extend_schema(
        operation_id="notifyCustomer",
        summary="Send a customer's message again",
        description=(
            "The message of the order's latest cancellation, or the latest one of an event. The first one is sent by "
            "the decision itself; this is for when it did not reach them."
        ),
        tags=["Staff"],
        parameters=[key_header(required=False)],
        request=CustomerMessageSerializer,
        examples=[
            OpenApiExample("Again", value={"order": "100000042", "event": "cancellation"}, request_only=True),
        ],
        responses={
            202: OpenApiResponse(OBJECT, description="A worker sends it"),
            **REFUSALS,
        },
    )
    def post(self, request: Request) -> Response:
        asked = read(CustomerMessageSerializer, request)
        handler = handler_of(request)
        order = order_seen_by(handler, asked["order"])
        handler.actor.require(RESEND, store_id=order.store_id)

        def answer() -> Response:
            message_id = latest_message(order, asked["event"])
            message = notifications.send_again(message_id=message_id, actor=handler.actor, once=uuid.uuid4())
            told = {"order": order.number, "message": str(message.uuid), "event": message.event}
            return Response({**told, "recipient": message.recipient, "state": message.status}, status=202)

        return answer_keyed(request, required=False, answer=answer)


def latest_message(order: Order, event: str) -> int:
    """The newest message that an order's customer got of an event. Raises NothingToDo."""
    told = CommunicationEvent.objects.filter(order=order, message__isnull=False)
    if event == "cancellation":
        row = Cancellation.objects.filter(order=order, status__in=CANCELLED).select_related("event").first()
        if row is None or row.event is None:
            raise rules.NothingToDo(_("Nothing of this order is cancelled."))
        told = told.filter(event_type__in=TOLD_OF_CANCELLATION, created_at__gte=row.event.created_at)
    else:
        told = told.filter(event_type=event)
    found = told.order_by("-pk").values_list("message", flat=True).first()
    if found is None:
        raise NothingWasTold
    return int(found)


class ApprovalRequestView(DeskView):
    """POST /api/v1/orders/{number}/approval_request."""

    @extend_schema(
        operation_id="requestApproval",
        summary="Ask for a cancellation that somebody else has to agree to",
        description="409 `nothing_to_do` where nobody has to: cancel it. Nothing has happened then.",
        tags=["Staff"],
        parameters=[key_header(required=False)],
        request=ApprovalRequestSerializer,
        examples=[
            OpenApiExample(
                "Of what is being prepared",
                value={"reason": "quality_issues", "restock": False, "justification": "The box fell"},
                request_only=True,
            )
        ],
        responses={202: OpenApiResponse(OBJECT, description="It waits for an answer"), **REFUSALS},
    )
    def post(self, request: Request, number: str) -> Response:
        asked = read(ApprovalRequestSerializer, request)
        order = order_seen_by(handler_of(request), number)

        def answer() -> Response:
            with transaction.atomic():
                row = cancel_as_asked(request, order.number or "", asked)
                # Raised inside: what it did instead of asking is undone.
                if row.status == Cancellation.Status.QUEUED and (period := maintenance.current()) is not None:
                    raise maintenance.UnderMaintenance(period)
                if row.status != Cancellation.Status.WAITING_APPROVAL:
                    raise rules.NothingToDo(
                        _("Nobody has to agree to this."), remedy=_("Cancel it: you may do so yourself.")
                    )
            return Response(shown_order(order, cancellation=shown_cancellation(row)), status=202)

        return answer_keyed(request, required=False, answer=answer)
