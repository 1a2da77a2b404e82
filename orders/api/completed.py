"""The page after the purchase: an order by its signed, short-lived number, as HTML or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.template.loader import render_to_string
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.base import NOT_LOGGED_IN, StorefrontView, errors, orders_of
from orders.api.serializers import CompletedSerializer
from orders.api.shown import shown
from orders.models import OrderNotFound
from orders.processing.policies import rulebook
from shop.api import actor_of

SALT = "orders.completed"
# Nothing but the page's own style and the products' pictures.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src * data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def completed_token(*, number: str) -> str:
    """This will sign an order's number for the address of its page: no comma, slash or dot in it."""
    return TimestampSigner(salt=SALT).sign(number)


def _number_of(token: str) -> str:
    """Raises OrderNotFound for a forged and for an expired one alike."""
    max_age = settings.COMPLETED_ORDER_MAX_AGE_SECONDS
    try:
        return TimestampSigner(salt=SALT).unsign(token, max_age=max_age)
    except BadSignature:
        raise OrderNotFound from None


class PageRenderer(BaseRenderer):
    """The answer as a page; the template gets what the view put into the response's data."""

    media_type = "text/html"
    format = "html"
    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> str:
        context = renderer_context or {}
        response, request = context["response"], context["request"]
        name = "orders/problem.html" if response.status_code >= 400 else "orders/completed.html"
        values = {"status": response.status_code, "errors": data} if response.status_code >= 400 else data
        return render_to_string(name, values, request=request)


class FormatFirst(DefaultContentNegotiation):
    """`?format=json` is JSON, whatever the Accept header would rather have: a browser's asks for a page."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        named = request.query_params.get("format")
        if not named:
            return super().select_renderer(request, renderers, format_suffix)
        chosen = self.filter_renderers(list(renderers), named)[0]
        return chosen, str(chosen.media_type)


class CompletedView(StorefrontView):
    """GET /orders/completed/{signed number}/."""

    renderer_classes = (PageRenderer, JSONRenderer)
    content_negotiation_class = FormatFirst
    http_method_names = ["get", "head", "options"]

    @extend_schema(
        operation_id="getCompletedOrder",
        summary="A completed order, by its signed number",
        description="A page; with `?format=json` the order as JSON. The signature holds for a limited time.",
        tags=["Order Management"],
        parameters=[OpenApiParameter("format", str, enum=["json", "html"])],
        responses={
            (200, "application/json"): CompletedSerializer,
            (200, "text/html"): OpenApiTypes.STR,
            (401, "application/json"): NOT_LOGGED_IN,
            (404, "application/json"): errors(
                "Unknown, forged, expired or another customer's",
                non_field_errors="There is no such order.",
                error_code="order_not_found",
            ),
        },
    )
    def get(self, request: Request, signed: str) -> Response:
        number = _number_of(signed)
        order = orders_of(actor_of(request)).select_related("store").filter(number=number).first()
        if order is None:
            raise OrderNotFound
        found = shown(order, book=rulebook(), as_of=timezone.now())
        if isinstance(request.accepted_renderer, PageRenderer):
            return Response({"order": order, "lines": found.lines, "discounts": found.discounts})
        return Response(CompletedSerializer(found, context={"request": request}).data)

    def handle_exception(self, exc: Exception) -> Response:
        """Errors are JSON for programs, whatever the default; a person's browser asks for text/html by name."""
        by_browser = "text/html" in self.request.headers.get("Accept", "")
        if not (by_browser and isinstance(getattr(self.request, "accepted_renderer", None), PageRenderer)):
            self.request.accepted_renderer = JSONRenderer()
            self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        answered = super().finalize_response(request, response, *args, **kwargs)
        answered["Referrer-Policy"] = "same-origin"  # the address holds the token
        answered["Content-Security-Policy"] = PAGE_POLICY
        answered["X-Robots-Tag"] = "noindex"
        return answered
