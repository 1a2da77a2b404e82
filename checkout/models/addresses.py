"""The address book of a customer."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from shop.countries import country_name


class Address(models.Model):
    """One entry of a customer's address book. Orders keep copies of their own; changing or deleting it touches none."""

    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="addresses", verbose_name=_("customer")
    )
    title = models.CharField(_("title"), max_length=100, blank=True, help_text=_("What the customer calls it: Home."))
    first_name = models.CharField(_("first name"), max_length=100)
    last_name = models.CharField(_("last name"), max_length=100)
    company = models.CharField(_("company"), max_length=200, blank=True)
    line = models.CharField(_("street and number"), max_length=300)
    line2 = models.CharField(_("address line 2"), max_length=300, blank=True)
    postcode = models.CharField(_("postcode"), max_length=20, blank=True)
    city = models.CharField(_("city"), max_length=100, blank=True, help_text=_("Some countries are one city."))
    state = models.CharField(_("state or province"), max_length=100, blank=True)
    country = models.CharField(_("country"), max_length=2, help_text=_("Two-letter code (ISO 3166)."))
    phone = models.CharField(_("phone"), max_length=32, blank=True)
    is_default_shipping = models.BooleanField(_("default for shipping"), default=False)
    is_default_billing = models.BooleanField(_("default for billing"), default=False)
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("changed"))

    class Meta:
        verbose_name = _("address")
        verbose_name_plural = _("addresses")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["customer"], condition=Q(is_default_shipping=True), name="address_one_default_shipping"
            ),
            models.UniqueConstraint(
                fields=["customer"], condition=Q(is_default_billing=True), name="address_one_default_billing"
            ),
        ]

    @property
    def country_name(self) -> str:
        """The country as the reader of the page calls it."""
        return country_name(self.country)

    def __str__(self) -> str:
        name = " ".join(filter(None, [self.first_name, self.last_name]))
        place = " ".join(filter(None, [self.postcode, self.city]))
        return ", ".join(filter(None, [name, self.company, self.line, place, self.country_name]))
