"""What a customer reads when something is refused: all that is wrong, in one go, in their language."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from babel.messages.extract import extract_from_file
from django.conf import settings
from django.test import Client
from django.utils import translation
from django.utils.translation import trans_real

from checkout.models import Cart
from checkout.views import REFUSED
from inventory.models import Product
from orders.models import CancellationRequest, Order, Status
from orders.processing import get_event_handler
from shop.actors import Actor
from shop.models import Store, User
from tests.checkout.conftest import BERLIN, Browser
from tests.checkout.test_storefront_pages import page, said

pytestmark = pytest.mark.django_db
LANGUAGES = [code for code, _name in settings.LANGUAGES if code != "en"]
# Where every message may reach a customer. Elsewhere staff's stand beside them.
CUSTOMERS_ONLY = (
    "checkout/rules.py",
    "checkout/services/*.py",
    "checkout/api/*.py",
    "checkout/views/*.py",
    "orders/api/cancelling.py",
    "orders/api/asking.py",
    "orders/api/addresses.py",
    "orders/api/own_orders.py",
    "orders/api/withdrawing.py",
    "orders/rules/pictures.py",
    "orders/rules/returns.py",
    "orders/views.py",
)
# For programs: a person never sees a request with these faults.
FOR_PROGRAMS = {"At most %(most)d details."}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_customers_are_refused_is_translated(language: str) -> None:
    files = [path for pattern in CUSTOMERS_ONLY for path in settings.BASE_DIR.glob(pattern)]
    found = [message for path in files for _n, message, _c, _x in extract_from_file("python", path, {"_": None})]
    texts = {message if isinstance(message, str) else message[0] for message in found}
    assert len(texts) > 60
    known: Any = trans_real.translation(language)
    assert sorted(text for text in texts - FOR_PROGRAMS if text not in known._catalog) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_status_is_translated(language: str) -> None:
    labels = {**dict(Status.choices), **dict(CancellationRequest.Status.choices)}
    with translation.override("en"):
        english = {name: str(label) for name, label in labels.items()}
    with translation.override(language):
        assert [name for name, label in labels.items() if str(label) == english[name]] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_says_in_its_language_what_the_api_says_in_its_contracts_english(
    language: str, browser: Callable[..., Browser], customer: User, store: Store, place: Callable[..., Order]
) -> None:
    order = place(store=store, customer=customer)
    get_event_handler(Actor.customer(customer)).cancel(number=order.number or "")
    shop = browser(customer)
    shop.defaults["HTTP_ACCEPT_LANGUAGE"] = language
    item = {"order_item": order.lines.get().pk, "cancellation_type": "cancel", "reason": 1}
    told = shop.send("post", f"/orders/{order.number}/cancel/", {"cancel_order_items": [item]}).json()
    assert told["non_field_errors"] == ["Order already cancelled!"]
    drawn = page(shop, f"/shop/orders/{order.number}/")
    with translation.override(language):
        words = str(REFUSED["order_already_cancelled"])
        assert drawn.find(attrs={"data-text": f"refused-{told['error_code'][0]}"}).string == words
    drawn.find(id="texts").decompose()
    assert words in said(drawn)
    assert not re.search("cancelled", said(drawn))


def test_all_that_is_wrong_with_the_addresses_and_the_e_mail_is_told_at_once(
    browser: Callable[..., Browser], store: Store, product: Product, methods: dict[str, Any]
) -> None:
    guest = browser()
    guest.send("post", "/api/v1/cart/items/", {"product": product.pk, "quantity": 1, "store": store.code})
    there = {**BERLIN, "first_name": " ", "postcode": "1", "phone_number": "abc"}
    changes = {"email": "ada", "shipping_address": there, "billing_address": {**BERLIN, "city": ""}}
    refused = guest.send("patch", f"/api/v1/cart/?store={store.code}", changes)
    assert refused.status_code == 400
    assert set(refused.json()) == {
        "shipping_address.first_name",
        "shipping_address.postcode",
        "shipping_address.phone_number",
        "billing_address.city",
        "email",
        "error_code",
    }
    assert refused.json()["error_code"] == ["address_invalid"]
    assert Cart.objects.get().email == ""


def test_the_page_says_what_is_still_to_be_paid_and_what_has_come_back(
    browser: Callable[..., Browser], customer: User, store: Store, place: Callable[..., Order]
) -> None:
    waiting = place([("10.00", 1), ("5.00", 2)], store=store, customer=customer, gateway="manual")
    line = waiting.lines.get(position=1)
    get_event_handler(Actor.customer(customer)).cancel(number=waiting.number or "", lines={line.pk: 1})
    drawn = page(browser(customer), f"/shop/orders/{waiting.number}/")
    assert waiting.total == Decimal("20.00")
    assert "Still to be paid €10.00" in said(drawn)
    assert "payment of €10.00" in said(drawn)
    assert len(drawn.select(".line.gone")) == 1


def test_what_a_card_is_authorized_for_is_not_asked_of_the_customer(
    browser: Callable[..., Browser], customer: User, store: Store, place: Callable[..., Order]
) -> None:
    order = place([("10.00", 1), ("5.00", 2)], store=store, customer=customer, until="preparing")
    line = order.lines.get(position=1)
    get_event_handler(Actor.system()).cancel(number=order.number or "", lines={line.pk: 1}, reason="out_of_stock")
    order = Order.objects.get(pk=order.pk)
    assert (order.facts.outstanding, order.facts.is_secured) == (Decimal("10.00"), True)
    assert "Still to be paid" not in said(page(browser(customer), f"/shop/orders/{order.number}/"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_address_with_nothing_behind_it_answers_in_the_visitors_language(client: Client, language: str) -> None:
    answer = client.get("/nowhere/at/all/", headers={"accept": "text/html", "accept-language": language})
    words = answer.content.decode()
    assert answer.status_code == 404
    assert f'lang="{language}"' in words
    for english in ("There is nothing here", "The address is wrong", "Go to the shop", "Go to the desk"):
        assert english not in words
