"""Cancelling with an order management system outside: it is asked between two transactions, or told afterwards.

    cancel_or_ask   first transaction: the rules say yes, the call is written, its units are withheld
    (a job)         asks, with no transaction open: the door does it at once, a worker goes on if the door died
    hear            second transaction: the units are cancelled, or requests are made for a person

Its later answers, by notice or look-up, come to `hear` as well: in any order, each as often as it likes. What happens
with no transaction open stands in calls.py.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from orders import rules
from orders.gateways import ABSENT, ACCEPTED, DONE, REFUSED, UNKNOWN, Reply, get_order_management
from orders.models import (
    Cancellation,
    CancellationReason,
    CancellationRequest,
    ExternalCall,
    Facts,
    Order,
    OrderStatusChange,
    Status,
)
from orders.processing.calls import (
    CALL,
    CONFLICT,
    S,
    asker_of,
    call_key,
    head_start,
    look_up_later,
    open_question,
    open_questions,
    status_of_report,
    wishes_of,
)
from orders.processing.cancelling import Choices
from orders.processing.decision import Decision
from orders.processing.requesting import NO_TERMS, POINTS, Requesting, Terms, Wish, open_request_lines
from shop import jobs, maintenance
from shop.errors import Refused
from shop.together import atomic, insert, remember

# A yes is looked at once more, so that one that was not meant is noticed.
CHECK_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a customer's wish: cancelled at once, requests, or a call whose answer is awaited."""

    requests: list[CancellationRequest] = field(default_factory=list)
    call: ExternalCall | None = None


class External(Requesting):
    # The request of a door that may wait for the other system's answer; "" where nobody waits.
    _cause = ""
    _call: ExternalCall | None = None
    # The call whose answer is being worked off: nobody has to be asked or told.
    _hearing: ExternalCall | None = None
    _from_outside = False
    _after: ExternalCall | None = None

    # --- the first transaction ------------------------------------------------------------------------------------

    def cancel_or_ask(
        self,
        *,
        number: str,
        wishes: list[Wish],
        cause: str,
        plan: rules.Plan | None = None,
        terms: Terms = NO_TERMS,
    ) -> Asked:
        """This will do as `cancel_or_request`; where another system has to agree first, it is about to be asked.

        cause  names the request; the same again finds the call that the first one has made
        Then `wait_for` has the answer, outside of any transaction.
        """
        if get_order_management().is_outside and maintenance.current() is None:
            if (before := ExternalCall.objects.filter(cause=cause).first()) is not None:
                return Asked(call=before)
            self._cause = cause
        requests = self.cancel_or_request(number=number, wishes=wishes, plan=plan, terms=terms)
        return Asked(requests, self._call)

    def cancel_at_once(
        self, d: Decision, wishes: list[Wish], *, plan: rules.Plan | None, terms: Terms, note: str
    ) -> None:
        if not self._cause:
            super().cancel_at_once(d, wishes, plan=plan, terms=terms, note=note)
            return
        undecided = ExternalCall.objects.filter(order=d.order, kind=ExternalCall.Kind.CANCEL, status=S.ASKED)
        if undecided.filter(origin=ExternalCall.Origin.CUSTOMER).exists():
            raise rules.CancelRefused(rules.CANCELLATION_IN_PROGRESS, code="cancellation_in_progress")
        units = {wish.line_id: wish.units or 0 for wish in wishes}
        to = self.going_to(d.order, POINTS if terms.as_points else "")
        now = self.planned(d.facts, Choices(lines=units, reason=wishes[0].reason, note=note, destination=to))
        if plan is not None and plan != now:
            raise rules.plan_changed(plan, now)
        self._call = self._write_call(d, wishes, terms, note)
        for line_id, count in units.items():
            d.bump(line_id, "withheld", count)
        self._await_what_is_withheld(d)
        d.verb, d.reason = "ask_management", wishes[0].reason.code
        d.details["call"] = str(self._call.uuid)

    def _write_call(self, d: Decision, wishes: list[Wish], terms: Terms, note: str) -> ExternalCall:
        call = ExternalCall(
            order=d.order,
            kind=ExternalCall.Kind.CANCEL,
            origin=ExternalCall.Origin.CUSTOMER,
            cause=self._cause,
            units={str(wish.line_id): wish.units for wish in wishes},
            wishes=[
                {"line": w.line_id, "units": w.units, "reason": w.reason.pk, "description": w.description}
                for w in wishes
            ],
            pictures=[
                [[base64.b64encode(p.content).decode(), p.width, p.height] for p in wish.pictures] for wish in wishes
            ],
            reason=wishes[0].reason.code,
            as_points=terms.as_points,
            note=note,
            **self.asked_by(d),
        )
        call.save(force_insert=True)
        self.promise_call(d, call, wait=True)
        return call

    def asked_by(self, d: Decision) -> dict[str, Any]:
        return {
            "actor_kind": self.actor.kind,
            "actor_name": self.actor.name,
            "user": self.user,
            "created_at": d.as_of,
        }

    def promise_call(self, d: Decision, call: ExternalCall, *, wait: bool) -> None:
        """wait: a door asks at once; a worker only once that door must have died."""
        run_at = timezone.now() + head_start() if wait else None
        d.promise(CALL, key=call_key(call), args={"call": str(call.uuid)}, run_at=run_at)

    # --- the second transaction -----------------------------------------------------------------------------------

    def hear(self, *, call: str, reply: Reply) -> ExternalCall:
        """This will work off what is known of a call by now: what it settles is done, what it repeats is not.

        Locks the order, then the call. Called by workers, with the handler of the one who asked (`asker_of`).
        """
        self._may_go_on = True  # maintenance stops people, not answers
        number = ExternalCall.objects.values_list("order__number", flat=True).get(uuid=call)
        with self.decide(number or "", "hear_management") as d:
            d.only_if_changed = True
            row = ExternalCall.objects.select_for_update(no_key=True).get(uuid=call)
            row.order, before = d.order, row.status
            row.http_status, row.answered_at = reply.status or row.http_status, d.as_of
            row.reply = reply.words or ("" if reply.state == DONE else row.reply)
            self._hearing = row
            try:
                if row.kind == ExternalCall.Kind.ADDRESS:
                    self.hear_address(d, row, reply)
                elif row.origin == ExternalCall.Origin.DESK:
                    row.status = status_of_report(row.status, reply)
                else:
                    self._hear_cancel(d, row, reply)
            finally:
                self._hearing = None
            self._note_status(d, row, before, reply)
        return row

    def hear_address(self, d: Decision, row: ExternalCall, reply: Reply) -> None:
        """The same for an address: see readdressing.py."""
        raise NotImplementedError

    def _note_status(self, d: Decision, row: ExternalCall, before: str, reply: Reply) -> None:
        if row.status != before:
            row.settled_at = d.as_of if row.is_decided else None
            d.details["call"] = {"uuid": str(row.uuid), "before": before, "after": row.status}
        if row.status not in ExternalCall.HOLDING:
            row.pictures = []
        row.save()
        if row.is_decided and (row.status != S.REFUSED or row.origin == ExternalCall.Origin.CUSTOMER):
            jobs.call_off([call_key(row)], note=_("Their answer came by itself."))
        if row.status == S.DONE and before in {S.ASKED, S.UNKNOWN} and reply.status is not None:
            look_up_later(row, at=d.as_of + CHECK_AFTER, once="check")

    def _hear_cancel(self, d: Decision, row: ExternalCall, reply: Reply) -> None:
        state, before = reply.state, row.status
        if before in ExternalCall.HOLDING:
            if state == DONE:
                self._confirmed(d, row)
            elif state == ACCEPTED:
                row.status = S.ACCEPTED
            elif before == S.ASKED or state in {REFUSED, ABSENT}:
                self._fall_back(d, row, reply)
        elif before in {S.UNKNOWN, S.FAILED, S.REFUSED}:
            if state == DONE:
                self._confirmed_late(d, row)
            elif before == S.UNKNOWN and state in {REFUSED, ABSENT}:
                row.status = S.REFUSED if state == REFUSED else S.FAILED
        elif before == S.DONE and state in {REFUSED, ABSENT}:
            self.dispute(d, row, _("They said that it was cancelled, and now that it is not."))

    def _confirmed(self, d: Decision, row: ExternalCall) -> None:
        """They have cancelled it, as it was asked: so do we."""
        self._let_go(d, row)
        row.status = S.DONE
        d.verb, d.note = "cancel", row.note
        self._cancel_as_asked(d, row, row.lines)

    def _cancel_as_asked(self, d: Decision, row: ExternalCall, units: Mapping[int, int]) -> None:
        reason = CancellationReason.objects.filter(pk=row.wishes[0]["reason"]).first()
        to = POINTS if self._as_points(d, row) else ""
        self.cancel(number=d.number, lines=dict(units), reason=reason, note=row.note, destination=to)

    def _as_points(self, d: Decision, row: ExternalCall) -> bool:
        """Whether the customer gets points, as they wished: it must still be possible, for the answer counts anyhow."""
        if not row.as_points:
            return False
        try:
            self.going_to(d.order, POINTS)
        except Refused:
            return False
        return True

    def _fall_back(self, d: Decision, row: ExternalCall, reply: Reply) -> None:
        """They did not, or nobody knows: a person decides, and the customer is told so."""
        self._let_go(d, row)
        if d.order.status == Status.CANCELLATION_WAITING and (back := d.way_back(stage_of(d))) is not None:
            d.go(back)
        row.status = {REFUSED: S.REFUSED, UNKNOWN: S.UNKNOWN}.get(reply.state, S.FAILED)
        d.verb, terms = "request_cancellation", Terms(as_points=self._as_points(d, row))
        busy = open_request_lines(d.order)  # sent back or withdrawn from, meanwhile
        wishes = [wish for wish in wishes_of(row) if wish.line_id not in busy]
        if len(wishes) < len(row.wishes):
            self.tell_inbox(d, row, _("The customer wants a line cancelled that has another open request by now."))
        if wishes:
            made = self.request_cancellation(number=d.number, wishes=wishes, terms=terms, note=row.note)
            row.requests = [request.pk for request in made]

    def _let_go(self, d: Decision, row: ExternalCall) -> None:
        for line_id, count in row.lines.items():
            d.bump(line_id, "withheld", -count)

    def _confirmed_late(self, d: Decision, row: ExternalCall) -> None:
        """It turns out that they have cancelled it; what customers' requests still wait for is done, and nothing else.

        What a person has decided meanwhile stands; where the two differ, the inbox says so.
        """
        row.status = S.DONE
        requests = list(CancellationRequest.objects.select_for_update(no_key=True).filter(pk__in=row.requests))
        units: dict[int, int] = {}
        differs = False
        for request in requests:
            line = d.line(request.line_id)
            if request.status in CancellationRequest.UNDECIDED:
                units[line.pk] = min(request.quantity, line.open)
                differs = differs or line.open < request.quantity
            elif request.status == CancellationRequest.Status.REJECTED:
                differs = True
        units = {pk: count for pk, count in units.items() if count}
        if any(request.status == CancellationRequest.Status.APPROVED for request in requests):
            self._finish_what_waits(d)  # granted, and not to be undone over there
        if units:
            d.verb, d.note = "cancel", row.note
            self._cancel_as_asked(d, row, units)
        self._leave_out(row, {pk: count - units.get(pk, 0) for pk, count in row.lines.items()})
        if differs:
            words = _("They have cancelled units that the desk has shipped, or has declined to cancel, meanwhile.")
            self.tell_inbox(d, row, words)

    def _leave_out(self, row: ExternalCall, done: dict[int, int]) -> None:
        """Units that a call has turned out to have cancelled are left out of what is reported after it, once."""
        for report in ExternalCall.objects.filter(after=row, status=S.ASKED).order_by("pk"):
            for pk, count in report.lines.items():
                known = min(count, done.get(pk, 0))
                done[pk] = done.get(pk, 0) - known
                report.units[str(pk)] = count - known
            report.save(update_fields=["units"])

    def dispute(self, d: Decision, row: ExternalCall, words: str) -> None:
        row.status = S.DISPUTED
        self.tell_inbox(d, row, words)

    def tell_inbox(self, d: Decision, row: ExternalCall, words: str) -> None:
        row.reply = " ".join(filter(None, [words, row.reply]))[:500]
        d.promise(CONFLICT, key=f"{CONFLICT}:{row.uuid}", args={"call": str(row.uuid)})
        d.only_if_changed = False

    # --- what the desk's own rules leave to the other system ------------------------------------------------------

    def customers_verdict(self, facts: Facts, *, cancel: rules.Lines, back: rules.Lines) -> rules.Verdict:
        if self._hearing is not None:
            # It was allowed when it was asked, and nobody could do anything with the units since.
            return rules.Verdict(None, is_direct=True)
        return super().customers_verdict(facts, cancel=cancel, back=back)

    def draft(self, d: Decision, plan: rules.Plan, choices: Choices) -> Cancellation:
        row = super().draft(d, plan, choices)
        if row.stage == Status.CANCELLATION_WAITING:
            row.stage = stage_of(d)
        return row

    def _take_effect(self, d: Decision, row: Cancellation, plan: rules.Plan, *, exactly: bool) -> None:
        super()._take_effect(d, row, plan, exactly=exactly)
        if self._hearing is None and not self._from_outside and get_order_management().is_outside:
            self._report(d, row, plan.units)
        self._await_what_is_withheld(d)

    def _await_what_is_withheld(self, d: Decision) -> None:
        """Where nothing else is left, the order waits for the other system, as it would had all been asked at once."""
        if "await_cancellation" in {t.name for t in d.order.get_available_status_transitions()}:
            d.go("await_cancellation")

    def _finish_what_waits(self, d: Decision) -> None:
        """Another cancellation than the one that is heard of: it is the desk's, and reported."""
        hearing, outside = self._hearing, self._from_outside
        self._hearing, self._from_outside, self._after = None, False, hearing
        try:
            super()._finish_what_waits(d)
        finally:
            self._hearing, self._from_outside, self._after = hearing, outside, None

    def read_more_ahead(self, orders: Sequence[Order]) -> None:
        if get_order_management().is_outside:
            questions = open_questions(orders)
            for order in orders:
                remember((ExternalCall, order.pk), questions.get(order.pk))

    def _report(self, d: Decision, row: Cancellation, units: Mapping[int, int]) -> None:
        """What was decided here is told there afterwards; their no does not undo it."""
        call = ExternalCall(
            order=d.order,
            kind=ExternalCall.Kind.CANCEL,
            origin=ExternalCall.Origin.DESK,
            units={str(pk): count for pk, count in units.items()},
            reason=row.reason.code if row.reason else "",
            after=self._after or open_question(d.order),
            **self.asked_by(d),
        )
        insert([call])
        self.promise_call(d, call, wait=False)

    # --- what began over there ------------------------------------------------------------------------------------

    def cancelled_outside(self, *, number: str, units: Mapping[int, int] | None, cause: str) -> tuple[int, int]:
        """This will cancel what was cancelled over there without our asking (None: all that has not shipped).

        cause  the same cancellation told again does nothing
        Returns how many units they told of, and how many could be cancelled here. Locks the order, then its payments.
        """
        self._from_outside, self._may_go_on = True, True
        with self.decide(number, "cancel") as d:
            d.only_if_changed = True
            before = self.done_before(d, cause, "cancelled")
            if before is not None:
                done = sum(before.line_quantities.values_list("quantity", flat=True))
                return done, done
            if units is None:
                super()._finish_what_waits(d)  # cancelled here too, and not to be undone over there
            told = {line.pk: line.left for line in d.facts.lines if line.left} if units is None else dict(units)
            here = {pk: min(count, line.open) for pk, count in told.items() if (line := d.facts.line(pk)) is not None}
            here = {pk: count for pk, count in here.items() if count > 0}
            if here:
                d.only_if_changed = False
                self.cancel(number=d.number, lines=here, note=_("Cancelled by the other system."), cause=cause)
            return sum(told.values()), sum(here.values())

    # --- what people settle ---------------------------------------------------------------------------------------

    def settle_withheld(self, *, number: str, cancelled: bool, note: str, version: int | None = None) -> None:
        """This will end the waiting for the other system, as a person has found out what it did.

        cancelled  True: the units are cancelled here too; False: customers' requests are made of it
        Raises Refused (nothing waits, no permission).
        """
        words = f"{self.actor.name}: {note}"[:500]
        with atomic():
            with self.decide(number, "hear_management", version=version, note=note) as d:
                d.require(rules.permitted(d.facts, self.actor, "orders.cancel_order"))
                rows = ExternalCall.objects.filter(order=d.order, status__in=ExternalCall.HOLDING)
                waiting = list(rows.filter(origin=ExternalCall.Origin.CUSTOMER, kind=ExternalCall.Kind.CANCEL))
                if not waiting:
                    raise rules.NothingToDo(_("Nothing waits for the other system."))
            for row in waiting:
                asker = type(self)(actor=asker_of(row), as_of=self.as_of)
                asker.hear(call=str(row.uuid), reply=Reply(DONE if cancelled else REFUSED, None, words))


def stage_of(d: Decision) -> str:
    """Where an order was before it began to wait for the other system."""
    if d.order.status != Status.CANCELLATION_WAITING:
        return d.order.status
    hops = OrderStatusChange.objects.filter(order=d.order, new_status=Status.CANCELLATION_WAITING)
    return hops.order_by("pk").values_list("old_status", flat=True).last() or Status.APPROVED
