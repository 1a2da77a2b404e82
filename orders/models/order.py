"""Order, its addresses and discounts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_fsm import FSMField, FSMModelMixin

from orders.models.status import Status, rules_of, status_code, status_label
from shop.actors import Actor
from shop.countries import country_name
from shop.errors import NotFound, Refused
from shop.models import AppendOnly, Store
from shop.money import currency_field, money_field

if TYPE_CHECKING:
    from orders.models.facts import Facts


class OrderNotFound(NotFound):
    code = "order_not_found"
    message = _("There is no such order.")


class InvalidStatus(Refused):
    """Oscar's base of the two below."""

    code = "invalid_status"


class InvalidOrderStatus(InvalidStatus):
    code = "invalid_order_status"
    message = _("'%(new)s' is not a valid status for order %(number)s (current status: '%(current)s').")


class OrderQuerySet(models.QuerySet[Any]):
    def of(self, actor: Actor) -> OrderQuerySet:
        """The orders an actor may know of: staff those of their stores, customers their own, the system all."""
        if actor.is_system:
            return self
        if actor.is_staff:
            return self if actor.stores is None else self.filter(store__in=actor.stores)
        if actor.user is not None:
            return self.filter(customer=actor.user)
        return self.filter(customer=None, email__iexact=actor.email) if actor.email else self.none()

    def placed(self) -> OrderQuerySet:
        """Without those that never got a number."""
        return self.exclude(number=None)


class OrderAddress(AppendOnly):
    """An address as it was given for one order. Never changed: a correction is a new row the order points to."""

    # What a person fills in, in the order in which forms ask for it.
    FIELDS: ClassVar[tuple[str, ...]] = (
        "title",
        "first_name",
        "last_name",
        "company",
        "line",
        "line2",
        "postcode",
        "city",
        "state",
        "country",
        "phone",
    )

    title = models.CharField(_("title"), max_length=100, blank=True)
    first_name = models.CharField(_("first name"), max_length=100)
    last_name = models.CharField(_("last name"), max_length=100)
    company = models.CharField(_("company"), max_length=200, blank=True)
    line = models.CharField(_("street and number"), max_length=300)
    line2 = models.CharField(_("address line 2"), max_length=300, blank=True)
    postcode = models.CharField(_("postcode"), max_length=20, blank=True)
    city = models.CharField(_("city"), max_length=100)
    state = models.CharField(_("state or province"), max_length=100, blank=True)
    country = models.CharField(_("country"), max_length=2, help_text=_("Two-letter code (ISO 3166)."))
    phone = models.CharField(_("phone"), max_length=32, blank=True)
    # The address book's entry it was copied from, if any; only a number, for the entry may be gone.
    book_entry = models.BigIntegerField(null=True, blank=True)

    class Meta:
        verbose_name = _("order address")
        verbose_name_plural = _("order addresses")

    def __str__(self) -> str:
        return ", ".join(self.as_lines())

    def as_lines(self, *, named: bool = True) -> list[str]:
        """The address as it stands on a parcel. named: the country by its name in the active language, not its code."""
        name = " ".join(filter(None, [self.first_name, self.last_name]))
        place = " ".join(filter(None, [self.postcode, self.city]))
        country = country_name(self.country) if named else self.country
        return list(filter(None, [name, self.company, self.line, self.line2, place, self.state, country]))


class CaptureMode(models.TextChoices):
    AT_PLACEMENT = "at_placement", _("As soon as it is authorized")
    BY_STAFF = "by_staff", _("When staff take payment")


class BaseOrder(FSMModelMixin, models.Model):
    """What every order has. Names, prices and addresses are snapshots: nothing that changes later changes them.

    total = items_total − discount_total + shipping_total (+ tax_total where prices do not include it), and it is the
    sum of the lines' totals, to the cent.
    """

    number = models.CharField(_("number"), max_length=20, unique=True, null=True, editable=False)
    store = models.ForeignKey(Store, models.PROTECT, related_name="orders", verbose_name=_("store"))
    status = FSMField(_("status"), default=Status.NEW, protected=True)
    version = models.PositiveIntegerField(
        _("version"), default=0, help_text=_("The number of its latest journal entry.")
    )

    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="orders",
        verbose_name=_("customer"),
    )
    channel = models.CharField(_("channel"), max_length=30, default="web", help_text=_("Where it was placed."))
    customer_name = models.CharField(_("customer"), max_length=200, blank=True)
    email = models.EmailField(_("e-mail"), blank=True)
    phone = models.CharField(_("phone"), max_length=32, blank=True)
    language = models.CharField(_("language"), max_length=10, default=settings.LANGUAGE_CODE)

    currency = currency_field(_("currency"))
    prices_include_tax = models.BooleanField(_("prices include tax"), default=True)
    items_total = money_field(_("items"))
    discount_total = money_field(_("discount"), default=0)
    shipping_total = money_field(_("shipping"), default=0)
    tax_total = money_field(_("tax"), default=0)
    total = money_field(_("total"))
    # Σ of what refunds kept back, less Σ of what was given back beyond units: what closes the order's books.
    adjustment_total = money_field(default=0, editable=False)
    # What its prices depended on (rules.repricing.Deal), and what has been kept because it no longer holds.
    deal = models.JSONField(default=dict, blank=True, editable=False)
    repriced_total = money_field(default=0, editable=False)

    # What the least expensive standard delivery offered for it would have cost, in the terms of shipping_total.
    # None: not known; then all of the shipping goes back with a withdrawal.
    shipping_standard = money_field(null=True, blank=True, editable=False)

    shipping_method = models.CharField(_("shipping method"), max_length=50, blank=True)
    shipping_method_name = models.CharField(max_length=200, blank=True)
    is_pickup = models.BooleanField(_("collected at the store"), default=False)
    payment_method = models.CharField(_("payment method"), max_length=50, blank=True)
    payment_method_name = models.CharField(max_length=200, blank=True)
    pays_on_delivery = models.BooleanField(_("paid on delivery"), default=False)
    capture_mode = models.CharField(max_length=20, choices=CaptureMode, default=CaptureMode.BY_STAFF)

    shipping_address = models.ForeignKey(
        OrderAddress, models.PROTECT, null=True, related_name="+", verbose_name=_("shipping address")
    )
    billing_address = models.ForeignKey(
        OrderAddress, models.PROTECT, null=True, related_name="+", verbose_name=_("billing address")
    )

    placed_at = models.DateTimeField(_("placed"))
    # When its invoice was issued: set with it, so that no query is needed to know of it.
    invoiced_at = models.DateTimeField(_("invoiced"), null=True, blank=True, editable=False)
    # Since when its payment is awaited, where that was not at placement: it was reinstated.
    payment_awaited_at = models.DateTimeField(null=True, blank=True, editable=False)
    # While a cancellation can be undone: until then its stock, money and messages wait.
    undo_until = models.DateTimeField(_("can be undone until"), null=True, blank=True, editable=False)
    # Since when a new address waits for an answer: set with it, so that no query is needed to know of it.
    readdress_at = models.DateTimeField(null=True, blank=True, editable=False)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)
    idempotency_key = models.CharField(max_length=200, unique=True, null=True, editable=False)
    recurring = models.ForeignKey(
        "orders.RecurringOrder",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="orders",
        verbose_name=_("recurring order"),
    )
    occurrence = models.PositiveIntegerField(_("number in the series"), null=True, blank=True)
    extra = models.JSONField(default=dict, blank=True, help_text=_("What else the checkout collected."))

    _facts: Facts | None = None

    class Meta:
        abstract = True
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ["-placed_at", "-pk"]
        permissions = [
            ("approve_order", "Can approve orders"),
            ("prepare_order", "Can prepare orders"),
            ("charge_order", "Can take and record payments"),
            ("ship_order", "Can ship orders and hand them over"),
            ("cancel_order", "Can cancel orders"),
            ("cancel_prepared_order", "Can cancel orders that are being prepared without asking"),
            ("cancel_for_any_reason", "Can cancel without a customer having asked for it"),
            ("return_order", "Can take back goods"),
            ("refund_order", "Can refund money"),
            ("hold_order", "Can hold and release orders"),
            ("readdress_order", "Can change addresses of orders"),
            ("note_order", "Can write notes on orders"),
        ]
        constraints = [
            models.CheckConstraint(
                name="order_number_digits", condition=Q(number=None) | Q(number__regex=r"^[1-9][0-9]*$")
            ),
            models.CheckConstraint(name="order_totals_not_negative", condition=Q(total__gte=0, shipping_total__gte=0)),
            models.CheckConstraint(
                name="order_standard_shipping_not_dearer",
                condition=Q(shipping_standard=None)
                | Q(shipping_standard__gte=0, shipping_standard__lte=F("shipping_total")),
            ),
            models.CheckConstraint(name="order_has_number", condition=Q(status=Status.NEW) | Q(number__isnull=False)),
            models.UniqueConstraint(fields=["recurring", "occurrence"], name="order_occurrence_once"),
            models.CheckConstraint(
                name="order_occurrence_of_series",
                condition=Q(recurring=None, occurrence=None) | Q(recurring__isnull=False, occurrence__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["-placed_at", "-id"], name="order_newest"),
            models.Index(fields=["status", "-placed_at", "-id"], name="order_status_newest"),
            models.Index(fields=["store", "-placed_at", "-id"], name="order_store_newest"),
            models.Index(fields=["customer", "-placed_at"], name="order_customer_newest"),
            models.Index(Upper("email"), name="order_email"),
            models.Index(Upper("customer_name"), name="order_customer_name"),
        ]

    def __str__(self) -> str:
        return self.number or f"({self.pk})"

    # --- numbers: a shop overrides these three to have its own (django-SHOP's names) ------------------------------

    FIRST_NUMBER: ClassVar[int] = 100_000_000

    def get_or_assign_number(self) -> str:
        """The order's number; the first call derives it from the primary key.

        The database hands those out: unique and increasing without a lock, digits only, below 2^53.
        """
        if self.number is None:
            self.number = str(self.FIRST_NUMBER + self.pk)
        return self.number

    def get_number(self) -> str:
        """The number in a form for people."""
        return self.number or ""

    @classmethod
    def resolve_number(cls, number: str) -> dict[str, Any]:
        """The reverse of get_number: a lookup that finds the order."""
        return {"number": number.strip()}

    # --- statuses (Oscar's names) ---------------------------------------------------------------------------------

    @classmethod
    def pipeline_of_workflows(cls) -> dict[str, tuple[str, ...]]:
        """Status → the statuses that can follow it, read off the workflows."""
        following: dict[str, list[str]] = {}
        for t in cls(status=Status.NEW).get_all_status_transitions():  # type: ignore[attr-defined]
            following.setdefault(str(t.source), [])
            if t.target and str(t.target) not in following[str(t.source)]:
                following[str(t.source)].append(str(t.target))
            following.setdefault(str(t.target), [])
        return {status: tuple(targets) for status, targets in following.items()}

    def set_status(self, new_status: str) -> None:
        """Move the order to another status by the workflow's transition, and nothing else: no units, no money.

        The row is locked and read again first. The EventHandler's verbs do the whole thing; this is Oscar's low-level
        method, kept for handlers that were written for it. Raises InvalidOrderStatus.
        """
        with transaction.atomic():
            current = type(self)._base_manager.select_for_update(no_key=True).get(pk=self.pk)
            if current.status != new_status:
                old = current.status
                name = current.follow(new_status)
                type(self)._base_manager.filter(pk=self.pk).update(status=current.status)
                current.status_changes.create(  # type: ignore[attr-defined]
                    old_status=old,
                    new_status=new_status,
                    transition=name,
                    created_at=timezone.now(),
                    actor_kind="system",
                    actor_name="set_status",
                )
        self.__dict__["status"] = new_status

    def follow(self, new_status: str) -> str:
        """Make the transition that leads to a status, in memory only. Returns its name. Raises InvalidOrderStatus."""
        for t in self.get_available_status_transitions():  # type: ignore[attr-defined]
            if t.target == new_status:
                getattr(self, t.name)()
                return str(t.name)
        params = {"new": new_status, "number": self.number, "current": self.status}
        raise InvalidOrderStatus(params=params)

    @property
    def facts(self) -> Facts:
        """What the transitions' conditions look at. The handler loads it under the lock; elsewhere it is read once."""
        if self._facts is None:
            self._facts = self.load_facts()
        return self._facts

    @facts.setter
    def facts(self, facts: Facts) -> None:
        self._facts = facts

    def load_facts(self) -> Facts:
        raise TypeError("a concrete order loads its facts")

    @classmethod
    def all_statuses(cls) -> list[str]:
        """Return all possible statuses for an order."""
        return list(cls.pipeline)  # type: ignore[attr-defined]

    def available_statuses(self) -> tuple[str, ...]:
        """Return all possible statuses that this order can move to."""
        return self.pipeline.get(self.status, ())  # type: ignore[attr-defined]

    @property
    def status_label(self) -> Any:
        return status_label(self.status)

    @property
    def status_code(self) -> int:
        return status_code(self.status)

    @property
    def stage(self) -> str:
        """The status whose rules hold: the order's own, or the one that a shop's status takes the place of."""
        return rules_of(self.status)

    @property
    def is_anonymous(self) -> bool:
        return self.customer_id is None and bool(self.email)

    @property
    def unpaid_deadline(self) -> datetime:
        """When the desk cancels the order if its payment has not come."""
        since = self.payment_awaited_at or self.placed_at
        return since + timedelta(minutes=settings.ORDER_UNPAID_AFTER_MINUTES)


class OrderDiscount(AppendOnly):
    """One reduction of an order's total, as it was granted. Its share of each line stands on the line."""

    order = models.ForeignKey("orders.Order", models.CASCADE, related_name="discounts")
    name = models.CharField(_("name"), max_length=200)
    code = models.CharField(_("code"), max_length=50, blank=True)
    amount = money_field(_("amount"))

    def __str__(self) -> str:
        return self.name
