"""The two steps of a withdrawal: state it and read it back; confirm it, and get a receipt with its time.

A declaration is never refused for being late or matching no order: it is received, and the receipt says no more than
that. What follows from it is withdrawing.py's.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core import signing
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import services as notifications
from orders import rules
from orders.models import CommunicationEvent, Facts, Order, OrderLine, Withdrawal
from orders.processing.requesting import TooManyUnits, return_words
from orders.processing.turns import take_turns
from orders.processing.withdrawing import Withdrawing, coming_back, follow_up, stated_lines
from shop import jobs, maintenance
from shop.actors import CUSTOMER
from shop.errors import Invalid, Refused
from shop.models import User
from shop.money import ZERO
from shop.together import atomic

logger = logging.getLogger(__name__)

SALT = "orders.withdrawal"
TOKEN_SECONDS = 3600
# Receipts go to whatever address is stated, so nobody gets many: of all, and of those that match no order.
MOST_A_DAY, MOST_UNMATCHED_A_DAY = 30, 5
RECEIPT = "withdrawal_received"


class StatementForged(Invalid):
    code = "withdrawal_token_invalid"
    message = gettext_lazy("This statement was not made here. State the withdrawal again.")


class StatementExpired(Invalid):
    code = "withdrawal_token_expired"
    message = gettext_lazy("This statement is more than an hour old. State the withdrawal again, then confirm it.")


class TooManyDeclarations(Refused):
    code = "too_many_withdrawals"
    http_status = 429
    retry_after = 3600
    message = gettext_lazy("Too many withdrawals have been sent for this e-mail address today. Write to the shop.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What somebody states. lines: line id → units; None: everything."""

    key: str
    name: str
    number: str
    email: str
    text: str = ""
    language: str = ""
    order_id: int | None = None
    lines: dict[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedLine:
    """One line of the order that is meant. units: withdrawn from; left: how many could be; ask: a person decides."""

    line: OrderLine
    units: int
    left: int
    cancel: int
    send_back: int
    ask: int

    @property
    def exempt(self) -> str:
        return str(self.line.get_return_exemption_display()) if self.line.return_exemption else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A declaration to be read back, with what would follow from it now. It has done nothing.

    not_refunded  what a dearer delivery cost more and would not be given back
    """

    token: str
    expires_at: datetime
    declaration: Declaration
    order: Order | None
    lines: tuple[StatedLine, ...]
    deadline: datetime | None
    in_time: bool
    not_refunded: Decimal = ZERO

    @property
    def not_refunded_words(self) -> str:
        """What a dearer delivery cost more and is not given back, in a sentence with the amount."""
        return rules.dearer_words(self.order, self.not_refunded) if self.order else ""

    @property
    def cancels(self) -> bool:
        return any(line.cancel for line in self.lines)

    @property
    def sends_back(self) -> bool:
        return any(line.send_back for line in self.lines)

    @property
    def asks(self) -> bool:
        return any(line.ask for line in self.lines)


class Declaring(Withdrawing):
    def state_withdrawal(
        self,
        *,
        name: str,
        number: str,
        email: str,
        text: str = "",
        lines: rules.Lines | None = None,
        customer: User | None = None,
    ) -> Statement:
        """This will write a declaration to be read back, signed for an hour. It changes nothing.

        lines     line id → units; None: everything that can be withdrawn from
        customer  who is logged in: their own orders need no e-mail that fits
        Raises BadLines, TooManyUnits for lines of a known order. Of an unknown one nothing is said.
        """
        order = order_meant(number=number, email=email, customer=customer)
        declaration = Declaration(
            key=uuid.uuid4().hex,
            name=name.strip(),
            number=number.strip(),
            email=email.strip(),
            text=text.strip(),
            language=translation.get_language() or settings.LANGUAGE_CODE,
            order_id=order.pk if order else None,
            lines=None if lines is None else dict(lines),
        )
        return self._statement(declaration, order)

    def _statement(self, declaration: Declaration, order: Order | None) -> Statement:
        found: dict[str, Any] = {"lines": (), "deadline": None, "in_time": True}
        if order is not None:
            facts, terms, coming = order.facts, self.cancel_policy(order).returns, coming_back(order)
            check_lines(facts, declaration.lines, coming=coming)
            plan = rules.plan_withdrawal(facts, declaration.lines, terms, coming=coming, declared_at=self.as_of)
            found = {
                "lines": tuple(_stated(line, plan, coming) for line in facts.lines),
                "deadline": plan.deadline,
                "in_time": plan.in_time,
                "not_refunded": self.as_owner(order).dearer_delivery_kept(facts, plan),
            }
        return Statement(
            token=signing.dumps(_as_json(declaration), salt=SALT, compress=True),
            expires_at=self.as_of + timedelta(seconds=TOKEN_SECONDS),
            declaration=declaration,
            order=order,
            **found,
        )

    def confirm_withdrawal(self, *, token: str) -> Withdrawal:
        """This will receive a declaration, carry it out, and send the receipt: all of it, or nothing.

        The same token again gives the same withdrawal and does nothing. What cannot be carried out is received all
        the same, and a person looks at it. Raises StatementForged, StatementExpired, TooManyDeclarations.
        """
        declaration = read_statement(token)
        if (before := Withdrawal.objects.filter(key=declaration.key).first()) is not None:
            return before
        require_fresh(token)
        with atomic():
            # Before anything else is locked: of two at the limit, the second sees the first.
            take_turns([f"withdrawal:{declaration.email.casefold()}"], before_orders=True)
            row, is_new = Withdrawal.objects.get_or_create(
                key=declaration.key, defaults=_columns(declaration, declared_at=self.as_of)
            )
            if not is_new:
                return row
            require_few(row)
            if row.order_id is None:
                self._hand_over(row, _("No order has this number and e-mail address. Find out which one is meant."))
            elif maintenance.current() is None:
                row = self._carried_out(row)
            send_receipt(row)
        return row

    def _carried_out(self, row: Withdrawal) -> Withdrawal:
        """Carry it out; whatever stands in the way, the declaration has been received."""
        order = Order.objects.select_related("store", "customer").get(withdrawals=row)
        row.order = order
        try:
            with atomic():
                return self.as_owner(order).withdraw(withdrawal=row)
        except Refused as no:
            self._hand_over(row, _("It could not be carried out: %(why)s") % {"why": no})
        except Exception as error:  # noqa: BLE001 - the declaration counts; logged, and a person sees it
            logger.error("Withdrawal %s could not be carried out: %s", row.uuid, jobs.for_log(error))
            self._hand_over(row, _("It could not be carried out, for a fault of the desk. Its log says more."))
        return row

    def _hand_over(self, row: Withdrawal, problem: str) -> None:
        row.status, row.problem = Withdrawal.Status.NEEDS_PERSON, problem
        row.save(update_fields=["status", "problem"])
        follow_up(row)


# ---------------------------------------------------------------------------------------------------------------
# Which order, which lines


def order_meant(*, number: str, email: str, customer: User | None) -> Order | None:
    """The order of a number that belongs to who is logged in or was placed with the e-mail address; one query."""
    whose = Q(email__iexact=email.strip())
    if customer is not None:
        whose |= Q(customer=customer)
    orders = Order.objects.all().placed().filter(whose, **Order.resolve_number(number.strip().lstrip("#")))
    found: Order | None = orders.select_related("store", "customer").first()
    return found


def check_lines(facts: Facts, lines: Mapping[int, int] | None, *, coming: Mapping[int, int]) -> None:
    """Raise BadLines, TooManyUnits for what is not there to be withdrawn from."""
    if lines is None:
        return
    if not lines:
        raise rules.BadLines(_("Choose at least one article."), field="items")
    for position, (line_id, units) in enumerate(lines.items()):
        line = facts.line(line_id)
        if line is None:
            words = _("Line %(line)s is not part of this order.") % {"line": line_id}
            raise rules.BadLines(words, field=f"items.{position}.order_item")
        left = rules.withdrawable(line, coming=coming)
        if not 1 <= units <= left:
            raise TooManyUnits(params={"max": left}, max_quantity=left, field=f"items.{position}.quantity")


def _stated(line: OrderLine, plan: rules.WithdrawalPlan, coming: Mapping[int, int]) -> StatedLine:
    cancel, back = plan.cancel.get(line.pk, 0), plan.back.get(line.pk, 0)
    ask = sum(units.get(line.pk, 0) for units in (plan.ask_cancel, plan.ask_back, plan.held))
    left = rules.withdrawable(line, coming=coming)
    return StatedLine(line=line, units=cancel + back + ask, left=left, cancel=cancel, send_back=back, ask=ask)


# ---------------------------------------------------------------------------------------------------------------
# The token


def _as_json(declaration: Declaration) -> dict[str, Any]:
    lines = None if declaration.lines is None else {str(pk): units for pk, units in declaration.lines.items()}
    names = ("key", "name", "number", "email", "text", "language", "order_id")
    return {**{name: getattr(declaration, name) for name in names}, "lines": lines}


def read_statement(token: str) -> Declaration:
    """This will read a statement back, however old. Raises StatementForged."""
    try:
        data = signing.loads(token, salt=SALT)
        lines = data.pop("lines")
        return Declaration(lines=None if lines is None else {int(pk): n for pk, n in lines.items()}, **data)
    except (signing.BadSignature, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StatementForged(field="token") from error


def require_fresh(token: str) -> None:
    """Raise StatementExpired for a statement that was made too long ago to know what would follow from it."""
    try:
        signing.loads(token, salt=SALT, max_age=TOKEN_SECONDS)
    except signing.SignatureExpired as error:
        raise StatementExpired(field="token") from error


def _columns(declaration: Declaration, *, declared_at: datetime) -> dict[str, Any]:
    return {**_as_json(declaration), "declared_at": declared_at}


def require_few(row: Withdrawal) -> None:
    """Raise TooManyDeclarations where an address has had many receipts today. One query."""
    since = row.declared_at - timedelta(days=1)
    same = Withdrawal.objects.filter(email__iexact=row.email, declared_at__gt=since).exclude(pk=row.pk)
    before = list(same.values_list("order", flat=True)[:MOST_A_DAY])
    unmatched = sum(order is None for order in before)
    if len(before) >= MOST_A_DAY or (row.order_id is None and unmatched >= MOST_UNMATCHED_A_DAY):
        raise TooManyDeclarations


# ---------------------------------------------------------------------------------------------------------------
# The receipt


def send_receipt(row: Withdrawal) -> None:
    """This will promise the receipt to the stated address: what was stated, and when, to the second."""
    order = row.order
    message = notifications.queue_message(
        event=RECEIPT,
        cause=f"withdrawal:{row.uuid}",
        reference=(order.number or "") if order else "",
        store_id=order.store_id if order else None,
        recipient=row.email,
        language=row.language,
        context=receipt_context(row),
    )
    if message is not None and order is not None:
        CommunicationEvent.objects.create(
            order=order,
            event_type=RECEIPT,
            message=message,
            created_at=row.declared_at,
            actor_kind=CUSTOMER,
            actor_name=row.name,
        )


def receipt_context(row: Withdrawal) -> dict[str, Any]:
    """What the receipt says, on paper as in the mail: nothing of the order but what was stated, and what follows."""
    order = row.order
    with translation.override(row.language):
        context: dict[str, Any] = {
            "number": (order.number or "") if order else row.number,
            "customer_name": row.name,
            "status_label": str(Withdrawal.Status.RECEIVED.label),
            "declared_at": timezone.localtime(row.declared_at).isoformat(timespec="seconds"),
            "stated_email": row.email,
            "stated_text": row.text,
            "whole": row.lines is None,
        }
        if order is None:
            return context
        store = order.store
        context["store"] = {"name": store.name, "address": store.address, "email": store.email}
        context["placed_on"] = timezone.localdate(order.placed_at).isoformat()
        lines = list(order.facts.lines)
        context |= {
            "units": _units(lines, stated_lines(row) or row.units_of("cancel", "back", "ask", "left")),
            "units_cancelled": _units(lines, row.units_of("cancel")),
            "units_back": _units(lines, row.units_of("back")),
            "units_asked": _units(lines, row.units_of("ask", "left")),
        }
        context["not_refunded"] = rules.dearer_words(order, row.shipping_kept)
        context["nothing_left"] = row.status == Withdrawal.Status.CARRIED_OUT and not context["units"]
        if row.goods_return is not None:
            context |= return_words(row.goods_return)
            by = timezone.localdate(rules.settle_by(row.declared_at))
            context["send_back_by"] = by.isoformat()
        if row.in_time is False and row.deadline is not None:
            context["possible_until"] = timezone.localdate(row.deadline).isoformat()
    return context


def _units(lines: list[OrderLine], units: Mapping[int, int]) -> list[dict[str, Any]]:
    return [{"name": line.name, "sku": line.sku, "quantity": units[line.pk]} for line in lines if units.get(line.pk)]
