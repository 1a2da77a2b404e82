"""The storefront's pages as the server draws them: what they show, to whom, safely, and how little they ask."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils.translation import trans_real

from checkout.models import Cart
from inventory.models import Product
from orders.models import CancellationReason, CancellationRequest, Order
from orders.processing import get_event_handler
from orders.processing.requesting import Wish
from shop.actors import Actor
from shop.csp import policy
from shop.models import Store, User
from tests import factories
from tests.checkout.conftest import Browser

pytestmark = pytest.mark.django_db

# Another part of the shop.
ELSEWHERE = "/shop/withdraw/"


def page(client: Client, path: str, *, status: int = 200) -> BeautifulSoup:
    """A page, which holds nothing that its policy would forbid, and whose every address is one."""
    answer = client.get(path)
    assert answer.status_code == status, (path, answer.status_code)
    assert answer["Content-Security-Policy"] == policy()
    assert {"private", "no-store"} <= set(answer["Cache-Control"].split(", "))
    soup = BeautifulSoup(answer.content, "html.parser")
    assert len(soup.find_all("h1")) == 1, path
    for tag in soup.find_all(True):
        assert not [name for name in tag.attrs if name == "style" or re.match(r"on[a-z]+$", name)], tag
        assert tag.name != "style", tag
        assert tag.name != "script" or (tag.get("src") and not tag.text), tag
        told = [value for name, value in tag.attrs.items() if name == "href" or name.endswith("url")]
        for address in (one for one in told if one.startswith("/") and not one.startswith(("/static/", ELSEWHERE))):
            resolve(address.partition("?")[0])
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)), (path, sorted(one for one in ids if ids.count(one) > 1))
    return soup


def said(soup: BeautifulSoup) -> str:
    return " ".join(soup.get_text(" ").split())


def queries(client: Client, path: str) -> int:
    client.get(path)  # the first look may write the session
    with CaptureQueriesContext(connection) as found:
        assert client.get(path).status_code == 200
    return len(found)


def offers(soup: BeautifulSoup) -> set[str]:
    """What the page lets its visitor do: the names of its actions and of its dialogs."""
    found = {tag["data-do"] for tag in soup.select("[data-do]")} | {tag["id"] for tag in soup.select("dialog[id]")}
    return found - {"log-out", "reorder"}


def test_a_guest_looks_around(client: Client, store: Store) -> None:
    mug = factories.stocked(store, units=3, name="Mug <b>blue</b>", attributes={"Colour": "Blue"}, sku="A/B 1")
    factories.stocked(store, units=0, name="Lamp")
    shop = said(page(client, "/shop/"))
    assert all(words in shop for words in ("Mug <b>blue</b>", "Colour: Blue", "€10.00", "Only 3 left", "Sold out"))
    assert "Lamp" not in said(page(client, "/shop/?search=MUG%20b%00lue")).replace("Mug", "")
    assert "Nothing found" in said(page(client, "/shop/?search=nonsense"))
    product = page(client, "/shop/products/A%2FB%201/")
    assert product.select_one("form[data-do=add-to-cart] [name=product]")["value"] == str(mug.pk)
    assert "There is nothing here" in said(page(client, "/shop/products/none/", status=404))
    assert "Your cart is empty" in said(page(client, "/shop/cart/"))
    assert client.get("/shop/checkout/").headers["Location"] == "/shop/cart/"
    for path in ("/shop/orders/", "/shop/addresses/", "/shop/orders/123/"):
        assert client.get(path).headers["Location"].startswith("/shop/login/?next=%2Fshop%2F"), path
    page(client, "/shop/track/")
    page(client, "/shop/login/")


def test_a_visitor_goes_from_store_to_store(client: Client, store: Store) -> None:
    factories.stocked(store, name="Mug")
    london = factories.StoreFactory(currency="GBP", name="London")
    tea = factories.stocked(london, name="Tea", sku="TEA")
    assert "£10.00" not in said(page(client, "/shop/"))
    assert "£10.00" in said(page(client, f"/shop/?store={london.code}"))
    assert page(client, "/shop/cart/").body["data-store"] == london.code  # and is remembered
    page(client, f"/shop/?store={store.code}")
    assert page(client, f"/shop/products/{tea.sku}/").body["data-store"] == london.code  # a link leads there
    Store.objects.update(is_active=False)
    page(client, "/shop/", status=404)


def test_a_cart_tells_what_is_wrong_with_it_and_a_checkout_what_can_be_chosen(
    browser: Callable[..., Browser], customer: User, fill: Callable[..., Cart], product: Product, book: Any
) -> None:
    client = browser(customer)
    cart = fill(customer, (product, 2))
    shop = page(client, "/shop/cart/")
    assert "To the checkout" in said(shop)
    assert shop.select_one("#cart-units").get_text(strip=True).endswith("2")
    checkout = page(client, "/shop/checkout/")
    assert checkout.select_one("#checkout")["data-cart"] == str(cart.public_id)
    assert checkout.select_one("#summary")["data-total"].startswith("25")
    assert {one["value"] for one in checkout.select("[name=shipping_address] option")} == {str(book.pk), "new"}
    names = {field["name"] for field in checkout.select("#checkout [name]")}
    assert {"email", "shipping_method", "payment_method", "billing_address.line"} <= names
    Product.objects.update(is_active=False)
    assert "is not sold any more" in said(page(client, "/shop/cart/"))
    assert "To the checkout" not in said(page(client, "/shop/cart/"))


def test_an_order_offers_what_the_api_allows_and_only_to_its_customer(
    browser: Callable[..., Browser], customer: User, store: Store, place: Callable[..., Order]
) -> None:
    def offered(order: Order) -> set[str]:
        return offers(page(browser(customer), f"/shop/orders/{order.number}/")) - {"save-address"}

    new = place([("10.00", 2), ("5.00", 1)], store=store, customer=customer)
    delivered = place(store=store, customer=customer, until="delivered")
    assert offered(new) == {"cancel", "readdress"}
    assert offered(delivered) == {"return"}
    cancelled = place(store=store, customer=customer)
    get_event_handler(Actor.customer(customer)).cancel(number=cancelled.number or "")
    assert offered(cancelled) == set()
    # The pages' own words; the contract's stay the API's.
    assert "This is cancelled already." in said(page(browser(customer), f"/shop/orders/{cancelled.number}/"))
    shop = browser(customer)
    assert f"Order {new.number}" in said(page(shop, f"/shop/orders/{new.pk}/"))  # by its id as well
    found = said(page(shop, "/shop/orders/"))
    assert found.index(str(cancelled.number)) < found.index(str(new.number))
    foreign = browser(factories.UserFactory())
    page(foreign, f"/shop/orders/{new.number}/", status=404)
    assert "You have not ordered anything yet" in said(page(foreign, "/shop/orders/"))


def test_a_guest_sees_the_order_just_made_and_how_to_pay_it(
    browser: Callable[..., Browser], fill: Callable[..., Cart], product: Product
) -> None:
    client = browser()
    client.send("post", "/api/v1/cart/items/", {"product": product.pk})
    methods = fill(None, (product, 1), pay="transfer")
    sent = {"shipping_method": methods.shipping_method.code, "payment_method": methods.payment_method.code}
    client.send(
        "patch", "/api/v1/cart/", sent | {"email": "g@example.com", "shipping_address": methods.shipping_details}
    )
    number = client.order().json()["number"]
    shop = page(client, f"/shop/orders/{number}/?placed")
    assert all(words in said(shop) for words in ("Thank you for your order", "g@example.com", "IBAN DE00"))
    assert offers(shop) == set()
    assert browser().get(f"/shop/orders/{number}/").status_code == 302


def test_a_return_is_shown_step_by_step(
    browser: Callable[..., Browser],
    customer: User,
    store: Store,
    place: Callable[..., Order],
    reason: CancellationReason,
) -> None:
    order = place([("10.00", 2)], store=store, customer=customer, until="delivered")
    wish = Wish(order.lines.get().pk, 1, CancellationRequest.Type.REFUND, reason)
    (request,) = get_event_handler(Actor.customer(customer)).request_cancellation(
        number=order.number or "", wishes=[wish]
    )

    def steps() -> list[tuple[str, str]]:
        found = page(browser(customer), f"/shop/orders/{order.number}/").select(".request .steps li")
        return [(step.find(string=True), step["class"][0]) for step in found]

    assert steps()[:2] == [("Asked for", "now"), ("Approved", "next")]  # not told that it is approved
    get_event_handler(Actor.system()).decide_request(request_id=request.pk, approve=True)
    assert [state for _label, state in steps()] == ["done", "now", "next", "next", "next"]
    shop = said(page(browser(customer), f"/shop/orders/{order.number}/"))
    request.refresh_from_db()
    if request.goods_return:  # its code is shown large
        assert f"Write this code on the parcel: {request.goods_return.code}" in shop
    CancellationRequest.objects.update(status=CancellationRequest.Status.REJECTED, decision_note="It was worn.")
    assert steps() == []
    assert "We could not agree to this. It was worn." in said(page(browser(customer), f"/shop/orders/{order.number}/"))


def test_no_page_asks_more_for_more_rows(
    browser: Callable[..., Browser],
    store: Store,
    place: Callable[..., Order],
    fill: Callable[..., Cart],
    methods: dict[str, Any],
) -> None:
    counts: dict[str, list[int]] = {}
    for size in (1, 6):
        user = factories.UserFactory()
        products = [factories.stocked(store) for _n in range(size)]
        orders = [place([("5.00", 1)] * size, store=store, customer=user) for _n in range(size)]
        fill(user, *[(product, 1) for product in products])
        client = browser(user)
        for name, path in {
            "catalogue": "/shop/",
            "cart": "/shop/cart/",
            "checkout": "/shop/checkout/",
            "orders": "/shop/orders/",
            "order": f"/shop/orders/{orders[0].number}/",
        }.items():
            counts.setdefault(name, []).append(queries(client, path))
    assert all(few == many for few, many in counts.values()), counts
    assert max(max(pair) for pair in counts.values()) <= 30, counts


def test_a_thousand_products_come_in_pages(client: Client, store: Store) -> None:
    Product.objects.bulk_create(
        Product(sku=f"P-{n}", name=f"Product {n:04}", price=1, currency="EUR", track_stock=False) for n in range(1000)
    )
    shop = page(client, "/shop/?search=product&page=7")
    assert len(shop.select(".card")) == 24
    assert [link.get_text() for link in shop.select(".pages ol a")] == ["1", "6", "7", "8", "42"]
    assert "Product 0999" in said(page(client, "/shop/?page=999"))


@pytest.mark.parametrize("language", ["de", "tr"])
def test_every_text_of_the_pages_is_translated(language: str, client: Client, store: Store) -> None:
    templates = [path.read_text() for path in sorted((settings.BASE_DIR / "templates" / "storefront").glob("*.html"))]
    texts = {text for template in templates for text in re.findall(r'{% translate "([^"]+)"', template)}
    known: Any = trans_real.translation(language)
    assert sorted(text for text in texts if text not in known._catalog) == []
    shop = client.get("/shop/cart/", headers={"Accept-Language": language}).content.decode()
    assert f'<html lang="{language}">' in shop
    assert "Your cart is empty" not in shop
