"""The page "Cancellations: figures": charts of a period, the list behind each bar, and its rows as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from orders.admin.charts import BarChart, DayChart, bar_chart, day_chart
from orders.models import Cancellation, CancellationFigure, CancellationReason, Order, Status, status_label
from orders.processing.figure_sums import add_up
from orders.rules.figures import Asker, Group, Report, Times, share, sums
from shop.actors import STAFF, SYSTEM, Actor
from shop.errors import Words
from shop.models import Store, User
from shop.money import rounded
from shop.search import IndexedSearch
from shop.spreadsheet import csv_lines
from shop.staff import ReadOnlyAdmin, StoreFilter, actor_of
from shop.templatetags.desk import badge, money

PERIODS = (7, 30, 90)
USUAL_PERIOD = 30
LONGEST_PERIOD = 366


def in_words(seconds: int | None) -> str:
    """This will say how long something took at the most, in the largest unit that says enough: "3 h"."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return _("%(count)d s") % {"count": seconds}
    if seconds < 3600:
        return _("%(count)d min") % {"count": -(-seconds // 60)}
    if seconds < 48 * 3600:
        return _("%(count)d h") % {"count": -(-seconds // 3600)}
    days = -(-seconds // 86400)
    return ngettext("%(count)d day", "%(count)d days", days) % {"count": days}


class DayField(forms.DateField):
    """A day as browsers send it, within what a report can be about."""

    def __init__(self, *, label: Words) -> None:
        super().__init__(
            label=label,
            required=False,
            input_formats=["%Y-%m-%d"],
            validators=[MinValueValidator(date(2000, 1, 1)), MaxValueValidator(date(2999, 12, 31))],
            widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d"),
        )


class FigureFilter(forms.Form):
    """Which cancellations the page is about. Days that are filled in go before the number of days."""

    days = forms.TypedChoiceField(
        required=False, coerce=int, empty_value=str(USUAL_PERIOD), choices=[(n, n) for n in PERIODS],
        widget=forms.HiddenInput,
    )  # fmt: skip
    first = DayField(label=gettext_lazy("From"))
    last = DayField(label=gettext_lazy("Until"))
    store = forms.ChoiceField(label=gettext_lazy("Store"), required=False)
    category = forms.ChoiceField(label=gettext_lazy("Reason"), required=False)
    stage = forms.ChoiceField(label=gettext_lazy("Status before"), required=False)

    def __init__(self, *args: Any, stores: dict[int, str], today: date, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.today = today
        everything = [("", _("All"))]
        stages = [s for s in Order.all_statuses() if s not in {"new", "created", "cancelled", "refunded"}]
        for name, choices in (
            ("store", stores.items()),
            ("category", CancellationReason.Category.choices),
            ("stage", [(stage, status_label(stage)) for stage in stages]),
        ):
            self.fields[name].choices = [*everything, *choices]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if self.errors:
            return data
        first, last = data["first"], data["last"]
        if not first and last:
            raise forms.ValidationError({"first": _("Say from which day.")})
        if first:
            data["last"] = last = last or max(first, self.today)
            if last < first:
                raise forms.ValidationError({"last": _("It has to end after it begins.")})
            if (last - first).days >= LONGEST_PERIOD:
                words = _("Choose %(max)d days at the most.") % {"max": LONGEST_PERIOD}
                raise forms.ValidationError({"first": words})
        else:
            data["first"], data["last"] = self.today - timedelta(days=int(data["days"]) - 1), self.today
        return data

    @property
    def days_chosen(self) -> int | None:
        return None if self.data.get("first") else int(self.cleaned_data["days"])


@dataclass(frozen=True)
class Page:
    """What the page shows for one choice of filters."""

    actor: Actor
    chosen: dict[str, Any]
    stores: dict[int, str]

    @property
    def first(self) -> date:
        day: date = self.chosen["first"]
        return day

    @property
    def last(self) -> date:
        day: date = self.chosen["last"]
        return day

    @property
    def lookups(self) -> dict[str, str]:
        """The other filters, as they are looked up and as the list behind a bar takes them."""
        names = {"store": "store__id__exact", "category": "category__exact", "stage": "stage__exact"}
        return {names[name]: self.chosen[name] for name in names if self.chosen[name]}

    def figures(self, **lookups: Any) -> QuerySet[CancellationFigure]:
        return figures_of(self.actor).filter(**self.lookups, **lookups).order_by()

    @cached_property
    def rows(self) -> QuerySet[CancellationFigure]:
        return self.figures(day__gte=self.first, day__lte=self.last)

    @cached_property
    def report(self) -> Report:
        return add_up(self.rows, first=self.first, last=self.last)

    @cached_property
    def reasons(self) -> dict[str, str]:
        return {reason.code: reason.label for reason in CancellationReason.objects.all()}

    @cached_property
    def placed(self) -> tuple[int, int]:
        """Of the orders placed in the period: how many, and how many of them are cancelled as a whole by now."""
        orders = Order.objects.of(self.actor).placed().order_by()
        if self.chosen["store"]:
            orders = orders.filter(store=self.chosen["store"])
        start, end = (_midnight(day) for day in (self.first, self.last + timedelta(days=1)))
        gone = self.figures(placed_day__gte=self.first, placed_day__lte=self.last, ends_order=True)
        # An order may have been reinstated since.
        gone = gone.filter(outcome__in=CancellationFigure.TOOK_EFFECT, cancellation__order__status=Status.CANCELLED)
        return orders.filter(placed_at__gte=start, placed_at__lt=end).count(), gone.values("number").distinct().count()

    def url(self, **lookups: Any) -> str:
        """The list of the cancellations behind a figure."""
        whole = {
            "day__gte": self.first.isoformat(),
            "day__lte": self.last.isoformat(),
            "outcome__in": ",".join(CancellationFigure.TOOK_EFFECT),
            **self.lookups,
            **lookups,
        }
        return f"{reverse('admin:orders_cancellationfigure_list')}?{urlencode(whole)}"

    def day_chart(self) -> DayChart:
        return day_chart(self.report.days, lambda day: self.url(day__gte=day.isoformat(), day__lte=day.isoformat()))

    def bar_charts(self) -> list[BarChart]:
        made, people = self.report, self._people()
        return [
            self._bars("reason", _("By reason"), _("Reason"), made.by_reason, self.reason, _by("reason_code__exact")),
            self._bars("stage", _("By status before"), _("Status"), made.by_stage, status_label, _by("stage__exact")),
            self._bars("store", _("By store"), _("Store"), made.by_store, self._store, _by("store__id__exact")),
            self._bars("staff", _("By whom"), _("By"), made.by_asker, people, _of_asker),
        ]

    def _bars(
        self,
        key: str,
        title: str,
        column: str,
        groups: Mapping[Any, Group],
        label: Callable[[Any], Words],
        lookups: Callable[[Any], dict[str, Any]],
    ) -> BarChart:
        """A chart of the groups with most cancellations, each leading to its list."""
        return bar_chart(key, title, column, groups, label=label, url=lambda value: self.url(**lookups(value)))

    def _store(self, pk: int) -> str:
        return self.stores.get(pk, str(pk))

    def reason(self, code: str) -> str:
        return self.reasons.get(code, code) or _("No reason given")

    def _people(self) -> Callable[[Asker], str]:
        ids = [who.staff for who in self.report.by_asker if who.staff]
        names = {user.pk: user.get_full_name() or user.get_username() for user in User.objects.filter(pk__in=ids)}

        def label(who: Asker) -> str:
            return names.get(who.staff or 0) or who.name or asked_by(who.kind)

        return label

    def outcomes(self) -> list[tuple[str, str, int, str]]:
        """Status, its name, how many, and where they are listed."""
        return [
            (status.value, str(status.label), count, self.url(outcome__in=status.value))
            for status in Cancellation.Status
            if (count := self.report.outcomes[status.value])
        ]


def _by(lookup: str) -> Callable[[Any], dict[str, Any]]:
    return lambda key: {lookup: key}


def _of_asker(who: Asker) -> dict[str, Any]:
    if who.staff:
        return {"staff__id__exact": who.staff}
    return {"actor_kind__exact": who.kind, "staff_name__exact": who.name}


def asked_by(kind: str) -> str:
    """This will name those who are not staff."""
    return {STAFF: _("Staff"), SYSTEM: _("The desk itself")}.get(kind, _("Customers"))


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_default_timezone())


def figures_of(actor: Actor) -> QuerySet[CancellationFigure]:
    """This will find the figures of the stores that a person works in."""
    rows = CancellationFigure.objects.all()
    return rows if actor.stores is None else rows.filter(store__in=actor.stores)


# ---------------------------------------------------------------------------------------------------------------
# CSV


def csv_header() -> list[str]:
    return [
        _("Order"),
        _("Cancelled at"),
        _("Store"),
        _("Outcome"),
        _("Reason"),
        _("Reason category"),
        _("Status before"),
        _("By"),
        _("Currency"),
        _("Value"),
        _("Units"),
        _("Whole order"),
        _("Refund"),
        _("Amount refunded"),
        _("Refund time (seconds)"),
        _("Approval time (seconds)"),
    ]


def csv_rows(page: Page) -> Iterator[list[object]]:
    """This will make the rows of the file. Words are looked up beforehand: the rows are read while they are sent."""
    outcomes: dict[str, str] = {value: str(label) for value, label in Cancellation.Status.choices}
    refunds: dict[str, str] = {value: str(label) for value, label in CancellationFigure.Refund.choices}
    categories: dict[str, str] = {value: str(label) for value, label in CancellationReason.Category.choices}
    stages = {stage: str(status_label(stage)) for stage in Order.all_statuses()}
    askers = {kind: asked_by(kind) for kind in ("customer", STAFF, SYSTEM)}
    yes_no, zone = {True: _("yes"), False: _("no")}, timezone.get_default_timezone()
    figures = page.rows.order_by("day", "pk").iterator(chunk_size=2000)
    reasons, stores = page.reasons, page.stores

    def cells(figure: CancellationFigure) -> list[object]:
        return [
            figure.number,
            timezone.localtime(figure.at, zone).strftime("%Y-%m-%d %H:%M:%S"),
            stores.get(figure.store_id, figure.store_id),
            outcomes.get(figure.outcome, figure.outcome),
            reasons.get(figure.reason_code, figure.reason_code),
            categories.get(figure.category, figure.category),
            stages.get(figure.stage, figure.stage),
            figure.staff_name or askers.get(figure.actor_kind, figure.actor_kind),
            figure.currency,
            rounded(figure.value, figure.currency),
            figure.units,
            yes_no[figure.ends_order],
            refunds.get(figure.refund, figure.refund),
            rounded(figure.refunded, figure.currency) if figure.refunded else None,
            figure.refund_seconds,
            figure.approval_seconds,
        ]

    return map(cells, figures)


# ---------------------------------------------------------------------------------------------------------------
# The list behind a bar


class StageFilter(admin.SimpleListFilter):
    """The status before. No query asks which there are."""

    title = gettext_lazy("status before")
    parameter_name = "stage__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [(status, status_label(status)) for status in Order.all_statuses() if status not in {"new", "created"}]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(stage=self.value()) if self.value() else queryset


class FigureStoreFilter(StoreFilter):
    parameter_name = "store__id__exact"


@admin.register(CancellationFigure)
class CancellationFigureAdmin(IndexedSearch, ReadOnlyAdmin):
    """The page of figures stands where the table's list would; the list has an address of its own."""

    store_path = "store"
    list_display = [
        "order_link", "day_shown", "outcome_badge", "stage_shown", "by", "units", "value_shown", "refund_shown",
        "approval_time",
    ]  # fmt: skip
    list_display_links = None
    list_filter = ["outcome", "category", StageFilter, FigureStoreFilter]
    list_select_related = ["cancellation", "store"]
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ["cancellation__order__number"]
    search_help_text = gettext_lazy("A whole order number.")
    change_list_template = "admin/orders/figures_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return figures_of(actor_of(request)).defer("cancellation__plan", "cancellation__note")

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "orders_cancellationfigure"
        return [
            path("list/", view(self.list_page), name=f"{name}_list"),
            path("csv/", view(self.csv_page), name=f"{name}_csv"),
            path("", view(self.changelist_view), name=f"{name}_changelist"),
        ]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        labels = {reason.code: reason.label for reason in CancellationReason.objects.all()}

        def reason(row: CancellationFigure) -> str:
            return labels.get(row.reason_code, row.reason_code) or "–"

        reason.short_description = _("Reason")  # type: ignore[attr-defined]
        return [*self.list_display[:3], reason, *self.list_display[3:]]

    def list_page(self, request: HttpRequest) -> HttpResponse:
        """The list behind a bar, with its days in the title."""
        days = [parsed for name in ("day__gte", "day__lte") if (parsed := _day(request.GET.get(name, "")))]
        words = " – ".join(dict.fromkeys(date_format(day, "DATE_FORMAT") for day in days))
        return super().changelist_view(request, {"days_shown": words})

    def _filter(self, request: HttpRequest) -> tuple[FigureFilter, dict[int, str]]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        actor = actor_of(request)
        stores = Store.objects.all() if actor.stores is None else Store.objects.filter(pk__in=actor.stores)
        names = dict(stores.values_list("pk", "name"))
        today = timezone.localdate(timezone.now(), timezone.get_default_timezone())
        return FigureFilter(request.GET, stores=names, today=today), names

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        form, stores = self._filter(request)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Cancellations: figures"),
            "form": form,
            **(extra_context or {}),
        }
        status = 400
        if form.is_valid():
            context |= figures_context(Page(actor_of(request), form.cleaned_data, stores))
            context["periods"] = [(n, _query(request, days=n), n == form.days_chosen) for n in PERIODS]
            context["csv_url"] = f"{reverse('admin:orders_cancellationfigure_csv')}?{request.GET.urlencode()}"
            status = 200
        return TemplateResponse(request, "admin/orders/figures.html", context, status=status)

    def csv_page(self, request: HttpRequest) -> HttpResponseBase:
        """The filtered rows as a file; a filter that makes no sense is explained on the page instead."""
        form, stores = self._filter(request)
        if not form.is_valid():
            return self.changelist_view(request)
        page = Page(actor_of(request), form.cleaned_data, stores)
        name = f"cancellations-{page.first.isoformat()}-{page.last.isoformat()}.csv"
        return StreamingHttpResponse(
            csv_lines(csv_header(), csv_rows(page)),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"},
        )

    @admin.display(description=gettext_lazy("order"))
    def order_link(self, row: CancellationFigure) -> SafeString:
        url = reverse("admin:orders_order_change", args=(row.cancellation.order_id,))
        return format_html('<a href="{}">{}</a>', url, row.number)

    @admin.display(description=gettext_lazy("day"))
    def day_shown(self, row: CancellationFigure) -> str:
        return date_format(row.day, "DATE_FORMAT")

    @admin.display(description=gettext_lazy("outcome"))
    def outcome_badge(self, row: CancellationFigure) -> SafeString:
        return badge(row.outcome, row.get_outcome_display())

    @admin.display(description=gettext_lazy("status before"))
    def stage_shown(self, row: CancellationFigure) -> Words:
        return status_label(row.stage)

    @admin.display(description=gettext_lazy("by"))
    def by(self, row: CancellationFigure) -> str:
        return row.staff_name or asked_by(row.actor_kind)

    @admin.display(description=gettext_lazy("value"))
    def value_shown(self, row: CancellationFigure) -> SafeString | str:
        return money(row.value, row.currency)

    @admin.display(description=gettext_lazy("refund"))
    def refund_shown(self, row: CancellationFigure) -> SafeString | str:
        if row.refund == CancellationFigure.Refund.NONE:
            return "–"
        words = [row.get_refund_display()]
        if row.refund_seconds is not None:
            words.append(in_words(row.refund_seconds))
        shown = ", ".join(map(str, words))
        return format_html('{}<span class="figures-list-more">{}</span>', money(row.refunded, row.currency), shown)

    @admin.display(description=gettext_lazy("approval"))
    def approval_time(self, row: CancellationFigure) -> str:
        return in_words(row.approval_seconds)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _query(request: HttpRequest, *, days: int) -> str:
    """The same filters with another period."""
    query = request.GET.copy()
    for name in ("first", "last"):
        query.pop(name, None)
    query["days"] = str(days)
    return f"?{query.urlencode()}"


def _time(title: Words, times: Times, nothing: Words) -> dict[str, Any]:
    """How long something took, in a sentence."""
    if not times.count:
        return {"title": title, "words": "–", "more": nothing}
    # A number and its unit stay on one line.
    median, p90 = (in_words(seconds).replace(" ", "\u00a0") for seconds in (times.median, times.p90))
    more = _("nine in ten within %(p90)s, of %(count)d") % {"p90": p90, "count": times.count}
    return {"title": title, "words": _("half within %(median)s") % {"median": median}, "more": more}


def figures_context(page: Page) -> dict[str, Any]:
    """This will make everything that the template draws."""
    made, (placed, gone) = page.report, page.placed
    still_open = made.refunds[CancellationFigure.Refund.OPEN]
    failed = made.refunds[CancellationFigure.Refund.FAILED]
    percent: Decimal | None = share(gone, placed)
    return {
        "page": page,
        "report": made,
        "values": sums(made.total.values),
        "refunded": sums(made.refunded),
        "share": percent,
        "placed": placed,
        "gone": gone,
        "times": [
            {**_time(_("Refund time"), made.refund_time, _("no refund has arrived yet")), "open": still_open,
             "failed": failed},
            _time(_("Approval time"), made.approval_time, _("none needed approval")),
        ],
        "day_chart": page.day_chart(),
        "bar_charts": [] if made.is_empty else page.bar_charts(),
        "outcomes": page.outcomes(),
    }  # fmt: skip
