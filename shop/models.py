"""What the kernel stores: people, stores, promised work (Job), maintenance, answered requests, tokens of programs."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower, Upper
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """Staff or customer."""

    language = models.CharField(
        _("language"), max_length=10, choices=settings.LANGUAGES, default=settings.LANGUAGE_CODE
    )
    phone = models.CharField(_("phone"), max_length=32, blank=True)

    class Meta(AbstractUser.Meta):
        constraints = [
            # A customer's e-mail is how they log in and how mail finds them.
            models.UniqueConstraint(
                Lower("email"),
                name="user_email_once",
                condition=~Q(email=""),
                violation_error_message=_("There is an account with this e-mail address."),
            )
        ]
        indexes = [models.Index(Upper("email"), name="user_email_upper")]


class Store(models.Model):
    """A shop, or a branch of it: what orders, locations and staff belong to."""

    code = models.SlugField(_("code"), unique=True)
    name = models.CharField(_("name"), max_length=200)
    currency = models.CharField(
        _("currency"),
        max_length=3,
        default="EUR",
        validators=[RegexValidator(r"^[A-Z]{3}\Z", _("Three capital letters, such as EUR."))],
    )
    country = models.CharField(_("country"), max_length=2, default="DE", help_text=_("Two-letter code (ISO 3166)."))
    prices_include_tax = models.BooleanField(_("prices include tax"), default=True)
    reviews_orders = models.BooleanField(
        _("reviews orders"),
        default=True,
        help_text=_(
            "On: staff approve each paid order before it is prepared. Off: those without a hold are approved at once."
        ),
    )
    email = models.EmailField(_("sender of mails"), blank=True, help_text=_("Empty: the desk's own sender."))
    address = models.TextField(_("address"), blank=True, help_text=_("As it stands in mails and on documents."))
    staff = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("staff"),
        blank=True,
        related_name="stores",
        help_text=_("Who works here. People who may work in all stores need not be listed."),
    )
    is_active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("store")
        verbose_name_plural = _("stores")
        ordering = ["name"]
        permissions = [("work_all_stores", "Can work in all stores")]

    def __str__(self) -> str:
        return self.name


class Job(models.Model):
    """A promised side effect. The row *is* the job: written with the decision, open until the effect is done.

    shop/jobs.py claims, performs and settles it; nothing else writes these rows.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        NEEDS_ATTENTION = "needs_attention", _("Needs attention")

    key = models.CharField(max_length=200, unique=True, help_text=_("What is promised; the same promise is one job."))
    kind = models.CharField(_("kind"), max_length=60)
    args = models.JSONField(_("arguments"), default=dict, help_text=_("Ids only."))
    reference = models.CharField(
        _("reference"), max_length=40, blank=True, help_text=_("The order's number, where there is one.")
    )
    store = models.ForeignKey(Store, models.PROTECT, null=True, blank=True, verbose_name=_("store"))
    batch = models.UUIDField(null=True, blank=True)
    state = models.CharField(_("state"), max_length=15, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    max_attempts = models.PositiveSmallIntegerField(_("attempts at the most"))
    run_at = models.DateTimeField(_("due"))
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    first_sent_at = models.DateTimeField(null=True, blank=True)
    outcome_unknown = models.BooleanField(_("outcome unknown"), default=False)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("promised"))
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("owner"),
        help_text=_("Who sees to it while it needs attention."),
    )
    due_at = models.DateTimeField(
        _("to be dealt with by"), null=True, blank=True, help_text=_("Set while it needs attention.")
    )
    done_at = models.DateTimeField(_("done"), null=True, blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("resolved by"),
    )
    resolved_note = models.TextField(_("how it was resolved"), blank=True)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-id"]
        permissions = [("handle_job", "Can retry jobs and mark them as done by hand")]
        constraints = [
            models.CheckConstraint(
                name="job_running_has_lease",
                condition=(Q(state="running") & Q(lease_until__isnull=False) & Q(lease_token__isnull=False))
                | (~Q(state="running") & Q(lease_until__isnull=True) & Q(lease_token__isnull=True)),
            ),
            models.CheckConstraint(name="job_attempts_bounded", condition=Q(attempts__lte=F("max_attempts"))),
        ]
        indexes = [
            models.Index(fields=["run_at"], name="job_waiting", condition=Q(state="waiting")),
            models.Index(fields=["lease_until"], name="job_running", condition=Q(state="running")),
            models.Index(fields=["created_at"], name="job_attention", condition=Q(state="needs_attention")),
            models.Index(fields=["reference"], name="job_reference"),
            models.Index(fields=["batch"], name="job_batch", condition=Q(batch__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def is_open(self) -> bool:
        return self.state in {self.State.WAITING, self.State.RUNNING}


class Maintenance(models.Model):
    """A period in which the desk changes nothing; it is on while `ended_at` is empty. shop/maintenance.py writes it."""

    LONGEST_MESSAGE = 300

    started_at = models.DateTimeField(_("started"))
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("started by"),
    )
    message = models.CharField(
        _("message"), max_length=LONGEST_MESSAGE, blank=True, help_text=_("Shown to staff and customers.")
    )
    ends_at = models.DateTimeField(
        _("expected end"), null=True, blank=True, help_text=_("Shown as well; it does not end anything by itself.")
    )
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("ended by")
    )

    class Meta:
        verbose_name = _("maintenance")
        verbose_name_plural = _("maintenance")
        ordering = ["-started_at", "-id"]
        default_permissions = ("view",)
        permissions = [("run_maintenance", "Can start and end maintenance")]
        constraints = [
            # All open rows have the same value here, so there is one at most.
            models.UniqueConstraint(
                models.ExpressionWrapper(Q(ended_at__isnull=True), output_field=models.BooleanField()),
                name="maintenance_open_once",
                condition=Q(ended_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return date_format(timezone.localtime(self.started_at), "SHORT_DATETIME_FORMAT")


class IdempotencyKey(models.Model):
    """An answered request, so that its repetition gets the same answer and does nothing."""

    scope = models.CharField(max_length=200, help_text="who asked, and which route")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(
        max_length=64, help_text="SHA-256 of the body: another body under the same key is an error"
    )
    status = models.PositiveSmallIntegerField(null=True)
    # Text, not JSON: PostgreSQL's jsonb would reorder keys, and the repeated answer is to be the same byte for byte.
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"


class ApiToken(models.Model):
    """What a program shows instead of a log-in. Its secret is stored nowhere; shop/tokens.py makes and reads it."""

    # The page that made it, so that a double click makes one.
    once = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100, help_text=_("What uses it, such as “Warehouse robot”."))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="api_tokens",
        verbose_name=_("account"),
        help_text=_("It can do nothing that this account cannot do."),
    )
    prefix = models.CharField(_("begins with"), max_length=20)
    secret_hash = models.CharField(max_length=64, unique=True, help_text="SHA-256")
    scopes = models.JSONField(_("scopes"), default=list)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+", verbose_name=_("made by")
    )
    created_at = models.DateTimeField(_("made"))
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    expires_at = models.DateTimeField(_("ends"), null=True, blank=True, help_text=_("Empty: it does not."))
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("revoked by")
    )

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-pk"]
        default_permissions = ("add", "view")
        permissions = [("revoke_apitoken", "Can revoke API tokens")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_usable(self, *, as_of: datetime) -> bool:
        """Neither revoked nor over, and its account is still staff."""
        is_over = self.expires_at is not None and self.expires_at <= as_of
        return self.revoked_at is None and not is_over and self.user.is_active and self.user.is_staff


class AppendOnly(models.Model):
    """Base of rows that are written once. Deleting or changing one is a programming error, and says so."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"{type(self).__name__} rows are written once and never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError(f"{type(self).__name__} rows are never deleted.")
