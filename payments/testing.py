"""The gateway test kit: what every gateway has to pass before a shop trusts it with money. See docs/gateways.md.

    class TestOurGateway(GatewayContract):
        code = "ours"
        details = {"token": "tok_test"}

        def fault(self, what, operation):
            self.server.misbehave(what, operation)  # of a fake of the gateway's, or its sandbox

Each check first asks the gateway itself, as the worker would; the last ones go through the desk, with its books.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import pytest
from django.http.request import HttpHeaders
from django.utils import timezone

from payments import services
from payments.gateways import (
    BadSignature,
    Gateway,
    GatewayRecord,
    GatewayRequest,
    GatewayResult,
    GatewayTimeout,
    GatewayUnavailable,
    Sent,
    get_gateway,
    is_listing,
    is_notifying,
)
from payments.models import Payment, Transaction
from shop import jobs
from shop.errors import Refused
from shop.models import Job

OPERATIONS = ("authorize", "capture", "void", "refund")
# Work off retries at once: the hours after which the worker would come again.
HOURS = (0, 1, 2, 6, 12, 30, 50, 70, 100)


def _later(hours: int) -> datetime:
    return timezone.now() + timedelta(hours=hours)


@pytest.mark.django_db
class GatewayContract:
    """Subclass it and set:

    code        as in PAYMENT_GATEWAYS
    details     what a payment that succeeds needs (Payment.details)
    currency    one that it takes, with two decimals
    takes_back_late  whether a refund that succeeded can fail later (`fault("late_failure", "refund")` must do that)

    fault(what, operation)  make the gateway's next call of that kind go wrong; what it cannot do wrong is skipped:
        timeout_before, timeout_after  no answer; not done, or done
        slow                           it takes its time, and answers
        unavailable                    it is not there
        decline                        it says no
        late_failure                   it says yes and takes it back later
    happen_late()           let the late failure happen now
    webhook(reference)      of a gateway that tells by webhooks: headers and body of one, signed, about that movement
    """

    code: ClassVar[str]
    details: ClassVar[Mapping[str, Any]] = {}
    currency: ClassVar[str] = "EUR"
    takes_back_late: ClassVar[bool] = True

    def fault(self, what: str, operation: str) -> None:
        pytest.skip(f"{self.code} cannot be made to do that: {what}")

    def happen_late(self) -> None:
        pass

    def webhook(self, reference: str) -> tuple[Mapping[str, str], bytes]:
        """What the gateway would send about its movement of this reference: headers, with their signature, and body."""
        pytest.skip(f"{self.code} was not told how it signs")

    def payment_details(self) -> Mapping[str, Any]:
        return self.details

    # --- short words ----------------------------------------------------------------------------------------------

    @property
    def gateway(self) -> Gateway:
        return get_gateway(self.code)

    def request(self, amount: str = "100.01", *, payment: str = "", key: str = "") -> GatewayRequest:
        return GatewayRequest(
            key=key or str(uuid.uuid4()),
            amount=Decimal(amount),
            currency=self.currency,
            payment_reference=payment,
            merchant_reference="100000042",
            requested_at=timezone.now(),
            details=self.payment_details(),
        )

    def ready(self, operation: str, amount: str = "100.01") -> GatewayRequest:
        """A request that the gateway is to agree to: what has to come before it has been done."""
        if operation == "authorize":
            return self.request(amount)
        payment = self.done("authorize", self.request(amount)).reference
        if operation == "refund":
            self.done("capture", self.request(amount, payment=payment))
        return self.request(amount, payment=payment)

    def ask(self, operation: str, request: GatewayRequest) -> GatewayResult:
        result: GatewayResult = getattr(self.gateway, operation)(request)
        return result

    def done(self, operation: str, request: GatewayRequest) -> GatewayResult:
        result = self.ask(operation, request)
        assert result.status == "succeeded", result
        assert result.reference, "what was done needs a reference, or nobody finds it at the gateway"
        return result

    def look_up(self, operation: Any, request: GatewayRequest) -> GatewayResult | None:
        now = timezone.now()
        sent = Sent(operation=operation, request=request, first=now - timedelta(seconds=30), last=now)
        return self.gateway.lookup(key=request.key, sent=sent)

    def listed(self, since: datetime, kind: str) -> list[GatewayRecord]:
        gateway = self.gateway
        if not is_listing(gateway):
            pytest.skip(f"{self.code} cannot be listed")
        return [row for row in gateway.list_since(since) if row.kind == kind and row.status == "succeeded"]

    @pytest.fixture(autouse=True)
    def _start(self) -> None:
        self.since = timezone.now() - timedelta(seconds=2)  # some count in whole seconds

    def assert_moved_once(self, operation: str, request: GatewayRequest) -> None:
        moved = [row.amount for row in self.listed(self.since, operation)]
        assert moved == [request.amount]

    # --- the gateway itself ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_the_same_key_is_one_movement(self, operation: str) -> None:
        request = self.ready(operation)
        assert self.look_up(operation, request) is None
        first = self.done(operation, request)
        assert self.done(operation, request).reference == first.reference
        found = self.look_up(operation, request)
        assert found is not None
        assert (found.status, found.reference) == ("succeeded", first.reference)
        self.assert_moved_once(operation, request)

    @pytest.mark.parametrize("operation", ["authorize", "capture", "refund"])
    def test_a_key_with_another_amount_is_refused(self, operation: str) -> None:
        request = self.ready(operation)
        self.done(operation, request)
        other = self.request("60.00", payment=request.payment_reference, key=request.key)
        with pytest.raises(Refused):
            self.ask(operation, other)
        self.assert_moved_once(operation, request)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_a_request_that_got_lost_is_not_found_and_can_be_sent_again(self, operation: str) -> None:
        request = self.ready(operation)
        self.fault("timeout_before", operation)
        with pytest.raises(GatewayTimeout):
            self.ask(operation, request)
        assert self.look_up(operation, request) is None
        self.done(operation, request)
        self.assert_moved_once(operation, request)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_an_answer_that_got_lost_is_found(self, operation: str) -> None:
        request = self.ready(operation)
        self.fault("timeout_after", operation)
        with pytest.raises(GatewayTimeout):
            self.ask(operation, request)
        found = self.look_up(operation, request)
        assert found is not None
        assert found.status == "succeeded"
        assert self.done(operation, request).reference == found.reference
        self.assert_moved_once(operation, request)

    def test_a_gateway_that_is_not_there_says_so(self) -> None:
        request = self.ready("refund")
        self.fault("unavailable", "refund")
        with pytest.raises(GatewayUnavailable):
            self.ask("refund", request)
        self.done("refund", request)
        self.assert_moved_once("refund", request)

    def test_a_slow_answer_is_an_answer(self) -> None:
        request = self.ready("refund")
        self.fault("slow", "refund")
        self.done("refund", request)
        self.assert_moved_once("refund", request)

    def test_a_decline_is_told_with_its_reason(self) -> None:
        request = self.ready("authorize")
        self.fault("decline", "authorize")
        result = self.ask("authorize", request)
        assert result.status == "declined"
        assert result.message or result.code
        assert self.listed(self.since, "authorize") == []

    def test_amounts_are_kept_to_the_cent_and_bounded(self) -> None:
        first = self.ready("refund", "100.01")
        for part in ("33.33", "33.34", "33.34"):
            self.done("refund", self.request(part, payment=first.payment_reference))
        assert self.ask("refund", self.request("0.01", payment=first.payment_reference)).status == "declined"
        assert sum(row.amount for row in self.listed(self.since, "refund")) == Decimal("100.01")

    def test_no_more_is_captured_than_is_held(self) -> None:
        request = self.ready("capture")
        too_much = self.request("100.02", payment=request.payment_reference)
        assert self.ask("capture", too_much).status == "declined"
        assert self.listed(self.since, "capture") == []

    def test_a_refund_that_fails_late_is_found_to_have_failed(self) -> None:
        if not self.takes_back_late:
            pytest.skip(f"{self.code} takes no refund back")
        request = self.ready("refund")
        self.fault("late_failure", "refund")
        self.done("refund", request)
        self.happen_late()
        found = self.look_up("refund", request)
        assert found is not None
        assert found.status == "declined"
        assert self.listed(self.since, "refund") == []

    def test_a_webhook_is_believed_with_its_signature_only(self) -> None:
        gateway = self.gateway
        if not is_notifying(gateway):
            pytest.skip(f"{self.code} tells nothing by itself")
        done = self.done("authorize", self.ready("authorize"))
        told, body = self.webhook(done.reference)
        headers = HttpHeaders({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in told.items()})
        (notice,) = gateway.verify_webhook(headers, body)
        (again,) = gateway.verify_webhook(headers, body)
        assert notice.event_id == again.event_id, "the same notice is known by its id, or it would be worked off twice"
        assert json.loads(json.dumps(notice.body)) == notice.body, "it is stored as JSON"
        for changed in ((HttpHeaders({}), body), (headers, body + b" "), (headers, b"")):
            with pytest.raises(BadSignature):
                gateway.verify_webhook(*changed)
        found = gateway.look_at(notice)
        assert found is not None, "a kind that matters has records, an empty list where nothing is there"
        assert [(row.kind, row.status) for row in found if row.reference == done.reference] == [
            ("authorize", "succeeded")
        ]

    # --- through the desk -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", ["", "timeout_before", "timeout_after"])
    def test_the_desks_books_and_the_gateways_are_the_same(self, what: str) -> None:
        payment = services.open_payment(
            reference="100000042",
            store_id=None,
            gateway=self.code,
            currency=self.currency,
            amount=Decimal("100.01"),
            details=self.payment_details(),
        )
        self._make_go_wrong(what, "authorize")
        services.request_authorization(payment=payment, cause="place:1")
        self._work()
        self._make_go_wrong(what, "capture")
        services.request_capture(reference=payment.reference, amount=Decimal("100.01"), cause="ship:1")
        self._work()
        self._make_go_wrong(what, "refund")
        services.request_refund(reference=payment.reference, amount=Decimal("40.40"), cause="cancel:1")
        self._work()
        payment = Payment.objects.get(pk=payment.pk)
        moved = (payment.authorized, payment.captured, payment.refunded)
        assert moved == (Decimal("100.01"), Decimal("100.01"), Decimal("40.40"))
        assert list(services.verify()) == []
        for row in Transaction.objects.all():
            (there,) = self.listed(self.since, row.kind)
            assert (there.key, there.amount) == (row.gateway_key, row.amount)
            assert (there.currency, there.merchant_reference) == (self.currency, payment.reference)

    def _make_go_wrong(self, what: str, operation: str) -> None:
        if what:
            self.fault(what, operation)

    def _work(self) -> None:
        """Do all that is due, letting the time between retries pass at once."""
        for ahead in HOURS:
            jobs.drain(clock=partial(_later, ahead))
            if not Job.objects.filter(state__in=["waiting", "running"]).exists():
                return
