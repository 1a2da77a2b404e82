"""The door to ask for cancellations and returns across one's orders: it writes requests, and cancels nothing itself."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.base import NO_CSRF, NOT_LOGGED_IN, errors
from orders.api.cancelling import EXAMPLE, MAX_ITEMS, AskingView, CancelSerializer, once_for_customer
from orders.api.serializers import RequestSerializer, requests_out
from orders.models import Order, OrderLine
from orders.processing import get_event_handler
from shop.api import actor_of


class AskSerializer(CancelSerializer):
    """The contract's bulk cancellation: as to cancel, of items of any of one's orders. context["actor"]: whose."""

    # There is nothing to be shown before: a person decides.
    plan = None  # type: ignore[assignment]

    def lines_to_choose_from(self, items: list[dict[str, Any]]) -> dict[int, OrderLine]:
        orders = Order.objects.of(self.context["actor"]).placed()
        found = OrderLine.objects.filter(pk__in={item["order_item"] for item in items}, order__in=orders)
        self.orders = {line.pk: line.order_id for line in found}
        return {line.pk: line for line in found}


class BulkRequestsView(AskingView):
    """POST /users/orders/bulk_cancellation_requests/."""

    http_method_names = ["post", "options"]

    @extend_schema(
        operation_id="requestCancellations",
        summary="Ask to cancel items, or to send them back, of one or several own orders",
        description=(
            "Always requests, for a person to decide: nothing is cancelled at once. All items are asked for, or none "
            f"is. At most {MAX_ITEMS} items. The same body within ten minutes, or the same `Idempotency-Key`, gets "
            "the first answer again."
        ),
        tags=["Order Management"],
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
        request=AskSerializer,
        examples=[OpenApiExample("Two items", value=EXAMPLE, request_only=True)],
        responses={
            201: RequestSerializer(many=True),
            400: errors("Not allowed, or the input is wrong"),
            401: NOT_LOGGED_IN,
            403: NO_CSRF,
            422: errors("This Idempotency-Key was used for another request"),
        },
    )
    def post(self, request: Request) -> Response:
        actor = actor_of(request)
        asked = AskSerializer(data=request.data, context={"actor": actor, "find_address": self.address_of})
        asked.is_valid(raise_exception=True)
        wishes = [(asked.orders[wish.line_id], wish) for wish in asked.validated_data["cancel_order_items"]]

        def answer() -> Response:
            handler = get_event_handler(actor, as_of=timezone.now())
            requests = handler.request_across_orders(wishes=wishes, terms=self.terms_of(asked.validated_data))
            return Response(requests_out(requests), status=201)

        return once_for_customer(request, door="bulk_requests", answer=answer)
