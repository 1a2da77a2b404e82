"""What somebody captures or lets go at the gateway itself is in our books once, and the order follows it."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from orders.models import CancelRule, Document, Hold, Order, PaymentEvent
from orders.processing import get_event_handler
from orders.rules import InvalidPaymentEvent
from payments import services, tasks
from payments.gateways import GatewayNotice, get_gateway
from payments.models import Difference, Payment, Transaction, WebhookReceived
from shop import jobs
from shop.actors import Actor
from shop.models import Job
from tests.payments.test_reconciliation import books, counts, desk, items, night

__all__ = ["books", "desk", "night"]
pytestmark = pytest.mark.django_db


def moves():
    """What our books have beside the authorisation."""
    rows = Transaction.objects.exclude(kind="authorize").order_by("pk")
    return list(rows.values_list("kind", "amount", "origin", "status"))


def events():
    rows = PaymentEvent.objects.order_by("pk").values_list("event_type__code", "amount")
    return [row for row in rows if row[0] != "authorized"]


def records(desk):
    notice = GatewayNotice(
        event_id="x", kind="payment_intent.succeeded", body={"data": {"object": {"id": desk.intent}}}
    )
    return get_gateway("stripe").look_at(notice)


def test_a_capture_made_in_the_dashboard_pays_for_the_units(desk, night, books):
    order = desk.order(until="preparing")
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.deliver()
    assert moves() == [("capture", 20, "outside", "succeeded")]
    assert WebhookReceived.objects.get().told.endswith("Capture €20.00, made at the gateway itself: booked.")
    assert events() == [("received", 20), ("charged", 0), ("paid", 20)]
    assert order.lines.get().paid == 2
    # It is money like any other: refundable to the cent, and nothing is captured a second time.
    desk.system.cancel(number=desk.number)
    desk.work()
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 2000, "refund": 2000}
    assert Document.objects.get(kind="credit_note").total == 20
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


def test_a_part_captured_in_the_dashboard_is_here_and_the_rest_of_the_hold_is_gone(desk, night, books):
    order = desk.order(until="preparing")
    desk.stripe.capture_in_dashboard(desk.intent, 550)
    desk.deliver()
    assert moves() == [
        ("capture", Decimal("5.5"), "outside", "succeeded"),
        ("void", Decimal("14.5"), "outside", "succeeded"),
    ]
    assert events() == [("received", Decimal("5.5")), ("voided", Decimal("14.5"))]
    assert (order.lines.get().paid, Order.objects.get().facts.outstanding) == (0, Decimal("14.5"))
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


def test_what_the_gateway_captures_bit_by_bit_is_booked_as_far_as_it_has_come(desk, night, books):
    order = desk.order(until="preparing", card="pm_card_several")
    desk.stripe.capture_in_dashboard(desk.intent, 300, final=False)
    early = records(desk)
    desk.deliver()
    desk.stripe.capture_in_dashboard(desk.intent, 700, final=False)
    desk.deliver(desk.stripe.events[-1])
    assert moves() == [("capture", 3, "outside", "succeeded"), ("capture", 7, "outside", "succeeded")]
    for record in early:  # a slow worker, who had asked before
        services.take_in(gateway="stripe", record=record, as_of=timezone.now())
    desk.system.take_payment(number=desk.number)  # the desk takes only what is left
    desk.work()
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 2000}
    assert order.lines.get().paid == 2
    desk.deliver(*[{**event, "id": f"again-{n}"} for n, event in enumerate(desk.stripe.events)])
    assert len(moves()) == 3
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


def test_an_authorisation_let_go_in_the_dashboard_is_a_void_and_the_order_waits_for_a_person(desk, night, books):
    desk.order(until="preparing")
    desk.stripe.cancel_in_dashboard(desk.intent)
    desk.deliver()
    assert moves() == [("void", 20, "outside", "succeeded")]
    assert events() == [("voided", 20)]
    hold = Hold.objects.get()
    assert (hold.kind, hold.reason) == (
        "payment",
        "The authorisation of €20.00 was let go at the gateway: ask the customer to pay again.",
    )
    assert Payment.objects.get().open_to_capture == 0
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


def test_what_no_webhook_told_is_booked_by_the_next_comparison_however_old_its_hold_is(desk, night, books):
    desk.order(until="preparing")
    captured = desk.intent
    night(gateway="stripe", after=timedelta(days=6))
    assert moves() == []
    desk.stripe.capture_in_dashboard(captured, 2000)
    assert counts(night(gateway="stripe")) == ("done", 0, 1, 0)
    assert moves() == [("capture", 20, "outside", "succeeded")]
    row = Difference.objects.get()
    assert (row.state, row.how) == ("done", "Capture €20.00, made at the gateway itself: booked.")
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    # Not on the list any more, it is looked up under the gateway's own reference.
    intent = desk.stripe.intents[captured]
    intent["created"] -= 90 * 86400
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (items(), books()) == ([], [])


def test_news_twice_and_in_any_order_is_the_same_capture(desk, books):
    desk.order(until="", card="pm_card_3ds")
    desk.stripe.finish_3ds(desk.intent)  # of which nobody has told yet
    desk.stripe.capture_in_dashboard(desk.intent, 600)
    for number, event in enumerate([*reversed(desk.stripe.events), *desk.stripe.events]):
        desk.deliver({**event, "id": f"evt_{number}"})
    assert moves() == [("capture", 6, "outside", "succeeded"), ("void", 14, "outside", "succeeded")]
    assert events() == [("received", 6), ("voided", 14)]
    assert (desk.inbox(), books()) == ([], [])


def test_the_same_capture_made_here_and_there_is_one(desk, books):
    order = desk.order(until="preparing")
    desk.system.take_payment(number=desk.number)  # asked here, not sent yet
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.deliver(work=False)
    webhook = jobs.run_now(Job.objects.get(kind="payments.webhook").key)
    assert (webhook.state, moves()) == ("retry", [("capture", 20, "desk", "requested")])
    desk.work()  # Stripe declines ours
    jobs.drain(clock=lambda: timezone.now() + timedelta(hours=1))
    assert moves() == [("capture", 20, "desk", "failed"), ("capture", 20, "outside", "succeeded")]
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 2000}
    assert order.lines.get().paid == 2
    assert (desk.inbox(), books()) == ([], [])


def test_our_own_capture_is_never_taken_for_somebody_elses(desk, night, books):
    desk.order(until="preparing", card="pm_card_several")
    desk.system.take_payment(number=desk.number, lines={Order.objects.get().lines.get().pk: 1})
    job = jobs.claim(as_of=timezone.now(), key=Job.objects.get(kind="payments.send", state="waiting").key)
    outcome = jobs.perform(job)  # Stripe has done it, and nothing is written here yet
    desk.stripe.capture_in_dashboard(desk.intent, 400, final=False)
    desk.deliver()
    assert moves() == [("capture", 10, "desk", "succeeded"), ("capture", 4, "outside", "succeeded")]
    jobs.settle(job, outcome, as_of=timezone.now())
    # Somebody wipes the metadata: ours has no key any more, and is all the same not booked a second time.
    desk.stripe.intents[desk.intent]["metadata"].clear()
    desk.deliver({**desk.stripe.events[-1], "id": "evt_again"})
    assert moves() == [("capture", 10, "desk", "succeeded"), ("capture", 4, "outside", "succeeded")]
    assert (desk.inbox(), books()) == ([], [])


@pytest.mark.parametrize("units", [2000, 700])
@pytest.mark.parametrize("news", ["after", "before", "never"])
def test_captured_there_while_it_was_to_be_let_go_here_is_booked_and_goes_back(desk, night, books, units, news):
    """A part lets Stripe let go of the rest. Whether the webhook or the desk's own void is first, or it never comes."""
    desk.order(until="preparing")
    desk.stripe.capture_in_dashboard(desk.intent, units)
    desk.system.cancel(number=desk.number)  # before the news has come
    if news == "before":
        desk.deliver(desk.stripe.events[0], work=False)
        assert jobs.run_now(Job.objects.get(kind="payments.webhook").key).state == "retry"
    desk.work()
    captured = ("capture", Decimal(units) / 100, "outside", "succeeded")
    let_go = [("void", Decimal(2000 - units) / 100, "outside", "succeeded")] if units < 2000 else []
    refunded = ("refund", Decimal(units) / 100, "desk", "succeeded")
    assert moves() == [("void", 20, "desk", "failed"), captured, *let_go, refunded]
    if news == "after":
        desk.deliver()
    jobs.drain(clock=lambda: timezone.now() + timedelta(hours=1))
    assert desk.stripe.moved() == {"authorize": 2000, "capture": units, "refund": units}
    assert len(moves()) == 3 + len(let_go)
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


def test_a_part_captured_there_of_a_hold_that_stays_is_booked_and_the_rest_let_go(desk, books):
    desk.order(until="preparing", card="pm_card_several")
    desk.system.cancel(number=desk.number)
    job = jobs.claim(as_of=timezone.now(), key=Job.objects.get(kind="payments.send", state="waiting").key)
    desk.stripe.capture_in_dashboard(desk.intent, 700, final=False)  # at the very moment
    jobs.settle(job, jobs.perform(job), as_of=timezone.now())
    desk.work()
    assert moves() == [
        ("void", 20, "desk", "failed"),
        ("capture", 7, "outside", "succeeded"),
        ("void", 13, "outside", "succeeded"),
        ("refund", 7, "desk", "succeeded"),
    ]
    desk.deliver()
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 700, "refund": 700, "void": 1300}
    assert (desk.inbox(), books()) == ([], [])


def test_a_void_that_waits_for_a_person_leaves_the_inbox_when_the_news_explains_it(desk, books, monkeypatch):
    """As before this was asked: the gateway could not show how it stands."""
    desk.order(until="preparing")
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.system.cancel(number=desk.number)
    with monkeypatch.context() as then:
        then.setattr(tasks, "is_showing", lambda gateway: False)
        desk.work()
    (item,) = desk.inbox()
    assert item[1].startswith("Only €0.00 was let go: the rest was captured at Stripe itself. Close it as failed")
    desk.deliver()
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 2000, "refund": 2000}
    assert (desk.inbox(), books()) == ([], [])


def test_where_it_is_not_clear_there_is_one_item_and_closing_it_lets_the_rest_follow(desk, till, night, books):
    """A capture of ours that waits for a person may be the one that the gateway tells of."""
    order = desk.order(until="preparing")
    desk.system.take_payment(number=desk.number)
    desk.stripe.fault("500_before", "", times=99)
    till.work()
    own = Transaction.objects.get(kind="capture")
    desk.stripe.faults.clear()
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.deliver()
    assert [kind for kind, _words in desk.inbox()] == ["payments.send"]
    webhook = WebhookReceived.objects.get()
    assert (webhook.outcome, webhook.reference, webhook.processed_at) == ("waiting", desk.number, None)
    assert "while the desk is about to do so, too" in webhook.told
    night(gateway="stripe")
    assert [kind for kind, _words in desk.inbox()] == ["payments.send"]
    services.close_as_failed(transaction_id=own.pk, note="not ours", actor_name="Ada")
    jobs.drain(clock=lambda: timezone.now())
    assert moves() == [("capture", 20, "desk", "failed"), ("capture", 20, "outside", "succeeded")]
    webhook.refresh_from_db()
    assert (webhook.outcome, webhook.replays, order.lines.get().paid) == ("done", 1, 2)
    assert (desk.inbox(), books()) == ([], [])


def test_let_go_there_and_here_is_one_void(desk, night, books):
    desk.order(until="preparing")
    desk.stripe.cancel_in_dashboard(desk.intent)
    desk.system.cancel(number=desk.number)
    desk.deliver()
    assert moves() == [("void", 20, "desk", "succeeded")]
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


def test_more_than_is_authorised_is_refused_and_stays_a_difference(desk, night, books):
    desk.order(until="preparing")
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    (_held, capture) = records(desk)
    for wrong, refusal in (
        ({"amount": Decimal(21), "in_all": None}, services.OutsideTooLarge),
        ({"currency": "USD"}, services.AmountDiffers),
    ):
        with pytest.raises(refusal):
            services.take_in(gateway="stripe", record=replace(capture, **wrong), as_of=timezone.now())
    for ignored in ({"status": "pending"}, {"status": "declined"}, {"key": "3f0e5cc2-0000-4000-8000-000000000000"}):
        services.take_in(gateway="stripe", record=replace(capture, **ignored), as_of=timezone.now())
    assert moves() == []
    desk.stripe.intents[desk.intent].update(amount=2500, amount_received=2500)
    assert counts(night(gateway="stripe"))[1] == 2  # the authorisation's amount, and the capture
    assert moves() == []
    assert books() == []


def test_what_a_person_captured_there_and_noted_here_is_not_booked_beside_it(desk, till, night, books):
    desk.order(until="preparing")
    desk.stripe.fault("500_before", "", times=99)
    desk.system.take_payment(number=desk.number)
    till.work()
    desk.stripe.faults.clear()
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    job = Job.objects.get(kind="payments.send", state="needs_attention")
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="captured in the dashboard")
    desk.deliver()
    assert moves() == [("capture", 20, "desk", "succeeded")]
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


def test_a_refund_of_which_the_capture_is_heard_later_waits_for_it(desk, books):
    desk.order(until="preparing")
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.stripe.refund_in_dashboard(desk.intent, 700)
    captured, refunded = desk.stripe.events
    desk.deliver(refunded, work=False)
    key = Job.objects.get(kind="payments.webhook").key
    assert (jobs.run_now(key).state, moves()) == ("retry", [])
    desk.deliver(captured)
    jobs.drain(clock=lambda: timezone.now() + timedelta(hours=1))
    assert moves() == [("capture", 20, "outside", "succeeded"), ("refund", 7, "outside", "succeeded")]
    assert (desk.inbox(), books()) == ([], [])


def test_more_captured_in_the_dashboard_than_the_order_still_costs_goes_back(desk, books):
    order = desk.order(until="preparing")
    line = order.lines.get()
    desk.system.cancel(number=desk.number, lines={line.pk: 1})
    desk.work()
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.deliver()
    line.refresh_from_db()
    assert (line.paid, line.refunded) == (1, 0)
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 2000, "refund": 1000}
    assert Order.objects.get().facts.unapplied == 0
    assert (desk.inbox(), books()) == ([], [])


def test_the_refund_that_stripe_makes_of_what_it_lets_go_gives_nobody_money_back(desk, night, books):
    order = desk.order([("10.00", 3)], until="preparing")
    line = order.lines.get()
    desk.system.take_payment(number=desk.number, lines={line.pk: 2})  # a part: this card lets go the rest
    desk.work()
    kinds = [event["type"] for event in desk.stripe.events]
    assert kinds == ["payment_intent.succeeded", "refund.created", "charge.refunded"]
    desk.deliver(*reversed(desk.stripe.events))
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert moves() == [("capture", 20, "desk", "succeeded"), ("void", 10, "outside", "succeeded")]
    # A refund of as much, made there, is one.
    desk.stripe.refund_in_dashboard(desk.intent, 1000)
    desk.deliver(desk.stripe.events[-1], work=False)
    jobs.drain(clock=timezone.now)
    assert moves()[2:] == [("refund", 10, "outside", "succeeded")]
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert (desk.inbox(), books()) == ([], [])


@pytest.mark.parametrize("undone", [False, True])
def test_what_a_cancellation_may_still_need_goes_back_when_it_can_no_longer_be_undone(desk, staff, books, undone):
    order = desk.order(until="preparing")
    manager = get_event_handler(Actor.staff(staff("Admin")))
    CancelRule.objects.create(undo_minutes=30)
    manager.cancel(number=desk.number, lines={order.lines.get().pk: 1}, reason="out_of_stock")
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.deliver()
    assert "refund" not in desk.stripe.moved()
    if undone:
        manager.undo_cancellation(number=desk.number)
    else:
        manager.complete_now(number=desk.number)
    desk.work()
    assert desk.stripe.moved().get("refund", 0) == (0 if undone else 1000)
    assert Order.objects.get().facts.unapplied == (10 if undone else 0)
    assert (desk.inbox(), books()) == ([], [])


def test_what_was_captured_there_beyond_a_part_that_is_charged_later_goes_back_with_it(desk, books):
    order = desk.order(until="preparing", card="pm_card_several")
    desk.stripe.capture_in_dashboard(desk.intent, 1500, final=False)
    desk.deliver()
    desk.system.cancel(number=desk.number, lines={order.lines.get().pk: 1})
    desk.system.take_payment(number=desk.number)
    desk.work()
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 1500, "refund": 500, "void": 500}
    assert Order.objects.get().facts.unapplied == 0
    assert (desk.inbox(), books()) == ([], [])


def test_after_the_hold_was_let_go_the_customer_can_pay_in_another_way(desk, books):
    desk.order(until="preparing")
    with pytest.raises(InvalidPaymentEvent):
        desk.system.record_payment(number=desk.number, amount=Decimal(20))
    desk.stripe.cancel_in_dashboard(desk.intent)
    desk.deliver()
    desk.system.record_payment(number=desk.number, amount=Decimal(20))
    desk.work()
    assert Order.objects.get().lines.get().paid == 2
    assert (desk.inbox(), books()) == ([], [])


def test_verify_names_what_no_event_knows(desk, books):
    desk.order(until="preparing")
    desk.stripe.capture_in_dashboard(desk.intent, 2000)
    desk.deliver()
    PaymentEvent.transactions.through.objects.all().delete()
    row = Transaction.objects.get(kind="capture")
    told = f"Order {desk.number}: capture {row.pk} of 20.000 was made at the gateway itself, and no event knows it."
    assert told in books()
