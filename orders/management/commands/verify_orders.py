"""Prove the books: `manage.py verify_orders` exits 0 when every number adds up, 1 naming each row that does not."""

import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from orders.processing.verify import verify


class Command(BaseCommand):
    help = "Check units, stock, money and the journals' hash chains of every order. Writes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--at-most", type=int, default=100, help="stop after so many faults (default: 100)")

    def handle(self, *args: Any, **options: Any) -> None:
        started, checked, faults = time.monotonic(), 0, 0

        def count(orders: int) -> None:
            nonlocal checked
            checked += orders

        for words in verify(progress=count):
            self.stderr.write(self.style.ERROR(words))
            faults += 1
            if faults >= options["at_most"]:
                self.stderr.write(f"Stopped after {faults} faults.")
                break
        seconds = time.monotonic() - started
        if faults:
            self.stderr.write(self.style.ERROR(f"{faults} faults."))
            sys.exit(1)
        self.stdout.write(
            self.style.SUCCESS(f"{checked} orders: units, stock, money and journals add up ({seconds:.1f} s).")
        )
