"""The tables beside the orders: requests to answer, notes, holds and the journal to read, types of events to edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin import forms
from orders.admin.actions import decide_request
from orders.admin.plans import PlanView
from orders.models import (
    CancellationRequest,
    Hold,
    JournalEntry,
    OrderNote,
    PaymentEvent,
    PaymentEventType,
    RequestPicture,
    ShippingEvent,
    ShippingEventType,
)
from orders.processing import get_event_handler
from orders.processing.cancelling import Choices
from orders.processing.decision import VERBS
from orders.processing.deskwork import NoteFixed
from orders.processing.requesting import why_not_answer, why_not_close
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.search import IndexedSearch
from shop.staff import Action, ReadOnlyActionsAdmin, StoreFilter, came_from
from shop.templatetags.desk import ago, badge

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:  # generic for the type checker only
    ModelAdmin = admin.ModelAdmin


class OfAnOrder(IndexedSearch, ReadOnlyActionsAdmin):
    """Rows that belong to an order, in its store's scope; what is done to one leads back to the order."""

    store_path = "order__store"
    list_per_page = 50
    list_select_related = ["order"]
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ["order__number"]
    search_help_text = gettext_lazy("A whole order number.")
    ordering = ["-pk"]

    class Media:
        css = {"all": ["desk/orders.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("order__store")

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404

    @admin.display(description=gettext_lazy("order"))
    def order_link(self, row: Any) -> SafeString:
        return format_html('<a href="{}">{}</a>', reverse("admin:orders_order_change", args=(row.order_id,)), row.order)

    def action_page(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        response = super().action_page(request, object_id, name)
        if response.status_code == 302 and not came_from(request):
            order = self.get_queryset(request).filter(pk=object_id).values_list("order", flat=True).first()
            return redirect("admin:orders_order_change", order)
        return response


# ---------------------------------------------------------------------------------------------------------------
# Requests


def _not_to_approve(request: CancellationRequest, actor: Actor) -> Refused | None:
    return why_not_answer(request, approve=True)


def _not_to_reject(request: CancellationRequest, actor: Actor) -> Refused | None:
    return why_not_answer(request, approve=False)


def _approve(request: CancellationRequest, actor: Actor, data: dict[str, Any]) -> Words:
    decide_request(request, actor, data, approve=True)
    if request.cancellation_type == CancellationRequest.Type.CANCEL:
        return _("The request is approved, and its units are cancelled.")
    return _("The request is approved; the customer is told how to send the goods.")


def _reject(request: CancellationRequest, actor: Actor, data: dict[str, Any]) -> Words:
    decide_request(request, actor, data, approve=False)
    return _("The request is rejected.")


def _close(request: CancellationRequest, actor: Actor, data: dict[str, Any]) -> Words:
    handler = get_event_handler(actor)
    handler.close_request(request_id=request.pk, note=data["note"], version=data["version"])
    return _("The request is completed.")


def _failed(request: CancellationRequest) -> bool:
    return why_not_close(request) is None


def _preview(request: CancellationRequest, actor: Actor) -> dict[str, Any]:
    """What approving a cancellation will do; of a return only taking it back says so."""
    if request.cancellation_type != CancellationRequest.Type.CANCEL:
        return {}
    facts = request.order.facts
    try:
        plan = get_event_handler(actor).planned(facts, Choices(lines={request.line_id: request.quantity}))
    except Refused as no:
        return {"plan_refusal": no}
    return {"plan_view": PlanView(plan, facts, {"restock": True, "refund": True, "notify": True})}


DECIDE = "orders.decide_cancellationrequest"


@admin.register(CancellationRequest)
class CancellationRequestAdmin(OfAnOrder):
    """What customers want cancelled or sent back, and the answers."""

    list_display = ["order_link", "wish", "reason", "description_shown", "status_badge", "asked"]
    list_display_links = ["wish"]
    list_filter = ["status", "cancellation_type", StoreFilter]
    list_select_related = ["order", "line", "reason", "decided_by"]
    fields = [
        "order_link",
        "wish",
        "reason",
        "description",
        "pictures",
        "status_badge",
        "goods_return_link",
        "as_points",
        "created_at",
        "decided_at",
        "decided_by",
        "decision_note",
    ]
    readonly_fields = ["order_link", "wish", "status_badge", "pictures", "goods_return_link"]
    desk_actions = [
        Action(
            name="approve",
            label=gettext_lazy("Approve"),
            description=gettext_lazy("Units to be cancelled are cancelled at once. Units to be sent back are awaited."),
            permission=DECIDE,
            refusal=_not_to_approve,
            form=forms.ApproveRequestForm,
            act=_approve,
            preview=_preview,
            primary=True,
            template="admin/orders/request.html",
        ),
        Action(
            name="reject",
            label=gettext_lazy("Reject"),
            description=gettext_lazy("Nothing is cancelled. The customer reads your answer."),
            permission=DECIDE,
            refusal=_not_to_reject,
            form=forms.RejectRequestForm,
            act=_reject,
            template="admin/orders/request.html",
        ),
        Action(
            name="close",
            label=gettext_lazy("Refunded otherwise"),
            description=gettext_lazy("Its refund has failed. Say how the customer got the money; nothing is sent."),
            permission=DECIDE,
            refusal=lambda row, actor: why_not_close(row),
            form=forms.CloseRequestForm,
            act=_close,
            relevant=_failed,
            template="admin/orders/request.html",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("line", "reason", "decided_by", "goods_return__carrier")
        # Whether goods were inspected decides which buttons a row has.
        return rows.prefetch_related(Prefetch("pictures", RequestPicture.without_content()), "inspections")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        def do(row: CancellationRequest) -> SafeString:
            buttons = [button for button in self.buttons(request, row) if button.refusal is None]
            return render_to_string("admin/desk/buttons.html", {"buttons": buttons, "small": True})

        do.short_description = _("Answer")  # type: ignore[attr-defined]
        return [*self.list_display, do]

    @admin.display(description=gettext_lazy("wish"))
    def wish(self, row: CancellationRequest) -> str:
        return f"{row.get_cancellation_type_display()}: {row.quantity} × {row.line.name}"

    @admin.display(description=gettext_lazy("description"))
    def description_shown(self, row: CancellationRequest) -> str:
        return row.description[:120] + ("…" if len(row.description) > 120 else "")

    @admin.display(description=gettext_lazy("status"))
    def status_badge(self, row: CancellationRequest) -> SafeString:
        return badge(row.status, row.get_status_display())

    @admin.display(description=gettext_lazy("pictures"))
    def pictures(self, row: CancellationRequest) -> SafeString | str:
        pictures = list(row.pictures.all())
        return render_to_string("admin/orders/pictures.html", {"pictures": pictures}) if pictures else "–"

    @admin.display(description=gettext_lazy("return"))
    def goods_return_link(self, row: CancellationRequest) -> SafeString | str:
        if row.goods_return is None:
            return "–"
        url = reverse("admin:orders_return_change", args=(row.goods_return_id,))
        return render_to_string("admin/orders/order/goods_return.html", {"parcel": row.goods_return, "url": url})

    @admin.display(description=gettext_lazy("asked"))
    def asked(self, row: CancellationRequest) -> SafeString | str:
        return ago(row.created_at)


# ---------------------------------------------------------------------------------------------------------------
# Notes, holds, journal


def _fixed(note: OrderNote, actor: Actor) -> Refused | None:
    own = note.user_id is not None and note.user_id == actor.user_id
    return None if own and note.is_editable(as_of=timezone.now()) else NoteFixed()


def _correct(note: OrderNote, actor: Actor, data: dict[str, Any]) -> Words:
    get_event_handler(actor).correct_note(note_id=note.pk, message=data["message"])
    return _("The note is corrected.")


@admin.register(OrderNote)
class OrderNoteAdmin(OfAnOrder):
    """Notes of all orders. Their author may correct one for five minutes; nobody deletes one."""

    list_display = ["order_link", "message_shown", "type_badge", "author", "created_at"]
    list_display_links = ["message_shown"]
    list_filter = ["note_type", StoreFilter]
    fields = ["order_link", "type_badge", "message", "author", "created_at", "updated_at"]
    readonly_fields = ["order_link", "type_badge"]
    desk_actions = [
        Action(
            name="correct",
            label=gettext_lazy("Correct the note"),
            permission="orders.note_order",
            refusal=_fixed,
            form=forms.CorrectNoteForm,
            act=_correct,
        )
    ]

    @admin.display(description=gettext_lazy("note"))
    def message_shown(self, row: OrderNote) -> str:
        return row.message[:120] + ("…" if len(row.message) > 120 else "")

    @admin.display(description=gettext_lazy("type"))
    def type_badge(self, row: OrderNote) -> SafeString:
        return badge(row.note_type, row.get_note_type_display())


class ActiveFilter(admin.SimpleListFilter):
    title = gettext_lazy("active")
    parameter_name = "active"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", _("Active")), ("no", _("Released"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Hold]) -> QuerySet[Hold]:
        active = {"yes": True, "no": False}.get(self.value() or "")
        return queryset if active is None else queryset.filter(released_at__isnull=active)


@admin.register(Hold)
class HoldAdmin(OfAnOrder):
    """Holds of all orders. An order's page places and releases them."""

    list_display = ["order_link", "kind_shown", "reason", "placed_by", "placed_at", "released_by", "released_at"]
    list_display_links = ["kind_shown"]
    list_filter = [ActiveFilter, "kind", StoreFilter]
    fields = ["order_link", "kind", "reason", "placed_by", "placed_at", "released_by", "released_at", "release_note"]
    readonly_fields = ["order_link"]

    @admin.display(description=gettext_lazy("hold"))
    def kind_shown(self, row: Hold) -> SafeString:
        return badge("done" if row.released_at else "hold", row.get_kind_display())


@admin.register(JournalEntry)
class JournalEntryAdmin(OfAnOrder):
    """Every decision about every order. Nobody adds, changes or deletes an entry, superusers included."""

    list_display = ["order_link", "sequence", "what", "actor_name", "reason", "note_shown", "at"]
    list_display_links = ["sequence"]
    list_filter = [StoreFilter]
    fields = [
        "order_link",
        "sequence",
        "what",
        "actor_name",
        "at",
        "reason",
        "note",
        "before",
        "after",
        "details",
        "previous_hash",
        "hash",
    ]
    readonly_fields = ["order_link", "what"]

    @admin.display(description=gettext_lazy("what"))
    def what(self, row: JournalEntry) -> str:
        return str(capfirst(VERBS.get(row.verb, row.verb.replace("_", " "))))

    @admin.display(description=gettext_lazy("note"))
    def note_shown(self, row: JournalEntry) -> str:
        return row.note[:80] + ("…" if len(row.note) > 80 else "")


# ---------------------------------------------------------------------------------------------------------------
# What a shop may choose itself


class InUse(ModelAdmin):
    """Short lists that rows of the past point at: a code stays what it is, and what is in use is not deleted."""

    actions: Any = None
    show_full_result_count = False

    def is_in_use(self, obj: Any) -> bool:
        raise NotImplementedError

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["code"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or not self.is_in_use(obj))


@admin.register(ShippingEventType)
class ShippingEventTypeAdmin(InUse):
    """Kinds of shipping events; the desk needs its own."""

    list_display = ["name", "code"]
    OWN = frozenset({"ready_for_pickup", "shipped", "delivered", "cancelled", "returned"})

    def is_in_use(self, obj: ShippingEventType) -> bool:
        return obj.code in self.OWN or ShippingEvent.objects.filter(event_type=obj).exists()


@admin.register(PaymentEventType)
class PaymentEventTypeAdmin(InUse):
    """Kinds of payment events; the desk needs its own."""

    list_display = ["name", "code"]
    OWN = frozenset({"authorized", "charged", "paid", "received", "declined", "refunded", "voided"})

    def is_in_use(self, obj: PaymentEventType) -> bool:
        return obj.code in self.OWN or PaymentEvent.objects.filter(event_type=obj).exists()
