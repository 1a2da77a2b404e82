"""The list of orders: finding, filtering, its menus, and actions on many orders."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orders.admin import bulk
from orders.admin import order as order_admin
from orders.models import CancellationReason, JournalEntry, Order, Status
from orders.processing import EventHandler
from orders.processing.requesting import Wish
from payments.models import Transaction
from shop import search
from shop.models import Store, User
from tests import factories
from tests.orders.test_withdrawal import declare

Place = Callable[..., Order]
Work = Callable[[], int]

pytestmark = pytest.mark.django_db
LIST = "/admin/orders/order/"


@pytest.fixture
def manager(staff: Callable[..., User], store: Store, client: Client) -> User:
    user = staff("Store Manager", store)
    client.force_login(user)
    return user


def shown(client: Client, **query: str) -> list[str]:
    """The numbers that the list shows."""
    answer = client.get(LIST, query)
    assert answer.status_code == 200
    page = BeautifulSoup(answer.content, "html.parser")
    return [cell.get_text(strip=True) for cell in page.select("#result_list .field-number_shown")]


def do(client: Client, action: str, *orders: Order, **more: Any) -> Any:
    data = {"action": action, ACTION_CHECKBOX_NAME: [order.pk for order in orders], **more}
    return client.post(LIST, data, follow=True)


def messages(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def test_the_list_takes_the_same_queries_for_any_number_of_rows(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    place(store=store)
    client.get(LIST)
    counts = []
    for _more in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(LIST).status_code == 200
        counts.append(len(queries))
        for _n in range(12):
            place([("10.00", 1), ("5.00", 2)], store=store)
    print(counts)
    assert counts[0] == counts[1], counts
    assert counts[0] <= 20


def test_a_search_finds_by_number_mail_sku_and_beginning_of_the_name(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    wanted = place(store=store, email="Grace@example.com")
    other = place(store=store, email="other@example.com")
    Order.objects.filter(pk=wanted.pk).update(customer_name="Grace Hopper")
    sku = wanted.lines.get().sku
    for term in ("grace@EXAMPLE.com", "grace ho", "GRACE", sku, sku.lower() if sku.isupper() else sku, f" {sku} "):
        assert shown(client, q=term) == [wanted.number], term
    for term in ("hopper", "race", "nobody@example.com", "%", "gr%", "_race"):
        assert shown(client, q=term) == [], term
    assert set(shown(client, q="")) == {wanted.number, other.number}


def test_a_search_finds_by_the_numbers_of_parcels_documents_returns_and_payments(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler
) -> None:
    wanted, other = (place(store=store, until="paid") for _n in range(2))
    for order, tracking in ((wanted, "1Z-AB"), (other, "1Z-CD")):
        system.ship(number=order.number, tracking_number=tracking)
        system.deliver(number=order.number)
    parcel = declare(wanted).goods_return
    invoice = system.issue_invoice(number=wanted.number)
    paid = Transaction.objects.filter(payment__reference=wanted.number).exclude(gateway_reference="").first()
    for term in ("1z-ab", parcel.code.lower(), invoice.number.lower(), paid.gateway_reference):
        assert shown(client, q=term) == [wanted.number], term
    assert shown(client, q="1Z-A") == []


def test_a_whole_number_opens_the_order_and_a_filter_keeps_the_list(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    order = place(store=store)
    for term in (order.number, f"#{order.number}", f" {order.number} "):
        assert client.get(LIST, {"q": term}).headers["Location"] == reverse(
            "admin:orders_order_change", args=(order.pk,)
        )
    assert shown(client, q=str(order.number), status__exact="approved") == []
    elsewhere = place(store=factories.StoreFactory())
    assert shown(client, q=str(elsewhere.number)) == []


def test_a_search_is_a_union_of_ids_and_joins_nothing() -> None:
    sql = str(Order.objects.filter(pk__in=order_admin.found("ada")).query)
    assert sql.count("UNION") == 7
    assert "JOIN" not in sql


def test_filters_choose_status_hold_request_store_method_and_day(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler, reason: CancellationReason
) -> None:
    now = timezone.now()
    plain = place(store=store, payment_method="card", payment_method_name="Credit card")
    held, asked, old = place(store=store), place(store=store), place(store=store, until="approved")
    system.place_hold(number=held.number, kind="other")
    system.request_cancellation(number=asked.number, wishes=[Wish(asked.lines.get().pk, 1, "cancel", reason)])
    Order.objects.filter(pk=old.pk).update(placed_at=now - timedelta(days=45))
    day = (now - timedelta(days=45)).date().isoformat()
    for query, orders in (
        ({"status__exact": "approved"}, [old]),
        ({"on_hold": "yes"}, [held]),
        ({"on_hold": "no"}, [plain, asked, old]),
        ({"request": "open"}, [asked]),
        ({"payment_method": "card"}, [plain]),
        ({"placed": "today"}, [plain, held, asked]),
        ({"placed_from": day, "placed_until": day}, [old]),
        ({"placed_until": day}, [old]),
        ({"placed_from": "nonsense"}, [plain, held, asked, old]),
        ({"placed": "30", "on_hold": "yes"}, [held]),
    ):
        assert set(shown(client, **query)) == {order.number for order in orders}, query


def test_counting_stops_and_the_list_says_so(
    manager: User, client: Client, place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "COUNTED", 3)
    for _n in range(5):
        place(store=store)
    answer = client.get(LIST)
    assert "The latest 3 orders; search or filter for others." in re.sub(r"\s+", " ", answer.content.decode())


def test_an_empty_list_says_what_to_do(manager: User, client: Client, place: Place, store: Store) -> None:
    assert "No orders yet." in client.get(LIST).content.decode()
    place(store=store)
    assert "No order fits." in client.get(LIST, {"q": "nobody"}).content.decode()


def test_a_rows_menu_offers_what_is_possible_now(manager: User, client: Client, place: Place, store: Store) -> None:
    waiting, shipped = place(store=store), place(store=store, until="shipped")
    page = BeautifulSoup(client.get(LIST).content, "html.parser")
    menus = {}
    for row in page.select("#result_list tbody tr"):
        menus[row.select_one(".field-number_shown").get_text(strip=True)] = [
            a.get_text() for a in row.select(".order-next a")
        ]
    assert menus[waiting.number][0] == "Approve"
    assert menus[waiting.number][-1] == "Cancel"
    assert "Ship" not in menus[waiting.number]
    assert menus[shipped.number][0] == "Delivered"
    assert "Cancel" not in menus[shipped.number]


# ---------------------------------------------------------------------------------------------------------------
# Many orders at once


def test_each_order_of_a_bulk_action_is_done_by_itself_and_told(
    manager: User, client: Client, place: Place, store: Store, system: EventHandler
) -> None:
    first, held, late = place(store=store), place(store=store), place(store=store, until="preparing")
    system.place_hold(number=held.number, kind="fraud")
    answer = do(client, "approve_orders", first, held, late)
    told = " ".join(messages(answer))
    assert "1 approved." in told
    assert f"1 not done: The order is on hold (Fraud suspected). ({held.number})" in told
    assert f"“Preparing”. ({late.number})" in told
    assert [Order.objects.get(pk=o.pk).status for o in (first, held, late)] == [
        "approved",
        "confirmation_waiting",
        "preparing",
    ]


def test_an_error_in_one_order_leaves_the_others_done_and_everything_told(
    manager: User, client: Client, place: Place, store: Store, settings: Any
) -> None:
    settings.ORDER_EVENT_HANDLER = "tests.orders.test_admin_list.Stumbling"
    orders = [place(store=store) for _n in range(3)]
    Stumbling.over = orders[1].number or ""
    told = " ".join(messages(do(client, "approve_orders", *orders)))
    assert "2 approved." in told
    assert f"has been recorded. ({orders[1].number})" in told
    assert [Order.objects.get(pk=o.pk).status for o in orders] == ["approved", "confirmation_waiting", "approved"]


class Stumbling(EventHandler):
    """A shop's own handler with a mistake in it."""

    over = ""

    def approve(self, *, number: str, version: int | None = None, note: str = "") -> Order:
        order = super().approve(number=number, version=version, note=note)
        if number == self.over:
            raise ZeroDivisionError
        return order


def test_preparing_and_delivering_many(manager: User, client: Client, place: Place, store: Store) -> None:
    approved = [place(store=store, until="approved") for _n in range(2)]
    shipped = [place(store=store, until="shipped") for _n in range(2)]
    assert "2 are being prepared." in messages(do(client, "prepare_orders", *approved))
    assert "2 delivered." in messages(do(client, "deliver_orders", *shipped))
    assert {Order.objects.get(pk=o.pk).status for o in approved} == {Status.PREPARING}
    assert {Order.objects.get(pk=o.pk).status for o in shipped} == {Status.DELIVERED}


def test_without_its_permission_a_bulk_action_neither_shows_nor_works(
    staff: Callable[..., User], client: Client, place: Place, store: Store
) -> None:
    client.force_login(staff("Fulfilment", store))
    order = place(store=store)
    options = BeautifulSoup(client.get(LIST).content, "html.parser").select("select[name=action] option")
    assert {option["value"] for option in options} == {"", "prepare_orders", "deliver_orders"}
    for action in ("approve_orders", "delete_selected", "buttons", "unknown"):
        do(client, action, order)
    assert Order.objects.get(pk=order.pk).status == "confirmation_waiting"


def test_orders_of_another_store_are_left_out_of_a_bulk_action(
    manager: User, client: Client, place: Place, store: Store
) -> None:
    elsewhere = place(store=factories.StoreFactory())
    do(client, "approve_orders", elsewhere)
    assert Order.objects.get(pk=elsewhere.pk).status == "confirmation_waiting"
    assert shown(client) == []


def test_a_get_does_nothing(manager: User, client: Client, place: Place, store: Store) -> None:
    order = place(store=store)
    entries = JournalEntry.objects.count()
    client.get(LIST, {"action": "approve_orders", ACTION_CHECKBOX_NAME: order.pk, "index": "0"})
    assert JournalEntry.objects.count() == entries


def test_too_many_orders_at_once_are_refused_whole(
    manager: User, client: Client, place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_AT_ONCE", 2)
    orders = [place(store=store) for _n in range(3)]
    assert messages(do(client, "approve_orders", *orders)) == ["Nothing was done: choose at most 2 orders at once."]
    assert set(Order.objects.values_list("status", flat=True)) == {"confirmation_waiting"}
