"""The order's journal as a person reads it: who, what, when, why, and what it changed, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from textwrap import shorten
from typing import Any

from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from orders.models import (
    CancellationReason,
    CancellationRequest,
    Hold,
    JournalEntry,
    OrderLine,
    status_label,
)
from orders.processing.decision import VERBS
from payments.models import Transaction
from shop.errors import Words
from shop.money import shown

# Lines that an entry names before it says how many more there are.
NAMED = 3

COUNTERS: dict[str, Words] = {
    "allocated": gettext_lazy("Reserved in stock"),
    "charged": gettext_lazy("Units charged"),
    "paid": gettext_lazy("Units paid"),
    "shipped": gettext_lazy("Units shipped"),
    "delivered": gettext_lazy("Units delivered"),
    "cancelled": gettext_lazy("Units cancelled"),
    "returned": gettext_lazy("Units returned"),
    "refunded": gettext_lazy("Units whose money goes back"),
}


def short(name: str) -> str:
    """A line's name where several stand in one row; a word is not cut if it can be helped."""
    return shorten(name, width=42, placeholder="…") if " " in name[:42] else name[:42]


def more_lines(count: int) -> str:
    return ngettext("and %(n)d more line", "and %(n)d more lines", count) % {"n": count}


ADDRESSES: dict[str, Words] = {
    "shipping_address": gettext_lazy("Shipping address"),
    "billing_address": gettext_lazy("Billing address"),
}


@dataclass(frozen=True, slots=True)
class Names:
    """What ids and codes in a journal mean. Read once for the whole page."""

    lines: Mapping[str, OrderLine]
    reasons: Mapping[str, str]
    currency: str
    payment_events: Mapping[int, str]

    @classmethod
    def read(cls, lines: Sequence[OrderLine], currency: str, payment_events: Mapping[int, str]) -> Names:
        """One query: reasons are a short list. payment_events: id → what kind of event it is."""
        reasons = dict(CancellationReason.objects.values_list("code", "name"))
        return cls({str(line.pk): line for line in lines}, reasons, currency, payment_events)

    def line(self, line_id: str) -> str:
        line = self.lines.get(line_id)
        return short(line.name) if line else _("line %(id)s") % {"id": line_id}

    def money(self, amount: Any) -> str:
        return shown(Decimal(str(amount)), self.currency)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One entry. changes: what it changed, name and words."""

    number: int
    at: datetime
    actor: str
    is_person: bool
    verb: str
    words: str
    reason: str
    note: str
    changes: list[tuple[Words, str]]


def timeline(entries: Sequence[JournalEntry], names: Names) -> list[TimelineEntry]:
    """This will put journal entries into words; it makes no query."""
    return [
        TimelineEntry(
            number=entry.sequence,
            at=entry.at,
            actor=entry.actor_name,
            is_person=entry.actor_kind != "system",
            verb=entry.verb,
            words=str(capfirst(VERBS.get(entry.verb, entry.verb.replace("_", " ")))),
            reason=names.reasons.get(entry.reason, entry.reason),
            note=entry.note,
            changes=list(_changes(entry, names)),
        )
        for entry in entries
    ]


def _changes(entry: JournalEntry, names: Names) -> Iterator[tuple[Words, str]]:
    if "status" in entry.after:
        before, after = entry.before.get("status", ""), entry.after["status"]
        yield gettext_lazy("Status"), f"{status_label(before)} → {status_label(after)}"
    yield from _units(entry, names)
    yield from _money(entry.details, names)
    yield from _beside(entry.details, names)


def _units(entry: JournalEntry, names: Names) -> Iterator[tuple[Words, str]]:
    """Per counter: each line's number of units before and after. What was reserved at placement says nothing new."""
    after: Mapping[str, Mapping[str, int]] = entry.after.get("lines") or {}
    before: Mapping[str, Mapping[str, int]] = entry.before.get("lines") or {}
    if entry.verb == "place":
        return
    for counter, label in COUNTERS.items():
        moved = [
            f"{names.line(pk)} {(before.get(pk) or {}).get(counter, 0)} → {units[counter]}"
            for pk, units in after.items()
            if counter in units
        ]
        if moved:
            more = len(moved) - NAMED
            told = moved[:NAMED] + ([more_lines(more)] if more > 0 else [])
            yield label, "; ".join(told)


def _money(details: Mapping[str, Any], names: Names) -> Iterator[tuple[Words, str]]:
    for event in details.get("events") or []:
        # Money that moved; an event of no money at all (units covered by what was here) is told by its units.
        if "payment" in event and Decimal(str(event.get("amount", 0))):
            label = names.payment_events.get(event["payment"], _("Payment"))
            kept = Decimal(str(event.get("kept") or 0))
            told = names.money(event["amount"])
            yield (
                label,
                _("%(amount)s (kept: %(kept)s)") % {"amount": told, "kept": names.money(kept)} if kept > 0 else told,
            )
    transaction = details.get("transaction")
    if transaction:
        kind, status = transaction.get("kind", ""), transaction.get("status", "")
        known = kind in Transaction.Kind.values and status in Transaction.Status.values
        words = f"{Transaction.Kind(kind).label}: {Transaction.Status(status).label}" if known else f"{kind}: {status}"
        yield gettext_lazy("Gateway"), words


def _beside(details: Mapping[str, Any], names: Names) -> Iterator[tuple[Words, str]]:
    hold, request = details.get("hold"), details.get("request")
    if isinstance(hold, Mapping):
        kind = hold.get("kind", "")
        yield gettext_lazy("Hold"), str(Hold.Kind(kind).label if kind in Hold.Kind.values else kind)
    if isinstance(request, Mapping):
        status = request.get("status", "")
        known = status in CancellationRequest.Status.values
        yield gettext_lazy("Request"), str(CancellationRequest.Status(status).label if known else status)
    if details.get("requests"):
        yield gettext_lazy("Requests"), str(len(details["requests"]))
    if details.get("requests_answered"):
        yield gettext_lazy("Requests answered by it"), str(len(details["requests_answered"]))
    for wish in details.get("wishes") or []:
        line, reason = names.line(str(wish.get("line"))), wish.get("reason", "")
        yield gettext_lazy("Wish"), f"{wish.get('units')} × {line}: {names.reasons.get(reason, reason)}"
    for document in details.get("documents") or []:
        yield gettext_lazy("Document"), str(document.get("number", ""))
    note = details.get("note")
    if isinstance(note, Mapping):
        yield gettext_lazy("Note before"), str(note.get("before", ""))
    for name, change in (details.get("addresses") or {}).items():
        if name in ADDRESSES and isinstance(change, Mapping):
            yield ADDRESSES[name], _("changed")
