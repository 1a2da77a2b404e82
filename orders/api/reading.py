"""The doors where staff and their programs read orders: the list, by filters and page after page, and one of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import django_filters
from django import forms
from django.db.models import Prefetch
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.base import MAX_NUMBER_LENGTH, NO_ORDER, NOT_LOGGED_IN, DeskView, errors
from orders.api.deciding import FORBIDDEN
from orders.api.own_orders import moment
from orders.api.serializers import ParcelSerializer
from orders.api.staff import TOO_MANY
from orders.models import CancellationRequest, Order, OrderLine, OrderNotFound, OrderQuerySet, ShippingEventQuantity
from payments.models import Payment
from shop.actors import Actor
from shop.api import CursorPages, staff_actor_of
from shop.errors import NotAllowed
from shop.models import ApiToken
from shop.money import rounded

VIEW, SCOPE = "orders.view_order", "orders:read"


def reader_of(request: Request) -> Actor:
    """Staff who may see orders; a program needs the scope to read them all, not only to work on one."""
    actor = staff_actor_of(request)
    actor.require(VIEW)
    if isinstance(request.auth, ApiToken) and SCOPE not in request.auth.scopes:
        raise NotAllowed
    return actor


# ---------------------------------------------------------------------------------------------------------------
# What is shown


class Money(serializers.DecimalField):
    """An amount with the digits of its order's currency."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=14, decimal_places=3, read_only=True, **kwargs)

    def get_attribute(self, instance: Any) -> Any:
        amount: Any = super().get_attribute(instance)
        return rounded(amount, instance.currency if isinstance(instance, Order | Payment) else instance.order.currency)

    def to_representation(self, value: Decimal) -> str:
        return str(value)


class CustomerSerializer(serializers.Serializer[Order]):
    """Whose order it is. id: null for guests."""

    id = serializers.IntegerField(source="customer_id", allow_null=True)
    name = serializers.CharField(source="customer_name")
    email = serializers.EmailField()
    phone = serializers.CharField()


class OrderRowSerializer(serializers.ModelSerializer[Order]):
    """An order as it stands in the list."""

    store = serializers.CharField(source="store.code")
    customer = CustomerSerializer(source="*")
    items_total = Money()
    discount_total = Money()
    shipping_total = Money()
    tax_total = Money()
    total = Money()

    class Meta:
        model = Order
        fields = [
            "id",
            "number",
            "status",
            "version",
            "store",
            "channel",
            "customer",
            "language",
            "currency",
            "items_total",
            "discount_total",
            "shipping_total",
            "tax_total",
            "total",
            "payment_method",
            "shipping_method",
            "is_pickup",
            "placed_at",
            "updated_at",
            "undo_until",
        ]


class AddressSerializer(serializers.Serializer[Any]):
    """An address as it was given for the order."""

    title = serializers.CharField()
    first_name = serializers.CharField()
    last_name = serializers.CharField()
    company = serializers.CharField()
    line = serializers.CharField()
    line2 = serializers.CharField()
    postcode = serializers.CharField()
    city = serializers.CharField()
    state = serializers.CharField()
    country = serializers.CharField()
    phone = serializers.CharField()


class OrderLineSerializer(serializers.ModelSerializer[OrderLine]):
    """One line, and how far each of its units has come."""

    unit_price = Money()
    discount_total = Money()
    shipping_total = Money()
    tax_total = Money()
    total = Money()
    parcels = ParcelSerializer(source="shipping_event_quantities", many=True)

    class Meta:
        model = OrderLine
        fields = [
            "id",
            "sku",
            "name",
            "attributes",
            "status",
            "quantity",
            "unit_price",
            "discount_total",
            "shipping_total",
            "tax_rate",
            "tax_total",
            "total",
            *OrderLine.COUNTERS,
            "parcels",
        ]


class PaymentSerializer(serializers.ModelSerializer[Payment]):
    """What was asked of one gateway, and what came of it."""

    amount = Money()
    authorized = Money()
    captured = Money()
    voided = Money()
    refunded = Money()

    class Meta:
        model = Payment
        fields = ["id", "gateway", "currency", "amount", "authorized", "captured", "voided", "refunded"]


class AskedForSerializer(serializers.ModelSerializer[CancellationRequest]):
    """What the customer asks for."""

    id = serializers.UUIDField(source="uuid")
    line = serializers.IntegerField(source="line_id")
    reason = serializers.CharField(source="reason.code")
    type = serializers.CharField(source="cancellation_type", help_text="`cancel` or `refund`")
    status = serializers.CharField()

    class Meta:
        model = CancellationRequest
        fields = ["id", "line", "quantity", "type", "status", "reason", "description", "created_at"]


class OneOrderSerializer(OrderRowSerializer):
    """An order with its lines, addresses, payments and its customer's requests."""

    shipping_address = AddressSerializer(allow_null=True)
    billing_address = AddressSerializer(allow_null=True)
    lines = OrderLineSerializer(many=True)
    payments = serializers.SerializerMethodField()
    requests = AskedForSerializer(source="cancellation_requests", many=True)
    extra = serializers.DictField()

    class Meta(OrderRowSerializer.Meta):
        fields = [
            *OrderRowSerializer.Meta.fields,
            "shipping_address",
            "billing_address",
            "lines",
            "payments",
            "requests",
            "extra",
        ]

    @extend_schema_field(PaymentSerializer(many=True))
    def get_payments(self, order: Order) -> Any:
        rows = Payment.objects.filter(reference=order.number).order_by("pk")
        return PaymentSerializer(rows, many=True).data


# ---------------------------------------------------------------------------------------------------------------
# What is looked for


class MomentField(forms.CharField):
    """A date or a time."""

    def __init__(self, *, end_of_day: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.end_of_day = end_of_day

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return moment(text, end_of_day=self.end_of_day) if text else None
        except (ValueError, OverflowError):
            raise forms.ValidationError(_("Enter a date, such as 2026-01-31, or a time of one.")) from None


class Moment(django_filters.Filter):
    field_class = MomentField


class OrderFilters(django_filters.FilterSet):
    """Several are joined by “and”; `status` may be named more than once."""

    status = django_filters.MultipleChoiceFilter(choices=[], distinct=False)  # a column of the order's own
    placed__gte = Moment(field_name="placed_at", lookup_expr="gte")
    placed__lte = Moment(field_name="placed_at", lookup_expr="lte", end_of_day=True)
    updated__gte = Moment(field_name="updated_at", lookup_expr="gte")
    store = django_filters.CharFilter(field_name="store__code", max_length=100)
    email = django_filters.CharFilter(field_name="email", lookup_expr="iexact", max_length=254)
    number = django_filters.CharFilter(method="of_number", max_length=MAX_NUMBER_LENGTH)

    class Meta:
        model = Order
        fields: list[str] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.filters["status"].extra["choices"] = [(status, status) for status in Order.all_statuses()]

    def of_number(self, orders: Any, _name: str, number: str) -> Any:
        return orders.filter(**Order.resolve_number(number))


KNOWN = {*OrderFilters.base_filters, "cursor", "limit", "format"}


def found(request: Request, orders: OrderQuerySet) -> Any:
    """The orders that a request's filters leave. What is no filter is refused: ignored, it would give all orders."""
    unknown = sorted(set(request.query_params) - KNOWN)
    if unknown:
        words = _("There is no such filter. There are: %(all)s.") % {"all": ", ".join(OrderFilters.base_filters)}
        raise serializers.ValidationError({name: [words] for name in unknown})
    filters = OrderFilters(request.query_params, queryset=orders)
    if not filters.is_valid():
        raise serializers.ValidationError(dict(filters.errors))
    return filters.qs


# ---------------------------------------------------------------------------------------------------------------
# Doors


class OrdersView(DeskView):
    """GET /api/v1/orders/."""

    pagination_class = CursorPages

    @extend_schema(
        operation_id="listOrders",
        summary="Orders of one's stores, newest first",
        description=(
            "`next` is the address of the following page, null on the last one; orders that come meanwhile move "
            "nobody's page. With a token: scope `orders:read`. A filter that is not one of these is refused."
        ),
        tags=["Staff"],
        parameters=[
            OpenApiParameter("status", str, many=True, description="One or several statuses"),
            OpenApiParameter("placed__gte", str, description="Placed on this day or at this time, or later"),
            OpenApiParameter("placed__lte", str, description="Placed on this day or at this time, or earlier"),
            OpenApiParameter("updated__gte", str, description="Changed since then"),
            OpenApiParameter("store", str, description="The store's code"),
            OpenApiParameter("email", str, description="The customer's e-mail, in any case"),
            OpenApiParameter("number", str),
            OpenApiParameter("limit", int, description="How many to a page; 50, at most 200"),
            OpenApiParameter("cursor", str, description="As `next` and `previous` have it"),
        ],
        responses={
            200: OrderRowSerializer(many=True),
            400: errors("A filter is wrong", placed__gte="Enter a date, such as 2026-01-31, or a time of one."),
            401: NOT_LOGGED_IN,
            403: FORBIDDEN,
            404: errors("This cursor names no page", non_field_errors="Invalid cursor", error_code="not_found"),
            429: TOO_MANY,
        },
    )
    def get(self, request: Request) -> Response:
        actor = reader_of(request)
        orders = found(request, Order.objects.of(actor).placed().select_related("store"))
        pages = self.pagination_class()
        page = pages.paginate_queryset(orders, request, view=self)
        return pages.get_paginated_response(OrderRowSerializer(page or [], many=True).data)


class OneOrderView(DeskView):
    """GET /api/v1/orders/{number}/."""

    @extend_schema(
        operation_id="readOrder",
        summary="An order with its lines, addresses, payments and requests",
        description="With a token: scope `orders:read`. What can be done with it: `/orders/{number}/actions/`.",
        tags=["Staff"],
        responses={200: OneOrderSerializer, 401: NOT_LOGGED_IN, 403: FORBIDDEN, 404: NO_ORDER, 429: TOO_MANY},
    )
    def get(self, request: Request, number: str) -> Response:
        actor = reader_of(request)
        order = _with_everything(Order.objects.of(actor).placed()).filter(**Order.resolve_number(number)).first()
        if order is None:
            raise OrderNotFound
        return Response(OneOrderSerializer(order).data)


def _with_everything(orders: OrderQuerySet) -> OrderQuerySet:
    """Everything that is shown of an order, in a number of queries that does not grow with its lines."""
    shipped = ShippingEventQuantity.objects.filter(event__event_type__code="shipped").select_related("event")
    parcels = Prefetch("shipping_event_quantities", queryset=shipped.order_by("pk"))
    lines = OrderLine.objects.order_by("position").prefetch_related(parcels)
    requests = CancellationRequest.objects.select_related("reason").order_by("pk")
    return orders.select_related("store", "shipping_address", "billing_address").prefetch_related(
        Prefetch("lines", queryset=lines), Prefetch("cancellation_requests", queryset=requests)
    )
