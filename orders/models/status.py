"""The names, codes and labels of order and line statuses, and of cancellation requests."""

from collections.abc import Sequence
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
    """The workflow mixins that a setting names, in their order: bases for `class Order(*workflows(…), BaseOrder)`."""
    found = []
    for path in getattr(settings, setting):
        try:
            found.append(import_string(path))
        except ImportError as error:
            raise ImproperlyConfigured(f"{setting} names {path!r}, which cannot be imported: {error}") from error
    return found


def status_label(status: str) -> Any:
    """The label of a status, also of one that a shop's own workflow added (there: its name in words)."""
    try:
        return Status(status).label
    except ValueError:
        return status.replace("_", " ").capitalize()
