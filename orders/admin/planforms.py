"""Forms that show what will happen before it does: cancel, take payment, take back, refund."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django import forms
from django.forms.boundfield import BoundField
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders import rules
from orders.admin.forms import AmountForm, LinesForm, OrderForm, ReasonSelect, reasons_by_category, text_area, yes
from orders.admin.plans import PlanView
from orders.models import (
    Cancellation,
    CancellationReason,
    OrderLine,
    RefundKind,
)
from orders.processing import get_event_handler
from orders.processing.cancelling import Choices, Contact
from orders.processing.decision import changed_since
from orders.processing.letters import Letter
from orders.rules.recurring import planned_end
from payments import services as payments
from shop.errors import Refused, Words

CONFIRM = "confirm"


class PlanForm(OrderForm):
    """Shows what will happen before it does. A confirmation counts only for the choices whose plan was shown.

    The page's hidden token holds, signed, the choices and the plan that was shown for them. Other choices show their
    plan first; the same choices go to the handler together with the plan, and are refused where it is no longer true.
    """

    token = forms.CharField(widget=forms.HiddenInput, required=False)
    purpose = ""
    BESIDE_THE_PLAN = frozenset({"reason", "note", "understood"})

    plan: rules.Plan | None = None
    confirmed = False
    asks_again = False
    changed: Refused | None = None
    _choice: dict[str, Any] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.is_bound:
            self._show_first_plan()

    def _show_first_plan(self) -> None:
        data = {name: self.get_initial_for_field(field, name) for name, field in self.fields.items()}
        choice = self.choice(data)
        if choice is None:
            return
        try:
            self.plan = self.make_plan(choice)
        except Refused:
            return  # the page itself says why
        self._choice = choice
        self.fields["token"].initial = self._sign(choice)

    def _sign(self, choice: Mapping[str, Any]) -> str:
        assert self.plan is not None
        return rules.sign_plan(rules.Shown(dict(choice), self.plan), purpose=self._purpose)

    @property
    def _purpose(self) -> str:
        return f"{self.purpose}:{self.order.pk}:{self.actor.user_id}"

    @property
    def is_confirming(self) -> bool:
        return self.data.get("step") == CONFIRM

    def choice(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """What of the input decides about the plan, in JSON's types; None while nothing is chosen."""
        raise NotImplementedError

    def make_plan(self, choice: Mapping[str, Any]) -> rules.Plan:
        """The plan for a choice. Raises Refused."""
        raise NotImplementedError

    @property
    def plan_view(self) -> PlanView | None:
        return PlanView(self.plan, self.facts, self._choice or {}, self.letters()) if self.plan else None

    def letters(self) -> list[Letter]:
        """What the customer would be told, where the plan is one that tells."""
        return []

    @property
    def shown_scope(self) -> str:
        """Whether the plan that is shown is one of everything: the page dims it when something else is chosen."""
        return "all" if self.plan and (self._choice or {}).get("lines", {}) is None else "some"

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        # What is missing elsewhere (a reason, a tick) does not hide the plan that the page has shown.
        if set(self.errors) - self.BESIDE_THE_PLAN:
            return data
        self._choice = self.choice(data)
        if self._choice is None:
            return data
        before = self._shown_before(data)
        if before is None or before.choice != self._choice or not self.is_confirming:
            self._show_again(data)
            return data
        self.plan = data["plan"] = before.plan
        self.confirmed = not self.errors
        return data

    def _shown_before(self, data: Mapping[str, Any]) -> rules.Shown | None:
        """What the page has shown; nothing where its token is missing, altered, too old, or of another page."""
        try:
            return rules.read_plan(data.get("token", ""), purpose=self._purpose)
        except (rules.PlanForged, rules.PlanExpired):
            return None

    def _show_again(self, data: dict[str, Any]) -> None:
        """Nothing happens yet: show the plan for these choices, and bind the next confirmation to it."""
        assert self._choice is not None
        if data.get("version") != self.order.version:
            self.changed = changed_since(self.order, data.get("version", 0), actor=self.actor)
            return
        try:
            self.plan = self.make_plan(self._choice)
        except Refused as no:
            self.add_error(no.field if no.field in self.fields else None, str(no))
            return
        self.asks_again = self.is_confirming and not self.errors
        self.data = self.data.copy()  # type: ignore[attr-defined]
        self.data["token"] = self._sign(self._choice)  # type: ignore[index]

    def is_valid(self) -> bool:
        return super().is_valid() and self.confirmed


class ScopeForm(LinesForm):
    """Everything, or only some units: on an order of fifty lines nobody has to clear forty-nine fields."""

    ALL, SOME = "all", "some"
    all_label: Words = ""
    scope = forms.ChoiceField(label=gettext_lazy("What"), widget=forms.RadioSelect, initial=ALL)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        units = sum(self.rooms.values())
        field = self.fields["scope"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(self.ALL, f"{self.all_label} ({units})"), (self.SOME, _("Only some units"))]

    def filled(self) -> Callable[[OrderLine], int]:
        return lambda line: 0

    @property
    def has_choice(self) -> bool:
        return sum(self.rooms.values()) > 1

    def chosen(self, data: Mapping[str, Any]) -> dict[int, int] | None:
        some = super().chosen(data)
        if data.get("scope") != self.ALL:
            return some
        if some and self.is_bound and not self.has_error("scope"):
            self.add_error("scope", _("You entered units: choose “Only some units”, or clear them."))
        return None


def as_text(lines: Mapping[int, int] | None) -> dict[str, int] | None:
    """Chosen units as JSON keeps them."""
    return None if lines is None else {str(pk): units for pk, units in lines.items()}


def as_units(lines: Mapping[str, int] | None) -> dict[int, int] | None:
    return None if lines is None else {int(pk): units for pk, units in lines.items()}


class DestinationForm(PlanForm):
    """Where the money goes: as it was paid, as credit that the customer has agreed to, or to a bank account by hand."""

    DESTINATION = ("destination", "agreed", "consent", "iban", "holder")
    DETAILS = frozenset(DESTINATION[1:])
    offers_choice = False

    destination = forms.ChoiceField(label=gettext_lazy("The money goes"), required=False)
    agreed = forms.BooleanField(
        label=gettext_lazy("The customer has agreed to credit instead of money"), required=False
    )
    consent = forms.CharField(
        label=gettext_lazy("Who agreed, how and when"),
        required=False,
        max_length=1000,
        widget=text_area(2),
        help_text=gettext_lazy("Such as: Ada Lovelace, on the telephone, today at 10."),
    )
    iban = forms.CharField(label=gettext_lazy("IBAN"), required=False, max_length=50)
    holder = forms.CharField(label=gettext_lazy("Account holder"), required=False, max_length=100)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.DESTINATION:  # shown only where they are needed, so they are not called optional
            self.fields[name].is_asked = True  # type: ignore[attr-defined]
        for name in ("iban", "holder"):
            self.fields[name].widget.attrs["autocomplete"] = "off"

    def offer_destinations(self) -> None:
        """What there is for this order; a guest has no account that could be credited."""
        offered = payments.refund_destinations()
        if self.order.customer_id is None:
            offered = [code for code in offered if not payments.is_credit(code)]
        field = self.fields["destination"]
        assert isinstance(field, forms.ChoiceField)
        field.widget = DestinationSelect()
        field.choices = [("", _("back as it was paid")), *((code, _destination_label(code)) for code in offered)]
        self.offers_choice = bool(offered)

    def full_clean(self) -> None:
        self.offer_destinations()
        super().full_clean()

    def _show_first_plan(self) -> None:
        self.offer_destinations()
        super()._show_first_plan()

    @property
    def plain_fields(self) -> list[BoundField]:
        return [field for field in super().plain_fields if field.name not in self.DESTINATION]

    @property
    def destination_fields(self) -> list[BoundField]:
        return [self[name] for name in self.DESTINATION] if self.offers_choice else []

    @property
    def goes_to(self) -> payments.Destination:
        data = getattr(self, "cleaned_data", {})
        return payments.Destination(
            gateway=data.get("destination") or "",
            consent=data.get("consent", "") if data.get("agreed") else "",
            iban=data.get("iban", ""),
            holder=data.get("holder", ""),
        )

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        data["destination"] = to = self.goes_to
        # What a plan shows has to be possible: an account that is named already is checked before it is confirmed.
        if (self.is_confirming or to.iban) and data.get("refund", True):
            try:
                payments.completed(to, owner_id=self.order.customer_id)
            except Refused as no:
                self.add_error(no.field if no.field in self.fields else None, str(no))
                self.confirmed = False
        return data


class DestinationSelect(forms.Select):
    """Tells the page, for each destination, what it asks for: a consent, or a bank account."""

    def create_option(self, name: str, value: Any, label: int | str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, label, *args, **kwargs)
        if value:
            asks = "consent" if payments.is_credit(str(value)) else "bank" if payments.asks_for_bank(str(value)) else ""
            option["attrs"]["data-asks"] = asks
        return option


def _destination_label(code: str) -> Words:
    if payments.is_credit(code):
        return _("as %(what)s") % {"what": payments.gateway_label(code)}
    if payments.asks_for_bank(code):
        return _("to a bank account, by hand")
    return payments.gateway_label(code)


class CancelForm(DestinationForm, ScopeForm):
    """The cancellation dialog of seed 001: what, why, who asked for it, and four separate choices.

    Where somebody has to agree first, it asks why, and its button asks for approval instead.
    """

    purpose = "cancel"
    all_label = gettext_lazy("Everything that has not shipped")
    column = gettext_lazy("Cancel")
    CONTACT = ("contact_name", "contact_channel", "contact_details", "contact_at")
    BESIDE_THE_PLAN = frozenset({"reason", "note", "understood", "justification", *CONTACT, *DestinationForm.DETAILS})

    reason = forms.ChoiceField(label=gettext_lazy("Reason"), widget=ReasonSelect)
    contact_name = forms.CharField(label=gettext_lazy("Who asked for it"), required=False, max_length=200)
    contact_channel = forms.ChoiceField(
        label=gettext_lazy("How"), required=False, choices=[("", "–"), *Cancellation.Channel.choices]
    )
    contact_details = forms.CharField(label=gettext_lazy("Telephone number or address"), required=False, max_length=200)
    contact_at = forms.DateTimeField(
        label=gettext_lazy("When"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text=gettext_lazy("Empty: now."),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=2000,
        widget=text_area(),
        help_text=gettext_lazy("For colleagues."),
    )
    restock = yes(gettext_lazy("Put the units back into stock"))
    refund = yes(gettext_lazy("Refund what was paid for them"))
    notify = yes(gettext_lazy("Tell the customer"))
    justification = forms.CharField(
        label=gettext_lazy("Why it should be cancelled"),
        required=False,
        max_length=2000,
        widget=text_area(2),
        help_text=gettext_lazy("For whoever decides it."),
    )
    field_order = ["scope", "reason", *CONTACT, "note", "restock", "refund", "notify", "ends_series"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._handler = get_event_handler(kwargs["actor"])
        self._reason: CancellationReason | None = None
        super().__init__(*args, **kwargs)
        self.fields["justification"].is_asked = True  # type: ignore[attr-defined]  # shown only where it is needed

    def _show_first_plan(self) -> None:
        self._prepare()
        super()._show_first_plan()

    def _prepare(self) -> None:
        """What depends on the order: its reasons, whether it is one of a series, whether goods may be packed."""
        field = self.fields["reason"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = reasons_by_category(empty=_("Choose a reason"))
        ending = planned_end(self.order)
        if ending is not None:
            words = _("End the recurring order as well (%(rhythm)s): no further order comes")
            self.fields["ends_series"] = forms.BooleanField(label=words % {"rhythm": ending.rhythm}, required=False)
        if self.order.stage in rules.SHIPPABLE:
            label = _("I have made sure that these units do not leave: the order is “%(status)s”.")
            self.fields["understood"] = forms.BooleanField(
                label=label % {"status": self.order.status_label}, required=self.is_confirming
            )

    def full_clean(self) -> None:
        self._prepare()
        super().full_clean()

    @property
    def plain_fields(self) -> list[BoundField]:
        return [field for field in super().plain_fields if field.name not in {"justification", *self.CONTACT}]

    @property
    def contact_fields(self) -> list[BoundField]:
        return [self[name] for name in self.CONTACT]

    def available(self) -> Callable[[OrderLine], int]:
        return lambda line: line.open

    def choice(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        flags = {name: bool(data.get(name)) for name in ("restock", "refund", "notify", "ends_series")}
        return {"lines": as_text(self.chosen(data)), **flags, "destination": data.get("destination") or ""}

    def make_plan(self, choice: Mapping[str, Any]) -> rules.Plan:
        return self._handler.planned(self.facts, self._choices(choice))

    def _choices(self, choice: Mapping[str, Any]) -> Choices:
        flags = {name: choice[name] for name in ("restock", "refund", "notify", "ends_series")}
        to = replace(self.goes_to, gateway=choice["destination"])
        lines = as_units(choice["lines"])
        return Choices(lines=lines, reason=self._reason, contact=self.contact, destination=to, **flags)

    def letters(self) -> list[Letter]:
        if self.plan is None or self._choice is None:
            return []
        return self._handler.letters_of(self.facts, self.plan, self._choices(self._choice))

    @property
    def contact(self) -> Contact:
        data = getattr(self, "cleaned_data", {})
        if self._reason is None or not self._reason.asks_contact:
            return Contact()
        fields = {name.removeprefix("contact_"): data.get(name) for name in self.CONTACT}
        return Contact(**{name: value for name, value in fields.items() if value})

    def clean(self) -> dict[str, Any]:
        code = self.cleaned_data.get("reason")
        self._reason = CancellationReason.objects.filter(code=code).first() if code else None
        data = super().clean()
        data["contact"] = self.contact
        if self.plan is not None and self._reason is not None:
            self._ask_for_approval(data)
        return data

    def _ask_for_approval(self, data: Mapping[str, Any]) -> None:
        """The reason decides as well whether somebody has to agree: then whoever asks says why."""
        assert self.plan is not None
        approval = self._handler.assess(self.facts, self.plan, self._reason).approval
        self.plan = replace(self.plan, approval=approval)
        if approval is not None and self.is_confirming and not data.get("justification", "").strip():
            self.add_error("justification", _("Say why it should be cancelled: somebody else has to agree."))
            self.confirmed = False


class TakePaymentForm(PlanForm, ScopeForm):
    """Capture what is authorized, for all units or for those that will leave first."""

    purpose = "take-payment"
    all_label = gettext_lazy("Everything that is due")
    column = gettext_lazy("Charge")
    field_order = ["scope", "note"]

    def available(self) -> Callable[[OrderLine], int]:
        return lambda line: line.chargeable

    def choice(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        return {"lines": as_text(self.chosen(data))}

    def make_plan(self, choice: Mapping[str, Any]) -> rules.Plan:
        return rules.plan_payment(self.facts, as_units(choice["lines"]))


class RefundForm(DestinationForm, AmountForm):
    """Money back that is tied to no unit: goodwill, shipping costs, a fee. Above a limit somebody has to agree."""

    purpose = "refund"
    BESIDE_THE_PLAN = PlanForm.BESIDE_THE_PLAN | DestinationForm.DETAILS
    kind = forms.ChoiceField(label=gettext_lazy("What for"), choices=RefundKind.choices)
    note = forms.CharField(label=gettext_lazy("Reason"), max_length=500, widget=text_area(2))
    field_order = ["kind", "amount", "note"]

    def most(self) -> Decimal:
        return self.facts.refundable

    def choice(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        if not data.get("amount"):
            return None
        kind, to = data.get("kind") or RefundKind.GOODWILL.value, data.get("destination") or ""
        return {"amount": str(data["amount"]), "kind": kind, "destination": to}

    def make_plan(self, choice: Mapping[str, Any]) -> rules.Plan:
        handler, amount = get_event_handler(self.actor), Decimal(choice["amount"])
        return handler.planned_refund(self.facts, amount=amount, kind=choice["kind"], destination=choice["destination"])

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if self.confirmed and self.plan is not None:  # the token's plan does not say who has to agree
            approval = get_event_handler(self.actor).assess_refund(self.facts, self.plan.refund)
            self.plan = replace(self.plan, approval=approval)
        return data
