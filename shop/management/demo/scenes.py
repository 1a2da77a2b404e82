"""The demo's orders: who bought what and when, and what becomes of each."""

from __future__ import annotations

from dataclasses import dataclass

from shop.management.demo.data import ANNA, GRETE, JAMES


@dataclass(frozen=True, slots=True)
class Scene:
    """One order: who orders what and how, so many hours ago, and what becomes of it (names of Story's methods)."""

    key: str
    who: str
    lines: tuple[tuple[str, int], ...]
    ship: str
    pay: str
    hours: int
    steps: tuple[str, ...] = ()
    code: str = ""
    points: str = ""


PAID = ("approve", "prepare", "take")
SENT = (*PAID, "ship", "deliver")
SHORT = ("approve", "cancel_first")
BY_HAND = ("record", "approve", "cancel_by_staff")
UNREVIEWED = ("prepare", "ship", "deliver")
PICKED = ("approve", "prepare", "ready")
SCENES = [
    Scene("transfer-1", ANNA, (("KETTLE", 1), ("FILTER-100", 2)), "standard", "transfer", 3),
    Scene("transfer-2", GRETE, (("TRAY-OAK", 1),), "standard", "transfer", 9),
    Scene("declined", GRETE, (("LAMP", 1),), "express", "card", 2, ("decline",)),
    Scene("new-1", ANNA, (("MUG-BLUE", 4), ("TEA-DARJ", 2)), "standard", "card", 1),
    Scene("new-2", ANNA, (("COFFEE-ETH", 3), ("DRIPPER", 1)), "express", "card", 5, (), "WELCOME10"),
    Scene("new-cash", GRETE, (("TOWEL-2", 2),), "standard", "cash", 7),
    Scene("fraud", GRETE, (("CHAIR", 4),), "express", "card", 6, ("hold_fraud",)),
    Scene("approved-1", ANNA, (("GRINDER", 1),), "standard", "card", 20, ("approve",)),
    Scene("approved-2", GRETE, (("POT-2L", 1), ("TEA-SENCHA", 2)), "standard", "card-now", 26, ("approve",)),
    Scene("points", ANNA, (("TEA-SENCHA", 3),), "standard", "card-now", 23, ("approve",), points="5.00"),
    Scene("asked-1", ANNA, (("TOWEL-2", 1), ("MUG-RED", 2)), "standard", "card", 28, (*PAID, "ask_to_cancel")),
    Scene("approval", GRETE, (("GRINDER", 1),), "express", "card", 14, (*PAID, "ask_approval")),
    Scene("undoable", ANNA, (("LAMP", 1),), "standard", "card-now", 0, ("approve", "cancel_undoable")),
    Scene("preparing-1", GRETE, (("TEA-MINT", 5), ("HONEY", 1)), "standard", "card", 30, PAID),
    Scene("preparing-2", ANNA, (("CHAIR", 2),), "express", "card-now", 33, ("approve", "prepare", "hold_address")),
    Scene("partly", ANNA, (("MUG-BLUE", 2), ("CHAIR", 1)), "standard", "card", 40, (*PAID, "ship_first")),
    Scene("waiting", ANNA, (("POT-1L", 1),), "pickup", "card-now", 44, PICKED),
    Scene("collected", GRETE, (("MUG-RED", 2),), "pickup", "card-now", 70, (*PICKED, "hand_over")),
    Scene("shipped-1", ANNA, (("COFFEE-COL", 4),), "standard", "card", 50, (*PAID, "ship", "repeat_monthly")),
    Scene("shipped-cash", GRETE, (("DRIPPER", 2),), "standard", "cash", 54, ("approve", "prepare", "ship")),
    Scene("delivered-1", ANNA, (("KETTLE", 1), ("EBOOK-TEA", 1)), "express", "card", 96, SENT),
    Scene("returning", ANNA, (("LAMP", 1), ("TEA-DARJ", 1)), "standard", "card", 120, (*SENT, "ask_to_return")),
    Scene("sent-back", ANNA, (("MUG-RED", 2), ("DRIPPER", 1)), "standard", "card", 140, (*SENT, "send_back")),
    Scene("refunded", GRETE, (("GRINDER", 1),), "standard", "card", 170, (*SENT, "take_back")),
    Scene("goodwill", ANNA, (("TRAY-OAK", 2),), "standard", "card", 190, (*SENT, "refund_some")),
    Scene("cancelled-1", ANNA, (("POT-1L", 1),), "standard", "card", 60, ("cancel_by_customer",)),
    Scene("cancelled-2", GRETE, (("MUG-SAND", 1), ("MUG-BLUE", 1)), "standard", "card-now", 80, SHORT),
    Scene("refund-by-hand", GRETE, (("TOWEL-2", 3),), "standard", "transfer", 90, BY_HAND),
    Scene("london-1", JAMES, (("UK-POT-1L", 1), ("UK-TEA-EARL", 3)), "uk-standard", "card", 4),
    Scene("london-2", JAMES, (("UK-KETTLE", 1),), "uk-express", "card", 34, ("prepare", "take", "ship")),
    Scene("london-3", JAMES, (("UK-MUG-BLUE", 2), ("UK-HONEY", 2)), "uk-standard", "card-now", 130, UNREVIEWED),
    Scene("london-4", JAMES, (("UK-TEA-ASSAM", 2),), "uk-pickup", "cash", 12, ("prepare", "ready")),
]
