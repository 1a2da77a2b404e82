"""A series of recurring orders as tests begin it and look at it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from orders.models import Order, RecurringOrder
from orders.processing import get_event_handler
from shop.actors import Actor
from tests import factories


def begun(*, days_ago: float = 40, unit: str = "month", every: int = 1, **order: Any) -> RecurringOrder:
    """A series whose first order was placed so many days ago, begun on that day."""
    then = timezone.now() - timedelta(days=days_ago)
    first = factories.place_order(**order)
    Order.objects.filter(pk=first.pk).update(placed_at=then)
    handler = get_event_handler(Actor.system(), as_of=then)
    return handler.start_recurring(number=first.number or "", unit=unit, every=every)


def numbers(series: RecurringOrder) -> list[int]:
    return list(series.orders.order_by("occurrence").values_list("occurrence", flat=True))


def history(series: RecurringOrder) -> list[str]:
    return list(series.changes.values_list("what", flat=True))
