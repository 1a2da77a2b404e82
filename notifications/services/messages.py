"""Messages to people: queue, render, send again, check a template of staff.

The caller decides and calls `queue_message` in its own transaction; a worker (tasks.py) renders and sends. An e-mail
may arrive twice (the process can die between the mail server's "accepted" and our commit), never zero times. Both
copies carry the same Message-ID, by which many mail programs show only one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import css_inline
from django.conf import settings
from django.db import transaction
from django.template import Context, Engine, Template, TemplateSyntaxError
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from notifications import rules
from notifications.models import Message, MessageTemplate
from notifications.rules import ApprovalContext, Audience, Event, OrderContext, OrdersContext
from shop import jobs
from shop.actors import Actor
from shop.errors import Invalid, Refused
from shop.together import atomic, insert, is_together

KIND = "notifications.send"
PARTS = {"subject": "subject.txt", "text": "body.txt", "html": "body.html"}


# ---------------------------------------------------------------------------------------------------------------
# Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One message to be: see `queue_message`."""

    event: str
    cause: str
    reference: str
    store_id: int | None
    recipient: str
    language: str
    context: Mapping[str, Any]
    note: str = ""


def queue_message(
    *,
    event: str,
    cause: str,
    reference: str,
    store_id: int | None,
    recipient: str,
    language: str,
    context: OrderContext | OrdersContext | ApprovalContext | Mapping[str, Any],
) -> Message | None:
    """This will promise an e-mail in the caller's transaction, once for each event, cause and recipient.

    cause      what caused it, with its order: "order:17", "shipping_event:88"; at most 100 characters
    reference  the order's number
    language   the recipient's; "de-AT" becomes "de", one that is not offered the desk's own
    context    see OrderContext, OrdersContext and (for staff) ApprovalContext: plain values, a snapshot

    The same again returns the message there is and adds nothing. An empty recipient (no address known) returns None.
    Raises ValueError for an unknown event, Invalid for an address longer than any can be.
    """
    draft = Draft(
        event=event,
        cause=cause,
        reference=reference,
        store_id=store_id,
        recipient=recipient,
        language=language,
        context=context,
    )
    return queue_messages([draft])[0]


def queue_messages(drafts: Sequence[Draft]) -> list[Message | None]:
    """This will promise several e-mails with a constant number of queries; the answers are in the drafts' order."""
    keys = [_key(draft) for draft in drafts]
    now = timezone.now()
    rows: dict[str, Message] = {}
    for key, draft in zip(keys, drafts, strict=True):
        if key is not None and key not in rows:
            rows[key] = Message(
                uuid=uuid.uuid4(),
                key=key,
                event=draft.event,
                reference=draft.reference,
                store_id=draft.store_id,
                recipient=draft.recipient.strip(),
                language=_language(draft.language),
                context=dict(draft.context),
                note=draft.note,
                created_at=now,
            )
    if not rows:
        return [None for _draft in drafts]
    with atomic():
        stored = _stored(rows)
        jobs.enqueue_many(
            jobs.Promise(KIND, job_key(message.pk), {"message": message.pk}, message.reference, message.store_id)
            for key, message in sorted(stored.items(), key=lambda item: item[1].pk)
            # Another uuid: somebody else wrote it before, and promised its job with it.
            if message.uuid == rows[key].uuid
        )
    return [None if key is None else stored[key] for key in keys]


def _stored(rows: Mapping[str, Message]) -> dict[str, Message]:
    """Write the messages that are not there yet; key → the message that is."""
    if is_together():
        # Their causes are new with the decisions that are gathered; were one not, the database would refuse it, and
        # each decision would be made on its own.
        insert(rows.values())
        return dict(rows)
    insert(rows.values(), ignore_conflicts=True)
    return {message.key: message for message in Message.objects.filter(key__in=rows)}


def job_key(message_id: int) -> str:
    """This will name the job that sends a message."""
    return f"{KIND}:{message_id}"


def _key(draft: Draft) -> str | None:
    rules.event_of(draft.event)
    recipient = draft.recipient.strip()
    if len(recipient) > rules.LONGEST_RECIPIENT:
        raise Invalid(_("This e-mail address is too long."), field="recipient")
    return rules.key_of(event=draft.event, cause=draft.cause, recipient=recipient) if recipient else None


def _language(wanted: str) -> str:
    return rules.language_of(
        wanted, offered=[code for code, _name in settings.LANGUAGES], default=settings.LANGUAGE_CODE
    )


# ---------------------------------------------------------------------------------------------------------------
# Render


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message as it is sent."""

    subject: str
    text: str
    html: str


class TemplateBroken(Refused):
    """A template cannot be rendered; nothing is sent until somebody has repaired it."""

    code = "template_broken"
    http_status = 400
    message = _("%(part)s, line %(line)s: %(error)s")


def events() -> list[Event]:
    """This will list what customers and staff are told: code, label and audience; samples by `sample_context`."""
    return list(rules.EVENTS.values())


def sample_context(*, event: str, language: str) -> dict[str, Any]:
    """This will make up an order for a preview of an event, its texts in the language."""
    with translation.override(_language(language)):
        return rules.sample(rules.event_of(event))


def context_names(audience: Audience) -> list[str]:
    """This will list the names that a template for customers or for staff may use."""
    return sorted(rules.empty_of(audience))


def override_of(*, event: str, language: str) -> MessageTemplate | None:
    """This will look up what staff wrote instead of the files (1 query)."""
    return MessageTemplate.objects.filter(event=event, language=_language(language)).first()


def render(
    *,
    event: str,
    language: str,
    context: Mapping[str, Any],
    override: MessageTemplate | None = None,
    strict: bool = False,
) -> Rendered:
    """This will render subject, text and HTML of a message in a language; it reads and writes nothing.

    override  what staff wrote instead of the files (`override_of`); its empty parts stay the files'
    strict    names that no context has are an error, not empty: for checks and tests

    Raises TemplateBroken with part, line and cause.
    """
    audience = rules.event_of(event).audience
    engine = _engine(Engine.get_default(), strict)
    values = rules.completed(context, audience=audience)
    with translation.override(_language(language)):
        values["language"] = translation.get_language()
        made = {
            part: _part(engine, part, f"messages/{event}/{file}", getattr(override, part, ""), values)
            for part, file in PARTS.items()
        }
    subject = rules.one_line(made["subject"])[: rules.LONGEST_SUBJECT]
    return Rendered(subject, rules.tidy(made["text"]), _INLINER.inline(made["html"]))


# Nothing is loaded from outside while a mail is rendered. The second <style>, with dark mode, is marked to be kept.
_INLINER = css_inline.CSSInliner(load_remote_stylesheets=False)
_UNKNOWN = re.compile("⟦(.*?)⟧")


def template_engine() -> Engine:
    """The engine that messages are made with: their templates need no {% load %}."""
    return _engine(Engine.get_default(), False)


@lru_cache(maxsize=4)
def _engine(base: Engine, strict: bool) -> Engine:
    """The project's engine (same folders, so a shop's own files win) with the messages' filters built in."""
    return Engine(
        dirs=base.dirs,
        loaders=base.loaders,
        libraries=base.libraries,
        builtins=["django.templatetags.i18n", "notifications.templatetags.messages"],
        string_if_invalid="⟦%s⟧" if strict else "",
        debug=True,  # keeps the line of an error; {% debug %} does not look at it
    )


def _part(engine: Engine, part: str, file: str, source: str, values: dict[str, Any]) -> str:
    try:
        template: Any = Template(source, engine=engine) if source else engine.get_template(file)
        made = str(template.render(Context(values, autoescape=part == "html")))
    except Exception as error:  # whatever a template's author did wrong is told with its line
        where = getattr(error, "template_debug", None) or {}
        line = where.get("line") or getattr(getattr(error, "token", None), "lineno", "?")
        name = where.get("name") or ""
        shown = part if source and name in {"", "<unknown source>"} else f"{part} ({name or file})"
        words = str(error) if isinstance(error, TemplateSyntaxError) else f"{type(error).__name__}: {error}"
        raise TemplateBroken(params={"part": shown, "line": line, "error": words}) from error
    if engine.string_if_invalid and (unknown := _UNKNOWN.search(made)):
        name = unknown[1]
        line = next((n for n, text in enumerate(source.splitlines(), start=1) if name in text), "?")
        words = _("there is no “%(name)s” to show") % {"name": name}
        raise TemplateBroken(params={"part": part if source else file, "line": line, "error": words})
    return made


def check_override(template: MessageTemplate) -> dict[str, str]:
    """This will render what staff wrote against a sample order and answer the errors: part → words with the line."""
    errors: dict[str, str] = {}
    context = sample_context(event=template.event, language=template.language)
    for part in PARTS:
        source = getattr(template, part)
        if not source:
            continue
        only = MessageTemplate(event=template.event, language=template.language, **{part: source})
        try:
            rules.check_tags(source)
            render(event=template.event, language=template.language, context=context, override=only, strict=True)
        except Refused as no:
            errors[part] = str(no)
    return errors


# ---------------------------------------------------------------------------------------------------------------
# People


class StillWaiting(Refused):
    code = "message_waiting"
    message = _("This message has not been sent yet: it waits for the worker or the mail server.")


class NoAddress(Refused):
    code = "no_address"
    http_status = 400
    message = _("Your account has no e-mail address.")


def refusal_of_sending_again(message: Message, actor: Actor) -> Refused | None:
    """This will say why a message cannot be sent again now, or None. The same rule as in `send_again`."""
    return StillWaiting() if message.status == Message.Status.WAITING else None


def send_again(*, message_id: int, actor: Actor, once: uuid.UUID, recipient: str = "") -> Message:
    """This will send a message again, to the same or to a corrected address, as a new message with its own record.

    once  the same id twice sends once (a double click)

    Locks the message. Raises NotAllowed, StillWaiting, Invalid.
    """
    with transaction.atomic():
        message = Message.objects.select_for_update(no_key=True).get(pk=message_id)
        actor.require("notifications.resend_message", store_id=message.store_id)
        if refusal := refusal_of_sending_again(message, actor):
            raise refusal
        draft = Draft(
            event=message.event,
            cause=f"again:{message.pk}:{once}",
            reference=message.reference,
            store_id=message.store_id,
            recipient=recipient or message.recipient,
            language=message.language,
            context=message.context,
            note=f"{actor.name}: ↻ {message.pk}",
        )
        again = queue_messages([draft])[0]
    assert again is not None
    return again


def send_test(*, template: MessageTemplate, actor: Actor, once: uuid.UUID) -> Message:
    """This will send a template, filled with a sample order, to the person who asks. Raises NotAllowed, NoAddress."""
    actor.require("notifications.change_messagetemplate")
    message = queue_message(
        event=template.event,
        cause=f"test:{template.pk}:{once}",
        reference="",
        store_id=None,
        recipient=actor.email,
        language=template.language,
        context=sample_context(event=template.event, language=template.language),
    )
    if message is None:
        raise NoAddress
    return message
