"""Orders cancelled one by one in a loop, by a bulk run in workers, and with workers killed on the way: run it by hand.

    DATABASE_URL=postgres://… python tests/benchmarks/bulk_run.py --orders 1000 --workers 2 --kills 2

The orders are placed once, by several processes, into a database beside the named one; every way of cancelling them
works on a copy of that, made from it as a template, so that all begin with the same rows. The workers are real
processes, `manage.py drain_jobs --forever`. After each way all jobs are done and the books are verified: each order
cancelled once, its customer told once, its money sent back once. Compare the ratio, not the figures.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]
DESK = str(Path(__file__).with_name("bulk_desk.py"))
# For what hangs, not for what is slow.
PATIENCE_SECONDS = 1800
PART = "orders.bulk_cancel"
# Workers by the name of their connection: those whose transaction has looked at the items of a run.
IN_A_PART = (
    "SELECT application_name FROM pg_stat_activity AS a WHERE datname = current_database() AND xact_start IS NOT NULL"
    " AND application_name LIKE 'worker%%'"
    " AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.relation = 'orders_bulkitem'::regclass)"
)


@dataclass
class Measured:
    """What one way of cancelling took; seconds.

    begun      a person's own request: the plan, the run and its items
    picked_up  until a worker took the first part: without Celery's wake-up they look every second
    worked     from then until the last order was cancelled
    waited     the longest of it in which no part was finished: with killed workers, their leases
    followed   from then until the last refund, message and return to stock was done
    load       of the machine, when it ended
    """

    orders: int
    worked: float
    begun: float = 0.0
    picked_up: float = 0.0
    waited: float = 0.0
    followed: float = 0.0
    killed: int = 0
    load: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.orders / self.worked


# ---------------------------------------------------------------------------------------------------------------
# Databases and processes


def address_of(address: str, name: str) -> str:
    """The address of another database of the same server."""
    return urlunsplit(urlsplit(address)._replace(path=f"/{name}"))


def asked(address: str, query: str, *args: Any) -> list[Any]:
    with psycopg.connect(address, autocommit=True) as connection:
        return connection.execute(query.encode(), args).fetchall()


def create(address: str, name: str, *, template: str = "template1") -> str:
    """Make a database anew, as a copy of another; returns its address."""
    drop(address, name)
    with psycopg.connect(address, autocommit=True) as connection:
        words = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(words.format(sql.Identifier(name), sql.Identifier(template)))
    return address_of(address, name)


def drop(address: str, name: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def process(address: str, *command: str, name: str = "bench", **more: Any) -> subprocess.Popen[str]:
    """Start a program of the desk on a database; the database knows its connection by `name`."""
    environment = {**os.environ, "DEMO": "yes", "DATABASE_URL": address, "PGAPPNAME": name}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, text=True, **more)


def answer(address: str, *command: str) -> str:
    """What a program says; raises RuntimeError with its words where it failed."""
    program = process(address, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, complaint = program.communicate(timeout=PATIENCE_SECONDS)
    if program.returncode:
        raise RuntimeError(f"{' '.join(command)}: {said}{complaint}")
    return said.strip()


def desk(address: str, verb: str, *args: Any) -> str:
    """What a function of bulk_desk.py says."""
    return answer(address, DESK, verb, *map(str, args))


@contextmanager
def workers(address: str, count: int) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Workers by the name of their connection, ready for work; all have ended afterwards."""
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for _n in range(count):
            another_worker(address, running)
        until(lambda: len(asked(address, "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'w%%'")) >= count)
        yield running
    finally:
        for program in running.values():
            program.terminate()
        for program in running.values():
            program.wait(timeout=60)


def another_worker(address: str, running: dict[str, subprocess.Popen[str]]) -> None:
    name = f"worker{time.monotonic_ns()}"
    running[name] = process(address, "manage.py", "drain_jobs", "--forever", name=name, stderr=subprocess.DEVNULL)


def until(condition: Any, *, pause: float = 0.02) -> None:
    stop = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > stop:
            raise TimeoutError("It takes too long; look at the jobs of the database.")
        time.sleep(pause)


# ---------------------------------------------------------------------------------------------------------------
# The ways to cancel


def placed(address: str, name: str, orders: int, *, processes: int = 3) -> str:
    """Place the orders in a database of that name, and do all their jobs; returns its address."""
    there = create(address, name)
    desk(there, "prepare")
    at = [orders * n // processes for n in range(processes + 1)]
    sellers = [process(there, DESK, "place", str(first), str(last)) for first, last in pairwise(at)]
    codes = [seller.wait(timeout=PATIENCE_SECONDS) for seller in sellers]
    if any(codes):
        drop(address, name)
        raise RuntimeError("Not all orders could be placed.")
    with workers(there, processes):
        all_done(there)
    return there


def in_a_loop(address: str, template: str, *, orders: int, check: bool = True) -> Measured:
    name = f"{template}_loop"
    there = create(address, name, template=template)
    found = Measured(orders=orders, worked=float(desk(there, "loop", orders)), load=os.getloadavg()[0])
    if check:
        with workers(there, 2):
            found.followed = all_done(there)
        found.faults = desk(there, "faults", orders).splitlines()
    drop(address, name)
    return found


def in_workers(
    address: str, template: str, *, orders: int, count: int = 2, kills: int = 0, check: bool = True
) -> Measured:
    name = f"{template}_run"
    there = create(address, name, template=template)
    with workers(there, count) as running, psycopg.connect(there, autocommit=True) as connection:

        def is_there(query: str, *args: Any) -> bool:
            return connection.execute(query.encode(), args).fetchone() is not None

        run, begun = desk(there, "begin").split()
        promised = time.monotonic()
        found = Measured(orders=orders, worked=0.0, begun=float(begun))
        until(lambda: is_there("SELECT 1 FROM shop_job WHERE kind = %s AND state <> 'waiting'", PART), pause=0.002)
        start = time.monotonic()
        found.picked_up = start - promised
        over = "SELECT 1 FROM orders_bulkrun WHERE id = %s AND status = 'finished'"
        while found.killed < kills and not is_there(over, run):
            found.killed += killed_inside_a_part(connection, there, running)
        until(lambda: is_there(over, run), pause=0.01)
        found.worked, found.load = time.monotonic() - start, os.getloadavg()[0]
        found.waited = longest_pause(there)
        if check:
            found.followed = all_done(there)
    if check:
        found.faults = desk(there, "faults", orders).splitlines()
    if found.killed < kills:
        found.faults.append(f"only {found.killed} of {kills} workers could be killed in the middle")
    drop(address, name)
    return found


def killed_inside_a_part(
    connection: psycopg.Connection[Any], address: str, running: dict[str, subprocess.Popen[str]]
) -> bool:
    """Kill -9 a worker at a random moment of its part and start another; False where the part ended before that."""
    victim = connection.execute(f"{IN_A_PART} ORDER BY random() LIMIT 1").fetchone()
    if victim is None:
        return False
    time.sleep(random.uniform(0, 0.3))
    program = running[victim[0]]
    # Stopped first, it cannot commit between the look and the kill.
    program.send_signal(signal.SIGSTOP)
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event = 'ClientRead'"
    until(lambda: connection.execute(waits, victim).fetchone() is not None)
    if connection.execute(f"{IN_A_PART} AND application_name = %s", victim).fetchone() is None:
        program.send_signal(signal.SIGCONT)
        return False
    program.kill()
    program.wait(timeout=60)
    del running[victim[0]]
    another_worker(address, running)
    return True


def longest_pause(address: str) -> float:
    """The longest time between two finished parts."""
    rows = asked(address, "SELECT done_at FROM shop_job WHERE kind = %s AND done_at IS NOT NULL ORDER BY 1", PART)
    pauses = [(later[0] - earlier[0]).total_seconds() for earlier, later in pairwise(rows)]
    return max(pauses, default=0.0)


def all_done(address: str) -> float:
    """Wait until no job is due or running; returns the seconds."""
    start = time.monotonic()
    due = "SELECT 1 FROM shop_job WHERE (state = 'waiting' AND run_at <= now()) OR state = 'running' LIMIT 1"
    with psycopg.connect(address, autocommit=True) as connection:
        until(lambda: connection.execute(due).fetchone() is None, pause=0.1)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=0, help="how many of them in the loop (all)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="use the orders of the last time, and keep them")
    options = parser.parse_args()
    address = os.environ["DATABASE_URL"]
    template = f"{urlsplit(address).path[1:]}_{options.orders}"
    if not (options.keep and asked(address, "SELECT 1 FROM pg_database WHERE datname = %s", template)):
        start = time.monotonic()
        placed(address, template, options.orders)
        print(f"{options.orders} orders placed in {time.monotonic() - start:.0f} s", flush=True)
    compare(address, template, options)
    if not options.keep:
        drop(address, template)


def compare(address: str, template: str, options: argparse.Namespace) -> None:
    ratios = []
    for n in range(options.repeat):
        check = n == 0
        loop = in_a_loop(address, template, orders=options.loop or options.orders, check=check)
        say("one by one in a loop", loop, check)
        run = in_workers(address, template, orders=options.orders, count=options.workers, check=check)
        say(f"a bulk run in {options.workers} workers", run, check)
        ratios.append(run.rate / loop.rate)
        print(f"  {ratios[-1]:.1f} times faster", flush=True)
    print(f"median of {len(ratios)}: {statistics.median(ratios):.1f} times faster")
    if options.kills:
        run = in_workers(
            address, template, orders=options.orders, count=options.workers, kills=options.kills, check=True
        )
        say(f"a bulk run in {options.workers} workers, {run.killed} of them killed", run, True)


def say(name: str, found: Measured, check: bool) -> None:
    print(
        f"{name}: {found.orders} orders in {found.worked:.2f} s, {found.rate:.0f} a second; load {found.load:.1f}",
        flush=True,
    )
    if found.begun:
        print(f"  begun in {found.begun:.2f} s, then picked up in {found.picked_up:.2f} s", end="")
        print(f"; longest pause between two parts {found.waited:.1f} s")
    if check:
        print(f"  then {found.followed:.1f} s for all their jobs; faults: {found.faults or 'none'}", flush=True)


if __name__ == "__main__":
    main()
