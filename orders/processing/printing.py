"""Documents as pages to print, in the customer's language, and as PDF where WeasyPrint is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from django.core.signing import BadSignature, Signer
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from orders.models import Document, DocumentFile, Return
from shop.errors import Refused

STYLES = "desk/document.css"


class NoPdf(Refused):
    code = "no_pdf"
    message = _("PDFs need WeasyPrint: install the extra “pdf”. Until then, print the page.")


def can_make_pdf() -> bool:
    """This will say whether the extra "pdf" is installed."""
    return find_spec("weasyprint") is not None


def page_of(document: Document, *, for_screen: bool = True, back: str = "") -> str:
    """This will render a document from its content by templates/documents/<kind>.html; it looks nothing else up.

    back  where the page's link leads, on screen
    """
    context: dict[str, Any] = {
        **document.content,
        "document": document,
        "currency": document.currency,
        "for_screen": for_screen,
        "back": back,
    }
    with translation.override(document.language):
        context["language"] = translation.get_language()
        context["issued_on"] = timezone.localdate(document.issued_at).isoformat()
        return render_to_string(f"documents/{document.kind}.html", context)


LABEL_SALT = "orders.return_label"


def label_path(parcel: Return) -> str:
    """This will make the address of a return's label for its customer: it cannot be guessed from the code."""
    return reverse("orders:return-label", args=[Signer(salt=LABEL_SALT).sign(parcel.code)])


def code_of_label(signed: str) -> str:
    """This will read the code out of a label's address; empty where it is forged."""
    try:
        return Signer(salt=LABEL_SALT).unsign(signed)
    except BadSignature:
        return ""


def pdf_of(document: Document) -> bytes:
    """This will make a document's PDF (PDF/A is not claimed). It loads nothing from anywhere. Raises NoPdf."""
    if not can_make_pdf():
        raise NoPdf
    from weasyprint import CSS, HTML

    page = HTML(string=page_of(document, for_screen=False), url_fetcher=_nothing)
    styles = CSS(string=Path(str(finders.find(STYLES))).read_text(encoding="utf-8"), url_fetcher=_nothing)
    made: bytes = page.write_pdf(stylesheets=[styles])
    return made


def keep_pdf(document_id: int) -> DocumentFile:
    """This will make and keep a document's PDF; one that is there already stays. Raises NoPdf."""
    document = Document.objects.select_related("order").get(pk=document_id)
    if (kept := DocumentFile.objects.filter(document=document).first()) is not None:
        return kept
    content = pdf_of(document)
    file, _new = DocumentFile.objects.get_or_create(
        document=document, defaults={"content": content, "made_at": timezone.now()}
    )
    return file


def _nothing(url: str, *args: Any, **kwargs: Any) -> Any:
    """Whatever a template names is not fetched: a document is made of its own content only."""
    raise ValueError(f"A document loads nothing from outside: {url}")
