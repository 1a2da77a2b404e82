"""Of a withdrawal, what a delivery dearer than the standard one cost more is not given back: to the cent, and told."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.models import Message
from orders.models import Cancellation, CancellationRequest, Order, Status, Withdrawal
from orders.processing import EventHandler, get_event_handler
from orders.processing.verify import verify
from orders.rules import dearer_delivery
from payments.models import Payment
from shop.actors import Actor
from shop.errors import Refused
from tests import factories
from tests.examples import examples
from tests.orders.pages import filled_in
from tests.orders.test_lives import undone
from tests.orders.test_partial_money import RELAXED
from tests.orders.test_withdrawal import declare

Place = Callable[..., Order]
Books = Callable[[], list[str]]
Work = Callable[[], int]

pytestmark = pytest.mark.django_db

EXPRESS: dict[str, Any] = {
    "shipping": "12.90",
    "shipping_standard": Decimal("4.90"),
    "shipping_method": "express",
    "shipping_method_name": "Express",
}
WORDS = "Express: €8.00 more than the standard delivery is not refunded."


def given_back(order: Order) -> Decimal:
    return sum((p.refunded for p in Payment.objects.filter(reference=order.number)), Decimal(0))


def came_back(row: Withdrawal, units: dict[int, int], **how: Any) -> None:
    """The parcel is here, with these units of each line."""
    assert row.goods_return is not None
    requests = dict(row.goods_return.requests.values_list("line", "pk"))
    found = {requests[pk]: {"sellable": n} for pk, n in units.items()}
    get_event_handler(Actor.system()).inspect_return(code=row.goods_return.code, found=found, **how)


def test_of_goods_that_came_back_the_standard_delivery_is_refunded(place: Place, work: Work, books: Books) -> None:
    order = place([("10.00", 2)], **EXPRESS, until="delivered")
    row = declare(order)
    assert row.shipping_kept == Decimal("8.00")
    came_back(row, {order.lines.get().pk: 2})
    work()
    order.refresh_from_db()
    assert (given_back(order), order.status) == (Decimal("24.90"), Status.REFUNDED)
    told = {mail.event: mail.text for mail in Message.objects.filter(reference=order.number)}
    assert WORDS in told["withdrawal_received"]
    assert WORDS in told["units_returned"]
    assert books() == []


def test_of_goods_that_are_being_packed_too(place: Place, work: Work, books: Books) -> None:
    order = place([("10.00", 2)], **EXPRESS, until="paid")
    row = declare(order)
    work()
    order.refresh_from_db()
    assert (order.status, row.shipping_kept, given_back(order)) == (
        Status.CANCELLED,
        Decimal("8.00"),
        Decimal("24.90"),
    )
    assert WORDS in Message.objects.get(event="order_cancelled").text
    assert Decimal(Cancellation.objects.get(order=order).plan["dearer"]) == 8
    assert books() == []


def test_a_withdrawal_is_never_worth_less_than_a_cancellation(place: Place, work: Work, books: Books) -> None:
    """What customers may cancel at once, with all of its shipping, they may withdraw from with all of it."""
    order = place([("10.00", 2)], **EXPRESS, capture_mode="at_placement")
    work()
    assert Order.objects.get(pk=order.pk).facts.captured == order.total
    row = declare(order)
    work()
    assert (row.shipping_kept, given_back(order)) == (0, order.total)
    assert books() == []


def test_where_nobody_knows_the_standard_or_it_was_chosen_all_of_it_goes_back(
    place: Place, work: Work, books: Books
) -> None:
    for standard in (None, Decimal("12.90")):
        order = place([("10.00", 1)], **{**EXPRESS, "shipping_standard": standard}, until="delivered")
        row = declare(order)
        came_back(row, {order.lines.get().pk: 1})
        work()
        assert (row.shipping_kept, given_back(order)) == (0, order.total)
        assert "more than the standard" not in Message.objects.get(reference=order.number, event="units_returned").text
    assert books() == []


def test_an_ordinary_return_gives_back_what_it_gave_back_before(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 1)], **EXPRESS, until="delivered")
    system.take_back(number=order.number or "", lines={order.lines.get().pk: (1, "sellable")})
    work()
    assert given_back(order) == order.total
    assert books() == []


def test_staff_take_back_without_the_code_what_was_withdrawn_from(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 2)], **EXPRESS, until="delivered")
    line = order.lines.get()
    row = declare(order, {line.pk: 1})
    system.take_back(number=order.number or "", lines={line.pk: (2, "sellable")})  # one more than was withdrawn from
    work()
    assert given_back(order) == order.total - row.shipping_kept == order.total - 4
    assert WORDS.replace("8.00", "4.00") in Message.objects.get(event="units_returned").text
    assert books() == []


def test_staff_say_that_it_is_a_withdrawal_and_may_give_it_back_all_the_same(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    for deduction, kept in ((None, 8), (Decimal(0), 0), (Decimal(9), 9)):
        order = place([("10.00", 1)], **EXPRESS, until="delivered")
        lines = {order.lines.get().pk: (1, "sellable")}
        plan = system.planned_return(order.facts, lines, reason="withdrawal", deduction=deduction)
        assert (plan.deduction, plan.dearer) == (kept, 8 if kept >= 8 else 0)
        system.take_back(number=order.number or "", lines=lines, reason="withdrawal", deduction=deduction)
        work()
        assert given_back(order) == order.total - kept
    assert books() == []


def test_the_page_keeps_it_as_soon_as_the_reason_says_withdrawal(
    place: Place, admin_client: Client, work: Work, books: Books
) -> None:
    order = place([("10.00", 1)], **EXPRESS, until="delivered")
    url = reverse("admin:orders_order_do", args=(order.pk, "take-back"))
    first = filled_in(admin_client.get(url))
    assert first["deduction"] == "0.00"
    shown = admin_client.post(url, {**first, "reason": "withdrawal", "step": "confirm"})
    again = filled_in(shown)
    assert again["deduction"] == "8.00"
    assert WORDS in shown.content.decode()
    assert admin_client.post(url, {**again, "step": "confirm"}).status_code == 302
    work()
    assert given_back(order) == order.total - 8
    assert books() == []


def test_a_part_carries_its_share_and_the_parts_make_the_whole(place: Place, work: Work, books: Books) -> None:
    order = place([("10.00", 3), ("7.00", 1)], **EXPRESS, until="delivered")
    one, other = order.lines.order_by("position")
    first = declare(order, {one.pk: 1})
    assert first.shipping_kept == Decimal("2.16")  # a third of 8.00 × 30/37
    came_back(first, {one.pk: 1})
    work()
    assert given_back(order) == one.price_of_next(1, after=0, currency="EUR") - Decimal("2.16")
    rest = declare(order)
    came_back(rest, {one.pk: 2, other.pk: 1})
    work()
    assert first.shipping_kept + rest.shipping_kept == Decimal("8.00")
    assert given_back(order) == order.total - Decimal("8.00")
    assert books() == []


def test_half_of_it_cancelled_and_half_of_it_sent_back(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 2)], **EXPRESS, until="paid")
    only = order.lines.get()
    system.ship(number=order.number or "", lines={only.pk: 1})
    row = declare(order)
    work()
    assert (row.shipping_kept, given_back(order)) == (Decimal("8.00"), Decimal("12.45"))
    came_back(row, {only.pk: 1})
    work()
    assert given_back(order) == Decimal("24.90")
    assert books() == []


def test_staff_see_what_is_kept_and_may_give_it_back(
    place: Place, admin_actor: Actor, admin_client: Client, work: Work, books: Books
) -> None:
    order = place([("10.00", 1)], **EXPRESS, until="delivered")
    row = declare(order)
    assert row.goods_return is not None
    request = CancellationRequest.objects.get()
    page = admin_client.get(reverse("admin:orders_withdrawal_change", args=(row.pk,)))
    assert WORDS in page.content.decode()
    settled = get_event_handler(admin_actor).plan_inspection(
        code=row.goods_return.code, found={request.pk: {"sellable": 1}}
    )
    assert settled.plan is not None
    assert (settled.plan.deduction, settled.plan.dearer, settled.plan.refund) == (
        Decimal("8.00"),
        Decimal("8.00"),
        Decimal("14.90"),
    )
    inspect = reverse("admin:orders_return_do", args=(row.goods_return.pk, "inspect"))
    assert WORDS in admin_client.get(inspect).content.decode()
    came_back(row, {order.lines.get().pk: 1}, deduction=Decimal(0))
    work()
    assert given_back(order) == order.total
    assert books() == []


def test_the_customer_reads_it_before_confirming_and_strangers_read_no_amount(place: Place) -> None:
    order = place([("10.00", 1)], **EXPRESS, until="delivered")
    told = {"step": "state", "name": "Ada Lovelace", "number": order.number, "email": order.email}
    page = Client().post(reverse("shop-withdraw"), told).content.decode()
    assert "What your delivery cost more than the standard delivery is not refunded." in page
    assert "8.00" not in page
    handler = get_event_handler(Actor.guest(""))
    statement = handler.state_withdrawal(name="Ada", number=order.number or "", email=order.email)
    assert (statement.not_refunded, statement.not_refunded_words) == (Decimal("8.00"), WORDS)


def test_the_api_tells_the_amount_to_the_owner_only(place: Place) -> None:
    owner, stranger = factories.UserFactory(), factories.UserFactory()
    order = place([("10.00", 1)], **EXPRESS, customer=owner, until="delivered")
    told = {"name": "Ada", "number": order.number, "email": order.email}
    answers = []
    for user in (owner, stranger, None):
        client = Client()
        if user is not None:
            client.force_login(user)
        answer = client.post("/api/v1/withdrawals/", told, content_type="application/json").json()
        answers.append((answer["order_found"], answer["not_refunded"]))
    assert answers == [(True, "8.00"), (True, None), (True, None)]


def test_tax_on_top_is_kept_with_it(place: Place, work: Work, books: Books) -> None:
    store = factories.StoreFactory(prices_include_tax=False)
    product = factories.stocked(store, price=Decimal("10.00"), tax_rate=Decimal(19))
    order = place([product], store=store, **EXPRESS, until="delivered")
    row = declare(order)
    assert row.shipping_kept == Decimal("9.52")  # 8.00 and 19 % of it
    came_back(row, {order.lines.get().pk: 1})
    work()
    assert given_back(order) == order.total - Decimal("9.52")
    assert books() == []


def test_the_standard_is_frozen_and_cannot_be_dearer_than_what_was_paid(place: Place) -> None:
    with pytest.raises(Refused, match="cannot cost more"):
        place([("10.00", 1)], shipping="4.90", shipping_standard=Decimal("5.00"))
    order = place([("10.00", 1)], **EXPRESS)
    with pytest.raises(IntegrityError), transaction.atomic():
        Order.objects.filter(pk=order.pk).update(shipping_standard=13)
    Order.objects.filter(pk=order.pk).update(shipping_standard=2)
    assert any("journal entry 1" in words for words in verify())


@settings(max_examples=examples(25), **RELAXED)
@given(
    prices=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 5)), min_size=1, max_size=4),
    paid=st.integers(0, 3000),
    standard=st.integers(0, 3000),
    discount=st.integers(0, 100),
)
def test_however_it_is_taken_apart_no_unit_keeps_more_than_it_cost(
    prices: list[tuple[int, int]], paid: int, standard: int, discount: int
) -> None:
    with undone():
        worth = sum(price * units for price, units in prices)
        order = factories.place_order(
            [(Decimal(price) / 100, units) for price, units in prices],
            shipping=Decimal(paid) / 100,
            shipping_standard=Decimal(min(standard, paid)) / 100,
            discount=Decimal(worth * discount // 100) / 100,
            gateway="manual",
            pay=False,
        )
        facts, kept = order.facts, Decimal(0)
        for line in facts.lines:
            for _unit in range(line.quantity):
                part = dearer_delivery(facts, {line.pk: 1})
                assert 0 <= part <= line.price_of_next(1, after=line.refunded, currency="EUR")
                kept += part
                line.refunded += 1
        whole = order.shipping_total - (order.shipping_standard or 0)
        assert abs(kept - whole) <= Decimal("0.01") * sum(line.quantity for line in facts.lines)
        if not discount:
            assert kept == whole
