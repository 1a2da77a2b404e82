"""Every code that a refusal can have stands in docs/errors.md, with its HTTP status and its words.

WRITE_DOCS=yes writes the page anew.
"""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

from shop.errors import Refused

HERE = Path(__file__).resolve().parents[2]
PAGE = HERE / "docs" / "errors.md"
APPS = ("shop", "inventory", "payments", "notifications", "orders", "checkout")
HEAD = """# Error codes

Every refusal has a code that stays the same, in the API's `error_code`, in the journal and in the inbox. An error's
body is an object whose every value is an array of strings:

```json
{"non_field_errors": ["Order already cancelled!"], "error_code": ["order_already_cancelled"]}
```

Beside the words, which stand under `non_field_errors` or under the field at fault, there may be `remedy` (what would
make it possible), `max_quantity` (how many units would be) and `deadline` (until when it was). Input that is wrong in
its shape has the code `invalid` and its words at the fields. DRF's own codes: `not_authenticated` and
`authentication_failed` (401), `permission_denied` (403), `not_found` (404), `method_not_allowed` (405),
`unsupported_media_type` (415), `parse_error` (400), `throttled` (429, with `Retry-After`).

The names in percent signs are filled in.

| Code | HTTP | Words |
| --- | --- | --- |
"""


def refusals() -> Iterator[type[Refused]]:
    """All classes of refusals of the house, wherever they stand."""
    for app in APPS:
        package = importlib.import_module(app)
        for module in pkgutil.walk_packages(package.__path__, f"{app}."):
            if ".migrations" not in module.name and not module.name.endswith((".wsgi", ".asgi")):
                importlib.import_module(module.name)
    waiting = [Refused]
    while waiting:
        one = waiting.pop()
        if one.__module__.split(".")[0] in APPS:
            yield one
        waiting.extend(one.__subclasses__())


def codes_given_in_passing() -> Iterator[tuple[str, ast.Call, str]]:
    """Codes that a call gives, with the call and its words: raise CancelRefused(INVOICED, code="order_invoiced")."""
    names = {one.__name__ for one in refusals()}
    for app in APPS:
        for path in sorted((HERE / app).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                for keyword in node.keywords:
                    is_code = keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
                    if is_code and called in names and isinstance(keyword.value.value, str):
                        module = importlib.import_module(".".join(path.relative_to(HERE).with_suffix("").parts))
                        yield keyword.value.value, node, words_of(node, module)


def words_of(call: ast.Call, module: Any) -> str:
    """The words that a call gives itself, or those of a constant of its module; empty where it gives none."""
    constants = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    names = [n.id for n in call.args if isinstance(n, ast.Name)]
    known = [str(getattr(module, name)) for name in names if isinstance(getattr(module, name, None), str)]
    return next((words for words in [*known, *constants] if " " in words), "")


def rows() -> list[str]:
    by_name = {one.__name__: one for one in refusals()}
    found: dict[str, tuple[int, str]] = {}
    with translation.override("en"):
        for one in refusals():
            found.setdefault(one.code, (one.http_status, str(one.message)))
        for code, call, words in codes_given_in_passing():
            name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
            told = words or str(by_name[name].message)
            status = next((k.value.value for k in call.keywords if k.arg == "http_status"), by_name[name].http_status)
            found.setdefault(code, (status, told))
    return [f"| `{code}` | {status} | {words.replace('|', '¦')} |" for code, (status, words) in sorted(found.items())]


def test_every_code_is_documented() -> None:
    page = HEAD + "\n".join(rows()) + "\n"
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "docs/errors.md is out of date: WRITE_DOCS=yes writes it"


def test_two_refusals_with_one_code_mean_the_same() -> None:
    """A code is a promise to programs: one code, one HTTP status."""
    statuses: dict[str, set[int]] = {}
    for one in refusals():
        statuses.setdefault(one.code, set()).add(one.http_status)
    assert {code: found for code, found in statuses.items() if len(found) > 1} == {}


@pytest.mark.parametrize("code", ["order_already_cancelled", "plan_changed", "order_100_3", "idempotency_key_reused"])
def test_the_page_names_the_codes_that_clients_meet_most(code: str) -> None:
    assert f"| `{code}` |" in PAGE.read_text()


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/address/-1/", "/nowhere/", "/api/v1/cart/items/x/"])
def test_where_no_door_is_programs_read_json_and_people_a_page(client: Any, address: str) -> None:
    told = client.get(address)
    assert told.status_code == 404
    assert told.json()["error_code"] == ["not_found"]
    page = client.get(address, headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.status_code == 404
    assert page["Content-Type"].startswith("text/html")
