"""The doors to read: own orders, one of them, a guest's order by number and e-mail, and the reasons to cancel."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any, cast

from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import generics, serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.parsers import FormParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from orders.api.base import MAX_NUMBER_LENGTH, NO_ORDER, NOT_LOGGED_IN, StorefrontView, errors, orders_of
from orders.api.serializers import OrderSerializer, ReasonSerializer, detail_serializer, list_serializer
from orders.api.shown import ShownOrder, shown
from orders.models import CancellationReason, Order, OrderNotFound, OrderQuerySet
from orders.processing.policies import rulebook
from shop.actors import Actor
from shop.api import BoundedJSONParser, Pages, actor_of

NO_PAGE = errors("No such page", non_field_errors="Invalid page.", error_code="not_found")


def moment(text: str, *, end_of_day: bool) -> datetime:
    """A date or a time; a date as an upper end includes that day. Raises ValueError, OverflowError."""
    day = parse_date(text)
    found = datetime.combine(day, time.max if end_of_day else time.min) if day else parse_datetime(text)
    if found is None:
        raise ValueError(text)
    return (timezone.make_aware(found) if timezone.is_naive(found) else found).astimezone(UTC)


def _moment(request: Request, name: str, *, end_of_day: bool) -> datetime | None:
    """A date or a time from the query; the client leaves spaces around it."""
    text = request.query_params.get(name, "").strip()
    try:
        return moment(text, end_of_day=end_of_day) if text else None
    except (ValueError, OverflowError):
        raise serializers.ValidationError({name: [_("Enter a date, such as 2026-01-31.")]}) from None


def shown_orders(orders: list[ShownOrder], request: Request) -> Any:
    return list_serializer()(cast(Any, orders), many=True, context={"request": request}).data


def shown_alone(order: Order, request: Request) -> Any:
    found = shown(order, book=rulebook(), as_of=timezone.now())
    return detail_serializer()(found, context={"request": request}).data


class OrderListView(StorefrontView, generics.ListAPIView[Order]):
    """GET /users/orders/."""

    serializer_class = OrderSerializer  # type: ignore[assignment]

    def get_queryset(self) -> OrderQuerySet:
        found = orders_of(actor_of(self.request))
        since = _moment(self.request, "created_date__gte", end_of_day=False)
        until = _moment(self.request, "created_date__lte", end_of_day=True)
        search = self.request.query_params.get("search", "").strip()
        if since is not None:
            found = found.filter(placed_at__gte=since)
        if until is not None:
            found = found.filter(placed_at__lte=until)
        if search:
            # Numbers are digits; nothing else finds any.
            found = found.filter(number__contains=search) if search.isascii() and search.isdigit() else found.none()
        return found

    @extend_schema(
        operation_id="getOrders",
        summary="Own orders, newest first",
        tags=["Orders of the customer"],
        parameters=[
            OpenApiParameter("created_date__gte", str, description="Ordered on this day or at this time, or later"),
            OpenApiParameter("created_date__lte", str, description="Ordered on this day or at this time, or earlier"),
            OpenApiParameter("search", str, description="A part of the order's number"),
        ],
        responses={
            200: OrderSerializer(many=True),
            400: errors("A date is none", created_date__gte="Enter a date, such as 2026-01-31."),
            401: NOT_LOGGED_IN,
            404: NO_PAGE,
        },
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        book, now = rulebook(), timezone.now()
        orders = [shown(order, book=book, as_of=now) for order in page or []]
        return self.get_paginated_response(shown_orders(orders, request))


class OrderView(StorefrontView):
    """GET /users/orders/{id}/."""

    @extend_schema(
        operation_id="getOrder",
        summary="One of the own orders",
        tags=["Orders of the customer"],
        parameters=[OpenApiParameter("id", int, OpenApiParameter.PATH, description="The order's id (not its number)")],
        responses={200: OrderSerializer, 401: NOT_LOGGED_IN, 404: NO_ORDER},
    )
    def get(self, request: Request, pk: str) -> Response:
        # Anything but a number is an order that does not exist, told in JSON like one.
        if not (pk.isascii() and pk.isdigit() and len(pk) <= 18):
            raise OrderNotFound
        order = orders_of(actor_of(request)).filter(pk=int(pk)).first()
        if order is None:
            raise OrderNotFound
        return Response(shown_alone(order, request))


class LastOrderView(StorefrontView):
    """GET /users/orders/last/."""

    @extend_schema(
        operation_id="getLastOrder",
        summary="The latest of the own orders",
        tags=["Orders of the customer"],
        responses={200: OrderSerializer, 401: NOT_LOGGED_IN, 404: NO_ORDER},
    )
    def get(self, request: Request) -> Response:
        order = orders_of(actor_of(request)).order_by("-placed_at", "-pk").first()
        if order is None:
            raise OrderNotFound
        return Response(shown_alone(order, request))


class OnePage(Pages):
    """All of it: the client does not turn pages here."""

    page_size = 500
    page_size_query_param = None  # type: ignore[assignment]


class ReasonsView(StorefrontView, generics.ListAPIView[CancellationReason]):
    """GET /users/orders/cancellation_reasons/."""

    queryset = CancellationReason.objects.filter(is_active=True, shown_to_customers=True)
    serializer_class = ReasonSerializer
    pagination_class = OnePage

    @extend_schema(
        operation_id="getCancellationReasons",
        summary="Reasons to choose from",
        tags=["Orders of the customer"],
        responses={
            200: ReasonSerializer(many=True),
            401: NOT_LOGGED_IN,
            404: NO_PAGE,
        },
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


# ---------------------------------------------------------------------------------------------------------------
# Guests


class ByAddressAndEmail(SimpleRateThrottle):
    """So many tries from one address for one e-mail. Subclasses name what for and how many.

    Doors give DRF's request, the shop's pages Django's; both are counted together.
    """

    # Which part of the request is counted, beside the address.
    field = "email"

    def get_cache_key(self, request: Request | HttpRequest, view: Any) -> str:
        sent = request.data if isinstance(request, Request) else request.POST
        data = sent if hasattr(sent, "get") else {}
        # As the doors read it: a number with "#" before it, or several, is the same number.
        named = str(data.get(self.field, "")).strip().lstrip("#").strip().lower()[:254]
        who = f"{self.get_ident(cast(Request, request))} {named}"
        # Hashed: nobody's address stands in a cache.
        return f"throttle:{self.scope}:{hashlib.sha256(who.encode(errors='replace')).hexdigest()}"


class TrackingThrottle(ByAddressAndEmail):
    scope = "tracking"
    rate = "20/min"


class TrackingByNumber(TrackingThrottle):
    """So many for one order: nobody finds out who placed it by trying e-mail after e-mail."""

    scope = "tracking_number"
    field = "number"


TRACKING_THROTTLES = (TrackingThrottle, TrackingByNumber)


def guests_order(*, number: str, email: str) -> Order:
    """This will find a guest's order by what its confirmation says. Raises OrderNotFound."""
    order = orders_of(Actor.guest(email)).select_related("store").filter(**Order.resolve_number(number)).first()
    if order is None:
        raise OrderNotFound
    return order


class TrackingSerializer(serializers.Serializer[Any]):
    """What a guest knows of their order."""

    email = serializers.EmailField()
    number = serializers.CharField(max_length=MAX_NUMBER_LENGTH)


class TrackingView(StorefrontView):
    """POST /users/orders/anonymous/: it only reads, and needs no session; so there is no CSRF token to ask for."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes = (AllowAny,)
    parser_classes = (FormParser, BoundedJSONParser)
    throttle_classes = TRACKING_THROTTLES

    @extend_schema(
        operation_id="getAnonymousTracking",
        summary="A guest's order, by number and e-mail",
        description="An array with the one order. Orders of customers with an account are seen by logging in.",
        tags=["Orders of the customer"],
        request={"application/x-www-form-urlencoded": TrackingSerializer, "application/json": TrackingSerializer},
        examples=[
            OpenApiExample("A guest", value={"email": "a@example.com", "number": "100000042"}, request_only=True)
        ],
        responses={
            200: OrderSerializer(many=True),
            400: errors("Wrong input", email="Enter a valid email address."),
            404: NO_ORDER,
            429: errors(
                "Too many tries",
                non_field_errors="Request was throttled. Expected available in 42 seconds.",
                error_code="throttled",
            ),
        },
    )
    def post(self, request: Request) -> Response:
        asked = TrackingSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response([shown_alone(guests_order(**asked.validated_data), request)])
