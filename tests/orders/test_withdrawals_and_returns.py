"""Withdrawals, returns and undoing at the same units: every unit is awaited, refunded and answered once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orders import rules
from orders.models import (
    CancellationRequest,
    ExternalCall,
    Order,
    OrderLine,
    Status,
    Withdrawal,
)
from orders.processing import get_event_handler
from orders.processing.requesting import Terms, Wish
from orders.processing.withdrawing import withdrawal_reason
from payments import services as payments
from payments.models import DemoGatewayFault, Refund
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, User
from tests import factories
from tests.orders.asking import fresh
from tests.orders.external import ask, number, units
from tests.orders.fake_order_management import FakeOrderManagement, tell
from tests.orders.storefront import new_customer

Books = Callable[[], list[str]]
Work = Callable[[], int]
State = CancellationRequest.Status
S = ExternalCall.Status
pytestmark = pytest.mark.django_db


@pytest.fixture
def customer(db: None) -> User:
    return new_customer()


def declare(order: Order, lines: dict[int, int] | None = None) -> Withdrawal:
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada Lovelace", "number": number(order), "email": order.email}
    return handler.confirm_withdrawal(token=handler.state_withdrawal(**told, lines=lines).token)


def send_back(order: Order, customer: User, wanted: dict[int, int], **terms: Any) -> list[CancellationRequest]:
    wishes = [Wish(pk, n, "refund", withdrawal_reason()) for pk, n in wanted.items()]
    return get_event_handler(Actor.customer(customer)).request_cancellation(
        number=number(order), wishes=wishes, terms=Terms(**terms)
    )


# --- withdrawals, and what waits --------------------------------------------------------------------------------------


def test_what_was_withdrawn_from_cannot_be_undone_back_into_the_order(
    undoable: None, admin_actor: Actor, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    get_event_handler(admin_actor).cancel(number=number(order), reason="out_of_stock")
    assert fresh(order).undo_until
    declare(order)
    with pytest.raises(Refused) as no:
        get_event_handler(admin_actor).undo_cancellation(number=number(order))
    assert (no.value.code, fresh(order).status) == ("nothing_to_do", Status.CANCELLED)
    work()
    assert books() == []


def test_a_withdrawal_of_units_that_wait_for_the_other_system_is_not_lost(
    fake: FakeOrderManagement, customer: User, client: Client, work: Work, books: Books
) -> None:
    """One unit waits for their word, one has shipped; they say no after all."""
    fake.fault("pending")
    order = factories.place_order([("10.00", 2)], customer=customer, until="approved")
    line = order.lines.get().pk
    call = ask(order, customer, {line: 1})
    system = get_event_handler(Actor.system())
    system.start_preparing(number=number(order))
    get_event_handler(Actor.system()).take_payment(number=number(order))
    work()
    get_event_handler(Actor.system()).ship(number=number(order))
    row = declare(order)
    assert (row.units_of("back"), row.units_of("left"), row.status) == ({line: 1}, {line: 1}, "needs_person")
    tell(client, "cancellation.refused", key=str(call.uuid), message="It is packed.")
    work()
    call.refresh_from_db()
    assert (call.status, units(order)) == (S.REFUSED, [(0, 0, 1, 0)]), "free again, whatever else the line waits for"
    assert Job.objects.filter(kind="orders.external_conflict", state="needs_attention").count() == 1
    assert not Job.objects.filter(kind="orders.external_notice").exclude(state="done").exists()
    assert books() == []


def test_the_time_to_withdraw_does_not_run_while_units_wait_for_the_other_system() -> None:
    then = timezone.now() - timedelta(days=60)
    here = OrderLine(pk=1, quantity=1, shipped=1, delivered=1, delivered_at=then)
    waits = OrderLine(pk=2, quantity=1, withheld=1)
    assert rules.withdrawal_deadline([here, waits], rules.ReturnTerms()) is None


@pytest.mark.parametrize("zone", ["Africa/Cairo", "Europe/Berlin"])
def test_the_last_day_ends_at_midnight_where_the_clocks_are_turned_back_just_then(zone: str) -> None:
    """In Egypt the last hour of 29 October 2026 comes twice."""
    with timezone.override(zone):
        day = timezone.make_aware(datetime(2026, 10, 15, 12))
        last = rules.end_of_day(day, days=14)
        assert timezone.localtime(last.astimezone(UTC) + timedelta(seconds=1)).date().isoformat() == "2026-10-30"


# --- units of a return that come by several ways ----------------------------------------------------------------------


def test_units_withdrawn_from_after_a_part_of_a_return_has_come_are_all_awaited(
    customer: User, admin_actor: Actor, work: Work, books: Books
) -> None:
    """Two of three asked for, one of them inspected; then all that is left is withdrawn from."""
    order = factories.place_order([("10.00", 3)], customer=customer, until="delivered")
    line = order.lines.get().pk
    (request,) = send_back(order, customer, {line: 2})
    get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
    code = request.goods_return.code
    get_event_handler(admin_actor).inspect_return(code=code, found={request.pk: {"sellable": 1}})
    row = declare(order)
    assert row.goods_return is not None
    assert row.units_of("back") == {line: 2}
    get_event_handler(admin_actor).inspect_return(code=row.goods_return.code, found={request.pk: {"sellable": 2}})
    work()
    request.refresh_from_db()
    assert (units(order), request.status, fresh(order).status) == ([(0, 0, 3, 3)], "completed", Status.REFUNDED)
    assert books() == []


def test_a_parcel_whose_goods_a_withdrawal_has_taken_over_says_where_they_are_awaited(
    customer: User, admin_actor: Actor, books: Books
) -> None:
    order = factories.place_order([("10.00", 1)], customer=customer, until="delivered")
    (request,) = send_back(order, customer, {order.lines.get().pk: 1})
    get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
    row = declare(order)
    assert row.goods_return is not None
    with pytest.raises(Refused) as no:
        get_event_handler(admin_actor).receive_return(code=request.goods_return.code)
    assert (no.value.code, row.goods_return.code in str(no.value.remedy)) == ("return_not_awaited", True)
    assert books() == []


def test_two_withdrawals_of_one_line_in_two_parcels_await_all_their_units(
    customer: User, admin_actor: Actor, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 4)], customer=customer, until="delivered")
    line = order.lines.get().pk
    first = declare(order, {line: 2})
    assert first.goods_return is not None
    request = CancellationRequest.objects.get()
    get_event_handler(admin_actor).inspect_return(code=first.goods_return.code, found={request.pk: {"sellable": 1}})
    second = declare(order, {line: 1})
    assert second.goods_return is not None
    assert second.goods_return != first.goods_return
    # One of them is taken back at the counter, without the code: it is not awaited any more, nor in the way.
    get_event_handler(admin_actor).take_back(number=number(order), lines={line: (1, "sellable")})
    third = declare(order, {line: 1})
    assert (third.units_of("back"), third.units_of("gone")) == ({line: 1}, {})
    get_event_handler(admin_actor).inspect_return(code=second.goods_return.code, found={request.pk: {"sellable": 2}})
    work()
    request.refresh_from_db()
    assert (units(order), request.status) == ([(0, 0, 4, 4)], "completed")
    assert books() == []


def test_a_withdrawal_that_was_matched_late_still_awaits_all_its_units(
    customer: User, admin_actor: Actor, work: Work, books: Books
) -> None:
    """Between the declaration and its match, one unit was taken back at the counter."""
    order = factories.place_order([("10.00", 3)], customer=customer, until="delivered")
    line = order.lines.get().pk
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada", "number": f"order {order.number}", "email": "other@example.com"}
    row = handler.confirm_withdrawal(token=handler.state_withdrawal(**told).token)
    get_event_handler(admin_actor).take_back(number=number(order), lines={line: (1, "sellable")})
    row = get_event_handler(admin_actor).match_withdrawal(uuid=str(row.uuid), number=number(order))
    assert row.goods_return is not None
    request = CancellationRequest.objects.get()
    get_event_handler(admin_actor).inspect_return(code=row.goods_return.code, found={request.pk: {"sellable": 2}})
    work()
    assert (units(order), books()) == ([(0, 0, 3, 3)], [])


def test_points_are_given_only_for_goods_whose_customer_asked_for_points(
    customer: User, admin_actor: Actor, work: Work, books: Books
) -> None:
    """A return for points and a withdrawal come in one parcel: nobody asked for points for the other goods."""
    order = factories.place_order([("10.00", 1), ("5.00", 1)], customer=customer, until="delivered")
    one, two = order.lines.order_by("position")
    (asked,) = send_back(order, customer, {one.pk: 1}, as_points=True)
    row = declare(order)
    assert row.goods_return is not None
    other = CancellationRequest.objects.get(line=two)
    found = {asked.pk: {"sellable": 1}, other.pk: {"sellable": 1}}
    get_event_handler(admin_actor).inspect_return(code=row.goods_return.code, found=found)
    work()
    assert set(Refund.objects.values_list("destination", flat=True)) == {""}
    assert books() == []


def test_a_withdrawal_whose_last_request_is_answered_by_what_happens_is_answered(
    place: Any, store: Any, admin_actor: Actor, work: Work, books: Books
) -> None:
    """Made to order and not shipped: a person is asked, and cancels it on the order's page instead."""
    exempt = factories.stocked(store, return_exemption="made_to_order")
    order = place([exempt], store=store, until="preparing")
    row = declare(order)
    assert row.status == "needs_person"
    get_event_handler(admin_actor).cancel(number=number(order), reason="out_of_stock")
    row.refresh_from_db()
    assert (row.status, CancellationRequest.objects.get().status) == ("answered", State.COMPLETED)
    work()
    assert not Job.objects.filter(kind="orders.answer_withdrawal").exclude(state="done").exists()
    assert books() == []


def test_a_withdrawal_is_not_answered_by_what_is_undone_again(
    undoable: None, place: Any, store: Any, admin_actor: Actor, books: Books
) -> None:
    order = place([factories.stocked(store, return_exemption="made_to_order")], store=store, until="preparing")
    row, request = declare(order), CancellationRequest.objects.get()
    for verb, status in (("undo_cancellation", "needs_person"), ("complete_now", "answered")):
        get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
        row.refresh_from_db()
        assert row.status == "needs_person"
        getattr(get_event_handler(admin_actor), verb)(number=number(order))
        row.refresh_from_db()
        assert row.status == status
    assert books() == []


# --- a refund that failed for good ------------------------------------------------------------------------------------


def test_a_return_whose_refund_was_closed_as_failed_is_completed_by_a_person(
    customer: User, staff: Callable[..., User], store: Any, admin_actor: Actor, work: Work, books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], store=store, customer=customer, until="delivered")
    line = order.lines.get().pk
    (request,) = send_back(order, customer, {line: 1})
    desk = Actor.staff(staff("Store Manager", store))
    get_event_handler(desk).decide_request(request_id=request.pk, approve=True)
    DemoGatewayFault.objects.create(operation="refund", behaviour=DemoGatewayFault.Behaviour.DECLINE, remaining=9)
    get_event_handler(desk).inspect_return(code=request.goods_return.code, found={request.pk: {"sellable": 1}})

    def close(actor: Actor, note: str = "Bank transfer of 1 May.") -> str:
        try:
            get_event_handler(actor).close_request(request_id=request.pk, note=note)
        except Refused as no:
            return no.code
        return ""

    assert close(desk) == "nothing_to_do", "it is on its way"
    work()
    request.refresh_from_db()
    assert (request.status, close(desk)) == (State.MANUEL_REFUND_NEED, "nothing_to_do"), "the inbox waits for a person"
    (row,) = payments.transactions_of(refund=Refund.objects.get())
    payments.close_as_failed(transaction_id=row.pk, note="The card is gone.", actor_name="Ada")
    work()
    assert [close(Actor.staff(staff(role, store))) for role in (None, "Fulfilment")] == ["not_allowed"] * 2
    assert close(desk, " ") == "note_needed"
    page = Client()
    page.force_login(desk.user)
    url = reverse("admin:orders_cancellationrequest_do", args=(request.pk, "close"))
    assert b"How the customer got the money" in page.get(url).content
    page.post(url, {"note": "Bank transfer of 1 May.", "version": fresh(order).version})
    request.refresh_from_db()
    assert (request.status, request.decision_note) == (State.COMPLETED, "Bank transfer of 1 May.")
    assert close(desk) == "nothing_to_do"
    assert send_back(order, customer, {line: 1}), "the line's other unit can be sent back again"
    assert books() == []


# --- as many queries for many lines as for one ------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["withdraw", "withdraw_late", "take_back", "inspect", "ship", "cancel"])
def test_queries_do_not_grow_with_the_lines_that_customers_asked_about(
    verb: str, customer: User, admin_actor: Actor, books: Books
) -> None:
    def count(lines: int) -> int:
        until = "paid" if verb in {"ship", "cancel"} else "delivered"
        order = factories.place_order([("10.00", 1)] * lines, customer=customer, until=until)
        pks = [line.pk for line in order.lines.all()]
        staff = get_event_handler(admin_actor)
        requests = []
        if until == "paid":
            wishes = [Wish(pk, 1, "cancel", withdrawal_reason()) for pk in pks]
            get_event_handler(Actor.customer(customer)).request_cancellation(number=number(order), wishes=wishes)
        elif not verb.startswith("withdraw"):
            requests = send_back(order, customer, dict.fromkeys(pks, 1))
            for request in requests:
                get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
        found = {request.pk: {"sellable": 1} for request in requests}
        late = timedelta(days=40 if verb == "withdraw_late" else 0)
        with (
            time_machine.travel(timezone.now() + late),
            CaptureQueriesContext(
                connection,
            ) as queries,
        ):
            if verb.startswith("withdraw"):
                declare(order)
            elif verb == "take_back":
                staff.take_back(number=number(order), lines=dict.fromkeys(pks, (1, "sellable")))
            elif verb == "inspect":
                staff.inspect_return(code=requests[0].goods_return.code, found=found)
            elif verb == "ship":
                staff.ship(number=number(order))
            else:
                staff.cancel(number=number(order), reason="out_of_stock")
        return len(queries)

    count(1)
    assert count(2) == count(6)
    assert books() == []
