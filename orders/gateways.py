"""The order management system that the shop's orders are reported to: this desk itself, or another one over HTTP.

Every request over HTTP is signed as Standard Webhooks says and carries an Idempotency-Key that is the same for every
repetition of the same wish. What an answer means is decided here, once: `Reply.state`.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache as remember
from threading import Thread
from typing import Any, ClassVar, Protocol
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.core.cache import cache
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from notifications.gateways import Exchange
from shop.errors import Refused

DONE, ACCEPTED, REFUSED, ABSENT, UNREACHABLE, UNKNOWN = (
    "done",
    "accepted",
    "refused",
    "absent",
    "unreachable",
    "unknown",
)

# What the other system may call it in the body of an answer or a notice.
WORDS = {
    "done": DONE,
    "cancelled": DONE,
    "changed": DONE,
    "pending": ACCEPTED,
    "accepted": ACCEPTED,
    "refused": REFUSED,
    "rejected": REFUSED,
}
LONGEST_ANSWER = 256 * 1024
LONGEST_WORDS = 300
# A job's lease has to outlive it.
LONGEST_TIMEOUT = 30
# After so many failures in a row nobody waits for it for so long; then one is let through to try.
BREAKER_FAILURES, BREAKER_SECONDS = 3, 30
TRIES, PAUSE_SECONDS = 3, 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of asking.

    state  done         it is so over there
           accepted     they will do it and tell us
           refused      they will not do it
           absent       they have never heard of this key
           unreachable  it was certainly not done: nothing was sent, or they said so
           unknown      it may or may not have been done
    """

    state: str
    status: int | None = None
    words: str = ""
    retry_after: float | None = None

    @property
    def is_final(self) -> bool:
        return self.state in {DONE, REFUSED}


@dataclass(frozen=True, slots=True)
class Units:
    """Units of one line, as the other system can know it: our id of the line, and the article's."""

    line: int
    sku: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Cancel these units of an order. key: the same for every repetition."""

    key: str
    number: str
    items: tuple[Units, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAddress:
    """Send or bill an order elsewhere. types: "shipping", "billing" or both."""

    key: str
    number: str
    types: tuple[str, ...]
    address: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What the other system told by itself. id: the same when it is told again."""

    id: str
    type: str
    data: Mapping[str, Any]


class BadSignature(Refused):
    code = "notice_signature"
    http_status = 401
    message = gettext_lazy("The signature does not fit.")


class BadNotice(Refused):
    code = "bad_notice"
    http_status = 400
    message = gettext_lazy("This is not a notice: an object with “type” and “data” is expected.")


class OrderManagement(Protocol):
    """What a shop implements to have another system asked; named in ORDER_MANAGEMENT."""

    is_outside: ClassVar[bool]

    def retrieve(self, number: str) -> Reply: ...
    def cancel(self, wish: CancelOrder) -> Reply: ...
    def change_address(self, wish: ChangeAddress) -> Reply: ...
    def lookup(self, key: str) -> Reply: ...
    def read_notice(self, body: bytes, headers: Mapping[str, str]) -> Notice: ...


class LocalOrderManagement:
    """This desk: what it decides is so. Nobody is asked, and nothing is written for it."""

    is_outside: ClassVar[bool] = False

    @classmethod
    def faults(cls) -> list[str]:
        """What is missing in the settings."""
        return []

    def retrieve(self, number: str) -> Reply:
        return Reply(DONE)

    def cancel(self, wish: CancelOrder) -> Reply:
        return Reply(DONE)

    def change_address(self, wish: ChangeAddress) -> Reply:
        return Reply(DONE)

    def lookup(self, key: str) -> Reply:
        return Reply(ABSENT)

    def read_notice(self, body: bytes, headers: Mapping[str, str]) -> Notice:
        raise BadSignature


@remember
def _made(path: str) -> OrderManagement:
    found: OrderManagement = import_string(path)()
    return found


def get_order_management() -> OrderManagement:
    """This will make the gateway that ORDER_MANAGEMENT names, once."""
    return _made(settings.ORDER_MANAGEMENT)


# ---------------------------------------------------------------------------------------------------------------
# HTTP


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer on the wire. status None: none came; was_sent: whether they may have read what was asked."""

    status: int | None
    body: Any = None
    error: str = ""
    retry_after: float | None = None
    was_sent: bool = True


class Asking(Exchange):
    """One request and its answer, in a thread of its own: see notifications.gateways.

    Its address is the operator's, from the environment, and may well be in the private network.
    """

    def __init__(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(urlsplit(url), body, headers)
        self.method = method
        self.heard: Heard | None = None
        self._was_sent = False

    def within(self, seconds: float) -> Heard:
        thread = Thread(target=self._listen, daemon=True)
        thread.start()
        thread.join(max(0.0, seconds))
        if self.heard is None:
            self.abandon()
            return Heard(None, error=_("no answer in time"), was_sent=self._was_sent)
        return self.heard

    def _listen(self) -> None:
        try:
            self.heard = self._hear()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.heard = Heard(None, error=f"{type(error).__name__}: {error}", was_sent=self._was_sent)

    def _hear(self) -> Heard:
        connection = http.client.HTTPConnection(self.host, self.port)
        try:
            connection.sock = self._connected()
            target = (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")
            if self._is_abandoned:
                raise TimeoutError
            self._was_sent = True
            connection.request(self.method, target, body=self.body or None, headers=self.headers)
            response = connection.getresponse()
            said = response.read(LONGEST_ANSWER)
        finally:
            connection.close()
        body: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            body = json.loads(said) if said else None
        return Heard(response.status, body, retry_after=_seconds(response.headers.get("Retry-After")))

    def _addresses(self) -> list[tuple[int, Any]]:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _type, _proto, _name, address in found]


class Breaker:
    """Remembers for all processes that nobody answers, so that nobody waits for it; in Django's cache."""

    def __init__(self, name: str) -> None:
        self.failures, self.until, self.trial = (f"breaker:{what}:{name}" for what in ("failures", "until", "trial"))

    def lets_through(self) -> bool:
        """Nobody while it is open; afterwards one, whose success closes it."""
        until = cache.get(self.until)
        if until is None:
            return True
        return bool(time.time() >= until and cache.add(self.trial, 1, timeout=BREAKER_SECONDS))

    def failed(self) -> None:
        count = cache.get(self.failures, 0) + 1
        cache.set(self.failures, count, timeout=3600)
        if count >= BREAKER_FAILURES:
            cache.set(self.until, time.time() + BREAKER_SECONDS, timeout=3600)
            cache.delete(self.trial)

    def worked(self) -> None:
        if cache.get(self.failures):
            cache.delete_many([self.failures, self.until, self.trial])


class HttpOrderManagement:
    """Another system over HTTP: docs/order-management.md has the requests and answers it is to understand.

    Override `cancel_body`, `address_body` and `read` for a system that speaks otherwise.
    """

    is_outside: ClassVar[bool] = True

    @classmethod
    def faults(cls) -> list[str]:
        """What is missing in the settings."""
        faults = []
        if not settings.ORDER_MANAGEMENT_URL:
            faults.append("ORDER_MANAGEMENT_URL is missing: where is the order management system?")
        secret = settings.ORDER_MANAGEMENT_SECRET
        try:
            long_enough = len(base64.b64decode(secret.removeprefix("whsec_") + "==")) >= 24
        except ValueError:
            long_enough = False
        if not (long_enough and secret.startswith("whsec_")):
            faults.append("ORDER_MANAGEMENT_SECRET must be whsec_ and at least 24 bytes in base64, on both sides.")
        if settings.ORDER_MANAGEMENT_TIMEOUT_SECONDS > LONGEST_TIMEOUT:
            faults.append(f"ORDER_MANAGEMENT_TIMEOUT_SECONDS is at most {LONGEST_TIMEOUT}: a customer waits so long.")
        return faults

    # --- what is asked --------------------------------------------------------------------------------------------

    def retrieve(self, number: str) -> Reply:
        return self._guarded(lambda until: self._find(number, until))

    def cancel(self, wish: CancelOrder) -> Reply:
        """Look whether they know the order, then ask. What fails before the asking was certainly not done."""
        path = f"/orders/{quote(wish.number)}/cancellations/"
        return self._guarded(lambda until: self._change(wish.number, path, wish.key, self.cancel_body(wish), until))

    def change_address(self, wish: ChangeAddress) -> Reply:
        path = f"/orders/{quote(wish.number)}/address/"
        return self._guarded(lambda until: self._change(wish.number, path, wish.key, self.address_body(wish), until))

    def lookup(self, key: str) -> Reply:
        """What became of a wish."""
        return self._guarded(lambda until: self._look(key, until))

    def cancel_body(self, wish: CancelOrder) -> dict[str, Any]:
        items = [{"line": item.line, "sku": item.sku, "units": item.units} for item in wish.items]
        return {"key": wish.key, "order": wish.number, "items": items, "reason": wish.reason}

    def address_body(self, wish: ChangeAddress) -> dict[str, Any]:
        return {"key": wish.key, "order": wish.number, "types": list(wish.types), "address": dict(wish.address)}

    # --- what the answers mean ------------------------------------------------------------------------------------

    def _find(self, number: str, until: float) -> Reply:
        heard = self._send("GET", f"/orders/{quote(number)}/", None, "", until)
        words = said(heard)
        if heard.status == 404 and isinstance(heard.body, dict):
            return Reply(REFUSED, 404, words or _("They do not know this order."))
        if heard.status is None or heard.status >= 300 or not isinstance(heard.body, dict):
            return Reply(UNREACHABLE, heard.status, words, heard.retry_after)
        if str(heard.body.get("number")) != number:
            return Reply(UNREACHABLE, heard.status, _("They answered with another order."))
        return Reply(DONE, heard.status)

    def _change(self, number: str, path: str, key: str, body: dict[str, Any], until: float) -> Reply:
        found = self._find(number, until)
        if found.state != DONE:
            return found
        return self.read(self._send("POST", path, body, key, until))

    def read(self, heard: Heard) -> Reply:
        """What the answer to a wish means."""
        status, words = heard.status, said(heard)
        if status is None:
            return Reply(UNKNOWN if heard.was_sent else UNREACHABLE, None, words)
        if 200 <= status < 300:
            told = heard.body.get("status") if isinstance(heard.body, dict) else None
            if status == 204 or told is not None:
                state = WORDS.get(str(told), UNKNOWN) if told is not None else DONE
                return Reply(ACCEPTED if status == 202 and state == DONE else state, status, words)
            return Reply(UNKNOWN, status, _("Their answer cannot be understood."))
        if certainly_not_done(heard):
            return Reply(UNREACHABLE, status, words, heard.retry_after)
        return Reply(REFUSED if 400 <= status < 500 else UNKNOWN, status, words)

    def _look(self, key: str, until: float) -> Reply:
        heard = self._send("GET", f"/requests/{quote(key)}/", None, "", until)
        words = said(heard)
        told = isinstance(heard.body, dict)
        if heard.status == 404 and told:
            return Reply(ABSENT, 404, words)
        if heard.status is None or heard.status >= 300 or not told:
            return Reply(UNREACHABLE, heard.status, words, heard.retry_after)
        return Reply(WORDS.get(str(heard.body.get("status")), UNKNOWN), heard.status, words)

    # --- the wire -------------------------------------------------------------------------------------------------

    def _guarded(self, ask: Any) -> Reply:
        breaker = Breaker(settings.ORDER_MANAGEMENT_URL)
        if not breaker.lets_through():
            return Reply(UNREACHABLE, None, _("It was not asked: it has not answered for a while."))
        reply: Reply = ask(time.monotonic() + settings.ORDER_MANAGEMENT_TIMEOUT_SECONDS)
        if reply.state in {UNREACHABLE, UNKNOWN}:
            breaker.failed()
        else:
            breaker.worked()
        return reply

    def _send(self, method: str, path: str, body: dict[str, Any] | None, key: str, until: float) -> Heard:
        """Once, and again within the time only what is certainly not done."""
        text = "" if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        heard = Heard(None, error=_("no answer in time"), was_sent=False)
        for attempt in range(TRIES):
            headers = self._headers(text, key)
            asking = Asking(method, settings.ORDER_MANAGEMENT_URL + path, text.encode(), headers)
            heard = asking.within(until - time.monotonic())
            pause = heard.retry_after if heard.retry_after is not None else PAUSE_SECONDS * 2**attempt
            if not certainly_not_done(heard) or time.monotonic() + pause >= until:
                break
            time.sleep(pause)
        return heard

    def _headers(self, text: str, key: str) -> dict[str, str]:
        now, message = datetime.now(tz=UTC), f"msg_{uuid.uuid4().hex}"
        headers = {
            "Accept": "application/json",
            "User-Agent": f"Orderdesk ({settings.SITE_URL})",
            "webhook-id": message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(settings.ORDER_MANAGEMENT_SECRET).sign(message, now, text),
        }
        if text:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        return headers

    # --- what they tell by themselves -----------------------------------------------------------------------------

    def read_notice(self, body: bytes, headers: Mapping[str, str]) -> Notice:
        """This will check a notice's signature and age, and read it. Raises BadSignature, BadNotice."""
        try:
            Webhook(settings.ORDER_MANAGEMENT_SECRET).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            raise BadSignature from error
        try:
            told = json.loads(body)
            json.dumps(told, ensure_ascii=False).encode()  # half a character cannot be kept
        except (ValueError, RecursionError) as error:
            raise BadNotice from error
        if (
            not isinstance(told, dict)
            or not isinstance(told.get("type"), str)
            or not isinstance(told.get("data"), dict)
        ):
            raise BadNotice
        found = {name.lower(): value for name, value in headers.items()}
        return Notice(id=found["webhook-id"], type=told["type"], data=told["data"])


def certainly_not_done(heard: Heard) -> bool:
    """Nothing was sent, or they said themselves that they did nothing and when to come again."""
    if heard.status is None:
        return not heard.was_sent
    return heard.status == 429 or (heard.status == 503 and heard.retry_after is not None)


def said(heard: Heard) -> str:
    """An answer in words short enough to show."""
    told = heard.body.get("message") if isinstance(heard.body, dict) else None
    words = str(told) if told else heard.error
    if not words and heard.status is not None and heard.status >= 300:
        words = f"HTTP {heard.status}"
    return " ".join(words.replace("\0", "").split())[:LONGEST_WORDS]


def _seconds(value: str | None) -> float | None:
    value = (value or "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) < 8 else None
