"""A hybrid search has all columns, the score, a prefilter and a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import METRICS, awkward_rows, chunked, search, vectors


@pytest.mark.parametrize("source", ["arrow", "parquet", "sql"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_hybrid_answers_are_the_reference(
    session: vexact.Session, tmp_path: Path, metric: str, seed: int, source: str
) -> None:
    rng = np.random.default_rng(seed)
    rows, nulls = awkward_rows(rng, 300, int(rng.integers(1, 40)), np.float32)
    part = rng.integers(3, size=300)
    table = chunked(rng, pa.table({"id": range(300), "part": part, "vec": vectors(rows, nulls)}))
    if source == "parquet":
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=41)
        session.create_temp_view("t", session.read_parquet(tmp_path / "t.parquet"))
    else:
        session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    if source == "sql":
        session.create_temp_view("t", session.sql("SELECT id, part, vec FROM t"))
    query = rng.standard_normal(rows.shape[1])
    best = search(metric, rows, query, 300)
    for threshold in (None, best[0][1], best[len(best) // 2][1], best[-1][1], -1e9, 1e9):
        for filter, selection in ((None, None), ("part = 1", part == 1)):
            for k in (1, 20, 500):
                expected = search(metric, rows, query, k, selection)
                if threshold is not None:
                    within = (lambda s: s >= threshold) if metric == "dot" else (lambda s: s <= threshold)
                    expected = [(row, score) for row, score in expected if within(score)]
                found = session.hybrid_search("t", "vec", query, k, metric, threshold, filter=filter).to_arrow()
                assert list(zip(found["id"].to_pylist(), found["vector_score"].to_pylist())) == expected


def test_all_columns_come_before_the_score(docs: vexact.Session) -> None:
    found = docs.hybrid_search("docs", "vec", [1, 2, 3, 4], 2, filter="lang = 'de'").to_arrow()
    assert found.schema.names == ["id", "lang", "vec", "vector_score"]
    assert found.schema.types[-1] == pa.float64()
    assert set(found["lang"].to_pylist()) == {"de"}


def test_the_threshold_is_inclusive(docs: vexact.Session) -> None:
    query = [0, 1, 2, 3]
    assert docs.hybrid_search("docs", "vec", query, 10, "l2", 16.0).to_arrow()["id"].to_pylist() == [0, 1, 2]
    below = float(np.nextafter(16.0, 0))
    assert docs.hybrid_search("docs", "vec", query, 10, "l2", below).to_arrow()["id"].to_pylist() == [0, 1]
    largest = float(np.dot(query, [36, 37, 38, 39]))
    assert docs.hybrid_search("docs", "vec", query, 10, "dot", largest).to_arrow()["id"].to_pylist() == [9]


def test_a_threshold_that_no_row_meets_is_an_empty_result_with_its_schema(docs: vexact.Session) -> None:
    found = docs.hybrid_search("docs", "vec", [0, 0, 0, 0], 5, "l2", -1.0).to_arrow()
    assert found.num_rows == 0
    assert found.schema.names == ["id", "lang", "vec", "vector_score"]


def test_infinite_thresholds_are_numbers(docs: vexact.Session) -> None:
    infinity = float("inf")
    assert docs.hybrid_search("docs", "vec", [1, 2, 3, 4], 5, "l2", infinity).count() == 5
    assert docs.hybrid_search("docs", "vec", [1, 2, 3, 4], 5, "dot", infinity).count() == 0
