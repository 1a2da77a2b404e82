"""Every door of the storefront × everybody: what they are told, and that nothing else happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.urls import URLPattern
from django.utils import timezone
from rest_framework.test import APIClient

from checkout import services
from checkout import urls as checkout_urls
from orders import urls as orders_urls
from orders.api import completed_token
from orders.api.base import DeskView
from orders.models import CancellationReason, Order
from shop.models import Store, User
from tests import factories
from tests.checkout.conftest import BERLIN, offer
from tests.orders.series import begun
from tests.orders.storefront import assert_errors, new_customer
from tests.orders.test_matrix import world

pytestmark = pytest.mark.django_db

STAFF = ("Admin", "Store Manager", "Fulfilment", "Customer Service")
TOKEN = "t" * 32
WRONG = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Shop:
    """What the doors are asked about: an order of the owner's, and what hangs on it."""

    store: Store
    owner: User
    order: Order
    facts: dict[str, Any]

    def filled(self, template: Any) -> Any:
        """A path or body with {number}, {line}, … in it; a value that is nothing else keeps its type."""
        if isinstance(template, dict):
            return {name: self.filled(value) for name, value in template.items()}
        if isinstance(template, list):
            return [self.filled(value) for value in template]
        if isinstance(template, str) and template.strip("{}") in self.facts and template.startswith("{"):
            return self.facts[template.strip("{}")]
        return template.format(**self.facts) if isinstance(template, str) else template


@dataclass(frozen=True)
class Door:
    """One request. The three statuses: nobody, somebody else, the owner. Staff are somebody else, unless said."""

    method: str
    path: str
    nobody: int
    others: int
    owner: int
    body: Any = None
    staff: int | None = None
    form: bool = False
    headers: dict[str, str] = field(default_factory=dict)


ITEM = {"order_item": "{line}", "cancellation_type": "cancel", "reason": "{reason}"}
CANCEL = {"cancel_order_items": [ITEM]}
KEY = {"Idempotency-Key": "k"}
# They read a password, or an order's number and e-mail, and no session.
NEED_NO_CSRF = {"login", "tracking", "confirm-withdrawal"}
OPEN = (200, 200, 200)
MINE = (401, 404, 200)
OWN_LIST = (401, 200, 200)

# By the name of the address in orders/urls.py or checkout/urls.py.
TABLE: dict[str, list[Door]] = {
    # --- the account
    "csrf-token": [Door("GET", "/csrf_token/", *OPEN)],
    "current-user": [Door("GET", "/current_user/", *OWN_LIST)],
    "login": [Door("POST", "/users/login/", 400, 400, 400, {"email": "{email}", "password": "guessed"})],
    "logout": [Door("POST", "/users/logout/", *OPEN)],
    "logout-without-slash": [Door("POST", "/users/logout", *OPEN)],
    # --- orders
    "list": [Door("GET", "/users/orders/", *OWN_LIST), Door("GET", "/users/orders/?search={number}", *OWN_LIST)],
    "last": [Door("GET", "/users/orders/last/", *MINE)],
    "detail": [Door("GET", "/users/orders/{id}/", *MINE)],
    "reasons": [Door("GET", "/users/orders/cancellation_reasons/", *OWN_LIST)],
    "tracking": [
        # It is for guests: an order of an account is seen by logging in.
        Door("POST", "/users/orders/anonymous/", 404, 404, 404, {"email": "{email}", "number": "{number}"}, form=True)
    ],
    "picture": [Door("GET", f"/users/orders/pictures/{WRONG}/", 401, 404, 404)],
    "return-label": [Door("GET", "/orders/returns/label/made-up/", 404, 404, 404)],
    "completed": [Door("GET", "/orders/completed/{token}/?format=json", *MINE)],
    "recurring": [Door("GET", "/api/v1/recurring-orders/", *OWN_LIST)],
    "end-recurring": [Door("POST", "/api/v1/recurring-orders/{series}/end/", *MINE, {})],
    "order-cancel": [Door("POST", "/orders/{number}/cancel/", 401, 404, 204, CANCEL)],
    "bulk-requests": [Door("POST", "/users/orders/bulk_cancellation_requests/", 401, 400, 201, CANCEL)],
    "order-address-change": [
        Door(
            "POST",
            "/orders/address_change/",
            401,
            400,
            200,
            {"order": "{id}", "address": "{address}", "order_address_types": ["shipping"]},
        )
    ],
    # --- to withdraw, anybody who knows number and e-mail may
    "withdraw": [
        Door(
            "POST",
            "/api/v1/withdrawals/",
            *OPEN,
            {"name": "Ada", "number": "{number}", "email": "stranger@example.com"},
        )
    ],
    "confirm-withdrawal": [Door("POST", "/api/v1/withdrawals/confirm/", 400, 400, 400, {"token": "made up"})],
    # --- checkout
    "products": [Door("GET", "/api/v1/products/", *OPEN)],
    "shipping-methods": [Door("GET", "/api/v1/shipping_methods/", *OPEN)],
    "payment-methods": [Door("GET", "/api/v1/payment_methods/", *OPEN)],
    "cart": [
        Door("GET", "/api/v1/cart/", *OPEN),
        Door("POST", "/api/v1/cart/", 201, 201, 201, {}),
        Door("PATCH", "/api/v1/cart/", *OPEN, {"language": "de"}),
        # Nobody puts an address of somebody else's book into a cart.
        Door("PATCH", "/api/v1/cart/", 404, 404, 200, {"shipping_address": "{address}"}),
    ],
    "cart-items": [
        Door("POST", "/api/v1/cart/items/", 201, 201, 201, {"product": "{product}"}),
        Door("DELETE", "/api/v1/cart/items/", 404, 200, 200),
    ],
    "cart-item": [
        Door("PATCH", "/api/v1/cart/items/{item}/", 404, 404, 200, {"quantity": 2}),
        Door("DELETE", "/api/v1/cart/items/{item}/", 404, 404, 200),
    ],
    "purchase": [
        Door("POST", "/api/v1/purchase/", 400, 400, 400, {"cart": "{cart}"}),
        Door("POST", "/api/v1/purchase/", 404, 404, 201, {"cart": "{cart}"}, headers=KEY),
    ],
    "account-credit": [Door("GET", "/api/v1/account/credit/", *OWN_LIST)],
    "order-pay": [Door("POST", "/api/v1/orders/{number}/pay/", 404, 404, 409, {})],
    "order-reorder": [Door("POST", "/api/v1/orders/{number}/reorder/", 404, 404, 200, {})],
    "addresses": [Door("GET", "/address/detailed/", *OWN_LIST)],
    "address-create": [Door("POST", "/address/", 401, 201, 201, BERLIN)],
    "address": [
        Door("PATCH", "/address/{address}/", *MINE, {"city": "Kiel"}),
        Door("DELETE", "/address/{address}/", 401, 404, 204),
    ],
    # --- where staff are staff
    "actions": [Door("GET", "/orders/{number}/actions/", *MINE, staff=200)],
    "cancel-plan": [Door("POST", "/orders/{number}/cancel/plan/", *MINE, {}, staff=200)],
}


def addresses() -> dict[str, URLPattern]:
    return {str(one.name): one for one in [*orders_urls.urlpatterns, *checkout_urls.urlpatterns]}


def test_every_address_of_the_storefront_is_in_the_table() -> None:
    """What staff's programs use has its own table (test_api_staff), and the storefront's pages have theirs."""
    for name, one in addresses().items():
        view = getattr(one.callback, "cls", None)
        if view is None or (issubclass(view, DeskView) and str(one.pattern).startswith("api/v1/")):
            assert name not in TABLE
        else:
            assert name in TABLE, f"{one.pattern} ({name}) is in no table"
    assert set(TABLE) <= set(addresses())


@pytest.fixture
def shop(store: Store) -> Shop:
    owner, now = new_customer(), timezone.now()
    methods, product = offer(store), factories.stocked(store)
    order = factories.place_order(store=store, customer=owner, payment_method=methods["card"].code)
    series = begun(store=store, customer=owner)
    entry = services.save_address(customer=owner, data=BERLIN, as_of=now)
    cart = services.open_cart(store=store, customer=owner, as_of=now)
    services.add_item(cart_id=cart.pk, product_id=product.pk, quantity=1, as_of=now)
    changes = {"shipping_method": methods["standard"].code, "payment_method": methods["card"].code}
    services.change_cart(cart_id=cart.pk, changes={**changes, "shipping_address": entry.pk}, as_of=now)
    facts = {
        "id": order.pk,
        "number": order.number,
        "token": completed_token(number=order.number or ""),
        "line": order.lines.get().pk,
        "email": owner.email,
        "reason": CancellationReason.objects.get(code="changed_mind").pk,
        "series": str(series.uuid),
        "address": entry.pk,
        "product": product.pk,
        "cart": str(cart.public_id),
        "item": cart.items.get().pk,
    }
    return Shop(store, owner, order, facts)


def knock(door: Door, shop: Shop, user: User | None, *, csrf: bool = True) -> Any:
    """Ask as somebody, in a browser of their own."""
    client = APIClient(enforce_csrf_checks=True)
    if user is not None:
        client.force_login(user)
    client.cookies["csrftoken"] = TOKEN
    kind = {"content_type": "application/x-www-form-urlencoded"} if door.form else {"format": "json"}
    body = shop.filled(door.body)
    if door.form:
        body = "&".join(f"{name}={value}" for name, value in body.items())
    send = getattr(client, door.method.lower())
    headers = {**({"X-CSRFToken": TOKEN} if csrf else {}), **door.headers}
    return send(shop.filled(door.path), *([] if body is None else [body]), headers=headers, **kind)


@pytest.mark.thorough
@pytest.mark.parametrize("name", TABLE)
def test_everybody_gets_what_the_table_says_and_nothing_else_happens(
    name: str, shop: Shop, staff: Callable[..., User]
) -> None:
    people = {"nobody": None, "another": new_customer(), **{role: staff(role, shop.store) for role in STAFF}}
    for door in TABLE[name]:
        if door.method != "GET":
            before = world(shop.order)
            answered = knock(door, shop, shop.owner, csrf=False)
            assert_errors(answered, door.owner if name in NEED_NO_CSRF else 403)
            assert world(shop.order) == before
        for who, user in people.items():
            status = door.nobody if user is None else (door.staff or door.others) if user.is_staff else door.others
            before, mine = world(shop.order), rows_of_owner(shop)
            answered = knock(door, shop, user)
            assert answered.status_code == status, (who, door, answered.content)
            if status >= 400:
                assert_errors(answered, status)
            if status >= 400 or door.method == "GET":
                assert world(shop.order) == before, (who, door)
            if name == "withdraw":
                # It reads back what was said, and tells a stranger nothing of the order.
                assert (answered.json()["order_found"], answered.json()["lines"]) == (False, []), who
            elif status < 400:
                # What they may do concerns what is theirs: no word of the owner's comes with it.
                told = "" if door.staff and user and user.is_staff else answered.content.decode()
                assert shop.owner.email not in told, (who, door)
                assert str(shop.facts["number"]) not in told, (who, door)
            assert rows_of_owner(shop) == mine, (who, door)
        answered = knock(door, shop, shop.owner)
        assert answered.status_code == door.owner, ("the owner", door, answered.content)


def rows_of_owner(shop: Shop) -> Any:
    """The owner's order, book and cart, as they must stay whatever others do."""
    order = Order.objects.get(pk=shop.order.pk)
    cart = services.find_cart(store_id=shop.store.pk, customer=shop.owner)
    return (
        (order.status, order.version, order.shipping_address_id),
        list(order.lines.values()),
        list(order.cancellation_requests.values()),
        list(shop.owner.addresses.order_by("pk").values()),
        list(cart.items.order_by("pk").values()) if cart else None,
    )
