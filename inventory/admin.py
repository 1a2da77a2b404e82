"""What staff see and do: the catalogue, stock records with their ledger, movements and alerts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import F, ForeignKey, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from inventory import services
from inventory.models import Bucket, Location, Product, StockAlert, StockMovement, StockRecord
from shop.actors import Actor
from shop.errors import Words
from shop.models import Store
from shop.money import shown
from shop.search import IndexedSearch
from shop.staff import Action, ActionForm, ActionsAdmin, ReadOnlyActionsAdmin, StoreFilter, actor_of

MOST_AT_ONCE = 1_000_000
LEDGER_ROWS = 50
ACTION_PAGE = "admin/inventory/stockrecord/action.html"


# ---------------------------------------------------------------------------------------------------------------------
# Actions on a stock record


class UnitsForm(ActionForm):
    """How many units, and why."""

    quantity = forms.IntegerField(label=_("Units"), min_value=1, max_value=MOST_AT_ONCE)
    note = forms.CharField(label=_("Note"), required=False, max_length=1000, widget=forms.Textarea({"rows": 2}))


class ReceiveForm(UnitsForm):
    """Units that arrived."""

    reference = forms.CharField(label=_("Delivery note"), required=False, max_length=64)


class CountForm(ActionForm):
    """What was counted on the shelf; the difference is the desk's to compute."""

    bucket = forms.ChoiceField(label=_("State of the units"), choices=Bucket.choices)
    counted = forms.IntegerField(
        label=_("Counted"),
        min_value=0,
        max_value=services.MOST_UNITS,
        help_text=_("All units of this state on the shelf; of sellable ones, those promised to orders too."),
    )
    note = forms.CharField(label=_("Reason of the difference"), max_length=1000, widget=forms.Textarea({"rows": 2}))


class WriteOffForm(UnitsForm):
    """Units that are gone, and what became of them."""

    bucket = forms.ChoiceField(label=_("State of the units"), choices=Bucket.choices)
    note = forms.CharField(label=_("Reason"), max_length=1000, widget=forms.Textarea({"rows": 2}))


class ReclassifyForm(UnitsForm):
    """Units that change their state."""

    source = forms.ChoiceField(label=_("From"), choices=Bucket.choices, initial=Bucket.QUARANTINE)
    target = forms.ChoiceField(label=_("To"), choices=Bucket.choices, initial=Bucket.SELLABLE)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("source") and data.get("source") == data.get("target"):
            self.add_error("target", _("Choose another state than they are in."))
        return data


class ThresholdForm(ActionForm):
    """From when on a record counts as low."""

    threshold = forms.IntegerField(
        label=_("Low-stock threshold"),
        required=False,
        min_value=0,
        max_value=MOST_AT_ONCE,
        help_text=_("An alert opens when fewer units are available. Empty: no alert."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["threshold"].initial = self.obj.low_stock_threshold


def key_of(verb: str, record: StockRecord, data: dict[str, Any]) -> str:
    """The cause of a movement made by hand: the page it was sent from, so that a double submit is one movement."""
    return f"{verb}:{record.pk}:{data['once'] or uuid.uuid4()}"


def told(moved: list[StockMovement], words: Callable[[int], str], quantity: int) -> Words:
    """What to tell: a page sent twice has done its work the first time."""
    return words(quantity) if moved else _t("This was already booked; nothing has changed.")


def receive(record: StockRecord, actor: Actor, data: dict[str, Any]) -> Words:
    moved = services.receive(
        stock_record_id=record.pk,
        quantity=data["quantity"],
        key=key_of("receive", record, data),
        note=data["note"],
        reference=data["reference"],
        actor_name=actor.name,
    )
    return told(moved, lambda n: ngettext("%d unit received.", "%d units received.", n) % n, data["quantity"])


def adjust(record: StockRecord, actor: Actor, data: dict[str, Any]) -> Words:
    movement = services.adjust(
        stock_record_id=record.pk,
        counted=data["counted"],
        key=key_of("adjust", record, data),
        note=data["note"],
        actor_name=actor.name,
        bucket=data["bucket"],
    )
    if movement is None:
        return _t("The count agrees with the books; nothing has changed.")
    difference = sum(getattr(movement, f"{column}_delta") for column in services.COLUMN_OF.values())
    return _t("Stock adjusted by %(difference)+d.") % {"difference": difference}


def write_off(record: StockRecord, actor: Actor, data: dict[str, Any]) -> Words:
    moved = services.write_off(
        moves=[services.Move(record.pk, data["quantity"], key_of("write_off", record, data), data["note"])],
        bucket=data["bucket"],
        actor_name=actor.name,
    )
    return told(moved, lambda n: ngettext("%d unit written off.", "%d units written off.", n) % n, data["quantity"])


def reclassify(record: StockRecord, actor: Actor, data: dict[str, Any]) -> Words:
    moved = services.reclassify(
        moves=[services.Move(record.pk, data["quantity"], key_of("reclassify", record, data), data["note"])],
        source=data["source"],
        target=data["target"],
        actor_name=actor.name,
    )
    return told(moved, lambda n: ngettext("%d unit moved.", "%d units moved.", n) % n, data["quantity"])


def set_threshold(record: StockRecord, actor: Actor, data: dict[str, Any]) -> Words:
    services.set_threshold(stock_record_id=record.pk, threshold=data["threshold"])
    if data["threshold"] is None:
        return _t("No alert will open for this record.")
    return _t("An alert opens when fewer than %d units are available.") % data["threshold"]


def numbers(record: StockRecord, actor: Actor) -> dict[str, Any]:
    """What the action's page shows of the record, so that nobody has to remember it."""
    names = ("on_hand", "allocated", "quarantine", "damaged")
    columns = [(record._meta.get_field(name).verbose_name, getattr(record, name)) for name in names]  # type: ignore[union-attr]
    return {"columns": [(_("available"), record.available), *columns]}


def has_units(record: StockRecord) -> bool:
    return bool(record.on_hand or record.quarantine or record.damaged)


STOCK_ACTIONS = (
    Action(
        name="receive",
        label=_("Receive"),
        act=receive,
        permission="inventory.receive_stock",
        form=ReceiveForm,
        preview=numbers,
        template=ACTION_PAGE,
        description=_("Book units that arrived. They can be sold at once."),
        primary=True,
    ),
    Action(
        name="adjust",
        label=_("Adjust after a count"),
        act=adjust,
        permission="inventory.adjust_stock",
        form=CountForm,
        preview=numbers,
        template=ACTION_PAGE,
        description=_("Enter what is really there. The books follow, and the difference is kept with its reason."),
    ),
    Action(
        name="reclassify",
        label=_("Move between states"),
        act=reclassify,
        permission="inventory.adjust_stock",
        form=ReclassifyForm,
        preview=numbers,
        template=ACTION_PAGE,
        relevant=has_units,
        description=_("Move units between sellable, quarantine and damaged. Units promised to orders stay."),
    ),
    Action(
        name="threshold",
        label=_("Set low-stock threshold"),
        act=set_threshold,
        permission="inventory.change_stockrecord",
        form=ThresholdForm,
        preview=numbers,
        template=ACTION_PAGE,
    ),
    Action(
        name="write-off",
        label=_("Write off"),
        act=write_off,
        permission="inventory.write_off_stock",
        form=WriteOffForm,
        preview=numbers,
        template=ACTION_PAGE,
        relevant=has_units,
        danger=True,
        description=_("Take units out of the books that are lost or thrown away."),
    ),
)


# ---------------------------------------------------------------------------------------------------------------------
# Pages


@admin.register(Product)
class ProductAdmin(ActionsAdmin):
    """The catalogue."""

    list_display = ["sku", "name", "price_shown", "stock_available", "is_active"]
    list_display_links = ["sku", "name"]
    list_filter = ["is_active", "track_stock"]
    search_fields = ["sku", "name"]
    # Said here as well: rows with a sum of their stock forget the model's own, and pages of choices would overlap.
    ordering = ["name", "pk"]
    fieldsets = [
        (None, {"fields": ["sku", "name", "description", "image", "attributes", "is_active"]}),
        (_("Price"), {"fields": [("price", "currency"), "tax_rate"]}),
        (_("Stock"), {"fields": ["track_stock", "return_exemption"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        stores = actor_of(request).stores
        mine = Q() if stores is None else Q(stock_records__location__store__in=stores)
        units = Sum(F("stock_records__on_hand") - F("stock_records__allocated"), filter=mine)
        return super().get_queryset(request).annotate(units_available=Coalesce(units, 0))

    @admin.display(description=_("price"), ordering="price")
    def price_shown(self, product: Product) -> str:
        return shown(product.price, product.currency)

    @admin.display(description=_("available"), ordering="units_available", empty_value="∞")
    def stock_available(self, product: Any) -> int | None:
        return product.units_available if product.track_stock else None


@admin.register(Location)
class LocationAdmin(ActionsAdmin):
    """Where units are kept."""

    store_path = "store"
    list_display = ["name", "code", "store", "priority", "is_active"]
    list_filter = ["is_active", StoreFilter]
    list_select_related = ["store"]
    search_fields = ["code", "name"]

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        stores = actor_of(request).stores
        if db_field.name == "store" and stores is not None:
            kwargs["queryset"] = Store.objects.filter(pk__in=stores)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class StockLevelFilter(admin.SimpleListFilter):
    """Records that need to be filled up."""

    title = _("level")
    parameter_name = "level"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("low", _("Low")), ("out", _("Nothing available")), ("quarantine", _("Something in quarantine"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[StockRecord]) -> QuerySet[StockRecord]:
        if self.value() == "low":
            return queryset.filter(on_hand__lt=F("allocated") + F("low_stock_threshold"))
        if self.value() == "out":
            return queryset.filter(on_hand=F("allocated"))
        if self.value() == "quarantine":
            return queryset.filter(quarantine__gt=0)
        return queryset


@admin.register(StockRecord)
class StockRecordAdmin(ReadOnlyActionsAdmin):
    """How many units are where. A record is added empty; its numbers change by actions only."""

    change_form_template = "admin/inventory/stockrecord/change_form.html"
    store_path = "location__store"
    desk_actions = STOCK_ACTIONS
    list_display = [
        "product",
        "sku",
        "location",
        "available",
        "on_hand",
        "allocated",
        "quarantine",
        "damaged",
        "low_stock_threshold",
    ]
    list_filter = [StockLevelFilter, StoreFilter, ("location", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["product", "location__store"]
    search_fields = ["product__sku", "product__name"]
    autocomplete_fields = ["product"]
    fieldsets = [
        (None, {"fields": ["product", "sku", "location"]}),
        (_("Units"), {"fields": ["available", "on_hand", "allocated", "quarantine", "damaged", "low_stock_threshold"]}),
    ]
    add_fieldsets = [(None, {"fields": ["product", "location"]})]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.add_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["sku", "available"] if obj else []

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        stores = actor_of(request).stores
        if db_field.name == "location" and stores is not None:
            kwargs["queryset"] = Location.objects.filter(store__in=stores)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if obj := kwargs.get("obj"):
            context["ledger"] = ledger(obj)
            context["ledger_rows"] = LEDGER_ROWS
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("SKU"), ordering="product__sku")
    def sku(self, record: StockRecord) -> str:
        return record.product.sku

    @admin.display(description=_("available"), ordering=F("on_hand") - F("allocated"))
    def available(self, record: StockRecord) -> int:
        return record.available


def ledger(record: StockRecord) -> list[dict[str, Any]]:
    """The latest movements of a record, each column's change with its sign, nothing where nothing changed."""
    return [
        {
            "movement": movement,
            "changes": [f"{delta:+d}" if delta else "" for delta in services.deltas_of(movement)],
        }
        for movement in record.movements.all()[:LEDGER_ROWS]
    ]


@admin.register(StockMovement)
class StockMovementAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """The ledger of all records."""

    store_path = "stock_record__location__store"
    list_display = [
        "created_at",
        "kind",
        "product",
        "location",
        "on_hand_delta",
        "allocated_delta",
        "quarantine_delta",
        "damaged_delta",
        "reference",
        "actor_name",
        "note",
    ]
    list_filter = ["kind", ("created_at", admin.DateFieldListFilter), StoreFilter]
    list_select_related = ["stock_record__product", "stock_record__location"]
    search_fields = ["reference__beginning", "stock_record__product__sku__beginning"]

    @admin.display(description=_("product"))
    def product(self, movement: StockMovement) -> str:
        return str(movement.stock_record.product)

    @admin.display(description=_("location"))
    def location(self, movement: StockMovement) -> str:
        return str(movement.stock_record.location)


@admin.register(StockAlert)
class StockAlertAdmin(ReadOnlyActionsAdmin):
    """Records that ran low, and when they were filled up again."""

    store_path = "stock_record__location__store"
    list_display = ["stock_record", "status", "available", "threshold", "opened_at", "closed_at"]
    list_filter = ["status", StoreFilter, ("stock_record__location", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["stock_record__product", "stock_record__location"]
    search_fields = ["stock_record__product__sku", "stock_record__product__name"]
