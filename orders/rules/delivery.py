"""What a delivery dearer than the standard one cost more: of a withdrawal, the shop need not give that back. Pure.

Directive 2011/83/EU, article 13(2). The standard is frozen with the order (Order.shipping_standard); where it is not
known, nothing is kept. Each unit carries its share of it, as it carries its share of the shipping costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.utils.translation import gettext as _

from orders.models import Facts, Order, OrderLine
from shop.money import ZERO, next_units, rounded, shown, split


def dearer_delivery(facts: Facts, units: Mapping[int, int], *, before: Mapping[int, int] | None = None) -> Decimal:
    """What of these units' price was paid for a dearer delivery. units: line id → units whose money goes back.

    before  line id → units whose money is given back first, beside those that have been refunded
    """
    shares, currency = _shares(facts), facts.order.currency
    if not shares:
        return ZERO
    kept = ZERO
    for line in facts.lines:
        count, after = units.get(line.pk, 0), line.refunded + (before or {}).get(line.pk, 0)
        # A share's cent may be rounded up where the unit's own is rounded down: never more than what goes back for it.
        value = line.price_of_next(count, after=after, currency=currency)
        kept += min(value, next_units(shares[line.pk], line.quantity, after, count, currency))
    return kept


def dearer_of_withdrawal(
    facts: Facts, *, cancel: Mapping[int, int], back: Mapping[int, int], keeps_of_cancelled: bool
) -> Decimal:
    """What of a withdrawal's price will not be given back, as far as it is paid: now, and when its goods have come.

    cancel, back  line id → units that are cancelled now, and that are to be sent back
    """
    now, later = dict[int, int](), dict[int, int]()
    for line in facts.lines:
        spare = line.paid - line.refunded - line.live
        cancelled = cancel.get(line.pk, 0)
        now[line.pk] = max(0, spare + cancelled)
        later[line.pk] = max(0, spare + cancelled + back.get(line.pk, 0)) - now[line.pk]
    kept = dearer_delivery(facts, now) if keeps_of_cancelled else ZERO
    return kept + dearer_delivery(facts, later, before=now)


def dearer_words(order: Order, amount: Decimal) -> str:
    """How people are told of it, in the active language; nothing where nothing is kept."""
    if not amount:
        return ""
    method = order.shipping_method_name or _("The delivery that was chosen")
    params = {"method": method, "amount": shown(amount, order.currency)}
    return _("%(method)s: %(amount)s more than the standard delivery is not refunded.") % params


def _shares(facts: Facts) -> dict[int, Decimal]:
    """Each line's part of it, shared out as its shipping costs were, with the tax on it."""
    order = facts.order
    if order.shipping_standard is None or order.shipping_standard >= order.shipping_total:
        return {}
    more = order.shipping_total - order.shipping_standard
    parts = split(more, [line.shipping_total for line in facts.lines], order.currency)
    return {line.pk: _with_tax(line, part) for line, part in zip(facts.lines, parts, strict=True)}


def _with_tax(line: OrderLine, part: Decimal) -> Decimal:
    order = line.order
    return part if order.prices_include_tax else part + rounded(part * line.tax_rate / 100, order.currency)
