"""Pure decisions about a customer's wish to cancel or send back: never, at once, or for a person to decide.

The stages are those of the storefront contract, section 5; the shop's choices are its cancel rules, which staff edit,
or else the settings EXTRA_CANCEL_RULES and CANCELLATION_FALLBACK_RULES. The same verdict answers a request and sets the
flags that show the storefront's buttons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from orders.models import (
    STATUS_CODES,
    CancellationRequest,
    CancelRule,
    Facts,
    Order,
    OrderLine,
    ReturnCarrier,
    ReturnPolicy,
    Status,
    own_statuses,
)
from orders.rules.guards import (
    ALREADY_CANCELLED,
    BEFORE_SHIPPING,
    CANCELLATION_IN_PROGRESS,
    DIRECTLY_CANCELLABLE,
    ITEM_STATUS_FORBIDS,
    ORDER_STATUS_FORBIDS,
    CancelRefused,
    Lines,
    first,
)
from orders.rules.returns import ReturnTerms, cannot_come_back
from shop.errors import Refused

# The contract's words, which it wants shown as they are.
INVOICED = "Invoiced orders can not cancel"
EXPIRED = "Order cancellation expired."

FALLBACK = {"status": True, "invoice": False, "expired": False}


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The shop's rules as staff wrote them, for all orders, and the companies that bring goods back."""

    cancelling: Iterable[CancelRule] = ()
    returning: Iterable[ReturnPolicy] = ()
    carriers: Iterable[ReturnCarrier] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The shop's choices.

    direct            order statuses in which a cancellation takes effect at once
    refuses_invoiced  orders with an invoice are not cancelled
    expires_after     how long after the order it can be cancelled; None: no limit
    fallback          which of "status", "invoice", "expired" become requests instead of refusals
    undo_minutes      for how long staff can undo what they cancelled
    reprices          whether a partial cancellation takes off what the goods that stay no longer earn
    returns           what may be sent back, and for how long
    """

    direct: frozenset[str] = frozenset(DIRECTLY_CANCELLABLE)
    refuses_invoiced: bool = False
    expires_after: timedelta | None = None
    fallback: Mapping[str, bool] = field(default_factory=lambda: FALLBACK)
    undo_minutes: int = 0
    reprices: bool = False
    returns: ReturnTerms = field(default_factory=ReturnTerms)

    @classmethod
    def of(cls, order: Order, book: Rulebook) -> Policy:
        """The policy for an order: of the rules that fit, the one that says most; without any, the settings'."""
        fitting = [
            rule
            for rule in book.cancelling
            if rule.store_id in {None, order.store_id} and rule.channel in {"", order.channel}
        ]
        # Its own store before its channel, its channel before everywhere.
        chosen = max(fitting, key=lambda rule: (rule.store_id is not None, rule.channel != ""), default=None)
        policy = cls.of_settings() if chosen is None else cls.of_rule(chosen)
        return replace(policy, returns=ReturnTerms.of(order, book.returning))

    @classmethod
    def of_rule(cls, rule: CancelRule) -> Policy:
        limit = rule.time_limit_minutes
        return cls(
            direct=frozenset(rule.direct_statuses),
            refuses_invoiced=rule.refuses_invoiced,
            expires_after=None if limit is None else timedelta(minutes=limit),
            fallback={
                "status": rule.asks_in_other_statuses,
                "invoice": rule.asks_when_invoiced,
                "expired": rule.asks_when_late,
            },
            undo_minutes=rule.undo_minutes,
            reprices=rule.reprices,
        )

    @classmethod
    def of_settings(cls) -> Policy:
        """Read the two settings that docs/cancellation.md describes. Raises ImproperlyConfigured."""
        extra = _said("EXTRA_CANCEL_RULES", settings.EXTRA_CANCEL_RULES, EXTRA_RULES)
        gap = _said("EXTRA_CANCEL_RULES['hour_gap']", extra.get("hour_gap", {}), GAP)
        _said("CANCELLATION_FALLBACK_RULES", settings.CANCELLATION_FALLBACK_RULES, dict.fromkeys(FALLBACK, bool))
        return cls(
            direct=frozenset(DIRECTLY_CANCELLABLE) | _statuses(extra.get("extra_direct_cancellable_statuses", ())),
            refuses_invoiced=bool(extra.get("has_invoice", False)),
            # Minutes, whatever the name says: so the contract has it.
            expires_after=timedelta(minutes=gap.get("time", 60)) if gap.get("is_active", False) else None,
            fallback={**FALLBACK, **settings.CANCELLATION_FALLBACK_RULES},
        )


EXTRA_RULES: Mapping[str, Any] = {
    "extra_direct_cancellable_statuses": (list, tuple, set, frozenset),
    "has_invoice": bool,
    "hour_gap": Mapping,
}
GAP: Mapping[str, Any] = {"is_active": bool, "time": (int, float)}


def _said(name: str, value: Any, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """A setting's dict, if it says nothing but what is known, in the kind of value that is meant."""
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"{name} is {value!r}, but should be a dict.")
    for key, given in value.items():
        if key not in known:
            raise ImproperlyConfigured(f"{name} says {key!r}, which means nothing. There are: {', '.join(known)}.")
        if not isinstance(given, known[key]):
            raise ImproperlyConfigured(f"{name}[{key!r}] is {given!r}, which is not of the kind that is meant.")
    return value


def _statuses(named: Iterable[str | int]) -> frozenset[str]:
    """Statuses by name or by the contract's code."""
    names = {str(status): str(status) for status in (*Status, *own_statuses())}
    names |= {str(code): str(status) for status, code in STATUS_CODES.items()}
    unknown = sorted(str(one) for one in named if str(one) not in names)
    if unknown:
        words = f"EXTRA_CANCEL_RULES names unknown statuses: {', '.join(unknown)}. There are: {', '.join(names)}."
        raise ImproperlyConfigured(words)
    return frozenset(names[str(one)] for one in named)


@dataclass(frozen=True, slots=True)
class Verdict:
    """refusal: why never, if so. is_direct: at once; else a person decides."""

    refusal: Refused | None
    is_direct: bool = False


def verdict(
    facts: Facts, *, cancel: Lines, back: Lines, pending: frozenset[int], policy: Policy, as_of: datetime
) -> Verdict:
    """This will decide what becomes of a customer's wish.

    cancel, back  line id → units, to be cancelled and to be sent back
    pending       ids of lines with an open request
    """
    never = _never(facts, cancel=cancel, back=back, pending=pending) or _not_back(facts, back, policy, as_of)
    if never is not None:
        return Verdict(never)
    if not cancel:
        return Verdict(None)
    is_direct = not back
    for name, refusal in _obstacles(facts, policy=policy, as_of=as_of).items():
        if not policy.fallback[name]:
            return Verdict(refusal)
        is_direct = False
    return Verdict(None, is_direct)


def _never(facts: Facts, *, cancel: Lines, back: Lines, pending: frozenset[int]) -> Refused | None:
    """What no setting and no person can change: stage 2."""
    if facts.order.status == Status.CANCELLED:
        return CancelRefused(ALREADY_CANCELLED, code="order_already_cancelled")
    waits = pending | {line.pk for line in facts.lines if line.withheld}
    if facts.order.status == Status.CANCELLATION_WAITING or waits & (cancel.keys() | back.keys()):
        return CancelRefused(CANCELLATION_IN_PROGRESS, code="cancellation_in_progress")
    return first(
        cancel_by_customer(facts, cancel, pending=pending) if cancel else None,
        return_by_customer(facts, back, pending=pending) if back else None,
    )


def cancel_by_customer(
    facts: Facts, lines: Lines | None = None, *, pending: frozenset[int] = frozenset()
) -> Refused | None:
    """What the storefront contract forbids outright, in its own words (contract section 2.2; stage 2 of section 5).

    pending  ids of lines with an open cancellation request
    """
    status = facts.order.stage
    if status == Status.CANCELLED:
        return CancelRefused(ALREADY_CANCELLED, code="order_already_cancelled")
    chosen = [line for line in facts.lines if lines is None or line.pk in lines]
    if status == Status.CANCELLATION_WAITING or any(line.pk in pending or line.withheld for line in chosen):
        return CancelRefused(CANCELLATION_IN_PROGRESS, code="cancellation_in_progress")
    if status not in BEFORE_SHIPPING:
        return CancelRefused(ORDER_STATUS_FORBIDS, code="order_status_forbids")
    for line in chosen:
        if not line.open:
            return CancelRefused(ITEM_STATUS_FORBIDS, code="item_status_forbids", params={"name": line.name})
    return None


def return_by_customer(facts: Facts, lines: Lines, *, pending: frozenset[int] = frozenset()) -> Refused | None:
    """A return can be asked for what has shipped, once at a time."""
    if facts.order.status == Status.CANCELLED:
        return CancelRefused(ALREADY_CANCELLED, code="order_already_cancelled")
    for line in (line for line in facts.lines if line.pk in lines):
        if line.pk in pending:
            return CancelRefused(CANCELLATION_IN_PROGRESS, code="cancellation_in_progress")
        if not line.returnable:
            return CancelRefused(ITEM_STATUS_FORBIDS, code="item_status_forbids", params={"name": line.name})
    return None


def _not_back(facts: Facts, back: Lines, policy: Policy, as_of: datetime) -> Refused | None:
    """What the shop's terms do not take back (any more)."""
    return first(*(cannot_come_back(line, policy.returns, as_of=as_of) for line in facts.lines if line.pk in back))


def cancels_directly(facts: Facts, *, statuses: tuple[str, ...] = DIRECTLY_CANCELLABLE) -> bool:
    """Whether a customer's cancellation takes effect at once; where it does not, a person decides a request."""
    return facts.order.status in statuses or facts.order.stage in statuses


def _obstacles(facts: Facts, *, policy: Policy, as_of: datetime) -> dict[str, Refused]:
    """What keeps a cancellation from taking effect at once, in the contract's order."""
    found: dict[str, Refused] = {}
    if not cancels_directly(facts, statuses=tuple(policy.direct)):
        found["status"] = CancelRefused(ORDER_STATUS_FORBIDS, code="order_status_forbids")
    if policy.refuses_invoiced and has_invoice(facts):
        found["invoice"] = CancelRefused(INVOICED, code="order_invoiced")
    if policy.expires_after is not None and as_of > facts.order.placed_at + policy.expires_after:
        found["expired"] = CancelRefused(EXPIRED, code="cancellation_expired")
    return found


def has_invoice(facts: Facts) -> bool:
    """Whether the order has an invoice: the desk's own, or one made elsewhere whose number came with the order."""
    return facts.order.invoiced_at is not None or bool(facts.order.extra.get("invoice_number"))


@dataclass(frozen=True, slots=True)
class Flags:
    """What the storefront offers for a line. Never both: its client would send the wrong type.

    refund_refusal  why the shop does not take back what the customer has of it; None: it does, or they have nothing yet
    """

    is_cancellable: bool
    is_refundable: bool
    refund_refusal: Refused | None = None


def flags(line: OrderLine, *, pending: frozenset[int], policy: Policy, as_of: datetime) -> Flags:
    """This will tell which of the two wishes about a line would not be refused."""
    # What customers may do depends on the order's status and the line's units only.
    facts = Facts(line.order, [line], payments=[], holds=[])

    def possible(**wish: Lines) -> bool:
        asked: dict[str, Lines] = {"cancel": {}, "back": {}, **wish}
        return verdict(facts, **asked, pending=pending, policy=policy, as_of=as_of).refusal is None

    cancellable = possible(cancel={line.pk: 1})
    stays = cannot_come_back(line, policy.returns, as_of=as_of) if line.returnable else None
    return Flags(cancellable, not cancellable and possible(back={line.pk: 1}), stays)


def pending_lines(requests: Iterable[CancellationRequest]) -> frozenset[int]:
    """Ids of the lines that have an open request."""
    return frozenset(request.line_id for request in requests if request.is_open)
