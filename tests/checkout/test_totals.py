"""What a cart costs: shares of discount, shipping and tax add up to the smallest unit of any currency."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkout import services
from checkout.models import Discount, ShippingMethod
from checkout.rules import granted, shipping_price
from shop.actors import Actor
from shop.money import quantum, rounded
from tests import factories
from tests.checkout.conftest import BERLIN, offer

pytestmark = pytest.mark.django_db

CURRENCIES = {"EUR": Decimal("0.01"), "JPY": Decimal("1"), "KWD": Decimal("0.001")}


@st.composite
def shopping(draw):
    """A currency, lines of (price, units, tax rate), discounts and a shipping price."""
    currency = draw(st.sampled_from(sorted(CURRENCIES)))
    unit = CURRENCIES[currency]
    amount = st.integers(0, 100_000).map(lambda n: n * unit)
    rates = st.sampled_from([Decimal(0), Decimal(7), Decimal(19), Decimal("5.5"), Decimal(100)])
    lines = draw(st.lists(st.tuples(amount, st.integers(1, 40), rates), min_size=1, max_size=6))
    percent = st.decimals(Decimal("0.01"), Decimal(100), places=2).map(lambda p: {"percent": p})
    off = draw(st.lists(percent | amount.map(lambda a: {"amount": a}), max_size=3))
    return currency, lines, off, draw(amount), draw(st.booleans())


@pytest.mark.parametrize("examples", [15, pytest.param(40, marks=pytest.mark.nightly)])
def test_the_cart_the_order_and_its_lines_say_the_same_to_the_last_unit(examples):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(shopping())
    def search(shopping):
        currency, lines, off, shipping, with_tax = shopping
        with transaction.atomic():
            store = factories.StoreFactory(currency=currency, prices_include_tax=with_tax)
            methods, now = offer(store), timezone.now()
            cart = services.open_cart(store=store, customer=factories.UserFactory(), as_of=now)
            for price, units, rate in lines:
                product = factories.stocked(store, price=price, tax_rate=rate, track_stock=False)
                services.add_item(cart_id=cart.pk, product_id=product.pk, quantity=units, as_of=now)
            for n, reduction in enumerate(off):
                Discount.objects.create(name=f"Off {n}", currency=currency, store=store, **reduction)
            type(methods["standard"]).objects.filter(pk=methods["standard"].pk).update(price=shipping, free_from=None)
            chosen = {"shipping_method": methods["standard"].code, "payment_method": methods["card"].code}
            cart = services.change_cart(cart_id=cart.pk, changes={**chosen, "shipping_address": BERLIN}, as_of=now)

            seen = services.totals(cart=cart, as_of=now)
            actor = Actor.customer(cart.customer)
            order = services.purchase(cart_id=cart.pk, actor=actor, idempotency_key=str(cart.pk), as_of=now)

            assert seen.items == sum(rounded(price * units, currency) for price, units, _rate in lines)
            assert 0 <= seen.discount <= seen.items
            assert seen.shipping == shipping
            assert seen.total == seen.items - seen.discount + shipping + (0 if with_tax else seen.tax)
            assert (order.items_total, order.discount_total, order.shipping_total) == (
                seen.items,
                seen.discount,
                shipping,
            )
            assert (order.tax_total, order.total) == (seen.tax, seen.total)
            rows = list(order.lines.all())
            for name in ("items_total", "discount_total", "shipping_total", "tax_total", "total"):
                assert sum(getattr(row, name) for row in rows) == getattr(order, name)
                assert all(getattr(row, name) >= 0 for row in rows)
                assert all(getattr(row, name) % quantum(currency) == 0 for row in rows)
            assert sum(d.amount for d in order.discounts.all()) == seen.discount
            transaction.set_rollback(True)

    search()


def test_shipping_is_free_from_a_value_on_after_discounts(store, methods):
    standard = methods["standard"]
    assert shipping_price(standard, goods=Decimal("49.99"), currency="EUR") == 5
    assert shipping_price(standard, goods=Decimal("50.00"), currency="EUR") == 0
    assert shipping_price(None, goods=Decimal("1"), currency="EUR") == 0


def test_a_discount_counts_from_its_minimum_and_in_its_time(store):
    now = timezone.now()
    discount = Discount(name="Ten", percent=Decimal(10), minimum=Decimal(20), currency="EUR")

    def off(goods: str, at=now) -> list[Decimal]:
        return [d.amount for d in granted([discount], goods=Decimal(goods), currency="EUR", as_of=at)]

    assert (off("19.99"), off("20.00")) == ([], [Decimal("2.00")])
    discount.valid_from, discount.valid_until = now, now + timedelta(hours=1)
    assert off("20", now) == [Decimal("2.00")]
    assert off("20", now - timedelta(seconds=1)) == off("20", now + timedelta(hours=1)) == []


def test_discounts_together_never_give_more_than_the_goods_are_worth():
    many = [Discount(name=str(n), amount=Decimal(6), currency="EUR") for n in range(3)]
    assert [d.amount for d in granted(many, goods=Decimal(10), currency="EUR", as_of=timezone.now())] == [6, 4]


def test_a_discount_without_a_code_is_granted_and_one_with_a_code_is_asked_for(store, customer, fill, product):
    Discount.objects.create(name="For all", amount=Decimal(1), store=store)
    Discount.objects.create(name="Summer", percent=Decimal(50), code="SUMMER", store=store)
    cart = fill(customer, (product, 1))
    assert services.totals(cart=cart, as_of=timezone.now()).discount == 1
    cart = services.change_cart(cart_id=cart.pk, changes={"discount_code": "summer"}, as_of=timezone.now())
    assert services.totals(cart=cart, as_of=timezone.now()).discount == 6
    with pytest.raises(services.NotOffered):
        services.change_cart(cart_id=cart.pk, changes={"discount_code": "winter"}, as_of=timezone.now())


def test_a_code_that_ran_out_meanwhile_is_a_problem_not_a_silent_higher_price(store, customer, fill, product):
    Discount.objects.create(name="Summer", percent=Decimal(50), code="SUMMER", store=store)
    cart = fill(customer, (product, 1))
    cart = services.change_cart(cart_id=cart.pk, changes={"discount_code": "SUMMER"}, as_of=timezone.now())
    Discount.objects.update(is_active=False)
    codes = [problem.code for problem in services.problems(cart=cart, as_of=timezone.now())]
    assert codes == ["discount_not_granted"]


@pytest.mark.parametrize(
    "chosen, goods, standard",
    [
        ("express", 1, "5.00"),
        ("standard", 1, "5.00"),
        ("express", 6, "0.00"),  # from 50 on, the standard delivery is free
        ("pickup", 1, None),  # fetched: nothing was delivered, and that makes no delivery dearer
    ],
)
def test_an_order_keeps_what_the_least_expensive_delivery_would_have_cost(
    chosen, goods, standard, store, customer, methods, fill, buy, product
):
    others = {"price": Decimal("12.90"), "currency": store.currency}
    methods["express"] = ShippingMethod.objects.create(code="express", name="Express", store=store, **others)
    # Neither is offered here: it was closed, and is another store's.
    ShippingMethod.objects.create(code="closed", name="Closed", is_active=False, currency=store.currency)
    ShippingMethod.objects.create(code="theirs", name="Theirs", store=factories.StoreFactory(), currency="EUR")
    order = buy(fill(customer, (product, goods), ship=chosen))
    assert order.shipping_standard == (None if standard is None else Decimal(standard))
    assert order.shipping_total == {"express": Decimal("12.90"), "standard": 5, "pickup": 0}[chosen]
    ShippingMethod.objects.filter(code=methods["standard"].code).update(price=1)
    order.refresh_from_db()
    assert order.shipping_standard == (None if standard is None else Decimal(standard))
