"""Withdrawals from a contract, as consumers in the EU may declare them: what was stated, when, and what followed."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from orders.models.cancellation import CancellationRequest
from orders.models.events import ShippingEvent
from orders.models.returns import Return
from shop.money import money_field


class Withdrawal(models.Model):
    """One declaration (directive 2011/83/EU, article 11a). What was stated never changes; what became of it is added.

    A declaration that matches no order is one all the same: it is kept and confirmed, and a person looks for the order.
    """

    class Status(models.TextChoices):
        RECEIVED = "received", _("Received")
        CARRIED_OUT = "carried_out", _("Carried out")
        NEEDS_PERSON = "needs_person", _("Needs a person")
        ANSWERED = "answered", _("Answered by a person")

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # The statement that was confirmed: the same one twice is one withdrawal.
    key = models.CharField(max_length=40, unique=True, editable=False)
    order = models.ForeignKey(
        "orders.Order", models.PROTECT, null=True, blank=True, related_name="withdrawals", verbose_name=_("order")
    )

    # As it was stated.
    name = models.CharField(_("name"), max_length=200)
    number = models.CharField(_("contract"), max_length=64, help_text=_("The order number as it was typed."))
    email = models.EmailField(_("receipt to"))
    text = models.TextField(_("message"), blank=True)
    language = models.CharField(_("language"), max_length=10, default=settings.LANGUAGE_CODE)
    # Line id → units; None: everything.
    lines = models.JSONField(null=True)
    declared_at = models.DateTimeField(_("declared"), db_index=True)

    # As it was found. No deadline: the time had not begun to run. in_time None: not known, for no order matched.
    deadline = models.DateTimeField(_("possible until"), null=True, blank=True)
    in_time = models.BooleanField(_("in time"), null=True)
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.RECEIVED)
    # What became of the units: "cancel", "back", "ask", "left", "gone", each line id → units.
    result = models.JSONField(default=dict, blank=True)
    # What a dearer delivery cost more than the standard one: foreseen when it was carried out, not refunded.
    shipping_kept = money_field(_("dearer delivery, not refunded"), default=0)
    problem = models.TextField(_("why a person is needed"), blank=True)
    event = models.ForeignKey(
        ShippingEvent, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("cancelled with")
    )
    goods_return = models.ForeignKey(
        Return, models.PROTECT, null=True, blank=True, related_name="withdrawals", verbose_name=_("return")
    )
    requests = models.ManyToManyField(CancellationRequest, related_name="withdrawals", verbose_name=_("requests"))
    answered_at = models.DateTimeField(_("answered"), null=True, blank=True)
    answered_by = models.CharField(_("answered by"), max_length=200, blank=True)
    answer = models.TextField(_("answer"), blank=True)

    class Meta:
        verbose_name = _("withdrawal")
        verbose_name_plural = _("withdrawals")
        ordering = ["-pk"]
        default_permissions = ("view",)
        indexes = [
            models.Index(Upper("email"), "declared_at", name="withdrawal_by_email"),
            models.Index(fields=["number"], name="withdrawal_number"),
            models.Index(
                fields=["declared_at"],
                name="withdrawal_open",
                condition=Q(status__in=["received", "needs_person"]),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="withdrawal_carried_out_of_order", condition=~Q(status="carried_out") | Q(order__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.number} · {self.name}"

    def units_of(self, *kinds: str) -> dict[int, int]:
        """Line id → units of the result's parts, added up."""
        found: dict[int, int] = {}
        for kind in kinds:
            for line_id, units in self.result.get(kind, {}).items():
                found[int(line_id)] = found.get(int(line_id), 0) + units
        return found
