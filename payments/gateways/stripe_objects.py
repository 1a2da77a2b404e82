"""What Stripe's objects say, in the desk's words: amounts, results, records of movements and disputes. Pure.

An object is taken as its JSON has it; nobody is asked here (payments.gateways.stripe does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments.gateways.base import GatewayRecord, GatewayResult
from shop.errors import Refused

# https://docs.stripe.com/currencies: without and with three decimals; all others are counted in hundredths.
WHOLE = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
THOUSANDTHS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
# Counted in hundredths as they once were, though nothing smaller than one is left: the hundredths must be 00.
WHOLE_IN_HUNDREDTHS = frozenset(["ISK", "UGX"])

# An object of Stripe's, as its JSON has it.
Answer = dict[str, Any]


class AmountNotSpeakable(Refused):
    code = "stripe_amount"
    message = gettext_lazy("Stripe cannot move %(amount)s: it counts this currency in other steps.")


def to_minor(amount: Decimal, currency: str) -> int:
    """This will count an amount in Stripe's units. Raises AmountNotSpeakable where there are none that small."""
    factor = 1 if currency in WHOLE else 1000 if currency in THOUSANDTHS else 100
    step = 10 if currency in THOUSANDTHS else 100 if currency in WHOLE_IN_HUNDREDTHS else 1  # THOUSANDTHS end in 0
    units = amount * factor
    if units != int(units) or int(units) % step:
        raise AmountNotSpeakable(params={"amount": f"{amount:f} {currency}"})
    return int(units)


def from_minor(units: int, currency: str) -> Decimal:
    """This will turn Stripe's units into an amount."""
    places = 0 if currency.upper() in WHOLE else 3 if currency.upper() in THOUSANDTHS else 2
    return Decimal(units).scaleb(-places)


def capture_name(key: str) -> str:
    """Under which name a capture's key stands in the metadata; a name has at most 40 characters."""
    return f"capture_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def charge_of(intent: Answer) -> str:
    charge = intent.get("latest_charge") or ""
    return charge if isinstance(charge, str) else str(charge["id"])


def takes_several(intent: Answer) -> bool:
    """Whether this card's authorisation can be captured in several parts."""
    charge = intent.get("latest_charge")
    if not charge or isinstance(charge, str):
        return False
    card = (charge.get("payment_method_details") or {}).get("card") or {}
    return (card.get("multicapture") or {}).get("status") == "available"


def _captured_by_desk(intent: Answer) -> Iterator[tuple[str, int, int]]:
    """What our captures wrote into the metadata: key, units, and when it was asked for."""
    for name, value in sorted(intent["metadata"].items()):
        parts = value.split(" ")
        if name.startswith("capture_") and len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            yield parts[0], int(parts[1]), int(parts[2])


def captured_by_others(intent: Answer) -> int:
    return int(intent.get("amount_received") or 0) - sum(units for _key, units, _at in _captured_by_desk(intent))


def failed(intent: Answer) -> bool:
    """Whether the card was declined. The customer could still try another one, unless the PaymentIntent is ended."""
    return intent["status"] == "requires_payment_method" and bool(intent.get("last_payment_error"))


def was_held(intent: Answer) -> bool:
    """Whether an ended PaymentIntent had once secured its money: it has a charge, and that did not fail."""
    charge = intent.get("latest_charge")
    if not charge:
        return False
    return (isinstance(charge, str) and not intent.get("last_payment_error")) or (
        not isinstance(charge, str) and charge.get("status") != "failed"
    )


def next_action(intent: Answer) -> dict[str, Any]:
    """What the customer does next: go to an address, or let Stripe's script go on with the client secret."""
    action = intent.get("next_action") or {}
    if action.get("type") == "redirect_to_url":
        return {"type": "redirect", "url": action["redirect_to_url"]["url"]}
    if intent["status"] == "processing":
        return {}
    return {"type": "client_secret", "client_secret": intent.get("client_secret") or ""}


REFUND_STATUS = {"succeeded": "succeeded", "pending": "pending", "requires_action": "pending"}


def refund_result(refund: Answer) -> GatewayResult:
    status: Any = REFUND_STATUS.get(refund["status"] or "pending", "declined")
    reason = (refund.get("failure_reason") or refund["status"]) if status == "declined" else ""
    words = _("Stripe could not refund it: %(reason)s.") % {"reason": reason} if reason else ""
    return GatewayResult(status=status, reference=refund["id"], code=reason, message=words)


def _at(seconds: int | None) -> datetime:
    return datetime.fromtimestamp(seconds or 0, tz=UTC)


def records_of_intent(intent: Answer) -> list[GatewayRecord]:
    """An authorisation with what was captured of it and let go."""
    currency, metadata = intent["currency"].upper(), intent["metadata"]
    held = intent["status"] in {"requires_capture", "succeeded"} or was_held(intent)
    ended = intent["status"] == "canceled" or failed(intent)
    common: dict[str, Any] = {
        "payment_reference": intent["id"],
        "currency": currency,
        "merchant_reference": metadata.get("orderdesk_reference", ""),
    }
    error = intent.get("last_payment_error") or {}
    records = [
        GatewayRecord(
            kind="authorize",
            reference=intent["id"],
            key=metadata.get("orderdesk_key", ""),
            amount=from_minor(intent["amount"], currency),
            status="succeeded" if held else "declined" if ended else "pending",
            message=error.get("message") or "",
            created_at=_at(intent["created"]),
            **common,
        )
    ]
    for key, units, at in _captured_by_desk(intent):
        records.append(_capture(charge_of(intent), key, units, at or intent["created"], common))
    if (more := captured_by_others(intent)) > 0:
        by_others = _capture(charge_of(intent), "", more, intent["created"], common)
        records.append(replace(by_others, in_all=from_minor(intent["amount_received"], currency)))
    rest = intent["amount"] - (intent.get("amount_received") or 0)
    if held and rest > 0 and intent["status"] in {"canceled", "succeeded"}:
        records.append(
            GatewayRecord(
                kind="void",
                reference=intent["id"],
                amount=from_minor(rest, currency),
                status="succeeded",
                created_at=_at(intent.get("canceled_at") or intent["created"]),
                **common,
            )
        )
    return records


def _capture(charge: str, key: str, units: int, at: int, common: Mapping[str, Any]) -> GatewayRecord:
    amount = from_minor(units, common["currency"])
    return GatewayRecord(
        kind="capture", reference=charge, key=key, amount=amount, status="succeeded", created_at=_at(at), **common
    )


def uncaptured(intent: Answer) -> int:
    """How much of an authorisation that has ended was never captured."""
    if intent["status"] not in {"canceled", "succeeded"} or not was_held(intent):
        return 0
    return int(intent["amount"] - (intent.get("amount_received") or 0))


def moved_nothing(refund: Answer) -> bool:
    """Whether a refund that is done left the account's balance as it was, and the desk did not ask for it."""
    ours = (refund["metadata"] or {}).get("orderdesk_key")
    done = refund["status"] == "succeeded" and refund.get("payment_intent")
    return bool(done and not ours and not refund.get("balance_transaction"))


def is_release(refund: Answer, let_go: int) -> bool:
    """Whether a refund is no refund: Stripe also makes one of what it lets go uncaptured, which the void tells."""
    return bool(let_go) and moved_nothing(refund) and refund["amount"] == let_go


def record_of_refund(refund: Answer) -> GatewayRecord:
    result, metadata = refund_result(refund), refund["metadata"] or {}
    return GatewayRecord(
        kind="refund",
        reference=refund["id"],
        key=metadata.get("orderdesk_key", ""),
        payment_reference=refund.get("payment_intent") or "",
        amount=from_minor(refund["amount"], refund["currency"]),
        currency=refund["currency"].upper(),
        status=result.status,
        message=result.message,
        created_at=_at(refund["created"]),
        merchant_reference=metadata.get("orderdesk_reference", ""),
    )


DISPUTE_STATUS = {
    "needs_response": "needs_response",
    "warning_needs_response": "needs_response",
    "appeal_needs_response": "needs_response",
    "under_review": "under_review",
    "warning_under_review": "under_review",
    "appeal_under_review": "under_review",
    "won": "won",
    "warning_closed": "won",
    "lost": "lost",
}


def dispute_status(dispute: Answer) -> str:
    """A dispute's status here. One that was prevented went back to the customer (`resolution`), or never began."""
    if dispute["status"] != "prevented":
        return DISPUTE_STATUS.get(dispute["status"], "needs_response")
    moved = sum(row["amount"] for row in dispute.get("balance_transactions") or ())
    card = (dispute.get("payment_method_details") or {}).get("card") or {}
    return "lost" if moved < 0 or card.get("case_type") == "resolution" else "won"


def record_of_dispute(dispute: Answer) -> GatewayRecord:
    due = (dispute.get("evidence_details") or {}).get("due_by")
    return GatewayRecord(
        kind="dispute",
        reference=dispute["id"],
        payment_reference=dispute.get("payment_intent") or "",
        amount=from_minor(dispute["amount"], dispute["currency"]),
        currency=dispute["currency"].upper(),
        status=dispute_status(dispute),
        created_at=_at(dispute["created"]),
        reason=dispute.get("reason") or "",
        respond_by=_at(due) if due else None,
        appeal=dispute["status"] == "appeal_needs_response",
    )


def without_secrets(value: Any) -> Any:
    """A notice as it is kept. With the client secret, whoever reads it could confirm the payment."""
    if isinstance(value, dict):
        return {name: without_secrets(part) for name, part in value.items() if name != "client_secret"}
    return [without_secrets(part) for part in value] if isinstance(value, list) else value
