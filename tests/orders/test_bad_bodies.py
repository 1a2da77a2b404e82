"""What no storefront sends, at every one of its doors: refused by 4xx in the API's shape, without reading it all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from shop.api import MAX_BODY_BYTES
from tests.orders.storefront import assert_is
from tests.orders.test_matrix import world
from tests.orders.test_storefront_roles import ITEM, TABLE, TOKEN, Door, Shop, shop  # noqa: F401

pytestmark = pytest.mark.django_db

WRITING = [(name, door) for name, doors in TABLE.items() for door in doors if door.method in {"POST", "PATCH"}]
BY_NAME = pytest.mark.parametrize("name", dict(WRITING))
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
KINDS = (JSON, FORM, "multipart/form-data; boundary=x", "text/plain", "application/json; charset=utf-16", "")
HUGE = "200000000"
EMPTY_WILL_DO = {"cart", "order-reorder", "end-recurring", "purchase", "cancel-plan"}


class Endless:
    """A body without an end; it counts what is read of it."""

    given = 0

    def __init__(self, head: bytes = b"", tail: bytes = b"a") -> None:
        self.head, self.tail = head, tail

    def read(self, size: int = -1, *_more: Any) -> bytes:
        assert size >= 0, "somebody would read until the end, which never comes"
        part = (self.head + self.tail * size)[:size]
        self.head = self.head[size:]
        self.given += size
        return part

    readline = read


def sender(user: Any) -> APIClient:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user)
    client.cookies["csrftoken"] = TOKEN
    return client


def told(answered: Any, *what: Any) -> None:
    """It is a 4xx of the contract's shape."""
    assert 400 <= answered.status_code < 500, (*what, answered.status_code, answered.content[:300])
    assert_is(answered.json(), "ValidationErrorResponse")


HOSTILE: list[Any] = [
    None,
    True,
    [],
    [[[]]],
    {},
    {"a": {"b": [None]}},
    "",
    " ",
    "\x00",
    "\ud800",
    "a\u202eb\U0010ffff",
    "x" * 10_000,
    "' OR 1=1 --",
    "../../etc/passwd",
    "NaN",
    "１２",
    0,
    -1,
    0.5,
    10**30,
    -(10**400),
    2**63,
    "INFINITE",
]


# What found something, or might; in every place of a body.
WORST: list[Any] = [None, True, [], {}, "\x00", "\ud800", "x" * 10_000, 0.5, 10**30, -(10**400), 2**63, "INFINITE"]


def spoilt(body: Any) -> list[Any]:
    """The body with each of its values replaced by each of the worst, and each hostile one as a whole."""
    found = list(HOSTILE)

    def walk(part: Any, put: Any) -> None:
        found.extend(put(bad) for bad in WORST)
        if isinstance(part, dict):
            for key, value in part.items():
                walk(value, lambda bad, key=key, part=part, put=put: put({**part, key: bad}))
        elif isinstance(part, list):
            walk(part[0], lambda bad, put=put: put([bad]))

    for key, value in (body or {}).items():
        walk(value, lambda bad, key=key: {**body, key: bad})
    return found


WISH = {
    **ITEM,
    "description": "x",
    "quantity": 1,
    "shipping_company": 1,
    "pickup_date": {"date": "2999-01-01", "hour_range": {"start": "9", "end": "12"}},
    "cancellation_request_image_set": [{"image": "aGk="}],
}
EXTRA: dict[str, dict[str, Any]] = {
    "order-cancel": {
        "cancel_order_items": [WISH],
        "plan": "x",
        "pickup_address": 1,
        "fully_refund_as_loyalty_money": False,
    },
    "order-address-change": {"channel_id": 1},
    "cart": {
        "email": "a@example.com",
        "shipping_method": "x",
        "billing_address": {},
        "discount_code": "x",
        "store": "x",
    },
    "cart-items": {"quantity": 1, "store": "x"},
    "purchase": {
        "total": "1.00",
        "payment_details": {"a": 1},
        "payments": [{"method": "x", "amount": "1.00", "details": {}}],
        "use_loyalty": True,
        "use_store_credit": "1.00",
        "annotation": "x",
    },
    "order-pay": {"method": "x", "details": {"a": 1}},
    "end-recurring": {"reason": 1, "description": "x"},
    "cancel-plan": {"lines": [{"line": 1, "quantity": 1}], "reason": "x", "restock": True},
    "withdraw": {"items": [{"order_item": 1, "quantity": 1}], "text": "x"},
}


# The doors that read most; continuous integration tries the others as well.
SHORT = {"order-cancel", "purchase", "login"}


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.thorough) for name in dict(WRITING)]
)
def test_what_nobody_should_send_is_refused(name: str, shop: Shop) -> None:  # noqa: F811
    door, client = dict(WRITING)[name], sender(shop.owner)
    if door.owner != 204 and not name.startswith("logout"):
        _too_much(name, door, client, shop)
    _wrong_values(name, door, client, shop)


def _too_much(name: str, door: Door, client: APIClient, shop: Shop) -> None:  # noqa: F811
    """200 MB: declared, without a length (as chunked bodies are), with a length that is a lie; and large forms."""
    path, headers, before = shop.filled(door.path), {"X-CSRFToken": TOKEN, **door.headers}, world(shop.order)
    for kind in KINDS:
        for length, most in ((HUGE, 0), ("9" * 400, 0), ("-1", 0), ("x", 0), ("", 0), ("20", 20)):
            body = Endless(b'{"cancel_order_items": [')
            environment: dict[str, Any] = {"wsgi.input": body, "CONTENT_LENGTH": length, "CONTENT_TYPE": kind}
            cache.clear()  # so that nobody is told of too many requests instead
            chunked = {**headers, "Transfer-Encoding": "chunked"}
            answered = client.generic(door.method, path, b"", headers=chunked, **environment)
            assert body.given <= most, (kind, length)
            # An empty body is enough at some doors.
            if answered.status_code >= 400 or length not in {"", "20"}:
                told(answered, kind, length)
    for form in ("a" * (MAX_BODY_BYTES + 1), "&".join(f"f{n}=1" for n in range(1001))):
        told(client.generic(door.method, path, form, FORM, headers=headers), len(form))
    if name not in EMPTY_WILL_DO:
        assert world(shop.order) == before


def _wrong_values(name: str, door: Door, client: APIClient, shop: Shop) -> None:  # noqa: F811
    path, whole = shop.filled(door.path), shop.filled({**(door.body or {}), **EXTRA.get(name, {})})
    for n, body in enumerate(spoilt(whole)):
        cache.clear()
        raw = json.dumps(body).replace('"INFINITE"', "1e999")
        headers = {"X-CSRFToken": TOKEN, **({"Idempotency-Key": f"{n}"} if name == "purchase" else {})}
        answered = client.generic(door.method, path, raw, JSON, headers=headers)
        assert answered.status_code < 500, (raw[:200], answered.content[:300])
        if answered.status_code >= 400:
            told(answered, raw[:200])


PLACES = ["%00", "%FF%FE", "\u202e", "9" * 400, "-1", "1e9", "..%2F..", "' OR 1=1 --", "%F0%9F%92%A9", "x" * 3000]


def test_numbers_and_ids_that_are_none_are_4xx(shop: Shop) -> None:  # noqa: F811
    client = sender(shop.owner)
    for door in [door for doors in TABLE.values() for door in doors if "{" in door.path]:
        for place in PLACES:
            path = door.path
            for fact in shop.facts:
                path = path.replace(f"{{{fact}}}", place)
            send, body = getattr(client, door.method.lower()), [] if door.method == "GET" else [{}]
            answered = send(path, *body, format="json", headers={"X-CSRFToken": TOKEN})
            if "?" in path:
                assert answered.status_code < 500, (path, answered.content)
            elif "application/json" in answered["Content-Type"]:
                told(answered, path)
            else:
                # No address of ours looks like it: the site's own page says so.
                assert answered.status_code == 404, (path, answered.status_code)
