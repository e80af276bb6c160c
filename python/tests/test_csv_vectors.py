"""Vectors in the cells of a CSV file: read, refused with their line, written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vexact
from reference import hits, search, vectors

VECTORS_3 = pa.list_(pa.float32(), 3)


def test_csv_cells_are_vectors_of_float32(session: vexact.Session, write) -> None:
    table = session.read_csv(write('id,vec\n1,[1 2 3]\n2,"[4,5,6]"\n3,"[7, 8.5, -9e-1]"\n')).to_arrow()
    assert table.schema.types == [pa.int64(), VECTORS_3]
    expected = np.array([[1, 2, 3], [4, 5, 6], [7, 8.5, -0.9]], np.float32)
    assert np.array_equal(np.array(table["vec"].to_pylist(), np.float32), expected)


def test_empty_csv_cells_are_null_vectors(session: vexact.Session, write) -> None:
    session.create_temp_view("t", session.read_csv(write("id,vec\n1,\n2,[3 4]\n3,\n4,[6 8]\n")))
    assert session.sql("SELECT id FROM t WHERE vec IS NULL ORDER BY id").to_rows()["rows"] == [[1], [3]]
    assert hits(session.vector_search("t", "vec", [3, 4], 5, "l2")) == [(1, 0.0), (3, 5.0)]


def test_a_csv_column_of_other_text_stays_text(session: vexact.Session, write) -> None:
    table = session.read_csv(write('id,a,b\n1,"x [1 2]",1.5\n2,(1 2),2.5\n')).to_arrow()
    assert table.schema.names == ["id", "a", "b"]
    assert table["a"].to_pylist() == ["x [1 2]", "(1 2)"]
    assert table["b"].to_pylist() == [1.5, 2.5]


BAD_CELLS = {
    "word": ("id,vec\n1,[1 2 3]\n2,[1 x 3]\n", "line 3", 'component 1: "x"'),
    "first row": ("id,vec\n1,[1 2 three]\n", "line 2", 'component 2: "three"'),
    "NaN": ("id,vec\n1,[1 nan 3]\n", "line 2", 'component 1: "nan"'),
    "overflow": ("id,vec\n1,[1e400 2 3]\n", "line 2", 'component 0: "1e400"'),
    "no components": ("id,vec\n1,[1 2]\n2,[]\n", "line 3", "no components"),
    "open bracket": ("id,vec\n1,[1 2]\n2,[1 2\n", "line 3", "without brackets"),
    "no vector, late": ("id,vec\n" + "1,[1 2 3]\n" * 150 + "2,hello\n", "line 152", '"hello"'),
    "first of many": ("id,vec\n1,[1 2\n" + "2,[1 2]\n" * 5, "line 2", "without brackets"),
    "word among the first": ("id,vec\n" + "1,[1 2 3]\n" * 50 + "2,[1 b 3]\n", "line 52", 'component 1: "b"'),
    "no vector among the first": ("id,vec\n1,[1 2 3]\n1,[1 2 3]\n2,hello\n", "line 4", '"hello"'),
    "number among the first": ("id,vec\n1,[1 2 3]\n1,[1 2 3]\n2,7\n", "line 4", '"7"'),
    "first is shorter": ("id,vec\n1,[1 2]\n" + "2,[1 2 3]\n" * 3, "line 2", "expected 3 components, got 2"),
    "after a space": ("id,vec\n1, [1 2 3]\n2, [1 x 3]\n", "line 3", 'component 1: "x"'),
    "CRLF": ("id,vec\r\n1,[1 2 3]\r\n2,[1 2]\r\n", "line 3", "expected 3 components, got 2"),
    "blank lines": ("\n\nid,vec\n\n1,[1 2 3]\n\n\n2,[1 2]\n", "line 8", "expected 3 components, got 2"),
    "CRLF and blank lines": ("id,vec\r\n\r\n1,[1 2 3]\r\n\r\n2,[1 2]\r\n", "line 5", "expected 3 components, got 2"),
    "CRLF and quoted newlines": (
        'id,text,vec\r\n1,"a\r\n\r\nb",[1 2 3]\r\n2,"c\nd",[4 5 6]\r\n\r\n3,f,[1 x 3]\r\n',
        "line 8",
        'component 1: "x"',
    ),
    "shorter": ("id,vec\n1,[1 2 3]\n2,[1 2]\n", "line 3", "expected 3 components, got 2"),
    "longer": ("id,vec\n1,[1 2 3]\n2,[1 2 3 4]\n", "line 3", "expected 3 components, got 4"),
    "shorter, late": ("id,vec\n" + "1,[1 2 3]\n" * 20_000 + "2,[1 2]\n", "line 20002", "expected 3 components, got 2"),
    "after NULL": ("id,vec\n1,\n2,[1 2]\n3,\n4,[1]\n", "line 5", "expected 2 components, got 1"),
    "after quoted newlines": (
        'id,text,vec\n1,"a\nb\nc",[1 2 3]\n2,"d\n\ne",[4 5 6]\n3,f,[1 x 3]\n',
        "line 8",
        'component 1: "x"',
    ),
    "after quoted newlines and quotes": (
        'id,text,vec\n1,"a ""b\nc"" d",[1 2 3]\n2,e,[1 2]\n',
        "line 4",
        "expected 3 components, got 2",
    ),
}


@pytest.mark.parametrize("what", BAD_CELLS)
def test_a_bad_vector_cell_is_an_error_with_its_line(session: vexact.Session, write, what: str) -> None:
    text, line, says = BAD_CELLS[what]
    path = write(text)
    for read in (session.read_csv, session.read):
        with pytest.raises(vexact.InvalidRequestError) as caught:
            read(path)
        for word in (str(path), f"{line},", 'column "vec"', says):
            assert word in str(caught.value)


def test_a_space_before_a_vector_is_none_of_it(session: vexact.Session, write) -> None:
    table = session.read_csv(write('id,vec\n1, [1 2 3]\n2,"  [4, 5, 6] "\n3,  \n')).to_arrow()
    assert table.schema.field("vec").type == VECTORS_3
    assert table["vec"].to_pylist() == [[1, 2, 3], [4, 5, 6], None]


@pytest.mark.parametrize(
    "cells",
    [
        ["[draft] one", "[draft] two"],
        ["[1] Smith et al.", "[2] Jones, 1999"],
        ["[]", "[]"],
        ['["a"]', "[]", '["b"]'],
        ["hello", "[1 2]", "more"],
        ["[[1 2]]", "[[3 4]]"],
    ],
    ids=str,
)
def test_text_with_brackets_stays_text(session: vexact.Session, write, cells: list[str]) -> None:
    quoted = [cell.replace('"', '""') for cell in cells]
    frame = session.read_csv(write("a,b\n" + "".join(f'1,"{cell}"\n' for cell in quoted)))
    assert frame.to_arrow()["b"].to_pylist() == cells


def test_a_large_file_of_vectors_keeps_the_order_of_its_rows(session: vexact.Session, write) -> None:
    count = 150_000
    rows = [f'{i},"{"word " * 12}{i}\n",[{i} {-i} 0.5]' for i in range(count)]
    path = write("id,text,vec\n" + "\n".join(rows) + "\n")
    assert path.stat().st_size > 10 << 20
    table = session.read_csv(path).to_arrow()
    assert table["id"].to_pylist() == list(range(count))
    expected = np.stack([np.arange(count), -np.arange(count), np.full(count, 0.5)], axis=1)
    assert np.array_equal(table["vec"].combine_chunks().flatten().to_numpy().reshape(-1, 3), expected)


LISTS: dict[str, tuple[pa.Array, pa.DataType]] = {
    "float32": (pa.array([[0.1, -2e30], None, [1e-40, 3]], pa.list_(pa.float32(), 2)), pa.list_(pa.float32(), 2)),
    "float16": (pa.array([[np.float16(0.1), np.float16(2)]], pa.list_(pa.float16(), 2)), pa.list_(pa.float32(), 2)),
    "float64": (pa.array([[0.5, 2.0], None, [1.0, 3.0]], pa.list_(pa.float64(), 2)), pa.list_(pa.float32(), 2)),
    "list": (pa.array([None, [0.5, 2.0], [1.0, 3.0]], pa.list_(pa.float32())), pa.list_(pa.float32(), 2)),
    "large list": (pa.array([[0.5], None, [1.0]], pa.large_list(pa.float64())), pa.list_(pa.float32(), 1)),
    "int8": (pa.array([[1, -2], [3, 4]], pa.list_(pa.int8())), pa.list_(pa.float32(), 2)),
    "uint64": (pa.array([[2**63, 2]], pa.list_(pa.uint64(), 2)), pa.list_(pa.float32(), 2)),
    "not finite": (
        pa.array([[float("nan"), float("inf")], [float("-inf"), 1]], pa.list_(pa.float32(), 2)),
        pa.list_(pa.float32(), 2),
    ),
    "only NULL and one": (pa.array([None, None, [0.5, 2.0]], pa.list_(pa.float32(), 2)), pa.list_(pa.float32(), 2)),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("alone", [True, False])
def test_lists_of_numbers_are_written_and_read_back_as_vectors(
    session: vexact.Session, tmp_path: Path, name: str, alone: bool
) -> None:
    column, data_type = LISTS[name]
    table = pa.table({"vec": column} if alone else {"id": range(len(column)), "vec": column})
    session.create_dataframe_from_arrow(table).write_csv(tmp_path / "a.csv")
    back = session.read_csv(tmp_path / "a.csv").to_arrow()["vec"]
    assert back.type == data_type
    assert repr(back.to_pylist()) == repr(column.cast(data_type, safe=False).to_pylist())


def test_lists_stay_lists_until_written(session: vexact.Session, tmp_path: Path) -> None:
    session.sql("SELECT [1, 2] AS a, [0.5, 1e300] AS b, 'x' AS c").write_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().startswith('a,b,c\n"[1,2]","[0.5,1000')


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[1.0, 2.0], None, [3.0]], "row 2: expected a list of 2 numbers, got one of 1"),
        ([[], [1.0]], "row 0: expected a list of 1 numbers, got one of 0"),
        ([[1.0, 2.0], [3.0, None]], "row 1: expected a number, got NULL as component 1"),
    ],
    ids=["ragged", "empty", "NULL component"],
)
def test_lists_that_would_not_be_read_back_are_refused(
    session: vexact.Session, tmp_path: Path, rows: list, says: str
) -> None:
    batches = [pa.record_batch({"vec": pa.array([row], pa.list_(pa.float32()))}) for row in rows]
    frame = session.create_dataframe_from_arrow(batches)
    with pytest.raises(vexact.InvalidRequestError, match=f'write_csv: column "vec", {says}.*write_parquet keeps it'):
        frame.write_csv(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
    frame.write_parquet(tmp_path / "a.parquet")
    assert session.read(tmp_path / "a.parquet").to_arrow()["vec"].to_pylist() == rows


def test_other_nested_columns_have_no_csv_form(session: vexact.Session, tmp_path: Path) -> None:
    with pytest.raises(vexact.InvalidRequestError, match='column "a": expected a type that a CSV file can hold'):
        session.sql("SELECT [[1, 2]] AS a").write_csv(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_read_back_and_not_searched(session: vexact.Session, write) -> None:
    session.create_temp_view("t", session.read_csv(write("vec\n[1 2]\n[NaN 2]\n[1 inf]\n[-inf 0]\n[3 4]\n")))
    rows = np.array([[1, 2], [np.nan, 2], [1, np.inf], [-np.inf, 0], [3, 4]], np.float32)
    assert np.array_equal(np.stack(session.sql("SELECT vec FROM t").to_pandas()["vec"]), rows, equal_nan=True)
    assert hits(session.vector_search("t", "vec", [3, 4], 9, "l2")) == search("l2", rows, np.array([3.0, 4.0]), 9)
