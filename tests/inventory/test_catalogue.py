"""What a product may be, and how the catalogue shows it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inventory.models import Location, Product
from shop.models import Store

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("attributes", [[], "red", 3, None])
def test_attributes_are_an_object(attributes):
    product = Product(sku="A", name="Mug", price=Decimal("1.00"), attributes=attributes)
    with pytest.raises(ValidationError) as refused:
        product.full_clean()
    assert "attributes" in refused.value.message_dict


@pytest.mark.parametrize("fields", [{"price": -1}, {"tax_rate": -1}, {"tax_rate": 101}])
def test_impossible_prices_and_taxes_are_refused_by_form_and_database(fields, new_product):
    product = Product(**{"sku": "A", "name": "Mug", "price": Decimal(1), **fields})
    with pytest.raises(ValidationError):
        product.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        new_product(**fields)


def test_an_image_too_large_or_not_an_image_is_refused():
    for name, content in [("x.svg", b"<svg/>"), ("x.png", b"\0" * 5_000_001)]:
        product = Product(sku="A", name="Mug", price=Decimal(1), image=SimpleUploadedFile(name, content))
        with pytest.raises(ValidationError) as refused:
            product.full_clean()
        assert refused.value.message_dict.keys() == {"image"}


def test_the_catalogue_sums_what_is_available_in_ones_own_stores_without_a_query_per_row(
    stocked, new_product, new_staff, client, store
):
    other = Location.objects.create(code="o", name="Other", store=Store.objects.create(code="o", name="Other"))
    record = stocked(7, allocated=2, name="Blue mug")
    stocked(100, location=other, product=record.product)
    new_product(track_stock=False, name="Voucher")
    page = reverse("admin:inventory_product_changelist")
    for user, available in [
        (new_staff("view_product", everywhere=True), 105),
        (new_staff("view_product", stores=[store]), 5),
    ]:
        client.force_login(user)
        answer = client.get(page, {"q": "blue"})
        assert f'<td class="field-stock_available">{available}</td>' in answer.content.decode()
    with CaptureQueriesContext(connection) as few:
        client.get(page)
    for _ in range(10):
        stocked(1)
    with CaptureQueriesContext(connection) as many:
        client.get(page)
    assert len(many) == len(few)
