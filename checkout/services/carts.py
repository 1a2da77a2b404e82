"""Carts: find or open one, take over a guest's at login, change what is in it and how it will be sent and paid."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Max, Q
from django.utils.translation import gettext_lazy as _

from checkout.models import Cart, CartItem, PaymentMethod, ShippingMethod
from checkout.rules import AddressInvalid, checked_address
from checkout.services.addresses import AddressNotFound
from checkout.services.contents import available_units, discounts_of
from inventory.models import Product
from inventory.services import OutOfStock, Shortage
from shop.errors import Invalid, NotFound, Refused, Words
from shop.models import Store, User

# What is read with a cart: one query for all of it.
RELATED = ("store", "customer", "shipping_method", "payment_method", "shipping_entry", "billing_entry")
MOST_UNITS = 9_999
MOST_LINES = 300
LONGEST_EMAIL = 254


class CartNotFound(NotFound):
    code = "cart_not_found"
    message = _("There is no such cart.")


class ItemNotFound(NotFound):
    code = "item_not_found"
    message = _("This is not in the cart.")


class CartOrdered(Refused):
    code = "cart_ordered"
    message = _("This cart has become order %(number)s; it cannot be changed any more.")


class NotForSale(Refused):
    code = "not_for_sale"
    message = _("“%(name)s” is not sold here.")


class TooMany(Invalid):
    code = "too_many"
    message = _("At most %(most)d.")


class EmailInvalid(Invalid):
    message = _("Enter a valid e-mail address.")


class NotOffered(Invalid):
    """A method or discount that the cart's store does not offer."""

    code = "not_offered"
    message = _("“%(code)s” is not offered here.")


# ---------------------------------------------------------------------------------------------------------------------
# Which cart


def find_cart(
    *, store_id: int, customer: User | None, guest_ids: Collection[UUID] = (), public_id: UUID | None = None
) -> Cart | None:
    """This will find the open cart of a customer, or of a guest whose session knows its id, in a store.

    public_id  that very cart, open or ordered, in any store; None where it is not this person's
    """
    carts = Cart.objects.select_related(*RELATED)
    carts = carts.filter(customer=customer) if customer else carts.filter(customer=None, public_id__in=guest_ids)
    if public_id is not None:
        return carts.filter(public_id=public_id).first()
    return carts.filter(store=store_id, status=Cart.Status.OPEN).order_by("-pk").first()


def open_cart(
    *, store: Store, customer: User | None, guest_ids: Collection[UUID] = (), language: str = "", as_of: datetime
) -> Cart:
    """This will find the open cart (as find_cart), or open a new one."""
    found = find_cart(store_id=store.pk, customer=customer, guest_ids=guest_ids)
    if found is not None:
        return found
    fields = {"language": _language(language), "created_at": as_of, "updated_at": as_of}
    if customer is None:
        return Cart.objects.create(store=store, **fields)
    # A second request that opens it at the same moment meets the unique constraint, and gets the first one's.
    cart, _new = Cart.objects.get_or_create(store=store, customer=customer, status=Cart.Status.OPEN, defaults=fields)
    return cart


def _language(wanted: str) -> str:
    offered = [code for code, _name in settings.LANGUAGES]
    short = wanted.partition("-")[0].lower()
    return short if short in offered else settings.LANGUAGE_CODE


def take_over(*, customer: User, guest_ids: Collection[UUID], as_of: datetime) -> None:
    """This will give a guest's open carts to the customer who has logged in; what both hold goes into the customer's.

    Locks the carts. A repetition changes nothing.
    """
    try:
        _take_over(customer, guest_ids, as_of)
    except IntegrityError:
        # On another device the customer opened a cart in the same store at this moment; now it is there to be seen.
        _take_over(customer, guest_ids, as_of)


@transaction.atomic
def _take_over(customer: User, guest_ids: Collection[UUID], as_of: datetime) -> None:
    theirs = Q(customer=customer) | Q(customer=None, public_id__in=guest_ids)
    locked = Cart.objects.select_for_update(no_key=True).filter(theirs, status=Cart.Status.OPEN).order_by("pk")
    carts = list(locked)
    own = {cart.store_id: cart for cart in carts if cart.customer_id is not None}
    for guest in (cart for cart in carts if cart.customer_id is None):
        if guest.store_id not in own:
            guest.customer, guest.updated_at = customer, as_of
            guest.save(update_fields=["customer", "updated_at"])
            own[guest.store_id] = guest
            continue
        units = dict(guest.items.values_list("product", "quantity"))
        put(own[guest.store_id], units, as_of=as_of, add=True)
        guest.delete()


# ---------------------------------------------------------------------------------------------------------------------
# What is in it


def locked_cart(cart_id: int, *, must_be_open: bool = True) -> Cart:
    """The cart's row, locked. Raises CartNotFound, CartOrdered."""
    found = Cart.objects.select_for_update(no_key=True, of=("self",)).filter(pk=cart_id)
    cart = found.select_related(*RELATED).first()
    if cart is None:
        raise CartNotFound
    if must_be_open and not cart.is_open:
        raise CartOrdered(params={"number": cart.order_number})
    return cart


def _touch(cart: Cart, as_of: datetime, *fields: str) -> None:
    cart.updated_at = as_of
    cart.save(update_fields=["updated_at", *fields])


@transaction.atomic
def add_item(*, cart_id: int, product_id: int, quantity: int = 1, as_of: datetime) -> CartItem:
    """This will put units of a product into a cart, on top of those that are there.

    Locks the cart. Raises CartOrdered, NotForSale, TooMany, and OutOfStock where the store cannot serve that many now
    (the units are not reserved: that happens when the cart is ordered).
    """
    cart = locked_cart(cart_id)
    product = Product.objects.filter(pk=product_id).first()
    if product is None or not is_sold(product, cart.store):
        name = product.name if product else product_id
        raise NotForSale(params={"name": name}, field="product", http_status=409 if product else 400)
    item = cart.items.filter(product=product).first()
    _check(cart, product, quantity + (item.quantity if item else 0))
    if item is None and cart.items.count() >= MOST_LINES:
        raise TooMany(_("A cart holds at most %(most)d different products."), params={"most": MOST_LINES})
    put(cart, {product.pk: quantity}, as_of=as_of, add=True)
    _touch(cart, as_of)
    return CartItem.objects.select_related("product").get(cart=cart, product=product)


@transaction.atomic
def change_item(*, cart_id: int, item_id: int, quantity: int, as_of: datetime) -> CartItem:
    """This will set how many units of a product a cart holds. Locks the cart. Raises as add_item, and ItemNotFound."""
    cart = locked_cart(cart_id)
    item = CartItem.objects.select_related("product").filter(cart=cart, pk=item_id).first()
    if item is None:
        raise ItemNotFound
    # Fewer can always be had, whatever is left in stock.
    if quantity > item.quantity or quantity < 1:
        _check(cart, item.product, quantity)
    item.quantity = quantity
    item.save(update_fields=["quantity"])
    _touch(cart, as_of)
    return item


@transaction.atomic
def remove_item(*, cart_id: int, item_id: int, as_of: datetime) -> None:
    """This will take a product out of a cart. Locks the cart. Raises CartOrdered, ItemNotFound."""
    cart = locked_cart(cart_id)
    deleted, _rows = CartItem.objects.filter(cart=cart, pk=item_id).delete()
    if not deleted:
        raise ItemNotFound
    _touch(cart, as_of)


@transaction.atomic
def empty(*, cart_id: int, as_of: datetime) -> None:
    """This will take everything out of a cart. Locks the cart. Raises CartOrdered."""
    cart = locked_cart(cart_id)
    cart.items.all().delete()
    _touch(cart, as_of)


def is_sold(product: Product, store: Store) -> bool:
    """Whether a store sells a product at all, in stock or not."""
    return product.is_active and product.currency == store.currency


def _check(cart: Cart, product: Product, quantity: int) -> None:
    if quantity < 1:
        raise Invalid(_("At least 1."), code="too_few", field="quantity")
    if quantity > MOST_UNITS:
        raise TooMany(params={"most": MOST_UNITS}, field="quantity", max_quantity=MOST_UNITS)
    if product.track_stock:
        most = available_units(product_ids=[product.pk], store_id=cart.store_id).get(product.pk, 0)
        if quantity > most:
            no = OutOfStock([Shortage(None, product.name, quantity, most)])
            no.field = "quantity"
            raise no


def put(cart: Cart, units: Mapping[int, int], *, as_of: datetime, add: bool) -> None:
    """Write units (product id → units) into a locked cart: on top of what is there, or at least so many.

    Three queries, whatever the number of products.
    """
    there = {item.product_id: item for item in cart.items.filter(product__in=units)}
    for product_id, item in there.items():
        wanted = item.quantity + units[product_id] if add else max(item.quantity, units[product_id])
        item.quantity = min(wanted, MOST_UNITS)
    CartItem.objects.bulk_update(there.values(), ["quantity"])
    last = cart.items.aggregate(last=Max("position"))["last"] or 0
    missing = [product_id for product_id in units if product_id not in there]
    CartItem.objects.bulk_create(
        CartItem(cart=cart, product_id=product_id, quantity=units[product_id], position=last + n)
        for n, product_id in enumerate(missing, start=1)
    )


# ---------------------------------------------------------------------------------------------------------------------
# To whom, how and at which price


@transaction.atomic
def change_cart(*, cart_id: int, changes: Mapping[str, Any], as_of: datetime) -> Cart:
    """This will set who a cart is for and how it will be sent and paid; what `changes` does not name stays.

    changes  email, language, discount_code; shipping_method and payment_method: a code or None; shipping_address and
             billing_address: the id of an entry in the customer's book, an address of its own (ADDRESS_FIELDS), or None
    Locks the cart. Raises CartOrdered, NotOffered, AddressNotFound, Invalid; AddressInvalid with all that is wrong with
    the addresses and the e-mail, so that a form is mended in one go.
    """
    cart = locked_cart(cart_id)
    fields: dict[str, Any] = {}
    wrong: dict[str, Words] = {}
    for name, value in changes.items():
        try:
            if name in {"shipping_address", "billing_address"}:
                fields |= _address(cart, name, value)
            else:
                fields[name] = CHANGERS[name](cart, value, as_of)
        except AddressInvalid as no:
            wrong |= {f"{name}.{field}": words for field, words in no.errors.items()}
        except EmailInvalid as no:
            wrong[name] = str(no)
    if wrong.keys() - {"email"}:
        raise AddressInvalid(wrong)
    if wrong:
        raise EmailInvalid(field="email")
    for name, value in fields.items():
        setattr(cart, name, value)
    _touch(cart, as_of, *fields)
    return cart


def _email(cart: Cart, value: Any, as_of: datetime) -> str:
    text = str(value or "").strip()
    if text:
        try:
            validate_email(text)
            if len(text) > LONGEST_EMAIL:
                raise ValidationError(text)
        except ValidationError:
            raise EmailInvalid(field="email") from None
    return text


def _code(cart: Cart, value: Any, as_of: datetime) -> str:
    code = str(value or "").strip()
    if code and not any(d.code and d.is_granted(as_of=as_of) for d in discounts_of(store=cart.store, code=code)):
        raise NotOffered(
            _("There is no discount with the code “%(code)s”."), params={"code": code}, field="discount_code"
        )
    return code


def _shipping_method(cart: Cart, value: Any, as_of: datetime) -> ShippingMethod | None:
    return _method(cart, ShippingMethod, value, "shipping_method")


def _payment_method(cart: Cart, value: Any, as_of: datetime) -> PaymentMethod | None:
    return _method(cart, PaymentMethod, value, "payment_method")


def _method(cart: Cart, model: Any, code: Any, name: str) -> Any:
    if not code:
        return None
    found = model.objects.filter(code=code).first()
    if found is None or not found.is_offered_by(cart.store):
        raise NotOffered(params={"code": code}, field=name)
    return found


CHANGERS: Mapping[str, Any] = {
    "email": _email,
    "language": lambda cart, value, as_of: _language(str(value)),
    "discount_code": _code,
    "shipping_method": _shipping_method,
    "payment_method": _payment_method,
}


def _address(cart: Cart, name: str, value: Any) -> dict[str, Any]:
    kind = name.partition("_")[0]
    entry, details = None, {}
    if isinstance(value, Mapping):
        details = checked_address(value)
    elif value is not None:
        book = cart.customer.addresses.all() if cart.customer else None
        entry = book.filter(pk=value).first() if book is not None else None
        if entry is None:
            raise AddressNotFound(field=name)
    return {f"{kind}_entry": entry, f"{kind}_details": details}
