"""A status of a shop's own, wherever the desk looks at the status of many orders: the rules of another hold in it.

What its workflow does is told in tests/orders/test_own_package.py; here the status is only named.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from orders.models import ApprovalLevel, ApprovalPolicy, Order, Status, in_stages, status
from orders.processing.cancelling import unpaid_before
from orders.processing.rehearsal import rehearse
from orders.rules import ApprovalNeeded
from shop.actors import Actor
from shop.models import Store, User
from tests.orders.bulk_runs import handler, start

Place = Callable[..., Order]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "own_statuses", lambda: {"checking": "preparing", "promised": "payment_waiting"})


def in_status(order: Order, name: str) -> Order:
    Order.objects.filter(pk=order.pk).update(status=name)
    order.refresh_from_db()
    return order


@pytest.fixture
def packed() -> ApprovalPolicy:
    level = ApprovalLevel.objects.order_by("-level")[0]
    policy: ApprovalPolicy = ApprovalPolicy.objects.create(name="Packed", level=level, stages=["preparing"])
    return policy


def test_many_of_them_need_the_approval_that_one_needs(
    staff: Callable[..., User], place: Place, store: Store, packed: ApprovalPolicy
) -> None:
    somebody = staff("Store Manager", store)
    orders = [in_status(place(store=store, until="paid"), "checking") for _ in range(2)]
    with pytest.raises(ApprovalNeeded, match="Packed"):
        start(somebody, *orders)
    assert start(somebody, *orders, justification="recalled").status == "waiting_approval"


def test_trying_a_policy_out_counts_them_as_it_would(
    staff: Callable[..., User], place: Place, store: Store, packed: ApprovalPolicy
) -> None:
    order, who = in_status(place(store=store, until="paid"), "checking"), staff("Store Manager", store)
    handler(who).submit_cancellation(number=order.number or "", reason="out_of_stock", justification="broken")
    assert order.cancellations.get().stage == "checking"
    assert rehearse(packed, Actor.staff(who), as_of=timezone.now()).asked == 1


def test_a_policy_does_not_offer_what_it_could_never_tell_apart(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Order, "all_statuses", lambda: ["preparing", "checking"])
    form = admin_client.get(reverse("admin:orders_approvalpolicy_add")).context["adminform"].form
    offered = [value for value, _label in form.fields["stages"].choices]
    assert (Status.PREPARING in offered, "checking" in offered) == (True, False)


def test_what_is_not_paid_for_in_time_is_cancelled_there_too(place: Place, store: Store) -> None:
    order = in_status(place(store=store, gateway="manual", pay=False), "promised")
    assert unpaid_before(timezone.now() + timedelta(minutes=1)) == [order.number]
    assert in_stages(Status.PAYMENT_WAITING) == ["payment_waiting", "promised"]
