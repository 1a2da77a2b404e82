"""Every action there is, with what it takes: one list for the API's answers, on the guards that the buttons ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from django.utils.translation import gettext_lazy as _

from orders.models import Facts, OrderLine
from orders.rules import guards
from orders.rules.customers import Policy, verdict
from orders.rules.documents import issue_invoice
from orders.rules.recurring import repeat
from orders.rules.steps import own_steps
from shop.actors import Actor
from shop.errors import Refused, Words


@dataclass(frozen=True, slots=True)
class Possible:
    """One action on one order, for one person.

    refusal   why not, or None: its words, its remedy (what would make it possible) and its deadline
    until     until when it is possible, where time decides
    units     line id → how many units at the most, where it is done to units; lines without any are left out
    approval  True: somebody else has to agree first
    direct    False: it is not done at once, a person decides
    """

    name: str
    label: Words
    refusal: Refused | None
    until: datetime | None = None
    units: Mapping[int, int] = field(default_factory=dict)
    approval: bool = False
    direct: bool = True

    @property
    def is_allowed(self) -> bool:
        return self.refusal is None


Guard = Callable[[Facts, Actor], Refused | None]
Units = Callable[[Facts], Callable[[OrderLine], int]]


def _each(units: Callable[[OrderLine], int]) -> Units:
    return lambda facts: units


def _repeat(facts: Facts, actor: Actor) -> Refused | None:
    left = any(line.quantity > line.cancelled for line in facts.lines)
    words = _("All of this order was cancelled: there is nothing to repeat.")
    return guards.first(
        guards.permitted(facts, actor, "orders.manage_recurring"),
        repeat(facts.order),
        None if left else guards.NothingToDo(words, code="nothing_left"),
    )


# name (as in the addresses of the desk's pages) → label, guard, how many units of a line
STAFF: dict[str, tuple[Words, Guard, Units | None]] = {
    "approve": (_("Approve"), guards.approve, None),
    "start-preparing": (_("Start preparing"), guards.start_preparing, None),
    "ready-for-pickup": (_("Ready for pickup"), guards.ready_for_pickup, None),
    "take-payment": (_("Take payment"), guards.take_payment, _each(lambda line: line.chargeable)),
    "record-payment": (_("Record payment"), guards.record_payment, None),
    "record-surplus": (_("Record unexpected payment"), partial(guards.record_payment, surplus=True), None),
    "issue-invoice": (_("Issue invoice"), issue_invoice, None),
    "hand-over": (_("Handed over"), guards.ship, guards.shippable_units),
    "ship": (_("Ship"), guards.ship, guards.shippable_units),
    "deliver": (_("Delivered"), guards.deliver, _each(lambda line: line.on_the_way)),
    "cancel": (_("Cancel"), guards.cancel, _each(lambda line: line.open)),
    "complete-now": (_("Complete now"), guards.complete_now, None),
    "reinstate": (_("Reinstate"), guards.reinstate, _each(lambda line: line.cancelled)),
    "take-back": (_("Take back"), guards.take_back, _each(lambda line: line.returnable)),
    "refund": (_("Refund"), guards.refund, None),
    "hold": (_("Hold"), guards.place_hold, None),
    "release-hold": (_("Release hold"), guards.release_hold, None),
    "change-address": (_("Change address"), guards.change_address, None),
    "repeat": (_("Repeat this order"), _repeat, None),
    "note": (_("Write a note"), guards.write_note, None),
}


def staff_actions(facts: Facts, actor: Actor, *, as_of: datetime, needs_approval: Callable[[], bool]) -> list[Possible]:
    """This will list every action of staff on an order, allowed or not.

    needs_approval  whether cancelling all of it needs somebody's agreement; asked only where it is possible
    """
    found = []
    for name, (label, guard, units) in STAFF.items():
        no = guard(facts, actor)
        rooms = _rooms(facts, units) if units is not None and no is None else {}
        approval = name == "cancel" and no is None and needs_approval()
        found.append(Possible(name, label, no, units=rooms, approval=approval))
    found += [Possible(step.action, step.label, step.refusal(facts, actor)) for step in own_steps()]
    no = guards.undo(facts, actor, as_of=as_of)
    until = facts.order.undo_until if no is None else None
    found.append(Possible("undo", _("Undo the cancellation"), no, until=until))
    return found


def _rooms(facts: Facts, units: Units) -> dict[int, int]:
    of_line = units(facts)
    return {line.pk: room for line in facts.lines if (room := of_line(line)) > 0}


def customer_actions(
    facts: Facts, *, pending: frozenset[int], policy: Policy, as_of: datetime, actor: Actor
) -> list[Possible]:
    """This will list what a customer can ask for: cancel, send back, change the address; allowed or not."""
    open_units = {line.pk: line.open for line in facts.lines if line.open}
    shipped = {line.pk: line.returnable for line in facts.lines if line.returnable}
    asked = open_units or {line.pk: 1 for line in facts.lines}
    cancel = verdict(facts, cancel=asked, back={}, pending=pending, policy=policy, as_of=as_of)
    limit = policy.expires_after
    until = facts.order.placed_at + limit if limit is not None and cancel.refusal is None else None
    sent = shipped or {line.pk: 1 for line in facts.lines}
    no = verdict(facts, cancel={}, back=sent, pending=pending, policy=policy, as_of=as_of).refusal
    return [
        Possible(
            "cancel",
            _("Cancel"),
            cancel.refusal,
            until=until,
            units=open_units if cancel.refusal is None else {},
            direct=cancel.is_direct,
        ),
        Possible("return", _("Send back"), no, units=shipped if no is None else {}, direct=False),
        Possible("change-address", _("Change address"), guards.change_address(facts, actor)),
    ]
