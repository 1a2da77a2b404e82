"""The doors to withdraw from a contract: two steps for customers and guests, and the page that needs no JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from notifications.models import Message
from orders.models import Order, Status, Withdrawal
from orders.processing import get_event_handler
from shop.actors import Actor
from shop.models import User
from tests.orders.storefront import Browser, assert_errors, facts_of, new_customer

Place = Callable[..., Order]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db

STATE, CONFIRM = "/api/v1/withdrawals/", "/api/v1/withdrawals/confirm/"


def told(order: Order | None = None, **more: Any) -> dict[str, Any]:
    known = {"number": order.number, "email": order.email} if order else {"number": "1", "email": "x@example.com"}
    return {"name": "Ada Lovelace", **known, **more}


def send(path: str, body: Any, **more: Any) -> Any:
    """As a program without cookies does."""
    return Client().post(path, body, content_type="application/json", **more)


@pytest.fixture
def customer() -> User:
    return new_customer()


# --- two steps --------------------------------------------------------------------------------------------------------


def test_a_guest_states_reads_and_confirms(place: Place, work: Callable[[], int], books: Books) -> None:
    order = place([("10.00", 2), ("5.00", 1)], shipping="4.90", until="paid", email="guest@example.com")
    one, two = order.lines.order_by("position")
    before = facts_of(order)
    items = [{"order_item": one.pk, "quantity": 1}]
    stated = send(STATE, told(order, email="Guest@Example.com", items=items, text="No thanks"))
    assert stated.status_code == 200
    body = stated.json()
    assert {name: body[name] for name in ("name", "order_found", "everything", "in_time", "deadline", "text")} == {
        "name": "Ada Lovelace",
        "order_found": True,
        "everything": False,
        "in_time": True,
        "deadline": None,
        "text": "No thanks",
    }
    assert [(x["order_item"], x["quantity"], x["max_quantity"], x["cancelled"]) for x in body["lines"]] == [
        (one.pk, 1, 2, 1),
        (two.pk, 0, 1, 0),
    ]
    assert "10.00" not in stated.content.decode(), "no prices, no address: nobody has logged in"
    assert "Sonnenallee" not in stated.content.decode()
    assert (facts_of(order), Withdrawal.objects.count()) == (before, 0), "it has done nothing yet"
    assert stated["Cache-Control"] == "private, no-store" or "no-store" in stated["Cache-Control"]

    with time_machine.travel("2031-03-01T10:00:07Z", tick=False):
        first = send(STATE, told(order, items=items)).json()
        confirmed = send(CONFIRM, {"token": first["token"]})
        work()
    assert confirmed.status_code == 201
    row = Withdrawal.objects.get()
    assert confirmed.json()["uuid"] == str(row.uuid)
    assert confirmed.json()["declared_at"].startswith("2031-03-01T10:00:07")
    assert send(CONFIRM, {"token": first["token"]}).json() == confirmed.json(), "the same again is the same one"
    one.refresh_from_db()
    assert (one.cancelled, Withdrawal.objects.count()) == (1, 1)
    mail = Message.objects.get(event="withdrawal_received")
    assert (mail.recipient, "10:00:07 UTC" in mail.text, one.name in mail.text) == ("guest@example.com", True, True)
    assert books() == []


def test_customers_need_not_name_the_address_they_ordered_with_nor_log_in(
    place: Place, customer: User, books: Books
) -> None:
    order = place(customer=customer)
    logged_in = Browser(customer)
    assert logged_in.post(STATE, told(order, email="elsewhere@example.com")).json()["order_found"]
    stated = send(STATE, told(order))
    assert stated.json()["order_found"], "number and e-mail are enough"
    assert send(CONFIRM, {"token": stated.json()["token"]}).status_code == 201
    row = Withdrawal.objects.get()
    assert (row.order, Order.objects.get(pk=order.pk).status) == (order, Status.CANCELLED)
    # A session without its CSRF token is nobody's wish.
    assert logged_in.client.post(STATE, told(order), format="json").status_code == 403
    assert books() == []


def test_unknown_and_foreign_orders_are_answered_alike_and_received(place: Place, customer: User, books: Books) -> None:
    mine, other = place(customer=customer), place(email="other@example.com", until="paid")
    foreign = Browser(customer).post(STATE, told(other, email=customer.email)).json()
    answers = [
        foreign,
        send(STATE, told(mine, email="wrong@example.com")).json(),
        send(STATE, told(number="999", email="wrong@example.com")).json(),
        send(STATE, told(other, email="wrong@example.com", items=[{"order_item": 5, "quantity": 9}])).json(),
    ]
    for body in answers:
        assert (body["order_found"], body["lines"], body["deadline"], body["in_time"]) == (False, [], None, True)
    before = facts_of(other)
    response = send(CONFIRM, {"token": foreign["token"]})
    assert (response.status_code, response.json()["return_code"]) == (201, None)
    row = Withdrawal.objects.get()
    assert (row.order, row.status, facts_of(other)) == (None, Withdrawal.Status.NEEDS_PERSON, before)
    assert books() == []


def test_a_token_is_ours_whole_and_fresh(place: Place) -> None:
    order = place()
    token = send(STATE, told(order)).json()["token"]
    for wrong in (token[:-1], token[1:], "x", "a:b:c", token.replace(":", "!", 1)):
        assert assert_errors(send(CONFIRM, {"token": wrong}), 400)["error_code"] == ["withdrawal_token_invalid"]
    with time_machine.travel(timezone.now() + timedelta(minutes=61)):
        late = assert_errors(send(CONFIRM, {"token": token}), 400)
    assert late["error_code"] == ["withdrawal_token_expired"]
    assert_errors(send(CONFIRM, {}), 400)
    assert (Withdrawal.objects.count(), Order.objects.get(pk=order.pk).status) == (0, order.status)


@pytest.mark.parametrize(
    "wrong, field",
    [
        ({"name": ""}, "name"),
        ({"email": "no address"}, "email"),
        ({"number": "9" * 65}, "number"),
        ({"text": "x" * 2001}, "text"),
        ({"items": []}, "items.non_field_errors"),
        ({"items": [{"order_item": "LINE", "quantity": 0}]}, "items.0.quantity"),
        ({"items": [{"order_item": "LINE", "quantity": 3}]}, "items.0.quantity"),
        ({"items": [{"order_item": "LINE", "quantity": 1}] * 2}, "items"),
        ({"items": [{"order_item": 10**9, "quantity": 1}]}, "items.0.order_item"),
    ],
)
def test_bad_input_is_named(place: Place, wrong: dict[str, Any], field: str) -> None:
    order = place([("10.00", 2)])
    pk = order.lines.get().pk
    if "items" in wrong:
        items = [
            {**item, "order_item": pk if item["order_item"] == "LINE" else item["order_item"]}
            for item in wrong["items"]
        ]
        wrong = {"items": items}
    assert field in assert_errors(send(STATE, told(order, **wrong)), 400)


def test_tries_from_one_address_are_bounded(place: Place) -> None:
    codes = [send(STATE, told(email=f"x{n}@example.com")).status_code for n in range(31)]
    assert codes == [200] * 30 + [429], "whoever they name"
    page = Client().post("/shop/withdraw/", {"step": "state", **told()})
    assert page.status_code == 429


def test_the_number_of_queries_does_not_grow_with_lines(place: Place, django_assert_max_num_queries: Any) -> None:
    few, many = place([("1.00", 1)]), place([("1.00", 1)] * 8)
    counts = []
    for order in (few, many):
        token = send(STATE, told(order)).json()["token"]
        with django_assert_max_num_queries(120) as captured:
            assert send(CONFIRM, {"token": token}).status_code == 201
        counts.append(len(captured))
    assert counts[0] == counts[1]


# --- the page ---------------------------------------------------------------------------------------------------------


def fields_of(page: Any) -> dict[str, str]:
    """What a browser would send of the page's form: hidden and filled-in fields, and the chosen radio button."""
    html = page.content.decode()
    found = {}
    for tag in re.findall(r"<input[^>]*>", html):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and ('type="radio"' not in tag or " checked" in tag):
            found[name[1]] = value[1] if value else ""
    return found


def text_of(page: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def test_a_guest_withdraws_on_the_page_without_javascript(place: Place, work: Any, books: Books) -> None:
    order = place([("10.00", 2), ("5.00", 1)], until="shipped", email="guest@example.com")
    one, two = order.lines.order_by("position")
    client = Client(enforce_csrf_checks=True)
    page = client.get("/shop/withdraw/")
    assert "Withdraw from contract here" in text_of(page)
    shown = client.post("/shop/withdraw/", {**fields_of(page), **told(order)})
    assert "Confirm withdrawal" in text_of(shown)
    assert "1 has been shipped: you send it back." in text_of(shown)
    # Fewer units, and the button at once: they are shown before anything happens.
    data = {**fields_of(shown), f"units-{one.pk}": "1", f"units-{two.pk}": "0", "step": "confirm"}
    again = client.post("/shop/withdraw/", data)
    assert (again.status_code, Withdrawal.objects.count()) == (200, 0)
    assert "You have changed the quantities." in text_of(again)
    assert (
        client.post("/shop/withdraw/", {**fields_of(again), f"units-{one.pk}": "0", "step": "confirm"}).status_code
        == 400
    )
    assert (
        client.post("/shop/withdraw/", {**fields_of(again), f"units-{one.pk}": "3", "step": "change"}).status_code
        == 400
    )
    done = client.post("/shop/withdraw/", {**fields_of(again), "step": "confirm"})
    assert done.status_code == 302
    repeated = client.post("/shop/withdraw/", {**fields_of(again), "step": "confirm"})
    assert repeated.status_code == 302
    row = Withdrawal.objects.get()
    receipt = client.get(done["Location"])
    assert (row.units_of("back"), row.goods_return.code in text_of(receipt)) == ({one.pk: 1}, True)
    assert f"{timezone.localtime(row.declared_at):%H:%M:%S}" in text_of(receipt)
    assert client.get("/shop/withdraw/received/forged/").status_code == 404
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        assert client.get(done["Location"]).status_code == 404, "the mail is for keeping"
    assert books() == []


def test_a_customer_chooses_among_their_orders(place: Place, customer: User, books: Books) -> None:
    order, other = place(customer=customer, until="paid"), place(customer=customer)
    foreign = place()
    client = Client()
    client.force_login(customer)
    page = client.get(f"/shop/withdraw/?order={order.number}")
    assert fields_of(page) | {"csrfmiddlewaretoken": ""} == {
        "csrfmiddlewaretoken": "",
        "step": "state",
        "order": order.number,
        "number": "",
        "name": customer.get_full_name(),
        "email": customer.email,
    }
    assert (other.number in text_of(page), foreign.number in text_of(page)) == (True, False)
    shown = client.post("/shop/withdraw/", fields_of(page))
    client.post("/shop/withdraw/", {**fields_of(shown), "step": "confirm"})
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED
    # What is wrong is said where it is; what is unknown is received.
    wrong = client.post("/shop/withdraw/", {"step": "state", "name": "", "email": "x"})
    assert (wrong.status_code, "Say which order it is about." in text_of(wrong)) == (400, True)
    unknown = client.post("/shop/withdraw/", {"step": "state", **told(number="77")})
    assert "You can send your declaration all the same" in text_of(unknown)
    assert client.post("/shop/withdraw/", {**fields_of(unknown), "step": "confirm"}).status_code == 302
    again = client.post("/shop/withdraw/", {**fields_of(unknown), "step": "confirm"})
    assert "Somebody looks at it" in text_of(client.get(again["Location"]))
    assert client.post("/shop/withdraw/", {"step": "confirm", "token": "forged"}).status_code == 400
    assert books() == []


@pytest.mark.parametrize("language, button", [("de", "Widerruf bestätigen"), ("tr", "Caymayı onayla")])
def test_its_labels_are_those_of_the_language(place: Place, language: str, button: str) -> None:
    order = place(email="guest@example.com")
    client = Client(headers={"accept-language": language})
    page = client.get("/shop/withdraw/")
    shown = client.post("/shop/withdraw/", {**fields_of(page), **told(order, name="<b>Ö</b>")})
    assert button in text_of(shown)
    assert "<b>Ö" not in shown.content.decode()
    done = client.post("/shop/withdraw/", {**fields_of(shown), "step": "confirm"})
    assert Withdrawal.objects.get().language == language
    assert client.get(done["Location"]).status_code == 200


# --- staff ------------------------------------------------------------------------------------------------------------


def test_staff_see_who_waits_and_whose_money_is_late(
    place: Place, staff: Callable[..., User], store: Any, books: Books
) -> None:
    admin = Client()
    admin.force_login(staff("Admin"))
    local = Client()
    local.force_login(staff("Customer Service"))
    order = place([("10.00", 2)], store=store, until="delivered")
    send(CONFIRM, {"token": send(STATE, told(order)).json()["token"]})
    send(CONFIRM, {"token": send(STATE, told(number="77", text="<b>the blue one</b>")).json()["token"]})
    carried_out, unknown = Withdrawal.objects.order_by("pk")
    changelist = "/admin/orders/withdrawal/"
    listed = text_of(admin.get(changelist))
    assert listed.index("77 (no such order)") < listed.index("2 to come back"), "who waits for a person comes first"
    page = admin.get(f"{changelist}{unknown.pk}/change/")
    assert "&lt;b&gt;the blue one" in page.content.decode()
    shown = admin.get(f"/admin/orders/order/{order.pk}/change/")
    assert "Withdraw" in text_of(shown)

    # The goods arrive, and nothing is done about the money for two weeks.
    late = f"{changelist}?money=late"
    with time_machine.travel(timezone.now() + timedelta(days=15)):
        admin.force_login(staff("Admin"))
        assert "was to be back" not in text_of(admin.get(late)), "until the goods are here the shop may wait"
        get_event_handler(Actor.system()).receive_return(code=carried_out.goods_return.code)
        assert "was to be back" in text_of(admin.get(late))

        other = place(store=store, email="x@example.com")
        do = f"{changelist}{unknown.pk}/do/"
        assert admin.post(f"{do}match/", {"number": "1"}).status_code != 302, "no such order"
        assert admin.post(f"{do}match/", {"number": other.number}).status_code == 302
    unknown.refresh_from_db()
    assert (unknown.order, unknown.status) == (other, Withdrawal.Status.CARRIED_OUT)
    assert admin.post(f"{do}answer/", {"note": "done"}).status_code != 302
    nobody = Client()
    nobody.force_login(staff(None))
    assert nobody.get(changelist).status_code == 403
    assert local.get(changelist).status_code == 200
    assert books() == []
