"""What is kept of a discount when units are cancelled or come back: kept once, given back in the end, to the cent."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from orders.models import CancelRule, Order
from orders.processing import Discount, EventHandler, Item, get_event_handler
from orders.processing.cancelling import Choices
from payments.models import Payment
from shop.actors import Actor
from shop.models import Store, User
from tests import factories
from tests.orders.asking import by, fresh

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db
SPRING = Discount(name="Spring", amount=Decimal(6), minimum=Decimal(50))


def desk() -> EventHandler:
    return get_event_handler(Actor.system())


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
