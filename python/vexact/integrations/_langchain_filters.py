"""LangChain's filters as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _arguments as check
from ..errors import InvalidRequestError
from ._columns import field
from ._conditions import ALWAYS, Condition, Field, contains, every, negated, some

#: A dict of conditions on metadata, or SQL over the columns of the table.
Filter = Mapping[str, Any] | str

_COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def condition(filter: Filter | None, columns: Mapping[str, str]) -> Condition:
    """Returns a filter as SQL; `columns` are the typed metadata. `InvalidRequestError` names what it cannot have."""
    if filter is None:
        return ALWAYS
    if isinstance(filter, str):
        return Condition(filter, is_users=True) if filter.strip() else ALWAYS
    if not isinstance(filter, Mapping):
        raise check.wrong("filter", "a dict or SQL", filter)
    return _of_mapping(filter, columns) if filter else ALWAYS


def _of_mapping(filter: Mapping[str, Any], columns: Mapping[str, str]) -> Condition:
    return every(_of_key(check.text("filter: a key", key), value, columns) for key, value in filter.items())


def _of_key(key: str, value: Any, columns: Mapping[str, str]) -> Condition:
    if key in ("$and", "$or"):
        parts = [_of_mapping(_a_mapping(key, part), columns) for part in check.items(f"filter: {key}", value, "a list of dicts")]
        return every(parts) if key == "$and" else some(parts)
    if key == "$not":
        return negated(_of_mapping(_a_mapping(key, value), columns))
    if key.startswith("$"):
        raise InvalidRequestError(f"filter: expected $and, $or, $not or a metadata key, got {key!r}")
    keys = key.split(".")
    of = field(keys, columns)
    if isinstance(value, Mapping) and any(str(name).startswith("$") for name in value):
        return every(_of_operator(key, keys, of, name, operand, columns) for name, operand in value.items())
    return of.equals(value)


def _of_operator(
    key: str, keys: list[str], field: Field, operator: str, value: Any, columns: Mapping[str, str]
) -> Condition:
    if operator == "$eq":
        return field.equals(value)
    if operator == "$ne":
        return negated(field.equals(value))
    if operator in _COMPARISONS:
        return field.compares(_COMPARISONS[operator], _comparable(key, operator, value))
    if operator in ("$in", "$nin"):
        found = field.is_one_of(check.items(f"filter: {key!r}: {operator}", value, "a list of values"))
        return found if operator == "$in" else negated(found)
    if operator == "$between":
        bounds = list(check.items(f"filter: {key!r}: $between", value, "two values"))
        if len(bounds) != 2:
            raise InvalidRequestError(f"filter: {key!r}: $between: expected two values, got {len(bounds)}")
        low, high = (_comparable(key, operator, bound) for bound in bounds)
        return every([field.compares(">=", low), field.compares("<=", high)])
    if operator == "$exists":
        return negated(field.is_null()) if check.flag(f"filter: {key!r}: $exists", value) else field.is_null()
    if operator == "$contains":
        return contains("meta", keys, _comparable(key, operator, value))
    if operator == "$like":
        pattern = check.text(f"filter: {key!r}: $like", value)
        # LIKE heeds the case in filters of searches.
        sql = f"coalesce({field.kind} = 'text' AND like(lower(?), lower({field.value})), 0)"
        return Condition(sql, (*field.params, pattern, *field.params))
    if operator == "$not":
        return negated(_of_key(key, value, columns))
    known = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $between, $exists, $contains, $like, $not"
    raise InvalidRequestError(f"filter: {key!r}: expected one of {known}, got {operator!r}")


def _comparable(key: str, operator: str, value: Any) -> Any:
    if isinstance(value, (str, int, float)) or hasattr(value, "item"):
        return value
    raise check.wrong(f"filter: {key!r}: {operator}", "a text or a number", value)


def _a_mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise check.wrong(f"filter: {name}", "a dict", value)
    return value
