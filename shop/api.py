"""What every REST endpoint shares: who asks, refusal → HTTP, paging, idempotency keys, bounded input.

The storefront's error shape is an object whose every value is an array of strings (ValidationErrorResponse of the
storefront contract): {"non_field_errors": ["Order already cancelled!"], "error_code": ["order_cancelled"]}.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework import authentication, exceptions, pagination, parsers, throttling
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.utils.encoders import JSONEncoder

from shop import tokens
from shop.actors import Actor
from shop.errors import Invalid, Refused
from shop.models import ApiToken, IdempotencyKey, User

MAX_BODY_BYTES = 2_500_000
MAX_DEPTH = 20
LONGEST_KEY = 200


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session with CSRF; nobody logged in is 401, as the storefront contract has it."""

    def authenticate_header(self, request: Request) -> str:
        return 'Session realm="storefront"'


class Bearer(authentication.BaseAuthentication):
    """A program's token: `Authorization: Bearer …`. No cookie comes with it by itself, so it needs no CSRF token."""

    keyword = b"bearer"

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        parts = authentication.get_authorization_header(request).split()
        if not parts or parts[0].lower() != self.keyword:
            return None
        token = tokens.find(parts[1].decode("latin-1")) if len(parts) == 2 else None
        if token is None:
            raise exceptions.AuthenticationFailed(_("This token is unknown, has ended or was revoked."))
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        wrong = authentication.get_authorization_header(request).lower().startswith(self.keyword)
        return 'Bearer realm="staff"' + (', error="invalid_token"' if wrong else "")


class TokenThrottle(throttling.SimpleRateThrottle):
    """So many requests of one token; people with a session are not counted."""

    scope = "token"
    rate = "600/min"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return f"throttle:token:{request.auth.pk}" if isinstance(request.auth, ApiToken) else None


class BoundedJSONParser(parsers.JSONParser):
    """JSON of a bounded size and depth: too much of either is the client's error, never the server's."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        request: Request | None = (parser_context or {}).get("request")
        length = request.META.get("CONTENT_LENGTH") if request else None
        if int(length or 0) > MAX_BODY_BYTES:
            raise exceptions.ParseError(_("The request is too large."))
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise exceptions.ParseError(_("The JSON is nested too deeply.")) from None
        refuse_unfit(data)
        return data


def refuse_unfit(data: Any) -> None:
    """Raise ParseError for nesting that nobody needs and for characters that a database cannot store."""
    level = [data]
    for _depth in range(MAX_DEPTH):
        if any("\x00" in value for value in level if isinstance(value, str)):
            raise exceptions.ParseError(_("The JSON holds a null character."))
        inner = [list(value) + list(value.values()) for value in level if isinstance(value, dict)]
        level = [value for values in inner + [v for v in level if isinstance(v, list)] for value in values]
        if not level:
            return
    raise exceptions.ParseError(_("The JSON is nested too deeply."))


class Pages(pagination.PageNumberPagination):
    """count, next, previous, results; `limit` sets the page's size."""

    page_size = 12
    page_size_query_param = "limit"
    max_page_size = 100


def actor_of(request: Request) -> Actor:
    """The customer who asks. On the storefront's doors staff are customers too: they see their own orders."""
    if not request.user.is_authenticated:
        raise exceptions.NotAuthenticated
    return Actor.customer(request.user)


def desk_actor_of(request: Request) -> Actor:
    """Who asks at the desk's doors: a program with its token's rights, staff as staff, others as customers."""
    if not request.user.is_authenticated:
        raise exceptions.NotAuthenticated
    return tokens.actor_of(request.auth) if isinstance(request.auth, ApiToken) else Actor.of_user(request.user)


def staff_actor_of(request: Request) -> Actor:
    """Staff, or a program that acts for them; nobody else."""
    actor = desk_actor_of(request)
    if not actor.is_staff:
        raise exceptions.PermissionDenied
    return actor


def answer_error(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: every refusal and every error in one shape, with a stable code."""
    if isinstance(error, Refused):
        field = error.field or api_settings.NON_FIELD_ERRORS_KEY
        body: dict[str, list[str]] = {field: [str(error)], "error_code": [error.code]}
        if error.remedy:
            body["remedy"] = [str(error.remedy)]
        if error.max_quantity is not None:
            body["max_quantity"] = [str(error.max_quantity)]
        if error.deadline:
            body["deadline"] = [error.deadline.isoformat()]
        wait = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return Response(body, status=error.http_status, headers=wait)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]
    if isinstance(error, exceptions.ValidationError):
        return Response(flat(error.detail), status=error.status_code, headers=headers)
    codes = error.get_codes()
    body = {
        api_settings.NON_FIELD_ERRORS_KEY: [str(error.detail)],
        "error_code": [codes if isinstance(codes, str) else "error"],
    }
    return Response(body, status=error.status_code, headers=headers)


def flat(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Nested validation errors as one level: {"cancel_order_items.0.reason": ["…"]}."""
    if isinstance(detail, dict):
        merged: dict[str, list[str]] = {}
        for name, inner in detail.items():
            merged.update(flat(inner, f"{path}.{name}" if path else str(name)))
        return merged
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        merged = {}
        for index, inner in enumerate(detail):
            merged.update(flat(inner, f"{path}.{index}" if path else str(index)))
        return merged
    messages = [str(item) for item in detail] if isinstance(detail, list) else [str(detail)]
    return {path or api_settings.NON_FIELD_ERRORS_KEY: messages}


class KeyReused(Refused):
    """As the IETF draft on Idempotency-Key: the same key with another request."""

    code = "idempotency_key_reused"
    http_status = 422
    message = _("This Idempotency-Key was used for another request.")


class KeyMissing(Invalid):
    code = "idempotency_key_missing"
    message = _(
        "Send the header Idempotency-Key with a value of your own, new for each request and the same for each "
        "repetition of it, so that money and stock never move twice."
    )


class KeyUnfit(Invalid):
    code = "idempotency_key_invalid"
    message = _("An Idempotency-Key has 1 to %(most)d printable characters.")


def answer_keyed(request: Request, *, required: bool, answer: Callable[[], Response]) -> Response:
    """Answer a request at the desk's doors: with an Idempotency-Key once, as `once` does.

    A key counts for one token, or for one person's sessions. Raises KeyMissing, KeyUnfit, KeyReused.
    """
    key = request.headers.get("Idempotency-Key", "").strip()
    if not key:
        if required:
            raise KeyMissing(field="Idempotency-Key")
        return answer()
    if len(key) > LONGEST_KEY or not key.isprintable():
        raise KeyUnfit(params={"most": LONGEST_KEY}, field="Idempotency-Key")
    return once(request, scope=f"desk:{asker_of(request)}", key=key, answer=answer)


def asker_of(request: Request) -> str:
    """Within which a key counts: one token, or one person's sessions."""
    return f"token:{request.auth.pk}" if isinstance(request.auth, ApiToken) else f"user:{request.user.pk}"


def once(request: Request, *, scope: str, key: str, answer: Callable[[], Response]) -> Response:
    """Answer a request once per key: its repetition gets the stored status and body, byte for byte, and does nothing.

    The key is written in the same transaction as what `answer` does, so there is never one without the other; a
    refusal rolls both back and may be tried again. A second request meanwhile waits for the first on the unique key.
    Nothing in `answer` may talk to the outside.
    """
    fingerprint = hashlib.sha256(request.get_full_path().encode() + canonical(request.data)).hexdigest()
    with transaction.atomic():
        row, is_new = IdempotencyKey.objects.select_for_update().get_or_create(
            scope=scope, key=key, defaults={"fingerprint": fingerprint, "created_at": timezone.now()}
        )
        if row.fingerprint != fingerprint:
            raise KeyReused
        if not is_new and row.status is not None:
            repeated = Response(json.loads(row.body) if row.body else None, status=row.status)
            repeated["Idempotency-Replayed"] = "true"
            return repeated
        response = answer()
        row.status = response.status_code
        row.body = "" if response.data is None else json.dumps(response.data, cls=JSONEncoder)
        row.save(update_fields=["status", "body"])
        return response


def canonical(data: Any) -> bytes:
    """A body in a form that does not depend on the order of its keys."""
    return json.dumps(data, sort_keys=True, cls=JSONEncoder).encode()
