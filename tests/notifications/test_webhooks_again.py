"""Webhooks that fail: sent again in order, by the worker or by people, until it is given up or switched off."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection, connections
from django.utils import timezone
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from notifications import gateways, rules
from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.services import webhooks
from orders.processing import EventHandler
from shop import jobs
from shop.actors import Actor
from shop.models import Job, User
from tests import factories
from tests.notifications.receiver import Receiver, delivery, make_endpoint, sent_test, work

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


# --- again, and in order ----------------------------------------------------------------------------------------


def test_what_fails_is_tried_again_with_the_same_id_and_body(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    receiver.answers = [500, 503]
    row = sent_test(endpoint)
    work()
    row.refresh_from_db()
    assert (row.state, row.attempts, row.last_status) == ("waiting", 1, 500)
    endpoint.refresh_from_db()
    assert endpoint.failing_since is not None
    work(after=timedelta(minutes=1))
    work(after=timedelta(minutes=10))
    row.refresh_from_db()
    assert (row.state, row.attempts, row.last_error) == ("delivered", 3, "")
    assert receiver.ids == [row.event_id] * 3
    assert len({body for _headers, body in receiver.got}) == 1
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None


def test_the_schedule_lasts_days_and_then_the_delivery_is_given_up_without_a_job_for_a_person(
    receiver: Receiver, endpoint: WebhookEndpoint
) -> None:
    assert sum(rules.WEBHOOK_SCHEDULE) > 3 * DAY.total_seconds()
    receiver.always(500)
    row = sent_test(endpoint)
    for _attempt in range(len(rules.WEBHOOK_SCHEDULE) + 1):
        work(after=Job.objects.get(kind=webhooks.KIND).run_at - timezone.now() + timedelta(seconds=1))
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("failed", len(rules.WEBHOOK_SCHEDULE) + 1)
    assert not Job.objects.filter(kind=webhooks.KIND, state=Job.State.NEEDS_ATTENTION).exists()


def test_an_answer_may_ask_for_more_time_than_the_schedule_gives(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    receiver.answers = [Response(status=429, headers={"Retry-After": "3600"})]
    sent_test(endpoint)
    work()
    job = Job.objects.get(kind=webhooks.KIND)
    assert job.run_at > timezone.now() + timedelta(minutes=50)


def test_a_later_event_of_the_same_order_waits_for_the_earlier_one_and_others_do_not(
    receiver: Receiver, system: EventHandler
) -> None:
    order, other = factories.place_order(until="approved"), factories.place_order(until="approved")
    jobs.drain(seconds=30)
    endpoint = make_endpoint(receiver.url, "order.changed", "order.status_changed", "order.cancelled")
    receiver.answers = [500]
    system.start_preparing(number=order.number)
    work()
    system.cancel(number=order.number)
    system.start_preparing(number=other.number)
    work()
    numbers = [payload["data"]["number"] for payload in receiver.payloads]
    assert numbers == [order.number, other.number], "the order's later events are not sent"
    assert WebhookDelivery.objects.filter(reference=order.number, state="held").exists()
    work(after=timedelta(minutes=1))
    rows = WebhookDelivery.objects.filter(reference=order.number, endpoint=endpoint).order_by("pk")
    assert {row.state for row in rows} == {"delivered"}
    mine = [
        name
        for name, payload in zip(receiver.ids, receiver.payloads, strict=True)
        if payload["data"]["number"] == order.number
    ]
    assert mine == [rows[0].event_id, *(row.event_id for row in rows)]


def test_after_an_event_was_given_up_the_next_one_of_its_order_goes(receiver: Receiver, system: EventHandler) -> None:
    order = factories.place_order(until="approved")
    jobs.drain(seconds=30)
    make_endpoint(receiver.url, "order.status_changed")
    receiver.answers = [500] * 2
    system.start_preparing(number=order.number)
    system.cancel(number=order.number)
    work()
    Job.objects.filter(kind=webhooks.KIND, state="waiting").exclude(attempts=0).update(max_attempts=2)
    work(after=timedelta(minutes=1))
    assert [row.state for row in WebhookDelivery.objects.order_by("pk")] == ["failed", "delivered"]


def test_an_earlier_one_that_never_ends_is_waited_for_four_days_at_the_most(
    receiver: Receiver, system: EventHandler
) -> None:
    order = factories.place_order(until="approved")
    jobs.drain(seconds=30)
    make_endpoint(receiver.url, "order.status_changed")
    system.start_preparing(number=order.number)
    first = delivery()
    # It killed every worker that tried it, and waits for a person.
    Job.objects.filter(key=webhooks.job_key(first)).update(state=Job.State.NEEDS_ATTENTION)
    system.cancel(number=order.number)
    work()
    work(after=webhooks.LONGEST_WAIT - timedelta(hours=1))
    assert receiver.got == []
    work(after=webhooks.LONGEST_WAIT + webhooks.LOOK_AGAIN)
    assert len(receiver.got) == 1
    assert receiver.ids != [first.event_id]


def test_who_found_an_earlier_one_that_has_just_ended_goes_at_once(
    receiver: Receiver, endpoint: WebhookEndpoint
) -> None:
    factories.place_order(until="approved")
    first, second, *_more = WebhookDelivery.objects.order_by("pk")
    job = jobs.claim(as_of=timezone.now(), key=webhooks.job_key(second))
    outcome = jobs.perform(job)
    assert "held" in outcome.data
    jobs.run_now(webhooks.job_key(first))
    jobs.settle(job, outcome, as_of=timezone.now())
    second.refresh_from_db()
    assert second.state == "waiting"
    jobs.run_now(webhooks.job_key(second))
    second.refresh_from_db()
    assert second.state == "delivered"


def test_one_that_was_let_go_is_not_sent_by_the_job_it_had_before(
    receiver: Receiver, endpoint: WebhookEndpoint
) -> None:
    factories.place_order(until="approved")
    work()
    sent = len(receiver.got)
    work(after=DAY)
    assert len(receiver.got) == sent == WebhookDelivery.objects.count()


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_a_second_worker_does_not_overtake_the_one_that_is_sending(
    receiver: Receiver, endpoint: WebhookEndpoint, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "SECONDS", 120.0)
    factories.place_order(until="approved")
    rows = list(WebhookDelivery.objects.order_by("pk"))
    is_sending, may_answer = threading.Event(), threading.Event()

    def answer_late(request: Request) -> Response:
        is_sending.set()
        may_answer.wait(100)
        return Response()

    httpserver.expect_ordered_request("/slow").respond_with_handler(answer_late)
    WebhookEndpoint.objects.update(url=httpserver.url_for("/slow"))

    def first_worker() -> None:
        try:
            jobs.run_now(webhooks.job_key(rows[0]))
        finally:
            connection.close()

    thread = threading.Thread(target=first_worker)
    thread.start()
    assert is_sending.wait(60)
    WebhookEndpoint.objects.update(url=receiver.url)
    try:
        work()
        assert {row.state for row in WebhookDelivery.objects.exclude(pk=rows[0].pk)} == {"held"}
        assert receiver.got == []
    finally:
        may_answer.set()
        thread.join()
    work()
    assert receiver.ids == [row.event_id for row in rows[1:]]


# --- by people --------------------------------------------------------------------------------------------------


def test_sent_again_it_keeps_its_id(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    row = sent_test(endpoint)
    with pytest.raises(webhooks.StillUnderWay):
        webhooks.replay(delivery_id=row.pk, actor=Actor.system())
    work()
    webhooks.replay(delivery_id=row.pk, actor=Actor.system())
    work()
    assert receiver.ids == [row.event_id] * 2
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("delivered", 2)


def test_a_replay_that_fails_holds_up_nothing_new(
    receiver: Receiver, endpoint: WebhookEndpoint, system: EventHandler
) -> None:
    order = factories.place_order(until="approved")
    work()
    first = WebhookDelivery.objects.order_by("pk").first()
    receiver.got.clear()
    receiver.answers = [500]
    webhooks.replay(delivery_id=first.pk, actor=Actor.system())
    work()
    system.start_preparing(number=order.number)
    work()
    assert not WebhookDelivery.objects.filter(state="held").exists()
    assert len(receiver.got) > 1


def test_an_endpoint_that_is_off_is_told_nothing_and_what_waits_is_given_up(
    receiver: Receiver, endpoint: WebhookEndpoint
) -> None:
    row = sent_test(endpoint)
    webhooks.switch(endpoint_id=endpoint.pk, on=False, actor=Actor.system())
    factories.place_order()
    work()
    row.refresh_from_db()
    assert (row.state, receiver.got, WebhookDelivery.objects.count()) == ("failed", [], 1)
    with pytest.raises(webhooks.EndpointOff):
        webhooks.replay(delivery_id=row.pk, actor=Actor.system())
    webhooks.switch(endpoint_id=endpoint.pk, on=True, actor=Actor.system())
    webhooks.replay(delivery_id=row.pk, actor=Actor.system())
    work()
    assert receiver.ids == [row.event_id]


# --- switched off by the desk -------------------------------------------------------------------------------------


@pytest.fixture
def owned(endpoint: WebhookEndpoint, people: Callable[..., User]) -> WebhookEndpoint:
    endpoint.created_by = people("Admin")
    endpoint.save()
    return endpoint


def test_gone_for_good_switches_the_endpoint_off_with_a_mail_and_an_inbox_item(
    receiver: Receiver, owned: WebhookEndpoint
) -> None:
    receiver.answers = [410]
    row = sent_test(owned)
    work()
    owned.refresh_from_db()
    row.refresh_from_db()
    assert (owned.is_active, row.state, "410" in owned.disabled_reason) == (False, "failed", True)
    assert [m.to for m in mail.outbox] == [[owned.created_by.email]]
    assert "Warehouse" in mail.outbox[0].subject
    assert Job.objects.get(kind=webhooks.OFF).state == Job.State.NEEDS_ATTENTION


def test_five_days_of_failures_only_switch_it_off_once(receiver: Receiver, owned: WebhookEndpoint) -> None:
    receiver.always(500)
    sent_test(owned)
    work()
    WebhookEndpoint.objects.update(failing_since=timezone.now() - webhooks.OFF_AFTER + timedelta(hours=1))
    sent_test(owned)
    work()
    owned.refresh_from_db()
    assert owned.is_active, "not yet five days"
    WebhookEndpoint.objects.update(failing_since=timezone.now() - webhooks.OFF_AFTER)
    sent_test(owned)
    sent_test(owned)
    work()
    owned.refresh_from_db()
    assert not owned.is_active
    assert len(mail.outbox) == Job.objects.filter(kind=webhooks.OFF).count() == 1


def test_the_inbox_item_is_done_when_the_endpoint_is_on_again(receiver: Receiver, owned: WebhookEndpoint) -> None:
    receiver.answers = [410]
    sent_test(owned)
    work()
    item = Job.objects.get(kind=webhooks.OFF)
    assert jobs.only_by_hand([item]) == {item.pk}
    webhooks.switch(endpoint_id=owned.pk, on=True, actor=Actor.system())
    assert not jobs.only_by_hand([item])
    jobs.retry_by_hand(item.pk)
    work()
    item.refresh_from_db()
    assert item.state == Job.State.DONE


# --- killed -------------------------------------------------------------------------------------------------------


@pytest.mark.kill
@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_after_sending_sends_again_with_the_same_id(
    receiver: Receiver, endpoint: WebhookEndpoint
) -> None:
    row = sent_test(endpoint)
    connections.close_all()

    def killed() -> None:
        jobs.settle = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
        jobs.drain(seconds=30)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(timeout=200)
    assert process.exitcode == -signal.SIGKILL
    row.refresh_from_db()
    assert (row.state, receiver.ids) == ("waiting", [row.event_id])
    work(after=jobs.LEASE * 2)
    row.refresh_from_db()
    assert (row.state, receiver.ids) == ("delivered", [row.event_id] * 2)


def test_deliveries_that_ended_are_forgotten_after_a_month(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    old, new = sent_test(endpoint), sent_test(endpoint)
    work()
    waiting = sent_test(endpoint)
    long_ago = timezone.now() - webhooks.KEEP_ENDED - DAY
    WebhookDelivery.objects.filter(pk__in=[old.pk, waiting.pk]).update(created_at=long_ago)
    assert webhooks.forget(before=timezone.now() - webhooks.KEEP_ENDED) == 1
    assert set(WebhookDelivery.objects.values_list("pk", flat=True)) == {new.pk, waiting.pk}
