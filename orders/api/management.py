"""The door for the order management system's notices: signed, bounded, kept at once, worked off by a job."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import ParseError

from orders.gateways import BadNotice, get_order_management
from orders.processing.noticing import receive
from shop.api import refuse_unfit
from shop.errors import NotFound, Refused

MAX_BODY_BYTES = 64 * 1024


class TooLarge(Refused):
    code = "notice_too_large"
    http_status = 413
    message = "A notice has at most 64 KB."


@method_decorator(csrf_exempt, name="dispatch")
class NoticeView(View):
    """POST /orders/management/webhook/. No session and no token: the signature says who speaks."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            management = get_order_management()
            if not management.is_outside:
                raise NotFound
            notice = management.read_notice(_body(request), request.headers)
            try:
                refuse_unfit(dict(notice.data))
            except ParseError as error:
                raise BadNotice from error
            receive(notice)
        except Refused as no:
            return JsonResponse({"code": no.code, "message": str(no)}, status=no.http_status)
        return JsonResponse({"received": True})


def _body(request: HttpRequest) -> bytes:
    """The body, of which no more is read than a notice can have."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise TooLarge
    return request.body
