"""Store credit and loyalty: accounts of customers, and the entries that explain every cent on them.

Loyalty points are money in the account's currency, like store credit; how many points that is, is a matter of display
(setting LOYALTY_POINTS_PER_UNIT). So an order's payments stay one money.
"""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from payments.models.money import ZERO, NeverDeleted
from shop.models import AppendOnly
from shop.money import currency_field, money_field, shown


class CreditAccount(NeverDeleted):
    """What the shop owes a customer in goods: one account per customer, currency and kind.

    The counters are moved by payments.services only, under this row's lock, each time with a CreditEntry:

    balance  what is on the account, the part that is held included
    held     what orders have reserved and not taken yet
    """

    class Kind(models.TextChoices):
        # Also the codes of the gateways that spend them.
        STORE_CREDIT = "store_credit", _("Store credit")
        LOYALTY = "loyalty", _("Loyalty points")

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="credit_accounts", verbose_name=_("customer")
    )
    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    currency = currency_field(_("currency"))
    balance = money_field(_("balance"), default=ZERO, editable=False)
    held = money_field(_("held for orders"), default=ZERO, editable=False)

    class Meta:
        verbose_name = _("credit account")
        verbose_name_plural = _("credit accounts")
        ordering = ["-id"]
        permissions = [("adjust_credit", "Can grant and adjust customers' credit")]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "currency", "kind"],
                name="credit_account_once",
                violation_error_message=_("This customer has such an account already."),
            ),
            models.CheckConstraint(name="credit_balance_not_negative", condition=Q(balance__gte=0)),
            models.CheckConstraint(name="credit_held_bounded", condition=Q(held__gte=0, held__lte=F("balance"))),
        ]

    def __str__(self) -> str:
        return f"{self.owner} · {self.get_kind_display()} ({self.currency})"

    @property
    def free(self) -> Decimal:
        """What is not held. Part of it may have expired since the last night: see services.available."""
        return self.balance - self.held


class CreditEntry(AppendOnly):
    """One change of an account's numbers, and its cause. The sum of entries is the balance, always.

    amount       on the balance
    held_amount  on what is held
    hold         the hold that a release, spending or restoration belongs to
    """

    class Kind(models.TextChoices):
        GRANTED = "granted", _("Granted")
        HELD = "held", _("Held for an order")
        RELEASED = "released", _("Released")
        SPENT = "spent", _("Spent")
        RESTORED = "restored", _("Restored")
        EXPIRED = "expired", _("Expired")
        ADJUSTED = "adjusted", _("Adjusted by hand")
        REFUSED = "refused", _("Refused")

    # The index below serves look-ups by account.
    account = models.ForeignKey(
        CreditAccount, models.PROTECT, related_name="entries", verbose_name=_("account"), db_index=False
    )
    kind = models.CharField(_("kind"), max_length=8, choices=Kind)
    amount = money_field(_("amount"), default=ZERO)
    held_amount = money_field(_("held"), default=ZERO)
    hold = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="uses", verbose_name=_("hold"))
    key = models.CharField(
        _("cause"), max_length=200, unique=True, help_text=_("What made it happen; the same cause counts once.")
    )
    reference = models.CharField(_("reference"), max_length=40, blank=True, db_index=True)
    note = models.CharField(_("note"), max_length=500, blank=True)
    actor_name = models.CharField(_("by"), max_length=150, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True, help_text=_("Of what is granted."))
    created_at = models.DateTimeField(_("when"))

    class Meta:
        verbose_name = _("credit entry")
        verbose_name_plural = _("credit entries")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["account", "-id"], name="credit_entry_ledger"),
            models.Index(fields=["expires_at"], name="credit_entry_expiry", condition=Q(expires_at__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(
                name="credit_entry_moves_something",
                condition=Q(kind="refused", amount=0, held_amount=0)
                | (~Q(kind="refused") & ~Q(amount=0, held_amount=0)),
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {shown(self.amount or self.held_amount, self.account.currency)}"
