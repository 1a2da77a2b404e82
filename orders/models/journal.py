"""The journal: one entry per decision per order, chained by hashes. It is the order's timeline and its version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from shop.models import AppendOnly


class JournalEntry(AppendOnly):
    """Who decided what about an order, when and why, and what it changed.

    `sequence` counts from 1 within an order, without gaps; the latest is the order's version. `hash` covers everything
    above it and the previous entry's hash, so that no entry can be changed, removed or slipped in unseen
    (`manage.py verify_orders`).
    """

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="journal", verbose_name=_("order"))
    sequence = models.PositiveIntegerField(_("number"))
    at = models.DateTimeField(_("at"))
    actor_kind = models.CharField(max_length=10)
    actor_name = models.CharField(_("by"), max_length=200)
    # A number, not a foreign key: an entry outlives the account, and the hash must not change with it.
    user_id = models.BigIntegerField(null=True, blank=True)
    verb = models.CharField(_("what"), max_length=50)
    reason = models.CharField(_("reason"), max_length=50, blank=True)
    note = models.TextField(_("note"), blank=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    details = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("journal entry")
        verbose_name_plural = _("journal")
        ordering = ["order", "sequence"]
        constraints = [models.UniqueConstraint(fields=["order", "sequence"], name="journal_sequence_once")]

    def __str__(self) -> str:
        return f"{self.sequence} {self.verb}"

    def compute_hash(self) -> str:
        """SHA-256 over the entry and the hash before it."""
        content = {
            "order": self.order_id,
            "sequence": self.sequence,
            "at": _utc(self.at),
            "actor": [self.actor_kind, self.actor_name, self.user_id],
            "verb": self.verb,
            "reason": self.reason,
            "note": self.note,
            "before": self.before,
            "after": self.after,
            "details": self.details,
            "previous": self.previous_hash,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


class OrderNote(models.Model):
    """A remark of staff on an order. Its author may correct it for five minutes; system notes stand as they are."""

    EDITABLE_SECONDS = 300

    class Type(models.TextChoices):
        INFO = "info", _("Info")
        WARNING = "warning", _("Warning")
        ERROR = "error", _("Error")
        SYSTEM = "system", _("System")

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="notes", verbose_name=_("order"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("by")
    )
    author = models.CharField(_("by"), max_length=200)
    note_type = models.CharField(_("type"), max_length=10, choices=Type, default=Type.INFO)
    message = models.TextField(_("note"))
    created_at = models.DateTimeField(_("written"))
    updated_at = models.DateTimeField(_("changed"))

    class Meta:
        verbose_name = _("note")
        verbose_name_plural = _("notes")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.message[:60]

    def is_editable(self, *, as_of: datetime) -> bool:
        """Whether it may still be corrected: five minutes from when it was written, system notes never."""
        age = (as_of - self.created_at).total_seconds()
        return self.note_type != self.Type.SYSTEM and age < self.EDITABLE_SECONDS


class Hold(models.Model):
    """Something that keeps an order where it is until it is released. An order may have several; never a status."""

    class Kind(models.TextChoices):
        FRAUD = "fraud", _("Fraud suspected")
        STOCK = "stock", _("Stock to be checked")
        ADDRESS = "address", _("Address to be checked")
        PAYMENT = "payment", _("Payment failed")
        DISPUTE = "dispute", _("Payment disputed")
        OTHER = "other", _("Other")

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="holds", verbose_name=_("order"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    reason = models.TextField(_("reason"), blank=True)
    placed_by = models.CharField(_("placed by"), max_length=200)
    placed_at = models.DateTimeField(_("placed"))
    released_by = models.CharField(_("released by"), max_length=200, blank=True)
    released_at = models.DateTimeField(_("released"), null=True, blank=True)
    release_note = models.TextField(_("how it was resolved"), blank=True)

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        ordering = ["pk"]
        indexes = [models.Index(fields=["order"], name="hold_active", condition=models.Q(released_at=None))]

    def __str__(self) -> str:
        return str(self.get_kind_display())


def as_json(value: Any) -> Any:
    """A value as the journal stores it: decimals as text, everything else as JSON has it."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if is_dataclass(value):
        kind: Any = type(value)
        return {name: as_json(getattr(value, name)) for name in _names_of(kind)}
    return str(value)


@cache
def _names_of(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
