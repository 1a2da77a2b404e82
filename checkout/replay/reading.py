"""Read invoices in the layout of the UCI "Online Retail" data: a row a line, good or rejected with a reason."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from sys import intern
from typing import IO

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from shop.errors import Invalid

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "UnitPrice", "CustomerID", "Country")
DATE_COLUMN = "InvoiceDate"
# "Online Retail II" has other names for the same columns.
ALIASES = {"Invoice": "InvoiceNo", "Price": "UnitPrice", "Customer ID": "CustomerID"}
MOST_BYTES = 20_000  # of a line; longer is no row of such a file
MOST_UNITS = 1_000_000
MOST_MONEY = Decimal(10_000_000)
EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
BAD_DEBT = "B"  # the one code whose price may be negative: "Adjust bad debt"

NUMBER = re.compile(r"[+-]?\d{1,12}(\.\d{1,20})?\Z", re.ASCII)
NAME = re.compile(r"[A-Z0-9](?:[A-Z0-9 _./-]{0,38}[A-Z0-9_./-])?\Z")
CUSTOMER = re.compile(r"[A-Z0-9_-]{1,40}\Z", re.ASCII)
PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]*\Z")
# The data set's own form is American: month/day/year.
DATE_FORMATS = ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%y %H:%M", "%m/%d/%Y")


class UnreadableFile(Invalid):
    code = "unreadable_file"
    message = gettext_lazy("The file cannot be read.")


class BadRow(Exception):
    """Why a row is rejected, in words."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `line` counts from 1, the header being line 1. A C invoice's quantity is negative."""

    line: int
    invoice: str
    sku: str
    description: str
    quantity: int
    price: Decimal
    customer: str = ""
    country: str = ""
    date: datetime | None = None

    @property
    def is_credit(self) -> bool:
        return self.invoice.startswith("C")


@dataclass(frozen=True, slots=True)
class Rejected:
    line: int
    invoice: str
    reason: str


@dataclass(slots=True)
class Reading:
    """What a file says."""

    rows: list[Row]
    rejected: list[Rejected]
    has_dates: bool = False


def read(path: Path, *, encoding: str = "utf-8") -> Reading:
    """This will read a CSV file, gzipped or not, and reject the rows that make no sense. Raises UnreadableFile."""
    try:
        with _opened(path) as stream:
            return _read(stream, encoding)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        words = _("“%(path)s” cannot be read: %(error)s")
        raise UnreadableFile(words, params={"path": path, "error": error}) from error
    except LookupError as error:
        raise UnreadableFile(_("There is no encoding “%(name)s”."), params={"name": encoding}) from error


def _opened(path: Path) -> IO[bytes]:
    """By what it begins with, not by what it is called."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _read(stream: IO[bytes], encoding: str) -> Reading:
    lines = _lines(stream)
    _line, first = next(lines, (1, b""))
    columns = _columns(first, encoding)
    reading = Reading([], [], DATE_COLUMN in columns)
    as_of = timezone.now()
    for line, raw in lines:
        if not (raw or b"").strip() and raw is not None:
            continue
        cells: list[str] = []
        try:
            cells = _cells(raw, encoding, len(columns))
            values = dict(zip(columns, cells, strict=True))
            reading.rows.append(_row(line, values, as_of=as_of, dated=reading.has_dates))
        except BadRow as no:
            invoice = cells[columns.index("InvoiceNo")].strip()[:40] if cells else ""
            reading.rejected.append(Rejected(line, invoice, str(no)))
    return reading


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is too long to be a row.

    A row is a line: a stray quotation mark then spoils one row, and cannot swallow the rest of the file.
    """
    number = 0
    while raw := stream.readline(MOST_BYTES):
        number += 1
        if len(raw) == MOST_BYTES and not raw.endswith(b"\n"):
            while (raw := stream.readline(MOST_BYTES)) and not raw.endswith(b"\n"):
                pass
            yield number, None
        else:
            yield number, raw


def _columns(first: bytes | None, encoding: str) -> list[str]:
    try:
        text = (first or b"").removeprefix(b"\xef\xbb\xbf").decode(encoding)
        names = [name.strip() for name in next(csv.reader([text.strip()]), [])]
    except (UnicodeDecodeError, csv.Error):
        names = []
    names = [ALIASES.get(name, name) for name in names]
    missing = [name for name in COLUMNS if name not in names]
    if missing or len(set(names)) < len(names):
        words = _(
            "The first line must name the columns %(columns)s, and may name %(date)s, separated by commas; "
            "missing or named twice: %(missing)s."
        )
        wrong = missing or sorted({name for name in names if names.count(name) > 1})
        params = {"columns": ",".join(COLUMNS), "date": DATE_COLUMN, "missing": ", ".join(wrong)}
        raise UnreadableFile(words, params=params)
    return names


def _cells(raw: bytes | None, encoding: str, wanted: int) -> list[str]:
    if raw is None:
        raise BadRow(_("The line is longer than %(n)d bytes.") % {"n": MOST_BYTES})
    try:
        cells = next(csv.reader([raw.decode(encoding).rstrip("\r\n")], strict=True))
    except UnicodeDecodeError:
        raise BadRow(_("This is not %(encoding)s text.") % {"encoding": encoding}) from None
    except csv.Error as error:
        raise BadRow(_("The quotation marks do not fit: %(error)s.") % {"error": error}) from None
    if len(cells) != wanted:
        raise BadRow(_("%(n)d columns instead of %(wanted)d.") % {"n": len(cells), "wanted": wanted})
    return cells


def _row(line: int, values: dict[str, str], *, as_of: datetime, dated: bool) -> Row:
    invoice = _named(values["InvoiceNo"], _("invoice number"), NAME)
    sku = " ".join(_named(values["StockCode"], _("stock code"), PRINTABLE).split())
    if len(sku) > 64:
        raise BadRow(_("The stock code is longer than 64 characters."))
    quantity, price = _quantity(values["Quantity"]), _price(values["UnitPrice"], sku)
    if abs(quantity * price) > MOST_MONEY:
        raise BadRow(_("%(quantity)d × %(price)s is absurd.") % {"quantity": quantity, "price": price})
    if invoice.startswith("C") and quantity > 0:
        raise BadRow(_("A credit invoice with a positive quantity."))
    texts = [" ".join(values[name].split()) for name in ("Description", "Country")]
    if not all(PRINTABLE.match(text) for text in texts):
        raise BadRow(_("Control characters in a text."))
    customer = values["CustomerID"].strip().removesuffix(".0").upper()
    if customer and not CUSTOMER.match(customer):
        raise BadRow(_("“%(value)s” is not a customer's number.") % {"value": customer[:40]})
    return Row(
        line,
        intern(invoice),
        intern(sku),
        intern(texts[0][:255]),
        quantity,
        price,
        intern(customer),
        intern(texts[1][:100]),
        _date(values[DATE_COLUMN].strip(), as_of=as_of) if dated else None,
    )


def _named(text: str, what: str, form: re.Pattern[str]) -> str:
    value = text.strip().upper()
    if not value:
        raise BadRow(_("No %(what)s.") % {"what": what})
    if not form.match(value):
        raise BadRow(_("“%(value)s” is not a %(what)s.") % {"value": value[:40], "what": what})
    return value


def _number(text: str, what: str) -> Decimal:
    value = text.strip()
    if not NUMBER.match(value):
        raise BadRow(_("“%(value)s” is not a %(what)s.") % {"value": value[:40], "what": what})
    return Decimal(value)


def _quantity(text: str) -> int:
    number = _number(text, _("quantity"))
    if number != int(number):
        raise BadRow(_("A quantity of %(n)s: units are whole.") % {"n": number})
    if not number:
        raise BadRow(_("A quantity of 0."))
    if abs(number) > MOST_UNITS:
        raise BadRow(_("A quantity of %(n)s is absurd.") % {"n": number})
    return int(number)


def _price(text: str, sku: str) -> Decimal:
    # Tables passed through a spreadsheet have prices such as 2.5500000000000003.
    price = _number(text, _("price")).quantize(Decimal("0.001"))
    if price < 0 and sku != BAD_DEBT:
        raise BadRow(_("A negative price."))
    if abs(price) > MOST_MONEY:
        raise BadRow(_("A price of %(n)s is absurd.") % {"n": price})
    return price


def _date(text: str, *, as_of: datetime) -> datetime:
    for form in (None, *DATE_FORMATS):
        try:
            # The shop's own time: the file names no zone.
            date = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)  # noqa: DTZ007
        except ValueError:
            continue
        date = date if date.tzinfo else timezone.make_aware(date)
        if not EARLIEST <= date <= as_of:
            raise BadRow(_("%(date)s is not a date of the past.") % {"date": text})
        return date
    raise BadRow(_("“%(date)s” is not a date such as 2010-12-01 08:26 or 12/1/2010 8:26.") % {"date": text[:40]})
