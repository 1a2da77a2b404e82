"""Addresses of payments: where gateways tell what happened at their side."""

from django.urls import path

from payments.views import receive_webhook

urlpatterns = [path("webhooks/<slug:gateway>/", receive_webhook, name="payment-webhook")]
