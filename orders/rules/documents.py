"""What stands on an order's documents: units, amounts and tax, to the cent. Pure: facts in, plain values out.

Amounts of units are those of the books: what the next n units of a line cost, so that an invoice and the credit notes
that correct it add up however a line is taken apart. Every amount is text with the currency's decimals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _

from orders.models import Facts, OrderLine, Return, Status
from orders.rules.customers import has_invoice
from orders.rules.guards import WrongStatus, first, permitted
from shop.actors import Actor
from shop.errors import Refused
from shop.money import ZERO, next_units, rounded, split

Content = dict[str, Any]


class AlreadyInvoiced(Refused):
    code = "already_invoiced"
    message = _("The order has an invoice already.")


class NothingToInvoice(Refused):
    code = "nothing_to_invoice"
    message = _("Nothing of the order is left to be invoiced.")


def issue_invoice(facts: Facts, actor: Actor) -> Refused | None:
    """An order has one invoice, over what the customer has or will have."""
    return first(
        permitted(facts, actor, "orders.issue_document"),
        WrongStatus(params={"status": facts.order.status_label}) if facts.order.status == Status.NEW else None,
        AlreadyInvoiced() if has_invoice(facts) else None,
        None if any(_invoiced_units(line) for line in facts.lines) else NothingToInvoice(),
    )


# ---------------------------------------------------------------------------------------------------------------
# Units


@dataclass(frozen=True, slots=True)
class Piece:
    """Some units of a line and what they cost: items − discount + shipping (+ tax where prices exclude it) = total."""

    line: OrderLine
    units: int
    items: Decimal
    discount: Decimal
    shipping: Decimal
    tax: Decimal
    total: Decimal


def piece_of(facts: Facts, line: OrderLine, units: int, *, after: int) -> Piece:
    """This will price `units` of a line after the first `after`. What rounding leaves is in the price of the goods."""

    def part(total: Decimal) -> Decimal:
        return next_units(total, line.quantity, after, units, facts.order.currency)

    total, tax = part(line.total), part(line.tax_total)
    discount, shipping = part(line.discount_total), part(line.shipping_total)
    on_top = ZERO if facts.order.prices_include_tax else tax
    return Piece(line, units, total - on_top - shipping + discount, discount, shipping, tax, total)


def _invoiced_units(line: OrderLine) -> int:
    """Units that are paid for or will be: neither cancelled unpaid nor given back."""
    return line.charged + line.chargeable - line.refunded


# ---------------------------------------------------------------------------------------------------------------
# Tax


def taxes_of(
    pieces: Iterable[Piece], adjustment: Decimal, *, rates: Mapping[Decimal, Decimal], currency: str
) -> list[dict[str, str]]:
    """This will break amounts down by tax rate; net + tax = gross in each row, and the rows add up.

    adjustment  what is kept (−) or given on top (+): shared out over `rates` (rate → weight), tax included
    """
    gross: dict[Decimal, Decimal] = {}
    tax: dict[Decimal, Decimal] = {}
    for piece in pieces:
        rate = piece.line.tax_rate
        gross[rate] = gross.get(rate, ZERO) + piece.total
        tax[rate] = tax.get(rate, ZERO) + piece.tax
    if adjustment:
        shares = split(adjustment, list(rates.values()), currency)
        for rate, share in zip(rates, shares, strict=True):
            gross[rate] = gross.get(rate, ZERO) + share
            tax[rate] = tax.get(rate, ZERO) + rounded(share * rate / (100 + rate), currency)
    return [
        {
            "rate": f"{rate.normalize():f}",
            "net": text(gross[rate] - tax[rate], currency),
            "tax": text(tax[rate], currency),
            "gross": text(gross[rate], currency),
        }
        for rate in sorted(gross)
    ]


def _rates(lines: Iterable[tuple[OrderLine, Decimal]]) -> dict[Decimal, Decimal]:
    weights: dict[Decimal, Decimal] = {}
    for line, amount in lines:
        weights[line.tax_rate] = weights.get(line.tax_rate, ZERO) + amount
    return weights


def text(amount: Decimal, currency: str) -> str:
    return str(rounded(amount, currency))


# ---------------------------------------------------------------------------------------------------------------
# Documents


def invoice_content(facts: Facts) -> Content:
    """This will put together an invoice: the units that are the customer's, and what was kept or given beyond them."""
    units = [(line, _invoiced_units(line)) for line in facts.lines]
    pieces = [piece_of(facts, line, count, after=line.refunded) for line, count in units if count]
    return _priced(facts, pieces, adjustment=Decimal(facts.order.adjustment_total))


def credit_note_content(
    facts: Facts, units: Mapping[int, tuple[int, int]], *, amount: Decimal, unapplied: Decimal
) -> Content:
    """This will put together a credit note over `amount`.

    units      line id → (units, how many of the line had been given back before)
    unapplied  what of the amount had paid for no unit: it goes back without tax, for none was due on it

    What the units are worth beyond the rest of the amount was kept; what the amount has beyond them was goodwill.
    """
    pieces = []
    for line in facts.lines:
        if line.pk in units:
            count, after = units[line.pk]
            pieces.append(piece_of(facts, line, count, after=after))
    free = min(unapplied, amount)
    worth = sum((piece.total for piece in pieces), ZERO)
    return _priced(facts, pieces, adjustment=amount - free - worth, untaxed=free)


def restoration_note_content(
    facts: Facts, units: Mapping[int, int], restored: Sequence[tuple[str, Decimal]]
) -> Content:
    """This will put together a note of what was given back as credit. restored: (what, amount)."""
    currency = facts.order.currency
    return {
        "lines": _goods(facts, units),
        "restored": [{"name": name, "amount": text(amount, currency)} for name, amount in restored],
        "total": text(sum((amount for _name, amount in restored), ZERO), currency),
    }


def delivery_note_content(facts: Facts, units: Mapping[int, int], *, carrier: str, tracking_number: str) -> Content:
    """This will put together a delivery note: what is in this parcel, and what of the order is still to come."""
    return {
        "lines": _goods(facts, units),
        "carrier": carrier,
        "tracking_number": tracking_number,
        "method": facts.order.shipping_method_name,
        "to_come": sum(line.open for line in facts.lines),
    }


def picking_slip_content(facts: Facts) -> Content:
    """This will put together a picking slip: the units to be picked by where they lie, and how they travel."""
    order = facts.order
    places = {line.pk: line.stock_record.location.name if line.stock_record else "" for line in facts.lines}
    picked = [{**_article(line, line.open), "location": places[line.pk]} for line in facts.lines if line.open]
    return {
        "lines": sorted(picked, key=lambda row: (row["location"], row["sku"])),
        "units": sum(row["units"] for row in picked),
        "method": order.shipping_method_name,
        "note": str(order.extra.get("annotation", "")) if isinstance(order.extra, Mapping) else "",
    }


def return_label_content(facts: Facts, units: Mapping[int, int], parcel: Return) -> Content:
    """This will put together a return's label sheet: the code, where the parcel goes, how, and what belongs in it."""
    sender = parcel.pickup_address or facts.order.shipping_address or facts.order.billing_address
    carrier = parcel.carrier
    return {
        "lines": _goods(facts, units),
        "code": parcel.code,
        "sender": sender.as_lines() if sender else [facts.order.customer_name],
        "carrier": carrier.name if carrier else "",
        "instructions": carrier.instructions if carrier else "",
        "pickup_date": parcel.pickup_date.isoformat() if parcel.pickup_date else "",
        "pickup_hours": parcel.pickup_hours if parcel.pickup_date else "",
    }


def _goods(facts: Facts, units: Mapping[int, int]) -> list[Content]:
    return [_article(line, units[line.pk]) for line in facts.lines if units.get(line.pk)]


def _article(line: OrderLine, units: int) -> Content:
    attributes = line.attributes if isinstance(line.attributes, Mapping) else {}
    return {
        "sku": line.sku,
        "name": line.name,
        "attributes": {str(name): str(value) for name, value in attributes.items()},
        "units": units,
        "ordered": line.quantity,
    }


def _priced(facts: Facts, pieces: Sequence[Piece], *, adjustment: Decimal, untaxed: Decimal = ZERO) -> Content:
    currency = facts.order.currency
    rates = _rates((piece.line, piece.total) for piece in pieces) or _rates((x, x.total) for x in facts.lines)
    taxes = taxes_of(pieces, adjustment, rates=rates, currency=currency)

    def total(name: str) -> str:
        return text(sum((getattr(piece, name) for piece in pieces), ZERO), currency)

    return {
        "lines": [
            {
                **_article(piece.line, piece.units),
                "unit_price": text(piece.line.unit_price, currency),
                "rate": f"{piece.line.tax_rate.normalize():f}",
                "amount": text(piece.items, currency),
            }
            for piece in pieces
        ],
        "items": total("items"),
        "discount": total("discount"),
        "shipping": total("shipping"),
        "adjustment": text(adjustment, currency),
        "untaxed": text(untaxed, currency),
        "includes_tax": facts.order.prices_include_tax,
        "tax_of_units": total("tax"),
        "taxes": taxes,
        "tax": text(sum((Decimal(row["tax"]) for row in taxes), ZERO), currency),
        "net": text(sum((Decimal(row["net"]) for row in taxes), ZERO), currency),
        "total": text(sum((piece.total for piece in pieces), ZERO) + adjustment + untaxed, currency),
    }
