"""Take, record and give back money: the verbs that ask gateways, and what follows from their answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import CaptureMode, Hold, PaymentEvent, ShippingEvent
from orders.processing.base import CauseReused
from orders.processing.decision import Decision
from orders.processing.documents import Documenting
from payments import services as payments
from payments.models import Refund, Transaction
from shop.money import ZERO, rounded, shown
from shop.together import update

# No one transfer is larger, and no column holds more.
LARGEST = Decimal("999999999999")
PAYMENT_CHANGED = "orders.payment_changed"


class BadAmount(rules.InvalidPaymentEvent):
    code = "bad_amount"
    http_status = 400
    message = _("Enter an amount greater than zero.")


class Money(Documenting):
    def take_payment(
        self, *, number: str, lines: rules.Lines | None = None, version: int | None = None, note: str = ""
    ) -> PaymentEvent:
        """This will capture the money for units (None: for all that is due) of what is authorized.

        The gateway is asked by a worker; the units count as paid when it has said yes. Raises Refused.
        """
        with self.decide(number, "take_payment", version=version, note=note) as d:
            d.require(rules.take_payment(d.facts, self.actor))
            return self.charge(d, rules.plan_payment(d.facts, lines))

    def charge(self, d: Decision, plan: rules.Plan) -> PaymentEvent:
        """Ask for the money of a plan; where money that is here already covers it, the units are paid at once."""
        costs = {line.line_id: (line.units, line.value) for line in plan.lines}
        asked = sum((part.amount for part in plan.captures), ZERO)
        event = d.payment_event("charged", asked, costs)
        for line_id, (units, _cost) in costs.items():
            d.bump(line_id, "charged", units)
        if asked:
            transactions = payments.request_capture(reference=d.number, amount=asked, cause=f"capture:{event.pk}")
            d.connect(event, transactions)
            self._reload_payments(d)
        else:
            self._units_are_paid(d, event, costs)
        return event

    def record_payment(
        self,
        *,
        number: str,
        amount: Decimal,
        note: str = "",
        reference: str = "",
        surplus: bool = False,
        version: int | None = None,
    ) -> PaymentEvent:
        """This will record money that arrived outside any gateway: a bank transfer, cash on delivery.

        amount   in the order's currency. Less than what is outstanding covers no unit until the rest has come.
        surplus  more than what is outstanding arrived, or anything for an order that has ended: it is put on record,
                 and what is too much goes back. Locks the order, then its payments. Raises Refused.
        """
        with self.decide(number, "record_payment", version=version, note=note) as d:
            d.require(rules.record_payment(d.facts, self.actor, surplus=surplus))
            most = LARGEST if surplus else d.facts.outstanding
            amount = self._amount(d, amount, at_most=most, words=_("Only %(max)s is outstanding."))
            event = d.payment_event("received", amount, reference=reference, note=note)
            self._make_room(d, amount)
            receipt = payments.record_receipt(
                reference=d.number,
                amount=amount,
                cause=f"receipt:{event.pk}",
                note=note,
                actor_name=self.actor.name,
            )
            d.connect(event, [receipt])
            self._reload_payments(d)
            at_placement = d.order.capture_mode == CaptureMode.AT_PLACEMENT and d.facts.is_secured
            if d.facts.due and (not d.facts.outstanding or at_placement):
                self.charge(d, rules.plan_payment(d.facts, None))
            # Undone, the order would need it; completed, it goes back with the rest.
            waits = d.order.undo_until is not None and not any(line.live for line in d.facts.lines)
            if surplus and not waits and not d.facts.due and d.facts.unapplied > 0:
                words = str(_("More arrived than was outstanding"))
                self.give_back(d, amount=d.facts.unapplied, unapplied=d.facts.unapplied, reason=words)
        return event

    def _make_room(self, d: Decision, amount: Decimal) -> None:
        """Open a payment by hand for money that no payment of the order was opened for."""
        by_hand = [p for p in d.facts.payments if not payments.takes_money_online(gateway=p.gateway)]
        if any(p.amount - p.authorized >= amount for p in by_hand):
            return
        payment = payments.open_payment(
            reference=d.number,
            store_id=d.order.store_id,
            gateway="manual",
            currency=d.order.currency,
            amount=amount,
            on_change=PAYMENT_CHANGED,
        )
        d.details.setdefault("payments", {})[str(payment.pk)] = f"{amount:.3f}"
        d.facts.payments.append(payment)

    def refund(
        self,
        *,
        number: str,
        amount: Decimal,
        note: str,
        cause: str | None = None,
        version: int | None = None,
    ) -> PaymentEvent:
        """This will send money back that is tied to no unit: goodwill, an overcharge, a fee.

        amount  in the order's currency, at most what was captured and not sent back yet; over its payments, newest
                first. It is given on top: units cancelled later are refunded in full, as far as money is left.
                Money that covers no unit yet goes back first.
        cause   a second call with the same cause returns the first one's event. Raises Refused.
        """
        with self.decide(number, "refund", version=version, note=note) as d:
            if cause and (before := PaymentEvent.objects.select_related("event_type").filter(cause=cause).first()):
                if before.order_id != d.order.pk or before.event_type.code != "refunded":
                    raise CauseReused(params={"cause": cause})
                d.only_if_changed = True
                return before
            d.require(rules.refund(d.facts, self.actor))
            amount = self._amount(d, amount, at_most=d.facts.refundable, words=_("Only %(max)s can be refunded."))
            free = min(amount, max(ZERO, d.facts.unapplied))
            return self.give_back(d, amount=amount, unapplied=free, reason=note, cause=cause)

    def _amount(self, d: Decision, amount: Any, *, at_most: Decimal, words: Any) -> Decimal:
        currency = d.order.currency
        if not isinstance(amount, Decimal) or not amount.is_finite() or amount <= 0:
            raise BadAmount(field="amount")
        if amount != rounded(amount, currency):
            raise BadAmount(_("%(currency)s has no amounts this small.") % {"currency": currency}, field="amount")
        if amount > at_most:
            raise BadAmount(words, params={"max": shown(at_most, currency)}, code="amount_too_large", field="amount")
        return amount

    # --- giving back ----------------------------------------------------------------------------------------------

    def give_back(
        self,
        d: Decision,
        *,
        amount: Decimal,
        units: dict[int, tuple[int, Decimal]] | None = None,
        unapplied: Decimal = ZERO,
        shipping_event: ShippingEvent | None = None,
        reason: str = "",
        cause: str | None = None,
    ) -> PaymentEvent:
        """Send `amount` back, in exchange for units (line id → units, value) and for money that covered none.

        What the units are worth beyond the amount is kept and stands on the event. Several payments: newest first.
        """
        value = sum((cost for _units, cost in (units or {}).values()), ZERO)
        kept = value + unapplied - amount
        event = d.payment_event(
            "refunded",
            amount,
            units,
            deduction=max(ZERO, kept),
            unapplied=unapplied,
            shipping_event=shipping_event,
            note=reason,
            cause=cause or (f"refund:{shipping_event.pk}" if shipping_event else None),
        )
        for line_id, (count, _cost) in (units or {}).items():
            d.bump(line_id, "refunded", count)
        if kept:
            d.change(adjustment_total=d.order.adjustment_total + kept)
        if amount:
            refund = payments.request_refund(
                reference=d.number, amount=amount, cause=f"order:{event.pk}", reason=reason
            )
            # The event was written a moment ago, in this transaction; this completes it.
            event.refund = refund
            update([event], ["refund"])
            d.connect(event, payments.transactions_of(refund=refund))
            self._reload_payments(d)
        return event

    def settle_excess(
        self, d: Decision, *, shipping_event: ShippingEvent | None = None, reason: str = "", keep: bool = False
    ) -> Decimal:
        """Give back what is paid for units that are no longer the customer's, and release what is no longer needed.

        keep  the money stays on purpose, and the books say so. Returns the amount that goes back.
        """
        if d.order.undo_until is not None:
            return ZERO  # a cancellation can still be undone; what follows from it waits, and this with it
        units = {
            line.pk: (line.overpaid, line.price_of_next(line.overpaid, after=line.refunded, currency=d.order.currency))
            for line in d.facts.lines
            if line.overpaid
        }
        live = any(line.live for line in d.facts.lines)
        unapplied = ZERO if live else d.facts.unapplied
        owed = sum((cost for _n, cost in units.values()), ZERO) + unapplied
        amount = ZERO if keep else max(ZERO, min(owed, d.facts.refundable))
        if units or unapplied:
            self.give_back(
                d, amount=amount, units=units, unapplied=unapplied, shipping_event=shipping_event, reason=reason
            )
        if d.facts.releasable:
            self.release_authorization(d)
        return amount

    def release_authorization(self, d: Decision) -> None:
        """Void what is authorized and will not be captured."""
        amount = d.facts.open_to_capture
        transactions = payments.request_void(reference=d.number, cause=f"void:{d.order.pk}:{d.order.version}")
        if transactions:
            d.payment_event("voided", amount, transactions=transactions)
            self._reload_payments(d)

    # --- the gateway's answers ------------------------------------------------------------------------------------

    def payment_changed(self, *, transaction_id: int) -> None:
        """This will draw the conclusions from a transaction that ended: units are paid, orders go on, money goes back.

        Called by a worker for every transaction that reached a final state; a repetition changes nothing.
        """
        transaction = Transaction.objects.select_related("payment", "refund").get(pk=transaction_id)
        if not transaction.is_final:
            return
        with self.decide(transaction.payment.reference, "payment_changed") as d:
            d.only_if_changed = True
            d.details["transaction"] = {"id": transaction.pk, "kind": transaction.kind, "status": transaction.status}
            succeeded = transaction.status == Transaction.Status.SUCCEEDED
            if transaction.kind == Transaction.Kind.AUTHORIZE:
                self._authorization_ended(d, transaction, succeeded)
            elif transaction.kind == Transaction.Kind.CAPTURE:
                self._capture_ended(d, transaction)
            elif transaction.kind == Transaction.Kind.REFUND:
                if succeeded:
                    self._refund_arrived(d, transaction)
                self.promise_refund_documents(d, transaction.refund)

    def _authorization_ended(self, d: Decision, transaction: Transaction, succeeded: bool) -> None:
        code = "authorized" if succeeded else "declined"
        cause = f"{code}:{transaction.pk}"
        if PaymentEvent.objects.filter(cause=cause).exists():
            return
        d.payment_event(code, transaction.amount, transactions=[transaction], cause=cause, note=transaction.error)
        if not succeeded:
            d.tell("payment_failed", cause=cause, amount=transaction.amount)
            return
        if not any(line.live for line in d.facts.lines):
            self.settle_excess(d)
        elif d.order.capture_mode == CaptureMode.AT_PLACEMENT and d.facts.is_secured and d.facts.due:
            self.charge(d, rules.plan_payment(d.facts, None))

    def _capture_ended(self, d: Decision, transaction: Transaction) -> None:
        """All parts of a capture have ended: its units are paid, or are to be charged again."""
        asked = PaymentEvent.objects.filter(transactions=transaction, event_type__code="charged").first()
        if asked is None:
            return
        parts = list(asked.transactions.all())
        if any(part.status not in {Transaction.Status.SUCCEEDED, Transaction.Status.FAILED} for part in parts):
            return
        if PaymentEvent.objects.filter(cause__in=[f"paid:{asked.pk}", f"declined:{asked.pk}"]).exists():
            return
        costs = {q.line_id: (q.quantity, q.amount) for q in asked.line_quantities.all()}
        failed = [part for part in parts if part.status == Transaction.Status.FAILED]
        if not failed:
            self._units_are_paid(d, asked, costs)
            return
        for line_id, (units, _cost) in costs.items():
            d.bump(line_id, "charged", -units)
        words = "; ".join(part.error for part in failed if part.error)
        d.payment_event("declined", asked.amount, costs, transactions=failed, cause=f"declined:{asked.pk}", note=words)
        if d.facts.due and any(line.live for line in d.facts.lines):
            hold = Hold(
                order=d.order, kind=Hold.Kind.PAYMENT, reason=words, placed_by=self.actor.name, placed_at=d.as_of
            )
            hold.save()
            d.facts.holds.append(hold)
        else:
            self.settle_excess(d, reason=words)

    def _units_are_paid(self, d: Decision, asked: PaymentEvent, costs: dict[int, tuple[int, Decimal]]) -> None:
        amount = sum((cost for _units, cost in costs.values()), ZERO)
        d.payment_event("paid", amount, costs, transactions=list(asked.transactions.all()), cause=f"paid:{asked.pk}")
        for line_id, (units, _cost) in costs.items():
            d.bump(line_id, "paid", units)
        if not d.facts.due and any(line.live for line in d.facts.lines):
            d.tell("order_paid", cause="paid")
        # Units may have been cancelled while the capture was under way.
        self.settle_excess(d, reason=str(_("Cancelled while the payment was being taken")))

    def _refund_arrived(self, d: Decision, transaction: Transaction) -> None:
        refund = transaction.refund
        if refund is None or refund.status != Refund.Status.SUCCEEDED:
            return
        event = PaymentEvent.objects.filter(refund=refund).first()
        if event is not None:
            d.tell(
                "order_refunded",
                cause=f"refund:{refund.pk}",
                amount=rounded(refund.amount, refund.currency),
            )

    def _reload_payments(self, d: Decision) -> None:
        d.facts.payments[:] = payments.payments_of(reference=d.number)
