"""What staff see of money: payments, refunds, transactions, credit, what gateways told, the demo gateway's faults."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import services
from payments.models import (
    Attempt,
    CreditAccount,
    CreditEntry,
    DemoGatewayEntry,
    DemoGatewayFault,
    Dispute,
    Payment,
    Refund,
    Transaction,
    WebhookReceived,
)
from payments.rules import masked_iban
from payments.services import credit
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store
from shop.money import shown
from shop.search import IndexedSearch, as_typed
from shop.staff import Action, ActionForm, BulkTold, ReadOnlyActionsAdmin, ReadOnlyAdmin, StoreFilter, actor_of
from shop.templatetags.desk import badge

if TYPE_CHECKING:
    TabularInline = admin.TabularInline[Any, Any]
    InlineFormSet = forms.BaseInlineFormSet[Any, Any, Any]
    ModelAdmin = admin.ModelAdmin[Any]
else:  # generic for the type checker only
    TabularInline = admin.TabularInline
    InlineFormSet = forms.BaseInlineFormSet
    ModelAdmin = admin.ModelAdmin


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


# ---------------------------------------------------------------------------------------------------------------------
# Store credit and loyalty points


class CreditForm(ActionForm):
    """An amount of money, and why."""

    amount = forms.DecimalField(label=gettext_lazy("Amount"), max_digits=12, decimal_places=3)
    note = forms.CharField(label=gettext_lazy("Reason"), max_length=500, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["amount"].help_text = _("In %(currency)s.") % {"currency": self.obj.currency}
        if self.obj.kind == CreditAccount.Kind.LOYALTY:
            unit = credit.credit_shown(Decimal(1), self.obj.currency, self.obj.kind)
            self.fields["amount"].help_text = _("In %(currency)s: %(unit)s.") % {
                "currency": self.obj.currency,
                "unit": unit,
            }


class GrantForm(CreditForm):
    expires_at = forms.DateTimeField(
        label=gettext_lazy("Expires"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text=gettext_lazy("Empty: never."),
    )


class AdjustForm(CreditForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        more = _("More than zero adds, less than zero takes away.")
        self.fields["amount"].help_text = f"{self.fields['amount'].help_text} {more}"


def _grant(account: CreditAccount, actor: Actor, data: dict[str, Any]) -> str:
    credit.grant(
        owner_id=account.owner_id,
        currency=account.currency,
        kind=account.kind,
        amount=data["amount"],
        expires_at=data["expires_at"],
        key=f"grant:{account.pk}:{data['once'] or uuid.uuid4()}",
        note=data["note"],
        actor_name=actor.name,
        as_of=timezone.now(),
    )
    return _("%(amount)s granted.") % {"amount": credit.credit_shown(data["amount"], account.currency, account.kind)}


def _adjust(account: CreditAccount, actor: Actor, data: dict[str, Any]) -> str:
    credit.adjust(
        account_id=account.pk,
        amount=data["amount"],
        key=f"adjust:{account.pk}:{data['once'] or uuid.uuid4()}",
        note=data["note"],
        actor_name=actor.name,
        as_of=timezone.now(),
    )
    return _("Adjusted by %(amount)s.") % {
        "amount": credit.credit_shown(data["amount"], account.currency, account.kind)
    }


LEDGER_ROWS = 25


class LedgerPage(InlineFormSet):
    """Some entries of a ledger, newest first: whoever pays with points all year has hundreds."""

    before: int | None = None

    @cached_property
    def entries(self) -> list[Any]:
        rows = super().get_queryset()
        return list((rows if self.before is None else rows.filter(pk__lt=self.before))[: LEDGER_ROWS + 1])

    def get_queryset(self) -> Any:
        return self.entries[:LEDGER_ROWS]

    @property
    def older(self) -> int | None:
        """Before which entry the next page begins; None: this is the last."""
        return self.entries[LEDGER_ROWS - 1].pk if len(self.entries) > LEDGER_ROWS else None


class CreditEntryInline(ReadOnlyInline):
    model = CreditEntry
    formset = LedgerPage
    template = "admin/payments/creditaccount/ledger.html"
    ordering = ["-pk"]
    show_change_link = False
    verbose_name_plural = gettext_lazy("ledger")
    fields = ["created_at", "kind", "amount_shown", "held_shown", "reference", "expires_at", "note", "actor_name"]
    readonly_fields = ["amount_shown", "held_shown"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("account")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        page: Any = super().get_formset(request, obj, **kwargs)
        before = request.GET.get("before", "")
        page.before = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
        return page

    @admin.display(description=gettext_lazy("amount"))
    def amount_shown(self, entry: CreditEntry) -> str:
        return shown(entry.amount, entry.account.currency) if entry.amount else ""

    @admin.display(description=gettext_lazy("held"))
    def held_shown(self, entry: CreditEntry) -> str:
        return shown(entry.held_amount, entry.account.currency) if entry.held_amount else ""


@admin.register(CreditAccount)
class CreditAccountAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """What a customer has of store credit or points, and why. It is spent in any store that sells in its currency."""

    list_display = ["owner", "kind", "balance_shown", "held_shown", "currency"]
    list_filter = ["kind", "currency"]
    list_select_related = ["owner"]
    search_fields = ["entries__reference", "owner__email__upper"]
    words_searched = ["owner__email__icontains", "owner__first_name__icontains", "owner__last_name__icontains"]
    search_help_text = gettext_lazy("Customer's name or e-mail address, or an order number.")
    autocomplete_fields = ["owner"]
    fields = ["owner", ("kind", "currency"), ("balance_shown", "held_shown")]
    readonly_fields = ["balance_shown", "held_shown"]
    inlines = [CreditEntryInline]
    desk_actions = [
        Action(
            name="grant",
            label=gettext_lazy("Grant"),
            act=_grant,
            permission="payments.adjust_credit",
            form=GrantForm,
            primary=True,
            description=gettext_lazy("The customer can spend it at once."),
        ),
        Action(
            name="adjust",
            label=gettext_lazy("Adjust"),
            act=_adjust,
            permission="payments.adjust_credit",
            form=AdjustForm,
            description=gettext_lazy("Puts right a mistake. What is held for orders is not touched."),
        ),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A first grant needs an account; it is opened empty."""
        return request.user.has_perm("payments.adjust_credit")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ["owner", "kind", "currency"]

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else []

    @admin.display(description=gettext_lazy("balance"), ordering="balance")
    def balance_shown(self, account: CreditAccount) -> str:
        return credit.credit_shown(account.balance, account.currency, account.kind)

    @admin.display(description=gettext_lazy("held for orders"), ordering="held")
    def held_shown(self, account: CreditAccount) -> str:
        return shown(account.held, account.currency)


# ---------------------------------------------------------------------------------------------------------------------
# What gateways told


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
    show_full_result_count = False
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
