"""Conversion of a session's inputs for the native module: Arrow data, and the columns of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from . import _arguments as check
from .errors import InvalidRequestError

LineField = int | str
LineType = str | type
LineMappings = (
    Sequence[tuple[str, LineField] | tuple[str, LineField, LineType | None]]
    | Mapping[str, LineField | tuple[LineField, LineType | None]]
)

_SQL_TYPES: dict[LineType, str] = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "STRING"}
_MAPPINGS = "(column, field) or (column, field, type) tuples, or a mapping"


def line_columns(mappings: Any) -> list[tuple[str, LineField, str | None]]:
    """Returns the columns of lines, each with its field and its type."""
    if isinstance(mappings, Mapping):
        return [_line_column(column, rest) for column, rest in mappings.items()]
    columns = []
    for item in check.items("mappings", mappings, _MAPPINGS):
        if not isinstance(item, (tuple, list)):
            raise check.wrong("mappings", _MAPPINGS, item)
        if not item:
            raise InvalidRequestError(f"mappings: expected {_MAPPINGS}, got {item!r}")
        columns.append(_line_column(item[0], item[1:]))
    return columns


def _line_column(column: Any, rest: Any) -> tuple[str, LineField, str | None]:
    check.text("mappings: a column's name", column)
    parts = rest if isinstance(rest, (tuple, list)) else (rest,)
    if not 1 <= len(parts) <= 2:
        raise InvalidRequestError(
            f"mappings: column {column!r}: expected (column, field) or (column, field, type), got {len(parts) + 1} items"
        )
    field, kind = parts[0], parts[1] if len(parts) == 2 else None
    of = f"mappings: column {column!r}"
    number_or_name = check.text(of, field) if isinstance(field, str) else check.integer(of, field, "a field's number or a group's name")
    if isinstance(kind, type):
        if kind not in _SQL_TYPES:
            raise InvalidRequestError(f"{of}: expected int, float, str, bool or a type of SQL's, got {kind.__name__}")
        return column, number_or_name, _SQL_TYPES[kind]
    return column, number_or_name, None if kind is None else check.text(f"{of}: type", kind, "int, float, str, bool or a type of SQL's")


def csv_options(
    delimiter: Any,
    header: Any,
    names: Any,
    dtypes: Any,
    null_values: Any,
    quote: Any,
    escape: Any,
    comment: Any,
    skip_rows: Any,
    encoding: Any,
    decimal: Any,
) -> dict[str, Any]:
    """Returns the options of `read_csv`, as the native module takes them."""

    def character(name: str, value: Any) -> str | None:
        return None if value is None else check.one_character(name, value)

    return {
        "delimiter": check.one_character("delimiter", delimiter),
        "header": check.flag("header", header),
        "names": None if names is None else check.texts("names", names),
        "dtypes": _dtypes(dtypes),
        "null_values": [] if null_values is None else check.texts("null_values", null_values),
        "quote": character("quote", quote),
        "escape": character("escape", escape),
        "comment": character("comment", comment),
        "skip_rows": check.whole("skip_rows", skip_rows, 0),
        "encoding": check.text("encoding", encoding),
        "decimal": check.one_character("decimal", decimal),
    }


def _dtypes(dtypes: Any) -> list[tuple[str, Any]]:
    expected = "a mapping of columns to types"
    if dtypes is None:
        return []
    if isinstance(dtypes, pa.Schema):
        return [(field.name, field.type) for field in dtypes]
    if not isinstance(dtypes, Mapping):
        raise check.wrong("dtypes", expected, dtypes)
    found = []
    for column, kind in dtypes.items():
        of = f"dtypes: column {check.text('dtypes: a column', column)!r}"
        if isinstance(kind, type) and kind in _SQL_TYPES:
            kind = _SQL_TYPES[kind]
        elif not isinstance(kind, (str, pa.DataType)):
            raise check.wrong(of, "a type of SQL's by its name, a pyarrow type, int, float, str or bool", kind)
        found.append((column, kind))
    return found


def is_tabular(data: Any) -> bool:
    """Returns True for data with an Arrow interface: of pandas, polars, pyarrow and others, and a result of an engine."""
    return any(hasattr(type(data), name) for name in ("__arrow_c_stream__", "__arrow_c_array__"))


def as_arrow(data: Any) -> Any:
    """Converts data to an object with an Arrow C interface, as the native module takes it."""
    if isinstance(data, Mapping):
        columns = {check.text("data: a column's name", name): _column(name, values) for name, values in data.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        for name, length in lengths.items():
            if length != (first := next(iter(lengths.values()))):
                raise InvalidRequestError(f"data: column {name!r}: expected {first} values, as the first column has, got {length}")
        return pa.table(columns)
    if isinstance(data, Sequence) and data and all(isinstance(batch, pa.RecordBatch) for batch in data):
        try:
            return pa.Table.from_batches(list(data))
        except pa.ArrowInvalid as error:
            raise InvalidRequestError(f"data: expected record batches of one schema: {error}") from error
    return data


def _array(of: str, values: np.ndarray[Any, Any]) -> pa.Array:
    """Converts an array of any byte order; masked values become NULL."""
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    plain = np.ma.getdata(values)
    if not plain.dtype.isnative:
        plain = plain.astype(plain.dtype.newbyteorder("="))
    if plain.ndim != 2:
        return pa.array(plain, mask=mask)
    if plain.shape[1] == 0:
        raise InvalidRequestError(f"{of}: expected vectors of at least one component, got none")
    components = pa.array(np.ascontiguousarray(plain).reshape(-1), mask=None if mask is None else mask.reshape(-1))
    rows = None if mask is None else pa.array(mask.all(axis=1))
    return pa.FixedSizeListArray.from_arrays(components, plain.shape[1], mask=rows)


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType")


def _column(name: str, values: Any) -> Any:
    """Converts a column of a dict. A two-dimensional numpy array is a column of vectors, without a
    copy unless its bytes are in another order."""
    of = f"data: column {name!r}"
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, (str, bytes, Mapping)):
        raise check.wrong(of, "a list or an array of values", values)
    try:
        if isinstance(values, np.ndarray) and (values.dtype.kind != "O" or isinstance(values, np.ma.MaskedArray)):
            return _array(of, values)
        try:
            is_listed = isinstance(values, (list, tuple, np.ndarray))
            return pa.array(_unmasked(values) if is_listed else values)
        except (pa.ArrowException, TypeError, ValueError):
            # pandas' own values for what is missing are NULL.
            cells = list(values)
            missing = [_is_missing(cell) for cell in cells]
            if not any(missing):
                raise
            return pa.array([None if is_missing else cell for cell, is_missing in zip(cells, missing)])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        if not hasattr(type(values), "__iter__"):
            raise check.wrong(of, "a list or an array of values", values) from error
        raise InvalidRequestError(f"{of}: expected values of one type: {error}") from error


def _unmasked(values: Any) -> Any:
    """Returns the values with None for masked ones: pyarrow applies a mask to a whole column, but
    not to arrays in it."""
    if any(np.ma.is_masked(value) for value in values):
        return [_shown(value) if isinstance(value, np.ma.MaskedArray) else value for value in values]
    return values


def _shown(row: np.ma.MaskedArray[Any, Any]) -> Any:
    return None if np.ma.getmaskarray(row).all() else row.tolist()


def probed(path: str | bytes, found: tuple[Any, ...]) -> dict[str, Any]:
    """Returns the result of `Session.probe`, from that of the native probe."""
    schema, delimiter, confidence, name, warnings, forms = found
    keys = ("kind", "final_format", "score", "reason")
    candidates = [dict(zip(keys, candidate)) for candidate in forms]
    best = candidates[0] if candidates else {"kind": "unknown", "final_format": "unknown", "score": 0}
    columns = None if schema is None else [{"name": field.name, "type": str(field.type)} for field in schema]
    return {
        "path": path,
        "kind": best["kind"],
        "final_format": best["final_format"],
        "delimiter": delimiter,
        "score": best["score"],
        "confidence": confidence,
        "schema": columns,
        "suggested_table_name": name,
        "warnings": warnings,
        "candidates": candidates,
    }
