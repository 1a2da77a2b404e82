"""The Celery app. A task is only a wake-up: what there is to do stands in Job rows (shop/jobs.py)."""

import gc
import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("orderdesk")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def keep_what_is_loaded(**_signal: Any) -> None:
    """This will spare the garbage collector to go through all loaded code again and again: a tenth of a bulk part."""
    gc.freeze()
