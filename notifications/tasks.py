"""What a worker does for notifications: send one message or one webhook, tell of an endpoint that went off, tidy up."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from email.utils import formataddr, parseaddr
from urllib.parse import urlsplit

from celery import shared_task
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import rules, services
from notifications.gateways import AddressRefused, Answer
from notifications.models import Message, WebhookDelivery, WebhookEndpoint
from notifications.services import webhooks
from shop import jobs
from shop.jobs import Outcome
from shop.models import Job


@jobs.handles(services.KIND)
class SendMessage(jobs.Handler):
    """Send one message.

    It may be sent twice, never not at all: mail servers have no key by which a repetition could be told, and the
    process may die after the server has accepted. The Message-ID stays the same.
    """

    label = gettext_lazy("Send an e-mail")
    what_happened = gettext_lazy("The customer has not been told.")
    what_to_do = gettext_lazy("Write to the recipient yourself, then mark as done by hand.")
    schedule = jobs.MESSAGE_SCHEDULE

    def perform(self, job: Job) -> Outcome:
        message = Message.objects.select_related("store").filter(pk=job.args["message"]).first()
        if message is None:
            return jobs.refused(_("The message is gone."))
        if message.status == Message.Status.SENT:
            return jobs.done()
        try:
            validate_email(message.recipient)
        except ValidationError:
            return jobs.refused(_("This is not an e-mail address."))
        override = services.override_of(event=message.event, language=message.language)
        rendered = services.render(
            event=message.event, language=message.language, context=message.context, override=override
        )
        return deliver(mail_of(message, rendered)) or jobs.done(rendered=rendered)

    def settle(self, job: Job, outcome: Outcome) -> None:
        message = Message.objects.select_for_update(no_key=True).filter(pk=job.args["message"]).first()
        if message is None or message.status == Message.Status.SENT:
            return
        if outcome.state == "done":
            rendered = outcome.data["rendered"]
            message.subject, message.text, message.html = rendered.subject, rendered.text, rendered.html
            message.status, message.sent_at = Message.Status.SENT, timezone.now()
        elif outcome.state == "refused" or job.attempts >= job.max_attempts:
            message.status = Message.Status.FAILED
        else:
            message.status = Message.Status.WAITING
        message.save(update_fields=["subject", "text", "html", "status", "sent_at"])

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        message = Message.objects.select_for_update(no_key=True).filter(pk=job.args["message"]).first()
        if message is None or message.status == Message.Status.SENT:
            return
        message.status, message.sent_at = Message.Status.SENT, timezone.now()
        message.note = "\n".join(filter(None, [message.note, f"{actor_name}: {note}"]))
        message.save(update_fields=["status", "sent_at", "note"])


def mail_of(message: Message, rendered: services.Rendered) -> EmailMultiAlternatives:
    """This will put a message into its envelope: sender, Message-ID and the other headers."""
    name, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    if message.store is not None:
        name, address = message.store.name, message.store.email or address
    domain = urlsplit(settings.SITE_URL).hostname or "localhost"
    headers = {
        "Message-ID": f"<{message.uuid}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "OOF, AutoReply",
        "Content-Language": message.language,
    }
    if message.reference:
        headers["X-Order-Number"] = rules.one_line(message.reference)
    mail = EmailMultiAlternatives(
        subject=rendered.subject,
        body=rendered.text,
        from_email=formataddr((rules.one_line(name), address)),
        to=[message.recipient],
        reply_to=[address],
        headers=headers,
    )
    mail.attach_alternative(rendered.html, "text/html")
    return mail


def deliver(mail: EmailMultiAlternatives) -> Outcome | None:
    """This will hand a mail to the server. None means accepted; otherwise: failed for good, or to be tried again.

    A server that does not let us in (connection, greeting, login) is no verdict about the mail, whatever its code.
    """
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()), (450, b""))
        return _verdict(code, words)
    except (smtplib.SMTPConnectError, smtplib.SMTPHeloError, smtplib.SMTPAuthenticationError) as error:
        return jobs.retry(f"{type(error).__name__}: {error.smtp_code}")
    except smtplib.SMTPResponseException as error:
        return _verdict(error.smtp_code, error.smtp_error)
    except smtplib.SMTPNotSupportedError as error:
        return jobs.refused(error)
    except OSError as error:  # SMTPException is one
        return jobs.retry(f"{type(error).__name__}: {error}")
    except ValueError as error:  # BadHeaderError, an address that cannot be encoded
        return jobs.refused(f"{type(error).__name__}: {error}")
    return None


def _verdict(code: int, words: bytes | str) -> Outcome:
    said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    told = f"{code} {rules.one_line(said)}"
    return jobs.refused(told) if 500 <= code < 600 else jobs.retry(told)


# ---------------------------------------------------------------------------------------------------------------
# Webhooks


@jobs.handles(webhooks.KIND)
class SendWebhook(jobs.Handler):
    """Send one delivery. It may arrive twice, always with the same id.

    One that is given up is no work for a person: it stands in the list of deliveries, and when nothing arrives for
    days the endpoint itself comes into the inbox. Only what kills workers or breaks the code ends there.
    """

    label = gettext_lazy("Tell another system")
    what_happened = gettext_lazy("The other system has not been told, and later events of this order wait for it.")
    what_to_do = gettext_lazy("Try again; or mark as done by hand, and the later ones go out.")
    schedule = rules.WEBHOOK_SCHEDULE

    def perform(self, job: Job) -> Outcome:
        row = WebhookDelivery.objects.select_related("endpoint").filter(pk=job.args["delivery"]).first()
        if row is None or row.round != job.args["round"] or row.state not in WebhookDelivery.OPEN:
            return jobs.done()
        if not row.endpoint.is_active:
            return jobs.done(why=_("The endpoint is switched off."))
        if webhooks.earlier(row).exists():
            return jobs.done(held=True)
        try:
            answer = webhooks.send(row)
        except AddressRefused as no:
            answer = Answer(None, str(no))
        if answer.is_success or answer.status == 410 or job.attempts >= job.max_attempts:
            return jobs.done(answer=answer)
        step = self.schedule[job.attempts - 1]
        # A receiver may ask for more time than the schedule gives, not for less.
        later = answer.retry_after if answer.retry_after and answer.retry_after > step else None
        return jobs.retry(answer.error, retry_after=later, answer=answer)

    def settle(self, job: Job, outcome: Outcome) -> None:
        which = {"delivery_id": job.args["delivery"], "round": job.args["round"]}
        if "answer" in outcome.data:
            webhooks.record(**which, answer=outcome.data["answer"], is_last=outcome.state == "done")
        elif "held" in outcome.data:
            webhooks.hold(**which)
        elif "why" in outcome.data:
            webhooks.give_up(**which, why=outcome.data["why"])

    def done_by_hand(self, job: Job, *, note: str, actor_name: str) -> None:
        which = {"delivery_id": job.args["delivery"], "round": job.args["round"]}
        webhooks.give_up(**which, why=f"{actor_name}: {note}")


@jobs.handles(webhooks.NOTICE)
class TellOfEndpointOff(jobs.Handler):
    """Write to whoever made an endpoint that the desk has switched it off. The mail may arrive twice."""

    label = gettext_lazy("Tell that a webhook endpoint was switched off")
    what_happened = gettext_lazy("Whoever made the endpoint has not been told that it is off.")
    schedule = jobs.MESSAGE_SCHEDULE

    def perform(self, job: Job) -> Outcome:
        endpoint = WebhookEndpoint.objects.select_related("created_by").filter(pk=job.args["endpoint"]).first()
        person = endpoint.created_by if endpoint else None
        if endpoint is None or endpoint.is_active or person is None or not (person.is_active and person.email):
            return jobs.done()
        with translation.override(person.language):
            mail = EmailMultiAlternatives(
                subject=rules.one_line(_("Webhooks to “%s” are switched off") % endpoint.name),
                body=_(
                    "The desk no longer sends webhooks to “%(name)s”.\n\n%(reason)s\n\n"
                    "Events of orders are not kept for it while it is off. When it answers again, switch it on and "
                    "send again what was given up:\n%(url)s\n"
                )
                % {"name": endpoint.name, "reason": endpoint.disabled_reason, "url": page_of(endpoint)},
                to=[person.email],
                headers={"Auto-Submitted": "auto-generated"},
            )
        return deliver(mail) or jobs.done()


@jobs.handles(webhooks.OFF)
class EndpointIsOff(jobs.Handler):
    """Keep an endpoint that the desk switched off in the inbox until somebody has switched it on, or lets it be."""

    label = gettext_lazy("A webhook endpoint was switched off")
    what_happened = gettext_lazy("Another system is no longer told what happens to orders.")
    what_to_do = gettext_lazy(
        "Find out why it does not answer. Switch it on again on its page (Messages, Webhook endpoints), "
        "or leave it off; then mark as done by hand."
    )

    def perform(self, job: Job) -> Outcome:
        endpoint = WebhookEndpoint.objects.filter(pk=job.args["endpoint"]).first()
        if endpoint is None or endpoint.is_active:
            return jobs.done()
        return jobs.refused(f"{endpoint.name}: {endpoint.disabled_reason}")

    def only_by_hand(self, rows: Sequence[Job]) -> frozenset[int]:
        off = set(WebhookEndpoint.objects.filter(is_active=False).values_list("pk", flat=True))
        return frozenset(row.pk for row in rows if row.args["endpoint"] in off)


def page_of(endpoint: WebhookEndpoint) -> str:
    return settings.SITE_URL + reverse("admin:notifications_webhookendpoint_change", args=(endpoint.pk,))


@shared_task(name="notifications.tidy_up")
def tidy_up() -> None:
    """Delete deliveries that nobody will ask for again."""
    webhooks.forget(before=timezone.now() - webhooks.KEEP_ENDED)
