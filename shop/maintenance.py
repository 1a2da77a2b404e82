"""Maintenance: a period in which the desk changes nothing; cancellations are queued and worked off afterwards."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop.actors import Actor
from shop.errors import Invalid, Refused
from shop.models import Maintenance

RUN = "shop.run_maintenance"
# Where nobody has said when it ends: often enough to notice soon, seldom enough not to disturb the work.
RETRY_AFTER_SECONDS = 120


class UnderMaintenance(Refused):
    """Raise it with the period that is on: `raise UnderMaintenance(period)`."""

    code = "maintenance"
    http_status = 503

    def __init__(self, period: Maintenance) -> None:
        words = [_("The desk is under maintenance; this has to wait.")]
        self.retry_after = RETRY_AFTER_SECONDS
        left = (period.ends_at - timezone.now()).total_seconds() if period.ends_at else 0
        if period.ends_at and left > 0:
            words = [
                _("The desk is under maintenance until about %(end)s; this has to wait.")
                % {"end": shown(period.ends_at)}
            ]
            self.retry_after = int(left) + 1
        if period.message:
            words.append(period.message)
        # The message is somebody's own words and may hold a %: it is never a format.
        super().__init__("%(words)s", params={"words": " ".join(words)}, remedy=gettext_lazy("Try again afterwards."))


class AlreadyOn(Refused):
    code = "maintenance_on"
    message = gettext_lazy("Maintenance is on already.")


class NotOn(Refused):
    code = "maintenance_off"
    message = gettext_lazy("Maintenance is not on; somebody else may have ended it.")


class TooLong(Invalid):
    code = "too_long"
    message = gettext_lazy("The message may have %(most)d characters at the most.")


class EndIsPast(Invalid):
    code = "end_is_past"
    message = gettext_lazy("The expected end must be in the future.")


def current() -> Maintenance | None:
    """This will find the period that is on, if one is: one query on a partial index of one row."""
    return Maintenance.objects.filter(ended_at=None).first()


def start(*, actor: Actor, message: str = "", ends_at: datetime | None = None) -> Maintenance:
    """This will begin maintenance at once. Raises NotAllowed, AlreadyOn, TooLong or EndIsPast.

    message  shown to staff and customers
    ends_at  when it is expected to end, for people and for the API's Retry-After; nothing ends by itself
    """
    actor.require(RUN)
    now = timezone.now()
    if len(message) > Maintenance.LONGEST_MESSAGE:
        raise TooLong(field="message", params={"most": Maintenance.LONGEST_MESSAGE})
    if ends_at is not None and ends_at <= now:
        raise EndIsPast(field="ends_at")
    try:
        with transaction.atomic():
            return Maintenance.objects.create(
                started_at=now, started_by=actor.user, message=message.strip(), ends_at=ends_at
            )
    except IntegrityError:
        raise AlreadyOn from None


def end(*, actor: Actor) -> Maintenance:
    """This will end the maintenance that is on. Raises NotAllowed or NotOn."""
    actor.require(RUN)
    period = current()
    now = timezone.now()
    if period is None or not Maintenance.objects.filter(pk=period.pk, ended_at=None).update(
        ended_at=now, ended_by=actor.user
    ):
        raise NotOn
    period.ended_at, period.ended_by = now, actor.user
    return period


def shown(at: datetime) -> str:
    """This will write a time for people who may be elsewhere: with its time zone."""
    local = timezone.localtime(at)
    return f"{date_format(local, 'SHORT_DATETIME_FORMAT')} {local.tzname()}"
