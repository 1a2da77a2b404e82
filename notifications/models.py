"""What notifications store: every message to customers and staff, and the templates that staff write over the files."""

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
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
            models.Index(fields=["recipient"], name="message_recipient"),
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
