"""What every list of the admin promises: it says that it is empty and why, and when its times are."""

from __future__ import annotations

from datetime import datetime

import pytest
from bs4 import BeautifulSoup
from django.contrib import admin
from django.db import models
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.formats import date_format

from orders.models import DocumentSeries
from shop.models import Store
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def chief(client: Client) -> Client:
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    return client


def lists() -> list[type[models.Model]]:
    """The tables whose admin page is a list."""
    return [model for model, shown in admin.site._registry.items() if model._meta.model_name != "cancellationfigure"]


def page_of(client: Client, model: type[models.Model], **query: str) -> BeautifulSoup:
    answer = client.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"), query)
    assert answer.status_code == 200, model
    return BeautifulSoup(answer.content, "html.parser")


def test_a_list_without_rows_says_so_in_words(chief: Client) -> None:
    silent = []
    for model in lists():
        page = page_of(chief, model)
        if page.select_one("#result_list"):
            assert not page.select_one(".desk-empty"), model
        elif len(page.select(".desk-empty-title")) != 1 or page.select_one(".paginator"):
            silent.append(model._meta.label)
        # Nothing was looked for: neither a number of results nor a way back to what is shown already.
        assert "Show all" not in page.get_text(), model
    assert not silent


def test_a_search_that_finds_nothing_leads_back_to_the_whole_list(chief: Client) -> None:
    searched = [model for model in lists() if admin.site._registry[model].search_fields]
    assert len(searched) > 10
    for model in searched:
        page = page_of(chief, model, q="nothing-is-called-so")
        assert not page.select("#result_list"), model
        assert page.select_one(".desk-empty a[href='?']"), model
        assert "0 results" in page.select_one("#changelist-search").get_text(), model


def test_when_documents_are_issued_is_said_of_invoices_only(chief: Client, store: Store) -> None:
    for kind in ("invoice", "delivery_note"):
        DocumentSeries.objects.create(store=store, kind=kind, prefix="X")
    page = page_of(chief, DocumentSeries)
    rows = page.select("#result_list tbody tr")
    told = {row.select_one(".field-kind").get_text(): row.select_one(".field-issued").get_text() for row in rows}
    assert told == {"Invoice": "By hand", "Delivery note": "With what it documents"}
    note = DocumentSeries.objects.get(kind="delivery_note")
    answer = chief.get(reverse("admin:orders_documentseries_change", args=(note.pk,)))
    assert "issue_when" not in answer.content.decode()


@pytest.mark.parametrize(
    ("language", "day", "moment"),
    [
        ("en", "12 Nov 2026", "12 Nov 2026, 14:05"),
        ("de", "12.11.2026", "12.11.2026 14:05"),
        ("tr", "12 Kas 2026", "12 Kas 2026 14:05"),
    ],
)
def test_no_short_date_can_be_read_as_another_day(language: str, day: str, moment: str) -> None:
    at = datetime(2026, 11, 12, 14, 5)
    with translation.override(language):
        assert (date_format(at, "SHORT_DATE_FORMAT"), date_format(at, "SHORT_DATETIME_FORMAT")) == (day, moment)


def test_every_page_says_in_which_zone_its_times_are(chief: Client, settings: pytest.FixtureRequest) -> None:
    settings.TIME_ZONE = "Europe/Istanbul"  # type: ignore[attr-defined]
    assert "Time zone: Europe/Istanbul" in page_of(chief, Store).select_one(".desk-foot").get_text()
