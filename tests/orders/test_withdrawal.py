"""Withdrawals: until when, what becomes of each unit, once, and whatever else happens to the order meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from inventory.models import ReturnExemption
from notifications.models import Message
from orders import rules
from orders.models import (
    Cancellation,
    CancellationRequest,
    CancelRule,
    Facts,
    JournalEntry,
    Order,
    OrderLine,
    Return,
    ReturnPolicy,
    Status,
    Withdrawal,
)
from orders.processing import EventHandler, get_event_handler
from orders.processing.requesting import Wish
from orders.processing.withdrawing import withdrawal_reason
from orders.tasks import work_off_queue
from payments.models import Payment
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Maintenance
from tests import factories

Place = Callable[..., Order]
Books = Callable[[], list[str]]
Work = Callable[[], int]
State = CancellationRequest.Status


# --- until when -------------------------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return timezone.make_aware(datetime.fromisoformat(text))


def line(pk: int = 1, quantity: int = 1, *, delivered_at: str = "", **counters: Any) -> OrderLine:
    made = OrderLine(pk=pk, quantity=quantity, name=f"Thing {pk}", **counters)
    if delivered_at:
        made.shipped = made.delivered = counters.get("shipped", quantity)
        made.delivered_at = at(delivered_at)
    return made


TERMS = rules.ReturnTerms()


@pytest.mark.parametrize(
    "delivered, until",
    [
        ("2026-06-01T23:30", "2026-06-15"),  # a Monday: two weeks later is one, too
        ("2026-06-05T08:00", "2026-06-19"),
        ("2026-06-06T08:00", "2026-06-22"),  # its last day is a Saturday
        ("2026-06-07T08:00", "2026-06-22"),  # a Sunday
        ("2026-10-16T12:00", "2026-10-30"),  # the clocks are turned back in between
        ("2026-03-20T12:00", "2026-04-03"),  # … and forward
    ],
)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
def test_it_is_possible_until_the_end_of_the_fourteenth_day_or_of_the_next_working_day(
    delivered: str, until: str, zone: str
) -> None:
    with timezone.override(zone):
        deadline = rules.withdrawal_deadline([line(delivered_at=delivered)], TERMS)
        assert deadline is not None
        assert f"{timezone.localtime(deadline):%Y-%m-%d %H:%M}" == f"{until} 23:59"


def test_it_runs_from_the_last_parcel_and_not_before_all_have_arrived() -> None:
    first, last = line(1, delivered_at="2026-06-01T10:00"), line(2, delivered_at="2026-06-10T10:00")
    assert rules.withdrawal_deadline([first, last], TERMS) == rules.withdrawal_deadline([last], TERMS)
    for waiting in (line(3), line(3, shipped=1)):
        assert rules.withdrawal_deadline([first, waiting], TERMS) is None
    gone = line(3, cancelled=1)
    assert rules.withdrawal_deadline([first, gone], TERMS) == rules.withdrawal_deadline([first], TERMS)


def test_the_clock_says_how_it_stands() -> None:
    arrived, waiting = line(1, delivered_at="2026-06-01T10:00"), line(2, 3, shipped=1)
    exempt = line(4, delivered_at="2026-06-01T10:00", return_exemption=ReturnExemption.PERISHABLE)

    def clock(*lines: OrderLine, now: str) -> tuple[str, int, int]:
        made = rules.withdrawal_clock(Facts(Order(), list(lines), [], []), TERMS, as_of=at(now))
        return made.state, made.days_left, made.not_arrived

    assert clock(arrived, now="2026-06-12T09:00") == ("running", 3, 0)
    assert clock(arrived, now="2026-06-15T23:59") == ("running", 0, 0)
    assert clock(arrived, now="2026-06-16T00:00") == ("over", 0, 0)
    assert clock(arrived, waiting, now="2027-06-16T00:00") == ("waiting", 0, 3)
    assert clock(exempt, now="2026-06-02T00:00")[0] == "none"
    assert clock(line(5, cancelled=1), now="2026-06-02T00:00")[0] == "none"


def test_each_unit_goes_where_the_law_and_its_place_say() -> None:
    lines = [
        line(1, 4, shipped=2, cancelled=1),
        line(2, 3, shipped=3),
        line(3, 2, return_exemption=ReturnExemption.MADE_TO_ORDER),
        line(4, 1, shipped=1, returned=1),
    ]

    def plan(wanted: dict[int, int] | None, **coming: int) -> rules.WithdrawalPlan:
        facts = Facts(Order(), lines, [], [])
        there = {int(pk[1:]): n for pk, n in coming.items()}
        return rules.plan_withdrawal(facts, wanted, TERMS, coming=there, declared_at=at("2026-06-01T00:00"))

    all_of_it = plan(None)
    assert (all_of_it.cancel, all_of_it.back) == ({1: 1}, {1: 2, 2: 3})
    assert (all_of_it.ask_cancel, all_of_it.ask_back, all_of_it.gone) == ({3: 2}, {}, {})
    some = plan({1: 2, 2: 2, 4: 1}, _2=2)
    assert (some.cancel, some.back, some.gone) == ({1: 1}, {1: 1, 2: 1}, {2: 1, 4: 1})


# --- what happens -----------------------------------------------------------------------------------------------------


def declare(order: Order, lines: dict[int, int] | None = None, **more: Any) -> Withdrawal:
    """Both steps, as a guest takes them."""
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada Lovelace", "number": order.number or "", "email": order.email, **more}
    return handler.confirm_withdrawal(token=handler.state_withdrawal(**told, lines=lines).token)


def units(order: Order) -> list[tuple[int, ...]]:
    return [(x.cancelled, x.shipped, x.returned, x.refunded) for x in order.lines.order_by("position")]


pytest_db = pytest.mark.django_db


@pytest_db
@pytest.mark.parametrize("until", ["", "approved", "preparing", "paid"])
def test_what_has_not_shipped_is_cancelled_whatever_the_shops_rules_say(
    until: str, place: Place, settings: Any, work: Work, books: Books
) -> None:
    settings.EXTRA_CANCEL_RULES = {"hour_gap": {"is_active": True, "time": 0}}
    settings.CANCELLATION_FALLBACK_RULES = {"status": False, "expired": False}
    order = place([("10.00", 2), ("5.00", 1)], shipping="4.90", until=until)
    with time_machine.travel(order.placed_at + timedelta(hours=1), tick=False):
        row = declare(order)
        work()
    order.refresh_from_db()
    assert (row.status, row.in_time, row.deadline) == (Withdrawal.Status.CARRIED_OUT, True, None)
    assert (order.status, units(order)) == (
        Status.CANCELLED,
        [(2, 0, 0, units(order)[0][3]), (1, 0, 0, units(order)[1][3])],
    )
    payment = Payment.objects.get(reference=order.number)
    # All of it, with the shipping.
    assert (payment.refunded, payment.voided) == ((order.total, 0) if until == "paid" else (0, order.total))
    cancellation = Cancellation.objects.get(order=order)
    assert (cancellation.reason, cancellation.actor_kind, cancellation.undo_until) == (
        withdrawal_reason(),
        "customer",
        None,
    )
    assert books() == []


@pytest_db
@pytest.mark.parametrize("until", ["shipped", "delivered"])
def test_what_has_shipped_is_awaited_and_its_money_follows_without_a_fee(
    until: str, place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    ReturnPolicy.objects.create(fee=Decimal("7.00"), needs_pickup=True, valid_from=timezone.now() - timedelta(days=1))
    order = place([("10.00", 2)], shipping="4.90", until=until)
    first = order.lines.get()
    row = declare(order, {first.pk: 1})
    request = CancellationRequest.objects.get()
    assert (row.status, request.status, request.quantity) == (Withdrawal.Status.CARRIED_OUT, State.APPROVED, 1)
    assert row.goods_return is not None
    assert row.goods_return.is_withdrawal
    # The other unit too: the same parcel, the same code.
    again = declare(order)
    request.refresh_from_db()
    assert (again.goods_return, again.units_of("back"), request.quantity) == (row.goods_return, {first.pk: 1}, 2)
    work()
    mails = Message.objects.filter(event="withdrawal_received").order_by("pk")
    assert [mail.context["return_code"] for mail in mails] == [row.goods_return.code] * 2
    assert row.goods_return.code in mails[0].text
    system.receive_return(code=row.goods_return.code)
    system.inspect_return(code=row.goods_return.code, found={request.pk: {"sellable": 2}})
    work()
    order.refresh_from_db()
    assert (order.status, units(order)) == (Status.REFUNDED, [(0, 2, 2, 2)])
    assert Payment.objects.get(reference=order.number).refunded == order.total
    assert books() == []


@pytest_db
def test_a_part_of_a_half_shipped_order_is_both(place: Place, system: EventHandler, work: Work, books: Books) -> None:
    order = place([("10.00", 3), ("5.00", 2)], until="paid")
    one = order.lines.get(position=1)
    system.ship(number=order.number or "", lines={one.pk: 2})
    row = declare(order, {one.pk: 2}, text="too many")
    assert (row.units_of("cancel"), row.units_of("back")) == ({one.pk: 1}, {one.pk: 1})
    work()
    order.refresh_from_db()
    assert (order.status, units(order)) == (Status.PREPARING, [(1, 2, 0, 1), (0, 0, 0, 0)])
    assert JournalEntry.objects.filter(order=order, verb="withdraw", reason="withdrawal", note="too many").count() == 1
    # The rest of the order goes on, and what is awaited cannot be withdrawn from twice.
    with pytest.raises(Refused) as no:
        declare(order, {one.pk: 2})
    assert no.value.max_quantity == 1
    system.ship(number=order.number or "")
    assert books() == []


@pytest_db
def test_what_is_late_is_received_and_answered_by_a_person(
    place: Place, admin_actor: Actor, work: Work, books: Books
) -> None:
    order = place([("10.00", 1)], until="delivered")
    with time_machine.travel(timezone.now() + timedelta(days=18), tick=False):
        row = declare(order)
        work()
    assert (row.status, row.in_time, bool(row.deadline)) == (Withdrawal.Status.NEEDS_PERSON, False, True)
    assert "late" in row.problem
    request = CancellationRequest.objects.get()
    assert (request.status, request.goods_return.is_withdrawal) == (State.OPEN, False)
    mail = Message.objects.get(event="withdrawal_received")
    assert "The time to withdraw was over on" in mail.text
    job = Job.objects.get(kind="orders.answer_withdrawal")
    assert (job.state, job.reference, job.store_id) == (Job.State.NEEDS_ATTENTION, order.number, order.store_id)
    staff = get_event_handler(admin_actor)
    staff.decide_request(request_id=request.pk, approve=False, note="It was four weeks.")
    row.refresh_from_db()
    job.refresh_from_db()
    assert (row.status, row.answer, job.state) == (Withdrawal.Status.ANSWERED, "It was four weeks.", Job.State.DONE)
    assert books() == []


@pytest_db
def test_what_the_shop_takes_back_of_its_own_accord_needs_nobody(place: Place, books: Books) -> None:
    ReturnPolicy.objects.create(approves_at_once=True, valid_from=timezone.now() - timedelta(days=1))
    order = place([("10.00", 1)], until="delivered")
    with time_machine.travel(timezone.now() + timedelta(days=20), tick=False):
        row = declare(order)
    assert (row.status, row.in_time) == (Withdrawal.Status.CARRIED_OUT, False)
    assert CancellationRequest.objects.get().status == State.APPROVED
    assert books() == []


@pytest_db
def test_exempt_goods_are_for_a_person_and_the_others_are_not_kept_waiting(
    place: Place, store: Any, admin_actor: Actor, books: Books
) -> None:
    exempt = factories.stocked(store, price=Decimal("30.00"), return_exemption=ReturnExemption.MADE_TO_ORDER)
    plain = factories.stocked(store, price=Decimal("10.00"))
    order = place([exempt, plain], store=store, until="preparing")
    special, other = order.lines.order_by("position")
    row = declare(order)
    assert (row.units_of("cancel"), row.units_of("ask")) == ({other.pk: 1}, {special.pk: 1})
    assert (row.status, "made to the customer's order" in row.problem) == (Withdrawal.Status.NEEDS_PERSON, True)
    request = CancellationRequest.objects.get()
    assert (request.cancellation_type, request.status) == (CancellationRequest.Type.CANCEL, State.OPEN)
    # Asked again, there is nobody to ask twice.
    assert declare(order).units_of("left") == {special.pk: 1}
    get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
    row.refresh_from_db()
    assert (row.status, Order.objects.get(pk=order.pk).status) == (Withdrawal.Status.ANSWERED, Status.CANCELLED)
    # What customers may cancel anyway, they may withdraw from.
    early = place([exempt], store=store)
    assert declare(early).units_of("cancel") == {early.lines.get().pk: 1}
    assert books() == []


@pytest_db
def test_it_takes_over_what_was_asked_before(place: Place, admin_actor: Actor, books: Books) -> None:
    """Of one line a return was asked for, of another a cancellation; a third parcel has arrived already."""
    order = place([("10.00", 2), ("5.00", 1), ("3.00", 1)], until="paid", email="ada@example.com")
    one, two, three = order.lines.order_by("position")
    system = get_event_handler(Actor.system())
    system.ship(number=order.number or "", lines={one.pk: 2, three.pk: 1})
    asked = get_event_handler(Actor.guest("ada@example.com"))
    reason = withdrawal_reason()
    wishes = [Wish(one.pk, 1, "refund", reason), Wish(two.pk, 1, "cancel", reason)]
    asked.request_cancellation(number=order.number or "", wishes=wishes)
    # As a handler serves one request, so another one asks of the third line.
    (third,) = get_event_handler(Actor.guest("ada@example.com")).request_cancellation(
        number=order.number or "", wishes=[Wish(three.pk, 1, "refund", reason)]
    )
    get_event_handler(admin_actor).decide_request(request_id=third.pk, approve=True)
    system.receive_return(code=third.goods_return.code)
    row = declare(order)
    back, cancel = CancellationRequest.objects.filter(line__in=[one, two]).order_by("line")
    assert (back.status, back.quantity, back.goods_return) == (State.APPROVED, 2, row.goods_return)
    assert cancel.status == State.COMPLETED
    assert not Return.objects.filter(requests=None, closed_at=None).exists(), "an emptied parcel is not awaited"
    assert (row.status, row.units_of("left")) == (Withdrawal.Status.NEEDS_PERSON, {three.pk: 1})
    handler = get_event_handler(admin_actor)
    with pytest.raises(Refused):
        handler.answer_withdrawal(uuid=str(row.uuid), note=" ")
    handler.answer_withdrawal(uuid=str(row.uuid), note="It is being unpacked.")
    with pytest.raises(Refused) as no:
        handler.answer_withdrawal(uuid=str(row.uuid), note="again")
    assert no.value.code == "withdrawal_answered"
    assert books() == []


@pytest_db
def test_what_staff_could_still_undo_is_completed_first(place: Place, admin_actor: Actor, books: Books) -> None:
    CancelRule.objects.create(undo_minutes=30, direct_statuses=[])
    order = place([("10.00", 2)], until="approved")
    only = order.lines.get()
    get_event_handler(admin_actor).cancel(number=order.number or "", lines={only.pk: 1}, reason="out_of_stock")
    assert Order.objects.get(pk=order.pk).undo_until
    assert declare(order).units_of("cancel") == {only.pk: 1}
    order.refresh_from_db()
    assert (order.status, order.undo_until) == (Status.CANCELLED, None)
    assert books() == []


@pytest_db
def test_the_same_confirmation_twice_is_one_and_the_goods_may_have_left_in_between(
    place: Place, system: EventHandler, work: Work, books: Books
) -> None:
    order = place([("10.00", 2)], until="paid")
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada", "number": order.number or "", "email": order.email.upper()}
    statement = handler.state_withdrawal(**told)
    assert (statement.cancels, statement.sends_back) == (True, False)
    system.ship(number=order.number or "")
    first = handler.confirm_withdrawal(token=statement.token)
    assert (first.units_of("cancel"), list(first.units_of("back").values())) == ({}, [2])
    with time_machine.travel(timezone.now() + timedelta(hours=3)):
        assert handler.confirm_withdrawal(token=statement.token).pk == first.pk, "however late the repetition"
    work()
    assert (Withdrawal.objects.count(), Message.objects.filter(event="withdrawal_received").count()) == (1, 1)
    nothing = declare(order)
    assert (nothing.status, nothing.result) == (Withdrawal.Status.CARRIED_OUT, {})
    assert books() == []


@pytest_db
def test_an_unknown_contract_is_received_found_by_a_person_and_in_time_as_of_then(
    place: Place, staff: Any, store: Any, admin_actor: Actor, work: Work, books: Books
) -> None:
    order = place([("10.00", 1)], until="delivered", store=store)
    handler = get_event_handler(Actor.guest(""))
    told = {"name": "Ada", "number": f"order {order.number}", "email": "other@example.com"}
    row = handler.confirm_withdrawal(token=handler.state_withdrawal(**told).token)
    work()
    assert (row.status, row.order, row.in_time) == (Withdrawal.Status.NEEDS_PERSON, None, None)
    mail = Message.objects.get(event="withdrawal_received")
    assert (mail.recipient, mail.reference, mail.status) == ("other@example.com", "", "sent")
    assert f"order {order.number}" in mail.text
    assert Job.objects.get(kind="orders.answer_withdrawal").state == Job.State.NEEDS_ATTENTION
    local = get_event_handler(Actor.staff(staff("Store Manager", store)))
    with pytest.raises(Refused) as no:
        local.match_withdrawal(uuid=str(row.uuid), number=order.number or "")
    assert no.value.code == "withdrawal_not_found", "whose store it is nobody knows"
    with time_machine.travel(timezone.now() + timedelta(days=30), tick=False):
        matched = get_event_handler(admin_actor).match_withdrawal(uuid=str(row.uuid), number=order.number or "")
        work()
    assert (matched.status, matched.in_time) == (Withdrawal.Status.CARRIED_OUT, True)
    assert Message.objects.filter(event="withdrawal_received").count() == 1, "the receipt was sent"
    assert Message.objects.filter(event="return_approved", recipient=order.email).count() == 1
    assert Job.objects.get(kind="orders.answer_withdrawal").state == Job.State.DONE
    assert books() == []


@pytest_db
def test_under_maintenance_it_is_received_and_carried_out_afterwards_as_of_then(
    place: Place, work: Work, books: Books
) -> None:
    order = place([("10.00", 1)], until="paid")
    period = Maintenance.objects.create(started_at=timezone.now())
    row = declare(order)
    assert row.status == Withdrawal.Status.RECEIVED
    work_off_queue()
    work()
    assert units(order) == [(0, 0, 0, 0)]
    assert Message.objects.get(event="withdrawal_received").text
    period.ended_at = timezone.now()
    period.save()
    work_off_queue()
    work()
    work_off_queue()
    work()
    row.refresh_from_db()
    assert (row.status, units(order)) == (Withdrawal.Status.CARRIED_OUT, [(1, 0, 0, 1)])
    assert books() == []


@pytest_db
def test_whatever_stands_in_the_way_the_declaration_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch, admin_actor: Actor, books: Books
) -> None:
    """A shop's own handler that is broken."""
    order = place([("10.00", 1)], until="paid")

    def broken(self: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(EventHandler, "cancel", broken, raising=False)
        row = declare(order)
    row.refresh_from_db()
    assert (row.status, row.order, row.result) == (Withdrawal.Status.NEEDS_PERSON, order, {})
    assert Message.objects.filter(event="withdrawal_received").count() == 1
    assert units(order) == [(0, 0, 0, 0)]
    get_event_handler(admin_actor).match_withdrawal(uuid=str(row.uuid), number=order.number or "")
    assert units(order) == [(1, 0, 0, 1)]
    assert books() == []


@pytest_db
def test_receipts_for_one_address_are_bounded(place: Place) -> None:
    handler = get_event_handler(Actor.guest(""))

    def unknown(email: str) -> Withdrawal:
        told = {"name": "X", "number": "1", "email": email}
        return handler.confirm_withdrawal(token=handler.state_withdrawal(**told).token)

    for n in range(5):
        unknown("A@example.com" if n % 2 else "a@example.com")
    with pytest.raises(Refused) as no:
        unknown("a@Example.com")
    assert (no.value.http_status, no.value.retry_after, Withdrawal.objects.count()) == (429, 3600, 5)
    assert unknown("b@example.com").order is None
    order = place(email="a@example.com")
    assert declare(order).status == Withdrawal.Status.CARRIED_OUT, "whose contract is known is not kept from it"


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_a_parcel_that_leaves_meanwhile_is_cancelled_or_comes_back_and_is_withdrawn_from_once(
    at_once: Callable[..., list[Any]], books: Books
) -> None:
    order = factories.place_order([("10.00", 2)], until="paid")
    number = order.number or ""
    handler = get_event_handler(Actor.guest(""))
    token = handler.state_withdrawal(name="Ada", number=number, email=order.email).token
    results = at_once(
        *[lambda: get_event_handler(Actor.guest("")).confirm_withdrawal(token=token).pk for _n in range(3)],
        *[lambda: get_event_handler(Actor.system()).ship(number=number) for _n in range(2)],
    )
    row = Withdrawal.objects.get()
    assert results[:3] == [row.pk] * 3
    left = [not isinstance(result, Refused) for result in results[3:]].count(True)
    assert sum(row.units_of("cancel", "back").values()) == 2
    assert bool(row.units_of("back")) == bool(left)
    assert Message.objects.filter(event="withdrawal_received").count() == 1
    assert books() == []
