"""Promised work: enqueue it with the decision, then claim, perform and settle it, until done or shown to a person.

    with transaction.atomic():
        …the decision…
        jobs.enqueue("payments.send", key=f"payments.send:{transaction.pk}", args={"transaction": transaction.pk})

The Job row is written in the caller's transaction. The Celery message sent on commit is only a wake-up; a lost one
costs a few seconds (beat sweeps). Celery's task, the management command, a request's own first try and the tests'
simulator all use the three functions `claim`, `perform` and `settle`. See docs/jobs.md.
"""

from __future__ import annotations

import logging
import random
import re
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Case, Count, F, Min, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError

from shop.celery import app
from shop.errors import Refused, Words
from shop.models import Job
from shop.together import insert

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
# Of a job that does everything in its settle: from there on the row's own lock says that its worker lives.
SHORT_LEASE = timedelta(seconds=2)
PERFORM_LIMIT_SECONDS = 45  # Celery's time limit of the drain task minus its claim window; must be shorter than LEASE
DRAIN_SECONDS = 30
NUDGE_SECONDS = 0.5
BREAKER_SECONDS = 10

SECOND, MINUTE, HOUR = 1, 60, 3600
# Seconds to wait after the first, second, … failed attempt. Gateways forget idempotency keys after 24 hours, so the
# retries that may send again end before that.
GATEWAY_SCHEDULE = (5, 30, 2 * MINUTE, 10 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR)
MESSAGE_SCHEDULE = (30, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR)
DATABASE_SCHEDULE = (SECOND, 5, 30, 5 * MINUTE, HOUR)


# ---------------------------------------------------------------------------------------------------------------
# What a kind of job is


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    done     the effect is there
    retry    it is not there; try again (after `retry_after` seconds, where the other side named a time)
    refused  it will never be there by itself: a person must look
    unknown  it may or may not be there: look it up before anything is sent again
    """

    state: str
    error: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    retry_after: float | None = None


def done(**data: Any) -> Outcome:
    return Outcome("done", data=data)


def retry(error: object, *, retry_after: float | None = None, **data: Any) -> Outcome:
    return Outcome("retry", scrubbed(error), data, retry_after)


def refused(error: object, **data: Any) -> Outcome:
    return Outcome("refused", scrubbed(error), data)


def unknown(error: object, **data: Any) -> Outcome:
    return Outcome("unknown", scrubbed(error), data)


class Handler:
    """What is done for one kind of job. Subclass it in an app's tasks.py under `@handles("app.verb")`.

    perform  outside any transaction: talk to gateways, mail servers and the like. It may run twice (the process may
             die right after it), so whatever it sends carries a key that outlives the failure. It may return `retry`
             or `unknown`; an exception counts as a retry.
    settle   inside one transaction with the job's own state change: the domain's writes. It is called once for every
             finished attempt whose lease still holds, with the outcome, whatever that is. It may raise Refused, which
             sends the job to the needs-attention list with the refusal's words.

    what_happened, what_to_do  plain words for the person who finds the job in the inbox
    due_after                  how long they have, from when it came there
    settles_only               `perform` does nothing, and nobody who holds other locks writes its jobs' rows: they are
                               locked while they settle, so that a killed worker's job is taken up again in seconds
    """

    label: Words = ""
    what_happened: Words = _("The desk could not do this by itself.")
    what_to_do: Words = _("Try again; if it keeps failing, do it by hand and note what you did.")
    schedule: Sequence[int] = DATABASE_SCHEDULE
    due_after: timedelta = timedelta(days=1)
    settles_only: bool = False

    def perform(self, job: Job) -> Outcome:
        return done()

    def settle(self, job: Job, outcome: Outcome) -> None:
        pass

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        """A person did the work outside the desk; write what follows for the books. In the job's transaction."""

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        """Which of these jobs (ids) trying again cannot help. Asked once for a whole list, so read all rows at once."""
        return frozenset()

    def about(self, rows: Sequence[Job]) -> Mapping[int, Words]:
        """What each of these jobs (ids) does in particular, said instead of the label. Asked once for a whole list."""
        return {}


H = TypeVar("H", bound=Handler)
_handlers: dict[str, Handler] = {}


def handles(kind: str) -> Callable[[type[H]], type[H]]:
    """Register a Handler class for a kind of job (class decorator)."""

    def register(handler: type[H]) -> type[H]:
        if kind in _handlers:
            raise ValueError(f"two handlers for jobs of the kind {kind!r}")
        _handlers[kind] = handler()
        return handler

    return register


def handler_of(kind: str) -> Handler:
    """The handler of a kind; LookupError names the kinds that exist."""
    try:
        return _handlers[kind]
    except KeyError:
        raise LookupError(
            f"No handler for jobs of the kind {kind!r}; there are: {', '.join(sorted(_handlers))}."
        ) from None


def kinds() -> list[str]:
    return sorted(_handlers)


# To the person who finds a job that is `only_by_hand`, instead of its handler's `what_to_do`.
BY_HAND = _("Do it yourself, as it says there; then mark it as done by hand. Trying again does not help.")


def only_by_hand(rows: Iterable[Job]) -> frozenset[int]:
    """This will tell which of some jobs (ids) only a person can do: for each kind, its handler says so."""
    by_kind: dict[str, list[Job]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    return frozenset(
        pk for kind, same in by_kind.items() if kind in _handlers for pk in _handlers[kind].only_by_hand(same)
    )


def about(rows: Iterable[Job]) -> dict[int, Words]:
    """This will name each of some jobs (ids): what it does in particular, or else what its kind is called."""
    by_kind: dict[str, list[Job]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    words: dict[int, Words] = {}
    for kind, same in by_kind.items():
        handler = _handlers.get(kind)
        particular = handler.about(same) if handler else {}
        label = (handler and handler.label) or kind
        words |= {row.pk: particular.get(row.pk, label) for row in same}
    return words


def _due_at(kind: str, as_of: datetime) -> datetime:
    """By when a person is to have dealt with a job that comes into the inbox now."""
    return as_of + _handlers.get(kind, Handler()).due_after


# ---------------------------------------------------------------------------------------------------------------
# Promise


@dataclass(frozen=True, slots=True)
class Promise:
    """One job to be: see `enqueue`."""

    kind: str
    key: str
    args: dict[str, Any]
    reference: str = ""
    store_id: int | None = None
    batch: uuid.UUID | None = None
    run_at: datetime | None = None


def enqueue(
    kind: str,
    *,
    key: str,
    args: dict[str, Any],
    reference: str = "",
    store_id: int | None = None,
    batch: uuid.UUID | None = None,
    run_at: datetime | None = None,
) -> None:
    """Promise a job in the current transaction; a key that exists already is the same promise and adds nothing.

    args    ids only: no names, addresses or amounts
    run_at  not before; default now
    """
    enqueue_many([Promise(kind, key, args, reference, store_id, batch, run_at)])


def enqueue_many(promises: Iterable[Promise]) -> None:
    """Promise several jobs in one statement."""
    now = timezone.now()
    rows = [
        Job(
            kind=p.kind,
            key=p.key,
            args=p.args,
            reference=p.reference,
            store_id=p.store_id,
            batch=p.batch,
            run_at=p.run_at or now,
            created_at=now,
            max_attempts=len(handler_of(p.kind).schedule) + 1,
        )
        for p in promises
    ]
    if not rows:
        return
    insert(rows, ignore_conflicts=True)
    if any(row.run_at <= now for row in rows):
        _nudge_on_commit()


def call_off(keys: Sequence[str] = (), *, prefix: str = "", note: str) -> None:
    """Close promised jobs that are no longer needed, in the current transaction; one that runs just now is left.

    Its settle asks the domain again, under the domain's lock, and finds nothing to do.
    keys    of the jobs, or
    prefix  what their keys begin with
    """
    which = Q(key__startswith=prefix) if prefix else Q(key__in=keys)
    open_ones = Job.objects.filter(which, state__in=[Job.State.WAITING, Job.State.NEEDS_ATTENTION])
    open_ones.update(state=Job.State.DONE, done_at=timezone.now(), resolved_note=note, due_at=None)


def _nudge_on_commit() -> None:
    if _draining.get():
        return  # the running drain will find the job by itself
    connection = transaction.get_connection()
    # One wake-up a transaction is enough, however many jobs it promises.
    if not any(entry[1] is nudge for entry in connection.run_on_commit):
        transaction.on_commit(nudge, robust=True)


_draining: ContextVar[bool] = ContextVar("draining", default=False)
_silent_until = 0.0


def nudge() -> None:
    """Wake a worker. Never raises and never takes longer than NUDGE_SECONDS: the sweep finds what this misses."""
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    limits = {"socket_timeout": NUDGE_SECONDS, "socket_connect_timeout": NUDGE_SECONDS, "max_retries": 0}
    try:
        with app.connection_for_write(
            connect_timeout=NUDGE_SECONDS, transport_options={**settings.CELERY_BROKER_TRANSPORT_OPTIONS, **limits}
        ) as broker:
            app.send_task("shop.drain", connection=broker, retry=False, expires=30, ignore_result=True)
    except (OperationalError, OSError) as error:
        _silent_until = time.monotonic() + BREAKER_SECONDS
        logger.warning("The broker does not answer (%s); jobs wait for the sweep.", type(error).__name__)


# ---------------------------------------------------------------------------------------------------------------
# Claim, perform, settle


class LeaseLost(Exception):
    """Another worker owns the job by now; what this one wanted to write is rolled back."""


def claim(*, as_of: datetime, key: str | None = None) -> Job | None:
    """Take one due job, or the one with `key`: a lease, a token and one more attempt, in one conditional statement.

    A job whose attempts are used up goes to the needs-attention list by that same statement, so that a job which
    kills its worker ends there too. Returns None when there is nothing to take.
    """
    due = Q(state=Job.State.WAITING, run_at__lte=as_of) | Q(state=Job.State.RUNNING, lease_until__lt=as_of)
    rows = Job.objects.filter(due) if key is None else Job.objects.filter(due, key=key)
    rows = rows.order_by("run_at", "pk").select_for_update(skip_locked=True)
    while True:
        with transaction.atomic():
            job = rows.first()
            if job is None:
                return None
            used_up = job.attempts >= job.max_attempts
            values = _taken_to_the_inbox(job, as_of) if used_up else _leased(job, as_of)
            changed = Job.objects.filter(due, pk=job.pk, attempts=job.attempts).update(**values)
        if changed and not used_up:
            for name, value in values.items():
                setattr(job, name, value)
            return job


def _leased(job: Job, as_of: datetime) -> dict[str, Any]:
    return {
        "state": Job.State.RUNNING,
        "lease_until": as_of + _lease_of(job.kind),
        "lease_token": uuid.uuid4(),
        "attempts": job.attempts + 1,
        "due_at": None,
    }


def _taken_to_the_inbox(job: Job, as_of: datetime) -> dict[str, Any]:
    return {
        "state": Job.State.NEEDS_ATTENTION,
        "lease_until": None,
        "lease_token": None,
        "last_error": job.last_error or "The worker stopped in the middle, every time.",
        "due_at": _due_at(job.kind, as_of),
    }


def _lease_of(kind: str) -> timedelta:
    return SHORT_LEASE if kind in _handlers and _handlers[kind].settles_only else LEASE


def _hold(job: Job) -> None:
    """Lock a job's row until its settle has ended: whoever looks for work passes over it, however long it takes."""
    mine = Job.objects.select_for_update(no_key=True).filter(pk=job.pk, lease_token=job.lease_token)
    if not list(mine.values_list("pk", flat=True)):
        raise LeaseLost(job.key)


def perform(job: Job) -> Outcome:
    """Do the job's outside work. Whatever goes wrong in it becomes an outcome; nothing is raised."""
    try:
        handler = handler_of(job.kind)
    except LookupError as error:  # of the kind only: a KeyError of the handler's own is a failure like any other
        logger.error("Job %s: %s", job.key, error)
        return refused(error)
    try:
        return handler.perform(job)
    except Refused as no:
        return refused(no)
    except Exception as error:  # noqa: BLE001 - recorded on the job, where a person sees it
        log_failure("Job %s failed", job, error)
        return retry(f"{type(error).__name__}: {error}")


def settle(job: Job, outcome: Outcome, *, as_of: datetime) -> Outcome:
    """Write the domain's part and the job's new state in one transaction, if the lease still holds.

    Returns the outcome that was recorded, which is a retry or a refusal where the domain's part failed.
    Raises LeaseLost when someone else owns the job by now; then nothing was written.
    """
    try:
        with transaction.atomic():
            if job.kind in _handlers:
                if _handlers[job.kind].settles_only:
                    _hold(job)
                handler_of(job.kind).settle(job, outcome)
            _write_state(job, outcome, as_of=as_of)
        return outcome
    except LeaseLost:
        raise
    except Refused as no:
        failed = refused(no)
    except DatabaseError as error:
        log_failure("Job %s could not be settled", job, error)
        failed = retry(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - recorded on the job, where a person sees it
        log_failure("Job %s could not be settled", job, error)
        failed = retry(f"{type(error).__name__}: {error}")
    with transaction.atomic():
        _write_state(job, failed, as_of=as_of)
    return failed


def _write_state(job: Job, outcome: Outcome, *, as_of: datetime) -> None:
    state, run_at = Job.State.WAITING, job.run_at
    if outcome.state == "done":
        state = Job.State.DONE
    elif outcome.state == "refused" or job.attempts >= job.max_attempts:
        state = Job.State.NEEDS_ATTENTION
    else:
        run_at = as_of + timedelta(seconds=_delay(job, outcome))
    written = Job.objects.filter(pk=job.pk, state=Job.State.RUNNING, lease_token=job.lease_token).update(
        state=state,
        run_at=run_at,
        lease_until=None,
        lease_token=None,
        done_at=as_of if state == Job.State.DONE else None,
        due_at=_due_at(job.kind, as_of) if state == Job.State.NEEDS_ATTENTION else None,
        last_error="" if state == Job.State.DONE else outcome.error,
        # Once an outcome is unknown it stays so until an attempt has cleared it up.
        outcome_unknown=outcome.state == "unknown" or (job.outcome_unknown and outcome.state == "retry"),
    )
    if not written:
        raise LeaseLost(job.key)


def _delay(job: Job, outcome: Outcome) -> float:
    schedule = handler_of(job.kind).schedule
    seconds = float(schedule[min(job.attempts, len(schedule)) - 1])
    if outcome.retry_after is not None:
        return max(outcome.retry_after, 1.0)
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, protects nothing


def mark_sent(job: Job) -> None:
    """Remember, before something irrevocable is sent, that and when it was: retries then look it up first."""
    now = timezone.now()
    Job.objects.filter(pk=job.pk, lease_token=job.lease_token).update(
        outcome_unknown=True, first_sent_at=Case(When(first_sent_at=None, then=Value(now)), default=F("first_sent_at"))
    )
    job.outcome_unknown, job.first_sent_at = True, job.first_sent_at or now


# ---------------------------------------------------------------------------------------------------------------
# Drive


def run(job: Job, *, clock: Callable[[], datetime] = timezone.now) -> Outcome:
    """Perform and settle a claimed job. A lost lease is not an error: its new owner does the work."""
    outcome = perform(job)
    try:
        return settle(job, outcome, as_of=clock())
    except LeaseLost:
        logger.warning("Job %s: the lease was lost; another worker has it.", job.key)
        return retry("lease lost")


def run_now(key: str, *, clock: Callable[[], datetime] = timezone.now) -> Outcome | None:
    """Try a promised job in this process, at once. None if somebody else has it or it is done already.

    For requests that answer better with the outcome; on any failure the job simply stays in the list.
    """
    job = claim(as_of=clock(), key=key)
    return run(job, clock=clock) if job else None


def drain(
    *, seconds: float = DRAIN_SECONDS, clock: Callable[[], datetime] = timezone.now, at_most: int | None = None
) -> int:
    """Work off due jobs, one at a time, until none is left or the time is up. Returns how many attempts were made."""
    stop, attempts = time.monotonic() + seconds, 0
    token = _draining.set(True)
    try:
        while time.monotonic() < stop and (at_most is None or attempts < at_most):
            job = claim(as_of=clock())
            if job is None:
                break
            run(job, clock=clock)
            attempts += 1
    finally:
        _draining.reset(token)
    return attempts


# ---------------------------------------------------------------------------------------------------------------
# People


class JobGone(Refused):
    code = "job_gone"
    message = _("This job is no longer waiting for a person.")


class JobTaken(Refused):
    code = "job_taken"
    message = _("In the meantime it became the work of %(owner)s.")


def give(job_id: int, *, owner_id: int, instead_of: int | None) -> None:
    """Make somebody the owner of a job that needs attention. Raises JobGone, or JobTaken where others were faster.

    owner_id    who may handle the job: the caller sees to that
    instead_of  the owner that the person who decides this has seen, or None for nobody
    """
    waiting = Job.objects.filter(pk=job_id, state=Job.State.NEEDS_ATTENTION)
    if waiting.filter(owner=instead_of).update(owner=owner_id):
        return
    job = waiting.select_related("owner").first()
    if job is None:
        raise JobGone
    if job.owner_id != owner_id:
        owner = job.owner.get_full_name() or job.owner.get_username() if job.owner else _("nobody")
        raise JobTaken(params={"owner": owner})


def retry_by_hand(job_id: int) -> None:
    """Give a job that needs attention a fresh set of attempts, under the same key. Raises JobGone.

    Its owner stays: should it come back, it comes back to them.
    """
    with transaction.atomic():
        written = Job.objects.filter(pk=job_id, state=Job.State.NEEDS_ATTENTION).update(
            state=Job.State.WAITING, attempts=0, run_at=timezone.now(), due_at=None
        )
        if not written:
            raise JobGone
        _nudge_on_commit()


def finish_by_hand(job_id: int, *, user_id: int | None, actor_name: str, note: str) -> None:
    """Close a job whose work a person did elsewhere. The note says what was done. Raises JobGone.

    What its handler locks comes first, the job last, as everywhere: whoever has the order or the payment and then
    looks for the job never waits for one who has the job. Somebody else's job by then undoes what was written here.
    """
    with transaction.atomic():
        job = Job.objects.filter(pk=job_id, state=Job.State.NEEDS_ATTENTION).first()
        if job is None:
            raise JobGone
        if job.kind in _handlers:
            _handlers[job.kind].done_by_hand(job, note=note, actor_name=actor_name)
        written = Job.objects.filter(pk=job.pk, state=Job.State.NEEDS_ATTENTION).update(
            state=Job.State.DONE,
            done_at=timezone.now(),
            due_at=None,
            resolved_by_id=user_id,
            resolved_note=note,
            outcome_unknown=False,
        )
        if not written:
            raise JobGone


# ---------------------------------------------------------------------------------------------------------------
# Figures


@dataclass(frozen=True, slots=True)
class Backlog:
    due: int
    oldest_due_seconds: int
    needs_attention: int


def backlog(*, as_of: datetime) -> Backlog:
    """How much is due, since when the oldest is, and how much needs a person."""
    due = Job.objects.filter(
        Q(state=Job.State.WAITING, run_at__lte=as_of) | Q(state=Job.State.RUNNING, lease_until__lt=as_of)
    ).aggregate(n=Count("pk"), oldest=Min("run_at"))
    age = (as_of - due["oldest"]).total_seconds() if due["oldest"] else 0
    return Backlog(due["n"], int(age), Job.objects.filter(state=Job.State.NEEDS_ATTENTION).count())


def purge(*, before: datetime) -> int:
    """Delete jobs done before a time; returns how many.

    What needs attention stays, and so does what a person did: their note is the only trace of it.
    """
    return Job.objects.filter(state=Job.State.DONE, done_at__lt=before, resolved_note="")._raw_delete("default")


def log_failure(words: str, job: Job, error: Exception) -> None:
    """Log where an error came from and what it says, without the addresses and numbers in it."""
    logger.error(f"{words}: %s", job.key, for_log(error))


def for_log(error: BaseException) -> str:
    """An error's kind, its text without addresses and numbers, and where it came from: what a log may keep."""
    where = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__}: {scrubbed(error)}\n{where}"


_SECRETS = (
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"), "…@…"),
    (re.compile(r"\b(?:\d[ -]?){12,19}\b"), "…"),
    (re.compile(r"(?i)(key|token|secret|password)(\W+)\S+"), r"\1\2…"),
)


def scrubbed(error: object) -> str:
    """An error's text without addresses, card numbers and secrets, short enough to store."""
    text = str(error)
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text[:500]
