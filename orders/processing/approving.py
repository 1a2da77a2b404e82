"""Cancellations that somebody else has to agree to: asked for, decided, reminded, escalated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from notifications import services as notifications
from orders import rules
from orders.models import Approval, Cancellation, RefundRequest
from orders.processing.approvers import StandIn, approvers, full_name, stood_in_for
from orders.processing.cancelling import Choices, choices_of
from orders.processing.decision import Decision
from orders.processing.requesting import Requesting
from orders.processing.turns import take_turns
from payments import services as payments
from shop import jobs
from shop.actors import Actor
from shop.errors import Invalid, NotFound, Refused
from shop.models import User
from shop.money import shown
from shop.together import atomic

DUE = "orders.approval_due"


class AlreadyWaiting(Refused):
    code = "already_waiting"
    message = _("A cancellation of this order waits already: %(what)s.")


class NobodyDecides(Refused):
    code = "nobody_decides"
    message = _("The cancellation of order %(number)s waits for approval since %(since)s, and nobody has decided.")


class NobodyAvailable(Refused):
    code = "nobody_available"
    message = _("Nobody who may approve the cancellation of order %(number)s is there; it waits.")


class NoSuchApproval(NotFound):
    code = "approval_not_found"
    message = _("There is no such approval.")


class Approving(Requesting):
    _stand_ins: list[StandIn] | None = None

    # --- asked for ------------------------------------------------------------------------------------------------

    def _ask_approval(
        self,
        *,
        number: str,
        plan: rules.Plan | None,
        cause: str | None,
        version: int | None,
        justification: str,
        **chosen: Any,
    ) -> Cancellation:
        with self.decide(number, "ask_approval", version=version, note=justification) as d:
            if (before := self.asked_before(d, cause)) is not None:
                return before
            row, now = self._wish(d, Cancellation.Status.WAITING_APPROVAL, plan=plan, cause=cause, **chosen)
            if now.approval is None:
                raise rules.NothingToDo(_("This needs nobody's approval."))
            self._open_approval(d, row, now, justification=justification)
        return row

    def asked_before(self, d: Decision, cause: str | None) -> Cancellation | None:
        """What the same wish has made already, asked under the order's lock; then nothing is written."""
        before = Cancellation.objects.filter(cause=cause, order=d.order).first() if cause else None
        d.only_if_changed = before is not None
        return before

    def _wish(
        self, d: Decision, status: str, *, plan: rules.Plan | None, cause: str | None, **chosen: Any
    ) -> tuple[Cancellation, rules.Plan]:
        """Record a cancellation that does not happen yet, checked like one that does."""
        waiting = Cancellation.objects.filter(order=d.order, status__in=Cancellation.WAITING).first()
        if waiting is not None:
            raise AlreadyWaiting(params={"what": waiting.get_status_display()})
        reason = self.reason_of(chosen.pop("reason"), note=chosen["note"])
        to = chosen.pop("destination")
        chosen["destination"] = self.going_to(d.order, to) if chosen["refund"] else payments.AS_PAID
        choices = Choices(reason=reason, **chosen)
        self._check_cancel(d, choices)
        now = self.planned(d.facts, choices)
        if plan is not None and plan != now:
            raise rules.plan_changed(plan, now)
        row = self.draft(d, now, choices)
        row.status, row.cause = status, cause
        row.save()
        d.reason = reason.code if reason else ""
        d.details["plan"], d.details["cancellation"] = now.effects, str(row.uuid)
        return row, now

    def _open_approval(self, d: Decision, row: Cancellation, plan: rules.Plan, *, justification: str) -> Approval:
        assert plan.approval is not None
        assert self.user is not None
        approval = Approval(
            cancellation=row,
            store_id=d.order.store_id,
            level=plan.approval.level,
            policies=list(plan.approval.because),
            digest=plan.digest,
            requested_by=self.user,
            justification=justification.strip(),
            created_at=d.as_of,
        )
        d.details["approval"] = {"level": approval.level, "because": approval.policies}
        self.send_to_approvers(approval, "approval_needed")
        return approval

    def send_to_approvers(self, approval: Approval, event: str, *, unanswered_by: str = "") -> None:
        """Set an approval's times, save it, promise its next look, and tell those who may decide it.

        Where nobody of its level is there, it goes up to the first level where somebody is.
        """
        levels = [row for row in self.approval_policies().levels if row.level >= approval.level]
        people: list[User] = []
        for level in sorted(levels, key=lambda row: row.level):
            people = approvers(approval, level, as_of=self.as_of)
            if people:
                approval.level = level.level
                break
        level_row = next((row for row in levels if row.level == approval.level), None)
        remind = timedelta(minutes=level_row.remind_after_minutes if level_row else 60)
        escalate = timedelta(minutes=level_row.escalate_after_minutes if level_row else 240)
        approval.remind_at = self.as_of + remind if people else self.as_of
        approval.escalate_at = self.as_of + escalate if people else self.as_of
        approval.save()
        self._look_again(approval)
        self._tell_staff(approval, event, people, lambda: {**self.told_of(approval), "unanswered_by": unanswered_by})

    def _look_again(self, approval: Approval) -> None:
        at = approval.remind_at or approval.escalate_at
        if at is not None:
            jobs.enqueue(
                DUE,
                key=f"{DUE}:{approval.uuid}:{approval.level}:{at.isoformat()}",
                args={"approval": str(approval.uuid)},
                reference=order_number(approval),
                store_id=approval.store_id,
                run_at=at,
            )

    def _tell_staff(
        self, approval: Approval, event: str, people: Iterable[User], facts: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Promise one mail to each; `facts` is asked in each person's language."""
        cause = f"approval:{approval.pk}:{approval.escalations}:{approval.status}"
        deadline = approval.escalate_at if approval.is_open else None
        drafts = []
        for person in people:
            with translation.override(person.language):
                context = {
                    "requester_name": full_name(approval.requested_by),
                    "justification": approval.justification,
                    "policies": approval.policies,
                    "deadline": timezone.localtime(deadline).isoformat() if deadline else "",
                    "url": f"{settings.SITE_URL.rstrip('/')}{approval_path(approval)}",
                    "approver_name": full_name(person) if approval.is_open else "",
                    **facts(),
                }
            drafts.append(
                notifications.Draft(
                    event=event,
                    cause=cause,
                    reference=order_number(approval),
                    store_id=approval.store_id,
                    recipient=person.email,
                    language=person.language,
                    context=context,
                )
            )
        if drafts:
            notifications.queue_messages(drafts)

    def told_of(self, approval: Approval, plan: rules.Plan | None = None) -> dict[str, Any]:
        """What mails to staff say of a cancellation, in the active language: nothing about the customer."""
        if approval.bulk_run is not None:
            return told_of_run(approval)
        if approval.refund_request is not None:
            return told_of_refund(approval.refund_request)
        row = approval.cancellation
        assert row is not None
        plan = plan or rules.plan_from_json(row.plan)
        return {
            "number": row.order.number,
            "order_count": 1,
            "store": {"name": row.order.store.name},
            "stage": str(row.stage_label),
            "reason": row.reason.label if row.reason else "",
            "value": shown(row.value, row.currency),
            "refund": shown(plan.refund, plan.currency) if plan.refund else "",
        }

    # --- decided --------------------------------------------------------------------------------------------------

    def approve_cancellation(self, *, approval: str, note: str = "", version: int | None = None) -> Cancellation:
        """This will agree to a cancellation that somebody else asked for, and do it, exactly as it was shown to them.

        approval  its uuid. Locks the order, the approval, then its payments. Raises Refused: not an approver of its
        level, one's own request, decided already; PlanChanged where something else would happen by now.
        """
        number = order_number(approval_of(approval, self.actor))
        with self.passed_on(approval), self.decide(number, "cancel", version=version, note=note) as d:
            found, row = self._decided(approval, Approval.Status.APPROVED, note)
            choices = choices_of(row)
            plan = self.planned(d.facts, choices)
            if plan.digest != found.digest:
                no = rules.plan_changed(rules.plan_from_json(row.plan), plan)
                no.remedy = f"{no.remedy} " + _now("Reject it, and let it be asked for again.")
                raise no
            d.details["approval"] = {"id": str(found.uuid), "requested_by": row.requested_by_name, "note": note}
            self.cancel(number=number, agreed=row, **self._as_arguments(choices, note))
            self._tell_requester(found)
        return row

    def _as_arguments(self, choices: Choices, note: str) -> dict[str, Any]:
        names = ("lines", "reason", "restock", "refund", "notify", "ends_series", "contact", "destination")
        return {**{name: getattr(choices, name) for name in names}, "note": choices.note or note}

    def reject_cancellation(self, *, approval: str, note: str, version: int | None = None) -> Cancellation:
        """This will refuse a cancellation that somebody else asked for; nothing happens to the order.

        note  why, for the one who asked. Raises Refused.
        """
        if not note.strip():
            raise Invalid(_("Say why not: the one who asked wants to know."), code="note_needed", field="note")
        number = order_number(approval_of(approval, self.actor))
        with self.decide(number, "reject_cancellation", version=version, note=note) as d:
            found, row = self._decided(approval, Approval.Status.REJECTED, note)
            row.status, row.outcome = Cancellation.Status.REJECTED, note
            row.save(update_fields=["status", "outcome"])
            d.details["cancellation"] = str(row.uuid)
            self._tell_requester(found)
        return row

    def withdraw_cancellation(self, *, approval: str, note: str = "") -> Cancellation:
        """This will take back one's own request for approval. Raises Refused."""
        number = order_number(approval_of(approval, self.actor))
        with self.decide(number, "withdraw_cancellation", note=note) as d:
            found = self.take_back_own(d, approval, note)
            row = found.cancellation
            assert row is not None
            row.status, row.outcome = Cancellation.Status.WITHDRAWN, note
            row.save(update_fields=["status", "outcome"])
            d.details["cancellation"] = str(row.uuid)
            close_looks(found)
        return row

    def take_back_own(self, d: Decision, uuid: str, note: str) -> Approval:
        """Lock an approval that the actor has asked for, and withdraw it. Raises ApprovalDecided, NotAnApprover."""
        found = locked_approval(uuid)
        if not found.is_open:
            raise rules.ApprovalDecided
        if found.requested_by_id != self.actor.user_id:
            raise rules.NotAnApprover(params={"who": full_name(found.requested_by)})
        found.status, found.decided_at, found.note = Approval.Status.WITHDRAWN, d.as_of, note
        found.save(update_fields=["status", "decided_at", "note"])
        return found

    def _decided(self, uuid: str, status: str, note: str) -> tuple[Approval, Cancellation]:
        """Lock an approval, and give it its answer if the actor may."""
        found = locked_approval(uuid)
        self.answer(found, status, note)
        row = found.cancellation
        assert row is not None
        return found, row

    def why_not_decide(self, approval: Approval) -> Refused | None:
        """This will tell why the actor may not decide an approval, or None."""
        levels = [x.level for x in self._stood_in_for() if x.may_decide(approval)]
        return rules.decide_approval(approval, self.actor, self.approval_policies(), stands_in_for=levels)

    def _stood_in_for(self) -> list[StandIn]:
        if self._stand_ins is None:
            self._stand_ins = stood_in_for(self.actor, as_of=self.as_of)
        return self._stand_ins

    def answer(self, approval: Approval, status: str, note: str) -> None:
        """Write the answer to a locked approval. Raises Refused where the actor may not give it."""
        no = self.why_not_decide(approval)
        if no is not None:
            raise no
        if status == Approval.Status.APPROVED:
            self._require_level_of_today(approval)
        own = self.approval_policies().own_level >= approval.level
        instead = next((x.user for x in self._stood_in_for() if x.may_decide(approval)), None)
        approval.instead_of = None if own else instead
        approval.status, approval.decided_by, approval.decided_at = status, self.user, self.as_of
        approval.note = note
        approval.save(update_fields=["status", "decided_by", "decided_at", "note", "instead_of", "level", "policies"])
        close_looks(approval)

    # --- stricter meanwhile ---------------------------------------------------------------------------------------

    def needed_today(self, approval: Approval) -> rules.PlannedApproval | None:
        """This will tell whose agreement the one who asked would need by the policies as they are now, if anybody's."""
        row = approval.wish
        asker = self.as_asker(approval)
        if row is None or asker is None:
            return None
        facts = row.order.facts
        if isinstance(row, RefundRequest):
            return asker.assess_refund(facts, row.amount)
        # Of the approver too, whose cancelling counts next: who takes turns takes them at once, or two could hang.
        take_turns(asker.counted_by([row.order]) | self.counted_by([row.order]))
        return asker.assess(facts, rules.plan_from_json(row.plan), row.reason).approval

    def as_asker(self, approval: Approval) -> Approving | None:
        """This shop's handler for the one who asked; None: they are nobody's staff any more."""
        person = approval.requested_by
        if not (person.is_active and person.is_staff):
            return None
        return type(self)(actor=Actor.staff(person), as_of=self.as_of)

    def _require_level_of_today(self, approval: Approval) -> None:
        """The higher of the level that was asked and today's counts. Raises StricterByNow."""
        needed = self.needed_today(approval)
        if needed is None or needed.level <= approval.level:
            return
        asked, policies = approval.level, approval.policies
        approval.level, approval.policies = needed.level, list(needed.because)
        if self.why_not_decide(approval) is not None:
            approval.level, approval.policies = asked, policies
            raise rules.stricter_by_now(needed)

    @contextmanager
    def passed_on(self, uuid: str) -> Iterator[None]:
        """Where the approver's level does not suffice by now, those whose does are asked, though it is refused."""
        try:
            yield
        except rules.StricterByNow as no:
            if no.needed is not None:
                self._pass_on(uuid, no.needed)
            raise

    def _pass_on(self, uuid: str, needed: rules.PlannedApproval) -> None:
        asked = approval_of(uuid, self.actor)
        with self.decide(order_number(asked), "ask_approval") if asked.wish else atomic() as d:
            found = locked_approval(uuid)
            if not found.is_open or found.level >= needed.level:
                if d is not None:
                    d.only_if_changed = True
                return
            found.level, found.policies = needed.level, list(needed.because)
            found.escalations += 1
            if d is not None:
                d.details["approval"] = {"level": found.level, "because": found.policies}
            self.send_to_approvers(found, "approval_needed")

    def _tell_requester(self, approval: Approval) -> None:
        def facts() -> dict[str, Any]:
            row = approval.wish or approval.bulk_run
            outcome = str(row.get_status_display()) if row else ""
            decided = {"decision": approval.status, "decided_by": self.actor.name, "note": approval.note}
            return {**self.told_of(approval), **decided, "outcome": outcome}

        self._tell_staff(approval, "approval_decided", [approval.requested_by], facts)

    # --- later ----------------------------------------------------------------------------------------------------

    def approval_due(self, *, approval: str) -> None:
        """This will remind approvers, or go up a level; at the highest, or with nobody there, the inbox is told.

        Called by a worker; does nothing once it is decided. Raises NobodyDecides, NobodyAvailable: its job then waits
        for a person.
        """
        asked = approval_of(approval, self.actor)
        if asked.bulk_run_id is not None:
            with atomic():
                self._follow_up(locked_approval(approval))
            return
        with self.decide(order_number(asked), "ask_approval") as d:
            d.only_if_changed = True
            found = locked_approval(approval)
            no: Refused | None
            if found.refund_request is not None:
                # A dispute ends: what waits for its end is not overtaken by it.
                no = None if rules.not_disputed(d.facts) else rules.refund(d.facts, self.actor)
            else:
                no = None if d.order.undo_until else rules.cancel(d.facts, self.actor)
            if no is not None and found.is_open:
                self._overtake(d, found, str(no))
            else:
                self._follow_up(found)

    def _overtake(self, d: Decision, found: Approval, why: str) -> None:
        """Close what nobody needs to decide any more: the order was cancelled, shipped or refunded meanwhile."""
        found.status, found.decided_at, found.note = Approval.Status.WITHDRAWN, d.as_of, why
        found.save(update_fields=["status", "decided_at", "note"])
        row = found.wish
        assert row is not None
        what = "cancellation" if found.cancellation else "refund"
        d.verb, d.only_if_changed = f"withdraw_{what}", False
        row.status, row.outcome = row.Status.OUTDATED.value, why
        row.save(update_fields=["status", "outcome"])
        if isinstance(row, RefundRequest):
            d.details["refund_request"] = row.as_record()
        else:
            d.details["cancellation"] = str(row.uuid)
        close_looks(found)

    def _follow_up(self, found: Approval) -> None:
        if not found.is_open:
            return
        if found.escalate_at and found.escalate_at > self.as_of:
            self._remind(found)
            return
        higher = [row.level for row in self.approval_policies().levels if row.level > found.level]
        if not higher:
            raise self._nobody(found)
        before = next((row.name for row in self.approval_policies().levels if row.level == found.level), "")
        found.level, found.escalations = min(higher), found.escalations + 1
        self.send_to_approvers(found, "approval_escalated", unanswered_by=before)

    def _nobody(self, approval: Approval) -> Refused:
        since = f"{timezone.localtime(approval.created_at):%Y-%m-%d %H:%M}"
        kind = NobodyDecides if self._people(approval) else NobodyAvailable
        remedy = _("Find somebody who may decide it, or name who decides in their place.")
        if approval.bulk_run is not None:
            words = _("A bulk cancellation (%(run)s) waits for approval since %(since)s, and nobody has decided.")
            return kind(words, params={"run": approval.bulk_run, "since": since}, remedy=remedy)
        if approval.refund_request is not None:
            words = _("A refund of order %(number)s waits for approval since %(since)s, and nobody has decided.")
            return kind(words, params={"number": order_number(approval), "since": since}, remedy=remedy)
        return kind(params={"number": order_number(approval), "since": since}, remedy=remedy)

    def _people(self, approval: Approval) -> list[User]:
        level = next((row for row in self.approval_policies().levels if row.level == approval.level), None)
        return approvers(approval, level, as_of=self.as_of) if level else []

    def _remind(self, approval: Approval) -> None:
        if approval.remind_at is None or approval.remind_at > self.as_of:
            return
        approval.remind_at = None
        approval.save(update_fields=["remind_at"])
        self._look_again(approval)
        self._tell_staff(approval, "approval_reminder", self._people(approval), lambda: self.told_of(approval))


def order_number(approval: Approval) -> str:
    return (approval.wish.order.number or "") if approval.wish else ""


def told_of_refund(row: RefundRequest) -> dict[str, Any]:
    """What mails to staff say of a refund without goods: nothing about the customer, and no bank account."""
    return {
        "number": row.order.number,
        "order_count": 1,
        "is_refund": True,
        "store": {"name": row.order.store.name},
        "stage": str(row.order.status_label),
        "reason": str(row.get_kind_display()),
        "value": "",
        "refund": shown(row.amount, row.currency),
    }


def told_of_run(approval: Approval) -> dict[str, Any]:
    """What mails to staff say of a bulk run: how many orders, and by currency what they are worth."""
    run = approval.bulk_run
    assert run is not None

    def amounts(name: str) -> str:
        return ", ".join(shown(Decimal(amount), currency) for currency, amount in run.totals.get(name, {}).items())

    return {
        "number": "",
        "order_count": run.totals.get("orders", 0),
        "store": {"name": approval.store.name if approval.store else ""},
        "stage": "",
        "reason": run.reason.label,
        "value": amounts("value"),
        "refund": amounts("refund"),
    }


def approval_path(approval: Approval) -> str:
    return reverse("admin:orders_approval_change", args=(approval.pk,))


def approval_of(uuid: str, actor: Actor) -> Approval:
    """An approval by its uuid, of the actor's stores. Raises NoSuchApproval."""
    related = ("cancellation__order", "refund_request__order", "bulk_run", "requested_by")
    rows = Approval.objects.select_related(*related).filter(uuid=uuid)
    if actor.stores is not None:
        # What one has asked for in several stores, one may take back; deciding it is for those who work in all.
        rows = rows.filter(Q(store__in=actor.stores) | Q(store=None, requested_by=actor.user))
    found = rows.first()
    if found is None or not (actor.is_staff or actor.is_system):
        raise NoSuchApproval
    return found


def locked_approval(uuid: str) -> Approval:
    rows = Approval.objects.select_for_update(no_key=True, of=("self",))
    related = ("cancellation__order__store", "cancellation__reason", "bulk_run__reason", "store", "requested_by")
    return rows.select_related(*related, "refund_request__order__store").get(uuid=uuid)


def close_looks(approval: Approval) -> None:
    """The reminders and escalations that are still promised, and what of them waits in the inbox."""
    jobs.call_off(prefix=f"{DUE}:{approval.uuid}:", note=str(approval.get_status_display()))
