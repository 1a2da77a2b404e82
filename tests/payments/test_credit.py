"""Store credit and loyalty points: every cent explained by an entry, each movement once, nothing spent twice."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Barrier

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from payments import services
from payments.gateways import GatewayRequest, gateway_label, get_gateway, is_credit
from payments.models import CreditAccount, CreditEntry, Transaction
from payments.rules import AmountInvalid
from payments.services import credit
from payments.tasks import expire_credit
from shop.models import Job
from shop.roles import MANAGER, SERVICE
from tests import factories
from tests.examples import examples

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.get_default_timezone())
LOYALTY, STORE_CREDIT = "loyalty", "store_credit"


def days(number: int) -> datetime:
    return NOW + timedelta(days=number)


@pytest.fixture
def owner():
    return factories.UserFactory()


@pytest.fixture
def grant(owner):
    """grant("10", until=30, kind=…): credit for the owner, granted on the first day."""

    def make(amount, *, until=None, kind=LOYALTY, key="", currency="EUR"):
        entry = credit.grant(
            owner_id=owner.pk,
            currency=currency,
            kind=kind,
            amount=Decimal(amount),
            key=key or uuid.uuid4().hex,
            actor_name="Mira",
            as_of=NOW,
            expires_at=None if until is None else days(until),
        )
        return entry.account

    return make


def hold(account, amount, *, key="hold", day=0):
    return credit.hold(account_id=account.pk, amount=Decimal(amount), key=key, reference="100001", as_of=days(day))


def use(do, amount, *, key, hold_key="hold", day=0):
    return do(hold_key=hold_key, amount=Decimal(amount), key=key, reference="100001", as_of=days(day))


def numbers(account) -> tuple[Decimal, Decimal]:
    account.refresh_from_db()
    return account.balance, account.held


def available(account, *, day=0) -> Decimal:
    has = credit.balance_of(owner_id=account.owner_id, currency=account.currency, kind=account.kind, as_of=days(day))
    return has.available


# ---------------------------------------------------------------------------------------------------------------------
# Movements


def test_what_is_granted_is_held_spent_released_and_restored(grant):
    account = grant("50")
    hold(account, "30")
    assert numbers(account) == (50, 30)
    use(credit.spend, "20", key="spend")
    assert numbers(account) == (30, 10)
    use(credit.release, "10", key="release")
    assert numbers(account) == (30, 0)
    use(credit.restore, "5", key="restore")
    assert (numbers(account), available(account)) == ((35, 0), 35)
    assert list(services.verify()) == []


def test_the_same_key_is_the_same_movement(grant):
    account = grant("50", key="welcome")
    grant("50", key="welcome")
    for _ in range(2):
        hold(account, "30")
        use(credit.spend, "20", key="spend")
        use(credit.release, "10", key="release")
        use(credit.restore, "5", key="restore")
        credit.adjust(account_id=account.pk, amount=Decimal(-1), key="fix", note="x", actor_name="Mira", as_of=NOW)
    assert numbers(account) == (34, 0)
    assert account.entries.count() == 6


def test_a_key_with_another_amount_or_account_is_refused(grant):
    account = grant("50", key="welcome")
    with pytest.raises(credit.CreditKeyReused):
        grant("51", key="welcome")
    with pytest.raises(credit.CreditKeyReused):
        grant("50", key="welcome", kind=STORE_CREDIT)
    with pytest.raises(credit.CreditKeyReused):
        hold(account, "50", key="welcome")


def test_no_more_is_held_spent_released_or_restored_than_there_is(grant):
    account = grant("50")
    assert hold(account, "50.01", key="too much").kind == "refused"
    hold(account, "30")
    assert use(credit.spend, "30.01", key="a").note == "Only €30.00 is available."
    use(credit.spend, "20", key="b")
    assert use(credit.release, "10.01", key="c").kind == "refused"
    assert use(credit.restore, "20.01", key="d").kind == "refused"
    assert numbers(account) == (30, 10)


def test_what_was_refused_stays_refused_under_its_key(grant):
    account = grant("10")
    assert hold(account, "20", key="order").kind == "refused"
    grant("90")
    assert hold(account, "20", key="order").kind == "refused"
    assert hold(account, "20", key="next order").kind == "held"


def test_amounts_are_positive_and_whole_cents(grant):
    account = grant("10")
    for amount in ("0", "-1", "0.001"):
        with pytest.raises(AmountInvalid):
            grant(amount)
        with pytest.raises(AmountInvalid):
            hold(account, amount)


def test_each_kind_and_currency_has_an_account_of_its_own(grant):
    accounts = {grant("10").pk, grant("10", kind=STORE_CREDIT).pk, grant("10", currency="GBP").pk, grant("10").pk}
    assert len(accounts) == 3


def test_an_adjustment_takes_no_more_than_is_free_and_says_why(grant):
    account = grant("50")
    hold(account, "30")
    ask = {"account_id": account.pk, "actor_name": "Mira", "as_of": NOW}
    with pytest.raises(credit.NotEnoughCredit):
        credit.adjust(amount=Decimal("-20.01"), key="a", note="Typing error", **ask)
    with pytest.raises(credit.NoteMissing):
        credit.adjust(amount=Decimal(-20), key="a", note=" ", **ask)
    credit.adjust(amount=Decimal(-20), key="a", note="Typing error", **ask)
    assert numbers(account) == (30, 30)


def test_the_database_itself_refuses_a_balance_below_zero(grant):
    account = grant("10")
    for wrong in ({"balance": -1}, {"held": 11}, {"held": -1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            CreditAccount.objects.filter(pk=account.pk).update(**wrong)


def test_entries_are_never_changed_or_deleted(grant):
    entry = grant("10").entries.get()
    for change in (entry.save, entry.delete, entry.account.delete):
        with pytest.raises(TypeError):
            change()


# ---------------------------------------------------------------------------------------------------------------------
# Expiry


def test_what_has_expired_is_taken_off_once_and_the_rest_stays(grant):
    account = grant("10", until=30)
    grant("5", until=60)
    grant("3")
    assert (available(account, day=29), available(account, day=30)) == (18, 8)
    assert credit.expire(account_id=account.pk, as_of=days(30)).amount == -10
    assert credit.expire(account_id=account.pk, as_of=days(30)) is None
    assert numbers(account) == (8, 0)


def test_what_expires_first_is_spent_first(grant):
    account = grant("3")
    grant("5", until=60)
    grant("10", until=30)
    hold(account, "12")
    use(credit.spend, "12", key="spend")
    assert available(account, day=31) == 6
    assert available(account, day=61) == 3


def test_what_has_expired_cannot_be_spent_before_the_night_either(grant):
    account = grant("10", until=30)
    assert hold(account, "1", day=30).kind == "refused"
    assert numbers(account) == (0, 0)


def test_what_is_held_does_not_expire_and_does_once_it_is_let_go(grant):
    account = grant("10", until=30)
    hold(account, "6")
    credit.expire(account_id=account.pk, as_of=days(31))
    assert numbers(account) == (6, 6)
    use(credit.release, "6", key="release", day=31)
    credit.expire(account_id=account.pk, as_of=days(31))
    assert numbers(account) == (0, 0)


def test_what_comes_back_keeps_its_expiry_and_at_least_thirty_days(grant):
    account = grant("10", until=20)
    grant("10", until=90)
    hold(account, "15")
    use(credit.spend, "15", key="spend")
    use(credit.restore, "15", key="restore", day=40)
    has = credit.balance_of(owner_id=account.owner_id, currency="EUR", kind=LOYALTY, as_of=days(40))
    assert [(lot.amount, lot.expires_at) for lot in has.lots] == [(10, days(70)), (5, days(90)), (5, days(90))]
    assert credit.expire(account_id=account.pk, as_of=days(70)).amount == -10


def test_the_nightly_task_expires_every_account(grant):
    """Granted for a day that has long passed by today's clock."""
    account = grant("10", until=30)
    other = grant("7", until=30, kind=STORE_CREDIT)
    grant("2")
    expire_credit()
    expire_credit()
    assert (numbers(account), numbers(other)) == ((2, 0), (0, 0))
    assert list(services.verify()) == []


def test_what_is_granted_lasts_for_a_while(grant):
    with pytest.raises(credit.ExpiryPassed):
        grant("10", until=0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["grant", "hold", "spend", "release", "restore", "expire", "adjust"]), st.integers(1, 60)
    ),
    max_size=25,
)


@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
def test_no_sequence_of_movements_gets_past_the_bounds(grant, owner, steps):
    account, run = grant("20", until=5), uuid.uuid4().hex
    holds = []
    for day, (verb, amount) in enumerate(steps):
        key = f"{run}:{day}"
        if verb == "grant":
            grant(str(amount), until=day + amount, key=key)
        elif verb == "hold":
            if hold(account, amount, key=key, day=day).kind == "held":
                holds.append(key)
        elif verb == "expire":
            credit.expire(account_id=account.pk, as_of=days(day))
        elif verb == "adjust":
            with suppress(credit.NotEnoughCredit):
                credit.adjust(
                    account_id=account.pk, amount=Decimal(-amount), key=key, note="x", actor_name="x", as_of=days(day)
                )
        elif holds:
            use(getattr(credit, verb), amount, key=key, hold_key=holds[amount % len(holds)], day=day)
        balance, held = numbers(account)
        has = credit.balance_of(owner_id=owner.pk, currency="EUR", kind=LOYALTY, as_of=days(day))
        assert 0 <= held <= balance
        assert has.held == held
        assert has.available + has.held == has.balance <= balance
    assert list(services.verify()) == []


# ---------------------------------------------------------------------------------------------------------------------
# Rivals


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_eight_orders_at_once_hold_no_more_than_there_is(grant, at_once):
    account = grant("25")
    results = at_once(*[lambda n=n: hold(account, "10", key=f"order {n}") for n in range(8)])
    assert sorted(entry.kind for entry in results) == ["held"] * 2 + ["refused"] * 6
    assert numbers(account) == (25, 20)
    assert list(services.verify()) == []


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_one_key_eight_times_at_once_is_spent_once(grant, at_once):
    account = grant("25")
    hold(account, "20")
    results = at_once(*[lambda: use(credit.spend, "10", key="spend") for _ in range(8)])
    assert {entry.pk for entry in results} == {CreditEntry.objects.get(key="spend").pk}
    assert numbers(account) == (15, 10)


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_control_without_the_lock_the_same_credit_is_promised_four_times(grant, at_once):
    account, looked = grant("10"), Barrier(4)

    def hold_unlocked() -> bool:
        row = CreditAccount.objects.get(pk=account.pk)
        looked.wait()
        if row.free < 10:
            return False
        CreditAccount.objects.filter(pk=row.pk).update(held=row.held + 10)
        return True

    assert at_once(*[hold_unlocked] * 4) == [True] * 4
    assert numbers(account) == (10, 10)


# ---------------------------------------------------------------------------------------------------------------------
# The gateways


@pytest.fixture
def pay(till, grant):
    """pay("10"): a payment by points, authorised by the worker."""

    def make(amount, *, has="50"):
        account = grant(has)
        payment = services.open_payment(
            reference=till.reference,
            store_id=None,
            gateway=LOYALTY,
            currency="EUR",
            amount=Decimal(amount),
            details={"credit_account": account.pk},
        )
        services.request_authorization(payment=payment, cause="place:1")
        till.work()
        return account

    return make


def test_a_payment_by_points_goes_through_the_worker_as_any_other(pay, till):
    account = pay("30")
    assert numbers(account) == (50, 30)
    till.capture("20")
    services.request_void(reference=till.reference, cause="cancel:1")
    till.work()
    assert numbers(account) == (30, 0)
    till.refund("20")
    till.work()
    assert numbers(account) == (50, 0)
    assert set(Transaction.objects.values_list("kind", "status")) == {
        (kind, "succeeded") for kind in ("authorize", "capture", "void", "refund")
    }
    assert set(account.entries.exclude(kind="granted").values_list("reference", flat=True)) == {till.reference}
    assert not Job.objects.exclude(state="done").exists()
    assert list(services.verify()) == []


def test_points_that_are_not_there_are_declined(pay):
    account = pay("50.01")
    row = Transaction.objects.get()
    assert (row.status, row.error) == ("failed", "Only €50.00 is available.")
    assert numbers(account) == (50, 0)
    assert list(services.verify()) == []


@pytest.mark.parametrize(
    "details", [{}, {"credit_account": 0}, {"credit_account": "1"}, {"credit_account": "other kind"}], ids=str
)
def test_a_payment_without_an_account_of_its_kind_is_declined(details, grant):
    if details.get("credit_account") == "other kind":
        details = {"credit_account": grant("50", kind=STORE_CREDIT).pk}
    request = GatewayRequest(key="k", amount=Decimal(10), currency="EUR", details=details)
    assert get_gateway(LOYALTY).authorize(request).code == "no_account"
    assert get_gateway(LOYALTY).lookup(key="k") is None


def test_a_gateway_answers_a_key_as_before_and_looks_it_up(grant):
    account, gateway = grant("50"), get_gateway(LOYALTY)
    request = GatewayRequest(key="k", amount=Decimal(10), currency="EUR", details={"credit_account": account.pk})
    assert gateway.authorize(request) == gateway.authorize(request) == gateway.lookup(key="k")
    unheld = GatewayRequest(key="x", amount=Decimal(1), currency="EUR", payment_reference="nowhere")
    assert gateway.refund(unheld).status == "declined"
    assert numbers(account) == (50, 10)


def test_gateways_are_named_in_words():
    assert [gateway_label(code) for code in (LOYALTY, STORE_CREDIT, "manual", "gone")] == [
        "Loyalty points",
        "Store credit",
        "Transfer or cash",
        "gone",
    ]
    assert [is_credit(code) for code in (LOYALTY, STORE_CREDIT, "manual", "demo", "gone")] == [True, True, *[False] * 3]


TAMPERED = {
    "the balance": (lambda: CreditAccount.objects.update(balance=99), "balance is 99.000, its entries add up to 50"),
    "what is held": (lambda: CreditAccount.objects.update(held=1), "held is 1.000, its entries add up to 20"),
    "an entry": (
        lambda: CreditEntry.objects.filter(kind="held").update(key="other"),
        "has succeeded, but the credit ledger has no entry that says so",
    ),
    "a transaction": (
        lambda: Transaction.objects.update(status="failed"),
        "of 100001: has failed, but 20.000 is held in the credit ledger",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_account_is_named(pay, what):
    pay("20")
    tamper, told = TAMPERED[what]
    tamper()
    assert any(told in wrong for wrong in services.verify()), list(services.verify())


# ---------------------------------------------------------------------------------------------------------------------
# Staff


@pytest.fixture
def person(client):
    def make(role):
        user = factories.UserFactory(is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client.force_login(user)
        return client

    return make


def do_url(account, name):
    return reverse("admin:payments_creditaccount_do", args=[account.pk, name])


def test_a_manager_grants_and_adjusts_once_per_page(person, grant):
    account, client = grant("10"), person(MANAGER)
    page = {"amount": "5.50", "note": "Birthday", "once": str(uuid.uuid4()), "expires_at": "2099-01-01T00:00"}
    for _ in range(2):
        assert client.post(do_url(account, "grant"), page).status_code == 302
    page = {"amount": "-3", "note": "Granted twice", "once": str(uuid.uuid4())}
    for _ in range(2):
        assert client.post(do_url(account, "adjust"), page).status_code == 302
    assert numbers(account) == (Decimal("12.50"), 0)
    entry = account.entries.get(kind="adjusted")
    assert (entry.note, bool(entry.actor_name)) == ("Granted twice", True)


def test_what_cannot_be_taken_away_is_refused_with_a_reason(person, grant):
    account = grant("10")
    answer = person(MANAGER).post(do_url(account, "adjust"), {"amount": "-11", "note": "x"})
    assert answer.status_code == 409
    assert "Only €10.00 is available." in answer.content.decode()
    assert numbers(account) == (10, 0)


def test_customer_service_looks_and_changes_nothing(person, grant):
    account, client = grant("10"), person(SERVICE)
    for url in (
        reverse("admin:payments_creditaccount_changelist"),
        reverse("admin:payments_creditaccount_change", args=[account.pk]),
    ):
        page = client.get(url)
        assert (page.status_code, "1000 points (€10.00)" in page.content.decode()) == (200, True)
    for name in ("grant", "adjust"):
        assert client.post(do_url(account, name), {"amount": "5", "note": "x"}).status_code == 403
    assert client.get(reverse("admin:payments_creditaccount_add")).status_code == 403
    assert client.post(reverse("admin:payments_creditaccount_change", args=[account.pk]), {}).status_code == 403
    assert numbers(account) == (10, 0)


def test_a_manager_opens_an_account_for_a_first_grant(person, owner):
    client, data = person(MANAGER), {"owner": owner.pk, "kind": LOYALTY, "currency": "EUR", "balance": "99"}
    add = reverse("admin:payments_creditaccount_add")
    assert client.get(add).status_code == 200
    assert client.post(add, data).status_code == 302
    assert numbers(CreditAccount.objects.get(owner=owner)) == (0, 0)
    assert "has such an account already" in client.post(add, data).content.decode()


@pytest.mark.parametrize("accounts", [1, 4])
def test_the_list_takes_the_same_number_of_queries_for_any_number_of_accounts(
    person, accounts, django_assert_max_num_queries
):
    for _ in range(accounts):
        CreditAccount.objects.create(owner=factories.UserFactory(), kind=LOYALTY, currency="EUR")
    client = person(MANAGER)
    with django_assert_max_num_queries(16):
        client.get(reverse("admin:payments_creditaccount_changelist"))


def test_a_long_ledger_is_read_page_by_page(person, owner):
    account = CreditAccount.objects.create(owner=owner, kind=LOYALTY, currency="EUR")
    at = timezone.now()
    CreditEntry.objects.bulk_create(
        CreditEntry(account=account, kind="granted", amount=1, key=f"g{n}", note=f"Nr. {n:02d}", created_at=at)
        for n in range(40)
    )
    address, client = reverse("admin:payments_creditaccount_change", args=[account.pk]), person(SERVICE)
    newest = client.get(address).content.decode()
    assert [f"Nr. {n:02d}" in newest for n in (39, 15, 14)] == [True, True, False]
    older = client.get(address, {"before": newest.split("?before=")[1].split('"')[0]}).content.decode()
    assert [f"Nr. {n:02d}" in older for n in (15, 14, 0)] == [False, True, True]
    assert "?before=" not in older
    assert "Nr. 39" in client.get(address, {"before": "٣x"}).content.decode(), "nonsense in the address is no fault"
