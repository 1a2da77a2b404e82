"""The buttons of a shop's own workflows: one for each transition that has a `button_name`."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from orders import rules
from orders.admin import forms
from orders.admin.actions import SIMPLE
from orders.models import Order, status_label
from orders.processing import get_event_handler
from shop.actors import Actor
from shop.errors import Words
from shop.staff import Action


def _action(step: rules.Step) -> Action:
    def act(order: Order, actor: Actor, data: dict[str, Any]) -> Words:
        get_event_handler(actor).take_step(
            number=order.number or "", step=step.name, version=data["version"], note=data["note"]
        )
        return _("The order is now “%(status)s”.") % {"status": status_label(step.target)}

    return Action(
        name=step.action,
        label=step.label,
        description=step.description,
        permission=step.permission,
        refusal=lambda order, actor: step.refusal(order.facts, actor),
        form=forms.RemarkForm,
        act=act,
        primary=True,
        relevant=lambda order: order.status in step.sources,
        template=SIMPLE,
    )


OWN_STEPS: list[Action] = [_action(step) for step in rules.own_steps()]
