"""The door to cancel: a customer's wish, checked; one decision under one lock; 204, or the requests that were made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_time
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orders import rules
from orders.api.base import (
    NO_CSRF,
    NO_ORDER,
    NOT_LOGGED_IN,
    AddressBookView,
    CodedView,
    errors,
    own_order,
    requests_shown,
)
from orders.api.serializers import RequestSerializer, requests_out
from orders.models import (
    CancellationReason,
    CancellationRequest,
    ExternalCall,
    Order,
    OrderAddress,
    OrderLine,
    ReturnCarrier,
)
from orders.processing import get_event_handler
from orders.processing.calls import wait_for
from orders.processing.requesting import Pickup, Terms, Wish
from orders.rules import Picture, read_picture, read_plan
from shop.actors import Actor
from shop.api import LargeJSONParser, Later, actor_of, canonical, key_of, once, once_with_outside
from shop.errors import Refused
from shop.models import IdempotencyKey

REPEATED_WITHIN = timedelta(minutes=10)
MAX_ID = 2**63 - 1
MAX_UNITS = 2**31 - 1
MAX_DESCRIPTION = 2000
MAX_ITEMS = 200
MAX_PICTURES = 20
MAX_BODY_BYTES = 40_000_000


def purpose_of(order: Order, actor: Actor) -> str:
    """What a plan's token was made for: this door, this order, this person."""
    return f"api:cancel:{order.pk}:{actor.user_id}"


# ---------------------------------------------------------------------------------------------------------------
# What is asked


class HoursSerializer(serializers.Serializer[Any]):
    """The contract's hour_range."""

    start = serializers.CharField(max_length=20)
    end = serializers.CharField(max_length=20)

    def validate(self, hours: dict[str, str]) -> dict[str, str]:
        """Words are kept as they are; where both are times, the window has to end after it begins."""
        try:
            start, end = parse_time(hours["start"]), parse_time(hours["end"])
        except ValueError:
            raise serializers.ValidationError(_("Enter times, such as 09:00.")) from None
        if start is not None and end is not None and end <= start:
            raise serializers.ValidationError({"end": _("The window ends before it begins.")})
        return hours


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
    shipping_company = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=MAX_ID)
    pickup_date = PickupDateSerializer(required=False, allow_null=True)
    quantity = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=MAX_UNITS)
    cancellation_request_image_set = ImageSerializer(many=True, required=False, allow_null=True)

    def validate_cancellation_request_image_set(self, value: list[Any] | None) -> list[Any]:
        most = settings.CANCELLATION_REQUEST_MAX_IMAGE_COUNT_PER_ORDER_ITEM
        if value and len(value) > most:
            raise serializers.ValidationError(_("At most %(max)d pictures can be attached.") % {"max": most})
        return value or []


class CancelSerializer(serializers.Serializer[Any]):
    """The contract's OrderCancellationRequest. context["order"]: the order with its lines."""

    cancel_order_items = AskedLineSerializer(many=True, allow_empty=False, max_length=MAX_ITEMS)  # type: ignore[call-arg]
    pickup_address = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=MAX_ID)
    fully_refund_as_loyalty_money = serializers.BooleanField(required=False, default=False)
    # Not in the contract: the token of …/cancel/plan/, to have exactly that happen.
    plan = serializers.CharField(required=False)

    def validate_pickup_address(self, value: int | None) -> OrderAddress | None:
        """A copy of the entry in the customer's own address book. context["find_address"]: how to find one."""
        if value is None:
            return None
        found: OrderAddress | None = self.context["find_address"](value)
        if found is None:
            raise serializers.ValidationError(_("There is no such address in your address book."))
        return found

    def validate_cancel_order_items(self, items: list[dict[str, Any]]) -> list[Wish]:
        """Lines of this order, each named once, not more units than ordered, reasons that customers may give."""
        lines = self.lines_to_choose_from(items)
        wanted = {item["reason"] for item in items}
        reasons = {
            reason.pk: reason
            for reason in CancellationReason.objects.filter(pk__in=wanted, is_active=True, shown_to_customers=True)
        }
        named = {item["shipping_company"] for item in items if item.get("shipping_company")}
        carriers = ReturnCarrier.objects.filter(is_active=True).in_bulk(named) if named else {}
        wrong: dict[Any, Any] = {}
        seen: set[int] = set()
        for position, item in enumerate(items):
            told = _item_errors(item, lines=lines, reasons=reasons, carriers=carriers, seen=seen)
            if told:
                wrong[position] = told
            seen.add(item["order_item"])
        if wrong:
            raise serializers.ValidationError(wrong)
        pictures = _read_pictures(items)
        return [
            Wish(
                item["order_item"],
                item.get("quantity"),
                item["cancellation_type"],
                reasons[item["reason"]],
                item.get("description") or "",
                carriers.get(item.get("shipping_company") or 0),
                _pickup(item),
                pictures[position],
            )
            for position, item in enumerate(items)
        ]

    def lines_to_choose_from(self, items: list[dict[str, Any]]) -> dict[int, OrderLine]:
        return {line.pk: line for line in self.context["order"].lines.all()}


def _item_errors(
    item: Mapping[str, Any],
    *,
    lines: Mapping[int, OrderLine],
    reasons: Mapping[int, CancellationReason],
    carriers: Mapping[int, ReturnCarrier],
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
    if item["cancellation_type"] == CancellationRequest.Type.CANCEL:
        return told  # what is not sent back is not fetched, whatever a client sends along
    carrier, pickup = item.get("shipping_company"), item.get("pickup_date")
    if carrier and carrier not in carriers:
        told["shipping_company"] = [_("This shipping company does not bring returns to this shop.")]
    if pickup and pickup["date"] < timezone.localdate():
        told["pickup_date"] = [_("This day is over.")]
    elif pickup and carrier and carrier in carriers and not carriers[carrier].fetches:
        told["pickup_date"] = [_("This shipping company fetches nothing: leave the day away, or choose another.")]
    return told


def _pickup(item: Mapping[str, Any]) -> Pickup | None:
    if not item.get("pickup_date") or item["cancellation_type"] == CancellationRequest.Type.CANCEL:
        return None
    hours = item["pickup_date"]["hour_range"]
    return Pickup(item["pickup_date"]["date"], hours["start"], hours["end"])


def _read_pictures(items: list[dict[str, Any]]) -> list[tuple[Picture, ...]]:
    """Each item's pictures, painted anew. Raises ValidationError at the picture that is none."""
    if sum(len(item.get("cancellation_request_image_set", ())) for item in items) > MAX_PICTURES:
        raise serializers.ValidationError(_("At most %(max)d pictures can be attached.") % {"max": MAX_PICTURES})
    read: list[tuple[Picture, ...]] = []
    for position, item in enumerate(items):
        some = []
        for index, one in enumerate(item.get("cancellation_request_image_set", ())):
            try:
                some.append(read_picture(one["image"] if one else ""))
            except Refused as no:
                path: Any = {position: {"cancellation_request_image_set": {index: {"image": [str(no)]}}}}
                raise serializers.ValidationError(path) from None
        read.append(tuple(some))
    return read


# ---------------------------------------------------------------------------------------------------------------
# The door

EXAMPLE = {
    "cancel_order_items": [
        {"order_item": 7, "cancellation_type": "cancel", "reason": 1, "description": "", "quantity": 1},
        {"order_item": 8, "cancellation_type": "cancel", "reason": 1},
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


class AskingView(AddressBookView, CodedView):
    """Base of the doors that take a customer's wishes, pictures among them."""

    max_body_bytes = MAX_BODY_BYTES
    parser_classes = (LargeJSONParser,)

    @staticmethod
    def terms_of(asked: Mapping[str, Any]) -> Terms:
        return Terms(asked.get("pickup_address"), asked["fully_refund_as_loyalty_money"])


class CancelView(AskingView):
    """POST /orders/{number}/cancel/."""

    @extend_schema(
        operation_id="cancelOrder",
        summary="Cancel order items, or ask for it",
        description=(
            "Items of an order that nobody has begun to prepare are cancelled at once: 204. Where a person must decide "
            "(preparation has begun, goods are to be sent back), requests are made: 200 with the list. All items go "
            "one way or none does. Where another system manages the shop's orders it is asked first: what it does not "
            "agree to, or does not answer in time, becomes requests.\n\nThe same body by the same customer within ten "
            "minutes gets the first answer again and does nothing; so does the same `Idempotency-Key` header. A "
            "repeated answer carries `Idempotency-Replayed`."
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
            503: errors("The order management system has not answered yet: the same request again gets the answer"),
        },
    )
    def post(self, request: Request, number: str) -> Response:
        order = own_order(request, number=number)
        asked = CancelSerializer(data=request.data, context={"order": order, "find_address": self.address_of})
        asked.is_valid(raise_exception=True)
        handler = get_event_handler(actor_of(request), as_of=timezone.now())

        def begin(cause: str) -> Response | Later:
            token = asked.validated_data.get("plan")
            plan = read_plan(token, purpose=purpose_of(order, handler.actor)).plan if token else None
            done = handler.cancel_or_ask(
                number=order.number or "",
                wishes=asked.validated_data["cancel_order_items"],
                cause=cause,
                plan=plan,
                terms=self.terms_of(asked.validated_data),
            )
            call = done.call
            return _answered(done.requests) if call is None else Later(lambda: _answered(requests_of(wait_for(call))))

        scope, key = customers_key(request, door=f"cancel:{order.pk}")
        return once_with_outside(request, scope=scope, key=key, begin=begin)


def _answered(requests: Sequence[CancellationRequest]) -> Response:
    return Response(requests_out(requests)) if requests else Response(status=204)


def requests_of(call: ExternalCall) -> list[CancellationRequest]:
    """What was made instead, where the other system did not agree."""
    found = requests_shown().filter(pk__in=call.requests)
    return list(found.order_by("pk"))


def once_for_customer(request: Request, *, door: str, answer: Callable[[], Response]) -> Response:
    """Answer a customer's request once: see `customers_key`."""
    scope, key = customers_key(request, door=door)
    return once(request, scope=scope, key=key, answer=answer)


def customers_key(request: Request, *, door: str) -> tuple[str, str]:
    """Scope and key of a request. The storefront's client repeats without a key: then the body itself is one.

    Raises KeyUnfit.
    """
    scope = f"customer:{request.user.pk}:{door}"
    given = key_of(request, required=False)
    if given:
        return scope, f"key:{hashlib.sha256(given.encode()).hexdigest()}"
    body = hashlib.sha256(request.get_full_path().encode() + canonical(request.data)).hexdigest()
    key, now = f"body:{body}", timezone.now()
    IdempotencyKey.objects.filter(scope=scope, key=key, created_at__lt=now - REPEATED_WITHIN).delete()
    return scope, key
