"""Ask for movements of money: open a payment, authorise, capture, void, refund, record receipts, call captures off."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from payments import rules
from payments.gateways import get_gateway, is_credit
from payments.models import Attempt, Payment, Refund, Transaction
from payments.rules import COUNTER_NAMES
from payments.services.destinations import completed, goes_to
from payments.services.ledger import (
    ZERO,
    Book,
    CurrencyMixed,
    Kind,
    Status,
    book_of,
    by_hand_reference,
    count,
    locked,
    move,
    promise,
)
from shop import jobs
from shop.errors import Refused
from shop.together import atomic, insert, recall, remember, update


class CauseReused(Refused):
    code = "payment_cause_reused"
    message = _("“%(cause)s” was done before with another amount or reference; it is not done a second time.")


class CardNumberInDetails(Refused):
    code = "card_number_in_details"
    message = _("A full card number must not be stored; keep its last four digits.")


class NothingToAuthorize(Refused):
    code = "nothing_to_authorize"
    message = _("The payment's whole amount is authorised, or about to be.")


class PaidByHand(Refused):
    code = "paid_by_hand"
    message = _("This payment is made by hand: record its receipt when the money has arrived.")


class ReceiptTooLarge(Refused):
    code = "receipt_too_large"
    message = _("%(amount)s cannot be recorded: %(available)s is still to be paid by hand.")


def takes_money_online(*, gateway: str) -> bool:
    """This will say whether the gateway is asked over the network; if not, staff record receipts."""
    return get_gateway(gateway).takes_money_online


@atomic()
def open_payment(
    *,
    reference: str,
    store_id: int | None,
    gateway: str,
    currency: str,
    amount: Decimal,
    on_change: str = "",
    details: Mapping[str, Any] | None = None,
) -> Payment:
    """This will write down an amount to be secured through a gateway, and nothing else.

    on_change  kind of the job told of every change: args {"transaction": pk}, reference and store of the payment
    details    for the gateway and for staff to see, such as {"card": "•••• 4242"}; never card data

    Raises UnknownGateway, AmountInvalid, CardNumberInDetails, CurrencyMixed.
    """
    get_gateway(gateway)
    rules.require_amount(amount, currency)
    if rules.holds_card_number(details):
        raise CardNumberInDetails
    if on_change:
        jobs.handler_of(on_change)  # a kind that nobody handles would be noticed when the first money has moved
    other = Payment.objects.filter(reference=reference).exclude(currency=currency).first()
    if other:
        raise CurrencyMixed(params={"reference": reference, "currency": other.currency})
    return Payment.objects.create(
        reference=reference,
        store_id=store_id,
        gateway=gateway,
        currency=currency,
        amount=amount,
        on_change=on_change,
        details=dict(details or {}),
    )


@atomic()
def request_authorization(*, payment: Payment, cause: str) -> Transaction:
    """This will ask the gateway to hold what of the payment's amount is not held yet.

    Locks the payment. Raises PaidByHand, NothingToAuthorize.
    """
    payment = Payment.objects.select_for_update(no_key=True).get(pk=payment.pk)
    asked = list(payment.transactions.filter(kind=Kind.AUTHORIZE))
    for row in asked:
        if row.cause == cause:
            return row
    if not takes_money_online(gateway=payment.gateway):
        raise PaidByHand
    amount = payment.amount - sum((row.amount for row in asked if row.status != Status.FAILED), ZERO)
    if amount <= 0:
        raise NothingToAuthorize
    return request(Kind.AUTHORIZE, [(payment, amount, cause)])[0]


@atomic()
def request_capture(*, reference: str, amount: Decimal, cause: str) -> list[Transaction]:
    """This will ask to capture an amount of what is authorised, from the oldest payment first.

    The same cause again returns the same transactions, whatever became of them. Locks the reference's payments.
    Raises AmountInvalid, NotEnoughAuthorized, CauseReused.
    """
    payments = locked(reference)
    if before := _asked_before(Kind.CAPTURE, payments, cause):
        if sum(row.amount for row in before) != amount:
            raise CauseReused(params={"cause": cause})
        return before
    by_pk = {payment.pk: payment for payment in payments}
    shares = rules.plan_capture(payments=payments, amount=amount)
    return request(Kind.CAPTURE, [(by_pk[pk], part, f"{cause}:{pk}") for pk, part in shares])


@atomic()
def request_void(*, reference: str, cause: str) -> list[Transaction]:
    """This will ask to let go what is authorised and neither captured nor about to be, on every payment.

    Returns the cause's transactions, including those of an earlier call; none if nothing was held. An authorisation
    still under way is not held yet: call again, with the same or another cause, when on_change tells that it succeeded.
    Locks the reference's payments.
    """
    payments = locked(reference)
    before = _asked_before(Kind.VOID, payments, cause)
    voided = {row.payment_id for row in before}
    shares = [
        (payment, payment.open_to_capture, f"{cause}:{payment.pk}")
        for payment in payments
        if payment.open_to_capture > 0 and payment.pk not in voided
    ]
    return before + request(Kind.VOID, shares)


@atomic()
def request_refund(
    *,
    reference: str,
    amount: Decimal,
    cause: str,
    reason: str = "",
    destination: rules.Destination | str = "",
    owner_id: int | None = None,
) -> Refund:
    """This will decide to give an amount back, from the newest payment first, to the cent.

    destination  where it goes instead of the way it came; each part still belongs to the payment whose money it is
    owner_id     whose account credit goes to

    The same cause again is the same Refund, and nothing new. Locks the reference's payments.
    Raises AmountInvalid, RefundTooLarge, CauseReused, and what `completed` raises of a destination.
    """
    to = completed(rules.Destination.of(destination), owner_id=owner_id)
    payments = locked(reference)
    before = _refund_of(cause, book_of(reference))
    if before:
        if (before.reference, before.amount, before.destination) != (reference, amount, to.gateway):
            raise CauseReused(params={"cause": cause})
        return before
    shares = rules.plan_refund(payments=payments, amount=amount)
    refund = Refund(
        reference=reference,
        store_id=payments[0].store_id,
        amount=amount,
        currency=payments[0].currency,
        cause=cause,
        reason=reason[:500],
        destination=to.gateway,
        consent=to.consent,
        owner_id=owner_id if is_credit(to.gateway) else None,
        bank_iban=to.iban,
        bank_holder=to.holder,
    )
    insert([refund])
    by_pk = {payment.pk: payment for payment in payments}
    rows = request(Kind.REFUND, [(by_pk[pk], part, f"{cause}:{pk}") for pk, part in shares], refund)
    remember((Refund, refund.pk), rows)
    return refund


def transactions_of(*, refund: Refund) -> list[Transaction]:
    """This will list how a refund is given back, a transaction for each payment (1 query)."""
    rows: list[Transaction] | None = recall((Refund, refund.pk))
    return list(refund.transactions.order_by("pk")) if rows is None else rows


def _refund_of(cause: str, book: Book | None) -> Refund | None:
    if book is not None and cause not in book.refund_causes:
        return None
    return Refund.objects.filter(cause=cause).first()


def _asked_before(kind: str, payments: Sequence[Payment], cause: str) -> list[Transaction]:
    causes = [f"{cause}:{payment.pk}" for payment in payments]
    book = book_of(payments[0].reference) if payments else None
    if book is not None and not any((kind, cause) in book.asked for cause in causes):
        return []
    return list(Transaction.objects.filter(kind=kind, cause__in=causes).order_by("pk"))


def request(
    kind: str, shares: Sequence[tuple[Payment, Decimal, str]], refund: Refund | None = None
) -> list[Transaction]:
    """Write the intents, reserve their amounts, promise to send them. The payments are locked."""
    rows = insert(
        Transaction(
            payment=payment,
            kind=kind,
            amount=amount,
            cause=cause,
            refund=refund,
            destination=goes_to(payment.gateway, refund.destination) if refund else "",
        )
        for payment, amount, cause in shares
    )
    payments = [payment for payment, _amount, _cause in shares]
    for payment, row in zip(payments, rows, strict=True):
        count(payment, row, before=None)
    if rules.COUNTERS[kind][0]:
        update(payments, [rules.COUNTERS[kind][0] or ""])
    jobs.enqueue_many(promise(payment, row) for payment, row in zip(payments, rows, strict=True))
    for payment, row in zip(payments, rows, strict=True):
        if (book := book_of(payment.reference)) is not None:
            book.asked.add((kind, row.cause))
    return rows


@atomic()
def record_receipt(*, reference: str, amount: Decimal, cause: str, note: str, actor_name: str) -> Transaction:
    """This will book money that arrived by hand (bank transfer, cash): authorised and captured in one, final at once.

    It goes to the oldest payment of a gateway that takes no money online and has that much to be paid. Returns the
    capture. The same cause again returns the same capture. Locks the reference's payments.
    Raises AmountInvalid, ReceiptTooLarge, CauseReused.
    """
    payments = locked(reference)
    before = Transaction.objects.filter(kind=Kind.CAPTURE, cause=cause).select_related("payment").first()
    if before:
        if (before.payment.reference, before.amount) != (reference, amount):
            raise CauseReused(params={"cause": cause})
        return before
    by_hand = [payment for payment in payments if not takes_money_online(gateway=payment.gateway)]
    payment = next((row for row in by_hand if row.amount - row.authorized >= amount), None)
    if payment is None:
        currency = payments[0].currency if payments else ""
        most = max((row.amount - row.authorized for row in by_hand), default=ZERO)
        raise ReceiptTooLarge(
            params={"amount": rules.words(amount, currency), "available": rules.words(most, currency)}, field="amount"
        )
    rules.require_amount(amount, payment.currency)
    now = timezone.now()
    rows = Transaction.objects.bulk_create(
        Transaction(
            payment=payment,
            kind=kind,
            amount=amount,
            cause=cause,
            status=Status.SUCCEEDED,
            gateway_reference=by_hand_reference(note),
            settled_by=actor_name[:150],
            settled_at=now,
        )
        for kind in (Kind.AUTHORIZE, Kind.CAPTURE)
    )
    for row in rows:
        count(payment, row, before=None)
    payment.save(update_fields=COUNTER_NAMES)
    # Nobody is told: whoever books a receipt knows, and draws the conclusions in the same transaction.
    return rows[1]


@atomic()
def abandon(*, reference: str, cause: str = "", transaction_ids: Collection[int] = ()) -> list[Transaction]:
    """This will call off captures that were requested and never sent; returns those it could.

    cause            as given to request_capture
    transaction_ids  or the captures themselves

    Locks the reference's payments, then the transactions: a worker that begins to send one finds it ended, or is
    there first, and then it stays.
    """
    payments = {payment.pk: payment for payment in locked(reference)}
    rows = Transaction.objects.select_for_update(no_key=True).filter(
        payment__in=payments, kind=Kind.CAPTURE, status=Status.REQUESTED
    )
    if cause:
        rows = rows.filter(cause__in=[f"{cause}:{pk}" for pk in payments])
    else:
        rows = rows.filter(pk__in=transaction_ids)
    unsent = list(rows.order_by("pk"))
    # Asked only once the rows are locked: PostgreSQL does not look again at a condition that was true before the wait.
    sent = set(Attempt.objects.filter(transaction__in=unsent).values_list("transaction_id", flat=True))
    abandoned = [row for row in unsent if row.pk not in sent]
    for row in abandoned:
        move(payments[row.payment_id], row, Status.FAILED, error="abandoned")
    return abandoned
