"""Reconciliation: the gateway's list against the ledger; what differs is one item in the inbox, and goes by itself."""

import uuid
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.contrib.messages import get_messages
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.processing.verify import verify
from payments import services, tasks
from payments.models import (
    DemoGatewayEntry,
    DemoGatewayFault,
    Difference,
    Dispute,
    Payment,
    Reconciliation,
    Refund,
    Transaction,
)
from payments.services import reconciliation
from shop import jobs
from shop.models import Job
from tests.payments.test_webhooks_in import Desk

pytestmark = pytest.mark.django_db
NIGHT = timedelta(hours=4)


@pytest.fixture
def books():
    return lambda: list(verify())


@pytest.fixture
def night(till, monkeypatch):
    """night(): it is hours later, beat begins to compare and a worker does it. Returns the run."""
    moved = timedelta()
    real_now = timezone.now

    def later():
        return real_now() + moved

    monkeypatch.setattr(timezone, "now", later)

    def run(*, gateway="demo", after=NIGHT):
        nonlocal moved
        moved += after
        reconciliation.start(gateway=gateway, as_of=later())
        jobs.drain(clock=later)
        return Reconciliation.objects.filter(gateway=gateway).latest("pk")

    return run


@pytest.fixture
def desk(stripe, client, place, work):
    return Desk(stripe, client, place, work)


def counts(run):
    run.refresh_from_db()
    return run.state, run.found, run.settled, run.resolved


def items():
    """The inbox's differences: what its person reads."""
    waiting = Job.objects.filter(kind="payments.difference", state="needs_attention").order_by("pk")
    return list(waiting.values_list("last_error", flat=True))


def differences():
    return list(Difference.objects.order_by("pk").values_list("kind", "state"))


def at_gateway(operation, amount, *, payment=None, reference="", status="succeeded", key=None):
    """Something that somebody made at the demo gateway itself."""
    opened = payment and payment.transactions.get(kind="authorize")
    return DemoGatewayEntry.objects.create(
        operation=operation,
        key=str(uuid.uuid4()) if key is None else key,
        payment_key=str(opened.key) if opened else "",
        amount=Decimal(amount),
        currency="EUR",
        status=status,
        reference=f"made-there-{DemoGatewayEntry.objects.count()}",
        merchant_reference=reference,
        created_at=timezone.now(),
    )


def entry(kind):
    return DemoGatewayEntry.objects.get(operation=kind)


def test_books_that_agree_have_nothing_to_tell(till, night, books):
    till.captured("100")
    till.refund("30")
    till.work()
    assert counts(night()) == ("done", 0, 0, 0)
    run = Reconciliation.objects.get()
    assert (run.listed, run.others, differences(), items()) == (3, 0, [], [])
    # The next one begins before the end of the last one, so that nothing falls between them.
    second = night(after=timedelta(days=1))
    assert second.since == run.until - reconciliation.OVERLAP
    assert books() == []


def test_a_refund_made_at_the_gateway_is_booked_and_told(till, night, books):
    payment = till.captured("100")
    at_gateway("refund", "30", payment=payment)
    assert counts(night()) == ("done", 0, 1, 0)
    refund = Refund.objects.get()
    assert (refund.origin, refund.amount, refund.status) == ("outside", 30, "succeeded")
    assert till.told(refund.transactions.get()) == ["succeeded"]
    row = Difference.objects.get()
    assert (row.kind, row.state, row.how) == (
        "missing_here",
        "done",
        "Refund of €30.00, made at the gateway itself: booked.",
    )
    assert items() == []
    assert counts(night()) == ("done", 0, 0, 0)
    assert books() == []


def test_what_cannot_be_booked_safely_is_an_item_until_it_can(till, night, books):
    payment = till.captured("100")
    till.fault("decline")
    own = till.refund("100").transactions.get()  # waits for a person, with its reserve
    till.work()
    there = at_gateway("refund", "100", payment=payment)
    at_gateway("capture", "5", payment=payment)
    assert counts(night()) == ("done", 2, 0, 0)
    refund, capture = items()
    assert "Missing here: Refund. Here: –. Card (demo): €100.00, Succeeded." in refund
    assert f"Reference at the gateway: {there.reference}." in refund
    assert "here only €0.00 is captured and not refunded or about to be" in refund
    assert "Missing here: Capture" in capture
    assert Payment.objects.get().refunded == 0
    services.close_as_failed(transaction_id=own.pk, note="refunded in the dashboard", actor_name="Ada")
    DemoGatewayEntry.objects.filter(operation="capture", amount=5).delete()
    assert counts(night()) == ("done", 0, 1, 1)
    assert (items(), Payment.objects.get().refunded) == ([], 100)
    assert set(differences()) == {("missing_here", "done")}
    notes = Job.objects.filter(kind="payments.difference").order_by("pk").values_list("resolved_note", flat=True)
    assert [note[:30] for note in notes] == ["Refund of €100.00, made at the", "Resolved: not missing any more"]
    assert books() == []


def test_what_the_gateway_does_not_know_is_shown_and_goes_when_it_does(till, night, books):
    till.captured("100")
    lost = entry("capture")
    lost.delete()
    assert counts(night()) == ("done", 1, 0, 0)
    (words,) = items()
    assert "Missing at the gateway: Capture. Here: €100.00, Succeeded. Card (demo): –." in words
    assert Payment.objects.get().captured == 100  # nothing moves by itself
    assert counts(night()) == ("done", 0, 0, 0)
    # An item that stays open is compared again, however old it is by then.
    assert night(after=timedelta(days=20)).since < lost.created_at
    assert len(items()) == 1
    lost.save(force_insert=True)
    assert counts(night()) == ("done", 0, 0, 1)
    row = Difference.objects.get()
    assert (items(), row.state, row.resolved_by) == ([], "done", "")
    assert row.how.startswith("Resolved: found at the gateway on ")
    assert books() == []


def test_a_status_that_the_gateway_knows_is_taken_over_and_a_contradiction_is_shown(till, night, books):
    first = till.authorized("100", reference="100001")
    till.fault("timeout_after")
    till.fault("unavailable", "lookup", remaining=50)
    (unknown,) = till.capture("100", cause="ship:1", reference="100001")
    till.work()
    assert Transaction.objects.get(pk=unknown.pk).status == "needs_person"
    second = till.authorized("50", reference="100002")
    till.fault("decline", "capture")
    (failed,) = till.capture("50", cause="ship:2", reference="100002")
    till.work()
    entry_of = DemoGatewayEntry.objects.get(key=failed.gateway_key)
    DemoGatewayEntry.objects.filter(pk=entry_of.pk).update(status="succeeded")
    assert counts(night()) == ("done", 1, 1, 0)
    unknown.refresh_from_db()
    assert (unknown.status, Payment.objects.get(pk=first.pk).captured) == ("succeeded", 100)
    assert not Job.objects.filter(kind="payments.send", state="needs_attention").exists()
    (words,) = items()
    assert "Status differs: Capture" in words
    assert "Here: €50.00, Failed. Card (demo): €50.00, Succeeded." in words
    assert Payment.objects.get(pk=second.pk).captured == 0
    assert books() == []


def test_a_refund_that_came_back_long_ago_is_owed_again(till, night, books):
    till.captured("100")
    till.fault("fail_late", "refund", seconds=30_000)
    row = till.refund("30").transactions.get()
    till.work()
    # It is not even on the list any more, which is why the gateway is asked for it.
    DemoGatewayEntry.objects.filter(operation="refund").update(created_at=timezone.now() - timedelta(days=60))
    assert counts(night()) == ("done", 0, 0, 0)
    DemoGatewayEntry.objects.filter(operation="refund").update(becomes_at=timezone.now())
    assert counts(night()) == ("done", 0, 0, 0)
    row.refresh_from_db()
    assert (row.status, Payment.objects.get().refund_reserved) == ("needs_person", 30)
    assert (items(), books()) == ([], [])


def test_another_amount_is_shown_and_comes_back_only_if_it_changes(till, night, client, staff, books):
    till.captured("100")
    DemoGatewayEntry.objects.filter(operation="capture").update(amount=Decimal("99.99"))
    assert counts(night()) == ("done", 1, 0, 0)
    row = Difference.objects.get()
    assert "Amount differs" in items()[0]
    assert "Here: €100.00, Succeeded. Card (demo): €99.99, Succeeded." in items()[0]
    client.force_login(staff("Admin"))
    page = f"/admin/payments/difference/{row.pk}/do/accept/"
    assert client.post(page, {"note": "accepted: a cent lost to rounding"}).status_code == 302
    row.refresh_from_db()
    assert (row.state, items()) == ("accepted", [])
    assert "a cent lost to rounding" in row.how
    assert client.post(page, {"note": "again"}).status_code == 409
    assert counts(night()) == ("done", 0, 0, 0)
    assert items() == []
    DemoGatewayEntry.objects.filter(operation="capture").update(amount=Decimal("99.98"))
    assert counts(night()) == ("done", 1, 0, 0)
    assert "€99.98" in items()[0]
    DemoGatewayEntry.objects.filter(operation="capture").update(amount=Decimal("99.97"))
    night()
    assert (len(items()), "€99.97" in items()[0]) == (1, True)
    # The inbox's own "done by hand" accepts it as well.
    job = Job.objects.get(kind="payments.difference", state="needs_attention")
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="known")
    assert differences() == [("amount", state) for state in ("accepted", "done", "accepted")]
    assert (Difference.objects.latest("pk").resolved_by, items()) == ("Ada", [])
    assert books() == []


def test_a_chargeback_is_booked_and_what_is_gone_beyond_it_is_shown(desk, night, books):
    desk.order()
    desk.system.refund(number=desk.number, amount=Decimal("5.00"), note="late")
    desk.work()
    dispute = desk.stripe.dispute(desk.intent, 2000)  # and no webhook ever comes
    assert counts(night(gateway="stripe")) == ("done", 0, 1, 0)
    assert Dispute.objects.get().status == "needs_response"
    desk.stripe.dispute_becomes(dispute["id"], "lost")
    assert counts(night(gateway="stripe")) == ("done", 1, 0, 0)
    assert Dispute.objects.get().chargeback.amount == 15
    (words,) = items()
    assert "Chargeback: Dispute. Here: €15.00, Lost. Card (stripe): €20.00, Lost." in words
    assert differences() == [("chargeback", "done"), ("chargeback", "open")]
    assert books() == []


def test_what_stripe_let_go_by_itself_is_booked_and_what_the_desk_let_go_is_known(desk, night, books):
    desk.order(until="preparing")
    desk.system.cancel(number=desk.number)
    desk.work()
    assert Transaction.objects.get(kind="void").status == "succeeded"
    desk.order(until="preparing")
    desk.stripe.cancel(desk.stripe.intents[desk.intent])  # as it does after a week
    assert counts(night(gateway="stripe")) == ("done", 0, 1, 0)
    assert list(Transaction.objects.filter(kind="void").values_list("origin", flat=True)) == ["outside", "desk"]
    assert (items(), books()) == ([], [])


def test_stripes_books_are_compared_and_a_late_webhook_closes_the_item(desk, night, books):
    desk.order()
    desk.stripe.refund_in_dashboard(desk.intent, 700)
    desk.system.cancel(number=desk.number)  # before the news has come; Stripe refuses it
    desk.work()
    assert counts(night(gateway="stripe")) == ("done", 1, 0, 0)
    assert "Missing here: Refund" in items()[0]
    own = Transaction.objects.get(kind="refund")
    services.close_as_failed(transaction_id=own.pk, note="refunded in the dashboard", actor_name="Ada")
    desk.deliver(work=False)
    jobs.drain(clock=timezone.now)
    row = Difference.objects.get()
    assert (items(), row.state) == ([], "done")
    assert row.how.startswith("Resolved: not missing any more on ")
    assert Refund.objects.filter(origin="outside").get().amount == 7
    assert counts(night(gateway="stripe")) == ("done", 0, 0, 0)
    assert books() == []


def test_what_is_under_way_is_no_difference_yet(till, night, books):
    till.authorized("100")
    till.fault("timeout_after")
    till.fault("unavailable", "lookup", remaining=50)
    till.capture("100")
    jobs.drain()
    settled = till.captured("10", reference="100002")
    DemoGatewayEntry.objects.filter(operation="capture", amount=10).delete()
    assert counts(night(after=timedelta(minutes=10))) == ("done", 0, 0, 0)
    assert Payment.objects.get(reference="100001").captured == 0
    DemoGatewayFault.objects.all().delete()
    assert counts(night(after=timedelta(minutes=40))) == ("done", 1, 1, 0)
    assert Difference.objects.get(state="open").payment == settled
    assert books() == []


def test_what_other_gateways_give_and_people_did_by_hand_is_not_looked_for(till, night, books):
    payment = till.captured("100")
    credit = Refund.objects.create(
        reference=payment.reference,
        amount=10,
        currency="EUR",
        cause="to the bank",
        destination="manual",
        status="succeeded",
        settled_at=timezone.now(),
    )
    Transaction.objects.create(
        payment=payment,
        kind="refund",
        amount=10,
        cause="to the bank",
        refund=credit,
        destination="manual",
        status="succeeded",
        settled_at=timezone.now(),
        settled_by="Ada",
    )
    till.fault("decline")
    by_hand = till.refund("20").transactions.get()
    till.work()
    services.settle_by_hand(transaction_id=by_hand.pk, note="SEPA 17", actor_name="Ada")
    at_gateway("authorize", "77", key="")  # another till's: neither our key nor an order's number
    theirs = at_gateway("authorize", "78", reference="900009")
    Payment.objects.filter(pk=payment.pk).update(refund_reserved=30, refunded=30)
    run = night()
    assert (run.found, run.others, run.listed) == (1, 1, 5)
    assert f"Reference at the gateway: {theirs.reference}" in items()[0]
    assert Difference.objects.get().reference == "900009"


# ---------------------------------------------------------------------------------------------------------------------
# Once, whatever happens


def test_two_at_once_are_one_and_the_second_writes_nothing(till, night, books):
    payment = till.captured("100")
    at_gateway("refund", "30", payment=payment)
    at_gateway("capture", "5", payment=payment)
    run = reconciliation.start(gateway="demo", as_of=timezone.now())
    now = timezone.now()
    assert reconciliation.start(gateway="demo", as_of=now, days=99).pk == run.pk
    assert Job.objects.filter(kind="payments.reconcile").count() == 1
    first = jobs.claim(as_of=now, key=f"payments.reconcile:{run.pk}")
    second = jobs.claim(as_of=now + 2 * jobs.LEASE, key=f"payments.reconcile:{run.pk}")
    outcomes = [jobs.perform(first), jobs.perform(second)]
    with pytest.raises(jobs.LeaseLost):
        jobs.settle(first, outcomes[0], as_of=now)
    jobs.settle(second, outcomes[1], as_of=now)
    reconciliation.finish(comparison=outcomes[0].data["comparison"])  # and were there no lease at all
    jobs.drain()
    assert counts(run) == ("done", 1, 1, 0)
    assert (Refund.objects.count(), len(items())) == (1, 1)
    assert books() == []


def test_a_run_killed_in_between_is_done_again_and_counts_the_same(till, night, books):
    payment = till.captured("100")
    at_gateway("refund", "30", payment=payment)
    at_gateway("capture", "5", payment=payment)
    run = reconciliation.start(gateway="demo", as_of=timezone.now())
    now = timezone.now()
    jobs.perform(jobs.claim(as_of=now, key=f"payments.reconcile:{run.pk}"))  # … and the process is gone
    assert (Refund.objects.count(), Difference.objects.filter(state="open").count()) == (1, 0)
    jobs.drain(clock=lambda: now + 2 * jobs.LEASE)
    assert counts(run) == ("done", 1, 1, 0)
    assert (Refund.objects.count(), len(items())) == (1, 1)
    assert books() == []


def test_a_gateway_that_is_not_there_stops_nothing_for_good(till, night, monkeypatch, books):
    till.captured("100")

    class Away:
        takes_money_online = True

        def list_since(self, since):
            raise tasks.GatewayUnavailable("Nobody answers.")

    with monkeypatch.context() as patch:
        patch.setattr(reconciliation, "_listing", lambda code: Away())
        run = night()
        till.work()
    run.refresh_from_db()
    assert (run.state, run.error) == ("needs_attention", "Nobody answers.")
    (job,) = Job.objects.filter(kind="payments.reconcile", state="needs_attention")
    again = night(after=timedelta(days=1))  # the next night goes on with it, and its item is gone
    assert (again.pk, counts(again)) == (run.pk, ("done", 0, 0, 0))
    job.refresh_from_db()
    assert job.state == "done"
    # A list that takes too long is not read by a worker.
    monkeypatch.setattr(tasks, "RECONCILE_SECONDS", -1)
    assert night().error.startswith("The list is too long for a worker")
    job = Job.objects.get(kind="payments.reconcile", state="needs_attention")
    jobs.finish_by_hand(job.pk, user_id=None, actor_name="Ada", note="tonight by the command")
    assert Reconciliation.objects.latest("pk").state == "failed"
    assert books() == []


def many(count):
    """Paid orders, in both books."""
    now = timezone.now() - timedelta(hours=2)
    names = [f"m{number}" for number in range(count)]
    money = {"amount": 10, "authorized": 10, "capture_reserved": 10, "captured": 10}
    payments = Payment.objects.bulk_create(
        Payment(reference=name, gateway="demo", currency="EUR", **money) for name in names
    )
    moved = {"amount": 10, "status": "succeeded", "settled_at": now, "created_at": now}
    rows = [
        Transaction(payment=paid, kind=kind, cause=paid.reference, gateway_reference=f"{kind}-{paid.pk}", **moved)
        for paid in payments
        for kind in ("authorize", "capture")
    ]
    Transaction.objects.bulk_create(rows)
    opened = {row.payment_id: str(row.key) for row in rows if row.kind == "authorize"}
    DemoGatewayEntry.objects.bulk_create(
        DemoGatewayEntry(
            operation=row.kind,
            key=str(row.key),
            payment_key=opened[row.payment_id],
            amount=10,
            currency="EUR",
            status="succeeded",
            reference=row.gateway_reference,
            created_at=now,
        )
        for row in rows
    )


def test_five_thousand_transactions_take_a_constant_number_of_queries_a_page():
    many(2500)
    run = reconciliation.start(gateway="demo", as_of=timezone.now(), by_worker=False)
    comparison = reconciliation.Comparison(run, as_of=timezone.now())
    records = list(tasks.get_gateway("demo").list_since(run.since))
    with CaptureQueriesContext(connection) as queries:
        comparison.read(records)
        comparison.read_ledger(tasks.look_up)
    pages = len(records) / services.differences.PAGE
    assert (len(records), pages) == (5000, 10)
    assert len(queries) <= 6 * pages + 1
    assert (comparison.findings, len(comparison.seen)) == ([], 5000)


# ---------------------------------------------------------------------------------------------------------------------
# People


def test_staff_compare_now_and_see_what_came_of_it(till, night, client, staff, store, books):
    payment = till.captured("100")
    Payment.objects.filter(pk=payment.pk).update(store=store)
    entry("capture").delete()
    listed, start = "/admin/payments/reconciliation/", "/admin/payments/reconciliation/start/"
    client.force_login(staff("Customer Service"))
    assert [client.get(url).status_code for url in (listed, start)] == [403, 403]
    assert client.post(start, {"gateway": "demo"}).status_code == 403
    assert not Reconciliation.objects.exists()
    client.force_login(staff("Store Manager", store))
    assert "Nothing was compared yet." in client.get(listed).content.decode()
    assert "Compare now" in client.get(start).content.decode()
    assert client.post(start, {"gateway": "manual"}).status_code == 200  # not among the choices
    answer = client.post(start, {"gateway": "demo", "days": 10})
    assert "has begun" in str(next(iter(get_messages(answer.wsgi_request))))
    night(after=timedelta(hours=1))
    run, row = Reconciliation.objects.get(), Difference.objects.get()
    page = client.get(f"{listed}{run.pk}/change/").content.decode()
    assert "Missing at the gateway" in page
    assert "€100.00, Succeeded" in page
    found = client.get("/admin/payments/difference/", {"q": payment.reference, "state__exact": "open"})
    assert "Missing at the gateway" in found.content.decode()
    page = client.get(f"/admin/payments/difference/{row.pk}/change/").content.decode()
    assert f"/admin/payments/transaction/{row.transaction_id}/change/" in page
    assert "Look for the order&#x27;s number" in page
    assert "Books differ" in client.get("/admin/").content.decode()
    item = Job.objects.get(kind="payments.difference")
    assert "Missing at the gateway" in client.get(f"/admin/shop/job/{item.pk}/change/").content.decode()
    # "Try again" compares anew.
    jobs.retry_by_hand(item.pk)
    jobs.drain(clock=timezone.now)
    assert Reconciliation.objects.count() == 2
    assert len(items()) == 1
    client.force_login(staff("Store Manager"))  # of no store
    assert "€100.00" not in client.get("/admin/payments/difference/", {"q": payment.reference}).content.decode()
    assert client.post(f"/admin/payments/difference/{row.pk}/do/accept/", {"note": "x"}).status_code in {302, 404}
    row.refresh_from_db()
    assert row.state == "open"
    assert books() == []


def test_the_command_says_by_its_exit_code_whether_the_books_agree(till, night, books):
    till.captured("100")
    night(after=NIGHT)
    out, err = StringIO(), StringIO()
    call_command("reconcile", "demo", days=5, stdout=out)
    assert "The books agree." in out.getvalue()
    entry("capture").delete()
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", "demo", stdout=out, stderr=err)
    assert (ended.value.code, "1 differences." in err.getvalue()) == (1, True)
    assert "100001: Missing at the gateway: Capture" in err.getvalue()
    for wrong in ("manual", "nobody"):
        with pytest.raises(CommandError) as no:
            call_command("reconcile", wrong)
        assert no.value.returncode == 2
    assert reconciliation.reconciled_gateways() == ["demo", "loyalty", "store_credit"]
    assert books() == []
