"""The door to change an order's address. Whose address book it reads is said with its address: orders know of none."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.base import NO_CSRF, NOT_LOGGED_IN, AddressBookView, errors
from orders.models import Order
from orders.processing import get_event_handler
from orders.processing.calls import wait_for
from orders.processing.readdressing import http_status_of
from shop.api import Later, actor_of, key_of, once_with_outside

MAX_ID = 2**63 - 1
SHIPPING, BILLING = "shipping", "billing"


class AddressChangeSerializer(serializers.Serializer[Any]):
    """The contract's OrderAddressChangeRequest; `channel_id` is read and not needed."""

    order = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    address = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    order_address_types = serializers.ListField(
        child=serializers.ChoiceField(choices=[(SHIPPING, _("shipping")), (BILLING, _("billing"))]),
        allow_empty=False,
        max_length=10,
    )
    channel_id = serializers.IntegerField(required=False, allow_null=True)


class AddressChangedSerializer(serializers.Serializer[Any]):
    """What the order management system said; by default that is this desk itself."""

    status = serializers.IntegerField()


class AddressChangeView(AddressBookView):
    """POST /orders/address_change/."""

    http_method_names = ["post", "options"]

    @extend_schema(
        operation_id="requestOrderAddressChange",
        summary="Change the address of an order",
        description=(
            "The address book's entry is copied onto the order. Nothing that has left is re-addressed. `status` is 200 "
            "where the address has changed and 202 where a person has to agree; the customer is told by mail. Where "
            "another system manages the shop's orders, it is that system's own HTTP status."
        ),
        tags=["Order Management"],
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
        request=AddressChangeSerializer,
        examples=[
            OpenApiExample(
                "Shipping", value={"order": 42, "address": 7, "order_address_types": ["shipping"]}, request_only=True
            ),
            OpenApiExample("Changed", value={"status": 200}, response_only=True, status_codes=["200"]),
        ],
        responses={
            200: AddressChangedSerializer,
            400: errors(
                "Wrong input, an unknown order or address, or too late",
                non_field_errors="Old order address cannot be changed.",
                error_code="order_100_3",
            ),
            401: NOT_LOGGED_IN,
            403: NO_CSRF,
            422: errors("This Idempotency-Key was used for another request"),
            503: errors("The order management system has not answered yet: the same request again gets the answer"),
        },
    )
    def post(self, request: Request) -> Response:
        asked = AddressChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data

        def begin(_cause: str) -> Response | Later:
            return self._ask(request, wanted)

        if not (key := key_of(request, required=False)):
            # A repeat changes nothing; as a key, the body would keep anybody from going there, away, and back.
            begun = begin("")
            return begun if isinstance(begun, Response) else begun.finish()
        return once_with_outside(request, scope=f"customer:{request.user.pk}:address_change", key=key, begin=begin)

    def _ask(self, request: Request, wanted: dict[str, Any]) -> Response | Later:
        """Only what was not answered before is looked up: a repetition may come after the address has left the book."""
        order = Order.objects.of(actor_of(request)).placed().filter(pk=wanted["order"]).first()
        address = self.address_of(wanted["address"])
        wrong: dict[str, list[Any]] = {}
        if order is None:
            wrong["order"] = [_("There is no such order.")]
        if address is None:
            wrong["address"] = [_("There is no such address in your address book.")]
        if order is None or address is None:
            raise serializers.ValidationError(wrong)
        types = wanted["order_address_types"]
        answer = get_event_handler(actor_of(request), as_of=timezone.now()).ask_address(
            number=order.number or "", address=address, shipping=SHIPPING in types, billing=BILLING in types
        )
        call = answer.call
        if call is None:
            return Response({"status": answer.status})
        # Another system is asked outside of the decision's transaction, which is over.
        return Later(lambda: Response({"status": http_status_of(wait_for(call))}))
