"""Signals for the shop's own code to listen to, sent after commit. The desk itself listens to none of them."""

from django.dispatch import Signal

# order, actor
order_placed = Signal()
# order, old_status, new_status, actor: once per hop
order_status_changed = Signal()
# order, event, actor
shipping_event_created = Signal()
payment_event_created = Signal()
