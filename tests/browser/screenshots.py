"""The pictures in docs/images, taken of a running desk with demo data.

    DEMO=yes VAR_DIR=/tmp/pictures ./run manage migrate
    DEMO=yes VAR_DIR=/tmp/pictures ./run manage load_demo
    DEMO=yes VAR_DIR=/tmp/pictures SITE_URL=http://localhost:8200 .venv/bin/gunicorn shop.wsgi --bind 127.0.0.1:8200
    DEMO=yes VAR_DIR=/tmp/pictures .venv/bin/python -m tests.browser.screenshots http://localhost:8200

It looks and changes nothing: the cancellation that is shown is never confirmed.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import chromium

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
MOST_BYTES = 150_000
USER, PASSWORD = "admin", "demo"
CUSTOMER = "anna@example.com"


def window(browser: Browser, address: str, *, width: int, height: int, scheme: str) -> Page:
    """This will open a window and log in as the demo's admin."""
    page = browser.new_context(
        base_url=address, viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB"
    ).new_page()
    page.goto("/admin/login/?next=/admin/orders/order/")
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Orders", exact=True, level=1).wait_for()
    return page


def keep(page: Page, name: str) -> None:
    """This will write what the window shows as a small PNG: 256 colours are enough for a page of text."""
    page.evaluate("document.activeElement?.blur()")
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = IMAGES / name
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size <= MOST_BYTES, f"{name} has {path.stat().st_size} bytes"
    print(f"{path}: {picture.width} × {picture.height}, {path.stat().st_size} bytes")


def order_with(page: Page, status: str, *, action: str, units: int = 1) -> str:
    """This will find the address of the first order in a status that offers an action, with so many lines at least."""
    page.goto(f"/admin/orders/order/?status={status}")
    links = page.locator("#result_list .field-number_shown a")
    for path in links.evaluate_all("links => links.map(link => link.getAttribute('href').split('?')[0])"):
        page.goto(path)
        if page.locator(f"a[href$='/do/{action}/']").count() and page.locator(".order-lines tbody tr").count() >= units:
            return path
    raise SystemExit(f"No order in the status {status} offers {action}: is this the demo's data?")


def main(address: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        page = window(browser, address, width=1280, height=900, scheme="light")
        keep(page, "orders.png")
        paid = order_with(page, "preparing", action="ship", units=2)
        keep(page, "order-page.png")
        page.goto(paid.replace("/change/", "/do/cancel/"))
        page.get_by_label("Reason").select_option("out_of_stock")
        keep(page, "cancel.png")
        page.goto("/admin/orders/approval/")
        page.locator("#result_list tbody tr a").first.click()
        keep(page, "approval.png")
        page.goto("/admin/orders/cancellationfigure/")
        keep(page, "figures.png")
        page.goto("/admin/orders/return/?state=arrived")
        page.locator("#result_list tbody tr a").first.click()
        page.get_by_role("link", name="Inspect").click()
        keep(page, "return.png")
        page.goto("/admin/orders/bulkrun/")
        if page.locator("#result_list tbody tr a").count():  # the demo begins none; its reader may have
            page.locator("#result_list tbody tr a").first.click()
            keep(page, "bulk.png")
        page.goto("/admin/shop/job/")
        page.set_viewport_size({"width": 1280, "height": 560})
        keep(page, "inbox.png")
        phone = window(browser, address, width=390, height=844, scheme="dark")
        phone.goto(paid)
        keep(phone, "order-page-phone.png")
        keep(shop_order(browser, address), "shop-order.png")
        browser.close()


def shop_order(browser: Browser, address: str) -> Page:
    """This will show a customer their order with a return on its way, in the shop."""
    page = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, locale="en-GB").new_page()
    page.goto("/shop/login/")
    page.get_by_label("E-mail").first.fill(CUSTOMER)
    page.get_by_label("Password").first.fill(PASSWORD)
    page.get_by_role("button", name="Log in").first.click()
    page.get_by_role("link", name="Addresses").wait_for()  # only who is logged in has any
    page.goto("/shop/orders/100000003/")
    page.get_by_role("heading", name="Order 100000003").wait_for()
    return page


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8200")
