"""OrderLine: what was ordered, what it costs, and how far each of its units has come."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.db import models, transaction
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from inventory.models import Product, ReturnExemption, StockRecord
from orders.models.order import InvalidStatus
from orders.models.status import Status, status_code, status_label
from shop.money import money_field, next_units


class InvalidLineStatus(InvalidStatus):
    code = "invalid_line_status"
    message = _("'%(new)s' is not a valid status for line %(line)s (current status: '%(current)s').")


class OrderLine(models.Model):
    """One product of an order. `quantity` never changes; counters say what became of the units.

    allocated  reserved in stock for this line and still there
    charged    their money has been asked for (a capture is under way or done)
    paid       their money is here
    shipped    have left
    delivered  have arrived
    cancelled  will not be sent
    returned   came back
    refunded   their money has been sent back (or kept, as the payment event says)

    Every move is an event with quantities, made by the EventHandler under the order's lock.
    """

    COUNTERS: ClassVar[tuple[str, ...]] = (
        "allocated",
        "charged",
        "paid",
        "shipped",
        "delivered",
        "cancelled",
        "returned",
        "refunded",
    )

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="lines", verbose_name=_("order"))
    position = models.PositiveSmallIntegerField(_("position"))
    product = models.ForeignKey(
        Product, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("product")
    )
    stock_record = models.ForeignKey(StockRecord, models.SET_NULL, null=True, blank=True, related_name="+")
    tracks_stock = models.BooleanField(_("tracks stock"), default=True)
    sku = models.CharField(_("SKU"), max_length=64)
    name = models.CharField(_("name"), max_length=255)
    attributes = models.JSONField(default=dict, blank=True)
    image = models.CharField(max_length=300, blank=True)

    quantity = models.PositiveIntegerField(_("quantity"))
    unit_price = money_field(_("unit price"))
    items_total = money_field(_("items"))
    discount_total = money_field(_("discount"), default=0)
    shipping_total = money_field(_("shipping"), default=0)
    tax_rate = models.DecimalField(_("tax rate"), max_digits=6, decimal_places=3, default=0)
    tax_total = money_field(_("tax"), default=0)
    total = money_field(
        _("total"), help_text=_("What the customer pays for this line, with its share of discount, shipping and tax.")
    )

    status = models.CharField(_("status"), max_length=50, default=Status.NEW)
    allocated = models.PositiveIntegerField(_("allocated"), default=0)
    charged = models.PositiveIntegerField(_("charged"), default=0)
    paid = models.PositiveIntegerField(_("paid"), default=0)
    shipped = models.PositiveIntegerField(_("shipped"), default=0)
    delivered = models.PositiveIntegerField(_("delivered"), default=0)
    cancelled = models.PositiveIntegerField(_("cancelled"), default=0)
    returned = models.PositiveIntegerField(_("returned"), default=0)
    refunded = models.PositiveIntegerField(_("refunded"), default=0)
    # Units that the order management system is asked to cancel: until it has answered nothing else happens to them.
    withheld = models.PositiveIntegerField(default=0, editable=False)
    # When its latest units arrived: what the deadlines of sending back count from.
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True, editable=False)
    # The product's, as it was when it was ordered.
    return_exemption = models.CharField(
        _("cannot be sent back"), max_length=20, choices=ReturnExemption, blank=True, editable=False
    )

    class Meta:
        verbose_name = _("order line")
        verbose_name_plural = _("order lines")
        ordering = ["order", "position"]
        constraints = [
            models.UniqueConstraint(fields=["order", "position"], name="line_position_once"),
            models.CheckConstraint(name="line_quantity_positive", condition=Q(quantity__gt=0)),
            models.CheckConstraint(
                name="line_gone_or_shipped", condition=Q(quantity__gte=F("cancelled") + F("shipped"))
            ),
            models.CheckConstraint(
                name="line_withheld_is_left", condition=Q(quantity__gte=F("cancelled") + F("shipped") + F("withheld"))
            ),
            models.CheckConstraint(
                name="line_allocated_or_shipped", condition=Q(quantity__gte=F("allocated") + F("shipped"))
            ),
            models.CheckConstraint(name="line_returned_was_shipped", condition=Q(returned__lte=F("shipped"))),
            models.CheckConstraint(name="line_delivered_was_shipped", condition=Q(delivered__lte=F("shipped"))),
            models.CheckConstraint(name="line_charged_bounded", condition=Q(charged__lte=F("quantity"))),
            models.CheckConstraint(name="line_paid_was_charged", condition=Q(paid__lte=F("charged"))),
            models.CheckConstraint(name="line_refunded_was_paid", condition=Q(refunded__lte=F("paid"))),
        ]
        indexes = [models.Index(fields=["sku"], name="line_sku")]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.name}"

    # --- how many units can still … -------------------------------------------------------------------------------

    @property
    def live(self) -> int:
        """Units the customer has or will have."""
        return self.quantity - self.cancelled - self.returned

    @property
    def left(self) -> int:
        """Units neither shipped nor cancelled."""
        return self.quantity - self.cancelled - self.shipped

    @property
    def open(self) -> int:
        """Units that can be shipped or cancelled: those left, but for what another system is asked to cancel."""
        return self.left - self.withheld

    @property
    def chargeable(self) -> int:
        """Units whose money is still to be asked for."""
        return max(0, min(self.live - (self.charged - self.refunded), self.quantity - self.charged))

    @property
    def paid_and_open(self) -> int:
        """Units that are paid for, or cost nothing, and have not been shipped."""
        if not self.total:
            return self.open
        return max(0, min(self.open, (self.paid - self.refunded) - (self.shipped - self.returned)))

    @property
    def on_the_way(self) -> int:
        """Units that left and neither arrived nor came back; those that came back had arrived first, if any had."""
        return self.shipped - max(self.delivered, self.returned)

    @property
    def returnable(self) -> int:
        return self.shipped - self.returned

    @property
    def overpaid(self) -> int:
        """Units that are paid for but no longer the customer's: their money is owed back."""
        return max(0, self.paid - self.refunded - self.live)

    # --- what units cost ------------------------------------------------------------------------------------------

    def price_of_next(self, count: int, *, after: int, currency: str) -> Decimal:
        """What `count` units cost, once `after` units have been accounted for. Pieces add up to `total`."""
        return next_units(self.total, self.quantity, after, count, currency)

    # --- statuses (Oscar's names) ---------------------------------------------------------------------------------

    @classmethod
    def all_statuses(cls) -> list[str]:
        """Return all possible statuses for an order line."""
        return list(cls.pipeline)  # type: ignore[attr-defined]

    def available_statuses(self) -> tuple[str, ...]:
        """Return all possible statuses that this order line can move to."""
        return self.pipeline.get(self.status, ())  # type: ignore[attr-defined]

    def set_status(self, new_status: str) -> None:
        """Set a new status for this line, by hand. The next event sets it from the line's units again.

        Raises InvalidLineStatus.
        """
        with transaction.atomic():
            current = OrderLine.objects.select_for_update(no_key=True).get(pk=self.pk)
            if new_status == current.status:
                return
            if new_status not in current.available_statuses():
                params = {"new": new_status, "line": self.position, "current": current.status}
                raise InvalidLineStatus(params=params)
            OrderLine.objects.filter(pk=self.pk).update(status=new_status)
            self.status = new_status

    def status_from_units(self, order_status: str) -> str:
        """The status that follows from the line's units and its order's."""
        if self.cancelled == self.quantity:
            return Status.CANCELLED
        if self.withheld and self.withheld == self.quantity - self.cancelled:
            return Status.CANCELLATION_WAITING
        staying = self.quantity - self.cancelled
        if self.shipped == staying:
            if self.returned == self.shipped and self.refunded >= self.paid:
                return Status.REFUNDED
            return Status.SHIPPED if self.on_the_way else Status.DELIVERED
        if order_status in {Status.SHIPPED, Status.DELIVERED, Status.REFUNDED, Status.CANCELLED}:
            return Status.PREPARING
        return order_status

    @property
    def status_label(self) -> Any:
        return status_label(self.status)

    @property
    def status_code(self) -> int:
        return status_code(self.status)
