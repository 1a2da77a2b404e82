"""From rows to steps: who bought what, what came back from which purchase, what was no sale at all. Pure.

The plan depends on the file alone (and on which orders have shipped), so a run that was stopped plans the same steps
again, and each step's key says whether it is done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.utils.translation import gettext as _

from checkout.replay.reading import BAD_DEBT, Reading, Rejected, Row
from shop.money import ZERO, next_units, rounded, split

# Codes of the data that are no goods.
POSTAGE = frozenset({"POST", "DOT", "C2", "C3"})
DISCOUNT = "D"
# What others take from the shop: never a sale, whoever is named beside it.
COSTS = frozenset({"AMAZONFEE", "CRUK", BAD_DEBT})
# The shop's cost where no customer is named; charged to the customer where one is.
COSTS_WITHOUT_CUSTOMER = frozenset({"BANK CHARGES", "S"})
SERVICES = POSTAGE | COSTS | COSTS_WITHOUT_CUSTOMER | {DISCOUNT, "M"}


def is_service(sku: str) -> bool:
    """Whether nothing lies on a shelf for it: postage, manual entries, vouchers …"""
    return sku in SERVICES or sku.startswith("GIFT_")


def _is_sold(sku: str) -> bool:
    """Whether a guest who pays for it gets a parcel: anything but the shop's own costs. Also "M", a price by hand."""
    return sku not in COSTS | COSTS_WITHOUT_CUSTOMER


@dataclass(frozen=True, slots=True)
class Units:
    """So many units of a product, from a row."""

    sku: str
    quantity: int
    price: Decimal
    line: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sale:
    """An invoice: place, pay and ship it; an open one is left unshipped."""

    invoice: str
    line: int
    customer: str
    country: str
    date: datetime | None
    items: tuple[Units, ...]
    postage: Decimal
    discount: Decimal
    is_open: bool
    totals: tuple[Decimal, ...]

    @property
    def total(self) -> Decimal:
        return sum(self.totals, ZERO)


@dataclass(frozen=True, slots=True)
class Return:
    """Units of one order that a credit invoice takes back, or cancels where the order has not shipped."""

    invoice: str
    line: int
    date: datetime | None
    sale: Sale
    units: Mapping[int, int]  # position of the order's line → units
    deduction: Decimal
    refund: Decimal


@dataclass(frozen=True, slots=True)
class Goodwill:
    """Money that a credit invoice gives back on one order, with no units: a discount, postage."""

    invoice: str
    line: int
    date: datetime | None
    sale: Sale
    amount: Decimal
    note: str


@dataclass(frozen=True, slots=True)
class StockChange:
    """Units of an ordinary invoice that are no sale: lost and thrown away, or found."""

    invoice: str
    line: int
    date: datetime | None
    units: tuple[Units, ...]
    found: bool


Step = Sale | Return | Goodwill | StockChange


@dataclass(frozen=True, slots=True)
class Unmatched:
    """What a credit invoice gives that no earlier purchase in the file explains. units is 0 for money alone."""

    line: int
    invoice: str
    customer: str
    sku: str
    units: int
    amount: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Expense:
    """A cost of the shop; negative: it came back."""

    line: int
    invoice: str
    sku: str
    amount: Decimal


@dataclass(slots=True)
class Article:
    """A product as the file knows it."""

    sku: str
    name: str
    price: Decimal
    to_receive: int = 0


@dataclass(slots=True)
class Plan:
    steps: list[Step] = field(default_factory=list)
    articles: dict[str, Article] = field(default_factory=dict)
    customers: dict[str, str] = field(default_factory=dict)  # number → country
    rejected: list[Rejected] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)
    expenses: list[Expense] = field(default_factory=list)
    rows: int = 0
    credit_rows: int = 0
    matched_rows: int = 0

    @property
    def sales(self) -> list[Sale]:
        return [step for step in self.steps if isinstance(step, Sale)]

    @property
    def started_at(self) -> datetime | None:
        return min((step.date for step in self.steps if step.date is not None), default=None)


def plan(reading: Reading, *, currency: str, open_last: int = 0, shipped: Mapping[str, bool] | None = None) -> Plan:
    """This will plan the replay of a file.

    open_last  so many of the last invoices stay unshipped
    shipped    what earlier runs placed: invoice → whether it has shipped; for these, open_last says nothing
    """
    return _Planner(reading, currency, open_last, shipped or {}).plan


@dataclass(slots=True)
class _Purchase:
    """One line of an order that has been bought, and how many of its units went back."""

    sale: Sale
    position: int
    gone: int = 0

    @property
    def left(self) -> int:
        return self.sale.items[self.position - 1].quantity - self.gone

    def take(self, count: int, currency: str) -> Decimal:
        """Take units back; returns what the customer paid for them, their share of postage and discount included."""
        item, total = self.sale.items[self.position - 1], self.sale.totals[self.position - 1]
        value = next_units(total, item.quantity, self.gone, count, currency)
        self.gone += count
        return value


@dataclass(slots=True)
class _Back:
    """What one credit invoice takes back from one order."""

    sale: Sale
    units: dict[int, int] = field(default_factory=dict)
    value: Decimal = ZERO
    give: Decimal = ZERO
    asked: list[tuple[Row, Decimal]] = field(default_factory=list)


class _Planner:
    def __init__(self, reading: Reading, currency: str, open_last: int, shipped: Mapping[str, bool]) -> None:
        self.currency = currency
        self.plan = Plan(rejected=list(reading.rejected), rows=len(reading.rows) + len(reading.rejected))
        self.bought: dict[tuple[str, str], list[_Purchase]] = defaultdict(list)
        self.orders: dict[str, list[Sale]] = defaultdict(list)
        self.refundable: dict[str, Decimal] = {}
        self.postage: dict[str, Decimal] = {}
        self.needs: Counter[str] = Counter()
        invoices = self._invoices(reading)
        sold = [invoice for invoice, rows in invoices.items() if not rows[0].is_credit and self._sells(rows)]
        # An order that an earlier run placed is left as it is, so it is open if it has not shipped.
        self.open = set(sold[len(sold) - open_last :] if open_last else ()) - {i for i, sent in shipped.items() if sent}
        self.open |= {invoice for invoice, sent in shipped.items() if not sent}
        for rows in invoices.values():
            if rows[0].is_credit:
                self._credit(rows)
            else:
                self._ordinary(rows)
        self._articles(reading.rows)
        self.plan.rejected.sort(key=lambda bad: bad.line)

    def _reject(self, row: Row, reason: str) -> None:
        self.plan.rejected.append(Rejected(row.line, row.invoice, reason))

    def _invoices(self, reading: Reading) -> dict[str, list[Row]]:
        """Rows by invoice, in the order of time where there are dates, else of the file; one customer each."""
        grouped: dict[str, list[Row]] = defaultdict(list)
        for row in reading.rows:
            grouped[row.invoice].append(row)
        invoices = {}
        for invoice, rows in grouped.items():
            customer = next((row.customer for row in rows if row.customer), "")
            for row in rows:
                if row.customer not in {customer, ""}:
                    words = _("The invoice is customer %(customer)s's, this row names %(other)s.")
                    self._reject(row, words % {"customer": customer, "other": row.customer})
            invoices[invoice] = [row for row in rows if row.customer in {customer, ""}]
        if not reading.has_dates:
            return invoices
        return dict(sorted(invoices.items(), key=lambda item: min(row.date for row in item[1] if row.date)))

    # --- ordinary invoices ------------------------------------------------------------------------------------------

    def _customer(self, rows: Iterable[Row]) -> str:
        return next((row.customer for row in rows if row.customer), "")

    def _sells(self, rows: list[Row]) -> bool:
        return any(self._kind(row, rows) in {"item", "postage"} for row in rows)

    def _kind(self, row: Row, rows: list[Row]) -> str:
        """What a row of an ordinary invoice is."""
        customer = self._customer(rows)
        if row.sku in COSTS or (row.sku in COSTS_WITHOUT_CUSTOMER and not customer):
            return "expense"
        if row.sku == DISCOUNT:
            return "discount" if row.quantity < 0 else "surcharge"
        if row.quantity < 0:
            return "charge_back" if is_service(row.sku) else "write_off"
        if row.sku in POSTAGE:
            return "postage"
        if row.price or customer or is_service(row.sku):
            return "item"
        # Free, and for nobody: goods that were found on the shelf, unless they lie in a guest's parcel.
        parcel = row.description and any(other.price and other.quantity > 0 and _is_sold(other.sku) for other in rows)
        return "item" if parcel else "found"

    def _ordinary(self, rows: list[Row]) -> None:
        by_kind: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_kind[self._kind(row, rows)].append(row)
        for row in by_kind["expense"]:
            self._expense(row)
        for row in by_kind["surcharge"]:
            self._reject(row, _("A discount with a positive quantity."))
        for row in by_kind["charge_back"]:
            self._reject(row, _("A negative charge on an ordinary invoice; it belongs on a credit invoice."))
        for kind in ("found", "write_off"):
            if by_kind[kind]:
                self._stock(by_kind[kind], found=kind == "found")
        items, postage = by_kind["item"], by_kind["postage"]
        if not items:  # postage alone is what the customer bought
            items, postage = postage, []
        self._sale(items, postage, by_kind["discount"], self._customer(rows))

    def _expense(self, row: Row) -> None:
        amount = -rounded(row.quantity * row.price, self.currency)
        # On an ordinary invoice a fee that was charged before comes in again; on a credit invoice it goes out.
        self.plan.expenses.append(Expense(row.line, row.invoice, row.sku, amount))

    def _units(self, rows: list[Row]) -> tuple[Units, ...]:
        return tuple(Units(row.sku, abs(row.quantity), row.price, row.line, row.description) for row in rows)

    def _stock(self, rows: list[Row], *, found: bool) -> None:
        units = self._units(rows)
        if not found:
            self.needs.update({sku: sum(u.quantity for u in units if u.sku == sku) for sku in {u.sku for u in units}})
        self.plan.steps.append(StockChange(rows[0].invoice, rows[0].line, rows[0].date, units, found))

    def _sale(self, rows: list[Row], postage: list[Row], discounts: list[Row], customer: str) -> None:
        goods = [rounded(row.price * row.quantity, self.currency) for row in rows]
        discount = ZERO
        for row in discounts:
            off = rounded(-row.quantity * row.price, self.currency)
            if discount + off > sum(goods):
                self._reject(row, _("The discount is more than the goods cost."))
            else:
                discount += off
        if not rows:
            return
        freight = sum((rounded(row.price * row.quantity, self.currency) for row in postage), ZERO)
        discounted = [a - b for a, b in zip(goods, split(discount, goods, self.currency), strict=True)]
        shares = split(freight, discounted, self.currency)
        totals = tuple(a + b for a, b in zip(discounted, shares, strict=True))
        first = rows[0]
        sale = Sale(
            invoice=first.invoice,
            line=first.line,
            customer=customer,
            country=first.country,
            date=first.date,
            items=self._units(rows),
            postage=freight,
            discount=discount,
            is_open=first.invoice in self.open,
            totals=totals,
        )
        self._bought(sale)
        self.plan.steps.append(sale)

    def _bought(self, sale: Sale) -> None:
        self.refundable[sale.invoice] = sale.total
        charged = sum((t for item, t in zip(sale.items, sale.totals, strict=True) if item.sku in POSTAGE), ZERO)
        self.postage[sale.invoice] = sale.postage + charged
        for position, item in enumerate(sale.items, start=1):
            if not is_service(item.sku):
                self.needs[item.sku] += item.quantity
            if sale.customer:
                self.bought[sale.customer, item.sku].append(_Purchase(sale, position))
        if sale.customer:
            self.orders[sale.customer].append(sale)
            self.plan.customers.setdefault(sale.customer, sale.country)

    # --- credit invoices --------------------------------------------------------------------------------------------

    def _credit(self, rows: list[Row]) -> None:
        """Units first, then money, as the replay will do it: what is refundable is used up in the same order."""
        customer = self._customer(rows)
        backs: dict[str, _Back] = {}
        money: list[Row] = []
        for row in rows:
            if row.sku in COSTS or (row.sku in COSTS_WITHOUT_CUSTOMER and not customer):
                self._expense(row)
                continue
            self.plan.credit_rows += 1
            if not customer:
                self._unmatched(row, -row.quantity, self._worth(row), _("No customer is named."))
            elif row.sku == DISCOUNT or row.sku in POSTAGE:
                money.append(row)
            else:
                self._match(row, customer, backs)
        for back in backs.values():
            self._return(rows[0], back)
        self._goodwill(rows[0], customer, money)

    def _worth(self, row: Row) -> Decimal:
        return rounded(-row.quantity * row.price, self.currency)

    def _unmatched(self, row: Row, units: int, amount: Decimal, reason: str) -> None:
        self.plan.unmatched.append(Unmatched(row.line, row.invoice, row.customer, row.sku, units, amount, reason))

    def _match(self, row: Row, customer: str, backs: dict[str, _Back]) -> None:
        """Take units from the customer's earlier purchases of the product, the newest first."""
        wanted, done = -row.quantity, 0
        for purchase in reversed(self.bought[customer, row.sku]):
            count = min(wanted - done, purchase.left)
            if count <= 0:
                continue
            asked = next_units(self._worth(row), wanted, done, count, self.currency)
            value = purchase.take(count, self.currency)
            back = backs.setdefault(purchase.sale.invoice, _Back(purchase.sale))
            back.units[purchase.position] = back.units.get(purchase.position, 0) + count
            back.value += value
            # What has not shipped is cancelled with all it cost; of what has, the shop credits the price of the goods.
            back.give += value if purchase.sale.is_open else min(asked, value)
            back.asked.append((row, asked))
            done += count
        if done:
            self.plan.matched_rows += 1
        if done < wanted:
            amount = next_units(self._worth(row), wanted, done, wanted - done, self.currency)
            reason = _("The customer bought fewer before.") if done else _("The customer never bought it before.")
            self._unmatched(row, wanted - done, amount, reason)

    def _return(self, first: Row, back: _Back) -> None:
        sale = back.sale
        refund = min(back.give, self.refundable[sale.invoice])
        self.refundable[sale.invoice] -= refund
        step = Return(first.invoice, first.line, first.date, sale, back.units, back.value - back.give, refund)
        self.plan.steps.append(step)
        asked = sum((amount for _row, amount in back.asked), ZERO)
        if asked > refund:
            row = back.asked[0][0]
            self._unmatched(row, 0, asked - refund, _("More is credited than was paid for these units."))

    def _goodwill(self, first: Row, customer: str, rows: list[Row]) -> None:
        """Discounts given afterwards, on the customer's newest orders; postage, on those that paid postage."""
        given: dict[str, Decimal] = defaultdict(lambda: ZERO)
        notes: dict[str, list[str]] = defaultdict(list)
        sales = {sale.invoice: sale for sale in reversed(self.orders[customer])}
        for row in rows:
            left = self._worth(row)
            for invoice in sales:
                room = self.refundable[invoice]
                room = min(room, self.postage[invoice]) if row.sku in POSTAGE else room
                if (amount := min(left, room)) <= 0:
                    continue
                left -= amount
                self.refundable[invoice] -= amount
                if row.sku in POSTAGE:
                    self.postage[invoice] -= amount
                given[invoice] += amount
                notes[invoice].append(row.description or row.sku)
            if left < self._worth(row):
                self.plan.matched_rows += 1
            if left or not self._worth(row):
                self._unmatched(row, 0, left, _("No earlier order of the customer has that much to give back."))
        for invoice, amount in given.items():
            note = ", ".join(dict.fromkeys(notes[invoice]))
            step = Goodwill(first.invoice, first.line, first.date, sales[invoice], amount, note)
            self.plan.steps.append(step)

    # --- the catalogue ----------------------------------------------------------------------------------------------

    def _articles(self, rows: Iterable[Row]) -> None:
        """Each product with its most frequent name and price, and the units that the warehouse must have had."""
        used = {item.sku for step in self.plan.steps for item in _items(step)}
        names: dict[str, Counter[str]] = defaultdict(Counter)
        prices: dict[str, Counter[Decimal]] = defaultdict(Counter)
        for row in rows:
            if row.sku in used:
                names[row.sku][row.description] += bool(row.description)
                prices[row.sku][row.price] += row.price > 0
        for sku in sorted(used):
            name = max(names[sku], key=lambda text: (names[sku][text], text))
            price = max(prices[sku], key=lambda amount: (prices[sku][amount], amount))
            self.plan.articles[sku] = Article(sku, name or sku, price, self.needs[sku])


def _items(step: Step) -> tuple[Units, ...]:
    if isinstance(step, Sale):
        return step.items
    return step.units if isinstance(step, StockChange) else ()
