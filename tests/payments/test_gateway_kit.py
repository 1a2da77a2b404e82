"""Our own gateways pass the test kit that a shop runs against its own."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from payments.models import CreditAccount, DemoGatewayEntry, DemoGatewayFault
from payments.services import credit
from payments.testing import GatewayContract
from tests import factories


class TestDemoGateway(GatewayContract):
    code = "demo"

    def fault(self, what, operation):
        behaviour = {"late_failure": "fail_late"}.get(what, what)
        DemoGatewayFault.objects.create(behaviour=behaviour, operation=operation, seconds=60 if "late" in what else 0)

    def happen_late(self):
        DemoGatewayEntry.objects.filter(becomes="declined").update(becomes_at=timezone.now() - timedelta(seconds=1))


class TestStripeGateway(GatewayContract):
    code = "stripe"
    FAULTS = {
        "timeout_before": "drop_before",
        "timeout_after": "drop_after",
        "slow": "slow",
        "unavailable": "429",
    }
    PATHS = {
        "authorize": "POST /v1/payment_intents",
        "capture": "/capture",
        "void": "/cancel",
        "refund": "POST /v1/refunds",
    }

    @pytest.fixture(autouse=True)
    def _server(self, stripe):
        self.server = stripe

    def payment_details(self):
        return {"payment_method": "pm_card_visa"}

    def fault(self, what, operation):
        if what == "decline":
            self.server.fault("decline", self.PATHS[operation])
        elif what != "late_failure":
            self.server.fault(self.FAULTS[what], self.PATHS[operation])

    def happen_late(self):
        for reference in list(self.server.refunds):
            self.server.refund_becomes(reference, "failed")

    def webhook(self, reference):
        self.server.event("payment_intent.succeeded", self.server.intents[reference])
        body, signature = self.server.signed(self.server.events[-1])
        return {"Stripe-Signature": signature}, body.encode()


class TestStoreCredit(GatewayContract):
    code = "store_credit"
    takes_back_late = False

    @pytest.fixture(autouse=True)
    def _account(self, db):
        owner = factories.UserFactory()
        credit.grant(
            owner_id=owner.pk,
            currency="EUR",
            kind="store_credit",
            amount=Decimal(1000),
            expires_at=None,
            key="grant",
            note="",
            actor_name="",
            as_of=timezone.now(),
        )
        self.account = CreditAccount.objects.get(owner=owner)

    def payment_details(self):
        return {"credit_account": self.account.pk}

    def fault(self, what, operation):
        if what == "decline":
            credit.adjust(
                account_id=self.account.pk,
                amount=Decimal(-1000),
                key="gone",
                note="Taken away again",
                actor_name="",
                as_of=timezone.now(),
            )
        else:
            super().fault(what, operation)  # its ledger is our own: nothing is between it and the worker
