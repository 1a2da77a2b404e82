"""Orders paid by points, store credit and card together: whatever is cancelled, undone or kept of them, it adds up.

The sums are counted beside the desk's own: what was promised in each plan and refund, and the customer's accounts.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from orders.models import CancelRule, Order
from orders.processing import Discount, EventHandler, PaymentChoice, get_event_handler
from orders.processing.verify import verify
from payments.models import CreditAccount, Payment, Transaction
from payments.rules import AS_PAID, Destination
from payments.services import credit
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from shop.money import rounded
from tests import factories
from tests.examples import examples
from tests.orders.asking import fresh
from tests.orders.test_lives import PRICES, RELAXED, undone

pytestmark = pytest.mark.django_db

KINDS = ("loyalty", "store_credit")
STEPS = ["cancel", "keep", "undo", "now", "reinstate", "gift", "points", "ship", "back", "transfer", "charge"]


def given_to(owner: User, currency: str, amount: Decimal) -> None:
    for kind in KINDS:
        credit.grant(
            owner_id=owner.pk,
            currency=currency,
            kind=kind,
            amount=amount,
            key=f"gift:{owner.pk}:{kind}",
            actor_name="Mira",
            as_of=timezone.now(),
        )


def sums(order: Order) -> tuple[Decimal, Decimal]:
    """What was taken from the customer, and what went back or is about to."""
    paid = Payment.objects.filter(reference=order.number)
    return sum((p.captured for p in paid), Decimal(0)), sum((p.refund_reserved for p in paid), Decimal(0))


class Life:
    """An order, people who work on it, and what they were told would happen."""

    def __init__(self, chance: Random, currency: str, undo_minutes: int, reprices: bool) -> None:
        self.chance, self.currency = chance, currency
        CancelRule.objects.create(
            reprices=reprices, undo_minutes=undo_minutes, direct_statuses=["approved", "preparing", "shipped"]
        )
        store: Store = factories.StoreFactory(currency=currency)
        clerk = factories.UserFactory(is_staff=True, is_superuser=True)
        self.desk: EventHandler = get_event_handler(Actor.staff(clerk))
        self.owner: User = factories.UserFactory()
        smallest = Decimal(PRICES[currency][0])
        lines = [
            (Decimal(chance.choice(PRICES[currency])) * 3, chance.randint(1, 4))
            for _line in range(chance.randint(1, 3))
        ]
        worth = sum((price * units for price, units in lines), Decimal(0))
        off = rounded(worth / 7, currency)
        self.credit = worth
        given_to(self.owner, currency, worth)
        third = max(smallest, rounded(worth / 4, currency))
        parts = [PaymentChoice(gateway=kind, amount=third) for kind in chance.sample(KINDS, chance.randint(0, 2))]
        self.by_transfer = chance.random() < 0.3
        self.order = factories.place_order(
            lines,
            store=store,
            customer=self.owner,
            discounts=[Discount(name="Off", amount=off, minimum=worth * 2 / 3)] if off else (),
            shipping=rounded(worth / 9, currency),
            payments=[*parts, PaymentChoice(gateway="manual" if self.by_transfer else "demo")],
        )
        self.number = self.order.number or ""

    def some(self, counter: str) -> dict[int, int]:
        here = {
            x.pk: self.chance.randint(1, n) for x in fresh(self.order).facts.lines if (n := getattr(x, counter)) > 0
        }
        return dict(self.chance.sample(sorted(here.items()), self.chance.randint(1, len(here)))) if here else {}

    def little(self) -> Decimal:
        return rounded(self.chance.choice([1, 2, 5]) * Decimal(PRICES[self.currency][0]), self.currency)

    def do(self, step: str) -> None:
        before, promised = sums(self.order)[1], None
        if step in {"cancel", "keep"}:
            chosen: dict[str, Any] = {"lines": self.some("left"), "reason": "out_of_stock", "refund": step == "cancel"}
            plan = self.desk.plan_cancellation(number=self.number, **chosen)
            self.desk.cancel(number=self.number, plan=plan, **chosen)
            promised = Decimal(0) if plan.undo_minutes else plan.refund
        elif step == "undo":
            self.desk.undo_cancellation(number=self.number)  # what came in too much meanwhile goes back now
        elif step == "now":
            self.desk.complete_now(number=self.number)
        elif step == "reinstate":
            self.desk.reinstate(number=self.number, lines=self.some("cancelled"))
        elif step in {"gift", "points"}:
            promised = self.little()
            to = Destination(gateway="loyalty", consent="by telephone") if step == "points" else AS_PAID
            self.desk.refund(number=self.number, amount=promised, note="sorry", destination=to)
        elif step == "ship":
            self.desk.ship(number=self.number, lines=self.some("left"))
        elif step == "back":
            lines = {pk: (units, "sellable") for pk, units in self.some("returnable").items()}
            self.desk.take_back(number=self.number, lines=lines, reason="changed_mind", deduction=self.little())
        elif step == "transfer":
            owed = fresh(self.order).facts.outstanding
            self.desk.record_payment(number=self.number, amount=owed + self.little(), surplus=True)
        elif step == "charge":
            self.desk.take_payment(number=self.number)
        if promised is not None:
            assert sums(self.order)[1] - before == promised, step

    def begin(self) -> None:
        """Most are paid and prepared, some have shipped in part."""
        steps = ["transfer", "approve", "start_preparing", "charge", "ship"][
            : self.chance.choice([0, 1, 3, 4, 4, 5, 5])
        ]
        for step in steps:
            try:
                if step in {"approve", "start_preparing"}:
                    getattr(self.desk, step)(number=self.number)
                elif step != "transfer" or self.by_transfer:
                    self.do(step)
            except Refused:
                break
            self.look()

    def look(self) -> None:
        jobs.drain(seconds=60)
        assert list(verify()) == []
        captured, back = sums(self.order)
        assert 0 <= back <= captured
        for amount in (captured, back, fresh(self.order).facts.outstanding):
            assert amount == rounded(amount, self.currency)

    def moved(self, kind: str) -> tuple[Decimal, Decimal]:
        """What of an account was spent on the order, and what came back to it."""
        done = [
            row
            for row in Transaction.objects.filter(payment__reference=self.number).select_related("payment")
            if row.status == Transaction.Status.SUCCEEDED
        ]
        spent = [row.amount for row in done if row.kind == "capture" and row.payment.gateway == kind]
        returned = [
            row.amount for row in done if row.kind == "refund" and (row.destination or row.payment.gateway) == kind
        ]
        return sum(spent, Decimal(0)), sum(returned, Decimal(0))

    def by_hand(self) -> None:
        """What only a person can transfer has been."""
        for pk in Job.objects.filter(reference=self.number, state=Job.State.NEEDS_ATTENTION).values_list(
            "pk", flat=True
        ):
            jobs.finish_by_hand(pk, user_id=None, actor_name="Ada", note="statement 9")
        jobs.drain(seconds=60)

    def end(self) -> None:
        """All that is left is cancelled, its money goes back; then nobody owes anybody anything."""
        for step in ("now", "all"):
            try:
                if step == "now":
                    self.desk.complete_now(number=self.number)
                else:
                    system = get_event_handler(Actor.system())
                    system.cancel(number=self.number, undoable=False)
            except Refused:
                pass
            self.look()
        self.by_hand()
        self.look()
        facts = fresh(self.order).facts
        captured, back = sums(self.order)
        assert facts.left_over == 0
        assert facts.refunded == back
        for account in CreditAccount.objects.filter(owner=self.owner):
            spent, returned = self.moved(account.kind)
            assert account.balance == self.credit - spent + returned, account.kind
            assert account.held >= 0
        if not any(line.live for line in facts.lines):
            assert (facts.unapplied, facts.outstanding) == (0, 0)
            assert captured - back == facts.order.adjustment_total


@pytest.mark.thorough
@settings(max_examples=examples(12), **RELAXED)
@given(
    seed=st.integers(0, 99999),
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
    undo_minutes=st.sampled_from([0, 30]),
    reprices=st.booleans(),
    steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=10),
)
def test_whatever_is_done_the_sums_add_up(
    seed: int, currency: str, undo_minutes: int, reprices: bool, steps: list[str]
) -> None:
    with undone():
        live(seed, currency, undo_minutes, reprices, steps)


def live(seed: int, currency: str, undo_minutes: int, reprices: bool, steps: list[str]) -> None:
    life = Life(Random(seed), currency, undo_minutes, reprices)
    life.begin()
    for step in steps:
        try:
            life.do(step)
        except Refused:
            continue
        life.look()
    life.end()
