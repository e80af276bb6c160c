"""Conditions on documents, in SQLite's SQL. Each is 0 or 1 and never NULL, so that NOT is the complement.

Values are bound, never written into the SQL. A comparison holds only between values of one kind: a number is never compared with a
text, as SQLite would do. What most documents fail comes first, as a search evaluates a condition for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_NUMBERS = "('integer', 'real', 'true', 'false')"
_INT64 = 2**63
#: The SQL function of a store's connection that folds the case of a text as Python does.
CASEFOLD = "vexact_casefold"


@dataclass(frozen=True)
class Condition:
    """SQL with `?` placeholders, and their values in order."""

    sql: str
    params: tuple[Any, ...] = ()
    #: True for a user's own SQL: SQLite evaluates it as that of any query, with subqueries of other tables.
    is_users: bool = False


ALWAYS = Condition("TRUE")
NEVER = Condition("FALSE")


def every(conditions: Iterable[Condition]) -> Condition:
    return _joined(" AND ", list(conditions), ALWAYS)


def some(conditions: Iterable[Condition]) -> Condition:
    return _joined(" OR ", list(conditions), NEVER)


def negated(condition: Condition) -> Condition:
    return Condition(f"NOT ({condition.sql})", condition.params)


def _joined(word: str, conditions: list[Condition], neutral: Condition) -> Condition:
    if len(conditions) <= 1:
        return conditions[0] if conditions else neutral
    sql = word.join(f"({condition.sql})" for condition in conditions)
    return Condition(sql, tuple(value for condition in conditions for value in condition.params))


@dataclass(frozen=True)
class Field:
    """A value of a document: its SQL, and the SQL of its JSON type, each with the same parameters."""

    value: str
    kind: str
    params: tuple[Any, ...]

    @classmethod
    def of_json(cls, column: str, keys: Sequence[str]) -> Field:
        """The value under `keys`, one within the other, of a column of JSON objects."""
        return cls(f"json_extract({column}, ?)", f"json_type({column}, ?)", (json_path(keys),))

    @classmethod
    def of_column(cls, column: str) -> Field:
        return cls(column, f"typeof({column})", ())

    def is_null(self) -> Condition:
        """True for a document without the field, and for one where it is null."""
        return Condition(f"{self.value} IS NULL", self.params)

    def equals(self, value: Any) -> Condition:
        """Numbers are equal by value, and true is 1; a list or an object is equal to the same JSON."""
        if value is None:
            return self.is_null()
        value = plain(value)
        if isinstance(value, str):
            return Condition(f"{self.value} IS ? AND {self.kind} IS 'text'", (*self.params, value, *self.params))
        if isinstance(value, (list, tuple, dict)):
            sql = f"{self.value} IS ? AND {self.kind} IS NOT 'text'"
            return Condition(sql, (*self.params, json_text(value), *self.params))
        # A number is never equal to a text.
        return Condition(f"{self.value} IS ?", (*self.params, value))

    def compares(self, operator: str, value: Any) -> Condition:
        """`operator`: one of `<`, `<=`, `>`, `>=`. Text is ordered by code point."""
        value = plain(value)
        if isinstance(value, str):
            sql = f"coalesce({self.value} {operator} ? AND {self.kind} = 'text', 0)"
            return Condition(sql, (*self.params, value, *self.params))
        if operator in ("<", "<="):
            # SQLite has every number before every text.
            return Condition(f"coalesce({self.value} {operator} ?, 0)", (*self.params, value))
        return Condition(f"coalesce({self.value} {operator} ? AND {self.value} < '', 0)", (*self.params, value, *self.params))

    def is_one_of(self, values: Iterable[Any]) -> Condition:
        """Texts and numbers are looked up in one list each, so that thousands of them are fast."""
        values = [plain(value) for value in values]
        texts = [value for value in values if isinstance(value, str)]
        numbers = [value for value in values if isinstance(value, (int, float))]
        others = [value for value in values if not isinstance(value, (str, int, float))]
        conditions = [self.equals(value) for value in others]
        if texts:
            sql = f"coalesce({self.value} IN ({marks(texts)}) AND {self.kind} = 'text', 0)"
            conditions.append(Condition(sql, (*self.params, *texts, *self.params)))
        if numbers:
            conditions.append(Condition(f"coalesce({self.value} IN ({marks(numbers)}), 0)", (*self.params, *numbers)))
        return some(conditions)

    def has_text(self, text: str) -> Condition:
        """True for a text that contains `text`."""
        sql = f"coalesce(instr({self.value}, ?) > 0 AND {self.kind} = 'text', 0)"
        return Condition(sql, (*self.params, text, *self.params))

    def has_folded_text(self, text: str) -> Condition:
        """As `has_text`, with the case folded by `vexact_casefold`."""
        sql = f"coalesce({self.kind} = 'text' AND instr({CASEFOLD}({self.value}), ?) > 0, 0)"
        return Condition(sql, (*self.params, *self.params, text.casefold()))


def contains(column: str, keys: Sequence[str], value: Any) -> Condition:
    """True for a list under `keys` that has an item equal to `value`."""
    path, item = json_path(keys), plain(value)
    kind = "= 'text'" if isinstance(item, str) else f"IN {_NUMBERS}"
    sql = f"coalesce(json_type({column}, ?) = 'array' AND EXISTS (SELECT 1 FROM json_each({column}, ?) WHERE type {kind} AND value = ?), 0)"
    return Condition(sql, (path, path, item))


def is_empty(column: str, keys: Sequence[str]) -> Condition:
    """True where the field is missing, null, an empty text or an empty list."""
    path = json_path(keys)
    sql = f"json_extract({column}, ?) IS NULL OR coalesce(json_extract({column}, ?) IN ('', '[]'), 0)"
    return Condition(sql, (path, path))


def marks(values: Sequence[Any]) -> str:
    """Returns a placeholder for each value."""
    return ", ".join("?" * len(values))


def plain(value: Any) -> Any:
    """Returns a value as it is bound: bools are numbers, as SQLite's JSON functions give them; scalars of numpy are Python's."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return float(value)
    return value


def json_path(keys: Sequence[str]) -> str:
    """Returns SQLite's JSON path of keys, whatever characters they have."""
    return "$" + "".join("." + json.dumps(key, ensure_ascii=False) for key in keys)


def json_text(value: Any) -> str:
    """Returns JSON in the spelling that `json_extract` gives of what is stored so.

    Raises `TypeError` or `ValueError` for what JSON does not have.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
