"""A capture made at the gateway itself, heard of by several workers at once, and while the desk captures as well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import QuerySet
from django.utils import timezone

from orders.models import Order
from orders.processing import get_event_handler
from orders.processing.verify import verify
from payments import services
from payments.gateways import GatewayRecord
from payments.models import DemoGatewayEntry, Payment, Transaction
from shop import jobs
from shop.actors import Actor
from tests import factories
from tests.payments.lying import OUTSIDE, LyingGateway

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.race]
AtOnce = Callable[..., list[Any]]


@pytest.fixture
def order(settings: Any) -> Order:
    settings.PAYMENT_GATEWAYS = {**settings.PAYMENT_GATEWAYS, "demo": "tests.payments.lying.LyingGateway"}
    order = factories.place_order([("10.00", 3)], until="preparing")
    jobs.drain(seconds=60)
    return order


def made_there(operation: str, amount: int) -> GatewayRecord:
    opened = DemoGatewayEntry.objects.get(operation="authorize")
    row = DemoGatewayEntry.objects.create(
        operation=operation,
        key=f"{OUTSIDE}1",
        payment_key=opened.key,
        amount=Decimal(amount),
        currency="EUR",
        status="succeeded",
        reference="there-1",
        merchant_reference=opened.merchant_reference,
    )
    (record,) = [one for one in LyingGateway().list_since(timezone.now()) if one.reference == row.reference]
    return record


def take_in(record: GatewayRecord) -> None:
    services.take_in(gateway="demo", record=record, as_of=timezone.now())


@pytest.mark.parametrize("operation", ["capture", "void"])
def test_workers_who_hear_of_it_at_once_book_it_once(order: Order, at_once: AtOnce, operation: str) -> None:
    record = made_there(operation, 10)
    heard = at_once(*[lambda: take_in(record)] * 4)
    assert heard == [None] * 4
    jobs.drain(seconds=60)
    assert list(Transaction.objects.filter(kind=operation).values_list("amount", "origin")) == [(10, "outside")]
    assert list(verify()) == []


def test_without_the_payments_lock_only_the_permanent_cause_stands_between(
    order: Order, at_once: AtOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: unlocked, all of them find nothing booked; one comes through, the others fail aloud."""
    record = made_there("capture", 10)
    monkeypatch.setattr(QuerySet, "select_for_update", lambda rows, **options: rows.all())
    at_once(*[lambda: take_in(record)] * 4)
    assert Transaction.objects.filter(kind="capture").count() == 1


def test_the_desk_and_the_dashboard_capture_at_once_and_no_more_than_is_held(order: Order, at_once: AtOnce) -> None:
    record = made_there("capture", 10)
    handler = get_event_handler(Actor.system())
    at_once(lambda: handler.take_payment(number=order.number or ""), lambda: take_in(record))
    for hours in (0, 1, 4):
        jobs.drain(seconds=60, clock=lambda hours=hours: timezone.now() + timedelta(hours=hours))
    try:
        take_in(record)  # as the webhook's next try, or the comparison at night
    finally:
        jobs.drain(seconds=60, clock=lambda: timezone.now() + timedelta(hours=9))
    there = [e.amount for e in DemoGatewayEntry.objects.filter(operation="capture", status="succeeded")]
    assert Payment.objects.get().captured == sum(there)
    assert Transaction.objects.filter(kind="capture", origin="outside").count() == 1
    assert list(verify()) == []
