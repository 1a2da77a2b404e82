"""What staff see of money: payments, their transactions and refunds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import services
from payments.models import (
    Attempt,
    Dispute,
    Payment,
    Refund,
    Transaction,
)
from payments.rules import masked_iban
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store
from shop.money import shown
from shop.search import IndexedSearch
from shop.staff import Action, ActionForm, ReadOnlyActionsAdmin, StoreFilter, actor_of
from shop.templatetags.desk import badge

if TYPE_CHECKING:
    TabularInline = admin.TabularInline[Any, Any]
else:  # generic for the type checker only
    TabularInline = admin.TabularInline


# Who works off the inbox makes the transfers that are to be made by hand.
TRANSFERS = "shop.handle_job"


class StatusShown:
    """A status in words and colour, as on every other page of the desk."""

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def status_shown(self, row: Transaction | Refund | Dispute) -> SafeString:
        return badge(row.status, row.get_status_display())


class ReadOnlyInline(TabularInline):
    """Rows to look at below another row."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TransactionInline(StatusShown, ReadOnlyInline):
    model = Transaction
    ordering = ["pk"]
    fields = ["kind", "amount_shown", "status_shown", "cause", "gateway_reference", "error", "created_at", "settled_at"]
    readonly_fields = ["amount_shown", "status_shown", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("payment")

    @admin.display(description=gettext_lazy("amount"))
    def amount_shown(self, row: Transaction) -> str:
        return shown(row.amount, row.payment.currency)


class AttemptInline(ReadOnlyInline):
    model = Attempt
    show_change_link = False
    fields = ["number", "outcome", "started_at", "finished_at", "gateway_reference", "error"]


class GatewayFilter(admin.SimpleListFilter):
    """By one of the gateways that the shop has. The admin's own filter reads the whole table for those it names."""

    title = gettext_lazy("gateway")
    parameter_name = "gateway"
    path = "gateway"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code, services.gateway_label(code)) for code in settings.PAYMENT_GATEWAYS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.path: self.value()}) if self.value() else queryset


class PaymentsGatewayFilter(GatewayFilter):
    path = "payment__gateway"


class CurrencyFilter(admin.SimpleListFilter):
    """By one of the currencies that stores sell in."""

    title = gettext_lazy("currency")
    parameter_name = "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        codes = Store.objects.order_by("currency").values_list("currency", flat=True).distinct()
        return [(code, code) for code in codes]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(currency=self.value()) if self.value() else queryset


@admin.register(Payment)
class PaymentAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """A payment with all that was asked of its gateway."""

    store_path = "store"
    list_display = ["reference", "gateway", "amount_shown", "captured_shown", "refunded_shown", "store", "created_at"]
    list_filter = [GatewayFilter, StoreFilter, CurrencyFilter, "created_at"]
    list_select_related = ["store"]
    search_fields = ["reference", "transactions__gateway_reference"]
    search_help_text = gettext_lazy("Order number, or a reference at the gateway.")
    fields = [
        ("reference", "store"),
        ("gateway", "details"),
        ("amount_shown", "authorized", "voided"),
        ("capture_reserved", "captured"),
        ("refund_reserved", "refunded"),
        "created_at",
        "calls",
    ]
    readonly_fields = ["amount_shown", "created_at", "calls"]
    inlines = [TransactionInline]

    @admin.display(description=gettext_lazy("amount"), ordering="amount")
    def amount_shown(self, payment: Payment) -> str:
        return shown(payment.amount, payment.currency)

    @admin.display(description=gettext_lazy("captured"), ordering="captured")
    def captured_shown(self, payment: Payment) -> str:
        return shown(payment.captured, payment.currency)

    @admin.display(description=gettext_lazy("refunded"), ordering="refunded")
    def refunded_shown(self, payment: Payment) -> str:
        return shown(payment.refunded, payment.currency)

    @admin.display(description=gettext_lazy("calls of the gateway"))
    def calls(self, payment: Payment) -> SafeString:
        attempts = Attempt.objects.filter(transaction__payment=payment).select_related("transaction").order_by("pk")
        lines = [
            (
                date_format(timezone.localtime(attempt.started_at), "SHORT_DATETIME_FORMAT"),
                attempt.transaction.get_kind_display(),
                attempt.number,
                attempt.get_outcome_display(),
                f" – {attempt.error}" if attempt.error else "",
            )
            for attempt in attempts
        ]
        if not lines:
            return format_html("{}", _("None yet."))
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{} {} ({}): {}{}</li>", lines))


class CloseForm(ActionForm):
    note = forms.CharField(
        label=gettext_lazy("What you saw at the gateway"), max_length=500, widget=forms.Textarea(attrs={"rows": 3})
    )


def _close(row: Transaction, actor: Actor, data: dict[str, Any]) -> str:
    services.close_as_failed(transaction_id=row.pk, note=data["note"], actor_name=actor.name)
    return _("Closed: no money moved. The amount is free again.")


def _not_closable(row: Transaction, actor: Actor) -> Refused | None:
    waits = not row.is_final and services.waiting_job_id(transaction=row) is not None
    return None if waits else services.NotClosable()


@admin.register(Transaction)
class TransactionAdmin(StatusShown, IndexedSearch, ReadOnlyActionsAdmin):
    """One movement of money, with every call of the gateway that was made for it."""

    store_path = "payment__store"
    list_display = ["reference", "kind", "amount_shown", "status_shown", "gateway", "error", "created_at", "settled_at"]
    list_filter = ["status", "kind", PaymentsGatewayFilter, StoreFilter, "created_at"]
    list_select_related = ["payment"]
    search_fields = ["payment__reference", "gateway_reference", "key"]
    search_help_text = gettext_lazy("Order number, or a reference or key at the gateway.")
    fields = [
        "payment_link",
        ("kind", "amount_shown", "status_shown"),
        ("cause", "refund", "destination"),
        ("gateway_key", "gateway_reference"),
        "error",
        ("created_at", "settled_at", "settled_by"),
    ]
    readonly_fields = ["payment_link", "amount_shown", "gateway_key", "created_at"]
    inlines = [AttemptInline]
    desk_actions = [
        Action(
            name="close",
            label=gettext_lazy("Close as failed"),
            act=_close,
            permission="payments.close_transaction",
            refusal=_not_closable,
            form=CloseForm,
            relevant=lambda row: not row.is_final,
            danger=True,
            description=gettext_lazy("No money moved and none will by this transaction; its amount is free again."),
            warning=gettext_lazy(
                "Look at the gateway first. If the money did move after all, it could now be moved a second time."
            ),
        )
    ]

    @admin.display(description=gettext_lazy("reference"), ordering="payment__reference")
    def reference(self, row: Transaction) -> str:
        return row.payment.reference

    @admin.display(description=gettext_lazy("gateway"), ordering="payment__gateway")
    def gateway(self, row: Transaction) -> str:
        return row.gateway

    @admin.display(description=gettext_lazy("amount"), ordering="amount")
    def amount_shown(self, row: Transaction) -> str:
        return shown(row.amount, row.payment.currency)

    @admin.display(description=gettext_lazy("payment"))
    def payment_link(self, row: Transaction) -> SafeString:
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:payments_payment_change", args=[row.payment_id]), row.payment
        )


@admin.register(Refund)
class RefundAdmin(StatusShown, IndexedSearch, ReadOnlyActionsAdmin):
    """A decision to give money back, with its transactions."""

    store_path = "store"
    list_display = ["reference", "amount_shown", "status_shown", "reason", "store", "created_at", "settled_at"]
    list_filter = ["status", "origin", StoreFilter, CurrencyFilter, "created_at"]
    list_select_related = ["store"]
    search_fields = ["reference", "cause"]
    search_help_text = gettext_lazy("Order number.")
    fields = [
        ("reference", "store"),
        ("amount_shown", "status_shown", "origin"),
        "reason",
        ("goes_to", "owner"),
        "consent",
        "cause",
        ("created_at", "settled_at"),
    ]
    readonly_fields = ["amount_shown", "goes_to", "bank_account", "bank_account_masked", "created_at"]
    inlines = [TransactionInline]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only what there is; the whole bank account for those who may do the transfer, while it is to be done."""
        fields: list[Any] = list(self.fields)
        if obj is not None and not obj.consent:
            fields.remove("consent")
            fields[fields.index(("goes_to", "owner"))] = "goes_to"
        if obj is not None and obj.bank_iban:
            whole = obj.bank_holder and actor_of(request).may(TRANSFERS, store_id=obj.store_id)
            fields.insert(fields.index("cause"), "bank_account" if whole else "bank_account_masked")
        return fields

    @admin.display(description=gettext_lazy("goes to"))
    def goes_to(self, refund: Refund) -> str:
        return services.gateway_label(refund.destination) if refund.destination else _("back as it was paid")

    @admin.display(description=gettext_lazy("bank account"))
    def bank_account(self, refund: Refund) -> str:
        iban = " ".join(refund.bank_iban[at : at + 4] for at in range(0, len(refund.bank_iban), 4))
        return f"{iban}, {refund.bank_holder}"

    @admin.display(description=gettext_lazy("bank account"))
    def bank_account_masked(self, refund: Refund) -> str:
        return masked_iban(refund.bank_iban)

    @admin.display(description=gettext_lazy("amount"), ordering="amount")
    def amount_shown(self, refund: Refund) -> str:
        return shown(refund.amount, refund.currency)
