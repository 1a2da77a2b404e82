"""The proof of the books: units, stock, money and hash chains, each against what it follows from.

Every number of an order is stored with something it can be checked against: frozen amounts with the journal's first
entry, counters with the events that moved them, money with the gateways' transactions, the journal with its own hashes.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Min, Sum

from inventory import services as inventory
from inventory.models import StockMovement, StockRecord
from orders.models import (
    Cancellation,
    Document,
    DocumentKind,
    DocumentSeries,
    ExternalCall,
    Facts,
    Hold,
    JournalEntry,
    Order,
    OrderDiscount,
    OrderLine,
    OrderStatusChange,
    PaymentEvent,
    PaymentEventQuantity,
    RefundRequest,
    ShippingEvent,
    ShippingEventQuantity,
    Status,
    as_json,
)
from orders.processing.decision import payment_record, shipping_record
from orders.processing.money import PAYMENT_CHANGED
from orders.processing.placement import frozen_numbers
from orders.processing.returning import RETURN_STOCK
from orders.rules import Plan
from payments import services as payments
from payments.models import Origin, Payment, Transaction
from shop.models import Job
from shop.money import ZERO, first_units, rounded

CHUNK = 500

# counter → the shipping events that raise it, and those that take it back
SHIPPING_COUNTERS = {
    "shipped": ("shipped", ""),
    "delivered": ("delivered", ""),
    "cancelled": ("cancelled", "reinstated"),
    "returned": ("returned", ""),
}
# counter → the payment events that raise it, and those that take it back
PAYMENT_COUNTERS = {
    "charged": ("charged", ("declined", "reopened")),
    "paid": ("paid", ("reopened",)),
    "refunded": ("refunded", ("reopened",)),
}


def verify(*, progress: Callable[[int], None] | None = None) -> Iterator[str]:
    """This will yield a sentence for every number that does not add up, naming its row. Writes nothing.

    It may run on a desk at work: what looks wrong is looked at once more under its lock before it is told.
    """
    yield from inventory.verify()
    yield from payments.verify()
    yield from _allocations()
    yield from _series()
    last = 0
    while True:
        orders = _orders(pk__gt=last)
        if not orders:
            return
        suspects = _Chunk(orders).verify()
        if suspects:
            with transaction.atomic():
                locked = Order.objects.select_for_update(no_key=True).filter(pk__in=suspects).order_by("pk")
                list(locked.values_list("pk", flat=True))
                for faults in _Chunk(_orders(pk__in=suspects)).verify().values():
                    yield from faults
        last = orders[-1].pk
        if progress is not None:
            progress(len(orders))


def _orders(**which: Any) -> list[Order]:
    return list(Order.objects.placed().filter(**which).select_related("store").order_by("pk")[:CHUNK])


def _allocations() -> Iterator[str]:
    """What is allocated in stock is what the lines have allocated."""
    allocated = OrderLine.objects.filter(allocated__gt=0).exclude(stock_record=None)
    lines = dict(allocated.values_list("stock_record").annotate(n=Sum("allocated")))
    records = dict(StockRecord.objects.filter(allocated__gt=0).values_list("pk", "allocated"))
    for pk in sorted(lines.keys() | records.keys()):
        if lines.get(pk, 0) != records.get(pk, 0):
            with transaction.atomic():
                record = StockRecord.objects.select_for_update(no_key=True).get(pk=pk)
                units = allocated.filter(stock_record=pk).aggregate(n=Sum("allocated"))["n"] or 0
            if units != record.allocated:
                yield f"Stock record {pk}: {record.allocated} allocated, but order lines have {units}."


def _series() -> Iterator[str]:
    """Numbers of documents follow one another; each is asked once more under the lock that gives them out."""

    def faults(rows: Any) -> Iterator[tuple[int, str]]:
        counted = rows.annotate(n=Count("documents"), first=Min("documents__sequence"), last=Max("documents__sequence"))
        for series in counted.select_related("store").order_by("pk"):
            if series.n and series.last - series.first + 1 != series.n:
                yield series.pk, f"{series}: {series.n} documents from number {series.first} to {series.last}."
            if series.n and series.next_number != series.last + 1:
                yield series.pk, f"{series}: the next number is {series.next_number}, but the last was {series.last}."

    suspects = {pk for pk, _words in faults(DocumentSeries.objects.all())}
    if suspects:
        with transaction.atomic():
            rows = DocumentSeries.objects.filter(pk__in=suspects)
            list(rows.select_for_update(no_key=True).order_by("pk"))
            yield from (words for _pk, words in faults(rows))


class _Chunk:
    """Some orders with everything that belongs to them: a fixed number of queries."""

    def __init__(self, orders: list[Order]) -> None:
        ids = [order.pk for order in orders]
        self.orders = orders
        self.lines: dict[int, list[OrderLine]] = _grouped(
            OrderLine.objects.filter(order__in=ids).order_by("position"), "order_id"
        )
        self.journal: dict[int, list[JournalEntry]] = _grouped(
            JournalEntry.objects.filter(order__in=ids).order_by("sequence"), "order_id"
        )
        self.hops: dict[int, list[OrderStatusChange]] = _grouped(
            OrderStatusChange.objects.filter(order__in=ids).order_by("pk"), "order_id"
        )
        self.discounts = dict(OrderDiscount.objects.filter(order__in=ids).values_list("order").annotate(Sum("amount")))
        events = PaymentEvent.objects.filter(order__in=ids).select_related("event_type", "refund").order_by("pk")
        self.money: dict[int, list[PaymentEvent]] = _grouped(events, "order_id")
        numbers = {order.number: order.pk for order in orders}
        self.payments: dict[int, list[Payment]] = defaultdict(list)
        for payment in Payment.objects.filter(reference__in=numbers).order_by("pk"):
            self.payments[numbers[payment.reference]].append(payment)
        self.untold = _untold(numbers)
        self.closed = payments.closed_refunds(references=[number for number in numbers if number])
        told_later = Job.objects.filter(kind=PAYMENT_CHANGED, reference__in=numbers).exclude(state=Job.State.DONE)
        self.awaited = set(told_later.values_list("reference", flat=True))
        self.unbooked = _unbooked(numbers)
        self.holds: dict[int, list[Hold]] = _grouped(Hold.objects.filter(order__in=ids, released_at=None), "order_id")
        shipping = ShippingEventQuantity.objects.filter(line__order__in=ids)
        self.shipped = _by_line_and_code(shipping)
        paying = PaymentEventQuantity.objects.filter(line__order__in=ids)
        self.paid = _by_line_and_code(paying)
        self.costs: dict[int, dict[int, tuple[int, Decimal]]] = defaultdict(dict)
        for event, line, units, cost in paying.values_list("event", "line", "quantity", "amount"):
            self.costs[event][line] = units, cost
        self.moved: dict[int, list[ShippingEventQuantity]] = _grouped(shipping.order_by("pk"), "event_id")
        shipments = ShippingEvent.objects.filter(order__in=ids).select_related("event_type").order_by("pk")
        self.shipments: dict[int, list[ShippingEvent]] = _grouped(shipments, "order_id")
        papers = Document.objects.filter(order__in=ids).select_related("payment_event__refund").order_by("pk")
        self.documents: dict[int, list[Document]] = _grouped(papers, "order_id")
        rows = Cancellation.objects.filter(order__in=ids).order_by("pk")
        self.cancellations: dict[int, list[Cancellation]] = _grouped(rows, "order_id")
        asked = RefundRequest.objects.filter(order__in=ids).order_by("pk")
        self.refund_requests: dict[int, list[RefundRequest]] = _grouped(asked, "order_id")
        undoable = {Cancellation.Status.PENDING, Cancellation.Status.UNDONE}
        # Their stock waits until they can no longer be undone, or stays where it is because they were.
        self.without_effect = {
            row.event_id for rows in self.cancellations.values() for row in rows if row.status in undoable
        }

        calls = ExternalCall.objects.filter(order__in=ids, status__in=ExternalCall.HOLDING)
        self.withheld: Counter[int] = Counter()
        for call in calls.filter(kind=ExternalCall.Kind.CANCEL, origin=ExternalCall.Origin.CUSTOMER):
            self.withheld.update(call.lines)

    def verify(self) -> dict[int, list[str]]:
        """The faults found, by order."""
        faults: dict[int, list[str]] = defaultdict(list)
        for order in self.orders:
            lines = self.lines.get(order.pk, [])
            order.facts = Facts(order, lines, self.payments.get(order.pk, []), self.holds.get(order.pk, []))
            checks = (
                self._frozen(order, lines),
                self._units(order, lines),
                self._money(order, lines),
                self._chain(order),
                self._journalled(order),
                self._documented(order),
                self._cancelled(order),
                self._agreed(order),
                self._status(order),
            )
            for words in itertools.chain(*checks):
                faults[order.pk].append(f"Order {order}: {words}")
        for pk, words in self._stock():
            faults[pk].append(words)
        return faults

    def _frozen(self, order: Order, lines: list[OrderLine]) -> Iterator[str]:
        """The amounts of placement, against one another and against the journal."""
        for name in ("items_total", "discount_total", "shipping_total", "tax_total", "total"):
            of_lines = sum((getattr(line, name) for line in lines), ZERO)
            if of_lines != getattr(order, name):
                yield f"{name} is {getattr(order, name)}, but its lines have {of_lines}."
        for line in lines:
            net = line.items_total - line.discount_total + line.shipping_total
            total = net if order.prices_include_tax else net + line.tax_total
            if line.items_total != rounded(line.unit_price * line.quantity, order.currency) or line.total != total:
                yield f"line {line.position}: its price, quantity and amounts do not fit together."
        granted = self.discounts.get(order.pk, ZERO)
        if granted != order.discount_total:
            yield f"discounts of {granted} were granted, but {order.discount_total} was taken off."
        first = next(iter(self.journal.get(order.pk, [])), None)
        if first and first.details.get("frozen") != frozen_numbers(order, lines):
            yield "its amounts or quantities are not those it was placed with (journal entry 1)."

    def _units(self, order: Order, lines: list[OrderLine]) -> Iterator[str]:
        """Counters against the events that moved them, and against their bounds."""
        for line in lines:
            expected = {
                counter: self.shipped[line.pk, up] - self.shipped[line.pk, down]
                for counter, (up, down) in SHIPPING_COUNTERS.items()
            }
            for counter, (up, down) in PAYMENT_COUNTERS.items():
                expected[counter] = self.paid[line.pk, up] - sum(self.paid[line.pk, code] for code in down)
            for counter, units in expected.items():
                if getattr(line, counter) != units:
                    yield f"line {line.position}: {counter} is {getattr(line, counter)}, but its events say {units}."
            bounds = (
                line.cancelled + line.shipped <= line.quantity
                and line.allocated + line.shipped <= line.quantity
                and line.returned <= line.shipped
                and line.delivered <= line.shipped
                and line.refunded <= line.paid <= line.charged <= line.quantity
            )
            if not bounds:
                yield f"line {line.position}: more units than were ordered."
            if line.withheld != self.withheld[line.pk]:
                yield f"line {line.position}: {line.withheld} units withheld, but {self.withheld[line.pk]} asked for."

    def _money(self, order: Order, lines: list[OrderLine]) -> Iterator[str]:
        """Payment events against units and gateway transactions; nothing may be here that nobody can explain."""
        events = self.money.get(order.pk, [])
        sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
        rounding = ZERO
        for event in events:
            code = event.event_type.code
            costs = sum((cost for _units, cost in self.costs[event.pk].values()), ZERO)
            sums[code] += event.amount
            if event.refund is not None and event.refund.amount != event.amount:
                yield f"payment event {event.pk} says {event.amount}, but its refund {event.refund.amount}."
            if event.refund is not None and event.refund.destination != event.destination:
                yield f"payment event {event.pk} does not say where its refund goes."
            if event.refund is not None and event.refund.owner_id not in {None, order.customer_id}:
                yield f"payment event {event.pk} gives credit to somebody who is not its customer."
            if code == "paid" and costs != event.amount:
                yield f"payment event {event.pk} says {event.amount}, but its units cost {costs}."
            if code == "reopened":
                sums["paid"] -= costs
                rounding += min(ZERO, costs - event.amount)
        worth = sum((first_units(x.total, x.quantity, x.paid, order.currency) for x in lines), ZERO)
        if sums["paid"] != worth:
            yield f"{sums['paid']} was paid for units that cost {worth}."
        reserved = sum((p.refund_reserved for p in order.facts.payments), ZERO)
        decided = sum((e.refund.amount for e in events if e.refund is not None and e.refund.status != "failed"), ZERO)
        reserved -= self.untold.get(order.pk, ZERO)
        if decided < reserved:
            yield f"{reserved} is refunded or about to be, but only {decided} was decided."
        # What units cost again and what went back for them differ by cents, which are paid with them.
        if order.facts.unapplied + self.untold.get(order.pk, ZERO) < rounding:
            yield f"{-order.facts.unapplied} more was given back than was there for it."
        if order.number not in self.awaited:
            yield from self._moved_unseen(order)
            yield from self._left_over(order)

    def _left_over(self, order: Order) -> Iterator[str]:
        """Money beyond what the order costs goes back by itself, unless a person closed its refund as failed."""
        over = order.facts.left_over - self.closed[order.number or ""]
        if over > 0 and order.undo_until is None:
            yield f"{over} is here beyond what it costs, and nobody gives it back."

    def _moved_unseen(self, order: Order) -> Iterator[str]:
        """Money that moved at the gateway itself, and that no event of the order knows. No worker is about to."""
        for row in self.unbooked.get(order.number or "", []):
            yield f"{row.kind} {row.pk} of {row.amount} was made at the gateway itself, and no event knows it."

    def _chain(self, order: Order) -> Iterator[str]:
        """The journal: no gap, no changed entry, and the order's version is its last."""
        previous = ""
        entries = self.journal.get(order.pk, [])
        for expected, entry in enumerate(entries, start=1):
            if entry.sequence != expected:
                yield f"journal entry {expected} is missing."
                return
            if entry.previous_hash != previous or entry.compute_hash() != entry.hash:
                yield f"journal entry {entry.sequence} was changed after it was written."
                return
            previous = entry.hash
        if order.version != len(entries):
            yield f"its version is {order.version}, but its journal has {len(entries)} entries."

    def _journalled(self, order: Order) -> Iterator[str]:
        """Payments and payment events as the journal recorded them."""
        entries = self.journal.get(order.pk, [])
        events = {event.pk: event for event in self.money.get(order.pk, [])}
        records = [record for entry in entries for record in entry.details.get("events", [])]
        adjusted = ZERO
        for record in (record for record in records if "payment" in record):
            event = events.pop(record["payment"], None)
            unapplied = Decimal(record["unapplied"])
            if event is None or payment_record(event, self.costs[event.pk], unapplied) != record:
                yield f"payment event {record['payment']} is not what the journal says it was."
            elif event.event_type.code == "refunded":
                worth = sum((cost for _units, cost in self.costs[event.pk].values()), ZERO)
                adjusted += worth + unapplied - event.amount
            elif event.event_type.code == "reopened":
                adjusted += unapplied
        for pk in events:
            yield f"payment event {pk} is not in the journal."
        if adjusted != order.adjustment_total:
            yield f"adjustment_total is {order.adjustment_total}, but its refunds make {adjusted}."
        repriced = [entry.after["repriced_total"] for entry in entries if "repriced_total" in entry.after]
        if order.repriced_total != Decimal(repriced[-1] if repriced else 0):
            yield f"repriced_total is {order.repriced_total}, which is not what the journal says."
        shipments = {event.pk: event for event in self.shipments.get(order.pk, [])}
        for record in (record for record in records if "shipping" in record):
            shipment = shipments.pop(record["shipping"], None)
            if shipment is None or as_json(shipping_record(shipment, self.moved[shipment.pk])) != record:
                yield f"shipping event {record['shipping']} is not what the journal says it was."
        for pk in shipments:
            yield f"shipping event {pk} is not in the journal."
        amounts = {pk: amount for entry in entries for pk, amount in entry.details.get("payments", {}).items()}
        for pk in amounts.keys() - {str(payment.pk) for payment in order.facts.payments}:
            yield f"payment {pk} is gone."
        for payment in order.facts.payments:
            if amounts.get(str(payment.pk)) != f"{payment.amount:.3f}":
                yield f"payment {payment.pk} is not over the amount that the journal says."

    def _documented(self, order: Order) -> Iterator[str]:
        """Documents as the journal recorded them, and against the money they are about."""
        papers = {document.pk: document for document in self.documents.get(order.pk, [])}
        entries = self.journal.get(order.pk, [])
        for record in (record for entry in entries for record in entry.details.get("documents", [])):
            document = papers.pop(record["id"], None)
            if document is None:
                yield f"document {record['number']} is gone."
            elif document.as_record() != record:
                yield f"document {document} is not what the journal says it was."
        for document in papers.values():
            yield f"document {document} is not in the journal."
        for document in self.documents.get(order.pk, []):
            refund = document.payment_event.refund if document.payment_event else None
            is_credit_note = document.kind == DocumentKind.CREDIT_NOTE
            if is_credit_note and refund and refund.status == "succeeded" and document.total != refund.amount:
                yield f"credit note {document} says {document.total}, but {refund.amount} was refunded."
            if document.total is not None and str(document.content.get("total")) != str(
                rounded(document.total, document.currency)
            ):
                yield f"document {document} says {document.content.get('total')} and is over {document.total}."
        issued = any(document.kind == DocumentKind.INVOICE for document in self.documents.get(order.pk, []))
        if issued != (order.invoiced_at is not None):
            yield "it is marked as invoiced without an invoice, or the other way round."

    def _cancelled(self, order: Order) -> Iterator[str]:
        """Cancellations as the journal recorded them: their plan, and what the figures are made of."""
        entries: dict[str, list[JournalEntry]] = defaultdict(list)
        for entry in self.journal.get(order.pk, []):
            if "plan" in entry.details and "cancellation" in entry.details:
                entries[entry.details["cancellation"]].append(entry)
        for row in self.cancellations.get(order.pk, []):
            told = entries.pop(str(row.uuid), [])
            if not told:
                yield f"cancellation {row.pk} is not in the journal."
                continue
            plan = {name: value for name, value in row.plan.items() if name not in Plan.NO_EFFECTS}
            if plan != told[-1].details["plan"]:
                yield f"cancellation {row.pk} is not planned as the journal says it was."
            elif (row.units, row.currency, row.ends_order, row.value) != _cancelled_by(plan):
                yield f"cancellation {row.pk} is not over the units and the value of its plan."
            if row.version + 1 != told[0].sequence:
                yield f"cancellation {row.pk} was not asked for at version {row.version}."
            if row.event_id and sum(q.quantity for q in self.moved.get(row.event_id, [])) != row.units:
                yield f"cancellation {row.pk} is over {row.units} units, but its event moved others."
        for uuid in entries:
            yield f"cancellation {uuid} is gone."

    def _agreed(self, order: Order) -> Iterator[str]:
        """Refunds that somebody had to agree to: as the journal last told of them, done as they were asked for."""
        told = {
            record["id"]: record
            for entry in self.journal.get(order.pk, [])
            if (record := entry.details.get("refund_request"))
        }
        events = {event.pk: event for event in self.money.get(order.pk, [])}
        for row in self.refund_requests.get(order.pk, []):
            record = told.pop(str(row.uuid), None)
            if record != row.as_record():
                yield f"refund request {row.pk} is not what the journal says it is."
            event = events.get(row.event_id or 0)
            if event is not None and (event.amount, event.refund_kind, event.destination) != (
                row.amount,
                row.kind,
                row.destination,
            ):
                yield f"refund request {row.pk} was not done as it was asked for."
        for uuid in told:
            yield f"refund request {uuid} is gone."

    def _status(self, order: Order) -> Iterator[str]:
        """Each status change starts where the one before ended, and the last one ends at the order's status."""
        status: str = Status.CREATED
        for hop in self.hops.get(order.pk, []):
            if hop.old_status != status:
                yield f"its status changes skip from {status} to {hop.old_status}."
            status = hop.new_status
        if order.status != status:
            yield f"its status is {order.status}, but its last change led to {status}."
        if order.status == Status.CANCELLED and not order.facts.nothing_left:
            yield "it is cancelled, but units are left."

    def _stock(self) -> Iterator[tuple[int, str]]:
        """What cancellations and returns give back to stock has been booked, once, or is promised."""
        order_of = {e.pk: (e.order_id, e.event_type.code) for events in self.shipments.values() for e in events}
        keys = {
            f"{order_of[event][1]}:{event}:{q.line_id}": (event, q.restock)
            for event, quantities in self.moved.items()
            for q in quantities
            if order_of[event][1] in {"cancelled", "returned"} and event not in self.without_effect
        }
        booked: dict[str, int] = {}
        for some in batched(list(keys), CHUNK):
            deltas = ("on_hand_delta", "allocated_delta", "quarantine_delta", "damaged_delta")
            for key, *moved in StockMovement.objects.filter(key__in=some).values_list("key", *deltas):
                booked[key] = max(abs(units) for units in moved)
        promised = _promised_returns({event for key, (event, n) in keys.items() if n and key not in booked})
        numbers = {order.pk: order.number for order in self.orders}
        for key, (event, restock) in keys.items():
            order = order_of[event][0]
            if key in booked and booked[key] != restock:
                yield order, f"Order {numbers[order]}: event {event} gives back {restock}, {booked[key]} were booked."
            elif restock and key not in booked and event not in promised:
                yield order, f"Order {numbers[order]}: event {event} gives back {restock}, but no movement or job does."


def _untold(numbers: dict[str | None, int]) -> dict[int, Decimal]:
    """Order id → what went back without this desk and its order has not been told of yet: a job is about to."""
    found = Transaction.objects.filter(payment__reference__in=numbers, kind="refund").exclude(origin=Origin.DESK)
    found = found.exclude(status="failed").exclude(
        refund__in=PaymentEvent.objects.exclude(refund=None).values("refund")
    )
    rows = {
        pk: (reference, amount) for pk, reference, amount in found.values_list("pk", "payment__reference", "amount")
    }
    untold: dict[int, Decimal] = defaultdict(lambda: ZERO)
    if rows:
        references = {reference for reference, _amount in rows.values()}
        waiting = Job.objects.filter(kind=PAYMENT_CHANGED, reference__in=references).exclude(state=Job.State.DONE)
        for pk in {args.get("transaction") for args in waiting.values_list("args", flat=True)} & rows.keys():
            reference, amount = rows[pk]
            untold[numbers[reference]] += amount
    return untold


def _unbooked(numbers: dict[str | None, int]) -> dict[str, list[Transaction]]:
    """Reference → what was captured or let go at the gateway itself and is in no event of its order."""
    kinds = [Transaction.Kind.CAPTURE, Transaction.Kind.VOID]
    rows = Transaction.objects.filter(payment__reference__in=numbers, kind__in=kinds, origin=Origin.OUTSIDE)
    known = PaymentEvent.transactions.through.objects.values("transaction")
    found: dict[str, list[Transaction]] = defaultdict(list)
    for row in rows.exclude(pk__in=known).select_related("payment").order_by("pk"):
        found[row.payment.reference].append(row)
    return found


def _cancelled_by(plan: dict[str, Any]) -> tuple[int, str, bool, Decimal]:
    """Units, currency, whether it ends the order, and the value that a plan's cancellation has."""
    units = sum(line["units"] for line in plan["lines"])
    return units, plan["currency"], plan["ends_order"], Decimal(plan["worth"])


def _promised_returns(events: set[int]) -> set[int]:
    """Which of these shipping events have a job that puts their goods back, or a person who did it by hand."""
    promised: set[int] = set()
    if not events:
        return promised
    jobs = Job.objects.filter(kind=RETURN_STOCK).exclude(state=Job.State.DONE, resolved_note="")
    for some in batched([f"{RETURN_STOCK}:{event}" for event in sorted(events)], CHUNK):
        promised.update(args["event"] for args in jobs.filter(key__in=some).values_list("args", flat=True))
    # A bulk cancellation's goods go back by one job of no single order.
    for args in jobs.filter(reference="").values_list("args", flat=True):
        promised.update(args.get("events", []))
    return promised & events


def batched(items: list[str], size: int) -> Iterator[list[str]]:
    """The items in lists that a statement can hold."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _grouped(rows: Any, name: str) -> dict[int, list[Any]]:
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, name)].append(row)
    return groups


def _by_line_and_code(rows: Any) -> dict[tuple[int, str], int]:
    sums: dict[tuple[int, str], int] = defaultdict(int)
    for line, code, units in rows.values_list("line", "event__event_type__code").annotate(n=Sum("quantity")):
        sums[line, code] = units
    return sums
