"""A shop with a gateway that lies, for the search over everything that can happen to money; and the person in it."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from inventory.models import Product
from orders.models import Order
from orders.processing import EventHandler, Item, PaymentChoice, get_event_handler
from orders.processing.verify import verify
from payments import services
from payments.gateways import DemoGateway, GatewayNotice, GatewayRecord, GatewayRequest, GatewayResult, Sent
from payments.models import (
    CreditAccount,
    CreditEntry,
    DemoGatewayEntry,
    DemoGatewayFault,
    Dispute,
    Refund,
    Transaction,
    WebhookReceived,
)
from payments.tasks import recheck_refunds
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job, Store, User
from tests import factories

MOVED = (DemoGatewayEntry.Status.SUCCEEDED, DemoGatewayEntry.Status.PENDING)
OUTSIDE = "dashboard-"
# What is said to people is no money: nobody has to write the mails of thousands of orders.
LETTERS = ("notifications.send", "orders.make_pdf")


class Killed(BaseException):
    """What nothing in the desk catches, as nothing catches SIGKILL."""


class LyingGateway(DemoGateway):
    """The demo gateway with a dashboard, with webhooks and disputes, at which the worker may die.

    dies      "before" or "after" it has acted, the next time
    disputes  its own books of them
    """

    dies: str = ""
    disputes: dict[str, GatewayRecord] = {}

    def _answer(self, operation: str, request: GatewayRequest) -> GatewayResult:
        now, LyingGateway.dies = LyingGateway.dies, ""
        if now == "before":
            raise Killed
        answer = super()._answer(operation, request)
        if now == "after":
            raise Killed
        return answer

    def lookup(self, *, key: str, sent: Sent | None = None) -> GatewayResult | None:
        """Also by its own reference, as what was made in the dashboard has no key of ours."""
        found = DemoGatewayEntry.objects.filter(reference=sent.reference).first() if sent and sent.reference else None
        foreign = found is not None and found.key.startswith(OUTSIDE)
        return super().lookup(key=found.key if found and foreign else key)

    def verify_webhook(self, headers: Mapping[str, str], body: bytes) -> list[GatewayNotice]:
        raise NotImplementedError

    def look_at(self, notice: GatewayNotice) -> list[GatewayRecord] | None:
        about = str(notice.body.get("about"))
        if about in self.disputes:
            return [self.disputes[about]]
        return [record for record in self.list_since(timezone.now()) if record.reference == about]

    def list_since(self, since: datetime) -> Iterable[GatewayRecord]:
        for record in super().list_since(since - timedelta(days=1000)):
            foreign = record.key.startswith(OUTSIDE)
            yield replace(record, key="", amount=_so_far(record)) if foreign else record


def _so_far(record: GatewayRecord) -> Decimal:
    """Of what was let go, a gateway tells the sum; of all else, each by itself."""
    if record.kind != "void":
        return record.amount
    payment_key = DemoGatewayEntry.objects.get(reference=record.reference).payment_key
    rows = DemoGatewayEntry.objects.filter(operation="void", payment_key=payment_key)
    return sum((row.amount for row in rows if row.status_now == "succeeded"), Decimal(0))


class Complaints(logging.Handler):
    """Whatever jobs log as an error: an exception that is no refusal."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


class Shop:
    """One store, its products, a customer with credit, and staff."""

    def __init__(self, currency: str, prices: Iterable[str], manager: User) -> None:
        self.store: Store = factories.StoreFactory(currency=currency)
        self.products: list[Product] = [
            factories.stocked(self.store, price=Decimal(price), units=10_000) for price in prices
        ]
        self.customer: User = factories.UserFactory()
        self.accounts = (
            {
                kind: services.credit.grant(
                    owner_id=self.customer.pk,
                    currency=currency,
                    kind=kind,
                    amount=Decimal(50),
                    key=f"gift {kind}",
                    actor_name="Mira",
                    as_of=timezone.now(),
                ).account
                for kind in CreditAccount.Kind.values
            }
            if currency == "EUR"
            else {}
        )
        self.manager = Actor.staff(manager)
        self.buyer = Actor.customer(self.customer)


class Life:
    """One order of a shop, and all that can happen to its money. Each method is one step."""

    def __init__(self, shop: Shop, clock: Any) -> None:
        self.shop, self.clock = shop, clock
        self.number = ""
        self.done = 0  # how much was asked and attempted in this step
        self.held: list[tuple[Job, jobs.Outcome]] = []  # what slow workers have in their hands
        self.notices = 0
        self.written_off: set[str] = set()  # went out twice, and cannot be booked: a person has noted it
        LyingGateway.dies, LyingGateway.disputes = "", {}

    # --- people -------------------------------------------------------------------------------------------------------

    @property
    def staff(self) -> EventHandler:
        return get_event_handler(self.shop.manager)

    @property
    def buyer(self) -> EventHandler:
        return get_event_handler(self.shop.buyer)

    @property
    def order(self) -> Order:
        return Order.objects.select_related("store").get(number=self.number)

    def place(self, lines: Iterable[tuple[int, int]], payments: Iterable[PaymentChoice], **more: Any) -> None:
        items = [
            Item(product=(p := self.shop.products[n % len(self.shop.products)]), quantity=units, unit_price=p.price)
            for n, units in lines
        ]
        order = factories.place_order(
            items, store=self.shop.store, customer=self.shop.customer, payments=list(payments), pay=False, **more
        )
        self.number = order.number or ""
        self.lines = [line.pk for line in order.lines.all()]

    def some(self, line: int, units: int) -> dict[int, int] | None:
        """Some units of a line; None: all of all lines."""
        return None if units == 0 else {self.lines[line % len(self.lines)]: units}

    # --- time and workers ---------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        self.clock.shift(seconds)
        if seconds >= 12 * 3600:
            recheck_refunds()  # runs daily

    def claim(self) -> Job | None:
        return jobs.claim(as_of=timezone.now())

    def work(self, attempts: int | None = None) -> None:
        Job.objects.filter(kind__in=LETTERS, state=Job.State.WAITING).update(state=Job.State.DONE)
        self.done += jobs.drain(seconds=60, at_most=attempts)

    def begin(self) -> None:
        """A slow worker: it has asked, and has not written down yet what it heard."""
        if job := self.claim():
            self.held.append((job, jobs.perform(job)))

    def end(self, which: int) -> None:
        """A slow worker writes it down: much later, or after another one has done the same."""
        if self.held:
            job, outcome = self.held.pop(which % len(self.held))
            with suppress(jobs.LeaseLost):
                jobs.settle(job, outcome, as_of=timezone.now())

    def crash(self, place: str) -> None:
        """A worker dies: when it has taken a job, before or after the gateway acted, before or in its last commit."""
        job = self.claim()
        if job is None or place == "claimed":
            return
        LyingGateway.dies = place if place in {"before", "after"} else ""
        try:
            with suppress(Killed):
                outcome = jobs.perform(job)
                if place == "settling":
                    with transaction.atomic():
                        with suppress(jobs.LeaseLost):
                            jobs.settle(job, outcome, as_of=timezone.now())
                        raise Killed
        finally:
            LyingGateway.dies = ""

    # --- at the gateway -----------------------------------------------------------------------------------------------

    def entries(self, **which: Any) -> list[DemoGatewayEntry]:
        rows = DemoGatewayEntry.objects.filter(merchant_reference=self.number, **which)
        return list(rows.order_by("pk"))

    def entries_of(self, row: Transaction) -> list[DemoGatewayEntry]:
        """What the gateway did for a transaction. A void that somebody was faster with is done all the same."""
        ours = [] if row.is_outside else self.entries(key__in=row.gateway_keys)
        if any(entry.status_now in MOVED for entry in ours) or not (row.is_outside or row.kind == "void"):
            return ours
        return self.entries(reference=row.gateway_reference, key__startswith=OUTSIDE) or ours

    def refund_in_dashboard(self, units: int, becomes: str) -> None:
        """Somebody refunds at the gateway itself, as far as there is room in its own books."""
        taken = [entry for entry in self.entries(operation="capture") if entry.status_now == "succeeded"]
        if not taken:
            return
        payment_key = taken[units % len(taken)].payment_key
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for entry in self.entries(payment_key=payment_key):
            if entry.status_now != "declined":
                sums[entry.operation] += entry.amount
        amount = min(Decimal(units), sums["capture"] - sums["refund"])
        if amount <= 0:
            return
        self.notices += 1
        key = f"{OUTSIDE}{uuid.uuid4()}"
        later = timezone.now() + timedelta(hours=2) if becomes else None
        status = {"": "succeeded", "succeeded": "pending", "declined": "succeeded"}[becomes]
        DemoGatewayEntry.objects.create(
            operation="refund",
            key=key,
            payment_key=payment_key,
            amount=amount,
            currency=self.shop.store.currency,
            status=status,
            becomes=becomes,
            becomes_at=later,
            reference=f"re-{key}",
            merchant_reference=self.number,
        )
        self.tell(f"re-{key}")

    def move_in_dashboard(self, operation: str, which: int, units: int) -> None:
        """Somebody captures a part of what is held, or lets all of it go, at the gateway itself."""
        opened = [entry for entry in self.entries(operation="authorize") if entry.status_now == "succeeded"]
        if not opened:
            return
        payment_key = opened[which % len(opened)].key
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for entry in self.entries(payment_key=payment_key):
            if entry.status_now != "declined":
                sums[entry.operation] += entry.amount
        held = opened[which % len(opened)].amount - sums["capture"] - sums["void"]
        amount = held if operation == "void" else min(Decimal(units), held)
        if amount <= 0:
            return
        key = f"{OUTSIDE}{uuid.uuid4()}"
        DemoGatewayEntry.objects.create(
            operation=operation,
            key=key,
            payment_key=payment_key,
            amount=amount,
            currency=self.shop.store.currency,
            status="succeeded",
            reference=f"there-{key}",
            merchant_reference=self.number,
        )
        self.tell(f"there-{key}")

    def dispute(self, which: int, status: str) -> None:
        """A customer's bank asks money back, or says how that went on. What has ended stays ended."""
        paid = [entry for entry in self.entries(operation="capture") if entry.status_now == "succeeded"]
        if not paid:
            return
        entry = paid[which % len(paid)]
        reference = f"dp-{entry.key}"
        before = LyingGateway.disputes.get(reference)
        stages = list(Dispute.Status.values)
        if before and (before.status in {"won", "lost"} or stages.index(status) < stages.index(before.status)):
            return
        opened = DemoGatewayEntry.objects.get(operation="authorize", key=entry.payment_key)
        LyingGateway.disputes[reference] = GatewayRecord(
            kind="dispute",
            reference=reference,
            payment_reference=opened.reference,
            amount=entry.amount,
            currency=entry.currency,
            status=status,
            created_at=timezone.now(),
        )
        self.tell(reference)

    def changes_its_mind(self, which: int) -> None:
        """What the bank has not decided yet will be declined."""
        open_ones = [entry for entry in self.entries() if entry.becomes_at and entry.becomes_at > timezone.now()]
        if open_ones:
            entry = open_ones[which % len(open_ones)]
            entry.becomes, entry.message = DemoGatewayEntry.Status.DECLINED, "The bank has decided: no."
            entry.save()

    def tell(self, about: str, *, event: str = "") -> None:
        """A webhook arrives."""
        self.notices += 1
        notice = GatewayNotice(event_id=event or f"evt-{self.notices}", kind="changed", body={"about": about})
        services.receive(gateway="demo", notice=notice, as_of=timezone.now())

    def tell_again(self, which: int, *, same: bool) -> None:
        """A true webhook about anything, or one that has come before."""
        if same:
            before = list(WebhookReceived.objects.order_by("pk"))
            if before:
                row = before[which % len(before)]
                self.tell(row.body["about"], event=row.event_id)
            return
        known = [entry.reference for entry in self.entries()] + list(LyingGateway.disputes)
        if known:
            self.tell(known[which % len(known)])

    # --- the inbox ----------------------------------------------------------------------------------------------------

    def inbox(self) -> list[Job]:
        return list(Job.objects.filter(state=Job.State.NEEDS_ATTENTION).order_by("pk"))

    def person(self, which: int, choice: str) -> None:
        """Somebody does what one item of the inbox says: tries again, or looks at the gateway and does it or closes."""
        waiting = self.inbox()
        if waiting:
            self.attend(waiting[which % len(waiting)], choice)

    def attend(self, job: Job, choice: str) -> None:
        if job.kind == services.ANSWER_DISPUTE:
            jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="sent what proves it")
        elif choice == "write off" and job.kind == services.PROCESS and "was refunded at the gateway" in job.last_error:
            self.written_off.add(WebhookReceived.objects.get(pk=job.args["webhook"]).body["about"])
            jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="it went out twice")
        elif job.kind != services.SEND or choice == "retry":
            jobs.retry_by_hand(job.pk)
        else:
            row = Transaction.objects.select_related("payment").get(pk=job.args["transaction"])
            if row.gateway != "manual" and self.is_there(row):
                jobs.retry_by_hand(job.pk)  # it is at the gateway: the desk looks it up
            elif choice == "by hand" and row.kind == "refund":
                jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="bank transfer 17")
            else:
                services.close_as_failed(transaction_id=row.pk, note="not at the gateway", actor_name="Ada")

    def is_there(self, row: Transaction) -> bool:
        """What a person sees who looks a transaction up at the gateway."""
        at_gateway = any(entry.status_now in MOVED for entry in self.entries_of(row))
        return at_gateway or CreditEntry.objects.filter(key__in=row.gateway_keys).exclude(kind="refused").exists()

    # --- the end ------------------------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """Nothing goes wrong any more, everybody does their work: within days, nothing is left to do."""
        DemoGatewayFault.objects.update(remaining=0)
        self.held.clear()
        LyingGateway.dies = ""
        for day in range(20):
            self.wait(13 * 3600)
            self.work()
            for entry in self.entries(key__startswith=OUTSIDE):
                if not self.is_booked(entry):
                    self.tell(entry.reference)
            self.work()
            waiting = self.inbox()
            for job in waiting:
                # At first they try again; what comes back then they look up at the gateway, and close it.
                with suppress(Refused):
                    self.attend(job, "retry" if day < 2 else "write off" if day > 8 else "close")
            if not waiting and not Job.objects.exclude(state=Job.State.DONE).exists():
                return
        left = Job.objects.exclude(state=Job.State.DONE).values_list("key", "state", "last_error")
        raise AssertionError(f"does not come to rest: {list(left)}")

    def is_booked(self, entry: DemoGatewayEntry) -> bool:
        rows = Transaction.objects.filter(gateway_reference=entry.reference)
        row = rows.filter(Q(origin="outside") | Q(kind="void")).first()
        known = row is not None and row.status == entry.status_now
        return known or entry.status_now == "declined" or entry.reference in self.written_off

    def differences(self) -> list[str]:
        """Our books' faults, and every movement that is not the same here and at the gateway."""
        connection.check_constraints()
        return [*verify(), *self._there_and_not_here(), *self._here_and_not_there()]

    def _there_and_not_here(self) -> Iterable[str]:
        ours = list(Transaction.objects.filter(payment__reference=self.number).select_related("payment", "refund"))
        by_key = {key: row for row in ours for key in row.gateway_keys}
        by_reference = {entry.reference: row for row in ours for entry in self.entries_of(row)}
        moved: dict[int, list[str]] = defaultdict(list)
        for entry in self.entries():
            if entry.status_now != "succeeded" or entry.reference in self.written_off:
                continue
            row = by_key.get(entry.key) or by_reference.get(entry.reference)
            name = f"{entry.operation} {entry.amount} ({entry.reference})"
            if row is None or row.status != "succeeded":
                yield f"{name} is at the gateway, here it is {row and row.status}"
            elif (row.kind, row.amount) != (entry.operation, entry.amount):
                yield f"{name} is {row.kind} {row.amount} here"
            else:
                moved[row.pk].append(entry.reference)
        yield from (f"transaction {pk} moved more than once: {n}" for pk, n in moved.items() if len(n) > 1)

    def _here_and_not_there(self) -> Iterable[str]:
        done = Transaction.objects.filter(payment__reference=self.number, status="succeeded", settled_by="")
        for row in done.exclude(origin="chargeback").select_related("payment"):
            if row.gateway == "demo":
                there = sum(e.amount for e in self.entries_of(row) if e.status_now == "succeeded")
            elif row.gateway in {"loyalty", "store_credit"}:
                entries = CreditEntry.objects.filter(key__in=row.gateway_keys).exclude(kind="refused")
                there = sum(abs(e.amount or e.held_amount) for e in entries)
            else:
                there = row.amount
            if there != row.amount:
                yield f"{row.kind} {row.amount} succeeded here, at {row.gateway} it is {there}"
        for refund in Refund.objects.filter(reference=self.number, origin="chargeback"):
            dispute = Dispute.objects.get(chargeback__refund=refund)
            if refund.amount > dispute.amount or dispute.status != "lost":
                yield f"chargeback of {refund.amount} for a dispute of {dispute.amount}"
