"""The action that makes an order a recurring one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin.forms import OrderForm
from orders.models import Order, RecurringOrder, Status
from orders.processing import get_event_handler
from orders.processing.recurring import MANAGE
from orders.rules import recurring as rules
from payments.gateways import is_credit
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.staff import Action


class RepeatForm(OrderForm):
    """How often, and how the orders to come are paid."""

    every = forms.IntegerField(label=gettext_lazy("Every"), min_value=1, max_value=rules.MAX_EVERY, initial=1)
    unit = forms.ChoiceField(label=gettext_lazy("Unit"), choices=RecurringOrder.Unit, initial=RecurringOrder.Unit.MONTH)
    gateway = forms.ChoiceField(
        label=gettext_lazy("Paid through"),
        help_text=gettext_lazy("With the token that is stored for this order, if there is one."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        paid = [payment.gateway for payment in self.facts.payments]
        # A customer's credit is spent again only where somebody chooses so, for an order that was paid with it.
        codes = [code for code in sorted(settings.PAYMENT_GATEWAYS) if code in paid or not is_credit(code)]
        field = self.fields["gateway"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(code, _("manual (by invoice)") if code == "manual" else code) for code in codes]
        field.initial = next((code for code in paid if not is_credit(code)), paid[0] if paid else "manual")


def _repeat(order: Order, actor: Actor, data: dict[str, Any]) -> Words:
    fields = {name: data[name] for name in ("unit", "every", "gateway", "version")}
    series = get_event_handler(actor).start_recurring(number=order.number or "", **fields)
    day = date_format(localtime(series.next_at), "DATE_FORMAT")
    return _("This order comes again %(rhythm)s; next on %(day)s.") % {"rhythm": series.rhythm, "day": day}


def _why_not(order: Order, actor: Actor) -> Refused | None:
    return rules.repeat(order)


def _is_free(order: Order) -> bool:
    return order.status != Status.CANCELLED and rules.repeat(order) is None


REPEAT = Action(
    name="repeat",
    label=gettext_lazy("Repeat this order"),
    description=gettext_lazy(
        "The same goods come again and again, to the same address, until the series is ended. They cost what they "
        "cost on the day; shipping costs what it costs in this order. Discounts are not repeated."
    ),
    permission=MANAGE,
    refusal=_why_not,
    form=RepeatForm,
    act=_repeat,
    relevant=_is_free,
    template="admin/orders/action.html",
)
