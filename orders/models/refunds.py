"""Where money that goes back goes to, what a refund without goods is for, and refunds that wait for somebody's yes."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from payments.rules import Destination, masked_iban
from shop.money import currency_field, money_field


class RefundKind(models.TextChoices):
    """What money is for that goes back without goods."""

    GOODWILL = "goodwill", _("Goodwill")
    SHIPPING = "shipping", _("Shipping costs")
    FEE = "fee", _("A fee or an overcharge")


class GivesBack(models.Model):
    """Base of what will give money back: where to. The bank account is kept for as long as it is still to be used."""

    # The statuses in which the money is still to be sent from here.
    WAITS_WITH_MONEY: ClassVar[tuple[str, ...]] = ()

    destination = models.CharField(_("refund goes to"), max_length=30, blank=True)
    consent = models.TextField(_("the customer's consent"), blank=True)
    bank_iban = models.CharField(_("IBAN"), max_length=34, blank=True)
    bank_holder = models.CharField(_("account holder"), max_length=100, blank=True)

    class Meta:
        abstract = True

    status: Any

    # What was masked a moment ago, for the decision that masks and sends in one.
    _in_hand: Destination | None = None

    @property
    def goes_to(self) -> Destination:
        return self._in_hand or Destination(
            gateway=self.destination, consent=self.consent, iban=self.bank_iban, holder=self.bank_holder
        )

    @goes_to.setter
    def goes_to(self, destination: Destination) -> None:
        self.destination, self.consent = destination.gateway, destination.consent
        self.bank_iban, self.bank_holder = destination.iban, destination.holder

    def forget_bank_details(self) -> bool:
        """Once it no longer waits, mask the bank account; the refund has it, for as long as that is open."""
        if self.status in self.WAITS_WITH_MONEY or not self.bank_holder:
            return False
        self._in_hand = self.goes_to
        self.bank_iban, self.bank_holder = masked_iban(self.bank_iban), ""
        return True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.forget_bank_details() and kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "bank_iban", "bank_holder"}
        super().save(*args, **kwargs)


class RefundRequest(GivesBack):
    """A refund without goods that somebody else has to agree to: what was asked for, and what became of it."""

    class Status(models.TextChoices):
        WAITING = "waiting_approval", _("Waiting for approval")
        DONE = "done", _("Refunded")
        REJECTED = "rejected", _("Rejected")
        WITHDRAWN = "withdrawn", _("Withdrawn")
        OUTDATED = "outdated", _("Overtaken by events")

    WAITS_WITH_MONEY = ("waiting_approval",)

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="refund_requests", verbose_name=_("order"))
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.WAITING)
    amount = money_field(_("amount"))
    currency = currency_field(_("currency"))
    kind = models.CharField(_("what for"), max_length=10, choices=RefundKind)
    note = models.TextField(_("reason"))
    plan = models.JSONField(default=dict)
    version = models.PositiveIntegerField(help_text="the order's, when it was asked for")
    cause = models.CharField(max_length=150, unique=True, null=True, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("asked for by")
    )
    requested_by_name = models.CharField(_("by"), max_length=200)
    created_at = models.DateTimeField(_("asked"))
    event = models.OneToOneField(
        "orders.PaymentEvent", models.PROTECT, null=True, blank=True, related_name="refund_request"
    )
    outcome = models.TextField(_("what became of it"), blank=True)

    class Meta:
        verbose_name = _("refund that waits for approval")
        verbose_name_plural = _("refunds that wait for approval")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                name="refund_request_done_has_event",
                condition=Q(status="done", event__isnull=False) | (~Q(status="done") & Q(event__isnull=True)),
            ),
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(status="waiting_approval"),
                name="refund_request_one_waiting_per_order",
            ),
            models.CheckConstraint(name="refund_request_of_something", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="refund_request_forgets_bank_details", condition=Q(status="waiting_approval") | Q(bank_holder="")
            ),
        ]

    def __str__(self) -> str:
        return str(self.order)

    def as_record(self) -> dict[str, str]:
        """What the journal keeps of it: no bank account."""
        return {
            "id": str(self.uuid),
            "amount": f"{self.amount:.3f}",
            "kind": self.kind,
            "destination": self.destination,
            "status": self.status,
        }
