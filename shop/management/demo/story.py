"""How an order of the demo goes on, step by step, through the doors that the shop itself uses."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone
from PIL import Image, ImageDraw

from checkout.models import ShippingMethod
from orders.models import CancellationReason, CancellationRequest, Hold, Order, OrderNote, ReturnCarrier
from orders.processing import get_event_handler, pay_now
from orders.processing.requesting import Pickup, Wish
from orders.rules import Picture
from payments.models import DemoGatewayFault
from shop import jobs
from shop.actors import Actor
from shop.management.demo.data import BERLIN
from shop.models import Job, User


class Story:
    """One order's further life, step by step, each by the person who would do it."""

    def __init__(self, order: Order, *, people: dict[str, User], as_of: datetime) -> None:
        self.order, self.number = order, order.number or ""
        manager = people["manager" if order.store.code == BERLIN else "manager-london"]
        self.manager = get_event_handler(Actor.staff(manager), as_of=as_of)
        self.service = get_event_handler(Actor.staff(people["service"]), as_of=as_of)
        self.fulfilment = get_event_handler(Actor.staff(people["fulfilment"]), as_of=as_of)
        buyer = Actor.customer(order.customer) if order.customer else Actor.guest(order.email)
        self.buyer = get_event_handler(buyer, as_of=as_of)

    def tell(self, steps: tuple[str, ...]) -> None:
        if "decline" in steps:
            DemoGatewayFault.objects.create(operation="authorize", behaviour="decline", remaining=1)
        pay_now(self.number)
        for step in steps:
            if step != "decline":
                getattr(self, step)()
                self.work()

    def work(self) -> None:
        """Do what the step promised, mails aside: a worker would do it within the second."""
        for _round in range(10):
            due = Job.objects.filter(reference=self.number, state=Job.State.WAITING, run_at__lte=timezone.now())
            keys = list(due.exclude(kind__startswith="notifications.").order_by("pk").values_list("key", flat=True))
            if not keys:
                return
            for key in keys:
                jobs.run_now(key)

    def _lines(self) -> list[Any]:
        return list(self.order.lines.order_by("position"))

    def _tracking(self) -> dict[str, Any]:
        method = ShippingMethod.objects.get(code=self.order.shipping_method)
        number = f"JD{self.number}"
        return {"carrier": method.carrier, "tracking_number": number, "tracking_url": method.tracking_url(number)}

    def repeat_monthly(self) -> None:
        self.service.start_recurring(number=self.number, unit="month")

    def approve(self) -> None:
        self.manager.approve(number=self.number)

    def prepare(self) -> None:
        self.manager.start_preparing(number=self.number)

    def take(self) -> None:
        self.manager.take_payment(number=self.number)

    def record(self) -> None:
        amount, words = self.order.total, "Statement of today"
        self.manager.record_payment(number=self.number, amount=amount, note=words, reference=f"RF{self.number}")

    def ready(self) -> None:
        self.manager.ready_for_pickup(number=self.number)

    def hand_over(self) -> None:
        self.manager.hand_over(number=self.number)

    def ship(self) -> None:
        self.manager.ship(number=self.number, **self._tracking())

    def ship_first(self) -> None:
        line = self._lines()[0]
        self.manager.ship(number=self.number, lines={line.pk: line.quantity}, **self._tracking())

    def deliver(self) -> None:
        self.manager.deliver(number=self.number)

    def hold_fraud(self) -> None:
        self.manager.place_hold(number=self.number, kind=Hold.Kind.FRAUD, reason="First order, express, four chairs.")
        self.service.write_note(
            number=self.number, message="Called the customer, no answer yet.", note_type=OrderNote.Type.INFO
        )

    def hold_address(self) -> None:
        self.service.place_hold(number=self.number, kind=Hold.Kind.ADDRESS, reason="House number to be confirmed.")

    def ask_to_cancel(self) -> None:
        self._ask(CancellationRequest.Type.CANCEL, "no_longer_needed", "I have found them at home after all.")

    def ask_to_return(self) -> None:
        day = timezone.localdate() + timedelta(days=2)
        how = {"carrier": ReturnCarrier.objects.get(code="van"), "pickup": Pickup(day, "09:00", "12:00")}
        words, kind = "The shade is dented.", CancellationRequest.Type.REFUND
        self._ask(kind, "arrived_damaged", words, pictures=(picture_of_a_dent(),), **how)

    def send_back(self) -> None:
        """Both articles come back in one parcel, which has arrived."""
        reason, post = CancellationReason.objects.get(code="changed_mind"), ReturnCarrier.objects.get(code="post")
        wishes = [Wish(line.pk, line.quantity, "refund", reason, carrier=post) for line in self._lines()]
        for request in self.buyer.request_cancellation(number=self.number, wishes=wishes):
            self.service.decide_request(request_id=request.pk, approve=True)
        self.fulfilment.receive_return(code=self.order.returns.get().code)

    def _ask(self, kind: str, reason: str, words: str, **how: Any) -> None:
        line, why = self._lines()[0], CancellationReason.objects.get(code=reason)
        wish = Wish(line_id=line.pk, units=line.quantity, type=kind, reason=why, description=words, **how)
        self.buyer.request_cancellation(number=self.number, wishes=[wish])

    def take_back(self) -> None:
        lines = {line.pk: (line.quantity, "sellable") for line in self._lines()}
        self.manager.take_back(number=self.number, lines=lines, reason="changed_mind")

    def refund_some(self) -> None:
        self.manager.refund(number=self.number, amount=Decimal("5.00"), note="For the scratch on the tray")

    def cancel_by_customer(self) -> None:
        self.buyer.cancel(number=self.number, reason="better_price")

    def cancel_by_staff(self) -> None:
        self.manager.cancel(number=self.number, reason="out_of_stock", undoable=False)

    def cancel_undoable(self) -> None:
        self.manager.cancel(number=self.number, reason="out_of_stock")

    def ask_approval(self) -> None:
        words = "The last one on the shelf has a cracked housing; the next delivery is in three weeks."
        self.fulfilment.submit_cancellation(number=self.number, reason="quality_issues", justification=words)

    def cancel_first(self) -> None:
        line = self._lines()[0]
        lines = {line.pk: line.quantity}
        self.manager.cancel(number=self.number, lines=lines, reason="inventory_discrepancy", undoable=False)


def picture_of_a_dent() -> Picture:
    """What a customer's telephone saw of a lamp: a shade with a dent."""
    image = Image.new("RGB", (480, 360), "#e8e2d8")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 290, 480, 360), fill="#b9a58c")
    pen.rectangle((232, 190, 248, 290), fill="#4a4a4a")
    pen.ellipse((180, 278, 300, 302), fill="#3a3a3a")
    pen.polygon([(190, 60), (290, 60), (350, 200), (130, 200)], fill="#d9a441")
    pen.ellipse((262, 118, 318, 168), fill="#a5752a")
    pen.arc((262, 118, 318, 168), 20, 200, fill="#6b4a18", width=4)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return Picture(out.getvalue(), *image.size)
