"""What continuous integration (CI=true) tries all of, and other runs a part."""

import os
from collections.abc import Iterable
from typing import Any

import pytest


def examples(count: int) -> int:
    """How many examples Hypothesis makes up: elsewhere a third of them."""
    return count if os.environ.get("CI") else max(5, count // 3)


def mainly(value: Any, values: Iterable[Any]) -> list[Any]:
    """All values for `parametrize`; all but the one named are marked thorough."""
    return [one if one == value else pytest.param(one, marks=pytest.mark.thorough) for one in values]
