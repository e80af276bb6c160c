"""Files become frames: CSV with vectors in cells, JSON, Parquet, and each by its content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import hits, search, vectors


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


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


def test_the_delimiter_is_one_ascii_character(session: vexact.Session, write) -> None:
    table = session.read_csv(write("id;vec\n1;[1,2,3]\n"), delimiter=";").to_arrow()
    assert table.schema.types == [pa.int64(), VECTORS_3]
    assert session.read_csv(write("id|n\n1|a,b\n"), "|").to_rows()["rows"] == [[1, "a,b"]]
    for delimiter in ("", ";;", "→"):
        with pytest.raises(ValueError, match="delimiter: expected one .*character, got"):
            session.read_csv(write("a\n1\n"), delimiter=delimiter)


def test_broken_csv_is_an_error_with_its_file_and_line(session: vexact.Session, write) -> None:
    path = write("id,n\n1,2\n3\n")
    with pytest.raises(vexact.InvalidRequestError, match="line 3") as caught:
        session.read_csv(path).to_arrow()
    assert str(path) in str(caught.value)


def test_file_names_are_taken_as_they_are(session: vexact.Session, write) -> None:
    for name in ("no extension", "a b%20#?.csv", "UPPER.CSV", "x.txt", "ünï.csv"):
        path = write("id\n1\n", name)
        assert session.read_csv(path).to_rows() == {"schema": ["id"], "rows": [[1]]}
        assert session.read_csv(str(path)).count() == 1


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


def test_writing_where_it_cannot_be_done_is_an_os_error(docs: vexact.Session, tmp_path: Path) -> None:
    frame = docs.sql("SELECT id FROM docs")
    with pytest.raises(FileNotFoundError, match="no/out.csv"):
        frame.write_csv(tmp_path / "no" / "out.csv")
    with pytest.raises(OSError):
        frame.write_csv(tmp_path)


def test_nested_columns_have_no_csv_form(session: vexact.Session, tmp_path: Path) -> None:
    with pytest.raises(vexact.InvalidRequestError, match="(?i)nested .*not supported"):
        session.sql("SELECT [[1, 2]] AS a").write_csv(tmp_path / "out.csv")
