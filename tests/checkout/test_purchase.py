"""A cart becomes an order: by customers and guests, once, whole or not at all, and as it was at that moment."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.utils import timezone

from checkout import services
from checkout.models import Cart
from inventory import services as inventory
from inventory.models import Product
from orders.models import Order, OrderLine
from payments.models import DemoGatewayFault, Payment
from shop.models import IdempotencyKey, User
from tests import factories
from tests.checkout.conftest import BERLIN

pytestmark = pytest.mark.django_db


def decline_next() -> None:
    DemoGatewayFault.objects.create(operation="authorize", behaviour="decline", remaining=1)


# --- through the door ------------------------------------------------------------------------------------------------


def test_a_customer_fills_a_cart_and_orders_it(browser, customer, product, methods, store, books):
    shopper = browser(customer)
    address = shopper.send("post", "/address/", BERLIN).json()
    answer = shopper.send("post", "/api/v1/cart/items/", {"product": product.pk, "quantity": 2})
    assert answer.status_code == 201, answer.json()
    chosen = {
        "shipping_method": methods["standard"].code,
        "payment_method": methods["card"].code,
        "shipping_address": address["pk"],
    }
    cart = shopper.send("patch", "/api/v1/cart/", chosen).json()
    assert cart["can_be_ordered"], cart["problems"]
    assert cart["totals"] == {"items": "20.00", "discount": "0.00", "shipping": "5.00", "tax": "3.99", "total": "25.00"}

    answer = shopper.order(total="25.00")
    assert answer.status_code == 201, answer.json()
    body = answer.json()
    assert (body["payment"], body["status"]["value"], body["total"]) == ("succeeded", "confirmation_waiting", "25.00")

    order = Order.objects.get(number=body["number"])
    assert (order.customer, order.email, order.customer_name) == (customer, customer.email, "Ada Lovelace")
    assert order.shipping_address.book_entry == address["pk"]
    assert order.billing_address == order.shipping_address
    assert order.lines.get().allocated == 2
    assert Payment.objects.get(reference=order.number).authorized == Decimal(25)
    assert Cart.objects.get().items.count() == 0
    assert shopper.get("/api/v1/cart/").json()["items"] == []
    assert books() == []


def test_a_guest_orders_with_an_address_of_their_own(browser, product, methods, books):
    shopper = browser()
    shopper.send("post", "/api/v1/cart/items/", {"product": product.pk})
    wanted = {
        "email": "guest@example.com",
        "shipping_method": methods["standard"].code,
        "payment_method": methods["card"].code,
        "shipping_address": BERLIN,
        "billing_address": {**BERLIN, "company_name": "Engines Ltd"},
    }
    shopper.send("patch", "/api/v1/cart/", wanted)
    answer = shopper.order()
    assert answer.status_code == 201, answer.json()
    order = Order.objects.get(number=answer.json()["number"])
    assert (order.customer, order.email, order.language) == (None, "guest@example.com", "en")
    assert order.shipping_address.book_entry is None
    assert (order.shipping_address.company, order.billing_address.company) == ("", "Engines Ltd")
    assert books() == []


@pytest.mark.parametrize("who", ["guest", "customer"])
def test_without_the_csrf_token_nothing_is_ordered(browser, customer, fill, product, who):
    user = customer if who == "customer" else None
    fill(user, (product, 1))
    answer = browser(user).send("post", "/api/v1/purchase/", {}, key="k", csrf=False)
    assert answer.status_code == 403
    assert not Order.objects.exists()


def test_without_an_idempotency_key_it_says_so(browser, customer, fill, product):
    fill(customer, (product, 1))
    answer = browser(customer).send("post", "/api/v1/purchase/", {})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["Idempotency-Key"][0]
    assert not Order.objects.exists()


def test_the_same_key_again_gives_the_same_answer_and_no_second_order(browser, customer, fill, product):
    fill(customer, (product, 1))
    shopper = browser(customer)
    first, second = shopper.order(key="abc"), shopper.order(key="abc")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert second.headers["Idempotency-Replayed"] == "true"
    assert Order.objects.count() == 1
    assert shopper.order(key="abc", total="1.00").status_code == 422


def test_the_same_cart_again_with_another_key_is_the_same_order(browser, customer, fill, product):
    cart = fill(customer, (product, 1))
    shopper = browser(customer)
    answers = [shopper.order(key=key, cart=str(cart.public_id)).json() for key in ("a", "b")]
    assert answers[0]["number"] == answers[1]["number"]
    assert Order.objects.count() == 1


def test_two_customers_may_use_the_same_key(browser, customer, fill, product):
    other = factories.UserFactory()
    for user in (customer, other):
        fill(user, (product, 1))
    numbers = {browser(user).order(key="1").json()["number"] for user in (customer, other)}
    assert len(numbers) == 2


def test_a_key_of_a_refused_purchase_can_be_used_again(browser, customer, fill, product):
    cart = fill(customer, (product, 10))
    record = factories.record_of(product)
    inventory.adjust(stock_record_id=record.pk, counted=4, key="count", note="Count", actor_name="Ada")
    shopper = browser(customer)
    assert shopper.order(key="abc").status_code == 409
    assert not IdempotencyKey.objects.exists()
    services.change_item(cart_id=cart.pk, item_id=cart.items.get().pk, quantity=4, as_of=timezone.now())
    assert shopper.order(key="abc").status_code == 201


def test_what_is_out_of_stock_is_named_by_its_line(browser, customer, fill, product, store):
    scarce = factories.stocked(store, units=3, name="Last lamp")
    cart = fill(customer, (product, 1), (scarce, 3))
    item = cart.items.get(product=scarce)
    record = factories.record_of(scarce)
    inventory.adjust(stock_record_id=record.pk, counted=2, key="count", note="Count", actor_name="Ada")
    answer = browser(customer).order()
    assert answer.status_code == 409
    body = answer.json()
    assert body[f"items.{item.pk}"] == ["Only 2 of “Last lamp” can be had, but 3 were asked for."]
    assert (body["error_code"], body["max_quantity"]) == (["out_of_stock"], ["2"])
    assert not Order.objects.exists()
    assert record.movements.filter(kind="allocated").count() == 0
    cart.refresh_from_db()
    assert cart.is_open


def test_everything_that_is_missing_is_named_at_once(browser, product, methods):
    shopper = browser()
    shopper.send("post", "/api/v1/cart/items/", {"product": product.pk})
    Product.objects.update(is_active=False)
    body = shopper.order().json()
    assert set(body) == {
        f"items.{Cart.objects.get().items.get().pk}",
        "email",
        "shipping_method",
        "payment_method",
        "shipping_address",
        "error_code",
    }
    assert "product_inactive" in body["error_code"]


def test_a_total_that_the_customer_did_not_see_is_refused(browser, customer, fill, product):
    fill(customer, (product, 1))
    Product.objects.update(price=Decimal(12))
    answer = browser(customer).order(total="15.00")
    assert answer.status_code == 409
    assert answer.json()["total"] == [
        "The total has changed from €15.00 to €17.00. Look at the cart again before you order."
    ]


def test_somebody_elses_cart_is_not_found(browser, customer, fill, product):
    cart = fill(customer, (product, 1))
    for stranger in (browser(factories.UserFactory()), browser()):
        assert stranger.order(cart=str(cart.public_id)).status_code == 404
    assert not Order.objects.exists()


# --- paying ----------------------------------------------------------------------------------------------------------


def test_after_a_decline_the_order_exists_and_is_paid_again(browser, customer, fill, product, books):
    fill(customer, (product, 1))
    shopper = browser(customer)
    decline_next()
    body = shopper.order().json()
    assert (body["payment"], body["status"]["value"]) == ("declined", "payment_waiting")
    again = shopper.send("post", f"/api/v1/orders/{body['number']}/pay/", {})
    assert again.status_code == 200, again.json()
    assert (again.json()["payment"], again.json()["status"]["value"]) == ("succeeded", "confirmation_waiting")
    once_more = shopper.send("post", f"/api/v1/orders/{body['number']}/pay/", {})
    assert (once_more.status_code, once_more.json()["error_code"]) == (409, ["nothing_outstanding"])
    assert books() == []


def test_a_guest_pays_again_and_strangers_cannot(browser, product, methods):
    shopper = browser()
    shopper.send("post", "/api/v1/cart/items/", {"product": product.pk})
    wanted = {
        "email": "guest@example.com",
        "shipping_method": methods["standard"].code,
        "payment_method": methods["card"].code,
        "shipping_address": BERLIN,
    }
    shopper.send("patch", "/api/v1/cart/", wanted)
    decline_next()
    number = shopper.order().json()["number"]
    for stranger in (browser(), browser(factories.UserFactory(email="guest@example.com"))):
        assert stranger.send("post", f"/api/v1/orders/{number}/pay/", {}).status_code == 404
    again = shopper.send("post", f"/api/v1/orders/{number}/pay/", {"method": methods["instant"].code}, key="pay-1")
    assert again.json()["payment"] == "succeeded"
    repeated = shopper.send("post", f"/api/v1/orders/{number}/pay/", {"method": methods["instant"].code}, key="pay-1")
    assert repeated.content == again.content


@pytest.mark.parametrize(
    "method, payment, status",
    [
        ("card", "succeeded", "confirmation_waiting"),
        ("instant", "succeeded", "confirmation_waiting"),
        ("transfer", "pending", "payment_waiting"),
        ("cash", "pending", "confirmation_waiting"),
    ],
)
def test_each_way_to_pay_is_answered_as_it_stands(browser, customer, fill, product, books, method, payment, status):
    fill(customer, (product, 1), pay=method)
    body = browser(customer).order(payment_details={"card": "•••• 4242"}).json()
    assert (body["payment"], body["status"]["value"]) == (payment, status)
    assert body["payment_instructions"] == ("IBAN DE00" if method == "transfer" else "")
    assert Payment.objects.get().captured == (15 if method == "instant" else 0)
    assert books() == []


def test_a_card_number_is_refused_and_nothing_ordered(browser, customer, fill, product):
    fill(customer, (product, 1))
    answer = browser(customer).order(payment_details={"card": "4242424242424242"})
    assert (answer.status_code, answer.json()["error_code"]) == (409, ["card_number_in_details"])
    assert not Order.objects.exists()
    assert "4242" not in str(list(IdempotencyKey.objects.values()))


def test_a_total_can_be_split_over_two_ways_to_pay(browser, customer, fill, product, methods, books):
    fill(customer, (product, 1))
    parts = [{"method": methods["card"].code, "amount": "4.00"}, {"method": methods["instant"].code}]
    body = browser(customer).order(payments=parts).json()
    assert body["payment"] == "succeeded", body
    assert sorted(Payment.objects.values_list("amount", flat=True)) == [4, 11]
    assert books() == []


@pytest.mark.parametrize("amounts", [["4.00", "4.00"], ["16.00"], ["-1.00", None], ["0.001", None]])
def test_a_split_that_does_not_add_up_orders_nothing(browser, customer, fill, product, methods, amounts):
    fill(customer, (product, 1))
    parts = [{"method": methods["card"].code, "amount": amount} for amount in amounts]
    assert browser(customer).order(payments=parts).status_code == 400
    assert not Order.objects.exists()
    assert not Payment.objects.exists()


def test_cash_on_delivery_cannot_be_a_part(browser, customer, fill, product, methods):
    fill(customer, (product, 1))
    parts = [{"method": methods["card"].code, "amount": "4.00"}, {"method": methods["cash"].code}]
    answer = browser(customer).order(payments=parts)
    assert (answer.status_code, answer.json()["error_code"]) == (400, ["payment_methods_mixed"])


def test_a_pickup_needs_no_address(browser, customer, fill, product):
    cart = fill(customer, (product, 1), ship="pickup")
    services.change_cart(cart_id=cart.pk, changes={"shipping_address": None}, as_of=timezone.now())
    answer = browser(customer).order()
    assert answer.status_code == 201, answer.json()
    order = Order.objects.get()
    assert (order.is_pickup, order.shipping_address, order.shipping_total) == (True, None, 0)
    assert order.customer_name == customer.get_full_name()


# --- snapshots -------------------------------------------------------------------------------------------------------


def test_nothing_that_changes_later_changes_the_order(customer, fill, buy, book, methods, store):
    product = factories.stocked(store, name="Tea pot", track_stock=False)
    cart = fill(customer, (product, 2))
    cart = services.change_cart(cart_id=cart.pk, changes={"shipping_address": book.pk}, as_of=timezone.now())
    order = buy(cart)
    Product.objects.update(name="Coffee pot", sku="new", price=Decimal(99), tax_rate=Decimal(7))
    for method in methods.values():
        type(method).objects.filter(pk=method.pk).update(name="Renamed")
    address = {"first_name": "Grace", "last_name": "Hopper", "line": "Elsewhere 5"}
    services.save_address(customer=customer, address_id=book.pk, data=address, as_of=timezone.now())
    check(order.pk, customer)

    services.delete_address(customer=customer, address_id=book.pk)
    for method in methods.values():
        method.delete()
    Product.objects.get().delete()
    check(order.pk, customer)


def check(order_id: int, customer: User) -> None:
    order = Order.objects.get(pk=order_id)
    line = OrderLine.objects.get(order=order)
    assert (line.name, line.unit_price, line.tax_rate, line.total) == ("Tea pot", 10, 19, 25)
    assert line.sku.startswith("SKU-")
    assert (order.shipping_method_name, order.payment_method_name) == ("Standard", "Card")
    assert order.shipping_address.as_lines()[:2] == ["Ada Lovelace", "Sonnenallee 1"]
    assert order.extra["carrier"] == "DHL"


# --- by the service alone --------------------------------------------------------------------------------------------


def test_the_same_key_with_another_cart_is_the_first_order(customer, fill, buy, product):
    first = buy(fill(customer, (product, 1)), key="same")
    cart = fill(customer, (product, 1))
    assert buy(cart, key="same") == first
    assert Order.objects.count() == 1
    cart.refresh_from_db()
    assert (cart.is_open, cart.items.count()) == (True, 1)


def test_an_ordered_cart_cannot_be_changed(customer, fill, buy, product):
    cart = fill(customer, (product, 1))
    buy(cart)
    with pytest.raises(services.CartOrdered):
        services.add_item(cart_id=cart.pk, product_id=product.pk, as_of=timezone.now())
