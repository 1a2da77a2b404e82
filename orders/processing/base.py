"""The frame of every verb: who asks, one transaction, one lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from orders.models import CancellationReason, Facts
from orders.processing.decision import Decision
from shop import maintenance
from shop.actors import Actor
from shop.errors import Invalid, Refused
from shop.models import User
from shop.together import atomic


class UnknownReason(Invalid):
    code = "unknown_reason"
    message = _("“%(code)s” is not a reason to choose from.")


class NoteNeeded(Invalid):
    code = "note_needed"
    message = _("This reason needs a note.")


class CauseReused(Refused):
    code = "cause_reused"
    message = _("“%(cause)s” has caused something else already; it cannot cause this.")


# Buttons that are other actions under the lock.
MADE_OF = {"hand-over": ("ship", "deliver"), "record-surplus": ("record-payment",)}
# What people may do while the desk is under maintenance: leave word.
DURING_MAINTENANCE = frozenset({"queue_cancellation", "write_note"})


class HandlerBase:
    """Keeps who asks and, while a verb runs, its decision. A handler serves one request; it is not shared."""

    def __init__(
        self, user: User | None = None, *, actor: Actor | None = None, as_of: datetime | None = None, **kwargs: Any
    ) -> None:
        """user: as in Oscar, whose actor is then staff or customer. as_of: the time at the door; default now."""
        self.actor = actor or Actor.of_user(user)
        self.user = self.actor.user
        self.as_of = as_of or timezone.now()
        self.kwargs = kwargs
        self._decision: Decision | None = None
        self._may_go_on = False

    @contextmanager
    def decide(self, number: str, verb: str, *, version: int | None = None, note: str = "") -> Iterator[Decision]:
        """Lock the order, decide, write. Inside a decision on the same order it joins that one: one lock, one entry.

        Raises OrderNotFound, OrderChanged, UnderMaintenance, and whatever is raised inside; then nothing has happened.
        """
        if self._decision is not None and self._decision.order.number == number:
            yield self._decision
            return
        if verb not in DURING_MAINTENANCE:
            self._check_maintenance()
        with atomic():
            outer, self._decision = self._decision, None
            decision = Decision(number=number, actor=self.actor, verb=verb, as_of=self.as_of, version=version)
            decision.note = note
            self._decision = decision
            try:
                yield decision
                decision.finish()
            finally:
                self._decision = outer

    def why_not(self, action: str, facts: Facts) -> Refused | None:
        """A shop's own reason against an action, or None: override it. Asked under the lock, and for what is offered.

        action  its name as in the addresses of the desk and the API's list: "ship", "take-back", "check-quality" …
        facts   the order (`facts.order`), its lines, payments and holds, perhaps unlocked

        The button is disabled with the reason, the API's list tells it, and the verb is refused by it: so it is to look
        at the facts and `self.actor` only. It is asked for each row of the list of orders: no queries.
        """
        return None

    def shops_refusal(self, action: str, facts: Facts) -> Refused | None:
        """The shop's reason against what a button offers, where that is several verbs against any of them."""
        said = (self.why_not(one, facts) for one in MADE_OF.get(action, (action,)))
        return next((no for no in said if no is not None), None)

    def _check_maintenance(self) -> None:
        """The system goes on under maintenance; people wait. Asked once: a handler serves one request."""
        if self._may_go_on or self.actor.is_system:
            return
        if (period := maintenance.current()) is not None:
            raise maintenance.UnderMaintenance(period)
        self._may_go_on = True

    def reason_of(self, reason: str | int | CancellationReason | None, *, note: str = "") -> CancellationReason | None:
        """A reason by code, id or itself. Raises UnknownReason, NoteNeeded."""
        if reason is None or isinstance(reason, CancellationReason):
            return reason
        text = str(reason)
        # No id is longer, and not all that Unicode calls a digit is one to a database.
        is_id = isinstance(reason, int) or (text.isascii() and text.isdigit() and len(text) <= 18)
        lookup = {"pk": int(reason)} if is_id else {"code": reason}
        found = CancellationReason.objects.filter(is_active=True, **lookup).first()
        if found is None or (self.actor.is_customer and not found.shown_to_customers):
            raise UnknownReason(params={"code": reason}, field="reason")
        if found.needs_note and not note.strip() and not self.actor.is_customer:
            raise NoteNeeded(field="note")
        return found
