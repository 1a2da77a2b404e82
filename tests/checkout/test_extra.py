"""What a storefront sends along when it buys: declared by the shop, bounded, kept, shown to whom it concerns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client
from django.urls import reverse
from rest_framework import serializers

from checkout.models import Cart
from inventory.models import Product
from orders.api.extra import Extra
from orders.models import Order
from orders.processing import EventHandler, Placement
from shop.models import Store, User
from tests.checkout.conftest import Browser

pytestmark = pytest.mark.django_db
HERE = "tests.checkout.test_extra"


class Gift(Extra):
    gift_message = serializers.CharField(max_length=20, label="Words on the card")
    wrapped = serializers.BooleanField(required=False)
    wanted_on = serializers.DateField(required=False)
    answers = serializers.JSONField(required=False)


class Greedy(Extra):
    cart = serializers.CharField()


class Loose(serializers.Serializer[Any]):
    anything = serializers.JSONField()


class Telling(EventHandler):
    """Reads what was sent, as `place` gets it, and adds to it what is nobody's but the shop's."""

    def place(self, placement: Placement) -> Order:
        assert placement.extra["gift_message"] == "For Ada"
        placement.extra["secret_score"] = 7  # type: ignore[index]
        return super().place(placement)


@pytest.fixture
def shopper(
    browser: Callable[..., Browser], customer: User, fill: Callable[..., Cart], product: Product, settings: Any
) -> Browser:
    fill(customer, (product, 1))
    settings.ORDER_EXTRA_SERIALIZER = f"{HERE}.Gift"
    return browser(customer)


def buy(shopper: Browser, body: dict[str, Any], key: str = "one") -> Any:
    return shopper.order(key=key, **body)


def test_what_the_shop_declares_is_kept_and_told_to_handler_customer_and_staff(
    shopper: Browser, store: Store, staff: Callable[..., User], settings: Any
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{HERE}.Telling"
    sent = {"gift_message": " For Ada ", "wrapped": True, "wanted_on": "2026-12-24"}
    bought = buy(shopper, {"extra": sent, "annotation": "Ring"})
    assert bought.status_code == 201, bought.content
    order = Order.objects.get()
    kept = {"gift_message": "For Ada", "wrapped": True, "wanted_on": "2026-12-24"}
    assert kept.items() <= order.extra.items()
    assert (order.extra["secret_score"], order.extra["annotation"]) == (7, "Ring")
    assert shopper.get(f"/users/orders/{order.pk}/").json()["extra"] == kept
    boss = Client()
    boss.force_login(staff("Store Manager", store))
    page = boss.get(reverse("admin:orders_order_change", args=(order.pk,))).content.decode()
    assert all(words in page for words in ("Words on the card", "For Ada", "2026-12-24"))
    assert "secret_score" not in page
    again = buy(shopper, {"extra": sent, "annotation": "Ring"})
    assert (again.status_code, again.json()["number"]) == (201, order.number)


@pytest.mark.parametrize(
    ("extra", "field", "words"),
    [
        ({"gift_message": "x", "colour": "red"}, "extra.colour", "gift_message, wrapped"),
        ({"gift_message": "x", "cart": "mine"}, "extra.cart", "does not take"),
        ({"gift_message": "x" * 21}, "extra.gift_message", "20"),
        ({}, "extra.gift_message", "required"),
        (None, "extra", "null"),
        ([], "extra.non_field_errors", "dictionary"),
        ({"gift_message": "x", "answers": "ü" * 4000}, "extra", "8000 bytes"),
        ({"gift_message": "x", "answers": [[[[[1]]]]]}, "extra", "5 levels"),
    ],
)
def test_what_is_not_declared_or_too_much_is_refused_by_name(
    shopper: Browser, extra: Any, field: str, words: str
) -> None:
    refused = buy(shopper, {"extra": extra})
    assert refused.status_code == 400, refused.content
    assert words in refused.json()[field][0]
    assert not Order.objects.exists()


def test_unless_a_shop_says_otherwise_nothing_may_be_sent(shopper: Browser, settings: Any) -> None:
    settings.ORDER_EXTRA_SERIALIZER = "orders.api.extra.NoExtra"
    refused = buy(shopper, {"extra": {"gift_message": "x"}})
    assert refused.status_code == 400
    assert "takes nothing" in refused.json()["extra.gift_message"][0]
    assert buy(shopper, {"extra": {}}, key="two").status_code == 201
    assert "gift_message" not in Order.objects.get().extra


@pytest.mark.parametrize(
    ("named", "fault"),
    [("nowhere.Extra", "E025"), (f"{HERE}.Loose", "E026"), (f"{HERE}.Greedy", "E028"), (f"{HERE}.Gift", "")],
)
def test_a_serializer_that_would_not_do_is_refused_at_start(settings: Any, named: str, fault: str) -> None:
    settings.ORDER_EXTRA_SERIALIZER = named
    found = [one.id for one in run_checks() if "ORDER_EXTRA_SERIALIZER" in one.msg]
    assert found == ([f"orders.{fault}"] if fault else [])
