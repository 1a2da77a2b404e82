"""Store credit and loyalty points: grant, hold, spend, release, restore, expire and adjust, each exactly once by key.

Every change is an entry written under the account's lock, together with the account's numbers. The account is always
the last lock taken. What an order asks for and there is no room for is written down too, as a refusal: a key that was
refused stays refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import F, Q
from django.db.transaction import atomic
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from payments import rules
from payments.gateways import is_credit
from payments.models import CreditAccount, CreditEntry, Transaction
from payments.rules import Lot
from payments.services.ledger import ZERO
from shop.errors import Invalid, NotFound, Refused
from shop.money import shown

Kind = CreditEntry.Kind


class NotEnoughCredit(Refused):
    code = "not_enough_credit"
    message = gettext_lazy("Only %(available)s is available.")


class CreditKeyReused(Refused):
    code = "credit_key_reused"
    message = gettext_lazy("“%(key)s” was done before with another account, amount or purpose; it is not done again.")


class NoHold(NotFound):
    code = "no_credit_held"
    message = gettext_lazy("No credit was held for this payment.")


class ExpiryPassed(Invalid):
    code = "expiry_passed"
    message = gettext_lazy("Enter a time to come, or none: what is granted has to be of use for a while.")


class NoteMissing(Invalid):
    code = "note_missing"
    message = gettext_lazy("Say why, so that others understand it later.")


@dataclass(frozen=True, slots=True)
class Balance:
    """What a customer has on one account, what has expired by now left out.

    available  what can be spent: the balance without what is held for orders
    lots       the available part by expiry, the first to expire first
    """

    kind: str
    currency: str
    balance: Decimal = ZERO
    held: Decimal = ZERO
    available: Decimal = ZERO
    lots: Sequence[Lot] = ()
    account_id: int | None = None


# ---------------------------------------------------------------------------------------------------------------------
# Look


def balances_of(*, owner_id: int, as_of: datetime) -> list[Balance]:
    """This will say what a customer has, by account, in two queries."""
    entries: dict[int, list[CreditEntry]] = defaultdict(list)
    for entry in CreditEntry.objects.filter(account__owner=owner_id).order_by("pk"):
        entries[entry.account_id].append(entry)
    accounts = CreditAccount.objects.filter(owner=owner_id).order_by("kind", "currency")
    return [_balance(account, entries[account.pk], as_of) for account in accounts]


def balance_of(*, owner_id: int, currency: str, kind: str, as_of: datetime) -> Balance:
    """This will say what a customer has on one account; nothing where there is none."""
    account = CreditAccount.objects.filter(owner=owner_id, currency=currency, kind=kind).first()
    if account is None:
        return Balance(kind, currency)
    return _balance(account, list(account.entries.order_by("pk")), as_of)


def _balance(account: CreditAccount, entries: Sequence[CreditEntry], as_of: datetime) -> Balance:
    lots = rules.free_lots(entries)
    good = [lot for lot in lots if not lot.is_due(as_of)]
    due = sum((lot.amount for lot in lots if lot.is_due(as_of)), ZERO)
    held = sum((entry.held_amount for entry in entries), ZERO)
    balance = sum((entry.amount for entry in entries), ZERO) - due
    available = sum((lot.amount for lot in good), ZERO)
    return Balance(account.kind, account.currency, balance, held, available, good, account.pk)


def points(amount: Decimal) -> int:
    """This will say how many loyalty points an amount is shown as."""
    return int(amount * settings.LOYALTY_POINTS_PER_UNIT)


def credit_shown(amount: Decimal, currency: str, kind: str) -> str:
    """This will write an amount of credit as people read it; loyalty also in points."""
    if kind != CreditAccount.Kind.LOYALTY:
        return shown(amount, currency)
    return _("%(points)s points (%(amount)s)") % {"points": points(amount), "amount": shown(amount, currency)}


# ---------------------------------------------------------------------------------------------------------------------
# By staff, and by the shop's own code


@atomic
def grant(
    *,
    owner_id: int,
    currency: str,
    kind: str,
    amount: Decimal,
    key: str,
    actor_name: str,
    as_of: datetime,
    expires_at: datetime | None = None,
    reference: str = "",
    note: str = "",
) -> CreditEntry:
    """This will give a customer credit, on an account that is opened where there is none.

    The same key is the same grant, and nothing new. Locks the account.
    Raises AmountInvalid, ExpiryPassed, CreditKeyReused.
    """
    rules.require_amount(amount, currency)
    account, _new = CreditAccount.objects.get_or_create(owner_id=owner_id, currency=currency, kind=kind)
    account = _locked(account.pk)
    if before := _done_before(key, account, Kind.GRANTED, amount):
        return before
    if expires_at is not None and expires_at <= as_of:
        raise ExpiryPassed(field="expires_at")
    entry = CreditEntry(kind=Kind.GRANTED, amount=amount, key=key, expires_at=expires_at)
    return _write(account, entry, as_of=as_of, reference=reference, note=note, actor_name=actor_name)


@atomic
def adjust(
    *, account_id: int, amount: Decimal, key: str, note: str, actor_name: str, as_of: datetime, reference: str = ""
) -> CreditEntry:
    """This will put right an account by hand: more or less by an amount, with the reason why.

    What is held for orders is not touched. The same key is the same adjustment. Locks the account.
    Raises NoteMissing, AmountInvalid, NotEnoughCredit, CreditKeyReused.
    """
    if not note.strip():
        raise NoteMissing(field="note")
    account = _locked(account_id)
    rules.require_amount(abs(amount), account.currency)
    if before := _done_before(key, account, Kind.ADJUSTED, amount):
        return before
    _expire_due(account, as_of)
    if account.free + amount < 0:
        raise NotEnoughCredit(params={"available": shown(account.free, account.currency)}, field="amount")
    entry = CreditEntry(kind=Kind.ADJUSTED, amount=amount, key=key)
    return _write(account, entry, as_of=as_of, reference=reference, note=note, actor_name=actor_name)


@atomic
def expire(*, account_id: int, as_of: datetime) -> CreditEntry | None:
    """This will take off an account what has expired and is not held; None if nothing has. Locks the account."""
    return _expire_due(_locked(account_id), as_of)


def expire_all(*, as_of: datetime) -> int:
    """This will take off every account what has expired, each in its own transaction; returns how many had some."""
    rows = CreditAccount.objects.filter(balance__gt=0, entries__expires_at__lte=as_of)
    pks = rows.order_by("pk").values_list("pk", flat=True).distinct()
    return sum(expire(account_id=pk, as_of=as_of) is not None for pk in list(pks))


# ---------------------------------------------------------------------------------------------------------------------
# For an order: hold, then spend or release, perhaps restore. Called by the gateways.


@atomic
def hold(*, account_id: int, amount: Decimal, key: str, reference: str, as_of: datetime) -> CreditEntry:
    """This will keep an amount for an order. The entry's kind is `refused` where there is not so much.

    Locks the account. Raises AmountInvalid, CreditKeyReused.
    """
    account = _locked(account_id)
    rules.require_amount(amount, account.currency)
    if before := _done_before(key, account, Kind.HELD, amount):
        return before
    _expire_due(account, as_of)
    if amount > account.free:
        return _refuse(account, account.free, key=key, hold=None, reference=reference, as_of=as_of)
    entry = CreditEntry(kind=Kind.HELD, held_amount=amount, key=key)
    return _write(account, entry, as_of=as_of, reference=reference)


def spend(*, hold_key: str, amount: Decimal, key: str, reference: str, as_of: datetime) -> CreditEntry:
    """This will take an amount that is held, or refuse more than that. Locks the account. Raises NoHold."""
    entry = CreditEntry(kind=Kind.SPENT, amount=-amount, held_amount=-amount, key=key)
    return _use(entry, amount, hold_key, reference=reference, as_of=as_of)


def release(*, hold_key: str, amount: Decimal, key: str, reference: str, as_of: datetime) -> CreditEntry:
    """This will let go an amount that is held, or refuse more than that. Locks the account. Raises NoHold."""
    entry = CreditEntry(kind=Kind.RELEASED, held_amount=-amount, key=key)
    return _use(entry, amount, hold_key, reference=reference, as_of=as_of)


def restore(*, hold_key: str, amount: Decimal, key: str, reference: str, as_of: datetime) -> CreditEntry:
    """This will give back an amount that was spent, or refuse more than that. Locks the account. Raises NoHold.

    When it expires is said by rules.free_lots.
    """
    entry = CreditEntry(kind=Kind.RESTORED, amount=amount, key=key)
    return _use(entry, amount, hold_key, reference=reference, as_of=as_of)


@atomic
def _use(entry: CreditEntry, amount: Decimal, hold_key: str, *, reference: str, as_of: datetime) -> CreditEntry:
    """Write what becomes of a hold, once per key and never more than there is room for."""
    held = CreditEntry.objects.filter(key=hold_key, kind=Kind.HELD).first()
    if held is None:
        raise NoHold
    account = _locked(held.account_id)
    rules.require_amount(amount, account.currency)
    if before := _done_before(entry.key, account, entry.kind, amount, hold=held):
        return before
    uses = list(held.uses.values_list("kind", "amount", "held_amount"))
    if entry.kind == Kind.RESTORED:
        room = -sum((spent for _kind, spent, _held in uses), ZERO)
    else:
        room = held.held_amount + sum((change for _kind, _amount, change in uses), ZERO)
    if amount > room:
        return _refuse(account, room, key=entry.key, hold=held, reference=reference, as_of=as_of)
    entry.hold = held
    return _write(account, entry, as_of=as_of, reference=reference)


# ---------------------------------------------------------------------------------------------------------------------
# What they stand on


def _locked(account_id: int) -> CreditAccount:
    return CreditAccount.objects.select_for_update(no_key=True).get(pk=account_id)


def _done_before(
    key: str, account: CreditAccount, kind: str, amount: Decimal, hold: CreditEntry | None = None
) -> CreditEntry | None:
    """The entry that this key made before. The account is locked. Raises CreditKeyReused."""
    entry = CreditEntry.objects.filter(key=key).first()
    if entry is None:
        return None
    same = entry.account_id == account.pk and entry.hold_id == (hold.pk if hold else None)
    if entry.kind != Kind.REFUSED:
        moved = entry.amount or entry.held_amount
        same = same and entry.kind == kind and (moved if kind == Kind.ADJUSTED else abs(moved)) == amount
    if not same:
        raise CreditKeyReused(params={"key": key})
    return entry


def _write(
    account: CreditAccount,
    entry: CreditEntry,
    *,
    as_of: datetime,
    reference: str = "",
    note: str = "",
    actor_name: str = "",
) -> CreditEntry:
    """Write an entry and move the account's numbers with it. The account is locked."""
    entry.account, entry.created_at, entry.reference = account, as_of, reference
    entry.note, entry.actor_name = note[:500], actor_name[:150]
    account.balance += entry.amount
    account.held += entry.held_amount
    account.save(update_fields=["balance", "held"])
    entry.save(force_insert=True)
    return entry


def _refuse(
    account: CreditAccount, room: Decimal, *, key: str, hold: CreditEntry | None, reference: str, as_of: datetime
) -> CreditEntry:
    words = _("Only %(available)s is available.") % {"available": shown(room, account.currency)}
    entry = CreditEntry(kind=Kind.REFUSED, key=key, hold=hold)
    return _write(account, entry, as_of=as_of, reference=reference, note=words)


def _expire_due(account: CreditAccount, as_of: datetime) -> CreditEntry | None:
    """Take off what has expired. The account is locked."""
    if not account.entries.filter(expires_at__lte=as_of).exists():
        return None
    entries = list(account.entries.order_by("pk"))
    due = sum((lot.amount for lot in rules.free_lots(entries) if lot.is_due(as_of)), ZERO)
    if not due:
        return None
    # The account's state is known by its last entry: after it, the same credit expires once.
    entry = CreditEntry(kind=Kind.EXPIRED, amount=-due, key=f"expire:{account.pk}:{entries[-1].pk}")
    return _write(account, entry, as_of=as_of)


# ---------------------------------------------------------------------------------------------------------------------
# The proof

ENTRY_OF = {
    Transaction.Kind.AUTHORIZE: Kind.HELD,
    Transaction.Kind.CAPTURE: Kind.SPENT,
    Transaction.Kind.VOID: Kind.RELEASED,
    Transaction.Kind.REFUND: Kind.RESTORED,
}


def verify_credit() -> Iterator[str]:
    """This will name every account whose numbers differ from its entries, and every payment by credit without them."""
    sums: dict[int, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    for account_id, amount, held in CreditEntry.objects.values_list("account_id", "amount", "held_amount").iterator():
        sums[account_id][0] += amount
        sums[account_id][1] += held
    for account in CreditAccount.objects.order_by("pk").iterator():
        if [account.balance, account.held] != sums[account.pk]:
            yield from _account_again(account.pk)
    yield from _wrong_payments()


@atomic
def _account_again(pk: int) -> list[str]:
    """The desk may have been working meanwhile: look again under the lock."""
    account, wrong = _locked(pk), []
    rows = list(account.entries.values_list("amount", "held_amount"))
    for name, stored, summed in (
        ("balance", account.balance, sum((amount for amount, _held in rows), ZERO)),
        ("held", account.held, sum((held for _amount, held in rows), ZERO)),
    ):
        if stored != summed:
            wrong.append(f"credit account {pk}: {name} is {stored}, its entries add up to {summed}")
    return wrong


def _wrong_payments() -> Iterator[str]:
    """Movements at a credit gateway against entries; those that a person settled are that person's."""
    codes = [code for code in settings.PAYMENT_GATEWAYS if is_credit(code)]
    # Where a refund went elsewhere, there is nothing of it here.
    here = Q(payment__gateway__in=codes, destination="") | Q(destination__in=codes)
    ended = Transaction.objects.filter(here, status__in=[Transaction.Status.SUCCEEDED, Transaction.Status.FAILED])
    # Transactions first: an entry is committed before its transaction ends.
    rows = list(ended.select_related("payment", "refund").order_by("pk"))
    entries = {
        key: (kind, abs(amount or held))
        for key, kind, amount, held in CreditEntry.objects.filter(kind__in=ENTRY_OF.values()).values_list(
            "key", "kind", "amount", "held_amount"
        )
    }
    yield from _wrong_grants([row for row in rows if row.destination])
    astray = Transaction.objects.filter(kind=Transaction.Kind.REFUND).exclude(destination=F("refund__destination"))
    for row in astray.exclude(payment__gateway__in=codes, destination="").select_related("payment"):
        yield f"transaction {row.pk} of {row.payment.reference}: does not go where its refund goes"
    rows = [row for row in rows if not row.destination]
    for row in rows:
        name, found = f"transaction {row.pk} of {row.payment.reference}", entries.get(row.gateway_key)
        if row.status == Transaction.Status.FAILED and found:
            yield f"{name}: has failed, but {found[1]} is {found[0]} in the credit ledger"
        by_gateway = row.status == Transaction.Status.SUCCEEDED and not row.settled_by
        if by_gateway and found != (ENTRY_OF[Transaction.Kind(row.kind)], row.amount):
            yield f"{name}: has succeeded, but the credit ledger has no entry that says so"


def _wrong_grants(rows: Sequence[Transaction]) -> Iterator[str]:
    """Refunds given as credit against grants: one each, to the customer, of that amount; none for what has failed.

    So the credit that refunds have granted is the sum of those refunds.
    """
    keys = {key: row for row in rows for key in row.gateway_keys}
    granted: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    grants = CreditEntry.objects.filter(kind=Kind.GRANTED)
    for key, *what in grants.values_list("key", "account__owner", "account__kind", "account__currency", "amount"):
        if key in keys:
            granted[keys[key].pk].append(tuple(what))
    for row in rows:
        name, found = f"transaction {row.pk} of {row.payment.reference}", granted[row.pk]
        if row.status == Transaction.Status.FAILED and found:
            yield f"{name}: has failed, but credit was granted for it"
        owner = row.refund.owner_id if row.refund else None
        right = [(owner, row.destination, row.payment.currency, row.amount)]
        if row.status == Transaction.Status.SUCCEEDED and not row.settled_by and found != right:
            yield f"{name}: was refunded as credit, but the ledger does not have it once, to the customer, in full"
