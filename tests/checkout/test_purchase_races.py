"""Rivals at the same moment: one order for a key or a cart, one buyer of the last unit; and what no lock means."""

from __future__ import annotations

from threading import Barrier

import pytest
from django.utils import timezone

from checkout import services
from checkout.models import Cart
from orders.models import Order
from payments.models import DemoGatewayEntry
from shop.actors import Actor
from tests import factories

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]


def test_eight_requests_with_one_key_are_one_order_and_one_answer(browser, customer, fill, product, at_once, books):
    fill(customer, (product, 1))
    shoppers = [browser(customer) for _ in range(8)]
    for shopper in shoppers:
        shopper.get("/api/v1/cart/")
    answers = at_once(*[lambda shopper=shopper: shopper.order(key="one") for shopper in shoppers])
    assert [answer.status_code for answer in answers] == [201] * 8, answers
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["payment"] == "succeeded"
    assert Order.objects.count() == 1
    assert DemoGatewayEntry.objects.count() == 1
    assert books() == []


def test_eight_requests_for_one_cart_with_keys_of_their_own_are_one_order(
    browser, customer, fill, product, at_once, books
):
    cart = fill(customer, (product, 1))
    shoppers = [browser(customer) for _ in range(8)]
    for shopper in shoppers:
        shopper.get("/api/v1/cart/")
    calls = [
        lambda shopper=shopper, n=n: shopper.order(key=f"key-{n}", cart=str(cart.public_id))
        for n, shopper in enumerate(shoppers)
    ]
    answers = at_once(*calls)
    assert [answer.status_code for answer in answers] == [201] * 8, answers
    assert len({answer.json()["number"] for answer in answers}) == 1
    assert Order.objects.count() == 1
    assert DemoGatewayEntry.objects.count() == 1
    assert books() == []


def test_four_buyers_of_the_last_unit_make_one_order(store, fill, browser, at_once, books):
    last = factories.stocked(store, units=1, name="Last lamp")
    users = [factories.UserFactory() for _ in range(4)]
    carts = [fill(user, (last, 1)) for user in users]
    shoppers = [browser(user) for user in users]
    for shopper in shoppers:
        shopper.get("/api/v1/cart/")
    answers = at_once(*[lambda shopper=shopper: shopper.order() for shopper in shoppers])
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    for cart, answer in zip(carts, answers, strict=True):
        if answer.status_code == 409:
            item = cart.items.get()
            assert answer.json()[f"items.{item.pk}"] == ["“Last lamp” is out of stock."]
    assert Order.objects.count() == 1
    assert factories.record_of(last).allocated == 1
    assert books() == []


def test_one_key_with_two_carts_at_once_orders_one_and_leaves_the_other(customer, fill, product, at_once, books):
    carts = [fill(None, (product, 1)), fill(customer, (product, 2))]
    buyers = [Actor.guest("guest@example.com"), Actor.customer(customer)]
    calls = [
        lambda cart=cart, actor=actor: services.purchase(
            cart_id=cart.pk, actor=actor, idempotency_key="same", as_of=timezone.now()
        )
        for cart, actor in zip(carts, buyers, strict=True)
    ]
    first, second = at_once(*calls)
    assert first == second, (first, second)
    assert Order.objects.count() == 1
    assert sorted(Cart.objects.values_list("status", flat=True)) == ["open", "ordered"]
    assert Cart.objects.get(status="open").items.count() == 1
    assert books() == []


def test_control_without_the_lock_one_cart_becomes_several_orders(customer, fill, product, at_once):
    cart, looked = fill(customer, (product, 1)), Barrier(4)

    def buy() -> bool:
        row = Cart.objects.get(pk=cart.pk)
        is_open = row.is_open
        looked.wait()
        if is_open:
            Cart.objects.filter(pk=row.pk).update(status="ordered", order_number="1")
        return is_open

    assert at_once(buy, buy, buy, buy) == [True] * 4


def test_adding_while_it_is_ordered_is_either_in_the_order_or_refused(customer, fill, product, store, at_once, books):
    other = factories.stocked(store, units=10)
    for attempt in range(3):
        cart = fill(customer, (product, 1))
        results = at_once(
            lambda cart=cart, attempt=attempt: services.purchase(
                cart_id=cart.pk, actor=Actor.customer(customer), idempotency_key=f"k{attempt}", as_of=timezone.now()
            ),
            lambda cart=cart: services.add_item(cart_id=cart.pk, product_id=other.pk, as_of=timezone.now()),
        )
        order, added = results
        assert isinstance(order, Order), results
        refused = isinstance(added, services.CartOrdered)
        assert order.lines.count() == (1 if refused else 2), results
    assert books() == []


def test_two_devices_open_one_cart(customer, store, at_once):
    def open_it() -> int:
        return services.open_cart(store=store, customer=customer, as_of=timezone.now()).pk

    assert len(set(at_once(*[open_it] * 4))) == 1


def test_two_new_default_addresses_at_once_leave_one_default(customer, at_once):
    address = {
        "first_name": "A",
        "last_name": "B",
        "line": "C 1",
        "city": "Berlin",
        "postcode": "12045",
        "country": "DE",
    }

    def save() -> int:
        data = {**address, "is_default_shipping": True}
        return services.save_address(customer=customer, data=data, as_of=timezone.now()).pk

    assert len(set(at_once(*[save] * 4))) == 4
    assert customer.addresses.filter(is_default_shipping=True).count() == 1
