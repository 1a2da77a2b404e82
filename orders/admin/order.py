"""The list of orders and the order page. Both only show; what changes an order is in actions.py and bulk.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import QuerySet, Value
from django.db.models.functions import Upper
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin.actions import ORDER_ACTIONS
from orders.admin.bulk import BULK_ACTIONS
from orders.admin.external import EXTERNAL_ACTIONS
from orders.admin.extras import order_extra
from orders.admin.filters import OnHoldFilter, PaymentMethodFilter, PlacedFilter, RequestFilter, StatusFilter
from orders.admin.page import attach_facts, read_page
from orders.admin.repeat import REPEAT
from orders.admin.steps import OWN_STEPS
from orders.admin.undoing import standing
from orders.models import Document, Order, OrderLine, Return, ShippingEvent
from orders.processing import get_event_handler
from payments.models import Payment, Transaction
from shop.actors import Actor
from shop.errors import Refused
from shop.search import CappedPaginator, numbered
from shop.staff import Action, ReadOnlyActionsAdmin, StoreFilter, actor_of
from shop.templatetags.desk import ago, badge, money

# A name's beginning of fewer letters is the beginning of too many names.
SHORTEST_NAME = 2


def found(term: str) -> QuerySet[Any]:
    """This will find orders by any number that belongs to them, by e-mail, SKU or the beginning of a name.

    Numbers are the order's own, of a parcel sent or coming back, of a document, of a payment at its gateway. It is a
    union of ids, each from its own index; an OR over joins would use none of them (reference/performance.md §6).
    """
    rows = Order.objects.order_by()
    at_gateway = numbered(Transaction, "gateway_reference", term).values("payment")
    sets: list[QuerySet[Any, Any]] = [
        rows.filter(**Order.resolve_number(term)).values("pk"),
        rows.alias(its=Upper("email")).filter(its=Upper(Value(term))).values("pk"),
        numbered(OrderLine, "sku", term).values("order"),
        numbered(ShippingEvent, "tracking_number", term).values("order"),
        numbered(Return, "code", term).values("order"),
        numbered(Document, "number", term).values("order"),
        rows.filter(number__in=Payment.objects.filter(pk__in=at_gateway).values("reference")).values("pk"),
    ]
    if len(term) >= SHORTEST_NAME:
        sets.append(_named(rows, term).values("pk"))
    return sets[0].union(*sets[1:])


def _named(rows: QuerySet[Any], beginning: str) -> QuerySet[Any]:
    if connection.vendor == "postgresql":
        return rows.filter(customer_name__istartswith=beginning)
    # SQLite compares bytes: a range does there what its LIKE would not use the index for. Under a language's rules of
    # sorting, as PostgreSQL has them, no character is sure to come last.
    last = Upper(Value(beginning + "\U0010ffff"))
    return rows.alias(its=Upper("customer_name")).filter(its__gte=Upper(Value(beginning)), its__lte=last)


class OrderChangeList(ChangeList):
    """The list with the facts of its rows, from which each row's menu is made."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        attach_facts(self.result_list)
        assert isinstance(self.paginator, CappedPaginator)
        self.is_capped = self.paginator.is_capped


def or_as_the_shop_says(action: Action) -> Action:
    """The same action, disabled as well where the shop's own handler has a reason against it (`why_not`)."""

    def refusal(order: Order, actor: Actor) -> Refused | None:
        no = action.refusal(order, actor)
        return get_event_handler(actor).shops_refusal(action.name, order.facts) if no is None else no

    return replace(action, refusal=refusal)


@admin.register(Order)
class OrderAdmin(ReadOnlyActionsAdmin):
    """Orders: a list to find them and a page to work on each."""

    store_path = "store"
    desk_actions = sorted(
        map(or_as_the_shop_says, [*ORDER_ACTIONS, *OWN_STEPS, REPEAT, *EXTERNAL_ACTIONS]),
        key=lambda action: action.danger,
    )
    actions = BULK_ACTIONS
    fields = ()
    list_display = ["number_shown", "customer_shown", "status_shown", "units", "total_shown", "placed"]
    list_display_links = ["number_shown"]
    list_filter = [StatusFilter, OnHoldFilter, RequestFilter, PlacedFilter, PaymentMethodFilter, StoreFilter]
    list_select_related = ["store", "recurring"]
    list_per_page = 50
    list_max_show_all = 0
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ["-placed_at", "-pk"]
    sortable_by = ()
    search_fields = ["number"]  # shows the box; get_search_results does the search
    search_help_text = gettext_lazy(
        "Number of an order, parcel, return, invoice or payment; e-mail address, beginning of a name, or SKU."
    )
    change_form_template = "admin/orders/order/change_form.html"

    # --- rows -----------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        return super().get_queryset(request).exclude(number=None)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Order | None:
        rows = self.get_queryset(request).select_related(
            "store", "customer", "recurring", "shipping_address", "billing_address"
        )
        try:
            return rows.get(pk=Order._meta.pk.to_python(object_id))
        except (Order.DoesNotExist, ValidationError, ValueError):
            return None

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """An order of another store is an order that does not exist."""
        raise Http404

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OrderChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Order], search_term: str
    ) -> tuple[QuerySet[Order], bool]:
        term = search_term.strip().removeprefix("#")
        return (queryset.filter(pk__in=found(term)) if term else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """A whole order number in the search opens the order."""
        term = request.GET.get(SEARCH_VAR, "").strip().removeprefix("#")
        if request.method == "GET" and term and set(request.GET) == {SEARCH_VAR} and self.has_view_permission(request):
            pk = self.get_queryset(request).filter(**Order.resolve_number(term)).values_list("pk", flat=True).first()
            if pk is not None:
                return redirect("admin:orders_order_change", pk)
        return super().changelist_view(request, extra_context)

    # --- columns ----------------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        query = urlencode({"next": request.get_full_path()})

        def do(order: Order) -> SafeString:
            possible = [button for button in self.buttons(request, order) if button.refusal is None]
            buttons = [replace(button, url=f"{button.url}?{query}") for button in possible]
            first = next((button for button in buttons if button.primary), None)
            context = {"first": first, "others": [b for b in buttons if b is not first], "order": order}
            return render_to_string("admin/orders/order/menu.html", context)

        do.short_description = _("Next")  # type: ignore[attr-defined]
        return [*self.list_display, do]

    @admin.display(description=gettext_lazy("order"))
    def number_shown(self, order: Order) -> str:
        return order.get_number()

    @admin.display(description=gettext_lazy("customer"))
    def customer_shown(self, order: Order) -> SafeString:
        return format_html(
            '<span class="order-who">{}</span><span class="order-email quiet">{}</span>',
            order.customer_name or _("Guest"),
            order.email,
        )

    @admin.display(description=gettext_lazy("status"))
    def status_shown(self, order: Order) -> SafeString:
        shown = badge(order.status, order.status_label)
        if not order.facts.holds:
            return shown
        kinds = ", ".join(str(hold.get_kind_display()) for hold in order.facts.holds)
        return format_html('{} <span class="badge" data-status="hold" title="{}">{}</span>', shown, kinds, _("On hold"))

    @admin.display(description=gettext_lazy("units"))
    def units(self, order: Order) -> SafeString:
        return format_html('<span class="desk-number">{}</span>', sum(line.quantity for line in order.facts.lines))

    @admin.display(description=gettext_lazy("total"))
    def total_shown(self, order: Order) -> SafeString | str:
        return money(order.total, order.currency)

    @admin.display(description=gettext_lazy("placed"))
    def placed(self, order: Order) -> SafeString:
        return format_html('{}<span class="order-store quiet">{}</span>', ago(order.placed_at), order.store)

    # --- permissions of bulk actions ----------------------------------------------------------------------------------

    def has_approve_permission(self, request: HttpRequest) -> bool:
        return actor_of(request).may("orders.approve_order")

    def has_prepare_permission(self, request: HttpRequest) -> bool:
        return actor_of(request).may("orders.prepare_order")

    def has_ship_permission(self, request: HttpRequest) -> bool:
        return actor_of(request).may("orders.ship_order")

    def has_cancel_in_bulk_permission(self, request: HttpRequest) -> bool:
        actor = actor_of(request)
        return actor.may("orders.cancel_order") and actor.may("orders.cancel_in_bulk")

    # --- the order page -------------------------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        order = kwargs["obj"]
        context["page"] = read_page(order, actor_of(request), as_of=timezone.now())
        context["journal_url"] = f"{reverse('admin:orders_journalentry_changelist')}?q={order.number}"
        context["extra"] = order_extra(order)
        context["standing"] = standing(order, actor_of(request))
        context["title"] = _("Order %(number)s") % {"number": order.get_number()}
        return super().render_change_form(request, context, *args, **kwargs)
