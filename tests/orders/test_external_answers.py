"""What the order management system tells by itself: signed, each once, in any order, and cancellations of its own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from orders.models import CancellationReason, CancellationRequest, ExternalCall, ExternalNotice, Order, Status
from orders.processing import EventHandler
from orders.processing.calls import call_key
from shop import jobs
from shop.models import Job, Maintenance, User
from tests import factories
from tests.orders.fake_order_management import SECRET, FakeOrderManagement, notice, tell
from tests.orders.storefront import Browser, new_customer

pytestmark = pytest.mark.django_db
Books = Callable[[], list[str]]
S = ExternalCall.Status
WEBHOOK = "/orders/management/webhook/"


@pytest.fixture
def customer(db: None) -> User:
    return new_customer()


def asked(order: Order, customer: User) -> ExternalCall:
    """The customer has asked to cancel all of it; the call that came of it."""
    reason = CancellationReason.objects.get(code="changed_mind").pk
    items = [{"order_item": x.pk, "cancellation_type": "cancel", "reason": reason} for x in order.lines.all()]
    assert Browser(customer).cancel(order, *items).status_code in {200, 204}
    return ExternalCall.objects.get(order=order)


def cancelled(order: Order) -> list[int]:
    return [line.cancelled for line in order.lines.order_by("position")]


def outcomes() -> list[tuple[str, str]]:
    return list(ExternalNotice.objects.order_by("pk").values_list("type", "outcome"))


# fault → what the call is before its answers come
AFTER = {"pending": S.ACCEPTED, "500_deaf": S.UNKNOWN, "refuse": S.REFUSED}


@pytest.mark.parametrize("fault", AFTER)
def test_an_answer_after_the_fallback_settles_it_once_however_often_and_in_whatever_order(
    fault: str, fake: FakeOrderManagement, customer: User, client: Client, work: Callable[[], int], books: Books
) -> None:
    told = ["order.cancelled", "cancellation.accepted", "order.cancelled"]
    for order_of_notices in sorted(set(itertools.permutations(told))):
        fake.fault(fault)
        order = factories.place_order([("10.00", 2), ("5.00", 1)], customer=customer, until="approved")
        call = asked(order, customer)
        assert call.status == AFTER[fault]
        for kind in order_of_notices:
            assert tell(client, kind, key=str(call.uuid), order=order.number).status_code == 200
            work()
        call.refresh_from_db()
        assert (call.status, cancelled(order)) == (S.DONE, [2, 1])
        assert order.shipping_events.filter(event_type__code="cancelled").count() == 1
        requests = set(CancellationRequest.objects.filter(order=order).values_list("status", flat=True))
        assert requests == (set() if fault == "pending" else {"completed"})
        assert not Job.objects.filter(key=call_key(call)).exclude(state="done").exists(), (
            "nothing is looked up any more"
        )
    assert len(set(fake.posts())) == len(fake.posts()), "nothing was asked again"
    assert books() == []


def test_the_same_notice_again_is_kept_once(
    fake: FakeOrderManagement, customer: User, client: Client, work: Callable[[], int], books: Books
) -> None:
    order = factories.place_order([("10.00", 3)], customer=customer)
    items = [{"line": order.lines.get().pk, "units": 1}]
    for _n in range(3):
        answer = tell(client, "order.cancelled", event_id="msg_1", order=order.number, items=items)
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        work()
    assert (cancelled(order), outcomes()) == ([1], [("order.cancelled", "done")])
    assert books() == []


def test_a_no_makes_a_request_and_a_yes_after_it_completes_that(
    fake: FakeOrderManagement, customer: User, client: Client, work: Callable[[], int], books: Books
) -> None:
    fake.fault("pending")
    order = factories.place_order([("10.00", 2)], customer=customer, until="approved")
    key = str(asked(order, customer).uuid)
    tell(client, "cancellation.refused", key=key, message="It is packed.")
    work()
    assert (Order.objects.get(pk=order.pk).status, CancellationRequest.objects.get().status) == ("approved", "open")
    assert ExternalCall.objects.get().reply == "It is packed."
    tell(client, "order.cancelled", key=key)
    work()
    assert (cancelled(order), CancellationRequest.objects.get().status) == ([2], "completed")
    tell(client, "cancellation.refused", key=key)
    work()
    assert ExternalCall.objects.get().status == S.DISPUTED, "a no after a yes is for people"
    assert Job.objects.filter(kind="orders.external_conflict", state="needs_attention").count() == 1
    assert (cancelled(order), books()) == ([2], [])


def test_what_began_over_there_is_cancelled_here_and_not_reported_back(
    fake: FakeOrderManagement, customer: User, client: Client, work: Callable[[], int], books: Books
) -> None:
    order = factories.place_order([("10.00", 2), ("5.00", 2)], customer=customer, until="paid")
    first, second = order.lines.order_by("position")
    tell(client, "order.cancelled", order=order.number, id="c-1", items=[{"sku": first.sku, "units": 1}])
    tell(client, "order.cancelled", order=order.number, id="c-1", items=[{"sku": first.sku, "units": 1}])
    work()
    assert cancelled(order) == [1, 0], "another notice of the same cancellation"
    tell(client, "order.cancelled", order=order.number, items=[{"line": second.pk, "units": 5}])
    work()
    assert cancelled(order) == [1, 2]
    assert "2 of 5 units" in Job.objects.get(state="needs_attention").last_error, "what does not fit is for people"
    tell(client, "order.cancelled", order=order.number)
    work()
    assert (cancelled(order), Order.objects.get(pk=order.pk).status) == ([2, 2], Status.CANCELLED)
    assert order.journal.latest("sequence").actor_name
    assert not ExternalCall.objects.exists()
    assert fake.calls == []
    assert books() == []


def test_the_answer_to_a_report_settles_it(
    fake: FakeOrderManagement, client: Client, system: EventHandler, work: Callable[[], int], books: Books
) -> None:
    one, two = (factories.place_order([("10.00", 2)]) for _n in range(2))
    fake.fault("pending", times=2)
    for order, kind in ((one, "order.cancelled"), (two, "cancellation.refused")):
        system.cancel(number=order.number or "", lines={order.lines.get().pk: 1})
        work()
        call = ExternalCall.objects.get(order=order)
        assert call.status == S.ACCEPTED
        tell(client, kind, key=str(call.uuid), message="Too late.")
        Job.objects.filter(key=call_key(call), state="waiting").update(run_at=timezone.now())
        work()
    assert list(ExternalCall.objects.order_by("pk").values_list("status", flat=True)) == [S.DONE, S.REFUSED]
    assert Job.objects.get(state="needs_attention").last_error == "Too late."
    assert (cancelled(one), cancelled(two), books()) == ([1], [1], [])


def test_what_nobody_knows_is_kept_ignored_and_said(
    fake: FakeOrderManagement, customer: User, client: Client, work: Callable[[], int]
) -> None:
    order = factories.place_order(customer=customer)
    before = order.journal.count()
    for kind, data in (
        ("order.cancelled", {"key": "11111111-1111-4111-8111-111111111111"}),
        ("order.cancelled", {"key": "no uuid"}),
        ("order.cancelled", {"order": "999999999999"}),
        ("order.cancelled", {"order": {"a": 1}}),
        ("order.cancelled", {"order": order.number, "items": [{"sku": "nothing", "units": 1}, 5, {"units": True}]}),
        ("order.cancelled", {"order": order.number, "items": "all"}),
        ("cancellation.refused", {"order": order.number}),
        ("weather.changed", {"order": order.number}),
    ):
        assert tell(client, kind, **data).status_code == 200
    work()
    assert {outcome for _kind, outcome in outcomes()} == {"ignored"}
    assert all(ExternalNotice.objects.values_list("told", flat=True))
    assert order.journal.count() == before
    assert not Job.objects.filter(state="needs_attention").exists()


def test_a_notice_that_is_not_theirs_is_refused_and_kept_nowhere(fake: FakeOrderManagement, client: Client) -> None:
    def send(text: Any, headers: dict[str, str]) -> int:
        return client.post(WEBHOOK, text, content_type="application/json", headers=headers).status_code

    other = "whsec_" + "A" * 43 + "="
    good, headers = notice("order.cancelled", order="1")
    assert send(*notice("order.cancelled", secret=other)) == 401
    assert send(*notice("order.cancelled", at=datetime.now(tz=UTC) - timedelta(minutes=6))) == 401
    assert send(good.replace("1", "2"), headers) == 401, "the body is signed"
    assert send(good, {}) == 401
    assert send(good, {**headers, "webhook-signature": "v1"}) == 401
    assert send("x" * 70_000, headers) == 413
    assert send("\xff".encode("latin-1"), headers) == 401
    assert client.get(WEBHOOK).status_code == 405
    assert not ExternalNotice.objects.exists()


@pytest.mark.parametrize("body", ["[]", "5", '{"type": 5, "data": {}}', '{"type": "x", "data": []}', "{", '{"a":1}'])
def test_what_is_signed_and_no_notice_is_400(body: str, fake: FakeOrderManagement, client: Client) -> None:
    now = datetime.now(tz=UTC)
    headers = {
        "webhook-id": "x",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("x", now, body),
    }
    assert client.post(WEBHOOK, body, content_type="application/json", headers=headers).status_code == 400
    assert not ExternalNotice.objects.exists()


def test_null_characters_and_deep_nesting_are_400(fake: FakeOrderManagement, client: Client) -> None:
    deep: Any = 1
    for _n in range(50):
        deep = [deep]
    for data in ({"order": "a\0b"}, {"order": deep}):
        text, headers = notice("order.cancelled", **data)
        assert client.post(WEBHOOK, text, content_type="application/json", headers=headers).status_code == 400
    assert json.loads(text)["data"]


def test_without_another_system_the_door_is_not_there(client: Client) -> None:
    text, headers = notice("order.cancelled")
    assert client.post(WEBHOOK, text, content_type="application/json", headers=headers).status_code == 404


def test_a_notice_during_maintenance_is_worked_off(
    fake: FakeOrderManagement, customer: User, client: Client, work: Callable[[], int], books: Books
) -> None:
    fake.fault("pending")
    order = factories.place_order(customer=customer)
    key = str(asked(order, customer).uuid)
    Maintenance.objects.create(started_at=timezone.now())
    tell(client, "order.cancelled", key=key)
    work()
    assert (Order.objects.get(pk=order.pk).status, books()) == (Status.CANCELLED, [])
    assert jobs.backlog(as_of=timezone.now()).needs_attention == 0
