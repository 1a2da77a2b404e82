"""A plan as its page shows it: in words, with the messages as they will read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import services as notifications
from notifications.rules import EVENTS, event_of
from orders import rules
from orders.models import Disposition, DocumentKind, Facts
from orders.processing.letters import Letter, order_context
from payments.gateways import gateway_label
from payments.services import asks_for_bank, destination_shown
from shop.errors import Words
from shop.money import ZERO


def _sum(parts: tuple[rules.PlannedMoney, ...]) -> Decimal:
    return sum((part.amount for part in parts), ZERO)


@dataclass(frozen=True, slots=True)
class Part:
    """Money to or from one payment, with the payment's name."""

    label: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Reading:
    """A message as its recipient will read it."""

    label: Words
    recipient: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan as its page shows it. choice: what was chosen beside the units (refund, notify, …)."""

    plan: rules.Plan
    facts: Facts
    choice: Mapping[str, Any]
    letters: Sequence[Letter] = ()

    @property
    def readings(self) -> list[Reading]:
        """What the customer will read, rendered as it will be sent."""
        return [self._reading(letter) for letter in self.letters]

    def _reading(self, letter: Letter) -> Reading:
        order = self.facts.order
        context = order_context(order, self.facts, units=self.plan.units, **letter.extra)
        override = notifications.override_of(event=letter.event, language=order.language)
        made = notifications.render(event=letter.event, language=order.language, context=context, override=override)
        return Reading(event_of(letter.event).label, order.email, made.subject, made.text)

    @property
    def documents(self) -> list[Words]:
        return [DocumentKind(kind).label for kind in self.plan.documents]

    @property
    def to_put_back(self) -> list[rules.PlannedUnits]:
        """Goods that have been picked, perhaps, and go back to their shelf."""
        return [x for x in self.plan.lines if x.restock] if self.facts.order.stage in rules.SHIPPABLE else []

    @property
    def currency(self) -> str:
        return self.plan.currency

    @property
    def lines(self) -> list[tuple[rules.PlannedUnits, Words]]:
        return [(line, _goes_to(line, asked="restock" in self.choice)) for line in self.plan.lines]

    @property
    def refunds(self) -> list[Part]:
        return [self._part(part) for part in self.plan.refunds]

    @property
    def captures(self) -> list[Part]:
        return [self._part(part) for part in self.plan.captures]

    @property
    def charged(self) -> Decimal:
        return _sum(self.plan.captures)

    @property
    def covered(self) -> Decimal:
        """What is paid with money that has arrived before."""
        return self.plan.value - self.charged

    @property
    def gives_back(self) -> bool:
        return bool(self.choice.get("refund", True))

    @property
    def dearer_words(self) -> str:
        return rules.dearer_words(self.facts.order, self.plan.dearer)

    @property
    def kept(self) -> Decimal:
        """What is not given back of the value, whether on purpose or because it was before."""
        return self.plan.value - (self.plan.refund if self.gives_back else ZERO)

    @property
    def messages(self) -> list[Words]:
        codes = [letter.event for letter in self.letters] or self.plan.messages
        return [EVENTS[code].label if code in EVENTS else code for code in codes]

    @property
    def left(self) -> int:
        """Units of the order that stay."""
        return sum(line.live for line in self.facts.lines) - self.plan.unit_count

    def _part(self, part: rules.PlannedMoney) -> Part:
        number = next((i for i, payment in enumerate(self.facts.payments, start=1) if payment.pk == part.payment_id), 0)
        paid = next((row.gateway for row in self.facts.payments if row.pk == part.payment_id), part.gateway)
        label = _("Payment %(number)d (%(gateway)s)") % {"number": number, "gateway": gateway_label(paid)}
        if part.gateway != paid:
            by_hand = asks_for_bank(part.gateway)
            label = f"{label} → {_('bank account') if by_hand else destination_shown(part.gateway, part.amount)}"
        return Part(label, part.amount)


def _goes_to(line: rules.PlannedUnits, *, asked: bool) -> Words:
    if line.disposition:
        return Disposition(line.disposition).label
    if line.restock and line.location:
        return _("%(n)d back into stock: %(location)s") % {"n": line.restock, "location": line.location}
    if line.restock:
        return ngettext("%(n)d back into stock", "%(n)d back into stock", line.restock) % {"n": line.restock}
    return _("not put back") if asked else ""
