"""What else the checkout collected of an order and its lines, shown by a shop's own templates where it has any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string, select_template

from orders.models import Order, OrderLine
from orders.processing.extras import told_extra

PRODUCT = "product"


def order_extra(order: Order) -> str:
    """An order's `extra` as the shop's template shows it; without one, what the storefront sent along with it."""
    shown = _shown(["order-extra.html"], order.extra, order=order)
    told = [] if shown else told_extra(order)
    return render_to_string("admin/orders/order/extra.html", {"told": told}) if told else shown


def line_extra(order: Order, line: OrderLine) -> str:
    """A line's attributes by the template of its type of product (attribute `product_type`), or of any product."""
    attributes = line.attributes if isinstance(line.attributes, Mapping) else {}
    kind = str(attributes.get("product_type") or PRODUCT).lower()
    kinds = dict.fromkeys([kind, PRODUCT] if re.fullmatch(r"[\w-]{1,50}", kind) else [PRODUCT])
    return _shown([f"orderitem-{one}-extra.html" for one in kinds], attributes, order=order, line=line)


def _shown(names: list[str], extra: Mapping[str, Any], **more: Any) -> str:
    labels = dict.fromkeys([settings.SHOP_APP_LABEL, "shop"])
    try:
        template = select_template([f"{label}/admin/{name}" for name in names for label in labels])
    except TemplateDoesNotExist:
        return ""
    return template.render({**extra, "extra": extra, **more})
