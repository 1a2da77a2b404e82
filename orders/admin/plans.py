"""A plan between its page and its execution: signed into the form, told in words, compared with what is true now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from django.core import signing
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.rules import EVENTS
from orders import rules
from orders.models import Disposition, Facts
from shop.errors import Words
from shop.money import ZERO, shown

SALT = "orders.admin.plan"
# A page that is open for longer is shown again; the version would have caught whatever changed meanwhile.
SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Shown:
    """The choices that somebody made, and the plan that was shown for them."""

    choice: dict[str, Any]
    plan: rules.Plan


def sign_shown(shown_plan: Shown, *, purpose: str) -> str:
    """This will write choices and plan so that nobody can alter them. purpose: which page, order and person."""
    plan = _as_text(asdict(shown_plan.plan))
    return signing.dumps({"choice": shown_plan.choice, "plan": plan}, salt=f"{SALT}:{purpose}", compress=True)


def read_shown(token: str, *, purpose: str) -> Shown | None:
    """This will read them back; None where the token is missing, altered, too old, or of another page."""
    try:
        data = signing.loads(token, salt=f"{SALT}:{purpose}", max_age=SECONDS)
    except signing.BadSignature:
        return None
    plan = data["plan"]
    lines = tuple(rules.PlannedUnits(**{**line, "value": Decimal(line["value"])}) for line in plan["lines"])
    moneys = {name: tuple(_money(part) for part in plan[name]) for name in ("refunds", "captures")}
    amounts = {name: Decimal(plan[name]) for name in ("value", "deduction", "refund", "void")}
    return Shown(
        data["choice"], rules.Plan(**{**plan, "lines": lines, "messages": tuple(plan["messages"]), **moneys, **amounts})
    )


def _money(part: Mapping[str, Any]) -> rules.PlannedMoney:
    return rules.PlannedMoney(part["payment_id"], part["gateway"], Decimal(part["amount"]))


def _as_text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    return value


def differences(before: rules.Plan, now: rules.Plan) -> Iterator[str]:
    """This will say what of a plan that was shown is no longer so, one sentence each."""

    def money(amount: Decimal) -> str:
        return shown(amount, now.currency)

    for name, words in (
        ("refund", _("Refunded would be %(now)s, not %(before)s.")),
        ("deduction", _("Kept would be %(now)s, not %(before)s.")),
        ("void", _("Released of the authorization would be %(now)s, not %(before)s.")),
    ):
        if getattr(before, name) != getattr(now, name):
            yield words % {"now": money(getattr(now, name)), "before": money(getattr(before, name))}
    if before.refund == now.refund and before.refunds != now.refunds:
        yield _("The refund would go over other payments.")
    if before.captures != now.captures:
        asked = {"now": money(_sum(now.captures)), "before": money(_sum(before.captures))}
        yield _("Charged would be %(now)s, not %(before)s.") % asked
    if before.units != now.units:
        yield _("Other units would be concerned: %(now)d, not %(before)d.") % {
            "now": now.unit_count,
            "before": before.unit_count,
        }
    restock = (sum(line.restock for line in now.lines), sum(line.restock for line in before.lines))
    if restock[0] != restock[1]:
        yield _("Back into stock would go %(now)d, not %(before)d.") % {"now": restock[0], "before": restock[1]}
    if before.ends_order != now.ends_order:
        yield _("The order would end with it.") if now.ends_order else _("The order would not end with it.")


def _sum(parts: tuple[rules.PlannedMoney, ...]) -> Decimal:
    return sum((part.amount for part in parts), ZERO)


def plan_changed(before: rules.Plan, now: rules.Plan) -> rules.PlanChanged:
    """This will make the refusal that says what would happen now instead of what was shown."""
    words = " ".join(differences(before, now))
    return rules.PlanChanged(remedy=words or _("Look at it again."))


@dataclass(frozen=True, slots=True)
class Part:
    """Money to or from one payment, with the payment's name."""

    label: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan as its page shows it. choice: what was chosen beside the units (refund, notify, …)."""

    plan: rules.Plan
    facts: Facts
    choice: Mapping[str, Any]

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
    def kept(self) -> Decimal:
        """What is not given back of the value, whether on purpose or because it was before."""
        return self.plan.value - (self.plan.refund if self.gives_back else ZERO)

    @property
    def messages(self) -> list[Words]:
        return [EVENTS[code].label if code in EVENTS else code for code in self.plan.messages]

    @property
    def left(self) -> int:
        """Units of the order that stay."""
        return sum(line.live for line in self.facts.lines) - self.plan.unit_count

    def _part(self, part: rules.PlannedMoney) -> Part:
        number = next((i for i, payment in enumerate(self.facts.payments, start=1) if payment.pk == part.payment_id), 0)
        return Part(_("Payment %(number)d (%(gateway)s)") % {"number": number, "gateway": part.gateway}, part.amount)


def _goes_to(line: rules.PlannedUnits, *, asked: bool) -> Words:
    if line.disposition:
        return Disposition(line.disposition).label
    if line.restock:
        return ngettext("%(n)d back into stock", "%(n)d back into stock", line.restock) % {"n": line.restock}
    return _("not put back") if asked else ""
