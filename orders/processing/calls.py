"""Calls to an order management system: sent or looked up outside of any transaction, and what an answer means."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders import rules
from orders.gateways import (
    ABSENT,
    ACCEPTED,
    DONE,
    REFUSED,
    UNKNOWN,
    CancelOrder,
    ChangeAddress,
    Reply,
    Units,
    get_order_management,
)
from orders.models import CancellationReason, CancellationRequest, ExternalCall, Order, OrderAddress, OrderLine
from orders.processing.requesting import Wish
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused
from shop.models import Job
from shop.together import recall

CALL, LOOK_UP, NOTICE, CONFLICT = (
    "orders.external_call",
    "orders.external_lookup",
    "orders.external_notice",
    "orders.external_conflict",
)
THEM = gettext_lazy("Order management system")
# What nobody has answered for so long is looked up, once in so many hours, whatever became of its job.
OVERDUE, LOOK_EVERY = timedelta(hours=1), timedelta(hours=6)
GRACE_SECONDS, PAUSE_SECONDS = 2.0, 0.05
S = ExternalCall.Status


class StillAsking(Refused):
    """The other system has been asked, and the answer is not there yet: the same request again gets it."""

    code = "still_asking"
    http_status = 503
    retry_after = 2
    message = gettext_lazy("Your wish has been passed on, and the answer is awaited. Ask again in a moment.")


def open_questions(orders: Sequence[Order]) -> dict[int, ExternalCall]:
    """Order id → the latest call of which nobody knows whether it has cancelled its units. One query."""
    rows = ExternalCall.objects.filter(order__in=orders, kind=ExternalCall.Kind.CANCEL, status=S.UNKNOWN)
    return {call.order_id: call for call in rows.defer("pictures").order_by("pk")}


def open_question(order: Order) -> ExternalCall | None:
    known: ExternalCall | str | None = recall((ExternalCall, order.pk), "not read")
    return open_questions([order]).get(order.pk) if isinstance(known, str) else known


def head_start() -> timedelta:
    """How long a door has for asking before a worker looks after it."""
    return timedelta(seconds=settings.ORDER_MANAGEMENT_TIMEOUT_SECONDS + GRACE_SECONDS)


def call_key(call: ExternalCall) -> str:
    return f"{CALL}:{call.uuid}"


def wait_for(call: ExternalCall) -> ExternalCall:
    """This will ask the other system now, or wait for whoever asks it already; outside of any transaction.

    Returns the call with its answer. Raises StillAsking where there is none in time: a worker goes on.
    """
    stop = time.monotonic() + head_start().total_seconds()
    # Whoever comes first asks; a worker that died with it, a minute ago, is no longer in the way.
    job = jobs.claim(as_of=timezone.now() + head_start(), key=call_key(call)) if call.status == S.ASKED else None
    if job is not None:
        jobs.run(job)
    while True:
        row = ExternalCall.objects.get(pk=call.pk)
        if row.status != S.ASKED:
            return row
        if job is not None or time.monotonic() > stop:
            raise StillAsking
        time.sleep(PAUSE_SECONDS)


def asker_of(call: ExternalCall) -> Actor:
    """The customer whose wish it is, as whom it is done; the desk itself where there is none any more."""
    order = call.order
    if call.origin == ExternalCall.Origin.DESK:
        return Actor.system()
    if order.customer is not None:
        return Actor.customer(order.customer)
    return Actor.guest(order.email) if order.email else Actor.system(call.actor_name)


def call_of(uuid: str) -> ExternalCall:
    rows = ExternalCall.objects.select_related("order__customer", "address", "after__order__customer")
    return rows.get(uuid=uuid)


def ask(call: ExternalCall, job: Job) -> Reply:
    """This will send a call, or look it up where it may have been sent before. No transaction is open."""
    management = get_order_management()
    if job.first_sent_at is not None:
        found = management.lookup(str(call.uuid))
        # What a person has to decide by now is not sent again; what was promised is, under the same key.
        may_send = call.status == S.ASKED or call.origin == ExternalCall.Origin.DESK
        if found.state != ABSENT or not may_send:
            return found
    if call.kind == ExternalCall.Kind.ADDRESS:
        wish = address_wish(call)
        jobs.mark_sent(job)
        return management.change_address(wish)
    order = cancel_wish(call)
    if not order.items:
        return Reply(DONE, None, _("An earlier call has cancelled it already."))
    jobs.mark_sent(job)
    return management.cancel(order)


def cancel_wish(call: ExternalCall) -> CancelOrder:
    """What is to be cancelled there: without what an earlier call has turned out to have cancelled."""
    units = {pk: count for pk, count in call.lines.items() if count}
    skus = dict(OrderLine.objects.filter(pk__in=units).values_list("pk", "sku"))
    items = tuple(Units(pk, skus[pk], count) for pk, count in units.items())
    return CancelOrder(key=str(call.uuid), number=call.order.number or "", items=items, reason=call.reason)


def address_wish(call: ExternalCall) -> ChangeAddress:
    assert call.address is not None
    types = [name for name, wanted in (("shipping", call.shipping), ("billing", call.billing)) if wanted]
    fields = {name: getattr(call.address, name) for name in OrderAddress.FIELDS}
    return ChangeAddress(key=str(call.uuid), number=call.order.number or "", types=tuple(types), address=fields)


def outcome_of(call: ExternalCall, reply: Reply) -> jobs.Outcome:
    """What an answer means for the job that got it: done, to be looked up, or for a person."""
    data: dict[str, Any] = {"reply": reply}
    words = reply.words or reply.state
    is_report = call.origin == ExternalCall.Origin.DESK
    if reply.state == DONE:
        return jobs.done(**data)
    if reply.state == REFUSED:
        return jobs.refused(words, **data) if is_report else jobs.done(**data)
    if reply.state == ACCEPTED:
        return jobs.retry(_("They have accepted it and not confirmed it yet."), **data)
    if reply.state == UNKNOWN:
        return jobs.unknown(words, **data)
    if not is_report and (call.status == S.ASKED or reply.state == ABSENT):
        return jobs.done(**data)  # a person decides by now
    return jobs.retry(words, retry_after=reply.retry_after, reply=reply)


def status_of_report(before: str, reply: Reply) -> str:
    """The status of what the desk reports, after an answer."""
    if before == S.DONE:
        return S.DONE if reply.state not in {REFUSED, ABSENT} else S.DISPUTED
    new = {DONE: S.DONE, ACCEPTED: S.ACCEPTED, REFUSED: S.REFUSED, UNKNOWN: S.UNKNOWN}
    return str(new.get(reply.state, before))


def look_up_later(call: ExternalCall, *, at: Any, once: str) -> None:
    """Promise to look a call up. once: the same word for the same call is one look-up."""
    key = f"{LOOK_UP}:{call.uuid}:{once}"
    order = call.order
    jobs.enqueue(
        LOOK_UP,
        key=key,
        args={"call": str(call.uuid)},
        reference=order.number or "",
        store_id=order.store_id,
        run_at=at,
    )


def look_up_overdue() -> None:
    """This will promise to look up what has been undecided for too long, once in some hours each."""
    if not get_order_management().is_outside:
        return
    now = timezone.now()
    once = str(int(now.timestamp() // LOOK_EVERY.total_seconds()))
    late: QuerySet[ExternalCall] = ExternalCall.objects.filter(
        status__in=ExternalCall.UNDECIDED, created_at__lt=now - OVERDUE
    )
    for call in late.select_related("order").order_by("pk")[:200]:
        look_up_later(call, at=now, once=once)


def wishes_of(call: ExternalCall) -> list[Wish]:
    """What the customer wanted, as it was asked, pictures included."""
    reasons = CancellationReason.objects.in_bulk([wish["reason"] for wish in call.wishes])
    pictures = call.pictures or [[] for _wish in call.wishes]
    return [
        Wish(
            wish["line"],
            wish["units"],
            CancellationRequest.Type.CANCEL,
            reasons[wish["reason"]],
            wish["description"],
            pictures=tuple(rules.Picture(base64.b64decode(content), w, h) for content, w, h in some),
        )
        for wish, some in zip(call.wishes, pictures, strict=True)
    ]
