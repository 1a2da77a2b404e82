"""Carts: of customers and guests, changed by nobody else, and kept through a login."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.hashers import make_password
from django.utils import timezone

from checkout import services
from checkout.models import Cart
from inventory.models import Product
from shop.models import Store
from tests import factories
from tests.checkout.conftest import BERLIN, offer

pytestmark = pytest.mark.django_db


def add(shopper, product: Product, quantity: int = 1, **more):
    return shopper.send("post", "/api/v1/cart/items/", {"product": product.pk, "quantity": quantity, **more})


def test_looking_at_a_cart_stores_nothing(browser, store):
    cart = browser().get("/api/v1/cart/").json()
    assert (cart["id"], cart["items"], cart["store"]["code"]) == (None, [], store.code)
    assert cart["problems"][0]["code"] == "cart_empty"
    assert not Cart.objects.exists()


def test_a_guest_keeps_their_cart_and_others_have_none(browser, product):
    shopper = browser()
    assert add(shopper, product, 2).status_code == 201
    assert shopper.get("/api/v1/cart/").json()["items"][0]["quantity"] == 2
    assert browser().get("/api/v1/cart/").json()["items"] == []


def test_a_guest_without_the_csrf_token_changes_nothing(browser, product):
    shopper = browser()
    body = {"product": product.pk}
    assert shopper.send("post", "/api/v1/cart/items/", body, csrf=False).status_code == 403
    assert not Cart.objects.exists()


def test_units_are_added_changed_and_taken_out(browser, customer, product, store):
    shopper, other = browser(customer), factories.stocked(store)
    add(shopper, product)
    cart = add(shopper, product, 2).json()
    assert [(item["product"]["sku"], item["quantity"]) for item in cart["items"]] == [(product.sku, 3)]
    item = cart["items"][0]["id"]
    cart = shopper.send("patch", f"/api/v1/cart/items/{item}/", {"quantity": 5}).json()
    assert (cart["items"][0]["quantity"], cart["totals"]["items"]) == (5, "50.00")
    add(shopper, other)
    cart = shopper.send("delete", f"/api/v1/cart/items/{item}/").json()
    assert [item["product"]["sku"] for item in cart["items"]] == [other.sku]
    assert shopper.send("delete", "/api/v1/cart/items/").json()["items"] == []


@pytest.mark.parametrize("quantity", [0, -1, 1.5, "x", None, 2**40])
def test_a_quantity_that_is_none_is_refused(browser, customer, product, quantity):
    assert add(browser(customer), product, quantity).status_code == 400
    assert not Cart.objects.filter(items__isnull=False).exists()


def test_more_than_the_store_has_is_refused_with_what_can_be_had(browser, customer, product):
    shopper = browser(customer)
    add(shopper, product, 8)
    answer = add(shopper, product, 3)
    assert answer.status_code == 409
    assert answer.json()["max_quantity"] == ["10"]
    assert shopper.get("/api/v1/cart/").json()["items"][0]["quantity"] == 8


def test_one_order_is_served_by_one_location(browser, customer, store):
    product = factories.stocked(store, units=3)
    factories.inventory.ensure_records(product_ids=[product.pk], location_id=factories.LocationFactory(store=store).pk)
    record = product.stock_records.order_by("pk").last()
    factories.inventory.receive(stock_record_id=record.pk, quantity=4, key="more")
    assert add(browser(customer), product, 4).status_code == 201
    assert add(browser(customer), product, 1).status_code == 409


def test_what_is_not_sold_here_cannot_be_added(browser, customer, product, store):
    pounds = factories.stocked(factories.StoreFactory(currency="GBP"))
    Product.objects.filter(pk=product.pk).update(is_active=False)
    shopper = browser(customer)
    assert [add(shopper, product).status_code, add(shopper, pounds).status_code] == [409, 409]
    assert shopper.send("post", "/api/v1/cart/items/", {"product": 999_999}).status_code == 400


def test_each_store_has_a_cart_of_its_own(browser, customer, product):
    london = factories.StoreFactory(currency="GBP")
    tea = factories.stocked(london)
    shopper = browser(customer)
    add(shopper, product)
    assert add(shopper, tea, store=london.code).json()["currency"] == "GBP"
    assert len(shopper.get("/api/v1/cart/").json()["items"]) == 1
    assert shopper.get(f"/api/v1/cart/?store={london.code}").json()["items"][0]["product"]["sku"] == tea.sku
    assert shopper.get("/api/v1/cart/?store=nowhere").status_code == 404


@pytest.mark.parametrize("stranger", ["guest", "customer"])
def test_somebody_elses_items_are_not_found(browser, customer, fill, product, stranger):
    cart = fill(customer, (product, 1))
    item = cart.items.get()
    other = browser(factories.UserFactory() if stranger == "customer" else None)
    other.send("post", "/api/v1/cart/", {})
    for method, body in (("patch", {"quantity": 3}), ("delete", None)):
        answer = other.send(method, f"/api/v1/cart/items/{item.pk}/", body)
        assert (answer.status_code, answer.json()["error_code"]) == (404, ["item_not_found"])
    item.refresh_from_db()
    assert item.quantity == 1


def test_at_login_a_guests_cart_joins_the_customers(browser, customer, product, fill, store):
    other = factories.stocked(store)
    fill(customer, (product, 1))
    customer.password = make_password("secret")
    customer.save()
    shopper = browser()
    add(shopper, product, 2)
    add(shopper, other, 1)
    assert shopper.login(username=customer.username, password="secret")
    for _again in range(2):
        items = shopper.get("/api/v1/cart/").json()["items"]
        assert {item["product"]["sku"]: item["quantity"] for item in items} == {product.sku: 3, other.sku: 1}
    assert Cart.objects.count() == 1


def test_at_login_a_guests_cart_becomes_that_of_a_customer_without_one(browser, customer, product):
    shopper = browser()
    add(shopper, product, 2)
    guest_cart = Cart.objects.get()
    shopper.force_login(customer)
    assert shopper.get("/api/v1/cart/").json()["id"] == str(guest_cart.public_id)
    assert Cart.objects.get().customer == customer


@pytest.mark.parametrize(
    "change, field",
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a" * 300 + "@example.com"}, "email"),
        ({"shipping_method": "rocket"}, "shipping_method"),
        ({"payment_method": "gold"}, "payment_method"),
        ({"shipping_address": {"first_name": "Ada"}}, "shipping_address.last_name"),
        ({"shipping_address": {**BERLIN, "postcode": "1"}}, "shipping_address.postcode"),
        ({"shipping_address": "home"}, "shipping_address"),
        ({"discount_code": "nothing"}, "discount_code"),
    ],
)
def test_a_wrong_choice_is_refused_by_its_field(browser, customer, fill, product, change, field):
    fill(customer, (product, 1))
    answer = browser(customer).send("patch", "/api/v1/cart/", change)
    assert answer.status_code == 400
    assert field in answer.json()


def test_another_stores_methods_are_not_offered(browser, customer, fill, product):
    elsewhere = offer(factories.StoreFactory())
    fill(customer, (product, 1))
    for name in ("standard", "card"):
        field = "shipping_method" if name == "standard" else "payment_method"
        answer = browser(customer).send("patch", "/api/v1/cart/", {field: elsewhere[name].code})
        assert answer.status_code == 400


def test_another_customers_address_cannot_be_used(browser, customer, book, fill, product):
    other = factories.UserFactory()
    fill(other, (product, 1))
    for shopper in (browser(other), browser()):
        answer = shopper.send("patch", "/api/v1/cart/", {"shipping_address": book.pk})
        assert (answer.status_code, answer.json()["error_code"]) == (404, ["address_not_found"])


def test_null_takes_a_choice_away(browser, customer, fill, product):
    fill(customer, (product, 1))
    changes = {"shipping_method": None, "shipping_address": None}
    cart = browser(customer).send("patch", "/api/v1/cart/", changes).json()
    assert (cart["shipping_method"], cart["shipping_address"]) == (None, None)
    assert not cart["can_be_ordered"]


def test_the_cart_shows_todays_price(browser, customer, fill, product):
    fill(customer, (product, 2))
    Product.objects.update(price=Decimal("12.50"))
    cart = browser(customer).get("/api/v1/cart/").json()
    assert (cart["items"][0]["unit_price"], cart["totals"]["total"]) == ("12.50", "30.00")


def test_a_method_that_was_switched_off_is_a_problem(customer, fill, product, methods):
    cart = fill(customer, (product, 1))
    for name in ("standard", "card"):
        type(methods[name]).objects.filter(pk=methods[name].pk).update(is_active=False)
    Store.objects.update(is_active=False)
    cart = services.find_cart(store_id=cart.store_id, customer=customer)
    assert cart is not None
    codes = [problem.code for problem in services.problems(cart=cart, as_of=timezone.now())]
    assert codes == ["store_closed", "shipping_method_gone", "payment_method_gone"]


def test_a_product_whose_currency_changed_has_no_price_here(customer, fill, product):
    cart = fill(customer, (product, 1))
    Product.objects.update(currency="GBP")
    problems = services.problems(cart=cart, as_of=timezone.now())
    assert [(problem.code, problem.field) for problem in problems] == [("price_gone", f"items.{cart.items.get().pk}")]
    assert services.totals(cart=cart, as_of=timezone.now()).total == 0


def test_a_fortune_is_more_than_an_order_can_hold(customer, fill, store):
    yacht = factories.stocked(store, price=Decimal("99999999999.00"), track_stock=False)
    cart = fill(customer, (yacht, 9999))
    assert [p.code for p in services.problems(cart=cart, as_of=timezone.now())] == ["order_too_large"]
