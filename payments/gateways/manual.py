"""The gateway that is a person with a bank statement: bank transfer in advance, cash on delivery."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments.gateways.base import GatewayRecord, GatewayRequest, GatewayResult, Sent
from shop.errors import Words
from shop.money import shown


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

    def give(self, request: GatewayRequest) -> GatewayResult:
        """A refund of money that was taken elsewhere. The bank account stands at the refund, and in no message."""
        told = _(
            "Transfer %(amount)s for %(reference)s to the customer's bank account, which you find under Payments › "
            "Refunds. Then mark this as done by hand, with the bank's reference as proof."
        )
        amount = shown(request.amount, request.currency)
        return GatewayResult(
            status="needs_person", message=told % {"amount": amount, "reference": request.merchant_reference}
        )

    def lookup(self, *, key: str, sent: Sent | None = None) -> GatewayResult | None:
        return None

    def list_since(self, since: datetime) -> Iterable[GatewayRecord]:
        """Nobody outside keeps a list of it: the bank statement is checked by the person who records receipts."""
        return ()
