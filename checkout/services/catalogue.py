"""What a store offers: products by words, ways to ship and to pay. The API and the pages show the same."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from checkout.models import PaymentMethod, ShippingMethod
from inventory.models import Product
from shop.models import Store

LONGEST_SEARCH, MOST_WORDS = 200, 10


def products_of(*, store: Store, search: str = "") -> QuerySet[Product]:
    """This will find what a store sells, by name.

    search  words that name or SKU contain, all of them; empty: everything
    """
    rows = Product.objects.filter(is_active=True, currency=store.currency).order_by("name", "pk")
    for word in search[:LONGEST_SEARCH].split()[:MOST_WORDS]:
        rows = rows.filter(Q(name__icontains=word) | Q(sku__icontains=word))
    return rows


def ways_to_ship(*, store: Store) -> QuerySet[ShippingMethod]:
    """This will find the ways to ship that a store offers."""
    return ShippingMethod.objects.filter(Q(store=None) | Q(store=store), currency=store.currency, is_active=True)


def ways_to_pay(*, store: Store) -> list[PaymentMethod]:
    """This will find the ways to pay that a store offers."""
    rows = PaymentMethod.objects.filter(Q(store=None) | Q(store=store), is_active=True)
    return [row for row in rows if row.is_offered_by(store)]
