"""Maintenance in the admin: start it, end it, and what there was of it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop import maintenance
from shop.actors import Actor
from shop.admin.words import name_of
from shop.errors import Refused, Words
from shop.models import Maintenance
from shop.staff import Action, ActionForm, Button, ReadOnlyActionsAdmin, actor_of
from shop.templatetags.desk import badge

LIST = "admin:shop_maintenance_changelist"
START = "admin:shop_maintenance_start"


class StartForm(ActionForm):
    """What people are told while it is on."""

    message = forms.CharField(
        label=gettext_lazy("Message"),
        max_length=Maintenance.LONGEST_MESSAGE,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Shown to staff on every page, and to customers who are refused."),
    )
    ends_at = forms.DateTimeField(
        label=gettext_lazy("Expected end"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["ends_at"].help_text = _(
            "Shown as well, in the time of %(zone)s. It ends nothing by itself: do that here when the work is done."
        ) % {"zone": timezone.get_current_timezone_name()}


def _start(_obj: None, actor: Actor, data: dict[str, Any]) -> Words:
    maintenance.start(actor=actor, message=data["message"], ends_at=data["ends_at"])
    return _("Maintenance has begun.")


def _is_on(_obj: None, actor: Actor) -> Refused | None:
    return maintenance.AlreadyOn() if maintenance.current() else None


def _end(period: Maintenance, actor: Actor, data: dict[str, Any]) -> Words:
    maintenance.end(actor=actor)
    return _("Maintenance is over: everything is possible again.")


def _has_ended(period: Maintenance, actor: Actor) -> Refused | None:
    return maintenance.NotOn() if period.ended_at else None


def may_see_maintenance(actor: Actor) -> bool:
    return actor.may(maintenance.RUN) or actor.may("shop.view_maintenance")


class MaintenanceAdmin(ReadOnlyActionsAdmin):
    """The periods of maintenance, the one that is on first."""

    change_form_template = "admin/shop/maintenance/change_form.html"
    list_display = ["when", "state", "message", "ends_at", "ended_at", "who"]
    list_display_links = ["when"]
    list_select_related = ["started_by", "ended_by"]
    list_per_page = 50
    sortable_by = ()
    show_full_result_count = False
    fields = ["started_at", "started_by", "message", "ends_at", "ended_at", "ended_by"]
    desk_actions = [
        Action(
            name="end",
            label=gettext_lazy("End maintenance"),
            description=gettext_lazy(
                "Everything is possible again at once, and what was queued meanwhile is worked off."
            ),
            permission=maintenance.RUN,
            act=_end,
            refusal=_has_ended,
            relevant=lambda period: period.ended_at is None,
            template="admin/shop/maintenance/action.html",
            primary=True,
        )
    ]
    start = Action(
        name="start",
        label=gettext_lazy("Start maintenance"),
        description=gettext_lazy(
            "From now on cancellations are queued and worked off afterwards; other changes are refused until it ends."
        ),
        permission=maintenance.RUN,
        act=_start,
        refusal=_is_on,
        form=StartForm,
        template="admin/shop/maintenance/action.html",
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_see_maintenance(actor_of(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        # Django asks this on the login page as well.
        return self.admin_site.has_permission(request) and may_see_maintenance(actor_of(request))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.start_page)
        return [path("start/", view, name="shop_maintenance_start"), *super().get_urls()]

    def start_page(self, request: HttpRequest) -> HttpResponseBase:
        """Starting is an action on nothing that exists yet, so it has an address of its own."""
        if not actor_of(request).may(maintenance.RUN):
            raise PermissionDenied
        return self.answer_action(request, self.start, obj=None, back=reverse(LIST))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """What there was, and the button that is due now: to start, or to end."""
        period, may_run = maintenance.current(), actor_of(request).may(maintenance.RUN)
        buttons = self.buttons(request, period) if period else []
        if may_run and period is None:
            start = self.start
            buttons = [Button(start.name, start.label, reverse(START), None, danger=False, primary=True)]
        return super().changelist_view(request, {"buttons": buttons, "period": period, **(extra_context or {})})

    @admin.display(description=gettext_lazy("from"))
    def when(self, period: Maintenance) -> str:
        return str(period)

    @admin.display(description=gettext_lazy("state"))
    def state(self, period: Maintenance) -> SafeString:
        return badge("done", _("Ended")) if period.ended_at else badge("needs_attention", _("On"))

    @admin.display(description=gettext_lazy("by"))
    def who(self, period: Maintenance) -> str:
        """Who started it, and who ended it; the command line is nobody's account."""
        people = [period.started_by] if period.ended_at is None else [period.started_by, period.ended_by]
        return " – ".join(name_of(person) if person else _("command line") for person in people)
