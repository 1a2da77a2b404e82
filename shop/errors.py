"""Refused: the base of every "no" the desk says, to staff, customers and programs alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Words = str | _StrPromise
else:
    Words = str | Promise


class Refused(Exception):
    """A request that was understood and will not be done; nothing has happened.

    Subclasses stand beside the function that raises them and set the three class attributes.

    code         machine-readable and stable, e.g. "order_shipped"
    message      fit to show to the person who asked; placeholders are filled from `params`
    http_status  what the API answers
    remedy       what would make it possible, if anything ("Release the hold first.")
    deadline     until when it was or will be possible, if time decides
    max_quantity how many units would have been possible, if the number was the reason
    field        the name of the input at fault, if one is ("lines.0.quantity")
    retry_after  seconds after which the same request may be done, if waiting is all it takes
    """

    code: str = "refused"
    message: Words = _("This is not possible.")
    http_status: int = 409
    retry_after: int | None = None

    def __init__(
        self,
        message: Words | None = None,
        *,
        code: str | None = None,
        remedy: Words = "",
        deadline: datetime | None = None,
        max_quantity: int | None = None,
        field: str = "",
        params: Mapping[str, Any] | None = None,
        http_status: int | None = None,
    ) -> None:
        self.code = code or self.code
        self.http_status = http_status or self.http_status
        self.remedy = remedy
        self.deadline = deadline
        self.max_quantity = max_quantity
        self.field = field
        self.params = dict(params or {})
        self._message = message or self.message
        super().__init__(self.code)

    def __str__(self) -> str:
        text = str(self._message)
        return text % self.params if self.params else text

    def as_dict(self) -> dict[str, Any]:
        """The refusal as the API shows it: code, message and whatever of the rest there is."""
        body: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.remedy:
            body["remedy"] = str(self.remedy)
        if self.deadline:
            body["deadline"] = self.deadline.isoformat()
        if self.max_quantity is not None:
            body["max_quantity"] = self.max_quantity
        if self.field:
            body["field"] = self.field
        return body


class NotAllowed(Refused):
    """The actor lacks the right, whatever the state of things."""

    code = "not_allowed"
    message: Words = _("You do not have the permission for this.")
    http_status = 403


class NotFound(Refused):
    """There is no such thing, or none that this actor may know of."""

    code = "not_found"
    message: Words = _("Not found.")
    http_status = 404


class Invalid(Refused):
    """The input itself is wrong, whatever the state of things."""

    code = "invalid"
    message: Words = _("This input is not valid.")
    http_status = 400
