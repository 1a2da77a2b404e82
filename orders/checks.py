"""System checks of the shop's workflows and handler: what is misspelt is refused at start, not met in production."""

from __future__ import annotations

import difflib
import inspect
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.template import Engine, TemplateSyntaxError
from django.utils.module_loading import import_string
from rest_framework.serializers import BaseSerializer, Serializer, SerializerMethodField

from notifications.services import PARTS, events, template_engine
from orders.models import Order, Status, own_statuses
from orders.models.status import workflows

EVENT_HANDLER = "orders.processing.EventHandler"
IMPORTABLE = "The folder that holds your package belongs into PYTHONPATH, of web, worker and beat (docs/overriding.md)."
# Transitions that the desk's own verbs make by name.
TAKEN = (
    "populate",
    "approve",
    "start_preparing",
    "make_ready_for_pickup",
    "await_cancellation",
    "complete_cancellation",
    "resume_payment_waiting",
)
CUSTOM = frozenset({"button_name", "description", "permission", "admin", "auto"})
# Units that have moved bring an order there; a button would say so of goods and money that have not.
MOVED = frozenset({Status.SHIPPED, Status.DELIVERED, Status.CANCELLATION_WAITING, Status.CANCELLED, Status.REFUNDED})


@register
def check_workflows(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse unknown, unreachable, duplicate and ambiguous transitions."""
    transitions = list(Order(status=Status.NEW).get_all_status_transitions())
    return [
        *_stars(transitions),
        *_unknown(transitions),
        *_unreachable(transitions),
        *_ambiguous(transitions),
        *_duplicates(),
        *_own_statuses(transitions),
        *_lacking(transitions),
        *_misspelt(transitions),
        *_unfit_buttons(),
    ]


def _known() -> set[str]:
    """The desk's statuses and those that a shop's workflow declares in its `statuses`."""
    return {str(status) for status in Status} | set(own_statuses())


def _stars(transitions: list[Any]) -> list[CheckMessage]:
    return [
        Error(f"Transition {t.name} starts from any status.", hint="List its sources.", id="orders.E001")
        for t in transitions
        if t.source in {"*", "+"}
    ]


def _unknown(transitions: list[Any]) -> list[CheckMessage]:
    known = _known()
    found: list[CheckMessage] = []
    for t in transitions:
        for status in (t.source, t.target):
            if status not in known and status not in {"*", "+", None}:
                hint = "Correct it, or list it in the workflow mixin's `statuses`."
                found.append(
                    Error(f"Transition {t.name} names the unknown status {status!r}.", hint=hint, id="orders.E002")
                )
    return found


def _unreachable(transitions: list[Any]) -> list[CheckMessage]:
    reached, grown = {str(Status.NEW), str(Status.CREATED)}, True
    while grown:
        more = {str(t.target) for t in transitions if t.source in reached} - reached
        reached |= more
        grown = bool(more)
    lost = sorted({str(t.source) for t in transitions} - reached - {str(Status.CANCELLATION_WAITING)})
    return [Error(f"No transition leads to the status {status!r}.", id="orders.E003") for status in lost]


def _ambiguous(transitions: list[Any]) -> list[CheckMessage]:
    auto = Counter(str(t.source) for t in transitions if t.custom.get("auto"))
    found: list[CheckMessage] = [
        Error(
            f"Two automatic transitions start from {status!r}.",
            hint="Make it one, with one condition.",
            id="orders.E004",
        )
        for status, count in auto.items()
        if count > 1
    ]
    return found


def _duplicates() -> list[CheckMessage]:
    owners: dict[str, str] = {}
    found: list[CheckMessage] = []
    for mixin in workflows("ORDER_WORKFLOWS"):
        for name, value in vars(mixin).items():
            if not hasattr(value, "_django_fsm"):
                continue
            if name in owners:
                found.append(
                    Error(f"Transition {name} is in both {owners[name]} and {mixin.__name__}.", id="orders.E005")
                )
            owners[name] = mixin.__name__
    return found


def _own_statuses(transitions: list[Any]) -> list[CheckMessage]:
    """A status of the shop's own that stands in for nothing, or that nobody can leave."""
    found: list[CheckMessage] = []
    desk = {str(status) for status in Status}
    for status, place in own_statuses().items():
        if place and place not in desk:
            words = f"The workflows' status {status!r} stands in for {place!r}, which the desk does not know."
            found.append(Error(words, hint=f"Name one of: {', '.join(sorted(desk))}.", id="orders.E018"))
        elif not any(t.source == status for t in transitions):
            hint = (
                f'Write statuses = {{"{status}": "preparing"}} to let it be shipped, cancelled and so on like that one,'
                " or add a transition that starts from it."
            )
            found.append(Error(f"No transition leads out of the status {status!r}.", hint=hint, id="orders.E019"))
    return found


def _lacking(transitions: list[Any]) -> list[CheckMessage]:
    missing = [name for name in TAKEN if name not in {t.name for t in transitions}]
    if not missing:
        return []
    hint = "ORDER_WORKFLOWS replaces the desk's list: name its workflows too, then yours (docs/overriding.md)."
    return [Error(f"The workflows lack what the desk does: {', '.join(missing)}.", hint=hint, id="orders.E020")]


def _misspelt(transitions: list[Any]) -> list[CheckMessage]:
    odd = sorted({(t.name, key) for t in transitions for key in t.custom if key not in CUSTOM})
    hint = f"There are: {', '.join(sorted(CUSTOM))}."
    return [
        Warning(f"Transition {name}: custom[{key!r}] means nothing to the desk.", hint=hint, id="orders.W005")
        for name, key in odd
    ]


def _unfit_buttons() -> list[CheckMessage]:
    """Buttons of a shop's own that have the address of one of the desk's, or that say what only units can say."""
    taken = {*import_string("orders.rules.actions.STAFF"), "undo", "cancelled-there", "not-cancelled-there"}
    found: list[CheckMessage] = []
    for step in import_string("orders.rules.own_steps")():
        if step.action in taken:
            words = f"Transition {step.name}: the desk has a button {step.action!r} already."
            found.append(Error(words, hint="Give the method another name.", id="orders.E021"))
        if step.target in MOVED:
            words = f"Transition {step.name}: its button leads to {step.target!r}, but no unit has moved then."
            hint = "Let it happen by itself (auto=True) when its conditions hold, or lead to a status of your own."
            found.append(Error(words, hint=hint, id="orders.E022"))
    return found


@register
def check_handler(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an ORDER_EVENT_HANDLER that cannot be imported, is none, or whose methods cannot be called as they are."""
    path = settings.ORDER_EVENT_HANDLER
    try:
        handler = import_string(path)
    except ImportError as error:
        return [Error(f"ORDER_EVENT_HANDLER: {error}", hint=IMPORTABLE, id="orders.E006")]
    desk = import_string(EVENT_HANDLER)  # by its path: checks know nothing above them
    if not (isinstance(handler, type) and issubclass(handler, desk)):
        words = f"ORDER_EVENT_HANDLER: {path} is no subclass of {EVENT_HANDLER}."
        return [Error(words, hint="Write `class MyHandler(EventHandler)`.", id="orders.E011")]
    own = [base for base in handler.__mro__ if base not in desk.__mro__]
    return [fault for base in own for name in vars(base) for fault in _method_faults(path, base, name, desk)]


def _method_faults(path: str, owner: type, name: str, desk: type) -> list[CheckMessage]:
    """What is wrong with one method of a shop's handler: it takes other arguments, or its name is nearly the desk's."""
    value = vars(owner)[name]
    if name.startswith("__") or not inspect.isfunction(value):
        return []
    overridden = getattr(desk, name, None)
    if overridden is None:
        near = difflib.get_close_matches(name, [n for n in dir(desk) if not n.startswith("_")], n=1, cutoff=0.85)
        words = f"ORDER_EVENT_HANDLER: {path}.{name} overrides nothing."
        return [Warning(words, hint=f"Was {near[0]} meant?", id="orders.W003")] if near else []
    missing = not_taken(value, like=overridden)
    if not missing:
        return []
    words = f"ORDER_EVENT_HANDLER: {path}.{name} cannot be called as the desk calls it: {missing}."
    return [Error(words, hint=f"Take what the desk's takes: {name}{inspect.signature(overridden)}.", id="orders.E012")]


def not_taken(method: Any, *, like: Any) -> str:
    """Why a method cannot take what another one takes; empty if it can."""
    taken = inspect.signature(like).parameters.values()
    plain = [p for p in taken if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    named = [p.name for p in taken if p.kind is p.KEYWORD_ONLY]
    try:
        inspect.signature(method).bind(*plain, **dict.fromkeys(named))
    except TypeError as error:
        return str(error)
    return ""


@register
def check_serializers(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an ORDER_LIST_SERIALIZER or ORDER_DETAIL_SERIALIZER that cannot be imported, or is no serializer."""
    found: list[CheckMessage] = []
    for name in ("ORDER_LIST_SERIALIZER", "ORDER_DETAIL_SERIALIZER"):
        path = getattr(settings, name)
        try:
            named = import_string(path)
        except ImportError as error:
            found.append(Error(f"{name}: {error}", hint=IMPORTABLE, id="orders.E007"))
            continue
        if not (isinstance(named, type) and issubclass(named, BaseSerializer)):
            hint = "Name a class, such as orders.api.serializers.OrderSerializer or one that extends it."
            found.append(Error(f"{name}: {path} is no serializer.", hint=hint, id="orders.E008"))
        elif issubclass(named, Serializer):
            found += [Error(f"{name}: {path}: {fault}", id="orders.E013") for fault in _field_faults(named)]
    return found


@register
def check_extra(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an ORDER_EXTRA_SERIALIZER that would let anything in, or write what the desk itself keeps there."""
    path = settings.ORDER_EXTRA_SERIALIZER
    try:
        named = import_string(path)
    except ImportError as error:
        return [Error(f"ORDER_EXTRA_SERIALIZER: {error}", hint=IMPORTABLE, id="orders.E025")]
    if not (isinstance(named, type) and issubclass(named, import_string("orders.api.extra.Extra"))):
        words = f"ORDER_EXTRA_SERIALIZER: {path} does not extend orders.api.extra.Extra."
        return [Error(words, hint="It refuses what is not declared, and too much of it.", id="orders.E026")]
    try:
        names = set(named().fields)
    except (AssertionError, AttributeError, TypeError, ImproperlyConfigured) as error:
        return [Error(f"ORDER_EXTRA_SERIALIZER: {path}: {error}", id="orders.E027")]
    taken = sorted(names & import_string("orders.processing.extras.OF_THE_DESK"))
    return [
        Error(f"ORDER_EXTRA_SERIALIZER: {path}: the desk itself keeps {name!r}.", hint="Rename it.", id="orders.E028")
        for name in taken
    ]


def _field_faults(named: type[Serializer[Any]]) -> list[str]:
    """Fields that would fail with the first order that is shown, or show their default for ever."""
    try:
        serializer = named()
        fields = dict(serializer.fields)
    except (AssertionError, AttributeError, TypeError, ImproperlyConfigured) as error:
        return [str(error)]
    shown = import_string("orders.api.shown.ShownOrder")
    faults = []
    for name, field in fields.items():
        if isinstance(field, SerializerMethodField):
            if not hasattr(serializer, str(field.method_name)):
                faults.append(f"the field {name!r} has no method {field.method_name}.")
            continue
        way = field.source_attrs
        if way and not hasattr(shown, way[0]) and way[0] not in getattr(shown, "__annotations__", {}):
            faults.append(f"the field {name!r} reads {way[0]!r}, which a ShownOrder does not have.")
        elif way[:1] == ["order"] and len(way) > 1 and not hasattr(Order, way[1]):
            faults.append(f"the field {name!r} reads {'.'.join(way)!r}, but an order has no {way[1]!r}.")
    return faults


@register
def check_cancel_rules(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse EXTRA_CANCEL_RULES and CANCELLATION_FALLBACK_RULES that a customer's cancellation would stumble on."""
    try:
        import_string("orders.rules.Policy").of_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="docs/cancellation.md says what they may say.", id="orders.E014")]
    return []


@register
def check_templates(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse templates of the shop's own (SHOP_TEMPLATES_DIR) that cannot be read; warn of those that nothing shows."""
    folders = [Path(folder) for folder in settings.SHOP_TEMPLATES]
    files = [(folder, path) for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        fault
        for folder, path in files
        if path.suffix in {".html", ".txt"}
        for fault in _template_faults(path, path.relative_to(folder).as_posix())
    ]


def _template_faults(path: Path, name: str) -> list[CheckMessage]:
    # Messages have an engine of their own, which loads the tags that they need.
    engine = template_engine() if name.startswith("messages/") else Engine.get_default()
    try:
        engine.get_template(name)
    except TemplateSyntaxError as error:
        line = getattr(getattr(error, "token", None), "lineno", None)
        where = f"{path}, line {line}" if line else str(path)
        return [Error(f"SHOP_TEMPLATES_DIR: {where}: {error}", id="orders.E017")]
    except UnicodeDecodeError as error:
        return [Error(f"SHOP_TEMPLATES_DIR: {path} is not UTF-8: {error}", id="orders.E017")]
    of_the_desk = Path(settings.BASE_DIR, "templates", name).exists()
    # A message of the shop's own, named in EVENTS.
    own = {f"messages/{event.code}/{file}" for event in events() for file in PARTS.values()}
    if of_the_desk or name in own or path.name.startswith("_") or name.split("/")[0] not in {"messages", "documents"}:
        return []
    hint = (
        "It has to have the name of the template that it replaces, in the desk's folder templates/;"
        " a message of your own is to be named in notifications.rules.EVENTS when the process starts."
    )
    return [Warning(f"SHOP_TEMPLATES_DIR: {path} replaces nothing.", hint=hint, id="orders.W006")]


@register
def check_order_management(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an ORDER_MANAGEMENT that is none or lacks its settings, and unknown statuses of address changes."""
    found: list[CheckMessage] = []
    try:
        gateway = import_string(settings.ORDER_MANAGEMENT)
    except ImportError as error:
        found.append(Error(f"ORDER_MANAGEMENT: {error}", hint=IMPORTABLE, id="orders.E015"))
    else:
        methods = ("retrieve", "cancel", "change_address", "lookup", "read_notice")
        missing = [name for name in methods if not callable(getattr(gateway, name, None))]
        if missing or not isinstance(getattr(gateway, "is_outside", None), bool):
            words = ", ".join(missing or ["is_outside"])
            found.append(Error(f"ORDER_MANAGEMENT: {settings.ORDER_MANAGEMENT} lacks {words}.", id="orders.E016"))
        elif settings.ORDER_MANAGEMENT_URL and not gateway.is_outside:
            words = "ORDER_MANAGEMENT_URL is set, but ORDER_MANAGEMENT is this desk itself: nobody is asked or told."
            hint = "Set ORDER_MANAGEMENT=orders.gateways.HttpOrderManagement as well, or take the address away."
            found.append(Warning(words, hint=hint, id="orders.W004"))
        found += [Error(fault, id="orders.E009") for fault in getattr(gateway, "faults", list)()]
    for status in settings.ADDRESS_CHANGE_APPROVAL_STATUSES:
        if status not in _known():
            words = f"ADDRESS_CHANGE_APPROVAL_STATUSES names the unknown status {status!r}."
            found.append(Error(words, hint=f"There are: {', '.join(sorted(_known()))}.", id="orders.E010"))
    return found


@register(deploy=True)
def check_mail_server(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of a desk that takes real orders and has nowhere to send their mails."""
    named = settings.EMAIL_HOST != "localhost" or not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend")
    if settings.DEMO or settings.DEBUG or named:
        return []
    return [Warning("EMAIL_URL is missing: mails go to a server on this machine.", id="orders.W002")]


@register(deploy=True)
def check_unpaid_deadline(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of a deadline so short that a bank transfer can never make it."""
    if settings.ORDER_UNPAID_AFTER_MINUTES < 30:
        return [Warning("ORDER_UNPAID_AFTER_MINUTES is below 30: customers have little time to pay.", id="orders.W001")]
    return []
