"""What a shop decides about cancelling: reasons, customers' rules, who has to agree, and who is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.admin.others import InUse
from orders.models import (
    Absence,
    Approval,
    ApprovalLevel,
    ApprovalPolicy,
    BulkRun,
    Cancellation,
    CancellationReason,
    CancellationRequest,
    CancelRule,
    Order,
    ShippingEvent,
    Status,
    rules_of,
    status_label,
)
from orders.processing.approvers import full_name
from orders.processing.rehearsal import rehearse
from shop.actors import Actor
from shop.errors import Words
from shop.models import User
from shop.money import rounded
from shop.staff import actor_of

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
else:  # generic for the type checker only
    ModelAdmin, ModelForm = admin.ModelAdmin, forms.ModelForm

# An order is being made in them, or nothing of it is left to cancel.
NOT_TO_CHOOSE = frozenset(
    {Status.NEW, Status.CREATED, Status.SHIPPED, Status.DELIVERED, Status.CANCELLED, Status.REFUNDED}
)


def statuses() -> list[tuple[str, Words]]:
    """The statuses of the shop's workflows in which units may be left to cancel."""
    found = [status for status in Order.all_statuses() if status not in NOT_TO_CHOOSE]
    # In the order of an order's life; those of a shop's own come last.
    order = Status.values
    found.sort(key=lambda status: order.index(status) if status in order else len(order))
    return [(status, status_label(status)) for status in found]


def told_apart() -> list[tuple[str, Words]]:
    """Those that policies tell apart: a status of the shop's own counts as the one whose rules hold in it."""
    return [(status, label) for status, label in statuses() if rules_of(status) == status]


def ticks(
    label: Words, help_text: Words, *, choices: Callable[[], list[tuple[str, Words]]]
) -> forms.MultipleChoiceField:
    """A tick for each status."""
    widget = forms.CheckboxSelectMultiple(attrs={"class": "desk-ticks"})
    return forms.MultipleChoiceField(label=label, choices=choices, required=False, widget=widget, help_text=help_text)


class Settings(ModelAdmin):
    """Short lists that few people edit, each change in Django's log."""

    actions: Any = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()

    class Media:
        css = {"all": ["desk/approvals.css"]}


# ---------------------------------------------------------------------------------------------------------------
# Reasons

# `name` is in the desk's own language; the others have a field each.
OTHER_LANGUAGES = [(code, name) for code, name in settings.LANGUAGES if code != settings.LANGUAGE_CODE]


class ReasonForm(ModelForm):
    """A reason, with a field for its name in each other language."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for code, _name in OTHER_LANGUAGES:
            if f"name_{code}" in self.fields:
                self.fields[f"name_{code}"].initial = self.instance.names.get(code, "")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        # Names in languages that the desk does not speak (any more) stay as they are.
        names = dict(self.instance.names)
        for code, _name in OTHER_LANGUAGES:
            if f"name_{code}" in data:
                names[code] = data[f"name_{code}"].strip()
        self.instance.names = {code: name for code, name in names.items() if name}
        return data


def _reason_form() -> type[ReasonForm]:
    fields: dict[str, Any] = {
        f"name_{code}": forms.CharField(
            label=_lazy_name(language),
            required=False,
            max_length=200,
            help_text=gettext_lazy("Empty: the name above is shown."),
        )
        for code, language in OTHER_LANGUAGES
    }
    meta = type("Meta", (), {"model": CancellationReason, "exclude": ["names"]})
    return type("ReasonForm", (ReasonForm,), {**fields, "Meta": meta})


def _lazy_name(language: Words) -> Words:
    return format_lazy("{} ({})", gettext_lazy("Name"), language)


@admin.register(CancellationReason)
class CancellationReasonAdmin(InUse):
    """Reasons to choose from. One that has been used is switched off, not deleted."""

    form = _reason_form()
    list_display = [
        "name",
        "category",
        "code",
        "shown_to_customers",
        "needs_note",
        "restocks",
        "needs_approval",
        "asks_contact",
        "is_active",
        "position",
    ]
    list_filter = ["category", "shown_to_customers", "needs_approval", "is_active"]
    search_fields = ["name", "code"]
    fieldsets = [
        (None, {"fields": ["category", "code", "name", *(f"name_{code}" for code, _name in OTHER_LANGUAGES)]}),
        (gettext_lazy("Who may choose it"), {"fields": ["shown_to_customers", "is_active", "position"]}),
        (
            gettext_lazy("What it asks and suggests"),
            {"fields": ["needs_note", "asks_contact", "needs_approval", "restocks", "shops_fault"]},
        ),
    ]
    # The desk itself gives these reasons.
    OWN = frozenset({"payment_overdue", "other"})

    def is_in_use(self, obj: CancellationReason) -> bool:
        if obj.code in self.OWN:
            return True
        models = (Cancellation, CancellationRequest, ShippingEvent, BulkRun)
        return any(model._default_manager.filter(reason=obj).exists() for model in models)


# ---------------------------------------------------------------------------------------------------------------
# Customers' rules


class CancelRuleForm(ModelForm):
    direct_statuses = ticks(
        gettext_lazy("Cancelled at once in"),
        gettext_lazy("In these statuses of the order, what a customer cancels is cancelled at once. None: never."),
        choices=statuses,
    )

    class Meta:
        model = CancelRule
        fields = [
            "store",
            "channel",
            "direct_statuses",
            "refuses_invoiced",
            "time_limit_minutes",
            "asks_in_other_statuses",
            "asks_when_invoiced",
            "asks_when_late",
            "reprices",
            "undo_minutes",
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        same = CancelRule.objects.filter(store=data.get("store"), channel=data.get("channel", ""))
        if same.exclude(pk=self.instance.pk).exists():
            self.add_error("channel", _("There is a rule for this store and channel already: change that one."))
        return data


@admin.register(CancelRule)
class CancelRuleAdmin(Settings):
    """The rule that says most about an order applies: store and channel, store, channel, neither."""

    form = CancelRuleForm
    list_display = ["where", "at_once_in", "time_limit_minutes", "refuses_invoiced", "undo_minutes"]
    list_select_related = ["store"]
    fieldsets = [
        (
            gettext_lazy("Where it applies"),
            {
                "fields": ["store", "channel"],
                "description": gettext_lazy(
                    "Of the rules that fit an order, the one that says most applies: store and channel, then store, "
                    "then channel, then the rule for everything. A change applies at once, to open orders too."
                ),
            },
        ),
        (
            gettext_lazy("What customers may cancel"),
            {"fields": ["direct_statuses", "refuses_invoiced", "time_limit_minutes", "reprices"]},
        ),
        (
            gettext_lazy("When a person decides instead"),
            {"fields": ["asks_in_other_statuses", "asks_when_invoiced", "asks_when_late"]},
        ),
        (gettext_lazy("What staff cancel"), {"fields": ["undo_minutes"]}),
    ]

    @admin.display(description=gettext_lazy("where"))
    def where(self, row: CancelRule) -> str:
        return str(row)

    @admin.display(description=gettext_lazy("cancelled at once in"))
    def at_once_in(self, row: CancelRule) -> str:
        return ", ".join(str(status_label(status)) for status in row.direct_statuses) or _("never")


# ---------------------------------------------------------------------------------------------------------------
# Who has to agree


class ApprovalPolicyForm(ModelForm):
    stages = ticks(gettext_lazy("Statuses of the order"), gettext_lazy("None: all of them."), choices=told_apart)

    class Meta:
        model = ApprovalPolicy
        fields = "__all__"
        widgets = {"roles": forms.CheckboxSelectMultiple(attrs={"class": "desk-ticks"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        currency = self.instance.currency
        for name in ("min_value", "staff_value_per_day"):
            # 500.000 would be read as something else.
            if currency and self.initial.get(name) is not None:
                self.initial[name] = rounded(self.initial[name], currency)

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).upper()

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        amounts = [name for name in ("min_value", "staff_value_per_day") if data.get(name) is not None]
        for name in amounts:
            if data[name] <= 0:
                self.add_error(name, _("Enter more than zero, or nothing."))
        if amounts and not data.get("currency") and "currency" not in self.errors:
            self.add_error("currency", _("Say in which currency the value is, such as EUR."))
        if data.get("what") == ApprovalPolicy.What.REFUND:
            for name in ("reasons", "customer_per_month", "store_per_hour"):
                if data.get(name) not in (None, "") and (name != "reasons" or data[name]):
                    self.add_error(name, _("This is about cancellations: leave it empty for refunds."))
        return data


@admin.register(ApprovalPolicy)
class ApprovalPolicyAdmin(Settings):
    """When somebody has to agree. A policy's page rehearses it on the last 90 days before anybody switches it on."""

    form = ApprovalPolicyForm
    list_display = ["name", "is_active", "what", "level", "store", "conditions"]
    list_display_links = ["name"]
    list_filter = ["is_active", "what", "level"]
    list_select_related = ["level", "store"]
    filter_horizontal = ["reasons"]
    change_form_template = "admin/orders/approvalpolicy/change_form.html"
    fieldsets = [
        (
            None,
            {
                "fields": ["name", "is_active", "what", "level"],
                "description": gettext_lazy(
                    "Everything that is filled in below must hold; what is empty asks nothing. The highest level of "
                    "all policies that fit applies. Members of a higher level, and of the highest, need nobody."
                ),
            },
        ),
        (gettext_lazy("Which of them"), {"fields": ["store", "stages", "reasons", "roles"]}),
        (gettext_lazy("How much they are worth"), {"fields": ["min_value", "currency"]}),
        (
            gettext_lazy("How much has been done already"),
            {
                "fields": ["staff_per_day", "staff_value_per_day", "customer_per_month", "store_per_hour"],
                "description": gettext_lazy(
                    "With one of these, what fits is also marked as unusual, whoever cancels. Of refunds without "
                    "goods, the first two count what the person has refunded today without anybody's agreement."
                ),
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("reasons", "roles")

    @admin.display(description=gettext_lazy("asks where"))
    def conditions(self, row: ApprovalPolicy) -> str:
        """What is filled in, in words."""
        told = [str(status_label(stage)) for stage in row.stages]
        told += [reason.label for reason in row.reasons.all()] + [role.name for role in row.roles.all()]
        for field in ("min_value", "staff_value_per_day"):
            if (amount := getattr(row, field)) is not None:
                name = row._meta.get_field(field).verbose_name  # type: ignore[union-attr]
                told.append(f"{name}: {amount.normalize():f} {row.currency}")
        for field in ("staff_per_day", "customer_per_month", "store_per_hour"):
            if (count := getattr(row, field)) is not None:
                told.append(f"{row._meta.get_field(field).verbose_name}: {count}")  # type: ignore[union-attr]
        return "; ".join(told) or _("always")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if (policy := kwargs.get("obj")) and policy.what == ApprovalPolicy.What.CANCELLATION:
            context["rehearsal"] = rehearse(policy, actor_of(request), as_of=timezone.now())
        return super().render_change_form(request, context, *args, **kwargs)


class ApprovalLevelForm(ModelForm):
    class Meta:
        model = ApprovalLevel
        fields = ["level", "name", "group", "remind_after_minutes", "escalate_after_minutes"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        remind, escalate = data.get("remind_after_minutes"), data.get("escalate_after_minutes")
        if remind is not None and escalate is not None and remind >= escalate:
            self.add_error("remind_after_minutes", _("Remind before it goes up to the next level."))
        return data


@admin.register(ApprovalLevel)
class ApprovalLevelAdmin(Settings):
    """Who approves, and how long they have."""

    form = ApprovalLevelForm
    list_display = ["level", "name", "group", "remind_after_minutes", "escalate_after_minutes"]
    list_display_links = ["name"]
    list_select_related = ["group"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not super().has_delete_permission(request, obj):
            return False
        waits = Approval.objects.filter(status=Approval.Status.OPEN)
        return obj is None or not (obj.policies.exists() or waits.filter(level=obj.level).exists())


# ---------------------------------------------------------------------------------------------------------------
# Who is away


def people_of(actor: Actor) -> QuerySet[User]:
    """Whose absence somebody may enter: their own, and of people in their stores who approve no higher than they do.

    Otherwise naming oneself as the deputy of somebody higher would be a way up.
    """
    staff = User.objects.filter(is_active=True, is_staff=True).order_by("first_name", "last_name", "username")
    if actor.user is None or actor.user.is_superuser:
        return staff
    own = ApprovalLevel.objects.filter(group__user=actor.user).aggregate(highest=Max("level"))["highest"] or 0
    higher = ApprovalLevel.objects.filter(level__gt=own).values("group")
    lower = staff.filter(is_superuser=False).exclude(pk__in=User.objects.filter(groups__in=higher).values("pk"))
    if actor.stores is not None:
        lower = lower.filter(pk__in=User.objects.filter(stores__in=actor.stores).values("pk"))
    return staff.filter(Q(pk=actor.user.pk) | Q(pk__in=lower.values("pk")))


class AbsenceForm(ModelForm):
    class Meta:
        model = Absence
        fields = ["user", "delegate", "starts_at", "ends_at"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        user, delegate = data.get("user"), data.get("delegate")
        if user and user == delegate:
            self.add_error("delegate", _("Name somebody else."))
        starts, ends = data.get("starts_at"), data.get("ends_at")
        if starts and ends and ends <= starts:
            self.add_error("ends_at", _("It has to end after it begins."))
        return data


@admin.register(Absence)
class AbsenceAdmin(Settings):
    """Who is away, and who decides instead. Managers enter their own, and those of their stores' people."""

    form = AbsenceForm
    list_display = ["who", "instead", "starts_at", "ends_at", "is_now"]
    list_display_links = ["who"]
    list_select_related = ["user", "delegate"]
    fieldsets = [
        (
            None,
            {
                "fields": ["user", "delegate", "starts_at", "ends_at"],
                "description": gettext_lazy(
                    "While somebody is away, approvals for them go to the one who decides instead. That one decides "
                    "what the other might: never the other's own requests, and never their own."
                ),
            },
        )
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(user__in=people_of(actor_of(request)).values("pk"))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        people = people_of(actor_of(request))
        if db_field.name in {"user", "delegate"}:
            kwargs["queryset"] = people
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if isinstance(field, forms.ModelChoiceField) and db_field.name in {"user", "delegate"}:
            field.label_from_instance = full_name  # type: ignore[method-assign, assignment]
        return field

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": actor_of(request).user_id, **super().get_changeform_initial_data(request)}

    @admin.display(description=gettext_lazy("who is away"))
    def who(self, row: Absence) -> str:
        return full_name(row.user)

    @admin.display(description=gettext_lazy("who decides instead"))
    def instead(self, row: Absence) -> str:
        return full_name(row.delegate) if row.delegate else _("the other approvers")

    @admin.display(description=gettext_lazy("now"), boolean=True)
    def is_now(self, row: Absence) -> bool:
        return row.starts_at <= timezone.now() < row.ends_at
