"""Addresses of orders: the storefront's, in the words of its contract."""

from django.urls import path

from orders.api.account import CsrfView, CurrentUserView, LoginView, LogoutView
from orders.api.cancelling import CancelView
from orders.api.completed import CompletedView
from orders.api.own_orders import OrderListView, OrderView, ReasonsView, TrackingView

app_name = "orders"

urlpatterns = [
    path("csrf_token/", CsrfView.as_view(), name="csrf-token"),
    path("current_user/", CurrentUserView.as_view(), name="current-user"),
    path("users/login/", LoginView.as_view(), name="login"),
    path("users/logout/", LogoutView.as_view(), name="logout"),
    # The storefront's client leaves the slash away here, and a redirect would lose its POST.
    path("users/logout", LogoutView.as_view(schema=None), name="logout-without-slash"),
    path("users/orders/", OrderListView.as_view(), name="list"),
    path("users/orders/cancellation_reasons/", ReasonsView.as_view(), name="reasons"),
    path("users/orders/anonymous/", TrackingView.as_view(), name="tracking"),
    path("users/orders/<str:pk>/", OrderView.as_view(), name="detail"),
    path("orders/completed/<str:signed>/", CompletedView.as_view(), name="completed"),
    # orders/address_change/ is checkout's: it reads the address book.
    path("orders/<str:number>/cancel/", CancelView.as_view(), name="cancel"),
]
