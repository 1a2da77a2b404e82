"""What payments stores: payments, movements of money asked of gateways, refunds, credit, the demo gateway's books.

Nothing here knows an order. A payment belongs to a `reference` (an order's or a cart's number), and tells whoever
opened it of changes through the kind of job named in `on_change`.
"""

from payments.models.credit import CreditAccount, CreditEntry
from payments.models.demo import DemoGatewayEntry, DemoGatewayFault
from payments.models.money import ZERO, Attempt, NeverDeleted, Payment, Refund, Transaction

__all__ = [
    "ZERO",
    "Attempt",
    "CreditAccount",
    "CreditEntry",
    "DemoGatewayEntry",
    "DemoGatewayFault",
    "NeverDeleted",
    "Payment",
    "Refund",
    "Transaction",
]
