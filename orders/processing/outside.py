"""What customers' banks and other people do with an order's money: refunds made at the gateway itself, disputes."""

from __future__ import annotations

from django.utils.translation import gettext as _

from orders.models import Hold, JournalEntry, PaymentEvent
from orders.processing.decision import Decision
from orders.processing.documents import Documenting
from payments.models import Dispute, Origin, Transaction
from shop.money import ZERO, shown


class OutsideMoney(Documenting):
    def dispute_changed(self, *, dispute_id: int) -> None:
        """This will keep a disputed order where it is, and let it go on when the shop has won.

        What was lost arrives as a chargeback (`payment_changed`); the hold stays until a person releases it. Called by
        a worker for every stage of a dispute; a repetition changes nothing.
        """
        dispute = Dispute.objects.select_related("payment").get(pk=dispute_id)
        with self.decide(dispute.payment.reference, "dispute_changed") as d:
            d.only_if_changed = True
            placed = self._hold_of_dispute(d, dispute)
            if placed is None and (dispute.is_open or dispute.status == Dispute.Status.LOST):
                self._hold_for_dispute(d, dispute)
            elif placed is not None and dispute.status == Dispute.Status.WON:
                self._release_after_dispute(d, dispute, placed)

    def _hold_of_dispute(self, d: Decision, dispute: Dispute) -> int | None:
        """The hold that the dispute has placed, whether or not it has been released since; the journal knows it."""
        entries = JournalEntry.objects.filter(order=d.order, verb="dispute_changed").order_by("sequence")
        for details in entries.values_list("details", flat=True):
            if details.get("dispute") == dispute.pk and "hold" in details:
                return int(details["hold"]["id"])
        return None

    def _hold_for_dispute(self, d: Decision, dispute: Dispute) -> None:
        words = _("Dispute %(reference)s over %(amount)s: %(reason)s") % {
            "reference": dispute.gateway_reference,
            "amount": shown(dispute.amount, dispute.currency),
            "reason": dispute.reason.replace("_", " ") or "–",
        }
        hold = Hold(order=d.order, kind=Hold.Kind.DISPUTE, reason=words, placed_by=self.actor.name, placed_at=d.as_of)
        hold.save()
        d.facts.holds.append(hold)
        self._record_dispute(d, dispute, hold)

    def _release_after_dispute(self, d: Decision, dispute: Dispute, hold_id: int) -> None:
        hold = next((hold for hold in d.facts.holds if hold.pk == hold_id), None)
        if hold is None:
            return  # a person was faster
        hold.released_at, hold.released_by = d.as_of, self.actor.name
        hold.release_note = _("The dispute was won.")
        hold.save(update_fields=["released_at", "released_by", "release_note"])
        d.facts.holds.remove(hold)
        self._record_dispute(d, dispute, hold)

    def _record_dispute(self, d: Decision, dispute: Dispute, hold: Hold) -> None:
        d.only_if_changed = False
        d.details["hold"] = {"id": hold.pk, "kind": hold.kind}
        d.details["dispute"] = dispute.pk
        d.note = str(dispute)

    def book_outside_void(self, d: Decision, transaction: Transaction) -> None:
        """Write down what was let go at the gateway itself, once; it may be by itself, when a hold has lapsed.

        Where nothing has been taken yet and the goods are still wanted, the order waits for a person: nothing secures
        it any more. Where a part was taken, what is paid for may leave, and the rest cannot.
        """
        cause = f"let go:{transaction.pk}"
        if PaymentEvent.objects.filter(cause=cause).exists():
            return
        words = _("Let go at the gateway itself")
        d.payment_event("voided", transaction.amount, transactions=[transaction], cause=cause, note=words)
        live = any(line.live for line in d.facts.lines)
        if live and d.facts.due and not d.facts.captured and not d.facts.is_secured:
            words = _("The authorisation of %(amount)s was let go at the gateway: ask the customer to pay again.") % {
                "amount": shown(transaction.amount, d.order.currency)
            }
            hold = Hold(
                order=d.order, kind=Hold.Kind.PAYMENT, reason=words, placed_by=self.actor.name, placed_at=d.as_of
            )
            hold.save()
            d.facts.holds.append(hold)

    def book_outside_refund(self, d: Decision, transaction: Transaction) -> None:
        """Write down money that went back without this desk, once. It covers no unit.

        As with a refund of goodwill, money that covers no unit yet goes first; the rest was given on top. Payments has
        booked it already, so what is free was that much more before.
        """
        refund = transaction.refund
        if refund is None or refund.origin == Origin.DESK or PaymentEvent.objects.filter(refund=refund).exists():
            return
        free = min(refund.amount, max(ZERO, d.facts.spare + refund.amount))
        d.payment_event(
            "refunded",
            refund.amount,
            unapplied=free,
            refund=refund,
            transactions=[transaction],
            cause=f"outside:{refund.pk}",
            note=refund.reason,
        )
        if free != refund.amount:
            d.change(adjustment_total=d.order.adjustment_total + free - refund.amount)
