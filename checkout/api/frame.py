"""What checkout's doors share: guests by session with CSRF, whose cart it is, and one answer per Idempotency-Key."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ValidationError
from rest_framework.settings import api_settings
from rest_framework.utils.encoders import JSONEncoder

from checkout import services
from checkout.models import Cart
from checkout.rules import AddressInvalid, printable
from orders.api.base import MAX_NUMBER_LENGTH, CookieScheme, StorefrontView
from orders.models import Order, OrderNotFound
from orders.processing import pay_now
from shop.actors import Actor
from shop.api import KeyReused, SessionAuthentication, canonical
from shop.errors import NotFound
from shop.models import IdempotencyKey, Store, User

# How long a repetition waits for the request that it repeats, while that one talks to the gateway.
PATIENCE_SECONDS, LOOK_EVERY_SECONDS = 3.0, 0.1


class StoreNotFound(NotFound):
    code = "store_not_found"
    message = _("There is no such store.")


# ---------------------------------------------------------------------------------------------------------------------
# Who asks


class SessionOrGuest(SessionAuthentication):
    """Django's session, with CSRF for guests too: their cart hangs on the session as a customer's on the account."""

    def authenticate(self, request: Request) -> Any:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_authenticated:
            self.enforce_csrf(request)
        return super().authenticate(request)


class SessionOrGuestScheme(CookieScheme):
    """How the schema names it: the same cookie."""

    target_class = "checkout.api.frame.SessionOrGuest"
    name = "cookieAuthOrGuest"


class CheckoutView(StorefrontView):
    """Base of doors that are open to guests."""

    authentication_classes = [SessionOrGuest]
    permission_classes = [AllowAny]

    @property
    def customer(self) -> User | None:
        """Who is logged in. On the storefront's doors staff are customers too."""
        user = self.request.user
        return user if isinstance(user, User) and user.is_authenticated else None

    def store(self) -> Store:
        """The store that the request names by code (query or body), or the first one. Raises StoreNotFound."""
        body = self.request.data if isinstance(self.request.data, dict) else {}
        code = printable(self.request.query_params.get("store") or body.get("store") or "")
        stores = Store.objects.filter(is_active=True).order_by("pk")
        store = (stores.filter(code=code) if code else stores).first()
        if store is None:
            raise StoreNotFound(field="store")
        return store

    def guest_ids(self) -> list[UUID]:
        return services.guest_ids(self.request.session)

    def find_cart(self, store: Store) -> Cart | None:
        """The open cart of whoever asks. At the first look after a login, a guest's carts become the customer's."""
        return services.visitors_cart(
            session=self.request.session, customer=self.customer, store_id=store.pk, as_of=timezone.now()
        )

    def open_cart(self, store: Store) -> Cart:
        found = self.find_cart(store)
        if found is not None:
            return found
        language = self.request._request.LANGUAGE_CODE
        cart = services.open_cart(
            store=store, customer=self.customer, guest_ids=self.guest_ids(), language=language, as_of=timezone.now()
        )
        if cart.customer_id is None:
            services.remember(self.request.session, cart)
        return cart

    def the_cart(self, public_id: UUID | None = None) -> Cart:
        """The cart with an id, or the open one. Raises CartNotFound: also for somebody else's."""
        store = self.store()
        cart = self.find_cart(store)
        if public_id is not None:
            cart = services.find_cart(
                store_id=store.pk, customer=self.customer, guest_ids=self.guest_ids(), public_id=public_id
            )
        if cart is None:
            raise services.CartNotFound
        return cart

    def buyer(self, *, email: str) -> Actor:
        customer = self.customer
        return Actor.guest(email) if customer is None else Actor.customer(customer)

    def buyer_of(self, number: str) -> Actor:
        """Who asks about an order: the customer, or the guest whose session has its cart. Raises OrderNotFound."""
        if printable(number) != number or len(number) > MAX_NUMBER_LENGTH:
            raise OrderNotFound
        return services.buyer_of(session=self.request.session, customer=self.customer, number=number)


# ---------------------------------------------------------------------------------------------------------------------
# The same request again


def scope_of(view: CheckoutView, name: str) -> str:
    """Within which a key counts: one customer's, or one guest's session (whose key is a secret, and not stored)."""
    customer = view.customer
    if customer is not None:
        return f"{name}:user:{customer.pk}"
    session_key = view.request.session.session_key or ""
    return f"{name}:guest:{salted_hmac('checkout.idempotency', session_key).hexdigest()[:32]}"


def order_key(scope: str, key: str) -> str:
    """The key as the order keeps it: short, and nobody else's."""
    return hashlib.sha256(f"{scope}\n{key}".encode()).hexdigest()


def answer_once(
    request: Request,
    *,
    scope: str,
    key: str,
    decide: Callable[[], Order],
    find: Callable[[], Order],
    tell: Callable[[Order], dict[str, Any]],
    status: int,
) -> Response:
    """Decide in one transaction with the key, ask the gateway after it, and give the same answer to every repetition.

    As shop.api.once, for a decision whose answer tells what the gateway said. A repetition that comes while the first
    request talks to the gateway waits a little; where that one died, it goes on with what it left behind.
    """
    fingerprint = hashlib.sha256(request.get_full_path().encode() + canonical(request.data)).hexdigest()
    with transaction.atomic():
        row, is_new = IdempotencyKey.objects.select_for_update().get_or_create(
            scope=scope, key=key, defaults={"fingerprint": fingerprint, "created_at": timezone.now()}
        )
        if row.fingerprint != fingerprint:
            raise KeyReused
        order = decide() if is_new else None
    if order is None:
        if _wait_for_answer(row):
            return _repeated(row)
        order = find()
    pay_now(order.number or "")
    body = json.dumps(tell(order), cls=JSONEncoder)
    if is_new or json.loads(body)["payment"] != "pending":
        # Whoever is first to know writes it down, and everybody gives that answer.
        IdempotencyKey.objects.filter(pk=row.pk, status=None).update(status=status, body=body)
        row.refresh_from_db()
        body = row.body
    return Response(json.loads(body), status=status)


def _wait_for_answer(row: IdempotencyKey) -> bool:
    until = time.monotonic() + PATIENCE_SECONDS
    while row.status is None and time.monotonic() < until:
        time.sleep(LOOK_EVERY_SECONDS)
        row.refresh_from_db()
    return row.status is not None


def _repeated(row: IdempotencyKey) -> Response:
    response = Response(json.loads(row.body), status=row.status)
    response["Idempotency-Replayed"] = "true"
    return response


# Where the storefront has another name for it.
NAMES = {"phone": "phone_number", "company": "company_name"}


def address_errors(no: AddressInvalid) -> ValidationError:
    """This will name every field of an address that is at fault, as the storefront calls it."""
    told: dict[str, list[str]] = {"error_code": [no.code]}
    for name, words in no.errors.items():
        *path, field = name.split(".")
        told[".".join([*path, NAMES.get(field, field)])] = [words]
    return ValidationError(told)


def not_ready(no: services.CartNotReady) -> Response:
    """Everything that is wrong with a cart, by field: {"items.7": ["Only 2 of …"], "error_code": ["out_of_stock"]}."""
    body: dict[str, list[str]] = {}
    for problem in no.problems:
        body.setdefault(problem.field or api_settings.NON_FIELD_ERRORS_KEY, []).append(problem.message)
        body.setdefault("error_code", [])
        if problem.code not in body["error_code"]:
            body["error_code"].append(problem.code)
    if no.max_quantity is not None:
        body["max_quantity"] = [str(no.max_quantity)]
    return Response(body, status=no.http_status)
