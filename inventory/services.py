"""What can be done with stock: choose, allocate, consume, release, take back, receive, adjust, write off, verify.

The only writer of a stock record's numbers. Every operation locks its records in pk order, skips the moves whose key
was moved before, checks the rest, and writes levels and movements together: one guarded UPDATE, one INSERT, however
many rows. Orders are known here by their reference only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce
from django.db.models.lookups import GreaterThanOrEqual, LessThanOrEqual
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from inventory.models import Bucket, Product, StockAlert, StockMovement, StockRecord
from shop.errors import Refused, Words
from shop.sql import NumberByPk

Kind = StockMovement.Kind
COLUMNS = ("on_hand", "allocated", "quarantine", "damaged")
COLUMN_OF = {Bucket.SELLABLE: "on_hand", Bucket.QUARANTINE: "quarantine", Bucket.DAMAGED: "damaged"}
MOST_UNITS = 2_147_483_647  # what the database's integers hold
NAMED_AT_MOST = 3


# ---------------------------------------------------------------------------------------------------------------------
# Words for what is asked and what is refused


@dataclass(frozen=True, slots=True)
class Move:
    """So many units at a stock record, and the permanent cause ("allocate:line:12") that moves them once."""

    stock_record_id: int
    quantity: int
    key: str
    note: str = ""
    reference: str = ""  # empty: that of the call

    def __post_init__(self) -> None:
        if self.quantity <= 0:
            raise ValueError(f"{self.key}: {self.quantity} units cannot be moved; name the direction by the operation")
        if not 0 < len(self.key) <= 200:
            raise ValueError(f"a move's key has 1 to 200 characters, not {len(self.key)}")


class Shortage(NamedTuple):
    """A product that cannot be had: at the record asked for, or None where no location of the store keeps it."""

    stock_record_id: int | None
    product_name: str
    wanted: int
    available: int

    def __str__(self) -> str:
        if self.available <= 0:
            return _("“%(product)s” is out of stock.") % {"product": self.product_name}
        return _("Only %(available)d of “%(product)s” can be had, but %(wanted)d were asked for.") % {
            "product": self.product_name,
            "available": self.available,
            "wanted": self.wanted,
        }


class OutOfStock(Refused):
    """More units were asked for than are available. `shortages` holds every product concerned."""

    code = "out_of_stock"
    message = gettext_lazy("This is out of stock.")

    def __init__(self, shortages: Sequence[Shortage]) -> None:
        self.shortages = list(shortages)
        words = [str(shortage) for shortage in self.shortages[:NAMED_AT_MOST]]
        if more := len(self.shortages) - len(words):
            words.append(ngettext("%d more product is short.", "%d more products are short.", more) % more)
        most = max(0, self.shortages[0].available) if len(self.shortages) == 1 else None
        super().__init__(" ".join(words), max_quantity=most)


class InvalidStockAdjustment(Refused):
    """The books do not hold the units that were to be moved. Oscar's name."""

    code = "invalid_stock_adjustment"
    message = gettext_lazy("The stock does not hold these units.")


class StockKeyReused(InvalidStockAdjustment):
    """The cause has already moved something else: its repetition would not be one."""

    code = "stock_key_reused"
    message = gettext_lazy("This was already booked, but with another quantity or elsewhere. Open the page again.")


# ---------------------------------------------------------------------------------------------------------------------
# Choosing where units come from


def choose_stock(*, quantities: Mapping[int, int], store_id: int, lock: bool = False) -> dict[int, StockRecord]:
    """This will find, for each product (id → units), the record at one location that can serve all its units.

    Only active locations of the store count: the lowest priority first, then where most is available. Products that
    do not track stock are absent from the result. With `lock` (inside the transaction that allocates) all candidates
    are locked in pk order, so that the choice still holds when it is allocated; without, a rival may come first, and
    `allocate` refuses.

    Raises OutOfStock naming every product without such a record and the most that one location has of it.
    """
    if any(quantity <= 0 for quantity in quantities.values()):
        raise ValueError("quantities are positive numbers of units")
    products = Product.objects.in_bulk(list(quantities))
    if missing := quantities.keys() - products.keys():
        raise ValueError(f"no such products: {sorted(missing)}")
    tracked = [pk for pk, product in products.items() if product.track_stock]
    candidates = _candidates(tracked, store_id, lock=lock)
    chosen: dict[int, StockRecord] = {}
    shortages = []
    for product_id in (pk for pk in quantities if products[pk].track_stock):
        wanted, records = quantities[product_id], candidates.get(product_id, [])
        able = next((record for record in records if record.available >= wanted), None)
        if able:
            chosen[product_id] = able
        else:
            best = max(records, key=lambda record: record.available, default=None)
            most = best.available if best else 0
            shortages.append(Shortage(best.pk if best else None, products[product_id].name, wanted, most))
    if shortages:
        raise OutOfStock(shortages)
    return chosen


def _candidates(product_ids: Sequence[int], store_id: int, *, lock: bool) -> dict[int, list[StockRecord]]:
    """Records of the store's active locations by product, the preferred first."""
    if not product_ids:
        return {}
    rows = (
        StockRecord.objects.filter(product__in=product_ids, location__store=store_id, location__is_active=True)
        .select_related("product", "location")
        .order_by("pk")
    )
    if lock:
        rows = rows.select_for_update(of=("self",), no_key=True)
    by_product: dict[int, list[StockRecord]] = {}
    for record in sorted(rows, key=lambda record: (record.location.priority, -record.available, record.pk)):
        by_product.setdefault(record.product_id, []).append(record)
    return by_product


# ---------------------------------------------------------------------------------------------------------------------
# What orders do: promise units, send them, give the promise back, take units back


def allocate(
    *, moves: Iterable[Move], reference: str = "", actor_name: str = "", as_of: datetime | None = None
) -> list[StockMovement]:
    """This will promise available units to an order: allocated + n.

    Returns the movements written; a move whose key was moved before is skipped and absent. Locks the records.
    Raises OutOfStock, and then nothing is allocated, if any record has fewer units available.
    """
    return _post(_movements(Kind.ALLOCATED, moves, allocated=1), reference, actor_name, as_of)


def consume(
    *, moves: Iterable[Move], reference: str = "", actor_name: str = "", as_of: datetime | None = None
) -> list[StockMovement]:
    """This will take allocated units off the shelf, because they are shipped: on_hand − n, allocated − n.

    Returns as `allocate`. Raises InvalidStockAdjustment if more is consumed than is allocated.
    """
    return _post(_movements(Kind.SHIPPED, moves, on_hand=-1, allocated=-1), reference, actor_name, as_of)


def release(
    *, moves: Iterable[Move], reference: str = "", actor_name: str = "", as_of: datetime | None = None
) -> list[StockMovement]:
    """This will give the promise of allocated units back, because they are cancelled: allocated − n.

    Returns as `allocate`. Raises InvalidStockAdjustment if more is released than is allocated.
    """
    return _post(_movements(Kind.RELEASED, moves, allocated=-1), reference, actor_name, as_of)


KIND_OF_RETURN = {Bucket.SELLABLE: Kind.RETURNED, Bucket.QUARANTINE: Kind.QUARANTINED, Bucket.DAMAGED: Kind.DAMAGED}


def take_back(
    *,
    moves_by_disposition: Mapping[str, Iterable[Move]],
    reference: str = "",
    actor_name: str = "",
    as_of: datetime | None = None,
) -> list[StockMovement]:
    """This will put shipped units that came back to "sellable", "quarantine" or "damaged" (disposition → moves).

    Returns as `allocate`. How many may come back is the order's to know; nothing here bounds it.
    """
    movements: list[StockMovement] = []
    for disposition, moves in moves_by_disposition.items():
        bucket = Bucket(disposition)
        movements += _movements(KIND_OF_RETURN[bucket], moves, **{COLUMN_OF[bucket]: 1})
    return _post(movements, reference, actor_name, as_of)


# ---------------------------------------------------------------------------------------------------------------------
# What the warehouse does: receive, count, sort, throw away


def ensure_records(*, product_ids: Iterable[int], location_id: int) -> dict[int, StockRecord]:
    """This will find the stock record of each product at a location, creating empty ones where there is none."""
    wanted = set(product_ids)
    with transaction.atomic():
        found = StockRecord.objects.filter(location=location_id, product__in=wanted)
        records = {record.product_id: record for record in found}
        if missing := sorted(wanted - records.keys()):
            rows = [StockRecord(product_id=pk, location_id=location_id) for pk in missing]
            StockRecord.objects.bulk_create(rows, ignore_conflicts=True)
            # Read again: of a row that somebody else created meanwhile, bulk_create tells nothing.
            records = {record.product_id: record for record in found.all()}
    return records


def receive_many(
    *, moves: Iterable[Move], reference: str = "", actor_name: str = "", as_of: datetime | None = None
) -> list[StockMovement]:
    """This will book units that arrived as sellable: on_hand + n. `reference` names the delivery note.

    Returns as `allocate`.
    """
    return _post(_movements(Kind.RECEIVED, moves, on_hand=1), reference, actor_name, as_of)


def receive(
    *,
    stock_record_id: int,
    quantity: int,
    key: str,
    note: str = "",
    reference: str = "",
    actor_name: str = "",
    as_of: datetime | None = None,
) -> list[StockMovement]:
    """This will book units that arrived at one record. As `receive_many`."""
    moves = [Move(stock_record_id, quantity, key, note)]
    return receive_many(moves=moves, reference=reference, actor_name=actor_name, as_of=as_of)


def adjust(
    *,
    stock_record_id: int,
    counted: int,
    key: str,
    note: str,
    actor_name: str,
    bucket: str = Bucket.SELLABLE,
    reference: str = "",
    as_of: datetime | None = None,
) -> StockMovement | None:
    """This will set the units of one bucket to what was counted; the difference is taken under the lock.

    Sellable counts everything on the shelf, allocated units included. Returns the movement (the earlier one, if the
    key was used before), or None where the count agrees with the books. Raises InvalidStockAdjustment without a note
    or if fewer were counted than are promised to orders.
    """
    if not note.strip():
        raise InvalidStockAdjustment(_("Say why the count differs from the books."), field="note")
    if counted < 0:
        raise InvalidStockAdjustment(_("A count cannot be negative."), field="counted")
    column = COLUMN_OF[Bucket(bucket)]
    with transaction.atomic():
        record = _locked({stock_record_id})[stock_record_id]
        if earlier := StockMovement.objects.filter(key=key).first():
            if (earlier.stock_record_id, earlier.kind) != (record.pk, Kind.ADJUSTED):
                raise StockKeyReused
            return earlier
        difference = counted - getattr(record, column)
        if not difference:
            return None
        movement = _movement(Kind.ADJUSTED, record.pk, key, note, {column: difference})
        return _post([movement], reference, actor_name, as_of)[0]


def write_off(
    *,
    moves: Iterable[Move],
    bucket: str = Bucket.SELLABLE,
    reference: str = "",
    actor_name: str = "",
    as_of: datetime | None = None,
) -> list[StockMovement]:
    """This will take units that are lost or thrown away out of a bucket.

    Returns as `allocate`. Raises InvalidStockAdjustment if fewer are there: allocated units cannot be written off.
    """
    deltas = {COLUMN_OF[Bucket(bucket)]: -1}
    return _post(_movements(Kind.WRITTEN_OFF, moves, **deltas), reference, actor_name, as_of)


KIND_OF_MOVE = {Bucket.SELLABLE: Kind.MOVED, Bucket.QUARANTINE: Kind.QUARANTINED, Bucket.DAMAGED: Kind.DAMAGED}


def reclassify(
    *,
    moves: Iterable[Move],
    source: str,
    target: str,
    reference: str = "",
    actor_name: str = "",
    as_of: datetime | None = None,
) -> list[StockMovement]:
    """This will move units between sellable, quarantine and damaged.

    Returns as `allocate`. Raises InvalidStockAdjustment if the source holds fewer, or is the target.
    """
    if source == target:
        raise InvalidStockAdjustment(_("The units are there already; choose another state."), field="target")
    deltas = {COLUMN_OF[Bucket(source)]: -1, COLUMN_OF[Bucket(target)]: 1}
    return _post(_movements(KIND_OF_MOVE[Bucket(target)], moves, **deltas), reference, actor_name, as_of)


def set_threshold(*, stock_record_id: int, threshold: int | None, as_of: datetime | None = None) -> StockRecord:
    """This will set from when on a record counts as low (None: never), and open or close its alert accordingly."""
    with transaction.atomic():
        record = _locked({stock_record_id})[stock_record_id]
        was_low = {record.pk} if record.is_low else set()
        record.low_stock_threshold = threshold
        record.save(update_fields=["low_stock_threshold"])
        _update_alerts([record], was_low=was_low, as_of=as_of or timezone.now())
    return record


# ---------------------------------------------------------------------------------------------------------------------
# The book check


def verify() -> Iterator[str]:
    """This will name, in a sentence each, the stock records whose movements do not add up or whose numbers are wrong.

    One query, whatever the number of records; it takes no lock and sees one moment.
    """
    sums = {f"{column}_sum": Coalesce(Sum(f"movements__{column}_delta"), 0) for column in COLUMNS}
    wrong = Q(allocated__gt=F("on_hand"))
    for column in COLUMNS:
        wrong |= ~Q(**{column: F(f"{column}_sum")}) | Q(**{f"{column}__lt": 0})
    rows = (
        StockRecord.objects.annotate(**sums)
        .filter(wrong)
        .order_by("pk")
        .values("pk", "product__sku", "location__code", *COLUMNS, *sums)
    )
    for row in rows.iterator():
        yield _("Stock record %(pk)d (%(sku)s at %(location)s): %(faults)s.") % {
            "pk": row["pk"],
            "sku": row["product__sku"],
            "location": row["location__code"],
            "faults": "; ".join(_faults(row)),
        }


def _faults(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one record's numbers."""
    for column in COLUMNS:
        level, total = row[column], row[f"{column}_sum"]
        if level != total:
            yield _("%(column)s is %(level)d, but its movements add up to %(total)d") % {
                "column": column,
                "level": level,
                "total": total,
            }
        if level < 0:
            yield _("%(column)s is negative (%(level)d)") % {"column": column, "level": level}
    if row["allocated"] > row["on_hand"]:
        yield _("%(allocated)d are allocated, but only %(on_hand)d on hand") % row


# ---------------------------------------------------------------------------------------------------------------------
# The one way that numbers change


def _movement(
    kind: str, record_id: int, key: str, note: str, deltas: Mapping[str, int], reference: str = ""
) -> StockMovement:
    columns = {f"{column}_delta": delta for column, delta in deltas.items()}
    return StockMovement(kind=kind, stock_record_id=record_id, key=key, note=note, reference=reference, **columns)


def _movements(kind: str, moves: Iterable[Move], **signs: int) -> list[StockMovement]:
    """Unsaved movements of one kind; `signs` says which columns go up (1) and down (−1)."""
    return [
        _movement(
            kind,
            move.stock_record_id,
            move.key,
            move.note,
            {c: sign * move.quantity for c, sign in signs.items()},
            move.reference,
        )
        for move in moves
    ]


def deltas_of(movement: StockMovement) -> tuple[int, ...]:
    """What a movement changes, in the order of COLUMNS."""
    return tuple(getattr(movement, f"{column}_delta") for column in COLUMNS)


def _post(
    movements: Sequence[StockMovement], reference: str, actor_name: str, as_of: datetime | None
) -> list[StockMovement]:
    """Write movements and levels together, all or nothing; those whose key exists are left out. Returns the written.

    4 queries, and 1 or 2 more where alerts open or close.
    """
    keys = {movement.key for movement in movements}
    if len(keys) < len(movements):
        raise ValueError("the same key twice in one call")
    if not movements:
        return []
    as_of = as_of or timezone.now()
    with transaction.atomic():
        records = _locked({movement.stock_record_id for movement in movements})
        fresh = _not_done(movements, keys)
        if not fresh:
            return []
        totals = _totals(fresh)
        touched = [records[pk] for pk in sorted(totals)]
        was_low = {record.pk for record in touched if record.is_low}
        if short := [record for record in touched if not _fits(record, totals[record.pk])]:
            raise _refusal(short, totals)
        _change_levels(totals)
        for record in touched:
            for column, delta in totals[record.pk].items():
                setattr(record, column, getattr(record, column) + delta)
        for movement in fresh:
            movement.reference = movement.reference or reference
            movement.actor_name, movement.created_at = actor_name, as_of
        StockMovement.objects.bulk_create(fresh)
        _update_alerts(touched, was_low=was_low, as_of=as_of)
    return fresh


def _locked(record_ids: set[int]) -> dict[int, StockRecord]:
    """Lock the records, in pk order: whoever else wants some of them queues up instead of deadlocking."""
    rows = StockRecord.objects.select_for_update(no_key=True).filter(pk__in=record_ids).order_by("pk")
    records = {record.pk: record for record in rows}
    if missing := record_ids - records.keys():
        raise StockRecord.DoesNotExist(f"no such stock records: {sorted(missing)}")
    return records


def _not_done(movements: Sequence[StockMovement], keys: set[str]) -> list[StockMovement]:
    """The movements whose key is new. Asked after the lock: a rival with the same key has committed or not begun."""
    done = {earlier.key: earlier for earlier in StockMovement.objects.filter(key__in=keys)}
    for movement in movements:
        earlier = done.get(movement.key)
        if earlier and (earlier.stock_record_id, earlier.kind, deltas_of(earlier)) != (
            movement.stock_record_id,
            movement.kind,
            deltas_of(movement),
        ):
            raise StockKeyReused
    return [movement for movement in movements if movement.key not in done]


def _totals(movements: Iterable[StockMovement]) -> dict[int, dict[str, int]]:
    """What all movements together change: record id → column → units."""
    totals: dict[int, dict[str, int]] = {}
    for movement in movements:
        total = totals.setdefault(movement.stock_record_id, dict.fromkeys(COLUMNS, 0))
        for column, delta in zip(COLUMNS, deltas_of(movement), strict=True):
            total[column] += delta
    return totals


def _after(record: StockRecord, total: Mapping[str, int]) -> dict[str, int]:
    return {column: getattr(record, column) + total[column] for column in COLUMNS}


def _fits(record: StockRecord, total: Mapping[str, int]) -> bool:
    after = _after(record, total)
    return all(0 <= level <= MOST_UNITS for level in after.values()) and after["allocated"] <= after["on_hand"]


def _change_levels(totals: Mapping[int, Mapping[str, int]]) -> None:
    """One UPDATE for all records, guarded in the same statement: where no lock held, it would still not oversell."""
    after = {column: F(column) + NumberByPk({pk: t[column] for pk, t in totals.items()}) for column in COLUMNS}
    changed = [column for column in COLUMNS if any(total[column] for total in totals.values())]
    guards = [GreaterThanOrEqual(after[column], 0) for column in changed]
    rows = StockRecord.objects.filter(*guards, LessThanOrEqual(after["allocated"], after["on_hand"]), pk__in=totals)
    if rows.update(**{column: after[column] for column in changed}) < len(totals):
        raise InvalidStockAdjustment(_("The stock has changed meanwhile. Try again."))


def _refusal(short: Sequence[StockRecord], totals: Mapping[int, Mapping[str, int]]) -> Refused:
    """Why the books cannot follow, in the words of the person who asked."""
    named = StockRecord.objects.select_related("product", "location").in_bulk([record.pk for record in short])
    if all(totals[record.pk]["allocated"] > 0 for record in short):
        return OutOfStock(
            [Shortage(r.pk, named[r.pk].product.name, totals[r.pk]["allocated"], r.available) for r in short]
        )
    record = short[0]
    words, most, wanted = _what_is_short(record, totals[record.pk])
    product, location = named[record.pk].product.name, named[record.pk].location.name
    params = {"most": most, "wanted": wanted, "product": product, "location": location}
    return InvalidStockAdjustment(words, params=params, max_quantity=most)


def _what_is_short(record: StockRecord, total: Mapping[str, int]) -> tuple[Words, int, int]:
    """The bound that a change breaks: words about it, the most that is possible, and what was wanted."""
    after = _after(record, total)
    if after["allocated"] < 0:
        words = _("Only %(most)d of “%(product)s” at %(location)s are allocated, not %(wanted)d.")
        return words, record.allocated, -total["allocated"]
    if after["on_hand"] < after["allocated"]:
        words = _("Only %(most)d of “%(product)s” at %(location)s are not promised to orders, not %(wanted)d.")
        return words, record.available, -total["on_hand"]
    if after["quarantine"] < 0:
        words = _("Only %(most)d of “%(product)s” at %(location)s are in quarantine, not %(wanted)d.")
        return words, record.quarantine, -total["quarantine"]
    if after["damaged"] < 0:
        words = _("Only %(most)d of “%(product)s” at %(location)s are damaged, not %(wanted)d.")
        return words, record.damaged, -total["damaged"]
    words = _("%(wanted)d of “%(product)s” at %(location)s are more than the books can hold (%(most)d).")
    return words, MOST_UNITS, max(after.values())


def _update_alerts(records: Sequence[StockRecord], *, was_low: set[int], as_of: datetime) -> None:
    """Open an alert for each record that is low, unless one is open; close those of records that no longer are."""
    low = [record for record in records if record.low_stock_threshold is not None and record.is_low]
    recovered = [record.pk for record in records if record.pk in was_low and not record.is_low]
    if low:
        alerts = [
            StockAlert(
                stock_record=record,
                threshold=record.low_stock_threshold or 0,
                available=record.available,
                opened_at=as_of,
            )
            for record in low
        ]
        # The unique constraint leaves the alerts alone that are open already.
        StockAlert.objects.bulk_create(alerts, ignore_conflicts=True)
    if recovered:
        open_alerts = StockAlert.objects.filter(stock_record__in=recovered, status=StockAlert.Status.OPEN)
        open_alerts.update(status=StockAlert.Status.CLOSED, closed_at=as_of)
