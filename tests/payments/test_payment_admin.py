"""What staff see of payments, and the one thing they can do there."""

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from payments import services
from payments.models import DemoGatewayFault, Payment, Refund, Transaction
from shop.models import Store, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def person():
    def make(*permissions, stores=()):
        user = User.objects.create_user(f"staff{User.objects.count()}", is_staff=True)
        codes = ["view_payment", "view_refund", "view_transaction", "view_attempt", *permissions]
        user.user_permissions.set(Permission.objects.filter(codename__in=codes))
        for store in stores:
            store.staff.add(user)
        return user

    return make


@pytest.fixture
def declined(till):
    """A refund in a store's order that the gateway declined."""
    store = Store.objects.create(code="berlin", name="Berlin")
    payment = till.captured("100")
    Payment.objects.filter(pk=payment.pk).update(store=store)
    till.fault("decline")
    refund = till.refund("100")
    till.work()
    return refund.transactions.get()


def close_url(row):
    return reverse("admin:payments_transaction_do", args=[row.pk, "close"])


def test_every_page_can_be_looked_at_and_nothing_edited(client, person, declined):
    client.force_login(person("work_all_stores"))
    for model, row in (("payment", declined.payment), ("refund", declined.refund), ("transaction", declined)):
        listed = client.get(reverse(f"admin:payments_{model}_changelist"), {"q": "100001"})
        assert (listed.status_code, "€100.00" in listed.content.decode()) == (200, True)
        url = reverse(f"admin:payments_{model}_change", args=[row.pk])
        page = client.get(url)
        assert (page.status_code, "The bank declined." in page.content.decode()) == (200, True)
        assert client.post(url, {"status": "succeeded"}).status_code == 403
        assert client.post(reverse(f"admin:payments_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        assert client.get(reverse(f"admin:payments_{model}_add")).status_code == 403


def test_people_see_the_payments_of_their_stores_only(client, person, declined):
    client.force_login(person(stores=[Store.objects.create(code="paris", name="Paris")]))
    for model, row in (("payment", declined.payment), ("refund", declined.refund), ("transaction", declined)):
        assert "€100.00" not in client.get(reverse(f"admin:payments_{model}_changelist")).content.decode()
        assert client.get(reverse(f"admin:payments_{model}_change", args=[row.pk])).status_code == 302
    assert client.post(close_url(declined), {"note": "x", "understood": "on"}).status_code == 404
    assert Transaction.objects.get(pk=declined.pk).status == "needs_person"


def test_a_declined_refund_is_closed_by_who_may(client, person, declined):
    berlin = Store.objects.get()
    client.force_login(person("close_transaction", stores=[berlin]))
    assert client.get(close_url(declined)).status_code == 200
    assert Transaction.objects.get(pk=declined.pk).status == "needs_person"
    answer = client.post(close_url(declined), {"note": "the account is closed", "understood": "on"})
    assert (answer.status_code, Refund.objects.get().status) == (302, "failed")
    assert Transaction.objects.get(pk=declined.pk).error == "the account is closed"
    assert Payment.objects.get().refundable == 100
    assert list(services.verify()) == []


def test_without_the_permission_nothing_is_closed(client, person, declined):
    client.force_login(person(stores=[Store.objects.get()]))
    assert client.post(close_url(declined), {"note": "x", "understood": "on"}).status_code == 403
    client.logout()
    assert client.post(close_url(declined), {"note": "x", "understood": "on"}).status_code == 302
    assert Transaction.objects.get(pk=declined.pk).status == "needs_person"


def test_what_needs_nobody_is_not_closed(client, person, till):
    till.captured("100")
    row = till.refund("10").transactions.get()
    client.force_login(person("close_transaction", "work_all_stores"))
    answer = client.post(close_url(row), {"note": "x", "understood": "on"})
    assert answer.status_code == 409
    assert "Only a transaction that waits for a person can be closed." in answer.content.decode()


def test_the_demo_gateways_faults_are_edited_by_who_may(client, person):
    url = reverse("admin:payments_demogatewayfault_add")
    client.force_login(person())
    assert client.get(url).status_code == 403
    client.force_login(person("add_demogatewayfault", "change_demogatewayfault"))
    data = {"operation": "refund", "behaviour": "decline", "remaining": "2", "seconds": "0"}
    assert client.post(url, data).status_code == 302
    assert DemoGatewayFault.objects.get().remaining == 2


@pytest.mark.parametrize("payments", [1, 4])
def test_a_list_takes_the_same_number_of_queries_for_any_number_of_rows(
    client, person, till, payments, django_assert_max_num_queries
):
    for _ in range(payments):
        till.captured("10")
    client.force_login(person("work_all_stores"))
    for model in ("payment", "refund", "transaction"):
        with django_assert_max_num_queries(20):
            client.get(reverse(f"admin:payments_{model}_changelist"))
