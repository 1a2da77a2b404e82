"""Recurring orders placed by several at once, or by a worker that is killed: one order each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from orders.models import OrderQuerySet, RecurringChange, RecurringOrder
from orders.processing import EventHandler, get_event_handler
from orders.processing.recurring import promise_due
from orders.tasks import recurring_due
from shop import jobs
from shop.actors import Actor
from shop.models import Job
from tests.faults.test_killed_worker import after, before, killed_worker, next_worker
from tests.orders.series import begun, history, numbers

pytestmark = pytest.mark.django_db
Books = Callable[[], list[str]]


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_two_sweeps_and_four_workers_place_one_order(at_once: Callable[..., list[Any]], books: Books) -> None:
    series = begun()
    at_once(*[recurring_due] * 2, *[lambda: jobs.drain(seconds=30)] * 2)
    at_once(*[lambda: jobs.drain(seconds=30)] * 4)
    assert numbers(series) == [1, 2]
    assert history(series) == ["started", "placed"]
    assert books() == []


def many_hands(series: RecurringOrder) -> list[Callable[[], Any]]:
    return [
        lambda: get_event_handler(Actor.system()).place_due(recurring_id=series.pk, occurrence=2, early=True)
        for _hand in range(4)
    ]


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_four_hands_at_the_same_occurrence_get_one_order(at_once: Callable[..., list[Any]], books: Books) -> None:
    series = begun()
    results = at_once(*many_hands(series))
    assert {result.pk for result in results} == {series.orders.get(occurrence=2).pk}
    assert history(series) == ["started", "placed"]
    assert books() == []


@pytest.mark.race
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_without_the_lock_hands_collide(
    at_once: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch, on_postgres: bool
) -> None:
    """The control: the one order is the lock's doing for the history, the key's and the constraint's for the order."""
    if not on_postgres:
        pytest.skip("SQLite locks by itself")
    seen: set[str] = set()
    series = begun()
    for _try in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(OrderQuerySet, "select_for_update", lambda rows, **kwargs: rows)
            occurrence = RecurringOrder.objects.get(pk=series.pk).next_occurrence
            at_once(
                *[
                    lambda n=occurrence: get_event_handler(Actor.system()).place_due(
                        recurring_id=series.pk, occurrence=n, early=True
                    )
                ]
                * 4
            )
        if series.changes.filter(what="placed", occurrence=occurrence).count() > 1:
            seen.add("twice in the history")
            break
    assert seen
    assert len(numbers(series)) == len(set(numbers(series)))


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_an_end_while_the_next_order_is_placed_is_the_end(at_once: Callable[..., list[Any]], books: Books) -> None:
    series = begun()
    handlers = [get_event_handler(Actor.system()) for _hand in range(3)]
    results = at_once(
        lambda: handlers[0].place_due(recurring_id=series.pk, occurrence=2),
        lambda: handlers[1].end_recurring(recurring_id=series.pk),
        lambda: handlers[2].end_recurring(recurring_id=series.pk),
    )
    assert not [result for result in results if isinstance(result, Exception)]
    assert numbers(series) in ([1], [1, 2])
    assert RecurringChange.objects.filter(recurring=series, what="ended").count() == 1
    assert promise_due(as_of=timezone.now() + timedelta(days=400)) == 0
    assert books() == []


@pytest.mark.kill
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("when", [before, after])
@pytest.mark.parametrize("name", ["place", "place_due"])
def test_a_worker_killed_while_it_places_leaves_one_order_in_the_end(name: str, when: Any, books: Books) -> None:
    series = begun()
    recurring_due()
    killed_worker("orders.place_recurring", EventHandler, name, when)
    assert numbers(series) == [1]
    next_worker()
    assert numbers(series) == [1, 2]
    assert history(series) == ["started", "placed"]
    assert Job.objects.exclude(state=Job.State.DONE).count() == 0
    assert books() == []
