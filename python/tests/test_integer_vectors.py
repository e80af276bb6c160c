"""Vectors of int8, uint8 and bits: sessions over Arrow and numpy, SQL, and replicas of SQLite tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vexact
from reference import METRICS, hits, hits_of, search, vectors
from vexact import TableSchema


def view(session: vexact.Session, **columns: Any) -> None:
    session.create_temp_view("t", session.create_dataframe_from_arrow(pa.table(columns)))


def byte_rows(rng: np.random.Generator, dtype: Any, count: int, dim: int) -> np.ndarray:
    """Random bytes over the whole range, some rows equal, some zero."""
    info = np.iinfo(dtype)
    rows = rng.integers(info.min, info.max + 1, size=(count, dim)).astype(dtype)
    rows[rng.random(count) < 0.2] = rows[0]
    rows[rng.random(count) < 0.05] = 0
    return rows


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("seed", range(8))
def test_bytes_answer_as_the_reference(session: vexact.Session, seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    rows = byte_rows(rng, dtype, int(rng.integers(1, 400)), int(rng.integers(1, 130)))
    view(session, id=np.arange(len(rows)), part=np.arange(len(rows)) % 3, vec=vectors(rows))
    selection = np.arange(len(rows)) % 3 == 1
    queries = byte_rows(rng, dtype, 5, rows.shape[1])
    queries[0] = 1
    queries = queries[(queries != 0).any(axis=1)]
    for metric in METRICS:
        for query in (queries[0], queries[0].tolist(), queries[0] + 0.25, queries[0].astype(np.float32)):
            assert hits(session.vector_search("t", "vec", query, 20, metric)) == search(metric, rows, query, 20)
        filtered = session.vector_search("t", "vec", queries[0], 20, metric, filter="part = 1")
        assert hits(filtered) == search(metric, rows, queries[0], 20, selection)
        batch = session.vector_search("t", "vec", queries, 7, metric)
        for number, query in enumerate(queries):
            assert hits_of(batch, number) == search(metric, rows, query, 7)


def test_a_query_of_bytes_is_searched_by_integer_arithmetic(session: vexact.Session) -> None:
    rows = np.arange(120, dtype=np.int8).reshape(30, 4)
    view(session, vec=vectors(rows))
    strategy = session.explain_vector_search("t", "vec", rows[3], 2, "l2").strategy
    assert "tier=integer\n" in strategy and "refined=0" in strategy
    strategy = session.explain_vector_search("t", "vec", rows[3] + 0.5, 2, "l2").strategy
    assert "tier=f32\n" in strategy


def bit_scores(metric: str, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    counts = lambda combined: np.unpackbits(combined, axis=1).sum(axis=1).astype(np.float64)  # noqa: E731
    if metric == "hamming":
        return counts(rows ^ query)
    both, either = counts(rows & query), counts(rows | query)
    return np.where(either == 0, 0.0, 1.0 - both / np.maximum(either, 1))


def bit_search(metric: str, rows: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    found = bit_scores(metric, rows, query)
    return [(int(row), float(found[row])) for row in np.argsort(found, kind="stable")[:k]]


@pytest.mark.parametrize("seed", range(8))
def test_bits_answer_as_numpy(session: vexact.Session, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = byte_rows(rng, np.uint8, int(rng.integers(1, 400)), int(rng.integers(1, 40)))
    code = pa.array([row.tobytes() for row in rows], pa.binary(rows.shape[1]))
    view(session, id=np.arange(len(rows)), code=code)
    queries = byte_rows(rng, np.uint8, 4, rows.shape[1])
    for metric in ("hamming", "jaccard"):
        expected = [bit_search(metric, rows, query, 9) for query in queries]
        bits = np.unpackbits(queries, axis=1, bitorder="little")
        for query in (queries[0].tobytes(), bytearray(queries[0]), bits[0], bits[0].astype(bool), bits[0].tolist()):
            assert hits(session.vector_search("t", "code", query, 9, metric)) == expected[0]
        for batch in ([query.tobytes() for query in queries], bits, bits.astype(bool)):
            found = session.vector_search("t", "code", batch, 9, metric)
            assert [hits_of(found, number) for number in range(len(queries))] == expected
        statement = f"SELECT id, {metric}_distance(code, $1) AS d FROM t ORDER BY d LIMIT 9"
        rewritten = session.sql(statement, [queries[1].tobytes()]).to_arrow()
        assert list(zip(*rewritten.to_pydict().values())) == expected[1]
        by_table_function = session.sql(
            f"SELECT id, score FROM vector_search('t', 'code', $1, 9, '{metric}')", [queries[2].tobytes()]
        )
        assert list(zip(*by_table_function.to_arrow().to_pydict().values())) == expected[2]


@pytest.mark.parametrize(
    ("column", "query", "metric", "message"),
    [
        ("code", b"\x01", "cosine", "expected a sequence of numbers"),
        ("code", [1, 0] * 4, "cosine", "metric cosine cannot compare FixedSizeBinary"),
        ("vec", [1, 0], "hamming", "metric hamming cannot compare FixedSizeList"),
        ("code", b"\x01\x02", "hamming", "dimension mismatch: expected 8 components, got 16"),
        ("code", [1, 2] * 4, "jaccard", "query component 1 is not a bit: expected 0 or 1, got 2"),
    ],
)
def test_what_a_metric_cannot_compare_is_refused(
    session: vexact.Session, column: str, query: Any, metric: str, message: str
) -> None:
    view(session, code=pa.array([b"\x07"], pa.binary(1)), vec=vectors(np.array([[1, 2]], np.int8)))
    with pytest.raises((ValueError, TypeError), match=message):
        session.vector_search("t", column, query, 1, metric)


SCHEMA = TableSchema(
    "items", [("id", "int64"), ("small", "int8[3]"), ("byte", "uint8[3]"), ("code", "bit[16]")], pk=["id"]
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def found(batches: list[pa.RecordBatch]) -> list[tuple[int, float]]:
    table = pa.Table.from_batches(batches)
    return list(zip(table["id"].to_pylist(), table["score"].to_pylist()))


@pytest.mark.anyio
@pytest.mark.parametrize("storage_mode", ["inmemory", "arrow_ipc", "parquet"])
async def test_replicas_hold_the_bytes_of_sqlite(tmp_path: Path, storage_mode: str) -> None:
    rng = np.random.default_rng(5)
    small, byte = byte_rows(rng, np.int8, 50, 3), byte_rows(rng, np.uint8, 50, 3)
    code = byte_rows(rng, np.uint8, 50, 2)
    path = tmp_path / "app.db"
    values = [(i, small[i].tobytes(), byte[i].tobytes(), code[i].tobytes()) for i in range(50)]
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, small BLOB, byte BLOB, code BLOB)")
    connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", values[:40])
    connection.commit()
    connection.close()
    options = {} if storage_mode == "inmemory" else {"storage_mode": storage_mode, "storage_path": tmp_path / "replica"}

    async def check(engine: vexact.HtapEngine) -> None:
        for metric in METRICS:
            for name, rows in (("small", small), ("byte", byte)):
                batches = await engine.vector_search("items", name, rows[7] | 1, 12, metric)
                assert found(batches) == search(metric, rows, rows[7] | 1, 12)
        for metric in ("hamming", "jaccard"):
            batches = await engine.vector_search("items", "code", code[3].tobytes(), 12, metric)
            assert found(batches) == bit_search(metric, code, code[3], 12)
        batches = await engine.query("SELECT id FROM items ORDER BY hamming_distance(code, ?) LIMIT 5", [code[9].tobytes()])
        expected = [row for row, _ in bit_search("hamming", code, code[9], 5)]
        assert pa.Table.from_batches(batches)["id"].to_pylist() == expected

    async with await vexact.open(path, **options) as engine:
        await engine.register_table(SCHEMA, initial_sync=True)
        await engine.execute_many("INSERT INTO items VALUES (?, ?, ?, ?)", values[40:])
        await engine.execute("UPDATE items SET code = ? WHERE id = 3", [b"\xff\xff"])
        code[3] = 255
        await engine.sync_now()
        await check(engine)
        with pytest.raises(vexact.EngineError, match=r"items.code: expected bit\[16\] \(a BLOB of 2 bytes\), got"):
            await engine.execute("UPDATE items SET code = ? WHERE id = 1", [b"abc"])
    if storage_mode != "inmemory":
        async with await vexact.open(path, **options) as engine:
            await engine.register_table(SCHEMA)
            await check(engine)
