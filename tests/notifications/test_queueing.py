"""Promising a message: once for each event, cause and recipient, in the caller's transaction, no names in the job."""

from __future__ import annotations

import json

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import services
from notifications.models import Message
from shop.errors import Invalid
from shop.models import Job
from tests.notifications.conftest import job_of


def test_a_queued_message_waits_with_its_job(message):
    assert (message.status, message.reference, message.language) == ("waiting", "1000042", "en")
    job = job_of(message)
    assert (job.kind, job.state, job.args) == ("notifications.send", "waiting", {"message": message.pk})
    assert (job.reference, job.store_id) == ("1000042", message.store_id)


def test_the_same_event_cause_and_recipient_is_told_once(queue, message):
    again = queue(context={"number": "other"}, recipient="ZOE@example.com ")
    assert again.pk == message.pk
    assert again.context["number"] == "1000042"
    assert (Message.objects.count(), Job.objects.count()) == (1, 1)


@pytest.mark.parametrize("changed", [{"event": "order_paid"}, {"cause": "order:18"}, {"recipient": "max@example.com"}])
def test_another_event_cause_or_recipient_is_another_message(queue, message, changed):
    assert queue(**changed).pk != message.pk
    assert Job.objects.count() == 2


def test_without_an_address_there_is_no_message(queue):
    assert queue(recipient="  ") is None
    assert not Message.objects.exists()
    assert not Job.objects.exists()


def test_an_unknown_event_is_a_programming_error_that_names_the_events(queue):
    with pytest.raises(ValueError, match="order_shipped"):
        queue(event="order_teleported")


def test_an_address_that_cannot_be_is_refused(queue):
    with pytest.raises(Invalid):
        queue(recipient=f"{'a' * 250}@example.com")


def test_message_and_job_are_undone_with_the_callers_transaction(queue):
    with pytest.raises(KeyError), transaction.atomic():
        queue()
        raise KeyError
    assert not Message.objects.exists()
    assert not Job.objects.exists()


def test_a_message_whose_job_was_tidied_away_is_not_promised_again(queue, message):
    Job.objects.all().delete()
    assert queue().pk == message.pk
    assert not Job.objects.exists()


@pytest.mark.parametrize("wanted, chosen", [("de-AT", "de"), ("DE", "de"), ("tr", "tr"), ("xx", "en"), ("", "en")])
def test_the_nearest_language_offered_is_taken(queue, wanted, chosen):
    assert queue(language=wanted).language == chosen


def test_a_job_holds_ids_only(message):
    job = job_of(message)
    stored = json.dumps([job.key, job.args, job.last_error])
    for personal in ("zoe", "Zoë", "O’Neill", "Kanal", "4242"):
        assert personal in json.dumps([message.recipient, message.context], ensure_ascii=False)
        assert personal not in stored


def drafts(count: int, store, context) -> list[services.Draft]:
    return [
        services.Draft(
            event="order_cancelled",
            cause=f"order:{n}",
            reference=str(1000 + n),
            store_id=store.pk,
            recipient="" if n % 5 == 4 else f"c{n}@example.com",
            language="de",
            context=context,
        )
        for n in range(count)
    ]


def test_the_number_of_queries_does_not_grow_with_the_messages(store, context):
    def queries_of(rows: list[services.Draft]) -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            services.queue_messages(rows)
        return len(seen)

    few = queries_of(drafts(5, store, context))
    assert queries_of(drafts(45, store, context)[5:]) == few
    assert Message.objects.count() == Job.objects.count() == 36


def test_several_messages_come_back_in_the_order_they_were_given(store, context):
    rows = drafts(10, store, context)
    answers = services.queue_messages([*rows, rows[0]])
    assert [m.recipient if m else "" for m in answers] == [d.recipient for d in [*rows, rows[0]]]
    assert answers[0] == answers[-1]
    assert services.queue_messages([]) == []
