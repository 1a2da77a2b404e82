"""What the kernel shows in the admin: the inbox, people, groups and stores."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.contrib.auth.admin import UserAdmin
from django.db import transaction
from django.db.models import Case, OuterRef, QuerySet, Subquery, Value, When
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.models import Order
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.models import Job, Store, User
from shop.site import may_see_inbox
from shop.staff import Action, ActionForm, ActionsAdmin, BulkTold, ReadOnlyActionsAdmin, StoreFilter, actor_of
from shop.templatetags.desk import ago, badge

HANDLE = "shop.handle_job"

# Of a job's page.
FIELDS = [
    "what",
    "what_to_do",
    "order",
    "store",
    "state_badge",
    "tries",
    "last_error",
    "outcome",
    "created_at",
    "run_at",
    "first_sent_at",
    "done_at",
    "resolved_by",
    "resolved_note",
    "key",
    "args",
]


# ---------------------------------------------------------------------------------------------------------------
# Inbox


def kind_label(kind: str) -> Words:
    """This will name a kind of job in words; one whose code is gone keeps its name."""
    try:
        return jobs.handler_of(kind).label or kind
    except LookupError:
        return kind


def what_to_do(kind: str) -> Words:
    """This will say what a person does about a job of this kind."""
    try:
        return jobs.handler_of(kind).what_to_do
    except LookupError:
        return _("The program that did this work is not installed any more. Ask who runs the desk.")


class NoteForm(ActionForm):
    """What was done by hand: the only trace of it that there will be."""

    note = forms.CharField(
        label=gettext_lazy("What did you do?"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=gettext_lazy("Say what you did and where, so that others can follow it later."),
    )


def _refusal(job: Job, actor: Actor) -> Refused | None:
    return None if job.state == Job.State.NEEDS_ATTENTION else jobs.JobGone()


def _facts(job: Job, actor: Actor) -> dict[str, Any]:
    return {"what": kind_label(job.kind), "what_to_do": what_to_do(job.kind)}


def _try_again(job: Job, actor: Actor, data: dict[str, Any]) -> Words:
    jobs.retry_by_hand(job.pk)
    return _("It is being tried again: %(what)s.") % {"what": kind_label(job.kind)}


def _done_by_hand(job: Job, actor: Actor, data: dict[str, Any]) -> Words:
    jobs.finish_by_hand(job.pk, user_id=actor.user_id, actor_name=actor.name, note=data["note"])
    return _("Noted as done by hand: %(what)s.") % {"what": kind_label(job.kind)}


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


class KindFilter(admin.SimpleListFilter):
    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted(((kind, str(kind_label(kind))) for kind in jobs.kinds()), key=lambda choice: choice[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class JobAdmin(ReadOnlyActionsAdmin):
    """The inbox: jobs that need a person, and what became of all the others."""

    store_path = "store"
    change_form_template = "admin/shop/job/change_form.html"
    list_display = ["what", "order", "store", "since", "tries", "why"]
    list_display_links = ["what"]
    list_filter = [StateFilter, KindFilter, StoreFilter]
    list_per_page = 50
    list_select_related = ["store"]
    # Both can use an index; the table of jobs is long.
    search_fields = ["reference__exact", "key__startswith"]
    search_help_text = gettext_lazy("Order number, or the beginning of a job's key. Looks in all states.")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    actions = ["retry"]
    desk_actions = [
        Action(
            name="retry",
            label=gettext_lazy("Try again"),
            description=gettext_lazy("The job gets a fresh set of attempts under the same key: nothing is done twice."),
            permission=HANDLE,
            act=_try_again,
            refusal=_refusal,
            preview=_facts,
            template="admin/shop/job/action.html",
            relevant=lambda job: job.state != Job.State.DONE,
            primary=True,
        ),
        Action(
            name="done",
            label=gettext_lazy("Done by hand"),
            description=gettext_lazy(
                "You have done this work yourself, outside the desk. The desk will not do it again."
            ),
            permission=HANDLE,
            act=_done_by_hand,
            refusal=_refusal,
            form=NoteForm,
            preview=_facts,
            template="admin/shop/job/action.html",
            relevant=lambda job: job.state != Job.State.DONE,
        ),
    ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_see_inbox(actor_of(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        # Django asks this on the login page as well.
        return self.admin_site.has_permission(request) and may_see_inbox(actor_of(request))

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return actor_of(request).may(HANDLE)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        order = Order.objects.filter(number=OuterRef("reference")).values("pk")[:1]
        return super().get_queryset(request).annotate(order_id=Subquery(order))

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        return [Case(When(state=Job.State.NEEDS_ATTENTION, then=Value(0)), default=Value(1)), "-pk"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """What is empty is left out: most jobs were never sent twice, nor resolved by hand."""
        if obj is None:
            return FIELDS
        empty: tuple[Any, ...] = (None, "", {})
        return [
            name
            for name in FIELDS
            if getattr(obj, name, True) not in empty and (name != "outcome" or obj.outcome_unknown)
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {"title": _("Inbox"), **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        def do(job: Job) -> SafeString:
            buttons = [b for b in self.buttons(request, job) if b.refusal is None]
            return render_to_string("admin/desk/buttons.html", {"buttons": buttons, "small": True})

        do.short_description = _("Do")  # type: ignore[attr-defined]
        return [*self.list_display, do]

    @admin.display(description=gettext_lazy("what"))
    def what(self, job: Job) -> SafeString:
        return format_html("{} {}", kind_label(job.kind), self.state_badge(job))

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, job: Job) -> SafeString:
        return badge(job.state, job.get_state_display())

    @admin.display(description=gettext_lazy("what to do"))
    def what_to_do(self, job: Job) -> Words:
        return what_to_do(job.kind)

    @admin.display(description=gettext_lazy("order"), empty_value="–")
    def order(self, job: Any) -> SafeString | str:
        if not job.order_id:
            return str(job.reference)
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:orders_order_change", args=(job.order_id,)), job.reference
        )

    @admin.display(description=gettext_lazy("outcome"))
    def outcome(self, job: Job) -> Words:
        return _("Not known: the answer never came. It is looked up before anything is sent again.")

    @admin.display(description=gettext_lazy("since"))
    def since(self, job: Job) -> SafeString | str:
        return ago(job.created_at)

    @admin.display(description=gettext_lazy("attempts"))
    def tries(self, job: Job) -> str:
        return _("%(made)d of %(most)d") % {"made": job.attempts, "most": job.max_attempts}

    @admin.display(description=gettext_lazy("last error, and what to do"))
    def why(self, job: Job) -> SafeString:
        return render_to_string("admin/shop/job/why.html", {"job": job, "what_to_do": what_to_do(job.kind)})

    @admin.action(description=gettext_lazy("Try again"), permissions=["handle"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        told = BulkTold()
        # One transaction around all of them wakes a worker once, not once for each.
        with transaction.atomic():
            for job in queryset.order_by("pk"):
                try:
                    jobs.retry_by_hand(job.pk)
                    told.done += 1
                except jobs.JobGone as no:
                    told.refuse(job, no)
        told.tell(request, done=_("%(count)d are being tried again."))


# ---------------------------------------------------------------------------------------------------------------
# People and stores


class PeopleAdmin(UserAdmin):
    """Staff and customers. Only a superuser makes superusers, or touches their accounts."""

    list_display = ["username", "email", "first_name", "last_name", "language", "is_staff", "is_active"]
    list_filter = ["is_staff", "is_active", "is_superuser", "groups"]
    search_fields = ["username", "email", "first_name", "last_name", "phone"]
    show_full_result_count = False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        contact = (_("Contact"), {"fields": ("phone", "language")})
        return [*fieldsets[:2], contact, *fieldsets[2:]]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        own = ["last_login", "date_joined"]
        if request.user.is_superuser:
            return own
        rights = ["is_superuser", "user_permissions"]
        # Nobody gives rights to themselves.
        return [*own, *rights, "groups", "is_staff"] if obj and obj.pk == request.user.pk else [*own, *rights]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def _may_touch(self, request: HttpRequest, obj: Any) -> bool:
        return obj is None or request.user.is_superuser or not obj.is_superuser

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        rows, duplicates = super().get_search_results(request, queryset, search_term)
        # The store's field of its staff offers staff, not every customer.
        if request.GET.get("model_name") == "store" and request.GET.get("field_name") == "staff":
            rows = rows.filter(is_staff=True)
        return rows, duplicates


class StoreAdmin(ActionsAdmin):
    """Stores, their settings, and who works there."""

    store_path = "pk"
    list_display = ["name", "code", "currency", "country", "reviews_orders", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["name", "code"]
    autocomplete_fields = ["staff"]
    fieldsets = [
        (None, {"fields": ["name", "code", "is_active"]}),
        (gettext_lazy("Selling"), {"fields": ["currency", "country", "prices_include_tax", "reviews_orders"]}),
        (gettext_lazy("Mails and documents"), {"fields": ["email", "address"]}),
        (gettext_lazy("People"), {"fields": ["staff"]}),
    ]


admin.site.register(Job, JobAdmin)
admin.site.register(User, PeopleAdmin)
admin.site.register(Store, StoreAdmin)
