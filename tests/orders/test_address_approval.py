"""A customer's new address that a person, or another system, has to agree to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from checkout.models import Address
from notifications.models import Message
from orders.models import AddressChange, ExternalCall, Order
from orders.processing import EventHandler, get_event_handler
from orders.processing.calls import call_key
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories
from tests.orders.fake_order_management import FakeOrderManagement, tell
from tests.orders.storefront import Browser, assert_errors, assert_is, new_customer

pytestmark = pytest.mark.django_db
Books = Callable[[], list[str]]
C, S = AddressChange.Status, ExternalCall.Status


@pytest.fixture
def customer(db: None) -> User:
    return new_customer()


def entry(customer: User, line: str) -> int:
    fields = {"first_name": "Ada", "last_name": "Lovelace", "postcode": "10117", "city": "Berlin", "country": "DE"}
    now = timezone.now()
    return Address.objects.create(customer=customer, line=line, created_at=now, updated_at=now, **fields).pk


def wish(customer: User, order: Order, line: str = "Unter den Linden 1", *types: str) -> Any:
    """The customer wants it sent there."""
    entry_id = Address.objects.filter(customer=customer, line=line).values_list("pk", flat=True).first()
    body = {
        "order": order.pk,
        "address": entry_id or entry(customer, line),
        "order_address_types": types or ["shipping"],
    }
    return Browser(customer).post("/orders/address_change/", body)


def told(answer: Any) -> int:
    assert answer.status_code == 200, answer.content
    assert_is(answer.json(), "OrderAddressChangeResponse")
    return int(answer.json()["status"])


def goes_to(order: Order) -> str:
    return Order.objects.select_related("shipping_address").get(pk=order.pk).shipping_address.line


def mails(order: Order) -> Counter[str]:
    events = Message.objects.filter(reference=order.number, event__startswith="address").values_list("event", flat=True)
    return Counter(events)


def statuses() -> list[str]:
    return list(AddressChange.objects.order_by("pk").values_list("status", flat=True))


# --- a person decides -------------------------------------------------------------------------------------------------


def test_what_is_being_prepared_keeps_its_address_until_a_person_has_agreed(
    customer: User, staff: Callable[..., User], store: Store, client: Client, books: Books
) -> None:
    order = factories.place_order(store=store, customer=customer, until="preparing")
    assert [told(wish(customer, order)) for _n in range(3)] == [202] * 3, "the same again is the same answer"
    assert (goes_to(order), statuses()) == ("Sonnenallee 1", [C.WAITING])
    assert mails(order) == {"address_change_requested": 1}
    assert order.journal.latest("sequence").verb == "ask_address"
    change = AddressChange.objects.get()

    client.force_login(staff("Customer Service"))
    page = client.get(reverse("admin:orders_order_change", args=(order.pk,))).content.decode()
    approve = reverse("admin:orders_addresschange_do", args=(change.pk, "approve"))
    assert "Unter den Linden 1" in page
    assert approve in page
    assert approve in client.get(reverse("admin:orders_addresschange_changelist")).content.decode()
    assert b"Unter den Linden 1" in client.get(approve).content
    version = Order.objects.get(pk=order.pk).version
    assert client.post(approve, {"version": version, "note": ""}).status_code == 302
    assert (goes_to(order), statuses(), told(wish(customer, order))) == ("Unter den Linden 1", [C.DONE], 200)
    assert mails(order) == {"address_change_requested": 1, "address_changed": 1}
    assert Order.objects.get(pk=order.pk).readdress_at is None
    assert books() == []


def test_a_rejection_needs_a_reason_and_the_customer_reads_it(customer: User, admin_actor: Actor, books: Books) -> None:
    order = factories.place_order(customer=customer, until="preparing")
    wish(customer, order)
    change = AddressChange.objects.get()
    with pytest.raises(Refused, match="Tell the customer why"):
        get_event_handler(admin_actor).decide_address(change_id=change.pk, approve=False)
    get_event_handler(admin_actor).decide_address(change_id=change.pk, approve=False, note="The label is printed.")
    with pytest.raises(Refused, match="answered already"):
        get_event_handler(admin_actor).decide_address(change_id=change.pk, approve=True)
    assert (goes_to(order), statuses(), order.journal.latest("sequence").verb) == (
        "Sonnenallee 1",
        [C.REJECTED],
        "reject_address",
    )
    letter = Message.objects.get(event="address_change_rejected")
    assert letter.context["reason"] == "The label is printed."
    assert books() == []


def test_who_may_not_readdress_orders_decides_nothing(
    customer: User, staff: Callable[..., User], store: Store, client: Client
) -> None:
    order = factories.place_order(store=store, customer=customer, until="preparing")
    wish(customer, order)
    change = AddressChange.objects.get()
    somebody = staff("Fulfilment", store)
    somebody.groups.get().permissions.remove(*somebody.groups.get().permissions.filter(codename="readdress_order"))
    elsewhere = staff("Store Manager", factories.StoreFactory())
    for user, status in ((somebody, 403), (elsewhere, 404)):
        client.force_login(user)
        url = reverse("admin:orders_addresschange_do", args=(change.pk, "approve"))
        assert client.post(url, {"version": 9, "note": ""}).status_code == status
        with pytest.raises(Refused):
            get_event_handler(Actor.staff(user)).decide_address(change_id=change.pk, approve=True)
    with pytest.raises(Refused):
        get_event_handler(Actor.customer(customer)).decide_address(change_id=change.pk, approve=True)
    assert (goes_to(order), statuses()) == ("Sonnenallee 1", [C.WAITING])


def test_a_newer_wish_replaces_it_and_shipping_overtakes_it(
    customer: User, system: EventHandler, work: Callable[[], int], books: Books
) -> None:
    order = factories.place_order(customer=customer, until="paid")
    assert told(wish(customer, order)) == 202
    assert told(wish(customer, order, "Unter den Linden 2", "shipping", "billing")) == 202
    assert statuses() == [C.SUPERSEDED, C.WAITING]
    system.ship(number=order.number or "")
    assert (statuses(), goes_to(order)) == ([C.SUPERSEDED, C.OVERTAKEN], "Sonnenallee 1")
    assert mails(order) == {"address_change_requested": 2, "address_change_rejected": 1}
    assert assert_errors(wish(customer, order), 400)["error_code"] == ["order_100_3"]
    ended = factories.place_order(customer=customer, until="preparing")
    wish(customer, ended)
    system.cancel(number=ended.number or "")
    assert statuses()[-1] == C.OVERTAKEN
    work()
    assert books() == []


def test_the_statuses_that_need_approval_are_a_setting(customer: User, settings: Any) -> None:
    settings.ADDRESS_CHANGE_APPROVAL_STATUSES = ["approved"]
    one, two = factories.place_order(customer=customer, until="approved"), factories.place_order(customer=customer)
    assert (told(wish(customer, one)), told(wish(customer, two))) == (202, 200)


def test_staff_who_change_it_themselves_settle_the_wish(customer: User, admin_actor: Actor, books: Books) -> None:
    order = factories.place_order(customer=customer, until="preparing")
    wish(customer, order)
    handler = get_event_handler(admin_actor)
    handler.change_address(number=order.number or "", address=factories.address(city="Kiel"))
    assert (statuses(), Order.objects.get(pk=order.pk).readdress_at, books()) == ([C.SUPERSEDED], None, [])


# --- another system decides -------------------------------------------------------------------------------------------


def again(call: ExternalCall, work: Callable[[], int]) -> None:
    Job.objects.filter(key=call_key(call), state="waiting").update(run_at=timezone.now())
    work()


# fault → (what the customer is told, the change then, where it goes after it has been looked up)
ANSWERS = {
    "": (200, C.DONE, "Unter den Linden 1"),
    "pending": (202, C.ASKED, "Sonnenallee 1"),
    "refuse": (409, C.REJECTED, "Sonnenallee 1"),
    "500_deaf": (202, C.WAITING, "Sonnenallee 1"),
    "drop": (202, C.WAITING, "Unter den Linden 1"),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_its_http_status_is_the_answer_and_what_fails_waits_for_a_person(
    fault: str, fake: FakeOrderManagement, customer: User, work: Callable[[], int], books: Books
) -> None:
    answer, then, at_last = ANSWERS[fault]
    if fault:
        fake.fault(fault)
    order = factories.place_order(customer=customer)
    assert told(wish(customer, order)) == answer
    assert statuses() == [then]
    if fault != "refuse":
        assert told(wish(customer, order)) == answer, "a repetition asks nothing"
    assert len(fake.posts()) == 1
    assert (
        mails(order)
        == {
            C.DONE: {"address_changed": 1},
            C.ASKED: {},
            C.REJECTED: {"address_change_rejected": 1},
            C.WAITING: {"address_change_requested": 1},
        }[then]
    )
    again(ExternalCall.objects.get(), work)
    assert goes_to(order) == at_last
    assert not Job.objects.filter(state="needs_attention").exists()
    assert books() == []


def test_a_late_answer_is_applied_or_left_to_people(
    fake: FakeOrderManagement, customer: User, client: Client, system: EventHandler, settings: Any, work: Any
) -> None:
    settings.ADDRESS_CHANGE_APPROVAL_STATUSES = []
    one, two = (factories.place_order(customer=customer, until="paid") for _n in range(2))
    fake.fault("pending", times=2)
    assert [told(wish(customer, order)) for order in (one, two)] == [202, 202]
    keys = {call.order_id: str(call.uuid) for call in ExternalCall.objects.all()}
    system.ship(number=two.number or "")
    for order in (one, two):
        tell(client, "address.changed", key=keys[order.pk])
    work()
    assert [goes_to(order) for order in (one, two)] == ["Unter den Linden 1", "Sonnenallee 1"]
    assert statuses() == [C.DONE, C.OVERTAKEN]
    assert Job.objects.filter(kind="orders.external_conflict", state="needs_attention").count() == 1


def test_what_staff_decide_is_reported(
    fake: FakeOrderManagement, customer: User, admin_actor: Actor, work: Callable[[], int], books: Books
) -> None:
    order = factories.place_order(customer=customer, until="preparing")
    assert told(wish(customer, order)) == 202
    assert fake.calls == [], "a person is asked first"
    get_event_handler(admin_actor).decide_address(change_id=AddressChange.objects.get().pk, approve=True)
    handler = get_event_handler(admin_actor)
    fake.fault("refuse", "POST")
    work()
    assert Job.objects.get(state="needs_attention").last_error == "It is packed already."
    handler.change_address(number=order.number or "", address=factories.address(city="Kiel"))
    work()
    sent = [body for state, body in fake.requests.values() if state == "done"]
    assert [body["address"]["city"] for body in sent] == ["Kiel"]
    assert sent[0]["types"] == ["shipping"]
    assert books() == []
