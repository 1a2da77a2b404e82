"""Tokens of staff's programs: made by an admin, kept as a hash, used within their scopes, ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient, APIRequestFactory

from orders.models import JournalEntry
from shop import tokens
from shop.actors import Actor
from shop.api import TokenThrottle
from shop.models import ApiToken, Store, User
from tests import factories
from tests.orders.asking import fresh
from tests.orders.programs import ADMIN, Asker, maker, program, secret_of
from tests.orders.test_bad_input import answer_of
from tests.orders.test_matrix import world

Staff = Callable[..., User]
pytestmark = pytest.mark.django_db


# ---------------------------------------------------------------------------------------------------------------
# Tokens


def test_the_journal_names_the_token_and_its_account(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    answer = program(manager, "orders:write", name="Warehouse robot").send(
        "PUT", f"/api/v1/orders/{order.number}/status", {"status": "approved", "note": "by rule"}
    )
    assert answer.json() == {"number": order.number, "status": "approved", "version": fresh(order).version}
    entry = JournalEntry.objects.filter(order=order).order_by("pk").last()
    assert entry.actor_name == f"Warehouse robot ({manager.get_full_name()})"


def test_only_a_hash_of_the_secret_is_stored(manager: User) -> None:
    secret = secret_of(manager, "orders:read")
    row = ApiToken.objects.get()
    stored = " ".join(str(getattr(row, field.attname)) for field in ApiToken._meta.fields)
    assert secret not in stored
    assert secret.startswith(row.prefix)
    assert len(secret) > len(row.prefix) + 30
    assert tokens.find(row.secret_hash) is None


def test_a_token_ends_by_time_by_revocation_and_with_its_account(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    path = f"/orders/{order.number}/actions/"
    asker = program(manager, expires_at=timezone.now() + timedelta(hours=1))
    assert asker.get(path).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        ended = asker.get(path)
        assert ended.status_code == 401
        assert ended.headers["WWW-Authenticate"] == 'Bearer realm="staff", error="invalid_token"'
    User.objects.filter(pk=manager.pk).update(is_staff=False)
    assert asker.get(path).status_code == 401
    User.objects.filter(pk=manager.pk).update(is_staff=True)
    assert asker.get(path).status_code == 200
    tokens.revoke(actor=maker(), token_id=ApiToken.objects.get().pk)
    assert asker.get(path).status_code == 401
    with pytest.raises(tokens.Revoked):
        tokens.revoke(actor=maker(), token_id=ApiToken.objects.get().pk)


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Bearer ", "bearer \xff", "Bearer desk_nope"])
def test_a_malformed_token_is_told_so(header: str) -> None:
    answer = APIClient().get("/api/v1/approvals/", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["error_code"]) == (401, ["authentication_failed"])


def test_its_use_is_noted_once_a_minute(manager: User) -> None:
    asker, now = program(manager), timezone.now()
    with time_machine.travel(now, tick=False):
        asker.get("/api/v1/approvals/")
    first = ApiToken.objects.get().last_used_at
    with time_machine.travel(now + timedelta(seconds=59), tick=False):
        asker.get("/api/v1/approvals/")
    assert ApiToken.objects.get().last_used_at == first
    with time_machine.travel(now + timedelta(seconds=60), tick=False):
        asker.get("/api/v1/approvals/")
    assert ApiToken.objects.get().last_used_at == now + timedelta(seconds=60)


def test_a_token_opens_the_doors_of_staff_only(manager: User, store: Store) -> None:
    """Else its account's own orders could be cancelled with a token that may not cancel."""
    order = factories.place_order(store=store, customer=manager)
    asker = program(manager)
    before = world(order)
    for method, path in (
        ("GET", "/users/orders/"),
        ("GET", "/current_user/"),
        ("POST", f"/orders/{order.number}/cancel/"),
    ):
        assert asker.send(method, path, {} if method == "POST" else None).status_code in {401, 403}, path
    assert world(order) == before


def test_a_session_needs_the_csrf_token_and_a_program_none(manager: User, store: Store) -> None:
    order = factories.place_order(store=store)
    asker = Asker(manager)
    del asker.headers["X-CSRFToken"]
    path = f"/api/v1/orders/{order.number}/status"
    refused = answer_of(asker.send("PUT", path, {"status": "approved"}))
    assert (refused.status, refused.code) == (403, "permission_denied")
    assert program(manager).send("PUT", path, {"status": "approved"}).status_code == 200


def test_too_many_requests_of_one_token_wait_and_others_do_not(manager: User) -> None:
    asker, other = program(manager), program(manager)
    request = APIRequestFactory().get("/")
    request.auth = ApiToken.objects.order_by("pk").first()  # type: ignore[attr-defined]
    throttle = TokenThrottle()
    for _one in range(throttle.num_requests):
        assert throttle.allow_request(request, None)  # type: ignore[arg-type]
    answer = asker.get("/api/v1/approvals/")
    assert (answer.status_code, answer.json()["error_code"]) == (429, ["throttled"])
    assert 0 <= int(answer.headers["Retry-After"]) <= 60
    assert other.get("/api/v1/approvals/").status_code == 200
    cache.clear()
    assert asker.get("/api/v1/approvals/").status_code == 200


# ---------------------------------------------------------------------------------------------------------------
# Tokens in the admin


def test_an_admin_makes_a_token_sees_its_secret_once_and_revokes_it(staff: Staff, manager: User) -> None:
    chief, client = staff(ADMIN), Client()
    client.force_login(chief)
    form = client.get(reverse("admin:shop_apitoken_issue"))
    once = form.context["form"]["once"].value()
    data = {"once": once, "name": "Robot", "user": manager.pk, "scopes": ["orders:read", "orders:cancel"]}
    made = client.post(reverse("admin:shop_apitoken_issue"), data)
    secret = made.context["secret"]
    assert secret in made.content.decode()
    assert "no-store" in made.headers["Cache-Control"]
    again = client.post(reverse("admin:shop_apitoken_issue"), data)
    token = ApiToken.objects.get()
    assert again.context["secret"] == ""
    assert (token.created_by, token.scopes) == (chief, ["orders:cancel", "orders:read"])
    page = reverse("admin:shop_apitoken_change", args=(token.pk,))
    for address in (page, reverse("admin:shop_apitoken_changelist")):
        shown = client.get(address).content.decode()
        assert token.name in shown
        assert secret not in shown
        assert token.secret_hash not in shown
    assert Asker(secret=secret).get("/api/v1/approvals/").status_code == 403
    client.post(reverse("admin:shop_apitoken_do", args=(token.pk, "revoke")), {})
    token.refresh_from_db()
    assert (token.revoked_at is not None, token.revoked_by) == (True, chief)
    assert Asker(secret=secret).get("/api/v1/approvals/").status_code == 401


def test_nobody_else_makes_one_and_none_for_a_superuser(staff: Staff, manager: User) -> None:
    client = Client()
    client.force_login(manager)
    for name in ("admin:shop_apitoken_issue", "admin:shop_apitoken_changelist"):
        assert client.get(reverse(name)).status_code == 403
    root: User = factories.UserFactory(is_staff=True, is_superuser=True)
    client.force_login(staff(ADMIN))
    data = {"name": "Robot", "user": root.pk, "scopes": ["orders:cancel"]}
    refused = client.post(reverse("admin:shop_apitoken_issue"), data)
    assert "user" in refused.context["form"].errors
    with pytest.raises(tokens.NotForTokens):
        tokens.issue(actor=Actor.staff(staff(ADMIN)), name="Robot", user=root, scopes=["orders:cancel"])
    assert not ApiToken.objects.exists()
    client.force_login(root)
    assert client.post(reverse("admin:shop_apitoken_issue"), data).context["secret"]
