"""How the inbox says things: a kind of job, what happened, what to do, and whose work it is."""

from __future__ import annotations

from django.utils.translation import gettext as _

from shop import jobs
from shop.errors import Words
from shop.models import User


def kind_label(kind: str) -> Words:
    """This will name a kind of job in words; one whose code is gone keeps its name."""
    try:
        return jobs.handler_of(kind).label or kind
    except LookupError:
        return kind


def what_happened(kind: str) -> Words:
    """This will say in plain words what it means that a job of this kind needs a person."""
    try:
        return jobs.handler_of(kind).what_happened
    except LookupError:
        return _("The desk does not know this kind of work any more.")


def what_to_do(kind: str) -> Words:
    """This will say what a person does about a job of this kind."""
    try:
        return jobs.handler_of(kind).what_to_do
    except LookupError:
        return _("The program that did this work is not installed any more. Ask who runs the desk.")


def name_of(user: User | None) -> str:
    """This will name whose work it is."""
    return (user.get_full_name() or user.get_username()) if user else _("nobody")
