"""The address book: add, change and delete entries; one default for shipping and one for billing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from checkout.models import Address
from checkout.rules import checked_address, fields_of
from shop.errors import NotFound, Refused
from shop.models import User

MOST_ADDRESSES = 100
DEFAULTS = ("is_default_shipping", "is_default_billing")


class AddressNotFound(NotFound):
    code = "address_not_found"
    message = _("There is no such address in your address book.")


class TooManyAddresses(Refused):
    code = "too_many_addresses"
    message = _("An address book has at most %(most)d addresses; delete one first.")


def save_address(*, customer: User, data: Mapping[str, Any], address_id: int | None = None, as_of: datetime) -> Address:
    """This will add an address to a customer's book, or change one (what `data` does not name stays).

    data  ADDRESS_FIELDS, is_default_shipping, is_default_billing. The first address is the default for both.
    Locks the customer. Raises AddressInvalid, AddressNotFound (also for somebody else's), TooManyAddresses.
    """
    with transaction.atomic():
        book = _locked_book(customer)
        if address_id is None:
            if book.count() >= MOST_ADDRESSES:
                raise TooManyAddresses(params={"most": MOST_ADDRESSES})
            is_first = not book.exists()
            address = Address(
                customer=customer, created_at=as_of, is_default_shipping=is_first, is_default_billing=is_first
            )
        else:
            address = _get(book, address_id)
        for name, value in checked_address({**fields_of(address), **data}).items():
            setattr(address, name, value)
        for name in DEFAULTS:
            if name in data:
                setattr(address, name, bool(data[name]))
            if getattr(address, name):
                book.filter(**{name: True}).exclude(pk=address.pk).update(**{name: False})
        address.updated_at = as_of
        address.save()
    return address


def delete_address(*, customer: User, address_id: int) -> None:
    """This will delete an address of a customer's book; orders keep their copies. Raises AddressNotFound."""
    with transaction.atomic():
        _get(_locked_book(customer), address_id).delete()


def _locked_book(customer: User) -> Any:
    """The customer's addresses; the lock on the customer keeps two new defaults from meeting."""
    User.objects.select_for_update(no_key=True).get(pk=customer.pk)
    return Address.objects.filter(customer=customer)


def _get(book: Any, address_id: int) -> Address:
    address: Address | None = book.filter(pk=address_id).first()
    if address is None:
        raise AddressNotFound
    return address
