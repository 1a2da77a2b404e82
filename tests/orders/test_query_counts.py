"""The number of SQL queries of a verb does not grow with the number of lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders.processing import EventHandler, Item, PaymentChoice, Placement
from tests import factories

pytestmark = pytest.mark.django_db
SIZES = (1, 5, 20, 50)


def count(verb: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as queries:
        verb()
    return len(queries)


def test_placing_shipping_and_cancelling_take_the_same_queries_for_any_number_of_lines(
    system: EventHandler, work: Callable[[], int], request: pytest.FixtureRequest
) -> None:
    counts: dict[str, dict[int, int]] = {name: {} for name in ("place", "take_payment", "ship", "cancel", "take_back")}
    store = factories.StoreFactory()
    # A store's first delivery note creates its series of numbers.
    factories.place_order(store=store, until="shipped")
    products = [factories.stocked(store) for _n in range(max(SIZES))]
    for size in SIZES:
        items = [Item(product=p, quantity=2, unit_price=p.price) for p in products[:size]]
        placement = Placement(
            store=store,
            items=items,
            payments=[PaymentChoice(gateway="demo")],
            email="a@example.com",
            shipping_address=factories.address(),
        )
        made: list[Any] = []
        counts["place"][size] = count(lambda placement=placement, made=made: made.append(system.place(placement)))
        number = made[0].number
        work()
        system.approve(number=number)
        system.start_preparing(number=number)
        counts["take_payment"][size] = count(lambda number=number: system.take_payment(number=number))
        work()
        lines = {line.pk: 1 for line in made[0].lines.all()}
        counts["ship"][size] = count(lambda number=number, lines=lines: system.ship(number=number, lines=lines))
        counts["cancel"][size] = count(lambda number=number: system.cancel(number=number))
        back = dict.fromkeys(lines, (1, "sellable"))
        counts["take_back"][size] = count(lambda number=number, back=back: system.take_back(number=number, lines=back))
    # Django gives SQLite at most 999 parameters a statement, so that 50 lines of 27 columns take two inserts there.
    slack = 0 if connection.vendor == "postgresql" else 1
    for verb, by_size in counts.items():
        assert max(by_size.values()) - min(by_size.values()) <= slack, f"{verb}: {by_size}"
    print(counts)
    assert counts["ship"][1] <= 32
    assert counts["cancel"][1] <= 42
    assert counts["place"][1] <= 45
