"""Webhooks in the admin: endpoints, their secrets, deliveries, and who may see and do what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.services import webhooks
from shop.actors import Actor
from shop.models import Store, User
from tests import factories
from tests.notifications.receiver import Receiver, delivery, make_endpoint, sent_test, work

pytestmark = pytest.mark.django_db


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
