"""What payments stores: payments, movements asked of gateways, refunds, what gateways told, credit, demo's books.

Nothing here knows an order. A payment belongs to a `reference` (an order's or a cart's number), and tells whoever
opened it of changes through the kind of job named in `on_change`.
"""

from payments.models.credit import CreditAccount, CreditEntry
from payments.models.demo import DemoGatewayEntry, DemoGatewayFault
from payments.models.money import ZERO, Attempt, NeverDeleted, Origin, Payment, Refund, Transaction
from payments.models.outside import Dispute, WebhookReceived
from payments.models.reconciliation import Difference, Reconciliation

__all__ = [
    "ZERO",
    "Attempt",
    "CreditAccount",
    "CreditEntry",
    "DemoGatewayEntry",
    "DemoGatewayFault",
    "Difference",
    "Dispute",
    "NeverDeleted",
    "Origin",
    "Payment",
    "Reconciliation",
    "Refund",
    "Transaction",
    "WebhookReceived",
]
