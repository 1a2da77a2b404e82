"""The books: `verify` finds what was tampered with, and no sequence of requests gets past the bounds."""

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from payments import rules, services
from payments.models import Attempt, DemoGatewayFault, Payment, Refund, Transaction
from shop.errors import Refused
from shop.models import Job
from tests.examples import examples

pytestmark = pytest.mark.django_db


def test_right_books_have_nothing_to_tell(till):
    till.captured("100")
    till.refund("10")
    assert list(services.verify()) == []


TAMPERED = {
    "a counter": (
        lambda: Payment.objects.update(refunded=5),
        "payment {payment} of 100001: refunded is 5.000, its transactions add up to 10",
    ),
    "a capture": (
        lambda: Transaction.objects.filter(kind="capture").update(amount=99),
        "payment {payment} of 100001: captured is 100.000, its transactions add up to 99",
    ),
    "a refund's transaction": (
        lambda: Transaction.objects.filter(refund__cause="cancel:1").update(amount=9),
        "refund {refund} of 100001: is 10.000, its transactions add up to 9",
    ),
    "a refund's status": (
        lambda: Refund.objects.filter(cause="cancel:1").update(status="failed"),
        "refund {refund} of 100001: is failed, its transactions say succeeded",
    ),
    "a transaction's status": (
        lambda: Transaction.objects.filter(kind="void").update(status="failed"),
        "of 100001: is failed, but attempt 1 moved €10.00",
    ),
    "a job": (
        lambda: Job.objects.filter(state="waiting").update(state="done"),
        "of 100001: is requested, but no job will bring it further",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_row_is_named(till, what):
    till.authorized("110")
    till.capture("100")
    till.work()
    refund = till.refund("10")
    services.request_void(reference=till.reference, cause="cancel:1")
    till.work()
    till.refund("5", cause="cancel:2")
    assert list(services.verify()) == []
    tamper, told = TAMPERED[what]
    tamper()
    told = told.format(payment=Payment.objects.get().pk, refund=refund.pk)
    assert any(told in wrong for wrong in services.verify()), list(services.verify())


amounts = st.integers(1, 12_000).map(lambda cents: Decimal(cents) / 100)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["capture", "refund"]), amounts),
        st.tuples(st.just("void"), st.none()),
        st.tuples(st.just("work"), st.none()),
        st.tuples(st.just("fault"), st.sampled_from(["decline", "timeout_after", "timeout_before", "answer_twice"])),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=12,
)


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(payments=st.lists(amounts, min_size=1, max_size=3), steps=steps)
def test_no_sequence_of_requests_gets_past_the_bounds(till, books, payments, steps):
    fresh = f"h{Payment.objects.count()}"
    till.reference = fresh
    for amount in payments:
        till.authorized(str(amount))
    for number, (verb, value) in enumerate(steps):
        try:
            if verb == "capture":
                till.capture(str(value), cause=f"{fresh}:{number}")
            elif verb == "refund":
                till.refund(str(value), cause=f"{fresh}:{number}")
            elif verb == "void":
                services.request_void(reference=fresh, cause=f"{fresh}:{number}")
            elif verb == "fault":
                till.fault(value)
            elif verb == "close":
                for row in Transaction.objects.filter(payment__reference=fresh, status="needs_person"):
                    services.close_as_failed(transaction_id=row.pk, note="x", actor_name="x")
            else:
                till.work()
        except Refused:
            pass
        money = services.money_of(reference=fresh)
        assert 0 <= money.refunded <= money.refund_reserved <= money.captured <= money.capture_reserved
        assert money.capture_reserved + money.voided <= money.authorized <= money.amount
        assert list(services.verify()) == []
    DemoGatewayFault.objects.update(remaining=0)
    till.work()
    assert not Attempt.objects.filter(outcome__in=Attempt.OPEN).exists()
    books()


class Row:
    currency = "EUR"

    def __init__(self, pk, amount):
        self.pk, self.open_to_capture, self.refundable = pk, amount, amount


@given(rooms=st.lists(st.integers(0, 5000), max_size=6), wanted=st.integers(1, 30_000))
def test_a_plan_gives_exactly_the_amount_in_order_or_refuses(rooms, wanted):
    rows = [Row(pk, Decimal(cents) / 100) for pk, cents in enumerate(rooms, start=1)]
    amount = Decimal(wanted) / 100
    for plan, refusal, ordered in (
        (rules.plan_capture, rules.NotEnoughAuthorized, sorted),
        (rules.plan_refund, rules.RefundTooLarge, lambda pks: sorted(pks, reverse=True)),
    ):
        if wanted > sum(rooms):
            with pytest.raises(refusal):
                plan(payments=rows, amount=amount)
            continue
        shares = plan(payments=rows, amount=amount)
        assert sum(part for _pk, part in shares) == amount
        assert [pk for pk, _part in shares] == ordered(pk for pk, _part in shares)
        assert all(0 < part <= rows[pk - 1].refundable for pk, part in shares)
        assert all(part == rows[pk - 1].refundable for pk, part in shares[:-1])
