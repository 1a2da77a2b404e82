"""The lists beside the orders: what staff read before they answer, and what the lists cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orders.models import CancellationReason, CancellationRequest, Order, Withdrawal
from shop.models import Store, User
from tests import factories

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]


def test_the_list_of_requests_takes_the_same_queries_for_any_number_of_rows(
    admin_client: Client, place: Place, store: Store, reason: CancellationReason
) -> None:
    def count() -> int:
        order = place(store=store)
        CancellationRequest.objects.create(
            order=order,
            line=order.lines.get(),
            quantity=1,
            cancellation_type="refund",
            reason=reason,
            status="approved",
            created_at=timezone.now(),
        )
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(reverse("admin:orders_cancellationrequest_changelist")).status_code == 200
        return len(queries)

    assert count() == count() == count()


def test_who_says_which_order_a_withdrawal_means_reads_it_and_sees_the_orders_of_its_address(
    client: Client, staff: Callable[..., User], place: Place, store: Store
) -> None:
    mine, other = place(store=store), place(store=store, email="somebody.else@example.com")
    row: Any = Withdrawal.objects.create(
        number="the tea pot",
        name="Ada",
        email=mine.email.upper(),
        text="It leaks.",
        declared_at=timezone.now(),
        status=Withdrawal.Status.NEEDS_PERSON,
    )
    client.force_login(staff("Admin"))
    answer = client.get(reverse("admin:orders_withdrawal_do", args=(row.pk, "match")))
    page = BeautifulSoup(answer.content, "html.parser").select_one(".desk-facts").get_text(" ")
    assert all(words in page for words in ("the tea pot", row.email, "It leaks.", mine.number))
    assert other.number not in page


def test_machines_get_the_countrys_code() -> None:
    assert factories.address().as_lines(named=False)[-1] == "DE"
