"""Haystack's filters as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from haystack.dataclasses import Document
from haystack.errors import FilterError

from ._columns import field as field_of
from ._conditions import ALWAYS, NEVER, Condition, Field, every, negated, some
from ._dates import compares_dates

_FIELDS = {field.name for field in fields(Document)}
_ORDER = (">", ">=", "<", "<=")


def condition(filters: dict[str, Any] | None, columns: Mapping[str, str]) -> Condition:
    """Returns Haystack's filters as SQL; `columns` are the typed metadata. `FilterError` names what is wrong in them."""
    if not filters:
        return ALWAYS
    if not isinstance(filters, dict):
        raise FilterError(f"filters: expected a dict, got {type(filters).__name__}")
    if "operator" not in filters and "conditions" not in filters and "field" not in filters:
        raise FilterError(f"filters: expected 'operator' with 'conditions' or 'field', got {sorted(filters)}")
    return _of_comparison(filters, columns) if "field" in filters else _of_logic(filters, columns)


def _needed(filters: dict[str, Any], *keys: str) -> list[Any]:
    missing = [key for key in keys if key not in filters]
    if missing:
        raise FilterError(f"filters: expected the key {missing[0]!r}, got {filters!r:.200}")
    return [filters[key] for key in keys]


def _of_logic(filters: dict[str, Any], columns: Mapping[str, str]) -> Condition:
    operator, conditions = _needed(filters, "operator", "conditions")
    parts = [_of_comparison(part, columns) if "field" in part else _of_logic(part, columns) for part in conditions]
    if operator == "AND":
        return every(parts)
    if operator == "OR":
        return some(parts)
    if operator == "NOT":
        return negated(every(parts))
    raise FilterError(f"filters: expected one of AND, OR, NOT, got {operator!r}")


def _field(name: str, columns: Mapping[str, str]) -> Field:
    if name in ("id", "content"):
        return Field.of_column(name)
    keys = name.split(".")
    if keys[0] == "meta" and len(keys) > 1:
        return field_of(keys[1:], columns)
    if keys[0] in _FIELDS:
        raise FilterError(f"filters: expected the field id, content or meta.*, got {name!r}")
    return field_of(keys, columns)


def _of_comparison(filters: dict[str, Any], columns: Mapping[str, str]) -> Condition:
    name, operator, value = _needed(filters, "field", "operator", "value")
    field = _field(name, columns)
    if operator == "==":
        return _equals(field, value)
    if operator == "!=":
        return negated(_equals(field, value))
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"filters: {name!r}: {operator}: expected a list, got {type(value).__name__}")
        dates = [date for item in value if (date := _date(item)) is not None]
        found = some([field.is_one_of(value), *(compares_dates(field, "=", date) for date in dates)])
        return found if operator == "in" else negated(found)
    if operator in _ORDER:
        return _ordered(name, field, operator, value)
    raise FilterError(f"filters: {name!r}: expected one of ==, !=, >, >=, <, <=, in, not in, got {operator!r}")


def _equals(field: Field, value: Any) -> Condition:
    date = _date(value)
    if date is None:
        return field.equals(value)
    same = compares_dates(field, "=", date)
    return same if isinstance(value, datetime) else some([field.equals(value), same])


def _ordered(name: str, field: Field, operator: str, value: Any) -> Condition:
    if value is None:
        return NEVER
    if isinstance(value, (str, datetime)):
        date = _date(value)
        if date is None:
            raise FilterError(f"filters: {name!r}: {operator}: expected a number or an ISO date, got {value!r:.80}")
        return compares_dates(field, operator, date)
    if isinstance(value, (int, float)):
        return field.compares(operator, value)
    raise FilterError(f"filters: {name!r}: {operator}: expected a number or an ISO date, got {type(value).__name__}")


def _date(value: Any) -> datetime | None:
    """Returns the date that a text says in full, year, month and day."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or len(value) < 10 or value[4] != "-" or value[7] != "-":
        return None
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return None
