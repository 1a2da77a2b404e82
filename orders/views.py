"""The page to withdraw from a contract, in three steps and without JavaScript: state it, read and confirm it, receipt.

It is a part of a shop's page: checkout.views.WithdrawPage puts it into the storefront's frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import TemplateView

from orders.models import Order, Status, Withdrawal
from orders.processing import EventHandler, get_event_handler
from orders.processing.declaring import (
    Statement,
    StatementForged,
    read_statement,
    receipt_context,
    require_fresh,
)
from orders.processing.withdrawing import withdrawal_of
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.models import User

if TYPE_CHECKING:
    Base = TemplateView
else:
    Base = object

RECEIPT_SALT = "orders.withdrawal.receipt"
# The mail is for keeping; the page is for the one who has just confirmed.
RECEIPT_SECONDS = 24 * 3600
MOST_ORDERS = 5


class StateForm(forms.Form):
    """Step 1. `number` is typed, `order` chosen of a customer's own; one of them is enough."""

    order = forms.CharField(required=False, max_length=64)
    number = forms.CharField(label=gettext_lazy("Order number"), required=False, max_length=64)
    name = forms.CharField(label=gettext_lazy("Your name"), max_length=200)
    email = forms.EmailField(label=gettext_lazy("E-mail for the receipt"), max_length=254)
    text = forms.CharField(
        label=gettext_lazy("Message"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 3})
    )

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        chosen, typed = told.pop("order", ""), told.get("number", "").strip().lstrip("#")
        if chosen and typed and typed != chosen:
            words = _("You have chosen order %(chosen)s and typed another number. Leave one of the two away.")
            self.add_error("number", words % {"chosen": chosen})
        told["number"] = chosen or typed
        if not told["number"] and "number" not in self.errors:
            self.add_error("number", _("Say which order it is about."))
        return told


class WithdrawSteps(Base):
    """What the page does; the frame adds who visits (`customer`), when (`now`) and how often they may (`throttle`)."""

    customer: User | None
    now: datetime
    throttle: Any
    http_method_names = ["get", "head", "post", "options"]
    template_name = "storefront/withdraw.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if "signed" in kwargs:
            return self._receipt(kwargs["signed"])
        wanted = request.GET.get("order", "").replace("\x00", "")[:64]
        known: dict[str, str] = {"number": wanted}
        if self.customer is not None:
            known |= {"name": self.customer.get_full_name(), "email": self.customer.email, "order": wanted}
        return self._ask(StateForm(initial=known))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not self.throttle().allow_request(request, self):
            words = _("That was often. Wait a minute, then try again.")
            return self._ask(StateForm(request.POST), problem=words, status=429)
        try:
            if request.POST.get("step") in {"change", "confirm"}:
                return self._read_back(request)
            return self._state(request)
        except Refused as no:
            return self._ask(self._again(request), problem=str(no), status=no.http_status)

    # --- step 1 ---------------------------------------------------------------------------------------------------

    def _state(self, request: HttpRequest) -> HttpResponse:
        form = StateForm(request.POST)
        if not form.is_valid():
            return self._ask(form, status=400)
        return self._shown(self._handler().state_withdrawal(**form.cleaned_data, customer=self.customer))

    def _ask(self, form: StateForm, *, problem: Words = "", status: int = 200) -> HttpResponse:
        chosen = str(form["order"].value() or "").replace("\x00", "")[:64]
        mine = self._own_orders(chosen)
        return self._render(
            "state", status, form=form, mine=mine, chosen=chosen, problem=problem, is_mine=_is_among(chosen, mine)
        )

    def _own_orders(self, chosen: str) -> list[Order]:
        """The customer's latest orders that are not over; the one they came from before all others."""
        if self.customer is None:
            return []
        over = (Status.CANCELLED, Status.REFUNDED)
        found = Order.objects.of(Actor.customer(self.customer)).placed().exclude(status__in=over)
        wanted = found.filter(**Order.resolve_number(chosen)).prefetch_related("lines")
        latest = list(found.exclude(**Order.resolve_number(chosen)).prefetch_related("lines")[:MOST_ORDERS])
        return [*(wanted if chosen else ()), *latest]

    def _again(self, request: HttpRequest) -> StateForm:
        """The form with what a statement said that cannot be confirmed any more."""
        try:
            told = read_statement(request.POST.get("token", ""))
        except StatementForged:
            return StateForm(request.POST)
        return StateForm(initial={name: getattr(told, name) for name in ("number", "name", "email", "text")})

    # --- step 2 ---------------------------------------------------------------------------------------------------

    def _read_back(self, request: HttpRequest) -> HttpResponse:
        """Confirm what was shown; where the quantities in the form are others, show those first."""
        token = request.POST.get("token", "")
        told = read_statement(token)
        if Withdrawal.objects.filter(key=told.key).exists():  # the same button again
            return self._confirmed(token)
        require_fresh(token)
        stated = {"name": told.name, "number": told.number, "email": told.email, "text": told.text}
        shown = self._handler().state_withdrawal(**stated, lines=told.lines, customer=self.customer)
        units = units_in(request.POST, shown)
        before = {line.line.pk: line.units for line in shown.lines}
        if units == before and request.POST["step"] == "confirm":
            return self._confirmed(token)
        try:
            chosen = {pk: count for pk, count in units.items() if count}
            changed = self._handler().state_withdrawal(**stated, lines=chosen, customer=self.customer)
        except Refused as no:
            return self._shown(shown, problem=str(no), status=400)
        words = _("You have changed the quantities. Read it again, then confirm it.") if units != before else ""
        return self._shown(changed, problem=words if request.POST["step"] == "confirm" else "")

    def _shown(self, statement: Statement, *, problem: Words = "", status: int = 200) -> HttpResponse:
        return self._render("confirm", status, statement=statement, problem=problem)

    def _confirmed(self, token: str) -> HttpResponse:
        row = self._handler().confirm_withdrawal(token=token)
        signed = signing.dumps(row.uuid.hex, salt=RECEIPT_SALT)
        return HttpResponseRedirect(reverse("shop-withdrawn", args=(signed,)))

    # --- step 3 ---------------------------------------------------------------------------------------------------

    def _receipt(self, signed: str) -> HttpResponse:
        try:
            row = withdrawal_of(str(UUID(signing.loads(signed, salt=RECEIPT_SALT, max_age=RECEIPT_SECONDS))))
        except (signing.BadSignature, ValueError) as error:
            raise Http404 from error
        return self._render("received", 200, withdrawal=row, receipt=receipt_context(row))

    # --- all ------------------------------------------------------------------------------------------------------

    def _handler(self) -> EventHandler:
        actor = Actor.customer(self.customer) if self.customer else Actor.guest("")
        return get_event_handler(actor, as_of=self.now)

    def _render(self, step: str, status: int, **more: Any) -> HttpResponse:
        return self.render_to_response(self.get_context_data(step=step, **more), status=status)


def units_in(data: Mapping[str, str], shown: Statement) -> dict[int, int]:
    """Line id → units as the form has them; what is no number, or is left out, stays as it was shown."""
    found = {}
    for line in shown.lines:
        text = str(data.get(f"units-{line.line.pk}", "")).strip()
        fits = text.isascii() and text.isdigit() and len(text) <= 9
        found[line.line.pk] = int(text) if fits else line.units
    return found


def _is_among(number: str, orders: list[Order]) -> bool:
    return any(order.number == number for order in orders)
