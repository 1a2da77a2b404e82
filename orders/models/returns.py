"""Goods that come back: what may be sent back and how long, who fetches it, each return, what was found in it."""

from __future__ import annotations

import secrets
import uuid
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from orders.models.cancellation import CancellationRequest
from orders.models.events import ByActor, ShippingEvent
from orders.models.order import OrderAddress
from shop.models import AppendOnly, Store
from shop.money import currency_field, money_field

# Neither 0 and O, nor 1, I and L: a code is read out on the telephone and written on a parcel.
CODE_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
MAX_DAYS = 3650


def new_return_code() -> str:
    """Eight characters, not to be guessed and unlikely to be given out twice; the database makes sure."""
    return "R" + "".join(secrets.choice(CODE_LETTERS) for _place in range(8))


class ReturnPolicy(models.Model):
    """What may be sent back and for how long, from a day on. Of those in force when an order was placed, the newest.

    A store's own goes before the one for all stores. Without any: 30 days, no fee, a person decides.
    """

    store = models.ForeignKey(
        Store,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: all."),
    )
    valid_from = models.DateTimeField(
        _("for orders placed from"),
        default=timezone.now,
        help_text=_("Earlier orders keep the policy that they were placed under."),
    )
    return_days = models.PositiveIntegerField(
        _("days to send back"),
        null=True,
        blank=True,
        default=30,
        validators=[MaxValueValidator(MAX_DAYS)],
        help_text=_("After delivery. Empty: no limit. 0: nothing but what the law asks for."),
    )
    withdrawal_days = models.PositiveIntegerField(
        _("days to withdraw"),
        default=14,
        validators=[MinValueValidator(14), MaxValueValidator(MAX_DAYS)],
        help_text=_("From the contract, without a reason. In the EU at least 14 after the last delivery."),
    )
    fee = money_field(
        _("fee"),
        default=0,
        help_text=_("Kept of the refund of each return, unless the reason is the shop's fault or it is a withdrawal."),
    )
    currency = currency_field(
        _("currency of the fee"), default="EUR", help_text=_("Orders in other currencies pay no fee.")
    )
    approves_at_once = models.BooleanField(
        _("approved at once"), default=False, help_text=_("On: what is in time needs nobody's answer.")
    )
    needs_pickup = models.BooleanField(
        _("must be fetched"),
        default=False,
        help_text=_("On: customers have to choose a shipping company and a time for it to be fetched."),
    )

    class Meta:
        verbose_name = _("return policy")
        verbose_name_plural = _("return policies")
        ordering = ["store", "-valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["store", "valid_from"], name="return_policy_once", condition=Q(store__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["valid_from"], name="return_policy_everywhere_once", condition=Q(store__isnull=True)
            ),
            models.CheckConstraint(name="return_policy_fee", condition=Q(fee__gte=0)),
            models.CheckConstraint(name="return_policy_withdrawal", condition=Q(withdrawal_days__gte=14)),
        ]

    def __str__(self) -> str:
        return f"{self.store or _('everywhere')} · {self.valid_from:%Y-%m-%d}"

    def clean(self) -> None:
        if self.fee is not None and self.fee < Decimal(0):
            raise ValidationError({"fee": _("A fee cannot be negative.")})


class ReturnCarrier(models.Model):
    """A shipping company that brings goods back, the contract's “easy return shipping company”."""

    code = models.SlugField(_("code"), unique=True)
    name = models.CharField(_("name"), max_length=100)
    fetches = models.BooleanField(_("fetches at the door"), default=False)
    instructions = models.TextField(
        _("what the customer has to do"), blank=True, help_text=_("Such as where to hand the parcel in.")
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    is_active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("return shipping company")
        verbose_name_plural = _("return shipping companies")
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return self.name


class Return(models.Model):
    """One parcel that is to come back: its requests say what is in it, `code` stands on it.

    Statuses are those of its requests; here is only what is true of the parcel as a whole.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="returns", verbose_name=_("order"))
    code = models.CharField(_("return code"), max_length=12, unique=True, default=new_return_code)
    carrier = models.ForeignKey(
        ReturnCarrier, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("shipping company")
    )
    pickup_address = models.ForeignKey(
        OrderAddress, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("to be fetched at")
    )
    pickup_date = models.DateField(_("to be fetched on"), null=True, blank=True)
    pickup_from = models.CharField(_("from"), max_length=20, blank=True)
    pickup_until = models.CharField(_("until"), max_length=20, blank=True)
    # Asked for by law and not by the shop's grace: no fee, nobody's approval.
    is_withdrawal = models.BooleanField(_("withdrawal"), default=False)
    created_at = models.DateTimeField(_("asked"))
    # The latest arrival, where it comes in parts.
    received_at = models.DateTimeField(_("arrived"), null=True, blank=True)
    received_by = models.CharField(_("received by"), max_length=200, blank=True)
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True, help_text="all units are accounted for")

    class Meta:
        verbose_name = _("return")
        verbose_name_plural = _("returns")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["created_at"], name="return_awaited", condition=Q(closed_at=None)),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def pickup_hours(self) -> str:
        """From when until when it can be fetched, in the customer's words."""
        return "–".join(filter(None, [self.pickup_from, self.pickup_until]))


class Condition(models.TextChoices):
    """What a unit that was sent back turned out to be; the first three are stock's dispositions."""

    SELLABLE = "sellable", _("Sellable")
    QUARANTINE = "quarantine", _("To be inspected")
    DAMAGED = "damaged", _("Damaged")
    MISSING = "missing", _("Not in the parcel")


class Inspection(ByActor):
    """What was found of one request's units, append-only: so many of them, in this condition."""

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="inspections", verbose_name=_("order"))
    request = models.ForeignKey(
        CancellationRequest, models.PROTECT, related_name="inspections", verbose_name=_("request")
    )
    condition = models.CharField(_("condition"), max_length=20, choices=Condition)
    quantity = models.PositiveIntegerField(_("quantity"))
    note = models.TextField(_("note"), blank=True)
    # The return that it became; what was missing became none.
    event = models.ForeignKey(
        ShippingEvent, models.PROTECT, null=True, blank=True, related_name="inspections", verbose_name=_("event")
    )

    class Meta(ByActor.Meta):
        verbose_name = _("inspection")
        verbose_name_plural = _("inspections")
        constraints = [
            models.CheckConstraint(name="inspection_of_something", condition=Q(quantity__gt=0)),
            models.CheckConstraint(
                name="inspection_missing_is_no_event",
                condition=Q(condition="missing", event=None) | (~Q(condition="missing") & Q(event__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.get_condition_display()}"


class RequestPicture(AppendOnly):
    """A picture that a customer sent with a request, made anew from its pixels: nothing of the file itself is kept."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    request = models.ForeignKey(CancellationRequest, models.PROTECT, related_name="pictures")
    content = models.BinaryField()  # JPEG
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    created_at = models.DateTimeField(_("sent"))

    class Meta:
        verbose_name = _("picture of a request")
        verbose_name_plural = _("pictures of requests")
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.width} × {self.height}"

    @classmethod
    def without_content(cls) -> Any:
        """The rows for lists: pictures are large."""
        return cls._default_manager.defer("content")
