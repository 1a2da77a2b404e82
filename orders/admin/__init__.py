"""What staff see of orders: the list, the order page, its action pages, and the tables beside them."""

from orders.admin.order import OrderAdmin
from orders.admin.others import CancellationRequestAdmin

__all__ = ["CancellationRequestAdmin", "OrderAdmin"]
