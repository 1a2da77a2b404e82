"""The closing report: what the file says came of it, what the books say, and whether that is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Sum
from django.utils.translation import gettext as _

from checkout.replay.doing import Failure, Replay, prefix_of
from checkout.replay.planning import POSTAGE, Expense, Goodwill, Plan, Return, Sale, StockChange, Unmatched, is_service
from checkout.replay.reading import Rejected
from orders.models import Order, OrderLine
from payments.models import Payment, Transaction
from shop.models import Job, Store
from shop.money import ZERO, rounded, shown

LISTED = 20  # of each kind of oddity; --json has all


@dataclass(frozen=True, slots=True)
class Sums:
    """Orders, units and money, once by the file and once by the books."""

    orders: int
    lines: int
    units: int
    units_shipped: int
    units_cancelled: int
    units_returned: int
    money_in: Decimal
    money_out: Decimal

    @property
    def money(self) -> Decimal:
        return self.money_in - self.money_out


@dataclass(frozen=True, slots=True)
class Report:
    store: str
    currency: str
    rows: int
    by_file: Sums
    by_books: Sums
    done_now: int
    customers: int
    guest_orders: int
    free_orders: int
    open_orders: int
    free_units: int
    repeated_products: int
    products: int
    services: int
    units_written_off: int
    units_found: int
    postage: Decimal
    discounts: Decimal
    discounts_afterwards: Decimal
    kept_of_returns: Decimal
    credit_rows: int
    matched_rows: int
    unmatched_units: int
    unmatched_money: Decimal
    expenses: dict[str, Decimal]
    unmatched: list[Unmatched]
    expense_rows: list[Expense]
    rejected: list[Rejected]
    failures: list[Failure]
    jobs_open: int
    refunds_open: int

    @property
    def agrees(self) -> bool:
        """Whether the books hold what the file says."""
        return self.by_file == self.by_books and not self.failures

    def as_dict(self) -> dict[str, Any]:
        """Plain values for --json; amounts as text."""
        plain: dict[str, Any] = _plain(asdict(self))
        for name in ("by_file", "by_books"):
            plain[name]["money"] = str(getattr(self, name).money)
        return {**plain, "agrees": self.agrees}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def report_of(replay: Replay) -> Report:
    """This will count what came of a replay."""
    plan, store = replay.plan, replay.store
    sales = plan.sales
    items = [item for sale in sales for item in sale.items]
    stock = [step for step in plan.steps if isinstance(step, StockChange)]
    expenses: dict[str, Decimal] = {}
    for expense in plan.expenses:
        expenses[expense.sku] = expenses.get(expense.sku, ZERO) + expense.amount
    postage = [rounded(item.quantity * item.price, store.currency) for item in items if item.sku in POSTAGE]
    refunds = Transaction.objects.filter(payment__store=store, kind=Transaction.Kind.REFUND)
    steps = plan.steps
    return Report(
        store=store.code,
        currency=store.currency,
        rows=plan.rows,
        by_file=by_file(plan),
        by_books=by_books(plan, store),
        done_now=replay.done_now,
        customers=len(plan.customers),
        guest_orders=sum(not sale.customer for sale in sales),
        free_orders=sum(not sale.total for sale in sales),
        open_orders=sum(sale.is_open for sale in sales),
        free_units=sum(item.quantity for item in items if not item.price),
        repeated_products=sum(_repeated(sale) for sale in sales),
        products=sum(not is_service(sku) for sku in plan.articles),
        services=sum(map(is_service, plan.articles)),
        units_written_off=sum(u.quantity for step in stock if not step.found for u in step.units),
        units_found=sum(u.quantity for step in stock if step.found for u in step.units),
        postage=_total(sale.postage for sale in sales) + _total(postage),
        discounts=_total(sale.discount for sale in sales),
        discounts_afterwards=_total(step.amount for step in steps if isinstance(step, Goodwill)),
        kept_of_returns=_total(step.deduction for step in steps if isinstance(step, Return)),
        credit_rows=plan.credit_rows,
        matched_rows=plan.matched_rows,
        unmatched_units=sum(credit.units for credit in plan.unmatched),
        unmatched_money=_total(credit.amount for credit in plan.unmatched),
        expenses=expenses,
        unmatched=plan.unmatched,
        expense_rows=plan.expenses,
        rejected=plan.rejected,
        failures=replay.failures,
        jobs_open=Job.objects.filter(store=store).exclude(state=Job.State.DONE).count(),
        refunds_open=refunds.exclude(status__in=Transaction.FINAL).count(),
    )


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)


def _repeated(sale: Sale) -> int:
    return sum(n > 1 for n in Counter(item.sku for item in sale.items).values())


def by_file(plan: Plan) -> Sums:
    """This will count by the file's own numbers, without a look at the database."""
    sales, back = plan.sales, [step for step in plan.steps if isinstance(step, Return)]
    units = sum(item.quantity for sale in sales for item in sale.items)
    cancelled = sum(sum(step.units.values()) for step in back if step.sale.is_open)
    goodwill = _total(step.amount for step in plan.steps if isinstance(step, Goodwill))
    return Sums(
        orders=len(sales),
        lines=sum(len(sale.items) for sale in sales),
        units=units,
        units_shipped=sum(item.quantity for sale in sales if not sale.is_open for item in sale.items),
        units_cancelled=cancelled,
        units_returned=sum(sum(step.units.values()) for step in back) - cancelled,
        money_in=_total(sale.total for sale in sales),
        money_out=_total(step.refund for step in back) + goodwill,
    )


def by_books(plan: Plan, store: Store) -> Sums:
    """This will count the orders, lines and payments of the plan's invoices in the database."""
    prefix = prefix_of(store.code)
    keys = {f"{prefix}{sale.invoice}" for sale in plan.sales}
    rows = Order.objects.filter(idempotency_key__startswith=prefix).values_list("pk", "number", "idempotency_key")
    orders = {number: pk for pk, number, key in rows if key in keys}
    counts: Counter[str] = Counter()
    for chunk in _chunked(list(orders.values())):
        counts["lines"] += OrderLine.objects.filter(order__in=chunk).count()
        for name in ("quantity", "shipped", "cancelled", "returned"):
            counts[name] += OrderLine.objects.filter(order__in=chunk).aggregate(n=Sum(name))["n"]
    money_in = money_out = ZERO
    for chunk in _chunked(list(orders)):
        # Summed here: SQLite would add amounts as floats.
        for captured, refunded in Payment.objects.filter(reference__in=chunk).values_list("captured", "refunded"):
            money_in, money_out = money_in + captured, money_out + refunded
    return Sums(
        orders=len(orders),
        lines=counts["lines"],
        units=counts["quantity"],
        units_shipped=counts["shipped"],
        units_cancelled=counts["cancelled"],
        units_returned=counts["returned"],
        money_in=rounded(money_in, store.currency),
        money_out=rounded(money_out, store.currency),
    )


def _chunked(values: list[Any], size: int = 500) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


# ---------------------------------------------------------------------------------------------------------------------
# As a table


def table(report: Report) -> str:
    """This will write the report for people."""
    return "\n".join([*_figures(report), *_oddities(report)])


def _figures(r: Report) -> Iterator[str]:
    def money(amount: Decimal) -> str:
        return shown(amount, r.currency)

    f, b = r.by_file, r.by_books
    yield from _columns(
        [
            ("", _("by the file"), _("by the books")),
            (_("Orders"), f"{f.orders:,}", f"{b.orders:,}"),
            (_("Lines"), f"{f.lines:,}", f"{b.lines:,}"),
            (_("Units ordered"), f"{f.units:,}", f"{b.units:,}"),
            (_("Units shipped"), f"{f.units_shipped:,}", f"{b.units_shipped:,}"),
            (_("Units cancelled"), f"{f.units_cancelled:,}", f"{b.units_cancelled:,}"),
            (_("Units returned"), f"{f.units_returned:,}", f"{b.units_returned:,}"),
            (_("Money in"), money(f.money_in), money(b.money_in)),
            (_("Money out"), money(f.money_out), money(b.money_out)),
            (_("Money in − out"), money(f.money), money(b.money)),
        ]
    )
    yield ""
    yield from _columns(
        [
            (_("Rows in the file"), f"{r.rows:,}"),
            (_("Done in this run"), f"{r.done_now:,}"),
            (_("Products, services"), f"{r.products:,}, {r.services:,}"),
            (_("Customers"), f"{r.customers:,}"),
            (_("Orders of guests, free, left unshipped"), f"{r.guest_orders:,}, {r.free_orders:,}, {r.open_orders:,}"),
            (_("Units for nothing"), f"{r.free_units:,}"),
            (_("Products twice or more on an invoice"), f"{r.repeated_products:,}"),
            (_("Postage charged"), money(r.postage)),
            (_("Discounts at once, afterwards"), f"{money(r.discounts)}, {money(r.discounts_afterwards)}"),
            (_("Kept of returned goods"), money(r.kept_of_returns)),
            (_("Units written off, found"), f"{r.units_written_off:,}, {r.units_found:,}"),
            (_("Credit rows, of these matched"), f"{r.credit_rows:,}, {r.matched_rows:,}"),
            (_("Credits unmatched: units, money"), f"{r.unmatched_units:,}, {money(r.unmatched_money)}"),
            *((_("Expense: %(what)s") % {"what": sku}, money(amount)) for sku, amount in sorted(r.expenses.items())),
            (_("Rows rejected"), f"{len(r.rejected):,}"),
            (_("Jobs, refunds still open"), f"{r.jobs_open:,}, {r.refunds_open:,}"),
        ]
    )


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in range(1, len(row)))]).rstrip()


def _oddities(r: Report) -> Iterator[str]:
    credits = [
        f"{c.line}: {c.invoice} {c.sku} × {c.units} {shown(c.amount, r.currency)} – {c.reason}" for c in r.unmatched
    ]
    yield from _listed(_("Unmatched credits, by line of the file:"), credits)
    rejected = [f"{bad.line}: {bad.invoice} – {bad.reason}" for bad in r.rejected]
    yield from _listed(_("Rejected rows, by line of the file:"), rejected)
    refused = [f"{no.line}: {no.invoice} – {no.reason}" for no in r.failures]
    yield from _listed(_("Refused by the desk, by line of the file:"), refused)


def _listed(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield from ("", title, *(f"  {line}" for line in lines[:LISTED]))
    if len(lines) > LISTED:
        yield "  " + _("… and %(n)d more (--json lists all)") % {"n": len(lines) - LISTED}
