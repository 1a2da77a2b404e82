"""Which payments a capture or refund is taken from, and what each status of a movement counts as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from django.utils.translation import gettext_lazy as _

from payments.models import Attempt, Refund, Transaction
from shop.errors import Invalid, Refused
from shop.money import ZERO, rounded, shown

# Which counters of the payment a transaction stands in. `held` from the request on, for as long as it may still move
# money, that is: until it has failed for good. `moved` once it has succeeded. The sums of these *are* the counters;
# services.verify() proves it.
COUNTERS: Mapping[str, tuple[str | None, str | None]] = {
    Transaction.Kind.AUTHORIZE: (None, "authorized"),
    Transaction.Kind.CAPTURE: ("capture_reserved", "captured"),
    Transaction.Kind.VOID: ("voided", None),
    Transaction.Kind.REFUND: ("refund_reserved", "refunded"),
}
COUNTER_NAMES = ("authorized", "capture_reserved", "captured", "voided", "refund_reserved", "refunded")


class NotEnoughAuthorized(Refused):
    code = "not_enough_authorized"
    message = _("%(amount)s cannot be captured: only %(available)s is authorised and not captured yet.")


class RefundTooLarge(Refused):
    code = "refund_too_large"
    message = _("%(amount)s cannot be refunded: only %(available)s is captured and not refunded yet.")


class AmountInvalid(Invalid):
    code = "amount_invalid"
    message = _("The amount must be more than zero and a whole number of the currency's smallest unit.")


class PaymentRow(Protocol):
    """What the plans need to know of a payment."""

    @property
    def pk(self) -> int: ...
    @property
    def currency(self) -> str: ...
    @property
    def open_to_capture(self) -> Decimal: ...
    @property
    def refundable(self) -> Decimal: ...


def plan_capture(*, payments: Iterable[PaymentRow], amount: Decimal) -> list[tuple[int, Decimal]]:
    """This will divide a capture over payments, oldest first: [(payment id, amount)].

    Raises AmountInvalid, NotEnoughAuthorized.
    """
    rows = sorted(payments, key=lambda row: row.pk)
    return _divided([(row.pk, row.open_to_capture) for row in rows], amount, _currency(rows), NotEnoughAuthorized)


def plan_refund(*, payments: Iterable[PaymentRow], amount: Decimal) -> list[tuple[int, Decimal]]:
    """This will divide a refund over payments, newest first: [(payment id, amount)].

    Newest first as Spree does it: what was paid last is furthest from its chargeback and expiry dates. The checkout
    puts credit before the rest, so money goes back the way it came before points and store credit are restored.
    Raises AmountInvalid, RefundTooLarge.
    """
    rows = sorted(payments, key=lambda row: -row.pk)
    return _divided([(row.pk, row.refundable) for row in rows], amount, _currency(rows), RefundTooLarge)


def _currency(rows: Sequence[PaymentRow]) -> str:
    return rows[0].currency if rows else ""


def _divided(
    rooms: Sequence[tuple[int, Decimal]], amount: Decimal, currency: str, refusal: type[Refused]
) -> list[tuple[int, Decimal]]:
    if currency:
        require_amount(amount, currency)
    shares, left = [], amount
    for pk, room in rooms:
        part = min(left, room)
        if part > 0:
            shares.append((pk, part))
            left -= part
    if left or not shares:
        available = sum((room for _pk, room in rooms), ZERO)
        raise refusal(params={"amount": words(amount, currency), "available": words(available, currency)})
    return shares


def words(amount: Decimal, currency: str) -> str:
    """An amount as a refusal shows it; without payments there is no currency."""
    return shown(amount, currency) if currency else f"{amount:f}"


def require_amount(amount: Decimal, currency: str) -> None:
    """Raise AmountInvalid unless it is a positive number of the currency's smallest units."""
    if not amount.is_finite() or amount <= 0 or amount != rounded(amount, currency):
        raise AmountInvalid(field="amount")


def counted(*, kind: str, status: str, amount: Decimal) -> dict[str, Decimal]:
    """What one transaction adds to its payment's counters."""
    held, moved = COUNTERS[kind]
    counts = {}
    if held and status != Transaction.Status.FAILED:
        counts[held] = amount
    if moved and status == Transaction.Status.SUCCEEDED:
        counts[moved] = amount
    return counts


def status_after(*, kind: str, answer: str) -> str | None:
    """What an answer of the gateway makes of a transaction; None: nothing yet.

    A declined authorisation or capture has failed: nothing is owed to anybody. A declined refund or void is still
    owed, so it waits for a person, and holds its reserve meanwhile: nobody can refund the same money a second time.
    """
    if answer == "declined":
        owed = kind in {Transaction.Kind.REFUND, Transaction.Kind.VOID}
        return Transaction.Status.NEEDS_PERSON if owed else Transaction.Status.FAILED
    return {
        "succeeded": Transaction.Status.SUCCEEDED,
        "pending": Transaction.Status.PENDING,
        "needs_person": Transaction.Status.NEEDS_PERSON,
        "unknown": Transaction.Status.UNKNOWN,
        "unavailable": None,
    }[answer]


ATTEMPT_AFTER: Mapping[str, str] = {
    "succeeded": Attempt.Outcome.SUCCEEDED,
    "declined": Attempt.Outcome.FAILED,
    "pending": Attempt.Outcome.PENDING,
    "needs_person": Attempt.Outcome.NEEDS_PERSON,
    "unknown": Attempt.Outcome.UNKNOWN,
    "unavailable": Attempt.Outcome.UNAVAILABLE,
}


def refund_status(statuses: Iterable[str]) -> str:
    """A refund's status from those of its transactions."""
    found = set(statuses)
    if found <= {Transaction.Status.SUCCEEDED}:
        return Refund.Status.SUCCEEDED
    if found <= {Transaction.Status.FAILED}:
        return Refund.Status.FAILED
    if found <= set(Transaction.FINAL):
        return Refund.Status.PARTLY
    if Transaction.Status.NEEDS_PERSON in found:
        return Refund.Status.WAITING
    if found & {Transaction.Status.PENDING, Transaction.Status.UNKNOWN}:
        return Refund.Status.PENDING
    return Refund.Status.WAITING
