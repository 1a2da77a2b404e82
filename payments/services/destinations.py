"""Where a refund may go instead of back the way it came: store credit, points, a bank account; what each asks for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from django.conf import settings
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from payments import rules
from payments.gateways import gateway_label, get_gateway, is_credit
from payments.rules import Destination, masked_iban
from payments.services.credit import points
from shop.errors import Invalid, Refused

LOYALTY = "loyalty"


class DestinationNotOffered(Invalid):
    code = "destination_not_offered"
    message = _("Refunds cannot go to “%(code)s”. There are: %(codes)s.")


class NoAccount(Refused):
    code = "no_customer_account"
    message = _("This order has no customer account, so there is nothing to credit: a guest gets the money back.")


class ConsentMissing(Invalid):
    code = "consent_missing"
    message = _("Credit instead of money needs the customer's consent: say who agreed, how and when.")


class HolderMissing(Invalid):
    code = "account_holder_missing"
    message = _("Say whose bank account it is.")


def refund_destinations() -> list[str]:
    """This will list the gateways that a refund may go to, whatever it was paid with (setting REFUND_DESTINATIONS)."""
    return [code for code in settings.REFUND_DESTINATIONS if code in settings.PAYMENT_GATEWAYS and _gives(code)]


def _gives(code: str) -> bool:
    return callable(getattr(get_gateway(code), "give", None))


def require_offered(destination: Destination, *, owner_id: int | None) -> None:
    """This will refuse a destination that there is not, for anybody or for this customer.

    owner_id  whose account credit would go to. Raises DestinationNotOffered, NoAccount.
    """
    if not destination:
        return
    offered = refund_destinations()
    if destination.gateway not in offered:
        params = {"code": destination.gateway, "codes": ", ".join(offered) or "–"}
        raise DestinationNotOffered(params=params, field="destination")
    if is_credit(destination.gateway) and owner_id is None:
        raise NoAccount(field="destination", remedy=_now("Refund it the way it was paid, or by bank transfer."))


def completed(destination: Destination, *, owner_id: int | None) -> Destination:
    """This will check that everything is said that a destination needs, and tidy it; what it does not need is left out.

    Raises DestinationNotOffered, NoAccount, ConsentMissing, IbanInvalid, HolderMissing.
    """
    require_offered(destination, owner_id=owner_id)
    if not destination:
        return Destination()
    if is_credit(destination.gateway):
        if not destination.consent.strip():
            raise ConsentMissing(field="consent")
        return replace(destination, consent=destination.consent.strip(), iban="", holder="")
    if not asks_for_bank(destination.gateway):
        return replace(destination, iban="", holder="")
    holder = " ".join(destination.holder.split())
    if not holder:
        raise HolderMissing(field="holder")
    return replace(destination, iban=rules.valid_iban(destination.iban), holder=holder[:100])


def asks_for_bank(code: str) -> bool:
    """This will say whether a person transfers what goes there, and has to know the account."""
    return code in settings.PAYMENT_GATEWAYS and not get_gateway(code).takes_money_online


def goes_to(payment_gateway: str, destination: str) -> str:
    """This will say which other gateway gives back what a payment took; empty: the payment's own.

    Credit goes back as the credit that it was, whatever the destination: points are never paid out.
    """
    return "" if not destination or is_credit(payment_gateway) else destination


def destination_shown(gateway: str, amount: Decimal, *, iban: str = "") -> str:
    """This will say in words where an amount goes: “25 points”, “Store credit”, “bank account DE•• •••• 3000”.

    iban  of what goes to a bank account; masked already or not
    """
    if gateway == LOYALTY:
        return _now("%(points)s points") % {"points": points(amount)}
    if iban:
        return _now("bank account %(account)s") % {"account": masked_iban(iban)}
    return gateway_label(gateway)
