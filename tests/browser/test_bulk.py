"""Many orders cancelled by clicking: chosen on the list, confirmed, watched on a page that keeps itself up to date."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from orders.models import BulkRun
from shop.models import Store, User
from tests import factories
from tests.browser.conftest import PHONE, Browse, follow
from tests.browser.test_pages import CONTRAST, NAMED, SIDEWAYS

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.thorough
def test_a_run_is_begun_watched_and_led_without_reloading(
    browse: Browse, manager: User, store: Store, work: Callable[[], int]
) -> None:
    product = factories.stocked(store)
    for n in range(6):
        factories.place_order([product], store=store, email=f"c{n}@example.com", until="shipped" if n == 3 else "paid")
    desk = browse(manager, reduced_motion="reduce")
    page = desk.open(reverse("admin:orders_order_changelist"))
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("cancel_orders")
    follow(page, page.get_by_role("button", name="Go", exact=True))
    desk.sees("6 orders are chosen.", "5 can be cancelled", "€50.00")
    wrong = [*page.evaluate(NAMED), *page.evaluate(CONTRAST)]
    page.get_by_label("Reason").select_option("out_of_stock")
    page.get_by_label("Try five first").check()
    page.get_by_label("I have looked at this page").check()
    desk.press("Confirm cancellation")
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "0")
    work()
    # The page asks by itself, sees that the run has paused, and offers to resume.
    desk.sees("The first 5 have been tried, 4 of them are cancelled.")
    desk.press("Resume")
    work()
    expect(bar).to_have_attribute("aria-valuetext", "6 of 6 orders")
    desk.sees("Finished")
    follow(page, page.get_by_role("link", name="Not possible"))
    desk.sees("Everything has been shipped")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        wrong += [*page.evaluate(NAMED), *page.evaluate(CONTRAST)]
    page.set_viewport_size({"width": PHONE, "height": 844})
    assert [*wrong, *page.evaluate(SIDEWAYS)] == []
    assert BulkRun.objects.get().status == "finished"
