"""Together: many decisions in one transaction, whose writes are gathered and written as sets.

    with together(expected=len(numbers)):
        for number in numbers:
            with atomic():  # what fails in here leaves nothing, and the others go on
                …insert(rows), update(rows, fields)…

Outside of `together` the same three calls write at once, and `atomic` is Django's. Inside, rows get their primary keys
at once, so that others can point at them, and are written when the block ends, or before that as soon as a statement
of somebody else's needs them: code that asks or writes the database by other means, such as a shop's own handler, finds
everything as if it had been written at once. It is only slower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import AutoField, Model

from shop.sql import insert_rows, update_rows

M = TypeVar("M", bound=Model)

# A chunk of 100 orders writes some hundred rows of each model; primary keys that are not used leave a gap, no more.
KEYS_PER_PART = 4


class StartOver(Exception):
    """A part failed that can no longer be taken back alone. Nothing is written: do the parts one by one."""


# ---------------------------------------------------------------------------------------------------------------
# What services call, together or not


def insert(rows: Iterable[M], *, ignore_conflicts: bool = False) -> list[M]:
    """This will write new rows of one model; they have their primary keys afterwards.

    ignore_conflicts  rows that may be there already: those are left out, and none gets a primary key
    """
    rows = list(rows)
    if rows and (unit := _current.get()) is not None:
        unit.insert(rows, ignore_conflicts)
    elif rows:
        type(rows[0])._base_manager.bulk_create(rows, ignore_conflicts=ignore_conflicts)
    return rows


def update(rows: Iterable[Model], fields: Iterable[str]) -> None:
    """This will write some fields of rows of one model, each row its own values, in one statement."""
    rows, names = list(rows), tuple(sorted(set(fields)))
    if rows and names and (unit := _current.get()) is not None:
        unit.update(rows, names)
    elif rows and names:
        update_rows(rows, names)


@contextmanager
def atomic() -> Iterator[None]:
    """This will undo what was written in the block if it fails: Django's `atomic`, and together without a statement."""
    unit = _current.get()
    with transaction.atomic() if unit is None else unit.part():
        yield


def remember(key: Any, value: Any) -> None:
    """This will keep what was read for all parts at once, to be used instead of a query; nothing outside of `together`.

    It is forgotten when somebody has written by other means, or a part has failed that had recalled it.
    """
    if (unit := _current.get()) is not None:
        unit.ahead[key] = value


def recall(key: Any, default: Any = None, *, once: bool = False) -> Any:
    """This will give back what is remembered. once: whoever asks next reads it anew."""
    if (unit := _current.get()) is None or key not in unit.ahead:
        return default
    if once:
        return unit.ahead.pop(key)
    unit.recalled(key)
    return unit.ahead[key]


def is_together() -> bool:
    return _current.get() is not None


@contextmanager
def together(*, expected: int) -> Iterator[None]:
    """This will open a transaction and gather its writes. Raises StartOver or DatabaseError; then nothing is written.

    expected  how many parts there will be: so many primary keys are fetched in advance
    """
    with transaction.atomic():
        unit = Together(expected)
        token = _current.set(unit)
        try:
            with unit.connection.execute_wrapper(unit.watch):
                yield
                unit.write()
                if unit.broken:
                    raise StartOver
        finally:
            _current.reset(token)


# ---------------------------------------------------------------------------------------------------------------
# How it is gathered


class Gathered:
    """What one part has to write, in the order in which it came."""

    def __init__(self) -> None:
        self.inserts: dict[tuple[type[Model], bool], list[Model]] = {}
        self.updates: dict[tuple[type[Model], tuple[str, ...]], dict[Any, Model]] = {}
        self.recalled: set[Any] = set()
        self.is_in_database = False

    def tables(self) -> set[str]:
        return {model._meta.db_table for model, _how in (*self.inserts, *self.updates)}

    def take(self, other: Gathered) -> None:
        for model, rows in other.inserts.items():
            self.inserts.setdefault(model, []).extend(rows)
        for which, by_pk in other.updates.items():
            self.updates.setdefault(which, {}).update(by_pk)
        self.recalled |= other.recalled
        self.is_in_database = self.is_in_database or other.is_in_database

    def write(self) -> None:
        # Rows point at one another in any order: the database looks at foreign keys when the transaction ends.
        for (model, ignore_conflicts), rows in self.inserts.items():
            if ignore_conflicts:
                model._base_manager.bulk_create(rows, ignore_conflicts=True)
            else:
                insert_rows(rows)
        for (_model, fields), by_pk in self.updates.items():
            update_rows(list(by_pk.values()), fields)
        self.is_in_database = self.is_in_database or bool(self.inserts or self.updates)
        self.inserts, self.updates = {}, {}


class Together:
    """The parts that are open, innermost last, and what was read ahead. See the module's docstring."""

    def __init__(self, expected: int) -> None:
        self.connection = transaction.get_connection()
        self.ahead: dict[Any, Any] = {}
        self.broken = False
        self._expected = expected
        self._parts = [Gathered()]
        self._keys: dict[type[Model], deque[int]] = {}
        self._last_key: dict[type[Model], int] = {}
        self._is_own = False

    def insert(self, rows: Sequence[Model], ignore_conflicts: bool) -> None:
        model = type(rows[0])
        if not ignore_conflicts and isinstance(model._meta.pk, AutoField):
            keys = self._keys_for(model, len(rows))
            for row in rows:
                row.pk = keys.popleft()
        self._parts[-1].inserts.setdefault((model, ignore_conflicts), []).extend(rows)

    def update(self, rows: Sequence[Model], fields: tuple[str, ...]) -> None:
        # A row that waits to be inserted will be so with its values of then.
        changed = {row.pk: row for row in rows if not row._state.adding}
        if changed:
            self._parts[-1].updates.setdefault((type(rows[0]), fields), {}).update(changed)

    def recalled(self, key: Any) -> None:
        self._parts[-1].recalled.add(key)

    @contextmanager
    def part(self) -> Iterator[None]:
        """One part; when it fails its rows are dropped. Raises StartOver where some are in the database already."""
        part, hooks = Gathered(), len(self.connection.run_on_commit)
        self._parts.append(part)
        try:
            yield
        except BaseException as error:
            self._parts.pop()
            if part.is_in_database or isinstance(error, DatabaseError | StartOver):
                self.broken = True
                raise StartOver from error
            del self.connection.run_on_commit[hooks:]
            for key in part.recalled:
                self.ahead.pop(key, None)  # rows of it may have changed with what was dropped
            raise
        self._parts.pop()
        self._parts[-1].take(part)

    def write(self) -> None:
        """Write what is gathered; the parts that are open can no longer be dropped alone."""
        with self._own():
            try:
                for part in self._parts:
                    part.write()
            except BaseException:
                self.broken = True
                raise

    def watch(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """See every statement: write first what it may be about; what was read ahead does not outlive its changes."""
        if not self._is_own:
            verb = sql.lstrip(" (\n").split(" ", 1)[0].upper()
            tables = {table for part in self._parts for table in part.tables()}
            if tables and (verb not in DATA or any(table in sql for table in tables)):
                self.write()
            if verb not in HARMLESS:
                for part in self._parts:
                    part.is_in_database = True
                self.ahead.clear()
                self._keys.clear()
        return execute(sql, params, many, context)

    def _keys_for(self, model: type[Model], count: int) -> deque[int]:
        keys = self._keys.setdefault(model, deque())
        if len(keys) < count:
            with self._own():
                keys.extend(self._more_keys(model, max(count, self._expected * KEYS_PER_PART)))
        return keys

    def _more_keys(self, model: type[Model], count: int) -> Iterable[int]:
        connection = self.connection
        table, column = connection.ops.quote_name(model._meta.db_table), model._meta.pk.column
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                sql = "SELECT nextval(s::regclass) FROM pg_get_serial_sequence(%s, %s) AS s, generate_series(1, %s)"
                cursor.execute(sql, [table, column, count])
                return [row[0] for row in cursor.fetchall()]
            # SQLite's transaction is IMMEDIATE: nobody else can take a key before it ends.
            cursor.execute(
                f"SELECT MAX((SELECT COALESCE(MAX({connection.ops.quote_name(column)}), 0) FROM {table}),"  # noqa: S608
                " COALESCE((SELECT seq FROM sqlite_sequence WHERE name = %s), 0))",
                [model._meta.db_table],
            )
            first = max(cursor.fetchone()[0], self._last_key.get(model, 0)) + 1
        self._last_key[model] = first + count - 1
        return range(first, first + count)

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Statements in here are not somebody else's."""
        before, self._is_own = self._is_own, True
        try:
            yield
        finally:
            self._is_own = before


DATA = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})  # these say which tables they are about
HARMLESS = frozenset({"SELECT", "SAVEPOINT", "RELEASE"})

_current: ContextVar[Together | None] = ContextVar("together", default=None)
