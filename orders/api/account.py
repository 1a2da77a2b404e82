"""The doors of the account: the CSRF token, logging in and out, and who one is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.parsers import FormParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from orders.api.base import NO_CSRF, NOT_LOGGED_IN, StorefrontView, errors
from orders.api.own_orders import ByAddressAndEmail
from shop.api import BoundedJSONParser
from shop.models import User


class CsrfSerializer(serializers.Serializer[Any]):
    csrf_token = serializers.CharField()


class CsrfView(StorefrontView):
    """GET /csrf_token/."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="getCsrfToken",
        summary="A token for write operations",
        description="Send it back as the cookie `csrftoken` and as the header `X-CSRFToken`.",
        tags=["Account"],
        responses={200: CsrfSerializer},
    )
    def get(self, request: Request) -> Response:
        return Response({"csrf_token": get_token(request._request)})


class LoginSerializer(serializers.Serializer[Any]):
    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=1024, trim_whitespace=False)


class KeySerializer(serializers.Serializer[Any]):
    """The session's key, which the cookies carry as well."""

    key = serializers.CharField()


class LoginPerMinute(ByAddressAndEmail):
    scope = "login_minute"
    rate = "10/min"


class LoginPerHour(ByAddressAndEmail):
    scope = "login_hour"
    rate = "60/hour"


class LoginPerAddress(SimpleRateThrottle):
    """So many of one address, whoever they name: nobody tries one password on everybody.

    A storefront's server logs all its customers in from one address, so this is far above what one person does.
    """

    scope = "login_address"
    rate = "300/min"

    def get_cache_key(self, request: Request, view: Any) -> str:
        return f"throttle:{self.scope}:{self.get_ident(request)}"


LOGIN_THROTTLES = (LoginPerMinute, LoginPerHour, LoginPerAddress)


def log_in(request: HttpRequest, *, email: str, password: str) -> User | None:
    """This will log a customer in, by an e-mail in any case; None where the two are not right or the account is closed.

    For the API's door and the shop's page. Both count tries by LOGIN_THROTTLES.
    """
    user = User.objects.alias(lowered=Lower("email")).filter(lowered=email.lower()).first()
    # Nobody's name is "": an unknown e-mail takes as long as a wrong password.
    found = authenticate(request, username=user.get_username() if user else "", password=password)
    if not isinstance(found, User):
        return None
    login(request, found)
    return found


class LoginView(StorefrontView):
    """POST /users/login/: the storefront's server sends no CSRF token here.

    JSON is the only body that is read, and no other site's page can send that without this server's consent; so no page
    can log a visitor in as somebody else.
    """

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes = (AllowAny,)
    throttle_classes = LOGIN_THROTTLES

    @extend_schema(
        operation_id="login",
        summary="Log in",
        description="Sets the session as both cookies, `sessionid` and `osessionid`.",
        tags=["Account"],
        request=LoginSerializer,
        examples=[OpenApiExample("Ada", value={"email": "ada@example.com", "password": "pa55word"}, request_only=True)],
        responses={
            200: KeySerializer,
            400: errors("Wrong e-mail or password", non_field_errors="Unable to log in with provided credentials."),
            429: errors("Too many tries", non_field_errors="Request was throttled. Expected available in 42 seconds."),
        },
    )
    def post(self, request: Request) -> Response:
        asked = LoginSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        if log_in(request._request, **asked.validated_data) is None:
            raise serializers.ValidationError({"non_field_errors": [_("Unable to log in with provided credentials.")]})
        return Response({"key": request._request.session.session_key})

    def handle_exception(self, exc: Exception) -> Response:
        """The storefront's client takes every key but non_field_errors for a field of its form."""
        response = super().handle_exception(exc)
        response.data.pop("error_code", None)
        return response


class LogoutView(StorefrontView):
    """POST /users/logout/."""

    permission_classes = (AllowAny,)
    parser_classes = (BoundedJSONParser, FormParser)

    @extend_schema(
        operation_id="logout",
        summary="Log out",
        tags=["Account"],
        request=None,
        responses={200: {"type": "object"}, 403: NO_CSRF},
    )
    def post(self, request: Request) -> Response:
        logout(request._request)
        # Not 204: the storefront's client makes a JSON answer of this status, and those have no body to make one of.
        return Response({})


class CurrentUserSerializer(serializers.ModelSerializer[User]):
    """Who is logged in. The last five are read by the client; this shop does not ask for them."""

    hashed_email = serializers.SerializerMethodField()
    email_allowed = serializers.SerializerMethodField()
    sms_allowed = serializers.SerializerMethodField()
    date_of_birth = serializers.SerializerMethodField()
    gender = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = [
            "pk",
            "id",
            "email",
            "first_name",
            "last_name",
            "phone",
            "language",
            "date_joined",
            "last_login",
            "hashed_email",
            "email_allowed",
            "sms_allowed",
            "date_of_birth",
            "gender",
        ]
        read_only_fields = fields

    def get_hashed_email(self, user: User) -> str:
        return hashlib.sha256(user.email.lower().encode()).hexdigest()

    def get_email_allowed(self, user: User) -> bool:
        return False

    def get_sms_allowed(self, user: User) -> bool:
        return False

    def get_date_of_birth(self, user: User) -> str | None:
        return None

    def get_gender(self, user: User) -> str | None:
        return None


class CurrentUserView(StorefrontView):
    """GET /current_user/."""

    @extend_schema(
        operation_id="getCurrentUser",
        summary="Who is logged in",
        tags=["Account"],
        responses={200: CurrentUserSerializer, 401: NOT_LOGGED_IN},
    )
    def get(self, request: Request) -> Response:
        assert isinstance(request.user, User)
        return Response(CurrentUserSerializer(request.user).data)
