"""The shop's policies as rows: read once for a handler, handed to the pure rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self

from django.db.models import Count
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import (
    ApprovalLevel,
    ApprovalPolicy,
    BulkItem,
    BulkRun,
    Cancellation,
    CancellationReason,
    CancelRule,
    Facts,
    Order,
    PaymentEvent,
    ReturnCarrier,
    ReturnPolicy,
)
from orders.processing.base import HandlerBase
from orders.processing.decision import Decision
from orders.processing.turns import take_turns
from payments.models import Refund
from shop.errors import NotAllowed, Refused
from shop.models import User
from shop.money import ZERO
from shop.together import recall, remember

# A cancellation counts towards what is unusual once it has happened, whether or not it was undone.
HAPPENED = (Cancellation.Status.PENDING, Cancellation.Status.DONE, Cancellation.Status.UNDONE)


class ReasonNotYours(NotAllowed):
    code = "reason_not_allowed"
    message = _("You may cancel what a customer has asked to have cancelled. “%(reason)s” is for others to say.")


class Policing(HandlerBase):
    _approval_policies: rules.Policies | None = None
    _rulebook: rules.Rulebook | None = None
    _by_staff: tuple[int, dict[str, Decimal]] | None = None
    # The run whose orders this handler cancels: what of it still waits is not counted beside what it does.
    _run_at_work: BulkRun | None = None
    # Whether its orders were agreed to.
    _is_agreed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_store: dict[int, int] = {}
        self._of_customer: dict[int | str, set[int]] = {}

    def knowing(self, book: rules.Rulebook) -> Self:
        """The same handler, which need not read the shop's rules again."""
        self._rulebook = book
        return self

    def cancel_policy(self, order: Order) -> rules.Policy:
        """This will tell what the shop's rules let a customer of this order cancel and send back.

        Asked by the verbs, and for what the storefront offers: it is to look at the order, not at who asks.
        """
        if self._rulebook is None:
            self._rulebook = rulebook()
        return rules.Policy.of(order, self._rulebook)

    def reprices(self, order: Order) -> bool:
        """Whether what stays of this order is priced anew; mostly no rule has to be read."""
        return bool(order.deal) and self.cancel_policy(order).reprices

    def approval_policies(self) -> rules.Policies:
        """The active policies, the levels, and the asking person's groups: five queries, once."""
        if self._approval_policies is None:
            policies = list(
                ApprovalPolicy.objects.filter(is_active=True)
                .select_related("level")
                .prefetch_related("reasons", "roles")
            )
            groups = frozenset(self.user.groups.values_list("pk", flat=True)) if self.user else frozenset()
            levels = list(ApprovalLevel.objects.all())
            superuser = bool(self.user and self.user.is_superuser)
            refunds = [policy for policy in policies if policy.what == ApprovalPolicy.What.REFUND]
            policies = [policy for policy in policies if policy.what != ApprovalPolicy.What.REFUND]
            self._approval_policies = rules.Policies(policies, levels, groups, superuser, refunds)
        return self._approval_policies

    def assess(
        self, facts: Facts, plan: rules.Plan, reason: CancellationReason | None, *, orders: int = 1
    ) -> rules.ApprovalVerdict:
        """This will tell whether somebody else has to agree to a plan, and what is unusual about it."""
        policies = self.approval_policies()
        order = facts.order
        subject = rules.Subject(
            store_id=order.store_id,
            stage=order.stage,
            reason=reason,
            value=plan.worth,
            currency=order.currency,
            before=self._cancelled_before(order) if policies.counts else rules.Cancelled(),
            orders=orders,
        )
        return rules.assess(subject, policies, self.actor)

    def assess_refund(self, facts: Facts, amount: Decimal) -> rules.PlannedApproval | None:
        """This will tell whether somebody else has to agree to a refund without goods."""
        policies, order = self.approval_policies(), facts.order
        if not policies.refunds or not self.actor.is_staff:
            return None
        count, values = self._refunded_today() if policies.counts_refunds else (0, {})
        subject = rules.Subject(
            store_id=order.store_id,
            stage=order.stage,
            reason=None,
            value=amount,
            currency=order.currency,
            before=rules.Cancelled(by_staff=count, value_by_staff=values.get(order.currency, ZERO)),
        )
        return rules.assess_refund(subject, policies, self.actor)

    def why_not_refund_alone(self, d: Decision, amount: Decimal) -> Refused | None:
        """Why somebody else has to agree to a refund first, or None.

        Locks the person's own row where what they did today counts, so that two refunds at once are counted in turn.
        """
        if self.approval_policies().counts_refunds:
            self._lock_person()
        needed = self.assess_refund(d.facts, amount)
        if needed is None:
            return None
        params = {"who": needed.name, "because": ", ".join(needed.because)}
        return rules.ApprovalNeeded(params=params, remedy=_("Ask for it: the reason that you give is what they read."))

    def _lock_person(self) -> None:
        if self.user is not None:
            User.objects.select_for_update(no_key=True).get(pk=self.user.pk)

    def _refunded_today(self) -> tuple[int, dict[str, Decimal]]:
        """What this person has refunded today, tied to no unit and agreed to by nobody; what failed is left out."""
        midnight = timezone.localtime(self.as_of).replace(hour=0, minute=0, second=0, microsecond=0)
        mine = PaymentEvent.objects.filter(user=self.user, created_at__gte=midnight, refund_request=None)
        mine = mine.exclude(refund_kind="").exclude(refund__status=Refund.Status.FAILED)
        return _counted(mine.values_list("currency", "amount"))

    def count_in_turn(self, orders: Collection[Order]) -> None:
        """Wait for whoever counts the same now, then count anew: of two at a limit, the second sees the first.

        What is counted by a policy is locked until the transaction ends, after the orders and before anything else:
        the person's day, the customer's month, the store's hour. What a run was begun with is counted since it began:
        workers at its parts do not wait for one another, but who counts beside them sees a part before or after.
        """
        if self.actor.is_system or not self.approval_policies().counts:
            return
        keys = self.counted_by(orders)
        if all(recall(("turn", key)) for key in keys):
            return  # many at once: locked and counted for all of them ahead
        take_turns(keys, shared=self._is_agreed)
        self._by_staff = None
        self._in_store.clear()
        self._of_customer.clear()
        for key in keys:
            remember(("turn", key), True)

    def counted_by(self, orders: Collection[Order]) -> set[str]:
        """What the policies count when this person cancels these orders, by name."""
        limits = self.approval_policies().counted
        keys = {f"staff:{self.user.pk}"} if self.user is not None and "staff" in limits else set()
        keys |= {f"customer:{_customer_of(order)}" for order in orders if "customer" in limits}
        return keys | {f"store:{order.store_id}" for order in orders if "store" in limits}

    def _cancelled_before(self, order: Order) -> rules.Cancelled:
        if order.store_id not in self._in_store or _customer_of(order) not in self._of_customer:
            self.count_ahead([order])
        assert self._by_staff is not None
        count, values = self._by_staff
        return rules.Cancelled(
            by_staff=count,
            value_by_staff=values.get(order.currency, ZERO),
            of_customer=len(self._of_customer[_customer_of(order)] - {order.pk}),
            in_store=self._in_store[order.store_id],
        )

    def count_ahead(self, orders: Collection[Order]) -> None:
        """Count what has been cancelled of these orders' customers and stores, and by this person.

        What runs that have begun still have to cancel counts as well: nobody is asked about it again. Five queries, and
        at most five more while there are such runs.
        """
        if not self.approval_policies().counts:
            return
        counts_staff = self._by_staff is None
        happened = Cancellation.objects.filter(status__in=HAPPENED)
        if self._by_staff is None:
            midnight = timezone.localtime(self.as_of).replace(hour=0, minute=0, second=0, microsecond=0)
            mine = happened.filter(requested_by=self.user, created_at__gte=midnight) if self.user else happened.none()
            self._by_staff = _counted(mine.values_list("currency", "value"))
        stores = {order.store_id for order in orders}
        recently = happened.filter(created_at__gte=self.as_of - timedelta(hours=1), order__store__in=stores)
        self._in_store |= dict.fromkeys(stores, 0)
        self._in_store |= dict(recently.order_by().values_list("order__store").annotate(Count("pk")))
        self._of_customer |= {_customer_of(order): set() for order in orders}
        of_month = happened.filter(created_at__gte=self.as_of - timedelta(days=30))
        accounts = {order.customer_id for order in orders if order.customer_id}
        guests = {order.email.lower() for order in orders if not order.customer_id and order.email}
        for customer, pk in of_month.filter(order__customer__in=accounts).values_list("order__customer", "order"):
            self._of_customer[customer].add(pk)
        by_mail = of_month.filter(order__customer=None).annotate(mail=Lower("order__email"))
        for mail, pk in by_mail.filter(mail__in=guests).values_list("mail", "order"):
            self._of_customer[mail].add(pk)
        runs = BulkRun.objects.filter(status__in=(BulkRun.Status.RUNNING, BulkRun.Status.PAUSED))
        begun = list(runs.exclude(pk=self._run_at_work.pk) if self._run_at_work is not None else runs)
        if not begun:
            return
        if counts_staff and self.user is not None:
            self._count_promised_by_staff([run for run in begun if run.created_by_id == self.user.pk])
        waiting = BulkItem.objects.filter(run__in=begun, state=BulkItem.State.WAITING).order_by()
        in_stores = waiting.filter(order__store__in=stores)
        for store_id, count in in_stores.values_list("order__store").annotate(Count("pk")):
            self._in_store[store_id] += count
        for customer, pk in waiting.filter(order__customer__in=accounts).values_list("order__customer", "order"):
            self._of_customer[customer].add(pk)
        of_guests = waiting.filter(order__customer=None).annotate(mail=Lower("order__email"))
        for mail, pk in of_guests.filter(mail__in=guests).values_list("mail", "order"):
            self._of_customer[mail].add(pk)

    def _count_promised_by_staff(self, runs: Collection[BulkRun]) -> None:
        """Orders of these runs that wait, and what the runs are worth beyond what they have cancelled."""
        assert self._by_staff is not None
        if not runs:
            return
        count, values = self._by_staff
        count += BulkItem.objects.filter(run__in=runs, state=BulkItem.State.WAITING).count()
        done = Cancellation.objects.filter(bulk_items__run__in=runs)
        _n, cancelled = _counted(done.values_list("currency", "value"))
        promised: dict[str, Decimal] = {}
        for run in runs:
            for currency, amount in run.totals.get("value", {}).items():
                promised[currency] = promised.get(currency, ZERO) + Decimal(amount)
        for currency, amount in promised.items():
            left = max(ZERO, amount - cancelled.get(currency, ZERO))
            values[currency] = values.get(currency, ZERO) + left
        self._by_staff = count, values

    def count_cancellation(self, row: Cancellation) -> None:
        """Remember what this handler has cancelled itself, so that the next one of a batch is counted with it."""
        if self._by_staff is None:
            return
        if self.user is not None:
            count, values = self._by_staff
            values[row.currency] = values.get(row.currency, ZERO) + row.value
            self._by_staff = count + 1, values
        if row.order.store_id in self._in_store:
            self._in_store[row.order.store_id] += 1
        self._of_customer.get(_customer_of(row.order), set()).add(row.order_id)


def _customer_of(order: Order) -> int | str:
    """The account of an order's customer, or a guest's e-mail."""
    return order.customer_id or order.email.lower()


def rulebook() -> rules.Rulebook:
    """This will hand over the shop's cancel rules, return policies and return carriers: few rows, read when needed."""
    carriers = ReturnCarrier.objects.filter(is_active=True)
    return rules.Rulebook(CancelRule.objects.all(), ReturnPolicy.objects.all(), carriers)


def _counted(rows: Iterable[tuple[str, Decimal]]) -> tuple[int, dict[str, Decimal]]:
    """How many, and their value by currency; added up here, for SQLite would do it in floating point."""
    count, values = 0, dict[str, Decimal]()
    for currency, value in rows:
        count += 1
        values[currency] = values.get(currency, ZERO) + value
    return count, values
