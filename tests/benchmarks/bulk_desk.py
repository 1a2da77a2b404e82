"""What bulk_run.py asks of the desk: each verb in a process of its own, on the database that DATABASE_URL names."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.contrib.auth.models import Group  # noqa: E402
from django.core.management import call_command  # noqa: E402

from inventory.models import Product  # noqa: E402
from notifications.models import Message  # noqa: E402
from orders.models import BulkRun, CommunicationEvent, Order, ShippingEvent  # noqa: E402
from orders.processing import get_event_handler  # noqa: E402
from orders.processing.verify import verify  # noqa: E402
from payments.models import DemoGatewayEntry  # noqa: E402
from shop.actors import Actor  # noqa: E402
from shop.models import Job, Store, User  # noqa: E402
from tests import factories  # noqa: E402


def prepare() -> None:
    """A store with stock; one who begins the run, and one who agrees to it."""
    call_command("migrate", verbosity=0)
    store = factories.StoreFactory(code="bench")
    for _n in range(60):
        factories.stocked(store, units=100_000)
    for name in ("beginner", "approver"):
        user = User.objects.create(username=name, email=f"{name}@example.com", is_staff=True)
        user.groups.add(Group.objects.get(name="Admin"))


def place(first: str, last: str) -> None:
    """Orders of three lines, every second one with its capture promised; of ten orders, two are of one customer."""
    store, products, chance = Store.objects.get(code="bench"), list(Product.objects.all()), random.Random(first)
    for n in range(int(first), int(last)):
        # Nobody works off jobs meanwhile: they would pay the orders of another process before it asks to.
        order = factories.place_order(
            chance.sample(products, 3),
            store=store,
            until="preparing" if n % 2 else "approved",
            shipping="4.90",
            email=f"customer{n - (n % 10 == 1)}@example.com",
        )
        if n % 2:
            get_event_handler(Actor.system()).take_payment(number=order.number or "")


def loop(count: str) -> None:
    """Cancel one by one; says the seconds. What a process does only once is done before."""
    orders = list(Order.objects.order_by("pk").values_list("pk", "number")[: int(count)])
    get_event_handler(Actor.system()).plan_cancellation(number=orders[0][1] or "")
    start = time.perf_counter()
    for pk, number in orders:
        handler = get_event_handler(Actor.system())
        handler.cancel(number=number or "", reason="other", note="benchmark", cause=f"loop:{pk}")
    print(time.perf_counter() - start)


def begin() -> None:
    """Begin a run of all orders, and agree to it; says its id and the seconds that beginning took."""
    beginner, approver = (Actor.staff(User.objects.get(username=name)) for name in ("beginner", "approver"))
    orders = list(Order.objects.order_by("pk").values_list("pk", "version"))
    start = time.perf_counter()
    run = get_event_handler(beginner).start_bulk_run(
        orders=orders, reason="other", note="benchmark", justification="benchmark"
    )
    seconds = time.perf_counter() - start
    if run.status == BulkRun.Status.WAITING_APPROVAL:
        get_event_handler(approver).approve_bulk(approval=str(run.approval.uuid))
    print(run.pk, seconds)


def faults(count: str) -> None:
    """Says what is not as it should be: the books, and what happened more or less than once."""
    for words in (*verify(), *not_once(int(count))):
        print(words)


def not_once(count: int) -> Iterator[str]:
    orders = set(Order.objects.order_by("pk").values_list("pk", flat=True)[:count])
    numbers = set(Order.objects.filter(pk__in=orders).values_list("number", flat=True))
    told = ("order_cancelled", "orders_cancelled")
    cancelled = Counter(ShippingEvent.objects.filter(event_type__code="cancelled").values_list("order", flat=True))
    letters = Counter(CommunicationEvent.objects.filter(event_type__in=told).values_list("order", flat=True))
    # The gateway's own books: half of the orders are voided, half refunded.
    back = DemoGatewayEntry.objects.filter(operation__in=["refund", "void"], status="succeeded")
    payments = Counter(back.values_list("payment_key", flat=True))
    for what, times in (("cancelled", cancelled), ("told", letters)):
        if set(times) != orders or set(times.values()) != {1}:
            yield f"not each order was {what} once: {len(times)} of {count}, {sum(times.values())} times in all"
    if len(payments) != count or set(payments.values()) != {1}:
        yield f"not each payment went back once: {len(payments)} of {count}, {sum(payments.values())} times in all"
    # In a run, a customer with two orders gets one message.
    messages = Counter(Message.objects.filter(event__in=told).values_list("recipient", flat=True))
    customers = Counter(Order.objects.filter(pk__in=orders).values_list("email", flat=True))
    if messages != (dict.fromkeys(customers, 1) if BulkRun.objects.exists() else customers):
        yield f"not each customer was told once: {messages.total()} messages for {len(customers)} customers"
    if Order.objects.filter(number__in=numbers, status="cancelled").count() != count:
        yield "not all are cancelled"
    if left := Job.objects.exclude(state=Job.State.DONE).count():
        yield f"{left} jobs are not done"


VERBS = {verb.__name__: verb for verb in (prepare, place, loop, begin, faults)}

if __name__ == "__main__":
    VERBS[sys.argv[1]](*sys.argv[2:])
