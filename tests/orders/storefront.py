"""A customer's browser for the tests of the storefront's doors, and the contract its answers must keep."""

from __future__ import annotations

import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from rest_framework.test import APIClient

from orders.models import Order
from shop.models import User
from tests import factories

PASSWORD = "pa55word of the tests"
HERE = Path(__file__).parent
SHARED = Path(os.environ.get("ORDERDESK_SHARED", HERE.parents[2] / "shared"))

DOCUMENTS: list[dict[str, Any]] = json.loads((HERE / "seed_003.json").read_text())


def documents_of_the_seed() -> list[dict[str, Any]] | None:
    """The OpenAPI documents in the seed itself, where it is at hand."""
    found = sorted((SHARED / "seeds").glob("003*"))
    if not found:
        return None
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", found[0].read_text(), re.S)]


def _all_required(schema: Any) -> Any:
    """The seed requires nothing of an answer; we promise every property that it names."""
    if isinstance(schema, list):
        return [_all_required(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _all_required(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict):
        inner["required"] = sorted(schema["properties"])
    return inner


def _components() -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for document in DOCUMENTS:
        merged.update(document["components"]["schemas"])
    return merged


COMPONENTS = {"schemas": _all_required(_components())}


def assert_is(body: Any, name: str) -> None:
    """The body is this schema of the seed, with nothing missing."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": COMPONENTS}
    wrong = [f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema).iter_errors(body)]
    assert wrong == []


def assert_errors(response: Any, status: int) -> dict[str, list[str]]:
    """An error of this status, every value an array of strings. Returns it."""
    assert response.status_code == status, response.content
    body: dict[str, list[str]] = response.json()
    assert_is(body, "ValidationErrorResponse")
    assert body
    return body


def responses_of(path: str) -> dict[str, Any]:
    """What the seed documents for a path: status → response."""
    operations = [ops for document in DOCUMENTS for where, ops in document["paths"].items() if where == path]
    return next(iter(operations[0].values()))["responses"]


def new_customer(**fields: Any) -> User:
    user: User = factories.UserFactory(**fields)
    user.set_password(PASSWORD)
    user.save()
    return user


class Browser:
    """Keeps cookies and sends the CSRF token, as the storefront's client does. Nobody, until it logs in."""

    def __init__(self, user: User | None = None) -> None:
        self.client = APIClient(enforce_csrf_checks=True)
        if user is not None:
            response = self.login(user.email)
            assert response.status_code == 200, response.content

    def login(self, email: str, password: str = PASSWORD) -> Any:
        return self.client.post("/users/login/", {"email": email, "password": password}, format="json")

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        """The desk's own doors want a key of every request; here each has a new one, unless a test brings its own."""
        if path.startswith("/api/v1/"):
            more["headers"] = {"Idempotency-Key": str(uuid.uuid4()), **more.get("headers", {})}
        token = self.client.get("/csrf_token/").json()["csrf_token"]
        return self.client.post(
            path, body, format="json", headers={"X-CSRFToken": token, **more.pop("headers", {})}, **more
        )

    def cancel(self, order: Order, *items: dict[str, Any], **more: Any) -> Any:
        return self.post(
            f"/orders/{order.number}/cancel/", {"cancel_order_items": list(items), "return_policy": True}, **more
        )


def facts_of(order: Order) -> Any:
    """Everything that a refused request must leave as it was."""
    fresh = Order.objects.get(pk=order.pk)
    return (
        fresh.status,
        fresh.version,
        fresh.shipping_address_id,
        [[getattr(line, name) for name in (*line.COUNTERS, "status")] for line in fresh.lines.order_by("pk")],
        list(fresh.cancellation_requests.values_list("pk", "status")),
    )
