"""Another system that receives webhooks, and the desk's worker that sends them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import time_machine
from django.utils import timezone
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from notifications import rules
from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.services import webhooks
from shop import jobs
from shop.actors import Actor


class Receiver:
    """Another system: it keeps what arrived, and answers what it is told to."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/hook")
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[Response | int] = []
        server.expect_request("/hook").respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        self.got.append((dict(request.headers), request.get_data()))
        answer = self.answers.pop(0) if self.answers else 200
        return Response(status=answer) if isinstance(answer, int) else answer

    def always(self, status: int) -> None:
        self.answers = [status] * 1000

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _headers, body in self.got]

    @property
    def types(self) -> list[str]:
        return [payload["type"] for payload in self.payloads]

    @property
    def ids(self) -> list[str]:
        return [headers["Webhook-Id"] for headers, _body in self.got]


def make_endpoint(url: str, *events: str, **fields: Any) -> WebhookEndpoint:
    return WebhookEndpoint.objects.create(
        **{
            "name": "Warehouse",
            "url": url,
            "events": list(events or rules.WEBHOOK_EVENTS),
            "secret": webhooks.new_secret(),
            "created_at": timezone.now(),
            **fields,
        }
    )


def work(*, after: timedelta = timedelta()) -> None:
    """What a worker does about webhooks, so much later."""
    if not after:
        jobs.drain(seconds=60)
        return
    with time_machine.travel(timezone.now() + after, tick=True):
        jobs.drain(seconds=60)


def delivery(**which: Any) -> WebhookDelivery:
    return WebhookDelivery.objects.get(**which)


def sent_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    return webhooks.send_test(endpoint_id=endpoint.pk, actor=Actor.system())
