"""Decision: one locked order, what is decided about it, and everything that is written for it at the end.

    with self.decide(number, "ship") as d:
        d.shipping_event("shipped", {line_id: units})
        d.tell("order_shipped", cause=…)

The order row is locked before its facts are read. On leaving the block the statuses advance, and counters, status
changes and the journal entry are written in a fixed number of statements; anything raised inside undoes all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications import services as notifications
from orders.models import (
    CancellationReason,
    CancellationRequest,
    CommunicationEvent,
    Facts,
    InvalidOrderStatus,
    JournalEntry,
    Order,
    OrderLine,
    OrderNotFound,
    OrderQuerySet,
    OrderStatusChange,
    PaymentEvent,
    PaymentEventQuantity,
    PaymentEventType,
    ShippingEvent,
    ShippingEventQuantity,
    ShippingEventType,
    as_json,
    rules_of,
)
from orders.processing.letters import order_context
from orders.processing.webhooks import tell_webhooks
from orders.signals import order_status_changed, payment_event_created, shipping_event_created
from payments.models import Refund, Transaction
from shop import jobs
from shop.actors import STAFF, Actor
from shop.errors import Refused, Words
from shop.money import ZERO
from shop.together import insert, recall, remember, update

MAX_HOPS = 10

# What a shipping event does to a line's counters: which one, by how much for each unit.
MOVES: dict[str, tuple[str, int]] = {
    "shipped": ("shipped", 1),
    "delivered": ("delivered", 1),
    "cancelled": ("cancelled", 1),
    "returned": ("returned", 1),
    "reinstated": ("cancelled", -1),
}

VERBS: dict[str, Words] = {
    "place": _("placed the order"),
    "approve": _("approved the order"),
    "start_preparing": _("started preparing"),
    "ready_for_pickup": _("made the order ready for pickup"),
    "ship": _("shipped goods"),
    "deliver": _("marked goods as delivered"),
    "cancel": _("cancelled units"),
    "ask_approval": _("asked for approval of a cancellation"),
    "ask_refund": _("asked for approval of a refund"),
    "reject_refund": _("rejected a refund"),
    "withdraw_refund": _("withdrew a refund"),
    "approve_cancellation": _("approved a cancellation"),
    "reject_cancellation": _("rejected a cancellation"),
    "withdraw_cancellation": _("withdrew a cancellation"),
    "queue_cancellation": _("asked to cancel during maintenance"),
    "finish_cancellation": _("completed a cancellation"),
    "undo_cancellation": _("undid a cancellation"),
    "reinstate": _("reinstated units"),
    "take_back": _("took back goods"),
    "take_payment": _("took payment"),
    "record_payment": _("recorded a payment"),
    "refund": _("refunded money"),
    "issue_invoice": _("issued an invoice"),
    "issue_documents": _("issued the documents of a refund"),
    "payment_changed": _("heard from the payment gateway"),
    "dispute_changed": _("heard of a dispute"),
    "retry_payment": _("tried to pay again"),
    "place_hold": _("put the order on hold"),
    "release_hold": _("released a hold"),
    "change_address": _("changed the address"),
    "request_cancellation": _("asked to cancel"),
    "ask_management": _("had the order management system asked"),
    "hear_management": _("heard from the order management system"),
    "ask_address": _("asked for another address"),
    "reject_address": _("rejected another address"),
    "decide_request": _("answered a cancellation request"),
    "close_request": _("closed a customer's request"),
    "receive_return": _("received a return"),
    "withdraw": _("withdrew from the contract"),
    "inspect_return": _("inspected a return"),
    "write_note": _("wrote a note"),
    "start_recurring": _("made the order a recurring one"),
    "end_recurring": _("ended the recurring order"),
    "change_status": _("changed the status"),
    "shipping_event": _("recorded a shipping event"),
    "payment_event": _("recorded a payment event"),
    "communication_event": _("recorded a message"),
    "consume_stock": _("took goods off the shelf"),
    "release_stock": _("released goods"),
}


class OrderChanged(Refused):
    """The form or call was made against an older version of the order."""

    code = "order_changed"
    message = _("%(who)s %(what)s at %(when)s, while you were looking at the order. Look again before you go on.")


class TransitionLoop(RuntimeError):
    """The workflows of ORDER_WORKFLOWS send an order round in circles."""


class Decision:
    """See the module's docstring. Made by EventHandler.decide only."""

    def __init__(self, *, number: str, actor: Actor, verb: str, as_of: datetime, version: int | None = None) -> None:
        """Lock the order and read its facts: five queries. Raises OrderNotFound, OrderChanged."""
        read: ReadAhead | None = recall((Order, number), once=True)
        if read is None:
            order = locked_orders(actor).select_related("store").filter(**Order.resolve_number(number)).first()
            if order is None:
                raise OrderNotFound
        else:
            order = read.order
        if version is not None and version != order.version:
            raise changed_since(order, version, actor=actor)
        self._read = read
        self.order: Order = order
        self.actor, self.verb, self.as_of = actor, verb, as_of
        self.facts = order.facts = Facts.of(order) if read is None else read.facts
        self.reason = ""
        self.note = ""
        self.details: dict[str, Any] = {}
        self._start(status=order.status)

    @classmethod
    def on_new_order(cls, order: Order, lines: list[OrderLine], *, actor: Actor, as_of: datetime) -> Decision:
        """The decision that places an order; its rows are new, so there is nothing to lock or read."""
        decision = cls.__new__(cls)
        decision.order, decision.actor, decision.verb, decision.as_of = order, actor, "place", as_of
        decision._read = None
        decision.facts = order.facts = Facts(order, lines, [], [])
        decision.reason = decision.note = ""
        decision.details = {}
        decision._start(status=order.status)
        return decision

    def _start(self, *, status: str) -> None:
        self._before_status = status
        self._hops: list[tuple[str, str, str]] = []
        self._counters: set[str] = set()
        self._before_units = {line.pk: {c: getattr(line, c) for c in OrderLine.COUNTERS} for line in self.facts.lines}
        self._letters: list[tuple[str, str, dict[str, Any]]] = []
        self._before_fields: dict[str, str | None] = {}
        self._after_commit: list[Callable[[], object]] = []
        self._shipping_events: list[ShippingEvent] = []
        # Money that nothing needed before; what comes free beyond that goes back with the units.
        self.left_over = self.facts.left_over
        # A worker's follow-up that finds nothing to do leaves no journal entry.
        self.only_if_changed = False

    @property
    def number(self) -> str:
        return self.order.number or ""

    # --- what is decided ------------------------------------------------------------------------------------------

    def require(self, refusal: Refused | None) -> None:
        if refusal is not None:
            raise refusal

    def bump(self, line_id: int, counter: str, by: int) -> None:
        """Move a line's counter; the database's CHECKs bound it whatever the code thinks."""
        line = self.line(line_id)
        setattr(line, counter, getattr(line, counter) + by)
        self._counters.add(counter)

    def line(self, line_id: int) -> OrderLine:
        line = self.facts.line(line_id)
        if line is None:
            raise LookupError(f"line {line_id} is not of order {self.order}")
        return line

    def reread(self, counter: str) -> None:
        """Take a counter as it is stored by now: a service has moved it in this transaction, beside the decision."""
        stored = dict(OrderLine.objects.filter(order=self.order).values_list("pk", counter))
        for line in self.facts.lines:
            setattr(line, counter, stored[line.pk])
            self._before_units[line.pk][counter] = stored[line.pk]

    def change(self, **fields: Any) -> None:
        """Set fields of the order; they are written at the end and stand in the journal, before and after."""
        for name, value in fields.items():
            self._before_fields.setdefault(name, journal_value(self.order, name))
            setattr(self.order, name, value)

    def go(self, transition: str) -> None:
        """Make one transition of the status. Raises InvalidOrderStatus when its guard says no."""
        old = self.order.status
        method = getattr(self.order, transition, None)
        if method is None or transition not in {t.name for t in self.order.get_available_status_transitions()}:
            raise InvalidOrderStatus(params={"new": transition, "number": self.order.number, "current": old})
        method()
        self._hops.append((old, self.order.status, transition))

    def way_back(self, status: str) -> str | None:
        """The transition that brings the order back to a status; to a shop's own, else to the one it stands in for."""
        possible = {t.name for t in self.order.get_available_status_transitions()}
        names = (f"resume_{status}", f"resume_{rules_of(status)}")
        return next((name for name in names if name in possible), None)

    def advance(self) -> None:
        """Make every transition that happens by itself, one after the other."""
        for _hop in range(MAX_HOPS):
            following = (t for t in self.order.get_available_status_transitions() if t.custom.get("auto"))
            transition = next(following, None)
            if transition is None:
                return
            self.go(transition.name)
        raise TransitionLoop(f"order {self.order} makes more than {MAX_HOPS} automatic transitions in a row")

    def shipping_event(
        self,
        code: str,
        units: Mapping[int, int],
        *,
        restock: Mapping[int, int] | None = None,
        dispositions: Mapping[int, str] | None = None,
        reason: CancellationReason | None = None,
        cause: str | None = None,
        **fields: str,
    ) -> ShippingEvent:
        """Record what happened to units and move their counters. fields: note, carrier, tracking_number …"""
        event_type = type_of_event(ShippingEventType, code)
        event = ShippingEvent(event_type=event_type, reason=reason, cause=cause, **self._by(), **fields)
        insert([event])
        quantities = [
            ShippingEventQuantity(
                event=event,
                line_id=line_id,
                quantity=count,
                restock=(restock or {}).get(line_id, 0),
                disposition=(dispositions or {}).get(line_id, ""),
            )
            for line_id, count in units.items()
        ]
        insert(quantities)
        if code in MOVES:
            counter, by = MOVES[code]
            for line_id, count in units.items():
                self.bump(line_id, counter, by * count)
                if code == "delivered":
                    self.line(line_id).delivered_at = self.as_of
                    self._counters.add("delivered_at")
        self.details.setdefault("events", []).append(shipping_record(event, quantities))
        self._shipping_events.append(event)
        self._after_commit.append(partial(self._send, shipping_event_created, event=event))
        return event

    def payment_event(
        self,
        code: str,
        amount: Decimal,
        units: Mapping[int, tuple[int, Decimal]] | None = None,
        *,
        transactions: list[Transaction] | None = None,
        refund: Refund | None = None,
        shipping_event: ShippingEvent | None = None,
        deduction: Decimal = ZERO,
        unapplied: Decimal = ZERO,
        cause: str | None = None,
        reference: str = "",
        note: str = "",
        refund_kind: str = "",
        destination: str = "",
    ) -> PaymentEvent:
        """Record money asked for, received or sent back.

        units        line id → (units, what they cost)
        unapplied    what of a refund gives back money that covered no unit
        refund_kind  of a refund that is tied to no unit: what it is for; destination: where it goes, if not back
        """
        event_type = type_of_event(PaymentEventType, code)
        event = PaymentEvent(
            event_type=event_type,
            amount=amount,
            currency=self.order.currency,
            deduction=deduction,
            refund=refund,
            shipping_event=shipping_event,
            cause=cause,
            reference=reference,
            note=note,
            refund_kind=refund_kind,
            destination=destination,
            **self._by(),
        )
        insert([event])
        insert(
            PaymentEventQuantity(event=event, line_id=line_id, quantity=count, amount=cost)
            for line_id, (count, cost) in (units or {}).items()
        )
        self.connect(event, transactions or [])
        self.details.setdefault("events", []).append(payment_record(event, units or {}, unapplied))
        self._after_commit.append(partial(self._send, payment_event_created, event=event))
        return event

    def connect(self, event: PaymentEvent, transactions: Iterable[Transaction]) -> None:
        """Point a payment event that was just written at what it caused."""
        through = PaymentEvent.transactions.through
        insert(through(paymentevent=event, transaction=transaction) for transaction in transactions)

    def open_requests(self) -> list[CancellationRequest]:
        """Customers' requests that wait for an answer, locked."""
        if self._read is not None:
            return self._read.requests
        return list(open_requests([self.order]))

    def tell(self, event: str, *, cause: str, **extra: Any) -> None:
        """Promise the customer a message; the same event and cause is one message."""
        self._letters.append((event, cause, extra))

    def promise(self, kind: str, *, key: str, args: dict[str, Any], run_at: datetime | None = None) -> None:
        """Promise a job about this order; run_at: not before, default at once."""
        jobs.enqueue(kind, key=key, args=args, reference=self.number, store_id=self.order.store_id, run_at=run_at)

    # --- what is written ------------------------------------------------------------------------------------------

    def finish(self) -> JournalEntry | None:
        """Advance the status, then write counters, order, status changes, letters and the journal entry."""
        self.advance()
        changed = self._hops or self._counters or self._letters or self._before_fields or "events" in self.details
        if self.only_if_changed and not changed:
            return None
        self._write_lines()
        self._write_letters()
        entry = self._write_journal()
        tell_webhooks(self.order, self.facts, entry, parcels=self._shipping_events)
        insert(
            OrderStatusChange(old_status=old, new_status=new, transition=name, **self._by())
            for old, new, name in self._hops
        )
        for old, new, _name in self._hops:
            self._after_commit.append(partial(self._send, order_status_changed, old_status=old, new_status=new))
        for call in self._after_commit:
            transaction.on_commit(call, robust=True)
        return entry

    def _write_lines(self) -> None:
        """Counters and statuses of all lines in one statement."""
        lines, fields = self.facts.lines, set(self._counters)
        for line in lines:
            status = line.status_from_units(self.order.status)
            if status != line.status:
                line.status = status
                fields.add("status")
        update(lines, fields)

    def _write_letters(self) -> None:
        order = self.order
        if not order.email:
            return
        for event, cause, extra in self._letters:
            message = notifications.queue_message(
                event=event,
                cause=f"{order.number}:{cause}",
                reference=order.number or "",
                store_id=order.store_id,
                recipient=order.email,
                language=order.language,
                context=order_context(order, self.facts, **extra),
            )
            if message is not None:
                by = {**self._by(), "event_type": event, "message": message}
                insert([CommunicationEvent(**by)], ignore_conflicts=True)

    def _write_journal(self) -> JournalEntry:
        order = self.order
        if self._read is not None:
            previous = self._read.latest_hash
        else:
            previous = dict(latest_hashes([order])).get(order.pk, "")
        before, after = self._changes()
        entry = JournalEntry(
            order=order,
            sequence=order.version + 1,
            at=self.as_of,
            actor_kind=self.actor.kind,
            actor_name=self.actor.name,
            user_id=self.actor.user_id,
            verb=self.verb,
            reason=self.reason,
            note=self.note,
            before=before,
            after=after,
            details=as_json(self.details),
            previous_hash=previous,
        )
        entry.hash = entry.compute_hash()
        insert([entry])
        order.version = entry.sequence
        update([order], ["version", "status", "updated_at", *self._before_fields])
        return entry

    def _changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Before and after, of what changed only."""
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        if self._before_status != self.order.status:
            before["status"], after["status"] = self._before_status, self.order.status
        for name, value in self._before_fields.items():
            before[name], after[name] = value, journal_value(self.order, name)
        for line in self.facts.lines:
            was = self._before_units.get(line.pk, {})
            changed = [c for c in OrderLine.COUNTERS if was.get(c, 0) != getattr(line, c)]
            if changed:
                before.setdefault("lines", {})[str(line.pk)] = {c: was.get(c, 0) for c in changed}
                after.setdefault("lines", {})[str(line.pk)] = {c: getattr(line, c) for c in changed}
        return before, after

    def _by(self) -> dict[str, Any]:
        actor = self.actor
        return {
            "order": self.order,
            "created_at": self.as_of,
            "actor_kind": actor.kind,
            "actor_name": actor.name,
            "user": actor.user,
        }

    def _send(self, signal: Any, **kwargs: Any) -> None:
        signal.send_robust(sender=Order, order=self.order, actor=self.actor, **kwargs)


@dataclass(slots=True)
class ReadAhead:
    """What a decision looks at, read for many orders at once (see batch.py): the order and its requests are locked."""

    order: Order
    facts: Facts
    latest_hash: str
    requests: list[CancellationRequest]


def locked_orders(actor: Actor) -> OrderQuerySet:
    """The orders that an actor may know of, to be locked.

    Their store may be joined, their addresses not: joined to a row that another transaction changed while this one
    waited, PostgreSQL would give the new row with the old join.
    """
    rows: OrderQuerySet = Order.objects.of(actor).select_for_update(no_key=True, of=("self",))
    return rows


def latest_hashes(orders: Sequence[Order]) -> Iterable[tuple[int, str]]:
    """Order id and the hash of its latest journal entry; the orders are locked."""
    rows = JournalEntry.objects.filter(order__in=orders, sequence=F("order__version"))
    return rows.values_list("order_id", "hash")


def open_requests(orders: Sequence[Order]) -> Iterable[CancellationRequest]:
    """Requests of the orders' customers that wait for an answer, to be locked in pk order."""
    rows = CancellationRequest.objects.filter(order__in=orders).exclude(status__in=CancellationRequest.ENDED)
    return rows.select_for_update(no_key=True).order_by("pk")


T = TypeVar("T", ShippingEventType, PaymentEventType)


def type_of_event(model: type[T], code: str) -> T:
    """The row of a type; a code that is new becomes one."""
    row: T | None = recall((model, code))
    if row is None:
        row, _new = model._default_manager.get_or_create(code=code, defaults={"name": code.replace("_", " ")})
        remember((model, code), row)
    return row


def journal_value(order: Order, name: str) -> str | None:
    """A field as the journal keeps it: an amount, a time, or the id of what it points at; None where there is none.

    Older entries have the word "None" for it, and keep it: their hashes cover it.
    """
    value = getattr(order, name)
    return None if value is None else str(getattr(value, "pk", value))


def shipping_record(event: ShippingEvent, quantities: Iterable[ShippingEventQuantity]) -> dict[str, Any]:
    """A shipping event as the journal keeps it, with what goes back to stock."""
    return {
        "shipping": event.pk,
        "type": event.event_type.code,
        "units": {str(q.line_id): q.quantity for q in quantities},
        "stock": {str(q.line_id): [q.restock, q.disposition] for q in quantities if q.restock or q.disposition},
    }


def payment_record(
    event: PaymentEvent, units: Mapping[int, tuple[int, Decimal]], unapplied: Decimal = ZERO
) -> dict[str, Any]:
    """A payment event as the journal keeps it: by its hashes, none of the event's numbers can change unseen."""
    said = {"kind": event.refund_kind, "destination": event.destination}
    return {
        **{name: value for name, value in said.items() if value},
        "payment": event.pk,
        "type": event.event_type.code,
        "amount": f"{event.amount:.3f}",
        "kept": f"{event.deduction:.3f}",
        "unapplied": f"{unapplied:.3f}",
        "units": {str(line_id): [count, f"{cost:.3f}"] for line_id, (count, cost) in sorted(units.items())},
    }


def changed_since(order: Order, version: int, *, actor: Actor) -> OrderChanged:
    """Tell who did what since the version that somebody has before them; to customers, it was the shop."""
    since = list(JournalEntry.objects.filter(order=order, sequence__gt=version).order_by("-sequence")[:20])
    if not since:
        return OrderChanged(_("This page does not belong to the order as it is now. Look again before you go on."))
    latest = since[0]
    words: Words = VERBS.get(latest.verb, latest.verb)
    who = order.store.name if actor.is_customer and latest.actor_kind == STAFF else latest.actor_name
    params = {"who": who, "what": words, "when": latest.at.strftime("%H:%M:%S UTC")}
    more = len(since) - 1
    told = OrderChanged(params=params)
    if more:
        told.remedy = ngettext("There was %(n)d more change.", "There were %(n)d more changes.", more) % {"n": more}
    return told
