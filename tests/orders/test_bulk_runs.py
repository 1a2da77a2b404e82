"""Many orders cancelled by workers: each with its outcome, led by people, told once, whoever is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from notifications.models import Message
from orders.models import (
    ApprovalPolicy,
    BulkRun,
    Cancellation,
    CommunicationEvent,
    JournalEntry,
    Order,
    ShippingEvent,
    Status,
)
from orders.processing import EventHandler, bulk, bulkwork, get_event_handler
from shop import jobs, maintenance
from shop.actors import Actor
from shop.errors import Invalid, NotAllowed, NotFound, Refused
from shop.models import Job, Store, User
from tests import factories
from tests.orders.bulk_runs import handler, many, start, states, status

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]
Work = Callable[[], int]
Books = Callable[[], list[str]]


# ---------------------------------------------------------------------------------------------------------------
# Outcomes


def test_each_order_has_its_outcome_and_the_books_add_up(
    manager: User, place: Place, store: Store, work: Work, books: Books
) -> None:
    paid, gone, changed, held = (place(store=store, until=until) for until in ("paid", "shipped", "approved", ""))
    run = start(manager, paid, gone, changed, held, note="the shelf fell down")
    assert {order.status for order in Order.objects.all()} == {"preparing", "shipped", "approved", held.status}
    get_event_handler(Actor.system()).start_preparing(number=changed.number)
    work()
    assert [state for state, _code in states(run)] == ["done", "refused", "refused", "done"]
    assert run.items.get(order=changed).code == "order_changed"
    assert "started preparing" in run.items.get(order=changed).words
    assert status(run) == "finished"
    assert Order.objects.get(pk=paid.pk).status == Status.CANCELLED
    item = run.items.get(order=paid)
    assert item.cancellation.note == "the shelf fell down"
    assert JournalEntry.objects.filter(order=paid, verb="cancel").get().details["bulk"] == run.pk
    assert books() == []


def test_a_double_click_starts_one_run(manager: User, place: Place, store: Store, work: Work) -> None:
    orders, once = many(place, store, 2), uuid.uuid4()
    first, second = (start(manager, *orders, once=once) for _n in range(2))
    work()
    assert first.pk == second.pk
    assert ShippingEvent.objects.filter(event_type__code="cancelled").count() == 2


def test_an_error_in_one_order_is_its_outcome_alone(
    manager: User, place: Place, store: Store, work: Work, settings: Any, books: Books
) -> None:
    settings.ORDER_EVENT_HANDLER = "tests.orders.test_bulk_runs.Stumbling"
    orders = many(place, store, 3)
    Stumbling.over = orders[1].number or ""
    run = start(manager, *orders)
    work()
    assert states(run) == [("done", ""), ("failed", "went_wrong"), ("done", "")]
    Stumbling.over = ""
    handler(manager).retry_bulk(run_id=run.pk)
    work()
    assert {state for state, _code in states(run)} == {"done"}
    assert status(run) == "finished"
    assert books() == []


class Stumbling(EventHandler):
    """A shop's own handler with a mistake in it."""

    over = ""

    def cancel(self, *, number: str, **more: Any) -> ShippingEvent:
        event = super().cancel(number=number, **more)
        if number == self.over:
            raise ZeroDivisionError
        return event


def test_orders_of_another_store_are_neither_planned_nor_touched(manager: User, place: Place, store: Store) -> None:
    mine, elsewhere = place(store=store), place()
    with pytest.raises(NotFound):
        start(manager, mine, elsewhere)
    assert not BulkRun.objects.exists()


def test_who_may_not_none_and_too_many_are_refused(
    staff: Callable[..., User], manager: User, place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = many(place, store, 3)
    with pytest.raises(NotAllowed):
        start(staff("Fulfilment", store), *orders)
    with pytest.raises(Invalid, match="Choose the orders"):
        start(manager)
    monkeypatch.setattr(bulk, "MOST", 2)
    with pytest.raises(Invalid, match="At most 2"):
        start(manager, *orders)
    assert not Job.objects.filter(kind=bulkwork.CANCEL).exists()


def test_a_reason_that_asks_who_wanted_it_wants_to_know_it_here_too(manager: User, place: Place, store: Store) -> None:
    with pytest.raises(Invalid, match="Say who asked"):
        start(manager, place(store=store), reason="changed_mind")


def test_rights_that_are_lost_meanwhile_refuse_every_order(
    manager: User, place: Place, store: Store, work: Work
) -> None:
    orders = many(place, store, 2)
    run = start(manager, *orders)
    manager.groups.clear()
    work()
    assert states(run) == [("refused", "not_allowed")] * 2
    assert status(run) == "finished"
    assert not Cancellation.objects.exists()


def test_a_store_that_is_no_longer_ones_own_refuses_its_orders(
    manager: User, place: Place, store: Store, work: Work
) -> None:
    other = factories.StoreFactory()
    other.staff.add(manager)
    here, there = place(store=store), place(store=other)
    run = start(manager, here, there)
    other.staff.remove(manager)
    work()
    assert states(run) == [("done", ""), ("refused", "order_not_found")]


# ---------------------------------------------------------------------------------------------------------------
# Led by people


def test_pause_resume_and_stop(
    manager: User, place: Place, store: Store, work: Work, monkeypatch: pytest.MonkeyPatch, books: Books
) -> None:
    monkeypatch.setattr(bulkwork, "CHUNK", 2)
    run = start(manager, *many(place, store, 6))
    assert jobs.run_now(f"{bulkwork.CANCEL}:{run.pk}:1:1").state == "done"
    handler(manager).pause_bulk(run_id=run.pk)
    work()
    assert [state for state, _code in states(run)] == ["done"] * 2 + ["waiting"] * 4
    handler(manager).resume_bulk(run_id=run.pk)
    assert jobs.run_now(f"{bulkwork.CANCEL}:{run.pk}:2:3").state == "done"
    handler(manager).stop_bulk(run_id=run.pk)
    work()
    assert [state for state, _code in states(run)] == ["done"] * 4 + ["skipped"] * 2
    assert status(run) == "stopped"
    assert books() == []


def test_five_first_then_it_pauses_and_goes_on_when_told(manager: User, place: Place, store: Store, work: Work) -> None:
    run = start(manager, *many(place, store, 7), try_first=5)
    work()
    assert [state for state, _code in states(run)] == ["done"] * 5 + ["waiting"] * 2
    assert status(run) == "paused"
    handler(manager).resume_bulk(run_id=run.pk)
    work()
    assert status(run) == "finished"
    assert {state for state, _code in states(run)} == {"done"}


def test_the_failed_only_are_tried_again_as_they_are_by_now(
    manager: User, place: Place, store: Store, work: Work, system: EventHandler
) -> None:
    done, changed, gone = (place(store=store, until=until) for until in ("approved", "approved", "shipped"))
    run = start(manager, done, changed, gone)
    system.start_preparing(number=changed.number)
    work()
    assert [state for state, _code in states(run)] == ["done", "refused", "refused"]
    handler(manager).retry_bulk(run_id=run.pk)
    work()
    assert [state for state, _code in states(run)] == ["done", "done", "refused"]
    assert ShippingEvent.objects.filter(event_type__code="cancelled").count() == 2


@pytest.mark.parametrize(
    ("verb", "words"),
    [("resume_bulk", "finished"), ("pause_bulk", "finished"), ("stop_bulk", "finished"), ("retry_bulk", "Nothing")],
)
def test_what_makes_no_sense_is_refused_with_words(
    verb: str, words: str, manager: User, place: Place, store: Store, work: Work
) -> None:
    run = start(manager, place(store=store))
    work()
    with pytest.raises(Refused) as no:
        getattr(handler(manager), verb)(run_id=run.pk)
    assert words in str(no.value)
    assert status(run) == "finished"


def test_strangers_neither_see_nor_lead_a_run(
    staff: Callable[..., User], manager: User, place: Place, store: Store, client: Client
) -> None:
    run = start(manager, place(store=store))
    elsewhere = staff("Store Manager", factories.StoreFactory())
    for verb in ("pause_bulk", "stop_bulk"):
        with pytest.raises(NotFound):
            getattr(handler(elsewhere), verb)(run_id=run.pk)
    with pytest.raises(NotAllowed):
        handler(staff("Fulfilment", store)).pause_bulk(run_id=run.pk)
    client.force_login(elsewhere)
    for name in ("change", "progress", "csv"):
        assert client.get(reverse(f"admin:orders_bulkrun_{name}", args=(run.pk,))).status_code == 404


# ---------------------------------------------------------------------------------------------------------------
# Messages


def test_a_customer_with_several_orders_gets_one_message(
    manager: User, place: Place, store: Store, work: Work, books: Books
) -> None:
    one, two = (place(store=store, until="paid", email=email) for email in ("Ada@example.com", "ada@example.com"))
    other = place(store=store, email="bob@example.com")
    run = start(manager, one, two, other)
    work()
    told = {m.recipient.lower(): m for m in Message.objects.filter(event__in=["order_cancelled", "orders_cancelled"])}
    assert {recipient: m.event for recipient, m in told.items()} == {
        "ada@example.com": "orders_cancelled",
        "bob@example.com": "order_cancelled",
    }
    assert [o["number"] for o in told["ada@example.com"].context["orders"]] == [one.number, two.number]
    assert told["ada@example.com"].context["orders"][0]["amount"] == "20.00"
    assert told["ada@example.com"].status == "sent"
    events = CommunicationEvent.objects.filter(message=told["ada@example.com"])
    assert {event.order for event in events} == {one, two}
    assert not run.items.filter(told=False).exists()
    get_event_handler(Actor.system()).tell_bulk(run_id=run.pk)
    assert Message.objects.filter(event="orders_cancelled").count() == 1
    assert books() == []


def test_where_only_one_of_several_was_possible_its_ordinary_letter_is_sent(
    manager: User, place: Place, store: Store, work: Work, system: EventHandler
) -> None:
    one, two = (place(store=store, until="approved", email="ada@example.com") for _n in range(2))
    run = start(manager, one, two)
    system.start_preparing(number=two.number)
    work()
    letters = Message.objects.filter(event__in=["order_cancelled", "orders_cancelled"])
    assert list(letters.values_list("event", "reference")) == [("order_cancelled", one.number)]
    handler(manager).retry_bulk(run_id=run.pk)
    work()
    assert set(letters.values_list("event", "reference")) == {
        ("order_cancelled", one.number),
        ("order_cancelled", two.number),
    }


def test_nobody_is_told_where_it_was_not_wanted(manager: User, place: Place, store: Store, work: Work) -> None:
    start(manager, *(place(store=store) for _n in range(2)), notify=False)
    work()
    assert not Message.objects.filter(event__in=["order_cancelled", "orders_cancelled"]).exists()


def test_many_customers_are_told_in_parts(
    manager: User, place: Place, store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulkwork, "LETTERS", 1)
    orders = [place(store=store, email=f"{name}@example.com") for name in ("ada", "bob", "eve") for _twice in range(2)]
    start(manager, *orders)
    work()
    told = Message.objects.filter(event="orders_cancelled").values_list("recipient", flat=True)
    assert sorted(told) == ["ada@example.com", "bob@example.com", "eve@example.com"]


# ---------------------------------------------------------------------------------------------------------------
# Workers


@pytest.mark.kill
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    when: str, staff: Callable[..., User], place: Place, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulkwork, "CHUNK", 2)
    store = factories.StoreFactory()
    run = start(staff("Store Manager", store), *many(place, store, 4, until="paid"))
    connections.close_all()

    def killed() -> None:
        name, target = ("_write_state", jobs) if when == "after" else ("update", bulkwork)
        original, perform = getattr(target, name), jobs.perform

        def fatal(*args: Any, **more: Any) -> None:
            if when == "after":
                original(*args, **more)
            os.kill(os.getpid(), signal.SIGKILL)

        def armed(job: Job) -> Any:
            if job.kind == bulkwork.CANCEL:
                setattr(target, name, fatal)
            return perform(job)

        jobs.perform = armed
        jobs.drain(seconds=30)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(timeout=200)
    assert process.exitcode == -signal.SIGKILL
    assert {state for state, _code in states(run)} == {"waiting"}
    for hours in range(1, 4):
        jobs.drain(seconds=30, clock=lambda hours=hours: timezone.now() + timedelta(hours=hours))
    assert {state for state, _code in states(run)} == {"done"}
    assert status(run) == "finished"
    assert ShippingEvent.objects.filter(event_type__code="cancelled").count() == 4
    assert Message.objects.filter(event="order_cancelled").count() == 4
    assert not Job.objects.exclude(state=Job.State.DONE).exists()
    assert books() == []


@pytest.mark.parametrize("counting", [False, True])
def test_a_part_of_two_and_of_twelve_orders_takes_the_same_number_of_queries(
    counting: bool, manager: User, place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ApprovalPolicy.objects.filter(name__startswith="Unusually").update(
        is_active=counting, staff_per_day=None, customer_per_month=900, store_per_hour=None
    )
    counts = []
    for size in (2, 12):
        orders = many(place, store, size, until="approved")
        with CaptureQueriesContext(connection) as planned:
            run = start(manager, *orders)
        with CaptureQueriesContext(connection) as done:
            get_event_handler(Actor.system()).work_off_bulk(run_id=run.pk, round=1, first=1, last=size)
        assert {state for state, _code in states(run)} == {"done"}
        counts.append((len(planned), len(done)))
    assert counts[0] == counts[1]


def test_a_job_of_an_earlier_round_does_nothing(manager: User, place: Place, store: Store) -> None:
    run = start(manager, place(store=store))
    handler(manager).pause_bulk(run_id=run.pk)
    handler(manager).resume_bulk(run_id=run.pk)
    get_event_handler(Actor.system()).work_off_bulk(run_id=run.pk, round=1, first=1, last=1)
    assert states(run) == [("waiting", "")]


def test_during_maintenance_a_run_waits(manager: User, staff: Any, place: Place, store: Store, work: Work) -> None:
    run, admin = start(manager, place(store=store)), Actor.staff(staff("Admin"))
    maintenance.start(actor=admin)
    work()
    assert states(run) == [("waiting", "")]
    with pytest.raises(maintenance.UnderMaintenance):
        start(manager, place(store=store))
    maintenance.end(actor=admin)
    jobs.drain(seconds=30, clock=lambda: timezone.now() + timedelta(minutes=5))
    assert states(run) == [("done", "")]
