"""The usual mistakes of a shop's own code are named at start, with what to do, and not met by a customer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from rest_framework import serializers

from orders.api.serializers import OrderSerializer
from orders.processing import EventHandler

HERE = "tests.orders.test_shop_checks"


class NoHandler: ...


class FewArguments(EventHandler):
    def handle_shipping_event(self, order, event_type): ...


class NamelessArguments(EventHandler):
    def cancel(self, number): ...


class Misspelt(EventHandler):
    def handle_shiping_event(self, order, event_type, lines, line_quantities, **kwargs): ...


class GoodHandler(EventHandler):
    def handle_shipping_event(self, order, event_type, lines, line_quantities, **kwargs): ...

    def cancel(self, **kwargs): ...

    def cancel_policy(self, order): ...

    def print_label(self, order): ...


class NoSuchField(OrderSerializer):
    gift = serializers.CharField(source="order.gitf", default="")


class NoSuchMethod(OrderSerializer):
    gift = serializers.SerializerMethodField()


class GoodSerializer(OrderSerializer):
    gift = serializers.CharField(source="order.extra.gift", default="")
    store = serializers.CharField(source="order.store.name")


def found() -> list[CheckMessage]:
    return [fault for fault in run_checks() if str(fault.id).startswith("orders.")]


@pytest.mark.parametrize(
    "name, told, hint",
    [
        ("NoHandler", "orders.E011", "class MyHandler(EventHandler)"),
        ("FewArguments", "orders.E012", "handle_shipping_event(self, order:"),
        ("NamelessArguments", "orders.E012", "cancel(self, *, number:"),
        ("Misspelt", "orders.W003", "Was handle_shipping_event meant?"),
        ("Nowhere", "orders.E006", "PYTHONPATH"),
    ],
)
def test_a_handler_that_the_desk_could_not_call(name: str, told: str, hint: str, settings: Any) -> None:
    settings.ORDER_EVENT_HANDLER = f"{HERE}.{name}"
    (fault,) = found()
    assert (fault.id, hint in str(fault.hint)) == (told, True), fault


@pytest.mark.parametrize("name, told", [("NoSuchField", "'gitf'"), ("NoSuchMethod", "no method get_gift")])
def test_a_serializer_whose_field_reads_nothing(name: str, told: str, settings: Any) -> None:
    settings.ORDER_DETAIL_SERIALIZER = f"{HERE}.{name}"
    (fault,) = found()
    assert (fault.id, told in fault.msg) == ("orders.E013", True), fault


def test_what_is_right_is_left_in_peace(settings: Any, tmp_path: Path) -> None:
    settings.ORDER_EVENT_HANDLER, settings.ORDER_LIST_SERIALIZER = f"{HERE}.GoodHandler", f"{HERE}.GoodSerializer"
    settings.EXTRA_CANCEL_RULES = {
        "extra_direct_cancellable_statuses": ["preparing", 520],
        "has_invoice": True,
        "hour_gap": {"is_active": True, "time": 60},
    }
    settings.CANCELLATION_FALLBACK_RULES = {"expired": True}
    assert found() == []


@pytest.mark.parametrize(
    "rules, fallback, told",
    [
        ({"hour_gap": 60}, {}, "hour_gap"),
        ({"hour_gap": {"minutes": 60}}, {}, "There are: is_active, time."),
        ({"has_invoices": True}, {}, "'has_invoices', which means nothing"),
        ({"extra_direct_cancellable_statuses": ["prepering"]}, {}, "There are: new, created"),
        ({"extra_direct_cancellable_statuses": "preparing"}, {}, "not of the kind"),
        ({}, {"expird": True}, "There are: status, invoice, expired."),
    ],
)
def test_cancel_rules_that_say_nothing(
    rules: dict[str, Any], fallback: dict[str, Any], told: str, settings: Any
) -> None:
    settings.EXTRA_CANCEL_RULES, settings.CANCELLATION_FALLBACK_RULES = rules, fallback
    (fault,) = found()
    assert (fault.id, told in fault.msg) == ("orders.E014", True), fault


@pytest.mark.parametrize(
    "name, words, told",
    [
        ("storefront/order.html", "one\n{% if %}", ("orders.E017", "order.html, line 2")),
        ("messages/order_shipped/body.txt", "{% translate 'no load is needed here' %}", None),
        ("messages/order_shipped/text.txt", "late", ("orders.W006", "replaces nothing")),
        ("documents/_ours.html", "a part of ours", None),
        ("ours/any.html", "a page of ours", None),
    ],
)
def test_templates_are_read_before_anybody_sees_them(
    name: str, words: str, told: tuple[str, str] | None, settings: Any, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(words)
    settings.SHOP_TEMPLATES = [tmp_path]
    (template,) = settings.TEMPLATES
    settings.TEMPLATES = [{**template, "DIRS": [tmp_path, *template["DIRS"]]}]
    assert [(fault.id, told is not None and told[1] in fault.msg) for fault in found()] == (
        [(told[0], True)] if told else []
    )


def test_an_address_of_another_system_that_nobody_asks(settings: Any) -> None:
    settings.ORDER_MANAGEMENT_URL = "http://127.0.0.1:9"
    (fault,) = found()
    assert fault.id == "orders.W004"
    settings.ORDER_MANAGEMENT = "orders.gateways.Nothing"
    assert [fault.id for fault in found()] == ["orders.E015"]
