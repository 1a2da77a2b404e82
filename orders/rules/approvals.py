"""Pure decisions about approval: which policies ask for somebody's agreement, and who may give it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from orders.models import Approval, ApprovalLevel, ApprovalPolicy, CancellationReason
from orders.rules.guards import SHIPPABLE
from orders.rules.plans import PlannedApproval
from shop.actors import Actor
from shop.errors import NotAllowed, Refused
from shop.money import ZERO


class ApprovalNeeded(Refused):
    """It is possible, but somebody else has to agree first."""

    code = "approval_needed"
    message = _("This needs the approval of %(who)s: %(because)s.")


class OwnApproval(NotAllowed):
    code = "own_approval"
    message = _("You asked for this yourself; somebody else has to decide it.")


class NotAnApprover(NotAllowed):
    code = "not_an_approver"
    message = _("This is for %(who)s to decide.")


class StricterByNow(NotAllowed):
    """Kept with what it would need now, so that those who may decide it can be asked."""

    code = "approval_stricter_by_now"
    message = _(
        "The rules have become stricter since this was asked for: %(who)s has to agree now, because of %(because)s."
    )
    needed: PlannedApproval | None = None


class ApprovalDecided(Refused):
    code = "approval_decided"
    message = _("This has been decided already.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """How much has been cancelled already, by this person today, of this customer and in this store."""

    by_staff: int = 0
    value_by_staff: Decimal = ZERO
    of_customer: int = 0
    in_store: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a policy looks at: one cancellation, or several of one kind, their values added up."""

    store_id: int
    stage: str
    reason: CancellationReason | None
    value: Decimal
    currency: str
    before: Cancelled
    orders: int = 1


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies and levels there are, and the asking person's own groups. The groups of policies are loaded.

    policies   those about cancellations; `refunds`: those about refunds without goods
    own_level  the highest level whose approvers the person belongs to; 0: none
    """

    policies: Sequence[ApprovalPolicy] = ()
    levels: Sequence[ApprovalLevel] = ()
    groups: frozenset[int] = field(default_factory=frozenset)
    is_superuser: bool = False
    refunds: Sequence[ApprovalPolicy] = ()

    @property
    def own_level(self) -> int:
        if self.is_superuser:
            return max((row.level for row in self.levels), default=0)
        return max((row.level for row in self.levels if row.group_id in self.groups), default=0)

    @property
    def highest(self) -> int:
        return max((row.level for row in self.levels), default=0)

    def decides_alone(self, level: int) -> bool:
        """Whether the person needs nobody's agreement to what this level has to agree to."""
        return self.own_level > level or bool(self.own_level and self.own_level == self.highest)

    def level(self, number: int) -> ApprovalLevel | None:
        """The level of this number, or the next higher one there is."""
        return next((row for row in sorted(self.levels, key=lambda row: row.level) if row.level >= number), None)

    @property
    def counts(self) -> bool:
        """Whether any policy wants to know how much has been cancelled already."""
        return any(policy.is_about_unusual for policy in self.policies)

    @property
    def counted(self) -> frozenset[str]:
        """By what the policies count cancellations: "staff", "customer", "store"."""
        found = set()
        for policy in self.policies:
            if policy.staff_per_day is not None or policy.staff_value_per_day is not None:
                found.add("staff")
            if policy.customer_per_month is not None:
                found.add("customer")
            if policy.store_per_hour is not None:
                found.add("store")
        return frozenset(found)

    @property
    def counts_refunds(self) -> bool:
        """Whether any policy wants to know how much has been refunded today."""
        return any(policy.is_about_unusual for policy in self.refunds)


@dataclass(frozen=True, slots=True)
class Verdict:
    """approval: whose agreement is needed, if anybody's. unusual: the policies that found it so, whoever acts."""

    approval: PlannedApproval | None
    unusual: tuple[str, ...] = ()


def assess(subject: Subject, policies: Policies, actor: Actor) -> Verdict:
    """This will decide whether staff may cancel by themselves: see `assess_many`."""
    return assess_many([subject], policies, actor)


def assess_many(subjects: Sequence[Subject], policies: Policies, actor: Actor) -> Verdict:
    """This will decide about several cancellations at once; each policy looks at all it is about, together.

    So many small orders count like a large one. The highest level of all that fit applies. Members of a higher level,
    and of the highest, need nobody's agreement; what is unusual is flagged all the same. The system and customers act
    by rules, not by approval.
    """
    fitting = [policy for policy in policies.policies if fits(policy, subjects, policies)]
    unusual = tuple(policy.name for policy in fitting if policy.is_about_unusual)
    if not actor.is_staff:
        return Verdict(None, unusual)
    asked = [(policy.level.level, policy.name) for policy in fitting]
    for reason in {s.reason.pk: s.reason for s in subjects if s.reason is not None}.values():
        if reason.needs_approval:
            asked.append((1, _now("the reason “%(reason)s”") % {"reason": reason.label}))
    prepared = {s.store_id for s in subjects if s.stage in SHIPPABLE}
    if not all(actor.may("orders.cancel_prepared_order", store_id=store_id) for store_id in prepared):
        asked.append((1, _now("fulfilment has started")))
    if not asked:
        return Verdict(None, unusual)
    needed = max(level for level, _name in asked)
    if policies.decides_alone(needed):
        return Verdict(None, unusual)
    return Verdict(_planned(policies, needed, asked), unusual)


def assess_refund(subject: Subject, policies: Policies, actor: Actor) -> PlannedApproval | None:
    """This will decide who has to agree to a refund without goods: the highest level of all policies that fit.

    Above a limit there are always two: members of a higher level need nobody, members of that level need a colleague,
    also at the highest. The system needs nobody.
    """
    if not actor.is_staff:
        return None
    asked = [(policy.level.level, policy.name) for policy in policies.refunds if fits(policy, [subject], policies)]
    needed = max((level for level, _name in asked), default=0)
    if not asked or policies.own_level > needed:
        return None
    return _planned(policies, needed, asked)


def _planned(policies: Policies, needed: int, asked: Sequence[tuple[int, str]]) -> PlannedApproval:
    """The agreement of this level, because of what asked for it: pairs of level and name."""
    level = policies.level(needed)
    name = level.name if level else _now("an administrator")
    return PlannedApproval(level.level if level else needed, name, tuple(name for _level, name in asked))


def would_ask(policy: ApprovalPolicy, subject: Subject, policies: Policies) -> bool:
    """Whether a policy by itself, active or not, would ask somebody else; policies: as loaded for the asking person."""
    return fits(policy, [subject], policies) and not policies.decides_alone(policy.level.level)


def fits(policy: ApprovalPolicy, subjects: Sequence[Subject], policies: Policies) -> bool:
    """Whether everything that a policy asks for holds. `policy.reasons` and `policy.roles` are prefetched."""
    roles = {row.pk for row in policy.roles.all()}
    if roles and not (policies.groups and policies.groups <= roles):
        return False
    reasons = {row.pk for row in policy.reasons.all()}
    about = [subject for subject in subjects if _is_about(policy, subject, reasons)]
    return any(_amounts_fit(policy, one) and _counts_fit(policy, one) for one in _added_up(policy, about))


def _is_about(policy: ApprovalPolicy, subject: Subject, reasons: set[int]) -> bool:
    if policy.store_id is not None and policy.store_id != subject.store_id:
        return False
    if policy.stages and subject.stage not in policy.stages:
        return False
    return not reasons or (subject.reason is not None and subject.reason.pk in reasons)


def _added_up(policy: ApprovalPolicy, subjects: Sequence[Subject]) -> Iterator[Subject]:
    """One subject for each currency, and for each store where the policy counts by store: value and orders in sum."""
    by_store = policy.store_per_hour is not None
    for currency, store_id in {(s.currency, s.store_id if by_store else None): None for s in subjects}:
        here = [s for s in subjects if store_id in {None, s.store_id}]
        same = [s for s in here if s.currency == currency]
        before = Cancelled(
            by_staff=max(s.before.by_staff for s in here),
            value_by_staff=max(s.before.value_by_staff for s in same),
            of_customer=max(s.before.of_customer for s in here),
            in_store=max(s.before.in_store for s in here),
        )
        value, orders = sum((s.value for s in same), ZERO), sum(s.orders for s in here)
        yield replace(same[0], value=value, before=before, orders=orders)


def _amounts_fit(policy: ApprovalPolicy, subject: Subject) -> bool:
    wants_money = policy.min_value is not None or policy.staff_value_per_day is not None
    if wants_money and policy.currency != subject.currency:
        return False
    if policy.min_value is not None and subject.value < policy.min_value:
        return False
    together = subject.before.value_by_staff + subject.value
    return policy.staff_value_per_day is None or together >= policy.staff_value_per_day


def _counts_fit(policy: ApprovalPolicy, subject: Subject) -> bool:
    more = subject.orders - 1
    for limit, count in (
        (policy.staff_per_day, subject.before.by_staff + more),
        (policy.customer_per_month, subject.before.of_customer),
        (policy.store_per_hour, subject.before.in_store + more),
    ):
        if limit is not None and count < limit:
            return False
    return True


def stricter_by_now(needed: PlannedApproval) -> StricterByNow:
    """The refusal for an approver of too low a level, who could have decided it when it was asked for."""
    no = StricterByNow(
        params={"who": needed.name, "because": ", ".join(needed.because)}, remedy=_("They are asked instead of you.")
    )
    no.needed = needed
    return no


def decide_approval(
    approval: Approval, actor: Actor, policies: Policies, *, stands_in_for: Sequence[int] = ()
) -> Refused | None:
    """Why this person may not decide it, or None.

    policies       as loaded for the actor
    stands_in_for  levels of those who are away and named the actor
    """
    if not approval.is_open:
        return ApprovalDecided()
    if approval.requested_by_id == actor.user_id:
        return OwnApproval()
    if not actor.is_staff or not actor.works_in(approval.store_id):
        return NotAllowed()
    levels = [level for level in stands_in_for if level >= approval.level]
    if levels:
        return None
    if policies.own_level < approval.level or not actor.may("orders.decide_approval", store_id=approval.store_id):
        level = policies.level(approval.level)
        return NotAnApprover(params={"who": level.name if level else _now("an administrator")})
    return None
