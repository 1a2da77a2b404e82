"""A customer sends an order elsewhere: from their own address book, while nothing has left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from checkout.models import Address
from orders.models import Order, OrderAddress
from orders.processing import EventHandler
from shop.models import User
from tests.orders.storefront import Browser, assert_errors, assert_is, facts_of, new_customer, responses_of

Place = Callable[..., Order]
ADDRESS = "/orders/address_change/"
pytestmark = pytest.mark.django_db


def entry(customer: User, line: str) -> int:
    """One of the customer's address book."""
    made = Address.objects.create(
        customer=customer,
        first_name="Ada",
        last_name="Lovelace",
        line=line,
        postcode="10117",
        city="Berlin",
        country="DE",
        created_at=timezone.now(),
        updated_at=timezone.now(),
    )
    return made.pk


@pytest.fixture
def customer() -> User:
    return new_customer()


@pytest.fixture
def browser(customer: User) -> Browser:
    return Browser(customer)


@pytest.fixture
def book(customer: User) -> int:
    return entry(customer, "Unter den Linden 1")


def change(browser: Browser, order: Any, address: Any, types: Any = ("shipping",), **more: Any) -> Any:
    body = {"order": order, "address": address, "order_address_types": types, **more}
    return browser.post("/orders/address_change/", body)


@pytest.mark.parametrize("types", [["shipping"], ["billing"], ["shipping", "billing"], ["shipping", "shipping"]])
def test_the_chosen_addresses_change(
    types: list[str], place: Place, customer: User, browser: Browser, book: int
) -> None:
    order = place(customer=customer)
    response = change(browser, order.pk, book, types=types, channel_id=None)
    assert (response.status_code, response.json()) == (200, {"status": 200})
    assert_is(response.json(), "OrderAddressChangeResponse")
    changed = Order.objects.select_related("shipping_address", "billing_address").get(pk=order.pk)
    for kind in ("shipping", "billing"):
        address = getattr(changed, f"{kind}_address")
        assert address.line == ("Unter den Linden 1" if kind in types else "Sonnenallee 1")
    assert order.journal.latest("sequence").verb == "change_address"


def test_ids_may_be_strings(place: Place, customer: User, browser: Browser, book: int) -> None:
    assert change(browser, str(place(customer=customer).pk), str(book), channel_id="1", surplus={}).status_code == 200


def test_the_same_again_is_fine_and_makes_no_new_address(
    place: Place, customer: User, browser: Browser, book: int
) -> None:
    order = place(customer=customer)
    answers = [change(browser, order.pk, book) for _n in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert OrderAddress.objects.filter(line="Unter den Linden 1").count() == 1


@pytest.mark.parametrize("types", [["shipping"], ["billing"]])
@pytest.mark.parametrize("until", ["shipped", "delivered", "cancelled", "partly shipped"])
def test_it_is_too_late_once_anything_has_left_or_the_order_has_ended(
    until: str, types: list[str], place: Place, customer: User, browser: Browser, book: int, system: EventHandler
) -> None:
    order = place([("1.00", 2)], customer=customer, until={"cancelled": "", "partly shipped": "paid"}.get(until, until))
    if until == "cancelled":
        system.cancel(number=order.number or "")
    elif until == "partly shipped":
        system.ship(number=order.number or "", lines={order.lines.get().pk: 1})
    before = facts_of(order)
    answered = assert_errors(change(browser, order.pk, book, types=types), 400)
    assert answered == {"non_field_errors": ["Old order address cannot be changed."], "error_code": ["order_100_3"]}
    assert facts_of(order) == before


def test_orders_and_addresses_of_others_are_400_like_unknown_ones(
    place: Place, customer: User, browser: Browser, book: int
) -> None:
    other = new_customer()
    mine, theirs = place(customer=customer), place(customer=other)
    elsewhere = entry(other, "Elsewhere 8")
    before = facts_of(mine), facts_of(theirs)
    assert assert_errors(change(browser, theirs.pk, book), 400) == assert_errors(change(browser, 999_999, book), 400)
    assert assert_errors(change(browser, mine.pk, elsewhere), 400) == assert_errors(
        change(browser, mine.pk, 999_999), 400
    )
    assert set(assert_errors(change(browser, theirs.pk, elsewhere), 400)) == {"order", "address"}
    assert (facts_of(mine), facts_of(theirs)) == before


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"order": None}, "order"),
        ({"order": 0}, "order"),
        ({"order": -1}, "order"),
        ({"order": 10**30}, "order"),
        ({"order": "x"}, "order"),
        ({"order": [1]}, "order"),
        ({"address": True}, "address"),
        ({"address": 10**30}, "address"),
        ({"address": {}}, "address"),
        ({"order_address_types": []}, "order_address_types"),
        ({"order_address_types": "shipping"}, "order_address_types"),
        ({"order_address_types": ["home"]}, "order_address_types.0"),
        ({"order_address_types": [None]}, "order_address_types.0"),
        ({"order_address_types": ["shipping"] * 11}, "order_address_types"),
        ({"channel_id": "x"}, "channel_id"),
    ],
    ids=str,
)
def test_a_wrong_field_is_told_by_name(
    fields: dict[str, Any], told: str, place: Place, customer: User, browser: Browser, book: int
) -> None:
    order = place(customer=customer)
    before = facts_of(order)
    body = {"order": order.pk, "address": book, "order_address_types": ["shipping"], **fields}
    assert told in assert_errors(browser.post("/orders/address_change/", body), 400)
    assert facts_of(order) == before


@pytest.mark.parametrize("body", [None, [], "x", 5, {}], ids=str)
def test_a_wrong_body_is_400(body: Any, browser: Browser) -> None:
    assert_errors(browser.post("/orders/address_change/", body), 400)


def test_nobody_is_401_and_without_the_csrf_token_it_is_403(
    place: Place, customer: User, browser: Browser, book: int
) -> None:
    order = place(customer=customer)
    before = facts_of(order)
    assert_errors(change(Browser(), order.pk, book), 401)
    body = {"order": order.pk, "address": book, "order_address_types": ["shipping"]}
    assert_errors(browser.client.post("/orders/address_change/", body, format="json"), 403)
    assert facts_of(order) == before


def test_every_documented_status_is_reached() -> None:
    """By the tests above."""
    assert set(responses_of("/orders/address_change/")) == {"200", "400", "401"}


def test_with_a_key_a_repeat_gets_the_first_answer_even_when_the_goods_have_left(
    place: Place, customer: User, browser: Browser, book: int, settings: Any
) -> None:
    settings.ADDRESS_CHANGE_APPROVAL_STATUSES = []
    order = place(customer=customer, until="paid")
    body = {"order": order.pk, "address": book, "order_address_types": ["shipping"]}
    once = {"headers": {"Idempotency-Key": "a"}}
    assert browser.post(ADDRESS, body, **once).json() == {"status": 200}
    EventHandler().ship(number=order.number or "")
    Address.objects.all().delete()
    before = facts_of(order)
    again = browser.post(ADDRESS, body, **once)
    assert (again.json(), again["Idempotency-Replayed"]) == ({"status": 200}, "true")
    assert_errors(browser.post(ADDRESS, {**body, "order_address_types": ["billing"]}, **once), 422)
    body["address"] = entry(customer, "Elsewhere 2")
    assert assert_errors(browser.post(ADDRESS, body), 400)["error_code"] == ["order_100_3"]
    stranger = assert_errors(Browser(new_customer()).post(ADDRESS, body, **once), 400)
    assert {"order", "address"} <= set(stranger), "another person's key answers nothing"
    assert facts_of(order) == before


@pytest.mark.parametrize("key", ["x" * 201, "a\tb"])
def test_a_key_that_is_none_is_refused(key: str, place: Place, customer: User, browser: Browser, book: int) -> None:
    order = place(customer=customer)
    item = {"order_item": order.lines.get().pk, "cancellation_type": "cancel", "reason": 1}
    asked = {
        ADDRESS: {"order": order.pk, "address": book, "order_address_types": ["shipping"]},
        f"/orders/{order.number}/cancel/": {"cancel_order_items": [item]},
        "/users/orders/bulk_cancellation_requests/": {"cancel_order_items": [item]},
    }
    before = facts_of(order)
    for path, body in asked.items():
        told = assert_errors(browser.post(path, body, headers={"Idempotency-Key": key}), 400)
        assert told["error_code"] == ["idempotency_key_invalid"]
    assert facts_of(order) == before
