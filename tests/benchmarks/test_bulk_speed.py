"""A bulk run in workers on PostgreSQL: its speed against a loop, and that killing workers doubles nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.benchmarks import bulk_run

ORDERS, IN_LOOP = 200, 60

pytestmark = [pytest.mark.nightly, pytest.mark.postgres, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def address() -> str:
    found = os.environ.get("DATABASE_URL", "")
    if not found.startswith("postgres"):
        pytest.skip("set DATABASE_URL to a PostgreSQL database: on SQLite there is one writer at a time")
    return found


@pytest.fixture(scope="module")
def orders(address: str) -> Iterator[str]:
    """The name of a database with orders that are paid or approved."""
    name = f"{urlsplit(address).path[1:]}_bulk_speed"
    bulk_run.placed(address, name, ORDERS)
    yield name
    bulk_run.drop(address, name)


def test_orders_are_cancelled_ten_times_faster_by_a_run_in_workers_than_one_by_one(address: str, orders: str) -> None:
    loops, runs = [], []
    # What else the machine does comes and goes: the best of three of each is compared.
    for n in range(3):
        loops.append(bulk_run.in_a_loop(address, orders, orders=IN_LOOP, check=n == 0))
        runs.append(bulk_run.in_workers(address, orders, orders=ORDERS, check=n == 0))
    assert loops[0].faults == runs[0].faults == []
    assert max(run.rate for run in runs) >= 10 * max(loop.rate for loop in loops)


@pytest.mark.kill
def test_workers_killed_twice_cancel_tell_and_refund_once(address: str, orders: str) -> None:
    run = bulk_run.in_workers(address, orders, orders=ORDERS, kills=2)
    assert (run.killed, run.faults) == (2, [])
