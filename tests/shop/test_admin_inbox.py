"""The inbox: who sees which jobs, trying again and closing by hand, one by one and many at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from shop import jobs
from shop.models import Job, Store, User
from tests.factories import StoreFactory, UserFactory

INBOX = "admin:shop_job_changelist"
KIND = "tests.inbox"


@jobs.handles(KIND)
class Parcel(jobs.Handler):
    label = "Send the parcel"
    what_to_do = "Walk to the post office."
    closed: list[tuple[str, str]] = []

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        self.closed.append((job.key, note))


@pytest.fixture(autouse=True)
def _nothing_closed_yet() -> None:
    Parcel.closed.clear()


@pytest.fixture
def person(db: None) -> Callable[..., Client]:
    """person("shop.view_job", stores=[…]): a browser of somebody who holds exactly these permissions."""

    def make(*permissions: str, stores: list[Store] | None = None) -> Client:
        user: User = UserFactory(is_staff=True)
        for name in permissions:
            label, codename = name.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))
        for store in stores or []:
            store.staff.add(user)
        client = Client()
        client.force_login(user)
        return client

    return make


def failed(key: str = "parcel:1", **fields: Any) -> Job:
    now = timezone.now()
    values = {
        "kind": KIND,
        "state": Job.State.NEEDS_ATTENTION,
        "attempts": 5,
        "max_attempts": 5,
        "last_error": "No answer.",
    }
    return Job.objects.create(key=key, run_at=now, created_at=now - timedelta(hours=3), **{**values, **fields})


def page(job: Job, name: str) -> str:
    return reverse("admin:shop_job_do", args=(job.pk, name))


def test_the_inbox_says_what_failed_why_and_what_to_do(person: Callable[..., Client], store: Store) -> None:
    failed(store=store, reference="4711")
    html = person("shop.handle_job", stores=[store]).get(reverse(INBOX)).content.decode()
    for words in (
        "Send the parcel",
        "4711",
        store.name,
        "3\xa0hours ago",
        "5 of 5",
        "No answer.",
        "Walk to the post office.",
    ):
        assert words in html


def test_an_empty_inbox_says_that_nothing_needs_you(person: Callable[..., Client], store: Store) -> None:
    failed("done:1", state=Job.State.DONE, store=store)
    client = person("shop.view_job", stores=[store])
    assert "Nothing needs you." in client.get(reverse(INBOX)).content.decode()
    assert "Nothing found." in client.get(reverse(INBOX), {"q": "nowhere"}).content.decode()


def test_done_jobs_are_found_by_the_filter_and_by_a_search(person: Callable[..., Client], store: Store) -> None:
    failed("done:1", state=Job.State.DONE, store=store, reference="4712")
    client = person("shop.view_job", stores=[store])
    assert "4712" not in client.get(reverse(INBOX)).content.decode()
    for query in ({"state": "done"}, {"state": "all"}, {"q": "4712"}, {"state": "done", "kind": KIND}):
        assert client.get(reverse(INBOX), query).context["cl"].result_count == 1, query
    assert client.get(reverse(INBOX), {"state": "waiting", "q": "4712"}).context["cl"].result_count == 0


def test_an_order_is_linked_from_the_inbox(client: Client, place: Callable[..., Any]) -> None:
    order = place()
    failed(store=order.store, reference=order.number)
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert reverse("admin:orders_order_change", args=(order.pk,)) in client.get(reverse(INBOX)).content.decode()


def test_a_job_whose_code_is_gone_is_still_shown(person: Callable[..., Client], store: Store) -> None:
    job = failed(kind="gone.kind", store=store)
    client = person("shop.handle_job", stores=[store])
    assert "gone.kind" in client.get(reverse(INBOX)).content.decode()
    assert client.get(page(job, "done")).status_code == 200


def test_looking_at_a_page_does_nothing(person: Callable[..., Client], store: Store) -> None:
    job = failed(store=store)
    client = person("shop.handle_job", stores=[store])
    for name in ("retry", "done"):
        assert client.get(page(job, name)).status_code == 200
        assert client.head(page(job, name)).status_code == 200
        assert client.put(page(job, name)).status_code == 405
    job.refresh_from_db()
    assert job.state == Job.State.NEEDS_ATTENTION


def test_trying_again_gives_fresh_attempts(person: Callable[..., Client], store: Store) -> None:
    job = failed(store=store)
    response = person("shop.handle_job", stores=[store]).post(page(job, "retry"), follow=True)
    assert "It is being tried again: Send the parcel." in response.content.decode()
    job.refresh_from_db()
    assert (job.state, job.attempts) == (Job.State.WAITING, 0)


def test_done_by_hand_needs_a_note_and_keeps_it(person: Callable[..., Client], store: Store) -> None:
    job = failed(store=store)
    client = person("shop.handle_job", stores=[store])
    assert "This field is required." in client.post(page(job, "done"), {"note": " "}).content.decode()
    job.refresh_from_db()
    assert job.state == Job.State.NEEDS_ATTENTION
    client.post(page(job, "done"), {"note": "Took it there myself."})
    job.refresh_from_db()
    assert (job.state, job.resolved_note) == (Job.State.DONE, "Took it there myself.")
    assert job.resolved_by is not None
    assert Parcel.closed == [(job.key, "Took it there myself.")]


def test_who_comes_second_is_told_so(person: Callable[..., Client], store: Store) -> None:
    job = failed(store=store, state=Job.State.WAITING)
    client = person("shop.handle_job", stores=[store])
    shown = client.get(page(job, "retry")).content.decode()
    assert "no longer waiting for a person" in shown
    assert '<button type="submit" class="desk-button is-primary"' not in shown
    response = client.post(page(job, "done"), {"note": "x"})
    assert response.status_code == 409
    assert "Nothing has happened." in response.content.decode()
    assert Parcel.closed == []


@pytest.mark.parametrize("name", ["retry", "done"])
def test_without_the_permission_nothing_happens(person: Callable[..., Client], store: Store, name: str) -> None:
    job = failed(store=store)
    looks_on = person("shop.view_job", stores=[store])
    assert page(job, name) not in looks_on.get(reverse(INBOX)).content.decode()
    for client in (looks_on, person(stores=[store])):
        assert client.get(page(job, name)).status_code == 403
        assert client.post(page(job, name), {"note": "x"}).status_code == 403
    looks_on.post(reverse(INBOX), {"action": "retry", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert (job.state, Parcel.closed) == (Job.State.NEEDS_ATTENTION, [])


def test_without_any_permission_there_is_no_inbox(person: Callable[..., Client], store: Store) -> None:
    failed(store=store)
    client = person(stores=[store])
    assert client.get(reverse(INBOX)).status_code == 403
    assert reverse(INBOX) not in client.get(reverse("admin:index")).content.decode()


def test_a_stranger_is_sent_to_the_login(client: Client, store: Store) -> None:
    job = failed(store=store)
    for response in (client.get(reverse(INBOX)), client.post(page(job, "retry"))):
        assert response.status_code == 302
        assert reverse("admin:login") in response["Location"]
    job.refresh_from_db()
    assert job.state == Job.State.NEEDS_ATTENTION


def test_people_see_and_touch_the_jobs_of_their_stores_only(person: Callable[..., Client], store: Store) -> None:
    mine, other, nobodys = failed("mine", store=store), failed("other", store=StoreFactory()), failed("nobodys")
    client = person("shop.handle_job", stores=[store])
    response = client.get(reverse(INBOX))
    assert [row.pk for row in response.context["cl"].result_list] == [mine.pk]
    assert response.context["desk"]["inbox"] == 1
    for job in (other, nobodys):
        assert client.post(page(job, "retry")).status_code == 404
    client.post(reverse(INBOX), {"action": "retry", "_selected_action": [mine.pk, other.pk, nobodys.pk]})
    states = dict(Job.objects.values_list("key", "state"))
    assert states == {"mine": "waiting", "other": "needs_attention", "nobodys": "needs_attention"}


def test_people_of_all_stores_see_jobs_without_a_store(person: Callable[..., Client], store: Store) -> None:
    failed("mine", store=store)
    failed("nobodys")
    response = person("shop.handle_job", "shop.work_all_stores").get(reverse(INBOX))
    assert response.context["desk"]["inbox"] == response.context["cl"].result_count == 2


def test_many_are_tried_again_at_once(person: Callable[..., Client], store: Store) -> None:
    rows = [failed(f"parcel:{n}", store=store) for n in range(3)]
    late = failed("late", store=store, state=Job.State.DONE)
    chosen = {"action": "retry", "_selected_action": [row.pk for row in [*rows, late]]}
    url = reverse(INBOX) + "?state=all"
    html = person("shop.handle_job", stores=[store]).post(url, chosen, follow=True).content.decode()
    assert "3 are being tried again." in html
    assert "1 not done: This job is no longer waiting for a person. (late)" in html
    assert Job.objects.filter(state=Job.State.WAITING, attempts=0).count() == 3


def test_the_list_takes_as_many_queries_for_many_jobs_as_for_few(person: Callable[..., Client], store: Store) -> None:
    client = person("shop.handle_job", stores=[store])
    counts = []
    for number in (1, 12):
        for n in range(number):
            failed(f"{number}:{n}", store=store, reference=f"47{n}")
        with CaptureQueriesContext(
            connection,
        ) as queries:
            client.get(reverse(INBOX))
        counts.append(len(queries))
    assert counts[0] == counts[1]
