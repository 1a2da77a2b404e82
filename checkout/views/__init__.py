"""The storefront's pages. pages: each of them; shown: an order as they show it."""

from checkout.views.pages import (
    REFUSED,
    AddressesPage,
    CartPage,
    CataloguePage,
    CheckoutPage,
    LoginPage,
    LogoutPage,
    OrderPage,
    OrdersPage,
    ProductPage,
    TrackPage,
    WithdrawPage,
)

__all__ = [
    "REFUSED",
    "AddressesPage",
    "CartPage",
    "CataloguePage",
    "CheckoutPage",
    "LoginPage",
    "LogoutPage",
    "OrderPage",
    "OrdersPage",
    "ProductPage",
    "TrackPage",
    "WithdrawPage",
]
