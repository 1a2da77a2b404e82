"""API tokens in the admin: make one and see its secret once, see who uses what, revoke."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop import tokens
from shop.actors import Actor
from shop.admin.words import name_of
from shop.errors import Refused, Words
from shop.models import ApiToken, User
from shop.staff import Action, ActionForm, Button, ReadOnlyActionsAdmin, actor_of
from shop.templatetags.desk import badge

LIST = "admin:shop_apitoken_changelist"
ISSUE = "admin:shop_apitoken_issue"


class Accounts(forms.ModelChoiceField):
    def label_from_instance(self, obj: User) -> str:
        return f"{name_of(obj)} ({obj.get_username()})"


class IssueForm(ActionForm):
    """What uses it, for whom, what it may do and how long."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100, help_text=gettext_lazy("What uses it, such as “Warehouse robot”.")
    )
    user = Accounts(
        label=gettext_lazy("Account"),
        queryset=User.objects.none(),
        help_text=gettext_lazy(
            "It can do nothing that this account cannot do, in its stores. Best one of its own, for this program only."
        ),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("What it may do"),
        choices=list(tokens.SCOPES.items()),
        widget=forms.CheckboxSelectMultiple(attrs={"class": "desk-ticks"}),
        help_text=gettext_lazy("Tick only what the program needs."),
    )
    expires_at = forms.DateTimeField(
        label=gettext_lazy("Ends"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        owners = User.objects.filter(tokens.possible_owners(self.actor))
        self.fields["user"].queryset = owners.order_by("first_name", "last_name", "pk")  # type: ignore[attr-defined]
        words = _("In the time of %(zone)s. Without it, the token works until revoked.")
        self.fields["expires_at"].help_text = words % {"zone": timezone.get_current_timezone_name()}


def _revoke(token: ApiToken, actor: Actor, data: dict[str, Any]) -> Words:
    tokens.revoke(actor=actor, token_id=token.pk)
    return _("It is revoked: whatever uses it is refused from now on.")


class ApiTokenAdmin(ReadOnlyActionsAdmin):
    """The tokens of programs, newest first."""

    list_display = ["name", "state", "account", "scope_list", "last_used_at", "expires_at"]
    list_display_links = ["name"]
    list_select_related = ["user"]
    list_per_page = 50
    sortable_by = ()
    search_fields = ["name", "prefix", "user__username"]
    show_full_result_count = False
    fields = [
        "name",
        "prefix",
        "account",
        "scope_words",
        "state",
        "created_by",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
        "revoked_by",
    ]
    desk_actions = [
        Action(
            name="revoke",
            label=gettext_lazy("Revoke"),
            description=gettext_lazy("Whatever uses this token is refused at once. This cannot be taken back."),
            permission=tokens.REVOKE,
            act=_revoke,
            refusal=lambda token, actor: tokens.Revoked() if token.revoked_at else None,
            relevant=lambda token: token.revoked_at is None,
            danger=True,
        )
    ]
    issue = Action(
        name="issue",
        label=gettext_lazy("New token"),
        description=gettext_lazy("For a program that talks to the desk's API. People log in instead."),
        permission=tokens.ADD,
        act=lambda obj, actor, data: "",
        form=IssueForm,
        primary=True,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        return super().get_queryset(request).filter(pk__in=tokens.of(actor_of(request)).values("pk"))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.issue_page)
        return [path("new/", view, name="shop_apitoken_issue"), *super().get_urls()]

    def issue_page(self, request: HttpRequest) -> HttpResponseBase:
        """The form; and, as the answer to it and nowhere else, the secret."""
        actor = actor_of(request)
        if not actor.may(tokens.ADD):
            raise PermissionDenied
        sent = request.method == "POST"
        form = IssueForm(request.POST if sent else None, obj=None, actor=actor)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.issue.label,
            "action": self.issue,
            "form": form,
            "back": reverse(LIST),
        }
        if not (sent and form.is_valid()):
            return TemplateResponse(request, "admin/shop/apitoken/issue.html", context)
        try:
            token, secret = tokens.issue(actor=actor, **form.cleaned_data)
        except Refused as no:
            form.add_error(no.field if no.field in form.fields else None, str(no))
            return TemplateResponse(request, "admin/shop/apitoken/issue.html", context, status=no.http_status)
        made = {**context, "original": token, "secret": secret, "title": _("Token made")}
        return TemplateResponse(request, "admin/shop/apitoken/made.html", made)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        buttons = []
        if actor_of(request).may(tokens.ADD):
            label = self.issue.label
            buttons = [Button(self.issue.name, label, reverse(ISSUE), None, danger=False, primary=True)]
        return super().changelist_view(request, {"buttons": buttons, **(extra_context or {})})

    @admin.display(description=gettext_lazy("account"))
    def account(self, token: ApiToken) -> str:
        return name_of(token.user)

    @admin.display(description=gettext_lazy("scopes"))
    def scope_list(self, token: ApiToken) -> str:
        return ", ".join(token.scopes)

    @admin.display(description=gettext_lazy("may"))
    def scope_words(self, token: ApiToken) -> SafeString:
        words = ((f"{scope}: {tokens.SCOPES.get(scope, '')}",) for scope in token.scopes)
        return format_html_join(mark_safe("<br>"), "{}", words)

    @admin.display(description=gettext_lazy("state"))
    def state(self, token: ApiToken) -> SafeString:
        if token.revoked_at:
            return badge("rejected", _("Revoked"))
        if not token.is_usable(as_of=timezone.now()):
            return badge("warning", _("Ended") if token.user.is_active and token.user.is_staff else _("Account closed"))
        return badge("active", _("In use") if token.last_used_at else _("Never used"))
