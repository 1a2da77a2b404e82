"""What staff see of customers' store credit and loyalty points, and how they give and correct them."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments.admin.money import ReadOnlyInline
from payments.models import (
    CreditAccount,
    CreditEntry,
)
from payments.services import credit
from shop.actors import Actor
from shop.money import shown
from shop.search import IndexedSearch
from shop.staff import Action, ActionForm, ReadOnlyActionsAdmin

if TYPE_CHECKING:
    InlineFormSet = forms.BaseInlineFormSet[Any, Any, Any]
else:  # generic for the type checker only
    InlineFormSet = forms.BaseInlineFormSet


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
