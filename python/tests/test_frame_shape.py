"""Frames behave as their name says: columns, first rows, length, iteration, rows kept in memory."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import vexact

ROWS = {"id": [3, 1, 2], "title": ["c", "a", None], "year": [2003, 2001, 2002]}


@pytest.fixture
def session() -> vexact.Session:
    session = vexact.Session()
    session.create_temp_view("docs", session.create_dataframe_from_arrow(ROWS))
    return session


def test_columns_and_lengths(session: vexact.Session) -> None:
    frame = session.sql("SELECT * FROM docs")
    assert frame.columns == ["id", "title", "year"]
    assert len(frame) == frame.count() == 3
    assert frame and session.sql("SELECT * FROM docs WHERE id > 9")


def test_columns_are_chosen_by_name_in_any_order(session: vexact.Session) -> None:
    frame = session.sql("SELECT * FROM docs")
    assert frame["title"].to_rows() == {"schema": ["title"], "rows": [["c"], ["a"], [None]]}
    assert frame[["year", "id"]].to_arrow().to_pydict() == {"year": ROWS["year"], "id": ROWS["id"]}
    upper = session.create_dataframe_from_arrow({"Id": [1], "a b": [2]})
    assert upper[["a b", "Id"]].to_rows()["rows"] == [[2, 1]]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ("nope", ValueError, r"column \"nope\" not found: expected one of \[id, title, year\]"),
        (["id", "id"], ValueError, "expected each column once"),
        (0, TypeError, "columns: expected a column's name or a list of names"),
        (["id", 1], TypeError, "columns: expected a column's name or a list of names"),
    ],
)
def test_other_columns_are_refused(session: vexact.Session, columns: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        session.sql("SELECT * FROM docs")[columns]  # type: ignore[index]


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 50])
def test_limit_and_head_are_the_first_rows_in_order(rows: int) -> None:
    session = vexact.Session()
    numbers = np.random.default_rng(rows).permutation(20_000)
    frame = session.create_dataframe_from_arrow({"n": numbers})
    session.create_temp_view("t", frame)
    for made in (frame, session.sql("SELECT n FROM t WHERE n >= 0"), session.sql("SELECT n FROM t ORDER BY n DESC")):
        everything = made.to_arrow()["n"].to_pylist()
        assert made.limit(rows).to_arrow()["n"].to_pylist() == everything[:rows]
        assert made.head(rows).to_rows()["rows"] == [[n] for n in everything[:rows]]
    assert len(frame.head()) == 5
    with pytest.raises(ValueError, match="rows: expected a whole number of at least 0, got -1"):
        frame.limit(-1)


def test_iteration_gives_rows_as_dicts(session: vexact.Session) -> None:
    frame = session.sql("SELECT * FROM docs ORDER BY id")
    assert [row["title"] for row in frame] == ["a", None, "c"]
    assert list(frame) == frame.to_arrow().to_pylist()
    with pytest.raises(ValueError, match="expected names that differ, got 'id' twice"):
        list(session.sql("SELECT a.id, b.id FROM docs a JOIN docs b ON a.id = b.id"))


def test_a_cached_frame_does_not_run_again(session: vexact.Session) -> None:
    frame = session.sql("SELECT random() AS r FROM docs")
    cached = frame.cache()
    assert cached.to_rows() == cached.to_rows() != frame.to_rows()
    session.create_temp_view("kept", cached)
    assert session.sql("SELECT r FROM kept").to_rows() == cached.to_rows()


def test_pandas_and_polars_take_a_frame(session: vexact.Session) -> None:
    frame = session.sql("SELECT id, year FROM docs ORDER BY id")
    expected = frame.to_pandas()
    pd.testing.assert_frame_equal(pd.DataFrame(frame), expected)
    assert pl.DataFrame(frame).equals(frame.to_polars())


def test_a_session_names_its_tables(session: vexact.Session) -> None:
    session.sql("CREATE TABLE notes (id BIGINT)")
    session.create_temp_view("Upper", session.sql("SELECT 1 AS n"))
    assert session.tables() == ["Upper", "docs", "notes"]
    session.sql("DROP TABLE docs")
    assert session.tables() == ["Upper", "notes"]
