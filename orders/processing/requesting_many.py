"""What a customer asks for across several orders: requests for a person to decide, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from orders.models import CancellationRequest, Order, OrderNotFound
from orders.processing.requesting import NO_TERMS, Requesting, Terms, Wish
from shop import maintenance
from shop.errors import Refused

POSITION = "cancel_order_items."


class RequestingMany(Requesting):
    def request_across_orders(
        self, *, wishes: Sequence[tuple[int, Wish]], terms: Terms = NO_TERMS
    ) -> list[CancellationRequest]:
        """This will write down what a customer wants of several orders, for a person to decide: all of it or nothing.

        wishes  order id and wish, in the order in which they were asked for

        Nothing is cancelled at once, whatever the shop's rules allow; during maintenance the requests wait, as those of
        `cancel_or_request` do. Returns the requests in the order of the wishes. Locks the orders by primary key.
        Raises OrderNotFound and what `request_cancellation` raises; a field is then named by its place in `wishes`.
        """
        places: dict[int, list[int]] = {}
        for place, (order_id, _wish) in enumerate(wishes):
            places.setdefault(order_id, []).append(place)
        made: dict[int, CancellationRequest] = {}
        ask = self.request_cancellation if maintenance.current() is None else self.queue_requests
        with transaction.atomic():
            orders = Order.objects.of(self.actor).placed().filter(pk__in=places).order_by("pk")
            numbers = dict(orders.values_list("pk", "number"))
            if len(numbers) != len(places):
                raise OrderNotFound
            for order_id, number in numbers.items():
                asked = places[order_id]
                try:
                    requests = ask(number=number or "", wishes=[wishes[place][1] for place in asked], terms=terms)
                except Refused as no:
                    no.field = _renamed(no.field, asked)
                    raise
                made.update(zip(asked, requests, strict=True))
        return [made[place] for place in sorted(made)]


def _renamed(field: str, places: Sequence[int]) -> str:
    """cancel_order_items.0.quantity of one order's wishes, by its place among all of them."""
    place, _dot, rest = field.removeprefix(POSITION).partition(".")
    if not field.startswith(POSITION) or not place.isdigit():
        return field
    return f"{POSITION}{places[int(place)]}.{rest}"
