"""Placing an order: one transaction in which prices, names, addresses and shares are frozen and stock is allocated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from inventory import services as inventory
from inventory.models import Product
from orders.models import CaptureMode, Order, OrderAddress, OrderDiscount, OrderLine, RecurringOrder
from orders.processing.decision import Decision
from orders.processing.money import PAYMENT_CHANGED, Money
from orders.rules.repricing import deal_of
from orders.signals import order_placed
from payments import services as payments
from payments.models import Payment
from shop import jobs
from shop.errors import Invalid, Refused
from shop.models import Job, Store, User
from shop.money import ZERO, rounded, split


def frozen_numbers(order: Order, lines: Sequence[OrderLine]) -> dict[str, Any]:
    """The numbers that placement froze, as the journal keeps them: by its hashes, none of them can change unseen."""
    currency, standard = order.currency, order.shipping_standard
    names = ("items_total", "discount_total", "shipping_total", "tax_total", "total")
    return {
        "number": order.number,
        "currency": currency,
        "pays_on_delivery": order.pays_on_delivery,
        "order": [str(rounded(getattr(order, name), currency)) for name in names],
        "lines": {
            str(line.pk): [
                line.sku,
                line.quantity,
                f"{line.unit_price:.3f}",
                f"{line.tax_rate:.3f}",
                *(str(rounded(getattr(line, name), currency)) for name in names),
            ]
            for line in lines
        },
        # Orders from before this was known have nothing of it in their journals.
        **({} if standard is None else {"standard_shipping": str(rounded(standard, currency))}),
    }


class PlacementRefused(Refused):
    """Oscar's UnableToPlaceOrder: the order cannot be placed as it stands."""

    code = "unable_to_place_order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One product to order. unit_price in the store's currency, with or without tax as the store's prices are."""

    product: Product
    quantity: int
    unit_price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    name: str
    amount: Decimal
    code: str = ""
    minimum: Decimal = ZERO  # from what value of goods on it was granted


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentChoice:
    """A part of the total to be paid through one gateway; None: all that the other parts leave."""

    gateway: str
    amount: Decimal | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Everything an order is made of. Amounts are in the store's currency."""

    store: Store
    items: Sequence[Item]
    payments: Sequence[PaymentChoice]
    email: str
    customer: User | None = None
    customer_name: str = ""
    phone: str = ""
    language: str = "en"
    channel: str = "web"
    discounts: Sequence[Discount] = ()
    shipping_price: Decimal = ZERO
    # Where shipping is free because of the goods' value: from what value on, and what it costs below.
    shipping_free_from: Decimal | None = None
    shipping_price_below: Decimal = ZERO
    # What the least expensive standard delivery offered for it would have cost; None: not known.
    shipping_standard: Decimal | None = None
    shipping_method: str = ""
    shipping_method_name: str = ""
    is_pickup: bool = False
    payment_method: str = ""
    payment_method_name: str = ""
    pays_on_delivery: bool = False
    capture_mode: str = CaptureMode.BY_STAFF
    shipping_address: OrderAddress | None = None
    billing_address: OrderAddress | None = None
    idempotency_key: str | None = None
    recurring: RecurringOrder | None = None
    occurrence: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one line costs."""

    items: Decimal
    discount: Decimal
    shipping: Decimal
    tax: Decimal
    total: Decimal


def amounts_of(placement: Placement) -> list[Amounts]:
    """What each line costs: discounts and shipping shared out by the lines' prices, to the cent, once and for all.

    Where prices include tax, `tax` is the part of the total that is tax; where they do not, it comes on top.
    """
    currency = placement.store.currency
    items = [rounded(item.unit_price * item.quantity, currency) for item in placement.items]
    discount = sum((d.amount for d in placement.discounts), ZERO)
    discounts = split(discount, items, currency)
    discounted = [price - off for price, off in zip(items, discounts, strict=True)]
    shipping = split(placement.shipping_price, discounted, currency)
    amounts = []
    for item, price, off, ship in zip(placement.items, items, discounts, shipping, strict=True):
        net, rate = price - off + ship, item.product.tax_rate
        if placement.store.prices_include_tax:
            tax, total = rounded(net * rate / (100 + rate), currency), net
        else:
            tax = rounded(net * rate / 100, currency)
            total = net + tax
        amounts.append(Amounts(price, off, ship, tax, total))
    return amounts


class Placing(Money):
    def place(self, placement: Placement) -> Order:
        """This will place an order, whole or not at all: rows, number, allocated stock, payment intents, confirmation.

        The gateway is asked by a worker, or at once by `pay_now`. The same idempotency key returns the same order.
        Locks the stock records. Raises OutOfStock naming the line, PlacementRefused, Invalid.
        """
        self._validate(placement)
        if (before := self._placed_before(placement)) is not None:
            return before
        self._check_maintenance()
        try:
            return self._place(placement)
        except IntegrityError:
            # Somebody placed it under the same key meanwhile; PostgreSQL made this one wait for that one's commit.
            if (before := self._placed_before(placement)) is not None:
                return before
            raise

    def _place(self, placement: Placement) -> Order:
        with transaction.atomic():
            order, lines = self._write_rows(placement)
            d = Decision.on_new_order(order, lines, actor=self.actor, as_of=self.as_of)
            previous, self._decision = self._decision, d
            try:
                self._allocate(order, lines)
                d.facts.payments.extend(self._open_payments(order, placement))
                d.advance()
                d.details["frozen"] = frozen_numbers(order, lines)
                self.document_placement(d)
                d.tell("order_placed", cause="placed")
                d.finish()
            finally:
                self._decision = previous
            transaction.on_commit(
                lambda: order_placed.send_robust(sender=Order, order=order, actor=self.actor), robust=True
            )
        return order

    def _validate(self, placement: Placement) -> None:
        if not placement.items:
            raise PlacementRefused(
                _("There is nothing to order: the cart is empty."), code="cart_empty", http_status=400
            )
        for position, item in enumerate(placement.items):
            name = f"items.{position}"
            if item.quantity < 1:
                raise Invalid(_("“%(name)s”: order at least 1."), params={"name": item.product.name}, field=name)
            if item.unit_price < 0:
                raise Invalid(_("“%(name)s”: the price is negative."), params={"name": item.product.name}, field=name)
            if item.product.currency != placement.store.currency:
                words = _("“%(name)s” is sold in %(its)s, this store sells in %(ours)s.")
                params = {"name": item.product.name, "its": item.product.currency, "ours": placement.store.currency}
                raise PlacementRefused(words, params=params, code="wrong_currency", field=name)
        worth = sum((item.unit_price * item.quantity for item in placement.items), ZERO)
        if any(d.amount < 0 for d in placement.discounts) or sum(d.amount for d in placement.discounts) > worth:
            raise Invalid(_("Discounts must be between nothing and the price of the goods."), field="discounts")
        if placement.shipping_price < 0:
            raise Invalid(_("Shipping cannot cost less than nothing."), field="shipping_price")
        standard = placement.shipping_standard
        if standard is not None and not ZERO <= standard <= placement.shipping_price:
            words = _("The standard delivery cannot cost more than the one that was chosen.")
            raise Invalid(words, field="shipping_standard")

    def _placed_before(self, placement: Placement) -> Order | None:
        """The order that this idempotency key made, if any."""
        key = placement.idempotency_key
        before: Order | None = (
            Order.objects.select_related("store").filter(idempotency_key=key).first() if key else None
        )
        return before

    def _write_rows(self, placement: Placement) -> tuple[Order, list[OrderLine]]:
        amounts = amounts_of(placement)
        for address in (placement.shipping_address, placement.billing_address):
            if address is not None and address._state.adding:
                address.save(force_insert=True)
        sums = {name: sum((getattr(a, name) for a in amounts), ZERO) for name in Amounts.__slots__}
        order = Order(
            store=placement.store,
            customer=placement.customer,
            customer_name=placement.customer_name,
            email=placement.email,
            phone=placement.phone,
            language=placement.language,
            channel=placement.channel,
            currency=placement.store.currency,
            prices_include_tax=placement.store.prices_include_tax,
            items_total=sums["items"],
            discount_total=sums["discount"],
            shipping_total=sums["shipping"],
            tax_total=sums["tax"],
            total=sums["total"],
            shipping_standard=placement.shipping_standard,
            shipping_method=placement.shipping_method,
            shipping_method_name=placement.shipping_method_name,
            is_pickup=placement.is_pickup,
            payment_method=placement.payment_method,
            payment_method_name=placement.payment_method_name,
            pays_on_delivery=placement.pays_on_delivery,
            capture_mode=placement.capture_mode,
            shipping_address=placement.shipping_address,
            billing_address=placement.billing_address,
            placed_at=self.as_of,
            idempotency_key=placement.idempotency_key,
            recurring=placement.recurring,
            occurrence=placement.occurrence,
            extra=dict(placement.extra),
            deal=deal_of(
                discounts=[(d.name, d.amount, d.minimum) for d in placement.discounts],
                free_from=placement.shipping_free_from,
                shipping=placement.shipping_price_below,
            ),
        )
        order.save(force_insert=True)
        order.get_or_assign_number()
        order.populate()
        order.save(update_fields=["number", "status"])
        OrderDiscount.objects.bulk_create(
            OrderDiscount(order=order, name=d.name, code=d.code, amount=d.amount) for d in placement.discounts
        )
        return order, self._write_lines(order, placement, amounts)

    def _write_lines(self, order: Order, placement: Placement, amounts: list[Amounts]) -> list[OrderLine]:
        units: dict[int, int] = {}
        for item in placement.items:
            units[item.product.pk] = units.get(item.product.pk, 0) + item.quantity
        records = inventory.choose_stock(quantities=units, store_id=order.store_id, lock=True)
        lines = [
            OrderLine(
                order=order,
                position=position,
                product=item.product,
                stock_record=records.get(item.product.pk),
                tracks_stock=item.product.track_stock,
                return_exemption=item.product.return_exemption,
                sku=item.product.sku,
                name=item.product.name,
                attributes=item.product.attributes,
                image=item.product.image.name or "" if item.product.image else "",
                quantity=item.quantity,
                unit_price=item.unit_price,
                items_total=a.items,
                discount_total=a.discount,
                shipping_total=a.shipping,
                tax_rate=item.product.tax_rate,
                tax_total=a.tax,
                total=a.total,
                status=order.status,
                allocated=item.quantity if item.product.track_stock else 0,
            )
            for position, (item, a) in enumerate(zip(placement.items, amounts, strict=True), start=1)
        ]
        return OrderLine.objects.bulk_create(lines)

    def _allocate(self, order: Order, lines: list[OrderLine]) -> None:
        moves = [
            inventory.Move(line.stock_record_id, line.quantity, f"allocate:{line.pk}")
            for line in lines
            if line.stock_record_id is not None
        ]
        if moves:
            inventory.allocate(moves=moves, reference=order.number or "", actor_name=self.actor.name, as_of=self.as_of)

    def _open_payments(self, order: Order, placement: Placement) -> list[Payment]:
        """Write down who is to pay what, and ask the gateways that take money online to hold it."""
        opened = []
        left = order.total
        for position, choice in enumerate(placement.payments):
            amount = left if choice.amount is None else choice.amount
            left -= amount
            if left < 0 or (choice.amount is not None and amount <= 0):
                raise Invalid(
                    _("The payments do not add up to the total."), code="payments_do_not_add_up", field="payments"
                )
            if not amount:
                continue
            opened.append(
                self.open_payment(
                    order, gateway=choice.gateway, amount=amount, details=choice.details, position=position
                )
            )
        if left:
            raise Invalid(
                _("The payments do not add up to the total."), code="payments_do_not_add_up", field="payments"
            )
        return opened

    def open_payment(
        self, order: Order, *, gateway: str, amount: Decimal, details: Mapping[str, Any], position: int
    ) -> Payment:
        payment = payments.open_payment(
            reference=order.number or "",
            store_id=order.store_id,
            gateway=gateway,
            currency=order.currency,
            amount=amount,
            on_change=PAYMENT_CHANGED,
            details=details,
        )
        if self._decision is not None:
            self._decision.details.setdefault("payments", {})[str(payment.pk)] = f"{amount:.3f}"
        if payments.takes_money_online(gateway=gateway):
            payments.request_authorization(payment=payment, cause=f"authorize:{order.number}:{position}")
        return payment

    def pay_again(
        self, *, number: str, gateway: str, details: Mapping[str, Any] | None = None, version: int | None = None
    ) -> Order:
        """This will ask for the outstanding amount once more, perhaps through another gateway, after a decline.

        Raises Refused (nothing outstanding, an attempt is still under way).
        """
        with self.decide(number, "retry_payment", version=version) as d:
            if self.actor.is_staff:
                self.actor.require("orders.charge_order", store_id=d.order.store_id)
            waiting = [
                p
                for p in d.facts.payments
                if p.transactions.filter(kind="authorize").exclude(status__in=["succeeded", "failed"]).exists()
            ]
            if waiting:
                raise PlacementRefused(_("A payment is under way; wait for its outcome."), code="payment_under_way")
            self._reload_payments(d)
            by_hand = [p for p in d.facts.payments if not payments.takes_money_online(gateway=p.gateway)]
            promised = sum((p.amount - p.authorized for p in by_hand), ZERO)
            if payments.takes_money_online(gateway=gateway):
                promised = ZERO  # paying online instead of by hand is a choice, made once it succeeds
            missing = d.facts.outstanding - d.facts.open_to_capture - promised
            if missing <= 0 or not any(line.live for line in d.facts.lines):
                raise PlacementRefused(_("Nothing is outstanding."), code="nothing_outstanding")
            payment = self.open_payment(
                d.order, gateway=gateway, amount=missing, details=details or {}, position=len(d.facts.payments)
            )
            d.facts.payments.append(payment)
        return d.order


def pay_now(number: str) -> None:
    """This will try an order's waiting payments in this process, so that the customer hears the outcome at once.

    Outside any transaction. What does not end here is a job like any other: a worker goes on with it.
    """
    for kind in ("payments.send", PAYMENT_CHANGED, "payments.send", PAYMENT_CHANGED):
        waiting = Job.objects.filter(reference=number, kind=kind, state=Job.State.WAITING).order_by("pk")
        for key in waiting.values_list("key", flat=True):
            jobs.run_now(key)
