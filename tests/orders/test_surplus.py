"""More or less money than an order costs: what is too much goes back or waits for a person, what is missing is told."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from django.test import Client

from orders.models import CancelRule, Order, Status
from orders.processing import EventHandler, get_event_handler
from payments import services as payments
from payments.models import Payment, Refund
from shop import jobs
from shop.actors import Actor
from shop.models import Job, Store, User
from tests import factories
from tests.orders.pages import fill, filled_in, text, url

Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def inbox(order: Order) -> list[str]:
    waiting = Job.objects.filter(reference=order.number, state=Job.State.NEEDS_ATTENTION).order_by("pk")
    return list(waiting.values_list("last_error", flat=True))


def back(order: Order) -> Decimal:
    """What went back to the customer, or is about to."""
    return sum((p.refund_reserved for p in Payment.objects.filter(reference=order.number)), Decimal(0))


@pytest.fixture
def undoing(staff: Callable[..., User]) -> EventHandler:
    """Somebody whose cancellations can be undone for half an hour."""
    CancelRule.objects.create(undo_minutes=30, direct_statuses=["payment_waiting"])
    return get_event_handler(Actor.staff(staff("Admin")))


def deposit(handler: EventHandler) -> tuple[Order, dict[int, int]]:
    """An order of 10 of which 8 are here, and its line of 4."""
    order = factories.place_order([("6.00", 1), ("4.00", 1)], gateway="manual")
    handler.record_payment(number=order.number or "", amount=Decimal("8.00"))
    return order, {order.lines.get(total=Decimal(4)).pk: 1}


def transferred_back(order: Order) -> None:
    job = Job.objects.get(reference=order.number, state=Job.State.NEEDS_ATTENTION)
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="statement 9")


def test_a_transfer_of_too_much_pays_the_order_and_the_rest_is_one_item_that_closes_itself(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 1)], gateway="manual")
    system.record_payment(number=order.number or "", amount=Decimal("12.50"), surplus=True, note="statement 7")
    work()
    assert (fresh(order).status, order.lines.get().paid) == (Status.CONFIRMATION_WAITING, 1)
    words = f"Transfer €2.50 for {order.number} by hand, then mark this as done by hand."
    assert (inbox(order), books()) == ([words], [])
    transferred_back(order)
    assert (inbox(order), fresh(order).facts.refundable, books()) == ([], Decimal(10), [])


@pytest.mark.parametrize("refund", [True, False])
def test_a_deposit_for_more_than_a_cancellation_leaves_goes_back_as_its_plan_says(
    refund: bool, system: EventHandler, work: Work, books: Books
) -> None:
    """It is to cover 6, and 8 are here; where the money is to be kept, the books say that it is."""
    order = factories.place_order([("6.00", 1), ("4.00", 1)], gateway="manual")
    system.record_payment(number=order.number or "", amount=Decimal("8.00"))
    assert (fresh(order).status, fresh(order).facts.outstanding) == (Status.PAYMENT_WAITING, Decimal("2.00"))
    dropped = order.lines.get(total=Decimal(4))
    plan = system.plan_cancellation(number=order.number or "", lines={dropped.pk: 1}, refund=refund)
    assert plan.refund == (2 if refund else 0)
    system.cancel(number=order.number or "", lines={dropped.pk: 1}, refund=refund, plan=plan)
    work()
    assert len(inbox(order)) == int(refund)
    facts = fresh(order).facts
    assert (facts.left_over, facts.unapplied, facts.outstanding) == (0, 6, 0)
    assert books() == []
    system.take_payment(number=order.number or "")
    work()
    assert (len(inbox(order)), fresh(order).facts.unapplied, books()) == (int(refund), 0, [])


def test_what_is_left_over_is_named_by_the_proof_until_it_goes_back(system: EventHandler, books: Books) -> None:
    """Money that only an older desk could leave behind: booked, and given back by nobody."""
    order = factories.place_order([("10.00", 1)], gateway="manual")
    system.record_payment(number=order.number or "", amount=Decimal("10.00"))
    payments.open_payment(
        reference=order.number or "", store_id=order.store_id, gateway="manual", currency="EUR", amount=Decimal(3)
    )
    payments.record_receipt(
        reference=order.number or "", amount=Decimal(3), cause="old", note="statement 7", actor_name="Ada"
    )
    assert f"Order {order.number}: 3.000 is here beyond what it costs, and nobody gives it back." in books()
    system.refund(number=order.number or "", amount=Decimal(3), note="paid twice")
    assert not [words for words in books() if "beyond what it costs" in words]


def test_what_a_person_closed_as_failed_is_not_sent_again_nor_a_fault(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 1)], gateway="manual")
    system.record_payment(number=order.number or "", amount=Decimal("12.00"), surplus=True)
    work()
    row = Refund.objects.get().transactions.get()
    payments.close_as_failed(transaction_id=row.pk, note="kept for the next order", actor_name="Ada")
    work()
    assert (inbox(order), fresh(order).facts.left_over, Refund.objects.count()) == ([], 2, 1)
    assert books() == []


@pytest.mark.parametrize("gateway", ["manual", "demo"])
def test_a_transfer_for_a_cancelled_order_is_on_record_and_goes_back(
    gateway: str, system: EventHandler, work: Work, books: Books
) -> None:
    """Also where nobody had been asked for a transfer."""
    order = factories.place_order([("10.00", 1)], gateway=gateway)
    system.cancel(number=order.number or "")
    system.record_payment(number=order.number or "", amount=Decimal("10.00"), surplus=True)
    work()
    by_hand = Payment.objects.get(reference=order.number, gateway="manual", captured__gt=0)
    assert (by_hand.captured, by_hand.refund_reserved, len(inbox(order))) == (10, 10, 1)
    transferred_back(order)
    assert (inbox(order), books()) == ([], [])


def test_staff_say_that_more_has_arrived_and_read_what_is_missing(
    manager: User, client: Client, store: Store, work: Work, books: Books
) -> None:
    client.force_login(manager)
    order = factories.place_order([("10.00", 1)], gateway="manual", store=store)
    told = client.post(
        url(order, "record-payment"), {**filled_in(client.get(url(order, "record-payment"))), "amount": 4}
    )
    assert "€4.00 recorded; €6.00 is still missing." in text(client.get(told["Location"]))
    assert "Only €6.00 is outstanding. If more has arrived" in text(
        fill(client, order, "record-payment", amount="7.50")
    )
    told = fill(client, order, "record-payment", amount="7.50", surplus="on")
    assert "€7.50 recorded; what is not owed goes back." in text(client.get(told["Location"]))
    work()
    assert (order.lines.get().paid, len(inbox(order)), books()) == (1, 1, [])


@pytest.mark.parametrize("refund", [True, False])
def test_what_a_cancellation_frees_follows_its_plan_also_when_it_could_be_undone(
    refund: bool, undoing: EventHandler, work: Work, books: Books
) -> None:
    order, dropped = deposit(undoing)
    chosen = {"number": order.number or "", "lines": dropped, "reason": "out_of_stock", "refund": refund}
    plan = undoing.plan_cancellation(**chosen)
    undoing.cancel(**chosen, plan=plan)
    assert back(order) == 0
    undoing.complete_now(number=order.number or "")
    work()
    assert back(order) == plan.refund == (2 if refund else 0)
    assert (fresh(order).facts.left_over, books()) == (0, [])


@pytest.mark.parametrize(("ends", "too_much"), [("undo_cancellation", 1), ("complete_now", 5)])
def test_more_that_arrives_while_a_cancellation_can_be_undone_waits_for_its_end(
    ends: str, too_much: int, undoing: EventHandler, work: Work, books: Books
) -> None:
    order, dropped = deposit(undoing)
    undoing.cancel(number=order.number or "", lines=dropped, reason="out_of_stock")
    undoing.record_payment(number=order.number or "", amount=Decimal("3.00"), surplus=True)
    assert back(order) == 0
    getattr(undoing, ends)(number=order.number or "")
    work()
    assert (back(order), fresh(order).facts.outstanding, books()) == (too_much, 0, [])


def test_what_a_person_closed_as_failed_does_not_go_back_with_the_next_surplus(
    system: EventHandler, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 1)], gateway="manual")
    system.record_payment(number=order.number or "", amount=Decimal("12.00"), surplus=True)
    work()
    row = Refund.objects.get().transactions.get()
    payments.close_as_failed(transaction_id=row.pk, note="given in cash", actor_name="Ada")
    work()
    system.record_payment(number=order.number or "", amount=Decimal("3.00"), surplus=True)
    assert (back(order), books()) == (3, [])
