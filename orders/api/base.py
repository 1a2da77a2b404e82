"""What every door of the storefront shares: no caching, one way to find an order, documented errors and cookies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.utils.cache import patch_cache_control, patch_vary_headers
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from orders.models import (
    CancellationRequest,
    Order,
    OrderAddress,
    OrderLine,
    OrderNotFound,
    OrderQuerySet,
    RequestPicture,
    ShippingEventQuantity,
)
from shop.actors import Actor
from shop.api import ERRORS, Bearer, PersonThrottle, SessionAuthentication, TokenThrottle, actor_of, refuse_too_large
from shop.errors import Invalid
from shop.models import User

MAX_NUMBER_LENGTH = 64


class StorefrontView(APIView):
    """Base of the storefront's doors: what they answer is one person's and is kept by nobody."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Before anybody is asked for: looking for a CSRF token would read a form, and keep its files.
        refuse_too_large(request, self)
        super().initial(request, *args, **kwargs)
        # A null character is in no number, and PostgreSQL would not take it.
        if "\x00" in (number := str(kwargs.get("number", ""))) or len(number) > MAX_NUMBER_LENGTH:
            raise OrderNotFound

    throttle_classes: Sequence[type[BaseThrottle]] = (PersonThrottle,)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        answered: Response = super().finalize_response(request, response, *args, **kwargs)
        patch_cache_control(answered, private=True, no_store=True)
        patch_vary_headers(answered, ["Accept-Language", "Cookie"])
        return answered


class CodedView(StorefrontView):
    """Base of the doors whose every refusal has an `error_code`: also input that is wrong in itself."""

    def handle_exception(self, exc: Exception) -> Response:
        answered: Response = super().handle_exception(exc)
        if isinstance(exc, exceptions.ValidationError):
            answered.data.setdefault("error_code", [Invalid.code])
        return answered


class AddressBookView(StorefrontView):
    """Base of the doors that take an entry of a customer's address book; orders know of no address book themselves.

    find_address  finds an entry as a copy that is not saved; given with the address of the door
    """

    find_address: Callable[[User, int], OrderAddress | None] | None = None

    def address_of(self, pk: int) -> OrderAddress | None:
        assert isinstance(self.request.user, User)
        return self.find_address(self.request.user, pk) if self.find_address else None


class DeskView(CodedView):
    """Base of the doors of staff: people log in, programs show a token. The handler asks what each of them may do."""

    authentication_classes = (Bearer, SessionAuthentication)
    throttle_classes = (TokenThrottle,)


def orders_of(actor: Actor) -> OrderQuerySet:
    """The orders an actor sees, with all that is shown of them: the same number of queries for any number of lines."""
    shipped = ShippingEventQuantity.objects.filter(event__event_type__code="shipped")
    parcels = shipped.select_related("event").order_by("pk")
    lines = OrderLine.objects.order_by("position").prefetch_related(
        Prefetch("shipping_event_quantities", queryset=parcels),
        Prefetch("cancellation_requests", queryset=requests_shown()),
    )
    found = Order.objects.of(actor).placed().select_related("shipping_address", "billing_address")
    return found.prefetch_related(Prefetch("lines", queryset=lines), "discounts")


def requests_shown() -> QuerySet[CancellationRequest]:
    """Requests with what is shown of them: the parcel and its carrier, and which pictures there are."""
    rows = CancellationRequest.objects.select_related("goods_return__carrier")
    return rows.prefetch_related(Prefetch("pictures", queryset=RequestPicture.without_content()))


def own_order(request: Request, *, number: str) -> Order:
    """The customer's order of this number, with its lines. Raises OrderNotFound for unknown and foreign ones alike."""
    # A null character is no number, and PostgreSQL would not take it.
    if "\x00" in number or len(number) > MAX_NUMBER_LENGTH:
        raise OrderNotFound
    mine = Order.objects.of(actor_of(request)).placed().prefetch_related("lines")
    order = mine.filter(**Order.resolve_number(number)).first()
    if order is None:
        raise OrderNotFound
    return order


# ---------------------------------------------------------------------------------------------------------------
# Documentation


class CookieScheme(OpenApiAuthenticationExtension):
    """Tells the API's documentation what logging in means."""

    target_class = "shop.api.SessionAuthentication"
    name = "cookieAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        words = "The session, as `sessionid` or `osessionid`. Write operations need the header X-CSRFToken as well."
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": words}


class TokenScheme(OpenApiAuthenticationExtension):
    """Tells the API's documentation how programs show who they are."""

    target_class = "shop.api.Bearer"
    name = "tokenAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        words = "A token of a program, made under “API tokens” in the desk. Its scopes and its account bound it."
        return {"type": "http", "scheme": "bearer", "description": words}


def errors(description: str, **example: str) -> OpenApiResponse:
    """This will document an error: an object whose every value is an array of strings."""
    body = {name: [words] for name, words in example.items()}
    examples = [OpenApiExample(description, value=body)] if example else []
    return OpenApiResponse(response=ERRORS, description=description, examples=examples)


NOT_LOGGED_IN = errors(
    "Authentication required",
    non_field_errors="Authentication credentials were not provided.",
    error_code="not_authenticated",
)
NO_CSRF = errors(
    "The CSRF token is missing or wrong",
    non_field_errors="CSRF Failed: CSRF token missing.",
    error_code="permission_denied",
)
NO_ORDER = errors(
    "No such order, or not this customer's", non_field_errors="There is no such order.", error_code="order_not_found"
)
