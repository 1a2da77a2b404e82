"""A worker killed while an order that was partly paid with points is cancelled: they come back exactly once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from django.utils import timezone

from orders.processing import PaymentChoice, get_event_handler
from payments import services
from payments.models import CreditAccount, CreditEntry, DemoGatewayEntry
from payments.services.credit_gateways import CreditGateway
from shop import jobs
from shop.actors import Actor
from tests import factories
from tests.examples import mainly
from tests.faults.test_killed_worker import after, assert_all_done, before, killed_worker, next_worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.kill]

# operation: how far the order has come, and the entry that it leaves
OPERATIONS = {
    "authorize": ("", "held"),
    "capture": ("preparing", "spent"),
    "void": ("approved", "released"),
    "refund": ("paid", "restored"),
}
POINTS = {
    "before the ledger": (CreditGateway, None, before),
    "after the ledger": (CreditGateway, None, after),
    "before the commit": (services, "record_outcome", after),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("operation", mainly("refund", OPERATIONS))
def test_points_move_once(operation: str, point: str, books: Callable[[], list[str]]) -> None:
    customer = factories.UserFactory()
    account = services.credit.grant(
        owner_id=customer.pk,
        currency="EUR",
        kind=CreditAccount.Kind.LOYALTY,
        amount=Decimal(50),
        key="gift",
        actor_name="Mira",
        as_of=timezone.now(),
    ).account
    until, kind = OPERATIONS[operation]
    points = PaymentChoice(gateway="loyalty", amount=Decimal(10), details={"credit_account": account.pk})
    order = factories.place_order(
        [("10.00", 3)],
        customer=customer,
        payments=[points, PaymentChoice(gateway="demo")],
        pay=operation != "authorize",
        until=until,
    )
    system = get_event_handler(Actor.system())
    if operation == "capture":
        system.take_payment(number=order.number)
    elif operation != "authorize":
        jobs.drain(seconds=30)
        system.cancel(number=order.number)
    owner, name, when = POINTS[point]
    killed_worker("payments.send", owner, name or operation, when)
    next_worker()
    assert_all_done()
    entry = CreditEntry.objects.get(kind=kind)
    assert (entry.amount or entry.held_amount).copy_abs() == 10
    assert DemoGatewayEntry.objects.filter(operation=operation).count() == 1
    account.refresh_from_db()
    assert (account.balance, account.held) == {"capture": (40, 0), "authorize": (50, 10)}.get(operation, (50, 0))
    assert books() == []
