"""Cancellations in the admin: undone, completed early, reinstated, found again; begun from the list of orders."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from bs4 import BeautifulSoup
from django.urls import reverse
from django.utils import timezone

from orders.models import Approval, Cancellation, CancelRule, Order, Status
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.models import Store, User
from tests import factories
from tests.orders.pages import ORDERS, browser, do, page_of, permissions, press, text

Place = Callable[..., Order]
Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


# ---------------------------------------------------------------------------------------------------------------
# On the order's page: what waits, undo, complete now, reinstate


@pytest.fixture
def pending(manager: User, place: Place, store: Store) -> Order:
    """An order that a manager has cancelled and can still undo."""
    CancelRule.objects.create(undo_minutes=30)
    order = place(store=store, until="approved")
    get_event_handler(Actor.staff(manager)).cancel(number=order.number or "", reason="out_of_stock")
    return Order.objects.get(pk=order.pk)


def order_page(order: Order) -> str:
    return reverse("admin:orders_order_change", args=(order.pk,))


def test_the_order_says_that_a_cancellation_waits_and_whose_turn_it_is(
    manager: User, packer: User, asked: Callable[..., Approval]
) -> None:
    approval = asked()
    order = Order.objects.get(cancellations__approval=approval)
    page = browser(manager).get(order_page(order))
    assert "A cancellation waits for approval." in text(page)
    assert f"{packer.get_full_name()} asked for it; Store management decides." in text(page)
    assert page_of(approval) in page.content.decode()


def test_a_cancellation_is_undone_from_the_orders_page(manager: User, pending: Order, work: Work, books: Books) -> None:
    desk = browser(manager)
    page = desk.get(order_page(pending))
    assert f"Cancelled by {manager.get_full_name()}" in text(page)
    assert b"data-countdown" in page.content
    assert press(desk, do(pending, "undo", "order"), note="A mistake").status_code == 302
    work()
    order = Order.objects.get(pk=pending.pk)
    assert (order.status, order.facts.voided) == (Status.APPROVED, 0)
    assert "Cancelled by" not in text(desk.get(order_page(order)))
    assert books() == []


def test_a_cancellation_is_completed_before_its_time(manager: User, pending: Order, work: Work, books: Books) -> None:
    assert press(browser(manager), do(pending, "complete-now", "order")).status_code == 302
    work()
    order = Order.objects.get(pk=pending.pk)
    assert (order.undo_until, order.facts.voided) == (None, order.total)
    assert books() == []


def test_after_its_time_a_cancellation_cannot_be_undone_and_says_what_can(manager: User, pending: Order) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Order.objects.filter(pk=pending.pk).update(undo_until=past)
    answer = browser(manager).get(do(pending, "undo", "order"))
    assert "The time to undo this is over." in text(answer)
    posted = browser(manager).post(do(pending, "undo", "order"), {"version": pending.version})
    assert posted.status_code == 409
    assert Order.objects.get(pk=pending.pk).status == Status.CANCELLED


def test_without_the_permission_nobody_undoes_or_reinstates(pending: Order, staff: Staff, store: Store) -> None:
    nobody = staff(None, store)
    nobody.user_permissions.add(*permissions("view_order", "view_cancellation"))
    desk, row = browser(nobody), Cancellation.objects.get()
    for address in (
        do(pending, "undo", "order"),
        do(pending, "complete-now", "order"),
        do(pending, "reinstate", "order"),
        do(row, "undo", "cancellation"),
        do(row, "complete-now", "cancellation"),
    ):
        assert desk.get(address).status_code == 403
        assert desk.post(address, {"version": pending.version}).status_code == 403
    assert Order.objects.get(pk=pending.pk).version == pending.version


def test_cancelled_units_are_reinstated_after_a_page_that_says_what_it_takes(
    manager: User, system: EventHandler, place: Place, store: Store, work: Work, books: Books
) -> None:
    pot = factories.stocked(store, units=1, price=Decimal(10))
    order = place([pot], store=store, until="paid")
    system.cancel(number=order.number or "", reason="out_of_stock")
    work()
    desk = browser(manager)
    page = text(desk.get(do(order, "reinstate", "order")))
    assert "€10.00 , if everything comes back" in page
    assert "Everything is there." in page
    assert press(desk, do(order, "reinstate", "order")).status_code == 302
    work()
    then = Order.objects.get(pk=order.pk)
    assert (then.status, then.facts.outstanding) == (Status.PAYMENT_WAITING, 10)
    assert books() == []


def test_what_is_missing_in_stock_is_told_before_and_refused(
    manager: User, system: EventHandler, place: Place, store: Store, work: Work
) -> None:
    pot = factories.stocked(store, units=1, price=Decimal(10))
    order = place([pot], store=store, until="paid")
    system.cancel(number=order.number or "", reason="out_of_stock")
    work()
    place([pot], store=store)
    desk = browser(manager)
    assert "0 of 1 unit is in stock" in text(desk.get(do(order, "reinstate", "order")))
    before = Order.objects.filter(pk=order.pk).values().get()
    answer = press(desk, do(order, "reinstate", "order"))
    assert answer.status_code == 409, text(answer)
    assert Order.objects.filter(pk=order.pk).values().get() == before


# ---------------------------------------------------------------------------------------------------------------
# All cancellations


def test_cancellations_are_found_by_order_status_reason_person_and_what_is_unusual(
    manager: User, pending: Order, asked: Callable[..., Approval]
) -> None:
    waiting = asked().cancellation
    assert waiting is not None
    Cancellation.objects.filter(pk=waiting.pk).update(unusual=["Too many"])
    desk, address = browser(manager), "/admin/orders/cancellation/"

    def found(**query: str) -> list[str]:
        page = BeautifulSoup(desk.get(address, query).content, "html.parser")
        return [cell.get_text(strip=True) for cell in page.select("#result_list .field-order_link")]

    one, two = str(waiting.order.number), str(pending.number)
    assert found() == [one, two]
    assert found(status__exact="pending") == [two]
    assert found(unusual="yes") == [one]
    assert found(unusual="no") == [two]
    assert found(by=str(manager.pk)) == [two]
    assert found(reason__category="inventory_issues") == [one, two]
    assert found(reason__category="duplicate_order") == []
    assert found(q=one) == [one]


def test_a_cancellations_page_tells_all_of_it_and_undoes_it(manager: User, pending: Order, books: Books) -> None:
    row, desk = Cancellation.objects.get(), browser(manager)
    page = text(desk.get(reverse("admin:orders_cancellation_change", args=(row.pk,))))
    for words in (manager.get_full_name(), "Out of stock", "€20.00 is released", "Can be undone", "Approved"):
        assert words in page, words
    answer = press(desk, do(row, "undo", "cancellation"))
    assert answer.url == order_page(pending)
    assert Order.objects.get(pk=pending.pk).status == Status.APPROVED
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# From the list and back


def test_an_order_is_cancelled_from_the_lists_menu_and_the_list_comes_back(
    manager: User, place: Place, store: Store
) -> None:
    order = place(store=store)
    desk, here = browser(manager), f"{ORDERS}?status__exact=confirmation_waiting"
    page = BeautifulSoup(desk.get(here).content, "html.parser")
    menu = page.select_one("#result_list details summary")
    assert menu is not None
    assert order.number in menu["aria-label"]
    link = next(a["href"] for a in page.select(".order-menu a") if a.get_text() == "Cancel")
    answer = press(desk, str(link), step="confirm", reason="out_of_stock")
    assert answer.status_code == 302, text(answer)
    assert answer.url == here
    told = desk.get(answer.url)
    assert f"{order.number}: The order is cancelled." in text(told)
    assert told.context["cl"].result_count == 0
    assert Order.objects.get(pk=order.pk).status == Status.CANCELLED


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_no_address_outside_the_desk_is_led_back_to(elsewhere: str, manager: User, place: Place, store: Store) -> None:
    order = place(store=store)
    address = f"{do(order, 'approve', 'order')}?next={elsewhere}"
    desk = browser(manager)
    assert elsewhere not in desk.get(address).content.decode()
    answer = press(desk, address)
    assert answer.status_code == 302
    assert answer.url == order_page(order)
