"""The forms of the orders' action pages: every one carries the order's version, some of them units of lines.

A form checks its input only. What is possible is decided by the handler under the lock, so that the second of two
people is told who did what, not what an unlocked look happened to find. Forms with a plan: planforms.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import RegexValidator
from django.forms.boundfield import BoundField
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders import rules
from orders.models import CancellationReason, Facts, Hold, Order, OrderAddress, OrderLine, OrderNote
from shop.errors import Words
from shop.money import quantum, shown
from shop.staff import ActionForm


def text_area(rows: int = 3) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows})


def reasons_by_category(*, empty: Words) -> list[Any]:
    """The active reasons as a select shows them: by category, in their order."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for reason in CancellationReason.objects.filter(is_active=True).order_by("position", "pk"):
        groups.setdefault(str(reason.get_category_display()), []).append((reason.code, ReasonLabel(reason)))
    return [("", empty), *groups.items()]


class ReasonLabel(str):
    """A reason's name in a select, which knows what choosing it asks for."""

    reason: CancellationReason

    def __new__(cls, reason: CancellationReason) -> ReasonLabel:
        made = super().__new__(cls, reason.label)
        made.reason = reason
        return made


class ReasonSelect(forms.Select):
    """Tells the page, for each reason, whether it asks who wanted it, and where the goods usually go."""

    def create_option(self, name: str, value: Any, label: int | str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, label, *args, **kwargs)
        if isinstance(label, ReasonLabel):
            option["attrs"]["data-contact"] = "yes" if label.reason.asks_contact else "no"
            option["attrs"]["data-restock"] = "yes" if label.reason.restocks else "no"
        return option


def yes(label: Words) -> forms.BooleanField:
    """A choice that is taken unless it is cleared."""
    return forms.BooleanField(label=label, required=False, initial=True)


class OrderForm(ActionForm):
    """Base of all: the order's version, so that a decision is made on what its maker has seen."""

    obj: Order
    version = forms.IntegerField(widget=forms.HiddenInput, min_value=0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version"].initial = self.order.version

    @property
    def order(self) -> Order:
        return self.obj

    @property
    def facts(self) -> Facts:
        return self.order.facts

    @property
    def plain_fields(self) -> list[BoundField]:
        """The fields that are not part of a table of lines, and not the tick at the end."""
        return [
            field
            for field in self.visible_fields()
            if field.name != "understood" and not field.name.startswith(("units_", "to_"))
        ]


class RemarkForm(OrderForm):
    """Nothing but a remark, for those who want to say why."""

    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=2000, widget=text_area(2))


# ---------------------------------------------------------------------------------------------------------------
# Units of lines


@dataclass(frozen=True, slots=True)
class LineRow:
    """One line in a form's table."""

    line: OrderLine
    available: int
    units: BoundField
    goes_to: BoundField | None = None


class LinesForm(OrderForm):
    """A number of units for each line. Subclasses say how many are available and how many are filled in."""

    column: Words = gettext_lazy("Units")
    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=2000, widget=text_area(2))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        available = self.available()
        self.rooms = {line.pk: available(line) for line in self.facts.lines}
        filled = self.filled()
        for line in self.facts.lines:
            self.add_line(line, filled(line) if self.rooms[line.pk] else 0)

    def add_line(self, line: OrderLine, filled: int) -> None:
        # The bound is the browser's help; the handler's word counts.
        field = forms.IntegerField(label=line.name, required=False, min_value=0, max_value=1_000_000, initial=filled)
        label = _("Units of %(name)s") % {"name": line.name}
        field.widget.attrs.update({"max": self.rooms[line.pk], "aria-label": label, "inputmode": "numeric"})
        self.fields[f"units_{line.pk}"] = field

    def available(self) -> Callable[[OrderLine], int]:
        raise NotImplementedError

    def filled(self) -> Callable[[OrderLine], int]:
        return lambda line: self.rooms[line.pk]

    def rows(self) -> Iterator[LineRow]:
        """The lines that there is something to choose of, with their inputs."""
        for line in self.facts.lines:
            if self.rooms[line.pk] or self[f"units_{line.pk}"].errors:
                goes_to = self[f"to_{line.pk}"] if f"to_{line.pk}" in self.fields else None
                yield LineRow(line, self.rooms[line.pk], self[f"units_{line.pk}"], goes_to)

    def chosen(self, data: Mapping[str, Any]) -> dict[int, int] | None:
        """Line id → units; None means all of them, as the handler's verbs understand it."""
        return {line.pk: units for line in self.facts.lines if (units := data.get(f"units_{line.pk}") or 0)}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        data["lines"] = self.chosen(data)
        if data["lines"] == {} and not self.errors:
            self.add_error(None, _("Choose at least one unit."))
        return data


class ShipForm(LinesForm):
    carrier = forms.CharField(label=gettext_lazy("Carrier"), required=False, max_length=100)
    tracking_number = forms.CharField(label=gettext_lazy("Tracking number"), required=False, max_length=100)
    tracking_url = forms.URLField(
        label=gettext_lazy("Tracking address"),
        required=False,
        max_length=500,
        assume_scheme="https",
        help_text=gettext_lazy("The web page where the customer follows the parcel."),
    )
    column = gettext_lazy("Leaves now")
    field_order = ["carrier", "tracking_number", "tracking_url", "note"]

    def available(self) -> Callable[[OrderLine], int]:
        return rules.shippable_units(self.facts)


class DeliverForm(LinesForm):
    column = gettext_lazy("Arrived")

    def available(self) -> Callable[[OrderLine], int]:
        return lambda line: max(0, line.shipped - line.delivered - line.returned)


# ---------------------------------------------------------------------------------------------------------------
# Money by amount


class AmountForm(OrderForm):
    """An amount in the order's currency."""

    amount = forms.DecimalField(label=gettext_lazy("Amount"), max_digits=15, decimal_places=3)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field, most = self.fields["amount"], self.most()
        field.label = f"{field.label} ({self.order.currency})"
        field.help_text = _("At most %(amount)s.") % {"amount": shown(most, self.order.currency)}
        step = quantum(self.order.currency)
        field.widget.attrs.update(
            {"step": str(step), "min": str(step), "max": str(most.quantize(step)), "inputmode": "decimal"}
        )

    def most(self) -> Decimal:
        raise NotImplementedError


class RecordPaymentForm(AmountForm):
    """Money that arrived outside any gateway."""

    reference = forms.CharField(
        label=gettext_lazy("Reference"),
        required=False,
        max_length=128,
        help_text=gettext_lazy("As it stands on the bank statement or receipt."),
    )
    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=2000, widget=text_area(2))
    surplus = forms.BooleanField(
        label=gettext_lazy("More has arrived than is outstanding"),
        required=False,
        help_text=gettext_lazy("What is not owed is sent back."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        amount, most = self.fields["amount"], self.most().quantize(quantum(self.order.currency))
        amount.initial = most
        amount.widget.attrs.pop("max", None)
        words = _(
            "%(amount)s is outstanding. Enter what your bank has credited, in %(currency)s; less leaves the rest due."
        )
        amount.help_text = words % {"amount": shown(most, self.order.currency), "currency": self.order.currency}

    def most(self) -> Decimal:
        return self.facts.outstanding

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        amount, most = data.get("amount"), self.most()
        if amount is not None and amount > most and not data.get("surplus"):
            words = _("Only %(max)s is outstanding. If more has arrived, say so below: the rest is sent back.")
            self.add_error("amount", words % {"max": shown(most, self.order.currency)})
        return data


class RecordSurplusForm(RecordPaymentForm):
    """Money that nobody waited for: as much as arrived."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["surplus"]  # the action itself says so
        words = _("As much as your bank has credited, in %(currency)s. What is not owed is sent back.")
        self.fields["amount"].initial = None
        self.fields["amount"].help_text = words % {"currency": self.order.currency}

    def clean(self) -> dict[str, Any]:
        self.cleaned_data["surplus"] = True
        return super().clean()


# ---------------------------------------------------------------------------------------------------------------
# Holds, addresses, notes, answers


class HoldForm(OrderForm):
    kind = forms.ChoiceField(label=gettext_lazy("Why"), choices=Hold.Kind.choices)
    reason = forms.CharField(
        label=gettext_lazy("What is to be done before it goes on"), required=False, max_length=2000, widget=text_area()
    )


class ReleaseForm(OrderForm):
    hold = forms.ChoiceField(label=gettext_lazy("Hold"), widget=forms.RadioSelect)
    note = forms.CharField(
        label=gettext_lazy("How it was resolved"), required=False, max_length=2000, widget=text_area()
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["hold"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(str(hold.pk), self._label(hold)) for hold in self.facts.holds]
        if len(self.facts.holds) == 1:
            field.initial = str(self.facts.holds[0].pk)

    def _label(self, hold: Hold) -> str:
        words = _("%(kind)s, by %(who)s") % {"kind": hold.get_kind_display(), "who": hold.placed_by}
        return f"{words}: {hold.reason}" if hold.reason else words


class AddressForm(OrderForm):
    """A new address; the one before stays on record."""

    which = forms.ChoiceField(
        label=gettext_lazy("Which address"),
        choices=[
            ("shipping", gettext_lazy("Shipping address")),
            ("billing", gettext_lazy("Billing address")),
            ("both", gettext_lazy("Both")),
        ],
        initial="shipping",
        widget=forms.RadioSelect,
    )
    FIELDS = OrderAddress.FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        before = self.order.shipping_address or self.order.billing_address
        model_fields = forms.fields_for_model(OrderAddress, fields=self.FIELDS)
        model_fields["country"].validators.append(RegexValidator(r"^[A-Za-z]{2}\Z", _("Two letters, such as DE.")))
        for name in self.FIELDS:
            field = model_fields[name]
            assert field is not None
            field.initial = getattr(before, name, "")
            self.fields[name] = field

    def clean_country(self) -> str:
        return str(self.cleaned_data["country"]).upper()

    @property
    def address(self) -> OrderAddress:
        return OrderAddress(**{name: self.cleaned_data[name] for name in self.FIELDS})

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if not self.errors:
            data["address"] = self.address
        return data


class NoteForm(ActionForm):
    """A note stands beside what others do: it carries no version, for it is true whatever they did."""

    note_type = forms.ChoiceField(
        label=gettext_lazy("Type"),
        choices=[choice for choice in OrderNote.Type.choices if choice[0] != OrderNote.Type.SYSTEM],
    )
    message = forms.CharField(label=gettext_lazy("Note"), max_length=5000, widget=text_area(4))


class CorrectNoteForm(ActionForm):
    message = forms.CharField(label=gettext_lazy("Note"), max_length=5000, widget=text_area(4))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["message"].initial = self.obj.message


class AnswerForm(OrderForm):
    """An answer to a customer's request. `obj` is the request; the version is its order's."""

    @property
    def order(self) -> Order:
        order: Order = self.obj.order
        return order


class ApproveRequestForm(AnswerForm):
    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=2000, widget=text_area(2))


class RejectRequestForm(AnswerForm):
    note = forms.CharField(
        label=gettext_lazy("Answer to the customer"),
        max_length=2000,
        widget=text_area(),
        help_text=gettext_lazy("The customer reads this."),
    )


class CloseRequestForm(AnswerForm):
    note = forms.CharField(
        label=gettext_lazy("How the customer got the money"),
        max_length=2000,
        widget=text_area(2),
        help_text=gettext_lazy("Such as when it was transferred, and its reference."),
    )
