"""Alerts open when a record falls below its threshold and close when it no longer is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from inventory import services
from inventory.models import StockAlert
from inventory.services import Move

pytestmark = pytest.mark.django_db
NOON, LATER = datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 5, 2, 12, tzinfo=UTC)


def test_an_alert_opens_below_the_threshold_and_closes_when_filled_up(stocked):
    record = stocked(10)
    services.set_threshold(stock_record_id=record.pk, threshold=5)
    services.allocate(moves=[Move(record.pk, 5, "a")], as_of=NOON)
    assert not record.alerts.exists()
    services.allocate(moves=[Move(record.pk, 1, "b")], as_of=NOON)
    alert = record.alerts.get()
    assert (alert.status, alert.threshold, alert.available, alert.opened_at) == ("open", 5, 4, NOON)
    services.release(moves=[Move(record.pk, 1, "c")], as_of=LATER)
    alert.refresh_from_db()
    assert (alert.status, alert.closed_at) == ("closed", LATER)


def test_shipping_what_was_allocated_changes_nothing_and_sinking_further_opens_no_second(stocked):
    record = stocked(10)
    services.set_threshold(stock_record_id=record.pk, threshold=5)
    services.allocate(moves=[Move(record.pk, 6, "a")])
    services.consume(moves=[Move(record.pk, 6, "b")])
    services.allocate(moves=[Move(record.pk, 1, "c")])
    assert record.alerts.count() == 1


def test_several_records_at_once_each_get_their_own(stocked):
    records = [stocked(10) for _ in range(3)]
    for record, threshold in zip(records, (5, 11, None), strict=True):
        services.set_threshold(stock_record_id=record.pk, threshold=threshold)
    assert set(StockAlert.objects.values_list("stock_record", flat=True)) == {records[1].pk}
    services.allocate(moves=[Move(record.pk, 8, f"a:{record.pk}") for record in records])
    opened = StockAlert.objects.filter(status="open").values_list("stock_record", flat=True)
    assert set(opened) == {records[0].pk, records[1].pk}


def test_changing_the_threshold_opens_and_closes_at_once(stocked):
    record = stocked(3)
    services.set_threshold(stock_record_id=record.pk, threshold=4)
    assert record.alerts.get().status == "open"
    services.set_threshold(stock_record_id=record.pk, threshold=3)
    assert record.alerts.get().status == "closed"
    services.set_threshold(stock_record_id=record.pk, threshold=9)
    services.set_threshold(stock_record_id=record.pk, threshold=None)
    assert not record.alerts.filter(status="open").exists()


def test_no_alert_without_its_movement(stocked):
    record = stocked(10)
    services.set_threshold(stock_record_id=record.pk, threshold=5)
    with pytest.raises(RuntimeError), transaction.atomic():
        services.allocate(moves=[Move(record.pk, 8, "a")])
        raise RuntimeError("the order failed")
    assert not record.alerts.exists()


def test_the_database_itself_allows_one_open_alert(stocked):
    row = {"stock_record": stocked(1), "threshold": 2, "available": 1, "opened_at": NOON}
    StockAlert.objects.create(**row)
    with pytest.raises(IntegrityError), transaction.atomic():
        StockAlert.objects.create(**row)
