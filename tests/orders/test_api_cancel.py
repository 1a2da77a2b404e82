"""A customer cancels: at once, or by asking; and everything that is refused changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from orders.models import CancellationReason, CancellationRequest, JournalEntry, Order, OrderLine, Status
from orders.processing import EventHandler
from payments.models import Payment
from shop.models import IdempotencyKey, User
from tests import factories
from tests.orders.storefront import Browser, assert_errors, assert_is, facts_of, new_customer, responses_of

Place = Callable[..., Order]
pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> User:
    return new_customer()


@pytest.fixture
def browser(customer: User) -> Browser:
    return Browser(customer)


def item(line: OrderLine, kind: str = "cancel", reason: Any = 1, **more: Any) -> dict[str, Any]:
    if reason == 1:
        reason = CancellationReason.objects.get(code="changed_mind").pk
    return {"order_item": line.pk, "cancellation_type": kind, "reason": reason, **more}


def all_of(order: Order, **more: Any) -> list[dict[str, Any]]:
    return [item(line, **more) for line in order.lines.all()]


# --- at once ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", ["", "approved"])
def test_an_order_nobody_has_begun_to_prepare_is_cancelled_at_once(
    until: str, place: Place, customer: User, browser: Browser, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    order = place([("10.00", 2), ("5.00", 1)], customer=customer, until=until)
    response = browser.cancel(order, *all_of(order))
    assert (response.status_code, response.content) == (204, b"")
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
    assert not CancellationRequest.objects.exists()
    work()
    assert Payment.objects.get(reference=order.number).voided == order.total
    assert factories.record_of(order.lines.first().product).allocated == 0
    assert books() == []


def test_an_unpaid_order_is_cancelled_at_once(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer, gateway="manual", pay=False)
    assert order.status == Status.PAYMENT_WAITING
    assert browser.cancel(order, *all_of(order)).status_code == 204


def test_some_units_are_cancelled_and_the_rest_later(
    place: Place, customer: User, browser: Browser, books: Callable[[], list[str]]
) -> None:
    order = place([("10.00", 3), ("5.00", 1)], customer=customer)
    first, second = order.lines.all()
    assert browser.cancel(order, item(first, quantity=1)).status_code == 204
    first.refresh_from_db()
    assert (first.cancelled, Order.objects.get(pk=order.pk).status) == (1, Status.CONFIRMATION_WAITING)
    assert browser.cancel(order, item(first)).status_code == 204, "no quantity: all that are left"
    first.refresh_from_db()
    assert (first.cancelled, first.status) == (3, Status.CANCELLED)
    assert browser.cancel(order, item(second)).status_code == 204
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
    assert books() == []


def test_the_journal_keeps_who_asked_for_what_and_why(place: Place, customer: User, browser: Browser) -> None:
    order = place([("10.00", 1), ("5.00", 1)], customer=customer)
    one, two = order.lines.all()
    other = CancellationReason.objects.get(code="better_price")
    browser.cancel(order, item(one, description="too big"), item(two, reason=other.pk, description=None))
    entry = JournalEntry.objects.filter(order=order).latest("sequence")
    assert (entry.verb, entry.reason, entry.actor_kind, entry.user_id) == (
        "cancel",
        "changed_mind",
        "customer",
        customer.pk,
    )
    assert entry.note == "Changed mind: too big"
    assert [wish["reason"] for wish in entry.details["wishes"]] == ["changed_mind", "better_price"]
    assert order.shipping_events.filter(event_type__code="cancelled").count() == 1


def test_ids_may_be_strings_and_unknown_keys_are_ignored(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    reason = CancellationReason.objects.get(code="changed_mind")
    line = order.lines.get()
    wish = {
        "order_item": str(line.pk),
        "cancellation_type": "cancel",
        "reason": str(reason.pk),
        "description": "",
        "x": [1],
    }
    body = {"cancel_order_items": [wish], "id": order.number, "return_policy": True, "pickup_address": None}
    assert browser.post(f"/orders/{order.number}/cancel/", body).status_code == 204


# --- for a person to decide -------------------------------------------------------------------------------------------


def test_what_is_being_prepared_becomes_requests(place: Place, customer: User, browser: Browser) -> None:
    order = place([("10.00", 2), ("5.00", 1)], customer=customer, until="preparing")
    response = browser.cancel(order, *all_of(order, description="please"))
    assert response.status_code == 200
    for body in response.json():
        assert_is(body, "CancellationRequestResponse")
    assert [body["order_item"] for body in response.json()] == [line.pk for line in order.lines.all()]
    assert {body["status"]["value"] for body in response.json()} == {"open"}
    assert Order.objects.get(pk=order.pk).status == Status.PREPARING
    assert not any(line.cancelled for line in order.lines.all())
    assert JournalEntry.objects.filter(order=order).latest("sequence").verb == "request_cancellation"


@pytest.mark.parametrize("until", ["shipped", "delivered"])
def test_shipped_goods_can_be_sent_back_on_request(until: str, place: Place, customer: User, browser: Browser) -> None:
    order = place([("10.00", 2)], customer=customer, until=until)
    response = browser.cancel(order, item(order.lines.get(), "refund"))
    assert response.status_code == 200
    assert response.json()[0]["cancellation_type"] == {"value": "refund", "label": "Refund"}
    assert CancellationRequest.objects.get().quantity == 2


def test_a_return_and_a_cancellation_together_are_requests_both(
    place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    order = place([("10.00", 1), ("5.00", 1)], customer=customer, until="paid")
    one, two = order.lines.all()
    system.ship(number=order.number or "", lines={one.pk: 1})
    response = browser.cancel(order, item(one, "refund"), item(two, "cancel"))
    assert response.status_code == 200
    assert len(response.json()) == CancellationRequest.objects.count() == 2


def test_a_rejected_request_can_be_made_again(
    place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    order = place(customer=customer, until="preparing")
    pk = browser.cancel(order, item(order.lines.get())).json()[0]["pk"]
    system.decide_request(request_id=pk, approve=False, note="too late")
    assert browser.cancel(order, item(order.lines.get(), description="really")).status_code == 200


# --- never ------------------------------------------------------------------------------------------------------------


def refused(browser: Browser, order: Order, *items: dict[str, Any]) -> list[str]:
    before = facts_of(order)
    answered = assert_errors(browser.cancel(order, *items), 400)
    assert facts_of(order) == before
    assert not IdempotencyKey.objects.filter(scope__contains=f":cancel:{order.pk}", status__gte=400).exists()
    return answered["non_field_errors"]


def test_a_cancelled_order_says_so(place: Place, customer: User, browser: Browser, system: EventHandler) -> None:
    order = place(customer=customer)
    system.cancel(number=order.number or "")
    assert refused(browser, order, *all_of(order)) == ["Order already cancelled!"]
    assert refused(browser, order, *all_of(order, kind="refund")) == ["Order already cancelled!"]


def test_a_second_request_for_an_item_says_that_one_is_in_progress(
    place: Place, customer: User, browser: Browser
) -> None:
    order = place([("10.00", 2), ("5.00", 1)], customer=customer, until="preparing")
    one, two = order.lines.all()
    browser.cancel(order, item(one))
    assert refused(browser, order, item(one, description="again")) == ["Order cancellation already in progress."]
    assert refused(browser, order, item(one), item(two)) == ["Order cancellation already in progress."]
    assert browser.cancel(order, item(two)).status_code == 200, "another item may be asked for"


@pytest.mark.parametrize("until", ["shipped", "delivered"])
def test_what_has_shipped_is_not_cancelled(until: str, place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer, until=until)
    assert refused(browser, order, *all_of(order)) == ["Order can't be cancelled in this status."]


def test_an_item_that_has_shipped_is_named(
    place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    order = place([("10.00", 1), ("5.00", 1)], customer=customer, until="paid")
    one, two = order.lines.all()
    system.ship(number=order.number or "", lines={one.pk: 1})
    words = f"Order Item ({one.name}) can't be cancelled in this status."
    assert refused(browser, order, item(one), item(two)) == [words]
    assert refused(browser, order, item(two, "refund")) == [
        f"Order Item ({two.name}) can't be cancelled in this status."
    ]


def test_more_units_than_are_left_are_refused_with_how_many_there_are(
    place: Place, customer: User, browser: Browser
) -> None:
    order = place([("10.00", 3)], customer=customer)
    line = order.lines.get()
    browser.cancel(order, item(line, quantity=1))
    before = facts_of(order)
    answered = assert_errors(browser.cancel(order, item(line, quantity=3)), 400)
    assert answered["cancel_order_items.0.quantity"] == ["Only 2 are left."]
    assert answered["max_quantity"] == ["2"]
    assert facts_of(order) == before


# --- the shop's own rules ---------------------------------------------------------------------------------------------


def test_after_the_time_limit_it_is_refused(place: Place, customer: User, browser: Browser, settings: Any) -> None:
    settings.EXTRA_CANCEL_RULES = {"hour_gap": {"is_active": True, "time": 60}}
    with time_machine.travel(timezone.now(), tick=False) as clock:
        browser = Browser(customer)
        order = place([("10.00", 2)], customer=customer)
        clock.move_to(order.placed_at + timedelta(minutes=60))
        assert browser.cancel(order, item(order.lines.get(), quantity=1)).status_code == 204
        clock.shift(timedelta(seconds=1))
        assert refused(browser, order, item(order.lines.get())) == ["Order cancellation expired."]
        settings.CANCELLATION_FALLBACK_RULES = {"expired": True}
        assert browser.cancel(order, item(order.lines.get())).status_code == 200


def test_an_invoiced_order_is_refused_where_the_shop_says_so(
    place: Place, customer: User, browser: Browser, settings: Any
) -> None:
    order = place([("10.00", 2)], customer=customer, extra={"invoice_number": "R-1"})
    assert browser.cancel(order, item(order.lines.get(), quantity=1)).status_code == 204
    settings.EXTRA_CANCEL_RULES = {"has_invoice": True}
    assert refused(browser, order, item(order.lines.get())) == ["Invoiced orders can not cancel"]


@pytest.mark.parametrize("named", ["preparing", 450, "450"])
def test_a_shop_may_cancel_further_statuses_at_once(
    named: Any, place: Place, customer: User, browser: Browser, settings: Any, books: Callable[[], list[str]]
) -> None:
    settings.EXTRA_CANCEL_RULES = {"extra_direct_cancellable_statuses": [named]}
    order = place(customer=customer, until="preparing")
    assert browser.cancel(order, *all_of(order)).status_code == 204
    assert books() == []


def test_a_shop_may_make_no_requests_of_what_is_being_prepared(
    place: Place, customer: User, browser: Browser, settings: Any
) -> None:
    settings.CANCELLATION_FALLBACK_RULES = {"status": False}
    order = place(customer=customer, until="preparing")
    assert refused(browser, order, *all_of(order)) == ["Order can't be cancelled in this status."]


# --- who --------------------------------------------------------------------------------------------------------------


def test_nobody_is_401_and_nothing_happens(place: Place, customer: User) -> None:
    order = place(customer=customer)
    before = facts_of(order)
    response = Browser().cancel(order, *all_of(order))
    assert_errors(response, 401)
    assert response["WWW-Authenticate"].startswith("Session")
    assert facts_of(order) == before


def test_without_the_csrf_token_it_is_403(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    before = facts_of(order)
    body = {"cancel_order_items": all_of(order)}
    assert_errors(browser.client.post(f"/orders/{order.number}/cancel/", body, format="json"), 403)
    assert facts_of(order) == before


@pytest.mark.parametrize("whose", ["another customer's", "a guest's", "nobody's"])
def test_an_order_that_is_not_ones_own_is_404_before_the_body_is_read(
    whose: str, place: Place, browser: Browser
) -> None:
    owner = new_customer() if whose == "another customer's" else None
    order = place(customer=owner)
    number = "1" if whose == "nobody's" else order.number
    before = facts_of(order)
    for body in ({"cancel_order_items": all_of(order)}, {}, [], "?"):
        assert_errors(browser.post(f"/orders/{number}/cancel/", body), 404)
    assert facts_of(order) == before


def test_staff_see_only_their_own_orders_here(place: Place) -> None:
    boss = new_customer(is_staff=True, is_superuser=True)
    order = place(customer=new_customer())
    assert_errors(Browser(boss).cancel(order, *all_of(order)), 404)


@pytest.mark.parametrize("number", ["%00", "a%00b", "x", "1" * 200, "-1", "１"])
def test_numbers_that_are_none_are_404(number: str, browser: Browser) -> None:
    assert_errors(browser.post(f"/orders/{number}/cancel/", {}), 404)


# --- bad input --------------------------------------------------------------------------------------------------------

ONE = "cancel_order_items.0"
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"quantity": 0}, f"{ONE}.quantity"),
    ({"quantity": -1}, f"{ONE}.quantity"),
    ({"quantity": 3}, f"{ONE}.quantity"),
    ({"quantity": 10**30}, f"{ONE}.quantity"),
    ({"quantity": "two"}, f"{ONE}.quantity"),
    ({"quantity": 1.5}, f"{ONE}.quantity"),
    ({"quantity": True}, f"{ONE}.quantity"),
    ({"quantity": [1]}, f"{ONE}.quantity"),
    ({"order_item": 0}, f"{ONE}.order_item"),
    ({"order_item": -5}, f"{ONE}.order_item"),
    ({"order_item": 10**30}, f"{ONE}.order_item"),
    ({"order_item": None}, f"{ONE}.order_item"),
    ({"order_item": "abc"}, f"{ONE}.order_item"),
    ({"order_item": {}}, f"{ONE}.order_item"),
    ({"order_item": 2**63 - 1}, f"{ONE}.order_item"),
    ({"reason": 999_999}, f"{ONE}.reason"),
    ({"reason": 10**30}, f"{ONE}.reason"),
    ({"reason": ""}, f"{ONE}.reason"),
    ({"reason": None}, f"{ONE}.reason"),
    ({"cancellation_type": "steal"}, f"{ONE}.cancellation_type"),
    ({"cancellation_type": None}, f"{ONE}.cancellation_type"),
    ({"cancellation_type": ["cancel"]}, f"{ONE}.cancellation_type"),
    ({"description": "nul\x00l"}, f"{ONE}.description"),
    ({"description": "x" * 2001}, f"{ONE}.description"),
    ({"description": {}}, f"{ONE}.description"),
    ({"cancellation_type": "refund", "shipping_company": 1}, f"{ONE}.shipping_company"),
    ({"pickup_date": {"date": "2026-02-30", "hour_range": {"start": "9", "end": "12"}}}, f"{ONE}.pickup_date.date"),
    ({"pickup_date": {"date": "2026-02-20", "hour_range": {"start": "9"}}}, f"{ONE}.pickup_date.hour_range.end"),
    ({"cancellation_request_image_set": [{"image": "aGk="}]}, f"{ONE}.cancellation_request_image_set.0.image"),
    ({"cancellation_request_image_set": [{}]}, f"{ONE}.cancellation_request_image_set.0.image"),
]


@pytest.mark.parametrize(("fields", "told"), BAD_FIELDS, ids=[str(fields)[:50] for fields, _told in BAD_FIELDS])
def test_a_wrong_field_is_told_by_name_and_nothing_happens(
    fields: dict[str, Any], told: str, place: Place, customer: User, browser: Browser
) -> None:
    order = place([("10.00", 2)], customer=customer)
    before = facts_of(order)
    answered = assert_errors(browser.cancel(order, {**item(order.lines.get()), **fields}), 400)
    assert told in answered or "non_field_errors" in answered
    assert facts_of(order) == before


BAD_BODIES: list[Any] = [
    {},
    [],
    "text",
    5,
    None,
    {"cancel_order_items": []},
    {"cancel_order_items": None},
    {"cancel_order_items": {}},
    {"cancel_order_items": "x"},
    {"cancel_order_items": [None]},
    {"cancel_order_items": [[]]},
    {"cancel_order_items": [{}]},
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=str)
def test_a_wrong_body_is_400(body: Any, place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    before = facts_of(order)
    assert_errors(browser.post(f"/orders/{order.number}/cancel/", body), 400)
    assert facts_of(order) == before


def test_an_address_that_is_not_the_customers_is_refused(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    body = {"cancel_order_items": all_of(order), "pickup_address": 5}
    assert "pickup_address" in assert_errors(browser.post(f"/orders/{order.number}/cancel/", body), 400)


def test_the_same_line_twice_and_foreign_lines_are_refused(place: Place, customer: User, browser: Browser) -> None:
    order, other = place(customer=customer), place(customer=customer)
    line, foreign = order.lines.get(), other.lines.get()
    before = facts_of(order), facts_of(other)
    twice = assert_errors(browser.cancel(order, item(line, quantity=1), item(line, quantity=1)), 400)
    assert twice == {"cancel_order_items.1.order_item": ["This item is named twice."], "error_code": ["invalid"]}
    wrong = assert_errors(browser.cancel(order, item(line), item(foreign)), 400)
    words = ["This is not an item of this order."]
    assert wrong == {"cancel_order_items.1.order_item": words, "error_code": ["invalid"]}
    assert (facts_of(order), facts_of(other)) == before


@pytest.mark.parametrize("change", [{"is_active": False}, {"shown_to_customers": False}])
def test_a_reason_that_is_off_or_only_for_staff_is_refused(
    change: dict[str, Any], place: Place, customer: User, browser: Browser
) -> None:
    order = place(customer=customer)
    CancellationReason.objects.filter(code="changed_mind").update(**change)
    assert f"{ONE}.reason" in assert_errors(browser.cancel(order, *all_of(order)), 400)


@pytest.mark.parametrize(
    ("raw", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"cancel_order_items": NaN}', "application/json", 400),
        (b'{"a":' * 100_000, "application/json", 400),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", 400),
        (b"cancel_order_items=1", "application/x-www-form-urlencoded", 415),
        (b"<a/>", "application/xml", 415),
    ],
    ids=["cut off", "empty", "not UTF-8", "NaN", "deep and cut off", "deep", "form", "xml"],
)
def test_what_is_no_json_is_refused(
    raw: bytes, kind: str, status: int, place: Place, customer: User, browser: Browser
) -> None:
    order = place(customer=customer)
    token = browser.get("/csrf_token/").json()["csrf_token"]
    headers = {"X-CSRFToken": token}
    response = browser.client.post(f"/orders/{order.number}/cancel/", raw, content_type=kind, headers=headers)
    assert_errors(response, status)


def test_half_a_character_is_refused(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    raw = json.dumps({"cancel_order_items": all_of(order, description="\ud800")}).encode()
    token = browser.get("/csrf_token/").json()["csrf_token"]
    path, headers = f"/orders/{order.number}/cancel/", {"X-CSRFToken": token}
    response = browser.client.post(path, raw, content_type="application/json", headers=headers)
    assert f"{ONE}.description" in assert_errors(response, 400)


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_other_methods_are_405(method: str, place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    token = browser.get("/csrf_token/").json()["csrf_token"]
    call = getattr(browser.client, method)
    assert_errors(call(f"/orders/{order.number}/cancel/", headers={"X-CSRFToken": token}), 405)


# --- again ------------------------------------------------------------------------------------------------------------


def test_the_same_body_again_gets_the_first_answer_and_does_nothing(
    place: Place, customer: User, browser: Browser
) -> None:
    order = place([("10.00", 3)], customer=customer)
    wish = item(order.lines.get(), quantity=1)
    assert browser.cancel(order, wish).status_code == 204
    before = facts_of(order)
    again = browser.cancel(order, wish)
    assert (again.status_code, again.content, again["Idempotency-Replayed"]) == (204, b"", "true")
    assert facts_of(order) == before


def test_repeated_requests_get_the_same_list(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer, until="preparing")
    first, again = (browser.cancel(order, item(order.lines.get())) for _n in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert CancellationRequest.objects.count() == 1


def test_after_ten_minutes_the_same_body_is_a_new_wish(place: Place, customer: User) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        browser = Browser(customer)
        order = place([("10.00", 3)], customer=customer)
        wish = item(order.lines.get(), quantity=1)
        browser.cancel(order, wish)
        clock.shift(timedelta(minutes=10))
        browser.cancel(order, wish)
        assert order.lines.get().cancelled == 1
        clock.shift(timedelta(seconds=1))
        browser.cancel(order, wish)
        assert order.lines.get().cancelled == 2


def test_a_key_makes_the_same_body_a_new_wish_and_another_body_an_error(
    place: Place, customer: User, browser: Browser
) -> None:
    order = place([("10.00", 4)], customer=customer)
    wish = item(order.lines.get(), quantity=1)
    for key, cancelled in (("a", 1), ("b", 2), ("a", 2)):
        assert browser.cancel(order, wish, headers={"Idempotency-Key": key}).status_code == 204
        assert order.lines.get().cancelled == cancelled
    answered = assert_errors(browser.cancel(order, {**wish, "quantity": 2}, headers={"Idempotency-Key": "a"}), 422)
    assert answered["error_code"] == ["idempotency_key_reused"]


def test_another_customers_key_is_another_key(place: Place, customer: User, browser: Browser) -> None:
    other = new_customer()
    mine, theirs = place(customer=customer), place(customer=other)
    for who, order in ((browser, mine), (Browser(other), theirs)):
        assert who.cancel(order, *all_of(order), headers={"Idempotency-Key": "same"}).status_code == 204
    assert Order.objects.filter(status=Status.CANCELLED).count() == 2


def test_a_refused_wish_can_be_tried_again(place: Place, customer: User, browser: Browser, settings: Any) -> None:
    settings.CANCELLATION_FALLBACK_RULES = {"status": False}
    order = place(customer=customer, until="preparing")
    for _n in range(4):
        refused(browser, order, *all_of(order))
    settings.CANCELLATION_FALLBACK_RULES = {}
    assert browser.cancel(order, *all_of(order)).status_code == 200


def test_every_documented_status_is_reached() -> None:
    """By the tests above: 204, 200, 400, 401 and 404 are all the seed has."""
    assert set(responses_of("/orders/{order_number}/cancel/")) == {"200", "204", "400", "401", "404"}
