"""A shop's own kind of job: whatever goes wrong in it is tried again; only an unknown kind is for a person at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from shop import jobs
from shop.models import Job

pytestmark = pytest.mark.django_db
KIND = "ownshop.look_into_a_dict"


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_handlers", dict(jobs._handlers))

        @jobs.handles(KIND)
        class LooksIntoADict(jobs.Handler):
            def perform(self, job: Job) -> jobs.Outcome:
                answer: dict[str, str] = {}
                return jobs.done(label=answer["label"])

        yield KIND


def test_a_key_error_of_a_job_is_tried_again(kind: str) -> None:
    jobs.enqueue(kind, key="one", args={})
    jobs.drain(seconds=5)
    job = Job.objects.get(key="one")
    assert (job.state, job.last_error) == (Job.State.WAITING, "KeyError: 'label'")


def test_a_kind_that_is_gone_waits_for_a_person(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.enqueue(kind, key="one", args={}, run_at=timezone.now() - timedelta(seconds=1))
    monkeypatch.delitem(jobs._handlers, KIND)
    jobs.drain(seconds=5)
    job = Job.objects.get(key="one")
    assert (job.state, "No handler for jobs" in job.last_error) == (Job.State.NEEDS_ATTENTION, True)
