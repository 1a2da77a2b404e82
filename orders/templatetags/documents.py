"""Template tags of documents: codes that a scanner reads."""

from __future__ import annotations

import io

import segno
from django import template
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.filter
def qr_code(text: str) -> SafeString:
    """This will draw a QR code as SVG into the page, which then needs nothing from outside: `{{ code|qr_code }}`."""
    drawing = io.BytesIO()
    code = segno.make(str(text), error="m", micro=False)
    code.save(drawing, kind="svg", xmldecl=False, svgns=True, border=2, omitsize=True, title=str(text))
    # segno escapes the title; the rest is its own drawing.
    return mark_safe(drawing.getvalue().decode())  # noqa: S308
