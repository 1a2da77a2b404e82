"""What the inventory stores: products, locations, how many units are where, and every movement that made it so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.files.base import File
from django.core.validators import FileExtensionValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from shop.models import AppendOnly, Store
from shop.money import currency_field, money_field

MAX_IMAGE_BYTES = 5_000_000


def image_is_small_enough(image: File[Any]) -> None:
    """Refuse an image whose bytes alone would slow the storefront down."""
    if image.size > MAX_IMAGE_BYTES:
        raise ValidationError(_("The image is larger than 5 MB."), code="image_too_large")


class ReturnExemption(models.TextChoices):
    """Why a product cannot be sent back: the exceptions in the law of the EU (directive 2011/83, article 16)."""

    MADE_TO_ORDER = "made_to_order", _("made to the customer's order")
    PERISHABLE = "perishable", _("perishes quickly")
    HYGIENE = "hygiene", _("sealed for hygiene")
    MIXED = "mixed", _("cannot be separated once delivered")
    SEALED_MEDIA = "sealed_media", _("sealed recordings or software")
    PERIODICAL = "periodical", _("newspaper or magazine")
    DATED_SERVICE = "dated_service", _("for a fixed date")
    DIGITAL = "digital", _("digital content")


class Product(models.Model):
    """One thing that can be bought, with its price."""

    sku = models.CharField(_("SKU"), max_length=64, unique=True)
    name = models.CharField(_("name"), max_length=255)
    description = models.TextField(_("description"), blank=True)
    price = money_field(_("price"), validators=[MinValueValidator(Decimal(0))])
    currency = currency_field(_("currency"), default="EUR")
    tax_rate = models.DecimalField(
        _("tax rate"),
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(100))],
        help_text=_("In percent, such as 19.00."),
    )
    image = models.ImageField(
        _("image"),
        upload_to="products/",
        blank=True,
        validators=[FileExtensionValidator(["jpg", "jpeg", "png", "webp"]), image_is_small_enough],
    )
    track_stock = models.BooleanField(
        _("track stock"), default=True, help_text=_("If off, any number can be sold and no stock is kept.")
    )
    attributes = models.JSONField(
        _("attributes"), default=dict, blank=True, help_text=_('What tells variants apart, such as {"Colour": "Red"}.')
    )
    return_exemption = models.CharField(
        _("cannot be sent back"),
        max_length=20,
        choices=ReturnExemption,
        blank=True,
        help_text=_("Why, where the law allows it. Counts for orders placed from now on."),
    )
    is_active = models.BooleanField(_("active"), default=True, help_text=_("If off, it cannot be bought."))
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["name", "id"]
        constraints = [
            models.CheckConstraint(name="product_price_not_negative", condition=Q(price__gte=0)),
            models.CheckConstraint(name="product_tax_rate_percent", condition=Q(tax_rate__gte=0, tax_rate__lte=100)),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not isinstance(self.attributes, dict):
            raise ValidationError({"attributes": _('Enter an object, such as {"Colour": "Red"}.')})


class Location(models.Model):
    """Where units are kept and sent from: a warehouse, a shop's back room."""

    code = models.SlugField(_("code"), unique=True)
    name = models.CharField(_("name"), max_length=200)
    store = models.ForeignKey(Store, models.PROTECT, related_name="locations", verbose_name=_("store"))
    priority = models.IntegerField(_("priority"), default=0, help_text=_("The location with the lowest is used first."))
    is_active = models.BooleanField(_("active"), default=True, help_text=_("If off, nothing new is sold from here."))

    class Meta:
        verbose_name = _("location")
        verbose_name_plural = _("locations")
        ordering = ["priority", "name"]

    def __str__(self) -> str:
        return self.name


class Bucket(models.TextChoices):
    """What state units on the shelf are in. Only sellable ones can be allocated."""

    SELLABLE = "sellable", _("Sellable")
    QUARANTINE = "quarantine", _("Quarantine")
    DAMAGED = "damaged", _("Damaged")


class StockRecord(models.Model):
    """How many units of a product are at a location. inventory/services.py is the only writer of the four numbers.

    on_hand     sellable units on the shelf, including the allocated ones
    allocated   of those, units promised to orders and not yet shipped
    quarantine  units waiting to be looked at
    damaged     units that will not be sold
    """

    product = models.ForeignKey(Product, models.PROTECT, related_name="stock_records", verbose_name=_("product"))
    location = models.ForeignKey(Location, models.PROTECT, related_name="stock_records", verbose_name=_("location"))
    on_hand = models.PositiveIntegerField(_("on hand"), default=0)
    allocated = models.PositiveIntegerField(_("allocated"), default=0)
    quarantine = models.PositiveIntegerField(_("in quarantine"), default=0)
    damaged = models.PositiveIntegerField(_("damaged"), default=0)
    low_stock_threshold = models.PositiveIntegerField(
        _("low-stock threshold"), null=True, blank=True, help_text=_("An alert opens when fewer units are available.")
    )

    class Meta:
        verbose_name = _("stock record")
        verbose_name_plural = _("stock records")
        ordering = ["product__name", "location__priority", "id"]
        permissions = [
            ("receive_stock", "Can book received stock"),
            ("adjust_stock", "Can adjust stock after a count and move it between states"),
            ("write_off_stock", "Can write off stock"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["product", "location"], name="stock_record_once"),
            models.CheckConstraint(
                name="stock_record_not_negative",
                condition=Q(on_hand__gte=0, allocated__gte=0, quarantine__gte=0, damaged__gte=0),
            ),
            models.CheckConstraint(name="stock_record_not_oversold", condition=Q(allocated__lte=F("on_hand"))),
        ]

    def __str__(self) -> str:
        return f"{self.product} · {self.location}"

    @property
    def available(self) -> int:
        """Units that can still be sold."""
        return self.on_hand - self.allocated

    @property
    def net_stock_level(self) -> int:
        """Oscar's name for `available`."""
        return self.available

    @property
    def can_track_allocations(self) -> bool:
        """Oscar's name for whether the product tracks stock at all."""
        return self.product.track_stock

    @property
    def is_low(self) -> bool:
        return self.low_stock_threshold is not None and self.available < self.low_stock_threshold


class StockMovement(AppendOnly):
    """One change of a stock record's numbers, and its cause. The sum of movements equals the level, always."""

    class Kind(models.TextChoices):
        RECEIVED = "received", _("Received")
        ALLOCATED = "allocated", _("Allocated")
        RELEASED = "released", _("Released")
        SHIPPED = "shipped", _("Shipped")
        RETURNED = "returned", _("Returned to stock")
        QUARANTINED = "quarantined", _("Into quarantine")
        DAMAGED = "damaged", _("Damaged")
        ADJUSTED = "adjusted", _("Adjusted after a count")
        WRITTEN_OFF = "written_off", _("Written off")
        MOVED = "moved", _("Moved back to sellable")

    stock_record = models.ForeignKey(
        # The index below serves look-ups by record.
        StockRecord,
        models.PROTECT,
        related_name="movements",
        verbose_name=_("stock record"),
        db_index=False,
    )
    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    on_hand_delta = models.IntegerField(_("on hand"), default=0)
    allocated_delta = models.IntegerField(_("allocated"), default=0)
    quarantine_delta = models.IntegerField(_("in quarantine"), default=0)
    damaged_delta = models.IntegerField(_("damaged"), default=0)
    key = models.CharField(
        _("cause"), max_length=200, unique=True, help_text=_("What made it happen; the same cause moves stock once.")
    )
    reference = models.CharField(
        _("reference"), max_length=64, blank=True, db_index=True, help_text=_("Order number or delivery note.")
    )
    actor_name = models.CharField(_("by"), max_length=320, blank=True)
    note = models.TextField(_("note"), blank=True)
    created_at = models.DateTimeField(_("when"), db_index=True)

    class Meta:
        verbose_name = _("stock movement")
        verbose_name_plural = _("stock movements")
        ordering = ["-id"]
        indexes = [models.Index(fields=["stock_record", "-id"], name="stock_movement_ledger")]
        constraints = [
            models.CheckConstraint(
                name="stock_movement_moves_something",
                condition=~Q(on_hand_delta=0, allocated_delta=0, quarantine_delta=0, damaged_delta=0),
            )
        ]

    def __str__(self) -> str:
        return self.key


class StockAlert(models.Model):
    """Notice that a stock record has fallen below its threshold; open until it no longer is."""

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        CLOSED = "closed", _("Closed")

    stock_record = models.ForeignKey(StockRecord, models.PROTECT, related_name="alerts", verbose_name=_("stock record"))
    threshold = models.PositiveIntegerField(_("threshold"))
    available = models.PositiveIntegerField(_("available"), help_text=_("When the alert opened."))
    status = models.CharField(_("status"), max_length=6, choices=Status, default=Status.OPEN)
    opened_at = models.DateTimeField(_("opened"))
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)

    class Meta:
        verbose_name = _("stock alert")
        verbose_name_plural = _("stock alerts")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["stock_record"], condition=Q(status="open"), name="stock_alert_one_open"),
            models.CheckConstraint(
                name="stock_alert_closed_has_time",
                condition=Q(status="open", closed_at__isnull=True) | Q(status="closed", closed_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.stock_record} < {self.threshold}"
