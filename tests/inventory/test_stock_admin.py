"""The stock's admin pages: who may do what, that looking changes nothing, and that a double submit is one movement."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inventory import services
from inventory.models import Location, StockMovement, StockRecord
from inventory.services import Move
from shop.models import Store

pytestmark = pytest.mark.django_db

ACTIONS = {
    "receive": ("receive_stock", {"quantity": 5, "reference": "D-17"}, (15, 2, 3, 0)),
    "adjust": ("adjust_stock", {"bucket": "sellable", "counted": 8, "note": "Count"}, (8, 2, 3, 0)),
    "reclassify": ("adjust_stock", {"quantity": 1, "source": "quarantine", "target": "damaged"}, (10, 2, 2, 1)),
    "write-off": ("write_off_stock", {"quantity": 3, "bucket": "quarantine", "note": "Wet"}, (10, 2, 0, 0)),
    "threshold": ("change_stockrecord", {"threshold": 4}, (10, 2, 3, 0)),
}
BEFORE = (10, 2, 3, 0)


@pytest.fixture
def record(stocked) -> StockRecord:
    record = stocked(10, allocated=2)
    services.take_back(moves_by_disposition={"quarantine": [Move(record.pk, 3, f"return:{record.pk}")]})
    return record


def page(record: StockRecord, action: str) -> str:
    return reverse("admin:inventory_stockrecord_do", args=(record.pk, action))


@pytest.mark.parametrize("name", ACTIONS)
def test_with_the_permission_the_action_is_shown_and_done(name, record, new_staff, client, levels, store):
    permission, data, after = ACTIONS[name]
    client.force_login(new_staff(permission, stores=[store]))
    change_page = client.get(reverse("admin:inventory_stockrecord_change", args=(record.pk,)))
    assert page(record, name) in change_page.content.decode()
    assert client.get(page(record, name)).status_code == 200
    assert levels(record) == BEFORE
    answer = client.post(page(record, name), {"once": uuid.uuid4(), **data})
    assert answer.status_code == 302
    assert levels(record) == after
    record.refresh_from_db()
    if name == "threshold":
        assert record.low_stock_threshold == 4
    else:
        assert record.movements.first().actor_name == "Ada Berg"
    assert list(services.verify()) == []


@pytest.mark.parametrize("name", ACTIONS)
def test_without_the_permission_or_in_another_store_nothing_happens(name, record, new_staff, client, levels, store):
    permission, data, _ = ACTIONS[name]
    others = {codename for codename, *_ in ACTIONS.values()} - {permission}
    elsewhere = Store.objects.create(code="elsewhere", name="Elsewhere")
    count = StockMovement.objects.count()
    for user, status in [
        (new_staff(*others, stores=[store]), 403),
        (new_staff(permission, stores=[elsewhere]), 404),
        (new_staff(permission), 404),
    ]:
        client.force_login(user)
        assert client.post(page(record, name), {"once": uuid.uuid4(), **data}).status_code == status
    client.logout()
    assert client.post(page(record, name), data).status_code == 302
    assert levels(record) == BEFORE
    assert StockMovement.objects.count() == count
    assert StockRecord.objects.get(pk=record.pk).low_stock_threshold is None


def test_a_page_sent_twice_books_once_and_says_so(record, new_staff, client, levels):
    client.force_login(new_staff("receive_stock", everywhere=True))
    data = {"once": uuid.uuid4(), "quantity": 5}
    for words in ("5 units received.", "This was already booked; nothing has changed."):
        answer = client.post(page(record, "receive"), data, follow=True)
        assert words in answer.content.decode()
    assert levels(record) == (15, 2, 3, 0)


@pytest.mark.parametrize(
    "name, data",
    [
        ("receive", {"quantity": 0}),
        ("receive", {"quantity": "many"}),
        ("adjust", {"bucket": "sellable", "counted": 8, "note": ""}),
        ("adjust", {"bucket": "sellable", "counted": 1, "note": "Count"}),
        ("write-off", {"quantity": 9, "bucket": "sellable", "note": "Lost"}),
        ("write-off", {"quantity": 1, "bucket": "shelf", "note": "Lost"}),
        ("reclassify", {"quantity": 1, "source": "damaged", "target": "sellable"}),
        ("reclassify", {"quantity": 1, "source": "damaged", "target": "damaged"}),
    ],
)
def test_wrong_input_is_shown_on_the_page_and_changes_nothing(name, data, record, new_staff, client, levels):
    client.force_login(new_staff("receive_stock", "adjust_stock", "write_off_stock", everywhere=True))
    assert client.post(page(record, name), {"once": uuid.uuid4(), **data}).status_code in {200, 409}
    assert levels(record) == BEFORE


def test_the_page_shows_the_latest_movements_and_no_field_to_edit(record, new_staff, client):
    services.receive(
        stock_record_id=record.pk, quantity=4, key="d", reference="D-99", note="<b>late</b>", actor_name="Bo"
    )
    client.force_login(new_staff("change_stockrecord", everywhere=True))
    address = reverse("admin:inventory_stockrecord_change", args=(record.pk,))
    html = client.get(address).content.decode()
    assert "D-99" in html
    assert '<td class="number">+4</td>' in html
    assert "&lt;b&gt;late&lt;/b&gt;" in html
    assert 'name="on_hand"' not in html
    assert client.post(address, {"on_hand": 999}).status_code == 403


def test_staff_see_the_stock_of_their_stores_only(record, stocked, new_staff, client, store):
    other = Location.objects.create(code="o", name="Other", store=Store.objects.create(code="o", name="Other"))
    foreign = stocked(3, location=other, sku="FOREIGN")
    services.set_threshold(stock_record_id=foreign.pk, threshold=9)
    user = new_staff("view_stockmovement", "view_stockalert", "view_location", "add_stockrecord", stores=[store])
    client.force_login(user)
    for model in ("stockrecord", "stockmovement", "stockalert", "location"):
        answer = client.get(reverse(f"admin:inventory_{model}_changelist"))
        assert answer.status_code == 200
        assert not [
            row for row in answer.context["cl"].result_list if "Other" in str(getattr(row, "stock_record", row))
        ]
    data = {"product": record.product_id, "location": other.pk}
    assert client.post(reverse("admin:inventory_stockrecord_add"), data).status_code == 200
    assert not StockRecord.objects.filter(product=record.product_id, location=other).exists()


def test_a_record_is_added_empty(new_product, warehouse, new_staff, client, levels):
    client.force_login(new_staff("add_stockrecord", "view_product", everywhere=True))
    product = new_product()
    data = {"product": product.pk, "location": warehouse.pk, "on_hand": 50}
    assert client.post(reverse("admin:inventory_stockrecord_add"), data).status_code == 302
    assert levels(product.stock_records.get()) == (0, 0, 0, 0)


def test_the_list_can_be_narrowed_to_what_runs_low(stocked, new_staff, client):
    low, fine, out = stocked(3), stocked(30), stocked(0)
    for record in (low, fine):
        services.set_threshold(stock_record_id=record.pk, threshold=5)
    client.force_login(new_staff(everywhere=True))
    for level, expected in [("low", {low}), ("out", {out}), ("quarantine", set())]:
        answer = client.get(reverse("admin:inventory_stockrecord_changelist"), {"level": level})
        assert set(answer.context["cl"].result_list) == expected


def test_movements_and_alerts_can_be_searched_but_not_written(record, new_staff, client):
    names = [
        f"{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in ("stockmovement", "stockalert")
    ]
    client.force_login(new_staff(*names, everywhere=True))
    services.receive(stock_record_id=record.pk, quantity=4, key="d", reference="D-99")
    movements = reverse("admin:inventory_stockmovement_changelist")
    for term, count in [("D-99", 1), (record.product.sku, 4), ("nothing", 0)]:
        assert client.get(movements, {"q": term}).context["cl"].result_count == count
    assert client.get(movements, {"kind__exact": "received"}).context["cl"].result_count == 2
    pk = record.movements.first().pk
    assert client.get(reverse("admin:inventory_stockmovement_add")).status_code == 403
    assert client.get(reverse("admin:inventory_stockmovement_change", args=(pk,))).status_code == 200
    assert client.post(reverse("admin:inventory_stockmovement_change", args=(pk,)), {"note": "x"}).status_code == 403
    assert client.post(reverse("admin:inventory_stockmovement_delete", args=(pk,)), {"post": "yes"}).status_code == 403
    assert client.get(reverse("admin:inventory_stockalert_add")).status_code == 403


@pytest.mark.parametrize("model", ["stockrecord", "stockmovement", "stockalert"])
def test_the_lists_take_as_many_queries_for_many_rows_as_for_few(model, stocked, new_staff, client):
    client.force_login(new_staff("view_stockmovement", "view_stockalert", everywhere=True))
    counts = []
    for rows in (2, 15):
        for _ in range(rows):
            services.set_threshold(stock_record_id=stocked(1).pk, threshold=5)
        with CaptureQueriesContext(connection) as queries:
            client.get(reverse(f"admin:inventory_{model}_changelist"))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_products_to_choose_from_are_in_one_order(client, staff, stocked) -> None:
    """Their pages would overlap else, and Django warns of it."""
    stocked(1)
    client.force_login(staff("Admin"))
    asked = {"app_label": "inventory", "model_name": "stockrecord", "field_name": "product", "term": ""}
    assert len(client.get(reverse("admin:autocomplete"), asked).json()["results"]) == 1
