"""What the demo's shop has: stores, products, ways to ship and pay, people and their credit."""

from __future__ import annotations

from typing import Any

from payments.models import CreditAccount
from shop.roles import ADMIN, FULFILMENT, MANAGER, SERVICE

PASSWORD = "demo"  # noqa: S105 - of a desk that refuses to be anything but a demo
BERLIN, LONDON = "berlin", "london"
ANNA, JAMES, GRETE = "anna@example.com", "james@example.com", "grete@example.com"
STORES: dict[str, dict[str, Any]] = {
    BERLIN: {
        "name": "Lindenhof Berlin",
        "currency": "EUR",
        "country": "DE",
        "email": "shop@lindenhof.example",
        "address": "Lindenhof Versand\nOranienstraße 25\n10999 Berlin\nGermany",
    },
    LONDON: {
        "name": "Lindenhof London",
        "currency": "GBP",
        "country": "GB",
        "reviews_orders": False,
        "email": "hello@lindenhof.example",
        "address": "Lindenhof London\n12 Columbia Road\nLondon E2 7NN\nUnited Kingdom",
    },
}
# Code, name, store, priority.
LOCATIONS = [
    ("berlin-warehouse", "Warehouse Marzahn", BERLIN, 0),
    ("berlin-shop", "Shop Oranienstraße", BERLIN, 10),
    ("london-warehouse", "Warehouse Bermondsey", LONDON, 0),
]
# SKU, name, price, tax rate, units (None: stock is not tracked), attributes.
PRODUCTS: dict[str, list[tuple[str, str, str, str, int | None, dict[str, str]]]] = {
    BERLIN: [
        ("MUG-BLUE", "Stoneware mug", "14.90", "19", 60, {"Colour": "Blue"}),
        ("MUG-RED", "Stoneware mug", "14.90", "19", 45, {"Colour": "Red"}),
        ("MUG-SAND", "Stoneware mug", "14.90", "19", 3, {"Colour": "Sand"}),
        ("POT-1L", "Tea pot, cast iron", "49.00", "19", 18, {"Volume": "1 l"}),
        ("POT-2L", "Tea pot, cast iron", "64.00", "19", 9, {"Volume": "2 l"}),
        ("KETTLE", "Gooseneck kettle", "79.50", "19", 12, {}),
        ("GRINDER", "Coffee grinder by hand", "89.00", "19", 14, {}),
        ("DRIPPER", "Porcelain dripper", "24.90", "19", 40, {}),
        ("FILTER-100", "Paper filters, 100 pieces", "6.90", "19", 200, {}),
        ("TEA-DARJ", "Darjeeling first flush, 100 g", "11.80", "7", 80, {}),
        ("TEA-SENCHA", "Sencha, 100 g", "9.40", "7", 75, {}),
        ("TEA-MINT", "Peppermint, 50 g", "4.20", "7", 120, {}),
        ("COFFEE-ETH", "Coffee from Ethiopia, 250 g", "12.50", "7", 64, {}),
        ("COFFEE-COL", "Coffee from Colombia, 250 g", "11.90", "7", 58, {}),
        ("HONEY", "Linden honey, 500 g", "8.90", "7", 2, {}),
        ("TRAY-OAK", "Oak tray", "39.00", "19", 11, {}),
        ("TOWEL-2", "Linen towels, set of two", "22.00", "19", 34, {}),
        ("LAMP", "Reading lamp", "119.00", "19", 6, {}),
        ("CHAIR", "Oak chair", "249.00", "19", 8, {}),
        ("EBOOK-TEA", "The tea book (e-book)", "9.99", "7", None, {"Format": "EPUB"}),
        ("GIFT-25", "Gift card", "25.00", "0", None, {"Value": "€25"}),
    ],
    LONDON: [
        ("UK-MUG-BLUE", "Stoneware mug", "13.50", "20", 40, {"Colour": "Blue"}),
        ("UK-MUG-SAND", "Stoneware mug", "13.50", "20", 25, {"Colour": "Sand"}),
        ("UK-POT-1L", "Tea pot, cast iron", "45.00", "20", 10, {"Volume": "1 l"}),
        ("UK-KETTLE", "Gooseneck kettle", "69.00", "20", 7, {}),
        ("UK-TEA-EARL", "Earl Grey, 100 g", "8.20", "0", 90, {}),
        ("UK-TEA-ASSAM", "Assam, 100 g", "7.90", "0", 4, {}),
        ("UK-HONEY", "Heather honey, 340 g", "6.80", "0", 30, {}),
        ("UK-TRAY", "Oak tray", "36.00", "20", 9, {}),
        ("UK-EBOOK", "The tea book (e-book)", "8.99", "0", None, {"Format": "EPUB"}),
    ],
}
LOW_BELOW = 5
# Code, name, store, price, free from, carrier, tracking address, pickup.
SHIPPING = [
    ("standard", "Standard", BERLIN, "4.90", "60", "DHL", "https://carrier.example/dhl/{number}", False),
    ("express", "Express", BERLIN, "12.90", None, "DHL Express", "https://carrier.example/express/{number}", False),
    ("pickup", "Pickup at Oranienstraße", BERLIN, "0", None, "", "", True),
    ("uk-standard", "Standard", LONDON, "3.95", "50", "Royal Mail", "https://carrier.example/rm/{number}", False),
    ("uk-express", "Express", LONDON, "9.95", None, "DPD", "https://carrier.example/dpd/{number}", False),
    ("uk-pickup", "Pickup at Columbia Road", LONDON, "0", None, "", "", True),
]
PAYMENT: list[tuple[str, str, dict[str, Any]]] = [
    ("card", "Card, charged when it ships", {"gateway": "demo"}),
    ("card-now", "Card, charged at once", {"gateway": "demo", "capture_mode": "at_placement"}),
    (
        "transfer",
        "Bank transfer",
        {"gateway": "manual", "instructions": "Please transfer the total to IBAN DE02 1203 0000 0000 2020 51."},
    ),
    ("cash", "Cash on delivery", {"gateway": "manual", "pays_on_delivery": True}),
]
# Username, first and last name, role, stores, and what they do here.
STAFF = [
    ("admin", "Alex", "Brandt", ADMIN, [], "everything"),
    ("manager", "Mira", "Keller", MANAGER, [BERLIN], "Berlin: orders, stock, money, approvals"),
    ("manager-london", "Noah", "Hughes", MANAGER, [LONDON], "London: the same"),
    ("fulfilment", "Frida", "Nowak", FULFILMENT, [BERLIN], "Berlin: prepares, ships, takes back"),
    ("service", "Samir", "Yilmaz", SERVICE, [], "all stores: cancels, re-addresses, answers customers"),
]
# E-mail, first and last name, language, address.
CUSTOMERS = [
    (
        ANNA,
        "Anna",
        "Schmidt",
        "de",
        {"line": "Sonnenallee 114", "postcode": "12045", "city": "Berlin", "country": "DE", "phone": "+49 30 1234567"},
    ),
    (
        JAMES,
        "James",
        "Carter",
        "en",
        {"line": "8 Mare Street", "postcode": "E8 4RP", "city": "London", "country": "GB", "phone": "+44 20 7946 0018"},
    ),
]
# Whose, kind, amount, days until it expires (None: never), and what for.
CREDIT: list[tuple[str, CreditAccount.Kind, str, int | None, str]] = [
    (ANNA, CreditAccount.Kind.LOYALTY, "12.50", 365, "Points of last year's orders"),
    (ANNA, CreditAccount.Kind.LOYALTY, "3.00", 20, "Birthday points"),
    (ANNA, CreditAccount.Kind.STORE_CREDIT, "20.00", None, "For the kettle that came late"),
]
# Grete has no account.
GUEST = {
    "first_name": "Grete",
    "last_name": "Vogel",
    "line": "Lange Reihe 7",
    "postcode": "20099",
    "city": "Hamburg",
    "country": "DE",
}
