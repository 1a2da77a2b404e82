"""Refunds at their limits: four eyes, disputes, accounts that are gone, consent, and a refund made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from orders import rules, tasks
from orders.models import (
    ApprovalLevel,
    ApprovalPolicy,
    Cancellation,
    CancellationReason,
    CancellationRequest,
    CancelRule,
    Hold,
    Order,
)
from orders.processing import get_event_handler
from orders.processing.requesting import Terms, Wish
from payments import services
from payments.gateways import GatewayRecord
from payments.models import CreditEntry, DemoGatewayFault, Payment, Refund, Transaction
from payments.services import Destination
from shop import maintenance
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store, User
from tests import factories
from tests.orders.asking import by

Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def kept(order: Order) -> Decimal:
    """What the shop has of the customer's money."""
    return sum((p.captured - p.refund_reserved for p in Payment.objects.filter(reference=order.number)), Decimal(0))


def limit(**fields: Any) -> None:
    level = ApprovalLevel.objects.get(level=1)
    ApprovalPolicy.objects.create(name="limit", what="refund", level=level, **{"currency": "EUR", **fields})


@pytest.fixture
def order(store: Store) -> Order:
    customer = factories.UserFactory()
    placed: Order = factories.place_order([("10.00", 3)], store=store, customer=customer, until="paid")
    return placed


POINTS = Destination(gateway="loyalty", consent="On the telephone")


def test_naming_goods_that_the_customer_keeps_does_not_evade_four_eyes(
    order: Order, manager: User, books: Books
) -> None:
    limit(min_value=Decimal(5))
    line = order.lines.get()
    with pytest.raises(rules.ApprovalNeeded):
        by(manager).handle_payment_event(order, "refunded", Decimal(10), [line], [1])
    with pytest.raises(rules.ApprovalNeeded):
        by(manager).handle_payment_event(order, "refunded", Decimal(10), kind="")
    assert not Refund.objects.exists()
    # What no unit was given for counts towards the day, whatever it was called.
    ApprovalPolicy.objects.update(min_value=None, staff_per_day=1)
    by(manager).handle_payment_event(order, "refunded", Decimal(1), [line], [1], kind="")
    with pytest.raises(rules.ApprovalNeeded):
        by(manager).refund(number=order.number, amount=Decimal(1), note="sorry")
    assert books() == []


def test_disputed_money_is_not_refunded_nor_given_elsewhere(order: Order, manager: User, books: Books) -> None:
    by(manager).place_hold(number=order.number, kind=Hold.Kind.DISPUTE, reason="du_1")
    line = order.lines.get().pk
    with pytest.raises(rules.MoneyDisputed):
        by(manager).refund(number=order.number, amount=Decimal(1), note="sorry")
    with pytest.raises(rules.MoneyDisputed):
        by(manager).cancel(number=order.number, lines={line: 1}, reason="out_of_stock", destination=POINTS)
    assert not Refund.objects.exists()
    assert books() == []


def test_a_customer_whose_account_is_gone_gets_their_money_when_a_cancellation_takes_effect(
    order: Order, manager: User, work: Work, books: Books
) -> None:
    CancelRule.objects.create(undo_minutes=30, direct_statuses=["approved"])
    by(manager).cancel(number=order.number, reason="out_of_stock", destination=POINTS)
    assert order.customer is not None
    order.customer.delete()
    by(manager).complete_now(number=order.number)
    work()
    assert (kept(order), Refund.objects.get().destination) == (0, "")
    assert not CreditEntry.objects.exists()
    assert Cancellation.objects.get().status == "done"
    assert books() == []


def test_only_what_was_asked_for_as_points_during_maintenance_becomes_points(
    store: Store, reason: CancellationReason, work: Work, books: Books
) -> None:
    CancelRule.objects.create(direct_statuses=["approved", "preparing"])
    customer = factories.UserFactory()
    order = factories.place_order([("10.00", 1), ("7.00", 1)], store=store, customer=customer, until="paid")
    maintenance.start(actor=Actor.system())
    for line, terms in zip(order.lines.all(), (Terms(), Terms(as_points=True)), strict=True):
        wish = Wish(line.pk, None, CancellationRequest.Type.CANCEL, reason)
        handler = get_event_handler(Actor.customer(customer))
        handler.cancel_or_request(number=order.number, wishes=[wish], terms=terms)
    maintenance.end(actor=Actor.system())
    tasks.work_off_queue()
    work()
    assert kept(order) == 0
    assert dict(Refund.objects.values_list("amount", "destination")) == {Decimal(10): "", Decimal(7): "loyalty"}
    assert set(CancellationRequest.objects.values_list("status", flat=True)) == {"completed"}
    assert books() == []


def test_a_refund_that_was_declined_and_made_at_the_gateway_instead_is_given_once(
    order: Order, manager: User, work: Work, books: Books
) -> None:
    line, authorized = order.lines.get().pk, Transaction.objects.get(kind="authorize")
    DemoGatewayFault.objects.create(operation="refund", behaviour="decline", remaining=1)
    by(manager).cancel(number=order.number, lines={line: 1}, reason="out_of_stock")
    work()
    own = Transaction.objects.get(kind="refund")
    assert own.status == "needs_person"
    made_there = GatewayRecord(
        kind="refund",
        reference="re_dashboard",
        payment_reference=authorized.gateway_reference,
        amount=Decimal(10),
        currency="EUR",
        status="succeeded",
        created_at=timezone.now(),
    )
    with pytest.raises(Refused) as no:
        services.take_in(gateway="demo", record=made_there, as_of=timezone.now())
    assert no.value.code == "outside_refund_ambiguous"
    services.close_as_failed(transaction_id=own.pk, note="made in the dashboard", actor_name="Ada")
    services.take_in(gateway="demo", record=made_there, as_of=timezone.now())
    work()
    assert kept(order) == Decimal(20), "and no more of it goes back when the rest is cancelled"
    by(manager).cancel(number=order.number, lines={line: 1}, reason="out_of_stock")
    work()
    assert kept(order) == Decimal(10)
    assert books() == []


def test_consent_to_credit_for_one_cancellation_is_none_for_another_whose_money_comes_late(
    store: Store, manager: User, work: Work, books: Books
) -> None:
    customer = factories.UserFactory()
    order = factories.place_order([("10.00", 1), ("7.00", 1)], store=store, customer=customer, until="approved")
    first, second = order.lines.values_list("pk", flat=True)
    by(manager).take_payment(number=order.number)
    by(manager).cancel(number=order.number, lines={first: 1}, reason="out_of_stock")
    by(manager).cancel(number=order.number, lines={second: 1}, reason="out_of_stock", destination=POINTS)
    work()
    assert (kept(order), Refund.objects.get().destination) == (0, "")
    assert books() == []
