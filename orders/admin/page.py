"""Everything the order page shows, read in a number of queries that grows neither with lines nor with events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Prefetch, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.rules import EVENTS
from orders import rules
from orders.admin.external import CallView, ChangeView, calls_of, change_of
from orders.admin.extras import line_extra
from orders.admin.timeline import NAMED, Names, TimelineEntry, more_lines, short, timeline
from orders.models import (
    CancellationRequest,
    CommunicationEvent,
    Document,
    Facts,
    Hold,
    JournalEntry,
    Order,
    OrderLine,
    OrderNote,
    PaymentEvent,
    PaymentEventQuantity,
    RequestPicture,
    ReturnPolicy,
    ShippingEvent,
    ShippingEventQuantity,
)
from payments.models import Payment, Transaction
from payments.services import destination_shown
from shop import jobs
from shop.actors import Actor
from shop.errors import Words
from shop.models import Job
from shop.money import ZERO

# Of each list the latest so many; the journal has them all.
MOST = 100


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a line's bar: x and width in units."""

    kind: str
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class LineView:
    """A line with how far its units have come."""

    line: OrderLine
    attributes: list[tuple[str, str]]
    segments: list[Segment]
    counts: list[tuple[str, int]]
    extra: str = ""

    @classmethod
    def of(cls, line: OrderLine, *, extra: str = "") -> LineView:
        attributes = line.attributes if isinstance(line.attributes, Mapping) else {}
        arrived = max(0, min(line.delivered, line.shipped - line.returned))
        paid = line.paid_and_open
        parts = [
            ("returned", line.returned),
            ("delivered", arrived),
            ("shipped", line.shipped - line.returned - arrived),
            ("paid", paid),
            ("open", line.left - paid),
            ("cancelled", line.cancelled),
        ]
        segments, x = [], 0
        for kind, width in parts:
            if width:
                segments.append(Segment(kind, x, width))
                x += width
        names = ("paid", "shipped", "delivered", "cancelled", "returned", "refunded")
        counts = [(name, getattr(line, name)) for name in names if getattr(line, name)]
        return cls(line, [(str(name), str(value)) for name, value in attributes.items()], segments, counts, extra)


@dataclass(frozen=True, slots=True)
class EventView:
    """A shipping, payment or communication event in one shape, so that the three stand in one list."""

    at: datetime
    kind: str
    code: str
    label: Words
    actor: str
    amount: Decimal | None = None
    kept: Decimal | None = None
    units: str = ""
    more: tuple[str, ...] = ()
    link: str = ""
    link_label: Words = ""
    status: str = ""
    status_label: Words = ""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job of this order that is not done."""

    job: Job
    label: Words
    what_to_do: Words
    url: str


@dataclass(frozen=True, slots=True)
class PaymentView:
    payment: Payment
    transactions: list[Transaction]
    url: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """A customer's request, with the addresses of its answers where this person may give one."""

    request: CancellationRequest
    approve_url: str = ""
    reject_url: str = ""
    return_url: str = ""


@dataclass(frozen=True, slots=True)
class NoteView:
    note: OrderNote
    correct_url: str


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document with the addresses of its page to print and of its PDF, where there is one."""

    document: Document
    print_url: str
    pdf_url: str


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when the customer can do something about the order, in words."""

    label: Words
    words: str
    is_over: bool = False
    note: str = ""

    @classmethod
    def of(cls, label: Words, until: datetime, *, days: int, as_of: datetime, note: str = "") -> Deadline:
        left = (timezone.localtime(until).date() - timezone.localtime(as_of).date()).days
        period = ngettext("%(n)d day", "%(n)d days", days) % {"n": days}
        day = date_format(timezone.localtime(until).date())
        if as_of > until:
            return cls(label, _("%(period)s, over since %(day)s") % {"period": period, "day": day}, True, note)
        rest = ngettext("%(n)d day left", "%(n)d days left", left) % {"n": left} if left else _("ends today")
        words = _("%(period)s, until %(day)s, %(rest)s") % {"period": period, "day": day, "rest": rest}
        return cls(label, words, note=note)


@dataclass(frozen=True, slots=True)
class OrderPage:
    """See the module's docstring."""

    order: Order
    facts: Facts
    lines: list[LineView]
    discounts: list[Any]
    payments: list[PaymentView]
    events: list[EventView]
    jobs: list[JobView]
    requests: list[RequestView]
    notes: list[NoteView]
    documents: list[DocumentView]
    timeline: list[TimelineEntry]
    has_more: bool
    calls: list[CallView]
    address_change: ChangeView | None
    deadlines: list[Deadline]

    @property
    def units(self) -> int:
        return sum(view.line.quantity for view in self.lines)

    @property
    def captured(self) -> Decimal:
        return self.facts.captured

    @property
    def refunded(self) -> Decimal:
        return self.facts.refunded

    @property
    def refund_under_way(self) -> Decimal:
        return self.facts.refund_reserved - self.facts.refunded

    @property
    def authorized(self) -> Decimal:
        return self.facts.open_to_capture

    @property
    def is_short(self) -> bool:
        """Money is missing that nobody has authorized."""
        return self.outstanding > self.authorized and not self.order.pays_on_delivery

    @property
    def outstanding(self) -> Decimal:
        return self.facts.outstanding if self.order.status not in rules.ENDED else ZERO


def attach_facts(orders: Iterable[Order]) -> None:
    """This will load the lines, payments and holds of many orders in three queries."""
    by_pk = {order.pk: order for order in orders}
    by_number = {order.number: order for order in by_pk.values()}
    for order in by_pk.values():
        order.facts = Facts(order, [], [], [])
    for line in OrderLine.objects.filter(order__in=by_pk).order_by("order", "position"):
        line.order = by_pk[line.order_id]
        line.order.facts.lines.append(line)
    for payment in Payment.objects.filter(reference__in=by_number).order_by("pk"):
        by_number[payment.reference].facts.payments.append(payment)
    for hold in Hold.objects.filter(order__in=by_pk, released_at=None).order_by("pk"):
        by_pk[hold.order_id].facts.holds.append(hold)


def read_page(order: Order, actor: Actor, *, as_of: datetime) -> OrderPage:
    """This will read everything about one order that a person may see."""
    facts = order.facts
    payment_events = _payment_events(order)
    kinds = {event.pk: event.event_type.name for event in payment_events}
    names = Names.read(facts.lines, order.currency, kinds)
    journal = list(JournalEntry.objects.filter(order=order).order_by("-sequence")[: MOST + 1])
    return OrderPage(
        order=order,
        facts=facts,
        lines=[LineView.of(line, extra=line_extra(order, line)) for line in facts.lines],
        discounts=list(order.discounts.all()),
        payments=_payments(facts, actor),
        events=_events(order, facts, actor, payment_events),
        jobs=_jobs(order, actor),
        requests=_requests(order, actor),
        notes=_notes(order, actor, as_of),
        documents=_documents(order, actor),
        timeline=timeline(journal[:MOST], names),
        has_more=len(journal) > MOST,
        calls=calls_of(order),
        address_change=change_of(order, actor),
        deadlines=_deadlines(order, as_of),
    )


def _payments(facts: Facts, actor: Actor) -> list[PaymentView]:
    by_payment: dict[int, list[Transaction]] = {}
    for row in Transaction.objects.filter(payment__in=facts.payments).order_by("pk"):
        by_payment.setdefault(row.payment_id, []).append(row)
    linked = actor.may("payments.view_payment")
    return [
        PaymentView(
            payment,
            by_payment.get(payment.pk, []),
            reverse("admin:payments_payment_change", args=(payment.pk,)) if linked else "",
        )
        for payment in facts.payments
    ]


# ---------------------------------------------------------------------------------------------------------------
# Events


def _payment_events(order: Order) -> list[PaymentEvent]:
    quantities = Prefetch("line_quantities", PaymentEventQuantity.objects.order_by("line"))
    rows = PaymentEvent.objects.filter(order=order).select_related("event_type", "refund").prefetch_related(quantities)
    return list(rows.order_by("-pk")[:MOST])


def _events(order: Order, facts: Facts, actor: Actor, paid: Sequence[PaymentEvent]) -> list[EventView]:
    """All three kinds, newest first."""
    names = {line.pk: line.name for line in facts.lines}
    events = [*_shipping(order, names), *_money(paid, names), *_letters(order, actor)]
    return sorted(events, key=lambda event: event.at, reverse=True)[:MOST]


def _units(quantities: Sequence[ShippingEventQuantity | PaymentEventQuantity], names: Mapping[int, str]) -> str:
    told = [f"{q.quantity} × {short(names.get(q.line_id, ''))}" for q in quantities[:NAMED]]
    more = len(quantities) - NAMED
    return ", ".join(told) + (", " + more_lines(more) if more > 0 else "")


def _shipping(order: Order, names: Mapping[int, str]) -> list[EventView]:
    quantities = Prefetch("line_quantities", ShippingEventQuantity.objects.order_by("line"))
    rows = ShippingEvent.objects.filter(order=order).select_related("event_type", "reason").prefetch_related(quantities)
    return [
        EventView(
            at=event.created_at,
            kind="shipping",
            code=event.event_type.code,
            label=event.event_type.name,
            actor=event.actor_name,
            units=_units(list(event.line_quantities.all()), names),
            more=tuple(
                filter(
                    None,
                    [
                        " ".join(filter(None, [event.carrier, event.tracking_number])),
                        event.reason.name if event.reason else "",
                        event.note,
                    ],
                )
            ),
            link=event.tracking_url,
            link_label=event.tracking_number or event.tracking_url,
        )
        for event in rows.order_by("-pk")[:MOST]
    ]


def _what_for(event: PaymentEvent) -> list[str]:
    """Of a refund: what it is for where it is tied to no unit, and where it goes if not back the way it came."""
    goes = destination_shown(event.destination, event.amount) if event.destination else ""
    return [str(event.get_refund_kind_display()) if event.refund_kind else "", f"→ {goes}" if goes else ""]


def _money(events: Sequence[PaymentEvent], names: Mapping[int, str]) -> list[EventView]:
    return [
        EventView(
            at=event.created_at,
            kind="payment",
            code=event.event_type.code,
            label=event.event_type.name,
            actor=event.actor_name,
            amount=event.amount,
            kept=event.deduction or None,
            units=_units(list(event.line_quantities.all()), names),
            more=tuple(filter(None, [*_what_for(event), event.reference, event.note])),
            status=event.refund.status if event.refund else "",
            status_label=event.refund.get_status_display() if event.refund else "",
        )
        for event in events
    ]


def _letters(order: Order, actor: Actor) -> list[EventView]:
    linked = actor.may("notifications.view_message")
    rows = (
        CommunicationEvent.objects.filter(order=order)
        .select_related("message")
        .defer("message__text", "message__html", "message__context")
    )
    views = []
    for event in rows.order_by("-pk")[:MOST]:
        known, message = EVENTS.get(event.event_type), event.message
        url = reverse("admin:notifications_message_change", args=(message.pk,)) if message and linked else ""
        views.append(
            EventView(
                at=event.created_at,
                kind="communication",
                code=event.event_type,
                label=known.label if known else event.event_type.replace("_", " "),
                actor=event.actor_name,
                more=(message.recipient,) if message else (),
                link=url,
                status=message.status if message else "",
                status_label=message.get_status_display() if message else "",
            )
        )
    return views


# ---------------------------------------------------------------------------------------------------------------
# What needs a person


def _jobs(order: Order, actor: Actor) -> list[JobView]:
    if not (actor.may("shop.view_job") or actor.may("shop.handle_job")):
        return []
    rows = list(Job.objects.filter(reference=order.number).exclude(state=Job.State.DONE).order_by("pk")[:MOST])
    by_hand = jobs.only_by_hand(job for job in rows if job.state == Job.State.NEEDS_ATTENTION)
    labels, views = jobs.about(rows), []
    for job in rows:
        try:
            to_do = jobs.handler_of(job.kind).what_to_do
        except LookupError:
            to_do = ""
        if job.pk in by_hand:
            to_do = jobs.BY_HAND
        views.append(JobView(job, labels[job.pk], to_do, reverse("admin:shop_job_change", args=(job.pk,))))
    return views


def _requests(order: Order, actor: Actor) -> list[RequestView]:
    may = actor.may("orders.decide_cancellationrequest", store_id=order.store_id)
    may = may and actor.may("orders.view_cancellationrequest", store_id=order.store_id)
    seen = actor.may("orders.view_return", store_id=order.store_id)
    rows = CancellationRequest.objects.filter(order=order).select_related("line", "reason", "decided_by")
    rows = rows.select_related("goods_return__carrier")
    rows = rows.prefetch_related(Prefetch("pictures", RequestPicture.without_content()))

    def answer(request: CancellationRequest, name: str) -> str:
        if not may or request.status not in CancellationRequest.UNDECIDED:
            return ""
        return reverse("admin:orders_cancellationrequest_do", args=(request.pk, name))

    def back(request: CancellationRequest) -> str:
        if not seen or request.goods_return_id is None:
            return ""
        return reverse("admin:orders_return_change", args=(request.goods_return_id,))

    found = rows.order_by("-pk")[:MOST]
    return [RequestView(row, answer(row, "approve"), answer(row, "reject"), back(row)) for row in found]


def _deadlines(order: Order, as_of: datetime) -> list[Deadline]:
    """Until when the customer can withdraw, and send goods back."""
    terms = rules.ReturnTerms.of(order, list(ReturnPolicy.objects.all()))
    return [*_withdrawing(order, terms, as_of), *_sending_back(order, terms, as_of)]


def _withdrawing(order: Order, terms: rules.ReturnTerms, as_of: datetime) -> list[Deadline]:
    clock, label = rules.withdrawal_clock(order.facts, terms, as_of=as_of), _("Withdraw")
    if clock.state == "waiting":
        words = ngettext(
            "has not begun: %(n)d unit has not arrived",
            "has not begun: %(n)d units have not arrived",
            clock.not_arrived,
        )
        return [Deadline(label, words % {"n": clock.not_arrived})]
    if clock.deadline is None:
        return []
    return [Deadline.of(label, clock.deadline, days=terms.withdrawal_days, as_of=as_of)]


def _sending_back(order: Order, terms: rules.ReturnTerms, as_of: datetime) -> list[Deadline]:
    """Until when goods of the order can be sent back."""
    arrived = [line for line in order.facts.lines if line.delivered_at is not None and line.returnable]
    exempt = ", ".join(
        f"{line.name} ({line.get_return_exemption_display()})" for line in arrived if line.return_exemption
    )
    lines = [line for line in arrived if not line.return_exemption]
    if not arrived:
        return []
    note = _("not: %(lines)s") % {"lines": exempt} if exempt else ""
    if terms.return_days is None or terms.return_days == 0 or not lines:
        words = _("always possible") if terms.return_days is None and lines else _("not possible")
        return [Deadline(_("Send back"), words, note=note)]
    ends = [end for line in lines if (end := rules.return_deadline(line, terms)) is not None]
    return [Deadline.of(_("Send back"), max(ends), days=terms.return_days, as_of=as_of, note=note)]


def _documents(order: Order, actor: Actor) -> list[DocumentView]:
    if not actor.may("orders.view_document", store_id=order.store_id):
        return []
    rows = Document.objects.filter(order=order).defer("content").annotate(has_pdf=Q(file__isnull=False))
    return [
        DocumentView(
            row,
            reverse("admin:orders_document_print", args=(row.pk,)),
            reverse("admin:orders_document_pdf", args=(row.pk,)) if row.has_pdf else "",
        )
        for row in rows.order_by("-pk")[:MOST]
    ]


def _notes(order: Order, actor: Actor, as_of: datetime) -> list[NoteView]:
    may = actor.may("orders.note_order", store_id=order.store_id) and actor.may("orders.view_ordernote")
    return [
        NoteView(
            note,
            reverse("admin:orders_ordernote_do", args=(note.pk, "correct"))
            if may and note.user_id == actor.user_id and note.is_editable(as_of=as_of)
            else "",
        )
        for note in OrderNote.objects.filter(order=order)[:MOST]
    ]
