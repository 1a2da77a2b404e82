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
from orders.models.status import STATUS_CODES, Status, status_label, workflows


class Order(*workflows("ORDER_WORKFLOWS"), BaseOrder):  # type: ignore[misc]
    """The order of this shop: the workflows of ORDER_WORKFLOWS on top of BaseOrder."""

    objects = OrderQuerySet.as_manager()
    pipeline: ClassVar[dict[str, tuple[str, ...]]]

    def load_facts(self) -> Facts:
        return Facts.of(self)

    # Said explicitly: otherwise the first workflow's Meta would win, and the migration would change with the setting.
    class Meta(BaseOrder.Meta):
        abstract = False


Order.pipeline = Order.pipeline_of_workflows()
OrderLine.pipeline = Order.pipeline  # type: ignore[attr-defined]

__all__ = [
    "STATUS_CODES",
    "Absence",
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
    "Disposition",
    "Document",
    "DocumentFile",
    "DocumentKind",
    "DocumentSeries",
    "Facts",
    "FigureCursor",
    "Hold",
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
    "ShippingEvent",
    "ShippingEventQuantity",
    "ShippingEventType",
    "Status",
    "as_json",
    "status_label",
]
