"""Webhooks and the network: never into a private one, never waiting for ever, never reading without end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from notifications import gateways
from notifications.models import WebhookEndpoint
from tests.notifications.receiver import Receiver, make_endpoint, sent_test, work

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.7",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "3fff::1",
        "127.1",
        "not an address",
    ],
)
def test_an_address_that_is_not_of_the_public_internet_is_refused(address: str, monkeypatch: Any) -> None:
    assert not gateways.is_public(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    resolved = "127.0.0.1" if address in {"127.1", "not an address"} else address
    answers(monkeypatch, [(family, resolved)])
    touched = no_connections(monkeypatch)
    answer = gateways.post(url="https://innocent.example/hook", body=b"{}", headers={})
    assert answer.status is None
    assert "not an address of the public internet" in answer.error
    assert touched == []


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e"])
def test_a_public_address_is_not_refused(address: str) -> None:
    assert gateways.is_public(address)


def answers(monkeypatch: Any, *rounds: list[tuple[int, str]]) -> list[str]:
    """Let the name server give these addresses, one list after the other; returns the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_args: Any, **_kwargs: Any) -> list[Any]:
        found = rounds[min(len(asked), len(rounds) - 1)]
        asked.append(host)
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def no_connections(monkeypatch: Any) -> list[str]:
    """Let nothing out; returns the addresses that somebody wanted to connect to."""
    touched: list[str] = []

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            touched.append(address[0])
            raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "socket", Socket)
    return touched


def test_a_name_that_answers_differently_the_second_time_is_asked_once_and_connected_where_it_was_checked(
    monkeypatch: Any,
) -> None:
    asked = answers(monkeypatch, [(socket.AF_INET, "93.184.216.34")], [(socket.AF_INET, "127.0.0.1")])
    touched = no_connections(monkeypatch)
    answer = gateways.post(url="https://rebinding.example/hook", body=b"{}", headers={})
    assert "refused" in answer.error
    assert (len(asked), touched) == (1, ["93.184.216.34"])


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: Any) -> None:
    answers(monkeypatch, [(socket.AF_INET, "93.184.216.34"), (socket.AF_INET, "10.0.0.1")])
    touched = no_connections(monkeypatch)
    assert gateways.post(url="https://mixed.example/", body=b"{}", headers={}).status is None
    assert touched == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "example.com",
        "https://ada:secret@example.com/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://exämple.com/",
        "https://example.com:99999/",
        "https://[::1",
        "https://10.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "http://localhost/",
        "https://127.0.0.1/",
    ],
)
def test_an_address_that_cannot_be_sent_to_is_refused_with_words(url: str, settings: Any) -> None:
    settings.DEMO = False
    with pytest.raises(gateways.AddressRefused) as refused:
        gateways.checked(url)
    assert str(refused.value)


def test_outside_of_the_demo_the_machine_itself_is_out_of_reach(receiver: Receiver, settings: Any) -> None:
    settings.DEMO = False
    endpoint = make_endpoint(receiver.url)
    row = sent_test(endpoint)
    work()
    row.refresh_from_db()
    assert (receiver.got, row.state, row.last_status) == ([], "waiting", None)
    assert "https://" in row.last_error


def test_a_redirect_is_a_failure_and_is_not_followed(
    receiver: Receiver, endpoint: WebhookEndpoint, httpserver: HTTPServer
) -> None:
    elsewhere: list[Request] = []

    def answer(request: Request) -> Response:
        elsewhere.append(request)
        return Response()

    httpserver.expect_request("/elsewhere").respond_with_handler(answer)
    receiver.answers = [Response(status=307, headers={"Location": httpserver.url_for("/elsewhere")})]
    row = sent_test(endpoint)
    work()
    row.refresh_from_db()
    assert (row.last_status, row.state, elsewhere) == (307, "waiting", [])


class RawServer:
    """Answers every connection with these bytes, again and again, until the other side hangs up."""

    def __init__(self, beginning: bytes, again: bytes) -> None:
        self.sent = 0
        self.is_hung_up = threading.Event()
        self._beginning, self._again = beginning, again
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        peer, _address = self._listener.accept()
        with peer:
            try:
                peer.sendall(self._beginning)
                while not self.is_hung_up.wait(0.01 if self._again else 0.05):
                    if not self._again and not peer.recv(65536):
                        break
                    peer.sendall(self._again)
                    self.sent += len(self._again)
            except OSError:
                pass
        self.is_hung_up.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def raw(settings: Any) -> Iterator[Callable[[bytes, bytes], RawServer]]:
    settings.DEMO = True
    servers: list[RawServer] = []

    def make(beginning: bytes, again: bytes) -> RawServer:
        servers.append(RawServer(beginning, again))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("beginning", "again"),
    [(b"", b""), (b"HTTP/1.1 ", b""), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["silence", "half a line", "headers without end", "continue without end"],
)
def test_an_answer_that_never_comes_ends_at_the_deadline(
    raw: Callable[[bytes, bytes], RawServer], monkeypatch: Any, beginning: bytes, again: bytes
) -> None:
    monkeypatch.setattr(gateways, "SECONDS", 0.3)
    server = raw(beginning, again)
    answer = gateways.post(url=server.url, body=b"{}", headers={})
    assert answer.status is None
    assert answer.error
    assert server.is_hung_up.wait(30), "the connection is given back"


def test_of_a_huge_answer_only_the_beginning_is_read(raw: Callable[[bytes, bytes], RawServer]) -> None:
    server = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n", b"x" * 65536)
    assert gateways.post(url=server.url, body=b"{}", headers={}).is_success
    assert server.is_hung_up.wait(30)
    assert server.sent < 50_000_000


def test_words_of_a_failure_are_kept_short_and_without_addresses(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    receiver.answers = [Response("no ada@example.com\0 here\n" + "x" * 5000, status=500)]
    row = sent_test(endpoint)
    work()
    row.refresh_from_db()
    assert row.last_error.startswith("HTTP 500 INTERNAL SERVER ERROR: no …@… here")
    assert len(row.last_error) < 300


def test_nobody_there_is_a_failure_that_is_tried_again(settings: Any) -> None:
    settings.DEMO = True
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    row = sent_test(make_endpoint(f"http://127.0.0.1:{port}/"))
    work()
    row.refresh_from_db()
    assert (row.state, row.last_status) == ("waiting", None)
    assert "refused" in row.last_error.lower()
