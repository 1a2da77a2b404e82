"""Addresses of orders: the storefront's, in the words of its contract."""

from django.urls import path

from orders.api.account import CsrfView, CurrentUserView, LoginView, LogoutView
from orders.api.bulk import BulkRunView, BulkUpdateView
from orders.api.completed import CompletedView
from orders.api.deciding import (
    ActionsView,
    ApprovalsView,
    ApproveView,
    CancelOrderView,
    CancelPlanView,
    ReinstateView,
    RejectView,
    UndoView,
)
from orders.api.labels import LabelView
from orders.api.management import NoticeView
from orders.api.own_orders import LastOrderView, OrderListView, OrderView, ReasonsView, TrackingView
from orders.api.pictures import PictureView
from orders.api.reading import OneOrderView, OrdersView
from orders.api.recurring import EndRecurringView, RecurringListView
from orders.api.returns import InspectView, ReceiveView, ReturnView
from orders.api.staff import (
    ApprovalRequestView,
    CustomerMessageView,
    InventoryReturnView,
    RefundView,
    StatusView,
)
from orders.api.withdrawing import ConfirmView, WithdrawView

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
    path("users/orders/pictures/<uuid:uuid>/", PictureView.as_view(), name="picture"),
    path("users/orders/last/", LastOrderView.as_view(), name="last"),
    path("users/orders/<str:pk>/", OrderView.as_view(), name="detail"),
    path("orders/returns/label/<str:signed>/", LabelView.as_view(), name="return-label"),
    path("orders/completed/<str:signed>/", CompletedView.as_view(), name="completed"),
    path("api/v1/recurring-orders/", RecurringListView.as_view(), name="recurring"),
    path("api/v1/recurring-orders/<uuid:uuid>/end/", EndRecurringView.as_view(), name="end-recurring"),
    path("orders/management/webhook/", NoticeView.as_view(), name="management-webhook"),
    # orders/address_change/, orders/…/cancel/ and the bulk requests are checkout's: they read the address book.
    path("orders/<str:number>/actions/", ActionsView.as_view(), name="actions"),
    path("orders/<str:number>/cancel/plan/", CancelPlanView.as_view(), name="cancel-plan"),
    path("api/v1/orders/<str:number>/cancel/", CancelOrderView.as_view(), name="cancel-by-staff"),
    path("api/v1/orders/<str:number>/undo/", UndoView.as_view(), name="undo"),
    path("api/v1/orders/<str:number>/reinstate/", ReinstateView.as_view(), name="reinstate"),
    path("api/v1/withdrawals/", WithdrawView.as_view(), name="withdraw"),
    path("api/v1/withdrawals/confirm/", ConfirmView.as_view(), name="confirm-withdrawal"),
    path("api/v1/approvals/", ApprovalsView.as_view(), name="approvals"),
    path("api/v1/approvals/<uuid:uuid>/approve/", ApproveView.as_view(), name="approve-cancellation"),
    path("api/v1/approvals/<uuid:uuid>/reject/", RejectView.as_view(), name="reject-cancellation"),
    path("api/v1/returns/<str:code>/", ReturnView.as_view(), name="return"),
    path("api/v1/bulk_runs/<uuid:uuid>/", BulkRunView.as_view(), name="bulk-run"),
]

# Staff's programs leave the slash away, and a redirect would lose what they send; both are right.
for address, view, name in (
    ("api/v1/orders/bulk_update", BulkUpdateView, "bulk-update"),
    ("api/v1/orders/<str:number>/status", StatusView, "status"),
    ("api/v1/orders/<str:number>/refund", RefundView, "refund"),
    ("api/v1/orders/<str:number>/approval_request", ApprovalRequestView, "approval-request"),
    ("api/v1/inventory/return", InventoryReturnView, "inventory-return"),
    ("api/v1/returns/<str:code>/receive", ReceiveView, "receive-return"),
    ("api/v1/returns/<str:code>/inspect", InspectView, "inspect-return"),
    ("api/v1/notifications/customer", CustomerMessageView, "notify-customer"),
):
    urlpatterns += [
        path(address, view.as_view(), name=name),
        path(f"{address}/", view.as_view(schema=None), name=f"{name}-with-slash"),
    ]

# Last: bulk_update/ is no order's number.
urlpatterns += [
    path("api/v1/orders/", OrdersView.as_view(), name="orders"),
    path("api/v1/orders/<str:number>/", OneOrderView.as_view(), name="order"),
]
