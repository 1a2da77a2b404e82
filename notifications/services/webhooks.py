"""Events to other systems: who is told, the outbox, the order of deliveries, secrets, and when an endpoint goes off.

The decision writes a delivery for each endpoint in its own transaction, a worker (tasks.py) sends it. A delivery waits
while an earlier one of the same order has not arrived at its endpoint or been given up. It may arrive twice, with the
same id, never zero times while the endpoint answers within the days of the schedule.
"""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from standardwebhooks import Webhook

from notifications import gateways, rules
from notifications.gateways import Answer
from notifications.models import WebhookDelivery, WebhookEndpoint
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.together import insert, recall, remember

KIND = "notifications.webhook"
NOTICE, OFF = "notifications.webhook_notice", "notifications.webhook_off"

SECRET_OVERLAP = timedelta(hours=24)
# An endpoint that answered nothing but failures for so long is switched off.
OFF_AFTER = timedelta(days=5)
# So long an order's later deliveries wait for an earlier one; the schedule gives up on that one before.
LONGEST_WAIT = timedelta(days=4)
# One that waits is let go by the one before it; should that never happen, it looks for itself.
LOOK_AGAIN = timedelta(hours=6)
KEEP_ENDED = timedelta(days=30)


# ---------------------------------------------------------------------------------------------------------------
# Promise


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to an order. customer: what only endpoints get that ask for the customer's data."""

    type: str
    at: datetime
    data: Mapping[str, Any]
    customer: Mapping[str, Any]


def endpoints_for(*, store_id: int) -> list[WebhookEndpoint]:
    """This will list the active endpoints that are told of a store's orders: one query, for many orders together."""
    active: list[WebhookEndpoint] | None = recall(WebhookEndpoint)
    if active is None:
        active = list(WebhookEndpoint.objects.filter(is_active=True))
        remember(WebhookEndpoint, active)
    return [endpoint for endpoint in active if endpoint.store_id in {None, store_id}]


def queue_events(
    events: Iterable[Event],
    *,
    endpoints: Sequence[WebhookEndpoint],
    reference: str,
    store_id: int,
    sequence: int,
) -> None:
    """This will promise events to those of the endpoints that want them, in the caller's transaction.

    reference  the order's number; the caller holds the order's lock, so that ids follow the order of events
    sequence   its version
    """
    now = timezone.now()
    rows = [
        WebhookDelivery(
            endpoint=endpoint,
            store_id=store_id,
            event_id=new_id(),
            type=event.type,
            reference=reference,
            sequence=sequence,
            payload=payload_of(event, with_customer=endpoint.with_customer),
            created_at=now,
        )
        for event in events
        for endpoint in endpoints
        if event.type in endpoint.events
    ]
    insert(rows)
    jobs.enqueue_many(promise_of(row) for row in rows)


def payload_of(event: Event, *, with_customer: bool) -> str:
    data = {**event.data, "customer": event.customer} if with_customer else event.data
    # Kept as it is signed: a retry sends the same bytes.
    return json.dumps(
        {"type": event.type, "timestamp": event.at.isoformat(), "data": data}, ensure_ascii=False, separators=(",", ":")
    )


def new_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


def promise_of(row: WebhookDelivery, *, run_at: datetime | None = None) -> jobs.Promise:
    args = {"delivery": row.pk, "round": row.round}
    return jobs.Promise(KIND, job_key(row), args, row.reference, row.store_id, run_at=run_at)


def job_key(row: WebhookDelivery) -> str:
    """This will name the job that sends a delivery now; a release or a replay makes it another one."""
    return f"{KIND}:{row.pk}:{row.round}"


# ---------------------------------------------------------------------------------------------------------------
# Send


def headers_of(row: WebhookDelivery, *, as_of: datetime) -> dict[str, str]:
    """This will sign a payload as Standard Webhooks 1.0 says: with the old secret too, while it is valid."""
    endpoint = row.endpoint
    keys = [endpoint.secret]
    if endpoint.old_secret and endpoint.old_secret_until and as_of < endpoint.old_secret_until:
        keys.append(endpoint.old_secret)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Orderdesk ({settings.SITE_URL})",
        "webhook-id": row.event_id,
        "webhook-timestamp": str(int(as_of.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(row.event_id, as_of, row.payload) for key in keys),
    }


def send(row: WebhookDelivery) -> Answer:
    """This will send a delivery once, outside of any transaction. Raises AddressRefused."""
    headers = headers_of(row, as_of=timezone.now())
    return gateways.post(url=row.endpoint.url, body=row.payload.encode(), headers=headers)


def earlier(row: WebhookDelivery) -> QuerySet[WebhookDelivery]:
    """The deliveries that have to end before this one is sent; a replay waits for earlier replays only."""
    if not row.reference:
        return WebhookDelivery.objects.none()
    since = timezone.now() - LONGEST_WAIT
    alike = Q(replayed_at=None, created_at__gt=since) if row.replayed_at is None else Q(replayed_at__gt=since)
    return WebhookDelivery.objects.filter(
        alike,
        endpoint=row.endpoint_id,
        reference=row.reference,
        pk__lt=row.pk,
        state__in=WebhookDelivery.OPEN,
    )


# ---------------------------------------------------------------------------------------------------------------
# What became of an attempt


def locked(delivery_id: int) -> WebhookDelivery | None:
    """A delivery, locked until the transaction ends."""
    rows = WebhookDelivery.objects.select_for_update(no_key=True, of=("self",)).select_related("endpoint")
    return rows.filter(pk=delivery_id).first()


def hold(*, delivery_id: int, round: int) -> None:
    """This will let a delivery wait for the earlier ones of its order; where they have ended by now, it goes at once.

    Locks the earlier ones, then itself, by pk: who ends one of them finds this one waiting, or is found ended.
    """
    row = WebhookDelivery.objects.get(pk=delivery_id)
    is_held = bool(list(earlier(row).select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True)))
    own = locked(delivery_id)
    if own is None or own.round != round or own.state not in WebhookDelivery.OPEN:
        return
    own.state = WebhookDelivery.State.HELD if is_held else WebhookDelivery.State.WAITING
    own.round += 1
    own.save(update_fields=["state", "round"])
    jobs.enqueue_many([promise_of(own, run_at=timezone.now() + LOOK_AGAIN if is_held else None)])


def record(*, delivery_id: int, round: int, answer: Answer, is_last: bool) -> None:
    """This will write what came of an attempt on the delivery and its endpoint. Locks the delivery, then the endpoint.

    is_last  it is not tried again: without success it is given up, and the next of its order goes
    """
    row = locked(delivery_id)
    if row is None or row.round != round or row.state not in WebhookDelivery.OPEN:
        return
    now = timezone.now()
    row.attempts += 1
    row.last_status, row.last_latency_ms = answer.status, answer.milliseconds
    row.last_error = "" if answer.is_success else jobs.scrubbed(answer.error)
    row.state = WebhookDelivery.State.WAITING
    endpoint = WebhookEndpoint.objects.filter(pk=row.endpoint_id)
    if answer.is_success:
        row.state, row.delivered_at = WebhookDelivery.State.DELIVERED, now
        endpoint.exclude(failing_since=None).update(failing_since=None)
    else:
        endpoint.filter(failing_since=None).update(failing_since=now)
        if is_last:
            row.state = WebhookDelivery.State.FAILED
    row.save()
    _let_next_go(row)
    if answer.status == 410:
        switch_off_failing(row.endpoint_id, reason=_t("It answered that it is gone for good (410)."))
    elif not answer.is_success and endpoint.filter(failing_since__lte=now - OFF_AFTER).exists():
        switch_off_failing(row.endpoint_id, reason=_t("Nothing has arrived for five days: %s") % row.last_error)


def give_up(*, delivery_id: int, round: int, why: str) -> None:
    """This will end a delivery that is not sent: its endpoint is off, or somebody has dealt with it."""
    row = locked(delivery_id)
    if row is None or row.round != round or row.state not in WebhookDelivery.OPEN:
        return
    row.state, row.last_error = WebhookDelivery.State.FAILED, why[:500]
    row.save(update_fields=["state", "last_error"])
    _let_next_go(row)


def _let_next_go(row: WebhookDelivery) -> None:
    """Where a delivery has ended, send the next of its order that waits for it."""
    if row.state in WebhookDelivery.OPEN or not row.reference:
        return
    waiting = WebhookDelivery.objects.filter(
        endpoint=row.endpoint_id,
        reference=row.reference,
        pk__gt=row.pk,
        state=WebhookDelivery.State.HELD,
        replayed_at__isnull=row.replayed_at is None,
    )
    following = waiting.select_for_update(no_key=True).order_by("pk").first()
    if following is not None:
        following.state, following.round = WebhookDelivery.State.WAITING, following.round + 1
        following.save(update_fields=["state", "round"])
        jobs.enqueue_many([promise_of(following)])


def switch_off_failing(endpoint_id: int, *, reason: str) -> None:
    """This will switch an endpoint off and tell: its creator by mail, whoever handles jobs by the inbox. Once."""
    now = timezone.now()
    off = WebhookEndpoint.objects.filter(pk=endpoint_id, is_active=True).update(
        is_active=False, disabled_at=now, disabled_reason=reason[:300]
    )
    if off:
        store_id = WebhookEndpoint.objects.values_list("store", flat=True).get(pk=endpoint_id)
        args, mark = {"endpoint": endpoint_id}, int(now.timestamp())
        jobs.enqueue_many(
            jobs.Promise(kind, f"{kind}:{endpoint_id}:{mark}", args, store_id=store_id) for kind in (NOTICE, OFF)
        )


# ---------------------------------------------------------------------------------------------------------------
# People


class EndpointOff(Refused):
    code = "endpoint_off"
    message = _("The endpoint is switched off.")
    remedy = _("Switch it on first.")


class StillUnderWay(Refused):
    code = "webhook_under_way"
    message = _("It is still on its way; the desk tries again by itself.")


def new_secret() -> str:
    """This will make a secret as Standard Webhooks wants it: 256 random bits."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def rotate(*, endpoint_id: int, actor: Actor) -> str:
    """This will give an endpoint a new secret and return it; for 24 hours both sign. Raises NotAllowed."""
    with transaction.atomic():
        endpoint = _endpoint(endpoint_id, actor)
        endpoint.old_secret, endpoint.old_secret_until = endpoint.secret, timezone.now() + SECRET_OVERLAP
        endpoint.secret = new_secret()
        endpoint.save(update_fields=["secret", "old_secret", "old_secret_until"])
    return endpoint.secret


def switch(*, endpoint_id: int, on: bool, actor: Actor) -> None:
    """This will switch an endpoint on, with a clean record, or off. Raises NotAllowed."""
    with transaction.atomic():
        endpoint = _endpoint(endpoint_id, actor)
        if endpoint.is_active == on:
            return
        endpoint.is_active, endpoint.failing_since = on, None
        endpoint.disabled_at = None if on else timezone.now()
        endpoint.disabled_reason = "" if on else (_t("Switched off by %s.") % actor.name)[:300]
        endpoint.save(update_fields=["is_active", "failing_since", "disabled_at", "disabled_reason"])


def send_test(*, endpoint_id: int, actor: Actor) -> WebhookDelivery:
    """This will send an endpoint a webhook.test, whatever events it chose. Raises NotAllowed, EndpointOff."""
    with transaction.atomic():
        endpoint = _endpoint(endpoint_id, actor)
        if not endpoint.is_active:
            raise EndpointOff
        now = timezone.now()
        event = Event(type=rules.WEBHOOK_TEST, at=now, data={"endpoint": endpoint.name}, customer={})
        row = WebhookDelivery(
            endpoint=endpoint,
            store_id=endpoint.store_id,
            event_id=new_id(),
            type=event.type,
            sequence=0,
            payload=payload_of(event, with_customer=False),
            created_at=now,
        )
        insert([row])
        jobs.enqueue_many([promise_of(row)])
    return row


def refusal_of_replay(row: WebhookDelivery) -> Refused | None:
    """This will say why a delivery cannot be sent again now, or None."""
    if row.state in WebhookDelivery.OPEN:
        return StillUnderWay()
    return None if row.endpoint.is_active else EndpointOff()


def replay(*, delivery_id: int, actor: Actor) -> None:
    """This will send a delivery again: same id, same payload. Raises NotAllowed, StillUnderWay, EndpointOff."""
    with transaction.atomic():
        row = locked(delivery_id)
        if row is None:
            raise WebhookDelivery.DoesNotExist
        actor.require("notifications.resend_webhookdelivery", store_id=row.store_id)
        if refusal := refusal_of_replay(row):
            raise refusal
        row.state, row.replayed_at, row.round = WebhookDelivery.State.WAITING, timezone.now(), row.round + 1
        row.save(update_fields=["state", "replayed_at", "round"])
        jobs.enqueue_many([promise_of(row)])


def _endpoint(endpoint_id: int, actor: Actor) -> WebhookEndpoint:
    endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)
    actor.require("notifications.change_webhookendpoint", store_id=endpoint.store_id)
    return endpoint


# ---------------------------------------------------------------------------------------------------------------
# Tidy up


def forget(*, before: datetime) -> int:
    """This will delete deliveries that ended and were made before a time; returns how many."""
    ended = WebhookDelivery.objects.filter(~Q(state__in=WebhookDelivery.OPEN), created_at__lt=before)
    return ended._raw_delete("default")
