"""The session under two cookie names: Django's own, and the one that the storefront's client reads and sends."""

from __future__ import annotations

from http.cookies import Morsel

from django.conf import settings
from django.contrib.sessions import middleware
from django.http import HttpRequest, HttpResponse

SECOND_NAME = "osessionid"


class SessionMiddleware(middleware.SessionMiddleware):
    """Django's, in whose place it stands: what it does with the one cookie, the other gets as well."""

    def process_request(self, request: HttpRequest) -> None:
        name = settings.SESSION_COOKIE_NAME
        first, second = request.COOKIES.get(name), request.COOKIES.get(SECOND_NAME)
        # Either will do. Where they differ, one of them is left over from a session that has ended.
        if second and second != first and not (first and self.SessionStore(first).load()):
            request.COOKIES[name] = second
        super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        answered = super().process_response(request, response)
        cookie: Morsel[str] | None = answered.cookies.get(settings.SESSION_COOKIE_NAME)
        if cookie is not None:
            answered.cookies[SECOND_NAME] = cookie.value
            answered.cookies[SECOND_NAME].update(cookie)
        return answered
