"""Addresses of checkout."""

from django.urls import URLPattern, path

from checkout.api.addresses import BookCreateView, BookEntryView, BookListView, own_address
from checkout.api.carts import CartView, ItemsView, ItemView, PaymentMethodsView, ProductsView, ShippingMethodsView
from checkout.api.credit import CreditView
from checkout.api.purchase import PayView, PurchaseView, ReorderView
from checkout.views import (
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
from orders.api.addresses import AddressChangeView
from orders.api.asking import BulkRequestsView
from orders.api.cancelling import CancelView

urlpatterns: list[URLPattern] = [
    path("api/v1/products/", ProductsView.as_view(), name="products"),
    path("api/v1/shipping_methods/", ShippingMethodsView.as_view(), name="shipping-methods"),
    path("api/v1/payment_methods/", PaymentMethodsView.as_view(), name="payment-methods"),
    path("api/v1/cart/", CartView.as_view(), name="cart"),
    path("api/v1/cart/items/", ItemsView.as_view(), name="cart-items"),
    path("api/v1/cart/items/<int:item_id>/", ItemView.as_view(), name="cart-item"),
    path("api/v1/purchase/", PurchaseView.as_view(), name="purchase"),
    path("api/v1/account/credit/", CreditView.as_view(), name="account-credit"),
    path("api/v1/orders/<str:number>/pay/", PayView.as_view(), name="order-pay"),
    path("api/v1/orders/<str:number>/reorder/", ReorderView.as_view(), name="order-reorder"),
    path("orders/<str:number>/cancel/", CancelView.as_view(find_address=own_address), name="order-cancel"),
    path(
        "users/orders/bulk_cancellation_requests/",
        BulkRequestsView.as_view(find_address=own_address),
        name="bulk-requests",
    ),
    path("orders/address_change/", AddressChangeView.as_view(find_address=own_address), name="order-address-change"),
    path("address/detailed/", BookListView.as_view(), name="addresses"),
    path("address/", BookCreateView.as_view(), name="address-create"),
    path("address/<int:address_id>/", BookEntryView.as_view(), name="address"),
    # The storefront's pages; their actions are sent to the doors above and to those of orders.
    path("shop/", CataloguePage.as_view(), name="shop"),
    path("shop/products/<path:sku>/", ProductPage.as_view(), name="shop-product"),
    path("shop/cart/", CartPage.as_view(), name="shop-cart"),
    path("shop/checkout/", CheckoutPage.as_view(), name="shop-checkout"),
    path("shop/orders/", OrdersPage.as_view(), name="shop-orders"),
    path("shop/orders/<str:number>/", OrderPage.as_view(), name="shop-order"),
    path("shop/login/", LoginPage.as_view(), name="shop-login"),
    path("shop/logout/", LogoutPage.as_view(), name="shop-logout"),
    path("shop/track/", TrackPage.as_view(), name="shop-track"),
    path("shop/addresses/", AddressesPage.as_view(), name="shop-addresses"),
    path("shop/withdraw/", WithdrawPage.as_view(), name="shop-withdraw"),
    path("shop/withdraw/received/<str:signed>/", WithdrawPage.as_view(), name="shop-withdrawn"),
]
