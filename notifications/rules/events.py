"""The events that people are told of. A shop adds its own to EVENTS."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_lazy

from notifications.rules.contexts import Audience
from shop.errors import Words


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
