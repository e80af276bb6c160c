"""Frames of other libraries come in by name, by variable or as they are; frames go out batch by batch."""

from __future__ import annotations

import gc
import pathlib

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import vexact
from reference import vectors

at_module = pd.DataFrame({"n": [1, 2, 3]})


@pytest.fixture
def people(session: vexact.Session) -> vexact.Session:
    frame = pd.DataFrame({"Name": ["Ann", "Bob", "Cid"], "AGE": [30, 40, 50], "city": ["x", "y", "x"]})
    session.create_temp_view("people", frame)
    return session


def test_views_of_pandas_polars_and_pyarrow(session: vexact.Session) -> None:
    for frame in (pd.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1, 2]}), pa.table({"a": [1, 2]}), pa.record_batch({"a": [1, 2]})):
        session.create_temp_view("v", frame)
        assert session.sql("SELECT sum(a) AS s FROM v").to_rows()["rows"] == [[3]]
    with pytest.raises(TypeError, match="create_temp_view: frame: expected a vexact.DataFrame"):
        session.create_temp_view("v", {"a": [1]})


def test_tables_are_found_among_the_callers_variables(session: vexact.Session) -> None:
    local = pl.DataFrame({"n": [2, 3], "word": ["two", "three"]})
    Mixed = pa.table({"n": [3]})  # noqa: N806
    found = session.sql("SELECT word FROM at_module JOIN local USING (n) JOIN Mixed USING (n)")
    assert session.tables() == []
    del local, Mixed
    gc.collect()
    assert found.to_rows()["rows"] == [["three"]]
    made = session.sql("SELECT 7 AS n")
    assert session.sql("SELECT n FROM made").to_rows()["rows"] == [[7]] and made.count() == 1
    assert "TableScan" in session.explain_sql("SELECT * FROM at_module").logical


def test_vectors_of_a_variable_are_searched(session: vexact.Session) -> None:
    docs = pa.table({"id": [1, 2], "v": vectors(np.eye(2, dtype=np.float32))})
    sql = "SELECT id FROM vector_search('docs', 'v', $1, 1)"
    assert session.sql(sql, [[0.0, 1.0]]).to_rows()["rows"] == [[2]]
    assert docs.num_rows == 2


def test_the_sessions_own_tables_come_first_and_others_are_no_tables(session: vexact.Session) -> None:
    session.create_temp_view("own", pa.table({"n": [1]}))
    own = pa.table({"n": [2]})
    assert session.sql("SELECT n FROM own").to_rows()["rows"] == [[1]] and own.num_rows == 1
    number, text = 5, "docs"
    for name in ("number", "text", "nowhere"):
        with pytest.raises(vexact.InvalidRequestError, match=f"table 'datafusion.public.{name}' not found"):
            session.sql(f"SELECT * FROM {name}")
    assert (number, text) == (5, "docs")
    closed = vexact.Session(scan_variables=False)
    with pytest.raises(vexact.InvalidRequestError, match="not found"):
        closed.sql("SELECT * FROM at_module")
    with pytest.raises(TypeError, match="scan_variables: expected a bool"):
        vexact.Session(scan_variables="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT Name FROM people WHERE AGE > 30 ORDER BY Age", [["Bob"], ["Cid"]]),
        ("SELECT p.name, p.CITY FROM people AS p WHERE p.age = 30", [["Ann", "x"]]),
        ('SELECT "Name" FROM people WHERE age < 40', [["Ann"]]),
        ("SELECT city, sum(AGE) AS total FROM people GROUP BY city ORDER BY total", [["y", 40], ["x", 80]]),
        ("SELECT max(t.Age) FROM (SELECT Age FROM people) AS t", [[50]]),
    ],
)
def test_columns_of_pandas_with_upper_case_need_no_quotes(people: vexact.Session, sql: str, rows: list[list[object]]) -> None:
    assert people.sql(sql).to_rows()["rows"] == rows


def test_columns_that_differ_in_case_alone_need_quotes(session: vexact.Session) -> None:
    session.create_temp_view("t", pd.DataFrame({"Id": [1], "ID": [2], "n": [3]}))
    with pytest.raises(vexact.InvalidRequestError, match="No field named id"):
        session.sql("SELECT Id FROM t")
    assert session.sql('SELECT "Id", "ID" FROM t').to_rows()["rows"] == [[1, 2]]
    session.create_temp_view("u", pd.DataFrame({"id": [4], "Id": [5]}))
    assert session.sql("SELECT ID FROM u").to_rows()["rows"] == [[4]]
    with pytest.raises(vexact.InvalidRequestError, match="No field named missing"):
        session.sql("SELECT missing, N FROM t")


def test_columns_of_excel_with_upper_case_need_no_quotes(session: vexact.Session, tmp_path: pathlib.Path) -> None:
    pd.DataFrame({"Name": ["Ann", "Bob"], "Age": [30, 40]}).to_excel(tmp_path / "people.xlsx", index=False)
    session.create_temp_view("people", session.read(tmp_path / "people.xlsx"))
    session.create_temp_view("old", session.sql("SELECT * FROM people WHERE Age > 35"))
    assert session.sql("SELECT Name FROM old").to_rows()["rows"] == [["Bob"]]


def test_columns_of_other_sources_with_upper_case_need_quotes(people: vexact.Session, tmp_path: pathlib.Path) -> None:
    (tmp_path / "other.csv").write_text("Name,Salary\nAnn,3\n")
    others = [people.read_csv(tmp_path / "other.csv"), pa.table({"Name": ["Ann"], "Salary": [3]}), pl.DataFrame({"Name": ["Ann"], "Salary": [3]})]
    for other in others:
        people.create_temp_view("other", other)
        with pytest.raises(vexact.InvalidRequestError, match="Did you mean 'other.\"Name\"'"):
            people.sql("SELECT Name FROM other")
        # Beside a frame of pandas a name is found only if that frame alone can be meant.
        joined = 'FROM people AS p JOIN other AS o ON p."Name" = o."Name"'
        assert people.sql(f'SELECT Age, o."Salary" {joined}').to_rows()["rows"] == [[30, 3]]
        for refused in ("p.Name", "o.Salary", "Age, Salary"):
            with pytest.raises(vexact.InvalidRequestError, match="Did you mean|No field named"):
                people.sql(f"SELECT {refused} {joined}")


def test_a_frame_is_searched_without_a_view(session: vexact.Session) -> None:
    table = pa.table({"id": [1, 2, 3], "v": vectors(np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32))})
    frames = [session.create_dataframe_from_arrow(table), table, pl.from_arrow(table)]
    for frame in frames:
        assert session.vector_search(frame, "v", [0, 1], 2, columns=["id"]).to_arrow()["id"].to_pylist() == [2, 3]
    filtered = session.sql("SELECT * FROM t WHERE id < 3") if session.tables() else frames[0]
    assert session.hybrid_search(filtered, "v", [1, 0], 1).to_arrow()["id"].to_pylist() == [1]
    assert session.explain_vector_search(table, "v", [0, 1]).strategies()[0]["candidate_rows"] == "3"
    assert session.tables() == []
    with pytest.raises(TypeError, match="table: expected a str, the name of a table, or a frame"):
        session.vector_search(5, "v", [0, 1])


def test_the_explain_of_a_searchs_frame_is_the_searchs(docs: vexact.Session) -> None:
    found = docs.vector_search("docs", "vec", [1, 0, 0, 0], 2, filter="id > 3")
    explained = docs.explain_vector_search("docs", "vec", [1, 0, 0, 0], 2, filter="id > 3")
    assert found.explain().strategies()[0]["candidate_rows"] == explained.strategies()[0]["candidate_rows"]
    assert "VectorTopKExec" in found.explain().physical
    hybrid = docs.hybrid_search("docs", "vec", [1, 0, 0, 0], score_threshold=0.9)
    assert "VectorTopKExec" in hybrid.explain().physical
    again = docs.vector_search(pa.table({"v": vectors(np.eye(2, dtype=np.float32))}), "v", [1, 0])
    assert "VectorTopKExec" in again.explain().physical


def test_pandas_takes_a_frame_as_it_is(session: vexact.Session) -> None:
    frame = session.sql("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y' ORDER BY a")
    pd.testing.assert_frame_equal(pd.DataFrame(frame), pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))


def test_a_reader_computes_batches_as_they_are_read(session: vexact.Session) -> None:
    # Nobody has the memory, or the time, for all rows.
    endless = session.sql("SELECT value AS n, value * 2 AS double FROM generate_series(1, 9000000000000000)")
    reader = endless.to_reader()
    assert reader.schema.names == ["n", "double"]
    batch = reader.read_next_batch()
    assert batch.num_rows > 0 and batch.column(1)[0].as_py() == 2 * batch.column(0)[0].as_py()
    del reader
    stream = pa.RecordBatchReader.from_stream(endless)
    assert stream.read_next_batch().num_rows > 0
    stream.close()


def test_a_stream_gives_the_rows_of_the_frame(docs: vexact.Session) -> None:
    for sql in ("SELECT id, lang FROM docs ORDER BY id DESC", "SELECT lang, count(*) AS n FROM docs GROUP BY lang ORDER BY lang", "SELECT * FROM docs WHERE id < 0"):
        frame = docs.sql(sql)
        assert pa.table(frame).to_pylist() == frame.to_arrow().to_pylist()
        assert pl.DataFrame(frame).rows() == pl.from_arrow(frame.to_arrow()).rows()
        assert pa.table(frame).schema.types == frame.schema.types


def test_the_error_of_a_query_is_that_of_its_reader(session: vexact.Session) -> None:
    failing = session.sql("SELECT 1 / (value - 5) AS x FROM generate_series(1, 10)")
    with pytest.raises((pa.ArrowException, OSError, ValueError), match="[Dd]ivide by zero"):
        failing.to_reader().read_all()
    assert session.sql("SELECT 1 AS a").to_rows()["rows"] == [[1]]


def test_the_rows_of_a_cached_frame_are_read_from_memory(session: vexact.Session) -> None:
    frame = session.sql("SELECT random() AS x FROM generate_series(1, 5)").cache()
    first = frame.to_arrow()
    assert frame.to_reader().read_all().equals(first) and pa.table(frame).equals(first) and len(frame) == 5
