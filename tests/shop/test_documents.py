"""What the README and docs say is true."""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings

from orders.management.commands.draw_states import state_diagram

ROOT = Path(settings.BASE_DIR)


def test_the_readme_shows_the_configured_states() -> None:
    readme = (ROOT / "README.md").read_text()
    drawn = readme.split("<!-- states -->")[1].split("<!-- /states -->")[0]
    assert drawn.strip() == f"```mermaid\n{state_diagram()}\n```", "run ./run manage draw_states and paste it"


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_documented_setting_is_read() -> None:
    source = "".join((ROOT / name).read_text() for name in ("shop/settings.py", "run", "manage.py"))
    table = (ROOT / "docs" / "operating.md").read_text().split("## Processes")[0]
    for name in re.findall(r"`([A-Z][A-Z_]{3,})`", table):
        assert name in source, name
