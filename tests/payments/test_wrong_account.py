"""A wrong key or another account at the gateway is one item in the inbox, not one for each transaction."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from payments import tasks
from payments.models import DemoGatewayEntry, Difference, Reconciliation
from payments.services import reconciliation
from shop import jobs
from shop.models import Job
from tests.payments.test_reconciliation import desk, differences, items, many, night

__all__ = ["desk", "night"]
pytestmark = pytest.mark.django_db


def waiting():
    return list(Job.objects.filter(state="needs_attention").values_list("kind", "last_error"))


def test_the_books_of_another_account_open_no_differences_and_one_item(till, night):
    many(30)
    at_gateway = list(DemoGatewayEntry.objects.all())
    DemoGatewayEntry.objects.all().delete()
    run = night()
    ((kind, words),) = waiting()
    assert (kind, run.state, differences()) == ("payments.reconcile", "needs_attention", [])
    assert words.startswith("21 of 21 movements that were looked for are not at the gateway; it listed 0.")
    assert words.endswith("See whether this is the account that took the money: check the API key")
    assert run.error == words
    with pytest.raises(CommandError) as no:
        call_command("reconcile", "demo")
    assert (no.value.returncode, differences()) == (2, [])
    night()  # the next night finds the same, in the same item
    assert len(waiting()) == 1
    DemoGatewayEntry.objects.bulk_create(at_gateway)  # the key is put right, and somebody tries again
    jobs.retry_by_hand(Job.objects.get(kind="payments.reconcile").pk)
    jobs.drain(clock=timezone.now)
    run.refresh_from_db()
    assert (run.state, run.error, waiting(), Reconciliation.objects.count()) == ("done", "", [], 1)


def test_as_many_missing_among_many_others_are_differences_and_so_are_a_few(till, night):
    many(30)
    DemoGatewayEntry.objects.filter(operation="capture").delete()  # half of it: 30 of 60
    assert night().found == 30
    assert len(items()) == 30
    # People know of these: what is missing beside them is new, and does not come to more than a few.
    DemoGatewayEntry.objects.filter(pk__in=list(DemoGatewayEntry.objects.values_list("pk", flat=True)[:19])).delete()
    assert night().found == 19
    assert len(items()) == 49


def test_who_has_moved_to_another_account_says_so_and_sees_everything_that_is_missing(till, night):
    many(12)
    DemoGatewayEntry.objects.all().delete()
    night()
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile", "demo", new_account=True, stdout=out, stderr=out)
    assert (ended.value.code, Difference.objects.count()) == (1, 24)


def test_stripe_says_whose_books_these_are_and_anothers_are_not_even_read(desk, night):
    desk.order()
    run = night(gateway="stripe")
    assert (run.state, run.account) == ("done", "acct_fake")
    desk.stripe.account = "acct_other"
    run = night(gateway="stripe")
    assert (run.state, run.listed) == ("needs_attention", 0)
    assert "These are the books of the account acct_other; the last comparison was with acct_fake." in waiting()[0][1]
    with pytest.raises(CommandError) as no:
        call_command("reconcile", "stripe")
    assert no.value.returncode == 2
    call_command("reconcile", "stripe", new_account=True, stdout=StringIO())
    assert Reconciliation.objects.latest("pk").account == "acct_other"
    desk.stripe.fault("403", "GET /v1/account")  # a restricted key may not ask
    assert night(gateway="stripe").account == "acct_other"
    assert waiting() == []


def test_a_gateway_that_names_no_account_is_compared_by_its_books_alone(till, night):
    till.captured("10")
    assert (night().account, tasks.account_of(tasks.get_gateway("demo"))) == ("", "")
    assert reconciliation.reconciled_gateways() == ["demo", "loyalty", "store_credit"]
