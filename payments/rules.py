"""Pure decisions on money: which payments a capture or refund is taken from, what a status means for the counters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from django.utils.translation import gettext_lazy as _

from payments.models import Attempt, CreditEntry, Refund, Transaction
from shop.errors import Invalid, Refused
from shop.money import rounded, shown

ZERO = Decimal(0)

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


def holds_card_number(details: object) -> bool:
    """Whether anything in it looks like a full card number (13 to 19 digits that pass the Luhn check)."""
    candidates = re.findall(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)", str(details))
    return any(_passes_luhn([int(c) for c in found if c.isdigit()]) for found in candidates)


def _passes_luhn(digits: list[int]) -> bool:
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


# ---------------------------------------------------------------------------------------------------------------------
# Store credit and loyalty points: which part of an account expires when

RESTORED_KEEPS = timedelta(days=30)


@dataclass(slots=True)
class Lot:
    """A part of an account that expires at one time (None: never)."""

    amount: Decimal
    expires_at: datetime | None

    def is_due(self, as_of: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= as_of


def free_lots(entries: Iterable[CreditEntry]) -> list[Lot]:
    """This will say what of an account is not held, by expiry: the first to expire first.

    entries  all of the account, oldest first

    What expires first is held and spent first. What is held does not expire. What comes back keeps the expiry that it
    had, and at least 30 days (RESTORED_KEEPS): nobody loses credit because the shop cancelled late.
    """
    Kind = CreditEntry.Kind
    free: list[Lot] = []
    held: dict[int | None, list[Lot]] = defaultdict(list)
    spent: dict[int | None, list[Lot]] = defaultdict(list)
    for entry in entries:
        if entry.kind == Kind.HELD:
            held[entry.pk] = _taken(free, entry.held_amount)
        elif entry.kind == Kind.SPENT:
            spent[entry.hold_id] += _taken(held[entry.hold_id], -entry.amount)
        elif entry.kind == Kind.RELEASED:
            free += _taken(held[entry.hold_id], -entry.held_amount, last=True)
        elif entry.kind == Kind.RESTORED:
            until = entry.created_at + RESTORED_KEEPS
            for lot in _taken(spent[entry.hold_id], entry.amount, last=True):
                free.append(Lot(lot.amount, lot.expires_at and max(lot.expires_at, until)))
        elif entry.amount > 0:
            free.append(Lot(entry.amount, entry.expires_at))
        else:
            _taken(free, -entry.amount)
    return sorted(free, key=_expiry)


def _taken(lots: list[Lot], amount: Decimal, *, last: bool = False) -> list[Lot]:
    """Take an amount out of lots, those that expire first first; `last`: the other way round, for what goes back."""
    parts = []
    for lot in sorted(lots, key=_expiry, reverse=last):
        part = min(lot.amount, amount)
        if part > 0:
            lot.amount -= part
            amount -= part
            parts.append(Lot(part, lot.expires_at))
    lots[:] = [lot for lot in lots if lot.amount]
    return parts


def _expiry(lot: Lot) -> tuple[bool, float]:
    return lot.expires_at is None, lot.expires_at.timestamp() if lot.expires_at else 0.0
