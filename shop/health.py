"""Health for load balancers and people: answered before the host check, so that a probe by address works."""

from collections.abc import Callable

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from shop import jobs

LATE_AFTER_SECONDS = 120


class HealthMiddleware:
    """Answer /healthz (the process lives), /readyz (the database answers), /health/jobs (nothing waits unnoticed)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/healthz":
            return JsonResponse({"status": "ok"})
        if request.path == "/readyz":
            return self.ready()
        if request.path == "/health/jobs":
            return self.jobs()
        return self.get_response(request)

    def ready(self) -> JsonResponse:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError:
            return JsonResponse({"status": "the database does not answer"}, status=503)
        return JsonResponse({"status": "ok"})

    def jobs(self) -> JsonResponse:
        waiting = jobs.backlog(as_of=timezone.now())
        late = waiting.oldest_due_seconds > LATE_AFTER_SECONDS
        body = {
            "status": "late" if late else "ok",
            "due": waiting.due,
            "oldest_due_seconds": waiting.oldest_due_seconds,
            "needs_attention": waiting.needs_attention,
        }
        return JsonResponse(body, status=503 if late else 200)
