"""Facts: what is true of one order right now. Guards and plans are decided on them, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from orders.models.journal import Hold
from orders.models.lines import OrderLine
from payments.models import Payment
from shop.money import ZERO, first_units

if TYPE_CHECKING:
    from orders.models import Order


@dataclass(slots=True)
class Facts:
    """An order with its lines, payments and active holds. Load it under the order's lock to decide on it."""

    order: Order
    lines: list[OrderLine]
    payments: list[Payment]
    holds: list[Hold]
    _lines_by_id: dict[int, OrderLine] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._lines_by_id = {line.pk: line for line in self.lines}

    @classmethod
    def of(cls, order: Order) -> Facts:
        """Load them: three queries, whatever the number of lines."""
        payments = Payment.objects.filter(reference=order.number).order_by("pk") if order.number else []
        return cls.of_many([order], payments)[0]

    @classmethod
    def of_many(cls, orders: Sequence[Order], payments: Iterable[Payment]) -> list[Facts]:
        """Load those of several orders, in their order, with as many queries as for one. payments: theirs, by pk."""
        by_order = {order.pk: cls(order, [], [], []) for order in orders}
        by_number = {order.number: by_order[order.pk] for order in orders}
        lines = OrderLine.objects.filter(order__in=orders).select_related("stock_record__location")
        for line in lines.order_by("order_id", "position"):
            found = by_order[line.order_id]
            line.order = found.order
            found.lines.append(line)
            found._lines_by_id[line.pk] = line
        for payment in payments:
            by_number[payment.reference].payments.append(payment)
        for hold in Hold.objects.filter(order__in=orders, released_at=None).order_by("pk"):
            by_order[hold.order_id].holds.append(hold)
        return list(by_order.values())

    def line(self, line_id: int) -> OrderLine | None:
        return self._lines_by_id.get(line_id)

    def after(self, gone: Mapping[int, int], refunded: Mapping[int, int], *, counter: str) -> Facts:
        """The facts as they will be when units are cancelled or returned and their money is given back."""
        lines = []
        for line in self.lines:
            then = copy(line)
            setattr(then, counter, getattr(line, counter) + gone.get(line.pk, 0))
            then.refunded += refunded.get(line.pk, 0)
            lines.append(then)
        return Facts(self.order, lines, self.payments, self.holds)

    @property
    def releasable(self) -> Decimal:
        """What is authorized and will never be asked for: everything that is due has been, and nothing is under way."""
        return ZERO if self.due or self.capture_in_flight else self.open_to_capture

    # --- units ----------------------------------------------------------------------------------------------------

    @property
    def all_shipped(self) -> bool:
        """Something has shipped, and nothing is left to ship."""
        return any(line.shipped for line in self.lines) and not any(line.left for line in self.lines)

    @property
    def all_delivered(self) -> bool:
        return self.all_shipped and not any(line.on_the_way for line in self.lines)

    @property
    def nothing_left(self) -> bool:
        """Every unit was cancelled before it shipped."""
        return all(line.cancelled == line.quantity for line in self.lines)

    @property
    def is_withheld(self) -> bool:
        """Some units wait for another system's word on cancelling them."""
        return any(line.withheld for line in self.lines)

    @property
    def all_withheld(self) -> bool:
        """Every unit that was not cancelled does."""
        return self.is_withheld and all(line.cancelled + line.withheld == line.quantity for line in self.lines)

    @property
    def all_given_back(self) -> bool:
        """Every unit that shipped came back, and all money that is owed has arrived."""
        came_back = all(line.returned == line.shipped and line.refunded >= line.paid for line in self.lines)
        return came_back and self.refunded == self.refund_reserved and self.captured == self.capture_reserved

    # --- money ----------------------------------------------------------------------------------------------------

    @property
    def authorized(self) -> Decimal:
        return sum((p.authorized for p in self.payments), ZERO)

    @property
    def voided(self) -> Decimal:
        return sum((p.voided for p in self.payments), ZERO)

    @property
    def captured(self) -> Decimal:
        return sum((p.captured for p in self.payments), ZERO)

    @property
    def capture_reserved(self) -> Decimal:
        return sum((p.capture_reserved for p in self.payments), ZERO)

    @property
    def refunded(self) -> Decimal:
        return sum((p.refunded for p in self.payments), ZERO)

    @property
    def refund_reserved(self) -> Decimal:
        return sum((p.refund_reserved for p in self.payments), ZERO)

    @property
    def refundable(self) -> Decimal:
        return self.captured - self.refund_reserved

    @property
    def open_to_capture(self) -> Decimal:
        return self.authorized - self.capture_reserved - self.voided

    @property
    def due(self) -> Decimal:
        """What the units cost whose money has not been asked for."""
        currency = self.order.currency
        return sum((x.price_of_next(x.chargeable, after=x.charged, currency=currency) for x in self.lines), ZERO)

    @property
    def unapplied(self) -> Decimal:
        """Money that is here and covers no unit yet, such as a transfer of less than the total.

        Below zero by the cents that reinstated units' refunds had rounded up: they are due with the units.
        """
        currency = self.order.currency
        for_units = sum(
            (
                first_units(x.total, x.quantity, x.paid, currency)
                - first_units(x.total, x.quantity, x.refunded, currency)
                for x in self.lines
            ),
            ZERO,
        )
        return self.captured - self.refund_reserved - for_units - self.order.adjustment_total

    @property
    def spare(self) -> Decimal:
        """As `unapplied`, without what a charge under way is about to use: some of its captures may be here already."""
        currency = self.order.currency
        for_charged = sum(
            (
                first_units(x.total, x.quantity, x.charged, currency)
                - first_units(x.total, x.quantity, x.paid, currency)
                for x in self.lines
            ),
            ZERO,
        )
        return self.unapplied + self.capture_reserved - self.captured - for_charged

    @property
    def left_over(self) -> Decimal:
        """Money that is here beyond all that is due. None while a charge is under way, which may still need it."""
        return ZERO if self.capture_in_flight else max(ZERO, min(self.unapplied - self.due, self.refundable))

    @property
    def outstanding(self) -> Decimal:
        """What the customer still has to pay: due, less what is here already."""
        due = self.due
        return max(ZERO, due - self.unapplied) if due else ZERO

    @property
    def is_secured(self) -> bool:
        """Nothing stands in the way of preparing: the money is here, authorized, or due on delivery."""
        if not any(line.live for line in self.lines):
            return False
        return self.order.pays_on_delivery or self.outstanding <= self.open_to_capture

    @property
    def capture_in_flight(self) -> bool:
        return any(line.charged > line.paid for line in self.lines)
