"""The sum of movements equals the level, always; and verify says so when it does not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory import services
from inventory.models import Bucket, StockMovement, StockRecord
from inventory.services import Move
from shop.errors import Refused
from tests.examples import examples

pytestmark = pytest.mark.django_db
BUCKETS = st.sampled_from(Bucket.values)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["receive", "allocate", "consume", "release", "take_back", "write_off", "reclassify", "adjust"]
        ),
        st.integers(0, 1),
        st.integers(1, 6),
        BUCKETS,
        BUCKETS,
        st.integers(0, 9),
    ),
    max_size=25,
)


def do(verb: str, record: StockRecord, quantity: int, bucket: str, target: str, key: str) -> None:
    moves = [Move(record.pk, quantity, key)]
    match verb:
        case "receive":
            services.receive_many(moves=moves)
        case "allocate" | "consume" | "release":
            getattr(services, verb)(moves=moves)
        case "take_back":
            services.take_back(moves_by_disposition={bucket: moves})
        case "write_off":
            services.write_off(moves=moves, bucket=bucket)
        case "reclassify":
            services.reclassify(moves=moves, source=bucket, target=target)
        case "adjust":
            call = {"counted": quantity, "key": key, "note": "Count", "actor_name": "Ada", "bucket": bucket}
            services.adjust(stock_record_id=record.pk, **call)


@settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_whatever_is_done_the_books_add_up(steps, stocked):
    records = [stocked(5), stocked(3)]
    services.set_threshold(stock_record_id=records[0].pk, threshold=3)
    for verb, which, quantity, bucket, target, key in steps:
        # Keys come again: some steps are repetitions, some reuse a key for something else.
        with suppress(Refused):
            do(verb, records[which], quantity, bucket, target, f"{records[0].pk}:{key}")
    assert list(services.verify()) == []
    low = StockRecord.objects.get(pk=records[0].pk)
    assert low.alerts.filter(status="open").exists() == low.is_low


def test_verify_names_a_record_that_was_tampered_with(stocked):
    right, wrong = stocked(5), stocked(5, sku="TAMPERED")
    StockRecord.objects.filter(pk=wrong.pk).update(on_hand=7, damaged=1)
    (sentence,) = services.verify()
    assert f"Stock record {wrong.pk} (TAMPERED at {right.location.code})" in sentence
    assert "on_hand is 7, but its movements add up to 5" in sentence
    assert "damaged is 1, but its movements add up to 0" in sentence


def test_verify_names_a_record_whose_movement_is_gone(stocked):
    record = stocked(5, allocated=2)
    StockMovement.objects.filter(stock_record=record, kind="allocated").delete()
    (sentence,) = services.verify()
    assert "allocated is 2, but its movements add up to 0" in sentence


def test_verify_takes_one_query(stocked):
    for number in range(5):
        stocked(number)
    with CaptureQueriesContext(connection) as queries:
        assert list(services.verify()) == []
    assert len(queries) == 1


@pytest.mark.parametrize(
    "numbers", [{"on_hand": -1}, {"allocated": -1}, {"quarantine": -1}, {"damaged": -1}, {"allocated": 6}]
)
def test_the_database_itself_refuses_impossible_numbers(numbers, stocked):
    record = stocked(5)
    with pytest.raises((IntegrityError, DatabaseError)), transaction.atomic():
        StockRecord.objects.filter(pk=record.pk).update(**numbers)


def test_the_update_itself_refuses_what_the_lock_would_have_shown(stocked, levels):
    record = stocked(5, allocated=2)
    for change in ({"allocated": 4}, {"allocated": -3}, {"on_hand": -4}, {"quarantine": -1}, {"damaged": -1}):
        total = dict.fromkeys(services.COLUMNS, 0) | change
        with pytest.raises(services.InvalidStockAdjustment), transaction.atomic():
            services._change_levels({record.pk: total})
    assert levels(record) == (5, 2, 0, 0)


def test_the_database_itself_refuses_a_movement_of_nothing(stocked):
    empty = StockMovement(stock_record=stocked(1), kind="adjusted", key="x", created_at="2026-01-01T00:00Z")
    with pytest.raises(IntegrityError), transaction.atomic():
        empty.save()
