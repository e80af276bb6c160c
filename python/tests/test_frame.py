"""Frames: lazy until rows are asked for, and every way to have the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest

import vexact


@pytest.fixture
def frame(docs: vexact.Session) -> vexact.DataFrame:
    return docs.sql("SELECT id, lang, vec FROM docs WHERE id < 3 ORDER BY id")


def test_every_form_has_the_same_rows(frame: vexact.DataFrame) -> None:
    rows = [[0, "en", [0.0, 1.0, 2.0, 3.0]], [1, "de", [4.0, 5.0, 6.0, 7.0]], [2, "en", [8.0, 9.0, 10.0, 11.0]]]
    assert frame.to_rows() == {"schema": ["id", "lang", "vec"], "rows": rows}
    assert isinstance(frame.to_arrow(), pa.Table)
    assert [list(row.values()) for row in frame.to_arrow().to_pylist()] == rows
    assert isinstance(frame.to_polars(), polars.DataFrame)
    assert [list(row) for row in frame.to_polars().rows()] == rows
    assert isinstance(frame.to_pandas(), pandas.DataFrame)
    assert frame.to_pandas()["id"].tolist() == [0, 1, 2]
    assert np.array_equal(np.stack(frame.to_pandas()["vec"]), [row[2] for row in rows])
    assert frame.count() == 3


def test_a_frame_is_arrow_data_for_others(frame: vexact.DataFrame) -> None:
    assert pa.table(frame).to_pylist() == frame.to_arrow().to_pylist()
    assert pa.RecordBatchReader.from_stream(frame).read_all().num_rows == 3
    assert polars.DataFrame(frame).equals(frame.to_polars())


def test_the_schema_is_known_without_running(docs: vexact.Session) -> None:
    frame = docs.sql("SELECT 1 / (id - id) AS x, vec FROM docs")
    assert frame.schema.names == ["x", "vec"]
    assert frame.schema.field("vec").type == pa.list_(pa.float32(), 4)
    assert "x: int64" in repr(frame)
    with pytest.raises(vexact.ExecutionError):
        frame.to_arrow()


def test_a_query_runs_each_time_its_rows_are_asked_for(session: vexact.Session) -> None:
    session.sql("CREATE TABLE made AS SELECT 1 AS a").to_arrow()
    frame = session.sql("SELECT a FROM made ORDER BY a")
    assert frame.to_rows()["rows"] == [[1]]
    session.sql("INSERT INTO made VALUES (2)").to_arrow()
    assert frame.to_rows()["rows"] == [[1], [2]]
    assert frame.count() == 2


def test_no_rows_and_no_columns(docs: vexact.Session) -> None:
    empty = docs.sql("SELECT id, vec FROM docs WHERE false")
    assert empty.to_rows() == {"schema": ["id", "vec"], "rows": []}
    assert (empty.count(), empty.to_polars().shape, empty.to_pandas().shape) == (0, (0, 2), (0, 2))
    nothing = docs.create_dataframe_from_arrow(pa.table({}))
    assert (nothing.to_rows(), nothing.count()) == ({"schema": [], "rows": []}, 0)


def test_show_prints_the_first_rows(docs: vexact.Session, capsys: pytest.CaptureFixture[str]) -> None:
    frame = docs.sql("SELECT id, lang FROM docs ORDER BY id")
    frame.show(2)
    assert capsys.readouterr().out.splitlines() == [
        "+----+------+",
        "| id | lang |",
        "+----+------+",
        "| 0  | en   |",
        "| 1  | de   |",
        "+----+------+",
        "(first 2 rows)",
    ]
    frame.show()
    out = capsys.readouterr().out
    assert "| 9  | de   |" in out and "first" not in out


def test_show_cuts_long_cells_at_whole_characters(session: vexact.Session, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"text": ["é" * 200, None], "vec": np.zeros((2, 500), np.float32)}
    session.create_dataframe_from_arrow(columns).show()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 200
    assert "ééé…" in lines[3]


def test_html_shows_the_first_rows(session: vexact.Session) -> None:
    html = session.sql("SELECT value FROM generate_series(1, 100) ORDER BY value")._repr_html_()
    assert html.count("<tr>") == 21
    assert ">20</td>" in html and ">21</td>" not in html
    assert "first 20 rows" in html


def test_large_results_come_whole(session: vexact.Session) -> None:
    table = session.sql("SELECT value FROM generate_series(1, 300000)").to_arrow()
    assert sorted(table["value"].to_pylist()) == list(range(1, 300_001))


def test_a_frame_outlives_the_file_name_it_came_from(session: vexact.Session, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,vec\n1,[1 2]\n")
    frame = session.read_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv").unlink()
    assert frame.to_rows()["rows"] == [[1, [1.0, 2.0]]]


@pytest.mark.parametrize("statement", ["EXPLAIN SELECT id FROM docs", "EXPLAIN ANALYZE SELECT id FROM docs", "DESCRIBE docs"])
def test_statements_are_shown_as_they_are_returned(
    statement: str, docs: vexact.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert docs.sql(statement).count() == docs.sql(statement).to_arrow().num_rows > 0
    docs.sql(statement).show(1)
    assert len(capsys.readouterr().out.splitlines()) >= 5
    assert "<table>" in docs.sql(statement)._repr_html_()


@pytest.mark.parametrize("constant", ["l2_norm([3, 4])", "vector_dims([1, 2, 3, 4, 5])", "l2_distance([0, 3], [4, 0])"])
def test_a_constant_has_the_schema_that_was_told(constant: str, session: vexact.Session) -> None:
    frame = session.sql(f"SELECT {constant} AS x")
    assert frame.to_arrow().schema == frame.schema
    assert frame.to_rows()["rows"] == [[5.0]]
