"""The time to withdraw never ends on a public holiday of where the customer is, nor on a weekend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from django.utils import timezone
from holidays import country_holidays

from orders import rules
from orders.models import Facts, Order, OrderAddress, OrderLine
from orders.rules import Place
from orders.rules.regions import MORE_NAMES, region_code
from shop.models import Store
from tests import factories
from tests.orders.test_withdrawal import TERMS, at, line


@pytest.mark.parametrize(
    "country, region, delivered, until",
    [
        ("DE", "", "2025-09-19", "2025-10-06"),  # Unity Day, 3 October, is a Friday: over the weekend to Monday
        ("FR", "", "2025-09-19", "2025-10-03"),  # … and in France a day like any other
        ("DE", "", "2026-09-19", "2026-10-05"),  # in 2026 it is a Saturday: no day more than that
        ("DE", "", "2025-12-11", "2025-12-29"),  # 25 December is a Thursday, 26 a holiday too, then the weekend
        ("DE", "", "2025-12-12", "2025-12-29"),
        ("NL", "", "2025-12-11", "2025-12-29"),
        ("FR", "", "2025-12-11", "2025-12-26"),  # the 26th is a working day there
        ("DE", "", "2026-03-23", "2026-04-07"),  # Easter Monday, 6 April
        ("DE", "", "2026-03-20", "2026-04-07"),  # Good Friday, the weekend, Easter Monday
        ("DE", "", "2025-12-18", "2026-01-02"),  # New Year's Day: its holidays are the next year's
        ("DE", "Bayern", "2025-12-23", "2026-01-07"),  # Epiphany, where it is a holiday
        ("DE", "by", "2025-12-23", "2026-01-07"),
        ("DE", "Bavaria", "2025-12-23", "2026-01-07"),
        ("DE", "Berlin", "2025-12-23", "2026-01-06"),
        ("DE", "", "2025-12-23", "2026-01-06"),  # of a region that the address does not name, the country's count
        ("DE", "Middle-earth", "2025-12-23", "2026-01-06"),
        ("XX", "", "2025-09-19", "2025-10-03"),  # a country that nobody knows has weekends
        ("", "", "2025-09-20", "2025-10-06"),
    ],
)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
def test_a_last_day_that_is_a_public_holiday_moves_to_the_next_working_day(
    country: str, region: str, delivered: str, until: str, zone: str
) -> None:
    with timezone.override(zone):
        arrived = [line(delivered_at=f"{delivered}T12:00")]
        deadline = rules.withdrawal_deadline(arrived, TERMS, place=Place(country, region.casefold()))
        assert deadline is not None
        assert f"{timezone.localtime(deadline):%Y-%m-%d %H:%M}" == f"{until} 23:59"


@pytest.mark.parametrize(
    "country, code, names",
    [
        ("DE", "BY", "BY|DE-BY|bayern|Bavaria|Freistaat Bayern|Free State of Bavaria"),
        ("DE", "BW", "Baden-Württemberg|Baden-Wuerttemberg|baden wurttemberg|DE-BW"),
        ("DE", "TH", "Thüringen|Thueringen|Thuringia"),
        ("AT", "9", "Wien|Vienna|AT-9|9"),
        ("CH", "GE", "Genève|Geneva|Genf|Canton de Genève|CH-GE"),
        ("CH", "SG", "Sankt Gallen|St. Gallen|Saint-Gall"),
        ("ES", "CT", "Cataluña|Catalunya|Catalonia|ES-CT|Girona|Tarragona"),
        ("ES", "AN", "Sevilla|ES-SE|Andalucia|Andalusia"),
        ("ES", "MD", "Comunidad de Madrid|Madrid"),
        ("IT", "BZ", "Bolzano|South Tyrol|Südtirol|Provincia di Bolzano|IT-BZ"),
        ("US", "NY", "New York|US-NY|ny|State of New York"),
        ("GB", "SCT", "Scotland|GB-SCT"),
        ("DE", None, "|Middle-earth|AT-9|US-NY|Land|DE-|-"),
        ("XX", None, "XX-1|Anywhere"),
        ("", None, "|Bavaria"),
    ],
)
def test_a_region_is_known_by_its_code_and_by_its_names(country: str, code: str | None, names: str) -> None:
    found = {name: region_code(country, name) for name in names.split("|")}
    assert found == dict.fromkeys(found, code)


def test_every_name_of_ours_means_a_region_that_the_library_knows() -> None:
    for country, regions in MORE_NAMES.items():
        assert regions.keys() <= set(country_holidays(country).subdivisions), country
        for code, names in regions.items():
            for name in names.split("|"):
                assert region_code(country, name) in {code, name}, (country, name)


def test_where_the_goods_go_decides_else_where_the_store_is() -> None:
    delivered = [line(delivered_at="2025-09-19T12:00")]
    paris = OrderAddress(country="FR", city="Paris")
    for order, until in (
        (Order(store=Store(pk=1, country="DE"), shipping_address=paris), date(2025, 10, 3)),
        (Order(store=Store(pk=1, country="DE")), date(2025, 10, 6)),
        (Order(store=Store(pk=1, country="FR"), shipping_address=OrderAddress(country="de")), date(2025, 10, 6)),
    ):
        facts = Facts(order, delivered, [], [])
        plan = rules.plan_withdrawal(facts, None, TERMS, coming={}, declared_at=at("2025-10-04T10:00"))
        clock = rules.withdrawal_clock(facts, TERMS, as_of=at("2025-10-04T10:00"))
        assert plan.deadline is not None
        assert timezone.localtime(plan.deadline).date() == until
        assert (plan.deadline, plan.in_time) == (clock.deadline, clock.state == "running")


@pytest.mark.django_db
def test_it_costs_one_query_at_most(place: Callable[..., Order], django_assert_max_num_queries: object) -> None:
    order = place([("10.00", 1)], until="delivered")
    found = Order.objects.select_related("store").get(pk=order.pk)
    lines = list(OrderLine.objects.filter(order=order))
    with django_assert_max_num_queries(1):  # type: ignore[operator]
        assert rules.withdrawal_clock(Facts(found, lines, [], []), TERMS, as_of=timezone.now()).deadline
        assert factories.address().country == "DE"
