"""Webhooks: what other systems may ask to be told of orders, and how long the desk tries."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy

from shop.errors import Words

WEBHOOK_TEST = "webhook.test"
WEBHOOK_EVENTS: Mapping[str, Words] = {
    "order.placed": gettext_lazy("An order was placed"),
    "order.status_changed": gettext_lazy("An order’s status changed"),
    "order.cancelled": gettext_lazy("Units of an order were cancelled, some or all"),
    "order.shipped": gettext_lazy("Units were shipped"),
    "order.delivered": gettext_lazy("Units arrived"),
    "order.returned": gettext_lazy("Units came back"),
    "order.refunded": gettext_lazy("A refund was decided"),
    "order.changed": gettext_lazy("Anything else happened to an order"),
}
# Seconds after the first, second, … failed attempt: a good three days together.
WEBHOOK_SCHEDULE = (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
