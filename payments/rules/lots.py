"""Store credit and loyalty points: which part of an account is still free, and expires when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from payments.models import CreditEntry

RESTORED_KEEPS = timedelta(days=30)


@dataclass(slots=True)
class Lot:
    """A part of an account that expires at one time (None: never)."""

    amount: Decimal
    expires_at: datetime | None

    def is_due(self, as_of: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= as_of


def free_lots(entries: Iterable[CreditEntry]) -> list[Lot]:
    """This will say what of an account is not held, by expiry: the first to expire first.

    entries  all of the account, oldest first

    What expires first is held and spent first. What is held does not expire. What comes back keeps the expiry that it
    had, and at least 30 days (RESTORED_KEEPS): nobody loses credit because the shop cancelled late.
    """
    Kind = CreditEntry.Kind
    free: list[Lot] = []
    held: dict[int | None, list[Lot]] = defaultdict(list)
    spent: dict[int | None, list[Lot]] = defaultdict(list)
    for entry in entries:
        if entry.kind == Kind.HELD:
            held[entry.pk] = _taken(free, entry.held_amount)
        elif entry.kind == Kind.SPENT:
            spent[entry.hold_id] += _taken(held[entry.hold_id], -entry.amount)
        elif entry.kind == Kind.RELEASED:
            free += _taken(held[entry.hold_id], -entry.held_amount, last=True)
        elif entry.kind == Kind.RESTORED:
            until = entry.created_at + RESTORED_KEEPS
            for lot in _taken(spent[entry.hold_id], entry.amount, last=True):
                free.append(Lot(lot.amount, lot.expires_at and max(lot.expires_at, until)))
        elif entry.amount > 0:
            free.append(Lot(entry.amount, entry.expires_at))
        else:
            _taken(free, -entry.amount)
    return sorted(free, key=_expiry)


def _taken(lots: list[Lot], amount: Decimal, *, last: bool = False) -> list[Lot]:
    """Take an amount out of lots, those that expire first first; `last`: the other way round, for what goes back."""
    parts = []
    for lot in sorted(lots, key=_expiry, reverse=last):
        part = min(lot.amount, amount)
        if part > 0:
            lot.amount -= part
            amount -= part
            parts.append(Lot(part, lot.expires_at))
    lots[:] = [lot for lot in lots if lot.amount]
    return parts


def _expiry(lot: Lot) -> tuple[bool, float]:
    return lot.expires_at is None, lot.expires_at.timestamp() if lot.expires_at else 0.0
