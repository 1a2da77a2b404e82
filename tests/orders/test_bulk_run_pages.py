"""Bulk runs in the admin: from the list of orders to the results and their file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.test import Client
from django.urls import reverse

from orders.models import BulkItem, BulkRun, Order
from shop.models import Store, User
from tests.orders.bulk_runs import many, start, status

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]
Work = Callable[[], int]
Books = Callable[[], list[str]]
LIST = reverse("admin:orders_order_changelist")


def confirm_page(client: Client, *orders: Order, **more: Any) -> BeautifulSoup:
    data = {"action": "cancel_orders", ACTION_CHECKBOX_NAME: [order.pk for order in orders], "index": "0", **more}
    answer = client.post(LIST, data)
    assert answer.status_code == 200
    return BeautifulSoup(answer.content, "html.parser")


def filled(page: BeautifulSoup, **more: str) -> dict[str, str]:
    hidden = {field["name"]: field["value"] for field in page.select("form.desk-form input[type=hidden]")}
    ticks = {"restock": "on", "refund": "on", "notify": "on", "understood": "on"}
    return {**hidden, **ticks, "reason": "out_of_stock", **more}


START = reverse("admin:orders_bulkrun_start")


def words_of(page: BeautifulSoup) -> str:
    return re.sub(r"\s+", " ", page.get_text(" "))


def test_from_the_list_to_the_results(
    manager: User, client: Client, place: Place, store: Store, work: Work, books: Books
) -> None:
    client.force_login(manager)
    paid, gone = place(store=store, until="paid"), place(store=store, until="shipped")
    page = confirm_page(client, paid, gone)
    words = words_of(page)
    assert "2 orders are chosen." in words
    assert "€20.00" in words
    assert str(gone.number) in page.select_one(".bulk-refused p").get_text()
    without = client.post(START, {k: v for k, v in filled(page).items() if k not in {"understood", "reason"}})
    assert b"This field is required" in without.content
    assert not BulkRun.objects.exists()
    data = filled(page, note="gone")
    answers = [client.post(START, data) for _double in range(2)]
    run = BulkRun.objects.get()
    change = reverse("admin:orders_bulkrun_change", args=(run.pk,))
    assert [answer.headers["Location"] for answer in answers] == [change, change]
    bar = BeautifulSoup(client.get(change).content, "html.parser").select_one("[role=progressbar]")
    assert (bar["aria-valuenow"], bar["aria-valuetext"]) == ("0", "0 of 2 orders")
    work()
    told = client.get(reverse("admin:orders_bulkrun_progress", args=(run.pk,))).json()
    assert (told["percent"], told["live"], told["counts"]["done"], told["counts"]["refused"]) == (100, False, 1, 1)
    refused = words_of(BeautifulSoup(client.get(change, {"state": "refused"}).content, "html.parser"))
    assert str(gone.number) in refused
    assert str(paid.number) not in refused
    assert str(run.reason) in client.get(reverse("admin:orders_bulkrun_changelist")).content.decode()
    assert books() == []


def test_all_that_match_are_chosen_across_pages_and_what_comes_later_is_not(
    manager: User, client: Client, place: Place, store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(manager)
    monkeypatch.setattr("orders.admin.bulk.TYPED_ABOVE", 2)
    orders = many(place, store, 4)
    page = confirm_page(client, orders[0], select_across="1")
    assert "4 orders are chosen." in words_of(page)
    later = place(store=store)
    for count in ("", "3"):
        assert b"These are 4 orders." in client.post(START, filled(page, count=count)).content
    assert client.post(START, filled(page, count="4")).status_code == 302
    work()
    assert Order.objects.filter(status="cancelled").count() == 4
    assert Order.objects.get(pk=later.pk).status != "cancelled"


def test_a_page_that_is_forged_or_somebody_elses_starts_nothing(
    staff: Callable[..., User], manager: User, client: Client, place: Place, store: Store
) -> None:
    client.force_login(manager)
    data = filled(confirm_page(client, place(store=store)))
    assert client.post(START, {**data, "token": data["token"][:-2] + "xx"}).status_code == 302
    client.force_login(staff("Store Manager", store))
    assert client.post(START, data).status_code == 302
    client.force_login(staff("Fulfilment", store))
    assert client.post(START, data).status_code == 403
    assert client.get(START).status_code == 403
    assert not BulkRun.objects.exists()


@pytest.mark.usefixtures("many_need_approval")
def test_the_page_says_who_has_to_agree_and_asks_why(manager: User, client: Client, place: Place, store: Store) -> None:
    client.force_login(manager)
    page = confirm_page(client, *many(place, store, 3))
    assert "Administration has to agree" in words_of(page)
    refused = client.post(START, filled(page))
    assert refused.status_code == 409
    assert b"Much money" in refused.content
    assert client.post(START, filled(page, justification="recalled")).status_code == 302
    assert BulkRun.objects.get().status == "waiting_approval"


def test_the_buttons_of_a_run_lead_it(manager: User, client: Client, place: Place, store: Store, work: Work) -> None:
    client.force_login(manager)
    run = start(manager, *many(place, store, 2))

    def press(name: str, **data: str) -> None:
        url = reverse("admin:orders_bulkrun_do", args=(run.pk, name))
        assert client.post(url, data).status_code == 302

    press("pause")
    assert status(run) == "paused"
    press("resume")
    assert status(run) == "running"
    url = reverse("admin:orders_bulkrun_do", args=(run.pk, "stop"))
    assert client.post(url).status_code == 200, "it asks for a tick first"
    press("stop", understood="on")
    assert status(run) == "stopped"
    assert client.post(reverse("admin:orders_bulkrun_do", args=(run.pk, "resume"))).status_code == 409


def test_the_file_of_results_holds_no_formula(
    manager: User, client: Client, place: Place, store: Store, work: Work
) -> None:
    order = place(store=store)
    Order.objects.filter(pk=order.pk).update(customer_name='=HYPERLINK("http://evil.example.com")')
    run = start(manager, order, note="+1+cmd|' /C calc'!A0")
    work()
    client.force_login(manager)
    answer = client.get(reverse("admin:orders_bulkrun_csv", args=(run.pk,)))
    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    header, row = list(csv.reader(io.StringIO(text)))
    cells = dict(zip(header, row, strict=True))
    assert cells["Order"] == order.number
    assert cells["Customer"].startswith("'=HYPERLINK")
    assert cells["Note"].startswith("'+1")
    assert cells["State"] == "Cancelled"


def test_the_value_of_a_run_is_kept_by_currency(manager: User, place: Place, store: Store) -> None:
    run = start(manager, place([("10.00", 2)], store=store, until="paid"), place([("1.50", 1)], store=store, pay=False))
    assert Decimal(run.totals["refund"]["EUR"]) == Decimal("20.00")
    assert (run.totals["orders"], run.totals["possible"], run.totals["units"]) == (2, 2, 3)
    assert BulkItem.objects.filter(run=run, joint=True).count() == 2
