"""A gateway's books against ours: what each of its records is here, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from payments.models import Difference, Dispute, Payment, Transaction
from shop.money import ZERO

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
