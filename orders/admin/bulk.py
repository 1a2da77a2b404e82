"""Actions on many orders: each order by itself through the handler, and what became of each is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core import signing
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders import rules
from orders.admin.forms import reasons_by_category, text_area, yes
from orders.admin.page import attach_facts
from orders.models import Order
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.errors import Refused
from shop.staff import BulkTold, actor_of

if TYPE_CHECKING:
    from orders.admin.order import OrderAdmin

logger = logging.getLogger(__name__)

# Each takes a transaction of its own while a person waits.
MOST_AT_ONCE = 200
SALT = "orders.admin.bulk"


class WentWrong(Refused):
    """Not a no but an error; it is in the log, and the other orders go on."""

    code = "went_wrong"
    message = gettext_lazy("An error that was not expected; nothing happened to these. It has been recorded.")


def each(
    request: HttpRequest, rows: QuerySet[Order], verb: Callable[[EventHandler, Order], object], *, done: str
) -> None:
    """This will call a verb for each order and tell what became of all of them, whatever happens to one."""
    orders = chosen(request, rows)
    told = BulkTold()
    actor = actor_of(request)
    for order in orders:
        try:
            with transaction.atomic():  # also what a shop's own handler does after its verb is undone by an error
                verb(get_event_handler(actor), order)
            told.done += 1
        except Refused as no:
            told.refuse(order, no)
        except Exception:
            logger.exception("A bulk action on order %s failed", order.number)
            told.refuse(order, WentWrong())
    told.tell(request, done=done)


def chosen(request: HttpRequest, rows: QuerySet[Order]) -> list[Order]:
    """The chosen orders, oldest first; none where there are too many for one go."""
    orders = list(rows.order_by("placed_at", "pk")[: MOST_AT_ONCE + 1])
    if len(orders) > MOST_AT_ONCE:
        messages.error(request, _("Nothing was done: choose at most %(most)d orders at once.") % {"most": MOST_AT_ONCE})
        return []
    return orders


@admin.action(description=gettext_lazy("Approve"), permissions=["approve"])
def approve_orders(modeladmin: OrderAdmin, request: HttpRequest, queryset: QuerySet[Order]) -> None:
    each(
        request,
        queryset,
        lambda handler, order: handler.approve(number=order.number or ""),
        done=_("%(count)d approved."),
    )


@admin.action(description=gettext_lazy("Start preparing"), permissions=["prepare"])
def prepare_orders(modeladmin: OrderAdmin, request: HttpRequest, queryset: QuerySet[Order]) -> None:
    each(
        request,
        queryset,
        lambda handler, order: handler.start_preparing(number=order.number or ""),
        done=_("%(count)d are being prepared."),
    )


@admin.action(description=gettext_lazy("Mark as delivered"), permissions=["ship"])
def deliver_orders(modeladmin: OrderAdmin, request: HttpRequest, queryset: QuerySet[Order]) -> None:
    each(
        request,
        queryset,
        lambda handler, order: handler.deliver(number=order.number or ""),
        done=_("%(count)d delivered."),
    )


# ---------------------------------------------------------------------------------------------------------------
# Cancel (seed 001, A1): one reason for all, a page that shows what happens to each, then each by itself


class BulkCancelForm(forms.Form):
    """token: which orders, in which version, have been shown."""

    token = forms.CharField(widget=forms.HiddenInput)
    reason = forms.ChoiceField(label=gettext_lazy("Reason"))
    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=2000, widget=text_area(2))
    restock = yes(gettext_lazy("Put the units back into stock"))
    refund = yes(gettext_lazy("Refund what was paid for them"))
    notify = yes(gettext_lazy("Tell the customers"))
    understood = forms.BooleanField(label=gettext_lazy("I have looked at the list and want to cancel these orders."))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["reason"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = reasons_by_category(empty=_("Choose a reason"))

    def clean_token(self) -> dict[str, int]:
        try:
            versions: dict[str, int] = signing.loads(self.cleaned_data["token"], salt=SALT, max_age=12 * 3600)
        except signing.BadSignature as error:
            raise forms.ValidationError(_("This page is too old; choose the orders again.")) from error
        return versions


@admin.action(description=gettext_lazy("Cancel …"), permissions=["cancel"])
def cancel_orders(modeladmin: OrderAdmin, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse | None:
    """Shows a page first; its button comes back here with `confirm`."""
    form = BulkCancelForm(request.POST) if request.POST.get("confirm") else None
    if form is not None and form.is_valid():
        data = form.cleaned_data
        versions = data.pop("token")
        data.pop("understood")
        each(
            request,
            queryset,
            lambda handler, order: handler.cancel(
                number=order.number or "", version=versions.get(str(order.pk), -1), **data
            ),
            done=_("%(count)d cancelled; stock, money and messages follow in the background."),
        )
        return None
    return _cancel_page(modeladmin, request, queryset, form)


def _cancel_page(
    modeladmin: OrderAdmin, request: HttpRequest, queryset: QuerySet[Order], form: BulkCancelForm | None
) -> HttpResponse | None:
    orders = chosen(request, queryset.select_related("store"))
    if not orders:
        return None
    attach_facts(orders)
    actor = actor_of(request)
    rows = [_planned(order, actor) for order in orders]
    token = signing.dumps({str(order.pk): order.version for order in orders}, salt=SALT, compress=True)
    context = {
        **modeladmin.admin_site.each_context(request),
        "opts": modeladmin.opts,
        "title": _("Cancel orders"),
        "rows": rows,
        "possible": sum(1 for row in rows if row["plan"]),
        "form": form or BulkCancelForm(initial={"token": token}),
        "action_name": "cancel_orders",
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        "select_across": request.POST.get("select_across", "0"),
    }
    return TemplateResponse(request, "admin/orders/order/bulk_cancel.html", context)


def _planned(order: Order, actor: Actor) -> dict[str, Any]:
    """What would happen to one order, or why it is not possible."""
    no = rules.cancel(order.facts, actor)
    if no is None:
        try:
            return {"order": order, "plan": rules.plan_cancellation(order.facts), "refusal": None}
        except Refused as refused:
            no = refused
    return {"order": order, "plan": None, "refusal": no}


BULK_ACTIONS: list[Any] = [approve_orders, prepare_orders, deliver_orders, cancel_orders]
