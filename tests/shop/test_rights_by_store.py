"""What staff of one store may do with what belongs to another store, or to all of them: nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from notifications.models import WebhookEndpoint
from notifications.services import webhooks
from orders.models import Approval, ApprovalLevel, ApprovalPolicy, BulkRun
from orders.rules import Policies, decide_approval
from shop import tokens
from shop.actors import Actor
from shop.errors import NotAllowed
from shop.models import ApiToken, Store, User
from shop.roles import ADMIN, MANAGER, SERVICE
from tests import factories
from tests.orders.bulk_runs import Place, handler, many, start, status

Staff = Callable[..., User]
pytestmark = pytest.mark.django_db


def allowed(user: User, *permissions: str) -> User:
    for name in permissions:
        label, _dot, codename = name.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def keeper(staff: Staff, store: Store) -> User:
    """Somebody of one store whom the shop lets make and revoke tokens."""
    return allowed(staff(MANAGER, store), tokens.ADD, tokens.REVOKE, "shop.view_apitoken")


def test_a_right_of_one_store_is_none_over_what_belongs_to_all(staff: Staff, store: Store) -> None:
    mine, everywhere = Actor.staff(staff(MANAGER, store)), Actor.staff(staff(ADMIN))
    assert mine.may("orders.cancel_order")
    assert mine.may("orders.cancel_order", store_id=store.pk)
    assert not mine.may("orders.cancel_order", store_id=None)
    assert not mine.works_in(None)
    assert everywhere.may("orders.cancel_order", store_id=None)


def test_a_webhook_of_all_stores_is_not_switched_off_by_staff_of_one(staff: Staff, store: Store) -> None:
    mine = Actor.staff(allowed(staff(MANAGER, store), "notifications.change_webhookendpoint"))
    own, of_all = (
        WebhookEndpoint.objects.create(name="ERP", url="https://erp.example", store=where, created_at=timezone.now())
        for where in (store, None)
    )
    webhooks.switch(endpoint_id=own.pk, on=False, actor=mine)
    with pytest.raises(NotAllowed):
        webhooks.switch(endpoint_id=of_all.pk, on=False, actor=mine)


def test_a_run_in_several_stores_is_taken_back_by_who_began_it_and_decided_by_who_works_in_all(
    staff: Staff, store: Store, place: Place
) -> None:
    highest = ApprovalLevel.objects.order_by("-level").first()
    ApprovalPolicy.objects.create(name="Much money", level=highest, min_value=25, currency="EUR")
    other = factories.StoreFactory()
    mine = staff(MANAGER, store, other)
    run = start(mine, *many(place, store, 2), *many(place, other, 2), justification="please")
    asked = Approval.objects.get()
    assert (run.store, asked.store) == (None, None)
    no = decide_approval(asked, Actor.staff(staff(MANAGER, store, other)), Policies(is_superuser=True))
    assert isinstance(no, NotAllowed)
    handler(mine).withdraw_bulk(approval=str(asked.uuid))
    assert status(run) == BulkRun.Status.STOPPED


def test_who_began_a_run_in_several_stores_may_pause_it(staff: Staff, store: Store, place: Place) -> None:
    other = factories.StoreFactory()
    mine = staff(MANAGER, store, other)
    run = start(mine, *many(place, store, 1), *many(place, other, 1))
    browser = Client()
    browser.force_login(mine)
    page = browser.get(reverse("admin:orders_bulkrun_change", args=(run.pk,)))
    assert [button.name for button in page.context["buttons"]] == ["pause", "stop"]
    handler(mine).pause_bulk(run_id=run.pk)
    assert status(run) == BulkRun.Status.PAUSED


def test_a_token_gives_no_rights_in_stores_that_its_maker_does_not_work_in(
    keeper: User, staff: Staff, store: Store
) -> None:
    other = factories.StoreFactory()
    here = staff(MANAGER, store)
    beyond = [staff(MANAGER, other), staff(MANAGER, store, other), staff(SERVICE), staff(ADMIN, store), staff(MANAGER)]
    maker, boss = Actor.staff(keeper), Actor.staff(staff(ADMIN))
    for user in beyond:
        with pytest.raises(tokens.NotForTokens):
            tokens.issue(actor=maker, name="Robot", user=user, scopes=["orders:cancel"])
        tokens.issue(actor=boss, name="Robot", user=user, scopes=["orders:cancel"])
    tokens.issue(actor=maker, name="Robot", user=here, scopes=["orders:cancel"])
    assert set(tokens.of(maker)) == set(ApiToken.objects.filter(user=here))
    with pytest.raises(NotAllowed):
        tokens.revoke(actor=maker, token_id=ApiToken.objects.filter(user=beyond[0]).get().pk)
    tokens.revoke(actor=maker, token_id=ApiToken.objects.get(user=here).pk)


def test_the_pages_of_tokens_name_no_accounts_of_other_stores(keeper: User, staff: Staff, store: Store) -> None:
    here, there = staff(MANAGER, store), staff(MANAGER, factories.StoreFactory())
    foreign, _secret = tokens.issue(actor=Actor.system(), name="Far", user=there, scopes=["orders:read"])
    browser = Client()
    browser.force_login(keeper)
    offered = browser.get(reverse("admin:shop_apitoken_issue")).context["form"].fields["user"].queryset
    assert set(offered) == {here, keeper}
    assert "Far" not in browser.get(reverse("admin:shop_apitoken_changelist")).content.decode()
    page = reverse("admin:shop_apitoken_do", args=(foreign.pk, "revoke"))
    assert browser.get(page).status_code == 404
