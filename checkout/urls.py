"""Addresses of checkout."""

from django.urls import URLPattern, path

from checkout.api.addresses import BookCreateView, BookEntryView, BookListView, OrderAddressChangeView
from checkout.api.carts import CartView, ItemsView, ItemView, PaymentMethodsView, ProductsView, ShippingMethodsView
from checkout.api.credit import CreditView
from checkout.api.purchase import PayView, PurchaseView, ReorderView

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
    path("orders/address_change/", OrderAddressChangeView.as_view(), name="order-address-change"),
    path("address/detailed/", BookListView.as_view(), name="addresses"),
    path("address/", BookCreateView.as_view(), name="address-create"),
    path("address/<int:address_id>/", BookEntryView.as_view(), name="address"),
]
