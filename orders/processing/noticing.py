"""What the order management system tells by itself: kept once, then worked off under the order's lock, in any order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from orders.gateways import ACCEPTED, DONE, REFUSED, Notice, Reply
from orders.models import ExternalCall, ExternalNotice, Order, OrderLine
from orders.processing.calls import CONFLICT, NOTICE, THEM, asker_of
from orders.processing.readdressing import Readdressing
from shop import jobs
from shop.actors import Actor
from shop.errors import Refused

CANCEL, ADDRESS = ExternalCall.Kind.CANCEL, ExternalCall.Kind.ADDRESS
MEANS = {
    "order.cancelled": (CANCEL, DONE),
    "cancellation.accepted": (CANCEL, ACCEPTED),
    "cancellation.refused": (CANCEL, REFUSED),
    "address.changed": (ADDRESS, DONE),
    "address.refused": (ADDRESS, REFUSED),
}
Outcome = ExternalNotice.Outcome


def receive(notice: Notice) -> None:
    """This will keep a verified notice and promise to work it off; the same one again is kept once."""
    with transaction.atomic():
        row, is_new = ExternalNotice.objects.get_or_create(
            event_id=notice.id[:200],
            defaults={
                "type": notice.type[:100],
                "body": dict(notice.data),
                "reference": _text(notice.data.get("order"))[:40],
                "received_at": timezone.now(),
            },
        )
        if is_new:
            jobs.enqueue(NOTICE, key=f"{NOTICE}:{row.pk}", args={"notice": row.pk}, reference=row.reference)


class Noticing(Readdressing):
    def hear_notice(self, *, notice_id: int) -> None:
        """This will work off a notice, once. What it is about nobody knows is kept, and said so."""
        self._may_go_on = True
        row = ExternalNotice.objects.get(pk=notice_id)
        if row.outcome != Outcome.WAITING:
            return
        try:
            row.outcome, row.told = self._work_off(row)
        except Refused as no:
            # It is about something of ours, and has not been done: people have to know.
            row.outcome, row.told = Outcome.IGNORED, str(no)[:500]
            self._tell_inbox_of(row)
        row.processed_at = timezone.now()
        row.save(update_fields=["outcome", "told", "processed_at"])

    def _work_off(self, row: ExternalNotice) -> tuple[str, str]:
        if row.type not in MEANS:
            return Outcome.IGNORED, _("The desk does not know this kind of notice.")
        kind, state = MEANS[row.type]
        key = _text(row.body.get("key"))
        if key:
            call = _call(key)
            if call is None:
                return Outcome.IGNORED, _("The desk has never asked under this key.")
            if call.kind != kind:
                return Outcome.IGNORED, _("Under this key the desk has asked for something else.")
            asker = type(self)(actor=asker_of(call), as_of=self.as_of)
            heard = asker.hear(call=str(call.uuid), reply=Reply(state, None, _text(row.body.get("message"))[:300]))
            return Outcome.DONE, str(heard.get_status_display())
        if row.type != "order.cancelled":
            return Outcome.IGNORED, _("It names no key.")
        return self._cancelled_there(row)

    def _cancelled_there(self, row: ExternalNotice) -> tuple[str, str]:
        order = Order.objects.placed().filter(number=row.reference).first() if row.reference else None
        if order is None:
            return Outcome.IGNORED, _("There is no such order.")
        units = units_told(order, row.body.get("items"))
        if units == {}:
            return Outcome.IGNORED, _("It names no unit of this order.")
        named = _text(row.body.get("id"))[:100] or row.event_id
        system = type(self)(actor=Actor.system(str(THEM)), as_of=self.as_of)
        told, here = system.cancelled_outside(
            number=order.number or "", units=units, cause=f"outside:{order.pk}:{named}"[:150]
        )
        words = _("%(here)d of %(told)d units cancelled.") % {"here": here, "told": told}
        if here < told:
            self._tell_inbox_of(row)
        return Outcome.DONE, words

    def _tell_inbox_of(self, row: ExternalNotice) -> None:
        call = _call(_text(row.body.get("key")))
        order = call.order if call else Order.objects.filter(number=row.reference).first() if row.reference else None
        jobs.enqueue(
            CONFLICT,
            key=f"{CONFLICT}:notice:{row.pk}",
            args={"notice": row.pk},
            reference=(order.number or "") if order else row.reference,
            store_id=order.store_id if order else None,
        )


def units_told(order: Order, items: Any) -> dict[int, int] | None:
    """Line id → units that a notice names, by our id of the line or by the article; None: everything."""
    if items is None:
        return None
    lines = list(OrderLine.objects.filter(order=order).order_by("position"))
    units: dict[int, int] = {}
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, Mapping) or type(item.get("units")) is not int or item["units"] < 1:
            continue
        by_id = (line for line in lines if line.pk == item.get("line"))
        by_sku = (line for line in lines if "line" not in item and line.sku == item.get("sku"))
        line = next(by_id, None) or next(by_sku, None)
        if line is not None:
            units[line.pk] = units.get(line.pk, 0) + item["units"]
    return units


def _call(key: str) -> ExternalCall | None:
    try:
        uuid = UUID(key)
    except ValueError:
        return None
    return ExternalCall.objects.select_related("order__customer").filter(uuid=uuid).first()


def _text(value: Any) -> str:
    return value.replace("\0", "") if isinstance(value, str) else str(value) if type(value) is int else ""
