"""Stripe's gateway, with Stripe's own library, against our fake of Stripe."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.utils import timezone

from checkout.api.purchase import order_out
from orders.processing import PaymentChoice
from orders.processing.verify import verify
from payments import gateways
from payments.gateways import GatewayRequest, GatewayTimeout, GatewayUnavailable, Sent, get_gateway
from payments.gateways import stripe as stripe_gateway
from payments.gateways.stripe_objects import AmountNotSpeakable, from_minor, to_minor
from payments.models import Transaction
from shop import jobs
from shop.errors import Refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def books():
    """The whole desk's books; what they are worth beside Stripe's, each test says."""
    return lambda: list(verify())


def ask(operation, amount="100", *, key="k", payment="", currency="EUR", **details):
    request = GatewayRequest(
        key=key,
        amount=Decimal(amount),
        currency=currency,
        payment_reference=payment,
        merchant_reference="100001",
        details={"payment_method": "pm_card_visa", **details},
    )
    return getattr(get_gateway("stripe"), operation)(request)


def sent(operation, *, key="k", payment="", reference="", ago=timedelta(seconds=10)):
    now = timezone.now()
    request = GatewayRequest(key=key, amount=Decimal(100), currency="EUR", payment_reference=payment)
    return Sent(operation=operation, request=request, reference=reference, first=now - ago, last=now - ago)


def look_up(operation, *, key="k", **more):
    return get_gateway("stripe").lookup(key=key, sent=sent(operation, key=key, **more))


@pytest.mark.parametrize(
    "amount, currency, units",
    [("12.34", "EUR", 1234), ("1234", "JPY", 1234), ("5", "ISK", 500), ("1.230", "KWD", 1230), ("0.01", "USD", 1)],
)
def test_amounts_are_counted_in_stripes_units(amount, currency, units):
    assert to_minor(Decimal(amount), currency) == units
    assert from_minor(units, currency.lower()) == Decimal(amount)


def test_what_stripe_has_no_units_for_is_not_rounded(stripe):
    for amount, currency in [("1.234", "KWD"), ("0.5", "JPY"), ("0.001", "EUR"), ("5.50", "ISK"), ("0.01", "UGX")]:
        with pytest.raises(AmountNotSpeakable):
            to_minor(Decimal(amount), currency)
    assert ask("authorize", "1.234", currency="KWD").status == "declined"
    assert stripe.calls == []


def test_a_payment_from_hold_to_refund(stripe):
    held = ask("authorize", key="a")
    assert (held.status, stripe.moved()) == ("succeeded", {"authorize": 10000})
    taken = ask("capture", "60.50", key="b", payment=held.reference)
    assert taken.reference.startswith("ch_")
    # This card is captured once: Stripe has let the rest go, and says so.
    later = ask("capture", "10", key="c", payment=held.reference)
    assert (later.status, later.code) == ("declined", "payment_intent_unexpected_state")
    assert ask("void", "39.50", key="d", payment=held.reference).status == "succeeded"
    assert ask("refund", "60.50", key="e", payment=held.reference).status == "succeeded"
    assert stripe.moved() == {"authorize": 10000, "capture": 6050, "refund": 6050}
    keys = [key for method, _path, key in stripe.calls if method == "POST"]
    assert keys == ["a", "b", "c", "e"]
    assert get_gateway("stripe").api.payment_intents._requestor._options.stripe_version == "2026-10-28.endive"


def test_a_card_that_can_be_captured_in_parts_is(stripe):
    held = ask("authorize", payment_method="pm_card_several").reference
    for key, amount in [("b", "30"), ("c", "30.01")]:
        assert ask("capture", amount, key=key, payment=held).status == "succeeded"
    part = ask("void", "10", key="d", payment=held)
    assert (part.status, part.code) == ("needs_person", "partial_void")
    assert ask("void", "39.99", key="e", payment=held).status == "succeeded"
    assert stripe.moved() == {"authorize": 10000, "capture": 6001, "void": 3999}
    for key in "bc":
        assert look_up("capture", key=key, payment=held).status == "succeeded"
        assert ask("capture", "30" if key == "b" else "30.01", key=key, payment=held).status == "succeeded"
    assert look_up("capture", key="d", payment=held) is None


def test_a_declined_card_is_told_and_its_payment_ended(stripe):
    no = ask("authorize", payment_method="pm_card_declined")
    assert (no.status, no.code) == ("declined", "insufficient_funds")
    assert [intent["status"] for intent in stripe.intents.values()] == ["canceled"]
    # Asked again, and looked up after the answer had been lost: the same no.
    assert ask("authorize", payment_method="pm_card_declined").status == "declined"
    assert look_up("authorize").status == "declined"
    assert ask("authorize", key="z", payment_method="").code == "no_payment_method"


@pytest.mark.parametrize("ok, becomes", [(True, "succeeded"), (False, "declined")])
def test_three_d_secure_waits_for_the_customer(stripe, ok, becomes):
    waits = ask("authorize", payment_method="pm_card_3ds", return_url="https://shop.example/back")
    assert (waits.status, waits.next_action) == ("pending", {"type": "redirect", "url": f"{stripe.url}/3ds"})
    assert look_up("authorize", reference=waits.reference).status == "pending"
    stripe.finish_3ds(waits.reference, ok=ok)
    assert look_up("authorize", reference=waits.reference).status == becomes
    if not ok:
        assert stripe.intents[waits.reference]["status"] == "canceled"  # no other tab can confirm it any more


def test_the_storefront_hears_what_the_customer_has_to_do(stripe, place, work, books):
    details = {"payment_method": "pm_card_3ds"}
    order = place(payments=[PaymentChoice(gateway="stripe", details=details)])
    told = order_out(order)
    row = Transaction.objects.get()
    action = {"type": "client_secret", "client_secret": f"{row.gateway_reference}_secret_x"}
    assert (told["payment"], told["next_action"]) == ("pending", action)
    stripe.finish_3ds(row.gateway_reference)
    jobs.drain(clock=lambda: timezone.now() + timedelta(minutes=1))
    work()
    told = order_out(order)
    assert (told["payment"], told["next_action"]) == ("succeeded", None)
    row.refresh_from_db()
    assert row.next_action == {}
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


@pytest.mark.parametrize(
    "fault, error, done",
    [
        ("429", GatewayUnavailable, 0),
        ("lock_timeout", GatewayUnavailable, 0),
        ("key_in_use", GatewayTimeout, 0),
        ("500_before", GatewayTimeout, 0),
        ("500_after", GatewayTimeout, 1),
        ("drop_before", GatewayTimeout, 0),
        ("drop_after", GatewayTimeout, 1),
    ],
)
def test_an_unclear_answer_is_never_a_no(stripe, fault, error, done):
    stripe.fault(fault, "POST /v1/payment_intents")
    with pytest.raises(error):
        ask("authorize")
    found = look_up("authorize")
    assert (len(stripe.intents), found is not None) == (done, bool(done))
    assert ask("authorize").status == "succeeded"
    assert len(stripe.intents) == 1


def test_an_error_that_stripe_keeps_under_the_key_stays_open_and_moves_nothing(stripe):
    """A 500 is answered again for a day. Whether it was done is looked up; another key might do it twice."""
    held = ask("authorize", key="a").reference
    ask("capture", key="b", payment=held)
    stripe.fault("500_kept", "POST /v1/refunds")
    for _time in range(3):
        with pytest.raises(GatewayTimeout):
            ask("refund", "10", key="c", payment=held)
        assert look_up("refund", key="c", payment=held) is None
    assert "refund" not in stripe.moved()


def test_no_connection_and_no_key_are_certainly_not_done(stripe, settings):
    settings.STRIPE_SECRET_KEY = "sk_test_wrong"
    with pytest.raises(GatewayUnavailable):
        ask("authorize")
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"  # nobody listens there
    with pytest.raises(GatewayUnavailable):
        ask("authorize")
    assert stripe.intents == {}


def test_to_a_payment_that_stripe_does_not_have_nothing_can_be_done(stripe):
    for operation in ("capture", "void", "refund"):
        assert ask(operation, payment="pi_gone").status == "declined"


def test_an_answer_that_comes_too_late_is_a_timeout(stripe, monkeypatch):
    monkeypatch.setattr(stripe_gateway, "READ_SECONDS", 0.1)
    stripe_gateway._client.cache_clear()
    stripe.fault("slow", "POST /v1/payment_intents")
    with pytest.raises(GatewayTimeout):
        ask("authorize")
    stripe_gateway._client.cache_clear()
    monkeypatch.undo()
    assert ask("authorize").status == "succeeded"
    assert len(stripe.intents) == 1


def test_a_lookup_reads_every_page_and_needs_more_than_the_key(stripe, monkeypatch):
    monkeypatch.setattr(stripe, "page_limit", 2, raising=False)
    for key in "abcde":
        ask("authorize", key=key)
    assert look_up("authorize", key="a").status == "succeeded"
    assert look_up("authorize", key="f") is None
    with pytest.raises(Refused) as no:
        get_gateway("stripe").lookup(key="a")
    assert no.value.code == "stripe_lookup_needs_more"


def test_a_refund_that_is_pending_for_days_is_found_by_its_reference(stripe):
    held = ask("authorize", payment_method="pm_card_pending").reference
    ask("capture", key="b", payment=held)
    refund = ask("refund", key="c", payment=held)
    assert refund.status == "pending"
    stripe.refund_becomes(refund.reference, "succeeded")
    assert look_up("refund", key="c", payment=held, reference=refund.reference).status == "succeeded"
    stripe.refund_becomes(refund.reference, "failed")
    assert look_up("refund", key="c", payment=held).status == "declined"


def test_its_books_list_what_the_desk_did_and_what_others_did(stripe):
    held = ask("authorize", key="a").reference
    ask("capture", "60", key="b", payment=held)
    ask("refund", "10", key="c", payment=held)
    other = ask("authorize", key="d").reference
    stripe.capture(stripe.intents[other], {"amount_to_capture": "2500"})
    stripe.refund_in_dashboard(other, 500)
    stripe.dispute(held, 5000)
    rows = list(get_gateway("stripe").list_since(timezone.now() - timedelta(minutes=1)))
    found = sorted((row.kind, row.key, str(row.amount), row.payment_reference == held) for row in rows)
    assert found == [
        ("authorize", "a", "100.00", True),
        ("authorize", "d", "100.00", False),
        ("capture", "", "25.00", False),
        ("capture", "b", "60.00", True),
        ("dispute", "", "50.00", True),
        ("refund", "", "5.00", False),
        ("refund", "c", "10.00", True),
        ("void", "", "40.00", True),
        ("void", "", "75.00", False),
    ]
    assert {row.status for row in rows} == {"succeeded", "needs_response"}
    # Of what others captured and what was let go, Stripe does not say when: it is listed as long as it may be news.
    undated = [row for row in rows if not row.key and row.kind in {"capture", "void"}]
    assert list(get_gateway("stripe").list_since(timezone.now() + timedelta(minutes=1))) == undated != []


# ---------------------------------------------------------------------------------------------------------------------
# Set-up


def test_the_checks_say_what_is_missing(stripe, settings, monkeypatch):
    def ids():
        return [found.id for found in gateways.check_stripe(None)]

    assert ids() == []
    settings.STRIPE_WEBHOOK_SECRET = ""
    assert ids() == ["payments.E005"]
    with pytest.raises(SystemCheckError, match="STRIPE_WEBHOOK_SECRET is missing"):
        call_command("check")
    settings.STRIPE_SECRET_KEY = ""
    assert ids() == ["payments.E004", "payments.E005"]
    settings.STRIPE_SECRET_KEY = settings.STRIPE_WEBHOOK_SECRET = "set"
    monkeypatch.setattr("payments.gateways.checks.find_spec", lambda name: None)
    assert ids() == ["payments.E003"]
    settings.PAYMENT_GATEWAYS, settings.STRIPE_SECRET_KEY = {}, ""
    assert ids() == []
