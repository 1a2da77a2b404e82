"""Goods that come back, as staff see them: the parcels, what was in them, who fetches them, the shop's terms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Exists, F, Max, OuterRef, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from orders import rules
from orders.admin.forms import RemarkForm
from orders.admin.others import InUse, OfAnOrder
from orders.admin.policies import ModelForm, Settings
from orders.admin.returnforms import InspectForm, deduction_of
from orders.models import (
    CancellationRequest,
    Inspection,
    Order,
    RequestPicture,
    Return,
    ReturnCarrier,
    ReturnPolicy,
)
from orders.processing import get_event_handler
from orders.processing.receiving import why_not_inspect, why_not_receive
from shop.actors import Actor
from shop.errors import Words
from shop.money import rounded, shown
from shop.staff import Action, ActionsAdmin, OwnStoresAdmin, StoreFilter, actor_of
from shop.templatetags.desk import ago, badge

Data = dict[str, Any]
ARRIVED, AWAITED, ASKED, CLOSED = "arrived", "awaited", "asked", "closed"
STATES: dict[str, Words] = {
    ARRIVED: gettext_lazy("Arrived, to be inspected"),
    AWAITED: gettext_lazy("Awaited"),
    ASKED: gettext_lazy("To be answered"),
    CLOSED: gettext_lazy("Closed"),
}
# Coloured as requests are that are as far.
COLOURS = {ARRIVED: "confirmation_waiting", AWAITED: "approved", ASKED: "open", CLOSED: "completed"}


def state_of(parcel: Return, requests: Iterable[CancellationRequest]) -> str:
    """How far a return is, by its requests."""
    found = {request.status for request in requests}
    if CancellationRequest.Status.CONFIRMATION_WAITING in found:
        return ARRIVED
    if CancellationRequest.Status.APPROVED in found:
        return AWAITED
    return CLOSED if parcel.closed_at is not None else ASKED


def in_state(rows: QuerySet[Return], state: str) -> QuerySet[Return]:
    """The returns of a state."""
    status = CancellationRequest.Status

    def with_one(wanted: str) -> Exists:
        return Exists(CancellationRequest.objects.filter(goods_return=OuterRef("pk"), status=wanted))

    arrived, awaited = with_one(status.CONFIRMATION_WAITING), with_one(status.APPROVED)
    if state == ARRIVED:
        return rows.filter(arrived, closed_at=None)
    if state == AWAITED:
        return rows.filter(~arrived, awaited, closed_at=None)
    if state == ASKED:
        return rows.filter(~arrived, ~awaited, closed_at=None)
    return rows.exclude(closed_at=None) if state == CLOSED else rows


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Return]) -> QuerySet[Return]:
        return in_state(queryset, self.value() or "")


# ---------------------------------------------------------------------------------------------------------------
# What is done to a return


class ReceiveForm(RemarkForm):
    """The version is that of the return's order."""

    @property
    def order(self) -> Order:
        order: Order = self.obj.order
        return order


def _receive(parcel: Return, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).receive_return(code=parcel.code, note=data["note"], version=data["version"])
    return _("The return has arrived; the customer is being told. Inspect it next.")


def _inspect(parcel: Return, actor: Actor, data: Data) -> Words:
    plan, choice = data["plan"], data["choice"]
    found = {int(pk): conditions for pk, conditions in choice["found"].items()}
    handler, deduction = get_event_handler(actor), deduction_of(choice)
    if plan.version == parcel.order.version:
        now = handler.plan_inspection(code=parcel.code, found=found, deduction=deduction).plan
        if now is not None and now != plan:
            raise rules.plan_changed(plan, now)
    handler.inspect_return(
        code=parcel.code, found=found, deduction=deduction, note=data["note"], version=data["version"]
    )
    units = sum(sum(conditions.values()) for conditions in choice["found"].values())
    told = ngettext("%(n)d unit inspected.", "%(n)d units inspected.", units) % {"n": units}
    if plan.refund:
        told += " " + _("%(amount)s is being refunded.") % {"amount": shown(plan.refund, plan.currency)}
    return told


# ---------------------------------------------------------------------------------------------------------------
# The list and the page


@admin.register(Return)
class ReturnAdmin(OfAnOrder):
    """Parcels that come back. A code in the search opens its return: a scanner types it and presses Enter."""

    fields = ()
    list_display = ["code_shown", "order_link", "state_shown", "goods", "carrier_shown", "asked", "arrived"]
    list_display_links = ["code_shown"]
    list_filter = [StateFilter, "carrier", StoreFilter]
    list_select_related = ["order", "carrier"]
    # What waits stands first, the oldest of it on top.
    ordering = [F("closed_at").desc(nulls_first=True), "pk"]
    search_fields = ["code", "order__number"]
    search_help_text = gettext_lazy("Scan or type a return code; or a whole order number.")
    change_form_template = "admin/orders/return/change_form.html"

    class Media:
        css = {"all": ["desk/orders.css", "desk/approvals.css"]}

    desk_actions = [
        Action(
            name="receive",
            label=gettext_lazy("Receive"),
            description=gettext_lazy("The parcel is here, unopened. The customer is told."),
            permission="orders.return_order",
            refusal=lambda parcel, actor: why_not_receive(parcel, parcel.requests.all()),
            form=ReceiveForm,
            act=_receive,
            primary=True,
            relevant=lambda parcel: parcel.closed_at is None,
            template="admin/orders/cancellation/action.html",
        ),
        Action(
            name="inspect",
            label=gettext_lazy("Inspect"),
            description=gettext_lazy(
                "Each unit goes where its condition says, and what arrived is refunded. Nothing happens before you "
                "confirm. What you leave out is still awaited; what is missing is not."
            ),
            permission="orders.return_order",
            refusal=lambda parcel, actor: why_not_inspect(parcel, parcel.requests.all()),
            form=InspectForm,
            act=_inspect,
            primary=True,
            relevant=lambda parcel: parcel.closed_at is None,
            template="admin/orders/return/inspect.html",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        pictures = Prefetch("pictures", RequestPicture.without_content())
        found = Prefetch("inspections", Inspection.objects.order_by("pk"))
        requests = CancellationRequest.objects.select_related("line", "reason").order_by("pk")
        rows = super().get_queryset(request).select_related("carrier", "pickup_address")
        return rows.prefetch_related(Prefetch("requests", requests.prefetch_related(pictures, found)))

    def changelist_view(self, request: HttpRequest, extra_context: Data | None = None) -> HttpResponse:
        """A whole code in the search opens the return."""
        term = request.GET.get(SEARCH_VAR, "").strip().upper()
        if request.method == "GET" and term and set(request.GET) == {SEARCH_VAR} and self.has_view_permission(request):
            pk = self.get_queryset(request).filter(code=term.replace("\x00", "")).values_list("pk", flat=True).first()
            if pk is not None:
                return redirect("admin:orders_return_change", pk)
        return super().changelist_view(request, extra_context)

    def action_page(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        """Back to the return: after it has been received it is inspected."""
        return ActionsAdmin.action_page(self, request, object_id, name)

    def render_change_form(self, request: HttpRequest, context: Data, *args: Any, **kwargs: Any) -> HttpResponse:
        parcel = kwargs["obj"]
        state = state_of(parcel, parcel.requests.all())
        context.update(
            title=_("Return %(code)s") % {"code": parcel.code}, state=COLOURS[state], state_label=STATES[state]
        )
        return super().render_change_form(request, context, *args, **kwargs)

    # --- columns ----------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("return code"))
    def code_shown(self, row: Return) -> SafeString:
        return format_html('<span class="order-code">{}</span>', row.code)

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, row: Return) -> SafeString:
        state = state_of(row, row.requests.all())
        return badge(COLOURS[state], STATES[state])

    @admin.display(description=gettext_lazy("goods"))
    def goods(self, row: Return) -> str:
        told = [f"{one.quantity} × {one.line.name}" for one in row.requests.all()]
        return ", ".join(told[:2]) + (f" +{len(told) - 2}" if len(told) > 2 else "")

    @admin.display(description=gettext_lazy("brought by"))
    def carrier_shown(self, row: Return) -> SafeString | str:
        if row.pickup_date is None:
            return str(row.carrier or "–")
        when = f"{date_format(row.pickup_date, 'DATE_FORMAT')} {row.pickup_hours}"
        return format_html('{}<span class="order-more">{}</span>', row.carrier or "", when)

    @admin.display(description=gettext_lazy("asked"))
    def asked(self, row: Return) -> SafeString | str:
        return ago(row.created_at)

    @admin.display(description=gettext_lazy("arrived"))
    def arrived(self, row: Return) -> SafeString | str:
        return ago(row.received_at)


# ---------------------------------------------------------------------------------------------------------------
# The shop's terms


def orders_under(policy: ReturnPolicy) -> bool:
    """Whether orders have been placed while a policy was the newest of its store, or of all stores."""
    same = ReturnPolicy.objects.filter(store=policy.store, valid_from__gt=policy.valid_from)
    until = same.order_by("valid_from").values_list("valid_from", flat=True).first()
    placed = Order.objects.placed().filter(placed_at__gte=policy.valid_from)
    if policy.store_id is not None:
        placed = placed.filter(store=policy.store_id)
    return placed.filter(Q() if until is None else Q(placed_at__lt=until)).exists()


class ReturnPolicyForm(ModelForm):
    class Meta:
        model = ReturnPolicy
        fields = "__all__"

    def clean_valid_from(self) -> Any:
        """A policy that began in the past would change what customers were promised with their orders."""
        begins = self.cleaned_data["valid_from"]
        placed = Order.objects.placed()
        store = self.data.get("store") or None
        if store and str(store).isdecimal():
            placed = placed.filter(store=store)
        latest = placed.aggregate(latest=Max("placed_at"))["latest"]
        if latest is not None and begins <= latest:
            words = _("Orders have been placed since then, and keep the policy of their time: choose a later one.")
            raise forms.ValidationError(words)
        return begins

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).upper()


@admin.register(ReturnPolicy)
class ReturnPolicyAdmin(OwnStoresAdmin, Settings):
    """What may be sent back. A policy that orders were placed under stays as it is; a new one succeeds it."""

    form = ReturnPolicyForm
    list_display = ["where", "valid_from", "return_days", "withdrawal_days", "fee_shown", "approves_at_once"]
    list_filter = [StoreFilter]
    store_path = "store"
    list_select_related = ["store"]
    fieldsets = [
        (
            gettext_lazy("Where and from when"),
            {
                "fields": ["store", "valid_from"],
                "description": gettext_lazy(
                    "An order keeps the policy that it was placed under: its store's newest then, or else the newest "
                    "of all stores. So a policy that orders were placed under cannot be changed; add a new one that "
                    "begins later."
                ),
            },
        ),
        (gettext_lazy("How long"), {"fields": ["return_days", "withdrawal_days"]}),
        (gettext_lazy("What it costs"), {"fields": [("fee", "currency")]}),
        (gettext_lazy("How it goes"), {"fields": ["approves_at_once", "needs_pickup"]}),
    ]

    def get_changeform_initial_data(self, request: HttpRequest) -> Data:
        """A new policy begins a moment from now, with the terms of the newest."""
        newest = self.get_queryset(request).order_by("-valid_from").first()
        names = ("store", "return_days", "withdrawal_days", "fee", "currency", "approves_at_once", "needs_pickup")
        initial = {name: getattr(newest, name) for name in names} if newest else {}
        if newest:
            initial["fee"] = rounded(newest.fee, newest.currency)
        return {**initial, "valid_from": timezone.now(), **super().get_changeform_initial_data(request)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those that hold in people's own stores: these stores' and those of all stores."""
        rows, stores = super().get_queryset(request), actor_of(request).stores
        return rows if stores is None else rows.filter(Q(store=None) | Q(store__in=stores))

    def has_change_permission(self, request: HttpRequest, obj: ReturnPolicy | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or self._can_change(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: ReturnPolicy | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or self._can_change(request, obj))

    def _can_change(self, request: HttpRequest, obj: ReturnPolicy) -> bool:
        return self.is_own(request, obj) and not orders_under(obj)

    @admin.display(description=gettext_lazy("store"))
    def where(self, row: ReturnPolicy) -> str:
        return str(row.store or _("All stores"))

    @admin.display(description=gettext_lazy("fee"))
    def fee_shown(self, row: ReturnPolicy) -> str:
        return shown(row.fee, row.currency) if row.fee else "–"


@admin.register(ReturnCarrier)
class ReturnCarrierAdmin(InUse):
    """Who brings goods back. One that has been chosen is switched off, not deleted."""

    list_display = ["name", "code", "fetches", "is_active", "position"]
    fields = ["name", "code", "fetches", "instructions", "position", "is_active"]

    def is_in_use(self, obj: ReturnCarrier) -> bool:
        return Return.objects.filter(carrier=obj).exists()
