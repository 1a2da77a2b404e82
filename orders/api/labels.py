"""The door to print a return's label: whoever has the address from the mail may, guests too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from orders.api.base import StorefrontView, errors
from orders.models import Document, Return
from orders.processing.printing import code_of_label, page_of
from shop.csp import HEADER, policy
from shop.errors import NotFound


class LabelView(StorefrontView):
    """GET /orders/returns/label/{signed code}/."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes = (AllowAny,)
    http_method_names = ["get", "head", "options"]

    @extend_schema(
        operation_id="getReturnLabel",
        summary="A return's label, to print",
        description="A page. The address is in the mail that approves the return, and in `easy_return.label_url`.",
        tags=["Orders of the customer"],
        responses={(200, "text/html"): OpenApiTypes.STR, 404: errors("No such label")},
    )
    def get(self, request: Request, signed: str) -> Any:
        parcel = Return.objects.filter(code=code_of_label(signed)).first()
        if parcel is None:
            raise NotFound
        label = Document.objects.filter(cause__startswith=f"return_label:{parcel.pk}:").order_by("-pk").first()
        if label is None:
            raise NotFound
        answer = HttpResponse(page_of(label, back="/shop/orders/"))
        answer["X-Robots-Tag"] = "noindex"
        answer[HEADER] = policy()
        return answer
