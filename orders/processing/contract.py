"""django-oscar's public contract of the EventHandler: same names, arguments and exceptions, with locks and checks.

A handler written for Oscar ports with little change. Where Oscar is unsafe (no lock, no transaction, quantities and
amounts unchecked, half events left behind) this one refuses; docs/coming-from-oscar.md lists the differences.
Source: django-oscar 4.2, oscar/apps/order/processing.py, described in its "How to set up order processing".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from inventory import services as inventory
from orders import rules
from orders.models import (
    CommunicationEvent,
    Facts,
    Order,
    OrderLine,
    OrderNote,
    PaymentEvent,
    PaymentEventQuantity,
    PaymentEventType,
    RefundKind,
    ShippingEvent,
    ShippingEventQuantity,
    ShippingEventType,
    Status,
)
from orders.models.order import InvalidOrderStatus
from orders.processing.cancelling import Choices, approval_needed
from orders.processing.decision import MOVES, Decision
from orders.processing.deskwork import Deskwork
from orders.processing.reinstating import Reinstating
from payments import services as payments
from shop.actors import Actor
from shop.errors import Refused
from shop.money import ZERO


class OscarContract(Reinstating, Deskwork):
    # --- handle_*: what a shop overrides --------------------------------------------------------------------------

    def handle_order_status_change(self, order: Order, new_status: str, note_msg: str | None = None) -> None:
        """This will bring an order to a status by the verb that leads there, with everything that belongs to it.

        Raises InvalidOrderStatus where no verb leads there from where the order is, and the verb's own refusals.
        """
        verbs: dict[str, Callable[..., object]] = {
            Status.APPROVED: self.approve,
            Status.PREPARING: self.start_preparing,
            Status.READY_FOR_PICKUP: self.ready_for_pickup,
            Status.SHIPPED: self.ship,
            Status.DELIVERED: self.deliver,
            Status.CANCELLED: partial(self._cancel_all, note=note_msg or ""),
        }
        with self.decide(order.number or "", "change_status", note=note_msg or "") as d:
            if new_status != d.order.status:
                step = rules.own_step(target=new_status, status=d.order.status)
                if step is not None:
                    self.take_step(number=d.number, step=step.name)
                elif new_status in verbs:
                    verbs[new_status](number=d.number)
                else:
                    d.go(self._transition_to(d.order, new_status))
            if note_msg:
                self.create_note(d.order, note_msg)
        order.refresh_from_db()

    def _cancel_all(self, *, number: str, note: str) -> None:
        words = note or str(_("The status was set to cancelled."))
        self.cancel(number=number, reason="other" if self.actor.is_staff else None, note=words)

    def _transition_to(self, order: Order, status: str) -> str:
        for t in order.get_available_status_transitions():
            if t.target == status:
                return str(t.name)
        raise InvalidOrderStatus(params={"new": status, "number": order.number, "current": order.status})

    def handle_shipping_event(
        self,
        order: Order,
        event_type: ShippingEventType | str,
        lines: Sequence[OrderLine],
        line_quantities: Sequence[int],
        **kwargs: Any,
    ) -> ShippingEvent:
        """This will validate and record a shipping event, with its stock, money and message. Every door's goods pass.

        kwargs  reference (Oscar's name for the tracking number), carrier, tracking_number, tracking_url, note, reason,
                cause; `choices` carries the plan of a cancellation or return
        Raises InvalidShippingEvent and the refusals of the verb.
        """
        code = self.shipping_event_type(event_type).code
        if "reference" in kwargs:
            kwargs["tracking_number"] = kwargs.pop("reference")
        outermost = self._decision is None
        with self.decide(
            order.number or "", VERB_OF_EVENT.get(code, "shipping_event"), note=kwargs.get("note", "")
        ) as d:
            if outermost:  # nobody has asked the verb's own guard yet
                d.require(GUARD_OF_EVENT.get(code, rules.ship)(d.facts, self.actor))
                d.require(self.why_not(ACTION_OF_EVENT.get(code, code.replace("_", "-")), d.facts))
            units = self._paired(d, lines, line_quantities)
            self.validate_shipping_event(d.order, event_type, lines, line_quantities, **kwargs)
            if code == "cancelled":
                return self._cancelled(d, units, **kwargs)
            if code == "returned":
                return self._returned(d, units, **kwargs)
            if code == "shipped":
                self.consume_stock_allocations(d.order, [d.line(x) for x in units], list(units.values()))
            event = self.create_shipping_event(d.order, event_type, lines, line_quantities, **kwargs)
            if code in LETTER_OF_EVENT:
                tracking = {name: getattr(event, name) for name in ("carrier", "tracking_number", "tracking_url")}
                d.tell(LETTER_OF_EVENT[code], cause=f"event:{event.pk}", units=units, **tracking)
            if code == "shipped":
                self._answer_requests(d, event, units)
                self.document_shipment(d, event, units)
            return event

    def _cancelled(self, d: Decision, units: dict[int, int], **kwargs: Any) -> ShippingEvent:
        passed, cause = kwargs.get("choices"), kwargs.get("cause")
        if passed:
            return self.execute_cancellation(d, passed["plan"], cancellation=passed["cancellation"], cause=cause)
        choices = Choices(lines=units, reason=self.reason_of(kwargs.get("reason")), note=kwargs.get("note", ""))
        plan = self.planned(d.facts, choices)
        if plan.approval is not None:
            raise approval_needed(plan.approval)
        return self.execute_cancellation(d, plan, cancellation=self.draft(d, plan, choices), cause=cause)

    def _returned(self, d: Decision, units: dict[int, int], **kwargs: Any) -> ShippingEvent:
        choices = kwargs.get("choices") or {}
        reason = self.reason_of(kwargs.get("reason"))
        plan = choices.get("plan") or self.planned_return(
            d.facts, {x: (n, "quarantine") for x, n in units.items()}, reason=reason.code if reason else ""
        )
        shared = {"reason": reason, "note": kwargs.get("note", ""), "cause": kwargs.get("cause")}
        shared["destination"] = choices.get("destination") or payments.AS_PAID
        money = choices.get("money", True)
        return self.execute_return(d, plan, refund=choices.get("refund", True), money=money, **shared)

    def handle_payment_event(
        self,
        order: Order,
        event_type: PaymentEventType | str,
        amount: Decimal,
        lines: Sequence[OrderLine] | None = None,
        line_quantities: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> PaymentEvent:
        """This will validate and record a payment event, and ask the gateway for it.

        "paid" (Oscar's settle) captures the amount for the lines, "refunded" sends it back. Raises InvalidPaymentEvent.
        """
        code = self.payment_event_type(event_type).code
        outermost = self._decision is None
        with self.decide(
            order.number or "", {"paid": "take_payment", "refunded": "refund"}.get(code, "payment_event")
        ) as d:
            units = self._paired(d, lines, line_quantities or []) if lines else None
            # Units that stay with the customer are no goods in exchange.
            alone = not units or any(n > d.line(x).overpaid for x, n in units.items())
            if outermost:
                d.require({"refunded": rules.refund}.get(code, rules.take_payment)(d.facts, self.actor))
                d.require(self.why_not("refund" if code == "refunded" else "take-payment", d.facts))
                if code == "refunded" and alone:
                    d.require(self.why_not_refund_alone(d, amount))
            self.validate_payment_event(d.order, event_type, amount, lines, line_quantities, **kwargs)
            if code in {"paid", "charged"}:
                return self.charge(d, rules.plan_payment(d.facts, units))
            if code == "refunded":
                costs = {
                    x: (n, d.line(x).price_of_next(n, after=d.line(x).refunded, currency=d.order.currency))
                    for x, n in (units or {}).items()
                }
                return self.give_back(
                    d,
                    amount=amount,
                    units=costs,
                    reason=kwargs.get("note", ""),
                    cause=kwargs.get("cause"),
                    kind=(kwargs.get("kind") or RefundKind.GOODWILL.value) if alone else "",
                    destination=self.going_to(d.order, kwargs.get("destination", "")),
                )
            return self.create_payment_event(d.order, event_type, amount, lines, line_quantities, **kwargs)

    # --- validate_* -----------------------------------------------------------------------------------------------

    def validate_shipping_event(
        self,
        order: Order,
        event_type: ShippingEventType | str,
        lines: Sequence[OrderLine],
        line_quantities: Sequence[int],
        **kwargs: Any,
    ) -> None:
        """This will test if the requested shipping event is permitted. Raises InvalidShippingEvent."""
        with self._looking(order) as d:
            units = self._paired(d, lines, line_quantities)
            limit = self._limit(d, self.shipping_event_type(event_type))
            too_many = [d.line(x) for x, n in units.items() if n > limit(d.line(x))]
            if too_many:
                words = _("The selected quantity for line #%(line_id)s is too large")
                told = ", ".join(str(words % {"line_id": line.pk}) for line in too_many)
                raise rules.InvalidShippingEvent(told, max_quantity=limit(too_many[0]))

    @contextmanager
    def _looking(self, order: Order) -> Iterator[Decision]:
        """The decision that is open, or one that leaves no trace because nothing is decided in it."""
        outermost = self._decision is None
        with self.decide(order.number or "", "validate") as d:
            d.only_if_changed = d.only_if_changed or outermost
            yield d

    def _limit(self, d: Decision, event_type: ShippingEventType) -> Callable[[OrderLine], int]:
        known: dict[str, Callable[[OrderLine], int]] = {
            "shipped": rules.shippable_units(d.facts),
            "delivered": lambda line: line.on_the_way,
            "cancelled": lambda line: line.open,
            "returned": lambda line: line.returnable,
            "ready_for_pickup": rules.shippable_units(d.facts),
        }
        if event_type.code in known:
            return known[event_type.code]
        passed = self._passed(d.facts.lines, event_type.code)
        return lambda line: line.quantity - passed.get(line.pk, 0)

    def validate_payment_event(
        self,
        order: Order,
        event_type: PaymentEventType | str,
        amount: Decimal,
        lines: Sequence[OrderLine] | None = None,
        line_quantities: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """This will test if the requested payment event is permitted, amount included. Raises InvalidPaymentEvent."""
        code = self.payment_event_type(event_type).code
        with self._looking(order) as d:
            units = self._paired(d, lines, line_quantities or []) if lines else None
            if code in {"paid", "charged"}:
                plan = rules.plan_payment(d.facts, units)
                if plan.value != amount:
                    raise rules.InvalidPaymentEvent(
                        _("These units cost %(value)s, not %(amount)s."),
                        params={"value": plan.value, "amount": amount},
                        field="amount",
                    )
            elif code == "refunded":
                self._amount(d.facts, amount, at_most=d.facts.refundable, words=_("Only %(max)s can be refunded."))
                if units:
                    self._validate_refund_of_units(d, units, amount)
            elif amount < 0:
                raise rules.InvalidPaymentEvent(_("An amount cannot be negative."), field="amount")

    def _validate_refund_of_units(self, d: Decision, units: Mapping[int, int], amount: Decimal) -> None:
        worth = ZERO
        for line_id, count in units.items():
            line = d.line(line_id)
            if count > line.paid - line.refunded:
                raise rules.InvalidPaymentEvent(
                    _("The selected quantity for line #%(line_id)s is too large"),
                    params={"line_id": line_id},
                    max_quantity=line.paid - line.refunded,
                )
            worth += line.price_of_next(count, after=line.refunded, currency=d.order.currency)
        if amount > worth:
            raise rules.InvalidPaymentEvent(
                _("These units cost %(value)s, not %(amount)s."),
                params={"value": worth, "amount": amount},
                field="amount",
            )

    # --- questions ------------------------------------------------------------------------------------------------

    def have_lines_passed_shipping_event(
        self,
        order: Order,
        lines: Sequence[OrderLine],
        line_quantities: Sequence[int],
        event_type: ShippingEventType | str,
    ) -> bool:
        """This will test whether the lines have been through a shipping event with at least these quantities."""
        passed = self._passed(lines, self.shipping_event_type(event_type).code)
        return all(passed.get(line.pk, 0) >= count for line, count in zip(lines, line_quantities, strict=True))

    def _passed(self, lines: Sequence[OrderLine], code: str) -> dict[int, int]:
        if code in MOVES:
            return {
                line.pk: getattr(line, MOVES[code][0])
                for line in OrderLine.objects.filter(pk__in=[x.pk for x in lines])
            }
        rows = ShippingEventQuantity.objects.filter(line__in=lines, event__event_type__code=code)
        return dict(rows.values_list("line").annotate(models.Sum("quantity")))

    def calculate_payment_event_subtotal(
        self, event_type: PaymentEventType | str, lines: Sequence[OrderLine], line_quantities: Sequence[int]
    ) -> Decimal:
        """This will calculate the charge for these units, after those that this type of event has covered already.

        Includes each unit's share of discount, shipping and tax, as frozen at placement. Raises InvalidPaymentEvent.
        """
        code = self.payment_event_type(event_type).code
        rows = PaymentEventQuantity.objects.filter(line__in=lines, event__event_type__code=code)
        covered = dict(rows.values_list("line").annotate(models.Sum("quantity")))
        total = ZERO
        for line, count in zip(lines, line_quantities, strict=True):
            after = covered.get(line.pk, 0)
            if count < 0 or after + count > line.quantity:
                raise rules.InvalidPaymentEvent(
                    _("The selected quantity for line #%(line_id)s is too large"), params={"line_id": line.pk}
                )
            total += line.price_of_next(count, after=after, currency=line.order.currency)
        return total

    # --- stock ----------------------------------------------------------------------------------------------------

    def are_stock_allocations_available(self, lines: Sequence[OrderLine], line_quantities: Sequence[int]) -> bool:
        """This will check whether the lines still have the stock for these quantities. Untracked lines always have."""
        return all(
            not line.tracks_stock or line.allocated >= count for line, count in zip(lines, line_quantities, strict=True)
        )

    def consume_stock_allocations(
        self, order: Order, lines: Sequence[OrderLine] | None = None, line_quantities: Sequence[int] | None = None
    ) -> None:
        """This will take allocated units off the shelf; without lines, all that are allocated. All lines or none."""
        with self.decide(order.number or "", "consume_stock") as d:
            self.consume_stock(d, self._allocated(d, lines, line_quantities))

    def cancel_stock_allocations(
        self, order: Order, lines: Sequence[OrderLine] | None = None, line_quantities: Sequence[int] | None = None
    ) -> None:
        """This will release allocated units for others to buy; without lines, all that are allocated."""
        with self.decide(order.number or "", "release_stock") as d:
            moves = []
            for line_id, count in self._allocated(d, lines, line_quantities).items():
                line = d.line(line_id)
                if not line.tracks_stock or line.stock_record_id is None:
                    continue
                if count > line.allocated:
                    raise inventory.InvalidStockAdjustment(_("Only %(n)d units are allocated.") % {"n": line.allocated})
                moves.append(
                    inventory.Move(line.stock_record_id, count, f"release:{line.pk}:{d.order.version}:{line.allocated}")
                )
                d.bump(line_id, "allocated", -count)
            if moves:
                inventory.release(moves=moves, reference=d.number, actor_name=self.actor.name)

    def _allocated(
        self, d: Decision, lines: Sequence[OrderLine] | None, line_quantities: Sequence[int] | None
    ) -> dict[int, int]:
        if lines is None:
            return {line.pk: line.allocated for line in d.facts.lines if line.allocated}
        return self._paired(d, lines, line_quantities or [line.quantity for line in lines])

    # --- create_* -------------------------------------------------------------------------------------------------

    def create_shipping_event(
        self,
        order: Order,
        event_type: ShippingEventType | str,
        lines: Sequence[OrderLine],
        line_quantities: Sequence[int],
        **kwargs: Any,
    ) -> ShippingEvent:
        """This will record the event and move the lines' counters; stock and money are not touched."""
        if "reference" in kwargs:
            kwargs["tracking_number"] = kwargs.pop("reference")
        wanted = ("note", "carrier", "tracking_number", "tracking_url", "reason", "cause")
        fields = {name: kwargs[name] for name in wanted if name in kwargs}
        with self.decide(order.number or "", "shipping_event") as d:
            units = self._paired(d, lines, line_quantities)
            return d.shipping_event(self.shipping_event_type(event_type).code, units, **fields)

    def create_payment_event(
        self,
        order: Order,
        event_type: PaymentEventType | str,
        amount: Decimal,
        lines: Sequence[OrderLine] | None = None,
        line_quantities: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> PaymentEvent:
        """This will record a payment event; no gateway is asked and no counter moves."""
        with self.decide(order.number or "", "payment_event") as d:
            units = self._paired(d, lines, line_quantities or []) if lines else {}
            costs = {x: (n, ZERO) for x, n in units.items()}
            code = self.payment_event_type(event_type).code
            if code in {"charged", "paid", "refunded"}:
                words = _("Money that moves goes through handle_payment_event, which keeps the books.")
                raise rules.InvalidPaymentEvent(words)
            return d.payment_event(
                code, amount, costs, reference=kwargs.get("reference", ""), note=kwargs.get("note", "")
            )

    def create_communication_event(self, order: Order, event_type: str) -> CommunicationEvent:
        """This will record that the customer was told something outside the desk's own messages."""
        with self.decide(order.number or "", "communication_event") as d:
            by = {
                "created_at": d.as_of,
                "actor_kind": self.actor.kind,
                "actor_name": self.actor.name,
                "user": self.user,
            }
            event = CommunicationEvent(order=d.order, event_type=event_type, **by)
            event.save()
        return event

    def create_note(self, order: Order, message: str, note_type: str = OrderNote.Type.SYSTEM) -> OrderNote:
        """This will write a note in the handler's name; system notes cannot be edited."""
        with self.decide(order.number or "", "write_note") as d:
            note = OrderNote(
                order=d.order,
                user=self.user,
                author=self.actor.name,
                note_type=note_type.lower(),
                message=message,
                created_at=d.as_of,
                updated_at=d.as_of,
            )
            note.save()
        return note

    # --- helpers --------------------------------------------------------------------------------------------------

    def shipping_event_type(self, event_type: ShippingEventType | str) -> ShippingEventType:
        """The type as a row; a code that is new is kept as a type of its own."""
        if isinstance(event_type, ShippingEventType):
            return event_type
        return ShippingEventType(code=event_type, name=event_type)

    def payment_event_type(self, event_type: PaymentEventType | str) -> PaymentEventType:
        if isinstance(event_type, PaymentEventType):
            return event_type
        return PaymentEventType(code=event_type, name=event_type)

    def _paired(self, d: Decision, lines: Sequence[OrderLine] | None, quantities: Sequence[int]) -> dict[int, int]:
        """Oscar's two parallel lists as line id → units. Raises BadLines where they do not fit."""
        lines = list(lines or [])
        if len(lines) != len(quantities):
            raise rules.BadLines(
                _("%(lines)d lines, but %(quantities)d quantities."),
                params={"lines": len(lines), "quantities": len(quantities)},
            )
        units = {line.pk: count for line, count in zip(lines, quantities, strict=True)}
        if len(units) != len(lines):
            raise rules.BadLines(_("The same line is named twice."))
        return rules.chosen_lines(d.facts, units, lambda line: line.quantity, verb=_("use"))


GUARD_OF_EVENT: dict[str, Callable[[Facts, Actor], Refused | None]] = {
    "shipped": rules.ship,
    "delivered": rules.deliver,
    "cancelled": rules.cancel,
    "returned": rules.take_back,
    "ready_for_pickup": rules.ready_for_pickup,
}
# As the verbs are called among the actions.
ACTION_OF_EVENT = {"shipped": "ship", "delivered": "deliver", "cancelled": "cancel", "returned": "take-back"}
VERB_OF_EVENT = {
    "shipped": "ship",
    "delivered": "deliver",
    "cancelled": "cancel",
    "returned": "take_back",
    "ready_for_pickup": "ready_for_pickup",
}
LETTER_OF_EVENT = {"shipped": "order_shipped", "delivered": "order_delivered", "ready_for_pickup": "ready_for_pickup"}
