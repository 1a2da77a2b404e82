"""What is stored before there is an order. Split by noun; import from here."""

from checkout.models.addresses import Address
from checkout.models.carts import Cart, CartItem
from checkout.models.methods import Discount, PaymentMethod, ShippingMethod

__all__ = ["Address", "Cart", "CartItem", "Discount", "PaymentMethod", "ShippingMethod"]
