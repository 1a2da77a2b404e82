"""The figures of cancellations: counted by a worker, and added up by the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import ceil
from random import Random
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.models import (
    Approval,
    BulkItem,
    BulkRun,
    Cancellation,
    CancellationFigure,
    CancellationReason,
    CancelRule,
    FigureCursor,
    Order,
)
from orders.processing import figures, get_event_handler
from orders.processing.figure_sums import add_up
from orders.processing.figures import count_cancellations
from orders.rules.figures import Asker, Group, Report, Times, most_first
from orders.tasks import count_new_cancellations
from payments.models import DemoGatewayFault, Refund
from shop.actors import Actor
from shop.models import User
from tests.orders.figures import OUTCOME, cancelled, many_figures, recorded

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]
Work = Callable[[], int]
HOUR = timedelta(hours=1)


def test_a_cancellation_is_counted_by_the_worker_with_all_that_reports_ask(
    place: Place, work: Work, staff: Callable[..., User]
) -> None:
    order = place([("10.00", 3)], until="paid")
    person = staff("Admin")
    row = cancelled(order, actor=Actor.staff(person), reason="out_of_stock")
    work()
    assert not CancellationFigure.objects.exists()
    count_new_cancellations()
    counted = CancellationFigure.objects.get()
    assert (counted.pk, counted.number, counted.store) == (row.pk, order.number, order.store)
    assert (counted.outcome, counted.stage, counted.ends_order) == ("done", "preparing", True)
    assert (counted.reason_code, counted.category) == ("out_of_stock", "inventory_issues")
    assert (counted.actor_kind, counted.staff, counted.staff_name) == ("staff", person, person.get_full_name())
    assert (counted.currency, counted.value, counted.units) == ("EUR", Decimal("30.00"), 3)
    assert (counted.refund, counted.refunded) == ("arrived", Decimal("30.00"))
    assert counted.refund_seconds is not None
    assert not counted.is_open


def test_cancelling_reads_and_writes_no_figures(place: Place) -> None:
    order = place(until="approved")
    with CaptureQueriesContext(connection) as queries:
        cancelled(order)
    table = CancellationFigure._meta.db_table
    assert not [query for query in queries if table in query["sql"]]


def test_a_customers_name_is_not_kept(place: Place) -> None:
    recorded(place(), actor_kind="customer", requested_by_name="Grace Hopper")
    count_cancellations(as_of=timezone.now())
    assert CancellationFigure.objects.get().staff_name == ""


def test_a_refund_that_arrives_later_is_waited_for(place: Place, work: Work) -> None:
    order = place([("10.00", 1)], until="paid")
    DemoGatewayFault.objects.create(operation="refund", behaviour="pending", seconds=3600)
    row = cancelled(order)
    work()
    count_cancellations(as_of=timezone.now())
    counted = CancellationFigure.objects.get()
    assert (counted.refund, counted.refund_seconds, counted.is_open) == ("open", None, True)
    arrived = row.event.created_at + 5 * HOUR
    Refund.objects.update(status=Refund.Status.SUCCEEDED, settled_at=arrived)
    assert count_cancellations(as_of=arrived) == 1
    counted.refresh_from_db()
    assert (counted.refund, counted.refund_seconds, counted.is_open) == ("arrived", 5 * 3600, False)
    assert count_cancellations(as_of=arrived) == 0


def test_a_refund_that_failed_is_looked_at_again(place: Place, work: Work) -> None:
    row = cancelled(place([("10.00", 1)], until="paid"))
    Refund.objects.update(status=Refund.Status.FAILED, settled_at=row.event.created_at)
    count_cancellations(as_of=timezone.now())
    counted = CancellationFigure.objects.get()
    assert (counted.refund, counted.refund_seconds) == ("failed", None)
    Refund.objects.update(status=Refund.Status.SUCCEEDED, settled_at=row.event.created_at + HOUR)
    count_cancellations(as_of=timezone.now())
    counted.refresh_from_db()
    assert (counted.refund, counted.refund_seconds) == ("arrived", 3600)


def test_a_cancellation_that_is_undone_does_not_count_any_more(place: Place, admin_actor: Actor) -> None:
    CancelRule.objects.create(undo_minutes=60)
    order = place(until="approved")
    cancelled(order, actor=admin_actor, reason="out_of_stock")
    count_cancellations(as_of=timezone.now())
    counted = CancellationFigure.objects.get()
    assert (counted.outcome, counted.is_open) == ("pending", True)
    get_event_handler(admin_actor).undo_cancellation(number=order.number)
    assert count_cancellations(as_of=timezone.now()) == 1
    counted.refresh_from_db()
    assert (counted.outcome, counted.is_open) == ("undone", False)


def test_one_that_waits_is_followed_until_it_is_decided(place: Place, staff: Callable[..., User]) -> None:
    order, now = place(), timezone.now()
    row = recorded(order, status=OUTCOME.WAITING_APPROVAL, created_at=now)
    approval = Approval.objects.create(
        cancellation=row, level=1, digest="", requested_by=staff("Fulfilment"), created_at=now
    )
    count_cancellations(as_of=now)
    counted = CancellationFigure.objects.get()
    assert (counted.outcome, counted.approval_seconds, counted.is_open) == ("waiting_approval", None, True)
    Approval.objects.filter(pk=approval.pk).update(
        status="rejected", decided_by=staff("Store Manager"), decided_at=now + 2 * HOUR
    )
    Cancellation.objects.filter(pk=row.pk).update(status=OUTCOME.REJECTED)
    count_cancellations(as_of=now + 3 * HOUR)
    counted.refresh_from_db()
    assert (counted.outcome, counted.approval_seconds, counted.is_open) == ("rejected", 7200, False)


def test_the_approval_of_a_bulk_run_is_that_of_its_cancellations(
    place: Place, staff: Callable[..., User], reason: CancellationReason
) -> None:
    order, person, now = place(), staff("Store Manager"), timezone.now()
    run = BulkRun.objects.create(status="finished", reason=reason, created_by=person, created_at=now)
    Approval.objects.create(
        bulk_run=run, level=1, digest="", status="approved", requested_by=person, created_at=now,
        decided_by=staff("Admin"), decided_at=now + HOUR,
    )  # fmt: skip
    BulkItem.objects.create(run=run, position=1, order=order, version=1, cancellation=recorded(order), state="done")
    count_cancellations(as_of=now)
    assert CancellationFigure.objects.get().approval_seconds == 3600


def test_a_row_that_is_committed_late_is_counted_however_long_the_worker_was_away(place: Place) -> None:
    """Ids are handed out in order and committed in any."""
    order, now = place(), timezone.now()
    recorded(order, pk=1_000)
    count_cancellations(as_of=now)
    recorded(order, pk=998)
    count_cancellations(as_of=now + timedelta(minutes=1))
    assert CancellationFigure.objects.filter(pk=998).exists()
    recorded(order, pk=999)
    # Away for two days, and then again: only a run that began after the longest transaction moves the cursor.
    count_cancellations(as_of=now + 48 * HOUR)
    assert CancellationFigure.objects.filter(pk=999).exists()
    assert FigureCursor.objects.get().counted_to == 0
    count_cancellations(as_of=now + 50 * HOUR)
    assert FigureCursor.objects.get().counted_to == 1_000


def test_a_run_that_dies_in_the_middle_moves_no_cursor(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    order, now = place(), timezone.now()
    for _n in range(3):
        recorded(order)
    count_cancellations(as_of=now)
    monkeypatch.setattr(figures, "CHUNK", 2)
    for _n in range(3):
        recorded(order)
    died = CancellationFigure.objects.bulk_create
    calls: list[int] = []

    def dies(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return died(*args, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(type(CancellationFigure.objects), "bulk_create", lambda self, *a, **k: dies(*a, **k))
        with pytest.raises(KeyboardInterrupt):
            count_cancellations(as_of=now + 2 * HOUR)
    assert FigureCursor.objects.get().seen_at == now
    assert CancellationFigure.objects.count() == 5
    count_cancellations(as_of=now + 2 * HOUR)
    assert CancellationFigure.objects.count() == 6


def test_the_day_is_that_of_the_desks_time_zone(place: Place, settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Istanbul"
    before = recorded(place(), created_at=datetime(2026, 3, 1, 20, 59, 59, tzinfo=UTC))
    after = recorded(place(), created_at=datetime(2026, 3, 1, 21, 0, 0, tzinfo=UTC))
    count_cancellations(as_of=timezone.now())
    days = dict(CancellationFigure.objects.values_list("pk", "day"))
    assert days == {before.pk: date(2026, 3, 1), after.pk: date(2026, 3, 2)}


def test_all_of_them_can_be_counted_again(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(place(), reason=CancellationReason.objects.get(code="out_of_stock"))
    count_cancellations(as_of=timezone.now())
    CancellationReason.objects.filter(code="out_of_stock").update(category="operational_issues")
    call_command("count_cancellations")
    assert "0 figures" in capsys.readouterr().out
    call_command("count_cancellations", "--all")
    assert "1 figures" in capsys.readouterr().out
    assert CancellationFigure.objects.get().category == "operational_issues"


def test_counting_takes_the_same_queries_for_any_number_of_rows_of_a_chunk(place: Place) -> None:
    order, counts = place(), []
    for size in (1, 40):
        for _n in range(size):
            recorded(order)
        with CaptureQueriesContext(connection) as queries:
            assert count_cancellations(as_of=timezone.now()) == size
        counts.append(len(queries))
    # The first run also makes the cursor.
    assert counts[1] <= counts[0] <= 20, counts


def added_up_one_by_one(rows: Iterable[CancellationFigure], first: date, last: date) -> Report:
    """The same report as a person would make it: one row after the other, each amount as it was written."""
    made = Report({first + timedelta(days=n): Group() for n in range((last - first).days + 1)})
    numbers, refund_times, approval_times = set[str](), list[int](), list[int]()
    groups = [defaultdict[Any, Group](Group) for _n in range(4)]
    for row in rows:
        made.outcomes[row.outcome] += 1
        approval_times += [] if row.approval_seconds is None else [row.approval_seconds]
        if row.outcome not in ("pending", "done"):
            continue
        numbers.add(row.number)
        who = Asker(row.actor_kind, row.staff_id, "" if row.staff_id else row.staff_name)
        keys = zip(groups, (row.reason_code, row.stage, row.store_id, who), strict=True)
        for group in (made.total, made.days[row.day], *(kind[key] for kind, key in keys)):
            group.add(cancellations=1, units=row.units, currency=row.currency, value=row.value)
        made.refunds[row.refund] += 1
        if row.refunded and row.refund == "arrived":
            made.refunded[row.currency] += row.refunded
        refund_times += [] if row.refund_seconds is None else [row.refund_seconds]
    made.by_reason, made.by_stage, made.by_store, made.by_asker = (most_first(kind) for kind in groups)
    made.orders = len(numbers)
    made.refund_time, made.approval_time = (
        Times(len(found), *(sorted(found)[ceil(len(found) * tenths / 10) - 1] for tenths in (5, 9)))
        if found
        else Times()
        for found in (refund_times, approval_times)
    )
    return made


def anything(chance: Random, order: Order, people: Sequence[User]) -> dict[str, Any]:
    """A row as it may stand in the table: amounts of every size, in currencies with 0, 2 and 3 decimals."""
    currency, digits = chance.choice([("EUR", 2), ("JPY", 0), ("KWD", 3)])
    value = Decimal(chance.choice([0, 1, 10, chance.randrange(10**6), chance.randrange(10**12)])).scaleb(-digits)
    person = chance.choice([*people, None])
    return {
        "day": date(2026, 3, 1) + timedelta(days=chance.randrange(5)),
        "number": str(chance.randrange(40)),
        "store_id": order.store_id,
        "outcome": chance.choice(Cancellation.Status.values),
        "reason_code": chance.choice(["", "changed_mind", "out_of_stock"]),
        "stage": chance.choice(["approved", "preparing"]),
        "actor_kind": "staff" if person else chance.choice(["staff", "customer", "system"]),
        "staff_id": person and person.pk,
        "staff_name": chance.choice(["Ada", "Grace"]),
        "currency": currency,
        "value": value,
        "units": chance.randrange(1, 9),
        "refund": chance.choice(CancellationFigure.Refund.values),
        "refunded": chance.choice([Decimal(0), value]),
        "refund_seconds": chance.choice([None, chance.randrange(9), chance.randrange(10**6)]),
        "approval_seconds": chance.choice([None, chance.randrange(10**6)]),
    }


@pytest.mark.parametrize(
    ("seed", "size"), [(1, 0), (2, 1), (3, 2), (4, 10), (5, 301), pytest.param(6, 301, marks=pytest.mark.postgres)]
)
def test_the_database_adds_up_what_a_person_would(
    place: Place, staff: Callable[..., User], seed: int, size: int
) -> None:
    """Also on SQLite, which keeps 0.1 as floating point."""
    order, chance, people = place(), Random(seed), [staff("Admin"), staff("Admin")]
    many_figures(order, [anything(chance, order, people) for _n in range(size)])
    first, last = date(2026, 3, 1), date(2026, 3, 5)
    rows = CancellationFigure.objects.order_by()
    made, right = add_up(rows, first=first, last=last), added_up_one_by_one(rows, first, last)
    for field in fields(Report):
        assert getattr(made, field.name) == getattr(right, field.name), field.name
    # Dictionaries are equal in any order; a page is not.
    assert list(made.by_asker) == list(right.by_asker)


def test_a_million_pennies_and_a_fortune_add_up_to_the_penny(place: Place) -> None:
    many_figures(place(), [{"value": Decimal("999999999999.999"), "day": date(2026, 3, 1)}] * 3
                 + [{"value": Decimal("0.001"), "day": date(2026, 3, 1)}] * 1000)  # fmt: skip
    made = add_up(CancellationFigure.objects.order_by(), first=date(2026, 3, 1), last=date(2026, 3, 1))
    assert made.total.values == {"EUR": Decimal("3000000000000.997")}


def test_an_order_cancelled_in_parts_is_one_order_and_what_did_not_happen_is_none(place: Place) -> None:
    day = date(2026, 3, 1)
    many_figures(
        place(),
        [{"units": 2}, {}, {"number": "2", "outcome": "rejected"}, {"number": "3", "outcome": "undone"}],
    )
    CancellationFigure.objects.update(day=day)
    made = add_up(CancellationFigure.objects.order_by(), first=day, last=day + timedelta(days=1))
    assert (made.orders, made.total.cancellations, made.total.units) == (1, 2, 3)
    assert made.outcomes == {"done": 2, "rejected": 1, "undone": 1}
    assert [group.cancellations for group in made.days.values()] == [2, 0]


@pytest.mark.parametrize(
    ("seconds", "median", "p90"),
    [([], None, None), ([5], 5, 5), ([1, 2], 1, 2), ([3, 1, 2], 2, 3), (range(1, 11), 5, 9), (range(1, 101), 50, 90)],
)
def test_times_are_such_as_occurred(place: Place, seconds: Any, median: int | None, p90: int | None) -> None:
    many_figures(place(), [{"refund_seconds": taken} for taken in (*seconds, None)])
    today = timezone.localdate()
    made = add_up(CancellationFigure.objects.order_by(), first=today, last=today)
    assert made.refund_time == Times(len(seconds), median, p90)
