"""Points and store credit at the checkout: spent once, by their owner only, and back when the order is cancelled."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from checkout.models import PaymentMethod
from orders.models import Order
from orders.processing import get_event_handler, pay_now
from payments.models import CreditAccount, CreditEntry, Payment
from payments.services import credit
from shop import jobs
from shop.actors import Actor
from tests import factories

pytestmark = pytest.mark.django_db

LOYALTY, STORE_CREDIT = "loyalty", "store_credit"
TOTAL = Decimal(15)  # one unit of 10, and shipping


def give(user, amount, *, kind=LOYALTY, currency="EUR") -> CreditAccount:
    entry = credit.grant(
        owner_id=user.pk,
        currency=currency,
        kind=kind,
        amount=Decimal(amount),
        key=f"gift:{CreditEntry.objects.count()}",
        actor_name="Mira",
        as_of=timezone.now(),
    )
    return entry.account


def numbers(account) -> tuple[Decimal, Decimal]:
    account.refresh_from_db()
    return account.balance, account.held


def paid_by() -> list[tuple[str, Decimal, Decimal]]:
    return list(Payment.objects.order_by("pk").values_list("gateway", "amount", "authorized"))


@pytest.fixture
def shopper(browser, customer, fill, product):
    """A customer's browser with a cart that can be ordered."""
    fill(customer, (product, 1))
    return browser(customer)


def test_points_pay_a_part_and_the_card_the_rest(shopper, customer, books):
    account = give(customer, "12.50")
    answer = shopper.order(use_loyalty="10.00")
    assert (answer.status_code, answer.json()["payment"]) == (201, "succeeded")
    assert paid_by() == [("loyalty", 10, 10), ("demo", 5, 5)]
    assert numbers(account) == (Decimal("12.50"), 10)
    assert books() == []


def test_true_spends_all_there_is_points_before_store_credit(shopper, customer, books):
    points, gift = give(customer, "4"), give(customer, "50", kind=STORE_CREDIT)
    assert shopper.order(use_loyalty=True, use_store_credit=True).json()["payment"] == "succeeded"
    assert paid_by() == [("loyalty", 4, 4), ("store_credit", 11, 11)]
    assert (numbers(points), numbers(gift)) == ((4, 4), (50, 11))
    assert books() == []


def test_false_and_zero_spend_nothing(shopper, customer):
    give(customer, "12.50")
    assert shopper.order(use_loyalty=False, use_store_credit="0").status_code == 201
    assert paid_by() == [("demo", TOTAL, TOTAL)]


def test_credit_goes_with_a_total_that_is_split_already(shopper, customer, methods, books):
    give(customer, "3")
    parts = [{"method": methods["card"].code, "amount": "7"}, {"method": methods["instant"].code}]
    assert shopper.order(use_loyalty=True, payments=parts).status_code == 201
    assert [(gateway, amount) for gateway, amount, _held in paid_by()] == [("loyalty", 3), ("demo", 7), ("demo", 5)]
    assert books() == []


def test_credit_goes_with_a_transfer_and_waits_for_it(browser, customer, fill, product, system, books):
    account = give(customer, "10")
    fill(customer, (product, 1), pay="transfer")
    assert browser(customer).order(use_loyalty=True).json()["payment"] == "pending"
    order = Order.objects.get()
    assert order.status == "payment_waiting"
    system.record_payment(number=order.number, amount=Decimal(5), note="Statement of today", reference="RF1")
    jobs.drain(seconds=30)
    order.refresh_from_db()
    assert order.status == "confirmation_waiting"
    assert numbers(account) == (10, 10)
    assert books() == []


REFUSED = {
    "more than there is": ({"use_loyalty": "12.51"}, 409, "use_loyalty", "not_enough_credit"),
    "none of this kind": ({"use_store_credit": True}, 409, "use_store_credit", "not_enough_credit"),
    "less than a cent": ({"use_loyalty": "1.005"}, 400, "use_loyalty", "amount_invalid"),
    "below zero": ({"use_loyalty": "-1"}, 400, "use_loyalty", None),
    "no amount": ({"use_loyalty": "much"}, 400, "use_loyalty", None),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_spent_is_refused_by_field_and_nothing_is_ordered(shopper, customer, what):
    account = give(customer, "12.50")
    body, status, field, code = REFUSED[what]
    answer = shopper.order(**body)
    assert (answer.status_code, answer.json().get("error_code")) == (status, code and [code]), answer.json()
    assert field in answer.json()
    assert not Order.objects.exists()
    assert numbers(account) == (Decimal("12.50"), 0)


def test_more_than_the_order_costs_is_refused(shopper, customer):
    give(customer, "100")
    answer = shopper.order(use_loyalty="15.01")
    assert answer.json()["use_loyalty"] == ["Only €15.00 is left to be paid this way."]
    assert not Order.objects.exists()


def test_points_of_another_currency_are_refused_by_name(shopper, customer):
    give(customer, "100", currency="GBP")
    answer = shopper.order(use_loyalty="10")
    assert answer.json()["use_loyalty"] == ["Your Loyalty points are in GBP; this store sells in EUR."]


def test_guests_have_none(browser, fill, product):
    shopper = browser()
    shopper.send("post", "/api/v1/cart/items/", {"product": product.pk})
    cart_id = shopper.get("/api/v1/cart/").json()["id"]
    filled = fill(None, (product, 1))
    changes = {
        "shipping_method": filled.shipping_method.code,
        "payment_method": filled.payment_method.code,
        "shipping_address": filled.address("shipping"),
        "email": "guest@example.com",
    }
    assert shopper.send("patch", "/api/v1/cart/", changes).json()["can_be_ordered"]
    answer = shopper.order(cart=cart_id, use_loyalty=True)
    assert (answer.status_code, answer.json()["use_loyalty"]) == (400, ["Log in to pay with your Loyalty points."])
    assert not Order.objects.exists()


def test_credit_does_not_go_with_cash_on_delivery(browser, customer, fill, product):
    give(customer, "10")
    fill(customer, (product, 1), pay="cash")
    answer = browser(customer).order(use_loyalty=True)
    assert (answer.status_code, "use_loyalty" in answer.json()) == (400, True)


def test_nobody_spends_the_points_of_somebody_else(browser, customer, fill, product, store, books):
    """Neither by details that name an account, nor by a payment method that someone made for the gateway."""
    theirs = give(factories.UserFactory(), "100")
    method = PaymentMethod(code="points", name="Points", store=store, gateway=LOYALTY)
    with pytest.raises(ValidationError):
        method.full_clean()
    method.save()
    fill(customer, (product, 1))
    shopper, details = browser(customer), {"credit_account": str(theirs.pk)}
    assert "points" not in [row["code"] for row in shopper.get("/api/v1/payment_methods/").json()]
    assert shopper.send("patch", "/api/v1/cart/", {"payment_method": "points"}).status_code in {400, 409}
    part = {"method": "points", "details": details}
    assert shopper.order(payments=[part]).status_code in {400, 409}
    order = shopper.order(payment_details=details).json()
    again = shopper.send("post", f"/api/v1/orders/{order['number']}/pay/", {"method": "points", "details": details})
    assert again.status_code in {400, 409}
    assert numbers(theirs) == (100, 0)
    assert books() == []


def test_the_same_request_again_spends_once(shopper, customer, books):
    account = give(customer, "12.50")
    first, second = (shopper.order(key="abc", use_loyalty="10") for _ in range(2))
    assert first.content == second.content
    assert numbers(account) == (Decimal("12.50"), 10)
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Back again


def cancelled(customer) -> Order:
    order = Order.objects.get()
    get_event_handler(Actor.customer(customer)).cancel(number=order.number or "", reason="changed_mind")
    jobs.drain(seconds=30)
    order.refresh_from_db()
    assert order.status == "cancelled"
    return order


def test_cancelled_before_it_was_taken_the_points_are_free_again(shopper, customer, books):
    account = give(customer, "12.50")
    shopper.order(use_loyalty="10")
    cancelled(customer)
    assert numbers(account) == (Decimal("12.50"), 0)
    assert CreditEntry.objects.filter(kind="released").count() == 1
    assert books() == []


def test_cancelled_after_it_was_taken_money_and_points_go_back_where_they_came_from(
    browser, customer, fill, product, books
):
    account = give(customer, "12.50")
    fill(customer, (product, 1), pay="instant")
    browser(customer).order(use_loyalty="10")
    jobs.drain(seconds=30)
    assert numbers(account) == (Decimal("2.50"), 0)
    order = cancelled(customer)
    assert numbers(account) == (Decimal("12.50"), 0)
    entry = CreditEntry.objects.get(kind="restored")
    assert (entry.amount, entry.reference) == (10, order.number)
    assert list(Payment.objects.order_by("pk").values_list("gateway", "refunded")) == [("loyalty", 10), ("demo", 5)]
    assert books() == []


def test_a_part_goes_back_as_money_first(browser, customer, fill, product, store, system, books):
    """Newest payment first: the card before the points, to the cent."""
    account = give(customer, "12.50")
    other = factories.stocked(store, price=Decimal("3.00"))
    fill(customer, (product, 1), (other, 1), pay="instant", ship="pickup")
    browser(customer).order(use_loyalty="10")
    jobs.drain(seconds=30)
    order = Order.objects.get()
    lines = {line.sku: line.pk for line in order.lines.all()}
    system.cancel(number=order.number, lines={lines[other.sku]: 1}, reason="out_of_stock")
    jobs.drain(seconds=30)
    assert numbers(account) == (Decimal("2.50"), 0)
    system.cancel(number=order.number, lines={lines[product.sku]: 1}, reason="out_of_stock")
    jobs.drain(seconds=30)
    assert numbers(account) == (Decimal("12.50"), 0)
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Two orders for the same points


def test_points_that_another_order_took_are_declined_and_paid_another_way(shopper, customer, fill, buy, product, books):
    account = give(customer, "10")
    order = Order.objects.get(number=shopper.order(use_loyalty="10").json()["number"])
    assert numbers(account) == (10, 10)
    late = factories.place_order(
        [("20.00", 1)],
        store=order.store,
        customer=customer,
        payments=[_points(account, "10"), *_card()],
    )
    late.refresh_from_db()
    assert late.status == "payment_waiting"
    card = PaymentMethod.objects.filter(gateway="demo").first()
    paid = shopper.send("post", f"/api/v1/orders/{late.number}/pay/", {"method": card.code})
    assert paid.json()["payment"] == "succeeded"
    assert numbers(account) == (10, 10)
    assert books() == []


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_two_orders_at_once_spend_the_same_points_once(customer, store, at_once, books):
    account = give(customer, "10")
    late = [
        factories.place_order(
            [("20.00", 1)], store=store, customer=customer, pay=False, payments=[_points(account, "10"), *_card()]
        )
        for _ in range(2)
    ]
    at_once(*[lambda order=order: pay_now(order.number) for order in late])
    jobs.drain(seconds=30)
    held = list(
        CreditEntry.objects.filter(kind__in=["held", "refused"]).order_by("kind").values_list("kind", flat=True)
    )
    assert held == ["held", "refused"]
    assert numbers(account) == (10, 10)
    assert sorted(Order.objects.values_list("status", flat=True)) == ["confirmation_waiting", "payment_waiting"]
    assert books() == []


def _points(account, amount):
    return factories.PaymentChoice(gateway=account.kind, amount=Decimal(amount), details={"credit_account": account.pk})


def _card():
    return [factories.PaymentChoice(gateway="demo")]


# ---------------------------------------------------------------------------------------------------------------------
# What the customer sees


def test_customers_see_their_own_balance_and_when_it_expires(browser, customer):
    until = timezone.now() + timedelta(days=20)
    give(factories.UserFactory(), "99")
    credit.grant(
        owner_id=customer.pk,
        currency="EUR",
        kind=LOYALTY,
        amount=Decimal("2.50"),
        key="birthday",
        actor_name="Mira",
        as_of=timezone.now(),
        expires_at=until,
    )
    give(customer, "10")
    found = browser(customer).get("/api/v1/account/credit/").json()
    shown = found[0].pop("expiring")
    assert found == [
        {
            "kind": "loyalty",
            "name": "Loyalty points",
            "currency": "EUR",
            "balance": "12.50",
            "held": "0.00",
            "available": "12.50",
            "points": 1250,
        }
    ]
    assert [lot["amount"] for lot in shown] == ["2.50"]


def test_guests_have_no_account_to_see(browser):
    assert browser().get("/api/v1/account/credit/").status_code == 401
