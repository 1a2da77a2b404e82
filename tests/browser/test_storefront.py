"""The whole circle in the shop, on a desktop and a phone: buy, cancel a unit, change the address, return, withdraw."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from PIL import Image
from playwright.sync_api import Page, expect

from checkout import services
from orders.models import CancellationRequest, Order, ReturnCarrier, Withdrawal
from shop.models import Store, User
from tests import factories
from tests.browser.conftest import DESKTOP, PHONE, Browse, follow
from tests.browser.test_pages import NAMED, SIDEWAYS
from tests.checkout.conftest import BERLIN, offer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "for-tests"


@pytest.fixture
def customer(store: Store) -> User:
    user = factories.UserFactory(email="ada@example.com")
    user.set_password(PASSWORD)
    user.save()
    services.save_address(customer=user, data=BERLIN, as_of=timezone.now())
    return user


def fits(page: Page) -> None:
    """Nothing is wider than the window, and everything has a name."""
    page.wait_for_load_state()
    assert page.evaluate(SIDEWAYS) == []
    assert page.evaluate(NAMED) == []


def press(page: Page, name: str) -> None:
    """A button that works on this page, or leads on when its call has been answered: expect what comes of it."""
    page.get_by_role("button", name=name, exact=True).click()


def submit(page: Page, name: str) -> None:
    follow(page, page.get_by_role("button", name=name, exact=True))


def open_link(page: Page, name: str | re.Pattern[str]) -> None:
    follow(page, page.get_by_role("link", name=name, exact=isinstance(name, str)))


def log_in(page: Page) -> None:
    open_link(page, "Log in")
    page.get_by_label("E-mail").fill("ada@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    submit(page, "Log in")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def buy(page: Page) -> None:
    """Three mugs, put into the cart as a guest, and one pot as the customer who has logged in since."""
    page.goto("/shop/")
    fits(page)
    open_link(page, re.compile("Blue mug"))
    page.get_by_label("Quantity").fill("3")
    press(page, "Add to cart")
    expect(page.get_by_role("status").filter(has_text="In your cart: Blue mug")).to_be_visible()
    log_in(page)
    page.goto("/shop/")
    page.get_by_label("Search products").fill("pot")
    submit(page, "Search")
    expect(page.get_by_role("heading", name="Blue mug")).to_have_count(0)
    press(page, "Add to cart: Tea pot")
    expect(page.locator("#cart-units")).to_have_text(re.compile(r"4$"))
    open_link(page, re.compile("^Cart"))
    page.get_by_label("Quantity of Blue mug").fill("2")
    page.get_by_label("Quantity of Blue mug").press("Enter")
    expect(page.get_by_role("complementary")).to_contain_text("€40.00")
    fits(page)
    open_link(page, "To the checkout")
    page.get_by_role("radio", name="Card").first.check()
    page.get_by_role("radio", name=re.compile("Standard")).check()
    expect(page.get_by_role("complementary")).to_contain_text("€45.00")
    fits(page)
    page.get_by_label("A note for us").fill("Ring <b>twice</b>.")
    page.get_by_role("button", name="Buy now").dblclick()
    expect(page.get_by_role("heading", name="Thank you for your order")).to_be_visible()
    expect(page.get_by_role("region", name="Your note")).to_contain_text("Ring <b>twice</b>.")
    fits(page)


def cancel_one_unit(page: Page) -> None:
    press(page, "Cancel items")
    dialog = page.get_by_role("dialog", name="Cancel items")
    dialog.get_by_label("How many of Blue mug").fill("1")
    dialog.get_by_role("checkbox", name="Blue mug").check()
    expect(dialog).to_contain_text("What will happen")
    fits(page)
    press(page, "Cancel now")
    expect(dialog).to_contain_text("Choose a reason.")
    dialog.get_by_label("Why?").select_option("Changed mind")
    page.get_by_role("button", name="Cancel now").dblclick()
    expect(page.get_by_role("status").filter(has_text="Cancelled.")).to_be_visible()
    expect(page.get_by_role("region", name="Items")).to_contain_text("1 cancelled")


def change_the_address(page: Page) -> None:
    press(page, "Change the address")
    dialog = page.get_by_role("dialog", name="Change the address")
    dialog.get_by_label("Address", exact=True).select_option("new")
    for label, words in {"First name": "Ada", "Last name": "Byron", "Street and number": "Lange Reihe 7"}.items():
        dialog.get_by_label(label).fill(words)
    dialog.get_by_label("Postcode").fill("20099")
    dialog.get_by_label("City").fill("Hamburg")
    fits(page)
    press(page, "Use this address")
    expect(page.get_by_role("region", name="It goes to")).to_contain_text("20099 Hamburg")


def send_back(page: Page, number: str, picture: Path) -> None:
    open_link(page, "Orders")
    fits(page)
    open_link(page, re.compile(f"Order {number}"))
    press(page, "Send something back")
    dialog = page.get_by_role("dialog", name="Send something back")
    dialog.get_by_label("Why?").select_option("Arrived damaged or wrong")
    dialog.get_by_label("What is wrong with it").fill("The lid is broken.")
    dialog.get_by_label("Pictures").set_input_files(picture)
    expect(dialog.get_by_role("img", name=picture.name)).to_be_visible()
    dialog.get_by_label("Shipping company").select_option("Parcels Ltd")
    dialog.get_by_label("Have it fetched at my door").check()
    dialog.get_by_label("Day").fill((timezone.localdate() + timedelta(days=2)).isoformat())
    fits(page)
    press(page, "Ask to send it back")
    expect(page.get_by_role("region", name="Return", exact=True)).to_contain_text("Asked for")
    fits(page)


def withdraw(page: Page, number: str) -> None:
    """From what is left of the order that was bought: a mug and the pot; the mug only."""
    open_link(page, "Orders")
    open_link(page, re.compile(f"Order {number}"))
    follow(page, page.get_by_role("main").get_by_role("link", name="Withdraw from contract here"))
    expect(page.get_by_role("radio", name=re.compile(number))).to_be_checked()
    page.get_by_label("Your name").fill("Ada Lovelace")
    fits(page)
    submit(page, "Go on")
    page.get_by_label("Units of Tea pot").fill("0")
    fits(page)
    submit(page, "Show it with these quantities")
    expect(page.get_by_label("Units of Tea pot")).to_have_value("0")
    page.get_by_role("button", name="Confirm withdrawal").dblclick()
    expect(page.get_by_role("heading", name="We have received your withdrawal")).to_be_visible()
    expect(page.get_by_role("region", name="What follows")).to_contain_text("1 × Blue mug")
    fits(page)


def test_without_scripts_a_customer_logs_in_and_reads_and_is_offered_nothing_that_needs_them(
    browse: Browse, store: Store, customer: User
) -> None:
    order = factories.place_order([("30.00", 1)], store=store, customer=customer, until="delivered")
    page = browse(width=PHONE, java_script_enabled=False).page
    page.goto(f"/shop/orders/{order.number}/")
    page.get_by_label("E-mail").fill("ada@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    submit(page, "Log in")
    expect(page.get_by_role("heading", name=f"Order {order.number}")).to_be_visible()
    expect(page.get_by_role("link", name="Withdraw from contract here")).to_have_count(2)
    assert page.get_by_role("button").all_inner_texts() == ["Log out"]
    submit(page, "Log out")
    page.goto("/shop/")
    assert page.get_by_role("button").all_inner_texts() == ["Search"]


def test_every_line_is_cancelled_by_one_box_and_by_keyboard_alone(browse: Browse, store: Store, customer: User) -> None:
    order = factories.place_order([("30.00", 1), ("5.00", 2), ("6.00", 3)], store=store, customer=customer)
    page = browse(customer).page
    page.goto(f"/shop/orders/{order.number}/")
    page.get_by_role("button", name="Cancel items").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Cancel items")
    every = dialog.get_by_role("checkbox", name="All of it")
    expect(every).to_be_focused()
    page.keyboard.press("Space")
    expect(dialog).to_contain_text("Nothing is left of the order then")
    dialog.locator("input[type=number]").first.fill("1")
    expect(dialog).to_contain_text("What will happen")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Cancel items")).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_label("Why?").select_option("Changed mind")
    dialog.get_by_role("button", name="Cancel now").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Cancelled.")).to_be_visible()
    assert [line.cancelled for line in order.lines.order_by("position")] == [1, 1, 3]


@pytest.mark.parametrize("width", [pytest.param(DESKTOP, marks=pytest.mark.thorough), PHONE])
def test_a_customer_goes_the_whole_circle(
    browse: Browse,
    store: Store,
    customer: User,
    width: int,
    tmp_path: Path,
    work: Callable[[], int],
    books: Callable[[], list[str]],
) -> None:
    offer(store)
    factories.stocked(store, name="Blue mug", units=10)
    factories.stocked(store, name="Tea pot", price="20.00", units=5)
    ReturnCarrier.objects.create(code="parcels", name="Parcels Ltd", fetches=True)
    delivered = factories.place_order([("30.00", 1)], store=store, customer=customer, until="delivered")
    picture = tmp_path / "lid.png"
    Image.new("RGB", (64, 48), "red").save(picture)

    page = browse(width=width).page
    buy(page)
    cancel_one_unit(page)
    change_the_address(page)
    send_back(page, str(delivered.number), picture)
    bought = Order.objects.exclude(pk=delivered.pk).get()  # once, however often the button was pressed
    withdraw(page, str(bought.number))
    work()

    assert [line.cancelled for line in bought.lines.order_by("position")] == [2, 0]
    assert Withdrawal.objects.get().order == bought
    bought.refresh_from_db()
    assert bought.shipping_address.city == "Hamburg"
    assert bought.billing_address.city == "Berlin"
    request = CancellationRequest.objects.get()
    assert (request.line.order, request.cancellation_type, request.quantity) == (delivered, "refund", 1)
    assert (request.pictures.count(), request.goods_return.carrier.name) == (1, "Parcels Ltd")
    assert books() == []
