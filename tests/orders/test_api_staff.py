"""The API of staff's programs: who may open which door, and what each does, for one order or for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from notifications.models import Message
from orders.models import Approval, Cancellation, Status
from orders.processing import EventHandler
from payments.models import Payment, Refund
from shop import maintenance
from shop.actors import Actor
from shop.models import Store, User
from tests import factories
from tests.orders.asking import fresh
from tests.orders.programs import ALL_SCOPES, ASK, CANCEL, DOORS, MANAGER, PACKER, ROLES, Asker, order_for, program
from tests.orders.test_bad_input import answer_of
from tests.orders.test_matrix import world

Work = Callable[[], int]
Books = Callable[[], list[str]]
Staff = Callable[..., User]
pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", DOORS)
def test_who_may_not_is_refused_and_nothing_happens(name: str, staff: Staff, store: Store, work: Work) -> None:
    door = DOORS[name]
    customer: User = factories.UserFactory()
    order = order_for(door, store, work, customer=customer)
    owner = staff(door.roles[0], store)
    others = [scope for scope in ALL_SCOPES if scope != door.scope]
    elsewhere = staff(PACKER if door.roles == (PACKER,) else MANAGER, factories.StoreFactory())
    roleless = staff(None, store)
    expected: list[tuple[Asker, int, str]] = [
        (Asker(), 401, "not_authenticated"),
        (Asker(secret="desk_guessed"), 401, "authentication_failed"),
        (Asker(customer), 403, "permission_denied"),
        (Asker(roleless), 403, "not_allowed"),
        (program(roleless), 403, "not_allowed"),
        (program(owner, *others), 403, "not_allowed"),
        (Asker(elsewhere), 404, "order_not_found"),
        (program(elsewhere), 404, "order_not_found"),
    ]
    colleagues = [Asker(staff(role, store)) for role in ROLES if role not in door.roles]
    before = world(order)
    for asker, status, code in expected:
        told = answer_of(door.knock(asker, order))
        assert (told.status, told.code) == (status, code)
        assert world(order) == before
    for asker in colleagues:
        told = answer_of(door.knock(asker, order))
        assert told.status in {403, 409}
        assert told.code in {"not_allowed", "reason_not_allowed", "nothing_to_do"}
        assert world(order) == before


@pytest.mark.parametrize(("name", "role"), [(name, role) for name, door in DOORS.items() for role in door.roles])
def test_who_may_does_it(name: str, role: str, staff: Staff, store: Store, work: Work) -> None:
    door, asker = DOORS[name], Asker(staff(role, store))
    order = order_for(door, store, work)
    before = world(order)
    answer = door.knock(asker, order)
    assert answer.status_code == door.answer, answer.content
    assert world(order) != before


@pytest.mark.parametrize("name", DOORS)
def test_a_program_does_it_with_that_scope_alone_and_with_a_slash(
    name: str, staff: Staff, store: Store, work: Work, books: Books
) -> None:
    door = DOORS[name]
    asker = program(staff(door.roles[-1], store), door.scope)
    order = order_for(door, store, work)
    before = world(order)
    answer = replace(door, path=f"{door.path}/").knock(asker, order)
    assert answer.status_code == door.answer, answer.content
    assert world(order) != before
    work()
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# What the doors do


def test_an_order_lives_its_life_by_the_status_door(
    manager: User, store: Store, work: Work, books: Books, system: EventHandler
) -> None:
    order = factories.place_order([("10.00", 2)], store=store)
    asker, path = program(manager), f"/api/v1/orders/{order.number}/status"
    for status in ("approved", "preparing"):
        assert asker.send("PUT", path, {"status": status}).json()["status"] == status
    system.take_payment(number=order.number or "")
    work()
    one = {"lines": [{"line": order.lines.get().pk, "quantity": 1}]}
    parcel = {"status": "shipped", "carrier": "DHL", "tracking_number": "1Z"}
    assert asker.send("PUT", path, {**parcel, **one}).json()["status"] == "preparing"
    assert asker.send("PUT", path, parcel).json()["status"] == "shipped"
    assert asker.send("PUT", path, {"status": "delivered"}).json()["status"] == "delivered"
    event = order.shipping_events.filter(event_type__code="shipped").first()
    assert (event.carrier, event.tracking_number) == ("DHL", "1Z")
    work()
    assert books() == []


def test_a_status_that_cannot_be_reached_says_which_can(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    path = f"/api/v1/orders/{order.number}/status"
    reader, person = program(manager, "orders:read"), Asker(manager)
    before = world(order)
    for status, code in (("shipped", "wrong_status"), ("refunded", "invalid_order_status")):
        answer = person.send("PUT", path, {"status": status})
        told = answer_of(answer)
        assert (told.status, told.code) == (409, code)
        assert answer.json()["possible_statuses"] == ["approved", "cancelled"]
    assert "is not a valid status" in told.words
    assert reader.send("PUT", path, {"status": "refunded"}).json()["possible_statuses"] == []
    assert world(order) == before


def test_a_cancellation_does_what_was_planned(manager: User, store: Store, work: Work, books: Books) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="paid")
    asker, line = program(manager, "orders:cancel"), order.lines.get()
    units = [{"line": line.pk, "quantity": 2}]
    plan = asker.send("POST", f"/orders/{order.number}/cancel/plan/", {"reason": "out_of_stock", "lines": units})
    body = {"status": "cancelled", "plan": plan.json()["token"]}
    answer = asker.send("PUT", f"/api/v1/orders/{order.number}/status", body).json()
    assert (answer["status"], answer["cancellation"]["status"], answer["cancellation"]["units"]) == (
        "preparing",
        "done",
        2,
    )
    work()
    assert Payment.objects.get(reference=order.number).refunded == Decimal("20.00")
    assert books() == []


def test_a_refund_is_decided_at_once_and_sent_by_a_worker(
    manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], store=store, until="paid")
    path = f"/api/v1/orders/{order.number}/refund"
    answer = program(manager).send("POST", path, {"amount": "5.00", "note": "Late"})
    told = answer.json()
    refund = Refund.objects.get()
    assert told == {
        "order": order.number,
        "amount": "5.000",
        "currency": "EUR",
        "state": "waiting",
        "refund": refund.pk,
        "kind": "goodwill",
        "destination": None,
    }
    work()
    refund.refresh_from_db()
    assert refund.status == "succeeded"
    too_much = answer_of(program(manager).send("POST", path, {"amount": "15.01", "note": "More"}))
    assert too_much.code == "amount_too_large"
    assert books() == []


def test_units_come_back_by_their_condition_and_are_refunded(
    manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="delivered")
    line = order.lines.get()
    lines = [{"line": line.pk, "quantity": 2, "disposition": "damaged"}]
    body = {"order": order.number, "lines": lines, "deduction": "5.00"}
    answer = program(manager, "inventory:write").send("PUT", "/api/v1/inventory/return", body).json()
    assert (answer["units"], answer["refund"]["amount"], answer["refund"]["state"]) == (2, "15.000", "waiting")
    work()
    record = factories.record_of(line.product)
    assert (record.damaged, record.on_hand) == (2, 97)
    kept = {**body, "lines": [{**lines[0], "quantity": 1}], "refund": False}
    del kept["deduction"]
    assert program(manager).send("PUT", "/api/v1/inventory/return", kept).json()["refund"] is None
    work()
    assert books() == []


def test_the_message_of_the_latest_cancellation_is_sent_again(manager: User, store: Store, work: Work) -> None:
    order = factories.place_order([("10.00", 3)], store=store, until="approved")
    asker, line = program(manager), order.lines.get()
    path, body = "/api/v1/notifications/customer", {"order": order.number, "event": "cancellation"}
    none = answer_of(asker.send("POST", path, body))
    assert (none.status, none.code) == (409, "nothing_to_do")
    cancel = {**CANCEL, "lines": [{"line": line.pk, "quantity": 1}]}
    status = f"/api/v1/orders/{order.number}/status"
    asker.send("PUT", status, cancel)
    waiting = answer_of(asker.send("POST", path, body))
    assert (waiting.status, waiting.code) == (409, "message_waiting")
    work()
    first, second = (asker.send("POST", path, body, key="k-1") for _again in range(2))
    assert (first.status_code, first.json()) == (202, second.json())
    assert first.json()["event"] == "order_partly_cancelled"
    assert Message.objects.filter(reference=order.number, event="order_partly_cancelled").count() == 2
    asker.send("PUT", status, {**cancel, "notify": False})
    silent = answer_of(asker.send("POST", path, body))
    assert (silent.status, silent.code) == (409, "no_message"), "the earlier one is about other units"


def test_what_needs_approval_waits_for_it_and_what_does_not_is_left_alone(
    staff: Staff, manager: User, store: Store
) -> None:
    order = factories.place_order(store=store, until="preparing")
    path = f"/api/v1/orders/{order.number}/approval_request"
    before = world(order)
    own = answer_of(Asker(manager).send("POST", path, ASK))
    assert (own.status, own.code) == (409, "nothing_to_do")
    maintenance.start(actor=Actor.system())
    during = Asker(manager).send("POST", path, ASK)
    assert during.status_code == 503
    maintenance.end(actor=Actor.system())
    assert world(order)[1:] == before[1:], "of the order, nothing"
    assert not Cancellation.objects.exists()
    answer = program(staff(PACKER, store), "orders:cancel").send("POST", path, ASK)
    assert (answer.status_code, answer.json()["cancellation"]["status"]) == (202, "waiting_approval")
    approval = Approval.objects.get()
    decide = f"/api/v1/approvals/{approval.uuid}/approve/"
    assert program(manager, "orders:cancel").send("POST", decide, {}).status_code == 403
    assert program(manager, "approvals:decide", "orders:cancel").send("POST", decide, {}).status_code == 200
    assert fresh(order).status == Status.CANCELLED


# ---------------------------------------------------------------------------------------------------------------
# Many


def test_workers_cancel_many_and_the_run_says_what_became_of_each(
    manager: User, store: Store, work: Work, books: Books
) -> None:
    orders = [factories.place_order(store=store, until=until) for until in ("approved", "approved", "shipped")]
    asker = program(manager, "orders:cancel")
    body = {**CANCEL, "orders": [order.number for order in orders], "note": "Flood"}
    answer = asker.send("POST", "/api/v1/orders/bulk_update", body)
    assert answer.status_code == 202, answer.content
    assert answer.json()["counts"]["waiting"] == 3
    assert fresh(orders[0]).status == "approved"
    work()
    run = asker.get(answer.json()["url"]).json()
    assert (run["id"], run["status"], run["counts"]["done"], run["counts"]["refused"]) == (
        answer.json()["id"],
        "finished",
        2,
        1,
    )
    items = run["items"]["results"]
    assert [item["order"] for item in items] == [order.number for order in orders]
    done = Cancellation.objects.get(order=orders[0])
    assert (items[0]["cancellation"], items[2]["state"]) == (str(done.uuid), "refused")
    assert items[2]["message"]
    page = asker.get(f"{answer.json()['url']}?limit=1&page=2").json()["items"]
    assert ([item["order"] for item in page["results"]], page["count"]) == ([orders[1].number], 3)
    assert books() == []


def test_a_run_is_shown_to_those_who_may_see_it(staff: Staff, manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    body = {**CANCEL, "orders": [order.number]}
    url = Asker(manager).send("POST", "/api/v1/orders/bulk_update", body).json()["url"]
    assert Asker(manager).get(url).status_code == 200
    assert program(staff(PACKER, store), "orders:read").get(url).status_code == 200
    customer: User = factories.UserFactory()
    for asker, expected in (
        (Asker(), 401),
        (Asker(customer), 403),
        (Asker(staff(None, store)), 403),
        (program(manager, "messages:write"), 403),
        (Asker(staff(MANAGER, factories.StoreFactory())), 404),
    ):
        assert asker.get(url).status_code == expected


def test_many_get_a_status_at_once_each_by_itself(manager: User, store: Store) -> None:
    orders = [factories.place_order(store=store, until=until) for until in ("", "approved", "")]
    body = {"orders": [order.number for order in reversed(orders)], "status": "approved"}
    asker, path = program(manager, "orders:write"), "/api/v1/orders/bulk_update"
    first, again = (asker.send("POST", path, body, key="k-1").json() for _again in range(2))
    assert first == again
    assert (first["done"], first["refused"]) == (2, 1)
    assert [(r["order"], r["status"], r["code"]) for r in first["results"]] == [
        (orders[2].number, "approved", None),
        (orders[1].number, "approved", "wrong_status"),
        (orders[0].number, "approved", None),
    ]
    assert [fresh(order).status for order in orders] == ["approved"] * 3


def test_who_may_not_changes_none_of_many(staff: Staff, manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    body = {"orders": [order.number], "status": "approved"}
    askers = (Asker(staff(PACKER, store)), program(manager, "orders:cancel"))
    before = world(order)
    for asker in askers:
        told = asker.send("POST", "/api/v1/orders/bulk_update", body, key="").json()
        assert (told["done"], told["results"][0]["code"]) == (0, "not_allowed")
        assert world(order) == before
