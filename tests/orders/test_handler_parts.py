"""The event handler is one class made of many parts, which must not hide one another's names."""

from __future__ import annotations

import inspect
import itertools

import pytest

from orders.processing import EventHandler

pytestmark = pytest.mark.django_db


def test_no_part_of_the_handler_hides_a_private_name_of_another() -> None:
    """Two mixins that name a helper alike would silently call each other's; one that extends says super()."""
    for name in {name for part in EventHandler.__mro__ for name in vars(part) if name.startswith("_")}:
        if name.startswith("__"):
            continue
        having = [part for part in EventHandler.__mro__ if name in vars(part)]
        for nearer, further in itertools.pairwise(having):
            extends = callable(vars(nearer)[name]) and f"super().{name}(" in inspect.getsource(vars(nearer)[name])
            words = f"{nearer.__name__} and {further.__name__} both have {name}"
            assert issubclass(nearer, further) or (extends and issubclass(nearer, having[-1])), words
