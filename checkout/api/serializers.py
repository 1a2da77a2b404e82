"""Shapes: what the storefront sends before there is an order, and what it gets."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from checkout.models import Address, Cart, PaymentMethod, ShippingMethod
from checkout.rules import LENGTHS, country_name, country_number, country_of, fields_of
from checkout.services import Contents
from checkout.services.carts import LONGEST_EMAIL
from inventory.models import Product
from orders.api.base import errors
from orders.api.extra import extra_serializer
from shop.money import ZERO, rounded

MOST_DETAILS = 20
REFUSED = errors("What is wrong, by field; `error_code` names the reason for programs.")


def money(amount: Decimal, currency: str) -> str:
    return str(rounded(amount, currency))


def example(name: str, value: Any) -> Callable[[type[Any]], type[Any]]:
    """Show what a request may look like (decorator)."""
    return extend_schema_serializer(examples=[OpenApiExample(name, value=value, request_only=True)])


HOME = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "line": "Sonnenallee 1",
    "postcode": "12045",
    "city": "Berlin",
    "country": "DE",
}


@extend_schema_field({"type": "string", "format": "email", "maxLength": LONGEST_EMAIL})
class EmailText(serializers.CharField):
    """Looked at with the addresses, so that all that is wrong with a form is told at once."""


@extend_schema_field({"type": "string", "format": "decimal", "example": "12.50"})
class Money(serializers.CharField):
    """An amount as text, with as many decimals as its currency has."""


class ValueLabel(serializers.Serializer[Any]):
    value = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # hides DRF's own attribute, which only fields use


# ---------------------------------------------------------------------------------------------------------------------
# Addresses


class PlaceOut(serializers.Serializer[Any]):
    pk = serializers.IntegerField(help_text="0: a place that is free text.")
    name = serializers.CharField(allow_blank=True)


class CountryOut(PlaceOut):
    code = serializers.CharField(help_text="ISO 3166, two letters.")


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string"},
            {"type": "integer", "description": "A country's pk."},
            {"type": "object", "properties": {"code": {"type": "string"}, "name": {"type": "string"}}},
        ]
    }
)
class PlaceField(serializers.Field[Any, Any, Any, Any]):
    """A place as its name or code, or as the object that the API itself gives."""

    def __init__(self, *, key: str, **kwargs: Any) -> None:
        self.key = key
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        value = data.get(self.key) if isinstance(data, dict) else data
        if self.key == "code" and isinstance(value, int) and not isinstance(value, bool):
            value = country_of(value)
        if not isinstance(value, str):
            raise serializers.ValidationError(_("Enter a name, or an object with one."))
        return value

    def to_representation(self, value: Any) -> Any:
        return value


class AddressIn(serializers.Serializer[Any]):
    """An address; which fields are needed depends on its country. What is empty is told with what else is wrong."""

    title = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["title"])
    first_name = serializers.CharField(allow_blank=True, max_length=LENGTHS["first_name"])
    last_name = serializers.CharField(allow_blank=True, max_length=LENGTHS["last_name"])
    company_name = serializers.CharField(
        required=False, allow_blank=True, max_length=LENGTHS["company"], source="company"
    )
    line = serializers.CharField(allow_blank=True, max_length=LENGTHS["line"])
    line2 = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["line2"])
    postcode = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["postcode"])
    city = PlaceField(key="name", required=False)
    state = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["state"])
    country = PlaceField(key="code")
    phone_number = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["phone"], source="phone")


@example("Home", HOME)
class BookEntryIn(AddressIn):
    is_default_shipping = serializers.BooleanField(required=False)
    is_default_billing = serializers.BooleanField(required=False)


class AddressOut(serializers.Serializer[Any]):
    """`id` and `pk` are the same: the entry's number in the book, null for an address of the cart's own."""

    id = serializers.IntegerField(allow_null=True)
    pk = serializers.IntegerField(allow_null=True)
    title = serializers.CharField(allow_blank=True)
    first_name = serializers.CharField()
    last_name = serializers.CharField()
    company_name = serializers.CharField(allow_blank=True)
    line = serializers.CharField()
    line2 = serializers.CharField(allow_blank=True)
    postcode = serializers.CharField(allow_blank=True)
    state = serializers.CharField(allow_blank=True)
    phone_number = serializers.CharField(allow_blank=True)
    city = PlaceOut()
    country = CountryOut()
    township = PlaceOut()
    district = PlaceOut()


class BookEntryOut(AddressOut):
    is_default_shipping = serializers.BooleanField()
    is_default_billing = serializers.BooleanField()


def address_out(address: Address | dict[str, Any] | None) -> dict[str, Any] | None:
    """An address as the storefront contract has it: places are objects, and those it knows not are empty ones."""
    if address is None:
        return None
    fields = fields_of(address)
    code = fields["country"]
    pk = address.pk if isinstance(address, Address) else None
    out: dict[str, Any] = {
        **fields,
        "id": pk,
        "pk": pk,
        "phone_number": fields["phone"],
        "company_name": fields["company"],
        "city": {"pk": 0, "name": fields["city"]},
        "country": {"pk": country_number(code), "name": country_name(code), "code": code},
        "township": {"pk": 0, "name": ""},
        "district": {"pk": 0, "name": ""},
    }
    if isinstance(address, Address):
        out |= {name: getattr(address, name) for name in ("is_default_shipping", "is_default_billing")}
        return dict(BookEntryOut(out).data)
    return dict(AddressOut(out).data)


# ---------------------------------------------------------------------------------------------------------------------
# Products and methods


class ProductSummary(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    pk = serializers.IntegerField()
    sku = serializers.CharField()
    name = serializers.CharField()
    image = serializers.URLField(allow_null=True)
    attributes = serializers.DictField()


class ProductOut(ProductSummary):
    description = serializers.CharField(allow_blank=True)
    price = Money()
    currency = serializers.CharField()
    in_stock = serializers.BooleanField()
    max_quantity = serializers.IntegerField(allow_null=True, help_text="What one order can get; null: any number.")


def product_summary(product: Product, request: Any) -> dict[str, Any]:
    image = request.build_absolute_uri(product.image.url) if product.image else None
    return {
        "id": product.pk,
        "pk": product.pk,
        "sku": product.sku,
        "name": product.name,
        "image": image,
        "attributes": product.attributes,
    }


class Page(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class ProductPage(Page):
    results = ProductOut(many=True)


class BookPage(Page):
    results = BookEntryOut(many=True)


class ShippingMethodOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField()
    price = Money(help_text="For the cart as it is now, where there is one.")
    list_price = Money()
    free_from = Money(allow_null=True)
    currency = serializers.CharField()
    carrier = serializers.CharField(allow_blank=True)
    is_pickup = serializers.BooleanField()


class PaymentMethodOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField()
    gateway = serializers.CharField()
    pays_on_delivery = serializers.BooleanField()
    instructions = serializers.CharField(allow_blank=True)


# ---------------------------------------------------------------------------------------------------------------------
# Cart


class StoreOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField()
    currency = serializers.CharField()
    prices_include_tax = serializers.BooleanField()


class ProblemOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    field = serializers.CharField(help_text="What it is about: items.<id>, shipping_address, …")
    max_quantity = serializers.IntegerField(allow_null=True)


class TotalsOut(serializers.Serializer[Any]):
    items = Money()
    discount = Money()
    shipping = Money()
    tax = Money(help_text="Contained in the total; already in the prices where the store's prices include tax.")
    total = Money()


class CartItemOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    product = ProductSummary()
    quantity = serializers.IntegerField()
    max_quantity = serializers.IntegerField(allow_null=True)
    unit_price = Money()
    amounts = TotalsOut(allow_null=True, help_text="Its part of the cart's totals; null: it cannot be ordered.")


class DiscountOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    code = serializers.CharField(allow_blank=True)
    amount = Money()


class CartOut(serializers.Serializer[Any]):
    """A cart. Where none has been opened yet, `id` is null and everything else empty."""

    id = serializers.UUIDField(allow_null=True)
    status = serializers.ChoiceField(choices=Cart.Status.choices)
    order_number = serializers.CharField(allow_blank=True)
    store = StoreOut()
    currency = serializers.CharField()
    email = serializers.CharField(allow_blank=True)
    language = serializers.CharField()
    items = CartItemOut(many=True)
    shipping_method = ShippingMethodOut(allow_null=True)
    payment_method = PaymentMethodOut(allow_null=True)
    shipping_address = AddressOut(allow_null=True)
    billing_address = AddressOut(allow_null=True, help_text="null: the shipping address.")
    discount_code = serializers.CharField(allow_blank=True)
    discounts = DiscountOut(many=True)
    totals = TotalsOut()
    problems = ProblemOut(many=True)
    can_be_ordered = serializers.BooleanField()


@example("A store", {"store": "berlin"})
class CartOpenIn(serializers.Serializer[Any]):
    store = serializers.SlugField(required=False, help_text="Default: the first store.")


@extend_schema_field(
    {
        "oneOf": [
            {"type": "integer", "description": "An entry of the address book."},
            {"type": "object", "description": "An address, with the fields of POST /address/."},
        ]
    }
)
class CartAddressField(serializers.Field[Any, Any, Any, Any]):
    """The id of an entry of the customer's book, or an address of the cart's own."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            inner = AddressIn(data=data)
            inner.is_valid(raise_exception=True)
            return inner.validated_data
        return serializers.IntegerField(min_value=1, max_value=2**63 - 1).run_validation(data)

    def to_representation(self, value: Any) -> Any:
        return value


@example("A guest", {"email": "ada@example.com", "shipping_method": "standard", "shipping_address": HOME})
class CartIn(CartOpenIn):
    """What is not named stays; null takes it away."""

    email = EmailText(required=False, allow_blank=True, max_length=LONGEST_EMAIL)
    language = serializers.CharField(required=False, max_length=10)
    shipping_method = serializers.SlugField(required=False, allow_null=True)
    payment_method = serializers.SlugField(required=False, allow_null=True)
    shipping_address = CartAddressField(required=False, allow_null=True)
    billing_address = CartAddressField(required=False, allow_null=True)
    discount_code = serializers.CharField(required=False, allow_blank=True, max_length=50)


@example("Two", {"product": 7, "quantity": 2})
class ItemIn(CartOpenIn):
    product = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    quantity = serializers.IntegerField(min_value=1, max_value=2**31 - 1, default=1)


@example("Three", {"quantity": 3})
class ItemChangeIn(CartOpenIn):
    quantity = serializers.IntegerField(min_value=1, max_value=2**31 - 1)


def shipping_method_out(method: ShippingMethod, price: Decimal) -> dict[str, Any]:
    free_from = method.free_from
    return {
        "code": method.code,
        "name": method.name,
        "price": money(price, method.currency),
        "list_price": money(method.price, method.currency),
        "free_from": None if free_from is None else money(free_from, method.currency),
        "currency": method.currency,
        "carrier": method.carrier,
        "is_pickup": method.is_pickup,
    }


def payment_method_out(method: PaymentMethod) -> dict[str, Any]:
    names = ("code", "name", "gateway", "pays_on_delivery", "instructions")
    return {name: getattr(method, name) for name in names}


def amounts_out(amounts: Any, currency: str) -> dict[str, str]:
    return {name: money(getattr(amounts, name), currency) for name in ("items", "discount", "shipping", "tax", "total")}


def cart_out(found: Contents, request: Any) -> dict[str, Any]:
    """A cart as the storefront gets it."""
    cart, currency = found.cart, found.cart.store.currency
    items = [
        {
            "id": item.pk,
            "product": product_summary(item.product, request),
            "quantity": item.quantity,
            "max_quantity": found.available.get(item.product_id),
            "unit_price": money(item.product.price, item.product.currency),
            "amounts": amounts_out(found.amounts[item.pk], currency) if item.pk in found.amounts else None,
        }
        for item in found.items
    ]
    shipping, payment = cart.shipping_method, cart.payment_method
    out = {
        "id": cart.public_id if cart.pk else None,
        "status": cart.status,
        "order_number": cart.order_number,
        "store": cart.store,
        "currency": currency,
        "email": cart.contact,
        "language": cart.language,
        "items": items,
        "shipping_method": shipping_method_out(shipping, found.shipping_price) if shipping else None,
        "payment_method": payment_method_out(payment) if payment else None,
        "shipping_address": address_out(cart.address("shipping")),
        "billing_address": address_out(cart.address("billing")),
        "discount_code": cart.discount_code,
        "discounts": [{"name": d.name, "code": d.code, "amount": money(d.amount, currency)} for d in found.discounts],
        "totals": amounts_out(found.totals, currency),
        "problems": found.problems,
        "can_be_ordered": not found.problems,
    }
    return dict(CartOut(out).data)


# ---------------------------------------------------------------------------------------------------------------------
# Purchase


class DetailsField(serializers.DictField):
    """What a gateway needs, such as the token that stands for a card. Never card data."""

    child = serializers.CharField(max_length=200, allow_blank=True)

    def to_internal_value(self, data: Any) -> dict[Any, Any]:
        if isinstance(data, dict) and len(data) > MOST_DETAILS:
            raise serializers.ValidationError(_("At most %(most)d details.") % {"most": MOST_DETAILS})
        return super().to_internal_value(data)


class PaymentPartIn(serializers.Serializer[Any]):
    method = serializers.SlugField(help_text="The code of a payment method.")
    amount = serializers.DecimalField(
        max_digits=15,
        decimal_places=3,
        required=False,
        allow_null=True,
        help_text="Without: all that the others leave.",
    )
    details = DetailsField(default=dict)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "boolean", "description": "true: as much as there is."},
            {"type": "string", "format": "decimal", "example": "12.50"},
        ]
    }
)
class CreditUseField(serializers.Field[Any, Any, Any, Any]):
    """How much of the customer's credit to spend: an amount of money, or true for as much as there is."""

    def to_internal_value(self, data: Any) -> Decimal | bool:
        if isinstance(data, bool):
            return data
        return serializers.DecimalField(max_digits=15, decimal_places=3, min_value=ZERO).run_validation(data)

    def to_representation(self, value: Any) -> Any:
        return value


@example("As it was seen", {"cart": "0d7a3a5e-3f8a-4f0e-9d3c-0a6c1c5c5f0e", "total": "43.90"})
class PurchaseIn(CartOpenIn):
    cart = serializers.UUIDField(required=False, help_text="Default: the open cart.")
    total = serializers.DecimalField(
        max_digits=15, decimal_places=3, required=False, help_text="What the customer saw; another total is refused."
    )
    payment_details = DetailsField(default=dict)
    payments = PaymentPartIn(many=True, required=False, help_text="To split the total over several payment methods.")
    use_loyalty = CreditUseField(
        default=False,
        help_text="How much of the total the customer's loyalty points pay, in money; see /account/credit/.",
    )
    use_store_credit = CreditUseField(
        default=False, help_text="How much of the total the customer's store credit pays."
    )
    annotation = serializers.CharField(
        required=False, allow_blank=True, max_length=1000, help_text="What the customer wants the shop to know."
    )

    def get_fields(self) -> dict[str, Any]:
        words = "What else the shop asks for at the checkout; it refuses what it has not declared."
        return {**super().get_fields(), "extra": extra_serializer()(required=False, help_text=words)}


@example("By card", {"method": "card"})
class PayIn(serializers.Serializer[Any]):
    method = serializers.SlugField(required=False, help_text="Default: the order's payment method.")
    details = DetailsField(default=dict)


class NextActionOut(serializers.Serializer[Any]):
    type = serializers.ChoiceField(
        choices=["redirect", "client_secret"],
        help_text="redirect: send the customer to `url`. client_secret: hand it to the gateway's script.",
    )
    url = serializers.CharField(required=False)
    client_secret = serializers.CharField(required=False)


class PurchaseOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    pk = serializers.IntegerField()
    number = serializers.CharField()
    status = ValueLabel()
    payment = serializers.ChoiceField(
        choices=["succeeded", "declined", "pending"],
        help_text="pending: the gateway has not answered yet, or it is paid by transfer or on delivery.",
    )
    total = Money()
    currency = serializers.CharField()
    email = serializers.CharField()
    payment_instructions = serializers.CharField(allow_blank=True)
    next_action = NextActionOut(
        allow_null=True, help_text="While the payment is pending and the customer has to do something for it."
    )
    completed = serializers.CharField(help_text="For /orders/completed/{completed}/, for an hour.")


class NotReaddedOut(serializers.Serializer[Any]):
    sku = serializers.CharField()
    name = serializers.CharField()
    code = serializers.ChoiceField(choices=["gone", "inactive", "out_of_stock", "less_stock", "price_changed"])
    message = serializers.CharField()
    wanted = serializers.IntegerField()
    added = serializers.IntegerField()


class ReorderOut(serializers.Serializer[Any]):
    cart = CartOut()
    not_added = NotReaddedOut(many=True)
