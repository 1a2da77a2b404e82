"""The door for gateways' webhooks: verified, stored, answered at once; a worker does the rest."""

from __future__ import annotations

import logging

from django.http import Http404, HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from payments import services
from payments.gateways import BadSignature, UnknownGateway, get_gateway, is_notifying

logger = logging.getLogger(__name__)

# Gateways' events are a few kilobytes; nothing larger is read.
LARGEST_BODY = 256 * 1024


@csrf_exempt  # a gateway has no session: its signature says who it is
@require_POST
def receive_webhook(request: HttpRequest, gateway: str) -> JsonResponse:
    """POST /payments/webhooks/<gateway>/: 200 once it is stored, or was before; 400 where the signature is not good."""
    try:
        adapter = get_gateway(gateway)
    except UnknownGateway as no:
        raise Http404 from no
    if not is_notifying(adapter):
        raise Http404
    body = _read(request)
    if body is None:
        return JsonResponse({"code": "too_large"}, status=413)
    try:
        notices = adapter.verify_webhook(request.headers, body)
    except BadSignature as no:
        logger.warning("A webhook for %s was refused: %s", gateway, type(no.__cause__ or no).__name__)
        return JsonResponse(no.as_dict(), status=no.http_status)
    for notice in notices:
        services.receive(gateway=gateway, notice=notice, as_of=timezone.now())
    return JsonResponse({"received": len(notices)})


def _read(request: HttpRequest) -> bytes | None:
    """The body as it came, or None where it is larger than any event."""
    told = request.headers.get("Content-Length", "")
    if told.isdigit() and int(told) > LARGEST_BODY:
        return None
    body = request.read(LARGEST_BODY + 1)
    return body if len(body) <= LARGEST_BODY else None
