"""What the inventory's tests share: a store with a warehouse, stocked products, staff, and threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission

from inventory import services
from inventory.models import Location, Product, StockRecord
from inventory.services import Move
from shop.models import Store, User

numbers = itertools.count(1)


@pytest.fixture
def store(db) -> Store:
    return Store.objects.create(code=f"store-{next(numbers)}", name="Berlin")


@pytest.fixture
def warehouse(store: Store) -> Location:
    return Location.objects.create(code=f"warehouse-{next(numbers)}", name="Warehouse", store=store)


@pytest.fixture
def new_product() -> Callable[..., Product]:
    def create(**fields: Any) -> Product:
        n = next(numbers)
        return Product.objects.create(**{"sku": f"SKU-{n}", "name": f"Mug {n}", "price": Decimal("9.90"), **fields})

    return create


@pytest.fixture
def stocked(request, new_product) -> Callable[..., StockRecord]:
    """A record that so many units were received at, by the service, so that the books are right."""

    def create(
        on_hand: int = 10, *, allocated: int = 0, location: Location | None = None, **product: Any
    ) -> StockRecord:
        location = location or request.getfixturevalue("warehouse")
        item = product.pop("product", None) or new_product(**product)
        record = services.ensure_records(product_ids=[item.pk], location_id=location.pk)[item.pk]
        if on_hand:
            services.receive(stock_record_id=record.pk, quantity=on_hand, key=f"receive:{next(numbers)}")
        if allocated:
            services.allocate(moves=[Move(record.pk, allocated, f"allocate:{next(numbers)}")])
        record.refresh_from_db()
        return record

    return create


@pytest.fixture
def new_staff(db) -> Callable[..., User]:
    """Staff with these permissions and stores; they see stock records."""

    def create(*codenames: str, stores: list[Store] | None = None, everywhere: bool = False) -> User:
        user = User.objects.create(username=f"staff-{next(numbers)}", is_staff=True, first_name="Ada", last_name="Berg")
        names = {"view_stockrecord", *codenames} | ({"work_all_stores"} if everywhere else set())
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        user.stores.set(stores or [])
        return user

    return create


def levels(record: StockRecord) -> tuple[int, int, int, int]:
    """on_hand, allocated, quarantine, damaged, as the database has them."""
    return StockRecord.objects.values_list("on_hand", "allocated", "quarantine", "damaged").get(pk=record.pk)


@pytest.fixture(name="levels")
def levels_fixture() -> Callable[[StockRecord], tuple[int, int, int, int]]:
    return levels
