"""A customer asks for items of several orders at once: always requests, all or none, and once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders.models import CancellationReason, CancellationRequest, JournalEntry, Order, OrderLine
from shop import maintenance
from shop.actors import Actor
from shop.models import User
from tests import factories
from tests.orders.storefront import Browser, assert_errors, assert_is, facts_of, new_customer

PATH = "/users/orders/bulk_cancellation_requests/"
Place = Callable[..., Order]
pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> User:
    return new_customer()


@pytest.fixture
def browser(customer: User) -> Browser:
    return Browser(customer)


def item(line: OrderLine, kind: str = "cancel", **more: Any) -> dict[str, Any]:
    reason = CancellationReason.objects.get(code="changed_mind").pk
    return {"order_item": line.pk, "cancellation_type": kind, "reason": reason, "description": "", **more}


def ask(browser: Browser, *items: dict[str, Any], **more: Any) -> Any:
    return browser.post(PATH, {"return_policy": True, "cancel_order_items": list(items)}, **more)


def test_items_of_several_orders_become_requests_in_the_order_asked_for(
    place: Place, customer: User, browser: Browser, books: Callable[[], list[str]], work: Callable[[], int]
) -> None:
    """Also of what could be cancelled at once; ids may be strings, and `id` says nothing."""
    fresh, sent = place([("10.00", 2), ("5.00", 1)], customer=customer), place(customer=customer, until="delivered")
    first, second = fresh.lines.all()
    asked = [item(sent.lines.get(), "refund"), item(second), item(first, quantity="1")]
    asked[2] |= {"order_item": str(first.pk), "reason": str(asked[2]["reason"])}
    answered = browser.post(PATH, {"id": "4711", "return_policy": True, "cancel_order_items": asked})
    assert answered.status_code == 201, answered.content
    for body in answered.json():
        assert_is(body, "CancellationRequestResponse")
    made = [(body["order_item"], body["quantity"], body["status"]["value"]) for body in answered.json()]
    assert made == [(sent.lines.get().pk, 2, "open"), (second.pk, 1, "open"), (first.pk, 1, "open")]
    work()
    for order, count in ((fresh, 2), (sent, 1)):
        assert order.cancellation_requests.count() == count
        assert JournalEntry.objects.filter(order=order).latest("sequence").verb == "request_cancellation"
    assert not OrderLine.objects.filter(cancelled__gt=0).exists()
    assert books() == []


def test_the_same_request_again_gets_the_first_answer_and_does_nothing(
    place: Place, customer: User, browser: Browser
) -> None:
    order = place([("10.00", 1), ("5.00", 1)], customer=customer)
    one, two = order.lines.all()
    answers = [ask(browser, item(one)) for _attempt in range(4)]
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.content for answer in answers}) == 1
    assert answers[3]["Idempotency-Replayed"] == "true"
    keyed = [ask(browser, item(two), headers={"Idempotency-Key": "k"}) for _attempt in range(2)]
    assert keyed[0].json() == keyed[1].json()
    assert assert_errors(ask(browser, item(one), headers={"Idempotency-Key": "k"}), 422)["error_code"] == [
        "idempotency_key_reused"
    ]
    assert CancellationRequest.objects.count() == 2


def test_one_item_that_cannot_be_asked_for_refuses_them_all_and_is_named(place: Place, customer: User) -> None:
    browser = Browser(customer)
    good, gone = place([("10.00", 3)], customer=customer), place(customer=customer)
    foreign = place(customer=new_customer()).lines.get()
    left = good.lines.get()
    assert browser.cancel(good, item(left, quantity=1)).status_code == 204
    assert browser.cancel(gone, item(gone.lines.get())).status_code == 204
    sent = place(customer=customer, until="shipped")
    fine = item(place(customer=customer).lines.get())
    before = [facts_of(order) for order in (good, gone, sent)]
    last = "cancel_order_items.1"
    for wrong, field, words in (
        (item(gone.lines.get()), "non_field_errors", "Order already cancelled!"),
        (item(sent.lines.get()), "non_field_errors", "Order can't be cancelled in this status."),
        (item(left, quantity=3), f"{last}.quantity", "Only 2 are left."),
        (item(foreign), f"{last}.order_item", "This is not an item of this order."),
        (fine, f"{last}.order_item", "This item is named twice."),
        ({**item(left), "reason": 999}, f"{last}.reason", "This is not a reason to choose from."),
    ):
        for attempt in range(2):
            told = assert_errors(ask(browser, fine, wrong), 400)
            assert told[field] == [words], (attempt, told)
    assert [facts_of(order) for order in (good, gone, sent)] == before
    assert not CancellationRequest.objects.exists()


def test_too_many_and_nobodys_items_are_refused(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    wish = item(order.lines.get())
    assert "cancel_order_items" in str(assert_errors(ask(browser, *[wish] * 201), 400))
    assert_errors(Browser().post(PATH, {"cancel_order_items": [wish]}), 401)
    assert_errors(browser.client.post(PATH, {"cancel_order_items": [wish]}, format="json"), 403)
    assert not CancellationRequest.objects.exists()


def test_during_maintenance_they_wait(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    maintenance.start(actor=Actor.system(), message="Stocktaking")
    answered = ask(browser, item(order.lines.get()))
    assert answered.status_code == 201
    assert [body["status"]["value"] for body in answered.json()] == ["waiting"]


def test_queries_grow_with_orders_and_not_with_lines(place: Place, customer: User, browser: Browser) -> None:
    store = factories.StoreFactory()
    products = [factories.stocked(store) for _n in range(12)]

    def count(*sizes: int) -> int:
        orders = [place(products[:size], store=store, customer=customer) for size in sizes]
        items = [item(line) for order in orders for line in order.lines.all()]
        with CaptureQueriesContext(connection) as queries:
            assert ask(browser, *items).status_code == 201
        return len(queries)

    assert count(1) == count(12)
    assert count(1, 1) == count(12, 12)
