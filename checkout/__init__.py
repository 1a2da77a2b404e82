"""Checkout: cart, address book, shipping and payment methods, and the purchase that makes an order of a cart."""
