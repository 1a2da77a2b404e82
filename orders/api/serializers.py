"""What the storefront is shown of orders, in the contract's shapes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models import prefetch_related_objects
from django.templatetags.static import static
from django.urls import reverse
from django.utils.module_loading import import_string
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from orders.api.shown import (
    Labelled,
    ShownLine,
    ShownOrder,
    address_of,
    currency_of,
    labelled,
    shipping_company_of,
    status_of,
)
from orders.models import CancellationReason, CancellationRequest
from orders.processing.extras import told_extra
from orders.processing.printing import label_path
from shop.money import ZERO, rounded


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


# Not an SVG: the storefront's client does not draw those.
NO_PICTURE = "storefront/no-picture.png"
TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
AMOUNT = {"type": "string", "format": "decimal"}
LABELLED = _object(value=TEXT, label=TEXT)
PLACE = _object(pk=NUMBER, name=TEXT)
_TEXTS = ("title", "first_name", "last_name", "company_name", "line", "postcode", "state", "phone_number")
ADDRESS = _object(
    pk=NUMBER,
    **dict.fromkeys(_TEXTS, TEXT),
    **dict.fromkeys(("district", "township", "city"), PLACE),
    country=_object(pk=NUMBER, name=TEXT, code=TEXT),
)


EASY_RETURN = {
    "type": ["object", "null"],
    "properties": {
        "code": TEXT,
        "label_url": TEXT,
        "shipping_company": LABELLED,
        "instructions": TEXT,
        "pickup_date": {"type": ["string", "null"], "format": "date"},
        "hour_range": _object(start=TEXT, end=TEXT),
        "received_date": {"type": ["string", "null"], "format": "date-time"},
    },
}
# From here on the customer needs the code that stands on the parcel, or knows that it has arrived.
SENDING_BACK = frozenset(CancellationRequest.Status.values) - {"open", "waiting", "rejected"}


@extend_schema_field(AMOUNT)
class MoneyField(serializers.Field[Decimal, Any, str, Any]):
    """An amount as a string with the digits of its order's currency: "12.50", "1250" (JPY)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def get_attribute(self, instance: Any) -> Any:
        amount: Any = super().get_attribute(instance)
        return rounded(amount, instance.order.currency)

    def to_representation(self, value: Decimal) -> str:
        return str(value)


class RequestSerializer(serializers.ModelSerializer[CancellationRequest]):
    """One line's request, as the contract's CancellationRequestResponse."""

    id = serializers.IntegerField(source="pk")
    order_item = serializers.IntegerField(source="line_id")
    reason = serializers.IntegerField(source="reason_id")
    status = serializers.SerializerMethodField()
    cancellation_type = serializers.SerializerMethodField()
    created_date = serializers.DateTimeField(source="created_at")
    easy_return = serializers.SerializerMethodField()
    answer = serializers.CharField(source="decision_note")
    cancellation_request_image_set = serializers.SerializerMethodField()

    class Meta:
        model = CancellationRequest
        fields = [
            "pk",
            "id",
            "uuid",
            "order_item",
            "quantity",
            "status",
            "cancellation_type",
            "reason",
            "description",
            "created_date",
            "easy_return",
            "answer",
            "cancellation_request_image_set",
        ]

    @extend_schema_field(LABELLED)
    def get_status(self, request: CancellationRequest) -> Labelled:
        return labelled(request.status, request.get_status_display())

    @extend_schema_field(LABELLED)
    def get_cancellation_type(self, request: CancellationRequest) -> Labelled:
        return labelled(request.cancellation_type, request.get_cancellation_type_display())

    @extend_schema_field(EASY_RETURN)
    def get_easy_return(self, request: CancellationRequest) -> dict[str, Any] | None:
        """How the goods come back; null until the request is approved, and for cancellations."""
        parcel = request.goods_return
        if parcel is None or request.status not in SENDING_BACK:
            return None
        carrier = parcel.carrier
        return {
            "code": parcel.code,
            "label_url": label_path(parcel),
            "shipping_company": labelled(carrier.code if carrier else "", carrier.name if carrier else ""),
            "instructions": carrier.instructions if carrier else "",
            "pickup_date": parcel.pickup_date.isoformat() if parcel.pickup_date else None,
            "hour_range": {"start": parcel.pickup_from, "end": parcel.pickup_until},
            "received_date": parcel.received_at.isoformat() if parcel.received_at else None,
        }

    @extend_schema_field({"type": "array", "items": _object(image=TEXT)})
    def get_cancellation_request_image_set(self, request: CancellationRequest) -> list[dict[str, str]]:
        """Addresses of the pictures, for their owner and for staff."""
        return [{"image": reverse("orders:picture", args=[one.uuid])} for one in request.pictures.all()]


def requests_out(requests: Sequence[CancellationRequest]) -> Any:
    """Requests that were just made, as the contract lists them: no more queries for more of them."""
    prefetch_related_objects(requests, "pictures", "goods_return__carrier")
    return RequestSerializer(requests, many=True).data


class ParcelSerializer(serializers.Serializer[Any]):
    """How many units of a line left, when and with whom."""

    quantity = serializers.IntegerField()
    carrier = serializers.CharField(source="event.carrier")
    tracking_number = serializers.CharField(source="event.tracking_number")
    tracking_url = serializers.CharField(source="event.tracking_url")
    shipped_date = serializers.DateTimeField(source="event.created_at")


class ProductSerializer(serializers.Serializer[Any]):
    """The product as it was ordered."""

    pk = serializers.SerializerMethodField()
    sku = serializers.CharField()
    name = serializers.CharField()
    image = serializers.SerializerMethodField()
    attributes = serializers.DictField()
    absolute_url = serializers.SerializerMethodField()
    base_code = serializers.CharField(source="sku")

    def get_pk(self, line: Any) -> int:
        """0 where the product is gone."""
        return line.product_id or 0

    @extend_schema_field({"type": ["string", "null"], "format": "uri"})
    def get_image(self, line: Any) -> str | None:
        """context["no_picture"]: shown where there is none; by default null is."""
        found = default_storage.url(line.image) if line.image else self.context.get("no_picture")
        return self.context["request"].build_absolute_uri(found) if found else None

    def get_absolute_url(self, line: Any) -> str:
        """Products have no pages at this desk; the client reads it without looking."""
        return ""


class LineSerializer(serializers.Serializer[ShownLine]):
    """One line. `quantity` is what was ordered; what became of the units is told beside it."""

    pk = serializers.IntegerField(source="line.pk")
    id = serializers.IntegerField(source="line.pk")
    order = serializers.IntegerField(source="order.pk")
    product = ProductSerializer(source="line")
    status = serializers.SerializerMethodField()
    price = MoneyField(source="line.unit_price")
    retail_price = MoneyField(source="line.unit_price")
    unit_price = MoneyField(source="line.unit_price")
    discount_amount = MoneyField(source="line.discount_total")
    total_amount = serializers.SerializerMethodField()
    tax_rate = serializers.SerializerMethodField()
    price_currency = serializers.SerializerMethodField()
    quantity = serializers.IntegerField(source="line.quantity")
    cancelled_quantity = serializers.IntegerField(source="line.cancelled")
    shipped_quantity = serializers.IntegerField(source="line.shipped")
    delivered_quantity = serializers.IntegerField(source="line.delivered")
    returned_quantity = serializers.IntegerField(source="line.returned")
    is_cancelled = serializers.BooleanField()
    is_cancellable = serializers.BooleanField(source="flags.is_cancellable")
    is_refundable = serializers.BooleanField(source="flags.is_refundable")
    refund_refusal = serializers.SerializerMethodField()
    active_cancellation_request = RequestSerializer(source="active_request", allow_null=True)
    cancellationrequest_set = RequestSerializer(source="requests", many=True)
    available_easy_return_shipping_companies = serializers.SerializerMethodField()
    tracking_number = serializers.SerializerMethodField()
    tracking_url = serializers.SerializerMethodField()
    shipping_company = serializers.SerializerMethodField()
    parcels = ParcelSerializer(many=True)
    parent = serializers.SerializerMethodField()  # type: ignore[assignment]

    def get_refund_refusal(self, shown: ShownLine) -> str:
        """Why what has been sent of it cannot be sent back; empty where it can, or nothing has been sent."""
        return str(shown.flags.refund_refusal or "")

    @extend_schema_field(LABELLED)
    def get_status(self, shown: ShownLine) -> Labelled:
        return status_of(shown.line.status)

    @extend_schema_field(AMOUNT)
    def get_total_amount(self, shown: ShownLine) -> str:
        """All units of the line, less its discount; shipping stands on the order."""
        return str(rounded(shown.line.items_total - shown.line.discount_total, shown.order.currency))

    @extend_schema_field(AMOUNT)
    def get_tax_rate(self, shown: ShownLine) -> str:
        return f"{shown.line.tax_rate:.2f}"

    @extend_schema_field(LABELLED)
    def get_price_currency(self, shown: ShownLine) -> Labelled:
        return currency_of(shown.order.currency)

    @extend_schema_field({"type": "array", "items": _object(pk=NUMBER, shipping_company=LABELLED)})
    def get_available_easy_return_shipping_companies(self, shown: ShownLine) -> list[dict[str, Any]]:
        """Who may bring it back, where it can be sent back."""
        if not shown.flags.is_refundable:
            return []
        return [{"pk": one.pk, "shipping_company": labelled(one.code, one.name)} for one in shown.carriers]

    @extend_schema_field({"type": ["string", "null"]})
    def get_tracking_number(self, shown: ShownLine) -> str | None:
        return (shown.parcel.event.tracking_number if shown.parcel else "") or None

    @extend_schema_field({"type": ["string", "null"]})
    def get_tracking_url(self, shown: ShownLine) -> str | None:
        return (shown.parcel.event.tracking_url if shown.parcel else "") or None

    @extend_schema_field(LABELLED)
    def get_shipping_company(self, shown: ShownLine) -> Labelled:
        return shipping_company_of(shown.parcel)

    @extend_schema_field({"type": ["integer", "null"]})
    def get_parent(self, shown: ShownLine) -> None:
        """Lines are never split here: their units are counted."""
        return


class OrderSerializer(serializers.Serializer[ShownOrder]):
    """An order, the same in the list, alone, and as completed."""

    pk = serializers.IntegerField(source="order.pk")
    id = serializers.IntegerField(source="order.pk")
    number = serializers.CharField(source="order.number")
    status = serializers.SerializerMethodField()
    currency = serializers.SerializerMethodField()
    amount = MoneyField(source="order.total")
    amount_without_discount = serializers.SerializerMethodField()
    discount_amount = MoneyField(source="order.discount_total")
    shipping_amount = MoneyField(source="order.shipping_total")
    shipping_tax_rate = serializers.SerializerMethodField()
    created_date = serializers.DateTimeField(source="order.placed_at")
    modified_date = serializers.DateTimeField(source="order.updated_at")
    is_cancelled = serializers.BooleanField()
    is_cancellable = serializers.BooleanField()
    is_refundable = serializers.BooleanField()
    user_email = serializers.CharField(source="order.email")
    language_code = serializers.CharField(source="order.language")
    payment_option = serializers.SerializerMethodField()
    shipping_option_slug = serializers.CharField(source="order.shipping_method")
    annotation = serializers.SerializerMethodField()
    extra = serializers.SerializerMethodField()
    orderitem_set = LineSerializer(source="lines", many=True)
    discountitem_set = serializers.SerializerMethodField()
    shipping_address = serializers.SerializerMethodField()
    billing_address = serializers.SerializerMethodField()

    @extend_schema_field(LABELLED)
    def get_status(self, shown: ShownOrder) -> Labelled:
        return status_of(shown.order.status)

    @extend_schema_field(LABELLED)
    def get_currency(self, shown: ShownOrder) -> Labelled:
        return currency_of(shown.order.currency)

    @extend_schema_field(AMOUNT)
    def get_amount_without_discount(self, shown: ShownOrder) -> str:
        return str(rounded(shown.order.total + shown.order.discount_total, shown.order.currency))

    @extend_schema_field(AMOUNT)
    def get_shipping_tax_rate(self, shown: ShownOrder) -> str:
        """Shipping is taxed with the goods that it carries: their rate, where it is one."""
        rates = {line.line.tax_rate for line in shown.lines}
        return f"{rates.pop() if len(rates) == 1 else ZERO:.2f}"

    @extend_schema_field(_object(name=TEXT, slug=TEXT))
    def get_payment_option(self, shown: ShownOrder) -> dict[str, str]:
        return {"name": shown.order.payment_method_name, "slug": shown.order.payment_method}

    def get_annotation(self, shown: ShownOrder) -> str:
        """What the customer wrote when ordering."""
        return str(shown.order.extra.get("annotation", ""))

    @extend_schema_field({"type": "object", "additionalProperties": {}})
    def get_extra(self, shown: ShownOrder) -> dict[str, Any]:
        """What else the storefront sent when ordering, by the names that the shop declares."""
        return {one.name: one.value for one in told_extra(shown.order)}

    @extend_schema_field({"type": "array", "items": _object(pk=NUMBER, name=TEXT, code=TEXT, amount=AMOUNT)})
    def get_discountitem_set(self, shown: ShownOrder) -> list[dict[str, Any]]:
        return [
            {"pk": one.pk, "name": one.name, "code": one.code, "amount": str(rounded(one.amount, shown.order.currency))}
            for one in shown.discounts
        ]

    @extend_schema_field(ADDRESS)
    def get_shipping_address(self, shown: ShownOrder) -> dict[str, object]:
        return address_of(shown.order.shipping_address)

    @extend_schema_field(ADDRESS)
    def get_billing_address(self, shown: ShownOrder) -> dict[str, object]:
        return address_of(shown.order.billing_address)


def list_serializer() -> type[serializers.BaseSerializer[Any]]:
    """The shop's serializer of an order in a list: setting ORDER_LIST_SERIALIZER. It gets a ShownOrder."""
    found: type[serializers.BaseSerializer[Any]] = import_string(settings.ORDER_LIST_SERIALIZER)
    return found


def detail_serializer() -> type[serializers.BaseSerializer[Any]]:
    """The shop's serializer of an order alone, and as completed: setting ORDER_DETAIL_SERIALIZER."""
    found: type[serializers.BaseSerializer[Any]] = import_string(settings.ORDER_DETAIL_SERIALIZER)
    return found


class CompletedSerializer(serializers.Serializer[ShownOrder]):
    """The contract's CompletedOrderResponse."""

    order = serializers.SerializerMethodField()
    campaigns = serializers.SerializerMethodField()

    @extend_schema_field(OrderSerializer)
    def get_order(self, shown: ShownOrder) -> Any:
        """With a picture for every product: on this page the storefront's client draws it without looking."""
        return detail_serializer()(shown, context={**self.context, "no_picture": static(NO_PICTURE)}).data

    @extend_schema_field({"type": "array", "items": {"type": "object"}})
    def get_campaigns(self, shown: ShownOrder) -> list[dict[str, str]]:
        return [{"name": one.name, "code": one.code} for one in shown.discounts]


class ReasonSerializer(serializers.ModelSerializer[CancellationReason]):
    """A reason that customers may choose."""

    id = serializers.IntegerField(source="pk")
    uuid = serializers.SerializerMethodField()
    subject = serializers.CharField(source="label")
    cancellation_type = serializers.SerializerMethodField()
    extra_information_needed = serializers.BooleanField(source="needs_note")
    order = serializers.IntegerField(source="position")
    translations = serializers.SerializerMethodField()

    class Meta:
        model = CancellationReason
        fields = [
            "pk",
            "id",
            "uuid",
            "subject",
            "cancellation_type",
            "extra_information_needed",
            "is_active",
            "order",
            "translations",
        ]

    @extend_schema_field({"type": "string", "format": "uuid"})
    def get_uuid(self, reason: CancellationReason) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{settings.SITE_URL}/cancellation_reasons/{reason.code}"))

    @extend_schema_field({"type": "string", "enum": ["cancel", "refund"]})
    def get_cancellation_type(self, reason: CancellationReason) -> str:
        """Every reason may be given for both; the client wants one word."""
        return str(CancellationRequest.Type.CANCEL)

    @extend_schema_field({"type": ["object", "null"]})
    def get_translations(self, reason: CancellationReason) -> None:
        return
