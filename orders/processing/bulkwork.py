"""What workers do of a bulk run: cancel a part of it in one transaction, see whether it is over, tell the customers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.utils import translation
from django.utils.translation import gettext_lazy as _

from notifications import services as notifications
from orders import rules
from orders.models import (
    BulkItem,
    BulkRun,
    Cancellation,
    CommunicationEvent,
    Facts,
    ShippingEvent,
)
from orders.processing.approving import Approving
from orders.processing.batch import Batching, Outcomes
from orders.processing.cancelling import Choices, Contact, contact_of
from orders.processing.decision import Decision
from orders.processing.letters import cancellation_letter, order_context
from payments.models import Payment
from shop import jobs, maintenance
from shop.actors import STAFF, Actor
from shop.errors import NotAllowed, Refused
from shop.together import insert, update

logger = logging.getLogger(__name__)

CANCEL, TELL = "orders.bulk_cancel", "orders.bulk_tell"
# So many orders are locked and cancelled in one transaction: seconds, of a lease of a minute.
CHUNK = 100
# So many customers are told in one.
LETTERS = 100
# Somebody looks at the trial, and resumes the run. Where nobody does, its customers hear of it all the same.
TOLD_AFTER_TRIAL = timedelta(hours=1)


class BulkWork(Batching, Approving):
    # Of the run at work: the orders whose letters wait for its end.
    _joint: frozenset[str] = frozenset()

    # --- a part of the orders -------------------------------------------------------------------------------------

    def work_off_bulk(self, *, run_id: int, round: int, first: int, last: int, trial: bool = False) -> None:
        """This will cancel the orders of a run that wait at positions first to last, with its maker's rights by now.

        Called by a worker, in its job's transaction. Nothing, where the run is paused, over, or in another round.
        Locks the items, then as `cancel_many`, then the run.
        """
        run = BulkRun.objects.select_related("reason", "created_by").get(pk=run_id)
        part = run.items.filter(position__range=(first, last), state=BulkItem.State.WAITING)
        if run.round != round or run.status != BulkRun.Status.RUNNING:
            if run.status == BulkRun.Status.STOPPED:
                part.update(state=BulkItem.State.SKIPPED, finished_at=self.as_of)
            return
        if maintenance.current() is not None:
            later = self.as_of + timedelta(seconds=maintenance.RETRY_AFTER_SECONDS)
            promise_part(run, first, last, trial=trial, run_at=later)
            return
        rows = part.select_for_update(no_key=True, of=("self",)).select_related("order").order_by("position")
        items = list(rows)
        if items:
            with translation.override(run.created_by.language):
                self._record_outcomes(run, items, self._cancel_items(run, items))
        self._see_whether_over(run, first=first, trial=trial)

    def _cancel_items(self, run: BulkRun, items: Sequence[BulkItem]) -> Outcomes:
        try:
            actor = Actor.staff(run.created_by)
            actor.require("orders.cancel_in_bulk")
        except NotAllowed as no:
            return {item.order.number or "": no for item in items}
        handler = type(self)(actor=actor, as_of=self.as_of, **self.kwargs)
        handler._may_go_on = True  # maintenance was off when this part began: it is done as a whole
        return handler.cancel_items(run, items)

    def cancel_items(self, run: BulkRun, items: Sequence[BulkItem]) -> Outcomes:
        """This will cancel the orders of these items; letters that are told together wait for the run's end."""
        self._run_at_work = run
        self._joint = frozenset(item.order.number or "" for item in items if item.joint)
        contact = Contact(
            name=run.contact_name, channel=run.contact_channel, details=run.contact_details, at=run.contact_at
        )
        if len({item.changed for item in items}) == 2:
            self.lock_in_order([item.order.number or "" for item in items])
        outcomes: Outcomes = {}
        for changed in (False, True):
            some = {item.order.number or "": item.version for item in items if item.changed == changed}
            self._is_agreed = not changed
            if some:
                outcomes |= self.cancel_many(
                    orders=some,
                    cause=f"bulk:{run.pk}:{run.round}",
                    reason=run.reason,
                    note=run.note,
                    restock=run.restock,
                    refund=run.refund,
                    notify=run.notify,
                    contact=contact,
                    undoable=False,
                )
        return outcomes

    def planned(self, facts: Facts, choices: Choices) -> rules.Plan:
        """The run as a whole was agreed to, or needed nobody's agreement: its orders do not ask again."""
        plan = super().planned(facts, choices)
        if self._run_at_work is None:
            return plan
        return replace(plan, approval=None if self._is_agreed else plan.approval, undo_minutes=0)

    def _take_effect(self, d: Decision, row: Cancellation, plan: rules.Plan, *, exactly: bool) -> None:
        if self._run_at_work is not None:
            d.details["bulk"] = self._run_at_work.pk
            if d.number in self._joint:
                plan = replace(plan, messages=())
        super()._take_effect(d, row, plan, exactly=exactly)

    def _record_outcomes(self, run: BulkRun, items: Sequence[BulkItem], outcomes: Outcomes) -> None:
        """Write what became of each."""
        events = [outcome.pk for outcome in outcomes.values() if isinstance(outcome, ShippingEvent)]
        found = dict(Cancellation.objects.filter(event__in=events).values_list("event", "pk"))
        for item in items:
            outcome = outcomes[item.order.number or ""]
            item.finished_at = self.as_of
            if isinstance(outcome, ShippingEvent):
                item.state, item.cancellation_id = BulkItem.State.DONE, found.get(outcome.pk)
                item.told = not item.joint
            elif isinstance(outcome, Refused):
                item.state, item.code = BulkItem.State.REFUSED, outcome.code[:50]
                item.words = f"{outcome} {outcome.remedy}".strip()
            else:
                told = "Order %s of bulk run %s failed: %s"
                logger.error(told, item.order_id, run.pk, jobs.for_log(outcome))
                item.state, item.code = BulkItem.State.FAILED, "went_wrong"
                words = _("An error that was not expected (%(error)s); nothing happened. It has been recorded.")
                item.words = str(words) % {"error": type(outcome).__name__}
        update(items, ["state", "code", "words", "cancellation_id", "finished_at", "told"])

    def _see_whether_over(self, run: BulkRun, *, first: int, trial: bool) -> None:
        """End a run when nothing of it waits; pause it after its trial. Its lock makes one worker the last."""
        run = BulkRun.objects.select_for_update(no_key=True).get(pk=run.pk)
        if run.status != BulkRun.Status.RUNNING:
            # Paused or stopped meanwhile: those who were told then did not hear of these orders.
            promise_telling(run, after=f"part{first}")
            return
        waiting = run.items.filter(state=BulkItem.State.WAITING)
        if not waiting.exists():
            finish(run, as_of=self.as_of)
        elif trial and not waiting.filter(position__lte=run.try_first).exists():
            run.status = BulkRun.Status.PAUSED
            # Resumed before that, it tells them at its end, of all their orders at once.
            promise_telling(run, after="trial", run_at=self.as_of + TOLD_AFTER_TRIAL)
        run.save(update_fields=["status", "finished_at"])

    def give_up_part(self, *, run_id: int, first: int, last: int, note: str) -> None:
        """This will leave out what of a part still waits: a person has dealt with it."""
        run = BulkRun.objects.get(pk=run_id)
        part = run.items.filter(position__range=(first, last), state=BulkItem.State.WAITING)
        part.update(state=BulkItem.State.SKIPPED, words=note, finished_at=self.as_of)
        self._see_whether_over(run, first=first, trial=False)

    # --- messages -------------------------------------------------------------------------------------------------

    def tell_bulk(self, *, run_id: int) -> None:
        """This will tell the customers who have several orders in a run, once each, of those that are cancelled by now.

        Called by a worker, in its job's transaction; what is left it promises again. Nothing while the run is running.
        """
        run = BulkRun.objects.select_related("reason", "created_by").get(pk=run_id)
        if run.status not in {BulkRun.Status.PAUSED, BulkRun.Status.STOPPED, BulkRun.Status.FINISHED}:
            return
        untold = run.items.filter(state=BulkItem.State.DONE, joint=True, told=False).order_by("position")
        if not run.notify:
            untold.update(told=True)
            return
        customers: dict[tuple[str, str, int], list[int]] = {}
        for pk, email, language, store_id in untold.values_list(
            "pk", "order__email", "order__language", "order__store"
        ):
            customers.setdefault((email.lower(), language, store_id), []).append(pk)
        now = list(customers.values())[:LETTERS]
        related = ("cancellation__reason", "order__store", "order__shipping_address")
        pks = [pk for some in now for pk in some]
        locked = untold.filter(pk__in=pks).select_for_update(no_key=True, of=("self",)).select_related(*related)
        items = {item.pk: item for item in locked}
        groups = [[items[pk] for pk in some if pk in items] for some in now]
        self._write_letters_of(run, [group for group in groups if group])
        if len(customers) > len(now):
            promise_telling(run, after=f"more{pks[-1]}")

    def _write_letters_of(self, run: BulkRun, groups: Sequence[Sequence[BulkItem]]) -> None:
        items = [item for group in groups for item in group]
        numbers = [item.order.number for item in items]
        payments = Payment.objects.filter(reference__in=numbers).order_by("pk")
        facts = {f.order.pk: f for f in Facts.of_many([item.order for item in items], payments)}
        told = [group for group in groups if group[0].order.email]
        drafts = [draft_of(run, group, facts) for group in told]
        messages = notifications.queue_messages(drafts)
        insert(
            (
                CommunicationEvent(
                    order=item.order,
                    event_type=draft.event,
                    message=message,
                    created_at=self.as_of,
                    actor_kind=STAFF,
                    actor_name=run.created_by.get_full_name() or run.created_by.get_username(),
                    user=run.created_by,
                )
                for group, draft, message in zip(told, drafts, messages, strict=True)
                for item in group
            ),
            ignore_conflicts=True,
        )
        for item in items:
            item.told = True
        update(items, ["told"])


def draft_of(run: BulkRun, group: Sequence[BulkItem], facts: Mapping[int, Facts]) -> notifications.Draft:
    """One message about a customer's orders: of one its ordinary letter, of several one about all of them."""
    contexts, event = [], ""
    for item in group:
        row = item.cancellation
        assert row is not None
        plan = rules.plan_from_json(row.plan)
        letter = cancellation_letter(facts[item.order_id], plan, row.reason, contact=contact_of(row))
        event = letter.event
        contexts.append(order_context(item.order, facts[item.order_id], units=plan.units, **letter.extra))
    first = group[0]
    order, one = first.order, contexts[0]
    cause = f"{order.number}:event:{first.cancellation.event_id}" if first.cancellation else ""
    if len(group) > 1:
        event, cause = "orders_cancelled", f"bulk:{run.pk}:{run.round}:{first.pk}"
        names = ("number", "placed_on", "currency", "units", "amount", "refund_destination")
        each = [{name: context[name] for name in names if name in context} for context in contexts]
        one = {name: one[name] for name in ("customer_name", "store", "status_label", "reason")} | {"orders": each}
    return notifications.Draft(
        event=event,
        cause=cause,
        reference=order.number or "",
        store_id=order.store_id,
        recipient=order.email,
        language=order.language,
        context=one,
    )


# ---------------------------------------------------------------------------------------------------------------
# Promised


def promise_parts(run: BulkRun) -> int:
    """This will promise a job for each part of what waits, or for the trial alone. Returns how many orders wait."""
    waiting = run.items.filter(state=BulkItem.State.WAITING).order_by("position")
    positions = list(waiting.values_list("position", flat=True))
    trial = [position for position in positions if position <= (run.try_first or 0)]
    if trial:
        promise_part(run, trial[0], trial[-1], trial=True)
    else:
        parts = (positions[at : at + CHUNK] for at in range(0, len(positions), CHUNK))
        jobs.enqueue_many([_promise(run, part[0], part[-1]) for part in parts])
    return len(positions)


def promise_part(run: BulkRun, first: int, last: int, *, trial: bool, run_at: datetime | None = None) -> None:
    jobs.enqueue_many([_promise(run, first, last, trial=trial, run_at=run_at)])


def _promise(
    run: BulkRun, first: int, last: int, *, trial: bool = False, run_at: datetime | None = None
) -> jobs.Promise:
    args = {"run": run.pk, "round": run.round, "first": first, "last": last, "trial": trial}
    key = f"{CANCEL}:{run.pk}:{run.round}:{first}" + (f":{run_at.isoformat()}" if run_at else "")
    return jobs.Promise(CANCEL, key, args, store_id=run.store_id, batch=run.uuid, run_at=run_at)


def promise_telling(run: BulkRun, *, after: str = "", run_at: datetime | None = None) -> None:
    """This will promise to tell the customers; after: what has come since the first promise of this round."""
    key = f"{TELL}:{run.pk}:{run.round}:{after}"
    jobs.enqueue(TELL, key=key, args={"run": run.pk}, store_id=run.store_id, batch=run.uuid, run_at=run_at)


def finish(run: BulkRun, *, as_of: datetime) -> None:
    """This will end a run of which nothing waits; the caller has locked it and saves it."""
    run.status, run.finished_at = BulkRun.Status.FINISHED, as_of
    promise_telling(run)
