"""The doors of programs that change many orders at once, and follow what becomes of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db import transaction
from django.db.models import Count
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from orders import rules
from orders.api.base import MAX_NUMBER_LENGTH, NOT_LOGGED_IN, DeskView, errors
from orders.api.deciding import FORBIDDEN, OBJECT, ContactSerializer
from orders.api.staff import REFUSALS, TOO_MANY, bring, handler_of, key_header, known_status, read
from orders.models import BulkItem, BulkRun, Order, OrderNotFound, Status, own_statuses
from orders.processing import EventHandler
from orders.processing.bulk import MOST_TRIED_FIRST, NoSuchRun, runs_of
from orders.processing.cancelling import Contact
from shop.api import Pages, answer_keyed, staff_actor_of
from shop.errors import Invalid, Refused

MOST, MOST_AT_ONCE = 1000, 100
AT_ONCE = (Status.APPROVED, Status.PREPARING, Status.DELIVERED)
VIEW = "orders.view_bulkrun"


def own_targets() -> list[str]:
    """The statuses of a shop's own that a step of its workflows leads to."""
    targets = {step.target for step in rules.own_steps()}
    return [status for status in own_statuses() if status in targets]


class TooManyAtOnce(Invalid):
    code = "too_many_orders"
    message = _("At most %(most)d orders can get this status in one request. Send the others in another one.")


class NotInBulk(Invalid):
    code = "invalid"
    message = _("Many orders at once can become: %(statuses)s.")


class BulkUpdateSerializer(serializers.Serializer[Any]):
    """Orders that are to get a status together."""

    orders = serializers.ListField(
        child=serializers.CharField(max_length=MAX_NUMBER_LENGTH), min_length=1, max_length=MOST
    )
    status = serializers.CharField(max_length=50)
    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    reason = serializers.SlugField(required=False, help_text="A reason's code.")
    restock = serializers.BooleanField(required=False, default=True)
    refund = serializers.BooleanField(required=False, default=True)
    notify = serializers.BooleanField(required=False, default=True)
    contact = ContactSerializer(required=False)
    try_first = serializers.IntegerField(required=False, min_value=1, max_value=MOST_TRIED_FIRST)
    justification = serializers.CharField(required=False, allow_blank=True, max_length=2000)

    def validate_orders(self, numbers: list[str]) -> list[str]:
        return list(dict.fromkeys(number.strip() for number in numbers))

    def validate_status(self, status: str) -> str:
        possible = [Status.CANCELLED, *AT_ONCE, *own_targets()]
        if known_status(status) not in possible:
            words = NotInBulk.message % {"statuses": ", ".join(possible)}
            raise serializers.ValidationError(words)
        return status

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if data["status"] == Status.CANCELLED:
            if "reason" not in data:
                raise serializers.ValidationError({"reason": _("Choose a reason.")})
            return data
        wrong = self.initial_data.keys() & set(self.fields) - {"orders", "status", "note"}
        if wrong:
            words = _("This does not go with the status “%(status)s”.") % {"status": data["status"]}
            raise serializers.ValidationError(dict.fromkeys(sorted(wrong), words))
        return data


class BulkUpdateView(DeskView):
    """POST /api/v1/orders/bulk_update."""

    @extend_schema(
        operation_id="updateOrdersInBulk",
        summary="Cancel many orders, or bring them to a status",
        description=(
            f"`cancelled`: up to {MOST} orders, done by workers; 202 and the run's address, where its state, counts "
            f"and items stand. `approved`, `preparing`, `delivered`, and statuses of the shop's own that a step "
            f"leads to: up to {MOST_AT_ONCE}, done at once; 200 and a result for each, as each is decided by itself."
        ),
        tags=["Staff"],
        parameters=[key_header(required=False, words="Required for `cancelled`: stock and money move.")],
        request=BulkUpdateSerializer,
        examples=[
            OpenApiExample(
                "Cancel",
                value={"orders": ["100000042", "100000043"], "status": "cancelled", "reason": "out_of_stock"},
                request_only=True,
            )
        ],
        responses={
            200: OpenApiResponse(
                OBJECT,
                description="What became of each",
                examples=[
                    OpenApiExample(
                        "One of two",
                        value={
                            "done": 1,
                            "refused": 1,
                            "results": [
                                {"order": "100000042", "status": "approved", "code": None, "message": None},
                                {
                                    "order": "100000043",
                                    "status": "shipped",
                                    "code": "wrong_status",
                                    "message": "This is not possible while the order is “Shipped”.",
                                },
                            ],
                        },
                    )
                ],
            ),
            202: OpenApiResponse(OBJECT, description="Workers do it, or it waits for approval: see its address"),
            **REFUSALS,
        },
    )
    def post(self, request: Request) -> Response:
        asked = read(BulkUpdateSerializer, request)
        handler = handler_of(request)
        status, numbers = asked.pop("status"), asked.pop("orders")
        if status != Status.CANCELLED and len(numbers) > MOST_AT_ONCE:
            raise TooManyAtOnce(params={"most": MOST_AT_ONCE}, field="orders")
        orders = orders_seen_by(handler, numbers)

        def answer() -> Response:
            if status == Status.CANCELLED:
                return self._cancel(request, handler, orders, asked)
            return self._bring(handler, orders, status, asked.get("note", ""))

        return answer_keyed(request, required=status == Status.CANCELLED, answer=answer)

    def _cancel(self, request: Request, handler: EventHandler, orders: list[Order], asked: dict[str, Any]) -> Response:
        choices = dict(asked)
        if contact := choices.pop("contact", None):
            choices["contact"] = Contact(**contact)
        run = handler.start_bulk_run(orders=[(order.pk, order.version) for order in orders], **choices)
        return Response(shown_run(request, run), status=202)

    def _bring(self, handler: EventHandler, orders: list[Order], status: str, note: str) -> Response:
        """Each by itself: one that is refused leaves the others alone."""
        told: dict[int, Refused] = {}
        with transaction.atomic():
            handler.lock_in_order([order.number or "" for order in orders])
            for order in orders:
                try:
                    bring(handler, order, status, {"note": note})
                except Refused as no:
                    told[order.pk] = no
        now = dict(Order.objects.filter(pk__in=[order.pk for order in orders]).values_list("pk", "status"))
        results = [
            {
                "order": order.number,
                "status": now[order.pk],
                "code": told[order.pk].code if order.pk in told else None,
                "message": str(told[order.pk]) if order.pk in told else None,
            }
            for order in orders
        ]
        return Response({"done": len(orders) - len(told), "refused": len(told), "results": results})


def orders_seen_by(handler: EventHandler, numbers: list[str]) -> list[Order]:
    """The orders of these numbers, in their order. Raises OrderNotFound, which names those that are not there."""
    found = {order.number: order for order in Order.objects.of(handler.actor).filter(number__in=numbers)}
    if missing := [number for number in numbers if number not in found]:
        words = _("There is no such order: %(numbers)s.")
        shown = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        raise OrderNotFound(words, params={"numbers": shown}, field="orders")
    return [found[number] for number in numbers]


def shown_run(request: Request, run: BulkRun) -> dict[str, Any]:
    rows = run.items.order_by().values_list("state").annotate(Count("pk"))
    counts: Counter[str] = Counter(dict(rows))
    return {
        "id": str(run.uuid),
        "url": reverse("orders:bulk-run", args=[run.uuid], request=request),
        "status": run.status,
        "orders": sum(counts.values()),
        "counts": {state: counts[state] for state in BulkItem.State.values},
        "created_at": run.created_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
    }


class BulkRunView(DeskView):
    """GET /api/v1/bulk_runs/{uuid}/."""

    @extend_schema(
        operation_id="getBulkRun",
        summary="What has become of a bulk cancellation",
        description="Its status, how many of its orders are in which state, and they themselves by page "
        "(`page`, `limit`).",
        tags=["Staff"],
        responses={
            200: OpenApiResponse(OBJECT),
            401: NOT_LOGGED_IN,
            403: FORBIDDEN,
            404: errors("No such bulk cancellation, or page", error_code="bulk_run_not_found"),
            429: TOO_MANY,
        },
    )
    def get(self, request: Request, uuid: Any) -> Response:
        actor = staff_actor_of(request)
        actor.require(VIEW)
        run = runs_of(actor).filter(uuid=uuid).first()
        if run is None:
            raise NoSuchRun
        pages = Pages()
        rows = run.items.select_related("order", "cancellation").order_by("position")
        page: list[BulkItem] = pages.paginate_queryset(rows, request, view=self) or []
        items = pages.get_paginated_response([shown_item(item) for item in page]).data
        return Response({**shown_run(request, run), "items": items})


def shown_item(item: BulkItem) -> dict[str, Any]:
    return {
        "order": item.order.number,
        "state": item.state,
        "code": item.code or None,
        "message": item.words or None,
        "cancellation": str(item.cancellation.uuid) if item.cancellation else None,
    }
