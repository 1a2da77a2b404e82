"""Seed 001, test group by test group: through the admin, the API and the worker. Bulk runs: test_bulk_runs.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from inventory.models import StockMovement
from notifications.models import Message
from orders.models import Approval, Cancellation, Document, DocumentKind, JournalEntry, Order, OrderLine, Status
from orders.processing import EventHandler, get_event_handler
from payments.models import DemoGatewayEntry, DemoGatewayFault, Payment
from shop import jobs
from shop.actors import Actor
from shop.models import Job, Store, User
from tests import factories
from tests.orders.pages import fill, filled_in, text, url
from tests.orders.storefront import Browser, facts_of

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
Cancel = Callable[..., Any]
pytestmark = pytest.mark.django_db

CONTACT = {"name": "Ada Lovelace", "channel": "phone", "details": "+49 30 1234"}


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def by_admin(user: User, order: Order, *, lines: dict[int, int] | None = None, **chosen: Any) -> bool:
    """Dialog, reason, confirmation. Returns whether it was accepted."""
    client = Client()
    client.force_login(user)
    fields: dict[str, Any] = {"reason": chosen["reason"], "note": chosen.get("note", ""), "understood": "on"}
    fields["justification"] = chosen.get("justification", "")
    for name, value in chosen.get("contact", {}).items():
        fields[f"contact_{name}"] = value
    page = client.get(url(order, "cancel"))
    # Of a last unit there is nothing to choose.
    if lines and b'value="some"' in page.content:
        fields |= {"scope": "some", **{f"units_{pk}": str(units) for pk, units in lines.items()}}
    if page.status_code != 200 or b'name="reason"' not in page.content:
        # Without a form, somebody may still send one.
        sent = client.post(url(order, "cancel"), {**fields, "step": "confirm"})
        return bool(sent.status_code == 302 and "/login/" not in sent.headers["Location"])
    answer = fill(client, order, "cancel", **fields)
    if lines and answer.status_code == 200:
        # The changed choice is shown before it can be confirmed.
        answer = client.post(url(order, "cancel"), {**filled_in(answer), "step": "confirm"})
    return bool(answer.status_code == 302)


def by_api(user: User, order: Order, *, lines: dict[int, int] | None = None, **chosen: Any) -> bool:
    """The plan first, then exactly that plan."""
    browser = Browser()
    browser.client.force_login(user)
    wish: dict[str, Any] = {"reason": chosen["reason"]}
    if lines:
        wish["lines"] = [{"line": pk, "quantity": units} for pk, units in lines.items()]
    shown = browser.post(f"/orders/{order.number}/cancel/plan/", wish)
    if shown.status_code != 200:
        return False
    rest = {name: chosen[name] for name in ("note", "contact", "justification") if name in chosen}
    answer = browser.post(f"/api/v1/orders/{order.number}/cancel/", {"plan": shown.json()["token"], **rest})
    return answer.status_code in {200, 202}


@pytest.fixture(params=[by_admin, by_api], ids=["admin", "api"])
def cancel(request: pytest.FixtureRequest) -> Cancel:
    """cancel(user, order, reason=…, …): through each door that staff have."""
    door: Cancel = request.param
    return door


def stock(order: Order) -> list[tuple[int, int]]:
    return [(r.on_hand, r.allocated) for r in (factories.record_of(line.product) for line in order.lines.all())]


def attention() -> Job:
    """The one thing in the inbox, which says what to do and until when."""
    job = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    handler = jobs.handler_of(job.kind)
    assert str(handler.what_happened)
    assert str(handler.what_to_do)
    assert job.due_at is not None
    assert job.due_at > timezone.now()
    return job


# ---------------------------------------------------------------------------------------------------------------------
# 1. Standard cancellation


def test_standard_the_order_ends_with_its_stock_its_reason_its_message_and_its_journal(
    cancel: Cancel, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3), ("5.00", 1)], store=store, until="approved")
    assert stock(order) == [(100, 3), (100, 1)]
    assert cancel(manager, order, reason="out_of_stock", note="The shelf was empty")
    assert fresh(order).status == Status.CANCELLED, "at once"
    assert stock(order) == [(100, 3), (100, 1)], "by a worker"
    assert not mail.outbox
    work()
    assert stock(order) == [(100, 0), (100, 0)]
    released = StockMovement.objects.filter(kind="released", reference=order.number)
    assert sorted(released.values_list("allocated_delta", flat=True)) == [-3, -1]
    row = Cancellation.objects.get(order=order)
    assert row.reason is not None
    assert (row.status, row.reason.code, row.note) == ("done", "out_of_stock", "The shelf was empty")
    assert (row.requested_by, row.stage, row.units, row.ends_order) == (manager, Status.APPROVED, 4, True)
    payment = Payment.objects.get(reference=order.number)
    assert (payment.voided, payment.captured) == (order.total, 0)
    message = Message.objects.get(reference=order.number, event="order_cancelled")
    assert (message.status, message.recipient) == ("sent", order.email)
    assert order.number in mail.outbox[-1].subject + mail.outbox[-1].body
    assert "Out of stock" not in mail.outbox[-1].body, "why is the shop's own business"
    assert books() == []


def test_standard_the_journal_has_who_when_why_what_was_shown_and_what_was_done(
    cancel: Cancel, manager: User, store: Store, work: Work
) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    began = timezone.now()
    plan = get_event_handler(Actor.staff(manager)).plan_cancellation(number=order.number or "", reason="out_of_stock")
    assert cancel(manager, order, reason="out_of_stock", note="Broken")
    entry = JournalEntry.objects.get(order=order, verb="cancel")
    assert (entry.actor_kind, entry.actor_name, entry.user_id) == ("staff", manager.get_full_name(), manager.pk)
    assert began <= entry.at <= timezone.now()
    assert (entry.reason, entry.note) == ("out_of_stock", "Broken")
    assert entry.details["plan"] == plan.effects, "what was shown"
    kinds = {event["type"] for event in entry.details["events"]}
    assert kinds == {"cancelled", "refunded"}, "what was done"
    line = str(order.lines.get().pk)
    assert (entry.before["status"], entry.after["status"]) == (Status.PREPARING, Status.CANCELLED)
    assert (entry.before["lines"][line]["cancelled"], entry.after["lines"][line]["cancelled"]) == (0, 3)
    assert Cancellation.objects.get(order=order).plan["refund"] == str(plan.refund)
    for deed in ("delete", "update"):
        with pytest.raises(Exception, match=r"(?i)append|never|journal|change"):
            entry.delete() if deed == "delete" else entry.save()


def test_standard_a_cancelled_order_cannot_be_cancelled_again(
    cancel: Cancel, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    assert cancel(manager, order, reason="out_of_stock")
    before = facts_of(order)
    assert not cancel(manager, order, reason="out_of_stock")
    assert facts_of(order) == before
    work()
    assert Payment.objects.get(reference=order.number).refunded == 30
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# 2. Refund


def test_refund_the_money_goes_back_once_with_its_credit_note_and_a_message(
    cancel: Cancel, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], store=store, discount="0.01", shipping="4.90", until="paid")
    assert cancel(manager, order, reason="out_of_stock")
    assert Payment.objects.get(reference=order.number).refunded == 0, "by a worker"
    work()
    payment = Payment.objects.get(reference=order.number)
    assert payment.refunded == payment.captured == order.total == Decimal("34.89")
    moved = DemoGatewayEntry.objects.filter(operation="refund", status="succeeded")
    assert [entry.amount for entry in moved] == [order.total]
    note = Document.objects.get(order=order, kind=DocumentKind.CREDIT_NOTE)
    assert (note.total, note.currency) == (order.total, "EUR")
    told = set(Message.objects.filter(reference=order.number, status="sent").values_list("event", flat=True))
    assert {"order_cancelled", "order_refunded"} <= told
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# 4. Approval and rejection


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize("door", ["admin", "api"])
def test_approval_it_waits_for_the_one_who_is_told_and_their_answer_is_what_happens(
    door: str, agrees: bool, cancel: Cancel, staff: Staff, manager: User, store: Store, work: Work, books: Books
) -> None:
    packer = staff("Fulfilment", store)
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    before = facts_of(order)
    assert not cancel(packer, order, reason="out_of_stock"), "why is for the approver to know"
    assert facts_of(order) == before
    assert cancel(packer, order, reason="out_of_stock", justification="Dropped it")
    work()
    assert (fresh(order).status, order.lines.get().cancelled) == (Status.PREPARING, 0)
    told = Message.objects.get(event="approval_needed")
    assert (told.recipient, told.status) == (manager.email, "sent")
    approval = Approval.objects.get(cancellation__order=order)
    decide(door, packer, approval, agrees=True)
    assert Approval.objects.get().status == "open", "not by the one who asked"
    decide(door, manager, approval, agrees=agrees)
    work()
    approval.refresh_from_db()
    assert (approval.status, approval.decided_by) == ("approved" if agrees else "rejected", manager)
    assert fresh(order).status == (Status.CANCELLED if agrees else Status.PREPARING)
    assert fresh(order).facts.refunded == (30 if agrees else 0)
    assert stock(order) == [(100, 0) if agrees else (100, 3)]
    answer = Message.objects.get(event="approval_decided")
    assert (answer.recipient, answer.status) == (packer.email, "sent")
    assert Message.objects.filter(event="order_cancelled").exists() == agrees
    verbs = list(order.journal.order_by("sequence").values_list("verb", flat=True))
    assert verbs.index("ask_approval") < verbs.index("cancel" if agrees else "reject_cancellation")
    assert books() == []


def decide(door: str, user: User, approval: Approval, *, agrees: bool) -> None:
    name = "approve" if agrees else "reject"
    if door == "api":
        browser = Browser()
        browser.client.force_login(user)
        browser.post(f"/api/v1/approvals/{approval.uuid}/{name}/", {"note": "Looked at it"})
        return
    client = Client()
    client.force_login(user)
    assert approval.cancellation is not None
    version = Order.objects.values_list("version", flat=True).get(pk=approval.cancellation.order_id)
    client.post(f"/admin/orders/approval/{approval.pk}/do/{name}/", {"note": "Looked at it", "version": str(version)})


# ---------------------------------------------------------------------------------------------------------------------
# 5. Partial


def test_partial_only_the_chosen_units_go_and_the_totals_follow(
    cancel: Cancel, manager: User, store: Store, system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3), ("5.00", 2)], store=store, until="paid")
    first, second = order.lines.all()
    assert cancel(manager, order, lines={first.pk: 2}, reason="quality_issues", note="Two are chipped")
    work()
    order = fresh(order)
    assert order.status == Status.PREPARING, "the rest goes on"
    assert [(x.cancelled, x.open) for x in order.lines.all()] == [(2, 1), (0, 2)]
    assert (order.facts.refunded, order.facts.captured - order.facts.refunded) == (20, 20)
    assert (stock(order)[0][1], stock(order)[1]) == (1, (100, 2))
    assert Message.objects.filter(reference=order.number, event="order_partly_cancelled", status="sent").count() == 1
    assert Document.objects.get(order=order, kind=DocumentKind.CREDIT_NOTE).total == 20
    system.ship(number=order.number or "", lines={second.pk: 2})
    assert cancel(manager, order, lines={first.pk: 1}, reason="quality_issues", note="The last, too")
    work()
    assert (fresh(order).status, fresh(order).facts.refunded) == (Status.SHIPPED, 30)
    assert books() == []


def test_partial_when_none_remains_the_order_is_cancelled(
    cancel: Cancel, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("3.33", 3)], store=store, shipping="0.01", until="paid")
    line = order.lines.get()
    for left in (2, 1, 0):
        assert cancel(manager, order, lines={line.pk: 1}, reason="out_of_stock")
        assert fresh(order).status == (Status.PREPARING if left else Status.CANCELLED)
    work()
    assert Payment.objects.get(reference=order.number).refunded == order.total
    assert stock(order) == [(100, 0)]
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# 6. Security by role; the whole matrix is in docs/


@pytest.mark.parametrize(
    ("role", "where", "stage", "reason", "allowed"),
    [
        ("Admin", "elsewhere", "paid", "out_of_stock", True),
        ("Store Manager", "here", "paid", "out_of_stock", True),
        ("Store Manager", "elsewhere", "approved", "out_of_stock", False),
        ("Fulfilment", "here", "approved", "out_of_stock", True),
        ("Fulfilment", "here", "paid", "out_of_stock", False),
        ("Fulfilment", "elsewhere", "approved", "out_of_stock", False),
        ("Customer Service", "elsewhere", "approved", "changed_mind", True),
        ("Customer Service", "elsewhere", "approved", "out_of_stock", False),
        ("Customer Service", "elsewhere", "paid", "changed_mind", False),
        (None, "here", "approved", "out_of_stock", False),
    ],
)
def test_security_each_role_cancels_what_it_may_and_otherwise_nothing_happens(
    role: str | None,
    where: str,
    stage: str,
    reason: str,
    allowed: bool,
    cancel: Cancel,
    staff: Staff,
    store: Store,
    work: Work,
    books: Books,
) -> None:
    order = factories.place_order([("10.00", 2)], store=store, until=stage)
    before, promised = facts_of(order), Job.objects.count()
    user = staff(role, store if where == "here" else factories.StoreFactory())
    assert cancel(user, order, reason=reason, contact=CONTACT) == allowed
    if allowed:
        assert fresh(order).status == Status.CANCELLED
    else:
        assert (facts_of(order), Job.objects.count(), Cancellation.objects.count()) == (before, promised, 0)
    work()
    assert books() == []


def test_security_neither_customers_nor_strangers_come_in_by_the_doors_of_staff(store: Store) -> None:
    customer = factories.UserFactory()
    order = factories.place_order([("10.00", 2)], store=store, customer=customer, until="approved")
    before = facts_of(order)
    assert not by_admin(customer, order, reason="out_of_stock")
    for user in (customer, None):
        browser = Browser()
        if user:
            browser.client.force_login(user)
        for path, body in (
            (f"/api/v1/orders/{order.number}/cancel/", {"reason": "out_of_stock"}),
            (f"/api/v1/orders/{order.number}/undo/", {}),
            (f"/api/v1/orders/{order.number}/reinstate/", {}),
        ):
            assert browser.post(path, body).status_code in {401, 403}, path
    assert facts_of(order) == before


# ---------------------------------------------------------------------------------------------------------------------
# A4. Requested by the customer


def test_requested_by_the_customer_who_and_how_is_kept_and_confirmed_to_them(
    cancel: Cancel, staff: Staff, store: Store, work: Work, books: Books
) -> None:
    clerk = staff("Customer Service")
    order = factories.place_order([("10.00", 2)], store=store, until="approved")
    before = facts_of(order)
    assert not cancel(clerk, order, reason="changed_mind"), "the reason wants to know"
    assert facts_of(order) == before
    assert cancel(clerk, order, reason="changed_mind", contact=CONTACT)
    work()
    row = Cancellation.objects.get(order=order)
    assert (row.contact_name, row.contact_channel, row.contact_details) == ("Ada Lovelace", "phone", "+49 30 1234")
    assert row.contact_at is not None
    confirmed = Message.objects.get(reference=order.number, event="cancellation_confirmed")
    assert (confirmed.recipient, confirmed.status) == (order.email, "sent")
    assert "+49 30 1234" not in confirmed.text, "their own number is not theirs to be mailed"
    assert not Message.objects.filter(reference=order.number, event="order_cancelled").exists()
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Error states: the cancellation is complete, what failed is in the inbox


def works_for_days() -> None:
    for hours in range(0, 48, 2):
        jobs.drain(seconds=60, clock=lambda hours=hours: timezone.now() + timedelta(hours=hours))


def test_a_refund_that_fails_is_for_a_person_and_everything_else_is_done(
    cancel: Cancel, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    DemoGatewayFault.objects.create(operation="refund", behaviour="decline", remaining=1)
    assert cancel(manager, order, reason="out_of_stock")
    work()
    assert (fresh(order).status, stock(order)) == (Status.CANCELLED, [(100, 0)])
    assert Message.objects.get(reference=order.number, event="order_cancelled").status == "sent"
    assert not Document.objects.filter(order=order, kind=DocumentKind.CREDIT_NOTE).exists(), "no money, no document"
    job = attention()
    assert (job.kind, job.reference) == ("payments.send", order.number)
    client = Client()
    client.force_login(manager)
    assert order.number in text(client.get("/admin/shop/job/"))
    jobs.retry_by_hand(job.pk)
    work()
    assert Payment.objects.get(reference=order.number).refunded == 30
    assert Document.objects.filter(order=order, kind=DocumentKind.CREDIT_NOTE).count() == 1
    assert not Job.objects.exclude(state=Job.State.DONE).exists()
    assert books() == []


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "unavailable", "answer_twice", "pending"])
def test_a_gateway_that_falters_gives_back_once(fault: str, manager: User, store: Store, books: Books) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    DemoGatewayFault.objects.create(operation="refund", behaviour=fault, remaining=2)
    assert by_api(manager, order, reason="out_of_stock")
    works_for_days()
    refunds = DemoGatewayEntry.objects.filter(operation="refund")
    assert [entry.amount for entry in refunds] == [Decimal(30)]
    assert Payment.objects.get(reference=order.number).refunded == 30
    assert Document.objects.filter(order=order, kind=DocumentKind.CREDIT_NOTE).count() == 1
    assert not Job.objects.exclude(state=Job.State.DONE).exists()
    assert books() == []


def test_a_message_that_cannot_be_sent_is_for_a_person_and_everything_else_is_done(
    settings: Any, cancel: Cancel, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="approved")
    work()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 1, 1  # nobody listens there
    assert cancel(manager, order, reason="out_of_stock")
    works_for_days()
    assert (fresh(order).status, stock(order)) == (Status.CANCELLED, [(100, 0)])
    assert Payment.objects.get(reference=order.number).voided == 30
    job = attention()
    assert (job.kind, job.reference) == ("notifications.send", order.number)
    jobs.finish_by_hand(job.pk, user_id=manager.pk, actor_name="Ada", note="called them")
    assert not Job.objects.exclude(state=Job.State.DONE).exists()
    assert books() == []


def test_goods_whose_stock_record_is_gone_are_for_a_person_and_everything_else_is_done(
    cancel: Cancel, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3), ("5.00", 1)], store=store, until="paid")
    gone = order.lines.first()
    record = factories.record_of(gone.product)
    OrderLine.objects.filter(pk=gone.pk).update(stock_record=None)
    type(record).objects.filter(pk=record.pk).update(allocated=0)
    StockMovement.objects.filter(stock_record=record, kind="allocated").delete()
    assert cancel(manager, order, reason="out_of_stock")
    work()
    assert (fresh(order).status, fresh(order).facts.refunded) == (Status.CANCELLED, 35)
    assert Message.objects.get(reference=order.number, event="order_cancelled").status == "sent"
    job = attention()
    assert (job.kind, job.reference) == ("orders.return_stock", order.number)
    assert gone.name in job.last_error
    jobs.finish_by_hand(job.pk, user_id=manager.pk, actor_name="Ada", note="counted")
    assert [line.allocated for line in order.lines.all()] == [0, 0]
    assert stock(order)[1] == (100, 0)
    assert not Job.objects.exclude(state=Job.State.DONE).exists()
    assert books() == []


def test_somebody_who_was_faster_is_named_and_nothing_happens(manager: User, staff: Staff, store: Store) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    colleague = staff("Store Manager", store)
    browser = Browser()
    browser.client.force_login(manager)
    token = browser.post(f"/orders/{order.number}/cancel/plan/", {"reason": "out_of_stock"}).json()["token"]
    line = order.lines.get()
    get_event_handler(Actor.staff(colleague)).ship(number=order.number or "", lines={line.pk: 1})
    before = facts_of(order)
    answer = browser.post(f"/api/v1/orders/{order.number}/cancel/", {"plan": token})
    assert answer.status_code == 409
    assert colleague.get_full_name() in answer.content.decode()
    assert "shipped goods" in answer.content.decode()
    assert facts_of(order) == before
