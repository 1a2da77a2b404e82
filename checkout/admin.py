"""What staff see and set: ways to ship and to pay, discounts; carts and address books to look at."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Count, F, Model, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from checkout.models import Address, Cart, CartItem, Discount, PaymentMethod, ShippingMethod
from checkout.services import contents
from orders.models import Order
from shop.errors import Words
from shop.money import shown
from shop.search import IndexedSearch
from shop.staff import ActionsAdmin, OwnStoresAdmin, ReadOnlyActionsAdmin, ReadOnlyAdmin, StoreFilter
from shop.templatetags.desk import ago, badge

ABANDONED_AFTER = timedelta(hours=1)


# ---------------------------------------------------------------------------------------------------------------------
# What stores offer


class OfferAdmin(OwnStoresAdmin, ActionsAdmin):
    """Base of what stores offer: staff of one store set what that store offers, and no other's."""

    store_path = "store"
    list_select_related = ["store"]
    search_fields = ["code", "name"]

    @admin.display(description=_("store"), ordering="store")
    def offered_by(self, offer: Any) -> Words:
        return str(offer.store) if offer.store else _("All stores")


@admin.register(ShippingMethod)
class ShippingMethodAdmin(OfferAdmin):
    list_display = ["name", "code", "offered_by", "costs", "free", "carrier", "is_pickup", "position", "is_active"]
    list_filter = ["is_active", "is_pickup", StoreFilter]
    prepopulated_fields = {"code": ["name"]}
    fieldsets = [
        (None, {"fields": ["name", "code", "store", "is_active", "position"]}),
        (_("Price"), {"fields": ["price", "currency", "free_from"]}),
        (_("Delivery"), {"fields": ["is_pickup", "carrier", "tracking_url_template"]}),
    ]

    @admin.display(description=_("price"), ordering="price")
    def costs(self, method: ShippingMethod) -> str:
        return shown(method.price, method.currency)

    @admin.display(description=_("free from"), empty_value="–")
    def free(self, method: ShippingMethod) -> str | None:
        return None if method.free_from is None else shown(method.free_from, method.currency)


@admin.register(PaymentMethod)
class PaymentMethodAdmin(OfferAdmin):
    list_display = [
        "name",
        "code",
        "offered_by",
        "gateway",
        "capture_mode",
        "pays_on_delivery",
        "position",
        "is_active",
    ]
    list_filter = ["is_active", "pays_on_delivery", StoreFilter]
    prepopulated_fields = {"code": ["name"]}
    fieldsets = [
        (None, {"fields": ["name", "code", "store", "is_active", "position"]}),
        (_("Money"), {"fields": ["gateway", "capture_mode", "pays_on_delivery"]}),
        (_("Words"), {"fields": ["instructions"]}),
    ]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "gateway":
            codes = [(code, code) for code in sorted(settings.PAYMENT_GATEWAYS)]
            return forms.ChoiceField(label=db_field.verbose_name.capitalize(), choices=codes)
        return super().formfield_for_dbfield(db_field, request, **kwargs)


@admin.register(Discount)
class DiscountAdmin(OfferAdmin):
    list_display = ["name", "code", "reduction", "offered_by", "valid_from", "valid_until", "is_active"]
    list_filter = ["is_active", StoreFilter]
    fieldsets = [
        (None, {"fields": ["name", "code", "store", "is_active"]}),
        (_("Reduction"), {"fields": ["percent", "amount", "currency", "minimum"]}),
        (_("When"), {"fields": ["valid_from", "valid_until"]}),
    ]

    @admin.display(description=_("reduction"))
    def reduction(self, discount: Discount) -> str:
        if discount.percent is not None:
            return f"{discount.percent.normalize():f} %"
        return shown(discount.amount or 0, discount.currency)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# To look at


class CartFilter(admin.SimpleListFilter):
    """Carts that somebody filled and left, those in use, and those that became orders."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [("abandoned", _("Abandoned")), ("open", _("In use")), ("ordered", _("Ordered"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        left_at = timezone.now() - ABANDONED_AFTER
        if self.value() == "abandoned":
            return queryset.filter(status=Cart.Status.OPEN, updated_at__lte=left_at, lines__gt=0)
        if self.value() == "open":
            return queryset.filter(status=Cart.Status.OPEN, updated_at__gt=left_at)
        if self.value() == "ordered":
            return queryset.filter(status=Cart.Status.ORDERED)
        return queryset


@admin.register(Cart)
class CartAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """Carts, and what is in them. Customers change them, nobody else."""

    store_path = "store"
    change_form_template = "admin/checkout/cart/change_form.html"
    list_display = ["buyer", "store", "state", "lines_in_it", "units_in_it", "order", "changed"]
    list_display_links = ["buyer"]
    list_filter = [CartFilter, StoreFilter]
    list_select_related = ["store", "customer"]
    search_fields = ["order_number"]
    words_searched = ["email__icontains", "customer__email__icontains"]
    fields = [
        "buyer",
        "store",
        "state",
        "order",
        "language",
        "shipping_method",
        "payment_method",
        "discount_code",
        "created_at",
        "updated_at",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With what is in them, counted for the rows of the page only: a GROUP BY would count all carts first."""
        items = CartItem.objects.filter(cart=OuterRef("pk")).order_by().values("cart")
        lines, units = items.annotate(its=Count("pk")).values("its"), items.annotate(its=Sum("quantity")).values("its")
        return super().get_queryset(request).annotate(lines=Coalesce(Subquery(lines), 0), units=Subquery(units))

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        cart: Any = self.get_object(request, object_id) if object_id else None
        found = contents(cart=cart, as_of=timezone.now()) if cart is not None else None
        return super().changeform_view(request, object_id, form_url, {"contents": found, **(extra_context or {})})

    @admin.display(description=_("customer"))
    def buyer(self, cart: Cart) -> str:
        return (cart.customer.get_full_name() if cart.customer else "") or cart.contact or _t("Guest")

    @admin.display(description=_("state"))
    def state(self, cart: Any) -> SafeString:
        if cart.is_open and cart.lines and cart.updated_at <= timezone.now() - ABANDONED_AFTER:
            return badge("abandoned", _("Abandoned"))
        return badge(cart.status, cart.get_status_display())

    @admin.display(description=_("products"), ordering="lines")
    def lines_in_it(self, cart: Any) -> int:
        return int(cart.lines)

    @admin.display(description=_("units"), ordering=F("units").desc(nulls_last=True))
    def units_in_it(self, cart: Any) -> int:
        return int(cart.units or 0)

    @admin.display(description=_("order"), empty_value="–")
    def order(self, cart: Cart) -> SafeString | str | None:
        if not cart.order_number:
            return None
        address = f"{reverse('admin:orders_order_changelist')}?q={cart.order_number}" if _is_registered(Order) else ""
        return format_html('<a href="{}">{}</a>', address, cart.order_number) if address else cart.order_number

    @admin.display(description=_("changed"), ordering="updated_at")
    def changed(self, cart: Cart) -> SafeString | str:
        return ago(cart.updated_at)


def _is_registered(model: type[Model]) -> bool:
    return admin.site.is_registered(model)


@admin.register(Address)
class AddressAdmin(ReadOnlyAdmin):
    """Customers' address books; an order's own address is changed on the order."""

    list_display = ["customer", "first_name", "last_name", "line", "postcode", "city", "country", "updated_at"]
    list_filter = ["country"]
    list_select_related = ["customer"]
    search_fields = ["customer__email", "last_name", "postcode", "city"]
    show_full_result_count = False
