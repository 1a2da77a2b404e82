"""Whatever the documents allow is sent to the doors: no answer is a server's error, and each is as documented.

Two documents: our own, with every door, and the seed's three. What contradicts the documents is not looked for: the
storefront's client sends ids as strings and keys of its own, so that input which a document forbids may be taken
(contract, section 4).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from rest_framework.test import APIClient
from rest_framework.utils.encoders import JSONEncoder
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orders.api.completed import completed_token
from tests import factories
from tests.orders.storefront import DOCUMENTS, PASSWORD, new_customer

pytestmark = pytest.mark.django_db

Seen = set[tuple[str, int]]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# What the seed leaves out and any server answers: no CSRF token, another method, a body that is no JSON (section 6.8).
UNDOCUMENTED_IN_THE_SEED = frozenset({403, 405, 415})


@pytest.fixture
def shopper() -> dict[str, Any]:
    """The headers of a customer's browser, and orders that the documents' examples can be about."""
    customer = new_customer()
    order = factories.place_order(customer=customer, until="paid")
    sent = factories.place_order(customer=customer, until="delivered")
    browser = APIClient(enforce_csrf_checks=True)
    token = browser.get("/csrf_token/").json()["csrf_token"]
    browser.cookies["csrftoken"] = token
    browser.post(
        "/users/login/",
        {"email": customer.email, "password": PASSWORD},
        format="json",
        headers={"X-CSRFToken": token},
    )
    return {
        "cookies": {name: morsel.value for name, morsel in browser.cookies.items()},
        "headers": {"X-CSRFToken": browser.cookies["csrftoken"].value},
        "numbers": [order.number, sent.number],
        "tokens": [completed_token(number=order.number)],
        "ids": [order.pk, sent.pk],
    }


@contextmanager
def one_connection() -> Iterator[None]:
    """Requests leave the test's transaction open, as those of Django's own test client do."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in signals:
            signal.connect(close_old_connections)


def send_whatever_it_allows(
    document: dict[str, Any], shopper: dict[str, Any], *, examples: int, also: frozenset[int] = frozenset()
) -> Seen:
    """Send each operation so many bodies; raises where an answer is not as documented. Returns what was answered.

    also  statuses that the document leaves out
    """
    schema = schemathesis.openapi.from_dict(document)
    schema.app = get_wsgi_application()
    seen: Seen = set()
    wrong: list[Exception] = []

    def send(case: schemathesis.Case) -> None:
        cache.clear()
        _aim(case, shopper)
        # With a made-up token nobody gets in: here a customer's session knocks at staff's doors too.
        kept = {k: v for k, v in (case.headers or {}).items() if k.lower() not in {"cookie", "authorization"}}
        case.headers = {**kept, **shopper["headers"]}
        case.cookies = dict(shopper["cookies"])
        answer = case.call()
        seen.add((case.operation.label, answer.status_code))
        if answer.status_code not in also:
            case.validate_response(answer, checks=CHECKS)

    quick = settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    with one_connection():
        # Logging in and out last: what comes after is nobody's.
        operations = sorted((found.ok() for found in schema.get_all_operations()), key=lambda one: "/log" in one.path)
        for operation in operations:
            try:
                quick(given(case=operation.as_strategy())(send))()
            except FailureGroup as failures:
                wrong.extend(failures.exceptions)
    assert not wrong, "\n".join(f"{failure.operation}: {failure.title}: {failure.message}" for failure in wrong)
    return seen


def _aim(case: schemathesis.Case, shopper: dict[str, Any]) -> None:
    """Half of the time the address is of something that is there: otherwise every answer would be a 404."""
    for name, values in (("number", "numbers"), ("order_number", "numbers"), ("signed", "tokens"), ("pk", "ids")):
        if name in (case.path_parameters or {}) and len(str(case.body)) % 2 == 0:
            case.path_parameters[name] = shopper[values][0]


@pytest.mark.thorough
def test_our_own_document_is_kept(shopper: dict[str, Any]) -> None:
    document = as_json(SchemaGenerator().get_schema(request=None, public=True))
    seen = send_whatever_it_allows(document, shopper, examples=2)
    assert len({operation for operation, _status in seen}) > 50
    assert {200, 400, 404} <= {status for _operation, status in seen}


@pytest.mark.parametrize("place", range(len(DOCUMENTS)))
def test_the_seeds_documents_are_kept(place: int, shopper: dict[str, Any]) -> None:
    seen = send_whatever_it_allows(DOCUMENTS[place], shopper, examples=8, also=UNDOCUMENTED_IN_THE_SEED)
    assert {status for _operation, status in seen} - UNDOCUMENTED_IN_THE_SEED


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_our_own_document_is_kept_however_long_one_tries(shopper: dict[str, Any]) -> None:
    document = as_json(SchemaGenerator().get_schema(request=None, public=True))
    send_whatever_it_allows(document, shopper, examples=60)


def as_json(document: Any) -> dict[str, Any]:
    """The document as it is served: no lazy words in it."""
    plain: dict[str, Any] = json.loads(json.dumps(document, cls=JSONEncoder))
    return plain
