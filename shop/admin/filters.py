"""The filters of the inbox: state, owner, what is overdue, kind."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop import jobs
from shop.admin.words import kind_label
from shop.models import Job
from shop.staff import actor_of


class StateFilter(admin.SimpleListFilter):
    """What needs a person, unless something else is asked for. A search looks everywhere."""

    title = gettext_lazy("state")
    parameter_name = "state"
    ALL = "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self.otherwise = self.ALL if request.GET.get(SEARCH_VAR) else Job.State.NEEDS_ATTENTION
        states = sorted(Job.State, key=lambda state: state != Job.State.NEEDS_ATTENTION)
        return [*((state.value, str(state.label)) for state in states), (self.ALL, _("All"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        state = self.value() or self.otherwise
        return queryset.filter(state=state) if state in Job.State else queryset

    def choices(self, changelist: ChangeList) -> Any:
        chosen = self.value() or self.otherwise
        for value, title in self.lookup_choices:
            yield {
                "selected": str(value) == chosen,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }


class OwnerFilter(admin.SimpleListFilter):
    """Whose work: the person's own, or what nobody has taken yet."""

    title = gettext_lazy("owner")
    parameter_name = "owner"
    MINE, NOBODYS = "mine", "nobody"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self.MINE, _("Mine")), (self.NOBODYS, _("Nobody's"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        if self.value() == self.MINE:
            return queryset.filter(owner=actor_of(request).user_id)
        return queryset.filter(owner=None) if self.value() == self.NOBODYS else queryset


class DueFilter(admin.SimpleListFilter):
    """What should have been dealt with by now."""

    title = gettext_lazy("due")
    parameter_name = "due"
    OVERDUE = "overdue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self.OVERDUE, _("Overdue"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(due_at__lt=timezone.now()) if self.value() == self.OVERDUE else queryset


class KindFilter(admin.SimpleListFilter):
    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted(((kind, str(kind_label(kind))) for kind in jobs.kinds()), key=lambda choice: choice[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(kind=self.value()) if self.value() else queryset
