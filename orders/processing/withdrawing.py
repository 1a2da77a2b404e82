"""Withdraw from a contract: what has not shipped is cancelled, what has is awaited back, the rest is for a person.

The law gives the right, so neither the shop's cancel rules nor anybody's approval stand in its way; no fee is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders import rules
from orders.models import CancellationReason, CancellationRequest, Facts, Order, Return, ShippingEvent, Withdrawal
from orders.processing.decision import Decision
from orders.processing.fulfilment import accounted_for
from orders.processing.requesting import NotYours, Requesting, return_words
from shop import jobs
from shop.actors import Actor
from shop.errors import Invalid, NotFound, Refused
from shop.together import atomic, update

CARRY_OUT = "orders.withdraw"
ANSWER = "orders.answer_withdrawal"
DECIDE = "orders.decide_cancellationrequest"

Kind, State = CancellationRequest.Type, CancellationRequest.Status
# Goods of these requests have not arrived: a withdrawal takes such a request over.
NOT_ARRIVED = (State.OPEN, State.WAITING, State.WAITING_APPROVAL, State.CONFIRMED, State.APPROVED)
UNANSWERED = (State.OPEN, State.WAITING, State.WAITING_APPROVAL)


class WithdrawalNotFound(NotFound):
    code = "withdrawal_not_found"
    message = gettext_lazy("There is no such withdrawal.")


class WithdrawalAnswered(Refused):
    code = "withdrawal_answered"
    message = gettext_lazy("This withdrawal has been carried out or answered already.")


class WithdrawalWaits(Refused):
    code = "withdrawal_waits"
    message = gettext_lazy("A withdrawal waits for a person: %(why)s")


class Withdrawing(Requesting):
    # While a withdrawal cancels: the law allows it, whatever the shop's cancel rules say.
    _withdrawing = False

    def customers_refusal(self, facts: Facts, lines: rules.Lines) -> Refused | None:
        return None if self._withdrawing else super().customers_refusal(facts, lines)

    # --- the verb -------------------------------------------------------------------------------------------------

    def withdraw(self, *, withdrawal: Withdrawal, receipt_sent: bool = False) -> Withdrawal:
        """This will carry out a declaration for its order, once; as the customer, at once, with nobody's approval.

        In time and not exempt: units that have not shipped are cancelled, whatever the status before shipping, and
        those that have are awaited in a return without a fee. The rest become requests that a person answers.

        receipt_sent  the customer has had the receipt already, and is told of the return code by another message
        Locks the order, its requests and the withdrawal, then its payments. Raises Refused (maintenance, …).
        """
        assert withdrawal.order is not None
        with self.decide(withdrawal.order.number or "", "withdraw", note=withdrawal.text) as d:
            d.require(NotYours() if self.actor.is_staff else None)
            row = Withdrawal.objects.select_for_update(no_key=True).get(pk=withdrawal.pk)
            if row.status != Withdrawal.Status.RECEIVED:
                d.only_if_changed = True
                return row
            row.order = d.order
            # What staff could still undo would bring back units that the customer has withdrawn from by now.
            self._finish_what_waits(d)
            terms = self.cancel_policy(d.order).returns
            plan = rules.plan_withdrawal(
                d.facts, stated_lines(row), terms, coming=coming_back(d.order), declared_at=row.declared_at
            )
            reason = withdrawal_reason()
            d.reason = reason.code
            cancel = {**plan.cancel, **self._cancelled_anyway(d, plan)}
            row.shipping_kept = self.dearer_delivery_kept(d.facts, plan, cancel=cancel)
            if cancel:
                row.event = self._cancel_as_law_says(d, row, cancel, reason)
            left = self._await_goods(d, row, plan.back, reason)
            asked = {line: n for line, n in plan.ask_cancel.items() if line not in cancel}
            left |= self._ask_person(d, row, asked, plan.ask_back, reason, terms)
            result = {"cancel": cancel, "back": less(plan.back, left), "gone": plan.gone}
            result["ask"] = less(added(asked, plan.ask_back), left)
            result["left"] = added(left, plan.held)
            self._close_withdrawal(d, row, plan, result)
            d.details["withdrawal"] = {"uuid": str(row.uuid), "declared_at": row.declared_at, **row.result}
            if receipt_sent and row.goods_return is not None:
                words = return_words(row.goods_return)
                d.tell("return_approved", cause=f"withdrawal:{row.pk}", units=row.units_of("back"), **words)
        return row

    def _cancelled_anyway(self, d: Decision, plan: rules.WithdrawalPlan) -> dict[int, int]:
        """Exempt units that the shop lets its customers cancel at once, without any law."""
        return dict(plan.ask_cancel) if plan.ask_cancel and self._cancels_anyway(d.facts, plan.ask_cancel) else {}

    def _cancels_anyway(self, facts: Facts, units: rules.Lines) -> bool:
        """Whether the shop lets its customers cancel these units at once, without any law."""
        decided = self.customers_verdict(facts, cancel=units, back={})
        return decided.refusal is None and decided.is_direct

    def dearer_delivery_kept(
        self, facts: Facts, plan: rules.WithdrawalPlan, *, cancel: rules.Lines | None = None
    ) -> Decimal:
        """This will tell what a dearer delivery cost more and a withdrawal does not give back, as far as it is paid.

        cancel  the units that are cancelled at once; None: those of the plan. Nothing is kept of units that customers
        may cancel anyhow: a withdrawal is never worth less than that.
        """
        units = plan.cancel if cancel is None else cancel
        keeps = bool(units) and not self._cancels_anyway(facts, units)
        return rules.dearer_of_withdrawal(facts, cancel=units, back=plan.back, keeps_of_cancelled=keeps)

    def _cancel_as_law_says(
        self, d: Decision, row: Withdrawal, units: rules.Lines, reason: CancellationReason
    ) -> ShippingEvent:
        self._keeps_dearer = not self._cancels_anyway(d.facts, units)
        self._withdrawing = True
        try:
            return self.cancel(
                number=d.number, lines=units, reason=reason, note=row.text, cause=f"withdrawal:{row.uuid}"
            )
        finally:
            self._withdrawing = self._keeps_dearer = False

    # --- goods that have left -------------------------------------------------------------------------------------

    def _await_goods(
        self, d: Decision, row: Withdrawal, units: rules.Lines, reason: CancellationReason
    ) -> dict[int, int]:
        """Agree to units being sent back in one parcel. Returns those whose earlier return stands in the way."""
        if not units:
            return {}
        left: dict[int, int] = {}
        parcel = self._parcel_of(d)
        open_ones = {request.line_id: request for request in d.open_requests()}
        known = accounted_for(list(open_ones.values())) if open_ones else {}
        withdrawn = set(Return.objects.filter(order=d.order, is_withdrawal=True).values_list("pk", flat=True))
        emptied: set[int] = set()
        agreed = []
        for line_id, count in units.items():
            request = open_ones.get(line_id)
            if request is None:
                request = self._withdrawal_request(d, row, line_id, count, Kind.REFUND, reason)
            elif not request.is_return or request.status not in NOT_ARRIVED:
                left[line_id] = count  # its goods lie on the table already
                continue
            else:
                if (before := request.goods_return_id) is not None and before != parcel.pk:
                    emptied.add(before)
                # What an earlier withdrawal awaits comes too; what the customer asked for anyhow is meant here.
                more = before in withdrawn
                settled = sum(known[request.pk])
                request.quantity = request.quantity + count if more else max(request.quantity, settled + count)
            agreed.append(request)
        if not agreed:
            return left
        if parcel._state.adding:
            parcel.save(force_insert=True)
        for request in agreed:
            request.goods_return, request.status = parcel, State.APPROVED
            request.decided_at, request.decided_by = d.as_of, None
        write(agreed, ["goods_return", "status", "quantity", "decided_at", "decided_by"])
        Return.objects.filter(pk__in=emptied, requests=None).update(closed_at=d.as_of)
        # What was withdrawn from earlier comes in the same parcel: the new sheet names it all.
        awaited = parcel.requests.filter(status=State.APPROVED)
        self.document_return(d, parcel, dict(awaited.values_list("line", "quantity")))
        row.goods_return = parcel
        row.requests.add(*agreed)
        return left

    def _parcel_of(self, d: Decision) -> Return:
        """The order's return by withdrawal that has not arrived yet, or a new one: one code for all that is awaited."""
        waiting = Return.objects.filter(order=d.order, is_withdrawal=True, received_at=None, closed_at=None)
        return waiting.order_by("pk").first() or Return(order=d.order, is_withdrawal=True, created_at=d.as_of)

    def _withdrawal_request(
        self, d: Decision, row: Withdrawal, line_id: int, units: int, kind: str, reason: CancellationReason
    ) -> CancellationRequest:
        return CancellationRequest(
            order=d.order,
            line_id=line_id,
            quantity=units,
            cancellation_type=kind,
            reason=reason,
            description=row.text,
            # What came back before now is not of it; a wish to cancel counts from when it was declared.
            created_at=d.as_of if kind == Kind.REFUND else row.declared_at,
        )

    # --- what a person answers ------------------------------------------------------------------------------------

    def _ask_person(
        self,
        d: Decision,
        row: Withdrawal,
        cancel: rules.Lines,
        back: rules.Lines,
        reason: CancellationReason,
        terms: rules.ReturnTerms,
    ) -> dict[int, int]:
        """Ask a person about late and exempt units. Returns those of lines that have an open request already.

        What the shop takes back of its own accord, and approves at once, is approved.
        """
        busy = {request.line_id for request in d.open_requests()} if cancel or back else set()
        left: dict[int, int] = {}
        requests = []
        parcel: Return | None = None
        for kind, units in ((Kind.CANCEL, cancel), (Kind.REFUND, back)):
            for line_id, count in units.items():
                if line_id in busy:
                    left[line_id] = left.get(line_id, 0) + count
                    continue
                busy.add(line_id)
                request = self._withdrawal_request(d, row, line_id, count, kind, reason)
                if kind == Kind.REFUND:
                    parcel = parcel or Return.objects.create(order=d.order, created_at=d.as_of)
                    request.goods_return = parcel
                requests.append(request)
        CancellationRequest.objects.bulk_create(requests)
        row.requests.add(*requests)
        if terms.approves_at_once:
            fine = [
                request
                for request in requests
                if request.is_return
                and rules.cannot_come_back(d.line(request.line_id), terms, as_of=row.declared_at) is None
            ]
            self.approve_returns(d, fine)
        return left

    def _close_withdrawal(
        self, d: Decision, row: Withdrawal, plan: rules.WithdrawalPlan, result: Mapping[str, Mapping[int, int]]
    ) -> None:
        """Write what became of it, and hand over to a person what is left to answer."""
        row.deadline, row.in_time = plan.deadline, plan.in_time
        row.result = {name: {str(pk): n for pk, n in units.items()} for name, units in result.items() if units}
        waiting = row.requests.filter(status__in=UNANSWERED).exists()
        row.status = Withdrawal.Status.CARRIED_OUT
        if waiting or result["left"]:
            row.status = Withdrawal.Status.NEEDS_PERSON
            with translation.override(settings.LANGUAGE_CODE):
                row.problem = " ".join(problems(d.facts, plan, left=result["left"], asked=result["ask"]))
        row.save()
        follow_up(row)

    # --- later ----------------------------------------------------------------------------------------------------

    def carry_out_withdrawal(self, *, uuid: str) -> None:
        """This will carry out what was declared during maintenance. Called by a worker; a repetition does nothing."""
        row = withdrawal_of(uuid)
        if row.order is not None and row.status == Withdrawal.Status.RECEIVED:
            self.as_owner(row.order).withdraw(withdrawal=row, receipt_sent=True)

    def as_owner(self, order: Order) -> Withdrawing:
        """This shop's handler for the customer of an order; for the system where nobody knows who that is."""
        guest = Actor.guest(order.email) if order.email else Actor.system()
        actor = Actor.customer(order.customer) if order.customer else guest
        return type(self)(actor=actor, as_of=self.as_of)

    def match_withdrawal(self, *, uuid: str, number: str) -> Withdrawal:
        """This will say which order a declaration means, and carry it out as of when it was declared.

        By staff, for one that matched no order or could not be carried out. Raises OrderNotFound, WithdrawalAnswered.
        """
        order = self.order_of(number)
        self.actor.require(DECIDE, store_id=order.store_id)
        with atomic():
            row = self._waiting_withdrawal(uuid)
            if row.result:
                raise WithdrawalAnswered
            row.order, row.status, row.problem = order, Withdrawal.Status.RECEIVED, ""
            row.save(update_fields=["order", "status", "problem"])
            self._call_off_answer(row)
            # What was typed of units meant another order's lines, or none.
            if row.lines is not None and not set(stated_lines(row) or {}) <= {line.pk for line in order.facts.lines}:
                row.lines = None
                row.save(update_fields=["lines"])
            return self.as_owner(order).withdraw(withdrawal=row, receipt_sent=True)

    def answer_withdrawal(self, *, uuid: str, note: str) -> Withdrawal:
        """This will close a withdrawal that waited for a person; the note is what they did. Raises Invalid, Refused."""
        if not note.strip():
            raise Invalid(gettext_lazy("Say what you did, and what you told the customer."), field="note")
        with atomic():
            row = self._waiting_withdrawal(uuid)
            self.actor.require(DECIDE, store_id=row.order.store_id if row.order else None)
            answered(row, note=note, by=self.actor.name, as_of=self.as_of)
            self._call_off_answer(row)
        return row

    def _waiting_withdrawal(self, uuid: str) -> Withdrawal:
        """A withdrawal that waits for a person, locked, where the actor may know of it."""
        row = withdrawal_of(uuid)
        seen = self.actor.stores is None if row.order is None else self.actor.works_in(row.order.store_id)
        if not (self.actor.is_system or (self.actor.is_staff and seen)):
            raise WithdrawalNotFound
        row = Withdrawal.objects.select_for_update(no_key=True, of=("self",)).select_related("order").get(pk=row.pk)
        if row.status != Withdrawal.Status.NEEDS_PERSON:
            raise WithdrawalAnswered
        return row

    def _call_off_answer(self, row: Withdrawal) -> None:
        jobs.call_off(prefix=f"{ANSWER}:{row.uuid}:", note=self.actor.name)

    def decide_request(
        self, *, request_id: int, approve: bool, note: str = "", version: int | None = None
    ) -> CancellationRequest:
        """As for every request; with the last one of a withdrawal, that is answered too."""
        with atomic():
            request = super().decide_request(request_id=request_id, approve=approve, note=note, version=version)
            self._end_answered([request.pk], note=request.decision_note or request.get_status_display())
        return request

    def _answer_requests(self, d: Decision, event: ShippingEvent, units: Mapping[int, int]) -> None:
        """As for every request: what ends the last one of a withdrawal, by whatever door, answers that."""
        before = set(d.details.get("requests_answered", []))
        super()._answer_requests(d, event, units)
        if now := set(d.details.get("requests_answered", [])) - before:
            self._end_answered(now, note=d.note or str(event.event_type.name))

    def _end_answered(self, request_ids: Iterable[int], *, note: str) -> None:
        """Close the withdrawals that waited for a person to answer these requests, and nothing else."""
        waits = Q(status__in=UNANSWERED) | Q(cancellation_type=Kind.CANCEL, status=State.APPROVED)  # can be undone
        rows = Withdrawal.objects.filter(status=Withdrawal.Status.NEEDS_PERSON)
        rows = rows.filter(
            pk__in=Withdrawal.requests.through.objects.filter(cancellationrequest__in=list(request_ids)).values(
                "withdrawal"
            )
        )
        for row in rows.select_for_update(no_key=True, of=("self",)).order_by("pk"):
            if not row.units_of("left") and not row.requests.filter(waits).exists():
                answered(row, note=note, by=self.actor.name, as_of=self.as_of)
                self._call_off_answer(row)

    def remind_of_withdrawal(self, *, uuid: str) -> None:
        """This will put a withdrawal that needs a person into the inbox, by raising WithdrawalWaits. For workers."""
        row = withdrawal_of(uuid)
        if row.status == Withdrawal.Status.NEEDS_PERSON:
            raise WithdrawalWaits(params={"why": row.problem})


# ---------------------------------------------------------------------------------------------------------------
# Helpers


def withdrawal_of(uuid: str) -> Withdrawal:
    """A withdrawal by its uuid, with its order and customer. Raises WithdrawalNotFound."""
    found = Withdrawal.objects.select_related("order__store", "order__customer").filter(uuid=uuid).first()
    if found is None:
        raise WithdrawalNotFound
    return found


def withdrawal_reason() -> CancellationReason:
    """The reason that stands on what a withdrawal cancels; nobody chooses it."""
    defaults = {
        "category": CancellationReason.Category.CUSTOMER_REQUESTED,
        "name": "Withdrawal from the contract",
        "names": {"de": "Widerruf des Vertrags", "tr": "Sözleşmeden cayma"},
        "position": 200,
    }
    return CancellationReason.objects.get_or_create(code=rules.WITHDRAWAL, defaults=defaults)[0]


def stated_lines(row: Withdrawal) -> dict[int, int] | None:
    return None if row.lines is None else {int(pk): units for pk, units in row.lines.items()}


def coming_back(order: Order) -> dict[int, int]:
    """Line id → units that an earlier withdrawal has sent on their way back and nobody has unpacked yet."""
    rows = CancellationRequest.objects.filter(
        order=order, cancellation_type=Kind.REFUND, goods_return__is_withdrawal=True
    ).exclude(status__in=CancellationRequest.ENDED)
    requests = list(rows.order_by("pk"))
    known = accounted_for(requests) if requests else {}
    return {request.line_id: max(0, request.quantity - sum(known[request.pk])) for request in requests}


def write(requests: Sequence[CancellationRequest], fields: list[str]) -> None:
    """Write requests, new ones and others: a statement for each of the two."""
    new = [request for request in requests if request._state.adding]
    update([request for request in requests if not request._state.adding], fields)
    CancellationRequest.objects.bulk_create(new)


def follow_up(row: Withdrawal) -> None:
    """Promise the inbox a withdrawal that needs a person."""
    if row.status == Withdrawal.Status.NEEDS_PERSON:
        jobs.enqueue(
            ANSWER,
            key=answer_key(row),
            args={"withdrawal": str(row.uuid)},
            reference=(row.order.number or "") if row.order else "",
            store_id=row.order.store_id if row.order else None,
        )


def answer_key(row: Withdrawal) -> str:
    """Of one without a result the order is looked for; afterwards its requests are answered: two pieces of work."""
    return f"{ANSWER}:{row.uuid}:{'answer' if row.result else 'match'}"


def answered(row: Withdrawal, *, note: str, by: str, as_of: datetime) -> None:
    row.status, row.answer, row.answered_by, row.answered_at = Withdrawal.Status.ANSWERED, note, by, as_of
    row.save(update_fields=["status", "answer", "answered_by", "answered_at"])


def promise_withdrawals() -> None:
    """This will promise to carry out what was declared during maintenance, oldest first, once for each."""
    rows = Withdrawal.objects.filter(status=Withdrawal.Status.RECEIVED).select_related("order").order_by("pk")[:500]
    jobs.enqueue_many(
        jobs.Promise(
            CARRY_OUT,
            f"{CARRY_OUT}:{row.uuid}",
            {"withdrawal": str(row.uuid)},
            row.order.number or "",
            row.order.store_id,
        )
        for row in rows
        if row.order is not None
    )


def problems(
    facts: Facts, plan: rules.WithdrawalPlan, *, left: Mapping[int, int], asked: Mapping[int, int]
) -> Iterable[str]:
    """Why a person is needed, one sentence each."""
    late = sum(n for pk, n in plan.ask_back.items() if pk in asked and not exemption(facts, pk))
    if late and plan.deadline is not None:
        day = date_format(timezone.localtime(plan.deadline))
        yield _("The time to withdraw was over on %(day)s: %(n)d units are late.") % {"day": day, "n": late}
    for line in facts.lines:
        if line.pk in asked and line.return_exemption:
            why = line.get_return_exemption_display()
            yield _("“%(name)s” cannot be withdrawn from: %(why)s.") % {"name": line.name, "why": why}
        if line.pk in left:
            words = _("%(n)d × “%(name)s”: an earlier request for this line is under way; look at what it leaves.")
            yield words % {"n": left[line.pk], "name": line.name}
    if asked:
        yield _("Answer the customer's requests.")


def exemption(facts: Facts, line_id: int) -> str:
    line = facts.line(line_id)
    return line.return_exemption if line else ""


def added(*parts: Mapping[int, int]) -> dict[int, int]:
    total: dict[int, int] = {}
    for units in parts:
        for pk, count in units.items():
            total[pk] = total.get(pk, 0) + count
    return total


def less(units: Mapping[int, int], gone: Mapping[int, int]) -> dict[int, int]:
    """Units without those of lines that are accounted for elsewhere."""
    return {pk: count - gone.get(pk, 0) for pk, count in units.items() if count > gone.get(pk, 0)}
