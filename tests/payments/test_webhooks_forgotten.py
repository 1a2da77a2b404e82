"""Received webhooks are kept for months, then deleted some at a time; what is not done with stays."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from payments import services, tasks
from payments.gateways import GatewayNotice
from payments.models import WebhookReceived
from payments.services import outside
from shop.models import Job

pytestmark = pytest.mark.django_db


def received(event, *, days, processed=None, outcome="done"):
    now = timezone.now()
    at = None if outcome == "waiting" else now - timedelta(days=days if processed is None else processed)
    return WebhookReceived.objects.create(
        gateway="stripe",
        event_id=event,
        kind="refund.created",
        outcome=outcome,
        received_at=now - timedelta(days=days),
        processed_at=at,
    )


def left():
    return sorted(WebhookReceived.objects.values_list("event_id", flat=True))


def test_only_what_was_done_with_long_ago_is_forgotten():
    received("old", days=130)
    received("old and ignored", days=130, outcome="ignored")
    received("old and never processed", days=400, outcome="waiting")
    received("old and processed late", days=400, processed=100)
    received("may come again", days=91)
    tasks.tidy_up()
    assert left() == ["may come again", "old and never processed", "old and processed late"]
    tasks.tidy_up()
    assert len(left()) == 3


def test_what_is_processed_again_stays_until_that_has_ended():
    row = received("old", days=400)
    services.replay_webhook(webhook_id=row.pk)
    tasks.tidy_up()
    assert left() == ["old"]
    assert Job.objects.get(kind=services.PROCESS).args == {"webhook": row.pk}


def test_many_go_a_bounded_number_at_a_time(monkeypatch):
    monkeypatch.setattr(outside, "FORGET_AT_ONCE", 4)
    for number in range(10):
        received(str(number), days=200)
    with CaptureQueriesContext(connection) as queries:
        assert services.forget_webhooks(before=timezone.now()) == 10
    assert len([q for q in queries if q["sql"].startswith("DELETE")]) == 3
    assert left() == []


def test_the_same_event_after_it_was_forgotten_is_processed_like_any_other():
    received("evt_1", days=200)
    notice = GatewayNotice(event_id="evt_1", kind="customer.created", body={})
    assert not services.receive(gateway="stripe", notice=notice, as_of=timezone.now())
    tasks.tidy_up()
    assert services.receive(gateway="stripe", notice=notice, as_of=timezone.now())
