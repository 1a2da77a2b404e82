"""Send an order elsewhere: at once, with a person's approval, or when the order management system has agreed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from orders import rules
from orders.gateways import ABSENT, ACCEPTED, DONE, REFUSED, UNKNOWN, Reply, get_order_management
from orders.models import AddressChange, ExternalCall, Order, OrderAddress, ShippingEvent
from orders.processing.calls import S, status_of_report
from orders.processing.decision import Decision
from orders.processing.deskwork import Deskwork, same_address, set_address
from orders.processing.external import External
from shop.errors import Invalid

CHANGED, WAITS = 200, 202
C = AddressChange.Status


class AddressDecided(rules.WrongStatus):
    code = "address_decided"
    message = gettext_lazy("This address change has been answered already.")


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """What became of a wish: 200 changed, 202 it waits; or a call whose answer is awaited."""

    status: int
    call: ExternalCall | None = None


class Readdressing(External, Deskwork):
    def ask_address(
        self, *, number: str, address: OrderAddress, shipping: bool = True, billing: bool = False
    ) -> AddressAnswer:
        """This will do a customer's wish to have an order sent or billed elsewhere, or write it down for a person.

        address  an unsaved row. The same wish again changes nothing and gets the same answer.
        Locks the order. Raises AddressFixed once anything has shipped.
        """
        with self.decide(number, "change_address") as d:
            d.require(rules.change_address(d.facts, self.actor) or self.why_not("change-address", d.facts))
            if not (shipping or billing):
                raise Invalid(_("Choose which address to change."), code="no_address_type", field="order_address_types")
            waits = open_change(d.order)
            if waits is not None and _is_same(waits, address, shipping=shipping, billing=billing):
                d.only_if_changed = True
                return AddressAnswer(WAITS, waits.calls.order_by("pk").last())
            if waits is None and _is_there(d.order, address, shipping=shipping, billing=billing):
                d.only_if_changed = True
                return AddressAnswer(CHANGED)
            if waits is not None:
                self._end(d, waits, C.SUPERSEDED, note=_("The customer wants another one."))
            # The order's own status, or the one whose rules hold in it.
            needs_approval = not {d.order.status, d.order.stage}.isdisjoint(settings.ADDRESS_CHANGE_APPROVAL_STATUSES)
            if needs_approval or get_order_management().is_outside:
                return self._write_change(d, address, needs_approval, shipping=shipping, billing=billing)
            super().change_address(number=number, address=address, shipping=shipping, billing=billing)
            return AddressAnswer(CHANGED)

    def _write_change(
        self, d: Decision, address: OrderAddress, needs_approval: bool, *, shipping: bool, billing: bool
    ) -> AddressAnswer:
        d.verb = "ask_address"
        address.save(force_insert=True)
        change = AddressChange(
            order=d.order,
            address=address,
            shipping=shipping,
            billing=billing,
            status=C.WAITING if needs_approval else C.ASKED,
            **self.asked_by(d),
        )
        change.save(force_insert=True)
        d.change(readdress_at=d.as_of)
        d.details["address_change"] = {"id": change.pk, "status": change.status}
        if needs_approval:
            d.tell("address_change_requested", cause=f"address_change:{change.pk}")
            return AddressAnswer(WAITS)
        return AddressAnswer(WAITS, self._write_address_call(d, change=change))

    def _write_address_call(
        self,
        d: Decision,
        *,
        change: AddressChange | None = None,
        address: OrderAddress | None = None,
        shipping: bool = False,
        billing: bool = False,
    ) -> ExternalCall:
        """change: a customer's wish, asked first; else what was decided here, reported afterwards."""
        origin = ExternalCall.Origin.DESK if change is None else ExternalCall.Origin.CUSTOMER
        call = ExternalCall(
            order=d.order,
            kind=ExternalCall.Kind.ADDRESS,
            origin=origin,
            address=address if change is None else change.address,
            shipping=shipping if change is None else change.shipping,
            billing=billing if change is None else change.billing,
            change=change,
            **self.asked_by(d),
        )
        call.save(force_insert=True)
        self.promise_call(d, call, wait=change is not None)
        return call

    def change_address(
        self,
        *,
        number: str,
        address: OrderAddress,
        shipping: bool = True,
        billing: bool = False,
        version: int | None = None,
    ) -> None:
        with self.decide(number, "change_address", version=version) as d:
            super().change_address(number=number, address=address, shipping=shipping, billing=billing)
            if address._state.adding:
                return  # it was so already
            if (waits := open_change(d.order)) is not None:
                self._end(d, waits, C.SUPERSEDED, note=_("Changed by %(who)s.") % {"who": self.actor.name})
            if get_order_management().is_outside:
                self._write_address_call(d, address=address, shipping=shipping, billing=billing)

    # --- a person's answer ----------------------------------------------------------------------------------------

    def decide_address(self, *, change_id: int, approve: bool, note: str = "", version: int | None = None) -> None:
        """This will answer a customer's wish for another address; the customer is told.

        Raises Refused (answered already, too late, rejected without a note).
        """
        found = AddressChange.objects.select_related("order").filter(pk=change_id).first()
        if found is None or not Order.objects.of(self.actor).filter(pk=found.order_id).exists():
            raise AddressDecided(_("There is no such address change."), code="not_found", http_status=404)
        verb = "change_address" if approve else "reject_address"
        with self.decide(found.order.number or "", verb, version=version, note=note) as d:
            d.require(rules.permitted(d.facts, self.actor, "orders.readdress_order"))
            change = AddressChange.objects.select_for_update(no_key=True).select_related("address").get(pk=change_id)
            if change.status != C.WAITING:
                raise AddressDecided
            if not approve:
                if not note.strip():
                    raise Invalid(_("Tell the customer why."), code="note_needed", field="note")
                self._end(d, change, C.REJECTED, note=note)
                return
            d.require(rules.change_address(d.facts, self.actor) or self.why_not("change-address", d.facts))
            self._apply(d, change, by=self.actor.name, note=note)
            if get_order_management().is_outside:
                self._write_address_call(d, address=change.address, shipping=change.shipping, billing=change.billing)

    def _apply(self, d: Decision, change: AddressChange, *, by: str, note: str = "") -> None:
        d.change(readdress_at=None)
        set_address(d, change.address, shipping=change.shipping, billing=change.billing)
        self._write_end(d, change, C.DONE, by=by, note=note)

    def _end(self, d: Decision, change: AddressChange, status: str, *, note: str, by: str = "") -> None:
        """A wish that is not done; whoever has replaced it knows, everybody else is told."""
        d.change(readdress_at=None)
        self._write_end(d, change, status, by=by or self.actor.name, note=note)
        if status != C.SUPERSEDED:
            d.tell("address_change_rejected", cause=f"address_change:{change.pk}", reason=note)

    def _write_end(self, d: Decision, change: AddressChange, status: str, *, by: str, note: str) -> None:
        change.status, change.decided_at, change.decided_by, change.decision_note = status, d.as_of, by[:200], note
        change.save(update_fields=["status", "decided_at", "decided_by", "decision_note"])
        d.details["address_change"] = {"id": change.pk, "status": status}

    # --- the other system's answer --------------------------------------------------------------------------------

    def hear_address(self, d: Decision, row: ExternalCall, reply: Reply) -> None:
        if row.origin == ExternalCall.Origin.DESK:
            row.status = status_of_report(row.status, reply)
            return
        assert row.change_id is not None
        change = AddressChange.objects.select_for_update(no_key=True).select_related("address").get(pk=row.change_id)
        before, state, by = row.status, reply.state, str(_("Order management system"))
        if state == DONE and before not in {S.DONE, S.DISPUTED}:
            row.status = S.DONE
            if change.is_open:
                d.verb = "change_address"
                self._apply(d, change, by=by)
            elif change.status in {C.REJECTED, C.OVERTAKEN}:
                self.tell_inbox(d, row, _("They have changed the address, which the desk did not do or was too late."))
        elif before in ExternalCall.HOLDING and state == ACCEPTED:
            row.status = S.ACCEPTED
        elif before in ExternalCall.HOLDING and state == REFUSED:
            row.status = S.REFUSED
            if change.is_open:
                words = reply.words or in_words(d.order, gettext_noop("It is no longer possible."))
                self._end(d, change, C.REJECTED, note=words, by=by)
        elif before == S.ASKED or (before == S.ACCEPTED and state == ABSENT):
            row.status = S.UNKNOWN if state == UNKNOWN else S.FAILED
            if change.status == C.ASKED:
                change.status = C.WAITING
                change.save(update_fields=["status"])
                d.details["address_change"] = {"id": change.pk, "status": change.status}
                d.tell("address_change_requested", cause=f"address_change:{change.pk}")
        elif before == S.UNKNOWN and state in {REFUSED, ABSENT}:
            row.status = S.REFUSED if state == REFUSED else S.FAILED
        elif before == S.DONE and state in {REFUSED, ABSENT}:
            self.dispute(d, row, _("They said that the address was changed, and now that it is not."))

    # --- events that come first -----------------------------------------------------------------------------------

    def _answer_requests(self, d: Decision, event: ShippingEvent, units: Mapping[int, int]) -> None:
        super()._answer_requests(d, event, units)
        if d.order.readdress_at is None or not (event.event_type.code == "shipped" or d.facts.nothing_left):
            return
        if (waits := open_change(d.order)) is not None:
            shipped = event.event_type.code == "shipped"
            left, ended = gettext_noop("It has left already."), gettext_noop("The order has been cancelled.")
            self._end(d, waits, C.OVERTAKEN, note=in_words(d.order, left if shipped else ended))


def open_change(order: Order) -> AddressChange | None:
    """The wish of an order that waits for an answer, locked with it; no query where none does."""
    if order.readdress_at is None:
        return None
    rows = AddressChange.objects.filter(order=order, status__in=AddressChange.OPEN).select_related("address")
    return rows.first()


def in_words(order: Order, words: str) -> str:
    """Words of the desk in the customer's language, whoever it was that acted."""
    with translation.override(order.language):
        return _(words)


def http_status_of(call: ExternalCall) -> int:
    """What the customer is told: the other system's own answer, or that a person decides."""
    return call.http_status or WAITS if call.status in {S.DONE, S.ACCEPTED, S.REFUSED} else WAITS


def _is_same(change: AddressChange, address: OrderAddress, *, shipping: bool, billing: bool) -> bool:
    kinds = (change.shipping, change.billing) == (shipping, billing)
    return kinds and same_address(change.address, address)


def _is_there(order: Order, address: OrderAddress, *, shipping: bool, billing: bool) -> bool:
    now = [order.shipping_address] * shipping + [order.billing_address] * billing
    return all(old is not None and same_address(old, address) for old in now)
