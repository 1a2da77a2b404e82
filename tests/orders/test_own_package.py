"""A shop's own package, as docs/overriding.md describes it: a status, a button and a kind of job of its own.

The order's model is made from the workflows when a process starts, so this is told in processes that start with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from orders.models import Order
from orders.models.status import workflows
from shop.models import Store
from tests import factories

BOOK = {
    "workflows": """
from django.db import models
from django_fsm import transition

class Quality(models.Model):
    statuses = {"checking": "preparing"}
    labels = {"checking": "Being looked at"}
    class Meta:
        abstract = True
    @transition("status", "preparing", "checking", custom={"button_name": "Look at it"})
    def check_quality(self): ...

class Dead(models.Model):
    statuses = ("checking",)
    class Meta:
        abstract = True
    @transition("status", "preparing", "checking", custom={"buton_name": "Look at it"})
    def check_quality(self): ...

class Unfit(models.Model):
    class Meta:
        abstract = True
    @transition("status", "preparing", "approved", custom={"button_name": "Wait"})
    def hold(self): ...
    @transition("status", "preparing", "delivered", custom={"button_name": "It is there"})
    def brought(self): ...

class NotAbstract: ...

class Text(models.Model):
    statuses = "checking"
    class Meta:
        abstract = True
""",
    "settings": """
from shop.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "ownshop"]
ORDER_WORKFLOWS = [*ORDER_WORKFLOWS, "ownshop.workflows.Quality"]
""",
    "tasks": """
from shop import jobs

@jobs.handles("ownshop.print_label")
class Print(jobs.Handler): ...
""",
    "story": """
import django
django.setup()
from django.test import Client
from django.test.utils import setup_test_environment
from orders.models import CancelRule, Order, OrderAddress
from orders.processing import get_event_handler
from orders.rules import OrderOnHold, WrongStatus
from shop import jobs
from shop.actors import Actor
from shop.errors import NotAllowed
from shop.models import User

setup_test_environment()
assert "ownshop.print_label" in jobs.kinds()
shipped, cancelled, asked = every = Order.objects.order_by("pk")
boss, nobody = User.objects.get(username="boss"), User.objects.get(username="nobody")
system = get_event_handler(Actor.system())

def refused(handler, kind, order):
    try:
        handler.take_step(number=order.number, step="check_quality")
    except kind:
        return True

for order in every:
    system.start_preparing(number=system.approve(number=order.number).number)
    system.take_payment(number=order.number)
jobs.drain(seconds=60)
assert refused(get_event_handler(Actor.staff(nobody)), NotAllowed, shipped)
desk = Client(HTTP_HOST="localhost")
desk.force_login(boss)
page = f"/admin/orders/order/{shipped.pk}/"
button = f"{page}do/check-quality/"
assert button in desk.get(f"{page}change/").content.decode()
form = desk.get(button).context["form"]
assert desk.post(button, {name: form[name].value() or "" for name in form.fields}).status_code == 302
system.take_step(number=cancelled.number, step="check_quality")
assert refused(system, WrongStatus, shipped), "once is enough"
for order in (shipped, cancelled):
    order.refresh_from_db()
    assert (order.status, order.status_label, order.status_code) == ("checking", "Being looked at", 450), order.status
many = {"orders": [cancelled.number, asked.number], "status": "checking"}
told = desk.post("/api/v1/orders/bulk_update", many, content_type="application/json").json()
assert (told["done"], [row["status"] for row in told["results"]]) == (1, ["checking", "checking"]), told
cards = {card.key: card for card in desk.get("/admin/").context["figures"].cards}
assert (cards["preparing"].count, "checking" in cards["preparing"].url) == (3, True), cards["preparing"]
found = desk.get(cards["preparing"].url).content.decode()
assert [order.number for order in every if order.number not in found] == []
known = {name: getattr(asked.shipping_address, name) for name in OrderAddress.FIELDS}
elsewhere = OrderAddress(**known | {"line": "Elsewhere 1"})
answer = system.ask_address(number=asked.number, address=elsewhere, shipping=True, billing=False)
assert answer.status == 202, "as while it is prepared, a person decides"
system.ship(number=shipped.number)
handler = get_event_handler(Actor.staff(boss))
CancelRule.objects.create(undo_minutes=10)
handler.cancel(number=asked.number, reason="other", note="Broken")
handler.undo_cancellation(number=asked.number)
asked.refresh_from_db()
assert asked.status == "preparing", "no resume_checking leads farther back"
handler.place_hold(number=asked.number, kind="stock")
assert refused(handler, OrderOnHold, asked), "a hold stops a step, too"
CancelRule.objects.update(undo_minutes=0)
handler.cancel(number=cancelled.number, reason="other", note="Broken")
for order, status in ((shipped, "shipped"), (cancelled, "cancelled")):
    order.refresh_from_db()
    assert order.status == status, order.status
assert not list(__import__("orders.processing.verify", fromlist=["verify"]).verify())
print("the end")
""",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "ownshop").mkdir()
    for name, words in {"__init__": "", **BOOK}.items():
        (tmp_path / "ownshop" / f"{name}.py").write_text(words)
    return tmp_path


def run(package: Path, *command: str, **more: str) -> str:
    """What a command of the shop's says, and how it ends."""
    environment = {
        **os.environ,
        "DEMO": "yes",
        "VAR_DIR": str(package / "var"),
        "DATABASE_URL": f"sqlite:///{package}/desk.sqlite3",
        "CELERY_BROKER_URL": "filesystem://",
        "PYTHONPATH": os.pathsep.join([str(package), str(settings.BASE_DIR)]),
        "DJANGO_SETTINGS_MODULE": "ownshop.settings",
        **more,
    }
    command = (sys.executable, *command)
    done = subprocess.run(command, env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_an_order_in_a_status_of_the_shops_own_is_shipped_and_cancelled(store: Store, package: Path) -> None:
    """By its button in the desk; whoever may not is refused. The status stands in for “preparing”."""
    if connection.vendor != "sqlite":
        pytest.skip("the story is told on a copy of SQLite's database; nothing in it depends on the database")
    factories.UserFactory(username="boss", is_staff=True, is_superuser=True)
    store.staff.add(factories.UserFactory(username="nobody", is_staff=True))
    for _ in range(3):
        factories.place_order(store=store)
    assert Order.objects.count() == 3
    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(package / "desk.sqlite3")])
    assert run(package, "-m", "ownshop.story").endswith("the end\n")
    assert "no issues" in run(package, "manage.py", "check")


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    "named, told",
    [
        ([*settings.ORDER_WORKFLOWS, "ownshop.workflows.Dead"], ["orders.E019", "statuses = {", "orders.W005"]),
        (["ownshop.workflows.Quality"], ["ORDER_WORKFLOWS replaces the desk's list"]),
        ([*settings.ORDER_WORKFLOWS, "ownshop.workflows.Unfit"], ["a button 'hold' already", "orders.E022"]),
    ],
)
def test_a_workflow_that_leads_nowhere_is_refused_with_what_to_do(
    named: list[str], told: list[str], package: Path
) -> None:
    said = run(package, "manage.py", "check", DJANGO_SETTINGS_MODULE="shop.settings", ORDER_WORKFLOWS=",".join(named))
    assert [words for words in told if words not in said] == [], said


@pytest.mark.parametrize(
    "named, told",
    [
        ("ownshop.workflows.NotAbstract", "is not an abstract model"),
        ("ownshop.workflows.Nothing", "cannot be imported"),
        ("ownshop.workflows.Text", "`statuses` is a text"),
        ("orders.workflows.ReviewWorkflow", "twice"),
    ],
)
def test_what_cannot_be_a_workflow_is_said_so(
    named: str, told: str, package: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(package))
    settings.ORDER_WORKFLOWS = [*settings.ORDER_WORKFLOWS, named]
    try:
        with pytest.raises(ImproperlyConfigured, match=told):
            workflows("ORDER_WORKFLOWS")
    finally:
        for name in [name for name in sys.modules if name.startswith("ownshop")]:
            del sys.modules[name]
