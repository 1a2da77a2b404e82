"""The names, codes and labels of order and line statuses, and of cancellation requests."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    """Where an order or a line is. Which transitions exist between them: the workflows of ORDER_WORKFLOWS."""

    NEW = "new", _("New")
    CREATED = "created", _("Created")
    PAYMENT_WAITING = "payment_waiting", _("Payment awaited")
    CONFIRMATION_WAITING = "confirmation_waiting", _("Waiting for confirmation")
    APPROVED = "approved", _("Approved")
    PREPARING = "preparing", _("Preparing")
    SHIPPED = "shipped", _("Shipped")
    READY_FOR_PICKUP = "ready_for_pickup", _("Ready for pickup")
    DELIVERED = "delivered", _("Delivered")
    REFUNDED = "refunded", _("Refunded")
    CANCELLATION_WAITING = "cancellation_waiting", _("Cancellation requested")
    CANCELLED = "cancelled", _("Cancelled")


# The codes that storefronts of the contract expect (storefront contract, section 3).
STATUS_CODES: dict[str, int] = {
    Status.CANCELLATION_WAITING: 50,
    Status.CANCELLED: 100,
    Status.PAYMENT_WAITING: 300,
    Status.CONFIRMATION_WAITING: 350,
    Status.APPROVED: 400,
    Status.PREPARING: 450,
    Status.SHIPPED: 500,
    Status.READY_FOR_PICKUP: 520,
    Status.DELIVERED: 550,
    Status.REFUNDED: 600,
}


def workflows(setting: str) -> Sequence[Any]:
    """The workflow mixins that a setting names, in their order: bases for `class Order(*workflows(…), BaseOrder)`.

    Raises ImproperlyConfigured for what cannot be such a base: it is made before any system check can speak.
    """
    found: list[Any] = []
    for path in getattr(settings, setting):
        mixin = _workflow(setting, path)
        if mixin in found:
            raise ImproperlyConfigured(f"{setting} names {path!r} twice.")
        found.append(mixin)
    return found


def _workflow(setting: str, path: str) -> Any:
    try:
        mixin = import_string(path)
    except ImportError as error:
        words = f"{setting} names {path!r}, which cannot be imported: {error}"
        if "partially initialized" in str(error):
            words += (
                "\nA workflow's module is read before the order's model exists: it, and what it imports, may import"
                " orders.models.status and orders.workflows, but nothing else of the desk's models or processing."
            )
        raise ImproperlyConfigured(words) from error
    if not (isinstance(mixin, type) and issubclass(mixin, models.Model) and mixin._meta.abstract):
        words = "is not an abstract model: write `class …(models.Model)` with `class Meta: abstract = True`."
        raise ImproperlyConfigured(f"{setting} names {path!r}, which {words}")
    if isinstance(getattr(mixin, "statuses", ()), str):
        raise ImproperlyConfigured(f'{path}: `statuses` is a text; write {{"its_name": "preparing"}} or ("its_name",).')
    return mixin


@cache
def own_statuses() -> Mapping[str, str]:
    """The statuses that a shop's workflows add → the desk's status whose rules hold in them; "" where none do.

    A mixin says `statuses = {"checking": "preparing"}`, or `("checking",)` where no rule of the desk's is to hold.
    """
    found: dict[str, str] = {}
    for mixin in workflows("ORDER_WORKFLOWS"):
        named = getattr(mixin, "statuses", ())
        found |= named if isinstance(named, Mapping) else dict.fromkeys(named, "")
    return found


def rules_of(status: str) -> str:
    """The status whose rules hold in this one: itself, or for a shop's own the one that its workflow names."""
    return own_statuses().get(status) or status


def in_stages(*stages: str) -> list[str]:
    """These statuses, and those of the shop's own in which the rules of one of them hold: what a query looks for."""
    return [*map(str, stages), *(own for own, place in own_statuses().items() if place in stages)]


def status_code(status: str) -> int:
    """The contract's code; of a shop's own status, that of the status whose rules hold in it; else 0."""
    return STATUS_CODES.get(rules_of(status), 0)


def status_label(status: str) -> Any:
    """The label of a status, also of one that a shop's workflow added (its `labels`, or else its name in words)."""
    try:
        return Status(status).label
    except ValueError:
        return _own_labels().get(status) or status.replace("_", " ").capitalize()


@cache
def _own_labels() -> Mapping[str, Any]:
    return {k: v for mixin in workflows("ORDER_WORKFLOWS") for k, v in getattr(mixin, "labels", {}).items()}


def take_places(order_class: Any) -> None:
    """Let a shop's own statuses be left as the status is whose rules hold in them: shipped, cancelled, …

    What a workflow says itself of its status stands: a transition that starts there, or leads there, is left alone.
    """
    for t in list(order_class(status=Status.NEW).get_all_status_transitions()):
        meta = t.method._django_fsm
        for own, place in own_statuses().items():
            if place and t.source == place and t.target != own and own not in meta.transitions:
                meta.add_transition(t.method, own, t.target, t.on_error, t.conditions, t.permission, t.custom)
