"""Order the same again: what can be had goes into the cart, and of the rest the customer is told why."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.utils import timezone

from checkout import services
from inventory import services as inventory
from inventory.models import Product
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def ordered(store, customer, fill, buy):
    """An order of two units each of five products, by what will become of them."""
    names = ["same", "dearer", "gone", "inactive", "short"]
    products = {name: factories.stocked(store, name=name, units=6, track_stock=name != "gone") for name in names}
    order = buy(fill(customer, *[(product, 2) for product in products.values()]))
    Product.objects.filter(name="dearer").update(price=Decimal(11))
    Product.objects.filter(name="inactive").update(is_active=False)
    record = factories.record_of(products["short"])
    inventory.adjust(stock_record_id=record.pk, counted=3, key="count", note="Count", actor_name="Ada")
    products["gone"].delete()
    return order


def test_what_can_be_had_is_added_and_the_rest_is_told(browser, customer, ordered):
    body = browser(customer).send("post", f"/api/v1/orders/{ordered.number}/reorder/").json()
    in_cart = {item["product"]["name"]: item["quantity"] for item in body["cart"]["items"]}
    assert in_cart == {"same": 2, "dearer": 2, "short": 1}
    told = {row["name"]: (row["code"], row["wanted"], row["added"]) for row in body["not_added"]}
    assert told == {
        "dearer": ("price_changed", 2, 2),
        "gone": ("gone", 2, 0),
        "inactive": ("inactive", 2, 0),
        "short": ("less_stock", 2, 1),
    }
    words = {row["name"]: row["message"] for row in body["not_added"]}
    assert words["dearer"] == "“dearer” cost €10.00 and costs €11.00 now."
    assert words["short"] == "Only 1 of 2 “short” can be had."


def test_doing_it_twice_doubles_nothing(customer, ordered, store):
    cart = services.open_cart(store=store, customer=customer, as_of=timezone.now())
    for _again in range(2):
        services.reorder(order=ordered, cart_id=cart.pk, as_of=timezone.now())
    assert dict(cart.items.values_list("product__name", "quantity")) == {"same": 2, "dearer": 2, "short": 1}


def test_somebody_elses_order_is_not_found(browser, ordered):
    for stranger in (browser(factories.UserFactory()), browser()):
        assert stranger.send("post", f"/api/v1/orders/{ordered.number}/reorder/").status_code == 404
