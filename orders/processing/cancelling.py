"""Cancel before shipping: planned, agreed to, done as planned, and for a while undone again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import (
    Cancellation,
    CancellationReason,
    Facts,
    Order,
    OrderNotFound,
    ShippingEvent,
    Status,
    as_json,
    in_stages,
)
from orders.processing.decision import Decision
from orders.processing.letters import Letter, cancellation_letter
from orders.processing.policies import Policing, ReasonNotYours
from orders.processing.recurring import Series
from orders.processing.returning import Returning
from orders.rules.recurring import planned_end
from payments import services as payments
from shop import jobs
from shop.errors import Invalid, NotFound, Refused
from shop.money import ZERO
from shop.together import insert

FINISH = "orders.finish_cancellation"


class ReasonMissing(Invalid):
    code = "reason_missing"
    message = _("Choose a reason.")


class ContactMissing(Invalid):
    code = "contact_missing"
    message = _("Say who asked for it, how and when: this reason wants to know.")


class StillWaits(Refused):
    code = "cancellation_waits"
    message = _("This cancellation is not complete: its stock, money and messages still wait.")


class NoSuchCancellation(NotFound):
    code = "cancellation_not_found"
    message = _("There is no such cancellation.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Who asked the shop to cancel, and how: a value of Cancellation.Channel, a telephone number or address."""

    name: str = ""
    channel: str = ""
    details: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What somebody chose in a cancellation; the four of them are separate. lines None: all that has not shipped."""

    lines: rules.Lines | None = None
    reason: CancellationReason | None = None
    note: str = ""
    restock: bool = True
    refund: bool = True
    notify: bool = True
    ends_series: bool = False
    contact: Contact = Contact()
    destination: payments.Destination = payments.AS_PAID


class Cancelling(Series, Returning, Policing):
    # While a withdrawal cancels: what a dearer delivery cost more is not given back.
    _keeps_dearer = False

    # --- planned --------------------------------------------------------------------------------------------------

    def plan_cancellation(
        self,
        *,
        number: str,
        lines: rules.Lines | None = None,
        reason: str | int | CancellationReason | None = None,
        restock: bool = True,
        refund: bool = True,
        notify: bool = True,
        ends_series: bool = False,
        destination: payments.Destination | str = "",
    ) -> rules.Plan:
        """This will tell what cancelling these units would do, and whose approval it needs. Raises Refused."""
        choices = Choices(
            lines=lines,
            reason=self.reason_of(reason, note="(planned)"),
            restock=restock,
            refund=refund,
            notify=notify,
            ends_series=ends_series,
            destination=payments.Destination.of(destination),
        )
        return self.show_plan(number=number, choices=choices)[1]

    def show_plan(self, *, number: str, choices: Choices) -> tuple[Order, rules.Plan, Choices]:
        """This will plan what somebody chose, without doing it: as in `plan_cancellation`, for doors that show it."""
        order = self.order_of(number)
        if self.actor.is_customer:
            wanted = choices.lines or {line.pk: line.open for line in order.facts.lines if line.open}
            refusal = self.customers_refusal(order.facts, wanted)
            choices = replace(choices, restock=True, refund=True, notify=True)
        else:
            refusal = rules.cancel(order.facts, self.actor) or self.why_not("cancel", order.facts)
        if refusal is not None:
            raise refusal
        return order, self.planned(order.facts, choices), choices

    def order_of(self, number: str) -> Order:
        """An order as the actor may see it, without its lock. Raises OrderNotFound."""
        found = Order.objects.of(self.actor).select_related("store").filter(**Order.resolve_number(number)).first()
        if found is None:
            raise OrderNotFound
        return found

    def planned(self, facts: Facts, choices: Choices) -> rules.Plan:
        """The whole plan of a cancellation: its effects, who has to agree, and for how long it can be undone."""
        if facts.order.undo_until is not None and self.actor.is_staff:
            raise rules.undo_open(facts.order.undo_until)
        payments.require_offered(choices.destination, owner_id=facts.order.customer_id)
        plan = rules.plan_cancellation(
            facts,
            choices.lines,
            restock=choices.restock,
            refund=choices.refund,
            notify=choices.notify,
            series=self._series_ended(facts.order) if choices.ends_series else "",
            destination=choices.destination.gateway,
            reprices=choices.refund and self.reprices(facts.order),
            waiting=kept_by_what_waits(facts.order),
            keeps_dearer=choices.refund and self._keeps_dearer,
        )
        if not self.actor.is_staff:
            return plan
        approval = self.assess(facts, plan, choices.reason).approval
        return replace(plan, approval=approval, undo_minutes=self.cancel_policy(facts.order).undo_minutes)

    def letters_of(self, facts: Facts, plan: rules.Plan, choices: Choices) -> list[Letter]:
        """What the customer would be told by a plan: the messages' contexts, to be shown as they will read."""
        to = choices.destination
        letter = cancellation_letter(facts, plan, choices.reason, contact=choices.contact, destination=to)
        return [letter] if plan.messages else []

    # --- done -----------------------------------------------------------------------------------------------------

    def cancel(
        self,
        *,
        number: str,
        lines: rules.Lines | None = None,
        reason: str | int | CancellationReason | None = None,
        note: str = "",
        restock: bool = True,
        refund: bool = True,
        notify: bool = True,
        ends_series: bool = False,
        contact: Contact = Contact(),
        destination: payments.Destination | str = "",
        plan: rules.Plan | None = None,
        cause: str | None = None,
        version: int | None = None,
        agreed: Cancellation | None = None,
        undoable: bool = True,
    ) -> ShippingEvent:
        """This will cancel units that have not shipped (None: all of them), whole lines or some of their units.

        Status, units and journal change at once; workers return the stock, void or refund the money and tell the
        customer: at once, or when it can no longer be undone. Separate choices: cancelling, `restock`, `refund`,
        `notify`, and `ends_series` for the orders that a recurring order would still have made.

        reason       code, id or row; staff must give one
        contact      who asked for it, where the reason wants to know
        destination  where the money goes, if not the way it came: see `going_to`
        plan         what was shown; if something else would happen by now, PlanChanged is raised and nothing happens
        cause        a second call with the same cause returns the first one's event
        agreed       the cancellation that somebody approved, or that waited for the end of maintenance
        undoable     False: it takes effect at once, whatever the shop's rules say
        Locks the order, then its payments. Raises Refused: ApprovalNeeded where somebody else has to agree first.
        """
        with self.decide(number, "cancel", version=version, note=note) as d:
            if (before := self.done_before(d, cause, "cancelled")) is not None:
                return before
            choices = Choices(
                lines=lines,
                reason=self.reason_of(reason, note=note),
                note=note,
                restock=restock,
                refund=refund,
                notify=notify,
                ends_series=ends_series,
                contact=contact,
                destination=self.going_to(d.order, destination) if refund else payments.AS_PAID,
            )
            d.reason = choices.reason.code if choices.reason else ""
            self.count_in_turn([d.order])
            if not self.actor.is_staff:
                self._finish_what_waits(d)
            self._check_cancel(d, choices, agreed=agreed)
            now = self.planned(d.facts, choices)
            d.left_over = d.facts.left_over
            if plan is not None and plan != now:
                raise rules.plan_changed(plan, now)
            if now.approval is not None and agreed is None:
                raise approval_needed(now.approval)
            row = agreed or self.draft(d, now, choices)
            row.cause = row.cause or cause
            if undoable and now.undo_minutes and self.actor.is_staff:
                row.undo_until = d.as_of + timedelta(minutes=now.undo_minutes)
            passed = {"plan": now, "cancellation": row}
            return self.record_shipping(
                d, "cancelled", now.units, reason=choices.reason, note=note, cause=cause, choices=passed
            )

    def _check_cancel(self, d: Decision, choices: Choices, *, agreed: Cancellation | None = None) -> None:
        """Whether it is possible at all, and everything that has to be said has been."""
        d.require(self._why_not_cancel(d, choices.lines))
        # Of what waited for approval, the reason was for the one who asked to give.
        approved = agreed is not None and agreed.status == Cancellation.Status.WAITING_APPROVAL
        if self.actor.is_staff and not approved:
            self.check_reason(d.order, choices)
        d.require(None if choices.refund else self._why_not_keep(d))

    def check_reason(self, order: Order, choices: Choices) -> None:
        """Staff give a reason, one that is theirs to give, and say who asked where it wants to know."""
        reason = choices.reason
        if reason is None:
            raise ReasonMissing(field="reason")
        if not (reason.asks_contact or self.actor.may("orders.cancel_for_any_reason", store_id=order.store_id)):
            raise ReasonNotYours(params={"reason": reason.label}, field="reason")
        if not reason.asks_contact:
            return
        contact = choices.contact
        for field, value in (("contact_name", contact.name), ("contact_channel", contact.channel)):
            if not value.strip():
                raise ContactMissing(field=field)
        if contact.channel not in Cancellation.Channel.values:
            words = _("“%(value)s” is not a way to ask; choose one of: %(choices)s.")
            params = {"value": contact.channel, "choices": ", ".join(Cancellation.Channel.values)}
            raise ContactMissing(words, params=params, field="contact_channel")
        if contact.at is not None and contact.at > self.as_of + timedelta(minutes=5):
            raise ContactMissing(_("The customer cannot have asked in the future."), field="contact_at")

    def _why_not_cancel(self, d: Decision, lines: rules.Lines | None) -> Refused | None:
        if not self.actor.is_customer:
            return rules.cancel(d.facts, self.actor) or self.why_not("cancel", d.facts)
        wanted = {line.pk: line.open for line in d.facts.lines if line.open} if lines is None else lines
        return self.customers_refusal(d.facts, wanted)

    def draft(self, d: Decision, plan: rules.Plan, choices: Choices) -> Cancellation:
        """The record of a cancellation, not yet written."""
        contact = choices.contact
        return Cancellation(
            order=d.order,
            status=Cancellation.Status.DONE,
            reason=choices.reason,
            note=choices.note,
            lines=None if choices.lines is None else {str(pk): units for pk, units in choices.lines.items()},
            restock=choices.restock,
            refund=choices.refund,
            notify=choices.notify,
            ends_series=choices.ends_series,
            plan=as_json(plan),
            version=d.order.version,
            contact_name=contact.name.strip(),
            contact_channel=contact.channel,
            contact_details=contact.details.strip(),
            contact_at=contact.at or (d.as_of if contact.name.strip() else None),
            stage=d.order.status,
            units=plan.unit_count,
            currency=plan.currency,
            value=plan.worth,
            ends_order=plan.ends_order,
            unusual=list(self.assess(d.facts, plan, choices.reason).unusual) if self._policies_count() else [],
            actor_kind=self.actor.kind,
            requested_by=self.user,
            requested_by_name=self.actor.name,
            created_at=d.as_of,
            destination=choices.destination.gateway,
            consent=choices.destination.consent,
            bank_iban=choices.destination.iban,
            bank_holder=choices.destination.holder,
        )

    def _policies_count(self) -> bool:
        return not self.actor.is_system and self.approval_policies().counts

    def execute_cancellation(
        self, d: Decision, plan: rules.Plan, *, cancellation: Cancellation, cause: str | None
    ) -> ShippingEvent:
        """Write exactly what the plan says; what can be undone waits for its time."""
        event = d.shipping_event(
            "cancelled",
            plan.units,
            restock={line.line_id: line.restock for line in plan.lines},
            dispositions={line.line_id: line.disposition for line in plan.lines},
            reason=cancellation.reason,
            note=cancellation.note,
            cause=cause,
        )
        row = cancellation
        row.event, row.done_at = event, d.as_of
        row.plan = as_json(plan)
        d.details["plan"] = plan.effects
        d.details["cancellation"] = str(row.uuid)
        row.status = Cancellation.Status.PENDING if row.undo_until else Cancellation.Status.DONE
        self.write_cancellation(row)
        if row.undo_until is None:
            self._take_effect(d, row, plan, exactly=True)
        else:
            d.change(undo_until=row.undo_until)
            d.promise(FINISH, key=finish_key(row), args={"cancellation": str(row.uuid)}, run_at=row.undo_until)
        if plan.ends_order:
            d.go("complete_cancellation")
        self.count_cancellation(row)
        return event

    def write_cancellation(self, row: Cancellation) -> None:
        """Write the record: a new row, or the one that waited for its time."""
        if row._state.adding:
            row.forget_bank_details()
            insert([row])
        else:
            row.save()

    def _take_effect(self, d: Decision, row: Cancellation, plan: rules.Plan, *, exactly: bool) -> None:
        """Promise the stock, the money and the messages, and answer customers' requests."""
        event, reason = row.event, row.reason
        assert event is not None
        self._promise_stock(d, event, restocked=any(line.restock for line in plan.lines))
        words = reason.label if reason else row.note
        to = row.goes_to if exactly else self.still_offered(d.order, row.goes_to)
        given_back = self.settle_excess(
            d,
            shipping_event=event,
            reason=words,
            keep=not row.refund,
            deduction=plan.deduction,
            repriced=self._repriced(d, plan, exactly=exactly) if row.refund else ZERO,
            destination=to,
            freed=max(ZERO, d.facts.left_over - d.left_over) if exactly else self._freed(d, plan),
        )
        if exactly and given_back != plan.refund:
            raise rules.PlanChanged(remedy=_("Look at it again."))
        if plan.messages:
            told = replace(plan, refund=given_back)
            letter = cancellation_letter(d.facts, told, reason, contact=contact_of(row), destination=to)
            d.tell(letter.event, cause=f"event:{event.pk}", units=plan.units, **letter.extra)
        self._answer_requests(d, event, plan.units)
        if row.ends_series:
            self.end_series_of(d, reason=reason, note=row.note, notify=row.notify)

    def _freed(self, d: Decision, plan: rules.Plan) -> Decimal:
        """Money that nothing needs since these units were cancelled, whenever that was."""
        before = d.facts.after({line_id: -units for line_id, units in plan.units.items()}, {}, counter="cancelled")
        return max(ZERO, d.facts.left_over - before.left_over)

    def _repriced(self, d: Decision, plan: rules.Plan, *, exactly: bool) -> Decimal:
        """What a plan keeps for what stays; where it has waited, goods may have come back meanwhile."""
        if exactly or plan.repriced <= 0:
            return plan.repriced
        return min(plan.repriced, rules.reprice(d.facts, {}, value=plan.value).amount)

    # --- later ----------------------------------------------------------------------------------------------------

    def finish_cancellation(self, *, cancellation: str) -> None:
        """This will complete a cancellation that can no longer be undone; a repetition, or one undone, does nothing.

        cancellation  its uuid. Locks the order, then its payments.
        """
        number = cancellation_of(cancellation).order.number or ""
        with self.decide(number, "finish_cancellation") as d:
            d.only_if_changed = True
            row = pending_of(d.order)
            # Another one, made after this had been undone, has its own time.
            if row is not None and str(row.uuid) == cancellation:
                self._finish_what_waits(d)

    def _finish_what_waits(self, d: Decision) -> None:
        """Complete the order's cancellation that could still be undone; it does nothing where there is none."""
        if d.order.undo_until is None:
            return
        self.count_in_turn([d.order])  # whoever wants it has to, before a series is locked that may end with it
        row = pending_of(d.order)
        d.change(undo_until=None)
        if row is None:
            return
        row.status = Cancellation.Status.DONE
        self._take_effect(d, row, rules.plan_from_json(row.plan), exactly=False)
        self.give_back_surplus(d)
        row.save(update_fields=["status"])
        jobs.call_off([finish_key(row)], note=str(_("Completed")))

    def complete_now(self, *, number: str, version: int | None = None) -> None:
        """This will complete a cancellation before its time to be undone is over. Raises Refused."""
        with self.decide(number, "finish_cancellation", version=version) as d:
            d.require(rules.complete_now(d.facts, self.actor) or self.why_not("complete-now", d.facts))
            self._finish_what_waits(d)

    def cancel_unpaid(self, *, number: str) -> ShippingEvent | None:
        """This will cancel an order whose payment did not come in time; one that was paid meanwhile is left alone."""
        with self.decide(number, "cancel") as d:
            late = d.order.stage == Status.PAYMENT_WAITING and d.order.unpaid_deadline <= d.as_of
            if not late or d.facts.capture_in_flight:
                d.only_if_changed = True
                return None
            return self.cancel(number=d.number, reason="payment_overdue")

    # --- what others add ------------------------------------------------------------------------------------------

    def customers_verdict(self, facts: Facts, *, cancel: rules.Lines, back: rules.Lines) -> rules.Verdict:
        """What becomes of a customer's wish, by the shop's rules."""
        raise NotImplementedError

    def customers_refusal(self, facts: Facts, lines: rules.Lines) -> Refused | None:
        """Why a customer may not cancel these units at once, or None."""
        decided = self.customers_verdict(facts, cancel=lines, back={})
        if decided.refusal is None and not decided.is_direct:
            words = rules.ORDER_STATUS_FORBIDS
            return rules.CancelRefused(words, code="order_status_forbids", remedy=_("Ask for it: a person decides."))
        return decided.refusal or self.why_not("cancel", facts)

    def read_more_ahead(self, orders: Sequence[Order]) -> None:
        """Look up at once what cancelling many orders asks of each (shop/together.py)."""

    def _series_ended(self, order: Order) -> str:
        """What ends with the recurring order that an order belongs to, in the desk's words; empty: none.

        Not in the reader's: it is a part of the plan, which is the same one for whoever asks and for whoever approves.
        """
        with translation.override(settings.LANGUAGE_CODE):
            ending = planned_end(order)
        if ending is None:
            return ""
        if ending.next_at is None:
            return ending.rhythm
        return f"{ending.rhythm}, {timezone.localtime(ending.next_at):%Y-%m-%d}"


def approval_needed(approval: rules.PlannedApproval) -> rules.ApprovalNeeded:
    params: dict[str, Any] = {"who": approval.name, "because": ", ".join(approval.because)}
    return rules.ApprovalNeeded(params=params, remedy=_("Ask for it, and say why it should be cancelled."))


def contact_of(row: Cancellation) -> Contact:
    return Contact(name=row.contact_name, channel=row.contact_channel, details=row.contact_details, at=row.contact_at)


def choices_of(row: Cancellation) -> Choices:
    """What was chosen, as the record has it."""
    return Choices(
        lines=None if row.lines is None else {int(pk): units for pk, units in row.lines.items()},
        reason=row.reason,
        note=row.note,
        restock=row.restock,
        refund=row.refund,
        notify=row.notify,
        ends_series=row.ends_series,
        contact=contact_of(row),
        destination=row.goes_to,
    )


def finish_key(row: Cancellation) -> str:
    return f"{FINISH}:{row.uuid}"


def pending_of(order: Order) -> Cancellation | None:
    """The cancellation of an order that can be undone, with its reason and event."""
    rows = Cancellation.objects.filter(order=order, status=Cancellation.Status.PENDING)
    return rows.select_related("reason", "event").first()


def kept_by_what_waits(order: Order) -> Decimal:
    """What the cancellation that can still be undone will keep for what stays."""
    row = pending_of(order) if order.undo_until is not None and order.deal else None
    return rules.plan_from_json(row.plan).repriced if row is not None and row.refund else ZERO


def cancellation_of(uuid: str) -> Cancellation:
    """A cancellation by its uuid. Raises NoSuchCancellation."""
    found = Cancellation.objects.select_related("order", "reason", "event").filter(uuid=uuid).first()
    if found is None:
        raise NoSuchCancellation
    return found


def unpaid_before(deadline: datetime) -> list[str]:
    """Numbers of orders that have waited for their payment since before `deadline`, oldest first."""
    since = Q(payment_awaited_at=None, placed_at__lte=deadline) | Q(payment_awaited_at__lte=deadline)
    late = Order.objects.filter(since, status__in=in_stages(Status.PAYMENT_WAITING)).order_by("placed_at")
    return [number for number in late.values_list("number", flat=True)[:500] if number]
