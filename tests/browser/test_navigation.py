"""The navigation leads everywhere, and shows where one is: also on a phone, and where it is longer than the window."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from shop.models import User
from tests.browser.conftest import DESKTOP, PHONE, Browse, follow

pytestmark = [pytest.mark.thorough, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SEEN = """() => {
    const nav = document.querySelector('.desk-nav'), here = nav.querySelector('[aria-current]');
    const [own, box] = [here.getBoundingClientRect(), nav.getBoundingClientRect()];
    return own.bottom <= Math.min(box.bottom, window.innerHeight) && own.right <= box.right;
}"""


def test_a_phone_leads_to_what_stands_under_more(browse: Browse, manager: User) -> None:
    page = browse(manager, width=PHONE).open(reverse("admin:index"))
    page.locator(".desk-nav summary", has_text="More: Orders").click()
    link = page.locator(".desk-nav").get_by_role("link", name="Documents", exact=True)
    follow(page, link)
    expect(page.get_by_role("heading", name="Documents", level=1)).to_be_visible()
    assert page.evaluate(SEEN)


def test_where_one_is_stands_in_view_however_long_the_list(browse: Browse, manager: User) -> None:
    desk = browse(manager, width=DESKTOP)
    desk.page.set_viewport_size({"width": DESKTOP, "height": 480})
    page = desk.open(reverse("admin:orders_document_changelist"))
    assert page.evaluate("document.querySelector('.desk-nav').scrollTop") > 0
    assert page.evaluate(SEEN)
