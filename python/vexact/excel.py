"""Excel sheets as frames, with each cell's value unchanged."""

from __future__ import annotations

import datetime
import importlib
import io
import os
from collections.abc import Iterable
from typing import IO, Any

import pyarrow as pa

from . import _arguments as check
from ._searches import SearchSession, check_session
from .errors import InvalidRequestError, MissingDependencyError, SourceNotFoundError
from .frame import DataFrame

_DATE_FORMAT = "%Y-%m-%d"
#: Metadata of a sheet's schema: SQL finds its columns in any case.
_OF_EXCEL = {"vexact.excel": ""}


def read_excel(
    session: SearchSession,
    path: str | os.PathLike[str],
    *,
    sheet_name: str | int = 0,
    date_format: str = _DATE_FORMAT,
    coerce_datetime_to_string: bool = True,
    **pandas_kwargs: Any,
) -> DataFrame:
    """Reads a sheet of an Excel workbook (xlsx) as a frame, at once. The first row has the names of
    the columns. `path` is a file, or the URL of an object in a store.

    A cell is kept as it is: text stays text ("007", "NA", "TRUE"), whole numbers stay whole, also beside empty cells, which are
    NULL, and beyond int64; durations are durations. A column of values of several kinds becomes text.

    `sheet_name`: its name, or its number counting from 0. `coerce_datetime_to_string`: dates and times become text, dates in
    `date_format`; in a column where a date has a time of day, the default is "%Y-%m-%d %H:%M:%S". Else dates are timestamps and
    times of day are times.

    `pandas_kwargs` are those of `pandas.read_excel`, which then reads the sheet (`usecols`, `skiprows`, `nrows`, `engine`, ...).

    Raises `MissingDependencyError` (an `ImportError`) where openpyxl is not installed, or pandas where it is needed
    (`pip install vexact[excel]`), `SourceNotFoundError` for a file that is not there, `InvalidRequestError` for one that is no
    workbook, a sheet that it does not have, and two columns of one name.
    """
    check_session(session)
    check.text("date_format", date_format)
    as_text = check.flag("coerce_datetime_to_string", coerce_datetime_to_string)
    if not isinstance(sheet_name, (str, int)) or isinstance(sheet_name, bool):
        raise check.wrong("sheet_name", "a name or a number", sheet_name)
    name = check.path("path", path)
    content = session._native.object_bytes(name)
    table = sheet_table(name, sheet_name, date_format if as_text else None, content=content, **pandas_kwargs)
    return session.create_dataframe_from_arrow(table)


def sheet_table(
    name: str,
    sheet_name: str | int = 0,
    date_format: str | None = _DATE_FORMAT,
    *,
    content: bytes | None = None,
    **pandas_kwargs: Any,
) -> pa.Table:
    """Reads a sheet as a table. With `date_format` None, dates and times are not converted to text.
    `content` is the workbook, if `name` is not the path of a file.
    """
    read = _with_pandas if pandas_kwargs else _with_openpyxl
    try:
        with open(name, "rb") if content is None else io.BytesIO(content) as file:
            labels, rows = read(name, file, sheet_name, **pandas_kwargs)
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"file not found: {name}") from error
    except (TypeError, ImportError, InvalidRequestError):
        raise
    except Exception as error:
        raise InvalidRequestError(f"{name}: {error}") from error
    columns: dict[str, pa.Array] = {}
    for label, cells in zip(labels, rows):
        if label in columns:
            raise InvalidRequestError(f"{name}: column {label!r}: expected one of each name, got two")
        columns[label] = _column(cells, date_format)
    if not columns:
        raise InvalidRequestError(f"{name}: expected a sheet with columns, got an empty one")
    return pa.table(columns, metadata=_OF_EXCEL)


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(f"read_excel needs {package}: pip install 'vexact[excel]'") from error


def _with_openpyxl(path: str, file: IO[bytes], sheet_name: str | int) -> tuple[list[str], list[list[Any]]]:
    """Reads the names of a sheet's columns, and their cells."""
    openpyxl = _needed("openpyxl")
    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    try:
        names = book.sheetnames
        if isinstance(sheet_name, int):
            if not -len(names) <= sheet_name < len(names):
                raise InvalidRequestError(f"{path}: sheet {sheet_name}: expected one of 0 to {len(names) - 1} {names}")
            sheet_name = names[sheet_name]
        if sheet_name not in names:
            raise InvalidRequestError(f"{path}: sheet {sheet_name!r}: expected one of {names}")
        sheet = book[sheet_name]
        # The size that the file declares may be wrong.
        sheet.reset_dimensions()
        rows = [row for row in sheet.iter_rows(values_only=True)]
    finally:
        book.close()
    while rows and all(cell is None for cell in rows[-1]):
        rows.pop()
    if not rows:
        return [], []
    width = max(len(row) - _trailing(row) for row in rows)
    columns = [[row[place] if place < len(row) else None for row in rows] for place in range(width)]
    labels = [
        f"Unnamed: {place}" if column[0] is None else _text(column[0], _DATE_FORMAT) for place, column in enumerate(columns)
    ]
    return labels, [column[1:] for column in columns]


def _trailing(row: tuple[Any, ...]) -> int:
    """Counts the empty cells at the end."""
    return next((count for count, cell in enumerate(reversed(row)) if cell is not None), len(row))


def _with_pandas(path: str, file: IO[bytes], sheet_name: str | int, **pandas_kwargs: Any) -> tuple[list[str], list[list[Any]]]:
    """Reads the same through pandas. Cells are converted only if the arguments ask pandas to."""
    pandas = _needed("pandas")
    if pandas_kwargs.get("engine") is None:
        _needed("openpyxl")
        pandas_kwargs["engine"] = "openpyxl"
    if not pandas_kwargs.keys() & {"na_values", "keep_default_na", "na_filter"}:
        pandas_kwargs |= {"na_values": [""], "keep_default_na": False}
    sheet = pandas.read_excel(file, sheet_name=sheet_name, **{"dtype": object, **pandas_kwargs})
    cells = [[None if pandas.isna(cell) else cell for cell in values.tolist()] for _, values in sheet.items()]
    return [str(label) for label in sheet.columns], cells


def _column(cells: list[Any], date_format: str | None) -> pa.Array:
    """Converts a column's cells to one Arrow array; times become text if there is a format of
    dates."""
    kinds = {_kind(cell) for cell in cells if cell is not None}
    if not kinds:
        return pa.array(cells, pa.string())
    if kinds == {int}:
        return _integers(cells)
    if kinds <= {int, float}:
        is_exact = all(cell is None or isinstance(cell, float) or abs(cell) <= 2**53 for cell in cells)
        return pa.array([None if cell is None else float(cell) for cell in cells]) if is_exact else _texts(cells, None)
    if len(kinds) == 1 and (kind := next(iter(kinds))) in (str, bool, datetime.timedelta):
        return pa.array(cells, {str: pa.string(), bool: pa.bool_(), datetime.timedelta: pa.duration("us")}[kind])
    if date_format is None and kinds == {datetime.datetime}:
        return pa.array(cells, pa.timestamp("us"))
    if date_format is None and kinds == {datetime.time}:
        return pa.array(cells, pa.time64("us"))
    return _texts(cells, date_format)


def _kind(cell: Any) -> type:
    """Returns the kind of a value. A value of numpy or pandas has the kind of the Python value that
    it holds."""
    for kind in (bool, int, float, str, datetime.datetime, datetime.time, datetime.timedelta):
        if isinstance(cell, kind):
            return kind
    return datetime.datetime if isinstance(cell, datetime.date) else object


def _integers(cells: list[Any]) -> pa.Array:
    """Converts whole numbers of any size."""
    for kind in (pa.int64(), pa.uint64(), pa.decimal128(38, 0)):
        try:
            return pa.array(cells, kind)
        except (pa.ArrowInvalid, OverflowError):
            pass
    return _texts(cells, None)


def _texts(cells: Iterable[Any], date_format: str | None) -> pa.Array:
    cells = list(cells)
    has_time = any(isinstance(cell, datetime.datetime) and cell.time() != datetime.time() for cell in cells)
    if date_format is None or (date_format == _DATE_FORMAT and has_time):
        date_format = ""
    return pa.array([None if cell is None else _text(cell, date_format) for cell in cells], pa.string())


def _text(cell: Any, date_format: str) -> str:
    """Converts a cell to text; a date is written in full if no format is given."""
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, datetime.date):
        if date_format:
            return cell.strftime(date_format)
        return cell.isoformat(sep=" ") if isinstance(cell, datetime.datetime) else cell.isoformat()
    return cell.isoformat() if isinstance(cell, datetime.time) else str(cell)
