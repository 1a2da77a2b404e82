"""Where the bars of the charts stand; templates/admin/orders/figures*.html draw them as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from orders.rules.figures import Group, sums
from shop.errors import Words

WIDTH, HEIGHT, LEFT, TOP, BASE = 700, 190, 34, 14, 160
# So many labels fit beside one another.
LABELS = 8
# A chart of more rows is not read; all of them are in the file.
MOST_BARS = 15


@dataclass(frozen=True, slots=True)
class DayBar:
    """One day, in the chart's own units; the whole column leads to the day's cancellations."""

    day: date
    group: Group
    url: str
    left: float
    step: float
    x: float
    y: float
    width: float
    height: float
    label_x: float
    has_label: bool
    is_minor: bool

    @property
    def values(self) -> list[tuple[str, Decimal]]:
        return sums(self.group.values)


@dataclass(frozen=True, slots=True)
class DayChart:
    """Cancellations per day; width and height are the viewBox's."""

    bars: list[DayBar]
    lines: list[tuple[float, int]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP
    base: int = BASE

    @property
    def plot(self) -> int:
        return self.base - self.top


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a chart that is a table: `percent` of the longest bar."""

    label: Words
    url: str
    group: Group
    percent: float

    @property
    def values(self) -> list[tuple[str, Decimal]]:
        return sums(self.group.values)


@dataclass(frozen=True, slots=True)
class BarChart:
    """A titled table with a bar in each row; `more` groups are not shown."""

    key: str
    title: Words
    column: Words
    bars: list[Bar]
    more: int = 0


def day_chart(days: Mapping[date, Group], url: Callable[[date], str]) -> DayChart:
    """This will lay out one bar a day, with labels where they fit."""
    most = _round_up(max((group.cancellations for group in days.values()), default=0))
    step, plot = (WIDTH - LEFT) / len(days), BASE - TOP
    each = -(-len(days) // LABELS)
    bars = []
    for i, (day, group) in enumerate(days.items()):
        height, left, back = plot * group.cancellations / most, LEFT + i * step, len(days) - 1 - i
        bars.append(
            DayBar(
                day=day,
                group=group,
                url=url(day),
                left=round(left, 2),
                step=round(step, 2),
                x=round(left + step * 0.12, 2),
                y=round(BASE - height, 2),
                width=round(step * 0.76, 2),
                height=round(height, 2),
                # The last label ends with the chart, not beyond it.
                label_x=round(min(left + step / 2, WIDTH - 18), 2),
                has_label=back % each == 0 and left >= LEFT - 1,
                is_minor=back % (each * 2) != 0,
            )
        )
    return DayChart(bars, [(round(BASE - plot * part / 2, 1), most * part // 2) for part in range(3)])


def bar_chart(
    key: str,
    title: Words,
    column: Words,
    groups: Mapping[Any, Group],
    *,
    label: Callable[[Any], Words],
    url: Callable[[Any], str],
) -> BarChart:
    """This will lay out one bar for each of the first groups: MOST_BARS of them."""
    shown = list(groups.items())[:MOST_BARS]
    most = max((group.cancellations for _key, group in shown), default=1)
    bars = [Bar(label(k), url(k), group, round(100 * group.cancellations / most, 1)) for k, group in shown]
    return BarChart(key, title, column, bars, len(groups) - len(shown))


def _round_up(number: int) -> int:
    """The next even "round" number: the top of the chart's scale, so that its half is whole as well."""
    size = 1
    while True:
        for factor in (2, 4, 6, 10):
            if factor * size >= number:
                return factor * size
        size *= 10
