"""The doors of the API of staff's programs, and who knocks: a program with its token, a person's browser, or nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rest_framework.test import APIClient

from orders.models import Order
from shop import tokens
from shop.actors import Actor
from shop.models import Store, User
from tests import factories
from tests.orders.test_bad_input import logged_in

Work = Callable[[], int]
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
