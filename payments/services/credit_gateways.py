"""The gateways that spend store credit and loyalty points.

They are asked by the worker as any other, intent first; the ledger that they move is our own, so nothing goes over the
network. They stand here and not in payments.gateways because they do what services do. The payment's details name the
account: {"credit_account": pk}, put there by the checkout and by nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from payments.gateways import GatewayRequest, GatewayResult
from payments.models import CreditAccount, CreditEntry
from payments.services import credit
from shop.errors import Words

ACCOUNT = "credit_account"


class CreditGateway:
    """Authorise is hold, capture is spend, void is release, refund is restore; each once per key."""

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

    def lookup(self, *, key: str) -> GatewayResult | None:
        entry = CreditEntry.objects.filter(key=key).first()
        return _result(entry) if entry else None

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
