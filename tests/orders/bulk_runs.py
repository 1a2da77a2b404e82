"""Bulk runs as tests start them and look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orders.models import BulkRun, Order
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.models import Store, User
from tests import factories

Place = Callable[..., Order]


def handler(user: User) -> EventHandler:
    return get_event_handler(Actor.staff(User.objects.get(pk=user.pk)))


def start(user: User, *orders: Order, **more: Any) -> BulkRun:
    chosen = [(order.pk, order.version) for order in orders]
    return handler(user).start_bulk_run(orders=chosen, **{"reason": "out_of_stock", **more})


def states(run: BulkRun) -> list[tuple[str, str]]:
    return list(run.items.order_by("position").values_list("state", "code"))


def many(place: Place, store: Store, count: int, **more: Any) -> list[Order]:
    """Orders of one product, each of its own customer."""
    product = factories.stocked(store)
    return [place([product], store=store, email=f"c{n}@example.com", **more) for n in range(count)]


def status(run: BulkRun) -> str:
    run.refresh_from_db()
    return run.status
