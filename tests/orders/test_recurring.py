"""Recurring orders: on which days, begun, placed again each time once, paused and ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from inventory import services as inventory
from inventory.models import Product
from notifications.models import Message
from orders.models import CancellationReason, Order, RecurringOrder, Status
from orders.processing import EventHandler, PaymentChoice, PlacementRefused, get_event_handler
from orders.processing.recurring import ProductGone, job_key, promise_due
from orders.rules import recurring as rules
from orders.tasks import recurring_due
from payments.models import Payment
from shop import jobs
from shop.actors import Actor
from shop.errors import Invalid
from shop.models import Job, Store, User
from tests import factories
from tests.orders.series import begun, history, numbers

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]
Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
# ---------------------------------------------------------------------------------------------------------------
# On which days

BERLIN = ZoneInfo("Europe/Berlin")


def schedule(first: datetime, unit: str, every: int, count: int) -> list[str]:
    series = RecurringOrder(unit=unit, every=every, starts_at=first)
    days = [rules.occurs_at(series, n).astimezone(timezone.get_default_timezone()) for n in range(1, count + 1)]
    return [day.strftime("%Y-%m-%d %H:%M") for day in days]


def test_a_series_of_the_31st_comes_on_the_last_day_of_short_months_and_on_the_31st_again(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    days = schedule(datetime(2027, 1, 31, 9, 0, tzinfo=BERLIN), "month", 1, 5)
    assert [day[:10] for day in days] == ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"]


def test_a_leap_day_comes_back_after_four_years(settings: Any) -> None:
    days = schedule(datetime(2028, 2, 29, 9, 0, tzinfo=UTC), "month", 12, 5)
    assert [day[:10] for day in days] == ["2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]


@pytest.mark.parametrize("unit", ["day", "week", "month"])
def test_summer_time_does_not_move_the_time_of_the_day(unit: str, settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    days = schedule(datetime(2027, 3, 27, 9, 30, tzinfo=BERLIN), unit, 1, 3)
    assert {day[11:] for day in days} == {"09:30"}


def test_a_time_that_summer_time_leaves_out_comes_an_hour_later_that_day_only(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    series = RecurringOrder(unit="day", every=1, starts_at=datetime(2027, 3, 27, 2, 30, tzinfo=BERLIN))
    moments = [rules.occurs_at(series, n).astimezone(UTC).strftime("%d %H:%M") for n in (1, 2, 3)]
    assert moments == ["27 01:30", "28 01:30", "29 00:30"]


def test_every_two_weeks_over_the_end_of_a_year() -> None:
    days = schedule(datetime(2026, 12, 20, 9, 0, tzinfo=UTC), "week", 2, 3)
    assert [day[:10] for day in days] == ["2026-12-20", "2027-01-03", "2027-01-17"]


# ---------------------------------------------------------------------------------------------------------------
# Begin


def test_an_order_becomes_the_first_of_its_series(place: Place, staff: Staff, store: Store) -> None:
    order = place([("10.00", 2), ("4.00", 1)], store=store, shipping="4.90")
    manager = Actor.staff(staff("Store Manager", store))
    series = get_event_handler(manager).start_recurring(number=order.number or "", unit="month")
    order.refresh_from_db()
    assert (order.recurring, order.occurrence) == (series, 1)
    assert (series.shipping_price, series.gateway) == (Decimal("4.90"), "demo")
    assert [(item.name, item.quantity) for item in series.items.all()] == [
        (line.name, line.quantity) for line in order.lines.order_by("position")
    ]
    assert series.next_at > timezone.now()
    entry = order.journal.latest("sequence")
    assert (entry.verb, entry.actor_name, entry.details["series"]["id"]) == ("start_recurring", manager.name, series.pk)


def test_cancelled_units_do_not_come_again(place: Place, system: EventHandler) -> None:
    order = place([("10.00", 3), ("4.00", 1)])
    first, second = order.lines.order_by("position")
    system.cancel(number=order.number or "", lines={first.pk: 1, second.pk: 1})
    series = system.start_recurring(number=order.number or "", unit="week")
    assert [(item.name, item.quantity) for item in series.items.all()] == [(first.name, 2)]


def test_what_cannot_be_repeated_is_refused_with_its_reason(place: Place, system: EventHandler) -> None:
    cancelled, gone, twice = place(), place(), place()
    system.cancel(number=cancelled.number or "")
    gone.lines.update(product=None)
    system.start_recurring(number=twice.number or "", unit="week")
    with pytest.raises(PlacementRefused, match="nothing to repeat"):
        system.start_recurring(number=cancelled.number or "", unit="week")
    with pytest.raises(ProductGone):
        system.start_recurring(number=gone.number or "", unit="week")
    with pytest.raises(rules.AlreadyRecurring):
        system.start_recurring(number=twice.number or "", unit="week")
    assert RecurringOrder.objects.count() == 1


@pytest.mark.parametrize("wrong", [{"unit": "fortnight"}, {"every": 0}, {"every": 367}, {"gateway": "barter"}])
def test_an_interval_or_gateway_that_is_none_is_refused(wrong: dict[str, Any], place: Place, system: Any) -> None:
    order = place()
    with pytest.raises(Exception, match=r"Choose one|Enter a number|no payment gateway"):
        system.start_recurring(number=order.number, **{"unit": "week", **wrong})
    assert not RecurringOrder.objects.exists()


def test_an_order_paid_in_two_ways_says_so_unless_one_is_chosen(place: Place, system: EventHandler) -> None:
    parts = [
        PaymentChoice(gateway="manual", amount=Decimal("5")),
        PaymentChoice(gateway="demo", details={"token": "t1"}),
    ]
    order = place([("10.00", 2)], payments=parts)
    with pytest.raises(Invalid, match="several ways"):
        system.start_recurring(number=order.number or "", unit="week")
    series = system.start_recurring(number=order.number or "", unit="week", gateway="demo")
    assert series.payment_details == {"token": "t1"}


def test_an_order_of_a_series_that_ended_can_begin_another(place: Place, system: EventHandler) -> None:
    series = begun()
    order = series.orders.get()
    system.end_recurring(recurring_id=series.pk)
    again = system.start_recurring(number=order.number or "", unit="week")
    order.refresh_from_db()
    assert order.recurring == again


# ---------------------------------------------------------------------------------------------------------------
# Place


def test_the_sweep_places_what_is_due_at_todays_price_and_moves_on(work: Work, books: Books) -> None:
    series = begun(lines=[("10.00", 2)], shipping="4.90", customer=factories.UserFactory(), channel="app")
    Product.objects.update(price=Decimal("12.00"), tax_rate=Decimal("7"))
    recurring_due()
    work()
    order = series.orders.get(occurrence=2)
    assert order.total == Decimal("28.90")
    assert order.lines.get().tax_rate == Decimal("7")
    assert (order.customer, order.channel) == (series.customer, "app")
    assert order.shipping_address_id == series.shipping_address_id
    assert order.status == Status.CONFIRMATION_WAITING or order.status == Status.APPROVED
    assert Payment.objects.get(reference=order.number).authorized == order.total
    assert Message.objects.filter(event="order_placed", reference=order.number).count() == 1
    series.refresh_from_db()
    assert (series.next_occurrence, history(series)) == (3, ["started", "placed"])
    assert series.next_at > timezone.now()
    recurring_due()
    work()
    assert numbers(series) == [1, 2]
    assert books() == []


def test_what_a_long_rest_has_missed_is_one_order_not_many(work: Work) -> None:
    series = begun(days_ago=30, unit="day")
    recurring_due()
    work()
    series.refresh_from_db()
    assert numbers(series) == [1, 2]
    assert timezone.now() < series.next_at <= timezone.now() + timedelta(days=1, hours=2)


def test_nothing_comes_before_its_time(work: Work, system: EventHandler) -> None:
    series = begun(days_ago=3)
    assert promise_due(as_of=timezone.now()) == 0
    assert system.place_due(recurring_id=series.pk, occurrence=2) is None
    assert numbers(series) == [1]


def test_out_of_stock_waits_for_a_person_with_its_words_and_the_series_goes_on(
    work: Work, system: EventHandler
) -> None:
    store = factories.StoreFactory()
    product = factories.stocked(store, units=1)
    series = begun(lines=[product], store=store)
    recurring_due()
    work()
    job = Job.objects.get(kind="orders.place_recurring")
    assert job.state == Job.State.NEEDS_ATTENTION
    assert product.name in job.last_error
    assert job.reference == series.orders.get().number
    recurring_due()
    assert Job.objects.filter(kind="orders.place_recurring").count() == 1
    record = factories.record_of(product)
    inventory.receive(stock_record_id=record.pk, quantity=5, key="delivery")
    jobs.retry_by_hand(job.pk)
    work()
    assert numbers(series) == [1, 2]


def test_a_product_that_is_not_sold_any_more_is_named(work: Work) -> None:
    series = begun()
    Product.objects.update(is_active=False)
    recurring_due()
    work()
    job = Job.objects.get(kind="orders.place_recurring")
    assert (job.state, series.items.get().name in job.last_error) == (Job.State.NEEDS_ATTENTION, True)
    assert numbers(series) == [1]


def test_done_by_hand_leaves_the_occurrence_out(work: Work) -> None:
    series = begun()
    Product.objects.update(is_active=False)
    recurring_due()
    work()
    job = Job.objects.get(kind="orders.place_recurring")
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Frida", note="Delivered from the shop.")
    series.refresh_from_db()
    assert (numbers(series), series.next_occurrence) == ([1], 3)
    change = series.changes.get(what="skipped")
    assert (change.actor_name, change.note, change.occurrence) == ("Frida", "Delivered from the shop.", 2)


def test_placed_by_a_person_closes_what_waits_in_the_inbox(work: Work, admin_actor: Actor) -> None:
    series = begun()
    Product.objects.update(is_active=False)
    recurring_due()
    work()
    Product.objects.update(is_active=True)
    order = get_event_handler(admin_actor).place_due(recurring_id=series.pk, occurrence=2, early=True)
    job = Job.objects.get(key=job_key(series.pk, 2))
    assert (job.state, order.number in job.resolved_note) == (Job.State.DONE, True)
    assert series.changes.latest("pk").actor_name == admin_actor.name


def test_placed_early_takes_the_place_of_the_next_one(system: EventHandler) -> None:
    series = begun(days_ago=3, unit="month")
    second = system.place_due(recurring_id=series.pk, occurrence=2, early=True)
    assert system.place_due(recurring_id=series.pk, occurrence=2, early=True) == second
    series.refresh_from_db()
    assert series.next_at == rules.occurs_at(series, 3)


def test_the_database_has_no_room_for_an_occurrence_twice(system: EventHandler) -> None:
    series = begun()
    other = factories.place_order()
    with pytest.raises(IntegrityError), transaction.atomic():
        Order.objects.filter(pk=other.pk).update(recurring=series, occurrence=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Order.objects.filter(pk=other.pk).update(recurring=series, occurrence=None)


# ---------------------------------------------------------------------------------------------------------------
# Pause, resume, end


def test_a_pause_is_left_out_not_made_up_for(work: Work, system: EventHandler) -> None:
    series = begun(days_ago=100)
    system.pause_recurring(recurring_id=series.pk, note="On holiday.")
    recurring_due()
    work()
    assert numbers(series) == [1]
    with pytest.raises(rules.SeriesPaused):
        system.place_due(recurring_id=series.pk, occurrence=2, early=True)
    system.resume_recurring(recurring_id=series.pk)
    series.refresh_from_db()
    assert series.next_at > timezone.now()
    recurring_due()
    work()
    assert (numbers(series), history(series)) == ([1], ["started", "paused", "resumed"])


def test_a_job_that_comes_after_the_end_finds_nothing_to_do(work: Work, system: EventHandler) -> None:
    series = begun()
    recurring_due()
    system.end_recurring(recurring_id=series.pk)
    work()
    assert numbers(series) == [1]
    assert Job.objects.get(kind="orders.place_recurring").state == Job.State.DONE


def test_the_end_says_who_when_and_why_and_tells_the_customer_once(staff: Staff, reason: CancellationReason) -> None:
    series = begun()
    person = Actor.staff(staff("Customer Service"))
    for _again in range(2):
        get_event_handler(person).end_recurring(recurring_id=series.pk, reason=reason.code, note="By phone.")
    series.refresh_from_db()
    assert (series.status, series.ended_by, series.ended_reason) == ("ended", person.name, reason)
    change = series.changes.get(what="ended")
    assert (change.user, change.reason, change.note) == (person.user, reason, "By phone.")
    order = series.orders.get()
    assert Message.objects.filter(event="recurring_ended", reference=order.number).count() == 1
    entry = order.journal.get(verb="end_recurring")
    assert (entry.actor_name, entry.details["series"]["id"]) == (person.name, series.pk)


def test_an_end_without_a_letter_is_in_the_journal_all_the_same(system: EventHandler) -> None:
    series = begun()
    system.end_recurring(recurring_id=series.pk, notify=False)
    assert not Message.objects.filter(event="recurring_ended").exists()
    assert series.orders.get().journal.filter(verb="end_recurring").count() == 1


def test_this_order_and_all_to_come_is_one_decision(system: EventHandler, work: Work, books: Books) -> None:
    series = begun()
    order = series.orders.get()
    planned = rules.planned_end(order)
    assert (planned.series, planned.rhythm, planned.next_at) == (series.pk, "every month", series.next_at)
    with system.decide(order.number or "", "cancel") as d:
        system.cancel(number=order.number or "")
        for _again in range(2):
            system.end_series_of(d, note="Moves away.")
    entry = order.journal.latest("sequence")
    assert (entry.verb, entry.details["series"]["id"]) == ("cancel", series.pk)
    assert history(series) == ["started", "ended"]
    recurring_due()
    work()
    order = Order.objects.get(pk=order.pk)
    assert (order.status, rules.planned_end(order)) == (Status.CANCELLED, None)
    assert books() == []


def test_a_decision_that_is_refused_leaves_the_series_as_it_is(system: EventHandler) -> None:
    series = begun()
    number = series.orders.get().number or ""
    with pytest.raises(Invalid), system.decide(number, "cancel") as d:
        system.end_series_of(d)
        raise Invalid
    series.refresh_from_db()
    assert (series.status, history(series)) == ("active", ["started"])


def test_an_order_of_no_series_has_none_to_end(
    place: Place, system: EventHandler, django_assert_num_queries: Any
) -> None:
    order = Order.objects.get(pk=place().pk)
    with django_assert_num_queries(0):
        assert rules.planned_end(order) is None
    with system.decide(order.number or "", "cancel") as d:
        d.only_if_changed = True
        assert system.end_series_of(d) is None
