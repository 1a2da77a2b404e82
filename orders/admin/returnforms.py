"""The forms of goods that come back: what came, in which condition, and what is kept of its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django import forms
from django.forms.boundfield import BoundField
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders import rules
from orders.admin.forms import LinesForm, reasons_by_category, text_area, yes
from orders.admin.planforms import DestinationForm, PlanForm
from orders.admin.plans import PlanView
from orders.models import CancellationRequest, Condition, Disposition, Facts, Order, OrderLine, Return
from orders.processing import EventHandler, get_event_handler
from orders.processing.fulfilment import accounted_for
from payments import services as payments
from shop.errors import Words
from shop.money import quantum, rounded

Data = dict[str, Any]


class KeptForm(PlanForm):
    """What is kept of the goods' value: the shop's terms and the law say how much, until somebody says otherwise.

    The field is filled with what they say of the units that were shown. Left like that it follows the units; anything
    else is the word of whoever wrote it, nothing included. The plan's `deduction` is None while it follows.
    """

    deduction = forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=15,
        decimal_places=3,
        help_text=gettext_lazy(
            "The fee of the shop's terms, what a dearer delivery cost more, or a loss in value. Left as it was filled"
            " in, it follows what came back."
        ),
    )
    suggested = forms.DecimalField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._handler = get_event_handler(kwargs["actor"])
        super().__init__(*args, **kwargs)
        kept, currency = self.fields["deduction"], self.order.currency
        kept.label = f"{_('Keep of its value')} ({currency})"
        kept.widget.attrs["step"] = str(quantum(currency))

    def kept(self, data: Mapping[str, Any]) -> str | None:
        """What somebody decided to keep, as JSON has it; None: what the terms say."""
        deduction = data.get("deduction")
        return None if deduction == data.get("suggested") else str(deduction or 0)

    def _show_first_plan(self) -> None:
        super()._show_first_plan()
        if self.plan is not None:
            for name in ("deduction", "suggested"):
                self.fields[name].initial = self._planned()

    def _show_again(self, data: dict[str, Any]) -> None:
        super()._show_again(data)
        if self.plan is not None and self._choice is not None and self._choice["deduction"] is None:
            for name in ("deduction", "suggested"):
                self.data[name] = str(self._planned())  # type: ignore[index]

    def _planned(self) -> Decimal:
        assert self.plan is not None
        return rounded(self.plan.deduction, self.order.currency)


def deduction_of(choice: Mapping[str, Any]) -> Decimal | None:
    """What of a choice the handler's verbs are given."""
    return None if choice["deduction"] is None else Decimal(choice["deduction"])


def planned_return(handler: EventHandler, facts: Facts, choice: Mapping[str, Any]) -> rules.Plan:
    """The plan of what somebody chose to take back. Raises Refused."""
    return handler.planned_return(
        facts,
        {int(pk): (units, goes_to) for pk, (units, goes_to) in choice["lines"].items()},
        deduction=deduction_of(choice),
        reason=rules.WITHDRAWAL if choice["withdrawal"] else "",
        notify=choice["notify"],
        destination=choice["destination"],
    )


class TakeBackForm(KeptForm, DestinationForm, LinesForm):
    """What came back, in which condition, and how much of its value is kept."""

    purpose = "take-back"
    BESIDE_THE_PLAN = PlanForm.BESIDE_THE_PLAN | DestinationForm.DETAILS
    column = gettext_lazy("Came back")
    reason = forms.ChoiceField(label=gettext_lazy("Reason"), required=False)
    refund = yes(gettext_lazy("Refund what was paid for them"))
    notify = yes(gettext_lazy("Tell the customer"))
    field_order = ["deduction", "reason", "note", "refund", "notify"]

    def __init__(self, *args: Any, obj: Order, **kwargs: Any) -> None:
        awaited = CancellationRequest.objects.filter(
            order=obj,
            cancellation_type=CancellationRequest.Type.REFUND,
            status__in=CancellationRequest.AWAITING_GOODS,
        )
        self.awaited = dict(awaited.values_list("line", "quantity"))
        super().__init__(*args, obj=obj, **kwargs)
        reason = self.fields["reason"]
        assert isinstance(reason, forms.ChoiceField)
        reason.choices = reasons_by_category(empty=_("No reason given"))

    def add_line(self, line: OrderLine, filled: int) -> None:
        super().add_line(line, filled)
        self.fields[f"to_{line.pk}"] = forms.ChoiceField(
            label=line.name,
            required=False,
            choices=Disposition.choices,
            initial=Disposition.QUARANTINE,
            widget=forms.Select(attrs={"aria-label": _("Where %(name)s goes") % {"name": line.name}}),
        )

    def available(self) -> Callable[[OrderLine], int]:
        return lambda line: line.returnable

    def filled(self) -> Callable[[OrderLine], int]:
        """What a customer announced; on an order of one line all of it; otherwise what came back has to be said."""
        only = sum(1 for room in self.rooms.values() if room) == 1
        return lambda line: min(self.rooms[line.pk], self.awaited.get(line.pk, self.rooms[line.pk] if only else 0))

    def choice(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        lines = self.chosen(data)
        if not lines:
            return None
        return {
            "lines": {
                str(pk): [units, data.get(f"to_{pk}") or Disposition.QUARANTINE.value] for pk, units in lines.items()
            },
            "deduction": self.kept(data),
            "withdrawal": data.get("reason") == rules.WITHDRAWAL,
            "refund": bool(data.get("refund")),
            "notify": bool(data.get("notify")),
            "destination": data.get("destination") or "",
        }

    def make_plan(self, choice: Mapping[str, Any]) -> rules.Plan:
        to = payments.Destination(gateway=choice["destination"])
        payments.require_offered(to, owner_id=self.order.customer_id)
        return planned_return(self._handler, self.facts, choice)

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if self._choice:
            data["lines"] = {int(pk): (units, goes_to) for pk, (units, goes_to) in self._choice["lines"].items()}
        data["choice"] = self._choice
        return data


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One request in the form: how many of its units are awaited, and a field for each condition."""

    request: CancellationRequest
    left: int
    fields: list[BoundField]


@dataclass(frozen=True, slots=True)
class InspectionView(PlanView):
    """A plan whose units go to several places."""

    found: Mapping[str, Mapping[str, int]] = None  # type: ignore[assignment]
    requests: Mapping[str, CancellationRequest] = None  # type: ignore[assignment]

    @property
    def lines(self) -> list[tuple[rules.PlannedUnits, Words]]:
        told: list[tuple[rules.PlannedUnits, Words]] = []
        for pk, conditions in self.found.items():
            line = self.requests[pk].line
            for condition, units in conditions.items():
                row = rules.PlannedUnits(line.pk, line.name, line.sku, units)
                told.append((row, Condition(condition).label))
        return told


class InspectForm(KeptForm):
    """What was found in a parcel: for each request so many units of each condition, and what is kept of their value."""

    purpose = "inspect"
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=2000,
        widget=text_area(2),
        help_text=gettext_lazy("Where all of a request is missing, the customer reads it."),
    )
    columns = Condition.labels

    def __init__(self, *args: Any, obj: Return, **kwargs: Any) -> None:
        awaited = [one for one in obj.requests.all() if one.status in CancellationRequest.AWAITING_GOODS]
        known = accounted_for(awaited)
        self.awaited = {one: max(0, one.quantity - sum(known[one.pk])) for one in awaited}
        super().__init__(*args, obj=obj, **kwargs)

    def _show_first_plan(self) -> None:
        self._add_fields()
        super()._show_first_plan()

    def full_clean(self) -> None:
        self._add_fields()
        super().full_clean()

    def _add_fields(self) -> None:
        for request, left in self.awaited.items():
            likely = Condition.SELLABLE if request.reason.restocks and not request.reason.shops_fault else "quarantine"
            for condition in Condition:
                filled = left if condition == likely else 0
                label = f"{request.line.name}: {condition.label}"
                field = forms.IntegerField(
                    label=label, required=False, min_value=0, max_value=1_000_000, initial=filled
                )
                field.widget.attrs.update({"max": left, "aria-label": label, "inputmode": "numeric"})
                self.fields[f"{condition}_{request.pk}"] = field

    @property
    def order(self) -> Order:
        order: Order = self.obj.order
        return order

    @property
    def _purpose(self) -> str:
        return f"{super()._purpose}:{self.obj.pk}"

    @property
    def plain_fields(self) -> list[BoundField]:
        return [self["deduction"], self["note"]]

    def rows(self) -> Iterator[FoundRow]:
        for request, left in self.awaited.items():
            yield FoundRow(request, left, [self[f"{condition}_{request.pk}"] for condition in Condition])

    def choice(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        found: dict[str, dict[str, int]] = {}
        for request in self.awaited:
            for condition in Condition:
                if units := data.get(f"{condition}_{request.pk}") or 0:
                    found.setdefault(str(request.pk), {})[condition.value] = units
        return {"found": found, "deduction": self.kept(data), "notify": True} if found else None

    def make_plan(self, choice: Mapping[str, Any]) -> rules.Plan:
        found = {int(pk): conditions for pk, conditions in choice["found"].items()}
        settled = self._handler.plan_inspection(code=self.obj.code, found=found, deduction=deduction_of(choice))
        empty = rules.Plan(self.order.number or "", self.order.version, self.order.currency, ())
        return settled.plan or replace(empty, messages=("return_rejected",))

    @property
    def plan_view(self) -> PlanView | None:
        if not self.plan or not self._choice:
            return None
        requests = {str(request.pk): request for request in self.awaited}
        return InspectionView(self.plan, self.facts, self._choice, (), self._choice["found"], requests)

    def clean(self) -> Data:
        data = super().clean()
        if self._choice is None and not self.errors:
            self.add_error(None, _("Say of at least one unit what was found."))
        data["choice"] = self._choice
        return data
