"""Reconciliation in the admin: compare now, what each run found, and the differences between both books."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import services
from payments.admin.money import ReadOnlyInline
from payments.models import Difference, Reconciliation
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.search import IndexedSearch
from shop.staff import Action, ActionForm, Button, ReadOnlyActionsAdmin, StoreFilter, actor_of
from shop.templatetags.desk import badge

RUN = "payments.run_reconciliation"
LIST, START = "admin:payments_reconciliation_changelist", "admin:payments_reconciliation_start"


class StartForm(ActionForm):
    """Which gateway, and how far back."""

    gateway = forms.ChoiceField(label=gettext_lazy("Gateway"))
    days = forms.IntegerField(
        label=gettext_lazy("Days back"),
        required=False,
        min_value=1,
        max_value=365,
        help_text=gettext_lazy("Empty: from a few days before the last comparison on; the first one, 30 days."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        codes = services.reconciliation.reconciled_gateways()
        choices = [(code, f"{services.gateway_label(code)} ({code})") for code in codes]
        self.fields["gateway"].choices = choices  # type: ignore[attr-defined]


def _start(_obj: None, actor: Actor, data: dict[str, Any]) -> Words:
    services.reconciliation.start(
        gateway=data["gateway"], days=data["days"], as_of=timezone.now(), asked_by_id=actor.user_id
    )
    return _("The comparison has begun. Reload this page to see how far it is.")


def _again(run: Reconciliation, actor: Actor, data: dict[str, Any]) -> Words:
    services.reconciliation.start(gateway=run.gateway, as_of=timezone.now(), asked_by_id=actor.user_id)
    return _("The comparison has begun: see the newest one in the list.")


def _not_again(run: Reconciliation, actor: Actor) -> Refused | None:
    if run.gateway in services.reconciliation.reconciled_gateways():
        return None
    return services.reconciliation.NotReconciled(params={"code": run.gateway, "codes": ""})


class BothSides:
    """Columns of differences, in their own list and with the run that found them: what it is, here and there."""

    @admin.display(description=gettext_lazy("movement"))
    def what(self, row: Difference) -> str:
        return services.differences.operation_shown(row)

    @admin.display(description=gettext_lazy("here"))
    def here(self, row: Difference) -> str:
        return services.differences.ours(row)

    @admin.display(description=gettext_lazy("at the gateway"))
    def there(self, row: Difference) -> str:
        return services.differences.theirs(row)

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, row: Difference) -> SafeString:
        return badge(row.state, row.get_state_display())


class DifferenceInline(BothSides, ReadOnlyInline):
    model = Difference
    fk_name = "found_by"
    ordering = ["pk"]
    verbose_name_plural = gettext_lazy("what it found")
    fields = ["kind", "what", "reference", "here", "there", "state_shown", "how"]
    readonly_fields = ["what", "here", "there", "state_shown"]
    # The list has them all, page by page; a first run may find hundreds.
    MOST = 100

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows, actor = super().get_queryset(request), actor_of(request)
        if actor.stores is not None:
            rows = rows.filter(store__in=actor.stores)
        run_id = request.resolver_match.kwargs["object_id"] if request.resolver_match else None
        some = rows.filter(found_by=run_id).order_by("pk").values_list("pk", flat=True)[: self.MOST]
        return rows.filter(pk__in=list(some))


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyActionsAdmin):
    """The comparisons of gateways' books with ours, the newest first."""

    change_list_template = "admin/payments/reconciliation/change_list.html"
    list_display = ["gateway", "state_shown", "until", "listed", "found", "settled", "resolved", "still_open", "who"]
    list_filter = ["gateway", "state", "started_at"]
    list_select_related = ["asked_by"]
    list_per_page = 50
    sortable_by = ()
    show_full_result_count = False
    fields = [
        "gateway",
        "state_shown",
        "error",
        "account",
        "since",
        "until",
        "started_at",
        "finished_at",
        "who",
        "listed",
        "others",
        "found",
        "settled",
        "resolved",
        "differences_link",
    ]
    readonly_fields = ["state_shown", "who", "differences_link"]
    inlines = [DifferenceInline]
    desk_actions = [
        Action(
            name="again",
            label=gettext_lazy("Compare now"),
            description=gettext_lazy(
                "The gateway is asked for its list, and a worker compares it with our transactions. No money is moved."
            ),
            act=_again,
            refusal=_not_again,
            permission=RUN,
            primary=True,
        )
    ]
    start = Action(
        name="start",
        label=gettext_lazy("Compare now"),
        description=gettext_lazy(
            "The gateway is asked for its list, and a worker compares it with our transactions. What webhooks would "
            "have told is brought into the books; everything else that differs comes into the inbox. No money is moved."
        ),
        act=_start,
        permission=RUN,
        form=StartForm,
        template="admin/payments/reconciliation/action.html",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reconciliation]:
        still_open = Count("differences", filter=Q(differences__state=Difference.State.OPEN))
        return super().get_queryset(request).annotate(open_count=still_open)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.start_page)
        return [path("start/", view, name="payments_reconciliation_start"), *super().get_urls()]

    def start_page(self, request: HttpRequest) -> HttpResponseBase:
        """Starting is an action on nothing that exists yet, so it has an address of its own."""
        if not actor_of(request).may(RUN):
            raise PermissionDenied
        return self.answer_action(request, self.start, obj=None, back=reverse(LIST))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        buttons = []
        if actor_of(request).may(RUN):
            buttons = [Button("start", self.start.label, reverse(START), None, danger=False, primary=True)]
        return super().changelist_view(request, {"buttons": buttons, **(extra_context or {})})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for name in self.fields if name != "error" or obj is None or obj.error]

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, run: Reconciliation) -> SafeString:
        return badge(run.state, run.get_state_display())

    @admin.display(description=gettext_lazy("still open"))
    def still_open(self, run: Any) -> int:
        return int(run.open_count)

    @admin.display(description=gettext_lazy("asked by"))
    def who(self, run: Reconciliation) -> str:
        return str(run.asked_by.get_full_name() or run.asked_by) if run.asked_by else _("the desk itself")

    @admin.display(description=gettext_lazy("differences"))
    def differences_link(self, run: Reconciliation) -> SafeString:
        address = f"{reverse('admin:payments_difference_changelist')}?{urlencode({'found_by__id__exact': run.pk})}"
        return format_html('<a href="{}">{}</a>', address, _("All that this comparison found"))


# ---------------------------------------------------------------------------------------------------------------------


class AcceptForm(ActionForm):
    note = forms.CharField(
        label=gettext_lazy("Why may it stay as it is?"),
        max_length=900,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Say what you saw at the gateway, and what you did."),
    )


def _accept(row: Difference, actor: Actor, data: dict[str, Any]) -> Words:
    services.differences.accept(
        difference_id=row.pk,
        note=data["note"],
        user_id=actor.user_id,
        actor_name=actor.name,
        as_of=timezone.now(),
    )
    return _("Accepted. It comes up again only if it changes.")


def _has_ended(row: Difference, actor: Actor) -> Refused | None:
    return None if row.state == Difference.State.OPEN else services.differences.DifferenceEnded()


@admin.register(Difference)
class DifferenceAdmin(IndexedSearch, BothSides, ReadOnlyActionsAdmin):
    """What a gateway's books and ours say differently, and what became of it."""

    store_path = "store"
    list_display = ["name", "state_shown", "kind", "what", "here", "there", "gateway", "first_seen_at"]
    list_display_links = ["name"]
    list_filter = ["state", "kind", "gateway", StoreFilter, "first_seen_at"]
    list_per_page = 50
    search_fields = ["reference", "gateway_reference", "transaction__key"]
    search_help_text = gettext_lazy("Order number, or a reference or key at the gateway.")
    sortable_by = ("first_seen_at",)
    fieldsets = [
        (
            None,
            {"fields": ["state_shown", "task", "how", "kind", "what", "here", "there", "told", "gateway_reference"]},
        ),
        (gettext_lazy("Where to look"), {"fields": ["gateway", "order_link", "payment_link", "transaction_link"]}),
        (
            gettext_lazy("When"),
            {"fields": ["happened_at", "first_seen_at", "last_seen_at", "run_link", "resolved_at", "resolved_by"]},
        ),
    ]
    readonly_fields = [
        "state_shown",
        "task",
        "what",
        "here",
        "there",
        "order_link",
        "payment_link",
        "transaction_link",
        "run_link",
    ]
    desk_actions = [
        Action(
            name="accept",
            label=gettext_lazy("Accept it"),
            description=gettext_lazy(
                "It stays as it is in both books, leaves the inbox, and comes up again only if it changes."
            ),
            act=_accept,
            permission="payments.accept_difference",
            refusal=_has_ended,
            relevant=lambda row: row.state == Difference.State.OPEN,
            form=AcceptForm,
        )
    ]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "found_by__id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only what there is."""
        if obj is None:
            return self.fieldsets
        empty = {name for name in ("how", "told", "resolved_by") if not getattr(obj, name)}
        empty |= {"resolved_at", "resolved_by"} if obj.resolved_at is None else {"task"}
        empty |= set() if obj.reference else {"order_link"}
        empty |= set() if obj.payment_id else {"payment_link"}
        empty |= set() if obj.transaction_id else {"transaction_link"}
        return [
            (title, {"fields": [name for name in options["fields"] if name not in empty]})
            for title, options in self.fieldsets
        ]

    @admin.display(description=gettext_lazy("order"))
    def name(self, row: Difference) -> str:
        return row.reference or row.gateway_reference or "–"

    @admin.display(description=gettext_lazy("what to do"))
    def task(self, row: Difference) -> str:
        return services.differences.task(difference=row)

    @admin.display(description=gettext_lazy("order"))
    def order_link(self, row: Difference) -> SafeString:
        address = f"{reverse('admin:orders_order_changelist')}?{urlencode({'q': row.reference})}"
        return format_html('<a href="{}">{}</a>', address, row.reference)

    @admin.display(description=gettext_lazy("payment"))
    def payment_link(self, row: Difference) -> SafeString:
        address = reverse("admin:payments_payment_change", args=[row.payment_id])
        return format_html('<a href="{}">{}</a>', address, row.payment)

    @admin.display(description=gettext_lazy("transaction"))
    def transaction_link(self, row: Difference) -> SafeString:
        address = reverse("admin:payments_transaction_change", args=[row.transaction_id])
        return format_html('<a href="{}">{}</a>', address, row.transaction)

    @admin.display(description=gettext_lazy("found by"))
    def run_link(self, row: Difference) -> SafeString:
        address = reverse("admin:payments_reconciliation_change", args=[row.found_by_id])
        return format_html('<a href="{}">{}</a>', address, row.found_by)
