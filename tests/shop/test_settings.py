"""A bad setting is refused at start, by its name and with what it should look like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", "mysql://desk@localhost/desk", "postgres://"),
        ("DATABASE_URL", "nonsense", "sqlite:///"),
        ("CELERY_BROKER_URL", "kafka://localhost", "redis://"),
        ("DEBUG", "maybe", "yes or no"),
        ("SITE_URL", "localhost", "https://"),
        ("ORDER_UNPAID_AFTER_MINUTES", "soon", "whole number"),
        ("ORDER_STATUS_STYLE", "emoji", "name or code"),
        ("ORDER_WORKFLOWS", "nowhere.Workflow", "cannot be imported"),
        ("EMAIL_URL", "nonsense", "smtp+tls://"),
        ("CACHE_URL", "nonsense", "redis://"),
        ("LOG_LEVEL", "LOUD", "INFO"),
        ("NUM_PROXIES", "²", "whole number"),
        ("ALLOWED_HOSTS", "", "desk.example.com"),
        ("SHOP_TEMPLATES_DIR", "/nowhere", "folders that exist"),
        ("DEFAULT_FROM_EMAIL", "nobody", "@"),
        ("SITE_URL", "http://localhost:99999", "https://"),
        ("ORDER_EVENT_HANDLER", "nowhere.Handler", "nowhere"),
    ],
)
def test_a_bad_setting_is_refused_with_its_name(name: str, value: str, expected: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DEMO": "yes", "VAR_DIR": str(tmp_path), name: value}
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert name in done.stderr
    assert expected in done.stderr


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DEMO": "yes",
        "VAR_DIR": str(tmp_path),
        "DATABASE_URL": "mysql://desk:geheim@localhost/x",
    }
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=240)
    assert "geheim" not in done.stderr.splitlines()[-1]


def test_without_a_secret_key_nothing_starts_outside_the_demo(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {"DEMO", "DEBUG", "SECRET_KEY"}}
    command = [sys.executable, "manage.py", "check"]
    environment["VAR_DIR"] = str(tmp_path)
    done = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "SECRET_KEY" in done.stderr
