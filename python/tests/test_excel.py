"""Excel sheets: each cell as it is."""

from __future__ import annotations

import datetime
import decimal
import itertools
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest

import vexact

DAY, TIME = datetime.datetime(2024, 1, 3), datetime.datetime(2024, 1, 2, 15, 30)


def sheet(path: Path, *rows: list[Any]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    # The writer rounds integers of more than 16 digits.
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    content = parts["xl/worksheets/sheet1.xml"].decode()
    for cell in itertools.chain(*rows):
        if type(cell) is int and abs(cell) > 2**53:
            content = content.replace(f"<v>{cell:.16g}</v>", f"<v>{cell}</v>")
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, content if name == "xl/worksheets/sheet1.xml" else part)
    return path


COLUMNS: list[tuple[list[Any], pa.DataType, list[Any]]] = [
    (["007", "NA", "TRUE", ""], pa.string(), ["007", "NA", "TRUE", None]),
    ([1, None, -3], pa.int64(), [1, None, -3]),
    ([2**63, 1], pa.uint64(), [2**63, 1]),
    ([12345678901234567890, -1], pa.decimal128(38, 0), [decimal.Decimal(12345678901234567890), decimal.Decimal(-1)]),
    ([1, 2.5], pa.float64(), [1.0, 2.5]),
    ([2**53 + 1, 2.5], pa.string(), [str(2**53 + 1), "2.5"]),
    ([True, None], pa.bool_(), [True, None]),
    ([True, 1], pa.string(), ["TRUE", "1"]),
    ([datetime.time(12, 30), datetime.time(1, 2, 3)], pa.string(), ["12:30:00", "01:02:03"]),
    ([DAY, None], pa.string(), ["2024-01-03", None]),
    ([TIME, DAY], pa.string(), ["2024-01-02 15:30:00", "2024-01-03 00:00:00"]),
    ([datetime.timedelta(hours=30)], pa.duration("us"), [datetime.timedelta(hours=30)]),
    (["x", 1, DAY], pa.string(), ["x", "1", "2024-01-03"]),
    (["#N/A", 1], pa.string(), ["#N/A", "1"]),
    ([None, None], pa.string(), [None, None]),
]


@pytest.mark.parametrize(("cells", "data_type", "expected"), COLUMNS)
@pytest.mark.parametrize("options", [{}, {"nrows": 9}], ids=["plain", "pandas"])
def test_a_sheet_is_its_cells(
    session: vexact.Session, tmp_path: Path, cells: list[Any], data_type: pa.DataType, expected: list[Any], options: dict[str, Any]
) -> None:
    if options and ("#N/A" in cells):
        pytest.skip("pandas takes errors for nothing")
    path = sheet(tmp_path / "a.xlsx", ["c", "n"], *([cell, 0] for cell in cells))
    column = session.read(path, **options).to_arrow()["c"]
    assert (column.type, column.to_pylist()) == (data_type, expected)


def test_dates_and_times_may_be_values(session: vexact.Session, tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", ["d", "t"], [TIME, datetime.time(12, 30)], [DAY, None])
    table = session.read(path, coerce_datetime_to_string=False).to_arrow()
    assert table.schema.types == [pa.timestamp("us"), pa.time64("us")]
    assert table.to_pylist() == [{"d": TIME, "t": datetime.time(12, 30)}, {"d": DAY, "t": None}]
    assert session.read(path, date_format="%d.%m.%y").to_rows()["rows"][0][0] == "02.01.24"


def test_names_of_columns_are_unique_and_empty_edges_are_none(session: vexact.Session, tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", ["a", None, 2024, None], [1, 2, 3, None], [None, None, None, None])
    assert session.read(path).to_rows() == {"schema": ["a", "Unnamed: 1", "2024"], "rows": [[1, 2, 3]]}
    twice = sheet(tmp_path / "b.xlsx", ["a", "a"], [1, 2])
    with pytest.raises(vexact.InvalidRequestError, match="b.xlsx: column 'a': expected one of each name, got two"):
        session.read(twice)
