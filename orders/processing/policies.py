"""The shop's policies as rows: read once for a handler, handed to the pure rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import (
    ApprovalLevel,
    ApprovalPolicy,
    Cancellation,
    CancellationReason,
    CancelRule,
    Facts,
    Order,
)
from orders.processing.base import HandlerBase
from shop.errors import NotAllowed
from shop.money import ZERO

# A cancellation counts towards what is unusual once it has happened, whether or not it was undone.
HAPPENED = (Cancellation.Status.PENDING, Cancellation.Status.DONE, Cancellation.Status.UNDONE)


class ReasonNotYours(NotAllowed):
    code = "reason_not_allowed"
    message = _("You may cancel what a customer has asked to have cancelled. “%(reason)s” is for others to say.")


class Policing(HandlerBase):
    _approval_policies: rules.Policies | None = None
    _cancel_rules: list[CancelRule] | None = None
    _by_staff: tuple[int, dict[str, Decimal]] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_store: dict[int, int] = {}
        self._of_customer: dict[int | str, set[int]] = {}

    def cancel_policy(self, order: Order) -> rules.Policy:
        """This will tell what the shop's rules let a customer of this order cancel."""
        if self._cancel_rules is None:
            self._cancel_rules = cancel_rules()
        return rules.Policy.of(order, self._cancel_rules)

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
            self._approval_policies = rules.Policies(policies, levels, groups, superuser)
        return self._approval_policies

    def assess(
        self, facts: Facts, plan: rules.Plan, reason: CancellationReason | None, *, orders: int = 1
    ) -> rules.ApprovalVerdict:
        """This will tell whether somebody else has to agree to a plan, and what is unusual about it."""
        policies = self.approval_policies()
        order = facts.order
        subject = rules.Subject(
            store_id=order.store_id,
            stage=order.status,
            reason=reason,
            value=plan.worth,
            currency=order.currency,
            before=self._cancelled_before(order) if policies.counts else rules.Cancelled(),
            orders=orders,
        )
        return rules.assess(subject, policies, self.actor)

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
        """Count what has been cancelled of these orders' customers and stores, and by this person: four queries."""
        if not self.approval_policies().counts:
            return
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


def cancel_rules() -> list[CancelRule]:
    """This will read the shop's cancel rules: few rows, for rules.Policy.of to choose from (1 query)."""
    return list(CancelRule.objects.all())


def _counted(rows: Iterable[tuple[str, Decimal]]) -> tuple[int, dict[str, Decimal]]:
    """How many, and their value by currency; added up here, for SQLite would do it in floating point."""
    count, values = 0, dict[str, Decimal]()
    for currency, value in rows:
        count += 1
        values[currency] = values.get(currency, ZERO) + value
    return count, values
