"""The same cancellation twenty times at once: one outcome, and everyone gets the same answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from orders.models import CancellationReason, CancellationRequest, JournalEntry, Order, Status
from shop import jobs
from tests import factories
from tests.orders.storefront import Browser, new_customer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.race]
HANDS = 20


def hands(customer: Any) -> list[Browser]:
    """One session in many tabs."""
    first = Browser(customer)
    tabs = []
    for _n in range(HANDS):
        tab = Browser()
        tab.client.cookies.load({name: morsel.value for name, morsel in first.client.cookies.items()})
        tabs.append(tab)
    return tabs


@pytest.mark.parametrize("until", ["", "preparing"])
def test_twenty_times_the_same_cancellation_is_one(
    at_once: Callable[..., list[Any]], until: str, books: Callable[[], list[str]]
) -> None:
    customer = new_customer()
    order = factories.place_order([("10.00", 5), ("3.00", 2)], customer=customer, until=until)
    reason = CancellationReason.objects.get(code="changed_mind").pk
    line = order.lines.order_by("position")[0]
    wish = {"order_item": line.pk, "cancellation_type": "cancel", "reason": reason, "quantity": 2}
    answers = at_once(*[lambda tab=tab: tab.cancel(order, wish) for tab in hands(customer)])
    assert Counter(answer.status_code for answer in answers) == {200 if until else 204: HANDS}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer for answer in answers) == HANDS - 1
    line.refresh_from_db()
    assert line.cancelled == (0 if until else 2)
    assert CancellationRequest.objects.count() == (1 if until else 0)
    verb = "request_cancellation" if until else "cancel"
    assert JournalEntry.objects.filter(order=order, verb=verb).count() == 1
    jobs.drain(seconds=30)
    assert books() == []


def test_twenty_different_wishes_for_the_last_units_are_fulfilled_once(
    at_once: Callable[..., list[Any]], books: Callable[[], list[str]]
) -> None:
    """The control: without a common body or key, the order's lock alone decides; the others are refused, in words."""
    customer = new_customer()
    order = factories.place_order([("10.00", 2)], customer=customer)
    reason, line = CancellationReason.objects.get(code="changed_mind").pk, order.lines.get()
    wish = {"order_item": line.pk, "cancellation_type": "cancel", "reason": reason}
    calls = [
        lambda tab=tab, n=n: tab.cancel(order, {**wish, "description": f"tab {n}"})
        for n, tab in enumerate(hands(customer))
    ]
    answers = at_once(*calls)
    assert Counter(answer.status_code for answer in answers) == {204: 1, 400: HANDS - 1}
    words = [answer.json()["non_field_errors"] for answer in answers if answer.status_code == 400]
    assert words == [["Order already cancelled!"]] * (HANDS - 1)
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
    jobs.drain(seconds=30)
    assert books() == []
