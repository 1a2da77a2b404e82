"""Pictures of products: everybody sees them without a web server in front, and nothing else of the storage."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.test import Client
from PIL import Image

from inventory.models import Product
from shop.csp import policy
from shop.env import media_address
from shop.models import Store
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def media(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    (tmp_path / "media" / "products").mkdir(parents=True)
    return settings.MEDIA_ROOT  # type: ignore[no-any-return]


def test_a_products_picture_is_shown_to_everybody_and_kept_by_browsers(
    client: Client, store: Store, media: Path
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    product: Product = factories.stocked(store)
    product.image.save("Blue mug ü.png", ContentFile(out.getvalue()))
    assert product.image.url in client.get("/shop/").content.decode()
    answer = client.get(product.image.url)
    assert (answer.status_code, b"".join(answer.streaming_content)) == (200, out.getvalue())  # type: ignore[attr-defined]
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"].startswith("inline")
    assert "sandbox" in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "public, max-age=86400"
    assert "Cookie" not in answer.get("Vary", "")
    again = client.get(product.image.url, headers={"If-Modified-Since": answer["Last-Modified"]})
    assert again.status_code == 304
    assert client.post(product.image.url).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "products/evil.svg",
        "products/evil.html",
        "products/none.png",
        "products/../secret.png",
        "products/%2e%2e/secret.png",
        "products//etc/x.png",
        "products/a%00.png",
        "secret.png",
        "",
    ],
)
def test_nothing_else_is_served(client: Client, media: Path, path: str) -> None:
    for name in ("products/evil.svg", "products/evil.html", "secret.png"):
        (media / name).write_text("<script>alert(1)</script>")
    (media / "products" / "folder.png").mkdir()
    assert client.get("/media/products/folder.png").status_code == 404
    for headers in ({}, {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}):
        assert client.get(f"/media/{path}", headers=headers).status_code == 404, path


def test_pictures_may_come_from_elsewhere(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "img-src 'self' data:;" in policy()
    monkeypatch.setenv("MEDIA_URL", "https://cdn.example.com/shop")
    settings.MEDIA_URL = media_address("MEDIA_URL", "media/")
    assert settings.MEDIA_URL == "https://cdn.example.com/shop/"
    assert "img-src 'self' data: https://cdn.example.com;" in policy()
    monkeypatch.setenv("MEDIA_URL", "//cdn.example.com")
    with pytest.raises(ImproperlyConfigured):
        media_address("MEDIA_URL", "media/")
