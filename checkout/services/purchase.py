"""Purchase: a cart becomes an order, whole or not at all, and once. And back: an order's goods go into a cart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from checkout.models import Cart, PaymentMethod
from checkout.rules import Problem, fields_of, standard_shipping
from checkout.services.carts import RELATED, CartNotFound, NotOffered, is_sold, locked_cart, put
from checkout.services.catalogue import ways_to_ship
from checkout.services.contents import Contents, available_units, contents
from inventory.models import Product
from inventory.services import OutOfStock
from orders.models import Facts, Order, OrderAddress
from orders.processing import PaymentChoice, Placement, get_event_handler
from orders.processing.extras import OF_THE_DESK
from payments.models import CreditAccount, Transaction
from payments.services import AmountInvalid, credit
from payments.services.credit_gateways import ACCOUNT
from shop.actors import Actor
from shop.errors import Invalid, Refused
from shop.money import ZERO, rounded, shown


class CartNotReady(Refused):
    """What keeps a cart from being ordered; `problems` holds all of it, the refusal's words the first."""

    code = "cart_not_ready"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        super().__init__(first.message, code=first.code, field=first.field, max_quantity=first.max_quantity)


class TotalChanged(Refused):
    code = "total_changed"
    message = _("The total has changed from %(seen)s to %(now)s. Look at the cart again before you order.")


class MethodsMixed(Invalid):
    code = "payment_methods_mixed"
    message = _("Paying on delivery cannot be combined with another way of paying.")


class GuestHasNoCredit(Invalid):
    code = "guest_has_no_credit"
    message = _("Log in to pay with your %(what)s.")


class CreditInOtherCurrency(Invalid):
    code = "credit_in_other_currency"
    message = _("Your %(what)s are in %(its)s; this store sells in %(currency)s.")


class CreditExceedsTotal(Invalid):
    code = "credit_exceeds_total"
    message = _("Only %(left)s is left to be paid this way.")


# ---------------------------------------------------------------------------------------------------------------------
# Who pays what


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPart:
    """A part of the total to be paid by a payment method; None: all that the others leave."""

    method: str
    amount: Decimal | None = None
    details: Mapping[str, Any]


def choices_of(*, cart: Cart, parts: Sequence[PaymentPart]) -> list[PaymentChoice]:
    """This will turn parts of a payment, by method, into choices of gateways, for `purchase`.

    Raises NotOffered, MethodsMixed.
    """
    methods = {method.code: method for method in PaymentMethod.objects.filter(code__in=[part.method for part in parts])}
    for n, part in enumerate(parts):
        if part.method not in methods or not methods[part.method].is_offered_by(cart.store):
            raise NotOffered(params={"code": part.method}, field=f"payments.{n}.method")
        if len(parts) > 1 and methods[part.method].pays_on_delivery:
            raise MethodsMixed(field=f"payments.{n}.method")
    if cart.payment_method is not None and any(
        method.pays_on_delivery != cart.payment_method.pays_on_delivery for method in methods.values()
    ):
        raise MethodsMixed(field="payments")
    return [
        PaymentChoice(gateway=methods[part.method].gateway, amount=part.amount, details=dict(part.details))
        for part in parts
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditUse:
    """How much of the customer's credit is to be spent. An amount; True: as much as there is; None: nothing."""

    loyalty: Decimal | bool | None = None
    store_credit: Decimal | bool | None = None


def _credit_choices(
    *, cart: Cart, use: CreditUse, total: Decimal, rest: Sequence[PaymentChoice], as_of: datetime
) -> list[PaymentChoice]:
    """The part of the total that the customer's own accounts pay; points first, as they expire.

    What is free is looked at here, and held when the gateway is asked: of two orders for the same points, one is
    declined and can be paid another way.
    """
    left = total - sum((choice.amount for choice in rest if choice.amount is not None), ZERO)
    choices = []
    for kind in (CreditAccount.Kind.LOYALTY, CreditAccount.Kind.STORE_CREDIT):
        wanted: Decimal | bool | None = getattr(use, kind)
        if not wanted:
            continue
        field = f"use_{kind}"
        has = _credit_of(cart, kind, field=field, as_of=as_of)
        amount = min(has.available, left) if wanted is True else Decimal(wanted)
        if amount != rounded(amount, has.currency):
            raise AmountInvalid(field=field)
        if not has.available or amount > has.available:
            words = credit.credit_shown(has.available, has.currency, kind)
            raise credit.NotEnoughCredit(params={"available": words}, field=field)
        if amount > left:
            raise CreditExceedsTotal(params={"left": shown(left, has.currency)}, field=field)
        if amount > 0:
            left -= amount
            choices.append(PaymentChoice(gateway=kind, amount=amount, details={ACCOUNT: has.account_id}))
    return choices


def _credit_of(cart: Cart, kind: CreditAccount.Kind, *, field: str, as_of: datetime) -> credit.Balance:
    """What the cart's customer has of a kind, in the store's currency."""
    if cart.customer_id is None:
        raise GuestHasNoCredit(params={"what": kind.label}, field=field)
    if cart.payment_method is not None and cart.payment_method.pays_on_delivery:
        raise MethodsMixed(field=field)
    currency = cart.store.currency
    found = [row for row in credit.balances_of(owner_id=cart.customer_id, as_of=as_of) if row.kind == kind]
    mine = next((row for row in found if row.currency == currency), None)
    other = next((row for row in found if row.available), None)
    if mine is None and other is not None:
        raise CreditInOtherCurrency(
            params={"what": kind.label, "its": other.currency, "currency": currency}, field=field
        )
    return mine or credit.Balance(kind, currency)


# ---------------------------------------------------------------------------------------------------------------------
# Purchase


def purchase(
    *,
    cart_id: int,
    actor: Actor,
    idempotency_key: str,
    payments: Sequence[PaymentChoice] | None = None,
    payment_details: Mapping[str, Any] | None = None,
    use_credit: CreditUse | None = None,
    expected_total: Decimal | None = None,
    annotation: str = "",
    extra: Mapping[str, Any] | None = None,
    as_of: datetime,
) -> Order:
    """This will make an order of a cart: its lines, allocated stock, payments to be asked for and the emptied cart.

    All of it in one transaction, or none; it cannot be reversed, only cancelled. The gateway is not asked here: the
    order exists before any money moves, so that money which moves has a place. The door calls
    `orders.processing.pay_now` afterwards, outside the transaction.

    idempotency_key  unique for who asks; the same key, or the same cart, returns the order there is
    payments         how the total is split; default: all by the cart's payment method, with payment_details
    use_credit       what of the total the customer's store credit and points pay, before all others
    expected_total   what the customer saw; another total is refused
    annotation       what the customer wants the shop to know
    extra            what else the shop's checkout collects, as ORDER_EXTRA_SERIALIZER has checked it; kept on the order
    Locks the cart, then its stock. Raises CartNotFound, CartNotReady (naming the lines), TotalChanged, NotEnoughCredit,
    GuestHasNoCredit, CreditInOtherCurrency, CreditExceedsTotal, MethodsMixed, Refused.
    """
    try:
        return _purchase(
            cart_id=cart_id,
            actor=actor,
            key=idempotency_key,
            payments=payments,
            payment_details=payment_details or {},
            use_credit=use_credit or CreditUse(),
            expected_total=expected_total,
            annotation=annotation,
            extra=extra or {},
            as_of=as_of,
        )
    except OutOfStock:
        # A rival was quicker, between our look and our lock. Say which lines it is about.
        cart = Cart.objects.select_related(*RELATED).get(pk=cart_id)
        if short := [p for p in contents(cart=cart, as_of=as_of).problems if p.code == "out_of_stock"]:
            raise CartNotReady(short) from None
        raise


@transaction.atomic
def _purchase(
    *,
    cart_id: int,
    actor: Actor,
    key: str,
    payments: Sequence[PaymentChoice] | None,
    payment_details: Mapping[str, Any],
    use_credit: CreditUse,
    expected_total: Decimal | None,
    annotation: str,
    extra: Mapping[str, Any],
    as_of: datetime,
) -> Order:
    cart = locked_cart(cart_id, must_be_open=False)
    if actor.is_customer and cart.customer_id != actor.user_id:
        raise CartNotFound
    if not cart.is_open:
        return Order.objects.select_related("store").get(number=cart.order_number)
    if (before := Order.objects.select_related("store").filter(idempotency_key=key).first()) is not None:
        return before
    found = contents(cart=cart, as_of=as_of)
    if found.problems:
        raise CartNotReady(found.problems)
    total, currency = found.totals.total, cart.store.currency
    if expected_total is not None and rounded(expected_total, currency) != total:
        seen, now = shown(expected_total, currency), shown(total, currency)
        raise TotalChanged(params={"seen": seen, "now": now}, field="total")
    assert cart.payment_method is not None  # problems would have said so
    rest = payments or [PaymentChoice(gateway=cart.payment_method.gateway, details=payment_details)]
    chosen = [*_credit_choices(cart=cart, use=use_credit, total=total, rest=rest, as_of=as_of), *rest]
    order = get_event_handler(actor, as_of=as_of).place(
        _placement(found, key=key, payments=chosen, annotation=annotation, extra=extra)
    )
    if order.extra.get("cart") != str(cart.public_id):
        return order  # the same key came at this moment with another cart, and was first
    cart.items.all().delete()
    cart.status, cart.order_number, cart.updated_at = Cart.Status.ORDERED, order.number or "", as_of
    cart.save(update_fields=["status", "order_number", "updated_at"])
    return order


def _placement(
    found: Contents, *, key: str, payments: Sequence[PaymentChoice], annotation: str, extra: Mapping[str, Any]
) -> Placement:
    """The cart as it is now, copied: nothing that changes later changes the order."""
    cart, shipping, payment = found.cart, found.cart.shipping_method, found.cart.payment_method
    assert shipping is not None  # problems would have said so
    assert payment is not None
    ship_to = None if shipping.is_pickup else _snapshot(cart, "shipping")
    bill_to = _snapshot(cart, "billing") or ship_to or _snapshot(cart, "shipping")
    named = ship_to or bill_to
    name = f"{named.first_name} {named.last_name}" if named else ""
    customer = cart.customer
    ours = {
        "cart": str(cart.public_id),
        "carrier": shipping.carrier,
        "tracking_url_template": shipping.tracking_url_template,
        "payment_instructions": payment.instructions,
        "annotation": annotation.strip(),
    }
    # A name that means something to the desk is never the storefront's to fill, not even where ours is empty.
    sent = {name: value for name, value in extra.items() if name not in OF_THE_DESK}
    return Placement(
        store=cart.store,
        items=found.for_sale,
        payments=payments,
        email=cart.contact,
        customer=customer,
        customer_name=(name or (customer.get_full_name() if customer else "") or cart.contact)[:200],
        phone=(named.phone if named else "") or (customer.phone if customer else ""),
        language=cart.language,
        discounts=found.discounts,
        shipping_price=found.shipping_price,
        shipping_free_from=shipping.free_from if not found.shipping_price else None,
        shipping_price_below=rounded(shipping.price, cart.store.currency),
        shipping_standard=standard_shipping(
            shipping, ways_to_ship(store=cart.store), goods=found.goods, currency=cart.store.currency
        ),
        shipping_method=shipping.code,
        shipping_method_name=shipping.name,
        is_pickup=shipping.is_pickup,
        payment_method=payment.code,
        payment_method_name=payment.name,
        pays_on_delivery=payment.pays_on_delivery,
        capture_mode=payment.capture_mode,
        shipping_address=ship_to,
        billing_address=bill_to,
        idempotency_key=key,
        extra=sent | {name: value for name, value in ours.items() if value},
    )


def _snapshot(cart: Cart, kind: str) -> OrderAddress | None:
    """A copy of one of the cart's addresses, as a row of its own."""
    address = cart.address(kind)
    if address is None:
        return None
    book_entry = None if isinstance(address, dict) else address.pk
    copy = OrderAddress(**fields_of(address), book_entry=book_entry)
    copy.save(force_insert=True)
    return copy


def payment_outcome(*, order: Order) -> str:
    """This will say how an order's payment stands, for the customer: "succeeded", "declined" or "pending".

    Pending is also what is paid by transfer or on delivery. Reads the order's money anew.
    """
    if order.pays_on_delivery:
        return "pending"
    if Facts.of(order).is_secured:
        return "succeeded"
    asked = Transaction.objects.filter(payment__reference=order.number, kind=Transaction.Kind.AUTHORIZE)
    statuses = list(asked.order_by("pk").values_list("status", flat=True))
    if any(status not in Transaction.FINAL for status in statuses):
        return "pending"
    # Of several payments one may have been declined, whichever was asked last.
    return "declined" if Transaction.Status.FAILED in statuses else "pending"


def payment_next_action(*, order: Order) -> dict[str, Any] | None:
    """This will say what the customer has to do before an order's payment can go on, such as 3-D Secure; or None."""
    pending = Transaction.objects.filter(payment__reference=order.number, status=Transaction.Status.PENDING)
    action: dict[str, Any] = (
        pending.exclude(next_action={}).order_by("-pk").values_list("next_action", flat=True).first() or {}
    )
    return action or None


# ---------------------------------------------------------------------------------------------------------------------
# Order the same again


@dataclass(frozen=True, slots=True)
class NotReadded:
    """What of an order's line is not, or not as before, in the cart.

    code  gone | inactive | out_of_stock | less_stock | price_changed (added, at today's price)
    """

    sku: str
    name: str
    code: str
    message: str
    wanted: int
    added: int


@transaction.atomic
def reorder(*, order: Order, cart_id: int, as_of: datetime) -> list[NotReadded]:
    """This will put an order's goods into a cart again, as many as can be had, and tell what is not as it was.

    Doing it twice does not double anything: the cart then holds at least the ordered units. Locks the cart.
    Raises CartOrdered. A constant number of queries.
    """
    cart = locked_cart(cart_id)
    lines = list(order.lines.select_related("product").order_by("position"))
    tracked = [line.product.pk for line in lines if line.product is not None and line.product.track_stock]
    available = available_units(product_ids=tracked, store_id=cart.store_id)
    units: dict[int, int] = {}
    told: list[NotReadded] = []
    for line in lines:
        product: Product | None = line.product
        count = line.quantity
        if product is not None and product.track_stock:
            count = max(0, min(count, available.get(product.pk, 0) - units.get(product.pk, 0)))
        if product is None or not is_sold(product, cart.store):
            count = 0
        if product is not None and count:
            units[product.pk] = units.get(product.pk, 0) + count
        if (why := _why(line, product, cart, count, order.currency)) is not None:
            told.append(NotReadded(line.sku, line.name, *why, line.quantity, count))
    put(cart, units, as_of=as_of, add=False)
    cart.updated_at = as_of
    cart.save(update_fields=["updated_at"])
    return told


def _why(line: Any, product: Product | None, cart: Cart, count: int, currency: str) -> tuple[str, str] | None:
    """What to tell of a line of which `count` units went into the cart."""
    names = {"name": line.name, "wanted": line.quantity, "added": count}
    if product is None:
        return "gone", str(_("“%(name)s” does not exist any more.") % names)
    if not is_sold(product, cart.store):
        return "inactive", str(_("“%(name)s” is not sold any more.") % names)
    if not count:
        return "out_of_stock", str(_("“%(name)s” is out of stock.") % names)
    if count < line.quantity:
        return "less_stock", str(_("Only %(added)d of %(wanted)d “%(name)s” can be had.") % names)
    if product.price != line.unit_price:
        names |= {"was": shown(line.unit_price, currency), "now": shown(product.price, product.currency)}
        return "price_changed", str(_("“%(name)s” cost %(was)s and costs %(now)s now.") % names)
    return None
