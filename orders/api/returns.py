"""The doors of a warehouse's programs: a return by the code on its parcel, received, inspected."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.base import DeskView, errors
from orders.api.cancelling import MAX_ID, MAX_UNITS
from orders.api.deciding import OBJECT
from orders.api.staff import REFUSALS, handler_of, key_header, read, shown_refund
from orders.models import Condition, PaymentEvent, Return
from orders.processing.fulfilment import accounted_for
from shop.api import answer_keyed
from shop.money import ZERO

VIEW = "orders.view_return"
NO_RETURN = errors(
    "No such return, or not in your stores",
    non_field_errors="There is no such return.",
    error_code="return_not_found",
)


class ReceiveSerializer(serializers.Serializer[Any]):
    """A parcel that has arrived."""

    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    version = serializers.IntegerField(required=False, min_value=0, help_text="The order's, as the answer had it.")


class FoundSerializer(serializers.Serializer[Any]):
    """So many units of one request, in this condition."""

    request = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    condition = serializers.ChoiceField(choices=Condition.choices)
    quantity = serializers.IntegerField(min_value=1, max_value=MAX_UNITS)


class InspectSerializer(ReceiveSerializer):
    """What was found in a parcel. What is not named is awaited still."""

    found = FoundSerializer(many=True, allow_empty=False)
    deduction = serializers.DecimalField(
        max_digits=14,
        decimal_places=3,
        min_value=ZERO,
        required=False,
        help_text="What is kept of the goods' value. Without it: the fee of the shop's policy.",
    )

    def validate_found(self, rows: list[dict[str, Any]]) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = {}
        for row in rows:
            of_request = found.setdefault(row["request"], {})
            if row["condition"] in of_request:
                raise serializers.ValidationError(
                    _("A condition of request %(id)d is named twice.") % {"id": row["request"]}
                )
            of_request[row["condition"]] = row["quantity"]
        return found


def shown_return(parcel: Return) -> dict[str, Any]:
    """A return with its requests: what is awaited, what was found."""
    rows = parcel.requests.select_related("line", "reason").prefetch_related("inspections").order_by("pk")
    requests = list(rows)
    known = accounted_for(requests)
    return {
        "code": parcel.code,
        "order": parcel.order.number,
        "version": parcel.order.version,
        "carrier": parcel.carrier.code if parcel.carrier else None,
        "pickup_date": parcel.pickup_date.isoformat() if parcel.pickup_date else None,
        "pickup_hours": parcel.pickup_hours,
        "received_at": parcel.received_at.isoformat() if parcel.received_at else None,
        "closed_at": parcel.closed_at.isoformat() if parcel.closed_at else None,
        "requests": [
            {
                "id": request.pk,
                "line": request.line_id,
                "sku": request.line.sku,
                "name": request.line.name,
                "quantity": request.quantity,
                "awaited": max(0, request.quantity - sum(known[request.pk]))
                if request.status in request.AWAITING_GOODS
                else 0,
                "status": request.status,
                "reason": request.reason.code,
                "description": request.description,
                "found": [{"condition": one.condition, "quantity": one.quantity} for one in request.inspections.all()],
            }
            for request in requests
        ],
    }


class ReturnView(DeskView):
    """GET /api/v1/returns/{code}/."""

    @extend_schema(
        operation_id="getReturn",
        summary="A return by the code on its parcel",
        tags=["Staff"],
        responses={200: OpenApiResponse(OBJECT), **REFUSALS, 404: NO_RETURN},
    )
    def get(self, request: Request, code: str) -> Response:
        handler = handler_of(request)
        handler.actor.require(VIEW)
        return Response(shown_return(handler.return_of(code)))


class ReceiveView(DeskView):
    """POST /api/v1/returns/{code}/receive."""

    @extend_schema(
        operation_id="receiveReturn",
        summary="A parcel has arrived, unopened; the customer is told",
        tags=["Staff"],
        parameters=[key_header(required=False)],
        request=ReceiveSerializer,
        examples=[OpenApiExample("With a note", value={"note": "The box is torn."}, request_only=True)],
        responses={200: OpenApiResponse(OBJECT), **REFUSALS, 404: NO_RETURN},
    )
    def post(self, request: Request, code: str) -> Response:
        asked, handler = read(ReceiveSerializer, request), handler_of(request)
        handler.return_of(code)

        def answer() -> Response:
            handler.receive_return(code=code, **asked)
            return Response(shown_return(handler.return_of(code)))

        return answer_keyed(request, required=False, answer=answer)


class InspectView(DeskView):
    """POST /api/v1/returns/{code}/inspect."""

    @extend_schema(
        operation_id="inspectReturn",
        summary="What was found in a parcel: units go where they belong, and what arrived is refunded",
        description="`missing` units are no longer awaited; what is not named is. A parcel pays the policy's fee once.",
        tags=["Staff"],
        parameters=[key_header(required=True)],
        request=InspectSerializer,
        examples=[
            OpenApiExample(
                "One is fine, one is missing",
                value={
                    "found": [
                        {"request": 12, "condition": "sellable", "quantity": 1},
                        {"request": 12, "condition": "missing", "quantity": 1},
                    ]
                },
                request_only=True,
            )
        ],
        responses={200: OpenApiResponse(OBJECT), **REFUSALS, 404: NO_RETURN},
    )
    def post(self, request: Request, code: str) -> Response:
        asked, handler = read(InspectSerializer, request), handler_of(request)
        before = handler.return_of(code)

        def answer() -> Response:
            handler.inspect_return(code=code, **asked)
            money = PaymentEvent.objects.select_related("refund").filter(
                order=before.order_id, created_at=handler.as_of, refund__isnull=False
            )
            event = money.order_by("-pk").first()
            shown = shown_refund(event) if event is not None else None
            return Response({**shown_return(handler.return_of(code)), "refund": shown})

        return answer_keyed(request, required=True, answer=answer)
