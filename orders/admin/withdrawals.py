"""Withdrawals as staff see them: what needs a person first, what each became, and whose money is late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders import rules
from orders.admin.forms import text_area
from orders.models import CancellationRequest, Order, OrderLine, PaymentEvent, Withdrawal
from orders.processing import get_event_handler
from orders.processing.withdrawing import DECIDE, WithdrawalAnswered
from orders.rules.withdrawal import DAYS_TO_SETTLE
from payments.models import Refund
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.search import IndexedSearch
from shop.staff import Action, ActionForm, ReadOnlyActionsAdmin, StoreFilter
from shop.templatetags.desk import ago, badge

Data = dict[str, Any]
Status = Withdrawal.Status

BECAME: dict[str, Words] = {
    "cancel": gettext_lazy("%(n)d cancelled"),
    "back": gettext_lazy("%(n)d to come back"),
    "ask": gettext_lazy("%(n)d to be answered"),
    "left": gettext_lazy("%(n)d asked for before"),
    "gone": gettext_lazy("%(n)d no longer there"),
}
FIELDS: list[Any] = [
    "status_badge",
    "problem",
    "order_link",
    "name",
    "number",
    "email",
    "stated",
    "text",
    "declared",
    "in_time_shown",
    "became",
    "not_refunded",
    "return_link",
    "money",
    "answer",
    "answered_by",
    "answered_at",
]
# As the desk's other lists colour what is open and what is done.
BADGES: dict[str, str] = {
    Status.RECEIVED: "waiting",
    Status.CARRIED_OUT: "done",
    Status.NEEDS_PERSON: "needs_attention",
    Status.ANSWERED: "done",
}
EMPTY: tuple[Any, ...] = (None, "", {})
MOST_CANDIDATES = 5


def money_is_open(*, as_of: datetime) -> Q:
    """Withdrawals whose money should be back with the customer by now, and is not.

    Goods that have not come back do not count: until then the shop may wait.
    """
    same_order = {"order": OuterRef("order")}
    owed = OrderLine.objects.filter(
        **same_order, paid__gt=F("refunded") + F("quantity") - F("cancelled") - F("returned")
    )
    under_way = (Refund.Status.WAITING, Refund.Status.PENDING, Refund.Status.PARTLY)
    not_there = PaymentEvent.objects.filter(**same_order, refund__status__in=under_way)
    arrived = (CancellationRequest.Status.CONFIRMATION_WAITING, *CancellationRequest.AWAITING_MONEY)
    unpacked = CancellationRequest.objects.filter(withdrawals=OuterRef("pk"), status__in=arrived)
    late = Q(declared_at__lt=as_of - timedelta(days=DAYS_TO_SETTLE), order__isnull=False)
    return late & (Q(Exists(owed)) | Q(Exists(not_there)) | Q(Exists(unpacked)))


class LateFilter(admin.SimpleListFilter):
    title = gettext_lazy("money")
    parameter_name = "money"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Words]]:
        return [("late", _("Overdue"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Withdrawal]) -> QuerySet[Withdrawal]:
        return queryset.filter(money_is_open(as_of=timezone.now())) if self.value() == "late" else queryset


class MatchForm(ActionForm):
    number = forms.CharField(label=gettext_lazy("Order number"), max_length=64)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.obj.order is not None:
            self.fields["number"].initial = self.obj.order.number


class AnswerForm(ActionForm):
    note = forms.CharField(
        label=gettext_lazy("What did you do, and what did you tell the customer?"), max_length=2000, widget=text_area(4)
    )


def _not_waiting(row: Withdrawal, actor: Actor) -> Refused | None:
    return None if row.status == Status.NEEDS_PERSON else WithdrawalAnswered()


def _not_to_match(row: Withdrawal, actor: Actor) -> Refused | None:
    return _not_waiting(row, actor) or (WithdrawalAnswered() if row.result else None)


def _match(row: Withdrawal, actor: Actor, data: Data) -> Words:
    done = get_event_handler(actor).match_withdrawal(uuid=str(row.uuid), number=data["number"])
    if done.status == Status.NEEDS_PERSON:
        return _("It is this order's; some of it waits for your answer.")
    return _("It is this order's, and it is carried out.")


def _declared(row: Withdrawal, actor: Actor) -> Data:
    """What was declared, and the latest orders of that e-mail address: one of them is usually meant."""
    theirs = Order.objects.of(actor).placed().filter(email__iexact=row.email) if row.email else Order.objects.none()
    return {"candidates": theirs.select_related("store").order_by("-pk")[:MOST_CANDIDATES]}


def _answer(row: Withdrawal, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).answer_withdrawal(uuid=str(row.uuid), note=data["note"])
    return _("The withdrawal is answered.")


@admin.register(Withdrawal)
class WithdrawalAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """To be read; what needs a person is matched with its order, or answered."""

    store_path = "order__store"
    fields = FIELDS
    list_display = ["who", "status_badge", "order_link", "became", "declared", "money"]
    list_display_links = ["who"]
    list_filter = ["status", LateFilter, StoreFilter]
    list_select_related = ["order__store", "goods_return"]
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ["order__number", "number", "email__upper"]
    search_help_text = gettext_lazy("A whole order number or e-mail address.")
    desk_actions = [
        Action(
            name="match",
            label=gettext_lazy("Say which order it means"),
            description=gettext_lazy(
                "It is carried out as of when it was declared: what has not shipped is cancelled at once, what has is"
                " awaited back. The customer is told."
            ),
            permission=DECIDE,
            refusal=_not_to_match,
            form=MatchForm,
            act=_match,
            preview=_declared,
            template="admin/orders/withdrawal/match.html",
            primary=True,
            relevant=lambda row: row.status == Status.NEEDS_PERSON and not row.result,
        ),
        Action(
            name="answer",
            label=gettext_lazy("Note the answer"),
            description=gettext_lazy("You have seen to it and written to the customer. Nothing is done by this."),
            permission=DECIDE,
            refusal=_not_waiting,
            form=AnswerForm,
            act=_answer,
            relevant=lambda row: row.status == Status.NEEDS_PERSON,
        ),
    ]

    class Media:
        css = {"all": ["desk/orders.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("order__store", "goods_return")
        return rows.annotate(
            is_late=Case(When(money_is_open(as_of=timezone.now()), then=Value(True)), default=Value(False))
        )

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        waits = Case(When(status=Status.NEEDS_PERSON, then=Value(0)), default=Value(1))
        return [waits, "-pk"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """What is empty is left out."""
        if obj is None:
            return FIELDS
        shown = {
            "became": obj.result,
            "not_refunded": obj.shipping_kept or None,
            "return_link": obj.goods_return,
            "money": obj.is_late or None,
        }
        return [name for name in FIELDS if shown.get(name, getattr(obj, name, True)) not in EMPTY]

    def store_of(self, obj: Withdrawal) -> int | None:
        return obj.order.store_id if obj.order else None

    @admin.display(description=gettext_lazy("who"))
    def who(self, row: Withdrawal) -> SafeString:
        return format_html('{}<div class="quiet">{}</div>', row.name, row.email)

    @admin.display(description=gettext_lazy("order"))
    def order_link(self, row: Withdrawal) -> SafeString:
        if row.order is None:
            return format_html('{} <span class="quiet">{}</span>', row.number, _("(no such order)"))
        address = reverse("admin:orders_order_change", args=(row.order_id,))
        return format_html('<a href="{}">{}</a>', address, row.order)

    @admin.display(description=gettext_lazy("declared"))
    def declared(self, row: Withdrawal) -> SafeString:
        exact = timezone.localtime(row.declared_at)
        return format_html('{} <div class="quiet">{}</div>', ago(row.declared_at), f"{exact:%Y-%m-%d %H:%M:%S %Z}")

    @admin.display(description=gettext_lazy("status"))
    def status_badge(self, row: Withdrawal) -> SafeString:
        return badge(BADGES[row.status], row.get_status_display())

    @admin.display(description=gettext_lazy("in time"))
    def in_time_shown(self, row: Withdrawal) -> Words:
        if row.in_time is None:
            return _("not known")
        if row.deadline is None:
            return _("yes: the time had not begun to run")
        day = date_format(timezone.localtime(row.deadline))
        return (_("yes: until %(day)s") if row.in_time else _("no: until %(day)s")) % {"day": day}

    @admin.display(description=gettext_lazy("stated"))
    def stated(self, row: Withdrawal) -> str:
        if row.lines is None:
            return _("everything")
        names = dict(OrderLine.objects.filter(order=row.order).values_list("pk", "name")) if row.order else {}
        return ", ".join(f"{units} × {names.get(int(pk), pk)}" for pk, units in row.lines.items())

    @admin.display(description=gettext_lazy("what became of it"), empty_value="–")
    def became(self, row: Withdrawal) -> str:
        return ", ".join(self._parts(row))

    def _parts(self, row: Withdrawal) -> Iterator[str]:
        for kind, words in BECAME.items():
            if units := sum(row.units_of(kind).values()):
                yield str(words) % {"n": units}

    @admin.display(description=gettext_lazy("shipping"), empty_value="–")
    def not_refunded(self, row: Withdrawal) -> str:
        return rules.dearer_words(row.order, row.shipping_kept) if row.order else ""

    @admin.display(description=gettext_lazy("return"), empty_value="–")
    def return_link(self, row: Withdrawal) -> SafeString | str:
        if row.goods_return is None:
            return ""
        address = reverse("admin:orders_return_change", args=(row.goods_return_id,))
        return format_html('<a href="{}">{}</a>', address, row.goods_return)

    @admin.display(description=gettext_lazy("money"), empty_value="–")
    def money(self, row: Any) -> SafeString | str:
        if not row.is_late:
            return ""
        day = date_format(timezone.localtime(rules.settle_by(row.declared_at)))
        words = _("was to be back by %(day)s") % {"day": day}
        return format_html('<span class="desk-overdue">{}</span>', words)
