"""Files by their content: probe, read with options, lines, Arrow IPC, Excel; and errors with file, line and column."""

from __future__ import annotations

import builtins
import datetime
import re
import shutil
import sys
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact


def write_ipc(path: Path, table: pa.Table, stream: bool = False) -> Path:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return path


TABLE = pa.table({"id": range(20), "name": [f"n{i}" for i in range(20)], "x": [i / 2 for i in range(20)]})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same rows in every form that keeps their types."""
    names = ("a.parquet", "a.arrow", "a.arrows", "a.csv", "a.tsv", "a.jsonl", "a.json", "a.xlsx")
    paths = {name: tmp_path / name for name in names}
    frame = TABLE.to_pandas()
    pq.write_table(TABLE, paths["a.parquet"])
    write_ipc(paths["a.arrow"], TABLE)
    write_ipc(paths["a.arrows"], TABLE, stream=True)
    frame.to_csv(paths["a.csv"], index=False)
    frame.to_csv(paths["a.tsv"], index=False, sep="\t")
    frame.to_json(paths["a.jsonl"], orient="records", lines=True)
    frame.to_json(paths["a.json"], orient="records")
    frame.to_excel(paths["a.xlsx"], index=False)
    return paths


FORMS = {
    "a.parquet": ("parquet", "parquet"),
    "a.arrow": ("arrow", "arrow_file"),
    "a.arrows": ("arrow", "arrow_stream"),
    "a.csv": ("csv", "csv"),
    "a.tsv": ("csv", "tsv"),
    "a.jsonl": ("json", "json_lines"),
    "a.json": ("json", "json_array"),
    "a.xlsx": ("excel", "xlsx"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_recognised_with_and_without_its_suffix(
    session: vexact.Session, files: dict[str, Path], name: str
) -> None:
    for path in (files[name], shutil.copy(files[name], files[name].with_name("bare"))):
        found = session.probe(path)
        assert (found["kind"], found["final_format"]) == FORMS[name]
        assert found["confidence"] == "high" and found["score"] >= 85
        assert found["candidates"][0]["score"] == found["score"]
        assert found["warnings"] == []
        if name != "a.xlsx":
            assert {column["name"] for column in found["schema"]} == {"id", "name", "x"}
        rows = session.read(path).to_arrow().select(["id", "name", "x"])
        assert rows.to_pylist() == TABLE.to_pylist()
    assert (found["suggested_table_name"], found["path"]) == ("bare", str(path))


def test_probing_odd_content_warns(session: vexact.Session, write) -> None:
    found = session.probe(write("\x00\x01", "x.bin"))
    assert (found["kind"], found["final_format"], found["score"], found["confidence"]) == ("unknown", "unknown", 0, "none")
    assert found["schema"] is None and found["candidates"] == [] and "not text" in found["warnings"][0]
    assert session.probe(write("", "empty.csv"))["warnings"][0] == "the file is empty"
    assert "line 2" in session.probe(write('{"a": 1}\n{"a": \n', "a.jsonl"))["warnings"][0]
    found = session.probe(write("PAR1 but no more", "a.parquet"))
    assert found["kind"] == "parquet" and len(found["warnings"]) == 1
    with pytest.raises(FileNotFoundError):
        session.probe("nowhere")
    with pytest.raises(vexact.InvalidRequestError, match="x.bin: expected Parquet, .* got another file"):
        session.read(write("\x00\x01", "x.bin"))


def test_read_takes_the_options_of_the_form(session: vexact.Session, write, files: dict[str, Path]) -> None:
    assert session.read(write("a|b\n1|2\n", "p.csv"), delimiter="|").to_rows()["rows"] == [[1, 2]]
    assert session.read(write("a;b\n1;2\n", "p.csv")).to_rows()["rows"] == [[1, 2]]
    assert session.read(files["a.json"], columns=["x"]).to_rows()["rows"][1] == [0.5]
    assert session.read(write("x y\n", "p.log")).to_rows() == {"schema": ["line"], "rows": [["x y"]]}
    assert session.read(write("x y\n", "p.log"), mappings={"b": 1}, split_delimiter=" ").to_rows()["rows"] == [["y"]]
    assert session.read(files["a.xlsx"], sheet_name=0, nrows=2).count() == 2
    with pytest.raises(TypeError, match="a.parquet is parquet, which takes no options, got delimiter"):
        session.read(files["a.parquet"], delimiter=",")
    with pytest.raises(TypeError, match="which takes those of read_csv, got columns"):
        session.read(files["a.csv"], columns=["x"])


def test_lines_are_split_or_matched(session: vexact.Session, write) -> None:
    path = write("2024-01-02|INFO|12| x\n\n2024-01-03|WARN||y\n", "a.log")
    frame = session.read_line_file(path, [("level", 1), ("ms", 2), ("day", 0, "DATE")], split_delimiter="|")
    assert frame.schema.types == [pa.string(), pa.int64(), pa.date32()]
    days = [datetime.date(2024, 1, 2), datetime.date(2024, 1, 3)]
    assert frame.to_rows()["rows"] == [["INFO", 12, days[0]], ["WARN", None, days[1]]]
    typed = session.read_line_file(path, {"ms": (2, float), "rest": 3}, split_delimiter="|").to_rows()
    assert typed == {"schema": ["ms", "rest"], "rows": [[12.0, " x"], [None, "y"]]}
    named = session.read_line_file(path, mode="regex", regex_pattern=r"(?P<month>\d\d)-(?P<day>\d\d)\|(?P<level>\w+)")
    assert named.to_rows() == {"schema": ["month", "day", "level"], "rows": [["01", "02", "INFO"], ["01", "03", "WARN"]]}
    groups = session.read_line_file(path, [("all", 0), ("year", 1, int)], "regex", regex_pattern=r"^(\d+)-")
    assert groups.to_rows()["rows"] == [["2024-", 2024], ["2024-", 2024]]
    with pytest.raises(vexact.InvalidRequestError, match=r'a.log: line 2: expected at least 2 fields, got 1: ""'):
        session.read_line_file(path, [("level", 1)], split_delimiter="|", skip_empty_lines=False)


def test_a_bad_line_is_an_error_with_its_file_number_and_text(session: vexact.Session, write) -> None:
    path = write("1,2\n" * 3000 + "x\n", "a.log")
    for mappings, options, expected in [
        ([("b", 1)], {}, 'a.log: line 3001: expected at least 2 fields, got 1: "x"'),
        ([("a", 0, int)], {}, 'a.log: line 3001: column "a": expected Int64, got "x"'),
        ([("a", 0)], {}, 'a.log: line 3001: column "a": expected Int64, got "x"'),
        ([("a", 1)], {"mode": "regex", "regex_pattern": r"^(\d)"}, 'a.log: line 3001: the pattern does not match: "x"'),
    ]:
        frame = session.read_line_file(path, mappings, **options)
        with pytest.raises(vexact.InvalidRequestError, match=re.escape(expected)):
            frame.to_arrow()
    for mappings, options, expected in [
        ([], {}, "mappings: expected at least one column"),
        ([("a", "b")], {}, 'column "a": expected the number of a field, as the mode is split, got "b"'),
        ([("a", 0, "BLUB")], {}, "column \"a\": unknown type BLUB: expected STRING"),
        ([("a", 0, list)], {}, "expected int, float, str, bool or a type of SQL's, got list"),
        ([("a", -1)], {}, "expected a field's number or a group's name, got -1"),
        ([("a", 0)], {"mode": "cut"}, 'mode: expected split or regex, got "cut"'),
        ([("a", 0)], {"mode": "regex"}, "regex_pattern: expected a regular expression"),
        ([("a", 2)], {"mode": "regex", "regex_pattern": "(x)"}, "expected a group of the pattern, 0 to 1, got 2"),
        ([("a", 0), ("a", 1)], {}, 'column "a": expected one of each name, got two'),
    ]:
        with pytest.raises(ValueError, match=re.escape(expected)):
            session.read_line_file(path, mappings, **options)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "n,s\n" + "1,a\n" * 5000 + "x,b\n", 'line 5002, column "n": expected Int64, got "x"'),
        ("a.csv", "n,s\n1,\"a\nb\"\n" + "1,a\n" * 5000 + "1\n", "line 5004, expected 2 cells, as in the header line, got 1"),
        ("a.jsonl", '{"n": 1}\n' * 5000 + '{"n": "x"}\n', 'line 5001, column "n": expected Int64, got "x"'),
        ("a.jsonl", '{"n": 1}\n\n{"n": 1,}\n', "line 3, column 9: trailing comma"),
        ("a.jsonl", '{"n": 1}\n7\n', "line 2, column 1: expected an object, got \"7\""),
        ("a.json", '[{"n": 1},\n {"n": tru}]', "line 2, column 11: expected ident"),
        ("a.json", "[" + '{"n": 1},\n' * 5000 + '{"n": [2]}]', 'line 5001, column "n": expected Int64, got [2]'),
        ("a.json", '[{"n": 1}\n {"n": 2}]', "line 2, column 2: expected ',' or ']', got '{'"),
    ],
)
def test_errors_name_file_line_and_column(session: vexact.Session, write, name: str, text: str, expected: str) -> None:
    path = write(text, name)
    with pytest.raises(vexact.InvalidRequestError, match=re.escape(f"{path}: {expected}")):
        session.read(path).to_arrow()


def test_text_in_another_encoding_is_an_error_with_its_place(session: vexact.Session, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"n,s\n1,a\n2,\xfc\n")
    with pytest.raises(vexact.InvalidRequestError, match='a.csv: line 3, column "s": expected UTF-8'):
        session.read_csv(path).to_arrow()


def test_arrow_files_are_read_with_their_types(session: vexact.Session, tmp_path: Path) -> None:
    table = TABLE.append_column("v", pa.array([[1.0, 2.0]] * 20, pa.list_(pa.float32(), 2)))
    for stream in (False, True):
        frame = session.read_arrow_file(write_ipc(tmp_path / "t", table, stream))
        assert frame.schema == table.schema and frame.to_arrow().equals(table)
        session.create_temp_view("t", frame)
        assert session.sql("SELECT name, id FROM t WHERE id = 15").to_rows()["rows"] == [["n15", 15]]
        assert session.sql("SELECT count(*) FROM t").to_rows()["rows"] == [[20]]
        assert session.vector_search("t", "v", [1, 2], 1, "l2").to_rows()["rows"] == [[0, 0.0]]
    (tmp_path / "bad").write_bytes(b"hello")
    with pytest.raises(vexact.InvalidRequestError, match="bad: expected an Arrow IPC file"):
        session.read_arrow_file(tmp_path / "bad")


def test_names_that_end_in_hash_and_digits_are_files(session: vexact.Session, tmp_path: Path) -> None:
    for name in ("a#1", "b#", "c.parquet#12"):
        session.create_dataframe_from_arrow(TABLE).write_parquet(tmp_path / name)
        assert pq.read_table(tmp_path / name).equals(TABLE)
        assert session.read_parquet(tmp_path / name).to_arrow().equals(TABLE)
        session.sql("SELECT 1 AS n").write_csv(tmp_path / name)
        assert session.read_csv(tmp_path / name).count() == session.read(tmp_path / name).count() == 1


def test_a_sheet_keeps_its_values(session: vexact.Session, tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    day = datetime.datetime(2024, 2, 3, 4, 5)
    sheet = pandas.DataFrame(
        {"n": [1, None, 3], "x": [0.5, None, 2], "s": ["a", None, "ü"], "at": [day, None, day], "mixed": [1, "a", day]}
    )
    with pandas.ExcelWriter(path) as writer:
        sheet.to_excel(writer, sheet_name="one", index=False)
        pandas.DataFrame({"other": [7]}).to_excel(writer, sheet_name="two", index=False)
    frame = vexact.read_excel(session, path)
    assert frame.to_arrow().to_pylist() == [
        {"n": 1, "x": 0.5, "s": "a", "at": "2024-02-03 04:05:00", "mixed": "1"},
        {"n": None, "x": None, "s": None, "at": None, "mixed": "a"},
        {"n": 3, "x": 2.0, "s": "ü", "at": "2024-02-03 04:05:00", "mixed": "2024-02-03 04:05:00"},
    ]
    assert frame.schema.types[:3] == [pa.int64(), pa.float64(), pa.string()]
    assert vexact.read_excel(session, path, date_format="%d.%m.%y").to_rows()["rows"][0][3] == "03.02.24"
    dated = vexact.read_excel(session, path, coerce_datetime_to_string=False, usecols=["at"])
    assert dated.to_rows()["rows"] == [[day], [None], [day]]
    assert vexact.read_excel(session, str(path), sheet_name="two").to_rows()["rows"] == [[7]]
    assert session.read(path, sheet_name=1).to_rows()["rows"] == [[7]]


def test_a_bad_sheet_is_an_error(session: vexact.Session, write, files: dict[str, Path]) -> None:
    with pytest.raises(vexact.InvalidRequestError, match="bad.xlsx: "):
        vexact.read_excel(session, write("hello", "bad.xlsx"))
    with pytest.raises(vexact.InvalidRequestError, match="nope"):
        vexact.read_excel(session, files["a.xlsx"], sheet_name="nope")
    with pytest.raises(FileNotFoundError, match="nowhere.xlsx"):
        vexact.read_excel(session, "nowhere.xlsx")
    with pytest.raises(TypeError, match="sheet_name: expected a name or a number, got NoneType"):
        vexact.read_excel(session, files["a.xlsx"], sheet_name=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["pandas", "openpyxl"])
def test_a_missing_package_is_named(
    session: vexact.Session, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    options = {"nrows": 1} if package == "pandas" else {}
    with pytest.raises(vexact.MissingDependencyError, match=rf"read_excel needs {package}: pip install 'vexact\[excel\]'") as caught:
        vexact.read_excel(session, files["a.xlsx"], **options)
    assert isinstance(caught.value, builtins.ImportError)
