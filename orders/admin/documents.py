"""Documents of orders: the list, the page to print, the PDF, and the series that number them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin.others import ModelAdmin, OfAnOrder
from orders.models import Document, DocumentFile, DocumentKind, DocumentSeries
from orders.processing.documents import promise_pdf
from orders.processing.printing import NoPdf, can_make_pdf, page_of
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.staff import Action, StoreFilter, actor_of
from shop.templatetags.desk import badge, money


def print_url(document_id: int) -> str:
    return reverse("admin:orders_document_print", args=(document_id,))


def pdf_url(document_id: int) -> str:
    return reverse("admin:orders_document_pdf", args=(document_id,))


class PdfThere(Refused):
    code = "pdf_there"
    message = gettext_lazy("The PDF is there already.")


def _no_pdf(document: Document, actor: Actor) -> Refused | None:
    if DocumentFile.objects.filter(document=document).exists():
        return PdfThere()
    return None if can_make_pdf() else NoPdf()


def _make_pdf(document: Document, actor: Actor, data: dict[str, Any]) -> Words:
    if (no := _no_pdf(document, actor)) is not None:
        raise no
    promise_pdf(document)
    return _("The PDF is being made; it is here in a few seconds.")


@admin.register(Document)
class DocumentAdmin(OfAnOrder):
    """Every document as it was issued. Nobody adds, changes or deletes one, superusers included."""

    list_display = ["number_shown", "kind_shown", "order_link", "issued_at", "total_shown", "issued_by", "print_link"]
    list_display_links = ["number_shown"]
    list_filter = ["kind", StoreFilter, "issued_at"]
    search_fields = ["number", "order__number"]
    search_help_text = gettext_lazy("A whole number of a document or of an order.")
    fields = [
        "number_shown",
        "kind_shown",
        "order_link",
        "corrects_link",
        "issued_at",
        "issued_by",
        "total_shown",
        "language",
        "print_link",
        "pdf_link",
    ]
    readonly_fields = [
        "number_shown",
        "kind_shown",
        "order_link",
        "corrects_link",
        "total_shown",
        "print_link",
        "pdf_link",
    ]
    desk_actions = [
        Action(
            name="make-pdf",
            label=gettext_lazy("Make the PDF"),
            description=gettext_lazy("A worker makes it, from the same content as the page to print."),
            permission="orders.view_document",
            refusal=_no_pdf,
            act=_make_pdf,
        )
    ]

    def get_queryset(self, request: HttpRequest) -> Any:
        # Not its content, which only the page to print needs.
        return super().get_queryset(request).select_related("corrects").defer("content", "corrects__content")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:document_id>/print/", view(self.print_page), name="orders_document_print"),
            path("<int:document_id>/pdf/", view(self.pdf), name="orders_document_pdf"),
            *super().get_urls(),
        ]

    def found(self, request: HttpRequest, document_id: int) -> Document:
        document: Document | None = self.get_queryset(request).defer(None).filter(pk=document_id).first()
        if document is None:
            raise Http404
        if not self.has_view_permission(request, document):
            raise PermissionDenied
        return document

    def print_page(self, request: HttpRequest, document_id: int) -> HttpResponse:
        """The document as it is printed, in the customer's language."""
        document = self.found(request, document_id)
        back = reverse("admin:orders_order_change", args=(document.order_id,))
        return HttpResponse(page_of(document, back=back))

    def pdf(self, request: HttpRequest, document_id: int) -> HttpResponse:
        document = self.found(request, document_id)
        content = DocumentFile.objects.filter(document=document).values_list("content", flat=True).first()
        if content is None:
            raise Http404
        headers = {"Content-Disposition": f'attachment; filename="{document.number.replace("/", "-")}.pdf"'}
        return HttpResponse(bytes(content), content_type="application/pdf", headers=headers)

    def action_page(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        """Back to the document, where its PDF will be, not to its order."""
        response = super().action_page(request, object_id, name)
        return redirect("admin:orders_document_change", object_id) if response.status_code == 302 else response

    @admin.display(description=gettext_lazy("number"), ordering="pk")
    def number_shown(self, row: Document) -> str:
        return row.number

    @admin.display(description=gettext_lazy("kind"))
    def kind_shown(self, row: Document) -> SafeString:
        return badge(row.kind, row.get_kind_display())

    @admin.display(description=gettext_lazy("total"))
    def total_shown(self, row: Document) -> SafeString | str:
        return "–" if row.total is None else money(row.total, row.currency)

    @admin.display(description=gettext_lazy("corrects"))
    def corrects_link(self, row: Document) -> SafeString | str:
        if row.corrects is None:
            return "–"
        url = reverse("admin:orders_document_change", args=(row.corrects_id,))
        return format_html('<a href="{}">{}</a>', url, row.corrects)

    @admin.display(description=gettext_lazy("page"))
    def print_link(self, row: Document) -> SafeString:
        return format_html('<a href="{}">{}</a>', print_url(row.pk), _("Print"))

    @admin.display(description=gettext_lazy("PDF"))
    def pdf_link(self, row: Document) -> SafeString | str:
        if not DocumentFile.objects.filter(document=row).exists():
            return "–"
        return format_html('<a href="{}">{}</a>', pdf_url(row.pk), _("Download"))


@admin.register(DocumentSeries)
class DocumentSeriesAdmin(ModelAdmin):
    """Number series: prefix and first number, when invoices are issued, whether PDFs are made."""

    list_display = ["store", "kind", "prefix", "next_number", "issued", "makes_pdf"]
    list_display_links = ["kind"]
    list_filter = ["kind"]
    list_select_related = ["store"]
    actions: Any = None
    fields = ["store", "kind", "prefix", "next_number", "issue_when", "makes_pdf"]

    @admin.display(description=gettext_lazy("issued"))
    def issued(self, row: DocumentSeries) -> str:
        """When is a question of invoices only."""
        if row.kind == DocumentKind.INVOICE:
            return row.get_issue_when_display()
        return _("With what it documents")

    def get_fields(self, request: HttpRequest, obj: DocumentSeries | None = None) -> list[Any]:
        hidden = set() if obj is None or obj.kind == DocumentKind.INVOICE else {"issue_when"}
        return [name for name in self.fields or () if name not in hidden]

    def get_queryset(self, request: HttpRequest) -> Any:
        rows, actor = super().get_queryset(request), actor_of(request)
        return rows if actor.stores is None else rows.filter(store__in=actor.stores)

    def get_readonly_fields(self, request: HttpRequest, obj: DocumentSeries | None = None) -> list[str]:
        """A series that has numbered something goes on where it is, without a gap."""
        if obj is None:
            return []
        fixed = ["store", "kind"]
        return [*fixed, "next_number"] if Document.objects.filter(series=obj).exists() else fixed

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        actor = actor_of(request)
        if db_field.name == "store" and actor.stores is not None:
            kwargs["queryset"] = db_field.related_model.objects.filter(pk__in=actor.stores)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
