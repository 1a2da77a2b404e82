"""Everything that can happen to money, in any order, with a gateway that lies: both sets of books agree to the cent."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest
import time_machine
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from orders.models import CancelRule, CaptureMode, Document
from orders.processing import PaymentChoice
from orders.processing.verify import verify
from payments.models import DemoGatewayFault, Transaction
from payments.rules import Destination
from payments.services.credit_gateways import ACCOUNT
from shop import jobs
from shop.errors import Refused
from shop.money import rounded
from tests.orders.test_lives import undone
from tests.payments.lying import Complaints, Life, Shop

pytestmark = pytest.mark.django_db

START = datetime(2027, 3, 1, 9, tzinfo=UTC)
IBAN = "DE89370400440532013000"
CREDIT = {"consent": "Ada agreed by phone"}
DESTINATIONS = [
    Destination(),
    Destination(),
    Destination(gateway="store_credit", **CREDIT),
    Destination(gateway="loyalty", **CREDIT),
    Destination(gateway="manual", iban=IBAN, holder="Ada Lovelace"),
]
BEHAVIOURS = [b for b in DemoGatewayFault.Behaviour.values if b not in {"slow", "fail_late"}]

line, units = st.integers(0, 2), st.integers(0, 4)
destination = st.sampled_from(DESTINATIONS)
PAYMENTS = ["demo", "two", "points", "manual"]


class Money(RuleBasedStateMachine):
    """One order and its money. Whatever is asked, nothing but a refusal comes back; at the end both books agree."""

    shops: ClassVar[list[Shop]]
    steps: ClassVar[int] = 0
    happened: ClassVar[int] = 0
    seen: ClassVar[set[tuple[str, str, str]]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(undone())
        self.complaints = Complaints()
        self.log = logging.getLogger(jobs.__name__)
        self.log.addHandler(self.complaints)
        self.stack.callback(self.log.removeHandler, self.complaints)
        self.clock = self.stack.enter_context(time_machine.travel(START, tick=False))

    @initialize(
        shop=st.integers(0, 1),
        lines=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=3),
        paid=st.sampled_from(PAYMENTS),
        at_placement=st.booleans(),
        shipping=st.sampled_from(["0", "5"]),
        percent=st.integers(0, 30),
        undo=st.sampled_from([0, 0, 10]),
        come_so_far=st.sampled_from([3, 1, 4, 0, 3]),
    )
    def place(
        self,
        shop: int,
        lines: Any,
        paid: str,
        at_placement: bool,
        shipping: str,
        percent: int,
        undo: int,
        come_so_far: int,
    ) -> None:
        chosen = self.shops[shop]
        self.life = Life(chosen, self.clock)
        currency = chosen.store.currency
        CancelRule.objects.create(undo_minutes=undo, direct_statuses=["payment_waiting", "confirmation_waiting"])
        smallest = min(product.price for product in chosen.products)
        rest = PaymentChoice(gateway="demo")
        parts = [rest]
        if paid == "two":
            parts = [PaymentChoice(gateway="demo", amount=smallest), rest]
        elif paid == "points" and chosen.accounts:
            account = chosen.accounts["loyalty"].pk
            parts = [PaymentChoice(gateway="loyalty", amount=smallest, details={ACCOUNT: account}), rest]
        elif paid == "manual":
            parts = [PaymentChoice(gateway="manual")]
        worth = sum(chosen.products[n % len(chosen.products)].price * count for n, count in lines)
        try:
            self.life.place(
                lines,
                parts,
                capture_mode=CaptureMode.AT_PLACEMENT if at_placement else CaptureMode.BY_STAFF,
                shipping=shipping,
                discount=rounded(worth * percent / 100, currency),
            )
        except Refused:  # the first part was more than the whole
            self.life.place(lines, [rest])
        if come_so_far:
            self.life.work()
        for verb in ["approve", "start_preparing", "take_payment", "ship"][:come_so_far]:
            self.ask(getattr(self.life.staff, verb))

    def ask(self, do: Any, **wanted: Any) -> None:
        self.life.done += 1
        with suppress(Refused):
            do(number=self.life.number, **wanted)

    # --- what people ask ----------------------------------------------------------------------------------------------

    @rule(
        verb=st.sampled_from(["approve", "start_preparing", "take_payment", "ship", "deliver"]), line=line, units=units
    )
    def go_on(self, verb: str, line: int, units: int) -> None:
        some = {} if verb in {"approve", "start_preparing"} else {"lines": self.life.some(line, units)}
        self.ask(getattr(self.life.staff, verb), **some)

    @rule()
    def hurry(self) -> None:
        """As far as it gets by itself."""
        for verb in ("approve", "start_preparing", "take_payment"):
            self.ask(getattr(self.life.staff, verb))
        self.life.work()

    @rule(amount=st.integers(1, 40), surplus=st.booleans())
    def money_arrives(self, amount: int, surplus: bool) -> None:
        note = {"note": "bank statement"}
        due = self.life.order.facts.outstanding
        self.ask(
            self.life.staff.record_payment, amount=due if amount > 20 else Decimal(amount), surplus=surplus, **note
        )

    @rule(
        line=line, units=units, restock=st.booleans(), refund=st.sampled_from([True, True, True, False]), to=destination
    )
    def cancel(self, line: int, units: int, restock: bool, refund: bool, to: Destination) -> None:
        some = self.life.some(line, units)
        self.ask(
            self.life.staff.cancel,
            lines=some,
            reason="out_of_stock",
            restock=restock,
            refund=refund,
            destination=to,
        )

    @rule(line=line, units=units)
    def customer_cancels(self, line: int, units: int) -> None:
        self.ask(self.life.buyer.cancel, lines=self.life.some(line, units), reason="changed_mind")

    @rule(verb=st.sampled_from(["undo_cancellation", "complete_now"]))
    def think_again(self, verb: str) -> None:
        self.ask(getattr(self.life.staff, verb))

    @rule(gateway=st.sampled_from(["demo", "manual"]))
    def pay_again(self, gateway: str) -> None:
        self.ask(self.life.buyer.pay_again, gateway=gateway)

    @rule(line=line, units=units)
    def reinstate(self, line: int, units: int) -> None:
        self.ask(self.life.staff.reinstate, lines=self.life.some(line, units))

    @rule(line=line, units=st.integers(1, 4), kept=st.integers(0, 2), to=destination)
    def take_back(self, line: int, units: int, kept: int, to: Destination) -> None:
        lines = {pk: (count, "quarantine") for pk, count in (self.life.some(line, units) or {}).items()}
        self.ask(self.life.staff.take_back, lines=lines, deduction=Decimal(kept), destination=to)

    @rule(amount=st.integers(1, 12), to=destination)
    def goodwill(self, amount: int, to: Destination) -> None:
        self.ask(self.life.staff.refund, amount=Decimal(amount), note="sorry", destination=to)

    @rule()
    def release(self) -> None:
        for hold in self.life.order.holds.filter(released_at=None):
            self.ask(self.life.staff.release_hold, hold_id=hold.pk)

    @rule(which=st.integers(0, 5), choice=st.sampled_from(["retry", "by hand", "close"]))
    def person(self, which: int, choice: str) -> None:
        with suppress(Refused):
            self.life.person(which, choice)

    # --- what the gateway does ----------------------------------------------------------------------------------------

    @rule(
        operation=st.sampled_from(DemoGatewayFault.Operation.values),
        behaviour=st.sampled_from(BEHAVIOURS),
        times=st.integers(1, 3),
        seconds=st.sampled_from([0, 30, 7200]),
    )
    def fault(self, operation: str, behaviour: str, times: int, seconds: int) -> None:
        DemoGatewayFault.objects.create(operation=operation, behaviour=behaviour, remaining=times, seconds=seconds)

    @rule(seconds=st.sampled_from([30, 7200, 30_000]))
    def refund_will_fail_late(self, seconds: int) -> None:
        DemoGatewayFault.objects.create(operation="refund", behaviour="fail_late", remaining=1, seconds=seconds)

    @rule(which=st.integers(0, 3))
    def changes_its_mind(self, which: int) -> None:
        self.life.changes_its_mind(which)

    @rule(amount=st.integers(1, 12), becomes=st.sampled_from(["", "", "succeeded", "declined"]))
    def refund_in_dashboard(self, amount: int, becomes: str) -> None:
        self.life.refund_in_dashboard(amount, becomes)

    @rule(operation=st.sampled_from(["capture", "void"]), which=st.integers(0, 1), amount=st.integers(1, 12))
    def move_in_dashboard(self, operation: str, which: int, amount: int) -> None:
        self.life.move_in_dashboard(operation, which, amount)

    @rule(which=st.integers(0, 1), status=st.sampled_from(["lost", "needs_response", "under_review", "won"]))
    def dispute(self, which: int, status: str) -> None:
        self.life.dispute(which, status)

    @rule(which=st.integers(0, 9), same=st.booleans())
    def webhook(self, which: int, same: bool) -> None:
        self.life.tell_again(which, same=same)

    # --- workers and time ---------------------------------------------------------------------------------------------

    @rule()
    def work_one(self) -> None:
        self.life.work(1)

    @rule()
    def work_all(self) -> None:
        self.life.work()

    @rule()
    def slow_worker(self) -> None:
        self.life.begin()

    @rule(which=st.integers(0, 2))
    def slow_worker_ends(self, which: int) -> None:
        self.life.end(which)

    @rule(place=st.sampled_from(["claimed", "before", "after", "performed", "settling"]))
    def crash(self, place: str) -> None:
        self.life.crash(place)

    @rule(seconds=st.sampled_from([5, 61, 700, 7200, 50_000]))
    def wait(self, seconds: int) -> None:
        self.life.wait(seconds)

    # --- what has to hold ---------------------------------------------------------------------------------------------

    @invariant()
    def nothing_but_refusals(self) -> None:
        Money.steps += 1
        Money.happened += max(1, self.life.done)
        self.life.done = 0
        assert self.complaints.heard == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "life"):
                self.life.come_to_rest()
                assert self.complaints.heard == []
                assert self.life.differences() == []
                Money.seen |= set(Transaction.objects.values_list("kind", "status", "origin"))
        finally:
            self.stack.close()


@pytest.fixture
def shops(staff: Any, settings: Any) -> list[Shop]:
    settings.PAYMENT_GATEWAYS = {**settings.PAYMENT_GATEWAYS, "demo": "tests.payments.lying.LyingGateway"}
    manager = staff("Admin")
    with time_machine.travel(START, tick=False):
        return [Shop("EUR", ["0.01", "3.33", "9.99"], manager), Shop("JPY", ["1", "33", "1000"], manager)]


WHATEVER_HAPPENS = {
    ("authorize", "succeeded", "desk"),
    ("capture", "succeeded", "desk"),
    ("void", "succeeded", "desk"),
    ("refund", "succeeded", "desk"),
    ("refund", "failed", "desk"),
    ("refund", "succeeded", "outside"),
    ("capture", "succeeded", "outside"),
    ("void", "succeeded", "outside"),
    ("refund", "succeeded", "chargeback"),
}


@pytest.mark.postgres
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "lives",
    [
        20,
        pytest.param(54, marks=pytest.mark.thorough),
        pytest.param(540, marks=pytest.mark.nightly),
    ],
)
def test_whatever_the_gateway_says_both_books_agree(lives: int, shops: list[Shop], on_postgres: bool) -> None:
    """Each life has up to 50 steps of some 30 queries: at night 20,000 steps, in CI 2,000, else some 800."""
    if not on_postgres:
        pytest.skip("needs PostgreSQL")
    Money.shops, Money.steps, Money.happened, Money.seen = shops, 0, 0, set()
    began = time.perf_counter()
    profile = settings(
        max_examples=lives,
        stateful_step_count=50,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Money, settings=profile)
    speed = Money.steps / (time.perf_counter() - began)
    print(f"{Money.steps} steps, {speed:.0f} a second; {Money.happened} things happened")
    assert Money.steps >= 38 * lives
    # What is rare needs many lives.
    assert Money.seen >= (WHATEVER_HAPPENS if lives > 100 else {("capture", "succeeded", "desk")})


# ---------------------------------------------------------------------------------------------------------------------
# What the search has found


def test_units_that_came_back_and_went_again_have_their_credit_note(place: Any, system: Any, work: Any) -> None:
    order = place([("10.00", 4)], until="paid")
    pk = order.lines.get().pk
    system.cancel(number=order.number, lines={pk: 3})
    work()
    system.reinstate(number=order.number)
    system.pay_again(number=order.number, gateway="demo")
    work()
    system.take_payment(number=order.number)
    work()
    system.cancel(number=order.number, lines={pk: 3})
    work()
    notes = Document.objects.filter(order=order, kind="credit_note")
    assert list(notes.values_list("total", flat=True)) == [30, 30]
    assert list(verify()) == []


@pytest.mark.parametrize("who", ["desk", "outside"])
def test_money_that_a_charge_under_way_is_about_to_use_is_not_given_back_as_spare(
    who: str, place: Any, system: Any, work: Any, shops: list[Shop]
) -> None:
    """Of two captures, one is here and one is not: what goes back now is given on top, and the units are paid."""
    parts = [PaymentChoice(gateway="demo", amount=Decimal(2)), PaymentChoice(gateway="demo")]
    order = place([("10.00", 1)], payments=parts, until="preparing")
    DemoGatewayFault.objects.create(operation="capture", behaviour="timeout_before")
    system.take_payment(number=order.number)
    work()
    if who == "desk":
        system.refund(number=order.number, amount=Decimal(5), note="sorry")
    else:
        life = Life(shops[0], None)
        life.number = order.number
        life.refund_in_dashboard(5, "")
    work()
    jobs.drain(clock=lambda: timezone.now() + timedelta(hours=1))
    order.refresh_from_db()
    assert (order.lines.get().paid, order.adjustment_total) == (1, -5)
    assert list(verify()) == []
