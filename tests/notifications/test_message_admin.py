"""The messages' pages: looking at what was sent, finding it, sending it again."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from notifications import services
from notifications.models import Message
from shop.actors import Actor
from shop.errors import NotAllowed
from shop.models import Store
from tests.notifications.conftest import work_off

LIST = "/admin/notifications/message/"


def page_of(message: Message) -> str:
    return reverse("admin:notifications_message_change", args=(message.pk,))


def again_of(message: Message) -> str:
    return reverse("admin:notifications_message_do", args=(message.pk, "again"))


def test_a_sent_mail_is_shown_in_a_frame_without_rights(staff, client, message):
    work_off()
    client.force_login(staff("view_message"))
    answer = client.get(page_of(message))
    page = answer.content.decode()
    assert 'sandbox=""' in page
    assert 'srcdoc="&lt;!DOCTYPE html&gt;' in page
    assert "We have received your order 1000042" in page
    assert "style-src 'self' 'unsafe-inline'" in answer.headers["Content-Security-Policy"]
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]


def test_a_waiting_mail_is_shown_as_it_would_be_sent_with_its_job(staff, client, message):
    client.force_login(staff("view_message"))
    page = client.get(page_of(message)).content.decode()
    assert "We have received your order 1000042" in page
    assert "0/6" in page


def test_messages_are_found_by_order_and_by_address(staff, client, queue):
    queue()
    queue(recipient="max@example.com", reference="1000043", cause="order:18")
    client.force_login(staff("view_message"))
    for words in ("1000043", "MAX@"):
        page = client.get(LIST, {"q": words}).content.decode()
        assert "max@example.com" in page
        assert "zoe@example.com" not in page


def test_the_list_needs_the_same_queries_for_many_messages(staff, client, queue):
    client.force_login(staff("view_message"))

    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(LIST).status_code == 200
        return len(seen)

    queue()
    client.get(LIST)
    few = queries()
    for n in range(20):
        queue(cause=f"order:{n + 100}")
    assert queries() == few


def test_staff_of_one_store_see_its_messages_only(staff, client, queue, store):
    other = Store.objects.create(code="other", name="Other")
    mine, theirs = queue(), queue(store_id=other.pk, cause="order:18")
    user = staff("view_message", everywhere=False)
    store.staff.add(user)
    client.force_login(user)
    assert client.get(page_of(mine)).status_code == 200
    assert client.get(page_of(theirs)).status_code in {302, 404}


def test_nobody_changes_or_deletes_a_message(staff, client, message):
    client.force_login(staff("view_message", "change_message", "delete_message", "add_message"))
    assert client.post(page_of(message), {"recipient": "x@example.com"}).status_code == 403
    assert client.post(page_of(message) + "../delete/", {"post": "yes"}).status_code == 403
    assert client.get(LIST + "add/").status_code == 403
    message.refresh_from_db()
    assert message.recipient == "zoe@example.com"


def test_a_message_is_sent_again_with_its_own_record(staff, client, message, mailoutbox):
    work_off()
    client.force_login(staff("view_message", "resend_message"))
    assert client.get(again_of(message)).status_code == 200
    assert Message.objects.count() == 1, "looking sends nothing"
    answer = client.post(again_of(message), {"recipient": "zoe.weiss@example.com"})
    assert answer.status_code == 302
    work_off()
    assert [m.to for m in mailoutbox] == [["zoe@example.com"], ["zoe.weiss@example.com"]]
    assert mailoutbox[0].extra_headers["Message-ID"] != mailoutbox[1].extra_headers["Message-ID"]
    first, second = Message.objects.order_by("pk")
    assert (first.recipient, second.reference, second.context) == ("zoe@example.com", first.reference, first.context)


def test_a_double_click_sends_once_more_not_twice(staff, client, message, mailoutbox):
    work_off()
    client.force_login(staff("view_message", "resend_message"))
    data = {"recipient": "zoe@example.com", "once": "6f0d2f55-4d0e-4a4f-9a0b-0d2f554d0e4a"}
    client.post(again_of(message), data)
    client.post(again_of(message), data)
    work_off()
    assert len(mailoutbox) == 2


def test_what_still_waits_is_not_sent_again(staff, client, message):
    client.force_login(staff("view_message", "resend_message"))
    answer = client.post(again_of(message), {"recipient": "zoe@example.com"})
    assert answer.status_code == 409
    assert Message.objects.count() == 1


@pytest.mark.parametrize("permissions", [(), ("view_message",), ("view_message", "change_message")])
def test_without_the_permission_nothing_is_sent_again(staff, client, message, permissions):
    work_off()
    user = staff(*permissions)
    client.force_login(user)
    assert client.post(again_of(message), {"recipient": "zoe@example.com"}).status_code == 403
    with pytest.raises(NotAllowed):
        services.send_again(message_id=message.pk, actor=Actor.staff(user), once=message.uuid)
    assert Message.objects.count() == 1
