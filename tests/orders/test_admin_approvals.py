"""Approvals in the admin: the queue, the page that a decision needs, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from bs4 import BeautifulSoup
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.models import Absence, Approval, ApprovalLevel, BulkItem, BulkRun, Cancellation, CancelRule, Order, Status
from orders.processing import get_event_handler
from orders.processing.approvers import decidable
from shop.actors import Actor
from shop.models import Job, Store, User
from tests import factories
from tests.orders.pages import browser, do, page_of, permissions, press, text

Place = Callable[..., Order]
Staff = Callable[..., User]
Work = Callable[[], int]
Books = Callable[[], list[str]]
pytestmark = pytest.mark.django_db
QUEUE = "/admin/orders/approval/"


def state(approval: Approval) -> tuple[Any, ...]:
    """Everything that a decision could have changed."""
    row = approval.cancellation
    assert row is not None
    return (
        Approval.objects.filter(pk=approval.pk).values().get(),
        Cancellation.objects.filter(pk=row.pk).values().get(),
        Order.objects.filter(pk=row.order_id).values().get(),
        list(row.order.lines.values()),
        row.order.journal.count(),
        Job.objects.count(),
    )


def shown(client: Client, **query: str) -> list[str]:
    """What the queue lists."""
    page = BeautifulSoup(client.get(QUEUE, query).content, "html.parser")
    return [cell.find(string=True).strip() for cell in page.select("#result_list .field-what a")]


# ---------------------------------------------------------------------------------------------------------------
# The queue


def test_the_queue_shows_first_what_the_person_may_decide(
    manager: User, packer: User, asked: Callable[..., Approval], staff: Staff
) -> None:
    first, second, mine = asked(), asked(), asked(lines=[("600.00", 1)])
    Approval.objects.filter(pk=second.pk).update(level=2)
    Approval.objects.filter(pk=mine.pk).update(requested_by=manager.pk)
    names = {row.pk: f"Order {row.cancellation.order.number}" for row in (first, second, mine)}  # type: ignore[union-attr]
    desk = browser(manager)
    assert shown(desk) == [names[first.pk]]
    assert shown(desk, whose="open") == [names[row.pk] for row in (first, second, mine)]
    assert shown(desk, whose="own") == [names[mine.pk]]
    assert shown(browser(packer)) == [names[row.pk] for row in (first, second, mine)]
    page = text(desk.get(QUEUE, {"whose": "all"}))
    for words in ("Store management", "Administration", "€600.00", "Out of stock", "for you to decide", "in 3 hours"):
        assert words in page, words
    get_event_handler(Actor.staff(manager)).reject_cancellation(approval=str(first.uuid), note="No")
    assert shown(desk, whose="all") == [names[row.pk] for row in (second, mine, first)]


def test_what_should_have_been_decided_stands_out(manager: User, asked: Callable[..., Approval]) -> None:
    approval = asked()
    Approval.objects.filter(pk=approval.pk).update(escalate_at=timezone.now() - timedelta(hours=1))
    assert "overdue since" in text(browser(manager).get(QUEUE))


def test_the_queue_takes_the_same_queries_for_any_number_of_rows(manager: User, asked: Callable[..., Approval]) -> None:
    desk = browser(manager)

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert desk.get(QUEUE).status_code == 200
        return len(queries)

    asked()
    one = count()
    for _ in range(3):
        asked()
    assert count() == one


def test_a_search_finds_an_order_alone_and_among_others(
    manager: User, asked: Callable[..., Approval], place: Place, packer: User, store: Store
) -> None:
    alone, orders = asked(), [place(store=store, until="paid") for _n in range(2)]
    assert alone.cancellation
    asked()
    assert len(shown(browser(manager), q=f" {alone.cancellation.order.number} ", whose="all")) == 1
    run = BulkRun.objects.create(
        status="waiting_approval",
        store=store,
        reason=alone.cancellation.reason,
        created_by=packer,
        created_at=timezone.now(),
    )
    for position, order in enumerate(orders):
        BulkItem.objects.create(run=run, position=position, order=order, version=order.version)
    Approval.objects.filter(pk=alone.pk).update(cancellation=None, bulk_run=run)
    assert len(shown(browser(manager), q=str(orders[1].number), whose="all")) == 1


def test_the_page_of_an_answer_is_named_by_its_order(manager: User, asked: Callable[..., Approval]) -> None:
    approval = asked()
    assert approval.cancellation
    heading = BeautifulSoup(browser(manager).get(do(approval, "approve")).content, "html.parser").select("h1")[-1]
    assert heading.get_text(" ", strip=True) == f"Approve {approval.cancellation.order.number}"


def test_nobody_sees_approvals_of_other_stores(asked: Callable[..., Approval], staff: Staff) -> None:
    approval, elsewhere = asked(), staff("Store Manager", factories.StoreFactory())
    before = state(approval)
    desk = browser(elsewhere)
    assert shown(desk, whose="all") == []
    assert desk.get(page_of(approval)).status_code == 404
    for name in ("approve", "reject", "withdraw"):
        assert desk.post(do(approval, name), {"note": "x", "version": "1"}).status_code == 404
    assert state(approval) == before


def test_the_dashboard_counts_what_waits_for_the_person(
    manager: User, packer: User, asked: Callable[..., Approval]
) -> None:
    asked()
    for user, count in ((manager, 1), (packer, 0)):
        figures = browser(user).get("/admin/").context["figures"]
        assert {card.key: card.count for card in figures.cards}["approvals"] == count


# ---------------------------------------------------------------------------------------------------------------
# The page


def test_the_page_has_everything_that_a_decision_needs(manager: User, asked: Callable[..., Approval]) -> None:
    CancelRule.objects.create(undo_minutes=5)
    approval = asked(lines=[("10.00", 2), ("5.00", 1)])
    page = text(browser(manager).get(page_of(approval)))
    for words in (
        "The last one is broken",
        "fulfilment has started",
        "Ada Lovelace",
        "Out of stock",
        "2 × Tea pot",
        "2 back into stock: Warehouse",
        "€25.00",
        "Payment 1",
        "Credit note",
        "customer@example.com",
        "possible for 5 minutes",
        "To be put back on the shelf",
        "Latest in its journal",
        "Asked for approval of a cancellation",
        "It is still so",
        "Preparing",
    ):
        assert words in page, words


def test_the_page_says_what_has_changed_since_and_who_changed_it(
    manager: User, asked: Callable[..., Approval], staff: Staff, store: Store
) -> None:
    approval = asked(lines=[("10.00", 2)])
    row = approval.cancellation
    assert row is not None
    colleague = staff("Store Manager", store)
    get_event_handler(Actor.staff(colleague)).refund(
        number=row.order.number or "", amount=Decimal(5), note="For the wait"
    )
    before = state(approval)
    desk = browser(manager)
    page = text(desk.get(page_of(approval)))
    assert "cannot be approved as it was shown" in page
    assert "Refunded would be €15.00, not €20.00." in page
    assert colleague.get_full_name() in page
    assert "For the wait" in page
    answer = press(desk, do(approval, "approve"))
    assert answer.status_code == 409
    assert "Refunded would be €15.00, not €20.00." in text(answer)
    assert state(approval) == before


def test_the_page_takes_the_same_queries_for_any_number_of_lines(manager: User, asked: Callable[..., Approval]) -> None:
    def count(approval: Approval) -> int:
        desk = browser(manager)
        with CaptureQueriesContext(connection) as queries:
            assert desk.get(page_of(approval)).status_code == 200
        return len(queries)

    count(asked())  # what Django remembers from then on
    assert count(asked()) == count(asked(lines=[("10.00", 2), ("5.00", 1), ("7.00", 3)]))


# ---------------------------------------------------------------------------------------------------------------
# The answers


def test_a_manager_approves_and_exactly_what_was_shown_happens(
    manager: User, asked: Callable[..., Approval], work: Work, books: Books
) -> None:
    approval = asked()
    answer = press(browser(manager), do(approval, "approve"), note="All right")
    assert answer.status_code == 302
    work()
    approval.refresh_from_db()
    assert (approval.status, approval.decided_by, approval.note) == ("approved", manager, "All right")
    order = Order.objects.get(cancellations__approval=approval)
    assert (order.status, order.facts.refunded) == (Status.CANCELLED, 20)
    page = browser(manager).get(page_of(approval))
    assert "All right" in text(page)
    assert "data-once" not in page.content.decode()
    assert books() == []


def test_a_manager_rejects_with_a_note_and_nothing_happens_to_the_order(
    manager: User, asked: Callable[..., Approval], books: Books
) -> None:
    approval = asked()
    before = state(approval)
    desk = browser(manager)
    answer = press(desk, do(approval, "reject"), note="")
    assert answer.status_code == 200
    assert "This field is required." in text(answer)
    assert state(approval) == before
    assert press(desk, do(approval, "reject"), note="Ship it").status_code == 302
    approval.refresh_from_db()
    assert (approval.status, approval.note) == ("rejected", "Ship it")
    assert Order.objects.get(cancellations__approval=approval).status == Status.PREPARING
    assert books() == []


def test_the_one_who_asked_reads_why_they_cannot_decide_and_may_withdraw(
    manager: User, asked: Callable[..., Approval]
) -> None:
    approval = asked()
    Approval.objects.filter(pk=approval.pk).update(requested_by=manager.pk)
    before = state(approval)
    desk = browser(manager)
    page = BeautifulSoup(desk.get(page_of(approval)).content, "html.parser")
    refused = [span.get_text(strip=True) for span in page.select(".desk-refused .desk-button")]
    assert refused == ["Approve", "Reject"]
    assert "somebody else has to decide it" in page.get_text()
    assert desk.post(do(approval, "approve"), {"version": "99", "note": ""}).status_code in {403, 409}
    assert state(approval) == before
    assert press(desk, do(approval, "withdraw"), note="Found another").status_code == 302
    approval.refresh_from_db()
    assert approval.status == Approval.Status.WITHDRAWN


def test_who_is_no_approver_is_told_whose_turn_it_is_and_cannot_post(
    asked: Callable[..., Approval], staff: Staff, store: Store
) -> None:
    approval = asked()
    before = state(approval)
    for role in ("Fulfilment", "Customer Service"):
        desk = browser(staff(role, store))
        page = desk.get(page_of(approval))
        assert "This is for Store management to decide." in text(page), role
        assert do(approval, "approve") not in page.content.decode()
        assert do(approval, "withdraw") not in page.content.decode()
        version = approval.cancellation.order.version  # type: ignore[union-attr]
        for name in ("approve", "reject", "withdraw"):
            answer = desk.post(do(approval, name), {"note": "x", "version": Order.objects.get().version or version})
            assert answer.status_code in {403, 409}, (role, name, text(answer))
        assert state(approval) == before, role


def test_the_second_of_two_approvers_is_told_that_it_has_been_decided(
    manager: User, asked: Callable[..., Approval], staff: Staff, store: Store
) -> None:
    approval, colleague = asked(), staff("Store Manager", store)
    open_page = browser(manager)
    page = open_page.get(do(approval, "reject"))
    version = BeautifulSoup(page.content, "html.parser").select_one("input[name=version]")
    get_event_handler(Actor.staff(colleague)).approve_cancellation(approval=str(approval.uuid))
    before = state(approval)
    assert version is not None
    answer = open_page.post(do(approval, "reject"), {"note": "No", "version": version["value"]})
    assert answer.status_code == 409
    assert colleague.get_full_name() in text(answer)
    assert state(approval) == before
    assert "decided already" in text(open_page.get(do(approval, "reject")))


def test_who_stands_in_decides_but_never_for_the_one_who_asked(
    manager: User, packer: User, asked: Callable[..., Approval], staff: Staff, store: Store
) -> None:
    deputy, colleague = staff("Fulfilment", store), staff("Store Manager", store)
    now = timezone.now()
    Absence.objects.create(user=manager, delegate=deputy, starts_at=now - timedelta(1), ends_at=now + timedelta(1))
    for_deputy, managers_own = asked(), asked()
    Approval.objects.filter(pk=managers_own.pk).update(requested_by=manager.pk)
    desk = browser(deputy)
    assert shown(desk) == [f"Order {for_deputy.cancellation.order.number}"]  # type: ignore[union-attr]
    managers_own.refresh_from_db()
    before = state(managers_own)
    answer = press_anyway(desk, managers_own, "approve")
    assert answer.status_code == 403
    assert state(managers_own) == before
    assert press(desk, do(for_deputy, "approve")).status_code == 302
    for_deputy.refresh_from_db()
    assert (for_deputy.decided_by, for_deputy.instead_of) == (deputy, manager)
    assert press(browser(colleague), do(managers_own, "approve")).status_code == 302


def press_anyway(client: Client, approval: Approval, name: str) -> Any:
    """Post an action whose page shows no form."""
    order = Order.objects.get(cancellations__approval=approval)
    return client.post(do(approval, name), {"note": "x", "version": order.version})


def test_nobody_stands_in_for_stores_in_which_the_other_does_not_work(
    asked: Callable[..., Approval], staff: Staff, store: Store
) -> None:
    other = factories.StoreFactory()
    elsewhere, deputy = staff("Store Manager", other), staff("Fulfilment", store, other)
    now = timezone.now()
    Absence.objects.create(user=elsewhere, delegate=deputy, starts_at=now - timedelta(1), ends_at=now + timedelta(1))
    approval = asked()
    before = state(approval)
    desk = browser(deputy)
    assert list(decidable(Actor.staff(deputy), as_of=timezone.now())) == []
    assert press_anyway(desk, approval, "approve").status_code == 403
    assert state(approval) == before


def test_the_queue_and_the_rule_agree_on_who_may_decide(
    asked: Callable[..., Approval], staff: Staff, store: Store, django_user_model: type[User]
) -> None:
    approvals = [asked(), asked(), asked()]
    Approval.objects.filter(pk=approvals[1].pk).update(level=2)
    people = [staff(role, store) for role in ("Admin", "Store Manager", "Fulfilment", "Customer Service", None)]
    people += [staff("Store Manager"), django_user_model.objects.create_superuser("root", "root@example.com")]
    Approval.objects.filter(pk=approvals[2].pk).update(requested_by=people[1].pk)
    for user in people:
        actor = Actor.staff(user)
        found = set(decidable(actor, as_of=timezone.now()).values_list("pk", flat=True))
        handler = get_event_handler(actor)
        allowed = {row.pk for row in Approval.objects.all() if handler.why_not_decide(row) is None}
        assert found == allowed, user
    assert ApprovalLevel.objects.count() == 2


def test_an_approval_of_many_orders_says_how_many_and_is_decided_the_same_way(
    manager: User, packer: User, place: Place, store: Store, work: Work, books: Books, staff: Staff
) -> None:
    packer.user_permissions.add(*permissions("cancel_in_bulk"))
    orders = [place(store=store, until="paid") for _ in range(2)]
    handler = get_event_handler(Actor.staff(User.objects.get(pk=packer.pk)))
    run = handler.start_bulk_run(
        orders=[(order.pk, order.version) for order in orders],
        reason="out_of_stock",
        justification="The shelf fell over",
        once=uuid4(),
    )
    approval = run.approval
    desk = browser(manager)
    assert shown(desk) == ["2 orders at once"]
    page = text(desk.get(page_of(approval)))
    for words in ("2 orders to cancel", "The shelf fell over", "€40.00", orders[0].number):
        assert words in page, words
    assert press(desk, do(approval, "approve")).status_code == 302
    work()
    assert [order.status for order in Order.objects.all()] == [Status.CANCELLED] * 2
    assert books() == []


def test_the_highest_level_decides_what_nobody_below_may(
    asked: Callable[..., Approval], manager: User, staff: Staff
) -> None:
    approval = asked()
    Approval.objects.filter(pk=approval.pk).update(level=2)
    before = state(approval)
    assert press_anyway(browser(manager), approval, "approve").status_code == 403
    assert state(approval) == before
    chief = staff("Admin")
    assert Group.objects.get(name="Admin") in chief.groups.all()
    assert press(browser(chief), do(approval, "approve")).status_code == 302
