"""The doors of programs that act for staff, and of customers who want to know first: actions, plans, cancellations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import services as notifications
from orders import rules
from orders.api.base import NO_CSRF, NO_ORDER, NOT_LOGGED_IN, DeskView, errors
from orders.api.cancelling import MAX_ID, MAX_UNITS, purpose_of
from orders.models import Approval, Cancellation, Facts, Order, RefundRequest, as_json
from orders.processing import EventHandler, get_event_handler
from orders.processing.approving import approval_of
from orders.processing.cancelling import Choices, Contact
from orders.processing.letters import order_context
from payments.gateways import gateway_label
from payments.services import Destination
from shop.actors import Actor
from shop.api import CursorPages, actor_of, asker_of, desk_actor_of, key_of, keyed, staff_actor_of
from shop.models import ApiToken
from shop.money import rounded

KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, required=True)
CHANGED = errors("The order or the plan has changed since, or it is not possible; the remedy says what to do")
FORBIDDEN = errors("Not allowed for this person")
# What a decision about an order may be refused with.
REFUSALS: dict[int, Any] = {
    400: errors("The input is wrong"),
    401: NOT_LOGGED_IN,
    403: FORBIDDEN,
    404: NO_ORDER,
    409: CHANGED,
}


# ---------------------------------------------------------------------------------------------------------------
# What is asked


class UnitsSerializer(serializers.Serializer[Any]):
    """Units of one line."""

    line = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    quantity = serializers.IntegerField(min_value=1, max_value=MAX_UNITS)


class ContactSerializer(serializers.Serializer[Any]):
    """Who asked for it, where the reason wants to know."""

    name = serializers.CharField(max_length=200)
    channel = serializers.ChoiceField(choices=Cancellation.Channel.choices)
    details = serializers.CharField(max_length=200, required=False, allow_blank=True)
    at = serializers.DateTimeField(required=False)


class DestinationSerializer(serializers.Serializer[Any]):
    """Where a refund goes instead of the way it was paid. Credit needs the consent, a transfer the bank account."""

    gateway = serializers.CharField(max_length=30, help_text="`loyalty`, `store_credit` or `manual`, as there are.")
    consent = serializers.CharField(
        required=False, allow_blank=True, max_length=1000, help_text="Who agreed to credit, how and when."
    )
    iban = serializers.CharField(required=False, allow_blank=True, max_length=50)
    holder = serializers.CharField(required=False, allow_blank=True, max_length=100)

    def validate(self, data: dict[str, str]) -> Destination:
        return Destination(**data)


class ChoicesSerializer(serializers.Serializer[Any]):
    """What is to be cancelled, and how. Without lines: everything that has not shipped."""

    lines = UnitsSerializer(many=True, required=False, allow_null=True, allow_empty=False)
    reason = serializers.SlugField(required=False, help_text="A reason's code.")
    restock = serializers.BooleanField(required=False, default=True)
    refund = serializers.BooleanField(required=False, default=True)
    notify = serializers.BooleanField(required=False, default=True)
    ends_series = serializers.BooleanField(required=False, default=False)
    destination = DestinationSerializer(required=False)

    def validate_lines(self, lines: list[dict[str, int]] | None) -> dict[int, int] | None:
        if lines is None:
            return None
        if None in lines:
            raise serializers.ValidationError(_("Say which lines."))
        units: dict[int, int] = {}
        for entry in lines:
            if entry["line"] in units:
                raise serializers.ValidationError(_("Line %(id)d is named twice.") % {"id": entry["line"]})
            units[entry["line"]] = entry["quantity"]
        return units


class CancelOrderSerializer(ChoicesSerializer):
    """A cancellation by staff: of a plan that was shown, or as chosen here."""

    plan = serializers.CharField(required=False, help_text="The plan's token; then the choices are the plan's.")
    version = serializers.IntegerField(required=False, min_value=0)
    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    contact = ContactSerializer(required=False)
    justification = serializers.CharField(
        required=False, allow_blank=True, max_length=2000, help_text="For approvers, where somebody has to agree."
    )


class AnswerSerializer(serializers.Serializer[Any]):
    """An answer to somebody's request for approval."""

    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    version = serializers.IntegerField(required=False, min_value=0)


class ReinstateSerializer(AnswerSerializer):
    """What is taken back into the order. Without lines: everything that was cancelled."""

    lines = UnitsSerializer(many=True, required=False, allow_null=True, allow_empty=False)
    validate_lines = ChoicesSerializer.validate_lines


# ---------------------------------------------------------------------------------------------------------------
# What is answered


def shown_action(possible: rules.Possible) -> dict[str, Any]:
    return {
        "action": possible.name,
        "label": str(possible.label),
        "allowed": possible.is_allowed,
        "refusal": possible.refusal.as_dict() if possible.refusal else None,
        "until": possible.until.isoformat() if possible.until else None,
        "lines": [{"line": pk, "max_quantity": units} for pk, units in possible.units.items()],
        "needs_approval": possible.approval,
        "at_once": possible.direct,
    }


def shown_plan(plan: rules.Plan, facts: Facts, handler: EventHandler, choices: Choices) -> dict[str, Any]:
    """A plan as the API gives it: every effect, the messages as they will read, who has to agree."""
    made = as_json(plan.effects)
    for part in made["refunds"]:
        part["destination"] = gateway_label(part["gateway"])
    order = facts.order
    approval = plan.approval
    if handler.actor.is_customer:
        # Where the shop keeps its goods and how it works is not theirs to know.
        made["jobs"] = []
        for line in made["lines"]:
            line["location"] = ""
    return {
        **made,
        "version": plan.version,
        "messages": [
            _reading(letter.event, order_context(order, facts, units=plan.units, **letter.extra), order)
            for letter in handler.letters_of(facts, plan, choices)
        ],
        "approval": {"level": approval.level, "by": approval.name, "because": list(approval.because)}
        if approval
        else None,
        "undo_minutes": plan.undo_minutes,
    }


def _reading(event: str, context: Mapping[str, Any], order: Order) -> dict[str, str]:
    override = notifications.override_of(event=event, language=order.language)
    made = notifications.render(event=event, language=order.language, context=context, override=override)
    return {"event": event, "to": order.email, "subject": made.subject, "text": made.text}


def shown_cancellation(row: Cancellation) -> dict[str, Any]:
    return {
        "id": str(row.uuid),
        "order": row.order.number,
        "status": row.status,
        "undo_until": row.undo_until.isoformat() if row.undo_until else None,
        "units": row.units,
        "value": str(rounded(row.value, row.currency)),
        "currency": row.currency,
    }


def answer_cancellation(row: Cancellation) -> Response:
    """200 where it has happened, 202 where it waits for approval or for the end of maintenance."""
    status = 202 if row.status in Cancellation.WAITING else 200
    return Response(shown_cancellation(row), status=status)


OBJECT: dict[str, Any] = {"type": "object", "additionalProperties": True}


# ---------------------------------------------------------------------------------------------------------------
# Doors


def asker_about(request: Request) -> Actor:
    """Who asks about one order: staff who may see orders; staff who may not are customers here, with their own."""
    actor = desk_actor_of(request)
    sees = not actor.is_staff or isinstance(request.auth, ApiToken) or actor.may("orders.view_order")
    return actor if sees else actor_of(request)


class ActionsView(DeskView):
    """GET /orders/{number}/actions/."""

    @extend_schema(
        operation_id="listOrderActions",
        summary="What can be done with an order, and why not",
        description="Every action, allowed or not: why not, what would make it possible, until when, how many units.",
        tags=["Order Management"],
        responses={
            200: OpenApiResponse({"type": "object", "additionalProperties": True}),
            401: NOT_LOGGED_IN,
            404: NO_ORDER,
        },
    )
    def get(self, request: Request, number: str) -> Response:
        handler = get_event_handler(asker_about(request), as_of=timezone.now())
        order, actions = handler.actions(number=number)
        return Response(
            {
                "number": order.number,
                "status": order.status,
                "version": order.version,
                "actions": [shown_action(possible) for possible in actions],
            }
        )


class CancelPlanView(DeskView):
    """POST /orders/{number}/cancel/plan/."""

    @extend_schema(
        operation_id="planCancellation",
        summary="What a cancellation would do, before it happens",
        description=(
            "Units, stock by location, money by payment and destination, messages as they will read, documents, jobs, "
            "and whose approval it needs. `token` is the plan, signed: a cancellation that names it does exactly "
            "this, or is refused with 409 and what has changed. Nothing is written."
        ),
        tags=["Order Management"],
        request=ChoicesSerializer,
        examples=[OpenApiExample("One unit", value={"lines": [{"line": 7, "quantity": 1}]}, request_only=True)],
        responses={200: OpenApiResponse(OBJECT), **REFUSALS, 403: NO_CSRF},
    )
    def post(self, request: Request, number: str) -> Response:
        asked = ChoicesSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        data = dict(asked.validated_data)
        actor = asker_about(request)
        handler = get_event_handler(actor, as_of=timezone.now())
        reason = handler.reason_of(data.pop("reason", None), note="(planned)")
        order, plan, choices = handler.show_plan(number=number, choices=Choices(reason=reason, **data))
        choice = {**data, "reason": reason.code if reason else None}
        # The token goes through other hands: it says where the money goes, and has no bank account.
        choice["destination"] = choices.destination.gateway
        if choice.get("lines"):
            choice["lines"] = {str(pk): units for pk, units in choice["lines"].items()}
        token = rules.sign_plan(rules.Shown(choice, plan), purpose=purpose_of(order, actor))
        return Response({"plan": shown_plan(plan, order.facts, handler, choices), "token": token})


class CancelOrderView(DeskView):
    """POST /api/v1/orders/{number}/cancel/."""

    @extend_schema(
        operation_id="cancelOrderByStaff",
        summary="Cancel an order, or units of it, as staff",
        description=(
            "With the `plan` of …/cancel/plan/, exactly that happens or nothing does. 202: it waits for approval "
            "(where a `justification` was given) or for the end of maintenance."
        ),
        tags=["Staff"],
        parameters=[KEY],
        request=CancelOrderSerializer,
        examples=[
            OpenApiExample("As chosen here", value={"reason": "out_of_stock", "lines": [{"line": 7, "quantity": 1}]})
        ],
        responses={
            200: OpenApiResponse(OBJECT, description="Cancelled"),
            202: OpenApiResponse(OBJECT, description="It waits"),
            **REFUSALS,
        },
    )
    def post(self, request: Request, number: str) -> Response:
        key_of(request, required=True)  # it becomes the cause: a repetition is told how far it has come by now
        asked = CancelOrderSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return answer_cancellation(cancel_as_asked(request, number, asked.validated_data))


def cancel_as_asked(request: Request, number: str, asked: Mapping[str, Any]) -> Cancellation:
    """Submit what CancelOrderSerializer has read, in the plan's words where it names one."""
    data, actor = dict(asked), staff_actor_of(request)
    handler = get_event_handler(actor, as_of=timezone.now())
    order = handler.order_of(number)
    if token := data.pop("plan", ""):
        shown = rules.read_plan(token, purpose=purpose_of(order, actor))
        lines = shown.choice.get("lines")
        data |= shown.choice | {"lines": {int(pk): n for pk, n in lines.items()} if lines else None}
        data["reason"] = asked.get("reason") or shown.choice["reason"]
        data["destination"] = asked.get("destination") or shown.choice.get("destination", "")
        data |= {"plan": shown.plan, "version": shown.plan.version}
    if contact := data.pop("contact", None):
        data["contact"] = Contact(**contact)
    return handler.submit_cancellation(number=order.number or "", cause=cause_of(request, order), **data)


def cause_of(request: Request, order: Order) -> str | None:
    """The caller's Idempotency-Key as the cause of what it asks for: the same one again is the same answer."""
    given = request.headers.get("Idempotency-Key", "")
    digest = hashlib.sha256(f"{asker_of(request)}:{given}".encode()).hexdigest()
    return f"api:{order.pk}:{digest}" if given else None


class UndoView(DeskView):
    """POST /api/v1/orders/{number}/undo/."""

    @extend_schema(
        operation_id="undoCancellation",
        summary="Undo a cancellation, while that is possible",
        tags=["Staff"],
        parameters=[KEY],
        request=AnswerSerializer,
        examples=[OpenApiExample("With a note", value={"note": "Agreed with the customer."}, request_only=True)],
        responses={204: None, **REFUSALS},
    )
    @keyed(required=True)
    def post(self, request: Request, number: str) -> Response:
        asked = AnswerSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        get_event_handler(staff_actor_of(request)).undo_cancellation(number=number, **asked.validated_data)
        return Response(status=204)


class ReinstateView(DeskView):
    """POST /api/v1/orders/{number}/reinstate/."""

    @extend_schema(
        operation_id="reinstateOrder",
        summary="Take cancelled units back into an order",
        tags=["Staff"],
        parameters=[KEY],
        request=ReinstateSerializer,
        examples=[OpenApiExample("One unit", value={"lines": [{"line": 7, "quantity": 1}]}, request_only=True)],
        responses={204: None, **REFUSALS},
    )
    @keyed(required=True)
    def post(self, request: Request, number: str) -> Response:
        asked = ReinstateSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        get_event_handler(staff_actor_of(request)).reinstate(number=number, **asked.validated_data)
        return Response(status=204)


LINK = {"type": ["string", "null"], "format": "uri"}
APPROVALS = {
    "type": "object",
    "properties": {"next": LINK, "previous": LINK, "results": {"type": "array", "items": OBJECT}},
    "required": ["next", "previous", "results"],
}


class OldestFirst(CursorPages):
    ordering = ("pk",)


class ApprovalsView(DeskView):
    """GET /api/v1/approvals/."""

    pagination_class = OldestFirst

    @extend_schema(
        operation_id="listApprovals",
        summary="Approvals that wait for somebody, the oldest first",
        tags=["Staff"],
        parameters=[
            OpenApiParameter("limit", int, description="How many to a page; 50, at most 200"),
            OpenApiParameter("cursor", str, description="As `next` and `previous` have it"),
        ],
        responses={
            200: OpenApiResponse(APPROVALS),
            401: NOT_LOGGED_IN,
            403: FORBIDDEN,
            404: errors("This cursor names no page", non_field_errors="Invalid cursor", error_code="not_found"),
        },
    )
    def get(self, request: Request) -> Response:
        actor = staff_actor_of(request)
        actor.require("orders.view_approval")
        rows = Approval.objects.filter(status=Approval.Status.OPEN).select_related(
            "cancellation__order", "refund_request__order", "requested_by"
        )
        if actor.stores is not None:
            rows = rows.filter(store__in=actor.stores)
        pages = OldestFirst()
        page = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response([_shown_approval(row) for row in page or []])


def shown_refund_request(row: RefundRequest) -> dict[str, Any]:
    """A refund that somebody has to agree to: how much, what for and where to; no bank account."""
    return {
        "id": str(row.uuid),
        "order": row.order.number,
        "status": row.status,
        "amount": str(rounded(row.amount, row.currency)),
        "currency": row.currency,
        "kind": row.kind,
        "destination": row.destination,
        "note": row.note,
    }


def _shown_approval(row: Approval) -> dict[str, Any]:
    return {
        "id": str(row.uuid),
        "order": row.wish.order.number if row.wish else None,
        "refund": shown_refund_request(row.refund_request) if row.refund_request else None,
        "bulk_run": row.bulk_run_id,
        "level": row.level,
        "because": row.policies,
        "requested_by": row.requested_by.get_full_name() or row.requested_by.get_username(),
        "justification": row.justification,
        "created_at": row.created_at.isoformat(),
        "escalates_at": row.escalate_at.isoformat() if row.escalate_at else None,
    }


def _decide(request: Request, uuid: Any, *, approve: bool) -> Response:
    asked = AnswerSerializer(data=request.data)
    asked.is_valid(raise_exception=True)
    actor, data = staff_actor_of(request), {"note": "", **asked.validated_data}
    handler = get_event_handler(actor, as_of=timezone.now())
    asked_for = approval_of(str(uuid), actor)
    if asked_for.refund_request_id is not None:
        decide_refund = handler.approve_refund if approve else handler.reject_refund
        return Response(shown_refund_request(decide_refund(approval=str(uuid), **data)))
    if asked_for.bulk_run_id is not None:
        data.pop("version", None)  # of one order
        decide_run = handler.approve_bulk if approve else handler.reject_bulk
        run = decide_run(approval=str(uuid), **data)
        return Response({"bulk_run": run.pk, "status": run.status, "orders": run.totals.get("orders")})
    verb = handler.approve_cancellation if approve else handler.reject_cancellation
    return Response(shown_cancellation(verb(approval=str(uuid), **data)))


DECIDED: dict[int, Any] = {
    200: OpenApiResponse(OBJECT),
    **REFUSALS,
    400: errors("The note is missing"),
    404: errors("No such approval"),
}


class ApproveView(DeskView):
    """POST /api/v1/approvals/{uuid}/approve/."""

    @extend_schema(
        operation_id="approveCancellation",
        summary="Agree to a cancellation that somebody else asked for: it happens as it was shown",
        tags=["Staff"],
        parameters=[KEY],
        request=AnswerSerializer,
        examples=[OpenApiExample("With a note", value={"note": "Agreed with the customer."}, request_only=True)],
        responses=DECIDED,
    )
    @keyed(required=True)
    def post(self, request: Request, uuid: Any) -> Response:
        return _decide(request, uuid, approve=True)


class RejectView(DeskView):
    """POST /api/v1/approvals/{uuid}/reject/."""

    @extend_schema(
        operation_id="rejectCancellation",
        summary="Refuse a cancellation that somebody else asked for, and say why",
        tags=["Staff"],
        request=AnswerSerializer,
        examples=[OpenApiExample("With a note", value={"note": "Agreed with the customer."}, request_only=True)],
        responses=DECIDED,
    )
    @keyed()
    def post(self, request: Request, uuid: Any) -> Response:
        return _decide(request, uuid, approve=False)
