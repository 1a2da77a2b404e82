"""What gateways tell by themselves: the webhooks that were received, and the disputes that customers opened."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from payments.models.money import NeverDeleted, Payment, Transaction
from shop.money import currency_field, money_field, shown


class WebhookReceived(models.Model):
    """A verified notice of a gateway, kept as it came and before anything is done about it."""

    class Outcome(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DONE = "done", _("Done")
        IGNORED = "ignored", _("Ignored")

    gateway = models.CharField(_("gateway"), max_length=30)
    event_id = models.CharField(_("event"), max_length=200)
    kind = models.CharField(_("kind"), max_length=100)
    body = models.JSONField(_("body"), default=dict)
    reference = models.CharField(_("reference"), max_length=40, blank=True, db_index=True)
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome, default=Outcome.WAITING)
    told = models.CharField(_("what became of it"), max_length=500, blank=True)
    replays = models.PositiveSmallIntegerField(_("processed again"), default=0)
    received_at = models.DateTimeField(_("received"))
    processed_at = models.DateTimeField(_("processed"), null=True, blank=True)

    class Meta:
        verbose_name = _("received webhook")
        verbose_name_plural = _("received webhooks")
        ordering = ["-id"]
        permissions = [("replay_webhookreceived", "Can process received webhooks again")]
        constraints = [
            models.UniqueConstraint(fields=["gateway", "event_id"], name="webhook_received_once"),
            models.CheckConstraint(
                name="webhook_processed_has_outcome",
                condition=models.Q(outcome="waiting", processed_at__isnull=True)
                | (~models.Q(outcome="waiting") & models.Q(processed_at__isnull=False)),
            ),
        ]
        indexes = [
            models.Index(
                fields=["processed_at"], name="webhook_processed", condition=models.Q(processed_at__isnull=False)
            ),
            models.Index(fields=["kind"], name="webhook_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} · {self.event_id}"

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("Received webhooks are only deleted long after they were processed (services.forget_webhooks).")


class Dispute(NeverDeleted):
    """A customer's bank asks a payment's money back. What was lost is booked as a chargeback."""

    class Status(models.TextChoices):
        NEEDS_RESPONSE = "needs_response", _("To be answered")
        UNDER_REVIEW = "under_review", _("With the bank")
        WON = "won", _("Won")
        LOST = "lost", _("Lost")

    # News of an earlier stage comes late, not again.
    STAGE = {Status.NEEDS_RESPONSE: 0, Status.UNDER_REVIEW: 1, Status.WON: 2, Status.LOST: 2}

    payment = models.ForeignKey(Payment, models.PROTECT, related_name="disputes", verbose_name=_("payment"))
    gateway_reference = models.CharField(_("reference at the gateway"), max_length=200)
    amount = money_field(_("amount"))
    currency = currency_field(_("currency"))
    status = models.CharField(_("status"), max_length=15, choices=Status, default=Status.NEEDS_RESPONSE)
    reason = models.CharField(_("reason"), max_length=100, blank=True)
    respond_by = models.DateTimeField(_("answer by"), null=True, blank=True)
    chargeback = models.OneToOneField(
        Transaction, models.PROTECT, null=True, blank=True, related_name="dispute", verbose_name=_("chargeback")
    )
    opened_at = models.DateTimeField(_("opened"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    class Meta:
        verbose_name = _("dispute")
        verbose_name_plural = _("disputes")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["payment", "gateway_reference"], name="dispute_once"),
            models.CheckConstraint(name="dispute_of_something", condition=models.Q(amount__gt=0)),
            models.CheckConstraint(
                name="dispute_ended_has_date",
                condition=models.Q(status__in=["won", "lost"], ended_at__isnull=False)
                | (~models.Q(status__in=["won", "lost"]) & models.Q(ended_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="dispute_only_lost_is_charged_back",
                condition=models.Q(chargeback__isnull=True) | models.Q(status="lost"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.payment.reference} · {shown(self.amount, self.currency)} · {self.gateway_reference}"

    @property
    def is_open(self) -> bool:
        return self.ended_at is None
