"""Authorise, capture, void, refund: the way it should go, and the gateway's plain no."""

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from payments import rules, services
from payments.models import Payment, Transaction
from shop.errors import Refused
from shop.models import Job

pytestmark = pytest.mark.django_db


def test_a_payment_is_authorised_captured_and_refunded(till, books):
    payment = till.authorized("100")
    assert (payment.authorized, payment.captured, payment.open_to_capture) == (100, 0, 100)

    till.capture("60.50")
    payment.refresh_from_db()
    assert (payment.capture_reserved, payment.captured, payment.open_to_capture) == (
        Decimal("60.5"),
        0,
        Decimal("39.5"),
    )
    till.work()
    payment.refresh_from_db()
    assert (payment.captured, payment.refundable) == (Decimal("60.5"), Decimal("60.5"))

    refund = till.refund("20.25")
    assert refund.status == "waiting"
    till.work()
    refund.refresh_from_db()
    payment.refresh_from_db()
    assert (refund.status, refund.settled_at is not None) == ("succeeded", True)
    assert (payment.refunded, payment.refundable) == (Decimal("20.25"), Decimal("40.25"))
    books()


def test_what_is_not_captured_is_voided(till, books):
    payment = till.authorized("100")
    till.capture("30")
    [void] = services.request_void(reference=till.reference, cause="cancel:1")
    payment.refresh_from_db()
    assert (void.amount, payment.voided, payment.open_to_capture) == (70, 70, 0)
    till.work()
    void.refresh_from_db()
    assert void.status == "succeeded"
    assert services.request_void(reference=till.reference, cause="cancel:2") == []
    books()


def test_the_same_cause_is_the_same_movement(till, books):
    payment = till.authorized("100")
    assert services.request_authorization(payment=payment, cause=f"place:{payment.pk}") == payment.transactions.get()
    assert till.capture("50") == till.capture("50")
    till.work()
    assert till.capture("50") == till.capture("50")
    assert till.refund("20") == till.refund("20")
    assert services.request_void(reference=till.reference, cause="x") == services.request_void(
        reference=till.reference, cause="x"
    )
    till.work()
    assert Transaction.objects.count() == 4
    books()


def test_the_same_cause_with_another_amount_is_refused(till):
    till.captured("100")
    till.refund("20")
    with pytest.raises(services.CauseReused):
        till.refund("21")
    with pytest.raises(services.CauseReused):
        till.capture("99", cause=f"set up {Payment.objects.get().pk}")


def test_whoever_opened_the_payment_is_told_of_each_change_once(till):
    transaction = till.ask("capture")
    till.work()
    services.record_outcome(transaction_id=transaction.pk, key=str(transaction.key), answer="succeeded")
    assert till.told(transaction) == ["succeeded"]
    assert Job.objects.get(key=f"tests.payment_changed:{transaction.pk}:succeeded").reference == till.reference


def test_a_declined_authorisation_has_failed_and_can_be_asked_again(till, books):
    till.fault("decline")
    transaction = till.ask("authorize")
    till.work()
    transaction.refresh_from_db()
    assert (transaction.status, transaction.error) == ("failed", "The bank declined.")
    assert (till.job(transaction).state, till.told(transaction)) == ("done", ["failed"])
    services.request_authorization(payment=transaction.payment, cause="place:again")
    till.work()
    assert Payment.objects.get().authorized == 100
    books()


def test_only_one_authorisation_is_under_way_at_a_time(till):
    transaction = till.ask("authorize")
    with pytest.raises(services.NothingToAuthorize):
        services.request_authorization(payment=transaction.payment, cause="place:2")


def test_a_declined_capture_frees_its_amount(till, books):
    transaction = till.ask("capture")
    till.fault("decline")
    till.work()
    transaction.refresh_from_db()
    payment = Payment.objects.get()
    assert (transaction.status, payment.capture_reserved, payment.open_to_capture) == ("failed", 0, 100)
    assert (till.job(transaction).state, till.told(transaction)) == ("done", ["failed"])
    till.capture("100", cause="ship:again")
    till.work()
    books()


def test_more_than_is_authorised_is_not_captured(till):
    till.authorized("100")
    till.capture("60")
    with pytest.raises(services.NotEnoughAuthorized) as no:
        till.capture("40.01", cause="ship:2")
    assert str(no.value) == "€40.01 cannot be captured: only €40.00 is authorised and not captured yet."


@pytest.mark.parametrize("amount", ["0", "-1", "0.001", "NaN", "Infinity"])
def test_an_amount_is_a_positive_number_of_cents(till, amount):
    till.captured("100")
    for ask in (till.capture, till.refund, till.open):
        with pytest.raises(services.AmountInvalid):
            ask(amount)


def test_a_capture_takes_the_oldest_payment_first(till, books):
    old, new = till.authorized("30"), till.authorized("50")
    transactions = till.capture("45")
    assert [(t.payment_id, t.amount, t.cause) for t in transactions] == [
        (old.pk, 30, f"ship:1:{old.pk}"),
        (new.pk, 15, f"ship:1:{new.pk}"),
    ]
    till.work()
    books()


def test_tenths_that_floats_cannot_add_up_are_taken_to_the_last_one(till, books):
    # 0.1 + 0.2 > 0.3 as SQLite adds: the CHECK must not fall for it.
    till.authorized("0.30")
    till.capture("0.10")
    services.request_void(reference=till.reference, cause="cancel:1")
    till.work()
    assert Payment.objects.get().voided == Decimal("0.2")
    books()


def test_a_capture_that_was_never_sent_can_be_called_off(till, books):
    sent = till.ask("capture", amount="10")
    till.fault("timeout_before")
    till.work(hours=(0,))
    till.authorized("20")
    [unsent] = till.capture("20", cause="ship:2")
    assert services.abandon(reference=till.reference, cause="ship:2") == [unsent]
    assert services.abandon(reference=till.reference, transaction_ids=[sent.pk, unsent.pk]) == []
    till.work()
    unsent.refresh_from_db()
    sent.refresh_from_db()
    assert (unsent.status, unsent.error, sent.status) == ("failed", "abandoned", "succeeded")
    assert unsent.attempts.count() == 0
    books()


def test_a_capture_is_either_sent_or_called_off(till, books):
    till.authorized("20")
    [called_off] = till.capture("5", cause="ship:1")
    services.abandon(reference=till.reference, cause="ship:1")
    assert services.begin_attempt(transaction_id=called_off.pk) is None

    [sent] = till.capture("5", cause="ship:2")
    services.begin_attempt(transaction_id=sent.pk)  # and the worker dies
    assert services.abandon(reference=till.reference, cause="ship:2") == []
    till.work()
    sent.refresh_from_db()
    assert sent.status == "succeeded"
    books()


def test_money_of_many_references_is_one_query(till):
    till.authorized("100")
    till.captured("30", reference="100002")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = services.money_of_many(references=["100001", "100002", "nobody"])
    assert len(queries) == 1
    assert found["100001"].open_to_capture == 100
    assert (found["100002"].refundable, found["100002"].currency) == (30, "EUR")
    assert found["nobody"] == services.Money()
    till.capture("40")
    assert services.money_of(reference=till.reference).captures_in_flight


@pytest.mark.parametrize("verb", ["capture", "refund"])
def test_the_number_of_queries_does_not_grow_with_the_number_of_payments(till, verb):
    def queries(reference, payments):
        for _ in range(payments):
            (till.captured if verb == "refund" else till.authorized)("10", reference=reference)
        with CaptureQueriesContext(connection) as counted:
            getattr(till, verb)(str(10 * payments), cause=reference, reference=reference)
        return len(counted)

    assert queries("100002", 1) == queries("100003", 5)


def test_a_payment_in_another_currency_is_not_added(till):
    till.open(currency="EUR")
    with pytest.raises(services.CurrencyMixed):
        till.open(currency="USD")


def test_full_card_numbers_are_refused():
    def open_with(details):
        services.open_payment(
            reference="1", store_id=None, gateway="demo", currency="EUR", amount=Decimal(1), details=details
        )

    for number in ("4242424242424242", "4242 4242 4242 4242", "378282246310005"):
        with pytest.raises(services.CardNumberInDetails):
            open_with({"card": number})
    open_with({"card": "•••• 4242", "customer": "4242424242424241"})


@pytest.mark.parametrize("name", ["re-c07d5025-4697-4151-8aaa-66fb37af1577", "44628661887139c6882f4697415182aa"])
def test_what_a_gateway_names_its_things_by_is_no_card_number(name):
    notice = {"about": name, "at": 1764000000008, "paid_with": "4242-4242-4242-4242"}
    assert not rules.holds_card_number({"token": name})
    assert rules.without_card_numbers(notice) == {**notice, "paid_with": "•••• 4242"}


def test_what_is_refused_leaves_nothing_behind(till):
    till.authorized("100")
    before = (Transaction.objects.count(), Job.objects.count())
    for ask in (lambda: till.capture("101"), lambda: till.refund("1"), lambda: till.open(gateway="none")):
        with pytest.raises(Refused):
            ask()
    assert (Transaction.objects.count(), Job.objects.count()) == before


def test_rows_with_keys_are_never_deleted(till):
    payment = till.captured("10")
    for row in (payment, payment.transactions.first(), payment.transactions.first().attempts.get()):
        with pytest.raises(TypeError):
            row.delete()
