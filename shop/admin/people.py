"""People and stores, their settings, and who works where."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop.staff import ActionsAdmin


class PeopleAdmin(UserAdmin):
    """Staff and customers. Only a superuser makes superusers, or touches their accounts."""

    list_display = ["username", "email", "first_name", "last_name", "language", "is_staff", "is_active"]
    list_filter = ["is_staff", "is_active", "is_superuser", "groups"]
    search_fields = ["username", "email", "first_name", "last_name", "phone"]
    show_full_result_count = False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        contact = (_("Contact"), {"fields": ("phone", "language")})
        return [*fieldsets[:2], contact, *fieldsets[2:]]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        own = ["last_login", "date_joined"]
        if request.user.is_superuser:
            return own
        rights = ["is_superuser", "user_permissions"]
        # Nobody gives rights to themselves.
        return [*own, *rights, "groups", "is_staff"] if obj and obj.pk == request.user.pk else [*own, *rights]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def _may_touch(self, request: HttpRequest, obj: Any) -> bool:
        return obj is None or request.user.is_superuser or not obj.is_superuser

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        rows, duplicates = super().get_search_results(request, queryset, search_term)
        # The store's field of its staff offers staff, not every customer.
        if request.GET.get("model_name") == "store" and request.GET.get("field_name") == "staff":
            rows = rows.filter(is_staff=True)
        return rows, duplicates


class StoreAdmin(ActionsAdmin):
    """Stores, their settings, and who works there."""

    store_path = "pk"
    list_display = ["name", "code", "currency", "country", "reviews_orders", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["name", "code"]
    autocomplete_fields = ["staff"]
    fieldsets = [
        (None, {"fields": ["name", "code", "is_active"]}),
        (gettext_lazy("Selling"), {"fields": ["currency", "country", "prices_include_tax", "reviews_orders"]}),
        (gettext_lazy("Mails and documents"), {"fields": ["email", "address"]}),
        (gettext_lazy("People"), {"fields": ["staff"]}),
    ]
