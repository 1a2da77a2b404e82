"""Why units are cancelled, each cancellation from wish to effect, what customers may do, and requests they make."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from orders.models.refunds import GivesBack
from orders.models.status import status_label
from shop.models import Store
from shop.money import currency_field, money_field


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
    names = models.JSONField(_("names in other languages"), default=dict, blank=True, help_text="language → name")
    shown_to_customers = models.BooleanField(_("customers may choose it"), default=False)
    needs_note = models.BooleanField(_("needs a note"), default=False)
    restocks = models.BooleanField(
        _("goods go back into stock"),
        default=True,
        help_text=_("What the dialog suggests. Off: they are set aside to be inspected."),
    )
    needs_approval = models.BooleanField(
        _("needs approval"), default=False, help_text=_("Somebody else has to agree, whatever the policies say.")
    )
    asks_contact = models.BooleanField(
        _("asks who wanted it"),
        default=False,
        help_text=_("Staff say who asked for it, how and when, and the customer gets a confirmation."),
    )
    shops_fault = models.BooleanField(
        _("the shop's fault"), default=False, help_text=_("Such as damaged or wrong goods: no fee for sending back.")
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    is_active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("cancellation reason")
        verbose_name_plural = _("cancellation reasons")
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """The name in the active language."""
        language = get_language() or ""
        return self.names.get(language) or self.names.get(language.split("-")[0]) or self.name


class CancelRule(models.Model):
    """What customers may cancel, and how long staff may undo it; for one store, one channel, or everything else.

    Of the rules that fit an order, the one that says most applies: store and channel, store, channel, neither. Without
    any, the settings EXTRA_CANCEL_RULES and CANCELLATION_FALLBACK_RULES do.
    """

    store = models.ForeignKey(
        Store,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: all."),
    )
    channel = models.CharField(_("channel"), max_length=30, blank=True, help_text=_("Such as “web”. Empty: all."))
    direct_statuses = models.JSONField(
        _("cancelled at once in"),
        default=list,
        help_text=_("In these statuses of the order, what a customer cancels is cancelled at once."),
    )
    refuses_invoiced = models.BooleanField(_("not once there is an invoice"), default=False)
    time_limit_minutes = models.PositiveIntegerField(
        _("minutes after the order"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(10_000_000)],
        help_text=_("Empty: no limit."),
    )
    asks_in_other_statuses = models.BooleanField(
        _("in other statuses, a person decides"), default=True, help_text=_("Off: it is refused.")
    )
    asks_when_invoiced = models.BooleanField(
        _("with an invoice, a person decides"), default=False, help_text=_("Off: it is refused.")
    )
    asks_when_late = models.BooleanField(
        _("after the time limit, a person decides"), default=False, help_text=_("Off: it is refused.")
    )
    reprices = models.BooleanField(
        _("prices what stays anew"),
        default=False,
        help_text=_(
            "Off: the deal stays. On: a discount or free shipping that asked for more goods than are left is taken off "
            "the refund."
        ),
    )
    undo_minutes = models.PositiveIntegerField(
        _("minutes to undo"),
        default=0,
        validators=[MaxValueValidator(1440)],
        help_text=_("For so long, what staff cancelled can be undone; stock, money and messages wait. 0: at once."),
    )

    class Meta:
        verbose_name = _("cancel rule")
        verbose_name_plural = _("cancel rules")
        ordering = ["store", "channel"]
        constraints = [
            models.UniqueConstraint(
                fields=["store", "channel"], name="cancel_rule_once", condition=Q(store__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["channel"], name="cancel_rule_everywhere_once", condition=Q(store__isnull=True)
            ),
            models.CheckConstraint(name="cancel_rule_undo_a_day", condition=Q(undo_minutes__lte=1440)),
        ]

    def __str__(self) -> str:
        where = ", ".join(filter(None, [str(self.store or ""), self.channel]))
        return where or str(_("everywhere"))


class Cancellation(GivesBack):
    """One cancellation, from the wish to its effect: who wanted what, why, what was shown, what became of it.

    Its units are those of `event`, once it has taken effect. `plan` is what was shown and agreed to.
    """

    class Status(models.TextChoices):
        WAITING_APPROVAL = "waiting_approval", _("Waiting for approval")
        QUEUED = "queued", _("Waiting for the end of maintenance")
        PENDING = "pending", _("Cancelled, can be undone")
        DONE = "done", _("Done")
        REJECTED = "rejected", _("Rejected")
        WITHDRAWN = "withdrawn", _("Withdrawn")
        OUTDATED = "outdated", _("Overtaken by events")
        UNDONE = "undone", _("Undone")

    class Channel(models.TextChoices):
        PHONE = "phone", _("Telephone")
        EMAIL = "email", _("E-mail")
        CHAT = "chat", _("Chat")
        LETTER = "letter", _("Letter")
        IN_PERSON = "in_person", _("In person")
        OTHER = "other", _("Otherwise")

    WAITING: ClassVar[tuple[str, ...]] = ("waiting_approval", "queued")
    WAITS_WITH_MONEY = ("waiting_approval", "queued", "pending")

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="cancellations", verbose_name=_("order"))
    status = models.CharField(_("status"), max_length=20, choices=Status)
    reason = models.ForeignKey(
        CancellationReason, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("reason")
    )
    note = models.TextField(_("note"), blank=True)
    # Line id → units; None: everything that is left by then.
    lines = models.JSONField(null=True)
    restock = models.BooleanField(_("back into stock"), default=True)
    refund = models.BooleanField(_("refund"), default=True)
    notify = models.BooleanField(_("tell the customer"), default=True)
    ends_series = models.BooleanField(_("all future orders too"), default=False)
    plan = models.JSONField(default=dict)
    version = models.PositiveIntegerField(help_text="the order's, when it was asked for")
    cause = models.CharField(max_length=150, unique=True, null=True, blank=True)

    # Who asked the shop for it, where the reason wants to know.
    contact_name = models.CharField(_("asked for by"), max_length=200, blank=True)
    contact_channel = models.CharField(_("how"), max_length=20, choices=Channel, blank=True)
    contact_details = models.CharField(_("telephone number or address"), max_length=200, blank=True)
    contact_at = models.DateTimeField(_("asked for at"), null=True, blank=True)

    # What the figures are made of.
    stage = models.CharField(_("status before"), max_length=50)
    units = models.PositiveIntegerField(_("units"), default=0)
    currency = currency_field(_("currency"))
    value = money_field(_("value"), default=0)
    ends_order = models.BooleanField(_("the whole order"), default=False)
    # Names of the policies that found it unusual.
    unusual = models.JSONField(_("unusual"), default=list, blank=True)

    actor_kind = models.CharField(max_length=10)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("by")
    )
    requested_by_name = models.CharField(_("by"), max_length=200)
    created_at = models.DateTimeField(_("asked"), db_index=True)
    event = models.OneToOneField(
        "orders.ShippingEvent", models.PROTECT, null=True, blank=True, related_name="cancellation"
    )
    done_at = models.DateTimeField(_("cancelled"), null=True, blank=True)
    undo_until = models.DateTimeField(_("can be undone until"), null=True, blank=True)
    undone_at = models.DateTimeField(_("undone"), null=True, blank=True)
    undone_by = models.CharField(_("undone by"), max_length=200, blank=True)
    outcome = models.TextField(_("what became of it"), blank=True)

    class Meta:
        verbose_name = _("cancellation")
        verbose_name_plural = _("cancellations")
        ordering = ["-pk"]
        permissions = [("undo_cancellation", "Can undo cancellations and reinstate orders")]
        constraints = [
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(status__in=["waiting_approval", "queued"]),
                name="cancellation_one_waiting_per_order",
            ),
            models.CheckConstraint(
                name="cancellation_effect_has_event",
                condition=~Q(status__in=["pending", "done", "undone"]) | Q(event__isnull=False),
            ),
            models.CheckConstraint(
                name="cancellation_forgets_bank_details",
                condition=Q(status__in=["waiting_approval", "queued", "pending"]) | Q(bank_holder=""),
            ),
        ]
        indexes = [
            models.Index(fields=["requested_by", "created_at"], name="cancellation_by_whom"),
            models.Index(fields=["created_at"], name="cancellation_waiting", condition=Q(status="waiting_approval")),
        ]

    def __str__(self) -> str:
        return str(self.order)

    @property
    def stage_label(self) -> Any:
        return status_label(self.stage)

    def can_be_undone(self, *, as_of: datetime) -> bool:
        return self.status == self.Status.PENDING and self.undo_until is not None and as_of < self.undo_until


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
    # The goods have been seen; what is open is the money.
    AWAITING_MONEY = (Status.WAITING_FOR_PAYMENT, Status.MANUEL_REFUND_NEED)
    # The goods are to come back, or lie on the table: a person has agreed.
    AWAITING_GOODS = (Status.APPROVED, Status.CONFIRMATION_WAITING)
    # Nobody has said yes or no.
    UNDECIDED = (Status.OPEN, Status.WAITING, Status.WAITING_APPROVAL, Status.CONFIRMED)

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
    # The customer wants points instead of money; the request is the record of their consent.
    as_points = models.BooleanField(_("refund as points"), default=False)
    # Of goods that are to come back: the parcel they come in, and the event they became.
    goods_return = models.ForeignKey(
        "orders.Return", models.PROTECT, null=True, blank=True, related_name="requests", verbose_name=_("return")
    )
    event = models.ForeignKey("orders.ShippingEvent", models.PROTECT, null=True, blank=True, related_name="requests")
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

    @property
    def is_return(self) -> bool:
        return self.cancellation_type == self.Type.REFUND
