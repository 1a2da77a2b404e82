"""What staff see of checkout: offers of their own stores to set, carts and address books to look at."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from checkout.models import Address, Cart, CartItem, Discount, PaymentMethod, ShippingMethod
from shop.models import User
from tests import factories
from tests.checkout.conftest import offer

pytestmark = pytest.mark.django_db

OFFERS = [ShippingMethod, PaymentMethod, Discount]


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(model, name: str, *args: object) -> str:
    return reverse(f"admin:checkout_{model._meta.model_name}_{name}", args=args)


SHIPPING = {
    "name": "Bike",
    "code": "bike",
    "is_active": "on",
    "position": "0",
    "price": "3.00",
    "currency": "EUR",
    "tracking_url_template": "https://bike.example/{number}",
}


def test_a_manager_adds_a_way_to_ship_to_their_store_only(staff, store):
    client = logged_in(staff("Store Manager", store))
    other = factories.StoreFactory()
    for wrong in ("", other.pk):
        answer = client.post(page(ShippingMethod, "add"), {**SHIPPING, "store": wrong})
        assert answer.status_code == 200
        assert not ShippingMethod.objects.exists()
    answer = client.post(page(ShippingMethod, "add"), {**SHIPPING, "store": store.pk})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert ShippingMethod.objects.get().tracking_url("1 Z") == "https://bike.example/1%20Z"


@pytest.mark.parametrize(
    "wrong, field",
    [
        ({"currency": "GBP"}, "currency"),
        ({"price": "3.001"}, "price"),
        ({"price": "-1"}, "price"),
        ({"tracking_url_template": "https://bike.example/"}, "tracking_url_template"),
        ({"tracking_url_template": "javascript:{number}"}, "tracking_url_template"),
    ],
)
def test_a_wrong_offer_is_refused_by_its_field(staff, store, wrong, field):
    answer = logged_in(staff("Admin")).post(page(ShippingMethod, "add"), {**SHIPPING, "store": store.pk, **wrong})
    assert field in answer.context["adminform"].form.errors


def test_paying_on_delivery_needs_a_gateway_that_can_wait(staff):
    body = {
        "name": "Card",
        "code": "card",
        "gateway": "demo",
        "pays_on_delivery": "on",
        "capture_mode": "by_staff",
        "position": "0",
    }
    answer = logged_in(staff("Admin")).post(page(PaymentMethod, "add"), body)
    assert "pays_on_delivery" in answer.context["adminform"].form.errors


@pytest.mark.parametrize("reduction", [{}, {"percent": "10", "amount": "5"}, {"percent": "101"}, {"percent": "0"}])
def test_a_discount_is_a_percentage_or_an_amount(staff, reduction):
    body = {"name": "Sale", "currency": "EUR", "minimum": "0", **reduction}
    assert logged_in(staff("Admin")).post(page(Discount, "add"), body).status_code == 200
    assert not Discount.objects.exists()


def test_a_code_is_given_once_whatever_its_letters(staff):
    client = logged_in(staff("Admin"))
    for code, made in (("Summer", 1), ("SUMMER", 1), ("", 2), ("", 3)):
        client.post(
            page(Discount, "add"), {"name": "Sale", "code": code, "currency": "EUR", "minimum": "0", "percent": "5"}
        )
        assert Discount.objects.count() == made, code


@pytest.mark.parametrize("role", ["Fulfilment", "Customer Service", None])
def test_others_change_no_offers(staff, store, role):
    method = offer(store)["standard"]
    client = logged_in(staff(role, store))
    assert client.post(page(ShippingMethod, "change", method.pk), {**SHIPPING, "store": store.pk}).status_code == 403
    assert client.post(page(ShippingMethod, "add"), {**SHIPPING, "store": store.pk}).status_code == 403
    method.refresh_from_db()
    assert method.name == "Standard"


def test_abandoned_carts_are_found_with_what_is_in_them(staff, store, customer, fill, product):
    cart = fill(customer, (product, 2))
    Cart.objects.update(updated_at=timezone.now() - timedelta(hours=3))
    fill(factories.UserFactory(email="busy@example.com"), (product, 1))
    client = logged_in(staff("Store Manager", store))
    listed = client.get(page(Cart, "changelist"), {"state": "abandoned"})
    assert [row.pk for row in listed.context["cl"].result_list] == [cart.pk]
    shown = client.get(page(Cart, "change", cart.pk)).content.decode()
    assert product.name in shown
    assert "€25.00" in shown


def test_the_list_of_carts_takes_a_constant_number_of_queries(
    staff, store, fill, product, django_assert_max_num_queries
):
    for _n in range(8):
        fill(factories.UserFactory(), (product, 1))
    client = logged_in(staff("Store Manager", store))
    with django_assert_max_num_queries(20):
        client.get(page(Cart, "changelist"))


def test_carts_and_address_books_are_to_look_at_only(staff, store, customer, fill, product, book):
    cart = fill(customer, (product, 2))
    client = logged_in(staff("Admin"))
    for model, row in ((Cart, cart), (Address, book)):
        assert client.get(page(model, "changelist")).status_code == 200
        assert client.get(page(model, "change", row.pk)).status_code == 200
        assert client.get(page(model, "add")).status_code == 403
        assert client.post(page(model, "change", row.pk), {"email": "x@example.com"}).status_code == 403
        assert client.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert CartItem.objects.count() == 1
    assert CartItem not in admin.site._registry


def test_staff_of_another_store_see_no_carts_here(staff, store, customer, fill, product):
    cart = fill(customer, (product, 1))
    client = logged_in(staff("Store Manager", factories.StoreFactory()))
    assert client.get(page(Cart, "changelist")).context["cl"].result_count == 0
    assert client.get(page(Cart, "change", cart.pk)).status_code == 302


def test_the_list_pages_of_all_offers_open(staff, store):
    offer(store)
    Discount.objects.create(name="Ten", percent="10.00")
    Discount.objects.create(name="Five", amount="5.00", store=store)
    client = logged_in(staff("Admin"))
    for model in OFFERS:
        assert client.get(page(model, "changelist")).status_code == 200
        assert client.get(page(model, "change", model.objects.first().pk)).status_code == 200
