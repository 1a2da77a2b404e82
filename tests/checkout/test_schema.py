"""The API's documentation: complete, and as the doors really answer."""

from __future__ import annotations

import io

import pytest
import yaml
from django.core.management import call_command

from tests.checkout.conftest import BERLIN

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def schema() -> dict:
    out = io.StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    return yaml.safe_load(out.getvalue())


DOORS = {
    "/api/v1/cart/": {"get", "post", "patch"},
    "/api/v1/cart/items/": {"post", "delete"},
    "/api/v1/cart/items/{item_id}/": {"patch", "delete"},
    "/api/v1/shipping_methods/": {"get"},
    "/api/v1/payment_methods/": {"get"},
    "/api/v1/products/": {"get"},
    "/api/v1/purchase/": {"post"},
    "/api/v1/account/credit/": {"get"},
    "/api/v1/orders/{number}/pay/": {"post"},
    "/api/v1/orders/{number}/reorder/": {"post"},
    "/address/detailed/": {"get"},
    "/address/": {"post"},
    "/address/{address_id}/": {"patch", "delete"},
}


def test_every_door_is_documented(schema):
    for path, methods in DOORS.items():
        assert methods <= set(schema["paths"][path]), path


def test_the_documented_fields_are_those_that_come(schema, browser, customer, fill, product):
    shapes = schema["components"]["schemas"]
    fill(customer, (product, 1))
    shopper = browser(customer)
    shopper.send("post", "/address/", BERLIN)
    cart = shopper.get("/api/v1/cart/").json()
    came = {
        "CartOut": cart,
        "CartItemOut": cart["items"][0],
        "AddressOut": cart["shipping_address"],
        "BookEntryOut": shopper.get("/address/detailed/").json()["results"][0],
        "ProductOut": shopper.get("/api/v1/products/").json()["results"][0],
        "PurchaseOut": shopper.order().json(),
    }
    for name, body in came.items():
        assert set(shapes[name]["properties"]) == set(body), name
