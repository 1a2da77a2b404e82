"""Webhooks of gateways: stored, then processed once; what happens at Stripe itself comes into the books here."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.messages import get_messages
from django.utils import timezone

from orders.models import Document, Hold, JournalEntry, Order, PaymentEvent
from orders.processing import PaymentChoice, get_event_handler
from orders.processing.verify import verify
from payments import services
from payments.gateways import GatewayRecord
from payments.models import Dispute, Payment, Refund, Transaction, WebhookReceived
from shop import jobs
from shop.actors import Actor
from shop.models import Job
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/payments/webhooks/stripe/"


@pytest.fixture
def books():
    """The whole desk's books; what they are worth beside Stripe's, each test says."""
    return lambda: list(verify())


class Desk:
    """An order paid through Stripe, and Stripe's postman."""

    def __init__(self, stripe, client, place, work):
        self.stripe, self.client, self.place, self.work = stripe, client, place, work

    @property
    def system(self):
        return get_event_handler(Actor.system())

    def order(self, lines=None, *, until="paid", card="pm_card_visa", **more):
        order = self.place(
            *([lines] if lines else []),
            payments=[PaymentChoice(gateway="stripe", details={"payment_method": card})],
            until=until,
            **more,
        )
        self.stripe.events.clear()
        self.number = order.number
        return order

    @property
    def intent(self):
        return Transaction.objects.get(payment__reference=self.number, kind="authorize").gateway_reference

    def post(self, event, **signing):
        body, signature = self.stripe.signed(event, **signing)
        return self.client.post(URL, body, content_type="application/json", headers={"Stripe-Signature": signature})

    def deliver(self, *events, work=True):
        """Deliver these events, or all that there are; returns the answers' codes."""
        codes = [self.post(event).status_code for event in events or self.stripe.events]
        if work:
            self.work()
        return codes

    def told(self):
        return list(WebhookReceived.objects.order_by("pk").values_list("outcome", "told"))

    def inbox(self):
        return list(Job.objects.filter(state="needs_attention").order_by("pk").values_list("kind", "last_error"))


@pytest.fixture
def desk(stripe, client, place, work):
    return Desk(stripe, client, place, work)


def test_a_webhook_is_stored_answered_and_processed_once(desk, books):
    order = desk.order(until="", card="pm_card_3ds")
    desk.stripe.finish_3ds(desk.intent)
    (event,) = desk.stripe.events
    assert desk.deliver(event, work=False) == [200]
    row = WebhookReceived.objects.get()
    assert (row.outcome, row.kind, row.event_id) == ("waiting", "payment_intent.amount_capturable_updated", event["id"])
    assert "secret" not in json.dumps(row.body)
    assert desk.deliver(event, event) == [200, 200]
    row.refresh_from_db()
    assert (row.outcome, row.told, row.reference) == ("done", "Authorisation €20.00: Succeeded.", desk.number)
    assert desk.deliver(event) == [200]
    assert WebhookReceived.objects.count() == Job.objects.filter(kind="payments.webhook").count() == 1
    order.refresh_from_db()
    assert order.status == "confirmation_waiting"
    assert books() == []


def test_a_forged_stale_or_huge_webhook_is_refused_and_kept_nowhere(desk):
    desk.order()
    event = {"id": "evt_x", "type": "refund.created", "data": {"object": {"id": "re_1"}}}
    assert desk.post(event, secret="whsec_other").status_code == 400
    assert desk.post(event, at=timezone.now().timestamp() - 600).json()["code"] == "bad_signature"
    assert desk.client.post(URL, "{}", content_type="application/json").status_code == 400
    assert desk.post({"no": "id"}).status_code == 400
    assert desk.post({**event, "padding": "x" * 300_000}).status_code == 413
    assert desk.client.get(URL).status_code == 405
    for gateway in ("demo", "nobody"):
        assert desk.client.post(f"/payments/webhooks/{gateway}/", {}).status_code == 404
    assert not WebhookReceived.objects.exists()
    assert not Job.objects.filter(kind="payments.webhook").exists()


def test_what_nobody_here_knows_is_kept_and_ignored(desk, books):
    desk.order()
    foreign = desk.stripe.new("refund", "re", payment_intent="pi_foreign", amount=1, currency="eur", metadata={})
    foreign.update(status="succeeded", charge="ch_x", balance_transaction="txn_x")
    desk.stripe.refunds[foreign["id"]] = foreign
    events = [
        {"id": "evt_a", "type": "customer.created", "data": {"object": {"id": "cus_1", "note": "4242 4242 4242 4242"}}},
        {"id": "evt_b", "type": "refund.created", "data": {"object": {"id": "re_gone"}}},
        {"id": "evt_c", "type": "refund.created", "data": {"object": foreign}},
    ]
    assert desk.deliver(*events) == [200, 200, 200]
    assert desk.told() == [("ignored", ""), ("ignored", ""), ("ignored", "No payment of this desk.")]
    assert WebhookReceived.objects.get(event_id="evt_a").body["data"]["object"]["note"] == "•••• 4242"
    assert books() == []


def test_an_answer_that_was_lost_comes_by_webhook(desk, books):
    desk.order(until="preparing")
    desk.stripe.fault("drop_after", "/capture")
    desk.system.take_payment(number=desk.number)
    desk.work()
    capture = Transaction.objects.get(kind="capture")
    assert capture.status == "unknown"
    desk.deliver()
    capture.refresh_from_db()
    assert capture.status == "succeeded"
    assert desk.stripe.moved() == {"authorize": 2000, "capture": 2000}
    assert Order.objects.get().lines.get().paid == 2
    assert books() == []


def test_a_refund_made_in_the_dashboard_appears_here(desk, books):
    order = desk.order()
    refund = desk.stripe.refund_in_dashboard(desk.intent, 550)
    desk.deliver(work=False)
    job = jobs.claim(as_of=timezone.now(), key=f"payments.webhook:{WebhookReceived.objects.get().pk}")
    jobs.run(job)
    assert Refund.objects.get().origin == "outside"
    assert books() == []  # the order has not been told yet, and the proof knows that it will be
    desk.work()
    event = PaymentEvent.objects.get(refund=Refund.objects.get())
    assert (event.amount, event.note) == (Decimal("5.50"), "Refunded at the gateway itself")
    row = Transaction.objects.get(kind="refund")
    assert (row.origin, row.status, row.gateway_reference) == ("outside", "succeeded", refund["id"])
    order.refresh_from_db()
    assert order.adjustment_total == Decimal("-5.50")
    assert Payment.objects.get().refunded == Decimal("5.50")
    (entry,) = JournalEntry.objects.filter(order=order, details__transaction__id=row.pk)
    assert [record["amount"] for record in entry.details["events"]] == ["5.500"]
    assert Document.objects.get(kind="credit_note").total == Decimal("5.50")
    # What is left can be refunded, to the cent, and no more.
    desk.system.cancel(number=desk.number)
    desk.work()
    assert desk.stripe.moved()["refund"] == 2000
    assert books() == []


def test_a_dashboard_refund_that_is_pending_is_followed_to_its_end(desk, books):
    desk.order(card="pm_card_pending")
    refund = desk.stripe.refund_in_dashboard(desk.intent, 500)
    desk.deliver()
    assert (Refund.objects.get().status, books()) == ("pending", [])
    desk.stripe.refund_becomes(refund["id"], "succeeded")
    desk.deliver(*desk.stripe.events[1:])
    assert (Refund.objects.get().status, books()) == ("succeeded", [])
    # The bank sends it back days later: a person decides, the money is reserved meanwhile.
    desk.stripe.refund_becomes(refund["id"], "failed")
    desk.deliver(*desk.stripe.events[2:])
    assert (Refund.objects.get().status, [kind for kind, _error in desk.inbox()]) == ("waiting", ["payments.send"])
    assert (Payment.objects.get().refunded, Payment.objects.get().refund_reserved) == (0, 5)
    assert books() == []


def test_refunds_at_both_ends_are_not_booked_beyond_what_there_is(desk, books):
    desk.order()
    desk.stripe.refund_in_dashboard(desk.intent, 2000)
    desk.system.cancel(number=desk.number)  # before the news has come
    desk.deliver()
    (first, _no), (second, words) = desk.inbox()
    assert {first, second} == {"payments.send", "payments.webhook"}
    words = dict(desk.inbox())["payments.webhook"]
    assert "€20.00 was refunded at the gateway itself, but here only €0.00" in words
    assert books() == []
    own = Transaction.objects.get(kind="refund")
    services.close_as_failed(transaction_id=own.pk, note="refunded in the dashboard", actor_name="Ada")
    services.replay_webhook(webhook_id=WebhookReceived.objects.get().pk)
    desk.work()
    assert desk.inbox() == []
    assert Payment.objects.get().refunded == 20 == Decimal(desk.stripe.moved()["refund"]) / 100
    assert books() == []


def test_news_in_any_order_and_twice_ends_in_the_same_books(desk, books):
    desk.order(until="preparing")
    desk.system.take_payment(number=desk.number)
    desk.work()
    desk.system.refund(number=desk.number, amount=Decimal("5.00"), note="late")
    desk.work()
    desk.stripe.refund_in_dashboard(desk.intent, 700)
    events = [
        *desk.stripe.events,
        {"id": "evt_r", "type": "charge.refunded", "data": {"object": {"id": "ch", "payment_intent": desk.intent}}},
    ]
    for number, event in enumerate([*reversed(events), *events]):
        desk.deliver({**event, "id": f"evt_{number}"})
    assert sorted(Transaction.objects.filter(kind="refund").values_list("amount", "origin")) == [
        (5, "desk"),
        (7, "outside"),
    ]
    assert PaymentEvent.objects.filter(event_type__code="refunded").count() == 2
    assert {outcome for outcome, _told in desk.told()} == {"done"}
    assert desk.inbox() == []
    assert books() == []


def test_two_workers_who_process_one_webhook_book_it_once(desk, books):
    desk.order()
    desk.stripe.refund_in_dashboard(desk.intent, 500)
    desk.deliver(work=False)
    key, now = f"payments.webhook:{WebhookReceived.objects.get().pk}", timezone.now()
    first = jobs.claim(as_of=now, key=key)
    second = jobs.claim(as_of=now + 2 * jobs.LEASE, key=key)
    outcomes = [jobs.perform(first), jobs.perform(second)]
    with pytest.raises(jobs.LeaseLost):
        jobs.settle(first, outcomes[0], as_of=now)
    jobs.settle(second, outcomes[1], as_of=now)
    services.finish_webhook(
        webhook_id=WebhookReceived.objects.get().pk, records=outcomes[0].data["records"], as_of=now
    )  # and were there no lease at all
    desk.work()
    assert Refund.objects.count() == PaymentEvent.objects.filter(event_type__code="refunded").count() == 1
    assert books() == []


@pytest.mark.parametrize("dies", [False, True])
def test_the_webhook_is_faster_than_the_worker_who_sent_the_refund(desk, books, dies):
    desk.order()
    desk.system.refund(number=desk.number, amount=Decimal("5.00"), note="late")
    row = Transaction.objects.get(kind="refund")
    job = jobs.claim(as_of=timezone.now(), key=f"payments.send:{row.pk}")
    outcome = jobs.perform(job)  # Stripe has done it, and nothing is written here yet
    desk.deliver()
    row.refresh_from_db()
    assert (row.status, row.origin) == ("succeeded", "desk")
    if not dies:
        jobs.settle(job, outcome, as_of=timezone.now())
    jobs.drain(clock=lambda: timezone.now() + timedelta(hours=1))
    assert desk.stripe.moved()["refund"] == 500
    assert Transaction.objects.filter(kind="refund").count() == 1
    assert not Job.objects.exclude(state="done").exists()
    assert books() == []


def test_a_gateway_that_does_not_answer_is_asked_again_and_another_amount_is_shown(desk, books):
    desk.order()
    desk.stripe.refund_in_dashboard(desk.intent, 500)
    desk.stripe.fault("500_before", "GET /v1/refunds")
    desk.deliver()
    assert desk.told() == [("waiting", "")]
    jobs.drain(clock=lambda: timezone.now() + timedelta(minutes=1))
    assert desk.told() == [("done", "Refund of €5.00, made at the gateway itself: booked.")]
    authorized = Transaction.objects.get(kind="authorize")
    record = GatewayRecord(
        kind="authorize",
        reference=desk.intent,
        key=str(authorized.key),
        payment_reference=desk.intent,
        amount=Decimal(21),
        currency="EUR",
        status="succeeded",
        created_at=timezone.now(),
    )
    with pytest.raises(services.AmountDiffers):
        services.take_in(gateway="stripe", record=record, as_of=timezone.now())
    desk.work()
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Disputes


def test_a_dispute_holds_the_order_and_a_won_one_lets_it_go(desk, books):
    order = desk.order()
    dispute = desk.stripe.dispute(desk.intent, 2000)
    desk.deliver()
    row, hold = Dispute.objects.get(), Hold.objects.get()
    assert (row.status, row.reason, row.payment.reference) == ("needs_response", "product_not_received", desk.number)
    assert (hold.kind, hold.released_at) == ("dispute", None)
    ((kind, words),) = desk.inbox()
    assert kind == "payments.dispute"
    assert "asks €20.00 back (product not received). Answer it at the gateway by" in words
    # The answer has been sent: it is with the bank, and nobody has to do anything.
    desk.stripe.dispute_becomes(dispute["id"], "under_review")
    desk.deliver()
    assert (Dispute.objects.get().status, desk.inbox()) == ("under_review", [])
    desk.stripe.dispute_becomes(dispute["id"], "won")
    desk.deliver()
    hold.refresh_from_db()
    assert (Dispute.objects.get().status, hold.release_note) == ("won", "The dispute was won.")
    verbs = list(
        JournalEntry.objects.filter(order=order, verb="dispute_changed").values_list("details__dispute", flat=True)
    )
    assert verbs == [row.pk, row.pk]
    assert books() == []


def test_an_inquiry_that_was_answered_and_became_a_chargeback_is_to_be_answered_again(desk, books):
    desk.order()
    dispute = desk.stripe.dispute(desk.intent, 2000)
    for status in ("warning_needs_response", "warning_under_review"):
        desk.stripe.dispute_becomes(dispute["id"], status)
        desk.deliver()
    assert (Dispute.objects.get().status, desk.inbox()) == ("under_review", [])
    late = desk.stripe.events[0]
    desk.stripe.dispute_becomes(dispute["id"], "needs_response", due_by=dispute["evidence_details"]["due_by"])
    desk.deliver({**late, "id": "evt_late"})  # until the same date: news of an earlier stage
    assert (Dispute.objects.get().status, desk.inbox()) == ("under_review", [])
    later = int(timezone.now().timestamp()) + 20 * 86400
    desk.stripe.dispute_becomes(dispute["id"], "needs_response", due_by=later)
    desk.deliver(desk.stripe.events[-1])
    desk.deliver({**desk.stripe.events[-1], "id": "evt_twice"})
    ((kind, _words),) = desk.inbox()
    assert (kind, Dispute.objects.get().status) == ("payments.dispute", "needs_response")
    assert Dispute.objects.get().respond_by.timestamp() == later
    desk.stripe.dispute_becomes(dispute["id"], "lost")
    desk.deliver(desk.stripe.events[-1])
    ((_kind, words),) = desk.inbox()
    assert words.startswith("The dispute was lost: €20.00 is gone")
    assert Hold.objects.count() == 1
    assert books() == []


def test_a_decision_that_can_be_appealed_is_to_be_answered_once_more(desk, books):
    desk.order()
    dispute = desk.stripe.dispute(desk.intent, 2000)
    desk.stripe.dispute_becomes(dispute["id"], "under_review")
    desk.deliver(desk.stripe.events[-1])
    later = int(timezone.now().timestamp()) + 20 * 86400
    desk.stripe.dispute_becomes(dispute["id"], "appeal_needs_response", due_by=later)
    desk.deliver(desk.stripe.events[-1])
    assert (Dispute.objects.get().status, [kind for kind, _words in desk.inbox()]) == (
        "needs_response",
        ["payments.dispute"],
    )
    desk.stripe.dispute_becomes(dispute["id"], "appeal_under_review")
    desk.deliver(desk.stripe.events[-1])
    assert (Dispute.objects.get().status, desk.inbox()) == ("under_review", [])
    desk.stripe.dispute_becomes(dispute["id"], "won")
    desk.deliver(desk.stripe.events[-1])
    assert (Dispute.objects.get().status, Payment.objects.get().refundable) == ("won", 20)
    assert books() == []


def test_a_lost_dispute_that_can_be_appealed_says_until_when_in_one_item(desk, books):
    desk.order()
    dispute = desk.stripe.dispute(desk.intent, 2000)
    desk.stripe.dispute_becomes(dispute["id"], "lost")
    desk.deliver(desk.stripe.events[-1])
    later = int(timezone.now().timestamp()) + 20 * 86400
    desk.stripe.dispute_becomes(dispute["id"], "appeal_needs_response", due_by=later)
    desk.deliver(desk.stripe.events[-1], {**desk.stripe.events[-1], "id": "evt_twice"})
    ((_kind, words),) = desk.inbox()
    assert words.startswith("The dispute was lost: €20.00 is gone")
    assert "It can be appealed at the gateway until" in words
    assert (Dispute.objects.get().status, Payment.objects.get().refundable, books()) == ("lost", 0, [])


@pytest.mark.parametrize("case_type, becomes, left", [("resolution", "lost", 0), ("block", "won", 20)])
def test_of_a_prevented_dispute_a_resolution_has_given_the_money_back(desk, books, case_type, becomes, left):
    """The shop's own rules at the card network: the customer has the money, or the dispute never began."""
    desk.order()
    dispute = desk.stripe.dispute(desk.intent, 2000)
    dispute["payment_method_details"] = {"card": {"case_type": case_type}}
    dispute["balance_transactions"] = [{"amount": -2000}] if not left else []
    desk.stripe.dispute_becomes(dispute["id"], "prevented")
    desk.deliver(desk.stripe.events[-1])
    assert (Dispute.objects.get().status, Payment.objects.get().refundable, books()) == (becomes, left, [])


def test_a_lost_dispute_is_a_chargeback_and_the_hold_stays(desk, books):
    order = desk.order()
    desk.system.refund(number=desk.number, amount=Decimal("5.00"), note="late")
    desk.work()
    dispute = desk.stripe.dispute(desk.intent, 2000)
    desk.stripe.dispute_becomes(dispute["id"], "lost")
    created, lost = desk.stripe.events[-2:]
    desk.deliver(lost, created)  # the end before the beginning
    row = Dispute.objects.get()
    assert (row.status, row.chargeback.amount, row.chargeback.origin) == ("lost", 15, "chargeback")
    assert Hold.objects.get().released_at is None
    assert desk.inbox() == [
        (
            "payments.dispute",
            "The dispute was lost: €20.00 is gone, and so is the fee. "
            "Only €15.00 was still to be booked: the rest had been refunded before. "
            "Decide what becomes of the goods, and release the order's hold.",
        )
    ]
    event = PaymentEvent.objects.get(refund=row.chargeback.refund)
    assert (event.amount, event.note) == (15, "Chargeback: the customer's bank took it back")
    assert not Document.objects.filter(payment_event=event).exists()
    assert Payment.objects.get().refundable == 0
    order.refresh_from_db()
    assert order.adjustment_total == -20
    assert books() == []


# ---------------------------------------------------------------------------------------------------------------------
# Staff


def test_staff_look_at_webhooks_and_process_them_again(desk, staff, books):
    order = desk.order()
    desk.stripe.refund_in_dashboard(desk.intent, 500)
    desk.stripe.dispute(desk.intent, 700)
    desk.deliver()
    row = WebhookReceived.objects.order_by("pk").first()
    page, listed = f"/admin/payments/webhookreceived/{row.pk}/change/", "/admin/payments/webhookreceived/"
    replay = f"/admin/payments/webhookreceived/{row.pk}/do/replay/"
    desk.client.force_login(staff("Customer Service"))
    assert [desk.client.get(url).status_code for url in (listed, page, replay)] == [403, 403, 403]
    assert desk.client.post(replay).status_code == 403
    assert desk.client.get("/admin/payments/dispute/").status_code == 200
    desk.client.force_login(staff("Store Manager", order.store))
    assert row.event_id in desk.client.get(page).content.decode()
    answer = desk.client.post(replay)
    assert [str(m) for m in get_messages(answer.wsgi_request)] == [
        "The gateway is asked again; see below what became of it."
    ]
    assert "It is being processed" in desk.client.get(replay).content.decode()
    desk.client.post(listed, {"action": "replay", "_selected_action": [row.pk, row.pk + 1]})
    desk.work()
    row.refresh_from_db()
    assert (row.replays, row.outcome, row.told) == (1, "done", "Refund €5.00: nothing new.")
    assert list(WebhookReceived.objects.order_by("pk").values_list("replays", flat=True)) == [1, 1]
    shown = desk.client.get(f"/admin/payments/dispute/{Dispute.objects.get().pk}/change/").content.decode()
    assert "Answer it at the gateway by" in shown
    assert Refund.objects.count() == 1
    # They hold customers' details: another store's manager sees none of them, nor what belongs to nobody yet.
    desk.deliver({"id": "evt_x", "type": "customer.created", "data": {"object": {"id": "cus_1"}}})
    assert "customer.created" not in desk.client.get(listed).content.decode()
    desk.client.force_login(staff("Store Manager", factories.StoreFactory()))
    assert "refund.created" not in desk.client.get(listed).content.decode()
    assert desk.client.get(page).status_code in {302, 404}
    desk.client.post(replay)
    desk.client.post(listed, {"action": "replay", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert row.replays == 1
    desk.client.force_login(staff("Admin"))
    assert "customer.created" in desk.client.get(listed).content.decode()
    assert books() == []
