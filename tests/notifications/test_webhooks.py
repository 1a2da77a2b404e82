"""Webhooks: what other systems are told of an order, to whom, and signed how."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from notifications import rules
from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.services import webhooks
from orders.models import Order
from orders.processing import EventHandler
from shop import jobs
from shop.actors import Actor
from shop.models import Store
from tests import factories
from tests.notifications.receiver import Receiver, make_endpoint, sent_test, work

pytestmark = pytest.mark.django_db


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
