"""How many orders a second are cancelled one by one, and how many together: run it by hand, on PostgreSQL.

    DATABASE_URL=postgres://… python tests/benchmarks/bulk_cancel.py --orders 1000 --chunk 200

It works in a test database of its own, which it removes. Both ways take the same kinds of orders, three lines each,
half of them authorized (to be voided) and half of them captured (to be refunded), through the same handler; the books
are verified after each. Compare the ratio, not the figures: those are the machine's.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import random
import sys
import time
from pathlib import Path
from typing import Any

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
os.environ.setdefault("DEMO", "yes")
django.setup()

from django.db import connection  # noqa: E402

from orders.models import Order  # noqa: E402
from orders.processing import get_event_handler  # noqa: E402
from orders.processing.verify import verify  # noqa: E402
from shop import jobs  # noqa: E402
from shop.actors import Actor  # noqa: E402
from tests import factories  # noqa: E402


def place(count: int) -> list[str]:
    """Orders of three lines, every second one captured; returns their numbers, mixed."""
    store = factories.StoreFactory()
    products = [factories.stocked(store, units=100_000) for _n in range(200)]
    chance = random.Random(1)
    numbers = []
    for n in range(count):
        some = chance.sample(products, 3)
        order = factories.place_order(some, store=store, until="paid" if n % 2 else "approved", shipping="4.90")
        numbers.append(order.number or "")
        if n % 100 == 99:
            print(f"\r{n + 1} orders placed", end="", flush=True)
    print()
    jobs.drain(seconds=600)
    return numbers


def one_by_one(numbers: list[str]) -> float:
    start = time.perf_counter()
    for number in numbers:
        handler = get_event_handler(Actor.system())
        handler.cancel(number=number, reason="other", note="benchmark", cause=f"loop:{number}")
    return time.perf_counter() - start


def together(numbers: list[str], chunk: int) -> float:
    start = time.perf_counter()
    for first in range(0, len(numbers), chunk):
        handler = get_event_handler(Actor.system())
        some: dict[str, int | None] = dict.fromkeys(numbers[first : first + chunk])
        outcomes = handler.cancel_many(orders=some, cause=f"bulk:{first}", reason="other", note="benchmark")
        wrong = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
        if wrong:
            raise wrong[0]
    return time.perf_counter() - start


def drained() -> float:
    start = time.perf_counter()
    jobs.drain(seconds=3600)
    return time.perf_counter() - start


def measured(name: str, count: int, run: Any, profile: bool) -> float:
    """Orders a second of a way to cancel; its jobs are done and the books verified after it."""
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    seconds = run()
    profiler.disable()
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(70)
    jobs_seconds = drained()
    faults = list(verify())
    rate = count / seconds
    print(f"{name}: {rate:.0f} orders/s ({seconds:.2f} s; their jobs then took {jobs_seconds:.1f} s); faults: {faults}")
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=1000, help="how many each way")
    parser.add_argument("--chunk", type=int, default=200)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    old_name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        loop_count = options.orders
        numbers = place(loop_count + options.orders)
        in_loop, in_bulk = numbers[:loop_count], numbers[loop_count:]
        warm, in_loop = in_loop[:4], in_loop[4:]
        one_by_one(warm)
        loop = measured("one by one", len(in_loop), lambda: one_by_one(in_loop), False)
        bulk = measured(
            f"together, {options.chunk} at once",
            len(in_bulk),
            lambda: together(in_bulk, options.chunk),
            options.profile,
        )
        cancelled = Order.objects.filter(status="cancelled").count()
        print(f"{bulk / loop:.1f} times faster; {cancelled} orders are cancelled")
    finally:
        connection.creation.destroy_test_db(old_name, verbosity=0)


if __name__ == "__main__":
    main()
