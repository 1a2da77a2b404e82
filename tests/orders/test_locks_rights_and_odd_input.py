"""Hard cases of locks, rights, amounts and odd input: each was wrong before it was mended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient
from standardwebhooks import Webhook

from notifications.models import WebhookEndpoint
from notifications.services import webhooks
from orders.models import (
    ApprovalLevel,
    ApprovalPolicy,
    CancelRule,
    ExternalNotice,
    Order,
    RecurringOrder,
    ReturnPolicy,
    Withdrawal,
)
from orders.processing import get_event_handler
from orders.processing.base import UnknownReason
from orders.processing.turns import take_turns
from orders.processing.withdrawing import ANSWER
from payments import services as payments
from payments.gateways import GatewayNotice
from payments.models import DemoGatewayFault, Payment, Transaction, WebhookReceived
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories
from tests.orders.fake_order_management import SECRET, FakeOrderManagement
from tests.orders.programs import Asker

Work = Callable[[], int]
Books = Callable[[], list[str]]
Staff = Callable[..., User]
AtOnce = Callable[..., list[Any]]
pytestmark = pytest.mark.django_db


def number(order: Order) -> str:
    return order.number or ""


def until_somebody_waits_for_us() -> None:
    """On PostgreSQL: until another transaction stands before a row that this one has locked."""
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    with connection.cursor() as cursor:
        for _try in range(500):
            cursor.execute(waits)
            if cursor.fetchone():
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits")


# --- locks: always in one order ---------------------------------------------------------------------------------------


@pytest.fixture
def declined_refund(work: Work) -> Transaction:
    """A refund that the gateway has declined: its job waits for a person."""
    order = factories.place_order([("10.00", 2)], until="paid")
    DemoGatewayFault.objects.create(operation="refund", behaviour="decline", remaining=1)
    get_event_handler(Actor.system()).refund(number=number(order), amount=Decimal("5.00"), note="late")
    work()
    row = Transaction.objects.get(kind="refund")
    assert row.status == Transaction.Status.NEEDS_PERSON
    return row


@pytest.mark.race
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["done by hand", "closed as failed"])
def test_a_person_and_the_gateways_news_settle_a_refund_without_hanging_each_other(
    on_postgres: bool, declined_refund: Transaction, at_once: AtOnce, books: Books, way: str
) -> None:
    if not on_postgres:
        pytest.skip("SQLite has one lock for everything")
    job = Job.objects.get(kind=payments.SEND, state=Job.State.NEEDS_ATTENTION)
    held = threading.Event()

    def news() -> None:
        """As `take_in`: the payment first, then what waits in the inbox."""
        with transaction.atomic():
            Payment.objects.select_for_update(no_key=True).get(pk=declined_refund.payment_id)
            held.set()
            until_somebody_waits_for_us()
            jobs.retry_by_hand(job.pk)

    def person() -> None:
        held.wait()
        if way == "done by hand":
            jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="bank 4711")
        else:
            payments.close_as_failed(transaction_id=declined_refund.pk, note="asked twice", actor_name="Ada")

    heard, did = at_once(news, person)
    assert heard is None
    assert isinstance(did, Refused), did  # the other one was first
    declined_refund.refresh_from_db()
    assert declined_refund.status == Transaction.Status.NEEDS_PERSON
    assert books() == []


@pytest.mark.race
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_withdrawal_is_answered_once_though_its_page_and_the_inbox_answer_it_at_the_same_moment(
    on_postgres: bool, at_once: AtOnce, work: Work, staff: Staff
) -> None:
    if not on_postgres:
        pytest.skip("SQLite has one lock for everything")
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada Lovelace", "number": "1", "email": "ada@example.com"}
    row = handler.confirm_withdrawal(token=handler.state_withdrawal(**told).token)  # of no order that there is
    work()
    job = Job.objects.get(kind=ANSWER, state=Job.State.NEEDS_ATTENTION)
    manager = Actor.staff(staff("Admin"))
    held = threading.Event()

    def page() -> None:
        with transaction.atomic():
            Withdrawal.objects.select_for_update(no_key=True).get(pk=row.pk)
            held.set()
            until_somebody_waits_for_us()
            get_event_handler(manager).answer_withdrawal(uuid=str(row.uuid), note="by its page")

    def inbox() -> None:
        held.wait()
        jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="by the inbox")

    answered, did = at_once(page, inbox)
    assert answered is None
    assert isinstance(did, jobs.JobGone), did
    row.refresh_from_db()
    assert row.answer == "by its page"


@pytest.mark.race
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_orders_brought_to_a_status_together_do_not_hang_one_that_is_prepared_alone(
    on_postgres: bool, at_once: AtOnce, staff: Staff
) -> None:
    """Both number a picking slip: a series is locked after all orders, not between two of them."""
    if not on_postgres:
        pytest.skip("SQLite has one lock for everything")
    store = factories.StoreFactory()
    first, second = (factories.place_order(store=store, until="approved") for _n in range(2))
    asker, alone = Asker(staff("Store Manager", store)), Actor.staff(staff("Store Manager", store))
    held = threading.Event()

    def one() -> None:
        with transaction.atomic():
            Order.objects.select_for_update(no_key=True).get(pk=second.pk)
            held.set()
            until_somebody_waits_for_us()
            get_event_handler(alone).start_preparing(number=number(second))

    def many() -> Any:
        held.wait()
        body = {"orders": [number(first), number(second)], "status": "preparing"}
        return asker.send("POST", "/api/v1/orders/bulk_update", body)

    prepared, answer = at_once(one, many)
    assert prepared is None
    assert answer.status_code == 200, answer
    assert {row["status"] for row in answer.json()["results"]} == {"preparing"}


@pytest.mark.race
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_withdrawal_and_who_counts_for_its_order_do_not_hang_each_other_though_their_turns_share_a_slot(
    on_postgres: bool, at_once: AtOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A withdrawal waits its turn before it locks the order, everybody else afterwards."""
    if not on_postgres:
        pytest.skip("SQLite has one lock for everything")
    monkeypatch.setattr("orders.processing.turns.SLOTS", 1)
    order = factories.place_order()
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada Lovelace", "number": number(order), "email": order.email}
    token = handler.state_withdrawal(**told).token
    held = threading.Event()

    def staff_cancels() -> None:
        with transaction.atomic():
            Order.objects.select_for_update(no_key=True).get(pk=order.pk)
            held.set()
            until_somebody_waits_for_us()
            take_turns(["store:1"])

    def customer_withdraws() -> Withdrawal:
        held.wait()
        return get_event_handler(Actor.guest("")).confirm_withdrawal(token=token)

    counted, row = at_once(staff_cancels, customer_withdraws)
    assert counted is None
    assert row.status == Withdrawal.Status.CARRIED_OUT


@pytest.mark.race
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_withdrawal_that_completes_what_waited_takes_its_turn_before_it_ends_the_series(
    on_postgres: bool, at_once: AtOnce, staff: Staff
) -> None:
    """Whoever cancels counts first and ends a series then; what could still be undone ends one as well."""
    if not on_postgres:
        pytest.skip("SQLite has one lock for everything")
    CancelRule.objects.create(undo_minutes=30)
    ApprovalPolicy.objects.create(name="Many", level=ApprovalLevel.objects.get(level=1), store_per_hour=100)
    order = factories.place_order([("10.00", 2)])
    system = get_event_handler(Actor.system())
    series = system.start_recurring(number=number(order), unit="month")
    get_event_handler(Actor.staff(staff("Admin"))).cancel(
        number=number(order), lines={order.lines.get().pk: 1}, reason="out_of_stock", ends_series=True
    )
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada Lovelace", "number": number(order), "email": order.email}
    token = handler.state_withdrawal(**told).token
    held = threading.Event()

    def staff_cancels_another_order_of_the_series() -> None:
        with transaction.atomic():
            take_turns([f"store:{order.store_id}"])
            held.set()
            until_somebody_waits_for_us()
            RecurringOrder.objects.select_for_update(no_key=True).get(pk=series.pk)

    def customer_withdraws() -> Withdrawal:
        held.wait()
        return get_event_handler(Actor.guest("")).confirm_withdrawal(token=token)

    cancelled, row = at_once(staff_cancels_another_order_of_the_series, customer_withdraws)
    assert cancelled is None
    assert row.status == Withdrawal.Status.CARRIED_OUT
    assert RecurringOrder.objects.get().is_ended


def test_many_orders_are_locked_in_one_order_however_they_are_named(
    system: Any,
) -> None:
    """Also where nothing is counted: two runs with the same orders would hang each other otherwise."""
    first, second = (factories.place_order() for _n in range(2))
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        system.lock_in_order([number(second), number(first)])
    assert len(queries) == 1
    assert "ORDER BY" in queries[0]["sql"]


# --- rights: staff of one store, and another store's ------------------------------------------------------------------


@pytest.fixture
def manager(staff: Staff, store: Store) -> Client:
    """A manager of `store`, logged in at the desk."""
    client = Client()
    client.force_login(staff("Store Manager", store))
    return client


def endpoint_of(store: Store | None, name: str) -> WebhookEndpoint:
    fields = {"url": "https://hooks.example.com/", "events": ["order.shipped"], "secret": webhooks.new_secret()}
    return WebhookEndpoint.objects.create(name=name, store=store, created_at=timezone.now(), **fields)


def test_staff_do_not_read_in_a_filter_which_systems_other_stores_are_connected_to(
    manager: Client, store: Store
) -> None:
    for where, name in ((store, "Ours"), (None, "Everybody's"), (factories.StoreFactory(), "Rival ERP")):
        endpoint_of(where, name)
    page = manager.get(reverse("admin:notifications_webhookdelivery_changelist"))
    assert page.status_code == 200
    assert "Ours" in page.text
    assert "Everybody" in page.text
    assert "Rival ERP" not in page.text


@pytest.mark.parametrize("whose", ["another store's", "all stores'"])
def test_a_manager_writes_return_policies_of_their_own_store_only(manager: Client, store: Store, whose: str) -> None:
    other = factories.StoreFactory()
    terms = {"return_days": "0", "withdrawal_days": "14", "fee": "99.00", "currency": "EUR"}
    begins = {"valid_from_0": "2099-01-01", "valid_from_1": "00:00:00"}
    add = reverse("admin:orders_returnpolicy_add")
    before = ReturnPolicy.objects.count()
    answer = manager.post(add, {"store": other.pk if whose == "another store's" else "", **terms, **begins})
    assert answer.status_code == 200  # the form again, with what is wrong
    assert ReturnPolicy.objects.count() == before
    assert manager.post(add, {"store": store.pk, **terms, **begins}).status_code == 302
    assert ReturnPolicy.objects.get(fee=99).store == store


def test_a_manager_does_not_change_the_return_policy_of_other_stores_or_of_all(manager: Client, store: Store) -> None:
    begins = timezone.now() + timedelta(days=30)
    everybodys = ReturnPolicy.objects.create(valid_from=begins, currency="EUR")
    others = ReturnPolicy.objects.create(valid_from=begins, currency="EUR", store=factories.StoreFactory())
    change = {pk: reverse("admin:orders_returnpolicy_change", args=[pk]) for pk in (everybodys.pk, others.pk)}
    assert manager.get(change[everybodys.pk]).status_code == 200  # to look at
    assert manager.post(change[everybodys.pk], {"return_days": "0"}).status_code == 403
    assert manager.get(change[others.pk]).status_code == 302  # there is no such policy
    # Whoever works in all stores does.
    admin = Client()
    admin.force_login(factories.UserFactory(is_staff=True, is_superuser=True))
    assert 'name="return_days"' in admin.get(change[others.pk]).text


# --- amounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", ["1E+30", "1E+999999", "Infinity", "NaN", "-1", "0", "0.001", "1E-30"])
def test_an_amount_that_no_currency_has_is_refused_in_words(system: Any, amount: str) -> None:
    order = factories.place_order(until="paid")
    for verb in (system.refund, system.record_payment):
        with pytest.raises(Refused) as no:
            verb(number=number(order), amount=Decimal(amount), note="x")
        assert no.value.code in {"bad_amount", "amount_too_large", "nothing_to_do"}


@pytest.mark.parametrize(("currency", "kept"), [("EUR", "0.005"), ("JPY", "0.5"), ("KWD", "0.0001")])
def test_what_is_kept_of_a_return_is_an_amount_of_its_currency(
    system: Any, books: Books, currency: str, kept: str
) -> None:
    order = factories.place_order([("100", 2)], store=factories.StoreFactory(currency=currency), until="delivered")
    lines = {order.lines.get().pk: (1, "sellable")}
    with pytest.raises(Refused) as no:
        system.take_back(number=number(order), lines=lines, deduction=Decimal(kept))
    assert no.value.field == "deduction"
    assert books() == []


# --- odd input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["9" * 5000, "²", "٣", "9" * 19], ids=["long", "square", "arabic", "no id"])
def test_a_reason_that_is_no_id_is_an_unknown_reason(system: Any, reason: str) -> None:
    order = factories.place_order()
    with pytest.raises(UnknownReason):
        system.cancel(number=number(order), reason=reason)


@pytest.mark.parametrize(
    "query",
    ["placed_until=9999-12-31", "placed_from=0001-01-01", "placed_from=0001-01-01&placed_until=9999-12-31"],
)
def test_the_ends_of_the_calendar_are_no_days_to_look_for(manager: Client, query: str) -> None:
    assert manager.get(f"{reverse('admin:orders_order_changelist')}?{query}").status_code == 200


@pytest.mark.parametrize("query", ["status=%00", "q=%00", "%00=1", "store=1&placed=%00"])
def test_a_null_character_in_an_address_of_the_desk_is_the_browsers_fault(manager: Client, query: str) -> None:
    for name in ("orders_order", "payments_transaction", "orders_approval", "orders_bulkrun"):
        assert manager.get(f"{reverse(f'admin:{name}_changelist')}?{query}").status_code == 400


def test_a_gateways_notice_with_what_no_database_holds_is_kept_all_the_same() -> None:
    body = {"name": "Ada\x00", "half\ud800": ["\udfff", {"n": 4242424242424242}], "fine": "é 😀", "amount": 5}
    notice = GatewayNotice(event_id="evt_1", kind="charge.refunded", body=body)
    assert payments.receive(gateway="demo", notice=notice, as_of=timezone.now())
    kept = WebhookReceived.objects.get().body
    assert kept == {"name": "Ada?", "half?": ["?", {"n": "•••• 4242"}], "fine": "é 😀", "amount": 5}


def test_half_a_character_in_a_name_of_the_body_is_the_clients_fault() -> None:
    client = APIClient()
    raw = '{"payment_details": {"\\ud800": "x"}}'
    answer = client.generic("POST", "/api/v1/purchase/", raw, "application/json", headers={"Idempotency-Key": "1"})
    assert answer.status_code == 400
    assert "half a character" in answer.json()["non_field_errors"][0]


def test_half_a_character_in_a_notice_of_the_order_management_system_is_no_notice(fake: FakeOrderManagement) -> None:
    now, body = datetime.now(tz=UTC), '{"type": "order.cancelled", "data": {"order": "1", "message": "\\ud800"}}'
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, body),
    }
    answer = Client().post("/orders/management/webhook/", body, content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert not ExternalNotice.objects.exists()
