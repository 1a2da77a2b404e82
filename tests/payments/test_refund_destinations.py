"""Refunds that go elsewhere than they came from: as credit with consent and once, by hand with an IBAN and a proof."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from payments import rules, services
from payments.models import Attempt, CreditAccount, CreditEntry, Payment, Refund, Transaction
from payments.services import Destination, credit
from payments.services.asking import CauseReused
from payments.tasks import recheck_refunds
from shop import jobs
from shop.models import Job, User
from tests import factories

pytestmark = pytest.mark.django_db

IBAN = "DE89 3704 0044 0532 0130 00"
CONSENT = "Agreed on the telephone, today, with Ada"
LOYALTY = Destination(gateway="loyalty", consent=CONSENT)
BANK = Destination(gateway="manual", iban=IBAN, holder="Ada  Lovelace")


@pytest.fixture
def customer(db: None) -> User:
    user: User = factories.UserFactory()
    return user


def give(amount: str, destination: Destination, owner: User | None = None, cause: str = "cancel:1") -> Refund:
    return services.request_refund(
        reference="100001",
        amount=Decimal(amount),
        cause=cause,
        reason="Late",
        destination=destination,
        owner_id=owner.pk if owner else None,
    )


def balance(owner: User, kind: str = "loyalty") -> Decimal:
    return sum(CreditAccount.objects.filter(owner=owner, kind=kind).values_list("balance", flat=True), Decimal(0))


def test_credit_is_granted_once_however_often_it_is_sent_and_the_books_prove_it(till: Any, customer: User) -> None:
    paid = till.captured("30")
    refund = give("12.50", LOYALTY, customer)
    assert give("12.50", LOYALTY, customer) == refund
    with pytest.raises(CauseReused):
        give("12.50", Destination(), customer)
    row = refund.transactions.get()
    assert (row.payment, row.gateway, refund.consent, refund.owner) == (paid, "loyalty", CONSENT, customer)
    # A worker that dies between the grant and its own books: the next one finds the grant by its key.
    send, job = jobs.handler_of("payments.send"), till.job(row)
    for _time in range(3):
        assert send.perform(job).state == "done"
    assert CreditEntry.objects.get().amount == Decimal("12.50")
    till.work()
    refund.refresh_from_db()
    entry, payment = CreditEntry.objects.get(), Payment.objects.get()
    assert (refund.status, balance(customer), entry.kind, entry.key) == (
        "succeeded",
        Decimal("12.50"),
        "granted",
        str(row.key),
    )
    assert (entry.reference, entry.expires_at, payment.refunded) == ("100001", None, Decimal("12.50"))
    # The gateway that took the money knows nothing of it, and is not asked.
    assert "refund" not in till.moved_at_gateway()
    recheck_refunds()
    assert list(services.verify()) == []
    assert credit.balance_of(owner_id=customer.pk, currency="EUR", kind="loyalty", as_of=entry.created_at).available


def test_the_books_miss_a_grant_and_find_one_too_many(till: Any, customer: User) -> None:
    till.captured("30")
    row = give("10", LOYALTY, customer).transactions.get()
    till.work()
    CreditEntry.objects.filter(key=str(row.key)).update(key="lost")
    assert any("as credit" in words for words in services.verify())
    CreditEntry.objects.filter(key="lost").update(key=str(row.key))
    Transaction.objects.filter(pk=row.pk).update(round=2)
    credit.grant(
        owner_id=customer.pk,
        currency="EUR",
        kind="loyalty",
        amount=Decimal(10),
        key=Transaction.objects.get(pk=row.pk).gateway_key,
        actor_name="",
        as_of=row.created_at,
    )
    assert any("as credit" in words for words in services.verify())
    Transaction.objects.filter(pk=row.pk).update(round=1, destination="")
    assert any("does not go where" in words for words in services.verify())


def test_credit_needs_an_account_and_a_consent_and_a_destination_that_there_is(
    till: Any, customer: User, settings: Any
) -> None:
    till.captured("30")
    for destination, owner, refusal in (
        (LOYALTY, None, services.NoAccount),
        (Destination(gateway="store_credit", consent="  "), customer, services.ConsentMissing),
        (Destination(gateway="demo"), customer, services.DestinationNotOffered),
        (Destination(gateway="bitcoin"), customer, services.DestinationNotOffered),
        (Destination(gateway="manual", iban=IBAN), customer, services.HolderMissing),
        (Destination(gateway="manual", iban="DE00 3704", holder="Ada"), customer, services.IbanInvalid),
    ):
        with pytest.raises(refusal):
            give("10", destination, owner)
    settings.REFUND_DESTINATIONS = ["manual"]
    with pytest.raises(services.DestinationNotOffered) as no:
        give("10", LOYALTY, customer)
    assert (str(no.value), no.value.field) == ("Refunds cannot go to “loyalty”. There are: manual.", "destination")
    assert not Refund.objects.exists()


@pytest.mark.parametrize(
    ("text", "iban"),
    [
        (IBAN, "DE89370400440532013000"),
        (" gb29 nwbk 6016 1331 9268 19 ", "GB29NWBK60161331926819"),
        ("NO93 8601 1117 947", "NO9386011117947"),
        ("MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST001S"),
        ("DE89 3704 0044 0532 0130 01", ""),  # a digit
        ("DE98 3704 0044 0532 0130 00", ""),  # two that have changed places
        ("DE89 3704 0044 0532 0130 0", ""),
        ("NO93 8601 1117 9470", ""),  # as long as no Norwegian one is
        ("1234", ""),
        ("", ""),
        ("DE89-3704-0044-0532-0130-00", ""),
        ("ДЕ89370400440532013000", ""),
    ],
)
def test_an_iban_is_checked_by_shape_length_and_check_digits(text: str, iban: str) -> None:
    if iban:
        assert rules.valid_iban(text) == iban
    else:
        with pytest.raises(rules.IbanInvalid):
            rules.valid_iban(text)


def test_a_transfer_by_hand_waits_for_a_person_and_its_proof_and_then_forgets_the_account(till: Any) -> None:
    till.captured("30")
    refund = give("12.50", BANK)
    assert (refund.bank_iban, refund.bank_holder, refund.owner) == ("DE89370400440532013000", "Ada Lovelace", None)
    till.work()
    row = refund.transactions.get()
    job = till.job(row)
    assert (row.status, job.state) == ("needs_person", "needs_attention")
    assert "Transfer €12.50 for 100001 to the customer's bank account" in job.last_error
    assert jobs.only_by_hand([job]) == {job.pk}
    # The account stands in the refund, and nowhere else.
    everywhere = [*Job.objects.values(), *Attempt.objects.values(), *Transaction.objects.values(), repr(BANK)]
    assert not [word for word in ("3704", "Lovelace") if word in str(everywhere)]

    with pytest.raises(services.ProofMissing):
        jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ben", note=" ")
    with pytest.raises(IntegrityError), transaction.atomic():
        Refund.objects.update(status="succeeded")  # the database itself wants it forgotten
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ben", note="Statement 17, line 4")
    refund.refresh_from_db()
    row.refresh_from_db()
    assert (refund.status, refund.bank_iban, refund.bank_holder) == ("succeeded", "DE•• •••• 3000", "")
    assert (row.gateway_reference, row.settled_by) == ("by hand: Statement 17, line 4", "Ben")
    assert list(services.verify()) == []


def test_a_transfer_that_nobody_makes_can_be_closed_and_the_money_goes_another_way(till: Any, customer: User) -> None:
    till.captured("30")
    refund = give("30", BANK)
    till.work()
    services.close_as_failed(transaction_id=refund.transactions.get().pk, note="account closed", actor_name="Ben")
    refund.refresh_from_db()
    assert (refund.status, refund.bank_holder) == ("failed", "")
    give("30", LOYALTY, customer, cause="cancel:2")
    till.work()
    assert balance(customer) == 30
    assert list(services.verify()) == []


def test_points_go_back_as_points_and_are_never_paid_out(till: Any, customer: User) -> None:
    at = timezone.now()
    account = credit.grant(
        owner_id=customer.pk, currency="EUR", kind="loyalty", amount=Decimal(5), key="g", actor_name="", as_of=at
    ).account
    points = services.open_payment(
        reference="100001",
        store_id=None,
        gateway="loyalty",
        currency="EUR",
        amount=Decimal(5),
        details={"credit_account": account.pk},
    )
    services.request_authorization(payment=points, cause="place:1")
    till.work()
    till.authorized("20")
    till.capture("25")
    till.work()
    assert balance(customer) == 0
    refund = give("25", BANK)
    parts = refund.transactions.order_by("payment_id").values_list("payment__gateway", "destination", "amount")
    assert list(parts) == [
        ("loyalty", "", Decimal(5)),
        ("demo", "manual", Decimal(20)),
    ]
    till.work()
    assert balance(customer) == 5
    job = till.job(refund.transactions.get(destination="manual"))
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ben", note="Statement 17")
    refund.refresh_from_db()
    assert (refund.status, refund.bank_holder) == ("succeeded", "")
    assert list(services.verify()) == []


def test_the_database_refuses_credit_without_consent_and_captures_that_go_elsewhere(till: Any, customer: User) -> None:
    till.captured("30")
    refund = give("10", LOYALTY, customer)
    for change in (
        lambda: Refund.objects.filter(pk=refund.pk).update(consent=""),
        lambda: Transaction.objects.filter(kind="capture").update(destination="manual"),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()
