"""Several processes telling the same thing at once: one message, one job, one mail."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest
from django.core import mail
from django.db import DatabaseError, connection

from notifications.models import Message
from shop.models import Job
from tests.notifications.conftest import work_off

THREADS = 4


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_told_by_several_at_once_it_is_told_once(queue):
    start, answers, errors = Barrier(THREADS), [], []

    def tell() -> None:
        try:
            start.wait()
            answers.append(queue().pk)
        except DatabaseError as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [Thread(target=tell) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(answers) == THREADS
    assert len(set(answers)) == 1
    assert Message.objects.count() == Job.objects.count() == 1
    work_off()
    assert len(mail.outbox) == 1
