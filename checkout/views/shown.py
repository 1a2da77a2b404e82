"""An order as the pages show it: its lines, how far it is, what becomes of each request, and its sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from orders.api.serializers import OrderSerializer
from orders.api.shown import ShownLine, shown
from orders.models import CancellationRequest, Facts, Order, Status
from orders.processing.policies import rulebook
from shop.money import ZERO


def order_shown(order: Order, request: HttpRequest, *, as_of: datetime) -> dict[str, Any]:
    """An order for the templates, whoever looks: as the API tells it, its lines, how far it is, and its sums."""
    found = shown(order, book=rulebook(), as_of=as_of)
    told = OrderSerializer(found, context={"request": request}).data
    facts = Facts.of(order)
    return {
        "order": order,
        "told": told,
        "lines": [line_out(line, item) for line, item in zip(found.lines, told["orderitem_set"], strict=True)],
        "stages": stages_of(order),
        # The total is what was ordered; what has been cancelled since is not to be paid, or comes back.
        # Nor is what a card has been authorized for: the shop takes it when the goods leave.
        "to_pay": max(ZERO, facts.outstanding - facts.open_to_capture),
        "refunded": facts.refund_reserved,
        "annotation": order.extra.get("annotation", ""),
    }


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an order or request. state: done, now, next, or ended."""

    label: str
    state: str


def _steps(labels: Sequence[str], done: int) -> list[Step]:
    """Steps of which so many have been reached: the last of them is where it is now, unless it is the end."""
    last = done - 1 if done < len(labels) else done
    states = ["done" if n < last else "now" if n == last else "next" for n in range(len(labels))]
    return [Step(label, state) for label, state in zip(labels, states, strict=True)]


def stages_of(order: Order) -> list[Step]:
    """The way of an order, and where it is on it; nothing for one that was cancelled."""
    labels = [_("Ordered"), _("Confirmed"), _("Being prepared")]
    labels += [_("Ready for you"), _("Collected")] if order.is_pickup else [_("On its way"), _("Delivered")]
    done = {
        Status.PAYMENT_WAITING: 1,
        Status.CONFIRMATION_WAITING: 1,
        Status.APPROVED: 2,
        Status.PREPARING: 3,
        Status.READY_FOR_PICKUP: 4,
        Status.SHIPPED: 4,
        Status.DELIVERED: 5,
        Status.REFUNDED: 5,
    }.get(Status(order.stage) if order.stage in Status.values else Status.NEW)
    return [] if done is None else _steps(labels, done)


def line_out(line: ShownLine, item: Mapping[str, Any]) -> dict[str, Any]:
    """A line for the template: its row, what the API tells of it, and its requests as steps."""
    both = zip(line.requests, item["cancellationrequest_set"], strict=True)
    requests = [{"row": row, "told": told, "steps": request_steps(row, told)} for row, told in both]
    return {"row": line.line, "item": item, "requests": requests}


def request_steps(request: CancellationRequest, told: Mapping[str, Any]) -> list[Step]:
    """What has happened to a customer's request and what comes next; nothing for one that was rejected."""
    status = CancellationRequest.Status
    if request.status == status.REJECTED:
        return []
    back = request.cancellation_type == CancellationRequest.Type.REFUND
    labels = [_("Asked for"), _("Approved")]
    labels += [_("On its way to us"), _("Received"), _("Refunded")] if back else [_("Cancelled")]
    done = 2 if request.status in {status.CONFIRMED, status.APPROVED} else 1
    if request.status in request.AWAITING_MONEY or (told["easy_return"] or {}).get("received_date"):
        done = 4
    return _steps(labels, len(labels) if request.status == status.COMPLETED else done)


def companies_of(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shipping companies that bring any of an order's items back, each once."""
    offered = [one for item in told["orderitem_set"] for one in item["available_easy_return_shipping_companies"]]
    return list({one["pk"]: one for one in offered}.values())
