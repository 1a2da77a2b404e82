"""Returns at the desk and for a warehouse's programs: found by code, received, inspected; and the shop's terms."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orders.models import CancellationReason, CancellationRequest, Order, Return, ReturnPolicy
from orders.processing import get_event_handler
from orders.processing.requesting import Wish
from orders.rules import read_picture
from payments.models import Refund
from shop import tokens
from shop.actors import Actor
from shop.models import Store, User
from tests import factories
from tests.orders.pages import filled_in, text
from tests.orders.test_return_pictures import small
from tests.orders.test_withdrawal import declare

Staff = Callable[..., User]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(staff: Staff, store: Store, client: Client) -> User:
    user = staff("Store Manager", store)
    client.force_login(user)
    return user


@pytest.fixture
def parcel(store: Store) -> Return:
    return sent_back(store)


def sent_back(store: Store, *, lines: int = 2, approve: bool = True) -> Return:
    """An order of two units a line, all of which its customer wants to send back."""
    goods = [(str(10 * (n + 1)), 2) for n in range(lines)]
    order = factories.place_order(goods, store=store, customer=factories.UserFactory(), until="delivered")
    why, picture = CancellationReason.objects.get(code="changed_mind"), read_picture(small())
    wishes = [Wish(line.pk, 2, "refund", why, f"too big {line.pk}", pictures=(picture,)) for line in order.lines.all()]
    buyer = get_event_handler(Actor.customer(order.customer))
    for request in buyer.cancel_or_request(number=order.number or "", wishes=wishes):
        if approve:
            get_event_handler(Actor.system()).decide_request(request_id=request.pk, approve=True)
    return Return.objects.get(order=order)


def page(parcel: Return, action: str = "") -> str:
    name = "do" if action else "change"
    return reverse(f"admin:orders_return_{name}", args=(parcel.pk, *filter(None, [action])))


def soup(answer: Any) -> BeautifulSoup:
    return BeautifulSoup(answer.content, "html.parser")


def test_a_scanned_code_opens_its_return_and_it_is_received_and_inspected(
    manager: User, client: Client, parcel: Return, work: Callable[[], int], books: Books
) -> None:
    ReturnPolicy.objects.create(valid_from=timezone.now() - timedelta(days=9), fee=Decimal("5"))
    listed = reverse("admin:orders_return_changelist")
    assert client.get(listed, {"q": f" {parcel.code.lower()}"}).url == page(parcel)
    shown = client.get(page(parcel))
    assert parcel.code in text(shown)
    assert len(soup(shown).select(".order-pictures img")) == 2
    assert client.post(page(parcel, "receive"), filled_in(client.get(page(parcel, "receive")))).url == page(parcel)
    assert "Arrived, to be inspected" in text(client.get(listed, {"state": "arrived"}))
    (card,) = soup(client.get(reverse("admin:index"))).select("a[href$='/orders/return/?state=arrived']")
    assert re.fullmatch("1 Returns to inspect.*|Returns to inspect.* 1", text(card))

    opened = client.get(page(parcel, "inspect"))
    first, second = parcel.requests.order_by("pk")
    data = filled_in(opened)
    assert (data[f"sellable_{first.pk}"], data["deduction"]) == ("2", "5.00")
    assert "€55.00" in text(opened), "less the fee, if all is well"
    data |= {f"sellable_{first.pk}": "1", f"damaged_{first.pk}": "1", f"sellable_{second.pk}": "1"}
    changed = client.post(page(parcel, "inspect"), {**data, "step": "confirm"})
    assert changed.status_code == 200
    assert "You have changed your choice" in text(changed)
    assert not Refund.objects.exists()
    again = filled_in(changed)
    wrong = client.post(page(parcel, "inspect"), {**again, f"missing_{first.pk}": "7", "step": "preview"})
    assert "only 2 units of this request are awaited" in text(wrong)
    done = client.post(page(parcel, "inspect"), {**again, "step": "confirm"})
    assert done.url == page(parcel)
    twice = client.post(page(parcel, "inspect"), {**again, "step": "confirm"})
    assert "inspected a return" in text(twice), "told who was faster"
    work()
    assert [refund.amount for refund in Refund.objects.all()] == [Decimal("35")]
    assert list(parcel.requests.order_by("pk").values_list("status", flat=True)) == ["completed", "approved"]
    rest = filled_in(client.get(page(parcel, "inspect")))
    assert rest["deduction"] == "0.00"
    gone = {f"sellable_{second.pk}": "0", f"missing_{second.pk}": "1"}
    rest = filled_in(client.post(page(parcel, "inspect"), {**rest, **gone, "step": "confirm"}))
    assert client.post(page(parcel, "inspect"), {**rest, "step": "confirm"}).status_code == 302
    assert "Closed" in text(client.get(listed, {"state": "closed"}))
    assert books() == []


def test_what_is_kept_follows_what_came_back_until_somebody_says_otherwise(
    manager: User, client: Client, store: Store
) -> None:
    express = {"shipping": "12.90", "shipping_standard": Decimal("4.90"), "store": store, "until": "delivered"}
    order = factories.place_order([("10.00", 2)], **express)
    parcel = declare(order).goods_return
    (request,) = parcel.requests.all()
    data = filled_in(client.get(page(parcel, "inspect")))
    assert data["deduction"] == "8.00"

    def shown_for(data: dict[str, str], **changes: str) -> dict[str, str]:
        answer = client.post(page(parcel, "inspect"), {**data, **changes, "step": "preview"})
        assert answer.status_code == 200
        return filled_in(answer)

    one = {f"sellable_{request.pk}": "1"}
    followed = shown_for(data, **one)
    assert followed["deduction"] == "4.00"
    assert shown_for(followed, **{f"damaged_{request.pk}": "1"})["deduction"] == "8.00"
    for own in ("3.00", ""):
        kept = shown_for(followed, deduction=own)
        assert shown_for(kept, **{f"damaged_{request.pk}": "1"})["deduction"] == own
    nothing = shown_for(followed, deduction="")
    assert client.post(page(parcel, "inspect"), {**nothing, "step": "confirm"}).status_code == 302
    order.refresh_from_db()
    assert order.facts.refund_reserved == order.lines.get().price_of_next(1, after=0, currency="EUR")


def test_what_cannot_be_done_yet_says_why_and_others_see_nothing(
    manager: User, client: Client, store: Store, staff: Staff
) -> None:
    waiting, foreign = sent_back(store, approve=False), sent_back(factories.StoreFactory())
    shown = text(client.get(page(waiting)))
    assert "Answer the customer's request first." in shown
    assert client.get(page(foreign)).status_code == 404
    client.force_login(staff("Customer Service"))
    assert soup(client.get(page(foreign))).select("a[href$='/do/inspect/']") == []
    assert client.get(page(foreign, "inspect")).status_code == 403
    client.force_login(staff(None, store))
    assert client.get(page(waiting)).status_code == 403


def test_the_order_and_the_request_show_the_return_and_its_deadline(
    manager: User, client: Client, parcel: Return
) -> None:
    order = text(client.get(reverse("admin:orders_order_change", args=(parcel.order_id,))))
    assert parcel.code in order
    assert "Send back : 30 days, until" in order
    assert "30 days left" in order
    request = client.get(reverse("admin:orders_cancellationrequest_change", args=(parcel.requests.first().pk,)))
    assert parcel.code in text(request)
    assert soup(request).select(".order-pictures img")


def test_the_list_asks_as_much_for_many_returns_as_for_few(manager: User, client: Client, store: Store) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(reverse("admin:orders_return_changelist")).status_code == 200
        return len(queries)

    sent_back(store)
    client.get(reverse("admin:orders_return_changelist"))
    few = count()
    for _n in range(3):
        sent_back(store, lines=3)
    assert count() == few


def test_a_policy_that_orders_were_placed_under_is_succeeded_and_not_changed(
    manager: User, client: Client, store: Store
) -> None:
    old = ReturnPolicy.objects.create(valid_from=timezone.now() - timedelta(days=9), store=store)
    change = reverse("admin:orders_returnpolicy_change", args=(old.pk,))
    assert soup(client.get(change)).select("input[name=return_days]")
    factories.place_order(store=store)
    shown = client.get(change)
    assert not soup(shown).select("input[name=return_days]")
    assert "add a new one that begins later" in text(shown)
    assert client.post(change, {"return_days": "1"}).status_code == 403
    add = reverse("admin:orders_returnpolicy_add")
    data = filled_in(client.get(add)) | {"store": str(store.pk), "return_days": "60", "fee": "1", "currency": "eur"}
    early = {"valid_from_0": "2020-01-01", "valid_from_1": "00:00:00"}
    assert "Orders have been placed since then" in text(client.post(add, {**data, **early}))
    soon = timezone.localtime() + timedelta(minutes=1)
    later = {"valid_from_0": f"{soon:%Y-%m-%d}", "valid_from_1": f"{soon:%H:%M:%S}"}
    assert client.post(add, {**data, **later}).status_code == 302
    assert ReturnPolicy.objects.filter(store=store).count() == 2


# ---------------------------------------------------------------------------------------------------------------
# Programs


def test_a_program_receives_and_inspects_with_a_key(
    staff: Staff, store: Store, parcel: Return, work: Callable[[], int], books: Books
) -> None:
    maker = Actor.staff(staff("Admin"))

    def program(user: User, scope: str) -> dict[str, Any]:
        _row, secret = tokens.issue(actor=maker, name="Robot", user=user, scopes=[scope])
        return {"Authorization": f"Bearer {secret}"}

    warehouse = program(staff("Fulfilment", store), "inventory:write")
    client, path = Client(), f"/api/v1/returns/{parcel.code}"

    def ask(action: str, body: Any = None, key: str = "", who: dict[str, Any] = warehouse) -> Any:
        headers = {**who, **({"Idempotency-Key": key} if key else {})}
        return client.post(f"{path}/{action}", body or {}, content_type="application/json", headers=headers)

    shown = client.get(f"{path}/", headers=warehouse).json()
    one, two = shown["requests"]
    assert (shown["order"], one["awaited"], one["found"]) == (parcel.order.number, 2, [])
    assert ask("receive").json()["received_at"]
    assert ask("receive").status_code == 409
    found = [
        {"request": one["id"], "condition": "sellable", "quantity": 2},
        {"request": two["id"], "condition": "missing", "quantity": 1},
    ]
    for body, key, expected in (
        ({"found": found}, "", 400),
        ({"found": []}, "k-0", 400),
        ({"found": [found[0], found[0]]}, "k-0", 400),
        ({"found": [{**found[0], "condition": "lost"}]}, "k-0", 400),
        ({"found": [{**found[0], "quantity": 3}]}, "k-0", 400),
        ({"found": found, "deduction": "21"}, "k-0", 409),
    ):
        assert ask("inspect", body, key).status_code == expected, body
    elsewhere = program(staff("Fulfilment", factories.StoreFactory()), "inventory:write")
    other_scope = program(staff("Store Manager", store), "orders:cancel")
    assert ask("inspect", {"found": found}, "k-0", elsewhere).status_code == 404
    assert ask("inspect", {"found": found}, "k-0", other_scope).status_code == 403
    assert client.get(f"{path}/", headers=other_scope).status_code == 403
    assert client.get(f"{path}/").status_code == 401
    answer = ask("inspect", {"found": found, "note": "one is missing"}, "k-1")
    assert answer.status_code == 200, answer.content
    assert answer.json()["refund"]["amount"] == "20.000"
    assert [row["awaited"] for row in answer.json()["requests"]] == [0, 1]
    assert ask("inspect", {"found": found, "note": "one is missing"}, "k-1").content == answer.content
    work()
    assert Order.objects.get(pk=parcel.order_id).lines.first().returned == 2
    assert CancellationRequest.objects.get(pk=one["id"]).status == "completed"
    assert books() == []
