"""Searches by sketches return the rows and scores of searches without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vexact

ROWS, DIM = 3000, 64


def vectors(rows: int, seed: int) -> np.ndarray:
    """Mixtures of a few directions, which have principal components."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(6, DIM))
    return (rng.normal(size=(rows, 6)) @ directions + 0.05 * rng.normal(size=(rows, DIM))).astype(np.float32)


@pytest.fixture
def session() -> vexact.Session:
    session = vexact.Session()
    flat = pa.array(vectors(ROWS, 1).reshape(-1))
    table = pa.table({"id": np.arange(ROWS), "v": pa.FixedSizeListArray.from_arrays(flat, DIM)})
    session.create_temp_view("docs", session.create_dataframe_from_arrow(table))
    return session


@pytest.mark.parametrize("tier", ["pca4", "i8"])
def test_a_forced_sketch_changes_no_answer(session: vexact.Session, tier: str) -> None:
    query = vectors(1, 2)[0]
    sql = "SELECT id, cosine_distance(v, $1) AS d FROM docs ORDER BY d LIMIT 20"
    session.sql("SET vexact.tier = 'off'")
    expected = session.sql(sql, [query]).to_arrow()
    assert "tier=f32" in session.explain_vector_search("docs", "v", query).strategy
    session.sql(f"SET vexact.tier = '{tier}'")
    # The first search starts the builder; each search is right, whether it has ended or not.
    while f"tier={tier}" not in session.explain_vector_search("docs", "v", query).strategy:
        assert session.sql(sql, [query]).to_arrow() == expected
    assert session.sql(sql, [query]).to_arrow() == expected
    planned = session.explain_sql(sql, [query]).strategy
    assert f"tier={tier}" in planned and "components=" in planned


def test_a_small_table_has_no_sketch_and_says_so(session: vexact.Session) -> None:
    strategy = session.explain_vector_search("docs", "v", vectors(1, 2)[0]).strategy
    assert "tier=f32\nreason=no sketch, so the vectors themselves\n" in strategy


def test_a_table_that_is_dropped_while_it_is_built_is_forgotten(session: vexact.Session) -> None:
    session.sql("SET vexact.tier = 'i8'")
    for seed in range(5):
        flat = pa.array(vectors(20_000, seed).reshape(-1))
        table = pa.table({"v": pa.FixedSizeListArray.from_arrays(flat, DIM)})
        session.create_temp_view("docs", session.create_dataframe_from_arrow(table))
        assert session.vector_search("docs", "v", vectors(1, 9)[0], top_k=3).to_arrow().num_rows == 3


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_groups_and_bounds_by_sketches_change_no_answer(session: vexact.Session, metric: str) -> None:
    query = vectors(1, 2)[0]
    session.sql("CREATE VIEW grouped AS SELECT *, id % 7 AS g FROM docs")
    scores = session.vector_search("docs", "v", query, ROWS, metric).to_arrow()["score"].to_numpy()
    searches = [
        {"group_by": "g", "filter": "id < 2500"},
        {"min_score": float(scores[40])},
        {"min_score": float(scores[1500]), "group_by": "g", "filter": "id % 2 = 0"},
    ]

    def found() -> list[pa.Table]:
        hits = [session.vector_search("grouped" if "group_by" in options else "docs", "v", query, 5, metric, **options) for options in searches]
        return [frame.to_arrow() for frame in hits]

    session.sql("SET vexact.tier = 'off'")
    expected = found()
    assert [table.num_rows for table in expected] == [35, 5, 35]
    session.sql("SET vexact.tier = 'i8'")
    while "tier=i8" not in session.explain_vector_search("docs", "v", query).strategy:
        assert found() == expected
    assert found() == expected
    explained = session.explain_vector_search("docs", "v", query, 5, metric, min_score=float(scores[40])).strategy
    assert "tier=i8" in explained and "mode=exact-scan\n" in explained


@pytest.mark.parametrize("tier", ["off", "pca4"])
def test_the_tier_is_an_argument_of_sessions_and_engines(tmp_path: Path, tier: str) -> None:
    reason = {"off": "reason=tier f32 asked for", "pca4": "reason=no sketch"}[tier]
    flat = pa.array(vectors(50, 1).reshape(-1))
    made = vexact.Session(tier=tier)
    made.create_temp_view("docs", made.create_dataframe_from_arrow(pa.table({"v": pa.FixedSizeListArray.from_arrays(flat, DIM)})))
    assert reason in made.explain_vector_search("docs", "v", vectors(1, 2)[0]).strategy
    with vexact.connect(tmp_path / "a.db", tier=tier) as engine:
        engine.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)")
        engine.execute("INSERT INTO docs VALUES (1, ?)", [vectors(1, 3)[0]])
        engine.register_table(vexact.TableSchema("docs", {"id": "int64", "v": f"vector({DIM})"}, ["id"]), initial_sync=True)
        assert reason in engine.explain_vector_search("docs", "v", vectors(1, 2)[0]).strategy
    for opened in (lambda: vexact.Session(tier="i9"), lambda: vexact.HtapConfig(tier="i9")):
        with pytest.raises(vexact.InvalidRequestError, match='tier: unknown tier: expected one of auto, f32, i8, pca4, off, got "i9"'):
            opened()
