"""What happened to an order, append-only: shipping, payment and communication events, and status changes."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from notifications.models import Message
from orders.models.cancellation import CancellationReason
from orders.models.lines import OrderLine
from orders.models.refunds import RefundKind
from orders.models.status import status_label
from payments.models import Refund, Transaction
from shop.models import AppendOnly
from shop.money import currency_field, money_field


class EventType(models.Model):
    """A kind of event; a shop may add its own, which are recorded and bounded but have no further effect."""

    code = models.SlugField(_("code"), unique=True)
    name = models.CharField(_("name"), max_length=100)

    class Meta:
        abstract = True
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name


class ShippingEventType(EventType):
    """The desk's own: ready_for_pickup, shipped, delivered, cancelled, returned."""

    class Meta(EventType.Meta):
        verbose_name = _("shipping event type")
        verbose_name_plural = _("shipping event types")


class PaymentEventType(EventType):
    """The desk's own: authorized, charged (asked for), paid, received (covers no unit), declined, refunded, voided."""

    class Meta(EventType.Meta):
        verbose_name = _("payment event type")
        verbose_name_plural = _("payment event types")


class ByActor(AppendOnly):
    """Base of events: of which order, when, and who made it happen."""

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="%(class)ss", verbose_name=_("order"))
    created_at = models.DateTimeField(_("at"), db_index=True)
    actor_kind = models.CharField(max_length=10)
    actor_name = models.CharField(_("by"), max_length=200)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        abstract = True
        ordering = ["pk"]


class Disposition(models.TextChoices):
    """Where units that come back go."""

    SELLABLE = "sellable", _("Sellable")
    QUARANTINE = "quarantine", _("To be inspected")
    DAMAGED = "damaged", _("Damaged")


class ShippingEvent(ByActor):
    """A change in where units are or where they will go. It stands for the shipment, return or cancellation itself."""

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="shipping_events", verbose_name=_("order"))
    event_type = models.ForeignKey(ShippingEventType, models.PROTECT, related_name="+", verbose_name=_("type"))
    lines = models.ManyToManyField(OrderLine, through="ShippingEventQuantity", related_name="shipping_events")
    reason = models.ForeignKey(
        CancellationReason, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("reason")
    )
    note = models.TextField(_("note"), blank=True)
    carrier = models.CharField(_("carrier"), max_length=100, blank=True)
    tracking_number = models.CharField(_("tracking number"), max_length=100, blank=True)
    tracking_url = models.URLField(_("tracking address"), max_length=500, blank=True)
    # Why it happened, where the one who asked may ask twice: the same cause is the same event.
    cause = models.CharField(max_length=150, unique=True, null=True, blank=True)

    class Meta(ByActor.Meta):
        verbose_name = _("shipping event")
        verbose_name_plural = _("shipping events")
        indexes = [
            models.Index(fields=["tracking_number"], name="shipping_event_tracking", condition=~Q(tracking_number=""))
        ]

    def __str__(self) -> str:
        return f"{self.event_type} ({self.order})"


class ShippingEventQuantity(AppendOnly):
    """How many units of a line a shipping event is about, and where they go if they come back."""

    event = models.ForeignKey(ShippingEvent, models.CASCADE, related_name="line_quantities")
    line = models.ForeignKey(OrderLine, models.PROTECT, related_name="shipping_event_quantities")
    quantity = models.PositiveIntegerField(_("quantity"))
    disposition = models.CharField(_("goes to"), max_length=20, choices=Disposition, blank=True)
    restock = models.PositiveIntegerField(_("back to stock"), default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event", "line"], name="shipping_event_line_once"),
            models.CheckConstraint(name="shipping_event_quantity_positive", condition=Q(quantity__gt=0)),
            models.CheckConstraint(name="shipping_event_restock_bounded", condition=Q(restock__lte=F("quantity"))),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.line_id}"


class PaymentEvent(ByActor):
    """Money asked for, received or sent back. What came of it is stored once: in the transactions it points at."""

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="payment_events", verbose_name=_("order"))
    event_type = models.ForeignKey(PaymentEventType, models.PROTECT, related_name="+", verbose_name=_("type"))
    amount = money_field(_("amount"))
    currency = currency_field(_("currency"))
    # Of a refund: what the units are worth and was not given back (a fee, goods that came back damaged).
    deduction = money_field(_("kept"), default=0)
    # Of a refund: what it is for where it is tied to no unit, and where it goes if not back the way it came.
    refund_kind = models.CharField(_("what for"), max_length=10, choices=RefundKind, blank=True)
    destination = models.CharField(_("goes to"), max_length=30, blank=True)
    reference = models.CharField(_("reference"), max_length=128, blank=True)
    note = models.TextField(_("note"), blank=True)
    lines = models.ManyToManyField(OrderLine, through="PaymentEventQuantity", related_name="payment_events")
    transactions = models.ManyToManyField(Transaction, related_name="+")
    refund = models.OneToOneField(Refund, models.PROTECT, null=True, blank=True, related_name="+")
    shipping_event = models.ForeignKey(
        ShippingEvent, models.PROTECT, null=True, blank=True, related_name="payment_events"
    )
    cause = models.CharField(max_length=150, unique=True, null=True, blank=True)

    class Meta(ByActor.Meta):
        verbose_name = _("payment event")
        verbose_name_plural = _("payment events")
        constraints = [
            models.CheckConstraint(name="payment_event_not_negative", condition=Q(amount__gte=0, deduction__gte=0))
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.amount} {self.currency}"


class PaymentEventQuantity(AppendOnly):
    """How many units of a line a payment event is about, and what they cost."""

    event = models.ForeignKey(PaymentEvent, models.CASCADE, related_name="line_quantities")
    line = models.ForeignKey(OrderLine, models.PROTECT, related_name="payment_event_quantities")
    quantity = models.PositiveIntegerField(_("quantity"))
    amount = money_field(_("amount"))

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event", "line"], name="payment_event_line_once"),
            models.CheckConstraint(name="payment_event_quantity_positive", condition=Q(quantity__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.line_id}"


class CommunicationEvent(ByActor):
    """A message to the customer. Its text and whether it was sent stand on the message."""

    order = models.ForeignKey(
        "orders.Order", models.PROTECT, related_name="communication_events", verbose_name=_("order")
    )
    event_type = models.SlugField(_("type"))
    message = models.ForeignKey(
        Message, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("message")
    )

    class Meta(ByActor.Meta):
        verbose_name = _("communication event")
        verbose_name_plural = _("communication events")
        # Two decisions may promise the same message; it is one message and one event of each order it speaks of.
        constraints = [models.UniqueConstraint(fields=["order", "message"], name="communication_event_message_once")]

    def __str__(self) -> str:
        return self.event_type


class OrderStatusChange(ByActor):
    """One hop of an order's status."""

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="status_changes", verbose_name=_("order"))
    old_status = models.CharField(_("from"), max_length=50)
    new_status = models.CharField(_("to"), max_length=50)
    transition = models.CharField(_("transition"), max_length=50)

    class Meta(ByActor.Meta):
        verbose_name = _("status change")
        verbose_name_plural = _("status changes")

    def __str__(self) -> str:
        return f"{status_label(self.old_status)} → {status_label(self.new_status)}"
