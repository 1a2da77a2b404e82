"""The page after the purchase: for the one who bought, for a while, as a page or as JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from bs4 import BeautifulSoup
from django.contrib.staticfiles import finders
from django.core.signing import TimestampSigner
from django.utils import timezone

from orders.api import completed_token
from orders.api.serializers import NO_PICTURE
from orders.models import Order
from shop.models import User
from tests.orders.storefront import Browser, assert_errors, assert_is, new_customer, responses_of

Place = Callable[..., Order]
pytestmark = pytest.mark.django_db
ACCEPT_PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def customer() -> User:
    return new_customer()


def address(order: Order) -> str:
    return f"/orders/completed/{completed_token(number=order.number or '')}/"


def test_json_is_the_contracts(place: Place, customer: User) -> None:
    order = place([("10.00", 2)], customer=customer, discount="1.00")
    response = Browser(customer).get(address(order) + "?format=json", headers={"Accept": "application/json"})
    assert response.status_code == 200
    assert_is(response.json(), "CompletedOrderResponse")
    assert response.json()["order"]["number"] == order.number
    assert response.json()["campaigns"] == [{"name": "Welcome", "code": ""}]
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("headers", [{}, ACCEPT_PAGE, {"Accept": "*/*"}])
def test_without_a_format_it_is_a_page(headers: dict[str, str], place: Place, customer: User) -> None:
    order = place([("10.00", 2), ("5.00", 1)], customer=customer, shipping="4.90", discount="3.00")
    response = Browser(customer).get(address(order), headers=headers)
    assert (response.status_code, response["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = BeautifulSoup(response.content, "html.parser")
    text = page.get_text(" ", strip=True)
    for words in (order.number, "Thank you for your order", "€26.90", "Sonnenallee 1", order.lines.first().name):
        assert words in text
    assert page.html["lang"] == "en"
    assert not page.find("script")
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"
    assert "default-src 'none'" in response["Content-Security-Policy"]


def test_what_customers_typed_is_text_on_the_page(place: Place, customer: User) -> None:
    order = place(customer=customer)
    order.lines.update(name="<script>alert(1)</script>")
    content = Browser(customer).get(address(order)).content.decode()
    assert "<script>" not in content
    assert "&lt;script&gt;" in content


def test_nobody_is_401_in_json(place: Place, customer: User) -> None:
    for path in (address(place(customer=customer)), "/orders/completed/x/"):
        for query in ("", "?format=json"):
            assert_errors(Browser().get(path + query), 401)


def test_every_link_that_does_not_fit_is_the_same_404(place: Place, customer: User) -> None:
    mine, theirs = place(customer=customer), place(customer=new_customer())
    number = mine.number or ""
    token = completed_token(number=number)
    wrong = {
        "another customer's": completed_token(number=theirs.number or ""),
        "unknown": completed_token(number="1"),
        "forged": token[:-1] + ("A" if token[-1] != "A" else "B"),
        "unsigned": number,
        "signed for something else": TimestampSigner(salt="other").sign(number),
        "cut off": token.rpartition(":")[0],
        "not ASCII": "é" + token,
        "null": "%00",
    }
    browser = Browser(customer)
    with time_machine.travel(timezone.now() - timedelta(days=365)):
        wrong["expired"] = completed_token(number=number)
    answers = {name: browser.get(f"/orders/completed/{token}/?format=json") for name, token in wrong.items()}
    for response in answers.values():
        assert_errors(response, 404)
    assert len({response.content for response in answers.values()}) == 1


def test_a_link_holds_as_long_as_the_setting_says(place: Place, customer: User, settings: Any) -> None:
    settings.COMPLETED_ORDER_MAX_AGE_SECONDS = 60
    with time_machine.travel(timezone.now().replace(microsecond=0), tick=False) as clock:
        path = address(place(customer=customer))
        browser = Browser(customer)
        clock.shift(60)
        assert browser.get(path).status_code == 200
        clock.shift(1)
        assert_errors(browser.get(path), 404)


def test_errors_are_pages_for_people_only(place: Place, customer: User) -> None:
    browser = Browser(customer)
    page = browser.get("/orders/completed/x/", headers=ACCEPT_PAGE)
    assert (page.status_code, page["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert b"Order not found" in page.content
    assert Browser().get("/orders/completed/x/", headers=ACCEPT_PAGE).status_code == 401
    assert_errors(browser.get("/orders/completed/x/", headers={"Accept": "application/json"}), 404)
    assert_errors(browser.get("/orders/completed/x/?format=json", headers=ACCEPT_PAGE), 404)
    assert_errors(browser.get("/orders/completed/x/?format=pdf", headers=ACCEPT_PAGE), 404)


def test_the_token_fits_into_the_clients_addresses() -> None:
    token = completed_token(number="100000042")
    assert not set(token) & set(",/.? #")
    assert token.startswith("100000042:")


def test_every_documented_status_is_reached() -> None:
    """By the tests above."""
    assert set(responses_of("/orders/completed/{order_number}/")) == {"200", "401", "404"}


def test_format_json_is_json_for_whoever_asks_for_a_page(place: Place, customer: User) -> None:
    order = place(customer=customer)
    for who, status in ((Browser(customer), 200), (Browser(new_customer()), 404), (Browser(), 401)):
        response = who.get(address(order) + "?format=json", headers={"Accept": "text/html"})
        assert (response.status_code, response["Content-Type"]) == (status, "application/json")


def test_every_product_has_a_picture_there_since_the_client_draws_it_without_looking(
    place: Place, customer: User
) -> None:
    order = place(customer=customer)
    order.lines.update(image="")
    browser = Browser(customer)
    told = browser.get(address(order) + "?format=json").json()["order"]
    assert told["orderitem_set"][0]["product"]["image"] == f"http://testserver/static/{NO_PICTURE}"
    assert finders.find(NO_PICTURE)
    assert browser.get(f"/users/orders/{order.pk}/").json()["orderitem_set"][0]["product"]["image"] is None
