"""The Django project and the kernel every app stands on."""

# Celery's own rule: the app must exist as soon as Django does, or a task would bind to a default app.
from shop.celery import app as celery_app

__all__ = ["celery_app"]
