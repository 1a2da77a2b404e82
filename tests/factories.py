"""Factories of the desk's rows. Orders are never built by hand: `place_order` goes through the handler's door."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import factory

from inventory import services as inventory
from inventory.models import Location, Product, StockRecord
from orders.models import CaptureMode, Order, OrderAddress
from orders.processing import Discount, Item, PaymentChoice, Placement, get_event_handler, pay_now
from shop import jobs
from shop.actors import Actor
from shop.models import Store, User


class StoreFactory(factory.django.DjangoModelFactory[Store]):
    class Meta:
        model = Store

    code = factory.Sequence(lambda n: f"store-{n}")
    name = factory.Sequence(lambda n: f"Store {n}")
    currency = "EUR"
    country = "DE"


class UserFactory(factory.django.DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"user{n}")
    email = factory.Sequence(lambda n: f"user{n}@example.com")
    first_name = "Ada"
    last_name = factory.Sequence(lambda n: f"Lovelace {n}")


class LocationFactory(factory.django.DjangoModelFactory[Location]):
    class Meta:
        model = Location

    store = factory.SubFactory(StoreFactory)
    code = factory.Sequence(lambda n: f"shelf-{n}")
    name = "Warehouse"


class ProductFactory(factory.django.DjangoModelFactory[Product]):
    class Meta:
        model = Product

    sku = factory.Sequence(lambda n: f"SKU-{n}")
    name = factory.Sequence(lambda n: f"Tea pot {n}")
    price = Decimal("10.00")
    currency = "EUR"
    tax_rate = Decimal("19.00")


def stocked(store: Store, *, units: int = 100, location: Location | None = None, **product: Any) -> Product:
    """A product with units on a shelf of the store, received through the stock's own door."""
    made: Product = ProductFactory(currency=store.currency, **product)
    if made.track_stock:
        shelf = location or Location.objects.filter(store=store).order_by("pk").first() or LocationFactory(store=store)
        record = inventory.ensure_records(product_ids=[made.pk], location_id=shelf.pk)[made.pk]
        if units:
            inventory.receive(stock_record_id=record.pk, quantity=units, key=f"receive:{record.pk}")
    return made


def record_of(product: Product) -> StockRecord:
    return StockRecord.objects.get(product=product)


def address(**fields: Any) -> OrderAddress:
    """An unsaved address for an order."""
    defaults = {
        "first_name": "Ada",
        "last_name": "Lovelace",
        "line": "Sonnenallee 1",
        "postcode": "12045",
        "city": "Berlin",
        "country": "DE",
    }
    return OrderAddress(**{**defaults, **fields})


def place_order(
    lines: Sequence[tuple[Decimal | str, int]] | Sequence[Product] | Sequence[Item] = ((Decimal("10.00"), 2),),
    *,
    store: Store | None = None,
    customer: User | None = None,
    email: str = "customer@example.com",
    gateway: str = "demo",
    discount: Decimal | str = "0",
    discounts: Sequence[Discount] = (),
    shipping: Decimal | str = "0",
    pay: bool = True,
    until: str = "",
    pays_on_delivery: bool = False,
    capture_mode: str = CaptureMode.BY_STAFF,
    payments: Sequence[PaymentChoice] | None = None,
    **more: Any,
) -> Order:
    """Place an order of (price, quantity) lines, of products or of items, and take it as far as `until` says.

    pay    ask the gateway at once, as the checkout does
    until  "", "approved", "preparing", "paid" (preparing, with its money captured), "shipped" or "delivered"
    """
    store = store or StoreFactory()
    items = [
        line
        if isinstance(line, Item)
        else Item(product=line, quantity=1, unit_price=line.price)
        if isinstance(line, Product)
        else Item(product=stocked(store, price=Decimal(line[0])), quantity=line[1], unit_price=Decimal(line[0]))
        for line in lines
    ]
    system = get_event_handler(Actor.system())
    placement = Placement(
        store=store,
        items=items,
        payments=payments or [PaymentChoice(gateway=gateway)],
        email=customer.email if customer else email,
        customer=customer,
        customer_name="Ada Lovelace",
        discounts=[Discount(name="Welcome", amount=Decimal(discount))] if Decimal(discount) else discounts,
        shipping_price=Decimal(shipping),
        pays_on_delivery=pays_on_delivery,
        capture_mode=capture_mode,
        shipping_address=address(),
        billing_address=address(),
        **more,
    )
    order = system.place(placement)
    number = order.number or ""
    if pay:
        pay_now(number)
    steps = ["approved", "preparing", "paid", "shipped", "delivered"]
    for step in steps[: steps.index(until) + 1] if until else []:
        if step == "approved":
            system.approve(number=number)
        elif step == "preparing":
            system.start_preparing(number=number)
        elif step == "paid" and not pays_on_delivery:
            system.take_payment(number=number)
            jobs.drain(seconds=30)
        elif step == "shipped":
            system.ship(number=number)
        elif step == "delivered":
            system.deliver(number=number)
    return Order.objects.select_related("store").get(pk=order.pk)
