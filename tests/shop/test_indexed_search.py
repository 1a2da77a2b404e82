"""A search by a whole number reads an index and no table, on whichever database the tests run."""

import re

import pytest
from django.contrib import admin
from django.db import connection
from django.test import RequestFactory

from orders.admin.order import OrderAdmin
from orders.models import Order
from payments.models import WebhookReceived
from shop.search import IndexedSearch, as_typed, found

pytestmark = pytest.mark.django_db

TERM = "ab-1234"


def searched():
    return [model for model, its in admin.site._registry.items() if isinstance(its, (IndexedSearch, OrderAdmin))]


def plan_of(rows) -> str:
    """How the database will find the rows, were the tables as long as in a large shop."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    return rows.explain()


def assert_by_index(rows, terms) -> None:
    plan = plan_of(rows)
    if connection.vendor == "postgresql":
        # What the term is compared with is the condition of an index; a LIKE is looked at once more in what that finds,
        # which is told below an index scan and above a bitmap scan.
        by_index = re.sub(r"(Index Cond: .*\n\s*)Filter: .* ~~ .*", r"\1", plan)
        by_index = re.sub(r"Filter: .* ~~ .*(\n\s*->  Bitmap Index Scan .*\n\s*Index Cond: )", r"\1", by_index)
        reading = [line for line in by_index.splitlines() if any(term in line for term in terms)]
        assert reading
        assert all("Index Cond" in line or "Recheck Cond" in line for line in reading), plan
    else:
        assert "SCAN" not in plan, plan


def test_most_long_lists_are_searched_so() -> None:
    assert len(searched()) > 20


@pytest.mark.parametrize("model", searched(), ids=lambda model: model._meta.label)
def test_each_number_is_looked_up_in_an_index(model) -> None:
    its = admin.site._registry[model]
    request = RequestFactory().get("/")
    if model is Order:
        rows = its.get_search_results(request, model._default_manager.order_by(), TERM)[0]
    else:
        rows = model._default_manager.filter(pk__in=found(model, its.get_search_fields(request), TERM)).order_by()
    assert_by_index(rows.values("pk"), as_typed(TERM))


@pytest.mark.parametrize("model", searched(), ids=lambda model: model._meta.label)
def test_a_long_list_opens_without_reading_all_of_its_table(model, admin_user, django_assert_max_num_queries) -> None:
    its = admin.site._registry[model]
    request = RequestFactory().get("/")
    request.user = admin_user
    with django_assert_max_num_queries(20) as asked:
        shown = its.get_changelist_instance(request)
        assert list(shown.result_list) == []
    its_own = [query["sql"] for query in asked.captured_queries if f'FROM "{model._meta.db_table}"' in query["sql"]]
    counts = [sql for sql in its_own if sql.startswith("SELECT COUNT(")]
    assert counts
    assert all("LIMIT" in sql and "GROUP BY" not in sql for sql in counts), counts
    # As the admin's own filters ask for the values that a column has.
    assert not [sql for sql in its_own if sql.startswith("SELECT DISTINCT")]


def test_an_events_id_is_looked_up_with_its_gateway() -> None:
    assert WebhookReceived in searched()
    rows = WebhookReceived.objects.filter(gateway__in=["demo", "stripe"], event_id__in=as_typed(TERM))
    assert_by_index(rows.order_by().values("pk"), as_typed(TERM))


def test_the_check_sees_a_comparison_that_no_index_answers() -> None:
    with pytest.raises(AssertionError):
        assert_by_index(Order.objects.filter(number__iexact=TERM).order_by().values("pk"), {TERM.upper()})
