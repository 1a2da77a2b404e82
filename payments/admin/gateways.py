"""What staff see of gateways: what they told, disputes, the demo gateway's faults and books."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import services
from payments.admin.money import GatewayFilter, PaymentsGatewayFilter, StatusShown
from payments.models import (
    DemoGatewayEntry,
    DemoGatewayFault,
    Dispute,
    Payment,
    WebhookReceived,
)
from shop.actors import Actor
from shop.errors import Refused
from shop.money import shown
from shop.search import IndexedSearch, as_typed
from shop.staff import Action, BulkTold, ReadOnlyActionsAdmin, ReadOnlyAdmin, actor_of
from shop.templatetags.desk import badge

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:  # generic for the type checker only
    ModelAdmin = admin.ModelAdmin


def _replay(row: WebhookReceived, actor: Actor, data: dict[str, Any]) -> str:
    services.replay_webhook(webhook_id=row.pk)
    return _("The gateway is asked again; see below what became of it.")


@admin.register(WebhookReceived)
class WebhookReceivedAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """What gateways told by webhooks, as it came, and what became of it."""

    list_display = ["kind", "reference", "outcome_shown", "told", "received_at"]
    list_filter = ["outcome", GatewayFilter, "received_at"]
    search_fields = ["reference", "kind"]
    search_help_text = gettext_lazy("Order number, an event's id at the gateway, or its kind.")
    list_per_page = 50
    actions = ["replay"]
    fieldsets = [
        (None, {"fields": ["kind", "event_id", "gateway", "received_at"]}),
        (
            gettext_lazy("What became of it"),
            {"fields": ["outcome_shown", "told", "reference", "processed_at", "replays"]},
        ),
        (gettext_lazy("What was received"), {"fields": ["body_shown"]}),
    ]
    readonly_fields = ["body_shown"]
    desk_actions = [
        Action(
            name="replay",
            label=gettext_lazy("Process again"),
            description=gettext_lazy(
                "The gateway is asked how it stands now. What is in the books already stays once."
            ),
            act=_replay,
            permission="payments.replay_webhookreceived",
            refusal=lambda row, actor: services.StillProcessing() if services.is_being_processed(webhook=row) else None,
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookReceived]:
        """Those of people's own stores; what belongs to no payment yet is of no store. They hold customers' details."""
        rows, actor = super().get_queryset(request), actor_of(request)
        if actor.stores is None:
            return rows
        return rows.filter(reference__in=Payment.objects.filter(store__in=actor.stores).values("reference"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        ids = as_typed(search_term.strip())
        known = queryset.filter(gateway__in=list(settings.PAYMENT_GATEWAYS), event_id__in=ids)  # as its index begins
        return (known, False) if known.exists() else super().get_search_results(request, queryset, search_term)

    @admin.display(description=gettext_lazy("outcome"), ordering="outcome")
    def outcome_shown(self, row: WebhookReceived) -> SafeString:
        return badge(row.outcome, row.get_outcome_display())

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return actor_of(request).may("payments.replay_webhookreceived")

    @admin.action(description=gettext_lazy("Process again"), permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[WebhookReceived]) -> None:
        if not self.has_replay_permission(request):
            raise PermissionDenied
        told = BulkTold()
        for row in queryset.order_by("pk"):  # as they came
            try:
                services.replay_webhook(webhook_id=row.pk)
                told.done += 1
            except Refused as no:
                told.refuse(row, no)
        told.tell(request, done=_("%(count)d processed again."))

    @admin.display(description=gettext_lazy("body"))
    def body_shown(self, row: WebhookReceived) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(row.body, indent=2, ensure_ascii=False))


@admin.register(Dispute)
class DisputeAdmin(StatusShown, IndexedSearch, ReadOnlyAdmin, ModelAdmin):
    """Money that customers' banks asked back. It is answered at the gateway; here is what it did to the books."""

    list_display = [
        "reference",
        "amount_shown",
        "status_shown",
        "reason_shown",
        "respond_by",
        "charged_back",
        "opened_at",
    ]
    list_filter = ["status", PaymentsGatewayFilter, "opened_at"]
    list_select_related = ["payment", "chargeback"]
    search_fields = ["payment__reference"]
    words_searched = ["gateway_reference__iexact"]  # disputes are few
    search_help_text = gettext_lazy("Order number, or the dispute's id at the gateway.")
    fields = [
        "task",
        "status_shown",
        "payment_link",
        "gateway_reference",
        "amount_shown",
        "reason_shown",
        "opened_at",
        "respond_by",
        "ended_at",
        "charged_back",
    ]
    readonly_fields = ["task", "payment_link", "amount_shown", "reason_shown", "charged_back"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dispute]:
        rows, actor = super().get_queryset(request), actor_of(request)
        return rows if actor.stores is None else rows.filter(payment__store__in=actor.stores)

    @admin.display(description=gettext_lazy("order"), ordering="payment__reference")
    def reference(self, row: Dispute) -> str:
        return row.payment.reference

    @admin.display(description=gettext_lazy("amount"), ordering="amount")
    def amount_shown(self, row: Dispute) -> str:
        return shown(row.amount, row.currency)

    @admin.display(description=gettext_lazy("reason"), ordering="reason")
    def reason_shown(self, row: Dispute) -> str:
        return row.reason.replace("_", " ") or "–"

    @admin.display(description=gettext_lazy("charged back"))
    def charged_back(self, row: Dispute) -> str:
        return shown(row.chargeback.amount, row.currency) if row.chargeback else "–"

    @admin.display(description=gettext_lazy("what to do"))
    def task(self, row: Dispute) -> str:
        return services.dispute_task(dispute=row) or _("Nothing.")

    @admin.display(description=gettext_lazy("payment"))
    def payment_link(self, row: Dispute) -> SafeString:
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:payments_payment_change", args=[row.payment_id]), row.payment
        )


class DemoGatewayFaultAdmin(ModelAdmin):
    """What the demo gateway is to do wrong next."""

    list_display = ["operation", "behaviour", "remaining", "seconds"]
    list_filter = ["operation", "behaviour"]


class DemoGatewayEntryAdmin(ReadOnlyAdmin):
    """The demo gateway's own books."""

    list_display = ["reference", "operation", "amount_shown", "status", "becomes", "becomes_at", "created_at"]
    list_filter = ["operation", "status"]
    search_fields = ["key", "payment_key"]

    @admin.display(description=gettext_lazy("amount"), ordering="amount")
    def amount_shown(self, entry: DemoGatewayEntry) -> str:
        return shown(entry.amount, entry.currency)


if settings.DEMO or settings.DEBUG:
    admin.site.register(DemoGatewayFault, DemoGatewayFaultAdmin)
    admin.site.register(DemoGatewayEntry, DemoGatewayEntryAdmin)
