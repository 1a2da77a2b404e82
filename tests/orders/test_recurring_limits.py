"""What a series must not do: spend a credit nobody chose, go on in a closed store, end in words nobody can read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import trans_real

from orders import tasks
from orders.models import ApprovalLevel, ApprovalPolicy, Order, Status
from orders.processing import EventHandler, PaymentChoice, get_event_handler
from payments.services import credit
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories
from tests.orders.asking import by, fresh

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def test_whoever_approves_the_end_of_a_series_may_read_another_language(
    packer: User, manager: User, store: Store, work: Work, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = factories.place_order([("10.00", 2)], store=store, until="approved")
    get_event_handler(Actor.system()).start_recurring(number=order.number or "", unit="week", every=1)
    ApprovalPolicy.objects.create(name="all", level=ApprovalLevel.objects.get(level=1))
    # Somebody has translated it into one language and not into the other.
    german = trans_real.translation("de")._catalog._catalogs[0]
    monkeypatch.setitem(german, ("every week", 0), "jede Woche")
    with translation.override("de"):
        row = by(packer).submit_cancellation(
            number=order.number or "", reason="out_of_stock", ends_series=True, justification="Broken"
        )
    with translation.override("tr"):
        by(manager).approve_cancellation(approval=str(row.approval.uuid))
    work()
    assert fresh(order).status == Status.CANCELLED
    assert fresh(order).recurring.is_ended
    assert books() == []


def test_a_store_that_has_closed_takes_no_order_of_a_series(store: Store, work: Work, clock: Any) -> None:
    order = factories.place_order(store=store, until="approved")
    series = get_event_handler(Actor.system()).start_recurring(number=order.number or "", unit="day")
    Store.objects.filter(pk=store.pk).update(is_active=False)
    clock.shift(timedelta(days=1, minutes=1))
    tasks.recurring_due()
    work()
    assert series.orders.count() == 1
    assert "closed" in Job.objects.get(state=Job.State.NEEDS_ATTENTION).last_error


def paid_with_credit_and_card(store: Store) -> Order:
    customer = factories.UserFactory()
    granted = {"kind": "store_credit", "currency": store.currency, "as_of": timezone.now(), "actor_name": "Mira"}
    account = credit.grant(owner_id=customer.pk, amount=Decimal(100), key="grant", **granted).account
    parts = [
        PaymentChoice(gateway="store_credit", amount=Decimal(5), details={"credit_account": account.pk}),
        PaymentChoice(gateway="demo"),
    ]
    return factories.place_order([("10.00", 2)], store=store, customer=customer, payments=parts)


def test_a_series_does_not_begin_to_spend_a_customers_credit_by_default(staff: Staff, store: Store) -> None:
    order = paid_with_credit_and_card(store)
    browser = Client()
    browser.force_login(staff("Admin"))
    page = browser.get(reverse("admin:orders_order_do", args=(order.pk, "repeat")))
    field = page.context["form"].fields["gateway"]
    assert field.initial == "demo"
    assert "loyalty" not in dict(field.choices)


def test_a_series_is_not_paid_with_credit_that_the_order_was_not_paid_with(store: Store, system: EventHandler) -> None:
    order = paid_with_credit_and_card(store)
    with pytest.raises(Refused):
        system.start_recurring(number=order.number or "", unit="week", gateway="loyalty")
    assert fresh(order).recurring is None


def test_a_series_that_ships_before_it_is_paid_is_not_paid_online(store: Store, system: EventHandler) -> None:
    order = factories.place_order(store=store, gateway="manual", pays_on_delivery=True)
    with pytest.raises(Refused):
        system.start_recurring(number=order.number or "", unit="week", gateway="demo")
    assert system.start_recurring(number=order.number or "", unit="week").gateway == "manual"
