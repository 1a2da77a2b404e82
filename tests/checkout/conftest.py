"""What checkout's tests share: a store that offers things, filled carts, and a browser that minds CSRF."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from checkout import services
from checkout.models import Address, Cart, PaymentMethod, ShippingMethod
from inventory.models import Product
from orders.models import Order
from shop.actors import Actor
from shop.models import Store, User
from tests import factories

numbers = itertools.count(1)
BERLIN = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "line": "Sonnenallee 1",
    "postcode": "12045",
    "city": "Berlin",
    "country": "DE",
}


class Browser(Client):
    """A storefront's browser: JSON, and the CSRF token of its cookie in every writing request."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(enforce_csrf_checks=True, **kwargs)

    def send(self, method: str, path: str, body: Any = None, *, key: str = "", csrf: bool = True) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        if csrf:
            if "csrftoken" not in self.cookies:
                self.get("/api/v1/cart/")
            headers["X-CSRFToken"] = self.cookies["csrftoken"].value
        shared = {"data": "" if body is None else body, "content_type": "application/json", "headers": headers}
        return getattr(self, method)(path, **shared)

    def order(self, *, key: str = "", **body: Any) -> Any:
        return self.send("post", "/api/v1/purchase/", body, key=key or uuid.uuid4().hex)


@pytest.fixture
def browser() -> Callable[..., Browser]:
    """browser(user): a browser of its own, logged in or a guest's."""

    def make(user: User | None = None) -> Browser:
        new = Browser()
        if user is not None:
            new.force_login(user)
        return new

    return make


@pytest.fixture
def customer(db: None) -> User:
    return factories.UserFactory()


def offer(store: Store) -> dict[str, Any]:
    """Ways to ship to and to pay a store, by a short name."""
    n, currency = next(numbers), store.currency
    ship = {"store": store, "currency": currency}
    return {
        "standard": ShippingMethod.objects.create(
            code=f"standard-{n}", name="Standard", price=Decimal("5"), free_from=Decimal("50"), carrier="DHL", **ship
        ),
        "pickup": ShippingMethod.objects.create(code=f"pickup-{n}", name="Pickup", is_pickup=True, **ship),
        "card": PaymentMethod.objects.create(code=f"card-{n}", name="Card", store=store, gateway="demo"),
        "instant": PaymentMethod.objects.create(
            code=f"instant-{n}", name="Card, at once", store=store, gateway="demo", capture_mode="at_placement"
        ),
        "transfer": PaymentMethod.objects.create(
            code=f"transfer-{n}", name="Transfer", store=store, gateway="manual", instructions="IBAN DE00"
        ),
        "cash": PaymentMethod.objects.create(
            code=f"cash-{n}", name="Cash", store=store, gateway="manual", pays_on_delivery=True
        ),
    }


@pytest.fixture
def methods(store: Store) -> dict[str, Any]:
    return offer(store)


@pytest.fixture
def product(store: Store) -> Product:
    return factories.stocked(store, units=10)


@pytest.fixture
def book(customer: User) -> Address:
    return services.save_address(customer=customer, data=BERLIN, as_of=timezone.now())


@pytest.fixture
def fill(store: Store, methods: dict[str, Any]) -> Callable[..., Cart]:
    """fill(customer, (product, units), …): a cart that can be ordered."""

    def make(user: User | None, *lines: tuple[Product, int], pay: str = "card", ship: str = "standard") -> Cart:
        now = timezone.now()
        cart = services.open_cart(store=store, customer=user, as_of=now)
        for product, units in lines:
            services.add_item(cart_id=cart.pk, product_id=product.pk, quantity=units, as_of=now)
        changes = {
            "shipping_method": methods[ship].code,
            "payment_method": methods[pay].code,
            "shipping_address": BERLIN,
            "email": user.email if user else "guest@example.com",
        }
        return services.change_cart(cart_id=cart.pk, changes=changes, as_of=now)

    return make


@pytest.fixture
def buy() -> Callable[..., Order]:
    """buy(cart): order it as its customer, without asking the gateway."""

    def make(cart: Cart, *, key: str = "", **more: Any) -> Order:
        actor = Actor.customer(cart.customer) if cart.customer else Actor.guest(cart.email)
        wanted = {"idempotency_key": key or uuid.uuid4().hex, "as_of": timezone.now(), **more}
        return services.purchase(cart_id=cart.pk, actor=actor, **wanted)

    return make
