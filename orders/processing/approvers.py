"""Who may decide an approval: the members of its level in the store, and those who stand in for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.auth.models import Permission
from django.db.models import Q, QuerySet, Subquery

from orders.models import Absence, Approval, ApprovalLevel
from shop.actors import ALL_STORES, Actor
from shop.models import User

DECIDE = "orders.decide_approval"


@dataclass(frozen=True, slots=True)
class StandIn:
    """Somebody who is away: the level and the stores (None: all) that another decides for in their place."""

    user: User
    level: int
    stores: frozenset[int] | None

    def may_decide(self, approval: Approval) -> bool:
        """As the one who is away might: never their own request, and only in their own stores."""
        here = self.stores is None or approval.store_id in self.stores
        return here and self.level >= approval.level and self.user.pk != approval.requested_by_id

    @property
    def rows(self) -> Q:
        """The same, for many."""
        here = Q() if self.stores is None else Q(store__in=self.stores)
        return here & Q(level__lte=self.level) & ~Q(requested_by=self.user)


def approvers(approval: Approval, level: ApprovalLevel, *, as_of: Any) -> list[User]:
    """Who may decide an approval at a level now: its members in the store, or whom they named while they are away."""
    absences = Absence.objects.filter(starts_at__lte=as_of, ends_at__gt=as_of)
    away = dict(absences.values_list("user", "delegate"))
    # Nor does anybody decide it in the place of the one who asked.
    members = staff_of(level.group_id, approval.store_id).exclude(pk=approval.requested_by_id)
    people = {member.pk: member for member in members}
    instead = {away[pk] for pk in people.keys() & away.keys()} - away.keys() - {None, approval.requested_by_id}
    there = {pk: person for pk, person in people.items() if pk not in away}
    if instead:
        there |= {person.pk: person for person in working_in(approval.store_id).filter(pk__in=instead)}
    return list(there.values())


def staff_of(group_id: int, store_id: int | None) -> QuerySet[User]:
    """Active staff of a group who work in a store."""
    return working_in(store_id).filter(groups=group_id).order_by("pk").distinct()


def working_in(store_id: int | None) -> QuerySet[User]:
    """Active staff who work in a store; None: who work in all."""
    label, _dot, codename = ALL_STORES.partition(".")
    everywhere = Permission.objects.filter(content_type__app_label=label, codename=codename)
    here = Q(is_superuser=True) | Q(groups__permissions__in=everywhere) | Q(user_permissions__in=everywhere)
    if store_id is not None:
        here |= Q(stores=store_id)
    return User.objects.filter(is_active=True, is_staff=True, pk__in=User.objects.filter(here).values("pk"))


def stood_in_for(actor: Actor, *, as_of: datetime) -> list[StandIn]:
    """Those who are away and named the actor, each with the highest level they approve at."""
    if actor.user is None:
        return []
    absences = Absence.objects.filter(delegate=actor.user, starts_at__lte=as_of, ends_at__gt=as_of)
    away = {absence.user_id: absence.user for absence in absences.select_related("user")}
    if not away:
        return []
    highest: dict[int, int] = {}
    for level, pk in ApprovalLevel.objects.filter(group__user__in=away).values_list("level", "group__user"):
        highest[pk] = max(level, highest.get(pk, 0))
    found = []
    for pk, level in highest.items():
        if away[pk].is_active and away[pk].is_staff:
            absent = Actor.staff(away[pk])
            if absent.may(DECIDE):
                found.append(StandIn(away[pk], level, absent.stores))
    return found


def decidable(actor: Actor, *, as_of: datetime) -> QuerySet[Approval]:
    """This will find the open approvals that somebody may decide: what `rules.decide_approval` allows, in one query."""
    if actor.user is None:
        return Approval.objects.none()
    which = [x.rows for x in stood_in_for(actor, as_of=as_of)]
    if actor.may(DECIDE):
        levels = ApprovalLevel.objects.all()
        if not actor.user.is_superuser:
            levels = levels.filter(group__user=actor.user)
        which.append(Q(level__lte=Subquery(levels.order_by("-level").values("level")[:1])))
    if not which:
        return Approval.objects.none()
    rows = Approval.objects.filter(reduce(or_, which), status=Approval.Status.OPEN).exclude(requested_by=actor.user)
    return rows if actor.stores is None else rows.filter(store__in=actor.stores)


def full_name(user: User) -> str:
    return user.get_full_name() or user.get_username()
