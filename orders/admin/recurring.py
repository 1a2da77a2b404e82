"""Recurring orders: the list, the page of one with its orders and its history, and what can be done to it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin.forms import reasons_by_category, text_area, yes
from orders.models import RecurringOrder
from orders.processing import get_event_handler
from orders.processing.recurring import MANAGE
from orders.rules import recurring as rules
from shop.actors import Actor
from shop.errors import Words
from shop.search import IndexedSearch
from shop.staff import Action, ActionForm, ReadOnlyActionsAdmin, StoreFilter
from shop.templatetags.desk import ago, badge, money

MOST = 100
FIELDS = (
    "status_shown",
    "rhythm_shown",
    "next_shown",
    "customer_shown",
    "goods",
    "shipping_shown",
    "payment_shown",
    "store",
    "orders_shown",
    "history",
)
Data = dict[str, Any]


class NoteForm(ActionForm):
    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=2000, widget=text_area(2))


class PlaceForm(ActionForm):
    """Which one is meant: a page sent twice places one order."""

    occurrence = forms.IntegerField(widget=forms.HiddenInput, min_value=2)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["occurrence"].initial = self.obj.next_occurrence


class EndForm(NoteForm):
    reason = forms.ChoiceField(label=gettext_lazy("Reason"), required=False)
    notify = yes(gettext_lazy("Tell the customer"))
    field_order = ("reason", "note", "notify")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["reason"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = reasons_by_category(empty=_("(none)"))


def _place(series: RecurringOrder, actor: Actor, data: Data) -> Words:
    order = get_event_handler(actor).place_due(recurring_id=series.pk, occurrence=data["occurrence"], early=True)
    if order is None:
        return _("Nothing was placed: the series has moved on meanwhile. Look again.")
    return _("Order %(number)s is placed.") % {"number": order.number}


def _pause(series: RecurringOrder, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).pause_recurring(recurring_id=series.pk, note=data["note"])
    return _("Paused: no order comes until you resume it.")


def _resume(series: RecurringOrder, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).resume_recurring(recurring_id=series.pk, note=data["note"])
    return _("Resumed: the next order comes on the next date.")


def _end(series: RecurringOrder, actor: Actor, data: Data) -> Words:
    choices = {"reason": data["reason"] or None, "note": data["note"], "notify": data["notify"]}
    get_event_handler(actor).end_recurring(recurring_id=series.pk, **choices)
    return _("Ended: no order comes any more.")


ACTIONS = [
    Action(
        name="place",
        label=gettext_lazy("Place the next order now"),
        description=gettext_lazy("It comes now instead of on its date; the one after it comes as planned."),
        permission=MANAGE,
        refusal=lambda series, actor: rules.place_next(series),
        form=PlaceForm,
        act=_place,
        primary=True,
        relevant=lambda series: not series.is_ended,
    ),
    Action(
        name="pause",
        label=gettext_lazy("Pause"),
        description=gettext_lazy("No order comes until somebody resumes it."),
        permission=MANAGE,
        refusal=lambda series, actor: rules.pause(series),
        form=NoteForm,
        act=_pause,
        relevant=lambda series: series.is_active,
    ),
    Action(
        name="resume",
        label=gettext_lazy("Resume"),
        description=gettext_lazy("Orders come again from the next date on. Those of the pause are left out."),
        permission=MANAGE,
        refusal=lambda series, actor: rules.resume(series),
        form=NoteForm,
        act=_resume,
        primary=True,
        relevant=lambda series: series.status == RecurringOrder.Status.PAUSED,
    ),
    Action(
        name="end",
        label=gettext_lazy("End the series"),
        description=gettext_lazy("No order comes any more, for good. Those that were placed stay as they are."),
        permission=MANAGE,
        refusal=lambda series, actor: rules.end(series),
        form=EndForm,
        act=_end,
        danger=True,
        relevant=lambda series: not series.is_ended,
    ),
]


@admin.register(RecurringOrder)
class RecurringOrderAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """Series of orders. One begins on the page of an order."""

    store_path = "store"
    desk_actions = ACTIONS
    list_display = ["customer_shown", "rhythm_shown", "status_shown", "next_shown", "store"]
    list_display_links = ["customer_shown"]
    list_filter = ["status", "unit", StoreFilter]
    list_select_related = ["store"]
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    ordering = ["-pk"]
    search_fields = ["orders__number", "email__upper"]
    search_help_text = gettext_lazy("A whole order number or e-mail address.")
    fields = FIELDS
    readonly_fields = FIELDS

    class Media:
        css = {"all": ["desk/orders.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("store", "shipping_address", "ended_reason")

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404

    @admin.display(description=gettext_lazy("customer"))
    def customer_shown(self, row: RecurringOrder) -> SafeString:
        return format_html('{}<span class="order-more">{}</span>', row.customer_name or _("Guest"), row.email)

    @admin.display(description=gettext_lazy("how often"))
    def rhythm_shown(self, row: RecurringOrder) -> str:
        return row.rhythm

    @admin.display(description=gettext_lazy("status"))
    def status_shown(self, row: RecurringOrder) -> SafeString:
        status = {"active": "approved", "ended": "cancelled", "paused": "waiting"}[row.status]
        return badge(status, row.get_status_display())

    @admin.display(description=gettext_lazy("next order"))
    def next_shown(self, row: RecurringOrder) -> SafeString | str:
        if not row.is_active:
            return "–"
        day = date_format(localtime(row.next_at), "DATE_FORMAT")
        return format_html('{}<span class="order-more">{}</span>', day, ago(row.next_at))

    @admin.display(description=gettext_lazy("goods"))
    def goods(self, row: RecurringOrder) -> SafeString:
        items = [
            (
                item.quantity,
                item.name,
                money(item.product.price, item.product.currency) if item.product else _("not sold any more"),
            )
            for item in row.items.select_related("product")
        ]
        # No <ul>: Django's forms indent those.
        return format_html_join("", '<div>{} × {}<span class="order-more">{}</span></div>', items)

    @admin.display(description=gettext_lazy("shipping"))
    def shipping_shown(self, row: RecurringOrder) -> SafeString:
        method = row.shipping_method_name or row.shipping_method or "–"
        return format_html(
            '{}, {}<span class="order-more">{}</span>',
            method,
            money(row.shipping_price, row.store.currency),
            row.shipping_address or "",
        )

    @admin.display(description=gettext_lazy("payment"))
    def payment_shown(self, row: RecurringOrder) -> SafeString:
        name = row.payment_method_name or row.gateway
        return format_html('{}<span class="order-more">{}</span>', name, row.gateway)

    @admin.display(description=gettext_lazy("orders"))
    def orders_shown(self, row: RecurringOrder) -> SafeString:
        orders = [
            (
                reverse("admin:orders_order_change", args=(order.pk,)),
                order.get_number(),
                badge(order.status, order.status_label),
                _("no. %(n)d") % {"n": order.occurrence},
                money(order.total, order.currency),
                ago(order.placed_at),
            )
            for order in row.orders.order_by("-pk")[:MOST]
        ]
        lines = '<div><a href="{}">{}</a> {}<span class="order-more">{} · {} · {}</span></div>'
        return format_html_join("", lines, orders)

    @admin.display(description=gettext_lazy("history"))
    def history(self, row: RecurringOrder) -> SafeString:
        changes = [
            (
                change.get_what_display(),
                change.actor_name,
                ago(change.created_at),
                " · ".join(filter(None, ["", str(change.reason or ""), change.note])),
            )
            for change in row.changes.select_related("reason").order_by("-pk")[:MOST]
        ]
        return format_html_join("", '<div>{}<span class="order-more">{} · {}{}</span></div>', changes)
