"""Mails about cancellations: customers read what becomes of order and money, staff nothing about the customer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.conf import settings
from django.urls import reverse

from notifications import services
from notifications.forms import MessageTemplateForm
from notifications.models import Message
from notifications.rules import EVENTS, refund_totals
from tests.notifications.conftest import work_off

LANGUAGES = [code for code, _name in settings.LANGUAGES]
TO_STAFF = [code for code, event in EVENTS.items() if event.audience == "staff"]
OF_CANCELLATIONS = [code for code in EVENTS if "cancel" in code or code == "order_reinstated"]


def rendered(event: str, language: str = "en", **changed: Any) -> services.Rendered:
    context = services.sample_context(event=event, language=language) | changed
    mail = services.render(event=event, language=language, context=context, strict=True)
    # Some versions of the language data write a narrow space before "PM".
    return replace(mail, text=mail.text.replace("\u202f", " "))


def order(number: str, amount: str, currency: str = "EUR", to: str = "Credit card ending in 4242") -> dict[str, Any]:
    units = [{"name": f"Vase {number}", "sku": f"VASE-{number}", "quantity": 3}]
    return {
        "number": number,
        "placed_on": "2026-11-21",
        "currency": currency,
        "units": units,
        "amount": amount,
        "refund_destination": to,
    }


# ---------------------------------------------------------------------------------------------------------------
# What may not be in them


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("event", TO_STAFF)
def test_a_mail_to_staff_says_nothing_of_the_customer_even_if_it_is_handed_over(event, language):
    of_customer = {
        "customer_name": "Zoë Weiß",
        "shipping_address": ["Am Kanal 3", "10999 Berlin"],
        "payment": {"label": "Visa 4242"},
        "order_url": "https://shop.example.com/orders/secret-token",
        "email": "zoe@example.com",
    }
    mail = rendered(event, language, **of_customer)
    for secret in ("Zoë", "Am Kanal", "10999", "4242", "secret-token", "zoe@"):
        assert secret not in mail.subject + mail.text + mail.html


@pytest.mark.parametrize("event", OF_CANCELLATIONS)
def test_no_mail_about_a_cancellation_has_the_delivery_address(event):
    mail = rendered(event, shipping_address=["Zoë Weiß", "Am Kanal 3", "10999 Berlin"])
    assert "Am Kanal" not in mail.text + mail.html
    assert "10999" not in mail.text + mail.html


# ---------------------------------------------------------------------------------------------------------------
# Staff


def test_an_approver_reads_what_is_asked_why_and_until_when():
    mail = rendered("approval_needed")
    assert mail.subject == "Approval needed: cancel order 1000042"
    for line in (
        "Amélie D’Souza asks to cancel order 1000042.",
        "Status: Preparing",
        "Reason: Out of stock",
        "Value: €133.80",
        "Needed because of: Being prepared; More than €100.00",
        "Decide by: November 21, 2026, 6:30 PM",
        "https://shop.example.com/admin/orders/approval/17/change/",
    ):
        assert line in mail.text
    link = BeautifulSoup(mail.html, "html.parser").find("a", class_="button")
    assert link["href"] == "https://shop.example.com/admin/orders/approval/17/change/"


def test_the_next_level_reads_who_did_not_answer():
    assert "no answer in time from: Ann and Max" in rendered("approval_escalated", unanswered_by="Ann and Max").text


@pytest.mark.parametrize(
    "decision, subject, told",
    [
        ("approved", "Approved: cancel order 1000042", "Jürgen Şahin has approved cancelling order 1000042."),
        ("rejected", "Rejected: cancel order 1000042", "Jürgen Şahin has rejected cancelling order 1000042."),
    ],
)
def test_who_asked_reads_the_decision_by_whom_with_note_and_outcome(decision, subject, told):
    mail = rendered("approval_decided", decision=decision, note="Ask her first.", outcome="Nothing was cancelled.")
    assert mail.subject == subject
    assert "Hello Amélie D’Souza," in mail.text
    for line in (told, "Note: Ask her first.", "What happened: Nothing was cancelled."):
        assert line in mail.text
    assert "because you may approve" not in mail.text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("event", TO_STAFF)
def test_of_a_bulk_run_the_number_of_orders_is_told(event, language):
    mail = rendered(event, language, number="", order_count=1200)
    assert "1200" in mail.subject.replace(",", "").replace(".", "")
    assert "1000042" not in mail.subject + mail.text + mail.html


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("event", TO_STAFF)
def test_a_bulk_run_of_one_order_is_told_in_the_singular(event, language):
    one, two = (rendered(event, language, number="", order_count=count).subject for count in (1, 2))
    assert "1" in one
    if language != "tr":  # where a noun after a number stays as it is
        assert one.replace("1", "2") != two


def test_what_colleagues_write_is_escaped():
    mail = rendered("approval_needed", justification="<b>now</b>\nplease", policies=["Value > 100 & more"])
    assert "&lt;b&gt;now&lt;/b&gt;<br>please" in mail.html
    assert "Value &gt; 100 &amp; more" in mail.html
    assert "<b>now</b>\nplease" in mail.text


@pytest.mark.django_db
def test_a_mail_to_staff_goes_out_in_their_language(queue, mailoutbox):
    context = services.sample_context(event="approval_needed", language="de")
    queue(event="approval_needed", cause="approval:1", recipient="ann@desk.example", language="de", context=context)
    work_off()
    (sent,) = mailoutbox
    assert (sent.to, sent.subject) == (["ann@desk.example"], "Genehmigung nötig: Bestellung 1000042 stornieren")
    assert Message.objects.get().reference == "1000042"


# ---------------------------------------------------------------------------------------------------------------
# Customers


def test_orders_cancelled_together_are_told_in_one_mail_with_a_total_for_each_currency():
    orders = [order("7", "10.10"), order("8", "20.20"), order("9", "5.00", "USD", "Store credit"), order("10", "0.00")]
    mail = rendered("orders_cancelled", orders=orders)
    assert mail.subject == "4 of your orders have been cancelled"
    for line in (
        "Order 7 of November 21, 2026",
        "3 × Vase 10 (VASE-10)",
        "Refund: €10.10 – Credit card ending in 4242",
        "Refund: $5.00 – Store credit",
        "All refunds together\n  €30.30\n  $5.00\n",
        "Reason: No longer needed",
    ):
        assert line in mail.text
    assert "35.30" not in mail.text + mail.html
    assert "0.00" not in mail.text + mail.html
    page = BeautifulSoup(mail.html, "html.parser")
    assert [cell.text for cell in page.select(".totals .all td")] == ["€30.30", "$5.00"]


def test_where_no_money_goes_back_none_is_promised():
    text = rendered("orders_cancelled", orders=[order("7", ""), order("8", "0.00")]).text
    assert "refund" not in text.lower()


def test_totals_add_up_within_a_currency_only():
    orders = [order("1", "0.10"), order("2", "0.20"), order("3", "100", "JPY"), {"currency": "TRY", "units": []}]
    assert refund_totals(orders) == [{"currency": "EUR", "amount": "0.30"}, {"currency": "JPY", "amount": "100"}]


def test_a_cancellation_that_the_customer_asked_for_is_confirmed_with_when_and_how():
    mail = rendered("cancellation_confirmed")
    assert mail.subject == "As you asked: your order 1000042 has been cancelled"
    assert "As you asked us on November 21, 2026, 2:30 PM, we have cancelled your order." in mail.text
    assert "Contact: Telephone" in mail.text
    assert "Refund: €133.80" in mail.text


@pytest.mark.parametrize("asked_at", ["2026-11-21T14:30:00+00:00", ""])
def test_a_partial_one_says_that_the_rest_goes_on(asked_at):
    units = [{"name": "Cup", "sku": "CUP", "quantity": 1}]
    mail = rendered("cancellation_confirmed", whole=False, units=units, contact_at=asked_at, contact_channel="")
    assert mail.subject == "As you asked: part of your order 1000042 has been cancelled"
    assert "The rest of your order goes on as before." in mail.text
    assert "Nothing more" not in mail.text
    assert "1 × Cup (CUP)" in mail.text
    assert "Contact" not in mail.text
    assert ("2:30 PM" in mail.text) is bool(asked_at)


def test_times_are_written_in_the_language_and_the_time_zone_of_the_shop(settings):
    settings.TIME_ZONE = "Europe/Istanbul"
    assert "21. November 2026, 17:30" in rendered("cancellation_confirmed", "de").text
    assert "21 Kasım 2026, 17:30" in rendered("cancellation_confirmed", "tr").text


def test_a_reinstated_order_says_what_is_to_be_paid_how_and_until_when():
    text = rendered("order_reinstated").text
    assert "Amount due: €133.80" in text
    assert "Pay by: November 24, 2026, 2:30 PM" in text
    assert "How to pay:\nHaus & Herd\nDE02 1203 0000 0000 2020 51" in text
    assert "Pay now: https://shop.example.com/orders/1000042" in text


def test_a_reinstated_order_that_is_paid_asks_for_nothing():
    mail = rendered("order_reinstated", amount="0.00", whole=False)
    assert "There is nothing for you to pay." in mail.text
    assert "the articles below" in mail.text
    for words in ("Amount due", "Pay now", "Pay by", "DE02"):
        assert words not in mail.text + mail.html
    assert "View your order: https://shop.example.com/orders/1000042" in mail.text


def test_a_wish_during_maintenance_is_confirmed_without_promising_too_much():
    text = rendered("cancellation_queued").text
    assert "will do it as soon as we are finished" in text
    assert "has been cancelled" not in text
    assert "2 × Cups & saucers <set of 4> (CUP-4)" in text


# ---------------------------------------------------------------------------------------------------------------
# In the admin


@pytest.mark.django_db
def test_events_are_chosen_by_whom_they_are_told_to():
    groups = dict(MessageTemplateForm().fields["event"].choices)
    assert {code for code, _label in groups["To staff"]} == set(TO_STAFF)
    assert {code for code, _label in groups["To customers"]} == set(EVENTS) - set(TO_STAFF)


@pytest.mark.django_db
def test_a_template_to_staff_knows_no_name_of_the_customer():
    form = MessageTemplateForm({"event": "approval_needed", "language": "en", "text": "Of\n{{ customer_name }}"})
    assert "line 2" in form.errors["text"][0]
    own = MessageTemplateForm({"event": "approval_needed", "language": "en", "text": "Hi {{ approver_name }}"})
    assert own.is_valid(), own.errors


@pytest.mark.parametrize("event", [*TO_STAFF, "orders_cancelled", "cancellation_confirmed", "order_reinstated"])
def test_staff_preview_them_in_the_admin(staff, client, event):
    added = {"event": event, "language": "de", "subject": "Neu: {{ store.name }}", "text": "", "html": ""}
    client.force_login(staff("view_messagetemplate", "add_messagetemplate", "change_messagetemplate"))
    assert client.post(reverse("admin:notifications_messagetemplate_add"), added).status_code == 302
    page = client.get(reverse("admin:notifications_messagetemplate_do", args=(template_pk(event), "preview")))
    assert "Neu: Haus &amp; Herd" in page.content.decode()


def template_pk(event: str) -> int:
    found = services.override_of(event=event, language="de")
    assert found is not None
    return found.pk
