"""Take a cancellation back: undo it while nothing has followed from it, reinstate units later."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inventory import services as inventory
from orders import rules
from orders.models import (
    Cancellation,
    CancellationRequest,
    Facts,
    JournalEntry,
    Order,
    PaymentEvent,
    ShippingEvent,
    Status,
)
from orders.processing.cancelling import finish_key, pending_of
from orders.processing.decision import Decision
from orders.processing.requesting import open_request_lines
from orders.processing.returning import StockRecordGone
from orders.processing.submitting import Submitting
from shop import jobs
from shop.errors import Refused
from shop.money import ZERO, rounded


class CannotUndo(Refused):
    code = "cannot_undo"
    message = _("The order was “%(status)s” before; there is no way back to that.")


class Reinstating(Submitting):
    def actions(self, *, number: str) -> tuple[Order, list[rules.Possible]]:
        """This will list every action on an order, allowed or not, why, until when, and up to how many units.

        Staff hear of the desk's actions, customers of theirs. Raises OrderNotFound.
        """
        order = self.order_of(number)
        facts = order.facts
        if self.actor.is_customer:
            found = rules.customer_actions(
                facts,
                pending=open_request_lines(order),
                policy=self.cancel_policy(order),
                as_of=self.as_of,
                actor=self.actor,
            )
        else:
            found = rules.staff_actions(
                facts, self.actor, as_of=self.as_of, needs_approval=lambda: self._needs_approval(facts)
            )
        return order, [self._or_shops_refusal(one, facts) for one in found]

    def _or_shops_refusal(self, one: rules.Possible, facts: Facts) -> rules.Possible:
        no = self.shops_refusal(one.name, facts) if one.is_allowed else None
        return one if no is None else replace(one, refusal=no, until=None, units={}, approval=False)

    def _needs_approval(self, facts: Facts) -> bool:
        return self.assess(facts, rules.plan_cancellation(facts), None).approval is not None

    def undo_cancellation(self, *, number: str, note: str = "", version: int | None = None) -> ShippingEvent:
        """This will undo a cancellation whose stock, money and messages still wait, as if it had not been.

        The order is where it was before. Locks the order. Raises Refused (nothing to undo, too late).
        """
        with self.decide(number, "undo_cancellation", version=version, note=note) as d:
            d.require(rules.undo(d.facts, self.actor, as_of=d.as_of) or self.why_not("undo", d.facts))
            row = pending_of(d.order)
            if row is None or row.event is None:
                raise rules.TooLateToUndo
            units = dict(row.event.line_quantities.values_list("line", "quantity"))
            event = d.shipping_event("reinstated", units, note=note, cause=f"undo:{row.pk}")
            d.change(undo_until=None)
            self._ask_again(d, units)
            if d.order.status == Status.CANCELLED:
                self._go_back(d, row.stage)
            row.status, row.undone_at, row.undone_by = Cancellation.Status.UNDONE, d.as_of, self.actor.name
            row.outcome = note
            row.save(update_fields=["status", "undone_at", "undone_by", "outcome"])
            jobs.call_off([finish_key(row)], note=str(_("Undone")))
            d.details["cancellation"] = str(row.uuid)
            self.give_back_surplus(d)  # of what came in while it was not clear what the order would cost
        return event

    def _ask_again(self, d: Decision, units: Mapping[int, int]) -> None:
        """Customers' requests that the cancellation had granted wait for an answer again."""
        status = CancellationRequest.Status
        granted = CancellationRequest.objects.filter(order=d.order, line__in=units, status=status.APPROVED)
        granted = granted.filter(cancellation_type=CancellationRequest.Type.CANCEL)
        granted.update(status=status.OPEN, decided_at=None, decided_by=None, decision_note="")

    def _go_back(self, d: Decision, stage: str) -> None:
        name = d.way_back(stage)
        if name is None:
            raise CannotUndo(params={"status": stage})
        d.go(name)

    def reinstate(
        self, *, number: str, lines: rules.Lines | None = None, note: str = "", version: int | None = None
    ) -> ShippingEvent:
        """This will take cancelled units (None: all) back into the order: their stock is allocated again, or refused.

        What was refunded for them has to be paid again: an order that was cancelled waits for its payment, whose
        deadline begins anew. The customer is told what to pay. Locks the order, stock records, then payments.
        Raises Refused: OutOfStock names what is missing.
        """
        with self.decide(number, "reinstate", version=version, note=note) as d:
            d.require(rules.reinstate(d.facts, self.actor) or self.why_not("reinstate", d.facts))
            chosen = rules.chosen_lines(d.facts, lines, lambda line: line.cancelled, verb=_("reinstate"))
            self._return_stock_first(d)
            event = d.shipping_event("reinstated", chosen, note=note)
            self._allocate_again(d, event, chosen)
            self._reopen_money(d, event, chosen)
            if d.order.status == Status.CANCELLED:
                d.change(payment_awaited_at=d.as_of)
                d.go("resume_payment_waiting")
            self._tell_what_to_pay(d, event, chosen)
        return event

    def _tell_what_to_pay(self, d: Decision, event: ShippingEvent, chosen: Mapping[int, int]) -> None:
        order, outstanding = d.order, rounded(d.facts.outstanding, d.order.currency)
        waits = outstanding and order.status == Status.PAYMENT_WAITING
        d.tell(
            "order_reinstated",
            cause=f"event:{event.pk}",
            units=chosen,
            whole=not any(line.cancelled for line in d.facts.lines),
            amount=outstanding,
            pay_by=timezone.localtime(order.unpaid_deadline).isoformat() if waits else "",
        )

    def _return_stock_first(self, d: Decision) -> None:
        """What workers have not put back yet is put back now, so that their job finds nothing to do later."""
        done = Cancellation.objects.filter(order=d.order, status=Cancellation.Status.DONE)
        for event_id in done.order_by("pk").values_list("event", flat=True):
            self.return_stock(event_id=event_id)
        d.reread("allocated")

    def _allocate_again(self, d: Decision, event: ShippingEvent, chosen: Mapping[int, int]) -> None:
        """Promise the units again, where they had been promised before."""
        moves = []
        for line_id, units in chosen.items():
            line = d.line(line_id)
            if not line.tracks_stock:
                continue
            if line.stock_record_id is None:
                raise StockRecordGone(params={"name": line.name})
            moves.append(inventory.Move(line.stock_record_id, units, f"reinstate:{event.pk}:{line_id}"))
            d.bump(line_id, "allocated", units)
        if moves:
            inventory.allocate(moves=moves, reference=d.number, actor_name=self.actor.name, as_of=d.as_of)

    def _reopen_money(self, d: Decision, event: ShippingEvent, chosen: Mapping[int, int]) -> None:
        """Units whose money went back are to be charged again, at what was given back for them (rules.reinstating)."""
        currency, units, back = d.order.currency, dict[int, tuple[int, Decimal]](), ZERO
        for line_id, count in chosen.items():
            line = d.line(line_id)
            again = max(0, min(count, line.refunded - line.returned))
            if not again:
                continue
            cost = line.price_of_next(again, after=line.paid - again, currency=currency)
            units[line_id] = again, cost
            back += line.price_of_next(again, after=line.refunded - again, currency=currency)
        given = given_back(d.order)
        if not units and not given.deposit:
            return
        counts = {line_id: count for line_id, (count, _cost) in units.items()}
        now = rules.reopen(d.facts, given, counts, worth=back, reprices=self.reprices(d.order))
        # A unit's share of the line depends on its place: what differs by a cent stays in `unapplied`, and is due too.
        amount = back + max(ZERO, -now.kept)
        d.payment_event("reopened", amount, units, shipping_event=event, unapplied=-now.kept)
        for line_id, (count, _cost) in units.items():
            for counter in ("charged", "paid", "refunded"):
                d.bump(line_id, counter, -count)
        if now.kept:
            d.change(adjustment_total=d.order.adjustment_total - now.kept)
        if now.repriced:
            d.change(repriced_total=d.order.repriced_total - now.repriced)
        if d.facts.due and not d.facts.outstanding:
            self.charge(d, rules.plan_payment(d.facts, None))


def given_back(order: Order) -> rules.GivenBack:
    """What was given back for an order's cancelled units, and not asked for again; read off its journal.

    Goods that came back are not among them: those do not come into the order again.
    """
    events = PaymentEvent.objects.filter(order=order, event_type__code="refunded")
    returned = set(events.filter(shipping_event__event_type__code="returned").values_list("pk", flat=True))
    return rules.GivenBack.of(_steps(order, returned), currency=order.currency)


def _steps(order: Order, returned: Collection[int]) -> Iterator[rules.MoneyStep]:
    before = ZERO
    for entry in JournalEntry.objects.filter(order=order).order_by("sequence"):
        repriced = Decimal(entry.after.get("repriced_total", before)) - before
        before += repriced
        records = [record for record in entry.details.get("events", []) if record.get("payment") not in returned]
        # What is tied to no unit, nor to money that covered none, was given on top.
        refunds = [r for r in records if r.get("type") == "refunded" and not r.get("kind")]
        again = [r for r in records if r.get("type") == "reopened"]
        if again:
            # What re-pricing no longer keeps stands beside what had been kept of the units themselves.
            used = repriced - sum((Decimal(r["unapplied"]) for r in again), ZERO)
            yield rules.MoneyStep(units=_units_of(again), again=True, used=used)
        if refunds:
            yield _step(refunds, repriced=ZERO if again else repriced)


def _step(refunds: Sequence[Mapping[str, Any]], *, repriced: Decimal) -> rules.MoneyStep:
    units = _units_of(refunds)
    worth = sum((cost for _count, cost in units.values()), ZERO)
    beside = sum((Decimal(r["unapplied"]) - Decimal(r["amount"]) for r in refunds), ZERO)
    return rules.MoneyStep(units=units, kept=max(ZERO, worth + beside - repriced))


def _units_of(records: Sequence[Mapping[str, Any]]) -> dict[int, tuple[int, Decimal]]:
    units: dict[int, tuple[int, Decimal]] = {}
    for record in records:
        for line_id, (count, cost) in record["units"].items():
            so_far, worth = units.get(int(line_id), (0, ZERO))
            units[int(line_id)] = so_far + count, worth + Decimal(cost)
    return units
