"""The storefront's pages: read as the API reads; what a customer does is sent to the API by the browser.

Logging in and out, finding a guest's order and withdrawing are plain forms: they work without JavaScript.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import logout
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, Q, Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import TemplateView
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from checkout import services
from checkout.forms import LoginForm, TrackForm
from checkout.models import Address, Cart
from checkout.rules import countries, printable, shipping_price
from checkout.views.shown import companies_of, order_shown
from inventory.models import Product
from orders.api.account import LOGIN_THROTTLES, log_in
from orders.api.base import MAX_NUMBER_LENGTH, orders_of
from orders.api.own_orders import TRACKING_THROTTLES, ReasonsView, guests_order
from orders.api.withdrawing import WithdrawalThrottle
from orders.models import Order, OrderLine, OrderNotFound, Status
from orders.processing import get_event_handler
from orders.views import WithdrawSteps
from payments.models import CreditAccount
from payments.services import credit
from shop.csp import HEADER, policy
from shop.errors import Refused, Words
from shop.models import Store, User

# What the pages say of these refusals, whose words in the API are the storefront contract's own.
REFUSED: Mapping[str, Words] = {
    "order_already_cancelled": gettext_lazy("This is cancelled already."),
    "cancellation_in_progress": gettext_lazy("You have asked for this already; it is being worked on."),
    "order_status_forbids": gettext_lazy("It is too late to cancel this order."),
    "order_invoiced": gettext_lazy("The invoice has been issued, so this order cannot be cancelled any more."),
    "cancellation_expired": gettext_lazy("The time to cancel this order is over."),
    "item_status_forbids": gettext_lazy("One of these items cannot be cancelled or sent back any more."),
    "order_100_3": gettext_lazy("The address of this order cannot be changed any more."),
}
# In the session: the code of the store that the visitor has chosen.
STORE = "storefront_store"
PRODUCTS_PER_PAGE, ORDERS_PER_PAGE = 24, 10


class Page(TemplateView):
    """Base of the pages: which store, who visits, what every page shows; nobody else keeps or frames it."""

    http_method_names = ["get", "head", "options"]
    # Guests are asked to log in first.
    for_customers = False
    # Which entry of the navigation this page is.
    here = ""
    # What a shop's own template of this page may be called, in the folder SHOP_APP_LABEL or in shop/.
    shops_template = ""

    def get_template_names(self) -> list[str]:
        labels = dict.fromkeys([settings.SHOP_APP_LABEL, "shop"]) if self.shops_template else {}
        return [*(f"{label}/{self.shops_template}" for label in labels), str(self.template_name)]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if self.for_customers and self.customer is None:
            to = f"{reverse('shop-login')}?{urlencode({'next': request.get_full_path()})}"
            return self._guarded(HttpResponseRedirect(to))
        get_token(request)  # sets the cookie that every action of the page sends back
        try:
            return self._guarded(super().dispatch(request, *args, **kwargs))
        except Http404:
            return self._guarded(render(request, "storefront/missing.html", self._frame(), status=404))

    def _guarded(self, response: HttpResponseBase) -> HttpResponseBase:
        response.headers[HEADER] = policy()
        if isinstance(response, HttpResponse):
            patch_cache_control(response, private=True, no_store=True)
            patch_vary_headers(response, ["Accept-Language", "Cookie"])
        return response

    @cached_property
    def now(self) -> datetime:
        return timezone.now()

    @cached_property
    def customer(self) -> User | None:
        """Who is logged in. In the shop staff are customers too."""
        user = self.request.user
        return user if isinstance(user, User) else None

    @cached_property
    def stores(self) -> list[Store]:
        return list(Store.objects.filter(is_active=True).order_by("pk"))

    @cached_property
    def store(self) -> Store:
        """The store that `?store=` names, now or before, or the first one. Raises Http404 where there is none."""
        chosen = self.request.GET.get("store", "")
        code = chosen or self.request.session.get(STORE, "")
        store = next((store for store in self.stores if store.code == code), None)
        if store is not None and chosen:
            self.request.session[STORE] = store.code
        if store is None and not self.stores:
            raise Http404
        return store or self.stores[0]

    @cached_property
    def cart(self) -> Cart | None:
        """The visitor's open cart, if any has been opened."""
        return services.visitors_cart(
            session=self.request.session, customer=self.customer, store_id=self.store.pk, as_of=self.now
        )

    @cached_property
    def book(self) -> list[Address]:
        """The customer's address book, the default first."""
        mine = Address.objects.filter(customer=self.customer) if self.customer else Address.objects.none()
        return list(mine.order_by("-is_default_shipping", "-pk"))

    def too_often(self, throttles: Iterable[type[BaseThrottle]]) -> bool:
        """Whether this was tried too often, counted together with the API's door for the same."""
        request = cast(Request, self.request)  # of which throttles read what Django's has as well
        asked = [throttle().allow_request(request, cast(APIView, self)) for throttle in throttles]  # all of them count
        return not all(asked)

    def _frame(self) -> dict[str, Any]:
        cart = self.cart if self.stores else None
        return {
            "store": self.store if self.stores else None,
            "stores": self.stores,
            "customer": self.customer,
            "cart_units": (cart.items.aggregate(units=Sum("quantity"))["units"] or 0) if cart else 0,
            "demo": settings.DEMO,
            "refused": REFUSED,
            "here": self.here,
        }

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**self._frame(), **kwargs)


# ---------------------------------------------------------------------------------------------------------------------
# What is for sale


class CataloguePage(Page):
    template_name = "storefront/catalogue.html"
    here = "shop"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        search = printable(self.request.GET.get("search", "")).strip()
        found = Paginator(services.products_of(store=self.store, search=search), PRODUCTS_PER_PAGE)
        page = found.get_page(self.request.GET.get("page"))
        return super().get_context_data(
            search=search,
            page=page,
            pages=found.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
            query=urlencode({"search": search}) if search else "",
            products=[(product, left) for product, left in with_stock(page.object_list, self.store)],
            **kwargs,
        )


class ProductPage(Page):
    template_name = "storefront/product.html"
    here = "shop"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        sku = printable(kwargs["sku"])
        product = services.products_of(store=self.store).filter(sku=sku).first() or self._elsewhere(sku)
        if product is None:
            raise Http404
        (_product, left), *_rest = with_stock([product], self.store)
        ways = services.ways_to_ship(store=self.store)
        return super().get_context_data(**kwargs, product=product, left=left, ways=ways)

    def _elsewhere(self, sku: str) -> Product | None:
        """The product of another store: a link to it leads there."""
        for store in self.stores:
            if (product := services.products_of(store=store).filter(sku=sku).first()) is not None:
                self.store = store
                self.request.session[STORE] = store.code
                return product
        return None


def with_stock(products: Sequence[Product] | Any, store: Store) -> Iterator[tuple[Product, int | None]]:
    """Products with the units that one order can get of each; None: any number. One query."""
    tracked = [product.pk for product in products if product.track_stock]
    most = services.available_units(product_ids=tracked, store_id=store.pk) if tracked else {}
    for product in products:
        yield product, max(0, most.get(product.pk, 0)) if product.track_stock else None


# ---------------------------------------------------------------------------------------------------------------------
# Cart and checkout


class CartPage(Page):
    template_name = "storefront/cart.html"
    here = "cart"
    # Without them a cart cannot be ordered yet, but that is asked at the checkout.
    asked_later = ("email", "shipping_method", "payment_method", "shipping_address")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        cart = self.cart or Cart(store=self.store, customer=self.customer)
        found = services.contents(cart=cart, as_of=self.now)
        problems: dict[str, list[str]] = {}
        for problem in found.problems:
            problems.setdefault(problem.field, []).append(problem.message)
        items = [
            (item, found.amounts.get(item.pk), found.available.get(item.product_id), problems.get(f"items.{item.pk}"))
            for item in found.items
        ]
        blocked = [field for field in problems if field not in self.asked_later]
        return super().get_context_data(
            cart=cart,
            found=found,
            items=items,
            # Named apart: in a template, problems.items would be the dict's own.
            wrong_as_a_whole=problems.get("items", []) + problems.get("store", []),
            wrong_code=problems.get("discount_code", []),
            blocked=blocked,
            totals=found.totals,
            **kwargs,
        )


class CheckoutPage(CartPage):
    template_name = "storefront/checkout.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        context = self.get_context_data(**kwargs)
        if not context["items"]:
            return HttpResponseRedirect(reverse("shop-cart"))
        return self.render_to_response(context)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        cart, totals, currency = context["cart"], context["totals"], self.store.currency
        goods = totals.items - totals.discount
        ways = services.ways_to_ship(store=self.store)
        return {
            **context,
            "ways_to_ship": [(way, shipping_price(way, goods=goods, currency=currency)) for way in ways],
            "ways_to_pay": services.ways_to_pay(store=self.store),
            "book": self.book,
            "countries": countries(),
            "country": self.store.country,
            "shipping_details": cart.shipping_details,
            "billing_details": cart.billing_details,
            "credit": self._credit(),
        }

    def _credit(self) -> list[dict[str, Any]]:
        """What the customer can spend of their own in the store's currency."""
        if self.customer is None:
            return []
        rows = credit.balances_of(owner_id=self.customer.pk, as_of=self.now)
        return [
            {
                "field": f"use_{has.kind}",
                "name": CreditAccount.Kind(has.kind).label,
                "amount": credit.credit_shown(has.available, has.currency, has.kind),
            }
            for has in rows
            if has.available and has.currency == self.store.currency
        ]


# ---------------------------------------------------------------------------------------------------------------------
# Orders


class OrdersPage(Page):
    template_name = "storefront/orders.html"
    shops_template = "order/list.html"
    here = "orders"
    for_customers = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        actor = services.buyer_of(session=self.request.session, customer=self.customer, number="")
        search = printable(self.request.GET.get("search", "")).strip()
        orders = orders_of(actor)
        found = Paginator(orders.filter(_holds(search)) if search else orders, ORDERS_PER_PAGE)
        page = found.get_page(self.request.GET.get("page"))
        return super().get_context_data(
            search=search,
            page=page,
            pages=found.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
            query=urlencode({"search": search}) if search else "",
            may_search=bool(search) or found.num_pages > 1,
            **kwargs,
        )


def _holds(search: str) -> Q:
    """Orders with this in their number or in the name of what was ordered."""
    number = search.lstrip("#")
    found = Q(Exists(OrderLine.objects.filter(order=OuterRef("pk"), name__icontains=search)))
    return found | Q(number__contains=number) if number.isascii() and number.isdigit() else found


class OrderPage(Page):
    template_name = "storefront/order.html"
    shops_template = "order/detail.html"
    here = "orders"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().get(request, *args, **kwargs)
        except Http404:
            if self.customer is not None:
                raise
            # Perhaps it is the order of somebody who has not logged in yet.
            return HttpResponseRedirect(f"{reverse('shop-login')}?{urlencode({'next': request.get_full_path()})}")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        order = self._order(printable(kwargs["number"])[:MAX_NUMBER_LENGTH])
        found = order_shown(order, self.request, as_of=self.now)
        waiting = order.stage == Status.PAYMENT_WAITING
        return super().get_context_data(
            **found,
            payment=services.payment_outcome(order=order) if waiting else "",
            ways_to_pay=self._ways_to_pay(order) if waiting else [],
            reasons=ReasonsView.queryset.all(),
            companies=companies_of(found["told"]),
            book=self.book,
            countries=countries(),
            country=order.store.country,
            is_new="placed" in self.request.GET,
            today=timezone.localdate().isoformat(),
            most_pictures=settings.CANCELLATION_REQUEST_MAX_IMAGE_COUNT_PER_ORDER_ITEM,
            **self._possible(order, found["lines"]),
            **kwargs,
        )

    def _possible(self, order: Order, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the customer may do with the order and its lines, and why nothing where that is so."""
        handler = get_event_handler(self._actor(order.number or ""), as_of=self.now)
        _order, actions = handler.actions(number=order.number or "")
        possible = {action.name.replace("-", "_"): action for action in actions}
        has_left = any(line["row"].shipped for line in lines)
        lines_say = has_left and any(line["item"]["refund_refusal"] for line in lines)
        return {
            "actions": possible,
            "has_left": has_left,
            "why_not": None if lines_say else self._told(possible["return" if has_left else "cancel"].refusal),
            "why_not_there": self._told(possible["change_address"].refusal),
            # Not the order's own flag: an order with something to cancel may also have something to send back.
            "may_return": any(line["item"]["is_refundable"] for line in lines),
            "cancellable_count": sum(line["item"]["is_cancellable"] for line in lines),
            "refundable_count": sum(line["item"]["is_refundable"] for line in lines),
        }

    @staticmethod
    def _told(refusal: Refused | None) -> str:
        """A refusal in the words of the pages, with what would help."""
        if refusal is None:
            return ""
        return " ".join(filter(None, [str(REFUSED.get(refusal.code, refusal)), str(refusal.remedy)]))

    def _actor(self, number: str) -> Any:
        return services.buyer_of(session=self.request.session, customer=self.customer, number=number)

    def _order(self, number: str) -> Order:
        """The visitor's order with a number, or else with an id. Raises Http404."""
        mine = orders_of(self._actor(number)).select_related("store")
        order = mine.filter(**Order.resolve_number(number)).first()
        if order is None and number.isascii() and number.isdigit() and len(number) <= 18:
            order = mine.filter(pk=int(number)).first()
        if order is None:
            raise Http404
        return order

    def _ways_to_pay(self, order: Order) -> list[Any]:
        return [way for way in services.ways_to_pay(store=order.store) if not way.pays_on_delivery]


# ---------------------------------------------------------------------------------------------------------------------
# Who one is


class LoginPage(Page):
    template_name = "storefront/login.html"
    here = "login"
    http_method_names = [*Page.http_method_names, "post"]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._leave() if self.customer is not None else self._ask(LoginForm())

    @method_decorator(sensitive_post_parameters("password"))
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        form = LoginForm(request.POST)
        if self.too_often(LOGIN_THROTTLES):
            return self._ask(form, problem=_("That was often. Wait a while, then try again."), status=429)
        if not form.is_valid():
            return self._ask(form, status=400)
        if log_in(request, **form.cleaned_data) is None:
            words = _("E-mail and password do not belong together. Look whether both are right.")
            return self._ask(form, problem=words, status=400)
        return self._leave()

    def _ask(self, form: LoginForm, *, problem: str = "", status: int = 200) -> HttpResponse:
        context = self.get_context_data(form=form, problem=problem, next=self._next())
        return self.render_to_response(context, status=status)

    def _leave(self) -> HttpResponse:
        return HttpResponseRedirect(self._next())

    def _next(self) -> str:
        """Where to go afterwards: only to an address of this shop."""
        wanted = self.request.POST.get("next") or self.request.GET.get("next", "")
        here = {self.request.get_host()}
        is_ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts=here, require_https=self.request.is_secure())
        return wanted if is_ours else reverse("shop")


class LogoutPage(Page):
    """The button on every page. Whoever only opens the address stays logged in."""

    http_method_names = ["get", "post", "options"]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponseRedirect(reverse("shop"))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        logout(request)
        return HttpResponseRedirect(reverse("shop"))


class TrackPage(Page):
    """A guest's order, by number and e-mail. Neither stands in the address: the answer is that of a form."""

    template_name = "storefront/track.html"
    here = "track"
    http_method_names = [*Page.http_method_names, "post"]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._ask(TrackForm())

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        form = TrackForm(request.POST)
        if self.too_often(TRACKING_THROTTLES):
            return self._ask(form, problem=_("That was often. Wait a minute, then try again."), status=429)
        if not form.is_valid():
            return self._ask(form, status=400)
        try:
            order = guests_order(**form.cleaned_data)
        except OrderNotFound:
            words = _("No order without an account has this number and e-mail. Look whether both are right.")
            return self._ask(form, problem=words, status=404)
        return self._ask(TrackForm(), **order_shown(order, request, as_of=self.now))

    def _ask(self, form: TrackForm, *, problem: str = "", status: int = 200, **found: Any) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form, problem=problem, **found), status=status)


class WithdrawPage(WithdrawSteps, Page):
    """Withdraw from a contract: the steps are orders', the frame is the shop's."""

    here = "withdraw"
    throttle = WithdrawalThrottle


class AddressesPage(Page):
    template_name = "storefront/addresses.html"
    here = "addresses"
    for_customers = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        more = {"book": self.book, "countries": countries(), "country": self.store.country}
        return super().get_context_data(**more, **kwargs)
