"""What can be done with money: open a payment, ask for movements, record what became of them, prove the books.

Every movement is intent → attempts → outcome. `request_*` writes the intent (a Transaction with its permanent key),
reserves the amount on the payment and promises the job "payments.send", all in the caller's transaction. The worker
(tasks.py) calls the gateway outside any transaction and hands the answer to `record_outcome`.

The reserve is held exactly as long as a transaction may still move money. A refund that the gateway declined waits for
a person with its reserve, so that nobody refunds the same money a second way meanwhile; the reserve goes when the
person closes it (`close_as_failed`), or stays for good when the money went out (by a new try, or by hand).

Locks, in this order: the reference's payments by pk, the transaction, its refund; a credit account after all others.
"""

from payments.gateways import gateway_label, is_credit
from payments.rules import AmountInvalid, NotEnoughAuthorized, RefundTooLarge
from payments.services import credit
from payments.services.asking import (
    CardNumberInDetails,
    CauseReused,
    NothingToAuthorize,
    PaidByHand,
    ReceiptTooLarge,
    abandon,
    open_payment,
    record_receipt,
    request_authorization,
    request_capture,
    request_refund,
    request_void,
    takes_money_online,
    transactions_of,
)
from payments.services.books import Money, money_of, money_of_many, verify
from payments.services.ledger import KEY_LIFETIME, SEND, CurrencyMixed, payments_of, read_ahead
from payments.services.outcomes import (
    AlreadySettled,
    NotClosable,
    ask_person,
    begin_attempt,
    close_as_failed,
    first_sent_at,
    record_outcome,
    refund_failed_late,
    settle_by_hand,
    waiting_job_id,
)

__all__ = [
    "KEY_LIFETIME",
    "SEND",
    "AlreadySettled",
    "AmountInvalid",
    "CardNumberInDetails",
    "CauseReused",
    "CurrencyMixed",
    "Money",
    "NotClosable",
    "NotEnoughAuthorized",
    "NothingToAuthorize",
    "PaidByHand",
    "ReceiptTooLarge",
    "RefundTooLarge",
    "abandon",
    "ask_person",
    "begin_attempt",
    "close_as_failed",
    "credit",
    "first_sent_at",
    "gateway_label",
    "is_credit",
    "money_of",
    "money_of_many",
    "open_payment",
    "payments_of",
    "read_ahead",
    "record_outcome",
    "record_receipt",
    "refund_failed_late",
    "request_authorization",
    "request_capture",
    "request_refund",
    "request_void",
    "settle_by_hand",
    "takes_money_online",
    "transactions_of",
    "verify",
    "waiting_job_id",
]
