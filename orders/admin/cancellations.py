"""All cancellations, from the wish to what became of it, and what can still be done about one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin import undoing
from orders.admin.approvals import wish_page
from orders.admin.forms import OrderForm, RemarkForm
from orders.admin.others import OfAnOrder
from orders.models import Approval, Cancellation, Order
from shop.actors import Actor
from shop.errors import Words
from shop.models import User
from shop.staff import Action, StoreFilter, actor_of
from shop.templatetags.desk import ago, badge, money

# Whose cancellations can be chosen: those who made one of the latest.
LOOKED_AT = 1_000


class UnusualFilter(admin.SimpleListFilter):
    """What a policy found unusual."""

    title = gettext_lazy("unusual")
    parameter_name = "unusual"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Cancellation]) -> QuerySet[Cancellation]:
        usual = Q(unusual=[])
        return {"yes": queryset.exclude(usual), "no": queryset.filter(usual)}.get(self.value() or "", queryset)


class ByFilter(admin.SimpleListFilter):
    """Which of the staff asked for it."""

    title = gettext_lazy("by")
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        latest = model_admin.get_queryset(request).filter(actor_kind="staff").order_by("-pk")
        ids = set(latest.values_list("requested_by", flat=True)[:LOOKED_AT])
        if (chosen := self.used_parameters.get(self.parameter_name)) and str(chosen).isdigit():
            ids.add(int(chosen))
        people = User.objects.filter(pk__in=ids - {None}).order_by("first_name", "last_name", "username")
        return [(str(user.pk), user.get_full_name() or user.get_username()) for user in people]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Cancellation]) -> QuerySet[Cancellation]:
        chosen = self.value()
        return queryset.filter(requested_by=int(chosen)) if chosen and chosen.isdigit() else queryset


class OfItsOrder(OrderForm):
    """The version is that of the cancellation's order."""

    @property
    def order(self) -> Order:
        order: Order = self.obj.order
        return order


class UndoForm(OfItsOrder, RemarkForm):
    pass


def _undo(row: Cancellation, actor: Actor, data: dict[str, Any]) -> Words:
    return undoing.undo(row.order, actor, data)


def _complete(row: Cancellation, actor: Actor, data: dict[str, Any]) -> Words:
    return undoing.complete(row.order, actor, data)


def _is_pending(row: Cancellation) -> bool:
    return row.status == Cancellation.Status.PENDING


# What can be done about an order's cancellation, here as on the order's page.
ACTIONS = [
    Action(
        name=action.name,
        label=action.label,
        description=action.description,
        permission=action.permission,
        refusal=lambda row, actor, of=action: of.refusal(row.order, actor),  # type: ignore[misc]
        form=UndoForm,
        act=act,
        primary=action.primary,
        relevant=_is_pending,
        template="admin/orders/cancellation/action.html",
    )
    for action, act in zip(undoing.UNDO_ACTIONS, (_undo, _complete), strict=False)
]


@admin.register(Cancellation)
class CancellationAdmin(OfAnOrder):
    """To be read; what is still possible is done to the order."""

    fields = ()
    desk_actions = ACTIONS
    list_display = [
        "order_link",
        "asked",
        "status_badge",
        "reason_shown",
        "units_shown",
        "value_shown",
        "stage_shown",
        "by",
        "unusual_shown",
    ]
    list_display_links = ["asked"]
    list_filter = ["status", "reason__category", UnusualFilter, ByFilter, StoreFilter]
    list_select_related = ["order", "reason"]
    change_form_template = "admin/orders/cancellation/change_form.html"

    class Media:
        css = {"all": ["desk/orders.css", "desk/approvals.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("reason", "event")

    @admin.display(description=gettext_lazy("asked"))
    def asked(self, row: Cancellation) -> SafeString | str:
        return ago(row.created_at)

    @admin.display(description=gettext_lazy("status"))
    def status_badge(self, row: Cancellation) -> SafeString:
        return badge(row.status, row.get_status_display())

    @admin.display(description=gettext_lazy("reason"))
    def reason_shown(self, row: Cancellation) -> str:
        return row.reason.label if row.reason else "–"

    @admin.display(description=gettext_lazy("units"))
    def units_shown(self, row: Cancellation) -> str:
        return _("%(n)d, the whole order") % {"n": row.units} if row.ends_order else str(row.units)

    @admin.display(description=gettext_lazy("value"))
    def value_shown(self, row: Cancellation) -> SafeString | str:
        return money(row.value, row.currency)

    @admin.display(description=gettext_lazy("status before"))
    def stage_shown(self, row: Cancellation) -> str:
        return str(row.stage_label)

    @admin.display(description=gettext_lazy("by"))
    def by(self, row: Cancellation) -> str:
        return row.requested_by_name

    @admin.display(description=gettext_lazy("unusual"))
    def unusual_shown(self, row: Cancellation) -> SafeString | str:
        if not row.unusual:
            return ""
        names = ", ".join(row.unusual)
        return format_html('<span class="badge" data-status="warning" title="{}">{}</span>', names, _("Unusual"))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row, actor = kwargs["obj"], actor_of(request)
        approval = Approval.objects.select_related("requested_by", "decided_by").filter(cancellation=row).first()
        seen = approval is not None and actor.may("orders.view_approval", store_id=row.order.store_id)
        context.update(
            wish=wish_page(row, actor, is_open=False),
            approval=approval if seen else None,
            approval_url=reverse("admin:orders_approval_change", args=(approval.pk,)) if approval and seen else "",
            title=_("Cancellation of order %(number)s") % {"number": row.order.number},
            can_be_undone=row.can_be_undone(as_of=timezone.now()),
        )
        return super().render_change_form(request, context, *args, **kwargs)
