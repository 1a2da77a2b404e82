"""Actor: who asks. Every decision is made for one, and every event and journal entry names one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from shop.errors import NotAllowed
from shop.models import Store, User

STAFF, CUSTOMER, SYSTEM = "staff", "customer", "system"
ALL_STORES = "shop.work_all_stores"


class Anywhere(Enum):
    """In whichever store: what is asked before anybody knows which row it is about."""

    ANYWHERE = "anywhere"


ANYWHERE: Final = Anywhere.ANYWHERE


@dataclass(frozen=True, slots=True)
class Actor:
    """Staff, a customer or the system itself.

    user        the account, None for guests and the system
    email       of a customer; a guest's only identity
    stores      ids of the stores that staff may work in; None means all of them
    permissions names like "orders.cancel_order"; the system may do everything
    """

    kind: str
    name: str
    user: User | None = None
    email: str = ""
    stores: frozenset[int] | None = None
    permissions: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def staff(cls, user: User) -> Actor:
        """Read the user's permissions and stores once (2 to 3 queries)."""
        if not (user.is_active and user.is_staff):
            raise NotAllowed
        permissions = frozenset(user.get_all_permissions())
        everywhere = user.is_superuser or ALL_STORES in permissions
        stores = None if everywhere else frozenset(Store.objects.filter(staff=user).values_list("pk", flat=True))
        return cls(STAFF, user.get_full_name() or user.get_username(), user, user.email, stores, permissions)

    @classmethod
    def customer(cls, user: User) -> Actor:
        return cls(CUSTOMER, user.get_full_name() or user.email or user.get_username(), user, user.email)

    @classmethod
    def guest(cls, email: str) -> Actor:
        return cls(CUSTOMER, email or _("Guest"), None, email)

    @classmethod
    def system(cls, name: str = "Orderdesk") -> Actor:
        return cls(SYSTEM, name)

    @classmethod
    def of_user(cls, user: Any) -> Actor:
        """The actor an account stands for when nothing else is said: staff, customer, or the system for None."""
        if user is None:
            return cls.system()
        if not user.is_authenticated:
            return cls.guest("")
        return cls.staff(user) if user.is_staff else cls.customer(user)

    @property
    def is_staff(self) -> bool:
        return self.kind == STAFF

    @property
    def is_customer(self) -> bool:
        return self.kind == CUSTOMER

    @property
    def is_system(self) -> bool:
        return self.kind == SYSTEM

    @property
    def user_id(self) -> int | None:
        return self.user.pk if self.user else None

    def may(self, permission: str, *, store_id: int | Anywhere | None = ANYWHERE) -> bool:
        """Whether this actor holds the permission, and in this store; None: of what belongs to all stores.

        Customers hold none: their rights are rules.
        """
        if self.is_system:
            return True
        return permission in self.permissions and (isinstance(store_id, Anywhere) or self.works_in(store_id))

    def works_in(self, store_id: int | None) -> bool:
        """None is a row of all stores, or of none: for those who work in all of them."""
        return self.stores is None or store_id in self.stores

    def require(self, permission: str, *, store_id: int | Anywhere | None = ANYWHERE) -> None:
        """Raise NotAllowed unless the actor holds the permission in the store, as `may` says."""
        if not self.may(permission, store_id=store_id):
            raise NotAllowed


def staff_who_may(permission: str, *, store_id: int | None) -> QuerySet[User]:
    """This will find the active staff who hold a permission and work in a store; None: those who work in all stores.

    Superusers are among them, as they may do everything.
    """
    everywhere = Q(is_superuser=True) | Q(pk__in=User.objects.with_perm(ALL_STORES).values("pk"))
    here = (
        everywhere
        if store_id is None
        else everywhere | Q(pk__in=Store.staff.through.objects.filter(store=store_id).values("user"))
    )
    return (
        User.objects.with_perm(permission).filter(here, is_staff=True).order_by("first_name", "last_name", "username")
    )
