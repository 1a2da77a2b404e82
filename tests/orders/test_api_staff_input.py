"""The API of staff's programs: bad input, old versions, and the same request twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orders.models import BulkRun
from shop.models import Store, User
from tests import factories
from tests.orders.asking import fresh
from tests.orders.programs import CANCEL, DOORS, STATUS, order_for, program
from tests.orders.test_bad_input import answer_of
from tests.orders.test_matrix import world

Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


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
