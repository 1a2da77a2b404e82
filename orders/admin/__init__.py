"""What staff see of orders: the list, the order page, its action pages, and the tables beside them."""

from orders.admin.addresses import AddressChangeAdmin, ExternalNoticeAdmin
from orders.admin.approvals import ApprovalAdmin
from orders.admin.bulk_runs import BulkRunAdmin
from orders.admin.cancellations import CancellationAdmin
from orders.admin.documents import DocumentAdmin, DocumentSeriesAdmin
from orders.admin.figures import CancellationFigureAdmin
from orders.admin.order import OrderAdmin
from orders.admin.others import CancellationRequestAdmin
from orders.admin.policies import (
    AbsenceAdmin,
    ApprovalLevelAdmin,
    ApprovalPolicyAdmin,
    CancellationReasonAdmin,
    CancelRuleAdmin,
)
from orders.admin.recurring import RecurringOrderAdmin
from orders.admin.returns import ReturnAdmin, ReturnCarrierAdmin, ReturnPolicyAdmin
from orders.admin.withdrawals import WithdrawalAdmin

__all__ = [
    "AbsenceAdmin",
    "AddressChangeAdmin",
    "ApprovalAdmin",
    "ApprovalLevelAdmin",
    "ApprovalPolicyAdmin",
    "BulkRunAdmin",
    "CancelRuleAdmin",
    "CancellationAdmin",
    "CancellationFigureAdmin",
    "CancellationReasonAdmin",
    "CancellationRequestAdmin",
    "DocumentAdmin",
    "DocumentSeriesAdmin",
    "ExternalNoticeAdmin",
    "OrderAdmin",
    "RecurringOrderAdmin",
    "ReturnAdmin",
    "ReturnCarrierAdmin",
    "ReturnPolicyAdmin",
    "WithdrawalAdmin",
]
