"""POST to an address that staff entered: public servers only, checked where it connects, bounded in time and size."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from shop.errors import Invalid

# Everything together: finding the address, connecting, sending, and the answer to its end.
SECONDS = 10.0
# Of an answer no more is read; what counts is its status.
LONGEST_ANSWER = 16 * 1024
# How the demo may reach a receiver on the same machine.
DEMO_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

# Public by their looks, but not somebody else's server: protocol assignments, relays, documentation, and the address
# at which Azure answers its own machines. Everything outside of IPv6's 2000::/3 (IPv4-mapped, NAT64, …) is refused.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "2002::/16", "3fff::/20")
)
PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")


class AddressRefused(Invalid):
    """Not an address that the desk sends to."""

    code = "address_refused"
    message = _("This is not an address that the desk sends to.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. status None: no answer at all, and `error` says why."""

    status: int | None
    error: str = ""
    retry_after: float | None = None
    milliseconds: int = 0

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def is_public(address: str) -> bool:
    """This will tell whether an IP address belongs to the public internet: not private, local, reserved or the like."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip not in PUBLIC_IPV6):
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip in network for network in NOT_PUBLIC if network.version == ip.version)


def checked(url: str) -> SplitResult:
    """This will take an address apart, or raise AddressRefused with what is wrong. It asks no name server."""
    if not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise AddressRefused(_("The address must not have blanks or letters beyond ASCII."))
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressRefused(_("This is not a web address.")) from error
    if not host or parts.scheme not in {"http", "https"}:
        raise AddressRefused(_("Enter a web address, such as https://example.com/orders."))
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(_("Leave user and password out of the address: the signature tells who sends."))
    if parts.fragment:
        raise AddressRefused(_("Leave out what follows the “#”: it is never sent."))
    if is_demo(host):
        return parts
    if parts.scheme != "https":
        raise AddressRefused(_("The address has to begin with https://."))
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return parts
    if not is_public(host):
        raise AddressRefused(_("%(host)s is not an address of the public internet.") % {"host": host})
    return parts


def is_demo(host: str) -> bool:
    return settings.DEMO and host in DEMO_HOSTS


def post(*, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """This will POST once and answer what came of it within SECONDS; it raises nothing and follows no redirect.

    Raises AddressRefused for an address that can never be sent to.
    """
    exchange = Exchange(checked(url), body, headers)
    begun = time.monotonic()
    # Name servers and slow senders know no deadline of ours, so that the whole exchange gets one from outside.
    thread = Thread(target=exchange.run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    took = int((time.monotonic() - begun) * 1000)
    answer = exchange.answer or exchange.abandon()
    return Answer(answer.status, answer.error, answer.retry_after, took)


class Exchange:
    """One request and its answer, in a thread of its own, over a connection to an address that was checked."""

    def __init__(self, parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> None:
        self.parts, self.body = parts, body
        self.headers = {**headers, "Host": parts.netloc, "Connection": "close"}
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.answer: Answer | None = None
        self._socket: socket.socket | None = None
        self._is_abandoned = False

    def run(self) -> None:
        try:
            self.answer = self._ask()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.answer = Answer(None, f"{type(error).__name__}: {error}")

    def abandon(self) -> Answer:
        """Hang up: the thread ends by itself, and sends nothing if it has not yet."""
        self._is_abandoned = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which would take the encryption away under the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        return Answer(None, f"no answer within {SECONDS:g} seconds")

    def _ask(self) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        try:
            connection.sock = self._connected()
            target = (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")
            connection.request("POST", target, body=self.body, headers=self.headers)
            response = connection.getresponse()
            said = response.read(LONGEST_ANSWER)
        finally:
            connection.close()
        if 200 <= response.status < 300:
            return Answer(response.status)
        words = " ".join(said[:400].decode("utf-8", "replace").replace("\0", "").split())
        error = f"HTTP {response.status} {response.reason}: {words[:200]}".rstrip(": ")
        return Answer(response.status, error, _seconds(response.headers.get("Retry-After")))

    def _connected(self) -> socket.socket:
        """A connection to an address that was looked up once and checked; a second look-up could answer otherwise."""
        error: OSError = OSError(f"{self.host} has no address")
        for family, address in self._addresses():
            if self._is_abandoned:
                break
            plain = socket.socket(family, socket.SOCK_STREAM)
            self._socket = plain
            try:
                plain.settimeout(SECONDS)
                plain.connect(address)
                if self.parts.scheme == "https":
                    context = ssl.create_default_context()
                    self._socket = plain = context.wrap_socket(plain, server_hostname=self.host)
                if self._is_abandoned:
                    raise TimeoutError
                return plain
            except OSError as failed:
                plain.close()
                error = failed
        raise error

    def _addresses(self) -> list[tuple[int, Any]]:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for _family, _type, _proto, _name, address in found:
            ip = str(address[0])
            local = is_demo(self.host) and ipaddress.ip_address(ip).is_loopback
            if not local and not is_public(ip):
                # One is enough: a name that leads into a private network is not to be trusted at all.
                raise OSError(f"{self.host} leads to {ip}, which is not an address of the public internet")
        return [(family, address) for family, _type, _proto, _name, address in found]


def _seconds(value: str | None) -> float | None:
    """A Retry-After in seconds, at most a day; as a date, which hardly anybody sends, it is not looked at."""
    value = (value or "").strip()
    return float(min(int(value), 86_400)) if value.isascii() and value.isdigit() and len(value) < 10 else None
