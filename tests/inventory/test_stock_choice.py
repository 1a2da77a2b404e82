"""Choosing the location that serves a line."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inventory.models import Location
from inventory.services import OutOfStock, choose_stock
from shop.models import Store

pytestmark = pytest.mark.django_db


@pytest.fixture
def backroom(store) -> Location:
    return Location.objects.create(code="backroom", name="Back room", store=store, priority=5)


def test_the_lowest_priority_that_can_serve_all_units_is_used(stocked, store, backroom):
    first = stocked(2)
    second = stocked(9, location=backroom, product=first.product)
    for wanted, record in [(1, first), (2, first), (3, second)]:
        assert choose_stock(quantities={first.product_id: wanted}, store_id=store.pk) == {first.product_id: record}


def test_among_equals_where_most_is_available(stocked, store, backroom):
    Location.objects.filter(pk=backroom.pk).update(priority=0)
    first = stocked(9, allocated=5)
    second = stocked(6, location=backroom, product=first.product)
    assert choose_stock(quantities={first.product_id: 1}, store_id=store.pk)[first.product_id] == second


def test_units_are_not_gathered_from_two_locations_and_the_refusal_tells_what_one_has(stocked, store, backroom):
    first = stocked(2, name="Mug")
    second = stocked(3, location=backroom, product=first.product)
    with pytest.raises(OutOfStock) as refused:
        choose_stock(quantities={first.product_id: 4}, store_id=store.pk)
    assert refused.value.shortages == [(second.pk, "Mug", 4, 3)]


def test_other_stores_and_closed_locations_do_not_count(stocked, store, backroom):
    elsewhere = Location.objects.create(code="x", name="X", store=Store.objects.create(code="x", name="X"))
    closed = stocked(9, location=backroom, name="Mug")
    stocked(9, location=elsewhere, product=closed.product)
    Location.objects.filter(pk=backroom.pk).update(is_active=False)
    with pytest.raises(OutOfStock) as refused:
        choose_stock(quantities={closed.product_id: 1}, store_id=store.pk)
    assert refused.value.shortages == [(None, "Mug", 1, 0)]
    assert str(refused.value) == "“Mug” is out of stock."


def test_products_that_do_not_track_stock_pass_through(stocked, new_product, store):
    tracked, voucher = stocked(1), new_product(track_stock=False)
    chosen = choose_stock(quantities={voucher.pk: 500, tracked.product_id: 1}, store_id=store.pk)
    assert chosen == {tracked.product_id: tracked}
    assert choose_stock(quantities={voucher.pk: 500}, store_id=store.pk) == {}
    assert choose_stock(quantities={}, store_id=store.pk) == {}


def test_every_short_product_is_reported_and_the_first_ones_named(new_product, store):
    products = [new_product(name=f"Mug {letter}") for letter in "ABCDE"]
    with pytest.raises(OutOfStock) as refused:
        choose_stock(quantities={product.pk: 1 for product in products}, store_id=store.pk)
    assert len(refused.value.shortages) == 5
    assert str(refused.value).startswith("“Mug A” is out of stock. “Mug B”")
    assert str(refused.value).endswith("2 more products are short.")


def test_unknown_products_and_no_units_are_programming_errors(new_product, store):
    with pytest.raises(ValueError):
        choose_stock(quantities={999_999: 1}, store_id=store.pk)
    with pytest.raises(ValueError):
        choose_stock(quantities={new_product().pk: 0}, store_id=store.pk)


@pytest.mark.parametrize("lock", [False, True])
def test_choosing_takes_two_queries_however_many_products(lock, stocked, store):
    records = [stocked(5) for _ in range(20)]
    for rows in (1, 5, 20):
        with CaptureQueriesContext(connection) as queries:
            choose_stock(quantities={r.product_id: 2 for r in records[:rows]}, store_id=store.pk, lock=lock)
        assert len(queries) == 2
