"""Sessions: catalogs that do not leak, views that are replaced."""

from __future__ import annotations

import numpy as np
import pytest

import vexact
from reference import hits


def test_sessions_do_not_see_each_others_views_or_settings(docs: vexact.Session) -> None:
    other = vexact.Session()
    docs.sql("SET vexact.rewrite = false").to_arrow()
    docs.sql("CREATE TABLE made AS SELECT 1 AS a").to_arrow()
    for name in ("docs", "made"):
        with pytest.raises(vexact.InvalidRequestError, match=name):
            other.sql(f"SELECT * FROM {name}")
    with pytest.raises(vexact.InvalidRequestError, match='table "docs" not found'):
        other.vector_search("docs", "vec", [1, 2, 3, 4])
    show = "SELECT value FROM information_schema.df_settings WHERE name = 'vexact.rewrite'"
    assert docs.sql(show).to_rows()["rows"] == [["false"]]
    assert other.sql(show).to_rows()["rows"] == [["true"]]


def test_a_session_is_a_context_manager() -> None:
    with vexact.Session() as session:
        assert isinstance(session, vexact.Session)
        frame = session.sql("SELECT 1 AS a")
    assert frame.to_rows() == {"schema": ["a"], "rows": [[1]]}
    with pytest.raises(KeyError), vexact.Session():
        raise KeyError


def test_a_view_replaces_one_of_the_same_name(session: vexact.Session) -> None:
    for value in (1, 2):
        session.create_temp_view("t", session.sql(f"SELECT {value} AS a"))
        assert session.sql("SELECT a FROM t").to_rows()["rows"] == [[value]]
    session.create_temp_view("t", session.create_dataframe_from_arrow({"vec": np.eye(3)}))
    assert hits(session.vector_search("t", "vec", [0, 1, 0], 1)) == [(1, 0.0)]


def test_a_view_may_be_replaced_by_a_query_of_itself(docs: vexact.Session) -> None:
    docs.create_temp_view("docs", docs.sql("SELECT id, vec FROM docs WHERE id >= 5"))
    assert docs.sql("SELECT count(*) AS n FROM docs").to_rows()["rows"] == [[5]]
    found = docs.vector_search("docs", "vec", [20, 21, 22, 23], 1, "l2", columns="id").to_arrow()
    assert found.to_pylist() == [{"row_id": 0, "score": 0.0, "id": 5}]


def test_a_view_of_a_query_is_a_view_of_its_rows(docs: vexact.Session) -> None:
    docs.create_temp_view("german", docs.sql("SELECT id, vec FROM docs WHERE lang = $1", ["de"]))
    assert docs.sql("SELECT id FROM german ORDER BY id").to_arrow()["id"].to_pylist() == [1, 3, 5, 7, 9]
    docs.create_temp_view("late", docs.sql("SELECT id FROM german WHERE id > 4"))
    assert docs.sql("SELECT count(*) AS n FROM late").to_rows()["rows"] == [[3]]


def test_frames_move_between_sessions(docs: vexact.Session) -> None:
    other = vexact.Session()
    other.create_temp_view("taken", docs.sql("SELECT id, vec FROM docs WHERE id > 7"))
    assert other.sql("SELECT id FROM taken ORDER BY id").to_arrow()["id"].to_pylist() == [8, 9]


def test_every_name_exported_is_there() -> None:
    assert all(hasattr(vexact, name) for name in vexact.__all__)
    assert vexact.__version__.count(".") == 2
