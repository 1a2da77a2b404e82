"""What all services stand on: the lock, the counters, a transaction's new status and what follows from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from payments import rules
from payments.models import Payment, Refund, Transaction, WebhookReceived
from payments.rules import COUNTER_NAMES
from shop import jobs
from shop.errors import Refused
from shop.models import Job
from shop.together import recall, remember

ZERO = Decimal(0)
SEND, PROCESS = "payments.send", "payments.webhook"
# Gateways forget idempotency keys after 24 hours; what they do not know after this long is not sent again by itself.
KEY_LIFETIME = timedelta(hours=20)

Kind, Status = Transaction.Kind, Transaction.Status


class CurrencyMixed(Refused):
    code = "payment_currency_mixed"
    message = _("%(reference)s is paid in %(currency)s; a payment in another currency cannot be added.")


@dataclass(slots=True)
class Book:
    """What was read ahead of one reference (shop/together.py): its payments, locked, and what was asked of them."""

    payments: list[Payment] = field(default_factory=list)
    asked: set[tuple[str, str]] = field(default_factory=set)  # kind and cause of transactions
    refund_causes: set[str] = field(default_factory=set)


def read_ahead(*, references: Collection[str]) -> None:
    """This will lock the payments of several references, by pk, and keep what services ask for: 3 queries, once.

    Only inside `together`.
    """
    books = {reference: Book() for reference in references}
    for payment in Payment.objects.select_for_update(no_key=True).filter(reference__in=references).order_by("pk"):
        books[payment.reference].payments.append(payment)
    asked = Transaction.objects.filter(payment__reference__in=references).order_by()
    for reference, kind, cause in asked.values_list("payment__reference", "kind", "cause"):
        books[reference].asked.add((kind, cause))
    for reference, cause in Refund.objects.filter(reference__in=references).values_list("reference", "cause"):
        books[reference].refund_causes.add(cause)
    for reference, book in books.items():
        remember((Book, reference), book)


def book_of(reference: str) -> Book | None:
    book: Book | None = recall((Book, reference))
    return book


def payments_of(*, reference: str) -> list[Payment]:
    """This will list a reference's payments as they are now, by pk (1 query). Changing these rows changes nothing."""
    if (book := book_of(reference)) is not None:
        return [copy(payment) for payment in book.payments]
    return list(Payment.objects.filter(reference=reference).order_by("pk"))


def locked(reference: str) -> list[Payment]:
    if (book := book_of(reference)) is not None:
        return book.payments
    return list(Payment.objects.select_for_update(no_key=True).filter(reference=reference).order_by("pk"))


def locked_transaction(transaction_id: int) -> tuple[Payment, Transaction]:
    payment_id = Transaction.objects.values_list("payment_id", flat=True).get(pk=transaction_id)
    payment = Payment.objects.select_for_update(no_key=True).get(pk=payment_id)
    return payment, Transaction.objects.select_for_update(no_key=True).get(pk=transaction_id)


def promise(payment: Payment, row: Transaction) -> jobs.Promise:
    key = f"{SEND}:{row.pk}" if row.round == 1 else f"{SEND}:{row.pk}:{row.round}"
    return jobs.Promise(SEND, key, {"transaction": row.pk}, payment.reference, payment.store_id)


def count(payment: Payment, row: Transaction, *, before: str | None) -> None:
    """Move the payment's counters from what the transaction counted for to what it counts for now."""
    was = rules.counted(kind=row.kind, status=before, amount=row.amount) if before else {}
    now = rules.counted(kind=row.kind, status=row.status, amount=row.amount)
    for name in COUNTER_NAMES:
        change = now.get(name, ZERO) - was.get(name, ZERO)
        if change:
            setattr(payment, name, getattr(payment, name) + change)


def move(
    payment: Payment,
    row: Transaction,
    status: str,
    *,
    gateway_reference: str = "",
    error: str = "",
    by: str = "",
    next_action: Mapping[str, Any] | None = None,
) -> None:
    """Write a transaction's new status and what follows from it. Payment and transaction are locked."""
    before = row.status
    row.status = status
    row.settled_at = timezone.now() if row.is_final else None
    row.gateway_reference = gateway_reference[:200] or row.gateway_reference
    row.error = "" if status == Status.SUCCEEDED else error
    row.settled_by = by[:150]
    row.next_action = dict(next_action or {}) if status == Status.PENDING else {}
    row.save(update_fields=["status", "settled_at", "gateway_reference", "error", "settled_by", "next_action"])
    if status == before:
        return
    count(payment, row, before=before)
    payment.save(update_fields=COUNTER_NAMES)
    if row.refund_id:
        _roll_up(row.refund_id)
    tell(payment, row)
    if before == Status.NEEDS_PERSON and row.is_final and row.kind in {Kind.CAPTURE, Kind.VOID}:
        hear_again(payment)


def hear_again(payment: Payment) -> None:
    """Promise to process the webhooks once more that waited for a capture or void of ours to end."""
    rows = WebhookReceived.objects.filter(
        gateway=payment.gateway, reference=payment.reference, outcome=WebhookReceived.Outcome.WAITING
    )
    promised = Job.objects.filter(kind=PROCESS).exclude(state=Job.State.DONE).values_list("args", flat=True)
    under_way = {args.get("webhook") for args in promised}
    for webhook in rows.exclude(pk__in=under_way).order_by("pk"):
        webhook.replays += 1
        webhook.save(update_fields=["replays"])
        key = f"{PROCESS}:{webhook.pk}:{webhook.replays}"
        jobs.enqueue(PROCESS, key=key, args={"webhook": webhook.pk})


def _roll_up(refund_id: int) -> None:
    # Two payments of one refund may be settled at once: the second waits here and then sees the first.
    refund = Refund.objects.select_for_update(no_key=True).get(pk=refund_id)
    refund.status = rules.refund_status(refund.transactions.values_list("status", flat=True))
    refund.settled_at = None if refund.is_open else timezone.now()
    if not refund.is_open and refund.bank_holder:
        # Nobody needs the account any more; what is left tells it from others.
        refund.bank_iban, refund.bank_holder = rules.masked_iban(refund.bank_iban), ""
    refund.save(update_fields=["status", "settled_at", "bank_iban", "bank_holder"])


def tell(payment: Payment, row: Transaction) -> None:
    """Promise the job that tells whoever opened the payment. What comes after a gateway's no is new news."""
    if payment.on_change:
        key = f"{payment.on_change}:{row.pk}:{row.status}"
        jobs.enqueue(
            payment.on_change,
            key=key if row.round == 1 else f"{key}:{row.round}",
            args={"transaction": row.pk},
            reference=payment.reference,
            store_id=payment.store_id,
        )


def book_outside(
    payment: Payment,
    amount: Decimal,
    *,
    cause: str,
    origin: str,
    reason: str,
    reference: str,
    status: str,
    as_of: datetime,
) -> Transaction:
    """Write down money that went back without this desk, as a refund. The payment is locked."""
    settled_at = as_of if status == Status.SUCCEEDED else None
    refund = Refund.objects.create(
        reference=payment.reference,
        store_id=payment.store_id,
        amount=amount,
        currency=payment.currency,
        cause=cause,
        reason=reason,
        origin=origin,
        status=rules.refund_status([status]),
        settled_at=settled_at,
    )
    row = Transaction.objects.create(
        payment=payment,
        kind=Kind.REFUND,
        amount=amount,
        cause=f"{cause}:{payment.pk}",
        refund=refund,
        origin=origin,
        status=status,
        gateway_reference=reference[:200],
        settled_at=settled_at,
    )
    count(payment, row, before=None)
    payment.save(update_fields=COUNTER_NAMES)
    tell(payment, row)
    if not row.is_final:
        jobs.enqueue_many([promise(payment, row)])  # the worker asks until it has ended
    return row


def by_hand_reference(note: str) -> str:
    return f"by hand: {note}"[:200]
