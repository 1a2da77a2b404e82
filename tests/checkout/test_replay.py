"""A real shop's history is replayed: what each kind of row becomes, and that a run can be stopped and repeated."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from checkout.replay import doing
from inventory.models import Product, StockMovement, StockRecord
from notifications.models import Message
from orders.models import Order, OrderLine, ShippingEvent
from payments.models import Payment, Refund
from shop.models import Job, Store, User

pytestmark = pytest.mark.django_db

HEADER = "InvoiceNo,StockCode,Description,Quantity,UnitPrice,CustomerID,Country"
UK = "United Kingdom"
Books = Callable[[], list[str]]


def row(invoice: str, sku: str, quantity: object, price: object, customer: object = 17850, name: str = "LAMP") -> str:
    return f"{invoice},{sku},{name},{quantity},{price},{customer},{UK}"


@pytest.fixture
def replay(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """replay(row, row, …): the report of replaying these rows."""

    def run(*rows: str, header: str = HEADER, name: str = "shop.csv", **options: Any) -> dict[str, Any]:
        path = tmp_path / name
        text = "\n".join([header, *rows]) + "\n"
        data = text.encode("utf-8", "surrogateescape")
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        out = io.StringIO()
        call_command("replay_orders", path, json=True, stdout=out, **options)
        return json.loads(out.getvalue())

    return run


Replay = Callable[..., dict[str, Any]]


def order_of(invoice: str) -> Order:
    return Order.objects.get(idempotency_key=f"replay:replay:{invoice}")


def lines_of(invoice: str) -> list[tuple[str, int, Decimal]]:
    return list(order_of(invoice).lines.order_by("position").values_list("sku", "quantity", "unit_price"))


def reasons(report: dict[str, Any], what: str = "rejected") -> list[tuple[int, str]]:
    return [(bad["line"], bad["reason"]) for bad in report[what]]


def everything() -> dict[str, str]:
    """Every table's rows, as a hash: nothing at all may change."""
    hashes = {}
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            cursor.execute(f'SELECT * FROM "{table}"')
            rows = sorted(repr(values) for values in cursor.fetchall())
            hashes[table] = f"{len(rows)} {hashlib.sha256(repr(rows).encode()).hexdigest()}"
    return hashes


# --- what becomes of an invoice --------------------------------------------------------------------------------------


def test_an_invoice_is_placed_paid_and_shipped(replay: Replay, books: Books) -> None:
    report = replay(row("536365", "85123A", 6, "2.55"), row("536365", "71053", 2, "3.39"))
    order = order_of("536365")
    assert (order.status, order.total) == ("shipped", Decimal("22.08"))
    assert [(x.paid, x.shipped, x.allocated) for x in order.lines.all()] == [(6, 6, 0), (2, 2, 0)]
    assert order.customer == User.objects.get(username="replay-17850")
    assert order.extra == {"invoice": "536365", "country": UK}
    assert report["by_books"]["money_in"] == report["by_file"]["money_in"] == "22.08"
    assert report["agrees"]
    assert books() == []


def test_nobody_gets_mail_and_no_work_is_left(replay: Replay) -> None:
    replay(row("1", "A", 1, 5), row("C2", "A", -1, 5))
    assert not Message.objects.exists()
    assert not Job.objects.exclude(state="done").exists()


def test_customers_of_the_replay_cannot_log_in(replay: Replay) -> None:
    replay(row("1", "A", 1, 5))
    user = User.objects.get(username="replay-17850")
    assert not user.has_usable_password()
    assert user.email.endswith(".invalid")


def test_exactly_what_was_sold_and_written_off_is_received(replay: Replay, books: Books) -> None:
    report = replay(row("1", "A", 7, 5), row("2", "A", -3, 0, ""), row("3", "A", 2, 5))
    received, *_rest = StockMovement.objects.order_by("pk")
    assert (received.kind, received.on_hand_delta) == ("received", 12)
    assert StockRecord.objects.get().on_hand == 0
    assert (report["units_written_off"], report["by_file"]["units"]) == (3, 9)
    assert books() == []


def test_a_customer_who_is_not_named_is_a_guest(replay: Replay) -> None:
    assert replay(row("1", "A", 1, 5, ""))["guest_orders"] == 1
    assert order_of("1").customer is None


def test_a_product_twice_on_an_invoice_stays_two_lines_at_their_own_prices(replay: Replay, books: Books) -> None:
    assert replay(row("1", "A", 1, "5.00"), row("1", "A", 2, "4.50"))["repeated_products"] == 1
    assert lines_of("1") == [("A", 1, Decimal("5")), ("A", 2, Decimal("4.5"))]
    assert books() == []


def test_stock_codes_are_the_same_whatever_their_case_and_the_most_frequent_name_wins(replay: Replay) -> None:
    replay(row("1", "85123a", 1, 5, name="wrong"), row("2", " 85123A ", 1, 5), row("3", "85123A", 1, 5))
    assert Product.objects.get().sku == "85123A"
    assert Product.objects.get().name == "LAMP"


def test_postage_is_the_orders_shipping_price(replay: Replay) -> None:
    rows = [row("1", "A", 1, 5), row("1", "POST", 2, 18), row("1", "C2", 1, 50)]
    assert replay(*rows)["postage"] == "86.00"
    assert (order_of("1").shipping_total, order_of("1").total) == (86, 91)
    assert len(lines_of("1")) == 1


def test_postage_alone_is_what_the_customer_bought(replay: Replay) -> None:
    replay(row("1", "POST", 21, 18))
    assert lines_of("1") == [("POST", 21, Decimal(18))]
    assert not Product.objects.get(sku="POST").track_stock


def test_a_discount_on_the_invoice_is_the_orders_discount(replay: Replay, books: Books) -> None:
    replay(row("1", "A", 2, 5), row("1", "D", -1, "2.50"))
    assert (order_of("1").discount_total, order_of("1").total) == (Decimal("2.5"), Decimal("7.5"))
    assert books() == []


def test_free_goods_of_a_customer_are_a_line_that_costs_nothing(replay: Replay, books: Books) -> None:
    assert replay(row("1", "A", 1, 5), row("1", "B2", 3, 0))["free_units"] == 3
    assert lines_of("1") == [("A", 1, Decimal(5)), ("B2", 3, Decimal(0))]
    assert books() == []


def test_an_order_that_costs_nothing_ships_without_a_payment(replay: Replay, books: Books) -> None:
    report = replay(row("1", "A", 1, 0), row("C2", "A", -1, 0))
    assert (report["free_orders"], report["by_books"]["units_returned"]) == (1, 1)
    assert report["agrees"]
    assert not Payment.objects.exists()
    assert books() == []


def test_free_goods_for_nobody_were_found_on_the_shelf(replay: Replay, books: Books) -> None:
    report = replay(row("1", "A", 4, 0, "", name=""), row("2", "B2", 3, 0, "", name="amazon"))
    assert (report["units_found"], report["by_file"]["orders"]) == (7, 0)
    assert StockRecord.objects.get(product__sku="A").on_hand == 4
    assert books() == []


def test_free_goods_in_a_guests_parcel_are_part_of_it(replay: Replay) -> None:
    assert replay(row("1", "A", 1, 5, ""), row("1", "B2", 1, 0, ""))["units_found"] == 0
    assert len(lines_of("1")) == 2


def test_free_goods_beside_a_price_entered_by_hand_are_what_was_sold(replay: Replay) -> None:
    assert replay(row("1", "A", 1, 0, ""), row("1", "M", 1, "924.59", ""))["units_found"] == 0
    assert lines_of("1") == [("A", 1, Decimal(0)), ("M", 1, Decimal("924.59"))]


def test_fees_are_expenses_and_no_orders(replay: Replay) -> None:
    report = replay(
        row("C1", "AMAZONFEE", -1, "13541.33", ""),
        row("2", "AMAZONFEE", 1, "41.33", ""),
        row("C3", "BANK CHARGES", -1, "95.38", ""),
        row("C4", "S", -1, 52, ""),
        row("A5", "B", 1, "-11062.06", ""),
    )
    assert report["expenses"] == {
        "AMAZONFEE": "13500.00",
        "BANK CHARGES": "95.38",
        "S": "52.00",
        "B": "11062.06",
    }
    assert report["by_file"]["orders"] == 0


def test_bank_charges_that_a_customer_pays_are_sold_to_them(replay: Replay) -> None:
    assert replay(row("1", "BANK CHARGES", 1, 15))["by_books"]["money_in"] == "15.00"


def test_more_decimals_than_the_currency_has_are_rounded_by_the_row(replay: Replay, books: Books) -> None:
    report = replay(row("1", "PADS", 5, "0.001"), row("1", "A", 3, "2.5500000000000003"))
    assert (order_of("1").total, report["agrees"]) == (Decimal("7.66"), True)
    assert books() == []


def test_prices_and_customers_as_spreadsheets_write_them(replay: Replay) -> None:
    replay(row("1", "A", "6.0", "2.5", "17850.0"))
    assert order_of("1").customer.username == "replay-17850"


# --- what comes back -------------------------------------------------------------------------------------------------


def test_a_credit_takes_units_back_from_the_newest_purchase_first(replay: Replay, books: Books) -> None:
    report = replay(row("1", "A", 3, 5), row("2", "A", 2, 6), row("C3", "A", -4, 5))
    assert [OrderLine.objects.get(order=order_of(i)).returned for i in "12"] == [2, 2]
    assert report["by_books"]["money_out"] == "20.00"
    assert (report["kept_of_returns"], report["matched_rows"]) == ("2.00", 1)
    assert StockRecord.objects.get().on_hand == 4
    assert {r.status for r in Refund.objects.all()} == {"succeeded"}
    assert report["agrees"]
    assert books() == []


def test_a_credit_that_takes_everything_back_ends_the_order(replay: Replay) -> None:
    replay(row("1", "A", 3, 5), row("C3", "A", -3, 5))
    assert order_of("1").status == "refunded"


def test_one_credit_makes_one_decision_for_each_order(replay: Replay) -> None:
    replay(
        row("1", "A", 3, 5), row("1", "B2", 1, 5), row("C3", "A", -1, 5), row("C3", "A", -1, 5), row("C3", "B2", -1, 5)
    )
    event = ShippingEvent.objects.get(event_type__code="returned")
    assert sorted(event.line_quantities.values_list("quantity", flat=True)) == [1, 2]


def test_a_return_keeps_the_postage_and_a_cancellation_gives_it_back(replay: Replay, books: Books) -> None:
    rows = [row("1", "A", 1, 5), row("1", "POST", 1, 3), row("2", "A", 1, 5), row("2", "POST", 1, 3)]
    report = replay(*rows, row("C3", "A", -2, 5), open=1)
    assert [order_of(i).status for i in "12"] == ["refunded", "cancelled"]
    assert (report["by_books"]["money_out"], report["open_orders"]) == ("13.00", 1)
    assert (report["by_books"]["units_cancelled"], report["by_books"]["units_returned"]) == (1, 1)
    assert report["agrees"]
    assert books() == []


def test_open_orders_are_paid_and_stay_open_in_later_runs(replay: Replay, books: Books) -> None:
    rows = [row("1", "A", 1, 5), row("2", "A", 2, 5), row("C3", "A", -1, 5)]
    replay(*rows, open=1)
    assert [order_of(i).status for i in "12"] == ["shipped", "approved"]
    before = everything()
    assert replay(*rows)["agrees"]
    assert everything() == before
    assert books() == []


def test_what_was_never_bought_is_an_unmatched_credit(replay: Replay) -> None:
    report = replay(
        row("C0", "A", -1, 5),
        row("1", "A", 2, 5),
        row("C2", "A", -3, 5),
        row("C3", "B2", -1, 4),
        row("C4", "A", -1, 5, ""),
        row("C5", "A", -1, 5, 99),
    )
    assert reasons(report, "unmatched") == [
        (2, "The customer never bought it before."),
        (4, "The customer bought fewer before."),
        (5, "The customer never bought it before."),
        (6, "No customer is named."),
        (7, "The customer never bought it before."),
    ]
    assert (report["unmatched_units"], report["unmatched_money"]) == (5, "24.00")
    assert report["by_books"]["money_out"] == "10.00"


def test_a_credit_of_more_than_was_paid_gives_back_what_was_paid(replay: Replay) -> None:
    report = replay(row("1", "A", 1, 5), row("C2", "A", -1, 7))
    assert report["by_books"]["money_out"] == "5.00"
    assert [(c["units"], c["amount"]) for c in report["unmatched"]] == [(0, "2.00")]


def test_a_discount_afterwards_is_goodwill_on_the_newest_orders(replay: Replay, books: Books) -> None:
    report = replay(row("1", "A", 2, 5), row("2", "A", 1, 5), row("C3", "D", -1, 7), row("C4", "A", -3, 5))
    assert report["discounts_afterwards"] == "7.00"
    assert {p.reference: p.refunded for p in Payment.objects.all()} == {
        order_of("1").number: 10,
        order_of("2").number: 5,
    }
    assert [(c["amount"], c["units"]) for c in report["unmatched"]] == [("5.00", 0), ("2.00", 0)]
    assert report["agrees"]
    assert books() == []


def test_a_discount_larger_than_all_orders_is_unmatched_for_the_rest(replay: Replay) -> None:
    report = replay(row("1", "A", 1, 5), row("C3", "D", -1, 7))
    assert (report["by_books"]["money_out"], report["unmatched_money"]) == ("5.00", "2.00")


def test_postage_comes_back_only_from_orders_that_paid_postage(replay: Replay) -> None:
    rows = [row("1", "A", 1, 5), row("1", "POST", 1, 3), row("2", "A", 1, 5), row("C3", "POST", -1, 4)]
    report = replay(*rows)
    assert Payment.objects.get(reference=order_of("1").number).refunded == 3
    assert report["unmatched_money"] == "1.00"


# --- what is wrong with a file ---------------------------------------------------------------------------------------


def test_broken_rows_are_rejected_with_line_and_reason_and_the_rest_goes_on(replay: Replay) -> None:
    report = replay(
        "1,A,LAMP,6",
        row("1", "A", "six", 5),
        row("1", "A", 0, 5),
        row("1", "A", 1.5, 5),
        row("1", "A", 1, "5,5"),
        row("1", "A", 1, -5),
        row("", "A", 1, 5),
        row("1", " ", 1, 5),
        row("1", "A", 99_999_999, 5),
        row("1", "A", 1, 5, "N/A?"),
        row("C1", "A", 1, 5),
        row("1", "A", 1, 5, name="\udcff"),
        row("1", "A", 1, 5, name='"LAMP'),
        row("1", "A", 1, 5, name="LA\x00MP"),
        row("1", "A", 1, "nan"),
        row("1", "A", 1, "1e9"),
        row("1", "D", 1, 5),
        row("1", "POST", -1, 5),
        row("2", "D", -1, 5),
        row("1", "A", 1, 5, 4711),
        "",
        row("1", "A", 1, 5),
        row("1", "A", 1, 5, "x" * 30_000),
    )
    told = dict(reasons(report))
    assert sorted(told) == [*range(2, 22), 24]
    assert told[2] == "4 columns instead of 7."
    assert told[3] == "“six” is not a quantity."
    assert told[6] == "8 columns instead of 7."
    assert told[7] == "A negative price."
    assert told[13] == "This is not utf-8 text."
    assert told[20] == "The discount is more than the goods cost."
    assert report["by_books"]["orders"] == 1
    assert report["agrees"]


def test_an_invoice_belongs_to_one_customer(replay: Replay) -> None:
    report = replay(row("1", "A", 1, 5, ""), row("1", "A", 1, 5, 1), row("1", "A", 1, 5, 2))
    assert reasons(report) == [(4, "The invoice is customer 1's, this row names 2.")]
    assert order_of("1").lines.count() == 2


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", f"{HEADER},Country\n", "\x1f\x8b broken"])
def test_a_file_that_is_no_such_table_is_refused_with_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shop.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CommandError):
        call_command("replay_orders", path)
    assert not Order.objects.exists()


def test_a_file_that_is_not_there_is_refused_with_words(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("replay_orders", tmp_path / "none.csv")


def test_missing_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("InvoiceNo,StockCode,Description,Quantity,UnitPrice,Country\n")
    with pytest.raises(CommandError, match="CustomerID"):
        call_command("replay_orders", tmp_path / "shop.csv")


def test_products_in_another_currency_are_not_mixed_in(replay: Replay) -> None:
    Product.objects.create(sku="A", name="Lamp", price=1, currency="EUR")
    with pytest.raises(CommandError, match="EUR"):
        replay(row("1", "A", 1, 5))


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shop.csv", "shop.csv.gz"])
def test_a_file_may_be_packed(replay: Replay, name: str) -> None:
    assert replay(row("1", "A", 1, 5), name=name)["by_books"]["orders"] == 1


@pytest.mark.parametrize("date", ["12/1/2010 8:26", "2010-12-01 08:26:00", "2010-12-01T08:26"])
def test_orders_are_dated_where_the_file_has_dates(replay: Replay, date: str, books: Books) -> None:
    header = HEADER.replace("UnitPrice", "InvoiceDate,UnitPrice")
    report = replay(f"1,A,LAMP,1,{date},5,17850,{UK}", f"2,A,LAMP,1,soon,5,17850,{UK}", header=header)
    assert order_of("1").placed_at.isoformat() == "2010-12-01T08:26:00+00:00"
    assert reasons(report) == [(3, "“soon” is not a date such as 2010-12-01 08:26 or 12/1/2010 8:26.")]
    assert books() == []


def test_with_dates_the_order_of_time_counts_not_that_of_the_file(replay: Replay) -> None:
    header = f"{HEADER},InvoiceDate"
    rows = [f"{row('C2', 'A', -1, 5)},2010-12-02", f"{row('1', 'A', 1, 5)},2010-12-01"]
    assert replay(*rows, header=header)["unmatched"] == []


def test_the_other_edition_of_the_data_has_other_names_for_the_columns(replay: Replay) -> None:
    header = "Invoice,StockCode,Description,Quantity,Price,Customer ID,Country"
    assert replay(row("1", "A", 1, 5), header=header)["by_books"]["orders"] == 1


def test_older_copies_are_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_bytes(f"{HEADER}\n{row('1', 'A', 1, 5, name='£ LAMP')}\n".encode("latin-1"))
    call_command("replay_orders", path, encoding="latin-1", stdout=io.StringIO())
    assert Product.objects.get().name == "£ LAMP"


def test_the_table_for_people_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("\n".join([HEADER, row("1", "A", 1, 5), row("C2", "B2", -1, 5), "x"]))
    out = io.StringIO()
    call_command("replay_orders", tmp_path / "shop.csv", stdout=out)
    assert "£5.00" in out.getvalue()
    assert "3: C2 B2 × 1 £5.00 – The customer never bought it before." in out.getvalue()
    assert "4:  – 1 columns instead of 7." in out.getvalue()


# --- stopped and repeated --------------------------------------------------------------------------------------------

LIFE = [
    row("1", "A", 3, 5),
    row("1", "POST", 1, 3),
    row("2", "A", 2, 6),
    row("3", "A", -2, 0, ""),
    row("4", "B2", 5, 0, "", name=""),
    row("5", "B2", 1, 4, ""),
    row("C6", "A", -4, 5),
    row("7", "A", 1, 0, 42),
    row("C8", "D", -1, 2),
    row("broken", "A", "x", 1),
]


def test_a_second_run_changes_nothing_at_all(replay: Replay, books: Books) -> None:
    first = replay(*LIFE)
    before = everything()
    second = replay(*LIFE)
    assert everything() == before
    assert second["done_now"] == 0
    same = ("done_now", "seconds")
    assert {k: v for k, v in first.items() if k not in same} == {k: v for k, v in second.items() if k not in same}
    assert books() == []


class Killed(BaseException):
    """The process ends here: nobody catches it."""


def summary(store: str) -> dict[str, list[str]]:
    """A store's books, without keys and without what depends on when things happened."""
    orders, lines = Order.objects.filter(store__code=store), OrderLine.objects.filter(order__store__code=store)
    shelf = {"stock_record__location__store__code": store}
    tables: dict[str, Any] = {
        "orders": orders.values_list("extra__invoice", "status", "total", "version"),
        "lines": lines.values_list("order__extra__invoice", "position", *OrderLine.COUNTERS),
        "stock": StockRecord.objects.filter(location__store__code=store).values_list(
            "product__sku", "on_hand", "allocated"
        ),
        "moves": StockMovement.objects.filter(**shelf).values_list("kind", "on_hand_delta", "allocated_delta"),
        "money": Payment.objects.filter(store__code=store).values_list("amount", "captured", "refunded"),
        "refunds": Refund.objects.filter(store__code=store).values_list("amount", "status"),
        "jobs": Job.objects.filter(store__code=store).values_list("kind", "state"),
        "users": orders.values_list("customer__last_name"),
    }
    return {name: sorted(map(str, rows)) for name, rows in tables.items()}


DOORS = ["record_payment", "start_preparing", "ship", "take_back", "refund"]


@pytest.mark.parametrize(
    "place", [pytest.param(door, marks=pytest.mark.thorough) for door in DOORS] + ["_work", "_finish"]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_books(
    replay: Replay, monkeypatch: pytest.MonkeyPatch, place: str, books: Books
) -> None:
    replay(*LIFE, store="never-stopped")
    owner: Any = doing.Replay if place.startswith("_") else doing.EventHandler
    original = getattr(owner, place)

    def die(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs) if place != "_finish" else None
        raise Killed(result)

    monkeypatch.setattr(owner, place, die)
    with pytest.raises(Killed):
        replay(*LIFE)
    monkeypatch.undo()
    report = replay(*LIFE)
    assert report["agrees"]
    assert books() == []
    assert summary("replay") == summary("never-stopped")


def test_a_file_that_has_grown_adds_what_is_new(replay: Replay, books: Books) -> None:
    replay(*LIFE)
    report = replay(*LIFE, row("9", "A", 4, 5), row("C10", "A", -1, 5))
    assert (report["done_now"], report["agrees"]) == (2, True)
    assert books() == []


def test_two_shops_are_kept_apart(replay: Replay, books: Books) -> None:
    replay(row("1", "A", 1, 5))
    assert replay(row("1", "A", 2, 5), store="other")["by_books"]["units"] == 2
    assert Order.objects.count() == 2
    assert Store.objects.get(code="other").currency == "GBP"
    assert books() == []


def test_a_shop_that_reviews_its_orders_has_them_approved(replay: Replay) -> None:
    Store.objects.create(code="replay", name="Replay", currency="GBP", reviews_orders=True)
    replay(row("1", "A", 1, 5))
    assert order_of("1").status == "shipped"


def test_a_refund_that_somebody_decides_is_left_to_them_and_the_difference_is_told(replay: Replay, system: Any) -> None:
    replay(row("1", "A", 2, 5))
    system.refund(number=order_of("1").number, amount=Decimal(1), note="Goodwill")
    replay(row("1", "A", 2, 5))
    assert Refund.objects.get().status == "waiting"


def test_books_that_do_not_hold_what_the_file_says_are_told(replay: Replay, system: Any) -> None:
    replay(row("1", "A", 2, 5))
    line = order_of("1").lines.get()
    system.take_back(number=order_of("1").number, lines={line.pk: (1, "sellable")})
    with pytest.raises(CommandError, match="do not hold what the file says"):
        replay(row("1", "A", 2, 5))


# --- the real thing --------------------------------------------------------------------------------------------------


def sample() -> Path | None:
    shared = Path(os.environ.get("ORDERDESK_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    path = shared / "data" / "online_retail.csv.gz"
    return path if path.exists() else None


@pytest.mark.slow
@pytest.mark.skipif(sample() is None, reason="the sample of real orders is not on this machine (ORDERDESK_SHARED)")
@pytest.mark.parametrize("count", [50, pytest.param(150, marks=pytest.mark.nightly)])
def test_the_first_real_invoices(count: int, tmp_path: Path, books: Books) -> None:
    lines, invoices = [], set()
    with gzip.open(sample() or "", "rt", encoding="utf-8") as file:
        for line in file:
            invoices.add(line.split(",", 1)[0])
            if len(invoices) > count:
                break
            lines.append(line)
    (tmp_path / "real.csv").write_text("".join(lines), encoding="utf-8")
    out = io.StringIO()
    call_command("replay_orders", tmp_path / "real.csv", json=True, stdout=out)
    report = json.loads(out.getvalue())
    money_in = sum(p.captured for p in Payment.objects.all())
    money_out = sum(p.refunded for p in Payment.objects.all())
    assert Decimal(report["by_file"]["money"]) == money_in - money_out
    assert report["agrees"]
    assert report["rejected"] == []
    assert books() == []
