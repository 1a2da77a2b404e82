"""An approval that was asked for under milder policies: the higher of its level and today's has to agree."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group

from notifications.models import Message
from orders.models import Approval, ApprovalLevel, ApprovalPolicy, BulkRun, JournalEntry, Order, RefundRequest, Status
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store, User
from tests import factories

Staff = Callable[..., User]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def by(user: User) -> EventHandler:
    return get_event_handler(Actor.staff(user))


def policy(level: int, **fields: Any) -> ApprovalPolicy:
    row: ApprovalPolicy = ApprovalPolicy.objects.create(
        name=f"policy {ApprovalPolicy.objects.count()}", level=ApprovalLevel.objects.get(level=level), **fields
    )
    return row


@pytest.fixture
def admin(staff: Staff) -> User:
    return staff("Admin")


def asked(packer: User, store: Store, **more: Any) -> tuple[Order, Approval]:
    order = factories.place_order([("10.00", 2)], store=store, until="preparing", **more)
    row = by(packer).submit_cancellation(number=order.number or "", reason="out_of_stock", justification="Broken")
    return order, row.approval


def test_stricter_by_now_the_approver_is_told_why_and_the_next_level_is_asked(
    packer: User, manager: User, admin: User, store: Store, work: Callable[[], int], books: Books
) -> None:
    order, approval = asked(packer, store)
    assert approval.level == 1
    rule = policy(2, min_value=Decimal(20), currency="EUR")
    with pytest.raises(Refused) as no:
        by(manager).approve_cancellation(approval=str(approval.uuid), note="fine")
    assert no.value.code == "approval_stricter_by_now"
    assert rule.name in str(no.value)
    approval.refresh_from_db()
    assert (approval.status, approval.level, rule.name in approval.policies) == ("open", 2, True)
    assert Order.objects.get(pk=order.pk).status == Status.PREPARING
    told = JournalEntry.objects.filter(order=order).latest("sequence")
    assert told.details["approval"]["level"] == 2
    work()
    assert admin.email in Message.objects.filter(event="approval_needed").values_list("recipient", flat=True)
    # Now it is simply not theirs to decide; it is the other's.
    with pytest.raises(Refused) as no:
        by(manager).approve_cancellation(approval=str(approval.uuid), note="fine")
    assert no.value.code == "not_an_approver"
    by(admin).approve_cancellation(approval=str(approval.uuid), note="fine")
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
    assert books() == []


def test_who_may_decide_it_at_todays_level_decides_it_at_that(
    packer: User, admin: User, store: Store, books: Books
) -> None:
    _order, approval = asked(packer, store)
    policy(2, min_value=Decimal(20), currency="EUR")
    by(admin).approve_cancellation(approval=str(approval.uuid), note="fine")
    approval.refresh_from_db()
    assert (approval.status, approval.level) == ("approved", 2)
    assert books() == []


def test_milder_by_now_the_level_that_was_asked_counts(packer: User, manager: User, store: Store) -> None:
    rule = policy(2)
    _order, approval = asked(packer, store)
    assert approval.level == 2
    rule.delete()
    with pytest.raises(Refused) as no:
        by(manager).approve_cancellation(approval=str(approval.uuid), note="fine")
    assert no.value.code == "not_an_approver"


def test_rejecting_needs_no_higher_level(packer: User, manager: User, store: Store) -> None:
    _order, approval = asked(packer, store)
    policy(2)
    by(manager).reject_cancellation(approval=str(approval.uuid), note="no")
    approval.refresh_from_db()
    assert approval.status == "rejected"


def test_what_was_cancelled_meanwhile_counts_too(packer: User, manager: User, store: Store) -> None:
    """The policy was there; what the one who asked has done since makes it fit."""
    policy(2, staff_per_day=1)
    _order, approval = asked(packer, store)
    assert approval.level == 1
    other = factories.place_order([("1.00", 1)], store=store, until="approved")
    by(packer).cancel(number=other.number or "", reason="out_of_stock")
    with pytest.raises(Refused) as no:
        by(manager).approve_cancellation(approval=str(approval.uuid), note="fine")
    assert no.value.code == "approval_stricter_by_now"


def test_the_same_of_refunds(manager: User, staff: Staff, admin: User, store: Store, books: Books) -> None:
    colleague = staff("Store Manager", store)
    order = factories.place_order([("10.00", 2)], store=store, until="paid")
    policy(1, what="refund", min_value=Decimal(5), currency="EUR")
    row = by(manager).submit_refund(number=order.number or "", amount=Decimal(6), note="Late")
    assert isinstance(row, RefundRequest)
    policy(2, what="refund", min_value=Decimal(6), currency="EUR")
    with pytest.raises(Refused) as no:
        by(colleague).approve_refund(approval=str(row.approval.uuid))
    assert no.value.code == "approval_stricter_by_now"
    assert Approval.objects.get().level == 2
    by(admin).approve_refund(approval=str(row.approval.uuid))
    assert RefundRequest.objects.get().status == RefundRequest.Status.DONE
    assert books() == []


def test_the_same_of_bulk_runs(manager: User, admin: User, store: Store) -> None:
    orders = [factories.place_order([("10.00", 1)], store=store, until="approved") for _n in range(2)]
    policy(2, min_value=Decimal(20), currency="EUR")
    chosen = [(order.pk, order.version) for order in orders]
    run = by(manager).start_bulk_run(orders=chosen, reason="out_of_stock", justification="Sold out")
    assert run.status == BulkRun.Status.WAITING_APPROVAL
    owners = Group.objects.create(name="Owners")
    ApprovalLevel.objects.create(level=3, name="Owner", group=owners)
    policy(3, min_value=Decimal(20), currency="EUR")
    with pytest.raises(Refused) as no:
        by(admin).approve_bulk(approval=str(run.approval.uuid))
    assert no.value.code == "approval_stricter_by_now"
    assert Approval.objects.get().level == 3
    admin.groups.add(owners)
    by(User.objects.get(pk=admin.pk)).approve_bulk(approval=str(run.approval.uuid))
    run.refresh_from_db()
    assert run.status == BulkRun.Status.RUNNING
