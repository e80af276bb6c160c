"""Typed metadata: keys that are columns of a table of documents, whose values SQLite computes from the JSON `meta`.

A condition on such a column is planned by DataFusion, which prunes with it and reads no JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import _arguments as check
from ..errors import InvalidRequestError
from ._conditions import NEVER, Condition, Field, json_path, marks, plain

_OWN = ("id", "content", "meta", "extra", "embedding", "rowid")


@dataclass(frozen=True)
class _Type:
    """A type of metadata: its declaration in SQLite, its type in the replica, the JSON types that it has, and its Python types."""

    declared: str
    replicated: str
    kinds: str
    values: tuple[type, ...]


TYPES = {
    "text": _Type("TEXT", "utf8", "('text')", (str,)),
    "integer": _Type("INTEGER", "int64", "('integer')", (int,)),
    "real": _Type("REAL", "float64", "('integer', 'real')", (int, float)),
    "boolean": _Type("BOOLEAN", "int64", "('true', 'false')", (bool,)),
}


def checked(columns: Any) -> dict[str, str]:
    """Checks the types of metadata that a user gives: `{"lang": "text", "page": "integer"}`."""
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise check.wrong("columns", "a mapping of metadata keys to types", columns)
    names: set[str] = set(_OWN)
    for key, kind in columns.items():
        check.text("columns: a key", key)
        if kind not in TYPES:
            raise InvalidRequestError(f"columns: {key!r}: expected one of {', '.join(TYPES)}, got {kind!r}")
        if not key or "." in key or key.lower() in names:
            raise InvalidRequestError(f"columns: expected a key of the metadata that no other column is named by, got {key!r}")
        names.add(key.lower())
    return dict(columns)


def definition(key: str, kind: str) -> str:
    """Returns the column of a key as a CREATE TABLE statement has it. A value of another type is NULL in it."""
    of = TYPES[kind]
    path = json_path([key]).replace("'", "''")
    value = f"json_extract(meta, '{path}')"
    # JSON has integers that SQLite has not: they are its reals.
    is_stored = f" AND typeof({value}) = 'integer'" if kind == "integer" else ""
    return f"{quoted(key)} {of.declared} GENERATED ALWAYS AS (CASE WHEN json_type(meta, '{path}') IN {of.kinds}{is_stored} THEN {value} END) VIRTUAL"


def found_in(create: str, names: Iterable[str]) -> dict[str, str]:
    """Returns the typed metadata among the columns of a table, by the statement that created it."""
    return {name: kind for name in names for kind in TYPES if definition(name, kind) in create}


def check_values(id: str, meta: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    """Raises an `InvalidRequestError` for metadata of another type than their column's; None is of every type."""
    for key, kind in columns.items():
        value = meta.get(key)
        is_bool = isinstance(value, bool)
        if value is None or (isinstance(value, TYPES[kind].values) and is_bool == (kind == "boolean") and not _is_long(value)):
            continue
        raise InvalidRequestError(f"document {id!r}: metadata {key!r}: expected {kind}, got {value!r:.80}")


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def field(keys: Sequence[str], columns: Mapping[str, str]) -> Field:
    """Returns a value of the metadata: a column where its key is one, else a value within the JSON."""
    if len(keys) == 1 and keys[0] in columns:
        name = quoted(keys[0])
        return _Typed(name, f"typeof({name})", (), columns[keys[0]])
    return Field.of_json("meta", keys)


@dataclass(frozen=True)
class _Typed(Field):
    type: str

    def equals(self, value: Any) -> Condition:
        return self.is_null() if value is None else self._compared("=", plain(value))

    def compares(self, operator: str, value: Any) -> Condition:
        return self._compared(operator, plain(value))

    def is_one_of(self, values: Iterable[Any]) -> Condition:
        plain_values = [plain(value) for value in values]
        listed = [value for value in plain_values if self._is_comparable(value)]
        found = Condition(f"{self.value} IS NOT NULL AND {self.value} IN ({marks(listed)})", tuple(listed)) if listed else NEVER
        if None not in plain_values:
            return found
        return Condition(f"({found.sql}) OR {self.value} IS NULL", found.params)

    def _compared(self, operator: str, value: Any) -> Condition:
        if not self._is_comparable(value):
            return NEVER
        return Condition(f"{self.value} IS NOT NULL AND {self.value} {operator} ?", (value,))

    def _is_comparable(self, value: Any) -> bool:
        return isinstance(value, str) if self.type == "text" else isinstance(value, (int, float))
