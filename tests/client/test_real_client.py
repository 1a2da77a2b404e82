"""The published storefront client (@akinon/next) itself: its own endpoint code, in Node, against a running server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pytest_django.live_server_helper import LiveServer

from orders.api import completed_token
from orders.models import CancellationRequest, JournalEntry, Order, Status
from orders.processing import EventHandler
from tests import factories
from tests.orders.storefront import PASSWORD, new_customer

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

HERE = Path(__file__).parent
INSTALL = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]


def unavailable(words: str) -> None:
    """Skip, saying so; in CI, where it can be had, its absence is a failure."""
    if os.environ.get("CI") == "true" and shutil.which("npm"):
        pytest.fail(words)
    pytest.skip(words)


def installed() -> Path:
    """The folder with the client and what it needs, as package-lock.json says; filled once."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        unavailable("The real client needs Node.js and npm; they are not here.")
    files = [HERE / "package.json", HERE / "package-lock.json"]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path(settings.VAR_DIR) / "real-client" / wanted
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder)
        try:
            subprocess.run([str(npm), *INSTALL], cwd=folder, check=True, capture_output=True, timeout=180)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace")[-500:]
            unavailable(f"The real client could not be installed; is the package registry reachable? {said}")
        (folder / "complete").touch()
    return folder


def node(*arguments: str, **environment: str) -> None:
    quiet = {"NODE_ENV": "production", "LOG_LEVEL": "silent", "NO_COLOR": "1"}
    # Its output is the test's, should it fail.
    done = subprocess.run(
        ["node", *arguments],
        cwd=HERE,
        env={**os.environ, **quiet, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def as_the_client_needs(order: Order) -> dict[str, Any]:
    line = order.lines.get()
    return {"id": order.pk, "number": order.number, "line": line.pk, "token": completed_token(number=order.number)}


def verbs(order: Order) -> list[str]:
    """What was decided about an order by its customer."""
    return list(
        JournalEntry.objects.filter(order=order, actor_kind="customer").order_by("pk").values_list("verb", flat=True)
    )


@pytest.mark.thorough
def test_the_published_client_finds_reads_and_cancels_its_orders(
    live_server: LiveServer,
    place: Callable[..., Order],
    system: EventHandler,
    work: Callable[[], int],
    books: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    folder, bundle = installed(), tmp_path / "client.cjs"
    node("bundle.mjs", str(folder), str(bundle))
    customer, store = new_customer(), factories.StoreFactory()
    orders = {
        name: place(customer=customer, store=store, until=until)
        for name, until in {
            "fresh": "",
            "lost": "approved",
            "kept": "",
            "gone": "",
            "bulk": "",
            "preparing": "preparing",
            "sent": "shipped",
            "delivered": "delivered",
        }.items()
    }
    system.cancel(number=orders["gone"].number or "")
    guest = place(store=store, email="guest@example.com")
    scenario = {
        "email": customer.email,
        "password": PASSWORD,
        "orders": {name: as_the_client_needs(order) for name, order in orders.items()},
        "guest": {**as_the_client_needs(guest), "email": guest.email},
    }
    node(
        "--test",
        "client.test.mjs",
        COMMERCE_URL=live_server.url,
        CLIENT_BUNDLE=str(bundle),
        SCENARIO=json.dumps(scenario),
    )
    work()
    now = {name: Order.objects.get(pk=order.pk).status for name, order in orders.items()}
    assert [name for name, status in now.items() if status == Status.CANCELLED] == ["fresh", "lost", "gone"]
    assert {name: verbs(order) for name, order in orders.items()} == {
        "fresh": ["cancel"],
        "lost": ["cancel"],
        "kept": [],
        "gone": [],
        "bulk": ["request_cancellation"],
        "preparing": ["request_cancellation"],
        "sent": ["request_cancellation"],
        "delivered": ["request_cancellation"],
    }
    requests = CancellationRequest.objects.values_list("order__number", "cancellation_type")
    assert sorted(requests) == sorted(
        (orders[name].number, kind)
        for name, kind in {"preparing": "cancel", "bulk": "cancel", "delivered": "refund", "sent": "refund"}.items()
    )
    assert books() == []
