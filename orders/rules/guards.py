"""Guards: what staff and the system can do to an order now, and why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from orders.models import Facts, Hold, OrderLine, Status
from shop.actors import Actor
from shop.errors import Invalid, NotAllowed, Refused, Words
from shop.money import shown

Lines = Mapping[int, int]
"""Line id → units."""

# ---------------------------------------------------------------------------------------------------------------
# Refusals


class OrderOnHold(Refused):
    code = "order_on_hold"
    message = _("The order is on hold (%(kinds)s).")


class MoneyDisputed(Refused):
    code = "money_disputed"
    message = _("The customer's bank asks this money back: refunded as well, it would be gone twice.")


class WrongStatus(Refused):
    code = "wrong_status"
    message = _("This is not possible while the order is “%(status)s”.")


class NothingToDo(Refused):
    code = "nothing_to_do"
    message = _("There is nothing left to do.")


class NotPaid(Refused):
    code = "not_paid"
    message = _("These goods have not been paid for.")


class InvalidShippingEvent(Refused):
    """Oscar's name."""

    code = "invalid_shipping_event"
    message = _("These units cannot go through this.")


class InvalidPaymentEvent(Refused):
    """Oscar's name."""

    code = "invalid_payment_event"
    message = _("This payment is not possible.")


class CaptureUnderWay(Refused):
    code = "capture_under_way"
    message = _("A payment for this order is being taken at this moment.")


class BadLines(Invalid):
    """The lines or quantities asked for are wrong in themselves."""

    code = "bad_lines"


class CancelRefused(Refused):
    """The storefront contract's refusals, with its exact words."""

    code = "cancel_refused"
    http_status = 400


ALREADY_CANCELLED = "Order already cancelled!"
CANCELLATION_IN_PROGRESS = "Order cancellation already in progress."
ORDER_STATUS_FORBIDS = "Order can't be cancelled in this status."
ITEM_STATUS_FORBIDS = "Order Item (%(name)s) can't be cancelled in this status."


class PlanChanged(Refused):
    code = "plan_changed"
    message = _("What would happen has changed since you looked.")


class TooLateToUndo(Refused):
    code = "too_late_to_undo"
    message = _("The time to undo this is over.")


class UndoOpen(Refused):
    code = "undo_open"
    message = _("A cancellation of this order can still be undone.")


class CancellationUnderWay(Refused):
    code = "cancellation_under_way"
    message = _("The order management system has been asked to cancel what is left; its answer is awaited.")


class AddressFixed(Refused):
    """The storefront contract's code for an address that can no longer change."""

    code = "order_100_3"
    http_status = 400
    message = _("Old order address cannot be changed.")


# ---------------------------------------------------------------------------------------------------------------
# Building blocks of guards

BEFORE_SHIPPING = (
    Status.PAYMENT_WAITING,
    Status.CONFIRMATION_WAITING,
    Status.APPROVED,
    Status.PREPARING,
    Status.READY_FOR_PICKUP,
)
SHIPPABLE = (Status.PREPARING, Status.READY_FOR_PICKUP)
DIRECTLY_CANCELLABLE = (Status.PAYMENT_WAITING, Status.CONFIRMATION_WAITING, Status.APPROVED)
ENDED = (Status.CANCELLED, Status.REFUNDED)


def permitted(facts: Facts, actor: Actor, permission: str) -> Refused | None:
    return None if actor.may(permission, store_id=facts.order.store_id) else NotAllowed()


def in_status(facts: Facts, *statuses: str) -> Refused | None:
    if facts.order.stage in statuses:
        return None
    return WrongStatus(params={"status": facts.order.status_label})


def not_held(facts: Facts) -> Refused | None:
    if not facts.holds:
        return None
    kinds = ", ".join(str(hold.get_kind_display()) for hold in facts.holds)
    return OrderOnHold(params={"kinds": kinds}, remedy=_("Release the hold first."))


def first(*checks: Refused | None) -> Refused | None:
    """The first refusal, if any."""
    return next((check for check in checks if check is not None), None)


def chosen_lines(
    facts: Facts, lines: Lines | None, available: Callable[[OrderLine], int], *, verb: Words
) -> dict[int, int]:
    """The units asked for, checked; None means every unit that is available. Raises BadLines, InvalidShippingEvent.

    Zero, negative and too many units, foreign and unknown lines are refused, each by name; nothing is silently
    dropped or corrected.
    """
    if lines is None:
        chosen = {line.pk: available(line) for line in facts.lines if available(line) > 0}
        if not chosen:
            raise NothingToDo(_("No unit of this order is left to %(verb)s.") % {"verb": verb})
        return chosen
    if not lines:
        raise BadLines(_("Choose at least one line."), field="lines")
    for line_id, units in lines.items():
        line = facts.line(line_id)
        if line is None:
            raise BadLines(_("Line %(line)s is not part of this order.") % {"line": line_id}, field="lines")
        if type(units) is not int or units < 1:
            raise BadLines(
                _("“%(name)s”: the number of units must be at least 1.") % {"name": line.name}, field="lines"
            )
        if units > available(line):
            words = ngettext(
                "“%(name)s”: only %(max)d unit is left to %(verb)s, not %(asked)d.",
                "“%(name)s”: only %(max)d units are left to %(verb)s, not %(asked)d.",
                available(line),
            )
            params = {"name": line.name, "max": available(line), "asked": units, "verb": verb}
            raise InvalidShippingEvent(words % params, max_quantity=available(line), field="lines")
    return dict(lines)


# ---------------------------------------------------------------------------------------------------------------
# Guards of staff's steps: asked for the button, for the page and, under the lock, for the deed


def approve(facts: Facts, actor: Actor) -> Refused | None:
    return first(
        permitted(facts, actor, "orders.approve_order"), in_status(facts, Status.CONFIRMATION_WAITING), not_held(facts)
    )


def start_preparing(facts: Facts, actor: Actor) -> Refused | None:
    return first(permitted(facts, actor, "orders.prepare_order"), in_status(facts, Status.APPROVED), not_held(facts))


def ready_for_pickup(facts: Facts, actor: Actor) -> Refused | None:
    delivery = None if facts.order.is_pickup else WrongStatus(_("The customer chose delivery, not pickup."))
    return first(
        permitted(facts, actor, "orders.prepare_order"),
        delivery,
        in_status(facts, Status.PREPARING),
        not_held(facts),
        _money_is_there(facts),
    )


def _money_is_there(facts: Facts) -> Refused | None:
    if facts.order.pays_on_delivery or any(line.paid_and_open for line in facts.lines):
        return None
    return NotPaid(remedy=_("Take payment first."))


def ship(facts: Facts, actor: Actor) -> Refused | None:
    nothing = None if any(line.open for line in facts.lines) else _nothing_to_ship(facts)
    return first(
        permitted(facts, actor, "orders.ship_order"),
        in_status(facts, *SHIPPABLE),
        nothing,
        not_held(facts),
        _money_is_there(facts),
    )


def _nothing_to_ship(facts: Facts) -> Refused:
    return CancellationUnderWay() if facts.is_withheld else NothingToDo(_("Everything has been shipped."))


def shippable_units(facts: Facts) -> Callable[[OrderLine], int]:
    """How many units of a line can leave now: open, paid for (unless paid on delivery) and, if tracked, in stock."""

    def units(line: OrderLine) -> int:
        there = line.open if facts.order.pays_on_delivery else line.paid_and_open
        return min(there, line.allocated) if line.tracks_stock else there

    return units


def deliver(facts: Facts, actor: Actor) -> Refused | None:
    on_the_way = any(line.on_the_way for line in facts.lines)
    return first(
        permitted(facts, actor, "orders.ship_order"),
        None if on_the_way else NothingToDo(_("Nothing is on its way to the customer.")),
    )


def take_payment(facts: Facts, actor: Actor) -> Refused | None:
    if not facts.due:
        no: Refused | None = NothingToDo(_("Everything that is due has been charged."))
    elif facts.outstanding and not facts.open_to_capture:
        no = InvalidPaymentEvent(
            _("No authorized money is left to take; %(amount)s is outstanding.")
            % {"amount": shown(facts.outstanding, facts.order.currency)},
            remedy=_("Record the money when it arrives, or ask the customer to pay again."),
        )
    else:
        no = None
    return first(
        permitted(facts, actor, "orders.charge_order"),
        in_status(facts, *BEFORE_SHIPPING, Status.SHIPPED, Status.DELIVERED),
        no,
        not_held(facts),
        CaptureUnderWay(remedy=_("Wait until it has ended.")) if facts.capture_in_flight else None,
    )


def record_payment(facts: Facts, actor: Actor, *, surplus: bool = False) -> Refused | None:
    """surplus: also what nobody waits for is put on record, whatever the order's status."""
    under_way = CaptureUnderWay(remedy=_("Wait until it has ended.")) if facts.capture_in_flight else None
    if surplus:
        return first(permitted(facts, actor, "orders.charge_order"), under_way)
    # What was let go online can only be paid in another way.
    by_hand = any(p.gateway == "manual" for p in facts.payments) or (facts.voided and not facts.open_to_capture)
    return first(
        permitted(facts, actor, "orders.charge_order"),
        in_status(facts, *BEFORE_SHIPPING, Status.SHIPPED, Status.DELIVERED),
        None if facts.outstanding else NothingToDo(_("Nothing is outstanding.")),
        None if by_hand else InvalidPaymentEvent(_("This order is paid online; use “Take payment”.")),
        under_way,
    )


def cancel(facts: Facts, actor: Actor) -> Refused | None:
    """Staff and the system: any unit that has not shipped. What customers may: see rules.customers."""
    order = facts.order
    if (no := permitted(facts, actor, "orders.cancel_order")) is not None:
        return no
    if actor.is_staff and order.undo_until is not None:
        return undo_open(order.undo_until)
    if order.status == Status.CANCELLED:
        return WrongStatus(_("The order is already cancelled."))
    if not any(line.open for line in facts.lines):
        if facts.is_withheld:
            return CancellationUnderWay()
        return NothingToDo(
            _("Everything has been shipped; what has shipped cannot be cancelled."),
            remedy=_("Use “Take back” when it returns."),
        )
    return in_status(facts, *BEFORE_SHIPPING, Status.CANCELLATION_WAITING)


def undo_open(until: datetime) -> Refused:
    """Staff decide themselves what becomes of a cancellation that can be undone, before there is another."""
    return UndoOpen(remedy=_("Complete it, or undo it, first."), deadline=until)


def undo(facts: Facts, actor: Actor, *, as_of: datetime) -> Refused | None:
    """Undo a cancellation while its stock, money and messages still wait."""
    until = facts.order.undo_until
    late: Refused | None = None
    if until is None:
        late = NothingToDo(_("There is no cancellation to undo."), remedy=_("Use “Reinstate”."))
    elif as_of >= until:
        late = TooLateToUndo(deadline=until, remedy=_("Use “Reinstate”."))
    elif facts.order.stage not in {*BEFORE_SHIPPING, Status.CANCELLED}:
        late = WrongStatus(params={"status": facts.order.status_label})
    return first(permitted(facts, actor, "orders.undo_cancellation"), late)


def complete_now(facts: Facts, actor: Actor) -> Refused | None:
    waiting = None if facts.order.undo_until else NothingToDo(_("No cancellation waits to be completed."))
    return first(permitted(facts, actor, "orders.cancel_order"), waiting)


def reinstate(facts: Facts, actor: Actor) -> Refused | None:
    """Take cancelled units back into the order, before anything else has ended it."""
    waits = NothingToDo(_("The cancellation can still be undone."), remedy=_("Use “Undo”."))
    some = None if any(line.cancelled for line in facts.lines) else NothingToDo(_("Nothing has been cancelled."))
    in_flight = CaptureUnderWay(remedy=_("Wait until it has ended.")) if facts.capture_in_flight else None
    return first(
        permitted(facts, actor, "orders.undo_cancellation"),
        waits if facts.order.undo_until else None,
        some,
        in_status(facts, *BEFORE_SHIPPING, Status.CANCELLED),
        in_flight,
    )


def take_back(facts: Facts, actor: Actor) -> Refused | None:
    nothing = (
        None
        if any(line.returnable for line in facts.lines)
        else NothingToDo(_("No shipped unit is left to come back."))
    )
    return first(permitted(facts, actor, "orders.return_order"), nothing)


def refund(facts: Facts, actor: Actor) -> Refused | None:
    nothing = None if facts.refundable > 0 else NothingToDo(_("No money is left to refund."))
    return first(permitted(facts, actor, "orders.refund_order"), nothing, not_disputed(facts))


def not_disputed(facts: Facts) -> Refused | None:
    """Money that a bank asks back goes nowhere else meanwhile; the gateway that took it refuses it by itself."""
    if not any(hold.kind == Hold.Kind.DISPUTE for hold in facts.holds):
        return None
    return MoneyDisputed(remedy=_("Wait for the end of the dispute, or release its hold."))


def place_hold(facts: Facts, actor: Actor) -> Refused | None:
    ended = None if facts.order.stage not in ENDED else WrongStatus(params={"status": facts.order.status_label})
    return first(permitted(facts, actor, "orders.hold_order"), ended)


def release_hold(facts: Facts, actor: Actor) -> Refused | None:
    return first(
        permitted(facts, actor, "orders.hold_order"),
        None if facts.holds else NothingToDo(_("The order is not on hold.")),
    )


def change_address(facts: Facts, actor: Actor) -> Refused | None:
    """Nobody changes the address of something that has left, or of an order that has ended."""
    gone = any(line.shipped for line in facts.lines) or facts.order.stage not in BEFORE_SHIPPING
    may = None if actor.is_customer else permitted(facts, actor, "orders.readdress_order")
    return first(may, AddressFixed() if gone else None)


def write_note(facts: Facts, actor: Actor) -> Refused | None:
    return permitted(facts, actor, "orders.note_order")
