"""Work off due jobs without Celery: `manage.py drain_jobs [--forever]`."""

import gc
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from shop import jobs


class Command(BaseCommand):
    help = "Work off due jobs in this process, until none is left (or for ever, polling every second)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--forever", action="store_true", help="keep polling")

    def handle(self, *args: Any, **options: Any) -> None:
        # What is loaded by now stays: the collector need not go through all of it again and again.
        gc.freeze()
        attempts = jobs.drain(seconds=float("inf"))
        while options["forever"]:
            time.sleep(1)
            attempts = jobs.drain(seconds=float("inf"))
        self.stdout.write(f"{attempts} attempts made.")
