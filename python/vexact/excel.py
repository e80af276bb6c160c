"""Excel sheets as frames, through pandas."""

from __future__ import annotations

import datetime
import importlib
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _arguments as check
from .custom_stream import check_session
from .errors import InvalidRequestError, MissingDependencyError, SourceNotFoundError
from .frame import DataFrame

if TYPE_CHECKING:
    from .session import Session


def read_excel(
    session: Session,
    path: str | os.PathLike[str],
    *,
    sheet_name: str | int = 0,
    date_format: str = "%Y-%m-%d",
    coerce_datetime_to_string: bool = True,
    **pandas_kwargs: Any,
) -> DataFrame:
    """A sheet of an Excel workbook (xlsx) as a frame, read at once with `pandas.read_excel`, which takes `pandas_kwargs`.

    `sheet_name`: its name, or its number counting from 0. `coerce_datetime_to_string`: dates and times become text in
    `date_format`; else dates are timestamps. Empty cells are NULL; whole numbers stay so beside them. A column of values of
    several kinds becomes text.

    Raises `MissingDependencyError` (an `ImportError`) where pandas or openpyxl is not installed
    (`pip install vexact[excel]`), `SourceNotFoundError` for a file that is not there, `InvalidRequestError` for one that is no
    workbook, a sheet that it does not have, and two columns of one name.
    """
    check_session(session)
    check.text("date_format", date_format)
    check.flag("coerce_datetime_to_string", coerce_datetime_to_string)
    pandas = _needed("pandas")
    if pandas_kwargs.get("engine") is None:
        _needed("openpyxl")
        pandas_kwargs["engine"] = "openpyxl"
    if not isinstance(sheet_name, (str, int)) or isinstance(sheet_name, bool):
        raise check.wrong("sheet_name", "a name or a number", sheet_name)
    name = check.path("path", path)
    try:
        sheet = pandas.read_excel(path, sheet_name=sheet_name, **pandas_kwargs)
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"file not found: {name}") from error
    except (TypeError, ImportError):
        raise
    except Exception as error:
        raise InvalidRequestError(f"{name}: {error}") from error
    columns: dict[str, pa.Array] = {}
    for label, (_, values) in zip(map(str, sheet.columns), sheet.items()):
        if label in columns:
            raise InvalidRequestError(f"{name}: column {label!r}: expected one of each name, got two")
        columns[label] = _column(pandas, values, date_format if coerce_datetime_to_string else None)
    if not columns:
        raise InvalidRequestError(f"{name}: expected a sheet with columns, got an empty one")
    return session.create_dataframe_from_arrow(pa.table(columns))


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(f"read_excel needs {package}: pip install 'vexact[excel]'") from error


def _column(pandas: Any, values: Any, date_format: str | None) -> pa.Array:
    """A column's cells as one Arrow array."""
    cells = [None if pandas.isna(cell) else cell for cell in values.tolist()]
    if date_format is not None:
        cells = [cell.strftime(date_format) if isinstance(cell, (datetime.date, datetime.time)) else cell for cell in cells]
    if cells and any(isinstance(cell, float) for cell in cells):
        # Beside empty cells, whole numbers come as floats.
        numbers = [cell for cell in cells if cell is not None]
        if all(isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53 for cell in numbers) and None in cells:
            cells = [None if cell is None else int(cell) for cell in cells]
    try:
        array = pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
