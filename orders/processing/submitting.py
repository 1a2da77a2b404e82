"""One door for whoever wants an order cancelled: at once, with somebody's approval, or after maintenance."""

from __future__ import annotations

from typing import Any

from django.db.models import Max

from orders import rules
from orders.models import Cancellation, CancellationReason, CancellationRequest, Order
from orders.processing.approving import Approving
from orders.processing.base import CauseReused
from orders.processing.cancelling import Contact, choices_of
from payments import services as payments
from shop import jobs, maintenance
from shop.actors import Actor

QUEUED = "orders.cancel_queued"


class Submitting(Approving):
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
        destination: payments.Destination | str = "",
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
            "destination": destination,
        }
        if maintenance.current() is not None:
            return self._queue(number=number, plan=plan, cause=cause, version=version, note_to=justification, **choices)
        try:
            event = self.cancel(number=number, plan=plan, cause=cause, version=version, **choices)
        except rules.ApprovalNeeded:
            if not justification.strip():
                raise
            return self._ask_approval(
                number=number, plan=plan, cause=cause, version=version, justification=justification, **choices
            )
        return Cancellation.objects.select_related("event").get(event=event)

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
            if (before := self.asked_before(d, cause)) is not None:
                return before
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
