"""What other systems are told of a decision: which events it is, and the order as it is then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from notifications import services as notifications
from orders.models import Facts, JournalEntry, Order, OrderLine, ShippingEvent
from shop.money import rounded

# What a shipping or payment event is called outside; those that are not here are "order.changed".
TYPES: dict[tuple[str, str], str] = {
    ("shipping", "cancelled"): "order.cancelled",
    ("shipping", "shipped"): "order.shipped",
    ("shipping", "delivered"): "order.delivered",
    ("shipping", "returned"): "order.returned",
    ("payment", "refunded"): "order.refunded",
}


def tell_webhooks(order: Order, facts: Facts, entry: JournalEntry, *, parcels: Sequence[ShippingEvent]) -> None:
    """This will promise other systems the events of a decision that was just written; one query where nobody listens.

    parcels  the shipping events of the decision: carrier and tracking number are theirs
    """
    endpoints = notifications.webhooks.endpoints_for(store_id=order.store_id)
    if not endpoints:
        return
    types = event_types(entry)
    data = snapshot(order, facts, entry, types=types, parcels={event.pk: event for event in parcels})
    customer = customer_of(order) if any(endpoint.with_customer for endpoint in endpoints) else {}
    notifications.webhooks.queue_events(
        [notifications.webhooks.Event(type=name, at=entry.at, data=data, customer=customer) for name in types],
        endpoints=endpoints,
        reference=order.number or "",
        store_id=order.store_id,
        sequence=entry.sequence,
    )


def event_types(entry: JournalEntry) -> list[str]:
    """This will name everything that a decision was, each once: a shipment may also change the status."""
    found: dict[str, None] = {}
    if entry.verb == "place":
        found["order.placed"] = None
    for record in entry.details.get("events", []):
        kind = "shipping" if "shipping" in record else "payment"
        if name := TYPES.get((kind, record["type"])):
            found[name] = None
    if "status" in entry.after and entry.verb != "place":
        found["order.status_changed"] = None
    return list(found) or ["order.changed"]


def snapshot(
    order: Order, facts: Facts, entry: JournalEntry, *, types: list[str], parcels: Mapping[int, ShippingEvent]
) -> dict[str, Any]:
    """This will describe an order and what happened to it, without a word about the customer or about staff.

    Notes and field changes stay out: people write names and addresses into them.
    """

    def money(amount: Decimal) -> str:
        return str(rounded(amount, order.currency))

    return {
        "number": order.get_number(),
        "version": entry.sequence,
        "store": order.store.code,
        "channel": order.channel,
        "status": order.status,
        "status_code": order.status_code,
        "placed_at": order.placed_at.isoformat(),
        "currency": order.currency,
        "totals": {
            "items": money(order.items_total),
            "discount": money(order.discount_total),
            "shipping": money(order.shipping_total),
            "tax": money(order.tax_total),
            "total": money(order.total),
        },
        "lines": [
            {
                "id": line.pk,
                "sku": line.sku,
                "name": line.name,
                "status": line.status,
                "quantity": line.quantity,
                **{counter: getattr(line, counter) for counter in OrderLine.COUNTERS},
                "unit_price": money(line.unit_price),
                "total": money(line.total),
            }
            for line in facts.lines
        ],
        "happened": {
            "types": types,
            "verb": entry.verb,
            "reason": entry.reason,
            "at": entry.at.isoformat(),
            "by": entry.actor_kind,
            "status_before": entry.before.get("status", order.status),
            "events": [_told(record, parcels, money) for record in entry.details.get("events", [])],
        },
    }


def _told(
    record: Mapping[str, Any], parcels: Mapping[int, ShippingEvent], money: Callable[[Decimal], str]
) -> dict[str, Any]:
    """A shipping or payment event, from how the journal keeps it."""
    if "shipping" not in record:
        units = [
            {"line": int(pk), "quantity": count, "amount": money(Decimal(cost))}
            for pk, (count, cost) in record["units"].items()
        ]
        return {"kind": "payment", "type": record["type"], "amount": money(Decimal(record["amount"])), "units": units}
    units = [{"line": int(pk), "quantity": count} for pk, count in record["units"].items()]
    told = {"kind": "shipping", "type": record["type"], "units": units}
    if (parcel := parcels.get(record["shipping"])) and parcel.tracking_number:
        told |= {"carrier": parcel.carrier, "tracking_number": parcel.tracking_number}
    return told


def customer_of(order: Order) -> dict[str, Any]:
    """The customer's data, for endpoints that were set to have it."""
    return {
        "name": order.customer_name,
        "email": order.email,
        "phone": order.phone,
        "shipping_address": order.shipping_address.as_lines(named=False) if order.shipping_address else [],
    }
