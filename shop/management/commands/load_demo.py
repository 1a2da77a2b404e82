"""Fill the desk with a shop to try: two stores, products, people and orders in every status. Only in demo mode.

Everything goes through the doors that the shop itself uses, so the books are right; what is there already stays as it
is, so it can be run at every start.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.utils import timezone
from PIL import Image, ImageDraw

from checkout import services as checkout
from checkout.models import Cart, Discount, PaymentMethod, ShippingMethod
from inventory import services as inventory
from inventory.models import Location, Product
from orders.models import (
    ApprovalPolicy,
    CancellationReason,
    CancellationRequest,
    CancelRule,
    Hold,
    Order,
    OrderNote,
    ReturnCarrier,
    ReturnPolicy,
)
from orders.processing import get_event_handler, pay_now
from orders.processing.requesting import Pickup, Wish
from orders.rules import Picture
from payments.models import CreditAccount, DemoGatewayFault
from payments.services import credit
from shop import jobs
from shop.actors import Actor
from shop.models import Job, Store, User
from shop.roles import ADMIN, FULFILMENT, MANAGER, SERVICE

PASSWORD = "demo"  # noqa: S105 - of a desk that refuses to be anything but a demo
BERLIN, LONDON = "berlin", "london"


# ---------------------------------------------------------------------------------------------------------------------
# What there is to load

STORES: dict[str, dict[str, Any]] = {
    BERLIN: {
        "name": "Lindenhof Berlin",
        "currency": "EUR",
        "country": "DE",
        "email": "shop@lindenhof.example",
        "address": "Lindenhof Versand\nOranienstraße 25\n10999 Berlin\nGermany",
    },
    LONDON: {
        "name": "Lindenhof London",
        "currency": "GBP",
        "country": "GB",
        "reviews_orders": False,
        "email": "hello@lindenhof.example",
        "address": "Lindenhof London\n12 Columbia Road\nLondon E2 7NN\nUnited Kingdom",
    },
}
# Code, name, store, priority.
LOCATIONS = [
    ("berlin-warehouse", "Warehouse Marzahn", BERLIN, 0),
    ("berlin-shop", "Shop Oranienstraße", BERLIN, 10),
    ("london-warehouse", "Warehouse Bermondsey", LONDON, 0),
]
# SKU, name, price, tax rate, units (None: stock is not tracked), attributes.
PRODUCTS: dict[str, list[tuple[str, str, str, str, int | None, dict[str, str]]]] = {
    BERLIN: [
        ("MUG-BLUE", "Stoneware mug", "14.90", "19", 60, {"Colour": "Blue"}),
        ("MUG-RED", "Stoneware mug", "14.90", "19", 45, {"Colour": "Red"}),
        ("MUG-SAND", "Stoneware mug", "14.90", "19", 3, {"Colour": "Sand"}),
        ("POT-1L", "Tea pot, cast iron", "49.00", "19", 18, {"Volume": "1 l"}),
        ("POT-2L", "Tea pot, cast iron", "64.00", "19", 9, {"Volume": "2 l"}),
        ("KETTLE", "Gooseneck kettle", "79.50", "19", 12, {}),
        ("GRINDER", "Coffee grinder by hand", "89.00", "19", 14, {}),
        ("DRIPPER", "Porcelain dripper", "24.90", "19", 40, {}),
        ("FILTER-100", "Paper filters, 100 pieces", "6.90", "19", 200, {}),
        ("TEA-DARJ", "Darjeeling first flush, 100 g", "11.80", "7", 80, {}),
        ("TEA-SENCHA", "Sencha, 100 g", "9.40", "7", 75, {}),
        ("TEA-MINT", "Peppermint, 50 g", "4.20", "7", 120, {}),
        ("COFFEE-ETH", "Coffee from Ethiopia, 250 g", "12.50", "7", 64, {}),
        ("COFFEE-COL", "Coffee from Colombia, 250 g", "11.90", "7", 58, {}),
        ("HONEY", "Linden honey, 500 g", "8.90", "7", 2, {}),
        ("TRAY-OAK", "Oak tray", "39.00", "19", 11, {}),
        ("TOWEL-2", "Linen towels, set of two", "22.00", "19", 34, {}),
        ("LAMP", "Reading lamp", "119.00", "19", 6, {}),
        ("CHAIR", "Oak chair", "249.00", "19", 8, {}),
        ("EBOOK-TEA", "The tea book (e-book)", "9.99", "7", None, {"Format": "EPUB"}),
        ("GIFT-25", "Gift card", "25.00", "0", None, {"Value": "€25"}),
    ],
    LONDON: [
        ("UK-MUG-BLUE", "Stoneware mug", "13.50", "20", 40, {"Colour": "Blue"}),
        ("UK-MUG-SAND", "Stoneware mug", "13.50", "20", 25, {"Colour": "Sand"}),
        ("UK-POT-1L", "Tea pot, cast iron", "45.00", "20", 10, {"Volume": "1 l"}),
        ("UK-KETTLE", "Gooseneck kettle", "69.00", "20", 7, {}),
        ("UK-TEA-EARL", "Earl Grey, 100 g", "8.20", "0", 90, {}),
        ("UK-TEA-ASSAM", "Assam, 100 g", "7.90", "0", 4, {}),
        ("UK-HONEY", "Heather honey, 340 g", "6.80", "0", 30, {}),
        ("UK-TRAY", "Oak tray", "36.00", "20", 9, {}),
        ("UK-EBOOK", "The tea book (e-book)", "8.99", "0", None, {"Format": "EPUB"}),
    ],
}
LOW_BELOW = 5
# Code, name, store, price, free from, carrier, tracking address, pickup.
SHIPPING = [
    ("standard", "Standard", BERLIN, "4.90", "60", "DHL", "https://carrier.example/dhl/{number}", False),
    ("express", "Express", BERLIN, "12.90", None, "DHL Express", "https://carrier.example/express/{number}", False),
    ("pickup", "Pickup at Oranienstraße", BERLIN, "0", None, "", "", True),
    ("uk-standard", "Standard", LONDON, "3.95", "50", "Royal Mail", "https://carrier.example/rm/{number}", False),
    ("uk-express", "Express", LONDON, "9.95", None, "DPD", "https://carrier.example/dpd/{number}", False),
    ("uk-pickup", "Pickup at Columbia Road", LONDON, "0", None, "", "", True),
]
PAYMENT: list[tuple[str, str, dict[str, Any]]] = [
    ("card", "Card, charged when it ships", {"gateway": "demo"}),
    ("card-now", "Card, charged at once", {"gateway": "demo", "capture_mode": "at_placement"}),
    (
        "transfer",
        "Bank transfer",
        {"gateway": "manual", "instructions": "Please transfer the total to IBAN DE02 1203 0000 0000 2020 51."},
    ),
    ("cash", "Cash on delivery", {"gateway": "manual", "pays_on_delivery": True}),
]
# Username, first and last name, role, stores, and what they do here.
STAFF = [
    ("admin", "Alex", "Brandt", ADMIN, [], "everything"),
    ("manager", "Mira", "Keller", MANAGER, [BERLIN], "Berlin: orders, stock, money, approvals"),
    ("manager-london", "Noah", "Hughes", MANAGER, [LONDON], "London: the same"),
    ("fulfilment", "Frida", "Nowak", FULFILMENT, [BERLIN], "Berlin: prepares, ships, takes back"),
    ("service", "Samir", "Yilmaz", SERVICE, [], "all stores: cancels, re-addresses, answers customers"),
]
# E-mail, first and last name, language, address.
CUSTOMERS = [
    (
        "anna@example.com",
        "Anna",
        "Schmidt",
        "de",
        {"line": "Sonnenallee 114", "postcode": "12045", "city": "Berlin", "country": "DE", "phone": "+49 30 1234567"},
    ),
    (
        "james@example.com",
        "James",
        "Carter",
        "en",
        {"line": "8 Mare Street", "postcode": "E8 4RP", "city": "London", "country": "GB", "phone": "+44 20 7946 0018"},
    ),
]
# Whose, kind, amount, days until it expires (None: never), and what for.
CREDIT: list[tuple[str, CreditAccount.Kind, str, int | None, str]] = [
    ("anna@example.com", CreditAccount.Kind.LOYALTY, "12.50", 365, "Points of last year's orders"),
    ("anna@example.com", CreditAccount.Kind.LOYALTY, "3.00", 20, "Birthday points"),
    ("anna@example.com", CreditAccount.Kind.STORE_CREDIT, "20.00", None, "For the kettle that came late"),
]
GUEST = {
    "first_name": "Grete",
    "last_name": "Vogel",
    "line": "Lange Reihe 7",
    "postcode": "20099",
    "city": "Hamburg",
    "country": "DE",
}
GUEST_EMAIL = "grete@example.com"


@dataclass(frozen=True, slots=True)
class Scene:
    """One order: who orders what and how, so many hours ago, and what becomes of it (names of Story's methods)."""

    key: str
    who: str
    lines: tuple[tuple[str, int], ...]
    ship: str
    pay: str
    hours: int
    steps: tuple[str, ...] = ()
    code: str = ""
    points: str = ""


ANNA, JAMES, GRETE = "anna@example.com", "james@example.com", GUEST_EMAIL
PAID = ("approve", "prepare", "take")
SENT = (*PAID, "ship", "deliver")
SHORT = ("approve", "cancel_first")
BY_HAND = ("record", "approve", "cancel_by_staff")
UNREVIEWED = ("prepare", "ship", "deliver")
PICKED = ("approve", "prepare", "ready")
SCENES = [
    Scene("transfer-1", ANNA, (("KETTLE", 1), ("FILTER-100", 2)), "standard", "transfer", 3),
    Scene("transfer-2", GRETE, (("TRAY-OAK", 1),), "standard", "transfer", 9),
    Scene("declined", GRETE, (("LAMP", 1),), "express", "card", 2, ("decline",)),
    Scene("new-1", ANNA, (("MUG-BLUE", 4), ("TEA-DARJ", 2)), "standard", "card", 1),
    Scene("new-2", ANNA, (("COFFEE-ETH", 3), ("DRIPPER", 1)), "express", "card", 5, (), "WELCOME10"),
    Scene("new-cash", GRETE, (("TOWEL-2", 2),), "standard", "cash", 7),
    Scene("fraud", GRETE, (("CHAIR", 4),), "express", "card", 6, ("hold_fraud",)),
    Scene("approved-1", ANNA, (("GRINDER", 1),), "standard", "card", 20, ("approve",)),
    Scene("approved-2", GRETE, (("POT-2L", 1), ("TEA-SENCHA", 2)), "standard", "card-now", 26, ("approve",)),
    Scene("points", ANNA, (("TEA-SENCHA", 3),), "standard", "card-now", 23, ("approve",), points="5.00"),
    Scene("asked-1", ANNA, (("TOWEL-2", 1), ("MUG-RED", 2)), "standard", "card", 28, (*PAID, "ask_to_cancel")),
    Scene("approval", GRETE, (("GRINDER", 1),), "express", "card", 14, (*PAID, "ask_approval")),
    Scene("undoable", ANNA, (("LAMP", 1),), "standard", "card-now", 0, ("approve", "cancel_undoable")),
    Scene("preparing-1", GRETE, (("TEA-MINT", 5), ("HONEY", 1)), "standard", "card", 30, PAID),
    Scene("preparing-2", ANNA, (("CHAIR", 2),), "express", "card-now", 33, ("approve", "prepare", "hold_address")),
    Scene("partly", ANNA, (("MUG-BLUE", 2), ("CHAIR", 1)), "standard", "card", 40, (*PAID, "ship_first")),
    Scene("waiting", ANNA, (("POT-1L", 1),), "pickup", "card-now", 44, PICKED),
    Scene("collected", GRETE, (("MUG-RED", 2),), "pickup", "card-now", 70, (*PICKED, "hand_over")),
    Scene("shipped-1", ANNA, (("COFFEE-COL", 4),), "standard", "card", 50, (*PAID, "ship", "repeat_monthly")),
    Scene("shipped-cash", GRETE, (("DRIPPER", 2),), "standard", "cash", 54, ("approve", "prepare", "ship")),
    Scene("delivered-1", ANNA, (("KETTLE", 1), ("EBOOK-TEA", 1)), "express", "card", 96, SENT),
    Scene("returning", ANNA, (("LAMP", 1), ("TEA-DARJ", 1)), "standard", "card", 120, (*SENT, "ask_to_return")),
    Scene("sent-back", ANNA, (("MUG-RED", 2), ("DRIPPER", 1)), "standard", "card", 140, (*SENT, "send_back")),
    Scene("refunded", GRETE, (("GRINDER", 1),), "standard", "card", 170, (*SENT, "take_back")),
    Scene("goodwill", ANNA, (("TRAY-OAK", 2),), "standard", "card", 190, (*SENT, "refund_some")),
    Scene("cancelled-1", ANNA, (("POT-1L", 1),), "standard", "card", 60, ("cancel_by_customer",)),
    Scene(
        "cancelled-2",
        GRETE,
        (("MUG-SAND", 1), ("MUG-BLUE", 1)),
        "standard",
        "card-now",
        80,
        ("approve", "cancel_first"),
    ),
    Scene(
        "refund-by-hand", GRETE, (("TOWEL-2", 3),), "standard", "transfer", 90, ("record", "approve", "cancel_by_staff")
    ),
    Scene("london-1", JAMES, (("UK-POT-1L", 1), ("UK-TEA-EARL", 3)), "uk-standard", "card", 4),
    Scene("london-2", JAMES, (("UK-KETTLE", 1),), "uk-express", "card", 34, ("prepare", "take", "ship")),
    Scene(
        "london-3",
        JAMES,
        (("UK-MUG-BLUE", 2), ("UK-HONEY", 2)),
        "uk-standard",
        "card-now",
        130,
        ("prepare", "ship", "deliver"),
    ),
    Scene("london-4", JAMES, (("UK-TEA-ASSAM", 2),), "uk-pickup", "cash", 12, ("prepare", "ready")),
]


# ---------------------------------------------------------------------------------------------------------------------
# What becomes of an order


class Story:
    """One order's further life, step by step, each by the person who would do it."""

    def __init__(self, order: Order, *, people: dict[str, User], as_of: datetime) -> None:
        self.order, self.number = order, order.number or ""
        manager = people["manager" if order.store.code == BERLIN else "manager-london"]
        self.manager = get_event_handler(Actor.staff(manager), as_of=as_of)
        self.service = get_event_handler(Actor.staff(people["service"]), as_of=as_of)
        self.fulfilment = get_event_handler(Actor.staff(people["fulfilment"]), as_of=as_of)
        buyer = Actor.customer(order.customer) if order.customer else Actor.guest(order.email)
        self.buyer = get_event_handler(buyer, as_of=as_of)

    def tell(self, steps: tuple[str, ...]) -> None:
        if "decline" in steps:
            DemoGatewayFault.objects.create(operation="authorize", behaviour="decline", remaining=1)
        pay_now(self.number)
        for step in steps:
            if step != "decline":
                getattr(self, step)()
                self.work()

    def work(self) -> None:
        """Do what the step promised, mails aside: a worker would do it within the second."""
        for _round in range(10):
            due = Job.objects.filter(reference=self.number, state=Job.State.WAITING, run_at__lte=timezone.now())
            keys = list(due.exclude(kind__startswith="notifications.").order_by("pk").values_list("key", flat=True))
            if not keys:
                return
            for key in keys:
                jobs.run_now(key)

    def _lines(self) -> list[Any]:
        return list(self.order.lines.order_by("position"))

    def _tracking(self) -> dict[str, Any]:
        method = ShippingMethod.objects.get(code=self.order.shipping_method)
        number = f"JD{self.number}"
        return {"carrier": method.carrier, "tracking_number": number, "tracking_url": method.tracking_url(number)}

    def repeat_monthly(self) -> None:
        self.service.start_recurring(number=self.number, unit="month")

    def approve(self) -> None:
        self.manager.approve(number=self.number)

    def prepare(self) -> None:
        self.manager.start_preparing(number=self.number)

    def take(self) -> None:
        self.manager.take_payment(number=self.number)

    def record(self) -> None:
        amount, words = self.order.total, "Statement of today"
        self.manager.record_payment(number=self.number, amount=amount, note=words, reference=f"RF{self.number}")

    def ready(self) -> None:
        self.manager.ready_for_pickup(number=self.number)

    def hand_over(self) -> None:
        self.manager.hand_over(number=self.number)

    def ship(self) -> None:
        self.manager.ship(number=self.number, **self._tracking())

    def ship_first(self) -> None:
        line = self._lines()[0]
        self.manager.ship(number=self.number, lines={line.pk: line.quantity}, **self._tracking())

    def deliver(self) -> None:
        self.manager.deliver(number=self.number)

    def hold_fraud(self) -> None:
        self.manager.place_hold(number=self.number, kind=Hold.Kind.FRAUD, reason="First order, express, four chairs.")
        self.service.write_note(
            number=self.number, message="Called the customer, no answer yet.", note_type=OrderNote.Type.INFO
        )

    def hold_address(self) -> None:
        self.service.place_hold(number=self.number, kind=Hold.Kind.ADDRESS, reason="House number to be confirmed.")

    def ask_to_cancel(self) -> None:
        self._ask(CancellationRequest.Type.CANCEL, "no_longer_needed", "I have found them at home after all.")

    def ask_to_return(self) -> None:
        day = timezone.localdate() + timedelta(days=2)
        how = {"carrier": ReturnCarrier.objects.get(code="van"), "pickup": Pickup(day, "09:00", "12:00")}
        words, kind = "The shade is dented.", CancellationRequest.Type.REFUND
        self._ask(kind, "arrived_damaged", words, pictures=(_dent(),), **how)

    def send_back(self) -> None:
        """Both articles come back in one parcel, which has arrived."""
        reason, post = CancellationReason.objects.get(code="changed_mind"), ReturnCarrier.objects.get(code="post")
        wishes = [Wish(line.pk, line.quantity, "refund", reason, carrier=post) for line in self._lines()]
        for request in self.buyer.request_cancellation(number=self.number, wishes=wishes):
            self.service.decide_request(request_id=request.pk, approve=True)
        self.fulfilment.receive_return(code=self.order.returns.get().code)

    def _ask(self, kind: str, reason: str, words: str, **how: Any) -> None:
        line, why = self._lines()[0], CancellationReason.objects.get(code=reason)
        wish = Wish(line_id=line.pk, units=line.quantity, type=kind, reason=why, description=words, **how)
        self.buyer.request_cancellation(number=self.number, wishes=[wish])

    def take_back(self) -> None:
        lines = {line.pk: (line.quantity, "sellable") for line in self._lines()}
        self.manager.take_back(number=self.number, lines=lines, reason="changed_mind")

    def refund_some(self) -> None:
        self.manager.refund(number=self.number, amount=Decimal("5.00"), note="For the scratch on the tray")

    def cancel_by_customer(self) -> None:
        self.buyer.cancel(number=self.number, reason="better_price")

    def cancel_by_staff(self) -> None:
        self.manager.cancel(number=self.number, reason="out_of_stock", undoable=False)

    def cancel_undoable(self) -> None:
        self.manager.cancel(number=self.number, reason="out_of_stock")

    def ask_approval(self) -> None:
        words = "The last one on the shelf has a cracked housing; the next delivery is in three weeks."
        self.fulfilment.submit_cancellation(number=self.number, reason="quality_issues", justification=words)

    def cancel_first(self) -> None:
        line = self._lines()[0]
        lines = {line.pk: line.quantity}
        self.manager.cancel(number=self.number, lines=lines, reason="inventory_discrepancy", undoable=False)


# ---------------------------------------------------------------------------------------------------------------------
# Loading


class Command(BaseCommand):
    help = "Load demo data (stores, products, people, orders in every status) and print the log-ins. Demo mode only."

    def handle(self, *args: Any, **options: Any) -> None:
        if not (settings.DEMO or settings.DEBUG):
            raise CommandError("Demo data has well-known passwords. It is loaded with DEMO=yes (or DEBUG=yes) only.")
        started, now = time.monotonic(), timezone.now()
        with _quick_commits():
            made = _load(now)
            jobs.drain()
        self.stdout.write(f"{made} orders made in {time.monotonic() - started:.1f} s.\n" if made else "")
        self._print_log_ins()

    def _print_log_ins(self) -> None:
        rows = [
            *[(f"{name} / {PASSWORD}", f"{first} {last}, {words}") for name, first, last, _role, _in, words in STAFF],
            *[(f"{email} / {PASSWORD}", f"{first} {last}, customer") for email, first, last, _l, _a in CUSTOMERS],
        ]
        width = max(len(left) for left, _right in rows)
        for left, right in rows:
            self.stdout.write(f"  {left:<{width}}  {right}")


@contextmanager
def _quick_commits() -> Iterator[None]:
    """On SQLite, spare the wait for the disk at each of several hundred commits: a power cut loses demo data only."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            cursor.execute("PRAGMA synchronous=FULL")


def _load(now: datetime) -> int:
    """Make what is not there yet. Returns how many orders were made."""
    stores = {code: _made(Store, code, fields) for code, fields in STORES.items()}
    people = _people(stores)
    _policies(stores)
    _returns(now)
    _methods(stores)
    _stock(stores, now)
    _credit(people, now)
    made = sum(1 for _order in _orders(stores, people, now))
    _left_cart(stores[BERLIN], now)
    return made


def _made(model: Any, code: str, fields: dict[str, Any]) -> Any:
    """The row with this code, made if it is not there; one that is there stays as it is."""
    row, _new = model.objects.get_or_create(code=code, defaults=fields)
    return row


def _people(stores: dict[str, Store]) -> dict[str, User]:
    secret = make_password(PASSWORD)  # once: hashing is meant to be slow
    people: dict[str, User] = {}
    for name, first, last, role, places, _words in STAFF:
        mine = {"first_name": first, "last_name": last, "email": f"{name}@lindenhof.example", "password": secret}
        user, is_new = User.objects.get_or_create(
            username=name, defaults={**mine, "is_staff": True, "is_superuser": role == ADMIN}
        )
        if is_new:
            user.groups.set(Group.objects.filter(name=role))
            user.stores.set([stores[code] for code in places])
        people[name] = user
    for email, first, last, language, address in CUSTOMERS:
        mine = {"first_name": first, "last_name": last, "email": email, "password": secret, "language": language}
        user, is_new = User.objects.get_or_create(username=email, defaults=mine)
        if is_new:
            data = {"title": "Home", "first_name": first, "last_name": last, **address}
            checkout.save_address(customer=user, data=data, as_of=timezone.now())
        people[email] = user
    return people


def _policies(stores: dict[str, Store]) -> None:
    """Ten minutes to undo what staff cancel in Berlin, and somebody else's agreement from 500 euros on."""
    direct = ["payment_waiting", "confirmation_waiting", "approved"]
    fields = {"direct_statuses": direct, "undo_minutes": 10}
    _rule, is_new = CancelRule.objects.get_or_create(store=stores[BERLIN], channel="", defaults=fields)
    if is_new:
        ApprovalPolicy.objects.filter(name="High value").update(is_active=True)


def _returns(now: datetime) -> None:
    """A month to send back, for a fee; by post, or fetched at the door."""
    if not ReturnPolicy.objects.exists():
        ReturnPolicy.objects.create(valid_from=now - timedelta(days=400), return_days=30, fee=Decimal("4.90"))
    words = "Hand the parcel in at any post office; keep the receipt until you have your money."
    _made(ReturnCarrier, "post", {"name": "Post", "instructions": words})
    words = "Our driver rings at the door; have the parcel ready."
    _made(ReturnCarrier, "van", {"name": "Lindenhof van", "fetches": True, "instructions": words, "position": 1})


def _dent() -> Picture:
    """What a customer's telephone saw of a lamp: a shade with a dent."""
    image = Image.new("RGB", (480, 360), "#e8e2d8")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 290, 480, 360), fill="#b9a58c")
    pen.rectangle((232, 190, 248, 290), fill="#4a4a4a")
    pen.ellipse((180, 278, 300, 302), fill="#3a3a3a")
    pen.polygon([(190, 60), (290, 60), (350, 200), (130, 200)], fill="#d9a441")
    pen.ellipse((262, 118, 318, 168), fill="#a5752a")
    pen.arc((262, 118, 318, 168), 20, 200, fill="#6b4a18", width=4)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return Picture(out.getvalue(), *image.size)


def _methods(stores: dict[str, Store]) -> None:
    for position, (code, name, store, price, free, carrier, tracking, is_pickup) in enumerate(SHIPPING):
        fields = {
            "name": name,
            "store": stores[store],
            "price": Decimal(price),
            "currency": stores[store].currency,
            "free_from": Decimal(free) if free else None,
            "carrier": carrier,
            "tracking_url_template": tracking,
            "is_pickup": is_pickup,
            "position": position,
        }
        _made(ShippingMethod, code, fields)
    for position, (code, name, fields) in enumerate(PAYMENT):
        _made(PaymentMethod, code, {"name": name, "position": position, **fields})
    _made(Discount, "WELCOME10", {"name": "Welcome, 10 %", "percent": Decimal(10), "currency": "EUR"})


def _stock(stores: dict[str, Store], now: datetime) -> None:
    places = {
        code: _made(Location, code, {"name": name, "store": stores[store], "priority": priority})
        for code, name, store, priority in LOCATIONS
    }
    for store, rows in PRODUCTS.items():
        known = set(Product.objects.filter(sku__in=[row[0] for row in rows]).values_list("sku", flat=True))
        new = [_product(row, stores[store].currency) for row in rows if row[0] not in known]
        units = {row[0]: row[4] for row in rows}
        # Only what is new is stocked: the person who tries the desk may have changed the rest.
        made = [product for product in Product.objects.bulk_create(new) if product.track_stock]
        _receive(made, units, places[f"{store}-warehouse"], now)
        if store == BERLIN:
            _receive([product for product in made if product.sku.startswith("MUG")], {}, places["berlin-shop"], now)


def _product(row: tuple[str, str, str, str, int | None, dict[str, str]], currency: str) -> Product:
    sku, name, price, rate, units, attributes = row
    return Product(
        sku=sku,
        name=name,
        price=Decimal(price),
        currency=currency,
        tax_rate=Decimal(rate),
        track_stock=units is not None,
        attributes=attributes,
    )


def _receive(products: list[Product], units: dict[str, int | None], place: Location, now: datetime) -> None:
    records = inventory.ensure_records(product_ids=[product.pk for product in products], location_id=place.pk)
    moves = [
        inventory.Move(records[product.pk].pk, units.get(product.sku) or 5, f"demo:{product.sku}:{place.code}")
        for product in products
    ]
    inventory.receive_many(moves=moves, reference="Delivery note 1", actor_name="Frida Nowak", as_of=now)
    for product in products:
        if units.get(product.sku):
            inventory.set_threshold(stock_record_id=records[product.pk].pk, threshold=LOW_BELOW, as_of=now)


def _credit(people: dict[str, User], now: datetime) -> None:
    for number, (email, kind, amount, days, note) in enumerate(CREDIT, start=1):
        credit.grant(
            owner_id=people[email].pk,
            currency="EUR",
            kind=kind,
            amount=Decimal(amount),
            key=f"demo:{number}",
            expires_at=now + timedelta(days=days) if days else None,
            note=note,
            actor_name="Mira Keller",
            as_of=now,
        )


def _orders(stores: dict[str, Store], people: dict[str, User], now: datetime) -> Iterator[Order]:
    """Make the orders that are not there yet, the oldest first, and let each live its story."""
    keys = [f"demo:{scene.key}" for scene in SCENES]
    known = set(Order.objects.filter(idempotency_key__in=keys).values_list("idempotency_key", flat=True))
    for scene in sorted(SCENES, key=lambda scene: -scene.hours):
        if f"demo:{scene.key}" not in known:
            store = stores[LONDON if scene.ship.startswith("uk-") else BERLIN]
            order = _order(scene, store, people.get(scene.who), now - timedelta(hours=scene.hours))
            Story(order, people=people, as_of=now).tell(scene.steps)
            yield order


def _order(scene: Scene, store: Store, customer: User | None, as_of: datetime) -> Order:
    language = customer.language if customer else "de"
    cart = checkout.open_cart(store=store, customer=customer, language=language, as_of=as_of)
    products = dict(Product.objects.filter(sku__in=[sku for sku, _n in scene.lines]).values_list("sku", "pk"))
    for sku, units in scene.lines:
        checkout.add_item(cart_id=cart.pk, product_id=products[sku], quantity=units, as_of=as_of)
    entry = customer.addresses.get(is_default_shipping=True).pk if customer else GUEST
    changes = {
        "email": scene.who,
        "shipping_method": scene.ship,
        "payment_method": scene.pay,
        "shipping_address": entry,
        "discount_code": scene.code,
    }
    checkout.change_cart(cart_id=cart.pk, changes=changes, as_of=as_of)
    details = {"card": "•••• 4242"} if scene.pay.startswith("card") else {}
    return checkout.purchase(
        cart_id=cart.pk,
        actor=Actor.customer(customer) if customer else Actor.guest(scene.who),
        idempotency_key=f"demo:{scene.key}",
        payment_details=details,
        use_credit=checkout.CreditUse(loyalty=Decimal(scene.points)) if scene.points else None,
        as_of=as_of,
    )


def _left_cart(store: Store, now: datetime) -> None:
    """A cart that somebody filled and left."""
    email, left_at = "otto@example.com", now - timedelta(days=2)
    if Cart.objects.filter(email=email).exists():
        return
    cart = checkout.open_cart(store=store, customer=None, language="de", as_of=left_at)
    for product in Product.objects.filter(sku__in=["CHAIR", "LAMP"]):
        checkout.add_item(cart_id=cart.pk, product_id=product.pk, as_of=left_at)
    checkout.change_cart(cart_id=cart.pk, changes={"email": email}, as_of=left_at)
