"""Refund without goods: what for, how much, where to; above a limit with somebody else's yes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import Approval, Facts, PaymentEvent, RefundKind, RefundRequest, as_json
from orders.processing.approving import Approving, approval_of, close_looks, locked_approval, order_number
from orders.processing.base import CauseReused
from orders.processing.decision import Decision
from payments import services as payments
from payments.models import Refund
from shop.errors import Invalid, Refused
from shop.money import ZERO, rounded


class UnknownRefundKind(Invalid):
    code = "refund_kind_unknown"
    message = _("“%(kind)s” is nothing to refund for; choose one of: %(choices)s.")


class RefundWaits(Refused):
    code = "refund_waits"
    message = _("A refund of this order waits for approval already.")


class Refunding(Approving):
    # --- planned --------------------------------------------------------------------------------------------------

    def planned_refund(
        self,
        facts: Facts,
        *,
        amount: Decimal,
        kind: str = RefundKind.GOODWILL,
        destination: payments.Destination | str = "",
    ) -> rules.Plan:
        """This will plan a refund without goods: which payments, where it goes, whose approval it needs.

        Raises BadAmount (more than there is, or than shipping cost), UnknownRefundKind, DestinationNotOffered,
        NoAccount.
        """
        to = payments.Destination.of(destination)
        payments.require_offered(to, owner_id=facts.order.customer_id)
        self._check_amount(facts, amount, kind)
        # However it was written, 9 or 9.000: the same amount is the same plan.
        amount = rounded(amount, facts.order.currency)
        plan = rules.plan_refund_without_goods(facts, amount, destination=to.gateway)
        return replace(plan, approval=self.assess_refund(facts, amount))

    def _check_amount(self, facts: Facts, amount: Decimal, kind: str) -> None:
        if kind not in RefundKind.values:
            params = {"kind": kind, "choices": ", ".join(RefundKind.values)}
            raise UnknownRefundKind(params=params, field="kind")
        most, words = facts.refundable, _("Only %(max)s can be refunded.")
        if kind == RefundKind.SHIPPING:
            left = rules.shipping_left(facts, shipping_given_back(facts))
            if left < most:
                most, words = left, _("Of the shipping costs, only %(max)s was paid and not given back yet.")
        self._amount(facts, amount, at_most=most, words=words)

    # --- done -----------------------------------------------------------------------------------------------------

    def refund(
        self,
        *,
        number: str,
        amount: Decimal,
        note: str,
        kind: str = RefundKind.GOODWILL,
        destination: payments.Destination | str = "",
        cause: str | None = None,
        version: int | None = None,
        plan: rules.Plan | None = None,
        agreed: RefundRequest | None = None,
    ) -> PaymentEvent:
        """This will send money back that is tied to no unit: goodwill, shipping costs, a fee or an overcharge.

        amount       in the order's currency, at most what was captured and not sent back yet; over its payments, newest
                     first. It is given on top: units cancelled later are refunded in full, as far as money is left.
                     Money that covers no unit yet goes back first.
        kind         what it is for (RefundKind). Shipping: at most what was paid for it and not given back, with units
                     or by itself
        destination  where it goes, if not the way it came: see `going_to`
        cause        a second call with the same cause returns the first one's event
        plan         what was shown; if something else would happen by now, PlanChanged is raised
        agreed       the request that somebody else has approved
        Raises Refused: ApprovalNeeded where somebody else has to agree first.
        """
        with self.decide(number, "refund", version=version, note=note) as d:
            if (before := self._refunded_before(d, cause)) is not None:
                return before
            d.require(rules.refund(d.facts, self.actor) or self.why_not("refund", d.facts))
            to = self.going_to(d.order, destination)
            now = self.planned_refund(d.facts, amount=amount, kind=kind, destination=to)
            if plan is not None and plan != now:
                raise rules.plan_changed(plan, now)
            if agreed is None:
                d.require(self.why_not_refund_alone(d, amount))
            free = min(amount, max(ZERO, d.facts.spare))
            return self.give_back(d, amount=amount, unapplied=free, reason=note, cause=cause, kind=kind, destination=to)

    def _refunded_before(self, d: Decision, cause: str | None) -> PaymentEvent | None:
        """What this cause has sent back already; then nothing is decided and nothing written. Raises CauseReused."""
        if not cause:
            return None
        before = PaymentEvent.objects.select_related("event_type", "refund").filter(cause=cause).first()
        if before is not None:
            if before.order_id != d.order.pk or before.event_type.code != "refunded":
                raise CauseReused(params={"cause": cause})
            d.only_if_changed = True
        return before

    def submit_refund(
        self,
        *,
        number: str,
        amount: Decimal,
        note: str,
        kind: str = RefundKind.GOODWILL,
        destination: payments.Destination | str = "",
        cause: str | None = None,
        version: int | None = None,
        plan: rules.Plan | None = None,
    ) -> PaymentEvent | RefundRequest:
        """This will refund, or ask for approval where somebody else has to agree: then nothing has moved yet.

        As in `refund`; approvers read the note. The same cause again is answered by what has become of it.
        """
        if cause and (asked := RefundRequest.objects.select_related("event__refund").filter(cause=cause).first()):
            if asked.order_id != self.order_of(number).pk:
                raise CauseReused(params={"cause": cause})
            return asked.event or asked
        chosen: dict[str, Any] = {"amount": amount, "note": note, "kind": kind, "destination": destination}
        try:
            return self.refund(number=number, cause=cause, version=version, plan=plan, **chosen)
        except rules.ApprovalNeeded:
            return self._ask_refund(number=number, cause=cause, version=version, plan=plan, **chosen)

    def _ask_refund(
        self,
        *,
        number: str,
        amount: Decimal,
        note: str,
        kind: str,
        destination: payments.Destination | str,
        cause: str | None,
        version: int | None,
        plan: rules.Plan | None,
    ) -> RefundRequest:
        """Record a refund that waits for somebody's yes, checked like one that happens."""
        assert self.user is not None
        with self.decide(number, "ask_refund", version=version, note=note) as d:
            before = RefundRequest.objects.filter(cause=cause, order=d.order).first() if cause else None
            if before is not None:
                d.only_if_changed = True
                return before
            if RefundRequest.objects.filter(order=d.order, status=RefundRequest.Status.WAITING).exists():
                raise RefundWaits(remedy=_("Wait for its answer, or let it be withdrawn."))
            d.require(rules.refund(d.facts, self.actor) or self.why_not("refund", d.facts))
            to = self.going_to(d.order, destination)
            now = self.planned_refund(d.facts, amount=amount, kind=kind, destination=to)
            if plan is not None and plan != now:
                raise rules.plan_changed(plan, now)
            if now.approval is None:
                raise rules.NothingToDo(_("This needs nobody's approval."), remedy=_("Refund it."))
            row = RefundRequest(
                order=d.order,
                amount=amount,
                currency=d.order.currency,
                kind=kind,
                note=note,
                plan=as_json(now),
                version=d.order.version,
                cause=cause,
                requested_by=self.user,
                requested_by_name=self.actor.name,
                created_at=d.as_of,
            )
            row.goes_to = to
            row.save()
            self._open_refund_approval(d, row, now)
        return row

    def _open_refund_approval(self, d: Decision, row: RefundRequest, plan: rules.Plan) -> None:
        assert plan.approval is not None
        approval = Approval(
            refund_request=row,
            store_id=d.order.store_id,
            level=plan.approval.level,
            policies=list(plan.approval.because),
            digest=plan.digest,
            requested_by=row.requested_by,
            justification=row.note,
            created_at=d.as_of,
        )
        d.details["refund_request"] = row.as_record()
        d.details["approval"] = {"level": approval.level, "because": approval.policies}
        self.send_to_approvers(approval, "approval_needed")

    # --- decided --------------------------------------------------------------------------------------------------

    def approve_refund(self, *, approval: str, note: str = "", version: int | None = None) -> RefundRequest:
        """This will agree to a refund that somebody else asked for, and do it, exactly as it was asked for.

        approval  its uuid. Locks the order, the approval, then its payments. Raises Refused: not an approver of its
        level, one's own request, decided already; PlanChanged where something else would happen by now.
        """
        number = order_number(approval_of(approval, self.actor))
        with self.passed_on(approval), self.decide(number, "refund", version=version, note=note) as d:
            found, row = self._answered(approval, Approval.Status.APPROVED, note)
            plan = self.planned_refund(d.facts, amount=row.amount, kind=row.kind, destination=row.goes_to)
            if plan.digest != found.digest:
                no = rules.plan_changed(rules.plan_from_json(row.plan), plan)
                no.remedy = f"{no.remedy} " + _now("Reject it, and let it be asked for again.")
                raise no
            row.event = self.refund(
                number=number,
                amount=row.amount,
                note=row.note,
                kind=row.kind,
                destination=row.goes_to,
                cause=row.cause,
                agreed=row,
            )
            row.status = RefundRequest.Status.DONE
            row.save(update_fields=["status", "event"])
            d.details["refund_request"] = row.as_record()
            d.details["approval"] = {"id": str(found.uuid), "requested_by": row.requested_by_name, "note": note}
            self._tell_requester(found)
        return row

    def reject_refund(self, *, approval: str, note: str, version: int | None = None) -> RefundRequest:
        """This will refuse a refund that somebody else asked for; nothing happens to the order.

        note  why, for the one who asked. Raises Refused.
        """
        if not note.strip():
            raise Invalid(_("Say why not: the one who asked wants to know."), code="note_needed", field="note")
        number = order_number(approval_of(approval, self.actor))
        with self.decide(number, "reject_refund", version=version, note=note) as d:
            found, row = self._answered(approval, Approval.Status.REJECTED, note)
            self._close(d, row, RefundRequest.Status.REJECTED, note)
            self._tell_requester(found)
        return row

    def withdraw_refund(self, *, approval: str, note: str = "") -> RefundRequest:
        """This will take back one's own request for approval of a refund. Raises Refused."""
        number = order_number(approval_of(approval, self.actor))
        with self.decide(number, "withdraw_refund", note=note) as d:
            found = self.take_back_own(d, approval, note)
            row = found.refund_request
            assert row is not None
            self._close(d, row, RefundRequest.Status.WITHDRAWN, note)
            close_looks(found)
        return row

    def _answered(self, uuid: str, status: str, note: str) -> tuple[Approval, RefundRequest]:
        """Lock an approval, and give it its answer if the actor may."""
        found = locked_approval(uuid)
        self.answer(found, status, note)
        row = found.refund_request
        assert row is not None
        return found, row

    def _close(self, d: Decision, row: RefundRequest, status: str, note: str) -> None:
        row.status, row.outcome = status, note
        row.save(update_fields=["status", "outcome"])
        d.details["refund_request"] = row.as_record()


def shipping_given_back(facts: Facts) -> Decimal:
    """What of an order's shipping costs has been refunded by itself; what failed is left out."""
    given = PaymentEvent.objects.filter(order=facts.order, refund_kind=RefundKind.SHIPPING)
    amounts = given.exclude(refund__status=Refund.Status.FAILED).values_list("amount", flat=True)
    return sum(amounts, ZERO)
