"""What is in a cart right now: prices, shares of discount, shipping and tax, and what keeps it from being ordered.

Four queries, whatever the number of items. Amounts are computed by the same function that freezes them at placement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import F, Max, Q
from django.utils.translation import gettext_lazy as _

from checkout.models import Cart, CartItem, Discount
from checkout.rules import Problem, granted, shipping_price
from inventory.models import StockRecord
from inventory.services import Shortage
from orders.processing import Discount as Granted
from orders.processing import Item, Placement
from orders.processing.placement import Amounts, amounts_of
from shop.errors import Words
from shop.models import Store
from shop.money import ZERO, rounded

# Below what the database's money fields hold, with room for tax.
MOST_MONEY = Decimal(10) ** 11


def available_units(*, product_ids: Iterable[int], store_id: int) -> dict[int, int]:
    """This will tell how many units of products one order can get in a store: the most that one location has.

    One query. Products that nobody keeps are absent; products that do not track stock mean nothing here.
    """
    rows = StockRecord.objects.filter(product__in=list(product_ids), location__store=store_id, location__is_active=True)
    return dict(rows.order_by().values_list("product").annotate(most=Max(F("on_hand") - F("allocated"))))


def discounts_of(*, store: Store, code: str = "") -> list[Discount]:
    """This will find what a store grants by itself, and for a code; when and from which value is not looked at."""
    wanted = Q(code=None) | Q(code__iexact=code) if code else Q(code=None)
    offered = Q(store=None, currency=store.currency) | Q(store=store, currency=store.currency)
    return list(Discount.objects.filter(wanted, offered, is_active=True).order_by("code", "pk"))


@dataclass(frozen=True, slots=True)
class Contents:
    """A cart as it would be ordered at one moment. Items that are not for sale have no amounts and count for nothing.

    available  product id → units that one order can get; absent: any number
    amounts    item id → its part of the sums; shares of discount, shipping and tax included
    goods      what the items cost, discounts taken off: what the price of shipping depends on
    """

    cart: Cart
    items: Sequence[CartItem]
    available: dict[int, int]
    discounts: Sequence[Granted]
    shipping_price: Decimal
    amounts: dict[int, Amounts]
    problems: Sequence[Problem]
    goods: Decimal = ZERO

    @property
    def totals(self) -> Amounts:
        """Items, discount, shipping, tax and total of the cart, in the store's currency."""
        sums = {name: sum((getattr(a, name) for a in self.amounts.values()), ZERO) for name in Amounts.__slots__}
        return Amounts(**sums)

    @property
    def for_sale(self) -> list[Item]:
        return [as_item(item) for item in self.items if item.pk in self.amounts]


def as_item(item: CartItem) -> Item:
    return Item(product=item.product, quantity=item.quantity, unit_price=item.product.price)


def contents(*, cart: Cart, as_of: datetime) -> Contents:
    """This will look at what is in a cart: see Contents."""
    items = list(cart.items.select_related("product").order_by("position", "pk")) if cart.pk else []
    store = cart.store
    sold = [item for item in items if item.product.is_active and item.product.currency == store.currency]
    tracked = [item.product_id for item in items if item.product.track_stock]
    most = available_units(product_ids=tracked, store_id=store.pk) if tracked else {}
    available = {product_id: most.get(product_id, 0) for product_id in tracked}
    goods = sum((rounded(item.product.price * item.quantity, store.currency) for item in sold), ZERO)
    found = discounts_of(store=store, code=cart.discount_code) if sold else []
    discounts = granted(found, goods=goods, currency=store.currency, as_of=as_of)
    left = goods - sum((d.amount for d in discounts), ZERO)
    shipping = shipping_price(cart.shipping_method if sold else None, goods=left, currency=store.currency)
    preview = Placement(
        store=store,
        items=[as_item(item) for item in sold],
        payments=(),
        email=cart.email,
        discounts=discounts,
        shipping_price=shipping,
    )
    fits = goods + shipping < MOST_MONEY
    amounts = {item.pk: a for item, a in zip(sold, amounts_of(preview), strict=True)} if sold and fits else {}
    found_problems = [*_item_problems(cart, items, available), *_cart_problems(cart, discounts, fits=fits)]
    return Contents(cart, items, available, discounts, shipping, amounts, found_problems, left)


def totals(*, cart: Cart, as_of: datetime) -> Amounts:
    """This will add up a cart: items, discount, shipping, tax, total, in its store's currency."""
    return contents(cart=cart, as_of=as_of).totals


def problems(*, cart: Cart, as_of: datetime) -> Sequence[Problem]:
    """This will name everything that keeps a cart from being ordered, each with the line or field it is about."""
    return contents(cart=cart, as_of=as_of).problems


def _item_problems(cart: Cart, items: Sequence[CartItem], available: dict[int, int]) -> Iterable[Problem]:
    if not items:
        yield Problem("cart_empty", str(_("There is nothing to order: the cart is empty.")), "items")
    for item in items:
        field, product = f"items.{item.pk}", item.product
        if not product.is_active:
            words: Words = _("“%(name)s” is not sold any more. Take it out of the cart.") % {"name": product.name}
            yield _problem("product_inactive", words, field)
        elif product.currency != cart.store.currency:
            params = {"name": product.name, "currency": cart.store.currency}
            yield _problem(
                "price_gone", _("“%(name)s” has no price in %(currency)s. Take it out of the cart.") % params, field
            )
        elif (most := available.get(product.pk)) is not None and most < item.quantity:
            shortage = Shortage(None, product.name, item.quantity, most)
            yield Problem("out_of_stock", str(shortage), field, max_quantity=max(0, most))


def _cart_problems(cart: Cart, discounts: Sequence[Granted], *, fits: bool) -> Iterable[Problem]:
    shipping, payment = cart.shipping_method, cart.payment_method
    if not cart.store.is_active:
        yield _problem("store_closed", _("This store is closed."), "store")
    if not cart.contact:
        yield _problem("email_missing", _("Enter an e-mail address."), "email")
    if shipping is None:
        yield _problem("shipping_method_missing", _("Choose how it is to be sent."), "shipping_method")
    elif not shipping.is_offered_by(cart.store):
        words = _("“%(name)s” is not offered any more; choose another way of shipping.") % {"name": shipping.name}
        yield _problem("shipping_method_gone", words, "shipping_method")
    if payment is None:
        yield _problem("payment_method_missing", _("Choose how you want to pay."), "payment_method")
    elif not payment.is_offered_by(cart.store):
        words = _("“%(name)s” is not offered any more; choose another way of paying.") % {"name": payment.name}
        yield _problem("payment_method_gone", words, "payment_method")
    if not cart.address("shipping") and not (shipping and shipping.is_pickup):
        yield _problem("shipping_address_missing", _("Enter where it is to be sent."), "shipping_address")
    if cart.discount_code and cart.discount_code.casefold() not in {d.code.casefold() for d in discounts}:
        words = _("The discount code “%(code)s” does not apply to this cart; remove it.") % {"code": cart.discount_code}
        yield _problem("discount_not_granted", words, "discount_code")
    if not fits:
        yield _problem("order_too_large", _("This is more than one order can hold; order less at a time."), "items")


def _problem(code: str, words: Words, field: str) -> Problem:
    return Problem(code, str(words), field)
