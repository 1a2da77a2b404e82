"""A real Chromium at a real server: one browser for all tests, a window of their own for each person of a test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Locator, Page, Response, expect, sync_playwright

from orders.models import Order
from shop.models import Store, User
from tests import factories
from tests.browser import chromium

PHONE, DESKTOP = 390, 1280
# A limit for what never comes, not a measure of speed: other tests run on the same cores.
PATIENCE_MS = 45_000
expect.set_options(timeout=PATIENCE_MS)

Browse = Callable[..., "Desk"]


def follow(page: Page, way: Locator) -> None:
    """Click what leads to another page, and be there: what is read next is neither the old page nor half of the new."""
    with page.expect_navigation():
        way.click()


class Desk:
    """A person's window. It keeps what the browser complained about: errors of scripts, broken policies, lost files."""

    def __init__(self, browser: Browser, address: str, user: User | None, **options: Any) -> None:
        self.address, self.complaints = address, list[str]()
        # Refused on purpose; and what Chromium asks for by itself where a page, such as a bare 403, names no icon.
        self.refused = {f"{address}/favicon.ico"}
        self.context = browser.new_context(base_url=address, locale="en-GB", **options)
        self.context.set_default_timeout(PATIENCE_MS)
        if user:
            client = Client()
            client.force_login(user)
            cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
            self.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": address}])
        self.page: Page = self.context.new_page()
        self.page.on("console", self._complain)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))

    def _complain(self, said: Any) -> None:
        # That a page is refused is its status, which tests assert; what a page needs must never be.
        if said.type in {"error", "warning"} and said.location.get("url") not in self.refused:
            self.complaints.append(f"{self.page.url}: {said.text}")

    def open(self, path: str, *, status: int = 200) -> Page:
        """Open an address and see that it answers so."""
        if status >= 400:
            self.refused.add(self.address + path)
        answer: Response | None = self.page.goto(path)
        assert answer is not None
        assert answer.status == status, f"{path} answered {answer.status}"
        return self.page

    def order(self, order: Order) -> Page:
        return self.open(reverse("admin:orders_order_change", args=(order.pk,)))

    def do(self, label: str) -> None:
        """Follow a button of the page to the page of its action."""
        follow(self.page, self.page.locator("#content").get_by_role("link", name=label, exact=True).first)

    def press(self, label: str, *, status: int = 302) -> None:
        """Press the button of a form, and see that it answers so."""
        if status >= 400:
            self.refused.add(self.page.url)
        with self.page.expect_response(lambda answer: answer.request.method == "POST") as answered:
            follow(self.page, self.page.locator("#content").get_by_role("button", name=label, exact=True))
        assert answered.value.status == status, f"“{label}” at {self.page.url} answered {answered.value.status}"

    def sees(self, *words: str) -> None:
        for text in words:
            expect(self.page.locator("#container")).to_contain_text(text)

    def offers(self) -> list[str]:
        """The labels of the buttons of the page, without those that say why not."""
        return self.page.locator("#content-main > .desk-buttons a.desk-button").all_inner_texts()


@pytest.fixture(scope="session")
def _browser() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    program = chromium.find()
    if program is None:
        pytest.skip("no Chromium was found: put chromium on the PATH, or its path into CHROMIUM")
    # Playwright's sync API runs an event loop in this thread, in which Django would refuse to ask the database.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=chromium.ARGUMENTS)
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)
        browser.close()
    asyncio._set_running_loop(None)
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
    else:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture
def browse(_browser: tuple[Browser, asyncio.AbstractEventLoop], live_server: Any) -> Iterator[Browse]:
    """browse(user, width=390, color_scheme="dark"): that person's window. At the end nobody's may have complained."""
    browser, loop = _browser
    windows: list[Desk] = []

    def make(user: User | None = None, *, width: int = DESKTOP, **options: Any) -> Desk:
        windows.append(Desk(browser, live_server.url, user, viewport={"width": width, "height": 844}, **options))
        return windows[-1]

    # The loop is to be seen by Playwright only: tests of other folders in this process may run one of their own.
    asyncio._set_running_loop(loop)
    try:
        yield make
        complaints = [complaint for window in windows for complaint in window.complaints]
    finally:
        for window in windows:
            window.context.close()
        asyncio._set_running_loop(None)
    assert complaints == []


@pytest.fixture
def store(transactional_db: None) -> Store:
    return factories.StoreFactory(name="Berlin")


@pytest.fixture
def manager(staff: Callable[..., User], store: Store) -> User:
    return staff("Store Manager", store)
