"""Replay a real shop's history: `manage.py replay_orders online_retail.csv.gz`."""

import json
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_slug

from checkout.replay.doing import Replay, open_store, shipped_before
from checkout.replay.planning import plan
from checkout.replay.reading import read
from checkout.replay.report import report_of, table
from shop.errors import Refused

BAR = 30


class Command(BaseCommand):
    help = (
        "Replay a shop's invoices (CSV or CSV.gz in the layout of the UCI “Online Retail” data, with or without "
        "InvoiceDate) through the desk's own doors: goods are received, each invoice is placed, paid and shipped, "
        "credit invoices (C…) take units back with refund. No mail is sent to anybody, and no gateway is asked: "
        "payments and refunds are recorded as made by hand. It can be stopped at any time and run again; what is done "
        "is not done twice. Exits 1 where the books do not hold what the file says."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="a row a line; the first line names the columns")
        parser.add_argument("--store", default="replay", help="the store's code; opened if there is none")
        parser.add_argument("--open", type=int, default=0, metavar="N", help="leave the last N invoices unshipped")
        parser.add_argument("--encoding", default="utf-8", help="of the file (default: utf-8; older copies: latin-1)")
        parser.add_argument("--json", action="store_true", help="print the whole report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            validate_slug(options["store"])
        except ValidationError as no:
            raise CommandError(f"--store {options['store']}: {' '.join(no.messages)}") from no
        if len(options["store"]) > 40 or options["open"] < 0:
            raise CommandError("--store has at most 40 characters, and --open is not negative.")
        started = time.monotonic()
        try:
            reading = read(options["file"], encoding=options["encoding"])
            store = open_store(options["store"])
            planned = plan(reading, currency=store.currency, open_last=options["open"], shipped=shipped_before(store))
            replay = Replay(store, planned)
            replay.run(progress=self._bar(len(planned.steps), options["verbosity"]))
        except Refused as no:
            raise CommandError(str(no)) from no
        except KeyboardInterrupt:
            raise CommandError("Stopped. Run it again to go on from here.", returncode=130) from None
        seconds = time.monotonic() - started
        report = report_of(replay)
        if options["json"]:
            values = {**report.as_dict(), "seconds": round(seconds, 1)}
            self.stdout.write(json.dumps(values, indent=2, ensure_ascii=False))
        else:
            self.stdout.write(table(report))
            rate = len(planned.sales) / seconds if replay.done_now else 0
            self.stdout.write(f"\n{seconds:.1f} s" + (f", {rate:.1f} orders a second" if rate else ""))
        if not report.agrees:
            raise CommandError("The books do not hold what the file says; see the two columns and what was refused.")

    def _bar(self, total: int, verbosity: int) -> Any:
        """A progress bar on a terminal, nothing elsewhere."""
        if not self.stderr.isatty() or not total or not verbosity:
            return None
        started = shown = time.monotonic()

        def show(count: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.1 and count < total:
                return
            shown = now
            filled, left = BAR * count // total, (now - started) / count * (total - count)
            bar = "#" * filled + "." * (BAR - filled)
            sys.stderr.write(f"\r[{bar}] {count:,}/{total:,}  {int(left) // 60}:{int(left) % 60:02d} left ")
            if count == total:
                sys.stderr.write("\n")
            sys.stderr.flush()

        return show
