"""Money and the order that it is for: whatever dies, times out or changes its mind, neither is without the other."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orders.models import Order
from orders.processing import PaymentChoice, get_event_handler, pay_now
from payments.gateways import UnknownGateway
from payments.models import DemoGatewayEntry, DemoGatewayFault, Payment, Transaction
from shop import jobs
from shop.actors import Actor
from shop.models import Job

pytestmark = pytest.mark.django_db


def later(minutes: int):
    return lambda: timezone.now() + timedelta(minutes=minutes)


def authorize_and_die(order: Order) -> jobs.Job:
    """A process that called the gateway and was killed before it wrote anything down."""
    job = jobs.claim(as_of=timezone.now(), key=Job.objects.get(kind="payments.send", reference=order.number).key)
    assert job is not None
    assert jobs.perform(job).state == "done"
    return job


def test_the_order_is_there_before_the_gateway_is_asked(customer, fill, buy, product):
    order = buy(fill(customer, (product, 1)))
    assert order.status == "payment_waiting"
    assert not DemoGatewayEntry.objects.exists()
    assert Job.objects.filter(kind="payments.send", reference=order.number, state="waiting").count() == 1


def test_killed_between_the_gateway_and_the_books_the_money_is_found_again(customer, fill, buy, product, books):
    order = buy(fill(customer, (product, 1)))
    authorize_and_die(order)
    assert DemoGatewayEntry.objects.get().status == "succeeded"
    assert Payment.objects.get().authorized == 0

    jobs.drain(clock=later(5))
    order.refresh_from_db()
    assert order.status == "confirmation_waiting"
    assert Payment.objects.get().authorized == order.total
    assert DemoGatewayEntry.objects.count() == 1
    assert books() == []


def test_killed_before_the_answer_the_repeated_request_goes_on(browser, customer, fill, product, monkeypatch, books):
    """The web process dies right after the order was written: the customer's client sends the same request again."""
    fill(customer, (product, 1))
    shopper = browser(customer)
    shopper.raise_request_exception = False

    def killed(number: str) -> None:
        raise SystemExit

    with monkeypatch.context() as m:
        m.setattr("checkout.api.frame.pay_now", killed)
        m.setattr("checkout.api.frame.PATIENCE_SECONDS", 0.2)
        with pytest.raises(SystemExit):
            shopper.order(key="abc")
    assert Order.objects.get().status == "payment_waiting"

    monkeypatch.setattr("checkout.api.frame.PATIENCE_SECONDS", 0.2)
    answer = shopper.order(key="abc")
    assert (answer.status_code, answer.json()["payment"]) == (201, "succeeded")
    assert shopper.order(key="abc").content == answer.content
    assert Order.objects.count() == 1
    assert DemoGatewayEntry.objects.count() == 1
    assert books() == []


def test_a_gateway_that_does_it_and_does_not_answer_is_looked_up(browser, customer, fill, product, books):
    fill(customer, (product, 1))
    DemoGatewayFault.objects.create(operation="authorize", behaviour="timeout_after", remaining=1)
    body = browser(customer).order().json()
    assert (body["payment"], body["status"]["value"]) == ("pending", "payment_waiting")
    assert DemoGatewayEntry.objects.get().status == "succeeded"

    jobs.drain(clock=later(5))
    assert Order.objects.get().status == "confirmation_waiting"
    assert DemoGatewayEntry.objects.count() == 1
    assert books() == []


def test_a_gateway_that_is_not_there_leaves_an_order_that_waits(browser, customer, fill, product, books):
    fill(customer, (product, 1))
    DemoGatewayFault.objects.create(operation="authorize", behaviour="unavailable", remaining=1)
    body = browser(customer).order().json()
    assert body["payment"] == "pending"
    jobs.drain(clock=later(5))
    assert Order.objects.get().status == "confirmation_waiting"
    assert books() == []


def test_cancelled_while_the_gateway_authorises_the_money_is_let_go(customer, fill, buy, product, books):
    order = buy(fill(customer, (product, 1)))
    authorize_and_die(order)
    get_event_handler(Actor.customer(customer)).cancel(number=order.number or "", reason="changed_mind")

    for minutes in (5, 10, 15):
        jobs.drain(clock=later(minutes))
    order.refresh_from_db()
    payment = Payment.objects.get()
    assert order.status == "cancelled"
    assert (payment.authorized, payment.voided, payment.captured) == (order.total, order.total, 0)
    assert Transaction.objects.get(kind="void").status == "succeeded"
    assert DemoGatewayEntry.objects.filter(operation="void").count() == 1
    assert product.stock_records.get().allocated == 0
    assert books() == []


def test_cancelled_after_it_was_captured_at_once_the_money_goes_back(browser, customer, fill, product, books):
    fill(customer, (product, 1), pay="instant")
    browser(customer).order()
    order = Order.objects.get()
    assert Payment.objects.get().captured == order.total
    get_event_handler(Actor.customer(customer)).cancel(number=order.number or "", reason="changed_mind")
    for minutes in (5, 10):
        jobs.drain(clock=later(minutes))
    assert Payment.objects.get().refunded == order.total
    assert books() == []


def test_a_refused_purchase_leaves_no_row_behind(customer, fill, buy, product):
    """Whatever refuses last, inside the one transaction: order, stock, payment and cart are as they were."""
    cart = fill(customer, (product, 1))
    with pytest.raises(UnknownGateway):
        buy(cart, payments=[PaymentChoice(gateway="nowhere")])
    cart.refresh_from_db()
    assert cart.is_open
    assert cart.items.count() == 1
    assert not Order.objects.exists()
    assert not Payment.objects.exists()
    assert not Job.objects.exists()
    assert product.stock_records.get().allocated == 0


def test_paying_now_twice_at_once_moves_the_money_once(customer, fill, buy, product):
    order = buy(fill(customer, (product, 1)))
    pay_now(order.number or "")
    pay_now(order.number or "")
    assert DemoGatewayEntry.objects.count() == 1
