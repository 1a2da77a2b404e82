"""What workers do for orders: put stock back, follow up on payments, cancel what was never paid."""

import logging
from collections.abc import Sequence
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from orders.gateways import ABSENT, UNKNOWN, Reply, get_order_management
from orders.models import Cancellation, ExternalCall, ExternalNotice, Order
from orders.processing import get_event_handler
from orders.processing.approving import DUE
from orders.processing.bulkwork import CANCEL, TELL
from orders.processing.calls import (
    CALL,
    CONFLICT,
    LOOK_UP,
    NOTICE,
    ask,
    asker_of,
    call_of,
    look_up_overdue,
    outcome_of,
)
from orders.processing.cancelling import FINISH, StillWaits, unpaid_before
from orders.processing.documents import ISSUE, MAKE_PDF
from orders.processing.figures import count_cancellations
from orders.processing.placement import PAYMENT_CHANGED
from orders.processing.printing import keep_pdf
from orders.processing.recurring import PLACE, promise_due
from orders.processing.submitting import QUEUED, placed_by, promise_queued
from orders.processing.withdrawing import ANSWER, CARRY_OUT, answered, promise_withdrawals, withdrawal_of
from shop import jobs, maintenance
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job

logger = logging.getLogger(__name__)


@jobs.handles(PAYMENT_CHANGED)
class PaymentChanged(jobs.Handler):
    """A transaction ended: units are paid, statuses move, money goes back. Or a dispute came to another stage."""

    label = _("Follow up on a payment")
    what_happened = _("The order has not followed what became of its payment.")
    what_to_do = _("Look at the order's payments; try again, or put the order right by hand and note how.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            handler = get_event_handler(Actor.system())
            if "dispute" in job.args:
                handler.dispute_changed(dispute_id=job.args["dispute"])
            else:
                handler.payment_changed(transaction_id=job.args["transaction"])


@jobs.handles("orders.return_stock")
class ReturnStock(jobs.Handler):
    """Units of a cancellation or return go back into stock."""

    label = _("Return goods to stock")
    what_happened = _("The goods are not back in stock, as far as the desk knows.")
    what_to_do = _("Count the goods on the shelf, adjust the stock, then mark this as done by hand.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state != "done":
            return
        handler = get_event_handler(Actor.system())
        if "event" in job.args:
            handler.return_stock(event_id=job.args["event"])
        else:
            handler.return_stock_of_set(event_ids=job.args["events"])

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        handler = get_event_handler(Actor.system(actor_name))
        for event_id in job.args.get("events") or [job.args["event"]]:
            handler.stock_was_returned_by_hand(event_id=event_id)


@jobs.handles(PLACE)
class PlaceRecurring(jobs.Handler):
    """The next order of a series is due."""

    label = _("Place a recurring order")
    what_happened = _("The next order of a series was not placed.")
    what_to_do = _("Mend what is named, then try again. Done by hand leaves this one out; the next comes as planned.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).place_due(
                recurring_id=job.args["recurring"], occurrence=job.args["occurrence"]
            )

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        get_event_handler(Actor.system(actor_name)).skip_due(
            recurring_id=job.args["recurring"], occurrence=job.args["occurrence"], note=note
        )


@shared_task(name="orders.recurring_due")
def recurring_due() -> None:
    """Promise the recurring orders that are due."""
    promise_due(as_of=timezone.now())


@jobs.handles(ISSUE)
class IssueDocuments(jobs.Handler):
    """A refund has gone out: its credit note is issued, and a note of what went back as credit."""

    label = _("Issue the documents of a refund")
    what_happened = _("The refund has been made, but it has no credit note.")
    what_to_do = _("Look at the order's refund; try again, or write the credit note elsewhere and note its number.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).issue_refund_documents(refund_id=job.args["refund"])


@jobs.handles(MAKE_PDF)
class MakePdf(jobs.Handler):
    """A document's PDF is made and kept. Twice makes one."""

    label = _("Make a document's PDF")
    what_happened = _("The document can be printed from its page, but has no PDF.")
    what_to_do = _("Install the extra “pdf” (WeasyPrint) and try again, or print the page.")

    def perform(self, job: Job) -> jobs.Outcome:
        keep_pdf(job.args["document"])
        return jobs.done()


@jobs.handles(FINISH)
class FinishCancellation(jobs.Handler):
    """The time to undo a cancellation is over: its stock, money and messages follow."""

    label = _("Complete a cancellation")
    what_to_do = _("Try again. If it keeps failing, open the order and use “Complete now”.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).finish_cancellation(cancellation=job.args["cancellation"])

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        """Closed without it, what follows from the cancellation would never come."""
        if Cancellation.objects.filter(uuid=job.args["cancellation"], status=Cancellation.Status.PENDING).exists():
            raise StillWaits(remedy=_("Open the order and use “Complete now”."))


@jobs.handles(DUE)
class ApprovalDue(jobs.Handler):
    """Nobody has decided an approval yet: remind them, ask the next level, or tell the inbox."""

    label = _("Have a cancellation approved")
    what_to_do = _("Find somebody who may decide it, or name who decides in their place; then it leaves this list.")
    due_after = timedelta(hours=4)

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).approval_due(approval=job.args["approval"])


@jobs.handles(QUEUED)
class CancelQueued(jobs.Handler):
    """What was asked for during maintenance is done, or answered, with the rights of the one who asked."""

    label = _("Cancel what was asked for during maintenance")
    what_to_do = _("Open the order and cancel it there, or reject the request; then mark this as done by hand.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state != "done":
            return
        if "order" in job.args:
            order = Order.objects.select_related("customer").get(pk=job.args["order"])
            actor = Actor.customer(order.customer) if order.customer else Actor.guest(order.email)
            get_event_handler(actor).answer_queued_requests(number=order.number or "")
            return
        row = Cancellation.objects.select_related("requested_by", "order").get(uuid=job.args["cancellation"])
        get_event_handler(placed_by(row)).cancel_queued(cancellation=str(row.uuid))

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        rows = Cancellation.objects.filter(uuid=job.args.get("cancellation"), status=Cancellation.Status.QUEUED)
        rows.update(status=Cancellation.Status.OUTDATED, outcome=f"{actor_name}: {note}")


@jobs.handles(CANCEL)
class CancelInBulk(jobs.Handler):
    """A part of a bulk run is cancelled, each order with what became of it."""

    label = _("Cancel a part of many orders")
    what_happened = _("Some orders of a bulk cancellation have not been cancelled yet; nothing is half done.")
    what_to_do = _("Try again. Done by hand leaves out what still waits of this part.")
    settles_only = True

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            a = job.args
            get_event_handler(Actor.system()).work_off_bulk(
                run_id=a["run"], round=a["round"], first=a["first"], last=a["last"], trial=a["trial"]
            )

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        get_event_handler(Actor.system(actor_name)).give_up_part(
            run_id=job.args["run"], first=job.args["first"], last=job.args["last"], note=f"{actor_name}: {note}"
        )


@jobs.handles(TELL)
class TellOfBulk(jobs.Handler):
    """Customers with several orders in a bulk run get one message about all of them."""

    label = _("Tell customers of several cancelled orders")
    what_happened = _("The orders are cancelled, but some customers have not been told.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).tell_bulk(run_id=job.args["run"])


@jobs.handles(CARRY_OUT)
class CarryOutWithdrawal(jobs.Handler):
    """What was declared during maintenance is carried out, as of when it was declared."""

    label = _("Carry out a withdrawal")
    what_happened = _("A customer has withdrawn from a contract, and nothing has followed from it yet.")
    what_to_do = _("Try again. If it keeps failing, cancel and take back by hand what the withdrawal names.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).carry_out_withdrawal(uuid=job.args["withdrawal"])


@jobs.handles(ANSWER)
class AnswerWithdrawal(jobs.Handler):
    """A withdrawal that needs a person waits in the inbox until it is answered."""

    label = _("Answer a withdrawal")
    what_happened = _("A customer has withdrawn from a contract; the desk cannot tell what follows from it.")
    what_to_do = _("Open it under “Withdrawals”, see to it and answer the customer; then it leaves this list.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).remind_of_withdrawal(uuid=job.args["withdrawal"])

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        row = withdrawal_of(job.args["withdrawal"])
        if row.status == row.Status.NEEDS_PERSON:
            answered(row, note=note, by=actor_name, as_of=timezone.now())


def hear(call: ExternalCall, reply: Reply) -> ExternalCall:
    """Work off what is known of a call, as the one whose wish it is."""
    return get_event_handler(asker_of(call)).hear(call=str(call.uuid), reply=reply)


class AboutACall(jobs.Handler):
    """Base of the jobs that ask the order management system; what it said is worked off with the job's own state."""

    schedule = (10, jobs.MINUTE, 5 * jobs.MINUTE, 30 * jobs.MINUTE, 2 * jobs.HOUR, 6 * jobs.HOUR, 12 * jobs.HOUR)

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        reply = outcome.data.get("reply")
        if reply is None and outcome.state != "done":
            reply = Reply(UNKNOWN, None, outcome.error)
        if reply is not None:
            hear(call_of(job.args["call"]), reply)

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        calls = {row.args.get("call"): row.pk for row in rows}
        said_no = ExternalCall.objects.filter(uuid__in=calls, status=ExternalCall.Status.REFUSED)
        return frozenset(calls[str(uuid)] for uuid in said_no.values_list("uuid", flat=True))


@jobs.handles(CALL)
class AskManagement(AboutACall):
    """The order management system is asked, or told; under the same key, however often."""

    label = _("Tell the order management system")
    what_happened = _("The order management system has not done what the desk has asked of it, or has not said so.")
    what_to_do = _(
        "Ask its people about the order, and put it right there: what the desk has decided stands. Where units still "
        "wait for its word, say on the order's page what it did. Then mark this as done by hand."
    )

    def perform(self, job: Job) -> jobs.Outcome:
        call = call_of(job.args["call"])
        if call.is_decided:
            refused = call.status == call.Status.REFUSED and call.origin == call.Origin.DESK
            return jobs.refused(call.reply, known=True) if refused else jobs.done()
        if call.after is not None and call.after.status == call.Status.UNKNOWN:
            # Whether that one has cancelled these units is found out first, or they could be cancelled twice there.
            hear(call.after, get_order_management().lookup(str(call.after.uuid)))
            call = call_of(job.args["call"])
            if call.after is not None and not call.after.is_decided:
                return jobs.retry(_("An earlier call of this order is still undecided."), known=True)
        return outcome_of(call, ask(call, job))

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if "known" not in outcome.data:
            super().settle(job, outcome)


@jobs.handles(LOOK_UP)
class LookUp(AboutACall):
    """What became of a call is looked up: where nobody knows, and once where they said yes."""

    label = _("Look up an answer of the order management system")

    def perform(self, job: Job) -> jobs.Outcome:
        call = call_of(job.args["call"])
        if call.is_decided and call.status != call.Status.DONE:
            return jobs.done()
        reply = get_order_management().lookup(str(call.uuid))
        if call.status == call.Status.DONE and not reply.is_final and reply.state != ABSENT:
            return jobs.retry(reply.words or reply.state, reply=reply)
        return jobs.done(reply=reply)


@jobs.handles(NOTICE)
class WorkOffNotice(jobs.Handler):
    """What the order management system told by itself is done here."""

    label = _("Work off a notice of the order management system")
    what_to_do = _("Try again; if it keeps failing, put the order right by hand and note how.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).hear_notice(notice_id=job.args["notice"])


@jobs.handles(CONFLICT)
class SettleConflict(jobs.Handler):
    """The desk and the order management system differ: only people can settle that."""

    label = _("The order management system has it otherwise")
    what_happened = _("What the order management system has done does not fit what the desk has.")
    what_to_do = _("Ask its people, put it right on one of the two sides, and note what you did.")

    def perform(self, job: Job) -> jobs.Outcome:
        if "notice" in job.args:
            told = ExternalNotice.objects.values_list("told", flat=True).get(pk=job.args["notice"])
        else:
            told = ExternalCall.objects.values_list("reply", flat=True).get(uuid=job.args["call"])
        return jobs.refused(told)

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        return frozenset(row.pk for row in rows)


@shared_task(name="orders.look_up_overdue")
def look_up_calls() -> None:
    """Look up what the order management system has not answered for too long."""
    look_up_overdue()


@shared_task(name="orders.work_off_queue")
def work_off_queue() -> None:
    """Promise the work that was queued during maintenance, once it is over."""
    if maintenance.current() is None:
        promise_queued()
        promise_withdrawals()


@shared_task(name="orders.cancel_unpaid")
def cancel_unpaid() -> None:
    """Cancel orders whose payment did not come in time; one that fails does not keep the others waiting."""
    now = timezone.now()
    handler = get_event_handler(Actor.system(), as_of=now)
    for number in unpaid_before(now - timedelta(minutes=settings.ORDER_UNPAID_AFTER_MINUTES)):
        try:
            handler.cancel_unpaid(number=number)
        except Refused as no:
            logger.warning("Unpaid order %s was not cancelled: %s", number, no)
        except Exception as error:  # noqa: BLE001 - one broken order must not keep the stock of all others
            logger.error("Unpaid order %s could not be cancelled: %s", number, jobs.for_log(error))


@shared_task(name="orders.count_cancellations")
def count_new_cancellations() -> None:
    """Bring the figures of cancellations up to date."""
    count_cancellations(as_of=timezone.now())
