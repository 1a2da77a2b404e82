"""The actions that take a cancellation back: undo it, complete it before its time, reinstate units later."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import OuterRef, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from orders import rules
from orders.admin.forms import LinesForm, RemarkForm
from orders.models import Approval, ApprovalLevel, Cancellation, Facts, Order, OrderLine, Status
from orders.processing import get_event_handler
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.money import ZERO, shown
from shop.staff import Action

UNDO, COMPLETE, REINSTATE = "undo", "complete-now", "reinstate"
Data = dict[str, Any]


class ReinstateForm(LinesForm):
    """How many of the cancelled units come back into the order."""

    column = gettext_lazy("Reinstate")

    def available(self) -> Callable[[OrderLine], int]:
        return lambda line: line.cancelled


@dataclass(frozen=True, slots=True)
class Missing:
    """A line whose units cannot all be promised again, as stock is now."""

    line: OrderLine
    there: int

    @property
    def words(self) -> str:
        n = self.line.cancelled
        told = ngettext("%(there)d of %(n)d unit is in stock", "%(there)d of %(n)d units are in stock", n)
        return told % {"there": self.there, "n": n}


def why_not_undo(order: Order, actor: Actor) -> Refused | None:
    return rules.undo(order.facts, actor, as_of=timezone.now())


def why_not_complete(order: Order, actor: Actor) -> Refused | None:
    return rules.complete_now(order.facts, actor)


def undo(order: Order, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).undo_cancellation(number=order.number or "", note=data["note"], version=data["version"])
    return _("The cancellation is undone: the order is where it was before.")


def complete(order: Order, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).complete_now(number=order.number or "", version=data["version"])
    return _("The cancellation is complete: stock, money and messages are on their way.")


def _reinstate(order: Order, actor: Actor, data: Data) -> Words:
    fields = {name: data[name] for name in ("lines", "note", "version")}
    get_event_handler(actor).reinstate(number=order.number or "", **fields)
    count = sum(data["lines"].values())
    told = ngettext("%(n)d unit is in the order again.", "%(n)d units are in the order again.", count) % {"n": count}
    then = Order.objects.get(pk=order.pk)
    if then.status == Status.PAYMENT_WAITING and then.facts.outstanding:
        words = _("It waits for %(amount)s.") % {"amount": shown(then.facts.outstanding, then.currency)}
        told = f"{told} {words}"
    return told


def _can_be_reinstated(order: Order) -> bool:
    some = any(line.cancelled for line in order.facts.lines)
    return some and not order.undo_until and order.stage in {*rules.BEFORE_SHIPPING, Status.CANCELLED}


def _what_it_takes(order: Order, actor: Actor) -> dict[str, Any]:
    """What has to be paid again, and what is missing in stock, if all of it were reinstated."""
    return {"to_pay": to_pay_again(order.facts), "missing": missing(order)}


def to_pay_again(facts: Facts) -> Decimal:
    """What the customer would owe with every cancelled unit back in the order, more than they owe now."""
    order, back, lines = facts.order, ZERO, []
    for line in facts.lines:
        again = max(0, min(line.cancelled, line.refunded - line.returned))
        if again:
            back += line.price_of_next(again, after=line.refunded - again, currency=order.currency)
        then = copy(line)
        then.cancelled = 0
        for counter in ("charged", "paid", "refunded"):
            setattr(then, counter, getattr(line, counter) - again)
        lines.append(then)
    # What was kept when they were cancelled pays for them again.
    returned = any(line.returned for line in facts.lines)
    kept = ZERO if returned else min(back, max(ZERO, order.adjustment_total))
    then_owed = Facts(order, lines, facts.payments, facts.holds).outstanding
    return max(ZERO, then_owed - kept - (facts.outstanding if order.status != Status.CANCELLED else ZERO))


def missing(order: Order) -> list[Missing]:
    """The lines of which not everything that was cancelled is there. Units on their way back to the shelf are there."""
    done = Cancellation.objects.filter(order=order, status=Cancellation.Status.DONE)
    aside = done.filter(restock=False).exists()
    free: dict[int, int] = {}
    found = []
    for line in order.facts.lines:
        record = line.stock_record
        if not (line.cancelled and line.tracks_stock):
            continue
        if record is None:
            found.append(Missing(line, 0))
            continue
        coming = 0 if aside else max(0, line.allocated - line.left)
        there = free.setdefault(record.pk, record.on_hand - record.allocated) + coming
        free[record.pk] = max(0, there - line.cancelled)
        if there < line.cancelled:
            found.append(Missing(line, max(0, there)))
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """A cancellation of an order that is not over: it waits, or can be undone."""

    row: Cancellation
    approval: Approval | None
    turn: str
    url: str

    @property
    def can_be_undone(self) -> bool:
        return self.row.status == Cancellation.Status.PENDING


def standing(order: Order, actor: Actor) -> list[Standing]:
    """This will read what the order page says above everything else: one query."""
    level = ApprovalLevel.objects.filter(level=OuterRef("approval__level")).values("name")[:1]
    rows = (
        Cancellation.objects.filter(order=order, status__in=[*Cancellation.WAITING, Cancellation.Status.PENDING])
        .select_related("approval", "reason")
        .annotate(turn=Subquery(level))
        .order_by("-pk")
    )
    found = []
    for row in rows:
        approval: Approval | None = getattr(row, "approval", None)
        kind, pk = ("approval", approval.pk) if approval and approval.is_open else ("cancellation", row.pk)
        seen = actor.may(f"orders.view_{kind}", store_id=order.store_id)
        url = reverse(f"admin:orders_{kind}_change", args=(pk,)) if seen else ""
        found.append(Standing(row, approval, row.turn or "", url))
    return found


UNDO_ACTIONS = [
    Action(
        name=UNDO,
        label=gettext_lazy("Undo the cancellation"),
        description=gettext_lazy(
            "Nothing has followed from it yet: no stock, no money, no message. The order is then where it was before."
        ),
        permission="orders.undo_cancellation",
        refusal=why_not_undo,
        form=RemarkForm,
        act=undo,
        primary=True,
        relevant=lambda order: order.undo_until is not None,
        template="admin/orders/action.html",
    ),
    Action(
        name=COMPLETE,
        label=gettext_lazy("Complete now"),
        description=gettext_lazy(
            "Stock, money and messages wait no longer. It can then be reinstated, but no more undone."
        ),
        permission="orders.cancel_order",
        refusal=why_not_complete,
        form=RemarkForm,
        act=complete,
        relevant=lambda order: order.undo_until is not None,
        template="admin/orders/action.html",
    ),
    Action(
        name=REINSTATE,
        label=gettext_lazy("Reinstate"),
        description=gettext_lazy(
            "Cancelled units come back into the order: their stock is promised again. What was refunded for them has "
            "to be paid again; the customer is told how much and until when."
        ),
        permission="orders.undo_cancellation",
        refusal=lambda order, actor: rules.reinstate(order.facts, actor),
        form=ReinstateForm,
        act=_reinstate,
        preview=_what_it_takes,
        relevant=_can_be_reinstated,
        template="admin/orders/reinstate.html",
    ),
]
