"""Every kind of page, on a phone and on a desktop, by day and by night: it fits, is named, and is labelled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db.models import Model
from django.urls import reverse
from playwright.sync_api import Page

from inventory.models import StockRecord
from notifications.models import Message
from orders.models import CancellationReason, CancellationRequest
from orders.processing import EventHandler
from orders.processing.requesting import Wish
from payments.models import Payment
from shop.models import Job, Store, User
from tests import factories
from tests.browser.conftest import DESKTOP, PHONE, Browse, Desk
from tests.browser.test_inbox import failed_refund

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# What is wider than the viewport scrolls in a box of its own; named is what does not.
SIDEWAYS = """() => {
    const wide = document.documentElement.scrollWidth, most = document.documentElement.clientWidth;
    const boxed = node => node.parentElement.closest('.results, .desk-nav, .desk-table');
    const out = [...document.querySelectorAll('body *')].filter(node => node.getBoundingClientRect().right > most + 1);
    const names = out.filter(node => !boxed(node)).slice(-3).map(node => node.outerHTML.slice(0, 80));
    return wide > most ? [`is ${wide} wide, ${most} fit: ${names}`] : [];
}"""

NAMED = """() => {
    const wrong = [], own = element => element.outerHTML.slice(0, 110);
    const headings = document.querySelectorAll('h1').length;
    if (headings !== 1) wrong.push(`${headings} × h1`);
    if (!document.title.trim()) wrong.push('no title');
    if (!document.documentElement.lang) wrong.push('no language');
    if (document.querySelectorAll('main').length !== 1) wrong.push('not one main');
    const words = node => node.textContent.trim() + [...node.querySelectorAll('img')].map(img => img.alt).join('');
    const byIds = ids => (ids || '').split(/\\s+/).filter(Boolean).map(id => document.getElementById(id));
    for (const image of document.querySelectorAll('img:not([alt])')) wrong.push('no alt: ' + own(image));
    for (const field of document.querySelectorAll('input:not([type=hidden], [type=submit]), select, textarea')) {
        const labels = [...field.labels || [], ...byIds(field.getAttribute('aria-labelledby'))];
        if (!labels.some(label => label && words(label)) && !field.getAttribute('aria-label') && !field.title)
            wrong.push('no label: ' + own(field));
    }
    for (const control of document.querySelectorAll('button, a[href], summary, [role=link]'))
        if (!words(control) && !control.getAttribute('aria-label') && !control.title)
            wrong.push('no words: ' + own(control));
    for (const node of document.querySelectorAll('[aria-describedby], [aria-labelledby]'))
        for (const name of ['aria-describedby', 'aria-labelledby'])
            if (byIds(node.getAttribute(name)).includes(null)) wrong.push(`${name} of nothing: ` + own(node));
    const ids = [...document.querySelectorAll('[id]')].map(node => node.id);
    for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) wrong.push('twice: #' + id);
    return wrong;
}"""

# WCAG 2 AA: 4.5 : 1, 3 : 1 for large letters. What is disabled or lies over a picture is left out.
CONTRAST = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    canvas.canvas.width = canvas.canvas.height = 1;
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const over = (top, below) => [0, 1, 2].map(i => (top[i] * top[3] + below[i] * (255 - top[3])) / 255).concat(255);
    const ground = node => {
        const layers = [];
        for (let at = node; at; at = at.parentElement) {
            const colour = rgba(getComputedStyle(at).backgroundColor);
            layers.push(colour);
            if (colour[3] === 255) break;
        }
        return layers.reduceRight((below, top) => over(top, below), [255, 255, 255, 255]);
    };
    const wrong = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement, text = walker.currentNode.data.trim().slice(0, 30);
        if (!text || node.closest('.visually-hidden, [disabled], [aria-disabled], svg, option, script, style'))
            continue;
        if (!node.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
        const style = getComputedStyle(node), size = parseFloat(style.fontSize), below = ground(node);
        const [one, two] = [light(over(rgba(style.color), below)), light(below)].sort((a, b) => b - a);
        const ratio = (one + 0.05) / (two + 0.05), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
        if (ratio < (large ? 3 : 4.5)) wrong.add(`${ratio.toFixed(2)} : 1 “${text}” ${node.tagName}.${node.className}`);
    }
    return [...wrong];
}"""


@pytest.fixture
def paths(store: Store, staff: Callable[..., User], system: EventHandler, work: Callable[[], int]) -> list[str]:
    """An address of each kind of page that staff work with, with something on it."""
    names = ("Earl Grey in a tin with a lid that closes, a name that nobody has shortened", "Donaudampfschiff" * 4)
    goods = [factories.stocked(store, name=name) for name in names]
    new = factories.place_order(goods, store=store, email="a.very.long.address.of.a.customer@mail.example.com")
    preparing = factories.place_order([("10.00", 3)], store=store, until="preparing")
    paid = factories.place_order([("10.00", 3), ("1.00", 1)], store=store, until="paid")
    delivered = factories.place_order([("1234.50", 2)], store=store, until="delivered")
    failed_refund(store, system, work)
    reason = CancellationReason.objects.get(code="changed_mind")
    wish = Wish(delivered.lines.get().pk, 1, CancellationRequest.Type.REFUND, reason, "Too big")
    system.request_cancellation(number=delivered.number or "", wishes=[wish])
    work()

    def do(model: str, pk: int, *names: str) -> list[str]:
        return [reverse(f"admin:{model}_do", args=(pk, name)) for name in names]

    lists = [
        *("orders_order", "orders_cancellationrequest", "shop_job", "inventory_product", "inventory_stockrecord"),
        *("payments_payment", "payments_refund", "notifications_message", "checkout_cart", "shop_user"),
    ]
    rows: list[Model] = [
        new,
        paid,
        delivered,
        CancellationRequest.objects.get(),
        Job.objects.get(state="needs_attention"),
    ]
    record, payment = StockRecord.objects.earliest("pk"), Payment.objects.earliest("pk")
    rows += [record, payment, Message.objects.earliest("pk"), goods[0]]
    return [
        reverse("admin:index"),
        *(reverse(f"admin:{name}_changelist") for name in lists),
        *(reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=(row.pk,)) for row in rows),
        *do("orders_order", new.pk, "approve", "cancel", "change-address", "hold", "note"),
        *do("orders_order", preparing.pk, "take-payment", "ship", "cancel"),
        *do("orders_order", paid.pk, "ship"),
        *do("orders_order", delivered.pk, "take-back", "refund"),
        *do("shop_job", Job.objects.get(state="needs_attention").pk, "retry", "done"),
        *do("inventory_stockrecord", record.pk, "receive", "adjust"),
        reverse("admin:password_change"),
    ]


def complaints(page: Page, name: str, check: str) -> list[str]:
    return [f"{name}: {wrong}" for wrong in page.evaluate(check)]


@pytest.mark.thorough
def test_every_page_fits_and_is_named_labelled_and_readable(
    browse: Browse, staff: Callable[..., User], paths: list[str]
) -> None:
    # What fades in would be measured half way.
    desk = browse(staff("Admin"), reduced_motion="reduce")
    wrong: list[str] = []
    for path in paths:
        page = desk.open(path)
        wrong += complaints(page, path, NAMED)
        for width in (DESKTOP, PHONE):
            page.set_viewport_size({"width": width, "height": 844})
            wrong += complaints(page, f"{path} at {width}", SIDEWAYS)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            wrong += complaints(page, f"{path} ({scheme})", CONTRAST)
    assert not wrong, "\n".join(wrong)


def background(desk: Desk) -> int:
    """How light the page is, from 0 to 255."""
    colour = desk.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_the_desk_is_dark_where_the_machine_is_and_as_people_choose(browse: Browse, manager: User) -> None:
    day, night = browse(manager), browse(manager, color_scheme="dark", width=PHONE)
    for desk in (day, night):
        desk.open(reverse("admin:index"))
    assert background(day) > 200
    assert background(night) < 60
    # A choice overrules the machine, and is remembered.
    night.page.locator(".theme-toggle").click()
    night.open(reverse("admin:orders_order_changelist"))
    assert night.page.evaluate("document.documentElement.dataset.theme") == "light"
    assert background(night) > 200


def test_the_pages_for_strangers_are_named_and_labelled(browse: Browse) -> None:
    desk = browse(width=PHONE)
    page = desk.open(reverse("admin:login"))
    assert [*page.evaluate(SIDEWAYS), *page.evaluate(NAMED), *page.evaluate(CONTRAST)] == []
