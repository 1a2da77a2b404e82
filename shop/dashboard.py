"""The figures of the dashboard: what needs a person now, today's orders, and the last two weeks as a chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, Max, Q, Sum, Value
from django.db.models.functions import TruncDate
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from inventory.models import StockAlert
from orders.models import AddressChange, CancellationRequest, Hold, Order, Status, in_stages, rules_of
from orders.processing.approvers import decidable
from payments.models import Difference, Reconciliation
from shop import jobs
from shop.actors import Actor
from shop.errors import Words
from shop.health import LATE_AFTER_SECONDS
from shop.sql import Thousandths, in_thousandths

CHART_DAYS = 14
# Tables of what customers ask for.
ASKED = frozenset({"orders.CancellationRequest", "orders.Return", "orders.AddressChange"})
# Ordered, but not worth anything (yet): not counted as the day's value.
WORTHLESS = (Status.PAYMENT_WAITING, Status.CANCELLED, Status.CANCELLATION_WAITING, Status.REFUNDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One answer to "what needs me now?". A tone of "act" stands out while the count is not zero."""

    key: str
    label: Words
    hint: Words
    count: int
    url: str
    tone: str = "act"


@dataclass(frozen=True, slots=True)
class Today:
    """Orders placed since midnight, and their value per currency. Amounts of two currencies are never added up."""

    orders: int
    revenue: list[tuple[str, Decimal]]


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of the chart, in the chart's own units."""

    day: date
    count: int
    x: float
    y: float
    width: float
    height: float
    is_today: bool
    has_label: bool
    is_minor: bool

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)

    @property
    def above(self) -> float:
        return round(self.y - 5, 1)


@dataclass(frozen=True, slots=True)
class Chart:
    """Orders per day as bars; width and height are the viewBox's."""

    bars: list[Bar]
    width: int
    height: int
    base: int
    lines: list[tuple[float, int]]
    total: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything the front page shows. Parts that the person may not see are None or missing."""

    cards: list[Card]
    today: Today | None
    chart: Chart | None
    backlog: jobs.Backlog
    is_late: bool

    @property
    def nothing_to_do(self) -> bool:
        return not any(card.count for card in self.cards if card.tone == "act")


def figures(*, actor: Actor, inbox: int, overdue: int, as_of: datetime, urls: Mapping[str, str]) -> Figures:
    """This will read the dashboard's figures, of the actor's stores, in a constant number of queries.

    inbox, overdue  jobs that need a person, and how many of them should have been dealt with by now
    urls  table → address of its list, for the tables that the actor may see; a figure without a list is left out
    """
    cards: list[Card] = []
    today = graph = None
    if orders_url := urls.get("orders.Order"):
        cards += _order_cards(actor, orders_url)
        today, graph = _today(actor, as_of), chart(counts=_per_day(actor, as_of), until=timezone.localdate(as_of))
    waiting = _waiting(actor) if ASKED & urls.keys() else {}
    if url := urls.get("orders.CancellationRequest"):
        cards.append(_requests(waiting["requests"], url))
    if url := urls.get("orders.Return"):
        cards.append(_returns(waiting["returns"], url))
    if url := urls.get("orders.AddressChange"):
        cards.append(_addresses(waiting["addresses"], url))
    if url := urls.get("orders.Approval"):
        cards.append(_approvals(actor, url, as_of))
    if url := urls.get("shop.Job"):
        cards.append(_inbox(inbox, overdue, url))
    if url := urls.get("payments.Difference"):
        cards.append(_differences(actor, url))
    if url := urls.get("inventory.StockAlert"):
        cards.append(_low_stock(actor, url))
    backlog = jobs.backlog(as_of=as_of)
    return Figures(cards, today, graph, backlog, backlog.oldest_due_seconds > LATE_AFTER_SECONDS)


def _order_cards(actor: Actor, url: str) -> Iterator[Card]:
    mine = Order.objects.of(actor).placed()
    counts = Counter[str]()
    for status, count in mine.order_by().values_list("status").annotate(Count("pk")):
        counts[rules_of(status)] += count
    held = mine.filter(pk__in=Hold.objects.filter(released_at=None).values("order")).count()
    for status, label, hint, tone in (
        (Status.CONFIRMATION_WAITING, _("To review"), _("Approve them, or cancel them"), "act"),
        (Status.APPROVED, _("To prepare"), _("Approved; pick and pack them"), "act"),
        (Status.PREPARING, _("To ship"), _("Packed; hand them to the carrier"), "act"),
        (Status.READY_FOR_PICKUP, _("To hand over"), _("Ready; the customer collects them"), "calm"),
        (Status.CANCELLATION_WAITING, _("Cancellations"), _("Waiting to be confirmed"), "act"),
        (Status.PAYMENT_WAITING, _("Payment awaited"), _("The customer has not paid yet"), "calm"),
    ):
        yield Card(
            key=status,
            label=label,
            hint=hint,
            count=counts[status],
            url=f"{url}?{_in_stage(status)}",
            tone=tone,
        )
    yield Card(
        key="on_hold",
        label=_("On hold"),
        hint=_("Stopped until somebody releases them"),
        count=held,
        url=f"{url}?on_hold=yes",
        tone="act",
    )


def _in_stage(status: Status) -> str:
    """The list's filter for a status and for those of the shop's own in which its rules hold."""
    found = in_stages(status)
    return f"status__in={','.join(found)}" if len(found) > 1 else f"status__exact={status}"


def _inbox(count: int, overdue: int, url: str) -> Card:
    late = ngettext("%(count)d of them is overdue", "%(count)d of them are overdue", overdue) % {"count": overdue}
    hint = late if overdue else _("Work that went wrong and needs a decision")
    return Card(key="inbox", label=_("Inbox"), hint=hint, count=count, url=url)


def _waiting(actor: Actor) -> dict[str, int]:
    """How much of what customers asked for waits for somebody: key of a card → count. One query for all of them."""
    status = CancellationRequest.Status
    asked = CancellationRequest.objects
    parts = []
    for key, rows, what in (
        ("requests", asked.filter(status=status.OPEN), "pk"),
        ("returns", asked.filter(status=status.CONFIRMATION_WAITING), "goods_return"),
        ("addresses", AddressChange.objects.filter(status=AddressChange.Status.WAITING), "pk"),
    ):
        mine = rows if actor.stores is None else rows.filter(order__store__in=actor.stores)
        counted = mine.order_by().annotate(key=Value(key)).values("key").annotate(n=Count(what, distinct=True))
        parts.append(counted.values_list("key", "n"))
    return dict(parts[0].union(*parts[1:], all=True))


def _requests(count: int, url: str) -> Card:
    return Card(
        key="requests",
        label=_("Customers' requests"),
        hint=_("Cancellations and returns to decide"),
        count=count,
        url=f"{url}?status__exact={CancellationRequest.Status.OPEN}",
    )


def _returns(count: int, url: str) -> Card:
    return Card(
        key="returns",
        label=_("Returns to inspect"),
        hint=_("They have arrived; nobody has looked into them"),
        count=count,
        url=f"{url}?state=arrived",
    )


def _addresses(count: int, url: str) -> Card:
    return Card(
        key="addresses",
        label=_("New addresses"),
        hint=_("Customers want it sent elsewhere"),
        count=count,
        url=f"{url}?status__exact={AddressChange.Status.WAITING}",
    )


def _approvals(actor: Actor, url: str, as_of: datetime) -> Card:
    return Card(
        key="approvals",
        label=_("Approvals for me"),
        hint=_("Colleagues wait for your agreement"),
        count=decidable(actor, as_of=as_of).count(),
        url=f"{url}?whose=mine",
    )


def _low_stock(actor: Actor, url: str) -> Card:
    rows = StockAlert.objects.filter(status=StockAlert.Status.OPEN)
    if actor.stores is not None:
        rows = rows.filter(stock_record__location__store__in=actor.stores)
    return Card(
        key="low_stock",
        label=_("Low stock"),
        hint=_("Fewer left than the threshold says"),
        count=rows.count(),
        url=f"{url}?status__exact={StockAlert.Status.OPEN}",
    )


def _differences(actor: Actor, url: str) -> Card:
    """Whether the books agree with the gateways', and since when that is known of all of them."""
    rows = Difference.objects.filter(state=Difference.State.OPEN)
    if actor.stores is not None:
        rows = rows.filter(store__in=actor.stores)
    runs = Reconciliation.objects.filter(state=Reconciliation.State.DONE, gateway__in=settings.PAYMENT_GATEWAYS)
    latest = runs.order_by().values("gateway").annotate(latest=Max("until"))
    compared = min((run["latest"] for run in latest), default=None)
    hint = _("Not compared with the gateways yet")
    if compared is not None:
        day = date_format(timezone.localtime(compared), "DATETIME_FORMAT")
        hint = _("Compared with the gateways: %(when)s") % {"when": day}
    return Card(
        key="differences",
        label=_("Books differ"),
        hint=hint,
        count=rows.count(),
        url=f"{url}?state__exact={Difference.State.OPEN}",
    )


def _today(actor: Actor, as_of: datetime) -> Today:
    midnight = timezone.localtime(as_of).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = Order.objects.of(actor).placed().filter(placed_at__gte=midnight).order_by()
    value = Sum(Thousandths("total"), filter=~Q(status__in=in_stages(*WORTHLESS)))
    sums = rows.values_list("currency").annotate(orders=Count("pk"), value=value).order_by("currency")
    found = list(sums)
    worth = [(currency, in_thousandths(value)) for currency, _orders, value in found if value is not None]
    return Today(sum(orders for _currency, orders, _value in found), worth)


def _per_day(actor: Actor, as_of: datetime) -> Mapping[date, int]:
    first = timezone.localtime(as_of).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
        days=CHART_DAYS - 1
    )
    rows = Order.objects.of(actor).placed().filter(placed_at__gte=first).order_by()
    return Counter(dict(rows.annotate(day=TruncDate("placed_at")).values_list("day").annotate(Count("pk"))))


def chart(*, counts: Mapping[date, int], until: date) -> Chart:
    """This will lay out a bar chart of the CHART_DAYS up to and including a day.

    counts  day → number of orders; days that are missing had none
    """
    width, height, left, top, base = 700, 190, 34, 18, 164
    days = [until - timedelta(days=back) for back in reversed(range(CHART_DAYS))]
    values = [counts.get(day, 0) for day in days]
    most = _round_up(max(values))
    step, plot = (width - left) / CHART_DAYS, base - top
    bars = [
        Bar(
            day=day,
            count=value,
            x=round(left + i * step + step * 0.14, 1),
            y=round(base - plot * value / most, 1),
            width=round(step * 0.72, 1),
            height=round(plot * value / most, 1),
            is_today=day == until,
            has_label=i % 2 == (CHART_DAYS - 1) % 2,
            is_minor=i % 4 != (CHART_DAYS - 1) % 4,
        )
        for i, (day, value) in enumerate(zip(days, values, strict=True))
    ]
    lines = [(round(base - plot * part / 2, 1), most * part // 2) for part in range(3)]
    return Chart(bars, width, height, base, lines, sum(values))


def _round_up(number: int) -> int:
    """The next even "round" number: the top of the chart's scale, so that its half is whole as well."""
    size = 1
    while True:
        for factor in (2, 4, 6, 10):
            if factor * size >= number:
                return factor * size
        size *= 10
