"""Templates that staff write over the files: used, checked before they are saved, kept inside their fence."""

from __future__ import annotations

import uuid

import pytest
from django.urls import reverse

from notifications import services
from notifications.forms import MessageTemplateForm
from notifications.models import MessageTemplate
from tests.notifications.conftest import work_off

EDIT = ("view_messagetemplate", "add_messagetemplate", "change_messagetemplate", "view_message")


def errors_of(event: str = "order_placed", language: str = "en", **parts: str) -> dict[str, list[str]]:
    return MessageTemplateForm({"event": event, "language": language, **parts}).errors


@pytest.mark.django_db
def test_what_staff_write_replaces_that_part_and_no_other(queue, mailoutbox):
    MessageTemplate.objects.create(event="order_placed", language="en", subject="Hurray, {{ customer_name }}!")
    queue()
    queue(language="de", cause="order:18")
    work_off()
    assert [m.subject for m in mailoutbox] == ["Hurray, Zoë O’Neill-Weiß!", "Ihre Bestellung 1000042 ist eingegangen"]
    assert "Thank you for your order" in mailoutbox[0].body


@pytest.mark.django_db
def test_an_html_template_may_build_on_the_files():
    html = '{% extends "messages/base.html" %}{% block lead %}<p>Hi & {{ total|money:currency }}</p>{% endblock %}'
    form = MessageTemplateForm({"event": "order_placed", "language": "de", "html": html})
    assert form.is_valid(), form.errors
    template = form.save()
    context = services.sample_context(event="order_placed", language="de")
    mail = services.render(event="order_placed", language="de", context=context, override=template)
    assert "133,80" in mail.html


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text, told",
    [
        ("Hello\n\n{% if total %}", "line 3"),
        ("Hello\n{{ total|dollars }}", "line 2"),
        ("Hello\n{{ custmer_name }}", "line 2"),
        ("{% extends 'messages/nothing.txt' %}", "nothing.txt"),
        ("Hello\n\n{% load desk %}", "Line 3"),
        ("{% debug %}", "Line 1"),
        ("{% include 'admin/login.html' %}", "Line 1"),
        ("{% include 'messages/../admin/login.html' %}", "Line 1"),
        ("{% include reason %}", "Line 1"),
    ],
)
def test_a_template_that_does_not_render_is_not_saved_and_the_line_is_named(text, told):
    errors = errors_of(text=text)
    assert list(errors) == ["text"]
    assert told in errors["text"][0]


@pytest.mark.django_db
def test_an_empty_template_is_refused():
    assert "__all__" in errors_of()


@pytest.mark.django_db
def test_there_is_one_template_for_an_event_and_language():
    MessageTemplate.objects.create(event="order_placed", language="en", subject="x")
    assert errors_of(subject="y")
    assert not errors_of(subject="y", language="de")


def test_staff_write_a_template_look_at_it_and_send_it_to_themselves(staff, client, mailoutbox):
    client.force_login(staff(*EDIT))
    added = reverse("admin:notifications_messagetemplate_add")
    answer = client.post(
        added, {"event": "order_shipped", "language": "de", "subject": "Los! {{ number }}", "text": "", "html": ""}
    )
    assert answer.status_code == 302, answer.context["errors"]
    template = MessageTemplate.objects.get()
    page = reverse("admin:notifications_messagetemplate_do", args=(template.pk, "preview"))
    shown = client.get(page)
    assert "Los! 1000042" in shown.content.decode()
    assert 'sandbox=""' in shown.content.decode()
    assert work_off() == 0, "looking sends nothing"
    assert client.post(page, {"once": uuid.uuid4()}).status_code == 302
    work_off()
    (sent,) = mailoutbox
    assert (sent.to, sent.subject) == (["ann@desk.example"], "Los! 1000042")


def test_a_double_click_sends_one_test(staff, client, mailoutbox):
    template = MessageTemplate.objects.create(event="order_placed", language="en", subject="x")
    client.force_login(staff(*EDIT))
    page = reverse("admin:notifications_messagetemplate_do", args=(template.pk, "preview"))
    once = "6f0d2f55-4d0e-4a4f-9a0b-0d2f554d0e4a"
    client.post(page, {"once": once})
    client.post(page, {"once": once})
    work_off()
    assert len(mailoutbox) == 1


def test_without_an_address_of_their_own_nothing_is_sent(staff, client):
    template = MessageTemplate.objects.create(event="order_placed", language="en", subject="x")
    client.force_login(staff(*EDIT, email=""))
    page = reverse("admin:notifications_messagetemplate_do", args=(template.pk, "preview"))
    answer = client.post(page, {"once": uuid.uuid4()})
    assert answer.status_code == 400
    assert "no e-mail address" in answer.content.decode()


def test_who_may_only_look_can_neither_change_nor_test(staff, client):
    template = MessageTemplate.objects.create(event="order_placed", language="en", subject="x")
    client.force_login(staff("view_messagetemplate"))
    change = reverse("admin:notifications_messagetemplate_change", args=(template.pk,))
    assert client.get(change).status_code == 200
    assert client.post(change, {"event": "order_placed", "language": "en", "subject": "y"}).status_code == 403
    page = reverse("admin:notifications_messagetemplate_do", args=(template.pk, "preview"))
    assert client.post(page, {"once": uuid.uuid4()}).status_code == 403
    assert work_off() == 0
