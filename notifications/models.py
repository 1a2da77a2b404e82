"""What notifications store: messages to people with the templates of staff, and what other systems are told."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from shop.models import Store


class Message(models.Model):
    """One e-mail to one person about one thing that happened. It is written with the decision that caused it.

    `context` is a snapshot made by the caller, so the mail tells what was true then, whenever it is sent. What was
    really sent stands in subject, text and html.
    """

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        SENT = "sent", _("Sent")
        FAILED = "failed", _("Failed")

    uuid = models.UUIDField(unique=True, editable=False, help_text=_("Becomes the mail's Message-ID."))
    key = models.CharField(
        max_length=450, unique=True, help_text=_("Event, cause and recipient: the same is told once.")
    )
    event = models.CharField(_("event"), max_length=40)
    reference = models.CharField(_("reference"), max_length=40, blank=True, help_text=_("The order's number."))
    store = models.ForeignKey(Store, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("store"))
    recipient = models.EmailField(_("recipient"))
    language = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES)
    context = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    subject = models.CharField(_("subject"), max_length=255, blank=True)
    text = models.TextField(_("text"), blank=True)
    html = models.TextField(_("HTML"), blank=True)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.WAITING)
    note = models.TextField(_("note"), blank=True, help_text=_("What a person did about it."))
    created_at = models.DateTimeField(_("created"))
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-id"]
        permissions = [("resend_message", "Can send messages again")]
        constraints = [
            models.CheckConstraint(
                name="message_sent_has_time",
                condition=(Q(status="sent") & Q(sent_at__isnull=False)) | (~Q(status="sent") & Q(sent_at__isnull=True)),
            )
        ]
        indexes = [
            models.Index(fields=["reference"], name="message_reference"),
            models.Index(Upper("recipient"), name="message_recipient_upper"),
            models.Index(fields=["store", "-id"], name="message_store_newest"),
            models.Index(fields=["-id"], name="message_not_sent", condition=~Q(status="sent")),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.reference}".strip()


class MessageTemplate(models.Model):
    """What staff write instead of a file template, for one event in one language. An empty part stays the file's."""

    event = models.CharField(_("event"), max_length=40)
    language = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES)
    subject = models.CharField(_("subject"), max_length=255, blank=True)
    text = models.TextField(_("text"), blank=True, help_text=_("For mail programs that show no HTML."))
    html = models.TextField(_("HTML"), blank=True)

    class Meta:
        verbose_name = _("message template")
        verbose_name_plural = _("message templates")
        ordering = ["event", "language"]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "language"],
                name="message_template_once",
                violation_error_message=_("There is a template for this event and language already; change that one."),
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} ({self.language})"


class WebhookEndpoint(models.Model):
    """An address of another system that is told what happens to orders. services/webhooks.py writes its state."""

    name = models.CharField(_("name"), max_length=100, help_text=_("For staff: which system it is."))
    url = models.CharField(
        _("address"), max_length=500, help_text=_("Begins with https:// and leads to a public server.")
    )
    store = models.ForeignKey(
        Store,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: the orders of all stores."),
    )
    events = models.JSONField(_("events"), default=list)
    with_customer = models.BooleanField(
        _("with the customer's data"),
        default=False,
        help_text=_("Name, e-mail, phone and shipping address. Switch on only what the other system really needs."),
    )
    secret = models.CharField(max_length=100, editable=False)
    old_secret = models.CharField(max_length=100, blank=True, editable=False)
    old_secret_until = models.DateTimeField(_("old secret valid until"), null=True, blank=True, editable=False)
    is_active = models.BooleanField(_("active"), default=True, editable=False)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True, editable=False)
    disabled_at = models.DateTimeField(_("switched off"), null=True, blank=True, editable=False)
    disabled_reason = models.CharField(_("why it is off"), max_length=300, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        verbose_name=_("created by"),
    )

    class Meta:
        verbose_name = _("webhook endpoint")
        verbose_name_plural = _("webhook endpoints")
        ordering = ["name", "id"]
        constraints = [
            models.CheckConstraint(
                name="webhook_off_has_time",
                condition=Q(is_active=True, disabled_at=None) | Q(is_active=False, disabled_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return self.name


class WebhookDelivery(models.Model):
    """One event for one endpoint. It is written with the decision it tells of, and its payload never changes.

    `event_id` goes out as webhook-id with every attempt and every replay, so that a receiver can tell a repetition.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        HELD = "held", _("Waiting for an earlier one")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Given up")

    OPEN: ClassVar[tuple[str, ...]] = ("waiting", "held")

    endpoint = models.ForeignKey(WebhookEndpoint, models.PROTECT, related_name="deliveries", verbose_name=_("endpoint"))
    store = models.ForeignKey(Store, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("store"))
    event_id = models.CharField(_("event id"), max_length=60, unique=True)
    type = models.CharField(_("event"), max_length=40)
    reference = models.CharField(_("reference"), max_length=40, blank=True, help_text=_("The order's number."))
    sequence = models.PositiveIntegerField(_("number"), help_text=_("The order's version that it tells of."))
    payload = models.TextField(_("payload"))
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.WAITING)
    # Which of its jobs counts: one that was promised before a replay or a release finds nothing to do.
    round = models.PositiveIntegerField(default=1)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    last_status = models.PositiveSmallIntegerField(_("last answer"), null=True, blank=True)
    last_latency_ms = models.PositiveIntegerField(_("took (ms)"), null=True, blank=True)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created"))
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    replayed_at = models.DateTimeField(_("sent again"), null=True, blank=True)

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [("resend_webhookdelivery", "Can send webhooks again")]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "reference", "sequence", "type"],
                name="webhook_told_once",
                condition=~Q(reference=""),
            ),
            models.CheckConstraint(
                name="webhook_delivered_has_time", condition=~Q(state="delivered") | Q(delivered_at__isnull=False)
            ),
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "reference", "id"], name="webhook_open", condition=Q(state__in=["waiting", "held"])
            ),
            models.Index(fields=["reference"], name="webhook_reference"),
            models.Index(fields=["created_at"], name="webhook_created"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.reference}".strip()
