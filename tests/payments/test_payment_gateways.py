"""The gateways themselves: keys, limits, settings."""

from decimal import Decimal

import pytest

from payments import gateways
from payments.gateways import DemoGateway, GatewayRequest, KeyReusedAtGateway, get_gateway
from payments.models import DemoGatewayEntry

pytestmark = pytest.mark.django_db


def ask(operation, amount, *, key, payment=""):
    request = GatewayRequest(key=key, amount=Decimal(amount), currency="EUR", payment_reference=payment)
    return getattr(DemoGateway(), operation)(request)


def test_the_demo_gateway_knows_its_keys():
    first = ask("authorize", "10", key="a")
    assert ask("authorize", "10", key="a") == first == DemoGateway().lookup(key="a")
    assert DemoGatewayEntry.objects.count() == 1
    with pytest.raises(KeyReusedAtGateway):
        ask("authorize", "11", key="a")
    with pytest.raises(KeyReusedAtGateway):
        ask("capture", "10", key="a", payment=first.reference)
    assert DemoGateway().lookup(key="b") is None


def test_the_demo_gateway_keeps_its_limits():
    payment = ask("authorize", "100", key="a").reference
    assert ask("capture", "60", key="b", payment=payment).status == "succeeded"
    assert ask("capture", "40.01", key="c", payment=payment).status == "declined"
    assert ask("void", "30", key="d", payment=payment).status == "succeeded"
    assert ask("capture", "10.01", key="e", payment=payment).status == "declined"
    assert ask("refund", "60.01", key="f", payment=payment).status == "declined"
    assert ask("refund", "60", key="g", payment=payment).status == "succeeded"
    declined = ask("refund", "0.01", key="h", payment=payment)
    assert (declined.status, declined.message) == ("declined", "Only €0.00 is left to do this with.")
    assert ask("refund", "1", key="i", payment="of nobody").status == "declined"


def test_an_unknown_gateway_is_refused_by_name():
    with pytest.raises(gateways.UnknownGateway) as no:
        get_gateway("paypal")
    known = "demo, loyalty, manual, store_credit"
    assert str(no.value) == f"There is no payment gateway “paypal”. There are: {known} (setting PAYMENT_GATEWAYS)."


@pytest.mark.parametrize(
    "path, error",
    [
        ("payments.gateways.DemoGateway", None),
        ("payments.gateways.ManualGateway", None),
        ("payments.gateways.Nothing", "payments.E001"),
        ("nowhere.Gateway", "payments.E001"),
        ("decimal.Decimal", "payments.E002"),
    ],
)
def test_the_setting_is_checked_at_the_start(settings, path, error):
    settings.PAYMENT_GATEWAYS = {"x": path}
    assert [found.id for found in gateways.check_gateways(None)] == ([error] if error else [])


def test_a_demo_gateway_on_a_real_desk_is_warned_of(settings):
    settings.DEBUG = settings.DEMO = False
    assert [found.id for found in gateways.check_no_demo_gateway(None)] == ["payments.W001"]
    settings.DEMO = True
    assert gateways.check_no_demo_gateway(None) == []


class Fine(DemoGateway):
    def __init__(self, *, account: str = ""): ...


class NeedsArguments(DemoGateway):
    def __init__(self, settings): ...


class LacksItsKey(DemoGateway):
    def __init__(self):
        raise KeyError("OUR_KEY is missing")


class OtherArguments(DemoGateway):
    def lookup(self, key): ...


class HalfOfWebhooks(DemoGateway):
    def verify_webhook(self, headers, body): ...


@pytest.mark.parametrize(
    "code, gateway, told",
    [
        ("our-bank", Fine, None),
        ("our bank", Fine, "a-z"),
        ("bank", NeedsArguments, "made without arguments"),
        ("bank", LacksItsKey, "OUR_KEY is missing"),
        ("bank", OtherArguments, "lookup cannot be called as the desk calls it"),
        ("bank", HalfOfWebhooks, "webhooks need both"),
    ],
)
def test_a_gateway_that_the_desk_could_not_call_is_refused_at_start(settings, code, gateway, told):
    settings.PAYMENT_GATEWAYS = {code: f"{__name__}.{gateway.__name__}"}
    found = gateways.check_gateways(None)
    assert [error.id for error in found] == (["payments.E006"] if told else [])
    assert all(told in error.msg for error in found)
