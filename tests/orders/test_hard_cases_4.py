"""Hard cases of refunds, destinations, approvals and re-pricing: what lost money before it was mended."""

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
from orders.processing import Discount, EventHandler, Item, get_event_handler
from orders.processing.cancelling import Choices
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

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db

SPRING = Discount(name="Spring", amount=Decimal(6), minimum=Decimal(50))


def by(user: User) -> EventHandler:
    return get_event_handler(Actor.staff(user))


def desk() -> EventHandler:
    return get_event_handler(Actor.system())


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def kept(order: Order) -> Decimal:
    """What the shop has of the customer's money."""
    return sum((p.captured - p.refund_reserved for p in Payment.objects.filter(reference=order.number)), Decimal(0))


@pytest.fixture
def deal(store: Store) -> Order:
    """Two kettles of 30 each; “Spring” takes 6 off from 50 on. What stays is priced anew."""
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    items = [
        Item(product=factories.stocked(store, price=Decimal(30)), quantity=1, unit_price=Decimal(30)) for _line in "ab"
    ]
    order: Order = factories.place_order(items, store=store, discounts=[SPRING], until="paid")
    return order


def test_what_was_kept_of_a_discount_is_kept_again_after_the_units_came_back_into_the_order(
    deal: Order, work: Work, books: Books
) -> None:
    first, second = deal.lines.all()
    desk().cancel(number=deal.number, lines={first.pk: 1}, reason="out_of_stock")
    work()
    assert (kept(deal), fresh(deal).repriced_total) == (Decimal(30), Decimal(3))
    desk().reinstate(number=deal.number)
    work()
    assert fresh(deal).facts.outstanding == Decimal(24), "what was kept pays for it now"
    assert fresh(deal).repriced_total == 0
    desk().record_payment(number=deal.number, amount=Decimal(24), surplus=True)
    work()
    assert books() == []
    desk().cancel(number=deal.number, lines={second.pk: 1}, reason="out_of_stock")
    work()
    assert kept(deal) == Decimal(30), "one kettle earns no discount"
    assert books() == []


def test_what_was_kept_of_a_discount_goes_back_when_the_last_goods_come_back(
    deal: Order, work: Work, books: Books
) -> None:
    first, second = deal.lines.all()
    desk().cancel(number=deal.number, lines={first.pk: 1}, reason="out_of_stock")
    work()
    desk().ship(number=deal.number)
    desk().deliver(number=deal.number)
    desk().take_back(number=deal.number, lines={second.pk: (1, "sellable")})
    work()
    assert kept(deal) == 0
    assert fresh(deal).repriced_total == 0
    assert books() == []


def test_a_goodwill_refund_does_not_make_a_reinstated_unit_dearer(deal: Order, work: Work, books: Books) -> None:
    first, _second = deal.lines.all()
    desk().cancel(number=deal.number, lines={first.pk: 1}, reason="out_of_stock")
    desk().refund(number=deal.number, amount=Decimal(5), note="sorry")
    work()
    desk().reinstate(number=deal.number)
    assert fresh(deal).facts.outstanding == Decimal(24)
    assert books() == []


def test_a_customer_who_goes_on_cancelling_while_the_desk_could_undo_is_shown_what_will_happen(
    store: Store, staff: Staff, work: Work, books: Books
) -> None:
    CancelRule.objects.create(reprices=True, direct_statuses=["approved", "preparing"], undo_minutes=30)
    customer = factories.UserFactory()
    items = [
        Item(product=factories.stocked(store, price=Decimal(30)), quantity=1, unit_price=Decimal(30)) for _line in "abc"
    ]
    spring = Discount(name="Spring", amount=Decimal(9), minimum=Decimal(80))
    order = factories.place_order(items, store=store, discounts=[spring], until="paid", customer=customer)
    first, second, _third = order.lines.all()
    by(staff("Store Manager", store)).cancel(number=order.number, lines={first.pk: 1}, reason="out_of_stock")
    handler = get_event_handler(Actor.customer(customer))
    _order, plan, _choices = handler.show_plan(number=order.number, choices=Choices(lines={second.pk: 1}))
    handler.cancel(number=order.number, lines={second.pk: 1}, reason="changed_mind", plan=plan)
    work()
    assert kept(order) == Decimal(30)
    assert books() == []


def test_what_stays_at_its_full_price_may_still_be_sent_for_nothing(store: Store, work: Work, books: Books) -> None:
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    item = Item(product=factories.stocked(store, price=Decimal(20)), quantity=3, unit_price=Decimal(20))
    order = factories.place_order(
        [item],
        store=store,
        discounts=[Discount(name="Bulk", amount=Decimal(12), minimum=Decimal(60))],
        shipping_free_from=Decimal(40),
        shipping_price_below=Decimal(5),
        until="paid",
    )
    desk().cancel(number=order.number, lines={order.lines.get().pk: 1}, reason="out_of_stock")
    work()
    assert kept(order) == Decimal(40), "without the discount, two cost what shipping is free from"
    assert books() == []


def test_two_discounts_are_taken_off_to_the_cent(store: Store, work: Work, books: Books) -> None:
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    items = [
        Item(product=factories.stocked(store, price=Decimal(1)), quantity=1, unit_price=Decimal(1)) for _line in "ab"
    ]
    two = [Discount(name=name, amount=Decimal("0.05"), minimum=Decimal(2)) for name in ("One", "Two")]
    order = factories.place_order(items, store=store, discounts=two, until="paid")
    desk().cancel(number=order.number, lines={order.lines.first().pk: 1}, reason="out_of_stock")
    work()
    assert kept(order) == Decimal(1)
    assert books() == []


def test_what_was_kept_goes_back_with_goods_that_were_never_paid(store: Store, work: Work, books: Books) -> None:
    CancelRule.objects.create(reprices=True, direct_statuses=["approved"])
    items = [
        Item(product=factories.stocked(store, price=Decimal(30)), quantity=1, unit_price=Decimal(30)) for _line in "ab"
    ]
    order = factories.place_order(items, store=store, discounts=[SPRING], until="approved")
    first, _second = order.lines.all()
    desk().take_payment(number=order.number, lines={first.pk: 1})
    work()
    desk().cancel(number=order.number, lines={first.pk: 1}, reason="out_of_stock")
    work()
    assert kept(order) == Decimal(3)
    desk().cancel(number=order.number, reason="out_of_stock")
    work()
    assert kept(order) == 0
    assert books() == []


def limit(**fields: Any) -> None:
    level = ApprovalLevel.objects.get(level=1)
    ApprovalPolicy.objects.create(name="limit", what="refund", level=level, **{"currency": "EUR", **fields})


@pytest.fixture
def manager(staff: Staff, store: Store) -> User:
    return staff("Store Manager", store)


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
