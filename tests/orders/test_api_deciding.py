"""The API of programs that act for staff, and of customers who want to know first: what can be done, plans, answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.test import RequestFactory
from django.utils import timezone

from notifications.models import Message
from orders import tasks
from orders.models import Approval, Cancellation, CancellationReason, CancelRule, Order, Status
from orders.processing import EventHandler
from payments.models import Payment
from shop import maintenance
from shop.actors import Actor
from shop.models import Store, User
from shop.staff import ActionsAdmin
from tests import factories
from tests.orders.storefront import Browser
from tests.orders.test_bad_input import answer_of, logged_in, planned
from tests.orders.test_matrix import world

Work = Callable[[], int]
Books = Callable[[], list[str]]

pytestmark = pytest.mark.django_db

ROLES = ["Admin", "Store Manager", "Fulfilment", "Customer Service"]
FOUND_BROKEN = {"reason": "quality_issues", "restock": False}


@pytest.fixture
def customer() -> User:
    user: User = factories.UserFactory()
    return user


def actions(user: User, order: Order) -> dict[str, dict[str, Any]]:
    answer = logged_in(user).get(f"/orders/{order.number}/actions/")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["number"], body["status"]) == (order.number, fresh(order).status)
    assert body["version"] == fresh(order).version
    return {action["action"]: action for action in body["actions"]}


def cancel(user: User, order: Order, *, key: str = "", **body: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return logged_in(user).post(f"/api/v1/orders/{order.number}/cancel/", body, headers=headers)


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


# ---------------------------------------------------------------------------------------------------------------
# What can be done, and why not


@pytest.mark.parametrize(
    "until",
    ["preparing", "delivered", "undoable"]
    + [pytest.param(until, marks=pytest.mark.thorough) for until in ("", "approved", "paid", "shipped", "cancelled")],
)
@pytest.mark.parametrize("role", ROLES)
def test_staff_are_told_what_the_buttons_of_the_order_page_say(
    role: str, until: str, staff: Callable[..., User], store: Store, system: EventHandler
) -> None:
    order = factories.place_order(store=store, until="" if until in {"cancelled", "undoable"} else until)
    if until == "undoable":
        CancelRule.objects.create(undo_minutes=30, direct_statuses=["approved"])
        cancel(staff("Admin"), order, reason="out_of_stock")
    elif until == "cancelled":
        system.cancel(number=order.number)
    user = staff(role, store)
    told = actions(user, order)
    request = RequestFactory().get("/")
    request.user = user
    page = admin.site.get_model_admin(Order)
    assert isinstance(page, ActionsAdmin)
    buttons = page.buttons(request, fresh(order))
    assert buttons
    for button in buttons:
        refusal = told[button.name]["refusal"]
        assert told[button.name]["label"] == str(button.label)
        assert (refusal and refusal["message"]) == (str(button.refusal) if button.refusal else None), button.name
        assert told[button.name]["allowed"] == (button.refusal is None)


def test_an_action_says_up_to_how_many_units_and_whether_somebody_has_to_agree(
    packer: User, manager: User, store: Store
) -> None:
    order = factories.place_order([("10.00", 3), ("5.00", 1)], store=store, until="preparing")
    first, second = order.lines.all()
    cancelling = actions(packer, order)["cancel"]
    assert cancelling["lines"] == [
        {"line": first.pk, "max_quantity": 3},
        {"line": second.pk, "max_quantity": 1},
    ]
    assert cancelling["needs_approval"]
    assert not actions(manager, order)["cancel"]["needs_approval"]


def test_what_is_refused_says_why_and_what_would_unlock_it(manager: User, store: Store, system: EventHandler) -> None:
    order = factories.place_order(store=store, until="preparing")
    shipping = actions(manager, order)["ship"]
    assert (shipping["allowed"], shipping["refusal"]["code"]) == (False, "not_paid")
    assert shipping["refusal"]["remedy"] == "Take payment first."
    assert shipping["lines"] == []
    system.place_hold(number=order.number, kind="fraud")
    assert actions(manager, order)["ship"]["refusal"]["code"] == "order_on_hold"


def test_what_time_decides_says_until_when(manager: User, store: Store, customer: User) -> None:
    CancelRule.objects.create(undo_minutes=30, direct_statuses=["confirmation_waiting"], time_limit_minutes=60)
    order = factories.place_order(store=store, customer=customer)
    asked = actions(customer, order)["cancel"]
    assert asked["until"] == (order.placed_at + timedelta(minutes=60)).isoformat()
    cancel(manager, order, reason="out_of_stock")
    undoing = actions(manager, order)["undo"]
    assert undoing["allowed"]
    assert undoing["until"] == fresh(order).undo_until.isoformat()


@pytest.mark.parametrize(
    ("until", "may", "at_once"),
    [("", "cancel", True), ("preparing", "cancel", False), ("shipped", "return", False)],
)
def test_customers_are_told_what_they_may_ask_for(
    until: str, may: str, at_once: bool, customer: User, store: Store
) -> None:
    order = factories.place_order([("10.00", 2)], store=store, customer=customer, until=until)
    told = actions(customer, order)
    assert set(told) == {"cancel", "return", "change-address"}
    assert told[may]["allowed"]
    assert told[may]["at_once"] == at_once
    assert told[may]["lines"] == [{"line": order.lines.get().pk, "max_quantity": 2}]
    other = "return" if may == "cancel" else "cancel"
    assert not told[other]["allowed"]
    assert told[other]["refusal"]["message"]


def test_nobody_hears_of_other_peoples_orders(store: Store, customer: User, staff: Callable[..., User]) -> None:
    order = factories.place_order(store=store, customer=customer)
    path = f"/orders/{order.number}/actions/"
    assert answer_of(Browser().get(path)).status == 401
    for stranger in (factories.UserFactory(), staff("Store Manager", factories.StoreFactory())):
        answer = answer_of(logged_in(stranger).get(path))
        assert (answer.status, answer.code) == (404, "order_not_found")


# ---------------------------------------------------------------------------------------------------------------
# Plans


def test_a_plan_names_every_effect_and_writes_nothing(manager: User, store: Store, work: Work) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    line = order.lines.get()
    before = world(order)
    body = {"reason": "out_of_stock", "lines": [{"line": line.pk, "quantity": 2}]}
    answer = logged_in(manager).post(f"/orders/{order.number}/cancel/plan/", body)
    assert answer.status_code == 200, answer.content
    plan = answer.json()["plan"]
    assert world(order) == before
    assert (plan["number"], plan["version"], plan["ends_order"]) == (order.number, order.version, False)
    (planned_line,) = plan["lines"]
    assert (planned_line["line_id"], planned_line["units"], planned_line["restock"]) == (line.pk, 2, 2)
    assert planned_line["location"] == line.stock_record.location.name
    assert Decimal(plan["refund"]) == Decimal("20.00")
    (money,) = plan["refunds"]
    assert (Decimal(money["amount"]), money["destination"]) == (Decimal("20.00"), "Card")
    assert plan["documents"] == ["credit_note"]
    assert plan["jobs"] == ["orders.return_stock", "payments.send", "notifications.send"]
    assert (plan["approval"], plan["undo_minutes"]) == (None, 0)
    (message,) = plan["messages"]
    assert message["to"] == order.email
    assert "Part of your order has been cancelled" in message["text"]
    cancel(manager, order, plan=answer.json()["token"])
    work()
    sent = Message.objects.get(reference=order.number, event="order_partly_cancelled")
    assert (sent.subject, sent.text) == (message["subject"], message["text"]), "it reads as it was shown"


def test_what_was_planned_is_what_happens(manager: User, store: Store, work: Work, books: Books) -> None:
    order = factories.place_order([("10.00", 3), ("5.00", 2)], store=store, until="paid")
    first, second = order.lines.all()
    lines = [{"line": first.pk, "quantity": 1}, {"line": second.pk, "quantity": 2}]
    token = planned(manager, order, reason="out_of_stock", lines=lines, notify=False)
    answer = cancel(manager, order, plan=token)
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["status"], body["units"], body["value"], body["currency"]) == ("done", 3, "20.00", "EUR")
    work()
    assert {line.pk: line.cancelled for line in order.lines.all()} == {first.pk: 1, second.pk: 2}
    assert Payment.objects.get(reference=order.number).refunded == Decimal("20.00")
    assert not Message.objects.filter(reference=order.number, event="order_partly_cancelled").exists()
    row = Cancellation.objects.get(uuid=body["id"])
    assert (row.reason.code, row.requested_by) == ("out_of_stock", manager)
    assert books() == []


def test_a_plan_tells_who_has_to_agree_and_why(packer: User, store: Store) -> None:
    order = factories.place_order(store=store, until="preparing")
    answer = logged_in(packer).post(f"/orders/{order.number}/cancel/plan/", FOUND_BROKEN)
    assert answer.json()["plan"]["approval"] == {
        "level": 1,
        "by": "Store management",
        "because": ["fulfilment has started"],
    }


def test_a_customers_plan_is_kept_by_the_contracts_door(customer: User, store: Store, work: Work) -> None:
    order = factories.place_order([("10.00", 2)], store=store, customer=customer)
    line, reason = order.lines.get(), CancellationReason.objects.get(code="changed_mind")
    browser = logged_in(customer)
    token = planned(customer, order, lines=[{"line": line.pk, "quantity": 1}])
    item = {"order_item": line.pk, "cancellation_type": "cancel", "reason": reason.pk}
    other = browser.post(f"/orders/{order.number}/cancel/", {"cancel_order_items": [item], "plan": token})
    assert answer_of(other).code == "plan_changed", "all of it is not what was shown"
    assert fresh(order).status == Status.CONFIRMATION_WAITING
    body = {"cancel_order_items": [{**item, "quantity": 1}], "plan": token}
    assert browser.post(f"/orders/{order.number}/cancel/", body).status_code == 204
    line.refresh_from_db()
    assert line.cancelled == 1


# ---------------------------------------------------------------------------------------------------------------
# Who may


@pytest.mark.parametrize(("role", "status"), [("Admin", 200), ("Store Manager", 200), ("Fulfilment", 200)])
def test_staff_cancel_before_preparation_by_themselves(
    role: str, status: int, staff: Callable[..., User], store: Store
) -> None:
    order = factories.place_order(store=store)
    answer = cancel(staff(role, store), order, reason="out_of_stock")
    assert (answer.status_code, fresh(order).status) == (status, Status.CANCELLED)


def test_customer_service_cancels_what_customers_asked_for(staff: Callable[..., User], store: Store) -> None:
    order, service = factories.place_order(store=store), staff("Customer Service")
    before = world(order)
    refused = answer_of(cancel(service, order, reason="out_of_stock"))
    assert (refused.status, refused.code) == (403, "reason_not_allowed")
    assert world(order) == before
    contact = {"name": "Ada", "channel": "email", "details": "ada@example.com"}
    assert cancel(service, order, reason="changed_mind", contact=contact).status_code == 200
    row = Cancellation.objects.get(order=order)
    assert (row.contact_name, row.contact_channel, row.contact_details) == ("Ada", "email", "ada@example.com")


def test_who_may_not_is_refused_and_nothing_happens(staff: Callable[..., User], store: Store, customer: User) -> None:
    order = factories.place_order(store=store, customer=customer)
    people = (
        (staff(None, store), (403, "not_allowed")),
        (staff("Store Manager", factories.StoreFactory()), (404, "order_not_found")),
        (customer, (403, "permission_denied")),
    )
    before = world(order)
    for user, expected in people:
        told = answer_of(cancel(user, order, reason="out_of_stock"))
        assert (told.status, told.code) == expected
    assert answer_of(Browser().post(f"/api/v1/orders/{order.number}/cancel/", {})).status == 401
    assert world(order) == before


# ---------------------------------------------------------------------------------------------------------------
# Approval


@pytest.fixture
def asked(packer: User, store: Store) -> Approval:
    """Fulfilment asks for a cancellation of what is being prepared."""
    order = factories.place_order([("10.00", 2)], store=store, until="preparing")
    answer = cancel(packer, order, **FOUND_BROKEN, justification="The box fell")
    assert answer.status_code == 202, answer.content
    assert answer.json()["status"] == "waiting_approval"
    assert fresh(order).status == Status.PREPARING
    return Approval.objects.get(cancellation__uuid=answer.json()["id"])


def decide(user: User, approval: Approval, answer: str, **body: Any) -> Any:
    return logged_in(user).post(f"/api/v1/approvals/{approval.uuid}/{answer}/", body)


def test_somebody_else_agrees_and_it_happens_as_asked(asked: Approval, manager: User, work: Work, books: Books) -> None:
    order = asked.cancellation.order
    (waiting,) = logged_in(manager).get("/api/v1/approvals/").json()["results"]
    assert (waiting["id"], waiting["order"], waiting["justification"]) == (
        str(asked.uuid),
        order.number,
        "The box fell",
    )
    answer = decide(manager, asked, "approve", note="Seen it")
    assert (answer.status_code, answer.json()["status"]) == (200, "done")
    assert fresh(order).status == Status.CANCELLED
    work()
    assert factories.record_of(order.lines.get().product).quarantine == 2, "not put back on the shelf, as asked"
    assert logged_in(manager).get("/api/v1/approvals/").json()["results"] == []
    again = answer_of(decide(manager, asked, "approve"))
    assert (again.status, again.code) == (409, "approval_decided")
    assert books() == []


def test_somebody_else_rejects_and_says_why(asked: Approval, manager: User, books: Books) -> None:
    order = asked.cancellation.order
    before = world(order)
    silent = answer_of(decide(manager, asked, "reject"))
    assert (silent.status, silent.code) == (400, "note_needed")
    assert world(order) == before
    answer = decide(manager, asked, "reject", note="Repack it")
    assert (answer.status_code, answer.json()["status"]) == (200, "rejected")
    assert fresh(order).status == Status.PREPARING
    assert books() == []


def test_nobody_decides_what_they_asked_for_themselves_or_is_not_theirs(
    asked: Approval, packer: User, staff: Callable[..., User], store: Store, customer: User
) -> None:
    order = asked.cancellation.order
    people = (
        (packer, (403, "own_approval")),
        (staff("Fulfilment", store), (403, "not_an_approver")),
        (staff("Store Manager", factories.StoreFactory()), (404, "approval_not_found")),
        (customer, (403, "permission_denied")),
    )
    before = world(order)
    for user, expected in people:
        for answer in ("approve", "reject"):
            told = answer_of(decide(user, asked, answer, note="Please"))
            assert (told.status, told.code) == expected
    assert world(order) == before


def test_what_would_be_another_cancellation_by_now_is_not_agreed_to(
    asked: Approval, manager: User, system: EventHandler
) -> None:
    order = asked.cancellation.order
    system.cancel(number=order.number, lines={order.lines.get().pk: 1})
    before = world(order)
    told = answer_of(decide(manager, asked, "approve"))
    assert (told.status, told.code) == (409, "plan_changed")
    assert "Reject it, and let it be asked for again." in told.words
    assert world(order) == before


# ---------------------------------------------------------------------------------------------------------------
# The same again


def test_the_same_key_again_gets_the_same_answer_and_does_nothing(manager: User, store: Store) -> None:
    order = factories.place_order([("10.00", 3)], store=store)
    body = {"reason": "out_of_stock", "lines": [{"line": order.lines.get().pk, "quantity": 1}]}
    first = cancel(manager, order, key="k-1", **body)
    second = cancel(manager, order, key="k-1", **body)
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json() == first.json()
    assert order.lines.get().cancelled == 1
    third = cancel(manager, order, key="k-2", **body)
    assert third.json()["id"] != first.json()["id"]
    assert order.lines.get().cancelled == 2


def test_a_key_that_waits_for_approval_is_asked_for_once(packer: User, manager: User, store: Store) -> None:
    order = factories.place_order(store=store, until="preparing")
    body = {**FOUND_BROKEN, "justification": "The box fell"}
    first, second = (cancel(packer, order, key="k-1", **body) for _again in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    other = answer_of(cancel(packer, order, key="k-2", **body))
    assert (other.status, other.code) == (409, "already_waiting")
    decide(manager, Approval.objects.get(), "approve")
    third = cancel(packer, order, key="k-1", **body)
    assert (third.status_code, third.json()["status"]) == (200, "done")


# ---------------------------------------------------------------------------------------------------------------
# Taken back


def test_a_cancellation_is_undone_while_it_can_be(manager: User, store: Store, work: Work, books: Books) -> None:
    CancelRule.objects.create(undo_minutes=30, direct_statuses=[])
    order = factories.place_order(store=store, until="approved")
    answer = cancel(manager, order, reason="out_of_stock").json()
    assert (answer["status"], answer["undo_until"]) == ("pending", fresh(order).undo_until.isoformat())
    work()
    assert fresh(order).status == Status.CANCELLED
    browser = logged_in(manager)
    assert browser.post(f"/api/v1/orders/{order.number}/undo/", {"note": "Found it"}).status_code == 204
    assert fresh(order).status == Status.APPROVED
    again = answer_of(browser.post(f"/api/v1/orders/{order.number}/undo/", {}))
    assert (again.status, again.code) == (409, "nothing_to_do")
    work()
    assert books() == []


def test_cancelled_units_come_back_into_the_order(manager: User, store: Store, work: Work, books: Books) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="approved")
    line = order.lines.get()
    cancel(manager, order, reason="out_of_stock", lines=[{"line": line.pk, "quantity": 2}])
    work()
    browser, path = logged_in(manager), f"/api/v1/orders/{order.number}/reinstate/"
    before = world(order)
    told = answer_of(browser.post(path, {"lines": [{"line": line.pk, "quantity": 3}]}))
    assert (told.status, told.code) == (409, "invalid_shipping_event")
    assert world(order) == before
    assert browser.post(path, {"lines": [{"line": line.pk, "quantity": 1}]}).status_code == 204
    line.refresh_from_db()
    assert line.cancelled == 1
    assert browser.post(path, {}).status_code == 204
    work()
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# Maintenance


def test_what_is_asked_for_during_maintenance_is_done_afterwards(
    manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order(store=store)
    maintenance.start(actor=Actor.system(), ends_at=timezone.now() + timedelta(minutes=30))
    answer = cancel(manager, order, key="k-1", reason="out_of_stock")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert cancel(manager, order, key="k-1", reason="out_of_stock").json() == answer.json()
    tasks.work_off_queue()
    work()
    assert fresh(order).status == Status.CONFIRMATION_WAITING
    maintenance.end(actor=Actor.system())
    tasks.work_off_queue()
    tasks.work_off_queue()
    work()
    assert fresh(order).status == Status.CANCELLED
    assert Cancellation.objects.get(order=order).status == "done"
    assert cancel(manager, order, key="k-1", reason="out_of_stock").status_code == 200
    assert books() == []


def test_other_verbs_say_when_to_try_again(asked: Approval, manager: User, store: Store) -> None:
    order = asked.cancellation.order
    maintenance.start(actor=Actor.system(), ends_at=timezone.now() + timedelta(minutes=30))
    before = world(order)
    browser = logged_in(manager)
    for answer in (
        browser.post(f"/api/v1/orders/{order.number}/undo/", {}),
        browser.post(f"/api/v1/orders/{order.number}/reinstate/", {}),
        decide(manager, asked, "approve"),
        decide(manager, asked, "reject", note="No"),
    ):
        assert answer_of(answer).code == "maintenance"
        assert answer.status_code == 503
        assert 0 < int(answer.headers["Retry-After"]) <= 1801
    assert world(order) == before


def test_where_money_or_stock_moves_a_key_is_asked_for_and_a_repetition_does_nothing(
    manager: User, store: Store, books: Books
) -> None:
    """The key is the caller's own; without one a repeated request could not be told from a new one."""
    CancelRule.objects.create(undo_minutes=30, direct_statuses=[])
    order = factories.place_order(store=store, until="approved")
    browser, path = logged_in(manager), f"/api/v1/orders/{order.number}"
    for door in ("cancel", "undo", "reinstate"):
        missing = answer_of(browser.post(f"{path}/{door}/", {}, headers={"Idempotency-Key": ""}))
        assert (missing.status, missing.code) == (400, "idempotency_key_missing")
    assert cancel(manager, order, reason="out_of_stock").status_code == 200
    once = {"Idempotency-Key": "u-1"}
    first, again = (browser.post(f"{path}/undo/", {"note": "Found it"}, headers=once) for _try in range(2))
    assert (first.status_code, again.status_code) == (204, 204)
    assert again["Idempotency-Replayed"] == "true"
    assert browser.post(f"{path}/undo/", {"note": "Another"}, headers=once).status_code == 422
    assert books() == []
