"""The doors to own recurring orders: see them, and end one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.base import NO_CSRF, NOT_LOGGED_IN, StorefrontView, errors
from orders.models import CancellationReason, RecurringItem, RecurringNotFound, RecurringOrder
from orders.processing import get_event_handler
from shop.api import CursorPages, actor_of, keyed


class RecurringItemSerializer(serializers.ModelSerializer[RecurringItem]):
    """One product of a series."""

    sku = serializers.SerializerMethodField()

    class Meta:
        model = RecurringItem
        fields = ["name", "sku", "quantity"]
        read_only_fields = fields

    def get_sku(self, item: RecurringItem) -> str:
        return item.product.sku if item.product else ""


class RecurringSerializer(serializers.ModelSerializer[RecurringOrder]):
    """A series as its customer sees it."""

    id = serializers.UUIDField(source="uuid", read_only=True)
    rhythm = serializers.CharField(read_only=True, help_text="“every 2 weeks”, in the language of the request")
    next_at = serializers.SerializerMethodField(help_text="null where none is coming: paused, or ended")
    items = RecurringItemSerializer(many=True, read_only=True)
    orders = serializers.SerializerMethodField(help_text="numbers of its orders, the latest first")

    class Meta:
        model = RecurringOrder
        fields = ["id", "status", "rhythm", "unit", "every", "next_at", "ended_at", "items", "orders"]
        read_only_fields = fields

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_next_at(self, series: RecurringOrder) -> Any:
        return serializers.DateTimeField().to_representation(series.next_at) if series.is_active else None

    def get_orders(self, series: RecurringOrder) -> list[str]:
        return sorted((order.number for order in series.orders.all() if order.number), key=int, reverse=True)


class EndSerializer(serializers.Serializer[Any]):
    """Why; nobody has to say."""

    reason = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2**63 - 1)
    description = serializers.CharField(required=False, allow_blank=True, max_length=2000)

    def validate_reason(self, value: int | None) -> CancellationReason | None:
        if value is None:
            return None
        found = CancellationReason.objects.filter(pk=value, is_active=True, shown_to_customers=True).first()
        if found is None:
            raise serializers.ValidationError(_("This is not a reason to choose from."))
        return found


NO_SERIES = errors(
    "No such recurring order, or not this customer's",
    non_field_errors="There is no such recurring order.",
    error_code="recurring_order_not_found",
)


class RecurringListView(StorefrontView, generics.ListAPIView[RecurringOrder]):
    """GET /api/v1/recurring-orders/."""

    serializer_class = RecurringSerializer
    pagination_class = CursorPages

    def get_queryset(self) -> Any:
        mine = RecurringOrder.objects.of(actor_of(self.request))
        return mine.prefetch_related("items__product", "orders")

    @extend_schema(
        operation_id="getRecurringOrders",
        summary="Own recurring orders, newest first",
        tags=["Recurring orders"],
        responses={200: RecurringSerializer(many=True), 401: NOT_LOGGED_IN, 404: errors("No such page")},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class EndRecurringView(StorefrontView):
    """POST /api/v1/recurring-orders/{id}/end/."""

    @extend_schema(
        operation_id="endRecurringOrder",
        summary="End a recurring order: no order comes any more",
        description=(
            "Orders that were placed stay as they are; cancel them one by one. Ending it again changes nothing and "
            "gets the same answer."
        ),
        tags=["Recurring orders"],
        request=EndSerializer,
        examples=[OpenApiExample("With a reason", value={"reason": 1}, request_only=True)],
        responses={
            200: RecurringSerializer,
            400: errors("The input is wrong", reason="This is not a reason to choose from."),
            401: NOT_LOGGED_IN,
            403: NO_CSRF,
            404: NO_SERIES,
        },
    )
    @keyed()
    def post(self, request: Request, uuid: UUID) -> Response:
        actor = actor_of(request)
        asked = EndSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        pk = RecurringOrder.objects.of(actor).filter(uuid=uuid).values_list("pk", flat=True).first()
        if pk is None:
            raise RecurringNotFound
        handler = get_event_handler(actor, as_of=timezone.now())
        said = asked.validated_data
        handler.end_recurring(recurring_id=pk, reason=said.get("reason"), note=said.get("description", ""))
        series = RecurringOrder.objects.prefetch_related("items__product", "orders").get(pk=pk)
        return Response(RecurringSerializer(series).data)
