"""Sample contexts, with which every template can be rendered and looked at."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _

from notifications.rules.events import Event
from shop import money


def sample(event: Event) -> dict[str, Any]:
    """This will make up a context for previews and checks, in the active language.

    Names and products have characters that go wrong where escaping or encoding does.
    """
    return _sample_of_approval(event) if event.audience == "staff" else _sample_of_order(event)


def _sample_of_order(event: Event) -> dict[str, Any]:
    kettle, cups = _sample_of_goods()
    whole: dict[str, Any] = {
        "number": "1000042",
        "customer_name": "Zoë O’Neill-Weiß",
        "store": {"name": "Haus & Herd", "address": "Lange Straße 12\n10243 Berlin", "email": "hello@example.com"},
        "status_label": str(event.label),
        "placed_on": "2026-11-21",
        "currency": "EUR",
        "lines": [kettle, cups],
        "subtotal": "138.90",
        "discount": "10.00",
        "shipping": "4.90",
        "tax": "21.37",
        "total": "133.80",
        "shipping_address": ["Zoë O’Neill-Weiß", "Am Kanal 3", "10999 Berlin", _("Germany")],
        "payment": {"label": _("Credit card ending in 4242"), "status": _("Paid"), "instructions": ""},
        "order_url": "https://shop.example.com/orders/1000042",
    }
    extra = _sample_of_extras(kettle, cups)
    whole |= {name: extra[name] for name in extra if name in event.shows}
    if event.code in {"order_paid", "payment_failed", "order_cancelled"} or whole.get("whole"):
        whole["amount"] = whole["total"]
    if event.code in {"order_delivered", "order_cancelled", "cancellation_queued"} or whole.get("whole"):
        whole["units"] = [kettle, cups]
    if event.code in {"orders_cancelled", "cancellation_confirmed"}:
        whole["status_label"] = _("Cancelled")
    if event.code == "cancellation_queued":
        whole["status_label"] = _("Preparing")
    if event.code == "orders_cancelled":
        whole["number"] = whole["order_url"] = ""
    if event.code == "payment_failed":
        whole["payment"] |= {"status": _("Not paid")}
    if event.code == "order_reinstated":
        whole["payment"] = {"label": _("Bank transfer"), "instructions": "Haus & Herd\nDE02 1203 0000 0000 2020 51"}
    if event.code == "ready_for_pickup":
        whole["shipping_address"] = [whole["store"]["name"], *whole["store"]["address"].splitlines()]
    return whole


def _sample_of_goods() -> tuple[dict[str, Any], dict[str, Any]]:
    kettle = {"name": "Kettle “Ida” 1.7 l", "sku": "KET-17-GR", "quantity": 1, "unit_price": "89.00", "total": "89.00"}
    cups = {"name": "Cups & saucers <set of 4>", "sku": "CUP-4", "quantity": 2, "unit_price": "24.95", "total": "49.90"}
    return kettle, cups


def _sample_of_extras(kettle: dict[str, Any], cups: dict[str, Any]) -> dict[str, Any]:
    """The names that only some events have."""
    return {
        "units": [{**cups, "quantity": 1, "total": "24.95"}],
        "carrier": "DHL",
        "tracking_number": "00340434161094042557",
        "tracking_url": "https://carrier.example.com/track/00340434161094042557",
        "amount": "24.95",
        "refund_destination": _("Credit card ending in 4242"),
        "reason": _("No longer needed"),
        "whole": True,
        "contact_channel": _("Telephone"),
        "contact_at": "2026-11-21T14:30:00+00:00",
        "pay_by": "2026-11-24T14:30:00+00:00",
        "return_instructions": _("Put the code into the parcel <in large letters> & hand it to the driver."),
        "pickup_date": "2026-11-26",
        "pickup_hours": "9–12",
        "deduction": "4.90",
        "not_refunded": _("Express: €5.00 more than the standard delivery is not refunded."),
        "declared_at": "2026-11-21T14:30:05+00:00",
        "stated_email": "zoe@example.com",
        "stated_text": "Die Tassen <Set> passen nicht & der Kessel auch.",
        "units_cancelled": [kettle],
        "units_back": [{**cups, "quantity": 1, "total": "24.95"}],
        "units_asked": [{**cups, "quantity": 1, "total": "24.95"}],
        "send_back_by": "2026-12-05",
        "possible_until": "2026-11-20",
        "return_code": "R7K2M9QXA",
        "label_url": "https://shop.example.com/orders/returns/label/R7K2M9QXA:sample/",
        "orders": [
            {
                "number": "1000042",
                "placed_on": "2026-11-21",
                "currency": "EUR",
                "units": [kettle, cups],
                "amount": "133.80",
                "refund_destination": _("Credit card ending in 4242"),
            },
            {
                "number": "1000057",
                "placed_on": "2026-11-22",
                "currency": "EUR",
                "units": [cups],
                "amount": "49.90",
                "refund_destination": _("Credit card ending in 4242"),
            },
        ],
    }


def _sample_of_approval(event: Event) -> dict[str, Any]:
    amount = money.shown(Decimal("133.80"), "EUR")
    whole: dict[str, Any] = {
        "approver_name": "Jürgen Şahin",
        "requester_name": "Amélie D’Souza",
        "number": "1000042",
        "order_count": 1,
        "store": {"name": "Haus & Herd", "address": "", "email": ""},
        "stage": _("Preparing"),
        "reason": _("Out of stock"),
        "justification": _("The last kettle <Ida> is broken & cannot be ordered again."),
        "value": amount,
        "refund": amount,
        "policies": [_("Being prepared"), _("More than %(amount)s") % {"amount": money.shown(Decimal(100), "EUR")}],
        "url": "https://shop.example.com/admin/orders/approval/17/change/",
    }
    extra: dict[str, Any] = {
        "deadline": "2026-11-21T18:30:00+00:00",
        "unanswered_by": _("Store managers"),
        "decision": "approved",
        "decided_by": whole["approver_name"],
        "note": _("Fine. Please offer another kettle."),
        "outcome": _("The order has been cancelled, and the refund is on its way."),
    }
    return whole | {name: extra[name] for name in extra if name in event.shows}
