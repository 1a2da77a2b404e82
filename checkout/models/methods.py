"""What a store offers: ways to ship and to pay, and discounts."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from urllib.parse import quote

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from orders.models import CaptureMode
from payments.gateways import UnknownGateway, get_gateway, is_credit
from shop.models import Store
from shop.money import currency_field, money_field, rounded

NOT_NEGATIVE = [MinValueValidator(Decimal(0))]


def check_currency(store: Store | None, currency: str, **amounts: Decimal | None) -> None:
    """Refuse amounts that the currency does not have, and a currency that the store does not sell in."""
    if store is not None and store.currency != currency:
        raise ValidationError({"currency": _("%(store)s sells in %(its)s.") % {"store": store, "its": store.currency}})
    for name, amount in amounts.items():
        if amount is not None and amount != rounded(amount, currency):
            raise ValidationError({name: _("%(currency)s has no amounts this small.") % {"currency": currency}})


class ShippingMethod(models.Model):
    """A way for goods to reach the customer, and its price."""

    code = models.SlugField(_("code"), unique=True)
    name = models.CharField(_("name"), max_length=200)
    store = models.ForeignKey(
        Store,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: all stores that sell in its currency."),
    )
    price = money_field(_("price"), default=0, validators=NOT_NEGATIVE)
    currency = currency_field(_("currency"), default="EUR")
    free_from = money_field(
        _("free from"),
        null=True,
        blank=True,
        validators=NOT_NEGATIVE,
        help_text=_("Costs nothing from this value of goods on, discounts taken off. Empty: never."),
    )
    carrier = models.CharField(_("carrier"), max_length=100, blank=True)
    tracking_url_template = models.CharField(
        _("tracking address"),
        max_length=300,
        blank=True,
        validators=[
            RegexValidator(
                r"^https?://[^\s{}]*\{number\}[^\s{}]*\Z",
                _("Enter an address with {number} where the tracking number goes."),
            )
        ],
        help_text=_("Such as https://carrier.example/track/{number}."),
    )
    is_pickup = models.BooleanField(_("collected at the store"), default=False)
    is_active = models.BooleanField(_("active"), default=True)
    position = models.PositiveSmallIntegerField(_("position"), default=0)

    class Meta:
        verbose_name = _("shipping method")
        verbose_name_plural = _("shipping methods")
        ordering = ["position", "pk"]
        constraints = [models.CheckConstraint(name="shipping_method_price_not_negative", condition=Q(price__gte=0))]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        check_currency(self.store, self.currency, price=self.price, free_from=self.free_from)

    def tracking_url(self, number: str) -> str:
        """Where the customer can follow a parcel; empty where the carrier has no such page."""
        return self.tracking_url_template.replace("{number}", quote(number, safe="")) if number else ""

    def is_offered_by(self, store: Store) -> bool:
        return self.is_active and self.currency == store.currency and self.store_id in {None, store.pk}


class PaymentMethod(models.Model):
    """A way to pay: through which gateway, and when the money is taken."""

    code = models.SlugField(_("code"), unique=True)
    name = models.CharField(_("name"), max_length=200)
    store = models.ForeignKey(
        Store,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: all stores."),
    )
    gateway = models.CharField(_("gateway"), max_length=30, help_text=_("As the setting PAYMENT_GATEWAYS names it."))
    pays_on_delivery = models.BooleanField(
        _("paid on delivery"), default=False, help_text=_("If on, goods leave before they are paid for.")
    )
    capture_mode = models.CharField(
        _("money is taken"), max_length=20, choices=CaptureMode, default=CaptureMode.BY_STAFF
    )
    instructions = models.TextField(
        _("instructions"),
        blank=True,
        help_text=_("What the customer is told to do, such as the bank account to pay to."),
    )
    is_active = models.BooleanField(_("active"), default=True)
    position = models.PositiveSmallIntegerField(_("position"), default=0)

    class Meta:
        verbose_name = _("payment method")
        verbose_name_plural = _("payment methods")
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        try:
            gateway = get_gateway(self.gateway)
        except UnknownGateway as no:
            raise ValidationError({"gateway": str(no)}) from no
        if is_credit(self.gateway):
            words = _("Customers spend their credit beside any way to pay; it needs no payment method.")
            raise ValidationError({"gateway": words})
        if self.pays_on_delivery and gateway.takes_money_online:
            raise ValidationError({"pays_on_delivery": _("This gateway takes the money online, before delivery.")})

    def is_offered_by(self, store: Store) -> bool:
        # With a credit gateway's method, a client's payment details could name somebody else's account.
        return self.is_active and self.store_id in {None, store.pk} and not is_credit(self.gateway)


class Discount(models.Model):
    """A reduction of a cart's goods: by itself, or for those who enter its code."""

    code = models.CharField(
        _("code"), max_length=50, null=True, blank=True, help_text=_("Empty: granted to everybody by itself.")
    )
    name = models.CharField(_("name"), max_length=200)
    percent = models.DecimalField(
        _("percent"),
        max_digits=5,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.01")), MaxValueValidator(Decimal(100))],
    )
    amount = money_field(_("amount"), null=True, blank=True, validators=NOT_NEGATIVE)
    currency = currency_field(_("currency"), default="EUR", help_text=_("Granted in stores that sell in it."))
    minimum = money_field(_("from a value of"), default=0, validators=NOT_NEGATIVE)
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    store = models.ForeignKey(
        Store,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("store"),
        help_text=_("Empty: all stores that sell in its currency."),
    )
    is_active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("discount")
        verbose_name_plural = _("discounts")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                Upper("code"),
                name="discount_code_once",
                violation_error_message=_("There is a discount with this code."),
            ),
            models.CheckConstraint(
                name="discount_percent_or_amount",
                condition=Q(percent__isnull=False, amount__isnull=True) | Q(percent__isnull=True, amount__isnull=False),
                violation_error_message=_("Enter either a percentage or an amount."),
            ),
            models.CheckConstraint(
                name="discount_bounded", condition=Q(percent=None) | Q(percent__gt=0, percent__lte=100)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        self.code = (self.code or "").strip() or None
        check_currency(self.store, self.currency, amount=self.amount, minimum=self.minimum)
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValidationError({"valid_until": _("Enter a time after the one it is valid from.")})

    def is_granted(self, *, as_of: datetime) -> bool:
        return (
            self.is_active
            and (self.valid_from is None or self.valid_from <= as_of)
            and (self.valid_until is None or as_of < self.valid_until)
        )
