"""What a storefront sends along with a purchase, beside what the desk asks for: `extra`, as the shop declares it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.utils.encoders import JSONEncoder

MOST_BYTES, MOST_LEVELS = 8_000, 5


class Extra(serializers.Serializer[Any]):
    """Base of the serializer that ORDER_EXTRA_SERIALIZER names: its fields are all that may be sent.

    What it makes of them is kept in the order's `extra`, as JSON has it: a date as text, an amount as text.
    """

    default_error_messages = {
        "unknown": _("This shop does not take this. It takes: %(names)s."),
        "none": _("This shop takes nothing here; leave it away."),
        "size": _("This is too much: at most %(most)d bytes of JSON."),
        "depth": _("This is nested too deeply: at most %(most)d levels."),
    }

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        """Nothing sent is an empty object, so that a field that the shop requires is asked for."""
        return super().validate_empty_values({} if data is empty else data)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            self._refuse_unfit(data)
        return super().to_internal_value(data)

    def _refuse_unfit(self, data: Mapping[str, Any]) -> None:
        unknown = [str(name) for name in data if name not in self.fields]
        if unknown:
            names = ", ".join(self.fields)
            words = self.error_messages["unknown"] % {"names": names} if names else self.error_messages["none"]
            raise serializers.ValidationError({name: [words] for name in unknown[:20]}, code="unknown")
        if len(json.dumps(data, ensure_ascii=False).encode(errors="replace")) > MOST_BYTES:
            raise serializers.ValidationError(self.error_messages["size"] % {"most": MOST_BYTES}, code="size")
        if _levels(data) > MOST_LEVELS:
            raise serializers.ValidationError(self.error_messages["depth"] % {"most": MOST_LEVELS}, code="depth")

    def run_validation(self, data: Any = empty) -> Any:
        return json.loads(json.dumps(super().run_validation(data), cls=JSONEncoder))


class NoExtra(Extra):
    """Unless a shop says otherwise: nothing may be sent."""


def extra_serializer() -> type[Extra]:
    """The shop's serializer of what comes with a purchase: setting ORDER_EXTRA_SERIALIZER."""
    found: type[Extra] = import_string(settings.ORDER_EXTRA_SERIALIZER)
    return found


def _levels(data: Any) -> int:
    """How deeply a body that the parser has bounded is nested."""
    inner = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else None
    return 0 if inner is None else 1 + max(map(_levels, inner), default=0)
