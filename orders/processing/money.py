"""Take, record and give back money: the verbs that ask gateways, and what follows from their answers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import (
    Cancellation,
    CancellationRequest,
    CaptureMode,
    Facts,
    Hold,
    Order,
    PaymentEvent,
    ShippingEvent,
)
from orders.processing.decision import Decision
from orders.processing.fulfilment import money_status
from orders.processing.letters import sent_to
from orders.processing.outside import OutsideMoney
from payments import services as payments
from payments.models import Origin, Refund, Transaction
from shop.errors import Refused
from shop.money import ZERO, rounded, shown
from shop.together import update

# No one transfer is larger, and no column holds more.
LARGEST = Decimal("999999999999")
PAYMENT_CHANGED = "orders.payment_changed"


class BadAmount(rules.InvalidPaymentEvent):
    code = "bad_amount"
    http_status = 400
    message = _("Enter an amount greater than zero.")


class Money(OutsideMoney):
    def take_payment(
        self, *, number: str, lines: rules.Lines | None = None, version: int | None = None, note: str = ""
    ) -> PaymentEvent:
        """This will capture the money for units (None: for all that is due) of what is authorized.

        The gateway is asked by a worker; the units count as paid when it has said yes. Raises Refused.
        """
        with self.decide(number, "take_payment", version=version, note=note) as d:
            d.require(rules.take_payment(d.facts, self.actor) or self.why_not("take-payment", d.facts))
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
            d.require(self.why_not("record-payment", d.facts))
            most = LARGEST if surplus else d.facts.outstanding
            amount = self._amount(d.facts, amount, at_most=most, words=_("Only %(max)s is outstanding."))
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
            # While a cancellation can be undone, the order may need it: whatever ends that gives it back.
            if surplus and d.order.undo_until is None:
                # What was left over before is money whose refund a person closed as failed: that is seen to.
                closed = payments.closed_refunds(references=[d.number])[d.number]
                over = d.facts.left_over - min(d.left_over, closed)
                if over > 0:
                    words = str(_("More arrived than was outstanding"))
                    self.give_back(d, amount=over, unapplied=over, reason=words)
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

    def _amount(self, facts: Facts, amount: Any, *, at_most: Decimal, words: Any) -> Decimal:
        currency = facts.order.currency
        if not isinstance(amount, Decimal) or not amount.is_finite() or amount <= 0:
            raise BadAmount(field="amount")
        if amount > at_most:  # asked first: what is far too large cannot even be rounded
            raise BadAmount(words, params={"max": shown(at_most, currency)}, code="amount_too_large", field="amount")
        if amount != rounded(amount, currency):
            raise BadAmount(_("%(currency)s has no amounts this small.") % {"currency": currency}, field="amount")
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
        kind: str = "",
        destination: payments.Destination | str = "",
        repriced: Decimal = ZERO,
    ) -> PaymentEvent:
        """Send `amount` back, in exchange for units (line id → units, value) and for money that covered none.

        What the units are worth beyond the amount is kept and stands on the event. Several payments: newest first.
        kind  what it is for where it is tied to no unit (RefundKind); destination: where it goes, if not as it came
        repriced  what of it is kept because what stays was priced anew; below zero, what had been kept goes back
        """
        to = payments.Destination.of(destination)
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
            refund_kind=kind,
            destination=to.gateway if amount else "",
        )
        for line_id, (count, _cost) in (units or {}).items():
            d.bump(line_id, "refunded", count)
        if kept:
            d.change(adjustment_total=d.order.adjustment_total + kept)
        if repriced:
            d.change(repriced_total=d.order.repriced_total + repriced)
        if amount:
            refund = payments.request_refund(
                reference=d.number,
                amount=amount,
                cause=f"order:{event.pk}",
                reason=reason,
                destination=to,
                owner_id=d.order.customer_id,
            )
            # The event was written a moment ago, in this transaction; this completes it.
            event.refund = refund
            update([event], ["refund"])
            d.connect(event, payments.transactions_of(refund=refund))
            self._reload_payments(d)
        return event

    def going_to(self, order: Order, destination: payments.Destination | str) -> payments.Destination:
        """A destination with everything said that it needs. Customers who ask for credit themselves consent to it.

        Raises DestinationNotOffered, NoAccount (guests have none), ConsentMissing, IbanInvalid, HolderMissing, and
        MoneyDisputed where the customer's bank asks it back.
        """
        to = payments.Destination.of(destination)
        if to and (no := rules.not_disputed(order.facts)) is not None:
            raise no
        if to and self.actor.is_customer and not to.consent:
            asked = {"name": self.actor.name, "at": f"{timezone.localtime(self.as_of):%Y-%m-%d %H:%M %Z}"}
            to = replace(to, consent=_now("%(name)s asked for it themselves, %(at)s") % asked)
        return payments.completed(to, owner_id=order.customer_id)

    def still_offered(self, order: Order, destination: payments.Destination) -> payments.Destination:
        """A destination that was agreed to earlier; the way it came, where the account to credit is gone since."""
        try:
            payments.require_offered(destination, owner_id=order.customer_id)
        except Refused:
            return payments.AS_PAID
        return destination

    def settle_excess(
        self,
        d: Decision,
        *,
        shipping_event: ShippingEvent | None = None,
        reason: str = "",
        keep: bool = False,
        deduction: Decimal = ZERO,
        repriced: Decimal = ZERO,
        destination: payments.Destination | str = "",
        freed: Decimal = ZERO,
    ) -> Decimal:
        """Give back what is paid for units that are no longer the customer's, and release what is no longer needed.

        keep       the money stays on purpose, and the books say so
        deduction  what of it is kept
        repriced   what is kept because what stays was priced anew; below zero, what had been kept goes back
        freed      money that covers no unit and that what stays does not need; where nothing stays, all of it does

        Returns the amount that goes back.
        """
        if d.order.undo_until is not None:
            return ZERO  # a cancellation can still be undone; what follows from it waits, and this with it
        units = {
            line.pk: (line.overpaid, line.price_of_next(line.overpaid, after=line.refunded, currency=d.order.currency))
            for line in d.facts.lines
            if line.overpaid
        }
        live = any(line.live for line in d.facts.lines)
        unapplied = freed if live else d.facts.unapplied
        owed = sum((cost for _n, cost in units.values()), ZERO) + unapplied
        amount = ZERO if keep else max(ZERO, min(owed - deduction - repriced, d.facts.refundable))
        if units or unapplied or amount:
            self.give_back(
                d,
                amount=amount,
                units=units,
                unapplied=unapplied,
                shipping_event=shipping_event,
                reason=reason,
                destination=destination,
                repriced=repriced,
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
        by_hand = transaction.refund is not None and transaction.status == Transaction.Status.NEEDS_PERSON
        if not transaction.is_final and not by_hand and transaction.origin == Origin.DESK:
            return
        with self.decide(transaction.payment.reference, "payment_changed") as d:
            d.only_if_changed = True
            d.details["transaction"] = {"id": transaction.pk, "kind": transaction.kind, "status": transaction.status}
            succeeded = transaction.status == Transaction.Status.SUCCEEDED
            if transaction.kind == Transaction.Kind.AUTHORIZE:
                self._authorization_ended(d, transaction, succeeded)
            elif transaction.kind == Transaction.Kind.CAPTURE and transaction.origin == Origin.OUTSIDE:
                self._captured_outside(d, transaction)
            elif transaction.kind == Transaction.Kind.CAPTURE:
                self._capture_ended(d, transaction)
            elif transaction.kind == Transaction.Kind.VOID and transaction.origin == Origin.OUTSIDE:
                self.book_outside_void(d, transaction)
            elif transaction.kind == Transaction.Kind.REFUND:
                self.book_outside_refund(d, transaction)
                if succeeded and transaction.origin != Origin.CHARGEBACK:
                    self._refund_arrived(d, transaction)
                self._requests_follow(d, transaction)
                if transaction.origin != Origin.CHARGEBACK:  # nobody credits the customer for it
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

    def _captured_outside(self, d: Decision, transaction: Transaction) -> None:
        """Somebody captured at the gateway itself: as with money that arrived, units are paid once it covers them.

        What was taken beyond all that is due goes back.
        """
        cause = f"captured:{transaction.pk}"
        if PaymentEvent.objects.filter(cause=cause).exists():
            return
        words = str(_("Captured at the gateway itself"))
        d.payment_event("received", transaction.amount, transactions=[transaction], cause=cause, note=words)
        if not any(line.live for line in d.facts.lines):
            self.settle_excess(d, reason=words)
            return
        if d.facts.capture_in_flight:
            return
        if d.facts.due and not d.facts.outstanding:
            self.charge(d, rules.plan_payment(d.facts, None))
        self.give_back_surplus(d)

    def give_back_surplus(self, d: Decision) -> None:
        """Give back what is here beyond all that is due, as soon as that is certain.

        While a capture is under way, or a cancellation can still be undone, it may be needed: whatever ends that asks
        again. What covers no unit of an order that has ended goes back with the rest (settle_excess).
        """
        facts = d.facts
        if not facts.left_over or d.order.undo_until is not None:
            return
        # Refunds that were closed as failed: a person has seen to that money.
        closed = payments.closed_refunds(references=[d.number])[d.number]
        over = min(facts.left_over, facts.unapplied - facts.due - closed)
        if over > 0 and any(line.live for line in facts.lines):
            self.give_back(d, amount=over, unapplied=over, reason=str(_("More was paid than was outstanding")))

    def _units_are_paid(self, d: Decision, asked: PaymentEvent, costs: dict[int, tuple[int, Decimal]]) -> None:
        amount = sum((cost for _units, cost in costs.values()), ZERO)
        d.payment_event("paid", amount, costs, transactions=list(asked.transactions.all()), cause=f"paid:{asked.pk}")
        for line_id, (units, _cost) in costs.items():
            d.bump(line_id, "paid", units)
        if not d.facts.due and any(line.live for line in d.facts.lines):
            d.tell("order_paid", cause="paid")
        # Units may have been cancelled while the capture was under way.
        words = str(_("Cancelled while the payment was being taken"))
        self.settle_excess(d, reason=words, destination=self._agreed_credit(d))
        self.give_back_surplus(d)

    def _agreed_credit(self, d: Decision) -> payments.Destination:
        """What the latest cancellation was agreed to be given as, where its money comes only now.

        With another one that was not, nobody can tell whose money it is: then it goes the way it came.
        """
        if not any(line.overpaid for line in d.facts.lines):
            return payments.AS_PAID
        rows = Cancellation.objects.filter(order=d.order, event__isnull=False, refund=True)
        done = list(rows.exclude(status=Cancellation.Status.UNDONE).order_by("-pk"))
        latest = done[0] if done and len({row.destination for row in done}) == 1 else None
        agreed = latest is not None and latest.consent and payments.is_credit(latest.destination)
        return self.still_offered(d.order, latest.goes_to) if latest is not None and agreed else payments.AS_PAID

    def _requests_follow(self, d: Decision, transaction: Transaction) -> None:
        """Customers' requests whose money this is: done with it, or waiting for a person as it does."""
        if transaction.refund is None:
            return
        rows = CancellationRequest.objects.select_for_update(no_key=True, of=("self",)).filter(
            line__payment_event_quantities__event__refund=transaction.refund,
            cancellation_type=CancellationRequest.Type.REFUND,
            status__in=CancellationRequest.AWAITING_MONEY,
        )
        requests = list(rows.order_by("pk"))
        now = money_status(requests) if requests else {}
        changed = [request for request in requests if request.status != now[request.pk]]
        for request in changed:
            request.status = now[request.pk]
        if changed:
            update(changed, ["status"])
            d.details.setdefault("events", [])  # something has changed: it belongs in the journal
            d.details["requests_answered"] = [request.pk for request in changed]

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
                **({"refund_destination": sent_to(d.order, refund)} if refund.destination else {}),
            )

    def _reload_payments(self, d: Decision) -> None:
        d.facts.payments[:] = payments.payments_of(reference=d.number)
