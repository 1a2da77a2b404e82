"""Stripe: PaymentIntents with manual capture, refunds, disputes and webhooks, on the `stripe` library (an extra).

How a movement is found again (`lookup`), and why the answer is never None for one that exists. Stripe's search by
metadata lags behind, so it is not used; objects and lists are read, which do not lag:

authorize  by the PaymentIntent's reference where we know it; else among the PaymentIntents created from an hour before
           the first to an hour after the last time that it was sent, by our key in their metadata
capture    in the metadata of the PaymentIntent: the call that captures writes our key there, in one
void       the PaymentIntent itself: once it can capture nothing more, nothing is held
refund     among the PaymentIntent's refunds, by our key in their metadata

And were an answer None wrong all the same: what is sent again goes under the same idempotency key, which Stripe
answers with what it did. The desk sends nothing again once Stripe may have forgotten the key (KEY_LIFETIME).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from math import inf
from typing import Any, ClassVar

import stripe
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments.gateways.base import (
    BadSignature,
    GatewayNotice,
    GatewayRecord,
    GatewayRequest,
    GatewayResult,
    GatewayTimeout,
    GatewayUnavailable,
    KeyReusedAtGateway,
    Sent,
)
from payments.gateways.stripe_objects import (
    AmountNotSpeakable,
    Answer,
    capture_name,
    captured_by_others,
    charge_of,
    failed,
    from_minor,
    is_release,
    moved_nothing,
    next_action,
    record_of_dispute,
    record_of_refund,
    records_of_intent,
    refund_result,
    takes_several,
    to_minor,
    uncaptured,
    was_held,
    without_secrets,
)
from shop.errors import Refused, Words
from shop.money import shown

# What the answers look like. A newer one is tried first, then written here.
API_VERSION = "2026-10-28.endive"
CONNECT_SECONDS, READ_SECONDS = 2, 8
LIST_SECONDS = 15
TOLERANCE_SECONDS = 300
# How far Stripe's clock and ours may be apart, and how late it may do what it was sent.
AROUND = timedelta(hours=1)
# Authorisations of cards last 7 days, with some of them 31: as old a PaymentIntent may still be captured.
LONGEST_HOLD = timedelta(days=32)

# What Stripe tells of a charge that the PaymentIntent's own events may not: a part was captured, a hold has lapsed.
ABOUT_HELD_MONEY = frozenset(["charge.captured", "charge.expired"])


class LookupNeedsMore(Refused):
    code = "stripe_lookup_needs_more"
    message = gettext_lazy("Stripe cannot find a movement by its key alone: look for the order's number at Stripe.")


class NotInThisAccount(Refused):
    code = "stripe_not_in_account"
    message = gettext_lazy(
        "Stripe does not know %(id)s, which it has told us: is this the account that took the money?"
    )


@cache
def _client(key: str, base: str) -> stripe.StripeClient:
    """One for all calls of the process; each thread keeps a connection of its own."""
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        # Trying again is the desk's business: it looks up first.
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=(CONNECT_SECONDS, READ_SECONDS)),
        base_addresses={"api": base} if base else {},
    )


class StripeGateway:
    """Cards through Stripe. See the module's docstring, and docs/gateways.md for how it is set up."""

    takes_money_online: ClassVar[bool] = True
    label: ClassVar[Words] = gettext_lazy("Card")

    @property
    def api(self) -> Any:
        return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE).v1

    # --- movements ------------------------------------------------------------------------------------------------

    def authorize(self, request: GatewayRequest) -> GatewayResult:
        method = str(request.details.get("payment_method") or "")
        if not method:
            words = _("The payment names no payment method (details.payment_method, pm_…).")
            return GatewayResult(status="declined", code="no_payment_method", message=words)
        try:
            units = to_minor(request.amount, request.currency)
        except AmountNotSpeakable as no:
            return GatewayResult(status="declined", code=no.code, message=str(no))
        wanted: dict[str, Any] = {
            "amount": units,
            "currency": request.currency.lower(),
            "capture_method": "manual",
            "confirm": True,
            "payment_method": method,
            "payment_method_types": ["card"],
            "payment_method_options": {"card": {"request_multicapture": "if_available"}},
            "description": request.merchant_reference,
            "metadata": {"orderdesk_key": request.key, "orderdesk_reference": request.merchant_reference},
        }
        if str(request.details.get("return_url") or "").startswith(("https://", "http://")):
            wanted["return_url"] = request.details["return_url"]
        else:
            wanted["use_stripe_sdk"] = True  # the storefront goes on with the client secret
        try:
            intent = _asked(lambda: self.api.payment_intents.create(wanted, _under(request.key)))
        except _Declined as no:
            if no.intent:
                return self._authorization(self._intent(no.intent))
            return no.result
        return self._authorization(intent)

    def capture(self, request: GatewayRequest) -> GatewayResult:
        units, name = to_minor(request.amount, request.currency), capture_name(request.key)
        # The same each time it is sent, or Stripe would take it for another request under this key.
        at = int(request.requested_at.timestamp()) if request.requested_at else 0
        wanted: dict[str, Any] = {"amount_to_capture": units, "metadata": {name: f"{request.key} {units} {at}"}}
        try:
            intent = self._intent(request.payment_reference, expand=["latest_charge"])
            if name in intent["metadata"]:  # done before; what is left to capture has changed since
                if intent["metadata"][name].split(" ")[1] != str(units):
                    raise KeyReusedAtGateway
                return GatewayResult(status="succeeded", reference=charge_of(intent))
            if units < (intent.get("amount_capturable") or 0) and takes_several(intent):
                wanted["final_capture"] = False
            intent = _asked(
                lambda: self.api.payment_intents.capture(request.payment_reference, wanted, _under(request.key))
            )
        except _Declined as no:
            return no.result
        return GatewayResult(status="succeeded", reference=charge_of(intent))

    def void(self, request: GatewayRequest) -> GatewayResult:
        """Let go what is held. Stripe lets go the whole rest or nothing, and after a last capture by itself."""
        try:
            intent = self._intent(request.payment_reference)
        except _Declined as no:
            return no.result
        if (done := self._voided(intent, request.amount)) is not None:
            return done
        left = from_minor(intent.get("amount_capturable") or 0, request.currency)
        if request.amount < left:
            words = _("Stripe would let go all that is held, %(left)s: try again when the rest has been captured.")
            return GatewayResult(
                status="needs_person", code="partial_void", message=words % {"left": shown(left, request.currency)}
            )
        try:
            intent = _asked(lambda: self.api.payment_intents.cancel(intent["id"], {}, _under(request.key)))
        except _Declined as no:
            return self._voided(self._intent(request.payment_reference), request.amount) or no.result
        return self._voided(intent, request.amount) or GatewayResult(status="pending", reference=intent["id"])

    def refund(self, request: GatewayRequest) -> GatewayResult:
        wanted = {
            "payment_intent": request.payment_reference,
            "amount": to_minor(request.amount, request.currency),
            "metadata": {"orderdesk_key": request.key, "orderdesk_reference": request.merchant_reference},
        }
        try:
            return refund_result(_asked(lambda: self.api.refunds.create(wanted, _under(request.key))))
        except _Declined as no:
            return no.result

    def lookup(self, *, key: str, sent: Sent | None = None) -> GatewayResult | None:
        if sent is None:
            raise LookupNeedsMore
        try:
            if sent.operation == "authorize":
                intent = self._find_intent(key, sent)
                return self._authorization(intent) if intent else None
            if sent.operation == "refund":
                refund = self._find_refund(key, sent)
                return refund_result(refund) if refund else None
            intent = self._intent(sent.request.payment_reference)
        except _Declined as no:
            # Stripe forgets nothing. Taken for a no, the same money would be sent once more when the keys are right.
            known = sent.reference or sent.request.payment_reference or sent.request.merchant_reference
            raise NotInThisAccount(params={"id": known}) from no
        if sent.operation == "void":
            return self._voided(intent, sent.request.amount)
        if capture_name(key) in intent["metadata"]:
            return GatewayResult(status="succeeded", reference=charge_of(intent))
        by_others = from_minor(captured_by_others(intent), sent.request.currency)
        if sent.reference and sent.reference == charge_of(intent) and by_others >= sent.request.amount:
            return GatewayResult(status="succeeded", reference=sent.reference)  # made at Stripe itself
        return None

    def _find_intent(self, key: str, sent: Sent) -> Answer | None:
        if sent.reference:
            return self._intent(sent.reference)
        created = {"gte": int((sent.first - AROUND).timestamp()), "lte": int((sent.last + AROUND).timestamp())}
        found = self._all(self.api.payment_intents, {"created": created})
        return next((intent for intent in found if intent["metadata"].get("orderdesk_key") == key), None)

    def _find_refund(self, key: str, sent: Sent) -> Answer | None:
        if sent.reference:
            return _asked(lambda: self.api.refunds.retrieve(sent.reference))
        self._intent(sent.request.payment_reference)  # where this is not known, no list of it says anything
        found = self._all(self.api.refunds, {"payment_intent": sent.request.payment_reference})
        return next((refund for refund in found if refund["metadata"].get("orderdesk_key") == key), None)

    # --- what an object says --------------------------------------------------------------------------------------

    def _authorization(self, intent: Answer) -> GatewayResult:
        """What became of an authorisation. One that was declined is ended, so that nobody can still confirm it."""
        status, reference = intent["status"], intent["id"]
        if failed(intent):
            try:
                _asked(lambda: self.api.payment_intents.cancel(reference))
            except _Declined:
                if self._intent(reference)["status"] != "canceled":
                    raise GatewayTimeout(_("Stripe is still deciding about %(id)s.") % {"id": reference}) from None
        if (status == "canceled" and not was_held(intent)) or failed(intent):
            error = intent.get("last_payment_error") or {}
            return GatewayResult(
                status="declined",
                reference=reference,
                code=error.get("decline_code") or error.get("code") or "declined",
                message=error.get("message") or _("The payment was not completed."),
            )
        if status in {"requires_action", "requires_confirmation", "requires_payment_method", "processing"}:
            return GatewayResult(status="pending", reference=reference, next_action=next_action(intent))
        return GatewayResult(status="succeeded", reference=reference)

    def _voided(self, intent: Answer, amount: Decimal) -> GatewayResult | None:
        """None: something is still held. What somebody captured at Stripe itself was not let go."""
        if intent["status"] not in {"canceled", "succeeded"}:
            return None
        currency = intent["currency"].upper()
        gone = from_minor(intent["amount"] - (intent.get("amount_received") or 0), currency)
        if amount <= gone:
            return GatewayResult(status="succeeded", reference=intent["id"])
        words = _(
            "Only %(gone)s was let go: the rest was captured at Stripe itself. Close it as failed: what was captured "
            "is booked then, and goes back if the order does not need it."
        )
        message = words % {"gone": shown(gone, currency)}
        return GatewayResult(status="declined", reference=intent["id"], code="captured", message=message)

    def _intent(self, reference: str, *, expand: list[str] | None = None) -> Answer:
        return _asked(lambda: self.api.payment_intents.retrieve(reference, {"expand": expand or []}))

    def _all(self, service: Any, params: dict[str, Any], *, seconds: float = LIST_SECONDS) -> Iterator[Answer]:
        """Page after page; a list that cannot be read to its end is no answer."""
        until = time.monotonic() + seconds
        wanted = {**params, "limit": 100}
        while True:
            page = _asked(partial(service.list, wanted))
            yield from page["data"]
            if not page["has_more"]:
                return
            if time.monotonic() > until:
                raise GatewayTimeout(_("Stripe's list is too long to be read in time."))
            wanted = {**wanted, "starting_after": page["data"][-1]["id"]}

    def records_of(self, payment_reference: str) -> list[GatewayRecord]:
        try:
            return records_of_intent(self._intent(payment_reference, expand=["latest_charge"]))
        except _Declined as no:
            raise NotInThisAccount(params={"id": payment_reference}) from no

    # --- its books ------------------------------------------------------------------------------------------------

    def account(self) -> str:
        """Which account the key is of; a restricted key may not ask."""
        try:
            return str(_asked(self.api.accounts.retrieve_current)["id"])
        except (_Declined, GatewayUnavailable):
            return ""

    def list_since(self, since: datetime) -> Iterable[GatewayRecord]:
        """Authorisations, captures and releases by PaymentIntent, then refunds and disputes.

        It takes as long as it takes: who asks stops reading when the time is up.
        """
        long_ago = {"created": {"gte": int((since - LONGEST_HOLD).timestamp())}}
        let_go: dict[str, int] = {}
        for intent in self._all(self.api.payment_intents, {**long_ago, "expand": ["data.latest_charge"]}, seconds=inf):
            if uncaptured(intent):
                let_go[intent["id"]] = uncaptured(intent)
            for record in records_of_intent(intent):
                # When others captured or let go, Stripe does not say: better known twice than never.
                if record.created_at >= since or (not record.key and record.kind in {"capture", "void"}):
                    yield record
        lately = {"created": {"gte": int(since.timestamp())}}
        for refund in self._all(self.api.refunds, lately, seconds=inf):
            if not is_release(refund, let_go.get(refund.get("payment_intent") or "", 0)):
                yield record_of_refund(refund)
        for dispute in self._all(self.api.disputes, lately, seconds=inf):
            yield record_of_dispute(dispute)

    # --- webhooks -------------------------------------------------------------------------------------------------

    def verify_webhook(self, headers: Mapping[str, str], body: bytes) -> list[GatewayNotice]:
        try:
            signature = headers.get("Stripe-Signature")
            stripe.WebhookSignature.verify_header(
                body, signature, settings.STRIPE_WEBHOOK_SECRET or None, tolerance=TOLERANCE_SECONDS
            )
            event = json.loads(body)
            return [GatewayNotice(event_id=str(event["id"]), kind=str(event["type"]), body=without_secrets(event))]
        except (stripe.SignatureVerificationError, ValueError, KeyError, TypeError) as error:
            raise BadSignature from error

    def look_at(self, notice: GatewayNotice) -> list[GatewayRecord] | None:
        thing = (notice.body.get("data") or {}).get("object") or {}
        reference = str(thing.get("id") or "")
        try:
            of_charge = str(thing.get("payment_intent") or "") if notice.kind in ABOUT_HELD_MONEY else ""
            if notice.kind.startswith("payment_intent.") or of_charge:
                intent = self._intent(of_charge or reference, expand=["latest_charge"])
                if failed(intent) and "orderdesk_key" in intent["metadata"]:
                    self._authorization(intent)  # ends it, before our books say that it was declined
                return records_of_intent(intent)
            if notice.kind.startswith("charge.dispute."):
                return [record_of_dispute(_asked(lambda: self.api.disputes.retrieve(reference)))]
            if notice.kind.startswith(("refund.", "charge.refund.")):
                return self._records_of_refunds([_asked(lambda: self.api.refunds.retrieve(reference))])
            if notice.kind == "charge.refunded" and thing.get("payment_intent"):
                found = self._all(self.api.refunds, {"payment_intent": thing["payment_intent"]})
                return self._records_of_refunds(found)
        except _Declined:  # of another account, or gone
            return None
        return None

    def _records_of_refunds(self, refunds: Iterable[Answer]) -> list[GatewayRecord]:
        """Those that gave money back; for one that may only have let go a hold, its PaymentIntent is asked."""
        records = []
        for refund in refunds:
            intent = self._intent(refund["payment_intent"]) if moved_nothing(refund) else None
            if intent is None or not is_release(refund, uncaptured(intent)):
                records.append(record_of_refund(refund))
        return records


# ---------------------------------------------------------------------------------------------------------------------


class _Declined(Exception):
    """Stripe's definite no. `intent`: the PaymentIntent that it made all the same."""

    def __init__(self, result: GatewayResult, intent: str = "") -> None:
        super().__init__(result.message)
        self.result, self.intent = result, intent


def _asked(call: Callable[[], Any]) -> Answer:
    """Call Stripe, and give its answer as it came.

    Only a refusal by name is a no; whatever else goes wrong leaves it open whether it was done.
    """
    try:
        answer: Answer = call().last_response.data
        return answer
    except stripe.IdempotencyError as error:
        raise KeyReusedAtGateway from error
    except (stripe.RateLimitError, stripe.AuthenticationError, stripe.PermissionError) as error:
        raise GatewayUnavailable(_words(error)) from error
    except (stripe.CardError, stripe.InvalidRequestError) as error:
        body: Any = error.json_body or {}
        details = body.get("error") or {}
        code = details.get("decline_code") or error.code or "declined"
        result = GatewayResult(status="declined", code=code, message=_words(error))
        raise _Declined(result, intent=(details.get("payment_intent") or {}).get("id", "")) from error
    except stripe.APIConnectionError as error:
        kind = GatewayUnavailable if _never_connected(error) else GatewayTimeout
        raise kind(_("Stripe does not answer.")) from error
    except stripe.StripeError as error:  # 5xx, and 409: the same key is being worked on just now
        raise GatewayTimeout(_words(error)) from error


def _words(error: stripe.StripeError) -> str:
    return error.user_message or _("Stripe answered %(status)s.") % {"status": error.http_status}


def _never_connected(error: stripe.APIConnectionError) -> bool:
    """Whether nothing can have arrived: no connection was made."""
    cause: Any = error.__cause__
    if type(cause).__name__ == "ConnectTimeout":
        return True
    reason = getattr(cause.args[0], "reason", None) if cause is not None and cause.args else None
    return type(reason).__name__ in {"NewConnectionError", "NameResolutionError", "ConnectTimeoutError"}


def _under(key: str) -> dict[str, Any]:
    return {"idempotency_key": key}
