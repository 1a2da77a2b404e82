"""Payments, movements of money asked of gateways, and refunds."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q, Value
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from shop.models import Store
from shop.money import currency_field, money_field, shown

ZERO = Decimal(0)

# SQLite adds decimals as floats: 0.1 + 0.2 <= 0.3 is false there. Amounts are multiples of 0.001, so half of that
# makes the comparison exact on both databases, and changes nothing where sums are exact (PostgreSQL).
HALF_OF_THE_SMALLEST = Value(Decimal("0.0005"))


class Origin(models.TextChoices):
    """Who moved money: the desk, somebody at the gateway itself, or the customer's bank."""

    DESK = "desk", _("This desk")
    OUTSIDE = "outside", _("Made at the gateway")
    CHARGEBACK = "chargeback", _("Chargeback")


class NeverDeleted(models.Model):
    """Base of rows that carry keys and causes: without the row, the same thing could happen a second time."""

    class Meta:
        abstract = True

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError(f"{type(self).__name__} rows are never deleted.")


class Payment(NeverDeleted):
    """An amount to be secured through one gateway, and what became of it.

    The counters are moved by payments.services only, under this row's lock:

    authorized        the gateway holds it for us
    capture_reserved  asked to be captured, whether or not it has been yet; captured: the shop has it
    voided            asked to be let go (at once, so that nobody captures it meanwhile)
    refund_reserved   asked to be given back, whether or not it has been yet; refunded: the customer has it
    """

    reference = models.CharField(_("reference"), max_length=40, db_index=True)
    store = models.ForeignKey(Store, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("store"))
    gateway = models.CharField(_("gateway"), max_length=30)
    currency = currency_field(_("currency"))
    amount = money_field(_("amount"))
    authorized = money_field(_("authorised"), default=ZERO)
    capture_reserved = money_field(_("capture asked"), default=ZERO)
    captured = money_field(_("captured"), default=ZERO)
    voided = money_field(_("voided"), default=ZERO)
    refund_reserved = money_field(_("refund asked"), default=ZERO)
    refunded = money_field(_("refunded"), default=ZERO)
    on_change = models.CharField(max_length=60, blank=True, help_text="kind of the job that is told of changes")
    details = models.JSONField(_("details"), default=dict, blank=True, help_text=_("Never a full card number."))
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="payment_refunds_bounded",
                condition=Q(
                    refunded__gte=0,
                    refunded__lte=F("refund_reserved"),
                    refund_reserved__lte=F("captured"),
                    captured__lte=F("capture_reserved"),
                ),
            ),
            models.CheckConstraint(
                name="payment_captures_bounded",
                condition=Q(
                    voided__gte=0,
                    capture_reserved__lte=F("authorized") - F("voided") + HALF_OF_THE_SMALLEST,
                    authorized__lte=F("amount"),
                ),
            ),
            models.CheckConstraint(name="payment_of_something", condition=Q(amount__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.reference} · {self.gateway} · {shown(self.amount, self.currency)}"

    @property
    def open_to_capture(self) -> Decimal:
        return self.authorized - self.capture_reserved - self.voided

    @property
    def refundable(self) -> Decimal:
        return self.captured - self.refund_reserved


class Refund(NeverDeleted):
    """The decision to give money back; its transactions, one per payment, are how.

    destination  code of the gateway that gives it, where it does not go back the way it came
    owner        whose account gets the credit, where it is given as credit; `consent` says who agreed to that, and how
    bank_iban, bank_holder  where a person transfers it to; only a masked number is left once it is settled
    """

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")  # not sent yet, or a person must do something
        PENDING = "pending", _("With the gateway")
        SUCCEEDED = "succeeded", _("Refunded")
        FAILED = "failed", _("Failed")
        PARTLY = "partly", _("Partly refunded")

    reference = models.CharField(_("reference"), max_length=40, db_index=True)
    store = models.ForeignKey(Store, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("store"))
    amount = money_field(_("amount"))
    currency = currency_field(_("currency"))
    cause = models.CharField(_("cause"), max_length=120, unique=True, help_text=_("The same cause is the same refund."))
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    destination = models.CharField(
        _("goes to"), max_length=30, blank=True, help_text=_("A gateway. Empty: the way it came.")
    )
    consent = models.TextField(_("the customer's consent"), blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("credited to")
    )
    bank_iban = models.CharField(_("IBAN"), max_length=34, blank=True)
    bank_holder = models.CharField(_("account holder"), max_length=100, blank=True)
    origin = models.CharField(_("made by"), max_length=10, choices=Origin, default=Origin.DESK)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.WAITING)
    created_at = models.DateTimeField(_("decided"), default=timezone.now, editable=False)
    settled_at = models.DateTimeField(_("settled"), null=True, blank=True)

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="refund_of_something", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="refund_as_credit_has_consent",
                condition=Q(owner__isnull=True) | (~Q(consent="") & ~Q(destination="")),
            ),
            models.CheckConstraint(
                name="refund_forgets_bank_details", condition=Q(status__in=["waiting", "pending"]) | Q(bank_holder="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference} · {shown(self.amount, self.currency)}"

    @property
    def is_open(self) -> bool:
        return self.status in {self.Status.WAITING, self.Status.PENDING}


class Transaction(NeverDeleted):
    """One movement of money asked of a gateway: the intent, written before anything is sent, kept whatever happens."""

    class Kind(models.TextChoices):
        AUTHORIZE = "authorize", _("Authorisation")
        CAPTURE = "capture", _("Capture")
        VOID = "void", _("Void")
        REFUND = "refund", _("Refund")

    class Status(models.TextChoices):
        REQUESTED = "requested", _("Requested")
        PENDING = "pending", _("With the gateway")
        UNKNOWN = "unknown", _("Outcome unknown")
        NEEDS_PERSON = "needs_person", _("Needs a person")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")

    FINAL = (Status.SUCCEEDED.value, Status.FAILED.value)

    payment = models.ForeignKey(Payment, models.PROTECT, related_name="transactions", verbose_name=_("payment"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    amount = money_field(_("amount"))
    key = models.UUIDField(_("key"), unique=True, default=uuid.uuid4, editable=False)
    round = models.PositiveSmallIntegerField(
        default=1, editable=False, help_text="goes up with each definite no of the gateway; see gateway_key"
    )
    cause = models.CharField(_("cause"), max_length=150, help_text=_("The same cause is the same transaction."))
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.REQUESTED)
    refund = models.ForeignKey(
        Refund, models.PROTECT, null=True, blank=True, related_name="transactions", verbose_name=_("refund")
    )
    destination = models.CharField(
        _("goes to"), max_length=30, blank=True, help_text=_("Of a refund: another gateway than the payment's.")
    )
    gateway_reference = models.CharField(_("reference at the gateway"), max_length=200, blank=True)
    origin = models.CharField(_("made by"), max_length=10, choices=Origin, default=Origin.DESK)
    next_action = models.JSONField(
        default=dict, blank=True, editable=False, help_text="while pending: what the customer has to do"
    )
    error = models.CharField(_("error"), max_length=500, blank=True)
    settled_by = models.CharField(_("settled by"), max_length=150, blank=True, help_text=_("Empty: by the gateway."))
    created_at = models.DateTimeField(_("requested"), default=timezone.now, editable=False)
    settled_at = models.DateTimeField(_("settled"), null=True, blank=True)

    class Meta:
        verbose_name = _("transaction")
        verbose_name_plural = _("transactions")
        ordering = ["-id"]
        permissions = [("close_transaction", "Can close transactions that a gateway refused")]
        constraints = [
            models.UniqueConstraint(fields=["kind", "cause"], name="transaction_cause_once"),
            models.CheckConstraint(name="transaction_of_something", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="transaction_refund_has_refund",
                condition=Q(kind="refund", refund__isnull=False) | (~Q(kind="refund") & Q(refund__isnull=True)),
            ),
            models.CheckConstraint(
                name="transaction_final_is_settled",
                condition=Q(status__in=["succeeded", "failed"], settled_at__isnull=False)
                | (~Q(status__in=["succeeded", "failed"]) & Q(settled_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="transaction_only_refunds_go_elsewhere", condition=Q(kind="refund") | Q(destination="")
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"], name="transaction_open", condition=~Q(status__in=["succeeded", "failed"])
            ),
            models.Index(fields=["settled_at"], name="transaction_settled", condition=Q(settled_at__isnull=False)),
            models.Index(
                fields=["gateway_reference"], name="transaction_at_gateway", condition=~Q(gateway_reference="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.cause}"

    @property
    def is_final(self) -> bool:
        return self.status in self.FINAL

    @property
    def is_outside(self) -> bool:
        """Not sent by this desk. In a second round it is: a person asked for it, after it had come back."""
        return self.origin != Origin.DESK and self.round == 1

    @property
    def gateway(self) -> str:
        """Where it is executed, and where it is to be found: the payment's gateway, or another that gives it back."""
        return self.destination or self.payment.gateway

    @property
    def gateway_key(self) -> str:
        """The idempotency key at the gateway: `key`, and after a definite no one derived from it.

        Gateways answer a key they know with the answer they gave; after a no, a person's new try under the same key
        would get the same no for ever. Only a definite no starts a new round, never an unknown outcome.
        """
        return self.gateway_keys[-1]

    @property
    def gateway_keys(self) -> list[str]:
        """The keys that it has been sent under so far, the latest last."""
        return [str(self.key if n == 1 else uuid.uuid5(self.key, str(n))) for n in range(1, self.round + 1)]


class Attempt(NeverDeleted):
    """One call of a gateway. The row is committed before the call, so that no call is ever forgotten."""

    class Outcome(models.TextChoices):
        STARTED = "started", _("Started")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Refused by the gateway")
        PENDING = "pending", _("With the gateway")
        UNKNOWN = "unknown", _("Outcome unknown")
        NOT_FOUND = "not_found", _("Did not arrive at the gateway")
        UNAVAILABLE = "unavailable", _("Gateway not reached")
        NEEDS_PERSON = "needs_person", _("Needs a person")

    # May have moved money: look it up before anything is sent again.
    OPEN = (Outcome.STARTED.value, Outcome.PENDING.value, Outcome.UNKNOWN.value)

    transaction = models.ForeignKey(Transaction, models.PROTECT, related_name="attempts", verbose_name=_("transaction"))
    number = models.PositiveSmallIntegerField(_("number"))
    key = models.UUIDField(_("key"), editable=False)
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=12, choices=Outcome, default=Outcome.STARTED)
    gateway_reference = models.CharField(_("reference at the gateway"), max_length=200, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["transaction", "number"]
        constraints = [models.UniqueConstraint(fields=["transaction", "number"], name="attempt_number_once")]

    def __str__(self) -> str:
        return f"{self.number}: {self.get_outcome_display()}"
