"""Compare a gateway's books with ours: `manage.py reconcile <gateway>` exits 0, with differences 1, else 2."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from payments import services, tasks
from payments.gateways import GatewayTimeout, GatewayUnavailable
from shop.errors import Refused


class Command(BaseCommand):
    help = "Compare a gateway's list with our transactions, put right what is safe, and name what differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("gateway", help="its code, as in PAYMENT_GATEWAYS")
        parser.add_argument("--days", type=int, help="at least so far back (default: from the last run on)")
        parser.add_argument(
            "--new-account",
            action="store_true",
            help="the shop has another account at the gateway now: compare, however much is missing there",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        gateway = options["gateway"]
        try:
            # In this process, for as long as it takes; a worker that is at it already does no harm.
            run = services.reconciliation.start(
                gateway=gateway, as_of=timezone.now(), days=options["days"], by_worker=False
            )
            comparison = tasks.compare(run, seconds=None, new_account=options["new_account"])
            run = services.reconciliation.finish(comparison=comparison)
        except (Refused, GatewayTimeout, GatewayUnavailable) as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(
            f"{gateway}: {run.listed} movements since {run.since:%Y-%m-%d %H:%M} compared; {run.settled} put right, "
            f"{run.resolved} resolved, {run.found} new differences."
        )
        found = list(services.differences.open_ones(gateway=gateway).order_by("pk"))
        for row in found:
            self.stderr.write(self.style.ERROR(f"{row.reference or '–'}: {services.differences.task(difference=row)}"))
        if found:
            self.stderr.write(self.style.ERROR(f"{len(found)} differences."))
            sys.exit(1)
        self.stdout.write(self.style.SUCCESS("The books agree."))
