"""Conversion of rows of Python values to Arrow."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from . import _arguments as check
from .errors import InvalidRequestError

Row = Mapping[str, Any] | Sequence[Any]
_REALS = (float, np.floating, decimal.Decimal)


def record_batch(rows: Sequence[Row], schema: pa.Schema | None) -> pa.RecordBatch:
    """Converts rows to one record batch. With `schema` None, it has all columns that occur, with
    the types that pyarrow infers.

    Raises `ValueError` for a value that does not fit, with its column, and for a column that is not in the schema.
    """
    if schema is None:
        found = dict.fromkeys(name for row in rows for name in _mapping(row))
        names = [check.text("rows: a column's name", name) for name in found]
    else:
        names = schema.names
        known = set(names)
    columns: list[list[Any]] = [[] for _ in names]
    for row in rows:
        if isinstance(row, Mapping):
            if schema is not None and not known.issuperset(row):
                unknown = next(name for name in row if name not in known)
                raise ValueError(f"column {unknown!r}: expected one of [{', '.join(names)}]; give the stream a schema with all columns")
            for name, column in zip(names, columns):
                column.append(row.get(name))
        else:
            values = _sequence(row, len(names))
            for value, column in zip(values, columns):
                column.append(value)
    if schema is None:
        arrays = [column_array(name, column, None) for name, column in zip(names, columns)]
        return pa.RecordBatch.from_arrays(arrays, names=names)
    arrays = [column_array(field.name, column, field.type) for field, column in zip(schema, columns)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def column_array(name: str, values: list[Any], data_type: pa.DataType | None) -> pa.Array:
    """Converts the values of a column. With `data_type` None, pyarrow infers the type.
    `InvalidRequestError` for a value that does not fit."""
    expected = "values of one type" if data_type is None else str(data_type)
    try:
        array = pa.array(values, type=data_type, from_pandas=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(f"column {name!r}: expected {expected}: {error}") from error
    # pyarrow cuts them.
    if data_type is not None and (cut := next(_cut(values, data_type), None)) is not None:
        raise InvalidRequestError(f"column {name!r}: expected {expected}, got {cut!r}")
    return array


def _cut(values: Iterable[Any], data_type: pa.DataType) -> Iterator[Any]:
    """Returns values that a column would truncate: a number with a fraction, a time with a time of
    day or an offset."""
    if pa.types.is_integer(data_type) or pa.types.is_temporal(data_type):
        kinds = set(map(type, values))
        if any(issubclass(kind, _REALS) for kind in kinds):
            yield from (value for value in values if isinstance(value, _REALS) and value % 1 != 0)
        if any(issubclass(kind, _TIMES) for kind in kinds):
            yield from (value for value in values if isinstance(value, _TIMES) and _is_time_cut(value, data_type))
    elif pa.types.is_float32(data_type):
        yield from (value for value in values if isinstance(value, float) and math.isfinite(value) and abs(value) > _LARGEST_FLOAT32)
    elif pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type):
        for value in values:
            if value is not None:
                yield from _cut(value, data_type.value_type)
    elif pa.types.is_struct(data_type):
        names = {data_type.field(place).name for place in range(data_type.num_fields)}
        rows = [value for value in values if isinstance(value, Mapping)]
        yield from (row for row in rows if not names.issuperset(row))
        for place in range(data_type.num_fields):
            field = data_type.field(place)
            yield from _cut([row.get(field.name) for row in rows], field.type)


_TIMES = (datetime.date, datetime.time, datetime.timedelta)
# The largest float64 that is rounded to a finite float32.
_LARGEST_FLOAT32 = 3.4028235677973362e38
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


def _is_time_cut(value: Any, data_type: pa.DataType) -> bool:
    if pa.types.is_date(data_type):
        return isinstance(value, datetime.datetime) and (value.time() != datetime.time() or value.tzinfo is not None)
    if isinstance(value, datetime.timedelta):
        micros, nanos = value // datetime.timedelta(microseconds=1), getattr(value, "nanoseconds", 0)
    else:
        micros, nanos = getattr(value, "microsecond", 0), getattr(value, "nanosecond", 0)
    if getattr(value, "tzinfo", None) is not None and getattr(data_type, "tz", None) is None:
        return True
    unit = getattr(data_type, "unit", "ns")
    return unit != "ns" and (micros % _MICROSECONDS[unit] != 0 or nanos != 0)


def _mapping(row: Row) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    raise check.wrong("rows", "mappings of names to values (or a schema, for sequences)", row)


def _sequence(row: Any, count: int) -> Sequence[Any]:
    if not isinstance(row, Sequence) or isinstance(row, (str, bytes)):
        raise check.wrong("rows", "mappings or sequences of values", row)
    if len(row) != count:
        raise ValueError(f"rows: expected {count} values, got {len(row)}")
    return row
