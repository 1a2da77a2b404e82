"""Rivals for the same units: one gets them, nothing counts twice, nobody waits for ever; and what no guard means."""

from __future__ import annotations

from threading import Barrier

import pytest
from django.db import transaction

from inventory import services
from inventory.models import Location, StockMovement, StockRecord
from inventory.services import Move, OutOfStock

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


def test_one_of_four_buyers_gets_the_last_unit(stocked, levels, at_once):
    for attempt in range(5):
        record = stocked(1)
        moves = [Move(record.pk, 1, f"{attempt}:buyer:{n}") for n in range(4)]
        results = at_once(*[lambda move=move: services.allocate(moves=[move]) for move in moves])
        assert sum(isinstance(result, OutOfStock) for result in results) == 3, results
        assert levels(record) == (1, 1, 0, 0)
    assert list(services.verify()) == []


def test_control_without_the_guard_all_four_get_it(stocked, levels, at_once):
    record, looked = stocked(1), Barrier(4)

    def buy() -> bool:
        row = StockRecord.objects.get(pk=record.pk)
        enough = row.available >= 1
        looked.wait()
        if enough:
            StockRecord.objects.filter(pk=row.pk).update(allocated=row.allocated + 1)
        return enough

    assert at_once(buy, buy, buy, buy) == [True] * 4
    assert levels(record) == (1, 1, 0, 0)
    assert [line for line in services.verify() if "allocated is 1, but its movements add up to 0" in line]


def test_the_same_cause_from_four_sides_at_once_moves_stock_once(stocked, levels, at_once):
    for attempt in range(5):
        record = stocked(10)
        move = Move(record.pk, 3, f"{attempt}:line:1")
        results = at_once(*[lambda move=move: services.allocate(moves=[move])] * 4)
        assert sorted(len(written) for written in results) == [0, 0, 0, 1]
        assert levels(record) == (10, 3, 0, 0)


def test_opposite_orders_of_the_same_records_do_not_deadlock(stocked, levels, at_once):
    records = [stocked(1000) for _ in range(4)]

    def work(n: int) -> int:
        mine = records if n % 2 else records[::-1]
        for turn in range(5):
            moves = [Move(record.pk, 1, f"{n}:{turn}:{record.pk}") for record in mine]
            with transaction.atomic():
                services.allocate(moves=moves)
            services.consume(moves=[Move(m.stock_record_id, 1, f"ship:{m.key}") for m in moves])
        return n

    assert at_once(*[lambda n=n: work(n) for n in range(8)]) == list(range(8))
    assert [levels(record) for record in records] == [(960, 0, 0, 0)] * 4
    assert StockMovement.objects.filter(kind="shipped").count() == 160
    assert list(services.verify()) == []


def test_with_a_lock_the_choice_holds_and_the_second_location_serves_the_second_buyer(stocked, store, at_once):
    backroom = Location.objects.create(code="backroom", name="Back room", store=store, priority=5)
    for attempt in range(5):
        first = stocked(1)
        second = stocked(1, location=backroom, product=first.product)

        def buy(n: int, product_id: int = first.product_id, attempt: int = attempt) -> int:
            with transaction.atomic():
                chosen = services.choose_stock(quantities={product_id: 1}, store_id=store.pk, lock=True)[product_id]
                services.allocate(moves=[Move(chosen.pk, 1, f"{attempt}:{n}")])
                return chosen.pk

        assert set(at_once(lambda: buy(1), lambda: buy(2))) == {first.pk, second.pk}


def test_two_counts_at_once_do_not_add_up(stocked, levels, at_once):
    record = stocked(10)

    def count(n: int) -> None:
        services.adjust(stock_record_id=record.pk, counted=7, key=f"count:{n}", note="Count", actor_name="Ada")

    assert at_once(*[lambda n=n: count(n) for n in range(4)]) == [None] * 4
    assert levels(record) == (7, 0, 0, 0)
    assert record.movements.filter(kind="adjusted").count() == 1


def test_two_importers_create_the_same_record_once(new_product, warehouse, at_once):
    product = new_product()

    def ensure() -> int:
        return services.ensure_records(product_ids=[product.pk], location_id=warehouse.pk)[product.pk].pk

    assert len(set(at_once(ensure, ensure, ensure, ensure))) == 1
