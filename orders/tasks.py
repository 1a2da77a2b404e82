"""What workers do for orders: put stock back, follow up on payments, cancel what was never paid."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from orders.processing import get_event_handler
from orders.processing.cancelling import unpaid_before
from orders.processing.placement import PAYMENT_CHANGED
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job

logger = logging.getLogger(__name__)


@jobs.handles(PAYMENT_CHANGED)
class PaymentChanged(jobs.Handler):
    """A transaction ended: units are paid, statuses move, money goes back."""

    label = _("Follow up on a payment")
    what_to_do = _("Look at the order's payments; try again, or put the order right by hand and note how.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).payment_changed(transaction_id=job.args["transaction"])


@jobs.handles("orders.return_stock")
class ReturnStock(jobs.Handler):
    """Units of a cancellation or return go back into stock."""

    label = _("Return goods to stock")
    what_to_do = _("Count the goods on the shelf, adjust the stock, then mark this as done by hand.")

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if outcome.state == "done":
            get_event_handler(Actor.system()).return_stock(event_id=job.args["event"])

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        get_event_handler(Actor.system(actor_name)).stock_was_returned_by_hand(event_id=job.args["event"])


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
        except Exception:  # one broken order must not keep the stock of all others
            logger.exception("Unpaid order %s could not be cancelled", number)
