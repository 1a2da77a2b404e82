"""What staff see of payments: payments and refunds, customers' credit, what gateways told, and reconciliation."""

from payments.admin import credit, gateways, money, reconciliation

__all__ = ["credit", "gateways", "money", "reconciliation"]
