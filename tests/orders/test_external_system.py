"""Direct cancellation with an order management system outside: it agrees, refuses, is down, slow, lying or late.

However it fails, no unit is cancelled twice here or there, no wish is lost, and the customer is told the truth.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from notifications.models import Message
from orders.checks import check_order_management
from orders.models import (
    CancellationReason,
    CancellationRequest,
    ExternalCall,
    JournalEntry,
    Order,
    RequestPicture,
    Status,
)
from orders.processing import EventHandler, get_event_handler
from orders.processing.calls import call_key, look_up_overdue
from orders.rules import CancellationUnderWay
from shop import jobs
from shop.actors import Actor
from shop.models import Job, User
from tests import factories
from tests.orders.fake_order_management import GATEWAY, FakeOrderManagement
from tests.orders.storefront import Browser, assert_errors, assert_is, new_customer

pytestmark = pytest.mark.django_db
Books = Callable[[], list[str]]
S = ExternalCall.Status


@pytest.fixture
def customer(db: None) -> User:
    return new_customer()


@pytest.fixture
def browser(customer: User) -> Browser:
    return Browser(customer)


def wish(line: Any, **more: Any) -> dict[str, Any]:
    reason = CancellationReason.objects.get(code="changed_mind").pk
    return {"order_item": line.pk, "cancellation_type": "cancel", "reason": reason, "description": "too big", **more}


def all_of(order: Order) -> list[dict[str, Any]]:
    return [wish(line) for line in order.lines.all()]


def units(order: Order) -> list[tuple[int, int, str]]:
    return [(x.cancelled, x.withheld, x.status) for x in order.lines.order_by("position")]


def mails(order: Order) -> Counter[str]:
    told = Message.objects.filter(reference=order.number).values_list("event", flat=True)
    return Counter(event for event in told if "cancel" in event)


def status(order: Order) -> str:
    return Order.objects.get(pk=order.pk).status


def later(call: ExternalCall) -> None:
    """The call's job is due again, and a worker looks."""
    Job.objects.filter(key=call_key(call), state="waiting").update(run_at=timezone.now() - timedelta(seconds=1))
    jobs.drain(seconds=30)


def wide(order: Order, fake: FakeOrderManagement) -> int:
    """How many units are cancelled over there."""
    return sum(fake.cancelled(order.number).values())


# --- it agrees --------------------------------------------------------------------------------------------------------


def test_it_is_asked_first_and_what_it_agrees_to_is_cancelled(
    fake: FakeOrderManagement, customer: User, browser: Browser, work: Callable[[], int], books: Books
) -> None:
    order = factories.place_order([("10.00", 2), ("5.00", 1)], customer=customer, until="approved")
    answer = browser.cancel(order, *all_of(order))
    assert (answer.status_code, answer.content) == (204, b"")
    assert units(order) == [(2, 0, "cancelled"), (1, 0, "cancelled")]
    assert status(order) == Status.CANCELLED
    assert wide(order, fake) == 3
    assert fake.posts() == [str(ExternalCall.objects.get().uuid)], "one request, under the call's own key"
    work()
    assert mails(order) == {"order_cancelled": 1}
    hops = list(order.status_changes.order_by("pk").values_list("new_status", flat=True))[-2:]
    assert hops == [Status.CANCELLATION_WAITING, Status.CANCELLED]
    assert order.cancellations.get().stage == "approved", "the figures count it where it was"
    assert len(fake.posts()) == 1, "what it was asked it need not be told"
    assert books() == []


def test_some_units_are_asked_for_and_a_lost_answer_is_given_again(
    fake: FakeOrderManagement, customer: User, browser: Browser, books: Books
) -> None:
    order = factories.place_order([("10.00", 3), ("5.00", 1)], customer=customer)
    first = order.lines.order_by("position")[0]
    answers = [browser.cancel(order, wish(first, quantity=2)) for _n in range(3)]
    assert [a.status_code for a in answers] == [204] * 3
    assert ["Idempotency-Replayed" in a for a in answers] == [False, True, True]
    assert units(order) == [(2, 0, "confirmation_waiting"), (0, 0, "confirmation_waiting")]
    assert (wide(order, fake), len(fake.posts())) == (2, 1)
    assert books() == []


def test_the_shops_own_rules_come_first(fake: FakeOrderManagement, customer: User, browser: Browser) -> None:
    order = factories.place_order(customer=customer, until="preparing")
    assert browser.cancel(order, *all_of(order)).status_code == 200, "a person decides, and it is not asked"
    assert fake.calls == []


def test_a_busy_system_is_asked_again_within_the_time(
    fake: FakeOrderManagement, customer: User, browser: Browser
) -> None:
    fake.fault("busy")
    order = factories.place_order(customer=customer)
    assert browser.cancel(order, *all_of(order)).status_code == 204
    assert len(set(fake.posts())) == 1, "the same key"


# --- it accepts, and confirms later -----------------------------------------------------------------------------------


def test_what_it_accepts_waits_for_its_confirmation(
    fake: FakeOrderManagement, customer: User, browser: Browser, system: EventHandler, books: Books
) -> None:
    fake.fault("pending")
    order = factories.place_order([("10.00", 2)], customer=customer, until="approved")
    assert browser.cancel(order, *all_of(order)).status_code == 204
    assert units(order) == [(0, 2, "cancellation_waiting")]
    assert status(order) == Status.CANCELLATION_WAITING
    shown = browser.get(f"/users/orders/{order.pk}/").json()
    assert [item["status"]["value"] for item in shown["orderitem_set"]] == ["cancellation_waiting"]
    assert shown["is_cancelled"] is False
    told = assert_errors(browser.cancel(order, wish(order.lines.get(), description="again")), 400)
    assert told["non_field_errors"] == ["Order cancellation already in progress."]
    with pytest.raises(CancellationUnderWay):
        system.cancel(number=order.number or "")
    assert books() == []
    call = ExternalCall.objects.get()
    later(call)  # it still waits
    assert (call.status, units(order)) == (S.ACCEPTED, [(0, 2, "cancellation_waiting")])
    fake.confirm(str(call.uuid))
    later(call)
    assert (units(order), status(order), wide(order, fake)) == ([(2, 0, "cancelled")], Status.CANCELLED, 2)
    assert mails(order) == {"order_cancelled": 1}
    assert books() == []


def test_while_one_item_waits_another_can_be_cancelled_and_shipped_items_go_on(
    fake: FakeOrderManagement, customer: User, browser: Browser, books: Books
) -> None:
    fake.fault("pending")
    order = factories.place_order([("10.00", 2), ("5.00", 2)], customer=customer)
    one, two = order.lines.order_by("position")
    assert browser.cancel(order, wish(one)).status_code == 204
    assert (units(order)[0], status(order)) == ((0, 2, "cancellation_waiting"), Status.CONFIRMATION_WAITING)
    assert browser.cancel(order, wish(two, quantity=1)).status_code == 204
    assert units(order)[1] == (1, 0, "confirmation_waiting")
    system = get_event_handler(Actor.system())
    system.approve(number=order.number or "")
    system.start_preparing(number=order.number or "")
    system.take_payment(number=order.number or "")
    jobs.drain(seconds=30)
    system.ship(number=order.number or "")
    assert [line.shipped for line in order.lines.order_by("position")] == [0, 1], "what waits does not leave"
    assert status(order) == Status.PREPARING, "nor is the order complete without it"
    assert books() == []


def test_what_it_accepted_and_then_refuses_becomes_a_request(
    fake: FakeOrderManagement, customer: User, browser: Browser, books: Books
) -> None:
    fake.fault("pending")
    order = factories.place_order([("10.00", 2)], customer=customer, until="approved")
    browser.cancel(order, *all_of(order))
    call = ExternalCall.objects.get()
    fake.requests[str(call.uuid)] = ("refused", {})
    later(call)
    assert (units(order), status(order)) == ([(0, 0, "approved")], Status.APPROVED)
    assert CancellationRequest.objects.get().description == "too big"
    assert mails(order) == {"cancellation_requested": 1}
    assert books() == []


# --- it does not ------------------------------------------------------------------------------------------------------

# fault, where, what the call is then, units cancelled there
FAILURES = {
    "it refuses": ("refuse", "POST", S.REFUSED, 0),
    "it breaks before": ("500_deaf", "GET", S.FAILED, 0),
    "it is slow before": ("slow_deaf", "GET", S.FAILED, 0),
    "it breaks and has done nothing": ("500_deaf", "POST", S.UNKNOWN, 0),
    "it breaks and has done it": ("500", "POST", S.UNKNOWN, 3),
    "it is slow and does it": ("slow", "POST", S.UNKNOWN, 3),
    "it is slow and does nothing": ("slow_deaf", "POST", S.UNKNOWN, 0),
    "the answer is lost": ("drop", "POST", S.UNKNOWN, 3),
    "it is down": ("down", "", S.FAILED, 0),
}


@pytest.mark.parametrize("name", FAILURES)
def test_whatever_goes_wrong_becomes_requests_and_what_it_did_is_found_out(
    name: str, fake: FakeOrderManagement, customer: User, browser: Browser, settings: Any, books: Books
) -> None:
    fault, where, then, done_there = FAILURES[name]
    if fault == "down":
        settings.ORDER_MANAGEMENT_URL = "http://127.0.0.1:9"
    else:
        fake.fault(fault, where)
    order = factories.place_order([("10.00", 2), ("5.00", 1)], customer=customer, until="approved")
    answer = browser.cancel(order, *all_of(order))
    assert answer.status_code == 200
    assert_is(answer.json()[0], "CancellationRequestResponse")
    assert [one["status"]["value"] for one in answer.json()] == ["open", "open"]
    assert browser.cancel(order, *all_of(order)).content == answer.content, "and the same to a repetition"
    call = ExternalCall.objects.get()
    assert (call.status, status(order)) == (then, Status.APPROVED)
    assert units(order) == [(0, 0, "approved")] * 2
    assert mails(order) == {"cancellation_requested": 1}
    assert books() == []

    later(call)
    call.refresh_from_db()
    requests = set(CancellationRequest.objects.values_list("status", flat=True))
    if done_there:
        assert (call.status, requests, status(order)) == (S.DONE, {"completed"}, Status.CANCELLED)
        assert mails(order) == {"cancellation_requested": 1, "order_cancelled": 1}
    else:
        assert (call.is_decided, requests, status(order)) == (True, {"open"}, Status.APPROVED)
    assert len(fake.posts()) <= 1, "nothing is asked twice"
    assert wide(order, fake) == done_there
    assert not Job.objects.filter(state="needs_attention").exists()
    assert books() == []


def test_a_person_who_approves_first_does_not_cancel_it_twice_over_there(
    fake: FakeOrderManagement, customer: User, browser: Browser, system: EventHandler, books: Books
) -> None:
    fake.fault("drop")
    order = factories.place_order([("10.00", 2), ("5.00", 1)], customer=customer, until="approved")
    browser.cancel(order, *all_of(order))
    first = CancellationRequest.objects.order_by("pk")[0]
    system.decide_request(request_id=first.pk, approve=True)
    jobs.drain(seconds=30)
    assert fake.cancelled(order.number) == {line.sku: line.quantity for line in order.lines.all()}
    assert len(fake.posts()) == 1, "the report has found out that there is nothing to report"
    assert set(CancellationRequest.objects.values_list("status", flat=True)) == {"completed"}
    assert units(order) == [(2, 0, "cancelled"), (1, 0, "cancelled")]
    assert books() == []


def test_a_request_that_was_declined_meanwhile_is_a_matter_for_people(
    fake: FakeOrderManagement, customer: User, browser: Browser, system: EventHandler, books: Books
) -> None:
    fake.fault("500")
    order = factories.place_order([("10.00", 2)], customer=customer, until="approved")
    browser.cancel(order, *all_of(order))
    system.decide_request(request_id=CancellationRequest.objects.get().pk, approve=False, note="It is packed.")
    later(ExternalCall.objects.get())
    assert units(order) == [(0, 0, "approved")], "the desk's decision stands"
    job = Job.objects.get(state="needs_attention")
    assert "declined" in job.last_error
    assert jobs.only_by_hand([job]) == {job.pk}
    assert books() == []


def test_a_yes_that_was_not_meant_comes_to_the_inbox(
    fake: FakeOrderManagement, customer: User, browser: Browser, books: Books
) -> None:
    fake.fault("lie")
    order = factories.place_order(customer=customer)
    assert browser.cancel(order, *all_of(order)).status_code == 204
    Job.objects.filter(kind="orders.external_lookup").update(run_at=timezone.now())
    jobs.drain(seconds=30)
    assert ExternalCall.objects.get().status == S.DISPUTED
    assert "now that it is not" in Job.objects.get(state="needs_attention").last_error
    assert (status(order), books()) == (Status.CANCELLED, [])


def test_nobody_waits_for_a_system_that_does_not_answer(
    fake: FakeOrderManagement, customer: User, browser: Browser, time_machine: Any
) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    fake.fault("500_deaf", "GET", times=3)
    for _n in range(4):
        order = factories.place_order(customer=customer)
        assert browser.cancel(order, *all_of(order)).status_code == 200
    assert len(fake.calls) == 3, "the fourth was not asked"
    time_machine.shift(31)
    fake.fault("500_deaf", "GET")
    for expected in (4, 4):  # one is let through, fails, and it is closed again
        order = factories.place_order(customer=customer)
        assert browser.cancel(order, *all_of(order)).status_code == 200
        assert len(fake.calls) == expected
    time_machine.shift(31)
    order = factories.place_order(customer=customer)
    assert browser.cancel(order, *all_of(order)).status_code == 204, "it answers again"


# --- processes die ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("was_sent", [False, True])
def test_a_worker_goes_on_where_the_door_died(
    was_sent: bool, fake: FakeOrderManagement, customer: User, browser: Browser, monkeypatch: Any, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], customer=customer, until="approved")

    class Killed(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> None:
        if was_sent:  # it was done over there, and the answer is lost with the process
            jobs.perform(
                jobs.claim(as_of=timezone.now() + timedelta(minutes=1), key=call_key(ExternalCall.objects.get()))
            )
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("orders.api.cancelling.wait_for", die)
        browser.cancel(order, *all_of(order))
    call = ExternalCall.objects.get()
    assert (call.status, units(order), books()) == (S.ASKED, [(0, 2, "cancellation_waiting")], [])
    now = timezone.now()
    Job.objects.filter(key=call_key(call), state="running").update(lease_until=now - timedelta(seconds=1))
    later(call)
    assert (units(order), status(order), wide(order, fake)) == ([(2, 0, "cancelled")], Status.CANCELLED, 2)
    assert len(fake.posts()) == 1
    assert browser.cancel(order, *all_of(order)).status_code == 204, "the client's repetition gets the outcome"
    assert books() == []


def test_what_nobody_has_answered_for_hours_is_looked_up(
    fake: FakeOrderManagement, customer: User, browser: Browser
) -> None:
    fake.fault("pending")
    order = factories.place_order(customer=customer)
    browser.cancel(order, *all_of(order))
    call = ExternalCall.objects.get()
    Job.objects.filter(key=call_key(call)).update(state="needs_attention")
    fake.confirm(str(call.uuid))
    look_up_overdue()
    assert not Job.objects.filter(kind="orders.external_lookup").exists(), "not before its time"
    ExternalCall.objects.update(created_at=timezone.now() - timedelta(hours=2))
    for _n in range(2):
        look_up_overdue()
        jobs.drain(seconds=30)
    assert status(order) == Status.CANCELLED
    assert not Job.objects.filter(state="needs_attention").exists(), "nobody has to look any more"


# --- what the desk decides is told afterwards ---------------------------------------------------------------------


def test_what_staff_cancel_is_reported_and_their_no_is_a_matter_for_people(
    fake: FakeOrderManagement, customer: User, system: EventHandler, work: Callable[[], int], books: Books
) -> None:
    good, bad, lost = (factories.place_order([("10.00", 2)], until="preparing") for _n in range(3))
    system.cancel(number=good.number or "", lines={good.lines.get().pk: 1})
    work()
    assert (wide(good, fake), ExternalCall.objects.get(order=good).status) == (1, S.DONE)
    fake.fault("refuse")
    system.cancel(number=bad.number or "")
    work()
    job = Job.objects.get(state="needs_attention", reference=bad.number)
    assert (job.last_error, jobs.only_by_hand([job])) == ("It is packed already.", {job.pk})
    fake.fault("drop")
    system.cancel(number=lost.number or "")
    work()
    later(ExternalCall.objects.get(order=lost))
    assert (wide(lost, fake), ExternalCall.objects.get(order=lost).status) == (2, S.DONE)
    assert [status(order) for order in (good, bad, lost)] == ["preparing", "cancelled", "cancelled"]
    assert books() == []


def test_a_person_says_what_it_did_where_it_never_answers(
    fake: FakeOrderManagement, customer: User, browser: Browser, admin_actor: Actor, client: Client, books: Books
) -> None:
    fake.fault("pending", times=2)
    orders = [factories.place_order(customer=customer, until="approved") for _n in range(2)]
    client.force_login(admin_actor.user)
    for order, name in zip(orders, ("cancelled-there", "not-cancelled-there"), strict=True):
        browser.cancel(order, *all_of(order))
        url = reverse("admin:orders_order_do", args=(order.pk, name))
        assert url in client.get(reverse("admin:orders_order_change", args=(order.pk,))).content.decode()
        version = Order.objects.get(pk=order.pk).version
        sent = {"version": version, "note": "They say so on the telephone."}
        assert client.post(url, sent).status_code == 302
        assert client.post(url, {**sent, "version": version + 2}).status_code in {200, 409}, "it has been settled"
    assert [status(order) for order in orders] == [Status.CANCELLED, Status.APPROVED]
    assert CancellationRequest.objects.get().order_id == orders[1].pk
    assert JournalEntry.objects.filter(order=orders[0], note="They say so on the telephone.").exists()
    assert books() == []


def test_pictures_of_a_wish_come_with_the_request(
    fake: FakeOrderManagement, customer: User, browser: Browser, settings: Any
) -> None:
    settings.ORDER_MANAGEMENT_URL = "http://127.0.0.1:9"
    drawn = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(drawn, "PNG")
    picture = {"image": base64.b64encode(drawn.getvalue()).decode()}
    order = factories.place_order(customer=customer)
    asked = wish(order.lines.get(), cancellation_request_image_set=[picture])
    assert browser.cancel(order, asked).status_code == 200
    kept = RequestPicture.objects.get()
    assert ((kept.width, kept.height), ExternalCall.objects.get().pictures) == ((8, 6), [])


def test_what_is_missing_in_the_settings_is_said_at_start(settings: Any) -> None:
    assert check_order_management(None) == []
    settings.ORDER_MANAGEMENT, settings.ORDER_MANAGEMENT_SECRET = GATEWAY, "whsec_c2hvcnQ="
    settings.ADDRESS_CHANGE_APPROVAL_STATUSES = ["packed"]
    assert [error.id for error in check_order_management(None)] == ["orders.E009", "orders.E009", "orders.E010"]
    settings.ORDER_MANAGEMENT = "orders.gateways.Reply"
    assert "lacks" in check_order_management(None)[0].msg
    settings.ORDER_MANAGEMENT = "nowhere.Gateway"
    assert "nowhere" in check_order_management(None)[0].msg


def test_without_another_system_nothing_is_written_for_it(customer: User, browser: Browser) -> None:
    order = factories.place_order(customer=customer)
    assert browser.cancel(order, *all_of(order)).status_code == 204
    assert not ExternalCall.objects.exists()
    assert not Job.objects.filter(kind__startswith="orders.external").exists()


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.race
def test_the_same_cancellation_many_times_at_once_is_one_call_and_one_answer(
    fake: FakeOrderManagement, at_once: Callable[..., list[Any]], settings: Any, books: Books
) -> None:
    settings.ORDER_MANAGEMENT_TIMEOUT_SECONDS = 3
    hands = 50 if connection.vendor == "postgresql" else 8
    customer = new_customer()
    order = factories.place_order([("10.00", 2)], customer=customer)
    first, tabs = Browser(customer), []
    for _n in range(hands):
        tab = Browser()
        tab.client.cookies.load({name: morsel.value for name, morsel in first.client.cookies.items()})
        tabs.append(tab)
    body = wish(order.lines.get())
    answers = at_once(*[lambda tab=tab: tab.cancel(order, body) for tab in tabs])
    assert Counter(answer.status_code for answer in answers) == {204: hands}
    assert (len(fake.posts()), wide(order, fake), ExternalCall.objects.count()) == (1, 2, 1)
    assert units(order) == [(2, 0, "cancelled")]
    assert JournalEntry.objects.filter(order=order, verb="cancel").count() == 1

    # The control: without a common body the order's lock alone decides, and the others are refused in words.
    other = factories.place_order([("10.00", 2)], customer=customer)
    line = other.lines.get()
    bodies = [wish(line, description=f"tab {n}") for n in range(5)]
    answers = at_once(*[lambda tab=t, b=b: tab.cancel(other, b) for t, b in zip(tabs, bodies, strict=False)])
    assert Counter(answer.status_code for answer in answers) == {204: 1, 400: 4}
    assert (len(fake.posts()), wide(other, fake)) == (2, 2)
    jobs.drain(seconds=30)
    assert books() == []
