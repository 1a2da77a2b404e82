"""Hard cases of cancelling: what was done twice, never, or without words before it was mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.core import signing
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import trans_real

from notifications.models import Message
from orders import tasks
from orders.models import (
    Approval,
    ApprovalLevel,
    ApprovalPolicy,
    Cancellation,
    CancellationReason,
    CancellationRequest,
    CancelRule,
    Order,
    Status,
)
from orders.processing import EventHandler, PaymentChoice, get_event_handler
from orders.processing.requesting import Wish
from orders.rules import signed
from payments.services import credit
from shop import jobs, maintenance
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def by(user: User) -> EventHandler:
    return get_event_handler(Actor.staff(user))


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


@pytest.fixture
def clock(db: None) -> Iterator[Any]:
    with time_machine.travel(timezone.now(), tick=False) as moving:
        yield moving


@pytest.fixture
def manager(staff: Staff, store: Store) -> User:
    return staff("Store Manager", store)


@pytest.fixture
def packer(staff: Staff, store: Store) -> User:
    return staff("Fulfilment", store)


def asked_in_maintenance(order: Order, customer: User, reason: CancellationReason) -> None:
    maintenance.start(actor=Actor.system())
    line = order.lines.get()
    wish = Wish(line.pk, None, CancellationRequest.Type.CANCEL, reason)
    get_event_handler(Actor.customer(customer)).cancel_or_request(number=order.number or "", wishes=[wish])


def test_what_a_customer_asked_for_during_maintenance_is_done_afterwards(
    store: Store, reason: CancellationReason, work: Work, books: Books
) -> None:
    customer = factories.UserFactory()
    order = factories.place_order(store=store, customer=customer)
    asked_in_maintenance(order, customer, reason)
    maintenance.end(actor=Actor.system())
    tasks.work_off_queue()
    work()
    assert not Job.objects.filter(state=Job.State.NEEDS_ATTENTION).values_list("last_error", flat=True)
    assert fresh(order).status == Status.CANCELLED
    assert CancellationRequest.objects.get().status == "completed"
    assert books() == []


def test_maintenance_does_not_use_up_the_time_that_a_customer_has_to_cancel(
    store: Store, reason: CancellationReason, work: Work, books: Books, clock: Any
) -> None:
    customer = factories.UserFactory()
    CancelRule.objects.create(time_limit_minutes=60, direct_statuses=["confirmation_waiting"], asks_when_late=False)
    start = timezone.now()
    order = factories.place_order(store=store, customer=customer)
    asked_in_maintenance(order, customer, reason)
    clock.move_to(start + timedelta(hours=2))
    maintenance.end(actor=Actor.system())
    tasks.work_off_queue()
    work()
    assert not Job.objects.filter(state=Job.State.NEEDS_ATTENTION).values_list("last_error", flat=True)
    assert fresh(order).status == Status.CANCELLED
    assert books() == []


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


def test_nobody_changes_a_series_during_maintenance(staff: Staff, store: Store) -> None:
    order = factories.place_order(store=store, until="approved")
    series = get_event_handler(Actor.system()).start_recurring(number=order.number or "", unit="week")
    admin = staff("Admin")
    maintenance.start(actor=Actor.system())
    for change in (
        lambda: by(admin).pause_recurring(recurring_id=series.pk),
        lambda: by(admin).place_due(recurring_id=series.pk, occurrence=2, early=True),
    ):
        with pytest.raises(maintenance.UnderMaintenance):
            change()
    series.refresh_from_db()
    assert (series.status, series.orders.count()) == ("active", 1)


def test_a_store_that_has_closed_takes_no_order_of_a_series(store: Store, work: Work, clock: Any) -> None:
    order = factories.place_order(store=store, until="approved")
    series = get_event_handler(Actor.system()).start_recurring(number=order.number or "", unit="day")
    Store.objects.filter(pk=store.pk).update(is_active=False)
    clock.shift(timedelta(days=1, minutes=1))
    tasks.recurring_due()
    work()
    assert series.orders.count() == 1
    assert "closed" in Job.objects.get(state=Job.State.NEEDS_ATTENTION).last_error


class Talkative(EventHandler):
    """A shop's own handler, whose error names the customer."""

    def execute_cancellation(self, d: Any, plan: Any, **kwargs: Any) -> Any:
        raise ValueError(f"cannot cancel for {d.order.email}")


def test_what_goes_wrong_in_bulk_names_no_customer_in_the_log(
    staff: Staff, store: Store, work: Work, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Talkative"
    order = factories.place_order(store=store, email="ada@example.com")
    run = by(staff("Admin")).start_bulk_run(orders=[(order.pk, fresh(order).version)], reason="out_of_stock")
    work()
    assert run.items.get().state == "failed"
    assert "execute_cancellation" in caplog.text
    assert "ada@example.com" not in caplog.text


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


def test_an_unpaid_order_that_cannot_be_cancelled_names_no_customer_in_the_log(
    store: Store, settings: Any, caplog: pytest.LogCaptureFixture, clock: Any
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Talkative"
    factories.place_order(store=store, email="ada@example.com", pay=False)
    clock.shift(timedelta(days=30))
    tasks.cancel_unpaid()
    assert "execute_cancellation" in caplog.text
    assert "ada@example.com" not in caplog.text


class Interrupted(EventHandler):
    """Maintenance begins just when a part of a bulk run does."""

    def cancel_items(self, run: Any, items: Any) -> Any:
        maintenance.start(actor=Actor.system())
        return super().cancel_items(run, items)


def test_a_part_of_a_bulk_run_that_has_begun_is_finished_though_maintenance_begins(
    staff: Staff, store: Store, work: Work, settings: Any
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Interrupted"
    order = factories.place_order(store=store)
    run = by(staff("Admin")).start_bulk_run(orders=[(order.pk, fresh(order).version)], reason="out_of_stock")
    work()
    assert (run.items.get().state, run.items.get().code) == ("done", "")


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
