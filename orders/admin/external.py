"""What the order management system was asked and said, on the order's page, and what a person found out about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin import forms
from orders.gateways import get_order_management
from orders.models import AddressChange, ExternalCall, Order, OrderLine
from orders.processing import get_event_handler
from shop.actors import Actor
from shop.errors import Words
from shop.staff import Action

# Of an order the latest so many calls.
MOST = 20


@dataclass(frozen=True, slots=True)
class CallView:
    """A call in words: what was asked, and when what was heard."""

    call: ExternalCall
    what: str


@dataclass(frozen=True, slots=True)
class ChangeView:
    """An address that waits, with the addresses of its answers where this person may give one."""

    change: AddressChange
    approve_url: str = ""
    reject_url: str = ""


def calls_of(order: Order) -> list[CallView]:
    """This will list what was asked of the order management system about an order, the latest first.

    One query; none where there is no such system.
    """
    if not (get_order_management().is_outside or order.facts.is_withheld):
        return []
    lines = {line.pk: line for line in order.facts.lines}
    rows = ExternalCall.objects.filter(order=order).select_related("address").defer("pictures", "wishes")
    return [CallView(row, _told(row, lines)) for row in rows.order_by("-pk")[:MOST]]


def _told(row: ExternalCall, lines: dict[int, OrderLine]) -> str:
    if row.address is not None:
        return str(row.address)
    return ", ".join(f"{count} × {lines[pk].name}" for pk, count in row.lines.items() if pk in lines)


def change_of(order: Order, actor: Actor) -> ChangeView | None:
    """This will find the address that waits for an answer; no query where none does."""
    if order.readdress_at is None:
        return None
    rows = AddressChange.objects.filter(order=order, status__in=AddressChange.OPEN).select_related("address")
    change = rows.first()
    if change is None:
        return None
    may = actor.may("orders.readdress_order", store_id=order.store_id)
    may = may and actor.may("orders.view_addresschange", store_id=order.store_id)
    if not may or change.status != AddressChange.Status.WAITING:
        return ChangeView(change)
    approve, reject = (reverse("admin:orders_addresschange_do", args=(change.pk, x)) for x in ("approve", "reject"))
    return ChangeView(change, approve, reject)


class FoundOutForm(forms.OrderForm):
    note = forms.forms.CharField(
        label=gettext_lazy("How you know"), max_length=400, help_text=gettext_lazy("Such as whom you asked, and when.")
    )


def _settle(order: Order, actor: Actor, data: dict[str, Any], *, cancelled: bool) -> None:
    get_event_handler(actor).settle_withheld(
        number=order.number or "", cancelled=cancelled, note=data["note"], version=data["version"]
    )


def _was_cancelled(order: Order, actor: Actor, data: dict[str, Any]) -> Words:
    _settle(order, actor, data, cancelled=True)
    return _("The units are cancelled here too; the customer is being told.")


def _was_not(order: Order, actor: Actor, data: dict[str, Any]) -> Words:
    _settle(order, actor, data, cancelled=False)
    return _("The units are free again; the customer's wish is a request to decide.")


def _waits(order: Order) -> bool:
    return order.facts.is_withheld


EXTERNAL_ACTIONS: list[Action] = [
    Action(
        name="cancelled-there",
        label=gettext_lazy("Cancelled there"),
        description=gettext_lazy(
            "The other system has cancelled what it was asked for, and has not said so. It is cancelled here too, with "
            "its stock, money and message."
        ),
        permission="orders.cancel_order",
        form=FoundOutForm,
        act=_was_cancelled,
        relevant=_waits,
        template="admin/orders/action.html",
    ),
    Action(
        name="not-cancelled-there",
        label=gettext_lazy("Not cancelled there"),
        description=gettext_lazy(
            "The other system has not cancelled it and will not. The units can be shipped again, and the customer's "
            "wish becomes a request that a person decides."
        ),
        permission="orders.cancel_order",
        form=FoundOutForm,
        act=_was_not,
        relevant=_waits,
        template="admin/orders/action.html",
    ),
]
