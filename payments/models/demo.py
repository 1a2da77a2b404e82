"""The demo gateway's books: an outside system that happens to live in this database. payments.gateways writes it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from payments.models.money import Transaction
from shop.money import currency_field, money_field


class DemoGatewayEntry(models.Model):
    """One line of the demo gateway's books: what it did under a key."""

    class Status(models.TextChoices):
        SUCCEEDED = "succeeded", _("Succeeded")
        PENDING = "pending", _("Pending")
        DECLINED = "declined", _("Declined")

    operation = models.CharField(_("operation"), max_length=10, choices=Transaction.Kind)
    key = models.CharField(_("key"), max_length=64, unique=True)
    payment_key = models.CharField(max_length=64, blank=True, db_index=True, help_text="key of the authorisation")
    amount = money_field(_("amount"))
    currency = currency_field(_("currency"))
    status = models.CharField(_("status"), max_length=10, choices=Status)
    becomes = models.CharField(_("becomes"), max_length=10, choices=Status, blank=True)
    becomes_at = models.DateTimeField(_("from"), null=True, blank=True)
    reference = models.CharField(_("reference"), max_length=64, db_index=True)
    merchant_reference = models.CharField(_("the shop's reference"), max_length=40, blank=True)
    message = models.CharField(_("message"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("entry of the demo gateway")
        verbose_name_plural = _("entries of the demo gateway")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.reference

    @property
    def status_now(self) -> str:
        """The status, with what has become of it by now."""
        return self.becomes if self.becomes_at and self.becomes_at <= timezone.now() else self.status


class DemoGatewayFault(models.Model):
    """Something the demo gateway will do wrong, the next so many times."""

    class Operation(models.TextChoices):
        ANY = "any", _("Any but look-ups")
        AUTHORIZE = "authorize", _("Authorisation")
        CAPTURE = "capture", _("Capture")
        VOID = "void", _("Void")
        REFUND = "refund", _("Refund")
        LOOKUP = "lookup", _("Look-up")

    class Behaviour(models.TextChoices):
        DECLINE = "decline", _("Declines")
        TIMEOUT_BEFORE = "timeout_before", _("Does not answer, and does not do it")
        TIMEOUT_AFTER = "timeout_after", _("Does it, but does not answer")
        ANSWER_TWICE = "answer_twice", _("Gets the request twice")
        FAIL_LATE = "fail_late", _("Says yes, takes it back later")
        PENDING = "pending", _("Answers later")
        UNAVAILABLE = "unavailable", _("Is not there")
        SLOW = "slow", _("Is slow")

    operation = models.CharField(_("operation"), max_length=10, choices=Operation, default=Operation.ANY)
    behaviour = models.CharField(_("what goes wrong"), max_length=15, choices=Behaviour)
    remaining = models.PositiveIntegerField(_("how often"), default=1)
    seconds = models.PositiveSmallIntegerField(
        _("seconds"), default=0, help_text=_("How slow; or after how long it answers or takes it back.")
    )

    class Meta:
        verbose_name = _("fault of the demo gateway")
        verbose_name_plural = _("faults of the demo gateway")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.get_operation_display()}: {self.get_behaviour_display()} × {self.remaining}"
