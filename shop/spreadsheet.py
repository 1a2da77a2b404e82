"""CSV that is safe to open in a spreadsheet: no cell that people have written becomes a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

# A spreadsheet knows an encoding by it.
BYTE_ORDER_MARK = "\ufeff"

# What begins a formula, as well in full width and in small forms; what some programs skip before they look; and the
# separators at which a spreadsheet of another country would cut a cell in two.
_STARTS = "=+\\-@＝＋－＠﹦﹢﹣﹫"
_SKIPPED = "\\s\\x00-\\x1f\\x7f\\u200b-\\u200f\\u2060\\ufeff\"'"
_FORMULA = re.compile(rf"(^|\r\n|[;\t\r\n])(?=[{_SKIPPED}]*[{_STARTS}])")


def safe_cell(value: object) -> str:
    """This will write a value as a cell's text: a formula gets an apostrophe in front, so that it stays text.

    Numbers stay numbers, with a dot; None is empty, yes and no are 1 and 0.
    After OWASP's "CSV Injection": = + - @, tab and carriage return at the beginning of a cell.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int):
        return str(value)
    text = _FORMULA.sub(r"\1'", str(value))
    return f"'{text}" if text[:1] in {"\t", "\r", "\n"} else text


class _Line:
    """What csv.writer writes to: hands the line back."""

    def write(self, line: str) -> str:
        return line


def csv_lines(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """This will write a table line by line: RFC 4180, UTF-8 with a byte order mark, every cell safe and quoted.

    For a StreamingHttpResponse: rows are read as they are sent, however many there are.
    """
    writer = csv.writer(_Line(), quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    yield (BYTE_ORDER_MARK + writer.writerow([safe_cell(cell) for cell in header])).encode()
    for row in rows:
        yield writer.writerow([safe_cell(cell) for cell in row]).encode()
