"""Forms of the notifications' admin pages."""

from typing import Any

from django import forms
from django.conf import settings
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from notifications import gateways, rules, services
from notifications.models import MessageTemplate, WebhookEndpoint
from notifications.rules import Audience
from shop.errors import Refused, Words
from shop.staff import ActionForm


def events_for(audience: Audience) -> list[tuple[str, Words]]:
    return [(event.code, event.label) for event in services.events() if event.audience == audience]


class MessageTemplateForm(forms.ModelForm):
    """A template of staff; saved only when it renders against a sample order."""

    class Meta:
        model = MessageTemplate
        fields = ["event", "language", "subject", "text", "html"]
        widgets = {
            "subject": forms.TextInput(attrs={"size": 80}),
            "text": forms.Textarea(attrs={"rows": 16, "cols": 100, "spellcheck": "true"}),
            "html": forms.Textarea(attrs={"rows": 24, "cols": 100, "spellcheck": "false"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "event" in self.fields:  # absent where the page is read-only
            self.fields["event"] = forms.ChoiceField(
                label=capfirst(_("event")),
                choices=[(_("To customers"), events_for("customer")), (_("To staff"), events_for("staff"))],
            )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        parts = {part: cleaned.get(part, "") for part in services.PARTS}
        if not any(parts.values()):
            raise forms.ValidationError(
                _("Write a subject, a text or an HTML page; what stays empty is taken from the files.")
            )
        if cleaned.get("event") and cleaned.get("language") in dict(settings.LANGUAGES):
            draft = MessageTemplate(event=cleaned["event"], language=cleaned["language"], **parts)
            for part, words in services.check_override(draft).items():
                self.add_error(part, words)
        return cleaned


class SendAgainForm(ActionForm):
    """To whom a message is sent again: by default to the same address."""

    recipient = forms.EmailField(label=_("Recipient"), max_length=254, help_text=_("Correct it here if it was wrong."))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["recipient"].initial = self.obj.recipient


class WebhookEndpointForm(forms.ModelForm):
    """Where events go and which; the secret is made by the desk."""

    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=lambda: [(code, f"{label} ({code})") for code, label in rules.WEBHOOK_EVENTS.items()],
        widget=forms.CheckboxSelectMultiple(attrs={"class": "desk-ticks"}),
        help_text=_("Each tells the whole order as it is then. One decision may be several events."),
        error_messages={"required": _("Choose at least one.")},
    )

    class Meta:
        model = WebhookEndpoint
        fields = ["name", "url", "store", "events", "with_customer"]
        widgets = {"url": forms.URLInput(attrs={"size": 80, "placeholder": "https://"})}

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        try:
            gateways.checked(url)
        except Refused as no:
            raise forms.ValidationError(str(no)) from no
        return url
