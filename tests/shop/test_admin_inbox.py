"""The inbox: who sees which jobs, whose work they are and until when, trying again and closing by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orders.models import Order
from orders.processing import EventHandler
from shop import jobs
from shop.errors import Refused
from shop.models import Job, Store, User
from shop.money import shown
from tests.factories import StoreFactory, UserFactory

INBOX = "admin:shop_job_changelist"
KIND = "tests.inbox"


@jobs.handles(KIND)
class Parcel(jobs.Handler):
    label = "Send the parcel"
    what_happened = "The parcel is still here."
    due_after = timedelta(hours=4)
    schedule = (60,)
    what_to_do = "Walk to the post office."
    closed: list[tuple[str, str]] = []
    answer = jobs.refused("No stamps.")
    refusing = False

    def perform(self, job: Job) -> jobs.Outcome:
        return self.answer

    def settle(self, job: Job, outcome: jobs.Outcome) -> None:
        if self.refusing:
            raise Refused("Not like this.")

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        return frozenset(row.pk for row in rows if row.args.get("heavy"))

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        self.closed.append((job.key, note))


@pytest.fixture(autouse=True)
def _nothing_closed_yet() -> None:
    Parcel.closed.clear()
    Parcel.answer, Parcel.refusing = jobs.refused("No stamps."), False


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
        "The parcel is still here.",
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
    for name in ("retry", "done", "take", "give"):
        assert client.get(page(job, name)).status_code == 200
        assert client.head(page(job, name)).status_code == 200
        assert client.put(page(job, name)).status_code == 405
    job.refresh_from_db()
    assert (job.state, job.owner) == (Job.State.NEEDS_ATTENTION, None)


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


@pytest.mark.parametrize("name", ["retry", "done", "take", "give"])
def test_without_the_permission_nothing_happens(person: Callable[..., Client], store: Store, name: str) -> None:
    job = failed(store=store)
    looks_on = person("shop.view_job", stores=[store])
    assert page(job, name) not in looks_on.get(reverse(INBOX)).content.decode()
    for client in (looks_on, person(stores=[store])):
        assert client.get(page(job, name)).status_code == 403
        assert client.post(page(job, name), {"note": "x"}).status_code == 403
    for bulk in ("retry", "take"):
        looks_on.post(reverse(INBOX), {"action": bulk, "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert (job.state, job.owner, Parcel.closed) == (Job.State.NEEDS_ATTENTION, None, [])


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


# --- Owner and due time -----------------------------------------------------------------------------------------------


def promised(**fields: Any) -> Job:
    """A parcel that is to be sent now."""
    return failed(state=Job.State.WAITING, attempts=0, max_attempts=2, last_error="", **fields)


def owner_of(job: Job) -> User | None:
    job.refresh_from_db()
    return job.owner


def in_list(client: Client, **query: str) -> list[str]:
    return [row.key for row in client.get(reverse(INBOX), query).context["cl"].result_list]


def user_of(client: Client) -> User:
    return User.objects.get(pk=client.session["_auth_user_id"])


@pytest.mark.parametrize("how", ["refused", "refused when settled", "attempts used up", "every worker died"])
def test_what_comes_into_the_inbox_is_due_when_its_kind_says(db: None, how: str) -> None:
    job, at = promised(), timezone.now()
    if how == "every worker died":
        Job.objects.update(attempts=2)
        assert jobs.claim(as_of=at) is None
    else:
        Parcel.answer = jobs.retry("No answer.") if how == "attempts used up" else jobs.refused("No stamps.")
        if how == "refused when settled":
            Parcel.answer, Parcel.refusing = jobs.done(), True
        Job.objects.update(attempts=1)
        jobs.run_now(job.key, clock=lambda: at)
    job.refresh_from_db()
    assert (job.state, job.due_at) == (Job.State.NEEDS_ATTENTION, at + timedelta(hours=4))


def test_what_is_tried_again_or_done_is_not_due(db: None) -> None:
    job = promised()
    at = timezone.now()
    Parcel.answer = jobs.retry("No answer.")
    jobs.run_now(job.key, clock=lambda: at)
    job.refresh_from_db()
    assert (job.state, job.due_at) == (Job.State.WAITING, None)
    for close in (
        lambda pk: jobs.retry_by_hand(pk),
        lambda pk: jobs.finish_by_hand(pk, user_id=None, actor_name="Ada", note="x"),
    ):
        waiting = failed(f"late:{Job.objects.count()}", due_at=at)
        close(waiting.pk)
        waiting.refresh_from_db()
        assert waiting.due_at is None


def test_a_kind_whose_code_is_gone_is_due_in_a_day(db: None) -> None:
    job = promised(kind="gone.kind")
    at = timezone.now()
    jobs.run_now(job.key, clock=lambda: at)
    job.refresh_from_db()
    assert job.due_at == at + timedelta(days=1)


def test_the_list_says_until_when_and_begins_with_what_is_due_first(
    person: Callable[..., Client], store: Store
) -> None:
    now = timezone.now()
    failed("tomorrow", store=store, due_at=now + timedelta(hours=20))
    failed("soon", store=store, due_at=now + timedelta(hours=3, minutes=5))
    failed("some day", store=store)
    failed("late", store=store, due_at=now - timedelta(days=3))
    client = person("shop.handle_job", stores=[store])
    assert in_list(client) == ["late", "soon", "tomorrow", "some day"]
    html = client.get(reverse(INBOX)).content.decode()
    assert "in 3\xa0hours" in html
    assert "overdue since" in html


def test_the_filters_show_mine_nobodys_and_what_is_overdue(person: Callable[..., Client], store: Store) -> None:
    client = person("shop.handle_job", stores=[store])
    late = timezone.now() - timedelta(minutes=1)
    failed("mine", store=store, owner=user_of(client))
    failed("mine, late", store=store, owner=user_of(client), due_at=late)
    failed("hers", store=store, owner=UserFactory())
    failed("nobody's, late", store=store, due_at=late)
    assert set(in_list(client, owner="mine")) == {"mine", "mine, late"}
    assert set(in_list(client, owner="nobody")) == {"nobody's, late"}
    assert set(in_list(client, due="overdue")) == {"mine, late", "nobody's, late"}
    assert set(in_list(client, due="overdue", owner="mine")) == {"mine, late"}
    assert len(in_list(client)) == 4


def test_the_dashboards_card_counts_what_is_overdue_here(person: Callable[..., Client], store: Store) -> None:
    client = person("shop.handle_job", stores=[store])
    late = timezone.now() - timedelta(minutes=1)

    def card() -> tuple[int, str]:
        found = {card.key: card for card in client.get(reverse("admin:index")).context["figures"].cards}["inbox"]
        return found.count, str(found.hint)

    failed("in time", store=store, due_at=timezone.now() + timedelta(hours=1))
    failed("elsewhere", store=StoreFactory(), due_at=late)
    failed("done", store=store, state=Job.State.DONE, due_at=late)
    assert card() == (1, "Work that went wrong and needs a decision")
    failed("late", store=store, due_at=late)
    assert card() == (2, "1 of them is overdue")


def test_who_takes_a_job_is_its_owner(person: Callable[..., Client], store: Store) -> None:
    job, client = failed(store=store), person("shop.handle_job", stores=[store])
    assert "nobody" in client.get(page(job, "take")).content.decode()
    assert "This is your work now" in client.post(page(job, "take"), {"seen": ""}, follow=True).content.decode()
    assert owner_of(job) == user_of(client)
    assert "your work already" in client.get(page(job, "take")).content.decode()
    assert page(job, "take") not in client.get(reverse(INBOX)).content.decode()


def test_who_takes_it_second_is_told_and_may_take_it_over_knowingly(
    person: Callable[..., Client], store: Store
) -> None:
    job = failed(store=store)
    first, second = (person("shop.handle_job", stores=[store]) for _n in range(2))
    first.post(page(job, "take"), {"seen": ""})
    response = second.post(page(job, "take"), {"seen": ""})
    assert response.status_code == 409
    assert f"became the work of {user_of(first).get_full_name()}" in response.content.decode()
    assert owner_of(job) == user_of(first)
    seen = second.get(page(job, "take")).context["form"]["seen"].value()
    second.post(page(job, "take"), {"seen": seen})
    assert owner_of(job) == user_of(second)


def test_what_is_done_can_neither_be_taken_nor_given(person: Callable[..., Client], store: Store) -> None:
    job, client = failed(store=store, state=Job.State.DONE), person("shop.handle_job", stores=[store])
    assert client.post(page(job, "take"), {"seen": ""}).status_code == 409
    assert owner_of(job) is None


def test_it_is_given_to_somebody_who_works_there_and_may_handle_it(person: Callable[..., Client], store: Store) -> None:
    job, chief = failed(store=store), person("shop.handle_job", stores=[store])
    here = person("shop.handle_job", stores=[store])
    everywhere = person("shop.handle_job", "shop.work_all_stores")
    boss: User = UserFactory(is_staff=True, is_superuser=True)
    others = [
        user_of(person("shop.view_job", stores=[store])),
        user_of(person("shop.handle_job", stores=[StoreFactory()])),
        UserFactory(),
    ]
    offered = set(chief.get(page(job, "give")).context["form"].fields["to"].queryset)
    assert offered == {user_of(chief), user_of(here), user_of(everywhere), boss}
    for other in others:
        assert chief.post(page(job, "give"), {"to": other.pk, "seen": ""}).status_code == 200
    assert owner_of(job) is None
    told = chief.post(page(job, "give"), {"to": user_of(here).pk, "seen": ""}, follow=True)
    assert f"This is the work of {user_of(here).get_full_name()} now" in told.content.decode()
    assert owner_of(job) == user_of(here)
    assert in_list(here, owner="mine") == [job.key]


def test_a_job_of_no_store_is_given_to_people_of_all_stores(person: Callable[..., Client], store: Store) -> None:
    job, chief = failed(), person("shop.handle_job", "shop.work_all_stores")
    person("shop.handle_job", stores=[store])
    assert set(chief.get(page(job, "give")).context["form"].fields["to"].queryset) == {user_of(chief)}


def test_many_are_taken_at_once_and_what_others_have_is_left_to_them(
    person: Callable[..., Client], store: Store
) -> None:
    colleague: User = UserFactory(first_name="Grace", last_name="Hopper")
    free = [failed(f"free:{n}", store=store) for n in range(2)]
    hers = failed("hers", store=store, owner=colleague)
    client = person("shop.handle_job", stores=[store])
    chosen = {"action": "take", "_selected_action": [row.pk for row in [*free, hers]]}
    html = client.post(reverse(INBOX), chosen, follow=True).content.decode()
    assert "2 are your work now." in html
    assert "1 not done: In the meantime it became the work of Grace Hopper. (hers)" in html
    assert [owner_of(job) for job in free] == [user_of(client)] * 2
    assert owner_of(hers) == colleague


def test_what_comes_back_comes_back_to_its_owner(person: Callable[..., Client], store: Store) -> None:
    client = person("shop.handle_job", stores=[store])
    job = failed(store=store, owner=user_of(client))
    client.post(page(job, "retry"))
    assert jobs.drain() == 1
    assert owner_of(job) == user_of(client)
    assert job.state == Job.State.NEEDS_ATTENTION
    assert job.due_at is not None


def test_an_owner_whose_account_is_deleted_leaves_nobodys_work(db: None) -> None:
    colleague: User = UserFactory()
    job = failed(owner=colleague)
    colleague.delete()
    assert owner_of(job) is None


def first_button(client: Client, url: str) -> str:
    """The button that stands out."""
    html = client.get(url).content.decode()
    return html.split('class="desk-button is-primary" href="')[1].split('"')[0]


def test_what_only_a_person_can_do_has_done_by_hand_as_its_first_button(
    person: Callable[..., Client], store: Store
) -> None:
    client = person("shop.handle_job", stores=[store])
    for heavy, name in ((True, "done"), (False, "retry")):
        job = failed(f"heavy:{heavy}", store=store, args={"heavy": heavy})
        assert first_button(client, reverse("admin:shop_job_change", args=(job.pk,))) == page(job, name)
        assert first_button(client, reverse(INBOX) + f"?q={job.key}") == page(job, name)


def test_what_only_a_person_can_do_is_not_tried_again(person: Callable[..., Client], store: Store) -> None:
    client = person("shop.handle_job", stores=[store])
    heavy, light = (failed(key, store=store, args={"heavy": key == "heavy"}) for key in ("heavy", "light"))
    assert page(heavy, "retry") not in client.get(reverse(INBOX)).content.decode()
    assert str(jobs.BY_HAND) in client.post(page(heavy, "retry")).content.decode()
    client.post(reverse(INBOX), {"action": "retry", "_selected_action": [heavy.pk, light.pk]})
    assert [Job.objects.get(pk=job.pk).state for job in (heavy, light)] == ["needs_attention", "waiting"]


def test_a_refund_to_be_transferred_by_hand_asks_for_that_first(
    client: Client, place: Callable[..., Order], system: EventHandler, work: Callable[[], int]
) -> None:
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    order = place(gateway="manual", pay=False)
    system.record_payment(number=order.number, amount=order.total)
    work()
    system.cancel(number=order.number, reason="out_of_stock")
    work()
    job = Job.objects.get(state=Job.State.NEEDS_ATTENTION)
    assert job.kind == "payments.send"
    assert job.due_at is not None
    assert timezone.now() < job.due_at <= timezone.now() + timedelta(hours=4)
    assert first_button(client, reverse(INBOX)) == page(job, "done")
    # The list, the job's own page, that of its action and the order's say how much it is about.
    order_page = reverse("admin:orders_order_change", args=(order.pk,))
    for path in (reverse(INBOX), reverse("admin:shop_job_change", args=(job.pk,)), page(job, "done"), order_page):
        assert f"Refund {shown(order.total, order.currency)}" in client.get(path).content.decode()
