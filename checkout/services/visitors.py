"""Whose cart a visitor's session means: the customer's, or a guest's, known by the ids that the session keeps."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import datetime
from typing import Any
from uuid import UUID

from checkout.models import Cart
from checkout.services.carts import find_cart, take_over
from orders.models import Order
from shop.actors import Actor
from shop.models import User

# In the session: ids of a guest's carts, open and ordered; and the customer who has taken them over.
CARTS, TAKEN_OVER = "carts", "carts_taken_over_by"
MOST_CARTS = 20

Session = MutableMapping[str, Any]


def guest_ids(session: Session) -> list[UUID]:
    """This will read the public ids of the carts that a session has opened as a guest's."""
    return [UUID(text) for text in session.get(CARTS, [])]


def remember(session: Session, cart: Cart) -> None:
    """This will keep a guest's cart in the session; the oldest of many are forgotten."""
    session[CARTS] = [*session.get(CARTS, []), str(cart.public_id)][-MOST_CARTS:]


def visitors_cart(*, session: Session, customer: User | None, store_id: int, as_of: datetime) -> Cart | None:
    """This will find the open cart of whoever visits, in a store.

    At the first look after a log-in, a guest's carts become the customer's.
    """
    known = guest_ids(session)
    if customer is not None and known and session.get(TAKEN_OVER) != customer.pk:
        take_over(customer=customer, guest_ids=known, as_of=as_of)
        session[TAKEN_OVER] = customer.pk
    return find_cart(store_id=store_id, customer=customer, guest_ids=known)


def buyer_of(*, session: Session, customer: User | None, number: str) -> Actor:
    """This will say as whom a visitor asks about an order: the customer, or the guest whose session has its cart."""
    if customer is not None:
        return Actor.customer(customer)
    carts = Cart.objects.filter(public_id__in=guest_ids(session), customer=None, status=Cart.Status.ORDERED)
    orders = Order.objects.filter(number__in=carts.values("order_number"), **Order.resolve_number(number))
    return Actor.guest(orders.values_list("email", flat=True).first() or "")
