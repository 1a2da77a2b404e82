"""A customer's cancellation about which another system is asked, and what has become of the units."""

from __future__ import annotations

from orders.models import CancellationReason, ExternalCall, Order
from shop.models import User
from tests.orders.storefront import Browser


def number(order: Order) -> str:
    return order.number or ""


def units(order: Order) -> list[tuple[int, ...]]:
    return [(x.cancelled, x.withheld, x.shipped, x.returned) for x in order.lines.order_by("position")]


def ask(order: Order, customer: User, wanted: dict[int, int]) -> ExternalCall:
    """The customer cancels some units; the call to the other system that comes of it."""
    reason = CancellationReason.objects.get(code="changed_mind").pk
    items = [
        {"order_item": pk, "cancellation_type": "cancel", "reason": reason, "quantity": n} for pk, n in wanted.items()
    ]
    answer = Browser(customer).cancel(order, *items)
    assert answer.status_code in {200, 204}, answer.content
    return ExternalCall.objects.filter(order=order, origin="customer").latest("pk")
