"""What a worker does for notifications: render one message and hand it to the mail server."""

from __future__ import annotations

import smtplib
from email.utils import formataddr, parseaddr
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import rules, services
from notifications.models import Message
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
