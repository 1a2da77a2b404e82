"""The life of a return, from a customer's wish to the money: by the doors, in parts, too late, and two at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.test import override_settings
from django.utils import timezone

from checkout.models import Address
from orders import tasks
from orders.models import (
    CancellationReason,
    CancellationRequest,
    Inspection,
    JournalEntry,
    Order,
    OrderLine,
    Return,
    ReturnCarrier,
    ReturnPolicy,
)
from orders.processing import OrderChanged, get_event_handler
from orders.processing.receiving import NotAwaited, ReceivedAlready, ReturnNotFound
from orders.processing.requesting import RequestDecided, Terms, Wish
from payments import services as payments
from payments.models import DemoGatewayFault, Refund
from payments.services import credit
from shop import jobs, maintenance
from shop.actors import Actor
from shop.errors import Invalid, NotAllowed
from shop.models import Store, User
from tests import factories
from tests.orders.storefront import Browser, assert_errors, new_customer
from tests.orders.test_return_pictures import small

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> User:
    return new_customer()


class Desk:
    """Somebody at work: each verb by a handler of its own, as doors have it."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    def __getattr__(self, verb: str) -> Any:
        return getattr(get_event_handler(self.actor), verb)


@pytest.fixture
def desk(staff: Staff, store: Store) -> Desk:
    """A manager of the store."""
    return Desk(Actor.staff(staff("Store Manager", store)))


@pytest.fixture
def order(store: Store, customer: User) -> Order:
    """Two lines, three units of 10.00 and two of 25.00, with the customer."""
    return factories.place_order([("10.00", 3), ("25.00", 2)], store=store, customer=customer, until="delivered")


def policy(store: Store | None = None, **terms: Any) -> ReturnPolicy:
    valid_from = terms.pop("valid_from", timezone.now() - timedelta(days=365))
    return ReturnPolicy.objects.create(store=store, valid_from=valid_from, **terms)


def item(line: OrderLine, reason: str = "changed_mind", kind: str = "refund", **more: Any) -> dict[str, Any]:
    pk = CancellationReason.objects.get(code=reason).pk
    return {"order_item": str(line.pk), "cancellation_type": kind, "reason": str(pk), "description": "", **more}


def asked(order: Order, *units: int, reason: str = "changed_mind", **terms: Any) -> list[CancellationRequest]:
    """The customer asks to send back so many units of each line."""
    why = CancellationReason.objects.get(code=reason)
    wishes = [Wish(line.pk, n, "refund", why) for line, n in zip(order.lines.all(), units, strict=False) if n]
    handler = get_event_handler(Actor.customer(order.customer))  # type: ignore[arg-type]
    return handler.cancel_or_request(number=order.number or "", wishes=wishes, terms=Terms(**terms))


def approved(desk: Desk, order: Order, *units: int, **more: Any) -> tuple[str, list[CancellationRequest]]:
    """Asked and agreed to: the code on the parcel, and the requests."""
    requests = asked(order, *units, **more)
    for request in requests:
        desk.decide_request(request_id=request.pk, approve=True)
    return Return.objects.get(order=order, closed_at=None).code, requests


def statuses(order: Order) -> list[str]:
    return list(order.cancellation_requests.order_by("pk").values_list("status", flat=True))


def told(order: Order) -> list[str]:
    return list(order.communication_events.order_by("pk").values_list("event_type", flat=True))


def shelf(line: OrderLine) -> tuple[int, int, int]:
    record = factories.record_of(line.product)  # type: ignore[arg-type]
    return record.on_hand, record.quarantine, record.damaged


def refunded(order: Order) -> list[Decimal]:
    return list(Refund.objects.filter(reference=order.number).order_by("pk").values_list("amount", flat=True))


# ---------------------------------------------------------------------------------------------------------------
# The whole life


def test_the_whole_life_of_a_return(
    order: Order, desk: Desk, customer: User, work: Work, books: Books, mailoutbox: list[Any]
) -> None:
    """As the storefront asks: ids as strings, pictures, an address and a day; mixed conditions; refund less the fee."""
    policy(fee=Decimal("4.90"))
    van = ReturnCarrier.objects.create(code="van", name="Our van", fetches=True, instructions="Give it to the driver.")
    ReturnCarrier.objects.create(code="old", name="Gone", is_active=False)
    book = Address.objects.create(
        customer=customer,
        created_at=timezone.now(),
        updated_at=timezone.now(),
        title="Work",
        first_name="Ada",
        last_name="L",
        line="Weg 2",
        city="Berlin",
        country="DE",
        postcode="10115",
    )
    browser = Browser(customer)
    first, second = order.lines.all()
    shown = browser.get(f"/users/orders/{order.pk}/").json()["orderitem_set"][0]
    assert shown["is_refundable"]
    assert not shown["is_cancellable"]
    (offered,) = shown["available_easy_return_shipping_companies"]
    day = (timezone.localdate() + timedelta(days=3)).isoformat()
    how = {
        "shipping_company": str(offered["pk"]),
        "pickup_date": {"date": day, "hour_range": {"start": "09:00", "end": "12:00"}},
    }
    body = {
        "return_policy": True,
        "pickup_address": str(book.pk),
        "cancel_order_items": [
            {**item(first, description="too small"), **how, "cancellation_request_image_set": [{"image": small()}]},
            {**item(second), **how, "quantity": "2"},
        ],
    }
    answered = browser.post(f"/orders/{order.number}/cancel/", body)
    assert answered.status_code == 200, answered.content
    assert [one["easy_return"] for one in answered.json()] == [None, None], "nobody has agreed"
    parcel = Return.objects.get(order=order)
    assert (parcel.carrier, parcel.pickup_date.isoformat(), parcel.pickup_hours) == (van, day, "09:00–12:00")
    assert parcel.pickup_address is not None
    assert parcel.pickup_address.line == "Weg 2"
    one, two = order.cancellation_requests.order_by("pk")
    assert (one.quantity, two.quantity, one.pictures.count()) == (3, 2, 1)
    with pytest.raises(NotAwaited, match="Nothing of this return"):
        desk.receive_return(code=parcel.code)

    for request in (one, two):
        desk.decide_request(request_id=request.pk, approve=True)
    with pytest.raises(RequestDecided):
        desk.decide_request(request_id=one.pk, approve=True)
    easy = browser.get(f"/users/orders/{order.pk}/").json()["orderitem_set"][0]["active_cancellation_request"]
    assert easy["status"]["value"] == "approved"
    assert easy["easy_return"]["code"] == parcel.code
    assert easy["easy_return"]["shipping_company"] == {"value": "van", "label": "Our van"}

    desk.receive_return(code=f" {parcel.code.lower()} ")
    assert statuses(order) == ["confirmation_waiting"] * 2
    with pytest.raises(ReceivedAlready):
        desk.receive_return(code=parcel.code)
    with pytest.raises(RequestDecided):
        desk.decide_request(request_id=one.pk, approve=False, note="No")
    stock = shelf(first), shelf(second)
    found = {one.pk: {"sellable": 1, "damaged": 1, "missing": 1}, two.pk: {"quarantine": 1, "sellable": 1}}
    settled = desk.plan_inspection(code=parcel.code, found=found)
    assert settled.plan is not None
    assert (settled.plan.value, settled.fee, settled.plan.refund, settled.missing) == (
        70,
        Decimal("4.90"),
        Decimal("65.10"),
        1,
    )
    desk.inspect_return(code=parcel.code, found=found, note="one cup lacks")
    assert statuses(order) == ["waiting_for_payment"] * 2
    work()
    assert statuses(order) == ["completed"] * 2
    assert refunded(order) == [Decimal("65.100")]
    (a, b, c), (x, y, z) = stock
    assert (shelf(first), shelf(second)) == ((a + 1, b, c + 1), (x + 1, y + 1, z))
    assert [line.returned for line in order.lines.all()] == [2, 2]
    parcel.refresh_from_db()
    assert parcel.closed_at
    assert parcel.received_at
    assert sorted(Inspection.objects.values_list("condition", "quantity")) == [
        ("damaged", 1),
        ("missing", 1),
        ("quarantine", 1),
        ("sellable", 1),
        ("sellable", 1),
    ]
    returns = [event for event in told(order) if "return" in event or event == "order_refunded"]
    assert returns == [
        "return_requested",
        "return_approved",
        "return_approved",
        "return_arrived",
        "units_returned",
        "order_refunded",
    ]
    mails = {mail.subject.split(" for ")[0]: mail.body for mail in mailoutbox}
    how_to = next(mail.body for mail in mailoutbox if mail.subject.startswith("How to send back"))
    assert parcel.code in how_to
    assert "Give it to the driver." in how_to
    assert "09:00–12:00" in how_to
    arrived = mails["We have received your return"]
    assert "€65.10" in arrived
    assert "€4.90" in arrived
    verbs = list(JournalEntry.objects.filter(order=order).values_list("verb", flat=True))
    assert verbs.count("receive_return") == verbs.count("inspect_return") == 1
    with pytest.raises(NotAwaited):
        desk.inspect_return(code=parcel.code, found={one.pk: {"sellable": 1}})
    assert books() == []


def test_a_refund_that_needs_a_person_is_said_so_until_it_is_done_by_hand(
    order: Order, desk: Desk, work: Work, books: Books
) -> None:
    code, (request,) = approved(desk, order, 2)
    DemoGatewayFault.objects.create(operation="refund", behaviour=DemoGatewayFault.Behaviour.DECLINE, remaining=9)
    desk.inspect_return(code=code, found={request.pk: {"sellable": 2}})
    work()
    assert statuses(order) == ["manuel_refund_need"]
    with pytest.raises(RequestDecided):
        desk.decide_request(request_id=request.pk, approve=True)
    refund = Refund.objects.get(reference=order.number)
    (row,) = payments.transactions_of(refund=refund)
    job = jobs.Job.objects.get(kind="payments.send", args__transaction=row.pk)
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="bank 4711")
    work()
    assert statuses(order) == ["completed"]
    assert books() == []


def test_goods_that_come_in_two_parcels_are_refunded_twice_and_pay_one_fee(
    order: Order, desk: Desk, work: Work, books: Books
) -> None:
    """The request is complete when all of its money is; what came first and is stuck is not forgotten."""
    policy(fee=Decimal("3"))
    code, (request,) = approved(desk, order, 3)
    DemoGatewayFault.objects.create(operation="refund", behaviour=DemoGatewayFault.Behaviour.DECLINE, remaining=1)
    desk.receive_return(code=code)
    desk.inspect_return(code=code, found={request.pk: {"sellable": 1}})
    assert statuses(order) == ["approved"], "the rest is awaited"
    with pytest.raises(RequestDecided, match="answered already"):
        desk.decide_request(request_id=request.pk, approve=False, note="It took too long")
    work()
    desk.receive_return(code=code)
    assert statuses(order) == ["confirmation_waiting"]
    with pytest.raises(Invalid) as no:
        desk.inspect_return(code=code, found={request.pk: {"sellable": 3}})
    assert (no.value.code, no.value.max_quantity) == ("too_many_units", 2)
    desk.inspect_return(code=code, found={request.pk: {"damaged": 1, "missing": 1}})
    assert refunded(order) == [Decimal("7.000"), Decimal("10.000")]
    work()
    assert statuses(order) == ["manuel_refund_need"]
    stuck = jobs.Job.objects.get(kind="payments.send", state="needs_attention")
    jobs.finish_by_hand(stuck.pk, user_id=None, actor_name="Ada", note="bank 4711")
    work()
    assert statuses(order) == ["completed"]
    assert Return.objects.get().closed_at is not None
    assert told(order).count("return_arrived") == 2
    assert books() == []


def test_what_never_came_is_rejected_with_words(order: Order, desk: Desk, work: Work, books: Books) -> None:
    policy(fee=Decimal("3"))
    code, (one, two) = approved(desk, order, 1, 1)
    desk.inspect_return(code=code, found={one.pk: {"missing": 1}}, note="The box was empty.")
    assert statuses(order) == ["rejected", "approved"]
    assert CancellationRequest.objects.get(pk=one.pk).decision_note == "The box was empty."
    assert refunded(order) == []
    assert "return_rejected" in told(order)
    desk.inspect_return(code=code, found={two.pk: {"sellable": 1}})
    assert refunded(order) == [Decimal("22.000")], "an empty box has cost no fee"
    work()
    assert statuses(order) == ["rejected", "completed"]
    assert Return.objects.get().closed_at is not None
    assert books() == []


def test_taking_back_without_the_return_ends_it_as_well(order: Order, desk: Desk, work: Work, books: Books) -> None:
    """Also where a part of it has been inspected; and a request that is rejected closes its return."""
    code, (one, two) = approved(desk, order, 3, 1)
    desk.inspect_return(code=code, found={one.pk: {"sellable": 1}})
    desk.take_back(number=order.number or "", lines={one.line_id: (2, "sellable")})
    assert statuses(order) == ["waiting_for_payment", "approved"]
    work()
    assert statuses(order) == ["completed", "approved"]
    assert Return.objects.get().closed_at is None
    desk.decide_request(request_id=two.pk, approve=False, note="It was never sent.")
    assert Return.objects.get().closed_at is not None
    assert books() == []


def test_a_page_sent_twice_inspects_once(order: Order, desk: Desk, work: Work, books: Books) -> None:
    code, (request,) = approved(desk, order, 2)
    version = Order.objects.get(pk=order.pk).version
    desk.inspect_return(code=code, found={request.pk: {"sellable": 1}}, version=version)
    with pytest.raises(OrderChanged):
        desk.inspect_return(code=code, found={request.pk: {"sellable": 1}}, version=version)
    assert refunded(order) == [Decimal("10.000")]
    work()
    assert books() == []


def test_what_is_wrong_in_an_inspection_is_refused_and_nothing_happens(
    order: Order, desk: Desk, staff: Staff, books: Books
) -> None:
    code, (request,) = approved(desk, order, 2)
    wrong: tuple[tuple[Mapping[Any, Any], str], ...] = (
        ({}, "nothing_found"),
        ({request.pk: {"sellable": 0}}, "nothing_found"),
        ({request.pk: {"sellable": -1}}, "bad_units"),
        ({request.pk: {"sellable": "1"}}, "bad_units"),
        ({request.pk: {"sellable": True}}, "bad_units"),
        ({request.pk: {"lost": 1}}, "bad_condition"),
        ({request.pk: {"sellable": 1, "missing": 2}}, "too_many_units"),
    )
    before = JournalEntry.objects.filter(order=order).count()
    for found, expected in wrong:
        with pytest.raises(Invalid) as no:
            desk.inspect_return(code=code, found=found)
        assert no.value.code == expected, found
    with pytest.raises(NotAwaited):
        desk.inspect_return(code=code, found={0: {"sellable": 1}})
    for deduction in ("-1", "20.01", "0.001"):
        with pytest.raises(Exception) as told_no:
            desk.inspect_return(code=code, found={request.pk: {"sellable": 2}}, deduction=Decimal(deduction))
        assert hasattr(told_no.value, "code"), deduction
    strangers = [Actor.staff(staff("Store Manager", factories.StoreFactory())), Actor.customer(new_customer())]
    for actor in strangers:
        with pytest.raises(ReturnNotFound):
            get_event_handler(actor).inspect_return(code=code, found={request.pk: {"sellable": 2}})
    for actor in (Actor.customer(order.customer), Actor.staff(staff(None, order.store))):  # type: ignore[arg-type]
        with pytest.raises(NotAllowed):
            get_event_handler(actor).receive_return(code=code)
    for odd in ("", "R", "Ä" * 9, "R\x00", "R" * 400):
        with pytest.raises(ReturnNotFound):
            desk.receive_return(code=odd)
    assert JournalEntry.objects.filter(order=order).count() == before
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# The shop's terms


def test_the_policy_decides_until_when_and_the_flag_agrees(store: Store, customer: User) -> None:
    """Of the policies in force when the order was placed, the store's newest; days count from delivery."""
    now = timezone.now()
    policy(return_days=100)
    policy(store, return_days=9, valid_from=now - timedelta(days=300))
    policy(store, return_days=5, valid_from=now - timedelta(days=100))
    with time_machine.travel(now - timedelta(days=50), tick=False):
        order = factories.place_order(store=store, customer=customer, until="shipped")
        other = factories.place_order(customer=customer, until="delivered")
    policy(store, return_days=0, valid_from=now - timedelta(days=49))
    with time_machine.travel(now - timedelta(days=10), tick=False):
        get_event_handler(Actor.system()).deliver(number=order.number or "")

    def flag(of: Order) -> bool:
        (line,) = Browser(customer).get(f"/users/orders/{of.pk}/").json()["orderitem_set"]
        return bool(line["is_refundable"])

    delivered = timezone.localtime(order.lines.get().delivered_at)
    last = (delivered + timedelta(days=5)).replace(hour=23, minute=59, second=59)
    with time_machine.travel(last, tick=False):
        assert flag(order)
    with time_machine.travel(last + timedelta(seconds=2), tick=False):
        assert not flag(order)
        answered = assert_errors(Browser(customer).cancel(order, item(order.lines.get())), 400)
    assert answered["error_code"] == ["return_expired"]
    assert "could be sent back until" in answered["non_field_errors"][0]
    assert flag(other), "everybody's policy, where the store has none"
    nothing = factories.place_order(store=store, customer=customer, until="delivered")
    assert not flag(nothing)
    answered = assert_errors(Browser(customer).cancel(nothing, item(nothing.lines.get())), 400)
    assert answered["error_code"] == ["returns_not_offered"]


def test_what_the_law_lets_a_shop_keep_cannot_be_sent_back(store: Store, customer: User) -> None:
    """The product's exemption counts as it was when it was ordered; without any policy it is 30 days."""
    cake = factories.stocked(store, return_exemption="perishable", name="Cake")
    order = factories.place_order([cake], store=store, customer=customer, until="delivered")
    cake.return_exemption = ""
    cake.save()
    answered = assert_errors(Browser(customer).cancel(order, item(order.lines.get())), 400)
    assert answered["non_field_errors"] == ["“Cake” cannot be sent back: perishes quickly."]
    (line,) = Browser(customer).get(f"/users/orders/{order.pk}/").json()["orderitem_set"]
    assert not line["is_refundable"]
    assert line["available_easy_return_shipping_companies"] == []


def test_a_fee_is_kept_unless_it_is_the_shops_fault_or_somebody_says_so(
    store: Store, customer: User, desk: Desk, work: Work, books: Books
) -> None:
    policy(fee=Decimal("30"))

    def refund_of(reason: str, deduction: Decimal | None = None) -> list[Decimal]:
        order = factories.place_order([("40.00", 1)], store=store, customer=customer, until="delivered")
        code, (request,) = approved(desk, order, 1, reason=reason)
        desk.inspect_return(code=code, found={request.pk: {"sellable": 1}}, deduction=deduction)
        work()
        assert statuses(order) == ["completed"]
        return refunded(order)

    assert refund_of("changed_mind") == [10]
    assert refund_of("arrived_damaged") == [40]
    assert refund_of("changed_mind", Decimal("12.50")) == [Decimal("27.5")]
    assert refund_of("changed_mind", Decimal("40")) == [], "all of it is kept"
    cheap = factories.place_order([("5.00", 1)], store=store, customer=customer, until="delivered")
    code, (request,) = approved(desk, cheap, 1)
    desk.inspect_return(code=code, found={request.pk: {"sellable": 1}})
    assert (refunded(cheap), statuses(cheap)) == ([], ["completed"]), "a fee is never more than the goods' value"
    assert books() == []


def test_a_policy_may_agree_at_once_and_ask_for_a_pickup(order: Order, customer: User, work: Work) -> None:
    policy(approves_at_once=True, needs_pickup=True)
    van = ReturnCarrier.objects.create(code="van", name="Our van", fetches=True)
    post = ReturnCarrier.objects.create(code="post", name="Post")
    gone = ReturnCarrier.objects.create(code="gone", name="Gone", is_active=False)
    foreign = Address.objects.create(
        customer=new_customer(),
        created_at=timezone.now(),
        updated_at=timezone.now(),
        first_name="B",
        last_name="C",
        line="W",
        city="B",
        country="DE",
        postcode="1",
    )
    browser, (first, second) = Browser(customer), order.lines.all()
    hours = {"hour_range": {"start": "9", "end": "12"}}
    day = {"date": timezone.localdate().isoformat(), **hours}
    past = {"date": (timezone.localdate() - timedelta(days=1)).isoformat(), **hours}
    place = "cancel_order_items.1"
    fine = item(first, shipping_company=van.pk, pickup_date=day)
    for more, field in (
        ({}, f"{place}.shipping_company"),
        ({"shipping_company": van.pk}, f"{place}.pickup_date"),
        ({"shipping_company": gone.pk, "pickup_date": day}, f"{place}.shipping_company"),
        ({"shipping_company": post.pk, "pickup_date": day}, f"{place}.pickup_date"),
        ({"shipping_company": van.pk, "pickup_date": past}, f"{place}.pickup_date"),
        ({"shipping_company": van.pk, "pickup_date": {"date": "soon", **hours}}, f"{place}.pickup_date.date"),
        ({"shipping_company": van.pk, "pickup_date": {"date": day["date"]}}, f"{place}.pickup_date.hour_range"),
    ):
        answered = assert_errors(browser.cancel(order, fine, item(second, **more)), 400)
        assert field in answered, (more, answered)
    body = {"cancel_order_items": [fine], "pickup_address": foreign.pk}
    assert "pickup_address" in assert_errors(browser.post(f"/orders/{order.number}/cancel/", body), 400)
    assert not CancellationRequest.objects.exists()
    later = {**day, "hour_range": {"start": "13", "end": "15"}}
    answered = browser.cancel(order, fine, item(second, shipping_company=van.pk, pickup_date=later))
    assert [one["status"]["value"] for one in answered.json()] == ["approved", "approved"]
    codes = {one["easy_return"]["code"] for one in answered.json()}
    assert len(codes) == Return.objects.count() == 2, "fetched at two times: two parcels"
    assert told(order).count("return_approved") == 2


def test_what_was_asked_during_maintenance_is_agreed_to_afterwards(
    order: Order, customer: User, desk: Desk, work: Work, books: Books
) -> None:
    policy(approves_at_once=True)
    maintenance.start(actor=Actor.system(), message="Stocktaking")
    asked(order, 1, 1)
    assert statuses(order) == ["waiting", "waiting"]
    maintenance.end(actor=Actor.system())
    tasks.work_off_queue()
    tasks.work_off_queue()
    work()
    assert statuses(order) == ["approved", "approved"]
    assert told(order).count("return_approved") == 1, "one parcel, one message"
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# Points instead of money


def test_points_instead_of_money_are_remembered_until_somebody_decides(
    order: Order, store: Store, customer: User, desk: Desk, work: Work, books: Books
) -> None:
    """fully_refund_as_loyalty_money: of goods that come back, of what is cancelled at once or by a person."""
    code, (request,) = approved(desk, order, 2, as_points=True)
    desk.inspect_return(code=code, found={request.pk: {"sellable": 2}})
    browser = Browser(customer)
    at_once = factories.place_order([("40.00", 1)], store=store, customer=customer, capture_mode="at_placement")
    work()
    later = factories.place_order([("50.00", 1)], store=store, customer=customer, until="paid")
    for one, expected in ((at_once, 204), (later, 200)):
        body = {"fully_refund_as_loyalty_money": True, "cancel_order_items": [item(one.lines.get(), kind="cancel")]}
        answered = browser.post(f"/orders/{one.number}/cancel/", body)
        assert answered.status_code == expected, answered.content
    desk.decide_request(request_id=later.cancellation_requests.get().pk, approve=True)
    work()
    refunds = {row.reference: row for row in Refund.objects.all()}
    for one in (order, at_once, later):
        row = refunds[one.number or ""]
        assert (row.destination, row.status) == ("loyalty", "succeeded")
        assert "asked for" in row.consent
    (points,) = credit.balances_of(owner_id=customer.pk, as_of=timezone.now())
    assert (points.kind, points.available) == ("loyalty", 110)
    assert statuses(order) == ["completed"]
    assert books() == []


@override_settings(REFUND_DESTINATIONS=["manual"])
def test_points_that_cannot_be_had_are_refused_at_once(order: Order, customer: User) -> None:
    body = {"fully_refund_as_loyalty_money": True, "cancel_order_items": [item(order.lines.first())]}
    answered = assert_errors(Browser(customer).post(f"/orders/{order.number}/cancel/", body), 400)
    assert answered["error_code"] == ["destination_not_offered"]
    assert not CancellationRequest.objects.exists()


# ---------------------------------------------------------------------------------------------------------------
# Two at once


@pytest.mark.django_db(transaction=True)
def test_of_two_who_inspect_one_parcel_one_is_told(
    place: Callable[..., Order], at_once: Callable[..., list[Any]], on_postgres: bool, work: Work, books: Books
) -> None:
    """The control: without the lock on the order both would have read two awaited units, and refunded them."""
    if not on_postgres:
        pytest.skip("SQLite has one writer")
    customer = new_customer()
    order = place([("10.00", 2)], customer=customer, until="delivered")
    system = Desk(Actor.system())
    code, (request,) = approved(system, order, 2)

    def inspect() -> Any:
        return get_event_handler(Actor.system()).inspect_return(code=code, found={request.pk: {"sellable": 2}})

    # The control: what both see before either has the lock lets both go on.
    seen = at_once(*[lambda: system.plan_inspection(code=code, found={request.pk: {"sellable": 2}})] * 2)
    assert [one.plan.refund for one in seen] == [20, 20]
    results = at_once(inspect, inspect)
    assert sorted(type(one).__name__ for one in results) == ["NotAwaited", "Return"]
    assert refunded(order) == [20]
    work()
    assert statuses(order) == ["completed"]
    assert books() == []
