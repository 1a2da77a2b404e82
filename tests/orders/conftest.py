"""Fixtures of the orders' tests: people at work, a clock that stands still, another system that manages the orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from orders.models import Approval, ApprovalLevel, ApprovalPolicy, Cancellation, CancelRule
from orders.processing import get_event_handler
from shop.actors import Actor
from shop.models import Store, User
from tests import factories
from tests.orders.fake_order_management import GATEWAY, SECRET, FakeOrderManagement


@pytest.fixture
def manager(staff: Callable[..., User], store: Store) -> User:
    return staff("Store Manager", store)


@pytest.fixture
def packer(staff: Callable[..., User], store: Store) -> User:
    return staff("Fulfilment", store)


@pytest.fixture
def asked(packer: User, store: Store) -> Callable[..., Approval]:
    """asked(by=…, lines=…): somebody wants an order cancelled that is being prepared, and has to ask for it."""

    def ask(*, by: User | None = None, lines: Any = (("10.00", 2),), until: str = "paid", **choices: Any) -> Approval:
        order = factories.place_order(lines, store=store, until=until)
        row = get_event_handler(Actor.staff(by or packer)).submit_cancellation(
            number=order.number or "", reason="out_of_stock", justification="The last one is broken", **choices
        )
        assert row.status == Cancellation.Status.WAITING_APPROVAL
        return row.approval

    return ask


@pytest.fixture
def clock(db: None) -> Iterator[Any]:
    """Time stands still until a test moves it."""
    with time_machine.travel(timezone.now(), tick=False) as moving:
        yield moving


@pytest.fixture
def many_need_approval(db: None) -> None:
    """More than 25 EUR in all need the highest level."""
    level = ApprovalLevel.objects.order_by("-level").first()
    ApprovalPolicy.objects.create(name="Much money", level=level, min_value=25, currency="EUR")


@pytest.fixture
def undoable(db: None) -> None:
    """What staff cancel can be undone for half an hour."""
    CancelRule.objects.create(undo_minutes=30, direct_statuses=["approved", "confirmation_waiting"])


@pytest.fixture
def fake(settings: Any) -> Iterator[FakeOrderManagement]:
    """An order management system outside, which the desk asks."""
    system = FakeOrderManagement()
    settings.ORDER_MANAGEMENT = GATEWAY
    settings.ORDER_MANAGEMENT_URL = system.url
    settings.ORDER_MANAGEMENT_SECRET = SECRET
    settings.ORDER_MANAGEMENT_TIMEOUT_SECONDS = 0.3
    yield system
    system.close()
    assert system.bad == [], "every request is signed"
