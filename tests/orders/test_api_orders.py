"""A customer looks at their orders: the list, one of them, what may be done, and a guest's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.models import CancellationReason, Order
from orders.processing import EventHandler
from shop.models import User
from tests import factories
from tests.orders.storefront import Browser, assert_errors, assert_is, new_customer

Place = Callable[..., Order]
pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> User:
    return new_customer()


@pytest.fixture
def browser(customer: User) -> Browser:
    return Browser(customer)


def shown(browser: Browser, order: Order) -> Any:
    response = browser.get(f"/users/orders/{order.pk}/")
    assert response.status_code == 200, response.content
    return response.json()


# --- one order --------------------------------------------------------------------------------------------------------


def test_an_order_is_shown_in_the_contracts_shape(place: Place, customer: User, browser: Browser) -> None:
    order = place([("10.00", 2), ("5.00", 1)], customer=customer, discount="3.00", shipping="4.90")
    body = shown(browser, order)
    assert_is(body, "OrderDetail")
    assert (body["id"], body["pk"], body["number"]) == (order.pk, order.pk, order.number)
    assert body["status"] == {"value": "confirmation_waiting", "label": "Waiting for confirmation"}
    assert body["currency"] == {"value": "EUR", "label": "Euro"}
    amounts = ("amount", "discount_amount", "shipping_amount", "amount_without_discount", "shipping_tax_rate")
    assert [body[name] for name in amounts] == ["26.90", "3.00", "4.90", "29.90", "19.00"]
    assert body["user_email"] == customer.email
    assert body["discountitem_set"][0]["name"] == "Welcome"
    assert body["shipping_address"]["country"]["name"] == "Germany"
    assert body["shipping_address"]["township"]["name"] == body["shipping_address"]["district"]["name"] == ""
    first = body["orderitem_set"][0]
    assert (first["id"], first["quantity"], first["price"]) == (first["pk"], 2, "10.00")
    assert first["shipping_company"] == {"value": "", "label": ""}
    assert (first["tracking_number"], first["active_cancellation_request"], first["parent"]) == (None, None, None)
    goods = sum(Decimal(line["total_amount"]) for line in body["orderitem_set"])
    assert goods + Decimal(body["shipping_amount"]) == Decimal(body["amount"])


def test_answers_are_kept_by_nobody(place: Place, customer: User, browser: Browser) -> None:
    response = browser.get(f"/users/orders/{place(customer=customer).pk}/")
    assert "no-store" in response["Cache-Control"]
    assert "Cookie" in response["Vary"]


def test_products_are_shown_as_they_were_ordered(place: Place, customer: User, browser: Browser) -> None:
    store = factories.StoreFactory()
    product = factories.stocked(store, attributes={"Colour": "Red"})
    order = place([product], store=store, customer=customer)
    order.lines.update(image="products/pot.jpg")
    sku = product.sku
    product.name = "Renamed"
    product.save()
    body = shown(browser, order)["orderitem_set"][0]["product"]
    assert (body["sku"], body["base_code"], body["attributes"]) == (sku, sku, {"Colour": "Red"})
    assert body["name"] != "Renamed"
    assert body["image"] == "http://testserver/media/products/pot.jpg"
    order.lines.update(product=None, image="")
    body = shown(browser, order)
    assert_is(body, "OrderDetail")
    assert (body["orderitem_set"][0]["product"]["pk"], body["orderitem_set"][0]["product"]["image"]) == (0, None)


def test_an_order_without_addresses_has_empty_ones(place: Place, customer: User, browser: Browser) -> None:
    order = place(customer=customer)
    Order.objects.filter(pk=order.pk).update(shipping_address=None, billing_address=None)
    body = shown(browser, order)
    assert_is(body, "OrderDetail")
    assert body["shipping_address"]["city"] == {"pk": 0, "name": ""}


def test_amounts_have_the_digits_of_their_currency(place: Place, customer: User, browser: Browser) -> None:
    order = place([("1250", 1)], customer=customer, store=factories.StoreFactory(currency="JPY"))
    assert shown(browser, order)["amount"] == "1250"


def test_statuses_are_codes_where_the_storefront_expects_them(
    place: Place, customer: User, browser: Browser, settings: Any
) -> None:
    settings.ORDER_STATUS_STYLE = "code"
    body = shown(browser, place(customer=customer, until="approved"))
    assert body["status"] == {"value": "400", "label": "Approved"}
    assert body["orderitem_set"][0]["status"]["value"] == "400"


def test_labels_are_in_the_persons_language_and_values_are_not(place: Place, customer: User, browser: Browser) -> None:
    response = browser.get(f"/users/orders/{place(customer=customer).pk}/", headers={"Accept-Language": "de"})
    assert response.json()["shipping_address"]["country"]["name"] == "Deutschland"
    assert response.json()["status"]["value"] == "confirmation_waiting"


def test_parcels_are_told_with_their_numbers(
    place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    order = place([("10.00", 2)], customer=customer, until="paid")
    line = order.lines.get()
    for number in ("JD1", "JD2"):
        url = f"https://carrier.example/{number}"
        system.ship(
            number=order.number or "", lines={line.pk: 1}, carrier="DHL", tracking_number=number, tracking_url=url
        )
    body = shown(browser, order)["orderitem_set"][0]
    assert (body["tracking_number"], body["tracking_url"]) == ("JD2", "https://carrier.example/JD2")
    assert body["shipping_company"] == {"value": "DHL", "label": "DHL"}
    assert [(one["tracking_number"], one["quantity"]) for one in body["parcels"]] == [("JD1", 1), ("JD2", 1)]


# --- what may be done -------------------------------------------------------------------------------------------------

STEPS = [
    "",
    "approved",
    "preparing",
    "shipped",
    "delivered",
    "cancelled",
    "partly cancelled",
    "partly shipped",
    "requested",
]


def taken_to(step: str, place: Place, customer: User, system: EventHandler) -> Order:
    until = {"partly shipped": "paid", "requested": "preparing"}.get(step, "" if "cancelled" in step else step)
    order = place([("10.00", 2), ("5.00", 1)], customer=customer, until=until)
    first, number = order.lines.all()[0], order.number or ""
    if step == "cancelled":
        system.cancel(number=number)
    elif step == "partly cancelled":
        system.cancel(number=number, lines={first.pk: 2})
    elif step == "partly shipped":
        system.ship(number=number, lines={first.pk: 1})
    elif step == "requested":
        reason = CancellationReason.objects.get(code="changed_mind")
        wish = {"order_item": first.pk, "cancellation_type": "cancel", "reason": reason.pk}
        assert Browser(customer).cancel(order, wish).status_code == 200
    return order


@pytest.mark.parametrize("step", STEPS)
def test_the_flags_say_what_the_door_will_do(
    step: str, place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    order = taken_to(step, place, customer, system)
    body = shown(browser, order)
    assert_is(body, "OrderDetail")
    assert not (body["is_cancellable"] and body["is_refundable"])
    reason = CancellationReason.objects.get(code="better_price").pk
    for line in body["orderitem_set"]:
        assert not (line["is_cancellable"] and line["is_refundable"])
        assert body["is_cancellable"] or not line["is_cancellable"]
        # As the storefront's theme asks: a return where one is offered, else a cancellation.
        kind = "refund" if line["is_refundable"] else "cancel"
        wish = {"order_item": line["id"], "cancellation_type": kind, "reason": reason}
        answered = browser.cancel(order, wish).status_code
        assert (answered in {200, 204}) == (line["is_cancellable"] or line["is_refundable"]), (step, line)


def test_an_order_is_cancelled_only_when_all_of_it_is(
    place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    partly = shown(browser, taken_to("partly cancelled", place, customer, system))
    assert [line["is_cancelled"] for line in partly["orderitem_set"]] == [True, False]
    assert not partly["is_cancelled"]
    assert shown(browser, taken_to("cancelled", place, customer, system))["is_cancelled"]


def test_an_open_request_is_shown_until_it_is_answered(
    place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    order = taken_to("requested", place, customer, system)
    line = shown(browser, order)["orderitem_set"][0]
    assert_is(line["active_cancellation_request"], "CancellationRequestResponse")
    assert line["active_cancellation_request"]["status"]["value"] == "open"
    assert line["active_cancellation_request"]["easy_return"] is None
    system.decide_request(request_id=line["active_cancellation_request"]["pk"], approve=False, note="no")
    line = shown(browser, order)["orderitem_set"][0]
    assert line["active_cancellation_request"] is None
    assert [one["status"]["value"] for one in line["cancellationrequest_set"]] == ["rejected"]


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/users/orders/", "/users/orders/1/", "/users/orders/cancellation_reasons/"])
def test_nobody_sees_nothing(path: str) -> None:
    assert_errors(Browser().get(path), 401)


def test_only_ones_own_orders_are_there(place: Place, customer: User, browser: Browser) -> None:
    mine, theirs, guests = place(customer=customer), place(customer=new_customer()), place(email=customer.email)
    assert [one["id"] for one in browser.get("/users/orders/").json()["results"]] == [mine.pk]
    for other in (theirs, guests):
        assert_errors(browser.get(f"/users/orders/{other.pk}/"), 404)


def test_staff_see_their_own_orders_here_too(place: Place) -> None:
    boss = new_customer(is_staff=True, is_superuser=True)
    mine = place(customer=boss)
    place(customer=new_customer())
    assert [one["id"] for one in Browser(boss).get("/users/orders/").json()["results"]] == [mine.pk]


@pytest.mark.parametrize("pk", ["0", "999999", "9" * 18, "9" * 40, "-1", "abc", "1.0", "%00", "１", "1%20"])
def test_ids_that_are_none_are_404(pk: str, browser: Browser) -> None:
    assert_errors(browser.get(f"/users/orders/{pk}/"), 404)


# --- the list ---------------------------------------------------------------------------------------------------------


def test_pages_are_turned_as_the_client_does(place: Place, customer: User, browser: Browser) -> None:
    orders = [place(customer=customer, store=customer_store) for customer_store in [factories.StoreFactory()] * 3]
    # Letter for letter what the client sends, spaces included.
    body = browser.get(
        "/users/orders/?page=1&limit=2+&created_date__gte=2000-01-01+&created_date__lte=2999-01-01"
    ).json()
    assert (body["count"], body["previous"]) == (3, None)
    assert [one["id"] for one in body["results"]] == [orders[2].pk, orders[1].pk]
    assert browser.get(body["next"]).json()["results"][0]["id"] == orders[0].pk
    for one in body["results"]:
        assert_is(one, "OrderDetail")


@pytest.mark.parametrize("query", ["page=0", "page=99", "page=x", "page=%00", "page=-1", f"page={'9' * 5000}"])
def test_a_page_that_is_not_there_is_404(query: str, browser: Browser) -> None:
    assert_errors(browser.get(f"/users/orders/?{query}"), 404)


@pytest.mark.parametrize("limit", ["0", "-1", "x", "%00", "9" * 30])
def test_a_senseless_limit_does_no_harm(limit: str, browser: Browser) -> None:
    assert browser.get(f"/users/orders/?limit={limit}").status_code == 200


def test_orders_are_found_by_date_and_a_last_day_counts(place: Place, customer: User) -> None:
    with time_machine.travel(datetime(2026, 3, 31, 23, 59, tzinfo=UTC), tick=False):
        order = place(customer=customer)
    browser = Browser(customer)

    def found(query: str) -> int:
        return browser.get(f"/users/orders/?{query}").json()["count"]

    assert found("created_date__lte=2026-03-31") == found("created_date__gte=2026-03-31") == 1
    assert found("created_date__lte=2026-03-30") == found("created_date__gte=2026-04-01") == 0
    assert (
        found("created_date__lte=2026-03-31T23:58:00Z") == found("created_date__gte=2026-04-01T01:00:00%2B01:00") == 0
    )
    assert found("created_date__gte=0001-01-01&created_date__lte=9999-12-31") == 1
    assert found("created_date__gte=+&created_date__lte=") == 1
    assert found(f"search={order.number}") == found(f"search=+{(order.number or '')[-3:]}+") == 1
    assert found("search=x") == found("search=%00") == found("search=-1") == 0


@pytest.mark.parametrize("date", ["yesterday", "2026-02-30", "2026-13-01T00:00:00", "%00", "1", "0000-00-00"])
@pytest.mark.parametrize("name", ["created_date__gte", "created_date__lte"])
def test_a_date_that_is_none_is_told_by_name(name: str, date: str, browser: Browser) -> None:
    assert list(assert_errors(browser.get(f"/users/orders/?{name}={date}"), 400)) == [name]


def test_dates_at_the_ends_of_time_are_no_error_of_the_server(browser: Browser, settings: Any) -> None:
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        settings.TIME_ZONE = zone
        with timezone.override(zone):
            for day in ("0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999-12:00"):
                for name in ("created_date__gte", "created_date__lte"):
                    assert browser.get(f"/users/orders/?{name}={day}").status_code in {200, 400}


def test_the_number_of_queries_grows_neither_with_orders_nor_with_lines(
    place: Place, customer: User, browser: Browser, system: EventHandler
) -> None:
    store = factories.StoreFactory()
    products = [factories.stocked(store) for _n in range(12)]
    # One line with a request and one without: each shows something that is read once, when it is needed.
    few = place(products[:2], store=store, customer=customer, until="shipped")

    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(path).status_code == 200
        return len(queries)

    reason = CancellationReason.objects.get(code="changed_mind").pk
    wish = {"order_item": few.lines.first().pk, "cancellation_type": "refund", "reason": reason}
    assert browser.cancel(few, wish).status_code == 200
    before = count("/users/orders/"), count(f"/users/orders/{few.pk}/")
    for _n in range(4):
        many = place(products, store=store, customer=customer, until="shipped")
    wishes = [{"order_item": x.pk, "cancellation_type": "refund", "reason": reason} for x in many.lines.all()[1:]]
    assert browser.cancel(many, *wishes).status_code == 200
    assert (count("/users/orders/"), count(f"/users/orders/{many.pk}/")) == before
    assert before[0] <= 12


def test_cancelling_takes_the_same_queries_for_any_number_of_lines(
    place: Place, customer: User, browser: Browser
) -> None:
    store = factories.StoreFactory()
    products = [factories.stocked(store) for _n in range(20)]
    reason = CancellationReason.objects.get(code="changed_mind").pk
    counts = {}
    for until in ("", "preparing"):
        for size in (1, 20):
            order = place(products[:size], store=store, customer=customer, until=until)
            wishes = [{"order_item": x.pk, "cancellation_type": "cancel", "reason": reason} for x in order.lines.all()]
            with CaptureQueriesContext(connection) as queries:
                assert browser.cancel(order, *wishes).status_code in {200, 204}
            counts[until, size] = len(queries)
    assert counts["", 1] == counts["", 20]
    assert counts["preparing", 1] == counts["preparing", 20]


# --- reasons ----------------------------------------------------------------------------------------------------------


def test_reasons_that_customers_may_choose_are_one_page(browser: Browser) -> None:
    CancellationReason.objects.bulk_create(
        CancellationReason(code=f"r{n}", category="customer_requested", name=f"R {n}", shown_to_customers=True)
        for n in range(120)
    )
    CancellationReason.objects.filter(code="better_price").update(is_active=False)
    body = browser.get("/users/orders/cancellation_reasons/").json()
    assert (body["next"], body["previous"], body["count"]) == (None, None, len(body["results"]))
    subjects = [one["subject"] for one in body["results"]]
    assert "Changed mind" in subjects
    assert "R 119" in subjects
    assert "Fraud suspected" not in subjects
    assert "Found a better price" not in subjects
    first = next(one for one in body["results"] if one["subject"] == "Changed mind")
    assert (first["id"], first["pk"], first["cancellation_type"]) == (first["pk"], first["id"], "cancel")
    assert set(first) >= {"uuid", "extra_information_needed", "is_active", "order", "translations"}


# --- guests -----------------------------------------------------------------------------------------------------------


def track(email: Any, number: Any, kind: str = "form") -> Any:
    client = Browser().client
    if kind == "form":
        body = "&".join(f"{name}={value}" for name, value in (("email", email), ("number", number)))
        return client.post("/users/orders/anonymous/", body, content_type="application/x-www-form-urlencoded")
    return client.post("/users/orders/anonymous/", {"email": email, "number": number}, format="json")


@pytest.fixture(autouse=True)
def _no_tries_yet() -> None:
    cache.clear()


def test_a_guest_finds_the_order_by_number_and_e_mail(place: Place) -> None:
    order = place(email="guest@example.com")
    for kind in ("form", "json"):
        response = track("Guest@Example.com", order.number, kind)
        assert response.status_code == 200
        assert_is(response.json()[0], "OrderDetail")
        assert [one["number"] for one in response.json()] == [order.number]


def test_a_guest_does_not_find_what_is_somebody_elses(place: Place) -> None:
    order, member = place(email="guest@example.com"), new_customer()
    theirs = place(customer=member)
    for email, number in (
        ("other@example.com", order.number),
        (member.email, theirs.number),
        ("guest@example.com", "1"),
    ):
        assert_errors(track(email, number), 404)


@pytest.mark.parametrize(
    ("email", "number"), [("", "1"), ("x", "1"), ("a@example.com", ""), ("a%00@example.com", "%00")]
)
def test_a_guests_wrong_input_is_400(email: str, number: str) -> None:
    assert_errors(track(email, number), 400)


def test_a_guest_cannot_try_number_after_number() -> None:
    answers = [track("guest@example.com", n) for n in range(1, 22)]
    assert [answer.status_code for answer in answers] == [404] * 20 + [429]
    assert_errors(answers[-1], 429)
    assert 0 < int(answers[-1]["Retry-After"]) <= timedelta(minutes=1).total_seconds()
