"""The figures of cancellations: what reports read, so that they ask nothing of the orders."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from orders.models.cancellation import Cancellation, CancellationReason
from shop.models import Store
from shop.money import currency_field, money_field


class CancellationFigure(models.Model):
    """What a report wants to know of one cancellation. orders.processing.figures writes it, from the books alone.

    Nothing else reads or writes these rows: they can be counted again at any time.
    """

    class Refund(models.TextChoices):
        NONE = "none", _("None")
        OPEN = "open", _("On its way")
        ARRIVED = "arrived", _("Arrived")
        FAILED = "failed", _("Failed")

    # Units are cancelled in these; in the others they are not yet, or never were, or are not any more.
    TOOK_EFFECT: ClassVar[tuple[str, ...]] = ("pending", "done")

    cancellation = models.OneToOneField(
        Cancellation, models.CASCADE, primary_key=True, related_name="figure", verbose_name=_("cancellation")
    )
    number = models.CharField(_("order"), max_length=20)
    store = models.ForeignKey(Store, models.CASCADE, related_name="+", verbose_name=_("store"))
    at = models.DateTimeField(_("at"), help_text="when the units were cancelled; until then, when it was asked for")
    day = models.DateField(_("day"), help_text="of `at`, in the desk's time zone")
    placed_day = models.DateField(_("placed"), help_text="of the order, in the desk's time zone")
    outcome = models.CharField(_("outcome"), max_length=20, choices=Cancellation.Status)
    reason_code = models.CharField(_("reason"), max_length=50, blank=True)
    category = models.CharField(_("reason category"), max_length=30, choices=CancellationReason.Category, blank=True)
    stage = models.CharField(_("status before"), max_length=50)
    actor_kind = models.CharField(_("asked by"), max_length=10)
    staff = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("staff")
    )
    staff_name = models.CharField(_("staff"), max_length=200, blank=True)
    currency = currency_field(_("currency"))
    value = money_field(_("value"))
    units = models.PositiveIntegerField(_("units"))
    ends_order = models.BooleanField(_("the whole order"))
    refund = models.CharField(_("refund"), max_length=10, choices=Refund, default=Refund.NONE)
    refunded = money_field(_("amount refunded"), default=0)
    refund_seconds = models.PositiveIntegerField(
        _("refund time (seconds)"), null=True, blank=True, help_text="from the decision until the money arrived"
    )
    approval_seconds = models.PositiveIntegerField(
        _("approval time (seconds)"), null=True, blank=True, help_text="from asking until the answer"
    )
    is_open = models.BooleanField(help_text="something about it may still change: it is looked at again")

    class Meta:
        verbose_name = _("cancellation in figures")
        verbose_name_plural = _("cancellations: figures")
        ordering = ["-day", "-pk"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["day", "store"], name="cancel_figure_day"),
            models.Index(fields=["placed_day", "store"], name="cancel_figure_placed_day"),
            models.Index(fields=["cancellation"], name="cancel_figure_open", condition=Q(is_open=True)),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.get_outcome_display()}"


class FigureCursor(models.Model):
    """How far the cancellations have been counted. One row.

    counted_to  up to this id all are counted, and no transaction can still bring one
    seen        the highest id that was there at seen_at; a later run makes it counted_to
    """

    counted_to = models.BigIntegerField(default=0)
    seen = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.counted_to)
