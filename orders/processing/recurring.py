"""Recurring orders: begun from an order, placed again when due, paused and ended; each once, whoever asks how often."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.utils.translation import gettext_lazy as _

from orders.models import (
    CancellationReason,
    Order,
    RecurringChange,
    RecurringItem,
    RecurringNotFound,
    RecurringOrder,
)
from orders.processing.base import HandlerBase
from orders.processing.decision import Decision
from orders.processing.placement import Item, PaymentChoice, Placement, PlacementRefused, Placing
from orders.rules import recurring as rules
from payments.gateways import is_credit
from payments.models import Payment
from payments.services import takes_money_online
from shop import jobs
from shop.errors import Invalid
from shop.models import Job

MANAGE = "orders.manage_recurring"
PLACE = "orders.place_recurring"
What = RecurringChange.What


class ProductGone(PlacementRefused):
    code = "product_gone"
    message = _("“%(name)s” is not sold any more.")


class PaymentUnclear(Invalid):
    code = "payment_unclear"
    message = _("This order was paid in several ways. Choose one for the orders to come.")


def job_key(series_id: int, occurrence: int) -> str:
    return f"{PLACE}:{series_id}:{occurrence}"


def promise_due(*, as_of: datetime) -> int:
    """This will promise the placing of every recurring order that is due, once for each. Returns how many are due."""
    latest = Order.objects.filter(recurring=OuterRef("pk")).order_by("-pk").values("number")[:1]
    due = RecurringOrder.objects.due(as_of).annotate(latest=Subquery(latest))
    promises = [
        jobs.Promise(PLACE, job_key(pk, n), {"recurring": pk, "occurrence": n}, number or "", store_id)
        for pk, n, number, store_id in due.values_list("pk", "next_occurrence", "latest", "store_id")
    ]
    jobs.enqueue_many(promises)
    return len(promises)


class Series(HandlerBase):
    """Ends series: on its own, and as a part of another decision on one of their orders."""

    def end_recurring(
        self,
        *,
        recurring_id: int,
        reason: str | int | CancellationReason | None = None,
        note: str = "",
        notify: bool = True,
    ) -> RecurringOrder:
        """This will let no order come any more, for good, and tell the customer; the ones there are stay as they are.

        Customers may end their own. A series that has ended stays ended by whom and when it was. It is a decision on
        the latest order of the series, which is locked first. Raises RecurringNotFound.
        """
        series = RecurringOrder.objects.of(self.actor).filter(pk=recurring_id).first()
        if series is None:
            raise RecurringNotFound
        if self.actor.is_staff:
            self.actor.require(MANAGE, store_id=series.store_id)
        number = series.orders.order_by("-pk").values_list("number", flat=True).first()
        if series.is_ended or number is None:
            return series
        with self.decide(number, "end_recurring", note=note) as d:
            row = self.reason_of(reason, note=note)
            d.reason = row.code if row else ""
            ended = self.end_series_of(d, reason=row, note=note, notify=notify)
            d.only_if_changed = "series" not in d.details  # somebody else was quicker
            return ended or series

    def end_series_of(
        self, d: Decision, *, reason: CancellationReason | None = None, note: str = "", notify: bool = True
    ) -> RecurringOrder | None:
        """This will end the series of the order that is decided on, inside that decision; None where it is in none.

        Staff may if they may manage recurring orders or cancel orders. A series that has ended is left as it is.
        """
        if d.order.recurring_id is None:
            return None
        series = RecurringOrder.objects.select_for_update(no_key=True).get(pk=d.order.recurring_id)
        d.order.recurring = series  # what is asked about it later in this decision is true then
        if self.actor.is_staff and not self.actor.may("orders.cancel_order", store_id=series.store_id):
            self.actor.require(MANAGE, store_id=series.store_id)
        if series.is_ended:
            return series
        series.status, series.ended_at = RecurringOrder.Status.ENDED, d.as_of
        series.ended_by, series.ended_reason = self.actor.name, reason
        series.save(update_fields=["status", "ended_at", "ended_by", "ended_reason"])
        self._record(series, What.ENDED, reason=reason, note=note)
        d.details["series"] = {"id": series.pk, "ended": True, "next_at": series.next_at.isoformat()}
        if notify:
            told = str(reason) if reason and reason.shown_to_customers else ""
            d.tell("recurring_ended", cause=f"series:{series.pk}", reason=told)
        return series

    # --- inside -----------------------------------------------------------------------------------------------------

    def _locked(self, recurring_id: int) -> RecurringOrder:
        """The series, locked, for one who may manage it. Raises RecurringNotFound, NotAllowed, UnderMaintenance."""
        self._check_maintenance()
        rows = RecurringOrder.objects.of(self.actor).select_for_update(no_key=True, of=("self",))
        series: RecurringOrder | None = rows.select_related("store").filter(pk=recurring_id).first()
        if series is None:
            raise RecurringNotFound
        self.actor.require(MANAGE, store_id=series.store_id)
        return series

    def _record(self, series: RecurringOrder, what: str, **fields: Any) -> None:
        by = {"actor_kind": self.actor.kind, "actor_name": self.actor.name, "user": self.actor.user}
        RecurringChange(recurring=series, what=what, created_at=self.as_of, **by, **fields).save()


class Recurring(Series, Placing):
    # --- begin ----------------------------------------------------------------------------------------------------

    def start_recurring(
        self, *, number: str, unit: str, every: int = 1, gateway: str = "", version: int | None = None
    ) -> RecurringOrder:
        """This will repeat an order every so often, from its own date on: what was not cancelled of it, paid the same.

        unit     "day", "week" or "month"
        gateway  through which the orders to come are paid; "": the order's own
        Locks the order. Raises Refused (part of a series, products that are gone, paid in several ways).
        """
        if unit not in RecurringOrder.Unit.values:
            words = _("Choose one of: %(units)s.")
            raise Invalid(words, params={"units": ", ".join(RecurringOrder.Unit.values)}, field="unit")
        if not 1 <= every <= rules.MAX_EVERY:
            words = _("Enter a number from 1 to %(most)d.")
            raise Invalid(words, params={"most": rules.MAX_EVERY}, field="every")
        with self.decide(number, "start_recurring", version=version) as d:
            self.actor.require(MANAGE, store_id=d.order.store_id)
            d.require(rules.repeat(d.order) or self.why_not("repeat", d.facts))
            items = _items_of(d)
            gateway, details = _payment_of(d, gateway)
            series = RecurringOrder(
                store=d.order.store,
                shipping_price=d.order.shipping_total,
                gateway=gateway,
                payment_details=details,
                # Which cart it came from does not hold of the orders to come.
                extra={name: value for name, value in d.order.extra.items() if name != "cart"},
                unit=unit,
                every=every,
                starts_at=d.order.placed_at,
                created_at=d.as_of,
                **{name: getattr(d.order, name) for name in RecurringOrder.COPIED},
            )
            self._move_on(series, after=1)
            series.save(force_insert=True)
            for item in items:
                item.recurring = series
            RecurringItem.objects.bulk_create(items)
            d.change(recurring=series, occurrence=1)
            d.details["series"] = {"id": series.pk, "unit": unit, "every": every, "next_at": series.next_at.isoformat()}
            self._record(series, What.STARTED, occurrence=1)
        return series

    # --- place ----------------------------------------------------------------------------------------------------

    def place_due(self, *, recurring_id: int, occurrence: int, early: bool = False) -> Order | None:
        """This will place the order of one occurrence, at today's prices, and move the series on to the next date.

        Called twice, it returns the order there is. None where there is nothing to place: the series has been paused,
        ended or moved on since, or its time has not come. What was missed meanwhile is left out, not made up for.

        early  before its time, and by a person: then a series that is paused or has ended is refused
        Locks the series, then its stock. Raises Refused (out of stock, a product gone); then the series stays as it is.
        """
        with transaction.atomic():
            series = self._locked(recurring_id)
            before: Order | None = series.orders.filter(occurrence=occurrence).first()
            if before is not None:
                return before
            if early and (no := rules.place_next(series)) is not None:
                raise no
            if not series.is_active or occurrence != series.next_occurrence:
                return None
            if not early and series.next_at > self.as_of:
                return None
            order = self.place(self.next_placement(series))
            self._move_on(series, after=occurrence)
            series.save(update_fields=["next_occurrence", "next_at"])
            self._record(series, What.PLACED, occurrence=occurrence, note=order.number or "")
        if early:
            self._close_job(series, occurrence, order)
        return order

    def next_placement(self, series: RecurringOrder) -> Placement:
        """This will put together the next order of a series; a shop with other prices for series overrides it."""
        if not series.store.is_active:
            params = {"store": series.store.name}
            raise PlacementRefused(_("“%(store)s” is closed."), params=params, code="store_closed")
        items = []
        for item in series.items.select_related("product"):
            product = item.product
            if product is None or not product.is_active or product.currency != series.store.currency:
                raise ProductGone(params={"name": item.name})
            items.append(Item(product=product, quantity=item.quantity, unit_price=product.price))
        return Placement(
            store=series.store,
            items=items,
            payments=[PaymentChoice(gateway=series.gateway, details=series.payment_details)],
            shipping_price=series.shipping_price,
            recurring=series,
            occurrence=series.next_occurrence,
            idempotency_key=f"recurring:{series.pk}:{series.next_occurrence}",
            extra=series.extra,
            **{name: getattr(series, name) for name in RecurringOrder.COPIED},
        )

    def skip_due(self, *, recurring_id: int, occurrence: int, note: str) -> None:
        """This will leave an occurrence out, and move the series on to the next date. A repetition does nothing."""
        with transaction.atomic():
            series = self._locked(recurring_id)
            if series.is_ended or occurrence != series.next_occurrence:
                return
            self._move_on(series, after=occurrence)
            series.save(update_fields=["next_occurrence", "next_at"])
            self._record(series, What.SKIPPED, occurrence=occurrence, note=note)

    def _close_job(self, series: RecurringOrder, occurrence: int, order: Order) -> None:
        """Where its job waits for a person, this was what it waited for. Called last: the job ends with it."""
        waiting = Job.objects.filter(key=job_key(series.pk, occurrence), state=Job.State.NEEDS_ATTENTION)
        for pk in waiting.values_list("pk", flat=True):
            note = str(_("Placed as order %(number)s.") % {"number": order.number})
            with suppress(jobs.JobGone):
                jobs.finish_by_hand(pk, user_id=self.actor.user_id, actor_name=self.actor.name, note=note)

    # --- pause and resume --------------------------------------------------------------------------------------------

    def pause_recurring(self, *, recurring_id: int, note: str = "") -> None:
        """This will let no order come until it is resumed. Raises SeriesPaused, SeriesEnded."""
        with transaction.atomic():
            series = self._locked(recurring_id)
            if (no := rules.pause(series)) is not None:
                raise no
            series.status = RecurringOrder.Status.PAUSED
            series.save(update_fields=["status"])
            self._record(series, What.PAUSED, note=note)

    def resume_recurring(self, *, recurring_id: int, note: str = "") -> None:
        """This will let orders come again, from the next date on; those of the pause are left out.

        Raises SeriesNotPaused, SeriesEnded.
        """
        with transaction.atomic():
            series = self._locked(recurring_id)
            if (no := rules.resume(series)) is not None:
                raise no
            series.status = RecurringOrder.Status.ACTIVE
            if series.next_at <= self.as_of:
                self._move_on(series, after=series.next_occurrence)
            series.save(update_fields=["status", "next_occurrence", "next_at"])
            self._record(series, What.RESUMED, note=note)

    def _move_on(self, series: RecurringOrder, *, after: int) -> None:
        series.next_occurrence = rules.next_occurrence(series, after=after, as_of=self.as_of)
        series.next_at = rules.occurs_at(series, series.next_occurrence)


def _items_of(d: Decision) -> list[RecurringItem]:
    """What is to come again: the ordered units of each line but those that were cancelled."""
    lines = [line for line in d.facts.lines if line.quantity > line.cancelled]
    if not lines:
        raise PlacementRefused(_("All of this order was cancelled: there is nothing to repeat."), code="nothing_left")
    for line in lines:
        if line.product_id is None:
            raise ProductGone(params={"name": line.name})
    return [
        RecurringItem(product_id=x.product_id, name=x.name, quantity=x.quantity - x.cancelled, position=position)
        for position, x in enumerate(lines, start=1)
    ]


def _payment_of(d: Decision, gateway: str) -> tuple[str, Mapping[str, Any]]:
    """Gateway and details of the payments to come. Raises PaymentUnclear."""
    paid: dict[str, Payment] = {payment.gateway: payment for payment in d.facts.payments}
    if not gateway and len(paid) > 1:
        raise PaymentUnclear(field="gateway")
    gateway = gateway or next(iter(paid), "manual")
    if takes_money_online(gateway=gateway) and d.order.pays_on_delivery:  # raises UnknownGateway
        words = _("This order is paid on delivery; the orders to come cannot be paid online.")
        raise PaymentUnclear(words, field="gateway")
    if is_credit(gateway) and gateway not in paid:
        words = _("This order was not paid with that credit, so the orders to come cannot be either.")
        raise PaymentUnclear(words, field="gateway")
    return gateway, paid[gateway].details if gateway in paid else {}
