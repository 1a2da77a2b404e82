"""What staff see of notifications: the messages that were sent, templates of their own, and webhooks."""

from __future__ import annotations

import json
import uuid
from typing import Any, TypeVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import rules, services
from notifications.forms import MessageTemplateForm, SendAgainForm, WebhookEndpointForm
from notifications.models import Message, MessageTemplate, WebhookDelivery, WebhookEndpoint
from notifications.services import webhooks
from shop import csp
from shop.actors import Actor
from shop.errors import Refused, Words
from shop.models import Job
from shop.search import IndexedSearch
from shop.staff import Action, ActionsAdmin, BulkTold, OwnStoresAdmin, ReadOnlyActionsAdmin, StoreFilter, actor_of
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
class MessageAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """Every message, as it was sent."""

    store_path = "store"
    change_form_template = "admin/notifications/message/change_form.html"
    list_display = ["event_shown", "reference", "recipient", "language", "status_shown", "created_at", "sent_at"]
    list_filter = ["status", EventFilter, StoreFilter, "created_at"]
    list_select_related = ["store"]
    search_fields = ["reference", "recipient__upper__beginning"]
    search_help_text = gettext_lazy("Order number, or the beginning of an e-mail address")
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


# ---------------------------------------------------------------------------------------------------------------
# Webhooks


def secret_told(secret: str) -> str:
    # Last, so that nobody copies a full stop with it.
    told = _("Copy the secret to the other system now, it is not shown again: %(secret)s")
    return told % {"secret": secret}


def rotate(endpoint: WebhookEndpoint, actor: Actor, data: dict[str, Any]) -> Words:
    return secret_told(webhooks.rotate(endpoint_id=endpoint.pk, actor=actor))


def send_test_event(endpoint: WebhookEndpoint, actor: Actor, data: dict[str, Any]) -> Words:
    webhooks.send_test(endpoint_id=endpoint.pk, actor=actor)
    return _("A test is on its way; the deliveries show what became of it.")


def switch_on(endpoint: WebhookEndpoint, actor: Actor, data: dict[str, Any]) -> Words:
    webhooks.switch(endpoint_id=endpoint.pk, on=True, actor=actor)
    return _("It is told again what happens from now on. What was given up can be sent again from the deliveries.")


def switch_off(endpoint: WebhookEndpoint, actor: Actor, data: dict[str, Any]) -> Words:
    webhooks.switch(endpoint_id=endpoint.pk, on=False, actor=actor)
    return _("It is no longer told anything.")


def refusal_when_off(endpoint: WebhookEndpoint, actor: Actor) -> Refused | None:
    return None if endpoint.is_active else webhooks.EndpointOff()


CHANGE = "notifications.change_webhookendpoint"


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(OwnStoresAdmin, ActionsAdmin):
    """Which systems are told of orders. Its state changes by actions only."""

    form = WebhookEndpointForm
    store_path = "store"
    actions = None
    list_display = ["name", "url", "store", "state", "failing_since"]
    list_select_related = ["store"]
    readonly_fields = [
        "state",
        "failing_since",
        "disabled_at",
        "disabled_reason",
        "old_secret_until",
        "created_at",
        "created_by",
        "told",
    ]
    desk_actions = [
        Action(
            name="test",
            label=gettext_lazy("Send a test"),
            description=gettext_lazy("An event of the type webhook.test, signed as all others."),
            act=send_test_event,
            permission=CHANGE,
            refusal=refusal_when_off,
        ),
        Action(
            name="rotate",
            label=gettext_lazy("New secret"),
            description=gettext_lazy(
                "The new secret is shown once. For 24 hours deliveries are signed with the old one as well."
            ),
            act=rotate,
            permission=CHANGE,
        ),
        Action(
            name="on",
            label=gettext_lazy("Switch on"),
            act=switch_on,
            permission=CHANGE,
            relevant=lambda endpoint: not endpoint.is_active,
            primary=True,
        ),
        Action(
            name="off",
            label=gettext_lazy("Switch off"),
            description=gettext_lazy(
                "What happens while it is off is not kept for it, and deliveries that wait are given up."
            ),
            act=switch_off,
            permission=CHANGE,
            relevant=lambda endpoint: endpoint.is_active,
            danger=True,
        ),
    ]

    class Media:
        css = {"all": ["desk/approvals.css"]}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        own: tuple[Any, Any] = (None, {"fields": ["name", "url", "store", "events", "with_customer"]})
        if obj is None:
            return [own]
        return [own, (gettext_lazy("How it is going"), {"fields": self.readonly_fields})]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # One that was told something stays, switched off, as long as its deliveries do.
        return super().has_delete_permission(request, obj) and not (obj and obj.deliveries.exists())

    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool) -> None:
        if change:
            # Its state may have changed while the form was open.
            obj.save(update_fields=list(form.cleaned_data))
            return
        obj.secret, obj.created_at = webhooks.new_secret(), timezone.now()
        obj.created_by = actor_of(request).user
        obj.save()
        messages.success(request, secret_told(obj.secret))

    @admin.display(description=gettext_lazy("state"), ordering="is_active")
    def state(self, endpoint: WebhookEndpoint) -> SafeString:
        if not endpoint.is_active:
            return badge("failed", _("Off"))
        return badge("waiting", _("Failing")) if endpoint.failing_since else badge("sent", _("On"))

    @admin.display(description=gettext_lazy("deliveries"))
    def told(self, endpoint: WebhookEndpoint) -> SafeString:
        address = reverse("admin:notifications_webhookdelivery_changelist")
        link = '<a href="{}?endpoint__id__exact={}">{}</a>'
        return format_html(link, address, endpoint.pk, _("What it was told"))


def replay(row: WebhookDelivery, actor: Actor, data: dict[str, Any]) -> Words:
    webhooks.replay(delivery_id=row.pk, actor=actor)
    return _("It goes out again, with the same id.")


class WebhookEventFilter(admin.SimpleListFilter):
    """By what is told, as the other systems call it."""

    title = gettext_lazy("event")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(code, code) for code in (*rules.WEBHOOK_EVENTS, rules.WEBHOOK_TEST)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(type=self.value()) if self.value() else queryset


class EndpointFilter(admin.SimpleListFilter):
    """Offers the endpoints that are told of the person's stores, and no other store's."""

    title = gettext_lazy("endpoint")
    parameter_name = "endpoint__id__exact"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        rows, stores = WebhookEndpoint.objects.order_by("name", "pk"), actor_of(request).stores
        if stores is not None:
            rows = rows.filter(Q(store=None) | Q(store__in=stores))
        return [(str(pk), name) for pk, name in rows.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        known = self.value() in {pk for pk, _name in self.lookup_choices}
        return queryset.filter(endpoint=self.value()) if known else queryset


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(IndexedSearch, ReadOnlyActionsAdmin):
    """What was told to whom, and how it went."""

    store_path = "store"
    list_display = ["type", "reference", "endpoint", "state_shown", "attempts", "last_answer", "created_at"]
    list_filter = ["state", EndpointFilter, WebhookEventFilter, StoreFilter, "created_at"]
    list_select_related = ["endpoint"]
    search_fields = ["reference", "event_id"]
    search_help_text = gettext_lazy("Order number, or an event's id")
    list_per_page = 50
    actions = ["send_again"]
    fieldsets = [
        (None, {"fields": ["type", "reference", "sequence", "endpoint", "event_id", "created_at"]}),
        (
            gettext_lazy("What became of it"),
            {"fields": ["state_shown", "attempts", "last_answer", "last_error", "delivered_at", "replayed_at"]},
        ),
        (gettext_lazy("What is sent"), {"fields": ["payload_shown"]}),
    ]
    readonly_fields = ["state_shown", "last_answer", "payload_shown"]
    desk_actions = [
        Action(
            name="again",
            label=gettext_lazy("Send again"),
            description=gettext_lazy("The same payload goes out again under the same id, signed anew."),
            act=replay,
            permission="notifications.resend_webhookdelivery",
            refusal=lambda row, actor: webhooks.refusal_of_replay(row),
        )
    ]

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return actor_of(request).may("notifications.resend_webhookdelivery")

    @admin.action(description=gettext_lazy("Send again"), permissions=["resend"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        if not self.has_resend_permission(request):
            raise PermissionDenied
        told = BulkTold()
        # The oldest first, so that an order's events arrive as they happened.
        for row in queryset.order_by("pk"):
            try:
                webhooks.replay(delivery_id=row.pk, actor=actor_of(request))
                told.done += 1
            except Refused as no:
                told.refuse(row, no)
        told.tell(request, done=_("%(count)d go out again."))

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_shown(self, row: WebhookDelivery) -> SafeString:
        colour = {"delivered": "sent", "held": "waiting"}.get(row.state, row.state)
        return badge(colour, row.get_state_display())

    @admin.display(description=gettext_lazy("last answer"), ordering="last_status")
    def last_answer(self, row: WebhookDelivery) -> str:
        if row.last_latency_ms is None:
            return "–"
        return f"{row.last_status or _('none')} ({row.last_latency_ms} ms)"

    @admin.display(description=gettext_lazy("payload"))
    def payload_shown(self, row: WebhookDelivery) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(json.loads(row.payload), indent=2, ensure_ascii=False))
