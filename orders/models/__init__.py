"""What is stored about orders. Split by noun; import from here."""

from __future__ import annotations

from typing import ClassVar

from orders.models.approvals import Absence, Approval, ApprovalLevel, ApprovalPolicy
from orders.models.bulk import BulkItem, BulkRun
from orders.models.cancellation import Cancellation, CancellationReason, CancellationRequest, CancelRule
from orders.models.documents import Document, DocumentFile, DocumentKind, DocumentSeries
from orders.models.events import (
    CommunicationEvent,
    Disposition,
    OrderStatusChange,
    PaymentEvent,
    PaymentEventQuantity,
    PaymentEventType,
    ShippingEvent,
    ShippingEventQuantity,
    ShippingEventType,
)
from orders.models.external import AddressChange, ExternalCall, ExternalNotice
from orders.models.facts import Facts
from orders.models.figures import CancellationFigure, FigureCursor
from orders.models.journal import Hold, JournalEntry, OrderNote, as_json
from orders.models.lines import InvalidLineStatus, OrderLine
from orders.models.order import (
    BaseOrder,
    CaptureMode,
    InvalidOrderStatus,
    InvalidStatus,
    OrderAddress,
    OrderDiscount,
    OrderNotFound,
    OrderQuerySet,
)
from orders.models.recurring import RecurringChange, RecurringItem, RecurringNotFound, RecurringOrder
from orders.models.refunds import GivesBack, RefundKind, RefundRequest
from orders.models.returns import (
    Condition,
    Inspection,
    RequestPicture,
    Return,
    ReturnCarrier,
    ReturnPolicy,
    new_return_code,
)
from orders.models.status import (
    STATUS_CODES,
    Status,
    in_stages,
    own_statuses,
    rules_of,
    status_code,
    status_label,
    take_places,
    workflows,
)
from orders.models.withdrawal import Withdrawal


class Order(*workflows("ORDER_WORKFLOWS"), BaseOrder):  # type: ignore[misc]
    """The order of this shop: the workflows of ORDER_WORKFLOWS on top of BaseOrder."""

    objects = OrderQuerySet.as_manager()
    pipeline: ClassVar[dict[str, tuple[str, ...]]]

    def load_facts(self) -> Facts:
        return Facts.of(self)

    # Said explicitly: otherwise the first workflow's Meta would win, and the migration would change with the setting.
    class Meta(BaseOrder.Meta):
        abstract = False


take_places(Order)
Order.pipeline = Order.pipeline_of_workflows()
OrderLine.pipeline = Order.pipeline  # type: ignore[attr-defined]

__all__ = [
    "STATUS_CODES",
    "Absence",
    "AddressChange",
    "Approval",
    "ApprovalLevel",
    "ApprovalPolicy",
    "BaseOrder",
    "BulkItem",
    "BulkRun",
    "CancelRule",
    "Cancellation",
    "CancellationFigure",
    "CancellationReason",
    "CancellationRequest",
    "CaptureMode",
    "CommunicationEvent",
    "Condition",
    "Disposition",
    "Document",
    "DocumentFile",
    "DocumentKind",
    "DocumentSeries",
    "ExternalCall",
    "ExternalNotice",
    "Facts",
    "FigureCursor",
    "GivesBack",
    "Hold",
    "Inspection",
    "InvalidLineStatus",
    "InvalidOrderStatus",
    "InvalidStatus",
    "JournalEntry",
    "Order",
    "OrderAddress",
    "OrderDiscount",
    "OrderLine",
    "OrderNotFound",
    "OrderNote",
    "OrderQuerySet",
    "OrderStatusChange",
    "PaymentEvent",
    "PaymentEventQuantity",
    "PaymentEventType",
    "RecurringChange",
    "RecurringItem",
    "RecurringNotFound",
    "RecurringOrder",
    "RefundKind",
    "RefundRequest",
    "RequestPicture",
    "Return",
    "ReturnCarrier",
    "ReturnPolicy",
    "ShippingEvent",
    "ShippingEventQuantity",
    "ShippingEventType",
    "Status",
    "Withdrawal",
    "as_json",
    "in_stages",
    "new_return_code",
    "own_statuses",
    "rules_of",
    "status_code",
    "status_label",
]
