"""Card numbers, which the desk must neither keep nor show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# 13 to 19 digits, perhaps in groups, that begin as the numbers of card networks do (ISO/IEC 7812).
CARD = re.compile(r"(?<!\d)[2-6](?:[ -]?\d){12,18}(?!\d)")
# What gateways name their things by: one of 400 has digits in it that pass for a card's.
UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=\d*[a-f])[0-9a-f]{32}\b", re.IGNORECASE)


def holds_card_number(details: object) -> bool:
    """Whether anything in it, but for UUIDs, looks like a full card number: it passes the Luhn check as well."""
    candidates = CARD.findall(UUID.sub("", str(details)))
    return any(_passes_luhn([int(c) for c in found if c.isdigit()]) for found in candidates)


def without_card_numbers(value: Any) -> Any:
    """What somebody outside sent, as it may be kept: what looks like a full card number leaves its last four digits.

    Null characters and halves of characters, which PostgreSQL cannot store, become question marks: a notice that could
    not be kept would be lost.
    """
    if isinstance(value, Mapping):
        return {_storable(name): without_card_numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_card_numbers(part) for part in value]
    if isinstance(value, str):
        value = _storable(value)
    elif type(value) is not int:
        return value
    return f"•••• {str(value)[-4:]}" if holds_card_number(value) else value


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\x00", "?")


def _passes_luhn(digits: list[int]) -> bool:
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
