"""Issue documents: the invoice of an order, the notes of its refunds, and one delivery note per shipment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.utils import timezone, translation

from notifications.rules import language_of
from orders import rules
from orders.models import (
    Document,
    DocumentKind,
    DocumentSeries,
    JournalEntry,
    PaymentEvent,
    PaymentEventQuantity,
    Return,
    ShippingEvent,
)
from orders.processing.base import HandlerBase
from orders.processing.decision import Decision
from payments.gateways import UnknownGateway, gateway_label, is_credit
from payments.models import Refund, Transaction
from shop import jobs
from shop.money import ZERO

ISSUE = "orders.issue_documents"
MAKE_PDF = "orders.make_pdf"


class Documenting(HandlerBase):
    """Each document is written in the transaction of the decision that issues it, with the series locked last."""

    def issue_invoice(self, *, number: str, version: int | None = None, note: str = "") -> Document:
        """This will issue the order's invoice, over what the customer has or will have.

        Locks the order, then the series. Raises Refused (there is one already, nothing is left to be invoiced).
        """
        with self.decide(number, "issue_invoice", version=version, note=note) as d:
            d.require(rules.issue_invoice(d.facts, self.actor) or self.why_not("issue-invoice", d.facts))
            return self._invoice(d)

    def issue_refund_documents(self, *, refund_id: int) -> list[Document]:
        """This will issue a refund's credit note, and a restoration note for what of it went back as credit.

        Called by a worker once the money has gone, for no document may say so before; a repetition changes nothing.
        """
        refund = Refund.objects.get(pk=refund_id)
        with self.decide(refund.reference, "issue_documents") as d:
            d.only_if_changed = True
            event = PaymentEvent.objects.filter(refund=refund, order=d.order).first()
            given = _given_back(refund)
            if event is None or not given or Document.objects.filter(cause=_cause_of_refund(refund)).exists():
                return []
            d.only_if_changed = False
            units = {q.line_id: q.quantity for q in PaymentEventQuantity.objects.filter(event=event)}
            issued = [self._credit_note(d, event, refund, units, sum(given.values(), ZERO))]
            with translation.override(_language(d.order.language)):  # it is printed for the customer
                credit = [(gateway_label(code), amount) for code, amount in given.items() if _restores(code)]
            if credit:
                issued.append(self._restoration_note(d, event, refund, units, credit, corrects=issued[0]))
        return issued

    # --- what other verbs call ------------------------------------------------------------------------------------

    def document_placement(self, d: Decision) -> None:
        """Invoice an order as it is placed, where its store does so."""
        self._invoice_when(d, DocumentSeries.IssueWhen.PLACED)

    def document_shipment(self, d: Decision, event: ShippingEvent, units: Mapping[int, int]) -> None:
        """Write the parcel's delivery note, and the invoice where the store sends it with the first goods."""
        content = rules.delivery_note_content(
            d.facts, units, carrier=event.carrier, tracking_number=event.tracking_number
        )
        cause = f"delivery_note:{event.pk}"
        self._issue(d, DocumentKind.DELIVERY_NOTE, content, cause=cause, shipping_event=event)
        self._invoice_when(d, DocumentSeries.IssueWhen.SHIPPED)

    def document_picking(self, d: Decision) -> None:
        """Write what is to be picked, and where it lies: for the staff, in their language."""
        content = rules.picking_slip_content(d.facts)
        cause = f"picking_slip:{d.order.pk}:{d.order.version}"
        self._issue(d, DocumentKind.PICKING_SLIP, content, cause=cause, language=settings.LANGUAGE_CODE)

    def document_return(self, d: Decision, parcel: Return, units: Mapping[int, int]) -> None:
        """Write the label sheet of goods that are to come back; more units for the same parcel make another sheet."""
        with translation.override(_language(d.order.language)):
            content = rules.return_label_content(d.facts, units, parcel)
        self._issue(d, DocumentKind.RETURN_LABEL, content, cause=f"return_label:{parcel.pk}:{d.order.version}")

    def promise_refund_documents(self, d: Decision, refund: Refund | None) -> None:
        """Have a refund documented, once all of its transactions have ended and any of them succeeded."""
        if refund is not None and refund.status in {Refund.Status.SUCCEEDED, Refund.Status.PARTLY}:
            d.promise(ISSUE, key=f"{ISSUE}:{refund.pk}", args={"refund": refund.pk})

    def _invoice_when(self, d: Decision, when: str) -> None:
        if rules.has_invoice(d.facts):
            return
        rows = DocumentSeries.objects.filter(store=d.order.store_id, kind=DocumentKind.INVOICE, issue_when=when)
        if rows.exists():
            self._invoice(d)

    # --- one of each kind -----------------------------------------------------------------------------------------

    def _invoice(self, d: Decision) -> Document:
        content = rules.invoice_content(d.facts)
        d.change(invoiced_at=d.as_of)
        return self._issue(d, DocumentKind.INVOICE, content, cause=f"invoice:{d.order.pk}")

    def _credit_note(
        self, d: Decision, event: PaymentEvent, refund: Refund, units: Mapping[int, int], amount: Decimal
    ) -> Document:
        before = _given_back_before(event, units)
        content = rules.credit_note_content(
            d.facts,
            {line_id: (count, before.get(line_id, 0)) for line_id, count in units.items()},
            amount=amount,
            unapplied=_unapplied(event),
        )
        return self._issue(
            d,
            DocumentKind.CREDIT_NOTE,
            content,
            cause=_cause_of_refund(refund),
            payment_event=event,
            corrects=Document.objects.filter(order=d.order, kind=DocumentKind.INVOICE).first(),
        )

    def _restoration_note(
        self,
        d: Decision,
        event: PaymentEvent,
        refund: Refund,
        units: Mapping[int, int],
        restored: Sequence[tuple[str, Decimal]],
        *,
        corrects: Document,
    ) -> Document:
        content = rules.restoration_note_content(d.facts, units, restored)
        cause = f"restoration_note:{refund.pk}"
        return self._issue(
            d, DocumentKind.RESTORATION_NOTE, content, cause=cause, payment_event=event, corrects=corrects
        )

    # --- numbers --------------------------------------------------------------------------------------------------

    def _issue(
        self,
        d: Decision,
        kind: DocumentKind,
        content: Mapping[str, Any],
        *,
        cause: str,
        language: str = "",
        **what: Any,
    ) -> Document:
        """Write one document under the next number of its series. language: default the customer's."""
        series = self._locked_series(d.order.store_id, kind)
        total, corrects = content.get("total"), what.get("corrects")
        language = language or _language(d.order.language)
        with translation.override(language):  # countries are printed by their names
            head = _head(d, corrects)
        document = Document(
            order=d.order,
            series=series,
            kind=kind,
            sequence=series.next_number,
            number=series.number_of(series.next_number),
            issued_at=d.as_of,
            issued_by=self.actor.name,
            language=language,
            currency=d.order.currency,
            total=None if total is None else Decimal(total),
            content={**head, **content},
            cause=cause,
            **what,
        )
        document.save(force_insert=True)
        DocumentSeries.objects.filter(pk=series.pk).update(next_number=series.next_number + 1)
        d.details.setdefault("documents", []).append(document.as_record())
        if series.makes_pdf:
            promise_pdf(document)
        return document

    def _locked_series(self, store_id: int, kind: DocumentKind) -> DocumentSeries:
        rows = DocumentSeries.objects.select_for_update(no_key=True).filter(store=store_id, kind=kind)
        series: DocumentSeries | None = rows.first()
        if series is None:
            defaults = {"prefix": DocumentSeries.PREFIXES[kind]}
            DocumentSeries.objects.get_or_create(store_id=store_id, kind=kind, defaults=defaults)
            series = rows.get()
        return series


def promise_pdf(document: Document) -> None:
    """This will have a worker make a document's PDF, once."""
    jobs.enqueue(
        MAKE_PDF,
        key=f"{MAKE_PDF}:{document.pk}",
        args={"document": document.pk},
        reference=document.order.number or "",
        store_id=document.order.store_id,
    )


def _head(d: Decision, corrects: Document | None) -> dict[str, Any]:
    """Who sells what to whom, as it is known at this moment."""
    order = d.order
    billing, shipping = order.billing_address or order.shipping_address, order.shipping_address
    invoice = {} if corrects is None else {"number": corrects.number, "on": _day(corrects.issued_at)}
    return {
        "seller": {
            "name": order.store.name,
            "address": order.store.address.splitlines(),
            "email": order.store.email,
        },
        "buyer": {
            "name": order.customer_name,
            "address": billing.as_lines() if billing else [],
            "email": order.email,
        },
        "deliver_to": shipping.as_lines() if shipping else [],
        "is_pickup": order.is_pickup,
        "order": order.get_number(),
        "placed_on": _day(order.placed_at),
        "payment": order.payment_method_name,
        "corrects": invoice,
    }


def _day(at: Any) -> str:
    return timezone.localdate(at).isoformat()


def _language(wanted: str) -> str:
    offered = [code for code, _name in settings.LANGUAGES]
    return language_of(wanted, offered=offered, default=settings.LANGUAGE_CODE)


def _cause_of_refund(refund: Refund) -> str:
    return f"credit_note:{refund.pk}"


def _given_back(refund: Refund) -> dict[str, Decimal]:
    """What has reached the customer, by gateway."""
    given: dict[str, Decimal] = {}
    rows = Transaction.objects.filter(refund=refund, status=Transaction.Status.SUCCEEDED).order_by("pk")
    for row in rows.select_related("payment"):
        given[row.gateway] = given.get(row.gateway, ZERO) + row.amount
    return given


def _restores(gateway: str) -> bool:
    try:
        return is_credit(gateway)
    except UnknownGateway:  # taken out of the settings since
        return False


def _given_back_before(event: PaymentEvent, units: Mapping[int, int]) -> dict[int, int]:
    """Line id → units whose money had gone back and not been asked for again: where in the line these units begin."""
    rows = PaymentEventQuantity.objects.filter(
        event__order=event.order_id,
        event__event_type__code__in=["refunded", "reopened"],
        event__lt=event.pk,
        line__in=units,
    )
    before: dict[int, int] = defaultdict(int)
    for line_id, code, count in rows.values_list("line", "event__event_type__code", "quantity"):
        before[line_id] += count if code == "refunded" else -count
    return before


def _unapplied(event: PaymentEvent) -> Decimal:
    """What of a refund had paid for no unit: only the journal keeps it."""
    for details in JournalEntry.objects.filter(order=event.order_id).values_list("details", flat=True):
        for record in details.get("events", []):
            if record.get("payment") == event.pk:
                return Decimal(record["unapplied"])
    return ZERO
