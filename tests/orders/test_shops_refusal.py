"""A shop's own reason against an action: on the button, in the API's list, under the lock, by every door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from orders.models import Facts, Order
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store, User
from tests import factories
from tests.orders.pages import text, url

Staff = Callable[..., User]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


class GiftNoteMissing(Refused):
    code = "gift_note_missing"
    message = "The gift note has not been printed."


class Gifts(EventHandler):
    def why_not(self, action: str, facts: Facts) -> Refused | None:
        if action in facts.order.extra.get("refuses", []):
            return GiftNoteMissing(remedy="Print it first.")
        return super().why_not(action, facts)


@pytest.fixture(autouse=True)
def _own_handler(settings: Any) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Gifts"


@pytest.fixture
def manager(staff: Staff, store: Store, client: Client) -> User:
    user = staff("Store Manager", store)
    client.force_login(user)
    return user


def gift(store: Store, *refuses: str, until: str = "paid", **more: Any) -> Order:
    order = factories.place_order([("10.00", 2)], store=store, until=until, **more)
    Order.objects.filter(pk=order.pk).update(extra={"refuses": list(refuses)})
    return Order.objects.get(pk=order.pk)


@pytest.mark.parametrize(
    "action, until, verb",
    [
        ("start-preparing", "approved", lambda desk, order: desk.start_preparing(number=order.number)),
        ("ship", "paid", lambda desk, order: desk.ship(number=order.number)),
        ("deliver", "shipped", lambda desk, order: desk.deliver(number=order.number)),
        ("cancel", "paid", lambda desk, order: desk.cancel(number=order.number, reason="other", note="Twice")),
        ("hold", "paid", lambda desk, order: desk.place_hold(number=order.number, kind="fraud")),
        (
            "take-back",
            "delivered",
            lambda desk, order: desk.take_back(
                number=order.number, lines={line.pk: (1, "sellable") for line in order.lines.all()}
            ),
        ),
    ],
)
def test_the_button_the_page_the_list_and_the_verb_say_the_same(
    manager: User, client: Client, store: Store, action: str, until: str, verb: Any
) -> None:
    order = gift(store, action, until=until)
    page = BeautifulSoup(client.get(reverse("admin:orders_order_change", args=(order.pk,))).content, "html.parser")
    assert page.select_one(f"a[href$='/do/{action}/']") is None
    assert "The gift note has not been printed." in text(page.select_one(".desk-buttons"))
    assert "Print it first." in text(client.get(url(order, action)))
    listed = {one["action"]: one for one in client.get(f"/orders/{order.number}/actions/").json()["actions"]}
    assert not listed[action]["allowed"]
    assert (listed[action]["refusal"]["code"], listed[action]["lines"]) == ("gift_note_missing", [])
    version = order.version
    with pytest.raises(GiftNoteMissing):
        verb(get_event_handler(Actor.staff(manager)), order)
    order.refresh_from_db()
    assert order.version == version
    Order.objects.filter(pk=order.pk).update(extra={})
    verb(get_event_handler(Actor.staff(manager)), order)


def test_oscars_door_and_a_repeated_command_hear_it_too_but_only_once_it_counts(store: Store) -> None:
    order, desk = gift(store), get_event_handler(Actor.system())
    (line,) = order.lines.all()
    event = desk.ship(number=order.number or "", lines={line.pk: 1}, cause="label-1")
    Order.objects.filter(pk=order.pk).update(extra={"refuses": ["ship"]})
    assert desk.ship(number=order.number or "", lines={line.pk: 1}, cause="label-1") == event
    with pytest.raises(GiftNoteMissing):
        get_event_handler(Actor.system()).handle_shipping_event(order, "shipped", [line], [1])


def test_handing_over_is_shipping_and_delivering(manager: User, client: Client, store: Store) -> None:
    order = gift(store, "deliver", shipping_method="pickup", is_pickup=True)
    desk = get_event_handler(Actor.staff(manager))
    desk.ready_for_pickup(number=order.number or "")
    assert "The gift note has not been printed." in text(client.get(url(order, "hand-over")))
    with pytest.raises(GiftNoteMissing):
        desk.hand_over(number=order.number or "")


def test_many_orders_are_previewed_and_cancelled_without_those_it_stops(store: Store, books: Books) -> None:
    free, stopped = gift(store), gift(store, "cancel")
    wanted = {str(one.number): None for one in (free, stopped)}
    done = get_event_handler(Actor.system()).cancel_many(orders=wanted, cause="many", reason="out_of_stock")
    assert isinstance(done[str(stopped.number)], GiftNoteMissing)
    assert [Order.objects.get(pk=one.pk).facts.nothing_left for one in (free, stopped)] == [True, False]
    assert books() == []


def test_the_list_of_orders_asks_for_it_without_a_query(manager: User, client: Client, store: Store) -> None:
    counts = []
    for more in (1, 8):
        for _n in range(more):
            gift(store, "ship")
        with CaptureQueriesContext(connection) as queries:
            page = client.get(reverse("admin:orders_order_changelist"))
        counts.append(len(queries))
        assert b"/do/ship/" not in page.content
    assert counts[0] == counts[1]
