"""The papers that go with goods: the picking slip when preparing begins, the label sheet of a return."""

from __future__ import annotations

from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.test import Client

from orders.models import CancellationReason, CancellationRequest, Document, Order, ReturnCarrier
from orders.processing import EventHandler, get_event_handler
from orders.processing.requesting import Terms, Wish
from shop.actors import Actor
from tests import factories

pytestmark = pytest.mark.django_db


def papers(order: Order, kind: str) -> list[Document]:
    return list(Document.objects.filter(order=order, kind=kind).order_by("pk"))


def sent_back(order: Order, **more: Any) -> CancellationRequest:
    """A customer's request to send the first line's unit back, approved by nobody yet."""
    customer = get_event_handler(Actor.customer(order.customer))
    line = order.lines.first()
    reason = CancellationReason.objects.get(code="changed_mind")
    [request] = customer.request_cancellation(
        number=order.number, wishes=[Wish(line.pk, 1, "refund", reason, **more)], terms=Terms()
    )
    return request


def test_a_picking_slip_says_what_lies_where_in_the_language_of_the_staff(
    system: EventHandler, books: Any, settings: Any
) -> None:
    order = factories.place_order(until="approved", language="de", customer=factories.UserFactory())
    system.start_preparing(number=order.number)
    [slip] = papers(order, "picking_slip")
    assert slip.language == settings.LANGUAGE_CODE
    assert slip.content["units"] == sum(line.quantity for line in order.lines.all())
    assert {row["location"] for row in slip.content["lines"]} == {
        line.stock_record.location.name for line in order.lines.all()
    }
    assert slip.total is None
    assert books() == []


def test_an_approved_return_has_a_label_that_its_customer_prints_from_the_mail(
    system: EventHandler, books: Any, admin_actor: Actor
) -> None:
    order = factories.place_order(until="delivered", customer=factories.UserFactory())
    carrier = ReturnCarrier.objects.create(code="post", name="Post", instructions="Hand it in at any branch.")
    request = sent_back(order, carrier=carrier)
    assert papers(order, "return_label") == [], "nobody has agreed yet"
    get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
    [label] = papers(order, "return_label")
    request.refresh_from_db()
    parcel = request.goods_return
    assert label.content["code"] == parcel.code

    browser = Client()
    browser.force_login(order.customer)
    shown = browser.get(f"/users/orders/{order.pk}/").json()["orderitem_set"][0]["active_cancellation_request"]
    address = shown["easy_return"]["label_url"]
    page = BeautifulSoup(Client().get(address).content, "html.parser")
    assert parcel.code in page.get_text()
    assert page.select_one(".label-code svg title").get_text() == parcel.code
    assert "Hand it in at any branch." in page.get_text()
    assert Client().get(address[:-2] + "x/").status_code == 404
    assert Client().get(f"/orders/returns/label/{parcel.code}/").status_code == 404
    assert books() == []


def test_what_is_approved_later_for_the_same_parcel_makes_a_sheet_that_names_it_all(
    books: Any, admin_actor: Actor
) -> None:
    order = factories.place_order(lines=((10, 1), (20, 2)), until="delivered", customer=factories.UserFactory())
    reason = CancellationReason.objects.get(code="changed_mind")
    wishes = [Wish(line.pk, line.quantity, "refund", reason) for line in order.lines.all()]
    requests = get_event_handler(Actor.customer(order.customer)).request_cancellation(
        number=order.number, wishes=wishes
    )
    for request in requests:
        get_event_handler(admin_actor).decide_request(request_id=request.pk, approve=True)
    first, second = papers(order, "return_label")
    assert [row["units"] for row in first.content["lines"]] == [1]
    assert [row["units"] for row in second.content["lines"]] == [1, 2]
    assert books() == []


def test_papers_number_without_gaps_and_are_in_the_journal(system: EventHandler, books: Any) -> None:
    store = factories.StoreFactory()
    for _order in range(3):
        system.start_preparing(number=factories.place_order(store=store, until="approved").number)
    slips = Document.objects.filter(kind="picking_slip").order_by("pk")
    assert [slip.sequence for slip in slips] == [1, 2, 3]
    assert books() == []
