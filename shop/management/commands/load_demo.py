"""Fill the desk with a shop to try: two stores, products, people and orders in every status. Only in demo mode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.utils import timezone

from shop import jobs
from shop.management.demo.data import CUSTOMERS, PASSWORD, STAFF
from shop.management.demo.loading import load


class Command(BaseCommand):
    help = "Load demo data (stores, products, people, orders in every status) and print the log-ins. Demo mode only."

    def handle(self, *args: Any, **options: Any) -> None:
        if not (settings.DEMO or settings.DEBUG):
            raise CommandError("Demo data has well-known passwords. It is loaded with DEMO=yes (or DEBUG=yes) only.")
        started, now = time.monotonic(), timezone.now()
        with _quick_commits():
            made = load(now)
            jobs.drain()
        self.stdout.write(f"{made} orders made in {time.monotonic() - started:.1f} s.\n" if made else "")
        self._print_log_ins()

    def _print_log_ins(self) -> None:
        rows = [
            *[(f"{name} / {PASSWORD}", f"{first} {last}, {words}") for name, first, last, _role, _in, words in STAFF],
            *[(f"{email} / {PASSWORD}", f"{first} {last}, customer") for email, first, last, _l, _a in CUSTOMERS],
        ]
        width = max(len(left) for left, _right in rows)
        for left, right in rows:
            self.stdout.write(f"  {left:<{width}}  {right}")


@contextmanager
def _quick_commits() -> Iterator[None]:
    """On SQLite, spare the wait for the disk at each of several hundred commits: a power cut loses demo data only."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            cursor.execute("PRAGMA synchronous=FULL")
