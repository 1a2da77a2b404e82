"""Addresses that customers want instead, with their answers; and what the order management system told by itself."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin import forms
from orders.admin.others import OfAnOrder
from orders.models import AddressChange, ExternalNotice
from orders.processing import get_event_handler
from orders.processing.readdressing import AddressDecided
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.search import IndexedSearch
from shop.staff import Action, ReadOnlyActionsAdmin, StoreFilter
from shop.templatetags.desk import ago, badge

READDRESS = "orders.readdress_order"


def _decided(change: AddressChange, actor: Actor) -> Refused | None:
    return None if change.status == AddressChange.Status.WAITING else AddressDecided()


def _answer(change: AddressChange, actor: Actor, data: dict[str, Any], *, approve: bool) -> None:
    handler = get_event_handler(actor)
    handler.decide_address(change_id=change.pk, approve=approve, note=data["note"], version=data["version"])


def _approve(change: AddressChange, actor: Actor, data: dict[str, Any]) -> Words:
    _answer(change, actor, data, approve=True)
    return _("The address is changed; the customer is being told.")


def _reject(change: AddressChange, actor: Actor, data: dict[str, Any]) -> Words:
    _answer(change, actor, data, approve=False)
    return _("The order keeps its address; the customer is being told.")


@admin.register(AddressChange)
class AddressChangeAdmin(OfAnOrder):
    """What customers want, and the answers."""

    list_display = ["order_link", "address_shown", "which", "status_badge", "asked"]
    list_display_links = ["address_shown"]
    list_filter = ["status", StoreFilter]
    list_select_related = ["order", "address"]
    fields = [
        "order_link",
        "address_shown",
        "which",
        "status_badge",
        "actor_name",
        "created_at",
        "decided_at",
        "decided_by",
        "decision_note",
    ]
    readonly_fields = ["order_link", "address_shown", "which", "status_badge"]
    desk_actions = [
        Action(
            name="approve",
            label=gettext_lazy("Approve"),
            description=gettext_lazy("The order gets this address, and the customer is told."),
            permission=READDRESS,
            refusal=_decided,
            form=forms.ApproveRequestForm,
            act=_approve,
            primary=True,
            template="admin/orders/address.html",
        ),
        Action(
            name="reject",
            label=gettext_lazy("Reject"),
            description=gettext_lazy("The order keeps its address. The customer reads your answer."),
            permission=READDRESS,
            refusal=_decided,
            form=forms.RejectRequestForm,
            act=_reject,
            template="admin/orders/address.html",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("address", "order__shipping_address")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        def do(row: AddressChange) -> SafeString:
            buttons = [button for button in self.buttons(request, row) if button.refusal is None]
            return render_to_string("admin/desk/buttons.html", {"buttons": buttons, "small": True})

        do.short_description = _("Answer")  # type: ignore[attr-defined]
        return [*self.list_display, do]

    @admin.display(description=gettext_lazy("new address"))
    def address_shown(self, row: AddressChange) -> str:
        return str(row.address)

    @admin.display(description=gettext_lazy("of"))
    def which(self, row: AddressChange) -> str:
        kinds = [(row.shipping, _("shipping")), (row.billing, _("billing"))]
        return ", ".join(str(name) for wanted, name in kinds if wanted)

    @admin.display(description=gettext_lazy("status"))
    def status_badge(self, row: AddressChange) -> SafeString:
        return badge(row.status, row.get_status_display())

    @admin.display(description=gettext_lazy("asked"))
    def asked(self, row: AddressChange) -> SafeString | str:
        return ago(row.created_at)


@admin.register(ExternalNotice)
class ExternalNoticeAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """To be read: what came, and what became of it."""

    list_display = ["type", "reference", "outcome_badge", "told", "received"]
    list_filter = ["outcome", "type"]
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ["reference", "event_id"]
    search_help_text = gettext_lazy("A whole order number, or the id of a notice.")
    fields = ["event_id", "type", "reference", "outcome_badge", "told", "received_at", "processed_at", "body"]
    readonly_fields = ["outcome_badge"]

    @admin.display(description=gettext_lazy("outcome"))
    def outcome_badge(self, row: ExternalNotice) -> SafeString:
        return badge(row.outcome, row.get_outcome_display())

    @admin.display(description=gettext_lazy("received"))
    def received(self, row: ExternalNotice) -> SafeString | str:
        return ago(row.received_at)
