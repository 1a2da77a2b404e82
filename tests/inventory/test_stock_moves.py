"""Each thing that can be done with stock: what it changes, what it refuses, and that its repetition does nothing."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from inventory import services
from inventory.models import StockMovement, StockRecord
from inventory.services import InvalidStockAdjustment, Move, OutOfStock, StockKeyReused

pytestmark = pytest.mark.django_db


def test_an_order_takes_units_from_promise_to_door(stocked, levels):
    record = stocked(10)
    services.allocate(moves=[Move(record.pk, 3, "allocate:line:1")], reference="1001", actor_name="Ada")
    assert levels(record) == (10, 3, 0, 0)
    services.consume(moves=[Move(record.pk, 2, "ship:1")], reference="1001")
    assert levels(record) == (8, 1, 0, 0)
    services.release(moves=[Move(record.pk, 1, "cancel:1")], reference="1001")
    assert levels(record) == (8, 0, 0, 0)
    assert [m.kind for m in record.movements.filter(reference="1001")] == ["released", "shipped", "allocated"]
    assert record.movements.get(key="allocate:line:1").actor_name == "Ada"


def test_units_come_back_to_where_they_belong(stocked, levels):
    record = stocked(5)
    back = {
        "sellable": [Move(record.pk, 3, "return:1")],
        "quarantine": [Move(record.pk, 2, "return:2")],
        "damaged": [Move(record.pk, 1, "return:3")],
    }
    written = services.take_back(moves_by_disposition=back)
    assert levels(record) == (8, 0, 2, 1)
    assert [m.kind for m in written] == ["returned", "quarantined", "damaged"]
    with pytest.raises(ValueError):
        services.take_back(moves_by_disposition={"shredder": [Move(record.pk, 1, "return:4")]})


def test_nothing_is_allocated_when_one_record_is_short_and_the_refusal_names_the_product(stocked, levels):
    plenty, scarce = stocked(10), stocked(3, allocated=1, name="Blue 100% Mug")
    with pytest.raises(OutOfStock) as refused:
        services.allocate(moves=[Move(plenty.pk, 1, "a"), Move(scarce.pk, 3, "b")])
    assert refused.value.code == "out_of_stock"
    assert refused.value.shortages == [(scarce.pk, "Blue 100% Mug", 3, 2)]
    assert refused.value.max_quantity == 2
    assert "Only 2 of “Blue 100% Mug”" in str(refused.value)
    assert levels(plenty) == (10, 0, 0, 0)
    assert not StockMovement.objects.filter(key__in=["a", "b"]).exists()


def test_two_lines_of_the_same_product_are_counted_together(stocked, levels):
    record = stocked(3)
    with pytest.raises(OutOfStock):
        services.allocate(moves=[Move(record.pk, 2, "line:1"), Move(record.pk, 2, "line:2")])
    services.allocate(moves=[Move(record.pk, 2, "line:1"), Move(record.pk, 1, "line:2")])
    assert levels(record) == (3, 3, 0, 0)


@pytest.mark.parametrize("verb", [services.consume, services.release])
def test_more_than_is_allocated_is_neither_shipped_nor_released(verb, stocked, levels):
    record = stocked(10, allocated=2)
    with pytest.raises(InvalidStockAdjustment) as refused:
        verb(moves=[Move(record.pk, 3, "x")])
    assert refused.value.code == "invalid_stock_adjustment"
    assert refused.value.max_quantity == 2
    assert levels(record) == (10, 2, 0, 0)


def test_the_same_cause_moves_stock_once(stocked, levels):
    record, other = stocked(10), stocked(10)
    assert len(services.allocate(moves=[Move(record.pk, 4, "allocate:line:1")])) == 1
    written = services.allocate(moves=[Move(record.pk, 4, "allocate:line:1"), Move(other.pk, 1, "allocate:line:2")])
    assert [m.key for m in written] == ["allocate:line:2"]
    assert levels(record) == (10, 4, 0, 0)


def test_a_repetition_is_not_refused_because_the_stock_is_gone_by_now(stocked):
    record = stocked(1)
    services.allocate(moves=[Move(record.pk, 1, "allocate:line:1")])
    assert services.allocate(moves=[Move(record.pk, 1, "allocate:line:1")]) == []


def test_a_cause_that_moved_something_else_is_refused(stocked, levels):
    record, other = stocked(10), stocked(10)
    services.allocate(moves=[Move(record.pk, 4, "line:1")])
    for verb, move in [
        (services.allocate, Move(record.pk, 5, "line:1")),
        (services.allocate, Move(other.pk, 4, "line:1")),
        (services.release, Move(record.pk, 4, "line:1")),
    ]:
        with pytest.raises(StockKeyReused):
            verb(moves=[move])
    assert levels(record) == (10, 4, 0, 0)
    assert levels(other) == (10, 0, 0, 0)


def test_calls_that_make_no_sense_are_programming_errors(stocked):
    record = stocked(10)
    with pytest.raises(ValueError):
        services.allocate(moves=[Move(record.pk, 1, "a"), Move(record.pk, 1, "a")])
    for quantity, key in [(0, "a"), (-1, "a"), (1, ""), (1, "k" * 201)]:
        with pytest.raises(ValueError):
            Move(record.pk, quantity, key)
    with pytest.raises(StockRecord.DoesNotExist):
        services.allocate(moves=[Move(record.pk + 999, 1, "a")])
    assert services.allocate(moves=[]) == []


def test_a_count_sets_the_level_and_keeps_the_difference_with_its_reason(stocked, levels):
    record = stocked(10, allocated=4)
    count = {"stock_record_id": record.pk, "note": "Yearly count", "actor_name": "Ada"}
    movement = services.adjust(counted=7, key="count:1", **count)
    assert movement is not None
    assert (movement.on_hand_delta, movement.note) == (-3, "Yearly count")
    assert levels(record) == (7, 4, 0, 0)
    assert services.adjust(counted=7, key="count:2", **count) is None
    # The page was sent twice, and meanwhile something arrived: the count is not applied to the new level.
    services.receive(stock_record_id=record.pk, quantity=5, key="delivery:1")
    assert services.adjust(counted=7, key="count:1", **count) == movement
    assert levels(record) == (12, 4, 0, 0)
    services.adjust(counted=2, key="count:3", bucket="damaged", **count)
    assert levels(record) == (12, 4, 0, 2)


@pytest.mark.parametrize("fields", [{"counted": 3}, {"counted": -1}, {"note": "  "}, {"counted": 2**31}])
def test_a_count_that_cannot_be_is_refused(fields, stocked, levels):
    record = stocked(10, allocated=4)
    call = {
        "stock_record_id": record.pk,
        "counted": 8,
        "key": "count:1",
        "note": "Count",
        "actor_name": "Ada",
        **fields,
    }
    with pytest.raises(InvalidStockAdjustment):
        services.adjust(**call)
    assert levels(record) == (10, 4, 0, 0)


def test_units_are_written_off_but_never_those_promised_to_orders(stocked, levels):
    record = stocked(10, allocated=4)
    services.write_off(moves=[Move(record.pk, 6, "off:1", "Broken pallet")])
    assert levels(record) == (4, 4, 0, 0)
    for bucket in ("sellable", "quarantine", "damaged"):
        with pytest.raises(InvalidStockAdjustment) as refused:
            services.write_off(moves=[Move(record.pk, 1, "off:2")], bucket=bucket)
        assert refused.value.max_quantity == 0
    assert levels(record) == (4, 4, 0, 0)


def test_units_move_between_sellable_quarantine_and_damaged(stocked, levels):
    record = stocked(10, allocated=4)
    services.reclassify(moves=[Move(record.pk, 6, "move:1")], source="sellable", target="quarantine")
    assert levels(record) == (4, 4, 6, 0)
    services.reclassify(moves=[Move(record.pk, 2, "move:2")], source="quarantine", target="damaged")
    services.reclassify(moves=[Move(record.pk, 4, "move:3")], source="quarantine", target="sellable")
    assert levels(record) == (8, 4, 0, 2)
    with pytest.raises(InvalidStockAdjustment):
        services.reclassify(moves=[Move(record.pk, 1, "move:4")], source="quarantine", target="sellable")
    with pytest.raises(InvalidStockAdjustment):
        services.reclassify(moves=[Move(record.pk, 1, "move:5")], source="damaged", target="damaged")
    assert list(services.verify()) == []


def test_an_import_finds_or_creates_its_records_and_receives_at_all_of_them(new_product, warehouse, stocked):
    known = stocked(1, location=warehouse)
    new = [new_product() for _ in range(3)]
    ids = [known.product_id, *(product.pk for product in new)]
    records = services.ensure_records(product_ids=ids, location_id=warehouse.pk)
    assert records.keys() == set(ids)
    assert records[known.product_id] == known
    moves = [Move(record.pk, 7, f"import:1:{record.pk}") for record in records.values()]
    assert len(services.receive_many(moves=moves, reference="D-17")) == 4
    assert services.receive_many(moves=moves, reference="D-17") == []
    assert StockRecord.objects.filter(on_hand=7).count() == 3


def test_movements_are_written_once_and_never_deleted(stocked):
    movement = stocked(1).movements.get()
    with pytest.raises(TypeError):
        movement.save()
    with pytest.raises(TypeError):
        movement.delete()


@pytest.mark.parametrize("verb", ["allocate", "consume", "release"])
def test_queries_do_not_grow_with_the_number_of_rows(verb, stocked):
    records = [stocked(100, allocated=50) for _ in range(50)]
    for record in records[::2]:
        services.set_threshold(stock_record_id=record.pk, threshold=50)
    counts = {}
    for rows in (1, 5, 20, 50):
        moves = [Move(record.pk, 1, f"{verb}:{rows}:{record.pk}") for record in records[:rows]]
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            getattr(services, verb)(moves=moves)
        counts[rows] = len([q for q in queries if "SAVEPOINT" not in q["sql"]])
    assert max(counts.values()) <= 6, counts


def test_a_thousand_rows_and_more_are_one_statement_too(new_product, warehouse):
    products = [new_product() for _ in range(3)]
    records = services.ensure_records(product_ids=[p.pk for p in products], location_id=warehouse.pk)
    moves = [Move(record.pk, 1, f"{record.pk}:{n}") for n in range(500) for record in records.values()]
    assert len(services.receive_many(moves=moves)) == 1500
    assert set(StockRecord.objects.values_list("on_hand", flat=True)) == {500}
