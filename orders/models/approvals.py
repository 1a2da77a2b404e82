"""Who has to agree to a cancellation: policies as rows, levels of approvers, absences, and each approval asked for."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from orders.models.cancellation import Cancellation, CancellationReason
from orders.models.refunds import RefundRequest
from shop.models import Store
from shop.money import currency_field, money_field


class ApprovalLevel(models.Model):
    """A tier of approvers. What waits too long at one goes up to the next."""

    level = models.PositiveSmallIntegerField(_("level"), unique=True, validators=[MinValueValidator(1)])
    name = models.CharField(_("name"), max_length=100)
    group = models.ForeignKey(
        Group,
        models.PROTECT,
        related_name="+",
        verbose_name=_("approvers"),
        help_text=_("Members may approve at this level and below it, in the stores they work in."),
    )
    remind_after_minutes = models.PositiveIntegerField(_("remind after (minutes)"), default=60)
    escalate_after_minutes = models.PositiveIntegerField(
        _("escalate after (minutes)"), default=240, help_text=_("To the next level; at the highest, to the inbox.")
    )

    class Meta:
        verbose_name = _("approval level")
        verbose_name_plural = _("approval levels")
        ordering = ["level"]
        constraints = [models.CheckConstraint(name="approval_level_positive", condition=Q(level__gte=1))]

    def __str__(self) -> str:
        return self.name


class ApprovalPolicy(models.Model):
    """When staff need somebody's agreement: to cancel, or to refund without goods. Whatever is filled in must hold.

    The highest level of all policies that fit applies. Of refunds: `min_value` is one refund's amount, and what the
    person has done today (staff_…) are refunds that nobody had to agree to.
    """

    class What(models.TextChoices):
        CANCELLATION = "cancellation", _("Cancellations")
        REFUND = "refund", _("Refunds without goods")

    name = models.CharField(_("name"), max_length=100, unique=True)
    is_active = models.BooleanField(_("active"), default=True)
    what = models.CharField(_("about"), max_length=12, choices=What, default=What.CANCELLATION)
    level = models.ForeignKey(ApprovalLevel, models.PROTECT, related_name="policies", verbose_name=_("needs"))
    store = models.ForeignKey(
        Store,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: all."),
    )
    stages = models.JSONField(_("statuses of the order"), default=list, blank=True)
    reasons = models.ManyToManyField(CancellationReason, verbose_name=_("reasons"), blank=True, related_name="+")
    roles = models.ManyToManyField(
        Group,
        verbose_name=_("asked for by"),
        blank=True,
        related_name="+",
        help_text=_("People whose roles are all among these. Empty: everybody."),
    )
    min_value = money_field(_("from this value on"), null=True, blank=True)
    currency = currency_field(_("currency"), blank=True)
    # How much has been cancelled already: a policy with one of these finds a cancellation unusual.
    staff_per_day = models.PositiveIntegerField(
        _("orders by this person today"),
        null=True,
        blank=True,
        help_text=_("When so many have been cancelled already."),
    )
    staff_value_per_day = money_field(
        _("value by this person today"),
        null=True,
        blank=True,
        help_text=_("When so much has been cancelled already, with this order; in the currency above."),
    )
    customer_per_month = models.PositiveIntegerField(_("orders of this customer in 30 days"), null=True, blank=True)
    store_per_hour = models.PositiveIntegerField(_("orders of the store within an hour"), null=True, blank=True)

    class Meta:
        verbose_name = _("approval policy")
        verbose_name_plural = _("approval policies")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="approval_policy_money_has_currency",
                condition=Q(min_value__isnull=True, staff_value_per_day__isnull=True) | ~Q(currency=""),
                violation_error_message=_("Say in which currency the value is."),
            ),
            models.CheckConstraint(
                name="approval_policy_of_refunds",
                condition=Q(what="cancellation") | Q(customer_per_month__isnull=True, store_per_hour__isnull=True),
                violation_error_message=_("Refunds are not counted by customer or store: leave these empty."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_about_unusual(self) -> bool:
        limits = (self.staff_per_day, self.staff_value_per_day, self.customer_per_month, self.store_per_hour)
        return any(limit is not None for limit in limits)


class Absence(models.Model):
    """Somebody is away, and who decides in their place meanwhile."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="absences", verbose_name=_("who is away")
    )
    delegate = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("who decides instead"),
        help_text=_("Empty: nobody; the other approvers do."),
    )
    starts_at = models.DateTimeField(_("from"))
    ends_at = models.DateTimeField(_("until"))

    class Meta:
        verbose_name = _("absence")
        verbose_name_plural = _("absences")
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(
                name="absence_ends_after_start",
                condition=Q(ends_at__gt=F("starts_at")),
                violation_error_message=_("It has to end after it begins."),
            ),
            models.CheckConstraint(
                name="absence_delegate_is_another",
                condition=Q(delegate__isnull=True) | ~Q(delegate=F("user")),
                violation_error_message=_("Name somebody else."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.starts_at:%Y-%m-%d} – {self.ends_at:%Y-%m-%d}"


class Approval(models.Model):
    """One agreement asked for: to a cancellation, a refund or a bulk run. Never given by the one who asked for it."""

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    cancellation = models.OneToOneField(
        Cancellation, models.PROTECT, null=True, blank=True, related_name="approval", verbose_name=_("cancellation")
    )
    bulk_run = models.OneToOneField(
        "orders.BulkRun", models.PROTECT, null=True, blank=True, related_name="approval", verbose_name=_("bulk run")
    )
    refund_request = models.OneToOneField(
        RefundRequest, models.PROTECT, null=True, blank=True, related_name="approval", verbose_name=_("refund")
    )
    store = models.ForeignKey(Store, models.PROTECT, null=True, blank=True, verbose_name=_("store"))
    level = models.PositiveSmallIntegerField(_("level"))
    # Names of the policies that asked for it, in words for approvers.
    policies = models.JSONField(_("because of"), default=list)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the plan: what was approved is what happens")
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.OPEN)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("asked for by")
    )
    justification = models.TextField(_("why"), blank=True)
    created_at = models.DateTimeField(_("asked"))
    remind_at = models.DateTimeField(null=True, blank=True)
    escalate_at = models.DateTimeField(_("goes up at"), null=True, blank=True)
    escalations = models.PositiveSmallIntegerField(_("times escalated"), default=0)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("decided by")
    )
    instead_of = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("instead of")
    )
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    note = models.TextField(_("answer"), blank=True)

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        ordering = ["-pk"]
        permissions = [("decide_approval", "Can approve and reject cancellations of others")]
        constraints = [
            models.CheckConstraint(
                name="approval_not_by_the_one_who_asked",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")) | Q(status="withdrawn"),
            ),
            models.CheckConstraint(
                name="approval_decided_by_somebody",
                condition=Q(status__in=["open", "withdrawn"]) | Q(decided_by__isnull=False, decided_at__isnull=False),
            ),
            models.CheckConstraint(
                name="approval_of_one_thing",
                condition=Q(cancellation__isnull=False, bulk_run__isnull=True, refund_request__isnull=True)
                | Q(cancellation__isnull=True, bulk_run__isnull=False, refund_request__isnull=True)
                | Q(cancellation__isnull=True, bulk_run__isnull=True, refund_request__isnull=False),
            ),
        ]
        indexes = [models.Index(fields=["escalate_at"], name="approval_open", condition=Q(status="open"))]

    def __str__(self) -> str:
        return str(self.wish.order if self.wish else self.bulk_run)

    @property
    def wish(self) -> Cancellation | RefundRequest | None:
        """What of one order is asked for; None: a bulk run."""
        return self.cancellation or self.refund_request

    @property
    def is_open(self) -> bool:
        return self.status == self.Status.OPEN
