"""What a message to the customer is made of: a snapshot in plain values, so that a later change does not reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone, translation

from orders import rules
from orders.models import Cancellation, CancellationReason, Facts, Order, OrderLine
from shop.money import rounded

if TYPE_CHECKING:
    from orders.processing.cancelling import Contact


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be: its event, and what its context has beside the order."""

    event: str
    extra: dict[str, Any]


def cancellation_letter(
    facts: Facts, plan: rules.Plan, reason: CancellationReason | None, *, contact: Contact
) -> Letter:
    """What the customer is told of a cancellation: a confirmation, where it was they who asked a person for it."""
    order = facts.order
    with translation.override(order.language):
        # A customer is told the reason only where it is one that customers may choose themselves.
        extra: dict[str, Any] = {"reason": reason.label if reason and reason.shown_to_customers else ""}
        if plan.refund:
            extra["amount"] = str(rounded(plan.refund, plan.currency))
            extra["refund_destination"] = order.payment_method_name
        if not contact.name or contact.at is None:
            return Letter(plan.messages[0] if plan.messages else "", extra)
        known = contact.channel in set(Cancellation.Channel.values) - {Cancellation.Channel.OTHER}
        extra["contact_channel"] = str(Cancellation.Channel(contact.channel).label) if known else ""
        extra["contact_at"] = timezone.localtime(contact.at).isoformat()
        extra["whole"] = plan.ends_order
    return Letter("cancellation_confirmed", extra)


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
    for name, value in extra.items():
        # As a text, False would be true in a template.
        context[name] = value if isinstance(value, bool) else str("" if value is None else value)
    return context
