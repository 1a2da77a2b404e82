"""What a partial cancellation does to the deal: a discount or free shipping that asked for more goods than are left.

"Keep the deal" is the default: nothing is priced anew. A cancel rule may say "re-price" instead; then what the goods
that stay would have cost without what they no longer earn is taken off the refund, once, and given back when in the
end nothing stays. Pure: the conditions were frozen with the order (Order.deal).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

from django.utils.translation import gettext as _

from orders.models import Facts, OrderLine
from shop.money import ZERO, first_units, rounded, shown


class DealtDiscount(TypedDict):
    """A discount that was granted from a value of goods on. Amounts as text, in the order's currency."""

    name: str
    amount: str
    minimum: str


class Deal(TypedDict, total=False):
    """What the prices of an order depended on. free_from: shipping was free from this value on; shipping: else."""

    discounts: list[DealtDiscount]
    free_from: str
    shipping: str


@dataclass(frozen=True, slots=True)
class Repriced:
    """amount: what is kept of the refund (below zero: given back with it). because: why, a sentence each."""

    amount: Decimal = ZERO
    because: tuple[str, ...] = ()


NOT_REPRICED = Repriced()


def reprice(facts: Facts, cancelled: Mapping[int, int], *, value: Decimal, waiting: Decimal = ZERO) -> Repriced:
    """This will price what stays anew. cancelled: line id → units; value: what goes back for them otherwise.

    waiting  what a cancellation that can still be undone will have kept; it is completed first

    What was kept by earlier cancellations is not kept again, and no more is kept than goes back: money that has not
    been paid yet is asked for at the prices of the deal.
    """
    order = facts.order
    stays = {line.pk: line.live - cancelled.get(line.pk, 0) for line in facts.lines}
    lost = list(_lost(facts, stays)) if any(stays.values()) else []
    owed = sum((amount for amount, _words in lost), ZERO)
    before = Decimal(order.repriced_total) + waiting
    amount = min(owed - before, value)
    if amount < 0 and any(stays.values()):
        # Of reinstated units that are still unpaid: what was never paid is not given back.
        amount = min(ZERO, amount + max(ZERO, -facts.unapplied))
    return Repriced(amount, tuple(words for _amount, words in lost) if amount > 0 else ())


def no_longer_kept(facts: Facts, gone: Mapping[int, int]) -> Decimal:
    """This will say what of the money that was kept for what stays is to be given back, when these units are gone too.

    gone  line id → units that come back; none, where units have just been reinstated. Never more than was kept; goods
          that come back cost nobody a discount.
    """
    before = Decimal(facts.order.repriced_total)
    stays = {line.pk: line.live - gone.get(line.pk, 0) for line in facts.lines}
    lost = _lost(facts, stays) if before and any(stays.values()) else ()
    return max(ZERO, before - sum((amount for amount, _words in lost), ZERO))


def lost_by_now(facts: Facts) -> Decimal:
    """What the goods that stay no longer earn: what of the price would be kept, had all others been cancelled at once.

    Nothing where nothing stays.
    """
    stays = {line.pk: line.live for line in facts.lines}
    return sum((amount for amount, _words in _lost(facts, stays)), ZERO) if any(stays.values()) else ZERO


def _lost(facts: Facts, stays: Mapping[int, int]) -> Iterator[tuple[Decimal, str]]:
    order, currency = facts.order, facts.order.currency
    deal: Deal = order.deal
    goods = sum((_share(line, line.items_total, stays, currency) for line in facts.lines), ZERO)
    discount = sum((_share(line, line.discount_total, stays, currency) for line in facts.lines), ZERO)
    granted = gone = ZERO  # of what stays: discounts that are no longer earned, rounded in sum and not one by one
    for one in deal.get("discounts", []):
        minimum = Decimal(one["minimum"])
        if goods < minimum and order.discount_total:
            granted += Decimal(one["amount"])
            part = rounded(discount * granted / order.discount_total, currency) - gone
            gone += part
            params = {"name": one["name"], "minimum": shown(minimum, currency), "left": shown(goods, currency)}
            words = _("“%(name)s” needs goods for %(minimum)s; goods for %(left)s are left.") % params
            yield part, words
    left = goods - (discount - gone)
    if "free_from" in deal and left < Decimal(deal["free_from"]):
        params = {"minimum": shown(Decimal(deal["free_from"]), currency), "left": shown(left, currency)}
        words = _("Shipping is free from %(minimum)s on; goods for %(left)s are left.") % params
        yield Decimal(deal["shipping"]), words


def _share(line: OrderLine, total: Decimal, stays: Mapping[int, int], currency: str) -> Decimal:
    return first_units(total, line.quantity, stays[line.pk], currency)


def deal_of(
    *, discounts: list[tuple[str, Decimal, Decimal]], free_from: Decimal | None, shipping: Decimal
) -> dict[str, Any]:
    """This will write down what the prices of an order depend on, with nothing in it where they depend on nothing.

    discounts  (name, amount, from what value of goods on)
    free_from  from what value on shipping was free, if it was; shipping: what it would have cost
    """
    conditional = [
        DealtDiscount(name=name, amount=str(amount), minimum=str(minimum))
        for name, amount, minimum in discounts
        if minimum
    ]
    deal: dict[str, Any] = {"discounts": conditional} if conditional else {}
    if free_from is not None and shipping:
        deal |= {"free_from": str(free_from), "shipping": str(shipping)}
    return deal
