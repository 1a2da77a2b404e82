"""The door to cancel: a customer's wish, checked; one decision under one lock; 204, or the requests that were made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orders import rules
from orders.api.base import NO_CSRF, NO_ORDER, NOT_LOGGED_IN, CodedView, errors, own_order
from orders.api.serializers import RequestSerializer
from orders.models import CancellationReason, CancellationRequest, Order, OrderLine
from orders.processing import get_event_handler
from orders.processing.requesting import Wish
from orders.rules import read_plan
from shop.actors import Actor
from shop.api import actor_of, canonical, once
from shop.models import IdempotencyKey

REPEATED_WITHIN = timedelta(minutes=10)
MAX_ID = 2**63 - 1
MAX_UNITS = 2**31 - 1
MAX_DESCRIPTION = 2000


def purpose_of(order: Order, actor: Actor) -> str:
    """What a plan's token was made for: this door, this order, this person."""
    return f"api:cancel:{order.pk}:{actor.user_id}"


# ---------------------------------------------------------------------------------------------------------------
# What is asked


class HoursSerializer(serializers.Serializer[Any]):
    """The contract's hour_range."""

    start = serializers.CharField(max_length=20)
    end = serializers.CharField(max_length=20)


class PickupDateSerializer(serializers.Serializer[Any]):
    """When goods could be fetched."""

    date = serializers.DateField()
    hour_range = HoursSerializer()


class ImageSerializer(serializers.Serializer[Any]):
    """A picture, base64."""

    image = serializers.CharField()


class AskedLineSerializer(serializers.Serializer[Any]):
    """The contract's OrderItemCancellationInput. Unknown keys are ignored; ids may come as strings."""

    order_item = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    cancellation_type = serializers.ChoiceField(choices=CancellationRequest.Type.choices)
    reason = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    description = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=MAX_DESCRIPTION)
    shipping_company = serializers.IntegerField(required=False, allow_null=True)
    pickup_date = PickupDateSerializer(required=False, allow_null=True)
    quantity = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=MAX_UNITS)
    cancellation_request_image_set = ImageSerializer(many=True, required=False)

    # What there is nothing to do with is refused, not dropped.
    def validate_shipping_company(self, value: int | None) -> None:
        if value is not None:
            raise serializers.ValidationError(_("This shipping company does not fetch returns for this shop."))

    def validate_pickup_date(self, value: dict[str, Any] | None) -> None:
        if value is not None:
            raise serializers.ValidationError(_("This shop does not have returns fetched."))

    def validate_cancellation_request_image_set(self, value: list[Any]) -> list[Any]:
        if value:
            raise serializers.ValidationError(_("Pictures cannot be attached; describe what is wrong."))
        return value


class CancelSerializer(serializers.Serializer[Any]):
    """The contract's OrderCancellationRequest. context["order"]: the order with its lines."""

    cancel_order_items = AskedLineSerializer(many=True, allow_empty=False)
    pickup_address = serializers.IntegerField(required=False, allow_null=True)
    fully_refund_as_loyalty_money = serializers.BooleanField(required=False, default=False)
    # Not in the contract: the token of …/cancel/plan/, to have exactly that happen.
    plan = serializers.CharField(required=False)

    def validate_pickup_address(self, value: int | None) -> None:
        if value is not None:
            raise serializers.ValidationError(_("This shop does not have returns fetched."))

    def validate_fully_refund_as_loyalty_money(self, value: bool) -> bool:
        if value:
            raise serializers.ValidationError(_("This shop does not refund as points."))
        return value

    def validate_cancel_order_items(self, items: list[dict[str, Any]]) -> list[Wish]:
        """Lines of this order, each named once, not more units than ordered, reasons that customers may give."""
        lines = {line.pk: line for line in self.context["order"].lines.all()}
        wanted = {item["reason"] for item in items}
        reasons = {
            reason.pk: reason
            for reason in CancellationReason.objects.filter(pk__in=wanted, is_active=True, shown_to_customers=True)
        }
        wrong: dict[Any, Any] = {}
        seen: set[int] = set()
        for position, item in enumerate(items):
            told = _item_errors(item, lines=lines, reasons=reasons, seen=seen)
            if told:
                wrong[position] = told
            seen.add(item["order_item"])
        if wrong:
            raise serializers.ValidationError(wrong)
        return [
            Wish(
                item["order_item"],
                item.get("quantity"),
                item["cancellation_type"],
                reasons[item["reason"]],
                item.get("description") or "",
            )
            for item in items
        ]


def _item_errors(
    item: Mapping[str, Any],
    *,
    lines: Mapping[int, OrderLine],
    reasons: Mapping[int, CancellationReason],
    seen: set[int],
) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = {}
    line = lines.get(item["order_item"])
    if line is None:
        told["order_item"] = [_("This is not an item of this order.")]
    elif line.pk in seen:
        told["order_item"] = [_("This item is named twice.")]
    elif (item.get("quantity") or 0) > line.quantity:
        told["quantity"] = [_("Only %(max)d were ordered.") % {"max": line.quantity}]
    if item["reason"] not in reasons:
        told["reason"] = [_("This is not a reason to choose from.")]
    return told


# ---------------------------------------------------------------------------------------------------------------
# The door

EXAMPLE = {
    "cancel_order_items": [
        {"order_item": 7, "cancellation_type": "cancel", "reason": 1, "description": "", "quantity": 1},
        {"order_item": 8, "cancellation_type": "cancel", "reason": "1"},
    ]
}
REFUSALS = [
    OpenApiExample(
        words, value={"non_field_errors": [words], "error_code": [code]}, status_codes=["400"], response_only=True
    )
    for words, code in (
        (rules.ALREADY_CANCELLED, "order_already_cancelled"),
        (rules.CANCELLATION_IN_PROGRESS, "cancellation_in_progress"),
        (rules.ORDER_STATUS_FORBIDS, "order_status_forbids"),
    )
]


class CancelView(CodedView):
    """POST /orders/{number}/cancel/."""

    @extend_schema(
        operation_id="cancelOrder",
        summary="Cancel order items, or ask for it",
        description=(
            "Items of an order that nobody has begun to prepare are cancelled at once: 204. Where a person must decide "
            "(preparation has begun, goods are to be sent back), requests are made: 200 with the list. All items go "
            "one way or none does.\n\nThe same body by the same customer within ten minutes gets the first answer "
            "again and does nothing; so does the same `Idempotency-Key` header. A repeated answer carries "
            "`Idempotency-Replayed`."
        ),
        tags=["Order Management"],
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
        request=CancelSerializer,
        examples=[OpenApiExample("Two items", value=EXAMPLE, request_only=True), *REFUSALS],
        responses={
            200: RequestSerializer(many=True),
            204: OpenApiResponse(description="Cancelled at once"),
            400: errors("Not allowed, or the input is wrong"),
            401: NOT_LOGGED_IN,
            403: NO_CSRF,
            404: NO_ORDER,
            422: errors("This Idempotency-Key was used for another request"),
        },
    )
    def post(self, request: Request, number: str) -> Response:
        order = own_order(request, number=number)
        asked = CancelSerializer(data=request.data, context={"order": order})
        asked.is_valid(raise_exception=True)
        handler = get_event_handler(actor_of(request), as_of=timezone.now())

        def answer() -> Response:
            wishes = asked.validated_data["cancel_order_items"]
            token = asked.validated_data.get("plan")
            plan = read_plan(token, purpose=purpose_of(order, handler.actor)).plan if token else None
            requests = handler.cancel_or_request(number=order.number or "", wishes=wishes, plan=plan)
            return Response(RequestSerializer(requests, many=True).data) if requests else Response(status=204)

        return self._once(request, order, answer)

    def _once(self, request: Request, order: Order, answer: Any) -> Response:
        """The storefront's client repeats whatever it got no answer to, without a key: the body itself is one."""
        scope = f"customer:{request.user.pk}:cancel:{order.pk}"
        given = request.headers.get("Idempotency-Key", "")
        if given:
            return once(request, scope=scope, key=f"key:{hashlib.sha256(given.encode()).hexdigest()}", answer=answer)
        body = hashlib.sha256(request.get_full_path().encode() + canonical(request.data)).hexdigest()
        key, now = f"body:{body}", timezone.now()
        IdempotencyKey.objects.filter(scope=scope, key=key, created_at__lt=now - REPEATED_WITHIN).delete()
        return once(request, scope=scope, key=key, answer=answer)
