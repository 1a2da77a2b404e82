"""Approvals: the queue of those who decide, and a page with everything that a decision needs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import Case, Count, Exists, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from orders import rules
from orders.admin.forms import text_area
from orders.admin.plans import PlanView
from orders.admin.timeline import Names, TimelineEntry, timeline
from orders.models import (
    Approval,
    ApprovalLevel,
    BulkItem,
    BulkRun,
    Cancellation,
    JournalEntry,
    Order,
    RefundRequest,
)
from orders.processing import get_event_handler
from orders.processing.approvers import decidable, full_name
from orders.processing.cancelling import choices_of
from payments.gateways import gateway_label
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.search import CappedPaginator
from shop.staff import Action, ActionForm, Button, ReadOnlyActionsAdmin, StoreFilter, actor_of
from shop.templatetags.desk import ago, badge, due, money

VIEW = "orders.view_approval"
# Of an order's journal the latest so many; of a bulk run's orders the first so many.
ENTRIES, ORDERS = 8, 50
# What asking for approval itself has written.
OF_THE_WISH = frozenset({"ask_approval", "ask_refund", "queue_cancellation"})

# ---------------------------------------------------------------------------------------------------------------
# What a decision needs to know


@dataclass(frozen=True, slots=True)
class ShelfRow:
    """Units that somebody may have taken off the shelf already, and where they belong."""

    name: str
    sku: str
    units: int
    location: str
    aside: bool


@dataclass(frozen=True, slots=True)
class WishPage:
    """A cancellation or refund as it was asked for, and what of it is no longer so.

    now        why it is not possible any more; None where it still is
    changes    what would happen otherwise by now, a sentence each; `entries` say who did what meanwhile
    """

    row: Cancellation | RefundRequest
    order: Order
    view: PlanView
    shelf: list[ShelfRow]
    is_open: bool
    now: Refused | None
    changes: list[str]
    entries: list[TimelineEntry]
    history: list[TimelineEntry]

    @property
    def is_true(self) -> bool:
        return self.now is None and not self.changes

    @property
    def is_refund(self) -> bool:
        return isinstance(self.row, RefundRequest)

    @property
    def goes_to(self) -> str:
        """Where the money goes, in words; the bank account only while somebody still has to look at it."""
        to = self.row.goes_to
        if not to:
            return ""
        if to.iban:
            return f"{to.iban}, {to.holder}" if to.holder else to.iban
        return gateway_label(to.gateway)


@dataclass(frozen=True, slots=True)
class RunPage:
    """A bulk run that waits: its first orders, how many there are, and what they were worth as it was shown."""

    items: list[BulkItem]
    count: int
    worth: list[tuple[str, Decimal]]
    refund: list[tuple[str, Decimal]]


def wish_page(row: Cancellation | RefundRequest, actor: Actor, *, is_open: bool) -> WishPage:
    """This will read everything about a cancellation or refund that waits: a constant number of queries."""
    order, facts = row.order, row.order.facts
    plan = rules.plan_from_json(row.plan)
    journal = list(JournalEntry.objects.filter(order=order).order_by("-sequence")[:100])
    told = timeline(journal, Names.read(facts.lines, order.currency, {}))
    since = [entry for entry in told if entry.number > row.version and entry.verb not in OF_THE_WISH]
    no, changes = _by_now(row, plan, actor) if is_open else (None, [])
    if isinstance(row, RefundRequest):
        view = PlanView(plan, facts, {})
    else:
        letters = get_event_handler(actor).letters_of(facts, plan, choices_of(row)) if is_open else []
        chosen = {"restock": row.restock, "refund": row.refund, "notify": row.notify}
        view = PlanView(plan, facts, chosen, letters)
    return WishPage(
        row=row,
        order=order,
        view=view,
        shelf=_shelf(order, plan) if order.stage in rules.SHIPPABLE and plan.lines else [],
        is_open=is_open,
        now=no,
        changes=changes,
        entries=since[:ENTRIES] if no or changes else [],
        history=told[:ENTRIES],
    )


def _by_now(row: Cancellation | RefundRequest, plan: rules.Plan, actor: Actor) -> tuple[Refused | None, list[str]]:
    """What it would do now instead of what was shown, by the rules that will be asked."""
    handler, facts = get_event_handler(actor), row.order.facts
    try:
        if isinstance(row, RefundRequest):
            now = handler.planned_refund(facts, amount=row.amount, kind=row.kind, destination=row.goes_to)
        else:
            now = handler.planned(facts, choices_of(row))
    except Refused as no:
        return no, []
    if now.digest == plan.digest:
        return None, []
    return None, list(rules.differences(plan, now)) or [_("Details of the plan have changed.")]


def _shelf(order: Order, plan: rules.Plan) -> list[ShelfRow]:
    rows = []
    for part in plan.lines:
        line = order.facts.line(part.line_id)
        record = line.stock_record if line else None
        where = part.location or (record.location.name if record else "")
        rows.append(ShelfRow(part.name, part.sku, part.units, where, aside=bool(part.disposition)))
    return rows


def _run_page(run: BulkRun) -> RunPage:
    items = BulkItem.objects.filter(run=run)
    first = items.select_related("order").order_by("position")[:ORDERS]
    return RunPage(list(first), items.count(), _amounts(run, "value"), _amounts(run, "refund"))


def _amounts(run: BulkRun, name: str) -> list[tuple[str, Decimal]]:
    return sorted((currency, Decimal(amount)) for currency, amount in run.totals.get(name, {}).items())


# ---------------------------------------------------------------------------------------------------------------
# Deciding


class ApproveForm(ActionForm):
    """Carries the order's version, so that who approves has seen what was changed meanwhile."""

    obj: Approval
    version = forms.IntegerField(widget=forms.HiddenInput, min_value=0, required=False)
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=2000,
        widget=text_area(2),
        help_text=gettext_lazy("The one who asked reads it."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        wish = self.obj.wish
        if wish is None:
            del self.fields["version"]
        else:
            self.fields["version"].initial = wish.order.version
            self.fields["version"].required = True


class RejectForm(ApproveForm):
    note = forms.CharField(
        label=gettext_lazy("Why not"),
        max_length=2000,
        widget=text_area(),
        help_text=gettext_lazy("The one who asked reads it."),
    )


class WithdrawForm(ActionForm):
    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=2000, widget=text_area(2))


def why_not_decide(approval: Approval, actor: Actor) -> Refused | None:
    return get_event_handler(actor).why_not_decide(approval)


def _why_not_withdraw(approval: Approval, actor: Actor) -> Refused | None:
    if not approval.is_open:
        return rules.ApprovalDecided()
    if approval.requested_by_id != actor.user_id:
        return rules.NotAnApprover(params={"who": full_name(approval.requested_by)})
    return None


def _arguments(approval: Approval, data: dict[str, Any]) -> dict[str, Any]:
    version = {"version": data["version"]} if "version" in data else {}
    return {"approval": str(approval.uuid), "note": data["note"], **version}


def _approve(approval: Approval, actor: Actor, data: dict[str, Any]) -> Words:
    handler = get_event_handler(actor)
    if approval.refund_request is not None:
        handler.approve_refund(**_arguments(approval, data))
        return _("Approved, and being refunded.")
    if approval.cancellation is None:
        handler.approve_bulk(**_arguments(approval, data))
        return _("Approved: the orders are being cancelled.")
    row = handler.approve_cancellation(**_arguments(approval, data))
    if row.undo_until:
        until = timezone.localtime(row.undo_until)
        return _("Approved and cancelled. It can be undone until %(time)s.") % {"time": f"{until:%H:%M}"}
    return _("Approved and cancelled.")


def _reject(approval: Approval, actor: Actor, data: dict[str, Any]) -> Words:
    handler = get_event_handler(actor)
    if approval.refund_request is not None:
        handler.reject_refund(**_arguments(approval, data))
        return _("Rejected: nothing is refunded, and the one who asked is being told why.")
    verb = handler.reject_bulk if approval.cancellation is None else handler.reject_cancellation
    verb(**_arguments(approval, data))
    return _("Rejected: nothing is cancelled, and the one who asked is being told why.")


def _withdraw(approval: Approval, actor: Actor, data: dict[str, Any]) -> Words:
    handler = get_event_handler(actor)
    if approval.refund_request is not None:
        handler.withdraw_refund(**_arguments(approval, data))
        return _("Your request is withdrawn.")
    verb = handler.withdraw_bulk if approval.cancellation is None else handler.withdraw_cancellation
    verb(**_arguments(approval, data))
    return _("Your request is withdrawn.")


def _preview(approval: Approval, actor: Actor) -> dict[str, Any]:
    """Everything that its page shows, so that nobody has to remember it."""
    if approval.bulk_run is not None:
        return {"run": _run_page(approval.bulk_run)}
    assert approval.wish is not None
    return {"wish": wish_page(approval.wish, actor, is_open=approval.is_open)}


TEMPLATE = "admin/orders/approval/action.html"
ACTIONS = [
    Action(
        name="approve",
        label=gettext_lazy("Approve"),
        description=gettext_lazy("What was asked for happens at once, exactly as it was shown to the one who asked."),
        permission=VIEW,
        refusal=why_not_decide,
        form=ApproveForm,
        act=_approve,
        preview=_preview,
        primary=True,
        relevant=lambda approval: approval.is_open,
        template=TEMPLATE,
    ),
    Action(
        name="reject",
        label=gettext_lazy("Reject"),
        description=gettext_lazy("Nothing happens to the order. The one who asked reads why."),
        permission=VIEW,
        refusal=why_not_decide,
        form=RejectForm,
        act=_reject,
        preview=_preview,
        relevant=lambda approval: approval.is_open,
        template=TEMPLATE,
    ),
    Action(
        name="withdraw",
        label=gettext_lazy("Withdraw"),
        description=gettext_lazy("You take your request back. Nothing happens to the order."),
        permission=VIEW,
        refusal=_why_not_withdraw,
        form=WithdrawForm,
        act=_withdraw,
        relevant=lambda approval: approval.is_open,
    ),
]


# ---------------------------------------------------------------------------------------------------------------
# The queue


class WhoseFilter(admin.SimpleListFilter):
    """Those that the person may decide, unless there are none or something else is asked for."""

    title = gettext_lazy("whose turn")
    parameter_name = "whose"
    MINE, OPEN, OWN, ALL = "mine", "open", "own", "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self.actor = actor_of(request)
        self.mine = decidable(self.actor, as_of=timezone.now()).values("pk")
        self.otherwise = self.ALL
        if not request.GET.get(SEARCH_VAR) and self.mine.exists():
            self.otherwise = self.MINE
        return [
            (self.MINE, _("For me")),
            (self.OPEN, _("All open")),
            (self.OWN, _("Asked for by me")),
            (self.ALL, _("All")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Approval]) -> QuerySet[Approval]:
        chosen = self.value() or self.otherwise
        if chosen == self.MINE:
            return queryset.filter(pk__in=self.mine)
        if chosen == self.OPEN:
            return queryset.filter(status=Approval.Status.OPEN)
        return queryset.filter(requested_by=self.actor.user) if chosen == self.OWN else queryset

    def choices(self, changelist: ChangeList) -> Any:
        chosen = self.value() or self.otherwise
        for value, title in self.lookup_choices:
            yield {
                "selected": str(value) == chosen,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }


IS_OPEN = When(status=Approval.Status.OPEN, then=Value(0))


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyActionsAdmin):
    """What waits for somebody's agreement: the oldest first, then what has been decided."""

    store_path = "store"
    desk_actions = ACTIONS
    fields = ()
    list_display = ["what", "level_shown", "store", "value", "reason", "asked_by", "asked", "goes_up", "status_shown"]
    list_display_links = ["what"]
    list_filter = [WhoseFilter, "status", StoreFilter]
    list_select_related = [
        "store",
        "cancellation__order__store",
        "cancellation__reason",
        "refund_request__order__store",
        "bulk_run__reason",
        "requested_by",
        "decided_by",
        "instead_of",
    ]
    list_per_page = 50
    list_max_show_all = 0
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ["cancellation"]  # shows the box; get_search_results does the search
    search_help_text = gettext_lazy("A whole order number.")
    ordering = [
        Case(IS_OPEN, default=Value(1)),
        Case(When(status=Approval.Status.OPEN, then=F("pk")), default=-F("pk")),
    ]
    change_form_template = "admin/orders/approval/change_form.html"

    class Media:
        css = {"all": ["desk/orders.css", "desk/approvals.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        levels = ApprovalLevel.objects.filter(level=OuterRef("level")).values("name")[:1]
        counted = BulkItem.objects.filter(run=OuterRef("bulk_run")).order_by().values("run").annotate(n=Count("pk"))
        mine = decidable(actor_of(request), as_of=timezone.now()).filter(pk=OuterRef("pk"))
        return (
            super()
            .get_queryset(request)
            .select_related(*self.list_select_related)
            .annotate(
                level_name=Subquery(levels),
                order_count=Subquery(counted.values("n")),
                is_mine=Exists(mine),
            )
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The order first, then what is about it: not every order of every bulk run looked at."""
        if not (term := search_term.strip().removeprefix("#")):
            return queryset, False
        orders = Order.objects.filter(**Order.resolve_number(term))
        about = (
            Q(cancellation__order__in=orders)
            | Q(refund_request__order__in=orders)
            | Q(bulk_run__in=BulkItem.objects.filter(order__in=orders).values("run"))
        )
        return queryset.filter(about), False

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404

    # --- columns --------------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        def do(row: Approval) -> SafeString | str:
            if not row.is_mine:  # type: ignore[attr-defined]
                return ""
            yes, no = (
                Button(x.name, x.label, self.action_url(row, x.name), None, False, x.primary) for x in ACTIONS[:2]
            )
            return render_to_string("admin/desk/buttons.html", {"buttons": [yes, no], "small": True})

        do.short_description = _("Answer")  # type: ignore[attr-defined]
        return [*self.list_display, do]

    @admin.display(description=gettext_lazy("what"))
    def what(self, row: Any) -> SafeString | str:
        if not row.is_mine:
            return _named(row)
        return format_html('{}<span class="order-more approval-mine">{}</span>', _named(row), _("for you to decide"))

    @admin.display(description=gettext_lazy("needs"))
    def level_shown(self, row: Any) -> str:
        return row.level_name or str(row.level)

    @admin.display(description=gettext_lazy("value"))
    def value(self, row: Approval) -> SafeString | str:
        if row.cancellation is not None:
            return money(row.cancellation.value, row.cancellation.currency)
        if row.refund_request is not None:
            return money(row.refund_request.amount, row.refund_request.currency)
        amounts = _amounts(row.bulk_run, "value") if row.bulk_run else []
        return format_html_join(", ", "{}", ((money(amount, currency),) for currency, amount in amounts)) or "–"

    @admin.display(description=gettext_lazy("reason"))
    def reason(self, row: Approval) -> str:
        if row.refund_request is not None:
            return str(row.refund_request.get_kind_display())
        of = row.cancellation or row.bulk_run
        return of.reason.label if of and of.reason else "–"

    @admin.display(description=gettext_lazy("asked for by"))
    def asked_by(self, row: Approval) -> str:
        return full_name(row.requested_by)

    @admin.display(description=gettext_lazy("waiting since"))
    def asked(self, row: Approval) -> SafeString | str:
        return ago(row.created_at)

    @admin.display(description=gettext_lazy("goes up"))
    def goes_up(self, row: Approval) -> SafeString | str:
        return due(row.escalate_at) if row.is_open else "–"

    @admin.display(description=gettext_lazy("status"))
    def status_shown(self, row: Approval) -> SafeString:
        return badge(row.status, row.get_status_display())

    # --- the page -------------------------------------------------------------------------------------------------

    def buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        """Only the one who asked can withdraw it; why they may not decide it themselves, the others say."""
        own = obj.requested_by_id == actor_of(request).user_id
        return [button for button in super().buttons(request, obj) if own or button.name != "withdraw"]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        approval = kwargs["obj"]
        context.update(_preview(approval, actor_of(request)))
        context["title"] = _named(approval)
        return super().render_change_form(request, context, *args, **kwargs)


def _named(row: Any) -> str:
    """What an approval is about: an order, or so many of them."""
    if row.cancellation is not None:
        return _("Order %(number)s") % {"number": row.cancellation.order.number}
    if row.refund_request is not None:
        return _("Refund of order %(number)s") % {"number": row.refund_request.order.number}
    count = row.order_count or 0
    return ngettext("%(n)d order at once", "%(n)d orders at once", count) % {"n": count}
