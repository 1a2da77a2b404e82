"""Two clicks, two workers and a webhook at one refund at once: one refund; and what shows without the key."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from orders.models import Order, PaymentEvent
from orders.processing import get_event_handler
from orders.processing.verify import verify
from payments import services
from payments.gateways import GatewayNotice
from payments.models import DemoGatewayEntry, Payment, Refund, Transaction
from shop import jobs
from shop.actors import Actor
from shop.models import Job
from tests import factories
from tests.payments.lying import LyingGateway

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.race]
AtOnce = Callable[..., list[Any]]
Books = Callable[[], list[str]]


@pytest.fixture
def books() -> Books:
    return lambda: list(verify())


@pytest.fixture
def order(settings: Any) -> Order:
    settings.PAYMENT_GATEWAYS = {**settings.PAYMENT_GATEWAYS, "demo": "tests.payments.lying.LyingGateway"}
    order = factories.place_order([("10.00", 3)], until="paid")
    jobs.drain(seconds=60)
    return order


def refund(order: Order, cause: str | None = None) -> PaymentEvent:
    handler = get_event_handler(Actor.system())
    return handler.refund(number=order.number or "", amount=Decimal(10), note="late", cause=cause)


def at_gateway() -> list[DemoGatewayEntry]:
    return list(DemoGatewayEntry.objects.filter(operation="refund", status="succeeded"))


def both_at_the_gateway(monkeypatch: pytest.MonkeyPatch, number: int = 2) -> None:
    """Nobody is answered before everybody has asked."""
    together, answer = threading.Barrier(number, timeout=60), LyingGateway._answer

    def wait(self: Any, operation: str, request: Any) -> Any:
        together.wait()
        return answer(self, operation, request)

    monkeypatch.setattr(LyingGateway, "_answer", wait)


def two_owners(order: Order) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two workers who both believe that the refund is theirs to send: the first one's lease ran out."""
    key, now = Job.objects.get(kind=services.SEND, state="waiting").key, timezone.now()
    first = jobs.claim(as_of=now, key=key)
    second = jobs.claim(as_of=now + jobs.LEASE + timedelta(seconds=1), key=key)
    assert first is not None
    assert second is not None
    return lambda: jobs.run(first), lambda: jobs.run(second)


def test_two_clicks_two_workers_and_a_webhook_are_one_refund(
    order: Order, at_once: AtOnce, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = at_once(*[lambda: refund(order, "form 17")] * 2)
    assert clicks[0].pk == clicks[1].pk
    acted, written_down = threading.Event(), threading.Barrier(2, timeout=60)
    settle = jobs.settle

    def settle_together(job: Job, *args: Any, **kwargs: Any) -> Any:
        if job.kind in {services.SEND, services.PROCESS}:
            acted.set()
            written_down.wait()
        return settle(job, *args, **kwargs)

    def webhook() -> None:
        """The gateway tells as soon as it has acted; who processes it is done when the first worker is."""
        assert acted.wait(timeout=60)
        notice = GatewayNotice(event_id="evt-1", kind="changed", body={"about": at_gateway()[0].reference})
        services.receive(gateway="demo", notice=notice, as_of=timezone.now())
        jobs.run_now(Job.objects.get(kind=services.PROCESS).key)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "settle", settle_together)
        key = Job.objects.get(kind=services.SEND, state="waiting").key
        workers = at_once(lambda: jobs.run_now(key), lambda: jobs.run_now(key), webhook)
    assert [outcome for outcome in workers if isinstance(outcome, Exception)] == []
    assert workers[:2].count(None) == 1, "one worker had it, the other found nothing to take"
    jobs.drain(seconds=60)
    assert len(at_gateway()) == Refund.objects.count() == Transaction.objects.filter(kind="refund").count() == 1
    assert PaymentEvent.objects.filter(event_type__code="refunded").count() == 1
    assert Payment.objects.get().refunded == 10
    assert books() == []


def test_two_workers_who_send_one_refund_at_the_same_moment_send_it_once(
    order: Order, at_once: AtOnce, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    refund(order)
    with monkeypatch.context() as patch:
        both_at_the_gateway(patch)
        at_once(*two_owners(order))
    jobs.drain(seconds=60)
    assert len(at_gateway()) == 1
    assert books() == []


def test_without_the_permanent_key_the_same_two_workers_would_refund_twice(
    order: Order, at_once: AtOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: each attempt under a key of its own."""
    refund(order)
    with monkeypatch.context() as patch:
        both_at_the_gateway(patch)
        patch.setattr(Transaction, "gateway_key", property(lambda row: str(uuid.uuid4())))
        at_once(*two_owners(order))
    assert len(at_gateway()) == 2


def test_without_the_cause_two_clicks_would_be_two_refunds(order: Order, at_once: AtOnce) -> None:
    """The control: nothing says that the second click is the first one."""
    at_once(*[lambda: refund(order)] * 2)
    jobs.drain(seconds=60)
    assert len(at_gateway()) == 2


def test_two_workers_who_hear_of_one_refund_from_outside_book_it_once(
    order: Order, at_once: AtOnce, books: Books
) -> None:
    opened = DemoGatewayEntry.objects.get(operation="authorize")
    DemoGatewayEntry.objects.create(
        operation="refund",
        key="dashboard-1",
        payment_key=opened.key,
        amount=Decimal(7),
        currency="EUR",
        status="succeeded",
        reference="re-1",
    )
    (record,) = [one for one in LyingGateway().list_since(timezone.now()) if one.reference == "re-1"]
    at_once(*[lambda: services.take_in(gateway="demo", record=record, as_of=timezone.now())] * 4)
    jobs.drain(seconds=60)
    assert (Refund.objects.count(), Payment.objects.get().refunded) == (1, 7)
    assert books() == []
