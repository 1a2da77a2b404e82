"""Asking for approval: by a person, of a policy."""

from __future__ import annotations

from typing import Any

import pytest

from orders.models import Approval, ApprovalLevel, ApprovalPolicy, Order
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.models import Store, User
from tests import factories

REASON = "out_of_stock"


def by(user: User) -> EventHandler:
    return get_event_handler(Actor.staff(user))


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def policy(level: int = 1, **fields: Any) -> ApprovalPolicy:
    row: ApprovalPolicy = ApprovalPolicy.objects.create(
        name=f"policy {ApprovalPolicy.objects.count()}", level=ApprovalLevel.objects.get(level=level), **fields
    )
    return row


def needed(user: User, order: Order, reason: str = REASON, **more: Any) -> int:
    """The level whose approval cancelling this needs of this person now; 0: nobody's."""
    approval = by(user).plan_cancellation(number=order.number or "", reason=reason, **more).approval
    return approval.level if approval else 0


def ask(user: User, order: Order, **more: Any) -> Approval:
    row = by(user).submit_cancellation(number=order.number or "", reason=REASON, justification="Broken", **more)
    return row.approval


@pytest.fixture
def order(store: Store) -> Order:
    return factories.place_order([("10.00", 2)], store=store, until="paid")
