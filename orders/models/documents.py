"""Documents of orders: what is printed for customers, written once, in number series without gaps."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from orders.models.events import PaymentEvent, ShippingEvent
from shop.models import AppendOnly, Store
from shop.money import currency_field, money_field


class DocumentKind(models.TextChoices):
    INVOICE = "invoice", _("Invoice")
    CREDIT_NOTE = "credit_note", _("Credit note")
    RESTORATION_NOTE = "restoration_note", _("Restoration note")
    DELIVERY_NOTE = "delivery_note", _("Delivery note")
    PICKING_SLIP = "picking_slip", _("Picking slip")
    RETURN_LABEL = "return_label", _("Return label")


class DocumentSeries(models.Model):
    """The numbers of one kind of document in one store.

    The row is locked while a document is issued, in the transaction that writes it: a number that is undone is given
    out again, so that none is ever missing.
    """

    class IssueWhen(models.TextChoices):
        BY_HAND = "by_hand", _("By hand")
        PLACED = "placed", _("When an order is placed")
        SHIPPED = "shipped", _("When the first goods of an order are shipped")

    PREFIXES = {
        DocumentKind.INVOICE: "INV-",
        DocumentKind.CREDIT_NOTE: "CRN-",
        DocumentKind.RESTORATION_NOTE: "RSN-",
        DocumentKind.DELIVERY_NOTE: "DLN-",
        DocumentKind.PICKING_SLIP: "PCK-",
        DocumentKind.RETURN_LABEL: "RTL-",
    }

    store = models.ForeignKey(Store, models.PROTECT, related_name="document_series", verbose_name=_("store"))
    kind = models.CharField(_("kind"), max_length=20, choices=DocumentKind)
    prefix = models.CharField(
        _("prefix"),
        max_length=20,
        blank=True,
        validators=[RegexValidator(r"^[A-Za-z0-9/_.-]*\Z", _("Letters, digits and / _ . - only."))],
        help_text=_("What stands before the number, such as “INV-”."),
    )
    next_number = models.PositiveIntegerField(
        _("next number"), default=1, help_text=_("Can be chosen until the first document has been issued.")
    )
    issue_when = models.CharField(
        _("issued"),
        max_length=10,
        choices=IssueWhen,
        default=IssueWhen.BY_HAND,
        help_text=_("Of invoices. The other documents follow from what they document."),
    )
    makes_pdf = models.BooleanField(
        _("makes a PDF of each"),
        default=False,
        help_text=_("By a worker, beside the page to print. Needs the extra “pdf” (WeasyPrint)."),
    )

    class Meta:
        verbose_name = _("document series")
        verbose_name_plural = _("document series")
        ordering = ["store", "kind"]
        constraints = [
            models.UniqueConstraint(fields=["store", "kind"], name="document_series_once"),
            models.CheckConstraint(name="document_series_from_one", condition=Q(next_number__gte=1)),
            models.CheckConstraint(
                name="document_series_invoices_when", condition=Q(kind="invoice") | Q(issue_when="by_hand")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.store}"

    def number_of(self, sequence: int) -> str:
        return f"{self.prefix}{sequence:05d}"


class Document(AppendOnly):
    """One document as it was issued. `content` holds everything that is printed; nothing is looked up later.

    A credit note corrects an invoice where there is one. `cause` is what it documents: the same cause never makes two.
    """

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="documents", verbose_name=_("order"))
    series = models.ForeignKey(DocumentSeries, models.PROTECT, related_name="documents", verbose_name=_("series"))
    kind = models.CharField(_("kind"), max_length=20, choices=DocumentKind)
    sequence = models.PositiveIntegerField()
    number = models.CharField(_("number"), max_length=40)
    issued_at = models.DateTimeField(_("issued"))
    issued_by = models.CharField(_("by"), max_length=200)
    language = models.CharField(_("language"), max_length=10)
    currency = currency_field(_("currency"))
    total = money_field(_("total"), null=True, blank=True, help_text="none on papers that go with goods")
    content = models.JSONField()
    cause = models.CharField(max_length=100, unique=True)
    corrects = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="corrections", verbose_name=_("corrects")
    )
    payment_event = models.ForeignKey(PaymentEvent, models.PROTECT, null=True, blank=True, related_name="documents")
    shipping_event = models.ForeignKey(ShippingEvent, models.PROTECT, null=True, blank=True, related_name="documents")

    class Meta:
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        ordering = ["-pk"]
        permissions = [("issue_document", "Can issue invoices")]
        constraints = [
            models.UniqueConstraint(fields=["series", "sequence"], name="document_sequence_once"),
            models.UniqueConstraint(fields=["series", "number"], name="document_number_once"),
        ]
        indexes = [models.Index(fields=["number"], name="document_number")]

    def __str__(self) -> str:
        return self.number

    @property
    def content_hash(self) -> str:
        """SHA-256 over what is printed; the journal keeps it, so that no document can change unseen."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def as_record(self) -> dict[str, Any]:
        """The document as the journal keeps it."""
        total = None if self.total is None else f"{self.total:.3f}"
        return {"id": self.pk, "kind": self.kind, "number": self.number, "total": total, "hash": self.content_hash}


class DocumentFile(models.Model):
    """A document's PDF, made from its content by a worker."""

    document = models.OneToOneField(Document, models.CASCADE, related_name="file")
    content = models.BinaryField()
    made_at = models.DateTimeField(_("made"))

    class Meta:
        verbose_name = _("PDF of a document")
        verbose_name_plural = _("PDFs of documents")

    def __str__(self) -> str:
        return f"{self.document}.pdf"
