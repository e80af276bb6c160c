"""Files become frames: CSV, JSON, Parquet, each by its content and name; and frames become files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import METRICS, hits, hits_of, search, vectors


VECTORS_3 = pa.list_(pa.float32(), 3)


def test_the_delimiter_is_one_ascii_character(session: vexact.Session, write) -> None:
    table = session.read_csv(write("id;vec\n1;[1,2,3]\n"), delimiter=";").to_arrow()
    assert table.schema.types == [pa.int64(), VECTORS_3]
    assert session.read_csv(write("id|n\n1|a,b\n"), "|").to_rows()["rows"] == [[1, "a,b"]]
    for delimiter in ("", ";;", "→", "é", "§", '"', "\n", "\r"):
        with pytest.raises(ValueError, match="delimiter: expected .*character.*, got"):
            session.read_csv(write("a\n1\n"), delimiter=delimiter)


def test_broken_csv_is_an_error_with_its_file_and_line(session: vexact.Session, write) -> None:
    path = write("id,n\n1,2\n3\n")
    with pytest.raises(vexact.InvalidRequestError, match="line 3") as caught:
        session.read_csv(path).to_arrow()
    assert str(path) in str(caught.value)


def test_cells_may_hold_line_ends_wherever_they_are(session: vexact.Session, write) -> None:
    for count in (300, 150_000):
        cells = [f"{'word ' * 12}{i}\n\n,{i}" for i in range(count)]
        path = write("id,text\n" + "".join(f'{i},"{cell}"\n' for i, cell in enumerate(cells)))
        frame = session.read_csv(path)
        assert frame.to_arrow()["text"].to_pylist() == cells
        session.create_temp_view("t", frame)
        sums = session.sql("SELECT count(*), sum(id), count(DISTINCT text) FROM t").to_rows()["rows"]
        assert sums == [[count, count * (count - 1) // 2, count]]
    assert path.stat().st_size > 10 << 20


def test_a_column_without_values_at_first_is_text(session: vexact.Session, write) -> None:
    frame = session.read_csv(write("id,a,b\n" + "1,,\n" * 2000 + "2,x,\n"))
    assert frame.schema.types == [pa.int64(), pa.string(), pa.string()]
    assert frame.to_arrow()["a"].to_pylist() == [None] * 2000 + ["x"]


NAMES = ["no extension", "a b%20#?.csv", "UPPER.CSV", "x.txt", "ünï.csv", "a*.csv", "?.csv", "[b].csv", "[!z", "{c,d}\\e"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_names_that_file_alone(session: vexact.Session, write, name: str) -> None:
    for other in ("a.csv", "ab.csv", "b.csv", "c.csv", "z"):
        write("id\n7\n8\n", other)
    path = write("id\n1\n", name)
    assert session.read_csv(path).to_rows() == {"schema": ["id"], "rows": [[1]]}
    assert session.read_csv(str(path)).count() == 1
    lines = write('{"id": 1}\n', name)
    assert session.read_json(lines).to_rows()["rows"] == [[1]]
    session.read_json(lines).write_parquet(path)
    assert session.read_parquet(path).to_rows()["rows"] == [[1]]
    session.sql("SELECT 2 AS id").write_csv(path)
    assert path.read_text() == "id\n2\n"
    assert session.read_csv(path.parent / "b.csv").to_rows()["rows"] == [[7], [8]]


def test_a_pattern_of_no_file_is_not_found(session: vexact.Session, write) -> None:
    path = write("id\n1\n", "a.csv").parent / "b*.csv"
    for read in (session.read, session.read_csv, session.read_json, session.read_parquet):
        with pytest.raises(FileNotFoundError):
            read(path)


def test_json_lines_and_arrays_are_read(session: vexact.Session, write) -> None:
    lines = write('{"id": 1, "s": "x", "vec": [1, 2.5]}\n{"id": 2, "s": null, "vec": [3, 4]}\n', "a.jsonl")
    array = write('[{"id": 1, "s": "x", "vec": [1, 2.5]},\n {"id": 2, "s": null, "vec": [3, 4]}]', "a.json")
    expected = {"schema": ["id", "s", "vec"], "rows": [[1, "x", [1.0, 2.5]], [2, None, [3.0, 4.0]]]}
    for frame in (session.read_json(lines), session.read_json(array, format="json_array"), session.read(lines)):
        assert frame.to_rows() == expected
        assert frame.schema.field("vec").type == pa.list_(pa.float64(), 2)
    assert session.read(array).to_rows() == expected
    session.create_temp_view("t", session.read_json(lines))
    assert hits(session.vector_search("t", "vec", [3, 4], 2, "l2"))[0] == (1, 0.0)


def test_json_columns_select(session: vexact.Session, write) -> None:
    path = write('{"id": 1, "s": "x", "vec": [1.0, 2.5]}\n', "a.jsonl")
    assert session.read_json(path, columns=["vec", "id"]).to_rows() == {"schema": ["vec", "id"], "rows": [[[1.0, 2.5], 1]]}
    with pytest.raises(vexact.InvalidRequestError, match=r'column "nope" not found: expected one of \[id, s, vec\]'):
        session.read_json(path, columns=["nope"])


def test_json_of_another_form_is_an_error(session: vexact.Session, write) -> None:
    with pytest.raises(vexact.InvalidRequestError, match='expected one of json_lines, json_array, got "xml"'):
        session.read_json(write("[]", "a.json"), format="xml")
    for text in ("hello", '[{"id": 1}]', '{"id": 1}\n{"id":'):
        path = write(text, "bad.json")
        with pytest.raises(vexact.InvalidRequestError) as caught:
            session.read_json(path).to_arrow()
        assert str(path) in str(caught.value)


def test_json_of_the_other_format_is_an_error_and_not_an_empty_frame(session: vexact.Session, write) -> None:
    for format, text, expected, got in (
        ("json_array", '{"id": 1}\n{"id": 2}\n', r"a JSON array of objects \(json_array\), beginning with '\['", "'{'"),
        ("json_lines", ' \n[{"id": 1}]', r"JSON lines, an object on each \(json_lines\), beginning with '\{'", r"'\['"),
        ("json_array", "hello", "a JSON array of objects", "'h'"),
        ("json_lines", "ü", "JSON lines", r"'\\xc3'"),
    ):
        path = write(text, "a.json")
        pattern = f"{re.escape(str(path))}: expected {expected}.*, got a file that begins with {got}"
        with pytest.raises(vexact.InvalidRequestError, match=pattern):
            session.read_json(path, format=format)


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("json_array", '[{"id": 1}, {"id": 2}'),
        ("json_array", '[{"id": 1}, {"id": [2]'),
        ("json_array", '[{"id": 1}] {"id": 2}\n'),
        ("json_lines", '{"id": 1}\n{"id": 2'),
    ],
)
def test_json_that_is_cut_off_is_an_error(session: vexact.Session, write, format: str, text: str) -> None:
    path = write(text, "a.json")
    with pytest.raises(vexact.InvalidRequestError, match=f"{re.escape(str(path))}: "):
        session.read_json(path, format=format).to_arrow()


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        ("read_csv", "", "a header line, got an empty file"),
        ("read_csv", "\n\r\n\n", "a header line, got only line ends"),
        ("read_parquet", "", "a Parquet file, got an empty file"),
        ("read_json", "", "JSON lines, .*, got an empty file"),
        ("read_json", " \n ", "JSON lines, .*, got a file of white space"),
    ],
)
def test_an_empty_file_is_an_error_and_not_an_empty_frame(
    session: vexact.Session, write, read: str, text: str, expected: str
) -> None:
    suffix = {"read_csv": ".csv", "read_parquet": ".parquet", "read_json": ".json"}[read]
    path = write(text, f"empty{suffix}")
    for call in (getattr(session, read), session.read):
        with pytest.raises(vexact.InvalidRequestError, match=f"{re.escape(str(path))}: expected {expected}"):
            call(path)


def test_json_lists_with_a_fraction_anywhere_are_vectors(session: vexact.Session, write) -> None:
    whole = '{"vec": [1, 2]}\n'
    for text in (whole + '{"vec": [1, 2.5]}\n', whole * 3000 + '{"vec": [0.5, 1]}\n', '{"vec": []}\n{"vec": null}\n'):
        frame = session.read_json(write(text, "a.jsonl"))
        rows = [json.loads(line)["vec"] for line in text.splitlines()]
        assert frame.to_arrow()["vec"].to_pylist() == rows
        if "." in text:
            assert frame.schema.field("vec").type == pa.list_(pa.float64(), 2)


def test_json_lists_of_whole_numbers_stay_so_and_are_searched(session: vexact.Session, write) -> None:
    rows = np.array([[3, 4], [0, 0], [6, 8], [1, 1]])
    text = "".join(json.dumps({"id": i, "vec": row.tolist()}) + "\n" for i, row in enumerate(rows))
    frame = session.read_json(write(text, "a.jsonl"))
    assert frame.schema.field("vec").type == pa.list_(pa.int64())
    session.create_temp_view("t", frame)
    for metric in METRICS:
        expected = search(metric, rows, np.array([3.0, 4.0]), 3)
        assert hits(session.vector_search("t", "vec", [3, 4], 3, metric)) == expected
        assert hits_of(session.vector_search("t", "vec", [[1, 1], [3, 4]], 3, metric, columns="*"), 1) == expected
    found = session.vector_search("t", "vec", [3, 4], 1, "l2", columns=["vec", "id"], filter="id > 0 AND vec IS NOT NULL")
    assert found.to_arrow().to_pylist() == [{"row_id": 3, "score": float(np.sqrt(13.0)), "vec": [1, 1], "id": 3}]
    assert found.schema.field("vec").type == pa.list_(pa.int64())
    assert session.hybrid_search("t", "vec", [3, 4], 9, "l2", 5.0).count() == 4
    assert "CAST" in session.explain_vector_search("t", "vec", [3, 4]).physical
    ids = session.sql("SELECT id FROM t ORDER BY l2_distance(vec, [3, 4]) LIMIT 2").to_rows()["rows"]
    assert ids == [[0], [3]]


def test_lists_of_whole_numbers_of_different_lengths_are_refused(session: vexact.Session, write) -> None:
    session.create_temp_view("t", session.read_json(write('{"vec": [1, 2]}\n{"vec": [3]}\n', "a.jsonl")))
    with pytest.raises(vexact.InvalidRequestError, match='"vec".*row 1 has 1 components, expected 2'):
        session.vector_search("t", "vec", [1, 2])


def test_ragged_json_lists_stay_lists(session: vexact.Session, write) -> None:
    path = write('{"vec": [1.5, 2]}\n{"vec": [3]}\n', "a.jsonl")
    assert session.read_json(path).to_rows()["rows"] == [[[1.5, 2.0]], [[3.0]]]


def test_a_file_is_recognised_by_its_content_and_name(session: vexact.Session, write, tmp_path: Path) -> None:
    assert session.read(write("id\tn\n1\ta,b\n", "a.tsv")).to_rows()["rows"] == [[1, "a,b"]]
    assert session.read(write("id,n\n1,2\n", "plain")).to_rows()["rows"] == [[1, 2]]
    assert session.read(write('{"id": 1}\n', "lines")).to_rows()["rows"] == [[1]]
    assert session.read(write('  [{"id": 1}]', "array")).to_rows()["rows"] == [[1]]
    pq.write_table(pa.table({"id": [1]}), tmp_path / "columns")
    assert session.read(tmp_path / "columns").to_rows()["rows"] == [[1]]


def test_a_byte_order_mark_is_no_part_of_a_name(session: vexact.Session, write) -> None:
    assert session.read(write("\ufeffid,n\n1,2\n")).to_rows() == {"schema": ["id", "n"], "rows": [[1, 2]]}


def test_parquet_keeps_types_and_order(session: vexact.Session, tmp_path: Path) -> None:
    rows = np.arange(400, dtype=np.float32).reshape(100, 4)
    table = pa.table({"id": pa.array(range(100), pa.int32()), "vec": vectors(rows)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    frame = session.read_parquet(tmp_path / "t.parquet")
    assert frame.schema.types == [pa.int32(), pa.list_(pa.float32(), 4)]
    assert frame.to_arrow()["id"].to_pylist() == list(range(100))
    assert frame.count() == 100


def test_a_file_that_is_no_parquet_is_an_error(session: vexact.Session, write) -> None:
    path = write("hello this is not parquet at all", "x.parquet")
    with pytest.raises(vexact.InvalidRequestError, match="(?i)parquet") as caught:
        session.read_parquet(path)
    assert str(path) in str(caught.value)


def test_an_empty_parquet_table_has_no_rows_and_its_schema(session: vexact.Session, tmp_path: Path) -> None:
    schema = pa.schema({"id": pa.int64(), "vec": pa.list_(pa.float32(), 4)})
    pq.write_table(schema.empty_table(), tmp_path / "e.parquet")
    session.create_temp_view("t", session.read_parquet(tmp_path / "e.parquet"))
    for query in ([1, 2, 3, 4], [[1, 2, 3, 4]]):
        found = session.vector_search("t", "vec", query, columns="*").to_arrow()
        assert (found.num_rows, found.schema.names[-4:]) == (0, ["row_id", "score", "id", "vec"])


def test_what_is_written_is_read_back(session: vexact.Session, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((50, 6)).astype(np.float32)
    nulls = rng.random(50) < 0.2
    table = pa.table({"id": range(50), "name": [f'n, "{i}"\n' for i in range(50)], "vec": vectors(rows, nulls)})
    frame = session.create_dataframe_from_arrow(table)
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(str(tmp_path / "t.csv"))
    from_parquet, from_csv = session.read(tmp_path / "t.parquet"), session.read(tmp_path / "t.csv")
    assert from_parquet.to_arrow().to_pylist() == table.to_pylist()
    assert from_csv.to_arrow().to_pylist() == table.to_pylist()
    assert from_csv.schema.field("vec").type == pa.list_(pa.float32(), 6)
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == table.to_pylist()
    rows[nulls] = np.nan
    for name, back in (("parquet", from_parquet), ("csv", from_csv)):
        session.create_temp_view(name, back)
        found = session.vector_search(name, "vec", rows[0] + 1, 9, "l2", columns="id")
        assert hits(found) == search("l2", rows, (rows[0] + 1).astype(np.float64), 9)


def test_a_query_is_written_to_one_file_that_replaces_the_old_one(docs: vexact.Session, tmp_path: Path) -> None:
    for count in (5, 3):
        docs.sql(f"SELECT id FROM docs ORDER BY id LIMIT {count}").write_parquet(tmp_path / "out.parquet")
        docs.sql(f"SELECT id FROM docs ORDER BY id LIMIT {count}").write_csv(tmp_path / "out.csv")
        assert (tmp_path / "out.parquet").is_file()
        assert pq.read_table(tmp_path / "out.parquet").num_rows == count
        assert (tmp_path / "out.csv").read_text() == "id\n" + "".join(f"{i}\n" for i in range(count))


def test_an_empty_result_is_written_with_its_columns(docs: vexact.Session, tmp_path: Path) -> None:
    nothing = docs.sql("SELECT id, lang FROM docs WHERE false")
    nothing.write_csv(tmp_path / "out.csv")
    nothing.write_parquet(tmp_path / "out.parquet")
    assert (tmp_path / "out.csv").read_text() == "id,lang\n"
    assert pq.read_table(tmp_path / "out.parquet").schema.names == ["id", "lang"]


def test_writing_into_no_folder_names_it_and_makes_none(docs: vexact.Session, tmp_path: Path) -> None:
    frame = docs.sql("SELECT id FROM docs")
    for write in (frame.write_csv, frame.write_parquet):
        for folder in (tmp_path / "no", tmp_path / "no" / "such"):
            with pytest.raises(vexact.SourceNotFoundError, match=f"folder not found: {re.escape(str(folder))}$"):
                write(folder / "out.x")
    assert list(tmp_path.iterdir()) == []


def test_writing_over_a_folder_is_an_os_error(docs: vexact.Session, tmp_path: Path) -> None:
    frame = docs.sql("SELECT id FROM docs")
    (tmp_path / "out.x").mkdir()
    for write in (frame.write_csv, frame.write_parquet):
        with pytest.raises(vexact.SourceIOError, match="out.x: expected a file to write, got a folder"):
            write(tmp_path / "out.x")
    assert [list(folder.iterdir()) for folder in (tmp_path, tmp_path / "out.x")] == [[tmp_path / "out.x"], []]


def test_writing_under_a_file_is_an_os_error(docs: vexact.Session, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    frame = docs.sql("SELECT id FROM docs")
    for write in (frame.write_csv, frame.write_parquet):
        with pytest.raises(vexact.SourceIOError, match="file/out.x.*Not a directory"):
            write(tmp_path / "file" / "out.x")
    assert (tmp_path / "file").read_text() == "kept"


def test_files_are_written_in_the_current_folder(
    docs: vexact.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    docs.sql("SELECT id FROM docs").write_csv("out.csv")
    docs.sql("SELECT id FROM docs").write_parquet("out.parquet")
    assert docs.read("out.csv").count() == docs.read("out.parquet").count() == 10
