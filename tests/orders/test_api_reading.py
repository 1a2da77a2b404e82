"""Staff and their programs read orders: page after page, by filters, of their own stores only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders.models import Order
from orders.processing import EventHandler
from shop.models import Store, User
from tests import factories
from tests.orders.programs import Asker, program
from tests.orders.storefront import assert_errors, new_customer

PATH = "/api/v1/orders/"
Place = Callable[..., Order]
Staff = Callable[..., User]
pytestmark = pytest.mark.django_db


def numbers(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [order["number"] for order in answer.json()["results"]]


def test_pages_follow_one_another_while_orders_come_in(place: Place, store: Store, manager: User) -> None:
    asker, orders = program(manager), [place(store=store) for _n in range(5)]
    newest = [order.number for order in reversed(orders)]
    first = asker.get(f"{PATH}?limit=2")
    assert (numbers(first), first.json()["previous"]) == (newest[:2], None)
    late = place(store=store)
    second = asker.get(first.json()["next"])
    third = asker.get(second.json()["next"])
    assert (numbers(second), numbers(third)) == (newest[2:4], newest[4:])
    assert third.json()["next"] is None
    assert numbers(asker.get(third.json()["previous"])) == newest[2:4]
    assert numbers(asker.get(f"{PATH}?limit=1")) == [late.number]


@pytest.mark.parametrize("query", ["cursor=x", "cursor=cD14", "cursor=cD0lMDA%3D", "cursor=%FF"])
def test_a_cursor_that_somebody_made_up_is_404(query: str, manager: User) -> None:
    assert_errors(program(manager).get(f"{PATH}?{query}"), 404)


def test_filters_find_what_they_say(place: Place, staff: Staff, store: Store, system: EventHandler) -> None:
    other = factories.StoreFactory(code="north")
    old, fresh, sent = place(store=store), place(store=other, email="Ada@Example.com"), place(until="shipped")
    Order.objects.filter(pk=old.pk).update(placed_at=datetime(2026, 1, 31, 23, 0, tzinfo=UTC))
    asker = Asker(staff("Admin"))

    def found(**query: Any) -> set[str]:
        return set(numbers(asker.get(f"{PATH}?{urlencode(query, doseq=True)}")))

    everything = {order.number for order in (old, fresh, sent)}
    assert found() == found(placed__gte=" ") == everything
    assert found(status="shipped") == {sent.number}
    assert found(status=["shipped", old.status]) == everything
    assert found(placed__lte="2026-01-31") == found(placed__gte="2026-01-31", placed__lte="2026-01-31") == {old.number}
    assert found(placed__gte="2026-01-31T23:00:01Z") == {fresh.number, sent.number}
    assert found(store="north") == found(email="ada@example.COM") == found(number=fresh.number) == {fresh.number}
    since = Order.objects.order_by("-updated_at").values_list("updated_at", flat=True)[0] + timedelta(microseconds=1)
    assert found(updated__gte=since.isoformat()) == set()
    system.approve(number=fresh.number or "")
    assert found(updated__gte=since.isoformat()) == {fresh.number}
    for query, field in (
        ("status=lost", "status"),
        ("placed__gte=yesterday", "placed__gte"),
        ("placed__lte=%00", "placed__lte"),
        ("statsu=shipped", "statsu"),
        ("email=%00", "email"),
        (f"number={'9' * 99}", "number"),
        ("updated__gte=9999-12-31T23:59:59-12:00", "updated__gte"),
    ):
        assert list(assert_errors(asker.get(f"{PATH}?{query}"), 400)) == [field, "error_code"]


def test_nobody_reads_orders_of_other_stores_or_without_the_scope(
    place: Place, staff: Staff, store: Store, manager: User
) -> None:
    mine, foreign = place(store=store), place()
    one = f"{PATH}{mine.number}/"
    for asker in (Asker(manager), program(manager, "orders:read")):
        assert numbers(asker.get(PATH)) == [mine.number]
        assert asker.get(one).json()["number"] == mine.number
        assert_errors(asker.get(f"{PATH}{foreign.number}/"), 404)
    assert numbers(program(staff("Admin"), "orders:read").get(PATH)) == [foreign.number, mine.number]
    for path in (PATH, one):
        for asker in (program(manager, "orders:cancel"), Asker(new_customer()), Asker(staff(None, store))):
            assert_errors(asker.get(path), 403)
        assert_errors(Asker().get(path), 401)
        assert_errors(Asker(secret="desk_none").get(path), 401)
    for number in ("%00", "x" * 99, "0"):
        assert_errors(Asker(manager).get(f"{PATH}{number}/"), 404)


def test_an_order_is_shown_with_its_lines_money_and_requests(
    place: Place, store: Store, manager: User, system: EventHandler
) -> None:
    order = place([("10.00", 3)], store=store, shipping="5.00", until="paid", extra={"annotation": "Ring twice"})
    line = order.lines.get()
    system.ship(number=order.number or "", lines={line.pk: 2}, tracking_number="1Z")
    shown = Asker(manager).get(f"{PATH}{order.number}/").json()
    assert (shown["total"], shown["store"], shown["customer"]["email"]) == ("35.00", store.code, order.email)
    (row,) = shown["lines"]
    assert (row["id"], row["quantity"], row["shipped"], row["total"]) == (line.pk, 3, 2, "35.00")
    assert row["parcels"][0]["tracking_number"] == "1Z"
    assert shown["payments"][0]["captured"] == "35.00"
    assert shown["shipping_address"]["city"] == "Berlin"
    assert shown["extra"]["annotation"] == "Ring twice"
    assert "customer" not in str(shown["lines"])


def test_queries_grow_neither_with_orders_nor_with_lines(place: Place, store: Store, manager: User) -> None:
    products = [factories.stocked(store) for _n in range(8)]
    asker = Asker(manager)

    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert asker.get(path).status_code == 200
        return len(queries)

    few = place(products[:1], store=store, until="shipped")
    before = count(PATH), count(f"{PATH}{few.number}/")
    for _n in range(3):
        many = place(products, store=store, until="shipped")
    assert (count(PATH), count(f"{PATH}{many.number}/")) == before
    assert max(before) <= 10, before
