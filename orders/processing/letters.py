"""What a message to the customer is made of: a snapshot in plain values, so that a later change does not reach it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone, translation

from orders.models import Facts, Order, OrderLine
from shop.money import rounded


def order_context(
    order: Order, facts: Facts, *, units: Mapping[int, int] | None = None, **extra: Any
) -> dict[str, Any]:
    """The context of an order's message.

    units  line id → how many units this message is about
    extra  plain values of the event itself: tracking_number, amount, reason, …
    """
    currency = order.currency
    # In the customer's language, whoever it was that acted.
    with translation.override(order.language):
        status_label = str(order.status_label)

    def money(amount: Any) -> str:
        return str(rounded(amount, currency))

    def line_context(line: OrderLine, quantity: int) -> dict[str, Any]:
        return {
            "name": line.name,
            "sku": line.sku,
            "quantity": quantity,
            "unit_price": money(line.unit_price),
            "total": money(line.unit_price * quantity),
            "image": line.image,
        }

    context: dict[str, Any] = {
        "number": order.get_number(),
        "customer_name": order.customer_name,
        "store": {"name": order.store.name, "address": order.store.address, "email": order.store.email},
        "status_label": status_label,
        "placed_on": timezone.localdate(order.placed_at).isoformat(),
        "currency": currency,
        "lines": [line_context(line, line.quantity) for line in facts.lines],
        "subtotal": money(order.items_total),
        "discount": money(order.discount_total),
        "shipping": money(order.shipping_total),
        "tax": money(order.tax_total),
        "total": money(order.total),
        "shipping_address": order.shipping_address.as_lines() if order.shipping_address else [],
        "tax_included": order.prices_include_tax,
        "payment": {"label": order.payment_method_name},
    }
    if units is not None:
        context["units"] = [line_context(line, units[line.pk]) for line in facts.lines if line.pk in units]
    context.update({name: str(value) if value is not None else "" for name, value in extra.items()})
    return context
