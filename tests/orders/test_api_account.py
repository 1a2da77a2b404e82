"""Log in as the storefront's client does, be somebody under either cookie, and log out."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.conf import settings as shop_settings
from django.core.cache import cache
from rest_framework.test import APIClient

from shop.models import User
from tests.orders.storefront import PASSWORD, Browser, assert_errors, new_customer

pytestmark = pytest.mark.django_db
OURS, DJANGOS = "shop.sessions.SessionMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"


@pytest.fixture(autouse=True)
def _both_cookies(settings: Any) -> None:
    settings.MIDDLEWARE = [OURS if name == DJANGOS else name for name in shop_settings.MIDDLEWARE]
    cache.clear()


@pytest.fixture
def customer() -> User:
    return new_customer(first_name="Ada", phone="+49301")


def someone(**cookies: str) -> APIClient:
    client = APIClient(enforce_csrf_checks=True)
    for name, value in cookies.items():
        client.cookies[name] = value
    return client


def test_logging_in_gives_the_key_in_the_body_and_in_both_cookies(customer: User) -> None:
    response = Browser().login(customer.email)
    assert response.status_code == 200
    key = response.json()["key"]
    # The client's own regular expression.
    assert re.search(r"osessionid=\w+", response.cookies["osessionid"].OutputString()).group() == f"osessionid={key}"
    assert response.cookies["sessionid"].value == key
    for name in ("sessionid", "osessionid"):
        cookie = response.cookies[name]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
        assert cookie["max-age"] == shop_settings.SESSION_COOKIE_AGE


@pytest.mark.parametrize(("good", "old"), [("sessionid", "osessionid"), ("osessionid", "sessionid")])
def test_a_cookie_left_over_from_an_ended_session_does_not_hide_the_other(good: str, old: str, customer: User) -> None:
    browser = Browser()
    key = browser.login(customer.email).json()["key"]
    ended = Browser()
    left_over = ended.login(customer.email).json()["key"]
    ended.post("/users/logout/", {})
    assert someone(**{good: key, old: left_over}).get("/current_user/").status_code == 200
    assert someone(**{good: "x" * 32, old: left_over}).get("/current_user/").status_code == 401


@pytest.mark.parametrize("name", ["sessionid", "osessionid"])
def test_either_cookie_is_the_session(name: str, customer: User) -> None:
    key = Browser().login(customer.email).json()["key"]
    response = someone(**{name: key}).get("/current_user/")
    assert response.status_code == 200
    body = response.json()
    assert (body["pk"], body["email"], body["first_name"], body["phone"]) == (
        customer.pk,
        customer.email,
        "Ada",
        "+49301",
    )
    assert {"last_name", "date_joined", "last_login", "hashed_email", "gender", "date_of_birth"} <= set(body)


def test_an_email_in_other_case_is_the_same_and_other_keys_are_ignored(customer: User) -> None:
    body = {
        "email": customer.email.upper(),
        "password": PASSWORD,
        "formType": "login",
        "locale": "en",
        "captchaValidated": "",
    }
    assert someone().post("/users/login/", body, format="json").status_code == 200


@pytest.mark.parametrize("case", ["wrong password", "unknown", "switched off", "user name"])
def test_a_wrong_login_is_400_with_nothing_but_the_clients_key(case: str, customer: User) -> None:
    email, password = customer.email, PASSWORD
    if case == "wrong password":
        password = "wrong"
    elif case == "unknown":
        email = "nobody@example.com"
    elif case == "user name":
        email = customer.username
    else:
        User.objects.filter(pk=customer.pk).update(is_active=False)
    response = Browser().login(email, password)
    assert assert_errors(response, 400) == {"non_field_errors": ["Unable to log in with provided credentials."]}
    assert "sessionid" not in response.cookies


@pytest.mark.parametrize(
    "body",
    [{}, [], None, "x", {"email": "a"}, {"email": None, "password": []}, {"email": "\x00", "password": "\x00"}],
    ids=str,
)
def test_a_senseless_login_is_400(body: Any) -> None:
    assert_errors(someone().post("/users/login/", body, format="json"), 400)


def test_only_json_logs_in_so_that_no_other_sites_form_can(customer: User) -> None:
    body = {"email": customer.email, "password": PASSWORD}
    assert_errors(someone().post("/users/login/", body), 415)
    raw = json.dumps(body)
    assert_errors(someone().post("/users/login/", raw, content_type="text/plain"), 415)


def test_too_many_tries_are_429_for_that_email_only(customer: User) -> None:
    browser = Browser()
    answers = [browser.login(customer.email, "wrong").status_code for _n in range(10)]
    assert answers == [400] * 10
    response = browser.login(customer.email)
    assert list(assert_errors(response, 429)) == ["non_field_errors"]
    assert 0 < int(response["Retry-After"]) <= 60
    assert browser.login(new_customer().email).status_code == 200


def test_logging_in_as_somebody_else_makes_a_new_session(customer: User) -> None:
    browser, other = Browser(), new_customer()
    first = browser.login(customer.email)
    again = browser.login(customer.email)
    assert again.cookies["osessionid"].value == again.json()["key"], "the client looks for the cookie every time"
    key = browser.login(other.email).json()["key"]
    assert key != first.json()["key"]
    assert browser.get("/current_user/").json()["pk"] == other.pk
    assert someone(sessionid=first.json()["key"]).get("/current_user/").status_code == 401


def test_a_key_planted_before_logging_in_is_not_the_session_afterwards(customer: User) -> None:
    client = someone(sessionid="0123456789abcdef0123456789abcdef")
    body = {"email": customer.email, "password": PASSWORD}
    assert client.post("/users/login/", body, format="json").json()["key"] != "0123456789abcdef0123456789abcdef"


def test_the_token_is_good_as_cookie_and_header(customer: User) -> None:
    token = someone().get("/csrf_token/").json()["csrf_token"]
    key = Browser().login(customer.email).json()["key"]
    # As the client does: the answer's value becomes the cookie.
    client = someone(osessionid=key, csrftoken=token)
    assert client.post("/users/logout/", headers={"X-CSRFToken": token}).status_code == 200
    assert client.get("/current_user/").status_code == 401


def test_logging_out_ends_the_session_and_both_cookies(customer: User) -> None:
    browser = Browser(customer)
    key = browser.client.cookies["sessionid"].value
    response = browser.post("/users/logout/")
    assert (response.status_code, response.json()) == (200, {})
    assert [response.cookies[name]["max-age"] for name in ("sessionid", "osessionid")] == [0, 0]
    assert_errors(someone(sessionid=key).get("/current_user/"), 401)


def test_logging_out_needs_the_csrf_token(customer: User) -> None:
    browser = Browser(customer)
    assert_errors(browser.client.post("/users/logout/"), 403)
    assert browser.get("/current_user/").status_code == 200


def test_the_clients_own_way_out_is_answered_with_a_body() -> None:
    # Without the slash, as a form, with a session that is none: a 204 or a redirect would fail the client.
    client = someone(osessionid="undefined")
    response = client.post("/users/logout", "csrfmiddlewaretoken=", content_type="application/x-www-form-urlencoded")
    assert (response.status_code, response.json()) == (200, {})


def test_nobody_is_401() -> None:
    assert_errors(someone().get("/current_user/"), 401)


@pytest.mark.parametrize("key", ["", "x", "0" * 32, "a" * 5000, "é"])
def test_a_key_that_is_none_is_nobody(key: str) -> None:
    for name in ("sessionid", "osessionid"):
        assert someone(**{name: key}).get("/current_user/").status_code == 401


def test_who_asks_more_often_than_people_click_is_told_when_to_come_back(monkeypatch):
    """All of the storefront's doors count together; repeats of the client's own are far below."""
    monkeypatch.setattr("shop.api.PersonThrottle.rate", "3/min")
    browser = APIClient()
    answers = [browser.get("/csrf_token/") for _try in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1]["Retry-After"]) <= 60
    assert answers[-1].json()["error_code"] == ["throttled"]
