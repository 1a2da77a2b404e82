"""Where a refund goes, and whether a bank account can be one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.utils.translation import gettext_lazy as _

from shop.errors import Invalid


class IbanInvalid(Invalid):
    code = "iban_invalid"
    message = _("This is not an IBAN: check its letters and digits.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a refund goes, if not back the way it came.

    gateway       its code; empty: the original method
    consent       who agreed to it, how and when: credit needs it
    iban, holder  of the account that a person transfers it to; in no journal, log or plan
    """

    gateway: str = ""
    consent: str = ""
    iban: str = field(default="", repr=False)
    holder: str = field(default="", repr=False)

    @classmethod
    def of(cls, wanted: Destination | str) -> Destination:
        """A destination by its gateway's code, or as it is."""
        return cls(gateway=wanted) if isinstance(wanted, str) else wanted

    def __bool__(self) -> bool:
        return bool(self.gateway)


AS_PAID = Destination()
# How long a country's IBANs are, from the IBAN registry (ISO 13616). What is not here passes by its check digits.
IBAN_LENGTHS: Mapping[str, int] = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


def valid_iban(text: str) -> str:
    """This will tidy an IBAN (no spaces, capitals) and check its shape, its country's length and its check digits.

    Raises IbanInvalid. ISO 13616; the check is ISO 7064 MOD 97-10.
    """
    iban = re.sub(r"\s", "", text).upper()
    shaped = re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", iban)
    if not shaped or len(iban) != IBAN_LENGTHS.get(iban[:2], len(iban)):
        raise IbanInvalid(field="iban")
    number = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
    if int(number) % 97 != 1:
        raise IbanInvalid(field="iban")
    return iban


def masked_iban(iban: str) -> str:
    """The country and the last four of an IBAN: enough to recognise it, not enough to use it."""
    return f"{iban[:2]}•• •••• {iban[-4:]}" if iban else ""
