"""Sending: through a real mail server, when it is down, when it refuses, and when the worker dies in the middle."""

from __future__ import annotations

import email
import email.policy
import smtplib
from datetime import timedelta

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone

from notifications import tasks
from notifications.models import Message, MessageTemplate
from shop import jobs
from tests.notifications.conftest import job_of, work_off


def test_a_worker_sends_the_message_and_keeps_what_was_sent(message, mailoutbox):
    assert work_off() == 1
    message.refresh_from_db()
    (sent,) = mailoutbox
    assert (message.status, job_of(message).state) == ("sent", "done")
    assert message.sent_at is not None
    assert (sent.subject, sent.body) == (message.subject, message.text)
    assert sent.alternatives[0] == (message.html, "text/html")
    assert sent.to == ["zoe@example.com"]


def test_the_envelope_names_store_order_and_message(message, mailoutbox, settings):
    settings.SITE_URL = "https://desk.herd.example"
    work_off()
    headers = mailoutbox[0].message()
    assert headers["From"] == "Haus & Herd <hello@herd.example>"
    assert headers["Reply-To"] == "hello@herd.example"
    assert headers["Message-ID"] == f"<{message.uuid}@desk.herd.example>"
    assert headers["X-Order-Number"] == "1000042"
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["Content-Language"] == "en"


def test_without_a_stores_address_the_desks_own_is_the_sender(queue, store, mailoutbox, settings):
    settings.DEFAULT_FROM_EMAIL = "Orderdesk <orders@desk.example>"
    store.email = ""
    store.save()
    queue()
    queue(store_id=None, cause="order:18")
    work_off()
    assert [m.from_email for m in mailoutbox] == [
        "Haus & Herd <orders@desk.example>",
        "Orderdesk <orders@desk.example>",
    ]


def test_line_breaks_in_names_add_no_header(queue, store, context, mailoutbox):
    store.name = "Herd\r\nBcc: all@example.com"
    store.save()
    queue(
        reference="1\r\nBcc: x@example.com",
        context=context | {"number": "1\nBcc: y@example.com", "customer_name": "Z\nBcc: z@e.com"},
    )
    work_off()
    headers = mailoutbox[0].message()
    assert headers["Bcc"] is None
    assert mailoutbox[0].recipients() == ["zoe@example.com"]


def test_the_mail_is_in_the_customers_language_whatever_the_workers_is(queue, mailoutbox):
    queue(language="de")
    work_off()
    assert mailoutbox[0].subject == "Ihre Bestellung 1000042 ist eingegangen"


def test_a_real_mail_server_gets_the_mail(message, mail_server):
    mail_server.start()
    work_off()
    (envelope,) = mail_server.mails
    assert envelope.rcpt_tos == ["zoe@example.com"]
    received = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert received["Subject"] == "We have received your order 1000042"
    assert received["Message-ID"].startswith(f"<{message.uuid}@")
    assert "Zoë O’Neill-Weiß" in received.get_body(["plain"]).get_content()
    assert "<table" in received.get_body(["html"]).get_content()


def test_while_the_server_is_down_the_mail_waits_and_is_sent_once_when_it_is_up(message, mail_server):
    work_off()
    job = job_of(message)
    assert (job.state, job.attempts) == ("waiting", 1)
    assert "refused" in job.last_error.lower()
    assert job.run_at > timezone.now()
    mail_server.start()
    assert work_off() == 0, "not before it is due"
    work_off(after=timedelta(minutes=2))
    work_off(after=timedelta(days=1))
    message.refresh_from_db()
    assert (len(mail_server.mails), message.status, job_of(message).state) == (1, "sent", "done")


def test_a_refusal_for_now_is_tried_again(message, mail_server):
    mail_server.refusal = "451 greylisted, come back later"
    mail_server.start()
    work_off()
    assert job_of(message).state == "waiting"
    mail_server.refusal = ""
    work_off(after=timedelta(minutes=2))
    assert len(mail_server.mails) == 1


def test_a_refusal_for_good_needs_attention_at_once(message, mail_server):
    mail_server.refusal = "550 no such user zoe@example.com here"
    mail_server.start()
    work_off()
    job = job_of(message)
    message.refresh_from_db()
    assert (job.state, job.attempts, message.status) == ("needs_attention", 1, "failed")
    assert job.last_error == "550 no such user …@… here", "no address in the job"


def test_a_server_that_stays_down_needs_attention_in_the_end(message, mail_server):
    for day in range(10):
        work_off(after=timedelta(days=day))
    message.refresh_from_db()
    assert (job_of(message).state, message.status) == ("needs_attention", "failed")


def test_an_address_that_is_none_needs_attention(queue, mailoutbox):
    message = queue(recipient="zoe\nBcc: all@example.com")
    work_off()
    assert job_of(message).state == "needs_attention"
    assert mailoutbox == []


def test_killed_before_sending_it_is_sent_by_the_next_worker(message, mailoutbox):
    assert jobs.claim(as_of=timezone.now())
    assert work_off() == 0, "the dead worker's lease still holds"
    work_off(after=jobs.LEASE + timedelta(seconds=1))
    assert len(mailoutbox) == 1


def test_killed_between_sending_and_commit_it_arrives_twice_and_is_never_lost(message, mailoutbox):
    job = jobs.claim(as_of=timezone.now())
    assert job is not None
    assert jobs.perform(job).state == "done"
    # Here the process dies: settle never runs.
    message.refresh_from_db()
    assert message.status == "waiting"
    work_off(after=jobs.LEASE + timedelta(seconds=1))
    message.refresh_from_db()
    assert (message.status, job_of(message).state) == ("sent", "done")
    assert len(mailoutbox) == 2
    assert {m.extra_headers["Message-ID"] for m in mailoutbox} == {mailoutbox[0].extra_headers["Message-ID"]}


def test_a_message_that_was_sent_is_not_sent_by_a_second_run(message, mailoutbox):
    work_off()
    job = job_of(message)
    type(job).objects.update(state="waiting", attempts=0)
    work_off()
    assert len(mailoutbox) == 1


def test_a_broken_template_of_staff_holds_the_mail_until_it_is_repaired(message, mailoutbox):
    template = MessageTemplate.objects.create(event="order_placed", language="en", text="a\n{% if %}")
    work_off()
    job = job_of(message)
    assert job.state == "needs_attention"
    assert "line 2" in job.last_error
    template.delete()
    jobs.retry_by_hand(job.pk)
    work_off()
    assert len(mailoutbox) == 1


def test_done_by_hand_counts_as_sent_and_keeps_the_note(message, mail_server):
    mail_server.refusal = "550 no"
    mail_server.start()
    work_off()
    jobs.finish_by_hand(job_of(message).pk, user_id=None, actor_name="Ann", note="phoned her")
    message.refresh_from_db()
    assert (message.status, message.note) == ("sent", "Ann: phoned her")
    assert job_of(message).state == "done"


def test_a_message_that_is_gone_needs_attention_and_breaks_nothing(message):
    Message.objects.all().delete()
    work_off()
    assert job_of(message).state == "needs_attention"
    assert mail.outbox == []


@pytest.mark.parametrize(
    "error, state",
    [
        (smtplib.SMTPAuthenticationError(535, b"no login"), "retry"),  # no verdict about this mail
        (smtplib.SMTPConnectError(554, b"go away"), "retry"),
        (smtplib.SMTPServerDisconnected("gone"), "retry"),
        (TimeoutError("slow"), "retry"),
        (smtplib.SMTPDataError(452, b"disk full"), "retry"),
        (smtplib.SMTPDataError(554, b"spam"), "refused"),
        (smtplib.SMTPSenderRefused(553, b"not you", "a@b.c"), "refused"),
        (smtplib.SMTPNotSupportedError("SMTPUTF8"), "refused"),
    ],
)
def test_what_went_wrong_decides_whether_it_is_tried_again(error, state):
    class FailingMail(EmailMultiAlternatives):
        def send(self, fail_silently: bool = False) -> int:
            raise error

    outcome = tasks.deliver(FailingMail())
    assert outcome is not None
    assert outcome.state == state
