"""The cart's doors, and what can be chosen for it: products, shipping and payment methods."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.middleware.csrf import get_token
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from checkout import services
from checkout.api import serializers as shapes
from checkout.api.frame import CheckoutView, address_errors
from checkout.models import Cart
from checkout.rules import AddressInvalid, printable, shipping_price
from inventory.models import Product
from shop.api import Pages, keyed
from shop.models import Store

STORE = OpenApiParameter("store", str, description="Code of the store; default: the first one.")


class CartDoor(CheckoutView):
    """Base of doors that answer with a cart."""

    def show(self, cart: Cart | None, store: Store, status: int = 200) -> Response:
        now = timezone.now()
        # A cart that nobody has opened yet is shown, not stored.
        cart = cart or Cart(store=store, customer=self.customer, created_at=now, updated_at=now)
        return Response(shapes.cart_out(services.contents(cart=cart, as_of=now), self.request), status=status)


class CartView(CartDoor):
    """The open cart of whoever asks, in one store."""

    @extend_schema(
        operation_id="cart_retrieve", parameters=[STORE], responses={200: shapes.CartOut, 404: shapes.REFUSED}
    )
    def get(self, request: Request) -> Response:
        """The cart. Also sets the CSRF cookie that guests need to change it."""
        get_token(request._request)
        store = self.store()
        return self.show(self.find_cart(store), store)

    @extend_schema(
        operation_id="cart_create",
        request=shapes.CartOpenIn,
        responses={201: shapes.CartOut, 400: shapes.REFUSED, 404: shapes.REFUSED},
    )
    def post(self, request: Request) -> Response:
        """Open a cart; where one is open it is given instead."""
        shapes.CartOpenIn(data=request.data).is_valid(raise_exception=True)
        store = self.store()
        return self.show(self.open_cart(store), store, status=201)

    @extend_schema(
        operation_id="cart_update",
        parameters=[STORE],
        request=shapes.CartIn,
        responses={200: shapes.CartOut, 400: shapes.REFUSED, 404: shapes.REFUSED},
    )
    def patch(self, request: Request) -> Response:
        """Set e-mail, methods, addresses, discount code; what is not named stays, null takes it away."""
        body = shapes.CartIn(data=request.data)
        body.is_valid(raise_exception=True)
        changes = {name: value for name, value in body.validated_data.items() if name != "store"}
        try:
            with transaction.atomic():  # refused, it opens no cart either
                cart = self.open_cart(self.store())
                cart = services.change_cart(cart_id=cart.pk, changes=changes, as_of=timezone.now())
        except AddressInvalid as no:
            raise address_errors(no) from no
        return self.show(cart, cart.store)


class ItemsView(CartDoor):
    @extend_schema(
        operation_id="cart_items_create",
        request=shapes.ItemIn,
        responses={201: shapes.CartOut, 400: shapes.REFUSED, 404: shapes.REFUSED, 409: shapes.REFUSED},
    )
    @keyed()
    def post(self, request: Request) -> Response:
        """Put units of a product into the cart, on top of those that are there."""
        body = shapes.ItemIn(data=request.data)
        body.is_valid(raise_exception=True)
        data = body.validated_data
        wanted = {"product_id": data["product"], "quantity": data["quantity"]}
        with transaction.atomic():
            cart = self.open_cart(self.store())
            services.add_item(cart_id=cart.pk, as_of=timezone.now(), **wanted)
        return self.show(cart, cart.store, status=201)

    @extend_schema(
        operation_id="cart_items_destroy_all",
        parameters=[STORE],
        responses={200: shapes.CartOut, 404: shapes.REFUSED},
    )
    def delete(self, request: Request) -> Response:
        """Take everything out of the cart."""
        cart = self.the_cart()
        services.empty(cart_id=cart.pk, as_of=timezone.now())
        return self.show(cart, cart.store)


class ItemView(CartDoor):
    @extend_schema(
        operation_id="cart_items_update",
        parameters=[STORE],
        request=shapes.ItemChangeIn,
        responses={200: shapes.CartOut, 400: shapes.REFUSED, 404: shapes.REFUSED, 409: shapes.REFUSED},
    )
    def patch(self, request: Request, item_id: int) -> Response:
        """Set how many units of an item are wanted."""
        body = shapes.ItemChangeIn(data=request.data)
        body.is_valid(raise_exception=True)
        cart = self.the_cart()
        quantity = body.validated_data["quantity"]
        services.change_item(cart_id=cart.pk, item_id=item_id, quantity=quantity, as_of=timezone.now())
        return self.show(cart, cart.store)

    @extend_schema(
        operation_id="cart_items_destroy", parameters=[STORE], responses={200: shapes.CartOut, 404: shapes.REFUSED}
    )
    def delete(self, request: Request, item_id: int) -> Response:
        """Take an item out of the cart."""
        cart = self.the_cart()
        services.remove_item(cart_id=cart.pk, item_id=item_id, as_of=timezone.now())
        return self.show(cart, cart.store)


class ShippingMethodsView(CheckoutView):
    @extend_schema(
        operation_id="shipping_methods_list",
        parameters=[STORE],
        responses={200: shapes.ShippingMethodOut(many=True), 404: shapes.REFUSED},
    )
    def get(self, request: Request) -> Response:
        """The ways to ship that a store offers, with their price for the open cart."""
        store = self.store()
        cart = self.find_cart(store)
        goods = None
        if cart is not None:
            sums = services.totals(cart=cart, as_of=timezone.now())
            goods = sums.items - sums.discount
        rows = services.ways_to_ship(store=store)
        return Response(
            shapes.ShippingMethodOut(
                [
                    shapes.shipping_method_out(
                        method,
                        method.price if goods is None else shipping_price(method, goods=goods, currency=store.currency),
                    )
                    for method in rows
                ],
                many=True,
            ).data
        )


class PaymentMethodsView(CheckoutView):
    @extend_schema(
        operation_id="payment_methods_list",
        parameters=[STORE],
        responses={200: shapes.PaymentMethodOut(many=True), 404: shapes.REFUSED},
    )
    def get(self, request: Request) -> Response:
        """The ways to pay that a store offers."""
        offered = [shapes.payment_method_out(row) for row in services.ways_to_pay(store=self.store())]
        return Response(shapes.PaymentMethodOut(offered, many=True).data)


class ProductsView(CheckoutView):
    pagination_class = Pages

    @extend_schema(
        operation_id="products_list",
        parameters=[
            STORE,
            OpenApiParameter("search", str, description="Words that name or SKU contain, all of them."),
            OpenApiParameter("page", int),
            OpenApiParameter("limit", int, description="Size of a page, at most 100."),
        ],
        responses={200: shapes.ProductPage, 404: shapes.REFUSED},
    )
    def get(self, request: Request) -> Response:
        """What a store sells, and how much of it can be had."""
        store, pages = self.store(), Pages()
        found = services.products_of(store=store, search=printable(request.query_params.get("search", "")))
        page = list(pages.paginate_queryset(found, request, view=self) or [])
        tracked = [product.pk for product in page if product.track_stock]
        available = services.available_units(product_ids=tracked, store_id=store.pk)
        return pages.get_paginated_response([self._show(product, available) for product in page])

    def _show(self, product: Product, available: dict[int, int]) -> dict[str, Any]:
        most = max(0, available.get(product.pk, 0)) if product.track_stock else None
        shown = {
            **shapes.product_summary(product, self.request),
            "description": product.description,
            "price": shapes.money(product.price, product.currency),
            "currency": product.currency,
            "in_stock": most is None or most > 0,
            "max_quantity": most,
        }
        return dict(shapes.ProductOut(shown).data)
