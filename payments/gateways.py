"""Gateways: what the desk asks of one, the demo gateway, and the one that is a person with a bank statement."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments.models import DemoGatewayEntry, DemoGatewayFault
from shop.errors import Refused, Words
from shop.money import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRequest:
    """What is asked of a gateway.

    key                 idempotency key: the same key is the same movement, however often it arrives
    payment_reference   the gateway's own reference of the authorisation; empty when authorising
    merchant_reference  ours: the order's number
    details             of the payment, such as the token that stands for a card; never card data
    """

    key: str
    amount: Decimal
    currency: str
    payment_reference: str = ""
    merchant_reference: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayResult:
    """What a gateway answered.

    succeeded     done
    declined      not done, and under this key never will be; `message` says why, in words fit for staff
    pending       it works on it; ask again with `lookup`
    needs_person  a person must do it; `message` says what
    """

    status: Literal["succeeded", "declined", "pending", "needs_person"]
    reference: str = ""
    code: str = ""
    message: str = ""


class GatewayTimeout(Exception):
    """No answer: it may have been done or not. Raise it for anything that is not certain."""


class GatewayUnavailable(Exception):
    """Certainly not done: the connection was refused, or the gateway said "later"."""


class Gateway(Protocol):
    """What an adapter must do. It is called outside transactions and locks, and must answer or give up in 20 seconds.

    Whatever it sends must carry `request.key`. Where a gateway cannot look a key up, `lookup` raises Refused with what
    a person should check there; answering None for "I do not know" would send money twice.

    takes_money_online  it is asked over the network; if not, staff record receipts
    is_credit           optional: it spends and restores what the shop owes the customer, not money
    label               optional: its name in words, as the place that a refund goes to
    """

    takes_money_online: ClassVar[bool]

    def authorize(self, request: GatewayRequest) -> GatewayResult: ...
    def capture(self, request: GatewayRequest) -> GatewayResult: ...
    def void(self, request: GatewayRequest) -> GatewayResult: ...
    def refund(self, request: GatewayRequest) -> GatewayResult: ...
    def lookup(self, *, key: str) -> GatewayResult | None: ...


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


def check_gateways(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """This will refuse to start where PAYMENT_GATEWAYS names something that is not a gateway."""
    errors: list[CheckMessage] = []
    for code, path in settings.PAYMENT_GATEWAYS.items():
        try:
            found = import_string(path)
        except ImportError as error:
            errors.append(Error(f"PAYMENT_GATEWAYS[{code!r}]: {path} cannot be imported: {error}", id="payments.E001"))
            continue
        missing = [name for name in METHODS if not callable(getattr(found, name, None))]
        if not isinstance(getattr(found, "takes_money_online", None), bool):
            missing.append("takes_money_online")
        if missing:
            errors.append(Error(f"PAYMENT_GATEWAYS[{code!r}]: {path} lacks {', '.join(missing)}.", id="payments.E002"))
    return errors


def check_no_demo_gateway(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """This will warn of a demo gateway on a desk that takes real orders."""
    if settings.DEMO or settings.DEBUG:
        return []
    return [
        Warning(
            f"PAYMENT_GATEWAYS[{code!r}] is the demo gateway: it moves no money.",
            hint="Take it out of PAYMENT_GATEWAYS, or set DEMO=yes.",
            id="payments.W001",
        )
        for code, path in settings.PAYMENT_GATEWAYS.items()
        if path == f"{DemoGateway.__module__}.{DemoGateway.__qualname__}"
    ]


# ---------------------------------------------------------------------------------------------------------------------


class ManualGateway:
    """Money that comes and goes by hand: bank transfer in advance, cash on delivery.

    Nothing is asked of anybody outside: staff say that money arrived (services.record_receipt), and a refund is a
    transfer that a person makes and then marks as done by hand.
    """

    takes_money_online: ClassVar[bool] = False
    label: ClassVar[Words] = gettext_lazy("Transfer or cash")

    def authorize(self, request: GatewayRequest) -> GatewayResult:
        return GatewayResult(status="needs_person", message=_("Record the receipt when the money has arrived."))

    def capture(self, request: GatewayRequest) -> GatewayResult:
        return GatewayResult(status="succeeded", reference=request.payment_reference)

    def void(self, request: GatewayRequest) -> GatewayResult:
        return GatewayResult(status="succeeded", reference=request.payment_reference)

    def refund(self, request: GatewayRequest) -> GatewayResult:
        told = _("Transfer %(amount)s for %(reference)s by hand, then mark this as done by hand.")
        amount = shown(request.amount, request.currency)
        return GatewayResult(
            status="needs_person", message=told % {"amount": amount, "reference": request.merchant_reference}
        )

    def lookup(self, *, key: str) -> GatewayResult | None:
        return None


# ---------------------------------------------------------------------------------------------------------------------


class KeyReusedAtGateway(Refused):
    code = "gateway_key_reused"
    message = gettext_lazy("The gateway has seen this key with another operation, amount or payment.")


Fault = DemoGatewayFault.Behaviour
LONGEST_NAP_SECONDS = 30
T = TypeVar("T")


class DemoGateway:
    """A gateway that keeps its own books, knows its keys and its limits, and misbehaves on demand (DemoGatewayFault).

    It stands for a system outside: it writes in transactions of its own, and being called inside one of ours is an
    error (durable=True raises).
    """

    takes_money_online: ClassVar[bool] = True
    label: ClassVar[Words] = gettext_lazy("Card")

    def authorize(self, request: GatewayRequest) -> GatewayResult:
        return self._answer("authorize", request)

    def capture(self, request: GatewayRequest) -> GatewayResult:
        return self._answer("capture", request)

    def void(self, request: GatewayRequest) -> GatewayResult:
        return self._answer("void", request)

    def refund(self, request: GatewayRequest) -> GatewayResult:
        return self._answer("refund", request)

    def lookup(self, *, key: str) -> GatewayResult | None:
        def read() -> DemoGatewayEntry | None:
            return DemoGatewayEntry.objects.filter(key=key).first()

        entry = self._over_the_network(_take_fault("lookup"), read)
        return _result(entry) if entry else None

    def _answer(self, operation: str, request: GatewayRequest) -> GatewayResult:
        fault = _take_fault(operation)

        def book() -> DemoGatewayEntry:
            entry = _book(operation, request, fault)
            if fault and fault.behaviour == Fault.ANSWER_TWICE:
                entry = _book(operation, request, fault)
            return entry

        return _result(self._over_the_network(fault, book))

    def _over_the_network(self, fault: DemoGatewayFault | None, work: Callable[[], T]) -> T:
        behaviour = fault.behaviour if fault else ""
        if behaviour == Fault.UNAVAILABLE:
            raise GatewayUnavailable(_("The demo gateway refused the connection."))
        if behaviour == Fault.TIMEOUT_BEFORE:
            raise GatewayTimeout(_("The demo gateway did not answer."))
        if fault and behaviour == Fault.SLOW:
            time.sleep(min(fault.seconds, LONGEST_NAP_SECONDS))
        done = work()
        if behaviour == Fault.TIMEOUT_AFTER:
            raise GatewayTimeout(_("The demo gateway did not answer."))
        return done


def _take_fault(operation: str) -> DemoGatewayFault | None:
    """Use up one of the faults that are set for an operation."""
    names = [operation] if operation == "lookup" else [operation, DemoGatewayFault.Operation.ANY]
    with transaction.atomic(durable=True):
        rows = DemoGatewayFault.objects.select_for_update().filter(remaining__gt=0, operation__in=names)
        fault = rows.order_by("pk").first()
        if fault:
            fault.remaining -= 1
            fault.save(update_fields=["remaining"])
        return fault


def _book(operation: str, request: GatewayRequest, fault: DemoGatewayFault | None) -> DemoGatewayEntry:
    """Do what is asked, once per key."""
    with transaction.atomic(durable=True):
        payment_key = request.key
        if operation != "authorize":
            # The authorisation's row is the lock of all that happens to this payment.
            found = DemoGatewayEntry.objects.select_for_update().filter(
                operation="authorize", reference=request.payment_reference
            )
            payment = found.first()
            payment_key = payment.key if payment else ""
        entry = DemoGatewayEntry.objects.filter(key=request.key).first()
        if entry is None:
            wanted = DemoGatewayEntry(
                operation=operation,
                key=request.key,
                payment_key=payment_key,
                amount=request.amount,
                currency=request.currency,
                reference=f"demo-{operation}-{request.key}",
            )
            _decide(wanted, fault)
            fields = {f.name: getattr(wanted, f.name) for f in wanted._meta.fields if f.name not in {"id", "key"}}
            entry, _new = DemoGatewayEntry.objects.get_or_create(key=request.key, defaults=fields)
        same = (entry.operation, entry.payment_key, entry.amount, entry.currency)
        if same != (operation, payment_key, request.amount, request.currency):
            raise KeyReusedAtGateway
        return entry


def _decide(wanted: DemoGatewayEntry, fault: DemoGatewayFault | None) -> None:
    """Fill in the status: by its own books first, then as the fault wants it."""
    behaviour = fault.behaviour if fault else ""
    Status = DemoGatewayEntry.Status
    wanted.status = Status.SUCCEEDED
    room = _room(wanted)
    if room is not None and wanted.amount > room:
        wanted.status = Status.DECLINED
        wanted.message = _("Only %(room)s is left to do this with.") % {"room": shown(room, wanted.currency)}
    elif behaviour == Fault.DECLINE:
        wanted.status, wanted.message = Status.DECLINED, _("The bank declined.")
    elif fault and behaviour in {Fault.FAIL_LATE, Fault.PENDING}:
        wanted.becomes_at = timezone.now() + timedelta(seconds=fault.seconds)
        if behaviour == Fault.FAIL_LATE:
            wanted.becomes, wanted.message = Status.DECLINED, _("The customer's bank sent it back.")
        else:
            wanted.status, wanted.becomes = Status.PENDING, Status.SUCCEEDED


def _room(wanted: DemoGatewayEntry) -> Decimal | None:
    """How much the operation may move by the gateway's own books; None: any amount."""
    if wanted.operation == "authorize":
        return None
    sums = dict.fromkeys(METHODS, Decimal(0))
    if wanted.payment_key:
        for entry in DemoGatewayEntry.objects.filter(payment_key=wanted.payment_key, currency=wanted.currency):
            if entry.status_now != DemoGatewayEntry.Status.DECLINED:
                sums[entry.operation] += entry.amount
    if wanted.operation == "refund":
        return sums["capture"] - sums["refund"]
    return sums["authorize"] - sums["capture"] - sums["void"]


def _result(entry: DemoGatewayEntry) -> GatewayResult:
    status = entry.status_now
    if status == DemoGatewayEntry.Status.DECLINED:
        return GatewayResult(status="declined", reference=entry.reference, code="declined", message=entry.message)
    if status == DemoGatewayEntry.Status.PENDING:
        return GatewayResult(status="pending", reference=entry.reference)
    return GatewayResult(status="succeeded", reference=entry.reference)
