"""The door of the customer's store credit and loyalty points."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from checkout.api import serializers as shapes
from checkout.api.frame import CheckoutView, SessionOrGuest
from payments.models import CreditAccount
from payments.services import credit


class CreditLotOut(serializers.Serializer[Any]):
    amount = shapes.Money()
    expires_at = serializers.DateTimeField()


class CreditOut(serializers.Serializer[Any]):
    """One of the customer's accounts."""

    kind = serializers.ChoiceField(choices=CreditAccount.Kind.choices)
    name = serializers.CharField()
    currency = serializers.CharField()
    balance = shapes.Money()
    held = shapes.Money(help_text="Of the balance, what orders have reserved.")
    available = shapes.Money(help_text="What can be spent now.")
    points = serializers.IntegerField(allow_null=True, help_text="What can be spent, in points; null: not points.")
    expiring = CreditLotOut(many=True, help_text="What of it expires when, the next first.")


def credit_out(has: credit.Balance) -> dict[str, Any]:
    kind, currency = CreditAccount.Kind(has.kind), has.currency
    return {
        "kind": kind,
        "name": kind.label,
        "currency": currency,
        "balance": shapes.money(has.balance, currency),
        "held": shapes.money(has.held, currency),
        "available": shapes.money(has.available, currency),
        "points": credit.points(has.available) if kind == CreditAccount.Kind.LOYALTY else None,
        "expiring": [
            {"amount": shapes.money(lot.amount, currency), "expires_at": lot.expires_at}
            for lot in has.lots
            if lot.expires_at
        ],
    }


class CreditView(CheckoutView):
    authentication_classes = [SessionOrGuest]
    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="account_credit", responses={200: CreditOut(many=True), 401: shapes.REFUSED})
    def get(self, request: Request) -> Response:
        """What the customer has of store credit and loyalty points; spend it with `use_…` of /purchase/."""
        customer = self.customer
        assert customer is not None  # IsAuthenticated
        found = credit.balances_of(owner_id=customer.pk, as_of=timezone.now())
        return Response(CreditOut([credit_out(has) for has in found], many=True).data)
