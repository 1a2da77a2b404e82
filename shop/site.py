"""The admin site: its name, its navigation in the order of staff's work, the inbox's count and the front page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import update_wrapper
from typing import Any, TypeVar, cast

from django.contrib import admin
from django.core.exceptions import BadRequest
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop import dashboard, maintenance
from shop.actors import Actor
from shop.errors import Words
from shop.models import Job
from shop.staff import actor_of

V = TypeVar("V", bound=Callable[..., HttpResponseBase])

INBOX = "inbox"

# Section → the apps (or single models) it shows, in the order of staff's day; what is named nowhere comes last.
SECTIONS: tuple[tuple[str, Words, tuple[str, ...]], ...] = (
    ("orders", gettext_lazy("Orders"), ("orders", "checkout")),
    (INBOX, gettext_lazy("Inbox"), ("shop.Job",)),
    ("inventory", gettext_lazy("Catalogue & stock"), ("inventory",)),
    ("payments", gettext_lazy("Payments"), ("payments",)),
    ("notifications", gettext_lazy("Messages"), ("notifications",)),
)
LAST_SECTION: tuple[str, Words] = ("settings", gettext_lazy("Settings & people"))

# The tables that staff open every day, in this order. The others of a section stand under "More".
DAILY = (
    "orders.Order",
    "orders.CancellationRequest",
    "orders.Return",
    "orders.Withdrawal",
    "orders.AddressChange",
    "orders.Approval",
    "orders.BulkRun",
    "orders.CancellationFigure",
    "shop.Job",
    "inventory.Product",
    "inventory.StockRecord",
    "inventory.StockAlert",
    "payments.Payment",
    "payments.Refund",
    "payments.CreditAccount",
    "notifications.Message",
    "shop.Store",
    "shop.User",
    "auth.Group",
)


@dataclass(frozen=True, slots=True)
class NavItem:
    """One link of the navigation. `count` is shown as a badge when it is not zero."""

    label: Words
    url: str
    is_current: bool
    count: int = 0


@dataclass(slots=True)
class NavSection:
    """Links that belong together: the daily ones, and the rest under "More"."""

    label: Words
    daily: list[NavItem] = field(default_factory=list)
    more: list[NavItem] = field(default_factory=list)

    @property
    def has_heading(self) -> bool:
        """A section that is one link of the same name needs none."""
        return bool(self.more) or [str(item.label) for item in self.daily] != [str(self.label)]

    @property
    def is_open(self) -> bool:
        return any(item.is_current for item in self.more)


class DeskSite(admin.AdminSite):
    """The admin as staff's desk."""

    site_header = gettext_lazy("Orderdesk")
    empty_value_display = "–"
    site_title = gettext_lazy("Orderdesk")
    index_title = gettext_lazy("Dashboard")
    site_url = None
    # The desk's own navigation (templates/admin/desk/nav.html) stands in its place.
    enable_nav_sidebar = False

    def admin_view(self, view: V, cacheable: bool = False) -> V:
        """As Django's; what no database can look for is refused before any filter tries."""
        checked = super().admin_view(view, cacheable)

        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if any("\x00" in text for name, values in request.GET.lists() for text in [name, *map(str, values)]):
                raise BadRequest("A null character is in no address of the desk.")
            return checked(request, *args, **kwargs)

        return cast(V, update_wrapper(inner, checked))

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """What every page gets: `desk` holds the navigation, the inbox's counts, maintenance, and the search's way."""
        context = super().each_context(request)
        if not context["has_permission"]:
            return context
        actor = actor_of(request)
        inbox, overdue = inbox_counts(actor=actor, as_of=timezone.now())
        orders = next(
            (m for app in context["available_apps"] for m in app["models"] if _name(m) == "orders.Order"), None
        )
        context["desk"] = {
            "nav": list(_navigation(context["available_apps"], request.path, inbox)),
            "inbox": inbox,
            "inbox_overdue": overdue,
            "maintenance": maintenance.current(),
            "maintenance_url": _urls(context["available_apps"]).get("shop.Maintenance", ""),
            "inbox_url": reverse("admin:shop_job_changelist") if may_see_inbox(actor) else "",
            "orders_url": orders["admin_url"] if orders else "",
        }
        return context

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """The tables by section; the page of a single app stays as Django has it."""
        if app_label:
            return super().get_app_list(request, app_label)
        models = [
            model for app in self._build_app_dict(request).values() for model in app["models"] if model["admin_url"]
        ]
        found: dict[str, list[dict[str, Any]]] = {}
        for model in models:
            if model["model"] is Job:
                model["name"] = _("Inbox")
            found.setdefault(_section_of(_name(model)), []).append(model)
        titles = {key: label for key, label, _apps in SECTIONS} | dict([LAST_SECTION])
        return [
            {
                "name": label,
                "app_label": key,
                "app_url": found[key][0]["admin_url"],
                "has_module_perms": True,
                "models": sorted(found[key], key=_place),
            }
            for key, label in titles.items()
            if key in found
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The dashboard: what needs this person now."""
        context = self.each_context(request)
        figures = dashboard.figures(
            actor=actor_of(request),
            inbox=context["desk"]["inbox"],
            overdue=context["desk"]["inbox_overdue"],
            as_of=timezone.now(),
            urls=_urls(context["available_apps"]),
        )
        request.current_app = self.name
        return TemplateResponse(
            request,
            "admin/index.html",
            {
                **context,
                "title": self.index_title,
                "subtitle": None,
                "app_list": context["available_apps"],
                "figures": figures,
                **(extra_context or {}),
            },
        )


def may_see_inbox(actor: Actor) -> bool:
    return actor.may("shop.handle_job") or actor.may("shop.view_job")


def inbox_counts(*, actor: Actor, as_of: datetime) -> tuple[int, int]:
    """This will count the jobs that need a person, and those of them that are overdue, in the actor's stores.

    One query on a small partial index.
    """
    if not may_see_inbox(actor):
        return 0, 0
    here = Q() if actor.stores is None else Q(store__in=actor.stores)
    counts = Job.objects.filter(here, state=Job.State.NEEDS_ATTENTION).aggregate(
        all=Count("pk"), overdue=Count("pk", filter=Q(due_at__lt=as_of))
    )
    return counts["all"], counts["overdue"]


def _name(model: dict[str, Any]) -> str:
    """The label of a table as Django's list of apps describes it: "orders.Order"."""
    return str(model["model"]._meta.label)


def _section_of(name: str) -> str:
    for key, _label, members in SECTIONS:
        if name in members or name.split(".")[0] in members:
            return key
    return LAST_SECTION[0]


def _place(model: dict[str, Any]) -> tuple[int, str]:
    name = _name(model)
    return DAILY.index(name) if name in DAILY else len(DAILY), str(model["name"]).lower()


def _urls(apps: list[dict[str, Any]]) -> dict[str, str]:
    """Table → address of its list, for the tables that the person may see."""
    return {_name(model): model["admin_url"] for app in apps for model in app["models"]}


def _navigation(apps: list[dict[str, Any]], path: str, inbox: int) -> Iterator[NavSection]:
    for app in apps:
        section = NavSection(app["name"])
        for model in app["models"]:
            count = inbox if model["model"] is Job else 0
            item = NavItem(model["name"], model["admin_url"], path.startswith(model["admin_url"]), count)
            (section.daily if _name(model) in DAILY else section.more).append(item)
        if not section.daily:
            section.daily, section.more = section.more, []
        yield section
