"""What the storefront's templates need of Python: a product's tile, where it has no picture."""

from __future__ import annotations

from zlib import crc32

from django import template

register = template.Library()

# As many colours as store.css has.
TILES = 8


@register.filter
def tile(sku: str) -> str:
    """This will give a product the same one of the tiles' colours always: `class="tile {{ product.sku|tile }}"`."""
    return f"tile-{crc32(str(sku).encode()) % TILES}"


@register.filter
def initials(name: str) -> str:
    """This will write the first letters of a name's first two words: “Stoneware mug” is SM."""
    words = [word for word in str(name).split() if word[:1].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "·"
