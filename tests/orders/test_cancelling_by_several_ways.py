"""Cancelling where several ways meet: bulk runs, requests, undoing and approval, each done once and told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core import signing
from django.test import Client

from notifications.models import Message
from orders.models import (
    Approval,
    ApprovalLevel,
    ApprovalPolicy,
    Cancellation,
    CancellationReason,
    CancellationRequest,
    CancelRule,
    Order,
)
from orders.processing import EventHandler, get_event_handler
from orders.processing.requesting import Wish
from orders.rules import signed
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories
from tests.orders.asking import by, fresh

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def test_the_customers_of_a_trial_are_told_though_nobody_resumes_the_run(
    staff: Staff, store: Store, work: Work, clock: Any
) -> None:
    orders = [factories.place_order(store=store, email="a@example.com") for _n in range(3)]
    orders += [factories.place_order(store=store, email=f"b{n}@example.com") for n in range(3)]
    by(staff("Admin")).start_bulk_run(
        orders=[(o.pk, fresh(o).version) for o in orders], reason="out_of_stock", try_first=2
    )
    work()
    assert [fresh(o).status for o in orders[:3]] == ["cancelled", "cancelled", "confirmation_waiting"]
    told = Message.objects.filter(recipient="a@example.com", event__in=["orders_cancelled", "order_cancelled"])
    assert told.count() == 0  # one who resumes it soon has them told of all their orders at once
    clock.shift(timedelta(hours=1))
    work()
    assert told.count() == 1


def test_a_cancellation_that_waits_for_its_time_is_not_done_by_hand_while_it_still_waits(
    manager: User, store: Store, books: Books
) -> None:
    order = factories.place_order(store=store)
    CancelRule.objects.create(undo_minutes=10, direct_statuses=["confirmation_waiting"])
    row = by(manager).submit_cancellation(number=order.number or "", reason="out_of_stock")
    assert row.status == "pending"
    job = Job.objects.get(kind="orders.finish_cancellation")
    Job.objects.filter(pk=job.pk).update(state="needs_attention")
    with pytest.raises(Refused):
        jobs.finish_by_hand(job.pk, user_id=manager.pk, actor_name="M", note="Done")
    job.refresh_from_db()
    assert job.state == "needs_attention"
    by(manager).complete_now(number=order.number or "")
    job.refresh_from_db()
    assert job.state == "done"
    assert books() == []


def test_a_bulk_run_is_approved_by_the_api_too(manager: User, staff: Staff, store: Store) -> None:
    ApprovalPolicy.objects.create(name="all", level=ApprovalLevel.objects.get(level=2))
    orders = [factories.place_order(store=store) for _n in range(2)]
    run = by(manager).start_bulk_run(
        orders=[(o.pk, fresh(o).version) for o in orders], reason="out_of_stock", justification="Recall"
    )
    approval = Approval.objects.get(bulk_run=run)
    client = Client()
    client.force_login(staff("Admin"))
    answer = client.post(
        f"/api/v1/approvals/{approval.uuid}/approve/",
        {},
        content_type="application/json",
        headers={"Idempotency-Key": "a-1"},
    )
    assert answer.status_code == 200, answer.content
    run.refresh_from_db()
    assert run.status == "running"


def asked_and_granted(order: Order, customer: User, manager: User, reason: CancellationReason) -> CancellationRequest:
    """A customer's request that staff have granted, by a cancellation that can still be undone."""
    CancelRule.objects.create(undo_minutes=10, direct_statuses=[], asks_in_other_statuses=True)
    line = order.lines.get()
    wish = Wish(line.pk, 1, CancellationRequest.Type.CANCEL, reason)
    asking = get_event_handler(Actor.customer(customer))
    [asked] = asking.cancel_or_request(number=order.number or "", wishes=[wish])
    return by(manager).decide_request(request_id=asked.pk, approve=True)


def test_a_request_waits_again_when_the_cancellation_that_granted_it_is_undone(
    manager: User, store: Store, reason: CancellationReason, work: Work, books: Books
) -> None:
    customer = factories.UserFactory()
    order = factories.place_order([("10.00", 2)], store=store, customer=customer)
    request = asked_and_granted(order, customer, manager, reason)
    assert fresh(order).undo_until is not None
    with pytest.raises(Refused):
        by(manager).decide_request(request_id=request.pk, approve=False, note="No")
    by(manager).undo_cancellation(number=order.number or "")
    request.refresh_from_db()
    assert (request.status, request.decided_at) == ("open", None)
    by(manager).decide_request(request_id=request.pk, approve=False, note="Packed already")
    work()
    assert books() == []


def test_a_request_is_completed_with_the_cancellation_that_granted_it(
    manager: User, store: Store, reason: CancellationReason, work: Work, books: Books
) -> None:
    customer = factories.UserFactory()
    order = factories.place_order([("10.00", 2)], store=store, customer=customer)
    request = asked_and_granted(order, customer, manager, reason)
    request.refresh_from_db()
    assert request.status == "approved"
    by(manager).complete_now(number=order.number or "")
    request.refresh_from_db()
    assert request.status == "completed"
    work()
    assert books() == []


def test_a_plan_of_another_release_is_refused_with_words() -> None:
    token = signing.dumps({"choice": {}, "plan": {"number": "1"}}, salt=f"{signed.SALT}:x", compress=True)
    with pytest.raises(signed.PlanForged):
        signed.read_plan(token, purpose="x")


class Overtaken(EventHandler):
    """The same call comes a second time, and is quicker."""

    def cancel(self, **kwargs: Any) -> Any:
        if "agreed" not in kwargs and not Cancellation.objects.exists():
            EventHandler(actor=self.actor).submit_cancellation(justification="Broken", **kwargs)
        return super().cancel(**kwargs)


def test_the_same_wish_twice_at_once_asks_for_approval_once(packer: User, store: Store, settings: Any) -> None:
    order = factories.place_order(store=store, until="approved")
    ApprovalPolicy.objects.create(name="all", level=ApprovalLevel.objects.get(level=1))
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Overtaken"
    wish = {"number": order.number or "", "reason": "out_of_stock", "cause": "a", "justification": "Broken"}
    row = by(packer).submit_cancellation(**wish)
    assert (row, row.status) == (Cancellation.objects.get(), "waiting_approval")
    assert Approval.objects.count() == 1
