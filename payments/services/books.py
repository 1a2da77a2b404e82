"""The books: what a reference's money is, and the proof that everything adds up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db.transaction import atomic

from payments import rules
from payments.models import Attempt, Origin, Payment, Refund, Transaction
from payments.rules import COUNTER_NAMES
from payments.services.credit import verify_credit
from payments.services.ledger import SEND, ZERO, CurrencyMixed, Status
from shop.models import Job
from shop.money import shown


@dataclass(frozen=True, slots=True)
class Money:
    """The money of a reference, over all its payments, in one currency. All zero, without currency: no payment."""

    currency: str = ""
    amount: Decimal = ZERO
    authorized: Decimal = ZERO
    capture_reserved: Decimal = ZERO
    captured: Decimal = ZERO
    voided: Decimal = ZERO
    refund_reserved: Decimal = ZERO
    refunded: Decimal = ZERO

    @property
    def open_to_capture(self) -> Decimal:
        return self.authorized - self.capture_reserved - self.voided

    @property
    def refundable(self) -> Decimal:
        return self.captured - self.refund_reserved

    @property
    def captures_in_flight(self) -> bool:
        return self.capture_reserved > self.captured


def money_of(*, reference: str) -> Money:
    """This will sum up the money of a reference, in one query."""
    return money_of_many(references=[reference])[reference]


def money_of_many(*, references: Iterable[str]) -> dict[str, Money]:
    """This will sum up the money of many references, in one query: reference → Money."""
    wanted = set(references)
    found: dict[str, list[Payment]] = defaultdict(list)
    for payment in Payment.objects.filter(reference__in=wanted):
        found[payment.reference].append(payment)
    return {reference: _summed(found[reference]) for reference in wanted}


def _summed(payments: Sequence[Payment]) -> Money:
    if not payments:
        return Money()
    names = ("amount", *COUNTER_NAMES)
    # open_payment keeps a reference in one currency; summing two would be worse than stopping.
    if any(payment.currency != payments[0].currency for payment in payments):
        raise CurrencyMixed(params={"reference": payments[0].reference, "currency": payments[0].currency})
    sums = {name: sum((getattr(payment, name) for payment in payments), ZERO) for name in names}
    return Money(currency=payments[0].currency, **sums)


def closed_refunds(*, references: Collection[str]) -> dict[str, Decimal]:
    """This will sum up what people closed as failed of this desk's refunds, in one query: reference → amount.

    The money is here, and somebody has said so: no refund of it is begun again by itself.
    """
    closed = dict.fromkeys(references, ZERO)
    rows = Transaction.objects.filter(kind=Transaction.Kind.REFUND, status=Status.FAILED, origin=Origin.DESK)
    for reference, amount in rows.filter(payment__reference__in=closed).values_list("payment__reference", "amount"):
        closed[reference] += amount
    return closed


def verify() -> Iterator[str]:
    """This will name every place where the books of payments do not add up; nothing if they do.

    Counters are the sums of transactions, bounds hold, a refund is the sum of its transactions and has their status,
    an attempt's outcome agrees with its transaction's, whatever is open has a job that will bring it further, and
    credit accounts are the sums of their entries.
    The desk may be working meanwhile: what looks wrong is looked at again under its lock.
    """
    sums: dict[int, dict[str, Decimal]] = defaultdict(lambda: dict.fromkeys(COUNTER_NAMES, ZERO))
    parts: dict[int, list[tuple[Decimal, str]]] = defaultdict(list)
    unfinished: set[int] = set()
    rows = Transaction.objects.values_list("pk", "payment_id", "refund_id", "kind", "status", "amount")
    for pk, payment_id, refund_id, kind, status, amount in rows.order_by("pk").iterator():
        _add(sums[payment_id], kind, status, amount)
        if refund_id:
            parts[refund_id].append((amount, status))
        if status not in Transaction.FINAL:
            unfinished.add(pk)
    for payment in Payment.objects.order_by("pk").iterator():
        if _wrong_in_payment(payment, sums[payment.pk]):
            yield from _payment_again(payment.pk)
    for refund in Refund.objects.order_by("pk").iterator():
        if _wrong_in_refund(refund, parts[refund.pk]):
            yield from _refund_again(refund.pk)
    yield from _wrong_attempts()
    yield from _without_job(unfinished)
    yield from verify_credit()


def _add(sums: dict[str, Decimal], kind: str, status: str, amount: Decimal) -> None:
    for name, part in rules.counted(kind=kind, status=status, amount=amount).items():
        sums[name] += part


def _wrong_in_payment(payment: Payment, sums: Mapping[str, Decimal]) -> list[str]:
    name, wrong = f"payment {payment.pk} of {payment.reference}", []
    for counter in COUNTER_NAMES:
        stored = getattr(payment, counter)
        if stored != sums[counter]:
            wrong.append(f"{name}: {counter} is {stored}, its transactions add up to {sums[counter]}")
    if not ZERO <= payment.refunded <= payment.refund_reserved <= payment.captured <= payment.capture_reserved:
        wrong.append(f"{name}: refunded ≤ refund_reserved ≤ captured ≤ capture_reserved does not hold")
    if payment.open_to_capture < 0 or payment.authorized > payment.amount:
        wrong.append(f"{name}: capture_reserved + voided ≤ authorized ≤ amount does not hold")
    return wrong


@atomic
def _payment_again(pk: int) -> list[str]:
    payment = Payment.objects.select_for_update(no_key=True).get(pk=pk)
    sums = dict.fromkeys(COUNTER_NAMES, ZERO)
    for kind, status, amount in payment.transactions.values_list("kind", "status", "amount"):
        _add(sums, kind, status, amount)
    return _wrong_in_payment(payment, sums)


def _wrong_in_refund(refund: Refund, parts: Sequence[tuple[Decimal, str]]) -> list[str]:
    name, wrong = f"refund {refund.pk} of {refund.reference}", []
    summed = sum((amount for amount, _status in parts), ZERO)
    if summed != refund.amount:
        wrong.append(f"{name}: is {refund.amount}, its transactions add up to {summed}")
    rolled_up = rules.refund_status(status for _amount, status in parts)
    if rolled_up != refund.status:
        wrong.append(f"{name}: is {refund.status}, its transactions say {rolled_up}")
    return wrong


@atomic
def _refund_again(pk: int) -> list[str]:
    refund = Refund.objects.select_for_update(no_key=True).get(pk=pk)
    return _wrong_in_refund(refund, list(refund.transactions.values_list("amount", "status")))


def _wrong_attempts() -> Iterator[str]:
    moved = Attempt.objects.filter(outcome=Attempt.Outcome.SUCCEEDED).select_related("transaction__payment")
    for attempt in moved.exclude(transaction__status=Status.SUCCEEDED).iterator():
        row = attempt.transaction
        amount = shown(row.amount, row.payment.currency)
        yield (
            f"transaction {row.pk} of {row.payment.reference}: is {row.status}, "
            f"but attempt {attempt.number} moved {amount}"
        )


def _without_job(unfinished: Collection[int]) -> Iterator[str]:
    alive = Job.objects.filter(kind=SEND).exclude(state=Job.State.DONE).values_list("args", flat=True)
    suspects = set(unfinished) - {args.get("transaction") for args in alive.iterator()}
    for pk in sorted(suspects):
        row = Transaction.objects.select_related("payment").get(pk=pk)
        if not row.is_final:
            yield f"transaction {pk} of {row.payment.reference}: is {row.status}, but no job will bring it further"
