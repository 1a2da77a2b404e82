"""Template tags of the admin's pages: badges, money, how long ago, form fields, and details of a timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from shop import money as amounts
from shop.errors import Words

register = template.Library()


@register.simple_tag
def badge(status: str, label: Words) -> SafeString:
    """This will show a status as a badge: `{% badge order.status order.status_label %}`."""
    return format_html('<span class="badge" data-status="{}">{}</span>', status, label)


@register.filter
def money(amount: Decimal | None, currency: str) -> SafeString | str:
    """This will write an amount as the person's language does: `{{ order.total|money:order.currency }}`."""
    if amount is None or amount == "":
        return "–"
    return format_html('<span class="money">{}</span>', amounts.shown(Decimal(amount), currency))


@register.filter
def ago(at: datetime | None) -> SafeString | str:
    """This will say how long ago (or until when) in one unit; the exact time is a tooltip."""
    if at is None:
        return "–"
    now = timezone.now()
    if abs((now - at).total_seconds()) < 60:
        words = _("just now")
    elif at < now:
        words = _("%(time)s ago") % {"time": timesince(at, now, depth=1)}
    else:
        words = _("in %(time)s") % {"time": timesince(now, at, depth=1)}
    exact = date_format(timezone.localtime(at), "DATETIME_FORMAT")
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), exact, words)


@register.filter
def clock(at: datetime) -> str:
    """This will write a time of today as a time, any other with its day."""
    local = timezone.localtime(at)
    return date_format(local, "TIME_FORMAT" if local.date() == timezone.localdate() else "DATETIME_FORMAT")


@register.filter
def due(at: datetime | None) -> SafeString | str:
    """This will say until when something is to be done: "in 3 hours", or "overdue since 17:05", which stands out."""
    now = timezone.now()
    if at is None or at > now:
        return ago(at)
    exact = date_format(timezone.localtime(at), "DATETIME_FORMAT")
    words = _("overdue since %(time)s") % {"time": clock(at)}
    return format_html('<time class="desk-overdue" datetime="{}" title="{}">{}</time>', at.isoformat(), exact, words)


@register.filter
def pairs(details: Any) -> Iterator[tuple[str, Any]]:
    """This will make name and value of an entry's details for a list; what is empty is left out."""
    if isinstance(details, Mapping):
        for name, value in details.items():
            if value not in (None, "", [], {}):
                yield (
                    str(name).replace("_", " ").capitalize(),
                    ", ".join(map(str, value)) if isinstance(value, list) else value,
                )


@register.filter
def traits(attributes: Any) -> list[tuple[str, Any]]:
    """This will make name and value of a product's attributes: in a template, `.items` is the one that is called so."""
    return list(attributes.items()) if isinstance(attributes, Mapping) else []


@register.filter
def duration(seconds: int) -> str:
    """This will say a number of seconds in words: "3 minutes"; less than a minute is seconds."""
    if seconds < 60:
        return _("%(count)d s") % {"count": seconds}
    if seconds < 3600:
        return _("%(count)d min") % {"count": seconds // 60}
    return _("%(count)d h") % {"count": seconds // 3600}
