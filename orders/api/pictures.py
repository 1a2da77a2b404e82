"""The door to look at a picture that came with a request: for its owner, and for staff of the store who see orders."""

from __future__ import annotations

import uuid as uuids
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from orders.api.base import NOT_LOGGED_IN, StorefrontView, errors
from orders.models import RequestPicture
from shop.api import actor_of, desk_actor_of
from shop.errors import NotFound

VIEW = "orders.view_order"


class PictureView(StorefrontView):
    """GET /users/orders/pictures/{uuid}/."""

    http_method_names = ["get", "head", "options"]

    @extend_schema(
        operation_id="getRequestPicture",
        summary="A picture of a cancellation request",
        tags=["Orders of the customer"],
        responses={(200, "image/jpeg"): OpenApiTypes.BINARY, 401: NOT_LOGGED_IN, 404: errors("No such picture")},
    )
    def get(self, request: Request, uuid: uuids.UUID) -> Any:
        customer, desk = actor_of(request), desk_actor_of(request)
        picture = RequestPicture.objects.select_related("request__order").filter(uuid=uuid).first()
        if picture is None:
            raise NotFound
        order = picture.request.order
        if order.customer_id != customer.user_id and not desk.may(VIEW, store_id=order.store_id):
            raise NotFound
        answer = HttpResponse(bytes(picture.content), content_type="image/jpeg")
        answer["Content-Disposition"] = "inline; filename=picture.jpg"
        answer["X-Content-Type-Options"] = "nosniff"
        return answer
