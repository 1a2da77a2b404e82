"""Webhooks: what other systems are told, signed, in order, again after a failure, and never in a private network."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group
from django.core import mail
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_httpserver import HTTPServer
from standardwebhooks import Webhook, WebhookVerificationError
from werkzeug import Request, Response

from notifications import gateways, rules
from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.services import webhooks
from orders.models import Order
from orders.processing import EventHandler
from shop import jobs
from shop.actors import Actor
from shop.models import Job, Store, User
from tests import factories

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def people() -> Callable[..., User]:
    """people("Store Manager", store): somebody with a role, and where they work."""

    def make(role: str, *stores: Store) -> User:
        user: User = factories.UserFactory(is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        user.stores.set(stores)
        return user

    return make


class Receiver:
    """Another system: it keeps what arrived, and answers what it is told to."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/hook")
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[Response | int] = []
        server.expect_request("/hook").respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        self.got.append((dict(request.headers), request.get_data()))
        answer = self.answers.pop(0) if self.answers else 200
        return Response(status=answer) if isinstance(answer, int) else answer

    def always(self, status: int) -> None:
        self.answers = [status] * 1000

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _headers, body in self.got]

    @property
    def types(self) -> list[str]:
        return [payload["type"] for payload in self.payloads]

    @property
    def ids(self) -> list[str]:
        return [headers["Webhook-Id"] for headers, _body in self.got]


@pytest.fixture
def receiver(httpserver: HTTPServer, settings: Any) -> Receiver:
    settings.DEMO = True  # a receiver on the same machine is for demos only
    return Receiver(httpserver)


@pytest.fixture
def endpoint(receiver: Receiver) -> WebhookEndpoint:
    return make_endpoint(receiver.url)


def make_endpoint(url: str, *events: str, **fields: Any) -> WebhookEndpoint:
    return WebhookEndpoint.objects.create(
        **{
            "name": "Warehouse",
            "url": url,
            "events": list(events or rules.WEBHOOK_EVENTS),
            "secret": webhooks.new_secret(),
            "created_at": timezone.now(),
            **fields,
        }
    )


def work(*, after: timedelta = timedelta()) -> None:
    """What a worker does about webhooks, so much later."""
    if not after:
        jobs.drain(seconds=60)
        return
    with time_machine.travel(timezone.now() + after, tick=True):
        jobs.drain(seconds=60)


def delivery(**which: Any) -> WebhookDelivery:
    return WebhookDelivery.objects.get(**which)


def sent_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    return webhooks.send_test(endpoint_id=endpoint.pk, actor=Actor.system())


# --- what is told -----------------------------------------------------------------------------------------------


def test_an_orders_life_is_told_in_order_and_signed(
    receiver: Receiver, endpoint: WebhookEndpoint, system: EventHandler
) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    line = order.lines.get()
    system.cancel(number=order.number, lines={line.pk: 1})
    system.ship(number=order.number, lines={line.pk: 2}, carrier="DHL", tracking_number="JD014600")
    system.deliver(number=order.number)
    system.take_back(number=order.number, lines={line.pk: (1, "sellable")})
    work()
    assert receiver.types[0] == "order.placed"
    for name in rules.WEBHOOK_EVENTS:
        assert name in receiver.types, name
    versions = [payload["data"]["version"] for payload in receiver.payloads]
    assert versions == sorted(versions)
    for headers, body in receiver.got:
        assert Webhook(endpoint.secret).verify(body, headers) == json.loads(body)
    assert set(WebhookDelivery.objects.values_list("state", "attempts")) == {("delivered", 1)}


def test_the_payload_is_the_whole_order_and_what_happened(
    receiver: Receiver, endpoint: WebhookEndpoint, system: EventHandler
) -> None:
    order = factories.place_order([("10.00", 3)], until="paid")
    line = order.lines.get()
    system.ship(number=order.number, lines={line.pk: 2}, carrier="DHL", tracking_number="JD014600")
    work()
    order.refresh_from_db()
    data = next(p["data"] for p in receiver.payloads if p["type"] == "order.shipped")
    assert (data["number"], data["version"], data["currency"]) == (order.number, order.version, "EUR")
    assert data["totals"]["total"] == "30.00"
    (told,) = data["lines"]
    assert (told["id"], told["quantity"], told["shipped"], told["cancelled"]) == (line.pk, 3, 2, 0)
    (event,) = data["happened"]["events"]
    assert event["units"] == [{"line": line.pk, "quantity": 2}]
    assert (event["carrier"], event["tracking_number"]) == ("DHL", "JD014600")


def test_a_refund_tells_its_amount_in_the_currencys_decimals(
    receiver: Receiver, endpoint: WebhookEndpoint, system: EventHandler
) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    system.cancel(number=order.number)
    work()
    data = next(p["data"] for p in receiver.payloads if p["type"] == "order.refunded")
    refund = next(e for e in data["happened"]["events"] if e["kind"] == "payment" and e["type"] == "refunded")
    assert refund["amount"] == "20.00"


def test_nothing_about_the_customer_is_told_unless_the_endpoint_was_set_to(receiver: Receiver) -> None:
    make_endpoint(receiver.url, "order.placed")
    make_endpoint(receiver.url, "order.placed", with_customer=True)
    factories.place_order(email="ada@example.com", until="approved")
    work()
    without, told = (body.decode() for _headers, body in receiver.got)
    for personal in ("ada@example.com", "Lovelace", "Sonnenallee"):
        assert personal not in without
        assert personal in told


def test_only_the_chosen_events_of_the_endpoints_store_are_told(receiver: Receiver, store: Store) -> None:
    make_endpoint(receiver.url, "order.shipped", store=store)
    factories.place_order(until="shipped")
    here = factories.place_order(store=store, until="shipped")
    work()
    assert [(p["type"], p["data"]["number"]) for p in receiver.payloads] == [("order.shipped", here.number)]


def test_a_decision_that_is_undone_tells_nobody(endpoint: WebhookEndpoint, system: EventHandler) -> None:
    order = factories.place_order()
    before = WebhookDelivery.objects.count()
    with pytest.raises(RuntimeError), system.decide(order.number, "write_note") as d:
        d.finish()
        assert WebhookDelivery.objects.count() > before
        raise RuntimeError
    assert WebhookDelivery.objects.count() == before


def test_one_endpoint_or_none_is_one_query_a_decision_and_a_batch(system: EventHandler) -> None:
    def looks(verb: Callable[[], Any]) -> int:
        with CaptureQueriesContext(connection) as queries:
            verb()
        return sum("webhookendpoint" in query["sql"] for query in queries)

    orders = [factories.place_order(until="approved") for _n in range(6)]
    jobs.drain(seconds=30)
    assert looks(lambda: system.start_preparing(number=orders[0].number)) == 1
    several = {order.number: None for order in orders[1:]}
    assert looks(lambda: system.cancel_many(orders=several, cause="flood", reason="other", note="flood")) == 1
    assert {o.status for o in Order.objects.filter(number__in=several)} == {"cancelled"}


def test_orders_cancelled_together_are_told_each(
    receiver: Receiver, endpoint: WebhookEndpoint, system: EventHandler
) -> None:
    orders = [factories.place_order(until="approved") for _n in range(3)]
    work()
    receiver.got.clear()
    several = {order.number: None for order in orders}
    system.cancel_many(orders=several, cause="flood", reason="other", note="flood")
    work()
    told = [p["data"]["number"] for p in receiver.payloads if p["type"] == "order.cancelled"]
    assert len(told) == 3
    assert set(told) == set(several)


# --- signature --------------------------------------------------------------------------------------------------


def test_after_a_new_secret_both_sign_for_a_day(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    old = endpoint.secret
    new = webhooks.rotate(endpoint_id=endpoint.pk, actor=Actor.system())
    sent_test(endpoint)
    work()
    headers, body = receiver.got[-1]
    assert Webhook(old).verify(body, headers) == Webhook(new).verify(body, headers)
    WebhookEndpoint.objects.update(old_secret_until=timezone.now())
    sent_test(endpoint)
    work()
    headers, body = receiver.got[-1]
    Webhook(new).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(body, headers)


def test_another_body_does_not_verify(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    sent_test(endpoint)
    work()
    headers, body = receiver.got[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint.secret).verify(body.replace(b"Warehouse", b"warehouse"), headers)


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


# --- the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.7",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "3fff::1",
        "127.1",
        "not an address",
    ],
)
def test_an_address_that_is_not_of_the_public_internet_is_refused(address: str, monkeypatch: Any) -> None:
    assert not gateways.is_public(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    resolved = "127.0.0.1" if address in {"127.1", "not an address"} else address
    answers(monkeypatch, [(family, resolved)])
    touched = no_connections(monkeypatch)
    answer = gateways.post(url="https://innocent.example/hook", body=b"{}", headers={})
    assert answer.status is None
    assert "not an address of the public internet" in answer.error
    assert touched == []


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e"])
def test_a_public_address_is_not_refused(address: str) -> None:
    assert gateways.is_public(address)


def answers(monkeypatch: Any, *rounds: list[tuple[int, str]]) -> list[str]:
    """Let the name server give these addresses, one list after the other; returns the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_args: Any, **_kwargs: Any) -> list[Any]:
        found = rounds[min(len(asked), len(rounds) - 1)]
        asked.append(host)
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def no_connections(monkeypatch: Any) -> list[str]:
    """Let nothing out; returns the addresses that somebody wanted to connect to."""
    touched: list[str] = []

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            touched.append(address[0])
            raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "socket", Socket)
    return touched


def test_a_name_that_answers_differently_the_second_time_is_asked_once_and_connected_where_it_was_checked(
    monkeypatch: Any,
) -> None:
    asked = answers(monkeypatch, [(socket.AF_INET, "93.184.216.34")], [(socket.AF_INET, "127.0.0.1")])
    touched = no_connections(monkeypatch)
    answer = gateways.post(url="https://rebinding.example/hook", body=b"{}", headers={})
    assert "refused" in answer.error
    assert (len(asked), touched) == (1, ["93.184.216.34"])


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: Any) -> None:
    answers(monkeypatch, [(socket.AF_INET, "93.184.216.34"), (socket.AF_INET, "10.0.0.1")])
    touched = no_connections(monkeypatch)
    assert gateways.post(url="https://mixed.example/", body=b"{}", headers={}).status is None
    assert touched == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "example.com",
        "https://ada:secret@example.com/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://exämple.com/",
        "https://example.com:99999/",
        "https://[::1",
        "https://10.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "http://localhost/",
        "https://127.0.0.1/",
    ],
)
def test_an_address_that_cannot_be_sent_to_is_refused_with_words(url: str, settings: Any) -> None:
    settings.DEMO = False
    with pytest.raises(gateways.AddressRefused) as refused:
        gateways.checked(url)
    assert str(refused.value)


def test_outside_of_the_demo_the_machine_itself_is_out_of_reach(receiver: Receiver, settings: Any) -> None:
    settings.DEMO = False
    endpoint = make_endpoint(receiver.url)
    row = sent_test(endpoint)
    work()
    row.refresh_from_db()
    assert (receiver.got, row.state, row.last_status) == ([], "waiting", None)
    assert "https://" in row.last_error


def test_a_redirect_is_a_failure_and_is_not_followed(
    receiver: Receiver, endpoint: WebhookEndpoint, httpserver: HTTPServer
) -> None:
    elsewhere: list[Request] = []

    def answer(request: Request) -> Response:
        elsewhere.append(request)
        return Response()

    httpserver.expect_request("/elsewhere").respond_with_handler(answer)
    receiver.answers = [Response(status=307, headers={"Location": httpserver.url_for("/elsewhere")})]
    row = sent_test(endpoint)
    work()
    row.refresh_from_db()
    assert (row.last_status, row.state, elsewhere) == (307, "waiting", [])


class RawServer:
    """Answers every connection with these bytes, again and again, until the other side hangs up."""

    def __init__(self, beginning: bytes, again: bytes) -> None:
        self.sent = 0
        self.is_hung_up = threading.Event()
        self._beginning, self._again = beginning, again
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        peer, _address = self._listener.accept()
        with peer:
            try:
                peer.sendall(self._beginning)
                while not self.is_hung_up.wait(0.01 if self._again else 0.05):
                    if not self._again and not peer.recv(65536):
                        break
                    peer.sendall(self._again)
                    self.sent += len(self._again)
            except OSError:
                pass
        self.is_hung_up.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def raw(settings: Any) -> Iterator[Callable[[bytes, bytes], RawServer]]:
    settings.DEMO = True
    servers: list[RawServer] = []

    def make(beginning: bytes, again: bytes) -> RawServer:
        servers.append(RawServer(beginning, again))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("beginning", "again"),
    [(b"", b""), (b"HTTP/1.1 ", b""), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["silence", "half a line", "headers without end", "continue without end"],
)
def test_an_answer_that_never_comes_ends_at_the_deadline(
    raw: Callable[[bytes, bytes], RawServer], monkeypatch: Any, beginning: bytes, again: bytes
) -> None:
    monkeypatch.setattr(gateways, "SECONDS", 0.3)
    server = raw(beginning, again)
    answer = gateways.post(url=server.url, body=b"{}", headers={})
    assert answer.status is None
    assert answer.error
    assert server.is_hung_up.wait(30), "the connection is given back"


def test_of_a_huge_answer_only_the_beginning_is_read(raw: Callable[[bytes, bytes], RawServer]) -> None:
    server = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n", b"x" * 65536)
    assert gateways.post(url=server.url, body=b"{}", headers={}).is_success
    assert server.is_hung_up.wait(30)
    assert server.sent < 50_000_000


def test_words_of_a_failure_are_kept_short_and_without_addresses(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    receiver.answers = [Response("no ada@example.com\0 here\n" + "x" * 5000, status=500)]
    row = sent_test(endpoint)
    work()
    row.refresh_from_db()
    assert row.last_error.startswith("HTTP 500 INTERNAL SERVER ERROR: no …@… here")
    assert len(row.last_error) < 300


def test_nobody_there_is_a_failure_that_is_tried_again(settings: Any) -> None:
    settings.DEMO = True
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    row = sent_test(make_endpoint(f"http://127.0.0.1:{port}/"))
    work()
    row.refresh_from_db()
    assert (row.state, row.last_status) == ("waiting", None)
    assert "refused" in row.last_error.lower()


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


# --- in the admin -------------------------------------------------------------------------------------------------


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


FORM = {"name": "Shop", "url": "https://example.com/hook", "store": "", "events": ["order.placed", "order.shipped"]}


def test_the_secret_is_shown_once_when_the_endpoint_is_made_and_when_it_is_changed(people: Callable[..., User]) -> None:
    client = browser(people("Admin"))
    page = client.post(reverse("admin:notifications_webhookendpoint_add"), FORM, follow=True)
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.events, endpoint.with_customer) == (["order.placed", "order.shipped"], False)
    assert endpoint.created_by is not None
    assert endpoint.secret in page.content.decode().replace("&#x2B;", "+")
    change = reverse("admin:notifications_webhookendpoint_change", args=[endpoint.pk])
    assert "whsec_" not in client.get(change).content.decode()
    page = client.post(reverse("admin:notifications_webhookendpoint_do", args=[endpoint.pk, "rotate"]), follow=True)
    old = endpoint.secret
    endpoint.refresh_from_db()
    assert (endpoint.old_secret, endpoint.secret != old) == (old, True)
    assert endpoint.secret in page.content.decode().replace("&#x2B;", "+")


@pytest.mark.parametrize("changed", [{"url": "https://10.0.0.1/"}, {"url": "http://example.com"}, {"events": []}])
def test_a_wrong_form_is_refused(people: Callable[..., User], changed: dict[str, Any]) -> None:
    page = browser(people("Admin")).post(reverse("admin:notifications_webhookendpoint_add"), FORM | changed)
    assert "errorlist" in page.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_editing_an_endpoint_leaves_its_state_alone(people: Callable[..., User], endpoint: WebhookEndpoint) -> None:
    webhooks.switch(endpoint_id=endpoint.pk, on=False, actor=Actor.system())
    change = reverse("admin:notifications_webhookendpoint_change", args=[endpoint.pk])
    page = browser(people("Admin")).post(change, FORM, follow=True)
    assert page.status_code == 200
    secret = endpoint.secret
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.is_active, endpoint.secret) == ("Shop", False, secret)


def test_the_lists_pages_and_buttons_work(
    people: Callable[..., User], receiver: Receiver, endpoint: WebhookEndpoint
) -> None:
    client = browser(people("Admin"))
    do = "admin:notifications_webhookendpoint_do"
    client.post(reverse(do, args=[endpoint.pk, "test"]))
    work()
    row = delivery(type="webhook.test")
    deliveries = reverse("admin:notifications_webhookdelivery_changelist")
    for address in (
        reverse("admin:notifications_webhookendpoint_changelist"),
        reverse("admin:notifications_webhookendpoint_change", args=[endpoint.pk]),
        f"{deliveries}?endpoint__id__exact={endpoint.pk}&type=webhook.test&state=delivered",
        reverse("admin:notifications_webhookdelivery_change", args=[row.pk]),
        reverse(do, args=[endpoint.pk, "rotate"]),
    ):
        page = client.get(address)
        assert page.status_code == 200, address
        assert "Warehouse" in page.content.decode()
    client.post(reverse("admin:notifications_webhookdelivery_do", args=[row.pk, "again"]))
    work()
    client.post(deliveries, {"action": "send_again", "_selected_action": [row.pk]})
    work()
    assert receiver.ids == [row.event_id] * 3
    client.post(reverse(do, args=[endpoint.pk, "off"]))
    endpoint.refresh_from_db()
    assert not endpoint.is_active
    client.post(reverse(do, args=[endpoint.pk, "on"]))
    endpoint.refresh_from_db()
    assert endpoint.is_active


@pytest.mark.parametrize(("role", "seen"), [("Store Manager", 200), ("Fulfilment", 403), ("Customer Service", 403)])
def test_others_than_admins_change_nothing(
    role: str, seen: int, people: Callable[..., User], store: Store, receiver: Receiver
) -> None:
    endpoint = make_endpoint(receiver.url, store=store)
    foreign = make_endpoint(receiver.url, store=factories.StoreFactory())
    row = sent_test(endpoint)
    client = browser(people(role, store))
    change = "admin:notifications_webhookendpoint_change"
    assert client.get(reverse(change, args=[endpoint.pk])).status_code == seen
    assert client.get(reverse("admin:notifications_webhookdelivery_change", args=[row.pk])).status_code == seen
    assert client.get(reverse(change, args=[foreign.pk])).status_code != 200
    assert client.post(reverse(change, args=[endpoint.pk]), FORM).status_code == 403
    assert client.post(reverse("admin:notifications_webhookendpoint_add"), FORM).status_code == 403
    for name in ("test", "rotate", "off"):
        assert (
            client.post(reverse("admin:notifications_webhookendpoint_do", args=[endpoint.pk, name])).status_code == 403
        )
    assert client.post(reverse("admin:notifications_webhookdelivery_do", args=[row.pk, "again"])).status_code == 403
    secret, endpoint = endpoint.secret, WebhookEndpoint.objects.get(pk=endpoint.pk)
    assert (endpoint.secret, endpoint.name, endpoint.is_active) == (secret, "Warehouse", True)
    assert WebhookDelivery.objects.count() == 1


def test_deliveries_that_ended_are_forgotten_after_a_month(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    old, new = sent_test(endpoint), sent_test(endpoint)
    work()
    waiting = sent_test(endpoint)
    long_ago = timezone.now() - webhooks.KEEP_ENDED - DAY
    WebhookDelivery.objects.filter(pk__in=[old.pk, waiting.pk]).update(created_at=long_ago)
    assert webhooks.forget(before=timezone.now() - webhooks.KEEP_ENDED) == 1
    assert set(WebhookDelivery.objects.values_list("pk", flat=True)) == {new.pk, waiting.pk}
