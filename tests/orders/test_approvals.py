"""Approval: asked for, decided by whoever may, what exactly is agreed to, and where nobody answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from notifications.models import Message
from orders.models import Absence, Approval, Cancellation, Order, Status
from orders.processing import EventHandler, get_event_handler
from orders.processing.approving import DUE
from orders.processing.cancelling import Contact
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories
from tests.orders.asking import REASON, ask, by, fresh, needed, policy
from tests.orders.storefront import facts_of

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
AtOnce = Callable[..., list[Any]]
pytestmark = pytest.mark.django_db


@pytest.fixture
def order(store: Store) -> Order:
    return factories.place_order([("10.00", 2)], store=store, until="paid")


# ---------------------------------------------------------------------------------------------------------------------
# Asked, decided


def test_asking_changes_nothing_and_approving_does_exactly_what_was_shown(
    packer: User, manager: User, order: Order, work: Work, books: Books
) -> None:
    line = order.lines.get()
    plan = by(packer).plan_cancellation(number=order.number or "", lines={line.pk: 1}, reason=REASON)
    approval = ask(packer, order, lines={line.pk: 1}, note="Handle broken off")
    assert (fresh(order).status, order.lines.get().cancelled) == (Status.PREPARING, 0)
    work()
    row = by(manager).approve_cancellation(approval=str(approval.uuid), note="Seen it")
    work()
    assert (row.status, row.requested_by, row.note) == (Cancellation.Status.DONE, packer, "Handle broken off")
    assert (order.lines.get().cancelled, fresh(order).facts.refunded) == (1, plan.refund)
    entry = order.journal.filter(verb="cancel").latest("sequence")
    assert (entry.user_id, entry.reason) == (manager.pk, REASON)
    assert entry.details["approval"]["requested_by"] == packer.get_full_name()
    assert entry.details["plan"] == plan.effects
    answer = Message.objects.get(event="approval_decided")
    assert (answer.recipient, answer.status) == (packer.email, "sent")
    assert books() == []


def test_what_has_changed_meanwhile_is_said_and_nothing_happens(
    packer: User, manager: User, order: Order, system: EventHandler, work: Work, books: Books
) -> None:
    approval = ask(packer, order)
    system.ship(number=order.number or "", lines={order.lines.get().pk: 1})
    before = facts_of(order)
    with pytest.raises(Refused) as no:
        by(manager).approve_cancellation(approval=str(approval.uuid))
    assert no.value.code == "plan_changed"
    told = str(no.value.as_dict()["remedy"])
    assert "Refunded would be €10.00, not €20.00." in told
    assert "Other units would be concerned: 1, not 2." in told
    assert facts_of(order) == before
    by(manager).reject_cancellation(approval=str(approval.uuid), note="One has left")
    assert needed(packer, order) == 1
    work()
    assert books() == []


def test_a_change_that_changes_nothing_of_it_does_not_stand_in_the_way(
    packer: User, manager: User, order: Order, system: EventHandler
) -> None:
    approval = ask(packer, order)
    system.write_note(number=order.number or "", message="Called the customer")
    with pytest.raises(Refused) as no:
        by(manager).approve_cancellation(approval=str(approval.uuid), version=order.version)
    assert no.value.code == "order_changed"
    by(manager).approve_cancellation(approval=str(approval.uuid))
    assert fresh(order).status == Status.CANCELLED


def test_rejected_nothing_happens_and_why_is_told(packer: User, manager: User, order: Order, work: Work) -> None:
    approval = ask(packer, order)
    with pytest.raises(Refused) as no:
        by(manager).reject_cancellation(approval=str(approval.uuid), note=" ")
    assert no.value.code == "note_needed"
    row = by(manager).reject_cancellation(approval=str(approval.uuid), note="Repair it")
    work()
    assert (row.status, fresh(order).status) == (Cancellation.Status.REJECTED, Status.PREPARING)
    assert "Repair it" in Message.objects.get(event="approval_decided").text
    for verb in (by(manager).approve_cancellation, by(manager).reject_cancellation):
        with pytest.raises(Refused) as no:
            verb(approval=str(approval.uuid), note="again")
        assert no.value.code == "approval_decided"
    assert ask(packer, order).is_open, "it may be asked for again"


def test_withdrawn_by_the_one_who_asked_only(packer: User, manager: User, order: Order) -> None:
    approval = ask(packer, order)
    with pytest.raises(Refused):
        by(manager).withdraw_cancellation(approval=str(approval.uuid))
    assert by(packer).withdraw_cancellation(approval=str(approval.uuid)).status == Cancellation.Status.WITHDRAWN
    with pytest.raises(Refused) as no:
        by(manager).approve_cancellation(approval=str(approval.uuid))
    assert no.value.code == "approval_decided"
    assert fresh(order).status == Status.PREPARING


def test_one_waits_at_a_time_and_it_needs_a_justification(packer: User, order: Order) -> None:
    with pytest.raises(Refused) as no:
        by(packer).submit_cancellation(number=order.number or "", reason=REASON, justification="  ")
    assert no.value.code == "approval_needed"
    ask(packer, order)
    with pytest.raises(Refused) as no:
        ask(packer, order)
    assert no.value.code == "already_waiting"
    assert Approval.objects.count() == 1


def test_nobody_approves_their_own_whatever_their_rights(
    packer: User, manager: User, order: Order, staff: Staff
) -> None:
    approval = ask(packer, order)
    packer.groups.set(Group.objects.filter(name__in=["Admin"]))
    User.objects.filter(pk=packer.pk).update(is_superuser=True)
    mighty = User.objects.get(pk=packer.pk)
    for verb in (by(mighty).approve_cancellation, by(mighty).reject_cancellation):
        with pytest.raises(Refused) as no:
            verb(approval=str(approval.uuid), note="mine")
        assert no.value.code == "own_approval"
    rows = Approval.objects.filter(pk=approval.pk)
    with pytest.raises(IntegrityError, match="approval_not_by_the_one_who_asked"), transaction.atomic():
        rows.update(status="approved", decided_by=packer, decided_at=timezone.now())
    with pytest.raises(IntegrityError, match="approval_decided_by_somebody"), transaction.atomic():
        rows.update(status="approved")
    assert (fresh(order).status, rows.get().status) == (Status.PREPARING, "open")


def test_who_may_not_decide_changes_nothing(
    packer: User, order: Order, staff: Staff, store: Store, manager: User
) -> None:
    approval = ask(packer, order)
    lost = staff("Store Manager", store)
    lost.groups.clear()
    moved = staff("Store Manager", store)
    store.staff.remove(moved)
    before = facts_of(order)
    for user in (staff("Fulfilment", store), staff("Customer Service"), lost, moved):
        with pytest.raises(Refused):
            by(User.objects.get(pk=user.pk)).approve_cancellation(approval=str(approval.uuid))
    with pytest.raises(Refused):
        get_event_handler(Actor.system()).approve_cancellation(approval=str(approval.uuid))
    with pytest.raises(Refused):
        get_event_handler(Actor.customer(factories.UserFactory())).approve_cancellation(approval=str(approval.uuid))
    assert (facts_of(order), Approval.objects.get().status) == (before, "open")


def test_mails_to_approvers_hold_no_customer_data(packer: User, manager: User, store: Store, work: Work) -> None:
    order = factories.place_order([("10.00", 2)], store=store, until="paid", email="secret.person@example.org")
    Order.objects.filter(pk=order.pk).update(customer_name="Secret Person", phone="+49 30 5550100")
    by(packer).submit_cancellation(
        number=order.number or "",
        reason="changed_mind",
        justification="On the phone",
        contact=Contact(name="Secret Person", channel="phone", details="+49 30 5550100"),
    )
    work()
    mails = Message.objects.filter(event="approval_needed")
    assert [mail.recipient for mail in mails] == [manager.email]
    told = f"{mails[0].context} {mails[0].subject} {mails[0].text} {mails[0].html}"
    assert str(order.number) in told
    assert "On the phone" in told
    for secret in ("Secret", "secret.person", "5550100", "Sonnenallee"):
        assert secret not in told


# ---------------------------------------------------------------------------------------------------------------------
# Nobody answers


def mails(event: str) -> list[str]:
    return sorted(Message.objects.filter(event=event).values_list("recipient", flat=True))


def test_reminded_then_escalated_then_in_the_inbox_until_it_is_decided(
    packer: User, manager: User, staff: Staff, order: Order, clock: Any, work: Work, books: Books
) -> None:
    boss = staff("Admin")
    approval = ask(packer, order)
    work()
    assert (mails("approval_needed"), mails("approval_reminder")) == ([manager.email], [])
    clock.shift(timedelta(minutes=59))
    work()
    assert mails("approval_reminder") == []
    clock.shift(timedelta(minutes=1))
    work()
    assert mails("approval_reminder") == [manager.email]
    clock.shift(timedelta(minutes=180))
    work()
    approval.refresh_from_db()
    assert (approval.level, approval.escalations, mails("approval_escalated")) == (2, 1, [boss.email])
    with pytest.raises(Refused):
        by(manager).approve_cancellation(approval=str(approval.uuid))
    clock.shift(timedelta(minutes=60))
    work()
    assert mails("approval_reminder") == sorted([manager.email, boss.email])
    assert not Job.objects.filter(state=Job.State.NEEDS_ATTENTION).exists()
    clock.shift(timedelta(minutes=180))
    work()
    job = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    assert (job.kind, job.reference) == (DUE, order.number)
    assert job.due_at == timezone.now() + timedelta(hours=4)
    assert "nobody has decided" in job.last_error
    assert jobs.handler_of(job.kind).what_to_do
    by(boss).approve_cancellation(approval=str(approval.uuid))
    work()
    job.refresh_from_db()
    assert (job.state, fresh(order).status) == (Job.State.DONE, Status.CANCELLED)
    assert books() == []


def test_a_worker_that_comes_very_late_escalates_at_once(
    packer: User, manager: User, staff: Staff, order: Order, clock: Any, work: Work
) -> None:
    boss = staff("Admin")
    ask(packer, order)
    clock.shift(timedelta(minutes=241))
    work()
    assert (mails("approval_reminder"), mails("approval_escalated")) == ([], [boss.email])


def test_nobody_there_at_all_waits_in_the_inbox_at_once(packer: User, order: Order, clock: Any, work: Work) -> None:
    approval = ask(packer, order)
    work()
    job = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    assert "Nobody who may approve" in job.last_error
    assert (Approval.objects.get(pk=approval.pk).is_open, fresh(order).status) == (True, Status.PREPARING)


def test_nobody_at_the_first_level_goes_straight_to_the_next(
    packer: User, staff: Staff, order: Order, work: Work
) -> None:
    boss = staff("Admin")
    assert ask(packer, order).level == 2
    work()
    assert mails("approval_needed") == [boss.email]


def test_decided_it_is_not_reminded_of(packer: User, manager: User, order: Order, clock: Any, work: Work) -> None:
    approval = ask(packer, order)
    by(manager).reject_cancellation(approval=str(approval.uuid), note="No")
    clock.shift(timedelta(days=1))
    work()
    assert (mails("approval_reminder"), mails("approval_escalated")) == ([], [])


def test_what_others_have_done_meanwhile_needs_nobodys_decision_any_more(
    packer: User, manager: User, order: Order, clock: Any, work: Work, books: Books
) -> None:
    approval = ask(packer, order)
    by(manager).cancel(number=order.number or "", reason=REASON)
    clock.shift(timedelta(minutes=60))
    work()
    approval.refresh_from_db()
    row = Cancellation.objects.get(pk=approval.cancellation_id)
    assert (approval.status, row.status) == (Approval.Status.WITHDRAWN, Cancellation.Status.OUTDATED)
    assert "already cancelled" in row.outcome
    clock.shift(timedelta(days=2))
    work()
    assert mails("approval_reminder") == []
    assert not Job.objects.exclude(state=Job.State.DONE).exists()
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Away


def away(user: User, delegate: User | None = None) -> Absence:
    now = timezone.now()
    row: Absence = Absence.objects.create(
        user=user, delegate=delegate, starts_at=now - timedelta(hours=1), ends_at=now + timedelta(days=2)
    )
    return row


def test_who_stands_in_is_asked_and_decides_in_the_name_of_the_other(
    packer: User, manager: User, staff: Staff, store: Store, order: Order, work: Work, books: Books
) -> None:
    """Also somebody who could not have asked for it: the reason was for the one who did."""
    deputy = staff("Customer Service")
    away(manager, deputy)
    approval = ask(packer, order)
    work()
    assert mails("approval_needed") == [deputy.email]
    by(deputy).approve_cancellation(approval=str(approval.uuid), note="For her")
    approval.refresh_from_db()
    assert (approval.decided_by, approval.instead_of, approval.status) == (deputy, manager, "approved")
    assert fresh(order).status == Status.CANCELLED
    work()
    assert books() == []


def test_away_without_a_deputy_the_others_are_asked(
    packer: User, manager: User, staff: Staff, store: Store, order: Order, work: Work
) -> None:
    colleague = staff("Store Manager", store)
    away(manager)
    ask(packer, order)
    work()
    assert mails("approval_needed") == [colleague.email]


def test_a_deputy_who_could_not_decide_is_nobody(
    packer: User, manager: User, staff: Staff, store: Store, order: Order, work: Work
) -> None:
    """Away as well, of another store, no staff any more, or the one who asked: it goes up instead of waiting."""
    boss = staff("Admin")
    second = staff("Store Manager", store)
    outside, former = staff("Fulfilment", factories.StoreFactory()), factories.UserFactory(is_staff=False)
    absence = away(manager, second)
    away(second, packer)
    for deputy in (second, outside, former, packer):
        Absence.objects.filter(pk=absence.pk).update(delegate=deputy)
        approval = ask(packer, order)
        assert approval.level == 2, deputy
        by(packer).withdraw_cancellation(approval=str(approval.uuid))
    work()
    assert set(mails("approval_needed")) == {boss.email}


def test_a_deputy_does_not_decide_what_the_other_or_they_themselves_asked_for(
    packer: User, manager: User, staff: Staff, store: Store, order: Order
) -> None:
    deputy, absent = staff("Fulfilment", store), staff("Store Manager", store)
    away(absent, deputy)
    own = ask(deputy, order)
    with pytest.raises(Refused) as no:
        by(deputy).approve_cancellation(approval=str(own.uuid))
    assert no.value.code == "own_approval"
    by(deputy).withdraw_cancellation(approval=str(own.uuid))
    policy(1)
    theirs = ask(absent, order)
    with pytest.raises(Refused) as no:
        by(deputy).approve_cancellation(approval=str(theirs.uuid))
    assert no.value.code == "not_an_approver"
    Absence.objects.update(ends_at=timezone.now() - timedelta(minutes=1))
    with pytest.raises(Refused):
        by(deputy).approve_cancellation(approval=str(theirs.uuid))
    assert fresh(order).status == Status.PREPARING


# ---------------------------------------------------------------------------------------------------------------------
# Two at once


@pytest.mark.django_db(transaction=True)
@pytest.mark.race
def test_of_two_approvers_at_the_same_moment_one_decides(at_once: AtOnce, staff: Staff, books: Books) -> None:
    store = factories.StoreFactory()
    order = factories.place_order([("10.00", 2)], store=store, until="paid")
    approval = ask(staff("Fulfilment", store), order)
    managers = [staff("Store Manager", store) for _n in range(3)]
    calls = [lambda user=user: by(user).approve_cancellation(approval=str(approval.uuid)) for user in managers[:2]]
    refusing = lambda: by(managers[2]).reject_cancellation(approval=str(approval.uuid), note="No")  # noqa: E731
    results = at_once(*calls, refusing)
    assert sum(isinstance(one, Cancellation) for one in results) == 1
    assert all(isinstance(one, Cancellation | Refused) for one in results), results
    jobs.drain(seconds=60)
    approval.refresh_from_db()
    done = approval.status == "approved"
    assert (fresh(order).status, fresh(order).facts.refunded) == (
        (Status.CANCELLED, Decimal(20)) if done else (Status.PREPARING, Decimal(0))
    )
    assert Message.objects.filter(event="approval_decided").count() == 1
    assert books() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.race
def test_of_two_who_ask_at_the_same_moment_one_waits(at_once: AtOnce, staff: Staff) -> None:
    store = factories.StoreFactory()
    staff("Store Manager", store)
    order = factories.place_order([("10.00", 2)], store=store, until="paid")
    packers = [staff("Fulfilment", store) for _n in range(3)]
    results = at_once(*[lambda user=user: ask(user, order) for user in packers])
    assert sum(isinstance(one, Approval) for one in results) == 1
    assert {one.code for one in results if isinstance(one, Refused)} == {"already_waiting"}
    assert Approval.objects.count() == 1
