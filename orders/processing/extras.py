"""What the storefront sent along when an order was bought: which names the shop gave it, and what stands there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from orders.models import Order

# What the desk itself keeps in an order's `extra`, and acts by: no storefront may write it.
OF_THE_DESK = frozenset(
    {"annotation", "carrier", "cart", "invoice_number", "payment_instructions", "tracking_url_template"}
)


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that the storefront sent along. label: what the shop calls it."""

    name: str
    label: str | Promise
    value: Any

    @property
    def text(self) -> str:
        """The value as a person reads it."""
        return _in_words(self.value)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_in_words(inner)}" for name, inner in value.items())
    return "–" if value in (None, "") else str(value)


def told_extra(order: Order) -> list[Told]:
    """This will list what a storefront sent along with an order, by the fields of ORDER_EXTRA_SERIALIZER.

    Anything else in the order's `extra` is the desk's or the handler's own, and is nobody's to see.
    """
    kept = order.extra if isinstance(order.extra, dict) else {}
    declared = import_string(settings.ORDER_EXTRA_SERIALIZER)().fields
    return [
        Told(name, field.label or name, kept[name])
        for name, field in declared.items()
        if name in kept and name not in OF_THE_DESK
    ]
