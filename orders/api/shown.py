"""An order as its customer sees it: rows put together with what may be done about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils.functional import Promise

from orders.models import (
    CancellationRequest,
    Order,
    OrderAddress,
    OrderDiscount,
    OrderLine,
    ReturnCarrier,
    ShippingEventQuantity,
    Status,
    status_code,
    status_label,
)
from orders.processing import get_event_handler
from orders.rules import Flags, Rulebook, flags, pending_lines
from shop.actors import Actor
from shop.countries import country_name, locale


@dataclass(frozen=True, slots=True)
class ShownLine:
    order: Order
    line: OrderLine
    flags: Flags
    requests: list[CancellationRequest]
    parcels: list[ShippingEventQuantity]
    carriers: Iterable[ReturnCarrier]

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


def shown(order: Order, *, book: Rulebook, as_of: datetime) -> ShownOrder:
    """This will put together what is shown of an order that was read by `orders_of`; it asks the database nothing."""
    # The shop's own handler, so that nothing is offered that it would refuse.
    policy = get_event_handler(Actor.system()).knowing(book).cancel_policy(order)
    lines = list(order.lines.all())
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
                book.carriers,
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
    """Name or code as ORDER_STATUS_STYLE says; a status without a code keeps its name."""
    code = status_code(status) if settings.ORDER_STATUS_STYLE == "code" else 0
    return labelled(str(code) if code else status, status_label(status))


def currency_of(code: str) -> Labelled:
    return labelled(code, locale().currencies.get(code, code))


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
        "country": {"pk": _country_number(code), "name": country_name(code), "code": code},
        "phone_number": one.phone,
    }


def _country_number(code: str) -> int:
    """The two letters read as a number of base 36: one country, one number, without a table."""
    return int(code, 36) if code.isascii() and code.isalnum() else 0
