"""Pictures that customers send with a return: read within bounds, painted anew, seen by whom they concern."""

from __future__ import annotations

import base64
import io
import struct
import tracemalloc
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from PIL import Image

from orders.models import CancellationReason, CancellationRequest, Order, RequestPicture
from orders.rules import Picture, read_picture
from orders.rules.pictures import BadPicture, PictureTooLarge
from shop.models import Store, User
from tests import factories
from tests.orders.storefront import Browser, assert_errors, new_customer
from tests.orders.test_bad_input import logged_in

RED, BLUE = (200, 10, 10), (10, 10, 200)


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def file_of(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def small(kind: str = "PNG") -> str:
    return base64_of(file_of(Image.new("RGB", (40, 20), RED), kind))


def opened(picture: Picture) -> Image.Image:
    image = Image.open(io.BytesIO(picture.content))
    image.load()
    return image


def png_of(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of a bit per pixel, with this as its compressed pixels, whatever it claims."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# ---------------------------------------------------------------------------------------------------------------
# What is kept of a picture


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_painted_anew_as_a_jpeg(kind: str) -> None:
    text = small(kind)
    for given in (text, f"data:image/{kind.lower()};base64,{text}"):
        picture = read_picture(given)
        assert (picture.width, picture.height) == (40, 20)
        assert opened(picture).format == "JPEG"


def test_what_came_with_a_picture_is_not_kept_and_it_stands_upright() -> None:
    """A telephone writes into it how it was held, where, and by whom."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (0, 0, 20, 20))  # blue on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    exif[0x013B] = "Ada Lovelace"
    exif.get_ifd(0x8825)[1] = "N"
    raw = file_of(image, "JPEG", exif=exif, comment=b"secret comment", quality=95)
    picture = read_picture(base64_of(raw))
    seen = opened(picture)
    assert seen.size == (20, 40)
    red, _green, blue = seen.getpixel((10, 5))  # type: ignore[misc]
    assert blue > red, "what was on the left is on top"
    assert not seen.getexif()
    assert b"Ada" not in picture.content
    assert b"secret" not in picture.content
    assert b"Exif" not in picture.content


def test_a_picture_of_any_colours_is_read_and_a_large_one_made_smaller() -> None:
    for mode, kind in (("RGBA", "PNG"), ("P", "PNG"), ("L", "PNG"), ("1", "PNG"), ("I;16", "PNG"), ("CMYK", "JPEG")):
        assert read_picture(base64_of(file_of(Image.new(mode, (30, 30)), kind))).width == 30, mode
    large = read_picture(base64_of(file_of(Image.new("RGB", (6000, 4000), RED), "JPEG")))
    assert (large.width, large.height) == (1600, 1067)
    # Some cameras put a second picture into the file: it is a JPEG all the same.
    first, second = Image.new("RGB", (30, 20), RED), Image.new("RGB", (30, 20), BLUE)
    both = file_of(first, "MPO", save_all=True, append_images=[second])
    assert read_picture(base64_of(both)).width == 30


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not a picture",
        b"\x89PNG\r\n\x1a\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        file_of(Image.new("RGB", (9, 9)), "GIF"),
        file_of(Image.new("RGB", (9, 9)), "BMP"),
        file_of(Image.new("RGB", (90, 90), RED), "JPEG")[:400],
        png_of(9, 9, b"no pixels at all"),
    ],
    ids=["empty", "text", "cut off", "svg", "gif", "bmp", "half a jpeg", "broken png"],
)
def test_what_is_no_picture_is_refused(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # As WeasyPrint sets it for the whole process.
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(BadPicture):
        read_picture(base64_of(raw))
    with pytest.raises(BadPicture):
        read_picture("not base64 either: ü")


def test_a_small_file_that_unpacks_to_gigabytes_costs_nothing() -> None:
    """One that claims it, one that does it (a strip of a JPEG, too long to be made smaller), and a long file."""
    bomb = png_of(60_000, 60_000, zlib.compress(bytes(7501 * 1000)))
    row = bytes(1 + 5100 // 8 + 1)
    real = png_of(5100, 5000, zlib.compress(row * 5000, 9))
    strip = file_of(Image.new("L", (60_000, 800)), "JPEG")
    assert max(len(bomb), len(real)) < 30_000
    tracemalloc.start()
    for raw in (bomb, real, strip, bytes(5_000_100)):
        with pytest.raises(PictureTooLarge):
            read_picture(base64_of(raw))
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60_000_000


# ---------------------------------------------------------------------------------------------------------------
# Sent with a request, and seen


@pytest.fixture
def customer() -> User:
    return new_customer()


def wish(order: Order, *pictures: str, kind: str = "refund") -> dict[str, Any]:
    return {
        "order_item": str(order.lines.get().pk),
        "cancellation_type": kind,
        "reason": str(CancellationReason.objects.get(code="arrived_damaged").pk),
        "description": "a crack",
        "cancellation_request_image_set": [{"image": picture} for picture in pictures],
    }


@pytest.mark.django_db
def test_a_picture_is_seen_by_its_customer_and_by_staff_of_the_store_alone(
    customer: User, store: Store, staff: Callable[..., User]
) -> None:
    order = factories.place_order(store=store, customer=customer, until="delivered")
    browser = Browser(customer)
    answer = browser.cancel(order, wish(order, small("JPEG"), small("WEBP")))
    assert answer.status_code == 200, answer.content
    paths = [one["image"] for one in answer.json()[0]["cancellation_request_image_set"]]
    assert len(paths) == RequestPicture.objects.count() == 2
    shown = browser.get(f"/users/orders/{order.pk}/").json()["orderitem_set"][0]["active_cancellation_request"]
    assert [one["image"] for one in shown["cancellation_request_image_set"]] == paths
    for who in (browser, logged_in(staff("Customer Service")), logged_in(staff("Store Manager", store))):
        seen = who.get(paths[0])
        assert (seen.status_code, seen["Content-Type"]) == (200, "image/jpeg")
        assert seen["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in seen["Cache-Control"]
        assert Image.open(io.BytesIO(seen.content)).size == (40, 20)
    for user in (new_customer(), staff("Store Manager", factories.StoreFactory())):
        assert_errors(logged_in(user).get(paths[0]), 404)
    assert browser.get(f"/users/orders/pictures/{uuid.uuid4()}/").status_code == 404
    assert_errors(Browser().get(paths[0]), 401)


@pytest.mark.django_db
def test_too_many_and_bad_pictures_are_refused_by_their_place_and_nothing_happens(customer: User) -> None:
    order = factories.place_order(customer=customer, until="delivered")
    browser, most = Browser(customer), settings.CANCELLATION_REQUEST_MAX_IMAGE_COUNT_PER_ORDER_ITEM
    place = "cancel_order_items.0.cancellation_request_image_set"
    many = assert_errors(browser.cancel(order, wish(order, *[small()] * (most + 1))), 400)
    assert many[place] == ["At most 5 pictures can be attached."]
    bad = assert_errors(browser.cancel(order, wish(order, small(), "eHl6")), 400)
    assert bad[f"{place}.1.image"] == ["This is not a picture that can be read. Send a JPEG, PNG or WebP."]
    assert not CancellationRequest.objects.exists()
    # Five large ones make a body that no other door would take.
    noise = base64_of(file_of(Image.effect_noise((2000, 1500), 90), "PNG"))
    assert len(noise) * most > 9_000_000
    answer = browser.cancel(order, wish(order, *[noise] * most))
    assert answer.status_code == 200, answer.content
    assert RequestPicture.objects.count() == most
