"""Many hands on one number series: every number once, none missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from orders.models import Document, DocumentKind, DocumentSeries
from orders.processing import get_event_handler
from shop.actors import Actor
from shop.models import Store
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.race]


def issue(number: str) -> Any:
    return get_event_handler(Actor.system()).issue_invoice(number=number)


@pytest.mark.parametrize("known", [True, False])
def test_four_invoices_at_once_have_four_numbers_in_a_row(
    known: bool, at_once: Callable[..., list[Any]], books: Callable[[], list[str]]
) -> None:
    """Also where none of them finds the series and all four make it."""
    store: Store = factories.StoreFactory()
    if known:
        DocumentSeries.objects.create(store=store, kind=DocumentKind.INVOICE, prefix="INV-")
    orders = [factories.place_order(store=store) for _n in range(4)]
    results = at_once(*[lambda number=order.number: issue(number) for order in orders])
    assert sorted(d.number for d in results) == ["INV-00001", "INV-00002", "INV-00003", "INV-00004"]
    assert books() == []


def test_one_invoice_comes_of_four_clicks(at_once: Callable[..., list[Any]], books: Callable[[], list[str]]) -> None:
    order = factories.place_order()
    results = at_once(*[lambda: issue(order.number)] * 4)
    assert sum(isinstance(result, Document) for result in results) == 1
    assert [d.sequence for d in Document.objects.all()] == [1]
    assert books() == []


@pytest.mark.postgres
def test_without_the_lock_two_invoices_would_want_one_number(
    at_once: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the series read without its lock; the constraint is the last net."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    import threading

    from orders.processing.documents import Documenting

    store: Store = factories.StoreFactory()
    DocumentSeries.objects.create(store=store, kind=DocumentKind.INVOICE)
    orders = [factories.place_order(store=store) for _n in range(2)]
    both_looked = threading.Barrier(2, timeout=60)

    def unlocked(self: Any, store_id: int, kind: str) -> DocumentSeries:
        series = DocumentSeries.objects.get(store=store_id, kind=kind)
        both_looked.wait()
        return series

    monkeypatch.setattr(Documenting, "_locked_series", unlocked)
    results = at_once(*[lambda number=order.number: issue(number) for order in orders])
    assert sorted(type(result).__name__ for result in results) == ["Document", "IntegrityError"]
