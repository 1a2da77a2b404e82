"""Steps of a shop's own: transitions of its workflows that have a button, guarded as the desk's buttons are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from django.utils.translation import gettext_lazy as _

from orders.models import Facts, Order, Status
from orders.rules.guards import WrongStatus, first, not_held, permitted
from shop.actors import Actor
from shop.errors import Refused, Words

# Buttons of the desk's own workflows: the verbs behind them do more than the transition.
OF_THE_DESK = frozenset({"approve", "start_preparing", "make_ready_for_pickup"})


@dataclass(frozen=True, slots=True)
class Step:
    """One transition of a shop's workflow, as a person can make it.

    name        the transition's
    sources     the statuses in which it is offered
    permission  `custom["permission"]`; who may prepare orders, where it says nothing
    """

    name: str
    label: Words
    target: str
    sources: tuple[str, ...]
    permission: str
    description: Words

    @property
    def action(self) -> str:
        """Its name in addresses."""
        return self.name.replace("_", "-")

    def refusal(self, facts: Facts, actor: Actor) -> Refused | None:
        available = {t.name for t in facts.order.get_available_status_transitions()}
        wrong = None
        if facts.order.status not in self.sources:
            wrong = WrongStatus(params={"status": facts.order.status_label})
        elif self.name not in available:
            words = _("“%(step)s” is not possible: a condition of its workflow is not met.")
            wrong = WrongStatus(words, params={"step": self.label})
        return first(permitted(facts, actor, self.permission), wrong, not_held(facts))


@cache
def own_steps() -> Sequence[Step]:
    """The steps that the shop's workflows add, in their order."""
    found: dict[str, Step] = {}
    for t in Order(status=Status.NEW).get_all_status_transitions():
        custom = t.custom
        if t.name in OF_THE_DESK or not custom.get("button_name") or custom.get("admin", True) is False:
            continue
        before = found.get(t.name)
        found[t.name] = Step(
            name=t.name,
            label=custom["button_name"],
            target=str(t.target),
            sources=(*(before.sources if before else ()), str(t.source)),
            permission=custom.get("permission", "orders.prepare_order"),
            description=custom.get("description", ""),
        )
    return tuple(found.values())


def own_step(*, name: str = "", target: str = "", status: str = "") -> Step | None:
    """The shop's step of this name, or the one that leads from a status to another."""
    if name:
        return next((step for step in own_steps() if step.name == name), None)
    return next((step for step in own_steps() if step.target == target and status in step.sources), None)
