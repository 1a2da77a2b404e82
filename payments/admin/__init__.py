"""What staff see of payments: payments and refunds, customers' credit, what gateways told, and reconciliation."""

from payments.admin import money, reconciliation

__all__ = ["money", "reconciliation"]
