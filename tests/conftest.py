"""Fixtures every test may use: people, stores, a broker in memory, mail in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Barrier, Thread
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import connection

from orders.models import CancellationReason, Order
from orders.processing import EventHandler, get_event_handler
from orders.processing.verify import verify
from shop import jobs
from shop.actors import Actor
from shop.models import Store, User
from shop.roles import ROLES
from tests import factories


@pytest.fixture(autouse=True)
def _outside_world(settings: Any, tmp_path: Any) -> None:
    """Mail stays in memory, uploads in a folder of the test."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.MEDIA_ROOT = tmp_path / "media"
    # Rate limits count in the cache: each test starts with none used up.
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """No connection outlives its request, or the test database could not be dropped; and emptying tables is quick.

    PostgreSQL takes seconds to TRUNCATE all tables, and no time to DELETE the few rows of a test: its foreign keys
    are checked at the end of the transaction, so that the order does not matter.
    """
    connection.settings_dict["CONN_MAX_AGE"] = 0
    if connection.vendor == "postgresql":
        quote = connection.ops.quote_name

        def delete_all(style: Any, tables: list[str], **_options: Any) -> list[str]:
            return [f"DELETE FROM {quote(table)}" for table in tables]

        connection.ops.sql_flush = delete_all  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """At the end, send away who still looks at the test database, or PostgreSQL would not drop it.

    A browser's event loop has database connections of its own, which nobody else can reach to close.
    """
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
            )


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """What migrations fill in is there also after a test that had to empty the tables."""
    marker = request.node.get_closest_marker("django_db")
    if marker and marker.kwargs.get("transaction"):
        request.getfixturevalue("transactional_db")
        factories.seed()


@pytest.fixture
def store(db: None) -> Store:
    return factories.StoreFactory()


@pytest.fixture
def system() -> EventHandler:
    """A handler for the system itself, which may do everything."""
    return get_event_handler(Actor.system())


@pytest.fixture
def staff(db: None) -> Callable[..., User]:
    """staff("Store Manager", store): a person with that role who works in these stores."""

    def make(role: str | None, *stores: Store) -> User:
        assert role is None or role in ROLES
        user: User = factories.UserFactory(is_staff=True)
        if role:
            user.groups.add(Group.objects.get(name=role))
        for workplace in stores:
            workplace.staff.add(user)
        return user

    return make


@pytest.fixture
def admin_actor(staff: Callable[..., User]) -> Actor:
    return Actor.staff(staff("Admin"))


@pytest.fixture
def place(db: None) -> Callable[..., Order]:
    """place(lines=…, …): an order placed through the handler; see factories.place_order."""
    return factories.place_order


@pytest.fixture
def work() -> Callable[[], int]:
    """work(): do all jobs that are due, as a worker would. Returns how many attempts that took."""
    return lambda: jobs.drain(seconds=60)


@pytest.fixture
def reason(db: None) -> CancellationReason:
    return CancellationReason.objects.get(code="changed_mind")


@pytest.fixture
def on_postgres() -> bool:
    return connection.vendor == "postgresql"


@pytest.fixture
def books() -> Callable[[], list[str]]:
    """books(): every number that does not add up; a scenario ends with `assert books() == []`."""
    return lambda: list(verify())


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """Call functions in threads that start together; returns what each returned or raised, in their order."""

    def run(*calls: Callable[[], Any]) -> list[Any]:
        barrier, results = Barrier(len(calls)), [None] * len(calls)

        def work(index: int) -> None:
            try:
                barrier.wait()
                results[index] = calls[index]()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                results[index] = error
            finally:
                connection.close()

        threads = [Thread(target=work, args=(index,)) for index in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return run
