"""The number of queries does not grow with the number of lines."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from checkout import services
from shop.actors import Actor
from tests import factories

pytestmark = pytest.mark.django_db

SIZES = (1, 5, 20, 50)


@pytest.fixture
def filled(store, fill) -> Callable[[int], tuple]:
    """filled(n): a customer and their cart of n lines."""

    def make(size: int):
        user = factories.UserFactory()
        lines = [(factories.stocked(store, track_stock=n % 3 != 1), 1) for n in range(size)]
        return user, fill(user, *lines)

    return make


def counted(call: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as queries:
        call()
    return len(queries)


def test_the_cart_is_shown_with_a_constant_number_of_queries(browser, filled):
    counts = []
    for size in SIZES:
        shopper = browser(filled(size)[0])
        shopper.get("/api/v1/cart/")
        counts.append(counted(lambda shopper=shopper: shopper.get("/api/v1/cart/")))
    assert len(set(counts)) == 1, counts
    assert counts[0] <= 10, counts


def test_a_purchase_takes_a_constant_number_of_queries(filled, on_postgres):
    counts = []
    for size in SIZES:
        user, cart = filled(size)
        wanted = {"cart_id": cart.pk, "actor": Actor.customer(user), "as_of": timezone.now()}
        counts.append(counted(lambda w=wanted: services.purchase(idempotency_key=uuid.uuid4().hex, **w)))
    # SQLite takes at most 999 values a statement, so fifty lines are written in two.
    assert len(set(counts[:3])) == 1, counts
    assert counts[3] - counts[2] <= (0 if on_postgres else 3), counts


def test_a_reorder_takes_a_constant_number_of_queries(filled, buy, store):
    counts = []
    for size in SIZES:
        user, cart = filled(size)
        order = buy(cart)
        again = services.open_cart(store=store, customer=user, as_of=timezone.now())
        wanted = {"order": order, "cart_id": again.pk, "as_of": timezone.now()}
        counts.append(counted(lambda w=wanted: services.reorder(**w)))
    assert len(set(counts)) == 1, counts


def test_products_are_listed_with_a_constant_number_of_queries(browser, store):
    counts, shopper = [], browser()
    for size in SIZES:
        for _n in range(size):
            factories.stocked(store)
        counts.append(counted(lambda: shopper.get("/api/v1/products/?limit=100")))
    assert len(set(counts)) == 1, counts
