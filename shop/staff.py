"""What admin pages share: action pages (one button, one page, one call), read-only tables, store scope.

An action's button is a link to its own page: GET shows what will happen, with a form where input is needed; only POST
acts. Whether it is possible, and why not, is asked of the same rule for the button, the page and the call; the
permission is checked on display and again on execution. Nothing else in the admin changes anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop.actors import ANYWHERE, Actor, Anywhere
from shop.errors import NotAllowed, Refused, Words
from shop.models import Store

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class ActionForm(forms.Form):
    """Base of an action's form. `obj` and `actor` are given; a hidden id makes a double submit one command."""

    once = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4, required=False)

    def __init__(self, *args: Any, obj: Any, actor: Actor, **kwargs: Any) -> None:
        self.obj, self.actor = obj, actor
        super().__init__(*args, **kwargs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing staff can do to one object.

    name        part of the address and of the button's id
    label       the button's words, a verb
    act         (obj, actor, cleaned form data) → what to tell; it makes the one domain call and may raise Refused
    permission  needed to see and to do it
    refusal     (obj, actor) → why it is not possible now, or None
    form        its fields; the base form has none
    warning     words shown before something that cannot be undone; such a page asks for a tick
    preview     (obj, actor) → template context of what will happen, shown by `template`
    relevant    (obj) → False hides the button where it makes no sense at all (not: where it is refused)
    """

    name: str
    label: Words
    act: Callable[[Any, Actor, dict[str, Any]], Words]
    permission: str
    refusal: Callable[[Any, Actor], Refused | None] = lambda obj, actor: None
    form: type[ActionForm] = ActionForm
    description: Words = ""
    warning: Words = ""
    danger: bool = False
    primary: bool = False
    preview: Callable[[Any, Actor], dict[str, Any]] | None = None
    template: str = "admin/action.html"
    relevant: Callable[[Any], bool] = lambda obj: True


@dataclass(frozen=True, slots=True)
class Button:
    """An action as the object's page shows it: a link, or disabled with its reason."""

    name: str
    label: Words
    url: str
    refusal: Refused | None
    danger: bool
    primary: bool


def actor_of(request: HttpRequest) -> Actor:
    """The staff member who asks, read once per request."""
    actor: Actor | None = getattr(request, "_actor", None)
    if actor is None:
        actor = Actor.staff(request.user)  # type: ignore[arg-type]
        request._actor = actor  # type: ignore[attr-defined]
    return actor


def came_from(request: HttpRequest) -> str:
    """This will tell which page of the desk an action was opened from and leads back to (`?next=`); empty: none."""
    address = request.GET.get("next", "")
    here, secure = {request.get_host()}, request.is_secure()
    return address if url_has_allowed_host_and_scheme(address, allowed_hosts=here, require_https=secure) else ""


class ActionsAdmin(ModelAdmin):
    """A ModelAdmin whose objects have actions. List them in `desk_actions`; `store_path` scopes rows to a store."""

    desk_actions: Sequence[Action] = ()
    store_path: str = ""
    change_form_template = "admin/desk_change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        actor = actor_of(request)
        if self.store_path and actor.stores is not None:
            rows = rows.filter(**{f"{self.store_path}__in": actor.stores})
        return rows

    def store_of(self, obj: Any) -> int | Anywhere | None:
        """The store whose rights count; None: of all stores."""
        if not self.store_path:
            return ANYWHERE
        value = obj
        for name in self.store_path.split("__"):
            value = getattr(value, name)
        pk: int | None = value.pk if isinstance(value, Model) else value
        return pk

    def get_urls(self) -> list[URLPattern]:
        info = f"{self.opts.app_label}_{self.opts.model_name}_do"
        view = self.admin_site.admin_view(self.action_page)
        return [path("<path:object_id>/do/<slug:name>/", view, name=info), *super().get_urls()]

    def action_url(self, obj: Model, name: str) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_do", args=(obj.pk, name))

    def buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        """The actions this person may see, as listed, each with its reason where it is not possible."""
        actor, store_id = actor_of(request), self.store_of(obj)
        return [
            Button(a.name, a.label, self.action_url(obj, a.name), a.refusal(obj, actor), a.danger, a.primary)
            for a in self.desk_actions
            if actor.may(a.permission, store_id=store_id) and a.relevant(obj)
        ]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if obj := kwargs.get("obj"):
            context["buttons"] = self.buttons(request, obj)
        return super().render_change_form(request, context, *args, **kwargs)

    def action_page(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        """GET shows the action's page, POST does it."""
        obj = self.get_object(request, object_id)
        action = next((a for a in self.desk_actions if a.name == name), None)
        if obj is None or action is None:
            raise Http404
        actor = actor_of(request)
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        try:
            actor.require(action.permission, store_id=self.store_of(obj))
        except NotAllowed as no:
            raise PermissionDenied(str(no)) from no
        back = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=(obj.pk,))
        return self.answer_action(request, action, obj=obj, back=came_from(request) or back)

    def answer_action(self, request: HttpRequest, action: Action, *, obj: Any, back: str) -> HttpResponseBase:
        """Show or do an action that this person may do; `back` is where it leads to afterwards."""
        actor = actor_of(request)
        refusal = action.refusal(obj, actor)
        # A page that is already open still posts its form: the decision itself is made under the lock, so that the
        # one who came second is told what changed, not what this unlocked look happens to see.
        sent = request.method == "POST"
        form = action.form(request.POST if sent else None, request.FILES if sent else None, obj=obj, actor=actor)
        if action.warning:
            form.fields["understood"] = forms.BooleanField(label=_("I have read this and want to do it."))
        if request.method == "POST" and form.is_valid():
            try:
                told = action.act(obj, actor, form.cleaned_data)
            except Refused as no:
                refusal = no
                if no.field and no.field in form.fields:
                    form.add_error(no.field, str(no))
            else:
                # On a list, the message says which row it is about.
                messages.success(request, f"{obj}: {told}" if came_from(request) else str(told))
                return redirect(back)
        elif request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponse(status=405, headers={"Allow": "GET, POST"})
        context = {
            **self.admin_site.each_context(request),
            **(action.preview(obj, actor) if action.preview and not (refusal and request.method == "GET") else {}),
            "opts": self.opts,
            "title": action.label,
            "original": obj,
            "object": obj,
            "action": action,
            "form": form,
            "refusal": refusal,
            "back": back,
        }
        status = refusal.http_status if refusal and request.method == "POST" else 200
        return TemplateResponse(request, [action.template, "admin/action.html"], context, status=status)


class OwnStoresAdmin(ModelAdmin):
    """Rows of one store, or of all of them: staff of one store write what is that store's, and no other's."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        stores = actor_of(request).stores
        if db_field.name == "store" and stores is not None:
            # "All stores" is for those who work in all of them.
            kwargs |= {"queryset": Store.objects.filter(pk__in=stores), "required": True}
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def is_own(self, request: HttpRequest, obj: Any) -> bool:
        """Whether a row is of a store that the person works in; those of all stores are theirs who work in all."""
        stores = actor_of(request).stores
        return stores is None or obj.store_id in stores


class ReadOnlyAdmin(ModelAdmin):
    """Rows that the desk writes and nobody edits: to be looked at, searched and filtered."""

    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyActionsAdmin(ActionsAdmin, ReadOnlyAdmin):
    """Rows that change by actions only."""


class StoreFilter(admin.SimpleListFilter):
    """Offers the stores that the person works in, where there are several. The admin's `store_path` leads to them."""

    title = gettext_lazy("store")
    parameter_name = "store"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        actor, self.path = actor_of(request), model_admin.store_path
        stores = Store.objects.all() if actor.stores is None else Store.objects.filter(pk__in=actor.stores)
        return [(str(pk), name) for pk, name in stores.values_list("pk", "name")]

    def has_output(self) -> bool:
        return len(self.lookup_choices) > 1

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen not in {value for value, _name in self.lookup_choices}:
            return queryset
        return queryset.filter(**{self.path: chosen})


class BulkTold:
    """Collects what became of each row of a bulk action, and tells it in few messages."""

    def __init__(self) -> None:
        self.done = 0
        self.refused: dict[str, list[str]] = {}

    def refuse(self, row: object, no: Refused) -> None:
        self.refused.setdefault(str(no), []).append(str(row))

    def tell(self, request: HttpRequest, *, done: str) -> None:
        if self.done:
            messages.success(request, done % {"count": self.done})
        for words, rows in self.refused.items():
            shown = ", ".join(rows[:10]) + (" …" if len(rows) > 10 else "")
            messages.warning(
                request, _("%(count)d not done: %(why)s (%(rows)s)") % {"count": len(rows), "why": words, "rows": shown}
            )
