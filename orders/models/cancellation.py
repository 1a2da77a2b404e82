"""Why something is cancelled or sent back, and requests of customers that a person decides."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _


class CancellationReason(models.Model):
    """A reason to choose from. Staff edit the list; reasons in use are switched off, not deleted."""

    class Category(models.TextChoices):
        CUSTOMER_REQUESTED = "customer_requested", _("Customer requested")
        INVENTORY_ISSUES = "inventory_issues", _("Inventory issues")
        PAYMENT_PROBLEMS = "payment_problems", _("Payment problems")
        REGULATORY_COMPLIANCE = "regulatory_compliance", _("Regulatory compliance")
        OPERATIONAL_ISSUES = "operational_issues", _("Operational issues")
        DUPLICATE_ORDER = "duplicate_order", _("Duplicate order")

    code = models.SlugField(_("code"), unique=True)
    category = models.CharField(_("category"), max_length=30, choices=Category)
    name = models.CharField(_("name"), max_length=200)
    shown_to_customers = models.BooleanField(_("customers may choose it"), default=False)
    needs_note = models.BooleanField(_("needs a note"), default=False)
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    is_active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("cancellation reason")
        verbose_name_plural = _("cancellation reasons")
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return self.name


class CancellationRequest(models.Model):
    """A customer's wish to cancel or send back units of a line, which a person decides.

    The statuses are those of the storefront contract, its spelling included.
    """

    class Type(models.TextChoices):
        CANCEL = "cancel", _("Cancellation")
        REFUND = "refund", _("Refund")

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        WAITING = "waiting", _("Waiting")
        CONFIRMATION_WAITING = "confirmation_waiting", _("Waiting for confirmation")
        CONFIRMED = "confirmed", _("Confirmed")
        WAITING_APPROVAL = "waiting_approval", _("Waiting for approval")
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")
        WAITING_FOR_PAYMENT = "waiting_for_payment", _("Waiting for refund payment")
        MANUEL_REFUND_NEED = "manuel_refund_need", _("Manual refund needed")
        COMPLETED = "completed", _("Completed")

    ENDED = (Status.REJECTED, Status.COMPLETED)

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    order = models.ForeignKey(
        "orders.Order", models.PROTECT, related_name="cancellation_requests", verbose_name=_("order")
    )
    line = models.ForeignKey(
        "orders.OrderLine", models.PROTECT, related_name="cancellation_requests", verbose_name=_("line")
    )
    quantity = models.PositiveIntegerField(_("quantity"))
    cancellation_type = models.CharField(_("type"), max_length=10, choices=Type)
    reason = models.ForeignKey(CancellationReason, models.PROTECT, related_name="+", verbose_name=_("reason"))
    description = models.TextField(_("description"), blank=True)
    status = models.CharField(_("status"), max_length=25, choices=Status, default=Status.OPEN)
    created_at = models.DateTimeField(_("asked"))
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("decided by")
    )
    decision_note = models.TextField(_("answer"), blank=True)

    class Meta:
        verbose_name = _("cancellation request")
        verbose_name_plural = _("cancellation requests")
        ordering = ["-pk"]
        permissions = [("decide_cancellationrequest", "Can decide customers' cancellation requests")]
        constraints = [
            models.UniqueConstraint(
                fields=["line"],
                condition=~Q(status__in=["rejected", "completed"]),
                name="cancellation_request_one_open_per_line",
            ),
            models.CheckConstraint(name="cancellation_request_quantity_positive", condition=Q(quantity__gt=0)),
        ]
        indexes = [models.Index(F("created_at"), name="cancellation_request_open", condition=Q(status="open"))]

    def __str__(self) -> str:
        return f"{self.get_cancellation_type_display()} {self.quantity} × {self.line.name}"

    @property
    def is_open(self) -> bool:
        return self.status not in self.ENDED
