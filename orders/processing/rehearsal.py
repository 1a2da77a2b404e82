"""What an approval policy would have asked for in the past: the pure rules, over the cancellations there were."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.utils import timezone

from orders import rules
from orders.models import ApprovalLevel, ApprovalPolicy, Cancellation, rules_of
from orders.processing.policies import HAPPENED
from shop.actors import STAFF, Actor
from shop.models import User
from shop.money import ZERO

DAYS = 90
# The latest so many are looked at.
MOST = 2_000


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """asked: for how many of the `looked_at` cancellations a policy would have asked for approval; worth: their value.

    is_cut: there were more than were looked at; `since` is then when the first of those was asked for.
    """

    asked: int
    looked_at: int
    worth: tuple[tuple[str, Decimal], ...]
    since: datetime
    is_cut: bool


def rehearse(policy: ApprovalPolicy, actor: Actor, *, as_of: datetime) -> Rehearsal:
    """This will tell what a saved policy, active or not, would have asked for by itself in the last 90 days.

    Of the actor's stores. People count with the roles they have by now. Six queries, whatever the number of rows.
    """
    since = as_of - timedelta(days=DAYS)
    rows = Cancellation.objects.filter(created_at__gte=since).select_related("order", "reason")
    if actor.stores is not None:
        rows = rows.filter(order__store__in=actor.stores)
    latest = list(rows.defer("plan").order_by("-created_at", "-pk")[: MOST + 1])
    is_cut, seen = len(latest) > MOST, sorted(latest[:MOST], key=lambda row: (row.created_at, row.pk))
    policy = ApprovalPolicy.objects.select_related("level").prefetch_related("reasons", "roles").get(pk=policy.pk)
    people = _people({row.requested_by_id for row in seen if row.requested_by_id}, policy)
    before = _Before()
    asked, looked_at, worth = 0, 0, defaultdict[str, Decimal](Decimal)
    for row in seen:
        if row.actor_kind == STAFF:
            looked_at += 1
            subject = _subject(row, before.of(row))
            if rules.would_ask(policy, subject, people.get(row.requested_by_id or 0, rules.Policies())):
                asked += 1
                worth[row.currency] += row.value
        before.add(row)
    began = seen[0].created_at if is_cut else since
    return Rehearsal(asked, looked_at, tuple(sorted(worth.items())), began, is_cut)


def _people(ids: Iterable[int], policy: ApprovalPolicy) -> Mapping[int, rules.Policies]:
    """The policy as each person meets it: with their own groups."""
    levels = list(ApprovalLevel.objects.all())
    found = User.objects.filter(pk__in=ids).prefetch_related("groups")
    return {
        user.pk: rules.Policies([policy], levels, frozenset(group.pk for group in user.groups.all()), user.is_superuser)
        for user in found
    }


def _subject(row: Cancellation, before: rules.Cancelled) -> rules.Subject:
    return rules.Subject(
        store_id=row.order.store_id,
        stage=rules_of(row.stage),
        reason=row.reason,
        value=row.value,
        currency=row.currency,
        before=before,
    )


class _Before:
    """How much had been cancelled before each row, counted along the way as `Policing` counts it in the database."""

    def __init__(self) -> None:
        self._by_staff: dict[tuple[int, date], int] = defaultdict(int)
        self._value_by_staff: dict[tuple[int, date, str], Decimal] = defaultdict(Decimal)
        self._of_customer: dict[object, list[tuple[datetime, int]]] = defaultdict(list)
        self._in_store: dict[int, list[datetime]] = defaultdict(list)

    def of(self, row: Cancellation) -> rules.Cancelled:
        at, who, day = row.created_at, row.requested_by_id or 0, timezone.localdate(row.created_at)
        month = [pk for when, pk in self._of_customer[_customer(row)] if when >= at - timedelta(days=30)]
        hour = self._in_store[row.order.store_id]
        return rules.Cancelled(
            by_staff=self._by_staff[who, day],
            value_by_staff=self._value_by_staff.get((who, day, row.currency), ZERO),
            of_customer=len({pk for pk in month if pk != row.order_id}),
            in_store=len(hour) - bisect_left(hour, at - timedelta(hours=1)),
        )

    def add(self, row: Cancellation) -> None:
        if row.status not in HAPPENED:
            return
        who, day = row.requested_by_id or 0, timezone.localdate(row.created_at)
        self._by_staff[who, day] += 1
        self._value_by_staff[who, day, row.currency] += row.value
        if customer := _customer(row):
            self._of_customer[customer].append((row.created_at, row.order_id))
        self._in_store[row.order.store_id].append(row.created_at)


def _customer(row: Cancellation) -> int | str:
    """An account, or a guest's address; empty: nobody known."""
    return row.order.customer_id or row.order.email.lower()
