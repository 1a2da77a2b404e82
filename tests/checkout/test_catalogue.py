"""What a store offers: products with what can be had of them, ways to ship and to pay."""

from __future__ import annotations

import pytest

from checkout.models import ShippingMethod
from inventory.models import Product
from tests import factories

pytestmark = pytest.mark.django_db


def test_products_are_listed_by_store_with_what_can_be_had(browser, store):
    factories.stocked(store, units=3, name="Blue mug", sku="MUG-B")
    factories.stocked(store, units=0, name="Red mug", sku="MUG-R")
    factories.stocked(store, name="E-book", track_stock=False)
    factories.stocked(factories.StoreFactory(currency="GBP"), name="London mug")
    Product.objects.create(sku="OLD", name="Old mug", price=1, is_active=False)
    body = browser().get("/api/v1/products/").json()
    found = {row["name"]: (row["in_stock"], row["max_quantity"], row["price"]) for row in body["results"]}
    assert found == {
        "Blue mug": (True, 3, "10.00"),
        "E-book": (True, None, "10.00"),
        "Red mug": (False, 0, "10.00"),
    }
    assert body["count"] == 3


@pytest.mark.parametrize(
    "words, names", [("mug", {"Blue mug", "Red mug"}), ("mug blue", {"Blue mug"}), ("mug-r", {"Red mug"})]
)
def test_products_are_found_by_all_words_of_name_or_sku(browser, store, words, names):
    for name, sku in (("Blue mug", "MUG-B"), ("Red mug", "MUG-R"), ("Plate", "P")):
        factories.stocked(store, name=name, sku=sku, track_stock=False)
    body = browser().get("/api/v1/products/", {"search": words}).json()
    assert {row["name"] for row in body["results"]} == names


def test_products_are_paged(browser, store):
    for _n in range(5):
        factories.stocked(store, track_stock=False)
    page = browser().get("/api/v1/products/?limit=2&page=2").json()
    assert (page["count"], len(page["results"])) == (5, 2)
    assert page["next"].endswith("page=3")
    assert browser().get("/api/v1/products/?page=9").status_code == 404


def test_a_null_character_finds_nothing_and_breaks_nothing(browser, store):
    assert browser().get("/api/v1/products/?search=%00").status_code == 200
    assert browser().get("/api/v1/cart/?store=%00nowhere").status_code == 404
    assert browser().send("post", "/api/v1/orders/1%002/pay/", {}).status_code == 404


def test_shipping_is_priced_for_the_cart(browser, customer, fill, product, methods):
    ShippingMethod.objects.create(code="off", name="Off", is_active=False)
    ShippingMethod.objects.create(code="all", name="All stores", price=9)
    ShippingMethod.objects.create(code="pounds", name="In pounds", currency="GBP")
    shown = browser().get("/api/v1/shipping_methods/").json()
    assert {row["name"]: row["price"] for row in shown} == {"Standard": "5.00", "Pickup": "0.00", "All stores": "9.00"}
    fill(customer, (product, 5))
    shown = browser(customer).get("/api/v1/shipping_methods/").json()
    assert {row["name"]: row["price"] for row in shown}["Standard"] == "0.00"


def test_payment_methods_tell_what_to_do(browser, methods):
    shown = {row["name"]: row for row in browser().get("/api/v1/payment_methods/").json()}
    assert set(shown) == {"Card", "Card, at once", "Transfer", "Cash"}
    assert shown["Transfer"]["instructions"] == "IBAN DE00"
    assert shown["Cash"]["pays_on_delivery"] is True
