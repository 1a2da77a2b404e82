"""Pictures of products, which are files and everybody's to see, where no web server or object store serves them.

Customers' own pictures are no files: they are rows, shown by orders.api.pictures to their owner and to staff.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import condition, require_safe

# The folder that Product.image is kept in. Whatever else lies beside it is not served.
FOLDER = "products"
# What an upload may be; the name says the type, as the browser is told not to look for itself.
TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
# A name is never written to twice, but it may be free again after its file was deleted.
KEPT_SECONDS = 24 * 3600


def _kind(name: str) -> str | None:
    """The type of a picture of this name; None for what is none, or would lead out of the folder."""
    path = PurePosixPath(name)
    return None if ".." in path.parts or path.is_absolute() else TYPES.get(path.suffix.lower())


def _changed_at(request: HttpRequest, name: str) -> datetime | None:
    try:
        found = default_storage.get_modified_time(f"{FOLDER}/{name}") if _kind(name) else None
    except (OSError, SuspiciousFileOperation, ValueError, NotImplementedError):
        return None
    return found if found is None or timezone.is_aware(found) else found.replace(tzinfo=UTC)


@require_safe
@condition(last_modified_func=_changed_at)
def product_picture(request: HttpRequest, name: str) -> HttpResponseBase:
    """GET /media/products/{name}: a JPEG, PNG or WebP of the storage's folder for products; 404 for all else."""
    kind = _kind(name)
    if kind is None:
        raise Http404
    try:
        file = default_storage.open(f"{FOLDER}/{name}")
    except (OSError, SuspiciousFileOperation, ValueError):
        raise Http404 from None
    answer = FileResponse(file, filename=PurePosixPath(name).name, content_type=kind)
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer["Cache-Control"] = f"public, max-age={KEPT_SECONDS}"
    return answer
