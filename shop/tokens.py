"""Tokens of programs that act for staff: made, revoked, recognised, and what each may do."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from shop.actors import ALL_STORES, Actor
from shop.errors import Invalid, NotAllowed, Refused
from shop.models import ApiToken, Store, User

ADD, REVOKE = "shop.add_apitoken", "shop.revoke_apitoken"
MARK = "desk_"
SHOWN = len(MARK) + 6
USE_NOTED_EVERY = timedelta(minutes=1)

# What every program may see of what it works on.
_SEEN = ("orders.view_order", "orders.view_cancellation", "orders.view_bulkrun")
# Scope → what it allows, where the token's account may do it too.
PERMISSIONS: dict[str, tuple[str, ...]] = {
    "orders:read": (*_SEEN, "orders.view_cancellationrequest", "orders.view_return", "orders.view_journalentry"),
    "orders:write": (
        *_SEEN,
        "orders.approve_order",
        "orders.prepare_order",
        "orders.ship_order",
        "orders.hold_order",
        "orders.note_order",
        "orders.readdress_order",
    ),
    "orders:cancel": (
        *_SEEN,
        "orders.cancel_order",
        "orders.cancel_prepared_order",
        "orders.cancel_for_any_reason",
        "orders.cancel_in_bulk",
        "orders.undo_cancellation",
    ),
    "orders:refund": ("orders.view_order", "orders.refund_order"),
    "approvals:decide": (*_SEEN, "orders.view_approval", "orders.decide_approval"),
    "inventory:write": ("orders.view_order", "orders.view_return", "orders.return_order"),
    "messages:write": ("orders.view_order", "notifications.view_message", "notifications.resend_message"),
}
SCOPES = {
    "orders:read": _("See orders, cancellations and bulk cancellations"),
    "orders:write": _("Approve, prepare, ship, deliver, hold and re-address orders"),
    "orders:cancel": _("Cancel orders, and undo it; what was paid for them goes back"),
    "orders:refund": _("Refund amounts"),
    "approvals:decide": _("Decide what waits for approval"),
    "inventory:write": _("Take units back into stock; what they cost goes back"),
    "messages:write": _("Send customers their messages again"),
}


class NotForTokens(Invalid):
    code = "not_for_tokens"
    message = _(
        "A token belongs to an active member of staff who works in your stores alone; "
        "a superuser's is made by superusers only."
    )


class Revoked(Refused):
    code = "token_revoked"
    message = _("This token has been revoked already.")


def possible_owners(actor: Actor) -> Q:
    """The accounts that an actor may make tokens for: nobody gets more rights by a token than they can give.

    Who works in some stores gives rights in those alone: to no account that works in another one, or in all.
    """
    staff = Q(is_staff=True, is_active=True)
    if actor.user is not None and actor.user.is_superuser:
        return staff
    return staff & Q(is_superuser=False) & _of_stores(actor)


def _of_stores(actor: Actor) -> Q:
    """Accounts that work in the actor's stores and nowhere else."""
    if actor.stores is None:
        return Q()
    places = Store.staff.through.objects
    here, elsewhere = places.filter(store__in=actor.stores), places.exclude(store__in=actor.stores)
    everywhere = User.objects.with_perm(ALL_STORES, is_active=False) | User.objects.with_perm(ALL_STORES)
    return Q(pk__in=here.values("user")) & ~Q(pk__in=elsewhere.values("user")) & ~Q(pk__in=everywhere.values("pk"))


def of(actor: Actor) -> QuerySet[ApiToken]:
    """The tokens that an actor may know of and revoke: those of accounts that work in their stores alone."""
    rows = ApiToken.objects.all()
    return rows if actor.stores is None else rows.filter(user__in=User.objects.filter(_of_stores(actor)))


def issue(
    *,
    actor: Actor,
    name: str,
    user: User,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    once: uuid.UUID | None = None,
) -> tuple[ApiToken, str]:
    """This will make a token. Returns it with its secret, which is kept nowhere: empty where `once` has made it before.

    user  whose rights bound it. Raises NotAllowed, NotForTokens, Invalid.
    """
    actor.require(ADD)
    chosen, now = sorted(set(scopes)), timezone.now()
    if not name.strip():
        raise Invalid(_("Give it a name that tells what uses it."), field="name")
    if not chosen or set(chosen) - SCOPES.keys():
        raise Invalid(_("Choose from: %(scopes)s."), params={"scopes": ", ".join(SCOPES)}, field="scopes")
    if expires_at is not None and expires_at <= now:
        raise Invalid(_("The end must be in the future."), field="expires_at")
    if not User.objects.filter(possible_owners(actor), pk=user.pk).exists():
        raise NotForTokens(field="user")
    secret = MARK + secrets.token_urlsafe(32)
    token, is_new = ApiToken.objects.get_or_create(
        once=once or uuid.uuid4(),
        defaults={
            "name": name.strip(),
            "user": user,
            "prefix": secret[:SHOWN],
            "secret_hash": hash_of(secret),
            "scopes": chosen,
            "created_by": actor.user,
            "created_at": now,
            "expires_at": expires_at,
        },
    )
    return token, secret if is_new else ""


def revoke(*, actor: Actor, token_id: int) -> ApiToken:
    """This will end a token at once and for good. Raises NotAllowed, Revoked."""
    actor.require(REVOKE)
    if not of(actor).filter(pk=token_id).exists():
        raise NotAllowed
    if not ApiToken.objects.filter(pk=token_id, revoked_at=None).update(
        revoked_at=timezone.now(), revoked_by=actor.user
    ):
        raise Revoked
    return ApiToken.objects.get(pk=token_id)


def find(secret: str) -> ApiToken | None:
    """This will recognise a token that can be used now, and note its use, at most once a minute.

    What is compared is a hash, by an index: how long it takes tells nothing of the secret.
    """
    now = timezone.now()
    token = ApiToken.objects.select_related("user").filter(secret_hash=hash_of(secret)).first()
    if token is None or not token.is_usable(as_of=now):
        return None
    if token.last_used_at is None or token.last_used_at <= now - USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def actor_of(token: ApiToken) -> Actor:
    """The account's actor with the rights that both it and the token have, under both their names."""
    account = Actor.staff(token.user)
    allowed = frozenset(permission for scope in token.scopes for permission in PERMISSIONS.get(scope, ()))
    if not allowed:
        raise NotAllowed
    return replace(account, name=f"{token.name} ({account.name})"[:200], permissions=account.permissions & allowed)


def hash_of(secret: str) -> str:
    """Of 256 random bits a plain hash is enough: there is nothing to guess."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
