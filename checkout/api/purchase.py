"""The doors where a cart becomes an order, is paid again after a decline, and is ordered once more."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from checkout import services
from checkout.api import serializers as shapes
from checkout.api.carts import CartDoor
from checkout.api.frame import CheckoutView, answer_once, not_ready, order_key, scope_of
from checkout.models import Cart, PaymentMethod
from orders.api import completed_token
from orders.api.shown import status_of
from orders.models import Order, OrderNotFound
from orders.processing import get_event_handler, pay_now
from shop.api import key_of, keyed
from shop.errors import Invalid


class PaysOnDelivery(Invalid):
    code = "pays_on_delivery"
    message = _("An order that was to be paid in advance cannot be paid on delivery.")


def order_out(order: Order) -> dict[str, Any]:
    """What the customer hears of an order and its payment."""
    order = Order.objects.get(pk=order.pk)
    shown = {
        "id": order.pk,
        "pk": order.pk,
        "number": order.number,
        "status": status_of(order.status),
        "payment": services.payment_outcome(order=order),
        "next_action": services.payment_next_action(order=order),
        "total": shapes.money(order.total, order.currency),
        "currency": order.currency,
        "email": order.email,
        "completed": completed_token(number=order.number or ""),
        "payment_instructions": order.extra.get("payment_instructions", ""),
    }
    return dict(shapes.PurchaseOut(shown).data)


class PurchaseView(CheckoutView):
    @extend_schema(
        operation_id="purchase",
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                required=True,
                description="New for each order, the same for each repetition.",
            )
        ],
        request=shapes.PurchaseIn,
        responses={
            201: shapes.PurchaseOut,
            400: shapes.REFUSED,
            404: shapes.REFUSED,
            409: shapes.REFUSED,
            422: shapes.REFUSED,
        },
    )
    def post(self, request: Request) -> Response:
        """Order the cart: once per Idempotency-Key and once per cart, whole or not at all.

        409 names what keeps it from being ordered, by field (`items.<id>`). The order exists whatever the payment says:
        after `declined`, pay again at /orders/{number}/pay/.
        """
        key = key_of(request, required=True)
        body = shapes.PurchaseIn(data=request.data)
        body.is_valid(raise_exception=True)
        scope = scope_of(self, "purchase")
        try:
            return answer_once(
                request,
                scope=scope,
                key=key,
                decide=lambda: self._order(body.validated_data, order_key(scope, key)),
                find=lambda: self._ordered(body.validated_data, order_key(scope, key)),
                tell=order_out,
                status=201,
            )
        except services.CartNotReady as no:
            return not_ready(no)

    def _order(self, data: dict[str, Any], key: str) -> Order:
        cart = self.the_cart(data.get("cart"))
        parts = [services.PaymentPart(**part) for part in data.get("payments") or []]
        return services.purchase(
            cart_id=cart.pk,
            actor=self.buyer(email=cart.email),
            idempotency_key=key,
            payments=services.choices_of(cart=cart, parts=parts) if parts else None,
            payment_details=data["payment_details"],
            use_credit=services.CreditUse(loyalty=data["use_loyalty"], store_credit=data["use_store_credit"]),
            expected_total=data.get("total"),
            annotation=data.get("annotation", ""),
            extra=data["extra"],
            as_of=timezone.now(),
        )

    def _ordered(self, data: dict[str, Any], key: str) -> Order:
        """The order that this request made before: by its key, or by its cart where another key had ordered that."""
        order = Order.objects.filter(idempotency_key=key).first()
        if order is None:
            cart: Cart = self.the_cart(data.get("cart"))
            order = Order.objects.filter(number=cart.order_number or None).first()
        if order is None:
            raise services.CartNotFound
        return order


class PayView(CheckoutView):
    @extend_schema(
        operation_id="orders_pay",
        parameters=[
            OpenApiParameter(
                "Idempotency-Key", str, OpenApiParameter.HEADER, description="So that a repetition is none."
            )
        ],
        request=shapes.PayIn,
        responses={200: shapes.PurchaseOut, 400: shapes.REFUSED, 404: shapes.REFUSED, 409: shapes.REFUSED},
    )
    def post(self, request: Request, number: str) -> Response:
        """Pay what is outstanding of an order, after a decline; perhaps another way."""
        body = shapes.PayIn(data=request.data)
        body.is_valid(raise_exception=True)
        key = key_of(request, required=False)
        handler = get_event_handler(self.buyer_of(number))

        def find() -> Order:
            order = (
                Order.objects.of(handler.actor).select_related("store").filter(**Order.resolve_number(number)).first()
            )
            if order is None:
                raise OrderNotFound
            return order

        def decide() -> Order:
            gateway = self._gateway(find(), body.validated_data.get("method"))
            return handler.pay_again(number=number, gateway=gateway, details=body.validated_data["details"])

        if key:
            scope = scope_of(self, "pay")
            return answer_once(request, scope=scope, key=key, decide=decide, find=find, tell=order_out, status=200)
        order = decide()
        pay_now(order.number or "")
        return Response(order_out(order))

    def _gateway(self, order: Order, code: str | None) -> str:
        method = PaymentMethod.objects.filter(code=code or order.payment_method).first()
        if method is None or not method.is_offered_by(order.store):
            raise services.NotOffered(params={"code": code or order.payment_method}, field="method")
        if method.pays_on_delivery:
            raise PaysOnDelivery(field="method")
        return method.gateway


class ReorderView(CartDoor):
    @extend_schema(operation_id="orders_reorder", request=None, responses={200: shapes.ReorderOut, 404: shapes.REFUSED})
    @keyed()
    def post(self, request: Request, number: str) -> Response:
        """Put an order's goods into the cart again, and tell what is gone, short or has another price."""
        orders = Order.objects.of(self.buyer_of(number)).select_related("store")
        order = orders.filter(**Order.resolve_number(number)).first()
        if order is None:
            raise OrderNotFound
        cart = self.open_cart(order.store)
        told = services.reorder(order=order, cart_id=cart.pk, as_of=timezone.now())
        shown = self.show(cart, cart.store).data
        return Response({"cart": shown, "not_added": shapes.NotReaddedOut(told, many=True).data})
