"""What Stripe does not know (any more) is neither a yes nor a no, so that nothing is sent twice."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from payments import services
from payments.gateways import GatewayRequest, Sent, get_gateway
from payments.models import Payment, Transaction
from payments.tasks import recheck_refunds
from shop.errors import Refused

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("operation", ["authorize", "capture", "void", "refund"])
def test_what_stripe_does_not_know_any_more_is_no_no(stripe, operation):
    now = timezone.now()
    request = GatewayRequest(key="k", amount=Decimal(5), currency="EUR", payment_reference="pi_of_another_account")
    reference = "pi_of_another_account" if operation == "authorize" else ""
    asked = Sent(operation=operation, request=request, reference=reference, first=now, last=now)
    with pytest.raises(Refused) as no:
        get_gateway("stripe").lookup(key="k", sent=asked)
    assert no.value.code == "stripe_not_in_account"


def test_the_keys_of_another_account_do_not_make_refunds_fail_late(till, stripe):
    payment = till.open(gateway="stripe")
    Payment.objects.update(details={"payment_method": "pm_card_visa"})
    services.request_authorization(payment=payment, cause="place")
    till.work()
    till.capture("100")
    till.work()
    till.refund("40")
    till.work()
    row = Transaction.objects.get(kind="refund")
    Transaction.objects.filter(pk=row.pk).update(settled_at=timezone.now() - timedelta(days=1))
    known, stripe.refunds = stripe.refunds, {}
    recheck_refunds()
    stripe.refunds = known
    row.refresh_from_db()
    assert (row.status, row.round) == ("succeeded", 1), "sent again, it would go out a second time"
