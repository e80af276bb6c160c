"""Values of Bitable tables: the API's cells as plain values, grouped rows, and Arrow columns."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from . import _arguments as check
from ._rows import record_batch
from .errors import BitableClientError

Row = dict[str, Any]

_TIME = pa.timestamp("ms", "UTC")
_TEXTS = pa.list_(pa.string())
_ARROW_TYPES = {2: pa.float64(), 4: _TEXTS, 5: _TIME, 7: pa.bool_(), 11: _TEXTS, 17: _TEXTS, 18: _TEXTS, 21: _TEXTS, 23: _TEXTS}
_ARROW_TYPES |= {1001: _TIME, 1002: _TIME, 1003: _TEXTS, 1004: _TEXTS}
_BUTTON = 3001


def plain_row(record: Mapping[str, Any]) -> Row:
    fields = record.get("fields")
    if not isinstance(fields, Mapping):
        raise BitableClientError(f"record {record.get('record_id')!r}: expected an object under fields, got {fields!r:.200}")
    return {"record_id": record.get("record_id") or record.get("id")} | {
        name: plain_value(value) for name, value in fields.items()
    }


def plain_value(value: Any) -> Any:
    """Converts a cell of the API to a plain value.

    Text in segments becomes one str, a link its address, people and chats the list of their names, attachments the list of their
    file names, linked records the list of their ids, a location its address; numbers, booleans, single selects (str), multiple
    selects (list of str) and times (int: milliseconds since 1970, UTC) stay. The result of a formula or a lookup is what it would be
    in a column of its own; several values are a list.
    """
    if isinstance(value, Mapping):
        return _plain_object(value)
    if not isinstance(value, list):
        return value
    if not value:
        return None
    if all(isinstance(item, Mapping) and _is_segment(item) for item in value):
        return "".join(str(item.get("text") or "") for item in value)
    plain: list[Any] = []
    for item in value:
        one = plain_value(item)
        plain.extend(one if isinstance(one, list) else [one])
    return plain


def _is_segment(item: Mapping[str, Any]) -> bool:
    return "text" in item and "record_ids" not in item and "id" not in item and "file_token" not in item


def _plain_object(item: Mapping[str, Any]) -> Any:
    if "value" in item and "type" in item:
        found = item["value"]
        # A formula's one number comes in a list; a list of people or options is one anywhere.
        is_one = isinstance(found, list) and len(found) == 1 and not isinstance(found[0], (Mapping, list, str))
        return plain_value(found[0] if is_one else found)
    for ids in ("record_ids", "link_record_ids"):
        if ids in item:
            return list(item[ids] or []) or None
    if "users" in item:
        return plain_value(item["users"])
    for key in ("link", "full_address", "name", "en_name", "text", "address", "location", "id"):
        if item.get(key):
            return item[key]
    return json.dumps(item, ensure_ascii=False, sort_keys=True) if item else None


def group_rows_by_field(rows: Iterable[Mapping[str, Any]], field: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Groups rows by the values of a field. The groups are in the order in which their values first
    occur.

    A row whose value is a list (people, multiple selects) is in the group of each of its values. Rows without a value are in the
    group of None.
    """
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in _checked(rows, field):
        for key in _keys(row.get(field)):
            groups.setdefault(key, []).append(row)
    return groups


def group_rows_count_by_field(rows: Iterable[Mapping[str, Any]], field: str) -> dict[Any, int]:
    """Counts the rows in each group of `group_rows_by_field`. Groups are sorted by size, largest
    first; equal ones are in the order of their first occurrence."""
    counts: dict[Any, int] = {}
    for row in _checked(rows, field):
        for key in _keys(row.get(field)):
            counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda group: -group[1]))


def _checked(rows: Iterable[Mapping[str, Any]], field: str) -> Iterator[Mapping[str, Any]]:
    check.text("field", field)
    for place, row in enumerate(check.items("rows", rows, "an iterable of mappings")):
        if not isinstance(row, Mapping):
            raise check.wrong(f"rows: row {place}", "a mapping", row)
        yield row


def _keys(value: Any) -> list[Any]:
    if isinstance(value, list):
        return list(dict.fromkeys(_hashable(item) for item in value)) or [None]
    return [None if value == "" else _hashable(value)]


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def arrow_type(field: Mapping[str, Any]) -> pa.DataType | None:
    """Returns the type of a field's column; None for a button, which has no values."""
    kind = field.get("type")
    if kind == _BUTTON:
        return None
    properties = field.get("property")
    if kind == 20 and isinstance(properties, Mapping) and isinstance(properties.get("type"), Mapping):
        kind = properties["type"].get("data_type")
    return _ARROW_TYPES.get(kind, pa.string()) if isinstance(kind, int) else pa.string()


def found_schema(rows: list[Row]) -> pa.Schema:
    """Returns the columns of rows; a column without values is text."""
    found = record_batch(rows, None).schema
    return pa.schema([field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in found])


def fit(value: Any, data_type: pa.DataType) -> Any:
    """Converts a plain value to one of a column."""
    if value is None:
        return None
    if pa.types.is_list(data_type):
        items = value if isinstance(value, list) else [value]
        return [fit(item, data_type.value_type) for item in items]
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    # A formula's times may have parts of a millisecond.
    return int(one) if pa.types.is_timestamp(data_type) and isinstance(one, float) and math.isfinite(one) else one
