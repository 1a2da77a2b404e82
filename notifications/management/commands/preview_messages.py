"""Render every message in every language into files, to be looked at: `manage.py preview_messages DIR`."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.html import format_html, format_html_join

from notifications import services


class Command(BaseCommand):
    help = "Render every message in every language, with a sample order, into DIR/<event>.<language>.html and .txt."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="where to; made if it is not there")
        parser.add_argument(
            "--files-only", action="store_true", help="without what staff wrote over the file templates"
        )

    def handle(self, *args: Any, folder: Path, files_only: bool, **options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        made: list[tuple[str, str]] = []
        for event in services.events():
            for language, _name in settings.LANGUAGES:
                override = None if files_only else services.override_of(event=event.code, language=language)
                context = services.sample_context(event=event.code, language=language)
                rendered = services.render(event=event.code, language=language, context=context, override=override)
                name = f"{event.code}.{language}"
                (folder / f"{name}.html").write_text(rendered.html, encoding="utf-8")
                (folder / f"{name}.txt").write_text(f"{rendered.subject}\n\n{rendered.text}", encoding="utf-8")
                made.append((name, rendered.subject))
        items = format_html_join("\n", '<li><a href="{0}.html">{0}</a> (<a href="{0}.txt">text</a>) {1}</li>', made)
        index = format_html('<!doctype html><meta charset="utf-8"><title>Messages</title><ul>{}</ul>', items)
        (folder / "index.html").write_text(index, encoding="utf-8")
        self.stdout.write(f"{len(made)} messages in {folder}")
