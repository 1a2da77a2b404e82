"""Plans on their way through a browser or a client: signed, so that what comes back is what was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from django.core import signing
from django.utils.translation import gettext_lazy as _

from orders.models import as_json
from orders.rules.plans import Plan, PlannedApproval, PlannedMoney, PlannedUnits
from shop.errors import Invalid, Refused

SALT = "orders.plan"
# What is open for longer is shown again; the version would have caught whatever changed meanwhile.
SECONDS = 12 * 3600


class PlanForged(Invalid):
    code = "plan_invalid"
    message = _("This plan was not made by this desk for this order and person. Ask for a new one.")


class PlanExpired(Refused):
    code = "plan_expired"
    message = _("This plan is more than twelve hours old. Ask for a new one.")


@dataclass(frozen=True, slots=True)
class Shown:
    """The choices that somebody made, and the plan that was shown for them."""

    choice: dict[str, Any]
    plan: Plan


def sign_plan(shown: Shown, *, purpose: str) -> str:
    """This will write choices and plan so that nobody can alter them. purpose: which door, order and person."""
    data = {"choice": shown.choice, "plan": as_json(asdict(shown.plan))}
    return signing.dumps(data, salt=f"{SALT}:{purpose}", compress=True)


def read_plan(token: str, *, purpose: str) -> Shown:
    """This will read them back. Raises PlanExpired, PlanForged (altered, or of another door, order or person)."""
    try:
        data = signing.loads(token, salt=f"{SALT}:{purpose}", max_age=SECONDS)
    except signing.SignatureExpired as error:
        raise PlanExpired from error
    except signing.BadSignature as error:
        raise PlanForged from error
    try:
        return Shown(data["choice"], plan_from_json(data["plan"]))
    except (KeyError, TypeError) as error:  # of another release, whose plans had other parts
        raise PlanForged from error


def plan_from_json(plan: Mapping[str, Any]) -> Plan:
    """The plan that `as_json(asdict(plan))` was made of."""
    lines = tuple(PlannedUnits(**{**line, "value": Decimal(line["value"])}) for line in plan["lines"])
    moneys = {name: tuple(_money(part) for part in plan[name]) for name in ("refunds", "captures")}
    amounts = {name: Decimal(plan[name]) for name in ("worth", "value", "deduction", "refund", "void")}
    # Plans of cancellations that were made before there was such a thing know nothing of it.
    amounts |= {name: Decimal(plan.get(name, 0)) for name in ("repriced", "dearer")}
    texts = {name: tuple(plan.get(name, ())) for name in ("messages", "documents", "jobs", "repriced_because")}
    asked = plan["approval"]
    approval = PlannedApproval(asked["level"], asked["name"], tuple(asked["because"])) if asked else None
    return Plan(**{**plan, "lines": lines, "approval": approval, **moneys, **amounts, **texts})


def _money(part: Mapping[str, Any]) -> PlannedMoney:
    return PlannedMoney(part["payment_id"], part["gateway"], Decimal(part["amount"]))
