"""Bulk runs: many orders cancelled together, from what would happen to its start, its approval, its pauses and end."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import Approval, BulkItem, BulkRun, CancellationReason, Facts, Order, OrderNotFound
from orders.processing.approving import approval_of, close_looks, locked_approval
from orders.processing.bulkwork import CHUNK, BulkWork, finish, promise_parts, promise_telling
from orders.processing.cancelling import Choices, Contact, approval_needed
from payments.models import Payment
from shop import maintenance
from shop.actors import ANYWHERE, Actor
from shop.errors import Invalid, NotAllowed, NotFound, Refused
from shop.money import ZERO
from shop.together import update

MOST = 10_000
MOST_TRIED_FIRST = CHUNK
READ_AT_ONCE = 500
MAY = "orders.cancel_in_bulk"
RUNS = BulkRun.Status


class NothingChosen(Invalid):
    code = "nothing_chosen"
    message = _("Choose the orders to cancel.")


class TooManyOrders(Invalid):
    code = "too_many_orders"
    message = _("At most %(most)d orders can be cancelled together. Narrow the list down, and do the rest after it.")


class NoSuchRun(NotFound):
    code = "bulk_run_not_found"
    message = _("There is no such bulk cancellation.")


class RunIsElsewhere(Refused):
    """What was asked for makes no sense in the run's status."""

    code = "bulk_run_status"


@dataclass(slots=True)
class BulkPlan:
    """What cancelling many orders would do, in sums; amounts by currency.

    refused   why not → numbers of the orders
    approval  whose agreement all of it together needs
    stores    ids
    """

    orders: list[tuple[int, int]] = field(default_factory=list)
    possible: int = 0
    units: int = 0
    restocked: int = 0
    value: dict[str, Decimal] = field(default_factory=dict)
    refund: dict[str, Decimal] = field(default_factory=dict)
    void: dict[str, Decimal] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    stores: set[int] = field(default_factory=set)
    joint: set[int] = field(default_factory=set)
    approval: rules.PlannedApproval | None = None

    @property
    def totals(self) -> dict[str, Any]:
        """As the run keeps it."""
        money = {
            name: {currency: str(amount) for currency, amount in getattr(self, name).items()}
            for name in ("value", "refund", "void")
        }
        return {"orders": len(self.orders), "possible": self.possible, "units": self.units, **money}


class Bulk(BulkWork):
    # --- planned --------------------------------------------------------------------------------------------------

    def plan_bulk(
        self,
        *,
        orders: Sequence[tuple[int, int]],
        reason: str | int | CancellationReason | None = None,
        restock: bool = True,
        refund: bool = True,
        notify: bool = True,
    ) -> BulkPlan:
        """This will tell what cancelling these orders would do, and whose approval all of it together needs.

        orders  (id, version). Reads READ_AT_ONCE of them at a time, each time with the same number of queries.
        Raises Refused: too many, none, or one that the actor does not know of.
        """
        self.actor.require(MAY)
        if not orders:
            raise NothingChosen
        if len(orders) > MOST:
            raise TooManyOrders(params={"most": MOST})
        row = self.reason_of(reason, note="(planned)")
        choices = Choices(reason=row, restock=restock, refund=refund, notify=notify)
        plan, kinds, customers = BulkPlan(), _Kinds(), dict[int, tuple[str, str, int]]()
        for first in range(0, len(orders), READ_AT_ONCE):
            part = orders[first : first + READ_AT_ONCE]
            found = {facts.order.pk: facts for facts in self._facts_of([pk for pk, _version in part])}
            if len(found) < len({pk for pk, _version in part}):
                raise OrderNotFound
            self.count_ahead([facts.order for facts in found.values()])
            for pk, version in part:
                plan.orders.append((pk, version))
                if self._add(plan, kinds, found[pk], choices):
                    order = found[pk].order
                    customers[pk] = (order.email.lower(), order.language, order.store_id)
        several = Counter(customers.values())
        plan.joint = {pk for pk, customer in customers.items() if customer[0] and several[customer] > 1}
        most = max((n for customer, n in several.items() if customer[0]), default=1)
        subjects = kinds.subjects(row, more_of_customer=most - 1)
        plan.approval = rules.assess_many(subjects, self.approval_policies(), self.actor).approval
        return plan

    def _facts_of(self, pks: Sequence[int]) -> list[Facts]:
        orders = list(Order.objects.of(self.actor).exclude(number=None).filter(pk__in=pks).select_related("store"))
        numbers = [order.number for order in orders]
        return Facts.of_many(orders, Payment.objects.filter(reference__in=numbers).order_by("pk"))

    def _add(self, plan: BulkPlan, kinds: _Kinds, facts: Facts, choices: Choices) -> bool:
        """Add what would happen to one order, or why it cannot. Returns whether it can."""
        order = facts.order
        plan.stores.add(order.store_id)
        try:
            no = rules.cancel(facts, self.actor) or self.why_not("cancel", facts)
            if no is not None:
                raise no
            one = rules.plan_cancellation(
                facts,
                restock=choices.restock,
                refund=choices.refund,
                notify=choices.notify,
                reprices=choices.refund and self.reprices(facts.order),
            )
        except Refused as refused:
            plan.refused.setdefault(str(refused), []).append(order.number or "")
            return False
        plan.possible += 1
        plan.units += one.unit_count
        plan.restocked += sum(line.restock for line in one.lines)
        for sums, amount in ((plan.value, one.worth), (plan.refund, one.refund), (plan.void, one.void)):
            if amount:
                sums[order.currency] = sums.get(order.currency, ZERO) + amount
        before = self._cancelled_before(order) if self.approval_policies().counts else rules.Cancelled()
        kinds.add(order, one.worth, before)
        return True

    # --- begun ----------------------------------------------------------------------------------------------------

    def start_bulk_run(
        self,
        *,
        orders: Sequence[tuple[int, int]],
        reason: str | int | CancellationReason,
        note: str = "",
        restock: bool = True,
        refund: bool = True,
        notify: bool = True,
        contact: Contact = Contact(),  # noqa: B008 - frozen
        try_first: int | None = None,
        justification: str = "",
        once: uuid.UUID | None = None,
    ) -> BulkRun:
        """This will have many orders cancelled by workers, with the actor's rights; where it needs approval, after it.

        orders         (id, version when it was chosen); what has changed since is refused by itself
        try_first      after so many it pauses
        justification  for approvers; without it, ApprovalNeeded is raised where somebody has to agree
        once           the same id again returns the run there is
        Raises Refused.
        """
        self.actor.require(MAY)
        if not self.actor.is_staff:
            raise NotAllowed  # somebody's rights are needed, by then
        if once is not None and (before := BulkRun.objects.filter(once=once, created_by=self.user).first()):
            return before
        self._not_under_maintenance()
        if try_first is not None and not 1 <= try_first <= MOST_TRIED_FIRST:
            words = _("Try between 1 and %(most)d orders first.")
            raise Invalid(words, params={"most": MOST_TRIED_FIRST}, field="try_first")
        row = self.reason_of(reason, note=note)
        chosen = list(dict(orders).items())
        fields = {
            "reason": row,
            "note": note,
            "restock": restock,
            "refund": refund,
            "notify": notify,
            "contact_name": contact.name.strip(),
            "contact_channel": contact.channel,
            "contact_details": contact.details.strip(),
            "contact_at": contact.at or (self.as_of if contact.name.strip() else None),
            "try_first": try_first if try_first and try_first < len(chosen) else None,
        }
        with self._counting_in_turn(chosen):
            plan = self.plan_bulk(orders=chosen, reason=row, restock=restock, refund=refund, notify=notify)
            for store_id in plan.stores:
                self.check_reason(Order(store_id=store_id), Choices(reason=row, note=note, contact=contact))
            if not plan.possible:
                why = next(iter(plan.refused), "")
                raise rules.NothingToDo(_("None of these orders can be cancelled: %(why)s"), params={"why": why})
            if plan.approval is not None and not justification.strip():
                raise approval_needed(plan.approval)
            return self._begin(plan, fields, once=once or uuid.uuid4(), justification=justification)

    @contextmanager
    def _counting_in_turn(self, orders: Sequence[tuple[int, int]]) -> Iterator[None]:
        """Where policies count, one transaction from counting to the run's beginning: the next one sees this run."""
        if not self.approval_policies().counts:
            yield
            return
        with transaction.atomic():
            self.count_run_in_turn([pk for pk, _version in orders])
            yield

    def count_run_in_turn(self, pks: Sequence[int]) -> None:
        """Wait for whoever counts the same as these orders' cancelling does, all of it at once, then count anew."""
        orders: list[Order] = []
        for first in range(0, len(pks), READ_AT_ONCE):
            part = Order.objects.filter(pk__in=pks[first : first + READ_AT_ONCE])
            orders += part.only("customer_id", "email", "store_id")
        self.count_in_turn(orders)

    def _begin(self, plan: BulkPlan, fields: dict[str, Any], *, once: uuid.UUID, justification: str) -> BulkRun:
        assert self.user is not None
        with transaction.atomic():
            run, is_new = BulkRun.objects.get_or_create(
                once=once,
                defaults={
                    **fields,
                    "status": RUNS.WAITING_APPROVAL if plan.approval else RUNS.RUNNING,
                    "store_id": min(plan.stores) if len(plan.stores) == 1 else None,
                    "totals": plan.totals,
                    "created_by": self.user,
                    "created_at": self.as_of,
                },
            )
            if not is_new:
                return run
            BulkItem.objects.bulk_create(
                (
                    BulkItem(run=run, position=position, order_id=pk, version=version, joint=pk in plan.joint)
                    for position, (pk, version) in enumerate(plan.orders, start=1)
                ),
                batch_size=1000,
            )
            if plan.approval is None:
                promise_parts(run)
            else:
                self._ask_for_run(run, plan.approval, justification)
        return run

    def _ask_for_run(self, run: BulkRun, needed: rules.PlannedApproval, justification: str) -> None:
        assert self.user is not None
        approval = Approval(
            bulk_run=run,
            store_id=run.store_id,
            level=needed.level,
            policies=list(needed.because),
            digest=digest_of(run),
            requested_by=self.user,
            justification=justification.strip(),
            created_at=self.as_of,
        )
        self.send_to_approvers(approval, "approval_needed")

    # --- agreed to ------------------------------------------------------------------------------------------------

    def approve_bulk(self, *, approval: str, note: str = "") -> BulkRun:
        """This will agree to a bulk run that somebody else asked for; it begins at once.

        approval  its uuid. Locks the run, then the approval. Raises Refused: not an approver of its level, one's own
        request, decided already; PlanChanged where its orders or choices are not those that were asked for.
        """
        with self.passed_on(approval), self._decided_run(approval, Approval.Status.APPROVED, note) as (run, found):
            if digest_of(run) != found.digest:
                raise rules.PlanChanged(remedy=_("Reject it, and let it be asked for again."))
            run.status = RUNS.RUNNING
            run.save(update_fields=["status"])
            promise_parts(run)
        return run

    def needed_today(self, approval: Approval) -> rules.PlannedApproval | None:
        """As for one order; of a bulk run, for all of it together."""
        run = approval.bulk_run
        if run is None:
            return super().needed_today(approval)
        asker = self.as_asker(approval)
        if not isinstance(asker, Bulk):
            return None
        orders = list(run.items.order_by("position").values_list("order", "version"))
        choices = {"restock": run.restock, "refund": run.refund, "notify": run.notify}
        if asker.approval_policies().counts:
            asker.count_run_in_turn([pk for pk, _version in orders])
        try:
            return asker.plan_bulk(orders=orders, reason=run.reason, **choices).approval
        except Refused:
            return None  # what they may not do any more is refused when the run comes to it

    def reject_bulk(self, *, approval: str, note: str) -> BulkRun:
        """This will refuse a bulk run that somebody else asked for: none of its orders is cancelled.

        note  why, for the one who asked. Raises Refused.
        """
        if not note.strip():
            raise Invalid(_("Say why not: the one who asked wants to know."), code="note_needed", field="note")
        with self._decided_run(approval, Approval.Status.REJECTED, note) as (run, _found):
            self._end_unbegun(run)
        return run

    def withdraw_bulk(self, *, approval: str, note: str = "") -> BulkRun:
        """This will take back one's own request for approval of a bulk run. Raises Refused."""
        asked = approval_of(approval, self.actor)
        with transaction.atomic():
            run = self._locked_run(asked.bulk_run_id)
            found = locked_approval(approval)
            if not found.is_open:
                raise rules.ApprovalDecided
            if found.requested_by_id != self.actor.user_id:
                raise rules.NotAnApprover(params={"who": found.requested_by.get_full_name()})
            found.status, found.decided_at, found.note = Approval.Status.WITHDRAWN, self.as_of, note
            found.save(update_fields=["status", "decided_at", "note"])
            close_looks(found)
            self._end_unbegun(run)
        return run

    @contextmanager
    def _decided_run(self, uuid: str, status: str, note: str) -> Iterator[tuple[BulkRun, Approval]]:
        """Lock a run and its approval, and give that its answer if the actor may; the requester is told at the end."""
        self._not_under_maintenance()
        asked = approval_of(uuid, self.actor)
        with transaction.atomic():
            run = self._locked_run(asked.bulk_run_id)
            found = locked_approval(uuid)
            found.bulk_run = run
            self.answer(found, status, note)
            yield run, found
            self._tell_requester(found)

    def _end_unbegun(self, run: BulkRun) -> None:
        run.items.update(state=BulkItem.State.SKIPPED)
        run.status, run.finished_at = RUNS.STOPPED, self.as_of
        run.save(update_fields=["status", "finished_at"])

    # --- on its way -----------------------------------------------------------------------------------------------

    def pause_bulk(self, *, run_id: int) -> BulkRun:
        """This will keep a run from going on; orders that are being cancelled this moment still are. Raises Refused."""
        with self._run(run_id, {RUNS.RUNNING: ""}) as run:
            run.status = RUNS.PAUSED
            promise_telling(run)
        return run

    def resume_bulk(self, *, run_id: int) -> BulkRun:
        """This will let a paused run go on, with the rights of the one who began it. Raises Refused."""
        with self._run(run_id, {RUNS.PAUSED: ""}) as run:
            run.status, run.round = RUNS.RUNNING, run.round + 1
            if not promise_parts(run):
                finish(run, as_of=self.as_of)
        return run

    def stop_bulk(self, *, run_id: int) -> BulkRun:
        """This will end a run early: what is cancelled stays cancelled, the rest is left as it is. Raises Refused."""
        with self._run(run_id, {RUNS.RUNNING: "", RUNS.PAUSED: ""}) as run:
            # Those that are being cancelled this moment are locked; they become what they become.
            left = run.items.filter(state=BulkItem.State.WAITING).select_for_update(no_key=True, skip_locked=True)
            pks = list(left.values_list("pk", flat=True))
            for first in range(0, len(pks), READ_AT_ONCE):
                part = run.items.filter(pk__in=pks[first : first + READ_AT_ONCE])
                part.update(state=BulkItem.State.SKIPPED, finished_at=self.as_of)
            run.status, run.finished_at = RUNS.STOPPED, self.as_of
            promise_telling(run)
        return run

    def retry_bulk(self, *, run_id: int) -> BulkRun:
        """This will try those again that were not possible or went wrong, as they are by now; nothing is done twice.

        Where an order has changed since the run was agreed to, its own approval is asked again. Raises Refused.
        """
        with self._run(run_id, {RUNS.FINISHED: "", RUNS.STOPPED: ""}) as run:
            items = list(run.items.filter(state__in=BulkItem.AGAIN).select_for_update(no_key=True, of=("self",)))
            if not items:
                raise rules.NothingToDo(_("Nothing failed, so there is nothing to try again."))
            versions: dict[int, int] = {}
            for first in range(0, len(items), READ_AT_ONCE):
                pks = [item.order_id for item in items[first : first + READ_AT_ONCE]]
                versions.update(Order.objects.filter(pk__in=pks).values_list("pk", "version"))
            for item in items:
                item.changed = item.changed or item.version != versions[item.order_id]
                item.version, item.state = versions[item.order_id], BulkItem.State.WAITING
                item.code = item.words = ""
                item.finished_at = None
            names = ["changed", "version", "state", "code", "words", "finished_at"]
            for first in range(0, len(items), READ_AT_ONCE):
                update(items[first : first + READ_AT_ONCE], names)
            run.status, run.finished_at, run.round = RUNS.RUNNING, None, run.round + 1
            promise_parts(run)
        return run

    @contextmanager
    def _run(self, run_id: int, possible: dict[str, str]) -> Iterator[BulkRun]:
        """Lock a run that the actor may work on, in one of these statuses, and save its status at the end."""
        self._not_under_maintenance()
        with transaction.atomic():
            run = self._locked_run(run_id)
            # Of several stores, it is their own: what they may not do in one of them is refused order by order.
            self.actor.require(MAY, store_id=ANYWHERE if run.store_id is None else run.store_id)
            if (no := why_not(run, *possible)) is not None:
                raise no
            yield run
            run.save(update_fields=["status", "finished_at", "round"])

    def _locked_run(self, run_id: int | None) -> BulkRun:
        rows = runs_of(self.actor).select_for_update(no_key=True, of=("self",)).select_related("reason", "created_by")
        run = rows.filter(pk=run_id).first()
        if run is None:
            raise NoSuchRun
        return run

    def _not_under_maintenance(self) -> None:
        if not self.actor.is_system and (period := maintenance.current()):
            raise maintenance.UnderMaintenance(period)


@dataclass(slots=True)
class _Kinds:
    """Orders of one store, stage and currency, added up for the policies."""

    worth: dict[tuple[int, str, str], Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    count: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    before: dict[tuple[int, str, str], rules.Cancelled] = field(default_factory=dict)

    def add(self, order: Order, worth: Decimal, before: rules.Cancelled) -> None:
        kind = (order.store_id, order.stage, order.currency)
        self.worth[kind] += worth
        self.count[kind] += 1
        if kind not in self.before or before.of_customer > self.before[kind].of_customer:
            self.before[kind] = before

    def subjects(self, reason: CancellationReason | None, *, more_of_customer: int) -> list[rules.Subject]:
        """more_of_customer: how many orders beside one the run has of the customer with the most."""
        return [
            rules.Subject(
                store_id=kind[0],
                stage=kind[1],
                reason=reason,
                value=self.worth[kind],
                currency=kind[2],
                before=rules.Cancelled(
                    by_staff=before.by_staff,
                    value_by_staff=before.value_by_staff,
                    of_customer=before.of_customer + more_of_customer,
                    in_store=before.in_store,
                ),
                orders=self.count[kind],
            )
            for kind, before in self.before.items()
        ]


def runs_of(actor: Actor) -> Any:
    """The runs that an actor may know of: of their stores, and their own."""
    rows = BulkRun.objects.all()
    if actor.is_system or actor.stores is None:
        return rows
    return rows.filter(Q(store__in=actor.stores) | Q(created_by=actor.user)) if actor.is_staff else rows.none()


def why_not(run: BulkRun, *possible: str) -> Refused | None:
    """Why something cannot be done to a run that is possible in these statuses only; for buttons and verbs."""
    if run.status in possible:
        return None
    words = {
        RUNS.WAITING_APPROVAL: _("It waits for approval; nothing of it has begun."),
        RUNS.RUNNING: _("It is running. Pause or stop it first."),
        RUNS.PAUSED: _("It is paused. Resume or stop it first."),
        RUNS.STOPPED: _("It has been stopped."),
        RUNS.FINISHED: _("It is finished."),
    }
    return RunIsElsewhere(words[RUNS(run.status)])


def digest_of(run: BulkRun) -> str:
    """SHA-256 of what is agreed to: which orders in which version, and every choice."""
    names = ("reason_id", "note", "restock", "refund", "notify", "contact_name", "contact_channel", "contact_details")
    orders = list(run.items.order_by("position").values_list("order_id", "version"))
    content = {"orders": orders, **{name: getattr(run, name) for name in names}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
