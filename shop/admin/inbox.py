"""The inbox: work that needs a person, whose it is and by when it is to be dealt with, and all other jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.db.models import Case, F, OuterRef, QuerySet, Subquery, Value, When
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.models import Order
from shop import jobs
from shop.actors import Actor, staff_who_may
from shop.admin.filters import DueFilter, KindFilter, OwnerFilter, StateFilter
from shop.admin.words import name_of, what_happened, what_to_do
from shop.errors import Refused, Words
from shop.models import Job, User
from shop.search import IndexedSearch
from shop.site import may_see_inbox
from shop.staff import Action, ActionForm, BulkTold, Button, ReadOnlyActionsAdmin, StoreFilter, actor_of
from shop.templatetags.desk import badge, due

HANDLE = "shop.handle_job"

# Of a job's page.
FIELDS = [
    "what",
    "what_happened",
    "what_to_do",
    "owner_name",
    "due",
    "order",
    "store",
    "state_badge",
    "tries",
    "last_error",
    "outcome",
    "created_at",
    "runs_from",
    "first_sent_at",
    "done_at",
    "resolved_by",
    "resolved_note",
    "key",
    "args",
]
# What the page shows under another name than the job's own: empty where that is.
SHOWN_OF = {"owner_name": "owner", "due": "due_at", "runs_from": "run_at"}
# Said of what waits for a person only.
FOR_PERSONS = {"what_happened", "what_to_do"}


class NoteForm(ActionForm):
    """What was done by hand: the only trace of it that there will be."""

    note = forms.CharField(
        label=gettext_lazy("What did you do?"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=gettext_lazy("Say what you did and where, so that others can follow it later."),
    )


class TakeForm(ActionForm):
    """Carries the owner whom the page has shown, so that who comes second is told."""

    seen = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["seen"].initial = self.obj.owner_id


class People(forms.ModelChoiceField):
    def label_from_instance(self, obj: User) -> str:
        return name_of(obj)


class GiveForm(TakeForm):
    """Whose work it is to be."""

    to = People(
        label=gettext_lazy("Give to"),
        queryset=User.objects.none(),
        help_text=gettext_lazy("People who work in this store and may handle jobs."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = staff_who_may(HANDLE, store_id=self.obj.store_id)
        self.fields["to"].queryset = people.exclude(pk=self.obj.owner_id)  # type: ignore[attr-defined]


def _refusal(job: Job, actor: Actor) -> Refused | None:
    return None if job.state == Job.State.NEEDS_ATTENTION else jobs.JobGone()


class OnlyByHand(Refused):
    """Trying again could only fail again: what stood in the way has been said for good."""

    code = "only_by_hand"
    message = jobs.BY_HAND


def _not_to_try(job: Job, actor: Actor) -> Refused | None:
    return _refusal(job, actor) or (OnlyByHand() if _is_only_by_hand(job) else None)


class YoursAlready(Refused):
    code = "yours_already"
    message = gettext_lazy("This is your work already.")


def _not_yours_to_take(job: Job, actor: Actor) -> Refused | None:
    return _refusal(job, actor) or (YoursAlready() if job.owner_id == actor.user_id else None)


def _ask_for_all(rows: Sequence[Any]) -> None:
    """Ask for many jobs at once what `_is_only_by_hand` and `_what` tell."""
    by_hand, words = jobs.only_by_hand(row for row in rows if row.state == Job.State.NEEDS_ATTENTION), jobs.about(rows)
    for row in rows:
        row.is_only_by_hand, row.about = row.pk in by_hand, words[row.pk]


def _is_only_by_hand(job: Any) -> bool:
    """Asked once for each job; for a list, `_ask_for_all` has asked for all of them."""
    if not hasattr(job, "is_only_by_hand"):
        job.is_only_by_hand = job.pk in jobs.only_by_hand([job])
    return bool(job.is_only_by_hand)


def _what(job: Any) -> Words:
    """Asked once for each job; for a list, `_ask_for_all` has asked for all of them."""
    if not hasattr(job, "about"):
        job.about = jobs.about([job])[job.pk]
    words: Words = job.about
    return words


def _what_to_do(job: Job) -> Words:
    if _is_only_by_hand(job):
        return jobs.BY_HAND
    return what_to_do(job.kind)


def _what_happened(job: Job) -> Words:
    """Where the answer never came, nobody can say that it was not done."""
    return _("It is not known whether this was done.") if job.outcome_unknown else what_happened(job.kind)


def _facts(job: Job, actor: Actor) -> dict[str, Any]:
    return {
        "what": _what(job),
        "what_happened": _what_happened(job),
        "what_to_do": _what_to_do(job),
        "owner": name_of(job.owner),
    }


def _try_again(job: Job, actor: Actor, data: dict[str, Any]) -> Words:
    if (no := _not_to_try(job, actor)) is not None:
        raise no
    jobs.retry_by_hand(job.pk)
    return _("It is being tried again: %(what)s.") % {"what": _what(job)}


def _done_by_hand(job: Job, actor: Actor, data: dict[str, Any]) -> Words:
    jobs.finish_by_hand(job.pk, user_id=actor.user_id, actor_name=actor.name, note=data["note"])
    return _("Noted as done by hand: %(what)s.") % {"what": _what(job)}


def _take(job: Job, actor: Actor, data: dict[str, Any]) -> Words:
    assert actor.user_id is not None  # nobody else reaches the admin
    jobs.give(job.pk, owner_id=actor.user_id, instead_of=data["seen"])
    return _("This is your work now: %(what)s.") % {"what": _what(job)}


def _give(job: Job, actor: Actor, data: dict[str, Any]) -> Words:
    jobs.give(job.pk, owner_id=data["to"].pk, instead_of=data["seen"])
    return _("This is the work of %(owner)s now: %(what)s.") % {
        "owner": name_of(data["to"]),
        "what": _what(job),
    }


def _action(name: str, label: Words, act: Any, description: Words, **more: Any) -> Action:
    """What the actions of a job have in common."""
    defaults: dict[str, Any] = {
        "refusal": _refusal,
        "relevant": lambda job: job.state != Job.State.DONE,
        "permission": HANDLE,
        "preview": _facts,
        "template": "admin/shop/job/action.html",
    }
    return Action(name=name, label=label, act=act, description=description, **(defaults | more))


class JobAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """The inbox: jobs that need a person, and what became of all the others."""

    store_path = "store"
    change_form_template = "admin/shop/job/change_form.html"
    list_display = ["what", "order_and_store", "due", "owner_name", "why"]
    list_display_links = ["what"]
    list_filter = [StateFilter, OwnerFilter, DueFilter, KindFilter, StoreFilter]
    list_per_page = 50
    list_select_related = ["store", "owner"]
    search_fields = ["reference", "key__beginning"]
    search_help_text = gettext_lazy("Order number, or the beginning of a job's key. Looks in all states.")
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    actions = ["take", "retry"]
    desk_actions = [
        _action(
            "retry",
            gettext_lazy("Try again"),
            _try_again,
            gettext_lazy("The job gets a fresh set of attempts under the same key: nothing is done twice."),
            refusal=_not_to_try,
            primary=True,
        ),
        _action(
            "done",
            gettext_lazy("Done by hand"),
            _done_by_hand,
            gettext_lazy("You have done this work yourself, outside the desk. The desk will not do it again."),
            form=NoteForm,
        ),
        _action(
            "take",
            gettext_lazy("Take it"),
            _take,
            gettext_lazy("It becomes your work: others see that you are at it."),
            refusal=_not_yours_to_take,
            form=TakeForm,
        ),
        _action(
            "give",
            gettext_lazy("Give to …"),
            _give,
            gettext_lazy("It becomes somebody else's work: they find it in the inbox under “Mine”."),
            form=GiveForm,
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
        waits = Case(When(state=Job.State.NEEDS_ATTENTION, then=Value(0)), default=Value(1))
        return [waits, F("due_at").asc(nulls_last=True), "-pk"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """What is empty is left out: most jobs were never sent twice, nor resolved by hand."""
        if obj is None:
            return FIELDS
        empty: tuple[Any, ...] = (None, "", {})
        hidden = set() if obj.state == Job.State.NEEDS_ATTENTION else FOR_PERSONS
        return [
            name
            for name in FIELDS
            if getattr(obj, SHOWN_OF.get(name, name), True) not in empty
            and (name != "outcome" or obj.outcome_unknown)
            and name not in hidden
        ]

    def buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        """What trying again cannot help has "Done by hand" as its first button."""
        first = "done" if _is_only_by_hand(obj) else "retry"
        return [replace(button, primary=button.name == first) for button in super().buttons(request, obj)]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The list, with what the buttons of its rows need, read at once."""
        changelist = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        _ask_for_all(rows)
        changelist.result_list = rows
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {"title": _("Inbox"), **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        def do(job: Job) -> SafeString:
            buttons = [b for b in self.buttons(request, job) if b.refusal is None]
            return render_to_string("admin/desk/buttons.html", {"buttons": buttons, "small": True})

        do.short_description = _("Do")  # type: ignore[attr-defined]
        return [*self.list_display, do] if self.has_handle_permission(request) else self.list_display

    @admin.display(description=gettext_lazy("what"))
    def what(self, job: Job) -> SafeString:
        return format_html("{} {}", _what(job), self.state_badge(job))

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, job: Job) -> SafeString:
        return badge(job.state, job.get_state_display())

    @admin.display(description=gettext_lazy("what happened"))
    def what_happened(self, job: Job) -> Words:
        return _what_happened(job)

    @admin.display(description=gettext_lazy("what to do"))
    def what_to_do(self, job: Job) -> Words:
        return _what_to_do(job)

    @admin.display(description=gettext_lazy("owner"))
    def owner_name(self, job: Job) -> SafeString:
        # On a phone the table has no head, so the label stands in the cell.
        return format_html('<span class="desk-phone-label">{}</span> {}', _("Owner:"), name_of(job.owner))

    @admin.display(description=gettext_lazy("due"))
    def due(self, job: Job) -> SafeString:
        return format_html('<span class="desk-phone-label">{}</span> {}', _("Due:"), due(job.due_at))

    @admin.display(description=gettext_lazy("order"), empty_value="–")
    def order(self, job: Any) -> SafeString | str:
        if not job.order_id:
            return str(job.reference)
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:orders_order_change", args=(job.order_id,)), job.reference
        )

    @admin.display(description=gettext_lazy("order"), empty_value="–")
    def order_and_store(self, job: Any) -> SafeString:
        return format_html('{}<div class="quiet">{}</div>', self.order(job), job.store or "")

    @admin.display(description=gettext_lazy("outcome"))
    def outcome(self, job: Job) -> Words:
        return _("Not known: the answer never came. It is looked up before anything is sent again.")

    @admin.display(description=gettext_lazy("to be done from"))
    def runs_from(self, job: Job) -> str:
        return date_format(timezone.localtime(job.run_at), "DATETIME_FORMAT")

    @admin.display(description=gettext_lazy("attempts"))
    def tries(self, job: Job) -> str:
        return _("%(made)d of %(most)d") % {"made": job.attempts, "most": job.max_attempts}

    @admin.display(description=gettext_lazy("what happened, and what to do"))
    def why(self, job: Job) -> SafeString:
        words = {"what_happened": _what_happened(job), "what_to_do": _what_to_do(job), "tries": self.tries(job)}
        return render_to_string("admin/shop/job/why.html", {"job": job, **words})

    @admin.action(description=gettext_lazy("Take it"), permissions=["handle"])
    def take(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Nobody's work becomes the person's; what others have is left to them."""
        told, actor = BulkTold(), actor_of(request)
        assert actor.user_id is not None
        for job in queryset.order_by("pk"):
            try:
                jobs.give(job.pk, owner_id=actor.user_id, instead_of=None)
                told.done += 1
            except Refused as no:
                told.refuse(job, no)
        told.tell(request, done=_("%(count)d are your work now."))

    @admin.action(description=gettext_lazy("Try again"), permissions=["handle"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        told, actor, rows = BulkTold(), actor_of(request), list(queryset.order_by("pk"))
        _ask_for_all(rows)
        # One transaction around all of them wakes a worker once, not once for each.
        with transaction.atomic():
            for job in rows:
                try:
                    _try_again(job, actor, {})
                    told.done += 1
                except Refused as no:
                    told.refuse(job, no)
        told.tell(request, done=_("%(count)d are being tried again."))
