"""Where refunded money goes, what it is for, and who may refund how much: above a limit never one person alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from notifications.models import Message
from orders import rules
from orders.models import (
    Approval,
    ApprovalLevel,
    ApprovalPolicy,
    Cancellation,
    CancelRule,
    JournalEntry,
    Order,
    PaymentEvent,
    RefundRequest,
    Status,
)
from orders.processing import EventHandler, get_event_handler
from orders.processing.money import BadAmount
from orders.processing.policies import Policing
from payments import services as payments
from payments.models import CreditEntry, Payment, Refund
from payments.services import Destination
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories
from tests.orders.pages import fill, filled_in, text, url
from tests.orders.programs import Asker, program

Work = Callable[[], int]
Books = Callable[[], list[str]]
Staff = Callable[..., User]

pytestmark = pytest.mark.django_db

IBAN = "DE89370400440532013000"
POINTS = Destination(gateway="loyalty", consent="Agreed on the telephone")
BANK = Destination(gateway="manual", iban=IBAN, holder="Ada Lovelace")


def by(user: User) -> EventHandler:
    return get_event_handler(Actor.staff(user))


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def limit(store: Store | None = None, level: int = 1, **fields: Any) -> ApprovalPolicy:
    """Above it, refunds without goods need somebody else."""
    row: ApprovalPolicy = ApprovalPolicy.objects.create(
        name=f"limit {ApprovalPolicy.objects.count()}",
        what="refund",
        level=ApprovalLevel.objects.get(level=level),
        store=store,
        **{"currency": "EUR", **fields},
    )
    return row


def told(event: str) -> dict[str, Any]:
    message = Message.objects.filter(event=event).latest("pk")
    return dict(message.context)


def points_of(user: User) -> Decimal:
    return sum(CreditEntry.objects.filter(account__owner=user).values_list("amount", flat=True), Decimal(0))


@pytest.fixture
def customer(db: None) -> User:
    user: User = factories.UserFactory()
    return user


@pytest.fixture
def colleague(staff: Staff, store: Store) -> User:
    return staff("Store Manager", store)


@pytest.fixture
def order(store: Store, customer: User) -> Order:
    return factories.place_order([("10.00", 3)], store=store, customer=customer, shipping="5.00", until="paid")


# ---------------------------------------------------------------------------------------------------------------------
# Where it goes


def test_a_customer_who_asks_for_points_gets_points_is_told_so_and_it_is_on_paper(
    order: Order, customer: User, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], store=order.store, customer=customer, until="")
    by_system = get_event_handler(Actor.system())
    by_system.approve(number=order.number)
    by_system.take_payment(number=order.number)
    work()
    handler = get_event_handler(Actor.customer(customer))
    line = order.lines.get().pk
    as_paid, as_points = (
        handler.plan_cancellation(number=order.number, lines={line: 1}, destination=where) for where in ("", "loyalty")
    )
    assert [part.gateway for part in as_points.refunds] == ["loyalty"]
    assert (as_points.refund, as_points.documents) == (as_paid.refund, ("credit_note", "restoration_note"))
    assert as_paid.digest != as_points.digest
    assert list(rules.differences(as_paid, as_points)) == ["The refund would go somewhere else."]
    with pytest.raises(rules.PlanChanged):
        handler.cancel(number=order.number, lines={line: 1}, destination="loyalty", plan=as_paid)
    handler.cancel(number=order.number, lines={line: 1}, destination="loyalty", plan=as_points)
    work()
    refund, row = Refund.objects.get(), Cancellation.objects.get()
    assert (refund.destination, refund.owner, points_of(customer)) == ("loyalty", customer, Decimal(10))
    assert "asked for it themselves" in refund.consent == row.consent
    assert told("order_partly_cancelled")["refund_destination"] == "1000 points"
    assert told("order_refunded")["refund_destination"] == "1000 points"
    notes = {document.kind: document.content for document in fresh(order).documents.all()}
    assert notes["credit_note"]["total"] == "10.00"
    assert notes["restoration_note"]["restored"] == [{"name": "Loyalty points", "amount": "10.00"}]
    assert Payment.objects.get(reference=order.number).refunded == 10
    assert books() == []
    # The books notice an event that says something else than its refund.
    PaymentEvent.objects.filter(refund=refund).update(destination="")
    assert any("does not say where" in words for words in books())


def test_staff_need_a_consent_guests_have_no_account_and_nothing_happens(
    order: Order, manager: User, books: Books
) -> None:
    handler, version = by(manager), order.version
    guest = factories.place_order([("10.00", 1)], store=order.store, until="paid")
    some = {"reason": "out_of_stock", "destination": "loyalty"}
    with pytest.raises(payments.ConsentMissing):
        handler.cancel(number=order.number, **some)
    with pytest.raises(payments.ConsentMissing):
        handler.refund(number=order.number, amount=Decimal(1), note="Late", destination="store_credit")
    with pytest.raises(payments.NoAccount) as no:
        handler.cancel(number=guest.number, **{**some, "destination": POINTS})
    assert "guest" in str(no.value)
    fresh_one = factories.place_order([("10.00", 1)], store=order.store, email=guest.email)
    with pytest.raises(payments.NoAccount):
        get_event_handler(Actor.guest(guest.email)).plan_cancellation(number=fresh_one.number, destination="loyalty")
    with pytest.raises(payments.DestinationNotOffered):
        handler.refund(number=order.number, amount=Decimal(1), note="Late", destination="demo")
    assert (fresh(order).version, Refund.objects.count(), Cancellation.objects.count()) == (version, 0, 0)
    assert books() == []


def test_what_can_be_undone_keeps_the_destination_and_forgets_the_account_when_it_is_done(
    order: Order, manager: User, work: Work, books: Books
) -> None:
    CancelRule.objects.create(undo_minutes=30)
    handler = by(manager)
    first, second = order, factories.place_order([("10.00", 1)], store=order.store, until="paid")
    for one in (first, second):
        handler.cancel(number=one.number, reason="out_of_stock", destination=BANK)
    assert set(Cancellation.objects.values_list("bank_iban", "bank_holder")) == {(IBAN, "Ada Lovelace")}
    handler.undo_cancellation(number=second.number)
    assert Cancellation.objects.get(order=second).bank_holder == ""
    handler.complete_now(number=first.number)
    row, refund = Cancellation.objects.get(order=first), Refund.objects.get()
    assert (row.status, row.bank_iban, row.bank_holder) == ("done", "DE•• •••• 3000", "")
    assert (refund.bank_iban, refund.bank_holder, refund.amount) == (IBAN, "Ada Lovelace", Decimal(35))
    work()
    job = Job.objects.get(kind="payments.send", state="needs_attention")
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ben", note="Statement 17")
    work()
    assert told("order_refunded")["refund_destination"] == "bank account DE•• •••• 3000"
    journal = str(list(JournalEntry.objects.values_list("details", "note")))
    assert "0532013" not in journal
    assert "Lovelace" not in str(list(JournalEntry.objects.values_list("details", flat=True)))
    with pytest.raises(IntegrityError), transaction.atomic():
        Cancellation.objects.filter(pk=row.pk).update(bank_holder="Ada")
    assert books() == []


def test_goods_that_came_back_are_refunded_as_store_credit(
    order: Order, customer: User, manager: User, work: Work, books: Books
) -> None:
    get_event_handler(Actor.system()).ship(number=order.number)
    line = order.lines.get().pk
    credit = Destination(gateway="store_credit", consent="By mail")
    by(manager).take_back(number=order.number, lines={line: (1, "sellable")}, deduction=Decimal(2), destination=credit)
    work()
    refund = Refund.objects.get()
    assert (refund.amount, refund.status, points_of(customer)) == (Decimal("9.67"), "succeeded", Decimal("9.67"))
    assert told("units_returned")["refund_destination"] == "Store credit"
    assert books() == []


def test_an_approval_of_a_cancellation_keeps_its_destination(
    order: Order, customer: User, manager: User, staff: Staff, work: Work, books: Books
) -> None:
    packer = staff("Fulfilment", order.store)
    row = by(packer).submit_cancellation(
        number=order.number, reason="out_of_stock", justification="Broken", destination=POINTS
    )
    assert (row.status, row.destination) == ("waiting_approval", "loyalty")
    by(manager).approve_cancellation(approval=str(row.approval.uuid))
    work()
    assert (points_of(customer), fresh(order).status) == (Decimal(35), Status.CANCELLED)
    assert books() == []


def test_money_that_comes_in_after_the_cancellation_goes_where_was_agreed(
    order: Order, customer: User, manager: User, work: Work, books: Books
) -> None:
    late = factories.place_order([("10.00", 1)], store=order.store, customer=customer, until="approved")
    by(manager).take_payment(number=late.number)
    event = by(manager).cancel(number=late.number, reason="out_of_stock", destination=POINTS)
    assert not event.payment_events.exists()
    work()
    assert (Refund.objects.get().destination, points_of(customer)) == ("loyalty", Decimal(10))
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# What for


def test_shipping_is_given_back_once_with_units_or_by_itself(order: Order, manager: User, books: Books) -> None:
    handler, number = by(manager), order.number
    line = order.lines.get().pk
    handler.cancel(number=number, lines={line: 1}, reason="out_of_stock")  # with a third of the shipping, 1.67
    for amount, most in (("3.34", "3.33"), ("5.00", "3.33")):
        with pytest.raises(BadAmount) as no:
            handler.refund(number=number, amount=Decimal(amount), note="Late", kind="shipping")
        assert f"only €{most} was paid" in str(no.value)
    event = handler.refund(number=number, amount=Decimal("2.00"), note="Late", kind="shipping")
    assert (event.refund_kind, event.refund.reason) == ("shipping", "Late")
    with pytest.raises(BadAmount) as no:
        handler.refund(number=number, amount=Decimal("1.34"), note="Later", kind="shipping")
    assert "only €1.33" in str(no.value)
    handler.refund(number=number, amount=Decimal("1.34"), note="The fee", kind="fee")
    with pytest.raises(Refused) as unknown:
        handler.refund(number=number, amount=Decimal(1), note="x", kind="bribe")
    assert unknown.value.code == "refund_kind_unknown"
    records = [record for entry in order.journal.all() for record in entry.details.get("events", [])]
    assert [record["kind"] for record in records if "kind" in record] == ["shipping", "fee"]
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Who may, and how much


def test_above_the_limit_somebody_else_decides_exactly_what_was_asked_for(
    order: Order, customer: User, manager: User, colleague: User, work: Work, books: Books
) -> None:
    limit(min_value="10.00")
    handler, number = by(manager), order.number
    assert isinstance(handler.submit_refund(number=number, amount=Decimal("9.99"), note="Late"), PaymentEvent)
    with pytest.raises(rules.ApprovalNeeded):
        handler.refund(number=number, amount=Decimal(10), note="Late")
    with pytest.raises(rules.ApprovalNeeded):
        handler.handle_payment_event(fresh(order), "refunded", Decimal(10))
    asked = handler.submit_refund(
        number=number, amount=Decimal(10), note="Twice late", kind="fee", destination=POINTS, cause="page:1"
    )
    assert isinstance(asked, RefundRequest)
    again = handler.submit_refund(number=number, amount=Decimal(10), note="Twice late", cause="page:1")
    assert again == asked
    with pytest.raises(Refused) as waits:
        handler.submit_refund(number=number, amount=Decimal(12), note="More")
    assert waits.value.code == "refund_waits"
    assert Refund.objects.count() == 1
    approval = asked.approval
    for verb in (handler.approve_refund, handler.reject_refund):
        with pytest.raises(rules.OwnApproval):
            verb(approval=str(approval.uuid), note="Mine")
    with pytest.raises(IntegrityError), transaction.atomic():
        Approval.objects.filter(pk=approval.pk).update(status="approved", decided_by=manager, decided_at=timezone.now())
    letters = Message.objects.filter(event="approval_needed")
    assert [letter.recipient for letter in letters] == [colleague.email]
    assert (letters[0].context["refund"], letters[0].context["is_refund"]) == ("€10.00", True)

    by(colleague).approve_refund(approval=str(approval.uuid), note="Fine")
    work()
    asked.refresh_from_db()
    assert asked.event is not None
    assert (asked.status, asked.event.refund_kind, asked.event.destination) == ("done", "fee", "loyalty")
    assert (points_of(customer), asked.event.user) == (Decimal(10), colleague)
    entry = order.journal.filter(verb="refund").latest("sequence")
    assert entry.details["approval"]["requested_by"] == manager.get_full_name()
    with pytest.raises(rules.ApprovalDecided):
        by(colleague).approve_refund(approval=str(approval.uuid))
    assert handler.submit_refund(number=number, amount=Decimal(10), note="Twice late", cause="page:1") == asked.event
    assert Refund.objects.count() == 2
    assert books() == []
    RefundRequest.objects.update(amount=11)
    assert any("refund request" in words for words in books())


def test_a_refund_that_waits_is_rejected_withdrawn_overtaken_or_no_longer_what_was_approved(
    order: Order, manager: User, colleague: User, books: Books
) -> None:
    limit(min_value="1")
    handler, number = by(manager), order.number

    def ask(amount: str = "20.00") -> Approval:
        asked = handler.submit_refund(number=number, amount=Decimal(amount), note="Late", destination=BANK)
        assert isinstance(asked, RefundRequest)
        assert asked.bank_iban == IBAN
        return Approval.objects.get(refund_request=asked)

    rejected = ask()
    with pytest.raises(Refused) as no:
        by(colleague).reject_refund(approval=str(rejected.uuid), note=" ")
    assert no.value.code == "note_needed"
    by(colleague).reject_refund(approval=str(rejected.uuid), note="Not late")
    withdrawn = ask()
    with pytest.raises(rules.NotAnApprover):
        by(colleague).withdraw_refund(approval=str(withdrawn.uuid))
    handler.withdraw_refund(approval=str(withdrawn.uuid))
    changed = ask()
    get_event_handler(Actor.system()).refund(number=number, amount=Decimal(20), note="By the system")
    with pytest.raises(BadAmount):
        by(colleague).approve_refund(approval=str(changed.uuid))
    get_event_handler(Actor.system()).refund(number=number, amount=Decimal(15), note="By the system")
    get_event_handler(Actor.system()).approval_due(approval=str(changed.uuid))
    rows = RefundRequest.objects.order_by("pk").values_list("status", "bank_iban", "bank_holder")
    assert [status for status, _iban, _holder in rows] == ["rejected", "withdrawn", "outdated"]
    assert {(iban, holder) for _status, iban, holder in rows} == {("DE•• •••• 3000", "")}
    assert books() == []


def test_a_limit_is_about_its_role_store_currency_and_what_was_done_today(
    order: Order, manager: User, colleague: User, staff: Staff, store: Store, books: Books
) -> None:
    boss, number = staff("Admin"), order.number

    def needs(user: User, amount: str) -> int:
        approval = by(user).assess_refund(fresh(order).facts, Decimal(amount))
        return approval.level if approval else 0

    elsewhere, in_yen = limit(factories.StoreFactory(), min_value="1"), limit(min_value="1", currency="JPY")
    about_cancelling = limit(min_value="1")
    ApprovalPolicy.objects.filter(pk=about_cancelling.pk).update(what="cancellation")
    assert needs(manager, "30") == 0
    elsewhere.delete()
    in_yen.delete()
    about_cancelling.delete()
    limit(store, staff_value_per_day="10.00")
    limit(store, level=2, staff_per_day=3)
    assert [needs(manager, amount) for amount in ("9.99", "10.00")] == [0, 1]
    # A higher level needs nobody; at the highest, there are two as well.
    assert [needs(boss, "10.00"), needs(colleague, "10.00")] == [0, 1]
    for _time in range(2):
        by(manager).refund(number=number, amount=Decimal("2.00"), note="Late")
    assert [needs(manager, "5.99"), needs(manager, "6.00"), needs(colleague, "6.00")] == [0, 1, 0]
    # What somebody has agreed to, and what failed, is not counted.
    asked = by(manager).submit_refund(number=number, amount=Decimal(9), note="Late")
    assert isinstance(asked, RefundRequest)
    by(colleague).approve_refund(approval=str(asked.approval.uuid))
    assert [needs(manager, "5.99"), needs(colleague, "9.99")] == [0, 0]
    by(manager).refund(number=number, amount=Decimal("2.00"), note="Late")
    assert needs(manager, "0.01") == 2
    for _time in range(3):
        by(boss).refund(number=number, amount=Decimal(1), note="Late")
    assert needs(boss, "1.00") == 2
    with pytest.raises(IntegrityError), transaction.atomic():
        limit(customer_per_month=1)
    assert books() == []


@pytest.mark.parametrize("door", ["session", "token"])
def test_programs_and_pages_ask_and_decide_as_people_do(
    door: str, order: Order, manager: User, colleague: User, customer: User, work: Work, books: Books
) -> None:
    limit(min_value="10.00")
    own, other = (Asker(user) if door == "session" else program(user) for user in (manager, colleague))
    path = f"/api/v1/orders/{order.number}/refund"
    body = {"amount": "12.00", "note": "Late", "kind": "shipping"}
    assert own.send("POST", path, body).json()["error_code"] == ["amount_too_large"]
    body = {"amount": "12.00", "note": "Late", "kind": "goodwill", "destination": {"gateway": "loyalty"}}
    assert set(own.send("POST", path, body).json()) == {"consent", "error_code"}
    body["destination"]["consent"] = "By mail"  # type: ignore[index]
    first, again = (own.send("POST", path, body, key="once") for _time in range(2))
    assert (first.status_code, again.status_code, first.json()) == (202, 202, again.json())
    assert first.json() | {"id": ""} == {
        "id": "",
        "order": order.number,
        "status": "waiting_approval",
        "amount": "12.00",
        "currency": "EUR",
        "kind": "goodwill",
        "destination": "loyalty",
        "note": "Late",
    }
    (shown,) = other.get("/api/v1/approvals/").json()["results"]
    assert (shown["order"], shown["refund"]) == (order.number, first.json())
    decide = f"/api/v1/approvals/{shown['id']}/"
    assert own.send("POST", f"{decide}approve/", {}).json()["error_code"] == ["own_approval"]
    assert not Refund.objects.exists()
    done = other.send("POST", f"{decide}approve/", {})
    assert (done.status_code, done.json()["status"]) == (200, "done")
    small = own.send("POST", path, {"amount": "1.00", "note": "Late", "kind": "fee"})
    assert (small.status_code, small.json()["kind"], small.json()["destination"]) == (200, "fee", None)
    work()
    assert points_of(customer) == 12
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# The desk's pages


def test_the_dialogs_ask_for_what_a_destination_needs_and_show_where_it_goes(
    order: Order, manager: User, customer: User, client: Client, work: Work, books: Books
) -> None:
    client.force_login(manager)
    guest = factories.place_order([("10.00", 1)], store=order.store, until="paid")
    assert 'value="loyalty"' not in client.get(url(guest, "cancel")).content.decode()
    page = fill(client, order, "cancel", reason="out_of_stock", destination="loyalty")
    assert "→ 3500 points" in text(page)
    assert "3500 points" in page.context["form"].plan_view.readings[0].text
    again = client.post(url(order, "cancel"), {**filled_in(page), "step": "confirm"})
    assert "needs the customer's consent" in text(again).replace("&#x27;", "'")
    without_tick = {**filled_in(again), "step": "confirm", "consent": "On the telephone"}
    assert "consent" in client.post(url(order, "cancel"), without_tick).context["form"].errors
    answer = client.post(url(order, "cancel"), {**without_tick, "agreed": "on", "understood": "on"})
    assert answer.status_code == 302
    work()
    assert points_of(customer) == 35

    page = fill(client, guest, "refund", amount="2.00", note="Late", kind="goodwill", destination="manual")
    assert "→ bank account" in text(page)
    wrong = client.post(url(guest, "refund"), {**filled_in(page), "step": "confirm", "iban": "DE00", "holder": "Ada"})
    assert "iban" in wrong.context["form"].errors
    right = {**filled_in(wrong), "step": "confirm", "iban": IBAN, "holder": "Ada"}
    assert client.post(url(guest, "refund"), right).status_code == 302
    refund = Refund.objects.get(reference=guest.number)
    assert (refund.bank_iban, refund.amount) == (IBAN, Decimal(2))
    page = client.get(reverse("admin:payments_refund_change", args=(refund.pk,)))
    assert re.search(r"DE89 3704 0044 0532 0130 00", text(page))
    assert books() == []


def test_the_refund_page_asks_for_approval_and_the_approvals_page_shows_all_of_it(
    order: Order, manager: User, colleague: User, client: Client, books: Books
) -> None:
    limit(min_value="10.00")
    client.force_login(manager)
    page = fill(client, order, "refund", amount="12.00", note="Two weeks late", kind="goodwill")
    assert "has to agree" in text(page)
    answer = client.post(url(order, "refund"), {**filled_in(page), "step": "confirm"}, follow=True)
    assert "it waits for approval" in text(answer)
    approval = Approval.objects.get()
    client.force_login(colleague)
    queue = text(client.get(reverse("admin:orders_approval_changelist")))
    assert f"Refund of order {order.number}" in queue
    assert "€12.00" in queue
    shown = text(client.get(reverse("admin:orders_approval_change", args=(approval.pk,))))
    for words in (
        "Two weeks late",
        "€12.00",
        "back as it was paid",
        "It is still so",
        ApprovalPolicy.objects.get(what="refund").name,
    ):
        assert words in shown
    address = reverse("admin:orders_approval_do", args=(approval.pk, "approve"))
    done = client.post(address, {**filled_in(client.get(address)), "note": "Fine"}, follow=True)
    assert "being refunded" in text(done)
    assert Refund.objects.get().amount == 12
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Many hands


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("locked", [True, False])
def test_two_refunds_at_the_limit_are_counted_in_turn(
    locked: bool,
    on_postgres: bool,
    at_once: Callable[..., list[Any]],
    staff: Staff,
    books: Books,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not on_postgres:
        pytest.skip("SQLite's IMMEDIATE transactions are the lock; they cannot be taken away")
    store = factories.StoreFactory()
    user = staff("Store Manager", store)
    limit(staff_value_per_day="10.00")
    orders = [factories.place_order([("10.00", 1)], store=store, until="paid") for _time in range(2)]
    both = Barrier(2)
    counted = Policing._refunded_today

    def meet(self: Any) -> Any:
        """Both have counted before either has written: only where nothing keeps them apart."""
        found = counted(self)
        with suppress(BrokenBarrierError):
            both.wait(timeout=1)
        return found

    monkeypatch.setattr(Policing, "_refunded_today", meet)
    if not locked:  # the control
        monkeypatch.setattr(Policing, "_lock_person", lambda self: None)
    results = at_once(*[lambda o=o: by(user).refund(number=o.number, amount=Decimal(6), note="Late") for o in orders])
    refused = [result for result in results if isinstance(result, rules.ApprovalNeeded)]
    assert (len(refused), Refund.objects.count()) == ((1, 1) if locked else (0, 2))
    assert books() == []


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_two_who_approve_at_once_refund_once(
    at_once: Callable[..., list[Any]], staff: Staff, work: Work, books: Books
) -> None:
    customer, store = factories.UserFactory(), factories.StoreFactory()
    asker, *others = (staff("Store Manager", store) for _time in range(3))
    limit(min_value="1.00")
    order = factories.place_order([("10.00", 1)], store=store, customer=customer, until="paid")
    asked = by(asker).submit_refund(number=order.number, amount=Decimal(6), note="Late", destination=POINTS)
    assert isinstance(asked, RefundRequest)
    uuid = str(asked.approval.uuid)
    results = at_once(*[lambda user=user: by(user).approve_refund(approval=uuid) for user in others])
    assert sorted(type(result).__name__ for result in results) == ["ApprovalDecided", "RefundRequest"]
    work()
    assert (Refund.objects.count(), points_of(customer)) == (1, Decimal(6))
    assert books() == []
