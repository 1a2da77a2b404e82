"""The API of staff's programs (seed 001): tokens and scopes, who may what, keys, bad input, bulk runs by workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient, APIRequestFactory

from notifications.models import Message
from orders.models import Approval, BulkRun, Cancellation, JournalEntry, Order, Status
from orders.processing import EventHandler
from payments.models import Payment, Refund
from shop import maintenance, tokens
from shop.actors import Actor
from shop.api import TokenThrottle
from shop.models import ApiToken, Store, User
from tests import factories
from tests.orders.test_bad_input import answer_of, logged_in
from tests.orders.test_matrix import world

Work = Callable[[], int]
Books = Callable[[], list[str]]
Staff = Callable[..., User]

pytestmark = pytest.mark.django_db

ADMIN, MANAGER, PACKER, SERVICE = ROLES = ("Admin", "Store Manager", "Fulfilment", "Customer Service")
ALL_SCOPES = list(tokens.SCOPES)


class Asker:
    """A person's browser with its session, a program with its token, or nobody."""

    def __init__(self, user: User | None = None, *, secret: str = "") -> None:
        self.client = logged_in(user).client if user else APIClient(enforce_csrf_checks=True)
        self.headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        if user:
            self.headers["X-CSRFToken"] = self.client.get("/csrf_token/").json()["csrf_token"]
        self.keys = 0

    def send(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """key: None makes a new one, "" sends none."""
        self.keys += 1
        key = f"{id(self)}-{self.keys}" if key is None else key
        headers = {**self.headers, **({"Idempotency-Key": key} if key else {})}
        return self.client.generic(
            method, path, json.dumps(body) if body is not None else "", "application/json", headers=headers
        )

    def get(self, path: str) -> Any:
        return self.send("GET", path, key="")


def secret_of(user: User, *scopes: str, name: str = "Robot", **more: Any) -> str:
    return tokens.issue(actor=maker(), name=name, user=user, scopes=scopes or ALL_SCOPES, **more)[1]


def maker() -> Actor:
    return Actor.system()


def program(user: User, *scopes: str, **more: Any) -> Asker:
    return Asker(secret=secret_of(user, *scopes, **more))


@pytest.fixture
def manager(staff: Staff, store: Store) -> User:
    return staff(MANAGER, store)


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


# ---------------------------------------------------------------------------------------------------------------
# Every door, and who may open it


@dataclass(frozen=True)
class Door:
    """One thing asked of one order. roles: who may; `answer`: what they get; `body` may name {line} and {number}."""

    method: str
    path: str
    body: dict[str, Any]
    until: str
    scope: str
    roles: tuple[str, ...]
    answer: int = 200

    def knock(self, asker: Asker, order: Order) -> Any:
        line = order.lines.get().pk
        words = json.dumps(self.body).replace('"{line}"', str(line)).replace("{number}", order.number or "")
        return asker.send(self.method, self.path.format(number=order.number), json.loads(words))


STATUS = "/api/v1/orders/{number}/status"
CANCEL = {"status": "cancelled", "reason": "out_of_stock"}
RETURN = {"order": "{number}", "lines": [{"line": "{line}", "quantity": 1, "disposition": "sellable"}]}
ASK = {"reason": "quality_issues", "restock": False, "justification": "The box fell"}

DOORS = {
    "approve": Door("PUT", STATUS, {"status": "approved"}, "", "orders:write", (ADMIN, MANAGER)),
    "prepare": Door("PUT", STATUS, {"status": "preparing"}, "approved", "orders:write", (ADMIN, MANAGER, PACKER)),
    "ship": Door("PUT", STATUS, {"status": "shipped"}, "paid", "orders:write", (ADMIN, MANAGER, PACKER)),
    "deliver": Door("PUT", STATUS, {"status": "delivered"}, "shipped", "orders:write", (ADMIN, MANAGER, PACKER)),
    "cancel": Door("PUT", STATUS, CANCEL, "approved", "orders:cancel", (ADMIN, MANAGER, PACKER)),
    "bulk": Door(
        "POST",
        "/api/v1/orders/bulk_update",
        {**CANCEL, "orders": ["{number}"]},
        "approved",
        "orders:cancel",
        (ADMIN, MANAGER),
        202,
    ),
    "refund": Door(
        "POST",
        "/api/v1/orders/{number}/refund",
        {"amount": "1.00", "note": "Late"},
        "paid",
        "orders:refund",
        (ADMIN, MANAGER),
    ),
    "return": Door("PUT", "/api/v1/inventory/return", RETURN, "delivered", "inventory:write", (ADMIN, MANAGER, PACKER)),
    "message": Door(
        "POST",
        "/api/v1/notifications/customer",
        {"order": "{number}", "event": "order_placed"},
        "",
        "messages:write",
        (ADMIN, MANAGER, SERVICE),
        202,
    ),
    "approval": Door(
        "POST", "/api/v1/orders/{number}/approval_request", ASK, "preparing", "orders:cancel", (PACKER,), 202
    ),
}


def order_for(door: Door, store: Store, work: Work, **more: Any) -> Order:
    order = factories.place_order([("10.00", 2)], store=store, until=door.until, **more)
    work()
    return order


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
# Tokens


def test_the_journal_names_the_token_and_its_account(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    answer = program(manager, "orders:write", name="Warehouse robot").send(
        "PUT", f"/api/v1/orders/{order.number}/status", {"status": "approved", "note": "by rule"}
    )
    assert answer.json() == {"number": order.number, "status": "approved", "version": fresh(order).version}
    entry = JournalEntry.objects.filter(order=order).order_by("pk").last()
    assert entry.actor_name == f"Warehouse robot ({manager.get_full_name()})"


def test_only_a_hash_of_the_secret_is_stored(manager: User) -> None:
    secret = secret_of(manager, "orders:read")
    row = ApiToken.objects.get()
    stored = " ".join(str(getattr(row, field.attname)) for field in ApiToken._meta.fields)
    assert secret not in stored
    assert secret.startswith(row.prefix)
    assert len(secret) > len(row.prefix) + 30
    assert tokens.find(row.secret_hash) is None


def test_a_token_ends_by_time_by_revocation_and_with_its_account(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    path = f"/orders/{order.number}/actions/"
    asker = program(manager, expires_at=timezone.now() + timedelta(hours=1))
    assert asker.get(path).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        ended = asker.get(path)
        assert ended.status_code == 401
        assert ended.headers["WWW-Authenticate"] == 'Bearer realm="staff", error="invalid_token"'
    User.objects.filter(pk=manager.pk).update(is_staff=False)
    assert asker.get(path).status_code == 401
    User.objects.filter(pk=manager.pk).update(is_staff=True)
    assert asker.get(path).status_code == 200
    tokens.revoke(actor=maker(), token_id=ApiToken.objects.get().pk)
    assert asker.get(path).status_code == 401
    with pytest.raises(tokens.Revoked):
        tokens.revoke(actor=maker(), token_id=ApiToken.objects.get().pk)


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Bearer ", "bearer \xff", "Bearer desk_nope"])
def test_a_malformed_token_is_told_so(header: str) -> None:
    answer = APIClient().get("/api/v1/approvals/", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["error_code"]) == (401, ["authentication_failed"])


def test_its_use_is_noted_once_a_minute(manager: User) -> None:
    asker, now = program(manager), timezone.now()
    with time_machine.travel(now, tick=False):
        asker.get("/api/v1/approvals/")
    first = ApiToken.objects.get().last_used_at
    with time_machine.travel(now + timedelta(seconds=59), tick=False):
        asker.get("/api/v1/approvals/")
    assert ApiToken.objects.get().last_used_at == first
    with time_machine.travel(now + timedelta(seconds=60), tick=False):
        asker.get("/api/v1/approvals/")
    assert ApiToken.objects.get().last_used_at == now + timedelta(seconds=60)


def test_a_token_opens_the_doors_of_staff_only(manager: User, store: Store) -> None:
    """Else its account's own orders could be cancelled with a token that may not cancel."""
    order = factories.place_order(store=store, customer=manager)
    asker = program(manager)
    before = world(order)
    for method, path in (
        ("GET", "/users/orders/"),
        ("GET", "/current_user/"),
        ("POST", f"/orders/{order.number}/cancel/"),
    ):
        assert asker.send(method, path, {} if method == "POST" else None).status_code in {401, 403}, path
    assert world(order) == before


def test_a_session_needs_the_csrf_token_and_a_program_none(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    asker = Asker(manager)
    del asker.headers["X-CSRFToken"]
    path = f"/api/v1/orders/{order.number}/status"
    refused = answer_of(asker.send("PUT", path, {"status": "approved"}))
    assert (refused.status, refused.code) == (403, "permission_denied")
    assert program(manager).send("PUT", path, {"status": "approved"}).status_code == 200


def test_too_many_requests_of_one_token_wait_and_others_do_not(manager: User) -> None:
    asker, other = program(manager), program(manager)
    request = APIRequestFactory().get("/")
    request.auth = ApiToken.objects.order_by("pk").first()  # type: ignore[attr-defined]
    throttle = TokenThrottle()
    for _one in range(throttle.num_requests):
        assert throttle.allow_request(request, None)  # type: ignore[arg-type]
    answer = asker.get("/api/v1/approvals/")
    assert (answer.status_code, answer.json()["error_code"]) == (429, ["throttled"])
    assert 0 <= int(answer.headers["Retry-After"]) <= 60
    assert other.get("/api/v1/approvals/").status_code == 200
    cache.clear()
    assert asker.get("/api/v1/approvals/").status_code == 200


# ---------------------------------------------------------------------------------------------------------------
# Tokens in the admin


def test_an_admin_makes_a_token_sees_its_secret_once_and_revokes_it(staff: Staff, manager: User) -> None:
    chief, client = staff(ADMIN), Client()
    client.force_login(chief)
    form = client.get(reverse("admin:shop_apitoken_issue"))
    once = form.context["form"]["once"].value()
    data = {"once": once, "name": "Robot", "user": manager.pk, "scopes": ["orders:read", "orders:cancel"]}
    made = client.post(reverse("admin:shop_apitoken_issue"), data)
    secret = made.context["secret"]
    assert secret in made.content.decode()
    assert "no-store" in made.headers["Cache-Control"]
    again = client.post(reverse("admin:shop_apitoken_issue"), data)
    token = ApiToken.objects.get()
    assert again.context["secret"] == ""
    assert (token.created_by, token.scopes) == (chief, ["orders:cancel", "orders:read"])
    page = reverse("admin:shop_apitoken_change", args=(token.pk,))
    for address in (page, reverse("admin:shop_apitoken_changelist")):
        shown = client.get(address).content.decode()
        assert token.name in shown
        assert secret not in shown
        assert token.secret_hash not in shown
    assert Asker(secret=secret).get("/api/v1/approvals/").status_code == 403
    client.post(reverse("admin:shop_apitoken_do", args=(token.pk, "revoke")), {})
    token.refresh_from_db()
    assert (token.revoked_at is not None, token.revoked_by) == (True, chief)
    assert Asker(secret=secret).get("/api/v1/approvals/").status_code == 401


def test_nobody_else_makes_one_and_none_for_a_superuser(staff: Staff, manager: User) -> None:
    client = Client()
    client.force_login(manager)
    for name in ("admin:shop_apitoken_issue", "admin:shop_apitoken_changelist"):
        assert client.get(reverse(name)).status_code == 403
    root: User = factories.UserFactory(is_staff=True, is_superuser=True)
    client.force_login(staff(ADMIN))
    data = {"name": "Robot", "user": root.pk, "scopes": ["orders:cancel"]}
    refused = client.post(reverse("admin:shop_apitoken_issue"), data)
    assert "user" in refused.context["form"].errors
    with pytest.raises(tokens.NotForTokens):
        tokens.issue(actor=Actor.staff(staff(ADMIN)), name="Robot", user=root, scopes=["orders:cancel"])
    assert not ApiToken.objects.exists()
    client.force_login(root)
    assert client.post(reverse("admin:shop_apitoken_issue"), data).context["secret"]


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


# ---------------------------------------------------------------------------------------------------------------
# The same again


@pytest.mark.parametrize("name", ["ship", "cancel", "bulk", "refund", "return"])
def test_what_moves_money_or_stock_needs_a_key_and_happens_once(
    name: str, manager: User, store: Store, work: Work, books: Books
) -> None:
    door = DOORS[name]
    order = order_for(door, store, work)
    asker = program(manager)
    before = world(order)

    def knock(key: str, **more: Any) -> Any:
        body = json.dumps({**door.body, **more}).replace('"{line}"', str(order.lines.get().pk))
        path = door.path.format(number=order.number)
        return asker.send(door.method, path, json.loads(body.replace("{number}", order.number or "")), key=key)

    without = answer_of(knock(""))
    assert (without.status, without.code) == (400, "idempotency_key_missing")
    assert "Idempotency-Key" in without.words
    unfit = answer_of(knock("x" * 201))
    assert (unfit.status, unfit.code) == (400, "idempotency_key_invalid")
    assert world(order) == before
    first = knock("k-1")
    assert first.status_code == door.answer, first.content
    after = world(order)
    again = knock("k-1")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = answer_of(knock("k-1", note="Another wish"))
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert world(order) == after
    work()
    assert books() == []


def test_a_key_counts_for_one_token_only(manager: User, store: Store) -> None:
    order = factories.place_order([("10.00", 3)], store=store)
    path, line = f"/api/v1/orders/{order.number}/status", order.lines.get()
    for units in (1, 2):
        body = {**CANCEL, "lines": [{"line": line.pk, "quantity": units}]}
        assert program(manager).send("PUT", path, body, key="k-1").json()["cancellation"]["units"] == units
    line.refresh_from_db()
    assert line.cancelled == 3


# ---------------------------------------------------------------------------------------------------------------
# Bad input

LINES = [{"line": 1, "quantity": 1, "disposition": "sellable"}]
BAD: list[tuple[str, str, Any, str]] = [
    ("PUT", STATUS, {}, "status"),
    ("PUT", STATUS, [], "non_field_errors"),
    ("PUT", STATUS, {"status": "lost"}, "status"),
    ("PUT", STATUS, {"status": None}, "status"),
    ("PUT", STATUS, {"status": "approved", "lines": [{"line": 1, "quantity": 1}]}, "lines"),
    ("PUT", STATUS, {"status": "approved", "reason": "other"}, "reason"),
    ("PUT", STATUS, {"status": "cancelled", "reason": "other", "carrier": "DHL"}, "carrier"),
    ("PUT", STATUS, {"status": "cancelled", "reason": "nonsense"}, "reason"),
    ("PUT", STATUS, {"status": "cancelled", "reason": "out_of_stock", "lines": []}, "lines"),
    ("PUT", STATUS, {"status": "approved", "version": -1}, "version"),
    ("PUT", STATUS, {"status": "shipped", "tracking_url": "javascript:x"}, "tracking_url"),
    ("POST", "/api/v1/orders/bulk_update", {"orders": [], **CANCEL}, "orders"),
    ("POST", "/api/v1/orders/bulk_update", {"orders": "1", **CANCEL}, "orders"),
    ("POST", "/api/v1/orders/bulk_update", {"orders": ["1"] * 1001, **CANCEL}, "orders"),
    ("POST", "/api/v1/orders/bulk_update", {"orders": ["1"], "status": "shipped"}, "status"),
    ("POST", "/api/v1/orders/bulk_update", {"orders": ["1"], "status": "cancelled"}, "reason"),
    ("POST", "/api/v1/orders/bulk_update", {"orders": ["1"], "status": "approved", "refund": False}, "refund"),
    ("POST", "/api/v1/orders/bulk_update", {"orders": ["1"], **CANCEL, "try_first": 0}, "try_first"),
    (
        "POST",
        "/api/v1/orders/bulk_update",
        {"orders": [str(n) for n in range(101)], "status": "approved"},
        "orders",
    ),
    ("POST", "/api/v1/orders/{number}/refund", {"amount": "1.00"}, "note"),
    ("POST", "/api/v1/orders/{number}/refund", {"amount": "0", "note": "x"}, "amount"),
    ("POST", "/api/v1/orders/{number}/refund", {"amount": "-1", "note": "x"}, "amount"),
    ("POST", "/api/v1/orders/{number}/refund", {"amount": "NaN", "note": "x"}, "amount"),
    ("POST", "/api/v1/orders/{number}/refund", {"amount": "0.001", "note": "x"}, "amount"),
    ("POST", "/api/v1/orders/{number}/refund", {"amount": True, "note": "x"}, "amount"),
    ("PUT", "/api/v1/inventory/return", {"order": "{number}"}, "lines"),
    ("PUT", "/api/v1/inventory/return", {"lines": LINES}, "order"),
    ("PUT", "/api/v1/inventory/return", {"order": "{number}", "lines": LINES * 2}, "lines"),
    (
        "PUT",
        "/api/v1/inventory/return",
        {"order": "{number}", "lines": [{**LINES[0], "disposition": "eaten"}]},
        "lines",
    ),
    ("PUT", "/api/v1/inventory/return", {"order": "{number}", "lines": LINES, "deduction": "-1"}, "deduction"),
    ("POST", "/api/v1/notifications/customer", {"order": "{number}"}, "event"),
    ("POST", "/api/v1/notifications/customer", {"order": "{number}", "event": "approval_needed"}, "event"),
    ("POST", "/api/v1/notifications/customer", {"order": "\x00", "event": "order_placed"}, "non_field_errors"),
    ("POST", "/api/v1/orders/{number}/approval_request", {"reason": "other"}, "justification"),
    ("POST", "/api/v1/orders/{number}/approval_request", {"reason": "other", "justification": " "}, "justification"),
]


def test_wrong_input_names_the_field_and_changes_nothing(manager: User, store: Store) -> None:
    order = factories.place_order(store=store, until="paid")
    asker = program(manager)
    before = world(order)
    for method, path, body, field in BAD:
        sent = json.loads(json.dumps(body).replace("{number}", order.number or ""))
        answer = asker.send(method, path.format(number=order.number), sent)
        assert answer.status_code == 400, (path, body, answer.content)
        assert any(name.split(".")[0] == field for name in answer.json()), (path, body, answer.content)
        assert answer.json()["error_code"]
    assert world(order) == before


def test_orders_that_are_not_there_are_named(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    foreign = factories.place_order()
    asker = program(manager)
    before = world(order)
    body = {**CANCEL, "orders": [order.number, foreign.number, "nonsense"]}
    told = answer_of(asker.send("POST", "/api/v1/orders/bulk_update", body))
    assert (told.status, told.code) == (404, "order_not_found")
    assert f"{foreign.number}, nonsense" in told.words
    for number in ("%00", "x" * 65, "0"):
        answer = asker.send("PUT", f"/api/v1/orders/{number}/status", {"status": "approved"})
        assert (answer.status_code, answer.json()["error_code"]) == (404, ["order_not_found"])
    assert asker.get("/api/v1/bulk_runs/00000000-0000-0000-0000-000000000000/").status_code == 404
    assert not BulkRun.objects.exists()
    assert world(order) == before


def test_an_old_version_is_told_what_changed(manager: User, store: Store) -> None:
    order = factories.place_order(store=store, until="approved")
    body = {"status": "preparing", "version": order.version - 1}
    told = answer_of(program(manager).send("PUT", f"/api/v1/orders/{order.number}/status", body))
    assert (told.status, told.code) == (409, "order_changed")
    assert fresh(order).status == "approved"
