"""An order as its customer sees it: rows put together with what may be done about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from babel import Locale, UnknownLocaleError
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import get_language, to_locale

from orders.models import (
    STATUS_CODES,
    CancellationRequest,
    CancelRule,
    Order,
    OrderAddress,
    OrderDiscount,
    OrderLine,
    ShippingEventQuantity,
    Status,
    status_label,
)
from orders.rules import Flags, Policy, flags, pending_lines


@dataclass(frozen=True, slots=True)
class ShownLine:
    order: Order
    line: OrderLine
    flags: Flags
    requests: list[CancellationRequest]
    parcels: list[ShippingEventQuantity]

    @property
    def active_request(self) -> CancellationRequest | None:
        return next((request for request in self.requests if request.is_open), None)

    @property
    def parcel(self) -> ShippingEventQuantity | None:
        """The latest, the one a customer waits for."""
        return self.parcels[-1] if self.parcels else None

    @property
    def is_cancelled(self) -> bool:
        return self.line.status == Status.CANCELLED


@dataclass(frozen=True, slots=True)
class ShownOrder:
    order: Order
    lines: list[ShownLine]
    discounts: list[OrderDiscount]

    @property
    def is_cancelled(self) -> bool:
        return self.order.status == Status.CANCELLED

    @property
    def is_cancellable(self) -> bool:
        return any(line.flags.is_cancellable for line in self.lines)

    @property
    def is_refundable(self) -> bool:
        return not self.is_cancellable and any(line.flags.is_refundable for line in self.lines)


def shown(order: Order, *, cancel_rules: Sequence[CancelRule], as_of: datetime) -> ShownOrder:
    """This will put together what is shown of an order that was read by `orders_of`; it asks the database nothing."""
    policy, lines = Policy.of(order, cancel_rules), list(order.lines.all())
    requests = {line.pk: list(line.cancellation_requests.all()) for line in lines}
    pending = pending_lines(request for some in requests.values() for request in some)
    return ShownOrder(
        order,
        [
            ShownLine(
                order,
                line,
                flags(line, pending=pending, policy=policy, as_of=as_of),
                requests[line.pk],
                list(line.shipping_event_quantities.all()),
            )
            for line in lines
        ],
        list(order.discounts.all()),
    )


# ---------------------------------------------------------------------------------------------------------------
# The contract's small shapes

Labelled = dict[str, str]


def labelled(value: str, label: str | Promise) -> Labelled:
    return {"value": value, "label": str(label)}


def status_of(status: str) -> Labelled:
    """Name or code as ORDER_STATUS_STYLE says; a status that a shop added has no code and keeps its name."""
    by_code = settings.ORDER_STATUS_STYLE == "code" and status in STATUS_CODES
    return labelled(str(STATUS_CODES[status]) if by_code else status, status_label(status))


def _locale() -> Locale:
    try:
        return Locale.parse(to_locale(get_language() or "en"))
    except (UnknownLocaleError, ValueError):
        return Locale("en")


def currency_of(code: str) -> Labelled:
    return labelled(code, _locale().currencies.get(code, code))


def shipping_company_of(parcel: ShippingEventQuantity | None) -> Labelled:
    """Never null: the contract's storefront reads its label without looking."""
    carrier = parcel.event.carrier if parcel else ""
    return labelled(carrier, carrier)


def _place(name: str) -> dict[str, object]:
    """A city or the like. Addresses are free text here, so it has no entry of its own anywhere: 0."""
    return {"pk": 0, "name": name}


def address_of(address: OrderAddress | None) -> dict[str, object]:
    """The contract's address. An order without one (collected at the store) has an empty one, never null."""
    one = address or OrderAddress()
    code = one.country.upper()
    return {
        "pk": one.pk or 0,
        "title": one.title,
        "first_name": one.first_name,
        "last_name": one.last_name,
        "company_name": one.company,
        "line": ", ".join(filter(None, [one.line, one.line2])),
        "postcode": one.postcode,
        "district": _place(""),
        "township": _place(""),
        "city": _place(one.city),
        "state": one.state,
        "country": {"pk": _country_number(code), "name": _locale().territories.get(code, code), "code": code},
        "phone_number": one.phone,
    }


def _country_number(code: str) -> int:
    """The two letters read as a number of base 36: one country, one number, without a table."""
    return int(code, 36) if code.isascii() and code.isalnum() else 0
