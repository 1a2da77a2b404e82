"""The broker is down, or does not answer, at commit: the decision stands, nobody waits, the sweep does the work."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from orders.models import Order, Status
from orders.processing import get_event_handler
from shop import jobs
from shop.actors import Actor
from shop.celery import app
from shop.models import Job
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


@pytest.fixture(params=["refused", "silent"])
def dead_broker(request: pytest.FixtureRequest, black_hole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    port = black_hole if request.param == "silent" else 1
    monkeypatch.setattr(app.conf, "broker_url", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setattr(app.conf, "broker_write_url", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setattr(jobs, "_silent_until", 0.0)


def test_a_cancellation_is_taken_at_once_and_worked_off_by_the_sweep(
    dead_broker: None, books: Callable[[], list[str]]
) -> None:
    order = factories.place_order([("10.00", 1)])
    jobs._silent_until = 0.0
    started = time.monotonic()
    get_event_handler(Actor.system()).cancel(number=order.number)
    assert time.monotonic() - started < 20, "a broker that does not answer keeps nobody waiting for the network"
    started = time.monotonic()
    jobs.nudge()
    assert time.monotonic() - started < jobs.NUDGE_SECONDS, "the breaker keeps further requests from waiting at all"
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
    jobs.drain(seconds=30)
    assert not Job.objects.exclude(state=Job.State.DONE).exists()
    assert books() == []
