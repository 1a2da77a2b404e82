"""Environment variables, read once and refused by name when they are wrong."""

import re
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

DATABASE_HINT = "sqlite:////var/lib/orderdesk/desk.sqlite3 or postgres://user:password@host:5432/name"
BROKER_HINT = "filesystem://, redis://host:6379/0 or amqp://user:password@host:5672//"


def refuse(name: str, value: str, expected: str) -> ImproperlyConfigured:
    """Build the one error a wrong setting ends in: its name, what it is, what it should look like."""
    shown = re.sub(r"(://[^:/@]*:)[^@]*@", r"\1…@", value)
    return ImproperlyConfigured(f"{name} is {shown!r}, but should look like {expected}.")


def flag(name: str, default: bool) -> bool:
    """Read a yes/no variable; anything but the usual words is refused."""
    value = env.str(name, default="yes" if default else "no").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    raise refuse(name, value, "yes or no")


def whole_number(name: str, default: int, *, least: int = 0) -> int:
    """Read a whole number of at least `least`."""
    value = env.str(name, default=str(default)).strip()
    if not (value.isascii() and value.isdigit()) or int(value) < least:
        raise refuse(name, value, f"a whole number of at least {least}")
    return int(value)


def web_address(name: str, default: str) -> str:
    """Read an http(s) address, without its trailing slash."""
    value = env.str(name, default=default).strip().rstrip("/")
    parts = urlsplit(value)
    try:
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:  # a port that is no port
        usable = False
    if not usable:
        raise refuse(name, value, "https://desk.example.com")
    return value


def media_address(name: str, default: str) -> str:
    """Read where files are served: a path of this site, or an http(s) address elsewhere; with its trailing slash.

    The default is taken as it is: without a slash in front it lies below wherever the desk itself is served.
    """
    value = env.str(name, default="").strip()
    if not value:
        return default
    if value.startswith("/") and not value.startswith("//"):
        return value.rstrip("/") + "/"
    return web_address(name, "") + "/"


def database(name: str, *, default_file: Path) -> dict[str, Any]:
    """Read a database address and add what makes it safe for many writers.

    SQLite: WAL, IMMEDIATE transactions (a transaction takes the write lock when it begins, so what a guard
    read cannot change under it) and synchronous=FULL (a committed order survives a power cut).
    """
    value = env.str(name, default=f"sqlite:///{default_file}").strip()
    if urlsplit(value).scheme not in {"sqlite", "postgres", "postgresql"}:
        raise refuse(name, value, DATABASE_HINT)
    try:
        config: dict[str, Any] = dict(environ.Env.db_url_config(value))
    except (ValueError, ImproperlyConfigured) as error:
        raise refuse(name, value, DATABASE_HINT) from error
    if not config.get("NAME"):
        raise refuse(name, value, DATABASE_HINT)
    if config["ENGINE"].endswith("sqlite3"):
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=ON;",
        }
        if config["NAME"] != ":memory:":
            Path(config["NAME"]).parent.mkdir(parents=True, exist_ok=True)
        # Tests race threads against each other, which an in-memory database cannot show.
        config["TEST"] = {"NAME": str(default_file.with_name("test.sqlite3"))}
    else:
        config["CONN_MAX_AGE"] = 60
        config["CONN_HEALTH_CHECKS"] = True
    return config


def broker(name: str, *, folder: Path) -> tuple[str, dict[str, Any]]:
    """Read the Celery broker's address; the default is a folder, so that one machine needs no server.

    Returns the address and kombu's transport options for it.
    """
    value = env.str(name, default="filesystem://").strip()
    scheme = urlsplit(value).scheme
    if scheme not in {"filesystem", "redis", "rediss", "amqp", "amqps", "memory"}:
        raise refuse(name, value, BROKER_HINT)
    if scheme == "filesystem":
        queue, processed, control = folder / "queue", folder / "processed", folder / "control"
        for path in (queue, processed, control):
            path.mkdir(parents=True, exist_ok=True)
        return value, {
            "data_folder_in": str(queue),
            "data_folder_out": str(queue),
            "processed_folder": str(processed),
            "control_folder": str(control),
            "store_processed": False,
        }
    if scheme in {"redis", "rediss"}:
        # Nothing depends on redelivery (the Job row is the truth); this only bounds how long a dead worker's
        # wake-ups linger.
        return value, {"visibility_timeout": 600}
    return value, {}


def one_of(name: str, default: str, choices: list[str]) -> str:
    """Read one of a few words."""
    value = env.str(name, default=default).strip()
    if value not in choices:
        raise refuse(name, value, " or ".join(choices))
    return value


def folders(name: str) -> list[Path]:
    """Read folders, comma-separated; each must be there."""
    found = [Path(folder) for folder in env.list(name, default=[])]
    missing = next((folder for folder in found if not folder.is_dir()), None)
    if missing is not None:
        raise refuse(name, str(missing), "folders that exist, comma-separated")
    return found


def cache(name: str, *, folder: Path) -> dict[str, Any]:
    """Read a cache's address; the default is a folder, which the processes of one machine share."""
    value = env.str(name, default=f"filecache://{folder}").strip()
    try:
        return dict(environ.Env.cache_url_config(value))
    except (ValueError, KeyError, ImproperlyConfigured) as error:
        raise refuse(name, value, "redis://host:6379/1 or filecache:///var/cache/orderdesk") from error


def mail_server(name: str) -> dict[str, Any]:
    """Read a mail server's address."""
    value = env.str(name, default="").strip()
    try:
        return dict(environ.Env.email_url_config(value))
    except (ValueError, KeyError, ImproperlyConfigured) as error:
        raise refuse(name, value, "smtp+tls://user:password@mail.example.com:587") from error


def sender(name: str, default: str) -> str:
    """Read who mails come from."""
    value = env.str(name, default=default).strip()
    if "@" not in parseaddr(value)[1]:
        raise refuse(name, value, "Our Shop <orders@example.com>")
    return value
