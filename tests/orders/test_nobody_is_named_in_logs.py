"""What goes wrong with a customer's order names no customer in the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orders import tasks
from orders.processing import EventHandler
from shop.models import Store, User
from tests import factories
from tests.orders.asking import by, fresh

Staff = Callable[..., User]
Work = Callable[[], int]
pytestmark = pytest.mark.django_db


class Talkative(EventHandler):
    """A shop's own handler, whose error names the customer."""

    def execute_cancellation(self, d: Any, plan: Any, **kwargs: Any) -> Any:
        raise ValueError(f"cannot cancel for {d.order.email}")


def test_what_goes_wrong_in_bulk_names_no_customer_in_the_log(
    staff: Staff, store: Store, work: Work, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Talkative"
    order = factories.place_order(store=store, email="ada@example.com")
    run = by(staff("Admin")).start_bulk_run(orders=[(order.pk, fresh(order).version)], reason="out_of_stock")
    work()
    assert run.items.get().state == "failed"
    assert "execute_cancellation" in caplog.text
    assert "ada@example.com" not in caplog.text


def test_an_unpaid_order_that_cannot_be_cancelled_names_no_customer_in_the_log(
    store: Store, settings: Any, caplog: pytest.LogCaptureFixture, clock: Any
) -> None:
    settings.ORDER_EVENT_HANDLER = f"{__name__}.Talkative"
    factories.place_order(store=store, email="ada@example.com", pay=False)
    clock.shift(timedelta(days=30))
    tasks.cancel_unpaid()
    assert "execute_cancellation" in caplog.text
    assert "ada@example.com" not in caplog.text
