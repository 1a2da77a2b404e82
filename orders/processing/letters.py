"""What a message to the customer is made of: a snapshot in plain values, so that a later change does not reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.utils import timezone, translation

from orders import rules
from orders.models import Cancellation, CancellationReason, Facts, Order, OrderLine
from payments import services as payments
from payments.models import Refund
from payments.rules import AS_PAID, Destination
from shop.money import ZERO, rounded

if TYPE_CHECKING:
    from orders.processing.cancelling import Contact


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be: its event, and what its context has beside the order."""

    event: str
    extra: dict[str, Any]


def cancellation_letter(
    facts: Facts,
    plan: rules.Plan,
    reason: CancellationReason | None,
    *,
    contact: Contact,
    destination: Destination = AS_PAID,
) -> Letter:
    """What the customer is told of a cancellation: a confirmation, where it was they who asked a person for it."""
    order = facts.order
    with translation.override(order.language):
        # A customer is told the reason only where it is one that customers may choose themselves.
        extra: dict[str, Any] = {"reason": reason.label if reason and reason.shown_to_customers else ""}
        if plan.refund:
            extra["amount"] = str(rounded(plan.refund, plan.currency))
            extra["refund_destination"] = told_destination(order, plan, destination)
        if plan.dearer:
            extra["not_refunded"] = rules.dearer_words(order, plan.dearer)
        if not contact.name or contact.at is None:
            return Letter(plan.messages[0] if plan.messages else "", extra)
        known = contact.channel in set(Cancellation.Channel.values) - {Cancellation.Channel.OTHER}
        extra["contact_channel"] = str(Cancellation.Channel(contact.channel).label) if known else ""
        extra["contact_at"] = timezone.localtime(contact.at).isoformat()
        extra["whole"] = plan.ends_order
    return Letter("cancellation_confirmed", extra)


def told_destination(order: Order, plan: rules.Plan, destination: Destination) -> str:
    """Where a plan's money goes, in the active language: “25 points”. As it came: by the payment method's name."""
    if not destination:
        return order.payment_method_name
    amounts: dict[str, Decimal] = {}
    for part in plan.refunds:
        amounts[part.gateway] = amounts.get(part.gateway, ZERO) + part.amount
    return _where(amounts, destination.gateway, destination.iban)


def sent_to(order: Order, refund: Refund) -> str:
    """Where a refund has gone, in the customer's language."""
    amounts: dict[str, Decimal] = {}
    for row in refund.transactions.select_related("payment").order_by("pk"):
        amounts[row.gateway] = amounts.get(row.gateway, ZERO) + row.amount
    with translation.override(order.language):
        return _where(amounts, refund.destination, refund.bank_iban)


def _where(amounts: Mapping[str, Decimal], destination: str, iban: str) -> str:
    return ", ".join(
        payments.destination_shown(gateway, amount, iban=iban if gateway == destination else "")
        for gateway, amount in amounts.items()
    )


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
        delivered_to = order.shipping_address.as_lines() if order.shipping_address else []

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
        "shipping_address": delivered_to,
        "tax_included": order.prices_include_tax,
        "payment": {"label": order.payment_method_name},
    }
    if units is not None:
        context["units"] = [line_context(line, units[line.pk]) for line in facts.lines if line.pk in units]
    for name, value in extra.items():
        # As a text, False would be true in a template.
        context[name] = value if isinstance(value, bool) else str("" if value is None else value)
    return context
