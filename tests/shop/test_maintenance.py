"""Maintenance: who starts and ends it, what people see meanwhile, and how a refused request is answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.response import Response

from shop import maintenance
from shop.actors import Actor
from shop.api import answer_error
from shop.errors import NotAllowed
from shop.models import Maintenance, Store, User
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

LIST = "admin:shop_maintenance_changelist"
START = "admin:shop_maintenance_start"
SYSTEM = Actor.system()


@pytest.fixture
def chief(staff: Callable[..., User]) -> Client:
    """A browser of somebody with the role Admin."""
    client = Client()
    client.force_login(staff("Admin"))
    return client


def banner(client: Client) -> bool:
    return 'class="desk-banner"' in client.get(reverse("admin:index")).content.decode()


def soon() -> datetime:
    return timezone.now() + timedelta(minutes=30)


def refusal(period: Maintenance) -> Response:
    response = answer_error(maintenance.UnderMaintenance(period), {})
    assert response is not None
    return response


# --- On and off -----------------------------------------------------------------------------------------------------


def test_it_is_off_until_somebody_starts_it_and_after_somebody_ends_it(admin_actor: Actor) -> None:
    assert maintenance.current() is None
    started = maintenance.start(actor=admin_actor, message="New database.")
    assert maintenance.current() == started
    ended = maintenance.end(actor=admin_actor)
    assert maintenance.current() is None
    assert (ended.started_by, ended.ended_by) == (admin_actor.user, admin_actor.user)


def test_asking_whether_it_is_on_is_one_query() -> None:
    maintenance.start(actor=SYSTEM)
    with CaptureQueriesContext(connection) as queries:
        maintenance.current()
    assert len(queries) == 1


def test_there_is_one_at_a_time_and_the_database_sees_to_it() -> None:
    first = maintenance.start(actor=SYSTEM, message="first")
    with pytest.raises(maintenance.AlreadyOn):
        maintenance.start(actor=SYSTEM, message="second")
    with pytest.raises(IntegrityError), transaction.atomic():
        Maintenance.objects.create(started_at=timezone.now())
    assert maintenance.current() == first
    for _again in range(2):
        maintenance.end(actor=SYSTEM)
        maintenance.start(actor=SYSTEM)
    assert Maintenance.objects.filter(ended_at=None).count() == 1


def test_what_is_not_on_cannot_be_ended() -> None:
    with pytest.raises(maintenance.NotOn):
        maintenance.end(actor=SYSTEM)


def test_an_end_in_the_past_and_an_endless_message_are_refused() -> None:
    with pytest.raises(maintenance.EndIsPast) as refused:
        maintenance.start(actor=SYSTEM, ends_at=timezone.now() - timedelta(minutes=1))
    assert refused.value.field == "ends_at"
    with pytest.raises(maintenance.TooLong):
        maintenance.start(actor=SYSTEM, message="x" * 301)
    assert maintenance.current() is None


@pytest.mark.parametrize("role", ["Store Manager", "Fulfilment", "Customer Service", None])
def test_other_roles_neither_start_nor_end_it(
    role: str | None, staff: Callable[..., User], store: Store, client: Client
) -> None:
    user = staff(role, store)
    client.force_login(user)
    with pytest.raises(NotAllowed):
        maintenance.start(actor=Actor.staff(user))
    assert client.get(reverse(START)).status_code == 403
    assert client.post(reverse(START), {"message": "x"}).status_code == 403
    assert maintenance.current() is None
    period = maintenance.start(actor=SYSTEM)
    with pytest.raises(NotAllowed):
        maintenance.end(actor=Actor.staff(user))
    assert client.post(reverse("admin:shop_maintenance_do", args=(period.pk, "end"))).status_code == 403
    assert client.get(reverse(LIST)).status_code == 403
    assert maintenance.current() == period


# --- What programs are told -----------------------------------------------------------------------------------------


def test_a_refused_request_is_told_when_to_come_back() -> None:
    response = refusal(maintenance.start(actor=SYSTEM, message="We move: 50% done.", ends_at=soon()))
    assert response.status_code == 503
    assert response.data["error_code"] == ["maintenance"]
    assert 0 < int(response["Retry-After"]) <= 30 * 60 + 1
    assert "until about" in response.data["non_field_errors"][0]
    assert response.data["non_field_errors"][0].endswith("We move: 50% done.")


def test_without_a_known_end_it_is_two_minutes() -> None:
    period = maintenance.start(actor=SYSTEM)
    assert refusal(period)["Retry-After"] == "120"
    period.ends_at = timezone.now() - timedelta(minutes=5)
    overdue = refusal(period)
    assert overdue["Retry-After"] == "120"
    assert "until" not in overdue.data["non_field_errors"][0]


def test_other_refusals_name_no_time() -> None:
    response = answer_error(NotAllowed(), {})
    assert response is not None
    assert "Retry-After" not in response


# --- The admin ------------------------------------------------------------------------------------------------------


def test_staff_start_it_read_about_it_on_every_page_and_end_it(chief: Client) -> None:
    assert not banner(chief)
    shown = chief.get(reverse(LIST)).content.decode()
    assert "Maintenance is off" in shown
    assert reverse(START) in shown
    end = timezone.localtime(soon()).strftime("%Y-%m-%dT%H:%M")
    answer = chief.post(reverse(START), {"message": "New <b>shelves</b>", "ends_at": end}, follow=True)
    assert "Maintenance has begun." in answer.content.decode()
    period = maintenance.current()
    assert period is not None
    assert period.ends_at is not None
    for page in ("admin:index", "admin:shop_job_changelist", "admin:orders_order_changelist", LIST):
        html = chief.get(reverse(page)).content.decode()
        for words in ("Maintenance since", "until about", "New &lt;b&gt;shelves&lt;/b&gt;", "other changes wait"):
            assert words in html, page
    button = reverse("admin:shop_maintenance_do", args=(period.pk, "end"))
    assert button in chief.get(reverse(LIST)).content.decode()
    chief.get(button)
    assert maintenance.current() == period
    assert "Maintenance is over" in chief.post(button, follow=True).content.decode()
    assert maintenance.current() is None
    assert not banner(chief)
    assert "New &lt;b&gt;shelves" in chief.get(reverse(LIST)).content.decode()


def test_everybody_on_the_desk_sees_the_banner_and_strangers_do_not(
    staff: Callable[..., User], store: Store, client: Client
) -> None:
    maintenance.start(actor=SYSTEM, message="Back soon")
    assert "Back soon" not in client.get(reverse("admin:login")).content.decode()
    client.force_login(staff("Fulfilment", store))
    assert banner(client)
    assert reverse(LIST) not in client.get(reverse("admin:index")).content.decode()


def test_who_comes_second_is_told_so(chief: Client) -> None:
    period = maintenance.start(actor=SYSTEM)
    assert "is on already" in chief.get(reverse(START)).content.decode()
    assert chief.post(reverse(START), {"message": "again"}).status_code == 409
    maintenance.end(actor=SYSTEM)
    response = chief.post(reverse("admin:shop_maintenance_do", args=(period.pk, "end")))
    assert response.status_code == 409
    assert Maintenance.objects.count() == 1


def test_a_wrong_end_is_marked_in_the_form(chief: Client) -> None:
    for sent, words in (("never", "Enter a valid date/time."), ("2001-01-01T10:00", "must be in the future")):
        assert words in chief.post(reverse(START), {"ends_at": sent}).content.decode()
    assert maintenance.current() is None


def test_a_period_has_a_page_and_nobody_edits_it(chief: Client) -> None:
    period = maintenance.start(actor=SYSTEM, message="Shelves")
    page = reverse("admin:shop_maintenance_change", args=(period.pk,))
    assert "Shelves" in chief.get(page).content.decode()
    assert chief.post(page, {"message": "Other"}).status_code == 403
    assert chief.get(reverse("admin:shop_maintenance_add")).status_code == 403


def test_the_banner_costs_no_query_more_than_asking(client: Client) -> None:
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    counts = []
    for _step in range(2):
        with CaptureQueriesContext(connection) as queries:
            client.get(reverse("admin:index"))
        counts.append(len(queries))
        if not maintenance.current():
            maintenance.start(actor=SYSTEM, message="x")
    assert counts[0] == counts[1]


# --- The command ----------------------------------------------------------------------------------------------------


def command(*args: str) -> str:
    out = StringIO()
    call_command("maintenance", *args, stdout=out)
    return out.getvalue()


def test_the_command_starts_and_ends_it() -> None:
    until = timezone.localtime(soon()).strftime("%Y-%m-%d %H:%M")
    assert command("on", "--message", "Upgrade", "--until", until) == "Maintenance is on.\n"
    period = maintenance.current()
    assert period is not None
    assert (period.message, period.started_by) == ("Upgrade", None)
    assert timezone.localtime(period.ends_at).strftime("%Y-%m-%d %H:%M") == until
    assert command("off") == "Maintenance is off.\n"
    assert maintenance.current() is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("off",), "is not on"),
        (("off", "--message", "x"), "belong to"),
        (("on", "--until", "tomorrow"), "is not a time"),
        (("on", "--until", "2026-02-31 10:00"), "is not a time"),
        (("on", "--until", "2001-01-01 10:00"), "must be in the future"),
    ],
)
def test_the_command_says_what_is_wrong(args: Any, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        command(*args)
    assert maintenance.current() is None


def test_the_command_does_not_start_it_twice() -> None:
    command("on")
    with pytest.raises(CommandError, match="on already"):
        command("on")
