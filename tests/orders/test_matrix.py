"""Every role, every action, every stage: who does what is written in docs/permissions.md, and a refusal does nothing.

Each cell calls the handler's verb as a door would, and is compared with what the guards had said before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction

from orders import rules
from orders.models import (
    BulkRun,
    Cancellation,
    CancellationReason,
    CancellationRequest,
    CancelRule,
    Order,
)
from orders.processing import EventHandler, get_event_handler
from orders.processing.approving import approval_of
from orders.processing.cancelling import Contact
from orders.processing.requesting import Wish
from orders.rules.actions import STAFF
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store, User
from tests import factories
from tests.orders.test_lives import undone

pytestmark = pytest.mark.django_db

PAGE = Path(settings.BASE_DIR) / "docs" / "permissions.md"
AGAIN = "run WRITE_DOCS=yes .venv/bin/pytest tests/orders/test_matrix.py and look at what has changed"
WRITES = bool(os.environ.get("WRITE_DOCS"))
INTRODUCTION = """# Who may do what, and when

Written by `tests/orders/test_matrix.py`, which tries every cell of it; not to be edited by hand.

The roles are those of a new desk (`shop/roles.py`), with no approval policy switched on; “another store's manager”
works in another store only. **yes**: it is done. **after approval**: somebody else has to agree first. **a person
decides**: it becomes a request. A word in `code` is the refusal's code, and nothing has happened. –: there is nothing
of the kind then. Orders are to be collected; while their payment is awaited it is a bank transfer, otherwise a card.
"""

YES, APPROVAL, ASKED, NONE = "yes", "after approval", "a person decides", "–"
CONTACT = Contact(name="Ada Lovelace", channel="phone")
CANCEL = CancellationRequest.Type.CANCEL
REFUND = CancellationRequest.Type.REFUND


def system() -> EventHandler:
    return get_event_handler(Actor.system())


@cache
def counted() -> str:
    """One query that counts the rows of every table of the house."""
    labels = ("shop", "orders", "checkout", "inventory", "payments", "notifications")
    names = sorted(model._meta.db_table for model in apps.get_models() if model._meta.app_label in labels)
    return "SELECT " + ", ".join(f'(SELECT COUNT(*) FROM "{name}")' for name in names)


# Of these, every field.
ROWS = (
    "orders_order WHERE id = %(id)s",
    "orders_orderline WHERE order_id = %(id)s ORDER BY id",
    "orders_cancellation WHERE order_id = %(id)s ORDER BY id",
    "orders_cancellationrequest WHERE order_id = %(id)s ORDER BY id",
    "orders_approval ORDER BY id",
    "orders_hold WHERE order_id = %(id)s ORDER BY id",
    "payments_payment WHERE reference = %(number)s ORDER BY id",
    "inventory_stockrecord ORDER BY id",
    "shop_job ORDER BY id",
)


def world(order: Order) -> Any:
    """Everything that a refusal must leave alone: how many rows there are, and the order's own to the last field.

    In plain SQL, for it is asked thousands of times.
    """
    found = []
    with connection.cursor() as cursor:
        cursor.execute(counted())
        found.append(cursor.fetchall())
        for rows in ROWS:
            given = {name: getattr(order, name) for name in ("id", "number") if f"%({name})s" in rows}
            cursor.execute(f"SELECT * FROM {rows}", given or None)
            found.append(cursor.fetchall())
    return found


# ---------------------------------------------------------------------------------------------------------------
# Stages: orders of three units, each as far as its name says


@dataclass(frozen=True)
class Desk:
    """The people and the store of the matrix."""

    store: Store
    customer: User
    actors: Mapping[str, Actor]
    colleague: Actor

    def order(self, until: str = "", **more: Any) -> Order:
        made = factories.place_order(
            [("10.00", 3)], store=self.store, customer=self.customer, until=until, is_pickup=True, **more
        )
        return made


def _ready(desk: Desk) -> Order:
    order = desk.order("paid")
    system().ready_for_pickup(number=order.number)
    return order


def _partly_shipped(desk: Desk) -> Order:
    order = desk.order("paid")
    system().ship(number=order.number, lines={order.lines.get().pk: 1})
    return order


def _cancelled(until: str, units: int, *, undo_minutes: int) -> Callable[[Desk], Order]:
    def make(desk: Desk) -> Order:
        if undo_minutes:
            statuses = list(rules.DIRECTLY_CANCELLABLE)
            CancelRule.objects.create(undo_minutes=undo_minutes, direct_statuses=statuses)
        order = desk.order(until)
        lines = {order.lines.get().pk: units}
        handler = get_event_handler(desk.actors["Admin"])
        handler.cancel(number=order.number, lines=lines, reason="out_of_stock")
        jobs.drain(seconds=30)
        return order

    return make


STAGES: dict[str, Callable[[Desk], Order]] = {
    "payment awaited": lambda desk: desk.order(gateway="manual"),
    "to be confirmed": lambda desk: desk.order(),
    "approved": lambda desk: desk.order("approved"),
    "preparing, unpaid": lambda desk: desk.order("preparing"),
    "preparing, paid": lambda desk: desk.order("paid"),
    "preparing, a part cancelled that can be undone": _cancelled("paid", 1, undo_minutes=30),
    "ready for pickup": _ready,
    "partly shipped": _partly_shipped,
    "shipped": lambda desk: desk.order("shipped"),
    "delivered": lambda desk: desk.order("delivered"),
    "cancelled, can be undone": _cancelled("approved", 3, undo_minutes=30),
    "cancelled": _cancelled("paid", 3, undo_minutes=0),
}


# ---------------------------------------------------------------------------------------------------------------
# Deeds: each a verb, what the guards say of it, and what it takes to be there before


@dataclass(frozen=True)
class Case:
    """One order at one stage; `given` is what a deed has arranged."""

    order: Order
    line: int
    given: Any = None
    # The answers of handler.actions, by person: they are asked once, before anything is done.
    known: dict[Actor, dict[str, rules.Possible] | str] = field(default_factory=dict, hash=False)

    @property
    def number(self) -> str:
        return self.order.number or ""

    def actions(self, actor: Actor) -> dict[str, rules.Possible] | str:
        """By name, or the code of the refusal to tell."""
        key = actor
        if key not in self.known:
            try:
                _order, found = get_event_handler(actor).actions(number=self.number)
                self.known[key] = {possible.name: possible for possible in found}
            except Refused as no:
                self.known[key] = no.code
        return self.known[key]

    def said(self, actor: Actor, name: str) -> str:
        """What the list of actions says of one; of customers it knows what customers do."""
        actions = self.actions(actor)
        if isinstance(actions, str):
            return actions
        if name not in actions:
            return "not_allowed"
        possible = actions[name]
        if possible.refusal is not None:
            return possible.refusal.code
        return APPROVAL if possible.approval else YES if possible.direct else ASKED


Do = Callable[[EventHandler, Case], Any]


@dataclass(frozen=True)
class Deed:
    """label: as in the page. said: what the guards say, None: what the list of actions says of `name`.

    asks     the same with a justification, for whoever has to agree
    arrange  makes what it is about; None: there is nothing of the kind at this stage
    """

    name: str
    label: str
    do: Do
    said: Callable[[Case, Actor], str] | None = None
    asks: Do | None = None
    arrange: Callable[[Desk, Case], Any] | None = None


def wish(handler: EventHandler, case: Case, kind: str) -> Any:
    reason = CancellationReason.objects.get(code="changed_mind")
    wishes = [Wish(case.line, None, kind, reason)]
    return handler.cancel_or_request(number=case.number, wishes=wishes) or None


def cancel(handler: EventHandler, case: Case, **more: Any) -> Any:
    if handler.actor.is_customer:
        return wish(handler, case, CANCEL)
    fields = {"reason": "changed_mind", "contact": CONTACT, **more}
    return handler.submit_cancellation(number=case.number, **fields).status


def for_the_shop(handler: EventHandler, case: Case, **more: Any) -> Any:
    return handler.submit_cancellation(number=case.number, reason="out_of_stock", **more).status


def said_for_the_shop(case: Case, actor: Actor) -> str:
    """As any cancellation; but whoever may cancel for customers only is told so, and customers know no such reason."""
    if isinstance(case.actions(actor), str):
        return case.said(actor, "cancel")
    if actor.is_customer:
        return "unknown_reason"
    said = case.said(actor, "cancel")
    only_for_customers = not actor.may("orders.cancel_for_any_reason")
    return "reason_not_allowed" if said in {YES, APPROVAL} and only_for_customers else said


def in_bulk(handler: EventHandler, case: Case, **more: Any) -> Any:
    orders = [(case.order.pk, case.order.version)]
    return handler.start_bulk_run(orders=orders, reason="changed_mind", contact=CONTACT, **more).status


def said_in_bulk(case: Case, actor: Actor) -> str:
    try:
        plan = get_event_handler(actor).plan_bulk(orders=[(case.order.pk, case.order.version)], reason="changed_mind")
    except Refused as no:
        return no.code
    if not plan.possible:
        return "nothing_to_do"
    return APPROVAL if plan.approval else YES


def ask_for_approval(desk: Desk, case: Case) -> Any:
    handler = get_event_handler(desk.colleague)
    fields = {"reason": "quality_issues", "justification": "Two of them are broken"}
    try:
        row = handler.submit_cancellation(number=case.number, **fields)
    except Refused:
        return None
    return str(row.approval.uuid)


def said_of_approval(case: Case, actor: Actor) -> str:
    try:
        no = get_event_handler(actor).why_not_decide(approval_of(case.given, actor))
    except Refused as refused:
        no = refused
    return no.code if no else YES


def requested(kind: str) -> Callable[[Desk, Case], Any]:
    def ask(desk: Desk, case: Case) -> Any:
        reason = CancellationReason.objects.get(code="changed_mind")
        handler = get_event_handler(Actor.customer(desk.customer))
        try:
            return handler.request_cancellation(number=case.number, wishes=[Wish(case.line, 1, kind, reason)])[0].pk
        except Refused:
            return None

    return ask


def sent_back(desk: Desk, case: Case) -> Any:
    """A return that is awaited: its code, and the request."""
    request_id = requested(REFUND)(desk, case)
    if request_id is None:
        return None
    request = system().decide_request(request_id=request_id, approve=True)
    assert request.goods_return is not None
    return request.goods_return.code, request.pk


def said_of_return(case: Case, actor: Actor) -> str:
    if isinstance(case.actions(actor), str):
        return "return_not_found"
    return YES if actor.may("orders.return_order", store_id=case.order.store_id) else "not_allowed"


def said_of_request(case: Case, actor: Actor) -> str:
    if isinstance(case.actions(actor), str):
        return "not_found"
    return YES if actor.may("orders.decide_cancellationrequest", store_id=case.order.store_id) else "not_allowed"


def said_of_granting(case: Case, actor: Actor) -> str:
    """To grant it is to cancel; where somebody has to agree, it is cancelled on the order's page instead."""
    may = said_of_request(case, actor)
    said = case.said(actor, "cancel") if may == YES else may
    return "approval_needed" if said == APPROVAL else said


def hold(desk: Desk, case: Case) -> Any:
    try:
        return system().place_hold(number=case.number, kind="other", reason="Look").pk
    except Refused:
        return 0


ONE = Decimal("1.00")
DEEDS = [
    Deed("approve", "Approve", lambda h, c: h.approve(number=c.number)),
    Deed("start-preparing", "Start preparing", lambda h, c: h.start_preparing(number=c.number)),
    Deed("ready-for-pickup", "Ready for pickup", lambda h, c: h.ready_for_pickup(number=c.number)),
    Deed("take-payment", "Take payment", lambda h, c: h.take_payment(number=c.number)),
    Deed("record-payment", "Record payment", lambda h, c: h.record_payment(number=c.number, amount=ONE)),
    Deed(
        "record-surplus",
        "Record unexpected payment",
        lambda h, c: h.record_payment(number=c.number, amount=ONE, surplus=True),
    ),
    Deed("issue-invoice", "Issue invoice", lambda h, c: h.issue_invoice(number=c.number)),
    Deed("hand-over", "Handed over", lambda h, c: h.hand_over(number=c.number)),
    Deed("ship", "Ship", lambda h, c: h.ship(number=c.number)),
    Deed("deliver", "Delivered", lambda h, c: h.deliver(number=c.number)),
    Deed(
        "cancel",
        "Cancel, because the customer asked for it",
        cancel,
        asks=lambda h, c: cancel(h, c, justification="Ada called"),
    ),
    Deed(
        "cancel-for-the-shop",
        "Cancel for a reason of the shop's",
        for_the_shop,
        said=said_for_the_shop,
        asks=lambda h, c: for_the_shop(h, c, justification="The shelf is empty"),
    ),
    Deed(
        "cancel-in-bulk",
        "Cancel in bulk",
        in_bulk,
        said=said_in_bulk,
        asks=lambda h, c: in_bulk(h, c, justification="Ada called"),
    ),
    Deed(
        "approve-cancellation",
        "Agree to a cancellation that a colleague asked for",
        lambda h, c: h.approve_cancellation(approval=c.given),
        said=said_of_approval,
        arrange=ask_for_approval,
    ),
    Deed(
        "reject-cancellation",
        "Reject a cancellation that a colleague asked for",
        lambda h, c: h.reject_cancellation(approval=c.given, note="Keep it"),
        said=said_of_approval,
        arrange=ask_for_approval,
    ),
    Deed("undo", "Undo a cancellation", lambda h, c: h.undo_cancellation(number=c.number)),
    Deed("complete-now", "Complete a cancellation now", lambda h, c: h.complete_now(number=c.number)),
    Deed("reinstate", "Reinstate", lambda h, c: h.reinstate(number=c.number)),
    Deed("return", "Ask to send goods back", lambda h, c: wish(h, c, REFUND)),
    Deed(
        "grant-request",
        "Grant a customer's request to cancel",
        lambda h, c: h.decide_request(request_id=c.given, approve=True),
        said=said_of_granting,
        arrange=requested(CANCEL),
    ),
    Deed(
        "refuse-request",
        "Refuse a customer's request to cancel",
        lambda h, c: h.decide_request(request_id=c.given, approve=False, note="It has left"),
        said=said_of_request,
        arrange=requested(CANCEL),
    ),
    Deed(
        "grant-return",
        "Grant a customer's request to send goods back",
        lambda h, c: h.decide_request(request_id=c.given, approve=True),
        said=said_of_request,
        arrange=requested(REFUND),
    ),
    Deed(
        "receive-return",
        "Receive a return",
        lambda h, c: h.receive_return(code=c.given[0]),
        said=said_of_return,
        arrange=sent_back,
    ),
    Deed(
        "inspect-return",
        "Inspect a return",
        lambda h, c: h.inspect_return(code=c.given[0], found={c.given[1]: {"sellable": 1}}),
        said=said_of_return,
        arrange=sent_back,
    ),
    Deed("take-back", "Take back", lambda h, c: h.take_back(number=c.number, lines={c.line: (1, "sellable")})),
    Deed("refund", "Refund", lambda h, c: h.refund(number=c.number, amount=ONE, note="Sorry")),
    Deed("hold", "Hold", lambda h, c: h.place_hold(number=c.number, kind="other")),
    Deed(
        "release-hold",
        "Release hold",
        lambda h, c: h.release_hold(number=c.number, hold_id=c.given),
        arrange=hold,
    ),
    Deed(
        "change-address",
        "Change address",
        lambda h, c: h.change_address(number=c.number, address=factories.address(city="Kiel")),
    ),
    Deed("repeat", "Repeat the order", lambda h, c: h.start_recurring(number=c.number, unit="month")),
    Deed("note", "Write a note", lambda h, c: h.write_note(number=c.number, message="Look at it")),
]


# ---------------------------------------------------------------------------------------------------------------
# The matrix

PEOPLE = (
    "Admin",
    "Store Manager",
    "Fulfilment",
    "Customer Service",
    "staff without a role",
    "another store's manager",
    "the customer",
    "another customer",
    "nobody (a guest)",
)


@pytest.fixture
def desk(staff: Callable[..., User], store: Store) -> Desk:
    CancellationReason.objects.filter(code="quality_issues").update(needs_approval=True)
    customer = factories.UserFactory()
    people = {
        "Admin": staff("Admin"),
        "Store Manager": staff("Store Manager", store),
        "Fulfilment": staff("Fulfilment", store),
        "Customer Service": staff("Customer Service"),
        "staff without a role": staff(None, store),
        "another store's manager": staff("Store Manager", factories.StoreFactory()),
    }
    actors = {name: Actor.staff(user) for name, user in people.items()}
    actors |= {
        "the customer": Actor.customer(customer),
        "another customer": Actor.customer(factories.UserFactory()),
        "nobody (a guest)": Actor.guest(""),
    }
    assert tuple(actors) == PEOPLE
    return Desk(store, customer, actors, Actor.staff(staff("Fulfilment", store)))


# What a verb answers where it is done, but not at once.
LATER = {
    Cancellation.Status.WAITING_APPROVAL: APPROVAL,
    BulkRun.Status.WAITING_APPROVAL: APPROVAL,
}


def outcome(deed: Deed, case: Case, actor: Actor, before: Any) -> tuple[str, bool]:
    """What becomes of it, and whether it was refused. What is done is taken back; what a refusal did would stay."""
    with refusals_stay():
        try:
            answer = deed.do(get_event_handler(actor), case)
        except Refused as no:
            if no.code != "approval_needed" or deed.asks is None:
                return no.code, True
            with undone():
                asked = deed.asks(get_event_handler(actor), case)
            return LATER.get(asked, f"asked for, and it is {asked}"), True
        done = ASKED if isinstance(answer, list) and actor.is_customer else YES
        if world(case.order) == before:
            done = "nothing, without a word"
        transaction.set_rollback(True)
        return done, False


@contextmanager
def refusals_stay() -> Iterator[None]:
    """A savepoint, as `undone` has it, of which only what is marked is taken back."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]
    with block:
        yield


def cells(desk: Desk, stage: str, faults: list[str]) -> Iterator[tuple[str, str, str]]:
    """What becomes of every deed of every person at a stage: deed, person, outcome."""
    order = STAGES[stage](desk)
    order = Order.objects.select_related("store").get(pk=order.pk)
    plain = Case(order, order.lines.get().pk)
    for deed in DEEDS:
        with undone():
            given = deed.arrange(desk, plain) if deed.arrange else None
            if deed.arrange and given is None:
                yield from ((deed.name, who, NONE) for who in desk.actors)
                continue
            case = Case(Order.objects.get(pk=order.pk), plain.line, given, {} if deed.arrange else plain.known)
            before = world(order)
            refused = []
            for who, actor in desk.actors.items():
                said = deed.said(case, actor) if deed.said else case.said(actor, deed.name)
                done, was_refused = outcome(deed, case, actor, before)
                if done != said:
                    faults.append(f"{stage}: {who}: {deed.name}: the guards said “{said}”, the verb “{done}”")
                refused += [who] if was_refused else []
                yield deed.name, who, done
            # Asked once for all of them, for it takes longer than a refusal.
            if world(order) != before:
                faults.append(f"{stage}: {deed.name}: something has happened, though it was refused: {refused}")


def written(found: Mapping[tuple[str, str, str], str]) -> str:
    """The page: a table for each deed, people with the same rights in one row."""
    parts = [INTRODUCTION.rstrip()]
    for deed in DEEDS:
        rows: dict[tuple[str, ...], list[str]] = {}
        for who in PEOPLE:
            row = tuple(found[stage, deed.name, who] for stage in STAGES)
            rows.setdefault(row, []).append(who)
        parts += [f"\n## {deed.label}\n", "| | " + " | ".join(STAGES) + " |", "|---" * (len(STAGES) + 1) + "|"]
        for row, alike in rows.items():
            told = [cell if cell in {YES, APPROVAL, ASKED, NONE} else f"`{cell}`" for cell in row]
            parts.append(f"| {', '.join(alike)} | " + " | ".join(told) + " |")
    return "\n".join(parts) + "\n"


def read(page: str) -> dict[tuple[str, str, str], str]:
    """The cells of a page, as `written` had them."""
    names = {deed.label: deed.name for deed in DEEDS}
    found = {}
    for section in page.split("\n## ")[1:]:
        label, *lines = section.splitlines()
        (_empty, *stages), _rule, *rows = (
            [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")
        )
        for people, *told in rows:
            for who in people.split(", "):
                found |= {(stage, names[label], who): cell for stage, cell in zip(stages, told, strict=True)}
    return found


# What the stages have shown, where the page is to be written.
FOUND: dict[tuple[str, str, str], str] = {}


# Every third stage, and in continuous integration all of them.
@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[pytest.mark.thorough] if n % 3 else []) for n, stage in enumerate(STAGES)]
)
def test_everybody_can_do_what_is_written_and_a_refusal_leaves_everything_as_it_was(stage: str, desk: Desk) -> None:
    faults: list[str] = []
    found = {(stage, deed, who): done for deed, who, done in cells(desk, stage, faults)}
    assert not faults, "\n".join(faults)
    FOUND.update(found)
    if not WRITES:
        told = read(PAGE.read_text())
        assert found == {cell: told.get(cell) for cell in found}, AGAIN


def test_every_action_of_staff_is_in_the_matrix() -> None:
    assert {*STAFF, "undo"} <= {deed.name for deed in DEEDS}


def test_the_page_has_all_of_the_matrix_and_nothing_else() -> None:
    if WRITES:
        PAGE.write_text(written(FOUND))
    page = PAGE.read_text()
    told = read(page)
    assert set(told) == {(stage, deed.name, who) for stage in STAGES for deed in DEEDS for who in PEOPLE}, AGAIN
    assert written(told) == page, AGAIN
