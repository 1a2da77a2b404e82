"""The doors to withdraw from a contract, for customers and guests: state it and read it back, then confirm it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from orders.api.base import MAX_NUMBER_LENGTH, NO_CSRF, CodedView, errors
from orders.api.cancelling import MAX_ID, MAX_ITEMS, MAX_UNITS
from orders.models import Withdrawal
from orders.processing import get_event_handler
from orders.processing.declaring import StatedLine, Statement
from shop.actors import Actor
from shop.api import BoundedJSONParser, SessionAuthentication
from shop.models import User
from shop.money import rounded

MAX_TEXT = 2000
MAX_TOKEN = 100_000


class WithdrawalThrottle(SimpleRateThrottle):
    """So many tries from one address, whoever it names: nobody tries out numbers and e-mails here."""

    scope = "withdrawal"
    rate = "30/min"

    def get_cache_key(self, request: Any, view: Any) -> str:
        # Behind a proxy on a socket there may be no address at all.
        who = str(self.get_ident(request))
        return f"throttle:{self.scope}:{hashlib.sha256(who.encode()).hexdigest()}"


TOO_MANY = errors(
    "Too many tries, or receipts for one address",
    non_field_errors="Request was throttled. Expected available in 42 seconds.",
    error_code="throttled",
)


class WithdrawnItemSerializer(serializers.Serializer[Any]):
    """Units of one line."""

    order_item = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    quantity = serializers.IntegerField(min_value=1, max_value=MAX_UNITS)


class StateSerializer(serializers.Serializer[Any]):
    """What the law lets consumers state: who, which contract or part of it, where the receipt goes. No reason."""

    name = serializers.CharField(max_length=200)
    number = serializers.CharField(max_length=MAX_NUMBER_LENGTH, help_text="The order's number.")
    email = serializers.EmailField(help_text="Where the receipt goes. Of guests, the one they ordered with.")
    items = WithdrawnItemSerializer(
        many=True,
        required=False,
        allow_null=True,
        allow_empty=False,
        help_text="A part of the contract. Without it: everything.",
    )
    text = serializers.CharField(required=False, allow_blank=True, default="", max_length=MAX_TEXT)

    def validate_items(self, items: list[dict[str, int]] | None) -> dict[int, int] | None:
        if items is None:
            return None
        if None in items:
            raise serializers.ValidationError(_("Say which articles."))
        if len(items) > MAX_ITEMS:
            raise serializers.ValidationError(_("At most %(max)d articles at once.") % {"max": MAX_ITEMS})
        lines = {item["order_item"]: item["quantity"] for item in items}
        if len(lines) < len(items):
            raise serializers.ValidationError(_("Name each article once."))
        return lines


class StatedLineSerializer(serializers.Serializer[StatedLine]):
    """A line of the order, and what would become of its units. No prices and no address: this asks for no log-in."""

    order_item = serializers.IntegerField(source="line.pk")
    name = serializers.CharField(source="line.name")
    sku = serializers.CharField(source="line.sku")
    quantity = serializers.IntegerField(source="units", help_text="Withdrawn from.")
    max_quantity = serializers.IntegerField(source="left", help_text="As many could be.")
    cancelled = serializers.IntegerField(source="cancel", help_text="Not sent any more.")
    to_send_back = serializers.IntegerField(source="send_back", help_text="Shipped: the customer sends them back.")
    for_a_person = serializers.IntegerField(source="ask", help_text="Late or exempt: a person decides.")
    exemption = serializers.CharField(source="exempt", help_text="Why it cannot be withdrawn from; mostly empty.")


class StatementSerializer(serializers.Serializer[Statement]):
    """The declaration to be read back, and the token that confirms exactly this."""

    token = serializers.CharField(help_text="Good for an hour.")
    expires_at = serializers.DateTimeField()
    name = serializers.CharField(source="declaration.name")
    number = serializers.CharField(source="declaration.number")
    email = serializers.CharField(source="declaration.email")
    text = serializers.CharField(source="declaration.text")
    order_found = serializers.SerializerMethodField(
        help_text="False: no order has this number and e-mail. It can be declared all the same; a person looks at it."
    )
    everything = serializers.SerializerMethodField()
    lines = StatedLineSerializer(many=True)
    deadline = serializers.DateTimeField(allow_null=True, help_text="null: the time has not begun to run.")
    in_time = serializers.BooleanField()
    not_refunded = serializers.SerializerMethodField(
        help_text="What a dearer delivery cost more than the standard one, which is not refunded; in the order's "
        "currency. Only of one's own order, with a session: null for everybody else."
    )

    @extend_schema_field({"type": ["string", "null"], "format": "decimal"})
    def get_not_refunded(self, statement: Statement) -> str | None:
        """An amount, which strangers do not read: number and e-mail are all that they need to know to come here."""
        order, reader = statement.order, self.context["customer"]
        if order is None or reader is None or order.customer_id != reader.pk:
            return None
        return str(rounded(statement.not_refunded, order.currency))

    def get_order_found(self, statement: Statement) -> bool:
        return statement.order is not None

    def get_everything(self, statement: Statement) -> bool:
        return statement.declaration.lines is None


class ConfirmSerializer(serializers.Serializer[Any]):
    """The token of the first step."""

    token = serializers.CharField(max_length=MAX_TOKEN)


class ReceivedSerializer(serializers.ModelSerializer[Withdrawal]):
    """What the receipt says; it is on its way to the stated e-mail as well."""

    return_code = serializers.SerializerMethodField(help_text="To be written on the parcel; or null.")

    class Meta:
        model = Withdrawal
        fields = ["uuid", "declared_at", "name", "number", "email", "text", "return_code"]

    def get_return_code(self, row: Withdrawal) -> str | None:
        return row.goods_return.code if row.goods_return else None


class WithdrawView(CodedView):
    """POST /api/v1/withdrawals/: it changes nothing. Without a session there is no CSRF token to ask for."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (SessionAuthentication,)
    permission_classes = (AllowAny,)
    parser_classes = (BoundedJSONParser,)
    throttle_classes = (WithdrawalThrottle,)

    @extend_schema(
        operation_id="stateWithdrawal",
        summary="Withdraw from a contract: state it",
        description=(
            "The first of two steps, as directive 2011/83/EU, article 11a, has them. The answer is to be read back to"
            " the customer, who then confirms it. Guests, and customers who are not logged in, name the e-mail address"
            " they ordered with; customers who are, any."
        ),
        tags=["Withdrawal"],
        request=StateSerializer,
        examples=[
            OpenApiExample(
                "All of it",
                value={"name": "Ada Lovelace", "number": "100000042", "email": "ada@example.com"},
                request_only=True,
            )
        ],
        responses={
            200: StatementSerializer,
            400: errors("Wrong input", email="Enter a valid email address.", error_code="invalid"),
            403: NO_CSRF,
            429: TOO_MANY,
        },
    )
    def post(self, request: Request) -> Response:
        asked = StateSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        told = asked.validated_data
        user = request.user if isinstance(request.user, User) else None
        handler = get_event_handler(Actor.guest(told["email"]), as_of=timezone.now())
        lines = told.pop("items", None)
        statement = handler.state_withdrawal(**told, lines=lines, customer=user)
        return Response(StatementSerializer(statement, context={"customer": user}).data)


class ConfirmView(CodedView):
    """POST /api/v1/withdrawals/confirm/: the token says all; no session comes with it, so no CSRF token is needed."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes = (AllowAny,)
    parser_classes = (BoundedJSONParser,)
    throttle_classes = (WithdrawalThrottle,)

    @extend_schema(
        operation_id="confirmWithdrawal",
        summary="Withdraw from a contract: confirm it",
        description=(
            "The second step. It takes effect at once, and a receipt is sent. 201 says that the declaration has been"
            " received, not that it was in time. The same token again gets the same answer and does nothing."
        ),
        tags=["Withdrawal"],
        request=ConfirmSerializer,
        examples=[
            OpenApiExample(
                "The first step's token", value={"token": "eyJuYW1lIjoiQWRhIn0:1uQ2:3kXn"}, request_only=True
            )
        ],
        responses={
            201: ReceivedSerializer,
            400: errors(
                "The token is none of ours, or older than an hour",
                token="This statement was not made here. State the withdrawal again.",  # noqa: S106 - no secret
                error_code="withdrawal_token_invalid",
            ),
            429: TOO_MANY,
        },
    )
    def post(self, request: Request) -> Response:
        asked = ConfirmSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        handler = get_event_handler(Actor.guest(""), as_of=timezone.now())
        row = handler.confirm_withdrawal(token=asked.validated_data["token"])
        return Response(ReceivedSerializer(row).data, status=201)
