"""The desk without a mouse."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from shop.models import Store, User
from tests import factories
from tests.browser.conftest import Browse

pytestmark = [pytest.mark.thorough, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FOCUS = """() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1 || style.boxShadow !== 'none';
}"""


def test_a_slash_goes_to_the_search_and_is_typed_elsewhere(browse: Browse, manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    page = browse(manager).open(reverse("admin:index"))
    page.keyboard.press("/")
    expect(page.get_by_label("Find orders")).to_be_focused()
    page.keyboard.type("a/b")
    expect(page.get_by_label("Find orders")).to_have_value("a/b")
    page.get_by_label("Find orders").fill("customer@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name=str(order.number), exact=True)).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("/")
    expect(page.locator("#searchbar")).to_be_focused()


def test_the_first_tab_skips_to_the_content(browse: Browse, manager: User) -> None:
    page = browse(manager).open(reverse("admin:index"))
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    expect(skip).to_have_text("Skip to main content")
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content-start"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_focus_is_seen_wherever_it_goes(scheme: str, browse: Browse, manager: User, store: Store) -> None:
    order = factories.place_order(store=store, until="approved")
    page = browse(manager, color_scheme=scheme).open(reverse("admin:orders_order_do", args=(order.pk, "cancel")))
    unseen, stops = [], set()
    for _stop in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate("document.activeElement.outerHTML.slice(0, 90)")
        stops.add(stop)
        if not stop.startswith("<body") and not page.evaluate(FOCUS):
            unseen.append(stop)
    assert unseen == []
    assert any("Confirm" in stop or 'value="confirm"' in stop for stop in stops)


def test_help_opens_and_closes_and_letters_lead_on(browse: Browse, manager: User) -> None:
    page = browse(manager).open(reverse("admin:index"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    # The dialog gives the focus back, in its own time; until then, letters are typed into it.
    page.wait_for_function("document.activeElement.closest('dialog') === null")
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_url("**" + reverse("admin:shop_job_changelist"))


def test_an_order_is_approved_by_the_keyboard_alone(browse: Browse, manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    desk = browse(manager)
    page = desk.order(order)
    page.locator("#content").get_by_role("link", name="Approve", exact=True).first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Note").focus()
    page.keyboard.type("Looks fine")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    desk.sees("The order is approved.", "Looks fine")
