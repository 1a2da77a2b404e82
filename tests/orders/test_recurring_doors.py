"""Recurring orders through the handler, the API and the admin, by whoever may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from orders.models import CancellationReason, RecurringNotFound, RecurringOrder
from orders.processing import EventHandler, get_event_handler
from shop.actors import Actor
from shop.errors import NotAllowed
from shop.models import Store, User
from tests import factories
from tests.orders.series import begun, history, numbers

pytestmark = pytest.mark.django_db
Staff = Callable[..., User]
# ---------------------------------------------------------------------------------------------------------------
# Who may


VERBS: dict[str, Callable[[EventHandler, RecurringOrder], object]] = {
    "start": lambda h, s: h.start_recurring(number=factories.place_order(store=s.store).number or "", unit="day"),
    "place": lambda h, s: h.place_due(recurring_id=s.pk, occurrence=2, early=True),
    "skip": lambda h, s: h.skip_due(recurring_id=s.pk, occurrence=2, note="x"),
    "pause": lambda h, s: h.pause_recurring(recurring_id=s.pk),
    "end": lambda h, s: h.end_recurring(recurring_id=s.pk),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "role, may", [("Store Manager", True), ("Customer Service", True), ("Fulfilment", False), (None, False)]
)
def test_managers_and_customer_service_may_others_may_not(
    verb: str, role: str | None, may: bool, staff: Staff, store: Store
) -> None:
    series = begun(store=store)
    handler = get_event_handler(Actor.staff(staff(role, store)))
    if may:
        VERBS[verb](handler, series)
        return
    with pytest.raises(NotAllowed):
        VERBS[verb](handler, series)
    series.refresh_from_db()
    assert (series.status, series.next_occurrence, history(series)) == ("active", 2, ["started"])


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "start"])
def test_a_series_of_another_store_does_not_exist(verb: str, staff: Staff, store: Store) -> None:
    series = begun()
    with pytest.raises(RecurringNotFound):
        VERBS[verb](get_event_handler(Actor.staff(staff("Store Manager", store))), series)


@pytest.mark.parametrize("verb", ["place", "skip", "pause"])
def test_customers_may_end_their_own_and_nothing_else(verb: str) -> None:
    customer = factories.UserFactory()
    series = begun(customer=customer)
    with pytest.raises(NotAllowed):
        VERBS[verb](get_event_handler(Actor.customer(customer)), series)
    with pytest.raises(RecurringNotFound):
        VERBS["end"](get_event_handler(Actor.customer(factories.UserFactory())), series)
    VERBS["end"](get_event_handler(Actor.customer(customer)), series)
    series.refresh_from_db()
    assert series.status == "ended"


# ---------------------------------------------------------------------------------------------------------------
# The doors


def test_customers_see_their_own_series_and_end_one_twice_with_one_answer(
    client: Client, reason: CancellationReason, django_assert_num_queries: Any
) -> None:
    customer = factories.UserFactory()
    series, other = begun(customer=customer), begun()
    client.force_login(customer)
    shown = client.get(reverse("orders:recurring")).json()["results"]
    assert [row["id"] for row in shown] == [str(series.uuid)]
    assert shown[0]["orders"] == [series.orders.get().number]
    assert (shown[0]["rhythm"], shown[0]["next_at"] is not None) == ("every month", True)
    ends = [reverse("orders:end-recurring", args=(one.uuid,)) for one in (series, other)]
    asked = {"reason": reason.pk, "description": "Too many pots."}
    answers = [client.post(ends[0], asked, content_type="application/json") for _again in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert (answers[0].json()["status"], answers[0].json()["next_at"]) == ("ended", None)
    assert series.changes.get(what="ended").note == "Too many pots."
    assert client.post(ends[1], {}, content_type="application/json").status_code == 404
    assert history(other) == ["started"]


def test_the_api_refuses_a_stranger_and_a_reason_of_staff(client: Client) -> None:
    customer = factories.UserFactory()
    series = begun(customer=customer)
    url = reverse("orders:end-recurring", args=(series.uuid,))
    assert client.post(url, {}, content_type="application/json").status_code == 401
    assert client.get(reverse("orders:recurring")).status_code == 401
    client.force_login(customer)
    staff_only = CancellationReason.objects.get(code="fraud_suspected").pk
    assert client.post(url, {"reason": staff_only}, content_type="application/json").status_code == 400
    assert history(series) == ["started"]


def test_the_list_of_series_takes_no_more_queries_for_more_of_them(
    client: Client, django_assert_num_queries: Any
) -> None:
    customer = factories.UserFactory()
    client.force_login(customer)
    begun(customer=customer)
    client.get(reverse("orders:recurring"))
    with django_assert_num_queries(6) as few:
        client.get(reverse("orders:recurring"))
    begun(customer=customer, lines=[("1.00", 1), ("2.00", 2)])
    with django_assert_num_queries(len(few)):
        client.get(reverse("orders:recurring"))


def test_staff_repeat_an_order_and_work_on_its_series_by_their_pages(
    client: Client, staff: Staff, store: Store
) -> None:
    order = factories.place_order(store=store)
    client.force_login(staff("Store Manager", store))
    order.refresh_from_db()
    page = reverse("admin:orders_order_change", args=(order.pk,))
    repeat = reverse("admin:orders_order_do", args=(order.pk, "repeat"))
    assert repeat in client.get(page).content.decode()
    assert client.get(repeat).status_code == 200
    sent = {"every": "2", "unit": "week", "gateway": "manual", "version": order.version}
    assert client.post(repeat, sent).status_code == 302
    series = RecurringOrder.objects.get()
    text = client.get(page).content.decode()
    assert "every 2 weeks" in text
    assert repeat not in text

    def do(name: str, **data: Any) -> int:
        url = reverse("admin:orders_recurringorder_do", args=(series.pk, name))
        assert client.get(url).status_code == 200
        return client.post(url, data).status_code

    for _double_click in range(2):
        assert do("place", occurrence=2) == 302
    assert numbers(series) == [1, 2]
    assert do("pause", note="") == 302
    assert do("place", occurrence=3) == 409
    assert do("resume", note="") == 302
    assert do("end", note="", reason="", notify="on") == 302
    assert history(series) == ["started", "placed", "paused", "resumed", "ended"]
    assert "paused" not in client.get(page).content.decode()
    for url in ("admin:orders_recurringorder_changelist",):
        assert "every 2 weeks" in client.get(reverse(url)).content.decode()
    shown = client.get(reverse("admin:orders_recurringorder_change", args=(series.pk,))).content.decode()
    assert all(o.number in shown for o in series.orders.all())


def test_staff_without_the_permission_get_neither_buttons_nor_pages(client: Client, staff: Staff, store: Store) -> None:
    series = begun(store=store)
    order = factories.place_order(store=store)
    client.force_login(staff("Fulfilment", store))
    repeat = reverse("admin:orders_order_do", args=(order.pk, "repeat"))
    end = reverse("admin:orders_recurringorder_do", args=(series.pk, "end"))
    assert repeat not in client.get(reverse("admin:orders_order_change", args=(order.pk,))).content.decode()
    assert end not in client.get(reverse("admin:orders_recurringorder_change", args=(series.pk,))).content.decode()
    assert [client.post(url, {}).status_code for url in (repeat, end)] == [403, 403]
    assert (RecurringOrder.objects.count(), history(series)) == (1, ["started"])
