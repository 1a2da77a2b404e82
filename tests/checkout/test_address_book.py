"""The address book: each country's rules, one default of each kind, and nobody else's entries."""

from __future__ import annotations

import pytest
from django.utils import timezone

from checkout import services
from checkout.models import Address
from checkout.rules import AddressInvalid, checked_address
from orders.models import Order
from tests import factories
from tests.checkout.conftest import BERLIN

pytestmark = pytest.mark.django_db

LONDON = {"first_name": "A", "last_name": "B", "line": "1 Mill Lane", "city": "London", "country": "GB"}


def test_an_address_is_added_listed_changed_and_deleted(browser, customer):
    shopper = browser(customer)
    answer = shopper.send("post", "/address/", {**BERLIN, "title": "Home", "phone_number": "030 1234567"})
    assert answer.status_code == 201, answer.json()
    added = answer.json()
    assert added["id"] == added["pk"]
    assert added["city"] == {"pk": 0, "name": "Berlin"}
    assert (added["country"]["code"], added["country"]["name"]) == ("DE", "Germany")
    assert added["phone_number"] == "+49301234567"
    assert (added["is_default_shipping"], added["is_default_billing"]) == (True, True)
    # What the API gives it takes back, places as objects.
    answer = shopper.send("patch", f"/address/{added['pk']}/", {**added, "line": "Hasenheide 2"})
    assert answer.json()["line"] == "Hasenheide 2"
    listed = shopper.get("/address/detailed/").json()
    assert (listed["count"], listed["next"], listed["results"][0]["line"]) == (1, None, "Hasenheide 2")
    assert shopper.send("delete", f"/address/{added['pk']}/").status_code == 204
    assert shopper.get("/address/detailed/").json()["count"] == 0


@pytest.mark.parametrize("country", ["de", {"code": "DE"}, {"pk": 1, "code": "de", "name": "Germany"}, 482])
def test_a_country_is_named_by_its_code_its_object_or_its_number(browser, customer, country):
    answer = browser(customer).send("post", "/address/", {**BERLIN, "country": country})
    assert answer.status_code == 201, answer.json()
    assert answer.json()["country"]["code"] == "DE"
    assert answer.json()["country"]["pk"] == 482


@pytest.mark.parametrize(
    "address, fields",
    [
        ({**BERLIN, "postcode": "1204"}, {"postcode"}),
        ({**BERLIN, "postcode": "", "city": ""}, {"postcode", "city"}),
        ({**BERLIN, "country": "XX"}, {"country"}),
        ({**BERLIN, "country": "all"}, {"country"}),
        ({**BERLIN, "line": "  "}, {"line"}),
        ({**BERLIN, "line": "x" * 301}, {"line"}),
        ({**BERLIN, "last_name": "a\x07b"}, {"last_name"}),
        ({**BERLIN, "phone": "call me"}, {"phone"}),
        ({**LONDON, "postcode": "12045"}, {"postcode"}),
        ({**LONDON, "country": "US", "state": "Bavaria", "postcode": "94043"}, {"state"}),
        ({**LONDON, "country": "US", "postcode": "94043"}, {"state"}),
    ],
)
def test_what_a_country_needs_is_said_field_by_field(address, fields):
    with pytest.raises(AddressInvalid) as refusal:
        checked_address(address)
    assert set(refusal.value.errors) == fields
    assert all(refusal.value.errors.values())


def test_a_wrong_postcode_is_told_with_an_example():
    with pytest.raises(AddressInvalid) as refusal:
        checked_address({**BERLIN, "postcode": "SW1A"})
    assert refusal.value.errors["postcode"] == "“SW1A” is not a postcode of Germany, such as 26133."


@pytest.mark.parametrize(
    "address, tidy",
    [
        ({**LONDON, "postcode": "ec1y 8sy"}, {"postcode": "EC1Y 8SY", "city": "London"}),
        ({**LONDON, "country": "us", "state": "California", "postcode": "94043"}, {"state": "CA", "country": "US"}),
        ({**BERLIN, "state": "Berlin"}, {"state": "", "postcode": "12045"}),
        ({**BERLIN, "country": "SG", "city": "", "postcode": "546080"}, {"city": "", "country": "SG"}),
        ({**BERLIN, "country": "IE", "postcode": "", "city": "Dublin"}, {"postcode": "", "city": "Dublin"}),
    ],
)
def test_an_address_is_written_as_its_country_writes_it(address, tidy):
    checked = checked_address(address)
    assert {name: checked[name] for name in tidy} == tidy


def test_there_is_one_default_of_each_kind(customer):
    now = timezone.now()
    first = services.save_address(customer=customer, data=BERLIN, as_of=now)
    second = services.save_address(customer=customer, data={**BERLIN, "is_default_shipping": True}, as_of=now)
    first.refresh_from_db()
    assert (first.is_default_shipping, first.is_default_billing) == (False, True)
    assert (second.is_default_shipping, second.is_default_billing) == (True, False)


def test_a_refused_change_changes_nothing(customer, book):
    with pytest.raises(AddressInvalid):
        services.save_address(customer=customer, address_id=book.pk, data={"postcode": "1"}, as_of=timezone.now())
    book.refresh_from_db()
    assert book.postcode == "12045"


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_somebody_elses_address_is_not_found(browser, book, method):
    answer = browser(factories.UserFactory()).send(method, f"/address/{book.pk}/", {"line": "Elsewhere"})
    assert (answer.status_code, answer.json()["error_code"]) == (404, ["address_not_found"])
    assert Address.objects.get().line == "Sonnenallee 1"


def test_guests_have_no_book(browser, book):
    guest = browser()
    for method, path in (("get", "/address/detailed/"), ("post", "/address/"), ("delete", f"/address/{book.pk}/")):
        assert guest.send(method, path, {} if method == "post" else None).status_code == 401


def test_a_book_has_an_end(customer, book, monkeypatch):
    monkeypatch.setattr("checkout.services.addresses.MOST_ADDRESSES", 1)
    with pytest.raises(services.TooManyAddresses):
        services.save_address(customer=customer, data=BERLIN, as_of=timezone.now())


def test_the_contracts_address_change_reads_this_book(browser, customer, book, fill, buy, product):
    order = buy(fill(customer, (product, 1)))
    moved = services.save_address(customer=customer, data={**BERLIN, "line": "Hasenheide 2"}, as_of=timezone.now())
    body = {"order": order.pk, "address": moved.pk, "order_address_types": ["shipping"]}
    assert browser(customer).send("post", "/orders/address_change/", body).json() == {"status": 200}
    order = Order.objects.get()
    assert (order.shipping_address.line, order.shipping_address.book_entry) == ("Hasenheide 2", moved.pk)
    assert order.billing_address.line == "Sonnenallee 1"
    foreign = {
        **body,
        "address": services.save_address(customer=factories.UserFactory(), data=BERLIN, as_of=timezone.now()).pk,
    }
    assert browser(customer).send("post", "/orders/address_change/", foreign).status_code == 400
