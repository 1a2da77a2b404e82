"""Pure decisions on money: what a capture or refund is taken from, what a status means, where two books differ."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from django.utils.translation import gettext_lazy as _

from payments.models import Attempt, CreditEntry, Difference, Dispute, Payment, Refund, Transaction
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


class IbanInvalid(Invalid):
    code = "iban_invalid"
    message = _("This is not an IBAN: check its letters and digits.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a refund goes, if not back the way it came.

    gateway       its code; empty: the original method
    consent       who agreed to it, how and when: credit needs it
    iban, holder  of the account that a person transfers it to; in no journal, log or plan
    """

    gateway: str = ""
    consent: str = ""
    iban: str = field(default="", repr=False)
    holder: str = field(default="", repr=False)

    @classmethod
    def of(cls, wanted: Destination | str) -> Destination:
        """A destination by its gateway's code, or as it is."""
        return cls(gateway=wanted) if isinstance(wanted, str) else wanted

    def __bool__(self) -> bool:
        return bool(self.gateway)


AS_PAID = Destination()


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


def without_card_numbers(value: Any) -> Any:
    """What somebody outside sent, as it may be kept: what looks like a full card number leaves its last four digits."""
    if isinstance(value, Mapping):
        return {name: without_card_numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_card_numbers(part) for part in value]
    is_text = isinstance(value, str)
    return f"•••• {str(value)[-4:]}" if (is_text or type(value) is int) and holds_card_number(value) else value


def _passes_luhn(digits: list[int]) -> bool:
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


# ---------------------------------------------------------------------------------------------------------------------
# Bank accounts that a person transfers a refund to

# How long a country's IBANs are, from the IBAN registry (ISO 13616). What is not here passes by its check digits.
IBAN_LENGTHS: Mapping[str, int] = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


def valid_iban(text: str) -> str:
    """This will tidy an IBAN (no spaces, capitals) and check its shape, its country's length and its check digits.

    Raises IbanInvalid. ISO 13616; the check is ISO 7064 MOD 97-10.
    """
    iban = re.sub(r"\s", "", text).upper()
    shaped = re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", iban)
    if not shaped or len(iban) != IBAN_LENGTHS.get(iban[:2], len(iban)):
        raise IbanInvalid(field="iban")
    number = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
    if int(number) % 97 != 1:
        raise IbanInvalid(field="iban")
    return iban


def masked_iban(iban: str) -> str:
    """The country and the last four of an IBAN: enough to recognise it, not enough to use it."""
    return f"{iban[:2]}•• •••• {iban[-4:]}" if iban else ""


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


# ---------------------------------------------------------------------------------------------------------------------
# A gateway's books against ours

# What is under way is no difference yet.
GRACE = timedelta(minutes=30)
# So many movements may be missing at a gateway; with more, and more than half, it is taken for another account.
MOST_MISSING = 20

Kind, Status, Differs = Transaction.Kind, Transaction.Status, Difference.Kind


class RecordThere(Protocol):
    """What a comparison needs of a movement or dispute in a gateway's books (GatewayRecord)."""

    @property
    def kind(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def amount(self) -> Decimal: ...
    @property
    def currency(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def merchant_reference(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Ledger:
    """What our books have of one payment."""

    payment: Payment
    transactions: Sequence[Transaction]
    disputes: Sequence[Dispute] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A difference between the books: the fields of a Difference.

    safe  the way that webhooks take (services.take_in) can put it right: nothing contradicts, nothing is guessed
    told  why the desk could not put it right by itself
    """

    kind: str
    thing: str
    operation: str
    happened_at: datetime
    currency: str
    reference: str = ""
    store_id: int | None = None
    payment_id: int | None = None
    transaction_id: int | None = None
    gateway_reference: str = ""
    our_amount: Decimal | None = None
    our_status: str = ""
    their_amount: Decimal | None = None
    their_status: str = ""
    told: str = ""
    safe: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of comparing one record.

    finding  None: both agree, or nothing can be said yet
    seen     ids of the transactions that it is
    things   what it answers for: an open difference about one of these is over, unless it is the finding
    is_other neither asked by this desk nor of one of its payments
    """

    finding: Finding | None = None
    seen: tuple[int, ...] = ()
    things: frozenset[str] = frozenset()
    is_other: bool = False


def compare(record: RecordThere, *, ledger: Ledger | None, as_of: datetime) -> Compared:
    """This will compare one record of a gateway with our books of its payment (None: we have none).

    By key first, then by the gateway's reference. A row that is younger than GRACE and disagrees is under way.
    """
    if ledger is None:
        if not record.key and not record.merchant_reference:
            return Compared(is_other=True)
        moved = record.status == "succeeded" or record.kind == "dispute"
        finding = _finding(Differs.MISSING_HERE, record, None) if moved else None
        return Compared(finding, (), frozenset([_thing(record)]))
    if record.kind == "dispute":
        return _compare_dispute(record, ledger)
    rows = matching(record, ledger.transactions)
    things = frozenset([_thing(record), *(thing_of(row.pk) for row in rows)])
    seen = tuple(row.pk for row in rows)
    if not rows:
        is_refund = record.kind == Kind.REFUND
        safe = is_refund or (record.kind in {Kind.CAPTURE, Kind.VOID} and not record.key)
        if record.status == "succeeded" or (record.status == "pending" and is_refund):
            return Compared(_finding(Differs.MISSING_HERE, record, ledger, safe=safe), seen, things)
        return Compared(None, seen, things)
    differs, safe = _differs(record, rows)
    if differs is None:
        return Compared(None, seen, things)
    if differs == Differs.STATUS and _is_under_way(rows[0], as_of):
        return Compared(None, seen)
    return Compared(_finding(differs, record, ledger, row=rows[0], safe=safe), seen, things)


def matching(record: RecordThere, rows: Iterable[Transaction]) -> list[Transaction]:
    """Which transactions a record is: by any key that they were sent under, else by the gateway's reference.

    A release without a key is all that was released, in one or in several. A capture without a key is all that others
    captured under its reference: what was booked as such, and what a person did there and settled by hand here.
    """
    same = [row for row in rows if row.kind == record.kind]
    if record.key:
        by_key = [row for row in same if record.key in row.gateway_keys]
        if by_key or record.kind not in {Kind.AUTHORIZE, Kind.REFUND}:
            return by_key
    if record.kind == Kind.VOID:
        done = [row for row in same if row.status == Status.SUCCEEDED]
        if done and sum((row.amount for row in done), ZERO) == record.amount:
            return done
        alive = (row for row in same if row.amount == record.amount and row.status != Status.FAILED)
        equal = sorted(alive, key=lambda row: row.is_final)
        return equal[:1]
    if record.kind in {Kind.AUTHORIZE, Kind.REFUND}:
        return [row for row in same if record.reference and row.gateway_reference == record.reference][:1]
    booked = [row for row in same if row.is_outside and row.gateway_reference == record.reference]
    by_hand = [row for row in same if row.settled_by and row.status == Status.SUCCEEDED]
    both = sum((row.amount for row in booked + by_hand), ZERO)
    return booked + by_hand if both == record.amount else booked


def _differs(record: RecordThere, rows: Sequence[Transaction]) -> tuple[str | None, bool]:
    """How a record and the transactions that it is differ, and whether `take_in` can put it right."""
    row = rows[0]
    amount = sum((each.amount for each in rows), ZERO)
    if record.status != "declined" and (record.amount, record.currency) != (amount, row.payment.currency):
        has_grown = row.is_outside and record.kind == Kind.CAPTURE and record.amount > amount
        return Differs.AMOUNT, has_grown and record.currency == row.payment.currency
    if record.key and record.key in row.gateway_keys[:-1]:  # an earlier round: it was declined, and stays so
        return (Differs.STATUS, False) if record.status == "succeeded" else (None, False)
    if not row.is_final:
        owed = row.kind in {Kind.REFUND, Kind.VOID}
        settles = record.status == "succeeded" or (record.status == "declined" and not owed)
        # Declined, but owed all the same; or under way at both ends: its own job sees to it.
        return (Differs.STATUS, True) if settles else (None, False)
    agrees = {Status.SUCCEEDED: "succeeded", Status.FAILED: "declined"}[Status(row.status)] == record.status
    by_hand = row.settled_by and row.status == Status.SUCCEEDED and record.status == "declined"
    if agrees or by_hand:
        return None, False
    came_back = row.kind == Kind.REFUND and record.status == "declined"
    return Differs.STATUS, came_back


def _is_under_way(row: Transaction, as_of: datetime) -> bool:
    return (row.settled_at or row.created_at) > as_of - GRACE


def _compare_dispute(record: RecordThere, ledger: Ledger) -> Compared:
    things = frozenset([_thing(record)])
    row = next((dispute for dispute in ledger.disputes if dispute.gateway_reference == record.reference), None)
    if row is None:
        return Compared(_finding(Differs.CHARGEBACK, record, ledger, safe=True), (), things)
    booked = row.chargeback.amount if row.chargeback else ZERO
    lost_more = row.status == record.status == Dispute.Status.LOST and booked < record.amount
    if row.status == record.status and not lost_more:
        return Compared(None, (), things)
    # What was lost and could not be booked, because it had been refunded before, may have come free since.
    safe = row.ended_at is None or (lost_more and not booked and ledger.payment.refundable > 0)
    finding = _finding(Differs.CHARGEBACK, record, ledger, safe=safe)
    return Compared(replace(finding, our_amount=booked, our_status=row.status), (), things)


def mostly_missing(*, missing: int, compared: int) -> bool:
    """This will say whether so much is missing at a gateway that these are not the books of the same account."""
    return missing > MOST_MISSING and 2 * missing > compared


def missing_there(row: Transaction, *, told: str = "") -> Finding:
    """This will say that a gateway does not have a transaction that succeeded here."""
    return _of_row(Differs.MISSING_THERE, row, told=told)


def status_there(row: Transaction, *, status: str, told: str) -> Finding:
    """This will say that a gateway gives a transaction that succeeded here another status."""
    return replace(_of_row(Differs.STATUS, row, told=told), their_amount=row.amount, their_status=status)


def _of_row(kind: str, row: Transaction, *, told: str) -> Finding:
    return Finding(
        kind=kind,
        thing=thing_of(row.pk),
        operation=row.kind,
        happened_at=row.settled_at or row.created_at,
        currency=row.payment.currency,
        reference=row.payment.reference,
        store_id=row.payment.store_id,
        payment_id=row.payment_id,
        transaction_id=row.pk,
        gateway_reference=row.gateway_reference or row.gateway_key,
        our_amount=row.amount,
        our_status=row.status,
        told=told,
    )


def _finding(
    kind: str, record: RecordThere, ledger: Ledger | None, *, row: Transaction | None = None, safe: bool = False
) -> Finding:
    payment = ledger.payment if ledger else None
    return Finding(
        kind=kind,
        thing=thing_of(row.pk) if row else _thing(record),
        operation=record.kind,
        happened_at=record.created_at,
        currency=record.currency,
        reference=payment.reference if payment else record.merchant_reference[:40],
        store_id=payment.store_id if payment else None,
        payment_id=payment.pk if payment else None,
        transaction_id=row.pk if row else None,
        gateway_reference=record.reference[:200],
        our_amount=row.amount if row else None,
        our_status=row.status if row else "",
        their_amount=record.amount,
        their_status=record.status,
        safe=safe,
    )


def thing_of(transaction_id: int) -> str:
    return f"transaction:{transaction_id}"


def _thing(record: RecordThere) -> str:
    return f"{record.kind}:{record.reference}:{record.key}"[:300]
