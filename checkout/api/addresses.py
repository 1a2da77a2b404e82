"""The address book's doors, as the storefront contract names and shapes them. Customers only."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from checkout import services
from checkout.api import serializers as shapes
from checkout.api.frame import CheckoutView, SessionOrGuest, address_errors
from checkout.models import Address
from checkout.rules import AddressInvalid, fields_of
from orders.models import OrderAddress
from shop.api import Pages, keyed
from shop.models import User

ANSWERS = {400: shapes.REFUSED, 401: shapes.REFUSED, 404: shapes.REFUSED}


class BookView(CheckoutView):
    """Base of the address book's doors."""

    authentication_classes = [SessionOrGuest]
    permission_classes = [IsAuthenticated]

    @property
    def owner(self) -> User:
        customer = self.customer
        assert customer is not None  # IsAuthenticated
        return customer

    def save(self, request: Request, *, address_id: int | None = None, status: int) -> Response:
        body = shapes.BookEntryIn(data=request.data, partial=address_id is not None)
        body.is_valid(raise_exception=True)
        try:
            saved = services.save_address(
                customer=self.owner, data=body.validated_data, address_id=address_id, as_of=timezone.now()
            )
        except AddressInvalid as no:
            raise address_errors(no) from no
        return Response(shapes.address_out(saved), status=status)


class BookListView(BookView):
    pagination_class = Pages

    @extend_schema(
        operation_id="addresses_list",
        parameters=[OpenApiParameter("page", int), OpenApiParameter("limit", int)],
        responses={200: shapes.BookPage, 401: shapes.REFUSED, 404: shapes.REFUSED},
    )
    def get(self, request: Request) -> Response:
        """The customer's addresses, the newest first."""
        pages = Pages()
        page = pages.paginate_queryset(Address.objects.filter(customer=self.owner).order_by("-pk"), request, view=self)
        return pages.get_paginated_response([shapes.address_out(address) for address in page or []])


class BookCreateView(BookView):
    @extend_schema(
        operation_id="addresses_create", request=shapes.BookEntryIn, responses={201: shapes.BookEntryOut, **ANSWERS}
    )
    @keyed()
    def post(self, request: Request) -> Response:
        """Add an address to the customer's book."""
        return self.save(request, status=201)


class BookEntryView(BookView):
    @extend_schema(
        operation_id="addresses_update", request=shapes.BookEntryIn, responses={200: shapes.BookEntryOut, **ANSWERS}
    )
    def patch(self, request: Request, address_id: int) -> Response:
        """Change an address; what is not named stays. Orders keep the address they were placed with."""
        return self.save(request, address_id=address_id, status=200)

    @extend_schema(operation_id="addresses_destroy", responses={204: None, **ANSWERS})
    def delete(self, request: Request, address_id: int) -> Response:
        """Delete an address from the book."""
        services.delete_address(customer=self.owner, address_id=address_id)
        return Response(status=204)


def own_address(user: User, pk: int) -> OrderAddress | None:
    """A copy, not saved, of an entry of the customer's address book; None if there is no such entry."""
    entry = Address.objects.filter(customer=user, pk=pk).first()
    return None if entry is None else OrderAddress(**fields_of(entry), book_entry=entry.pk)
