"""What is asked of the order management system, what it tells by itself, and addresses that wait for a person."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from orders.models.order import OrderAddress


class ByWhom(models.Model):
    """Who asked for it, and when."""

    actor_kind = models.CharField(max_length=10)
    actor_name = models.CharField(_("by"), max_length=200)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(_("asked"))

    class Meta:
        abstract = True


class AddressChange(ByWhom):
    """A customer's wish to have an order sent or billed elsewhere, where it is not done at once."""

    class Status(models.TextChoices):
        ASKED = "asked", _("The other system is being asked")
        WAITING = "waiting", _("Waiting for approval")
        DONE = "done", _("Changed")
        REJECTED = "rejected", _("Rejected")
        SUPERSEDED = "superseded", _("Replaced by a newer one")
        OVERTAKEN = "overtaken", _("Overtaken by events")

    OPEN: ClassVar[tuple[str, ...]] = ("asked", "waiting")

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="address_changes", verbose_name=_("order"))
    address = models.ForeignKey(OrderAddress, models.PROTECT, related_name="+", verbose_name=_("address"))
    shipping = models.BooleanField(_("shipping address"), default=True)
    billing = models.BooleanField(_("billing address"), default=False)
    status = models.CharField(_("status"), max_length=12, choices=Status)
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    decided_by = models.CharField(_("decided by"), max_length=200, blank=True)
    decision_note = models.TextField(_("answer"), blank=True)

    class Meta:
        verbose_name = _("address change")
        verbose_name_plural = _("address changes")
        ordering = ["-pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["order"], condition=Q(status__in=["asked", "waiting"]), name="address_change_one_open_per_order"
            ),
            models.CheckConstraint(name="address_change_of_something", condition=Q(shipping=True) | Q(billing=True)),
        ]
        indexes = [models.Index(fields=["created_at"], name="address_change_open", condition=Q(status="waiting"))]

    def __str__(self) -> str:
        return str(self.order)

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN


class ExternalCall(ByWhom):
    """One thing asked of the order management system, under one key for ever: the intent, and what came of it.

    origin  customer: asked first, and done here when they agree; desk: decided here, and reported afterwards
    """

    class Kind(models.TextChoices):
        CANCEL = "cancel", _("Cancel units")
        ADDRESS = "address", _("Change the address")

    class Origin(models.TextChoices):
        CUSTOMER = "customer", _("Asked for a customer")
        DESK = "desk", _("Reported by the desk")

    class Status(models.TextChoices):
        ASKED = "asked", _("Being asked")
        ACCEPTED = "accepted", _("Accepted, not confirmed yet")
        DONE = "done", _("Done")
        REFUSED = "refused", _("Refused")
        FAILED = "failed", _("Not reached")
        UNKNOWN = "unknown", _("Outcome unknown")
        DISPUTED = "disputed", _("Their answers contradict each other")

    # Nothing else happens to the units meanwhile.
    HOLDING: ClassVar[tuple[str, ...]] = ("asked", "accepted")
    UNDECIDED: ClassVar[tuple[str, ...]] = ("asked", "accepted", "unknown")

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False, help_text="the idempotency key")
    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="external_calls", verbose_name=_("order"))
    kind = models.CharField(_("what"), max_length=10, choices=Kind)
    origin = models.CharField(_("why"), max_length=10, choices=Origin)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.ASKED)
    # The request that it belongs to; a repetition of that finds this row.
    cause = models.CharField(max_length=150, unique=True, null=True, blank=True)
    # Line id → units.
    units = models.JSONField(default=dict)
    # Of a customer: each line with its reason and description, so that requests can be made of it; pictures beside.
    wishes = models.JSONField(default=list)
    pictures = models.JSONField(default=list)
    # Ids of the requests that were made instead.
    requests = models.JSONField(default=list)
    reason = models.CharField(_("reason"), max_length=50, blank=True)
    # The refund as points instead of money.
    as_points = models.BooleanField(default=False)
    note = models.TextField(_("note"), blank=True)
    address = models.ForeignKey(OrderAddress, models.PROTECT, null=True, blank=True, related_name="+")
    shipping = models.BooleanField(default=False)
    billing = models.BooleanField(default=False)
    change = models.ForeignKey(AddressChange, models.PROTECT, null=True, blank=True, related_name="calls")
    # One whose outcome has to be known before this is sent, or units could be cancelled twice over there.
    after = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="+")
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    reply = models.CharField(_("what they said"), max_length=500, blank=True)
    answered_at = models.DateTimeField(_("last answer"), null=True, blank=True)
    settled_at = models.DateTimeField(_("decided"), null=True, blank=True)

    class Meta:
        verbose_name = _("call of the order management system")
        verbose_name_plural = _("calls of the order management system")
        ordering = ["-pk"]
        default_permissions = ()  # an order's page shows them to whoever sees the order
        constraints = [
            # While one is being asked, a second wish is told so. What they accepted may wait for days: others go on.
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(kind="cancel", origin="customer", status="asked"),
                name="external_call_one_cancel_asked",
            ),
            models.CheckConstraint(
                name="external_call_about_something",
                condition=Q(kind="cancel", address=None) | Q(kind="address", address__isnull=False),
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                name="external_call_undecided",
                condition=Q(status__in=["asked", "accepted", "unknown"]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.order} {self.get_kind_display()}"

    @property
    def lines(self) -> dict[int, int]:
        """Line id → units."""
        return {int(pk): units for pk, units in self.units.items()}

    @property
    def is_decided(self) -> bool:
        return self.status not in self.UNDECIDED

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("Calls are never deleted: their key answers for what happened outside.")


class ExternalNotice(models.Model):
    """What the order management system told by itself: verified, kept as it came, then worked off. Each once."""

    class Outcome(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DONE = "done", _("Done")
        IGNORED = "ignored", _("Ignored")

    event_id = models.CharField(_("event"), max_length=200, unique=True)
    type = models.CharField(_("kind"), max_length=100)
    body = models.JSONField(_("body"), default=dict)
    reference = models.CharField(_("order"), max_length=40, blank=True, db_index=True)
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome, default=Outcome.WAITING)
    told = models.CharField(_("what became of it"), max_length=500, blank=True)
    received_at = models.DateTimeField(_("received"))
    processed_at = models.DateTimeField(_("processed"), null=True, blank=True)

    class Meta:
        verbose_name = _("notice of the order management system")
        verbose_name_plural = _("notices of the order management system")
        ordering = ["-pk"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.type} · {self.event_id}"

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("Notices are never deleted: without the row, one could be worked off again.")
