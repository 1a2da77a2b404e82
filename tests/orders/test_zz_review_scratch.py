
from __future__ import annotations
from typing import Any
import pytest
from decimal import Decimal
from datetime import timedelta
from django.test import Client
from django.utils import timezone
from orders.models import *
from orders.processing import get_event_handler, PaymentChoice
from orders.rules import *
from payments.models import *
from payments.services import credit
from shop.actors import Actor
from shop import jobs, maintenance
from shop.models import Job
from shop.errors import Refused
from tests import factories
pytestmark = pytest.mark.django_db
def fresh(o): return Order.objects.get(pk=o.pk)
def by(u): return get_event_handler(Actor.staff(u))

def test_void_in_flight(store, system, work, books):
    order = factories.place_order([("10.00", 2)], store=store, until="approved")
    system.cancel(number=order.number)
    system.reinstate(number=order.number)
    print("A", fresh(order).status, fresh(order).facts.open_to_capture, fresh(order).facts.outstanding)
    work()
    o = fresh(order)
    print("B", o.status, o.facts.open_to_capture, o.facts.outstanding, books())

def test_unknown_reason_digit(store, staff):
    u = staff("Admin")
    order = factories.place_order(store=store)
    c = Client(); c.force_login(u)
    for reason in ["²", "9"*40, "x"*300, "\x00"]:
        r = c.post(f"/api/v1/orders/{order.number}/cancel/", {"reason": reason}, content_type="application/json")
        print(repr(reason)[:10], r.status_code, r.content[:100])
        r = c.post(f"/api/v1/orders/{order.number}/cancel/plan/", {"reason": reason}, content_type="application/json")
        print(repr(reason)[:10], r.status_code, r.content[:100])
    r = c.post(f"/api/v1/orders/{order.number}/cancel/", {"reason": "out_of_stock", "note": "a\x00b"}, content_type="application/json")
    print(r.status_code, r.content[:200])
    r = c.post(f"/api/v1/orders/{order.number}/cancel/", {"reason": "out_of_stock", "plan": "a:b:c"}, content_type="application/json")
    print(r.status_code, r.content[:200])
    r = c.post(f"/api/v1/orders/{order.number}/cancel/", [1], content_type="application/json")
    print(r.status_code, r.content[:200])

def test_maintenance_series(store, staff):
    u = staff("Admin")
    order = factories.place_order(store=store, until="approved")
    s = get_event_handler(Actor.system()).start_recurring(number=order.number, unit="week")
    maintenance.start(actor=Actor.system())
    for verb in ("pause_recurring", "resume_recurring"):
        try:
            getattr(by(u), verb)(recurring_id=s.pk); print(verb, "done")
        except Refused as no: print(verb, no.code)
    try:
        print(by(u).place_due(recurring_id=s.pk, occurrence=2, early=True))
    except Refused as no: print(no.code)

def test_credit_series(store, staff, work, books):
    c = factories.UserFactory()
    credit.grant(owner_id=c.pk, currency="EUR", kind="store_credit", amount=Decimal(100), key="k", actor_name="x", as_of=timezone.now())
    acc = CreditAccount.objects.get()
    order = factories.place_order([("10.00", 2)], store=store, customer=c, payments=[PaymentChoice(gateway="store_credit", amount=Decimal(5), details={"credit_account": acc.pk}), PaymentChoice(gateway="demo")])
    s = get_event_handler(Actor.system()).start_recurring(number=order.number, unit="week", gateway="store_credit")
    print(s.gateway, s.payment_details, acc.pk)
    Order.objects.filter(pk=order.pk).update(customer=None)

def test_two_wishes(store, reason, work, books):
    pass

def test_partial_pending_then_customer_cancels(store, staff, work, books):
    u = staff("Admin"); c = factories.UserFactory()
    CancelRule.objects.create(undo_minutes=10, direct_statuses=["confirmation_waiting"])
    order = factories.place_order([("10.00", 3)], store=store, customer=c)
    line = order.lines.get()
    row = by(u).submit_cancellation(number=order.number, lines={line.pk: 1}, reason="out_of_stock")
    ch = get_event_handler(Actor.customer(c))
    ch.cancel(number=order.number, lines={line.pk: 2})
    work()
    o = fresh(order)
    print(o.status, o.undo_until, books(), list(Cancellation.objects.values_list("status", flat=True)))

def test_pending_return_and_refund(store, staff, work, books):
    """paid order, pending cancellation of one unit, money refunded by hand, then undone"""
    u = staff("Admin")
    CancelRule.objects.create(undo_minutes=10, direct_statuses=["confirmation_waiting"])
    order = factories.place_order([("10.00", 2)], store=store, until="paid")
    line = order.lines.get()
    by(u).submit_cancellation(number=order.number, lines={line.pk: 1}, reason="out_of_stock")
    by(u).refund(number=order.number, amount=Decimal("20.00"), note="x")
    by(u).undo_cancellation(number=order.number)
    work()
    o = fresh(order)
    print(o.status, o.facts.outstanding, o.facts.unapplied, books())

def test_documents_series(store, staff, work, books):
    pass
