"""Helpers of the payments' tests: a till to open payments with, a worker that does it all, and both sets of books."""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from payments import services
from payments.models import DemoGatewayEntry, DemoGatewayFault, Payment, Transaction
from shop import jobs
from shop.models import Job
from tests.payments.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe

TOLD = "tests.payment_changed"


@jobs.handles(TOLD)
class Told(jobs.Handler):
    """Stands for the app that opened the payment and is told of changes."""


class Till:
    """Short words for what the tests do over and over."""

    reference = "100001"

    def open(self, amount="100", *, gateway="demo", reference=None, currency="EUR", on_change=TOLD):
        return services.open_payment(
            reference=reference or self.reference,
            store_id=None,
            gateway=gateway,
            currency=currency,
            amount=Decimal(amount),
            on_change=on_change,
        )

    def authorized(self, amount="100", **options):
        payment = self.open(amount, **options)
        services.request_authorization(payment=payment, cause=f"place:{payment.pk}")
        self.work()
        return Payment.objects.get(pk=payment.pk)

    def captured(self, amount="100", **options):
        payment = self.authorized(amount, **options)
        self.capture(amount, cause=f"set up {payment.pk}", reference=payment.reference)
        self.work()
        return Payment.objects.get(pk=payment.pk)

    def capture(self, amount, *, cause="ship:1", reference=None):
        return services.request_capture(reference=reference or self.reference, amount=Decimal(amount), cause=cause)

    def refund(self, amount, *, cause="cancel:1", reference=None):
        return services.request_refund(reference=reference or self.reference, amount=Decimal(amount), cause=cause)

    def ask(self, operation, *, amount="100"):
        """Ask for one movement of a kind, on a payment that is ready for it; return its transaction."""
        if operation == "authorize":
            return services.request_authorization(payment=self.open(amount), cause="place:1")
        if operation == "refund":
            self.captured(amount)
            return self.refund(amount).transactions.get()
        self.authorized(amount)
        if operation == "capture":
            return self.capture(amount)[0]
        return services.request_void(reference=self.reference, cause="cancel:1")[0]

    def fault(self, behaviour, operation="any", *, remaining=1, seconds=0):
        return DemoGatewayFault.objects.create(
            behaviour=behaviour, operation=operation, remaining=remaining, seconds=seconds
        )

    def work(self, *, hours=(0, 1, 2, 6, 12, 30, 50, 70, 100)):
        """Work off all that can be, letting the time between retries pass at once."""
        for ahead in hours:
            jobs.drain(clock=lambda ahead=ahead: timezone.now() + timedelta(hours=ahead))
            if not Job.objects.filter(state__in=["waiting", "running"]).exists():
                break

    def job(self, transaction):
        return Job.objects.filter(kind="payments.send", args={"transaction": transaction.pk}).order_by("pk").last()

    def told(self, transaction):
        keys = Job.objects.filter(kind=TOLD, args={"transaction": transaction.pk}).order_by("pk")
        return [key.removeprefix(f"{TOLD}:{transaction.pk}:") for key in keys.values_list("key", flat=True)]

    def moved(self):
        """Our books: what moved, by kind."""
        return self._sums(Transaction.objects.filter(status="succeeded").values_list("kind", "amount"))

    def moved_at_gateway(self):
        """The demo gateway's books: what moved, by operation."""
        done = [entry for entry in DemoGatewayEntry.objects.all() if entry.status_now == "succeeded"]
        return self._sums((entry.operation, entry.amount) for entry in done)

    def _sums(self, rows):
        sums = defaultdict(Decimal)
        for kind, amount in rows:
            sums[kind] += amount
        return dict(sums)


@pytest.fixture
def till():
    return Till()


@pytest.fixture
def books():
    """Call it (it is called at the end as well): our books are right, and equal the gateway's."""

    def agree():
        assert list(services.verify()) == []
        assert Till().moved() == Till().moved_at_gateway()

    return agree


# ---------------------------------------------------------------------------------------------------------------------
# Stripe


@pytest.fixture(scope="session")
def stripe_server():
    server = FakeStripe()
    yield server
    server.close()


@pytest.fixture
def stripe(stripe_server, settings):
    """Our fake of Stripe, empty, and a desk that is set up for it."""
    stripe_server.reset()
    settings.STRIPE_SECRET_KEY = SECRET_KEY
    settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
    settings.STRIPE_API_BASE = stripe_server.url
    settings.PAYMENT_GATEWAYS = {
        **settings.PAYMENT_GATEWAYS,
        "stripe": "payments.gateways.stripe.StripeGateway",
    }
    return stripe_server
