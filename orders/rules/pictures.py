"""Pictures that customers send: decoded within bounds, and made anew from their pixels."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from shop.errors import Invalid

MAX_BYTES = 5_000_000
# What a picture may claim. A JPEG is unpacked at a fraction of its size; the others have to be unpacked whole.
MAX_PIXELS = {"JPEG": 50_000_000, "PNG": 25_000_000, "WEBP": 25_000_000}
# What may be unpacked of it: a long strip of a JPEG is not made smaller.
MAX_UNPACKED = 25_000_000
# Enough to see a scratch; the longer side.
KEPT_PIXELS = 1600
QUALITY = 82


class BadPicture(Invalid):
    code = "bad_picture"
    message = _("This is not a picture that can be read. Send a JPEG, PNG or WebP.")


class PictureTooLarge(Invalid):
    code = "picture_too_large"
    message = _("This picture is too large: send a smaller one, of at most 5 MB and 25 megapixels.")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it is kept: JPEG, without anything that came with it (place, camera, hidden data)."""

    content: bytes
    width: int
    height: int


def read_picture(text: str) -> Picture:
    """This will decode a base64 picture (a data: address too) and paint it anew. Raises BadPicture, PictureTooLarge.

    The size that the file claims is looked at before a pixel is unpacked, so that a small file that unpacks to
    gigabytes costs nothing.
    """
    text = text.strip()
    if text.startswith("data:"):
        text = text.partition(",")[2]
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise PictureTooLarge
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadPicture from None
    try:
        # Pillow warns of what it takes for a bomb before it refuses it; here the bound is our own.
        with warnings.catch_warnings(), no_half_pictures():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw), formats=tuple(MAX_PIXELS)) as image:
                # Several pictures in one JPEG, as some cameras make them, have a format of their own; the first counts.
                if image.width * image.height > MAX_PIXELS.get(image.format or "", MAX_PIXELS["JPEG"]):
                    raise PictureTooLarge
                return _painted(image)
    except Image.DecompressionBombError:
        raise PictureTooLarge from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise BadPicture from None


@contextmanager
def no_half_pictures() -> Iterator[None]:
    """WeasyPrint, where it is loaded, has Pillow take files that are cut off; here they are refused all the same."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _painted(image: Image.Image) -> Picture:
    image.draft("RGB", (KEPT_PIXELS, KEPT_PIXELS))
    if image.width * image.height > MAX_UNPACKED:
        raise PictureTooLarge
    upright = ImageOps.exif_transpose(image)
    upright.thumbnail((KEPT_PIXELS, KEPT_PIXELS))
    canvas = Image.new("RGB", upright.size, "white")
    plain = upright.convert("RGBA")
    canvas.paste(plain, mask=plain.getchannel("A"))
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=QUALITY)
    return Picture(out.getvalue(), canvas.width, canvas.height)
