"""Celery's tasks of the kernel: drain the jobs, tidy up after them."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from shop import jobs
from shop.models import IdempotencyKey

KEEP_DONE_JOBS = timedelta(days=30)
KEEP_IDEMPOTENCY_KEYS = timedelta(hours=48)


# The limit is hard on purpose: a job that hangs must not outlive its lease, or two workers would perform it.
@shared_task(name="shop.drain", time_limit=int(jobs.DRAIN_SECONDS + jobs.PERFORM_LIMIT_SECONDS / 2))
def drain() -> None:
    """Work off what is due."""
    jobs.drain()


@shared_task(name="shop.tidy_up")
def tidy_up() -> None:
    """Delete what nobody will ask for again."""
    now = timezone.now()
    jobs.purge(before=now - KEEP_DONE_JOBS)
    IdempotencyKey.objects.filter(created_at__lt=now - KEEP_IDEMPOTENCY_KEYS).delete()
