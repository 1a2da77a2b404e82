"""The filters of the order list. None of them asks the database which values there are among a million rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.models import CancellationRequest, Hold, Order, status_label
from shop.errors import Words
from shop.staff import actor_of

# Payment methods are looked for in the latest orders: what nobody has used for so long is not offered.
LOOKED_AT = 1_000


class StatusFilter(admin.SimpleListFilter):
    """The statuses that the shop's workflows know. The parameter is the one the dashboard links to."""

    title = gettext_lazy("status")
    parameter_name = "status__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [(status, status_label(status)) for status in Order.all_statuses() if status not in {"new", "created"}]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        return queryset.filter(status=self.value()) if self.value() else queryset


class OnHoldFilter(admin.SimpleListFilter):
    title = gettext_lazy("on hold")
    parameter_name = "on_hold"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        held = Q(pk__in=Hold.objects.filter(released_at=None).order_by().values("order"))
        return {"yes": queryset.filter(held), "no": queryset.exclude(held)}.get(self.value() or "", queryset)


class RequestFilter(admin.SimpleListFilter):
    """Orders whose customer waits for an answer."""

    title = gettext_lazy("cancellation request")
    parameter_name = "request"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [("open", _("To be answered")), ("awaited", _("Goods awaited")), ("failed", _("Refund failed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        wanted = {
            "open": CancellationRequest.UNDECIDED,
            "awaited": CancellationRequest.AWAITING_GOODS,
            "failed": (CancellationRequest.Status.MANUEL_REFUND_NEED,),
        }
        if (statuses := wanted.get(self.value() or "")) is None:
            return queryset
        requests = CancellationRequest.objects.filter(status__in=statuses).order_by()
        return queryset.filter(pk__in=requests.values("order"))


class PaymentMethodFilter(admin.SimpleListFilter):
    title = gettext_lazy("payment method")
    parameter_name = "payment_method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        latest = Order.objects.of(actor_of(request)).order_by("-placed_at", "-pk")[:LOOKED_AT]
        rows = Order.objects.filter(pk__in=list(latest.values_list("pk", flat=True))).exclude(payment_method="")
        names = dict(rows.order_by("payment_method").values_list("payment_method", "payment_method_name").distinct())
        chosen = self.used_parameters.get(self.parameter_name)
        if chosen and chosen not in names:
            names[chosen] = ""
        return [(code, name or code) for code, name in names.items()]

    def has_output(self) -> bool:
        return bool(self.lookup_choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        return queryset.filter(payment_method=self.value()) if self.value() else queryset


class PlacedFilter(admin.SimpleListFilter):
    """When the order was placed: the usual ranges, and one from day to day, both included."""

    title = gettext_lazy("placed")
    parameter_name = "placed"
    template = "admin/orders/order/placed_filter.html"
    FROM, UNTIL = "placed_from", "placed_until"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        days = {name: params.pop(name)[-1] for name in (self.FROM, self.UNTIL) if name in params}
        super().__init__(request, params, model, model_admin)
        self.days = {name: day for name, text in days.items() if (day := _day(text))}
        self.used_parameters.update({name: day.isoformat() for name, day in self.days.items()})
        parameters = request.GET.items()
        own = {*self.expected_parameters(), "p", "e"}
        self.others = [(name, value) for name, value in parameters if name not in own]

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, self.FROM, self.UNTIL]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [
            ("today", _("Today")),
            ("yesterday", _("Yesterday")),
            ("7", _("Last 7 days")),
            ("30", _("Last 30 days")),
            ("month", _("This month")),
            ("last_month", _("Last month")),
        ]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        own = [self.FROM, self.UNTIL]
        for value, title in [(None, _("All")), *self.lookup_choices]:
            yield {
                "selected": (str(value) == self.value()) if value else not (self.value() or self.days),
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value} if value else {}, own if value else [*own, str(self.parameter_name)]
                ),
                "display": title,
            }
        words = " – ".join(
            day.isoformat() if day else "…" for day in (self.days.get(self.FROM), self.days.get(self.UNTIL))
        )
        yield {"selected": bool(self.days), "display": words, "spec": self, "query_string": ""}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        first, last = self._range(timezone.localdate())
        if first:
            queryset = queryset.filter(placed_at__gte=_midnight(first))
        return queryset.filter(placed_at__lt=_midnight(last + timedelta(days=1))) if last else queryset

    def _range(self, today: date) -> tuple[date | None, date | None]:
        if self.days:
            return self.days.get(self.FROM), self.days.get(self.UNTIL)
        month = today.replace(day=1)
        before = month - timedelta(days=1)
        ranges: dict[str | None, tuple[date | None, date | None]] = {
            "today": (today, None),
            "yesterday": (today - timedelta(days=1), today - timedelta(days=1)),
            "7": (today - timedelta(days=6), None),
            "30": (today - timedelta(days=29), None),
            "month": (month, None),
            "last_month": (before.replace(day=1), before),
        }
        return ranges.get(self.value(), (None, None))


def _day(text: str) -> date | None:
    """A day as a browser sends it; what is none is left alone, and so are the ends of the calendar."""
    try:
        day = parse_date(text)
    except ValueError:
        return None
    return day if day is not None and date.min.year < day.year < date.max.year else None


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
