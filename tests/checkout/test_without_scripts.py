"""What works without JavaScript: logging in and out, reading orders, finding a guest's; by plain pages and forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.core.cache import cache
from django.test import Client

from orders.models import Order
from shop.models import Store, User
from tests import factories
from tests.checkout.test_storefront_pages import page, said

pytestmark = pytest.mark.django_db
PASSWORD = "for-tests "  # with a space that counts


@pytest.fixture
def ada() -> User:
    user: User = factories.UserFactory(email="Ada@example.com")
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def visitor() -> Client:
    cache.clear()
    return Client(enforce_csrf_checks=True)


def send(client: Client, path: str, form: str, **values: str) -> Any:
    """Fill in the form of a page that has this action, as a browser without scripts would, and send it."""
    drawn = BeautifulSoup(client.get(path).content, "html.parser").select_one(f"form[action='{form}']")
    assert drawn is not None
    assert drawn["method"] == "post"
    assert not [name for name in drawn.attrs if name.startswith("data-do")]
    hidden = {one["name"]: one.get("value", "") for one in drawn.select("input[name]")}
    assert values.keys() <= hidden.keys()
    return client.post(form, hidden | values)


def log_in(client: Client, *, to: str = "/shop/orders/", email: str = "ada@EXAMPLE.com", password: str) -> Any:
    return send(client, f"/shop/login/?next={to}", "/shop/login/", email=email, password=password)


def test_a_customer_logs_in_reads_orders_and_logs_out(
    visitor: Client, ada: User, store: Store, place: Callable[..., Order]
) -> None:
    order = place(store=store, customer=ada)
    assert visitor.get("/shop/orders/").headers["Location"] == "/shop/login/?next=%2Fshop%2Forders%2F"
    assert log_in(visitor, password=PASSWORD).headers["Location"] == "/shop/orders/"
    assert f"Order {order.number}" in said(page(visitor, "/shop/orders/"))
    assert str(order.number) in said(page(visitor, f"/shop/orders/{order.number}/"))
    assert visitor.get("/shop/login/").headers["Location"] == "/shop/"  # is logged in already
    visitor.get("/shop/logout/")
    assert visitor.get("/shop/orders/").status_code == 200  # opening an address logs nobody out
    assert send(visitor, "/shop/orders/", "/shop/logout/").headers["Location"] == "/shop/"
    assert visitor.get("/shop/orders/").status_code == 302


def test_what_was_wrong_is_said_and_the_e_mail_kept(visitor: Client, ada: User) -> None:
    refused = log_in(visitor, password="wrong")
    drawn = BeautifulSoup(refused.content, "html.parser")
    assert refused.status_code == 400
    assert "do not belong together" in drawn.select_one("[role=alert]").get_text()
    assert drawn.select_one("#email")["value"] == "ada@EXAMPLE.com"
    assert not drawn.select_one("#password").get("value")
    assert drawn.title.get_text().startswith("Error:")
    empty = BeautifulSoup(log_in(visitor, email="", password="").content, "html.parser")
    assert {tag["name"] for tag in empty.select("[aria-invalid=true]")} == {"email", "password"}
    User.objects.update(is_active=False)
    assert log_in(visitor, password=PASSWORD).status_code == 400
    assert log_in(visitor, email="a\x00b", password="x").status_code == 400


@pytest.mark.parametrize("to", ["//evil.example/", "https://evil.example/", "javascript:alert(1)", "/\\evil.example"])
def test_nobody_is_sent_to_another_site(visitor: Client, ada: User, to: str) -> None:
    assert log_in(visitor, to=to, password=PASSWORD).headers["Location"] == "/shop/"


def test_no_other_site_logs_anybody_in_or_out(visitor: Client, ada: User) -> None:
    visitor.get("/shop/login/")
    refused = visitor.post("/shop/login/", {"email": ada.email, "password": PASSWORD}, headers={"Accept": "text/html"})
    assert refused.status_code == 403
    assert "too old" in refused.content.decode()
    assert log_in(visitor, password=PASSWORD).status_code == 302
    assert visitor.post("/shop/logout/").status_code == 403
    assert visitor.get("/shop/orders/").status_code == 200


def test_the_page_and_the_api_count_tries_together(visitor: Client, ada: User) -> None:
    for n in range(10):
        wrong = {"email": "ADA@example.com", "password": f"wrong{n}"}
        assert Client().post("/users/login/", wrong, content_type="application/json").status_code == 400
    refused = log_in(visitor, password=PASSWORD)
    assert refused.status_code == 429
    assert "That was often" in refused.content.decode()
    assert visitor.get("/shop/orders/").status_code == 302


def test_a_guest_finds_an_order_by_number_and_e_mail(
    visitor: Client, store: Store, place: Callable[..., Order], ada: User
) -> None:
    order = place(store=store, email="guest@example.com", until="shipped")
    mine = place(store=store, customer=ada)
    found = send(visitor, "/shop/track/", "/shop/track/", number=f" #{order.number}", email="Guest@example.com")
    words = said(BeautifulSoup(found.content, "html.parser"))
    assert found.status_code == 200
    assert all(part in words for part in (f"Order {order.number}", "On its way", "Berlin", "Germany"))
    assert f"/shop/withdraw/?order={order.number}" in found.content.decode()
    assert not re.search(r"data-(do|opens)=", found.content.decode())
    for number, email, status in (
        (order.number, "other@example.com", 404),
        (mine.number, ada.email, 404),
        ("", "nonsense", 400),
        ("1\x00", "guest@example.com", 400),
    ):
        refused = send(visitor, "/shop/track/", "/shop/track/", number=str(number), email=email)
        assert refused.status_code == status, (number, email)
        assert f"Order {mine.number}" not in refused.content.decode()
    asked = {"number": order.number, "email": "guest@example.com"}
    for _n in range(20):
        visitor.post("/users/orders/anonymous/", asked, content_type="application/json")
    late = send(visitor, "/shop/track/", "/shop/track/", number=str(order.number), email="guest@example.com")
    assert late.status_code == 429


def test_however_a_number_is_written_its_tries_are_counted_together(visitor: Client, ada: User) -> None:
    """Each with another e-mail: nobody finds out who placed an order by trying one after the other."""
    answers = [
        send(visitor, "/shop/track/", "/shop/track/", number="#" * (n % 7) + "100000001", email=f"a{n}@example.com")
        for n in range(21)
    ]
    assert [answer.status_code for answer in answers] == [404] * 20 + [429]


def test_orders_are_found_by_number_and_by_what_was_ordered(
    browser: Callable[..., Client], customer: User, store: Store, place: Callable[..., Order]
) -> None:
    mug = place([factories.stocked(store, name="Blue mug")], store=store, customer=customer)
    pot = place([factories.stocked(store, name="Tea pot")], store=store, customer=customer)
    shop = browser(customer)
    for search, found in (("MUG", {mug}), (f"%23{pot.number}", {pot}), ("nothing", set())):
        drawn = said(page(shop, f"/shop/orders/?search={search}"))
        assert {order for order in (mug, pot) if f"Order {order.number}" in drawn} == found
    assert "Nothing found" in drawn
