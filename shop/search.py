"""Search long tables of the admin: each field is looked up in its own index, and the answers are one union of ids.

The admin's own search compares UPPER(field), or a LIKE, in one OR over joins: no index answers that, and a million rows
are read for each search.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Field, Model, Q, QuerySet, Value
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Upper
from django.http import HttpRequest
from django.utils.functional import cached_property

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:  # generic for the type checker only
    ModelAdmin = admin.ModelAdmin
    AnyPaginator = Paginator

UPPER, BEGINNING = "__upper", "__beginning"
# Under SQLite's comparison of bytes no character comes after it.
LAST = "\U0010ffff"
# What a list counts to, and how far its pages go. Beyond that a search or a filter finds more than a person would.
COUNTED = 10_000


class CappedPaginator(AnyPaginator):
    """Counts no further than COUNTED, so that a list of a million rows opens as fast as one of a hundred."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return min(COUNTED, rows.order_by().values("pk")[: COUNTED + 1].count())

    @property
    def is_capped(self) -> bool:
        return self.count >= COUNTED


class IndexedSearch(ModelAdmin):
    """A long list: counted to COUNTED only, and searched by whole numbers, each of `search_fields` in its own index.

    `order__number`     as it was typed, in capitals or in small letters
    `email__upper`      in whatever letters; the index is on Upper("email")
    `key__beginning`    its beginning, as it was typed
    `email__upper__beginning`  both; on PostgreSQL the index has text_pattern_ops

    words_searched  lookups such as `name__icontains`, read row by row: only where no number was found
    """

    words_searched: Sequence[str] = ()
    paginator = CappedPaginator
    show_full_result_count = False
    list_max_show_all = 0

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip().removeprefix("#")
        if not term or not (fields := self.get_search_fields(request)):
            return queryset, False
        rows = queryset.filter(pk__in=found(self.model, [str(field) for field in fields], term))
        if not self.words_searched or rows.exists():
            return rows, False
        for word in term.split():
            queryset = queryset.filter(reduce(or_, (Q((lookup, word)) for lookup in self.words_searched)))
        return queryset, False


def found(model: type[Model], fields: Sequence[str], term: str) -> QuerySet[Any, Any]:
    """This will find the ids of the rows that a term names in any of the fields, written as IndexedSearch says."""
    rows = model._default_manager.order_by()
    sets = [ids for field in fields if (ids := _found(rows, field, term)) is not None]
    return sets[0].union(*sets[1:]) if sets else rows.none().values("pk")


def as_typed(term: str) -> set[str]:
    """A number as people type it: codes in capitals are often typed in small letters, and the other way round."""
    return {term, term.upper(), term.lower()}


def numbered(model: type[Model], field: str, term: str) -> QuerySet[Any, Any]:
    """This will find the rows that have the number. Raises ValidationError where it can be none: a word as an id."""
    target = model._meta.get_field(field)
    assert isinstance(target, Field)
    rows = model._default_manager.order_by()
    if target.empty_strings_allowed and target.blank and not target.null:
        rows = rows.exclude(**{field: ""})  # SQLite uses an index of what is not empty only where it is told so
    return rows.filter(**{f"{field}__in": {target.get_prep_value(target.to_python(value)) for value in as_typed(term)}})


def _found(rows: QuerySet[Any], field: str, term: str) -> QuerySet[Any, Any] | None:
    if field.endswith(BEGINNING):
        path = field.removesuffix(BEGINNING)
        first: Any = Value(term)
        last: Any = Value(term + LAST)
        if path.endswith(UPPER):
            rows, path = rows.alias(its=Upper(path.removesuffix(UPPER))), "its"
            first, last, term = Upper(first), Upper(last), term.upper()
        if connection.vendor == "postgresql":  # by the index of patterns that a CharField with an index has beside it
            return rows.filter(**{f"{path}__startswith": term}).values("pk")
        return rows.filter(**{f"{path}__gte": first, f"{path}__lt": last}).values("pk")
    if field.endswith(UPPER):
        return rows.alias(its=Upper(field.removesuffix(UPPER))).filter(its=Upper(Value(term))).values("pk")
    *relations, own = field.split(LOOKUP_SEP)
    try:
        ids = numbered(_at_the_end(rows.model, relations), own, term).values("pk")
    except ValidationError:
        return None
    return rows.filter(**{f"{LOOKUP_SEP.join(relations)}__in": ids}).values("pk") if relations else ids


def _at_the_end(model: type[Model], relations: Sequence[str]) -> type[Model]:
    for name in relations:
        related = model._meta.get_field(name).related_model
        if related is None or isinstance(related, str):
            raise FieldDoesNotExist(f"{model.__name__} has no relation {name}")
        model = related
    return model
