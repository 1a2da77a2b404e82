"""Fixtures of the orders' tests: another system that manages the shop's orders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.orders.fake_order_management import GATEWAY, SECRET, FakeOrderManagement


@pytest.fixture
def fake(settings: Any) -> Iterator[FakeOrderManagement]:
    """An order management system outside, which the desk asks."""
    system = FakeOrderManagement()
    settings.ORDER_MANAGEMENT = GATEWAY
    settings.ORDER_MANAGEMENT_URL = system.url
    settings.ORDER_MANAGEMENT_SECRET = SECRET
    settings.ORDER_MANAGEMENT_TIMEOUT_SECONDS = 0.3
    yield system
    system.close()
    assert system.bad == [], "every request is signed"
