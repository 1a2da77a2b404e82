"""What is answered where no door answers: 400, 403, 404 and 500, as JSON for programs and as a page for people."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import defaults

Answer = HttpResponseBase


def for_people(request: HttpRequest) -> bool:
    """A person's browser asks for text/html by name; programs do not, and have no business in the admin."""
    return "text/html" in request.headers.get("Accept", "") or request.path.startswith(reverse("admin:index"))


def _error(status: int, code: str, words: str) -> JsonResponse:
    return JsonResponse({"non_field_errors": [words], "error_code": [code]}, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> Answer:
    if for_people(request):
        return defaults.bad_request(request, exception)
    return _error(400, "parse_error", _("This request cannot be read."))


def forbidden(request: HttpRequest, exception: Exception) -> Answer:
    if for_people(request):
        return defaults.permission_denied(request, exception)
    return _error(403, "permission_denied", _("You are not allowed to do this."))


def not_found(request: HttpRequest, exception: Exception) -> Answer:
    if for_people(request):
        return defaults.page_not_found(request, exception)
    return _error(404, "not_found", _("There is nothing at this address."))


def server_error(request: HttpRequest, **_kwargs: Any) -> Answer:
    """Something is wrong with the desk itself; what was asked for has either happened or not."""
    if for_people(request):
        return defaults.server_error(request)
    return _error(500, "server_error", _("Something went wrong at the desk. Nothing was done halfway; try again."))
