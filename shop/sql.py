"""SQL that Django's expressions say too slowly."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.db.models import BigIntegerField, F, Func, IntegerField, Model
from django.db.transaction import get_connection


class Thousandths(Func):
    """An amount of money as a whole number: what two databases add up alike, to the last digit.

    SQLite keeps amounts as floating point; each of the 15 digits of a money_field comes back from there, their sums
    need not. PostgreSQL's sum of such numbers is a Decimal; `in_thousandths` reads either.
    """

    output_field: Any = BigIntegerField()
    template = "CAST(ROUND(%(expressions)s * 1000) AS BIGINT)"

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        """Its amounts are exact as they are; to make whole numbers of 100,000s of them takes as long as their sum."""
        return self.as_sql(compiler, connection, template="(%(expressions)s * 1000)")


def in_thousandths(number: int | Decimal) -> Decimal:
    """This will give back the amount that so many Thousandths are."""
    return Decimal(number).scaleb(-3)


class NumberByPk(Func):
    """CASE id WHEN … THEN … END, in one expression: a number for each of some rows, `otherwise` for the rest.

    Django's Case/When says the same, but takes milliseconds to build for an order of fifty lines. The numbers are
    ints of ours and stand in the SQL itself.
    """

    output_field: Any = IntegerField()

    def __init__(self, numbers: Mapping[int, int], *, otherwise: int = 0) -> None:
        whens = " ".join(f"WHEN {int(pk)} THEN {int(number)}" for pk, number in numbers.items())
        super().__init__(F("pk"), template=f"CASE %(expressions)s {whens} ELSE {int(otherwise)} END")


def insert_rows(rows: Sequence[Any]) -> None:
    """Insert many rows of one model that have their primary keys: on PostgreSQL by COPY, in a third of the time.

    Most of what bulk_create takes there is Python's: it builds an array of each column, and quotes it twice.
    """
    model: type[Model] = type(rows[0])
    fields = model._meta.concrete_fields
    connection = get_connection()  # not the proxy of django.db, which is slow when asked for every value
    if connection.vendor != "postgresql" or any(f.generated or f.has_db_default() for f in fields):
        model._base_manager.bulk_create(rows)
        return
    for row in rows:
        row._prepare_related_fields_for_save(operation_name="insert_rows")  # as bulk_create: ids of rows pointed at
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.column) for field in fields)
    connection.validate_no_broken_transaction()
    with (
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy(f"COPY {quote(model._meta.db_table)} ({columns}) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row([f.get_db_prep_save(f.pre_save(row, True), connection) for f in fields])
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias


def update_rows(rows: Sequence[Model], fields: Sequence[str]) -> None:
    """UPDATE … FROM (VALUES …): some fields of many rows of one model, each row its own values, in one statement.

    Django's bulk_update says the same with a CASE for each field, and takes longer to build than to run. On SQLite,
    which takes 999 parameters, many rows make several statements.
    """
    meta, connection = rows[0]._meta, get_connection()
    columns: list[Any] = [meta.pk, *(meta.get_field(name) for name in fields)]
    most = connection.features.max_query_params
    at_once = most // len(columns) if most else len(rows)
    # PostgreSQL must be told the types; without their lengths, or a text that is too long would be cut silently.
    casts = [f"::{column.db_type(connection).split('(')[0]}" for column in columns]
    if connection.vendor != "postgresql":
        casts = ["" for _column in columns]
    quote = connection.ops.quote_name
    sets = ", ".join(f"{quote(c.column)} = v.column{n}" for n, c in enumerate(columns[1:], start=2))
    first = ", ".join(f"%s{cast}" for cast in casts)
    other = ", ".join("%s" for _column in columns)
    with connection.cursor() as cursor:
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            values = f"({first})" + f", ({other})" * (len(some) - 1)
            table, key = quote(meta.db_table), quote(meta.pk.column)
            cursor.execute(
                f"UPDATE {table} SET {sets} FROM (VALUES {values}) AS v WHERE {table}.{key} = v.column1",  # noqa: S608
                [c.get_db_prep_save(c.pre_save(row, False), connection) for row in some for c in columns],
            )
