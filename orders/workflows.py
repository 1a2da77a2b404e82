"""Workflow mixins: which transitions an order's status can make, and under which condition.

A mixin is an abstract model whose transitions are guard and status only; what else happens is the EventHandler's.
`custom` as in django-SHOP: `button_name` labels an admin button, `admin=False` hides it, `auto=True` lets the handler
make the transition by itself as soon as its condition holds. A shop adds its own mixins to ORDER_WORKFLOWS.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from orders.models.status import Status


def payment_is_secured(order: Any) -> bool:
    return order.facts.is_secured


def needs_no_review(order: Any) -> bool:
    return not order.store.reviews_orders and not order.facts.holds


def has_no_hold(order: Any) -> bool:
    return not order.facts.holds


def is_for_pickup(order: Any) -> bool:
    return order.is_pickup


def all_shipped(order: Any) -> bool:
    return order.facts.all_shipped


def all_delivered(order: Any) -> bool:
    return order.facts.all_delivered


def all_given_back(order: Any) -> bool:
    return order.facts.all_given_back


def nothing_left(order: Any) -> bool:
    return order.facts.nothing_left


class PaymentWorkflow(models.Model):
    """Wait for the money, or go on at once where none is due before delivery."""

    class Meta:
        abstract = True

    @transition("status", Status.NEW, Status.CREATED, custom={"admin": False})
    def populate(self) -> None:
        """The cart's items have become the order's lines."""

    @transition("status", Status.CREATED, Status.PAYMENT_WAITING, custom={"auto": True, "admin": False})
    def await_payment(self) -> None:
        """The order exists; its payment is awaited."""

    @transition(
        "status",
        Status.PAYMENT_WAITING,
        Status.CONFIRMATION_WAITING,
        conditions=[payment_is_secured],
        custom={"auto": True, "admin": False},
    )
    def confirm_payment(self) -> None:
        """The money is authorized, received, or due on delivery."""


class ReviewWorkflow(models.Model):
    """Staff look at each order before it is prepared, unless the store does not review orders."""

    class Meta:
        abstract = True

    @transition(
        "status",
        Status.CONFIRMATION_WAITING,
        Status.APPROVED,
        conditions=[has_no_hold],
        custom={"button_name": _("Approve")},
    )
    def approve(self) -> None:
        """A person reviewed the order."""

    @transition(
        "status",
        Status.CONFIRMATION_WAITING,
        Status.APPROVED,
        conditions=[needs_no_review],
        custom={"auto": True, "admin": False},
    )
    def approve_unreviewed(self) -> None:
        """The store does not review orders, and nothing holds this one."""


class FulfilmentWorkflow(models.Model):
    """From the shelf to the customer's door, or to the counter; and back."""

    class Meta:
        abstract = True

    @transition(
        "status",
        Status.APPROVED,
        Status.PREPARING,
        conditions=[has_no_hold],
        custom={"button_name": _("Start preparing")},
    )
    def start_preparing(self) -> None:
        """Somebody began to pick the goods."""

    @transition(
        "status",
        Status.PREPARING,
        Status.READY_FOR_PICKUP,
        conditions=[is_for_pickup, has_no_hold],
        custom={"button_name": _("Ready for pickup")},
    )
    def make_ready_for_pickup(self) -> None:
        """The goods wait at the counter."""

    @transition(
        "status",
        [Status.PREPARING, Status.READY_FOR_PICKUP],
        Status.SHIPPED,
        conditions=[all_shipped],
        custom={"auto": True, "admin": False},
    )
    def complete_shipment(self) -> None:
        """Every unit that was not cancelled has left."""

    @transition(
        "status", Status.SHIPPED, Status.DELIVERED, conditions=[all_delivered], custom={"auto": True, "admin": False}
    )
    def complete_delivery(self) -> None:
        """Every unit that left has arrived (or came back)."""

    @transition(
        "status", Status.DELIVERED, Status.REFUNDED, conditions=[all_given_back], custom={"auto": True, "admin": False}
    )
    def complete_return(self) -> None:
        """Everything came back and the money is with the customer again."""


def all_withheld(order: Any) -> bool:
    return order.facts.all_withheld


class CancellationWorkflow(models.Model):
    """Before anything has shipped, an order can end."""

    class Meta:
        abstract = True

    @transition(
        "status",
        [
            Status.PAYMENT_WAITING,
            Status.CONFIRMATION_WAITING,
            Status.APPROVED,
            Status.PREPARING,
            Status.READY_FOR_PICKUP,
        ],
        Status.CANCELLATION_WAITING,
        conditions=[all_withheld],
        custom={"admin": False},
    )
    def await_cancellation(self) -> None:
        """Another system is asked to cancel all that is left of it."""

    @transition(
        "status",
        [
            Status.PAYMENT_WAITING,
            Status.CONFIRMATION_WAITING,
            Status.APPROVED,
            Status.PREPARING,
            Status.READY_FOR_PICKUP,
            Status.CANCELLATION_WAITING,
        ],
        Status.CANCELLED,
        conditions=[nothing_left],
        custom={"admin": False},
    )
    def complete_cancellation(self) -> None:
        """No unit is left to ship."""


def something_left(order: Any) -> bool:
    return not order.facts.nothing_left and not order.facts.all_withheld


GONE = [Status.CANCELLED, Status.CANCELLATION_WAITING]


class ReinstatementWorkflow(models.Model):
    """A cancelled order comes back: to where it was, when the cancellation is undone; to its payment, later.

    So does one that waited for another system's word, when that said no.
    """

    class Meta:
        abstract = True

    @transition(
        "status",
        GONE,
        Status.PAYMENT_WAITING,
        conditions=[something_left],
        custom={"admin": False},
    )
    def resume_payment_waiting(self) -> None:
        """Undone or reinstated: the payment is awaited (again)."""

    @transition(
        "status",
        GONE,
        Status.CONFIRMATION_WAITING,
        conditions=[something_left],
        custom={"admin": False},
    )
    def resume_confirmation_waiting(self) -> None:
        """The cancellation was undone."""

    @transition("status", GONE, Status.APPROVED, conditions=[something_left], custom={"admin": False})
    def resume_approved(self) -> None:
        """The cancellation was undone."""

    @transition("status", GONE, Status.PREPARING, conditions=[something_left], custom={"admin": False})
    def resume_preparing(self) -> None:
        """The cancellation was undone."""

    @transition("status", GONE, Status.READY_FOR_PICKUP, conditions=[something_left], custom={"admin": False})
    def resume_ready_for_pickup(self) -> None:
        """The cancellation was undone."""
