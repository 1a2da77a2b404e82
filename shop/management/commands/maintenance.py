"""Start or end maintenance: `manage.py maintenance on|off [--message WORDS] [--until TIME]`."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from shop import maintenance
from shop.actors import Actor
from shop.errors import Refused


class Command(BaseCommand):
    help = "Start or end maintenance: cancellations are queued meanwhile, other changes are refused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("state", choices=["on", "off"])
        parser.add_argument("--message", default="", help="shown to staff and customers")
        parser.add_argument("--until", help='when it is expected to end: "2026-03-14 18:30", in the desk\'s time zone')

    def handle(self, *args: Any, **options: Any) -> None:
        actor, message, until = Actor.system(), options["message"], options["until"]
        if options["state"] == "off" and (message or until):
            raise CommandError("--message and --until belong to: maintenance on")
        try:
            if options["state"] == "on":
                maintenance.start(actor=actor, message=message, ends_at=_time(until) if until else None)
            else:
                maintenance.end(actor=actor)
        except Refused as no:
            raise CommandError(str(no)) from no
        self.stdout.write(f"Maintenance is {options['state']}.")


def _time(text: str) -> datetime:
    try:
        at = parse_datetime(text)
    except ValueError:  # the right shape, but no such day or hour
        at = None
    if at is None:
        raise CommandError(f'--until {text!r} is not a time. Write it like "2026-03-14 18:30".')
    return at if timezone.is_aware(at) else timezone.make_aware(at)
