"""System checks of the shop's workflows and handler: what is misspelt is refused at start, not met in production."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from orders.models import Order, Status
from orders.models.status import workflows


@register
def check_workflows(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse unknown, unreachable, duplicate and ambiguous transitions."""
    transitions = list(Order(status=Status.NEW).get_all_status_transitions())
    return [
        *_stars(transitions),
        *_unknown(transitions),
        *_unreachable(transitions),
        *_ambiguous(transitions),
        *_duplicates(),
    ]


def _known() -> set[str]:
    """The desk's statuses and those that a shop's workflow declares in its `statuses`."""
    extra = {status for mixin in workflows("ORDER_WORKFLOWS") for status in getattr(mixin, "statuses", ())}
    return {str(status) for status in Status} | extra


def _stars(transitions: list[Any]) -> list[CheckMessage]:
    return [
        Error(f"Transition {t.name} starts from any status.", hint="List its sources.", id="orders.E001")
        for t in transitions
        if t.source in {"*", "+"}
    ]


def _unknown(transitions: list[Any]) -> list[CheckMessage]:
    known = _known()
    found: list[CheckMessage] = []
    for t in transitions:
        for status in (t.source, t.target):
            if status not in known and status not in {"*", "+", None}:
                hint = "Correct it, or list it in the workflow mixin's `statuses`."
                found.append(
                    Error(f"Transition {t.name} names the unknown status {status!r}.", hint=hint, id="orders.E002")
                )
    return found


def _unreachable(transitions: list[Any]) -> list[CheckMessage]:
    reached, grown = {str(Status.NEW), str(Status.CREATED)}, True
    while grown:
        more = {str(t.target) for t in transitions if t.source in reached} - reached
        reached |= more
        grown = bool(more)
    lost = sorted({str(t.source) for t in transitions} - reached - {str(Status.CANCELLATION_WAITING)})
    return [Error(f"No transition leads to the status {status!r}.", id="orders.E003") for status in lost]


def _ambiguous(transitions: list[Any]) -> list[CheckMessage]:
    auto = Counter(str(t.source) for t in transitions if t.custom.get("auto"))
    found: list[CheckMessage] = [
        Error(
            f"Two automatic transitions start from {status!r}.",
            hint="Make it one, with one condition.",
            id="orders.E004",
        )
        for status, count in auto.items()
        if count > 1
    ]
    return found


def _duplicates() -> list[CheckMessage]:
    owners: dict[str, str] = {}
    found: list[CheckMessage] = []
    for mixin in workflows("ORDER_WORKFLOWS"):
        for name, value in vars(mixin).items():
            if not hasattr(value, "_django_fsm"):
                continue
            if name in owners:
                found.append(
                    Error(f"Transition {name} is in both {owners[name]} and {mixin.__name__}.", id="orders.E005")
                )
            owners[name] = mixin.__name__
    return found


@register
def check_handler(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an ORDER_EVENT_HANDLER that cannot be imported."""
    try:
        import_string(settings.ORDER_EVENT_HANDLER)
    except ImportError as error:
        return [Error(f"ORDER_EVENT_HANDLER: {error}", id="orders.E006")]
    return []


@register(deploy=True)
def check_mail_server(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of a desk that takes real orders and has nowhere to send their mails."""
    named = settings.EMAIL_HOST != "localhost" or not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend")
    if settings.DEMO or settings.DEBUG or named:
        return []
    return [Warning("EMAIL_URL is missing: mails go to a server on this machine.", id="orders.W002")]


@register(deploy=True)
def check_unpaid_deadline(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of a deadline so short that a bank transfer can never make it."""
    if settings.ORDER_UNPAID_AFTER_MINUTES < 30:
        return [Warning("ORDER_UNPAID_AFTER_MINUTES is below 30: customers have little time to pay.", id="orders.W001")]
    return []
