"""What staff can do to an order: one action page each, each calling one verb of the EventHandler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from orders import rules
from orders.admin import forms, planforms, returnforms
from orders.admin.undoing import UNDO_ACTIONS
from orders.models import (
    Cancellation,
    CancellationRequest,
    Facts,
    Order,
    PaymentEvent,
    RefundRequest,
    ShippingEvent,
    Status,
)
from orders.processing import OrderChanged, get_event_handler
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.money import ZERO, shown
from shop.staff import Action

SIMPLE, LINES, PLAN = "admin/orders/action.html", "admin/orders/lines.html", "admin/orders/plan.html"

Data = dict[str, Any]
Guard = Callable[[Facts, Actor], Refused | None]


def asks(guard: Guard) -> Callable[[Order, Actor], Refused | None]:
    """The guard of the handler's verb, asked for a button and a page."""
    return lambda order, actor: guard(order.facts, actor)


def cause_of(order: Order, data: Data) -> str | None:
    """What a page sent twice has in common, so that it is one event."""
    return f"desk:{order.pk}:{data['once']}" if data.get("once") else None


def once_only(
    model: type[ShippingEvent | PaymentEvent], cause: str | None, verb: Callable[[], ShippingEvent | PaymentEvent]
) -> None:
    """This will call a verb; where the same page has been sent before, its event stands and nobody is alarmed."""
    try:
        verb()
    except OrderChanged:
        if not cause or not model._default_manager.filter(cause=cause).exists():
            raise


def units_told(count: int) -> str:
    return ngettext("%(n)d unit", "%(n)d units", count) % {"n": count}


# ---------------------------------------------------------------------------------------------------------------
# To the customer


def _approve(order: Order, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).approve(number=order.number or "", version=data["version"], note=data["note"])
    return _("The order is approved.")


def _prepare(order: Order, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).start_preparing(number=order.number or "", version=data["version"], note=data["note"])
    return _("The order is being prepared.")


def _ready(order: Order, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).ready_for_pickup(number=order.number or "", version=data["version"], note=data["note"])
    return _("The order waits for pickup; the customer is being told.")


def _ship(order: Order, actor: Actor, data: Data) -> Words:
    cause = cause_of(order, data)
    tracking = {name: data[name] for name in ("carrier", "tracking_number", "tracking_url", "note")}
    once_only(
        ShippingEvent,
        cause,
        lambda: get_event_handler(actor).ship(
            number=order.number or "", lines=data["lines"], cause=cause, version=data["version"], **tracking
        ),
    )
    return _("%(units)s shipped; the customer is being told.") % {"units": units_told(sum(data["lines"].values()))}


def _deliver(order: Order, actor: Actor, data: Data) -> Words:
    cause = cause_of(order, data)
    once_only(
        ShippingEvent,
        cause,
        lambda: get_event_handler(actor).deliver(
            number=order.number or "", lines=data["lines"], note=data["note"], cause=cause, version=data["version"]
        ),
    )
    return _("%(units)s delivered.") % {"units": units_told(sum(data["lines"].values()))}


def _hand_over(order: Order, actor: Actor, data: Data) -> Words:
    get_event_handler(actor).hand_over(number=order.number or "", version=data["version"], note=data["note"])
    return _("Handed over to the customer.")


# ---------------------------------------------------------------------------------------------------------------
# Money


def _issue_invoice(order: Order, actor: Actor, data: Data) -> Words:
    handler = get_event_handler(actor)
    invoice = handler.issue_invoice(number=order.number or "", version=data["version"], note=data["note"])
    return _("Invoice %(number)s is issued; print it below.") % {"number": invoice.number}


def _take_payment(order: Order, actor: Actor, data: Data) -> Words:
    plan: rules.Plan = data["plan"]
    handler = get_event_handler(actor)
    still(plan, lambda: rules.plan_payment(order.facts, plan.units), order)
    handler.take_payment(number=order.number or "", lines=plan.units, version=data["version"], note=data["note"])
    asked = sum((part.amount for part in plan.captures), ZERO)
    if not asked:
        return _("Paid with the money that has arrived.")
    return _("%(amount)s is being taken; the order shows when it has arrived.") % {
        "amount": shown(asked, order.currency)
    }


def _record_payment(order: Order, actor: Actor, data: Data) -> Words:
    before = order.facts.outstanding
    fields = {name: data[name] for name in ("amount", "reference", "note", "version")}
    surplus = data["surplus"] and data["amount"] > before
    get_event_handler(actor).record_payment(number=order.number or "", surplus=surplus, **fields)
    amount = shown(data["amount"], order.currency)
    if data["amount"] > before:
        return _("%(amount)s recorded; what is not owed goes back.") % {"amount": amount}
    if data["amount"] < before:
        missing = shown(before - data["amount"], order.currency)
        return _("%(amount)s recorded; %(missing)s is still missing.") % {"amount": amount, "missing": missing}
    return _("%(amount)s recorded.") % {"amount": amount}


def _why_no_surplus(order: Order, actor: Actor) -> Refused | None:
    return rules.record_payment(order.facts, actor, surplus=True)


def _refund(order: Order, actor: Actor, data: Data) -> Words:
    plan: rules.Plan = data["plan"]
    cause = cause_of(order, data)
    chosen = {name: data[name] for name in ("note", "kind", "destination", "version")}
    handler = get_event_handler(actor)
    try:
        done = handler.submit_refund(number=order.number or "", amount=plan.refund, plan=plan, cause=cause, **chosen)
    except OrderChanged:
        # The same page sent twice: its event stands, and nobody is alarmed.
        if not cause or not PaymentEvent.objects.filter(cause=cause).exists():
            raise
    else:
        if isinstance(done, RefundRequest):
            return _("Nothing has been refunded yet: it waits for approval, and whoever decides it is being told.")
    return _("%(amount)s is being refunded.") % {"amount": shown(plan.refund, order.currency)}


def still(plan: rules.Plan, replan: Callable[[], rules.Plan], order: Order) -> None:
    """This will refuse a plan that is no longer true. Where the version differs, the handler says who did what."""
    if plan.version == order.version and (now := replan()) != plan:
        raise rules.plan_changed(plan, now)


# ---------------------------------------------------------------------------------------------------------------
# Back


def _cancel(order: Order, actor: Actor, data: Data) -> Words:
    plan: rules.Plan = data["plan"]
    names = ("reason", "note", "restock", "refund", "notify", "version", "contact", "justification", "destination")
    choices = {name: data[name] for name in names} | {"ends_series": data.get("ends_series", False)}
    handler = get_event_handler(actor)
    row = handler.submit_cancellation(
        number=order.number or "", lines=plan.units, plan=plan, cause=cause_of(order, data), **choices
    )
    return told_of_cancellation(row, plan, order)


def told_of_cancellation(row: Cancellation, plan: rules.Plan, order: Order) -> Words:
    """What has become of a cancellation that somebody confirmed."""
    status = Cancellation.Status
    if row.status == status.WAITING_APPROVAL:
        return _("Nothing has been cancelled yet: it waits for approval, and whoever decides it is being told.")
    if row.status == status.QUEUED:
        return _("The desk is under maintenance: it will be cancelled afterwards.")
    told = [
        _("The order is cancelled.")
        if plan.ends_order
        else _("%(units)s cancelled.") % {"units": units_told(plan.unit_count)}
    ]
    if row.status == status.PENDING and row.undo_until:
        until = f"{timezone.localtime(row.undo_until):%H:%M}"
        told.append(_("It can be undone until %(time)s; stock, money and messages wait.") % {"time": until})
        return " ".join(told)
    if plan.refund:
        told.append(_("%(amount)s is being refunded.") % {"amount": shown(plan.refund, order.currency)})
    if plan.messages:
        told.append(_("The customer is being told."))
    return " ".join(told)


def _take_back(order: Order, actor: Actor, data: Data) -> Words:
    plan: rules.Plan = data["plan"]
    cause = cause_of(order, data)
    lines = {line.line_id: (line.units, line.disposition) for line in plan.lines}
    choices = {name: data[name] for name in ("note", "refund", "notify", "version", "destination")}
    choices["deduction"] = returnforms.deduction_of(data["choice"])
    handler = get_event_handler(actor)
    still(plan, lambda: returnforms.planned_return(handler, order.facts, data["choice"]), order)
    once_only(
        ShippingEvent,
        cause,
        lambda: handler.take_back(
            number=order.number or "", lines=lines, reason=data["reason"] or None, cause=cause, **choices
        ),
    )
    told = _("%(units)s taken back.") % {"units": units_told(plan.unit_count)}
    if plan.refund and data["refund"]:
        told += " " + _("%(amount)s is being refunded.") % {"amount": shown(plan.refund, order.currency)}
    return told


def decide_request(request: CancellationRequest, actor: Actor, data: Data, *, approve: bool) -> None:
    """This will answer a customer's request, on the order as its page showed it."""
    handler = get_event_handler(actor)
    handler.decide_request(request_id=request.pk, approve=approve, note=data["note"], version=data["version"])


# ---------------------------------------------------------------------------------------------------------------
# Beside


def _hold(order: Order, actor: Actor, data: Data) -> Words:
    fields = {name: data[name] for name in ("kind", "reason", "version")}
    get_event_handler(actor).place_hold(number=order.number or "", **fields)
    return _("The order is on hold.")


def _release(order: Order, actor: Actor, data: Data) -> Words:
    handler = get_event_handler(actor)
    handler.release_hold(
        number=order.number or "", hold_id=int(data["hold"]), note=data["note"], version=data["version"]
    )
    return _("The hold is released.")


def _readdress(order: Order, actor: Actor, data: Data) -> Words:
    which = {"shipping": data["which"] != "billing", "billing": data["which"] != "shipping"}
    handler = get_event_handler(actor)
    handler.change_address(number=order.number or "", address=data["address"], version=data["version"], **which)
    return _("The address is changed; the one before stays on record.")


def _note(order: Order, actor: Actor, data: Data) -> Words:
    fields = {name: data[name] for name in ("message", "note_type")}
    get_event_handler(actor).write_note(number=order.number or "", **fields)
    return _("The note is written. You can correct it for five minutes.")


# ---------------------------------------------------------------------------------------------------------------
# When an action makes sense at all; whether it is possible then is its guard's business


def in_status(*statuses: str) -> Callable[[Order], bool]:
    return lambda order: order.stage in statuses


def _money_can_be_taken(order: Order) -> bool:
    facts = order.facts
    authorized = facts.open_to_capture > 0 or facts.capture_in_flight
    return order.status not in rules.ENDED and authorized and any(line.live for line in facts.lines)


def _money_can_arrive(order: Order) -> bool:
    by_hand = any(payment.gateway == "manual" for payment in order.facts.payments)
    return order.status not in rules.ENDED and by_hand and order.facts.outstanding > 0


def _something_left(order: Order) -> bool:
    return any(line.shipped for line in order.facts.lines)


def _something_on_its_way(order: Order) -> bool:
    return any(line.shipped > line.delivered + line.returned for line in order.facts.lines)


def _can_end(order: Order) -> bool:
    # Once everything has shipped, the disabled button says what to do instead.
    return order.stage in {*rules.BEFORE_SHIPPING, Status.CANCELLATION_WAITING, Status.SHIPPED}


CANCEL = "cancel"

ORDER_ACTIONS: list[Action] = [
    Action(
        name="approve",
        label=gettext_lazy("Approve"),
        description=gettext_lazy("You have looked at the order, and it may be prepared."),
        permission="orders.approve_order",
        refusal=asks(rules.approve),
        form=forms.RemarkForm,
        act=_approve,
        primary=True,
        relevant=in_status(Status.PAYMENT_WAITING, Status.CONFIRMATION_WAITING),
        template=SIMPLE,
    ),
    Action(
        name="start-preparing",
        label=gettext_lazy("Start preparing"),
        description=gettext_lazy("Somebody picks the goods from now on."),
        permission="orders.prepare_order",
        refusal=asks(rules.start_preparing),
        form=forms.RemarkForm,
        act=_prepare,
        primary=True,
        relevant=in_status(Status.APPROVED),
        template=SIMPLE,
    ),
    Action(
        name="ready-for-pickup",
        label=gettext_lazy("Ready for pickup"),
        description=gettext_lazy("Everything that can leave waits at the counter. The customer is told."),
        permission="orders.prepare_order",
        refusal=asks(rules.ready_for_pickup),
        form=forms.RemarkForm,
        act=_ready,
        primary=True,
        relevant=lambda order: order.is_pickup and order.stage == Status.PREPARING,
        template=SIMPLE,
    ),
    Action(
        name="hand-over",
        label=gettext_lazy("Handed over"),
        description=gettext_lazy("The customer has collected everything that waited at the counter."),
        permission="orders.ship_order",
        refusal=asks(rules.ship),
        form=forms.RemarkForm,
        act=_hand_over,
        primary=True,
        relevant=in_status(Status.READY_FOR_PICKUP),
        template=SIMPLE,
    ),
    Action(
        name="ship",
        label=gettext_lazy("Ship"),
        description=gettext_lazy("These units leave: their stock is consumed, and the customer is told."),
        permission="orders.ship_order",
        refusal=asks(rules.ship),
        form=forms.ShipForm,
        act=_ship,
        primary=True,
        relevant=lambda order: not order.is_pickup and order.stage in rules.SHIPPABLE,
        template=LINES,
    ),
    Action(
        name="deliver",
        label=gettext_lazy("Delivered"),
        description=gettext_lazy("These units have arrived at the customer."),
        permission="orders.ship_order",
        refusal=asks(rules.deliver),
        form=forms.DeliverForm,
        act=_deliver,
        primary=True,
        relevant=_something_on_its_way,
        template=LINES,
    ),
    Action(
        name="take-payment",
        label=gettext_lazy("Take payment"),
        description=gettext_lazy("The money that is authorized is captured. The gateway is asked in the background."),
        permission="orders.charge_order",
        refusal=asks(rules.take_payment),
        form=planforms.TakePaymentForm,
        act=_take_payment,
        relevant=_money_can_be_taken,
        template=PLAN,
    ),
    Action(
        name="record-payment",
        label=gettext_lazy("Record payment"),
        description=gettext_lazy("Money that has arrived outside any gateway: a bank transfer, or cash."),
        permission="orders.charge_order",
        refusal=asks(rules.record_payment),
        form=forms.RecordPaymentForm,
        act=_record_payment,
        relevant=_money_can_arrive,
        template=SIMPLE,
    ),
    Action(
        name="record-surplus",
        label=gettext_lazy("Record unexpected payment"),
        description=gettext_lazy(
            "Money arrived that nobody waited for: too much, too late, or for an order that ended."
        ),
        permission="orders.charge_order",
        refusal=_why_no_surplus,
        form=forms.RecordSurplusForm,
        act=_record_payment,
        relevant=lambda order: (
            not _money_can_arrive(order) and any(p.gateway == "manual" for p in order.facts.payments)
        ),
        template=SIMPLE,
    ),
    Action(
        name="take-back",
        label=gettext_lazy("Take back"),
        description=gettext_lazy("Shipped goods have come back. Say where they go, and what of their value is kept."),
        permission="orders.return_order",
        refusal=asks(rules.take_back),
        form=returnforms.TakeBackForm,
        act=_take_back,
        relevant=_something_left,
        template=PLAN,
    ),
    Action(
        name="hold",
        label=gettext_lazy("Hold"),
        description=gettext_lazy("The order stays where it is until the hold is released. Cancelling stays possible."),
        permission="orders.hold_order",
        refusal=asks(rules.place_hold),
        form=forms.HoldForm,
        act=_hold,
        relevant=lambda order: order.status not in rules.ENDED,
        template=SIMPLE,
    ),
    Action(
        name="release-hold",
        label=gettext_lazy("Release hold"),
        description=gettext_lazy("The order can go on where nothing else holds it."),
        permission="orders.hold_order",
        refusal=asks(rules.release_hold),
        form=forms.ReleaseForm,
        act=_release,
        relevant=lambda order: bool(order.facts.holds),
        template=SIMPLE,
    ),
    Action(
        name="change-address",
        label=gettext_lazy("Change address"),
        description=gettext_lazy("As long as nothing has left. The address before stays on record."),
        permission="orders.readdress_order",
        refusal=asks(rules.change_address),
        form=forms.AddressForm,
        act=_readdress,
        relevant=in_status(*rules.BEFORE_SHIPPING),
        template=SIMPLE,
    ),
    Action(
        name="note",
        label=gettext_lazy("Write a note"),
        description=gettext_lazy("For colleagues; the customer does not see it."),
        permission="orders.note_order",
        refusal=asks(rules.write_note),
        form=forms.NoteForm,
        act=_note,
        template=SIMPLE,
    ),
    Action(
        name="issue-invoice",
        label=gettext_lazy("Issue invoice"),
        description=gettext_lazy("Over what the customer has or will have. An order has one; it can never be changed."),
        permission="orders.issue_document",
        refusal=asks(rules.issue_invoice),
        form=forms.RemarkForm,
        act=_issue_invoice,
        relevant=lambda order: not rules.has_invoice(order.facts),
        template=SIMPLE,
    ),
    Action(
        name="refund",
        label=gettext_lazy("Refund"),
        description=gettext_lazy(
            "Money back that is tied to no unit: goodwill, shipping costs, a fee. For goods use “Cancel” or “Take "
            "back”: what is given here comes on top of that, as far as money is left."
        ),
        permission="orders.refund_order",
        refusal=asks(rules.refund),
        form=planforms.RefundForm,
        act=_refund,
        danger=True,
        relevant=lambda order: order.facts.captured > 0,
        template=PLAN,
    ),
    Action(
        name=CANCEL,
        label=gettext_lazy("Cancel"),
        description=gettext_lazy("Units that have not shipped will not be sent. Nothing happens before you confirm."),
        permission="orders.cancel_order",
        refusal=asks(rules.cancel),
        form=planforms.CancelForm,
        act=_cancel,
        danger=True,
        relevant=_can_end,
        template=PLAN,
    ),
    *UNDO_ACTIONS,
]
