"""Fixtures every test may use: people, stores, a broker in memory, mail in memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from threading import Barrier, Thread
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import connection, transaction
from django.test import TransactionTestCase
from django.utils import timezone, translation
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]

from orders.models import CancellationReason, Order
from orders.processing import EventHandler, get_event_handler
from orders.processing.verify import verify
from shop import jobs
from shop.actors import Actor
from shop.models import Store, User
from shop.roles import ROLES
from tests import factories

# What is loaded stays loaded: looking through all of it again and again for garbage took a tenth of the time.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _static_files_are_looked_up_once() -> Iterator[None]:
    """Every client has middleware of its own, and WhiteNoise's asks the disk for all static files when it is made.

    They do not change while tests run, so the first one's answer serves the others.
    """
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    search = WhiteNoiseMiddleware.add_files_from_finders

    def search_once(self: Any) -> None:
        where = (self.static_prefix, str(self.static_root))
        if where not in found:
            search(self)
            found[where] = dict(self.files)
        self.files.update(found[where])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", search_once)
        yield


@pytest.fixture(autouse=True)
def _outside_world(settings: Any, tmp_path: Any) -> None:
    """Mail stays in memory, uploads in a folder of the test."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.MEDIA_ROOT = tmp_path / "media"
    # Rate limits count in the cache: each test starts with none used up.
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _in_the_shops_own_language() -> None:
    """A request leaves its reader's language behind in the thread that answered it, which here is the next test's."""
    translation.deactivate()
    timezone.deactivate()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """No connection outlives its request, or the test database could not be dropped."""
    connection.settings_dict["CONN_MAX_AGE"] = 0


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """After a test that committed, the database is again as the migrations left it: with all that they fill in.

    At the end, send away who still looks at it, or PostgreSQL would not drop it: a browser's event loop has database
    connections of its own, which nobody else can reach to close.
    """
    with django_db_blocker.unblock():
        as_it_was = remember()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _test: as_it_was())
        yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
            )


def remember() -> Callable[[], None]:
    """Keep a copy of every row beside its table; the function returned empties all tables and puts the rows back.

    Rows are deleted, because PostgreSQL takes seconds to TRUNCATE all tables, and no time to DELETE the few of a test.
    Foreign keys are checked at the end of the transaction, so that the order does not matter.
    """
    quote = connection.ops.quote_name
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    steps = [f"DELETE FROM {quote(table)}" for table in tables]
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT 1 FROM {quote(table)} LIMIT 1")
            if cursor.fetchone():
                kept = quote(f"kept_{table}")
                cursor.execute(f"CREATE TABLE {kept} AS SELECT * FROM {quote(table)}")
                steps.append(f"INSERT INTO {quote(table)} SELECT * FROM {kept}")

    def as_it_was() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            # PostgreSQL takes them all in one message.
            for words in ["; ".join(steps)] if connection.vendor == "postgresql" else steps:
                cursor.execute(words)

    return as_it_was


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
