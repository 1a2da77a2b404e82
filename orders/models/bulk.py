"""Bulk runs: one cancellation for many orders, worked off by workers, with a row for what became of each."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from orders.models.cancellation import Cancellation, CancellationReason
from shop.models import Store


class BulkRun(models.Model):
    """Orders chosen to be cancelled together, with one reason and note."""

    class Status(models.TextChoices):
        WAITING_APPROVAL = "waiting_approval", _("Waiting for approval")
        RUNNING = "running", _("Running")
        PAUSED = "paused", _("Paused")
        STOPPED = "stopped", _("Stopped")
        FINISHED = "finished", _("Finished")

    # The page that started it, so that a double click starts one.
    once = models.UUIDField(unique=True, default=uuid.uuid4)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    status = models.CharField(_("status"), max_length=20, choices=Status)
    store = models.ForeignKey(
        Store,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: orders of several stores."),
    )
    reason = models.ForeignKey(CancellationReason, models.PROTECT, related_name="+", verbose_name=_("reason"))
    note = models.TextField(_("note"), blank=True)
    restock = models.BooleanField(_("back into stock"), default=True)
    refund = models.BooleanField(_("refund"), default=True)
    notify = models.BooleanField(_("tell the customers"), default=True)
    # Who asked the shop for it, where the reason wants to know; as in Cancellation.
    contact_name = models.CharField(_("asked for by"), max_length=200, blank=True)
    contact_channel = models.CharField(_("how"), max_length=20, choices=Cancellation.Channel, blank=True)
    contact_details = models.CharField(_("telephone number or address"), max_length=200, blank=True)
    contact_at = models.DateTimeField(_("asked for at"), null=True, blank=True)
    # What was shown before it began: orders, units, and by currency what they are worth and what goes back.
    totals = models.JSONField(default=dict)
    # After so many it pauses by itself and asks; None: it does not.
    try_first = models.PositiveIntegerField(_("try first"), null=True, blank=True)
    # Counts the times it was started: jobs of an earlier one find nothing to do.
    round = models.PositiveIntegerField(default=1)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("by"))
    created_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("bulk cancellation")
        verbose_name_plural = _("bulk cancellations")
        ordering = ["-pk"]
        permissions = [("cancel_in_bulk", "Can cancel many orders at once")]

    def __str__(self) -> str:
        return f"{self.reason} ({self.created_at:%Y-%m-%d %H:%M})"


class BulkItem(models.Model):
    """One order of a bulk run, and what became of it."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DONE = "done", _("Cancelled")
        REFUSED = "refused", _("Not possible")
        FAILED = "failed", _("Went wrong")
        SKIPPED = "skipped", _("Not done")

    AGAIN: ClassVar[tuple[str, ...]] = ("refused", "failed")

    run = models.ForeignKey(BulkRun, models.CASCADE, related_name="items", verbose_name=_("run"))
    position = models.PositiveIntegerField(_("position"))
    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="+", verbose_name=_("order"))
    version = models.PositiveIntegerField(help_text="the order's, when it was chosen")
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.WAITING)
    code = models.CharField(_("code"), max_length=50, blank=True)
    words = models.TextField(_("why"), blank=True)
    cancellation = models.ForeignKey(
        Cancellation, models.PROTECT, null=True, blank=True, related_name="bulk_items", verbose_name=_("cancellation")
    )
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    joint = models.BooleanField(default=False, help_text="its customer has several orders in the run")
    changed = models.BooleanField(default=False, help_text="it is not as it was when the run was agreed to")
    told = models.BooleanField(default=False, help_text="the customer's message is promised")

    class Meta:
        verbose_name = _("order of a bulk cancellation")
        verbose_name_plural = _("orders of bulk cancellations")
        ordering = ["run", "position"]
        constraints = [
            models.UniqueConstraint(fields=["run", "order"], name="bulk_item_order_once"),
            models.UniqueConstraint(fields=["run", "position"], name="bulk_item_position_once"),
        ]
        indexes = [models.Index(fields=["run", "position"], name="bulk_item_waiting", condition=Q(state="waiting"))]

    def __str__(self) -> str:
        return f"{self.order}: {self.get_state_display()}"
