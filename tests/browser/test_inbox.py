"""The inbox by clicking: what failed is tried again and gone, or closed with a note of what was done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from orders.models import Order
from orders.processing import EventHandler
from payments.models import DemoGatewayFault, Refund
from shop.models import Job, Store, User
from tests import factories
from tests.browser.conftest import Browse, follow

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

INBOX = "admin:shop_job_changelist"


def failed_refund(store: Store, system: EventHandler, work: Callable[[], int]) -> Order:
    """A cancelled order whose refund the gateway did not take, until nobody tried any more."""
    order = factories.place_order(store=store, until="paid")
    system.cancel(number=order.number or "", reason="out_of_stock")
    DemoGatewayFault.objects.create(operation="refund", behaviour="unavailable", remaining=1)
    Job.objects.filter(kind="payments.send", state=Job.State.WAITING).update(max_attempts=1, run_at=timezone.now())
    work()
    assert Job.objects.filter(state=Job.State.NEEDS_ATTENTION).count() == 1
    return order


def test_a_failed_refund_is_tried_again_and_gone(
    browse: Browse, manager: User, store: Store, system: EventHandler, work: Callable[[], int]
) -> None:
    order = failed_refund(store, system, work)
    desk = browse(manager)
    desk.open(reverse("admin:index"))
    follow(desk.page, desk.page.locator('.desk-card[data-card="inbox"]'))
    desk.sees("Refund €", str(order.number), "The demo gateway refused the connection.")
    desk.do("Try again")
    desk.press("Try again")
    desk.sees("It is being tried again")
    work()
    desk.open(reverse(INBOX))
    desk.sees("Nothing needs you.")
    assert Refund.objects.get().status == "succeeded"


@pytest.mark.thorough
def test_done_by_hand_needs_a_note(
    browse: Browse, manager: User, store: Store, system: EventHandler, work: Callable[[], int]
) -> None:
    failed_refund(store, system, work)
    job = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    desk = browse(manager)
    desk.open(reverse(INBOX))
    desk.do("Done by hand")
    note = desk.page.get_by_label("What did you do?")
    desk.page.get_by_role("button", name="Done by hand").click()
    assert note.evaluate("field => field.validity.valueMissing")
    note.fill("   ")
    desk.press("Done by hand", status=200)
    desk.sees("This field is required.")
    expect(note).to_have_attribute("aria-invalid", "true")
    job.refresh_from_db()
    assert job.state == Job.State.NEEDS_ATTENTION

    note.fill("Transferred 20 € from the bank's own page.")
    desk.press("Done by hand")
    desk.sees("Noted as done by hand")
    job.refresh_from_db()
    assert (job.state, job.resolved_by) == (Job.State.DONE, manager)
    desk.open(reverse(INBOX))
    desk.sees("Nothing needs you.")
