"""Bring the figures of cancellations up to date: `manage.py count_cancellations`, with --all from the beginning."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from orders.processing.figures import count_cancellations


class Command(BaseCommand):
    help = "Count new and changed cancellations for the page of figures, as the worker does every minute."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--all",
            action="store_true",
            help="all of them again, such as after the time zone or a reason's category has changed",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        written = count_cancellations(as_of=timezone.now(), everything=options["all"])
        self.stdout.write(self.style.SUCCESS(f"{written} figures were written."))
