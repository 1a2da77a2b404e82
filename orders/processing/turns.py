"""Turns: whoever counts the same thing at the same moment waits for the other, until its transaction has ended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from django.db import connection

# Of this use alone: other advisory locks of the database have another first number. What is locked before an order has
# one of its own: sharing a slot, one who has the order and one who wants it would wait for each other.
SPACE, SPACE_BEFORE_ORDERS = 0x0DE5, 0x0DE6
# Each lock takes a place in the server's memory, which has 6400 as it is delivered: a run of 10 000 customers must fit.
SLOTS = 1024
ALONE = "SELECT pg_advisory_xact_lock(%s, number) FROM unnest(%s::int[]) WITH ORDINALITY AS turn (number, place)"
SHARED = ALONE.replace("xact_lock", "xact_lock_shared")


def take_turns(keys: Iterable[str], *, before_orders: bool = False, shared: bool = False) -> None:
    """This will lock names, which need no row of their own, until the transaction ends; all of them in one order.

    Two names may share a lock, by chance: then they wait for one another for nothing. On SQLite there is nothing to do,
    for its transactions are IMMEDIATE: it is one after the other already. The order is locked before, or none is yet
    (before_orders). Those who count nothing anew (shared) wait for those who do, and these for them, but not for one
    another.
    """
    numbers = sorted({_number(key) for key in keys})
    if not numbers or connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        # In the order of the array, so that two who want the same ones never wait for one another.
        cursor.execute(
            SHARED if shared else ALONE,
            [SPACE_BEFORE_ORDERS if before_orders else SPACE, numbers],
        )


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big", signed=False) % SLOTS
