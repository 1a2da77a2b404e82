"""The demo gateway: keeps its own books, knows its keys and its limits, and misbehaves on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar, TypeVar

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments.gateways.base import (
    METHODS,
    GatewayRecord,
    GatewayRequest,
    GatewayResult,
    GatewayTimeout,
    GatewayUnavailable,
    KeyReusedAtGateway,
    Sent,
)
from payments.models import DemoGatewayEntry, DemoGatewayFault
from shop.errors import Words
from shop.money import shown

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

    def lookup(self, *, key: str, sent: Sent | None = None) -> GatewayResult | None:
        def read() -> DemoGatewayEntry | None:
            return DemoGatewayEntry.objects.filter(key=key).first()

        entry = self._over_the_network(_take_fault("lookup"), read)
        return _result(entry) if entry else None

    def list_since(self, since: datetime) -> Iterable[GatewayRecord]:
        entries = DemoGatewayEntry.objects.filter(created_at__gte=since).order_by("pk")
        keys = {entry.payment_key for entry in entries}
        opened = DemoGatewayEntry.objects.filter(operation="authorize", key__in=keys)
        payment_references = dict(opened.values_list("key", "reference"))
        for entry in entries:
            yield GatewayRecord(
                kind=entry.operation,
                reference=entry.reference,
                key=entry.key,
                payment_reference=payment_references.get(entry.payment_key, ""),
                amount=entry.amount,
                currency=entry.currency,
                status=entry.status_now,
                created_at=entry.created_at,
                merchant_reference=entry.merchant_reference,
            )

    def records_of(self, payment_reference: str) -> list[GatewayRecord]:
        opened = DemoGatewayEntry.objects.filter(operation="authorize", reference=payment_reference).first()
        rows = self.list_since(opened.created_at) if opened else ()
        return [record for record in rows if record.payment_reference == payment_reference]

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
                merchant_reference=request.merchant_reference,
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
