"""Documents: what stands on them follows from the books, their numbers have no gap, and none ever changes."""

from __future__ import annotations

import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone, translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from orders import rules
from orders.models import Document, DocumentFile, DocumentKind, DocumentSeries, Facts, JournalEntry, Order, OrderLine
from orders.processing import EventHandler, PaymentChoice, get_event_handler
from orders.processing.printing import page_of, pdf_of
from payments.services import credit
from shop import jobs
from shop.actors import Actor
from shop.errors import NotAllowed, Refused
from shop.models import Job, Store, User
from shop.money import quantum, rounded
from tests import factories
from tests.examples import examples

pytestmark = pytest.mark.django_db

CREDIT, INVOICE, DELIVERY = DocumentKind.CREDIT_NOTE, DocumentKind.INVOICE, DocumentKind.DELIVERY_NOTE


def documents(order: Order, kind: str) -> list[Document]:
    return list(Document.objects.filter(order=order, kind=kind).order_by("pk"))


def amounts(document: Document) -> list[Decimal]:
    return [Decimal(row["gross"]) for row in document.content["taxes"]]


# ---------------------------------------------------------------------------------------------------------------
# Invoices


def test_an_invoice_is_over_the_orders_total_and_shows_what_it_is_made_of(
    place: Callable[..., Order], system: EventHandler, books: Callable[[], list[str]]
) -> None:
    order = place([("10.00", 3), ("7.77", 2)], discount="5.00", shipping="4.90", until="paid")
    invoice = system.issue_invoice(number=order.number)
    content = invoice.content
    assert invoice.total == order.total == Decimal(content["total"])
    assert [line["units"] for line in content["lines"]] == [3, 2]
    assert (content["items"], content["discount"], content["shipping"]) == ("45.54", "5.00", "4.90")
    assert Decimal(content["tax"]) == order.tax_total
    assert content["order"] == order.number
    assert content["buyer"]["address"][0] == "Ada Lovelace"
    assert books() == []


def test_prices_without_tax_have_it_on_top(
    place: Callable[..., Order], system: EventHandler, books: Callable[[], list[str]]
) -> None:
    store = factories.StoreFactory(prices_include_tax=False)
    order = place([("10.00", 3)], store=store, shipping="3.33")
    content = system.issue_invoice(number=order.number).content
    assert Decimal(content["items"]) + Decimal(content["shipping"]) + Decimal(content["tax"]) == order.total
    assert content["taxes"] == [
        {"rate": "19", "net": "33.33", "tax": str(rounded(order.tax_total, "EUR")), "gross": content["total"]}
    ]
    assert books() == []


def test_an_invoice_leaves_out_what_was_cancelled_before(
    place: Callable[..., Order], system: EventHandler, work: Callable[[], int]
) -> None:
    order = place([("10.00", 3), ("5.00", 1)], until="paid")
    first, second = order.lines.order_by("position")
    system.cancel(number=order.number, lines={first.pk: 1, second.pk: 1})
    work()
    invoice = system.issue_invoice(number=order.number)
    assert [(line["units"], line["amount"]) for line in invoice.content["lines"]] == [(2, "20.00")]
    assert invoice.total == 20


def test_an_order_has_one_invoice(place: Callable[..., Order], system: EventHandler) -> None:
    order = place()
    system.issue_invoice(number=order.number)
    with pytest.raises(rules.AlreadyInvoiced):
        system.issue_invoice(number=order.number)
    elsewhere = place(extra={"invoice_number": "R-1"})
    with pytest.raises(rules.AlreadyInvoiced):
        system.issue_invoice(number=elsewhere.number)


def test_a_cancelled_order_is_not_invoiced(place: Callable[..., Order], system: EventHandler) -> None:
    order = place()
    system.cancel(number=order.number)
    with pytest.raises(rules.NothingToInvoice):
        system.issue_invoice(number=order.number)


@pytest.mark.parametrize(
    ("role", "may"), [("Admin", True), ("Store Manager", True), ("Customer Service", True), ("Fulfilment", False)]
)
def test_who_may_issue_an_invoice(
    role: str, may: bool, place: Callable[..., Order], staff: Callable[..., User]
) -> None:
    order = place()
    handler = get_event_handler(Actor.staff(staff(role, order.store)))
    if may:
        assert handler.issue_invoice(number=order.number).issued_by
    else:
        with pytest.raises(NotAllowed):
            handler.issue_invoice(number=order.number)


def test_invoiced_follows_from_the_invoice(place: Callable[..., Order], system: EventHandler) -> None:
    order = place()
    assert not rules.has_invoice(Facts.of(order))
    invoice = system.issue_invoice(number=order.number)
    order.refresh_from_db()
    assert rules.has_invoice(Facts.of(order))
    assert order.invoiced_at == invoice.issued_at
    entry = JournalEntry.objects.get(order=order, verb="issue_invoice")
    assert entry.after["invoiced_at"] == str(invoice.issued_at)
    assert entry.details["documents"] == [invoice.as_record()]


@pytest.mark.parametrize(
    ("when", "until", "count"),
    [("by_hand", "shipped", 0), ("placed", "", 1), ("shipped", "paid", 0), ("shipped", "shipped", 1)],
)
def test_a_store_says_when_invoices_are_issued(
    when: str, until: str, count: int, store: Store, place: Callable[..., Order], books: Callable[[], list[str]]
) -> None:
    DocumentSeries.objects.create(store=store, kind=INVOICE, prefix="R", issue_when=when)
    order = place([("10.00", 2)], store=store, until=until)
    assert len(documents(order, INVOICE)) == count
    assert (order.invoiced_at is not None) == bool(count)
    assert books() == []


def test_the_second_parcel_brings_no_second_invoice(
    store: Store, place: Callable[..., Order], system: EventHandler, books: Callable[[], list[str]]
) -> None:
    DocumentSeries.objects.create(store=store, kind=INVOICE, issue_when="shipped")
    order = place([("10.00", 2)], store=store, until="paid")
    line = order.lines.get()
    for _parcel in range(2):
        system.ship(number=order.number, lines={line.pk: 1}, carrier="DHL", tracking_number="42")
    first, second = documents(order, DELIVERY)
    assert (first.content["to_come"], second.content["to_come"]) == (1, 0)
    assert first.content["carrier"] == "DHL"
    assert first.total is None
    assert len(documents(order, INVOICE)) == 1
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# Refunds


@pytest.mark.parametrize(("currency", "price"), [("EUR", "9.99"), ("JPY", "997"), ("KWD", "3.333")])
def test_credit_notes_of_partial_refunds_add_up_to_what_was_refunded(
    currency: str, price: str, place: Callable[..., Order], system: EventHandler, work: Any, books: Any
) -> None:
    store = factories.StoreFactory(currency=currency)
    discount, shipping = ("1", "1") if currency == "JPY" else ("1.01", "1.57")
    order = place([(price, 3)], store=store, discount=discount, shipping=shipping, until="paid")
    invoice = system.issue_invoice(number=order.number)
    line = order.lines.get()
    for _unit in range(3):
        system.cancel(number=order.number, lines={line.pk: 1})
        work()
    notes = documents(order, CREDIT)
    assert len(notes) == 3
    assert sum(note.total for note in notes) == invoice.total == order.total
    assert sum(Decimal(note.content["tax"]) for note in notes) == order.tax_total
    assert {note.corrects for note in notes} == {invoice}
    assert notes[0].content["corrects"]["number"] == invoice.number
    for note in notes:
        assert sum(amounts(note)) == note.total == Decimal(note.content["total"])
        assert note.total == note.payment_event.refund.amount
    assert books() == []


def test_what_is_kept_stands_on_the_credit_note(
    place: Callable[..., Order], system: EventHandler, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    order = place([("10.00", 2)], until="delivered")
    line = order.lines.get()
    system.take_back(number=order.number, lines={line.pk: (1, "damaged")}, deduction=Decimal("4.00"))
    work()
    note = documents(order, CREDIT)[0]
    assert (note.total, note.content["adjustment"]) == (6, "-4.00")
    assert note.content["taxes"] == [{"rate": "19", "net": "5.04", "tax": "0.96", "gross": "6.00"}]
    assert books() == []


def test_goodwill_is_shared_out_over_the_orders_tax_rates(
    store: Store, place: Callable[..., Order], system: EventHandler, work: Callable[[], int], books: Any
) -> None:
    products = [
        factories.stocked(store, price=Decimal("10.00"), tax_rate=Decimal("19")),
        factories.stocked(store, price=Decimal("5.00"), tax_rate=Decimal("7")),
    ]
    order = place(products, store=store, until="paid")
    system.refund(number=order.number, amount=Decimal("1.00"), note="sorry")
    work()
    note = documents(order, CREDIT)[0]
    assert note.content["lines"] == []
    assert [(row["rate"], row["gross"]) for row in note.content["taxes"]] == [("7", "0.33"), ("19", "0.67")]
    assert note.total == 1
    assert books() == []


def test_money_that_paid_for_nothing_goes_back_without_tax(
    place: Callable[..., Order], system: EventHandler, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    order = place([("10.00", 1)], gateway="manual")
    system.record_payment(number=order.number, amount=Decimal("13.00"), surplus=True)
    work()
    assert documents(order, CREDIT) == []  # a person has to send it
    transfer = Job.objects.get(kind="payments.send", state=Job.State.NEEDS_ATTENTION)
    jobs.finish_by_hand(transfer.pk, user_id=None, actor_name="Ada", note="Sent by bank")
    work()
    note = documents(order, CREDIT)[0].content
    assert (note["untaxed"], note["tax"], note["total"], note["adjustment"]) == ("3.00", "0.00", "3.00", "0.00")
    assert books() == []


def test_a_refund_has_its_credit_note_once_the_money_has_gone(
    place: Callable[..., Order], system: EventHandler, work: Callable[[], int]
) -> None:
    order = place(until="paid")
    system.cancel(number=order.number)
    assert documents(order, CREDIT) == []
    work()
    note = documents(order, CREDIT)[0]
    assert system.issue_refund_documents(refund_id=note.payment_event.refund_id) == []
    assert len(documents(order, CREDIT)) == 1


def test_points_that_go_back_have_a_restoration_note_beside_the_credit_note(
    place: Callable[..., Order], system: EventHandler, work: Callable[[], int], books: Callable[[], list[str]]
) -> None:
    customer = factories.UserFactory()
    account = credit.grant(
        owner_id=customer.pk,
        currency="EUR",
        kind="loyalty",
        amount=Decimal("6.00"),
        key="welcome",
        actor_name="Ada",
        as_of=timezone.now(),
    ).account
    parts = [
        PaymentChoice(gateway="demo", amount=Decimal("14.00")),
        PaymentChoice(gateway="loyalty", amount=Decimal("6.00"), details={"credit_account": account.pk}),
    ]
    order = place([("10.00", 2)], customer=customer, payments=parts, language="de", until="paid")
    system.cancel(number=order.number)
    work()
    (whole,) = documents(order, CREDIT)
    (points,) = documents(order, DocumentKind.RESTORATION_NOTE)
    assert (whole.total, points.total) == (20, 6)
    assert points.corrects == whole
    assert "6,00" in page_of(points)
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------
# Numbers


def test_numbers_follow_one_another_per_store_and_kind(place: Callable[..., Order], system: EventHandler) -> None:
    here, there = factories.StoreFactory(), factories.StoreFactory()
    numbers = [system.issue_invoice(number=place(store=store).number).number for store in (here, here, there)]
    assert numbers == ["INV-00001", "INV-00002", "INV-00001"]


def test_a_decision_that_is_undone_gives_its_number_back(
    place: Callable[..., Order], system: EventHandler, books: Callable[[], list[str]]
) -> None:
    store = factories.StoreFactory()
    order, other = place(store=store), place(store=store)
    with pytest.raises(RuntimeError), system.decide(order.number, "issue_invoice"):
        assert system.issue_invoice(number=order.number).sequence == 1
        raise RuntimeError("the rest failed")
    assert Document.objects.count() == 0
    assert system.issue_invoice(number=other.number).sequence == 1
    assert books() == []


def test_a_document_is_never_changed(place: Callable[..., Order], system: EventHandler) -> None:
    invoice = system.issue_invoice(number=place().number)
    with pytest.raises(TypeError):
        invoice.save()
    with pytest.raises(TypeError):
        invoice.delete()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: Document.objects.filter(pk=d.pk).update(total=Decimal(1)), "is not what the journal says"),
        (lambda d: Document.objects.filter(pk=d.pk).update(content={"total": "1.00"}), "is not what the journal says"),
        (lambda d: Document.objects.filter(pk=d.pk)._raw_delete("default"), "is gone"),
        (lambda d: DocumentSeries.objects.update(next_number=7), "the next number is 7"),
        (lambda d: Order.objects.update(invoiced_at=None), "invoiced"),
    ],
)
def test_the_proof_of_the_books_finds_a_document_that_was_changed(
    spoil: Any, words: str, place: Callable[..., Order], system: EventHandler, books: Callable[[], list[str]]
) -> None:
    invoice = system.issue_invoice(number=place().number)
    assert books() == []
    spoil(invoice)
    assert any(words in fault for fault in books()), books()


# ---------------------------------------------------------------------------------------------------------------
# Tax


@settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_however_a_line_is_taken_apart_its_pieces_add_up_per_rate(data: st.DataObject) -> None:
    currency = data.draw(st.sampled_from(["EUR", "JPY", "KWD"]))
    included = data.draw(st.booleans())
    cents = st.integers(0, 99_999)

    def amount() -> Decimal:
        return data.draw(cents) * quantum(currency)

    order = Order(currency=currency, prices_include_tax=included)
    lines = []
    for pk in range(1, data.draw(st.integers(1, 3)) + 1):
        rate, quantity = Decimal(data.draw(st.sampled_from(["0", "7", "19", "20.5"]))), data.draw(st.integers(1, 9))
        items, shipping = amount(), amount()
        discount = min(items, amount())
        net = items - discount + shipping
        tax = rounded(net * rate / (100 + rate if included else 100), currency)
        line = OrderLine(pk=pk, position=pk, sku="x", name="x", quantity=quantity, tax_rate=rate, unit_price=items)
        line.items_total, line.discount_total, line.shipping_total, line.tax_total = items, discount, shipping, tax
        line.total = net if included else net + tax
        lines.append(line)
    facts = Facts(order, lines, [], [])
    order.total = sum(line.total for line in lines)
    whole = rules.invoice_content(facts)
    assert Decimal(whole["total"]) == order.total
    by_rate: dict[str, Decimal] = {}
    given_back = Decimal(0)
    for line in lines:
        after = 0
        while after < line.quantity:
            units = data.draw(st.integers(1, line.quantity - after))
            worth = line.price_of_next(units, after=after, currency=currency)
            note = rules.credit_note_content(facts, {line.pk: (units, after)}, amount=worth, unapplied=Decimal(0))
            for row in note["taxes"]:
                assert Decimal(row["net"]) + Decimal(row["tax"]) == Decimal(row["gross"])
                by_rate[row["rate"]] = by_rate.get(row["rate"], Decimal(0)) + Decimal(row["tax"])
            given_back += Decimal(note["total"])
            after += units
    assert given_back == order.total
    assert by_rate == {row["rate"]: Decimal(row["tax"]) for row in whole["taxes"]}


# ---------------------------------------------------------------------------------------------------------------
# Pages and PDFs


@pytest.mark.parametrize(("language", "words"), [("en", "Invoice"), ("de", "Rechnung"), ("tr", "Fatura")])
def test_a_document_is_in_the_customers_language(
    language: str, words: str, place: Callable[..., Order], system: EventHandler
) -> None:
    page = page_of(system.issue_invoice(number=place(language=language).number))
    assert f"<h1>{words}" in page
    assert f'lang="{language}"' in page


@pytest.mark.parametrize(("language", "country"), [("en", "Germany"), ("de", "Deutschland"), ("tr", "Almanya")])
def test_countries_are_named_in_the_documents_language_whoever_issues_it(
    language: str, country: str, place: Callable[..., Order], system: EventHandler
) -> None:
    order = place([("10.00", 1)], language=language, until="paid")
    with translation.override("tr" if language == "en" else "en"):
        invoice = system.issue_invoice(number=order.number)
        system.ship(number=order.number)
    [slip], [note] = documents(order, DocumentKind.PICKING_SLIP), documents(order, DELIVERY)
    assert invoice.content["buyer"]["address"][-1] == note.content["deliver_to"][-1] == country
    assert slip.content["deliver_to"][-1] == "Germany", "it is the staff's"


def test_what_customers_typed_is_text_on_the_page(
    store: Store, place: Callable[..., Order], system: EventHandler
) -> None:
    product = factories.stocked(store, name="<script>alert(1)</script>")
    page = page_of(system.issue_invoice(number=place([product], store=store).number))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_staff_print_a_document_from_the_order_page(
    client: Any, staff: Callable[..., User], place: Callable[..., Order], system: EventHandler
) -> None:
    order = place(until="shipped")
    system.issue_invoice(number=order.number)
    client.force_login(staff("Store Manager", order.store))
    page = client.get(reverse("admin:orders_order_change", args=(order.pk,))).content.decode()
    for document in Document.objects.filter(order=order):
        address = reverse("admin:orders_document_print", args=(document.pk,))
        assert address in page
        printed = client.get(address)
        assert document.number in printed.content.decode()
        assert "unsafe-inline" not in printed.headers["Content-Security-Policy"]
        assert "style=" not in printed.content.decode()


def test_staff_of_another_store_see_no_document(
    client: Any, staff: Callable[..., User], place: Callable[..., Order], system: EventHandler
) -> None:
    invoice = system.issue_invoice(number=place().number)
    client.force_login(staff("Store Manager", factories.StoreFactory()))
    for name in ("print", "pdf", "change"):
        assert client.get(reverse(f"admin:orders_document_{name}", args=(invoice.pk,))).status_code == 404


def test_the_button_issues_the_invoice_once(
    client: Any, staff: Callable[..., User], place: Callable[..., Order]
) -> None:
    order = place()
    client.force_login(staff("Customer Service"))
    address = reverse("admin:orders_order_do", args=(order.pk, "issue-invoice"))
    form = {"version": order.version, "note": ""}
    assert client.post(address, form).status_code == 302
    assert client.post(address, form).status_code == 409
    assert len(documents(order, INVOICE)) == 1


def test_a_pdf_is_made_by_a_worker_and_says_what_the_page_says(
    client: Any, staff: Callable[..., User], place: Callable[..., Order], store: Store, work: Any, system: EventHandler
) -> None:
    pytest.importorskip("weasyprint", reason="the extra pdf is not installed")
    DocumentSeries.objects.create(store=store, kind=INVOICE, prefix="R/", makes_pdf=True)
    order = place([("10.00", 2)], store=store)
    invoice = system.issue_invoice(number=order.number)
    assert not DocumentFile.objects.exists()
    work()
    client.force_login(staff("Store Manager", store))
    answer = client.get(reverse("admin:orders_document_pdf", args=(invoice.pk,)))
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.content)).pages)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="R-00001.pdf"'
    assert "R/00001" in text
    assert "€20.00" in text


def test_every_sheet_of_a_pdf_says_which_document_it_belongs_to(
    place: Callable[..., Order], system: EventHandler
) -> None:
    pytest.importorskip("weasyprint", reason="the extra pdf is not installed")
    invoice = system.issue_invoice(number=place([("1.00", 1)] * 30).number)
    sheets = [sheet.extract_text() for sheet in PdfReader(io.BytesIO(pdf_of(invoice))).pages]
    assert len(sheets) > 1
    assert all(invoice.number in sheet for sheet in sheets)


def test_without_the_extra_there_is_the_page_and_a_plain_word(
    client: Any, staff: Callable[..., User], place: Callable[..., Order], system: EventHandler, monkeypatch: Any
) -> None:
    monkeypatch.setattr("orders.processing.printing.find_spec", lambda name: None)
    invoice = system.issue_invoice(number=place().number)
    client.force_login(staff("Admin"))
    address = reverse("admin:orders_document_do", args=(invoice.pk, "make-pdf"))
    answer = client.post(address)
    assert answer.status_code == 409
    assert "install the extra" in answer.content.decode()
    assert client.get(reverse("admin:orders_document_print", args=(invoice.pk,))).status_code == 200


def test_the_first_number_of_a_series_can_be_chosen_until_it_is_used(
    client: Any, staff: Callable[..., User], place: Callable[..., Order], system: EventHandler, store: Store
) -> None:
    series = DocumentSeries.objects.create(store=store, kind=INVOICE, prefix="R", next_number=1)
    client.force_login(staff("Store Manager", store))
    address = reverse("admin:orders_documentseries_change", args=(series.pk,))
    form = {"prefix": "R", "next_number": 500, "issue_when": "by_hand"}
    client.post(address, form)
    assert system.issue_invoice(number=place(store=store).number).number == "R00500"
    client.post(address, {**form, "next_number": 7})
    series.refresh_from_db()
    assert series.next_number == 501


def test_refused_invoices_say_why(place: Callable[..., Order], system: EventHandler) -> None:
    order = place()
    system.issue_invoice(number=order.number)
    with pytest.raises(Refused, match="has an invoice already"):
        system.issue_invoice(number=order.number)
