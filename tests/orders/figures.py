"""Cancellations and their figures as tests write them, and the page that shows them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from bs4 import BeautifulSoup
from django.test import Client
from django.utils import timezone

from orders.models import Cancellation, CancellationFigure, Order
from orders.processing import get_event_handler
from shop.actors import Actor

PAGE, LIST, CSV = (f"/admin/orders/cancellationfigure/{part}" for part in ("", "list/", "csv/"))
OUTCOME = Cancellation.Status


def recorded(order: Order, **fields: Any) -> Cancellation:
    """A cancellation that has not taken effect: it waits, or was rejected."""
    defaults = {
        "order": order,
        "status": OUTCOME.REJECTED,
        "version": order.version,
        "stage": order.status,
        "units": 1,
        "currency": order.currency,
        "value": Decimal("10.00"),
        "actor_kind": "staff",
        "requested_by_name": "Ada",
        "created_at": timezone.now(),
    }
    return Cancellation.objects.create(**{**defaults, **fields})


def cancelled(order: Order, *, actor: Actor | None = None, lines: Any = None, reason: str = "changed_mind") -> Any:
    """Cancelled through the handler, with its row."""
    handler = get_event_handler(actor or Actor.system())
    event = handler.cancel(number=order.number, lines=lines, reason=reason)
    return Cancellation.objects.get(event=event)


def figure(order: Order, *, day: date | None = None, **fields: Any) -> CancellationFigure:
    """A figure as the worker would have written it, without the cancellation that would lead to it."""
    day = day or timezone.localdate()
    defaults = {
        "cancellation": recorded(order),
        "number": order.number,
        "store": order.store,
        "at": datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
        "day": day,
        "placed_day": day,
        "outcome": OUTCOME.DONE,
        "reason_code": "changed_mind",
        "category": "customer_requested",
        "stage": "approved",
        "actor_kind": "system",
        "currency": "EUR",
        "value": Decimal("10.00"),
        "units": 1,
        "ends_order": True,
        "is_open": False,
    }
    return CancellationFigure.objects.create(**{**defaults, **fields})


def page_of(client: Client, **query: Any) -> BeautifulSoup:
    answer = client.get(PAGE, query)
    assert answer.status_code == 200
    return BeautifulSoup(answer.content, "html.parser")


def exported(client: Client, **query: Any) -> list[dict[str, str]]:
    answer = client.get(CSV, query)
    assert answer.status_code == 200
    return list(csv.DictReader(io.StringIO(answer.getvalue().decode("utf-8-sig"), newline="")))


def many_figures(order: Order, rows: Sequence[dict[str, Any]]) -> None:
    """Figures that differ from the usual one in what each row says, in two statements."""
    pattern = figure(order)
    usual = {f.attname: getattr(pattern, f.attname) for f in pattern._meta.concrete_fields if not f.primary_key}
    pattern.delete()
    made = Cancellation.objects.bulk_create(
        Cancellation(
            order=order, status="outdated", version=1, stage="approved", units=1, currency="EUR",
            actor_kind="system", requested_by_name="", created_at=pattern.at,
        )
        for _row in rows
    )  # fmt: skip
    CancellationFigure.objects.bulk_create(
        CancellationFigure(cancellation=cancellation, **{**usual, **row})
        for cancellation, row in zip(made, rows, strict=True)
    )
