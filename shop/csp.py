"""Content-Security-Policy of the admin and the API's page: they run only what the desk serves; nobody frames them."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

HEADER = "Content-Security-Policy"
RULES = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "frame-src": "'self'",
    "object-src": "'none'",
    "frame-ancestors": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}


def policy(**changed: str) -> str:
    """This will write the policy; rules that differ are given by name: `policy(style_src="'unsafe-inline'")`.

    Pictures may also come from where MEDIA_URL says that they are served.
    """
    media = urlsplit(settings.MEDIA_URL)
    elsewhere = f" {media.scheme}://{media.netloc}" if media.netloc else ""
    own = {name.replace("_", "-"): value for name, value in changed.items()}
    rules = RULES | {"img-src": RULES["img-src"] + elsewhere} | own
    return "; ".join(f"{name} {value}" for name, value in rules.items())


# A document in an iframe's srcdoc is bound by the policy of the page around it. A mail's styles stand inline, because
# mail programs read no others: a page that shows one sets this header itself, and its iframe is sandboxed.
MAIL_PREVIEW = policy(style_src="'self' 'unsafe-inline'")


class ContentSecurityPolicyMiddleware:
    """Sets the policy on every page of the admin, and on that of the API, unless it has set its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith((reverse("admin:index"), reverse("api-docs"))):
            response.headers.setdefault(HEADER, policy())
        return response
