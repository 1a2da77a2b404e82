"""Actions on many orders: each order by itself through the handler, and what became of each is told."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core import signing
from django.db import transaction
from django.db.models import QuerySet
from django.forms.boundfield import BoundField
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin.forms import ReasonSelect, reasons_by_category, text_area, yes
from orders.admin.planforms import CancelForm
from orders.models import CancellationReason, Order
from orders.processing import EventHandler, get_event_handler
from orders.processing.bulk import MOST
from orders.processing.cancelling import Contact
from shop import jobs
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
        except Exception as error:  # noqa: BLE001 - recorded, and told
            logger.error("A bulk action on order %s failed: %s", order.number, jobs.for_log(error))
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
# Cancel: a page that shows what would happen in sums; its button starts a run, whose page is in bulk_runs.py


# From so many on, their number has to be typed.
TYPED_ABOVE = 50
TRIED_FIRST = 5
NAMED = 50
SUMS = (
    ("value", gettext_lazy("Worth")),
    ("refund", gettext_lazy("Money back")),
    ("void", gettext_lazy("Released of authorizations")),
)


class BulkCancelForm(forms.Form):
    """token: which orders, in which version, have been shown; once: a double click starts one run."""

    token = forms.CharField(widget=forms.HiddenInput)
    once = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    reason = forms.ChoiceField(label=gettext_lazy("Reason"), widget=ReasonSelect)
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=2000,
        widget=text_area(2),
        help_text=gettext_lazy("For colleagues."),
    )
    restock = yes(gettext_lazy("Put the units back into stock"))
    refund = yes(gettext_lazy("Refund what was paid for them"))
    notify = yes(gettext_lazy("Tell the customers"))
    try_first = forms.BooleanField(label=gettext_lazy("Try five first"), required=False)
    justification = forms.CharField(
        label=gettext_lazy("Why they should be cancelled"),
        required=False,
        max_length=2000,
        widget=text_area(2),
        help_text=gettext_lazy("For whoever decides it."),
    )
    count = forms.IntegerField(label=gettext_lazy("How many orders"), required=False, min_value=1)
    understood = forms.BooleanField(label=gettext_lazy("I have looked at this page and want to cancel these orders."))

    def __init__(self, *args: Any, orders: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.orders = orders
        self.fields["justification"].is_asked = True  # type: ignore[attr-defined]  # shown only where it is needed
        for name in CancelForm.CONTACT:
            self.fields[name] = deepcopy(CancelForm.base_fields[name])
        field = self.fields["reason"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = reasons_by_category(empty=_("Choose a reason"))
        help_text = _("%(count)d orders are cancelled, then it pauses: you look at them, and resume or stop.")
        self.fields["try_first"].help_text = help_text % {"count": TRIED_FIRST}
        if orders <= TYPED_ABOVE:
            del self.fields["count"]
        else:
            self.fields["count"].help_text = _("Type %(count)d, the number of orders.") % {"count": orders}
            self.fields["count"].widget.attrs["autocomplete"] = "off"
        if orders <= TRIED_FIRST:
            del self.fields["try_first"]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if "count" in self.fields and "count" not in self.errors and data.get("count") != self.orders:
            self.add_error("count", _("These are %(count)d orders.") % {"count": self.orders})
        return data

    @property
    def plain_fields(self) -> list[BoundField]:
        """What stands on top of the page's boxes."""
        apart = {"understood", "count", "justification", *CancelForm.CONTACT}
        return [field for field in self.visible_fields() if field.name not in apart]

    @property
    def contact_fields(self) -> list[BoundField]:
        return [self[name] for name in CancelForm.CONTACT]

    def arguments(self) -> dict[str, Any]:
        """What `start_bulk_run` takes of it."""
        data = self.cleaned_data
        names = ("reason", "note", "restock", "refund", "notify", "justification", "once")
        contact = {name.removeprefix("contact_"): data.get(name) for name in CancelForm.CONTACT}
        asks = CancellationReason.objects.filter(code=data["reason"], asks_contact=True).exists()
        return {
            **{name: data[name] for name in names},
            "contact": Contact(**{name: value for name, value in contact.items() if value}) if asks else Contact(),
            "try_first": TRIED_FIRST if data.get("try_first") else None,
        }


def sign_orders(request: HttpRequest, orders: Sequence[tuple[int, int]]) -> str:
    """The list that was shown, kept in the page: what fits the filter by the time of the click is not it."""
    return signing.dumps([list(pair) for pair in orders], salt=f"{SALT}:{request.user.pk}", compress=True)


def read_orders(request: HttpRequest, token: str) -> list[tuple[int, int]] | None:
    """What `sign_orders` has signed for this person; None: it is too old or not ours."""
    try:
        pairs = signing.loads(token, salt=f"{SALT}:{request.user.pk}", max_age=12 * 3600)
    except signing.BadSignature:
        return None
    return [(pk, version) for pk, version in pairs]


@admin.action(description=gettext_lazy("Cancel …"), permissions=["cancel_in_bulk"])
def cancel_orders(modeladmin: OrderAdmin, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse | None:
    """Shows the page only; its button leads to BulkRunAdmin.start."""
    orders = list(queryset.order_by("placed_at", "pk").values_list("pk", "version")[: MOST + 1])
    form = BulkCancelForm(orders=len(orders), initial={"token": sign_orders(request, orders[:MOST])})
    try:
        return confirm_page(modeladmin.admin_site, request, orders, form)
    except Refused as no:
        messages.error(request, _("Nothing was done: %(why)s") % {"why": no})
        return None


def confirm_page(
    site: admin.AdminSite,
    request: HttpRequest,
    orders: Sequence[tuple[int, int]],
    form: BulkCancelForm,
    refusal: Refused | None = None,
) -> TemplateResponse:
    """What would happen to the chosen orders, and what has to be said for it. Raises Refused."""
    data = getattr(form, "cleaned_data", {})
    chosen = {name: bool(data.get(name)) for name in ("restock", "refund", "notify")} if form.is_bound else {}
    plan = get_event_handler(actor_of(request)).plan_bulk(orders=orders, reason=data.get("reason") or None, **chosen)
    context = {
        **site.each_context(request),
        "opts": Order._meta,
        "title": _("Cancel orders"),
        "plan": plan,
        "count": len(orders),
        "sums": [(label, getattr(plan, name).items()) for name, label in SUMS if getattr(plan, name)],
        "refused": [(words, numbers[:NAMED], len(numbers)) for words, numbers in plan.refused.items()],
        "form": form,
        "refusal": refusal,
    }
    status = refusal.http_status if refusal else 200
    return TemplateResponse(request, "admin/orders/order/bulk_cancel.html", context, status=status)


BULK_ACTIONS: list[Any] = [approve_orders, prepare_orders, deliver_orders, cancel_orders]
