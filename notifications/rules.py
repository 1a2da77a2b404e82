"""Pure parts of notifications: which events are told, what a template may know, keys, languages, safe header lines."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop import money
from shop.errors import Refused, Words

LONGEST_CAUSE = 100
LONGEST_RECIPIENT = 254
LONGEST_SUBJECT = 200

Audience = Literal["customer", "staff"]


# ---------------------------------------------------------------------------------------------------------------
# What a template may know. Amounts are decimal strings without sign ("12.50"), days are ISO dates, times are ISO with
# their offset, and every text that people read is in their language already. Nothing in it is looked up later: it is a
# snapshot.


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


# ---------------------------------------------------------------------------------------------------------------
# Events


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an order, and that its customer or somebody of the staff is told.

    code      names the folder of its file templates: templates/messages/<code>/
    label     what staff call it
    shows     which of the event-specific names its context has
    audience  who is told; staff templates know an ApprovalContext, and nothing of the customer
    """

    code: str
    label: Words
    shows: frozenset[str] = frozenset()
    audience: Audience = "customer"


def _event(code: str, label: Words, shows: str = "", audience: Audience = "customer") -> tuple[str, Event]:
    return code, Event(code, label, frozenset(shows.split()), audience)


# A shop adds its own events here from its AppConfig.ready(), and the three files of each to its templates.
EVENTS: dict[str, Event] = dict(
    [
        _event("order_placed", gettext_lazy("Order placed")),
        _event("order_paid", gettext_lazy("Payment received"), "amount"),
        _event("payment_failed", gettext_lazy("Payment failed"), "amount"),
        _event("order_shipped", gettext_lazy("Shipped"), "units carrier tracking_number tracking_url"),
        _event("ready_for_pickup", gettext_lazy("Ready for pickup"), "units"),
        _event("order_delivered", gettext_lazy("Delivered"), "units"),
        _event("address_changed", gettext_lazy("Delivery address changed")),
        _event("address_change_requested", gettext_lazy("New address waits for an answer")),
        _event("address_change_rejected", gettext_lazy("New address rejected"), "reason"),
        _event("cancellation_requested", gettext_lazy("Cancellation requested"), "units reason"),
        _event("cancellation_rejected", gettext_lazy("Cancellation rejected"), "units reason"),
        _event("order_cancelled", gettext_lazy("Cancelled"), "units amount refund_destination reason not_refunded"),
        _event(
            "order_partly_cancelled",
            gettext_lazy("Partly cancelled"),
            "units amount refund_destination reason not_refunded",
        ),
        _event("orders_cancelled", gettext_lazy("Several orders cancelled"), "orders reason"),
        _event(
            "cancellation_confirmed",
            gettext_lazy("Cancelled as the customer asked"),
            "units amount refund_destination reason whole contact_channel contact_at",
        ),
        _event("cancellation_queued", gettext_lazy("Cancellation waits for maintenance"), "units reason"),
        _event("order_reinstated", gettext_lazy("Cancellation taken back"), "units whole amount pay_by"),
        _event("return_requested", gettext_lazy("Return requested"), "units reason"),
        _event("return_rejected", gettext_lazy("Return rejected"), "units reason"),
        _event(
            "return_approved",
            gettext_lazy("Return approved"),
            "units carrier return_code return_instructions pickup_date pickup_hours",
        ),
        _event("return_arrived", gettext_lazy("Return has arrived"), "units return_code"),
        _event(
            "units_returned", gettext_lazy("Return received"), "units amount refund_destination deduction not_refunded"
        ),
        _event(
            "withdrawal_received",
            gettext_lazy("Withdrawal received"),
            "units units_cancelled units_back units_asked declared_at stated_email stated_text return_code"
            " label_url send_back_by possible_until not_refunded",
        ),
        _event("recurring_ended", gettext_lazy("Recurring order ended"), "reason"),
        _event("order_refunded", gettext_lazy("Refunded"), "units amount refund_destination reason"),
        _event("approval_needed", gettext_lazy("Approval needed"), "deadline", "staff"),
        _event("approval_reminder", gettext_lazy("Reminder of an approval"), "deadline", "staff"),
        _event("approval_escalated", gettext_lazy("Approval passed on"), "deadline unanswered_by", "staff"),
        _event("approval_decided", gettext_lazy("Approval decided"), "decision decided_by note outcome", "staff"),
    ]
)


def event_of(code: str) -> Event:
    """This will find an event; ValueError names the events that exist."""
    try:
        return EVENTS[code]
    except KeyError:
        raise ValueError(f"no event {code!r}; there are: {', '.join(EVENTS)}") from None


def sample(event: Event) -> dict[str, Any]:
    """This will make up a context for previews and checks, in the active language.

    Names and products have characters that go wrong where escaping or encoding does.
    """
    return _sample_of_approval(event) if event.audience == "staff" else _sample_of_order(event)


def _sample_of_order(event: Event) -> dict[str, Any]:
    kettle, cups = _sample_of_goods()
    whole: dict[str, Any] = {
        "number": "1000042",
        "customer_name": "Zoë O’Neill-Weiß",
        "store": {"name": "Haus & Herd", "address": "Lange Straße 12\n10243 Berlin", "email": "hello@example.com"},
        "status_label": str(event.label),
        "placed_on": "2026-11-21",
        "currency": "EUR",
        "lines": [kettle, cups],
        "subtotal": "138.90",
        "discount": "10.00",
        "shipping": "4.90",
        "tax": "21.37",
        "total": "133.80",
        "shipping_address": ["Zoë O’Neill-Weiß", "Am Kanal 3", "10999 Berlin", _("Germany")],
        "payment": {"label": _("Credit card ending in 4242"), "status": _("Paid"), "instructions": ""},
        "order_url": "https://shop.example.com/orders/1000042",
    }
    extra = _sample_of_extras(kettle, cups)
    whole |= {name: extra[name] for name in extra if name in event.shows}
    if event.code in {"order_paid", "payment_failed", "order_cancelled"} or whole.get("whole"):
        whole["amount"] = whole["total"]
    if event.code in {"order_delivered", "order_cancelled", "cancellation_queued"} or whole.get("whole"):
        whole["units"] = [kettle, cups]
    if event.code in {"orders_cancelled", "cancellation_confirmed"}:
        whole["status_label"] = _("Cancelled")
    if event.code == "cancellation_queued":
        whole["status_label"] = _("Preparing")
    if event.code == "orders_cancelled":
        whole["number"] = whole["order_url"] = ""
    if event.code == "payment_failed":
        whole["payment"] |= {"status": _("Not paid")}
    if event.code == "order_reinstated":
        whole["payment"] = {"label": _("Bank transfer"), "instructions": "Haus & Herd\nDE02 1203 0000 0000 2020 51"}
    if event.code == "ready_for_pickup":
        whole["shipping_address"] = [whole["store"]["name"], *whole["store"]["address"].splitlines()]
    return whole


def _sample_of_goods() -> tuple[dict[str, Any], dict[str, Any]]:
    kettle = {"name": "Kettle “Ida” 1.7 l", "sku": "KET-17-GR", "quantity": 1, "unit_price": "89.00", "total": "89.00"}
    cups = {"name": "Cups & saucers <set of 4>", "sku": "CUP-4", "quantity": 2, "unit_price": "24.95", "total": "49.90"}
    return kettle, cups


def _sample_of_extras(kettle: dict[str, Any], cups: dict[str, Any]) -> dict[str, Any]:
    """The names that only some events have."""
    return {
        "units": [{**cups, "quantity": 1, "total": "24.95"}],
        "carrier": "DHL",
        "tracking_number": "00340434161094042557",
        "tracking_url": "https://carrier.example.com/track/00340434161094042557",
        "amount": "24.95",
        "refund_destination": _("Credit card ending in 4242"),
        "reason": _("No longer needed"),
        "whole": True,
        "contact_channel": _("Telephone"),
        "contact_at": "2026-11-21T14:30:00+00:00",
        "pay_by": "2026-11-24T14:30:00+00:00",
        "return_instructions": _("Put the code into the parcel <in large letters> & hand it to the driver."),
        "pickup_date": "2026-11-26",
        "pickup_hours": "9–12",
        "deduction": "4.90",
        "not_refunded": _("Express: €5.00 more than the standard delivery is not refunded."),
        "declared_at": "2026-11-21T14:30:05+00:00",
        "stated_email": "zoe@example.com",
        "stated_text": "Die Tassen <Set> passen nicht & der Kessel auch.",
        "units_cancelled": [kettle],
        "units_back": [{**cups, "quantity": 1, "total": "24.95"}],
        "units_asked": [{**cups, "quantity": 1, "total": "24.95"}],
        "send_back_by": "2026-12-05",
        "possible_until": "2026-11-20",
        "return_code": "R7K2M9QXA",
        "label_url": "https://shop.example.com/orders/returns/label/R7K2M9QXA:sample/",
        "orders": [
            {
                "number": "1000042",
                "placed_on": "2026-11-21",
                "currency": "EUR",
                "units": [kettle, cups],
                "amount": "133.80",
                "refund_destination": _("Credit card ending in 4242"),
            },
            {
                "number": "1000057",
                "placed_on": "2026-11-22",
                "currency": "EUR",
                "units": [cups],
                "amount": "49.90",
                "refund_destination": _("Credit card ending in 4242"),
            },
        ],
    }


def _sample_of_approval(event: Event) -> dict[str, Any]:
    amount = money.shown(Decimal("133.80"), "EUR")
    whole: dict[str, Any] = {
        "approver_name": "Jürgen Şahin",
        "requester_name": "Amélie D’Souza",
        "number": "1000042",
        "order_count": 1,
        "store": {"name": "Haus & Herd", "address": "", "email": ""},
        "stage": _("Preparing"),
        "reason": _("Out of stock"),
        "justification": _("The last kettle <Ida> is broken & cannot be ordered again."),
        "value": amount,
        "refund": amount,
        "policies": [_("Being prepared"), _("More than %(amount)s") % {"amount": money.shown(Decimal(100), "EUR")}],
        "url": "https://shop.example.com/admin/orders/approval/17/change/",
    }
    extra: dict[str, Any] = {
        "deadline": "2026-11-21T18:30:00+00:00",
        "unanswered_by": _("Store managers"),
        "decision": "approved",
        "decided_by": whole["approver_name"],
        "note": _("Fine. Please offer another kettle."),
        "outcome": _("The order has been cancelled, and the refund is on its way."),
    }
    return whole | {name: extra[name] for name in extra if name in event.shows}


# ---------------------------------------------------------------------------------------------------------------
# Keys, languages, headers


def key_of(*, event: str, cause: str, recipient: str) -> str:
    """This will name a message: the same event of the same cause is told to the same address once.

    `cause` names the row that caused it, with its order: "order:17", "shipping_event:88".
    """
    if not cause or len(cause) > LONGEST_CAUSE:
        raise ValueError(f"a cause has 1 to {LONGEST_CAUSE} characters, such as 'order:17': {cause!r}")
    return f"{event}:{cause}:{recipient.casefold()}"


def language_of(wanted: str, *, offered: Sequence[str], default: str) -> str:
    """This will choose the offered language nearest to the wanted one: de-AT → de, unknown → the default."""
    code = (wanted or "").lower().replace("_", "-")
    return next((one for one in (code, code.split("-")[0]) if one in offered), default)


def one_line(text: object) -> str:
    """This will make a text fit for a mail header: one line, nothing invisible in it. Line breaks would add headers."""
    visible = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in str(text))
    return " ".join(visible.split())


def tidy(text: str) -> str:
    """This will take the empty lines out of a plain text that a template's unused parts leave behind."""
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    # Mail programs know a signature by "-- " with its space.
    return re.sub(r"\n{3,}", "\n\n", lines).replace("\n--\n", "\n-- \n") + "\n"


class ForbiddenTag(Refused):
    code = "template_tag_forbidden"
    http_status = 400
    message = gettext_lazy("Line %(line)d: {%% %(tag)s %%} may not be used in a message template.")


# What a template written by staff may not do: reach the database, the settings or pages outside messages/.
_TAG = re.compile(r"{%-?\s*(\w+)\s*(.*?)%}")
_FORBIDDEN = {"load", "debug", "url", "csrf_token"}
_LIMITED = {"extends", "include"}


def check_tags(source: str) -> None:
    """This will raise ForbiddenTag where a template of staff uses a tag that reaches further than its context."""
    for number, line in enumerate(source.splitlines(), start=1):
        for tag, rest in _TAG.findall(line):
            outside = tag in _LIMITED and not rest.startswith(('"messages/', "'messages/"))
            if tag in _FORBIDDEN or outside or (tag in _LIMITED and ".." in rest):
                raise ForbiddenTag(params={"line": number, "tag": f"{tag} {rest}".strip()})


# ---------------------------------------------------------------------------------------------------------------
# Webhooks: what other systems may ask to be told of orders, and how long the desk tries.

WEBHOOK_TEST = "webhook.test"
WEBHOOK_EVENTS: Mapping[str, Words] = {
    "order.placed": gettext_lazy("An order was placed"),
    "order.status_changed": gettext_lazy("An order’s status changed"),
    "order.cancelled": gettext_lazy("Units of an order were cancelled, some or all"),
    "order.shipped": gettext_lazy("Units were shipped"),
    "order.delivered": gettext_lazy("Units arrived"),
    "order.returned": gettext_lazy("Units came back"),
    "order.refunded": gettext_lazy("A refund was decided"),
    "order.changed": gettext_lazy("Anything else happened to an order"),
}

# Seconds after the first, second, … failed attempt: a good three days together.
WEBHOOK_SCHEDULE = (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
