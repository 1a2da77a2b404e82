"""Do the steps of a plan through the public doors, each in one transaction and under a permanent key.

A run may be killed anywhere: an invoice is placed, paid and shipped in one transaction, a credit is one decision, and
what exists under its key is skipped. Two runs at once take turns (the store's row is the lock).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from checkout.replay.planning import Goodwill, Plan, Return, Sale, Step, StockChange, Units, is_service
from inventory import services as inventory
from inventory.models import Location, Product, StockMovement, StockRecord
from orders.models import Order, OrderLine, PaymentEvent, ShippingEvent, Status
from orders.processing import Discount, EventHandler, Item, PaymentChoice, Placement, get_event_handler
from payments import services as payments
from payments.models import Transaction
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User

ACTOR = Actor.system("Replay")
# The money of a past order came and went outside this desk: it is recorded, no gateway is asked.
GATEWAY = "manual"
CURRENCY, COUNTRY = "GBP", "GB"
STEPS_BETWEEN_JOBS = 50
PATIENCE_SECONDS = jobs.LEASE.total_seconds() + 15


class WrongCurrency(Refused):
    code = "replay_wrong_currency"
    message = gettext_lazy(
        "The desk sells “%(sku)s” in %(its)s, but the store “%(store)s” sells in %(ours)s; "
        "replay into another database."
    )


class Placed(NamedTuple):
    pk: int
    number: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that the desk refused."""

    line: int
    invoice: str
    reason: str


def prefix_of(store_code: str) -> str:
    """This will name what all keys of a store's replay begin with."""
    return f"replay:{store_code}:"


def open_store(code: str) -> Store:
    """This will find the store to replay into, or open it: it sells in pounds, tax included, and reviews nothing."""
    fields = {"name": _("Replay"), "currency": CURRENCY, "country": COUNTRY, "reviews_orders": False}
    store, _new = Store.objects.get_or_create(code=code, defaults=fields)
    return store


def placed_before(store: Store) -> dict[str, Placed]:
    """This will find what earlier runs placed: invoice → order."""
    prefix = prefix_of(store.code)
    rows = Order.objects.filter(idempotency_key__startswith=prefix).values_list("idempotency_key", "pk", "number")
    return {(key or "").removeprefix(prefix): Placed(pk, number or "") for key, pk, number in rows}


def shipped_before(store: Store) -> dict[str, bool]:
    """This will tell which invoices earlier runs placed, and whether they have shipped."""
    sent = ShippingEvent.objects.filter(order__store=store, event_type__code="shipped").values_list("order", flat=True)
    shipped = set(sent)
    return {invoice: order.pk in shipped for invoice, order in placed_before(store).items()}


@dataclass(slots=True)
class Replay:
    """One run of a plan into a store."""

    store: Store
    plan: Plan
    failures: list[Failure] = field(default_factory=list)
    done_now: int = 0
    prefix: str = ""
    products: dict[str, Product] = field(default_factory=dict)
    records: dict[int, StockRecord] = field(default_factory=dict)
    customers: dict[str, User] = field(default_factory=dict)
    placed: dict[str, Placed] = field(default_factory=dict)
    keys: set[str | None] = field(default_factory=set)

    def run(self, *, progress: Callable[[int], None] | None = None) -> None:
        """This will do what is not done yet. Raises WrongCurrency, and Refused where the stock cannot be received."""
        self.prefix = prefix_of(self.store.code)
        self._prepare()
        worked = 0
        for count, step in enumerate(self.plan.steps, start=1):
            self._do(step)
            if self.done_now - worked >= STEPS_BETWEEN_JOBS:
                self._work()
                worked = self.done_now
            if progress is not None:
                progress(count)
        self._finish()

    # --- before the first invoice -----------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with transaction.atomic():
            self._lock()
            location = self._location()
            self.products = self._products()
            tracked = [product.pk for product in self.products.values() if product.track_stock]
            self.records = inventory.ensure_records(product_ids=tracked, location_id=location.pk)
            self._receive()
            self.customers = self._accounts()
        self.placed = placed_before(self.store)
        shipping = ShippingEvent.objects.filter(cause__startswith=self.prefix).values_list("cause", flat=True)
        paying = PaymentEvent.objects.filter(cause__startswith=self.prefix).values_list("cause", flat=True)
        stock = StockMovement.objects.filter(key__startswith=self.prefix).values_list("key", flat=True)
        self.keys = {*shipping, *paying, *stock}

    def _lock(self) -> None:
        Store.objects.select_for_update(no_key=True).get(pk=self.store.pk)

    def _location(self) -> Location:
        location = Location.objects.filter(store=self.store, is_active=True).order_by("priority", "pk").first()
        if location is None:
            code = f"{self.store.code}-warehouse"
            location = Location.objects.create(code=code, name=_("Warehouse"), store=self.store)
        return location

    def _products(self) -> dict[str, Product]:
        """The catalogue's products by SKU; those there are stay as they are."""
        articles = self.plan.articles
        known = Product.objects.filter(sku__in=articles)
        missing = articles.keys() - set(known.values_list("sku", flat=True))
        Product.objects.bulk_create(
            [
                Product(
                    sku=sku,
                    name=articles[sku].name,
                    price=articles[sku].price,
                    currency=self.store.currency,
                    track_stock=not is_service(sku),
                )
                for sku in sorted(missing)
            ],
            batch_size=500,
        )
        products = {product.sku: product for product in known.all()}
        for product in products.values():
            if product.currency != self.store.currency:
                shop = {"store": self.store.code, "ours": self.store.currency}
                raise WrongCurrency(params={"sku": product.sku, "its": product.currency, **shop})
        return products

    def _receive(self) -> None:
        """Receive what was sold and written off, no more; of a file that has grown, what is new in it."""
        prefix = f"{self.prefix}receive:"
        received: dict[int, int] = {}
        before = StockMovement.objects.filter(key__startswith=prefix)
        for record_id, units in before.values_list("stock_record", "on_hand_delta"):
            received[record_id] = received.get(record_id, 0) + units
        moves = []
        for sku, article in self.plan.articles.items():
            record = self.records.get(self.products[sku].pk)
            if record is not None and (missing := article.to_receive - received.get(record.pk, 0)) > 0:
                moves.append(inventory.Move(record.pk, missing, f"{prefix}{sku}:{article.to_receive}"))
        as_of = self.plan.started_at
        for chunk in _chunks(moves):
            inventory.receive_many(moves=chunk, reference=self.prefix.strip(":"), actor_name=ACTOR.name, as_of=as_of)

    def _accounts(self) -> dict[str, User]:
        """Customers nobody can log in as, with addresses that no mail can reach (RFC 2606)."""
        names = {number: f"{self.store.code}-{number}".lower() for number in self.plan.customers}
        accounts = User.objects.filter(username__in=names.values())
        missing = set(names.values()) - set(accounts.values_list("username", flat=True))
        users = [
            User(
                username=username,
                email=f"customer-{number}@{self.store.code}.replay.invalid".lower(),
                last_name=_("Customer %(number)s") % {"number": number},
            )
            for number, username in sorted(names.items())
            if username in missing
        ]
        for user in users:
            user.set_unusable_password()
        User.objects.bulk_create(users, batch_size=500)
        by_name = {user.username: user for user in accounts.all()}
        return {number: by_name[username] for number, username in names.items()}

    # --- one step ---------------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        try:
            if isinstance(step, Sale):
                self._sell(step)
            elif isinstance(step, StockChange):
                self._change_stock(step)
            elif isinstance(step, Return):
                self._take_back(step)
            else:
                self._give(step)
        except Refused as no:
            self.failures.append(Failure(step.line, step.invoice, str(no)))

    def _handler(self, date: datetime | None) -> EventHandler:
        return get_event_handler(ACTOR, as_of=date)

    def _sell(self, sale: Sale) -> None:
        """Place, pay and ship one invoice: one transaction, so that nobody ever finds it half done."""
        if sale.invoice in self.placed:
            return
        handler = self._handler(sale.date)
        with transaction.atomic():
            self._lock()
            order = handler.place(self._placement(sale))
            number = order.number or ""
            if order.version == 1:  # else another run did all of it while this one waited for the lock
                self._pay_and_ship(handler, order, sale)
        self.placed[sale.invoice] = Placed(order.pk, number)
        self.done_now += 1

    def _placement(self, sale: Sale) -> Placement:
        described = _("Discount")
        return Placement(
            store=self.store,
            items=[Item(product=self.products[u.sku], quantity=u.quantity, unit_price=u.price) for u in sale.items],
            payments=[PaymentChoice(gateway=GATEWAY)],
            email="",  # nobody is to get mail about an order of years ago
            customer=self.customers.get(sale.customer),
            customer_name=self.customers[sale.customer].last_name if sale.customer else _("Guest"),
            discounts=[Discount(name=described, amount=sale.discount)] if sale.discount else [],
            shipping_price=sale.postage,
            shipping_method_name=_("Postage"),
            payment_method_name=_("Paid before"),
            idempotency_key=f"{self.prefix}{sale.invoice}",
            extra={"invoice": sale.invoice, "country": sale.country},
        )

    def _pay_and_ship(self, handler: EventHandler, order: Order, sale: Sale) -> None:
        number = order.number or ""
        status = order.status
        if order.total:
            status = handler.record_payment(number=number, amount=order.total, reference=sale.invoice).order.status
        if status == Status.CONFIRMATION_WAITING:  # a store that was there before may review its orders
            handler.approve(number=number)
        if not sale.is_open:
            with handler.decide(number, "ship"):  # picked and sent is one decision: one lock, one entry
                handler.start_preparing(number=number)
                handler.ship(number=number, cause=f"{self.prefix}{sale.invoice}:ship")

    def _order_of(self, sale: Sale) -> Placed:
        if sale.invoice not in self.placed:
            words = _("Its order, invoice %(invoice)s, could not be placed.")
            raise Refused(words, params={"invoice": sale.invoice}, code="replay_order_missing")
        return self.placed[sale.invoice]

    def _take_back(self, step: Return) -> None:
        """Take units back into stock and refund them; what has not shipped is cancelled instead."""
        cause = f"{self.prefix}{step.invoice}:{step.sale.invoice}"
        if cause in self.keys:
            return
        order = self._order_of(step.sale)
        ids = dict(OrderLine.objects.filter(order=order.pk).values_list("position", "pk"))
        handler, note = self._handler(step.date), _("Credit invoice %(invoice)s") % {"invoice": step.invoice}
        units = {ids[position]: n for position, n in step.units.items()}
        with transaction.atomic():
            self._lock()
            if step.sale.is_open:
                handler.cancel(number=order.number, lines=units, note=note, notify=False, cause=cause)
            else:
                handler.take_back(
                    number=order.number,
                    lines={line: (n, "sellable") for line, n in units.items()},
                    deduction=step.deduction,
                    note=note,
                    notify=False,
                    cause=cause,
                )
        self.done_now += 1

    def _give(self, step: Goodwill) -> None:
        cause = f"{self.prefix}{step.invoice}:{step.sale.invoice}:money"
        if cause in self.keys:
            return
        order = self._order_of(step.sale)
        note = _("Credit invoice %(invoice)s: %(what)s") % {"invoice": step.invoice, "what": step.note}
        with transaction.atomic():
            self._lock()
            self._handler(step.date).refund(number=order.number, amount=step.amount, note=note, cause=cause)
        self.done_now += 1

    def _change_stock(self, step: StockChange) -> None:
        key = f"{self.prefix}{'found' if step.found else 'write_off'}:{step.invoice}"
        moves = [move for move in self._moves(step.units, key) if move.key not in self.keys]
        if not moves:
            return
        book = inventory.receive_many if step.found else inventory.write_off
        book(moves=moves, reference=step.invoice, actor_name=ACTOR.name, as_of=step.date)
        self.done_now += 1

    def _moves(self, units: Sequence[Units], key: str) -> Iterator[inventory.Move]:
        for n, unit in enumerate(units, start=1):
            record = self.records.get(self.products[unit.sku].pk)
            if record is not None:
                yield inventory.Move(record.pk, unit.quantity, f"{key}:{n}", unit.note)

    # --- what workers would do --------------------------------------------------------------------------------------

    def _due(self) -> list[str]:
        now = timezone.now()
        due = Q(state=Job.State.WAITING, run_at__lte=now) | Q(state=Job.State.RUNNING, lease_until__lt=now)
        return list(Job.objects.filter(due, store=self.store).order_by("pk").values_list("key", flat=True))

    def _work(self) -> None:
        """Do the store's promised jobs here, so that the run needs no worker. Other stores' are not ours."""
        while due := self._due():
            for key in due:
                jobs.run_now(key)

    def _open_refunds(self) -> list[Transaction]:
        """Refunds of the replay that have not ended; never one that somebody in the shop decided on these orders."""
        ours = Q(cause__startswith=self.prefix) | Q(shipping_event__cause__startswith=self.prefix)
        refunds = PaymentEvent.objects.filter(ours).exclude(refund=None).values("refund")
        rows = Transaction.objects.filter(refund__in=refunds).exclude(status__in=Transaction.FINAL)
        return list(rows.select_related("payment").order_by("pk"))

    def _finish(self) -> None:
        """Do all jobs, and mark the replay's refunds as done by hand: the shop paid them with the credit invoice.

        A job that another worker has, or had when it was killed, is waited for: its lease runs out.
        """
        stop = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < stop:
            self._work()
            for row in self._open_refunds():
                job_id = payments.waiting_job_id(transaction=row)
                if job_id is not None:
                    with suppress(jobs.JobGone):
                        note = _("Paid in the shop's history.")
                        jobs.finish_by_hand(job_id, user_id=None, actor_name=ACTOR.name, note=note)
            self._work()
            running = Job.objects.filter(store=self.store, state=Job.State.RUNNING).exists()
            if not running and not self._open_refunds():
                return
            time.sleep(0.5)


def _chunks(moves: Sequence[inventory.Move], size: int = 500) -> Iterator[Sequence[inventory.Move]]:
    for start in range(0, len(moves), size):
        yield moves[start : start + size]
