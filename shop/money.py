"""Money: rounding to a currency, splitting without losing a cent, and the value of the next units of a line."""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any

from babel.numbers import format_currency, get_currency_precision
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import get_language, to_locale
from django.utils.translation import gettext_lazy as _

ZERO = Decimal("0")


def money_field(verbose_name: Any = None, **kwargs: Any) -> "models.DecimalField[Any, Any]":
    """An amount. Its currency stands in a field beside it.

    Amounts are never computed by the database (SQLite would do it in floating point): lock, compute here, store.
    What only adds them up for a page lets it: `Sum(shop.sql.Thousandths(…))` is exact on both databases.
    """
    return models.DecimalField(verbose_name, **{"max_digits": 15, "decimal_places": 3, **kwargs})


def currency_field(verbose_name: Any = None, **kwargs: Any) -> "models.CharField[Any, Any]":
    """A currency's ISO 4217 code."""
    code = RegexValidator(r"^[A-Z]{3}\Z", _("Enter a currency code of three capital letters, such as EUR."))
    return models.CharField(verbose_name, **{"max_length": 3, "validators": [code], **kwargs})


@cache
def quantum(currency: str) -> Decimal:
    """The smallest amount of a currency: 0.01 for EUR, 1 for JPY, 0.001 for KWD."""
    return Decimal(1).scaleb(-get_currency_precision(currency))


def rounded(amount: Decimal, currency: str) -> Decimal:
    """The amount to the currency's smallest unit, halves away from zero, as people round."""
    return amount.quantize(quantum(currency), rounding=ROUND_HALF_UP)


def split(total: Decimal, weights: Sequence[Decimal | int], currency: str) -> list[Decimal]:
    """Split `total` in proportion to `weights` by largest remainder; the parts add up to it exactly.

    `total` is a multiple of the currency's quantum and may be negative; weights are not negative. Where all weights
    are zero the parts are as equal as can be. Ties go to the earlier part.
    """
    if not weights:
        if total:
            raise ValueError("nothing to split an amount over")
        return []
    if total < 0:
        return [-part for part in split(-total, weights, currency)]
    shares = [Decimal(w) for w in weights] if any(weights) else [Decimal(1)] * len(weights)
    unit, whole = quantum(currency), sum(shares)
    exact = [total * share / whole for share in shares]
    parts = [(part / unit).to_integral_value(ROUND_FLOOR) * unit for part in exact]
    left_over = int((total - sum(parts)) / unit)
    by_remainder = sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[:left_over]:
        parts[i] += unit
    return [rounded(part, currency) for part in parts]


def first_units(total: Decimal, quantity: int, count: int, currency: str) -> Decimal:
    """R(count): what the first `count` of a line's `quantity` units cost, if all of them cost `total`."""
    if not 0 <= count <= quantity:
        raise ValueError(f"{count} of {quantity} units")
    return rounded(total * count / quantity, currency)


def next_units(total: Decimal, quantity: int, taken: int, count: int, currency: str) -> Decimal:
    """R(taken + count) − R(taken): what the next `count` units cost, once `taken` have been accounted for.

    However a line is taken apart, the pieces add up to `total` to the cent.
    """
    return first_units(total, quantity, taken + count, currency) - first_units(total, quantity, taken, currency)


def shown(amount: Decimal, currency: str, language: str | None = None) -> str:
    """The amount as people of a language write it: €1,234.50."""
    locale = to_locale(language or get_language() or "en")
    return format_currency(rounded(amount, currency), currency, locale=locale)
