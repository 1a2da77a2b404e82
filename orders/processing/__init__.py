"""Processing: the EventHandler, where every decision about an order is made (setting ORDER_EVENT_HANDLER).

handler = get_event_handler(Actor.staff(user))
handler.ship(number="100000042", lines={7: 2}, tracking_number="1Z…")
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.utils.module_loading import import_string

from inventory.services import InvalidStockAdjustment
from orders.models import InvalidLineStatus, InvalidOrderStatus, InvalidStatus
from orders.processing.bulk import Bulk
from orders.processing.contract import OscarContract
from orders.processing.decision import Decision, OrderChanged
from orders.processing.declaring import Declaring
from orders.processing.noticing import Noticing
from orders.processing.placement import Discount, Item, PaymentChoice, Placement, PlacementRefused, pay_now
from orders.processing.receiving import Receiving
from orders.processing.recurring import Recurring
from orders.processing.refunding import Refunding
from orders.processing.requesting_many import RequestingMany
from orders.rules import InvalidPaymentEvent, InvalidShippingEvent
from shop.actors import Actor


class EventHandler(Noticing, Refunding, Bulk, Recurring, RequestingMany, Receiving, Declaring, OscarContract):
    """Handles every request about orders: who asks, one transaction, one lock, one journal entry.

    Its verbs are in placement, recurring, fulfilment, money, refunding, cancelling, batch, bulk and deskwork; Oscar's
    methods in contract.
    Override what your shop does differently and name your class in ORDER_EVENT_HANDLER.
    """


def get_event_handler(actor: Actor, *, as_of: datetime | None = None) -> EventHandler:
    """This will make the shop's handler for an actor; as_of is the time at the door (default: now)."""
    handler: type[EventHandler] = import_string(settings.ORDER_EVENT_HANDLER)
    return handler(actor=actor, as_of=as_of)


__all__ = [
    "Decision",
    "Discount",
    "EventHandler",
    "InvalidLineStatus",
    "InvalidOrderStatus",
    "InvalidPaymentEvent",
    "InvalidShippingEvent",
    "InvalidStatus",
    "InvalidStockAdjustment",
    "Item",
    "OrderChanged",
    "PaymentChoice",
    "Placement",
    "PlacementRefused",
    "get_event_handler",
    "pay_now",
]
