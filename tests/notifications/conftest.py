"""What the tests of notifications share: a store, queued messages, a mail server, a receiver of webhooks, staff."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.utils import timezone
from pytest_httpserver import HTTPServer

from notifications import services
from notifications.models import Message, WebhookEndpoint
from shop import jobs
from shop.models import Job, Store, User
from tests import factories
from tests.notifications.receiver import Receiver, make_endpoint


@pytest.fixture
def store(db) -> Store:
    return Store.objects.create(code="herd", name="Haus & Herd", email="hello@herd.example")


@pytest.fixture
def context() -> dict[str, Any]:
    return services.sample_context(event="order_placed", language="en")


@pytest.fixture
def queue(store: Store, context: dict[str, Any]) -> Callable[..., Message | None]:
    def queue_one(**changed: Any) -> Message | None:
        told = {
            "event": "order_placed",
            "cause": "order:17",
            "reference": "1000042",
            "store_id": store.pk,
            "recipient": "zoe@example.com",
            "language": "en",
            "context": context,
        }
        with transaction.atomic():
            return services.queue_message(**(told | changed))

    return queue_one


@pytest.fixture
def message(queue: Callable[..., Message]) -> Message:
    return queue()


def job_of(message: Message) -> Job:
    return Job.objects.get(key=services.job_key(message.pk))


def work_off(*, after: timedelta = timedelta()) -> int:
    """What a worker does; `after` is how much later it is by then."""
    return jobs.drain(clock=lambda: timezone.now() + after)


@pytest.fixture
def staff(store: Store) -> Callable[..., User]:
    def create(*permissions: str, everywhere: bool = True, email: str = "ann@desk.example") -> User:
        user = User.objects.create_user(f"ann{User.objects.count()}", email, "pw", is_staff=True)
        names = [*permissions, *(["work_all_stores"] if everywhere else [])]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        return user

    return create


class MailServer:
    """A real SMTP server that can be down, or refuse recipients."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.mails: list[Any] = []
        self.refusal = ""
        self.controller: Controller | None = None

    async def handle_RCPT(self, server, session, envelope, address, options) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:
        self.mails.append(envelope)
        return "250 accepted"

    def start(self) -> None:
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def stop(self) -> None:
        if self.controller:
            self.controller.stop()


@pytest.fixture
def people() -> Callable[..., User]:
    """people("Store Manager", store): somebody with a role, and where they work."""

    def make(role: str, *stores: Store) -> User:
        user: User = factories.UserFactory(is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        user.stores.set(stores)
        return user

    return make


@pytest.fixture
def receiver(httpserver: HTTPServer, settings: Any) -> Receiver:
    settings.DEMO = True  # a receiver on the same machine is for demos only
    return Receiver(httpserver)


@pytest.fixture
def endpoint(receiver: Receiver) -> WebhookEndpoint:
    return make_endpoint(receiver.url)


@pytest.fixture
def mail_server(settings) -> Iterator[MailServer]:
    server = MailServer()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    yield server
    server.stop()
