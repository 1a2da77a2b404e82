"""Cart: what a customer is about to order, from which store, to where and how."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from checkout.models.addresses import Address
from checkout.models.methods import PaymentMethod, ShippingMethod
from inventory.models import Product
from shop.models import Store


class Cart(models.Model):
    """A customer's or guest's cart in one store. A guest's is known by its public id, kept in their session.

    An address is an entry of the customer's book or, for guests, details of its own. Once ordered, a cart is empty,
    names its order, and never changes again.
    """

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        ORDERED = "ordered", _("Ordered")

    public_id = models.UUIDField(_("id"), default=uuid.uuid4, unique=True, editable=False)
    store = models.ForeignKey(Store, models.PROTECT, related_name="+", verbose_name=_("store"))
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="carts",
        verbose_name=_("customer"),
    )
    email = models.EmailField(_("e-mail"), blank=True)
    language = models.CharField(_("language"), max_length=10, default=settings.LANGUAGE_CODE)
    shipping_method = models.ForeignKey(
        ShippingMethod, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("shipping method")
    )
    payment_method = models.ForeignKey(
        PaymentMethod, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("payment method")
    )
    shipping_entry = models.ForeignKey(
        Address,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("shipping address of the book"),
    )
    shipping_details = models.JSONField(_("shipping address"), default=dict, blank=True)
    billing_entry = models.ForeignKey(
        Address, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("billing address of the book")
    )
    billing_details = models.JSONField(
        _("billing address"), default=dict, blank=True, help_text=_("Empty: the shipping address.")
    )
    discount_code = models.CharField(_("discount code"), max_length=50, blank=True)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.OPEN)
    order_number = models.CharField(_("order"), max_length=40, blank=True, db_index=True)
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("changed"), db_index=True)

    class Meta:
        verbose_name = _("cart")
        verbose_name_plural = _("carts")
        ordering = ["-updated_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "store"], condition=Q(status="open"), name="cart_one_open_per_customer_and_store"
            ),
            models.CheckConstraint(
                name="cart_ordered_has_number",
                condition=Q(status="open", order_number="") | (Q(status="ordered") & ~Q(order_number="")),
            ),
        ]

    def __str__(self) -> str:
        return str(self.public_id)

    @property
    def is_open(self) -> bool:
        return self.status == self.Status.OPEN

    @property
    def contact(self) -> str:
        """Where the order's mails go."""
        return self.email or (self.customer.email if self.customer else "")

    def address(self, kind: str) -> Address | dict[str, Any] | None:
        """The address of a kind ("shipping" or "billing"): the book's entry, the cart's own details, or none."""
        return getattr(self, f"{kind}_entry") or getattr(self, f"{kind}_details") or None


class CartItem(models.Model):
    """So many units of a product. Its price is the product's, until it is ordered."""

    cart = models.ForeignKey(Cart, models.CASCADE, related_name="items", verbose_name=_("cart"))
    product = models.ForeignKey(Product, models.CASCADE, related_name="+", verbose_name=_("product"))
    quantity = models.PositiveIntegerField(_("quantity"))
    position = models.PositiveIntegerField(_("position"))

    class Meta:
        verbose_name = _("cart item")
        verbose_name_plural = _("cart items")
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["cart", "product"], name="cart_product_once"),
            models.CheckConstraint(name="cart_item_quantity_positive", condition=Q(quantity__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product_id}"
