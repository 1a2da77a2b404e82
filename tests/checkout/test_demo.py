"""The demo's data: every status, through the real doors, the same when it is loaded again."""

from __future__ import annotations

from collections import Counter

import pytest
from django.core.management import CommandError, call_command

from checkout.models import Cart
from orders.models import CancellationRequest, Hold, Order, Status
from shop.models import Job, User
from shop.roles import ROLES

pytestmark = pytest.mark.django_db

NOT_KEPT = {Status.NEW, Status.CREATED, Status.CANCELLATION_WAITING}


def test_the_demo_shows_everything_and_loading_it_again_changes_nothing(books, capsys):
    call_command("load_demo")
    told = capsys.readouterr().out
    assert "admin / demo" in told
    assert "anna@example.com / demo" in told

    statuses = Counter(Order.objects.values_list("status", flat=True))
    assert set(statuses) == set(Status) - NOT_KEPT
    assert sum(statuses.values()) >= 25
    assert Order.objects.values("store").distinct().count() == 2
    assert Hold.objects.filter(released_at=None).exists()
    assert set(CancellationRequest.objects.values_list("cancellation_type", flat=True)) == {"cancel", "refund"}
    assert Job.objects.filter(state="needs_attention").count() == 1
    # What waits has its time: a cancellation that can still be undone, an approval that somebody is reminded of.
    later = Job.objects.filter(state__in=["waiting", "running"])
    assert set(later.values_list("kind", flat=True)) == {"orders.finish_cancellation", "orders.approval_due"}
    assert Cart.objects.filter(status="open", items__isnull=False).exists()
    assert set(User.objects.filter(is_staff=True).values_list("groups__name", flat=True)) == set(ROLES)
    assert books() == []

    before = everything()
    User.objects.filter(username="manager").update(first_name="Changed")
    call_command("load_demo")
    assert everything() == before
    assert User.objects.get(username="manager").first_name == "Changed"


def everything() -> list[object]:
    orders = list(Order.objects.order_by("pk").values_list("number", "status", "version", "total"))
    return [orders, Cart.objects.count(), Job.objects.count(), User.objects.count()]


def test_outside_the_demo_it_refuses(settings):
    settings.DEMO = settings.DEBUG = False
    with pytest.raises(CommandError, match="well-known passwords"):
        call_command("load_demo")
    assert not User.objects.exists()
