"""Checks of the gateways' settings at the start: what is named exists, demo and Stripe are set up as they should be."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from payments.gateways.base import METHODS

DEMO = ("payments.gateways.DemoGateway", "payments.gateways.demo.DemoGateway")
STRIPE = "payments.gateways.stripe.StripeGateway"
DOCS = "docs/gateways.md has them all."
SLUG = re.compile(r"[a-z0-9_-]+")


def check_gateways(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """This will refuse to start where PAYMENT_GATEWAYS names something that is not a gateway."""
    errors: list[CheckMessage] = []
    for code, path in settings.PAYMENT_GATEWAYS.items():
        try:
            found = import_string(path)
        except ImportError as error:
            if path != STRIPE or find_spec("stripe") is not None:  # else check_stripe says it
                errors.append(
                    Error(f"PAYMENT_GATEWAYS[{code!r}]: {path} cannot be imported: {error}", id="payments.E001")
                )
            continue
        missing = [name for name in METHODS if not callable(getattr(found, name, None))]
        if not isinstance(getattr(found, "takes_money_online", None), bool):
            missing.append("takes_money_online")
        if missing:
            errors.append(Error(f"PAYMENT_GATEWAYS[{code!r}]: {path} lacks {', '.join(missing)}.", id="payments.E002"))
            continue
        errors += [
            Error(
                f"PAYMENT_GATEWAYS[{code!r}]: {path}: {fault}",
                hint=DOCS,
                id="payments.E006",
            )
            for fault in _misfits(code, found)
        ]
    return errors


def _misfits(code: str, gateway: Any) -> list[str]:
    """What the desk could not call in a gateway, or would never call, as it stands."""
    faults = [] if SLUG.fullmatch(code) else ["the code is part of an address: a-z, 0-9, - and _ only."]
    # The arguments that each is called with: by place, and by name.
    calls: dict[str, tuple[int, tuple[str, ...]]] = {name: (1, ()) for name in METHODS if name != "lookup"}
    calls["lookup"] = (0, ("key", "sent"))
    calls |= {"list_since": (1, ()), "verify_webhook": (2, ()), "look_at": (1, ())}
    for name, (by_place, by_name) in calls.items():
        method = getattr(gateway, name, None)
        if not inspect.isfunction(method):
            continue
        try:
            inspect.signature(method).bind(*[None] * (1 + by_place), **dict.fromkeys(by_name))
        except TypeError as error:
            faults.append(f"{name} cannot be called as the desk calls it: {error}.")
    webhooks = [name for name in ("verify_webhook", "look_at") if callable(getattr(gateway, name, None))]
    if len(webhooks) == 1:
        faults.append(f"it has {webhooks[0]} only; webhooks need both verify_webhook and look_at.")
    if inspect.isclass(gateway):
        try:
            inspect.signature(gateway).bind()
        except TypeError as error:
            faults.append(f"it is made without arguments, and cannot be: {error}.")
            return faults
        try:
            gateway()
        except Exception as error:  # noqa: BLE001 - told at start, in its own words: a key that is missing, mostly
            faults.append(f"it cannot be made: {type(error).__name__}: {error}")
    return faults


def check_no_demo_gateway(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """This will warn of a demo gateway on a desk that takes real orders."""
    if settings.DEMO or settings.DEBUG:
        return []
    return [
        Warning(
            f"PAYMENT_GATEWAYS[{code!r}] is the demo gateway: it moves no money.",
            hint="Take it out of PAYMENT_GATEWAYS, or set DEMO=yes.",
            id="payments.W001",
        )
        for code, path in settings.PAYMENT_GATEWAYS.items()
        if path in DEMO
    ]


def check_stripe(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """This will say what is missing for Stripe, where its key is set or its gateway named."""
    wanted = bool(settings.STRIPE_SECRET_KEY) or STRIPE in settings.PAYMENT_GATEWAYS.values()
    found: list[CheckMessage] = []
    if not wanted:
        return found
    if find_spec("stripe") is None:
        found.append(
            Error(
                "STRIPE_SECRET_KEY is set, but the extra “stripe” is not installed.",
                hint='Install it (pip install "stripe>=14,<17"), or take STRIPE_SECRET_KEY away.',
                id="payments.E003",
            )
        )
    if not settings.STRIPE_SECRET_KEY:
        found.append(
            Error(
                "PAYMENT_GATEWAYS names Stripe, but STRIPE_SECRET_KEY is missing.",
                hint="Set STRIPE_SECRET_KEY to the secret key (sk_…) of your Stripe account.",
                id="payments.E004",
            )
        )
    if not settings.STRIPE_WEBHOOK_SECRET:
        found.append(
            Error(
                "STRIPE_SECRET_KEY is set, but STRIPE_WEBHOOK_SECRET is missing: nothing that Stripe tells could be "
                "believed.",
                hint="Add a webhook endpoint for SITE_URL/payments/webhooks/stripe/ at Stripe, and set its whsec_….",
                id="payments.E005",
            )
        )
    return found
