"""Cancel many orders at once: each by the same `cancel` as one alone, their reading and writing done together."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, OperationalError, transaction
from django.db.models import prefetch_related_objects

from orders.models import (
    CancellationReason,
    CancellationRequest,
    Facts,
    Order,
    PaymentEventType,
    ShippingEvent,
    ShippingEventType,
)
from orders.processing.cancelling import Cancelling
from orders.processing.decision import Decision, ReadAhead, latest_hashes, locked_orders, open_requests
from orders.processing.fulfilment import read_causes_ahead
from orders.processing.returning import RETURN_STOCK
from payments import services as payments
from shop import jobs
from shop.errors import Refused
from shop.together import StartOver, atomic, remember, together

logger = logging.getLogger(__name__)

Outcomes = dict[str, ShippingEvent | Exception]


class Batching(Cancelling):
    # Store id and event of the cancellations whose goods go back by one job; None: each by its own.
    _returns: list[tuple[int, ShippingEvent]] | None = None

    def cancel_many(
        self,
        *,
        orders: Mapping[str, int | None],
        cause: str,
        reason: str | int | CancellationReason | None = None,
        note: str = "",
        **choices: Any,
    ) -> Outcomes:
        """This will cancel many orders in one transaction, each by `cancel`: the same checks, the same rows.

        orders   number → the version it was chosen at, or None. A hundred or two at once: all of them stay locked.
        cause    with an order's id, the cause of its cancellation: a repetition returns the first one's event
        choices  everything else that `cancel` takes, for each order: restock, refund, notify, contact, …

        Returns number → event, or why there is none: a Refused, or what went wrong with this order alone. The others
        are cancelled all the same. A handler that asks or writes the database in its own `cancel` works too, only
        slower; where one failure cannot be taken back alone, each order is cancelled in a transaction of its own.
        Locks the orders, then their payments, each in pk order. Raises Refused for a reason that cannot be used.
        """
        chosen = self.reason_of(reason, note=note)
        causes = {number: f"{cause}:{pk}" for number, pk in self._ids_of(orders).items()}

        def cancel(number: str) -> ShippingEvent:
            return self.cancel(
                number=number,
                version=orders[number],
                reason=chosen,
                note=note,
                cause=causes.get(number),
                **choices,
            )

        try:
            with together(expected=len(orders)):
                return self._cancel_together(orders, causes.values(), cancel)
        except (StartOver, DatabaseError) as error:
            why = jobs.scrubbed(error.__cause__ or error)
            logger.warning("%d orders are cancelled one by one: %s", len(orders), why)
        if transaction.get_connection().in_atomic_block:
            self.lock_in_order(orders)  # in the caller's transaction all of them stay locked, as above
        return {number: self._cancel_alone(number, cancel) for number in orders}

    def lock_in_order(self, numbers: Collection[str]) -> None:
        """Lock all orders that a transaction will change, then all that is counted: nobody locks an order after that.

        One who changes a single order has it and waits for what others share: what is counted, the number series of
        documents. Who has these must not wait for that order.
        """
        orders = list(locked_orders(self.actor).filter(number__in=numbers).order_by("pk"))
        if not self.actor.is_system and self.approval_policies().counts:
            self.count_in_turn(orders)

    def _ids_of(self, numbers: Collection[str]) -> dict[str, int]:
        return dict(Order.objects.of(self.actor).filter(number__in=numbers).values_list("number", "pk"))

    def _cancel_together(self, orders: Mapping[str, int | None], causes: Collection[str], cancel: Any) -> Outcomes:
        versions = self._read_ahead(orders, causes)
        outcomes: Outcomes = {}
        self._returns = []
        try:
            # First those that are not as they were: telling so asks the database, which is quick while nothing waits.
            for number in sorted(orders, key=lambda n: n in versions and orders[n] in {None, versions[n]}):
                before = len(self._returns)
                try:
                    with atomic():
                        outcomes[number] = cancel(number)
                except (StartOver, DatabaseError):
                    raise
                except Exception as error:  # noqa: BLE001 - it is this order's outcome
                    outcomes[number] = error
                    del self._returns[before:]
            self._promise_returns(self._returns)
        finally:
            self._returns = None
        return {number: outcomes[number] for number in orders}

    def _cancel_alone(self, number: str, cancel: Any) -> ShippingEvent | Exception:
        try:
            with transaction.atomic():
                event: ShippingEvent = cancel(number)
            return event
        except OperationalError:
            raise  # the database is not there, or not now: no order is to blame
        except Exception as error:  # noqa: BLE001 - it is this order's outcome
            return error

    def _read_ahead(self, numbers: Collection[str], causes: Collection[str]) -> dict[str, int]:
        """Lock and read everything at once that the decisions will ask for. Returns number → version."""
        orders: list[Order] = list(locked_orders(self.actor).filter(number__in=numbers).order_by("pk"))
        prefetch_related_objects(orders, "store", "shipping_address")
        references = [order.number or "" for order in orders]
        payments.read_ahead(references=references)
        every = [payment for reference in references for payment in payments.payments_of(reference=reference)]
        hashes = dict(latest_hashes(orders))
        requests: dict[int, list[CancellationRequest]] = defaultdict(list)
        for request in open_requests(orders):
            requests[request.order_id].append(request)
        for facts in Facts.of_many(orders, every):
            order = facts.order
            remember(
                (Order, order.number), ReadAhead(order, facts, hashes.get(order.pk, ""), requests.get(order.pk, []))
            )
        for model in (ShippingEventType, PaymentEventType):
            for row in model._default_manager.all():
                remember((model, row.code), row)
        read_causes_ahead(causes)
        self.read_more_ahead(orders)
        if not self.actor.is_system:
            self.count_in_turn(orders)
            self.count_ahead(orders)
        return {order.number or "": order.version for order in orders}

    # --- stock ----------------------------------------------------------------------------------------------------

    def _promise_stock(self, d: Decision, event: ShippingEvent, *, restocked: bool) -> None:
        if restocked and self._returns is not None:
            self._returns.append((d.order.store_id, event))
        else:
            super()._promise_stock(d, event, restocked=restocked)

    def _promise_returns(self, returns: list[tuple[int, ShippingEvent]]) -> None:
        """One job for the goods of all cancellations of a store; it falls apart where one of them stands in the way."""
        by_store: dict[int, list[int]] = defaultdict(list)
        for store_id, event in returns:
            by_store[store_id].append(event.pk)
        for store_id, events in by_store.items():
            key = f"{RETURN_STOCK}:{events[0]}-{events[-1]}"
            jobs.enqueue(RETURN_STOCK, key=key, args={"events": events}, store_id=store_id)

    def return_stock_of_set(self, *, event_ids: Collection[int]) -> None:
        """This will put back the units of several cancellations; where one stands in the way, each by its own job.

        So only the one that cannot be put back waits for a person. A repetition does nothing.
        """
        try:
            with transaction.atomic():
                self.return_stock_of_many(event_ids=event_ids)
        except (Refused, DatabaseError, ObjectDoesNotExist) as error:
            logger.warning("The goods of %d cancellations go back one by one: %s", len(event_ids), jobs.scrubbed(error))
            events = ShippingEvent.objects.filter(pk__in=event_ids).order_by("pk")
            jobs.enqueue_many(
                jobs.Promise(RETURN_STOCK, f"{RETURN_STOCK}:{pk}", {"event": pk}, number or "", store_id)
                for pk, number, store_id in events.values_list("pk", "order__number", "order__store")
            )
