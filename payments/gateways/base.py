"""What the desk asks of a gateway, what gateways answer and tell by themselves, and which the shop has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal, Protocol, TypeGuard

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy

from shop.errors import Invalid, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRequest:
    """What is asked of a gateway.

    key                 idempotency key: the same key is the same movement, however often it arrives
    payment_reference   the gateway's own reference of the authorisation; empty when authorising
    merchant_reference  ours: the order's number
    requested_at        when the desk decided it: the same however often it is sent
    details             of the payment, such as the token that stands for a card; never card data
    """

    key: str
    amount: Decimal
    currency: str
    payment_reference: str = ""
    merchant_reference: str = ""
    requested_at: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayResult:
    """What a gateway answered.

    succeeded     done
    declined      not done, and under this key never will be; `message` says why, in words fit for staff
    pending       it works on it; ask again with `lookup`
    needs_person  a person must do it; `message` says what

    next_action   while pending: what the customer has to do, for the storefront; see PurchaseOut.next_action
    """

    status: Literal["succeeded", "declined", "pending", "needs_person"]
    reference: str = ""
    code: str = ""
    message: str = ""
    next_action: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a gateway may have got under a key: for gateways that cannot find a movement by its key alone.

    operation    authorize, capture, void or refund
    reference    the gateway's own reference of the movement, where it has told one
    first, last  when it was sent for the first and for the last time, by our clock
    """

    operation: str
    request: GatewayRequest
    reference: str = ""
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRecord:
    """One movement, or one dispute, as it stands in a gateway's own books right now.

    kind                authorize, capture, void, refund or dispute
    reference           the gateway's own of this movement
    key                 ours, where the gateway kept it; empty for what was not asked by the desk
    payment_reference   the gateway's own of the authorisation that it belongs to
    merchant_reference  ours: the order's number, where the gateway kept it
    status              of movements: succeeded, pending, declined
                        of disputes: needs_response, under_review, won, lost
    created_at          when it was made there, or asked for here, where the gateway does not say
    message             of movements: why it was declined
    in_all              of captures without a key: what has been captured of the authorisation altogether, if known

    Without a key, a capture is all that was captured under its reference so far, and a void all that was let go of its
    authorisation so far: of what the desk did not ask for, gateways often know only the sum.
    reason, respond_by  of disputes: what the customer's bank says, and until when it can be answered
    appeal              of disputes: the answer would be an appeal, after a decision against the shop
    """

    kind: str
    reference: str
    key: str = ""
    payment_reference: str
    amount: Decimal
    currency: str
    status: str
    created_at: datetime
    merchant_reference: str = ""
    message: str = ""
    in_all: Decimal | None = None
    reason: str = ""
    respond_by: datetime | None = None
    appeal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayNotice:
    """Something that a gateway told by a webhook, verified. What it says of money is not believed: it is looked up.

    event_id  the gateway's own; the same id is the same notice
    kind      as the gateway calls it
    body      what is kept of it: no secrets
    """

    event_id: str
    kind: str
    body: Mapping[str, Any]


class BadSignature(Invalid):
    code = "bad_signature"
    message = gettext_lazy("The signature is missing, wrong or too old.")


class KeyReusedAtGateway(Refused):
    code = "gateway_key_reused"
    message = gettext_lazy("The gateway has seen this key with another operation, amount or payment.")


class GatewayTimeout(Exception):
    """No answer: it may have been done or not. Raise it for anything that is not certain."""


class GatewayUnavailable(Exception):
    """Certainly not done: the connection was refused, or the gateway said "later"."""


class Gateway(Protocol):
    """What an adapter must do. It is called outside transactions and locks, and must answer or give up in 20 seconds.

    Whatever it sends must carry `request.key`. Where a gateway cannot look a key up, `lookup` raises Refused with what
    a person should check there; answering None for "I do not know" would send money twice.

    `lookup` gets the key, and with `sent` all that is known of the request: many gateways find a movement only with it.

    takes_money_online  it is asked over the network; if not, staff record receipts
    is_credit           optional: it spends and restores what the shop owes the customer, not money
    label               optional: its name in words, as the place that a refund goes to
    """

    takes_money_online: ClassVar[bool]

    def authorize(self, request: GatewayRequest) -> GatewayResult: ...
    def capture(self, request: GatewayRequest) -> GatewayResult: ...
    def void(self, request: GatewayRequest) -> GatewayResult: ...
    def refund(self, request: GatewayRequest) -> GatewayResult: ...
    def lookup(self, *, key: str, sent: Sent | None = None) -> GatewayResult | None: ...


class ListingGateway(Gateway, Protocol):
    """A gateway whose books can be compared with ours. One without `list_since` works, and is not reconciled.

    account  optional, a method: the id of the account whose books these are, empty where the gateway does not say.
             Another one than last time is not compared. Raises GatewayTimeout, GatewayUnavailable.
    """

    def list_since(self, since: datetime) -> Iterable[GatewayRecord]:
        """All movements and disputes since then, each as it stands now; also older ones where it cannot say when.

        Raises GatewayTimeout, GatewayUnavailable.
        """
        ...


class NotifyingGateway(Gateway, Protocol):
    """A gateway that tells by webhooks (docs/gateways.md). One without them is asked again by the worker."""

    def verify_webhook(self, headers: Mapping[str, str], body: bytes) -> list[GatewayNotice]:
        """Verify the signature, in constant time and not older than minutes. Raises BadSignature."""
        ...

    def look_at(self, notice: GatewayNotice) -> list[GatewayRecord] | None:
        """Ask the gateway how that stands now which a notice is about. None: not a kind of notice that matters.

        Raises GatewayTimeout, GatewayUnavailable.
        """
        ...


class ShowingGateway(Gateway, Protocol):
    """A gateway that can show how one authorisation stands. Without it, a void that finds money captured there waits
    for a person."""

    def records_of(self, payment_reference: str) -> list[GatewayRecord]:
        """The authorisation, and all that was captured of it and let go, as it stands now.

        Raises GatewayTimeout, GatewayUnavailable.
        """
        ...


def is_showing(gateway: Gateway) -> TypeGuard[ShowingGateway]:
    """This will say whether a gateway can show how one authorisation stands."""
    return callable(getattr(gateway, "records_of", None))


def is_listing(gateway: Gateway) -> TypeGuard[ListingGateway]:
    """This will say whether a gateway's books can be listed."""
    return callable(getattr(gateway, "list_since", None))


def account_of(gateway: Gateway) -> str:
    """This will ask a gateway whose books it has; empty where it does not say."""
    ask: Callable[[], str] | None = getattr(gateway, "account", None)
    return ask()[:100] if ask is not None else ""


def is_notifying(gateway: Gateway) -> TypeGuard[NotifyingGateway]:
    """This will say whether a gateway tells by webhooks."""
    return all(callable(getattr(gateway, name, None)) for name in ("verify_webhook", "look_at"))


METHODS = ("authorize", "capture", "void", "refund", "lookup")


class UnknownGateway(Refused):
    code = "gateway_unknown"
    message = gettext_lazy("There is no payment gateway “%(code)s”. There are: %(codes)s (setting PAYMENT_GATEWAYS).")


def get_gateway(code: str) -> Gateway:
    """This will make the gateway that the setting PAYMENT_GATEWAYS names. Raises UnknownGateway."""
    path = settings.PAYMENT_GATEWAYS.get(code)
    if path is None:
        raise UnknownGateway(params={"code": code, "codes": ", ".join(sorted(settings.PAYMENT_GATEWAYS)) or "–"})
    gateway: Gateway = import_string(path)()
    return gateway


def is_credit(code: str) -> bool:
    """This will say whether a gateway spends store credit or loyalty points; one that is gone does not."""
    return code in settings.PAYMENT_GATEWAYS and bool(getattr(get_gateway(code), "is_credit", False))


def gateway_label(code: str) -> str:
    """This will name a gateway in words, such as “Loyalty points”; by its code where it has no label or is gone."""
    try:
        return str(getattr(get_gateway(code), "label", "") or code)
    except UnknownGateway:
        return code
