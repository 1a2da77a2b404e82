"""What staff see of notifications: the messages that were sent, and the templates they may write over the files."""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import services
from notifications.forms import MessageTemplateForm, SendAgainForm
from notifications.models import Message, MessageTemplate
from shop import csp
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.models import Job
from shop.staff import Action, ActionsAdmin, ReadOnlyActionsAdmin, StoreFilter
from shop.templatetags.desk import badge

R = TypeVar("R", bound=HttpResponseBase)


def event_label(code: str) -> Words:
    """An event's words; its code where the shop no longer has it."""
    return next((event.label for event in services.events() if event.code == code), code)


def mail_shown(message: Message) -> dict[str, str]:
    """The mail as it was sent, or as it would be sent now: the context of admin/notifications/mail.html."""
    if message.status == Message.Status.SENT:
        if not message.html:
            return {"error": _("Not sent by the desk; see the note.")}
        return {"subject": message.subject, "text": message.text, "html": message.html}
    override = services.override_of(event=message.event, language=message.language)
    return rendered_now(message.event, message.language, message.context, override)


def rendered_now(
    event: str, language: str, context: dict[str, Any], override: MessageTemplate | None
) -> dict[str, str]:
    """A mail made for this page only."""
    try:
        made = services.render(event=event, language=language, context=context, override=override)
    except Refused as no:
        return {"error": str(no)}
    return {"subject": made.subject, "text": made.text, "html": made.html}


def with_mail(response: R) -> R:
    """Let a page show a mail's own inline styles; the mail itself stays in its sandboxed frame."""
    response.headers[csp.HEADER] = csp.MAIL_PREVIEW
    return response


class EventFilter(admin.SimpleListFilter):
    """By event, in the words that staff use."""

    title = gettext_lazy("event")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(event.code, str(event.label)) for event in services.events()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(event=self.value()) if self.value() else queryset


def send_again(message: Message, actor: Actor, data: dict[str, Any]) -> Words:
    again = services.send_again(
        message_id=message.pk, actor=actor, once=data["once"] or uuid.uuid4(), recipient=data["recipient"]
    )
    return _("The message is on its way to %(recipient)s.") % {"recipient": again.recipient}


@admin.register(Message)
class MessageAdmin(ReadOnlyActionsAdmin):
    """Every message, as it was sent."""

    store_path = "store"
    change_form_template = "admin/notifications/message/change_form.html"
    list_display = ["event_shown", "reference", "recipient", "language", "status_shown", "created_at", "sent_at"]
    list_filter = ["status", EventFilter, StoreFilter, "created_at"]
    list_select_related = ["store"]
    search_fields = ["=reference", "recipient__istartswith"]
    search_help_text = gettext_lazy("Order number, or the beginning of an e-mail address")
    show_full_result_count = False
    list_per_page = 50
    fieldsets = [
        (None, {"fields": ["event_shown", "reference", "store", "recipient", "language"]}),
        (gettext_lazy("What became of it"), {"fields": ["status_shown", "created_at", "sent_at", "job", "note"]}),
    ]
    readonly_fields = ["event_shown", "status_shown", "job"]
    desk_actions = [
        Action(
            name="again",
            label=gettext_lazy("Send again"),
            description=gettext_lazy("The same message goes out once more, with its own record."),
            act=send_again,
            permission="notifications.resend_message",
            refusal=services.refusal_of_sending_again,
            form=SendAgainForm,
        )
    ]

    @admin.display(description=gettext_lazy("event"), ordering="event")
    def event_shown(self, message: Message) -> Words:
        return event_label(message.event)

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def status_shown(self, message: Message) -> SafeString:
        return badge(message.status, message.get_status_display())

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return with_mail(super().change_view(request, *args, **kwargs))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if message := kwargs.get("obj"):
            context["mail"] = mail_shown(message)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("job"))
    def job(self, message: Message) -> str:
        job = Job.objects.filter(key=services.job_key(message.pk)).first()
        if job is None:
            return _("Done and tidied up")
        words = f"{job.get_state_display()} ({job.attempts}/{job.max_attempts})"
        if job.last_error:
            words = f"{words}: {job.last_error}"
        if not self.admin_site.is_registered(Job):
            return words
        return format_html('<a href="{}">{}</a>', reverse("admin:shop_job_change", args=(job.pk,)), words)


def preview(template: MessageTemplate, actor: Actor) -> dict[str, Any]:
    """The template filled with a sample order."""
    context = services.sample_context(event=template.event, language=template.language)
    return rendered_now(template.event, template.language, context, template)


def send_test(template: MessageTemplate, actor: Actor, data: dict[str, Any]) -> Words:
    message = services.send_test(template=template, actor=actor, once=data["once"] or uuid.uuid4())
    return _("A test is on its way to %(recipient)s.") % {"recipient": message.recipient}


@admin.register(MessageTemplate)
class MessageTemplateAdmin(ActionsAdmin):
    """What staff write instead of the file templates."""

    form = MessageTemplateForm
    list_display = ["event_shown", "language", "subject"]
    list_filter = ["language"]
    desk_actions = [
        Action(
            name="preview",
            label=gettext_lazy("Preview and test"),
            description=gettext_lazy(
                "The saved template with a sample order. The button sends it to your own address."
            ),
            act=send_test,
            permission="notifications.change_messagetemplate",
            preview=preview,
            template="admin/notifications/preview.html",
        )
    ]

    def action_page(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        return with_mail(super().action_page(request, object_id, name))

    @admin.display(description=gettext_lazy("event"), ordering="event")
    def event_shown(self, template: MessageTemplate) -> Words:
        return event_label(template.event)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        names = services.context_names("customer")
        staff_names = services.context_names("staff")
        told = gettext_lazy(
            "Written in Django's template language: {{ customer_name }}, {{ total|money:currency }}, "
            "{{ placed_on|day }}. An empty part is taken from the files. To change a part of the page only, begin with "
            '{%% extends "messages/base.html" %%} (to staff: "messages/staff.html") and fill its blocks. '
            "Mails to customers have: %(names)s. Mails to staff have: %(staff_names)s."
        ) % {"names": ", ".join(names), "staff_names": ", ".join(staff_names)}
        return [
            (None, {"fields": ["event", "language"]}),
            (gettext_lazy("Template"), {"fields": ["subject", "text", "html"], "description": told}),
        ]
