"""Options of `read_csv`, in SQL too, and what a command reads: stdin, folders, compressed files, sheets."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pandas
import pyarrow as pa
import pytest

import vexact

OPTIONS: list[tuple[str, dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = [
    # The text, the options, pandas' for the same, and the rows.
    ("1,x\n2,y\n", {"header": False}, {"header": None, "names": ["column_1", "column_2"]},
     [{"column_1": 1, "column_2": "x"}, {"column_1": 2, "column_2": "y"}]),
    ("1,x\n", {"header": False, "names": ["a", "b"]}, {"header": None, "names": ["a", "b"]}, [{"a": 1, "b": "x"}]),
    ("a,b\n1,x\n", {"names": ["p", "q"]}, {"header": 0, "names": ["p", "q"]}, [{"p": 1, "q": "x"}]),
    ("a,b\n1,2\n", {"dtypes": {"a": "DOUBLE", "b": str}}, {"dtype": {"a": float, "b": str}}, [{"a": 1.0, "b": "2"}]),
    ("a\n1\n", {"dtypes": pa.schema({"a": pa.int16()})}, {}, [{"a": 1}]),
    ("a,b\nNA,x\n-,NA\n", {"null_values": ["NA", "-"]}, {"na_values": ["NA", "-"]}, [{"a": None, "b": "x"}, {"a": None, "b": None}]),
    ("a,b\n'x,1',2\n", {"quote": "'"}, {"quotechar": "'"}, [{"a": "x,1", "b": 2}]),
    ('a,b\n"x,2\n', {"quote": None}, {"quoting": 3}, [{"a": '"x', "b": 2}]),
    ('a,b\n"x\\"y",2\n', {"escape": "\\"}, {"escapechar": "\\"}, [{"a": 'x"y', "b": 2}]),
    ("# note\na,b\n#c\n1,2\n", {"comment": "#"}, {"comment": "#"}, [{"a": 1, "b": 2}]),
    ("junk\nmore,junk,x\na,b\n1,2\n", {"skip_rows": 2}, {"skiprows": 2}, [{"a": 1, "b": 2}]),
    ("a;b\n1,5;2\n", {"delimiter": ";", "decimal": ","}, {"sep": ";", "decimal": ","}, [{"a": 1.5, "b": 2}]),
]


@pytest.mark.parametrize(("text", "options", "same", "expected"), OPTIONS)
def test_options_mean_what_they_mean_in_pandas(
    session: vexact.Session, write, text: str, options: dict[str, Any], same: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    path = write(text)
    assert session.read_csv(path, **options).to_arrow().to_pylist() == expected
    rows = pandas.read_csv(path, **same).astype(object)
    assert rows.where(rows.notna(), None).to_dict("records") == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quote": ","}, "quote: expected another character than the delimiter"),
        ({"comment": "é"}, "comment: expected one ASCII character, got 'é'"),
        ({"escape": "ab"}, "escape: expected one character"),
        ({"encoding": "klingon"}, "encoding: expected utf-8, utf-16"),
        ({"decimal": "x"}, "decimal: expected '.' or ',', got 'x'"),
        ({"names": ["a"]}, "names: expected one for each of the 2 columns, got 1"),
        ({"names": ["a", "a"]}, 'column "a": expected one column of each name, got two'),
        ({"dtypes": {"z": int}}, 'dtypes: expected names of the columns [a, b], got "z"'),
        ({"dtypes": {"a": "BLUB"}}, 'dtypes: column "a": unknown type BLUB'),
        ({"dtypes": {"a": pa.list_(pa.int64())}}, 'dtypes: column "a": expected VECTOR(n), a number, text or a time'),
        ({"dtypes": {"b": "INT"}}, 'line 2, column "b": expected Int32, got "x"'),
        ({"skip_rows": -1}, "skip_rows: expected a whole number of at least 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(session: vexact.Session, write, options: dict[str, Any], says: str) -> None:
    with pytest.raises(vexact.InvalidRequestError, match=re.escape(says)):
        session.read_csv(write("a,b\n1,x\n"), **options).to_arrow()


def test_options_in_sql_are_read_and_take_no_rows(session: vexact.Session, write) -> None:
    path = write("x;y\n1,5;NA\n")
    session.sql(f"CREATE TABLE t USING csv OPTIONS (path '{path}', delimiter ';', decimal ',', null_values 'NA')")
    assert session.sql("SELECT * FROM t").to_rows()["rows"] == [[1.5, None]]
    with pytest.raises(vexact.InvalidRequestError, match="INSERT is refused: its options say how CSV is read"):
        session.sql("INSERT INTO t VALUES (1, 'x')")


def test_a_command_reads_stdin_folders_compressed_files_and_sheets(tmp_path: Path) -> None:
    def rows(*arguments: str, stdin: bytes = b"") -> list[dict[str, Any]]:
        query = ["--query", "SELECT * FROM input_table"]
        command = [sys.executable, "-m", "vexact", *arguments, *query]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, input=stdin)
        answer = json.loads(done.stdout)
        assert answer["ok"], answer
        return answer["rows"]

    assert rows("csv-sql", "--csv", "-", stdin=b"a,b\n1,2\n") == [{"a": 1, "b": 2}]
    assert rows("file-sql", "--input-path", "-", stdin=gzip.compress(b'{"a":1}\n')) == [{"a": 1}]
    (tmp_path / "folder").mkdir()
    for number in (1, 2):
        (tmp_path / f"folder/{number}.csv").write_text(f"a\n{number}\n")
    for path in ("folder", "folder/*.csv"):
        assert rows("file-sql", "--input-path", path) == [{"a": 1}, {"a": 2}]
    book = openpyxl.Workbook()
    book.active.append(["a", "t"])
    book.active.append([1, "007"])
    book.save(tmp_path / "a.xlsx")
    assert rows("file-sql", "--input-path", "a.xlsx") == [{"a": 1, "t": "007"}]


def test_a_name_in_upper_case_is_hinted_at(session: vexact.Session) -> None:
    session.create_temp_view("Docs", session.create_dataframe_from_arrow({"n": [1]}))
    with pytest.raises(vexact.InvalidRequestError, match='table \'docs\' not found. Did you mean "Docs"'):
        session.sql("SELECT n FROM Docs")
    assert session.sql('SELECT n FROM "Docs"').count() == 1
    assert session.sql("WITH docs AS (SELECT 2 AS n) SELECT n FROM docs").to_rows()["rows"] == [[2]]
