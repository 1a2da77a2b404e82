"""Working days: where the customer is, a period that ends on a public holiday, Saturday or Sunday ends later. Pure.

Regulation (EEC, Euratom) 1182/71, article 3(4). The library `holidays` knows which days are public holidays, of a
country and, where the address names it, of its region.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from holidays import country_holidays

from orders.models import Order
from orders.rules.regions import region_code

SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody lives: a country of two letters, and what the address says of the region, perhaps nothing."""

    country: str = ""
    region: str = ""

    @classmethod
    def of(cls, order: Order) -> Place:
        """Where an order's customer gets the goods, else where its store is."""
        address = order.shipping_address
        if address is not None:
            return cls(address.country.upper(), address.state.strip().casefold())
        return cls(order.store.country.upper()) if order.store_id else cls()


def next_working_day(day: date, place: Place) -> date:
    """The day itself, or the first one after it that is no Saturday, Sunday or public holiday."""
    while day.weekday() >= SATURDAY or day in public_holidays(place, day.year):
        day += timedelta(days=1)
    return day


@lru_cache(maxsize=256)
def public_holidays(place: Place, year: int) -> frozenset[date]:
    """The public holidays of a place in a year; none for a country that nobody knows.

    Of a region that is not named, or not known, those of all of the country.
    """
    try:
        everywhere = country_holidays(place.country, years=year)
    except NotImplementedError:
        return frozenset()
    region = region_code(place.country, place.region)
    return frozenset(everywhere if region is None else country_holidays(place.country, subdiv=region, years=year))
