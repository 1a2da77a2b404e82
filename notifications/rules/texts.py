"""Keys, languages, header lines, and what a template written by staff may not do."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from django.utils.translation import gettext_lazy

from shop.errors import Refused

LONGEST_CAUSE = 100
LONGEST_RECIPIENT = 254
LONGEST_SUBJECT = 200


def key_of(*, event: str, cause: str, recipient: str) -> str:
    """This will name a message: the same event of the same cause is told to the same address once.

    `cause` names the row that caused it, with its order: "order:17", "shipping_event:88".
    """
    if not cause or len(cause) > LONGEST_CAUSE:
        raise ValueError(f"a cause has 1 to {LONGEST_CAUSE} characters, such as 'order:17': {cause!r}")
    return f"{event}:{cause}:{recipient.casefold()}"


def language_of(wanted: str, *, offered: Sequence[str], default: str) -> str:
    """This will choose the offered language nearest to the wanted one: de-AT → de, unknown → the default."""
    code = (wanted or "").lower().replace("_", "-")
    return next((one for one in (code, code.split("-")[0]) if one in offered), default)


def one_line(text: object) -> str:
    """This will make a text fit for a mail header: one line, nothing invisible in it. Line breaks would add headers."""
    visible = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in str(text))
    return " ".join(visible.split())


def tidy(text: str) -> str:
    """This will take the empty lines out of a plain text that a template's unused parts leave behind."""
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    # Mail programs know a signature by "-- " with its space.
    return re.sub(r"\n{3,}", "\n\n", lines).replace("\n--\n", "\n-- \n") + "\n"


class ForbiddenTag(Refused):
    code = "template_tag_forbidden"
    http_status = 400
    message = gettext_lazy("Line %(line)d: {%% %(tag)s %%} may not be used in a message template.")


# What a template written by staff may not do: reach the database, the settings or pages outside messages/.
_TAG = re.compile(r"{%-?\s*(\w+)\s*(.*?)%}")
_FORBIDDEN = {"load", "debug", "url", "csrf_token"}
_LIMITED = {"extends", "include"}


def check_tags(source: str) -> None:
    """This will raise ForbiddenTag where a template of staff uses a tag that reaches further than its context."""
    for number, line in enumerate(source.splitlines(), start=1):
        for tag, rest in _TAG.findall(line):
            outside = tag in _LIMITED and not rest.startswith(('"messages/', "'messages/"))
            if tag in _FORBIDDEN or outside or (tag in _LIMITED and ".." in rest):
                raise ForbiddenTag(params={"line": number, "tag": f"{tag} {rest}".strip()})
