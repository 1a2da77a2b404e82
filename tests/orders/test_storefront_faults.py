"""What a review of the storefront found: enumeration, leaks, crashes of single products, and why a line stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from django.utils.http import urlencode

from orders.models import Order
from shop.csp import HEADER
from shop.models import Store, User
from tests import factories
from tests.orders.storefront import Browser, new_customer
from tests.orders.test_return_pictures import small

pytestmark = pytest.mark.django_db

Place = Callable[..., Order]


@pytest.fixture
def customer() -> User:
    return new_customer(email="ada@example.com")


def test_nobody_tries_out_the_e_mails_of_an_orders_number(place: Place) -> None:
    order = place(email="guest@example.com", customer=None)

    def tried(email: str, number: str = str(order.number)) -> int:
        form = urlencode({"email": email, "number": f" {number} "})
        answer = Client().post("/users/orders/anonymous/", form, content_type="application/x-www-form-urlencoded")
        return int(answer.status_code)

    assert [tried(f"try{n}@example.com") for n in range(21)] == [404] * 20 + [429]
    assert tried("guest@example.com") == 429  # also who would have been right
    other = place(email="guest@example.com", customer=None)
    assert tried("guest@example.com", str(other.number)) == 200
    cache.clear()
    assert tried("guest@example.com") == 200


def test_nobody_tries_one_password_on_everybody(customer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from orders.api.account import LoginPerAddress

    monkeypatch.setattr(LoginPerAddress, "rate", "3/min")
    browser = Browser()
    tries = [browser.login(f"{n}@example.com", "wrong").status_code for n in range(4)]
    assert tries == [400, 400, 400, 429]


def test_a_product_may_have_an_attribute_called_items(client: Client, store: Store, place: Place) -> None:
    product = factories.stocked(store, name="Mug", sku="MUG", attributes={"items": "6 pieces", "EAN code": "1"})
    for path in ("/shop/", "/shop/products/MUG/"):
        assert b"items: 6 pieces" in b" ".join(client.get(path).content.replace(b"</dt><dd>", b": ").split()), path
    customer = new_customer()
    client.force_login(customer)
    order = place([product], store=store, customer=customer)
    assert b"EAN code: 1" in client.get(f"/shop/orders/{order.number}/").content


def test_the_apis_pages_have_a_policy(client: Client) -> None:
    for path in ("/api/docs/", "/api/docs/?script="):
        policy = client.get(path)[HEADER]
        assert "script-src 'self';" in policy, path
        assert "frame-ancestors 'none'" in policy, path


def test_a_null_character_finds_no_order_to_withdraw_from(client: Client, customer: User) -> None:
    client.force_login(customer)
    asked = {"step": "state", "order": "1\x00", "name": "Ada", "email": "ada@example.com"}
    assert client.post("/shop/withdraw/", asked).status_code == 400


def test_customers_are_not_told_where_goods_lie_and_what_workers_do(place: Place, customer: User, staff: Any) -> None:
    order = place(customer=customer, until="approved")
    path = f"/orders/{order.number}/cancel/plan/"
    told = Browser(customer).post(path, {}).json()["plan"]
    assert ({line["location"] for line in told["lines"]}, told["jobs"]) == ({""}, [])
    manager = staff("Store Manager", order.store)
    manager.set_password("pa55word of the tests")
    manager.save()
    told = Browser(manager).post(path, {}).json()["plan"]
    assert all(line["location"] for line in told["lines"])
    assert told["jobs"]


def test_a_line_says_why_it_cannot_be_sent_back(place: Place, customer: User) -> None:
    order = place([("10.00", 2), ("5.00", 1)], customer=customer, until="delivered")
    browser = Browser(customer)

    def told() -> list[tuple[bool, str]]:
        body = browser.get(f"/users/orders/{order.pk}/").json()
        return [(line["is_refundable"], line["refund_refusal"]) for line in body["orderitem_set"]]

    assert told() == [(True, ""), (True, "")]
    first, second = order.lines.order_by("position")
    order.lines.filter(pk=first.pk).update(return_exemption="hygiene", name="Cream <b>")
    order.lines.filter(pk=second.pk).update(delivered_at=timezone.now() - timedelta(days=40), name="Mug")
    exempt, late = told()
    assert exempt[0] is late[0] is False
    assert exempt[1].startswith("“Cream <b>” cannot be sent back:")
    assert late[1].startswith("“Mug” could be sent back until ")
    client = Client()
    client.force_login(customer)
    page = client.get(f"/shop/orders/{order.number}/").content.decode()
    assert "“Mug” could be sent back until" in page
    assert "“Cream &lt;b&gt;” cannot be sent back:" in page
    new = place(customer=customer)
    body = browser.get(f"/users/orders/{new.pk}/").json()
    assert [line["refund_refusal"] for line in body["orderitem_set"]] == [""], "nothing to send back yet"


def test_a_return_asked_for_is_not_called_received(client: Client, customer: User) -> None:
    client.force_login(customer)
    page = client.get("/shop/orders/").content.decode()
    assert "We have your return." not in page
    assert "You have asked to send it back." in page
    assert "Withdraw from contract here" in page


def test_a_number_typed_beside_a_chosen_order_is_not_passed_over(client: Client, customer: User, place: Place) -> None:
    mine = place(customer=customer)
    client.force_login(customer)
    asked = {"step": "state", "order": mine.number, "name": "Ada", "email": "ada@example.com"}
    answer = client.post("/shop/withdraw/", {**asked, "number": "4711"})
    page = answer.content.decode()
    assert (answer.status_code, 'value="4711"' in page) == (400, True)
    assert f"You have chosen order {mine.number} and typed another number." in page
    for number in ("", str(mine.number), f"#{mine.number}"):
        assert "Read it, then confirm" in client.post("/shop/withdraw/", {**asked, "number": number}).content.decode()


def test_a_parcel_is_not_fetched_in_a_window_that_ends_before_it_begins(place: Place, customer: User) -> None:
    order = place(customer=customer, until="delivered")
    browser, line = Browser(customer), order.lines.get().pk
    wish = {"order_item": line, "cancellation_type": "refund", "reason": 1}

    def asked(start: str, end: str) -> Any:
        day = {"date": timezone.localdate().isoformat(), "hour_range": {"start": start, "end": end}}
        return browser.cancel(order, {**wish, "pickup_date": day})

    at = "cancel_order_items.0.pickup_date.hour_range"
    assert asked("17:00", "09:00").json()[f"{at}.end"] == ["The window ends before it begins."]
    assert asked("25:00", "26:00").status_code == 400
    assert asked("in the morning", "noon").status_code == 200  # the contract has texts


def test_a_return_label_runs_nothing(client: Client, place: Place) -> None:
    order = place(email="guest@example.com", customer=None, until="delivered")
    stated = {"name": "Ada", "number": order.number, "email": "guest@example.com"}
    token = client.post("/api/v1/withdrawals/", stated, content_type="application/json").json()["token"]
    client.post("/api/v1/withdrawals/confirm/", {"token": token}, content_type="application/json")
    found = client.post("/users/orders/anonymous/", stated, content_type="application/json").json()[0]
    path = found["orderitem_set"][0]["active_cancellation_request"]["easy_return"]["label_url"]
    assert "script-src 'self';" in client.get(path)[HEADER]


def test_staff_who_may_not_see_orders_see_no_customers_picture(place: Place, customer: User, staff: Any) -> None:
    order = place(customer=customer, until="delivered")
    wish = {"order_item": order.lines.get().pk, "cancellation_type": "refund", "reason": 1}
    answer = Browser(customer).cancel(order, {**wish, "cancellation_request_image_set": [{"image": small()}]})
    path = answer.json()[0]["cancellation_request_image_set"][0]["image"]

    def seen(user: User) -> int:
        client = Client()
        client.force_login(user)
        return int(client.get(path).status_code)

    assert [seen(customer), seen(staff("Store Manager", order.store)), seen(staff(None, order.store))] == [
        200,
        200,
        404,
    ]
    nobody = Client()
    nobody.force_login(staff(None, order.store))
    assert nobody.get(f"/orders/{order.number}/actions/").status_code == 404
    plan = nobody.post(f"/orders/{order.number}/cancel/plan/", {}, content_type="application/json")
    assert plan.status_code == 404
