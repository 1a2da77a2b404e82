"""What every REST endpoint shares: who asks, refusal → HTTP, paging, idempotency keys, bounded input.

The storefront's error shape is an object whose every value is an array of strings (ValidationErrorResponse of the
storefront contract): {"non_field_errors": ["Order already cancelled!"], "error_code": ["order_cancelled"]}.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.db import transaction
from django.http import Http404
from django.http.multipartparser import MultiPartParserError
from django.utils import timezone
from django.utils.crypto import salted_hmac
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

Door = Callable[..., Response]


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


class PersonThrottle(throttling.SimpleRateThrottle):
    """So many requests of one customer, or of one address of guests: far more than a person clicks."""

    scope = "person"
    rate = "600/min"

    def get_cache_key(self, request: Request, view: Any) -> str:
        who = f"user:{request.user.pk}" if request.user.is_authenticated else f"address:{self.get_ident(request)}"
        return f"throttle:person:{who}"


class BoundedJSONParser(parsers.JSONParser):
    """JSON of a bounded size and depth: too much of either is the client's error, never the server's."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise exceptions.ParseError(_("The JSON is nested too deeply.")) from None
        refuse_unfit(data)
        return data


class LargeJSONParser(parsers.BaseParser):
    """As BoundedJSONParser, for doors that take pictures and say how much (`max_body_bytes`).

    Not one of DRF's JSON parsers: those are only given what DATA_UPLOAD_MAX_MEMORY_SIZE lets through.
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return BoundedJSONParser().parse(stream, media_type, parser_context)


def refuse_too_large(request: Request, view: Any) -> None:
    """Raise ParseError for a body of more bytes than a door takes, whatever its kind, before any of it is read.

    A door that takes pictures says so (`max_body_bytes`). A body without a length counts as empty: Django reads none.
    """
    length = str(request.META.get("CONTENT_LENGTH") or "0")
    if not length.isdecimal() or int(length[:20]) > getattr(view, "max_body_bytes", MAX_BODY_BYTES):
        raise exceptions.ParseError(_("The request is too large."))


def refuse_unfit(data: Any) -> None:
    """Raise ParseError for nesting that nobody needs and for what a database cannot store."""
    level = [data]
    for _depth in range(MAX_DEPTH):
        if any("\x00" in value for value in level if isinstance(value, str)):
            raise exceptions.ParseError(_("The JSON holds a null character."))
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            raise exceptions.ParseError(_("The JSON holds a number that is too large."))
        # Of values, the field they are for says it better; a name may end up in a database without having one.
        names = [name for value in level if isinstance(value, dict) for name in value]
        if any(name != _whole(name) for name in names if isinstance(name, str)):
            raise exceptions.ParseError(_("The JSON holds half a character."))
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


class CursorPages(pagination.CursorPagination):
    """next, previous, results: rows that come meanwhile move nobody's page. `limit` sets the page's size."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    template = None
    ordering = ("-pk",)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationError, ValueError, OverflowError):
            # A cursor that somebody made up: it names no place in this list.
            raise exceptions.NotFound(self.invalid_cursor_message) from None


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
    elif isinstance(error, SuspiciousOperation | MultiPartParserError):
        # Django's own limits on forms: so many bytes, so many fields.
        error = exceptions.ParseError(_("The request is too large, or is not what it says it is."))
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
    # Half a character of the input may stand in the words; an answer cannot hold it.
    messages = [_whole(str(item)) for item in (detail if isinstance(detail, list) else [detail])]
    return {_whole(path) or api_settings.NON_FIELD_ERRORS_KEY: messages}


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()


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
    key = key_of(request, required=required)
    return once(request, scope=f"desk:{asker_of(request)}", key=key, answer=answer) if key else answer()


def key_of(request: Request, *, required: bool) -> str:
    """This will read the Idempotency-Key, empty where there is none. Raises KeyMissing, KeyUnfit."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if not key and required:
        raise KeyMissing(field="Idempotency-Key")
    if len(key) > LONGEST_KEY or not key.isprintable():
        raise KeyUnfit(params={"most": LONGEST_KEY}, field="Idempotency-Key")
    return key


def keyed(*, required: bool = False) -> Callable[[Door], Door]:
    """Let a door answer a request with an Idempotency-Key once (decorator of its method); see answer_keyed.

    required  where money or stock moves. Not for doors that talk to the outside while they answer.
    """

    def decorate(method: Door) -> Door:
        @wraps(method)
        def answered(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            return answer_keyed(request, required=required, answer=lambda: method(self, request, *args, **kwargs))

        return answered

    return decorate


def asker_of(request: Request) -> str:
    """Within which a key counts: one token, one person's sessions, or one guest's session."""
    if isinstance(request.auth, ApiToken):
        return f"token:{request.auth.pk}"
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    if request.session.session_key is None:
        request.session.create()
    # The session's key is a secret, and not stored.
    return f"guest:{salted_hmac('shop.idempotency', str(request.session.session_key)).hexdigest()[:32]}"


def once(request: Request, *, scope: str, key: str, answer: Callable[[], Response]) -> Response:
    """Answer a request once per key: its repetition gets the stored status and body, byte for byte, and does nothing.

    The key is written in the same transaction as what `answer` does, so there is never one without the other; a
    refusal rolls both back and may be tried again. A second request meanwhile waits for the first on the unique key.
    Nothing in `answer` may talk to the outside: see `once_with_outside`.
    """
    return once_with_outside(request, scope=scope, key=key, begin=lambda _cause: answer())


@dataclass(frozen=True, slots=True)
class Later:
    """An answer that the outside has a word in. What `begin` has decided is committed before `finish` is called.

    finish  talks to the outside, or waits for whoever does, with no transaction open, and then answers
    """

    finish: Callable[[], Response]


def once_with_outside(request: Request, *, scope: str, key: str, begin: Callable[[str], Response | Later]) -> Response:
    """Answer a request once per key, as `once` does, where the answer may come from outside.

    The key is written with what `begin` decides, and answered when `finish` has ended. A repetition before that is
    begun again: `begin` gets a name for the request, the same each time, and finds by it what it has decided.
    """
    fingerprint = hashlib.sha256(request.get_full_path().encode() + canonical(request.data)).hexdigest()
    with transaction.atomic():
        row, is_new = IdempotencyKey.objects.select_for_update().get_or_create(
            scope=scope, key=key, defaults={"fingerprint": fingerprint, "created_at": timezone.now()}
        )
        if row.fingerprint != fingerprint:
            raise KeyReused
        if not is_new and row.status is not None:
            return _repeated(row)
        response = begin(f"request:{row.pk}")
        if isinstance(response, Response):
            return _kept(row, response)
    response = response.finish()
    with transaction.atomic():
        # Of several that waited for the same, the first one's answer is everybody's.
        found = IdempotencyKey.objects.select_for_update().filter(pk=row.pk).first()
        if found is None:
            return response
        return _kept(found, response) if found.status is None else _repeated(found)


def _kept(row: IdempotencyKey, response: Response) -> Response:
    row.status = response.status_code
    row.body = "" if response.data is None else json.dumps(response.data, cls=JSONEncoder)
    row.save(update_fields=["status", "body"])
    return response


def _repeated(row: IdempotencyKey) -> Response:
    repeated = Response(json.loads(row.body) if row.body else None, status=row.status)
    repeated["Idempotency-Replayed"] = "true"
    return repeated


def canonical(data: Any) -> bytes:
    """A body in a form that does not depend on the order of its keys."""
    return json.dumps(data, sort_keys=True, cls=JSONEncoder).encode()


ERRORS = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}}
ANYWHERE = {
    "403": "The CSRF token is missing or wrong, or this is not for you",
    "415": "The body is of a kind that this door does not read",
    "429": "Too many requests; Retry-After says when to come back",
}


def document_anywhere(result: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
    """This will add to the API's document what any writing door may answer. For SPECTACULAR_SETTINGS."""
    for path in result.get("paths", {}).values():
        for method, operation in path.items():
            if method in {"post", "put", "patch", "delete"}:
                for status, words in ANYWHERE.items():
                    body = {"description": words, "content": {"application/json": {"schema": ERRORS}}}
                    operation["responses"].setdefault(status, body)
    return result
