"""Approval: which policy asks whom, for what, and what counts until when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import Group
from django.utils import timezone

from orders.models import ApprovalPolicy, Cancellation, CancellationReason, Order
from shop.errors import Refused
from shop.models import Store, User
from tests import factories
from tests.orders.asking import REASON, by, needed, policy
from tests.orders.storefront import facts_of

Staff = Callable[..., User]
pytestmark = pytest.mark.django_db


@pytest.fixture
def order(store: Store) -> Order:
    return factories.place_order([("10.00", 2)], store=store, until="paid")


@pytest.mark.parametrize(
    ("fields", "asks"),
    [
        ({}, True),
        ({"is_active": False}, False),
        ({"stages": ["approved"]}, True),
        ({"stages": ["preparing"]}, False),
        ({"min_value": "20.00", "currency": "EUR"}, True),
        ({"min_value": "20.01", "currency": "EUR"}, False),
        ({"min_value": "1", "currency": "JPY"}, False),
        ({"staff_value_per_day": "20.00", "currency": "EUR"}, True),
        ({"staff_value_per_day": "20.01", "currency": "EUR"}, False),
        ({"staff_per_day": 0}, True),
        ({"staff_per_day": 1}, False),
        ({"min_value": "20.00", "currency": "EUR", "stages": ["preparing"]}, False),
    ],
)
def test_a_policy_asks_when_all_that_is_filled_in_holds(
    fields: dict[str, Any], asks: bool, packer: User, store: Store
) -> None:
    order = factories.place_order([("10.00", 2)], store=store, until="approved")
    policy(**fields)
    assert needed(packer, order) == int(asks)


def test_a_policy_is_about_its_store_its_reasons_and_its_roles(packer: User, staff: Staff, store: Store) -> None:
    order = factories.place_order([("10.00", 2)], store=store, until="approved")
    of_store = policy(store=factories.StoreFactory())
    assert needed(packer, order) == 0
    ApprovalPolicy.objects.filter(pk=of_store.pk).update(store=store)
    assert needed(packer, order) == 1
    of_store.delete()
    about = policy()
    about.reasons.add(CancellationReason.objects.get(code="quality_issues"))
    assert (needed(packer, order), needed(packer, order, "quality_issues")) == (0, 1)
    about.reasons.clear()
    about.roles.add(Group.objects.get(name="Customer Service"))
    assert needed(packer, order) == 0
    about.roles.add(Group.objects.get(name="Fulfilment"))
    assert needed(packer, order) == 1
    # Who is more than that, too, is not meant.
    packer.groups.add(Group.objects.create(name="Shift leaders"))
    assert needed(packer, order) == 0


def test_the_highest_level_of_all_that_fit_applies_and_all_are_named(packer: User, order: Order) -> None:
    policy(1, min_value="5", currency="EUR")
    policy(2, min_value="15", currency="EUR")
    approval = by(packer).plan_cancellation(number=order.number or "", reason=REASON).approval
    assert approval is not None
    assert (approval.level, approval.name) == (2, "Administration")
    assert set(approval.because) == {*ApprovalPolicy.objects.filter(is_active=True).values_list("name", flat=True)} | {
        "fulfilment has started"
    }


def test_ones_own_level_needs_a_colleague_a_higher_one_nobody_and_the_highest_is_exempt(
    manager: User, packer: User, staff: Staff, store: Store, order: Order
) -> None:
    boss, root = staff("Admin"), factories.UserFactory(is_staff=True, is_superuser=True)
    policy(1)
    assert [needed(user, order) for user in (packer, manager, boss, root)] == [1, 1, 0, 0]
    policy(2)
    assert [needed(user, order) for user in (packer, manager, boss, root)] == [2, 2, 0, 0]


def test_a_reason_may_need_approval_whatever_the_policies_say(packer: User, manager: User, store: Store) -> None:
    order = factories.place_order([("10.00", 2)], store=store)
    CancellationReason.objects.filter(code=REASON).update(needs_approval=True)
    assert (needed(packer, order), needed(packer, order, "quality_issues")) == (1, 0)
    before = facts_of(order)
    with pytest.raises(Refused) as no:
        by(packer).cancel(number=order.number or "", reason=REASON)
    assert (no.value.code, facts_of(order)) == ("approval_needed", before)


def test_what_one_person_cancelled_counts_until_midnight_at_the_desk(settings: Any, packer: User, store: Store) -> None:
    settings.TIME_ZONE = "Pacific/Auckland"
    timezone.get_default_timezone.cache_clear()
    try:
        orders = [factories.place_order([("10.00", 1)], store=store, until="approved") for _n in range(4)]
        policy(2, staff_per_day=2)
        policy(1, staff_value_per_day="30", currency="EUR")
        # An evening in Auckland, which is a morning in London.
        evening = datetime(2026, 6, 3, 23, 30, tzinfo=ZoneInfo("Pacific/Auckland"))
        with time_machine.travel(evening, tick=False) as clock:
            by(packer).cancel(number=orders[0].number or "", reason=REASON)
            assert needed(packer, orders[1]) == 0
            by(packer).cancel(number=orders[1].number or "", reason=REASON)
            assert needed(packer, orders[2]) == 2
            clock.shift(timedelta(minutes=29))
            assert needed(packer, orders[2]) == 2
            clock.shift(timedelta(minutes=1))
            assert needed(packer, orders[2]) == 0
    finally:
        timezone.get_default_timezone.cache_clear()


def test_one_handler_counts_what_it_has_cancelled_itself(packer: User, store: Store) -> None:
    orders = [factories.place_order([("10.00", 1)], store=store, until="approved") for _n in range(3)]
    policy(1, staff_per_day=2)
    handler = by(packer)
    for order in orders[:2]:
        handler.cancel(number=order.number or "", reason=REASON)
    with pytest.raises(Refused) as no:
        handler.cancel(number=orders[2].number or "", reason=REASON)
    assert no.value.code == "approval_needed"


def test_what_a_customer_had_cancelled_counts_by_account_or_e_mail(packer: User, store: Store, clock: Any) -> None:
    customer = factories.UserFactory(email="ada@example.com")
    limit = policy(1, customer_per_month=1)

    def placed(**whose: Any) -> Order:
        return factories.place_order([("10.00", 1)], store=store, until="approved", **whose)

    def cancel(order: Order) -> None:
        ApprovalPolicy.objects.filter(pk=limit.pk).update(is_active=False)
        by(packer).cancel(number=order.number or "", reason=REASON)
        ApprovalPolicy.objects.filter(pk=limit.pk).update(is_active=True)

    guest, other = placed(email="Guest@Example.com"), placed(email="other@example.com")
    of_account, of_guest = placed(customer=customer), placed(email="guest@example.com")
    assert [needed(packer, one) for one in (of_account, of_guest)] == [0, 0]
    cancel(guest)
    assert [needed(packer, one) for one in (of_account, of_guest, other)] == [0, 1, 0]
    cancel(placed(customer=customer))
    assert needed(packer, of_account) == 1
    # Units of one and the same order are one order.
    cancel(placed(email="part@example.com"))
    part = factories.place_order([("10.00", 2)], store=store, until="approved", email="alone@example.com")
    by(packer).cancel(number=part.number or "", lines={part.lines.get().pk: 1}, reason=REASON)
    assert needed(packer, part) == 0
    clock.shift(timedelta(days=31))
    assert [needed(packer, one) for one in (of_account, of_guest)] == [0, 0]


def test_what_a_store_cancelled_within_an_hour_counts(packer: User, staff: Staff, store: Store, clock: Any) -> None:
    colleague = staff("Fulfilment", store)
    elsewhere = factories.StoreFactory()
    first, second = (factories.place_order([("10.00", 1)], store=store, until="approved") for _n in range(2))
    third = factories.place_order([("10.00", 1)], store=elsewhere, until="approved")
    policy(1, store_per_hour=1)
    by(colleague).cancel(number=first.number or "", reason=REASON)
    assert needed(packer, second) == 1
    assert needed(staff("Fulfilment", elsewhere), third) == 0
    clock.shift(timedelta(minutes=61))
    assert needed(packer, second) == 0


def test_what_is_unusual_is_flagged_whoever_did_it(staff: Staff, store: Store) -> None:
    order = factories.place_order([("10.00", 1)], store=store)
    row = policy(1, staff_per_day=0)
    by(staff("Admin")).cancel(number=order.number or "", reason=REASON)
    assert Cancellation.objects.get(order=order).unusual == [row.name]
