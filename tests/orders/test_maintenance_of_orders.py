"""Orders during maintenance: nobody loses what they asked for, nor the time to ask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from orders import tasks
from orders.models import CancellationReason, CancellationRequest, CancelRule, Order, Status
from orders.processing import EventHandler, get_event_handler
from orders.processing.requesting import Wish
from shop import maintenance
from shop.actors import Actor
from shop.models import Job, Store, User
from tests import factories
from tests.orders.asking import by, fresh

Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db


def asked_in_maintenance(order: Order, customer: User, reason: CancellationReason) -> None:
    maintenance.start(actor=Actor.system())
    line = order.lines.get()
    wish = Wish(line.pk, None, CancellationRequest.Type.CANCEL, reason)
    get_event_handler(Actor.customer(customer)).cancel_or_request(number=order.number or "", wishes=[wish])


def test_what_a_customer_asked_for_during_maintenance_is_done_afterwards(
    store: Store, reason: CancellationReason, work: Work, books: Books
) -> None:
    customer = factories.UserFactory()
    order = factories.place_order(store=store, customer=customer)
    asked_in_maintenance(order, customer, reason)
    maintenance.end(actor=Actor.system())
    tasks.work_off_queue()
    work()
    assert not Job.objects.filter(state=Job.State.NEEDS_ATTENTION).values_list("last_error", flat=True)
    assert fresh(order).status == Status.CANCELLED
    assert CancellationRequest.objects.get().status == "completed"
    assert books() == []


def test_maintenance_does_not_use_up_the_time_that_a_customer_has_to_cancel(
    store: Store, reason: CancellationReason, work: Work, books: Books, clock: Any
) -> None:
    customer = factories.UserFactory()
    CancelRule.objects.create(time_limit_minutes=60, direct_statuses=["confirmation_waiting"], asks_when_late=False)
    start = timezone.now()
    order = factories.place_order(store=store, customer=customer)
    asked_in_maintenance(order, customer, reason)
    clock.move_to(start + timedelta(hours=2))
    maintenance.end(actor=Actor.system())
    tasks.work_off_queue()
    work()
    assert not Job.objects.filter(state=Job.State.NEEDS_ATTENTION).values_list("last_error", flat=True)
    assert fresh(order).status == Status.CANCELLED
    assert books() == []


def test_nobody_changes_a_series_during_maintenance(staff: Staff, store: Store) -> None:
    order = factories.place_order(store=store, until="approved")
    series = get_event_handler(Actor.system()).start_recurring(number=order.number or "", unit="week")
    admin = staff("Admin")
    maintenance.start(actor=Actor.system())
    for change in (
        lambda: by(admin).pause_recurring(recurring_id=series.pk),
        lambda: by(admin).place_due(recurring_id=series.pk, occurrence=2, early=True),
    ):
        with pytest.raises(maintenance.UnderMaintenance):
            change()
    series.refresh_from_db()
    assert (series.status, series.orders.count()) == ("active", 1)


class Interrupted(EventHandler):
    """Maintenance begins just when a part of a bulk run does."""

    def cancel_items(self, run: Any, items: Any) -> Any:
        maintenance.start(actor=Actor.system())
        return super().cancel_items(run, items)


def test_a_part_of_a_bulk_run_that_has_begun_is_finished_though_maintenance_begins(
    staff: Staff, store: Store, work: Work, settings: Any
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Interrupted"
    order = factories.place_order(store=store)
    run = by(staff("Admin")).start_bulk_run(orders=[(order.pk, fresh(order).version)], reason="out_of_stock")
    work()
    assert (run.items.get().state, run.items.get().code) == ("done", "")
