"""The door to change an order's address. Whose address book it reads is said by a subclass: orders know of none."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.base import NO_CSRF, NOT_LOGGED_IN, StorefrontView, errors
from orders.models import Order, OrderAddress
from orders.processing import get_event_handler
from shop.api import actor_of
from shop.models import User

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
    """What the order management system said; here it is this desk itself."""

    status = serializers.IntegerField()


class AddressChangeView(StorefrontView):
    """POST /orders/address_change/."""

    http_method_names = ["post", "options"]

    def find_address(self, user: User, pk: int) -> OrderAddress | None:
        """A copy, not saved, of the entry `pk` of this customer's address book; None if it has no such entry."""
        raise NotImplementedError("say whose address book this is")

    @extend_schema(
        operation_id="requestOrderAddressChange",
        summary="Change the address of an order",
        description="The address book's entry is copied onto the order. Nothing that has left is re-addressed.",
        tags=["Order Management"],
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
        },
    )
    def post(self, request: Request) -> Response:
        asked = AddressChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data
        assert isinstance(request.user, User)
        order = Order.objects.of(actor_of(request)).placed().filter(pk=wanted["order"]).first()
        address = self.find_address(request.user, wanted["address"])
        wrong: dict[str, list[Any]] = {}
        if order is None:
            wrong["order"] = [_("There is no such order.")]
        if address is None:
            wrong["address"] = [_("There is no such address in your address book.")]
        if order is None or address is None:
            raise serializers.ValidationError(wrong)
        get_event_handler(actor_of(request), as_of=timezone.now()).change_address(
            number=order.number or "",
            address=address,
            shipping=SHIPPING in wanted["order_address_types"],
            billing=BILLING in wanted["order_address_types"],
        )
        return Response({"status": 200})
