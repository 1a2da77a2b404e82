"""Loading the demo: what is there already stays as it is, so it can be run at every start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.utils import timezone

from checkout import services as checkout
from checkout.models import Cart, Discount, PaymentMethod, ShippingMethod
from inventory import services as inventory
from inventory.models import Location, Product
from orders.models import ApprovalPolicy, CancelRule, Order, ReturnCarrier, ReturnPolicy
from payments.services import credit
from shop.actors import Actor
from shop.management.demo.data import (
    BERLIN,
    CREDIT,
    CUSTOMERS,
    GUEST,
    LOCATIONS,
    LONDON,
    LOW_BELOW,
    PASSWORD,
    PAYMENT,
    PRODUCTS,
    SHIPPING,
    STAFF,
    STORES,
)
from shop.management.demo.scenes import SCENES, Scene
from shop.management.demo.story import Story
from shop.models import Store, User
from shop.roles import ADMIN


def load(now: datetime) -> int:
    """Make what is not there yet. Returns how many orders were made."""
    stores = {code: _made(Store, code, fields) for code, fields in STORES.items()}
    people = _people(stores)
    _policies(stores)
    _returns(now)
    _methods(stores)
    _stock(stores, now)
    _credit(people, now)
    made = sum(1 for _order in _orders(stores, people, now))
    _left_cart(stores[BERLIN], now)
    return made


def _made(model: Any, code: str, fields: dict[str, Any]) -> Any:
    """The row with this code, made if it is not there; one that is there stays as it is."""
    row, _new = model.objects.get_or_create(code=code, defaults=fields)
    return row


def _people(stores: dict[str, Store]) -> dict[str, User]:
    secret = make_password(PASSWORD)  # once: hashing is meant to be slow
    people: dict[str, User] = {}
    for name, first, last, role, places, _words in STAFF:
        mine = {"first_name": first, "last_name": last, "email": f"{name}@lindenhof.example", "password": secret}
        user, is_new = User.objects.get_or_create(
            username=name, defaults={**mine, "is_staff": True, "is_superuser": role == ADMIN}
        )
        if is_new:
            user.groups.set(Group.objects.filter(name=role))
            user.stores.set([stores[code] for code in places])
        people[name] = user
    for email, first, last, language, address in CUSTOMERS:
        mine = {"first_name": first, "last_name": last, "email": email, "password": secret, "language": language}
        user, is_new = User.objects.get_or_create(username=email, defaults=mine)
        if is_new:
            data = {"title": "Home", "first_name": first, "last_name": last, **address}
            checkout.save_address(customer=user, data=data, as_of=timezone.now())
        people[email] = user
    return people


def _policies(stores: dict[str, Store]) -> None:
    """Ten minutes to undo what staff cancel in Berlin, and somebody else's agreement from 500 euros on."""
    direct = ["payment_waiting", "confirmation_waiting", "approved"]
    fields = {"direct_statuses": direct, "undo_minutes": 10}
    _rule, is_new = CancelRule.objects.get_or_create(store=stores[BERLIN], channel="", defaults=fields)
    if is_new:
        ApprovalPolicy.objects.filter(name="High value").update(is_active=True)


def _returns(now: datetime) -> None:
    """A month to send back, for a fee; by post, or fetched at the door."""
    if not ReturnPolicy.objects.exists():
        ReturnPolicy.objects.create(valid_from=now - timedelta(days=400), return_days=30, fee=Decimal("4.90"))
    words = "Hand the parcel in at any post office; keep the receipt until you have your money."
    _made(ReturnCarrier, "post", {"name": "Post", "instructions": words})
    words = "Our driver rings at the door; have the parcel ready."
    _made(ReturnCarrier, "van", {"name": "Lindenhof van", "fetches": True, "instructions": words, "position": 1})


def _methods(stores: dict[str, Store]) -> None:
    for position, (code, name, store, price, free, carrier, tracking, is_pickup) in enumerate(SHIPPING):
        fields = {
            "name": name,
            "store": stores[store],
            "price": Decimal(price),
            "currency": stores[store].currency,
            "free_from": Decimal(free) if free else None,
            "carrier": carrier,
            "tracking_url_template": tracking,
            "is_pickup": is_pickup,
            "position": position,
        }
        _made(ShippingMethod, code, fields)
    for position, (code, name, fields) in enumerate(PAYMENT):
        _made(PaymentMethod, code, {"name": name, "position": position, **fields})
    _made(Discount, "WELCOME10", {"name": "Welcome, 10 %", "percent": Decimal(10), "currency": "EUR"})


def _stock(stores: dict[str, Store], now: datetime) -> None:
    places = {
        code: _made(Location, code, {"name": name, "store": stores[store], "priority": priority})
        for code, name, store, priority in LOCATIONS
    }
    for store, rows in PRODUCTS.items():
        known = set(Product.objects.filter(sku__in=[row[0] for row in rows]).values_list("sku", flat=True))
        new = [_product(row, stores[store].currency) for row in rows if row[0] not in known]
        units = {row[0]: row[4] for row in rows}
        # Only what is new is stocked: the person who tries the desk may have changed the rest.
        made = [product for product in Product.objects.bulk_create(new) if product.track_stock]
        _receive(made, units, places[f"{store}-warehouse"], now)
        if store == BERLIN:
            _receive([product for product in made if product.sku.startswith("MUG")], {}, places["berlin-shop"], now)


def _product(row: tuple[str, str, str, str, int | None, dict[str, str]], currency: str) -> Product:
    sku, name, price, rate, units, attributes = row
    return Product(
        sku=sku,
        name=name,
        price=Decimal(price),
        currency=currency,
        tax_rate=Decimal(rate),
        track_stock=units is not None,
        attributes=attributes,
    )


def _receive(products: list[Product], units: dict[str, int | None], place: Location, now: datetime) -> None:
    records = inventory.ensure_records(product_ids=[product.pk for product in products], location_id=place.pk)
    moves = [
        inventory.Move(records[product.pk].pk, units.get(product.sku) or 5, f"demo:{product.sku}:{place.code}")
        for product in products
    ]
    inventory.receive_many(moves=moves, reference="Delivery note 1", actor_name="Frida Nowak", as_of=now)
    for product in products:
        if units.get(product.sku):
            inventory.set_threshold(stock_record_id=records[product.pk].pk, threshold=LOW_BELOW, as_of=now)


def _credit(people: dict[str, User], now: datetime) -> None:
    for number, (email, kind, amount, days, note) in enumerate(CREDIT, start=1):
        credit.grant(
            owner_id=people[email].pk,
            currency="EUR",
            kind=kind,
            amount=Decimal(amount),
            key=f"demo:{number}",
            expires_at=now + timedelta(days=days) if days else None,
            note=note,
            actor_name="Mira Keller",
            as_of=now,
        )


def _orders(stores: dict[str, Store], people: dict[str, User], now: datetime) -> Iterator[Order]:
    """Make the orders that are not there yet, the oldest first, and let each live its story."""
    keys = [f"demo:{scene.key}" for scene in SCENES]
    known = set(Order.objects.filter(idempotency_key__in=keys).values_list("idempotency_key", flat=True))
    for scene in sorted(SCENES, key=lambda scene: -scene.hours):
        if f"demo:{scene.key}" not in known:
            store = stores[LONDON if scene.ship.startswith("uk-") else BERLIN]
            order = _order(scene, store, people.get(scene.who), now - timedelta(hours=scene.hours))
            Story(order, people=people, as_of=now).tell(scene.steps)
            yield order


def _order(scene: Scene, store: Store, customer: User | None, as_of: datetime) -> Order:
    language = customer.language if customer else "de"
    cart = checkout.open_cart(store=store, customer=customer, language=language, as_of=as_of)
    products = dict(Product.objects.filter(sku__in=[sku for sku, _n in scene.lines]).values_list("sku", "pk"))
    for sku, units in scene.lines:
        checkout.add_item(cart_id=cart.pk, product_id=products[sku], quantity=units, as_of=as_of)
    entry = customer.addresses.get(is_default_shipping=True).pk if customer else GUEST
    changes = {
        "email": scene.who,
        "shipping_method": scene.ship,
        "payment_method": scene.pay,
        "shipping_address": entry,
        "discount_code": scene.code,
    }
    checkout.change_cart(cart_id=cart.pk, changes=changes, as_of=as_of)
    details = {"card": "•••• 4242"} if scene.pay.startswith("card") else {}
    return checkout.purchase(
        cart_id=cart.pk,
        actor=Actor.customer(customer) if customer else Actor.guest(scene.who),
        idempotency_key=f"demo:{scene.key}",
        payment_details=details,
        use_credit=checkout.CreditUse(loyalty=Decimal(scene.points)) if scene.points else None,
        as_of=as_of,
    )


def _left_cart(store: Store, now: datetime) -> None:
    """A cart that somebody filled and left."""
    email, left_at = "otto@example.com", now - timedelta(days=2)
    if Cart.objects.filter(email=email).exists():
        return
    cart = checkout.open_cart(store=store, customer=None, language="de", as_of=left_at)
    for product in Product.objects.filter(sku__in=["CHAIR", "LAMP"]):
        checkout.add_item(cart_id=cart.pk, product_id=product.pk, as_of=left_at)
    checkout.change_cart(cart_id=cart.pk, changes={"email": email}, as_of=left_at)
