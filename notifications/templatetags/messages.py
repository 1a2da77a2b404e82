"""Filters of the message templates: money, days, times and web addresses in the language of the mail."""

from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from babel.dates import format_date, format_time
from django import template
from django.utils import timezone
from django.utils.translation import get_language, to_locale

from shop import money as kernel

register = template.Library()


@register.filter
def money(amount: object, currency: object) -> str:
    """This will write an amount ("12.50") as people of the active language do: `{{ total|money:currency }}`."""
    if amount in (None, ""):
        return ""
    try:
        return kernel.shown(Decimal(str(amount)), str(currency))
    except InvalidOperation:
        return str(amount)


@register.filter
def is_money(amount: object) -> bool:
    """This will tell whether there is an amount other than zero, to leave out lines such as "Discount 0.00"."""
    try:
        return bool(Decimal(str(amount)))
    except InvalidOperation:
        return False


@register.filter
def day(value: object) -> str:
    """This will write an ISO date ("2026-11-21") in the active language; anything else stays as it is."""
    try:
        return format_date(date.fromisoformat(str(value)[:10]), "long", locale=to_locale(get_language() or "en"))
    except ValueError:
        return str(value)


@register.filter
def moment(value: object) -> str:
    """This will write an ISO time with its offset as day and time of the shop's time zone; anything else stays."""
    try:
        local = timezone.localtime(datetime.fromisoformat(str(value)))
    except ValueError:
        return str(value)
    return f"{day(local.date())}, {format_time(local, 'short', locale=to_locale(get_language() or 'en'))}"


@register.filter
def instant(value: object) -> str:
    """This will write an ISO time with its offset to the second, with the shop's time zone; anything else stays."""
    try:
        local = timezone.localtime(datetime.fromisoformat(str(value)))
    except ValueError:
        return str(value)
    return f"{day(local.date())}, {local:%H:%M:%S} {local:%Z}"


@register.filter
def web(address: object) -> str:
    """This will let only web addresses through, so that no `javascript:` becomes a link."""
    text = str(address or "").strip()
    return text if text.lower().startswith(("https://", "http://")) else ""
