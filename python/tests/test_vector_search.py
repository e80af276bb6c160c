"""A search returns the rows, the order and the scores of the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import METRICS, awkward_rows, chunked, hits, hits_of, scores, search, vectors

DTYPES = (np.float16, np.float32, np.float64)


def case(seed: int, dtype: Any) -> tuple[np.random.Generator, np.ndarray, pa.Table]:
    """Rows, and the table of them: id, part (0, 1, 2 at random), vec."""
    rng = np.random.default_rng(seed)
    count, dim = int(rng.integers(0, 400)), int(rng.integers(1, 130))
    rows, nulls = awkward_rows(rng, count, dim, dtype)
    part = rng.integers(3, size=count)
    table = pa.table({"id": np.arange(count), "part": part, "vec": vectors(rows, nulls)})
    return rng, rows, table


def view(session: vexact.Session, table: Any) -> None:
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
def test_arrow_answers_are_the_reference(session: vexact.Session, seed: int, dtype: Any) -> None:
    rng, rows, table = case(seed, dtype)
    view(session, chunked(rng, table))
    selection = table["part"].to_numpy() == 1
    for metric in METRICS:
        query = rng.standard_normal(rows.shape[1])
        k = int(rng.integers(1, len(rows) + 20))
        assert hits(session.vector_search("t", "vec", query, k, metric)) == search(metric, rows, query, k)
        filtered = session.vector_search("t", "vec", query, k, metric, filter="part = 1")
        assert hits(filtered) == search(metric, rows, query, k, selection)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(6))
def test_a_query_batch_answers_as_its_queries_alone(session: vexact.Session, seed: int, dtype: Any) -> None:
    rng, rows, table = case(100 + seed, dtype)
    view(session, chunked(rng, table))
    selection = table["part"].to_numpy() != 0
    queries = rng.standard_normal((int(rng.integers(1, 20)), rows.shape[1]))
    for metric in METRICS:
        k = int(rng.integers(1, 30))
        found = session.vector_search("t", "vec", queries, k, metric)
        filtered = session.vector_search("t", "vec", queries, k, metric, filter="part <> 0")
        for number, query in enumerate(queries):
            assert hits_of(found, number) == search(metric, rows, query, k)
            assert hits_of(filtered, number) == search(metric, rows, query, k, selection)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_parquet_answers_are_the_reference(session: vexact.Session, tmp_path: Path, seed: int, dtype: Any) -> None:
    rng, rows, table = case(200 + seed, dtype)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=int(rng.integers(1, 100)))
    session.create_temp_view("t", session.read_parquet(tmp_path / "t.parquet"))
    selection = table["part"].to_numpy() == 2
    queries = rng.standard_normal((3, rows.shape[1]))
    for metric in METRICS:
        k = int(rng.integers(1, 50))
        found = session.vector_search("t", "vec", queries[0], k, metric, columns="id")
        assert hits(found) == search(metric, rows, queries[0], k)
        assert found.to_arrow()["id"].to_pylist() == found.to_arrow()["row_id"].to_pylist()
        filtered = session.vector_search("t", "vec", queries[0], k, metric, filter="part = 2", columns="id")
        assert hits(filtered) == search(metric, rows, queries[0], k, selection)
        batch = session.vector_search("t", "vec", queries, k, metric, filter="part = 2", columns="id")
        for number, query in enumerate(queries):
            assert hits_of(batch, number) == search(metric, rows, query, k, selection)


@pytest.mark.parametrize("metric", METRICS)
def test_a_view_made_of_sql_answers_as_its_rows(session: vexact.Session, metric: str) -> None:
    rng, rows, table = case(300, np.float32)
    view(session, chunked(rng, table))
    session.create_temp_view("odd", session.sql("SELECT id * 10 AS ten, part, vec FROM t WHERE id % 2 = 1"))
    query = rng.standard_normal(rows.shape[1])
    odd, part = rows[1::2], table["part"].to_numpy()[1::2]
    found = session.vector_search("odd", "vec", query, 20, metric, columns="ten")
    assert hits(found) == search(metric, odd, query, 20)
    assert [ten for ten in found.to_arrow()["ten"].to_pylist()] == [(2 * i + 1) * 10 for i, _ in hits(found)]
    filtered = session.vector_search("odd", "vec", query, 20, metric, filter="part = 0", columns="ten")
    assert hits(filtered) == search(metric, odd, query, 20, part == 0)


@pytest.mark.parametrize("target_partitions", [1, 2, 7])
@pytest.mark.parametrize("metric", METRICS)
def test_ties_are_broken_by_position_on_any_number_of_threads(metric: str, target_partitions: int) -> None:
    session = vexact.Session(target_partitions=target_partitions)
    rng = np.random.default_rng(5)
    rows = rng.integers(-2, 3, size=(60_000, 3)).astype(np.float32)
    view(session, chunked(rng, pa.table({"vec": vectors(rows)})))
    query = np.array([1.0, 2.0, -1.0])
    for k in (1, 10, 3_000):
        assert hits(session.vector_search("t", "vec", query, k, metric)) == search(metric, rows, query, k)
        batch = session.vector_search("t", "vec", [query, -query], k, metric)
        assert hits_of(batch, 1) == search(metric, rows, -query, k)


@pytest.mark.parametrize("metric", METRICS)
def test_near_ties_that_float32_cannot_tell_apart_are_ordered(session: vexact.Session, metric: str) -> None:
    rng = np.random.default_rng(6)
    base = rng.standard_normal(96)
    rows = (base + 1e-6 * rng.standard_normal((2_000, 96))).astype(np.float32)
    view(session, {"vec": rows})
    assert hits(session.vector_search("t", "vec", base, 50, metric)) == search(metric, rows, base, 50)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-20, 1e20, 1e38, 1e150])
def test_tiny_and_huge_values_are_the_reference(session: vexact.Session, metric: str, scale: float) -> None:
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((100, 9)) * scale
    query = rng.standard_normal(9) * min(scale, 1e150)
    for dtype in (np.float32, np.float64):
        with np.errstate(all="ignore"):
            stored = rows.astype(dtype)
        view(session, {"vec": stored})
        try:
            found = hits(session.vector_search("t", "vec", query, 30, metric))
        except vexact.InvalidRequestError as error:
            assert metric == "cosine" and "zero query" in str(error) and (query * query).sum() == 0.0
            continue
        assert found == search(metric, stored, query, 30)


def test_the_query_is_kept_in_float64(session: vexact.Session) -> None:
    rows = np.array([[1.0], [1.0 + 2**-23]], np.float32)
    view(session, {"vec": rows})
    query = np.array([1.0 + 2**-24 + 2**-40])
    assert [row for row, _ in hits(session.vector_search("t", "vec", query, 2, "l2"))] == [1, 0]


def test_a_null_component_leaves_a_row_out(session: vexact.Session) -> None:
    child = pa.array([1.0, 2.0, None, 4.0, 5.0, 6.0], pa.float32())
    view(session, pa.table({"vec": pa.FixedSizeListArray.from_arrays(child, 2)}))
    for metric in METRICS:
        assert sorted(row for row, _ in hits(session.vector_search("t", "vec", [1, 1], 5, metric))) == [0, 2]


def test_no_comparable_row_is_an_empty_result_with_its_schema(session: vexact.Session) -> None:
    view(session, pa.table({"id": [1], "vec": vectors(np.zeros((1, 2), np.float32))}))
    table = session.vector_search("t", "vec", [1, 1], columns="*").to_arrow()
    assert table.num_rows == 0
    assert table.schema.names == ["row_id", "score", "id", "vec"]
    assert session.vector_search("t", "vec", [1, 1], filter="false").count() == 0
    assert session.vector_search("t", "vec", [1, 1], filter="NULL").count() == 0


def test_columns_follow_row_id_and_score(docs: vexact.Session) -> None:
    def schema(**arguments: Any) -> pa.Schema:
        return docs.vector_search("docs", "vec", [1, 2, 3, 4], 2, **arguments).to_arrow().schema

    assert schema().names == ["row_id", "score"]
    assert schema().types == [pa.int64(), pa.float64()]
    assert schema(columns="lang").names == ["row_id", "score", "lang"]
    assert schema(columns=["vec", "id"]).names == ["row_id", "score", "vec", "id"]
    assert schema(columns=("id",)).names == ["row_id", "score", "id"]
    everything = schema(columns="*")
    assert everything.names == ["row_id", "score", "id", "lang", "vec"]
    assert everything.field("vec").type == pa.list_(pa.float32(), 4)
    batch = docs.vector_search("docs", "vec", [[1, 2, 3, 4]], 2, columns="lang").to_arrow().schema
    assert batch.names == ["query_id", "row_id", "score", "lang"]
    assert batch.types[:3] == [pa.int64(), pa.int64(), pa.float64()]


def test_the_columns_are_those_of_the_rows_found(session: vexact.Session) -> None:
    rng, rows, table = case(400, np.float32)
    view(session, chunked(rng, table.append_column("name", pa.array([f"name {i}" for i in range(len(rows))]))))
    found = session.vector_search("t", "vec", rng.standard_normal(rows.shape[1]), 40, columns="*").to_arrow()
    for row in found.to_pylist():
        assert row["name"] == f"name {row['row_id']}"
        assert row["id"] == row["row_id"]
        assert np.array_equal(np.array(row["vec"], np.float32), rows[row["row_id"]])


def test_a_batch_is_in_the_order_of_its_queries_best_first(docs: vexact.Session) -> None:
    table = docs.vector_search("docs", "vec", [[39] * 4, [0, 0, 0, 1], [20] * 4], 3, "l2").to_arrow()
    assert table["query_id"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert table["row_id"].to_pylist() == [9, 8, 7, 0, 1, 2, 5, 4, 6]


QUERY = [1.0, 2.5, -3.0, 4.0]


@pytest.mark.parametrize(
    "query",
    [
        tuple(QUERY),
        np.array(QUERY),
        np.array(QUERY, np.float32),
        np.array(QUERY, np.float16),
        np.array(QUERY, ">f4"),
        np.array(QUERY, object),
        np.repeat(np.array(QUERY), 3)[::3],
        pa.array(QUERY),
        pa.array(QUERY, pa.float32()),
        pa.chunked_array([QUERY[:2], QUERY[2:]]),
        [np.float32(x) for x in QUERY],
    ],
    ids=str,
)
def test_a_query_may_be_any_array_of_numbers(docs: vexact.Session, query: Any) -> None:
    expected = hits(docs.vector_search("docs", "vec", QUERY))
    assert hits(docs.vector_search("docs", "vec", query)) == expected


def test_a_query_may_be_a_polars_or_pandas_series(docs: vexact.Session) -> None:
    import pandas
    import polars

    expected = hits(docs.vector_search("docs", "vec", QUERY))
    assert hits(docs.vector_search("docs", "vec", polars.Series(QUERY))) == expected
    assert hits(docs.vector_search("docs", "vec", pandas.Series(QUERY))) == expected


def test_a_query_may_be_a_vector_of_a_result(docs: vexact.Session) -> None:
    column = docs.sql("SELECT vec FROM docs ORDER BY id").to_arrow()["vec"]
    assert hits(docs.vector_search("docs", "vec", column[7], 1, "l2")) == [(7, 0.0)]
    for batch in (column, column.combine_chunks()):
        found = docs.vector_search("docs", "vec", batch, 1, "l2").to_arrow()
        assert found["row_id"].to_pylist() == list(range(10))


@pytest.mark.parametrize(
    "batch",
    [
        [QUERY, [4, 3, 2, 1]],
        [np.array(QUERY), np.array([4, 3, 2, 1])],
        np.array([QUERY, [4, 3, 2, 1]]),
        np.array([[4, 3, 2, 1], QUERY])[::-1],
        pa.array([QUERY, [4, 3, 2, 1]]),
    ],
    ids=["lists", "arrays", "matrix", "reversed", "pyarrow"],
)
def test_a_query_batch_may_be_any_two_dimensional_array(docs: vexact.Session, batch: Any) -> None:
    found = docs.vector_search("docs", "vec", batch, 3)
    assert hits_of(found, 0) == hits(docs.vector_search("docs", "vec", QUERY, 3))
    assert hits_of(found, 1) == hits(docs.vector_search("docs", "vec", [4, 3, 2, 1], 3))


@pytest.mark.parametrize(
    ("names", "metric"),
    [
        (["cosine", "cosin", "COSINE", "Cosin"], "cosine"),
        (["dot", "inner_product", "ip", "DOT", "Inner_Product", "IP"], "dot"),
        (["l2", "euclidean", "L2", "Euclidean"], "l2"),
    ],
)
def test_metrics_have_aliases_in_any_case(docs: vexact.Session, names: list[str], metric: str) -> None:
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    for name in names:
        assert hits(docs.vector_search("docs", "vec", QUERY, 10, name)) == search(metric, rows, np.array(QUERY), 10)


def test_a_huge_k_returns_all_rows(docs: vexact.Session) -> None:
    assert docs.vector_search("docs", "vec", QUERY, 2**63 - 1).count() == 10
    assert docs.vector_search("docs", "vec", [QUERY, QUERY], 2**63 - 1).count() == 20


def test_filters_are_sql_predicates(docs: vexact.Session) -> None:
    def rows(filter: str) -> list[int]:
        return sorted(row for row, _ in hits(docs.vector_search("docs", "vec", QUERY, 10, filter=filter)))

    assert rows("id BETWEEN 3 AND 5") == [3, 4, 5]
    assert rows("lang = 'de' AND NOT id = 3") == [1, 5, 7, 9]
    assert rows("docs.id IN (2, 8)") == [2, 8]
    assert rows("upper(lang) LIKE 'E%' OR id = 1") == [0, 1, 2, 4, 6, 8]
    assert rows("l2_distance(vec, '[20 20 20 20]') < 10") == [4, 5]
    assert rows("id = 100") == []


def test_a_filter_is_applied_before_the_search(docs: vexact.Session) -> None:
    found = docs.vector_search("docs", "vec", [0, 0, 0, 0], 3, "l2", filter="id >= 5")
    assert [row for row, _ in hits(found)] == [5, 6, 7]


def test_names_are_matched_as_they_are_written(session: vexact.Session) -> None:
    table = pa.table({"My Id": [1, 2], "Vec": vectors(np.eye(2, dtype=np.float32))})
    session.create_temp_view("My.View", session.create_dataframe_from_arrow(table))
    found = session.vector_search("My.View", "Vec", [0, 1], filter='"My Id" = 2', columns="My Id").to_arrow()
    assert found.to_pylist() == [{"row_id": 1, "score": 0.0, "My Id": 2}]


@pytest.mark.parametrize("item", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_lists_of_one_length_are_vectors(session: vexact.Session, make: Any, item: pa.DataType) -> None:
    rows = np.arange(12.0).reshape(6, 2)
    column = pa.array([*rows.tolist(), None], make(item))
    view(session, pa.table({"vec": column}))
    assert hits(session.vector_search("t", "vec", [3, 3], 7, "l2")) == search("l2", rows, np.array([3, 3]), 7)


def test_a_list_column_of_parquet_is_searched_and_checked(session: vexact.Session, tmp_path: Path) -> None:
    rows = np.arange(12.0).reshape(6, 2)
    good = pa.table({"id": range(6), "vec": pa.array(rows.tolist())})
    bad = pa.table({"id": range(3), "vec": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0]])})
    for name, table, group_rows in (("good", good, 2), ("bad", bad, 3)):
        pq.write_table(table, tmp_path / name, row_group_size=group_rows)
        session.create_temp_view(name, session.read_parquet(tmp_path / name))
    found = session.vector_search("good", "vec", [3, 3], 7, "l2", columns="id")
    assert hits(found) == search("l2", rows, np.array([3, 3]), 7)
    with pytest.raises(vexact.InvalidRequestError, match="different lengths: row 2 has 1 components, expected 2"):
        session.vector_search("bad", "vec", [3, 3], 7, "l2", columns="id")


def test_a_search_result_can_be_a_view(docs: vexact.Session) -> None:
    docs.create_temp_view("found", docs.vector_search("docs", "vec", [20] * 4, 4, "l2", columns="*"))
    best = docs.sql("SELECT id FROM found WHERE lang = 'en' ORDER BY score").to_arrow()["id"].to_pylist()
    assert best == [4, 6]


def test_slices_are_searched_in_place(session: vexact.Session) -> None:
    rng = np.random.default_rng(8)
    rows, nulls = awkward_rows(rng, 300, 17, np.float32)
    table = pa.table({"id": np.arange(300), "vec": vectors(rows, nulls)})
    view(session, table.slice(33, 200))
    query = rng.standard_normal(17)
    for metric in METRICS:
        found = session.vector_search("t", "vec", query, 20, metric, columns="id")
        assert hits(found) == search(metric, rows[33:233], query, 20)
        assert found.to_arrow()["id"].to_pylist() == [row + 33 for row, _ in hits(found)]


def test_the_reference_itself_agrees_with_plain_numpy() -> None:
    rng = np.random.default_rng(9)
    rows, query = rng.standard_normal((50, 20)), rng.standard_normal(20)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    assert np.allclose(scores("dot", rows, query), rows @ query)
    assert np.allclose(scores("l2", rows, query), np.linalg.norm(rows - query, axis=1))
    assert np.allclose(scores("cosine", rows, query), 1 - rows @ query / lengths)
