"""What a template may know: the contexts of messages, and what stands in for what a caller left out.

Amounts are decimal strings without sign ("12.50"), days are ISO dates, times are ISO with their offset, and every text
that people read is in their language already. Nothing in it is looked up later: it is a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

Audience = Literal["customer", "staff"]


class StoreContext(TypedDict):
    name: str
    address: str  # may have several lines
    email: str


class LineContext(TypedDict):
    name: str
    sku: str
    quantity: int
    unit_price: str
    total: str
    image: NotRequired[str]  # absolute web address


class UnitsContext(TypedDict):
    """Some units of a line: the ones that an event is about."""

    name: str
    sku: str
    quantity: int
    total: NotRequired[str]
    image: NotRequired[str]


class PaymentContext(TypedDict, total=False):
    label: str  # "Credit card ending in 4242"
    status: str  # "Paid"
    instructions: str  # for transfers: where to pay to; may have several lines


class CancelledOrderContext(TypedDict):
    """One of several orders that a message tells of."""

    number: str
    placed_on: str
    currency: str
    units: Sequence[UnitsContext]
    amount: NotRequired[str]  # what goes back
    refund_destination: NotRequired[str]
    order_url: NotRequired[str]


class OrderContext(TypedDict):
    """What callers of `services.queue_message` hand over, and what every template may use."""

    number: str
    customer_name: str
    store: StoreContext
    status_label: str
    placed_on: str
    currency: str
    lines: Sequence[LineContext]
    subtotal: str
    discount: str
    shipping: str
    tax: str
    tax_included: NotRequired[bool]  # whether the prices contain the tax; without it they do
    total: str
    shipping_address: Sequence[str]
    payment: PaymentContext
    order_url: NotRequired[str]
    # Of single events:
    units: NotRequired[Sequence[UnitsContext]]  # shipped, ready, delivered, cancelled, returned or asked for
    carrier: NotRequired[str]
    tracking_number: NotRequired[str]
    tracking_url: NotRequired[str]
    amount: NotRequired[str]  # paid or refunded
    refund_destination: NotRequired[str]  # "Credit card ending in 4242"
    reason: NotRequired[str]
    whole: NotRequired[bool]  # whether it is about the whole order, not only about `units`
    contact_channel: NotRequired[str]  # how the customer asked for it: "Telephone"; empty where it has no name
    contact_at: NotRequired[str]
    pay_by: NotRequired[str]  # until when `amount` has to be paid
    return_code: NotRequired[str]  # what the customer writes on the parcel
    return_instructions: NotRequired[str]  # what to do with it; may have several lines
    pickup_date: NotRequired[str]
    pickup_hours: NotRequired[str]  # "9–12", in the customer's own words
    deduction: NotRequired[str]  # what is kept of the value of what came back
    not_refunded: NotRequired[str]  # what a dearer delivery cost more and is not given back, in a sentence
    # Of a withdrawal: what was stated and when, and what becomes of the units.
    declared_at: NotRequired[str]  # to the second
    stated_email: NotRequired[str]
    stated_text: NotRequired[str]
    units_cancelled: NotRequired[Sequence[UnitsContext]]
    units_back: NotRequired[Sequence[UnitsContext]]
    units_asked: NotRequired[Sequence[UnitsContext]]  # a person decides
    send_back_by: NotRequired[str]
    possible_until: NotRequired[str]  # where it was late: the last day in time
    nothing_left: NotRequired[bool]  # all of it had been cancelled or sent back before


class OrdersContext(TypedDict):
    """Several orders of one customer in one message."""

    customer_name: str
    store: StoreContext
    status_label: NotRequired[str]
    orders: Sequence[CancelledOrderContext]
    reason: NotRequired[str]


class ApprovalContext(TypedDict):
    """What staff are told of an approval. Nothing in it is about the customer: that stands on the page, behind a login.

    Amounts are texts with their currency, because a bulk run may have several.
    """

    approver_name: str  # who is to decide; empty where it was decided
    requester_name: str
    number: str  # the order's; empty for a bulk run
    order_count: int
    is_refund: NotRequired[bool]  # it is about a refund without goods, not a cancellation
    store: StoreContext  # only its name is shown; of no store: empty
    stage: str  # the order's status in words
    reason: str
    justification: NotRequired[str]
    value: str
    refund: NotRequired[str]  # empty: no money goes back
    policies: Sequence[str]  # why it is needed
    url: str  # the approval's page, absolute
    # Of single events:
    deadline: NotRequired[str]  # when it is passed on
    unanswered_by: NotRequired[str]  # who did not answer in time: people, or the name of their level
    decision: NotRequired[Literal["approved", "rejected"]]
    decided_by: NotRequired[str]
    note: NotRequired[str]
    outcome: NotRequired[str]  # what happened then, in a sentence


EMPTY: dict[str, Any] = {
    **dict.fromkeys(
        ("number", "customer_name", "status_label", "placed_on", "subtotal", "discount", "shipping", "tax"), ""
    ),
    **dict.fromkeys(("total", "order_url", "carrier", "tracking_number", "tracking_url", "amount"), ""),
    **dict.fromkeys(("refund_destination", "reason", "contact_channel", "contact_at", "pay_by"), ""),
    **dict.fromkeys(("pickup_date", "pickup_hours", "deduction", "not_refunded"), ""),
    **dict.fromkeys(("declared_at", "stated_email", "stated_text", "send_back_by", "possible_until"), ""),
    **dict.fromkeys(("return_code", "return_instructions", "label_url"), ""),
    "units_cancelled": [],
    "units_back": [],
    "units_asked": [],
    "nothing_left": False,
    "whole": False,
    "orders": [],
    "refund_totals": [],
    "currency": "EUR",
    "tax_included": True,
    "lines": [],
    "units": [],
    "shipping_address": [],
    "store": {"name": "", "address": "", "email": ""},
    "payment": {"label": "", "status": "", "instructions": ""},
}
EMPTY_FOR_STAFF: dict[str, Any] = {
    **dict.fromkeys(("approver_name", "requester_name", "number", "stage", "reason", "justification", "value"), ""),
    **dict.fromkeys(("refund", "url", "deadline", "unanswered_by", "decision", "decided_by", "note", "outcome"), ""),
    "order_count": 1,
    "is_refund": False,
    "policies": [],
    "store": {"name": "", "address": "", "email": ""},
}


def empty_of(audience: Audience) -> dict[str, Any]:
    """This will answer every name that a template for customers or for staff may use, each with an empty value."""
    return EMPTY_FOR_STAFF if audience == "staff" else EMPTY


def completed(context: Mapping[str, Any], *, audience: Audience = "customer") -> dict[str, Any]:
    """This will fill what a context leaves out with empty values, so that a template meets no unknown name."""
    empty = empty_of(audience)
    whole = {**empty, **context}
    for name in {"store", "payment"} & set(empty):
        whole[name] = {**empty[name], **(context.get(name) or {})}
    if audience == "customer":
        whole["refund_totals"] = refund_totals(whole["orders"])
    return whole


def refund_totals(orders: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """This will add up what goes back for several orders: one total for each currency in which there is any."""
    sums: dict[str, Decimal] = {}
    for order in orders:
        if amount := Decimal(order.get("amount") or 0):
            sums[order["currency"]] = sums.get(order["currency"], Decimal(0)) + amount
    return [{"currency": currency, "amount": str(total)} for currency, total in sums.items()]
