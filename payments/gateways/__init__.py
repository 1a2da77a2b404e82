"""Gateways: what the desk asks of one, the demo gateway, one that is a person with a bank statement, and Stripe.

Stripe's is `payments.gateways.stripe.StripeGateway`; it is not imported here, because its library is an extra.
"""

from payments.gateways.base import (
    METHODS,
    BadSignature,
    Gateway,
    GatewayNotice,
    GatewayRecord,
    GatewayRequest,
    GatewayResult,
    GatewayTimeout,
    GatewayUnavailable,
    KeyReusedAtGateway,
    ListingGateway,
    NotifyingGateway,
    Sent,
    ShowingGateway,
    UnknownGateway,
    account_of,
    gateway_label,
    get_gateway,
    is_credit,
    is_listing,
    is_notifying,
    is_showing,
)
from payments.gateways.checks import check_gateways, check_no_demo_gateway, check_stripe
from payments.gateways.demo import DemoGateway
from payments.gateways.manual import ManualGateway

__all__ = [
    "METHODS",
    "BadSignature",
    "DemoGateway",
    "Gateway",
    "GatewayNotice",
    "GatewayRecord",
    "GatewayRequest",
    "GatewayResult",
    "GatewayTimeout",
    "GatewayUnavailable",
    "KeyReusedAtGateway",
    "ListingGateway",
    "ManualGateway",
    "NotifyingGateway",
    "Sent",
    "ShowingGateway",
    "UnknownGateway",
    "account_of",
    "check_gateways",
    "check_no_demo_gateway",
    "check_stripe",
    "gateway_label",
    "get_gateway",
    "is_credit",
    "is_listing",
    "is_notifying",
    "is_showing",
]
