"""Bulk runs: the list, and the page of one with its live bar, its buttons, what became of each order, and CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin.bulk import BulkCancelForm, confirm_page, read_orders
from orders.models import Approval, BulkItem, BulkRun
from orders.processing import EventHandler, get_event_handler
from orders.processing.bulk import MAY, RUNS, runs_of, why_not
from orders.rules import ApprovalNeeded
from shop.actors import ANYWHERE, Actor, Anywhere
from shop.errors import Refused, Words
from shop.search import CappedPaginator
from shop.spreadsheet import csv_lines
from shop.staff import Action, ReadOnlyActionsAdmin, actor_of
from shop.templatetags.desk import ago, badge, duration

PER_PAGE = 50
# The speed of the last so many seconds tells how long the rest will take.
SPEED_OF = 60
# The bar's width; its parts are shares of it.
WIDTH = 1000
LIVE = (RUNS.RUNNING, RUNS.WAITING_APPROVAL)


# ---------------------------------------------------------------------------------------------------------------
# What can be done to a run


def _does(
    verb: Callable[[EventHandler, int], object], told: Words
) -> Callable[[BulkRun, Actor, dict[str, Any]], Words]:
    def act(run: BulkRun, actor: Actor, data: dict[str, Any]) -> Words:
        verb(get_event_handler(actor), run.pk)
        return told

    return act


def _possible_in(*statuses: str) -> dict[str, Any]:
    return {
        "refusal": lambda run, actor: why_not(run, *statuses),
        "relevant": lambda run: run.status in statuses,
        "permission": MAY,
    }


ACTIONS = [
    Action(
        name="resume",
        label=gettext_lazy("Resume"),
        act=_does(lambda handler, pk: handler.resume_bulk(run_id=pk), gettext_lazy("It goes on.")),
        primary=True,
        **_possible_in(RUNS.PAUSED),
    ),
    Action(
        name="pause",
        label=gettext_lazy("Pause"),
        act=_does(
            lambda handler, pk: handler.pause_bulk(run_id=pk),
            gettext_lazy("Paused. Orders that were being cancelled this moment still are."),
        ),
        **_possible_in(RUNS.RUNNING),
    ),
    Action(
        name="retry",
        label=gettext_lazy("Try the failed again"),
        act=_does(lambda handler, pk: handler.retry_bulk(run_id=pk), gettext_lazy("The failed are tried again.")),
        **_possible_in(RUNS.FINISHED, RUNS.STOPPED),
    ),
    Action(
        name="stop",
        label=gettext_lazy("Stop"),
        description=gettext_lazy("The orders that are cancelled stay cancelled; the others are left as they are."),
        act=_does(lambda handler, pk: handler.stop_bulk(run_id=pk), gettext_lazy("Stopped.")),
        warning=gettext_lazy("A run that has been stopped does not go on."),
        danger=True,
        **_possible_in(RUNS.RUNNING, RUNS.PAUSED),
    ),
]
# These need no page of their own: one press does it.
AT_ONCE = frozenset({"resume", "pause", "retry"})


# ---------------------------------------------------------------------------------------------------------------
# How far it is


@dataclass(frozen=True)
class Progress:
    """The counts of a run, as the page and its script show them."""

    run: BulkRun
    as_of: datetime

    @cached_property
    def counts(self) -> dict[str, int]:
        found = dict(self.run.items.order_by().values_list("state").annotate(n=Count("pk")))
        return {state: found.get(state, 0) for state in BulkItem.State.values}

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def waiting(self) -> int:
        return self.counts["waiting"]

    @property
    def finished(self) -> int:
        return self.total - self.waiting

    @property
    def percent(self) -> int:
        return 100 * self.finished // self.total if self.total else 0

    @property
    def is_live(self) -> bool:
        return self.run.status in LIVE

    @property
    def bars(self) -> list[tuple[str, int, int]]:
        """State, x, width: what is done, what is not possible, what went wrong, what is left out."""
        made, x = [], 0
        for state in ("done", "refused", "failed", "skipped"):
            width = WIDTH * self.counts[state] // self.total if self.total else 0
            made.append((state, x, width))
            x += width
        return made

    @property
    def states(self) -> list[tuple[str, str, int]]:
        return [(state, str(label), self.counts[state]) for state, label in BulkItem.State.choices]

    @cached_property
    def left(self) -> str:
        """About how long the rest will take; empty while nobody can know."""
        if self.run.status != RUNS.RUNNING or not self.waiting:
            return ""
        since = self.as_of - timedelta(seconds=SPEED_OF)
        lately = self.run.items.filter(finished_at__gte=since).count()
        return (
            _("about %(time)s left") % {"time": duration(max(1, self.waiting * SPEED_OF // lately))} if lately else ""
        )

    @property
    def words(self) -> str:
        return _("%(done)d of %(total)d orders") % {"done": self.finished, "total": self.total}

    @property
    def needs_look(self) -> bool:
        """It has paused by itself after its trial."""
        first = self.run.try_first or 0
        is_tried = bool(first) and not self.run.items.filter(state="waiting", position__lte=first).exists()
        return is_tried and self.run.status == RUNS.PAUSED and self.finished == first

    def as_json(self) -> dict[str, Any]:
        return {
            "status": self.run.status,
            "label": str(self.run.get_status_display()),
            "counts": self.counts,
            "percent": self.percent,
            "bars": {state: [x, width] for state, x, width in self.bars},
            "words": self.words,
            "left": self.left,
            "live": self.is_live,
        }


# ---------------------------------------------------------------------------------------------------------------
# CSV


def csv_header() -> list[str]:
    words = [_("Position"), _("Order"), _("Customer"), _("State"), _("Code"), _("Why"), _("Finished")]
    return [*words, _("Reason"), _("Note")]


def csv_rows(run: BulkRun) -> Iterator[list[object]]:
    """The rows of the file, read while they are sent; words are looked up beforehand."""
    states = {value: str(label) for value, label in BulkItem.State.choices}
    reason, zone = run.reason.label, timezone.get_default_timezone()
    items = run.items.order_by("position").values_list(
        "position", "order__number", "order__customer_name", "state", "code", "words", "finished_at"
    )

    def cells(row: tuple[Any, ...]) -> list[object]:
        position, number, customer, state, code, words, at = row
        when = timezone.localtime(at, zone).strftime("%Y-%m-%d %H:%M:%S") if at else ""
        return [position, number, customer, states[state], code, words, when, reason, run.note]

    return map(cells, items.iterator(chunk_size=2000))


# ---------------------------------------------------------------------------------------------------------------
# Pages


@admin.register(BulkRun)
class BulkRunAdmin(ReadOnlyActionsAdmin):
    """Runs begin on the list of orders; here they are watched and led."""

    store_path = "store"
    desk_actions = ACTIONS
    fields = ()
    list_display = ["name_shown", "status_shown", "orders_shown", "by", "created_shown"]
    list_display_links = ["name_shown"]
    list_filter = ["status"]
    list_select_related = ["reason", "created_by"]
    list_per_page = 50
    list_max_show_all = 0
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    ordering = ["-pk"]
    change_form_template = "admin/orders/bulkrun/change_form.html"

    class Media:
        css = {"all": ["desk/orders.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkRun]:
        rows: QuerySet[BulkRun] = runs_of(actor_of(request)).select_related("reason", "created_by", "store")
        return rows.order_by("-pk")

    def store_of(self, obj: BulkRun) -> int | Anywhere | None:
        """Of several stores, it is shown to who began it and to those who work in all; both may lead it."""
        return ANYWHERE if obj.store_id is None else obj.store_id

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404

    # --- the list -------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("reason"))
    def name_shown(self, run: BulkRun) -> str:
        return run.reason.label

    @admin.display(description=gettext_lazy("status"))
    def status_shown(self, run: BulkRun) -> SafeString:
        return badge(run.status, run.get_status_display())

    @admin.display(description=gettext_lazy("orders"))
    def orders_shown(self, run: BulkRun) -> SafeString:
        return format_html('<span class="desk-number">{}</span>', run.totals.get("orders", "–"))

    @admin.display(description=gettext_lazy("by"))
    def by(self, run: BulkRun) -> str:
        return run.created_by.get_full_name() or run.created_by.get_username()

    @admin.display(description=gettext_lazy("started"))
    def created_shown(self, run: BulkRun) -> SafeString | str:
        return ago(run.created_at)

    # --- one run --------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "orders_bulkrun"
        return [
            path("start/", view(self.start), name=f"{name}_start"),
            path("<int:pk>/progress/", view(self.progress), name=f"{name}_progress"),
            path("<int:pk>/csv/", view(self.csv), name=f"{name}_csv"),
            *super().get_urls(),
        ]

    def start(self, request: HttpRequest) -> HttpResponseBase:
        """Start a run of the orders that a page has shown; what cannot be is shown on that page again."""
        if not actor_of(request).may(MAY):
            raise PermissionDenied
        orders = read_orders(request, request.POST.get("token", "")) if request.method == "POST" else None
        if not orders:
            if request.method == "POST":
                messages.error(request, _("Nothing was done: this page is too old. Choose the orders again."))
            return redirect("admin:orders_order_changelist")
        form, refusal = BulkCancelForm(request.POST, orders=len(orders)), None
        if form.is_valid():
            try:
                run = get_event_handler(actor_of(request)).start_bulk_run(orders=orders, **form.arguments())
            except Refused as no:
                refusal = no
                name = "justification" if isinstance(no, ApprovalNeeded) else no.field
                if name in form.fields:
                    form.add_error(name, str(no))
            else:
                return redirect("admin:orders_bulkrun_change", run.pk)
        try:
            return confirm_page(self.admin_site, request, orders, form, refusal)
        except Refused as no:
            messages.error(request, _("Nothing was done: %(why)s") % {"why": no})
            return redirect("admin:orders_order_changelist")

    def progress(self, request: HttpRequest, pk: int) -> HttpResponse:
        return JsonResponse(Progress(self._seen(request, pk), timezone.now()).as_json())

    def csv(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        run = self._seen(request, pk)
        lines = csv_lines(csv_header(), csv_rows(run))
        response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="bulk-cancellation-{run.pk}.csv"'
        return response

    def _seen(self, request: HttpRequest, pk: int) -> BulkRun:
        run = self.get_queryset(request).filter(pk=pk).first()
        if run is None:
            raise Http404
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        return run

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        run: BulkRun = kwargs["obj"]
        progress = Progress(run, timezone.now())
        state = request.GET.get("state", "")
        state = state if state in BulkItem.State.values else ""
        items = run.items.select_related("order").order_by("position")
        page = Paginator(items.filter(state=state) if state else items, PER_PAGE).get_page(request.GET.get("page"))
        approval = Approval.objects.filter(bulk_run=run).select_related("decided_by").first()
        context |= {
            "title": capfirst(self.opts.verbose_name),
            "run": run,
            "progress": progress,
            "by": self.by(run),
            "rows": page,
            "state": state,
            "approval": approval,
            "at_once": AT_ONCE,
            "can_retry": any(progress.counts[name] for name in BulkItem.AGAIN),
            "csv_url": reverse("admin:orders_bulkrun_csv", args=(run.pk,)),
            "progress_url": reverse("admin:orders_bulkrun_progress", args=(run.pk,)),
        }
        return super().render_change_form(request, context, *args, **kwargs)
