"""Tables in memory and live replicas on workers: their rows are sent with the query up to a limit, beyond it refused with what to
do, and the answers are those of a session without workers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vexact
from cluster import Worker, addresses, strategy
from reference import vectors

DIM = 16
ROWS = 4000
QUERY = [float(i % 3) for i in range(DIM)]
SQL = [
    "SELECT id, g FROM docs ORDER BY cosine_distance(vec, $1) LIMIT 30",
    "SELECT id FROM docs WHERE g = 'g1' AND x > 100 ORDER BY l2_distance(vec, $1) NULLS FIRST LIMIT 900",
    "SELECT id, score FROM vector_search('docs', 'vec', $1, 700) WHERE g <> 'g3'",
    "SELECT g, count(*) AS n, count(x) AS c, min(x) AS a, max(id) AS b FROM docs WHERE id % 3 = 1 GROUP BY g ORDER BY g",
    "SELECT id FROM docs WHERE l2_distance(vec, $1) < 5.1 ORDER BY id",
    "SELECT id, x FROM docs ORDER BY x DESC NULLS LAST, id LIMIT 40",
    "SELECT g, count(*) AS n FROM (SELECT g FROM docs ORDER BY l2_distance(vec, $1) LIMIT 500) GROUP BY g ORDER BY g",
]
LOCAL = ["SELECT id, x FROM docs", "SELECT id FROM docs LIMIT 5", "SELECT 1 AS one"]


def table() -> pa.Table:
    random = np.random.default_rng(5)
    values = random.standard_normal((ROWS, DIM)).astype(np.float32)
    values[::3] = values[0]
    ids = np.arange(ROWS)
    vec = pa.FixedSizeListArray.from_arrays(vectors(values).flatten(), DIM, mask=pa.array(ids % 17 == 3))
    x = pa.array([None if i % 11 == 0 else float("nan") if i % 13 == 0 else i / 7 for i in ids], pa.float64())
    return pa.table({"id": ids, "g": [f"g{i % 5}" for i in ids], "x": x, "vec": vec})


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    with Worker() as one, Worker() as two:
        yield [one, two]


def opened(workers: list[Worker] | None = None, **options: object) -> vexact.Session:
    session = vexact.Session(workers=addresses(workers), **options) if workers else vexact.Session(**options)  # type: ignore[arg-type]
    session.create_temp_view("docs", session.create_dataframe_from_arrow(table()))
    return session


def same(got: pa.Table, expected: pa.Table) -> bool:
    return got.schema == expected.schema and repr(got.to_pylist()) == repr(expected.to_pylist())


def test_a_table_in_memory_has_the_same_answers_on_workers(workers: list[Worker]) -> None:
    local = opened()
    for count in (1, 2):
        remote = opened(workers[:count])
        for sql in SQL:
            params = [QUERY] if "$1" in sql else None
            expected, got = local.sql(sql, params).to_arrow(), remote.sql(sql, params).to_arrow()
            assert same(got, expected) and got.num_rows > 0, f"{sql}\n{got}\n{expected}"
            found = strategy(remote.explain_sql(sql, params).strategy)
            assert set(found["workers"].split(",")) == set(addresses(workers[:count])), sql
        for options in ({}, {"metric": "l2", "columns": "*", "group_by": "g"}, {"filter": "id > 1000", "top_k": 700}):
            expected = local.vector_search("docs", "vec", QUERY, **options).to_arrow()
            assert same(remote.vector_search("docs", "vec", QUERY, **options).to_arrow(), expected), options
        pairs = "SELECT id, docs_id, rank, score FROM vector_join('docs', 'vec', 'docs', 'vec', 3) WHERE id < 50"
        assert same(remote.sql(pairs).to_arrow(), local.sql(pairs).to_arrow())


def test_the_rows_cross_once_and_the_vectors_do_not_come_back(workers: list[Worker]) -> None:
    remote = opened(workers)
    found = strategy(remote.explain_vector_search("docs", "vec", QUERY, columns=["id"], top_k=10).strategy)
    size = ROWS * (DIM * 4 + 8)
    assert size < int(found["plan_bytes_sent"]) < 1.2 * size + 16 * 1024
    assert int(found["bytes_over_network"]) < 16 * 1024
    assert (found["tasks"], found["attempts"]) == ("2", "1")


def test_what_only_reads_rows_runs_here_and_says_so(workers: list[Worker]) -> None:
    remote = opened(workers, ship_limit_bytes=0)
    for sql in LOCAL:
        assert remote.sql(sql).to_arrow() is not None
        found = strategy(remote.explain_sql(sql).strategy)
        assert found["workers"] == "none" and "computes nothing over tables in memory" in found["workers_reason"], sql


def test_more_than_the_limit_is_refused_with_what_to_do(workers: list[Worker], tmp_path: Path) -> None:
    small = opened(workers, ship_limit_bytes=100_000)
    for sql in SQL[:3]:
        with pytest.raises(vexact.InvalidRequestError) as caught:
            small.sql(sql, [QUERY]).to_arrow()
        text = str(caught.value)
        assert "expected at most 100000 bytes, got" in text and "vec" in text
        for advice in ("write_parquet", "engine.export", "ship_limit_bytes", "without workers"):
            assert advice in text, text
    with pytest.raises(vexact.InvalidRequestError, match="at most 100000 bytes"):
        small.vector_search("docs", "vec", QUERY).to_arrow()
    # Only the columns that a query needs count.
    counted = "SELECT count(*) AS n FROM docs WHERE id % 2 = 0"
    assert small.sql(counted).to_rows()["rows"] == [[ROWS // 2]]
    # The error's advice works.
    small.sql("SELECT * FROM docs").write_parquet(tmp_path / "docs.parquet")
    small.create_temp_view("docs", small.read_parquet(tmp_path / "docs.parquet"))
    assert same(small.sql(SQL[0], [QUERY]).to_arrow(), opened().sql(SQL[0], [QUERY]).to_arrow())
    with pytest.raises(vexact.InvalidRequestError, match="ship_limit_bytes"):
        vexact.Session(workers="a:1", ship_limit_bytes=-1)


def test_a_command_has_the_same_limit(workers: list[Worker], tmp_path: Path) -> None:
    opened().sql("SELECT * FROM docs LIMIT 500").write_parquet(tmp_path / "docs.parquet")
    pairs = "SELECT id, input_table_id, rank FROM vector_join('input_table', 'vec', 'input_table', 'vec', 2) WHERE id < 9"

    def answer(*options: str) -> dict[str, object]:
        command = ["file-sql", "--input-path", str(tmp_path / "docs.parquet"), "--query", pairs, *options]
        return json.loads(subprocess.run([sys.executable, "-m", "vexact", *command], capture_output=True).stdout)

    on_workers = ["--workers", ",".join(addresses(workers))]
    assert answer(*on_workers)["rows"] == answer()["rows"]
    refused = answer(*on_workers, "--ship-limit", "1k")
    assert not refused["ok"] and "at most 1024 bytes of query vectors" in str(refused["error"])


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_live_replica_is_sent_as_it_is_now(workers: list[Worker], tmp_path: Path, anyio_backend: str) -> None:
    async with await vexact.open(str(tmp_path / "app.db")) as engine:
        await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, g TEXT, vec BLOB)")
        await engine.register_table(vexact.TableSchema("docs", {"id": "int64", "g": "utf8", "vec": "float32[4]"}, ["id"]))
        random = np.random.default_rng(2)
        rows = random.integers(0, 2, (300, 4)).astype(np.float32)
        # The keys come in another order than the rows, and many vectors are tied.
        keys = random.permutation(300)
        await engine.execute_many(
            "INSERT INTO docs VALUES (?, ?, ?)", [(int(key), f"g{key % 3}", row.tobytes()) for key, row in zip(keys, rows)]
        )
        await engine.sync_now()
        await engine.execute("DELETE FROM docs WHERE id % 7 = 0")
        await engine.execute("UPDATE docs SET g = 'new' WHERE id % 5 = 0")
        await engine.sync_now()
        local, remote = vexact.Session(), vexact.Session(workers=addresses(workers))
        for session in (local, remote):
            session.create_temp_view("docs", engine.session().sql("SELECT * FROM docs"))
        for sql in (
            "SELECT id, g FROM docs ORDER BY l2_distance(vec, $1) LIMIT 100",
            "SELECT g, count(*) AS n FROM docs WHERE l2_distance(vec, $1) < 1.5 GROUP BY g ORDER BY g",
            "SELECT id, score FROM vector_search('docs', 'vec', $1, 77)",
        ):
            expected = local.sql(sql, [[1.0, 0.0, 1.0, 0.0]]).to_arrow()
            got = remote.sql(sql, [[1.0, 0.0, 1.0, 0.0]]).to_arrow()
            assert same(got, expected) and got.num_rows > 0, f"{sql}\n{got}\n{expected}"
        expected = local.vector_search("docs", "vec", [1.0, 0.0, 1.0, 0.0], columns="*", top_k=50).to_arrow()
        assert same(remote.vector_search("docs", "vec", [1.0, 0.0, 1.0, 0.0], columns="*", top_k=50).to_arrow(), expected)
        limited = vexact.Session(workers=addresses(workers), ship_limit_bytes=64)
        limited.create_temp_view("docs", engine.session().sql("SELECT * FROM docs"))
        with pytest.raises(vexact.InvalidRequestError, match=re.escape("engine.export")):
            limited.sql("SELECT id FROM docs ORDER BY l2_distance(vec, $1) LIMIT 5", [[1.0, 0.0, 1.0, 0.0]]).to_arrow()
