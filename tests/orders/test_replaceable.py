"""What a shop replaces of how orders are shown: serializers by setting, templates of what the checkout collected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client
from django.urls import reverse
from rest_framework import serializers

from inventory.models import Product
from orders import rules
from orders.api import completed_token
from orders.api.serializers import OrderSerializer
from orders.models import Order
from orders.processing import EventHandler
from shop.models import Store, User
from tests import factories
from tests.checkout.conftest import BERLIN, offer
from tests.orders.storefront import Browser, assert_errors, assert_is, new_customer

pytestmark = pytest.mark.django_db


class Short(serializers.Serializer[Any]):
    number = serializers.CharField(source="order.number")


class Longer(OrderSerializer):
    gift = serializers.CharField(source="order.extra.gift", default="")


def page_of(client: Client, order: Order) -> str:
    answer = client.get(reverse("admin:orders_order_change", args=(order.pk,)))
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_latest_order_and_the_note_that_came_with_it(store: Store) -> None:
    """Bought through the API, with a note; shown to the customer, and on the desk's page to staff."""
    methods, customer = offer(store), new_customer()
    browser = Browser(customer)
    assert_errors(browser.get("/users/orders/last/"), 404)
    assert_errors(Browser().get("/users/orders/last/"), 401)
    factories.place_order(store=store, customer=customer)
    product: Product = factories.stocked(store)
    browser.post("/api/v1/cart/items/", {"product": product.pk})
    token = {"X-CSRFToken": browser.get("/csrf_token/").json()["csrf_token"]}
    filled = {"shipping_method": methods["standard"].code, "payment_method": methods["card"].code}
    browser.client.patch("/api/v1/cart/", {**filled, "shipping_address": BERLIN}, format="json", headers=token)
    key = {"headers": {"Idempotency-Key": "one"}}
    assert "annotation" in assert_errors(browser.post("/api/v1/purchase/", {"annotation": "x" * 1001}, **key), 400)
    note = " <b>Ring</b> twice\nplease "
    bought = browser.post("/api/v1/purchase/", {"annotation": note}, **key)
    assert bought.status_code == 201, bought.content
    last = browser.get("/users/orders/last/").json()
    assert_is(last, "OrderDetail")
    assert (last["number"], last["annotation"]) == (bought.json()["number"], note.strip())
    assert last == browser.get(f"/users/orders/{last['id']}/").json()
    boss = Client()
    boss.force_login(factories.UserFactory(is_staff=True, is_superuser=True))
    assert "&lt;b&gt;Ring&lt;/b&gt; twice<br>please" in page_of(boss, Order.objects.get(pk=last["id"]))


def test_serializers_are_the_shops_at_every_door(place: Callable[..., Order], settings: Any) -> None:
    settings.ORDER_LIST_SERIALIZER, settings.ORDER_DETAIL_SERIALIZER = f"{__name__}.Short", f"{__name__}.Longer"
    customer = new_customer()
    order, browser = place(customer=customer, extra={"gift": "ribbon"}), Browser(customer)
    guests = place(email="guest@example.com")
    assert browser.get("/users/orders/").json()["results"] == [{"number": order.number}]
    for path in (f"/users/orders/{order.pk}/", "/users/orders/last/"):
        assert browser.get(path).json()["gift"] == "ribbon"
    completed = f"/orders/completed/{completed_token(number=order.number or '')}/?format=json"
    assert browser.get(completed).json()["order"]["gift"] == "ribbon"
    asked = {"email": "guest@example.com", "number": guests.number}
    assert browser.post("/users/orders/anonymous/", asked).json()[0]["gift"] == ""


@pytest.mark.parametrize("path", ["nowhere.Serializer", "orders.models.Order", "orders.api.serializers.AMOUNT", "x"])
@pytest.mark.parametrize("name", ["ORDER_LIST_SERIALIZER", "ORDER_DETAIL_SERIALIZER"])
def test_a_serializer_that_is_none_is_refused_at_start(name: str, path: str, settings: Any) -> None:
    assert not [error for error in run_checks() if error.id in {"orders.E007", "orders.E008"}]
    setattr(settings, name, path)
    (error,) = [error for error in run_checks() if error.id in {"orders.E007", "orders.E008"}]
    assert name in error.msg


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_pages_of_a_customers_orders_are_the_shops(store: Store, settings: Any, tmp_path: Path) -> None:
    customer = new_customer()
    order, browser = factories.place_order(store=store, customer=customer), Client()
    browser.force_login(customer)
    paths = reverse("shop-orders"), reverse("shop-order", args=(order.number,))
    assert all(browser.get(path).status_code == 200 for path in paths)
    put(tmp_path / "shop" / "order" / "list.html", "My own list")
    put(tmp_path / "shop" / "order" / "detail.html", "Not this one")
    put(tmp_path / "myshop" / "order" / "detail.html", "My own page")
    settings.SHOP_APP_LABEL = "myshop"
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [tmp_path, *engine["DIRS"]]}]
    assert [browser.get(path).content for path in paths] == [b"My own list", b"My own page"]


def test_templates_of_the_shop_show_what_the_checkout_collected(
    store: Store, settings: Any, tmp_path: Path, staff: Callable[..., User]
) -> None:
    products = [
        factories.stocked(store, attributes={"product_type": kind, "engraving": f"<{kind}>"})
        for kind in ("ring", "watch", "../../secret")
    ]
    order = factories.place_order(products, store=store, extra={"gift": "<ribbon>"})
    boss = Client()
    boss.force_login(staff("Store Manager", store))
    assert "ribbon" not in page_of(boss, order)
    for folder, name, text in (
        ("shop", "order-extra", "not this one"),
        ("myshop", "order-extra", "Gift: {{ gift }} of {{ order.number }}"),
        ("myshop", "orderitem-ring-extra", "Ring says {{ engraving }}"),
        ("shop", "orderitem-product-extra", "Any says {{ extra.engraving }} {{ line.quantity }}"),
    ):
        put(tmp_path / folder / "admin" / f"{name}.html", text)
    settings.SHOP_APP_LABEL = "myshop"
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [tmp_path, *engine["DIRS"]]}]
    shown = page_of(boss, order)
    assert f"Gift: &lt;ribbon&gt; of {order.number}" in shown
    assert "not this one" not in shown
    for words in ("Ring says &lt;ring&gt;", "Any says &lt;watch&gt; 1", "Any says &lt;../../secret&gt; 1"):
        assert words in shown


class Engraving(EventHandler):
    def cancel_policy(self, order: Order) -> rules.Policy:
        policy = super().cancel_policy(order)
        never = {"status": False, "invoice": False, "expired": False}
        return replace(policy, direct=frozenset(), fallback=never) if order.extra.get("engraved") else policy


def test_what_the_shops_handler_would_refuse_is_not_offered(place: Callable[..., Order], settings: Any) -> None:
    customer = new_customer()
    engraved, plain = place(customer=customer, extra={"engraved": True}), place(customer=customer)
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Engraving"
    browser = Browser(customer)
    offered = {row["number"]: row["is_cancellable"] for row in browser.get("/users/orders/").json()["results"]}
    assert offered == {engraved.number: False, plain.number: True}
    assert not browser.get(f"/users/orders/{engraved.pk}/").json()["is_cancellable"]
