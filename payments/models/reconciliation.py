"""Reconciliation: comparisons of a gateway's books with ours, and the differences that they found."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from payments.models.money import NeverDeleted, Payment, Transaction
from shop.models import Store
from shop.money import currency_field, money_field, shown


class Reconciliation(models.Model):
    """One comparison of a gateway's list with our transactions. While `finished_at` is empty it is the gateway's only.

    since, until  movements of which time were compared
    account       whose books these are, as the gateway says; empty: it does not say
    listed        records that the gateway gave
    others        of them: neither asked by this desk nor of one of its payments
    found, resolved, settled  differences: new ones, those that went by themselves, those that the run put right itself
    """

    class State(models.TextChoices):
        RUNNING = "running", _("Under way")
        STUCK = "needs_attention", _("Waits for a person")
        DONE = "done", _("Done")
        GIVEN_UP = "failed", _("Given up")

    gateway = models.CharField(_("gateway"), max_length=30)
    since = models.DateTimeField(_("from"))
    until = models.DateTimeField(_("until"))
    account = models.CharField(_("account at the gateway"), max_length=100, blank=True)
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    state = models.CharField(_("state"), max_length=15, choices=State, default=State.RUNNING)
    error = models.CharField(_("error"), max_length=500, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("asked by")
    )
    listed = models.PositiveIntegerField(_("movements at the gateway"), default=0)
    others = models.PositiveIntegerField(_("not this desk's"), default=0)
    found = models.PositiveIntegerField(_("new differences"), default=0)
    resolved = models.PositiveIntegerField(_("resolved"), default=0)
    settled = models.PositiveIntegerField(_("put right"), default=0)

    class Meta:
        verbose_name = _("reconciliation")
        verbose_name_plural = _("reconciliations")
        ordering = ["-id"]
        permissions = [("run_reconciliation", "Can compare the books with gateways")]
        constraints = [
            models.UniqueConstraint(
                fields=["gateway"], name="reconciliation_one_at_a_time", condition=Q(finished_at__isnull=True)
            ),
            models.CheckConstraint(
                name="reconciliation_finished_has_state",
                condition=Q(state__in=["done", "failed"], finished_at__isnull=False)
                | (~Q(state__in=["done", "failed"]) & Q(finished_at__isnull=True)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.gateway} · {date_format(localtime(self.until), 'SHORT_DATETIME_FORMAT')}"


class Difference(NeverDeleted):
    """Something that a gateway's books and ours say differently; one open row for each thing and kind.

    thing        what it is about: a transaction of ours, or a movement of the gateway's
    happened_at  when it moved, by whoever says so: a run that covers that time sees whether it still differs
    ours, theirs amount and status at either side; empty where there is nothing
    how          what became of it, in words
    """

    class Kind(models.TextChoices):
        MISSING_HERE = "missing_here", _("Missing here")
        MISSING_THERE = "missing_there", _("Missing at the gateway")
        AMOUNT = "amount", _("Amount differs")
        STATUS = "status", _("Status differs")
        CHARGEBACK = "chargeback", _("Chargeback")

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        RESOLVED = "done", _("Resolved")
        ACCEPTED = "accepted", _("Accepted")

    # What a row says; once it has been accepted, only another value here brings it up again.
    FACTS = ("our_amount", "our_status", "their_amount", "their_status", "currency")

    gateway = models.CharField(_("gateway"), max_length=30)
    kind = models.CharField(_("kind"), max_length=15, choices=Kind)
    thing = models.CharField(max_length=300)
    operation = models.CharField(_("movement"), max_length=10)
    reference = models.CharField(_("reference"), max_length=40, blank=True, db_index=True)
    store = models.ForeignKey(Store, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("store"))
    payment = models.ForeignKey(
        Payment, models.PROTECT, null=True, blank=True, related_name="differences", verbose_name=_("payment")
    )
    transaction = models.ForeignKey(
        Transaction, models.PROTECT, null=True, blank=True, related_name="differences", verbose_name=_("transaction")
    )
    gateway_reference = models.CharField(_("reference at the gateway"), max_length=200, blank=True, db_index=True)
    currency = currency_field(_("currency"))
    our_amount = money_field(_("amount here"), null=True, blank=True)
    our_status = models.CharField(_("status here"), max_length=15, blank=True)
    their_amount = money_field(_("amount at the gateway"), null=True, blank=True)
    their_status = models.CharField(_("status at the gateway"), max_length=15, blank=True)
    told = models.CharField(_("why the desk could not put it right"), max_length=500, blank=True)
    happened_at = models.DateTimeField(_("moved"))
    found_by = models.ForeignKey(Reconciliation, models.PROTECT, related_name="differences", verbose_name=_("found by"))
    first_seen_at = models.DateTimeField(_("first seen"))
    last_seen_at = models.DateTimeField(_("last seen"))
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.OPEN)
    resolved_at = models.DateTimeField(_("ended"), null=True, blank=True)
    resolved_by = models.CharField(_("ended by"), max_length=150, blank=True, help_text=_("Empty: by itself."))
    how = models.CharField(_("what became of it"), max_length=1000, blank=True)

    class Meta:
        verbose_name = _("difference")
        verbose_name_plural = _("differences")
        ordering = ["-id"]
        permissions = [("accept_difference", "Can accept differences between the books")]
        constraints = [
            models.UniqueConstraint(
                fields=["gateway", "kind", "thing"], name="difference_open_once", condition=Q(state="open")
            ),
            models.CheckConstraint(
                name="difference_ended_has_date",
                condition=Q(state="open", resolved_at__isnull=True) | (~Q(state="open") & Q(resolved_at__isnull=False)),
            ),
        ]
        indexes = [
            models.Index(fields=["gateway", "thing"], name="difference_thing"),
            models.Index(fields=["gateway", "happened_at"], name="difference_open", condition=Q(state="open")),
        ]

    def __str__(self) -> str:
        amount = self.our_amount if self.their_amount is None else self.their_amount
        words = f" {shown(amount, self.currency)}" if amount is not None else ""
        return f"{self.reference or self.gateway_reference} · {self.get_kind_display()}{words}"
