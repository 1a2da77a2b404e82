"""Orders by clicking: to the customer's door, cancelled, two people at one, and somebody who may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from orders.models import Order, ShippingEvent, Status
from shop.models import Store, User
from tests import factories
from tests.browser.conftest import Browse, follow

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Work = Callable[[], int]
Books = Callable[[], list[str]]


def do_url(order: Order, name: str) -> str:
    return reverse("admin:orders_order_do", args=(order.pk, name))


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def test_an_order_goes_from_review_to_the_door(
    browse: Browse, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2), ("5.00", 1)], store=store)
    work()
    desk = browse(manager)
    desk.open(reverse("admin:index"))
    follow(desk.page, desk.page.get_by_role("navigation", name="Desk").get_by_role("link", name="Orders", exact=True))
    follow(desk.page, desk.page.get_by_role("link", name=str(order.number), exact=True))

    desk.do("Approve")
    desk.press("Approve")
    desk.sees("The order is approved.")
    desk.do("Start preparing")
    desk.press("Start preparing")
    desk.sees("The order is being prepared.", "These goods have not been paid for.")

    desk.do("Take payment")
    desk.sees("What will happen", "€25.00")
    desk.press("Confirm: Take payment")
    desk.sees("€25.00 is being taken")
    work()

    desk.order(order)
    desk.do("Ship")
    desk.page.get_by_label("Carrier").fill("DHL")
    desk.page.get_by_label("Tracking number").fill("JD0001")
    desk.press("Ship")
    desk.sees("3 units shipped", "JD0001")
    desk.do("Delivered")
    desk.press("Delivered")
    desk.sees("3 units delivered.")
    expect(desk.page.locator("h1")).to_contain_text("Delivered")
    assert desk.offers()[0] == "Take back"

    work()
    assert fresh(order).status == Status.DELIVERED
    assert ShippingEvent.objects.get(order=order, event_type__code="shipped").tracking_number == "JD0001"
    assert books() == []


def test_a_cancellation_is_shown_explained_confirmed_and_paid_back(
    browse: Browse, manager: User, store: Store, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], store=store, until="paid")
    desk = browse(manager)
    desk.order(order)
    desk.do("Cancel")
    desk.sees("What will happen", "€20.00", "2 back into stock", "ends: nothing of it is left")

    # The browser itself asks for what is missing: the reason, then the tick.
    desk.page.get_by_role("button", name="Confirm cancellation").click()
    assert desk.page.get_by_label("Reason").evaluate("field => field.validity.valueMissing")
    desk.page.get_by_label("Reason").select_option("out_of_stock")
    desk.page.get_by_role("button", name="Confirm cancellation").click()
    tick = desk.page.get_by_label("I have made sure")
    assert tick.evaluate("field => field.validity.valueMissing")
    assert fresh(order).status == Status.PREPARING

    tick.check()
    desk.press("Confirm cancellation")
    desk.sees("The order is cancelled.", "€20.00 is being refunded.", "is on its way")
    work()
    desk.order(order)
    expect(desk.page.locator(".order-totals div", has_text="Refunded")).to_contain_text("€20.00")
    expect(desk.page.locator("h1")).to_contain_text("Cancelled")
    assert books() == []


def test_some_units_are_cancelled_after_their_own_plan_was_shown(
    browse: Browse, manager: User, store: Store, books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], store=store)
    desk = browse(manager)
    desk.open(do_url(order, "cancel"))
    desk.page.get_by_label("Only some units").check()
    desk.page.locator(".order-units input").fill("1")
    desk.page.get_by_label("Reason").select_option("out_of_stock")
    desk.press("Confirm cancellation", status=200)
    desk.sees("You have changed your choice.", "goes on with 2 units")
    desk.press("Confirm cancellation")
    desk.sees("1 unit cancelled.")
    assert order.lines.get().cancelled == 1
    assert books() == []


@pytest.mark.thorough
def test_the_second_of_two_people_is_told_who_did_what_and_nothing_happens(
    browse: Browse, manager: User, staff: Callable[..., User], store: Store
) -> None:
    order = factories.place_order(store=store)
    second_user = staff("Store Manager", store)
    first, second = browse(manager), browse(second_user)
    first.open(do_url(order, "approve"))
    second.open(do_url(order, "cancel"))
    second.page.get_by_label("Reason").select_option("out_of_stock")

    first.press("Approve")
    entries = order.journal.count()
    second.press("Confirm cancellation", status=409)
    second.sees(f"{manager.get_full_name()} approved the order", "Nothing has happened.")
    assert fresh(order).status == Status.APPROVED
    assert order.journal.count() == entries

    follow(second.page, second.page.get_by_role("link", name="Reload"))
    second.page.get_by_label("Reason").select_option("out_of_stock")
    second.press("Confirm cancellation")
    assert fresh(order).status == Status.CANCELLED


def test_a_second_click_does_nothing_more(browse: Browse, manager: User, store: Store) -> None:
    order = factories.place_order(store=store, until="paid")
    desk = browse(manager)
    desk.open(do_url(order, "ship"))
    with desk.page.expect_navigation():
        desk.page.get_by_role("button", name="Ship", exact=True).dblclick()
    desk.sees("2 units shipped")
    assert order.shipping_events.filter(event_type__code="shipped").count() == 1


def test_without_the_permission_there_is_no_button_and_the_address_is_refused(
    browse: Browse, staff: Callable[..., User], store: Store
) -> None:
    order = factories.place_order(store=store)
    service, stranger = browse(staff("Customer Service")), browse(staff("Store Manager", factories.StoreFactory()))
    service.order(order)
    assert "Cancel" in service.offers()
    assert "Approve" not in service.page.locator(".desk-buttons").first.inner_text()
    service.open(do_url(order, "approve"), status=403)
    stranger.open(do_url(order, "approve"), status=404)
    assert fresh(order).status == Status.CONFIRMATION_WAITING


def test_people_log_in_find_an_order_and_log_out(browse: Browse, manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    manager.set_password("correct horse")
    manager.save()
    desk = browse()
    desk.open(reverse("admin:index"))
    expect(desk.page).to_have_title("Log in | Orderdesk")
    desk.page.get_by_label("Username").fill(manager.username)
    desk.page.get_by_label("Password").fill("correct horse")
    desk.press("Log in")
    # A whole number leads straight to its order.
    desk.page.get_by_label("Find orders").fill(str(order.number))
    desk.page.keyboard.press("Enter")
    expect(desk.page.locator("h1")).to_contain_text(str(order.number))
    follow(desk.page, desk.page.get_by_role("button", name="Log out"))
    desk.open(reverse("admin:index"))
    expect(desk.page.get_by_label("Password")).to_be_visible()
