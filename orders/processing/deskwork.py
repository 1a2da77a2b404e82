"""Notes, holds and addresses: what staff keep straight beside goods and money."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from orders import rules
from orders.models import Hold, OrderAddress, OrderNote
from orders.processing.base import HandlerBase
from orders.processing.decision import Decision
from shop.errors import Invalid


class NoteFixed(rules.WrongStatus):
    code = "note_fixed"
    message = _("A note can be corrected for five minutes by its author; write a new one.")


class Deskwork(HandlerBase):
    def write_note(self, *, number: str, message: str, note_type: str = OrderNote.Type.INFO) -> OrderNote:
        """This will write a note on an order. Raises Refused."""
        if not message.strip():
            raise Invalid(_("Write something."), code="empty_note", field="message")
        with self.decide(number, "write_note") as d:
            d.require(rules.write_note(d.facts, self.actor))
            note = OrderNote(
                order=d.order,
                user=self.user,
                author=self.actor.name,
                note_type=note_type,
                message=message.strip(),
                created_at=d.as_of,
                updated_at=d.as_of,
            )
            note.save()
            d.details["note"] = note.pk
        return note

    def correct_note(self, *, note_id: int, message: str) -> OrderNote:
        """This will correct one's own note within five minutes of writing it. Raises Refused."""
        if not message.strip():
            raise Invalid(_("Write something."), code="empty_note", field="message")
        found = OrderNote.objects.select_related("order").filter(pk=note_id).first()
        if found is None or found.order.number is None:
            raise Invalid(_("There is no such note."), code="not_found", http_status=404)
        with self.decide(found.order.number, "write_note") as d:
            d.require(rules.write_note(d.facts, self.actor))
            note = OrderNote.objects.select_for_update(no_key=True).get(pk=note_id)
            if note.user_id != self.actor.user_id or not note.is_editable(as_of=d.as_of):
                raise NoteFixed
            d.details["note"] = {"id": note.pk, "before": note.message}
            note.message, note.updated_at = message.strip(), d.as_of
            note.save(update_fields=["message", "updated_at"])
        return note

    def place_hold(self, *, number: str, kind: str, reason: str = "", version: int | None = None) -> Hold:
        """This will keep an order where it is until the hold is released. Raises Refused."""
        if kind not in Hold.Kind.values:
            raise Invalid(_("Choose one of: %(kinds)s.") % {"kinds": ", ".join(Hold.Kind.values)}, field="kind")
        with self.decide(number, "place_hold", version=version, note=reason) as d:
            d.require(rules.place_hold(d.facts, self.actor) or self.why_not("hold", d.facts))
            hold = Hold(order=d.order, kind=kind, reason=reason, placed_by=self.actor.name, placed_at=d.as_of)
            hold.save()
            d.facts.holds.append(hold)
            d.details["hold"] = {"id": hold.pk, "kind": kind}
        return hold

    def release_hold(self, *, number: str, hold_id: int, note: str = "", version: int | None = None) -> Hold:
        """This will release one hold of an order; it goes on by itself where nothing else holds it. Raises Refused."""
        with self.decide(number, "release_hold", version=version, note=note) as d:
            d.require(rules.release_hold(d.facts, self.actor) or self.why_not("release-hold", d.facts))
            hold = next((hold for hold in d.facts.holds if hold.pk == hold_id), None)
            if hold is None:
                raise rules.NothingToDo(_("This hold has been released."))
            hold.released_at, hold.released_by, hold.release_note = d.as_of, self.actor.name, note
            hold.save(update_fields=["released_at", "released_by", "release_note"])
            d.facts.holds.remove(hold)
            d.details["hold"] = {"id": hold.pk, "kind": hold.kind}
        return hold

    def change_address(
        self,
        *,
        number: str,
        address: OrderAddress,
        shipping: bool = True,
        billing: bool = False,
        version: int | None = None,
    ) -> None:
        """This will send an order elsewhere, or bill it to another address; both addresses stay on record.

        address  an unsaved row. The same address again changes nothing. Raises AddressFixed once anything has shipped.
        """
        with self.decide(number, "change_address", version=version) as d:
            d.require(rules.change_address(d.facts, self.actor) or self.why_not("change-address", d.facts))
            wanted = {"shipping_address": shipping, "billing_address": billing}
            before = {name: getattr(d.order, name) for name, yes in wanted.items() if yes}
            if not before:
                raise Invalid(_("Choose which address to change."), code="no_address_type", field="order_address_types")
            if all(old is not None and same_address(old, address) for old in before.values()):
                d.only_if_changed = True
                return
            address.save(force_insert=True)
            set_address(d, address, shipping=shipping, billing=billing)


def set_address(d: Decision, address: OrderAddress, *, shipping: bool, billing: bool) -> None:
    """Point an order at an address that is saved, and tell the customer where it goes."""
    names = [name for name, yes in (("shipping_address", shipping), ("billing_address", billing)) if yes]
    before = {name: getattr(d.order, f"{name}_id") for name in names}
    d.change(**dict.fromkeys(names, address))
    if shipping:
        d.tell("address_changed", cause=f"address:{address.pk}")
    d.details["addresses"] = {name: {"before": old, "after": address.pk} for name, old in before.items()}


def same_address(one: OrderAddress, other: OrderAddress) -> bool:
    """Whether two addresses are the same in every field but their ids."""
    return all(getattr(one, name) == getattr(other, name) for name in OrderAddress.FIELDS)
