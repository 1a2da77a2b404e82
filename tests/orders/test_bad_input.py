"""Bad input to a cancellation, in every door: clear words, a stable code, the right status, nothing done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from orders import rules
from orders.models import CancellationReason, Order
from orders.processing import get_event_handler
from orders.processing.cancelling import Contact
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Store, User
from tests import factories
from tests.orders.pages import filled_in, text, url
from tests.orders.storefront import Browser
from tests.orders.test_matrix import world

pytestmark = pytest.mark.django_db

UNITS = 3
REASON = "out_of_stock"


@dataclass(frozen=True)
class Answer:
    """What a door said. code: empty where people read it, who need none."""

    status: int
    code: str
    words: str


def answer_of(response: Any) -> Answer:
    body = response.json()
    assert all(isinstance(words, list) for words in body.values()), body
    told = " ".join(f"{name}: {' '.join(words)}" for name, words in body.items() if name != "error_code")
    return Answer(response.status_code, body["error_code"][0], told)


@pytest.fixture
def customer() -> User:
    user: User = factories.UserFactory()
    return user


@pytest.fixture
def order(store: Store, customer: User) -> Order:
    return factories.place_order([("10.00", UNITS)], store=store, customer=customer)


@pytest.fixture
def foreign(store: Store, customer: User) -> int:
    """A line of another order of the same customer."""
    pk: int = factories.place_order(store=store, customer=customer).lines.get().pk
    return pk


class Door:
    """One way to cancel. `lines`: pairs of line and units; `None`: everything."""

    def __init__(self, manager: User, customer: User) -> None:
        self.manager, self.customer = manager, customer

    def cancel(self, order: Order, lines: Any, reason: str | None = REASON, **more: Any) -> Answer:
        raise NotImplementedError


class Handler(Door):
    def cancel(self, order: Order, lines: Any, reason: str | None = REASON, **more: Any) -> Answer:
        handler = get_event_handler(Actor.staff(self.manager))
        wanted = None if lines is None else dict(lines)
        with pytest.raises(Refused) as caught:
            handler.submit_cancellation(number=order.number or "", lines=wanted, reason=reason, **more)
        no = caught.value
        return Answer(no.http_status, no.code, f"{no.field}: {no} {no.remedy}")


class StaffApi(Door):
    path = "/api/v1/orders/{}/cancel/"

    def cancel(self, order: Order, lines: Any, reason: str | None = REASON, **more: Any) -> Answer:
        body: dict[str, Any] = {"reason": reason, **more}
        if lines is not None:
            body["lines"] = [{"line": pk, "quantity": units} for pk, units in lines]
        return answer_of(logged_in(self.manager).post(self.path.format(order.number), body))


class PlanApi(StaffApi):
    path = "/orders/{}/cancel/plan/"


class CustomerApi(Door):
    def cancel(self, order: Order, lines: Any, reason: str | None = "changed_mind", **more: Any) -> Answer:
        known = CancellationReason.objects.filter(code=reason).values_list("pk", flat=True).first() or 999_999
        kind = {"cancellation_type": "cancel", "reason": known}
        items = [{"order_item": pk, "quantity": units, **kind} for pk, units in lines]
        return answer_of(logged_in(self.customer).cancel(order, *items, **more))


class Dialog(Door):
    """The page shows the plan again, or refuses; its form is sent as a browser would, with what was typed over it."""

    def cancel(self, order: Order, lines: Any, reason: str | None = REASON, **more: Any) -> Answer:
        client = Client()
        client.force_login(self.manager)
        data = {**filled_in(client.get(url(order, "cancel"))), "reason": reason, "step": "confirm", **more}
        if lines is not None:
            data |= {"scope": "some", **{f"units_{pk}": str(units) for pk, units in lines}}
        page = client.post(url(order, "cancel"), data)
        return Answer(page.status_code, "", text(page))


def logged_in(user: User) -> Browser:
    browser = Browser()
    browser.client.force_login(user)
    return browser


DOORS: dict[str, type[Door]] = {
    "handler": Handler,
    "staff API": StaffApi,
    "plan API": PlanApi,
    "customer API": CustomerApi,
    "dialog": Dialog,
}

# What is asked for: of the order's own line and another order's one.
ASKED: dict[str, Callable[[int, int], list[tuple[Any, Any]]]] = {
    "zero": lambda own, other: [(own, 0)],
    "negative": lambda own, other: [(own, -1)],
    "too many": lambda own, other: [(own, UNITS + 1)],
    "a huge number": lambda own, other: [(own, 10**30)],
    "text": lambda own, other: [(own, "two")],
    "a foreign line": lambda own, other: [(other, 1)],
    "a foreign line beside the own one": lambda own, other: [(own, 1), (other, 1)],
    "the same line twice": lambda own, other: [(own, 1), (own, 2)],
    "no line": lambda own, other: [],
}
WRONG_IN_API = {
    "zero": (400, "invalid", "lines.0.quantity: Ensure this value is greater than or equal to 1."),
    "negative": (400, "invalid", "lines.0.quantity: Ensure this value is greater than or equal to 1."),
    "too many": (409, "invalid_shipping_event", "only 3 units are left to cancel, not 4"),
    "a huge number": (400, "invalid", "lines.0.quantity: Ensure this value is less than or equal to 2147483647."),
    "text": (400, "invalid", "lines.0.quantity: A valid integer is required."),
    "a foreign line": (400, "bad_lines", "is not part of this order"),
    "a foreign line beside the own one": (400, "bad_lines", "is not part of this order"),
    "the same line twice": (400, "invalid", "is named twice"),
    "no line": (400, "invalid", "This list may not be empty."),
}
ITEM = "cancel_order_items.0."
SAID: dict[str, dict[str, tuple[int, str, str]]] = {
    "handler": {
        "zero": (400, "bad_lines", "the number of units must be at least 1"),
        "negative": (400, "bad_lines", "the number of units must be at least 1"),
        "too many": (409, "invalid_shipping_event", "only 3 units are left to cancel, not 4"),
        "a huge number": (409, "invalid_shipping_event", "only 3 units are left"),
        "text": (400, "bad_lines", "the number of units must be at least 1"),
        "a foreign line": (400, "bad_lines", "is not part of this order"),
        "a foreign line beside the own one": (400, "bad_lines", "is not part of this order"),
        "no line": (400, "bad_lines", "Choose at least one line."),
    },
    "staff API": WRONG_IN_API,
    "plan API": WRONG_IN_API,
    "customer API": {
        "zero": (400, "invalid", f"{ITEM}quantity: Ensure this value is greater than or equal to 1."),
        "negative": (400, "invalid", f"{ITEM}quantity: Ensure this value is greater than or equal to 1."),
        "too many": (400, "invalid", f"{ITEM}quantity: Only 3 were ordered."),
        "a huge number": (400, "invalid", f"{ITEM}quantity: Ensure this value is less than or equal to 2147483647."),
        "text": (400, "invalid", f"{ITEM}quantity: A valid integer is required."),
        "a foreign line": (400, "invalid", f"{ITEM}order_item: This is not an item of this order."),
        "a foreign line beside the own one": (400, "invalid", "This is not an item of this order."),
        "the same line twice": (400, "invalid", "cancel_order_items.1.order_item: This item is named twice."),
        "no line": (400, "invalid", "This list may not be empty."),
    },
    "dialog": {
        "zero": (200, "", "Choose at least one unit."),
        "negative": (200, "", "Ensure this value is greater than or equal to 0."),
        "too many": (200, "", "only 3 units are left to cancel, not 4"),
        "a huge number": (200, "", "Ensure this value is less than or equal to 1000000."),
        "text": (200, "", "Enter a whole number."),
        # The page has no field for it: it is as if nothing had been chosen.
        "a foreign line": (200, "", "Choose at least one unit."),
        "no line": (200, "", "Choose at least one unit."),
    },
}


@pytest.mark.parametrize("name", DOORS)
def test_units_and_lines_that_make_no_sense(
    name: str, manager: User, customer: User, order: Order, foreign: int
) -> None:
    # A mapping names no line twice; a form has one field for each line of its own order.
    assert set(SAID[name]) == set(ASKED) or name in {"handler", "dialog"}
    before, door = world(order), DOORS[name](manager, customer)
    for asked, (status, code, words) in SAID[name].items():
        told = door.cancel(order, ASKED[asked](order.lines.get().pk, foreign))
        assert (told.status, told.code) == (status, code), asked
        assert words in told.words, asked
        assert world(order) == before, asked


NO_REASON = {
    "handler": (400, "unknown_reason", "reason: “{}” is not a reason to choose from."),
    "staff API": (400, "unknown_reason", "reason: “{}” is not a reason to choose from."),
    "plan API": (400, "unknown_reason", "reason: “{}” is not a reason to choose from."),
    "customer API": (400, "invalid", f"{ITEM}reason: This is not a reason to choose from."),
    "dialog": (200, "", "Select a valid choice. {} is not one of the available choices."),
}


@pytest.mark.parametrize("reason", ["because", "better_price"])
@pytest.mark.parametrize("name", DOORS)
def test_a_reason_that_is_unknown_or_switched_off(
    name: str, reason: str, manager: User, customer: User, order: Order
) -> None:
    CancellationReason.objects.filter(code="better_price").update(is_active=False)
    before = world(order)
    told = DOORS[name](manager, customer).cancel(order, [(order.lines.get().pk, 1)], reason=reason)
    status, code, words = NO_REASON[name]
    assert (told.status, told.code) == (status, code)
    assert words.format(reason) in told.words
    assert world(order) == before


def test_a_reason_of_the_shop_is_none_for_customers(customer: User, manager: User, order: Order) -> None:
    before = world(order)
    told = CustomerApi(manager, customer).cancel(order, [(order.lines.get().pk, 1)], reason=REASON)
    assert (told.status, told.code) == (400, "invalid")
    planned = answer_of(logged_in(customer).post(f"/orders/{order.number}/cancel/plan/", {"reason": REASON}))
    assert (planned.status, planned.code) == (400, "unknown_reason")
    assert world(order) == before


# ---------------------------------------------------------------------------------------------------------------
# What else has to be said


CONTACTS: dict[str, tuple[Contact, dict[str, Any], dict[str, Any], str]] = {
    "missing": (Contact(), {}, {}, "Say who asked for it, how and when"),
    "without a way": (
        Contact(name="Ada"),
        {"contact": {"name": "Ada"}},
        {"contact_name": "Ada"},
        "Say who asked for it, how and when",
    ),
    "by an unknown way": (
        Contact(name="Ada", channel="pigeon"),
        {"contact": {"name": "Ada", "channel": "pigeon"}},
        {"contact_name": "Ada", "contact_channel": "pigeon"},
        "pigeon",
    ),
    "in the future": (
        Contact(name="Ada", channel="phone", at=timezone.now() + timedelta(days=2)),
        {"contact": {"name": "Ada", "channel": "phone", "at": (timezone.now() + timedelta(days=2)).isoformat()}},
        {
            "contact_name": "Ada",
            "contact_channel": "phone",
            "contact_at": f"{timezone.now() + timedelta(days=2):%Y-%m-%dT%H:%M}",
        },
        "The customer cannot have asked in the future.",
    ),
}


@pytest.mark.parametrize("case", CONTACTS)
@pytest.mark.parametrize("name", ["handler", "staff API", "dialog"])
def test_who_asked_for_it_is_missing_or_makes_no_sense(
    name: str, case: str, manager: User, customer: User, order: Order
) -> None:
    contact, body, fields, words = CONTACTS[case]
    more = {"handler": {"contact": contact}, "staff API": body, "dialog": fields}[name]
    before = world(order)
    told = DOORS[name](manager, customer).cancel(order, None, reason="changed_mind", **more)
    assert world(order) == before
    if name == "staff API" and case in {"without a way", "by an unknown way"}:
        assert (told.status, told.code) == (400, "invalid")
        assert "contact.channel" in told.words
        return
    assert words in told.words
    assert (told.status, told.code) == ((400, "contact_missing") if name != "dialog" else (told.status, ""))
    assert name != "dialog" or told.status in {200, 400}


@pytest.mark.parametrize("name", ["handler", "staff API", "dialog"])
def test_whoever_needs_approval_says_why(
    name: str, staff: Callable[..., User], store: Store, customer: User, system: Any
) -> None:
    order = factories.place_order([("10.00", UNITS)], store=store, customer=customer, until="preparing")
    door = DOORS[name](staff("Fulfilment", store), customer)
    more = {"understood": "on"} if name == "dialog" else {}
    before = world(order)
    for justification in ("", "   "):
        told = door.cancel(order, None, justification=justification, **more)
        if name == "dialog":
            assert told.status == 200
            assert "Say why it should be cancelled" in told.words
        else:
            assert (told.status, told.code) == (409, "approval_needed")
            assert "Store management" in told.words
            assert "Ask for it, and say why" in told.words
        assert world(order) == before


@pytest.mark.parametrize("name", ["handler", "staff API", "dialog"])
def test_a_reason_that_wants_a_note_and_no_reason_at_all(
    name: str, manager: User, customer: User, order: Order
) -> None:
    door, before = DOORS[name](manager, customer), world(order)
    note = door.cancel(order, None, reason="other")
    none = door.cancel(order, None, reason=None if name == "handler" else "")
    assert "needs a note" in note.words
    assert (note.code, note.status) == (("", note.status) if name == "dialog" else ("note_needed", 400))
    if name == "staff API":  # an empty code is no code
        none = answer_of(logged_in(manager).post(f"/api/v1/orders/{order.number}/cancel/", {}))
    assert none.code == ("" if name == "dialog" else "reason_missing")
    assert world(order) == before


# ---------------------------------------------------------------------------------------------------------------
# Plans


def planned(user: User, order: Order, **body: Any) -> str:
    """The token of a plan, as the API gives it."""
    answer = logged_in(user).post(f"/orders/{order.number}/cancel/plan/", body)
    assert answer.status_code == 200, answer.content
    token: str = answer.json()["token"]
    return token


def dialog(user: User, order: Order) -> tuple[Client, dict[str, Any]]:
    client = Client()
    client.force_login(user)
    return client, {**filled_in(client.get(url(order, "cancel"))), "reason": REASON, "step": "confirm"}


def with_plan(door: str, manager: User, customer: User, order: Order) -> Callable[[], Answer]:
    """Look at a plan through a door; what is returned confirms it."""
    if door == "handler":
        handler = get_event_handler(Actor.staff(manager))
        plan = handler.plan_cancellation(number=order.number or "", reason=REASON)
        return lambda: Handler(manager, customer).cancel(order, None, plan=plan, version=plan.version)
    if door == "staff API":
        token = planned(manager, order, reason=REASON)
        return lambda: StaffApi(manager, customer).cancel(order, None, plan=token)
    if door == "customer API":
        token = planned(customer, order)
        return lambda: answer_of(as_customer(customer, order, token))
    client, data = dialog(manager, order)

    def confirm() -> Answer:
        page = client.post(url(order, "cancel"), data)
        return Answer(page.status_code, "", text(page))

    return confirm


def as_customer(customer: User, order: Order, token: str) -> Any:
    reason = CancellationReason.objects.get(code="changed_mind").pk
    items = [{"order_item": line.pk, "cancellation_type": "cancel", "reason": reason} for line in order.lines.all()]
    return logged_in(customer).post(
        f"/orders/{order.number}/cancel/", {"cancel_order_items": items, "return_policy": True, "plan": token}
    )


PLAN_DOORS = ["handler", "staff API", "customer API", "dialog"]


@pytest.mark.parametrize("door", PLAN_DOORS)
def test_a_plan_of_an_older_order_names_who_changed_what(
    door: str, manager: User, customer: User, order: Order, staff: Callable[..., User]
) -> None:
    confirm = with_plan(door, manager, customer, order)
    colleague = staff("Admin")
    get_event_handler(Actor.staff(colleague)).place_hold(number=order.number or "", kind="other", reason="Look")
    before = world(order)
    told = confirm()
    assert (told.status, told.code) == (409, "" if door == "dialog" else "order_changed")
    # A customer hears of the shop, not of who works there.
    who = order.store.name if door == "customer API" else colleague.get_full_name()
    assert f"{who} put the order on hold" in told.words
    assert world(order) == before


@pytest.mark.parametrize("door", PLAN_DOORS)
def test_a_plan_that_is_no_longer_true_says_what_would_happen_now(
    door: str, manager: User, customer: User, order: Order
) -> None:
    confirm = with_plan(door, manager, customer, order)
    order.lines.update(allocated=1)  # outside the order's own decisions, as a worker might
    before = world(order)
    told = confirm()
    assert (told.status, told.code) == (409, "" if door == "dialog" else "plan_changed")
    assert "What would happen has changed since you looked." in told.words
    assert "Back into stock would go 1, not 3." in told.words
    assert world(order) == before


def forged(token: str) -> str:
    return token[:-1] + ("A" if token[-1] != "A" else "B")


@pytest.mark.parametrize("whose", ["forged", "nonsense", "another person's", "another order's", "the dialog's"])
def test_a_plan_that_is_not_ones_own_is_refused_by_the_api(
    whose: str, manager: User, customer: User, order: Order, store: Store, staff: Callable[..., User]
) -> None:
    other = factories.place_order([("10.00", UNITS)], store=store, customer=customer)
    colleague = staff("Store Manager", store)

    def token(user: User, instead: User) -> str:
        return {
            "forged": lambda: forged(planned(user, order)),
            "nonsense": lambda: "eyJhIjoxfQ:x",
            "another person's": lambda: planned(instead, order),
            "another order's": lambda: planned(user, other),
            "the dialog's": lambda: str(dialog(manager, order)[1]["token"]),
        }[whose]()

    before = world(order)
    of_staff = StaffApi(manager, customer).cancel(order, None, plan=token(manager, colleague))
    of_customer = answer_of(as_customer(customer, order, token(customer, manager)))
    for told in (of_staff, of_customer):
        assert (told.status, told.code) == (400, "plan_invalid")
        assert "Ask for a new one." in told.words
    assert world(order) == before


@pytest.mark.parametrize("whose", ["forged", "another person's", "another order's", "the API's"])
def test_the_dialog_shows_the_plan_again_where_it_gets_none_of_its_own(
    whose: str, manager: User, customer: User, order: Order, store: Store, staff: Callable[..., User]
) -> None:
    client, data = dialog(manager, order)
    other = factories.place_order([("10.00", UNITS)], store=store)
    tokens: dict[str, Callable[[], str]] = {
        "forged": lambda: forged(data["token"]),
        "another person's": lambda: dialog(staff("Store Manager", store), order)[1]["token"],
        "another order's": lambda: dialog(manager, other)[1]["token"],
        "the API's": lambda: planned(manager, order, reason=REASON),
    }
    data["token"] = tokens[whose]()
    before = world(order)
    page = client.post(url(order, "cancel"), data)
    assert page.status_code == 200
    assert filled_in(page)["token"] != data["token"]
    assert world(order) == before


@pytest.mark.parametrize("door", ["staff API", "customer API", "dialog"])
def test_a_plan_of_yesterday_is_shown_again(door: str, manager: User, customer: User, order: Order) -> None:
    with time_machine.travel(timezone.now() - timedelta(seconds=rules.signed.SECONDS + 60)):
        confirm = with_plan(door, manager, customer, order)
    before = world(order)
    told = confirm()
    if door == "dialog":
        assert (told.status, told.code) == (200, "")
    else:
        assert (told.status, told.code) == (409, "plan_expired")
        assert "Ask for a new one." in told.words
    assert world(order) == before
