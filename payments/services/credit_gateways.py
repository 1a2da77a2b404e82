"""The gateways that spend store credit and loyalty points.

They are asked by the worker as any other, intent first; the ledger that they move is our own, so nothing goes over the
network. They stand here and not in payments.gateways because they do what services do. The payment's details name the
account: {"credit_account": pk}, put there by the checkout and by nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import ClassVar

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from payments.gateways import GatewayRecord, GatewayRequest, GatewayResult, Sent
from payments.models import CreditAccount, CreditEntry
from payments.services import credit
from shop.errors import Words

ACCOUNT = "credit_account"
# Of a refund that goes here: whose account it is given to, put there by payments.tasks.
OWNER = "credit_owner"
# What an entry of the ledger is among a gateway's movements.
OPERATIONS: dict[str, str] = {
    CreditEntry.Kind.HELD: "authorize",
    CreditEntry.Kind.SPENT: "capture",
    CreditEntry.Kind.RELEASED: "void",
    CreditEntry.Kind.RESTORED: "refund",
}


class CreditGateway:
    """Authorise is hold, capture is spend, void is release, refund is restore, give is grant; each once per key."""

    takes_money_online: ClassVar[bool] = True
    is_credit: ClassVar[bool] = True
    kind: ClassVar[str]
    label: ClassVar[Words]

    def authorize(self, request: GatewayRequest) -> GatewayResult:
        named = request.details.get(ACCOUNT)
        accounts = CreditAccount.objects.filter(kind=self.kind, currency=request.currency)
        account = accounts.filter(pk=named).first() if isinstance(named, int) else None
        if account is None:
            words = _("The payment names no account of this kind and currency.")
            return GatewayResult(status="declined", code="no_account", message=words)
        with transaction.atomic(durable=True):
            entry = credit.hold(
                account_id=account.pk,
                amount=request.amount,
                key=request.key,
                reference=request.merchant_reference,
                as_of=timezone.now(),
            )
        return _result(entry)

    def capture(self, request: GatewayRequest) -> GatewayResult:
        return self._use(credit.spend, request)

    def void(self, request: GatewayRequest) -> GatewayResult:
        return self._use(credit.release, request)

    def refund(self, request: GatewayRequest) -> GatewayResult:
        return self._use(credit.restore, request)

    def give(self, request: GatewayRequest) -> GatewayResult:
        """Credit instead of money that was taken elsewhere: a grant to the customer whom the refund names."""
        owner = request.details.get(OWNER)
        if not isinstance(owner, int):
            words = _("The refund names no customer account.")
            return GatewayResult(status="declined", code="no_account", message=words)
        with transaction.atomic(durable=True):
            entry = credit.grant(
                owner_id=owner,
                currency=request.currency,
                kind=self.kind,
                amount=request.amount,
                key=request.key,
                reference=request.merchant_reference,
                note=_("Refund of order %(number)s") % {"number": request.merchant_reference},
                actor_name="Orderdesk",
                as_of=timezone.now(),
            )
        return _result(entry)

    def lookup(self, *, key: str, sent: Sent | None = None) -> GatewayResult | None:
        entry = CreditEntry.objects.filter(key=key).first()
        return _result(entry) if entry else None

    def list_since(self, since: datetime) -> Iterable[GatewayRecord]:
        """What the ledger moved for orders. What staff granted, took away or let expire belongs to no payment."""
        entries = CreditEntry.objects.filter(account__kind=self.kind, created_at__gte=since, kind__in=OPERATIONS)
        for entry in entries.select_related("account", "hold").order_by("pk"):
            yield GatewayRecord(
                kind=OPERATIONS[entry.kind],
                reference=entry.key,
                key=entry.key,
                payment_reference=entry.hold.key if entry.hold else entry.key,
                amount=abs(entry.amount or entry.held_amount),
                currency=entry.account.currency,
                status="succeeded",
                created_at=entry.created_at,
                merchant_reference=entry.reference,
            )

    def _use(self, do: Callable[..., CreditEntry], request: GatewayRequest) -> GatewayResult:
        try:
            with transaction.atomic(durable=True):
                entry = do(
                    hold_key=request.payment_reference,
                    amount=request.amount,
                    key=request.key,
                    reference=request.merchant_reference,
                    as_of=timezone.now(),
                )
        except credit.NoHold as no:
            return GatewayResult(status="declined", code=no.code, message=str(no))
        return _result(entry)


class StoreCreditGateway(CreditGateway):
    kind = CreditAccount.Kind.STORE_CREDIT
    label = CreditAccount.Kind.STORE_CREDIT.label


class LoyaltyGateway(CreditGateway):
    kind = CreditAccount.Kind.LOYALTY
    label = CreditAccount.Kind.LOYALTY.label


def _result(entry: CreditEntry) -> GatewayResult:
    if entry.kind == CreditEntry.Kind.REFUSED:
        return GatewayResult(status="declined", reference=entry.key, code="not_enough_credit", message=entry.note)
    return GatewayResult(status="succeeded", reference=entry.key)
