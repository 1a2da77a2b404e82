"""What the storefront may ask about orders, over REST; the storefront contract is in tests/orders/seed_003.json.

A door translates: serializer → one call → status and body. Who may see which order is `Order.objects.of(actor)`.
"""

from orders.api.addresses import AddressChangeView
from orders.api.completed import completed_token

__all__ = ["AddressChangeView", "completed_token"]
