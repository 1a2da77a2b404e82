"""Money that people move: bank transfers and cash, and refunds that somebody transfers."""

from decimal import Decimal

import pytest

from payments import services
from payments.models import Payment, Transaction
from shop import jobs

pytestmark = pytest.mark.django_db


def receive(amount, *, cause="receipt:1", reference="100001"):
    return services.record_receipt(
        reference=reference, amount=Decimal(amount), cause=cause, note="statement 7", actor_name="Ada"
    )


def test_a_receipt_is_authorised_and_captured_in_one(till):
    till.open("100", gateway="manual")
    capture = receive("40")
    payment = Payment.objects.get()
    assert (payment.authorized, payment.captured, payment.refundable) == (40, 40, 40)
    assert (capture.status, capture.settled_by, capture.gateway_reference) == (
        "succeeded",
        "Ada",
        "by hand: statement 7",
    )
    assert till.told(capture) == [], "whoever books a receipt knows of it"
    assert receive("40") == capture
    receive("60", cause="receipt:2")
    assert services.money_of(reference=till.reference).captured == 100
    assert list(services.verify()) == []


def test_no_more_is_received_than_is_to_be_paid(till):
    till.open("100", gateway="manual")
    receive("60")
    with pytest.raises(services.ReceiptTooLarge) as no:
        receive("40.01", cause="receipt:2")
    assert str(no.value) == "€40.01 cannot be recorded: €40.00 is still to be paid by hand."
    with pytest.raises(services.CauseReused):
        receive("61")


@pytest.mark.parametrize("amount", ["0", "-5", "0.005"])
def test_a_receipt_is_a_positive_number_of_cents(till, amount):
    till.open("100", gateway="manual")
    with pytest.raises(services.AmountInvalid):
        receive(amount)


def test_money_of_an_online_payment_is_not_received_by_hand(till):
    till.open("100")
    with pytest.raises(services.ReceiptTooLarge):
        receive("1")


def test_what_is_paid_by_hand_is_not_authorised_online(till):
    payment = till.open("100", gateway="manual")
    with pytest.raises(services.PaidByHand):
        services.request_authorization(payment=payment, cause="place:1")
    assert not Transaction.objects.exists()


def test_a_refund_by_hand_waits_for_a_person_and_is_done_with_a_note(till):
    till.open("100", gateway="manual")
    receive("100")
    refund = till.refund("30")
    till.work()
    refund.refresh_from_db()
    row = refund.transactions.get()
    job = till.job(row)
    assert (refund.status, row.status, job.state) == ("waiting", "needs_person", "needs_attention")
    assert job.last_error == "Transfer €30.00 for 100001 by hand, then mark this as done by hand."
    jobs.retry_by_hand(job.pk)
    till.work()
    assert till.job(row).state == "needs_attention"
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="transferred")
    refund.refresh_from_db()
    assert (refund.status, Payment.objects.get().refunded) == ("succeeded", 30)
    assert list(services.verify()) == []


def test_two_payments_by_hand_and_online_are_refunded_each_its_own_way(till):
    till.open("10", gateway="manual")
    receive("10")
    till.captured("20")
    refund = till.refund("25")
    till.work()
    refund.refresh_from_db()
    assert refund.status == "waiting"
    assert set(refund.transactions.values_list("status", "amount")) == {("succeeded", 20), ("needs_person", 5)}
