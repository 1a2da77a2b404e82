"""Recurring orders: what is ordered again and again, how often, and who changed that when."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from inventory.models import Product
from orders.models.cancellation import CancellationReason
from orders.models.order import CaptureMode, OrderAddress, OrderQuerySet
from shop.errors import NotFound
from shop.models import AppendOnly, Store
from shop.money import money_field


class RecurringNotFound(NotFound):
    code = "recurring_order_not_found"
    message = _("There is no such recurring order.")


class RecurringQuerySet(OrderQuerySet):
    """`of(actor)` as for orders: staff see their stores', customers their own."""

    def due(self, as_of: datetime) -> RecurringQuerySet:
        return self.filter(status="active", next_at__lte=as_of).order_by("next_at", "pk")


class RecurringOrder(models.Model):
    """A series of orders: the same goods to the same address, every so often, until somebody ends it.

    The first order is one that was placed in the usual way. Occurrences count the dates of the series from it
    (starts_at is the first's), so that one which is left out leaves a gap. Goods cost what they cost on the day;
    what shipping costs was agreed when the series began.
    """

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        PAUSED = "paused", _("Paused")
        ENDED = "ended", _("Ended")

    class Unit(models.TextChoices):
        DAY = "day", _("Days")
        WEEK = "week", _("Weeks")
        MONTH = "month", _("Months")

    # What its orders have from it, under the same names.
    COPIED: ClassVar[tuple[str, ...]] = (
        "customer",
        "customer_name",
        "email",
        "phone",
        "language",
        "channel",
        "shipping_method",
        "shipping_method_name",
        "is_pickup",
        "payment_method",
        "payment_method_name",
        "pays_on_delivery",
        "capture_mode",
        "shipping_address",
        "billing_address",
    )

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    store = models.ForeignKey(Store, models.PROTECT, related_name="+", verbose_name=_("store"))
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="recurring_orders",
        verbose_name=_("customer"),
    )
    customer_name = models.CharField(_("customer"), max_length=200, blank=True)
    email = models.EmailField(_("e-mail"), blank=True)
    phone = models.CharField(_("phone"), max_length=32, blank=True)
    language = models.CharField(_("language"), max_length=10)
    channel = models.CharField(_("channel"), max_length=30)

    shipping_method = models.CharField(_("shipping method"), max_length=50, blank=True)
    shipping_method_name = models.CharField(_("shipping method"), max_length=200, blank=True)
    shipping_price = money_field(_("shipping"), default=0)
    is_pickup = models.BooleanField(_("collected at the store"), default=False)
    shipping_address = models.ForeignKey(
        OrderAddress, models.PROTECT, null=True, related_name="+", verbose_name=_("shipping address")
    )
    billing_address = models.ForeignKey(
        OrderAddress, models.PROTECT, null=True, related_name="+", verbose_name=_("billing address")
    )
    payment_method = models.CharField(_("payment method"), max_length=50, blank=True)
    payment_method_name = models.CharField(_("payment method"), max_length=200, blank=True)
    pays_on_delivery = models.BooleanField(_("paid on delivery"), default=False)
    capture_mode = models.CharField(max_length=20, choices=CaptureMode, default=CaptureMode.BY_STAFF)
    gateway = models.CharField(_("gateway"), max_length=50)
    # As a payment's: the gateway's token and what staff may see of it. Never card data.
    payment_details = models.JSONField(default=dict, blank=True)
    extra = models.JSONField(default=dict, blank=True)

    unit = models.CharField(_("unit"), max_length=10, choices=Unit)
    every = models.PositiveSmallIntegerField(_("every"), validators=[MinValueValidator(1)])
    starts_at = models.DateTimeField(_("first order"))
    next_occurrence = models.PositiveIntegerField(default=2)
    next_at = models.DateTimeField(_("next order"))
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField(_("created"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    ended_by = models.CharField(_("ended by"), max_length=200, blank=True)
    ended_reason = models.ForeignKey(
        CancellationReason, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("reason")
    )

    objects = RecurringQuerySet.as_manager()

    class Meta:
        verbose_name = _("recurring order")
        verbose_name_plural = _("recurring orders")
        ordering = ["-pk"]
        permissions = [("manage_recurring", "Can start, pause and end recurring orders")]
        constraints = [
            models.CheckConstraint(name="recurring_every_positive", condition=Q(every__gte=1)),
            models.CheckConstraint(
                name="recurring_ended_at",
                condition=Q(status="ended", ended_at__isnull=False) | (~Q(status="ended") & Q(ended_at=None)),
            ),
        ]
        indexes = [
            models.Index(F("next_at"), name="recurring_due", condition=Q(status="active")),
            models.Index(Upper("email"), name="recurring_email"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}: {self.customer_name or self.email}, {self.rhythm}"

    @property
    def rhythm(self) -> str:
        """“every month”, “every 2 weeks”, in the active language."""
        words = {
            "day": ngettext("every day", "every %(n)d days", self.every),
            "week": ngettext("every week", "every %(n)d weeks", self.every),
            "month": ngettext("every month", "every %(n)d months", self.every),
        }
        words_of_unit = words[self.unit]
        return words_of_unit % {"n": self.every} if self.every != 1 else words_of_unit

    @property
    def is_active(self) -> bool:
        return self.status == self.Status.ACTIVE

    @property
    def is_ended(self) -> bool:
        return self.status == self.Status.ENDED


class RecurringItem(models.Model):
    """Units of one product in each order of a series."""

    recurring = models.ForeignKey(RecurringOrder, models.CASCADE, related_name="items", verbose_name=_("series"))
    position = models.PositiveSmallIntegerField(_("position"))
    product = models.ForeignKey(Product, models.SET_NULL, null=True, related_name="+", verbose_name=_("product"))
    # What to call it where the product is gone.
    name = models.CharField(_("name"), max_length=255)
    quantity = models.PositiveIntegerField(_("quantity"))

    class Meta:
        verbose_name = _("item of a recurring order")
        verbose_name_plural = _("items of recurring orders")
        ordering = ["recurring", "position"]
        constraints = [
            models.UniqueConstraint(fields=["recurring", "position"], name="recurring_item_position_once"),
            models.CheckConstraint(name="recurring_item_quantity", condition=Q(quantity__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.name}"


class RecurringChange(AppendOnly):
    """Who did what to a series, when and why."""

    class What(models.TextChoices):
        STARTED = "started", _("Started")
        PLACED = "placed", _("Order placed")
        SKIPPED = "skipped", _("Order left out")
        PAUSED = "paused", _("Paused")
        RESUMED = "resumed", _("Resumed")
        ENDED = "ended", _("Ended")

    recurring = models.ForeignKey(RecurringOrder, models.PROTECT, related_name="changes", verbose_name=_("series"))
    what = models.CharField(_("what"), max_length=10, choices=What)
    occurrence = models.PositiveIntegerField(_("number in the series"), null=True, blank=True)
    created_at = models.DateTimeField(_("at"))
    actor_kind = models.CharField(max_length=10)
    actor_name = models.CharField(_("by"), max_length=200)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("by")
    )
    reason = models.ForeignKey(
        CancellationReason, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("reason")
    )
    note = models.TextField(_("note"), blank=True)

    class Meta:
        verbose_name = _("change of a recurring order")
        verbose_name_plural = _("changes of recurring orders")
        ordering = ["pk"]

    def __str__(self) -> str:
        return str(self.get_what_display())
