"""Approval of a bulk run: asked for as a whole, and what was approved is what runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.models import Message
from orders.models import Approval, ApprovalPolicy, BulkRun, Cancellation, Order
from orders.processing import EventHandler, get_event_handler
from orders.rules import ApprovalDecided, ApprovalNeeded, NotAnApprover, OwnApproval, PlanChanged
from shop import jobs
from shop.actors import Actor
from shop.errors import Invalid, Refused
from shop.models import Job, Store, User
from tests.orders.bulk_runs import handler, many, start, states, status

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]
Work = Callable[[], int]
Books = Callable[[], list[str]]


def approver(staff: Callable[..., User]) -> User:
    return staff("Admin")


@pytest.mark.usefixtures("many_need_approval")
def test_small_orders_that_are_much_together_need_approval_and_run_after_it(
    staff: Callable[..., User], manager: User, place: Place, store: Store, work: Work, books: Books
) -> None:
    boss, orders = approver(staff), [place(store=store, email=f"c{n}@example.com") for n in range(2)]
    assert start(manager, orders[0]).status == "running"
    work()
    orders = [place(store=store, email=f"d{n}@example.com") for n in range(2)]
    with pytest.raises(ApprovalNeeded) as needed:
        start(manager, *orders)
    assert "Much money" in str(needed.value)
    run = start(manager, *orders, justification="recalled by the maker")
    work()
    assert run.status == "waiting_approval"
    assert {state for state, _code in states(run)} == {"waiting"}
    asked = Approval.objects.get(bulk_run=run)
    mail = Message.objects.get(event="approval_needed", recipient=boss.email)
    assert (mail.context["order_count"], mail.context["number"]) == (2, "")
    assert "€40.00" in mail.context["value"]
    with pytest.raises(OwnApproval):
        handler(manager).approve_bulk(approval=str(asked.uuid))
    with pytest.raises(NotAnApprover):
        handler(staff("Store Manager", store)).approve_bulk(approval=str(asked.uuid))
    handler(boss).approve_bulk(approval=str(asked.uuid), note="go on")
    work()
    assert {state for state, _code in states(run)} == {"done"}
    assert status(run) == "finished"
    assert Message.objects.filter(event="approval_decided", recipient=manager.email).exists()
    with pytest.raises(ApprovalDecided):
        handler(boss).approve_bulk(approval=str(asked.uuid))
    assert books() == []


@pytest.mark.usefixtures("many_need_approval")
@pytest.mark.parametrize("answer", ["rejected", "withdrawn"])
def test_a_run_that_is_rejected_or_taken_back_cancels_nothing(
    answer: str, staff: Callable[..., User], manager: User, place: Place, store: Store, work: Work
) -> None:
    run = start(manager, *many(place, store, 3), justification="please")
    asked = Approval.objects.get()
    if answer == "rejected":
        with pytest.raises(Invalid):
            handler(approver(staff)).reject_bulk(approval=str(asked.uuid), note=" ")
        handler(approver(staff)).reject_bulk(approval=str(asked.uuid), note="they can be sent")
    else:
        handler(manager).withdraw_bulk(approval=str(asked.uuid))
    work()
    assert Approval.objects.get().status == answer
    assert status(run) == "stopped"
    assert {state for state, _code in states(run)} == {"skipped"}
    assert not Cancellation.objects.exists()


@pytest.mark.usefixtures("many_need_approval")
def test_what_was_approved_is_what_runs(
    staff: Callable[..., User], manager: User, place: Place, store: Store, system: EventHandler, work: Work
) -> None:
    orders = many(place, store, 3, until="approved")
    run = start(manager, *orders, justification="please")
    asked, boss = Approval.objects.get(), approver(staff)
    BulkRun.objects.filter(pk=run.pk).update(restock=False)
    with pytest.raises(PlanChanged):
        handler(boss).approve_bulk(approval=str(asked.uuid))
    BulkRun.objects.filter(pk=run.pk).update(restock=True)
    system.start_preparing(number=orders[0].number)
    handler(boss).approve_bulk(approval=str(asked.uuid))
    work()
    assert [code for _state, code in states(run)] == ["order_changed", "", ""]


@pytest.mark.usefixtures("many_need_approval")
def test_nobody_answers_a_run_and_the_inbox_is_told(
    staff: Callable[..., User], manager: User, place: Place, store: Store, work: Work
) -> None:
    approver(staff)
    start(manager, *many(place, store, 3), justification="please")
    asked = Approval.objects.get()
    jobs.drain(seconds=30, clock=lambda: timezone.now() + timedelta(days=1))
    job = Job.objects.filter(kind="orders.approval_due", args__approval=str(asked.uuid)).latest("pk")
    late = get_event_handler(Actor.system(), as_of=timezone.now() + timedelta(days=2))
    with pytest.raises(Refused) as no:
        late.approval_due(approval=job.args["approval"])
    assert "bulk cancellation" in str(no.value)


def test_how_many_one_has_cancelled_today_counts_the_whole_run(
    staff: Callable[..., User], manager: User, place: Place, store: Store
) -> None:
    ApprovalPolicy.objects.filter(name="Unusually many by one person").update(is_active=True, staff_per_day=3)
    assert start(manager, *many(place, store, 3)).status == "running"
    with pytest.raises(ApprovalNeeded):
        start(manager, *many(place, store, 4))
