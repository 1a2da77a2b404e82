"""Cancellations that cannot happen at once: somebody has to agree first, or maintenance has to end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission
from django.db.models import Max, Q, QuerySet, Subquery
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from notifications import services as notifications
from orders import rules
from orders.models import Absence, Approval, ApprovalLevel, Cancellation, CancellationReason, CancellationRequest, Order
from orders.processing.base import CauseReused
from orders.processing.cancelling import Choices, Contact, choices_of
from orders.processing.decision import Decision
from orders.processing.requesting import Requesting
from shop import jobs, maintenance
from shop.actors import ALL_STORES, Actor
from shop.errors import Invalid, NotFound, Refused
from shop.models import User
from shop.money import shown
from shop.together import atomic

DECIDE = "orders.decide_approval"
DUE = "orders.approval_due"
QUEUED = "orders.cancel_queued"


class AlreadyWaiting(Refused):
    code = "already_waiting"
    message = _("A cancellation of this order waits already: %(what)s.")


class JustificationMissing(Invalid):
    code = "justification_missing"
    message = _("Say why it should be cancelled: whoever decides has to know.")


class NobodyDecides(Refused):
    code = "nobody_decides"
    message = _("The cancellation of order %(number)s waits for approval since %(since)s, and nobody has decided.")


class NobodyAvailable(Refused):
    code = "nobody_available"
    message = _("Nobody who may approve the cancellation of order %(number)s is there; it waits.")


class NoSuchApproval(NotFound):
    code = "approval_not_found"
    message = _("There is no such approval.")


@dataclass(frozen=True, slots=True)
class StandIn:
    """Somebody who is away: the level and the stores (None: all) that another decides for in their place."""

    user: User
    level: int
    stores: frozenset[int] | None

    def may_decide(self, approval: Approval) -> bool:
        """As the one who is away might: never their own request, and only in their own stores."""
        here = self.stores is None or approval.store_id in self.stores
        return here and self.level >= approval.level and self.user.pk != approval.requested_by_id

    @property
    def rows(self) -> Q:
        """The same, for many."""
        here = Q() if self.stores is None else Q(store__in=self.stores)
        return here & Q(level__lte=self.level) & ~Q(requested_by=self.user)


class Approving(Requesting):
    _stand_ins: list[StandIn] | None = None

    # --- one door for whoever wants an order cancelled ------------------------------------------------------------

    def submit_cancellation(
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
        contact: Contact = Contact(),  # noqa: B008 - frozen
        plan: rules.Plan | None = None,
        cause: str | None = None,
        version: int | None = None,
        justification: str = "",
    ) -> Cancellation:
        """This will cancel, or ask for approval, or queue it during maintenance; the answer's status tells which.

        justification  for approvers; without it, ApprovalNeeded is raised where somebody has to agree
        The rest as in `cancel`. Raises Refused.
        """
        if cause and (before := Cancellation.objects.filter(cause=cause).select_related("event").first()):
            # The same wish again: it is answered by what has become of it.
            if before.order_id != self.order_of(number).pk:
                raise CauseReused(params={"cause": cause})
            return before
        choices: dict[str, Any] = {
            "lines": lines,
            "reason": reason,
            "note": note,
            "restock": restock,
            "refund": refund,
            "notify": notify,
            "ends_series": ends_series,
            "contact": contact,
        }
        if maintenance.current() is not None:
            return self._queue(number=number, plan=plan, cause=cause, version=version, note_to=justification, **choices)
        try:
            event = self.cancel(number=number, plan=plan, cause=cause, version=version, **choices)
        except rules.ApprovalNeeded:
            if not justification.strip():
                raise
            return self._ask(
                number=number, plan=plan, cause=cause, version=version, justification=justification, **choices
            )
        return Cancellation.objects.select_related("event").get(event=event)

    # --- asked for ------------------------------------------------------------------------------------------------

    def _ask(
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
            row, now = self._wish(d, Cancellation.Status.WAITING_APPROVAL, plan=plan, cause=cause, **chosen)
            if now.approval is None:
                raise rules.NothingToDo(_("This needs nobody's approval."))
            self._open_approval(d, row, now, justification=justification)
        return row

    def _wish(
        self, d: Decision, status: str, *, plan: rules.Plan | None, cause: str | None, **chosen: Any
    ) -> tuple[Cancellation, rules.Plan]:
        """Record a cancellation that does not happen yet, checked like one that does."""
        waiting = Cancellation.objects.filter(order=d.order, status__in=Cancellation.WAITING).first()
        if waiting is not None:
            raise AlreadyWaiting(params={"what": waiting.get_status_display()})
        reason = self.reason_of(chosen.pop("reason"), note=chosen["note"])
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
        with self.decide(number, "cancel", version=version, note=note) as d:
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
        names = ("lines", "reason", "restock", "refund", "notify", "ends_series", "contact")
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
            found = locked_approval(approval)
            if not found.is_open:
                raise rules.ApprovalDecided
            if found.requested_by_id != self.actor.user_id:
                raise rules.NotAnApprover(params={"who": full_name(found.requested_by)})
            found.status, found.decided_at, found.note = Approval.Status.WITHDRAWN, d.as_of, note
            found.save(update_fields=["status", "decided_at", "note"])
            row = found.cancellation
            assert row is not None
            row.status, row.outcome = Cancellation.Status.WITHDRAWN, note
            row.save(update_fields=["status", "outcome"])
            d.details["cancellation"] = str(row.uuid)
            close_looks(found)
        return row

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
        own = self.approval_policies().own_level >= approval.level
        instead = next((x.user for x in self._stood_in_for() if x.may_decide(approval)), None)
        approval.instead_of = None if own else instead
        approval.status, approval.decided_by, approval.decided_at = status, self.user, self.as_of
        approval.note = note
        approval.save(update_fields=["status", "decided_by", "decided_at", "note", "instead_of"])
        close_looks(approval)

    def _tell_requester(self, approval: Approval) -> None:
        def facts() -> dict[str, Any]:
            row = approval.cancellation or approval.bulk_run
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
            no = None if d.order.undo_until else rules.cancel(d.facts, self.actor)
            if no is not None and found.is_open:
                self._overtake(d, found, str(no))
            else:
                self._follow_up(found)

    def _overtake(self, d: Decision, found: Approval, why: str) -> None:
        """Close what nobody needs to decide any more: the order was cancelled or has shipped meanwhile."""
        d.verb, d.only_if_changed = "withdraw_cancellation", False
        found.status, found.decided_at, found.note = Approval.Status.WITHDRAWN, d.as_of, why
        found.save(update_fields=["status", "decided_at", "note"])
        row = found.cancellation
        assert row is not None
        row.status, row.outcome = Cancellation.Status.OUTDATED, why
        row.save(update_fields=["status", "outcome"])
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

    # --- maintenance ----------------------------------------------------------------------------------------------

    def _queue(
        self,
        *,
        number: str,
        plan: rules.Plan | None,
        cause: str | None,
        version: int | None,
        note_to: str,
        **chosen: Any,
    ) -> Cancellation:
        """Record a cancellation that is asked for during maintenance, to be worked off afterwards."""
        with self.decide(number, "queue_cancellation", version=version, note=chosen["note"]) as d:
            row, _plan = self._wish(d, Cancellation.Status.QUEUED, plan=plan, cause=cause, **chosen)
            row.outcome = note_to
            row.save(update_fields=["outcome"])
        return row

    def cancel_queued(self, *, cancellation: str) -> Cancellation:
        """This will do what was asked for during maintenance, with the rights of the one who asked, as it was shown.

        Called by a worker. Raises Refused where something else would happen by now, or it is no longer possible: its
        job then waits for a person.
        """
        row = Cancellation.objects.select_related("order__store", "reason", "requested_by").get(uuid=cancellation)
        number = row.order.number or ""
        with self.decide(number, "cancel", note=row.note) as d:
            row = (
                Cancellation.objects.select_for_update(no_key=True, of=("self",))
                .select_related("reason")
                .get(pk=row.pk)
            )
            if row.status != Cancellation.Status.QUEUED:
                d.only_if_changed = True
                return row
            row.order = d.order
            choices = choices_of(row)
            plan = self.planned(d.facts, choices)
            before = rules.plan_from_json(row.plan)
            if plan.digest != before.digest:
                raise rules.plan_changed(before, plan)
            if plan.approval is not None:
                d.verb, row.status = "ask_approval", Cancellation.Status.WAITING_APPROVAL
                row.save(update_fields=["status"])
                self._open_approval(d, row, plan, justification=row.outcome or row.note)
                return row
            self.cancel(number=number, agreed=row, **self._as_arguments(choices, row.note))
        return row


# ---------------------------------------------------------------------------------------------------------------
# Who


def approvers(approval: Approval, level: ApprovalLevel, *, as_of: Any) -> list[User]:
    """Who may decide an approval at a level now: its members in the store, or whom they named while they are away."""
    absences = Absence.objects.filter(starts_at__lte=as_of, ends_at__gt=as_of)
    away = dict(absences.values_list("user", "delegate"))
    # Nor does anybody decide it in the place of the one who asked.
    members = staff_of(level.group_id, approval.store_id).exclude(pk=approval.requested_by_id)
    people = {member.pk: member for member in members}
    instead = {away[pk] for pk in people.keys() & away.keys()} - away.keys() - {None, approval.requested_by_id}
    there = {pk: person for pk, person in people.items() if pk not in away}
    if instead:
        there |= {person.pk: person for person in working_in(approval.store_id).filter(pk__in=instead)}
    return list(there.values())


def staff_of(group_id: int, store_id: int | None) -> QuerySet[User]:
    """Active staff of a group who work in a store."""
    return working_in(store_id).filter(groups=group_id).order_by("pk").distinct()


def working_in(store_id: int | None) -> QuerySet[User]:
    """Active staff who work in a store; None: who work in all."""
    label, _dot, codename = ALL_STORES.partition(".")
    everywhere = Permission.objects.filter(content_type__app_label=label, codename=codename)
    here = Q(is_superuser=True) | Q(groups__permissions__in=everywhere) | Q(user_permissions__in=everywhere)
    if store_id is not None:
        here |= Q(stores=store_id)
    return User.objects.filter(is_active=True, is_staff=True, pk__in=User.objects.filter(here).values("pk"))


def stood_in_for(actor: Actor, *, as_of: datetime) -> list[StandIn]:
    """Those who are away and named the actor, each with the highest level they approve at."""
    if actor.user is None:
        return []
    absences = Absence.objects.filter(delegate=actor.user, starts_at__lte=as_of, ends_at__gt=as_of)
    away = {absence.user_id: absence.user for absence in absences.select_related("user")}
    if not away:
        return []
    highest: dict[int, int] = {}
    for level, pk in ApprovalLevel.objects.filter(group__user__in=away).values_list("level", "group__user"):
        highest[pk] = max(level, highest.get(pk, 0))
    found = []
    for pk, level in highest.items():
        if away[pk].is_active and away[pk].is_staff:
            absent = Actor.staff(away[pk])
            if absent.may(DECIDE):
                found.append(StandIn(away[pk], level, absent.stores))
    return found


def decidable(actor: Actor, *, as_of: datetime) -> QuerySet[Approval]:
    """This will find the open approvals that somebody may decide: what `rules.decide_approval` allows, in one query."""
    if actor.user is None:
        return Approval.objects.none()
    which = [x.rows for x in stood_in_for(actor, as_of=as_of)]
    if actor.may(DECIDE):
        levels = ApprovalLevel.objects.all()
        if not actor.user.is_superuser:
            levels = levels.filter(group__user=actor.user)
        which.append(Q(level__lte=Subquery(levels.order_by("-level").values("level")[:1])))
    if not which:
        return Approval.objects.none()
    rows = Approval.objects.filter(reduce(or_, which), status=Approval.Status.OPEN).exclude(requested_by=actor.user)
    return rows if actor.stores is None else rows.filter(store__in=actor.stores)


def full_name(user: User) -> str:
    return user.get_full_name() or user.get_username()


def order_number(approval: Approval) -> str:
    return (approval.cancellation.order.number or "") if approval.cancellation else ""


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
    rows = Approval.objects.select_related("cancellation__order", "bulk_run", "requested_by").filter(uuid=uuid)
    if actor.stores is not None:
        rows = rows.filter(store__in=actor.stores)
    found = rows.first()
    if found is None or not (actor.is_staff or actor.is_system):
        raise NoSuchApproval
    return found


def locked_approval(uuid: str) -> Approval:
    rows = Approval.objects.select_for_update(no_key=True, of=("self",))
    related = ("cancellation__order__store", "cancellation__reason", "bulk_run__reason", "store", "requested_by")
    return rows.select_related(*related).get(uuid=uuid)


def close_looks(approval: Approval) -> None:
    """The reminders and escalations that are still promised, and what of them waits in the inbox."""
    jobs.call_off(prefix=f"{DUE}:{approval.uuid}:", note=str(approval.get_status_display()))


def placed_by(row: Cancellation) -> Actor:
    """The one who asked, with the rights they have by now. Raises NotAllowed."""
    if row.requested_by is None:
        return Actor.system(row.requested_by_name) if row.actor_kind == "system" else Actor.guest(row.order.email)
    return Actor.of_user(row.requested_by)


def promise_queued() -> None:
    """This will promise to do what was asked for during maintenance, oldest first, once for each."""
    queued = Cancellation.objects.filter(status=Cancellation.Status.QUEUED).select_related("order").order_by("pk")
    asked = Order.objects.filter(cancellation_requests__status=CancellationRequest.Status.WAITING)
    latest = asked.annotate(latest=Max("cancellation_requests")).order_by("latest")
    jobs.enqueue_many(
        [
            jobs.Promise(
                QUEUED,
                f"{QUEUED}:{row.uuid}",
                {"cancellation": str(row.uuid)},
                row.order.number or "",
                row.order.store_id,
            )
            for row in queued[:500]
        ]
        + [
            jobs.Promise(QUEUED, f"{QUEUED}:requests:{row.latest}", {"order": row.pk}, row.number or "", row.store_id)
            for row in latest[:500]
        ]
    )
